//! What is due besides the steps of rolls: looks, new keys, the parent, and removal.

use std::time::Duration;

use cascade_time::Timestamp;

use crate::apex::Cds;
use crate::ds::DsRecord;
use crate::key::KeyNum;
use crate::mutants::{Mutant, is};
use crate::next_action::{Action, Plan, is_published};
use crate::observe::{Delegation, STEADY, Scope, What, next_look, next_watch};
use crate::roll::{Roll, RollType, Stage, Strategy};
use crate::ttl::{Free, Served};

const DAY: Duration = Duration::from_secs(86_400);

impl Plan<'_> {
    pub(crate) fn looks(&mut self) {
        if self.zone.published.is_none() {
            return;
        }
        for what in What::ALL {
            let Some(mut due) = self.look_due(what) else {
                continue;
            };
            if self.facts.look_now {
                due = self.now;
            }
            let scope = match what {
                What::Ds => Scope::Servers,
                _ => self.zone.scope(self.policy),
            };
            self.at(due, || Action::Look { what, scope });
        }
    }

    fn look_due(&self, what: What) -> Option<Timestamp> {
        let zone = self.zone;
        let p = zone.published.as_ref()?;
        let last = zone.look(what).map(|l| l.ended);
        let since = zone.look_since(what).max(match what {
            What::Dnskey => p.apex_at,
            What::Rrsig => p.data_at,
            What::Ds => Timestamp::EPOCH,
        });
        let is_out = is_published(zone, self.policy, self.now);
        let mut hurry = false;
        let awaited = zone.rolls.iter().any(|r| {
            let waits = r.row().is_some_and(|row| {
                row.seen
                    .iter()
                    .any(|s| What::of(*s) == what && zone.is_signed_for(r, *s))
            });
            hurry |= waits && r.strategy != Strategy::Normal;
            waits && (is_out || what == What::Ds)
        });
        let root = zone.parent.delegation == Delegation::Root;
        if what == What::Ds && root {
            return None;
        }
        let pending = match what {
            What::Ds => match zone.parent.delegation {
                Delegation::Unknown => !zone.unsigned,
                Delegation::Ours | Delegation::Linked => {
                    zone.parent.followed_at.is_none() && zone.parent.wanted_at.is_some()
                }
                _ => false,
            },
            // Old content whose end in the servers has not been seen yet.
            What::Dnskey => self.is_open(|s| matches!(s, Served::Dnskey(_))),
            What::Rrsig => {
                // The parent is told when it is everywhere.
                if self.awaits_notify() && !zone.is_cds_everywhere() {
                    return Some(next_look(since.max(p.data_at), last));
                }
                // Both keys sign it from P1 on; only a double-DS roll waits for the old copies.
                let cds = zone.rolls.iter().any(|r| {
                    r.kind == RollType::KskDoubleDs && matches!(r.stage, Stage::P1 | Stage::C1)
                });
                let open = self.is_open(|s| match s {
                    Served::Data { .. } | Served::Unsigned => true,
                    Served::Cds(_) => cds,
                    _ => false,
                });
                open || zone.log.awaits_serials(&Served::Dnskey(Vec::new()))
            }
        };
        if awaited || pending {
            // The delegation is asked for from the first publication on.
            let since = if since == Timestamp::EPOCH {
                p.apex_at
            } else {
                since
            };
            let mut next = next_look(since, last);
            if let (Some(look), Some(last)) = (zone.look(what), last)
                && look.is_unsteady()
            {
                next = next.min(last.saturating_add(STEADY / 6).max(since));
            }
            let minute = last.map(|l| l.saturating_add(Duration::from_secs(60)));
            return Some(match minute {
                Some(m) if hurry => next.min(m.max(since)),
                _ => next,
            });
        }
        // What has left all servers must stay away while caches are waited for.
        let watches = |r: &&Roll| {
            r.row()
                .is_some_and(|row| row.expired.iter().any(|d| d.look() == what))
        };
        let watched = zone.rolls.iter().filter(watches).map(|r| r.since).max();
        if let Some(since) = watched {
            return Some(next_watch(since, last));
        }
        // A DS that comes late to a zone that is unsigned by now makes it bogus.
        let seen = what == What::Ds && !zone.keys.is_empty() && !is(Mutant::UnsignedUnseen);
        let signed = !zone.unsigned || seen;
        if !signed || what == What::Rrsig {
            return None;
        }
        // Once a day, so that TTLs are known before a roll and drift is noticed.
        Some(last.unwrap_or(p.apex_at).saturating_add(DAY))
    }

    fn is_open(&self, of: impl Fn(&Served) -> bool) -> bool {
        self.zone
            .log
            .entries
            .iter()
            .any(|e| e.superseded && e.last.is_none() && of(&e.what))
    }

    pub(crate) fn generation(&mut self) {
        // Numbers are given by place, so that one key that cannot be made delays no other.
        let mut num = self.zone.next_key();
        for roll in &self.zone.rolls {
            if roll.stage != Stage::Keys {
                continue;
            }
            for role in &roll.wants {
                let has = roll
                    .new
                    .iter()
                    .any(|n| self.zone.key(*n).is_some_and(|k| k.role == *role));
                if has {
                    continue;
                }
                let home = self.policy.home(*role).clone();
                self.at(self.now, || Action::GenerateKey {
                    num,
                    role: *role,
                    algorithm: roll.algorithm,
                    home,
                    roll: Some(roll.class()),
                });
                num.0 = num.0.saturating_add(1);
            }
        }
        if self.zone.settled_at.is_none() || self.zone.unsigned || self.facts.paused {
            return;
        }
        // In the middle of a roll no key may be in service, so what counts is what is published.
        let algorithm = self.policy.algorithm;
        let mut there = self.zone.keys.iter().filter(|k| k.is_published());
        if there.any(|k| k.algorithm != algorithm) {
            return;
        }
        for (role, want) in self.standby_wishes() {
            let busy = self.zone.rolls.iter().any(|r| r.wants.contains(&role));
            if !busy && self.standby(role).count() < want as usize {
                let home = self.policy.home(role).clone();
                self.at(self.now, || Action::GenerateKey {
                    num,
                    role,
                    algorithm,
                    home,
                    roll: None,
                });
                return;
            }
        }
    }

    pub(crate) fn parent(&mut self) {
        let zone = self.zone;
        let reachable = matches!(
            zone.parent.delegation,
            Delegation::Ours | Delegation::Linked
        );
        let Some(wanted_at) = zone.parent.wanted_at.filter(|_| reachable) else {
            return;
        };
        if zone.island || zone.unsigned || zone.parent.followed_at.is_some() {
            return;
        }
        let set = zone.wanted_ds(self.policy);
        if self.policy.tell_parent && zone.parent.told_at.is_none() {
            let of = |nums: &[KeyNum], not: &[KeyNum]| -> Vec<DsRecord> {
                nums.iter()
                    .filter(|n| !not.contains(n))
                    .filter_map(|n| zone.key(*n))
                    .flat_map(|k| {
                        self.policy
                            .digests
                            .iter()
                            .filter_map(|d| DsRecord::of(&zone.owner, k, *d))
                    })
                    .collect()
            };
            let add = of(&zone.parent.wanted, &zone.parent.shown);
            let remove = of(&zone.parent.shown, &zone.parent.wanted);
            let set = set.clone();
            self.at(self.now, || Action::TellParent { add, remove, set });
        }
        if self.awaits_notify() && zone.is_cds_everywhere() {
            self.at(self.now, || Action::NotifyParent);
        }
        let remind = match zone.parent.reminded_at {
            Some(last) => last.saturating_add(DAY),
            None => wanted_at.saturating_add(self.policy.remind_after),
        };
        self.at(remind, || Action::Remind { set });
    }

    /// The parent's endpoint is still to be told of the CDS that is published.
    fn awaits_notify(&self) -> bool {
        let parent = &self.zone.parent;
        let reachable = matches!(parent.delegation, Delegation::Ours | Delegation::Linked);
        let has_cds = |p: &crate::state::Published| match &p.apex.cds {
            Cds::Keys(keys) => *keys == parent.wanted,
            Cds::Delete => parent.wanted.is_empty(),
            Cds::None => false,
        };
        self.policy.notify_parent
            && reachable
            && parent.wanted_at.is_some()
            && parent.followed_at.is_none()
            && parent.notified.is_none()
            && self.zone.published.as_ref().is_some_and(has_cds)
    }

    pub(crate) fn removal(&mut self) {
        if !self.policy.auto_remove || self.facts.paused || self.facts.clock_held {
            return;
        }
        for k in &self.zone.keys {
            let t = &k.times;
            let (Some(removed), None) = (t.removed_at, t.destroyed_at) else {
                continue;
            };
            if is(Mutant::DestroyAtOnce) {
                self.at(self.now, || Action::DestroyKey { key: k.num });
                continue;
            }
            if k.restored || self.zone.parent.shown.contains(&k.num) {
                continue;
            }
            let free = match self.ds_free(k) {
                Free::Served => continue,
                Free::Always => Timestamp::EPOCH,
                Free::At { at, .. } => at,
            };
            match t.trashed_at {
                None => {
                    let at = removed.saturating_add(self.policy.auto_remove_delay);
                    self.at(at.max(free), || Action::TrashKey { key: k.num });
                }
                Some(trashed) => {
                    let at = trashed.saturating_add(self.policy.trash_retention);
                    self.at(at.max(free), || Action::DestroyKey { key: k.num });
                }
            }
        }
    }
}
