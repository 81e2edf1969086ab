//! Conditions of scenarios.

use cascade_keys::{Alert, Cds, RollType, alerts, waits_for, why};

use crate::scenario::{CdsIs, Cond, Counter, Flag, matches};
use crate::world::World;

/// Whether a condition of a scenario is true now.
pub fn holds(w: &World, c: &Cond) -> bool {
    let now = w.wall();
    let reason = || why("example.", &w.zone, &w.policy, &w.facts, now);
    let told = || alerts(&w.zone, &w.policy, now);
    match c {
        Cond::Running {
            class,
            state,
            stage,
            why: text,
        } => w.zone.roll(*class).is_some_and(|r| {
            state.as_ref().is_none_or(|s| s == r.state())
                && stage.is_none_or(|s| s == r.stage)
                && text.as_ref().is_none_or(|t| {
                    matches(t, &reason()) || matches(t, &waits_for(&w.zone, &w.policy, r, now))
                })
        }),
        Cond::NotRunning(class) => w.zone.roll(*class).is_none(),
        Cond::Done(class, n) => {
            let of = |(k, n): (&RollType, &usize)| if k.class() == *class { *n } else { 0 };
            w.finished.iter().map(of).sum::<usize>() >= *n
        }
        Cond::NoRolls => w.zone.rolls.is_empty(),
        Cond::Why(p) => matches(p, &reason()),
        Cond::NoAlert => told().is_empty(),
        Cond::Alert(p) => told().iter().any(|a| matches(p, &a.text())),
        Cond::Critical => told().iter().any(Alert::is_critical),
        Cond::Is(flag, yes) => {
            let is = match flag {
                Flag::Published => w.zone.published.is_some(),
                Flag::Settled => w.zone.settled_at.is_some(),
                Flag::Linked => w.zone.parent.linked_at.is_some(),
                Flag::Island => w.zone.island,
                Flag::Unsigned => w.zone.published.as_ref().is_some_and(|p| p.apex.unsigned),
            };
            is == *yes
        }
        Cond::Dnskey(keys) => {
            let p = w.zone.published.as_ref();
            p.is_some_and(|p| p.apex.dnskey == *keys)
        }
        Cond::Signers(keys) => w.zone.published.as_ref().is_some_and(|p| p.any == *keys),
        Cond::Cds(is) => w
            .zone
            .published
            .as_ref()
            .is_some_and(|p| match (is, &p.apex.cds) {
                (CdsIs::None, Cds::None) | (CdsIs::Delete, Cds::Delete) => true,
                (CdsIs::Keys(a), Cds::Keys(b)) => a == b,
                _ => false,
            }),
        Cond::Content(n) => w.servers[0]
            .has
            .is_some_and(|v| w.versions[v].content == *n),
        Cond::DsIs(keys) => w.ds_everywhere().iter().all(|d| d == keys),
        Cond::Key(n, state) => {
            let key = w.zone.key(*n);
            key.is_some_and(|k| w.zone.key_state(k, &w.policy, now) == *state)
        }
        Cond::Count(counter, n) => {
            let count = match counter {
                Counter::Destroyed => w.destroyed,
                Counter::Reminders => w.reminders,
                Counter::Refused => w.refused,
                Counter::Restarts => w.restarts,
                Counter::Announced => w.announced,
                Counter::Held => w.held,
                Counter::Keys => w.zone.keys.len(),
            };
            count as u64 >= *n
        }
    }
}
