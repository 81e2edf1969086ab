//! An NSEC3 chain made from the one before.
//!
//! Owners that changed, and the names above them where an empty non-terminal may have come or gone,
//! give edits of rows. Blocks with edits are made anew, and so are those before them whose last
//! record names another hash now. Rows keep their signatures where next hash and bitmap are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use cascade_zone::block::{
    Bitmaps, BlockBuilder, BlockRef, BlockRows, ChainContext, Hash, Nsec3Params, RawRow, RowSig,
};
use cascade_zone::denial::{Chain, bitmap_types, push_bitmap};
use cascade_zone::patch::{Alignment, Run};
use cascade_zone::version::{Owner, OwnerIter, ZoneVersion};
use cascade_zone::{Rtype, key};
use rayon::prelude::*;

use crate::nsec3::{ChainPlan, Nsec3, Row, bears, nsec3_hash, write_preimage};
use crate::piece::{Entry, Group, Keys, Piece};
use crate::refresh::Spread;
use crate::scope::{Masks, Mode, WhyFull, decide};
use crate::sign::SignError;

/// A block above this is split, one below that joined with the next.
const ROWS_MAX: usize = 192;
const ROWS_MIN: usize = 48;
/// The table of bitmaps only grows from version to version; with this many more than there are rows
/// the chain is made anew.
const BITMAPS_SPARE: usize = 65_536;

/// What happens to the row of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RowEdit<B = Vec<u8>> {
    Insert(B),
    Change(B),
    Remove,
}

type Edits = BTreeMap<Hash, RowEdit>;

impl RowEdit {
    /// What makes the one bitmap, if there is a row, the other.
    fn of(was: Option<Vec<u8>>, is: Option<Vec<u8>>) -> Option<RowEdit> {
        match (was, is) {
            (None, Some(bitmap)) => Some(RowEdit::Insert(bitmap)),
            (Some(_), None) => Some(RowEdit::Remove),
            (Some(was), Some(bitmap)) if was != bitmap => Some(RowEdit::Change(bitmap)),
            _ => None,
        }
    }
}

/// What differs between the rows that two versions need. Runs on the current pool.
fn edits(
    prev: &ZoneVersion,
    version: &ZoneVersion,
    alignment: &Alignment,
    params: &Nsec3Params,
) -> Result<Edits, WhyFull> {
    let of_runs: Vec<OfRun> = alignment
        .runs()
        .par_iter()
        .map(|run| edits_of_run(prev, version, run, params))
        .collect();
    let (mut found, mut changed) = (Vec::new(), Vec::new());
    // The apex has new sets whatever the content does.
    let mut above: BTreeSet<Vec<u8>> = BTreeSet::from([Vec::new()]);
    for run in of_runs {
        found.extend(run.edits);
        changed.extend(run.changed);
        above.extend(run.above);
    }
    for name in &changed {
        above.remove(name);
    }
    let above: Vec<Vec<u8>> = above.into_iter().collect();
    let more = above.par_iter().filter_map(|name| {
        let edit = RowEdit::of(row_of(prev, name, params), row_of(version, name, params))?;
        Some((hash_of(version, name, params), edit))
    });
    found.extend(more.collect::<Vec<_>>());
    let n = found.len();
    let edits: Edits = found.into_iter().collect();
    match edits.len() == n {
        true => Ok(edits),
        // Two names with one hash: signing everything finds out whether both are in the zone.
        false => Err(WhyFull::Inconsistent("two changed names have one hash")),
    }
}

fn hash_of(version: &ZoneVersion, name: &[u8], params: &Nsec3Params) -> Hash {
    let mut wire = Vec::new();
    key::push_wire(name, None, version.apex_lower(), &mut wire);
    nsec3_hash(&wire, &params.salt, params.iterations)
}

/// Owners of the leaves of one side of a run, in order.
struct Side<'a> {
    version: &'a ZoneVersion,
    units: Range<usize>,
    at: Option<OwnerIter<'a>>,
}

impl<'a> Side<'a> {
    fn new(version: &'a ZoneVersion, leaves: &Range<usize>) -> Self {
        Side {
            version,
            units: leaves.start + 1..leaves.end + 1,
            at: None,
        }
    }

