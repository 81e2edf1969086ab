//! Standard faults, and what is chosen for one run of a scenario.

use std::collections::BTreeMap;

use cascade_keys::{Class, Stage};
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

/// Which (class, stage, fault) were reached, with counts.
pub fn reached(outcomes: &[(Choice, Vec<(Class, Stage)>)]) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for (choice, stages) in outcomes {
        let fault = match &choice.injection {
            Some(i) => i.fault.clone(),
            None if choice.restart => "restart".to_string(),
            None if choice.crash_after.is_some() => "crash-point".to_string(),
            None => "none".to_string(),
        };
        for (class, stage) in stages {
            *out.entry(format!("{} {stage:?} {fault}", class.word()))
                .or_insert(0) += 1;
        }
    }
    out
}
