//! What a sweep, or an operator's word, changes in the state.

use std::time::Duration;

use cascade_time::Timestamp;

use crate::key::KeyNum;
use crate::mutants::{Mutant, is};
use crate::observe::{Delegation, SweepReport, What};
use crate::roll::{Class, Met, Roll, RollType, Seen, Witness};
use crate::state::ZoneKeys;
use crate::ttl::{ASSUMED_DS_TTL, Entry, Served};

impl ZoneKeys {
    pub(crate) fn vouch(
        &mut self,
        class: Class,
        seen: &[Seen],
        who: &str,
        ttl: u32,
        corrects: bool,
        at: Timestamp,
    ) {
        let Some(i) = self.rolls.iter().position(|r| r.class() == class) else {
            return;
        };
        let roll = self.rolls[i].clone();
        if roll.kind == RollType::KskDoubleDs {
            // Its first step is also about the CDS at the zone's own servers.
            let like = Served::Cds(Vec::new());
            self.log.close_superseded(&like, at, Duration::ZERO);
        }
        for s in seen {
            match What::of(*s) {
                What::Dnskey => {
                    let like = Served::Dnskey(Vec::new());
                    self.log.close_superseded(&like, at, Duration::ZERO);
                }
                What::Rrsig => {
                    self.log
                        .close_superseded(&Served::Unsigned, at, Duration::ZERO);
                }
                What::Ds => self.vouch_ds(&roll, *s, ttl, corrects, at),
            }
            self.mark(&roll, *s, at);
            let r = &mut self.rolls[i];
            r.met.retain(|m| m.seen != *s);
            r.met.push(Met {
                seen: *s,
                at,
                witness: Witness::Operator(who.to_string()),
            });
        }
        if seen.contains(&Seen::Dnskey) {
            self.mark_seen(at);
        }
    }

    fn vouch_ds(&mut self, roll: &Roll, seen: Seen, ttl: u32, corrects: bool, at: Timestamp) {
        if corrects {
            for e in &mut self.log.entries {
                if matches!(e.what, Served::Ds { .. }) {
                    e.ttl = ttl;
                }
            }
        }
        let wanted = Served::Ds {
            ours: self.parent.wanted.clone(),
            usable: self.parent.wanted.clone(),
            foreign: false,
        };
        self.log
            .close_ds_except(&[(wanted.clone(), ttl)], at, Duration::ZERO);
        if seen == Seen::DsNone {
            return;
        }
        self.log.assume(
            Served::Ds {
                ours: self.kind(&roll.old, true),
                usable: self.kind(&roll.old, true),
                foreign: false,
            },
            ttl,
            at,
            Duration::ZERO,
        );
        self.log.observe(wanted, ttl, at);
    }

    pub(crate) fn sweep(&mut self, report: &SweepReport) {
        self.looks.retain(|l| l.what != report.what);
        self.looks.push(report.clone());
        self.looks.sort_by_key(|l| l.what);
        let end = if is(Mutant::LastAtStart) {
            report.started
        } else {
            report.ended
        };
        if report.went_back() {
            // Caches may take the old from there again.
            match report.what {
                What::Dnskey => self.log.reopen(&Served::Dnskey(Vec::new())),
                What::Rrsig => {
                    self.log.reopen(&Served::Unsigned);
                    self.log.reopen(&Served::Cds(Vec::new()));
                }
                // What a parent shows is logged as it is.
                What::Ds => {}
            }
        }
        match (report.what, report.passed) {
            (What::Dnskey, Some(x)) => {
                let like = Served::Dnskey(Vec::new());
                if !self.log.awaits_serials(&like) {
                    self.log
                        .close_superseded(&like, end, Duration::from_secs(x));
                }
                self.mark_seen(end);
            }
            (What::Rrsig, Some(x)) => {
                self.log
                    .serials_seen(&Served::Dnskey(Vec::new()), report.started);
                for like in [Served::Unsigned, Served::Cds(Vec::new())] {
                    self.log
                        .close_superseded(&like, end, Duration::from_secs(x));
                }
            }
            (What::Ds, _) => self.sweep_ds(report),
            _ => {}
        }
        for (class, seen, ok) in &report.seen {
            let Some(i) = self.rolls.iter().position(|r| r.class() == *class) else {
                continue;
            };
            let by_hand = |m: &Met| m.seen == *seen && matches!(m.witness, Witness::Operator(_));
            if self.rolls[i].met.iter().any(by_hand) {
                continue;
            }
            let had = self.rolls[i].is_met(*seen);
            if *ok && !had {
                self.rolls[i].met.push(Met {
                    seen: *seen,
                    at: end,
                    witness: Witness::Sweep,
                });
                let roll = self.rolls[i].clone();
                self.assume_old_ds(&roll, report, *seen);
                self.mark(&roll, *seen, end);
            } else if !*ok {
                // A server that has gone back to the old breaks what was met.
                self.rolls[i].met.retain(|m| m.seen != *seen);
            }
        }
    }

