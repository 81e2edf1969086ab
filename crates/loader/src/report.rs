//! What a load did, for people and for the API.

use std::collections::BTreeMap;
use std::time::Duration;

use cascade_time::Timestamp;
use cascade_zone::DiffStats;
use serde::{Deserialize, Serialize};

use crate::diag::Diagnostics;

/// How a load ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadResult {
    Loaded,
    Unchanged,
    #[default]
    Failed,
}

/// The report of one load.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LoadReport {
    /// What asked for it: start, add, reload, …
    pub trigger: String,
    /// Path of the main file, or the primary with its port and key.
    pub source: String,
    /// `file`, `AXFR`, `IXFR (n sequences)`.
    pub kind: String,
    pub result: LoadResult,
    /// Why nothing was loaded, in one sentence, when no diagnostic says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub started: Timestamp,
    pub finished: Timestamp,
    pub stages: Stages,
    /// Octets of all files, or of all messages of a transfer.
    pub octets: u64,
    pub files: u64,
    #[serde(default)]
    pub messages: u64,
    /// Records in the input, before anything was dropped.
    pub records_received: u64,
    /// In the version.
    pub records: u64,
    pub owners: u64,
    pub cuts: u64,
    pub secure_cuts: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stripped: BTreeMap<String, u64>,
    pub serial_old: Option<u32>,
    pub serial_new: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<Delta>,
    pub diagnostics: Diagnostics,
    /// What was asked of primaries before this came of it, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// ZONEMD of the input: `absent`, `verified …`, `failed`, or `skipped` (not asked for, or of
    /// an unknown kind).
    pub zonemd: String,
}

/// One question to a primary, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attempt {
    /// Address, port and key.
    pub primary: String,
    /// `SOA`, `IXFR`, `AXFR`.
    pub step: String,
    pub result: String,
    pub millis: u64,
}

/// Microseconds that each stage took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stages {
    pub read: u64,
    pub split: u64,
    pub parse: u64,
    /// Sort, build and the checks of single owners.
    pub build: u64,
    /// Checks across owners.
    pub check: u64,
    pub compare: u64,
}

/// Difference to the current version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Delta {
    pub owners_added: u64,
    pub owners_removed: u64,
    pub owners_changed: u64,
    pub records_added: u64,
    pub records_removed: u64,
    pub leaves: u64,
    /// Leaves that are the current version's own.
    pub leaves_reused: u64,
}

impl Delta {
    pub fn new(stats: &DiffStats, leaves: u64, leaves_reused: u64) -> Delta {
        Delta {
            owners_added: stats.owners_added,
            owners_removed: stats.owners_removed,
            owners_changed: stats.owners_changed,
            records_added: stats.records_added,
            records_removed: stats.records_removed,
            leaves,
            leaves_reused,
        }
    }
}

impl LoadReport {
    /// The status line: `Loaded 196 B and 3 records from the filesystem in 0 seconds`, or
    /// `Fetched … from the network …`.
    pub fn summary(&self) -> String {
        let secs = self.finished.since(self.started).as_secs();
        let plural = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let (did, place) = match self.kind.as_str() {
            "file" | "" => ("Loaded", "filesystem"),
            _ => ("Fetched", "network"),
        };
        format!(
            "{did} {} and {} from the {place} in {}",
            size(self.octets),
            plural(self.records, "record"),
            plural(secs, "second")
        )
    }
}

/// Octets with binary units, one decimal above bytes.
fn size(octets: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if octets < 1024 {
        return format!("{octets} B");
    }
    let mut v = octets as f64 / 1024.0;
    let mut unit = 0;
    while v >= 1024.0 && unit + 1 < UNITS.len() {
        v /= 1024.0;
        unit += 1;
    }
    format!("{v:.1} {}", UNITS[unit])
}

pub(crate) fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_line() {
        let r = LoadReport {
            octets: 196,
            records: 3,
            ..Default::default()
        };
        assert_eq!(
            r.summary(),
            "Loaded 196 B and 3 records from the filesystem in 0 seconds"
        );
        let fetched = LoadReport {
            kind: "AXFR".into(),
            ..r
        };
        assert_eq!(
            fetched.summary(),
            "Fetched 196 B and 3 records from the network in 0 seconds"
        );
        assert_eq!(size(1536), "1.5 KiB");
    }
}
