//! A small world around the decision function: servers, a parent, a signer, and everything a
//! cache that obeys TTLs may still hold.
//!
//! No cryptography: an RRset "validates" by key numbers and algorithms. Between events nothing
//! appears in a cache that was not there at an event, so checking after every event is exhaustive.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cascade_keys::*;
use cascade_time::{Timestamp, format_span};
use cascade_zone::id::KeyId;

pub const OWNER: &[u8] = b"\x07example\x00";
pub const MINUTE: u64 = 60;
pub const HOUR: u64 = 3600;
pub const DAY: u64 = 86_400;

#[derive(Clone, Debug)]
pub struct Config {
    /// Seconds until each zone server has a new version; the first is our own output.
    pub lags: Vec<u64>,
    /// Seconds until each parent server has a new DS set.
    pub parent: Vec<u64>,
    pub ds_ttl: u32,
    pub data_ttl: u32,
    pub resign: u64,
    /// Zone server `.0` does not answer and does not update from `.1` to `.2`.
    pub down: Vec<(usize, u64, u64)>,
    /// The token fails from `.0` to `.1`.
    pub token_down: Option<(u64, u64)>,
    /// Serialise and read back the state after every event.
    pub restart: bool,
    pub delegated: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            lags: vec![0, 60, 300],
            parent: vec![60, 1800],
            ds_ttl: 86_400,
            data_ttl: 86_400,
            resign: 6 * HOUR,
            down: Vec::new(),
            token_down: None,
            restart: false,
            delegated: true,
        }
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Content {
    Ds(Vec<KeyNum>),
    Dnskey(Vec<KeyNum>, Vec<KeyNum>),
    Data(Vec<KeyNum>),
}

#[derive(Clone)]
struct Version {
    serial: u32,
    apex: ApexSet,
    data: Vec<Vec<KeyNum>>,
    ttl: u32,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Coming {
    Update {
        server: usize,
        version: usize,
    },
    Resign {
        part: usize,
    },
    Parent {
        server: usize,
        set: Vec<KeyNum>,
    },
    /// RFC 1034 §4.3.5: cut off for SOA EXPIRE, the secondary stops answering.
    Expire {
        server: usize,
    },
}

/// Shortens one wait of one row by one TTL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mutant {
    pub kind: RollType,
    pub stage: Stage,
    pub dying: Dying,
}

pub struct World {
    pub zone: ZoneKeys,
    pub policy: KeyPolicy,
    pub facts: Facts,
    pub now: Timestamp,
    pub start: Timestamp,
    pub config: Config,
    pub mutant: Option<Mutant>,
    /// Sweeps ask the first server only.
    pub blind: bool,
    /// SOA EXPIRE is told as this.
    pub told_expire: u32,
    pub events: Vec<Event>,
    pub lines: Vec<String>,
    pub finished: BTreeMap<RollType, usize>,
    pub broken: Option<String>,
    pub checks: usize,
    pub looks: usize,
    pub reminders: usize,
    pub destroyed: usize,
    versions: Vec<Version>,
    /// Index into `versions` per zone server.
    has: Vec<Option<usize>>,
    expired: Vec<bool>,
    pub ds: Vec<Vec<KeyNum>>,
    coming: BTreeSet<(Timestamp, u32, Coming)>,
    sequence: u32,
    /// Contents no server shows any more, and until when a cache may.
    past: BTreeMap<Content, Timestamp>,
    keys: BTreeMap<KeyNum, Key>,
    mark: Timestamp,
}

const PARTS: usize = 4;

impl World {
    pub fn new(policy: KeyPolicy, config: Config) -> World {
        let start = Timestamp::from_secs(1_800_000_000);
        let coming = config
            .down
            .iter()
            .filter(|d| d.2 > d.1 + 7 * DAY)
            .map(|d| {
                let at = start + Duration::from_secs(d.1 + 7 * DAY);
                (at, 0, Coming::Expire { server: d.0 })
            })
            .collect();
        World {
            zone: ZoneKeys::new(OWNER),
            policy,
            facts: Facts::default(),
            now: start,
            start,
            mutant: None,
            blind: false,
            told_expire: 7 * DAY as u32,
            events: Vec::new(),
            lines: Vec::new(),
            finished: BTreeMap::new(),
            broken: None,
            checks: 0,
            looks: 0,
            reminders: 0,
            destroyed: 0,
            versions: Vec::new(),
            has: vec![None; config.lags.len()],
            expired: vec![false; config.lags.len()],
            ds: vec![Vec::new(); config.parent.len()],
            config,
            coming,
            sequence: 0,
            past: BTreeMap::new(),
            keys: BTreeMap::new(),
            mark: start,
        }
    }

