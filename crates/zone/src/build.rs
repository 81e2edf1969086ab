//! From parsed records to an unsigned version.
//!
//! Input are batches of records in any order. They are sorted, cut into key ranges, and each range
//! becomes leaves in parallel: duplicates dropped, TTLs of an RRset made equal, flags decided with
//! a stack of open cuts and DNAMEs, repeated RDATA sets interned. With a predecessor, leaves that
//! come out equal are the predecessor's own, so "what changed" is a pointer walk; where few owners
//! differ, the predecessor is edited instead.
//! The result depends on input and predecessor only, not on threads.

mod beside;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cascade_time::Timestamp;
use rayon::prelude::*;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::canon;
use crate::denial::Denial;
use crate::fingerprint::Hasher;
use crate::id::{Serial, VersionId, ZoneId};
use crate::key;
use crate::leaf::{Flags, Kinds, LEAF_MAX, LEAF_TARGET, LeafEncoder, ULeaf, encode_set};
use crate::name::Name;
use crate::pool::{NoHash, Pool};
use crate::rtype::Rtype;
use crate::settle::settle_all;
use crate::slots::KeyTable;
use crate::sums::{LeafSums, sum_pair};
use crate::tree::Tree;
use crate::update::OwnerChange;
use crate::version::{LeafRef, ZoneVersion};

/// Records one range holds at least, so that ranges are worth a task.
const RANGE_RECORDS: usize = 16 * 1024;
/// Sets with at least this much RDATA are pooled when they repeat; NS and MX always are.
const POOL_MIN: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BuildError {
    #[error("no SOA record at the apex")]
    NoSoa,
    #[error("more than one SOA record at the apex")]
    SeveralSoas,
    #[error("an owner has more than 65535 RRsets")]
    TooManySets,
    #[error("the parts do not fit together: {0}")]
    Inconsistent(&'static str),
}

/// A batch can hold no more; start another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("record batch is full")]
pub struct BatchFull;

/// Type, TTL, place and length before the RDATA of a record in a batch.
const RECORD_HEAD: usize = 12;
/// Slots of the cache of kinds; no two of A, NS, SOA, MX, TXT, AAAA and DS share one.
const RECENT: usize = 8;

#[derive(Debug, Clone, Copy)]
struct Entry {
    prefix: u64,
    owner: u32,
    rec: u32,
}

/// An arena of parsed records, filled by one thread.
#[derive(Debug, Default)]
pub struct RecordBatch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    kinds: BTreeSet<(Rtype, u32)>,
    /// Kinds seen lately, by type, so that the set is asked rarely.
    recent: [Option<(Rtype, u32)>; RECENT],
    owner: u32,
    prefix: u64,
}

impl RecordBatch {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with_capacity(octets: usize, records: usize) -> Self {
        RecordBatch {
            bytes: Vec::with_capacity(octets),
            entries: Vec::with_capacity(records),
            ..Default::default()
        }
    }

    /// Makes room for that much more of keys, RDATA and their heads, and for so many more records.
    pub fn reserve(&mut self, octets: usize, records: usize) {
        self.bytes.reserve(octets);
        self.entries.reserve(records);
    }

    /// Sets the owner of the records that follow. `key` and `case` as in [`crate::key`].
    pub fn owner(&mut self, key: &[u8], case: Option<&[u8]>) {
        self.owner = self.bytes.len() as u32;
        self.prefix = key::fence(key);
        let case = case.unwrap_or(&[]);
        let [low, high] = (key.len() as u16).to_le_bytes();
        self.bytes.extend_from_slice(&[low, high, case.len() as u8]);
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(case);
    }

