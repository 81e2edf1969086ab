//! The zone's versions, the signer that works through them, and the servers that show them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cascade_keys::{
    Answer, ApexSet, Cds, DsRecord, Event, KeyNum, Member, Publication, Scope, SeenKey, Sweep,
    What, at_or_past, judge,
};
use cascade_time::Timestamp;

use crate::check::Rule;
use crate::reach::{Content, Id};
use crate::real::Published;
use crate::steps::Told;
use crate::world::{Coming, World};

/// Groups of RRsets that the signer reaches one after the other in a change of signers.
pub(crate) const PARTS: usize = 4;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    pub(crate) signers: Vec<KeyNum>,
    pub(crate) expires: Timestamp,
}

#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) serial: u32,
    pub(crate) at: Timestamp,
    pub(crate) apex: ApexSet,
    pub(crate) data: Vec<Part>,
    pub(crate) content: u32,
    apex_expires: Timestamp,
    /// What a server with this version answers: class, TTL, end of its signatures.
    shows: Vec<(Id, u32, Timestamp)>,
    pub(crate) real: Option<Arc<Published>>,
}

#[derive(Clone, Default, Debug)]
pub(crate) struct Server {
    /// Index of its version.
    pub(crate) has: Option<usize>,
    /// Switched off: it answers nobody.
    pub(crate) off: bool,
    pub(crate) expired: bool,
    /// Shows old and new content in turn, now the old.
    pub(crate) flips: Option<bool>,
    pub(crate) stuck_until: Option<Timestamp>,
    /// Shows keys of the same tag and other octets until then.
    pub(crate) forges_until: Option<Timestamp>,
    /// Answers us with REFUSED until then.
    pub(crate) refuses_until: Option<Timestamp>,
    /// Outside the contract: it went back to old data, or ignores SOA EXPIRE.
    pub(crate) outside: bool,
    highest: u32,
}

impl Version {
    /// The classes that it shows.
    pub(crate) fn ids(&self) -> Vec<Id> {
        self.shows.iter().map(|s| s.0).collect()
    }
}

impl World {
    /// A version with this apex set; the signers of the data change all at once or one by one.
    pub(crate) fn build(&mut self, apex: ApexSet, at_once: bool) -> Event {
        let fresh = self.fresh_data();
        let unsigned = vec![
            Part {
                signers: Vec::new(),
                expires: fresh,
            };
            PARTS
        ];
        let data = self.versions.last().map_or(unsigned, |v| v.data.clone());
        let target = apex.zone_signers.clone();
        let anew = self.floor > 0 && self.versions.len() == self.floor;
        let first = anew || data.iter().all(|p| p.signers.is_empty());
        let done = Part {
            signers: target.clone(),
            expires: fresh,
        };
        let mut next = data;
        if first || at_once {
            next = vec![done; PARTS];
        } else {
            let mut wait = 0;
            for (part, p) in next.iter_mut().enumerate() {
                if p.signers == target {
                    continue;
                }
                if wait == 0 {
                    *p = done.clone();
                } else {
                    self.schedule(wait, Coming::Resign { part });
                }
                wait += self.config.resign / PARTS as u64;
            }
        }
        self.version(apex, next, true)
    }

    /// The same content with new signatures over DNSKEY, CDS and CDNSKEY.
    pub(crate) fn renew(&mut self, apex: ApexSet) -> Event {
        let data = self.versions.last().map(|v| v.data.clone());
        self.version(apex, data.unwrap_or_default(), true)
    }

    /// New content with the same keys.
    pub(crate) fn edit(&mut self) {
        if let Some(v) = self.versions.last().cloned()
            && self.up
            && !self.within(self.config.disk_full)
        {
            if self.pipe.is_some() {
                return self.pipe_source();
            }
            let e = self.version(v.apex, v.data, false);
            self.apply(e);
        }
    }