    pub fn age(&self) -> u64 {
        self.now.since(self.start).as_secs()
    }

    /// Times of the snapshot count from here.
    pub fn mark(&mut self) {
        self.mark = self.now;
        self.lines.clear();
    }

    pub fn run(&mut self, secs: u64) {
        let end = self.now + Duration::from_secs(secs);
        while self.broken.is_none() {
            self.work();
            self.check();
            let own = next_deadline(&self.zone, &self.policy, &self.facts, self.now);
            if let Some(d) = own {
                assert!(d > self.now, "a deadline in the past");
            }
            let world = self.coming.first().map(|c| c.0);
            let next = [own, world, self.mutant_time()].into_iter().flatten().min();
            match next {
                Some(t) if t <= end => self.now = t,
                _ => {
                    self.now = end;
                    break;
                }
            }
            while let Some(c) = self.coming.first().cloned().filter(|c| c.0 <= self.now) {
                self.coming.remove(&c);
                self.deliver(c.2);
            }
        }
    }

    /// Runs until a roll of this kind has ended, at most `secs`.
    pub fn run_until_done(&mut self, kind: RollType, secs: u64) -> bool {
        let before = self.finished.get(&kind).copied().unwrap_or(0);
        let end = self.now + Duration::from_secs(secs);
        while self.now < end && self.broken.is_none() {
            self.run(10 * MINUTE);
            if self.finished.get(&kind).copied().unwrap_or(0) > before {
                return true;
            }
        }
        false
    }

    pub fn command(&mut self, command: Command) -> Result<(), Refusal> {
        for e in decide(&self.zone, &self.policy, &command, self.now)? {
            self.apply(e);
        }
        Ok(())
    }

    pub fn apply(&mut self, event: Event) {
        self.note(&event);
        self.zone.apply(&event);
        if self.config.restart {
            let text = serde_json::to_string(&self.zone).expect("state is plain data");
            let back: ZoneKeys = serde_json::from_str(&text).expect("own text");
            assert_eq!(back, self.zone);
            self.zone = back;
        }
        self.events.push(event);
    }

    fn work(&mut self) {
        for round in 0.. {
            assert!(round < 300, "no end of actions: {:?}", self.zone.rolls);
            if let Some(e) = self.mutated_step() {
                self.apply(e);
            }
            let actions = next_action(&self.zone, &self.policy, &self.facts, self.now);
            if actions.is_empty() {
                return;
            }
            for a in actions {
                self.perform(a);
            }
        }
    }

    fn perform(&mut self, action: Action) {
        let subject = action.subject();
        let needs_token = matches!(
            action,
            Action::GenerateKey { .. }
                | Action::BuildVersion { .. }
                | Action::RenewApex { .. }
                | Action::ProveKey { .. }
        );
        let age = self.age();
        if needs_token
            && self
                .config
                .token_down
                .is_some_and(|(a, b)| a <= age && age < b)
        {
            if let Some(s) = subject {
                self.facts
                    .retry_at
                    .insert(s, self.now + Duration::from_secs(HOUR));
            }
            return;
        }
        if let Some(s) = subject {
            self.facts.retry_at.remove(&s);
        }
        let now = self.now;
        match action {
            Action::Commit(events) => events.into_iter().for_each(|e| self.apply(e)),
            Action::RenewApex { apex } => self.publish(apex),
            Action::BuildVersion { apex, at_once } => self.build(apex, at_once),
            Action::ProveKey { key } => self.apply(Event::KeyProved { key, at: now }),
            Action::Look { what, scope } => self.sweep(what, scope),
            Action::GenerateKey {
                num,
                role,
                algorithm,
                home,
                roll,
            } => self.generate(num, role, algorithm, home, roll),
            Action::TellParent { .. } => {
                let set = self.zone.parent.wanted.clone();
                self.tell_parent(set);
                self.apply(Event::ParentTold { at: now });
            }
            Action::Remind { .. } => {
                self.reminders += 1;
                self.apply(Event::ParentReminded { at: now });
            }
            Action::TrashKey { key } => self.apply(Event::KeyTrashed { key, at: now }),
            Action::DestroyKey { key } => {
                let c = self.reach();
                let held = c.iter().any(|c| match c {
                    Content::Ds(d) | Content::Data(d) => d.contains(&key),
                    Content::Dnskey(k, _) => k.contains(&key),
                });
                if held {
                    self.broken = Some(format!("{key} destroyed while in caches"));
                }
                self.destroyed += 1;
                self.apply(Event::KeyDestroyed { key, at: now });
            }
        }
    }

