//! The D block: a run of NSEC3 records in hash order, by columns, with their signatures.
//!
//! ```text
//!  0 2 format "D1"    8 4 min_exp    56 .. keys    n_keys x {u8 slot, u8 0, u16 length}
//!  2 2 n rows        12 4 ttl        .. .. times   n_times x {u32 inception, u32 expiration}
//!  4 1 n_keys        16 20 next      .. .. hashes  n x 20
//!  5 1 flags         36 4 zero       .. .. bitmaps n x u16 (u32 if wide): ids
//!  6 2 n_times       40 16 fp        .. .. per key: presence bits ceil(n/8), n x u16 time, signatures
//! ```
//! flags: bit0 wide, bit1 opt-out. Owner name, parameters and next hash (the following row; `next`
//! for the last row) are implied.

mod beside;

use std::collections::HashMap;
use std::sync::Arc;

use crate::codec::{Reader, push_counts, push_masks, read_counts, read_masks, u16_at, u32_at};
use crate::expand::{Buffers, Sink, Whole};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::id::ZoneId;
use crate::name::Name;
use crate::rtype::Rtype;
use crate::slots::{KeyTable, MAX_SLOTS};
use crate::tree::{Item, Sums};
use crate::version::Record;

/// Rows a full build puts into a block.
pub const BLOCK_ROWS: usize = 128;
const HEADER: usize = 56;

/// A SHA-1 NSEC3 hash (RFC 5155 §5).
pub type Hash = [u8; 20];

/// NSEC3 parameters of a chain (RFC 5155 §3.1, §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nsec3Params {
    /// 1 = SHA-1, the only one there is.
    pub algorithm: u8,
    pub iterations: u16,
    pub salt: Vec<u8>,
    pub opt_out: bool,
}

impl Nsec3Params {
    /// NSEC3PARAM RDATA; its flags are always 0 (RFC 5155 §4.1.2).
    pub fn nsec3param_rdata(&self) -> Vec<u8> {
        let i = self.iterations.to_be_bytes();
        let mut out = vec![self.algorithm, 0, i[0], i[1], self.salt.len() as u8];
        out.extend_from_slice(&self.salt);
        out
    }
}

/// Interned type bitmaps in wire form; id 0 is the empty one (an empty non-terminal).
#[derive(Clone, Debug)]
pub struct Bitmaps {
    list: Vec<Box<[u8]>>,
    index: HashMap<Box<[u8]>, u32>,
}

impl Default for Bitmaps {
    fn default() -> Self {
        let mut b = Bitmaps {
            list: Vec::new(),
            index: HashMap::new(),
        };
        b.intern(&[]);
        b
    }
}

impl Bitmaps {
    pub fn intern(&mut self, bitmap: &[u8]) -> u32 {
        if let Some(id) = self.index.get(bitmap) {
            return *id;
        }
        let id = self.list.len() as u32;
        self.list.push(bitmap.into());
        self.index.insert(bitmap.into(), id);
        id
    }

    pub fn get(&self, id: u32) -> &[u8] {
        self.list.get(id as usize).map_or(&[], |b| b)
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        false
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.list.iter().map(|b| &b[..])
    }
}

/// Immutable bytes of a block, shared by pointer.
#[derive(Clone, Debug)]
pub struct DBlock(Arc<[u8]>);

#[derive(Clone, Copy, Debug)]
struct View<'a> {
    n: usize,
    keys: &'a [u8],
    times: &'a [u8],
    hashes: &'a [u8],
    bitmaps: &'a [u8],
    columns: &'a [u8],
    wide: bool,
}

impl<'a> View<'a> {
    fn parse(bytes: &'a [u8]) -> Option<View<'a>> {
        if bytes.len() < HEADER || &bytes[..2] != b"D1" || bytes[5] & !3 != 0 {
            return None;
        }
        let n = u16_at(bytes, 2) as usize;
        let wide = bytes[5] & 1 != 0;
        let mut r = Reader::new(&bytes[HEADER..]);
        let keys = r.take(bytes[4] as usize * 4)?;
        let times = r.take(u16_at(bytes, 6) as usize * 8)?;
        let hashes = r.take(n * 20)?;
        let bitmaps = r.take(n * if wide { 4 } else { 2 })?;
        Some(View {
            n,
            keys,
            times,
            hashes,
            bitmaps,
            columns: r.rest(),
            wide,
        })
    }

    fn hash(&self, i: usize) -> &'a Hash {
        const ZERO: &Hash = &[0; 20];
        self.hashes
            .get(i * 20..)
            .and_then(|h| h.first_chunk())
            .unwrap_or(ZERO)
    }

