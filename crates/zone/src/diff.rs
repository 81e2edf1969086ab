//! What differs between two versions of a zone, at the cost of what differs (store spec §7.3).

use std::cmp::Ordering;
use std::ops::ControlFlow;

use crate::rtype::Rtype;
use crate::tree::Tree;
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
}

#[derive(Clone, Debug)]
struct Rec {
    owner: Vec<u8>,
    rtype: Rtype,
    ttl: u32,
    rdata: Vec<u8>,
}

/// Owners of a list of units, one after the other; one unit is expanded at a time.
struct Cursor<'a> {
    units: std::vec::IntoIter<Source<'a>>,
    /// Records of the unit at hand, grouped by owner in order: (order key, records).
    groups: std::collections::VecDeque<(Vec<u8>, Vec<Rec>)>,
    read: u64,
}

enum Source<'a> {
    Leaf(Unit<'a>),
    Block(&'a ZoneVersion, &'a crate::block::BlockRef),
}

impl<'a> Cursor<'a> {
    fn new(units: Vec<Source<'a>>) -> Self {
        Cursor {
            units: units.into_iter(),
            groups: Default::default(),
            read: 0,
        }
    }

    fn fill(&mut self) {
        while self.groups.is_empty() {
            let Some(source) = self.units.next() else {
                return;
            };
            self.read += 1;
            match source {
                Source::Leaf(unit) => {
                    for o in unit.owners() {
                        self.groups.push_back((o.key().to_vec(), Vec::new()));
                    }
                    let mut i = 0;
                    let groups = &mut self.groups;
                    let mut last: Vec<u8> = Vec::new();
                    unit.for_each_record(&mut |r| {
                        if last.is_empty() {
                            last = r.owner.to_vec();
                        } else if last != r.owner {
                            last.clear();
                            last.extend_from_slice(r.owner);
                            i += 1;
                        }
                        if let Some(g) = groups.get_mut(i) {
                            g.1.push(Rec::of(r));
                        }
                    });
                }
                Source::Block(version, block) => {
                    let Some(chain) = version.chain() else {
                        continue;
                    };
                    let groups = &mut self.groups;
                    crate::block::for_each_record(
                        &block.block,
                        &chain.context(version),
                        &mut |owner, rtype, ttl, rdata| {
                            let r = Record {
                                owner,
                                rtype,
                                ttl,
                                rdata,
                            };
                            if groups.back().is_none_or(|g| g.0 != owner) {
                                groups.push_back((owner.to_vec(), Vec::new()));
                            }
                            if let Some(g) = groups.back_mut() {
                                g.1.push(Rec::of(r));
                            }
                        },
                    );
                }
            }
        }
    }

    fn peek(&mut self) -> Option<&(Vec<u8>, Vec<Rec>)> {
        self.fill();
        self.groups.front()
    }

    fn next(&mut self) -> Option<(Vec<u8>, Vec<Rec>)> {
        self.fill();
        self.groups.pop_front()
    }
}

impl Rec {
    fn of(r: Record<'_>) -> Self {
        Rec {
            owner: r.owner.to_vec(),
            rtype: r.rtype,
            ttl: r.ttl,
            rdata: r.rdata.to_vec(),
        }
    }

    fn order(&self, o: &Rec) -> Ordering {
        (self.rtype, &self.rdata, self.ttl).cmp(&(o.rtype, &o.rdata, o.ttl))
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
    let mut stats = DiffStats::default();
    let (ua, ub) = unshared_leaves(a, b);
    merge(Cursor::new(ua), Cursor::new(ub), &mut stats, f)?;
    let (ba, bb) = unshared_blocks(a, b);
    merge(Cursor::new(ba), Cursor::new(bb), &mut stats, f)?;
    Some(stats)
}

/// Counts only.
pub fn diff_stats(a: &ZoneVersion, b: &ZoneVersion) -> DiffStats {
    diff(a, b, &mut |_| {})
}

fn unshared_leaves<'a>(
    a: &'a ZoneVersion,
    b: &'a ZoneVersion,
) -> (Vec<Source<'a>>, Vec<Source<'a>>) {
    let wrap = |v: &'a ZoneVersion, i: usize, l: &'a LeafRef| Source::Leaf(Unit::new(v, i, l));
    let (mut la, mut lb) = (Vec::new(), Vec::new());
    if !a.unit(0).same_as(&b.unit(0)) {
        la.push(wrap(a, 0, &a.apex));
        lb.push(wrap(b, 0, &b.apex));
    }
    let (ta, tb) = a.tree.unshared(&b.tree);
    la.extend(ta.into_iter().map(|l| wrap(a, 1, l)));
    lb.extend(tb.into_iter().map(|l| wrap(b, 1, l)));
    (la, lb)
}

