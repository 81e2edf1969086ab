//! What the gate has to say: checks by number, findings, the report.

use std::fmt;

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::EngineCounts;
use crate::rdata::t;
use crate::wire;

/// Findings kept in a report; all are counted.
pub const FINDINGS_KEPT: usize = 1000;

macro_rules! checks {
    ($($name:ident $text:literal),* $(,)?) => {
        /// The checks of the gate.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Check { $($name),* }
        impl Check {
            pub const ALL: &'static [Check] = &[$(Check::$name),*];
            /// What the check demands, in one line.
            pub fn demand(self) -> &'static str {
                match self { $(Check::$name => $text),* }
            }
        }
    };
}

checks! {
    V01 "records decode, lie in the zone, and there is one SOA, at the apex",
    V02 "an RRset has one TTL and no duplicates",
    V03 "every RRSIG verifies with the DNSKEY it names",
    V04 "the fields of an RRSIG fit its RRset, its key and the zone",
    V05 "signatures are valid now, long enough, and not too long",
    V06 "every authoritative RRset is signed with each algorithm of the DNSKEY RRset",
    V07 "nothing is signed that must not be, and by no unknown key",
    V08 "the DNSKEY RRset is well formed and holds exactly the keys of the key store",
    V09 "the DNSKEY RRset is signed by the keys that the parent's DS RRset names",
    V10 "CDS and CDNSKEY agree with each other and with the keys",
    V11 "the SOA serial is newer than any served before",
    V12 "the NSEC chain is complete and closed",
    V13 "NSEC type bitmaps are right",
    V14 "the NSEC3 chain is complete and closed",
    V15 "NSEC3 type bitmaps are right",
    V16 "delegations left out by opt-out are insecure and covered",
    V17 "denial TTL and parameters are those of the SOA and the policy",
    V18 "one kind of denial, and NSEC3PARAM only with a chain",
    V19 "the content is the approved content",
    V20 "the ZONEMD digest is right",
    V21 "the delta leads from the predecessor to the candidate",
    V22 "the counts agree",
    V23 "sample answers validate",
    V24 "the earliest expiration of the zone is far enough away",
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Refusal,
    Warning,
}

/// One thing found, about one owner and type where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub check: Check,
    pub severity: Severity,
    /// Presentation form; empty when the finding is about the zone as a whole.
    pub owner: String,
    pub rtype: Option<String>,
    pub detail: String,
    pub expected: Option<String>,
    pub found: Option<String>,
}

impl Finding {
    /// A refusal about the zone as a whole.
    pub(crate) fn zone(check: Check, detail: impl Into<String>) -> Finding {
        Finding {
            check,
            severity: Severity::Refusal,
            owner: String::new(),
            rtype: None,
            detail: detail.into(),
            expected: None,
            found: None,
        }
    }

    /// A refusal about one owner and, unless 0, one type.
    pub(crate) fn at(check: Check, owner: &[u8], rtype: u16, detail: impl Into<String>) -> Finding {
        Finding {
            owner: wire::show(owner),
            rtype: (rtype != 0).then(|| cascade_zone::Rtype(rtype).to_string()),
            ..Finding::zone(check, detail)
        }
    }

    pub(crate) fn expected(
        mut self,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Finding {
        self.expected = Some(expected.to_string());
        self.found = Some(found.to_string());
        self
    }

    pub(crate) fn warning(mut self) -> Finding {
        self.severity = Severity::Warning;
        self
    }
}

/// `V03 www.example.net. A: signature by key 31203 does not verify (expected …, found …)`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.check)?;
        if !self.owner.is_empty() {
            write!(f, " {}", self.owner)?;
        }
        if let Some(rtype) = &self.rtype {
            write!(f, " {rtype}")?;
        }
        write!(f, ": {}", self.detail)?;
        if let (Some(e), Some(g)) = (&self.expected, &self.found) {
            write!(f, " (expected {e}, found {g})")?;
        }
        if self.severity == Severity::Warning {
            write!(f, " [warning]")?;
        }
        Ok(())
    }
}

