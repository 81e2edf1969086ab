//! Events change the state. Applying cannot fail and is the same live and in replay.

use std::time::Duration;

use cascade_time::Timestamp;

use crate::apex::ApexSet;
use crate::event::{Event, Publication};
use crate::key::{Key, KeyNum, Role, Times};
use crate::mutants::{Mutant, is};
use crate::observe::Delegation;
use crate::roll::{Class, Goal, Met, Roll, RollType, Seen, Stage, Witness};
use crate::state::{Notified, Published, ZoneKeys};
use crate::ttl::{Entry, Served};

/// Destroyed keys whose public halves are remembered, to recognise a late DS.
const MAX_DESTROYED: usize = 16;

impl ZoneKeys {
    /// Takes note of what happened.
    pub fn apply(&mut self, event: &Event) {
        let at = event.at();
        match event {
            Event::KeyAdded { key, roll, .. } => self.add_key(key, *roll),
            Event::KeyProved { key, at } => self.with_key(*key, |k| k.proved_at = Some(*at)),
            Event::KeyBackedUp { key, .. } => self.with_key(*key, |k| k.backed_up = true),
            Event::TakenOver {
                dnskey_ttl,
                data_ttl,
                ds_ttl,
                at,
            } => self.take_over(*dnskey_ttl, *data_ttl, *ds_ttl, *at),
            Event::KeyRestored { key, .. } => self.with_key(*key, |k| {
                k.restored = true;
                k.times.trashed_at = None;
                k.times.removed_at = None;
            }),
            Event::KeyRecovered { key, .. } => self.with_key(*key, |k| {
                k.restored = false;
                k.times = Times {
                    generated_at: k.times.generated_at,
                    ..Times::default()
                };
            }),
            Event::KeyDropped { key, at } => self.drop_key(*key, *at),
            Event::KeyCompromised { key, .. } => self.with_key(*key, |k| {
                k.compromised = true;
                k.standby = false;
            }),
            Event::KeyTrashed { key, at } => {
                self.with_key(*key, |k| k.times.trashed_at = Some(*at));
            }
            Event::KeyDestroyed { key, at } | Event::KeyForgotten { key, at } => {
                self.with_key(*key, |k| k.times.destroyed_at = Some(*at));
                self.forget_destroyed();
            }
            Event::RollStarted { roll } => self.start(roll),
            Event::RollStepped {
                class,
                to,
                margin,
                at,
                ..
            } => self.step(*class, *to, *margin, *at),
            Event::RollDone { class, at } => self.finish(*class, *at),
            Event::RollCancelled { class, at } => self.cancel(*class, *at),
            Event::RollHurried {
                class, strategy, ..
            } => {
                for r in self.rolls.iter_mut().filter(|r| r.class() == *class) {
                    r.strategy = *strategy;
                }
            }
            Event::Vouched {
                class,
                seen,
                who,
                ttl,
                corrects,
                at,
            } => self.vouch(*class, seen, who, *ttl, *corrects, *at),
            Event::VersionPublished(p) => self.publish(p),
            Event::Swept(report) => self.sweep(report),
            Event::IslandLeft { .. } => self.island = false,
            Event::ParentTold { at } => self.parent.told_at = Some(*at),
            Event::ParentNotified { text, at } => {
                self.parent.notified = Some(Notified {
                    at: *at,
                    text: text.clone(),
                });
            }
            Event::ParentReminded { at } => self.parent.reminded_at = Some(*at),
            Event::ClockStepped { by_secs, .. } => {
                self.log.lengthen(Duration::from_secs(*by_secs));
            }
        }
        self.settle(at);
    }

    pub(crate) fn with_key(&mut self, num: KeyNum, change: impl FnOnce(&mut Key)) {
        if let Some(k) = self.keys.iter_mut().find(|k| k.num == num) {
            change(k);
        }
    }

    fn add_key(&mut self, key: &Key, roll: Option<Class>) {
        let known = |k: &Key| k.num == key.num || k.is_same_key(key.algorithm, &key.public_key);
        if self.keys.iter().any(known) {
            // The same event twice after a crash, or a key that the zone has already.
            return;
        }
        self.next_num = self.next_num.max(key.num.0.saturating_add(1));
        self.keys.push(key.clone());
        if let Some(class) = roll
            && let Some(r) = self.rolls.iter_mut().find(|r| r.class() == class)
            && r.stage == Stage::Keys
        {
            r.new.push(key.num);
        }
    }

