//! The parent: a registry, servers with their own copies, and its ways of hearing of a change.

use cascade_keys::{Answer, Cds, Delegation, DsRecord, Event, KeyNum, Member, Referral, RollType};

use crate::DAY;
use crate::config::{By, Led};
use crate::reach::{Content, Id};
use crate::world::{Coming, World};

/// A DS record, by what it means.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ds {
    /// The key it was made of; `None` is somebody else's.
    pub key: Option<KeyNum>,
    pub algorithm: u8,
    pub digest_type: u8,
    /// The digest is that of the key.
    pub fits: bool,
}

impl Ds {
    /// A validator can use it: SHA-1 does not count (RFC 9905), nor what nobody implements.
    pub fn is_usable(&self) -> bool {
        matches!(self.digest_type, 2 | 4) && matches!(self.algorithm, 8 | 10 | 13..=16)
    }
}

#[derive(Clone, Default, Debug)]
pub(crate) struct ParentServer {
    pub(crate) set: Vec<Ds>,
    pub(crate) expired: bool,
    /// No server of the parent any more.
    pub(crate) gone: bool,
    /// Of the registry's change that it has; an older one that comes later is not taken.
    change: u64,
}

impl World {
    /// The parent gets a new DS set by hook, ticket or update.
    pub fn tell_parent(&mut self, keys: Vec<KeyNum>) {
        let set = self.ds_of(&keys);
        self.file(set);
    }

    /// A change is on its way to the registry.
    pub(crate) fn file(&mut self, mut set: Vec<Ds>) {
        set.sort_unstable();
        if self.config.register == 0 {
            self.register(set);
        } else {
            self.schedule(self.config.register, Coming::Register { set });
        }
    }

    pub fn ds_of(&self, keys: &[KeyNum]) -> Vec<Ds> {
        let mut set = Vec::new();
        for n in keys {
            let algorithm = self.keys.get(n).map_or(13, |k| k.algorithm);
            for d in &self.config.digests {
                set.push(Ds {
                    key: Some(*n),
                    algorithm,
                    digest_type: *d,
                    fits: true,
                });
            }
        }
        set
    }

    /// Keys with a DS at one parent server.
    pub fn ds_keys(&self, server: usize) -> Vec<KeyNum> {
        let set = self.parents.get(server).map_or(&[][..], |p| &p.set);
        let mut keys: Vec<KeyNum> = set.iter().filter_map(|d| d.key).collect();
        keys.dedup();
        keys
    }

    /// DS sets of all parent servers.
    pub fn ds_everywhere(&self) -> Vec<Vec<KeyNum>> {
        let on = (0..self.parents.len()).filter(|i| !self.parents[*i].gone);
        on.map(|i| self.ds_keys(i)).collect()
    }

    pub(crate) fn algorithm_of(&self, key: Option<KeyNum>) -> u8 {
        key.and_then(|n| self.keys.get(&n))
            .map_or(13, |k| k.algorithm)
    }

    pub(crate) fn scan_from_now(&mut self) {
        let scans = self.queue.values().any(|c| matches!(c, Coming::Scan));
        if !scans {
            self.schedule(self.config.every, Coming::Scan);
        }
    }

    /// The registry changes; its servers follow, each in its own time.
    pub(crate) fn register(&mut self, set: Vec<Ds>) {
        let mut set = set;
        if self.config.remove_first > 0 && !self.registry.is_empty() && set != self.registry {
            let kept: Vec<Ds> = self.registry.clone();
            let kept: Vec<Ds> = kept.into_iter().filter(|d| set.contains(d)).collect();
            if kept != self.registry {
                self.copy_out(kept);
                self.schedule(self.config.remove_first, Coming::Register { set });
                return;
            }
        }
        if self.config.keep_old {
            set.extend(self.registry.iter().copied());
        }
        set.sort_unstable();
        set.dedup();
        self.copy_out(set);
    }

    fn copy_out(&mut self, set: Vec<Ds>) {
        self.registry.clone_from(&set);
        self.registered += 1;
        if self.manual {
            return;
        }
        for (server, delay) in self.config.parent.clone().into_iter().enumerate() {
            let (set, change) = (set.clone(), self.registered);
            let what = Coming::Parent {
                server,
                set,
                change,
            };
            self.schedule(delay, what);
        }
    }

    /// A server that is cut off gets what is registered then when it is back.
    pub(crate) fn parent_gets(&mut self, server: usize, set: Vec<Ds>, change: u64) {
        let p = &self.parents[server];
        if p.gone || change < p.change || self.parent_down_until(server).is_some() {
            return;
        }
        self.parents[server].change = change;
        if self.parents[server].expired {
            self.parents[server].expired = false;
        } else if self.parents[server].set == set {
            return;
        } else {
            let old = self.ds_id(server);
            self.leave(old, self.config.ds_ttl);
        }
        self.line(format!("parent server {server} has DS {}", text(&set)));
        let unwanted = !self.is_wanted(&set);
        self.parents[server].set = set;
        let id = self.ds_id(server);
        self.reach.unmet.insert(id, self.now);
        if unwanted {
            self.reach.unwanted.insert(id);
        }
    }