    /// The source's largest TTL changes.
    pub fn set_data_ttl(&mut self, ttl: u32) {
        if self.truncated {
            self.held += 1;
            self.held_ttl = Some(ttl);
            return;
        }
        self.config.data_ttl = ttl;
        self.edit();
    }

    pub(crate) fn fresh_data(&self) -> Timestamp {
        self.wall() + Duration::from_secs(self.config.data_lifetime)
    }

    pub(crate) fn version(&mut self, apex: ApexSet, data: Vec<Part>, signs_apex: bool) -> Event {
        let wall = self.wall();
        if self.skew > 86_400 - 300 {
            self.fail(Rule::W4, "signatures that begin in the future".into());
        }
        let serial = self.versions.len() as u32 + 1;
        let any: BTreeSet<KeyNum> = data.iter().flat_map(|p| &p.signers).copied().collect();
        let all: Vec<KeyNum> = any
            .iter()
            .filter(|k| data.iter().all(|d| d.signers.contains(k)))
            .copied()
            .collect();
        let first = self.versions.is_empty();
        self.unsigned_ttl.get_or_insert(self.config.data_ttl);
        let apex_expires = match self.versions.last() {
            Some(v) if !signs_apex => v.apex_expires,
            _ => wall + self.policy.apex_signatures.lifetime,
        };
        self.show(apex.clone(), data, apex_expires);
        let cds_ttl = if apex.cds == Cds::None { 0 } else { apex.ttl };
        Event::VersionPublished(Publication {
            version: u64::from(serial),
            serial,
            apex,
            apex_expires,
            any: any.into_iter().collect(),
            all,
            data_ttl: self.config.data_ttl.max(cds_ttl),
            soa_expire: self.config.soa_expire,
            unsigned_ttl: first.then_some(self.config.data_ttl),
            at: wall,
        })
    }

    /// Our own server shows it from now on, and the others in their time.
    pub(crate) fn show(&mut self, apex: ApexSet, data: Vec<Part>, apex_expires: Timestamp) {
        self.show_real(apex, data, apex_expires, None);
    }

    pub(crate) fn show_real(
        &mut self,
        apex: ApexSet,
        data: Vec<Part>,
        apex_expires: Timestamp,
        real: Option<Arc<Published>>,
    ) {
        self.check_new(&apex, &data);
        let (serial, content) = match &real {
            Some(real) => (real.serial(), real.content),
            None => {
                let content = self.contents.last().copied();
                (self.versions.len() as u32 + 1, content.unwrap_or(0))
            }
        };
        let mut v = Version {
            serial,
            at: self.now,
            apex,
            data,
            content,
            apex_expires,
            shows: Vec::new(),
            real,
        };
        v.shows = self.classes_of(&v);
        self.versions.push(v);
        let version = self.versions.len() - 1;
        for (server, lag) in self.config.lags.clone().into_iter().enumerate() {
            let version = Some(version);
            match lag {
                0 => self.arrive(server, version),
                _ if self.manual => {}
                _ => {
                    let lag = if self.config.seed == 0 {
                        lag
                    } else {
                        lag / 2 + self.chance.below(lag)
                    };
                    self.schedule(lag, Coming::Update { server, version });
                }
            }
        }
        self.plan_refresh();
    }

    /// The version that the signer before us has published everywhere.
    pub(crate) fn version_of_others(
        &mut self,
        apex: ApexSet,
        data: Vec<Part>,
        apex_expires: Timestamp,
    ) {
        let mut v = Version {
            serial: 1,
            at: self.now,
            apex,
            data,
            content: 0,
            apex_expires,
            shows: Vec::new(),
            real: None,
        };
        v.shows = self.classes_of(&v);
        self.versions.push(v);
        for s in self.servers.iter_mut().skip(1) {
            s.has = Some(0);
        }
    }

