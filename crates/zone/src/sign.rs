//! Making the signed half of a version: apex sets, sidecars, chain.
//!
//! The store does not know keys. A [`Draft`] shows the content with the new apex; whoever signs
//! reads its units, pushes signatures into one sidecar builder per unit (in parallel), and hands
//! all of them back.

use std::collections::BTreeMap;
use std::sync::Arc;

use cascade_time::Timestamp;
use rayon::prelude::*;

use crate::block::earlier;
use crate::build::BuildError;
use crate::denial::{Chain, Denial};
use crate::fingerprint::Hasher;
use crate::id::{VersionId, ZoneId};
use crate::leaf::{Flags, Kinds, LeafEncoder, ULeaf};
use crate::name::Name;
use crate::patch::Alignment;
use crate::rtype::Rtype;
use crate::sidecar::{SEncoder, SLeaf};
use crate::slots::KeyTable;
use crate::sums::{LeafSums, sum_made, sum_pair, sum_some};
use crate::tree::{Item, Tree};
use crate::version::{LeafRef, Unit, ZoneVersion};

/// So many leaves are not worth the threads of a pool.
const ALONE: usize = 8;

/// (type, TTL, RDATA) of one RRset.
pub type SetSpec = (Rtype, u32, Vec<Vec<u8>>);

/// A version in the making: unsigned content with the apex sets of the signed one.
#[derive(Debug)]
pub struct Draft {
    version: ZoneVersion,
}

impl Draft {
    /// `apex_sets` replace the sets of the same type at the apex (no RDATA = the set is gone):
    /// SOA with the new serial, DNSKEY, CDS, CDNSKEY, NSEC3PARAM, ZONEMD.
    ///
    /// # Errors
    /// An apex without exactly one SOA.
    pub fn new(
        base: &ZoneVersion,
        id: VersionId,
        made_at: Timestamp,
        apex_sets: Vec<SetSpec>,
        keys: KeyTable,
        denial: Denial,
    ) -> Result<Draft, BuildError> {
        let mut sets: BTreeMap<Rtype, (u32, Vec<Vec<u8>>)> = owned_sets(base);
        for (rtype, ttl, rdatas) in apex_sets {
            sets.insert(rtype, (ttl, rdatas));
        }
        sets.retain(|_, (_, rdatas)| !rdatas.is_empty());
        match sets.get(&Rtype::SOA).map(|s| s.1.len()) {
            Some(1) => {}
            None => return Err(BuildError::NoSoa),
            Some(_) => return Err(BuildError::SeveralSoas),
        }
        let mut kinds = Kinds::clone(&base.kinds);
        let owner = base.apex_owner();
        let u = encode_apex(
            base.zone,
            &base.apex_lower,
            owner.flags(),
            &sets,
            &mut kinds,
        );
        let mut version = ZoneVersion {
            id,
            made_at,
            kinds: Arc::new(kinds),
            keys: Arc::new(keys),
            denial,
            chain: None,
            ..base.clone()
        };
        version.of = base.id;
        let sums = sum_pair(&version, 0, &u, None);
        version.apex = LeafRef::new(u, None, sums);
        Ok(Draft {
            version: version.assemble(),
        })
    }

    /// Of a signed version in which one set at the apex gets other RDATA: to be put together by
    /// [`finish_apex`](Draft::finish_apex). Sets keep their numbers.
    ///
    /// # Errors
    /// As [`Draft::new`].
    pub fn of_apex(signed: &ZoneVersion, set: SetSpec) -> Result<Draft, BuildError> {
        let (keys, denial) = (KeyTable::clone(&signed.keys), signed.denial.clone());
        let mut draft = Draft::new(signed, signed.id, signed.made_at, vec![set], keys, denial)?;
        draft.version.of = signed.of;
        Ok(draft)
    }

    /// The signed version with this draft's apex; all else is the same object.
    ///
    /// # Errors
    /// The sidecar is of another unit.
    pub fn finish_apex(
        self,
        signed: &ZoneVersion,
        apex: Option<Sidecar>,
    ) -> Result<ZoneVersion, BuildError> {
        let chain = signed.chain().cloned();
        self.finish_from(signed, &Alignment::default(), vec![(0, apex)], chain)
    }

    /// The content with its new apex, readable like any version; nothing is signed.
    pub fn version(&self) -> &ZoneVersion {
        &self.version
    }

    pub(crate) fn into_version(self) -> ZoneVersion {
        self.version
    }

