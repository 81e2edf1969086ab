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

/// As [`within`] with the bound that fits most things, panicking with what was waited for.
#[track_caller]
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    match within(Duration::from_secs(30), ask) {
        Some(answer) => answer,
        None => panic!("not within 30 s: {what}"),
    }
}
