//! Leaves whose owners went are joined with a neighbour, and what outgrew a leaf becomes two of like
//! size: a zone from which most names were removed is not a row of tiny leaves.
//!
//! The rule is one of neighbours: no two of which one is smaller than [`LEAF_MIN`] fit together in
//! [`LEAF_TARGET`]. It is kept around leaves that change; all others are not looked at.

use crate::leaf::{Kinds, LEAF_TARGET, LeafEncoder, RESTART, ULeaf};
use crate::sums::{LeafSums, sum_made, sum_owner};
use crate::tree::{Sums, Tree};
use crate::version::{LeafRef, Unit, ZoneVersion};

/// A leaf of fewer octets looks for a neighbour.
pub const LEAF_MIN: usize = 2 * 1024;

/// Numbers of leaves and what stands in their places, as [`Tree::replace`] takes them.
type Changes = Vec<(usize, Vec<LeafRef>)>;

/// Joins leaves that stand in the places of others, with each other and with what is beside them in
/// `tree`. Gives the changes as they are then, and how often two leaves became one.
pub(crate) fn settle(kinds: &Kinds, tree: &Tree<LeafRef>, changes: Changes) -> (Changes, usize) {
    let mut s = Settler {
        kinds,
        tree,
        out: Vec::with_capacity(changes.len()),
        from: 0,
        to: 0,
        open: Vec::new(),
        joined: 0,
    };
    for (i, made) in changes {
        s.take_right(i);
        if i != s.to || s.from == s.to {
            s.close();
            (s.from, s.to) = (i, i);
        }
        s.to = i + 1;
        made.into_iter().for_each(|leaf| s.push(leaf));
    }
    s.take_right(usize::MAX);
    s.close();
    (s.out, s.joined)
}

/// The same for a list of leaves that is a whole zone. Those that stand in `before` already are taken
/// from there.
pub(crate) fn settle_all(
    kinds: &Kinds,
    before: Option<&Tree<LeafRef>>,
    leaves: impl Iterator<Item = LeafRef>,
) -> Vec<LeafRef> {
    let mut out: Vec<(LeafRef, bool)> = Vec::with_capacity(leaves.size_hint().0);
    for mut leaf in leaves {
        let mut joined = false;
        while let Some((left, _)) = out.pop_if(|(left, _)| belong(left, &leaf)) {
            leaf = join(kinds, &left, &leaf);
            joined = true;
        }
        out.push((leaf, joined));
    }
    let known = |leaf: &LeafRef| {
        let before = before?;
        let old = before.get(before.locate(leaf.u.first_key())?)?;
        let same = old.u.bytes() == leaf.u.bytes();
        same.then(|| LeafRef {
            s: None,
            ..old.clone()
        })
    };
    let settled = out.into_iter().map(|(leaf, joined)| match joined {
        true => known(&leaf).unwrap_or(leaf),
        false => leaf,
    });
    settled.collect()
}

struct Settler<'a> {
    kinds: &'a Kinds,
    tree: &'a Tree<LeafRef>,
    out: Changes,
    /// Places of the tree that are being replaced, and what shall stand there.
    from: usize,
    to: usize,
    open: Vec<LeafRef>,
    joined: usize,
}

