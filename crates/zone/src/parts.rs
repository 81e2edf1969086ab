//! A version as parts of bytes, for files: leaves are written as they are in memory.
//!
//! | type | payload |
//! |---|---|
//! | 07 Meta | zone 16, id u64, of u64, made_at i64 ns, denial u8 (0 none, 1 NSEC, 2 NSEC3), NSEC ttl u32, serial u32, full fp 16, content fp 16, apex name |
//! | 01 Kinds | u32 n, {u16 type, u32 ttl}* |
//! | 03 Keys | u8 n, {u8 slot, id 16, u8 algorithm, u16 tag, u16 sig length, SHA-256 32}* |
//! | 04 PoolChunk | see [`crate::pool::Pool::chunk_bytes`] |
//! | 02 Bitmaps | u32 n, {u32 length, octets}* |
//! | 06 Chain | u8 algorithm, u16 iterations, u8 opt-out, u32 ttl, u8 salt length, salt |
//! | 05 Apex | u32 U length, U, u32 S length, S (0 = none) |
//! | 10 Leaves | {u32 length, U}* up to 1 MiB |
//! | 11 Sidecars | {u32 leaf index, u32 length, S}* up to 1 MiB |
//! | 12 Blocks | {u32 length, D}* up to 1 MiB |
//! | 13 Sums | u32 n, sums of each leaf, u32 n, sums of each block; of large versions only |
//!
//! Sums are counts and masks that the records of a leaf or block add up to, so that a large version can
//! be served before all its records have been read again: [`ZoneVersion::import_first`].

use std::sync::Arc;

use cascade_time::Timestamp;
use rayon::prelude::*;
use thiserror::Error;

use crate::block::{
    Bitmaps, BlockRef, BlockSums, ChainContext, DBlock, Nsec3Params, adopt_block, believe_block,
};
use crate::codec::Reader;
use crate::denial::{Chain, Denial};
use crate::fingerprint::Fingerprint;
use crate::id::{KeyId, Serial, VersionId, ZoneId};
use crate::leaf::{Kinds, ULeaf};
use crate::name::Name;
use crate::pool::Pool;
use crate::rtype::Rtype;
use crate::sidecar::SLeaf;
use crate::slots::{KeySlot, KeyTable};
use crate::sums::{LeafSums, is_plain, sum_pair};
use crate::tree::{Item, Tree};
use crate::version::{LeafRef, ZoneVersion};

pub const KINDS: u8 = 0x01;
pub const BITMAPS: u8 = 0x02;
pub const KEYS: u8 = 0x03;
pub const POOL_CHUNK: u8 = 0x04;
pub const APEX: u8 = 0x05;
pub const CHAIN: u8 = 0x06;
pub const META: u8 = 0x07;
pub const LEAVES: u8 = 0x10;
pub const SIDECARS: u8 = 0x11;
pub const BLOCKS: u8 = 0x12;
pub const SUMS: u8 = 0x13;

/// Versions of so many leaves or blocks are written with their sums.
const SUMS_FROM: usize = 64;

/// A part is closed when it reaches this size.
const PART_MAX: usize = 1 << 20;

/// What is wrong with parts that were read back.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ImportError {
    #[error("part {0:#04x} is missing")]
    Missing(u8),
    #[error("part {kind:#04x} is malformed: {what}")]
    Malformed { kind: u8, what: &'static str },
    /// The unsigned content is damaged.
    #[error("content of leaf {0} does not have its fingerprint")]
    Content(usize),
    /// Content is good, signatures or denial records are damaged.
    #[error("signatures of unit {0} do not have their fingerprint")]
    Signatures(usize),
    #[error("the zone as a whole does not have its fingerprint")]
    Fingerprint,
}

