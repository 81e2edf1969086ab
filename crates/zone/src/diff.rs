//! What differs between two versions of a zone, at the cost of what differs.
//!
//! Leaves and blocks that are the same objects are not read; owners and rows of the others are
//! compared as they stand in their bytes, and only those that differ become records.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use crate::block::{BlockRef, ChainContext, RowWalk};
use crate::expand::{Buffers, OwnerWalk, Whole};
use crate::rtype::Rtype;
use crate::tree::Item;
use crate::version::{LeafRef, Record, Unit, ZoneVersion};

/// One record that only one of two versions has.
#[derive(Clone, Copy, Debug)]
pub struct DiffItem<'a> {
    /// `true`: in the first version only.
    pub removed: bool,
    pub owner: &'a [u8],
    pub rtype: Rtype,
    pub ttl: u32,
    pub rdata: &'a [u8],
}

/// Counts over a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffStats {
    pub records_removed: u64,
    pub records_added: u64,
    /// Owners with any difference.
    pub owners_changed: u64,
    pub owners_removed: u64,
    pub owners_added: u64,
    /// Pairs of leaves and blocks that had to be read.
    pub units_read: u64,
    /// Steps over owners or rows one by one; groups that are alike are passed without.
    pub steps: u64,
}

/// A leaf, and the number of a unit like it: 0 for the apex, 1 for all others. Nothing of it has been
/// read yet.
type Leaf<'a> = (usize, &'a LeafRef);

/// Owners on one side, one after the other.
trait Walk {
    /// Order of the entry at hand; `None`: there is none.
    fn key(&self) -> Option<&[u8]>;
    /// The entries at hand have equal records for certain; nothing is expanded for it.
    fn same(&mut self, other: &mut Self) -> bool;
    /// Passes entries, many at a time, that have equal records for certain.
    fn skip_alike(&mut self, _other: &mut Self) {}
    /// Hands over the records of the entry at hand and moves on.
    fn take(&mut self, f: &mut dyn FnMut(Record<'_>));
    fn skip(&mut self);
    /// Leaves or blocks that were read.
    fn read(&self) -> u64;
}

struct Owners<'a> {
    version: &'a ZoneVersion,
    leaves: std::vec::IntoIter<Leaf<'a>>,
    at: Option<OwnerWalk<'a>>,
    read: u64,
}

impl<'a> Owners<'a> {
    fn new(version: &'a ZoneVersion, leaves: Vec<Leaf<'a>>) -> Self {
        let mut all = Owners {
            version,
            leaves: leaves.into_iter(),
            at: None,
            read: 0,
        };
        all.settle();
        all
    }

    /// Goes on to the next unit behind the last owner of one.
    fn settle(&mut self) {
        while self.at.as_ref().is_none_or(|w| w.key().is_none()) {
            let Some((index, leaf)) = self.leaves.next() else {
                self.at = None;
                return;
            };
            self.read += 1;
            self.at = Some(OwnerWalk::new(&Unit::new(self.version, index, leaf)));
        }
    }
}

impl Walk for Owners<'_> {
    fn key(&self) -> Option<&[u8]> {
        self.at.as_ref()?.key()
    }

    fn same(&mut self, other: &mut Self) -> bool {
        match (&mut self.at, &mut other.at) {
            (Some(a), Some(b)) => a.same(b),
            _ => false,
        }
    }

    fn skip_alike(&mut self, other: &mut Self) {
        // Across leaves too, as long as they lie alike.
        while let (Some(a), Some(b)) = (&mut self.at, &mut other.at) {
            a.skip_alike(b);
            let ends = (a.key().is_none(), b.key().is_none());
            self.settle();
            other.settle();
            if ends != (true, true) {
                return;
            }
        }
    }

    fn take(&mut self, f: &mut dyn FnMut(Record<'_>)) {
        if let Some(walk) = &mut self.at {
            walk.take(f);
        }
        self.settle();
    }

    fn skip(&mut self) {
        if let Some(walk) = &mut self.at {
            walk.skip();
        }
        self.settle();
    }

    fn read(&self) -> u64 {
        self.read
    }
}

struct Rows<'a> {
    blocks: std::vec::IntoIter<&'a BlockRef>,
    context: Option<ChainContext<'a>>,
    at: Option<RowWalk<'a>>,
    whole: Buffers,
    read: u64,
}