    fn bitmap(&self, i: usize) -> u32 {
        if self.wide {
            u32_at(self.bitmaps, i * 4)
        } else {
            u16_at(self.bitmaps, i * 2) as u32
        }
    }

    /// (slot, length, presence, times, signatures) per key.
    fn columns(&self) -> Option<Vec<Column<'a>>> {
        let mut r = Reader::new(self.columns);
        let mut out = Vec::with_capacity(self.keys.len() / 4);
        for k in self.keys.chunks_exact(4) {
            let len = u16_at(k, 2) as usize;
            let present = r.take(self.n.div_ceil(8))?;
            let times = r.take(self.n * 2)?;
            let count: usize = present.iter().map(|b| b.count_ones() as usize).sum();
            let sigs = r.take(count.checked_mul(len)?)?;
            out.push(Column {
                slot: k[0],
                len,
                present,
                times,
                sigs,
            });
        }
        r.is_empty().then_some(out)
    }
}

#[derive(Clone, Copy, Debug)]
struct Column<'a> {
    slot: u8,
    len: usize,
    present: &'a [u8],
    times: &'a [u8],
    sigs: &'a [u8],
}

impl<'a> Column<'a> {
    fn has(&self, row: usize) -> bool {
        let byte = self.present.get(row / 8);
        byte.is_some_and(|byte| byte >> (row % 8) & 1 == 1)
    }

    /// The signature over a row that has one.
    fn sig(&self, v: &View<'a>, row: usize, signature: &'a [u8]) -> RowSig<'a> {
        let at = u16_at(self.times, row * 2) as usize * 8;
        RowSig {
            slot: self.slot,
            inception: u32_at(v.times, at),
            expiration: u32_at(v.times, at + 4),
            signature,
        }
    }

    fn get(&self, row: usize) -> Option<(u16, &'a [u8])> {
        let byte = *self.present.get(row / 8)?;
        if byte >> (row % 8) & 1 == 0 {
            return None;
        }
        let below: u32 = self.present[..row / 8]
            .iter()
            .map(|b| b.count_ones())
            .sum::<u32>()
            + (byte & ((1 << (row % 8)) - 1)).count_ones();
        let at = below as usize * self.len;
        Some((
            u16_at(self.times, row * 2),
            self.sigs.get(at..at + self.len)?,
        ))
    }
}