impl ZoneVersion {
    /// Hands over the version in file order.
    pub fn export_parts(&self, sink: &mut dyn FnMut(u8, &[u8])) {
        sink(META, &self.meta_part());
        let mut out = Vec::new();
        out.extend_from_slice(&(self.kinds.len() as u32).to_le_bytes());
        for k in self.kinds.iter() {
            out.extend_from_slice(&k.rtype.0.to_le_bytes());
            out.extend_from_slice(&k.ttl.to_le_bytes());
        }
        sink(KINDS, &out);
        sink(KEYS, &self.keys_part());
        for i in 0..self.pool.chunk_count() {
            if let Some(chunk) = self.pool.chunk_bytes(i) {
                sink(POOL_CHUNK, &chunk);
            }
        }
        if let Some(chain) = &self.chain {
            self.chain_parts(chain, sink);
        }
        out.clear();
        push_sized(self.apex.u.bytes(), &mut out);
        push_sized(self.apex.s.as_ref().map_or(&[], |s| s.bytes()), &mut out);
        sink(APEX, &out);
        let mut leaves = Grouped::new(LEAVES);
        for leaf in self.tree.iter() {
            leaves.push(&[], leaf.u.bytes(), sink);
        }
        leaves.close(sink);
        let mut sidecars = Grouped::new(SIDECARS);
        for (i, leaf) in self.tree.iter().enumerate() {
            if let Some(s) = &leaf.s {
                sidecars.push(&(i as u32).to_le_bytes(), s.bytes(), sink);
            }
        }
        sidecars.close(sink);
        let mut blocks = Grouped::new(BLOCKS);
        for b in self.chain.iter().flat_map(|c| c.tree.iter()) {
            blocks.push(&[], b.block.bytes(), sink);
        }
        blocks.close(sink);
        if let Some(sums) = self.sums_part() {
            sink(SUMS, &sums);
        }
    }

    /// `None`: it is small, or sums do not follow from what else stands in the file.
    fn sums_part(&self) -> Option<Vec<u8>> {
        let blocks = self.chain.as_ref().map_or(0, |c| c.tree.len());
        if self.tree.len() + blocks < SUMS_FROM || !is_plain(self) {
            return None;
        }
        let mut out = (self.tree.len() as u32).to_le_bytes().to_vec();
        for leaf in self.tree.iter() {
            leaf.sums.push(&mut out)?;
        }
        out.extend_from_slice(&(blocks as u32).to_le_bytes());
        for block in self.chain.iter().flat_map(|c| c.tree.iter()) {
            block.sums().push(&mut out)?;
        }
        Some(out)
    }

    pub(crate) fn meta_part(&self) -> Vec<u8> {
        let mut out = self.zone.0.to_vec();
        out.extend_from_slice(&self.id.0.to_le_bytes());
        out.extend_from_slice(&self.of.0.to_le_bytes());
        out.extend_from_slice(&self.made_at.nanos().to_le_bytes());
        let (kind, ttl) = match &self.denial {
            Denial::None => (0, 0),
            Denial::Nsec { ttl } => (1, *ttl),
            Denial::Nsec3 { ttl, .. } => (2, *ttl),
        };
        out.push(kind);
        out.extend_from_slice(&ttl.to_le_bytes());
        out.extend_from_slice(&self.serial.0.to_le_bytes());
        out.extend_from_slice(&self.sums.full.to_bytes());
        out.extend_from_slice(&self.sums.content.to_bytes());
        out.extend_from_slice(self.apex_name.as_wire());
        out
    }

    pub(crate) fn keys_part(&self) -> Vec<u8> {
        let mut out = vec![self.keys.iter().count() as u8];
        for (slot, k) in self.keys.iter() {
            out.push(slot);
            out.extend_from_slice(&k.id.0);
            out.push(k.algorithm);
            out.extend_from_slice(&k.tag.to_le_bytes());
            out.extend_from_slice(&k.sig_len.to_le_bytes());
            out.extend_from_slice(&k.dnskey_sha256);
        }
        out
    }

    pub(crate) fn chain_parts(&self, chain: &Chain, sink: &mut dyn FnMut(u8, &[u8])) {
        let mut out = (chain.bitmaps.len() as u32).to_le_bytes().to_vec();
        for b in chain.bitmaps.iter() {
            push_sized(b, &mut out);
        }
        sink(BITMAPS, &out);
        sink(CHAIN, &chain_head_part(chain));
    }

