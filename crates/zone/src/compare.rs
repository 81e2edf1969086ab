//! Two leaves compared as they stand: most of a leaf that was rewritten is what it was.
//!
//! Groups of owners between restarts of front coding are compared octet by octet, and only around a
//! difference owners are. So a change costs the group that it touches, not the leaf.

use std::cmp::Ordering;
use std::ops::Range;

use crate::leaf::{RESTART, RawIter, RawOwner, ULeaf};
use crate::version::Unit;

/// Owners of two units, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Equal but for their signatures and denial records, in order: in the older one, in the newer.
    pub kept: Vec<(Range<u16>, Range<u16>)>,
    /// In the older one, and not such in the newer.
    pub gone: Vec<u16>,
    /// In the newer one, and not such in the older.
    pub come: Vec<u16>,
    /// Pairs of these two, in order: an owner that is on both sides and on both not occluded.
    pub in_place: Vec<(u16, u16)>,
    /// Steps over owners one by one: they grow with what differs, not with the leaves.
    pub steps: usize,
}

impl Compared {
    fn keep(&mut self, old: u16, new: u16, n: u16) {
        match self.kept.last_mut() {
            Some((a, b)) if a.end == old && b.end == new => {
                a.end += n;
                b.end += n;
            }
            _ => self.kept.push((old..old + n, new..new + n)),
        }
    }
}

/// One side of the comparison.
struct Side<'a> {
    leaf: &'a ULeaf,
    it: RawIter<'a>,
    at: Option<RawOwner<'a>>,
}

impl<'a> Side<'a> {
    fn new(unit: &Unit<'a>) -> Side<'a> {
        let leaf = &unit.leaf().u;
        let it = leaf.iter(&unit.version().kinds);
        let mut side = Side { leaf, it, at: None };
        side.step();
        side
    }

    fn step(&mut self) {
        self.at = self.it.next();
    }

    /// The group that begins here.
    fn group(&self) -> Option<usize> {
        let at = usize::from(self.at?.ordinal);
        at.is_multiple_of(RESTART).then_some(at / RESTART)
    }

    fn skip_to(&mut self, group: usize) {
        self.it.restart(self.leaf, group);
        self.step();
    }
}

/// Compares two units of versions of which one [writes like] the other.
///
/// [writes like]: crate::ZoneVersion::writes_like
pub fn compare(old: &Unit<'_>, new: &Unit<'_>) -> Compared {
    let mut out = Compared::default();
    let (mut a, mut b) = (Side::new(old), Side::new(new));
    loop {
        if let (Some(x), Some(y)) = (a.group(), b.group())
            && a.leaf.group(x) == b.leaf.group(y)
        {
            let n = a.leaf.group_len(x) as u16;
            out.keep((x * RESTART) as u16, (y * RESTART) as u16, n);
            a.skip_to(x + 1);
            b.skip_to(y + 1);
            continue;
        }
        let order = match (&a.at, &b.at) {
            (None, None) => return out,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), Some(_)) => a.it.key.cmp(&b.it.key),
        };
        out.steps += 1;
        if let (Some(x), Some(y), true) = (&a.at, &b.at, order.is_eq())
            && (x.flags, x.case, x.n_sets, x.sets) == (y.flags, y.case, y.n_sets, y.sets)
        {
            out.keep(x.ordinal, y.ordinal, 1);
        } else {
            if let (Some(x), Some(y), true) = (&a.at, &b.at, order.is_eq())
                && !x.flags.is_occluded()
                && !y.flags.is_occluded()
            {
                out.in_place.push((x.ordinal, y.ordinal));
            }
            out.gone
                .extend(a.at.filter(|_| order.is_le()).map(|x| x.ordinal));
            out.come
                .extend(b.at.filter(|_| order.is_ge()).map(|y| y.ordinal));
        }
        if order.is_le() {
            a.step();
        }
        if order.is_ge() {
            b.step();
        }
    }
}
