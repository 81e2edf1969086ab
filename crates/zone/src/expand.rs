//! Owners of a leaf as records: whole units for transfers and sums, single owners for differences.
//!
//! A [`Sink`] is told the owner once and gets each record's RDATA in parts as they lie in the leaves, so that
//! who writes them elsewhere copies them once.

use crate::block::{RrsigFields, rrsig_head};
use crate::codec::Reader;
use crate::denial::{bitmap_types, push_bitmap};
use crate::key::{self, MAX_KEY};
use crate::leaf::{
    Flags, Kind, Kinds, RESTART, RawIter, RawOwner, RawSet, SetData, ULeaf, read_head, read_set,
};
use crate::pool::Pool;
use crate::rtype::Rtype;
use crate::sidecar::{Entry, NSEC_SET, SView};
use crate::version::{Record, Unit, ZoneVersion};

/// Takes records in transfer order, one owner after the other.
pub trait Sink {
    /// The records that come are of this owner: an uncompressed wire name in received spelling.
    fn owner(&mut self, name: &[u8]);

    /// One record; its RDATA is `rdata`, back to back. Only signatures and denial records come in
    /// more than one part.
    fn record<const N: usize>(&mut self, rtype: Rtype, ttl: u32, rdata: [&[u8]; N]);
}

/// What [`Whole`] puts records together in.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    owner: Vec<u8>,
    rdata: Vec<u8>,
}

/// Hands over whole records.
pub(crate) struct Whole<'b, 'f> {
    at: &'b mut Buffers,
    f: &'f mut dyn FnMut(Record<'_>),
}

impl<'b, 'f> Whole<'b, 'f> {
    pub(crate) fn new(at: &'b mut Buffers, f: &'f mut dyn FnMut(Record<'_>)) -> Self {
        Whole { at, f }
    }
}

impl Sink for Whole<'_, '_> {
    fn owner(&mut self, name: &[u8]) {
        self.at.owner.clear();
        self.at.owner.extend_from_slice(name);
    }

    fn record<const N: usize>(&mut self, rtype: Rtype, ttl: u32, rdata: [&[u8]; N]) {
        let rdata = match rdata[..] {
            [all] => all,
            _ => {
                self.at.rdata.clear();
                let out = &mut self.at.rdata;
                rdata.iter().for_each(|part| out.extend_from_slice(part));
                &self.at.rdata
            }
        };
        (self.f)(Record {
            owner: &self.at.owner,
            rtype,
            ttl,
            rdata,
        });
    }
}

impl Unit<'_> {
    /// All records of the unit, in transfer order.
    pub fn for_each_record(&self, f: &mut dyn FnMut(Record<'_>)) {
        self.expand(&mut Whole::new(&mut Buffers::default(), f));
    }

    /// The same, in parts.
    pub fn expand(&self, sink: &mut impl Sink) {
        let owners = Owners::of(self);
        let mut w = Expander::new(self);
        for (i, owner) in owners.list.iter().enumerate() {
            let next = owners.next_bearing(i);
            w.owner(&owners.at(owner), next, sink);
        }
    }
}

/// The owners of a unit, read once: an NSEC names one that comes later.
struct Owners<'a> {
    list: Vec<Place>,
    names: Vec<u8>,
    sets: Vec<Set<'a>>,
}

/// An RRset, and where its RDATA is.
struct Set<'a> {
    id: u32,
    kind: Kind,
    count: u32,
    form: Form,
    data: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// RDATA of one length.
    Fixed(u16),
    /// The length stands in front of each.
    Listed,
    /// In the pool, and yet to be looked for there: `count` is the id.
    Pooled,
}

impl<'a> Set<'a> {
    /// `None`: of a kind that is not known, which bytes that were checked do not have.
    #[inline(always)]
    fn new(raw: RawSet<'a>, kinds: &Kinds) -> Option<Self> {
        let (form, count, data) = match raw.data {
            SetData::Fixed(data, len) => (Form::Fixed(len as u16), raw.count, data),
            SetData::Listed(data) => (Form::Listed, raw.count, data),
            SetData::Pooled(id) => (Form::Pooled, id, &[][..]),
        };
        Some(Set {
            id: raw.kind,
            kind: kinds.get(raw.kind)?,
            count,
            form,
            data,
        })
    }

