//! Whether a time service steers the machine's clock.
//!
//! The kernel knows: whoever disciplines the clock (NTP, PTP) tells it, and takes it back, or the
//! kernel does by itself, when the error may have grown too large (adjtimex(2), `STA_UNSYNC`). What
//! follows is said by `clock.require-sync`: a warning, or that nothing is signed.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use cascade_policy::RequireSync;
use cascade_time::{Clock, Timestamp};

/// Nobody steers the clock, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// By that clock; at the earliest when the daemon began.
    pub since: Timestamp,
    /// The kernel says so. Else it does not answer, as under a filter of system calls.
    pub said: bool,
}

const UNSTEERED: &str =
    "the clock is not synchronised: the kernel says that no time service steers it";
const UNKNOWN: &str =
    "the clock may not be synchronised: the kernel does not say whether a time service steers it";

impl Lost {
    pub fn text(&self) -> &'static str {
        match self.said {
            true => UNSTEERED,
            false => UNKNOWN,
        }
    }

    /// One sentence, with what to do.
    pub fn why(&self) -> String {
        format!(
            "{}; repair that, or set clock.require-sync to \"warn\" and reload",
            self.text()
        )
    }

    /// Whether this sentence is one of ours.
    pub fn is_told_by(why: &str) -> bool {
        why.starts_with(UNSTEERED) || why.starts_with(UNKNOWN)
    }
}

/// What the kernel said last; one per daemon.
#[derive(Debug)]
pub struct SyncWatch {
    lost: ArcSwapOption<Lost>,
}

impl SyncWatch {
    /// Asks at once: whether the first version may be signed is known before it is.
    pub fn new(clock: &dyn Clock) -> SyncWatch {
        let watch = SyncWatch {
            lost: ArcSwapOption::empty(),
        };
        watch.look(clock, RequireSync::Hold);
        watch
    }

    pub fn lost(&self) -> Option<Lost> {
        self.lost.load().as_deref().copied()
    }

    /// Asks the kernel, if anybody wants to know.
    pub fn look(&self, clock: &dyn Clock, asked: RequireSync) -> Option<Lost> {
        let said = match asked {
            RequireSync::Off => Some(true),
            RequireSync::Warn | RequireSync::Hold => clock.synchronised(),
        };
        let before = self.lost();
        let lost = (said != Some(true)).then(|| Lost {
            since: before.map_or_else(|| clock.now(), |b| b.since),
            said: said.is_some(),
        });
        if lost != before {
            self.lost.store(lost.map(Arc::new));
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    /// A kernel that says what a test wants, a second later each time.
    struct Kernel {
        now: Mutex<i64>,
        says: Mutex<Option<bool>>,
    }

    impl Clock for Kernel {
        fn now(&self) -> Timestamp {
            let mut now = self.now.lock().unwrap();
            *now += 1;
            Timestamp::from_secs(*now)
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }

        fn synchronised(&self) -> Option<bool> {
            *self.says.lock().unwrap()
        }
    }

    #[test]
    fn what_the_kernel_says_is_known_with_since_when() {
        let kernel = Kernel {
            now: Mutex::new(100),
            says: Mutex::new(Some(false)),
        };
        let says = |said| *kernel.says.lock().unwrap() = said;
        let watch = SyncWatch::new(&kernel);
        let look = |asked| watch.look(&kernel, asked);
        let first = watch.lost().expect("asked at once");
        assert_eq!((first.since.secs(), first.said), (101, true));
        assert_eq!(look(RequireSync::Warn), Some(first), "the same trouble");
        says(None);
        let unknown = look(RequireSync::Hold).expect("no answer is no yes");
        assert_eq!((unknown.since, unknown.said), (first.since, false));
        assert_ne!(unknown.text(), first.text());
        says(Some(true));
        assert_eq!(look(RequireSync::Hold), None);
        says(Some(false));
        let again = look(RequireSync::Warn).expect("lost again");
        assert!(again.since > first.since);
        assert_eq!(look(RequireSync::Off), None, "nobody asks");
        assert_eq!(watch.lost(), None);
    }

    #[test]
    fn its_sentences_are_known_again() {
        for said in [true, false] {
            let lost = Lost {
                since: Timestamp::EPOCH,
                said,
            };
            assert!(Lost::is_told_by(&lost.why()));
            assert!(lost.why().contains("require-sync"));
        }
        assert!(!Lost::is_told_by("the clock was put forward by 3h"));
    }
}
