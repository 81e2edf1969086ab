//! The one decision function: what is due now, and when to ask again.
//!
//! Equal state, policy, facts and `now` give equal decisions. Actions and the next deadline come
//! from the same walk, so a due thing is never asleep.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cascade_time::Timestamp;

use crate::apex::ApexSet;
use crate::ds::DsRecord;
use crate::event::Event;
use crate::key::{Home, Key, KeyNum, Origin, Role};
use crate::observe::{Delegation, Scope, What, next_look};
use crate::policy::{Auto, CdsPolicy, KeyPolicy};
use crate::roll::{Class, Roll, RollType, Seen, Stage, Step, Strategy};
use crate::state::ZoneKeys;
use crate::ttl::{Free, Served};
use crate::wish::{Wish, begin, seed, wishes};

const DAY: Duration = Duration::from_secs(86_400);

/// A key without a proof this fresh is never newly published.
pub const FRESH_PROOF: Duration = Duration::from_secs(600);

/// What an action is about: one at a time, and each fails alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Subject {
    Renew,
    Build,
    Prove(KeyNum),
    Look(What),
    Generate(Role),
    Parent,
    Remind,
    Trash(KeyNum),
    Destroy(KeyNum),
}

/// The world as far as it is not stored with the keys.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The clock is not to be trusted: no step is taken.
    pub clock_held: bool,
    /// `pause keys` or maintenance: no step is taken.
    pub paused: bool,
    /// `keyset check`: look at once.
    pub look_now: bool,
    pub in_flight: BTreeSet<Subject>,
    /// A failed action is tried again then.
    pub retry_at: BTreeMap<Subject, Timestamp>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Sign the published apex set again and publish it in a new version.
    RenewApex {
        apex: ApexSet,
    },
    /// Store these events, apply them, and ask again.
    Commit(Vec<Event>),
    /// Make trial signatures on every instance of the key's home.
    ProveKey {
        key: KeyNum,
    },
    /// Build, verify and publish a version with this apex set.
    BuildVersion {
        apex: ApexSet,
        /// Replace all signatures in this version instead of spreading the work.
        at_once: bool,
    },
    Look {
        what: What,
        scope: Scope,
    },
    GenerateKey {
        num: KeyNum,
        role: Role,
        algorithm: u8,
        home: Home,
        /// The roll it is for; without, it is a standby key.
        roll: Option<Class>,
    },
    TellParent {
        add: Vec<DsRecord>,
        remove: Vec<DsRecord>,
        set: Vec<DsRecord>,
    },
    /// The parent has not followed for long.
    Remind {
        set: Vec<DsRecord>,
    },
    TrashKey {
        key: KeyNum,
    },
    DestroyKey {
        key: KeyNum,
    },
}

impl Action {
    /// `None` for decisions, which are not performed but stored.
    pub fn subject(&self) -> Option<Subject> {
        Some(match self {
            Action::RenewApex { .. } => Subject::Renew,
            Action::Commit(_) => return None,
            Action::ProveKey { key } => Subject::Prove(*key),
            Action::BuildVersion { .. } => Subject::Build,
            Action::Look { what, .. } => Subject::Look(*what),
            Action::GenerateKey { role, .. } => Subject::Generate(*role),
            Action::TellParent { .. } => Subject::Parent,
            Action::Remind { .. } => Subject::Remind,
            Action::TrashKey { key } => Subject::Trash(*key),
            Action::DestroyKey { key } => Subject::Destroy(*key),
        })
    }
}

/// All that is due, most important first. After a [`Action::Commit`] ask again.
pub fn next_action(
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    facts: &Facts,
    now: Timestamp,
) -> Vec<Action> {
    Plan::make(zone, policy, facts, now).actions
}

/// When something becomes due that is not due now.
pub fn next_deadline(
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    facts: &Facts,
    now: Timestamp,
) -> Option<Timestamp> {
    Plan::make(zone, policy, facts, now).deadline
}

/// Whether the published apex is the one that the goals ask for.
pub fn is_published(zone: &ZoneKeys, policy: &KeyPolicy, now: Timestamp) -> bool {
    match (&zone.published, zone.apex_set(policy, now)) {
        (Some(p), Some(apex)) => p.apex == apex,
        _ => false,
    }
}

