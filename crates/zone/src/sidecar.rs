//! The S leaf: the signatures, and NSEC signatures, of exactly one U leaf.
//!
//! ```text
//!  0 2 format "S1"     8 4 min_exp    16 16 fingerprint      34 .. keys    n_keys x {u8 slot, u8 0, u16 length}
//!  2 1 n_keys         12 4 nsec_ttl   32  2 n_times           .. .. times   n_times x {u32 inception, u32 expiration}
//!  3 1 flags: bit0 wide, bit1 NSEC                            .. .. next    v length, key: named by the last NSEC
//!  4 4 n signatures                                           .. .. entries n x {u16 ordinal, u8 set, u8 key, u8 time}
//!                                                                           wide: {u16, u16, u16, u16}
//!                                                             .. .. signatures in entry order
//! ```
//! NSEC RDATA is not stored: next owner and bitmap follow from the U leaf and `next`. A pair
//! (U, S) determines all its records without looking at a neighbour.

use std::sync::Arc;

use crate::block::RowSig;
use crate::codec::{Reader, push_varint, u16_at, u32_at};
use crate::fingerprint::Fingerprint;
use crate::slots::MAX_SLOTS;

/// Set index of an owner's NSEC.
pub const NSEC_SET: u16 = u16::MAX;
const NSEC_NARROW: u8 = u8::MAX;
const HEADER: usize = 34;

/// Immutable bytes of a sidecar, shared by pointer.
#[derive(Clone, Debug)]
pub struct SLeaf(Arc<[u8]>);

impl SLeaf {
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn same(&self, other: &SLeaf) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Fingerprint of the signatures and NSEC records.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut b = [0u8; 16];
        b.copy_from_slice(&self.0[16..32]);
        Fingerprint::from_bytes(b)
    }

    pub(crate) fn seal(mut bytes: Vec<u8>, fp: Fingerprint) -> SLeaf {
        bytes[16..32].copy_from_slice(&fp.to_bytes());
        SLeaf(bytes.into())
    }

    /// The same bytes with their fingerprint; copies only if somebody else holds them.
    pub(crate) fn resealed(mut self, fp: Fingerprint) -> SLeaf {
        match Arc::get_mut(&mut self.0) {
            Some(bytes) => bytes[16..32].copy_from_slice(&fp.to_bytes()),
            None => self = SLeaf::seal(self.0.to_vec(), fp),
        }
        self
    }

    pub fn view(&self) -> SView<'_> {
        // Bytes in an SLeaf come from the encoder or have passed `decode`.
        SView::parse(&self.0).unwrap_or(SView::NONE)
    }

    /// Takes bytes from disk; lengths and indices are checked. That entries fit the owners of the
    /// U leaf is checked when the pair is put together.
    pub fn decode(bytes: &[u8]) -> Result<SLeaf, &'static str> {
        let v = SView::parse(bytes).ok_or("not an S leaf, or cut short")?;
        let mut last = None;
        let mut octets = 0;
        for i in 0..v.len() {
            let e = v.entry(i);
            if e.key as usize >= v.n_keys() || e.time as usize >= v.n_times() {
                return Err("entry names an unknown key or time");
            }
            let order = (e.ordinal, e.set, e.key);
            if last.is_some_and(|l| l >= order) {
                return Err("entries out of order");
            }
            last = Some(order);
            octets += v.key(e.key).1 as usize;
        }
        if octets != v.sigs.len() {
            return Err("signatures' length differs");
        }
        if (0..v.n_keys()).any(|k| v.key(k as u16).0 as usize >= MAX_SLOTS) {
            return Err("unknown key slot");
        }
        Ok(SLeaf(bytes.into()))
    }
}

/// One entry: which set of which owner, by which key, with which times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub ordinal: u16,
    pub set: u16,
    pub key: u16,
    pub time: u16,
}

/// A parsed sidecar.
#[derive(Clone, Copy, Debug)]
pub struct SView<'a> {
    keys: &'a [u8],
    times: &'a [u8],
    next: &'a [u8],
    entries: &'a [u8],
    /// Number of entries.
    n: usize,
    sigs: &'a [u8],
    wide: bool,
    nsec_ttl: Option<u32>,
    /// Signature length when all keys agree.
    uniform: Option<usize>,
}

