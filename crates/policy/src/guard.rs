//! The change guard's limits.

use crate::address::only_members;
use crate::def::section;
use crate::reader::Cx;
use crate::tree::{Node, Val, quote};
use crate::value::{Size, Value, choice, string};

/// A share in hundredths of a percent: `1%` is 100, `0.5%` is 50.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(pub u32);

impl Percent {
    /// Whether `part` of `whole` is more than this; a whole of nothing counts as one.
    pub fn exceeded_by(self, part: u64, whole: u64) -> bool {
        u128::from(part) * 10_000 > u128::from(self.0) * u128::from(whole.max(1))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let number = text.strip_suffix('%')?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 2 {
            return None;
        }
        let hundredths = part.parse::<u32>().ok()? * if part.len() == 1 { 10 } else { 1 };
        whole
            .parse::<u32>()
            .ok()?
            .checked_mul(100)?
            .checked_add(hundredths)
            .map(Percent)
    }
}

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match part {
            0 => write!(f, "{whole}%"),
            p if p % 10 == 0 => write!(f, "{whole}.{}%", p / 10),
            p => write!(f, "{whole}.{p:02}%"),
        }
    }
}

/// Limits of one measure: each fires when the share is above it **and** the number is above the
/// floor. All absent: the measure is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardLimit {
    pub warn: Option<Percent>,
    pub hold: Option<Percent>,
    pub reject: Option<Percent>,
    pub floor: u64,
}

impl GuardLimit {
    pub const OFF: GuardLimit = GuardLimit {
        warn: None,
        hold: None,
        reject: None,
        floor: 0,
    };

    /// What `part` changed of `whole` gives.
    pub fn judge(&self, part: u64, whole: u64) -> GuardAct {
        let fires = |limit: Option<Percent>| {
            part > self.floor && limit.is_some_and(|l| l.exceeded_by(part, whole))
        };
        if fires(self.reject) {
            GuardAct::Reject
        } else if fires(self.hold) {
            GuardAct::Hold
        } else if fires(self.warn) {
            GuardAct::Warn
        } else {
            GuardAct::Off
        }
    }
}

impl Value for GuardLimit {
    fn type_text() -> String {
        "table of warn, hold, reject (percent or \"off\") and floor; or \"off\"".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let table = match &node.value {
            Val::Str(s) if s == "off" => return Some(GuardLimit::OFF),
            Val::Table(table) => table,
            _ => {
                cx.wrong_type(node, "a table of limits or \"off\"");
                return None;
            }
        };
        only_members(table, &["warn", "hold", "reject", "floor"], cx)?;
        let mut limits = [None; 3];
        for (limit, name) in limits.iter_mut().zip(["warn", "hold", "reject"]) {
            if let Some(e) = table.get(name) {
                *limit = percent(&e.node, cx)?;
            }
        }
        let floor = match table.get("floor") {
            Some(e) => Size::read(&e.node, cx)?.0,
            // A table replaces the limits; the floor of this measure stays unless it is named.
            None => default_floor(cx),
        };
        let [warn, hold, reject] = limits;
        if limits.iter().all(Option::is_none) {
            cx.bad(
                node,
                "no limit is set",
                "set warn, hold or reject, or write \"off\"",
            );
            return None;
        }
        let rising: Vec<Percent> = limits.into_iter().flatten().collect();
        if !rising.is_sorted() {
            cx.bad(node, "the limits must rise from warn to hold to reject", "");
            return None;
        }
        Some(GuardLimit {
            warn,
            hold,
            reject,
            floor,
        })
    }

    fn write(&self) -> String {
        let mut parts = Vec::new();
        for (name, limit) in [
            ("warn", self.warn),
            ("hold", self.hold),
            ("reject", self.reject),
        ] {
            if let Some(limit) = limit {
                parts.push(format!("{name} = \"{limit}\""));
            }
        }
        if parts.is_empty() {
            return quote("off");
        }
        parts.push(format!("floor = {}", self.floor));
        format!("{{ {} }}", parts.join(", "))
    }
}

fn default_floor(cx: &Cx) -> u64 {
    let Some(Node {
        value: Val::Table(table),
        ..
    }) = cx.default_node()
    else {
        return 0;
    };
    match table.get("floor").map(|e| &e.node.value) {
        Some(Val::Int(Some(n))) => u64::try_from(*n).unwrap_or(0),
        Some(Val::Str(s)) => Size::parse(s).unwrap_or(0),
        _ => 0,
    }
}