    fn generate(
        &mut self,
        num: KeyNum,
        role: Role,
        algorithm: u8,
        home: Home,
        roll: Option<Class>,
    ) {
        let mut id = [0u8; 16];
        id[12..].copy_from_slice(&num.0.to_be_bytes());
        let key = Key {
            num,
            id: KeyId(id),
            role,
            algorithm,
            public_key: (0..32u32)
                .map(|i| (num.0.wrapping_mul(2_654_435_761) >> (i % 24)) as u8 ^ i as u8)
                .chain(num.0.to_be_bytes())
                .collect(),
            sep: false,
            home,
            origin: Origin::Generated,
            decoupled: false,
            standby: roll.is_none(),
            backed_up: false,
            compromised: false,
            restored: false,
            proved_at: Some(self.now),
            times: Times {
                generated_at: Some(self.now),
                ..Times::default()
            },
        };
        self.keys.insert(num, key.clone());
        let at = self.now;
        self.apply(Event::KeyAdded { key, roll, at });
    }

    pub fn tell_parent(&mut self, set: Vec<KeyNum>) {
        for (server, delay) in self.config.parent.clone().into_iter().enumerate() {
            let set = set.clone();
            self.schedule(delay, Coming::Parent { server, set });
        }
    }

    /// The parent serves its DS RRset with another TTL from now on.
    pub fn set_ds_ttl(&mut self, ttl: u32) {
        for d in self.ds.clone() {
            self.leave(Content::Ds(d), self.config.ds_ttl);
        }
        self.config.ds_ttl = ttl;
    }

    fn schedule(&mut self, secs: u64, what: Coming) {
        self.sequence += 1;
        let at = self.now + Duration::from_secs(secs);
        self.coming.insert((at, self.sequence, what));
    }

    fn build(&mut self, apex: ApexSet, at_once: bool) {
        let unsigned = vec![Vec::new(); PARTS];
        let data = self.versions.last().map_or(unsigned, |v| v.data.clone());
        let target = apex.zone_signers.clone();
        let first = data.iter().all(Vec::is_empty);
        let mut next = data;
        if first || at_once {
            next = vec![target; PARTS];
        } else {
            let mut wait = 0;
            for (part, signers) in next.clone().iter().enumerate() {
                if *signers == target {
                    continue;
                }
                if wait == 0 {
                    next[part] = target.clone();
                } else {
                    self.schedule(wait, Coming::Resign { part });
                }
                wait += self.config.resign / PARTS as u64;
            }
        }
        self.version(apex, next);
    }

    fn publish(&mut self, apex: ApexSet) {
        let data = self.versions.last().map(|v| v.data.clone());
        self.version(apex, data.unwrap_or_default());
    }

    fn version(&mut self, apex: ApexSet, data: Vec<Vec<KeyNum>>) {
        let serial = self.versions.len() as u32 + 1;
        let any: BTreeSet<KeyNum> = data.iter().flatten().copied().collect();
        let all = any
            .iter()
            .filter(|k| data.iter().all(|d| d.contains(k)))
            .copied()
            .collect();
        let first = self.versions.is_empty();
        self.versions.push(Version {
            serial,
            apex: apex.clone(),
            data,
            ttl: self.config.data_ttl,
        });
        let version = self.versions.len() - 1;
        for (server, lag) in self.config.lags.clone().into_iter().enumerate() {
            if lag == 0 {
                self.update(server, version);
            } else {
                self.schedule(lag, Coming::Update { server, version });
            }
        }
        self.apply(Event::VersionPublished(Publication {
            version: u64::from(serial),
            serial,
            apex,
            apex_expires: self.now + self.policy.apex_signatures.lifetime,
            any: any.into_iter().collect(),
            all,
            data_ttl: self.config.data_ttl,
            soa_expire: self.told_expire,
            unsigned_ttl: first.then_some(self.config.data_ttl),
            at: self.now,
        }));
    }