    /// Where the next owner comes from, if there is one.
    fn open(&mut self) -> Option<&mut OwnerIter<'a>> {
        while self.at.as_ref().is_none_or(OwnerIter::is_over) {
            self.at = Some(self.version.unit(self.units.next()?).owners());
        }
        self.at.as_mut()
    }

    fn next(&mut self) -> Option<Owner<'a>> {
        loop {
            if let Some(owner) = self.open()?.next() {
                return Some(owner);
            }
            self.at = None;
        }
    }

    /// Passes many owners at a time that have equal content for certain.
    fn skip_alike(&mut self, other: &mut Self) {
        while let (Some(a), Some(b)) = (self.open(), other.open()) {
            a.skip_alike(b);
            if !a.is_over() || !b.is_over() {
                return;
            }
        }
    }
}

/// What a run does to the chain.
#[derive(Default)]
struct OfRun {
    edits: Vec<(Hash, RowEdit)>,
    /// Names of the owners that changed, the apex aside.
    changed: Vec<Vec<u8>>,
    /// Where one of them began or ceased to bear, the names between it and the apex: empty
    /// non-terminals, maybe, or owners.
    above: Vec<Vec<u8>>,
}

fn edits_of_run(
    prev: &ZoneVersion,
    version: &ZoneVersion,
    run: &Run,
    params: &Nsec3Params,
) -> OfRun {
    let comparable = prev.writes_like(version);
    let mut olds = Side::new(prev, &run.prev);
    let mut news = Side::new(version, &run.base);
    let (mut at_old, mut at_new): (Option<Owner<'_>>, Option<Owner<'_>>) = (None, None);
    let mut all = OfRun::default();
    loop {
        if comparable && at_old.is_none() && at_new.is_none() {
            olds.skip_alike(&mut news);
        }
        at_old = at_old.or_else(|| olds.next());
        at_new = at_new.or_else(|| news.next());
        let order = match (&at_old, &at_new) {
            (None, None) => return all,
            (Some(a), Some(b)) => a.key().cmp(b.key()),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
        };
        let old = at_old.take_if(|_| order.is_le());
        let new = at_new.take_if(|_| order.is_ge());
        let Some(owner) = old.as_ref().or(new.as_ref()) else {
            return all;
        };
        let same = match (&old, &new) {
            (Some(a), Some(b)) => a.flags().role() == b.flags().role() && a.types().eq(b.types()),
            _ => false,
        };
        if same {
            continue;
        }
        let name = owner.key();
        let bore = |o: &Option<Owner<'_>>| o.as_ref().is_some_and(|o| bears(o.flags(), params));
        if bore(&old) != bore(&new) {
            let above = key::ancestors_from_apex(name).skip(1);
            let above = above.take_while(|a| a.len() < name.len());
            all.above.extend(above.map(<[u8]>::to_vec));
        }
        let row = |v: &ZoneVersion, owner: &Option<Owner<'_>>| match owner {
            Some(owner) => row_at(owner, params),
            None => row_of(v, name, params),
        };
        if let Some(edit) = RowEdit::of(row(prev, &old), row(version, &new)) {
            all.edits.push((hash_of(version, name, params), edit));
        }
        all.changed.push(name.to_vec());
    }
}

/// The bitmap of the name's NSEC3, if it has one: a bearing owner, or an empty non-terminal above
/// one (RFC 5155 §7.1).
fn row_of(version: &ZoneVersion, name: &[u8], params: &Nsec3Params) -> Option<Vec<u8>> {
    match version.owner(name) {
        Some(owner) => row_at(&owner, params),
        None => version
            .has_bearing_below(name, params.opt_out)
            .then(Vec::new),
    }
}

/// The same for an owner.
fn row_at(owner: &Owner<'_>, params: &Nsec3Params) -> Option<Vec<u8>> {
    if !bears(owner.flags(), params) {
        return None;
    }
    let (mut types, mut bitmap): (Vec<Rtype>, _) = (Vec::new(), Vec::new());
    bitmap_types(owner.flags(), owner.types(), false, &mut types);
    push_bitmap(&types, &mut bitmap);
    Some(bitmap)
}

/// Blocks of the old chain and the rows that stand there now.
struct Segment {
    blocks: Range<usize>,
    rows: Vec<Row>,
    mode: Mode,
}

impl Segment {
    fn of(chain: &Chain, block: usize, mode: Mode) -> Segment {
        Segment {
            blocks: block..block + 1,
            rows: rows_of(chain, block).collect(),
            mode,
        }
    }