    /// One record at the current owner. `rdata`: uncompressed, valid for its type, spelling as
    /// received. `loc` is the caller's own and comes back in callbacks.
    ///
    /// # Errors
    /// The batch holds 4 GiB; nothing was added.
    pub fn push(
        &mut self,
        rtype: Rtype,
        ttl: u32,
        rdata: &[u8],
        loc: u32,
    ) -> Result<(), BatchFull> {
        if self.bytes.len() + rdata.len() + 1024 > u32::MAX as usize
            || rdata.len() > u16::MAX as usize
        {
            return Err(BatchFull);
        }
        let kind = Some((rtype, ttl));
        let recent = &mut self.recent[rtype.0 as usize % RECENT];
        if *recent != kind {
            self.kinds.insert((rtype, ttl));
            *recent = kind;
        }
        self.entries.push(Entry {
            prefix: self.prefix,
            owner: self.owner,
            rec: self.bytes.len() as u32,
        });
        // One head, so that room is asked for once.
        let mut head = [0; RECORD_HEAD];
        head[..2].copy_from_slice(&rtype.0.to_le_bytes());
        head[2..6].copy_from_slice(&ttl.to_le_bytes());
        head[6..10].copy_from_slice(&loc.to_le_bytes());
        head[10..].copy_from_slice(&(rdata.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(rdata);
        Ok(())
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn octets(&self) -> usize {
        self.bytes.len()
    }

    /// Every record: key and case of its owner, type, TTL and RDATA.
    pub fn for_each(&self, f: &mut dyn FnMut(&[u8], Option<&[u8]>, Rtype, u32, &[u8])) {
        for e in &self.entries {
            let r = self.record_at(e.rec);
            f(
                self.key_at(e.owner),
                self.case_at(e.owner),
                r.rtype,
                r.ttl,
                r.rdata,
            );
        }
    }

    fn key_at(&self, owner: u32) -> &[u8] {
        let b = &self.bytes[owner as usize..];
        let n = u16::from_le_bytes([b[0], b[1]]) as usize;
        &b[3..3 + n]
    }

    fn case_at(&self, owner: u32) -> Option<&[u8]> {
        let b = &self.bytes[owner as usize..];
        let n = u16::from_le_bytes([b[0], b[1]]) as usize;
        let c = b[2] as usize;
        (c > 0).then(|| &b[3 + n..3 + n + c])
    }

    fn record_at(&self, rec: u32) -> RawRecord<'_> {
        let b = &self.bytes[rec as usize..];
        let len = u16::from_le_bytes([b[10], b[11]]) as usize;
        RawRecord {
            rtype: Rtype(u16::from_le_bytes([b[0], b[1]])),
            ttl: u32::from_le_bytes([b[2], b[3], b[4], b[5]]),
            loc: u32::from_le_bytes([b[6], b[7], b[8], b[9]]),
            rdata: &b[RECORD_HEAD..RECORD_HEAD + len],
        }
    }

    fn sort(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        let order = |a: &Entry, b: &Entry| {
            a.prefix.cmp(&b.prefix).then_with(|| {
                if a.owner == b.owner {
                    Ordering::Equal
                } else {
                    self.key_at(a.owner).cmp(self.key_at(b.owner))
                }
            })
        };
        if !entries.is_sorted_by(|a, b| order(a, b) != Ordering::Greater) {
            // Stable: among records of one owner the first one's spelling wins.
            entries.sort_by(order);
        }
        self.entries = entries;
    }

    /// Number of entries whose key is below `key`.
    fn lower_bound(&self, key: &[u8]) -> usize {
        let fence = key::fence(key);
        self.entries.partition_point(|e| {
            e.prefix < fence || (e.prefix == fence && self.key_at(e.owner) < key)
        })
    }
}

/// One record of the input.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    pub rtype: Rtype,
    pub ttl: u32,
    pub rdata: &'a [u8],
    pub loc: u32,
}

/// The nearest thing above an occluded owner that occludes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Above<'a> {
    pub key: &'a [u8],
    pub is_dname: bool,
}

/// All records of one owner: unique, sorted by type and canonical RDATA, one TTL per type.
#[derive(Clone, Copy, Debug)]
pub struct OwnerGroup<'a> {
    pub key: &'a [u8],
    pub case: Option<&'a [u8]>,
    pub records: &'a [RawRecord<'a>],
    pub flags: Flags,
    pub above: Option<Above<'a>>,
}