impl DBlock {
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn same(&self, other: &DBlock) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn view(&self) -> View<'_> {
        const EMPTY: View<'static> = View {
            n: 0,
            keys: &[],
            times: &[],
            hashes: &[],
            bitmaps: &[],
            columns: &[],
            wide: false,
        };
        View::parse(&self.0).unwrap_or(EMPTY)
    }

    pub fn len(&self) -> usize {
        u16_at(&self.0, 2) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn ttl(&self) -> u32 {
        u32_at(&self.0, 12)
    }

    pub fn fingerprint(&self) -> Fingerprint {
        let mut b = [0u8; 16];
        b.copy_from_slice(&self.0[40..56]);
        Fingerprint::from_bytes(b)
    }

    pub fn first_hash(&self) -> &[u8] {
        self.view().hash(0)
    }

    /// First hash of the following block (of the chain's first block, for the last one).
    pub fn next(&self) -> &Hash {
        const ZERO: &Hash = &[0; 20];
        self.0
            .get(16..)
            .and_then(|h| h.first_chunk())
            .unwrap_or(ZERO)
    }

    pub fn opt_out(&self) -> bool {
        self.0[5] & 2 != 0
    }

    /// Number of the last row whose hash is not above `hash`.
    pub fn locate(&self, hash: &Hash) -> Option<usize> {
        let v = self.view();
        let (mut lo, mut hi) = (0, v.n);
        while lo < hi {
            let mid = (lo + hi) / 2;
            if v.hash(mid) <= hash {
                lo = mid + 1;
            } else {
                hi = mid;
            }
        }
        lo.checked_sub(1)
    }

    pub fn row(&self, i: usize) -> Option<RawRow<'_>> {
        self.row_of(&self.view(), i)
    }

    fn row_of<'a>(&'a self, v: &View<'a>, i: usize) -> Option<RawRow<'a>> {
        if i >= v.n {
            return None;
        }
        let next = if i + 1 < v.n {
            v.hash(i + 1)
        } else {
            self.next()
        };
        Some(RawRow {
            block: self,
            index: i,
            hash: v.hash(i),
            next,
            bitmap: v.bitmap(i),
        })
    }

    /// All rows: hash and bitmap.
    pub fn rows(&self) -> impl Iterator<Item = (Hash, u32)> {
        let v = self.view();
        let hashes = v.hashes.chunks_exact(20).map_while(|h| h.first_chunk());
        hashes.enumerate().map(move |(i, h)| (*h, v.bitmap(i)))
    }

    /// Signatures of row `i`: (slot, inception, expiration, signature).
    pub fn sigs(&self, i: usize) -> Vec<RowSig<'_>> {
        BlockRows::new(self).sigs(i).collect()
    }

    /// Takes bytes from disk; everything but the signatures' sense is checked.
    pub fn decode(bytes: &[u8], bitmaps: &Bitmaps) -> Result<DBlock, &'static str> {
        let v = View::parse(bytes).ok_or("not a D block, or cut short")?;
        if v.n == 0 {
            return Err("block without rows");
        }
        if (1..v.n).any(|i| v.hash(i - 1) >= v.hash(i)) {
            return Err("hashes out of order");
        }
        if (0..v.n).any(|i| v.bitmap(i) as usize >= bitmaps.len()) {
            return Err("unknown bitmap");
        }
        let columns = v.columns().ok_or("signatures cut short")?;
        for c in &columns {
            let bad_time = |i| {
                c.get(i)
                    .is_some_and(|(t, _)| t as usize >= v.times.len() / 8)
            };
            if c.slot as usize >= MAX_SLOTS || (0..v.n).any(bad_time) {
                return Err("unknown key slot or time");
            }
        }
        Ok(DBlock(bytes.into()))
    }
}

/// A row as it stands in a block.
#[derive(Clone, Copy, Debug)]
pub struct RawRow<'a> {
    pub block: &'a DBlock,
    pub index: usize,
    pub hash: &'a Hash,
    pub next: &'a Hash,
    pub bitmap: u32,
}

/// The rows of one block for many questions in order; what the block says of its parts is read once.
pub struct BlockRows<'a> {
    block: &'a DBlock,
    v: View<'a>,
    columns: Vec<Column<'a>>,
    /// Rows before this one are below every hash that comes.
    from: usize,
}

impl<'a> BlockRows<'a> {
    pub fn new(block: &'a DBlock) -> Self {
        let v = block.view();
        BlockRows {
            block,
            v,
            columns: v.columns().unwrap_or_default(),
            from: 0,
        }
    }

    /// The row with this hash, if there is one. Hashes are asked for in rising order.
    pub fn find(&mut self, hash: &Hash) -> Option<RawRow<'a>> {
        if self.from < self.v.n && self.v.hash(self.from) < hash {
            let (mut lo, mut hi) = (self.from + 1, self.v.n);
            while lo < hi {
                let mid = match lo == self.from + 1 {
                    // The next one, most of the time.
                    true => lo,
                    false => (lo + hi) / 2,
                };
                match self.v.hash(mid) < hash {
                    true => lo = mid + 1,
                    false => hi = mid,
                }
            }
            self.from = lo;
        }
        let row = self.block.row_of(&self.v, self.from);
        row.filter(|r| r.hash == hash)
    }

    /// All rows are below the hash last asked for.
    pub fn is_over(&self) -> bool {
        self.from >= self.v.n
    }

    /// Signatures over row number `i`.
    pub fn sigs(&self, i: usize) -> impl Iterator<Item = RowSig<'a>> + '_ {
        let sig = move |c: &Column<'a>| Some(c.sig(&self.v, i, c.get(i)?.1));
        self.columns.iter().filter_map(sig)
    }
}

/// One signature over an NSEC3 record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowSig<'a> {
    pub slot: u8,
    pub inception: u32,
    pub expiration: u32,
    pub signature: &'a [u8],
}

impl<'a> RowSig<'a> {
    /// As one over an RRset of this type.
    pub fn over(&self, covered: Rtype) -> crate::version::Sig<'a> {
        crate::version::Sig {
            covered,
            slot: self.slot,
            inception: self.inception,
            expiration: self.expiration,
            signature: self.signature,
        }
    }
}

