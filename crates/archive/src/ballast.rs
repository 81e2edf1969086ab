//! Octets kept for the day on which the disk is full: given back then, so that keys and renewed
//! signatures can still be made durable.

use std::path::{Path, PathBuf};

use crate::disk::{Disk, MODE_STATE};
use crate::error::ArchiveError;

const SIZE: u64 = 64 << 20;
/// Room that must be left beside it before it is made (again).
const ROOM: u64 = 256 << 20;
/// The same as a part of the file system.
const ROOM_PART: u64 = 20;

/// The reserve below one state directory.
pub struct Ballast {
    disk: Disk,
    path: PathBuf,
}

impl Ballast {
    pub fn new(disk: &Disk, root: &Path) -> Self {
        Ballast {
            disk: disk.clone(),
            path: root.join("ballast"),
        }
    }

    /// Gives the reserve back; false: there was none.
    ///
    /// # Errors
    /// The file is there and cannot be removed.
    pub fn release(&self) -> Result<bool, ArchiveError> {
        let there = self.path.exists();
        self.disk.remove(&self.path)?;
        Ok(there)
    }

    /// Makes the reserve if there is plenty of room; true: there is.
    ///
    /// # Errors
    /// The file system does not say how much room it has, or the file cannot be made.
    pub fn restore(&self) -> Result<bool, ArchiveError> {
        let (free, total) = self.room()?;
        let there = std::fs::metadata(&self.path).is_ok_and(|m| m.len() == SIZE);
        let needed = ROOM.max(total / ROOM_PART) + if there { 0 } else { SIZE };
        if free < needed {
            return Ok(false);
        }
        if !there {
            let file = self.disk.create(&self.path, MODE_STATE)?;
            let io = |e: nix::Error| ArchiveError::io("reserve", &self.path, e.into());
            nix::fcntl::posix_fallocate(&file, 0, SIZE as i64).map_err(io)?;
            self.disk.sync(&file, &self.path)?;
        }
        Ok(true)
    }

    /// Free octets for us, and all octets.
    fn room(&self) -> Result<(u64, u64), ArchiveError> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let io = |e: nix::Error| ArchiveError::io("look for room in", dir, e.into());
        let s = nix::sys::statvfs::statvfs(dir).map_err(io)?;
        let unit = s.fragment_size();
        Ok((
            s.blocks_available().saturating_mul(unit),
            s.blocks().saturating_mul(unit),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_given_back_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::new(&Disk::new(), dir.path());
        assert!(!ballast.release().unwrap());
        if !ballast.restore().unwrap() {
            // The machine of this test has a full disk itself.
            return;
        }
        let size = || std::fs::metadata(dir.path().join("ballast")).map(|m| m.len());
        assert_eq!(size().unwrap(), SIZE);
        assert!(ballast.restore().unwrap());
        assert!(ballast.release().unwrap());
        assert!(size().is_err());
    }
}
