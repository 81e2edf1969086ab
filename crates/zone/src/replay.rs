//! A version in terms of the one before it, for journals: leaves and blocks that differ, each as a
//! delta of its octets. The cost is that of what differs.
//!
//! | type | payload |
//! |---|---|
//! | 30 Head | base id u64, base full fp 16 |
//! | 07 Meta, 03 Keys, 06 Chain | as in [`crate::parts`] |
//! | 31 MoreKinds | u32 how many stay, {u16 type, u32 ttl}* |
//! | 32 MorePool | u32 first, {u32 length, set}* |
//! | 33 MoreBitmaps | u32 first, {u32 length, octets}* |
//! | 34 Apex | {u32 length, delta of U}, {u32 length, delta of S} (0 = none) |
//! | 35 Gone | {u32 length, first key}* |
//! | 36 Leaves | {u32 length, first key}, {.., first key of the reference or nothing}, {.., delta of U}, {.., delta of S} (0 = none) |
//! | 37 GoneBlocks | first hash 20 * |
//! | 38 Blocks | reference's first hash 20, {u32 length, delta} |
//! | 02 Bitmaps, 12 Blocks | as in [`crate::parts`], when the chain is another one |
//!
//! Replaying keeps octets of touched leaves only, and reads them once, at the end: a thousand
//! changes of one leaf cost a thousand deltas and one check.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use rayon::prelude::*;

use crate::block::{
    Bitmaps, BlockRef, ChainContext, DBlock, Hash, Nsec3Params, adopt_block, raw_first_hash,
};
use crate::codec::Reader;
use crate::delta::{apply_delta, push_delta};
use crate::denial::{Chain, Denial};
use crate::leaf::{Kinds, ULeaf};
use crate::parts::{
    self, BITMAPS, BLOCKS, CHAIN, Grouped, ImportError, KEYS, META, Meta, adopt, chain_head,
    key_slot, meta, push_sized, sized,
};
use crate::pool::{Pool, check_set};
use crate::rtype::Rtype;
use crate::slots::KeyTable;
use crate::sums::LeafSums;
use crate::tree::{Item, Tree};
use crate::version::{LeafRef, ZoneVersion};

pub const HEAD: u8 = 0x30;
pub const MORE_KINDS: u8 = 0x31;
pub const MORE_POOL: u8 = 0x32;
pub const MORE_BITMAPS: u8 = 0x33;
pub const PATCH_APEX: u8 = 0x34;
pub const GONE: u8 = 0x35;
pub const PATCH_LEAVES: u8 = 0x36;
pub const GONE_BLOCKS: u8 = 0x37;
pub const PATCH_BLOCKS: u8 = 0x38;

impl ZoneVersion {
    /// Hands over what leads from `base` to `self`. `false`, and nothing handed over: the two do
    /// not stand on common tables, and `self` has to be written whole.
    pub fn export_patch(&self, base: &ZoneVersion, sink: &mut dyn FnMut(u8, &[u8])) -> bool {
        if self.zone != base.zone
            || self.apex_name != base.apex_name
            || !base.pool.is_prefix_of(&self.pool)
            || !same_slots(&base.keys, &self.keys)
        {
            return false;
        }
        let mut out = base.id.0.to_le_bytes().to_vec();
        out.extend_from_slice(&base.sums.full.to_bytes());
        sink(HEAD, &out);
        sink(META, &self.meta_part());
        self.more_tables(base, sink);
        sink(KEYS, &self.keys_part());
        out.clear();
        push_pair(Some(&base.apex), &self.apex, &mut out);
        sink(PATCH_APEX, &out);
        self.changed_leaves(base, sink);
        self.changed_chain(base, sink);
        true
    }

    fn more_tables(&self, base: &ZoneVersion, sink: &mut dyn FnMut(u8, &[u8])) {
        // Leaves that are kept use kinds that both have; those of the apex may stand elsewhere.
        let pairs = self.kinds.iter().zip(base.kinds.iter());
        let first = pairs.take_while(|(a, b)| a == b).count();
        if self.kinds.len() > first || base.kinds.len() > first {
            let mut out = (first as u32).to_le_bytes().to_vec();
            for k in self.kinds.iter().skip(first) {
                out.extend_from_slice(&k.rtype.0.to_le_bytes());
                out.extend_from_slice(&k.ttl.to_le_bytes());
            }
            sink(MORE_KINDS, &out);
        }
        let first = base.pool.len();
        if self.pool.len() > first {
            let mut out = (first as u32).to_le_bytes().to_vec();
            for set in (first..self.pool.len()).filter_map(|i| self.pool.get(i as u32)) {
                push_sized(set, &mut out);
            }
            sink(MORE_POOL, &out);
        }
    }

