//! A leaf in which a few owners change: groups of owners between restarts of
//! front coding are copied as they stand, the owners around a change are written anew without being
//! hashed, and what the leaf adds up to follows from what went and what came.
//!
//! It gives the leaf that writing all owners gives. Where that is not certain, it gives none.

use std::collections::BTreeMap;

use crate::build::BuildError;
use crate::key;
use crate::leaf::{LEAF_MAX, LeafEncoder, RESTART, RawIter, RawOwner, ULeaf};
use crate::sums::{LeafSums, sum_owner, sum_some};
use crate::tree::{Item, Sums};
use crate::update::{Job, Made, OwnerChange, OwnerEdit, Writer};
use crate::version::{LeafRef, Unit, ZoneVersion};

/// One leaf being spliced.
struct Splice<'a> {
    leaf: &'a ULeaf,
    it: RawIter<'a>,
    /// The next owner of the old leaf, when it was looked at already.
    head: Option<RawOwner<'a>>,
    /// Owners of the old leaf that are dealt with.
    done: usize,
    w: Writer<'a>,
    gone: LeafSums,
    /// Numbers in the new leaf of owners that came.
    come: Vec<u16>,
    changes: Vec<OwnerChange>,
}

/// Splices leaf `i` of the old version. `edits`: those of its range, in order; none may change what
/// another owner is. `None`: the leaf is to be written as a whole.
pub(crate) fn splice<'e>(
    job: &Job<'_>,
    new: &ZoneVersion,
    i: usize,
    edits: impl Iterator<Item = (&'e Vec<u8>, &'e OwnerEdit)>,
) -> Result<Option<Made>, BuildError> {
    let Some(old) = job.old.tree.get(i) else {
        return Ok(None);
    };
    let unit = job.old.unit(i + 1);
    let mut w = Writer::new(new, job.old);
    w.enc = LeafEncoder::from_fingerprint(old.u.fingerprint());
    w.enc.reserve(old.u.bytes().len() + 512);
    let mut s = Splice {
        leaf: &old.u,
        it: old.u.iter(&job.old.kinds),
        head: None,
        done: 0,
        w,
        gone: LeafSums::zero(),
        come: Vec::new(),
        changes: Vec::new(),
    };
    for (k, edit) in edits {
        if !s.up_to(k) || !s.edit(job, &unit, k, edit)? {
            return Ok(None);
        }
    }
    if !s.rest() {
        return Ok(None);
    }
    s.finish(old, new)
}

impl<'a> Splice<'a> {
    /// Copies all owners before `key`. False: the leaf is malformed.
    fn up_to(&mut self, key: &[u8]) -> bool {
        self.copy_groups(self.leaf.group_of(key));
        while self.done < self.leaf.owner_count() {
            if !self.look() {
                return false;
            }
            if self.it.key.as_slice() >= key {
                return true;
            }
            self.copy_head();
            // Behind an owner that came or went groups begin elsewhere; they may fit again.
            self.copy_groups(self.leaf.group_of(key));
        }
        true
    }

    fn rest(&mut self) -> bool {
        let groups = self.leaf.restart_count();
        self.copy_groups(groups);
        while self.done < self.leaf.owner_count() {
            if !self.look() {
                return false;
            }
            self.copy_head();
            self.copy_groups(groups);
        }
        true
    }

    /// Copies whole groups before `end`, if one begins here on both sides.
    fn copy_groups(&mut self, end: usize) {
        let group = self.done / RESTART;
        let begins = self.done.is_multiple_of(RESTART) && self.w.enc.len().is_multiple_of(RESTART);
        if self.head.is_none() && begins && group < end {
            self.w.enc.copy_groups(self.leaf, group..end);
            self.done = (end * RESTART).min(self.leaf.owner_count());
            self.it.restart(self.leaf, end);
        }
    }

    /// Looks at the next owner of the old leaf.
    fn look(&mut self) -> bool {
        if self.head.is_none() {
            self.head = self.it.next();
        }
        self.head.is_some()
    }

    fn copy_head(&mut self) {
        if let Some(raw) = self.head.take() {
            let enc = &mut self.w.enc;
            enc.owner(raw.flags, &self.it.key, raw.case, raw.n_sets);
            enc.raw_sets(raw.sets);
            self.w.written += 1;
            self.done += 1;
        }
    }

