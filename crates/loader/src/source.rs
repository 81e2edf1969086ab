//! Files: reading, identity, and includes that stay beside the zone's main file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::code::Checks;

/// Deepest chain of includes.
pub const MAX_INCLUDE_DEPTH: usize = 8;
/// Most files of one load.
pub const MAX_FILES: usize = 10_000;
/// A file that changes while it is read is read again so often.
const READ_TRIES: usize = 3;

/// What `$INCLUDE` may open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IncludeMode {
    /// Files beneath the directory of the zone's main file.
    #[default]
    Beside,
    Anywhere,
    Off,
}

/// One file of a load, read.
#[derive(Debug)]
pub struct SourceFile {
    pub name: String,
    pub bytes: Vec<u8>,
    /// Index of the including file and the line.
    pub parent: Option<(usize, u32)>,
    pub stat: FileStat,
}

/// What tells that a file has not changed without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FileStat {
    pub path: PathBuf,
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    pub mtime_nanos: i128,
}

/// Identity of what a load read: stats of all files and a hash over their octets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceIdentity {
    pub files: Vec<FileStat>,
    /// xxh3-128 over name-independent content, in order of reading.
    pub hash: u128,
    /// The levels of the checks that look from owner to owner, if the load found nothing by them.
    /// What does not touch such a target needs not be looked at again.
    #[serde(skip)]
    pub sound: Option<Arc<Checks>>,
}

#[derive(Debug, Error)]
pub enum ReadError {
    #[error("cannot read {path:?}: {detail}")]
    Unreadable {
        path: PathBuf,
        detail: String,
        #[source]
        source: io::Error,
    },
    #[error("{path:?} is not a regular file")]
    NotAFile { path: PathBuf },
    #[error("{path:?} has {size} octets; at most {max} are allowed (loader.max-size)")]
    TooLarge { path: PathBuf, size: u64, max: u64 },
    #[error(
        "{path:?} changed while it was read, {READ_TRIES} times; try again when its writer is done"
    )]
    Changing { path: PathBuf },
}

/// Why an include is refused.
#[derive(Debug, Error)]
pub enum IncludeError {
    #[error("includes are switched off (loader.include = \"off\")")]
    Off,
    #[error(
        "{path:?} is outside {dir:?}, the directory of the zone file (loader.include = \"beside\")"
    )]
    Outside { path: PathBuf, dir: PathBuf },
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Whether a file can be read now; nothing of it is read.
///
/// # Errors
/// Names the path and the first component that refuses.
pub fn check_readable(path: &Path) -> Result<(), ReadError> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(|e| unreadable(path, e))?;
    match file.metadata() {
        Ok(m) if m.is_file() => Ok(()),
        Ok(_) => Err(ReadError::NotAFile {
            path: path.to_path_buf(),
        }),
        Err(e) => Err(unreadable(path, e)),
    }
}

/// Stats a file; `None` if it cannot be.
pub fn stat(path: &Path) -> Option<FileStat> {
    fs::metadata(path).ok().map(|m| stat_of(path, &m))
}

fn stat_of(path: &Path, m: &fs::Metadata) -> FileStat {
    FileStat {
        path: path.to_path_buf(),
        device: m.dev(),
        inode: m.ino(),
        size: m.size(),
        mtime_nanos: m.mtime() as i128 * 1_000_000_000 + m.mtime_nsec() as i128,
    }
}

/// Reads a zone file. `max`: 0 is unlimited.
pub fn read(path: &Path, max: u64) -> Result<(Vec<u8>, FileStat), ReadError> {
    // A FIFO without a writer must not hold up the load; it is refused as no regular file.
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(|e| unreadable(path, e))?;
    read_open(path, file, max)
}

/// Reads an included file, confined as `mode` says.
pub fn read_include(
    name: &Path,
    main_dir: &Path,
    including_dir: &Path,
    mode: IncludeMode,
    max: u64,
) -> Result<(Vec<u8>, FileStat), IncludeError> {
    let path = including_dir.join(name);
    match mode {
        IncludeMode::Off => Err(IncludeError::Off),
        IncludeMode::Anywhere => Ok(read(&path, max)?),
        IncludeMode::Beside => {
            let file = open_beneath(main_dir, &path)?;
            Ok(read_open(&path, file, max)?)
        }
    }
}

/// Opens `path`, refusing every way, links included, that leaves `dir`.
fn open_beneath(dir: &Path, path: &Path) -> Result<File, IncludeError> {
    let outside = || IncludeError::Outside {
        path: path.to_path_buf(),
        dir: dir.to_path_buf(),
    };
    let relative = path.strip_prefix(dir).map_err(|_| outside())?;
    let handle = File::open(dir).map_err(|e| unreadable(dir, e))?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(&handle, relative, how) {
        Ok(fd) => Ok(File::from(fd)),
        Err(nix::Error::EXDEV | nix::Error::ELOOP) => Err(outside()),
        // Kernels before 5.6, and sandboxes that do not know the call.
        Err(nix::Error::ENOSYS | nix::Error::EPERM) => {
            let real = fs::canonicalize(path).map_err(|e| unreadable(path, e))?;
            let real_dir = fs::canonicalize(dir).map_err(|e| unreadable(dir, e))?;
            if !real.starts_with(&real_dir) {
                return Err(outside());
            }
            Ok(File::open(&real).map_err(|e| unreadable(path, e))?)
        }
        Err(e) => Err(unreadable(path, io::Error::from(e)).into()),
    }
}

