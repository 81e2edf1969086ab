//! A clock that tests set over a socket: `now`, `advance-to <unix>`, `step <±seconds>`,
//! `synchronised yes|no|unknown`, one per line, answered with the time. Between orders it goes as fast as the real one.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cascade_time::{Clock, Timestamp};

use super::SystemClock;

/// Some clock of this process is not the real one.
static ACTIVE: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
struct TestClock {
    real: SystemClock,
    moved: Mutex<Moved>,
    synchronised: Mutex<Option<bool>>,
}

/// In nanoseconds.
#[derive(Debug, Default, Clone, Copy)]
struct Moved {
    /// That this clock is ahead of the real one.
    ahead: i64,
    /// That time was let pass; the rest are steps.
    passed: i64,
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.both().0
    }

    fn monotonic(&self) -> Duration {
        self.real.monotonic()
    }

    fn both(&self) -> (Timestamp, Duration) {
        let moved = self.moved();
        let (now, passed) = self.real.both();
        let now = Timestamp::from_nanos(now.nanos().saturating_add(moved.ahead));
        let more = Duration::from_nanos(u64::try_from(moved.passed).unwrap_or(0));
        (now, passed + more)
    }

    fn synchronised(&self) -> Option<bool> {
        *self.steered()
    }
}

pub fn start(asked: &str, state_dir: &Path) -> Result<Arc<dyn Clock>, String> {
    let secs: i64 = asked
        .parse()
        .map_err(|_| format!("'{asked}' is no time in seconds"))?;
    let clock = Arc::new(TestClock {
        real: SystemClock::new(),
        moved: Mutex::default(),
        synchronised: Mutex::new(Some(true)),
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

/// How far that is ahead of the real time.
fn ahead(secs: i64, real: &SystemClock) -> i64 {
    let wanted = secs.saturating_mul(1_000_000_000);
    wanted.saturating_sub(real.now().nanos())
}

impl TestClock {
    fn moved(&self) -> MutexGuard<'_, Moved> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn steered(&self) -> MutexGuard<'_, Option<bool>> {
        self.synchronised
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it begins.
    fn set(&self, secs: i64) {
        self.moved().ahead = ahead(secs, &self.real);
    }

    fn step(&self, by: i64) {
        let mut moved = self.moved();
        moved.ahead = moved.ahead.saturating_add(by.saturating_mul(1_000_000_000));
    }

    /// Time passes until then.
    fn advance(&self, secs: i64) {
        let mut moved = self.moved();
        let by = ahead(secs, &self.real).saturating_sub(moved.ahead).max(0);
        moved.ahead = moved.ahead.saturating_add(by);
        moved.passed = moved.passed.saturating_add(by);
    }

    fn obey(&self, stream: UnixStream) -> std::io::Result<()> {
        let mut out = stream.try_clone()?;
        for line in BufReader::new(stream).lines() {
            let line = line?;
            let now = self.now().secs();
            match line.split_once(' ') {
                None if line == "now" => {}
                Some(("advance-to", to)) => match to.parse() {
                    Ok(to) if to >= now => self.advance(to),
                    _ => {
                        writeln!(out, "not a later time")?;
                        continue;
                    }
                },
                Some(("step", by)) => match by.parse::<i64>() {
                    Ok(by) => self.step(by),
                    Err(_) => {
                        writeln!(out, "not a number")?;
                        continue;
                    }
                },
                Some(("synchronised", word @ ("yes" | "no" | "unknown"))) => {
                    *self.steered() = (word != "unknown").then_some(word == "yes");
                }
                _ => {
                    writeln!(
                        out,
                        "now, advance-to <unix>, step <seconds> or synchronised yes|no|unknown"
                    )?;
                    continue;
                }
            }
            writeln!(out, "{}", self.now().secs())?;
        }
        Ok(())
    }
}
