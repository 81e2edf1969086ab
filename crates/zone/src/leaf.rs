//! The U leaf: an immutable run of neighbouring owners with their unsigned RRsets.
//!
//! ```text
//!  0  2  format "U1"            8  4  body length             ..  restarts: u16 (u32 if wide) offset of
//!  2  2  n owners              12  4  reserved                    owners 0, 16, 32, ... in the body
//!  4  2  reserved              16 16  fingerprint of its      ..  body: owner blobs in key order
//!  6  1  flags (bit0 wide)            records
//!  7  1  restart interval (16)
//! ```
//! Owner blob: flags, v shared, v rest, key rest, [case: v length, bits], v n sets, then the sets
//! in ascending type order. Set: v kind, v (count << 2 | form), data. Form 0: RDATA of the kind's
//! fixed length, count times. Form 1: (v length, RDATA) count times. Form 2: v pool id.
//! All integers little-endian, `v` = LEB128.

use std::collections::HashMap;
use std::sync::Arc;

use crate::canon;
use crate::codec::{Reader, push_varint, u16_at, u32_at};
use crate::fingerprint::Fingerprint;
use crate::key::MAX_KEY;
use crate::rtype::Rtype;

/// Owners between two restarts of front coding.
pub const RESTART: usize = 16;
/// A leaf is closed when its body reaches this many octets.
pub const LEAF_TARGET: usize = 6 * 1024;
/// A leaf above this is split by an update.
pub const LEAF_MAX: usize = 8 * 1024;
const HEADER: usize = 32;

/// What a name is in its zone, decided once at load.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Flags(pub u8);

impl Flags {
    pub const CUT: u8 = 1;
    pub const OCCLUDED: u8 = 2;
    pub const SECURE: u8 = 4;
    pub const WILD: u8 = 8;
    pub const DNAME: u8 = 16;
    pub const CASE: u8 = 32;
    const ALL: u8 = 63;

    /// NS present, not the apex, not occluded.
    pub fn is_cut(self) -> bool {
        self.0 & Self::CUT != 0
    }
    /// Below a cut or below a DNAME owner.
    pub fn is_occluded(self) -> bool {
        self.0 & Self::OCCLUDED != 0
    }
    /// A cut with DS.
    pub fn is_secure(self) -> bool {
        self.0 & Self::SECURE != 0
    }
    /// The leftmost label is `*`.
    pub fn is_wild(self) -> bool {
        self.0 & Self::WILD != 0
    }
    /// A DNAME is here (and the owner is not occluded).
    pub fn is_dname(self) -> bool {
        self.0 & Self::DNAME != 0
    }
    /// The spelling has upper-case letters.
    pub fn has_case(self) -> bool {
        self.0 & Self::CASE != 0
    }
    /// Everything but the spelling.
    pub fn role(self) -> u8 {
        self.0 & !Self::CASE
    }
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = ["CUT", "OCCLUDED", "SECURE", "WILD", "DNAME", "CASE"];
        let set: Vec<&str> = names
            .iter()
            .enumerate()
            .filter(|(i, _)| self.0 >> i & 1 == 1)
            .map(|(_, n)| *n)
            .collect();
        write!(f, "Flags({})", set.join("|"))
    }
}

/// An interned (type, TTL).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind {
    pub rtype: Rtype,
    pub ttl: u32,
    /// RDATA length when the type has one (A, AAAA), else 0.
    pub fixed: u8,
    /// RDATA of this type holds names that signing lower-cases.
    pub names: bool,
}

impl Kind {
    pub fn new(rtype: Rtype, ttl: u32) -> Self {
        let fixed = match rtype {
            Rtype::A => 4,
            Rtype::AAAA => 16,
            _ => 0,
        };
        Kind {
            rtype,
            ttl,
            fixed,
            names: !canon::parts(rtype).is_empty(),
        }
    }
}

/// The kinds of a zone; ids are stable from version to version (append-only).
#[derive(Clone, Debug, Default)]
pub struct Kinds {
    list: Vec<Kind>,
    index: HashMap<(Rtype, u32), u32, foldhash::fast::FixedState>,
}

impl Kinds {
    pub fn get(&self, id: u32) -> Option<Kind> {
        self.list.get(id as usize).copied()
    }

    pub fn find(&self, rtype: Rtype, ttl: u32) -> Option<u32> {
        self.index.get(&(rtype, ttl)).copied()
    }