/// What a block adds up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockSums {
    pub rows: u64,
    pub records: u64,
    pub wire: u64,
    pub min_exp: Option<u32>,
    pub any_mask: u16,
    /// Bit k: every row has a signature by slot k.
    pub full_mask: u16,
    pub fp: Fingerprint,
}

impl BlockSums {
    /// Counts the records of the row at hand, and moves on.
    fn take(&mut self, row: &mut RowWalk<'_>, hasher: &mut Hasher, buffers: &mut Buffers) {
        let mut count = |r: Record<'_>| {
            self.records += 1;
            self.wire += r.owner.len() as u64 + 10 + r.rdata.len() as u64;
            self.fp.add(hasher.record(r.owner, r.rtype, r.ttl, r.rdata));
        };
        row.take(&mut Whole::new(buffers, &mut count));
    }

    /// For a file, without the fingerprint; `None` if a number is too large for its form.
    pub(crate) fn push(&self, out: &mut Vec<u8>) -> Option<()> {
        push_counts(&[self.rows, self.records, self.wire], out)?;
        push_masks(self.min_exp, self.any_mask, self.full_mask, out);
        Some(())
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Option<BlockSums> {
        let [rows, records, wire] = read_counts(r)?;
        let (min_exp, any_mask, full_mask) = read_masks(r)?;
        Some(BlockSums {
            rows,
            records,
            wire,
            min_exp,
            any_mask,
            full_mask,
            fp: Fingerprint::default(),
        })
    }
}

impl Sums for BlockSums {
    fn add(&mut self, o: &Self) {
        if self.rows == 0 {
            self.full_mask = o.full_mask;
        } else if o.rows > 0 {
            self.full_mask &= o.full_mask;
        }
        self.rows += o.rows;
        self.records += o.records;
        self.wire += o.wire;
        self.min_exp = earlier(self.min_exp, o.min_exp);
        self.any_mask |= o.any_mask;
        self.fp.add(o.fp);
    }
}

/// The earlier of two wire times that lie within 2^31 of each other (RFC 4034 §3.1.5).
pub fn earlier(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if (b.wrapping_sub(a) as i32) < 0 { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// A block in its tree.
#[derive(Clone, Debug)]
pub struct BlockRef {
    pub block: DBlock,
    fence: u64,
    sums: Arc<BlockSums>,
}

impl Item for BlockRef {
    type Sums = BlockSums;
    fn fence(&self) -> u64 {
        self.fence
    }
    fn first_key(&self) -> &[u8] {
        self.block.first_hash()
    }
    fn sums(&self) -> &BlockSums {
        &self.sums
    }
    fn same(&self, other: &Self) -> bool {
        self.block.same(&other.block)
    }
}

/// What NSEC3 records need beside their row.
#[derive(Clone, Copy, Debug)]
pub struct ChainContext<'a> {
    pub zone: ZoneId,
    pub apex: &'a Name,
    pub params: &'a Nsec3Params,
    pub bitmaps: &'a Bitmaps,
    pub keys: &'a KeyTable,
}

impl ChainContext<'_> {
    /// Appends the owner name of the NSEC3 of `hash` (RFC 5155 §3).
    pub fn push_owner(&self, hash: &Hash, out: &mut Vec<u8>) {
        out.push(32);
        push_base32hex(hash, out);
        out.extend_from_slice(self.apex.as_wire());
    }

    /// Appends NSEC3 RDATA (RFC 5155 §3.2).
    pub fn push_rdata(&self, next: &Hash, bitmap: u32, out: &mut Vec<u8>) {
        let i = self.params.iterations.to_be_bytes();
        out.extend_from_slice(&[self.params.algorithm, self.params.opt_out as u8, i[0], i[1]]);
        out.push(self.params.salt.len() as u8);
        out.extend_from_slice(&self.params.salt);
        out.push(20);
        out.extend_from_slice(next);
        out.extend_from_slice(self.bitmaps.get(bitmap));
    }
}

/// Base 32 with extended hex alphabet, lower case, no padding (RFC 5155 §3).
pub fn push_base32hex(hash: &Hash, out: &mut Vec<u8>) {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    for five in hash.chunks_exact(5) {
        let v = five.iter().fold(0u64, |v, b| v << 8 | *b as u64);
        for k in (0..8).rev() {
            out.push(ALPHABET[(v >> (5 * k) & 31) as usize]);
        }
    }
}