    fn drop_key(&mut self, key: KeyNum, at: Timestamp) {
        let lingers = |k: &Key| {
            let back = k.restored && k.role.signs_keys() && k.times.removed_at.is_none();
            back && !self.is_signed_by_service(k.algorithm) && !is(Mutant::SignersLeaveAtOnce)
        };
        if self.key(key).is_some_and(lingers) {
            // Its signatures stay for those who hold a DNSKEY RRset with its algorithm.
            return self.with_key(key, |k| k.times.removed_at = Some(at));
        }
        self.with_key(key, |k| {
            k.restored = false;
            k.standby = false;
            k.times.retired_at.get_or_insert(at);
            if k.times.published_at.is_none() {
                k.times.removed_at.get_or_insert(at);
            }
        });
        // A roll that has not begun to use it asks for another one.
        for r in self.rolls.iter_mut().filter(|r| r.stage == Stage::Keys) {
            r.new.retain(|n| *n != key);
        }
    }

    fn take_over(&mut self, dnskey_ttl: u32, data_ttl: u32, ds_ttl: u32, at: Timestamp) {
        // Nobody knows what TTLs were served before: at least a day, and two for the parent.
        let ours: Vec<KeyNum> = self
            .keys
            .iter()
            .filter(|k| k.in_service())
            .map(|k| k.num)
            .collect();
        let ksks: Vec<KeyNum> = self
            .keys
            .iter()
            .filter(|k| k.in_service() && k.role.signs_keys())
            .map(|k| k.num)
            .collect();
        let day = if is(Mutant::TakenOverKnown) {
            1
        } else {
            86_400
        };
        self.log
            .publish(Served::Dnskey(ours), dnskey_ttl.max(day), at);
        let data = Served::Data {
            any: self.data_signers(),
            all: Vec::new(),
        };
        self.log.publish(data, data_ttl.max(day), at);
        let ksks_cds = ksks.clone();
        let ds = Served::Ds {
            ours: ksks.clone(),
            usable: ksks,
            foreign: false,
        };
        self.log.observe(ds, ds_ttl.max(2 * day), at);
        self.log
            .publish(Served::Cds(ksks_cds), dnskey_ttl.max(day), at);
        self.settled_at = Some(at);
    }

    fn data_signers(&self) -> Vec<KeyNum> {
        self.keys
            .iter()
            .filter(|k| k.in_service() && k.role.signs_data())
            .map(|k| k.num)
            .collect()
    }

    fn start(&mut self, roll: &Roll) {
        if self.roll(roll.class()).is_some() {
            return;
        }
        if roll.kind == RollType::Unsign {
            self.unsigned = true;
        }
        if roll.kind == RollType::FirstKeys {
            self.unsigned = false;
        }
        self.rolls.push(roll.clone());
        self.rolls.sort_by_key(|r| r.class());
    }

    fn step(&mut self, class: Class, to: Stage, margin: Duration, at: Timestamp) {
        let Some(i) = self.rolls.iter().position(|r| r.class() == class) else {
            return;
        };
        let left = self.rolls[i].stage;
        let before = self.rolls[i].row();
        {
            let r = &mut self.rolls[i];
            r.stage = to;
            r.since = at;
            r.margin = margin;
            r.met.clear();
        }
        let roll = self.rolls[i].clone();
        if left == Stage::Keys {
            for n in &roll.new {
                self.with_key(*n, |k| k.standby = false);
            }
        }
        let swapped = before.is_some_and(|b| b.seen.contains(&Seen::DsSwapped));
        if swapped {
            // Where no DS exists at all the step itself is the moment (first DS seen otherwise).
            self.activate_ksks(&roll, at);
        }
        let stops = |b: Goal, n: Goal| b.sign_zone && !n.sign_zone;
        if let (Some(b), Some(n)) = (before, roll.row())
            && stops(b.old, n.old)
        {
            for num in &roll.old {
                self.with_key(*num, |k| {
                    if k.role.signs_data() {
                        k.times.retired_at.get_or_insert(at);
                    }
                });
            }
        }
    }

