//! What a block adds up to, from blocks that stood where it stands: most rows are the same, and only
//! the others are hashed.

use std::cmp::Ordering;

use super::{BlockRef, BlockSums, ChainContext, DBlock, RowWalk};
use crate::expand::Buffers;
use crate::fingerprint::Hasher;

/// What the records of `block` add up to, which stands where the blocks `was` stood. `None` if they do
/// not write alike; what is read off its columns is for the caller.
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
    let (mut gone, mut sums) = (BlockSums::default(), BlockSums::default());
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
            sums.take(&mut new, &mut hasher, &mut buffers);
        }
    }
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