/// Sees the records while they are built. Called from several threads; owners of one range come in
/// canonical order, ranges in any order.
pub trait Inspector: Sync {
    fn owner(&self, owner: &OwnerGroup<'_>);
    /// The same record twice (canonical form, whatever the TTL): `dropped` goes.
    fn duplicate(&self, key: &[u8], kept: &RawRecord<'_>, dropped: &RawRecord<'_>);
    /// TTLs of an RRset differ (RFC 2181 §5.2); all get `used`, the smallest.
    fn ttl_mismatch(
        &self,
        key: &[u8],
        rtype: Rtype,
        used: u32,
        first: &RawRecord<'_>,
        other: &RawRecord<'_>,
    );
}

/// Sees nothing.
#[derive(Debug, Clone, Copy)]
pub struct NoInspector;

impl Inspector for NoInspector {
    fn owner(&self, _: &OwnerGroup<'_>) {}
    fn duplicate(&self, _: &[u8], _: &RawRecord<'_>, _: &RawRecord<'_>) {}
    fn ttl_mismatch(&self, _: &[u8], _: Rtype, _: u32, _: &RawRecord<'_>, _: &RawRecord<'_>) {}
}

/// A version that was built, and what is known of it beside its predecessor.
#[derive(Debug)]
pub struct Built {
    pub version: ZoneVersion,
    /// In key order, the owners that differ from the predecessor, as [`Update`](crate::Update) gives
    /// them; `None`: not known, everything was built anew.
    pub changes: Option<Vec<OwnerChange>>,
    /// False: no owner is a wildcard.
    pub wildcards: bool,
}

/// Builds an unsigned version.
pub struct Builder<'a> {
    zone: ZoneId,
    id: VersionId,
    apex: Name,
    made_at: Timestamp,
    batches: Vec<RecordBatch>,
    inspector: &'a dyn Inspector,
    predecessor: Option<&'a ZoneVersion>,
}

impl std::fmt::Debug for Builder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("zone", &self.zone)
            .field("id", &self.id)
            .finish()
    }
}

impl<'a> Builder<'a> {
    pub fn new(zone: ZoneId, id: VersionId, apex: &Name, made_at: Timestamp) -> Self {
        Builder {
            zone,
            id,
            apex: apex.clone(),
            made_at,
            batches: Vec::new(),
            inspector: &NoInspector,
            predecessor: None,
        }
    }

    pub fn batches(mut self, batches: Vec<RecordBatch>) -> Self {
        self.batches = batches;
        self
    }

    pub fn inspector(mut self, inspector: &'a dyn Inspector) -> Self {
        self.inspector = inspector;
        self
    }

    /// An earlier unsigned version of the zone: its equal leaves, pool and kinds are shared.
    pub fn predecessor(mut self, version: &'a ZoneVersion) -> Self {
        self.predecessor = Some(version);
        self
    }

    /// Builds, on the current rayon pool.
    ///
    /// # Errors
    /// Without exactly one SOA at the apex there is no version.
    pub fn build(self) -> Result<ZoneVersion, BuildError> {
        Ok(self.build_beside()?.version)
    }

