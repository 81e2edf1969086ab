//! The next SOA serial: a pure function of policy, history and time.

use cascade_time::Timestamp;
use cascade_zone::Serial;
use thiserror::Error;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SerialPolicy {
    /// Count by one.
    Counter,
    /// Seconds since 1970.
    UnixTime,
    /// YYYYMMDDnn in UTC.
    DateCounter,
    /// The unsigned serial.
    Keep,
}

/// What happens under `keep` when signatures must be renewed but the content has not changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KeepRefresh {
    /// Nothing is signed; the operator is told how long the signatures last.
    Hold,
    /// Count on; later content needs a serial beyond.
    #[default]
    Bump,
}

/// Why a version is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Occasion {
    /// Content changed.
    Content,
    /// Only signatures, keys or denial changed, or content was rolled back.
    Upkeep,
}

/// All that decides about a serial.
#[derive(Clone, Copy, Debug)]
pub struct SerialInput<'a> {
    pub policy: SerialPolicy,
    pub keep_refresh: KeepRefresh,
    pub occasion: Occasion,
    /// Highest serial ever shown for this zone by any server of ours, or seen at secondaries.
    pub prev: Option<Serial>,
    /// No version of the zone has been published yet.
    pub first: bool,
    /// Serial of the unsigned version.
    pub unsigned: Serial,
    /// Set by the operator.
    pub requested: Option<Serial>,
    /// Serials that IXFR answers may start from.
    pub history: &'a [Serial],
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chosen {
    pub serial: Serial,
    pub note: Option<SerialNote>,
}

/// What an operator should know about the choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SerialNote {
    #[error("more than 100 versions today: serials run into the numbers of the next day")]
    RunsIntoNextDay,
    #[error(
        "the previous serial {0} is more than two days ahead of today's date; serials count by one until the date catches up"
    )]
    FarAhead(Serial),
    #[error("the previous serial {prev} is no date and is larger than today's; serials count by one. To go down: 'zone resign --serial {}', wait for all secondaries, then 'zone resign --serial {today}'", half_way(*.prev))]
    NoDate { prev: Serial, today: Serial },
    #[error(
        "signatures were renewed under serial policy 'keep': the next content needs a serial above {0}"
    )]
    Bumped(Serial),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SerialError {
    #[error(
        "serial policy 'keep' needs a larger serial: the source has {unsigned}, {prev} has been served already (RFC 1982). Raise the serial in the source"
    )]
    KeepNotNewer { unsigned: Serial, prev: Serial },
    #[error(
        "serial policy 'keep' with serial-keep-refresh = \"hold\": signatures cannot be renewed under serial {0}. Raise the serial in the source or set \"bump\""
    )]
    Hold(Serial),
    #[error("serial {requested} is not larger than {prev}, which has been served (RFC 1982). To go down use two steps, first {}", half_way(*.prev))]
    RequestedNotNewer { requested: Serial, prev: Serial },
    #[error(
        "serial {serial} is not larger than {old}, from which IXFR is still offered; drop the zone's older history first"
    )]
    History { serial: Serial, old: Serial },
}

/// The farthest serial that still counts as larger (RFC 1982 §3.2).
fn half_way(prev: Serial) -> Serial {
    let s = Serial(prev.0.wrapping_add((1 << 31) - 1));
    if s.0 == 0 {
        Serial(prev.0.wrapping_add((1 << 31) - 2))
    } else {
        s
    }
}

/// Chooses the next serial: larger than every serial that anybody may have seen.
pub fn next_serial(input: &SerialInput<'_>, now: Timestamp) -> Result<Chosen, SerialError> {
    let chosen = match input.requested {
        Some(requested) => requested_serial(requested, input.prev)?,
        None => match input.policy {
            SerialPolicy::Counter => plain(counter(input)),
            SerialPolicy::UnixTime => plain(not_below(Serial(now.to_wire()), input.prev)),
            SerialPolicy::DateCounter => date_counter(input.prev, now),
            SerialPolicy::Keep => keep(input)?,
        },
    };
    match input
        .history
        .iter()
        .find(|old| !chosen.serial.newer_than(**old))
    {
        Some(&old) => Err(SerialError::History {
            serial: chosen.serial,
            old,
        }),
        None => Ok(chosen),
    }
}

