//! The change guard: how much of a zone changed, and whether a person should look first.
//!
//! Pure: counts in, outcome and report out. Counting is the store's, thresholds are the policy's.

use serde::{Deserialize, Serialize};

use crate::event::GuardOutcome;

/// A change of one kind of thing against a baseline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// How many the baseline has.
    pub before: u64,
    pub added: u64,
    pub removed: u64,
    pub changed: u64,
}

/// What the new content does to one baseline: live, or what was live a day or a week ago.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardInput {
    /// "live", "24 h ago"; for the report.
    pub baseline: String,
    pub delegations: Delta,
    pub ds: Delta,
    pub owners: Delta,
    pub records: Delta,
    pub octets_before: u64,
    pub octets_after: u64,
    pub rrsets_before: u64,
    pub ttl_changed: u64,
    pub apex_ns_changed: bool,
    pub apex_ns_disjoint: bool,
    pub mname_changed: bool,
    /// EXPIRE and MINIMUM, before and after.
    pub expire: (u32, u32),
    pub minimum: (u32, u32),
    pub apex_glue_lost: bool,
    pub wildcard_added: bool,
    /// Only SOA and NS are left, and there was more.
    pub emptied: bool,
    /// Serial policy `keep` and the serial is not greater.
    pub serial_not_greater: bool,
    /// The first owners that each kind of change touches, for the report.
    pub samples: Vec<(Measure, Vec<String>)>,
}

macro_rules! measures {
    ($($m:ident $key:literal;)*) => {
        /// Named as in the policy.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Measure { $($m,)* }

        impl Measure {
            pub const ALL: &'static [Measure] = &[$(Measure::$m,)*];

            pub fn key(self) -> &'static str {
                match self { $(Measure::$m => $key,)* }
            }

            pub fn from_key(key: &str) -> Option<Measure> {
                match key { $($key => Some(Measure::$m),)* _ => None }
            }
        }
    };
}

measures! {
    DelegationsRemoved "delegations-removed";
    DelegationsChanged "delegations-changed";
    DsRemoved "ds-removed";
    DsChanged "ds-changed";
    OwnersRemoved "owners-removed";
    RecordsRemoved "records-removed";
    RecordsAdded "records-added";
    Size "size";
    TtlChanged "ttl-changed";
    ApexNs "apex-ns";
    ApexNsDisjoint "apex-ns-disjoint";
    SoaMname "soa-mname";
    SoaTimers "soa-timers";
    ApexNsGlueLost "apex-ns-glue-lost";
    WildcardAdded "wildcard-added";
    Empty "empty";
    SerialKeep "serial-keep";
}

/// When one measure speaks up. Shares are in hundredths of a percent of the baseline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub warn: Option<u64>,
    pub hold: Option<u64>,
    pub reject: Option<u64>,
    /// Nothing is said about this many or fewer.
    pub floor: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    table: Vec<(Measure, Rule)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardReport {
    pub outcome: GuardOutcome,
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub measure: Measure,
    pub outcome: Level,
    pub baseline: String,
    pub before: u64,
    pub count: u64,
    /// At most 50.
    pub owners: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    Warn,
    Hold,
    Reject,
}

/// Owners listed per finding.
const MAX_OWNERS: usize = 50;

const fn percent(n: u64) -> u64 {
    n * 100
}

impl Default for Rules {
    /// The table of the verifier's specification, §10.
    fn default() -> Self {
        let rule = |warn: u64, hold: Option<u64>, floor| Rule {
            warn: Some(percent(warn)),
            hold: hold.map(percent),
            reject: None,
            floor,
        };
        let warn = Rule {
            warn: Some(0),
            ..Rule::default()
        };
        let hold = Rule {
            hold: Some(0),
            ..Rule::default()
        };
        let reject = Rule {
            reject: Some(0),
            ..Rule::default()
        };
        let table = Measure::ALL
            .iter()
            .map(|&m| {
                let r = match m {
                    Measure::DelegationsRemoved => rule(1, Some(5), 50),
                    Measure::DelegationsChanged => rule(5, Some(20), 50),
                    Measure::DsRemoved => rule(1, Some(5), 20),
                    Measure::DsChanged => rule(5, Some(20), 20),
                    Measure::OwnersRemoved => rule(5, Some(20), 50),
                    Measure::RecordsRemoved => rule(5, Some(20), 100),
                    Measure::RecordsAdded => rule(50, Some(200), 1000),
                    Measure::Size => rule(20, Some(50), 64 << 10),
                    Measure::TtlChanged => rule(20, None, 100),
                    Measure::ApexNs
                    | Measure::SoaMname
                    | Measure::SoaTimers
                    | Measure::WildcardAdded => warn,
                    Measure::ApexNsDisjoint | Measure::ApexNsGlueLost | Measure::Empty => hold,
                    Measure::SerialKeep => reject,
                };
                (m, r)
            })
            .collect();
        Rules { table }
    }
}