    /// Writes the owner with key `k` as it shall be; the old leaf is at it, or behind its place. False:
    /// the leaf has become too large.
    fn edit(
        &mut self,
        job: &Job<'_>,
        unit: &Unit<'_>,
        k: &[u8],
        edit: &OwnerEdit,
    ) -> Result<bool, BuildError> {
        let there = self.done < self.leaf.owner_count() && self.it.key == k;
        let owner = match self.head.filter(|_| there) {
            Some(raw) => unit.owner_at(raw.ordinal),
            None => None,
        };
        if let Some(owner) = &owner {
            let sums = sum_owner(unit, owner.ordinal());
            self.w.enc.sub_fingerprint(sums.full);
            self.gone.add(&sums);
            self.head = None;
            self.done += 1;
        }
        let mut stop = key::ancestors_from_apex(k)
            .take_while(|p| p.len() < k.len())
            .find(|p| job.stops(p, true))
            .map(<[u8]>::to_vec);
        let at = self.w.enc.len();
        let change = self.w.owner(k, owner.as_ref(), Some(edit), &mut stop)?;
        if !self.w.out.is_empty() {
            return Ok(false);
        }
        if self.w.enc.len() > at {
            self.come.push(at as u16);
        }
        self.changes.extend(change);
        Ok(true)
    }

    fn finish(mut self, old: &LeafRef, new: &ZoneVersion) -> Result<Option<Made>, BuildError> {
        let mut made = Made {
            changes: self.changes,
            written: self.w.written,
            ..Made::default()
        };
        if self.w.enc.is_empty() {
            return Ok(Some(made));
        }
        if self.w.enc.octets() > LEAF_MAX || self.w.enc.is_full() {
            return Ok(None);
        }
        let u = self.w.enc.finish();
        let bare = LeafRef::new(u.clone(), None, LeafSums::zero());
        let unit = Unit::new(new, 1, &bare);
        let come = sum_some(&unit, &self.come);
        // What does not follow is counted from the leaf.
        let moved = old.sums().moved(&self.gone, &come);
        let sums = moved.filter(|m| m.content == u.fingerprint());
        let sums = sums.unwrap_or_else(|| crate::sums::sum_made(new, 1, &u, None));
        made.leaves.push(LeafRef::new(u, None, sums));
        Ok(Some(made))
    }
}

