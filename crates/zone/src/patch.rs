//! The signed half of a version made from the one before: what did not change is shared.
//!
//! [`Alignment`] says how the leaves of new unsigned content lie to those of the signed version
//! before: most are the same objects, the others form runs that cover the same range of names on
//! both sides. Whoever signs hands over the units that it looked at; all others keep their pair of
//! leaves.

use std::cmp::Ordering;
use std::ops::Range;

use crate::block::RowSig;
use crate::build::BuildError;
use crate::denial::Chain;
use crate::leaf::Flags;
use crate::sidecar::SView;
use crate::sign::{Draft, Sidecar};
use crate::sums::LeafSums;
use crate::tree::Item;
use crate::version::{LeafRef, Owner, OwnerIter, Unit, ZoneVersion};

/// Leaves (unit number less one) that stand on either side for the same names and differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub prev: Range<usize>,
    pub base: Range<usize>,
}

/// How the leaves of two versions lie to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alignment {
    /// In order; between two runs all leaves are shared.
    runs: Vec<Run>,
}

/// Leaves of a version, stretch by stretch.
struct Leaves<'a> {
    /// Number of the first of the rest.
    at: usize,
    rest: &'a [LeafRef],
    stretches: Box<dyn Iterator<Item = &'a [LeafRef]> + 'a>,
}

impl<'a> Leaves<'a> {
    fn of(version: &'a ZoneVersion) -> Leaves<'a> {
        let mut leaves = Leaves {
            at: 0,
            rest: &[],
            stretches: Box::new(version.tree.stretches()),
        };
        leaves.pass(0);
        leaves
    }

    fn pass(&mut self, n: usize) {
        self.at += n;
        self.rest = self.rest.get(n..).unwrap_or(&[]);
        if self.rest.is_empty() {
            self.rest = self.stretches.next().unwrap_or(&[]);
        }
    }
}

impl Alignment {
    /// A walk over two lists of leaves that touches no leaf which is shared.
    pub fn of(prev: &ZoneVersion, base: &ZoneVersion) -> Alignment {
        let (mut a, mut b) = (Leaves::of(prev), Leaves::of(base));
        let mut runs: Vec<Run> = Vec::new();
        // The run being collected; empty on both sides: none.
        let (mut from_a, mut from_b) = (0, 0);
        loop {
            let pairs = a.rest.iter().zip(b.rest);
            // A tight loop: nearly all are shared.
            let shared = pairs.take_while(|(x, y)| x.same_content(y)).count();
            if shared > 0 {
                if from_a < a.at || from_b < b.at {
                    runs.push(Run {
                        prev: from_a..a.at,
                        base: from_b..b.at,
                    });
                }
                a.pass(shared);
                b.pass(shared);
                (from_a, from_b) = (a.at, b.at);
                continue;
            }
            let order = match (a.rest.first(), b.rest.first()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(x), Some(y)) => (x.fence, x.first_key()).cmp(&(y.fence, y.first_key())),
            };
            a.pass(usize::from(order.is_le()));
            b.pass(usize::from(order.is_ge()));
        }
        if from_a < a.at || from_b < b.at {
            runs.push(Run {
                prev: from_a..a.at,
                base: from_b..b.at,
            });
        }
        Alignment { runs }
    }

    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Leaves that are not shared.
    pub fn units(&self) -> usize {
        let longer = |r: &Run| r.prev.len().max(r.base.len());
        self.runs.iter().map(longer).sum()
    }

    /// The unit of the older version that is the same object as unit `unit` of the newer one; the
    /// apex never is.
    pub fn prev_unit(&self, unit: usize) -> Option<usize> {
        let leaf = unit.checked_sub(1)?;
        let n = self.runs.partition_point(|r| r.base.start <= leaf);
        let Some(run) = n.checked_sub(1).and_then(|n| self.runs.get(n)) else {
            return Some(unit);
        };
        (leaf >= run.base.end).then(|| leaf - run.base.end + run.prev.end + 1)
    }

    /// The other way round.
    pub fn base_unit(&self, prev_unit: usize) -> Option<usize> {
        let leaf = prev_unit.checked_sub(1)?;
        let n = self.runs.partition_point(|r| r.prev.end <= leaf);
        // A run that is empty on this side stands before the leaf with its number.
        if self.runs.get(n).is_some_and(|r| r.prev.start <= leaf) {
            return None;
        }
        let Some(run) = n.checked_sub(1).and_then(|n| self.runs.get(n)) else {
            return Some(prev_unit);
        };
        Some(leaf - run.prev.end + run.base.end + 1)
    }
}