    fn classes_of(&mut self, v: &Version) -> Vec<(Id, u32, Timestamp)> {
        let ttl = self.config.data_ttl;
        let never = Timestamp::from_secs(i64::MAX / 2_000_000_000);
        if let Some(real) = v.real.clone() {
            return self.classes_of_real(&real);
        }
        if v.apex.unsigned {
            return self.unsigned(ttl);
        }
        let keys = Content::Dnskey(v.apex.dnskey.clone(), v.apex.dnskey_signers.clone());
        let mut out = vec![(self.reach.id(keys), v.apex.ttl, v.apex_expires)];
        for p in &v.data {
            let end = if p.signers.is_empty() {
                never
            } else {
                p.expires
            };
            out.push((self.reach.id(Content::Data(p.signers.clone())), ttl, end));
        }
        if v.apex.cds != Cds::None {
            // CDS and CDNSKEY are data like all other to a validator.
            let cds = self.reach.id(Content::Cds(v.apex.cds_signers.clone()));
            out.push((cds, v.apex.ttl, v.apex_expires));
        }
        out
    }

    /// The same, read off its records.
    fn classes_of_real(&mut self, v: &Published) -> Vec<(Id, u32, Timestamp)> {
        let c = v.classes.clone();
        let Some(keys) = &c.dnskey else {
            let ttl = c.data.iter().map(|s| s.ttl).max();
            return self.unsigned(ttl.unwrap_or(self.config.data_ttl));
        };
        let content = Content::Dnskey(c.keys.clone(), keys.signers.clone());
        let mut out = vec![(self.reach.id(content), keys.ttl, keys.expires)];
        for set in &c.data {
            let content = Content::Data(set.signers.clone());
            out.push((self.reach.id(content), set.ttl, set.expires));
        }
        if let Some(set) = &c.cds {
            let content = Content::Cds(set.signers.clone());
            out.push((self.reach.id(content), set.ttl, set.expires));
        }
        out
    }

    fn unsigned(&mut self, ttl: u32) -> Vec<(Id, u32, Timestamp)> {
        let never = Timestamp::from_secs(i64::MAX / 2_000_000_000);
        let keys = self.reach.id(Content::Dnskey(Vec::new(), Vec::new()));
        let data = self.reach.id(Content::Data(Vec::new()));
        vec![(keys, ttl, never), (data, ttl, never)]
    }

    /// What resolvers get from this server now.
    pub(crate) fn shows(&mut self, server: usize) -> Vec<(Id, u32, Timestamp)> {
        let s = &self.servers[server];
        if s.expired || s.off || s.outside || server == 0 && self.config.hidden_primary {
            return Vec::new();
        }
        match s.has {
            Some(v) => self.versions[v].shows.clone(),
            // Before us somebody served the data as they were then.
            None => self.unsigned(self.unsigned_ttl.unwrap_or(self.config.data_ttl)),
        }
    }

    pub(crate) fn resign(&mut self, part: usize) {
        let Some(v) = self.versions.last().cloned() else {
            return;
        };
        if v.data[part].signers == v.apex.zone_signers || !self.up {
            return;
        }
        if !self.can_sign(&v.apex.zone_signers) {
            return self.schedule(600, Coming::Resign { part });
        }
        let mut data = v.data;
        data[part] = Part {
            signers: v.apex.zone_signers.clone(),
            expires: self.fresh_data(),
        };
        let e = self.version(v.apex, data, false);
        self.apply(e);
    }

    pub(crate) fn can_sign(&mut self, keys: &[KeyNum]) -> bool {
        let lies = self.lies();
        if lies {
            self.refused += 1;
        }
        !lies
            && !self.within(self.config.token_down)
            && !self.within(self.config.disk_full)
            && !keys.iter().any(|k| self.lost.contains(k))
    }

    /// Signatures over data are made anew before they come near their end.
    pub(crate) fn refresh(&mut self) {
        self.refreshing = false;
        let Some(v) = self.versions.last().cloned() else {
            return;
        };
        if !self.up || v.apex.unsigned || self.pipe.is_some() {
            return;
        }
        let (wall, fresh) = (self.wall(), self.fresh_data());
        let remain = Duration::from_secs(self.config.data_remain);
        if !self.can_sign(&v.apex.zone_signers) {
            self.refreshing = true;
            return self.schedule(600, Coming::Refresh);
        }
        let mut data = v.data;
        for p in data.iter_mut().filter(|p| p.expires - remain <= wall) {
            p.expires = fresh;
            // What is refreshed is signed by the keys of now.
            p.signers = v.apex.zone_signers.clone();
        }
        let e = self.version(v.apex, data, false);
        self.apply(e);
    }

