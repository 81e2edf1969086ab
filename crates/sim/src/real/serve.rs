//! What is published, what secondaries make of it, and what they say to the observer.

use std::sync::Arc;

use cascade_keys::{Key, KeyNum, SeenKey};
use cascade_verifier::{DenialPolicy, Engine, OwnKey, Params};
use cascade_zone::{Rtype, Serial, VersionId};

use super::zone::content_of;
use super::{Published, STEPS, wire};
use crate::check::Rule;
use crate::world::World;

/// An answer of a zone server.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) keys: Vec<SeenKey>,
    pub(crate) ttl: u32,
    /// Keys of ours whose signature over DNSKEY verifies.
    pub(crate) by: Vec<KeyNum>,
    pub(crate) serial: u32,
    pub(crate) soa_fault: bool,
}

impl World {
    /// What is served from now on; serials only grow, and each is one content.
    pub(crate) fn publish_real(&mut self, v: VersionId) -> Option<Arc<Published>> {
        let real = self.pipe.as_mut()?.real.as_mut()?;
        let held = real.signed.get(&v)?.clone();
        let Some(verified) = held.verified else {
            self.fail(Rule::W7, format!("{v} is published and not verified"));
            return None;
        };
        let version = held.version;
        let serial = version.serial();
        let content = version.full_fingerprint();
        let highest = real.serials.keys().next_back().copied();
        let known = *real.serials.entry(serial.0).or_insert(content);
        let back = highest.is_some_and(|h| h != serial.0 && !serial.newer_than(Serial(h)));
        real.steps = match &real.last {
            Some(last) if last.id() == v => real.steps.clone(),
            Some(last) => real.steps.then(last, &version, STEPS),
            None => real.steps.clone(),
        };
        real.last = Some(version.clone());
        let published = Published {
            verified: *verified,
            steps: real.steps.clone(),
            classes: held.classes,
            content: content_of(&version).unwrap_or(0),
            records: Default::default(),
            judged: Default::default(),
            answers: Default::default(),
        };
        if known != content {
            self.fail(Rule::W5, format!("serial {serial} is two contents"));
        } else if back {
            self.fail(Rule::W5, format!("serial {serial} is after {highest:?}"));
        }
        Some(Arc::new(published))
    }

    /// What a zone server says to the observer, by its copy; `None`: it has none.
    pub(crate) fn answers_of(&mut self, server: usize) -> Option<Seen> {
        let has = self.servers[server].has?;
        let from = self.versions.get(has)?.real.clone()?;
        let wall = self.wall();
        // Its copy was compared with this record for record.
        if from.answers.get().is_none() {
            match wire::ask(from.version(), wall) {
                Ok(answers) => _ = from.answers.set(answers),
                Err(e) => {
                    let text = format!("a server with serial {}: {e}", from.serial());
                    self.fail(Rule::W6, text);
                    return None;
                }
            }
        }
        let a = from.answers.get()?;
        let num = |i: &usize| {
            let key = a.keys.get(*i)?;
            let mut all = self.keys.values();
            all.find(|k| {
                let same = k.flags() == key.flags && k.algorithm == key.algorithm;
                same && k.public_key == key.public_key
            })
            .map(|k| k.num)
        };
        let seen = Seen {
            keys: a.keys.clone(),
            ttl: a.ttl,
            by: a.signed_by.iter().filter_map(num).collect(),
            serial: a.serial,
            soa_fault: a.soa_fault,
        };
        if let Some(real) = self.pipe.as_mut().and_then(|p| p.real.as_mut()) {
            real.counts.answers += 1;
        }
        Some(seen)
    }

    /// The zone server takes this version by a transfer, from the one that it has.
    pub(crate) fn transfer(&mut self, server: usize, have: Option<usize>, to: usize) {
        let Some(from) = self.versions.get(to).and_then(|v| v.real.clone()) else {
            return;
        };
        let wall = self.wall();
        let have = have.and_then(|v| self.versions.get(v)?.real.clone());
        let got = wire::transfer(&from, have.as_deref(), wall);
        let copy = match got {
            Ok((copy, how)) => {
                if let Some(real) = self.pipe.as_mut().and_then(|p| p.real.as_mut()) {
                    match how {
                        wire::How::Whole => real.counts.axfr += 1,
                        wire::How::Differences => real.counts.ixfr += 1,
                        wire::How::UpToDate => real.counts.up_to_date += 1,
                    }
                }
                copy
            }
            Err(e) => {
                return self.fail(Rule::W6, format!("server {server} gets no copy: {e}"));
            }
        };
        if let Some(what) = copy.differs_from(from.records()) {
            let text = format!("the copy of server {server} is not what was published: {what}");
            return self.fail(Rule::W6, text);
        }
        if from.judged.set(()).is_err() {
            return;
        }
        let unsigned = from.classes.dnskey.is_none();
        let denial = match from.version().denial() {
            cascade_zone::Denial::Nsec3 { params, .. } => Some(DenialPolicy::Nsec3 {
                iterations: params.iterations,
                salt: params.salt.clone(),
                opt_out: params.opt_out,
            }),
            _ => Some(DenialPolicy::Nsec),
        };
        // Who made it is known: in a change of algorithms also keys that are not published sign, and
        // under double-DS one is named that is not.
        let apex = self.versions[to].apex.clone();
        let sets = from.classes.data.iter().chain(&from.classes.cds);
        let signs: Vec<KeyNum> = sets.flat_map(|s| s.signers.clone()).collect();
        let own = |k: &Key| OwnKey {
            dnskey: k.dnskey_rdata(),
            published: apex.dnskey.contains(&k.num),
            may_sign_unpublished: signs.contains(&k.num) && !apex.dnskey.contains(&k.num),
            wanted_at_parent: from.classes.named.contains(&k.num),
            proven: true,
        };
        let params = Params {
            own_keys: Some(self.keys.values().map(own).collect()),
            engine: Engine::Ring,
            denial,
            unsigned,
            delete_ds_ordered: from.classes.cds.is_some() && from.classes.named.is_empty(),
            // Whether there is CDNSKEY beside CDS was the gate's to ask.
            cdnskey: from.records().0.keys().any(|k| k.1 == Rtype::CDNSKEY),
            ..Params::file()
        };
        let found = wire::verify(from.version().apex(), &copy, &params, wall);
        match found {
            Ok(()) => {
                if let Some(real) = self.pipe.as_mut().and_then(|p| p.real.as_mut()) {
                    real.counts.verified += 1;
                }
            }
            Err(why) => {
                let serial = from.serial();
                let text = format!("the copy of serial {serial} at server {server}: {why}");
                self.fail(Rule::W7, text);
            }
        }
    }
}