    /// Puts a version together from parts in file order. Every length, order, id and fingerprint
    /// is checked; nothing panics on damaged bytes. Works on the current rayon pool.
    pub fn import_parts<B: AsRef<[u8]>>(
        parts: impl Iterator<Item = (u8, B)>,
    ) -> Result<ZoneVersion, ImportError> {
        import(parts, false).map(|first| first.version)
    }

    /// The same, but a large version is believed what it says its leaves and blocks add up to, if that
    /// gives the fingerprint of the whole. All lengths, orders and ids are checked. For octets whose
    /// check sums fit, and that somebody waits for: [`recount`](ZoneVersion::recount) does the rest.
    pub fn import_first<B: AsRef<[u8]>>(
        parts: impl Iterator<Item = (u8, B)>,
    ) -> Result<Imported, ImportError> {
        import(parts, true)
    }

    /// Reads all records and compares them with what leaves and blocks say that they add up to, on the
    /// current rayon pool.
    ///
    /// # Errors
    /// The first unit that does not fit.
    pub fn recount(&self) -> Result<(), ImportError> {
        let leaf = |(i, leaf): (usize, &LeafRef)| {
            let again = adopt_checked(self, i, leaf.u.clone(), leaf.s.clone())?;
            match again.sums == leaf.sums {
                true => Ok(()),
                false => Err(ImportError::Content(i)),
            }
        };
        leaf((0, &self.apex))?;
        let leaves: Vec<(usize, &LeafRef)> = self
            .tree
            .iter()
            .enumerate()
            .map(|(i, l)| (i + 1, l))
            .collect();
        leaves.into_par_iter().try_for_each(leaf)?;
        let Some(chain) = &self.chain else {
            return Ok(());
        };
        let ctx = chain.context(self);
        let blocks: Vec<(usize, &BlockRef)> = chain.tree.iter().enumerate().collect();
        blocks.into_par_iter().try_for_each(|(i, b)| {
            let again = adopt_block(b.block.clone(), &ctx);
            let same = again.is_some_and(|again| again.sums() == b.sums());
            same.then_some(()).ok_or(ImportError::Signatures(i))
        })
    }
}

/// A version that was read back.
#[derive(Debug)]
pub struct Imported {
    pub version: ZoneVersion,
    /// Its records have been compared with what they should add up to.
    pub is_checked: bool,
}

fn import<B: AsRef<[u8]>>(
    parts: impl Iterator<Item = (u8, B)>,
    first: bool,
) -> Result<Imported, ImportError> {
    let parts: Vec<(u8, B)> = parts.collect();
    let mut got = Parts::default();
    for (kind, bytes) in &parts {
        let kind = *kind;
        got.take(kind, bytes.as_ref())
            .map_err(|what| ImportError::Malformed { kind, what })?;
    }
    got.assemble(first)
}

pub(crate) fn chain_head_part(chain: &Chain) -> Vec<u8> {
    let p = &chain.params;
    let mut out = vec![p.algorithm];
    out.extend_from_slice(&p.iterations.to_le_bytes());
    out.push(p.opt_out as u8);
    out.extend_from_slice(&chain.ttl.to_le_bytes());
    out.push(p.salt.len() as u8);
    out.extend_from_slice(&p.salt);
    out
}

