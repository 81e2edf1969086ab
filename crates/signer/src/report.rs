//! The report of a job.

use std::time::Duration;

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};

/// What a job did and how long it took. Durations are in nanoseconds when serialised.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SignReport {
    pub requested_at: Timestamp,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// Unsigned records taken in.
    pub records: u64,
    #[serde(with = "nanos")]
    pub collect_time: Duration,
    #[serde(with = "nanos")]
    pub sort_time: Duration,
    /// NSEC or NSEC3 records made.
    pub denial_records: u64,
    #[serde(with = "nanos")]
    pub denial_time: Duration,
    /// RRSIGs made by zone-signing keys; those over DNSKEY, CDS and CDNSKEY are not counted.
    pub signatures: u64,
    #[serde(with = "nanos")]
    pub sign_time: Duration,
    #[serde(with = "nanos")]
    pub insert_time: Duration,
    #[serde(with = "nanos")]
    pub total_time: Duration,
    /// Threads that really signed.
    pub threads: u32,
    pub action: String,
    pub scope: String,
    pub reasons: Vec<String>,
    /// Signatures taken over from the previous version, and removed with it.
    pub kept: u64,
    pub dropped: u64,
    pub keys: Vec<KeyReport>,
    pub min_exp: Option<Timestamp>,
    pub next_due: Option<Timestamp>,
}

/// What one key did in a job.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct KeyReport {
    pub slot: u8,
    /// 26 characters.
    pub id: String,
    pub algorithm: u8,
    pub tag: u16,
    pub signatures: u64,
    /// Batches that had to be signed again because a signature did not verify.
    pub retries: u64,
    /// Time the job spent waiting for its token.
    #[serde(with = "nanos")]
    pub queue_wait: Duration,
}

/// Count per whole second, or the count itself below one second.
pub fn rate(count: u64, time: Duration) -> u64 {
    match time.as_secs() {
        0 => count,
        s => count / s,
    }
}

impl SignReport {
    /// Of a job in which nothing was signed: `took` from `started_at` on.
    pub(crate) fn without_signing(
        requested_at: Timestamp,
        started_at: Timestamp,
        took: Duration,
        records: u64,
        scope: &str,
    ) -> SignReport {
        SignReport {
            requested_at,
            started_at,
            finished_at: started_at + took,
            records,
            collect_time: took,
            sort_time: Duration::ZERO,
            denial_records: 0,
            denial_time: Duration::ZERO,
            signatures: 0,
            sign_time: Duration::ZERO,
            insert_time: Duration::ZERO,
            total_time: took,
            threads: 1,
            action: "finished".to_owned(),
            scope: scope.to_owned(),
            reasons: Vec::new(),
            kept: 0,
            dropped: 0,
            keys: Vec::new(),
            min_exp: None,
            next_due: None,
        }
    }

    pub fn signatures_per_second(&self) -> u64 {
        rate(self.signatures, self.sign_time)
    }
}

mod nanos {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_never_divide_by_zero() {
        assert_eq!(rate(5, Duration::ZERO), 5);
        assert_eq!(rate(5, Duration::from_millis(999)), 5);
        assert_eq!(rate(100, Duration::from_millis(2999)), 50);
    }
}
