//! Standard faults, and what is chosen for one run of a scenario.

use std::collections::BTreeMap;

use cascade_keys::{Class, RollType, Stage};
use serde::{Deserialize, Serialize};

/// Faults that every scenario of a roll is run with, each at each stage. The second is what happens,
/// the third what happens a day later.
pub const FAULTS: &[(&str, &str, &str)] = &[
    ("secondary-dead", "secondary 1 down 40d", ""),
    ("secondary-lags", "secondary 1 lag 2d", ""),
    ("secondary-rewinds", "secondary 1 rewind 50m 10m", ""),
    ("secondary-refuses", "secondary 1 refuse 3d", ""),
    ("parent-late", "parent register=30d", ""),
    ("parent-apart", "parent copy=1m,3d", ""),
    ("parent-down", "parent down 1 5d", ""),
    ("token-down", "token down 2d", ""),
    ("token-lies", "token lies 20 2d", ""),
    ("instance-lost", "token instance-lost 2d", ""),
    ("crash", "kill", "restart after 2d"),
    ("disk-full", "disk full 1d", ""),
    ("network-down", "network down 2d", ""),
    ("clock-ahead", "clock step +3h", "operator clock-confirm"),
    ("clock-back", "clock step -3h", ""),
    ("ttl-low", "zone data-ttl=5m", ""),
    ("ttl-high", "zone data-ttl=2d", ""),
];

/// A standard fault by its name.
pub(crate) fn fault(name: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
    FAULTS.iter().find(|f| f.0 == name)
}

/// Which standard faults a scenario takes, and in which rolls.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// `None` = in rolls of every class.
    pub class: Option<Class>,
    pub except: Vec<String>,
}

impl Faults {
    pub fn takes(&self, fault: &str, class: Class) -> bool {
        self.class.is_none_or(|c| c == class) && !self.except.iter().any(|e| e == fault)
    }
}

/// A standard fault at the first time that a roll of the class enters the stage.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Injection {
    pub fault: String,
    pub class: String,
    pub stage: Stage,
}

/// One run of a scenario.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Choice {
    pub seed: u64,
    pub injection: Option<Injection>,
    /// Read the state back after every event.
    pub restart: bool,
    /// Kill the daemon after this action, before its result is recorded.
    pub crash_after: Option<u32>,
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {}", self.seed)?;
        if let Some(i) = &self.injection {
            write!(f, ", {} at {} {:?}", i.fault, i.class, i.stage)?;
        }
        if self.restart {
            f.write_str(", restart after every event")?;
        }
        if let Some(n) = self.crash_after {
            write!(f, ", crash after action {n}")?;
        }
        Ok(())
    }
}

/// Which faults were put at which stages of which rolls, with counts.
pub fn reached(outcomes: &[(Choice, Vec<(Class, Stage)>)]) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    let mut count = |what: String| *out.entry(what).or_insert(0) += 1;
    for (choice, stages) in outcomes {
        if let Some(i) = &choice.injection {
            count(format!("{} {:?} {}", i.class, i.stage, i.fault));
            continue;
        }
        let fault = match choice.crash_after {
            Some(_) => "crash-point",
            None if choice.restart => "restart",
            None => "none",
        };
        for (class, stage) in stages {
            count(format!("{} {stage:?} {fault}", class.word()));
        }
    }
    out
}

/// Standard faults, and restarts, that were never put at some stage of some roll.
pub fn unreached(outcomes: &[(Choice, Vec<(Class, Stage)>)]) -> Vec<String> {
    let found = reached(outcomes);
    let faults = FAULTS.iter().map(|f| f.0);
    let faults: Vec<&str> = faults.chain(["restart", "crash-point"]).collect();
    let mut out = Vec::new();
    for kind in RollType::ALL {
        let stages = kind.rows().iter().map(|r| r.stage);
        for stage in stages {
            let all = faults
                .iter()
                .map(|f| format!("{} {stage:?} {f}", kind.class().word()));
            out.extend(all.filter(|what| !found.contains_key(what)));
        }
    }
    out.sort();
    out.dedup();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_reached_is_named() {
        let mut outcomes = Vec::new();
        for kind in RollType::ALL {
            let of = |r: &cascade_keys::Row| (kind.class(), r.stage);
            let stages: Vec<(Class, Stage)> = kind.rows().iter().map(of).collect();
            for (class, stage) in &stages {
                outcomes.extend(FAULTS.iter().map(|(fault, ..)| {
                    let injection = Injection {
                        fault: (*fault).to_string(),
                        class: class.word().to_string(),
                        stage: *stage,
                    };
                    let choice = Choice {
                        injection: Some(injection),
                        ..Choice::default()
                    };
                    (choice, stages.clone())
                }));
            }
            for (restart, crash_after) in [(true, None), (false, Some(3))] {
                let choice = Choice {
                    restart,
                    crash_after,
                    ..Choice::default()
                };
                outcomes.push((choice, stages.clone()));
            }
        }
        assert_eq!(unreached(&outcomes), Vec::<String>::new());
        let ksk = |i: &Injection| i.class == "ksk" && i.stage == Stage::C2 && i.fault == "crash";
        outcomes.retain(|(c, _)| !c.injection.as_ref().is_some_and(ksk));
        assert_eq!(unreached(&outcomes), ["ksk C2 crash"]);
    }
}
