//! One daemon for each state directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

/// Name of the lock file in the state directory.
pub const FILE: &str = "lock";

/// Held as long as this lives. The kernel lets go of it when the process ends, however it ends, so
/// a file left by a crash stops nobody; the file itself stays, because removing it would let two
/// daemons lock two files of one name.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
    path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "{}: another daemon{} uses this state directory; stop it or give this one another \
         state-dir", path.display(), holder(*pid)
    )]
    Held { path: PathBuf, pid: Option<u32> },
    #[error("{}: cannot {what} the lock file: {source}; check owner and mode of the directory, and that the disk is not full", path.display())]
    File {
        path: PathBuf,
        what: &'static str,
        source: std::io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map(|p| format!(" (process {p})")).unwrap_or_default()
}

impl Lock {
    /// Locks `dir`, which must exist, and writes the own process id into the lock file.
    ///
    /// # Errors
    /// Another process holds the lock, or the file cannot be opened or written. Nothing is held.
    pub fn take(dir: &Path) -> Result<Lock, LockError> {
        let path = dir.join(FILE);
        let fail = |what, source| LockError::File {
            path: path.clone(),
            what,
            source,
        };
        // Not truncated here: until the lock is ours the content belongs to its holder. No mode for
        // others: who can open the file can lock it, and so keep the daemon from starting.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(&path)
            .map_err(|e| fail("open", e))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => {
                let mut lock = Lock { file, path };
                lock.write_pid()?;
                Ok(lock)
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let pid = read_pid(&mut file);
                Err(LockError::Held { path, pid })
            }
            Err((_, errno)) => Err(fail("lock", errno.into())),
        }
    }

    fn write_pid(&mut self) -> Result<(), LockError> {
        let text = format!("{}\n", std::process::id());
        let file = &mut *self.file;
        let written = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(text.as_bytes()));
        written.map_err(|source| LockError::File {
            path: self.path.clone(),
            what: "write",
            source,
        })
    }
}

/// The holder may be between locking and writing: then there is no id to tell.
fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_daemon_is_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().expect("directory");
        let first = Lock::take(dir.path()).expect("free");
        let text = std::fs::read_to_string(dir.path().join(FILE)).expect("file");
        assert_eq!(text, format!("{}\n", std::process::id()));

        let error = Lock::take(dir.path()).expect_err("held");
        let LockError::Held { pid, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*pid, Some(std::process::id()));
        let said = error.to_string();
        assert!(said.contains(&std::process::id().to_string()), "{said}");
        assert!(said.contains(&dir.path().display().to_string()), "{said}");

        drop(first);
        Lock::take(dir.path()).expect("free again");
    }

    #[test]
    fn what_a_crashed_daemon_left_is_replaced() {
        let dir = tempfile::tempdir().expect("directory");
        std::fs::write(
            dir.path().join(FILE),
            "4294967295 and more than one number\n",
        )
        .expect("write");
        let _lock = Lock::take(dir.path()).expect("nobody holds it");
        let text = std::fs::read_to_string(dir.path().join(FILE)).expect("file");
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_link_or_a_missing_directory_is_an_error_with_the_path() {
        let dir = tempfile::tempdir().expect("directory");
        let other = dir.path().join("precious");
        std::fs::write(&other, "data").expect("write");
        std::os::unix::fs::symlink(&other, dir.path().join(FILE)).expect("link");
        let error = Lock::take(dir.path()).expect_err("link").to_string();
        assert!(error.contains("cannot open"), "{error}");
        assert_eq!(std::fs::read_to_string(&other).expect("file"), "data");

        let gone = dir.path().join("gone");
        let error = Lock::take(&gone).expect_err("missing").to_string();
        assert!(error.contains(&gone.display().to_string()), "{error}");
    }
}