    fn changed_leaves(&self, base: &ZoneVersion, sink: &mut dyn FnMut(u8, &[u8])) {
        let (old, new) = base.tree.unshared(&self.tree);
        let kept: HashSet<&[u8]> = new.iter().map(|l| l.first_key()).collect();
        let mut gone = Grouped::new(GONE);
        for leaf in old.iter().filter(|l| !kept.contains(l.first_key())) {
            gone.push(&[], leaf.first_key(), sink);
        }
        gone.close(sink);
        let mut leaves = Grouped::new(PATCH_LEAVES);
        let mut one = Vec::new();
        for leaf in new {
            let near = base.tree.locate(leaf.first_key()).unwrap_or(0);
            let reference = base.tree.get(near);
            one.clear();
            push_sized(leaf.first_key(), &mut one);
            push_sized(reference.map_or(&[], |r| r.first_key()), &mut one);
            push_pair(reference, leaf, &mut one);
            leaves.push_raw(&one, sink);
        }
        leaves.close(sink);
    }

    fn changed_chain(&self, base: &ZoneVersion, sink: &mut dyn FnMut(u8, &[u8])) {
        let Some(chain) = &self.chain else { return };
        let Some(old) = base.chain.as_ref().filter(|c| goes_on(c, chain)) else {
            self.chain_parts(chain, sink);
            let mut blocks = Grouped::new(BLOCKS);
            for b in chain.tree.iter() {
                blocks.push(&[], b.block.bytes(), sink);
            }
            blocks.close(sink);
            return;
        };
        sink(CHAIN, &parts::chain_head_part(chain));
        let first = old.bitmaps.len();
        if chain.bitmaps.len() > first {
            let mut out = (first as u32).to_le_bytes().to_vec();
            for b in chain.bitmaps.iter().skip(first) {
                push_sized(b, &mut out);
            }
            sink(MORE_BITMAPS, &out);
        }
        let (left, right) = old.tree.unshared(&chain.tree);
        let kept: HashSet<&[u8]> = right.iter().map(|b| b.first_key()).collect();
        let mut gone = Grouped::new(GONE_BLOCKS);
        for b in left.iter().filter(|b| !kept.contains(b.first_key())) {
            gone.push_raw(b.first_key(), sink);
        }
        gone.close(sink);
        let mut blocks = Grouped::new(PATCH_BLOCKS);
        let (mut one, mut delta) = (Vec::new(), Vec::new());
        for b in right {
            let near = old.tree.locate(b.first_key()).unwrap_or(0);
            // A chain that goes on has blocks.
            let Some(reference) = old.tree.get(near) else {
                continue;
            };
            one.clear();
            delta.clear();
            one.extend_from_slice(reference.first_key());
            push_delta(reference.block.bytes(), b.block.bytes(), &mut delta);
            push_sized(&delta, &mut one);
            blocks.push_raw(&one, sink);
        }
        blocks.close(sink);
    }
}

/// No slot that both have is another key's.
fn same_slots(old: &KeyTable, new: &KeyTable) -> bool {
    old.iter()
        .all(|(slot, k)| new.get(slot).is_none_or(|n| n == k))
}

/// Blocks of the one mean the same in the other.
fn goes_on(old: &Chain, new: &Chain) -> bool {
    let common = new.bitmaps.iter().take(old.bitmaps.len());
    old.params == new.params && !old.tree.is_empty() && common.eq(old.bitmaps.iter())
}

fn push_pair(reference: Option<&LeafRef>, leaf: &LeafRef, out: &mut Vec<u8>) {
    let mut delta = Vec::new();
    push_delta(
        reference.map_or(&[], |r| r.u.bytes()),
        leaf.u.bytes(),
        &mut delta,
    );
    push_sized(&delta, out);
    delta.clear();
    if let Some(s) = &leaf.s {
        let old = reference.and_then(|r| r.s.as_ref());
        push_delta(old.map_or(&[], |s| s.bytes()), s.bytes(), &mut delta);
    }
    push_sized(&delta, out);
}

