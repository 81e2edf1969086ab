//! The few file operations that durability is made of.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::ArchiveError;

type Hook = Arc<dyn Fn(&'static str, &Path) -> io::Result<()> + Send + Sync>;

/// File operations with a hook before and after each, by which tests inject faults and crashes.
#[derive(Clone, Default)]
pub struct Disk {
    hook: Option<Hook>,
}

/// Files that hold zone data; the group may read them, for backups.
pub(crate) const MODE_ZONE: u32 = 0o640;
/// Files that hold secrets or decide about them.
pub(crate) const MODE_STATE: u32 = 0o600;
const MODE_DIR: u32 = 0o750;

impl Disk {
    pub fn new() -> Self {
        Disk::default()
    }

    /// `hook(operation, path)` runs before ("write") and after ("write done") each operation; an
    /// error it returns is what the operation returns.
    pub fn with_hook(
        hook: impl Fn(&'static str, &Path) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Disk {
            hook: Some(Arc::new(hook)),
        }
    }

    fn around<T>(
        &self,
        op: &'static str,
        done: &'static str,
        path: &Path,
        f: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, ArchiveError> {
        let run = || {
            if let Some(hook) = &self.hook {
                hook(op, path)?;
            }
            let out = f()?;
            if let Some(hook) = &self.hook {
                hook(done, path)?;
            }
            Ok(out)
        };
        run().map_err(|e| ArchiveError::io(op, path, e))
    }

    /// Makes a directory and those above it, mode 0750.
    pub fn make_dir(&self, path: &Path) -> Result<(), ArchiveError> {
        self.around("make directory", "make directory done", path, || {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(MODE_DIR)
                .create(path)
        })
    }

    /// Makes a directory and those above it; what is made is for the owner alone.
    pub(crate) fn make_private_dir(&self, path: &Path) -> Result<(), ArchiveError> {
        self.around("make directory", "make directory done", path, || {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
        })
    }

    /// Removes a directory with all that is in it, if it is there.
    pub fn remove_tree(&self, path: &Path) -> Result<(), ArchiveError> {
        self.around(
            "remove",
            "remove done",
            path,
            || match std::fs::remove_dir_all(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            },
        )
    }

    /// A new empty file; what was there is lost, so this is for temporary names only.
    pub(crate) fn create(&self, path: &Path, mode: u32) -> Result<File, ArchiveError> {
        self.around("create", "create done", path, || {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(mode)
                .open(path)
        })
    }

    /// An existing or new file, for reading and writing at its end.
    pub(crate) fn open_append(&self, path: &Path, mode: u32) -> Result<File, ArchiveError> {
        self.around("open", "open done", path, || {
            OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(mode)
                .open(path)
        })
    }

    /// A file that is there, for reading and writing at its end.
    pub(crate) fn open_existing(&self, path: &Path) -> Result<File, ArchiveError> {
        self.around("open", "open done", path, || {
            OpenOptions::new().read(true).append(true).open(path)
        })
    }

    pub(crate) fn write(
        &self,
        file: &mut impl Write,
        path: &Path,
        bytes: &[u8],
    ) -> Result<(), ArchiveError> {
        self.around("write", "write done", path, || file.write_all(bytes))
    }

    pub(crate) fn sync(&self, file: &File, path: &Path) -> Result<(), ArchiveError> {
        self.around("sync", "sync done", path, || file.sync_data())
    }

    pub(crate) fn truncate(
        &self,
        file: &File,
        path: &Path,
        length: u64,
    ) -> Result<(), ArchiveError> {
        self.around("truncate", "truncate done", path, || file.set_len(length))
    }

    /// Renames within a file system and makes it durable.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), ArchiveError> {
        self.around("rename", "rename done", to, || std::fs::rename(from, to))?;
        self.sync_dir_of(to)?;
        if from.parent() != to.parent() {
            self.sync_dir_of(from)?;
        }
        Ok(())
    }

    pub(crate) fn remove(&self, path: &Path) -> Result<(), ArchiveError> {
        self.around(
            "remove",
            "remove done",
            path,
            || match std::fs::remove_file(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            },
        )
    }

    pub(crate) fn sync_dir_of(&self, path: &Path) -> Result<(), ArchiveError> {
        let dir = match path.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        self.around("sync directory", "sync directory done", dir, || {
            File::open(dir)?.sync_all()
        })
    }

    pub(crate) fn read(&self, path: &Path) -> Result<Vec<u8>, ArchiveError> {
        self.around("read", "read done", path, || std::fs::read(path))
    }

    /// The octets of a file from one offset to another.
    pub(crate) fn read_range(
        &self,
        path: &Path,
        from: u64,
        to: u64,
    ) -> Result<Vec<u8>, ArchiveError> {
        self.around("read", "read done", path, || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(from))?;
            let mut out = Vec::new();
            file.take(to.saturating_sub(from)).read_to_end(&mut out)?;
            Ok(out)
        })
    }

    pub(crate) fn length(&self, file: &File, path: &Path) -> Result<u64, ArchiveError> {
        self.around("stat", "stat done", path, || Ok(file.metadata()?.len()))
    }

    /// Names in a directory; empty when there is none.
    pub(crate) fn list(&self, path: &Path) -> Result<Vec<PathBuf>, ArchiveError> {
        self.around("list", "list done", path, || {
            let mut out = Vec::new();
            match std::fs::read_dir(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(out),
                Err(e) => return Err(e),
                Ok(dir) => {
                    for entry in dir {
                        out.push(entry?.path());
                    }
                }
            }
            out.sort();
            Ok(out)
        })
    }
}

/// `name` with `.tmp` after it, in the same directory.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}