    /// Whether the manager has asked for it, or at least left it there.
    fn is_wanted(&mut self, set: &[Ds]) -> bool {
        let held: Vec<Id> = self.reachable();
        let held: Vec<Ds> = held
            .iter()
            .filter_map(|i| match self.reach.content(*i) {
                Content::Ds(d) if !self.reach.unwanted.contains(i) => Some(d.clone()),
                _ => None,
            })
            .flatten()
            .collect();
        set.iter().all(|d| {
            let asked = d.key.is_some_and(|k| self.zone.parent.wanted.contains(&k));
            d.fits && (asked || held.contains(d))
        })
    }

    pub(crate) fn parent_expires(&mut self, server: usize) {
        let p = &self.parents[server];
        if self.parent_down_until(server).is_some() && !p.expired && !p.gone {
            let old = self.ds_id(server);
            self.leave(old, self.config.ds_ttl);
            self.parents[server].expired = true;
        }
    }

    /// A parent server neither gets changes nor answers us; others it still answers, until it
    /// expires its copy.
    pub fn cut_off_parent(&mut self, server: usize, secs: u64) {
        if server >= self.parents.len() {
            return;
        }
        let age = self.age();
        self.config.parent_down.push((server, age, age + secs));
        self.line(format!("parent server {server} is cut off"));
        let expire = u64::from(self.config.parent_expire);
        self.schedule(expire, Coming::ParentExpire { server });
        self.schedule(secs, Coming::ParentBack { server });
    }

    fn parent_down_until(&self, server: usize) -> Option<u64> {
        let age = self.age();
        let is = |d: &&(usize, u64, u64)| d.0 == server && d.1 <= age && age < d.2;
        self.config.parent_down.iter().find(is).map(|d| d.2)
    }

    /// The parent has other servers from now on; the former are asked for one TTL of its NS RRset.
    pub fn move_parent(&mut self, copy: &[u64]) {
        let on = |p: &ParentServer| !p.gone;
        let old: Vec<usize> = (0..self.parents.len())
            .filter(|i| on(&self.parents[*i]))
            .collect();
        for server in old {
            self.schedule(DAY, Coming::ParentGone { server });
        }
        self.line("the parent moves to other servers".to_string());
        for delay in copy {
            self.parents.push(ParentServer {
                set: self.registry.clone(),
                change: self.registered,
                ..ParentServer::default()
            });
            self.config.parent.push(*delay);
            let id = self.ds_id(self.parents.len() - 1);
            self.reach.unmet.insert(id, self.now);
        }
    }

    pub(crate) fn parent_goes(&mut self, server: usize) {
        if !self.parents[server].expired {
            let old = self.ds_id(server);
            self.leave(old, self.config.ds_ttl);
        }
        self.parents[server].gone = true;
    }

    fn ds_id(&mut self, server: usize) -> Id {
        let set = self.parents[server].set.clone();
        self.reach.id(Content::Ds(set))
    }

    /// DS classes that parent servers show to resolvers.
    pub(crate) fn ds_shown(&mut self) -> Vec<Id> {
        if self.config.led != Led::Here {
            return Vec::new();
        }
        let on = 0..self.parents.len();
        on.filter(|s| !self.parents[*s].expired && !self.parents[*s].gone)
            .collect::<Vec<_>>()
            .into_iter()
            .map(|s| self.ds_id(s))
            .collect()
    }

    /// The parent serves its DS RRset with another TTL from now on.
    pub fn set_ds_ttl(&mut self, ttl: u32) {
        for id in self.ds_shown() {
            self.leave(id, self.config.ds_ttl);
        }
        self.config.ds_ttl = ttl;
    }

    /// A person who sees that another DS set is wanted writes a ticket with what is wanted then.
    pub(crate) fn read_by_person(&mut self) {
        if self.config.by != By::Person || !self.up {
            return;
        }
        let p = &self.zone.parent;
        let deletes = self.is_deleting();
        let led = matches!(p.delegation, Delegation::Ours | Delegation::Linked);
        let wish = (p.wanted.clone(), deletes);
        let open = p.wanted_at.is_some() && p.followed_at.is_none() && led;
        if !open || wish.0.is_empty() != deletes || self.person_read.as_ref() == Some(&wish) {
            return;
        }
        let set = self.ds_of(&wish.0);
        self.line(format!("a person asks the parent for DS {}", text(&set)));
        self.person_read = Some(wish);
        self.file(set);
    }

    fn is_deleting(&self) -> bool {
        let mut rolls = self.zone.rolls.iter();
        rolls.any(|r| r.kind == RollType::GoInsecure)
    }