    pub fn intern(&mut self, rtype: Rtype, ttl: u32) -> u32 {
        if let Some(id) = self.find(rtype, ttl) {
            return id;
        }
        let id = self.list.len() as u32;
        self.list.push(Kind::new(rtype, ttl));
        self.index.insert((rtype, ttl), id);
        id
    }

    pub fn iter(&self) -> impl Iterator<Item = &Kind> {
        self.list.iter()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// Immutable bytes of a leaf, shared by pointer.
#[derive(Clone, Debug)]
pub struct ULeaf(Arc<[u8]>);

impl ULeaf {
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn same(&self, other: &ULeaf) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub fn owner_count(&self) -> usize {
        u16_at(&self.0, 2) as usize
    }

    fn wide(&self) -> bool {
        self.0[6] & 1 != 0
    }

    /// Fingerprint of the leaf's records.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut b = [0u8; 16];
        b.copy_from_slice(&self.0[16..32]);
        Fingerprint::from_bytes(b)
    }

    /// Groups of [`RESTART`] owners; the last may have fewer.
    pub(crate) fn restart_count(&self) -> usize {
        self.owner_count().div_ceil(RESTART)
    }

    /// Owners of group `g`.
    pub(crate) fn group_len(&self, g: usize) -> usize {
        self.owner_count().saturating_sub(g * RESTART).min(RESTART)
    }

    /// Group `g` as it stands. It shares no octet of a key with what is before it, so that equal
    /// octets are equal owners in every leaf of versions that [write alike].
    ///
    /// [write alike]: crate::version::ZoneVersion::writes_like
    pub(crate) fn group(&self, g: usize) -> &[u8] {
        let body = self.0.get(self.body_at()..).unwrap_or(&[]);
        let end = match g + 1 < self.restart_count() {
            true => self.restart(g + 1),
            false => body.len(),
        };
        body.get(self.restart(g)..end).unwrap_or(&[])
    }

    /// The last group whose first key is not above `key`; the first if there is none.
    pub(crate) fn group_of(&self, key: &[u8]) -> usize {
        let (mut lo, mut hi) = (0, self.restart_count());
        while lo + 1 < hi {
            let mid = (lo + hi) / 2;
            if self.restart_key(mid) <= key {
                lo = mid;
            } else {
                hi = mid;
            }
        }
        lo
    }

    fn body_at(&self) -> usize {
        HEADER + self.restart_count() * if self.wide() { 4 } else { 2 }
    }

    fn restart(&self, i: usize) -> usize {
        if self.wide() {
            u32_at(&self.0, HEADER + 4 * i) as usize
        } else {
            u16_at(&self.0, HEADER + 2 * i) as usize
        }
    }

    /// The key of the first owner.
    pub fn first_key(&self) -> &[u8] {
        self.restart_key(0)
    }

    /// The whole key of the owner at restart `i` (it shares nothing).
    pub(crate) fn restart_key(&self, i: usize) -> &[u8] {
        let body = self
            .0
            .get(self.body_at() + self.restart(i)..)
            .unwrap_or(&[]);
        let mut r = Reader::new(body);
        let _flags = r.u8();
        let _shared = r.varint();
        let rest = r.varint().unwrap_or(0);
        r.take(rest as usize).unwrap_or(&[])
    }

    /// The owner blobs.
    pub(crate) fn body(&self) -> Reader<'_> {
        Reader::new(self.0.get(self.body_at()..).unwrap_or(&[]))
    }

    /// Walks all owners.
    pub fn iter<'a>(&'a self, kinds: &'a Kinds) -> RawIter<'a> {
        self.iter_from_restart(0, kinds)
    }

    pub(crate) fn iter_from_restart<'a>(&'a self, restart: usize, kinds: &'a Kinds) -> RawIter<'a> {
        let at = if restart == 0 {
            0
        } else {
            self.restart(restart)
        };
        let body = self.0.get(self.body_at() + at..).unwrap_or(&[]);
        RawIter {
            r: Reader::new(body),
            next: restart * RESTART,
            count: self.owner_count(),
            shared: 0,
            key: Vec::with_capacity(64),
            kinds,
        }
    }

    /// Walks from the last restart whose key is not above `key`.
    pub fn iter_near<'a>(&'a self, key: &[u8], kinds: &'a Kinds) -> RawIter<'a> {
        self.iter_from_restart(self.group_of(key), kinds)
    }

