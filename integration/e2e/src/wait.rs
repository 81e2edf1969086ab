//! Waiting for something to become true, with a bound.

use std::fs;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Between two questions no more than this counts: a test that is stopped for minutes (a machine that
/// sleeps, or that somebody needs for a measurement) asks several times after it before it gives up.
const LONGEST_TURN: Duration = Duration::from_secs(10);

/// Asks again and again until there is an answer or the time is over.
pub fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let mut waited = Duration::ZERO;
    loop {
        let began = Instant::now();
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if waited >= limit {
            return None;
        }
        thread::sleep(Duration::from_millis(20));
        waited += began.elapsed().min(LONGEST_TURN);
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
    for child in children(pid) {
        signal_all(child, Signal::SIGKILL);
    }
}

/// Stops a program where it is with all that it started, or lets it go on.
pub(crate) fn freeze(child: &Child, on: bool) {
    signal_all(
        child.id(),
        if on { Signal::SIGSTOP } else { Signal::SIGCONT },
    );
}

fn signal_all(pid: u32, signal: Signal) {
    if let Ok(pid @ 2..) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
    children(pid)
        .into_iter()
        .for_each(|c| signal_all(c, signal));
}

fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|c| c.parse().ok())
        .collect()
}