    fn plan_refresh(&mut self) {
        let Some(v) = self.versions.last() else {
            return;
        };
        if self.versions.len() <= self.floor || self.pipe.is_some() {
            // The signer before us does it, or the pipeline asks for it.
            return;
        }
        let first = v.data.iter().map(|p| p.expires).min();
        let Some(first) = first.filter(|_| !self.refreshing && !v.apex.unsigned) else {
            return;
        };
        let due = first - Duration::from_secs(self.config.data_remain);
        let wait = self.wall().secs_until(due).max(1) as u64;
        self.refreshing = true;
        self.schedule(wait, Coming::Refresh);
    }

    /// After a restart the signer goes on where the published version is.
    pub(crate) fn resume_signing(&mut self) {
        if self.pipe.is_some() {
            return;
        }
        self.plan_refresh();
        let Some(v) = self.versions.last().cloned() else {
            return;
        };
        let mut wait = 1;
        for (part, p) in v.data.iter().enumerate() {
            if p.signers != v.apex.zone_signers && !v.apex.unsigned {
                self.schedule(wait, Coming::Resign { part });
                wait += self.config.resign / PARTS as u64;
            }
        }
    }

    pub(crate) fn arrive(&mut self, server: usize, version: Option<usize>) {
        let newest = self.versions.len().saturating_sub(1);
        if self.versions.is_empty()
            || self.down_until(server).is_some()
            || self.servers[server].flips.is_some()
            || self.servers[server]
                .stuck_until
                .is_some_and(|t| t > self.now)
        {
            // When it is back it transfers what is newest then.
            return;
        }
        let version = version.unwrap_or(newest).min(newest);
        if server > 0 && !self.may_leave() {
            if self.zone.look(What::Ds).is_none() {
                let version = Some(version);
                self.schedule(5, Coming::Update { server, version });
            }
            return;
        }
        if version < self.floor {
            return;
        }
        let back = self.servers[server].outside;
        if !back && self.servers[server].has.is_some_and(|v| v >= version) {
            self.servers[server].expired = false;
            return;
        }
        let have = self.servers[server].has;
        self.set_version(server, version);
        if server > 0 {
            self.transfer(server, have, version);
        }
        self.servers[server].outside = false;
        self.servers[server].expired = false;
        let serial = self.versions[version].serial;
        if serial < self.servers[server].highest {
            self.fail(Rule::W5, format!("server {server} goes back to {serial}"));
        }
        self.servers[server].highest = serial;
    }

    fn set_version(&mut self, server: usize, version: usize) {
        for (id, ttl, _) in self.shows(server) {
            self.leave(id, ttl);
        }
        self.servers[server].has = Some(version);
    }

    pub(crate) fn expire(&mut self, server: usize, since: Timestamp) {
        let still = |d: &(usize, u64, u64)| {
            d.0 == server && self.start + Duration::from_secs(d.1) == since && self.age() < d.2
        };
        if !self.config.down.iter().any(still) {
            return;
        }
        for (id, ttl, _) in self.shows(server) {
            self.leave(id, ttl);
        }
        self.line(format!("zone server {server} has expired the zone"));
        self.servers[server].expired = true;
    }

    pub(crate) fn cut_off_between(&mut self, server: usize, from: u64, to: u64) {
        let since = self.start + Duration::from_secs(from);
        let wait = from - self.age().min(from);
        // SOA EXPIRE counts from its last refresh, and a server that lags refreshes as seldom.
        let lag = self.config.lags[server].saturating_mul(3) / 2;
        let expire = u64::from(self.config.soa_expire).saturating_sub(lag);
        self.schedule(wait + expire, Coming::Expire { server, since });
        let back = to.saturating_sub(self.age());
        let version = None;
        self.schedule(back, Coming::Update { server, version });
    }