/// The flags that hold for this roll.
pub fn auto_of(policy: &KeyPolicy, roll: &Roll) -> Auto {
    match roll.strategy {
        Strategy::Normal => policy.auto(roll.class()),
        Strategy::Safe | Strategy::Fast => Auto::ON,
    }
}

/// Whether the flag for the roll's present step is on.
pub fn is_automatic(policy: &KeyPolicy, roll: &Roll) -> bool {
    let auto = auto_of(policy, roll);
    match roll.stage.step() {
        Step::Keys => true,
        Step::Propagation1Complete | Step::Propagation2Complete => auto.report,
        Step::CacheExpired1 | Step::CacheExpired2 => auto.expire,
        Step::RollDone => auto.done,
    }
}

/// The event that ends the roll's present step.
pub fn step_event(roll: &Roll, now: Timestamp) -> Event {
    let class = roll.class();
    let next = match (roll.stage, roll.strategy, class) {
        // `fast` publishes in the same order but skips what only caches need.
        (Stage::Keys, Strategy::Fast, Class::Ksk | Class::Csk) => Some(Stage::P2),
        (Stage::Keys, Strategy::Fast, Class::Zsk) => Some(Stage::D),
        _ => roll.kind.after(roll.stage),
    };
    match next {
        Some(to) => Event::RollStepped {
            class,
            from: roll.stage,
            to,
            at: now,
        },
        None => Event::RollDone { class, at: now },
    }
}

struct Plan<'a> {
    zone: &'a ZoneKeys,
    policy: &'a KeyPolicy,
    facts: &'a Facts,
    now: Timestamp,
    actions: Vec<Action>,
    deadline: Option<Timestamp>,
}

impl<'a> Plan<'a> {
    fn make(zone: &'a ZoneKeys, policy: &'a KeyPolicy, facts: &'a Facts, now: Timestamp) -> Self {
        let mut p = Plan {
            zone,
            policy,
            facts,
            now,
            actions: Vec::new(),
            deadline: None,
        };
        let apex = zone.apex_set(policy, now);
        let builds = apex
            .as_ref()
            .is_some_and(|a| zone.published.as_ref().is_none_or(|q| q.apex != *a));
        p.renewal(builds);
        let mut events = p.restores();
        if !facts.clock_held && !facts.paused {
            events.extend(p.steps());
            if events.is_empty() {
                events.extend(p.starts());
            }
        }
        if !events.is_empty() {
            p.actions.push(Action::Commit(events));
            return p;
        }
        if builds && let Some(apex) = apex {
            p.build(apex);
        }
        if let Some(at) = zone.cds_withdrawn_at(policy) {
            p.later(at);
        }
        p.looks();
        p.generation();
        p.parent();
        p.removal();
        p
    }

    /// The action now, or its time in the deadline.
    fn at(&mut self, when: Timestamp, action: impl FnOnce() -> Action) {
        if when > self.now {
            self.later(when);
            return;
        }
        let action = action();
        if let Some(subject) = action.subject() {
            if self.facts.in_flight.contains(&subject) {
                return;
            }
            if let Some(retry) = self.facts.retry_at.get(&subject)
                && *retry > self.now
            {
                self.later(*retry);
                return;
            }
        }
        self.actions.push(action);
    }

    fn later(&mut self, when: Timestamp) {
        if when > self.now && self.deadline.is_none_or(|d| when < d) {
            self.deadline = Some(when);
        }
    }

    /// Before anything else: the signatures over DNSKEY, CDS and CDNSKEY stay fresh.
    fn renewal(&mut self, builds: bool) {
        let Some(p) = &self.zone.published else {
            return;
        };
        if p.apex.unsigned {
            return;
        }
        let s = self.policy.apex_signatures;
        let bound = (s.remain / 8).min(s.lifetime.saturating_sub(s.remain) / 4);
        let spread = seed(&self.zone.owner, p.version) % bound.as_secs().max(1);
        let due = p
            .apex_expires
            .saturating_sub(s.remain)
            .saturating_sub(Duration::from_secs(spread));
        let stuck = self.facts.retry_at.contains_key(&Subject::Build);
        if builds && !stuck && !self.zone.rolls.is_empty() {
            // The version that is due anyway is signed afresh.
            self.later(due);
            return;
        }
        let apex = p.apex.clone();
        self.at(due, || Action::RenewApex { apex });
    }