    /// Takes bytes from disk. Every length, order and id is checked.
    ///
    /// # Errors
    /// A short text naming what is wrong; nothing is kept.
    pub fn decode(bytes: &[u8], kinds: &Kinds, pool_len: usize) -> Result<ULeaf, &'static str> {
        ULeaf::decode_counting(bytes, kinds, pool_len, &mut Vec::new())
    }

    /// The same; `sets` says afterwards how many sets each owner has.
    pub(crate) fn decode_counting(
        bytes: &[u8],
        kinds: &Kinds,
        pool_len: usize,
        sets: &mut Vec<u32>,
    ) -> Result<ULeaf, &'static str> {
        sets.clear();
        if bytes.len() < HEADER || &bytes[..2] != b"U1" {
            return Err("not a U leaf");
        }
        if bytes[7] as usize != RESTART || bytes[6] & !1 != 0 {
            return Err("unknown leaf form");
        }
        let leaf = ULeaf(bytes.into());
        let n = leaf.owner_count();
        if n == 0 {
            return Err("leaf without owners");
        }
        let body_at = leaf.body_at();
        let body = leaf.0.get(body_at..).ok_or("leaf cut short")?;
        if body.len() != u32_at(&leaf.0, 8) as usize {
            return Err("body length differs");
        }
        let mut it = leaf.iter(kinds);
        let mut last: Vec<u8> = Vec::new();
        for i in 0..n {
            let at = body.len() - it.r.rest().len();
            if i % RESTART == 0 && leaf.restart(i / RESTART) != at {
                return Err("restart offset differs");
            }
            let raw = it.next().ok_or("owner cut short")?;
            if raw.flags.0 & !Flags::ALL != 0 || raw.n_sets == 0 {
                return Err("bad owner");
            }
            if i % RESTART == 0 && raw.shared != 0 {
                return Err("restart shares octets");
            }
            if i > 0 && last >= it.key {
                return Err("owners out of order");
            }
            check_sets(&raw, kinds, pool_len)?;
            sets.push(raw.n_sets);
            last.clone_from(&it.key);
        }
        if !it.r.is_empty() {
            return Err("octets after the last owner");
        }
        Ok(leaf)
    }
}

fn check_sets(raw: &RawOwner<'_>, kinds: &Kinds, pool_len: usize) -> Result<(), &'static str> {
    let mut last = None;
    for set in RawSets::new(raw, kinds) {
        let kind = kinds.get(set.kind).ok_or("unknown kind")?;
        if last.is_some_and(|l| l >= kind.rtype) {
            return Err("types out of order");
        }
        last = Some(kind.rtype);
        if set.count == 0 {
            return Err("empty RRset");
        }
        if let SetData::Pooled(id) = set.data
            && id as usize >= pool_len
        {
            return Err("pool id does not resolve");
        }
    }
    Ok(())
}

/// One owner as it stands in a leaf. Its key is in the iterator.
#[derive(Clone, Copy, Debug)]
pub struct RawOwner<'a> {
    pub flags: Flags,
    pub case: Option<&'a [u8]>,
    pub n_sets: u32,
    pub sets: &'a [u8],
    pub ordinal: u16,
    shared: u32,
}

impl RawOwner<'_> {
    pub(crate) const EMPTY: RawOwner<'static> = RawOwner {
        flags: Flags(0),
        case: None,
        n_sets: 0,
        sets: &[],
        ordinal: 0,
        shared: 0,
    };
}

/// A lending walk: the key of the owner just given is in [`key`](RawIter::key).
#[derive(Clone, Debug)]
pub struct RawIter<'a> {
    r: Reader<'a>,
    next: usize,
    count: usize,
    shared: u32,
    pub key: Vec<u8>,
    kinds: &'a Kinds,
}