    /// Finds what is in the pool. Its sets are anywhere in memory: going through many sets at once
    /// waits for many of them at a time.
    fn find_all(sets: &mut [Set<'a>], pool: &'a Pool) {
        for set in sets.iter_mut().filter(|s| s.form == Form::Pooled) {
            let mut r = Reader::new(pool.get(set.count).unwrap_or(&[]));
            set.count = r.varint().unwrap_or(0);
            (set.form, set.data) = (Form::Listed, r.rest());
        }
    }
}

/// Where an owner stands in [`Owners`].
struct Place {
    flags: Flags,
    ordinal: u16,
    labels: u8,
    /// The name as it is spelled is the one that an NSEC names.
    lower: bool,
    name: (u32, u32),
    sets: (u32, u32),
}

/// Octets that are copied where that many are there and not more are wanted: the same number each
/// time is quicker than the right one.
const SHORT: usize = 32;

/// Copies the first `n` octets of `from` to the beginning of `to`, and maybe more. Both must have `n`.
#[inline(always)]
fn copy_short(to: &mut [u8], from: &[u8], n: usize) {
    match (to.first_chunk_mut::<SHORT>(), from.first_chunk::<SHORT>()) {
        (Some(to), Some(from)) if n <= SHORT => *to = *from,
        _ => to[..n].copy_from_slice(&from[..n]),
    }
}

impl<'a> Owners<'a> {
    /// All owners; none after one that is malformed.
    fn of(unit: &Unit<'a>) -> Self {
        let (v, u) = (unit.version, &unit.leaf.u);
        let apex = v.apex_name.as_wire();
        let mut all = Owners {
            list: Vec::with_capacity(u.owner_count()),
            // Front coding saves about as much as the apex adds.
            names: Vec::with_capacity(u.bytes().len() + SHORT),
            sets: Vec::with_capacity(2 * u.owner_count()),
        };
        let apex_labels = v.apex_name.label_count() as u8;
        let lower = v.apex_lower.as_wire() == apex;
        let mut r = u.body();
        let (mut key, mut len) = ([0u8; MAX_KEY + SHORT], 0);
        for ordinal in 0..u.owner_count() {
            let Some(head) = read_head(&mut r) else {
                break;
            };
            let rest = head.rest.len();
            if head.shared > len || head.shared + rest > MAX_KEY {
                break;
            }
            copy_short(&mut key[head.shared..], head.tail, rest);
            len = head.shared + rest;
            let first = all.sets.len();
            let n = r.varint().unwrap_or(0);
            let sets = (0..n).map_while(|_| Set::new(read_set(&mut r, &v.kinds)?, &v.kinds));
            all.sets.extend(sets);
            if all.sets.len() - first != n as usize {
                all.sets.truncate(first);
                break;
            }
            let name = all.names.len();
            let labels = if head.case.is_none() && key::is_one_plain_label(&key[..len]) {
                // Most owners of most zones.
                all.names.push(len as u8 - 1);
                all.names.extend_from_slice(&key[..SHORT.max(len)]);
                all.names.truncate(name + len);
                all.names.extend_from_slice(apex);
                1
            } else {
                key::push_wire(&key[..len], head.case, apex, &mut all.names)
            };
            let wild = all.names[name..].starts_with(b"\x01*");
            all.list.push(Place {
                flags: head.flags,
                ordinal: ordinal as u16,
                labels: apex_labels + labels - u8::from(wild),
                lower: lower && head.case.is_none(),
                name: (name as u32, all.names.len() as u32),
                sets: (first as u32, all.sets.len() as u32),
            });
        }
        Set::find_all(&mut all.sets, &v.pool);
        all
    }

    fn name(&self, place: &Place) -> &[u8] {
        &self.names[place.name.0 as usize..place.name.1 as usize]
    }

    fn at<'o>(&'o self, place: &Place) -> OwnerAt<'a, 'o> {
        OwnerAt {
            flags: place.flags,
            ordinal: place.ordinal,
            labels: place.labels,
            name: self.name(place),
            sets: &self.sets[place.sets.0 as usize..place.sets.1 as usize],
        }
    }