impl Rules {
    /// Replaces the rule of one measure; `None` turns it off.
    pub fn set(&mut self, measure: Measure, rule: Option<Rule>) {
        self.table.retain(|(m, _)| *m != measure);
        self.table.extend(rule.map(|r| (measure, r)));
    }

    /// Judges content against its baselines: the worst outcome counts. No baseline (the first
    /// version of a zone) passes.
    pub fn judge(&self, inputs: &[GuardInput]) -> GuardReport {
        let mut findings = Vec::new();
        for input in inputs {
            for (measure, rule) in &self.table {
                let (before, count) = input.measure(*measure);
                if let Some(outcome) = rule.judge(before, count) {
                    let owners = input
                        .samples
                        .iter()
                        .filter(|(m, _)| m == measure)
                        .flat_map(|(_, o)| o.iter().cloned())
                        .take(MAX_OWNERS)
                        .collect();
                    let baseline = input.baseline.clone();
                    let measure = *measure;
                    findings.push(Finding {
                        measure,
                        outcome,
                        baseline,
                        before,
                        count,
                        owners,
                    });
                }
            }
        }
        findings.sort_by(|a, b| b.outcome.cmp(&a.outcome).then(a.measure.cmp(&b.measure)));
        let outcome = match findings.first().map(|f| f.outcome) {
            None => GuardOutcome::Pass,
            Some(Level::Warn) => GuardOutcome::Warn,
            Some(Level::Hold) => GuardOutcome::Hold,
            Some(Level::Reject) => GuardOutcome::Reject,
        };
        GuardReport { outcome, findings }
    }
}

impl Rule {
    /// Fires when the share exceeds the limit **and** the count exceeds the floor.
    fn judge(&self, before: u64, count: u64) -> Option<Level> {
        if count <= self.floor {
            return None;
        }
        // In u128, so that no count overflows.
        let share = u128::from(count) * 10_000;
        let over = |limit: Option<u64>| {
            limit.is_some_and(|l| share > u128::from(l) * u128::from(before.max(1)))
        };
        if over(self.reject) {
            Some(Level::Reject)
        } else if over(self.hold) {
            Some(Level::Hold)
        } else if over(self.warn) {
            Some(Level::Warn)
        } else {
            None
        }
    }
}

impl GuardInput {
    /// Baseline and count; yes and no are 1 and 0 of 1.
    fn measure(&self, m: Measure) -> (u64, u64) {
        let flag = |f: bool| (1, u64::from(f));
        match m {
            Measure::DelegationsRemoved => (self.delegations.before, self.delegations.removed),
            Measure::DelegationsChanged => (self.delegations.before, self.delegations.changed),
            Measure::DsRemoved => (self.ds.before, self.ds.removed),
            Measure::DsChanged => (self.ds.before, self.ds.changed),
            Measure::OwnersRemoved => (self.owners.before, self.owners.removed),
            Measure::RecordsRemoved => (self.records.before, self.records.removed),
            Measure::RecordsAdded => (self.records.before, self.records.added),
            Measure::Size => (
                self.octets_before,
                self.octets_before.abs_diff(self.octets_after),
            ),
            Measure::TtlChanged => (self.rrsets_before, self.ttl_changed),
            Measure::ApexNs => flag(self.apex_ns_changed),
            Measure::ApexNsDisjoint => flag(self.apex_ns_disjoint),
            Measure::SoaMname => flag(self.mname_changed),
            Measure::SoaTimers => flag(self.timers_alarm()),
            Measure::ApexNsGlueLost => flag(self.apex_glue_lost),
            Measure::WildcardAdded => flag(self.wildcard_added),
            Measure::Empty => flag(self.emptied),
            Measure::SerialKeep => flag(self.serial_not_greater),
        }
    }

