//! Counting what new content changes, for the change guard.

use std::collections::{BTreeMap, BTreeSet};

use cascade_pipeline::guard::{Delta, GuardInput, Measure, Rule, Rules};
use cascade_policy::{Guard, GuardAct, GuardLimit};
use cascade_zone::{Name, Rtype, ZoneVersion, diff};

/// Owners shown for each kind of change.
const SAMPLES: usize = 50;

/// RDATA of a set as sorted list; empty = not there.
type Set = Vec<Vec<u8>>;

/// Counts the change from `old` to `new`, both unsigned. Cost follows the change.
pub fn count(old: &ZoneVersion, new: &ZoneVersion, serial_not_greater: bool) -> GuardInput {
    let mut touched: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut records = Delta {
        before: old.sums().records,
        ..Delta::default()
    };
    diff(old, new, &mut |d| {
        // The SOA changes with every version and counts for nothing.
        if d.rtype == Rtype::SOA {
            return;
        }
        if d.removed {
            records.removed += 1;
        } else {
            records.added += 1;
        }
        if let Some(key) = cascade_zone::key::key_of(new.apex(), d.owner) {
            touched.insert(key);
        }
    });
    let mut input = GuardInput {
        baseline: "live".into(),
        delegations: Delta {
            before: old.sums().cuts,
            ..Delta::default()
        },
        ds: Delta {
            before: old.sums().secure,
            ..Delta::default()
        },
        owners: Delta {
            before: old.sums().owners,
            ..Delta::default()
        },
        records,
        octets_before: old.sums().wire,
        octets_after: new.sums().wire,
        rrsets_before: old.sums().rrsets,
        serial_not_greater,
        emptied: new.sums().rrsets <= 2 && old.sums().rrsets > 2,
        ..GuardInput::default()
    };
    let mut samples: BTreeMap<Measure, Vec<String>> = BTreeMap::new();
    for key in &touched {
        let mut note = |m: Measure| {
            let list = samples.entry(m).or_default();
            if list.len() < SAMPLES {
                list.push(cascade_zone::key::to_name(key, None, new.apex()).to_string());
            }
        };
        owner(old, new, key, &mut input, &mut note);
    }
    apex(old, new, &mut input);
    input.samples = samples.into_iter().collect();
    input
}

fn set(v: &ZoneVersion, key: &[u8], t: Rtype) -> (Set, Option<u32>) {
    let found = v.owner(key).and_then(|o| {
        let s = o.set(t)?;
        Some((
            s.rdatas().map(<[u8]>::to_ascii_lowercase).collect(),
            Some(s.ttl),
        ))
    });
    found.unwrap_or_default()
}

fn owner(
    old: &ZoneVersion,
    new: &ZoneVersion,
    key: &[u8],
    input: &mut GuardInput,
    note: &mut dyn FnMut(Measure),
) {
    let (a, b) = (old.owner(key), new.owner(key));
    match (&a, &b) {
        (Some(_), None) => {
            input.owners.removed += 1;
            note(Measure::OwnersRemoved);
        }
        (None, Some(_)) => input.owners.added += 1,
        _ => {}
    }
    let cut = |o: &Option<cascade_zone::Owner<'_>>| o.as_ref().is_some_and(|o| o.flags().is_cut());
    let secure =
        |o: &Option<cascade_zone::Owner<'_>>| o.as_ref().is_some_and(|o| o.flags().is_secure());
    match (cut(&a), cut(&b)) {
        (true, false) => {
            input.delegations.removed += 1;
            note(Measure::DelegationsRemoved);
        }
        (false, true) => input.delegations.added += 1,
        (true, true) => {
            if set(old, key, Rtype::NS).0 != set(new, key, Rtype::NS).0 {
                input.delegations.changed += 1;
                note(Measure::DelegationsChanged);
            }
            match (secure(&a), secure(&b)) {
                (true, false) => {
                    input.ds.removed += 1;
                    note(Measure::DsRemoved);
                }
                (false, true) => input.ds.added += 1,
                (true, true) if set(old, key, Rtype::DS).0 != set(new, key, Rtype::DS).0 => {
                    input.ds.changed += 1;
                    note(Measure::DsChanged);
                }
                _ => {}
            }
        }
        (false, false) => {}
    }
    for s in b.iter().flat_map(|o| o.sets()) {
        let before = set(old, key, s.rtype).1;
        if s.rtype != Rtype::SOA && before.is_some_and(|ttl| ttl != s.ttl) {
            input.ttl_changed += 1;
        }
    }
    let first_level = cascade_zone::key::depth(key) == 1;
    if first_level && cascade_zone::key::is_wildcard(key) && a.is_none() && b.is_some() {
        input.wildcard_added = true;
    }
}