/// Octets of a leaf and its sidecar, not yet read.
type RawPair = (Vec<u8>, Option<Vec<u8>>);

/// A version to which patches are applied, one after the other.
pub struct Replay {
    base: Arc<ZoneVersion>,
    /// What the version is after the patches so far.
    meta: Option<Meta>,
    kinds: Kinds,
    pool: Arc<Pool>,
    keys: KeyTable,
    apex: RawPair,
    /// By first key; `None`: a leaf of the base that is gone.
    leaves: BTreeMap<Vec<u8>, Option<RawPair>>,
    chain: Option<RawChain>,
}

struct RawChain {
    params: Nsec3Params,
    ttl: u32,
    bitmaps: Bitmaps,
    /// By first hash; `None`: gone.
    blocks: BTreeMap<Hash, Option<Vec<u8>>>,
    /// All blocks are here, none is the base's.
    whole: bool,
}

/// What one patch puts in place of what was there; `None`: nothing.
#[derive(Default)]
struct Fresh {
    leaves: Vec<(Vec<u8>, Option<RawPair>)>,
    blocks: Vec<(Hash, Option<Vec<u8>>)>,
}

type Taken<T> = Result<T, &'static str>;
const SHORT: &str = "cut short";

impl Replay {
    pub fn new(base: Arc<ZoneVersion>) -> Self {
        Replay {
            meta: None,
            kinds: Kinds::clone(&base.kinds),
            pool: base.pool.clone(),
            keys: KeyTable::clone(&base.keys),
            apex: raw(&base.apex),
            leaves: BTreeMap::new(),
            chain: base.chain.as_ref().map(|c| RawChain {
                params: c.params.clone(),
                ttl: c.ttl,
                bitmaps: Bitmaps::clone(&c.bitmaps),
                blocks: BTreeMap::new(),
                whole: false,
            }),
            base,
        }
    }

    /// Takes over one patch. After an error only a new replay helps.
    ///
    /// # Errors
    /// It is malformed, or does not follow the version at hand.
    pub fn apply(&mut self, parts: &[(u8, Vec<u8>)]) -> Result<(), ImportError> {
        // References are to the version before, so nothing is replaced until all is read.
        let mut fresh = Fresh::default();
        let mut drop_chain = true;
        for (kind, bytes) in parts {
            drop_chain &= *kind != CHAIN;
            self.take(*kind, bytes, &mut fresh)
                .map_err(|what| ImportError::Malformed { kind: *kind, what })?;
        }
        self.leaves.extend(fresh.leaves);
        match &mut self.chain {
            Some(chain) if !drop_chain => chain.blocks.extend(fresh.blocks),
            _ => self.chain = None,
        }
        let another = self.chain.as_ref().is_some_and(|c| c.whole);
        if another || (drop_chain && self.base.chain.is_some()) {
            // Later patches refer to its blocks.
            self.version()?;
        }
        Ok(())
    }

    /// Id and full fingerprint of the version at hand.
    fn at(&self) -> ([u8; 8], [u8; 16]) {
        match &self.meta {
            Some(m) => (m.id.0.to_le_bytes(), m.full.to_bytes()),
            None => {
                let b = &self.base;
                (b.id.0.to_le_bytes(), b.sums.full.to_bytes())
            }
        }
    }

