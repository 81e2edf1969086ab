//! A version that differs from its predecessor in few owners is the predecessor, edited: the records
//! are compared with what it has, and nothing that is the same is written or hashed again.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::{BuildError, Builder, Built, OwnerGroup, RawRecord, Roles, Slot, normalise};
use crate::leaf::{Kinds, RawIter, RawOwner, RawSet, RdataIter};
use crate::rtype::Rtype;
use crate::update::Edit;
use crate::version::ZoneVersion;

/// Of the predecessor's owners, at most one in so many may differ; from there on building anew is
/// no dearer, and gives full leaves and a pool that fits.
const EDITED: usize = 8;
/// In small zones so many may, whatever their share.
const FEW: usize = 64;

/// What all ranges share while they are compared.
struct Comparison<'a> {
    old: &'a ZoneVersion,
    /// Owners that differ, so far.
    differing: AtomicUsize,
    most: usize,
}

impl Comparison<'_> {
    /// False: too many to be worth an edit.
    fn one_more(&self) -> bool {
        self.differing.fetch_add(1, Ordering::Relaxed) < self.most
    }

    /// An owner whose spelling changed, which no edit expresses.
    fn give_up(&self) {
        self.differing.fetch_add(self.most + 1, Ordering::Relaxed);
    }
}

impl Builder<'_> {
    /// The predecessor is content of the same zone, spelled alike.
    pub(super) fn can_edit(&self, old: &ZoneVersion) -> bool {
        !old.is_signed() && old.zone == self.zone && *old.apex_name == self.apex
    }

    /// Shows all owners to the inspector; `None` if too much differs from `old`.
    pub(super) fn beside(
        &self,
        old: &ZoneVersion,
        starts: &[Vec<u8>],
        ranges: &[Vec<Slot>],
    ) -> Result<Option<Built>, BuildError> {
        let owners = old.sums.owners as usize;
        let shared = Comparison {
            old,
            differing: AtomicUsize::new(0),
            most: (owners / EDITED).max(FEW),
        };
        let range = |i: usize| ranges.get(i).map_or(&[][..], Vec::as_slice);
        let apex = self.compare(&shared, &[], Some(&[0]), range(0), Roles { stop: None });
        match self.soas(range(0)) {
            1 => {}
            0 => return Err(BuildError::NoSoa),
            _ => return Err(BuildError::SeveralSoas),
        }
        let dname = range(0)
            .iter()
            .any(|s| self.record(s).rtype == Rtype::DNAME);
        let rest = starts.par_iter().enumerate().skip(1).map(|(i, start)| {
            let stop = self.open_stop(ranges, range(i), dname);
            let end = starts.get(i + 1).map(Vec::as_slice);
            self.compare(&shared, start, end, range(i), Roles { stop })
        });
        let mut found = vec![apex];
        found.extend(rest.collect::<Vec<Found>>());
        if shared.differing.into_inner() > shared.most {
            return Ok(None);
        }
        let wildcards = found.iter().any(|f| f.wildcards);
        let edits = found.into_iter().flat_map(|f| f.edits).collect();
        let update = old.update(self.id, self.made_at, edits)?;
        Ok(Some(Built {
            version: update.version,
            changes: Some(update.owners),
            wildcards,
        }))
    }

    fn soas(&self, apex: &[Slot]) -> usize {
        let records = apex.iter().map(|s| self.record(s));
        let mut soas: Vec<_> = records.filter(|r| r.rtype == Rtype::SOA).collect();
        normalise(&super::NoInspector, &[], &mut soas);
        soas.len()
    }

    /// Compares the owners of `range` with those of the predecessor from `start` on, before `end`.
    fn compare<'b>(
        &'b self,
        shared: &Comparison<'_>,
        start: &[u8],
        end: Option<&[u8]>,
        range: &'b [Slot],
        mut roles: Roles<'b>,
    ) -> Found {
        let mut found = Found::default();
        let mut old = OldOwners::new(shared.old, start, end);
        let mut records: Vec<RawRecord<'b>> = Vec::new();
        let mut at = 0;
        while at < range.len() {
            let to = self.owner_end(range, at);
            let first = &range[at];
            let batch = &self.batches[first.batch as usize];
            let (key, case) = (batch.key_at(first.owner), batch.case_at(first.owner));
            records.clear();
            records.extend(range[at..to].iter().map(|s| self.record(s)));
            at = to;
            normalise(self.inspector, key, &mut records);
            let flags = roles.next(key, &records);
            found.wildcards |= flags.is_wild();
            self.inspector.owner(&OwnerGroup {
                key,
                case,
                records: &records,
                flags,
                above: roles.above(flags),
            });
            while old.key().is_some_and(|k| k < key) {
                found.removed(shared, &mut old);
            }
            if old.key() != Some(key) {
                found.added(shared, key, case, &records);
                continue;
            }
            if !old.same(&records) {
                found.changed(shared, key, &old, &records);
            }
            if old.owner.case != case {
                shared.give_up();
            }
            old.next();
        }
        while old.key().is_some() {
            found.removed(shared, &mut old);
        }
        found
    }

    fn record(&self, s: &Slot) -> RawRecord<'_> {
        self.batches[s.batch as usize].record_at(s.rec)
    }
}