    fn next_bearing(&self, i: usize) -> Next<'_> {
        let mut behind = self.list[i + 1..].iter();
        match behind.find(|p| !p.flags.is_occluded()) {
            Some(next) if next.lower => Next::Name(self.name(next)),
            Some(next) => Next::Spelled(self.name(next)),
            None => Next::Beyond,
        }
    }
}

/// The owner that an NSEC names.
enum Next<'o> {
    Name(&'o [u8]),
    /// In received spelling; an NSEC has it in lower case.
    Spelled(&'o [u8]),
    Key(&'o [u8]),
    /// The first one of the next unit that bears an NSEC.
    Beyond,
}

/// One owner to be expanded.
struct OwnerAt<'a, 'o> {
    flags: Flags,
    ordinal: u16,
    /// As RRSIG counts them (RFC 4034 §3.1.3).
    labels: u8,
    name: &'o [u8],
    sets: &'o [Set<'a>],
}

/// Expands owners of one unit to records.
struct Expander<'a> {
    unit: Unit<'a>,
    s: SView<'a>,
    /// Next entry of the sidecar, and where its signature begins.
    entry: usize,
    sig_at: usize,
    next: Vec<u8>,
    types: Vec<Rtype>,
    /// What the bitmap was made of: most owners are like the one before.
    bitmap_of: (Flags, Vec<u32>),
    bitmap: Vec<u8>,
}

impl<'a> Expander<'a> {
    fn new(unit: &Unit<'a>) -> Self {
        Expander {
            unit: *unit,
            s: unit.s.unwrap_or(SView::NONE),
            entry: 0,
            sig_at: 0,
            next: Vec::new(),
            types: Vec::new(),
            bitmap_of: Default::default(),
            bitmap: Vec::new(),
        }
    }

    /// Emits one owner; those before it have been emitted or skipped.
    fn owner(&mut self, at: &OwnerAt<'a, '_>, next: Next<'_>, sink: &mut impl Sink) {
        sink.owner(at.name);
        // The apex begins with its SOA, whatever types sort before it.
        let first = if self.unit.is_apex() {
            at.sets.iter().position(|s| s.kind.rtype == Rtype::SOA)
        } else {
            None
        };
        let (entry, sig_at) = (self.entry, self.sig_at);
        if let Some(i) = first {
            self.set(i, at, sink);
            (self.entry, self.sig_at) = (entry, sig_at);
        }
        for i in 0..at.sets.len() {
            if Some(i) == first {
                self.skip_entries(at.ordinal, i as u16);
            } else {
                self.set(i, at, sink);
            }
        }
        if let Some(ttl) = self.s.nsec_ttl()
            && !at.flags.is_occluded()
        {
            self.nsec(at, next, ttl, sink);
        }
    }

    fn set(&mut self, i: usize, at: &OwnerAt<'a, '_>, sink: &mut impl Sink) {
        let set = &at.sets[i];
        let Kind { rtype, ttl, .. } = set.kind;
        let mut r = Reader::new(set.data);
        for _ in 0..set.count {
            let len = match set.form {
                Form::Fixed(n) => Some(n.into()),
                _ => r.varint().map(|n| n as usize),
            };
            let Some(rdata) = len.and_then(|n| r.take(n)) else {
                break;
            };
            sink.record(rtype, ttl, [rdata]);
        }
        self.rrsigs(at, i as u16, rtype, ttl, sink);
    }

    /// The entry at hand, if it is of this owner and not beyond this set; entries are in order.
    #[inline]
    fn entry_of(&self, ordinal: u16, set: u16) -> Option<Entry> {
        if self.entry >= self.s.len() {
            return None;
        }
        let e = self.s.entry(self.entry);
        (e.ordinal == ordinal && e.set <= set).then_some(e)
    }

    fn skip_entries(&mut self, ordinal: u16, set: u16) {
        while let Some(e) = self.entry_of(ordinal, set) {
            self.sig_at += self.s.key(e.key).1 as usize;
            self.entry += 1;
        }
    }