    /// The same, and in what owners the version differs from its predecessor, where that is known.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_beside(mut self) -> Result<Built, BuildError> {
        self.batches.par_iter_mut().for_each(RecordBatch::sort);
        let (starts, ranges) = self.ranges();
        if let Some(p) = self.predecessor.filter(|p| self.can_edit(p)) {
            if let Some(built) = self.beside(p, &starts, &ranges)? {
                return Ok(built);
            }
            // All owners have been shown.
            self.inspector = &NoInspector;
        }
        let mut kinds = self
            .predecessor
            .map_or_else(Kinds::default, |p| Kinds::clone(&p.kinds));
        let all: BTreeSet<(Rtype, u32)> = self
            .batches
            .iter()
            .flat_map(|b| b.kinds.iter().copied())
            .collect();
        for (rtype, ttl) in all {
            kinds.intern(rtype, ttl);
        }
        let (pool, sets) = self.intern(&ranges);
        let version = ZoneVersion {
            zone: self.zone,
            id: self.id,
            of: self.id,
            apex_lower: Arc::new(self.apex.to_lowercase()),
            apex_name: Arc::new(self.apex.clone()),
            made_at: self.made_at,
            apex: LeafRef::new(empty_leaf(), None, LeafSums::default()),
            tree: Tree::default(),
            kinds: Arc::new(kinds),
            pool: Arc::new(pool),
            keys: Arc::new(KeyTable::new()),
            denial: Denial::None,
            chain: None,
            sums: LeafSums::default(),
            serial: Serial(0),
        };
        Ok(Built {
            version: self.leaves(version, ranges, &sets)?,
            changes: None,
            wildcards: true,
        })
    }

    /// Sorted runs of (batch, owner, record) that cover the zone, and before them the keys at which
    /// they begin; owners never straddle two. The first run holds the apex and nothing else.
    fn ranges(&mut self) -> (Vec<Vec<u8>>, Vec<Vec<Slot>>) {
        let total: usize = self.batches.iter().map(RecordBatch::len).sum();
        let mut splitters = vec![vec![]];
        // The smallest key below the apex: everything after it is not the apex.
        splitters.push(vec![0]);
        splitters.extend(self.splitters(total));
        let bounds: Vec<Vec<usize>> = self
            .batches
            .par_iter()
            .map(|b| {
                splitters
                    .iter()
                    .map(|s| b.lower_bound(s))
                    .chain([b.len()])
                    .collect()
            })
            .collect();
        let batches = &self.batches;
        let ranges: Vec<Vec<Slot>> = (0..splitters.len())
            .into_par_iter()
            .map(|r| {
                let mut out: Vec<(u64, Slot)> = Vec::new();
                for (b, bounds) in batches
                    .iter()
                    .zip(&bounds)
                    .enumerate()
                    .map(|(i, (b, p))| ((i, b), p))
                {
                    let (i, b) = b;
                    out.extend(b.entries[bounds[r]..bounds[r + 1]].iter().map(|e| {
                        (
                            e.prefix,
                            Slot {
                                batch: i as u32,
                                owner: e.owner,
                                rec: e.rec,
                            },
                        )
                    }));
                }
                let key = |s: &Slot| batches[s.batch as usize].key_at(s.owner);
                let order = |a: &(u64, Slot), b: &(u64, Slot)| {
                    a.0.cmp(&b.0).then_with(|| {
                        if (a.1.batch, a.1.owner) == (b.1.batch, b.1.owner) {
                            Ordering::Equal
                        } else {
                            key(&a.1).cmp(key(&b.1))
                        }
                    })
                };
                if !out.is_sorted_by(|a, b| order(a, b) != Ordering::Greater) {
                    out.sort_by(order);
                }
                out.into_iter().map(|(_, s)| s).collect()
            })
            .collect();
        self.batches
            .par_iter_mut()
            .for_each(|b| b.entries = Vec::new());
        (splitters, ranges)
    }

    /// First keys of the ranges after the first, from a regular sample of all batches.
    fn splitters(&self, total: usize) -> Vec<Vec<u8>> {
        let want = (total / RANGE_RECORDS).min(4096);
        if want < 2 {
            return Vec::new();
        }
        let mut sample: Vec<&[u8]> = self
            .batches
            .iter()
            .flat_map(|b| {
                b.entries
                    .iter()
                    .step_by(RANGE_RECORDS / 32)
                    .map(|e| b.key_at(e.owner))
            })
            .filter(|k| !k.is_empty())
            .collect();
        sample.sort_unstable();
        let step = (sample.len() / want).max(1);
        let mut keys: Vec<Vec<u8>> = sample
            .into_iter()
            .step_by(step)
            .skip(1)
            .map(<[u8]>::to_vec)
            .collect();
        if let Some(p) = self.predecessor {
            // Ranges begin where the predecessor's leaves begin, so that leaves come out equal.
            for k in &mut keys {
                if let Some(leaf) = p.tree.locate(k).and_then(|i| p.tree.get(i)) {
                    *k = leaf.u.first_key().to_vec();
                }
            }
        }
        keys.dedup();
        keys.retain(|k| k.as_slice() > &[0][..]);
        keys
    }

    /// Finds RDATA sets that occur at least twice and puts them into the pool.
    fn intern(&self, ranges: &[Vec<Slot>]) -> (Pool, SetIds) {
        let mut seen: Vec<Seen> = ranges
            .par_iter()
            .enumerate()
            .flat_map_iter(|(r, range)| {
                let mut seen = Vec::new();
                self.for_each_set(range, |hash, octets, rtype, first| {
                    if octets >= POOL_MIN || matches!(rtype, Rtype::NS | Rtype::MX) {
                        seen.push(Seen {
                            hash,
                            range: r as u32,
                            first: first as u32,
                        });
                    }
                });
                seen
            })
            .collect();
        seen.par_sort_unstable_by_key(|s| (s.hash, s.range, s.first));
        let old = self.predecessor.map(|p| p.pool.clone()).unwrap_or_default();
        let mut repeated: Vec<Seen> = seen
            .chunk_by(|a, b| a.hash == b.hash)
            .filter(|run| run.len() > 1 || !old.is_empty())
            .map(|run| Seen {
                hash: run[0].hash,
                ..run[0]
            })
            .collect();
        let counts: HashMap<u64, bool, std::hash::BuildHasherDefault<NoHash>> = if old.is_empty() {
            HashMap::default()
        } else {
            seen.chunk_by(|a, b| a.hash == b.hash)
                .map(|run| (run[0].hash, run.len() > 1))
                .collect()
        };
        drop(seen);
        repeated.par_sort_unstable_by_key(|s| (s.range, s.first));
        let encoded: Vec<(u64, Vec<u8>)> = repeated
            .par_iter()
            .map(|s| {
                (
                    s.hash,
                    self.encode_at(&ranges[s.range as usize], s.first as usize),
                )
            })
            .collect();
        let wanted = encoded.iter().filter(|(hash, set)| {
            old.is_empty() || counts.get(hash).copied().unwrap_or(false) || old.find(set).is_some()
        });
        let pool = old.append(wanted.clone().map(|(_, set)| &set[..]));
        let ids = wanted
            .filter_map(|(hash, set)| Some((*hash, pool.find(set)?)))
            .collect();
        (pool, ids)
    }

    /// Calls `f(hash, octets, type, first slot)` for each (owner, type) of a range.
    fn for_each_set(&self, range: &[Slot], mut f: impl FnMut(u64, usize, Rtype, usize)) {
        let mut at = 0;
        let mut sums: Vec<(Rtype, u64, usize, usize)> = Vec::new();
        while at < range.len() {
            let end = self.owner_end(range, at);
            sums.clear();
            for (i, slot) in range[at..end].iter().enumerate() {
                let r = self.batches[slot.batch as usize].record_at(slot.rec);
                let h = xxh3_64(r.rdata) | 1;
                match sums.iter_mut().find(|s| s.0 == r.rtype) {
                    Some(s) => {
                        s.1 = s.1.wrapping_add(h);
                        s.2 += r.rdata.len();
                    }
                    None => sums.push((r.rtype, h, r.rdata.len(), at + i)),
                }
            }
            sums.iter().for_each(|s| f(s.1, s.2, s.0, s.3));
            at = end;
        }
    }

    fn key_of(&self, slot: &Slot) -> &[u8] {
        self.batches[slot.batch as usize].key_at(slot.owner)
    }

    fn owner_end(&self, range: &[Slot], at: usize) -> usize {
        let first = &range[at];
        let key = self.key_of(first);
        let same =
            |s: &Slot| (s.batch == first.batch && s.owner == first.owner) || self.key_of(s) == key;
        at + range[at..].iter().take_while(|s| same(s)).count()
    }

    /// The pool form of the set whose first record is slot `at`.
    fn encode_at(&self, range: &[Slot], at: usize) -> Vec<u8> {
        let key = self.key_of(&range[at]);
        let rtype = self.batches[range[at].batch as usize]
            .record_at(range[at].rec)
            .rtype;
        let mut rdatas: Vec<&[u8]> = range[at..]
            .iter()
            .take_while(|s| self.key_of(s) == key)
            .map(|s| self.batches[s.batch as usize].record_at(s.rec))
            .filter(|r| r.rtype == rtype)
            .map(|r| r.rdata)
            .collect();
        rdatas.sort_by(|a, b| canon::cmp_rdata(rtype, a, b));
        rdatas.dedup_by(|a, b| canon::cmp_rdata(rtype, a, b) == Ordering::Equal);
        let mut out = Vec::new();
        encode_set(rdatas.into_iter(), &mut out);
        out
    }

    fn leaves(
        &self,
        mut version: ZoneVersion,
        ranges: Vec<Vec<Slot>>,
        sets: &SetIds,
    ) -> Result<ZoneVersion, BuildError> {
        let mut apex_maker = RangeMaker::new(self, &version, sets, None);
        apex_maker.range(&ranges[0])?;
        let apex_dname = apex_maker.saw_apex_dname;
        if apex_maker.soas != 1 {
            return Err(if apex_maker.soas == 0 {
                BuildError::NoSoa
            } else {
                BuildError::SeveralSoas
            });
        }
        let Some(apex) = apex_maker.leaves.pop() else {
            return Err(BuildError::NoSoa);
        };
        let stops: Vec<Option<(Cow<'_, [u8]>, bool)>> = ranges
            .par_iter()
            .map(|r| self.open_stop(&ranges, r, apex_dname))
            .collect();
        let made: Vec<Vec<LeafRef>> = ranges[1..]
            .par_iter()
            .zip(&stops[1..])
            .map(|(range, stop)| {
                let mut maker = RangeMaker::new(self, &version, sets, stop.clone());
                maker.range(range)?;
                Ok(maker.leaves)
            })
            .collect::<Result<_, BuildError>>()?;
        version.apex = match self.predecessor {
            Some(p) if p.apex.u.bytes() == apex.u.bytes() => p.apex.clone(),
            _ => apex,
        };
        let leaves = made.into_iter().flatten();
        let before = self.predecessor.map(|p| &p.tree);
        version.tree = Tree::from_items(settle_all(&version.kinds, before, leaves));
        Ok(version.assemble())
    }

    /// The topmost cut or DNAME above the first owner of a range.
    fn open_stop(
        &self,
        ranges: &[Vec<Slot>],
        range: &[Slot],
        apex_dname: bool,
    ) -> Option<(Cow<'_, [u8]>, bool)> {
        if apex_dname {
            return Some((Cow::Borrowed(&[]), true));
        }
        let first = self.key_of(range.first()?);
        for prefix in key::ancestors_from_apex(first).skip(1) {
            if prefix.len() == first.len() {
                break;
            }
            // The range that would hold the ancestor: the last one that begins at or before it.
            let r = ranges
                .iter()
                .rposition(|r| r.first().is_some_and(|s| self.key_of(s) <= prefix))?;
            let at = ranges[r].partition_point(|s| self.key_of(s) < prefix);
            let mut ns = false;
            let mut dname = false;
            for s in ranges[r][at..]
                .iter()
                .take_while(|s| self.key_of(s) == prefix)
            {
                match self.batches[s.batch as usize].record_at(s.rec).rtype {
                    Rtype::NS => ns = true,
                    Rtype::DNAME => dname = true,
                    _ => {}
                }
            }
            if ns || dname {
                return Some((Cow::Borrowed(prefix), !ns));
            }
        }
        None
    }
}