/// Collects the rows and signatures of one block.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    rows: Vec<(Hash, u32)>,
    keys: Vec<(u8, u16)>,
    times: Vec<(u32, u32)>,
    /// (key index, row, time index, signature offset)
    sigs: Vec<(u16, u16, u16, u32)>,
    octets: Vec<u8>,
}

impl BlockBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    /// The next row in hash order; `bitmap` is an id of the chain's [`Bitmaps`].
    pub fn row(&mut self, hash: Hash, bitmap: u32) {
        self.rows.push((hash, bitmap));
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A signature over the NSEC3 of row number `row`; at most one per row and slot.
    pub fn sig(&mut self, row: u16, slot: u8, inception: u32, expiration: u32, signature: &[u8]) {
        let key = index_of(&mut self.keys, (slot, signature.len() as u16));
        let time = index_of(&mut self.times, (inception, expiration));
        self.sigs.push((key, row, time, self.octets.len() as u32));
        self.octets.extend_from_slice(signature);
    }

    /// The finished block. `next`: first hash of the following block (of the first for the last).
    pub fn build(self, next: &Hash, ttl: u32, ctx: &ChainContext<'_>, base: u32) -> BlockRef {
        finish_block(self.encode(next, ttl, ctx, base), ctx, |_| None)
    }

    /// The same where it stands for the blocks `was` of a chain with `was_ctx`, of which most rows stay
    /// as they are.
    pub fn build_beside(
        self,
        next: &Hash,
        ttl: u32,
        ctx: &ChainContext<'_>,
        base: u32,
        was: &[&BlockRef],
        was_ctx: &ChainContext<'_>,
    ) -> BlockRef {
        let bytes = self.encode(next, ttl, ctx, base);
        finish_block(bytes, ctx, |block| beside::moved(was, was_ctx, block, ctx))
    }

    fn encode(mut self, next: &Hash, ttl: u32, ctx: &ChainContext<'_>, base: u32) -> Vec<u8> {
        self.sigs.sort_unstable();
        self.sigs.dedup_by_key(|s| (s.0, s.1));
        let n = self.rows.len();
        let wide = self.rows.iter().any(|r| r.1 > u16::MAX as u32);
        let min_exp = self
            .times
            .iter()
            .map(|t| t.1)
            .min_by_key(|t| t.wrapping_sub(base) as i32);
        let column = 4 + n.div_ceil(8) + n * 2;
        let size = self.keys.len() * column + self.times.len() * 8 + n * 24 + self.octets.len();
        let mut out = Vec::with_capacity(HEADER + size);
        out.extend_from_slice(b"D1");
        out.extend_from_slice(&(n as u16).to_le_bytes());
        out.extend_from_slice(&[
            self.keys.len() as u8,
            wide as u8 | (ctx.params.opt_out as u8) << 1,
        ]);
        out.extend_from_slice(&(self.times.len() as u16).to_le_bytes());
        out.extend_from_slice(&min_exp.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&ttl.to_le_bytes());
        out.extend_from_slice(next);
        out.extend_from_slice(&[0; 20]);
        for (slot, len) in &self.keys {
            out.extend_from_slice(&[*slot, 0]);
            out.extend_from_slice(&len.to_le_bytes());
        }
        for (inception, expiration) in &self.times {
            out.extend_from_slice(&inception.to_le_bytes());
            out.extend_from_slice(&expiration.to_le_bytes());
        }
        self.rows.iter().for_each(|(h, _)| out.extend_from_slice(h));
        for (_, b) in &self.rows {
            if wide {
                out.extend_from_slice(&b.to_le_bytes());
            } else {
                out.extend_from_slice(&(*b as u16).to_le_bytes());
            }
        }
        self.push_columns(n, &mut out);
        out
    }

    fn push_columns(&self, n: usize, out: &mut Vec<u8>) {
        for (k, (_, len)) in self.keys.iter().enumerate() {
            let mine = self.sigs.iter().filter(|s| s.0 as usize == k);
            let mut present = vec![0u8; n.div_ceil(8)];
            let mut times = vec![0u8; n * 2];
            for (_, row, time, _) in mine.clone() {
                let row = *row as usize;
                present[row / 8] |= 1 << (row % 8);
                times[row * 2..row * 2 + 2].copy_from_slice(&time.to_le_bytes());
            }
            out.extend_from_slice(&present);
            out.extend_from_slice(&times);
            for (_, _, _, at) in mine {
                out.extend_from_slice(&self.octets[*at as usize..*at as usize + *len as usize]);
            }
        }
    }
}

