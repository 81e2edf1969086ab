//! One sentence that names what is waited for, the evidence, and the next look.

use cascade_time::{Timestamp, format_span};

use crate::ds::DsRecord;
use crate::key::KeyNum;
use crate::next_action::{Facts, is_automatic, is_published, next_deadline};
use crate::observe::{Delegation, Verdict, What};
use crate::policy::KeyPolicy;
use crate::roll::{Class, Roll, Stage, Step};
use crate::state::ZoneKeys;
use crate::ttl::Free;
use crate::wish::wishes;

/// Why nothing moves, or what comes next. `name` is the zone as people write it.
pub fn why(
    name: &str,
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    facts: &Facts,
    now: Timestamp,
) -> String {
    let looks = || {
        next_deadline(zone, policy, facts, now).map_or(String::new(), |d| {
            format!(" Next look or step {}.", d.to_human())
        })
    };
    if zone.parent.vanished {
        return format!(
            "{name}: the parent has no DS any more, so the zone is insecure; rolls wait until the \
             DS is back ({}).{}",
            zone.wanted_ds(policy)
                .first()
                .map_or("-".to_string(), |d| d.text()),
            looks()
        );
    }
    if facts.clock_held {
        return format!("{name}: waits for you: the clock was stepped and is not confirmed.");
    }
    if facts.paused {
        return format!("{name}: waits for you: key decisions are paused.");
    }
    if let Some(roll) = zone.rolls.first() {
        return format!(
            "{name}: the {} ({}, {} -> {}) {} since {}.{}",
            roll.class(),
            roll.kind.word(),
            tags(zone, &roll.old),
            tags(zone, &roll.new),
            detail(zone, policy, roll, now),
            roll.since.to_human(),
            looks()
        );
    }
    let wanted = zone
        .parent
        .wanted
        .iter()
        .any(|n| !zone.parent.shown.contains(n));
    if wanted && zone.parent.delegation == Delegation::Ours {
        let ds: Vec<String> = zone.wanted_ds(policy).iter().map(|d| d.text()).collect();
        return format!(
            "{name}: waits for the parent: it should have exactly {}.{}",
            ds.join(", "),
            looks()
        );
    }
    let next = wishes(zone, policy, now)
        .into_iter()
        .filter(|w| policy.auto(w.kind.class()).start)
        .min_by_key(|w| w.at);
    match next {
        Some(w) => format!(
            "{name}: nothing to wait for. Next: {} on {}.",
            w.kind.class(),
            w.at.to_human()
        ),
        None => format!("{name}: nothing to wait for."),
    }
}

/// Something that people should know even if no roll waits for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Alert {
    /// Linked before, and now there is no DS: the zone is insecure.
    DsVanished,
    /// A DS leads to a key that no longer exists; resolvers that use it see bogus data.
    DsOfLostKey { key: KeyNum, ds: Vec<DsRecord> },
    /// A DS that fits no key of the zone.
    ForeignDs,
    /// A DS is at the parent before it was asked for; `alone`: without one that leads to a key
    /// that all caches know.
    EarlyDs {
        key: KeyNum,
        alone: bool,
        until: Option<Timestamp>,
    },
    /// The parent has not followed for longer than `remind_after`.
    ParentLate { since: Timestamp },
    /// A roll takes longer than the key it replaces was to live.
    RollTooLong { class: Class },
}

impl Alert {
    pub fn is_critical(&self) -> bool {
        matches!(
            self,
            Alert::DsVanished | Alert::DsOfLostKey { .. } | Alert::EarlyDs { alone: true, .. }
        )
    }

    pub fn text(&self) -> String {
        match self {
            Alert::DsVanished => "the parent has no DS any more: the zone is insecure".to_string(),
            Alert::DsOfLostKey { key, ds } => format!(
                "the parent has a DS of key {key}, which is gone; have it removed: {}",
                ds.iter().map(DsRecord::text).collect::<Vec<_>>().join(", ")
            ),
            Alert::ForeignDs => "the parent has a DS that fits no key of this zone".to_string(),
            Alert::EarlyDs { key, until, .. } => format!(
                "the parent has a DS of key {key} before it was asked for; caches may hold data \
                 that do not fit it{}",
                until.map_or(String::new(), |u| format!(" until {}", u.to_human()))
            ),
            Alert::ParentLate { since } => format!(
                "the parent has not followed since {}; see: get ds",
                since.to_human()
            ),
            Alert::RollTooLong { class } => {
                format!("the {class} takes longer than the validity of its key")
            }
        }
    }
}