    fn rrsigs(
        &mut self,
        at: &OwnerAt<'a, '_>,
        set: u16,
        covered: Rtype,
        ttl: u32,
        sink: &mut impl Sink,
    ) {
        let v = self.unit.version;
        while let Some(e) = self.entry_of(at.ordinal, set) {
            let (slot, len) = self.s.key(e.key);
            let end = self.sig_at + len as usize;
            let signature = self.s.signatures().get(self.sig_at..end).unwrap_or(&[]);
            self.sig_at = end;
            self.entry += 1;
            // The apex may look for a set again whose entries it has passed.
            if e.set != set {
                continue;
            }
            let Some(key) = v.keys.get(slot) else {
                continue;
            };
            let (inception, expiration) = self.s.time(e.time);
            let head = rrsig_head(&RrsigFields {
                covered,
                algorithm: key.algorithm,
                labels: at.labels,
                original_ttl: ttl,
                expiration,
                inception,
                tag: key.tag,
            });
            let signer = v.apex_lower.as_wire();
            sink.record(Rtype::RRSIG, ttl, [&head, signer, signature]);
        }
    }

    fn nsec(&mut self, at: &OwnerAt<'a, '_>, next: Next<'_>, ttl: u32, sink: &mut impl Sink) {
        let v = self.unit.version;
        let (flags, kinds) = &self.bitmap_of;
        let same = *flags == at.flags
            && !self.bitmap.is_empty()
            && kinds.iter().copied().eq(at.sets.iter().map(|s| s.id));
        if !same {
            let types = at.sets.iter().map(|s| s.kind.rtype);
            bitmap_types(at.flags, types, true, &mut self.types);
            self.bitmap.clear();
            push_bitmap(&self.types, &mut self.bitmap);
            self.bitmap_of.0 = at.flags;
            self.bitmap_of.1.clear();
            self.bitmap_of.1.extend(at.sets.iter().map(|s| s.id));
        }
        let name = match next {
            Next::Name(name) => name,
            Next::Spelled(name) => {
                self.next.clear();
                self.next.extend_from_slice(name);
                self.next.make_ascii_lowercase();
                &self.next
            }
            Next::Key(key) => next_name(&mut self.next, key, v),
            Next::Beyond => next_name(&mut self.next, self.s.next(), v),
        };
        sink.record(Rtype::NSEC, ttl, [name, &self.bitmap]);
        self.rrsigs(at, NSEC_SET, Rtype::NSEC, ttl, sink);
    }
}

fn next_name<'n>(out: &'n mut Vec<u8>, key: &[u8], v: &ZoneVersion) -> &'n [u8] {
    out.clear();
    key::push_wire(key, None, v.apex_lower.as_wire(), out);
    out
}

/// Owners of one unit, compared as they stand and expanded only where that is wanted.
pub(crate) struct OwnerWalk<'a> {
    it: RawIter<'a>,
    w: Expander<'a>,
    at: Option<RawOwner<'a>>,
    /// Sets of that owner as they stand, and as they are expanded.
    raw: Vec<RawSet<'a>>,
    sets: Vec<Set<'a>>,
    ahead: RawIter<'a>,
    name: Vec<u8>,
    whole: Buffers,
}

impl<'a> OwnerWalk<'a> {
    pub(crate) fn new(unit: &Unit<'a>) -> Self {
        let mut walk = OwnerWalk::unread(unit);
        walk.advance();
        walk
    }

    /// Begins at owner number `ordinal`.
    pub(crate) fn at(unit: &Unit<'a>, ordinal: u16) -> Self {
        let mut walk = OwnerWalk::unread(unit);
        walk.seek(ordinal);
        walk
    }

    fn unread(unit: &Unit<'a>) -> Self {
        let it = unit.leaf.u.iter(&unit.version.kinds);
        OwnerWalk {
            w: Expander::new(unit),
            at: None,
            raw: Vec::new(),
            sets: Vec::new(),
            ahead: it.clone(),
            it,
            name: Vec::new(),
            whole: Buffers::default(),
        }
    }

    /// Number of the owner at hand, and its first entry in the sidecar.
    pub(crate) fn place(&self) -> Option<(RawOwner<'a>, usize)> {
        Some((self.at?, self.w.entry))
    }