impl Settler<'_> {
    fn push(&mut self, mut leaf: LeafRef) {
        loop {
            let before = match self.open.pop_if(|before| belong(before, &leaf)) {
                Some(before) => before,
                None if self.open.is_empty() => match self.left(&leaf) {
                    Some(left) => left,
                    None => break,
                },
                None => break,
            };
            leaf = join(self.kinds, &before, &leaf);
            self.joined += 1;
        }
        self.open.push(leaf);
    }

    /// Takes the leaf before the places at hand, if it belongs to `leaf`.
    fn left(&mut self, leaf: &LeafRef) -> Option<LeafRef> {
        let i = self.from.checked_sub(1)?;
        // What was closed ends before it.
        let free = self.out.last().is_none_or(|(last, _)| *last < i);
        let left = self.tree.get(i).filter(|left| free && belong(left, leaf))?;
        self.from = i;
        Some(left.clone())
    }

    /// Takes leaves behind the places at hand, up to number `next`, as long as they belong to what is
    /// before them; what stood between two neighbours may have gone.
    fn take_right(&mut self, next: usize) {
        while self.from < self.to
            && self.to < next
            && let Some(right) = self.tree.get(self.to)
        {
            let before = match self.open.last() {
                Some(last) => Some(last),
                None => self.from.checked_sub(1).and_then(|i| self.tree.get(i)),
            };
            if !before.is_some_and(|before| belong(before, right)) {
                return;
            }
            self.to += 1;
            self.push(right.clone());
        }
    }

    fn close(&mut self) {
        let places = self.from..self.to;
        if !places.is_empty() {
            self.out.push((self.from, std::mem::take(&mut self.open)));
        }
        self.out.extend(places.skip(1).map(|i| (i, Vec::new())));
        (self.from, self.to) = (0, 0);
    }
}

fn belong(a: &LeafRef, b: &LeafRef) -> bool {
    let (a, b) = (a.u.bytes().len(), b.u.bytes().len());
    a.min(b) < LEAF_MIN && a + b <= LEAF_TARGET
}

/// The owners of two unsigned leaves, which are neighbours, in one. Nothing is hashed.
fn join(kinds: &Kinds, a: &LeafRef, b: &LeafRef) -> LeafRef {
    let mut enc = LeafEncoder::from_fingerprint(a.u.fingerprint());
    enc.add_fingerprint(b.u.fingerprint());
    append(&mut enc, &a.u, kinds);
    append(&mut enc, &b.u, kinds);
    let mut sums = LeafSums::zero();
    sums.add(&a.sums);
    sums.add(&b.sums);
    LeafRef::new(enc.finish(), None, sums)
}

/// Copies the owners of a leaf, whole groups as they stand where they can.
fn append(enc: &mut LeafEncoder, leaf: &ULeaf, kinds: &Kinds) {
    let whole = match enc.len().is_multiple_of(RESTART) {
        true => leaf.owner_count() / RESTART,
        false => 0,
    };
    enc.copy_groups(leaf, 0..whole);
    if whole == leaf.restart_count() {
        return;
    }
    let mut it = leaf.iter_from_restart(whole, kinds);
    while let Some(raw) = it.next() {
        enc.owner(raw.flags, &it.key, raw.case, raw.n_sets);
        enc.raw_sets(raw.sets);
    }
}

/// What was written in place of one leaf: where the last piece is small, it and the one before it are
/// divided in the middle, so that the next owner does not outgrow a full leaf again.
pub(crate) fn halve(version: &ZoneVersion, mut made: Vec<LeafRef>) -> Vec<LeafRef> {
    let small = made.last().is_some_and(|l| l.u.bytes().len() < LEAF_MIN);
    if !small || made.len() < 2 {
        return made;
    }
    let pair = made.split_off(made.len() - 2);
    let half = pair.iter().map(|l| l.u.bytes().len()).sum::<usize>() / 2;
    let mut both = [LeafEncoder::default(), LeafEncoder::default()];
    for leaf in &pair {
        let unit = Unit::new(version, 1, leaf);
        let mut it = leaf.u.iter(&version.kinds);
        while let Some(raw) = it.next() {
            let enc = &mut both[usize::from(both[0].octets() >= half)];
            enc.owner(raw.flags, &it.key, raw.case, raw.n_sets);
            enc.raw_sets(raw.sets);
            enc.add_fingerprint(sum_owner(&unit, raw.ordinal).full);
        }
    }
    for mut enc in both.into_iter().filter(|enc| !enc.is_empty()) {
        let u = enc.finish();
        let sums = sum_made(version, 1, &u, None);
        made.push(LeafRef::new(u, None, sums));
    }
    made
}

#[cfg(test)]
mod tests;