    fn finish(&mut self, class: Class, at: Timestamp) {
        let Some(i) = self.rolls.iter().position(|r| r.class() == class) else {
            return;
        };
        let roll = self.rolls.remove(i);
        // Not at publications: they go on while the clock is held, and a clock that runs ahead
        // must not make anything forgotten.
        self.log.prune(at, Duration::from_secs(604_800));
        match roll.kind {
            RollType::FirstKeys => {
                self.settled_at = Some(at);
            }
            RollType::GoInsecure => {
                self.island = true;
                self.unlink();
                return;
            }
            RollType::Unsign => {
                self.island = false;
                self.settled_at = None;
                self.unlink();
            }
            _ => {}
        }
        for n in &roll.new {
            self.with_key(*n, |k| {
                k.standby = false;
                k.times.active_at.get_or_insert(at);
            });
        }
        for n in &roll.old {
            self.with_key(*n, |k| {
                k.times.retired_at.get_or_insert(at);
                k.times.gone_at.get_or_insert(at);
            });
        }
    }

    fn unlink(&mut self) {
        self.parent.linked_at = None;
        self.parent.vanished = false;
        if self.parent.delegation == Delegation::Linked {
            self.parent.delegation = Delegation::Ours;
        }
    }

    fn cancel(&mut self, class: Class, at: Timestamp) {
        let Some(i) = self.rolls.iter().position(|r| r.class() == class) else {
            return;
        };
        let roll = self.rolls.remove(i);
        for n in roll.new.iter().filter(|n| !roll.old.contains(n)) {
            self.with_key(*n, |k| {
                if k.times.published_at.is_some() {
                    k.times.retired_at.get_or_insert(at);
                }
            });
        }
    }

    /// Of `list`, the keys with the function of a KSK (or of a ZSK).
    pub(crate) fn kind(&self, list: &[KeyNum], ksk: bool) -> Vec<KeyNum> {
        list.iter()
            .copied()
            .filter(|n| {
                self.key(*n).is_some_and(|k| {
                    if ksk {
                        k.role.signs_keys()
                    } else {
                        k.role.signs_data()
                    }
                })
            })
            .collect()
    }

    fn publish(&mut self, p: &Publication) {
        // A zone taken over was signed before.
        if self.published.is_none()
            && self.settled_at.is_none()
            && let Some(ttl) = p.unsigned_ttl
        {
            self.log.publish(Served::Unsigned, ttl, p.at);
        }
        let data = if p.any.is_empty() {
            Served::Unsigned
        } else {
            Served::Data {
                any: p.any.clone(),
                all: p.all.clone(),
            }
        };
        let returned = self
            .log
            .publish(Served::Dnskey(p.apex.dnskey.clone()), p.apex.ttl, p.at);
        self.log.publish(data, p.data_ttl, p.at);
        self.log_cds(p);
        let old = self.published.as_ref();
        let apex_at = old.filter(|o| o.apex == p.apex).map_or(p.at, |o| o.apex_at);
        let (data_at, data_serial) = old
            .filter(|o| o.any == p.any && o.all == p.all && o.data_ttl == p.data_ttl)
            .filter(|o| is_same_cds(&o.apex, &p.apex))
            // Servers have to be seen at this very version or past it.
            .filter(|_| !returned)
            .map_or((p.at, p.serial), |o| (o.data_at, o.data_serial));
        if old.is_some_and(|o| o.apex.dnskey != p.apex.dnskey) {
            // What servers showed was the set before: a look that came between the step and the
            // version that carries it is no evidence for it.
            for r in &mut self.rolls {
                let stale = |m: &Met| m.seen == Seen::Dnskey && m.witness == Witness::Sweep;
                r.met.retain(|m| !stale(m));
            }
        }
        for k in &mut self.keys {
            if p.apex.dnskey.contains(&k.num) {
                k.times.published_at.get_or_insert(p.at);
            }
            let first = self
                .rolls
                .iter()
                .any(|r| r.kind == RollType::FirstKeys && r.new.contains(&k.num));
            if first && p.apex.dnskey.contains(&k.num)
                || k.role == Role::Zsk && p.any.contains(&k.num)
                || self.rolls.iter().any(|r| {
                    // Under double-DS the key is in use as soon as its DNSKEY is.
                    r.kind == RollType::KskDoubleDs && r.new.contains(&k.num)
                }) && p.apex.dnskey.contains(&k.num)
            {
                k.times.active_at.get_or_insert(p.at);
            }
        }
        self.published = Some(Published {
            version: p.version,
            serial: p.serial,
            apex: p.apex.clone(),
            apex_at,
            apex_expires: p.apex_expires,
            any: p.any.clone(),
            all: p.all.clone(),
            data_ttl: p.data_ttl,
            data_at,
            data_serial,
            soa_expire: p.soa_expire,
        });
    }