    /// A DS of a key that has left the zone: the key comes back, whatever the roll says.
    fn restores(&mut self) -> Vec<Event> {
        let Some(look) = self.zone.look(What::Ds) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        for k in &self.zone.keys {
            let t = &k.times;
            if !k.role.signs_keys() || t.destroyed_at.is_some() || k.compromised {
                continue;
            }
            let shown = self.zone.parent.shown.contains(&k.num);
            let left = t.trashed_at.or(t.removed_at);
            if shown && left.is_some_and(|l| look.started >= l) && !self.zone.island {
                out.push(Event::KeyRestored {
                    key: k.num,
                    at: self.now,
                });
            } else if k.restored && !shown && look.covered.is_some() && !k.in_service() {
                match self.ds_free(k) {
                    Free::At { at, .. } if at > self.now => self.later(at),
                    Free::Served => {}
                    _ => out.push(Event::KeyDropped {
                        key: k.num,
                        at: self.now,
                    }),
                }
            }
        }
        out
    }

    fn ds_free(&self, key: &Key) -> Free {
        let n = key.num;
        self.zone.log.free(
            |s| matches!(s, Served::Ds { ours, .. } if ours.contains(&n)),
            self.policy.margin,
        )
    }

    /// Steps of running rolls whose guards hold.
    fn steps(&mut self) -> Vec<Event> {
        let mut out = Vec::new();
        let published = is_published(self.zone, self.policy, self.now);
        for roll in &self.zone.rolls {
            if roll.kind == RollType::GoInsecure && self.policy.cds != CdsPolicy::Delete {
                out.push(Event::RollCancelled {
                    class: roll.class(),
                    at: self.now,
                });
                continue;
            }
            if roll.stage == Stage::Keys {
                if self.keys_ready(roll) {
                    out.push(step_event(roll, self.now));
                }
                continue;
            }
            let Some(row) = roll.row() else { continue };
            // The root has no parent.
            let root = self.zone.parent.delegation == Delegation::Root;
            let met = |s: &Seen| roll.is_met(*s) || root && What::of(*s) == What::Ds;
            let mut open = !published || !row.seen.iter().all(met);
            for w in self.zone.cache_waits(self.policy, roll) {
                match w.free {
                    Free::Always => {}
                    Free::At { at, .. } if at <= self.now => {}
                    Free::At { at, .. } => {
                        self.later(at);
                        open = true;
                    }
                    Free::Served => open = true,
                }
            }
            if !open && is_automatic(self.policy, roll) {
                out.push(step_event(roll, self.now));
            }
        }
        out
    }

    fn keys_ready(&self, roll: &Roll) -> bool {
        roll.wants.iter().all(|role| {
            roll.new
                .iter()
                .filter_map(|n| self.zone.key(*n))
                .any(|k| k.role == *role && (k.backed_up || !self.policy.require_backup))
        })
    }

    fn starts(&mut self) -> Vec<Event> {
        if self.zone.island
            && self.policy.cds != CdsPolicy::Delete
            && !self.zone.unsigned
            && self.zone.roll(Class::Insecure).is_none()
        {
            return vec![Event::IslandLeft { at: self.now }];
        }
        let excess = self.excess_standby();
        if !excess.is_empty() {
            return excess;
        }
        let mut waiting: Vec<Class> = Vec::new();
        for Wish { kind, cause, at } in wishes(self.zone, self.policy, self.now) {
            let class = kind.class();
            if self.zone.roll(class).is_some() || !self.policy.auto(class).start {
                continue;
            }
            if at > self.now {
                self.later(at);
                continue;
            }
            // One that waits for its turn is not overtaken by lesser ones.
            let free = |c: &Class| class.may_run_with(*c);
            let running = self.zone.rolls.iter().map(Roll::class);
            if !running.chain(waiting.iter().copied()).all(|c| free(&c)) {
                waiting.push(class);
                continue;
            }
            let roll = begin(
                self.zone,
                self.policy,
                kind,
                cause,
                Strategy::Normal,
                self.now,
            );
            return vec![Event::RollStarted { roll }];
        }
        Vec::new()
    }

