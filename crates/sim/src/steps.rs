//! Steps of rolls, checked against the world itself and not against the evidence that was stored.

use cascade_keys::{
    Class, Command, Dying, Event, KeyNum, Roll, Seen, Stage, Step, Strategy, What, Witness,
};

use crate::check::Rule;
use crate::config::Led;
use crate::parent::Ds;
use crate::reach::Content;
use crate::world::World;

/// What a member of a sweep really had when it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) answered: bool,
    pub(crate) version: Option<usize>,
    pub(crate) ds: Vec<Ds>,
}

impl World {
    /// Before an event is stored: is it one that may happen now?
    pub(crate) fn before(&mut self, event: &Event, by_hand: bool) {
        let held = self.facts.paused || self.facts.clock_held;
        match event {
            Event::RollStarted { roll } => {
                if held && !by_hand {
                    self.fail(Rule::W26, format!("a {} starts", roll.class()));
                }
                let other = self.zone.rolls.iter().map(Roll::class);
                if let Some(c) = other.into_iter().find(|c| !roll.class().may_run_with(*c)) {
                    self.fail(Rule::W18, format!("a {} beside a {c}", roll.class()));
                }
            }
            Event::RollStepped { class, from, .. } => {
                if self.zone.roll(*class).is_none_or(|r| r.stage != *from) {
                    self.fail(Rule::W24, format!("the {class} is not at {from:?}"));
                }
                self.check_step(*class, held && !by_hand || self.facts.clock_held);
            }
            Event::RollDone { class, .. } => {
                if self.zone.roll(*class).is_none() {
                    self.fail(Rule::W24, format!("no {class} runs that could end"));
                }
                self.check_step(*class, held && !by_hand || self.facts.clock_held);
            }
            _ => {}
        }
    }

    fn check_step(&mut self, class: Class, held: bool) {
        let Some(roll) = self.zone.roll(class).cloned() else {
            return;
        };
        if held {
            self.fail(Rule::W26, format!("the {class} moves"));
        }
        if roll.stage == Stage::Keys {
            for role in &roll.wants {
                let of = |n: &&KeyNum| self.zone.key(**n).is_some_and(|k| k.role == *role);
                if roll.new.iter().filter(of).count() != 1 {
                    let text = format!("not one incoming {role} but {:?}", roll.new);
                    return self.fail(Rule::W18, text);
                }
            }
            return;
        }
        let Some(row) = roll.row() else { return };
        for seen in row.seen {
            let by_sweep = |m: &cascade_keys::Met| m.seen == *seen && m.witness == Witness::Sweep;
            if roll.met.iter().any(by_sweep) {
                let truth = self.truth.get(&What::of(*seen)).cloned();
                if !self.is_true(&roll, *seen, &truth.unwrap_or_default()) {
                    self.fail(
                        Rule::W8,
                        format!("{class} {:?}: {seen:?} is untrue", roll.stage),
                    );
                }
            }
        }
        if roll.strategy == Strategy::Fast || self.operator_lied || self.config.led != Led::Here {
            return;
        }
        for dying in row.expired {
            if let Some(held) = self.holds(&roll, *dying) {
                let text = format!("{class} leaves {:?} with {held:?} in caches", roll.stage);
                self.fail(Rule::W9, text);
            }
        }
    }

    /// Whether all that answered had what the step is about.
    fn is_true(&self, roll: &Roll, seen: Seen, truth: &[Told]) -> bool {
        let role = |n: &&KeyNum, ksk: bool| {
            let k = self.keys.get(n);
            k.is_some_and(|k| {
                if ksk {
                    k.role.signs_keys()
                } else {
                    k.role.signs_data()
                }
            })
        };
        let (old, new) = (&roll.old, &roll.new);
        let mut answered = truth.iter().filter(|t| t.answered).peekable();
        if answered.peek().is_none() {
            return false;
        }
        let chained = self.config.led == Led::Here;
        answered.all(|t| {
            let v = t.version.map(|v| &self.versions[v]);
            let has = |n: &KeyNum| t.ds.iter().any(|d| d.key == Some(*n) && d.fits);
            let enters = |n: &KeyNum| {
                let mut of = t.ds.iter().filter(|d| d.key == Some(*n) && d.fits);
                of.any(Ds::is_usable)
            };
            let data = |test: &dyn Fn(&[KeyNum]) -> bool| {
                v.is_some_and(|v| v.data.iter().all(|p| test(&p.signers)))
            };
            let none_of_ours = t.ds.iter().all(|d| d.key.is_none());
            match seen {
                Seen::Dnskey => {
                    let p = self.zone.published.as_ref();
                    v.zip(p)
                        .is_some_and(|(v, p)| v.apex.dnskey == p.apex.dnskey)
                }
                Seen::RrsigNew => {
                    data(&|s| new.iter().filter(|n| role(n, false)).all(|n| s.contains(n)))
                }
                Seen::RrsigOldGone => {
                    data(&|s| !old.iter().filter(|n| role(n, false)).any(|n| s.contains(n)))
                }
                Seen::Unsigned => data(&|s| s.is_empty()),
                Seen::DsSwapped => {
                    let swapped = new.iter().filter(|n| role(n, true)).all(enters)
                        && !old.iter().filter(|n| role(n, true)).any(has);
                    swapped || !chained || none_of_ours
                }
                Seen::DsBoth => {
                    let mut both = old.iter().chain(new).filter(|n| role(n, true));
                    both.all(enters)
                }
                Seen::DsOldGone => !chained || !old.iter().any(has),
                Seen::DsNone => !chained || t.ds.is_empty(),
            }
        })
    }

