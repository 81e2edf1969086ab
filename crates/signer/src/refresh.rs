//! When signatures begin and end, spread so that every tick has the same work.

use cascade_time::Timestamp;
use cascade_zone::ZoneId;
use thiserror::Error;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The policy's times, in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// L: how long a signature lives.
    pub lifetime: u32,
    /// R: time that must remain; secondaries have it to fetch.
    pub remain: u32,
    /// I: how often due signatures are looked for.
    pub refresh: u32,
    /// O: how far inception lies in the past.
    pub inception_offset: u32,
    /// A further spread towards earlier expiration; 0 is none.
    pub jitter: u32,
}

impl Default for Times {
    /// 2 weeks, 1 week, 12 hours, 1 day: what policies have unless they say otherwise.
    fn default() -> Self {
        Times {
            lifetime: 14 * 86_400,
            remain: 7 * 86_400,
            refresh: 12 * 3600,
            inception_offset: 86_400,
            jitter: 0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TimesError {
    #[error(
        "signature-lifetime {lifetime} s leaves no time between refreshes; it must exceed signature-remain-time {remain} s + signature-refresh-interval {refresh} s by more than 1 h"
    )]
    Lifetime {
        lifetime: u32,
        remain: u32,
        refresh: u32,
    },
    #[error(
        "signature-lifetime {0} s is too long; RRSIG times compare within 2^31 s (RFC 4034 §3.1.5), at most 2^30 s are allowed"
    )]
    TooLong(u32),
    #[error("signature-refresh-interval {0} s is too short; at least 60 s")]
    Refresh(u32),
    #[error("signature-inception-offset {0} s is too long; at most 7 d")]
    Offset(u32),
}

impl Times {
    pub fn check(&self) -> Result<(), TimesError> {
        let Times {
            lifetime,
            remain,
            refresh,
            inception_offset,
            ..
        } = *self;
        if lifetime as u64 <= remain as u64 + refresh as u64 + 3600 {
            return Err(TimesError::Lifetime {
                lifetime,
                remain,
                refresh,
            });
        }
        if lifetime >= 1 << 30 {
            return Err(TimesError::TooLong(lifetime));
        }
        if refresh < 60 {
            return Err(TimesError::Refresh(refresh));
        }
        if inception_offset > 7 * 86_400 {
            return Err(TimesError::Offset(inception_offset));
        }
        Ok(())
    }

    /// Fixes the times of one job. `max_ttl`: the largest TTL in the zone.
    pub fn spread(&self, zone: ZoneId, max_ttl: u32, now: Timestamp) -> Result<Spread, TimesError> {
        self.check()?;
        // `check` has shown that nothing here wraps and that the period is at least 30 min.
        let free = self.lifetime - self.remain - self.refresh;
        let t = max_ttl.min(free / 2);
        Ok(Spread {
            zone,
            now: now.secs(),
            times: *self,
            floor: self.remain + self.refresh + t,
            period: free - t,
            ttl_capped: t < max_ttl,
        })
    }
}

/// The times of one job.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    zone: ZoneId,
    now: i64,
    times: Times,
    /// R + I + T: less than this left means due.
    floor: u32,
    /// P = L − R − I − T: one place's signatures are made once per period.
    period: u32,
    /// T stopped at its cap: caches may hold data longer than signatures are sure to last.
    pub ttl_capped: bool,
}

impl Spread {
    /// Inception of all signatures of the job.
    pub fn inception(&self) -> u32 {
        (self.now - self.times.inception_offset as i64) as u32
    }

    /// Expiration for a leaf, by its fence.
    pub fn leaf(&self, fence: u64) -> u32 {
        self.at(&fence.to_be_bytes())
    }

    /// Expiration for a block, by its first hash.
    pub fn block(&self, first: &[u8; 20]) -> u32 {
        self.at(first)
    }

    pub fn apex(&self) -> u32 {
        self.at(&[])
    }

    /// A leaf or block is due when its earliest expiration is not after this.
    pub fn due_at(&self) -> u32 {
        (self.now + self.floor as i64) as u32
    }

    /// True if a leaf or block whose earliest signature expires then is due.
    pub fn is_due(&self, min_exp: u32) -> bool {
        not_after(min_exp, self.due_at())
    }

