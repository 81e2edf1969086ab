//! Waiting for something to become true, with a bound.

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
