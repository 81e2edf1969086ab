//! Denial of existence as data: bitmaps, and the NSEC3 chain of a version.

use std::sync::Arc;

use crate::block::{Bitmaps, BlockRef, ChainContext, Hash, Nsec3Params, RawRow, RowSig};
use crate::leaf::Flags;
use crate::rtype::Rtype;
use crate::tree::Tree;
use crate::version::ZoneVersion;

/// How a version proves that something does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Denial {
    /// Unsigned.
    #[default]
    None,
    Nsec {
        ttl: u32,
    },
    Nsec3 {
        params: Nsec3Params,
        ttl: u32,
    },
}

/// True if a set of this type at an owner with these flags is authoritative data that must be
/// signed: nothing occluded; at a cut only DS; never RRSIG.
pub fn is_signed_set(flags: Flags, rtype: Rtype) -> bool {
    !flags.is_occluded() && (!flags.is_cut() || rtype == Rtype::DS) && rtype != Rtype::RRSIG
}

/// True if an owner's types go into its bitmap: at a cut only NS and DS.
fn in_bitmap(flags: Flags, rtype: Rtype) -> bool {
    !flags.is_cut() || matches!(rtype, Rtype::NS | Rtype::DS)
}

/// The types that the denial record of an owner lists, ascending: what is there (at a cut only NS
/// and DS), RRSIG where something is signed (with NSEC always), NSEC itself with NSEC.
pub fn bitmap_types(
    flags: Flags,
    types: impl Iterator<Item = Rtype>,
    for_nsec: bool,
    out: &mut Vec<Rtype>,
) {
    out.clear();
    let mut signed = for_nsec;
    for t in types {
        if in_bitmap(flags, t) {
            out.push(t);
            signed |= is_signed_set(flags, t);
        }
    }
    if signed {
        out.push(Rtype::RRSIG);
    }
    if for_nsec {
        out.push(Rtype::NSEC);
    }
    out.sort_unstable();
}

/// Appends window blocks (RFC 4034 §4.1.2) of ascending types: no empty windows, no trailing zero
/// octets.
pub fn push_bitmap(types: &[Rtype], out: &mut Vec<u8>) {
    let mut i = 0;
    while i < types.len() {
        let window = (types[i].0 >> 8) as u8;
        let mut bits = [0u8; 32];
        let mut len = 0;
        while i < types.len() && (types[i].0 >> 8) as u8 == window {
            let low = types[i].0 as u8;
            bits[low as usize / 8] |= 0x80 >> (low % 8);
            len = low as usize / 8 + 1;
            i += 1;
        }
        out.extend_from_slice(&[window, len as u8]);
        out.extend_from_slice(&bits[..len]);
    }
}

/// A complete NSEC3 chain with its signatures, in hash order.
#[derive(Clone, Debug)]
pub struct Chain {
    pub(crate) params: Nsec3Params,
    pub(crate) ttl: u32,
    pub(crate) bitmaps: Arc<Bitmaps>,
    pub(crate) tree: Tree<BlockRef>,
}

impl Chain {
    /// Bit k: some signature over NSEC3 records is by key slot k.
    pub fn any_mask(&self) -> u16 {
        self.tree.sums().any_mask
    }

    /// From blocks in hash order, whose bitmap ids are those of `bitmaps`.
    pub fn new(params: Nsec3Params, ttl: u32, bitmaps: Bitmaps, blocks: Vec<BlockRef>) -> Chain {
        Chain {
            params,
            ttl,
            bitmaps: Arc::new(bitmaps),
            tree: Tree::from_items(blocks),
        }
    }

    /// The chain with blocks replaced: each entry gives a block number (ascending, once each) and
    /// what stands there instead; untouched blocks are shared. `bitmaps` must extend the chain's.
    pub fn replaced(&self, bitmaps: Bitmaps, changes: Vec<(usize, Vec<BlockRef>)>) -> Chain {
        Chain {
            params: self.params.clone(),
            ttl: self.ttl,
            bitmaps: Arc::new(bitmaps),
            tree: self.tree.replace(changes),
        }
    }

    pub fn params(&self) -> &Nsec3Params {
        &self.params
    }

    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    pub fn bitmaps(&self) -> &Bitmaps {
        &self.bitmaps
    }

    pub fn tree(&self) -> &Tree<BlockRef> {
        &self.tree
    }

    /// Number of NSEC3 records.
    pub fn len(&self) -> usize {
        self.tree.sums().rows as usize
    }

    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    fn near<'a>(&'a self, version: &'a ZoneVersion, hash: &Hash) -> Option<Row<'a>> {
        // Below the first hash: the last record of the chain covers, it wraps (RFC 5155 §1.3).
        let (block, at) = match self.tree.locate(hash) {
            Some(b) => (self.tree.get(b)?, None),
            None => (self.tree.get(self.tree.len().checked_sub(1)?)?, Some(())),
        };
        let i = match at {
            None => block.block.locate(hash)?,
            Some(()) => block.block.len().checked_sub(1)?,
        };
        Some(Row {
            raw: block.block.row(i)?,
            chain: self,
            version,
        })
    }

