//! When a primary is asked again, and when its content is too old.
//!
//! A pure machine: time and randomness are arguments. RFC 1035 §3.3.13 names the timers, RFC 1034
//! §4.3.5 says what they mean; the clamps keep a zero or a typing error from becoming a busy loop
//! or a zone that is never asked about.

use std::time::Duration;

use cascade_time::Timestamp;
use cascade_zone::SoaFields;

const HOUR: Duration = Duration::from_secs(3600);
/// `retry` is at most this.
const RETRY_MAX: Duration = Duration::from_secs(6 * 3600);
/// `expire` is at most eight weeks.
const EXPIRE_MAX: Duration = Duration::from_secs(8 * 7 * 86_400);
/// Between attempts while no SOA is at hand that says otherwise.
const RETRY_UNKNOWN: Duration = Duration::from_secs(300);
/// A start asks once before an expiry counts: the daemon was away, not the primary.
pub const START_GRACE: Duration = Duration::from_secs(30);
/// Failures in a row double the pause so often.
const DOUBLINGS: u32 = 3;

/// `loader.refresh-min`, `-max`, `retry-min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshLimits {
    pub refresh_min: Duration,
    pub refresh_max: Duration,
    pub retry_min: Duration,
}

impl Default for RefreshLimits {
    fn default() -> Self {
        RefreshLimits {
            refresh_min: Duration::from_secs(60),
            refresh_max: Duration::from_secs(86_400),
            retry_min: Duration::from_secs(30),
        }
    }
}

/// The timers of an SOA within the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Timers {
    refresh: Duration,
    retry: Duration,
    expire: Duration,
}

impl Timers {
    fn of(soa: &SoaFields, edns_expire: Option<u32>, limits: &RefreshLimits) -> Timers {
        let secs = |n: u32| Duration::from_secs(u64::from(n));
        let refresh = secs(soa.refresh)
            .min(limits.refresh_max)
            .max(limits.refresh_min);
        let retry = secs(soa.retry)
            .min(RETRY_MAX)
            .max(limits.retry_min)
            .min(refresh);
        let least = HOUR.max(refresh + retry);
        let expire = secs(soa.expire).min(EXPIRE_MAX).max(least);
        Timers {
            refresh,
            retry,
            // RFC 7314 §4: a primary that is itself a secondary has only so long left.
            expire: edns_expire.map_or(expire, |e| expire.min(secs(e))),
        }
    }
}

/// The timers of one zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refresh {
    next: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    /// No expiry before.
    grace_until: Option<Timestamp>,
    failures: u32,
}

impl Refresh {
    /// After a start: what an earlier process knew, which counts its absence too. One attempt is
    /// made at once, by whoever starts the zone.
    pub fn restored(expires_at: Option<Timestamp>, now: Timestamp) -> Refresh {
        Refresh {
            next: None,
            expires_at,
            grace_until: Some(now + START_GRACE),
            failures: 0,
        }
    }

    /// A primary confirmed our serial, or a transfer from it succeeded, at `now`. `soa`: of the
    /// content we now have; `edns_expire`: see [`super::Probe::expire`]; `draw`: random.
    pub fn succeeded(
        &mut self,
        soa: &SoaFields,
        edns_expire: Option<u32>,
        limits: &RefreshLimits,
        draw: u64,
        now: Timestamp,
    ) {
        let t = Timers::of(soa, edns_expire, limits);
        *self = Refresh {
            next: Some(now + spread(t.refresh, 900, 1000, draw)),
            expires_at: Some(now + t.expire),
            grace_until: None,
            failures: 0,
        };
    }

    /// All primaries failed, at `now`. `soa`: of the content we have, if we have any.
    pub fn failed(
        &mut self,
        soa: Option<&SoaFields>,
        limits: &RefreshLimits,
        draw: u64,
        now: Timestamp,
    ) {
        let (retry, refresh) = soa.map_or((RETRY_UNKNOWN, limits.refresh_max), |soa| {
            let t = Timers::of(soa, None, limits);
            (t.retry, t.refresh)
        });
        let pause = (retry * (1 << self.failures.min(DOUBLINGS))).min(refresh);
        self.failures = self.failures.saturating_add(1);
        self.next = Some(now + spread(pause, 900, 1100, draw));
    }

    /// An attempt begins, whoever asked for it: the timer has done its work.
    pub fn begun(&mut self) {
        self.next = None;
    }

    /// When to ask without being told to.
    pub fn next_attempt(&self) -> Option<Timestamp> {
        self.next
    }

    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// The time at which [`Refresh::is_expired`] becomes true.
    pub fn expiry_counts_at(&self) -> Option<Timestamp> {
        let at = self.expires_at?;
        Some(self.grace_until.map_or(at, |g| g.max(at)))
    }

    /// The source has been silent for too long.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expiry_counts_at().is_some_and(|at| at <= now)
    }
}

