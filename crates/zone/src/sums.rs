//! What leaves and versions add up to, and how that is computed.

use std::sync::Arc;

use crate::block::earlier;
use crate::codec::{Reader, push_counts, push_masks, read_counts, read_masks};
use crate::denial::is_signed_set;
use crate::expand::OwnerWalk;
use crate::fingerprint::{Fingerprint, Hasher};
use crate::leaf::{RawOwner, RawSets, ULeaf};
use crate::rtype::Rtype;
use crate::sidecar::{NSEC_SET, SLeaf, SView};
use crate::tree::Sums;
use crate::version::{LeafRef, Record, Unit, ZoneVersion};

/// What a pair of leaves adds up. Counts are of records and owners, `wire` of octets uncompressed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafSums {
    /// Records in a transfer, RRSIG and NSEC included.
    pub records: u64,
    pub wire: u64,
    pub owners: u64,
    pub rrsets: u64,
    pub cuts: u64,
    /// Cuts with DS.
    pub secure: u64,
    pub occluded: u64,
    pub signatures: u64,
    pub max_ttl: u32,
    /// Earliest RRSIG expiration, wire form.
    pub min_exp: Option<u32>,
    /// Bit k: some signature is by key slot k.
    pub any_mask: u16,
    /// Bit k: every set that needs a signature has one by slot k (apex: DNSKEY, CDS and CDNSKEY
    /// left out). All ones where nothing needs one.
    pub full_mask: u16,
    /// Records of the U leaf; for the apex without SOA and the signer's sets.
    pub content: Fingerprint,
    /// All records.
    pub full: Fingerprint,
}

impl LeafSums {
    pub(crate) fn zero() -> Self {
        LeafSums {
            full_mask: u16::MAX,
            ..Default::default()
        }
    }
}