    /// # Errors
    /// The chain is not that of the version before.
    fn apply(&mut self, change: &Change) -> Result<(), WhyFull> {
        let at = self.rows.binary_search_by(|r| r.0.cmp(&change.hash));
        match (&change.edit, at) {
            (RowEdit::Insert(bitmap), Err(i)) => self.rows.insert(i, (change.hash, *bitmap)),
            (RowEdit::Change(bitmap), Ok(i)) => self.rows[i].1 = *bitmap,
            (RowEdit::Remove, Ok(i)) => drop(self.rows.remove(i)),
            // Or two names have one hash, which signing everything finds.
            _ => return Err(WhyFull::Inconsistent("the NSEC3 chain has other records")),
        }
        Ok(())
    }
}

/// An edit whose bitmap is in the table.
struct Change {
    hash: Hash,
    block: usize,
    edit: RowEdit<u32>,
}

/// The blocks with edits, as segments of one block each or, where too few rows would be left, with
/// blocks to the right of it.
///
/// # Errors
/// The chain is not that of the version before.
fn edited(chain: &Chain, edits: &Edits, bitmaps: &mut Bitmaps) -> Result<Vec<Segment>, WhyFull> {
    let mut changes: Vec<Change> = Vec::with_capacity(edits.len());
    for (hash, edit) in edits {
        let edit = match edit {
            RowEdit::Insert(bitmap) => RowEdit::Insert(bitmaps.intern(bitmap)),
            RowEdit::Change(bitmap) => RowEdit::Change(bitmaps.intern(bitmap)),
            RowEdit::Remove => RowEdit::Remove,
        };
        changes.push(Change {
            hash: *hash,
            block: 0,
            edit,
        });
    }
    let locate = |c: &mut Change| c.block = chain.tree().locate(&c.hash).unwrap_or(0);
    changes.par_iter_mut().with_min_len(64).for_each(locate);
    let of_blocks: Vec<&[Change]> = changes.chunk_by(|a, b| a.block == b.block).collect();
    let one = |changes: &&[Change]| {
        let mut segment = Segment::of(chain, changes[0].block, Mode::default());
        changes.iter().try_for_each(|c| segment.apply(c))?;
        Ok(segment)
    };
    let made: Vec<Segment> = of_blocks
        .par_iter()
        .with_min_len(16)
        .map(one)
        .collect::<Result<_, WhyFull>>()?;
    let mut list: Vec<Segment> = Vec::with_capacity(made.len());
    let mut made = made.into_iter().peekable();
    while let Some(mut segment) = made.next() {
        while segment.rows.len() < ROWS_MIN && segment.blocks.end < chain.tree().len() {
            let behind = segment.blocks.end;
            match made.next_if(|next| next.blocks.start == behind) {
                Some(next) => segment.rows.extend(next.rows),
                None => segment.rows.extend(rows_of(chain, behind)),
            }
            segment.blocks.end += 1;
        }
        list.push(segment);
    }
    Ok(list)
}

fn rows_of(chain: &Chain, block: usize) -> impl Iterator<Item = Row> {
    let block = chain.tree().get(block).map(|b| &b.block);
    block.into_iter().flat_map(|b| b.rows())
}

/// A block to make.
struct Task {
    segment: usize,
    rows: Vec<Row>,
    next: Hash,
    mode: Mode,
    /// All rows of its segment are in it.
    alone: bool,
}

/// What is to be made of a chain.
pub(crate) struct ChainPatch {
    bitmaps: Bitmaps,
    segments: Vec<Range<usize>>,
    tasks: Vec<Task>,
}

impl ChainPatch {
    /// Decides which blocks are made anew. `upkeep`: blocks that are due or lack a key. Runs on the
    /// current pool.
    pub fn new(
        prev: &ZoneVersion,
        chain: &Chain,
        version: &ZoneVersion,
        alignment: &Alignment,
        upkeep: &[(usize, Mode)],
    ) -> Result<ChainPatch, WhyFull> {
        let edits = edits(prev, version, alignment, chain.params())?;
        if chain.bitmaps().len() > chain.len() + BITMAPS_SPARE {
            return Err(WhyFull::Bitmaps);
        }
        let mut bitmaps = chain.bitmaps().clone();
        let list = edited(chain, &edits, &mut bitmaps)?;
        let mut segments: BTreeMap<usize, Segment> =
            list.into_iter().map(|s| (s.blocks.start, s)).collect();
        for (block, mode) in upkeep {
            match within(&mut segments, *block) {
                Some(segment) => segment.mode = segment.mode.with(*mode),
                None => {
                    segments.insert(*block, Segment::of(chain, *block, *mode));
                }
            }
        }
        link(chain, &mut segments);
        Ok(ChainPatch {
            segments: segments.values().map(|s| s.blocks.clone()).collect(),
            tasks: tasks(chain, segments),
            bitmaps,
        })
    }