    /// EXPIRE below half of what it was, or MINIMUM more than ten times larger or smaller.
    fn timers_alarm(&self) -> bool {
        let wide = |(a, b): (u32, u32)| (u64::from(a), u64::from(b));
        let (expire, minimum) = (wide(self.expire), wide(self.minimum));
        expire.1 * 2 < expire.0 || minimum.1 > minimum.0 * 10 || minimum.0 > minimum.1 * 10
    }
}

impl GuardReport {
    /// One line per finding; the first one says most.
    pub fn text(&self) -> String {
        let lines: Vec<String> = self
            .findings
            .iter()
            .map(|f| {
                let key = f.measure.key();
                format!("{key}: {} of {} against {}", f.count, f.before, f.baseline)
            })
            .collect();
        lines.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(before: u64, removed: u64) -> GuardInput {
        GuardInput {
            delegations: Delta {
                before,
                removed,
                ..Delta::default()
            },
            ..GuardInput::default()
        }
    }

    fn outcome(i: GuardInput) -> GuardOutcome {
        Rules::default().judge(&[i]).outcome
    }

    #[test]
    fn share_and_floor_must_both_be_exceeded() {
        assert_eq!(
            outcome(removed(100, 50)),
            GuardOutcome::Pass,
            "50 % but within the floor"
        );
        assert_eq!(outcome(removed(100, 51)), GuardOutcome::Hold);
        assert_eq!(
            outcome(removed(10_000, 100)),
            GuardOutcome::Pass,
            "1 % is not above 1 %"
        );
        assert_eq!(outcome(removed(10_000, 101)), GuardOutcome::Warn);
        assert_eq!(outcome(removed(10_000, 501)), GuardOutcome::Hold);
        assert_eq!(outcome(removed(0, 0)), GuardOutcome::Pass);
        assert_eq!(outcome(removed(u64::MAX, u64::MAX)), GuardOutcome::Hold);
    }

    #[test]
    fn flags_and_the_worst_of_several() {
        let input = GuardInput {
            mname_changed: true,
            serial_not_greater: true,
            emptied: true,
            ..GuardInput::default()
        };
        let report = Rules::default().judge(&[GuardInput::default(), input]);
        assert_eq!(report.outcome, GuardOutcome::Reject);
        assert_eq!(report.findings.len(), 3);
        assert_eq!(report.findings[0].measure, Measure::SerialKeep);
        assert!(
            report.text().starts_with("serial-keep: 1 of 1"),
            "{}",
            report.text()
        );
        let none = Rules::default().judge(&[]);
        assert_eq!(none.outcome, GuardOutcome::Pass);
    }

    #[test]
    fn timers_and_size() {
        let timers = |expire, minimum| GuardInput {
            expire,
            minimum,
            ..GuardInput::default()
        };
        assert_eq!(outcome(timers((100, 50), (10, 100))), GuardOutcome::Pass);
        assert_eq!(outcome(timers((100, 49), (10, 10))), GuardOutcome::Warn);
        assert_eq!(outcome(timers((100, 100), (10, 101))), GuardOutcome::Warn);
        assert_eq!(
            outcome(timers((100, 100), (u32::MAX, 1))),
            GuardOutcome::Warn
        );
        let size = |a, b| GuardInput {
            octets_before: a,
            octets_after: b,
            ..GuardInput::default()
        };
        assert_eq!(outcome(size(1 << 20, 400 << 10)), GuardOutcome::Hold);
        assert_eq!(outcome(size(1 << 20, 1250 << 10)), GuardOutcome::Warn);
        let mut off = Rules::default();
        off.set(Measure::Size, None);
        assert_eq!(off.judge(&[size(1 << 20, 1)]).outcome, GuardOutcome::Pass);
    }

    #[test]
    fn keys_round_trip() {
        for m in Measure::ALL {
            assert_eq!(Measure::from_key(m.key()), Some(*m));
        }
    }
}