    fn log_cds(&mut self, p: &Publication) {
        let known = |e: &Entry| matches!(e.what, Served::Cds(_));
        if let Some(old) = &self.published
            && !self.log.entries.iter().any(known)
        {
            // Published by a release that kept no record of it.
            let was = Served::Cds(old.apex.cds_signers.clone());
            self.log.publish(was, old.apex.ttl, old.apex_at);
        }
        self.log
            .publish(Served::Cds(p.apex.cds_signers.clone()), p.apex.ttl, p.at);
    }

    /// New KSKs are Active and old ones Retired when the first DS of a new one is seen.
    pub(crate) fn activate_ksks(&mut self, roll: &Roll, at: Timestamp) {
        for n in &roll.new {
            self.with_key(*n, |k| {
                if k.role.signs_keys() {
                    k.times.active_at.get_or_insert(at);
                }
            });
        }
        for n in &roll.old {
            self.with_key(*n, |k| {
                if k.role.signs_keys() {
                    k.times.retired_at.get_or_insert(at);
                }
            });
        }
    }

    /// Consequences of any event: the wanted DS set, and keys that have left the zone.
    fn settle(&mut self, at: Timestamp) {
        let mut wanted: Vec<KeyNum> = self
            .keys
            .iter()
            .filter(|k| self.goal(k).ds)
            .map(|k| k.num)
            .collect();
        wanted.sort_unstable();
        let deletes = self.rolls.iter().any(|r| r.kind == RollType::GoInsecure);
        if wanted != self.parent.wanted {
            for n in &wanted {
                if !self.parent.wanted.contains(n) {
                    self.with_key(*n, |k| k.times.ds_wanted_at = Some(at));
                }
            }
            self.parent.wanted = wanted;
            if !self.parent.wanted.is_empty() || deletes {
                self.parent.wanted_at = Some(at);
                self.parent.told_at = None;
                self.parent.notified = None;
                self.parent.reminded_at = None;
            }
            self.parent.followed_at = None;
        }
        let Some(p) = &self.published else { return };
        let gone: Vec<KeyNum> = self
            .keys
            .iter()
            .filter(|k| {
                k.times.published_at.is_some()
                    && k.times.removed_at.is_none()
                    && !p.apex.dnskey.contains(&k.num)
                    && !p.any.contains(&k.num)
                    && self.goal(k) == Goal::NONE
                    && !self.is_incoming(k.num)
                    && !self.is_held_by_ds(k.num)
            })
            .map(|k| k.num)
            .collect();
        for n in gone {
            self.with_key(n, |k| k.times.removed_at = Some(at));
        }
    }

    /// Under double-DS a key has left when its DS has, not when its DNSKEY has.
    fn is_held_by_ds(&self, num: KeyNum) -> bool {
        let holds = |r: &Roll| r.kind == RollType::KskDoubleDs && r.old.contains(&num);
        self.rolls.iter().any(holds)
    }

    fn is_incoming(&self, num: KeyNum) -> bool {
        self.rolls.iter().any(|r| r.new.contains(&num))
    }

    fn forget_destroyed(&mut self) {
        let destroyed: Vec<KeyNum> = self
            .keys
            .iter()
            .filter(|k| k.times.destroyed_at.is_some())
            .map(|k| k.num)
            .collect();
        let excess = destroyed.len().saturating_sub(MAX_DESTROYED);
        self.keys.retain(|k| !destroyed[..excess].contains(&k.num));
    }
}

/// Equal CDS and CDNSKEY RRsets with signatures by the same keys.
fn is_same_cds(a: &ApexSet, b: &ApexSet) -> bool {
    a.cds == b.cds
        && a.cds_signers == b.cds_signers
        && a.cdnskey == b.cdnskey
        && a.digests == b.digests
}