    /// Collects the signatures of unit `i`.
    pub fn sidecar(&self, i: usize) -> SidecarBuilder<'_> {
        SidecarBuilder {
            version: &self.version,
            unit: i,
            enc: SEncoder::default(),
        }
    }

    /// Puts it together. One entry per unit, in order; `None` = nothing is signed there.
    ///
    /// # Errors
    /// The number of entries is not that of the units, or a sidecar is of another unit.
    pub fn finish(
        self,
        sidecars: Vec<Option<Sidecar>>,
        chain: Option<Chain>,
    ) -> Result<ZoneVersion, BuildError> {
        let mut version = self.version;
        if sidecars.len() != version.unit_count() {
            return Err(BuildError::Inconsistent("one sidecar entry per unit"));
        }
        let mut items = Vec::with_capacity(version.tree.len());
        for (i, s) in sidecars.into_iter().enumerate() {
            let unsigned = if i == 0 {
                &version.apex
            } else {
                version
                    .tree
                    .get(i - 1)
                    .ok_or(BuildError::Inconsistent("unit beyond the tree"))?
            };
            let leaf = match s {
                None => LeafRef {
                    s: None,
                    ..unsigned.clone()
                },
                Some(s) if s.0.u.same(&unsigned.u) => s.0,
                Some(_) => return Err(BuildError::Inconsistent("sidecar of another unit")),
            };
            if i == 0 {
                version.apex = leaf;
            } else {
                items.push(leaf);
            }
        }
        version.tree = Tree::from_items(items);
        version.chain = chain.map(Box::new);
        Ok(version.assemble())
    }
}

impl ZoneVersion {
    /// The unsigned version that a signed one was made from: signatures, chain and the signer's
    /// apex sets are gone, the SOA is `soa` (TTL and RDATA) again. Leaves are shared.
    ///
    /// # Errors
    /// A SOA without RDATA.
    pub fn to_unsigned(&self, soa: (u32, Vec<u8>)) -> Result<ZoneVersion, BuildError> {
        let mut sets = owned_sets(self);
        sets.retain(|t, _| !t.is_signer_apex());
        if soa.1.is_empty() {
            return Err(BuildError::NoSoa);
        }
        sets.insert(Rtype::SOA, (soa.0, vec![soa.1]));
        let mut kinds = Kinds::clone(&self.kinds);
        let flags = self.apex_owner().flags();
        let u = encode_apex(self.zone, &self.apex_lower, flags, &sets, &mut kinds);
        let mut version = ZoneVersion {
            id: self.of,
            kinds: Arc::new(kinds),
            keys: Arc::new(KeyTable::new()),
            denial: Denial::None,
            chain: None,
            ..self.clone()
        };
        let leaves: Vec<&LeafRef> = self.tree.iter().collect();
        let bare = |l: &LeafRef| LeafRef::new(l.u.clone(), None, sum_made(&version, 1, &l.u, None));
        let items = match leaves.len() {
            0..ALONE => leaves.into_iter().map(bare).collect(),
            _ => leaves.into_par_iter().map(bare).collect(),
        };
        version.tree = Tree::from_items(items);
        let sums = sum_pair(&version, 0, &u, None);
        version.apex = LeafRef::new(u, None, sums);
        Ok(version.assemble())
    }
}

/// The signatures of one unit, sealed.
#[derive(Debug)]
pub struct Sidecar(pub(crate) LeafRef);

impl Sidecar {
    pub fn sums(&self) -> &LeafSums {
        self.0.sums()
    }
}

/// Collects the signatures of one unit.
#[derive(Debug)]
pub struct SidecarBuilder<'a> {
    version: &'a ZoneVersion,
    unit: usize,
    enc: SEncoder,
}