    /// Blocks to make.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// The new chain, from the finished blocks in order.
    pub fn chain(self, old: &Chain, blocks: Vec<BlockRef>) -> Chain {
        let mut made: Vec<Vec<BlockRef>> = self.segments.iter().map(|_| Vec::new()).collect();
        for (task, block) in self.tasks.iter().zip(blocks) {
            if let Some(list) = made.get_mut(task.segment) {
                list.push(block);
            }
        }
        let mut changes = Vec::new();
        for (blocks, made) in self.segments.into_iter().zip(made) {
            changes.push((blocks.start, made));
            changes.extend(blocks.skip(1).map(|i| (i, Vec::new())));
        }
        old.replaced(self.bitmaps, changes)
    }
}

/// The segment that a block is part of.
fn within(segments: &mut BTreeMap<usize, Segment>, block: usize) -> Option<&mut Segment> {
    let (_, segment) = segments.range_mut(..=block).next_back()?;
    segment.blocks.contains(&block).then_some(segment)
}

/// First hash at or after old block `block` in the new chain, around its end.
fn first_from(chain: &Chain, segments: &BTreeMap<usize, Segment>, block: usize) -> Hash {
    let n = chain.tree().len();
    let mut at = block;
    for _ in 0..=n {
        at = if at >= n { 0 } else { at };
        match segments.get(&at) {
            Some(s) => match s.rows.first() {
                Some(row) => return row.0,
                None => at = s.blocks.end,
            },
            None => {
                let first = chain.tree().get(at).and_then(|b| b.block.row(0));
                return first.map_or([0; 20], |r| *r.hash);
            }
        }
    }
    [0; 20]
}

/// Adds the blocks whose last record names another hash now.
fn link(chain: &Chain, segments: &mut BTreeMap<usize, Segment>) {
    let n = chain.tree().len();
    let starts: Vec<usize> = segments.keys().copied().collect();
    for start in starts {
        let before = start.checked_sub(1).unwrap_or(n.saturating_sub(1));
        if within(segments, before).is_some() {
            continue;
        }
        let next = first_from(chain, segments, start);
        let differs = chain
            .tree()
            .get(before)
            .is_some_and(|b| *b.block.next() != next);
        if differs {
            segments.insert(before, Segment::of(chain, before, Mode::default()));
        }
    }
}

fn tasks(chain: &Chain, segments: BTreeMap<usize, Segment>) -> Vec<Task> {
    let behind = |s: &Segment| first_from(chain, &segments, s.blocks.end);
    let behind: Vec<Hash> = segments.values().map(behind).collect();
    let mut tasks = Vec::with_capacity(segments.len());
    for (number, (segment, behind)) in segments.into_values().zip(behind).enumerate() {
        let Segment { rows, mode, .. } = segment;
        let mut task = |rows: Vec<Row>, next, alone| {
            tasks.push(Task {
                segment: number,
                rows,
                next,
                mode,
                alone,
            });
        };
        match rows.len() {
            0 => {}
            1..=ROWS_MAX => task(rows, behind, true),
            n => {
                let mut parts = rows.chunks(ChainPlan::block_count(n).1).peekable();
                while let Some(part) = parts.next() {
                    let next = parts.peek().and_then(|p| p.first());
                    task(part.to_vec(), next.map_or(behind, |r| r.0), false);
                }
            }
        }
    }
    tasks
}

/// What all blocks of a job share.
pub(crate) struct BlockPatch<'a> {
    pub prev: &'a ZoneVersion,
    /// The chain of `prev`.
    pub chain: &'a Chain,
    pub version: &'a ZoneVersion,
    pub keys: &'a Keys,
    pub masks: &'a Masks,
    pub spread: &'a Spread,
    pub patch: &'a ChainPatch,
}

/// Rows of the blocks that a segment stands for, for questions in rising order.
struct OldRows<'a> {
    chain: &'a Chain,
    blocks: Range<usize>,
    at: Option<BlockRows<'a>>,
}