    fn take(&mut self, kind: u8, bytes: &[u8], fresh: &mut Fresh) -> Taken<()> {
        let mut r = Reader::new(bytes);
        match kind {
            HEAD => {
                let head = (r.array().ok_or(SHORT)?, r.array().ok_or(SHORT)?);
                if head != self.at() {
                    return Err("does not follow the version before it");
                }
            }
            META => {
                let m = meta(&mut r).ok_or(SHORT)?;
                if m.zone != self.base.zone || m.apex != *self.base.apex_name {
                    return Err("of another zone");
                }
                self.meta = Some(m);
            }
            KEYS => {
                let mut keys = KeyTable::new();
                for _ in 0..r.u8().ok_or(SHORT)? {
                    let (slot, key) = key_slot(&mut r).ok_or(SHORT)?;
                    keys.restore(slot, key).ok_or("bad key slot")?;
                }
                if !same_slots(&self.keys, &keys) {
                    return Err("a key slot changes hands");
                }
                self.keys = keys;
            }
            MORE_KINDS => {
                let mut next = r.u32().ok_or(SHORT)?;
                if next as usize > self.kinds.len() {
                    return Err("kinds do not go on");
                }
                let mut kinds = Kinds::default();
                for k in self.kinds.iter().take(next as usize) {
                    kinds.intern(k.rtype, k.ttl);
                }
                self.kinds = kinds;
                while !r.is_empty() {
                    let (t, ttl) = (r.u16().ok_or(SHORT)?, r.u32().ok_or(SHORT)?);
                    if self.kinds.intern(Rtype(t), ttl) != next {
                        return Err("a kind twice");
                    }
                    next += 1;
                }
            }
            MORE_POOL => {
                if r.u32().ok_or(SHORT)? as usize != self.pool.len() {
                    return Err("the pool does not go on");
                }
                let mut sets = Vec::new();
                while !r.is_empty() {
                    let set = sized(&mut r).ok_or(SHORT)?;
                    check_set(set).ok_or("bad set")?;
                    sets.push(set);
                }
                self.pool = Arc::new(self.pool.extended(sets.into_iter()));
            }
            PATCH_APEX => self.apex = pair(&mut r, &self.apex)?,
            GONE => {
                while !r.is_empty() {
                    let key = sized(&mut r).ok_or(SHORT)?;
                    fresh.leaves.push((key.to_vec(), None));
                }
            }
            PATCH_LEAVES => {
                while !r.is_empty() {
                    let key = sized(&mut r).ok_or(SHORT)?.to_vec();
                    let reference = sized(&mut r).ok_or(SHORT)?;
                    let made = match self.leaves.get(reference) {
                        Some(Some(known)) => pair(&mut r, known)?,
                        Some(None) => return Err("refers to a leaf that is gone"),
                        None => pair(&mut r, &self.of_base(reference)?)?,
                    };
                    fresh.leaves.push((key, Some(made)));
                }
            }
            _ => self.take_chain(kind, bytes, fresh)?,
        }
        Ok(())
    }

    fn of_base(&self, key: &[u8]) -> Taken<RawPair> {
        if key.is_empty() {
            return Ok(RawPair::default());
        }
        let tree = &self.base.tree;
        let leaf = tree.locate(key).and_then(|i| tree.get(i));
        let leaf = leaf.filter(|l| l.first_key() == key);
        leaf.map(raw).ok_or("refers to an unknown leaf")
    }

    fn take_chain(&mut self, kind: u8, bytes: &[u8], fresh: &mut Fresh) -> Taken<()> {
        let mut r = Reader::new(bytes);
        const NONE: &str = "there is no chain";
        if kind == BITMAPS {
            let mut bitmaps = Bitmaps::default();
            for i in 0..r.u32().ok_or(SHORT)? {
                if bitmaps.intern(sized(&mut r).ok_or(SHORT)?) != i {
                    return Err("a bitmap twice");
                }
            }
            self.chain = Some(RawChain {
                params: Nsec3Params {
                    algorithm: 0,
                    iterations: 0,
                    salt: Vec::new(),
                    opt_out: false,
                },
                ttl: 0,
                bitmaps,
                blocks: BTreeMap::new(),
                whole: true,
            });
            return Ok(());
        }
        let base = self.base.clone();
        let chain = self.chain.as_mut().ok_or(NONE)?;
        match kind {
            CHAIN => {
                let (params, ttl) = chain_head(&mut r).ok_or(SHORT)?;
                if !chain.whole && params != chain.params {
                    return Err("parameters change without a new chain");
                }
                (chain.params, chain.ttl) = (params, ttl);
            }
            MORE_BITMAPS => {
                let mut next = r.u32().ok_or(SHORT)?;
                if next as usize != chain.bitmaps.len() {
                    return Err("bitmaps do not go on");
                }
                while !r.is_empty() {
                    if chain.bitmaps.intern(sized(&mut r).ok_or(SHORT)?) != next {
                        return Err("a bitmap twice");
                    }
                    next += 1;
                }
            }
            GONE_BLOCKS => {
                while !r.is_empty() {
                    fresh.blocks.push((r.array().ok_or(SHORT)?, None));
                }
            }
            PATCH_BLOCKS => {
                while !r.is_empty() {
                    let hash: Hash = r.array().ok_or(SHORT)?;
                    let delta = sized(&mut r).ok_or(SHORT)?;
                    let known = match chain.blocks.get(&hash) {
                        Some(Some(known)) => &known[..],
                        Some(None) => return Err("refers to a block that is gone"),
                        None => block_of(&base, &hash).ok_or("refers to an unknown block")?,
                    };
                    let made = apply_delta(known, delta).ok_or("bad delta")?;
                    let hash = raw_first_hash(&made).ok_or(SHORT)?;
                    fresh.blocks.push((hash, Some(made)));
                }
            }
            BLOCKS => {
                while !r.is_empty() {
                    let block = sized(&mut r).ok_or(SHORT)?.to_vec();
                    let hash = raw_first_hash(&block).ok_or(SHORT)?;
                    fresh.blocks.push((hash, Some(block)));
                }
            }
            _ => return Err("unknown part"),
        }
        Ok(())
    }

