//! The one place that reads the machine's clocks.
#![allow(clippy::disallowed_methods, reason = "somebody has to ask the kernel")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cascade_time::{Clock, Timestamp};

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
}
