//! The one place that reads the machine's clocks.
#![allow(clippy::disallowed_methods, reason = "somebody has to ask the kernel")]

mod kernel;
#[cfg(feature = "test-clock")]
mod test_clock;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cascade_time::{Clock, Timestamp};

/// Seconds since 1970 at which a test build begins.
const FAKETIME: &str = "CASCADE_FAKETIME";

/// The clock of this process.
///
/// # Errors
/// A false time is asked for, and this build does not do that.
pub fn start(state_dir: &Path) -> Result<Arc<dyn Clock>, String> {
    let Some(asked) = std::env::var_os(FAKETIME) else {
        return Ok(Arc::new(SystemClock::new()));
    };
    faked(&asked.to_string_lossy(), state_dir)
}

#[cfg(feature = "test-clock")]
fn faked(asked: &str, state_dir: &Path) -> Result<Arc<dyn Clock>, String> {
    test_clock::start(asked, state_dir)
}

#[cfg(not(feature = "test-clock"))]
fn faked(_: &str, _: &Path) -> Result<Arc<dyn Clock>, String> {
    Err(format!(
        "{FAKETIME} is set, and this build keeps to the real time; unset it"
    ))
}

/// A clock that steps is noticed within this time.
pub fn longest_sleep() -> Duration {
    #[cfg(feature = "test-clock")]
    if let Some(short) = test_clock::longest_sleep() {
        return short;
    }
    Duration::from_secs(60)
}

#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    pub fn new() -> Self {
        SystemClock {
            started: Instant::now(),
        }
    }
}

impl SystemClock {
    fn passed(&self) -> Duration {
        // clock_gettime(2): unlike CLOCK_MONOTONIC it goes on while the machine is suspended.
        let boot = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
        boot.map_or_else(|_| self.started.elapsed(), Duration::from)
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_nanos(since.as_nanos().min(i64::MAX as u128) as i64)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn both(&self) -> (Timestamp, Duration) {
        // A machine that is suspended between two readings would show a step.
        let mut passed = self.passed();
        loop {
            let now = self.now();
            let later = self.passed();
            if later.saturating_sub(passed) < Duration::from_secs(1) {
                return (now, later);
            }
            passed = later;
        }
    }

    fn synchronised(&self) -> Option<bool> {
        kernel::synchronised()
    }
}
