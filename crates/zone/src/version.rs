//! One immutable state of a zone, and how it is read.

use std::sync::Arc;

use cascade_time::Timestamp;

use crate::block::{RowSig, RrsigFields, earlier, push_rrsig};
use crate::denial::{Chain, Denial, bitmap_types, is_signed_set, push_bitmap};
use crate::expand::{Buffers, Sink, Whole};
use crate::fingerprint::Fingerprint;
use crate::id::{Serial, VersionId, ZoneId};
use crate::key;
use crate::leaf::{Flags, Kinds, RESTART, RawIter, RawOwner, RawSet, RawSets, RdataIter, ULeaf};
use crate::name::Name;
use crate::pool::Pool;
use crate::rtype::Rtype;
use crate::sidecar::{NSEC_SET, SLeaf, SView};
use crate::slots::KeyTable;
use crate::sums::LeafSums;
use crate::tree::{Item, Sums, Tree};

/// A pair of leaves in the tree.
#[derive(Clone, Debug)]
pub struct LeafRef {
    pub(crate) fence: u64,
    pub(crate) u: ULeaf,
    pub(crate) s: Option<SLeaf>,
    pub(crate) sums: Arc<LeafSums>,
}

impl LeafRef {
    pub(crate) fn new(u: ULeaf, s: Option<SLeaf>, sums: LeafSums) -> Self {
        LeafRef {
            fence: key::fence(u.first_key()),
            u,
            s,
            sums: Arc::new(sums),
        }
    }

    pub(crate) fn same_content(&self, other: &Self) -> bool {
        self.u.same(&other.u)
    }
}

impl Item for LeafRef {
    type Sums = LeafSums;
    fn fence(&self) -> u64 {
        self.fence
    }
    fn first_key(&self) -> &[u8] {
        self.u.first_key()
    }
    fn sums(&self) -> &LeafSums {
        &self.sums
    }
    fn same(&self, other: &Self) -> bool {
        self.u.same(&other.u)
            && match (&self.s, &other.s) {
                (None, None) => true,
                (Some(a), Some(b)) => a.same(b),
                _ => false,
            }
    }
}

/// One immutable state of a zone. Cheap to share as `Arc<ZoneVersion>`; leaves are shared with
/// other versions by pointer.
#[derive(Debug, Clone)]
pub struct ZoneVersion {
    pub(crate) zone: ZoneId,
    pub(crate) id: VersionId,
    pub(crate) of: VersionId,
    pub(crate) apex_name: Arc<Name>,
    pub(crate) apex_lower: Arc<Name>,
    pub(crate) made_at: Timestamp,
    pub(crate) apex: LeafRef,
    pub(crate) tree: Tree<LeafRef>,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) keys: Arc<KeyTable>,
    pub(crate) denial: Denial,
    /// Apart: most zones have none, and this is in memory twice for each of very many zones.
    pub(crate) chain: Option<Box<Chain>>,
    pub(crate) sums: LeafSums,
    pub(crate) serial: Serial,
}

impl ZoneVersion {
    /// Puts the parts together and adds up. The apex leaf must hold the SOA.
    pub(crate) fn assemble(mut self) -> Self {
        let mut sums = LeafSums::default();
        sums.add(&self.apex.sums);
        sums.add(self.tree.sums());
        if self.tree.is_empty() {
            sums.full_mask = self.apex.sums.full_mask;
        }
        if let Some(chain) = &self.chain {
            let c = chain.tree.sums();
            sums.records += c.records;
            sums.wire += c.wire;
            sums.signatures += c.records - c.rows;
            sums.min_exp = earlier(sums.min_exp, c.min_exp);
            sums.any_mask |= c.any_mask;
            sums.full_mask &= c.full_mask;
            sums.max_ttl = sums.max_ttl.max(chain.ttl);
            sums.full.add(c.fp);
        }
        self.sums = sums;
        self.serial = self.soa_fields().map_or(Serial(0), |s| s.serial);
        self
    }

