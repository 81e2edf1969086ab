//! Events of keys and rolls in the words of the history and the log.

use cascade_keys::{Cause, Delegation, Event, KeyNum, Role, Roll, Strategy};
use cascade_pipeline::history::HistoryKind;

use super::row::KeysRow;

/// What the history says of `event`, told against the state before it; `None` for what only the
/// key manager remembers.
pub fn note(event: &Event, row: &KeysRow) -> Option<(HistoryKind, String)> {
    let name = |n: &KeyNum| row.zone.key(*n).map_or(n.to_string(), named);
    Some(match event {
        Event::KeyAdded { key, .. } => (
            HistoryKind::KeyMade,
            format!(
                "{} {} of algorithm {}: {}",
                named(key),
                origin(key),
                key.algorithm,
                key.num
            ),
        ),
        Event::KeyBackedUp { key, .. } => changed(format!("{} is in a backup", name(key))),
        Event::TakenOver { .. } => changed("keys in service were taken over".into()),
        Event::KeyRestored { key, .. } => changed(format!(
            "{} was brought back, because the parent has its DS",
            name(key)
        )),
        Event::KeyRecovered { key, .. } => changed(format!(
            "{} is out of the trash; the next roll of its role takes it",
            name(key)
        )),
        Event::KeyDropped { key, .. } => changed(format!("{} leaves", name(key))),
        Event::KeyCompromised { key, .. } => changed(format!("{} is compromised", name(key))),
        Event::KeyTrashed { key, .. } => changed(format!("{} is in the trash", name(key))),
        Event::KeyDestroyed { key, .. } => changed(format!("{} was destroyed", name(key))),
        Event::KeyForgotten { key, .. } => changed(format!(
            "{} was given up; its store did not destroy it and still has it",
            name(key)
        )),
        Event::RollStarted { roll } => (HistoryKind::RollStarted, started(roll, row)),
        Event::RollStepped { class, to, .. } => {
            let roll = row.zone.roll(*class)?;
            let next = roll.kind.row(*to)?;
            (
                HistoryKind::RollStep,
                format!("{class}: {} is over, now {}", roll.state(), next.state),
            )
        }
        Event::RollDone { class, .. } => (HistoryKind::RollDone, format!("{class} is done")),
        Event::RollCancelled { class, .. } => {
            (HistoryKind::RollDone, format!("{class} was given up"))
        }
        Event::RollHurried {
            class, strategy, ..
        } => (
            HistoryKind::RollStep,
            format!(
                "{class} goes on as an emergency, {}",
                strategy_word(*strategy)
            ),
        ),
        Event::Vouched {
            class, who, ttl, ..
        } => (
            HistoryKind::RollStep,
            format!("{class}: {who} vouches for what servers show, with TTL {ttl}"),
        ),
        Event::IslandLeft { .. } => changed("the DS is wanted again".into()),
        Event::ParentTold { .. } => (
            HistoryKind::DsWanted,
            "the parent was told of its DS set".into(),
        ),
        Event::ParentNotified { text, .. } => {
            (HistoryKind::DsWanted, format!("NOTIFY(CDS): {text}"))
        }
        Event::ParentReminded { .. } => (HistoryKind::DsWanted, "reminded of the parent".into()),
        Event::ClockStepped { by_secs, .. } => changed(format!(
            "the clock was stepped forward by {by_secs} s; waits grow by it"
        )),
        Event::KeyProved { .. } | Event::VersionPublished(_) => return None,
        Event::Swept(report) => {
            // Only what changes: looks are many.
            let was = row.zone.parent.delegation;
            let is = report.delegation.filter(|d| *d != was)?;
            (HistoryKind::DsSeen, delegation(is).into())
        }
    })
}

/// What the parent should have, for the log; `None` where no parent would follow.
pub fn wanted_text(zone: &str, row: &KeysRow) -> Option<String> {
    let parent = &row.zone.parent;
    if !matches!(parent.delegation, Delegation::Ours | Delegation::Linked) {
        return None;
    }
    let text = |nums: &[KeyNum]| -> Vec<String> {
        nums.iter()
            .filter_map(|n| row.zone.key(*n))
            .filter_map(|k| cascade_keys::DsRecord::of(&row.zone.owner, k, 2))
            .map(|d| d.text())
            .collect()
    };
    let gone: Vec<KeyNum> = parent
        .shown
        .iter()
        .copied()
        .filter(|n| !parent.wanted.contains(n))
        .collect();
    let set = match text(&parent.wanted) {
        set if set.is_empty() => "no DS".to_string(),
        set => set.join(", "),
    };
    let remove = match text(&gone) {
        gone if gone.is_empty() => String::new(),
        gone => format!("; remove: {}", gone.join(", ")),
    };
    Some(format!(
        "the parent should have exactly: {set}{remove}. See: cascade keyset {zone} get ds"
    ))
}

fn changed(text: String) -> (HistoryKind, String) {
    (HistoryKind::KeyChanged, text)
}

fn named(key: &cascade_keys::Key) -> String {
    match key.role {
        Role::Foreign => format!("foreign key {}", key.tag()),
        role => format!("{role} {}", key.tag()),
    }
}

fn origin(key: &cascade_keys::Key) -> &'static str {
    match key.origin {
        cascade_keys::Origin::Generated => "was made",
        cascade_keys::Origin::Imported | cascade_keys::Origin::Foreign => "was imported",
    }
}

fn started(roll: &Roll, row: &KeysRow) -> String {
    let tags = |nums: &[KeyNum]| -> String {
        let tags: Vec<String> = nums
            .iter()
            .filter_map(|n| row.zone.key(*n))
            .map(|k| k.tag().to_string())
            .collect();
        tags.join("+")
    };
    let why = match roll.cause {
        Cause::Due => "due",
        Cause::Policy => "policy",
        Cause::Operator => "ordered",
        Cause::Emergency => "emergency",
        Cause::Parent => "parent",
    };
    let old = match tags(&roll.old) {
        old if old.is_empty() => String::new(),
        old => format!(", replaces {old}"),
    };
    let instead = roll
        .instead
        .map_or(String::new(), |i| format!("; {}", i.words()));
    format!(
        "{} ({}) started ({why}){old}{instead}",
        roll.class(),
        roll.kind.word()
    )
}

fn strategy_word(s: Strategy) -> &'static str {
    match s {
        Strategy::Normal => "normal",
        Strategy::Safe => "safe",
        Strategy::Fast => "fast",
    }
}

fn delegation(d: Delegation) -> &'static str {
    match d {
        Delegation::Unknown => "what the parent says of the zone is not known",
        Delegation::None => "the parent does not delegate the zone",
        Delegation::Elsewhere => "the zone is delegated to other servers",
        Delegation::Ours => "the parent delegates the zone to its servers",
        Delegation::Linked => "the parent has a DS of the zone's keys",
        Delegation::Root => "the zone is the root",
    }
}