    fn sweep_ds(&mut self, report: &SweepReport) {
        let end = report.ended;
        let was = self.parent.delegation;
        if let Some(d) = report.delegation {
            self.parent.delegation = d;
        }
        let mut shown = Vec::new();
        for d in &report.ds {
            let what = Served::Ds {
                ours: d.ours.clone(),
                usable: d.usable.clone(),
                foreign: d.foreign,
            };
            self.log.observe(what.clone(), d.ttl, end);
            shown.push((what, d.ttl));
        }
        if let Some(x) = report.covered {
            self.log
                .close_ds_except(&shown, end, Duration::from_secs(x));
        }
        let mut usable: Vec<KeyNum> = report.ds.iter().flat_map(|d| d.usable.clone()).collect();
        usable.sort_unstable();
        usable.dedup();
        if !usable.is_empty() && !self.island {
            self.parent.linked_at.get_or_insert(end);
        }
        let empty = report.ds.iter().all(|d| d.ours.is_empty() && !d.foreign);
        self.parent.vanished = report.covered.is_some() && empty && self.parent.linked_at.is_some();
        self.parent.foreign = report.ds.iter().any(|d| d.foreign);
        self.parent.shown = report.ds.iter().flat_map(|d| d.ours.clone()).collect();
        self.parent.shown.sort_unstable();
        self.parent.shown.dedup();
        if report.passed.is_some() {
            self.parent.followed_at.get_or_insert(end);
        } else if report.covered.is_some() {
            self.parent.followed_at = None;
        }
        for roll in self.rolls.clone() {
            let swaps = roll.row().is_some_and(|r| r.new.ds && r.new.dnskey);
            if swaps && roll.new.iter().any(|n| usable.contains(n)) {
                self.activate_ksks(&roll, end);
            }
            if roll.kind == RollType::KskDoubleDs {
                for n in roll.new.iter().filter(|n| usable.contains(n)) {
                    self.with_key(*n, |k| {
                        k.times.published_at.get_or_insert(end);
                    });
                }
            }
        }
        let leads_here = self.parent.delegation == Delegation::Ours;
        let led_nowhere = matches!(was, Delegation::None | Delegation::Elsewhere);
        if leads_here && led_nowhere && self.settled_at.is_some() {
            // The zone was served here without being delegated here: whoever served it before may
            // have left unsigned data in caches, so first keys have to settle again.
            self.settled_at = None;
            let ttl = self.published.as_ref().map_or(86_400, |p| p.data_ttl);
            self.log.entries.push(Entry {
                what: Served::Unsigned,
                ttl,
                first: end,
                superseded: true,
                last: None,
                extra: 0,
                returned: false,
            });
        }
    }

    /// The old DS was there, or may have been, and no look saw it go: it was changed before we ever saw
    /// it, or came back and went again while nobody could look. It is assumed to have been in service
    /// until this sweep, with the TTL that it had when it was seen, or two days.
    fn assume_old_ds(&mut self, roll: &Roll, report: &SweepReport, seen: Seen) {
        let linked = self.parent.linked_at.is_some();
        let may_have_been = match (seen, self.parent.delegation) {
            (Seen::DsSwapped | Seen::DsBoth, _) => linked,
            // It was asked for, so it may have been there although no look ever saw one.
            (Seen::DsNone, Delegation::Ours | Delegation::Unknown) => true,
            (Seen::DsNone, _) => linked,
            _ => false,
        };
        if !may_have_been || is(Mutant::AssumeNothing) {
            return;
        }
        let (old, new) = (self.kind(&roll.old, true), self.kind(&roll.new, true));
        // An empty RRset that was seen before the old DS came says nothing about it.
        let was = |ours: &[KeyNum]| {
            let swapped = !new.is_empty() && new.iter().all(|n| ours.contains(n));
            old.iter().any(|n| ours.contains(n)) && !swapped
        };
        let both = |usable: &[KeyNum]| old.iter().chain(&new).all(|n| usable.contains(n));
        let mut known = false;
        let mut ttl = None;
        for e in &self.log.entries {
            let Served::Ds { ours, usable, .. } = &e.what else {
                continue;
            };
            if was(ours) {
                // One that ended before this wait began says nothing about what came after it.
                known |= e.last.is_none_or(|at| at >= roll.since);
                ttl = ttl.max(Some(e.ttl));
            }
            // Of a standby key: there before the roll began, and still there.
            known |= seen == Seen::DsBoth
                && both(usable)
                && e.last.is_none()
                && e.first <= roll.started_at;
        }
        if !known {
            self.log.assume(
                Served::Ds {
                    ours: old.clone(),
                    usable: old,
                    foreign: false,
                },
                ttl.unwrap_or(ASSUMED_DS_TTL),
                report.ended,
                Duration::from_secs(report.covered.unwrap_or(0)),
            );
        }
    }