    /// Leaves and sidecars of both say the same with the same octets: ids of kinds and sets mean
    /// the same as far as both have them, and so do slots, and names end alike.
    pub fn writes_like(&self, other: &ZoneVersion) -> bool {
        let kinds = self.kinds.iter().zip(other.kinds.iter());
        let slots = self.keys.iter().all(|(slot, key)| {
            let there = other.keys.get(slot);
            there.is_none_or(|k| k == key)
        });
        slots
            && self.apex_name == other.apex_name
            && kinds.into_iter().all(|(a, b)| a == b)
            && (self.pool.is_prefix_of(&other.pool) || other.pool.is_prefix_of(&self.pool))
    }

    pub fn zone(&self) -> ZoneId {
        self.zone
    }

    pub fn id(&self) -> VersionId {
        self.id
    }

    /// The unsigned version this one was made from; its own id when it is unsigned.
    pub fn unsigned_id(&self) -> VersionId {
        self.of
    }

    pub fn apex(&self) -> &Name {
        &self.apex_name
    }

    /// The apex in lower case, wire form.
    pub fn apex_lower(&self) -> &[u8] {
        self.apex_lower.as_wire()
    }

    pub fn made_at(&self) -> Timestamp {
        self.made_at
    }

    pub fn serial(&self) -> Serial {
        self.serial
    }

    pub fn is_signed(&self) -> bool {
        self.denial != Denial::None
    }

    pub fn sums(&self) -> &LeafSums {
        &self.sums
    }

    pub fn content_fingerprint(&self) -> Fingerprint {
        self.sums.content
    }

    pub fn full_fingerprint(&self) -> Fingerprint {
        self.sums.full
    }

    pub fn key_table(&self) -> &KeyTable {
        &self.keys
    }

    pub fn denial(&self) -> &Denial {
        &self.denial
    }

    pub fn chain(&self) -> Option<&Chain> {
        self.chain.as_deref()
    }

    /// Earliest expiration of any signature, as a time near `made_at`.
    pub fn earliest_expiration(&self) -> Option<Timestamp> {
        self.sums
            .min_exp
            .map(|w| Timestamp::from_wire(w, self.made_at))
    }

    /// Octets of leaves, sidecars, blocks and pool held by this version, shared ones included.
    pub fn memory(&self) -> usize {
        let leaf = |l: &LeafRef| {
            l.u.bytes().len()
                + l.s.as_ref().map_or(0, |s| s.bytes().len())
                + 64
                + size_of::<LeafRef>()
        };
        let leaves: usize = self.tree.iter().map(leaf).sum::<usize>() + leaf(&self.apex);
        let blocks: usize = self
            .chain
            .iter()
            .flat_map(|c| c.tree.iter())
            .map(|b| b.block.bytes().len() + 64)
            .sum();
        leaves + blocks + self.pool.octets() + self.pool.len() * 4
    }

    /// Octets of leaves, sidecars and blocks that `other` does not share: what keeping this version
    /// beside that one costs. The walk costs what differs.
    pub fn memory_beside(&self, other: &ZoneVersion) -> usize {
        let leaf = |l: &LeafRef, shares_u: bool| {
            let u = if shares_u { 0 } else { l.u.bytes().len() };
            u + l.s.as_ref().map_or(0, |s| s.bytes().len()) + 64 + size_of::<LeafRef>()
        };
        let (mine, theirs) = self.tree.unshared(&other.tree);
        let shared: std::collections::HashSet<*const u8> =
            theirs.iter().map(|l| l.u.bytes().as_ptr()).collect();
        let leaves: usize = mine
            .iter()
            .map(|l| leaf(l, shared.contains(&l.u.bytes().as_ptr())))
            .sum();
        let none = Tree::default();
        let tree = |v: &ZoneVersion| v.chain.as_ref().map_or(none.clone(), |c| c.tree.clone());
        let (old, new) = (tree(self), tree(other));
        let (blocks, _) = old.unshared(&new);
        let blocks: usize = blocks.iter().map(|b| b.block.bytes().len() + 64).sum();
        leaves + leaf(&self.apex, false) + blocks
    }