type SetIds = HashMap<u64, u32, std::hash::BuildHasherDefault<NoHash>>;

/// A record in its batch.
#[derive(Clone, Copy, Debug)]
struct Slot {
    batch: u32,
    owner: u32,
    rec: u32,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    hash: u64,
    range: u32,
    first: u32,
}

fn empty_leaf() -> ULeaf {
    LeafEncoder::default().finish()
}

/// Decides what owners are, that come in canonical order.
struct Roles<'b> {
    /// The cut or DNAME that is open, and whether it is a DNAME.
    stop: Option<(Cow<'b, [u8]>, bool)>,
}

impl<'b> Roles<'b> {
    /// What the next owner is; opens or closes the cut or DNAME above what follows.
    fn next(&mut self, key: &'b [u8], records: &[RawRecord<'_>]) -> Flags {
        let has = |t: Rtype| records.iter().any(|r| r.rtype == t);
        let mut flags = if key::is_wildcard(key) {
            Flags::WILD
        } else {
            0
        };
        if let Some((stop, _)) = &self.stop {
            if key::below(key, stop) {
                return Flags(flags | Flags::OCCLUDED);
            }
            self.stop = None;
        }
        let dname = has(Rtype::DNAME);
        if key.is_empty() {
            return Flags(if dname { flags | Flags::DNAME } else { flags });
        }
        let ns = has(Rtype::NS);
        if ns {
            let secure = has(Rtype::DS);
            flags |= Flags::CUT | if secure { Flags::SECURE } else { 0 };
        }
        if dname {
            flags |= Flags::DNAME;
        }
        if ns || dname {
            self.stop = Some((Cow::Borrowed(key), !ns));
        }
        Flags(flags)
    }

    /// What occludes an owner with these flags, that was given just now.
    fn above(&self, flags: Flags) -> Option<Above<'_>> {
        let (key, is_dname) = self.stop.as_ref().filter(|_| flags.is_occluded())?;
        Some(Above {
            key,
            is_dname: *is_dname,
        })
    }
}