impl SidecarBuilder<'_> {
    /// Owners of this unit bear NSEC records with this TTL; the last one names `next` (a key; the
    /// apex is the empty one).
    pub fn nsec(&mut self, ttl: u32, next: &[u8]) {
        self.enc.nsec(ttl, next);
    }

    /// A signature over set number `set` of the owner with this ordinal
    /// ([`NSEC_SET`](crate::sidecar::NSEC_SET) for its NSEC). At most one per set and slot.
    pub fn push(
        &mut self,
        ordinal: u16,
        set: u16,
        slot: u8,
        inception: u32,
        expiration: u32,
        signature: &[u8],
    ) {
        self.enc
            .push(ordinal, set, slot, (inception, expiration), signature);
    }

    /// Room for so many signatures with so many octets.
    pub fn reserve(&mut self, signatures: usize, octets: usize) {
        self.enc.reserve(signatures, octets);
    }

    /// The same as [`build`](SidecarBuilder::build) where most of the unit is as it was in `was`, a
    /// signed one, with its signatures: the owners in `gone` (numbers in `was`) were replaced by those
    /// in `come`, and nothing else is counted.
    pub fn build_beside(self, was: &Unit<'_>, gone: &[u16], come: &[u16]) -> Sidecar {
        let v = self.version;
        let unit = v.unit(self.unit);
        if self.enc.is_empty() || unit.is_apex() {
            return self.build();
        }
        let u = leaf_of(v, unit.index()).u.clone();
        let slots = self.enc.slots();
        let min_exp = self
            .enc
            .expirations()
            .fold(None, |min, e| earlier(min, Some(e)));
        let bytes = self.enc.encode(v.made_at.to_wire());
        let open = SLeaf::seal(bytes, Default::default());
        let fresh = LeafRef::new(u.clone(), Some(open), LeafSums::default());
        let come = sum_some(&Unit::new(v, unit.index(), &fresh), come);
        let moved = was.sums().moved(&sum_some(was, gone), &come);
        let Some(open) = fresh.s else {
            return Sidecar(LeafRef::new(u, None, unit.sums().clone()));
        };
        // What the content adds up to is known: were an owner counted twice, or not at all, it would show.
        match moved.filter(|m| m.content == u.fingerprint()) {
            Some(mut sums) => {
                (sums.any_mask, sums.min_exp) = (slots, min_exp);
                let mut fp = sums.full;
                fp.sub(u.fingerprint());
                Sidecar(LeafRef::new(u, Some(open.resealed(fp)), sums))
            }
            None => Sidecar(pair(v, self.unit, u, open.bytes().to_vec())),
        }
    }

    pub fn build(self) -> Sidecar {
        let v = self.version;
        let unit = v.unit(self.unit);
        let u = leaf_of(v, unit.index()).u.clone();
        if self.enc.is_empty() {
            return Sidecar(LeafRef::new(u, None, unit.sums().clone()));
        }
        let bytes = self.enc.encode(v.made_at.to_wire());
        Sidecar(pair(v, self.unit, u, bytes))
    }
}

/// Sums up a pair and seals the sidecar with the fingerprint of its records.
pub(crate) fn pair(v: &ZoneVersion, index: usize, u: ULeaf, bytes: Vec<u8>) -> LeafRef {
    let open = SLeaf::seal(bytes, Default::default());
    let sums = sum_made(v, index, &u, Some(&open));
    let mut fp = sums.full;
    fp.sub(u.fingerprint());
    LeafRef::new(u, Some(open.resealed(fp)), sums)
}

pub(crate) fn leaf_of(v: &ZoneVersion, index: usize) -> &LeafRef {
    index
        .checked_sub(1)
        .and_then(|i| v.tree.get(i))
        .unwrap_or(&v.apex)
}

fn owned_sets(base: &ZoneVersion) -> BTreeMap<Rtype, (u32, Vec<Vec<u8>>)> {
    base.apex_owner()
        .sets()
        .map(|s| (s.rtype, (s.ttl, s.rdatas().map(<[u8]>::to_vec).collect())))
        .collect()
}

/// Encodes an apex leaf; RDATA are put into canonical order without duplicates.
pub(crate) fn encode_apex(
    zone: ZoneId,
    apex: &Name,
    flags: Flags,
    sets: &BTreeMap<Rtype, (u32, Vec<Vec<u8>>)>,
    kinds: &mut Kinds,
) -> ULeaf {
    let mut enc = LeafEncoder::default();
    let mut hasher = Hasher::new(zone);
    enc.owner(Flags(flags.role()), &[], None, sets.len() as u32);
    for (&rtype, (ttl, rdatas)) in sets {
        let id = kinds.intern(rtype, *ttl);
        let mut list: Vec<&[u8]> = rdatas.iter().map(|r| &r[..]).collect();
        list.sort_by(|a, b| crate::canon::cmp_rdata(rtype, a, b));
        list.dedup_by(|a, b| crate::canon::cmp_rdata(rtype, a, b).is_eq());
        for r in &list {
            enc.add_fingerprint(hasher.record(apex.as_wire(), rtype, *ttl, r));
        }
        if let Some(kind) = kinds.get(id) {
            enc.set(id, kind, list.into_iter());
        }
    }
    enc.finish()
}