fn index_of<T: PartialEq + Copy>(list: &mut Vec<T>, v: T) -> u16 {
    if let Some(i) = list.iter().rposition(|x| *x == v) {
        return i as u16;
    }
    list.push(v);
    (list.len() - 1) as u16
}

/// Computes fingerprint and sums of a block's bytes. `known`: what its records add up to, if that follows from something.
fn finish_block(
    bytes: Vec<u8>,
    ctx: &ChainContext<'_>,
    known: impl FnOnce(&DBlock) -> Option<BlockSums>,
) -> BlockRef {
    let mut block = DBlock(bytes.into());
    let sums = known(&block).unwrap_or_else(|| sum_records(&block, ctx));
    let sums = sum_columns(&block, sums);
    // Nobody else has them yet.
    if let Some(bytes) = Arc::get_mut(&mut block.0) {
        bytes[40..56].copy_from_slice(&sums.fp.to_bytes());
    }
    BlockRef {
        fence: crate::key::fence(block.first_hash()),
        block,
        sums: Arc::new(sums),
    }
}

/// The first hash of octets that are yet to be decoded.
pub(crate) fn raw_first_hash(bytes: &[u8]) -> Option<Hash> {
    View::parse(bytes)?.hashes.first_chunk().copied()
}

/// A block from disk; `None` if its fingerprint is not that of its records.
pub(crate) fn adopt_block(block: DBlock, ctx: &ChainContext<'_>) -> Option<BlockRef> {
    let sums = sum_block(&block, ctx);
    if sums.fp != block.fingerprint() {
        return None;
    }
    Some(BlockRef {
        fence: crate::key::fence(block.first_hash()),
        block,
        sums: Arc::new(sums),
    })
}

/// A block as it says it is; `sums` lacks the fingerprint.
pub(crate) fn believe_block(block: DBlock, mut sums: BlockSums) -> BlockRef {
    sums.fp = block.fingerprint();
    BlockRef {
        fence: crate::key::fence(block.first_hash()),
        block,
        sums: Arc::new(sums),
    }
}

fn sum_block(block: &DBlock, ctx: &ChainContext<'_>) -> BlockSums {
    sum_columns(block, sum_records(block, ctx))
}

/// What its records add up to; the rest is for [`sum_columns`].
fn sum_records(block: &DBlock, ctx: &ChainContext<'_>) -> BlockSums {
    let mut sums = BlockSums::default();
    let (mut hasher, mut buffers) = (Hasher::new(ctx.zone), Buffers::default());
    let mut walk = RowWalk::new(block, *ctx);
    while walk.key().is_some() {
        sums.take(&mut walk, &mut hasher, &mut buffers);
    }
    sums
}

/// `sums`: what the records add up to; what is read off the columns is added.
fn sum_columns(block: &DBlock, mut sums: BlockSums) -> BlockSums {
    let v = block.view();
    sums.rows = v.n as u64;
    for c in v.columns().unwrap_or_default() {
        let count: usize = c.present.iter().map(|b| b.count_ones() as usize).sum();
        sums.any_mask |= u16::from(count > 0) << c.slot;
        sums.full_mask |= u16::from(count == v.n) << c.slot;
    }
    if sums.any_mask != 0 {
        sums.min_exp = Some(u32_at(&block.0, 8));
    }
    sums
}

/// Expands the NSEC3 records of a block with their RRSIGs, in order.
pub(crate) fn expand(block: &DBlock, ctx: &ChainContext<'_>, sink: &mut impl Sink) {
    let mut walk = RowWalk::new(block, *ctx);
    while walk.key().is_some() {
        walk.take(sink);
    }
}

/// Rows of one block, compared as they stand and expanded only where that is wanted.
pub(crate) struct RowWalk<'a> {
    block: &'a DBlock,
    ctx: ChainContext<'a>,
    v: View<'a>,
    /// With the place of the next signature in each.
    columns: Vec<(Column<'a>, usize)>,
    /// Row at hand.
    i: usize,
    apex_lower: Name,
    /// Of an owner, as RRSIG counts them (RFC 4034 §3.1.3).
    labels: u8,
    owner: Vec<u8>,
    rdata: Vec<u8>,
}

