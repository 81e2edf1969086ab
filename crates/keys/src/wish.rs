//! Which rolls are due, and how a roll of each kind begins.
//!
//! Wishes are computed anew at every decision from state and policy, so one that outlives its
//! reason is gone by itself.

use std::time::Duration;

use cascade_time::Timestamp;

use crate::key::{Home, Key, KeyNum, Origin, Role};
use crate::mutants::{Mutant, is};
use crate::policy::{CdsPolicy, KeyPolicy, KskRoll, ZskRoll};
use crate::roll::{Cause, Class, Instead, Roll, RollType, Stage, Strategy};
use crate::state::ZoneKeys;

/// A roll that should run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wish {
    pub kind: RollType,
    pub cause: Cause,
    /// When it begins, if nothing is in its way.
    pub at: Timestamp,
}

/// All wishes, in the order in which they are granted.
pub fn wishes(zone: &ZoneKeys, policy: &KeyPolicy, now: Timestamp) -> Vec<Wish> {
    let mut out = Vec::new();
    let mut push = |kind, cause, at| out.push(Wish { kind, cause, at });
    let serving = zone.keys.iter().any(Key::in_service);
    if policy.passthrough && zone.published.is_none() {
        return out;
    }
    if !serving {
        match (policy.unsigned, zone.unsigned) {
            (false, _) => push(RollType::FirstKeys, Cause::Due, now),
            // Never signed by us: there is nothing to take back.
            (true, false) => push(RollType::Unsign, Cause::Policy, now),
            (true, true) => {}
        }
        return out;
    }
    if zone.settled_at.is_none() {
        push(RollType::FirstKeys, Cause::Parent, now);
        return out;
    }
    if policy.cds == CdsPolicy::Delete && !zone.island {
        push(RollType::GoInsecure, Cause::Policy, now);
    }
    let no_ds = zone.parent.shown.is_empty() && !zone.parent.foreign;
    if policy.unsigned && (zone.island && no_ds || is(Mutant::UnsignAtOnce)) {
        let serving: Vec<KeyNum> = zone
            .keys
            .iter()
            .filter(|k| k.in_service())
            .map(|k| k.num)
            .collect();
        let on_its_way = zone.ds_on_its_way(&serving, policy);
        push(
            RollType::Unsign,
            Cause::Policy,
            on_its_way.unwrap_or(now).max(now),
        );
    }
    if zone
        .keys
        .iter()
        .any(|k| k.in_service() && k.algorithm != policy.algorithm)
    {
        push(RollType::Algorithm, Cause::Policy, now);
        return out;
    }
    let has = |role| zone.in_service(role).next().is_some();
    if policy.layout().iter().any(|r| !has(*r)) {
        push(RollType::Csk, Cause::Policy, now);
        return out;
    }
    for role in policy.layout() {
        let kind = roll_for(zone, *role, policy);
        let mut best: Option<(Timestamp, Cause)> = None;
        for k in zone.in_service(*role) {
            let due = if k.compromised {
                Some((now, Cause::Emergency))
            } else if k.home != *policy.home(*role) && k.origin == Origin::Generated {
                Some((now, Cause::Policy))
            } else {
                due_at(zone, policy, k).map(|at| (at, Cause::Due))
            };
            if let Some(d) = due
                && best.is_none_or(|b| d.0 < b.0)
            {
                best = Some(d);
            }
        }
        if let Some((at, cause)) = best {
            push(kind, cause, at);
        }
    }
    out.sort_by_key(|w| w.kind.class());
    out
}

/// `expires_at` less a spread within 1 % of the validity and a day, so that zones added together
/// do not roll together.
pub fn due_at(zone: &ZoneKeys, policy: &KeyPolicy, key: &Key) -> Option<Timestamp> {
    let expires = zone.expires_at(key, policy)?;
    let validity = policy.validity(key.role)?;
    let bound = (validity / 100).min(Duration::from_secs(86_400)).as_secs();
    let spread = seed(&zone.owner, key.role as u64) % bound.max(1);
    Some(expires.saturating_sub(Duration::from_secs(spread)))
}

/// Equal for equal input, spread over all values (FNV-1a).
pub fn seed(owner: &[u8], salt: u64) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325u64 ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for b in owner {
        h ^= u64::from(*b);
        h = h.wrapping_mul(0x0000_0100_0000_01b3);
    }
    h ^ h >> 29
}