impl LeafSums {
    /// For a file, without the fingerprints; `None` if a number is too large for its form.
    pub(crate) fn push(&self, out: &mut Vec<u8>) -> Option<()> {
        let counts = [
            self.records,
            self.wire,
            self.owners,
            self.rrsets,
            self.cuts,
            self.secure,
            self.occluded,
            self.signatures,
            self.max_ttl.into(),
        ];
        push_counts(&counts, out)?;
        push_masks(self.min_exp, self.any_mask, self.full_mask, out);
        Some(())
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Option<LeafSums> {
        let counts = read_counts(r)?;
        let [
            records,
            wire,
            owners,
            rrsets,
            cuts,
            secure,
            occluded,
            signatures,
            ttl,
        ] = counts;
        let (min_exp, any_mask, full_mask) = read_masks(r)?;
        Some(LeafSums {
            records,
            wire,
            owners,
            rrsets,
            cuts,
            secure,
            occluded,
            signatures,
            max_ttl: u32::try_from(ttl).ok()?,
            min_exp,
            any_mask,
            full_mask,
            content: Fingerprint::default(),
            full: Fingerprint::default(),
        })
    }

    /// What a leaf adds up to in which owners that added up to `gone` were replaced by some that add
    /// up to `come`. `None` where that does not follow from the three; key masks and expirations of
    /// signatures are for the caller.
    pub(crate) fn moved(&self, gone: &LeafSums, come: &LeafSums) -> Option<LeafSums> {
        let max_ttl = match come.max_ttl >= self.max_ttl {
            true => come.max_ttl,
            false if gone.max_ttl < self.max_ttl => self.max_ttl,
            false => return None,
        };
        // Whether what stays has a bit that neither the leaf nor what is gone has.
        if !self.full_mask & !gone.full_mask & come.full_mask != 0 {
            return None;
        }
        let moved =
            |all: u64, gone: u64, come: u64| Some(all.checked_sub(gone)?.wrapping_add(come));
        let print = |mut all: Fingerprint, gone, come| {
            all.sub(gone);
            all.add(come);
            all
        };
        Some(LeafSums {
            records: moved(self.records, gone.records, come.records)?,
            wire: moved(self.wire, gone.wire, come.wire)?,
            owners: moved(self.owners, gone.owners, come.owners)?,
            rrsets: moved(self.rrsets, gone.rrsets, come.rrsets)?,
            cuts: moved(self.cuts, gone.cuts, come.cuts)?,
            secure: moved(self.secure, gone.secure, come.secure)?,
            occluded: moved(self.occluded, gone.occluded, come.occluded)?,
            signatures: moved(self.signatures, gone.signatures, come.signatures)?,
            max_ttl,
            min_exp: self.min_exp,
            any_mask: self.any_mask,
            full_mask: self.full_mask & come.full_mask,
            content: print(self.content, gone.content, come.content),
            full: print(self.full, gone.full, come.full),
        })
    }
}

impl Sums for LeafSums {
    fn add(&mut self, o: &Self) {
        // A fresh sum has no owners and a meaningless mask.
        self.full_mask = if self.owners == 0 {
            o.full_mask
        } else {
            self.full_mask & o.full_mask
        };
        self.records += o.records;
        self.wire += o.wire;
        self.owners += o.owners;
        self.rrsets += o.rrsets;
        self.cuts += o.cuts;
        self.secure += o.secure;
        self.occluded += o.occluded;
        self.signatures += o.signatures;
        self.max_ttl = self.max_ttl.max(o.max_ttl);
        self.min_exp = earlier(self.min_exp, o.min_exp);
        self.any_mask |= o.any_mask;
        self.content.add(o.content);
        self.full.add(o.full);
    }
}

/// Computes the sums of a pair by walking its records. For an apex, `content` leaves out the SOA
/// and the signer's own sets.
pub(crate) fn sum_pair(
    version: &ZoneVersion,
    index: usize,
    u: &ULeaf,
    s: Option<&SLeaf>,
) -> LeafSums {
    sum(version, index, u, s, None)
}

/// The same for a leaf that was just written, or that the version before has: what its own records
/// add up to is in it, and only signatures and denial records are hashed.
pub(crate) fn sum_made(
    version: &ZoneVersion,
    index: usize,
    u: &ULeaf,
    s: Option<&SLeaf>,
) -> LeafSums {
    let known = (index != 0 && is_plain(version)).then(|| u.fingerprint());
    sum(version, index, u, s, known)
}

/// False where content itself has signatures or denial records, as in a zone that is passed on: they
/// cannot be told from those that a signer made.
pub(crate) fn is_plain(version: &ZoneVersion) -> bool {
    let mut kinds = version.kinds.iter();
    !kinds.any(|k| k.rtype.is_denial_or_signature())
}

/// `known`: of the records of `u`, none of which is a signature or denial record.
fn sum(
    version: &ZoneVersion,
    index: usize,
    u: &ULeaf,
    s: Option<&SLeaf>,
    known: Option<Fingerprint>,
) -> LeafSums {
    let mut sums = LeafSums::zero();
    let leaf = LeafRef {
        fence: 0,
        u: u.clone(),
        s: s.cloned(),
        sums: Arc::default(),
    };
    let unit = Unit::new(version, index, &leaf);
    let mut hasher = Hasher::new(version.zone);
    unit.for_each_record(&mut |r| {
        sum_record(&mut sums, &mut hasher, index == 0, known.is_some(), &r);
    });
    if let Some(known) = known {
        sums.full.add(known);
        sums.content.add(known);
    }
    sum_owners(&unit, &mut sums);
    sums
}

/// What owner number `ordinal` alone adds.
pub(crate) fn sum_owner(unit: &Unit<'_>, ordinal: u16) -> LeafSums {
    sum_some(unit, &[ordinal])
}

/// What these owners alone add.
pub(crate) fn sum_some(unit: &Unit<'_>, ordinals: &[u16]) -> LeafSums {
    let mut sums = LeafSums::zero();
    let Some(first) = ordinals.first() else {
        return sums;
    };
    let mut hasher = Hasher::new(unit.version.zone);
    let mut walk = OwnerWalk::at(unit, *first);
    let (view, mut masks) = (unit.s.unwrap_or(SView::NONE), Vec::new());
    for ordinal in ordinals {
        walk.seek(*ordinal);
        let at = walk.place().filter(|(raw, _)| raw.ordinal == *ordinal);
        let Some((raw, mut entry)) = at else {
            continue;
        };
        let mut one = LeafSums::zero();
        walk.take(&mut |r| sum_record(&mut one, &mut hasher, unit.is_apex(), false, &r));
        count_owner(unit, &raw, &view, &mut entry, &mut masks, &mut one);
        sums.add(&one);
    }
    sums
}

/// `known`: what the records of the content add up to is known.
fn sum_record(sums: &mut LeafSums, hasher: &mut Hasher, apex: bool, known: bool, r: &Record<'_>) {
    sums.records += 1;
    sums.wire += r.owner.len() as u64 + 10 + r.rdata.len() as u64;
    sums.max_ttl = sums.max_ttl.max(r.ttl);
    if known && !r.rtype.is_denial_or_signature() {
        return;
    }
    let fp = hasher.record(r.owner, r.rtype, r.ttl, r.rdata);
    sums.full.add(fp);
    let made = r.rtype.is_denial_or_signature()
        || (apex && (r.rtype == Rtype::SOA || r.rtype.is_signer_apex()));
    if !made {
        sums.content.add(fp);
    }
}

/// Owner counts and key masks.
fn sum_owners(unit: &Unit<'_>, sums: &mut LeafSums) {
    let mut it = unit.leaf.u.iter(&unit.version.kinds);
    let view = unit.s.unwrap_or(SView::NONE);
    let mut entry = 0;
    let mut masks: Vec<u16> = Vec::new();
    while let Some(raw) = it.next() {
        count_owner(unit, &raw, &view, &mut entry, &mut masks, sums);
    }
}

/// `entry`: the first of this owner in `view`; behind the last afterwards.
fn count_owner(
    unit: &Unit<'_>,
    raw: &RawOwner<'_>,
    view: &SView<'_>,
    entry: &mut usize,
    masks: &mut Vec<u16>,
    sums: &mut LeafSums,
) {
    let kinds = &unit.version.kinds;
    sums.owners += 1;
    sums.rrsets += raw.n_sets as u64;
    sums.cuts += raw.flags.is_cut() as u64;
    sums.secure += raw.flags.is_secure() as u64;
    sums.occluded += raw.flags.is_occluded() as u64;
    masks.clear();
    masks.resize(raw.n_sets as usize, 0);
    let mut nsec_mask = 0u16;
    while *entry < view.len() && view.entry(*entry).ordinal == raw.ordinal {
        let e = view.entry(*entry);
        let bit = 1u16 << (view.key(e.key).0 & 15);
        sums.any_mask |= bit;
        sums.signatures += 1;
        sums.min_exp = earlier(sums.min_exp, Some(view.time(e.time).1));
        if e.set == NSEC_SET {
            nsec_mask |= bit;
        } else if let Some(m) = masks.get_mut(e.set as usize) {
            *m |= bit;
        }
        *entry += 1;
    }
    for (set, mask) in RawSets::new(raw, kinds).zip(masks.iter()) {
        let Some(kind) = kinds.get(set.kind) else {
            continue;
        };
        let by_ksk =
            unit.is_apex() && matches!(kind.rtype, Rtype::DNSKEY | Rtype::CDS | Rtype::CDNSKEY);
        if is_signed_set(raw.flags, kind.rtype) && !by_ksk {
            sums.full_mask &= mask;
        }
    }
    if view.nsec_ttl().is_some() && !raw.flags.is_occluded() {
        sums.full_mask &= nsec_mask;
    }
}