impl<'a> RawIter<'a> {
    /// The next owner; `None` at the end or where the bytes are malformed.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<RawOwner<'a>> {
        let kinds = self.kinds;
        self.advance(|r, n| (0..n).try_for_each(|_| skip_set(r, kinds)))
    }

    /// The same; the owner's sets are appended to `sets`, so that they are read once.
    pub fn next_into(&mut self, sets: &mut Vec<RawSet<'a>>) -> Option<RawOwner<'a>> {
        let kinds = self.kinds;
        self.advance(|r, n| {
            (0..n).try_for_each(|_| {
                sets.push(read_set(r, kinds)?);
                Some(())
            })
        })
    }

    pub(crate) fn is_over(&self) -> bool {
        self.next >= self.count
    }

    /// The group that begins with the owner that comes next, if one does.
    pub(crate) fn group(&self) -> Option<usize> {
        let begins = self.next.is_multiple_of(RESTART) && !self.is_over();
        begins.then_some(self.next / RESTART)
    }

    /// Goes to the first owner of group `group`; behind the last group there is none.
    pub(crate) fn restart(&mut self, leaf: &'a ULeaf, group: usize) {
        let at = if group == 0 { 0 } else { leaf.restart(group) };
        self.r = Reader::new(leaf.0.get(leaf.body_at() + at..).unwrap_or(&[]));
        self.next = group * RESTART;
        self.count = leaf.owner_count();
        self.shared = 0;
        self.key.clear();
    }

    /// Puts into `ahead` the walk as it stands here, reusing what `ahead` owns.
    pub fn copy_to(&self, ahead: &mut RawIter<'a>) {
        ahead.r = self.r;
        ahead.next = self.next;
        ahead.count = self.count;
        ahead.kinds = self.kinds;
        ahead.key.clear();
        ahead.key.extend_from_slice(&self.key);
    }

    /// Moves to the next owner that is not occluded, as far as its key; its sets are not read, so
    /// the walk cannot go on from there. `false`: there is none.
    pub fn seek_bearing(&mut self) -> bool {
        while self.next < self.count {
            let Some((flags, _)) = self.head() else {
                return false;
            };
            if !flags.is_occluded() {
                return true;
            }
            let Some(n) = self.r.varint() else {
                return false;
            };
            for _ in 0..n {
                if skip_set(&mut self.r, self.kinds).is_none() {
                    return false;
                }
            }
            self.next += 1;
        }
        false
    }

    /// Flags, key and spelling of the owner at hand.
    #[inline]
    fn head(&mut self) -> Option<(Flags, Option<&'a [u8]>)> {
        let head = read_head(&mut self.r)?;
        if head.shared > self.key.len() || head.shared + head.rest.len() > MAX_KEY {
            return None;
        }
        self.shared = head.shared as u32;
        self.key.truncate(head.shared);
        self.key.extend_from_slice(head.rest);
        Some((head.flags, head.case))
    }

    #[inline]
    fn advance(
        &mut self,
        read: impl FnOnce(&mut Reader<'a>, u32) -> Option<()>,
    ) -> Option<RawOwner<'a>> {
        if self.next >= self.count {
            return None;
        }
        let (flags, case) = self.head()?;
        let n_sets = self.r.varint()?;
        let before = self.r.rest();
        read(&mut self.r, n_sets)?;
        let sets = &before[..before.len() - self.r.rest().len()];
        let ordinal = self.next as u16;
        self.next += 1;
        Some(RawOwner {
            flags,
            case,
            n_sets,
            sets,
            ordinal,
            shared: self.shared,
        })
    }
}

/// What stands in front of an owner's sets.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub flags: Flags,
    /// Octets of the key of the owner before with which this one's begins, and how it goes on.
    pub shared: usize,
    pub rest: &'a [u8],
    /// From `rest` to the end of the leaf.
    pub tail: &'a [u8],
    pub case: Option<&'a [u8]>,
}

#[inline(always)]
pub(crate) fn read_head<'a>(r: &mut Reader<'a>) -> Option<Head<'a>> {
    let flags = Flags(r.u8()?);
    let shared = r.varint()? as usize;
    let rest = r.varint()? as usize;
    let tail = r.rest();
    let rest = r.take(rest)?;
    let case = if flags.has_case() {
        let n = r.varint()?;
        Some(r.take(n as usize)?)
    } else {
        None
    };
    Some(Head {
        flags,
        shared,
        rest,
        tail,
        case,
    })
}

fn skip_set(r: &mut Reader<'_>, kinds: &Kinds) -> Option<()> {
    read_set(r, kinds).map(|_| ())
}