fn plain(serial: Serial) -> Chosen {
    Chosen { serial, note: None }
}

/// s + 1 modulo 2^32; 0 is skipped, because some software takes it for "none".
fn inc(s: Serial) -> Serial {
    match s.next() {
        Serial(0) => Serial(1),
        s => s,
    }
}

/// `candidate` if it is larger than what was served and not 0, else one more than that.
fn not_below(candidate: Serial, prev: Option<Serial>) -> Serial {
    match prev {
        Some(prev) if candidate.0 == 0 || !candidate.newer_than(prev) => inc(prev),
        None if candidate.0 == 0 => Serial(1),
        _ => candidate,
    }
}

fn requested_serial(requested: Serial, prev: Option<Serial>) -> Result<Chosen, SerialError> {
    match prev {
        Some(prev) if !requested.newer_than(prev) => {
            Err(SerialError::RequestedNotNewer { requested, prev })
        }
        _ => Ok(plain(requested)),
    }
}

fn counter(input: &SerialInput<'_>) -> Serial {
    match input.prev {
        Some(prev) if input.first && input.unsigned.newer_than(prev) => {
            not_below(inc(input.unsigned), Some(prev))
        }
        Some(prev) => inc(prev),
        None => inc(input.unsigned),
    }
}

fn keep(input: &SerialInput<'_>) -> Result<Chosen, SerialError> {
    let unsigned = input.unsigned;
    let Some(prev) = input.prev else {
        return Ok(plain(unsigned));
    };
    if unsigned.newer_than(prev) {
        return Ok(plain(unsigned));
    }
    match (input.occasion, input.keep_refresh) {
        (Occasion::Content, _) => Err(SerialError::KeepNotNewer { unsigned, prev }),
        (Occasion::Upkeep, KeepRefresh::Hold) => Err(SerialError::Hold(prev)),
        (Occasion::Upkeep, KeepRefresh::Bump) => {
            let serial = inc(prev);
            Ok(Chosen {
                serial,
                note: Some(SerialNote::Bumped(serial)),
            })
        }
    }
}

fn date_counter(prev: Option<Serial>, now: Timestamp) -> Chosen {
    let (y, m, d) = now.date();
    let today = (y as u32).wrapping_mul(1_000_000) + m as u32 * 10_000 + d as u32 * 100;
    let serial = not_below(Serial(today), prev);
    let Some(prev) = prev.filter(|_| serial.0 != today) else {
        return plain(serial);
    };
    let note = match day_of(prev) {
        None => Some(SerialNote::NoDate {
            prev,
            today: Serial(today),
        }),
        Some(day) => match day - now.secs().div_euclid(86_400) {
            // Said once for each hundred: a zone of many changes would say nothing else.
            0..=2 => (prev.0 % 100 == 99).then_some(SerialNote::RunsIntoNextDay),
            _ => Some(SerialNote::FarAhead(prev)),
        },
    };
    Chosen { serial, note }
}