/// Collects findings up to the limit and counts all.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    pub(crate) kept: Vec<Finding>,
    pub(crate) total: u64,
    pub(crate) refusals: u64,
}

impl Sink {
    /// `make` runs only when the finding will be kept: refusing a huge broken zone stays cheap.
    pub(crate) fn push(&mut self, make: impl FnOnce() -> Finding) {
        self.total += 1;
        if self.kept.len() < FINDINGS_KEPT {
            let finding = make();
            self.refusals += (finding.severity == Severity::Refusal) as u64;
            self.kept.push(finding);
        } else {
            // Warnings are a handful per zone; what overflows is counted as a refusal, the safe way.
            self.refusals += 1;
        }
    }

    pub(crate) fn merge(&mut self, mut other: Sink) {
        self.total += other.total;
        self.refusals += other.refusals;
        other
            .kept
            .truncate(FINDINGS_KEPT - self.kept.len().min(FINDINGS_KEPT));
        self.kept.append(&mut other.kept);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Changed,
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Passed,
    PassedWithWarnings,
    Refused,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub records: u64,
    pub rrsets: u64,
    pub signatures_checked: u64,
    pub signatures_carried: u64,
    pub denial_checked: u64,
    pub affected_owners: u64,
}

/// Work done per key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCounts {
    pub tag: u16,
    pub algorithm: u8,
    /// SHA-256 of the DNSKEY RDATA, hex.
    pub sha256: String,
    pub checked: u64,
}

/// The result of one run of the gate. `zone`, `version` and `duration_ms` are for the caller to fill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    pub zone: String,
    pub version: Option<u64>,
    pub predecessor: Option<u64>,
    pub mode: Mode,
    /// `tables` when they judged any signature, else `ring`.
    pub engine: String,
    #[serde(default)]
    pub engine_counts: EngineCounts,
    pub started_at: Timestamp,
    pub duration_ms: Option<u64>,
    pub counts: Counts,
    pub keys: Vec<KeyCounts>,
    pub earliest_expiration: Option<Timestamp>,
    /// DS RRset of the parent as the run was given it, hex RDATA; `None` when it was not known.
    pub ds_seen: Option<Vec<String>>,
    pub findings: Vec<Finding>,
    pub findings_total: u64,
    pub verdict: Verdict,
}

impl VerifyReport {
    /// One line per finding.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            text.push_str(&finding.to_string());
            text.push('\n');
        }
        let unseen = self
            .findings_total
            .saturating_sub(self.findings.len() as u64);
        if unseen > 0 {
            text.push_str(&format!("and {unseen} more\n"));
        }
        text
    }

    /// True if a finding of this check is among those kept.
    pub fn has(&self, check: Check) -> bool {
        self.findings.iter().any(|f| f.check == check)
    }
}

pub(crate) fn is_denial_or_signature(rtype: u16) -> bool {
    matches!(rtype, t::RRSIG | t::NSEC | t::NSEC3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        let f = Finding::at(
            Check::V03,
            b"\x03www\x00",
            1,
            "signature by key 31203 does not verify",
        );
        assert_eq!(
            f.to_string(),
            "V03 www. A: signature by key 31203 does not verify"
        );
        let f = Finding::zone(Check::V11, "serial is not newer")
            .expected("> 5", 5)
            .warning();
        assert_eq!(
            f.to_string(),
            "V11: serial is not newer (expected > 5, found 5) [warning]"
        );
    }

    #[test]
    fn all_are_counted_and_a_thousand_kept() {
        let mut sink = Sink::default();
        for _ in 0..1500 {
            sink.push(|| Finding::zone(Check::V01, "x"));
        }
        let mut other = Sink::default();
        other.push(|| Finding::zone(Check::V01, "x"));
        sink.merge(other);
        assert_eq!(
            (sink.kept.len(), sink.total, sink.refusals),
            (1000, 1501, 1501)
        );
    }
}