    /// The version after the patches so far, everything in it checked against its fingerprint.
    /// Works on the current rayon pool.
    pub fn version(&mut self) -> Result<Arc<ZoneVersion>, ImportError> {
        let Some(m) = self.meta.clone() else {
            return Ok(self.base.clone());
        };
        let mal = |kind| move |what| ImportError::Malformed { kind, what };
        let (kinds, pool_len) = (Arc::new(self.kinds.clone()), self.pool.len());
        let apex_u = ULeaf::decode(&self.apex.0, &kinds, pool_len).map_err(mal(PATCH_APEX))?;
        if apex_u.owner_count() != 1 || !apex_u.first_key().is_empty() {
            return Err(mal(PATCH_APEX)("not one apex"));
        }
        let denial = match (m.denial, &self.chain) {
            ((0, _), None) => Denial::None,
            ((1, ttl), None) => Denial::Nsec { ttl },
            ((2, ttl), Some(c)) if c.ttl == ttl => Denial::Nsec3 {
                params: c.params.clone(),
                ttl,
            },
            _ => return Err(mal(META)("denial and chain differ")),
        };
        let shell = ZoneVersion {
            id: m.id,
            of: m.of,
            made_at: m.made_at,
            serial: m.serial,
            kinds,
            pool: self.pool.clone(),
            keys: Arc::new(self.keys.clone()),
            denial,
            apex: LeafRef::new(apex_u.clone(), None, LeafSums::default()),
            tree: Tree::default(),
            chain: None,
            ..ZoneVersion::clone(&self.base)
        };
        let apex = adopt(&shell, 0, apex_u, self.apex.1.as_deref())?;
        let tree = self.tree(&shell)?;
        let chain = match &self.chain {
            Some(c) => Some(c.build(&shell, self.base.chain())?),
            None => None,
        };
        let version = ZoneVersion {
            apex,
            tree,
            chain: chain.map(Box::new),
            ..shell
        }
        .assemble();
        let sums = &version.sums;
        if sums.full != m.full || sums.content != m.content || version.serial != m.serial {
            return Err(ImportError::Fingerprint);
        }
        *self = Replay::new(Arc::new(version));
        Ok(self.base.clone())
    }

    fn tree(&self, shell: &ZoneVersion) -> Result<Tree<LeafRef>, ImportError> {
        let pool_len = self.pool.len();
        let made: Vec<(&[u8], Option<LeafRef>)> = self
            .leaves
            .par_iter()
            .map(|(key, raw)| {
                let Some((u, s)) = raw else {
                    return Ok((&key[..], None));
                };
                let mal = |what| ImportError::Malformed {
                    kind: PATCH_LEAVES,
                    what,
                };
                let u = ULeaf::decode(u, &shell.kinds, pool_len).map_err(mal)?;
                if u.first_key() != key || key.is_empty() {
                    return Err(mal("a leaf under another key"));
                }
                Ok((&key[..], Some(adopt(shell, 1, u, s.as_deref())?)))
            })
            .collect::<Result<_, ImportError>>()?;
        let tree = place(&self.base.tree, made);
        let fresh = self.leaves.iter().filter(|(_, raw)| raw.is_some());
        let ordered = fresh
            .map(|(key, _)| key)
            .all(|key| in_order(&tree, key, shell));
        if !ordered {
            return Err(ImportError::Malformed {
                kind: PATCH_LEAVES,
                what: "leaves out of order",
            });
        }
        Ok(tree)
    }
}