// Inlined, so that a set is written once where it is wanted: going through the stack costs as much as
// the reading.
#[inline(always)]
pub(crate) fn read_set<'a>(r: &mut Reader<'a>, kinds: &Kinds) -> Option<RawSet<'a>> {
    let kind = r.varint()?;
    let head = r.varint()?;
    let count = head >> 2;
    let data = match head & 3 {
        0 => {
            let len = kinds.get(kind)?.fixed as usize;
            if len == 0 {
                return None;
            }
            SetData::Fixed(r.take(len.checked_mul(count as usize)?)?, len)
        }
        1 => {
            let before = r.rest();
            for _ in 0..count {
                let len = r.varint()?;
                if len > u16::MAX as u32 {
                    return None;
                }
                r.take(len as usize)?;
            }
            SetData::Listed(&before[..before.len() - r.rest().len()])
        }
        2 => SetData::Pooled(r.varint()?),
        _ => return None,
    };
    Some(RawSet { kind, count, data })
}

/// One RRset as it stands in a leaf.
#[derive(Clone, Copy, Debug)]
pub struct RawSet<'a> {
    pub kind: u32,
    pub count: u32,
    pub data: SetData<'a>,
}

/// Where the RDATA of a set is.
#[derive(Clone, Copy, Debug)]
pub enum SetData<'a> {
    /// Octets of RDATA of one length, back to back.
    Fixed(&'a [u8], usize),
    /// (v length, RDATA) back to back.
    Listed(&'a [u8]),
    /// In the pool.
    Pooled(u32),
}

/// The sets of an owner.
#[derive(Clone, Debug)]
pub struct RawSets<'a> {
    r: Reader<'a>,
    left: u32,
    kinds: &'a Kinds,
}

impl<'a> RawSets<'a> {
    pub fn new(owner: &RawOwner<'a>, kinds: &'a Kinds) -> Self {
        RawSets {
            r: Reader::new(owner.sets),
            left: owner.n_sets,
            kinds,
        }
    }

    pub fn over(sets: &'a [u8], n: u32, kinds: &'a Kinds) -> Self {
        RawSets {
            r: Reader::new(sets),
            left: n,
            kinds,
        }
    }
}

impl<'a> Iterator for RawSets<'a> {
    type Item = RawSet<'a>;
    fn next(&mut self) -> Option<RawSet<'a>> {
        self.left = self.left.checked_sub(1)?;
        read_set(&mut self.r, self.kinds)
    }
}

/// Builds one leaf.
#[derive(Debug, Default)]
pub struct LeafEncoder {
    body: Vec<u8>,
    restarts: Vec<u32>,
    n: usize,
    key: Vec<u8>,
    fp: Fingerprint,
}

impl LeafEncoder {
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    pub fn len(&self) -> usize {
        self.n
    }

    /// Octets of the body so far.
    pub fn octets(&self) -> usize {
        self.body.len()
    }

    /// True if one more owner cannot be counted.
    pub fn is_full(&self) -> bool {
        self.n == u16::MAX as usize
    }

    pub fn add_fingerprint(&mut self, fp: Fingerprint) {
        self.fp.add(fp);
    }

    pub(crate) fn sub_fingerprint(&mut self, fp: Fingerprint) {
        self.fp.sub(fp);
    }

    /// Begins with what the records of a leaf add up to, whose owners are going to be copied.
    pub(crate) fn from_fingerprint(fp: Fingerprint) -> LeafEncoder {
        LeafEncoder {
            fp,
            ..LeafEncoder::default()
        }
    }

    /// Room for so many octets more.
    pub(crate) fn reserve(&mut self, octets: usize) {
        self.body.reserve(octets);
        self.restarts.reserve(octets / 512);
    }

    /// Copies whole groups as they stand; a multiple of [`RESTART`] owners must be there already,
    /// and behind a group of fewer nothing may follow. Their fingerprints are for the caller.
    pub(crate) fn copy_groups(&mut self, leaf: &ULeaf, groups: std::ops::Range<usize>) {
        for g in groups {
            self.restarts.push(self.body.len() as u32);
            self.body.extend_from_slice(leaf.group(g));
            self.n += leaf.group_len(g);
        }
    }

