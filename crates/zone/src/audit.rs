//! Everything that a version says about itself, worked out again from its bytes.
//!
//! For tests, and for whoever has the time: it reads the whole zone.

use crate::block::{BlockRef, adopt_block};
use crate::denial::Denial;
use crate::key;
use crate::leaf::Flags;
use crate::rtype::Rtype;
use crate::sidecar::{NSEC_SET, SLeaf};
use crate::sums::sum_pair;
use crate::tree::Item;
use crate::version::{LeafRef, ZoneVersion};

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("unit {0}: {1}")]
    Unit(usize, &'static str),
    #[error("block {0}: {1}")]
    Block(usize, &'static str),
    #[error("the version: {0}")]
    Version(&'static str),
}

impl ZoneVersion {
    /// Checks the store's invariants; empty = all hold.
    pub fn audit(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut walk = Walk::default();
        self.audit_unit(0, &self.apex, &mut walk, &mut faults);
        for (i, leaf) in self.tree.iter().enumerate() {
            self.audit_unit(i + 1, leaf, &mut walk, &mut faults);
        }
        self.audit_chain(&mut faults);
        let again = ZoneVersion {
            tree: crate::tree::Tree::from_items(self.tree.iter().cloned().collect()),
            ..self.clone()
        }
        .assemble();
        if again.sums != self.sums {
            faults.push(Fault::Version("sums differ from a recount"));
        }
        if again.serial != self.serial {
            faults.push(Fault::Version("its serial is not that of its SOA"));
        }
        faults
    }

    fn audit_unit(&self, i: usize, leaf: &LeafRef, walk: &mut Walk, faults: &mut Vec<Fault>) {
        let mut bad = |what| faults.push(Fault::Unit(i, what));
        let sums = sum_pair(self, i, &leaf.u, leaf.s.as_ref());
        let bare = sum_pair(self, i, &leaf.u, None);
        if sums != *leaf.sums {
            bad("sums differ from a recount");
        }
        if sums.full_mask & !sums.any_mask != 0 && sums.any_mask != 0 {
            bad("full_mask has more than any_mask");
        }
        if bare.full != leaf.u.fingerprint() {
            bad("the content's fingerprint differs");
        }
        if leaf.fence != key::fence(leaf.u.first_key()) {
            bad("the fence is not that of the first owner");
        }
        if let Some(s) = &leaf.s {
            let mut fp = sums.full;
            fp.sub(bare.full);
            if fp != s.fingerprint() {
                bad("the signatures' fingerprint differs");
            }
        }
        if self.is_signed() {
            self.audit_signed(i, leaf, faults);
        }
        let unit = self.unit(i);
        for owner in unit.owners() {
            walk.owner(i, owner.key(), owner.flags(), owner.types(), faults);
        }
    }

    /// S5, S10: entries fit the owners, and what the last NSEC names is the next bearing owner.
    fn audit_signed(&self, i: usize, leaf: &LeafRef, faults: &mut Vec<Fault>) {
        let mut bad = |what| faults.push(Fault::Unit(i, what));
        let unit = self.unit(i);
        let with_nsec = matches!(self.denial, Denial::Nsec { .. });
        let Some(s) = leaf.s.as_ref().map(SLeaf::view) else {
            let bears = |o: crate::version::Owner<'_>| !o.flags().is_occluded();
            if with_nsec && unit.owners().any(bears) {
                bad("an owner has no NSEC");
            }
            return;
        };
        let mut seen = 0;
        let mut last = None;
        for owner in unit.owners() {
            for (entry, signature) in s.entries(s.range_of(owner.ordinal())) {
                seen += 1;
                let (slot, len) = s.key(entry.key);
                if self.keys.get(slot).is_none_or(|k| k.sig_len != len)
                    || signature.len() != len as usize
                {
                    bad("a signature is not of its key");
                }
                let rtype = owner.sets().nth(entry.set as usize).map(|s| s.rtype);
                let right = match entry.set {
                    NSEC_SET => with_nsec && !owner.flags().is_occluded(),
                    _ => rtype.is_some_and(|t| owner.is_signed_set(t)),
                };
                if !right {
                    bad("a signature over what is not signed");
                }
            }
            if !owner.flags().is_occluded() {
                last = Some(owner);
            }
        }
        if seen != s.len() {
            bad("a signature of no owner");
        }
        if with_nsec && let Some(last) = last {
            let next = self.succ_bearing(last.key());
            let next = next.as_ref().map_or(&[][..], |o| o.key());
            if s.nsec_ttl().is_none() || s.next() != next {
                bad("its last NSEC names the wrong owner");
            }
        }
    }

    /// S7: hashes ascend, blocks link to each other around the end, sums are right.
    fn audit_chain(&self, faults: &mut Vec<Fault>) {
        let Some(chain) = &self.chain else {
            if matches!(self.denial, Denial::Nsec3 { .. }) {
                faults.push(Fault::Version("no NSEC3 chain"));
            }
            return;
        };
        let blocks: Vec<&BlockRef> = chain.tree.iter().collect();
        let mut last: Option<&[u8]> = None;
        for (i, b) in blocks.iter().enumerate() {
            let mut bad = |what| faults.push(Fault::Block(i, what));
            match adopt_block(b.block.clone(), &chain.context(self)) {
                Some(again) if again.sums() == b.sums() => {}
                Some(_) => bad("sums differ from a recount"),
                None => bad("the fingerprint differs"),
            }
            if b.block.is_empty() || b.block.ttl() != chain.ttl {
                bad("it is empty or has another TTL");
            }
            let next = blocks.get(i + 1).or(blocks.first());
            if next.is_some_and(|n| n.block.first_hash() != b.block.next()) {
                bad("it does not link to the next");
            }
            for row in (0..b.block.len()).filter_map(|n| b.block.row(n)) {
                if last.is_some_and(|l| l >= &row.hash[..]) {
                    bad("hashes do not ascend");
                }
                if row.bitmap as usize >= chain.bitmaps.len() {
                    bad("a row names an unknown bitmap");
                }
                last = Some(row.hash);
            }
        }
    }
}

/// S1, S4: order of owners, and their roles, from types and names alone.
#[derive(Default)]
struct Walk {
    last: Option<Vec<u8>>,
    stop: Option<Vec<u8>>,
}

impl Walk {
    fn owner(
        &mut self,
        unit: usize,
        key: &[u8],
        flags: Flags,
        types: impl Iterator<Item = Rtype>,
        faults: &mut Vec<Fault>,
    ) {
        if self.last.as_ref().is_some_and(|l| l.as_slice() >= key) {
            faults.push(Fault::Unit(unit, "owners do not ascend"));
        }
        self.last = Some(key.to_vec());
        let mut want = if key::is_wildcard(key) {
            Flags::WILD
        } else {
            0
        };
        let types: Vec<Rtype> = types.collect();
        let has = |t: Rtype| types.contains(&t);
        if self.stop.as_ref().is_some_and(|s| key::below(key, s)) {
            want |= Flags::OCCLUDED;
        } else {
            self.stop = None;
            if has(Rtype::NS) && !key.is_empty() {
                want |= Flags::CUT | if has(Rtype::DS) { Flags::SECURE } else { 0 };
            }
            if has(Rtype::DNAME) {
                want |= Flags::DNAME;
            }
            if want & (Flags::CUT | Flags::DNAME) != 0 {
                self.stop = Some(key.to_vec());
            }
        }
        if flags.role() != want {
            faults.push(Fault::Unit(
                unit,
                "an owner has another role than its place gives",
            ));
        }
        if types.is_empty() || types.windows(2).any(|w| w[0] >= w[1]) {
            faults.push(Fault::Unit(unit, "types do not ascend"));
        }
    }
}