    /// Leaves and blocks that `other` does not share. The walk costs what differs.
    pub fn units_beside(&self, other: &ZoneVersion) -> usize {
        let at = |l: &LeafRef| {
            (
                l.u.bytes().as_ptr(),
                l.s.as_ref().map(|s| s.bytes().as_ptr()),
            )
        };
        let (mine, theirs) = self.tree.unshared(&other.tree);
        let shared: std::collections::HashSet<_> = theirs.into_iter().map(at).collect();
        let leaves = mine
            .into_iter()
            .filter(|l| !shared.contains(&at(l)))
            .count();
        let none = Tree::default();
        let tree = |v: &ZoneVersion| v.chain.as_ref().map_or(none.clone(), |c| c.tree.clone());
        let (old, new) = (tree(other), tree(self));
        let (mine, theirs) = new.unshared(&old);
        let at = |b: &crate::block::BlockRef| b.block.bytes().as_ptr();
        let shared: std::collections::HashSet<_> = theirs.into_iter().map(at).collect();
        leaves
            + mine
                .into_iter()
                .filter(|b| !shared.contains(&at(b)))
                .count()
    }

    // ---- apex

    /// The apex owner; a version always has one.
    pub fn apex_owner(&self) -> Owner<'_> {
        match self.unit(0).owners().next() {
            Some(o) => o,
            // Unreachable by construction (build refuses a zone without SOA); an empty owner
            // rather than a panic, so that damage found late stays harmless.
            None => Owner::empty(self.unit(0)),
        }
    }

    /// The SOA RDATA, uncompressed.
    pub fn soa(&self) -> &[u8] {
        self.apex_owner()
            .set(Rtype::SOA)
            .and_then(|s| s.rdatas().next())
            .unwrap_or(&[])
    }

    pub fn soa_ttl(&self) -> u32 {
        self.apex_owner().set(Rtype::SOA).map_or(0, |s| s.ttl)
    }

    /// The numbers of the SOA.
    pub fn soa_fields(&self) -> Option<SoaFields> {
        SoaFields::parse(self.soa())
    }

    // ---- units

    /// Units of parallel work: 0 = the apex, then leaves in canonical order.
    pub fn unit_count(&self) -> usize {
        self.tree.len() + 1
    }

    /// Unit `i`; beyond the last one, the apex.
    pub fn unit(&self, i: usize) -> Unit<'_> {
        let leaf = match i.checked_sub(1).and_then(|i| self.tree.get(i)) {
            Some(leaf) => leaf,
            None => &self.apex,
        };
        Unit::new(self, i, leaf)
    }

    pub fn units(&self) -> impl Iterator<Item = Unit<'_>> {
        std::iter::once(&self.apex)
            .chain(self.tree.iter())
            .enumerate()
            .map(|(i, leaf)| Unit::new(self, i, leaf))
    }

    // ---- look-ups; keys as in `key`, the empty key is the apex

    /// The unit, but for the apex, in whose range `key` is.
    pub fn unit_of(&self, key: &[u8]) -> Option<Unit<'_>> {
        self.tree.locate(key).map(|i| self.unit(i + 1))
    }

    /// The unit that holds `key` if anything does.
    fn unit_near(&self, key: &[u8]) -> Option<Unit<'_>> {
        if key.is_empty() {
            return Some(self.unit(0));
        }
        self.tree.locate(key).map(|i| self.unit(i + 1))
    }

    pub fn owner(&self, key: &[u8]) -> Option<Owner<'_>> {
        self.unit_near(key)?
            .iter_near(key)
            .find_at_or_after(key)
            .filter(|o| o.key() == key)
    }

    /// First owner whose key is not below `key` in order.
    pub fn at_or_after(&self, key: &[u8]) -> Option<Owner<'_>> {
        if key.is_empty() {
            return Some(self.apex_owner());
        }
        let start = match self.tree.locate(key) {
            None => 1,
            Some(i) => {
                if let Some(o) = self.unit(i + 1).iter_near(key).find_at_or_after(key) {
                    return Some(o);
                }
                i + 2
            }
        };
        if start >= self.unit_count() {
            return None;
        }
        self.unit(start).owners().next()
    }

    /// First owner with a greater key, occluded ones included.
    pub fn succ(&self, key: &[u8]) -> Option<Owner<'_>> {
        self.succ_where(key, |_| true, |_| true)
    }

    /// Last owner with a smaller key.
    pub fn pred(&self, key: &[u8]) -> Option<Owner<'_>> {
        self.pred_where(key, |_| true)
    }

    /// First owner with a greater key that is not occluded: the next one that bears an NSEC.
    pub fn succ_bearing(&self, key: &[u8]) -> Option<Owner<'_>> {
        self.succ_where(key, |s| s.owners > s.occluded, |o| !o.flags().is_occluded())
    }

    /// Last owner with a smaller key that is not occluded.
    pub fn pred_bearing(&self, key: &[u8]) -> Option<Owner<'_>> {
        self.pred_where(key, |f| !f.is_occluded())
    }

    /// First owner above `key` that is wanted; leaves whose sums are not `worth` it are skipped.
    pub(crate) fn succ_where(
        &self,
        key: &[u8],
        worth: impl Fn(&LeafSums) -> bool,
        want: impl Fn(&Owner<'_>) -> bool,
    ) -> Option<Owner<'_>> {
        let mut at = match key.is_empty() {
            true => 0,
            false => match self.tree.locate(key) {
                None => 0,
                Some(i) => {
                    let mut it = self.unit(i + 1).iter_near(key);
                    it.pass(key);
                    if let Some(o) = it.find(|o| want(o)) {
                        return Some(o);
                    }
                    i + 1
                }
            },
        };
        while let Some(i) = self.tree.find_from(at, &worth) {
            if let Some(o) = self.unit(i + 1).owners().find(|o| want(o)) {
                return Some(o);
            }
            at = i + 1;
        }
        None
    }

    fn pred_where(&self, key: &[u8], want: impl Fn(Flags) -> bool) -> Option<Owner<'_>> {
        if key.is_empty() {
            return None;
        }
        let mut at = self.tree.locate(key);
        while let Some(i) = at {
            if let Some(owner) = self.unit(i + 1).last_before(key, &want) {
                return Some(owner);
            }
            at = i.checked_sub(1);
        }
        Some(self.apex_owner())
    }

    /// True if the name owns nothing but something below it does: an empty non-terminal.
    pub fn is_ent(&self, key: &[u8]) -> bool {
        self.at_or_after(key)
            .is_some_and(|o| key::below(o.key(), key))
    }

    /// Walks from the apex towards `key`; stops at the first zone cut (at or above) or DNAME
    /// (strictly above). The apex never counts as a cut.
    pub fn closest<'a>(&'a self, key: &[u8]) -> Closest<'a> {
        let mut encloser_len = 0;
        let mut owner = None;
        for prefix in key::ancestors_from_apex(key) {
            let exact = prefix.len() == key.len();
            let Some(near) = self.at_or_after(prefix) else {
                break;
            };
            if near.key() == prefix {
                encloser_len = prefix.len();
                if near.flags().is_cut() || (near.flags().is_dname() && !exact) {
                    return Closest {
                        encloser_len,
                        owner: None,
                        stop: Some(near),
                        exact: false,
                    };
                }
                if exact {
                    owner = Some(near);
                }
            } else if key::below(near.key(), prefix) {
                encloser_len = prefix.len();
            } else {
                break;
            }
        }
        Closest {
            encloser_len,
            exact: encloser_len == key.len(),
            owner,
            stop: None,
        }
    }

    // ---- records

    /// All records in transfer order: SOA; the other apex sets; owners in canonical order (each
    /// RRset, then its RRSIGs; the NSEC after the owner's sets); the NSEC3 chain in hash order.
    pub fn for_each_record(&self, f: &mut dyn FnMut(Record<'_>)) {
        for unit in self.units() {
            unit.for_each_record(f);
        }
        for i in 0..self.block_count() {
            self.for_each_record_in_block(i, f);
        }
    }

    pub fn block_count(&self) -> usize {
        self.chain.as_ref().map_or(0, |c| c.tree.len())
    }

    pub fn for_each_record_in_block(&self, i: usize, f: &mut dyn FnMut(Record<'_>)) {
        self.expand_block(i, &mut Whole::new(&mut Buffers::default(), f));
    }

    /// The NSEC3 records of block `i` with their signatures, in parts.
    pub fn expand_block(&self, i: usize, sink: &mut impl Sink) {
        let Some(chain) = &self.chain else { return };
        let Some(block) = chain.tree.get(i) else {
            return;
        };
        crate::block::expand(&block.block, &chain.context(self), sink);
    }
}

/// One record. `owner` is a full uncompressed wire name in received spelling.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub owner: &'a [u8],
    pub rtype: Rtype,
    pub ttl: u32,
    pub rdata: &'a [u8],
}

