//! Deeds and orders of scenarios, done to the world.

use cascade_keys::Command;

use crate::check::Rule;
use crate::config::By;
use crate::parent::Ds;
use crate::run::Runner;
use crate::scenario::{Answer, Deed, Order, What, apply_policy, matches};
use crate::{DAY, HOUR, MINUTE};

impl Runner {
    pub(crate) fn deed(&mut self, deed: &Deed, line: usize) {
        let w = &mut self.world;
        let age = w.age();
        w.mix(&format!("{age} {deed:?}"));
        match deed {
            Deed::Order(order, answer) => self.order(order, answer, line),
            Deed::Policy(pairs) => apply_policy(&mut w.policy, pairs),
            Deed::DataTtl(ttl) => w.set_data_ttl(*ttl),
            Deed::Denial(to) => w.change_denial(*to),
            Deed::Remove => w.remove(),
            Deed::TakeBack => w.take_back(),
            Deed::Upgrade => w.upgrade(),
            Deed::Source(content) => w.source(*content),
            Deed::Truncated(yes) => w.truncate(*yes),
            Deed::ParentMoves(copy) => w.move_parent(copy),
            Deed::ParentChildSide(servers) => w.config.child_side.clone_from(servers),
            Deed::Led(led) => w.config.led = *led,
            Deed::ParentDsTtl(ttl) => w.set_ds_ttl(*ttl),
            Deed::ParentBy(by) => {
                w.config.by = *by;
                w.policy.tell_parent = *by == By::Hook;
                if *by == By::Cds {
                    w.scan_from_now();
                }
            }
            Deed::ParentKeepOld(yes) => w.config.keep_old = *yes,
            Deed::ParentRemoveFirst(span) => w.config.remove_first = *span,
            Deed::ParentRegister(span) => w.config.register = *span,
            Deed::ParentCopy(spans) => {
                let n = w.config.parent.len();
                for (i, s) in spans.iter().take(n).enumerate() {
                    w.config.parent[i] = *s;
                }
            }
            Deed::ParentDigests(d) => w.config.digests.clone_from(d),
            Deed::ParentApply(list) => {
                let digests = w.config.digests.clone();
                let set: Vec<Ds> = list
                    .iter()
                    .flat_map(|d| d.ds(w.algorithm_of(d.key), &digests))
                    .collect();
                w.register(set);
            }
            Deed::ParentDown(server, span) => w.cut_off_parent(*server, *span),
            Deed::SecondaryDown(s, span) if w.has_server(*s) => w.cut_off(*s, *span),
            Deed::SecondaryLag(s, span) if w.has_server(*s) => w.config.lags[*s] = *span,
            Deed::SecondaryRewind(s, ago, span) if w.has_server(*s) => w.rewind(*s, *ago, *span),
            Deed::SecondaryFlip(s, period, span, old) if w.has_server(*s) => {
                w.flip(*s, *period, *span, *old);
            }
            Deed::SecondaryRefuse(s, span) if w.has_server(*s) => w.refuse(*s, *span),
            Deed::SecondaryForge(s, span) if w.has_server(*s) => w.forge(*s, *span),
            Deed::SecondaryForge(..)
            | Deed::SecondaryDown(..)
            | Deed::SecondaryLag(..)
            | Deed::SecondaryRewind(..)
            | Deed::SecondaryFlip(..)
            | Deed::SecondaryRefuse(..) => {}
            Deed::TokenDown(span) => {
                w.config.token_down = Some((age, age + span));
                w.retry_at(*span);
            }
            Deed::TokenInstanceLost(span) => {
                w.config.instances = w.config.instances.max(2);
                w.config.instance_lost = Some((age, age + span));
            }
            Deed::TokenLies(n, span) => w.config.token_lies = Some((age, age + span, *n)),
            Deed::TokenLoses(key) => w.lose(*key),
            Deed::TokenRestores(key) => w.find_again(*key),
            Deed::TokenCollides(n) => w.collide = *n,
            Deed::TokenUnsynchronised(yes) => w.unsynchronised = *yes,
            Deed::TokenKeeps(span) => w.config.token_keeps = Some((age, age + span)),
            Deed::LoseSignature(n) => w.lose_signature = *n,
            Deed::DiskFull(span) => {
                w.config.disk_full = Some((age, age + span));
                w.retry_at(*span);
            }
            Deed::NetworkDown(span) => w.config.network_down = Some((age, age + span)),
            Deed::ClockStep(by) => w.step_clock(*by),
            Deed::Kill => w.kill(),
            Deed::Restart(after) => w.restart(*after),
        }
    }

    fn order(&mut self, order: &Order, answer: &Answer, line: usize) {
        let repeat = || What::Do(Deed::Order(order.clone(), answer.clone()));
        let must = self.disturbed && *answer == Answer::Done;
        if !self.world.up && !matches!(order, Order::Pause | Order::Resume) {
            // Nobody is there to take the order: it is given again.
            if must {
                self.again(repeat(), line, HOUR);
            }
            return;
        }
        let w = &mut self.world;
        let who = "anna".to_string();
        let command = match order.clone() {
            Order::Pause => {
                w.facts.paused = true;
                return;
            }
            Order::Resume => {
                w.facts.paused = false;
                return;
            }
            Order::Rollback => {
                w.roll_back();
                return;
            }
            Order::Import => {
                w.import();
                return;
            }
            Order::Check => {
                w.facts.look_now = true;
                return;
            }
            Order::Start(class) => Command::StartRoll { class },
            Order::Propagated(class, step, ttl, force) => Command::Propagated {
                class,
                step,
                ttl,
                force,
                who,
            },
            Order::Expired(class, step) => Command::Expired { class, step },
            Order::RollDone(class, force) => Command::RollDone { class, force, who },
            Order::Remove(key, force) => Command::RemoveKey { key, force },
            Order::Emergency(role, strategy) => Command::Emergency { role, strategy },
            Order::BackedUp(key) => Command::BackedUp { key },
            Order::ConfirmClock => Command::ClockConfirmed {
                stepped_secs: w.held_step,
            },
        };
        let said = match w.command(command) {
            Ok(()) => None,
            Err(refusal) => Some(refusal.to_string()),
        };
        if self.disturbed {
            // A fault may have made the order come too early.
            if must && said.is_some() && matches!(order, Order::Start(_)) {
                self.again(repeat(), line, DAY);
            }
            return;
        }
        let roll = w.zone.rolls.iter().map(|r| w.wall().since(r.since)).min();
        let stepped = roll.is_some_and(|since| since.as_secs() < MINUTE);
        if w.config.real && *answer == Answer::Done && said.is_some() && stepped {
            // The version of a step takes some seconds there; until then keys are between two states.
            return self.again(repeat(), line, MINUTE);
        }
        let fits = match (answer, &said) {
            (Answer::Any, _) | (Answer::Done, None) => true,
            (Answer::Refused(p), Some(text)) => matches(p, text),
            (Answer::Done, Some(_)) | (Answer::Refused(_), None) => false,
        };
        if !fits {
            self.line = Some(line);
            let text = format!("line {line}: {order:?} is answered with {said:?}");
            w.fail(Rule::Expect, text);
        }
    }
}