    /// Begins an owner; its `n_sets` sets must follow.
    pub fn owner(&mut self, flags: Flags, key: &[u8], case: Option<&[u8]>, n_sets: u32) {
        let shared = if self.n.is_multiple_of(RESTART) {
            self.restarts.push(self.body.len() as u32);
            0
        } else {
            self.key.iter().zip(key).take_while(|(a, b)| a == b).count()
        };
        let flags = if case.is_some() {
            flags.0 | Flags::CASE
        } else {
            flags.0 & !Flags::CASE
        };
        self.body.push(flags);
        push_varint(shared as u32, &mut self.body);
        push_varint((key.len() - shared) as u32, &mut self.body);
        self.body.extend_from_slice(&key[shared..]);
        if let Some(case) = case {
            push_varint(case.len() as u32, &mut self.body);
            self.body.extend_from_slice(case);
        }
        push_varint(n_sets, &mut self.body);
        self.key.clear();
        self.key.extend_from_slice(key);
        self.n += 1;
    }

    /// A set with its RDATA here.
    pub fn set<'r>(
        &mut self,
        kind_id: u32,
        kind: Kind,
        rdatas: impl ExactSizeIterator<Item = &'r [u8]> + Clone,
    ) {
        push_varint(kind_id, &mut self.body);
        let count = rdatas.len() as u32;
        let fixed = kind.fixed as usize;
        if fixed > 0 && rdatas.clone().all(|r| r.len() == fixed) {
            push_varint(count << 2, &mut self.body);
            rdatas.for_each(|r| self.body.extend_from_slice(r));
            return;
        }
        push_varint(count << 2 | 1, &mut self.body);
        for r in rdatas {
            push_varint(r.len() as u32, &mut self.body);
            self.body.extend_from_slice(r);
        }
    }

    /// A set in the pool.
    pub fn pooled(&mut self, kind_id: u32, count: u32, id: u32) {
        push_varint(kind_id, &mut self.body);
        push_varint(count << 2 | 2, &mut self.body);
        push_varint(id, &mut self.body);
    }

    /// Sets copied as they stand in another leaf of the same zone.
    pub fn raw_sets(&mut self, sets: &[u8]) {
        self.body.extend_from_slice(sets);
    }

    /// The finished leaf; the encoder is empty again.
    pub fn finish(&mut self) -> ULeaf {
        let wide = self.body.len() > u16::MAX as usize;
        let mut out = Vec::with_capacity(
            HEADER + self.restarts.len() * if wide { 4 } else { 2 } + self.body.len(),
        );
        out.extend_from_slice(b"U1");
        out.extend_from_slice(&(self.n as u16).to_le_bytes());
        out.extend_from_slice(&[0, 0, wide as u8, RESTART as u8]);
        out.extend_from_slice(&(self.body.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.fp.to_bytes());
        for r in &self.restarts {
            if wide {
                out.extend_from_slice(&r.to_le_bytes());
            } else {
                out.extend_from_slice(&(*r as u16).to_le_bytes());
            }
        }
        out.extend_from_slice(&self.body);
        self.body.clear();
        self.restarts.clear();
        self.key.clear();
        self.n = 0;
        self.fp = Fingerprint::default();
        ULeaf(out.into())
    }
}

/// Encodes RDATA of a set in pool form: v count, (v length, RDATA)*.
pub fn encode_set<'r>(rdatas: impl ExactSizeIterator<Item = &'r [u8]>, out: &mut Vec<u8>) {
    push_varint(rdatas.len() as u32, out);
    for r in rdatas {
        push_varint(r.len() as u32, out);
        out.extend_from_slice(r);
    }
}

/// Iterator over the RDATA of one set.
#[derive(Clone, Debug)]
pub struct RdataIter<'a> {
    r: Reader<'a>,
    left: u32,
    fixed: usize,
}

impl<'a> RdataIter<'a> {
    pub fn new(set: &RawSet<'a>, pool: &'a crate::pool::Pool) -> Self {
        match set.data {
            SetData::Fixed(bytes, len) => RdataIter {
                r: Reader::new(bytes),
                left: set.count,
                fixed: len,
            },
            SetData::Listed(bytes) => RdataIter {
                r: Reader::new(bytes),
                left: set.count,
                fixed: 0,
            },
            SetData::Pooled(id) => {
                let mut r = Reader::new(pool.get(id).unwrap_or(&[]));
                let left = r.varint().unwrap_or(0);
                RdataIter { r, left, fixed: 0 }
            }
        }
    }
}

impl<'a> Iterator for RdataIter<'a> {
    type Item = &'a [u8];
    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let len = if self.fixed > 0 {
            self.fixed
        } else {
            self.r.varint()? as usize
        };
        self.r.take(len)
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for RdataIter<'_> {}