/// Where a walk from the apex towards a name ends.
#[derive(Clone, Debug)]
pub struct Closest<'a> {
    /// `key[..encloser_len]` is the deepest existing name (owner or ENT) that was reached.
    pub encloser_len: usize,
    /// The owner at the key itself, when nothing stopped the walk.
    pub owner: Option<Owner<'a>>,
    /// The first zone cut at or above, or DNAME above, the key.
    pub stop: Option<Owner<'a>>,
    /// The key is an existing name (owner or ENT).
    pub exact: bool,
}

/// The numbers of a SOA (RFC 1035 §3.3.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoaFields {
    pub serial: Serial,
    pub refresh: u32,
    pub retry: u32,
    pub expire: u32,
    pub minimum: u32,
}

impl SoaFields {
    pub fn parse(rdata: &[u8]) -> Option<SoaFields> {
        let tail = rdata.last_chunk::<20>()?;
        let f = |i: usize| u32::from_be_bytes([tail[i], tail[i + 1], tail[i + 2], tail[i + 3]]);
        Some(SoaFields {
            serial: Serial(f(0)),
            refresh: f(4),
            retry: f(8),
            expire: f(12),
            minimum: f(16),
        })
    }

    /// `rdata` with another serial.
    pub fn with_serial(rdata: &[u8], serial: Serial) -> Vec<u8> {
        let mut out = rdata.to_vec();
        if let Some(at) = out.len().checked_sub(20) {
            out[at..at + 4].copy_from_slice(&serial.0.to_be_bytes());
        }
        out
    }
}