fn apex(old: &ZoneVersion, new: &ZoneVersion, input: &mut GuardInput) {
    let (before, after) = (set(old, &[], Rtype::NS).0, set(new, &[], Rtype::NS).0);
    input.apex_ns_changed = before != after;
    input.apex_ns_disjoint = !before.is_empty() && !after.iter().any(|n| before.contains(n));
    let mname = |v: &ZoneVersion| Name::from_prefix(v.soa()).map(|(n, _)| n).ok();
    input.mname_changed = mname(old) != mname(new);
    if let (Some(a), Some(b)) = (old.soa_fields(), new.soa_fields()) {
        input.expire = (a.expire, b.expire);
        input.minimum = (a.minimum, b.minimum);
    }
    let has_address = |v: &ZoneVersion, key: &[u8]| {
        v.owner(key)
            .is_some_and(|o| o.set(Rtype::A).is_some() || o.set(Rtype::AAAA).is_some())
    };
    input.apex_glue_lost = after.iter().any(|ns| {
        let key = cascade_zone::key::key_of(new.apex(), ns);
        key.is_some_and(|k| has_address(old, &k) && !has_address(new, &k))
    });
}

/// The policy's thresholds in the pipeline's words.
pub fn rules(g: &Guard) -> Rules {
    let mut rules = Rules::default();
    let limits: [(Measure, &GuardLimit); 9] = [
        (Measure::DelegationsRemoved, &g.delegations_removed),
        (Measure::DelegationsChanged, &g.delegations_changed),
        (Measure::DsRemoved, &g.ds_removed),
        (Measure::DsChanged, &g.ds_changed),
        (Measure::OwnersRemoved, &g.owners_removed),
        (Measure::RecordsRemoved, &g.records_removed),
        (Measure::RecordsAdded, &g.records_added),
        (Measure::Size, &g.size),
        (Measure::TtlChanged, &g.ttl_changed),
    ];
    for (measure, l) in limits {
        let share = |p: Option<cascade_policy::Percent>| p.map(|p| u64::from(p.0));
        let rule = Rule {
            warn: share(l.warn),
            hold: share(l.hold),
            reject: share(l.reject),
            floor: l.floor,
        };
        let off = rule.warn.is_none() && rule.hold.is_none() && rule.reject.is_none();
        rules.set(measure, (!off).then_some(rule));
    }
    let acts: [(Measure, GuardAct); 8] = [
        (Measure::ApexNs, g.apex_ns),
        (Measure::ApexNsDisjoint, g.apex_ns_disjoint),
        (Measure::SoaMname, g.soa_mname),
        (Measure::SoaTimers, g.soa_timers),
        (Measure::ApexNsGlueLost, g.apex_ns_glue_lost),
        (Measure::WildcardAdded, g.wildcard_added),
        (Measure::Empty, g.empty),
        (Measure::SerialKeep, g.serial_keep),
    ];
    for (measure, act) in acts {
        // A finding that happened counts as all of one.
        let at = |want: GuardAct| (act == want).then_some(0);
        let rule = Rule {
            warn: at(GuardAct::Warn),
            hold: at(GuardAct::Hold),
            reject: at(GuardAct::Reject),
            floor: 0,
        };
        rules.set(measure, (act != GuardAct::Off).then_some(rule));
    }
    rules
}