impl RawChain {
    fn build(&self, shell: &ZoneVersion, base: Option<&Chain>) -> Result<Chain, ImportError> {
        let ctx = ChainContext {
            zone: shell.zone,
            apex: &shell.apex_name,
            params: &self.params,
            bitmaps: &self.bitmaps,
            keys: &shell.keys,
        };
        let made: Vec<(&[u8], Option<BlockRef>)> = self
            .blocks
            .par_iter()
            .map(|(hash, raw)| {
                let Some(raw) = raw else {
                    return Ok((&hash[..], None));
                };
                let block =
                    DBlock::decode(raw, &self.bitmaps).map_err(|what| ImportError::Malformed {
                        kind: PATCH_BLOCKS,
                        what,
                    })?;
                let block = adopt_block(block, &ctx).ok_or(ImportError::Signatures(0))?;
                Ok((&hash[..], Some(block)))
            })
            .collect::<Result<_, ImportError>>()?;
        let none = Tree::default();
        let old = base.filter(|_| !self.whole).map_or(&none, |c| &c.tree);
        let chain = Chain {
            params: self.params.clone(),
            ttl: self.ttl,
            bitmaps: Arc::new(self.bitmaps.clone()),
            tree: place(old, made),
        };
        Ok(chain)
    }
}

/// What a run of the tree becomes.
struct Slot<I> {
    before: Vec<I>,
    keep: bool,
    after: Vec<I>,
}

/// Puts items in key order into a tree in place of those with the same key; `None` removes.
fn place<I: Item>(tree: &Tree<I>, items: Vec<(&[u8], Option<I>)>) -> Tree<I> {
    let mut slots: BTreeMap<usize, Slot<I>> = BTreeMap::new();
    for (key, item) in items {
        let found = tree.locate(key);
        let exact = found
            .and_then(|i| tree.get(i))
            .is_some_and(|i| i.first_key() == key);
        if item.is_none() && !exact {
            continue;
        }
        let slot = slots.entry(found.unwrap_or(0)).or_insert(Slot {
            before: Vec::new(),
            keep: true,
            after: Vec::new(),
        });
        slot.keep &= !exact;
        match found {
            Some(_) => slot.after.extend(item),
            None => slot.before.extend(item),
        }
    }
    let changes = slots.into_iter().map(|(i, slot)| {
        let kept = tree.get(i).filter(|_| slot.keep).cloned();
        let all = slot.before.into_iter().chain(kept).chain(slot.after);
        (i, all.collect())
    });
    tree.replace(changes.collect())
}

/// The leaf at `key` lies between its neighbours.
fn in_order(tree: &Tree<LeafRef>, key: &[u8], shell: &ZoneVersion) -> bool {
    let last_key = |l: &LeafRef| {
        let mut it = l.u.iter(&shell.kinds);
        while it.next().is_some() {}
        it.key
    };
    let Some(i) = tree.locate(key) else {
        return false;
    };
    let Some(leaf) = tree.get(i).filter(|l| l.first_key() == key) else {
        return false;
    };
    let before = i.checked_sub(1).and_then(|i| tree.get(i));
    before.is_none_or(|b| last_key(b).as_slice() < key)
        && tree
            .get(i + 1)
            .is_none_or(|n| last_key(leaf).as_slice() < n.first_key())
}

fn raw(leaf: &LeafRef) -> RawPair {
    let s = leaf.s.as_ref().map(|s| s.bytes().to_vec());
    (leaf.u.bytes().to_vec(), s)
}

fn pair(r: &mut Reader<'_>, known: &RawPair) -> Taken<RawPair> {
    const BAD: &str = "bad delta";
    let u = sized(r).ok_or(SHORT)?;
    let s = sized(r).ok_or(SHORT)?;
    let u = apply_delta(&known.0, u).ok_or(BAD)?;
    if s.is_empty() {
        return Ok((u, None));
    }
    let old = known.1.as_deref().unwrap_or_default();
    Ok((u, Some(apply_delta(old, s).ok_or(BAD)?)))
}

fn block_of<'a>(base: &'a ZoneVersion, hash: &Hash) -> Option<&'a [u8]> {
    let tree = &base.chain.as_ref()?.tree;
    let block = tree.get(tree.locate(hash)?)?;
    (block.first_key() == hash).then(|| block.block.bytes())
}