impl Draft {
    /// Puts a version together from the one before. `patched`: units of this draft with their new
    /// sidecars (`None` = nothing is signed there), ascending; the apex and all units of the runs
    /// must be among them. Every other unit is `prev`'s own.
    ///
    /// # Errors
    /// A unit of a run is missing, or a sidecar is of another unit.
    pub fn finish_from(
        self,
        prev: &ZoneVersion,
        alignment: &Alignment,
        patched: Vec<(usize, Option<Sidecar>)>,
        chain: Option<Chain>,
    ) -> Result<ZoneVersion, BuildError> {
        const MISSING: BuildError = BuildError::Inconsistent("a changed unit was not signed");
        let mut version = self.into_version();
        let mut patched = patched.into_iter();
        let apex = match patched.next() {
            Some((0, sidecar)) => with_sidecar(&version.apex, sidecar)?,
            _ => return Err(MISSING),
        };
        let mut changes: Vec<(usize, Vec<LeafRef>)> = Vec::new();
        let mut patched = patched.peekable();
        for run in &alignment.runs {
            while let Some((unit, sidecar)) = patched.next_if(|(u, _)| *u <= run.base.start) {
                patch_one(&version, alignment, unit, sidecar, &mut changes)?;
            }
            let mut made = Vec::with_capacity(run.base.len());
            for leaf in run.base.clone() {
                let (_, sidecar) = patched.next_if(|(u, _)| *u == leaf + 1).ok_or(MISSING)?;
                let unsigned = version.tree.get(leaf).ok_or(MISSING)?;
                made.push(with_sidecar(unsigned, sidecar)?);
            }
            replace_run(prev, run, made, &mut changes);
        }
        for (unit, sidecar) in patched {
            patch_one(&version, alignment, unit, sidecar, &mut changes)?;
        }
        version.apex = apex;
        version.tree = prev.tree.replace(merge_places(changes, prev));
        version.chain = chain.map(Box::new);
        Ok(version.assemble())
    }
}

fn with_sidecar(unsigned: &LeafRef, sidecar: Option<Sidecar>) -> Result<LeafRef, BuildError> {
    match sidecar {
        None => Ok(LeafRef {
            s: None,
            ..unsigned.clone()
        }),
        Some(s) if s.0.u.same(&unsigned.u) => Ok(s.0),
        Some(_) => Err(BuildError::Inconsistent("sidecar of another unit")),
    }
}

fn patch_one(
    version: &ZoneVersion,
    alignment: &Alignment,
    unit: usize,
    sidecar: Option<Sidecar>,
    changes: &mut Vec<(usize, Vec<LeafRef>)>,
) -> Result<(), BuildError> {
    let place = alignment.prev_unit(unit).and_then(|u| u.checked_sub(1));
    let unsigned = unit.checked_sub(1).and_then(|i| version.tree.get(i));
    let (Some(place), Some(unsigned)) = (place, unsigned) else {
        return Err(BuildError::Inconsistent("unit beyond the tree"));
    };
    changes.push((place, vec![with_sidecar(unsigned, sidecar)?]));
    Ok(())
}

/// Leaves of a run stand where its first leaf stood; where it had none, before the next leaf.
fn replace_run(
    prev: &ZoneVersion,
    run: &Run,
    made: Vec<LeafRef>,
    changes: &mut Vec<(usize, Vec<LeafRef>)>,
) {
    if !run.prev.is_empty() {
        changes.push((run.prev.start, made));
        changes.extend(run.prev.clone().skip(1).map(|i| (i, Vec::new())));
        return;
    }
    let mut list = made;
    list.extend(prev.tree.get(run.prev.start).cloned());
    changes.push((run.prev.start, list));
}

/// One entry per place: after a run that had no leaf of its own the leaf behind it may be patched.
fn merge_places(
    changes: Vec<(usize, Vec<LeafRef>)>,
    prev: &ZoneVersion,
) -> Vec<(usize, Vec<LeafRef>)> {
    let mut out: Vec<(usize, Vec<LeafRef>)> = Vec::with_capacity(changes.len());
    for (place, leaves) in changes {
        match out.last_mut() {
            Some((last, list)) if *last == place => {
                // The entry before ends in the old leaf of this place.
                if prev.tree.get(place).is_some() {
                    list.pop();
                }
                list.extend(leaves);
            }
            _ => out.push((place, leaves)),
        }
    }
    out
}

