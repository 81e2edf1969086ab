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

    /// The DS was changed before we ever saw the old one: a TTL of two days is assumed for it.
    fn assume_old_ds(&mut self, roll: &Roll, report: &SweepReport, seen: Seen) {
        if !matches!(seen, Seen::DsSwapped | Seen::DsBoth) || self.parent.linked_at.is_none() {
            return;
        }
        // An empty RRset that was seen before the old DS came says nothing about it.
        let (old, new) = (self.kind(&roll.old, true), self.kind(&roll.new, true));
        let was = |ours: &[KeyNum]| {
            old.iter().any(|n| ours.contains(n)) && !new.iter().all(|n| ours.contains(n))
        };
        let known = self.log.entries.iter().any(|e| match &e.what {
            Served::Ds { ours, .. } => was(ours),
            _ => false,
        });
        if !known && !is(Mutant::AssumeNothing) {
            self.log.assume(
                Served::Ds {
                    ours: old.clone(),
                    usable: old,
                    foreign: false,
                },
                ASSUMED_DS_TTL,
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