/// All alerts at `now`.
pub fn alerts(zone: &ZoneKeys, policy: &KeyPolicy, now: Timestamp) -> Vec<Alert> {
    let mut out = Vec::new();
    let parent = &zone.parent;
    if parent.vanished {
        out.push(Alert::DsVanished);
    }
    for k in zone.keys.iter().filter(|k| parent.shown.contains(&k.num)) {
        let left = k.times.removed_at.or(k.times.trashed_at);
        if k.times.destroyed_at.is_some() || (k.compromised && left.is_some()) {
            let of = |d: &u8| DsRecord::of(&zone.owner, k, *d);
            out.push(Alert::DsOfLostKey {
                key: k.num,
                ds: [1, 2, 4].iter().filter_map(of).collect(),
            });
        }
    }
    if parent.foreign && parent.delegation != Delegation::Elsewhere {
        out.push(Alert::ForeignDs);
    }
    out.extend(early_ds(zone, policy, now));
    let reachable = matches!(parent.delegation, Delegation::Ours | Delegation::Linked);
    if let (Some(since), None, true) = (parent.wanted_at, parent.followed_at, reachable)
        && now.since(since) >= policy.remind_after
    {
        out.push(Alert::ParentLate { since });
    }
    for roll in &zone.rolls {
        let validity = roll
            .old
            .iter()
            .filter_map(|n| policy.validity(zone.key(*n)?.role))
            .min();
        if validity.is_some_and(|v| now.since(roll.started_at) > v) {
            out.push(Alert::RollTooLong {
                class: roll.class(),
            });
        }
    }
    out
}

/// Keys on their way in whose DS is there already.
fn early_ds(zone: &ZoneKeys, policy: &KeyPolicy, now: Timestamp) -> Vec<Alert> {
    let parent = &zone.parent;
    let led = parent.wanted.iter().any(|n| parent.shown.contains(n));
    let mut out = Vec::new();
    for roll in &zone.rolls {
        let ends = zone.cache_waits(policy, roll).into_iter();
        let until = ends.filter_map(|w| match w.free {
            Free::At { at, .. } if at > now => Some(at),
            _ => None,
        });
        let until = until.max();
        for key in roll.new.iter().copied() {
            if parent.shown.contains(&key) && !parent.wanted.contains(&key) {
                let alone = !led;
                out.push(Alert::EarlyDs { key, alone, until });
            }
        }
    }
    out
}

/// The beginning of every sentence about a waiting roll.
pub fn waits_for(zone: &ZoneKeys, policy: &KeyPolicy, roll: &Roll) -> String {
    if roll.stage == Stage::Keys {
        let made = roll.new.iter().filter_map(|n| zone.key(*n));
        let unsaved = made
            .into_iter()
            .find(|k| policy.require_backup && !k.backed_up);
        return match unsaved {
            Some(k) => format!("waits for a backup of key {}", k.tag()),
            None => "waits for new keys".to_string(),
        };
    }
    let Some(row) = roll.row() else {
        return "waits".to_string();
    };
    let open = row.seen.iter().find(|s| !roll.is_met(**s));
    match open {
        Some(s) if !zone.is_signed_for(roll, *s) => "waits for signing".to_string(),
        Some(s) if What::of(*s) == What::Ds => "waits for the parent".to_string(),
        Some(_) => "waits for its name servers".to_string(),
        None if row.expired.is_empty() => "waits for you".to_string(),
        None => "waits for caches".to_string(),
    }
}

fn detail(zone: &ZoneKeys, policy: &KeyPolicy, roll: &Roll, now: Timestamp) -> String {
    let mut text = waits_for(zone, policy, roll);
    let Some(row) = roll.row() else { return text };
    if !is_published(zone, policy, now) {
        return "waits for signing: the version with its keys is not published yet".to_string();
    }
    for s in row.seen.iter().filter(|s| !roll.is_met(**s)) {
        let Some(look) = zone.look(What::of(*s)).filter(|l| l.started >= roll.since) else {
            continue;
        };
        let agree = look
            .members
            .iter()
            .filter(|m| m.verdict == Verdict::Match)
            .count();
        let bad = look
            .members
            .iter()
            .find(|m| matches!(m.verdict, Verdict::Mismatch | Verdict::NoAnswer));
        if let Some(m) = bad {
            text += &format!(
                " ({} at {} has {}; {agree} of {} addresses agree)",
                m.server,
                m.address,
                m.found,
                look.members.len()
            );
            return text;
        }
    }
    let mut ready = row.seen.iter().all(|s| roll.is_met(*s));
    for w in zone.cache_waits(policy, roll) {
        match w.free {
            Free::At { at, ttl } if at > now => {
                ready = false;
                text += &format!(
                    " (they may hold {} until {}, {} from now, TTL {ttl})",
                    w.dying.words(),
                    at.to_human(),
                    format_span(at.since(now))
                );
            }
            Free::Served => {
                ready = false;
                text += &format!(" (a server may still show {})", w.dying.words());
            }
            _ => {}
        }
    }
    if ready && !is_automatic(policy, roll) {
        let step = roll.stage.step();
        let ttl = match step {
            Step::Propagation1Complete | Step::Propagation2Complete => zone
                .step_ttl(roll, now)
                .map_or(String::new(), |t| format!(" {t}")),
            _ => String::new(),
        };
        text = format!(
            "waits for you and may go on: {} {}{ttl}",
            roll.class().word(),
            step.word()
        );
    }
    text
}

fn tags(zone: &ZoneKeys, nums: &[KeyNum]) -> String {
    if nums.is_empty() {
        return "-".to_string();
    }
    nums.iter()
        .filter_map(|n| zone.key(*n))
        .map(|k| k.tag().to_string())
        .collect::<Vec<_>>()
        .join("+")
}