impl<'a> Rows<'a> {
    fn new(version: &'a ZoneVersion, blocks: Vec<&'a BlockRef>) -> Self {
        let mut all = Rows {
            blocks: blocks.into_iter(),
            context: version.chain().map(|c| c.context(version)),
            at: None,
            whole: Buffers::default(),
            read: 0,
        };
        all.settle();
        all
    }

    fn settle(&mut self) {
        while self.at.as_ref().is_none_or(|w| w.key().is_none()) {
            let (Some(block), Some(context)) = (self.blocks.next(), self.context) else {
                self.at = None;
                return;
            };
            self.read += 1;
            self.at = Some(RowWalk::new(&block.block, context));
        }
    }
}

impl Walk for Rows<'_> {
    fn key(&self) -> Option<&[u8]> {
        Some(self.at.as_ref()?.key()?)
    }

    fn same(&mut self, other: &mut Self) -> bool {
        match (&self.at, &other.at) {
            (Some(a), Some(b)) => a.same(b),
            _ => false,
        }
    }

    fn take(&mut self, f: &mut dyn FnMut(Record<'_>)) {
        if let Some(walk) = &mut self.at {
            walk.take(&mut Whole::new(&mut self.whole, f));
        }
        self.settle();
    }

    fn skip(&mut self) {
        if let Some(walk) = &mut self.at {
            walk.skip();
        }
        self.settle();
    }

    fn read(&self) -> u64 {
        self.read
    }
}

/// Records of one owner, their octets in one buffer.
#[derive(Default)]
struct Records {
    octets: Vec<u8>,
    list: Vec<Rec>,
}

#[derive(Clone, Copy)]
struct Rec {
    rtype: Rtype,
    ttl: u32,
    /// Offset of the owner and its length; RDATA follows.
    at: u32,
    owner: u16,
    rdata: u16,
}

impl Records {
    fn clear(&mut self) {
        self.octets.clear();
        self.list.clear();
    }

    fn push(&mut self, r: Record<'_>) {
        self.list.push(Rec {
            rtype: r.rtype,
            ttl: r.ttl,
            at: self.octets.len() as u32,
            owner: r.owner.len() as u16,
            rdata: r.rdata.len() as u16,
        });
        self.octets.extend_from_slice(r.owner);
        self.octets.extend_from_slice(r.rdata);
    }

    fn parts(&self, r: &Rec) -> (&[u8], &[u8]) {
        let (at, owner) = (r.at as usize, r.owner as usize);
        let owned = &self.octets[at..at + owner + r.rdata as usize];
        owned.split_at(owner)
    }

    fn sort(&mut self) {
        let mut list = std::mem::take(&mut self.list);
        list.sort_by(|a, b| self.order(a, self, b));
        self.list = list;
    }

    fn order(&self, a: &Rec, other: &Records, b: &Rec) -> Ordering {
        let (x, y) = (self.parts(a).1, other.parts(b).1);
        (a.rtype, x, a.ttl).cmp(&(b.rtype, y, b.ttl))
    }
}