/// Days since 1970 of a YYYYMMDDnn serial, or `None` if it is no date of 1970 to 2199.
fn day_of(serial: Serial) -> Option<i64> {
    let date = serial.0 / 100;
    if !(19_700_101..22_000_000).contains(&date) {
        return None;
    }
    let t = Timestamp::parse_dns(&format!("{date:08}000000"))?;
    Some(t.secs().div_euclid(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EDGES: [u32; 8] = [
        0,
        1,
        (1 << 31) - 2,
        (1 << 31) - 1,
        1 << 31,
        (1 << 31) + 1,
        u32::MAX - 1,
        u32::MAX,
    ];

    // 2025-11-24T16:00:00Z
    fn now() -> Timestamp {
        Timestamp::from_secs(1_764_000_000)
    }

    fn input(policy: SerialPolicy, prev: Option<u32>, unsigned: u32) -> SerialInput<'static> {
        SerialInput {
            policy,
            keep_refresh: KeepRefresh::Bump,
            occasion: Occasion::Content,
            prev: prev.map(Serial),
            first: prev.is_none(),
            unsigned: Serial(unsigned),
            requested: None,
            history: &[],
        }
    }

    fn next(policy: SerialPolicy, prev: Option<u32>, unsigned: u32) -> u32 {
        next_serial(&input(policy, prev, unsigned), now())
            .unwrap()
            .serial
            .0
    }

    #[test]
    fn counter_row() {
        use SerialPolicy::Counter;
        assert_eq!(next(Counter, None, 7), 8);
        assert_eq!(
            next(Counter, Some(20), 7),
            21,
            "input serials are ignored later"
        );
        assert_eq!(next(Counter, Some(20), 4_000), 21);
        assert_eq!(next(Counter, Some(u32::MAX), 7), 1, "0 is skipped");
        assert_eq!(next(Counter, None, u32::MAX), 1);
        for p in EDGES {
            assert_eq!(
                next(Counter, Some(p), 0),
                if p == u32::MAX { 1 } else { p + 1 }
            );
        }
        // First version, but secondaries have shown 100 already.
        let first = |prev, unsigned| {
            let i = SerialInput {
                first: true,
                ..input(Counter, Some(prev), unsigned)
            };
            next_serial(&i, now()).unwrap().serial.0
        };
        assert_eq!(first(100, 200), 201);
        assert_eq!(first(100, 50), 101);
        assert_eq!(first(100, 100 + (1 << 31)), 101, "undefined distance");
        assert_eq!(
            first(100, 99 + (1 << 31)),
            101,
            "one more would be undefined"
        );
        assert_eq!(first(u32::MAX, 5), 6, "around the wrap");
    }

    #[test]
    fn unix_time_row() {
        use SerialPolicy::UnixTime;
        let t = now().to_wire();
        assert_eq!(next(UnixTime, None, 9), t);
        assert_eq!(next(UnixTime, Some(t - 1), 9), t);
        assert_eq!(
            next(UnixTime, Some(t), 9),
            t + 1,
            "two versions in one second"
        );
        assert_eq!(
            next(UnixTime, Some(t + 500), 9),
            t + 501,
            "ahead of the clock"
        );
        assert_eq!(
            next(UnixTime, Some(t.wrapping_add(1 << 31)), 9),
            t.wrapping_add(1 << 31) + 1
        );
        let wrap = Timestamp::from_secs(1 << 32);
        let i = input(UnixTime, Some(u32::MAX - 1), 9);
        assert_eq!(next_serial(&i, wrap).unwrap().serial, Serial(u32::MAX));
        let i = input(UnixTime, None, 9);
        assert_eq!(next_serial(&i, wrap).unwrap().serial, Serial(1));
    }

    #[test]
    fn date_counter_row() {
        use SerialPolicy::DateCounter;
        let today = 2_025_112_400;
        let chosen = |prev: u32| next_serial(&input(DateCounter, Some(prev), 9), now()).unwrap();
        assert_eq!(next(DateCounter, None, 9), today);
        assert_eq!(chosen(today - 1), plain(Serial(today)));
        assert_eq!(chosen(1), plain(Serial(today)));
        assert_eq!(chosen(today), plain(Serial(today + 1)));
        assert_eq!(chosen(today + 98), plain(Serial(today + 99)));
        let full = chosen(today + 99);
        assert_eq!(
            (full.serial.0, full.note),
            (today + 100, Some(SerialNote::RunsIntoNextDay))
        );
        assert_eq!(chosen(today + 199).note, Some(SerialNote::RunsIntoNextDay));
        assert_eq!(chosen(today + 250).note, None);
        let ahead = chosen(today + 350);
        assert_eq!(
            (ahead.serial.0, ahead.note),
            (today + 351, Some(SerialNote::FarAhead(Serial(today + 350))))
        );
        // The next month: 2025-12-02 is 8 days on, though only 80 numbers of hundred away.
        assert!(matches!(
            chosen(2_025_120_200).note,
            Some(SerialNote::FarAhead(_))
        ));
        let odd = chosen(2_100_999_999);
        assert_eq!(odd.serial.0, 2_101_000_000);
        let text = odd.note.unwrap().to_string();
        assert!(text.contains("--serial 4248483646"), "{text}");
        // A unix-time serial of today is smaller than today's date.
        assert_eq!(chosen(now().to_wire()), plain(Serial(today)));
    }

    #[test]
    fn keep_row() {
        use SerialPolicy::Keep;
        assert_eq!(next(Keep, None, 9), 9);
        assert_eq!(next(Keep, Some(8), 9), 9);
        assert_eq!(next(Keep, Some(u32::MAX), 3), 3);
        for s in [9, 8, 9 + (1 << 31)] {
            let i = input(Keep, Some(9), s);
            let refused = SerialError::KeepNotNewer {
                unsigned: Serial(s),
                prev: Serial(9),
            };
            assert_eq!(next_serial(&i, now()), Err(refused));
            let upkeep = SerialInput {
                occasion: Occasion::Upkeep,
                ..i
            };
            let bumped = next_serial(&upkeep, now()).unwrap();
            assert_eq!(
                (bumped.serial.0, bumped.note),
                (10, Some(SerialNote::Bumped(Serial(10))))
            );
            let hold = SerialInput {
                keep_refresh: KeepRefresh::Hold,
                ..upkeep
            };
            assert_eq!(next_serial(&hold, now()), Err(SerialError::Hold(Serial(9))));
        }
    }

    #[test]
    fn requested_and_two_steps_down() {
        let want = |n, prev| {
            let i = input(SerialPolicy::Counter, Some(prev), 1);
            next_serial(
                &SerialInput {
                    requested: Some(Serial(n)),
                    ..i
                },
                now(),
            )
            .map(|c| c.serial.0)
        };
        assert_eq!(want(10, 9), Ok(10));
        assert!(want(9, 9).is_err() && want(8, 9).is_err());
        assert!(want(9u32.wrapping_add(1 << 31), 9).is_err());
        let step = half_way(Serial(2_000_000_000));
        assert!(want(100, 2_000_000_000).is_err());
        assert_eq!(want(step.0, 2_000_000_000), Ok(step.0));
        assert_eq!(want(100, step.0), Ok(100));
        assert_ne!(half_way(Serial((1 << 31) + 1)).0, 0);
    }

    #[test]
    fn history_must_lie_behind() {
        let old = [Serial(5), Serial(3_000_000_000)];
        let i = SerialInput {
            history: &old,
            ..input(SerialPolicy::Counter, Some(3_000_000_000), 1)
        };
        let refused = SerialError::History {
            serial: Serial(3_000_000_001),
            old: Serial(5),
        };
        assert_eq!(next_serial(&i, now()), Err(refused));
    }

    proptest! {
        #[test]
        fn always_larger_and_never_zero(
            prev in prop_oneof![any::<u32>(), prop::sample::select(&EDGES[..])],
            unsigned in prop_oneof![any::<u32>(), prop::sample::select(&EDGES[..])],
            secs in prop_oneof![Just(0i64), 1_700_000_000i64..5_000_000_000],
            policy in prop::sample::select(&[SerialPolicy::Counter, SerialPolicy::UnixTime, SerialPolicy::DateCounter][..]),
            first: bool,
        ) {
            let i = SerialInput { first, ..input(policy, Some(prev), unsigned) };
            let c = next_serial(&i, Timestamp::from_secs(secs)).unwrap();
            prop_assert!(c.serial.newer_than(Serial(prev)));
            prop_assert_ne!(c.serial.0, 0);
            if let Some(note) = c.note { let _ = note.to_string(); }
        }
    }
}