/// What a comparison found in one range.
#[derive(Default)]
struct Found {
    edits: Vec<Edit>,
    wildcards: bool,
}

impl Found {
    fn edit(
        &mut self,
        key: &[u8],
        case: Option<&[u8]>,
        rtype: Rtype,
        run: Option<&[RawRecord<'_>]>,
    ) {
        let set = |run: &[RawRecord<'_>]| {
            let rdatas = run.iter().map(|r| r.rdata.to_vec()).collect();
            (run[0].ttl, rdatas)
        };
        self.edits.push(Edit {
            key: key.to_vec(),
            case: case.map(<[u8]>::to_vec),
            rtype,
            set: run.map(set),
        });
    }

    fn added(
        &mut self,
        shared: &Comparison<'_>,
        key: &[u8],
        case: Option<&[u8]>,
        records: &[RawRecord<'_>],
    ) {
        if shared.one_more() {
            for run in runs(records) {
                self.edit(key, case, run[0].rtype, Some(run));
            }
        }
    }

    /// The owner at which `old` stands is gone; `old` goes on.
    fn removed(&mut self, shared: &Comparison<'_>, old: &mut OldOwners<'_, '_>) {
        if shared.one_more()
            && let Some(key) = old.key()
        {
            for rtype in old.types() {
                self.edit(key, None, rtype, None);
            }
        }
        old.next();
    }

    fn changed(
        &mut self,
        shared: &Comparison<'_>,
        key: &[u8],
        old: &OldOwners<'_, '_>,
        records: &[RawRecord<'_>],
    ) {
        if !shared.one_more() {
            return;
        }
        for rtype in old.types() {
            if runs(records).all(|r| r[0].rtype != rtype) {
                self.edit(key, None, rtype, None);
            }
        }
        for run in runs(records) {
            if !old.sets.iter().any(|s| old.same_set(s, run)) {
                self.edit(key, None, run[0].rtype, Some(run));
            }
        }
    }
}

/// The RRsets among the records of an owner.
fn runs<'r, 'a>(records: &'r [RawRecord<'a>]) -> impl Iterator<Item = &'r [RawRecord<'a>]> {
    records.chunk_by(|a, b| a.rtype == b.rtype)
}

/// The predecessor's owners of a range, one after the other.
struct OldOwners<'a, 'e> {
    version: &'a ZoneVersion,
    kinds: &'a Kinds,
    end: Option<&'e [u8]>,
    /// Number of the leaf that comes next; the apex has none.
    leaf: usize,
    walk: Option<RawIter<'a>>,
    owner: RawOwner<'a>,
    sets: Vec<RawSet<'a>>,
}

impl<'a, 'e> OldOwners<'a, 'e> {
    /// At the first owner from `start` on.
    fn new(version: &'a ZoneVersion, start: &[u8], end: Option<&'e [u8]>) -> Self {
        let (leaf, walk) = match start {
            [] => (usize::MAX, Some(version.apex.u.iter(&version.kinds))),
            _ => (version.tree.locate(start).unwrap_or(0), None),
        };
        let mut owners = OldOwners {
            version,
            kinds: &version.kinds,
            end,
            leaf,
            walk,
            owner: RawOwner::EMPTY,
            sets: Vec::new(),
        };
        owners.next();
        while owners.key().is_some_and(|k| k < start) {
            owners.next();
        }
        owners
    }

    /// Where the walk stands; `None` behind the last owner.
    fn key(&self) -> Option<&[u8]> {
        self.walk.as_ref().map(|w| &w.key[..])
    }

    fn next(&mut self) {
        loop {
            self.sets.clear();
            if let Some(walk) = &mut self.walk
                && let Some(owner) = walk.next_into(&mut self.sets)
            {
                if self.end.is_some_and(|end| walk.key.as_slice() >= end) {
                    self.walk = None;
                }
                self.owner = owner;
                return;
            }
            self.walk = None;
            let leaf = self.version.tree.get(self.leaf);
            let Some(leaf) = leaf.filter(|l| self.end.is_none_or(|end| l.u.first_key() < end))
            else {
                return;
            };
            self.leaf += 1;
            self.walk = Some(leaf.u.iter(self.kinds));
        }
    }

    fn types(&self) -> impl Iterator<Item = Rtype> {
        let kinds = self.sets.iter().filter_map(|s| self.kinds.get(s.kind));
        kinds.map(|k| k.rtype)
    }

    /// The owner has exactly these records.
    fn same(&self, records: &[RawRecord<'_>]) -> bool {
        let mut sets = self.sets.iter();
        runs(records).all(|run| sets.next().is_some_and(|s| self.same_set(s, run)))
            && sets.next().is_none()
    }

    fn same_set(&self, set: &RawSet<'a>, run: &[RawRecord<'_>]) -> bool {
        let kind = self.kinds.get(set.kind);
        set.count as usize == run.len()
            && kind.is_some_and(|k| (k.rtype, k.ttl) == (run[0].rtype, run[0].ttl))
            && RdataIter::new(set, &self.version.pool).eq(run.iter().map(|r| r.rdata))
    }
}