/// Sorts the records of an owner, drops duplicates, makes the TTLs of each RRset equal.
fn normalise(inspector: &dyn Inspector, key: &[u8], records: &mut Vec<RawRecord<'_>>) {
    let order = |a: &RawRecord<'_>, b: &RawRecord<'_>| {
        a.rtype
            .cmp(&b.rtype)
            .then_with(|| canon::cmp_rdata(a.rtype, a.rdata, b.rdata))
    };
    let unique = records.is_sorted_by(|a, b| order(a, b) == Ordering::Less);
    if !unique {
        // Stable: of two equal records the first one stays.
        records.sort_by(order);
    }
    for run in records.chunk_by(|a, b| a.rtype == b.rtype) {
        if let Some(other) = run.iter().find(|r| r.ttl != run[0].ttl) {
            let used = run.iter().map(|r| r.ttl).min().unwrap_or(0);
            inspector.ttl_mismatch(key, run[0].rtype, used, &run[0], other);
        }
    }
    if !unique {
        let mut kept: Option<RawRecord<'_>> = None;
        records.retain(|r| match kept {
            Some(k) if order(&k, r) == Ordering::Equal => {
                inspector.duplicate(key, &k, r);
                false
            }
            _ => {
                kept = Some(*r);
                true
            }
        });
    }
    for run in records.chunk_by_mut(|a, b| a.rtype == b.rtype) {
        let used = run.iter().map(|r| r.ttl).min().unwrap_or(0);
        run.iter_mut().for_each(|r| r.ttl = used);
    }
}