impl<'a> SView<'a> {
    /// A sidecar without anything.
    pub(crate) const NONE: SView<'static> = SView {
        keys: &[],
        times: &[],
        next: &[],
        entries: &[],
        n: 0,
        sigs: &[],
        wide: false,
        nsec_ttl: None,
        uniform: Some(0),
    };

    pub(crate) fn parse(bytes: &'a [u8]) -> Option<SView<'a>> {
        if bytes.len() < HEADER || &bytes[..2] != b"S1" || bytes[3] & !3 != 0 {
            return None;
        }
        let wide = bytes[3] & 1 != 0;
        let n = u32_at(bytes, 4) as usize;
        let mut r = Reader::new(&bytes[HEADER..]);
        let keys = r.take(bytes[2] as usize * 4)?;
        let times = r.take(u16_at(bytes, 32) as usize * 8)?;
        let next_len = r.varint()?;
        let next = r.take(next_len as usize)?;
        let entries = r.take(n.checked_mul(if wide { 8 } else { 5 })?)?;
        let first = u16_at(keys, 2);
        let uniform = keys
            .chunks_exact(4)
            .all(|k| u16_at(k, 2) == first)
            .then_some(first as usize);
        Some(SView {
            keys,
            times,
            next,
            entries,
            n,
            sigs: r.rest(),
            wide,
            nsec_ttl: (bytes[3] & 2 != 0).then(|| u32_at(bytes, 12)),
            uniform,
        })
    }

    pub fn len(&self) -> usize {
        self.n
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn n_keys(&self) -> usize {
        self.keys.len() / 4
    }

    fn n_times(&self) -> usize {
        self.times.len() / 8
    }

    /// TTL of the NSEC records; `None` when the zone has no NSEC chain.
    pub fn nsec_ttl(&self) -> Option<u32> {
        self.nsec_ttl
    }

    /// Key of the owner that the last NSEC names.
    pub fn next(&self) -> &'a [u8] {
        self.next
    }

    #[inline]
    pub fn entry(&self, i: usize) -> Entry {
        if self.wide {
            let e = &self.entries[i * 8..];
            Entry {
                ordinal: u16_at(e, 0),
                set: u16_at(e, 2),
                key: u16_at(e, 4),
                time: u16_at(e, 6),
            }
        } else {
            let e = &self.entries[i * 5..];
            let set = if e[2] == NSEC_NARROW {
                NSEC_SET
            } else {
                e[2] as u16
            };
            Entry {
                ordinal: u16_at(e, 0),
                set,
                key: e[3] as u16,
                time: e[4] as u16,
            }
        }
    }

    /// All signatures, back to back in entry order.
    pub fn signatures(&self) -> &'a [u8] {
        self.sigs
    }

    fn ordinal(&self, i: usize) -> u16 {
        u16_at(self.entries, i * if self.wide { 8 } else { 5 })
    }

    /// (slot, signature length) of key index `k`.
    pub fn key(&self, k: u16) -> (u8, u16) {
        let at = k as usize * 4;
        (
            self.keys.get(at).copied().unwrap_or(0),
            u16_at(self.keys, at + 2),
        )
    }

    /// (inception, expiration) of time index `t`.
    pub fn time(&self, t: u16) -> (u32, u32) {
        (
            u32_at(self.times, t as usize * 8),
            u32_at(self.times, t as usize * 8 + 4),
        )
    }

    /// Entries of the owner with this ordinal.
    pub fn range_of(&self, ordinal: u16) -> std::ops::Range<usize> {
        let n = self.len();
        let lower = |want: u32| {
            let (mut lo, mut hi) = (0, n);
            while lo < hi {
                let mid = (lo + hi) / 2;
                if (self.ordinal(mid) as u32) < want {
                    lo = mid + 1;
                } else {
                    hi = mid;
                }
            }
            lo
        };
        lower(ordinal as u32)..lower(ordinal as u32 + 1)
    }

    /// The entries from `i` and from `j` of `other` on are the same up to owner number `end`, signatures
    /// included, and so many: compared as they stand. `None`: that cannot be told so, or they are not.
    pub(crate) fn alike(&self, i: usize, other: &SView<'_>, j: usize, end: usize) -> Option<usize> {
        let begins = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
        let len = self.uniform.filter(|_| self.uniform == other.uniform)?;
        let same_tables = self.wide == other.wide
            && begins(self.keys, other.keys)
            && begins(self.times, other.times);
        if !same_tables {
            return None;
        }
        let width = if self.wide { 8 } else { 5 };
        let n = (i..self.n).take_while(|i| usize::from(self.ordinal(*i)) < end);
        let n = n.count();
        if j + n < other.n && usize::from(other.ordinal(j + n)) < end {
            return None;
        }
        let same = part(self.entries, i, n, width)? == part(other.entries, j, n, width)?
            && part(self.sigs, i, n, len)? == part(other.sigs, j, n, len)?;
        same.then_some(n)
    }

    /// Offset of signature `i`.
    pub(crate) fn offset(&self, i: usize) -> usize {
        match self.uniform {
            Some(len) => i * len,
            None => (0..i).map(|j| self.key(self.entry(j).key).1 as usize).sum(),
        }
    }

    /// Signatures of `range`, with their octets.
    pub fn entries(
        &self,
        range: std::ops::Range<usize>,
    ) -> impl Iterator<Item = (Entry, &'a [u8])> + use<'a> {
        let view = *self;
        let mut at = view.offset(range.start);
        range.map(move |i| {
            let e = view.entry(i);
            let len = view.key(e.key).1 as usize;
            let sig = view.sigs.get(at..at + len).unwrap_or(&[]);
            at += len;
            (e, sig)
        })
    }

    /// The same with the number of the owner and of the set that each covers.
    pub fn sigs(
        &self,
        range: std::ops::Range<usize>,
    ) -> impl Iterator<Item = (u16, u16, RowSig<'a>)> + use<'a> {
        let view = *self;
        self.entries(range).map(move |(e, signature)| {
            let (inception, expiration) = view.time(e.time);
            let sig = RowSig {
                slot: view.key(e.key).0,
                inception,
                expiration,
                signature,
            };
            (e.ordinal, e.set, sig)
        })
    }
}

/// `n` entries of `each` octets from number `from` on.
fn part(octets: &[u8], from: usize, n: usize, each: usize) -> Option<&[u8]> {
    octets.get(from * each..(from + n) * each)
}

/// Collects the signatures of one unit.
#[derive(Debug, Default)]
pub(crate) struct SEncoder {
    keys: Vec<(u8, u16)>,
    times: Vec<(u32, u32)>,
    entries: Vec<Entry>,
    sigs: Vec<u8>,
    nsec: Option<(u32, Vec<u8>)>,
}

impl SEncoder {
    pub fn nsec(&mut self, ttl: u32, next: &[u8]) {
        self.nsec = Some((ttl, next.to_vec()));
    }

    pub fn push(&mut self, ordinal: u16, set: u16, slot: u8, times: (u32, u32), signature: &[u8]) {
        let key_of = (slot, signature.len() as u16);
        let key = index_of(&mut self.keys, key_of);
        let time = index_of(&mut self.times, times);
        self.entries.push(Entry {
            ordinal,
            set,
            key,
            time,
        });
        self.sigs.extend_from_slice(signature);
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.nsec.is_none()
    }

    /// Room for so many signatures with so many octets.
    pub fn reserve(&mut self, entries: usize, octets: usize) {
        self.entries.reserve(entries);
        self.sigs.reserve(octets);
    }

    /// Bit k: some signature is by key slot k.
    pub fn slots(&self) -> u16 {
        self.keys
            .iter()
            .fold(0, |m, (slot, _)| m | 1 << (slot & 15))
    }

    /// Expiration of each signature at least once.
    pub fn expirations(&self) -> impl Iterator<Item = u32> {
        self.times.iter().map(|t| t.1)
    }

    /// Bytes with a zero fingerprint; see [`SLeaf::seal`]. `base`: the time around which wire
    /// times compare.
    pub fn encode(mut self, base: u32) -> Vec<u8> {
        self.sort();
        let wide = self.times.len() > 256
            || self
                .entries
                .iter()
                .any(|e| e.set != NSEC_SET && e.set >= NSEC_NARROW as u16);
        let min_exp = self
            .times
            .iter()
            .map(|t| t.1)
            .min_by_key(|t| t.wrapping_sub(base) as i32);
        let (nsec_ttl, next) = self
            .nsec
            .as_ref()
            .map_or((0, &[][..]), |(t, n)| (*t, &n[..]));
        let mut out =
            Vec::with_capacity(HEADER + next.len() + self.entries.len() * 8 + self.sigs.len());
        out.extend_from_slice(b"S1");
        out.push(self.keys.len() as u8);
        out.push(wide as u8 | (self.nsec.is_some() as u8) << 1);
        out.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        out.extend_from_slice(&min_exp.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&nsec_ttl.to_le_bytes());
        out.extend_from_slice(&[0; 16]);
        out.extend_from_slice(&(self.times.len() as u16).to_le_bytes());
        for (slot, len) in &self.keys {
            out.extend_from_slice(&[*slot, 0]);
            out.extend_from_slice(&len.to_le_bytes());
        }
        for (inception, expiration) in &self.times {
            out.extend_from_slice(&inception.to_le_bytes());
            out.extend_from_slice(&expiration.to_le_bytes());
        }
        push_varint(next.len() as u32, &mut out);
        out.extend_from_slice(next);
        for e in &self.entries {
            out.extend_from_slice(&e.ordinal.to_le_bytes());
            if wide {
                for v in [e.set, e.key, e.time] {
                    out.extend_from_slice(&v.to_le_bytes());
                }
            } else {
                let set = if e.set == NSEC_SET {
                    NSEC_NARROW
                } else {
                    e.set as u8
                };
                out.extend_from_slice(&[set, e.key as u8, e.time as u8]);
            }
        }
        out.extend_from_slice(&self.sigs);
        out
    }

    /// Entry order is (owner, set, key); callers that push in another order are put right.
    fn sort(&mut self) {
        let order = |e: &Entry| (e.ordinal, e.set, e.key);
        if self.entries.windows(2).all(|w| order(&w[0]) < order(&w[1])) {
            return;
        }
        let mut at = 0;
        let mut all: Vec<(Entry, Vec<u8>)> = Vec::with_capacity(self.entries.len());
        for e in &self.entries {
            let len = self.keys[e.key as usize].1 as usize;
            all.push((*e, self.sigs[at..at + len].to_vec()));
            at += len;
        }
        all.sort_by_key(|(e, _)| order(e));
        all.dedup_by_key(|(e, _)| order(e));
        self.sigs.clear();
        self.entries.clear();
        for (e, sig) in all {
            self.entries.push(e);
            self.sigs.extend_from_slice(&sig);
        }
    }
}

fn index_of<T: PartialEq + Copy>(list: &mut Vec<T>, v: T) -> u16 {
    // The latest one is nearly always the one.
    if let Some(i) = list.iter().rposition(|x| *x == v) {
        return i as u16;
    }
    list.push(v);
    (list.len() - 1) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_come_back(
            raw in prop::collection::btree_map((0u16..50, prop_oneof![0u16..6, Just(300), Just(NSEC_SET)], 0u8..3), (0u32..400, any::<u8>()), 0..60),
            shuffle: bool,
        ) {
            let len = |slot: u8| if slot == 2 { 96usize } else { 64 };
            let mut enc = SEncoder::default();
            enc.nsec(300, b"a\0");
            let mut list: Vec<_> = raw.iter().collect();
            if shuffle { list.reverse(); }
            for ((o, s, k), (t, b)) in list {
                enc.push(*o, *s, *k, (*t, *t + 1000), &vec![*b; len(*k)]);
            }
            let leaf = SLeaf::decode(&enc.encode(0)).unwrap();
            let v = leaf.view();
            prop_assert_eq!(v.nsec_ttl(), Some(300));
            prop_assert_eq!(v.next(), b"a\0");
            prop_assert_eq!(v.len(), raw.len());
            let mut got = Vec::new();
            for o in 0..50u16 {
                for (e, sig) in v.entries(v.range_of(o)) {
                    prop_assert_eq!(e.ordinal, o);
                    got.push(((o, e.set, v.key(e.key).0), v.time(e.time).0, sig.to_vec()));
                }
            }
            got.sort();
            let mut want: Vec<_> = raw.iter().map(|(k, (t, b))| (*k, *t, vec![*b; len(k.2)])).collect();
            want.sort();
            prop_assert_eq!(got, want);
        }

        #[test]
        fn garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..300), head: bool) {
            if head && bytes.len() > 34 {
                bytes[..2].copy_from_slice(b"S1");
                bytes[3] &= 3;
                bytes[4..8].copy_from_slice(&[3, 0, 0, 0]);
                bytes[32..34].copy_from_slice(&[1, 0]);
            }
            let _ = SLeaf::decode(&bytes);
        }
    }
}