fn unshared_blocks<'a>(
    a: &'a ZoneVersion,
    b: &'a ZoneVersion,
) -> (Vec<Source<'a>>, Vec<Source<'a>>) {
    let none = Tree::default();
    let ta = a.chain().map_or(&none, |c| c.tree());
    let tb = b.chain().map_or(&none, |c| c.tree());
    // Records of one block in two chains of other parameters differ.
    let comparable = match (a.chain(), b.chain()) {
        (Some(x), Some(y)) => x.params() == y.params(),
        _ => true,
    };
    let (la, lb): (Vec<_>, Vec<_>) = if comparable {
        ta.unshared(tb)
    } else {
        (ta.iter().collect(), tb.iter().collect())
    };
    let own = |v: &'a ZoneVersion, list: Vec<&crate::block::BlockRef>| -> Vec<Source<'a>> {
        let Some(chain) = v.chain() else {
            return Vec::new();
        };
        list.into_iter()
            .filter_map(|b| {
                let i = chain.tree().locate(b.block.first_hash())?;
                Some(Source::Block(v, chain.tree().get(i)?))
            })
            .collect()
    };
    (own(a, la), own(b, lb))
}

fn merge(
    mut a: Cursor<'_>,
    mut b: Cursor<'_>,
    stats: &mut DiffStats,
    f: &mut dyn FnMut(DiffItem<'_>) -> ControlFlow<()>,
) -> Option<()> {
    loop {
        let order = match (a.peek(), b.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(x), Some(y)) => x.0.cmp(&y.0),
        };
        let (mut left, mut right) = (Vec::new(), Vec::new());
        if order != Ordering::Greater {
            left = a.next().map_or(left, |g| g.1);
        }
        if order != Ordering::Less {
            right = b.next().map_or(right, |g| g.1);
        }
        stats.owners_removed += right.is_empty() as u64;
        stats.owners_added += left.is_empty() as u64;
        owner(left, right, stats, f)?;
    }
    stats.units_read += a.read + b.read;
    Some(())
}

fn owner(
    mut left: Vec<Rec>,
    mut right: Vec<Rec>,
    stats: &mut DiffStats,
    f: &mut dyn FnMut(DiffItem<'_>) -> ControlFlow<()>,
) -> Option<()> {
    left.sort_by(Rec::order);
    right.sort_by(Rec::order);
    let before = (stats.records_removed, stats.records_added);
    let (mut i, mut j) = (0, 0);
    let mut go = ControlFlow::Continue(());
    let mut emit = |removed: bool, r: &Rec| {
        if removed {
            stats.records_removed += 1;
        } else {
            stats.records_added += 1;
        }
        if go.is_continue() {
            go = f(DiffItem {
                removed,
                owner: &r.owner,
                rtype: r.rtype,
                ttl: r.ttl,
                rdata: &r.rdata,
            });
        }
    };
    while i < left.len() || j < right.len() {
        let order = match (left.get(i), right.get(j)) {
            (Some(l), Some(r)) => l.order(r),
            (Some(_), None) => Ordering::Less,
            _ => Ordering::Greater,
        };
        match order {
            Ordering::Equal => {
                i += 1;
                j += 1;
            }
            Ordering::Less => {
                emit(true, &left[i]);
                i += 1;
            }
            Ordering::Greater => {
                emit(false, &right[j]);
                j += 1;
            }
        }
    }
    stats.owners_changed += u64::from((stats.records_removed, stats.records_added) != before);
    go.is_continue().then_some(())
}