/// Turns one range into leaves.
struct RangeMaker<'b, 'a> {
    b: &'b Builder<'a>,
    version: &'b ZoneVersion,
    sets: &'b SetIds,
    roles: Roles<'b>,
    enc: LeafEncoder,
    hasher: Hasher,
    wire: Vec<u8>,
    scratch: Vec<u8>,
    leaves: Vec<LeafRef>,
    /// First key of the predecessor's leaf after the one being filled.
    boundary: Option<Vec<u8>>,
    soas: usize,
    saw_apex_dname: bool,
}

impl<'b, 'a> RangeMaker<'b, 'a> {
    fn new(
        b: &'b Builder<'a>,
        version: &'b ZoneVersion,
        sets: &'b SetIds,
        stop: Option<(Cow<'b, [u8]>, bool)>,
    ) -> Self {
        RangeMaker {
            b,
            version,
            sets,
            roles: Roles { stop },
            enc: LeafEncoder::default(),
            hasher: Hasher::new(version.zone),
            wire: Vec::new(),
            scratch: Vec::new(),
            leaves: Vec::new(),
            boundary: None,
            soas: 0,
            saw_apex_dname: false,
        }
    }

    fn range(&mut self, range: &'b [Slot]) -> Result<(), BuildError> {
        let b = self.b;
        let mut records: Vec<RawRecord<'b>> = Vec::new();
        let mut at = 0;
        while at < range.len() {
            let end = b.owner_end(range, at);
            let batch = &b.batches[range[at].batch as usize];
            let (key, case) = (
                batch.key_at(range[at].owner),
                batch.case_at(range[at].owner),
            );
            records.clear();
            records.extend(
                range[at..end]
                    .iter()
                    .map(|s| b.batches[s.batch as usize].record_at(s.rec)),
            );
            normalise(b.inspector, key, &mut records);
            self.owner(key, case, &records)?;
            at = end;
        }
        self.close();
        Ok(())
    }

    fn owner(
        &mut self,
        key: &'b [u8],
        case: Option<&[u8]>,
        records: &[RawRecord<'_>],
    ) -> Result<(), BuildError> {
        let flags = self.roles.next(key, records);
        if key.is_empty() {
            self.soas = records.iter().filter(|r| r.rtype == Rtype::SOA).count();
            self.saw_apex_dname = flags.is_dname();
        }
        self.b.inspector.owner(&OwnerGroup {
            key,
            case,
            records,
            flags,
            above: self.roles.above(flags),
        });
        self.cut_before(key, records);
        let n_sets = records.chunk_by(|a, b| a.rtype == b.rtype).count();
        if n_sets > u16::MAX as usize - 1 {
            return Err(BuildError::TooManySets);
        }
        self.enc.owner(flags, key, case, n_sets as u32);
        self.wire.clear();
        key::push_wire(key, None, self.version.apex_lower.as_wire(), &mut self.wire);
        for run in records.chunk_by(|a, b| a.rtype == b.rtype) {
            self.set(run)?;
        }
        Ok(())
    }

    fn set(&mut self, run: &[RawRecord<'_>]) -> Result<(), BuildError> {
        let (rtype, ttl) = (run[0].rtype, run[0].ttl);
        let missing = BuildError::Inconsistent("kind not interned");
        let id = self.version.kinds.find(rtype, ttl).ok_or(missing.clone())?;
        let kind = self.version.kinds.get(id).ok_or(missing)?;
        for r in run {
            self.enc
                .add_fingerprint(self.hasher.record(&self.wire, rtype, ttl, r.rdata));
        }
        let octets: usize = run.iter().map(|r| r.rdata.len()).sum();
        if octets >= POOL_MIN || matches!(rtype, Rtype::NS | Rtype::MX) {
            let hash = run
                .iter()
                .fold(0u64, |h, r| h.wrapping_add(xxh3_64(r.rdata) | 1));
            if let Some(&pooled) = self.sets.get(&hash) {
                self.scratch.clear();
                encode_set(run.iter().map(|r| r.rdata), &mut self.scratch);
                if self.version.pool.get(pooled) == Some(&self.scratch[..]) {
                    self.enc.pooled(id, run.len() as u32, pooled);
                    return Ok(());
                }
            }
        }
        self.enc.set(id, kind, run.iter().map(|r| r.rdata));
        Ok(())
    }

    /// Closes the leaf before `key` where the predecessor's next leaf begins, or when it is full.
    fn cut_before(&mut self, key: &[u8], records: &[RawRecord<'_>]) {
        let octets: usize = records.iter().map(|r| r.rdata.len() + 4).sum();
        let full = if self.b.predecessor.is_some() {
            LEAF_MAX
        } else {
            LEAF_TARGET
        };
        let at_boundary = self.boundary.as_ref().is_some_and(|b| key >= b.as_slice());
        let too_big = self.enc.octets() >= full
            || self.enc.is_full()
            || (octets > LEAF_MAX && !self.enc.is_empty());
        if at_boundary || too_big {
            self.close();
        }
        if let Some(p) = self.b.predecessor
            && self.enc.is_empty()
        {
            let next = p.tree.locate(key).map_or(0, |i| i + 1);
            self.boundary = p.tree.get(next).map(|l| l.u.first_key().to_vec());
        }
    }

    fn close(&mut self) {
        if self.enc.is_empty() {
            return;
        }
        let leaf = self.enc.finish();
        if let Some(p) = self.b.predecessor {
            let old = p.tree.locate(leaf.first_key()).and_then(|i| p.tree.get(i));
            if let Some(old) = old
                && old.u.bytes() == leaf.bytes()
            {
                self.leaves.push(LeafRef {
                    s: None,
                    ..old.clone()
                });
                return;
            }
        }
        let index = usize::from(!leaf.first_key().is_empty());
        let sums = sum_pair(self.version, index, &leaf, None);
        self.leaves.push(LeafRef::new(leaf, None, sums));
    }
}

impl ZoneVersion {
    /// True if both versions hold the very same unsigned content, apex included.
    pub fn same_content_as(&self, other: &ZoneVersion) -> bool {
        if self.apex.u.bytes() != other.apex.u.bytes() || self.tree.len() != other.tree.len() {
            return false;
        }
        self.tree
            .iter()
            .zip(other.tree.iter())
            .all(|(a, b)| a.same_content(b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_knows_all_kinds_whatever_was_seen_lately() {
        let mut batch = RecordBatch::new();
        batch.owner(b"a\0", None);
        let (near, far) = (Rtype::A, Rtype(Rtype::A.0 + RECENT as u16));
        let kinds = [(near, 1), (far, 1), (near, 2), (near, 1), (Rtype::NS, 1)];
        for (rtype, ttl) in kinds {
            assert_eq!(batch.push(rtype, ttl, b"\0", 7), Ok(()));
        }
        assert_eq!(batch.kinds, BTreeSet::from(kinds));
        assert_eq!(batch.len(), 5);
    }

    #[test]
    fn records_come_back_as_pushed() {
        let mut batch = RecordBatch::new();
        batch.reserve(100, 2);
        batch.owner(b"a\0", Some(b"\x01"));
        let rdata = [9; 300];
        assert_eq!(
            batch.push(Rtype(0x1234), 0x0102_0304, &rdata, 0x0506_0708),
            Ok(())
        );
        let entry = batch.entries[0];
        assert_eq!(batch.key_at(entry.owner), b"a\0");
        assert_eq!(batch.case_at(entry.owner), Some(&b"\x01"[..]));
        let record = batch.record_at(entry.rec);
        assert_eq!((record.rtype, record.ttl), (Rtype(0x1234), 0x0102_0304));
        assert_eq!((record.loc, record.rdata), (0x0506_0708, &rdata[..]));
        let long = vec![0; 65536];
        assert_eq!(batch.push(Rtype::A, 1, &long, 0), Err(BatchFull));
        assert_eq!(batch.len(), 1);
    }
}
