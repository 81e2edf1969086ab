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
use crate::mutants::{Mutant, is};
use crate::observe::{Delegation, Scope, What};
use crate::policy::{Auto, CdsPolicy, KeyPolicy};
use crate::roll::{Class, Roll, RollType, Seen, Stage, Step, Strategy};
use crate::state::ZoneKeys;
use crate::ttl::{Free, Served};
use crate::wish::{Wish, begin, seed, wishes};

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
    Notify,
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
    /// Why the last attempt failed.
    pub errors: BTreeMap<Subject, String>,
    /// When the next part of a change of zone-signing keys is due.
    pub signs_next: Option<Timestamp>,
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
    /// CDS has changed and every server of the zone shows it: NOTIFY(CDS) to the parent's endpoint.
    NotifyParent,
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
            Action::NotifyParent => Subject::Notify,
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
pub fn step_event(policy: &KeyPolicy, roll: &Roll, now: Timestamp) -> Event {
    let class = roll.class();
    let next = match (roll.stage, roll.strategy, class) {
        // `fast` publishes in the same order but skips what only caches need. Under double-DS the
        // old key leaves in P2, so the parent must have the new DS before.
        (Stage::Keys, Strategy::Fast, Class::Ksk | Class::Csk)
            if roll.kind != RollType::KskDoubleDs =>
        {
            Some(Stage::P2)
        }
        (Stage::Keys, Strategy::Fast, Class::Zsk) => Some(Stage::D),
        _ => roll.kind.after(roll.stage),
    };
    match next {
        Some(to) => Event::RollStepped {
            class,
            from: roll.stage,
            to,
            margin: policy.margin,
            at: now,
        },
        None => Event::RollDone { class, at: now },
    }
}