    /// The secondary is cut off from us: no transfer, no answer to us; others it still answers.
    pub fn cut_off(&mut self, server: usize, secs: u64) {
        let age = self.age();
        self.config.down.push((server, age, age + secs));
        self.line(format!("zone server {server} is cut off"));
        self.cut_off_between(server, age, age + secs);
    }

    /// A copy from a backup of some time ago is served until the next transfer.
    pub fn rewind(&mut self, server: usize, ago: u64, until: u64) {
        let then = self.now - Duration::from_secs(ago);
        let old = self.versions.iter().rposition(|v| v.at <= then);
        let Some(old) = old.filter(|_| server > 0) else {
            return;
        };
        self.line(format!("zone server {server} is back from a backup"));
        self.set_version(server, old);
        self.servers[server].highest = self.versions[old].serial;
        self.servers[server].stuck_until = Some(self.now + Duration::from_secs(until));
        // The margin is for what changes between two looks, and not for more; an emergency has at most 5 minutes of it.
        let superseded = self.versions.get(old + 1).map_or(self.now, |v| v.at);
        let stale = self.now.since(superseded) + Duration::from_secs(until);
        self.servers[server].outside = stale > self.margin_now();
        let version = None;
        self.schedule(until + 1, Coming::Update { server, version });
    }

    /// From now on it shows old and new content in turn.
    pub fn flip(&mut self, server: usize, period: u64, secs: u64, old: bool) {
        let until = self.now + Duration::from_secs(secs);
        self.servers[server].flips = Some(!old);
        self.flip_now(server, period.max(1), until);
    }

    /// It answers us with REFUSED for a while, and others as before.
    pub fn refuse(&mut self, server: usize, secs: u64) {
        self.line(format!("zone server {server} refuses to answer us"));
        self.servers[server].refuses_until = Some(self.now + Duration::from_secs(secs));
    }

    /// Asked for DNSKEY, it shows other keys with the tags of ours, and signatures that fit.
    pub fn forge(&mut self, server: usize, secs: u64) {
        self.servers[server].forges_until = Some(self.now + Duration::from_secs(secs));
    }

    pub(crate) fn has_server(&self, server: usize) -> bool {
        server > 0 && server < self.servers.len()
    }

    pub(crate) fn flip_now(&mut self, server: usize, period: u64, until: Timestamp) {
        let Some(shows_old) = self.servers[server].flips else {
            return;
        };
        let Some(newest) = self.versions.len().checked_sub(1) else {
            return;
        };
        if self.now >= until {
            self.servers[server].flips = None;
            self.servers[server].highest = 0;
            return self.arrive(server, None);
        }
        let now = self.versions[newest].shows.clone();
        let ids = |s: &[(Id, u32, Timestamp)]| s.iter().map(|x| x.0).collect::<Vec<_>>();
        // With signatures that have ended it would be found out by everybody.
        let lasts = |v: &Version| {
            let ends = |s: &(Id, u32, Timestamp)| s.2 - Duration::from_secs(u64::from(s.1) + 300);
            v.shows.iter().all(|s| ends(s) > until)
        };
        let other = |v: &Version| lasts(v) && ids(&v.shows) != ids(&now);
        let old = self.versions.iter().rposition(other).unwrap_or(newest);
        let version = if shows_old { newest } else { old };
        self.set_version(server, version);
        self.servers[server].flips = Some(!shows_old);
        self.schedule(
            period,
            Coming::Flip {
                server,
                period,
                until,
            },
        );
    }

    pub(crate) fn down_until(&self, server: usize) -> Option<u64> {
        let age = self.age();
        let is = |d: &&(usize, u64, u64)| d.0 == server && d.1 <= age && age < d.2;
        self.config.down.iter().find(is).map(|d| d.2)
    }

