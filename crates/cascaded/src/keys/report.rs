//! Keys, rolls and evidence as the control API shows them.

use std::collections::BTreeMap;

use cascade_api::keys as api;
use cascade_api::zones::{Evidence, KeyRole};
use cascade_crypto::Dnskey;
use cascade_keys::{
    ASSUMED_DS_TTL, Class, Facts, Free, Home, Key, KeyNum, KeyPolicy, KeyState, Origin, Role, Roll,
    Served, Step, SweepReport, Verdict, What, Whom, due_at, is_automatic,
};
use cascade_time::Timestamp;

use super::row::KeysRow;

/// A key that is not destroyed, or that is in the trash when `all` is wanted.
pub fn keys(row: &KeysRow, rules: Option<&KeyPolicy>, all: bool, now: Timestamp) -> Vec<api::Key> {
    let mut keys: Vec<&Key> = row
        .zone
        .keys
        .iter()
        .filter(|k| k.times.destroyed_at.is_none() && (all || k.times.trashed_at.is_none()))
        .collect();
    // KSK, CSK, ZSK; the old one before the new one.
    keys.sort_by_key(|k| (place(k.role), k.num));
    keys.into_iter()
        .filter_map(|k| key(row, k, rules, now))
        .collect()
}

fn place(role: Role) -> u8 {
    match role {
        Role::Ksk => 0,
        Role::Csk => 1,
        Role::Zsk => 2,
        Role::Foreign => 3,
    }
}

pub fn key(row: &KeysRow, k: &Key, rules: Option<&KeyPolicy>, now: Timestamp) -> Option<api::Key> {
    let dnskey = Dnskey::from_rdata(&k.dnskey_rdata()).ok()?;
    let default = KeyPolicy::default();
    let policy = rules.unwrap_or(&default);
    let state = row.zone.key_state(k, policy, now);
    let signing = row.zone.published.as_ref().is_some_and(|p| {
        p.apex.dnskey_signers.contains(&k.num) || p.apex.zone_signers.contains(&k.num)
    });
    let expires_at = rules.and_then(|p| row.zone.expires_at(k, p));
    let remove_at = match k.times.removed_at {
        Some(at) if policy.auto_remove => Some(at + policy.auto_remove_delay),
        _ => None,
    };
    Some(api::Key {
        id: k.num.to_string(),
        tag: k.tag(),
        role: match k.role {
            Role::Ksk => KeyRole::Ksk,
            Role::Csk => KeyRole::Csk,
            Role::Foreign if k.sep => KeyRole::Ksk,
            Role::Zsk | Role::Foreign => KeyRole::Zsk,
        },
        algorithm: k.algorithm,
        bits: dnskey
            .signature_len()
            .filter(|_| matches!(k.algorithm, 8 | 10))
            .map(|n| n as u32 * 8),
        state: state_of(state),
        signing,
        imported: k.origin != Origin::Generated,
        published_at: k.times.published_at,
        active_at: k.times.active_at,
        expires_at,
        remove_at,
        since: since(k, state),
        next: next(row, k, state, expires_at, remove_at, policy),
        hsm: match &k.home {
            Home::File => None,
            Home::Hsm(id) => Some(id.clone()),
        },
        reference: row.reference(k.num).to_string(),
        label: None,
        at_parent: k.role.signs_keys().then(|| at_parent(row, k.num)),
        proved_at: BTreeMap::new(),
    })
}

fn at_parent(row: &KeysRow, num: KeyNum) -> api::AtParent {
    let parent = &row.zone.parent;
    if row.zone.look(What::Ds).is_none() {
        api::AtParent::Unknown
    } else if parent.shown.contains(&num) {
        api::AtParent::Seen
    } else if parent.wanted.contains(&num) {
        api::AtParent::Wanted
    } else {
        api::AtParent::Absent
    }
}

fn state_of(s: KeyState) -> api::KeyState {
    match s {
        KeyState::Generated => api::KeyState::Generated,
        KeyState::Published => api::KeyState::Published,
        KeyState::Ready => api::KeyState::Ready,
        KeyState::Active => api::KeyState::Active,
        KeyState::Retired => api::KeyState::Retired,
        KeyState::Dead => api::KeyState::Dead,
        KeyState::Removed => api::KeyState::Removed,
        KeyState::Revoked => api::KeyState::Revoked,
    }
}

