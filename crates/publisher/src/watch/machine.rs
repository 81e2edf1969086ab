//! When one secondary is asked about one zone, and what its answers mean, without I/O.

use std::time::Duration;

use cascade_time::Timestamp;
use cascade_zone::Serial;

/// Questions after a publication, in seconds since then.
const AFTER: [u64; 8] = [1, 2, 5, 10, 30, 60, 120, 300];
/// A secondary that has the serial is asked again after this.
const CONTENT: Duration = Duration::from_secs(3600);
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Failures in a row that are told.
const FAILURES: u32 = 3;
const REFRESH_MIN: Duration = Duration::from_secs(60);
const REFRESH_MAX: Duration = Duration::from_secs(3600);

/// Why there is no serial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    NoAnswer,
    Code(u16),
    /// It answers, but not from a zone of its own.
    NotAuthoritative,
    /// No SOA in the answer, or a signature that is not good.
    Unusable,
}

/// What people and other parts should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It serves our version, so long after its publication.
    HasSerial { serial: Serial, after: Duration },
    /// The first look after a start found an older version.
    Behind { serial: Serial },
    /// Nobody but us may make versions of this zone.
    Ahead { serial: Serial },
    /// Three questions in a row without a serial.
    Failing { problem: Problem },
}

/// One (zone, secondary).
#[derive(Debug, Clone)]
pub struct Machine {
    ours: Serial,
    since: Timestamp,
    refresh: Duration,
    /// Place in [`AFTER`].
    round: usize,
    due: Timestamp,
    /// A question is under way until then.
    asking: Option<Timestamp>,
    /// We have just started and do not know what it missed.
    resumed: bool,
    failures: u32,
    pub serial: Option<Serial>,
    pub asked_at: Option<Timestamp>,
}

impl Machine {
    /// `resumed`: the version was published by an earlier process.
    pub fn new(ours: Serial, refresh: Duration, resumed: bool, now: Timestamp) -> Self {
        let mut m = Machine {
            ours,
            since: now,
            refresh,
            round: 0,
            due: now,
            asking: None,
            resumed,
            failures: 0,
            serial: None,
            asked_at: None,
        };
        m.published(ours, refresh, now);
        m.resumed = resumed;
        m
    }

    /// A version is served; the same one again changes nothing.
    pub fn published(&mut self, ours: Serial, refresh: Duration, now: Timestamp) {
        self.refresh = refresh.clamp(REFRESH_MIN, REFRESH_MAX);
        if ours == self.ours && self.round > 0 {
            return;
        }
        (self.ours, self.since, self.round, self.resumed) = (ours, now, 0, false);
        self.schedule(now);
    }

    /// When [`Machine::on_time`] is to be called.
    pub fn deadline(&self) -> Timestamp {
        self.asking.unwrap_or(self.due)
    }

    /// The deadline has passed. `true`: ask now.
    pub fn on_time(&mut self, now: Timestamp) -> (bool, Option<Finding>) {
        if self.deadline() > now {
            return (false, None);
        }
        if self.asking.is_some() {
            return (false, self.answered(Err(Problem::NoAnswer), now));
        }
        self.asking = Some(now + ANSWER_WITHIN);
        (true, None)
    }

    /// The question cannot go out yet.
    pub fn delayed(&mut self, now: Timestamp) {
        self.asking = None;
        self.due = now + Duration::from_secs(1);
    }

    /// What the question under way has come to.
    pub fn answered(&mut self, answer: Result<Serial, Problem>, now: Timestamp) -> Option<Finding> {
        self.asking.take()?;
        self.asked_at = Some(now);
        let serial = match answer {
            Ok(serial) => serial,
            Err(problem) => {
                self.failures = self.failures.saturating_add(1);
                self.schedule(now);
                return (self.failures == FAILURES).then_some(Finding::Failing { problem });
            }
        };
        self.failures = 0;
        let before = self.serial.replace(serial);
        let first = std::mem::take(&mut self.resumed);
        self.schedule(now);
        if serial == self.ours {
            let after = now.since(self.since);
            return (before != Some(serial)).then_some(Finding::HasSerial { serial, after });
        }
        if serial.newer_than(self.ours) {
            return (before != Some(serial)).then_some(Finding::Ahead { serial });
        }
        first.then_some(Finding::Behind { serial })
    }

    /// It has answered one of the last questions.
    pub fn is_up(&self) -> bool {
        self.serial.is_some() && self.failures < FAILURES
    }