/// A pair of leaves being read.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    pub(crate) version: &'a ZoneVersion,
    pub(crate) index: usize,
    pub(crate) leaf: &'a LeafRef,
    pub(crate) s: Option<SView<'a>>,
}

impl<'a> Unit<'a> {
    pub(crate) fn new(version: &'a ZoneVersion, index: usize, leaf: &'a LeafRef) -> Self {
        Unit {
            version,
            index,
            leaf,
            s: leaf.s.as_ref().map(SLeaf::view),
        }
    }

    pub fn version(&self) -> &'a ZoneVersion {
        self.version
    }

    pub fn index(&self) -> usize {
        self.index
    }

    pub fn is_apex(&self) -> bool {
        self.index == 0
    }

    pub fn owner_count(&self) -> usize {
        self.leaf.u.owner_count()
    }

    /// [`key::fence`] of the first owner; 0 for the apex.
    pub fn fence(&self) -> u64 {
        self.leaf.fence
    }

    pub fn first_key(&self) -> &'a [u8] {
        self.leaf.u.first_key()
    }

    /// Equal records for certain: the same objects.
    pub fn same_as(&self, other: &Unit<'_>) -> bool {
        self.leaf.same(other.leaf)
    }

    /// Equal unsigned records for certain.
    pub fn same_content(&self, other: &Unit<'_>) -> bool {
        self.leaf.same_content(other.leaf)
    }

    pub fn sums(&self) -> &'a LeafSums {
        &self.leaf.sums
    }

    pub(crate) fn sidecar(&self) -> Option<SView<'a>> {
        self.s
    }

    pub fn owners(&self) -> OwnerIter<'a> {
        OwnerIter {
            unit: *self,
            it: self.leaf.u.iter(&self.version.kinds),
        }
    }

    /// Owner number `ordinal` of the unit.
    pub fn owner_at(&self, ordinal: u16) -> Option<Owner<'a>> {
        let mut it = self.iter_from_group(usize::from(ordinal) / RESTART);
        loop {
            let raw = it.it.next()?;
            if raw.ordinal == ordinal {
                return Some(Owner::new(*self, raw, &it.it));
            }
        }
    }

    fn iter_from_group(&self, group: usize) -> OwnerIter<'a> {
        OwnerIter {
            unit: *self,
            it: self.leaf.u.iter_from_restart(group, &self.version.kinds),
        }
    }

    /// The last wanted owner with a key below `key`: groups of owners are read from behind.
    fn last_before(&self, key: &[u8], want: impl Fn(Flags) -> bool) -> Option<Owner<'a>> {
        let mut group = self.leaf.u.group_of(key);
        loop {
            let mut it = self.iter_from_group(group);
            let mut last = None;
            for _ in 0..RESTART {
                let Some(raw) = it.it.next().filter(|_| it.it.key.as_slice() < key) else {
                    break;
                };
                if want(raw.flags) {
                    last = Some(raw.ordinal);
                }
            }
            if let Some(last) = last {
                return self.owner_at(last);
            }
            group = group.checked_sub(1)?;
        }
    }

    /// The last owner with a number in `among` that is not occluded.
    pub fn last_bearing(&self, among: std::ops::Range<u16>) -> Option<u16> {
        let mut end = among.end.checked_sub(1)?;
        loop {
            let mut it = self.iter_from_group(usize::from(end) / RESTART);
            let mut last = None;
            while let Some(raw) = it.it.next() {
                if raw.ordinal > end {
                    break;
                }
                if raw.ordinal >= among.start && !raw.flags.is_occluded() {
                    last = Some(raw.ordinal);
                }
            }
            let first = end - end % RESTART as u16;
            if last.is_some() || first <= among.start {
                return last;
            }
            end = first - 1;
        }
    }

    /// Signatures of owners with numbers in `among`: owner, set, signature; in order.
    pub fn sigs_among(
        &self,
        among: std::ops::Range<u16>,
    ) -> impl Iterator<Item = (u16, u16, RowSig<'a>)> + use<'a> {
        let s = self.s.unwrap_or(SView::NONE);
        let from = s.range_of(among.start).start;
        let to = s.range_of(among.end).start;
        s.sigs(from..to.max(from))
    }

    pub(crate) fn leaf(&self) -> &'a LeafRef {
        self.leaf
    }

    pub(crate) fn iter_near(&self, key: &[u8]) -> OwnerIter<'a> {
        OwnerIter {
            unit: *self,
            it: self.leaf.u.iter_near(key, &self.version.kinds),
        }
    }
}