    /// Goes to owner number `ordinal`.
    pub(crate) fn seek(&mut self, ordinal: u16) {
        let leaf = self.leaf();
        if self.at.is_some_and(|raw| raw.ordinal == ordinal) {
            return;
        }
        let group = (usize::from(ordinal) / RESTART).min(leaf.restart_count());
        self.it.restart(leaf, group);
        for _ in 0..usize::from(ordinal) % RESTART {
            let _ = self.it.next();
        }
        self.w.entry = self.w.s.range_of(ordinal).start;
        self.w.sig_at = self.w.s.offset(self.w.entry);
        self.advance();
    }

    /// Passes the groups of owners that begin here on both sides and have equal records for certain;
    /// for versions as [`same`](OwnerWalk::same) wants them.
    pub(crate) fn skip_alike(&mut self, other: &mut OwnerWalk<'a>) {
        while let (Some(a), Some(b)) = (self.at, other.at) {
            let (at, end) = (usize::from(a.ordinal), usize::from(a.ordinal) + RESTART);
            if a.ordinal != b.ordinal || !at.is_multiple_of(RESTART) {
                return;
            }
            let group = at / RESTART;
            let (x, y) = (self.leaf(), other.leaf());
            if x.group(group) != y.group(group) || !self.w.next_alike(&other.w, group + 1) {
                return;
            }
            let Some((mine, theirs)) = self.w.sigs_alike(&other.w, end) else {
                return;
            };
            (
                (self.w.entry, self.w.sig_at),
                (other.w.entry, other.w.sig_at),
            ) = (mine, theirs);
            let kinds = (&self.w.unit.version.kinds, &other.w.unit.version.kinds);
            self.it = x.iter_from_restart(group + 1, kinds.0);
            other.it = y.iter_from_restart(group + 1, kinds.1);
            self.advance();
            other.advance();
        }
    }

    fn leaf(&self) -> &'a ULeaf {
        &self.w.unit.leaf.u
    }

    fn advance(&mut self) {
        self.raw.clear();
        self.at = self.it.next_into(&mut self.raw);
    }

    /// Key of the owner at hand.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.at.map(|_| self.it.key.as_slice())
    }

    pub(crate) fn skip(&mut self) {
        if let Some(raw) = self.at {
            self.w.skip_entries(raw.ordinal, NSEC_SET);
        }
        self.advance();
    }

    /// Emits the records of the owner at hand and moves on.
    pub(crate) fn take(&mut self, f: &mut dyn FnMut(Record<'_>)) {
        let Some(raw) = self.at else {
            return;
        };
        let v = self.w.unit.version;
        self.sets.clear();
        let sets = self.raw.iter().filter_map(|raw| Set::new(*raw, &v.kinds));
        self.sets.extend(sets);
        Set::find_all(&mut self.sets, &v.pool);
        self.name.clear();
        key::push_wire(
            &self.it.key,
            raw.case,
            v.apex_name.as_wire(),
            &mut self.name,
        );
        let at = OwnerAt {
            flags: raw.flags,
            ordinal: raw.ordinal,
            labels: key::rrsig_labels(&self.name),
            name: &self.name,
            sets: &self.sets,
        };
        let named = self.w.s.nsec_ttl().is_some() && !raw.flags.is_occluded();
        let next = match named && seek_bearing(&self.it, &mut self.ahead) {
            true => Next::Key(&self.ahead.key),
            false => Next::Beyond,
        };
        self.w.owner(&at, next, &mut Whole::new(&mut self.whole, f));
        self.skip();
    }

    /// Equal records for certain at the owners at hand, of versions of which one
    /// [writes like](ZoneVersion::writes_like) the other, if their keys are equal.
    pub(crate) fn same(&mut self, other: &mut OwnerWalk<'a>) -> bool {
        let (Some(a), Some(b)) = (self.at, other.at) else {
            return false;
        };
        let content = a.flags == b.flags
            && a.case == b.case
            && a.n_sets == b.n_sets
            && a.sets == b.sets
            && self.w.s.nsec_ttl() == other.w.s.nsec_ttl();
        content
            && self.w.same_sigs(a.ordinal, &other.w, b.ordinal)
            && (self.w.s.nsec_ttl().is_none()
                || a.flags.is_occluded()
                || self.next_bearing() == other.next_bearing())
    }

    /// Key of the owner that an NSEC of the owner at hand names.
    fn next_bearing(&mut self) -> &[u8] {
        match seek_bearing(&self.it, &mut self.ahead) {
            true => &self.ahead.key,
            false => self.w.s.next(),
        }
    }
}

