//! Requests judged and carried out in memory, one after the other (RFC 2136 §3.2, §3.4.2).

use std::collections::BTreeMap;

use cascade_zone::{Edit, Name, Rtype, Serial, SoaFields, ZoneVersion, canon, key};

use super::{Change, Permit, Prerequisite, Refused, Request, Target};

/// One RRset as it is now: by canonical RDATA, the spelling. TTL of the whole set.
#[derive(Debug, Clone, Default)]
struct Set {
    ttl: u32,
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Spelling of an owner that is new.
    case: Option<Vec<u8>>,
}

impl Set {
    fn is_same(&self, other: &Set) -> bool {
        self.records == other.records && (self.records.is_empty() || self.ttl == other.ttl)
    }
}

type Sets = BTreeMap<(Vec<u8>, Rtype), Set>;

/// What a request did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// Its serial, if this request were the last of the batch.
    Yes(Serial),
    /// Everything was so already; no new version follows.
    No,
}

/// Requests that become one version of a zone.
#[derive(Debug)]
pub struct Batch<'a> {
    base: &'a ZoneVersion,
    max_ttl: Option<u32>,
    sets: Sets,
}

impl<'a> Batch<'a> {
    /// `base`: unsigned. TTLs above `max_ttl` are lowered.
    pub fn new(base: &'a ZoneVersion, max_ttl: Option<u32>) -> Batch<'a> {
        Batch {
            base,
            max_ttl,
            sets: Sets::new(),
        }
    }

    /// Judges and carries out one request. Permissions come first, so that nobody learns from
    /// prerequisites what a zone holds, then prerequisites, then the changes in their order; the serial grows with every request that changes something, unless
    /// the request has raised it itself (RFC 2136 §3.6).
    ///
    /// # Errors
    /// The batch is as it was before.
    pub fn apply(&mut self, request: &Request, permit: &dyn Permit) -> Result<Changed, Refused> {
        for change in &request.changes {
            self.permitted(change.target(), permit)?;
        }
        for prerequisite in &request.prerequisites {
            self.holds(prerequisite)?;
        }
        let mut work = Work {
            batch: self,
            new: Sets::new(),
        };
        for change in &request.changes {
            work.change(change);
        }
        let new = work.finish();
        let changed = new
            .iter()
            .any(|((k, t), set)| !self.set(k, *t).is_same(set));
        if !changed {
            return Ok(Changed::No);
        }
        self.sets.extend(new);
        Ok(Changed::Yes(self.serial()))
    }

    /// The edits of all requests; none when nothing changed in the end.
    pub fn edits(self) -> Vec<Edit> {
        let base = self.base;
        self.sets
            .into_iter()
            .filter(|((k, t), set)| !of(base, k, *t).is_same(set))
            .map(|((key, rtype), set)| Edit {
                key,
                rtype,
                case: set.case,
                set: (!set.records.is_empty())
                    .then(|| (set.ttl, set.records.into_values().collect())),
            })
            .collect()
    }

    fn name(&self, t: &Target) -> Name {
        key::to_name(&t.key, t.case.as_deref(), self.base.apex())
    }

    fn serial(&self) -> Serial {
        soa_serial(&self.set(&[], Rtype::SOA)).unwrap_or(self.base.serial())
    }

    fn set(&self, k: &[u8], rtype: Rtype) -> Set {
        match self.sets.get(&(k.to_vec(), rtype)) {
            Some(set) => set.clone(),
            None => of(self.base, k, rtype),
        }
    }

    /// Types that the name has.
    fn types(&self, k: &[u8]) -> Vec<Rtype> {
        types_of(self.base, [&self.sets], k)
    }

    fn permitted(&self, t: &Target, permit: &dyn Permit) -> Result<(), Refused> {
        let rtype = t.rtype;
        let owner = self.name(t);
        if rtype.is_denial_or_signature() || (t.key.is_empty() && rtype.is_signer_apex()) {
            return Err(Refused::SignerOwns { owner, rtype });
        }
        match permit.allows(&owner, rtype) {
            true => Ok(()),
            false => Err(Refused::NotPermitted { owner, rtype }),
        }
    }

    fn holds(&self, p: &Prerequisite) -> Result<(), Refused> {
        let there = |t: &Target| !self.set(&t.key, t.rtype).records.is_empty();
        let no_set = |t: &Target| Refused::NoSet {
            owner: self.name(t),
            rtype: t.rtype,
        };
        match p {
            Prerequisite::NameInUse(t) if self.types(&t.key).is_empty() => {
                Err(Refused::NameNotInUse(self.name(t)))
            }
            Prerequisite::NameNotInUse(t) if !self.types(&t.key).is_empty() => {
                Err(Refused::NameInUse(self.name(t)))
            }
            Prerequisite::SetExists(t) if !there(t) => Err(no_set(t)),
            Prerequisite::SetAbsent(t) if there(t) => Err(Refused::Set {
                owner: self.name(t),
                rtype: t.rtype,
            }),
            Prerequisite::SetIs(t, rdatas) => {
                let mut wanted: Vec<Vec<u8>> =
                    rdatas.iter().map(|r| canonical(t.rtype, r)).collect();
                wanted.sort();
                wanted.dedup();
                let have = self.set(&t.key, t.rtype);
                match have.records.keys().eq(wanted.iter()) {
                    true => Ok(()),
                    false => Err(no_set(t)),
                }
            }
            _ => Ok(()),
        }
    }
}

/// A request under way: its own sets above those of the batch.
struct Work<'b, 'a> {
    batch: &'b Batch<'a>,
    new: Sets,
}

impl Work<'_, '_> {
    fn set(&mut self, k: &[u8], rtype: Rtype) -> &mut Set {
        let batch = self.batch;
        self.new
            .entry((k.to_vec(), rtype))
            .or_insert_with(|| batch.set(k, rtype))
    }