impl ZoneVersion {
    /// Units whose sums are wanted, apex apart, ascending; chunks of leaves are skipped by theirs.
    pub fn units_where<'a>(
        &'a self,
        want: impl Fn(&LeafSums) -> bool + Copy + 'a,
    ) -> impl Iterator<Item = (usize, &'a LeafSums)> {
        self.tree.filter(want).map(|(i, l)| (i + 1, l.sums()))
    }

    /// What all units but the apex add up to.
    pub fn leaf_sums(&self) -> &LeafSums {
        self.tree.sums()
    }

    /// Last unit at or before `unit` with an owner that is not occluded; the apex has one.
    pub fn bearing_unit_back(&self, unit: usize) -> usize {
        let from = unit.checked_sub(1);
        from.and_then(|i| self.tree.find_back(i, |s| s.owners > s.occluded))
            .map_or(0, |i| i + 1)
    }

    /// Owners from `key` on, across units; the apex is not among them.
    pub fn owners_from<'a>(&'a self, key: &[u8]) -> OwnersFrom<'a> {
        let leaf = self.tree.locate(key).unwrap_or(0);
        let it = (!self.tree.is_empty()).then(|| self.unit(leaf + 1).iter_near(key));
        let mut owners = OwnersFrom {
            version: self,
            unit: leaf + 1,
            it,
            head: None,
        };
        owners.advance();
        owners.skip_before(key);
        owners
    }

    /// True if a name below `key` has a denial record: with `opt_out` insecure cuts have none.
    pub fn has_bearing_below(&self, key: &[u8], opt_out: bool) -> bool {
        let opted_out = |f: Flags| opt_out && f.is_cut() && !f.is_secure();
        let bears = |f: Flags| !f.is_occluded() && !opted_out(f);
        let insecure = |s: &LeafSums| {
            if opt_out {
                s.cuts - s.secure.min(s.cuts)
            } else {
                0
            }
        };
        let worth = |s: &LeafSums| s.owners > s.occluded + insecure(s);
        let next = self.succ_where(key, worth, |o| {
            bears(o.flags()) || !crate::key::below(o.key(), key)
        });
        next.is_some_and(|o| crate::key::below(o.key(), key) && bears(o.flags()))
    }
}

/// Owners in order from some key on, with the next one at hand.
#[derive(Clone, Debug)]
pub struct OwnersFrom<'a> {
    version: &'a ZoneVersion,
    unit: usize,
    it: Option<OwnerIter<'a>>,
    head: Option<Owner<'a>>,
}

impl<'a> OwnersFrom<'a> {
    /// The owner with this key, if there is one. Keys must be asked for in ascending order.
    pub fn find(&mut self, key: &[u8]) -> Option<&Owner<'a>> {
        self.skip_before(key);
        self.head.as_ref().filter(|o| o.key() == key)
    }

    /// The next owner.
    pub fn peek(&self) -> Option<&Owner<'a>> {
        self.head.as_ref()
    }

    /// Gives the next owner and moves on.
    pub fn take(&mut self) -> Option<Owner<'a>> {
        let owner = self.head.take();
        self.advance();
        owner
    }

    fn skip_before(&mut self, key: &[u8]) {
        while self.head.as_ref().is_some_and(|o| o.key() < key) {
            self.advance();
        }
    }

    fn advance(&mut self) {
        loop {
            let Some(it) = &mut self.it else {
                self.head = None;
                return;
            };
            self.head = it.next();
            if self.head.is_some() {
                return;
            }
            self.unit += 1;
            self.it = (self.unit < self.version.unit_count())
                .then(|| self.version.unit(self.unit).owners());
        }
    }
}

impl<'a> Owner<'a> {
    /// All signatures here with the number of the set that each covers, by set and slot; in one walk.
    pub fn all_sigs(&self) -> impl Iterator<Item = (u16, RowSig<'a>)> + use<'a> {
        let s = self.unit().sidecar().unwrap_or(SView::NONE);
        s.sigs(s.range_of(self.ordinal()))
            .map(|(_, set, sig)| (set, sig))
    }
}

impl<'a> Unit<'a> {
    /// TTL of its NSEC records; `None`: no chain of them.
    pub fn nsec_ttl(&self) -> Option<u32> {
        self.sidecar().and_then(|s| s.nsec_ttl())
    }

    /// Key of the owner that the last NSEC of the unit names; `None` when it bears none.
    pub fn nsec_next(&self) -> Option<&'a [u8]> {
        let view = self.sidecar()?;
        view.nsec_ttl().is_some().then(|| view.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(list: &[(Range<usize>, Range<usize>)]) -> Alignment {
        let run = |(prev, base): &(Range<usize>, Range<usize>)| Run {
            prev: prev.clone(),
            base: base.clone(),
        };
        Alignment {
            runs: list.iter().map(run).collect(),
        }
    }

    #[test]
    fn units_on_both_sides() {
        // Leaf 1 became two; before leaf 4 one came in; leaf 5 vanished.
        let a = runs(&[(1..2, 1..3), (4..4, 5..6), (5..6, 7..7)]);
        let to_base: Vec<_> = (0..9).map(|u| a.base_unit(u)).collect();
        let want = [
            None,
            Some(1),
            None,
            Some(4),
            Some(5),
            Some(7),
            None,
            Some(8),
            Some(9),
        ];
        assert_eq!(to_base, want);
        for (prev, base) in to_base.iter().enumerate() {
            if let Some(base) = base {
                assert_eq!(a.prev_unit(*base), Some(prev));
            }
        }
        for unit in [0, 2, 3, 6] {
            assert_eq!(a.prev_unit(unit), None);
        }
        let same = Alignment::default();
        assert_eq!((same.prev_unit(7), same.base_unit(7)), (Some(7), Some(7)));
        assert_eq!((same.prev_unit(0), same.base_unit(0)), (None, None));
    }
}