fn percent(node: &Node, cx: &mut Cx) -> Option<Option<Percent>> {
    let text = string(node, cx, "a percentage")?;
    if text == "off" {
        return Some(None);
    }
    let found = Percent::parse(text);
    if found.is_none() {
        cx.bad(
            node,
            format!("'{text}' is not a percentage"),
            "write for example \"5%\" or \"off\"",
        );
    }
    found.map(Some)
}

choice! {
    /// What a finding of the guard does; the worst one of a candidate counts.
    pub enum GuardAct { Off = "off", Warn = "warn", Hold = "hold", Reject = "reject" }
}

section! {
    /// Limits on what one load may change against the published version. A
    /// measure fires when its share is above the percentage and its number is
    /// above the floor: warn is recorded, hold waits for approval, reject
    /// discards.
    pub struct Guard {
        /// Delegations gone.
        key "delegations-removed" => delegations_removed: GuardLimit = r#"{ warn = "1%", hold = "5%", floor = 50 }"# [why("a truncated source signs perfectly; only its size tells")];
        /// Delegations whose NS RRset changed.
        key "delegations-changed" => delegations_changed: GuardLimit = r#"{ warn = "5%", hold = "20%", floor = 50 }"# [why("mass changes are announced ones or mistakes")];
        /// DS RRsets gone while the delegation stays.
        key "ds-removed" => ds_removed: GuardLimit = r#"{ warn = "1%", hold = "5%", floor = 20 }"# [why("children lose DNSSEC silently")];
        /// DS RRsets changed.
        key "ds-changed" => ds_changed: GuardLimit = r#"{ warn = "5%", hold = "20%", floor = 20 }"# [why("a wrong DS makes the child bogus")];
        /// Owner names gone.
        key "owners-removed" => owners_removed: GuardLimit = r#"{ warn = "5%", hold = "20%", floor = 50 }"# [why("a truncated source signs perfectly; only its size tells")];
        /// Records gone.
        key "records-removed" => records_removed: GuardLimit = r#"{ warn = "5%", hold = "20%", floor = 100 }"# [why("a truncated source signs perfectly; only its size tells")];
        /// Records added.
        key "records-added" => records_added: GuardLimit = r#"{ warn = "50%", hold = "200%", floor = 1000 }"# [why("growth is rarely harmful")];
        /// Octets of the zone, more or fewer.
        key "size" => size: GuardLimit = r#"{ warn = "20%", hold = "50%", floor = "64KiB" }"# [why("catches what the counts do not")];
        /// RRsets whose TTL changed.
        key "ttl-changed" => ttl_changed: GuardLimit = r#"{ warn = "20%", floor = 100 }"# [why("usually a changed default, not always meant")];
        /// The NS RRset of the apex changed.
        key "apex-ns" => apex_ns: GuardAct = r#""warn""# [why("rare, and worth a line in the history")];
        /// The NS RRset of the apex has no name in common with the one before.
        key "apex-ns-disjoint" => apex_ns_disjoint: GuardAct = r#""hold""# [why("most often the wrong zone's file")];
        /// The primary name in the SOA record changed.
        key "soa-mname" => soa_mname: GuardAct = r#""warn""# [why("rare, and worth a line in the history")];
        /// SOA EXPIRE fell below half, or MINIMUM changed by more than a factor of ten.
        key "soa-timers" => soa_timers: GuardAct = r#""warn""# [why("changes how long faults last")];
        /// A name server of the apex inside the zone lost its addresses.
        key "apex-ns-glue-lost" => apex_ns_glue_lost: GuardAct = r#""hold""# [why("the zone may become unreachable")];
        /// A wildcard appeared directly below the apex.
        key "wildcard-added" => wildcard_added: GuardAct = r#""warn""# [why("it answers for every name that is not there")];
        /// Only SOA and NS are left of a zone that had more.
        key "empty" => empty: GuardAct = r#""hold""# [why("an export that failed looks like this")];
        /// serial-policy is "keep" and the serial is not greater.
        key "serial-keep" => serial_keep: GuardAct = r#""reject""# [why("secondaries would never fetch the version")];
    }
}