/// Appends the name that the NSEC of the owner just given by `it` points to.
fn push_next(it: &RawIter<'_>, s: Option<SView<'_>>, v: &ZoneVersion, out: &mut Vec<u8>) {
    let mut ahead = it.clone();
    let next = if ahead.seek_bearing() {
        &ahead.key[..]
    } else {
        s.map_or(&[][..], |s| s.next())
    };
    key::push_wire(next, None, v.apex_lower.as_wire(), out);
}

/// Owners of one unit, in order.
#[derive(Clone, Debug)]
pub struct OwnerIter<'a> {
    unit: Unit<'a>,
    it: RawIter<'a>,
}

impl<'a> OwnerIter<'a> {
    /// No owner comes any more.
    pub fn is_over(&self) -> bool {
        self.it.is_over()
    }

    /// Passes groups of owners that begin here on both sides and stand there alike: their content is equal. For
    /// versions of which one [writes like](ZoneVersion::writes_like) the other.
    pub fn skip_alike(&mut self, other: &mut OwnerIter<'a>) {
        let (x, y) = (&self.unit.leaf.u, &other.unit.leaf.u);
        while let (Some(a), Some(b)) = (self.it.group(), other.it.group())
            && x.group(a) == y.group(b)
        {
            self.it.restart(x, a + 1);
            other.it.restart(y, b + 1);
        }
    }

