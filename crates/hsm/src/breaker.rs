//! Circuit breaker of a slot: while its device is away, callers are told at once.
//!
//! A dead network HSM holds each call in the module for as long as its retries last, which may be
//! most of a minute. So after a failure nothing is sent to the device until a pause is over; then
//! one call is let through as a probe, and its outcome decides. Pauses grow: 1, 2, 5, 10, 30, 60 s.

use std::time::Duration;

/// Pauses before the first, second, ... probe; the last one repeats.
pub const PAUSES: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// All times are monotonic and passed in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Breaker {
    open: Option<Open>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    /// When the device was first found away.
    pub since: Duration,
    pub why: String,
    /// Probes that failed.
    pub failed_probes: u32,
    next_probe: Duration,
    probing: bool,
}

/// Whether a call may be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    Go,
    /// May be made, and decides. [`Breaker::good`] or [`Breaker::bad`] must follow.
    Probe,
    No {
        why: String,
        retry_in: Duration,
    },
}

impl Breaker {
    pub fn admit(&mut self, now: Duration) -> Admission {
        let Some(open) = &mut self.open else {
            return Admission::Go;
        };
        if !open.probing && now >= open.next_probe {
            open.probing = true;
            return Admission::Probe;
        }
        Admission::No {
            why: open.why.clone(),
            retry_in: open.next_probe.saturating_sub(now),
        }
    }

    /// The device has answered, be it yes or no. True if it was away before.
    pub fn good(&mut self) -> bool {
        self.open.take().is_some()
    }

    /// The device did not answer. `probe` as admitted. True if it was not known to be away.
    pub fn bad(&mut self, probe: bool, why: &str, now: Duration) -> bool {
        let Some(open) = &mut self.open else {
            self.open = Some(Open {
                since: now,
                why: why.to_owned(),
                failed_probes: 0,
                next_probe: now + PAUSES[0],
                probing: false,
            });
            return true;
        };
        // Calls that were under way when the breaker opened say nothing new.
        if probe {
            open.failed_probes = open.failed_probes.saturating_add(1);
            let pause = PAUSES[(open.failed_probes as usize).min(PAUSES.len() - 1)];
            open.next_probe = now + pause;
            open.probing = false;
            why.clone_into(&mut open.why);
        }
        false
    }

    /// The probe was given up before it was made; another call may be the probe.
    pub fn release(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// Time until a call may be made; zero if it may now.
    pub fn admit_in(&self, now: Duration) -> Duration {
        match &self.open {
            Some(open) => open.next_probe.saturating_sub(now),
            None => Duration::ZERO,
        }
    }

    pub fn state(&self) -> Option<&Open> {
        self.open.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn one_probe_after_each_pause() {
        let mut b = Breaker::default();
        assert_eq!(b.admit(secs(0)), Admission::Go);
        assert!(b.bad(false, "gone", secs(10)));
        assert!(!b.bad(false, "gone too", secs(10)), "known already");
        let mut at = secs(10);
        for pause in PAUSES.into_iter().chain([secs(60), secs(60)]) {
            let early = b.admit(at + pause - Duration::from_millis(1));
            assert!(
                matches!(early, Admission::No { .. }),
                "{pause:?}: {early:?}"
            );
            at += pause;
            assert_eq!(b.admit(at), Admission::Probe);
            assert!(
                matches!(b.admit(at + secs(1000)), Admission::No { .. }),
                "only one"
            );
            assert!(!b.bad(true, "still", at));
        }
        assert_eq!(
            b.state().map(|o| (o.since, o.failed_probes)),
            Some((secs(10), 8))
        );
        assert_eq!(b.admit(at + secs(60)), Admission::Probe);
        assert!(b.good());
        assert_eq!(b.admit(at), Admission::Go);
        assert!(b.bad(false, "again", at + secs(100)));
        assert_eq!(
            b.admit(at + secs(101)),
            Admission::Probe,
            "pauses begin anew"
        );
    }

    #[test]
    fn a_probe_that_was_not_made_is_made_by_another() {
        let mut b = Breaker::default();
        b.bad(false, "gone", secs(0));
        assert_eq!(b.admit(secs(1)), Admission::Probe);
        b.release();
        assert_eq!(b.admit(secs(1)), Admission::Probe);
    }
}
