//! A clock that tests set over a socket: `now`, `advance-to <unix>`, `step <±seconds>`, one per
//! line, answered with the time. Between orders it goes as fast as the real one.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use cascade_time::{Clock, Timestamp};

use super::SystemClock;

/// Some clock of this process is not the real one.
static ACTIVE: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
struct TestClock {
    real: SystemClock,
    /// Nanoseconds that this clock is ahead of the real one.
    ahead: AtomicI64,
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let real = self.real.now().nanos();
        Timestamp::from_nanos(real.saturating_add(self.ahead.load(Ordering::Acquire)))
    }

    fn monotonic(&self) -> Duration {
        self.real.monotonic()
    }
}

pub fn start(asked: &str, state_dir: &Path) -> Result<Arc<dyn Clock>, String> {
    let secs: i64 = asked
        .parse()
        .map_err(|_| format!("'{asked}' is no time in seconds"))?;
    let clock = Arc::new(TestClock {
        real: SystemClock::new(),
        ahead: AtomicI64::new(0),
    });
    clock.set(secs);
    let path = state_dir.join("test-clock.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .map_err(|e| format!("{}: {e}", path.display()))?;
    ACTIVE.store(true, Ordering::Release);
    let for_thread = clock.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = for_thread.obey(stream);
        }
    });
    Ok(clock)
}

/// Sleepers look often: nobody wakes them when the clock is set.
pub fn longest_sleep() -> Option<Duration> {
    ACTIVE
        .load(Ordering::Acquire)
        .then_some(Duration::from_millis(50))
}

impl TestClock {
    fn set(&self, secs: i64) {
        let wanted = secs.saturating_mul(1_000_000_000);
        self.ahead.store(
            wanted.saturating_sub(self.real.now().nanos()),
            Ordering::Release,
        );
    }

    fn obey(&self, stream: UnixStream) -> std::io::Result<()> {
        let mut out = stream.try_clone()?;
        for line in BufReader::new(stream).lines() {
            let line = line?;
            let now = self.now().secs();
            match line.split_once(' ') {
                None if line == "now" => {}
                Some(("advance-to", to)) => match to.parse() {
                    Ok(to) if to >= now => self.set(to),
                    _ => {
                        writeln!(out, "not a later time")?;
                        continue;
                    }
                },
                Some(("step", by)) => match by.parse::<i64>() {
                    Ok(by) => self.set(now.saturating_add(by)),
                    Err(_) => {
                        writeln!(out, "not a number")?;
                        continue;
                    }
                },
                _ => {
                    writeln!(out, "now, advance-to <unix> or step <seconds>")?;
                    continue;
                }
            }
            writeln!(out, "{}", self.now().secs())?;
        }
        Ok(())
    }
}
