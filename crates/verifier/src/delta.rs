//! The difference between two versions as the gate is told it: what is counted from it, and the owners
//! that it names.

use rayon::prelude::*;

use crate::content;
use crate::context::Context;
use crate::finding::{Check, Finding, Sink};
use crate::group::Fingerprinter;
use crate::ledger::Tally;
use crate::rdata::t;
use crate::rrsig::signer_spelling;
use crate::source::Rr;
use crate::wire::{self, cmp_names, same_name};

/// The difference between two versions, record by record, signatures and denial records included.
/// Records of one owner come together.
pub trait Delta: Sync {
    /// Calls `f` with `true` for a record that only the older version has, `false` for one that only
    /// the newer has. A changed TTL is both.
    fn for_each(&self, f: &mut dyn FnMut(bool, Rr<'_>));
    /// The same in parts that several threads can go through; empty: it has none.
    fn parts(&self) -> Vec<Box<dyn Delta + '_>> {
        Vec::new()
    }
}

/// What the delta says of one owner: fingerprints of its records, `true` for those that went.
pub(crate) struct Item {
    /// Lower case.
    pub(crate) owner: Vec<u8>,
    pub(crate) prints: Vec<(bool, u128)>,
}

/// A delta, counted.
#[derive(Default)]
pub(crate) struct Listed {
    /// Owners of main records, in canonical order.
    pub(crate) main: Vec<Item>,
    /// Owners of NSEC3 records, in canonical order.
    pub(crate) hashed: Vec<Item>,
    /// Sums of records.
    pub(crate) tally: Tally,
    pub(crate) content: u128,
    pub(crate) sink: Sink,
}

/// Goes through the signed difference once.
pub(crate) fn list(ctx: &Context<'_>, delta: &dyn Delta) -> Listed {
    let mut all = Listed::default();
    for part in in_parts(delta, &|d| list_part(ctx, d)) {
        all.main.extend(part.main);
        all.hashed.extend(part.hashed);
        all.tally.add(&part.tally, 1);
        all.content = all.content.wrapping_add(part.content);
        all.sink.merge(part.sink);
    }
    in_order(&mut all.main);
    in_order(&mut all.hashed);
    all
}

/// Content sum of an unsigned difference, and its owners.
pub(crate) fn list_unsigned(ctx: &Context<'_>, delta: &dyn Delta) -> (u128, Vec<Vec<u8>>) {
    let (mut sum, mut owners) = (0u128, Vec::new());
    for (part, mut list) in in_parts(delta, &|d| list_unsigned_part(ctx, d)) {
        sum = sum.wrapping_add(part);
        owners.append(&mut list);
    }
    (sum, owners)
}

fn in_parts<T: Send>(delta: &dyn Delta, f: &(dyn Fn(&dyn Delta) -> T + Sync)) -> Vec<T> {
    let parts = delta.parts();
    match parts.len() {
        0 => vec![f(delta)],
        1 => parts.iter().map(|d| f(d.as_ref())).collect(),
        _ => parts.par_iter().map(|d| f(d.as_ref())).collect(),
    }
}

fn list_part(ctx: &Context<'_>, delta: &dyn Delta) -> Listed {
    let mut prints = Fingerprinter::new(ctx.params.fingerprint_seed);
    let mut all = Listed::default();
    delta.for_each(&mut |removed, rr| {
        if !wire::is_name(rr.owner) || !wire::at_or_below(rr.owner, &ctx.apex_name) {
            let what = "owner is not in the zone";
            all.sink
                .push(|| Finding::at(Check::V01, rr.owner, rr.rtype, what));
            return;
        }
        if !removed {
            signer_spelling(rr.owner, rr.rtype, rr.rdata, &mut all.sink);
        }
        let mut one = Tally::default();
        prints.count(&rr, same_name(rr.owner, &ctx.apex_name), &mut one);
        all.tally.add(&one, if removed { -1 } else { 1 });
        all.content = moved(all.content, removed, one.content);
        let hashed = rr.rtype == t::NSEC3 || content::covers(&rr) == Some(t::NSEC3);
        let items = match hashed {
            true => &mut all.hashed,
            false => &mut all.main,
        };
        match items.last_mut().filter(|i| same_name(&i.owner, rr.owner)) {
            Some(item) => item.prints.push((removed, one.full)),
            None => items.push(Item {
                owner: rr.owner.to_ascii_lowercase(),
                prints: vec![(removed, one.full)],
            }),
        }
    });
    all
}

fn list_unsigned_part(ctx: &Context<'_>, delta: &dyn Delta) -> (u128, Vec<Vec<u8>>) {
    let mut prints = Fingerprinter::new(ctx.params.fingerprint_seed);
    let (mut sum, mut owners): (u128, Vec<Vec<u8>>) = (0, Vec::new());
    delta.for_each(&mut |removed, rr| {
        let mut one = Tally::default();
        prints.count(&rr, same_name(rr.owner, &ctx.apex_name), &mut one);
        sum = moved(sum, removed, one.content);
        let known = owners.last().is_some_and(|o| same_name(o, rr.owner));
        if !known && wire::is_name(rr.owner) && wire::at_or_below(rr.owner, &ctx.apex_name) {
            owners.push(rr.owner.to_ascii_lowercase());
        }
    });
    (sum, owners)
}

fn moved(sum: u128, removed: bool, by: u128) -> u128 {
    match removed {
        true => sum.wrapping_sub(by),
        false => sum.wrapping_add(by),
    }
}

/// Canonical order, each owner once. A delta of the store is in order already.
fn in_order(items: &mut Vec<Item>) {
    if items.is_sorted_by(|a, b| cmp_names(&a.owner, &b.owner).is_lt()) {
        return;
    }
    items.sort_by(|a, b| cmp_names(&a.owner, &b.owner));
    items.dedup_by(|b, a| {
        let same = a.owner == b.owner;
        if same {
            a.prints.append(&mut b.prints);
        }
        same
    });
}