    /// For how long it has been behind; zero: it is not.
    pub fn lag(&self, now: Timestamp) -> Option<Duration> {
        let serial = self.serial?;
        Some(if self.ours.newer_than(serial) {
            now.since(self.since)
        } else {
            Duration::ZERO
        })
    }

    fn schedule(&mut self, now: Timestamp) {
        let content = self.serial == Some(self.ours) && self.failures == 0;
        let next = AFTER
            .iter()
            .skip(self.round)
            .position(|s| self.since + Duration::from_secs(*s) > now);
        self.due = match next {
            _ if content => now + CONTENT,
            Some(skip) => {
                let at = self.since + Duration::from_secs(AFTER[self.round + skip]);
                self.round += skip + 1;
                at
            }
            None => now + self.refresh,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + secs)
    }

    fn start(resumed: bool) -> Machine {
        Machine::new(Serial(5), Duration::from_secs(900), resumed, at(0))
    }

    fn ask(m: &mut Machine, answer: Result<Serial, Problem>) -> (i64, Option<Finding>) {
        let now = m.deadline();
        assert_eq!(m.on_time(now), (true, None));
        (now.secs() - at(0).secs(), m.answered(answer, now))
    }

    #[test]
    fn asked_until_it_has_the_serial() {
        let mut m = start(false);
        let times: Vec<i64> = (0..10).map(|_| ask(&mut m, Ok(Serial(4))).0).collect();
        assert_eq!(times, [1, 2, 5, 10, 30, 60, 120, 300, 1200, 2100]);
        assert_eq!(m.lag(at(2100)), Some(Duration::from_secs(2100)));
        let (when, found) = ask(&mut m, Ok(Serial(5)));
        let after = Duration::from_secs(3000);
        let has = Finding::HasSerial {
            serial: Serial(5),
            after,
        };
        assert_eq!((when, found), (3000, Some(has)));
        assert_eq!(m.lag(at(9000)), Some(Duration::ZERO));
        // From then on hourly, and told once.
        assert_eq!(ask(&mut m, Ok(Serial(5))), (6600, None));
        m.published(Serial(6), Duration::from_secs(900), at(7000));
        assert_eq!(ask(&mut m, Ok(Serial(5))), (7001, None));
        assert_eq!(m.lag(at(7005)), Some(Duration::from_secs(5)));
        m.published(Serial(6), Duration::from_secs(900), at(7001));
        assert_eq!(m.deadline(), at(7002), "the same version again");
    }

    #[test]
    fn silence_and_refusals() {
        let mut m = start(false);
        for told in [false, false, true, false] {
            let now = m.deadline();
            assert_eq!(m.on_time(now), (true, None));
            let end = m.deadline();
            let (again, found) = m.on_time(end);
            assert!(!again);
            let problem = Problem::NoAnswer;
            assert_eq!(found, told.then_some(Finding::Failing { problem }));
        }
        assert!(!m.is_up() && m.lag(at(60)).is_none());
        assert_eq!(m.answered(Ok(Serial(5)), at(40)), None, "nobody asked");
        assert!(matches!(
            ask(&mut m, Ok(Serial(5))).1,
            Some(Finding::HasSerial { .. })
        ));
        assert!(m.is_up());
    }

    #[test]
    fn behind_after_a_start_and_ahead() {
        let serial = Serial(4);
        let mut m = start(true);
        assert_eq!(ask(&mut m, Ok(serial)).1, Some(Finding::Behind { serial }));
        assert_eq!(ask(&mut m, Ok(serial)).1, None);
        let serial = Serial(9);
        assert_eq!(ask(&mut m, Ok(serial)).1, Some(Finding::Ahead { serial }));
        assert_eq!(ask(&mut m, Ok(serial)).1, None);
        let mut m = start(true);
        m.published(Serial(6), Duration::from_secs(900), at(0));
        assert_eq!(
            ask(&mut m, Ok(Serial(5))).1,
            None,
            "our own NOTIFY is under way"
        );
    }

    proptest! {
        #[test]
        fn never_stuck(steps in prop::collection::vec((0u8..4, 0i64..5000), 1..100)) {
            let mut m = start(true);
            let mut now = at(0);
            let mut ours = 5;
            for (what, secs) in steps {
                now = now + Duration::from_secs(secs as u64);
                match what {
                    0 => { ours += 1; m.published(Serial(ours), Duration::from_secs(secs as u64), now) }
                    1 => drop(m.answered(Ok(Serial(secs as u32 % 9)), now)),
                    2 => m.delayed(now),
                    _ => drop(m.on_time(now)),
                }
                prop_assert!(m.deadline() <= now + Duration::from_secs(3600));
            }
        }
    }
}
