//! Running other programs and keeping what they said.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

/// What a program left behind.
pub struct Finished {
    pub success: bool,
    /// Standard output and standard error in the order in which they arrived.
    pub lines: Vec<String>,
}

/// Runs a command without standard input, shows its output as it comes and returns it.
pub fn tee(command: &mut Command) -> Result<Finished, String> {
    let name = describe(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start `{name}`: {e}"))?;
    let lines = Mutex::new(Vec::new());
    thread::scope(|scope| {
        if let Some(out) = child.stdout.take() {
            scope.spawn(|| copy(out, &lines, false));
        }
        if let Some(err) = child.stderr.take() {
            scope.spawn(|| copy(err, &lines, true));
        }
    });
    let status = child
        .wait()
        .map_err(|e| format!("`{name}` cannot be waited for: {e}"))?;
    let lines = lines
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    Ok(Finished {
        success: status.success(),
        lines,
    })
}

/// Runs a command quietly; standard output on success, everything it said as the error otherwise.
pub fn output(command: &mut Command) -> Result<Vec<u8>, String> {
    let name = describe(command);
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot start `{name}`: {e}"))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!(
        "`{name}` failed ({}): {}",
        done.status,
        said.trim()
    ))
}

fn copy(from: impl Read, lines: &Mutex<Vec<String>>, to_stderr: bool) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    // `read_until`, since a test may print what is not UTF-8.
    while matches!(from.read_until(b'\n', &mut line), Ok(n) if n > 0) {
        if to_stderr {
            let _ = std::io::stderr().write_all(&line);
        } else {
            let _ = std::io::stdout().write_all(&line);
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if let Ok(mut lines) = lines.lock() {
            lines.push(text);
        }
        line.clear();
    }
}

fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