fn read_open(path: &Path, mut file: File, max: u64) -> Result<(Vec<u8>, FileStat), ReadError> {
    let meta = |f: &File| f.metadata().map_err(|e| unreadable(path, e));
    for _ in 0..READ_TRIES {
        let before = meta(&file)?;
        if !before.is_file() {
            return Err(ReadError::NotAFile {
                path: path.to_path_buf(),
            });
        }
        if max > 0 && before.size() > max {
            return Err(ReadError::TooLarge {
                path: path.to_path_buf(),
                size: before.size(),
                max,
            });
        }
        let mut bytes = Vec::with_capacity(
            usize::try_from(before.size())
                .unwrap_or(0)
                .saturating_add(1),
        );
        // One octet more than stated shows that the file grew; a growing file cannot fill memory.
        (&mut file)
            .take(before.size().saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|e| unreadable(path, e))?;
        let after = stat_of(path, &meta(&file)?);
        if after == stat_of(path, &before) && bytes.len() as u64 == before.size() {
            return Ok((bytes, after));
        }
        io::Seek::rewind(&mut file).map_err(|e| unreadable(path, e))?;
    }
    Err(ReadError::Changing {
        path: path.to_path_buf(),
    })
}

/// Says which component of the path is the first to fail, and who may not pass it.
fn unreadable(path: &Path, source: io::Error) -> ReadError {
    let mut at = PathBuf::new();
    let mut detail = None;
    let uid = nix::unistd::geteuid();
    let mut parent: Option<fs::Metadata> = None;
    for component in path.components() {
        at.push(component);
        if component == Component::RootDir {
            parent = fs::metadata(&at).ok();
            continue;
        }
        match fs::metadata(&at) {
            Ok(m) => parent = Some(m),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                let dir = at.parent().unwrap_or(Path::new("/"));
                detail = Some(format!(
                    "directory {dir:?} refuses passage to uid {uid}{}",
                    mode_of(parent.as_ref())
                ));
                break;
            }
            Err(e) => {
                detail = Some(format!("{at:?}: {e}"));
                break;
            }
        }
    }
    let detail = detail.unwrap_or_else(|| match source.kind() {
        io::ErrorKind::PermissionDenied => {
            format!(
                "{path:?} refuses reading to uid {uid}{}",
                mode_of(parent.as_ref())
            )
        }
        _ => source.to_string(),
    });
    ReadError::Unreadable {
        path: path.to_path_buf(),
        detail,
        source,
    }
}

fn mode_of(m: Option<&fs::Metadata>) -> String {
    m.map_or(String::new(), |m| {
        format!(
            " (mode {:04o}, owner uid {}, gid {})",
            m.mode() & 0o7777,
            m.uid(),
            m.gid()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_first_component_that_fails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("absent/zones/example");
        let text = read(&path, 0).unwrap_err().to_string();
        assert!(
            text.contains(&format!("{:?}: No such file", dir.path().join("absent"))),
            "{text}"
        );
        let text = read(dir.path(), 0).unwrap_err().to_string();
        assert!(text.contains("not a regular file"), "{text}");
    }

    #[test]
    fn size_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("z");
        fs::write(&path, "12345").unwrap();
        assert!(matches!(
            read(&path, 4),
            Err(ReadError::TooLarge {
                size: 5,
                max: 4,
                ..
            })
        ));
        let (bytes, stat_read) = read(&path, 5).unwrap();
        assert_eq!(bytes, b"12345");
        assert_eq!(stat(&path), Some(stat_read));
    }

    #[test]
    fn includes_stay_beside() {
        let dir = tempfile::tempdir().unwrap();
        let zones = dir.path().join("zones");
        fs::create_dir_all(zones.join("sub")).unwrap();
        fs::write(zones.join("sub/a"), "a").unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), zones.join("link")).unwrap();
        std::os::unix::fs::symlink("sub/a", zones.join("good")).unwrap();
        let get = |name: &str, mode| {
            read_include(Path::new(name), &zones, &zones, mode, 0).map(|(b, _)| b)
        };
        assert_eq!(get("sub/a", IncludeMode::Beside).unwrap(), b"a");
        assert_eq!(get("sub/../good", IncludeMode::Beside).unwrap(), b"a");
        assert_eq!(
            get(zones.join("good").to_str().unwrap(), IncludeMode::Beside).unwrap(),
            b"a"
        );
        for bad in ["../secret", "link", "/etc/passwd"] {
            let e = get(bad, IncludeMode::Beside).unwrap_err();
            assert!(matches!(e, IncludeError::Outside { .. }), "{bad}: {e}");
        }
        assert_eq!(get("../secret", IncludeMode::Anywhere).unwrap(), b"s");
        assert!(matches!(
            get("sub/a", IncludeMode::Off),
            Err(IncludeError::Off)
        ));
    }
}