fn since(k: &Key, state: KeyState) -> Option<Timestamp> {
    let t = &k.times;
    match state {
        KeyState::Generated => t.generated_at,
        KeyState::Published => t.published_at,
        KeyState::Ready => t.seen_at,
        KeyState::Active => t.active_at,
        KeyState::Retired => t.retired_at,
        KeyState::Dead => t.gone_at,
        KeyState::Removed => t.removed_at,
        KeyState::Revoked => t.revoked_at,
    }
}

fn next(
    row: &KeysRow,
    k: &Key,
    state: KeyState,
    expires_at: Option<Timestamp>,
    remove_at: Option<Timestamp>,
    policy: &KeyPolicy,
) -> Option<String> {
    match state {
        KeyState::Active => {
            let at = due_at(&row.zone, policy, k).or(expires_at)?;
            Some(format!("expires {}", at.to_human()))
        }
        KeyState::Generated if policy.require_backup && !k.backed_up => {
            Some("waits for a backup".into())
        }
        KeyState::Removed if k.times.trashed_at.is_some() => Some("in the trash".into()),
        KeyState::Removed => Some(format!("trash {}", remove_at?.to_human())),
        KeyState::Published if k.standby => Some("standby".into()),
        KeyState::Ready if k.standby => Some("standby".into()),
        _ => {
            let mut rolls = row.zone.rolls.iter();
            let roll = rolls.find(|r| r.new.contains(&k.num) || r.old.contains(&k.num))?;
            Some(roll.state().into())
        }
    }
}

pub fn kind(class: Class) -> api::RollKind {
    match class {
        Class::FirstKeys => api::RollKind::FirstKeys,
        Class::Insecure => api::RollKind::Insecure,
        Class::Algorithm => api::RollKind::Algorithm,
        Class::Csk => api::RollKind::Csk,
        Class::Ksk => api::RollKind::Ksk,
        Class::Zsk => api::RollKind::Zsk,
    }
}

pub fn rolls(
    zone: &str,
    row: &KeysRow,
    rules: &KeyPolicy,
    facts: &Facts,
    now: Timestamp,
) -> Vec<api::Roll> {
    let rolls = row.zone.rolls.iter();
    rolls
        .map(|r| roll(zone, row, rules, facts, r, now))
        .collect()
}

pub fn roll(
    zone: &str,
    row: &KeysRow,
    rules: &KeyPolicy,
    facts: &Facts,
    roll: &Roll,
    now: Timestamp,
) -> api::Roll {
    let keys = &row.zone;
    let ids = |nums: &[KeyNum]| nums.iter().map(KeyNum::to_string).collect();
    let tags = |nums: &[KeyNum]| -> Vec<u16> {
        let keys = nums.iter().filter_map(|n| keys.key(*n));
        keys.map(Key::tag).collect()
    };
    let looks: Vec<&SweepReport> = awaited(roll)
        .into_iter()
        .filter_map(|w| keys.look(w))
        .filter(|l| l.started >= roll.since)
        .collect();
    let last_look = looks.iter().map(|l| l.ended).max();
    let waiting = cascade_keys::waiting(keys, rules, facts, roll, now);
    let is_looking = matches!(waiting.whom, Whom::Servers | Whom::Parent);
    let automatic = is_automatic(rules, roll);
    let rows = roll.kind.rows();
    let place = rows.iter().position(|r| r.stage == roll.stage);
    api::Roll {
        zone: Some(zone.to_string()),
        kind: kind(roll.class()),
        roll_type: roll.kind.word().into(),
        state: roll.state().into(),
        step: Some(place.map_or(0, |i| i as u32 + 1)),
        steps: Some(rows.len() as u32),
        old: ids(&roll.old),
        new: ids(&roll.new),
        old_tags: tags(&roll.old),
        new_tags: tags(&roll.new),
        waits_for: Some(whom_word(&waiting.whom).into()),
        why: Some(match roll.instead {
            Some(i) => format!("{}; {}", waiting.text, i.words()),
            None => waiting.text,
        }),
        since: Some(roll.since),
        started_at: Some(roll.started_at),
        earliest_at: earliest(row, rules, roll),
        last_look,
        next_look: waiting.next.filter(|_| is_looking),
        next_check: waiting.next,
        automatic: Some(automatic),
        next_command: (!automatic).then(|| command(zone, row, roll, now)),
        evidence: looks.into_iter().flat_map(|l| evidence(row, l)).collect(),
        highest_ttl_secs: highest(row, now),
    }
}

/// Whom or what a step waits for, in the API's word.
fn whom_word(whom: &Whom) -> &'static str {
    match whom {
        Whom::Servers => "servers",
        Whom::Signer => "signer",
        Whom::Parent => "parent",
        Whom::Caches => "caches",
        Whom::Token(_) => "token",
        Whom::Backup => "backup",
        Whom::Operator => "operator",
    }
}