    /// The NSEC3 whose owner is `hash`.
    pub fn matching<'a>(&'a self, version: &'a ZoneVersion, hash: &Hash) -> Option<Row<'a>> {
        self.near(version, hash).filter(|r| r.hash() == hash)
    }

    /// The NSEC3 that covers `hash`: strictly between owner and next, at the wrap too.
    pub fn covering<'a>(&'a self, version: &'a ZoneVersion, hash: &Hash) -> Option<Row<'a>> {
        self.near(version, hash).filter(|r| r.hash() != hash)
    }

    /// All rows in hash order.
    pub fn rows<'a>(&'a self, version: &'a ZoneVersion) -> impl Iterator<Item = Row<'a>> {
        self.tree.iter().flat_map(move |b| {
            (0..b.block.len()).filter_map(move |i| {
                Some(Row {
                    raw: b.block.row(i)?,
                    chain: self,
                    version,
                })
            })
        })
    }

    pub(crate) fn context<'a>(&'a self, version: &'a ZoneVersion) -> ChainContext<'a> {
        ChainContext {
            zone: version.zone(),
            apex: version.apex(),
            params: &self.params,
            bitmaps: &self.bitmaps,
            keys: version.key_table(),
        }
    }
}

/// One NSEC3 record.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    raw: RawRow<'a>,
    chain: &'a Chain,
    version: &'a ZoneVersion,
}

impl<'a> Row<'a> {
    pub fn hash(&self) -> &'a Hash {
        self.raw.hash
    }

    pub fn next(&self) -> &'a Hash {
        self.raw.next
    }

    pub fn opt_out(&self) -> bool {
        self.chain.params.opt_out
    }

    pub fn ttl(&self) -> u32 {
        self.chain.ttl
    }

    /// Type bitmap in wire form.
    pub fn bitmap(&self) -> &'a [u8] {
        self.chain.bitmaps.get(self.raw.bitmap)
    }

    /// Appends the owner name.
    pub fn push_owner(&self, out: &mut Vec<u8>) {
        self.chain
            .context(self.version)
            .push_owner(self.raw.hash, out);
    }

    /// Appends the NSEC3 RDATA.
    pub fn push_rdata(&self, out: &mut Vec<u8>) {
        self.chain
            .context(self.version)
            .push_rdata(self.raw.next, self.raw.bitmap, out);
    }

    /// Signatures over this record.
    pub fn sigs(&self) -> Vec<RowSig<'a>> {
        self.raw.block.sigs(self.raw.index)
    }

    /// Appends the RDATA of one of its RRSIGs; `false` if the key is not known to the version.
    pub fn push_rrsig(&self, sig: &RowSig<'_>, out: &mut Vec<u8>) -> bool {
        let Some(key) = self.version.key_table().get(sig.slot) else {
            return false;
        };
        crate::block::push_rrsig(
            &crate::block::RrsigFields {
                covered: Rtype::NSEC3,
                algorithm: key.algorithm,
                labels: self.version.apex().label_count() as u8 + 1,
                original_ttl: self.chain.ttl,
                expiration: sig.expiration,
                inception: sig.inception,
                tag: key.tag,
            },
            self.version.apex_lower(),
            sig.signature,
            out,
        );
        true
    }
}

/// Blocks whose sums want attention; see [`Tree::filter`].
pub fn blocks_where<'a>(
    chain: &'a Chain,
    want: impl Fn(&crate::block::BlockSums) -> bool + Copy + 'a,
) -> impl Iterator<Item = (usize, &'a BlockRef)> {
    chain.tree.filter(move |s| want(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmap_of_rfc4034() {
        // RFC 4034 §4.3: A MX RRSIG NSEC TYPE1234.
        let mut out = Vec::new();
        push_bitmap(
            &[Rtype::A, Rtype::MX, Rtype::RRSIG, Rtype::NSEC, Rtype(1234)],
            &mut out,
        );
        let mut want = vec![0, 6, 0x40, 1, 0, 0, 0, 3, 4, 0x1b];
        want.extend_from_slice(&[0; 26]);
        want.push(0x20);
        assert_eq!(out, want);
    }

    #[test]
    fn bitmaps_at_cuts() {
        let mut out = Vec::new();
        let all = [Rtype::A, Rtype::NS, Rtype::DS];
        bitmap_types(
            Flags(Flags::CUT | Flags::SECURE),
            all.iter().copied(),
            false,
            &mut out,
        );
        assert_eq!(out, [Rtype::NS, Rtype::DS, Rtype::RRSIG]);
        bitmap_types(Flags(Flags::CUT), [Rtype::NS].into_iter(), false, &mut out);
        assert_eq!(out, [Rtype::NS], "an insecure cut has nothing signed");
        bitmap_types(Flags(Flags::CUT), [Rtype::NS].into_iter(), true, &mut out);
        assert_eq!(out, [Rtype::NS, Rtype::RRSIG, Rtype::NSEC]);
    }
}