    fn deliver(&mut self, what: Coming) {
        match what {
            Coming::Update { server, version } => {
                if let Some(up) = self.down_until(server) {
                    // When it is back it transfers what is newest then.
                    let version = usize::MAX;
                    self.schedule(up, Coming::Update { server, version });
                } else {
                    self.update(server, version.min(self.versions.len() - 1));
                }
            }
            Coming::Resign { part } => {
                let Some(v) = self.versions.last().cloned() else {
                    return;
                };
                let mut data = v.data;
                if data[part] != v.apex.zone_signers {
                    data[part] = v.apex.zone_signers.clone();
                    self.version(v.apex, data);
                }
            }
            Coming::Expire { server } => {
                for (content, ttl) in self.shows(server) {
                    self.leave(content, ttl);
                }
                self.expired[server] = true;
            }
            Coming::Parent { server, set } => {
                if self.ds[server] != set {
                    self.leave(Content::Ds(self.ds[server].clone()), self.config.ds_ttl);
                    self.line(format!("parent server {server} has DS {}", list(&set)));
                    self.ds[server] = set;
                }
            }
        }
    }

    fn down_until(&self, server: usize) -> Option<u64> {
        let age = self.age();
        self.config
            .down
            .iter()
            .find(|(s, a, b)| *s == server && *a <= age && age < *b)
            .map(|d| d.2 - age)
    }

    fn update(&mut self, server: usize, version: usize) {
        if self.has[server].is_some_and(|v| v >= version) {
            return;
        }
        for (content, ttl) in self.shows(server) {
            self.leave(content, ttl);
        }
        self.has[server] = Some(version);
        self.expired[server] = false;
    }

    fn leave(&mut self, content: Content, ttl: u32) {
        let until = self.now + Duration::from_secs(u64::from(ttl));
        let e = self.past.entry(content).or_insert(until);
        *e = (*e).max(until);
    }

    fn shows(&self, server: usize) -> Vec<(Content, u32)> {
        if self.expired[server] {
            return Vec::new();
        }
        let Some(v) = self.has[server].map(|i| &self.versions[i]) else {
            let ttl = self.config.data_ttl;
            return vec![
                (Content::Dnskey(Vec::new(), Vec::new()), ttl),
                (Content::Data(Vec::new()), ttl),
            ];
        };
        let keys = Content::Dnskey(v.apex.dnskey.clone(), v.apex.dnskey_signers.clone());
        let mut out = vec![(keys, v.apex.ttl)];
        out.extend(v.data.iter().map(|d| (Content::Data(d.clone()), v.ttl)));
        out
    }

    fn reach(&self) -> BTreeSet<Content> {
        let mut all: BTreeSet<Content> = self
            .past
            .iter()
            .filter(|(_, until)| **until >= self.now)
            .map(|(c, _)| c.clone())
            .collect();
        for s in 0..self.has.len() {
            all.extend(self.shows(s).into_iter().map(|c| c.0));
        }
        all.extend(self.ds.iter().map(|d| Content::Ds(d.clone())));
        all
    }

    fn sweep(&mut self, what: What, scope: Scope) {
        self.looks += 1;
        let members = match (what, scope) {
            (What::Ds, _) => self.parent_members(),
            (_, Scope::Own) => vec![self.zone_member(0, what)],
            _ => (0..self.has.len())
                .map(|s| self.zone_member(s, what))
                .collect(),
        };
        let members = members
            .into_iter()
            .take(if self.blind { 1 } else { usize::MAX })
            .collect();
        let sweep = Sweep {
            what,
            started: self.now,
            ended: self.now,
            members,
            parent_expire: Some(7 * DAY as u32),
        };
        let report = judge(&self.zone, &self.policy, &sweep);
        self.apply(Event::Swept(report));
    }