fn awaited(roll: &Roll) -> Vec<What> {
    let mut whats: Vec<What> = roll
        .row()
        .map_or(&[][..], |r| r.seen)
        .iter()
        .map(|s| What::of(*s))
        .collect();
    whats.sort_unstable();
    whats.dedup();
    whats
}

fn earliest(row: &KeysRow, rules: &KeyPolicy, roll: &Roll) -> Option<Timestamp> {
    let waits = row.zone.cache_waits(rules, roll);
    let at = |f: Free| match f {
        Free::At { at, .. } => Some(at),
        Free::Always | Free::Served => None,
    };
    waits.into_iter().filter_map(|w| at(w.free)).max()
}

/// The command that ends the step by hand.
pub fn command(zone: &str, row: &KeysRow, roll: &Roll, now: Timestamp) -> String {
    let step = roll.stage.step();
    let ttl = match step {
        Step::Propagation1Complete | Step::Propagation2Complete => {
            let ttl = row.zone.step_ttl(roll, now).unwrap_or(ASSUMED_DS_TTL);
            format!(" {ttl}")
        }
        _ => String::new(),
    };
    let class = roll.class().word();
    format!("cascade keyset {zone} {class} {}{ttl}", step.word())
}

/// The highest TTLs that a cache may still hold.
fn highest(row: &KeysRow, now: Timestamp) -> BTreeMap<String, u32> {
    type Test = fn(&Served) -> bool;
    const CLASSES: [(&str, Test); 3] = [
        ("dnskey", |s| matches!(s, Served::Dnskey(_))),
        ("ds", |s| matches!(s, Served::Ds { .. })),
        ("data", |s| {
            matches!(s, Served::Data { .. } | Served::Unsigned)
        }),
    ];
    let log = &row.zone.log;
    CLASSES
        .into_iter()
        .filter_map(|(name, test)| Some((name.to_string(), log.highest_alive(test, now)?)))
        .collect()
}

/// What each server of a look showed.
pub fn evidence(row: &KeysRow, look: &SweepReport) -> Vec<Evidence> {
    let what = match look.what {
        What::Dnskey => "dnskey",
        What::Rrsig => "rrsig",
        What::Ds => "ds",
    };
    let expected: Vec<u16> = match look.what {
        What::Ds => row.zone.parent.wanted.clone(),
        What::Dnskey => row
            .zone
            .published
            .as_ref()
            .map_or(Vec::new(), |p| p.apex.dnskey.clone()),
        What::Rrsig => Vec::new(),
    }
    .iter()
    .filter_map(|n| Some(row.zone.key(*n)?.tag()))
    .collect();
    look.members
        .iter()
        .map(|m| {
            let back = |s: &str| match m.flipped_at {
                Some(at) => format!("{s}; it went back {}", at.to_human()),
                None => s.to_string(),
            };
            let verdict = match m.verdict {
                Verdict::Match => "as expected".to_string(),
                Verdict::Unsteady => back("as expected again"),
                Verdict::Mismatch => back("not yet as expected"),
                Verdict::NoAnswer => "no evidence".to_string(),
                Verdict::Excused => "left out".to_string(),
            };
            let ttl = m.ttl.map_or(String::new(), |t| format!(", TTL {t}"));
            let text = format!(
                "{} {}: {} {}{ttl}, {verdict}",
                m.server,
                m.place(),
                what.to_uppercase(),
                m.found
            );
            Evidence {
                what: what.into(),
                text: Some(text),
                at: Some(m.address.clone()),
                name: Some(m.server.clone()),
                nsid: m.nsid.clone(),
                found: m.found.split(' ').filter_map(|t| t.parse().ok()).collect(),
                expected: expected.clone(),
                ttl_secs: m.ttl,
                asked_at: Some(look.ended),
            }
        })
        .collect()
}

/// Records for the parent are named by these keys: what it should have at this moment.
pub fn for_parent(row: &KeysRow) -> Vec<&Key> {
    let wanted = &row.zone.parent.wanted;
    let all = row.zone.keys.iter().filter(|k| k.role.signs_keys());
    if wanted.is_empty() {
        // Not settled yet: the answer is the same that will be wanted.
        return all
            .filter(|k| k.in_service() || k.times.published_at.is_none() && !k.standby)
            .filter(|k| k.times.retired_at.is_none() && k.times.removed_at.is_none())
            .collect();
    }
    all.filter(|k| wanted.contains(&k.num)).collect()
}