    fn types(&self, k: &[u8]) -> Vec<Rtype> {
        types_of(self.batch.base, [&self.batch.sets, &self.new], k)
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Add { at, ttl, rdata } => self.add(at, *ttl, rdata),
            Change::DeleteSet(t) => self.delete_set(&t.key, t.rtype),
            Change::DeleteName(t) => {
                for rtype in self.types(&t.key) {
                    self.delete_set(&t.key, rtype);
                }
            }
            Change::DeleteRecord { at, rdata } => self.delete(at, rdata),
        }
    }

    /// RFC 2136 §3.4.2.2: what contradicts the rest of the zone is ignored, not refused.
    fn add(&mut self, at: &Target, ttl: u32, rdata: &[u8]) {
        let rtype = at.rtype;
        let types = self.types(&at.key);
        let has_cname = types.contains(&Rtype::CNAME);
        let has_other = types.iter().any(|t| *t != Rtype::CNAME);
        match rtype {
            Rtype::CNAME if has_other => return,
            Rtype::SOA if !self.raises(at, rdata) => return,
            _ if rtype != Rtype::CNAME && has_cname => return,
            _ => {}
        }
        let ttl = self.batch.max_ttl.map_or(ttl, |max| ttl.min(max));
        let set = self.set(&at.key, rtype);
        if matches!(rtype, Rtype::CNAME | Rtype::SOA | Rtype::DNAME) {
            set.records.clear();
        }
        if rtype == Rtype::WKS {
            // One bitmap for an address and a protocol.
            let head = rdata.get(..5).map(<[u8]>::to_vec);
            set.records.retain(|id, _| id.get(..5) != head.as_deref());
        }
        if set.records.is_empty() && at.case.is_some() {
            set.case.clone_from(&at.case);
        }
        // RFC 2181 §5.2: one TTL for the set, the one that was wished last.
        set.ttl = ttl;
        set.records.insert(canonical(rtype, rdata), rdata.to_vec());
    }

    /// An SOA is taken only at the apex and only with a newer serial.
    fn raises(&mut self, at: &Target, rdata: &[u8]) -> bool {
        if !at.key.is_empty() {
            return false;
        }
        let now = soa_serial(self.set(&[], Rtype::SOA));
        match (SoaFields::parse(rdata).map(|s| s.serial), now) {
            (Some(new), Some(now)) => new.newer_than(now),
            _ => false,
        }
    }

    /// RFC 2136 §3.4.2.3: SOA and NS of the apex stay.
    fn delete_set(&mut self, k: &[u8], rtype: Rtype) {
        if k.is_empty() && matches!(rtype, Rtype::SOA | Rtype::NS) {
            return;
        }
        self.set(k, rtype).records.clear();
    }

    /// RFC 2136 §3.4.2.4: neither the SOA nor the last NS of the apex.
    fn delete(&mut self, at: &Target, rdata: &[u8]) {
        if at.rtype == Rtype::SOA {
            return;
        }
        let last_ns = at.key.is_empty() && at.rtype == Rtype::NS;
        let id = canonical(at.rtype, rdata);
        let set = self.set(&at.key, at.rtype);
        if last_ns && set.records.len() == 1 {
            return;
        }
        set.records.remove(&id);
    }

    /// The sets that the request touched, with a serial of their own if they differ.
    fn finish(mut self) -> Sets {
        let batch = self.batch;
        let before = batch.serial();
        let differs = self
            .new
            .iter()
            .any(|((k, t), set)| !batch.set(k, *t).is_same(set));
        if differs && soa_serial(self.set(&[], Rtype::SOA)) == Some(before) {
            let soa = self.set(&[], Rtype::SOA);
            // RFC 2136 §3.6: never zero, which some take for "unset".
            let next = match before.next() {
                Serial(0) => Serial(1),
                next => next,
            };
            let with = |r: &Vec<u8>| SoaFields::with_serial(r, next);
            let rdata = soa.records.values().next().map(with);
            if let Some(rdata) = rdata {
                soa.records = BTreeMap::from([(canonical(Rtype::SOA, &rdata), rdata)]);
            }
        }
        self.new
    }
}

fn canonical(rtype: Rtype, rdata: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rdata.len());
    canon::push_canonical(rtype, rdata, &mut out);
    out
}

fn soa_serial(set: &Set) -> Option<Serial> {
    let rdata = set.records.values().next()?;
    SoaFields::parse(rdata).map(|s| s.serial)
}

fn of(base: &ZoneVersion, k: &[u8], rtype: Rtype) -> Set {
    let mut out = Set::default();
    if let Some(set) = base.owner(k).and_then(|o| o.set(rtype)) {
        out.ttl = set.ttl;
        out.records = set
            .rdatas()
            .map(|r| (canonical(rtype, r), r.to_vec()))
            .collect();
    }
    out
}

/// Types with records at a name: of the base, unless a later layer says otherwise.
fn types_of<'s>(
    base: &ZoneVersion,
    layers: impl IntoIterator<Item = &'s Sets>,
    k: &[u8],
) -> Vec<Rtype> {
    let mut out: BTreeMap<Rtype, bool> = base
        .owner(k)
        .iter()
        .flat_map(|o| o.types().map(|t| (t, true)).collect::<Vec<_>>())
        .collect();
    for layer in layers {
        let from = (k.to_vec(), Rtype(0));
        let to = (k.to_vec(), Rtype(u16::MAX));
        for ((_, rtype), set) in layer.range(from..=to) {
            out.insert(*rtype, !set.records.is_empty());
        }
    }
    out.into_iter()
        .filter(|(_, there)| *there)
        .map(|(t, _)| t)
        .collect()
}