pub(crate) fn push_sized(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Collects records of one kind into parts.
pub(crate) struct Grouped {
    kind: u8,
    buf: Vec<u8>,
}

impl Grouped {
    pub(crate) fn new(kind: u8) -> Self {
        Grouped {
            kind,
            buf: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, head: &[u8], bytes: &[u8], sink: &mut dyn FnMut(u8, &[u8])) {
        if !self.buf.is_empty() && self.buf.len() + bytes.len() > PART_MAX {
            self.close(sink);
        }
        self.buf.extend_from_slice(head);
        push_sized(bytes, &mut self.buf);
    }

    /// A record that is framed already.
    pub(crate) fn push_raw(&mut self, record: &[u8], sink: &mut dyn FnMut(u8, &[u8])) {
        if !self.buf.is_empty() && self.buf.len() + record.len() > PART_MAX {
            self.close(sink);
        }
        self.buf.extend_from_slice(record);
    }

    pub(crate) fn close(&mut self, sink: &mut dyn FnMut(u8, &[u8])) {
        if !self.buf.is_empty() {
            sink(self.kind, &self.buf);
            self.buf.clear();
        }
    }
}

#[derive(Clone)]
pub(crate) struct Meta {
    pub(crate) zone: ZoneId,
    pub(crate) id: VersionId,
    pub(crate) of: VersionId,
    pub(crate) made_at: Timestamp,
    pub(crate) denial: (u8, u32),
    pub(crate) serial: Serial,
    pub(crate) full: Fingerprint,
    pub(crate) content: Fingerprint,
    pub(crate) apex: Name,
}

/// Parts as read, not yet checked against each other.
#[derive(Default)]
struct Parts<'a> {
    meta: Option<Meta>,
    kinds: Kinds,
    keys: KeyTable,
    pool: Pool,
    bitmaps: Option<Bitmaps>,
    chain: Option<(Nsec3Params, u32)>,
    apex: Option<(&'a [u8], &'a [u8])>,
    leaves: Vec<&'a [u8]>,
    sidecars: Vec<(u32, &'a [u8])>,
    blocks: Vec<&'a [u8]>,
    sums: Option<&'a [u8]>,
}

type Taken<T> = Result<T, &'static str>;

impl<'a> Parts<'a> {
    fn take(&mut self, kind: u8, bytes: &'a [u8]) -> Taken<()> {
        let mut r = Reader::new(bytes);
        const SHORT: &str = "cut short";
        match kind {
            META => self.meta = Some(meta(&mut r).ok_or(SHORT)?),
            KINDS => {
                let n = r.u32().ok_or(SHORT)?;
                for i in 0..n {
                    let (t, ttl) = (r.u16().ok_or(SHORT)?, r.u32().ok_or(SHORT)?);
                    if self.kinds.intern(Rtype(t), ttl) != i {
                        return Err("a kind twice");
                    }
                }
            }
            KEYS => {
                for _ in 0..r.u8().ok_or(SHORT)? {
                    let (slot, key) = key_slot(&mut r).ok_or(SHORT)?;
                    self.keys.restore(slot, key).ok_or("bad key slot")?;
                }
            }
            POOL_CHUNK => self.pool.push_chunk(bytes).ok_or("bad pool chunk")?,
            BITMAPS => {
                let mut all = Bitmaps::default();
                for i in 0..r.u32().ok_or(SHORT)? {
                    if all.intern(sized(&mut r).ok_or(SHORT)?) != i {
                        return Err("a bitmap twice");
                    }
                }
                self.bitmaps = Some(all);
            }
            CHAIN => self.chain = Some(chain_head(&mut r).ok_or(SHORT)?),
            APEX => {
                let u = sized(&mut r).ok_or(SHORT)?;
                self.apex = Some((u, sized(&mut r).ok_or(SHORT)?));
            }
            LEAVES => {
                while !r.is_empty() {
                    self.leaves.push(sized(&mut r).ok_or(SHORT)?);
                }
            }
            SIDECARS => {
                while !r.is_empty() {
                    let i = r.u32().ok_or(SHORT)?;
                    self.sidecars.push((i, sized(&mut r).ok_or(SHORT)?));
                }
            }
            BLOCKS => {
                while !r.is_empty() {
                    self.blocks.push(sized(&mut r).ok_or(SHORT)?);
                }
            }
            SUMS => self.sums = Some(bytes),
            _ => return Err("unknown part"),
        }
        Ok(())
    }

    /// `first`: without reading all records, where that can be.
    fn assemble(self, first: bool) -> Result<Imported, ImportError> {
        let m = self.meta.ok_or(ImportError::Missing(META))?;
        let (apex_u, apex_s) = self.apex.ok_or(ImportError::Missing(APEX))?;
        let mal = |kind| move |what| ImportError::Malformed { kind, what };
        let pool_len = self.pool.len();
        let apex_u = ULeaf::decode(apex_u, &self.kinds, pool_len).map_err(mal(APEX))?;
        if apex_u.owner_count() != 1 || !apex_u.first_key().is_empty() {
            return Err(ImportError::Malformed {
                kind: APEX,
                what: "not one apex",
            });
        }
        let denial = match (m.denial, &self.chain) {
            ((0, _), None) => Denial::None,
            ((1, ttl), None) => Denial::Nsec { ttl },
            ((2, ttl), Some((params, t))) if *t == ttl => Denial::Nsec3 {
                params: params.clone(),
                ttl,
            },
            _ => {
                return Err(ImportError::Malformed {
                    kind: META,
                    what: "denial and chain differ",
                });
            }
        };
        let version = ZoneVersion {
            zone: m.zone,
            id: m.id,
            of: m.of,
            apex_lower: Arc::new(m.apex.to_lowercase()),
            apex_name: Arc::new(m.apex),
            made_at: m.made_at,
            apex: LeafRef::new(apex_u.clone(), None, LeafSums::default()),
            tree: Tree::default(),
            kinds: Arc::new(self.kinds),
            pool: Arc::new(self.pool),
            keys: Arc::new(self.keys),
            denial,
            chain: None,
            sums: LeafSums::default(),
            serial: m.serial,
        };
        let mut sidecars: Vec<Option<&[u8]>> = vec![None; self.leaves.len()];
        for (i, s) in self.sidecars {
            *sidecars.get_mut(i as usize).ok_or(ImportError::Malformed {
                kind: SIDECARS,
                what: "of no leaf",
            })? = Some(s);
        }
        let apex_s = (!apex_s.is_empty()).then_some(apex_s);
        let apex = adopt(&version, 0, apex_u, apex_s)?;
        let known = match self.sums.filter(|_| first && is_plain(&version)) {
            Some(bytes) => Some(
                known_sums(bytes, self.leaves.len(), self.blocks.len())
                    .ok_or_else(|| mal(SUMS)("not of these leaves and blocks"))?,
            ),
            None => None,
        };
        let (leaf_sums, block_sums) = known.unzip();
        let is_checked = leaf_sums.is_none();
        let leaves: Vec<LeafRef> = self
            .leaves
            .into_par_iter()
            .zip(sidecars)
            .enumerate()
            .map_init(Vec::new, |sets, (i, (u, s))| {
                let u = ULeaf::decode_counting(u, &version.kinds, pool_len, sets)
                    .map_err(mal(LEAVES))?;
                match leaf_sums.as_ref().map(|s| &s[i]) {
                    Some(sums) => believe(&version, i + 1, u, s, sets, sums.clone()),
                    None => adopt(&version, i + 1, u, s),
                }
            })
            .collect::<Result<_, _>>()?;
        check_order(&version, &leaves)?;
        let chain = match self.chain {
            None => None,
            Some((params, ttl)) => {
                let bitmaps = self.bitmaps.ok_or(ImportError::Missing(BITMAPS))?;
                let blocks = (self.blocks, block_sums);
                Some(chain_of(&version, params, ttl, bitmaps, blocks)?)
            }
        };
        let version = ZoneVersion {
            apex,
            tree: Tree::from_items(leaves),
            chain: chain.map(Box::new),
            ..version
        }
        .assemble();
        if version.sums.full != m.full
            || version.sums.content != m.content
            || version.serial != m.serial
        {
            return Err(ImportError::Fingerprint);
        }
        Ok(Imported {
            version,
            is_checked,
        })
    }
}

/// What the leaves and blocks of a file add up to, but for their fingerprints.
fn known_sums(
    bytes: &[u8],
    leaves: usize,
    blocks: usize,
) -> Option<(Vec<LeafSums>, Vec<BlockSums>)> {
    let mut r = Reader::new(bytes);
    let count = |r: &mut Reader<'_>, n: usize| (r.u32()? as usize == n).then_some(());
    count(&mut r, leaves)?;
    let of_leaves: Option<_> = (0..leaves).map(|_| LeafSums::read(&mut r)).collect();
    count(&mut r, blocks)?;
    let of_blocks: Option<_> = (0..blocks).map(|_| BlockSums::read(&mut r)).collect();
    r.is_empty().then_some((of_leaves?, of_blocks?))
}

/// A pair as it says it is. `sets`: how many each owner has.
fn believe(
    v: &ZoneVersion,
    index: usize,
    u: ULeaf,
    s: Option<&[u8]>,
    sets: &[u32],
    mut sums: LeafSums,
) -> Result<LeafRef, ImportError> {
    let s = s.map(SLeaf::decode).transpose();
    let s = s.map_err(|what| ImportError::Malformed {
        kind: SIDECARS,
        what,
    })?;
    sums.content = u.fingerprint();
    sums.full = sums.content;
    if let Some(s) = &s {
        check_sets(v, sets, s).ok_or(ImportError::Signatures(index))?;
        sums.full.add(s.fingerprint());
    }
    Ok(LeafRef::new(u, s, sums))
}

/// Leaves must follow each other in order, and none may begin with the apex.
fn check_order(version: &ZoneVersion, leaves: &[LeafRef]) -> Result<(), ImportError> {
    let last_key = |l: &LeafRef| {
        let group = l.u.restart_count().saturating_sub(1);
        let mut it = l.u.iter_from_restart(group, &version.kinds);
        while it.next().is_some() {}
        it.key
    };
    let first_ok = leaves.first().is_none_or(|l| !l.u.first_key().is_empty());
    let ok = leaves
        .par_windows(2)
        .all(|w| last_key(&w[0]).as_slice() < w[1].u.first_key());
    if first_ok && ok {
        return Ok(());
    }
    Err(ImportError::Malformed {
        kind: LEAVES,
        what: "leaves out of order",
    })
}

/// Checks a pair against its fingerprints.
pub(crate) fn adopt(
    v: &ZoneVersion,
    index: usize,
    u: ULeaf,
    s: Option<&[u8]>,
) -> Result<LeafRef, ImportError> {
    let bad = |what| ImportError::Malformed {
        kind: SIDECARS,
        what,
    };
    match s.map(SLeaf::decode).transpose() {
        Ok(s) => adopt_checked(v, index, u, s),
        // Content is judged first, whatever becomes of its signatures.
        Err(what) => content_sums(v, index, &u).and(Err(bad(what))),
    }
}

fn adopt_checked(
    v: &ZoneVersion,
    index: usize,
    u: ULeaf,
    s: Option<SLeaf>,
) -> Result<LeafRef, ImportError> {
    let Some(s) = s else {
        let bare = content_sums(v, index, &u)?;
        return Ok(LeafRef::new(u, None, bare));
    };
    if check_entries(v, &u, &s).is_none() {
        content_sums(v, index, &u)?;
        return Err(ImportError::Signatures(index));
    }
    // In one pass where content and what a signer made can be told apart by their types.
    let sums = sum_pair(v, index, &u, Some(&s));
    let content = match index != 0 && is_plain(v) {
        true => sums.content,
        false => sum_pair(v, index, &u, None).full,
    };
    if content != u.fingerprint() {
        return Err(ImportError::Content(index));
    }
    let mut made = sums.full;
    made.sub(content);
    if made != s.fingerprint() {
        return Err(ImportError::Signatures(index));
    }
    Ok(LeafRef::new(u, Some(s), sums))
}

fn content_sums(v: &ZoneVersion, index: usize, u: &ULeaf) -> Result<LeafSums, ImportError> {
    let bare = sum_pair(v, index, u, None);
    match bare.full == u.fingerprint() {
        true => Ok(bare),
        false => Err(ImportError::Content(index)),
    }
}

/// Entries name owners, sets and keys that exist.
fn check_entries(v: &ZoneVersion, u: &ULeaf, s: &SLeaf) -> Option<()> {
    let mut sets = Vec::with_capacity(u.owner_count());
    let mut it = u.iter(&v.kinds);
    while let Some(o) = it.next() {
        sets.push(o.n_sets);
    }
    check_sets(v, &sets, s)
}

/// The same, of owners that have so many sets.
fn check_sets(v: &ZoneVersion, sets: &[u32], s: &SLeaf) -> Option<()> {
    let view = s.view();
    for i in 0..view.len() {
        let e = view.entry(i);
        let n = *sets.get(e.ordinal as usize)?;
        if e.set != crate::sidecar::NSEC_SET && e.set as u32 >= n {
            return None;
        }
        v.keys.get(view.key(e.key).0)?;
    }
    Some(())
}

fn chain_of(
    v: &ZoneVersion,
    params: Nsec3Params,
    ttl: u32,
    bitmaps: Bitmaps,
    (blocks, sums): (Vec<&[u8]>, Option<Vec<BlockSums>>),
) -> Result<Chain, ImportError> {
    let ctx = ChainContext {
        zone: v.zone,
        apex: &v.apex_name,
        params: &params,
        bitmaps: &bitmaps,
        keys: &v.keys,
    };
    let refs: Vec<BlockRef> = blocks
        .into_par_iter()
        .enumerate()
        .map(|(i, b)| {
            let block = DBlock::decode(b, &bitmaps)
                .map_err(|what| ImportError::Malformed { kind: BLOCKS, what })?;
            match sums.as_ref().map(|s| &s[i]) {
                Some(sums) => Ok(believe_block(block, sums.clone())),
                None => adopt_block(block, &ctx).ok_or(ImportError::Signatures(i)),
            }
        })
        .collect::<Result<_, _>>()?;
    let linked = refs
        .iter()
        .zip(refs.iter().cycle().skip(1))
        .all(|(a, b)| a.block.next()[..] == *b.first_key());
    let ordered = refs.windows(2).all(|w| w[0].first_key() < w[1].first_key());
    if !linked || !ordered {
        return Err(ImportError::Malformed {
            kind: BLOCKS,
            what: "blocks do not link",
        });
    }
    Ok(Chain::new(params, ttl, bitmaps, refs))
}

pub(crate) fn sized<'a>(r: &mut Reader<'a>) -> Option<&'a [u8]> {
    let n = r.u32()?;
    r.take(n as usize)
}