/// Whether edits leave every other owner what it is: where one begins or ceases to occlude, nothing
/// is below it, before or after. And nothing in the zone is a signature or denial record, whose sums
/// are counted apart.
pub(crate) fn is_plain(
    new: &ZoneVersion,
    edits: &BTreeMap<Vec<u8>, OwnerEdit>,
    toggled: &[&[u8]],
) -> bool {
    let denial = |k: &crate::leaf::Kind| k.rtype.is_denial_or_signature();
    let alone = |k: &&[u8]| {
        use std::ops::Bound::{Excluded, Unbounded};
        let next = edits.range::<[u8], _>((Excluded(*k), Unbounded)).next();
        let of_old = new.succ(k);
        !next.is_some_and(|(n, _)| key::below(n, k))
            && !of_old.is_some_and(|o| key::below(o.key(), k))
    };
    !new.kinds.iter().any(denial) && toggled.iter().all(alone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Builder, RecordBatch};
    use crate::id::{VersionId, ZoneId};
    use crate::name::Name;
    use crate::rtype::Rtype;
    use crate::update::Edit;
    use cascade_time::Timestamp;
    use proptest::prelude::*;

    const SOA: &[u8] = b"\x01m\0\x01r\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05";

    /// Owner number `n`; every seventh is below the one before it.
    fn key_of(n: u16) -> Vec<u8> {
        let name = |n: u16| format!("name-{n:04}\0").into_bytes();
        match n % 7 {
            6 => [name(n - 1), b"ns\0".to_vec()].concat(),
            _ => name(n),
        }
    }

    fn set_of(kind: u8, n: u8) -> (Rtype, Vec<Vec<u8>>) {
        match kind % 5 {
            0 => (
                Rtype::NS,
                vec![vec![1, b'a' + n % 20, 0], b"\x01z\0".to_vec()],
            ),
            1 => (Rtype::DS, vec![vec![n; 36]]),
            2 => (Rtype::A, vec![vec![10, 0, 0, n]]),
            3 => (Rtype::TXT, vec![[vec![250], vec![n; 250]].concat(); 1]),
            _ => (Rtype::DNAME, vec![vec![1, b'a' + n % 20, 0]]),
        }
    }

    fn zone(owners: u16) -> ZoneVersion {
        let mut edits = vec![];
        for n in (0..owners).filter(|n| n % 11 != 3) {
            let (rtype, set) = set_of(if n % 7 == 6 { 2 } else { (n % 4) as u8 }, n as u8);
            let ttl = if n % 29 == 0 { 7200 } else { 3600 };
            edits.push(Edit {
                key: key_of(n),
                case: None,
                rtype,
                set: Some((ttl, set)),
            });
        }
        let zone = ZoneId([3; 16]);
        let apex = Name::parse("Zone.example").unwrap();
        let mut batch = RecordBatch::new();
        batch.owner(&[], None);
        batch.push(Rtype::SOA, 3600, SOA, 0).unwrap();
        let at = Timestamp::from_secs(1_800_000_000);
        let b = Builder::new(zone, VersionId(1), &apex, at).batches(vec![batch]);
        let v = b.build().unwrap();
        v.update_by(VersionId(2), v.made_at(), edits, true)
            .unwrap()
            .version
    }

    fn same(a: &ZoneVersion, b: &ZoneVersion) -> Result<(), TestCaseError> {
        prop_assert_eq!(a.tree.len(), b.tree.len());
        for (x, y) in a.tree.iter().zip(b.tree.iter()) {
            prop_assert_eq!(x.u.bytes(), y.u.bytes());
            prop_assert_eq!(x.sums(), y.sums());
            prop_assert_eq!(x.fence, y.fence);
        }
        prop_assert_eq!(a.sums(), b.sums());
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        /// Leaves, sums and what is told of owners are those of writing every owner; and the comparison
        /// of two leaves tells each owner once, kept ones with their octets.
        #[test]
        fn a_spliced_leaf_is_the_written_one(
            owners in 1u16..300,
            rounds in prop::collection::vec(
                prop::collection::vec((0u16..320, 0u8..5, prop::option::of((any::<u8>(), prop::sample::select(vec![60u32, 3600, 9000])))), 1..6),
                1..4),
        ) {
            let mut v = zone(owners);
            for edits in rounds {
                let edits: Vec<Edit> = edits
                    .into_iter()
                    .map(|(n, kind, set)| {
                        let (rtype, rdatas) = set_of(kind, set.map_or(0, |s| s.0));
                        Edit { key: key_of(n), case: None, rtype, set: set.map(|(_, ttl)| (ttl, rdatas)) }
                    })
                    .collect();
                let whole = v.update_by(VersionId(3), v.made_at(), edits.clone(), true).unwrap();
                let spliced = v.update_by(VersionId(3), v.made_at(), edits, false).unwrap();
                same(&whole.version, &spliced.version)?;
                prop_assert_eq!(&whole.owners, &spliced.owners);
                let shared = v.tree.len().min(whole.version.tree.len());
                for i in 0..shared {
                    compared(&v.unit(i + 1), &spliced.version.unit(i + 1))?;
                }
                v = spliced.version;
            }
        }
    }

    fn compared(a: &Unit<'_>, b: &Unit<'_>) -> Result<(), TestCaseError> {
        let c = crate::compare::compare(a, b);
        let (mut x, mut y) = (c.gone.clone(), c.come.clone());
        for (old, new) in &c.kept {
            prop_assert_eq!(old.len(), new.len());
            x.extend(old.clone());
            y.extend(new.clone());
            for (i, j) in old.clone().zip(new.clone()) {
                let (p, q) = (a.owner_at(i).unwrap(), b.owner_at(j).unwrap());
                prop_assert_eq!(p.key(), q.key());
                prop_assert_eq!(p.flags(), q.flags());
                prop_assert!(
                    p.sets()
                        .zip(q.sets())
                        .all(|(s, t)| s.rdatas().eq(t.rdatas()) && s.ttl == t.ttl)
                );
            }
        }
        x.sort_unstable();
        y.sort_unstable();
        prop_assert!(x.iter().copied().eq(0..a.owner_count() as u16));
        prop_assert!(y.iter().copied().eq(0..b.owner_count() as u16));
        Ok(())
    }
}