/// Puts `ahead` where `it` stands and moves it to the next owner that bears an NSEC.
fn seek_bearing<'a>(it: &RawIter<'a>, ahead: &mut RawIter<'a>) -> bool {
    it.copy_to(ahead);
    ahead.seek_bearing()
}

impl<'a> Expander<'a> {
    /// What stands from group `group` on begins alike: the last NSEC before it names the same owner.
    fn next_alike(&self, other: &Expander<'a>, group: usize) -> bool {
        if self.s.nsec_ttl() != other.s.nsec_ttl() {
            return false;
        }
        if self.s.nsec_ttl().is_none() {
            return true;
        }
        let first = |w: &Expander<'a>| {
            let leaf = &w.unit.leaf.u;
            let there = group < leaf.restart_count();
            there.then(|| (leaf.group(group).first().copied(), leaf.restart_key(group)))
        };
        match (first(self), first(other)) {
            (None, None) => self.s.next() == other.s.next(),
            // Of an occluded owner it depends on what follows.
            (Some(a), Some(b)) => a == b && !Flags(a.0.unwrap_or(Flags::OCCLUDED)).is_occluded(),
            _ => false,
        }
    }

    /// The signatures that stand next are the same on both sides up to owner number `end`; where those
    /// behind them stand.
    #[allow(clippy::type_complexity)]
    fn sigs_alike(
        &self,
        other: &Expander<'a>,
        end: usize,
    ) -> Option<((usize, usize), (usize, usize))> {
        let (mut i, mut at) = (self.entry, self.sig_at);
        let (mut j, mut other_at) = (other.entry, other.sig_at);
        if let Some(n) = self.s.alike(i, &other.s, j, end) {
            let (i, j) = (i + n, j + n);
            return Some(((i, self.s.offset(i)), (j, other.s.offset(j))));
        }
        let next = |s: &SView<'a>, i: usize| {
            let e = (i < s.len()).then(|| s.entry(i))?;
            (usize::from(e.ordinal) < end).then_some(e)
        };
        loop {
            match (next(&self.s, i), next(&other.s, j)) {
                (None, None) => return Some(((i, at), (j, other_at))),
                (Some(a), Some(b)) if (a.ordinal, a.set) == (b.ordinal, b.set) => {
                    let x = self.sig(i, at, a.ordinal)?;
                    if Some(x) != other.sig(j, other_at, b.ordinal) {
                        return None;
                    }
                    (i, j) = (i + 1, j + 1);
                    (at, other_at) = (at + x.3.len(), other_at + x.3.len());
                }
                _ => return None,
            }
        }
    }

    /// The same signatures stand next, here at an owner and there at another.
    fn same_sigs(&self, ordinal: u16, other: &Expander<'a>, other_ordinal: u16) -> bool {
        let (mut i, mut at) = (self.entry, self.sig_at);
        let (mut j, mut other_at) = (other.entry, other.sig_at);
        loop {
            let (a, b) = (
                self.sig(i, at, ordinal),
                other.sig(j, other_at, other_ordinal),
            );
            if a != b {
                return false;
            }
            let Some((.., octets)) = a else {
                return true;
            };
            (i, j) = (i + 1, j + 1);
            (at, other_at) = (at + octets.len(), other_at + octets.len());
        }
    }

    /// Entry `i`, if it is of this owner: set, slot, times, signature.
    fn sig(&self, i: usize, at: usize, ordinal: u16) -> Option<(u16, u8, (u32, u32), &'a [u8])> {
        if i >= self.s.len() {
            return None;
        }
        let e = self.s.entry(i);
        let (slot, len) = self.s.key(e.key);
        let octets = self.s.signatures().get(at..at + len as usize)?;
        (e.ordinal == ordinal).then(|| (e.set, slot, self.s.time(e.time), octets))
    }
}