pub(crate) fn meta(r: &mut Reader<'_>) -> Option<Meta> {
    Some(Meta {
        zone: ZoneId(r.array()?),
        id: VersionId(r.u64()?),
        of: VersionId(r.u64()?),
        made_at: Timestamp::from_nanos(r.u64()? as i64),
        denial: (r.u8()?, r.u32()?),
        serial: Serial(r.u32()?),
        full: Fingerprint::from_bytes(r.array()?),
        content: Fingerprint::from_bytes(r.array()?),
        apex: Name::from_wire(r.rest()).ok()?,
    })
}

pub(crate) fn key_slot(r: &mut Reader<'_>) -> Option<(u8, KeySlot)> {
    let slot = r.u8()?;
    Some((
        slot,
        KeySlot {
            id: KeyId(r.array()?),
            algorithm: r.u8()?,
            tag: r.u16()?,
            sig_len: r.u16()?,
            dnskey_sha256: r.array()?,
        },
    ))
}

pub(crate) fn chain_head(r: &mut Reader<'_>) -> Option<(Nsec3Params, u32)> {
    let (algorithm, iterations, opt_out, ttl) = (r.u8()?, r.u16()?, r.u8()? != 0, r.u32()?);
    let n = r.u8()?;
    let salt = r.take(n as usize)?.to_vec();
    Some((
        Nsec3Params {
            algorithm,
            iterations,
            salt,
            opt_out,
        },
        ttl,
    ))
}
