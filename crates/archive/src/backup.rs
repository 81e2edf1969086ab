//! A consistent copy of everything durable, made while the daemon runs.
//!
//! ```text
//! <folder>/manifest.json  state.redb  audit.log  keys/…  zone-state/<hh>/<zone-id>/…
//! ```
//! The state is copied at one moment. Files of zones are written before the state names them and
//! removed after it no longer does, and journals only grow; so any file that was there before that
//! moment and is still there after the last copy is one that the copied state can name. If one went
//! in between, the copy is made again. What is newer than the copied state is ignored at the next
//! start as the rest of an interrupted write is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::disk::{Disk, MODE_STATE, temporary};
use crate::error::ArchiveError;
use crate::state::State;

/// Name of the list of files in a backup.
pub const MANIFEST: &str = "manifest.json";
/// Times that a copy is begun anew because files went meanwhile.
const TRIES: u32 = 10;
const BLOCK: usize = 256 * 1024;

/// A file of a backup, by its path below the backup's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedFile {
    pub path: String,
    pub size: u64,
    /// Hexadecimal.
    pub sha256: String,
}

/// What is copied.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    pub state: &'a State,
    /// The state directory.
    pub root: &'a Path,
    pub keys: &'a Path,
}

/// Copies into `folder`, which must not exist; `manifest` makes the text of the list, which is
/// written last. When this returns, the backup is durable; on an error nothing of it is left.
///
/// # Errors
/// `StorageFull`, `Io`, or the state's own. `Changing` when files went during every try.
pub fn create(
    disk: &Disk,
    from: Sources<'_>,
    folder: &Path,
    manifest: &dyn Fn(&[CopiedFile]) -> String,
) -> Result<Vec<CopiedFile>, ArchiveError> {
    let place = temporary(folder);
    let result = (|| {
        for _ in 0..TRIES {
            disk.remove_tree(&place)?;
            disk.make_private_dir(&place)?;
            if let Some(copied) = copy_once(disk, from, &place)? {
                let text = manifest(&copied);
                let path = place.join(MANIFEST);
                let mut file = disk.create(&path, MODE_STATE)?;
                disk.write(&mut file, &path, text.as_bytes())?;
                disk.sync(&file, &path)?;
                disk.sync_dir_of(&path)?;
                disk.rename(&place, folder)?;
                return Ok(copied);
            }
        }
        Err(ArchiveError::Changing {
            path: from.root.to_owned(),
        })
    })();
    if result.is_err() {
        let _ = disk.remove_tree(&place);
    }
    result
}

/// Nothing when a file went that the copied state may name.
fn copy_once(
    disk: &Disk,
    from: Sources<'_>,
    place: &Path,
) -> Result<Option<Vec<CopiedFile>>, ArchiveError> {
    let before = files(disk, from)?;
    let state = place.join("state.redb");
    from.state.backup_to(&state)?;
    let mut copied = vec![described(disk, "state.redb", &state)?];
    let listed = files(disk, from)?;
    for (name, path) in &listed {
        match copy(disk, name, path, &place.join(name)) {
            Ok(file) => copied.push(file),
            // It went while we were at it; whether that matters is seen below.
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e),
        }
    }
    let after = files(disk, from)?;
    let kept = |name: &String| after.contains_key(name);
    if before.keys().all(kept) {
        copied.retain(|f| f.path == "state.redb" || after.contains_key(&f.path));
        copied.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Some(copied))
    } else {
        Ok(None)
    }
}

/// Everything besides the state: name in the backup and where it is now.
fn files(disk: &Disk, from: Sources<'_>) -> Result<BTreeMap<String, PathBuf>, ArchiveError> {
    let mut found = BTreeMap::new();
    let audit = from.root.join("audit.log");
    if audit.exists() {
        found.insert("audit.log".to_owned(), audit);
    }
    collect(disk, from.keys, "keys", &mut found)?;
    collect(
        disk,
        &from.root.join("zone-state"),
        "zone-state",
        &mut found,
    )?;
    Ok(found)
}

fn collect(
    disk: &Disk,
    folder: &Path,
    name: &str,
    found: &mut BTreeMap<String, PathBuf>,
) -> Result<(), ArchiveError> {
    for path in disk.list(folder)? {
        let Some(last) = path.file_name().and_then(|n| n.to_str()) else {
            continue;
        };
        let name = format!("{name}/{last}");
        let Ok(meta) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        if meta.is_dir() {
            // Set aside because it is damaged: of no use to a restored daemon.
            if last != "lost" {
                collect(disk, &path, &name, found)?;
            }
        } else if meta.is_file() && !last.ends_with(".tmp") {
            found.insert(name, path);
        }
    }
    Ok(())
}

/// Copies what is there now; what is appended meanwhile is left out.
fn copy(disk: &Disk, name: &str, from: &Path, to: &Path) -> Result<CopiedFile, ArchiveError> {
    if let Some(folder) = to.parent() {
        disk.make_private_dir(folder)?;
    }
    let io = |e| ArchiveError::io("read", from, e);
    let source = File::open(from).map_err(io)?;
    let length = source.metadata().map_err(io)?.len();
    let mut source = source.take(length);
    let mut target = disk.create(to, MODE_STATE)?;
    let (mut hash, mut size) = (Sha256::new(), 0u64);
    let mut block = vec![0; BLOCK];
    loop {
        let n = source.read(&mut block).map_err(io)?;
        let Some(bytes) = block.get(..n).filter(|b| !b.is_empty()) else {
            break;
        };
        hash.update(bytes);
        size += n as u64;
        disk.write(&mut target, to, bytes)?;
    }
    disk.sync(&target, to)?;
    disk.sync_dir_of(to)?;
    Ok(CopiedFile {
        path: name.to_owned(),
        size,
        sha256: HEXLOWER.encode(&hash.finalize()),
    })
}

fn described(disk: &Disk, name: &str, path: &Path) -> Result<CopiedFile, ArchiveError> {
    let bytes = disk.read(path)?;
    Ok(CopiedFile {
        path: name.to_owned(),
        size: bytes.len() as u64,
        sha256: HEXLOWER.encode(&Sha256::digest(&bytes)),
    })
}