    /// RFC 7344 §4.1 and §6.2, RFC 8078 §3 and §4: what the parent does with the CDS it finds.
    pub(crate) fn scan_cds(&mut self) {
        if self.config.led != Led::Here || self.within(self.config.network_down) {
            return;
        }
        let mut found: Option<usize> = None;
        for s in 0..self.servers.len() {
            let Some(v) = self.servers[s].has.filter(|_| self.answers_others(s)) else {
                continue;
            };
            // All servers must agree (RFC 7344 §6.2.1).
            let same = |o: usize| self.versions[o].apex.cds == self.versions[v].apex.cds;
            if found.is_some_and(|o| !same(o)) {
                return;
            }
            found = Some(found.map_or(v, |o: usize| o.min(v)));
        }
        let Some(v) = found else { return };
        let apex = self.versions[v].apex.clone();
        let signs = |n: &KeyNum| {
            apex.cds_signers.contains(n)
                && apex.dnskey.contains(n)
                && apex.dnskey_signers.contains(n)
        };
        let trusted = if self.registry.is_empty() {
            self.config.bootstrap && apex.cds_signers.iter().any(signs)
        } else {
            let usable = self.registry.iter().filter(|d| d.is_usable() && d.fits);
            usable.filter_map(|d| d.key).any(|n| signs(&n))
        };
        if !trusted {
            return;
        }
        let set = match &apex.cds {
            Cds::None => return,
            Cds::Delete => Vec::new(),
            Cds::Keys(keys) => {
                // Continuity: the new DS must lead to the DNSKEY RRset that is there.
                let leads = |n: &KeyNum| apex.dnskey.contains(n) && apex.dnskey_signers.contains(n);
                if !keys.iter().any(leads) {
                    return;
                }
                self.ds_of(keys)
            }
        };
        let mut sorted = set.clone();
        sorted.sort_unstable();
        if sorted != self.registry {
            self.file(set);
        }
    }

    pub(crate) fn told(&mut self) -> Event {
        if self.config.by == By::Hook {
            let set = self.ds_of(&self.zone.parent.wanted.clone());
            self.file(set);
        }
        Event::ParentTold { at: self.wall() }
    }

    pub(crate) fn parent_member(&mut self, i: usize) -> Member {
        let referral = match self.config.led {
            Led::Here => Referral::Names { shared: true },
            Led::Nowhere => Referral::Denied,
            Led::Elsewhere => Referral::Names { shared: false },
        };
        let set = match self.config.led {
            Led::Elsewhere => vec![stranger().record(self)],
            _ => {
                let set = self.parents[i].set.clone();
                set.iter().map(|d| d.record(self)).collect()
            }
        };
        let answer = if self.config.child_side.contains(&i) {
            // RFC 4035 §3.1.4.1: the child's own SOA in the answer is no word of the parent.
            Answer::Unusable("an answer of the child".to_string())
        } else if self.within(self.config.network_down) || self.parent_down_until(i).is_some() {
            Answer::Silent
        } else if self.config.parent_v6_only.contains(&i) && !self.config.has_ipv6 {
            Answer::NoRoute
        } else if self.parents[i].expired {
            Answer::Unusable("SERVFAIL".to_string())
        } else if self.chance.one_in(self.config.spoofed) {
            Answer::Ds {
                set: Vec::new(),
                ttl: 1,
                bogus: true,
                referral: Referral::Denied,
            }
        } else {
            Answer::Ds {
                set,
                ttl: self.config.ds_ttl,
                bogus: false,
                referral,
            }
        };
        Member {
            server: format!("ns{i}.parent"),
            address: format!("192.0.2.{i}"),
            nsid: None,
            answer,
        }
    }
}

impl Ds {
    /// The record on the wire.
    pub(crate) fn record(&self, w: &World) -> DsRecord {
        let key = self.key.and_then(|n| w.keys.get(&n));
        let real = key.and_then(|k| DsRecord::of(&w.config.owner, k, self.digest_type));
        let mut r = real.unwrap_or_else(|| DsRecord {
            tag: key.map_or(4711, |k| k.tag()),
            algorithm: self.algorithm,
            digest_type: self.digest_type,
            digest: vec![0x47; 32],
        });
        if !self.fits
            && let Some(b) = r.digest.first_mut()
        {
            *b ^= 1;
        }
        r
    }
}

/// A DS of another signer.
pub(crate) fn stranger() -> Ds {
    Ds {
        key: None,
        algorithm: 13,
        digest_type: 2,
        fits: true,
    }
}

pub(crate) fn text(set: &[Ds]) -> String {
    if set.is_empty() {
        return "-".to_string();
    }
    let one = |d: &Ds| {
        let key = d.key.map_or("foreign".to_string(), |k| k.to_string());
        match (d.digest_type, d.fits) {
            (2, true) => key,
            (t, true) => format!("{key}/{t}"),
            (t, false) => format!("{key}/{t}/wrong"),
        }
    };
    set.iter().map(one).collect::<Vec<_>>().join("+")
}