    /// Moves behind the owners whose keys are not above `key`.
    fn pass(&mut self, key: &[u8]) {
        let mut ahead = self.it.clone();
        while ahead.next().is_some() && ahead.key.as_slice() <= key {
            ahead.copy_to(&mut self.it);
        }
    }

    fn find_at_or_after(&mut self, key: &[u8]) -> Option<Owner<'a>> {
        while let Some(raw) = self.it.next() {
            if self.it.key.as_slice() >= key {
                return Some(Owner::new(self.unit, raw, &self.it));
            }
        }
        None
    }
}

impl<'a> Iterator for OwnerIter<'a> {
    type Item = Owner<'a>;
    fn next(&mut self) -> Option<Owner<'a>> {
        let raw = self.it.next()?;
        Some(Owner::new(self.unit, raw, &self.it))
    }
}

/// An owner name with its RRsets and signatures.
#[derive(Clone, Debug)]
pub struct Owner<'a> {
    unit: Unit<'a>,
    raw: RawOwner<'a>,
    /// The iterator right behind this owner: its key, and the way to the next one.
    it: RawIter<'a>,
}

impl<'a> Owner<'a> {
    fn new(unit: Unit<'a>, raw: RawOwner<'a>, it: &RawIter<'a>) -> Self {
        Owner {
            unit,
            raw,
            it: it.clone(),
        }
    }

    fn empty(unit: Unit<'a>) -> Self {
        let it = unit.leaf.u.iter(&unit.version.kinds);
        Owner {
            unit,
            raw: RawOwner::EMPTY,
            it,
        }
    }

    pub fn key(&self) -> &[u8] {
        &self.it.key
    }

    pub fn flags(&self) -> Flags {
        self.raw.flags
    }

    pub fn ordinal(&self) -> u16 {
        self.raw.ordinal
    }

    pub fn is_apex(&self) -> bool {
        self.unit.is_apex()
    }

    pub fn unit(&self) -> Unit<'a> {
        self.unit
    }

    pub fn case(&self) -> Option<&'a [u8]> {
        self.raw.case
    }

    /// Key of the next owner of the unit that is not occluded; false: there is none.
    pub fn next_bearing(&self, key: &mut Vec<u8>) -> bool {
        let mut ahead = self.it.clone();
        let there = ahead.seek_bearing();
        if there {
            key.clear();
            key.extend_from_slice(&ahead.key);
        }
        there
    }

    /// Appends the wire name in received spelling.
    pub fn push_wire(&self, out: &mut Vec<u8>) {
        key::push_wire(
            &self.it.key,
            self.raw.case,
            self.unit.version.apex_name.as_wire(),
            out,
        );
    }

    pub fn name(&self) -> Name {
        key::to_name(&self.it.key, self.raw.case, &self.unit.version.apex_name)
    }

    /// The RRsets, ascending by type. RRSIG, NSEC and NSEC3 of a signed version are not among them.
    pub fn sets(&self) -> SetIter<'a> {
        SetIter {
            version: self.unit.version,
            it: RawSets::over(self.raw.sets, self.raw.n_sets, &self.unit.version.kinds),
            index: 0,
        }
    }

    pub fn set(&self, rtype: Rtype) -> Option<RRset<'a>> {
        self.sets().find(|s| s.rtype == rtype)
    }

    pub fn types(&self) -> impl Iterator<Item = Rtype> + use<'a> {
        self.sets().map(|s| s.rtype)
    }

    /// Signatures over set number `index`.
    pub fn sigs(&self, index: usize) -> impl Iterator<Item = Sig<'a>> + use<'a> {
        let covered = self.sets().nth(index).map_or(Rtype(0), |s| s.rtype);
        self.sigs_of(index as u16, covered)
    }

    fn sigs_of(&self, set: u16, covered: Rtype) -> impl Iterator<Item = Sig<'a>> + use<'a> {
        let s = self.unit.s.unwrap_or(SView::NONE);
        s.entries(s.range_of(self.raw.ordinal))
            .filter(move |(e, _)| e.set == set)
            .map(move |(e, signature)| {
                let (inception, expiration) = s.time(e.time);
                Sig {
                    covered,
                    slot: s.key(e.key).0,
                    inception,
                    expiration,
                    signature,
                }
            })
    }

    /// The NSEC here, if the version has an NSEC chain and this owner bears one.
    pub fn nsec(&self) -> Option<Nsec<'a, '_>> {
        let ttl = self.unit.s?.nsec_ttl()?;
        (!self.raw.flags.is_occluded()).then_some(Nsec { owner: self, ttl })
    }

    /// True if this set must be signed.
    pub fn is_signed_set(&self, rtype: Rtype) -> bool {
        is_signed_set(self.raw.flags, rtype)
    }
}