    fn excess_standby(&self) -> Vec<Event> {
        // An algorithm must not stay in DNSKEY by a key that signs no data (RFC 4035 §2.2).
        let misfit = self.zone.keys.iter().find(|k| {
            let t = &k.times;
            let idle = t.active_at.is_none() && t.retired_at.is_none() && t.destroyed_at.is_none();
            (k.standby || k.origin == Origin::Imported)
                && idle
                && k.algorithm != self.policy.algorithm
                && !self.zone.rolls.iter().any(|r| r.new.contains(&k.num))
        });
        if let Some(k) = misfit {
            return vec![Event::KeyDropped {
                key: k.num,
                at: self.now,
            }];
        }
        for (role, want) in self.standby_wishes() {
            let have: Vec<&Key> = self.standby(role).collect();
            if have.len() > want as usize
                && let Some(k) = have.last()
            {
                return vec![Event::KeyDropped {
                    key: k.num,
                    at: self.now,
                }];
            }
        }
        Vec::new()
    }

    fn standby_wishes(&self) -> [(Role, u32); 2] {
        let zsk = if self.policy.use_csk {
            0
        } else {
            self.policy.standby_zsk
        };
        let ksk = if self.policy.use_csk {
            0
        } else {
            self.policy.standby_ksk
        };
        [(Role::Ksk, ksk), (Role::Zsk, zsk)]
    }

    fn standby(&self, role: Role) -> impl Iterator<Item = &'a Key> {
        self.zone.keys.iter().filter(move |k| {
            k.role == role && k.standby && k.times.retired_at.is_none() && !k.compromised
        })
    }

    fn build(&mut self, apex: ApexSet) {
        let known = self
            .zone
            .published
            .as_ref()
            .map(|p| p.apex.dnskey.clone())
            .unwrap_or_default();
        let mut proved = true;
        let all = apex.dnskey.iter().chain(&apex.zone_signers);
        let fresh: BTreeSet<KeyNum> = all.copied().filter(|n| !known.contains(n)).collect();
        for n in fresh {
            let Some(k) = self.zone.key(n) else { continue };
            let signs_already = self
                .zone
                .published
                .as_ref()
                .is_some_and(|p| p.any.contains(&n));
            let ok = k.role == Role::Foreign
                || signs_already
                || k.proved_at
                    .is_some_and(|at| self.now.since(at) <= FRESH_PROOF);
            if !ok {
                proved = false;
                self.at(self.now, || Action::ProveKey { key: n });
            }
        }
        if proved {
            let at_once = apex.unsigned
                || self
                    .zone
                    .rolls
                    .iter()
                    .any(|r| r.strategy != Strategy::Normal);
            self.at(self.now, || Action::BuildVersion { apex, at_once });
        }
    }

    fn looks(&mut self) {
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
            What::Ds => {
                zone.parent.delegation == Delegation::Unknown && !zone.unsigned
                    || zone.parent.followed_at.is_none() && zone.parent.wanted_at.is_some()
            }
            // Old content whose end in the servers has not been seen yet.
            What::Dnskey => self.is_open(|s| matches!(s, Served::Dnskey(_))),
            What::Rrsig => self.is_open(|s| matches!(s, Served::Data { .. } | Served::Unsigned)),
        };
        if awaited || pending {
            // The delegation is asked for from the first publication on.
            let since = if since == Timestamp::EPOCH {
                p.apex_at
            } else {
                since
            };
            let next = next_look(since, last);
            let minute = last.map(|l| l.saturating_add(Duration::from_secs(60)));
            return Some(match minute {
                Some(m) if hurry => next.min(m.max(since)),
                _ => next,
            });
        }
        if zone.unsigned || what == What::Rrsig {
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

    fn generation(&mut self) {
        let num = self.zone.next_key();
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
                // One after the other: the number is given with the key.
                return;
            }
        }
        if self.zone.settled_at.is_none() || self.zone.unsigned || self.facts.paused {
            return;
        }
        let algorithm = self.policy.algorithm;
        let mut serving = self.zone.keys.iter().filter(|k| k.in_service());
        if serving.any(|k| k.algorithm != algorithm) {
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

    fn parent(&mut self) {
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
        let remind = match zone.parent.reminded_at {
            Some(last) => last.saturating_add(DAY),
            None => wanted_at.saturating_add(self.policy.remind_after),
        };
        self.at(remind, || Action::Remind { set });
    }

    fn removal(&mut self) {
        if !self.policy.auto_remove || self.facts.paused || self.facts.clock_held {
            return;
        }
        for k in &self.zone.keys {
            let t = &k.times;
            let (Some(removed), None) = (t.removed_at, t.destroyed_at) else {
                continue;
            };
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
