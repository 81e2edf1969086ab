//! What a block adds up to, from blocks that stood where it stands: most rows are the same, and only the
//! others are hashed.

use std::cmp::Ordering;

use super::{BlockRef, BlockSums, ChainContext, DBlock, RowWalk};
use crate::expand::{Buffers, Whole};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::version::Record;

/// Records that are counted.
#[derive(Default)]
struct Tally {
    records: u64,
    wire: u64,
    fp: Fingerprint,
}

impl Tally {
    /// Counts the records of the row at hand, and moves on.
    fn take(&mut self, row: &mut RowWalk<'_>, hasher: &mut Hasher, buffers: &mut Buffers) {
        let mut count = |r: Record<'_>| {
            self.records += 1;
            self.wire += r.owner.len() as u64 + 10 + r.rdata.len() as u64;
            self.fp.add(hasher.record(r.owner, r.rtype, r.ttl, r.rdata));
        };
        row.take(&mut Whole::new(buffers, &mut count));
    }
}

/// Rows, records and fingerprint of `block`, which stands where the blocks `was` stood. `None` if they do not write
/// alike; masks and expirations are for the caller.
pub(super) fn moved(
    was: &[&BlockRef],
    was_ctx: &ChainContext<'_>,
    block: &DBlock,
    ctx: &ChainContext<'_>,
) -> Option<BlockSums> {
    if !alike(was, was_ctx, ctx) {
        return None;
    }
    let mut hasher = Hasher::new(ctx.zone);
    let mut buffers = Buffers::default();
    let (mut gone, mut come) = (Tally::default(), Tally::default());
    let mut olds = was.iter().map(|b| RowWalk::new(&b.block, *was_ctx));
    let mut old = olds.next();
    let mut new = RowWalk::new(block, *ctx);
    loop {
        while old.as_ref().is_some_and(|row| row.key().is_none()) {
            old = olds.next();
        }
        let order = match (old.as_ref().and_then(RowWalk::key), new.key()) {
            (None, None) => break,
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
        };
        if let Some(row) = old.as_mut().filter(|_| order.is_le()) {
            if order.is_eq() && row.same(&new) {
                row.skip();
                new.skip();
                continue;
            }
            gone.take(row, &mut hasher, &mut buffers);
        }
        if order.is_ge() {
            come.take(&mut new, &mut hasher, &mut buffers);
        }
    }
    let mut sums = BlockSums {
        rows: block.len() as u64,
        records: come.records,
        wire: come.wire,
        fp: come.fp,
        ..Default::default()
    };
    for block in was {
        sums.records += block.sums.records;
        sums.wire += block.sums.wire;
        sums.fp.add(block.sums.fp);
    }
    sums.records = sums.records.checked_sub(gone.records)?;
    sums.wire = sums.wire.checked_sub(gone.wire)?;
    sums.fp.sub(gone.fp);
    Some(sums)
}

/// Equal rows with equal signatures are equal records.
fn alike(was: &[&BlockRef], was_ctx: &ChainContext<'_>, ctx: &ChainContext<'_>) -> bool {
    let slots = was.iter().fold(0, |mask, b| mask | b.sums.any_mask);
    let mut slots = (0..16u8).filter(|slot| slots >> slot & 1 == 1);
    was_ctx.zone == ctx.zone
        && was_ctx.apex == ctx.apex
        && was_ctx.params == ctx.params
        && slots.all(|slot| was_ctx.keys.get(slot) == ctx.keys.get(slot))
}