/// Calls `f` for each record that differs from `a` to `b`, in transfer order of owners (apex,
/// leaves, then NSEC3). Signatures and denial records take part; another TTL is a removal and an
/// addition. RDATA are compared octet by octet as stored.
pub fn diff(a: &ZoneVersion, b: &ZoneVersion, f: &mut dyn FnMut(DiffItem<'_>)) -> DiffStats {
    let all = diff_until(a, b, &mut |item| {
        f(item);
        ControlFlow::Continue(())
    });
    // Nothing above breaks off.
    all.unwrap_or_default()
}

/// [`diff`] that ends as soon as `f` breaks, between two owners; `None` then.
pub fn diff_until(
    a: &ZoneVersion,
    b: &ZoneVersion,
    f: &mut dyn FnMut(DiffItem<'_>) -> ControlFlow<()>,
) -> Option<DiffStats> {
    whole(a, b).until(f)
}

fn whole<'a>(a: &'a ZoneVersion, b: &'a ZoneVersion) -> DiffPart<'a> {
    let comparable = a.writes_like(b);
    let (left, right, alike) = unshared_blocks(a, b);
    DiffPart {
        versions: (a, b),
        leaves: unshared_leaves(a, b),
        blocks: (left, right),
        comparable: (comparable, comparable && alike),
    }
}

/// Divides two lists where both go on with the same key, after about `units` entries of either.
fn cut<T, K: Ord + ?Sized>(
    (left, right): (Vec<T>, Vec<T>),
    units: usize,
    key: impl Fn(&T) -> &K,
) -> Vec<(Vec<T>, Vec<T>)> {
    let (mut a, mut b) = (left.into_iter().peekable(), right.into_iter().peekable());
    let mut parts = Vec::new();
    let (mut x, mut y) = (Vec::new(), Vec::new());
    loop {
        let order = match (a.peek(), b.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(p), Some(q)) => key(p).cmp(key(q)),
        };
        if order.is_eq() && x.len().max(y.len()) >= units {
            parts.push((std::mem::take(&mut x), std::mem::take(&mut y)));
        }
        if order.is_le() {
            x.extend(a.next());
        }
        if order.is_ge() {
            y.extend(b.next());
        }
    }
    if !x.is_empty() || !y.is_empty() {
        parts.push((x, y));
    }
    parts
}

/// Owners and rows of a difference between two neighbours in order.
pub struct DiffPart<'a> {
    versions: (&'a ZoneVersion, &'a ZoneVersion),
    leaves: (Vec<Leaf<'a>>, Vec<Leaf<'a>>),
    blocks: (Vec<&'a BlockRef>, Vec<&'a BlockRef>),
    /// Of owners and of rows.
    comparable: (bool, bool),
}

impl DiffPart<'_> {
    /// As [`diff`].
    pub fn for_each(&self, f: &mut dyn FnMut(DiffItem<'_>)) -> DiffStats {
        let all = self.until(&mut |item| {
            f(item);
            ControlFlow::Continue(())
        });
        // Nothing above breaks off.
        all.unwrap_or_default()
    }

    fn until(&self, f: &mut dyn FnMut(DiffItem<'_>) -> ControlFlow<()>) -> Option<DiffStats> {
        let mut stats = DiffStats::default();
        let (a, b) = self.versions;
        let (x, y) = self.leaves.clone();
        let (x, y) = (Owners::new(a, x), Owners::new(b, y));
        merge(x, y, self.comparable.0, &mut stats, f)?;
        let (x, y) = self.blocks.clone();
        let (x, y) = (Rows::new(a, x), Rows::new(b, y));
        merge(x, y, self.comparable.1, &mut stats, f)?;
        Some(stats)
    }
}

/// The parts of a difference, of about `units` leaves or blocks each; one after the other they give what
/// [`diff`] gives, and each can be gone through alone.
pub fn diff_parts<'a>(a: &'a ZoneVersion, b: &'a ZoneVersion, units: usize) -> Vec<DiffPart<'a>> {
    let whole = whole(a, b);
    let leaves = cut(whole.leaves, units, |(_, leaf)| leaf.u.first_key());
    let blocks = match whole.comparable.1 {
        true => cut(whole.blocks, units, |b| b.first_key()),
        false => vec![whole.blocks],
    };
    let part = |leaves, blocks| DiffPart {
        leaves,
        blocks,
        versions: whole.versions,
        comparable: whole.comparable,
    };
    let leaves = leaves.into_iter().map(|l| part(l, Default::default()));
    let mut parts: Vec<DiffPart<'a>> = leaves.collect();
    let blocks = blocks
        .into_iter()
        .filter(|(x, y)| !x.is_empty() || !y.is_empty());
    parts.extend(blocks.map(|b| part(Default::default(), b)));
    parts
}

/// Counts only.
pub fn diff_stats(a: &ZoneVersion, b: &ZoneVersion) -> DiffStats {
    diff(a, b, &mut |_| {})
}

fn unshared_leaves<'a>(a: &'a ZoneVersion, b: &'a ZoneVersion) -> (Vec<Leaf<'a>>, Vec<Leaf<'a>>) {
    let (mut la, mut lb) = (Vec::new(), Vec::new());
    if !a.unit(0).same_as(&b.unit(0)) {
        la.push((0, a.unit(0).leaf));
        lb.push((0, b.unit(0).leaf));
    }
    let (ta, tb) = a.tree.unshared(&b.tree);
    la.extend(ta.into_iter().map(|l| (1, l)));
    lb.extend(tb.into_iter().map(|l| (1, l)));
    (la, lb)
}

