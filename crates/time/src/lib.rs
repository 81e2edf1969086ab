//! Points in time, spans as operators write them, and clocks as arguments.
//!
//! Nothing here reads a clock: a program implements [`Clock`] once, everything else takes a
//! [`Timestamp`] as an argument.

mod span;

pub use span::{SpanError, format_span, parse_span};

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
///
/// Covers the years 1678 to 2262, which contains every time a DNSSEC signature can name around
/// the present (RFC 4034 §3.1.5 uses 32-bit seconds in serial arithmetic).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

const NANOS: i64 = 1_000_000_000;

impl Timestamp {
    pub const EPOCH: Timestamp = Timestamp(0);

    /// From whole seconds since 1970; saturates at the ends of the range.
    pub const fn from_secs(secs: i64) -> Self {
        Timestamp(secs.saturating_mul(NANOS))
    }

    pub const fn from_nanos(nanos: i64) -> Self {
        Timestamp(nanos)
    }

    /// Whole seconds since 1970, rounded towards the past.
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(NANOS)
    }

    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// The value as RRSIG fields carry it: seconds modulo 2^32 (RFC 4034 §3.1.5).
    pub const fn to_wire(self) -> u32 {
        self.secs() as u32
    }

    /// The point nearest to `around` whose [`to_wire`](Self::to_wire) is `wire` (RFC 1982).
    pub const fn from_wire(wire: u32, around: Timestamp) -> Self {
        let delta = wire.wrapping_sub(around.to_wire()) as i32;
        Timestamp::from_secs(around.secs() + delta as i64)
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0).max(0) as u64)
    }

    /// Signed seconds from `self` until `later`, negative when it has passed.
    pub const fn secs_until(self, later: Timestamp) -> i64 {
        later.0.saturating_sub(self.0).div_euclid(NANOS)
    }

    pub fn saturating_add(self, span: Duration) -> Self {
        Timestamp(
            self.0
                .saturating_add(span.as_nanos().min(i64::MAX as u128) as i64),
        )
    }

    pub fn saturating_sub(self, span: Duration) -> Self {
        Timestamp(
            self.0
                .saturating_sub(span.as_nanos().min(i64::MAX as u128) as i64),
        )
    }

    /// `YYYYMMDD` in UTC, for date serials and key file times.
    pub fn date(self) -> (i16, i8, i8) {
        let d = self.civil().date();
        (d.year(), d.month(), d.day())
    }

    /// `YYYYMMDDHHmmSS` in UTC, the form of RRSIG presentation (RFC 4034 §3.2) and key files.
    pub fn to_dns(self) -> String {
        self.civil().strftime("%Y%m%d%H%M%S").to_string()
    }

    /// Parses `YYYYMMDDHHmmSS` (UTC).
    pub fn parse_dns(text: &str) -> Option<Self> {
        if text.len() != 14 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let dt = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
        let ts = jiff::tz::TimeZone::UTC.to_timestamp(dt).ok()?;
        Some(Timestamp::from_secs(ts.as_second()))
    }

    /// `2025-11-22T14:42:20+00:00`: the form for people, whole seconds.
    pub fn to_human(self) -> String {
        self.civil().strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
    }

    /// RFC 3339 with `Z`; fractional seconds only when there are any.
    pub fn to_rfc3339(self) -> String {
        self.jiff().to_string()
    }

    /// Parses RFC 3339 with any offset.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let ts: jiff::Timestamp = text.parse().ok()?;
        i64::try_from(ts.as_nanosecond()).ok().map(Timestamp)
    }

    fn jiff(self) -> jiff::Timestamp {
        // The range of i64 nanoseconds lies within jiff's range of years.
        jiff::Timestamp::from_nanosecond(self.0 as i128).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    fn civil(self) -> jiff::civil::DateTime {
        jiff::tz::TimeZone::UTC.to_datetime(self.jiff())
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, span: Duration) -> Timestamp {
        self.saturating_add(span)
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;
    fn sub(self, span: Duration) -> Timestamp {
        self.saturating_sub(span)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({self})")
    }
}

/// RFC 3339 with `Z`, as every JSON time of the control API.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Timestamp::parse_rfc3339(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("'{text}' is not an RFC 3339 time")))
    }
}

/// Where a program gets its time from.
pub trait Clock: Send + Sync {
    /// Wall-clock time.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary start; never goes back. For measuring and rate limits.
    fn monotonic(&self) -> Duration;
    /// Wall-clock time, and at the same moment the time that has passed since an arbitrary start, with
    /// that in which the machine slept. Against it steps of the wall clock show.
    fn both(&self) -> (Timestamp, Duration) {
        (self.now(), self.monotonic())
    }
    /// Whether a time service steers the wall clock, as far as the kernel knows; `None`: it does not
    /// say. A clock that only its owner moves is right.
    fn synchronised(&self) -> Option<bool> {
        Some(true)
    }
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct SimClock {
    start: i64,
    now: AtomicI64,
}

impl SimClock {
    pub fn new(start: Timestamp) -> Self {
        SimClock {
            start: start.0,
            now: AtomicI64::new(start.0),
        }
    }

    /// Moves the clock forward.
    pub fn advance(&self, span: Duration) {
        self.now.fetch_add(span.as_nanos() as i64, Ordering::SeqCst);
    }

    /// Moves the clock to `at`; a time in its past is ignored.
    pub fn advance_to(&self, at: Timestamp) {
        self.now.fetch_max(at.0, Ordering::SeqCst);
    }

    /// Sets the wall clock even backwards: for tests that are about steps and drift.
    pub fn step_to(&self, at: Timestamp) {
        self.now.store(at.0, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }
    fn monotonic(&self) -> Duration {
        Duration::from_nanos((self.now.load(Ordering::SeqCst) - self.start).max(0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let t = Timestamp::from_secs(1_763_822_540);
        assert_eq!(t.to_human(), "2025-11-22T14:42:20+00:00");
        assert_eq!(t.to_rfc3339(), "2025-11-22T14:42:20Z");
        assert_eq!(t.to_dns(), "20251122144220");
        assert_eq!(Timestamp::parse_dns("20251122144220"), Some(t));
        assert_eq!(
            Timestamp::parse_rfc3339("2025-11-22T15:42:20+01:00"),
            Some(t)
        );
        assert_eq!(Timestamp::parse_dns("20251322144220"), None);
        assert_eq!(t.date(), (2025, 11, 22));
    }

    #[test]
    fn wire_times_wrap() {
        // 2106-02-07T06:28:16Z is 2^32; a signature around it must still compare (RFC 1982).
        let t = Timestamp::from_secs((1 << 32) + 5);
        assert_eq!(t.to_wire(), 5);
        assert_eq!(Timestamp::from_wire(u32::MAX, t).secs(), (1 << 32) - 1);
        assert_eq!(Timestamp::from_wire(9, t).secs(), (1 << 32) + 9);
    }

    #[test]
    fn sim_clock_never_goes_back_by_itself() {
        let c = SimClock::new(Timestamp::from_secs(100));
        c.advance(Duration::from_secs(5));
        c.advance_to(Timestamp::from_secs(50));
        assert_eq!(c.now(), Timestamp::from_secs(105));
        assert_eq!(c.monotonic(), Duration::from_secs(5));
    }
}