    /// True if a refresh of its leaf makes a signature anew: it is due, or will be within an eighth
    /// of a period, and the new one would last longer.
    pub fn is_late(&self, expires: u32, renewed: u32) -> bool {
        let soon = self.due_at().wrapping_add(self.period / 8);
        self.is_due(expires) || (not_after(expires, soon) && !not_after(renewed, expires))
    }

    /// When signatures that expire at `min_exp` become due.
    pub fn next_due(&self, min_exp: u32) -> Timestamp {
        let exp = Timestamp::from_wire(min_exp, Timestamp::from_secs(self.now));
        Timestamp::from_secs(exp.secs() - self.floor as i64)
    }

    pub fn period(&self) -> u32 {
        self.period
    }

    /// The last of a place's fixed slots within the lifetime: in (now + floor, now + L].
    fn at(&self, place: &[u8]) -> u32 {
        let mut input = [0u8; 36];
        let n = 16 + place.len();
        input[..16].copy_from_slice(&self.zone.0);
        input[16..n].copy_from_slice(place);
        let phase = (xxh3_64(&input[..n]) % self.period as u64) as i64;
        let latest = self.now + self.times.lifetime as i64;
        let expiration = latest - (latest - phase).rem_euclid(self.period as i64);
        let jitter = match self.times.jitter {
            0 => 0,
            // Another seed: the same hash again would only shift all slots.
            j => (xxh3_64_with_seed(&input[..n], 1) % j as u64) as i64,
        };
        (expiration - jitter)
            .max(self.now + self.floor as i64 + 1)
            .min(latest) as u32
    }
}

/// Serial arithmetic of RRSIG times (RFC 4034 §3.1.5).
fn not_after(a: u32, b: u32) -> bool {
    b.wrapping_sub(a) as i32 >= 0
}

/// What is known about the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockGuard {
    /// When this software was built.
    pub built_at: Timestamp,
    /// Newest inception of any signature of the zone.
    pub newest_inception: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ClockUnsafe {
    #[error(
        "the clock says {now}, but signatures of this zone were made around {signed}; nothing is signed until the clock is right or confirmed"
    )]
    Behind { now: Timestamp, signed: Timestamp },
    #[error(
        "the clock says {now}, which is before this software was built ({built}); set the clock"
    )]
    BeforeBuild { now: Timestamp, built: Timestamp },
    #[error(
        "the clock says {now}, more than 20 years after this software was built; set the clock"
    )]
    FarFuture { now: Timestamp },
}

