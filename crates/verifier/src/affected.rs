//! Changed mode, owner by owner (V02 to V07, V12, V13, V21): each is read once in either version, and all
//! that can be said of it is said then.

use rayon::prelude::*;

use crate::changed::share;
use crate::context::{Context, Cover, Denial};
use crate::delta::Item;
use crate::finding::{Check, Finding, Sink};
use crate::full::{add_work, check_next};
use crate::group::{Fingerprinter, Group, Place, Rec};
use crate::ledger::Tally;
use crate::owner::{Work, check_nsec, check_owner, must_be_signed, only_made, place_of};
use crate::rdata::t;
use crate::rrsig::Trust;
use crate::source::Source;
use crate::wire::{self, cmp_names};

/// What became of an affected owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// `None`: no owner.
    pub(crate) old: Option<Place>,
    pub(crate) new: Option<Place>,
    /// An insecure zone cut.
    pub(crate) new_insecure: bool,
    /// Types that an NSEC3 of the owner must list, ascending; empty in a zone without NSEC3.
    pub(crate) types: Vec<u16>,
}

impl Status {
    pub(crate) fn bears(place: Option<Place>) -> bool {
        place.is_some_and(|p| p != Place::Occluded)
    }
}

/// The owners that a change can touch, in canonical order, and what became of them.
#[derive(Default)]
pub(crate) struct Affected {
    pub(crate) owners: Vec<Vec<u8>>,
    pub(crate) statuses: Vec<Status>,
}

/// Judges `items`, owners in canonical order, and those whose occlusion changed with them.
pub(crate) fn check(
    ctx: &Context<'_>,
    source: &dyn Source,
    old: &dyn Source,
    items: Vec<Item>,
    total: &mut Work,
) -> Affected {
    let mut all = Affected::default();
    let mut below = round(ctx, source, old, items, &mut all, total);
    if below.is_empty() {
        return all;
    }
    below.sort_by(|a, b| cmp_names(a, b));
    below.dedup();
    below.retain(|x| all.owners.binary_search_by(|o| cmp_names(o, x)).is_err());
    let unsaid = below.into_iter().map(|owner| Item {
        owner,
        prints: Vec::new(),
    });
    let mut more = Affected::default();
    // What is below them is among them.
    round(ctx, source, old, unsaid.collect(), &mut more, total);
    let pairs = |a: Affected| a.owners.into_iter().zip(a.statuses);
    let mut merged: Vec<(Vec<u8>, Status)> = pairs(all).chain(pairs(more)).collect();
    merged.sort_by(|a, b| cmp_names(&a.0, &b.0));
    let (owners, statuses) = merged.into_iter().unzip();
    Affected { owners, statuses }
}

/// Gives the owners below those that began or ceased to hide what is below them.
fn round(
    ctx: &Context<'_>,
    source: &dyn Source,
    old: &dyn Source,
    mut items: Vec<Item>,
    all: &mut Affected,
    total: &mut Work,
) -> Vec<Vec<u8>> {
    let share = share(items.len());
    let parts: Vec<Part> = items
        .par_chunks_mut(share)
        .map(|items| check_some(ctx, source, old, items))
        .collect();
    let mut below = Vec::new();
    for part in parts {
        add_work(total, part.new);
        total.tally.add(&part.old, -1);
        all.statuses.extend(part.statuses);
        below.extend(part.below);
    }
    all.owners.extend(items.into_iter().map(|i| i.owner));
    below
}

struct Part {
    new: Work,
    old: Tally,
    statuses: Vec<Status>,
    below: Vec<Vec<u8>>,
}

/// One version of the owner at hand.
struct Side<'a> {
    version: &'a dyn Source,
    cover: Cover<'a>,
    group: Group,
    prints: Vec<u128>,
}