impl<'a> OldRows<'a> {
    /// The row with this hash, if it was there; its signatures are put into `sigs`.
    fn find(&mut self, hash: &Hash, sigs: &mut Vec<RowSig<'a>>) -> Option<RawRow<'a>> {
        sigs.clear();
        loop {
            if let Some(rows) = &mut self.at {
                let row = rows.find(hash);
                if let Some(row) = row {
                    sigs.extend(rows.sigs(row.index));
                    return Some(row);
                }
                if !rows.is_over() {
                    return None;
                }
            }
            let block = self.chain.tree().get(self.blocks.next()?)?;
            self.at = Some(BlockRows::new(&block.block));
        }
    }
}

/// One block done.
pub(crate) struct BlockPatched {
    pub block: BlockRef,
    pub denial: u64,
    /// Signatures made by zone-signing keys, and by all.
    pub made: (u64, u64),
}

impl BlockPatch<'_> {
    /// Block `i` of the patch; there is one for every `i` that is asked for.
    fn task(&self, i: usize) -> Result<&Task, SignError> {
        self.patch.tasks.get(i).ok_or(SignError::TooLarge)
    }

    pub fn prepare(&self, i: usize, piece: &mut Piece) -> Result<(), SignError> {
        let task = self.task(i)?;
        let Some(first) = task.rows.first() else {
            return Ok(());
        };
        piece.expiration = self.spread.block(&first.0);
        let blocks = self.patch.segments.get(task.segment).cloned();
        let mut old = OldRows {
            chain: self.chain,
            blocks: blocks.unwrap_or_default(),
            at: None,
        };
        let times = (self.spread.inception(), piece.expiration);
        let mut sigs: Vec<RowSig<'_>> = Vec::new();
        for (n, (hash, bitmap)) in task.rows.iter().enumerate() {
            let next = task.rows.get(n + 1).map_or(&task.next, |r| &r.0);
            let bitmap = self.patch.bitmaps.get(*bitmap);
            let was = old.find(hash, &mut sigs);
            let same = was.is_some_and(|row| {
                row.next == next && self.chain.bitmaps().get(row.bitmap) == bitmap
            });
            if !same {
                piece.denial += 1;
                sigs.clear();
            }
            let there = sigs.iter().map(|s| (s.slot, s.expiration));
            let decision = decide(there, self.masks, task.mode, self.spread, piece.expiration);
            for s in sigs.iter().filter(|s| decision.keep >> s.slot & 1 == 1) {
                piece.keep(
                    n as u16,
                    0,
                    s.slot,
                    (s.inception, s.expiration),
                    s.signature,
                );
            }
            if decision.sign == 0 {
                continue;
            }
            let record = Nsec3 {
                hash,
                next,
                bitmap,
                params: self.chain.params(),
                ttl: self.chain.ttl(),
            };
            write_preimage(piece, &record, times, self.version.apex_lower());
            let entry = Entry {
                ordinal: n as u16,
                set: 0,
                group: Group::Zone,
                slots: decision.sign,
            };
            piece.add(self.keys, entry)?;
        }
        Ok(())
    }

    pub fn finish(&self, i: usize, piece: &Piece) -> Result<BlockPatched, SignError> {
        let task = self.task(i)?;
        let mut builder = BlockBuilder::new();
        for (hash, bitmap) in &task.rows {
            builder.row(*hash, *bitmap);
        }
        let times = (self.spread.inception(), piece.expiration);
        for m in piece.all_signatures(self.keys, |_| times)? {
            builder.sig(m.ordinal, m.slot, m.times.0, m.times.1, m.signature);
        }
        let context = self.context(self.version, &self.patch.bitmaps);
        let at = self.version.made_at().to_wire();
        let blocks = self.patch.segments.get(task.segment).cloned();
        let was: Vec<&BlockRef> = blocks
            .filter(|_| task.alone)
            .into_iter()
            .flatten()
            .filter_map(|i| self.chain.tree().get(i))
            .collect();
        let ttl = self.chain.ttl();
        let block = match was[..] {
            [] => builder.build(&task.next, ttl, &context, at),
            _ => {
                let before = self.context(self.prev, self.chain.bitmaps());
                builder.build_beside(&task.next, ttl, &context, at, &was, &before)
            }
        };
        Ok(BlockPatched {
            block,
            denial: piece.denial,
            made: piece.counts(self.keys),
        })
    }

    fn context<'c>(&'c self, of: &'c ZoneVersion, bitmaps: &'c Bitmaps) -> ChainContext<'c> {
        ChainContext {
            zone: of.zone(),
            apex: of.apex(),
            params: self.chain.params(),
            bitmaps,
            keys: of.key_table(),
        }
    }
}