    fn parent_members(&self) -> Vec<Member> {
        (0..self.ds.len())
            .map(|i| {
                let set: Vec<DsRecord> = self.ds[i]
                    .iter()
                    .filter_map(|n| DsRecord::of(OWNER, &self.keys[n], 2))
                    .collect();
                Member {
                    server: format!("ns{i}.parent"),
                    address: format!("192.0.2.{i}"),
                    answer: Answer::Ds {
                        ttl: self.config.ds_ttl,
                        set,
                        bogus: false,
                        referral: if self.config.delegated {
                            Referral::Names { shared: true }
                        } else {
                            Referral::Denied
                        },
                    },
                }
            })
            .collect()
    }

    fn zone_member(&self, server: usize, what: What) -> Member {
        let v = self.has[server].map(|i| &self.versions[i]);
        let answer = match (self.down_until(server), what) {
            (Some(_), _) => Answer::Silent,
            (_, What::Dnskey) => Answer::Dnskey {
                keys: v.map_or(Vec::new(), |v| {
                    v.apex
                        .dnskey
                        .iter()
                        .map(|n| SeenKey {
                            flags: self.keys[n].flags(),
                            algorithm: self.keys[n].algorithm,
                            public_key: self.keys[n].public_key.clone(),
                        })
                        .collect()
                }),
                ttl: v.map_or(0, |v| v.apex.ttl),
                signed_by: v.map_or(Vec::new(), |v| v.apex.dnskey_signers.clone()),
            },
            _ => Answer::Rrsig {
                serial: v.map_or(0, |v| v.serial),
                same_content: false,
                faults: Vec::new(),
            },
        };
        Member {
            server: format!("ns{server}.example"),
            address: format!("198.51.100.{server}"),
            answer,
        }
    }

    /// Every combination a resolver may hold now must validate.
    fn check(&mut self) {
        self.checks += 1;
        self.past.retain(|_, until| *until >= self.now);
        let reach = self.reach();
        let alg = |n: &KeyNum| self.keys[n].algorithm;
        for d in reach.iter() {
            let Content::Ds(d) = d else { continue };
            if d.is_empty() {
                continue;
            }
            let algs: BTreeSet<u8> = d.iter().map(alg).collect();
            for k in reach.iter() {
                let Content::Dnskey(k, by) = k else { continue };
                let chain = |a: u8| {
                    d.iter()
                        .any(|n| alg(n) == a && k.contains(n) && by.contains(n))
                };
                for r in reach.iter() {
                    let Content::Data(r) = r else { continue };
                    let sig = |a: u8| k.iter().any(|n| alg(n) == a && r.contains(n));
                    let key_algs: BTreeSet<u8> = k.iter().map(alg).collect();
                    let lenient =
                        algs.iter().any(|a| chain(*a)) && key_algs.iter().any(|a| sig(*a));
                    let ds_strict = algs.iter().all(|a| chain(*a) && sig(*a));
                    let dnskey_strict =
                        algs.iter().all(|a| chain(*a)) && key_algs.iter().all(|a| sig(*a));
                    if !(lenient && ds_strict && dnskey_strict) {
                        self.broken = Some(format!(
                            "at {}: DS {} DNSKEY {} signed by {} data signed by {}: lenient {lenient}, DS-strict {ds_strict}, DNSKEY-strict {dnskey_strict}; rolls {:?}",
                            format_span(self.now.since(self.start)),
                            list(d),
                            list(k),
                            list(by),
                            list(r),
                            self.zone
                                .rolls
                                .iter()
                                .map(|r| (r.kind, r.stage))
                                .collect::<Vec<_>>(),
                        ));
                        return;
                    }
                }
            }
        }
        self.check_cds(&reach);
        self.check_state();
    }

    /// A parent that applies the CDS now keeps every cached DNSKEY RRset valid (RFC 7344 §4.1).
    fn check_cds(&mut self, reach: &BTreeSet<Content>) {
        let Some(v) = self.versions.last() else {
            return;
        };
        let Cds::Keys(set) = &v.apex.cds else { return };
        for k in reach {
            if let Content::Dnskey(k, by) = k
                && !set.iter().any(|n| k.contains(n) && by.contains(n))
            {
                self.broken = Some(format!("CDS {} breaks DNSKEY {}", list(set), list(k)));
            }
        }
    }