/// `span` times something evenly between two numbers of thousandths.
fn spread(span: Duration, low: u64, high: u64, draw: u64) -> Duration {
    let thousandths = low + draw % (high - low + 1);
    let millis = span.as_millis().min(u128::from(u64::MAX)) as u64;
    Duration::from_millis(millis / 1000 * thousandths + millis % 1000 * thousandths / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cascade_zone::Serial;
    use proptest::prelude::*;

    const T0: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn soa(refresh: u32, retry: u32, expire: u32) -> SoaFields {
        SoaFields {
            serial: Serial(1),
            refresh,
            retry,
            expire,
            minimum: 60,
        }
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn success_waits_for_refresh_and_failures_double() {
        let limits = RefreshLimits::default();
        let s = soa(3600, 600, 604_800);
        let mut r = Refresh::default();
        r.succeeded(&s, None, &limits, 100, T0);
        assert_eq!(r.next_attempt(), Some(T0 + secs(3600)));
        assert_eq!(r.expires_at(), Some(T0 + secs(604_800)));
        r.succeeded(&s, None, &limits, 0, T0);
        assert_eq!(r.next_attempt(), Some(T0 + secs(3240)));
        let mut pauses = Vec::new();
        for _ in 0..6 {
            r.begun();
            assert_eq!(r.next_attempt(), None);
            r.failed(Some(&s), &limits, 100, T0);
            pauses.push(r.next_attempt().map_or(0, |t| t.since(T0).as_secs()));
        }
        // 600 · 2^n up to three doublings, and never beyond REFRESH.
        assert_eq!(pauses, [600, 1200, 2400, 3600, 3600, 3600]);
        // Failures do not move the expiry.
        assert_eq!(r.expires_at(), Some(T0 + secs(604_800)));
        assert!(!r.is_expired(T0 + secs(604_799)));
        assert!(r.is_expired(T0 + secs(604_800)));
        r.succeeded(&s, None, &limits, 100, T0 + secs(700_000));
        assert!(!r.is_expired(T0 + secs(700_001)));
    }

    #[test]
    fn zero_and_endless_timers_are_clamped() {
        let limits = RefreshLimits::default();
        let mut r = Refresh::default();
        r.succeeded(&soa(0, 0, 0), None, &limits, 100, T0);
        assert_eq!(r.next_attempt(), Some(T0 + secs(60)));
        assert_eq!(r.expires_at(), Some(T0 + secs(3600)));
        r.failed(Some(&soa(0, 0, 0)), &limits, 100, T0);
        assert_eq!(r.next_attempt(), Some(T0 + secs(30)));
        let endless = i32::MAX as u32;
        r.succeeded(&soa(endless, endless, endless), None, &limits, 100, T0);
        assert_eq!(r.next_attempt(), Some(T0 + secs(86_400)));
        assert_eq!(r.expires_at(), Some(T0 + secs(8 * 7 * 86_400)));
        r.failed(Some(&soa(endless, endless, endless)), &limits, 100, T0);
        assert_eq!(r.next_attempt(), Some(T0 + secs(6 * 3600)));
    }

    #[test]
    fn the_primary_s_own_expiry_counts() {
        let mut r = Refresh::default();
        let limits = RefreshLimits::default();
        r.succeeded(&soa(3600, 600, 604_800), Some(120), &limits, 100, T0);
        assert_eq!(r.expires_at(), Some(T0 + secs(120)));
        r.succeeded(&soa(3600, 600, 604_800), Some(u32::MAX), &limits, 100, T0);
        assert_eq!(r.expires_at(), Some(T0 + secs(604_800)));
    }

    #[test]
    fn downtime_counts_but_a_start_asks_first() {
        let r = Refresh::restored(Some(T0), T0 + secs(1000));
        assert!(!r.is_expired(T0 + secs(1029)));
        assert!(r.is_expired(T0 + secs(1030)));
        let r = Refresh::restored(Some(T0 + secs(5000)), T0 + secs(1000));
        assert!(!r.is_expired(T0 + secs(4999)));
        assert!(r.is_expired(T0 + secs(5000)));
        assert!(!Refresh::restored(None, T0).is_expired(T0 + secs(1 << 40)));
    }

    #[test]
    fn a_week_of_a_dead_primary_is_a_bounded_number_of_attempts() {
        let limits = RefreshLimits::default();
        let s = soa(1800, 900, 604_800);
        let mut r = Refresh::default();
        r.succeeded(&s, None, &limits, 7, T0);
        let (mut now, mut attempts) = (T0, 0);
        while let Some(at) = r.next_attempt().filter(|at| *at < T0 + secs(604_800)) {
            assert!(at > now, "the machine stands still");
            now = at;
            attempts += 1;
            r.begun();
            r.failed(Some(&s), &limits, attempts, now);
        }
        assert!((300..420).contains(&attempts), "{attempts}");
        assert!(r.is_expired(T0 + secs(604_800)));
    }

    proptest! {
        #[test]
        fn never_at_once_and_never_after_more_than_a_day(
            refresh: u32, retry: u32, expire: u32, draw: u64, failures in 0u32..40,
        ) {
            let limits = RefreshLimits::default();
            let s = soa(refresh, retry, expire);
            let mut r = Refresh::default();
            r.succeeded(&s, None, &limits, draw, T0);
            let next = r.next_attempt().unwrap();
            prop_assert!(next >= T0 + secs(54) && next <= T0 + secs(86_400));
            prop_assert!(r.expires_at().unwrap() > next);
            for i in 0..failures {
                r.failed(Some(&s), &limits, draw.rotate_left(i), T0);
            }
            if failures > 0 {
                let next = r.next_attempt().unwrap();
                prop_assert!(next >= T0 + secs(27) && next <= T0 + secs(95_040));
            }
        }
    }
}