/// The roll that replaces keys of `role` under `policy`.
pub fn roll_type(role: Role, policy: &KeyPolicy) -> RollType {
    match (role, policy.ksk_roll, policy.zsk_roll) {
        (Role::Csk | Role::Foreign, _, _) => RollType::Csk,
        (Role::Ksk, KskRoll::DoubleSignature, _) => RollType::KskDoubleSignature,
        (Role::Ksk, KskRoll::DoubleDs, _) => RollType::KskDoubleDs,
        (Role::Zsk, _, ZskRoll::PrePublish) => RollType::ZskPrePublish,
        (Role::Zsk, _, ZskRoll::DoubleSignature) => RollType::ZskDoubleSignature,
    }
}

/// The roll that replaces keys of `role` in this zone. Double-DS begins and ends with DS records;
/// where no DS of the zone's keys was ever seen (islands, zones without delegation) it would wait
/// for ever, and the DNSKEY RRset is rolled by double-signature.
pub(crate) fn roll_for(zone: &ZoneKeys, role: Role, policy: &KeyPolicy) -> RollType {
    match roll_type(role, policy) {
        RollType::KskDoubleDs if zone.parent.linked_at.is_none() => RollType::KskDoubleSignature,
        kind => kind,
    }
}

/// A roll of this kind at its beginning.
pub fn begin(
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    kind: RollType,
    cause: Cause,
    strategy: Strategy,
    now: Timestamp,
) -> Roll {
    let serving: Vec<KeyNum> = zone
        .keys
        .iter()
        .filter(|k| k.in_service() && k.role != Role::Foreign)
        .filter(|k| match kind.class() {
            Class::Ksk => k.role == Role::Ksk,
            Class::Zsk => k.role == Role::Zsk,
            _ => true,
        })
        .map(|k| k.num)
        .collect();
    let mut roll = Roll {
        kind,
        stage: Stage::Keys,
        since: now,
        started_at: now,
        old: serving.clone(),
        new: Vec::new(),
        wants: Vec::new(),
        algorithm: policy.algorithm,
        cause,
        strategy,
        met: Vec::new(),
        margin: policy.margin,
        instead: match (kind, policy.ksk_roll, zone.parent.linked_at) {
            (RollType::KskDoubleSignature, KskRoll::DoubleDs, None) => Some(Instead::NoDs),
            (RollType::KskDoubleSignature, KskRoll::DoubleDs, Some(_)) => Some(Instead::Fast),
            _ => None,
        },
    };
    match kind {
        RollType::GoInsecure => roll.stage = Stage::P1,
        RollType::Unsign => roll.stage = Stage::D,
        RollType::FirstKeys if !serving.is_empty() => {
            // Settling again: the keys are there already.
            roll.stage = Stage::P1;
            roll.new = serving;
            roll.old.clear();
        }
        RollType::FirstKeys | RollType::Algorithm | RollType::Csk => {
            roll.wants = policy.layout().to_vec();
        }
        RollType::KskDoubleSignature | RollType::KskDoubleDs => roll.wants = vec![Role::Ksk],
        RollType::ZskPrePublish | RollType::ZskDoubleSignature => roll.wants = vec![Role::Zsk],
    }
    if matches!(kind.class(), Class::Ksk | Class::Zsk) {
        // The algorithm changes by its own roll only.
        if let Some(k) = roll.old.first().and_then(|n| zone.key(*n)) {
            roll.algorithm = k.algorithm;
        }
    }
    for role in &roll.wants {
        if let Some(k) = candidate(zone, policy.home(*role), *role, roll.algorithm) {
            roll.new.push(k.num);
        }
    }
    roll
}

/// A key that is there already: standby, then imported, then made for a roll that was given up.
fn candidate<'a>(zone: &'a ZoneKeys, home: &Home, role: Role, algorithm: u8) -> Option<&'a Key> {
    zone.keys
        .iter()
        .filter(|k| {
            let t = &k.times;
            k.role == role
                && k.algorithm == algorithm
                && !k.compromised
                && t.active_at.is_none()
                && t.retired_at.is_none()
                && t.removed_at.is_none()
                && t.trashed_at.is_none()
                && t.destroyed_at.is_none()
                && (k.home == *home || k.origin == Origin::Imported)
                && !zone
                    .rolls
                    .iter()
                    .any(|r| r.new.contains(&k.num) || r.old.contains(&k.num))
        })
        .min_by_key(|k| (!k.standby, k.origin != Origin::Imported, k.num))
}