    /// The parent, or another resolver, gets an answer from it.
    pub(crate) fn answers_others(&self, server: usize) -> bool {
        let s = &self.servers[server];
        let hidden = server == 0 && self.config.hidden_primary;
        !s.off && !s.expired && !hidden && self.down_until(server).is_none()
    }

    pub(crate) fn begin_look(&mut self, what: What, scope: Scope, cost: u64) {
        let started = self.wall();
        let all = self.members_of(what, scope);
        if cost == 0 {
            return self.end_look(what, scope, started, vec![None; all.len()]);
        }
        // Answers come at any time between begin and end.
        let mut early = Vec::new();
        for i in all {
            let now = self.chance.one_in(2);
            early.push(now.then(|| {
                let (m, told) = self.ask(what, i);
                (m.answer, told)
            }));
        }
        self.schedule(
            cost,
            Coming::LookEnds {
                what,
                scope,
                started,
                early,
            },
        );
    }

    fn members_of(&self, what: What, scope: Scope) -> Vec<usize> {
        match (what, scope) {
            (What::Ds, _) => (0..self.parents.len())
                .filter(|p| !self.parents[*p].gone)
                .collect(),
            (_, Scope::Own) => vec![0],
            _ => (0..self.servers.len())
                .filter(|s| !self.config.hidden.contains(s))
                .collect(),
        }
    }

    pub(crate) fn end_look(
        &mut self,
        what: What,
        scope: Scope,
        started: Timestamp,
        early: Vec<Option<(Answer, Told)>>,
    ) {
        let subject = cascade_keys::Subject::Look(what);
        self.facts.in_flight.remove(&subject);
        let mut members = Vec::new();
        let mut truth = Vec::new();
        for (n, i) in self.members_of(what, scope).into_iter().enumerate() {
            let (mut m, mut told) = self.ask(what, i);
            if let Some((answer, then)) = early.get(n).cloned().flatten() {
                m.answer = answer;
                told = then;
            }
            members.push(m);
            truth.push(told);
        }
        let sweep = Sweep {
            what,
            started,
            ended: self.wall(),
            members,
            parent_expire: Some(self.config.parent_expire),
        };
        if self.within(self.config.disk_full) {
            let at = self.wall() + Duration::from_secs(600);
            self.facts.retry_at.insert(subject, at);
            return;
        }
        self.note_looked(&sweep);
        let report = judge(&self.zone, &self.policy, &sweep);
        self.truth.insert(what, truth);
        self.facts.retry_at.remove(&subject);
        self.apply(Event::Swept(report));
    }

    /// The daemon keeps what the parent's servers showed for its gate.
    fn note_looked(&mut self, sweep: &Sweep) {
        let mut seen: Option<Vec<DsRecord>> = None;
        for m in &sweep.members {
            if let Answer::Ds {
                set, bogus: false, ..
            } = &m.answer
            {
                let seen = seen.get_or_insert_default();
                seen.extend(set.iter().cloned());
            }
        }
        if let Some(mut seen) = seen {
            seen.sort_by_key(DsRecord::text);
            seen.dedup();
            self.note_parent_ds(seen);
        }
    }

    fn ask(&mut self, what: What, i: usize) -> (Member, Told) {
        if what == What::Ds {
            let m = self.parent_member(i);
            let told = Told {
                answered: matches!(m.answer, Answer::Ds { bogus: false, .. }),
                version: None,
                ds: self.parents[i].set.clone(),
            };
            return (m, told);
        }
        let m = self.zone_member(i, what);
        let forged = self.servers[i].forges_until.is_some_and(|t| t > self.now);
        let told = Told {
            answered: matches!(m.answer, Answer::Dnskey { .. } | Answer::Rrsig { .. }),
            version: self.servers[i].has.filter(|_| !forged),
            ds: Vec::new(),
        };
        (m, told)
    }