/// Blocks of either side, and whether rows of both can be compared as they stand.
fn unshared_blocks<'a>(
    a: &'a ZoneVersion,
    b: &'a ZoneVersion,
) -> (Vec<&'a BlockRef>, Vec<&'a BlockRef>, bool) {
    let blocks = |v: &'a ZoneVersion| {
        let chain = v.chain();
        chain.map_or(Vec::new(), |c| c.tree().iter().collect())
    };
    match (a.chain(), b.chain()) {
        (Some(x), Some(y)) if x.params() == y.params() => {
            let (left, right) = x.tree().unshared(y.tree());
            (left, right, true)
        }
        // Records of one block in two chains of other parameters differ.
        _ => (blocks(a), blocks(b), false),
    }
}

fn merge<W: Walk>(
    mut a: W,
    mut b: W,
    comparable: bool,
    stats: &mut DiffStats,
    f: &mut dyn FnMut(DiffItem<'_>) -> ControlFlow<()>,
) -> Option<()> {
    let (mut left, mut right) = (Records::default(), Records::default());
    loop {
        if comparable {
            a.skip_alike(&mut b);
        }
        let order = match (a.key(), b.key()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(x), Some(y)) => x.cmp(y),
        };
        stats.steps += 1;
        if order.is_eq() && comparable && a.same(&mut b) {
            a.skip();
            b.skip();
            continue;
        }
        left.clear();
        right.clear();
        if order.is_le() {
            a.take(&mut |r| left.push(r));
        }
        if order.is_ge() {
            b.take(&mut |r| right.push(r));
        }
        stats.owners_removed += u64::from(order.is_lt());
        stats.owners_added += u64::from(order.is_gt());
        owner(&mut left, &mut right, stats, f)?;
    }
    stats.units_read += a.read() + b.read();
    Some(())
}

fn owner(
    left: &mut Records,
    right: &mut Records,
    stats: &mut DiffStats,
    f: &mut dyn FnMut(DiffItem<'_>) -> ControlFlow<()>,
) -> Option<()> {
    left.sort();
    right.sort();
    let before = (stats.records_removed, stats.records_added);
    let (mut i, mut j) = (0, 0);
    let mut go = ControlFlow::Continue(());
    let mut emit = |removed: bool, records: &Records, r: &Rec| {
        if removed {
            stats.records_removed += 1;
        } else {
            stats.records_added += 1;
        }
        if go.is_continue() {
            let (owner, rdata) = records.parts(r);
            go = f(DiffItem {
                removed,
                owner,
                rtype: r.rtype,
                ttl: r.ttl,
                rdata,
            });
        }
    };
    loop {
        let order = match (left.list.get(i), right.list.get(j)) {
            (Some(l), Some(r)) => left.order(l, right, r),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        match order {
            Ordering::Equal => {
                i += 1;
                j += 1;
            }
            Ordering::Less => {
                emit(true, left, &left.list[i]);
                i += 1;
            }
            Ordering::Greater => {
                emit(false, right, &right.list[j]);
                j += 1;
            }
        }
    }
    stats.owners_changed += u64::from((stats.records_removed, stats.records_added) != before);
    go.is_continue().then_some(())
}