    /// Times that follow from something being seen everywhere.
    fn mark(&mut self, roll: &Roll, seen: Seen, at: Timestamp) {
        let gone = match seen {
            Seen::DsSwapped => self.kind(&roll.old, true),
            Seen::RrsigOldGone => self.kind(&roll.old, false),
            Seen::Dnskey if roll.kind == RollType::KskDoubleDs => roll.old.clone(),
            _ => return,
        };
        for n in gone {
            self.with_key(n, |k| {
                k.times.gone_at = Some(at);
                k.times.retired_at.get_or_insert(at);
            });
        }
    }

    fn mark_seen(&mut self, at: Timestamp) {
        let shown = self
            .published
            .as_ref()
            .map(|p| p.apex.dnskey.clone())
            .unwrap_or_default();
        for n in shown {
            self.with_key(n, |k| {
                k.times.seen_at.get_or_insert(at);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::double_ds::{policy, publish, t, zone};
    use crate::event::Event;
    use crate::observe::DsShown;
    use crate::policy::KeyPolicy;
    use crate::roll::{Cause, Dying, Stage, Strategy};
    use crate::ttl::Free;
    use crate::{begin, step_event};

    const OLD: KeyNum = KeyNum(1);
    const NEW: KeyNum = KeyNum(3);
    const TTL: u32 = 7200;

    /// All of the parent's servers show the DS of these keys; `seen` is met by it.
    fn shown(z: &mut ZoneKeys, keys: &[KeyNum], seen: Option<(Class, Seen)>, at: u64) {
        z.apply(&Event::Swept(SweepReport {
            what: What::Ds,
            started: t(at),
            ended: t(at),
            members: Vec::new(),
            passed: None,
            covered: Some(0),
            seen: seen.map(|(c, s)| (c, s, true)).into_iter().collect(),
            ds: vec![DsShown {
                ours: keys.to_vec(),
                usable: keys.to_vec(),
                foreign: false,
                ttl: if keys.is_empty() { 60 } else { TTL },
            }],
            delegation: None,
        }));
    }

    fn started(z: &mut ZoneKeys, p: &KeyPolicy, kind: RollType, at: u64) -> Class {
        let mut roll = begin(z, p, kind, Cause::Operator, Strategy::Normal, t(at));
        if kind != RollType::GoInsecure {
            let mut new = crate::testkit::key(NEW.0, crate::key::Role::Ksk, 13);
            new.times.generated_at = Some(t(at));
            z.keys.push(new);
            roll.new = vec![NEW];
        }
        z.apply(&Event::RollStarted { roll: roll.clone() });
        roll.class()
    }

    fn to(z: &mut ZoneKeys, class: Class, stage: Stage, at: u64) {
        while z.roll(class).is_some_and(|r| r.stage != stage) {
            let event = step_event(&KeyPolicy::default(), z.roll(class).expect("runs"), t(at));
            z.apply(&event);
        }
    }

    fn free(z: &ZoneKeys, class: Class, dying: Dying) -> Free {
        let roll = z.roll(class).expect("runs");
        z.free(dying, roll, Duration::ZERO)
    }

    fn until(at: u64, ttl: u32) -> Free {
        let at = t(at + u64::from(ttl) + 1);
        Free::At { at, ttl }
    }

    /// It was seen to be gone; it came back unseen, and is gone again when the step looks.
    #[test]
    fn a_ds_that_may_have_come_back_unseen_is_waited_for() {
        let p = policy();
        let (kinds, far) = (
            [
                (RollType::GoInsecure, Stage::P1, Seen::DsNone, Dying::AnyDs),
                (
                    RollType::KskDoubleSignature,
                    Stage::P2,
                    Seen::DsSwapped,
                    Dying::DsWithOld,
                ),
                (
                    RollType::KskDoubleDs,
                    Stage::P1,
                    Seen::DsBoth,
                    Dying::DsWithoutNew,
                ),
            ],
            50_000,
        );
        for (kind, stage, seen, dying) in kinds {
            let after: &[KeyNum] = match seen {
                Seen::DsNone => &[],
                Seen::DsSwapped => &[NEW],
                _ => &[OLD, NEW],
            };
            // Seen to be gone long before the roll.
            let mut z = zone(&p, true);
            shown(&mut z, &[OLD], None, 10);
            shown(&mut z, &[], None, 20);
            let class = started(&mut z, &p, kind, far);
            to(&mut z, class, stage, far);
            publish(&mut z, &p, far);
            shown(&mut z, after, Some((class, seen)), far + 100);
            assert_eq!(free(&z, class, dying), until(far + 100, TTL), "{kind:?}");
            // A later look that finds the same ends nothing anew.
            shown(&mut z, after, None, far + 200);
            assert_eq!(free(&z, class, dying), until(far + 100, TTL), "{kind:?}");
            // Seen until the step's own looks: nothing is assumed on top of what was seen.
            let mut z = zone(&p, true);
            shown(&mut z, &[OLD], None, 10);
            let class = started(&mut z, &p, kind, far);
            to(&mut z, class, stage, far);
            shown(&mut z, after, Some((class, seen)), far + 100);
            let entries = z.log.entries.len();
            assert_eq!(free(&z, class, dying), until(far + 100, TTL), "{kind:?}");
            // What was met, not met and met again is not waited for anew.
            shown(&mut z, after, Some((class, seen)), far + 300);
            assert_eq!(z.log.entries.len(), entries, "{kind:?}");
        }
    }

    #[test]
    fn a_ds_that_was_asked_for_and_never_seen_is_waited_for_as_long_as_parents_use() {
        let p = policy();
        let mut z = zone(&p, false);
        for (delegation, expected) in [
            (Delegation::Ours, until(100, ASSUMED_DS_TTL)),
            (Delegation::None, Free::Always),
        ] {
            z.parent.delegation = delegation;
            let mut z = z.clone();
            let class = started(&mut z, &p, RollType::GoInsecure, 50);
            shown(&mut z, &[], Some((class, Seen::DsNone)), 100);
            assert_eq!(free(&z, class, Dying::AnyDs), expected, "{delegation:?}");
        }
    }

    #[test]
    fn a_margin_that_is_lowered_does_not_shorten_the_wait_that_runs() {
        let with = |secs: u64| KeyPolicy {
            margin: std::time::Duration::from_secs(secs),
            ..policy()
        };
        let mut z = zone(&with(3600), true);
        let class = started(&mut z, &with(3600), RollType::KskDoubleDs, 50);
        z.apply(&step_event(
            &with(3600),
            z.roll(class).expect("runs"),
            t(60),
        ));
        let margin = |z: &ZoneKeys, secs: u64| {
            let roll = z.roll(class).expect("runs");
            z.margin(&with(secs), roll).as_secs()
        };
        assert_eq!([300, 3600, 7200].map(|m| margin(&z, m)), [3600, 3600, 7200]);
        // The next stage waits as the policy says when it begins.
        z.apply(&step_event(&with(300), z.roll(class).expect("runs"), t(70)));
        assert_eq!([300, 600].map(|m| margin(&z, m)), [300, 600]);
    }

    /// A standby key's DS that was there before the roll and still is.
    #[test]
    fn nothing_is_assumed_beside_the_ds_of_a_standby_key() {
        let p = policy();
        let mut z = zone(&p, true);
        shown(&mut z, &[OLD], None, 10);
        shown(&mut z, &[OLD, NEW], None, 20);
        let class = started(&mut z, &p, RollType::KskDoubleDs, 50_000);
        to(&mut z, class, Stage::P1, 50_000);
        shown(&mut z, &[OLD, NEW], Some((class, Seen::DsBoth)), 50_100);
        assert_eq!(free(&z, class, Dying::DsWithoutNew), until(20, TTL));
    }
}