impl<'a> RowWalk<'a> {
    pub(crate) fn new(block: &'a DBlock, ctx: ChainContext<'a>) -> Self {
        let v = block.view();
        let columns = v.columns().unwrap_or_default();
        RowWalk {
            block,
            ctx,
            v,
            columns: columns.into_iter().map(|c| (c, 0)).collect(),
            i: 0,
            apex_lower: ctx.apex.to_lowercase(),
            labels: ctx.apex.label_count() as u8 + 1,
            owner: Vec::with_capacity(300),
            rdata: Vec::with_capacity(600),
        }
    }

    /// Hash of the row at hand.
    pub(crate) fn key(&self) -> Option<&'a Hash> {
        (self.i < self.v.n).then(|| self.v.hash(self.i))
    }

    pub(crate) fn skip(&mut self) {
        for (column, at) in &mut self.columns {
            *at += usize::from(column.has(self.i)) * column.len;
        }
        self.i += 1;
    }

    fn next(&self) -> &'a Hash {
        if self.i + 1 < self.v.n {
            self.v.hash(self.i + 1)
        } else {
            self.block.next()
        }
    }

    fn sigs(&self) -> impl Iterator<Item = RowSig<'a>> + '_ {
        let here = self.columns.iter().filter(|(c, _)| c.has(self.i));
        here.filter_map(|(c, at)| {
            let signature = c.sigs.get(*at..*at + c.len)?;
            Some(c.sig(&self.v, self.i, signature))
        })
    }

    /// Equal records for certain at rows of equal hashes, in chains of equal parameters.
    pub(crate) fn same(&self, other: &RowWalk<'_>) -> bool {
        let bitmap = |w: &RowWalk<'a>| w.ctx.bitmaps.get(w.v.bitmap(w.i));
        let theirs = other.ctx.bitmaps.get(other.v.bitmap(other.i));
        self.next() == other.next()
            && bitmap(self) == theirs
            && self.block.ttl() == other.block.ttl()
            && self.sigs().eq(other.sigs())
    }

    /// Emits the NSEC3 of the row at hand with its signatures and moves on.
    pub(crate) fn take(&mut self, sink: &mut impl Sink) {
        let Some(hash) = self.key() else {
            return;
        };
        let (ttl, next) = (self.block.ttl(), self.next());
        self.owner.clear();
        self.ctx.push_owner(hash, &mut self.owner);
        sink.owner(&self.owner);
        self.rdata.clear();
        let bitmap = self.v.bitmap(self.i);
        self.ctx.push_rdata(next, bitmap, &mut self.rdata);
        sink.record(Rtype::NSEC3, ttl, [&self.rdata]);
        for sig in self.sigs() {
            let Some(key) = self.ctx.keys.get(sig.slot) else {
                continue;
            };
            let head = rrsig_head(&RrsigFields {
                covered: Rtype::NSEC3,
                algorithm: key.algorithm,
                labels: self.labels,
                original_ttl: ttl,
                expiration: sig.expiration,
                inception: sig.inception,
                tag: key.tag,
            });
            let signer = self.apex_lower.as_wire();
            sink.record(Rtype::RRSIG, ttl, [&head, signer, sig.signature]);
        }
        self.skip();
    }
}

/// The fixed fields of RRSIG RDATA (RFC 4034 §3.1).
#[derive(Clone, Copy, Debug)]
pub struct RrsigFields {
    pub covered: Rtype,
    pub algorithm: u8,
    pub labels: u8,
    pub original_ttl: u32,
    pub expiration: u32,
    pub inception: u32,
    pub tag: u16,
}

/// The fields in wire form.
#[inline]
pub(crate) fn rrsig_head(f: &RrsigFields) -> [u8; 18] {
    let mut head = [0; 18];
    head[..2].copy_from_slice(&f.covered.0.to_be_bytes());
    (head[2], head[3]) = (f.algorithm, f.labels);
    head[4..8].copy_from_slice(&f.original_ttl.to_be_bytes());
    head[8..12].copy_from_slice(&f.expiration.to_be_bytes());
    head[12..16].copy_from_slice(&f.inception.to_be_bytes());
    head[16..].copy_from_slice(&f.tag.to_be_bytes());
    head
}

/// Appends RRSIG RDATA; `signer` is the apex in lower case. With an empty signature this is the
/// head of the signed data (RFC 4034 §3.1.8.1).
pub fn push_rrsig(f: &RrsigFields, signer: &[u8], signature: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&rrsig_head(f));
    out.extend_from_slice(signer);
    out.extend_from_slice(signature);
}