/// The NSEC record of an owner.
#[derive(Clone, Copy, Debug)]
pub struct Nsec<'a, 'o> {
    owner: &'o Owner<'a>,
    pub ttl: u32,
}

impl<'a> Nsec<'a, '_> {
    /// Appends the RDATA: next owner in lower case, bitmap.
    pub fn push_rdata(&self, out: &mut Vec<u8>) {
        let o = self.owner;
        push_next(&o.it, o.unit.s, o.unit.version, out);
        let mut types = Vec::new();
        bitmap_types(o.raw.flags, o.types(), true, &mut types);
        push_bitmap(&types, out);
    }

    pub fn sigs(&self) -> impl Iterator<Item = Sig<'a>> + use<'a> {
        self.owner.sigs_of(NSEC_SET, Rtype::NSEC)
    }
}

/// The RRsets of an owner.
#[derive(Clone, Debug)]
pub struct SetIter<'a> {
    version: &'a ZoneVersion,
    it: RawSets<'a>,
    index: usize,
}

impl<'a> Iterator for SetIter<'a> {
    type Item = RRset<'a>;
    fn next(&mut self) -> Option<RRset<'a>> {
        let raw = self.it.next()?;
        let kind = self.version.kinds.get(raw.kind)?;
        let index = self.index;
        self.index += 1;
        Some(RRset {
            rtype: kind.rtype,
            ttl: kind.ttl,
            index,
            count: raw.count as usize,
            names: kind.names,
            raw,
            version: self.version,
        })
    }
}

/// One RRset of the unsigned content (or of what a signer added to the apex).
#[derive(Clone, Copy, Debug)]
pub struct RRset<'a> {
    pub rtype: Rtype,
    pub ttl: u32,
    /// Place among the owner's sets.
    pub index: usize,
    pub count: usize,
    names: bool,
    raw: RawSet<'a>,
    version: &'a ZoneVersion,
}

impl<'a> RRset<'a> {
    /// RDATA as stored, unique and in canonical order.
    pub fn rdatas(&self) -> RdataIter<'a> {
        RdataIter::new(&self.raw, &self.version.pool)
    }

    pub(crate) fn raw(&self) -> &RawSet<'a> {
        &self.raw
    }

    /// The canonical form of some RDATA differs from what is stored.
    pub fn needs_lowering(&self) -> bool {
        self.names
            && self
                .rdatas()
                .any(|r| crate::canon::needs_lowering(self.rtype, r))
    }
}

/// One signature.
#[derive(Clone, Copy, Debug)]
pub struct Sig<'a> {
    pub covered: Rtype,
    pub slot: u8,
    pub inception: u32,
    pub expiration: u32,
    pub signature: &'a [u8],
}

impl Sig<'_> {
    /// Appends RRSIG RDATA; `false` (and nothing) when the version does not know the key's slot.
    pub fn push_rdata(
        &self,
        version: &ZoneVersion,
        labels: u8,
        original_ttl: u32,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(key) = version.keys.get(self.slot) else {
            return false;
        };
        push_rrsig(
            &RrsigFields {
                covered: self.covered,
                algorithm: key.algorithm,
                labels,
                original_ttl,
                expiration: self.expiration,
                inception: self.inception,
                tag: key.tag,
            },
            version.apex_lower.as_wire(),
            self.signature,
            out,
        );
        true
    }
}
