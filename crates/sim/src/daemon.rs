//! The daemon: it asks the product's decision function, performs the actions with a simulated
//! token and disk, records what happened, and may be killed in between.

use std::time::Duration;

use cascade_keys::{
    Action, Class, Event, Home, Key, KeyNum, Origin, Role, Roll, Strategy, Subject, Times,
    next_action,
};
use cascade_zone::id::KeyId;

use crate::HOUR;
use crate::check::Rule;
use crate::reach::Content;
use crate::world::{Coming, World};

/// Rounds after which decisions that lead to decisions count as endless.
const MAX_ROUNDS: usize = 300;

impl World {
    /// Lets the daemon run until it asks for nothing more.
    pub(crate) fn work(&mut self) {
        self.pipe_timer();
        for round in 0.. {
            // Keys that do not know what is live decide nothing.
            if !self.up || self.broken.is_some() || self.is_restoring() {
                return;
            }
            if round >= MAX_ROUNDS {
                let rolls = format!("no end of actions: {:?}", self.zone.rolls);
                return self.fail(Rule::W21, rolls);
            }
            self.decisions += 1;
            let actions = next_action(&self.zone, &self.policy, &self.facts, self.wall());
            self.facts.look_now = false;
            let mut moved = false;
            for a in actions {
                moved |= self.perform(a);
                if !self.up {
                    return;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// False if nothing changed, so that asking again at once is of no use.
    fn perform(&mut self, action: Action) -> bool {
        self.count(&action);
        let Some(subject) = action.subject() else {
            let Action::Commit(events) = action else {
                return false;
            };
            if self.within(self.config.disk_full) {
                self.schedule(600, Coming::Wake);
                return false;
            }
            for e in events {
                self.apply(e);
            }
            return true;
        };
        if self.tell_pipe(&action) {
            return true;
        }
        let costs = self.config.costs;
        let cost = match &action {
            Action::GenerateKey { .. } => costs.generate,
            Action::BuildVersion { .. } | Action::RenewApex { .. } => costs.build,
            Action::ProveKey { .. } => costs.prove,
            Action::Look { .. } => costs.look,
            _ => 0,
        };
        if let Action::Look { what, scope } = action {
            self.looks += 1;
            if what == cascade_keys::What::Ds {
                self.ds_looks.push(self.age());
            }
            if cost > 0 {
                self.facts.in_flight.insert(subject);
            }
            self.begin_look(what, scope, cost);
        } else if cost == 0 {
            self.finish(action);
        } else {
            self.facts.in_flight.insert(subject);
            self.schedule(cost, Coming::Finish { action });
        }
        true
    }

    /// The action's work is done: its effect stands, and is recorded unless a crash comes between.
    pub(crate) fn finish(&mut self, action: Action) {
        let Some(subject) = action.subject() else {
            return;
        };
        self.facts.in_flight.remove(&subject);
        let possible = self.can(&action);
        let event = if possible { self.effect(action) } else { None };
        let Some(event) = event else {
            return self.failed(subject);
        };
        self.fails.remove(&subject);
        self.facts.retry_at.remove(&subject);
        self.effects += 1;
        if self.config.crash_after == Some(self.effects) {
            // A publication is durable before it is served; it is told again after the restart.
            if matches!(event, Event::VersionPublished(_)) {
                self.unreported.push(event);
            }
            self.kill();
            self.schedule(self.config.crash_down.max(1), Coming::Restart);
            return;
        }
        self.apply(event);
    }

    /// Whether token and disk let the action be done now.
    fn can(&self, action: &Action) -> bool {
        let renews = matches!(action, Action::RenewApex { .. });
        if self.within(self.config.disk_full) && !renews {
            // Space is kept for the signatures at the apex alone.
            return false;
        }
        let signers: &[KeyNum] = match action {
            Action::RenewApex { apex } | Action::BuildVersion { apex, .. } => &apex.dnskey_signers,
            Action::ProveKey { key } => std::slice::from_ref(key),
            Action::GenerateKey { .. } => &[],
            Action::DestroyKey { .. } => return !self.within(self.config.token_keeps),
            _ => return true,
        };
        !self.within(self.config.token_down) && !signers.iter().any(|k| self.lost.contains(k))
    }

    fn failed(&mut self, subject: Subject) {
        let n = self.fails.entry(subject).or_insert(0);
        let wait = (60u64 << (*n).min(6)).min(HOUR);
        *n += 1;
        let at = self.wall() + Duration::from_secs(wait);
        self.facts.retry_at.insert(subject, at);
    }

    /// The token is back: what waited for it is tried at once.
    pub(crate) fn retry_now(&mut self) {
        self.facts.retry_at.clear();
        self.fails.clear();
    }

    /// Tries again at once when the fault is over.
    pub(crate) fn retry_at(&mut self, after: u64) {
        self.schedule(after, Coming::Wake);
    }

    /// The private half of a key is gone everywhere.
    pub fn lose(&mut self, key: KeyNum) {
        self.line(format!("the token has lost {key}"));
        self.lost.insert(key);
    }

    /// It is back from a backup.
    pub fn find_again(&mut self, key: KeyNum) {
        self.line(format!("the token has {key} again"));
        self.lost.remove(&key);
        self.retry_now();
    }

    fn effect(&mut self, action: Action) -> Option<Event> {
        let at = self.wall();
        Some(match action {
            Action::Commit(_) | Action::Look { .. } => return None,
            Action::RenewApex { apex } => {
                self.passes(&apex.dnskey_signers)?;
                self.renew(apex)
            }
            Action::BuildVersion { apex, at_once } => {
                let mut signers = apex.dnskey_signers.clone();
                signers.extend(&apex.zone_signers);
                self.passes(&signers)?;
                self.build(apex, at_once)
            }
            Action::ProveKey { key } => {
                self.proves(key).then_some(())?;
                Event::KeyProved { key, at }
            }
            Action::GenerateKey {
                num,
                role,
                algorithm,
                home,
                roll,
            } => self.generate(num, role, algorithm, home, roll)?,
            Action::TellParent { .. } => self.told(),
            Action::NotifyParent => Event::ParentNotified {
                text: String::new(),
                at,
            },
            Action::Remind { .. } => {
                self.reminders += 1;
                Event::ParentReminded { at }
            }
            Action::TrashKey { key } => Event::KeyTrashed { key, at },
            Action::DestroyKey { key } => {
                self.destroyed += 1;
                self.may_be_destroyed(key);
                Event::KeyDestroyed { key, at }
            }
        })
    }

    /// Signatures by these keys, verified after they were made and again before publication.
    /// `None`: the version is refused; the one in service stays.
    fn passes(&mut self, signers: &[KeyNum]) -> Option<()> {
        if signers.iter().any(|k| self.is_asked_in_vain(*k)) {
            return None;
        }
        let lies = self.lies();
        let split = signers.iter().any(|k| self.split.contains(k)) && self.config.instances > 1;
        let lost = self.lose_signature > 0;
        self.lose_signature = self.lose_signature.saturating_sub(1);
        if (lies || split) && self.config.verify_after_sign {
            self.refused += 1;
            self.line("a wrong signature is caught after signing".to_string());
            return None;
        }
        if (lies || split || lost) && self.config.gate {
            self.refused += 1;
            self.line("the gate refuses a version".to_string());
            return None;
        }
        if lies || split || lost {
            self.fail(
                Rule::W7,
                "a version with wrong signatures is published".into(),
            );
        }
        Some(())
    }

    /// A draw: the token gives a wrong signature.
    pub(crate) fn lies(&mut self) -> bool {
        let Some((from, to, one_in)) = self.config.token_lies else {
            return false;
        };
        self.within(Some((from, to))) && self.chance.one_in(one_in)
    }

    /// An instance that came back lacks the key, and nobody has found out yet: which of the instances
    /// a request goes to is chance. Proofs after its return set it apart.
    fn is_asked_in_vain(&mut self, key: KeyNum) -> bool {
        let Some((_, back)) = self.config.instance_lost else {
            return false;
        };
        let known = back + HOUR;
        let open = self.within(Some((back, known))) && self.absent.contains(&key);
        let vain = open && self.chance.one_in(u64::from(self.config.instances));
        if vain {
            self.refused += 1;
            self.line(format!("an instance of the token does not know {key}"));
        }
        vain
    }

    /// 16 trial signatures on every instance.
    fn proves(&mut self, key: KeyNum) -> bool {
        if !self.config.proofs {
            return true;
        }
        let lied =
            (0..16 * self.config.instances).any(|_| self.lies() || self.is_asked_in_vain(key));
        let split = self.split.contains(&key) && self.config.instances > 1;
        if lied || split {
            self.refused += 1;
            self.line(format!("{key} fails its proof"));
        }
        !lied && !split
    }

    fn generate(
        &mut self,
        num: KeyNum,
        role: Role,
        algorithm: u8,
        home: Home,
        roll: Option<Class>,
    ) -> Option<Event> {
        let at = self.wall();
        if self.unsynchronised {
            self.split.insert(num);
        } else {
            self.split.remove(&num);
        }
        // Only the instances that are there can be asked for proofs.
        if self.within(self.config.instance_lost) {
            self.absent.insert(num);
        } else {
            self.absent.remove(&num);
        }
        if !self.proves(num) {
            return None;
        }
        let mut key = Key {
            num,
            id: KeyId(id(num)),
            role,
            algorithm,
            public_key: self
                .config
                .public_keys
                .map_or_else(|| octets(num, 0), |make| make(num, role, algorithm)),
            sep: false,
            home,
            origin: Origin::Generated,
            decoupled: false,
            standby: roll.is_none(),
            backed_up: false,
            compromised: false,
            restored: false,
            proved_at: Some(at),
            times: Times {
                generated_at: Some(at),
                ..Times::default()
            },
        };
        let taken = self.zone.taken_tags();
        for draw in 0..10_000 {
            let collides = |k: &Key| taken.contains(&k.tag()) || taken.contains(&k.revoked_tag());
            let forced = draw < self.collide;
            let real = self.config.public_keys.is_some();
            if real || !forced && !collides(&key) {
                break;
            }
            self.refused += 1;
            key.public_key = octets(num, draw + 1);
        }
        self.collide = 0;
        self.keys.insert(num, key.clone());
        Some(Event::KeyAdded { key, roll, at })
    }

    fn may_be_destroyed(&mut self, key: KeyNum) {
        let held = self.reachable().into_iter().any(|i| {
            !self.reach.unwanted.contains(&i)
                && match self.reach.content(i) {
                    Content::Ds(d) => d.iter().any(|d| d.key == Some(key)),
                    Content::Data(d) | Content::Cds(d) => d.contains(&key),
                    Content::Dnskey(k, _) => k.contains(&key),
                }
        });
        if held {
            self.fail(Rule::W12, format!("{key} destroyed while in caches"));
        }
        let ours = self.zone.key(key).is_none_or(|k| !k.decoupled);
        if !ours {
            self.fail(Rule::W12, format!("{key} is not ours to destroy"));
        }
    }

    /// Stores the event and takes note of it.
    pub fn apply(&mut self, event: Event) {
        self.apply_by(event, false);
    }

    pub(crate) fn apply_by(&mut self, event: Event, by_hand: bool) {
        self.before(&event, by_hand);
        self.note(&event);
        self.zone.apply(&event);
        if self.config.restart {
            self.reread();
        }
        self.events.push(event);
    }

    /// The state as it comes back from disk; what only memory had is forgotten.
    fn reread(&mut self) {
        let back = serde_json::to_string(&self.zone)
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok());
        if back.as_ref() != Some(&self.zone) {
            self.fail(Rule::W22, "the state read back is another one".into());
        }
        self.facts.retry_at.clear();
        self.facts.in_flight.clear();
        let lost = |c: &mut Coming| matches!(c, Coming::Finish { .. } | Coming::LookEnds { .. });
        self.queue.retain(|_, c| !lost(c));
    }

    /// Power off: what was in flight is gone, our own server is silent.
    pub fn kill(&mut self) {
        if !self.up {
            return;
        }
        self.line("the daemon is killed".to_string());
        for (id, ttl, _) in self.shows(0) {
            self.leave(id, ttl);
        }
        self.up = false;
        self.servers[0].off = true;
        self.refreshing = false;
        self.queue.retain(|_, c| {
            !matches!(
                c,
                Coming::Finish { .. }
                    | Coming::LookEnds { .. }
                    | Coming::Resign { .. }
                    | Coming::Refresh
                    | Coming::Wake
            )
        });
        self.facts.in_flight.clear();
        self.retry_now();
        self.pipe_dies();
    }

    pub fn restart(&mut self, after: u64) {
        self.schedule(after, Coming::Restart);
    }

    pub(crate) fn boot(&mut self) {
        if self.up {
            return;
        }
        self.line("the daemon starts".to_string());
        self.up = true;
        self.restarts += 1;
        // With a pipeline when that has read the zone back.
        self.servers[0].off = self.pipe.is_some();
        self.facts.look_now = true;
        (self.calm.all, self.calm.signing) = (self.now, self.now);
        for e in std::mem::take(&mut self.unreported) {
            self.apply(e);
        }
        self.resume_signing();
        self.pipe_boots();
    }

    /// W21: a day has room for so many actions and no more.
    fn count(&mut self, action: &Action) {
        // What cannot be stored is asked again every ten minutes, and is not what this is about.
        if self.config.restart
            || self.within(self.config.disk_full)
            || matches!(
                action,
                Action::BuildVersion { .. } | Action::RenewApex { .. }
            )
        {
            return;
        }
        let day = self.age() / crate::DAY;
        if self.calm.day != day {
            self.calm.day = day;
            self.calm.actions = 0;
            self.calm.hurry = false;
        }
        self.calm.actions += 1;
        // Emergencies look every minute at three kinds of data.
        let hurries = |r: &Roll| r.strategy != Strategy::Normal;
        self.calm.hurry |= self.zone.rolls.iter().any(hurries);
        let most = if self.calm.hurry { 6000 } else { 500 };
        if self.calm.actions > most {
            self.fail(Rule::W21, format!("more than {most} actions in a day"));
        }
    }
}

fn id(num: KeyNum) -> [u8; 16] {
    let mut id = [0u8; 16];
    id[12..].copy_from_slice(&num.0.to_be_bytes());
    id
}

/// Made-up octets of a public key, of their own for every number and draw.
pub(crate) fn octets(num: KeyNum, draw: u32) -> Vec<u8> {
    let n = num.0.wrapping_add(draw << 16);
    (0..32u32)
        .map(|i| (n.wrapping_mul(2_654_435_761) >> (i % 24)) as u8 ^ i as u8)
        .chain(n.to_be_bytes())
        .collect()
}