    /// A class that caches still hold of what should have died.
    fn holds(&mut self, roll: &Roll, dying: Dying) -> Option<Content> {
        let ksk = |n: &&KeyNum| self.keys.get(n).is_some_and(|k| k.role.signs_keys());
        let zsk = |n: &&KeyNum| self.keys.get(n).is_some_and(|k| k.role.signs_data());
        let (old, new) = (&roll.old, &roll.new);
        let old_ksks: Vec<KeyNum> = old.iter().filter(ksk).copied().collect();
        let new_ksks: Vec<KeyNum> = new.iter().filter(ksk).copied().collect();
        let old_zsks: Vec<KeyNum> = old.iter().filter(zsk).copied().collect();
        let new_zsks: Vec<KeyNum> = new.iter().filter(zsk).copied().collect();
        let dies = |c: &Content| match (dying, c) {
            (Dying::DnskeyWithoutNew, Content::Dnskey(k, _)) => new.iter().any(|n| !k.contains(n)),
            (Dying::DnskeyWithOld, Content::Dnskey(k, _)) => old.iter().any(|n| k.contains(n)),
            (Dying::DataWithoutNew, Content::Data(r)) => new_zsks.iter().any(|n| !r.contains(n)),
            (Dying::DataWithOld, Content::Data(r)) => old_zsks.iter().any(|n| r.contains(n)),
            (Dying::UnsignedData, Content::Data(r)) => r.is_empty(),
            (Dying::DsWithoutNew, Content::Ds(d)) => {
                let has = |n: &KeyNum| d.iter().any(|d| d.key == Some(*n) && d.is_usable());
                !new_ksks.iter().all(has)
            }
            (Dying::DsWithOld, Content::Ds(d)) => d
                .iter()
                .any(|d| d.key.is_some_and(|k| old_ksks.contains(&k))),
            (Dying::AnyDs, Content::Ds(d)) => !d.is_empty(),
            (Dying::CdsWithoutNew, Content::Cds(by)) => new_ksks.iter().any(|n| !by.contains(n)),
            _ => false,
        };
        let all = self.reachable();
        let wanted = all.iter().filter(|i| !self.reach.unwanted.contains(i));
        let held = wanted.map(|i| self.reach.content(*i)).find(|c| dies(c));
        held.cloned()
    }

    /// An operator who vouches for what is not so is to blame for what follows.
    pub(crate) fn is_untrue(&self, command: &Command) -> bool {
        let (class, short) = match command {
            Command::Propagated {
                class, ttl, force, ..
            } => (*class, *force && *ttl < self.config.ds_ttl),
            Command::RollDone { class, .. } => (*class, false),
            _ => return false,
        };
        let Some(roll) = self.zone.roll(class) else {
            return false;
        };
        let Some(row) = roll.row() else { return false };
        short && roll.stage.step() == Step::Propagation2Complete
            || row.seen.iter().filter(|s| !roll.is_met(**s)).any(|s| {
                let truth = self.truth_now(What::of(*s));
                !self.is_true(roll, *s, &truth)
            })
    }

    fn truth_now(&self, what: What) -> Vec<Told> {
        if what == What::Ds {
            let on = self.parents.iter().filter(|p| !p.expired && !p.gone);
            return on
                .map(|p| Told {
                    answered: true,
                    version: None,
                    ds: p.set.clone(),
                })
                .collect();
        }
        let on = self.servers.iter().filter(|s| !s.expired && !s.outside);
        on.map(|s| Told {
            answered: true,
            version: s.has,
            ds: Vec::new(),
        })
        .collect()
    }
}