    fn zone_member(&mut self, server: usize, what: What) -> Member {
        let spoofed = server > 0 && self.chance.one_in(self.config.spoofed);
        let real = self.answers_of(server);
        let v = self.servers[server].has.map(|i| &self.versions[i]);
        let s = &self.servers[server];
        let forges = s.forges_until.is_some_and(|t| t > self.now);
        let silent = self.down_until(server).is_some()
            || s.off
            || (server > 0 && self.within(self.config.network_down));
        let answer = if silent {
            Answer::Silent
        } else if self.config.v6_only.contains(&server) && !self.config.has_ipv6 {
            Answer::NoRoute
        } else if s.refuses_until.is_some_and(|t| t > self.now) || s.expired {
            Answer::Unusable("REFUSED".to_string())
        } else if what == What::Dnskey {
            let keys = v.map_or(Vec::new(), |v| v.apex.dnskey.clone());
            let seen = |n: &KeyNum| {
                self.keys.get(n).map(|k| SeenKey {
                    flags: k.flags(),
                    algorithm: k.algorithm,
                    public_key: if forges {
                        same_tag(&k.public_key)
                    } else {
                        k.public_key.clone()
                    },
                })
            };
            let by = v.map_or(Vec::new(), |v| v.apex.dnskey_signers.clone());
            match real.filter(|_| !forges) {
                Some(a) => Answer::Dnskey {
                    keys: a.keys.clone(),
                    ttl: a.ttl,
                    signed_by: if spoofed { Vec::new() } else { a.by.clone() },
                },
                None => Answer::Dnskey {
                    keys: keys.iter().filter_map(seen).collect(),
                    ttl: v.map_or(0, |v| v.apex.ttl),
                    signed_by: if spoofed { Vec::new() } else { by },
                },
            }
        } else {
            let serial = v.map_or(0, |v| v.serial);
            let serial = real.as_ref().map_or(serial, |a| a.serial);
            let spoofed = spoofed || real.is_some_and(|a| a.soa_fault);
            let wants = self.zone.published.as_ref().map_or(0, |p| p.data_serial);
            let rewrites = self.config.rewrites.contains(&server);
            Answer::Rrsig {
                serial: if rewrites { serial % 7 } else { serial },
                same_content: rewrites && at_or_past(serial, wants),
                faults: if spoofed {
                    vec!["SOA".to_string()]
                } else {
                    Vec::new()
                },
            }
        };
        Member {
            server: format!("ns{server}.example"),
            address: format!("198.51.100.{server}"),
            nsid: None,
            answer,
        }
    }

    /// When some server shows a signature that a cache would hold beyond its end.
    pub(crate) fn next_short_signature(&self) -> Option<Timestamp> {
        let mut first: Option<Timestamp> = None;
        for s in self
            .servers
            .iter()
            .filter(|s| !s.expired && !s.off && !s.outside)
            .skip(usize::from(self.config.hidden_primary))
        {
            let Some(v) = s.has else { continue };
            for (_, ttl, expires) in &self.versions[v].shows {
                let at = *expires - Duration::from_secs(u64::from(*ttl) + 299);
                if at > self.now && first.is_none_or(|f| at < f) {
                    first = Some(at);
                }
            }
        }
        first
    }

    /// W4: a signature in service outlives the TTL of whoever takes it now.
    pub(crate) fn check_dates(&mut self) {
        for server in 0..self.servers.len() {
            for (id, ttl, expires) in self.shows(server) {
                if self.now.secs_until(expires) < i64::from(ttl) + 300 {
                    let what = self.reach.content(id).clone();
                    let text = format!("server {server} shows {what:?} that ends too early");
                    return self.fail(Rule::W4, text);
                }
            }
        }
    }
}

/// Other octets with the same sum (RFC 4034 App. B): two pairs are exchanged.
fn same_tag(key: &[u8]) -> Vec<u8> {
    let mut out = key.to_vec();
    let last = out.len().saturating_sub(2) & !1;
    if last >= 2 {
        out.swap(0, last);
        out.swap(1, last + 1);
    }
    out
}
