//! What the module writes to standard output and standard error becomes log lines.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;

/// Longest line that is logged in one piece.
const LINE_MAX: u64 = 1024;

/// Standard error as it is now, for the log.
///
/// # Errors
/// As the system says.
pub fn keep_stderr() -> Result<OwnedFd, String> {
    nix::unistd::dup(std::io::stderr()).map_err(|e| format!("standard error: {e}"))
}

/// From now on whatever this process writes to standard output and error, which only the module
/// does, is logged.
///
/// # Errors
/// As the system says; nothing changes.
pub fn start() -> Result<(), String> {
    let failed =
        |e: &dyn std::fmt::Display| format!("output of the module cannot be captured: {e}");
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| failed(&e))?;
    std::thread::Builder::new()
        .name("module-output".into())
        .spawn(move || follow(File::from(read)))
        .map_err(|e| failed(&e))?;
    nix::unistd::dup2_stdout(&write).map_err(|e| failed(&e))?;
    nix::unistd::dup2_stderr(&write).map_err(|e| failed(&e))
}

fn follow(from: impl Read) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match from.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end();
                if !text.is_empty() {
                    tracing::info!("the module says: {text}");
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