impl<'a> Side<'a> {
    fn new(ctx: &'a Context<'a>, version: &'a dyn Source) -> Side<'a> {
        Side {
            version,
            cover: Cover::new(ctx, version),
            group: Group::default(),
            prints: Vec::new(),
        }
    }

    /// Reads the main records of `owner`; gives its place.
    fn read(
        &mut self,
        ctx: &Context<'_>,
        owner: &[u8],
        prints: &mut Fingerprinter,
        sink: &mut Sink,
    ) -> Place {
        self.group.start(owner);
        self.prints.clear();
        self.version.at(owner, &mut |rr| {
            self.prints.push(prints.of(&rr));
            self.group.push(&rr, &ctx.apex_name, sink);
        });
        self.group.sort();
        self.prints.sort_unstable();
        place_of(ctx, &self.group, self.cover.of(owner).is_some())
    }

    /// Hides what is below it, if nothing above it does.
    fn hides(&self, ctx: &Context<'_>) -> bool {
        self.group.has(t::DNAME) || self.group.is_cut(&ctx.apex_name)
    }

    fn there(&self, place: Place) -> Option<Place> {
        (!only_made(&self.group)).then_some(place)
    }
}

fn check_some(
    ctx: &Context<'_>,
    source: &dyn Source,
    old: &dyn Source,
    items: &mut [Item],
) -> Part {
    let mut part = Part {
        new: Work::default(),
        old: Tally::default(),
        statuses: Vec::with_capacity(items.len()),
        below: Vec::new(),
    };
    // The predecessor has been judged; only its share of the ledger is wanted.
    let mut past = Work::default();
    let mut prints = Fingerprinter::new(ctx.params.fingerprint_seed);
    let (mut was, mut is) = (Side::new(ctx, old), Side::new(ctx, source));
    for item in items {
        let name = item.owner.as_slice();
        let old_place = was.read(ctx, name, &mut prints, &mut past.sink);
        let carry = &mut |_: &Group, _: &[Rec], _: &Rec| Trust::Carried;
        check_owner(ctx, &was.group, old_place, carry, &mut past);
        let old_there = was.there(old_place);
        let old_bears = Status::bears(old_there);
        count_bearing(ctx, &was.group, old_place, old_bears, &mut past.tally);
        past.tally.counts.denial_records += (old_bears && was.group.has(t::NSEC)) as i64;
        past.sink = Sink::default();

        let place = is.read(ctx, name, &mut prints, &mut part.new.sink);
        confirm_prints(
            name,
            &mut item.prints,
            &was.prints,
            &is.prints,
            &mut part.new.sink,
        );
        if was.hides(ctx) != is.hides(ctx) {
            push_subtree(source, old, name, &mut part.below);
        }
        let mut trust = |group: &Group, set: &[Rec], sig: &Rec| {
            if must_be_signed(old_place, set[0].rtype) && carried(&was.group, group, set, sig) {
                Trust::Carried
            } else {
                Trust::Batched
            }
        };
        check_owner(ctx, &is.group, place, &mut trust, &mut part.new);
        let there = is.there(place);
        let bears = Status::bears(there);
        count_bearing(ctx, &is.group, place, bears, &mut part.new.tally);
        if ctx.denial == Denial::Nsec {
            let next = match bears {
                true => check_nsec(ctx, &is.group, place, &mut part.new),
                false => None,
            };
            let links = (old_bears, bears);
            check_links(ctx, &mut is.cover, name, next, links, &mut part.new.sink);
        }
        let mut types = Vec::new();
        if bears && ctx.denial != Denial::Nsec {
            is.group.bitmap_types(place, false, &mut types);
        }
        part.statuses.push(Status {
            old: old_there,
            new: there,
            new_insecure: place == Place::Cut && !is.group.has(t::DS),
            types,
        });
    }
    part.new.batch.finish(&ctx.keys, &mut part.new.sink);
    part.old = past.tally;
    part
}

fn count_bearing(ctx: &Context<'_>, group: &Group, place: Place, bears: bool, tally: &mut Tally) {
    let left_out =
        ctx.denial != Denial::Nsec && ctx.opt_out && place == Place::Cut && !group.has(t::DS);
    tally.counts.bearing += (bears && !left_out) as i64;
}

/// True if the RRset and this RRSIG over it are in `old`, octet for octet.
pub(crate) fn carried(old: &Group, group: &Group, set: &[Rec], sig: &Rec) -> bool {
    let rtype = set[0].rtype;
    let was = old.set(rtype);
    let same = was.len() == set.len()
        && was
            .iter()
            .zip(set)
            .all(|(a, b)| a.ttl == b.ttl && old.rdata(a) == group.rdata(b));
    same && old
        .sigs(rtype)
        .iter()
        .any(|s| s.ttl == sig.ttl && old.rdata(s) == group.rdata(sig))
}

/// V21 at one owner: what the delta says is exactly what differs between the two versions there, whose
/// fingerprints are sorted.
pub(crate) fn confirm_prints(
    owner: &[u8],
    said: &mut [(bool, u128)],
    was: &[u128],
    is: &[u128],
    sink: &mut Sink,
) {
    said.sort_unstable_by_key(|(removed, print)| (!removed, *print));
    let (gone, come) = said.split_at(said.partition_point(|(removed, _)| *removed));
    let gone = || gone.iter().map(|(_, print)| *print);
    let come = || come.iter().map(|(_, print)| *print);
    let (was, is) = (|| was.iter().copied(), || is.iter().copied());
    // An owner in another spelling is the same owner; a delta may list it on both sides.
    let tells = [
        (
            only(gone(), come()).eq(only(was(), is())),
            "the delta does not remove what is gone, or removes what is not",
        ),
        (
            only(come(), gone()).eq(only(is(), was())),
            "the delta does not add what is new, or adds what was there",
        ),
    ];
    for (_, what) in tells.into_iter().filter(|(right, _)| !right) {
        sink.push(|| Finding::at(Check::V21, owner, 0, what));
    }
}

/// What is in `a` and not in `b`, both sorted, each as often as it is more often there.
fn only(
    a: impl Iterator<Item = u128>,
    b: impl Iterator<Item = u128>,
) -> impl Iterator<Item = u128> {
    let mut b = b.peekable();
    a.filter(move |x| {
        while b.next_if(|y| y < x).is_some() {}
        b.next_if(|y| y == x).is_none()
    })
}

/// Owners below `owner`, where a cut or DNAME appeared or vanished: their occlusion changed, whatever
/// the delta says.
fn push_subtree(source: &dyn Source, old: &dyn Source, owner: &[u8], out: &mut Vec<Vec<u8>>) {
    for version in [old, source] {
        let mut at = owner.to_vec();
        let mut next = Vec::new();
        while version.next_owner(&at, &mut next) && wire::below(&next, owner) {
            out.push(next.to_ascii_lowercase());
            std::mem::swap(&mut at, &mut next);
        }
    }
}

/// V12: the links at an affected owner, whose NSEC names `named`, and of the one before it. It bears a
/// record in the older and in the newer version as `bears` says.
fn check_links(
    ctx: &Context<'_>,
    cover: &mut Cover<'_>,
    owner: &[u8],
    named: Option<&[u8]>,
    bears: (bool, bool),
    sink: &mut Sink,
) {
    if bears == (false, false) {
        return;
    }
    let next = next_bearing(ctx, cover, owner);
    // That there is none has been told.
    if let Some(named) = named {
        check_next(owner, named, &next, sink);
    }
    if bears.0 != bears.1
        && let Some(before) = previous_bearing(cover, owner)
    {
        let to = if bears.1 { owner } else { &next };
        link_leads_to(cover.version(), &before, to, sink);
    }
}

fn link_leads_to(source: &dyn Source, owner: &[u8], to: &[u8], sink: &mut Sink) {
    let mut found = false;
    source.at(owner, &mut |rr| {
        if rr.rtype == t::NSEC
            && let Some(n) = wire::name_len(rr.rdata)
        {
            found = true;
            check_next(owner, &rr.rdata[..n], to, sink);
        }
    });
    if !found {
        sink.push(|| Finding::at(Check::V12, owner, t::NSEC, "no NSEC at this owner"));
    }
}

/// Moves `name` to the next owner with data.
pub(crate) fn next_data(version: &dyn Source, name: &mut Vec<u8>) -> bool {
    let mut next = Vec::new();
    let mut data = false;
    while version.next_with_types(name, &mut next, &mut |_| data = true) {
        std::mem::swap(name, &mut next);
        if data {
            return true;
        }
    }
    false
}

pub(crate) fn has_data(version: &dyn Source, name: &[u8]) -> bool {
    let mut data = false;
    version.types_at(name, &mut |_| data = true);
    data
}

/// The next owner that bears a record of denial; the apex after the last.
pub(crate) fn next_bearing(ctx: &Context<'_>, cover: &mut Cover<'_>, name: &[u8]) -> Vec<u8> {
    let source = cover.version();
    let mut at = name.to_vec();
    while next_data(source, &mut at) {
        let Some(hidden_by) = cover.of(&at) else {
            return at;
        };
        // Skip what lies below the cut or DNAME. The last label of all under it would be a jump, but
        // names below a cut are few, and below a DNAME forbidden.
        let mut next = Vec::new();
        while source.next_owner(&at, &mut next) && wire::below(&next, hidden_by) {
            std::mem::swap(&mut at, &mut next);
        }
    }
    ctx.apex_name.clone()
}

/// The previous owner that bears an NSEC; `None` before the apex.
fn previous_bearing(cover: &mut Cover<'_>, name: &[u8]) -> Option<Vec<u8>> {
    let source = cover.version();
    let mut at = name.to_vec();
    let mut before = Vec::new();
    while source.previous_owner(&at, &mut before) {
        std::mem::swap(&mut at, &mut before);
        if let Some(cover) = cover.of(&at) {
            // The topmost cut or DNAME bears one itself.
            return Some(cover.to_vec());
        }
        if has_data(source, &at) {
            return Some(at);
        }
    }
    None
}
