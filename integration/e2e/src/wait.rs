//! Waiting for something to become true, with a bound.

use std::fs;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

/// Asks again and again until there is an answer or the time is over.
pub fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// How long a story waits for what takes a second: all stories run at once on whatever CPUs there are.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// As [`within`] with [`PATIENCE`], panicking with what was waited for.
#[track_caller]
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    match within(PATIENCE, ask) {
        Some(answer) => answer,
        None => panic!("not within {} s: {what}", PATIENCE.as_secs()),
    }
}

/// Ends a server of a test with all that it started. Nothing of theirs outlives the test, and asking
/// NSD or unbound to end takes them seconds.
pub fn end(server: &mut Child) {
    end_children(server.id());
    let _ = server.kill();
    let _ = server.wait();
}

/// NSD's children do not end with it.
fn end_children(pid: u32) {
    let path = format!("/proc/{pid}/task/{pid}/children");
    for child in fs::read_to_string(path).unwrap_or_default().split(' ') {
        if let Ok(child) = child.trim().parse::<u32>() {
            end_children(child);
            if let Ok(child @ 2..) = i32::try_from(child) {
                let child = nix::unistd::Pid::from_raw(child);
                let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}