impl ClockGuard {
    pub fn check(&self, inception_offset: u32, now: Timestamp) -> Result<(), ClockUnsafe> {
        let built = self.built_at;
        if now.secs() < built.secs() - 86_400 {
            return Err(ClockUnsafe::BeforeBuild { now, built });
        }
        if now.secs() > built.secs() + 20 * 31_557_600 {
            return Err(ClockUnsafe::FarFuture { now });
        }
        if let Some(newest) = self.newest_inception {
            let signed = Timestamp::from_secs(newest.secs() + inception_offset as i64);
            if now.secs() < signed.secs() - 300 {
                return Err(ClockUnsafe::Behind { now, signed });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ZONE: ZoneId = ZoneId([3; 16]);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn policy_checks() {
        let t = Times::default();
        assert_eq!(t.check(), Ok(()));
        assert!(
            Times {
                lifetime: t.remain + t.refresh + 3600,
                ..t
            }
            .check()
            .is_err()
        );
        assert!(
            Times {
                lifetime: t.remain + t.refresh + 3601,
                ..t
            }
            .check()
            .is_ok()
        );
        assert!(
            Times {
                lifetime: 1 << 30,
                ..t
            }
            .check()
            .is_err()
        );
        assert!(Times { refresh: 59, ..t }.check().is_err());
        assert!(
            Times {
                inception_offset: 7 * 86_400 + 1,
                ..t
            }
            .check()
            .is_err()
        );
        let all = u32::MAX;
        let huge = Times {
            lifetime: all,
            remain: all,
            refresh: all,
            inception_offset: all,
            jitter: all,
        };
        assert!(huge.check().is_err());
    }

    #[test]
    fn example_of_the_defaults() {
        // T = 1 d: P = 5.5 d.
        let s = Times::default()
            .spread(ZONE, 86_400, at(1_764_000_000))
            .unwrap();
        assert_eq!(s.period(), 475_200);
        assert!(!s.ttl_capped);
        let s = Times::default()
            .spread(ZONE, u32::MAX, at(1_764_000_000))
            .unwrap();
        assert!(s.ttl_capped);
        assert_eq!(s.period(), (14 * 86_400 - 7 * 86_400 - 12 * 3600) / 2);
    }

    proptest! {
        #[test]
        fn expirations_lie_in_the_window(
            now in prop_oneof![0i64..1 << 33, Just((1 << 32) - 10), Just((1 << 32) + 10)],
            fence: u64, max_ttl in 0u32..1 << 31, jitter in prop_oneof![Just(0u32), 1u32..1 << 20],
        ) {
            let times = Times { jitter, ..Times::default() };
            let s = times.spread(ZONE, max_ttl, at(now)).unwrap();
            for exp in [s.leaf(fence), s.apex(), s.block(&[7; 20])] {
                let exp = Timestamp::from_wire(exp, at(now)).secs();
                prop_assert!(exp > now + s.floor as i64 && exp <= now + times.lifetime as i64);
                prop_assert!(at(now).secs() < s.next_due(exp as u32).secs());
            }
            // A later job within the same slot falls into step: same expiration.
            let exp = Timestamp::from_wire(s.leaf(fence), at(now)).secs();
            if jitter == 0 {
                let end = exp - times.lifetime as i64 + s.period as i64;
                for later in [now, (now + end - 1) / 2, end - 1] {
                    let again = times.spread(ZONE, max_ttl, at(later)).unwrap();
                    prop_assert_eq!(again.leaf(fence), exp as u32);
                }
            }
        }
    }

    #[test]
    fn load_is_flat_over_a_year() {
        // Leaves signed at once on day 0, refreshed when due at ticks of I. After that first
        // signing every tick must have about the same work.
        let times = Times::default();
        let tick = times.refresh as i64;
        let start = 1_764_000_000;
        let leaves: Vec<u64> = (0..20_000u64)
            .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .collect();
        let first = times.spread(ZONE, 86_400, at(start)).unwrap();
        let mut exp: Vec<i64> = leaves.iter().map(|&f| first.leaf(f) as i64).collect();
        let mut work = Vec::new();
        for n in 1..=730 {
            let now = start + n * tick;
            let s = times.spread(ZONE, 86_400, at(now)).unwrap();
            let mut due = 0usize;
            for (e, &fence) in exp.iter_mut().zip(&leaves) {
                if *e <= s.due_at() as i64 {
                    *e = s.leaf(fence) as i64;
                    due += 1;
                }
                assert!(*e > now + (times.remain + times.refresh) as i64);
            }
            work.push(due);
        }
        let mean = work.iter().sum::<usize>() as f64 / work.len() as f64;
        let max = *work.iter().max().unwrap() as f64;
        assert!(max <= 1.3 * mean, "max {max}, mean {mean}");
    }

    #[test]
    fn clock_guard() {
        let built = at(1_764_000_000);
        let g = ClockGuard {
            built_at: built,
            newest_inception: None,
        };
        assert_eq!(g.check(0, built), Ok(()));
        assert!(matches!(
            g.check(0, at(1_764_000_000 - 86_401)),
            Err(ClockUnsafe::BeforeBuild { .. })
        ));
        assert!(matches!(
            g.check(0, at(1_764_000_000 + 21 * 31_557_600)),
            Err(ClockUnsafe::FarFuture { .. })
        ));
        // Signed at +10,000 with an offset of 1 day.
        let g = ClockGuard {
            newest_inception: Some(at(1_764_010_000 - 86_400)),
            ..g
        };
        assert_eq!(g.check(86_400, at(1_764_010_000 - 300)), Ok(()));
        assert!(matches!(
            g.check(86_400, at(1_764_010_000 - 301)),
            Err(ClockUnsafe::Behind { .. })
        ));
    }
}