pub(crate) struct Plan<'a> {
    pub(crate) zone: &'a ZoneKeys,
    pub(crate) policy: &'a KeyPolicy,
    pub(crate) facts: &'a Facts,
    pub(crate) now: Timestamp,
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
        p.renewal();
        let mut events = p.restores();
        let held = facts.clock_held && !is(Mutant::HeldClockIsIgnored);
        if !held && !facts.paused {
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
    pub(crate) fn at(&mut self, when: Timestamp, action: impl FnOnce() -> Action) {
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

    pub(crate) fn later(&mut self, when: Timestamp) {
        if when > self.now && self.deadline.is_none_or(|d| when < d) {
            self.deadline = Some(when);
        }
    }

    /// Before anything else: the signatures over DNSKEY, CDS and CDNSKEY stay fresh.
    fn renewal(&mut self) {
        let Some(p) = &self.zone.published else {
            return;
        };
        if p.apex.unsigned || is(Mutant::RollsStopRenewal) && !self.zone.rolls.is_empty() {
            return;
        }
        let s = self.policy.apex_signatures;
        let bound = (s.remain / 8).min(s.lifetime.saturating_sub(s.remain) / 4);
        let spread = seed(&self.zone.owner, p.version) % bound.as_secs().max(1);
        let remain = if is(Mutant::RenewAtTheEnd) {
            Duration::ZERO
        } else {
            s.remain
        };
        let due = p
            .apex_expires
            .saturating_sub(remain)
            .saturating_sub(Duration::from_secs(spread));
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
            // Taken out of the trash and not in use again.
            let spare = t.published_at.is_none()
                && !k.standby
                && !self.zone.rolls.iter().any(|r| r.new.contains(&k.num));
            let away = left.is_some_and(|l| look.started >= l) || spare || self.signs_only(k);
            let restores = !self.zone.unsigned && !is(Mutant::RestoreNothing);
            let leaving = k.restored && t.removed_at.is_some();
            if shown && away && (!k.restored || leaving) && restores {
                out.push(Event::KeyRestored {
                    key: k.num,
                    at: self.now,
                });
            } else if k.restored && !shown && look.covered.is_some() && !k.in_service() {
                let free = if leaving {
                    self.algorithm_free(k.algorithm)
                } else {
                    self.ds_free(k)
                };
                match free {
                    Free::At { at, .. } if at > self.now => self.later(at),
                    Free::Served => {}
                    _ => out.push(Event::KeyDropped {
                        key: k.num,
                        at: self.now,
                    }),
                }
            }
        }
        self.companions(&mut out);
        out
    }

    /// At the end of an algorithm roll the old CSK still signs data and is in DNSKEY no more.
    fn signs_only(&self, key: &Key) -> bool {
        let of = |r: &Roll| r.kind == RollType::Algorithm && r.old.contains(&key.num);
        let out = |p: &crate::state::Published| !p.apex.dnskey.contains(&key.num);
        self.zone.rolls.iter().any(of)
            && !self.zone.goal(key).dnskey
            && self.zone.published.as_ref().is_some_and(out)
    }

    /// An algorithm in the DNSKEY RRset needs signatures over all data (RFC 4035 §2.2): with a KSK
    /// whose algorithm had left the zone comes the newest key that signed data beside it, and stays
    /// until no cache holds a DNSKEY RRset with that algorithm.
    fn companions(&mut self, out: &mut Vec<Event>) {
        let (zone, at) = (self.zone, self.now);
        let back = |k: &Key| {
            let comes = |e: &Event| matches!(e, Event::KeyRestored { key, .. } if *key == k.num);
            let there = k.restored && k.times.removed_at.is_none();
            k.role.signs_keys() && (there || out.iter().any(comes))
        };
        let algorithms: BTreeSet<u8> = zone
            .keys
            .iter()
            .filter(|k| back(k))
            .map(|k| k.algorithm)
            .collect();
        let signs = |a: u8| {
            let both = |k: &Key| {
                let g = zone.goal(k);
                g.dnskey && g.sign_zone
            };
            zone.keys.iter().any(|k| k.algorithm == a && both(k))
        };
        for a in algorithms.iter().filter(|a| !signs(**a)) {
            if is(Mutant::KskComesAlone) {
                break;
            }
            let usable = |k: &&Key| {
                let t = &k.times;
                k.role == Role::Zsk
                    && k.algorithm == *a
                    && t.active_at.is_some()
                    && t.destroyed_at.is_none()
                    && !k.compromised
            };
            let newest = zone.keys.iter().filter(usable).max_by_key(|k| k.num);
            out.extend(newest.map(|k| Event::KeyRestored { key: k.num, at }));
        }
        for k in zone
            .keys
            .iter()
            .filter(|k| k.restored && k.role == Role::Zsk)
        {
            if algorithms.contains(&k.algorithm) {
                continue;
            }
            let free = match is(Mutant::SignersLeaveAtOnce) {
                true => Free::Always,
                false => self.algorithm_free(k.algorithm),
            };
            match free {
                Free::At { at, .. } if at > self.now => self.later(at),
                Free::Served => {}
                _ => out.push(Event::KeyDropped { key: k.num, at }),
            }
        }
    }

    /// When no cache holds a DNSKEY RRset with the algorithm.
    fn algorithm_free(&self, algorithm: u8) -> Free {
        let is = |n: &KeyNum| self.zone.key(*n).is_some_and(|k| k.algorithm == algorithm);
        let with_it = |s: &Served| matches!(s, Served::Dnskey(set) if set.iter().any(is));
        self.zone.log.free(with_it, self.policy.margin)
    }

    pub(crate) fn ds_free(&self, key: &Key) -> Free {
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
            if roll.kind == RollType::KskDoubleDs
                && matches!(roll.stage, Stage::Keys | Stage::P1)
                && self.zone.parent.linked_at.is_none()
            {
                // Begun by a release that knew no better. No DS leads here, so none is waited for.
                out.extend(self.without_ds(roll));
                continue;
            }
            if roll.stage == Stage::Keys {
                if self.keys_ready(roll) {
                    out.push(step_event(self.policy, roll, self.now));
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
                out.push(step_event(self.policy, roll, self.now));
            }
        }
        out
    }

    /// The roll goes on by double-signature, with the key that it has made.
    fn without_ds(&self, roll: &Roll) -> [Event; 2] {
        let cancelled = Event::RollCancelled {
            class: roll.class(),
            at: self.now,
        };
        let mut zone = self.zone.clone();
        zone.apply(&cancelled);
        let kind = RollType::KskDoubleSignature;
        let (cause, strategy) = (roll.cause, roll.strategy);
        let roll = begin(&zone, self.policy, kind, cause, strategy, self.now);
        [cancelled, Event::RollStarted { roll }]
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
            let free = |c: &Class| class.may_run_with(*c) || is(Mutant::AllRollsTogether);
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

    pub(crate) fn standby_wishes(&self) -> [(Role, u32); 2] {
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

    pub(crate) fn standby(&self, role: Role) -> impl Iterator<Item = &'a Key> {
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
        let lists = [&apex.dnskey, &apex.zone_signers, &apex.cds_signers];
        let fresh: BTreeSet<KeyNum> = lists
            .into_iter()
            .flatten()
            .copied()
            .filter(|n| !known.contains(n))
            .collect();
        for n in fresh {
            let Some(k) = self.zone.key(n) else { continue };
            // A key that signs CDS ahead proves itself again when its DNSKEY is published.
            let ahead = !apex.dnskey.contains(&n);
            let signs_already =
                self.zone.published.as_ref().is_some_and(|p| {
                    p.any.contains(&n) || ahead && p.apex.cds_signers.contains(&n)
                });
            let ok = k.role == Role::Foreign
                || is(Mutant::NoProof)
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
}