    fn check_state(&mut self) {
        let Some(p) = &self.zone.published else {
            return;
        };
        let left = self.now.secs_until(p.apex_expires);
        if !p.apex.unsigned && left < i64::from(p.apex.ttl) + 300 {
            self.broken = Some("apex signatures expire".to_string());
        }
        // RFC 4035 §2.2: no algorithm in DNSKEY without a key that signs data.
        for n in &p.apex.dnskey {
            let a = self.keys[n].algorithm;
            if !p
                .apex
                .zone_signers
                .iter()
                .any(|z| self.keys[z].algorithm == a)
            {
                self.broken = Some(format!("algorithm {a} without a signer"));
            }
        }
    }

    fn mutated_step(&self) -> Option<Event> {
        let (roll, at) = self.mutated()?;
        (at <= self.now).then(|| step_event(roll, self.now))
    }

    fn mutant_time(&self) -> Option<Timestamp> {
        self.mutated().map(|m| m.1).filter(|t| *t > self.now)
    }

    fn mutated(&self) -> Option<(&Roll, Timestamp)> {
        let m = self.mutant?;
        let roll = self
            .zone
            .rolls
            .iter()
            .find(|r| r.kind == m.kind && r.stage == m.stage)?;
        let row = roll.row()?;
        let ready = row.seen.iter().all(|s| roll.is_met(*s))
            && is_published(&self.zone, &self.policy, self.now);
        let mut at = roll.since;
        for w in self.zone.cache_waits(&self.policy, roll) {
            match w.free {
                Free::Always => {}
                Free::Served => return None,
                Free::At { at: end, ttl } => {
                    let cut = if w.dying == m.dying {
                        u64::from(ttl)
                    } else {
                        0
                    };
                    at = at.max(end - Duration::from_secs(cut));
                }
            }
        }
        ready.then_some((roll, at))
    }

    fn note(&mut self, event: &Event) {
        let text = match event {
            Event::RollStarted { roll } => format!(
                "{} {} starts, old {}",
                roll.class().word(),
                roll.kind.word(),
                list(&roll.old)
            ),
            Event::RollStepped { class, to, .. } => {
                let row = self.zone.roll(*class).and_then(|r| r.kind.row(*to));
                format!(
                    "{} {to:?} {}  old {} new {}",
                    class.word(),
                    row.map_or("", |r| r.state),
                    row.map_or(String::new(), |r| r.old.letters()),
                    row.map_or(String::new(), |r| r.new.letters()),
                )
            }
            Event::RollDone { class, .. } => {
                if let Some(r) = self.zone.roll(*class) {
                    *self.finished.entry(r.kind).or_insert(0) += 1;
                }
                format!("{} done", class.word())
            }
            Event::KeyAdded { key, .. } => {
                format!("{} {} alg {} generated", key.num, key.role, key.algorithm)
            }
            Event::KeyRestored { key, .. } => format!("{key} restored"),
            Event::KeyTrashed { key, .. } => format!("{key} to the trash"),
            Event::KeyDestroyed { key, .. } => format!("{key} destroyed"),
            Event::VersionPublished(p) => {
                let old = self.zone.published.as_ref();
                if old.is_some_and(|o| o.apex == p.apex && o.any == p.any) {
                    return;
                }
                let cds = match &p.apex.cds {
                    Cds::None => "-".to_string(),
                    Cds::Delete => "delete".to_string(),
                    Cds::Keys(k) => list(k),
                };
                format!(
                    "published: DNSKEY {} by {}, data by {}, CDS {cds}",
                    list(&p.apex.dnskey),
                    list(&p.apex.dnskey_signers),
                    list(&p.any)
                )
            }
            _ => return,
        };
        self.line(text);
    }

    fn line(&mut self, text: String) {
        let at = format_span(self.now.since(self.mark));
        self.lines.push(format!("{at:>14}  {text}"));
    }
}

pub fn list(k: &[KeyNum]) -> String {
    if k.is_empty() {
        return "-".to_string();
    }
    k.iter()
        .map(KeyNum::to_string)
        .collect::<Vec<_>>()
        .join("+")
}
