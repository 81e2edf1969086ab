//! Changed mode: a candidate judged by its difference from a verified predecessor.
//!
//! If the predecessor satisfies the checks and the difference is what it says (V21), only owners
//! that changed, owners whose occlusion changed, and the denial records around them can be wrong.

use std::sync::Arc;

use cascade_time::Timestamp;
use rayon::prelude::*;

use crate::apex;
use crate::content;
use crate::context::{Apex, Context, Denial};
use crate::denial_changed;
use crate::engine::TableEngine;
use crate::finding::{Check, Finding, Mode, Sink};
use crate::full::{self, add_work};
use crate::group::{Fingerprinter, Group, Place};
use crate::ledger::{Ledger, Tally, dnskey_digest};
use crate::outcome::{Judged, conclude};
use crate::owner::{Work, check_nsec, check_owner, must_be_signed, only_made, place_of};
use crate::params::Params;
use crate::rdata::t;
use crate::rrsig::{Trust, signer_spelling};
use crate::source::{Rr, Source};
use crate::wire::{self, cmp_names, same_name};
use crate::zonemd;

/// The difference between two versions, record by record, signatures and denial records included.
/// Records of one owner come together.
pub trait Delta: Sync {
    /// Calls `f` with `true` for a record that only the older version has, `false` for one that only
    /// the newer has. A changed TTL is both.
    fn for_each(&self, f: &mut dyn FnMut(bool, Rr<'_>));
}

/// The predecessor of a candidate: verified, with its ledger, and the way from it.
#[derive(Clone, Copy)]
pub struct Predecessor<'a> {
    pub version: &'a dyn Source,
    pub ledger: &'a Ledger,
    pub delta: &'a dyn Delta,
    /// Difference of the unsigned versions, when the caller has it: its owners are looked at even if
    /// the signed delta does not name them.
    pub unsigned_delta: Option<&'a dyn Delta>,
}

pub(crate) fn run(
    source: &dyn Source,
    before: &Predecessor<'_>,
    params: &Params<'_>,
    engine: Option<Arc<TableEngine>>,
    now: Timestamp,
) -> Judged {
    let old_apex = Apex::read(before.version);
    let ctx = Context::new(source, params, &old_apex.dnskey, engine.clone(), now);
    // A ledger of another version, other denial of existence, or a key that nobody knows any more:
    // there is nothing to build on.
    let bound = before
        .version
        .claims()
        .is_none_or(|c| c.full.to_be_bytes() == before.ledger.full.0)
        && dnskey_digest(&old_apex.dnskey) == before.ledger.dnskey.0
        && old_apex.serial() == before.ledger.serial;
    let (true, true, Some(old)) = (
        bound,
        ctx.denial_state() == before.ledger.denial,
        before.ledger.tally(&ctx.keys),
    ) else {
        return full::run(source, params, engine, now);
    };
    let mut total = Work::default();
    apex::check_before(&ctx, &mut total.sink);
    let change = Change::collect(&ctx, source, before, &mut total);

    let parts: Vec<Part> = change
        .owners
        .par_chunks(share(change.owners.len()))
        .map(|names| check_owners(&ctx, source, before.version, names))
        .collect();
    let mut statuses = Vec::with_capacity(change.owners.len());
    for part in parts {
        add_work(&mut total, part.new);
        total.tally.add(&part.old, -1);
        statuses.extend(part.statuses);
    }
    denial_changed::check(&ctx, source, before.version, &change, &statuses, &mut total);
    apex::check_chain(&ctx, total.key_set_signers, &mut total.sink);

    let mut tally = old;
    tally.add(&total.tally, 1);
    check_cover(&ctx, &tally, &mut total.sink);
    check_sums(&ctx, source, &tally, &mut total.sink);
    zonemd::check(&ctx, source, &mut total.sink);
    let samples = crate::answers::SAMPLES_OF_CHANGE;
    crate::answers::check(&ctx, source, &change.owners, samples, &mut total.sink);
    let ledger = Ledger::new(
        &tally,
        &ctx.keys,
        &ctx.apex.dnskey,
        ctx.apex.serial(),
        ctx.denial_state(),
    );
    conclude(
        &ctx,
        Mode::Changed,
        ledger,
        total,
        change.owners.len() as u64,
    )
}

/// Owners per task: hundreds share a batch of signatures where there are many, and the number depends
/// on nothing but theirs.
pub(crate) fn share(owners: usize) -> usize {
    (owners / 32).clamp(64, 1024)
}

/// Owners that a change can touch, in canonical order.
pub(crate) struct Change {
    /// Of main records.
    pub(crate) owners: Vec<Vec<u8>>,
    /// Of NSEC3 records.
    pub(crate) hashed: Vec<Vec<u8>>,
}

/// The items of one owner in the delta, as fingerprints.
#[derive(Default)]
struct Items {
    removed: Vec<u128>,
    added: Vec<u128>,
}

impl Change {
    fn collect(
        ctx: &Context<'_>,
        source: &dyn Source,
        before: &Predecessor<'_>,
        total: &mut Work,
    ) -> Change {
        let mut change = Change {
            owners: vec![ctx.apex_name.clone()],
            hashed: Vec::new(),
        };
        let mut prints = Fingerprinter::new(ctx.params.fingerprint_seed);
        // One entry per stretch of equal owners, main and NSEC3 apart.
        let mut items: Vec<(Vec<u8>, bool, Items)> = Vec::new();
        let mut content = 0u128;
        let Work { tally, sink, .. } = total;
        before.delta.for_each(&mut |removed, rr| {
            if !wire::is_name(rr.owner) || !wire::at_or_below(rr.owner, &ctx.apex_name) {
                sink.push(|| {
                    Finding::at(Check::V01, rr.owner, rr.rtype, "owner is not in the zone")
                });
                return;
            }
            let hashed = rr.rtype == t::NSEC3 || content::covers(&rr) == Some(t::NSEC3);
            if !removed {
                signer_spelling(rr.owner, rr.rtype, rr.rdata, sink);
            }
            let mut one = Tally::default();
            prints.count(&rr, same_name(rr.owner, &ctx.apex_name), &mut one);
            let (fp, sign) = (one.full, if removed { -1 } else { 1 });
            content = if removed {
                content.wrapping_sub(one.content)
            } else {
                content.wrapping_add(one.content)
            };
            tally.add(&one, sign);
            if items
                .last()
                .is_none_or(|(o, h, _)| *h != hashed || !same_name(o, rr.owner))
            {
                items.push((rr.owner.to_ascii_lowercase(), hashed, Items::default()));
            }
            if let Some((_, _, list)) = items.last_mut() {
                if removed {
                    &mut list.removed
                } else {
                    &mut list.added
                }
                .push(fp);
            }
        });
        items.sort_by(|a, b| cmp_names(&a.0, &b.0).then(a.1.cmp(&b.1)));
        items.dedup_by(|b, a| {
            let same = a.0 == b.0 && a.1 == b.1;
            if same {
                a.2.removed.append(&mut b.2.removed);
                a.2.added.append(&mut b.2.added);
            }
            same
        });
        // Owners do not depend on each other.
        let looked_at: Vec<(Sink, Vec<Vec<u8>>)> = items
            .par_iter_mut()
            .with_min_len(64)
            .map_init(
                || Fingerprinter::new(ctx.params.fingerprint_seed),
                |prints, (owner, hashed, list)| {
                    let (mut told, mut below) = (Sink::default(), Vec::new());
                    let (old, list) = (before.version, std::mem::take(list));
                    confirm(source, old, owner, *hashed, list, prints, &mut told);
                    if !*hashed {
                        push_subtree(ctx, source, old, owner, &mut below);
                    }
                    (told, below)
                },
            )
            .collect();
        for ((owner, hashed, _), (told, mut below)) in items.into_iter().zip(looked_at) {
            sink.merge(told);
            if hashed {
                change.hashed.push(owner);
            } else {
                change.owners.append(&mut below);
                change.owners.push(owner);
            }
        }
        change.add_unsigned(ctx, source, before, content, sink);
        change.owners.sort_by(|a, b| cmp_names(a, b));
        change.owners.dedup();
        change
    }

    /// V19: what the delta says of content is the difference of the unsigned versions.
    fn add_unsigned(
        &mut self,
        ctx: &Context<'_>,
        source: &dyn Source,
        before: &Predecessor<'_>,
        content: u128,
        sink: &mut Sink,
    ) {
        let Some(delta) = before.unsigned_delta else {
            return;
        };
        let mut prints = Fingerprinter::new(ctx.params.fingerprint_seed);
        let (mut sum, mut owners) = (0u128, Vec::new());
        delta.for_each(&mut |removed, rr| {
            let mut one = Tally::default();
            prints.count(&rr, same_name(rr.owner, &ctx.apex_name), &mut one);
            sum = if removed {
                sum.wrapping_sub(one.content)
            } else {
                sum.wrapping_add(one.content)
            };
            if wire::is_name(rr.owner) && wire::at_or_below(rr.owner, &ctx.apex_name) {
                owners.push(rr.owner.to_ascii_lowercase());
            }
        });
        owners.dedup();
        for owner in &owners {
            push_subtree(ctx, source, before.version, owner, &mut self.owners);
        }
        self.owners.append(&mut owners);
        if sum != content {
            sink.push(|| {
                Finding::zone(
                    Check::V19,
                    "the delta's content is not the difference of the unsigned versions",
                )
            });
        }
    }
}

/// V21 at one owner: the items are exactly what differs between the two versions there.
fn confirm(
    source: &dyn Source,
    old: &dyn Source,
    owner: &[u8],
    hashed: bool,
    mut items: Items,
    prints: &mut Fingerprinter,
    sink: &mut Sink,
) {
    let mut all = |version: &dyn Source| {
        let mut found: Vec<u128> = Vec::new();
        let mut f = |rr: Rr<'_>| found.push(prints.of(&rr));
        if hashed {
            version.hashed_at(owner, &mut f)
        } else {
            version.at(owner, &mut f)
        }
        found.sort_unstable();
        found
    };
    let (was, is) = (all(old), all(source));
    let without = |a: &[u128], b: &[u128]| -> Vec<u128> {
        let mut rest = b.iter().peekable();
        let mut out = Vec::new();
        for x in a {
            while rest.next_if(|y| *y < x).is_some() {}
            if rest.next_if(|y| *y == x).is_none() {
                out.push(*x);
            }
        }
        out
    };
    items.removed.sort_unstable();
    items.added.sort_unstable();
    // An owner in another spelling is the same owner; a delta may list it on both sides.
    items = Items {
        removed: without(&items.removed, &items.added),
        added: without(&items.added, &items.removed),
    };
    if items.removed != without(&was, &is) {
        sink.push(|| {
            Finding::at(
                Check::V21,
                owner,
                0,
                "the delta does not remove what is gone, or removes what is not",
            )
        });
    }
    if items.added != without(&is, &was) {
        sink.push(|| {
            Finding::at(
                Check::V21,
                owner,
                0,
                "the delta does not add what is new, or adds what was there",
            )
        });
    }
}

/// Owners below `owner`, when a cut or DNAME appeared or vanished there: their occlusion changed,
/// whatever the delta says.
fn push_subtree(
    ctx: &Context<'_>,
    source: &dyn Source,
    old: &dyn Source,
    owner: &[u8],
    out: &mut Vec<Vec<u8>>,
) {
    if hides(ctx, old, owner) == hides(ctx, source, owner) {
        return;
    }
    for version in [old, source] {
        let mut at = owner.to_vec();
        let mut next = Vec::new();
        while version.next_owner(&at, &mut next) && wire::below(&next, owner) {
            out.push(next.to_ascii_lowercase());
            std::mem::swap(&mut at, &mut next);
        }
    }
}

fn hides(ctx: &Context<'_>, version: &dyn Source, owner: &[u8]) -> bool {
    let mut hides = false;
    version.types_at(owner, &mut |rtype| {
        hides |= rtype == t::DNAME || (rtype == t::NS && owner != ctx.apex_name)
    });
    hides
}

/// What became of an affected owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// `None`: no owner.
    pub(crate) old: Option<Place>,
    pub(crate) new: Option<Place>,
    /// An insecure zone cut.
    pub(crate) new_insecure: bool,
}

impl Status {
    pub(crate) fn bears(place: Option<Place>) -> bool {
        place.is_some_and(|p| p != Place::Occluded)
    }
}

struct Part {
    new: Work,
    old: Tally,
    statuses: Vec<Status>,
}

/// Reads the main records of `owner` into `group`, sorted.
pub(crate) fn load(
    ctx: &Context<'_>,
    version: &dyn Source,
    owner: &[u8],
    group: &mut Group,
    sink: &mut Sink,
) {
    group.start(owner);
    version.at(owner, &mut |rr| group.push(&rr, &ctx.apex_name, sink));
    group.sort();
}

pub(crate) fn load_hashed(
    ctx: &Context<'_>,
    version: &dyn Source,
    owner: &[u8],
    group: &mut Group,
    sink: &mut Sink,
) {
    group.start(owner);
    version.hashed_at(owner, &mut |rr| group.push(&rr, &ctx.apex_name, sink));
    group.sort();
}

/// True if the RRset and this RRSIG over it are in `old`, octet for octet.
pub(crate) fn carried(
    old: &Group,
    group: &Group,
    set: &[crate::group::Rec],
    sig: &crate::group::Rec,
) -> bool {
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

fn check_owners(
    ctx: &Context<'_>,
    source: &dyn Source,
    old: &dyn Source,
    names: &[Vec<u8>],
) -> Part {
    let mut part = Part {
        new: Work::default(),
        old: Tally::default(),
        statuses: Vec::with_capacity(names.len()),
    };
    // The predecessor has been judged; only its share of the ledger is wanted.
    let mut past = Work::default();
    let (mut was, mut is) = (Group::default(), Group::default());
    for name in names {
        load(ctx, old, name, &mut was, &mut past.sink);
        let old_place = place_of(ctx, &was, ctx.covered_by(old, name).is_some());
        check_owner(
            ctx,
            &was,
            old_place,
            &mut |_, _, _| Trust::Carried,
            &mut past,
        );
        let old_bears = old_place != Place::Occluded && !only_made(&was);
        count_bearing(ctx, &was, old_place, old_bears, &mut past.tally);
        past.tally.counts.denial_records += (old_bears && was.has(t::NSEC)) as i64;

        load(ctx, source, name, &mut is, &mut part.new.sink);
        let place = place_of(ctx, &is, ctx.covered_by(source, name).is_some());
        let mut trust = |group: &Group, set: &[crate::group::Rec], sig: &crate::group::Rec| {
            if must_be_signed(old_place, set[0].rtype) && carried(&was, group, set, sig) {
                Trust::Carried
            } else {
                Trust::Batched
            }
        };
        check_owner(ctx, &is, place, &mut trust, &mut part.new);
        let bears = place != Place::Occluded && !only_made(&is);
        count_bearing(ctx, &is, place, bears, &mut part.new.tally);
        if bears && ctx.denial == Denial::Nsec {
            check_nsec(ctx, &is, place, &mut part.new);
        }
        let there = |g: &Group, place: Place| (!only_made(g)).then_some(place);
        part.statuses.push(Status {
            old: there(&was, old_place),
            new: there(&is, place),
            new_insecure: place == Place::Cut && !is.has(t::DS),
        });
        past.sink = Sink::default();
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

/// V06 and V07 for what was not looked at: every row of the cover table still satisfies the DNSKEY
/// RRset of the candidate.
fn check_cover(ctx: &Context<'_>, tally: &Tally, sink: &mut Sink) {
    for &(mask, n) in tally.cover.iter().filter(|(_, n)| *n != 0) {
        if n < 0 {
            sink.push(|| {
                Finding::zone(
                    Check::V22,
                    "fewer RRsets are signed than the ledger can account for",
                )
            });
        }
        for &(algorithm, keys) in &ctx.keys.required {
            if mask & keys == 0 {
                let what = format!(
                    "{n} RRsets have no valid RRSIG of algorithm {algorithm}, which the DNSKEY RRset announces"
                );
                sink.push(|| Finding::zone(Check::V06, what));
            }
        }
        for (i, key) in ctx.keys.list.iter().enumerate() {
            if mask >> i & 1 == 1 && !key.may_sign {
                let what = format!(
                    "{n} RRsets are signed by key {}, which has left the DNSKEY RRset",
                    key.tag
                );
                sink.push(|| Finding::zone(Check::V07, what));
            }
        }
    }
    let signers = tally
        .cover
        .iter()
        .filter(|(_, n)| *n > 0)
        .fold(0, |m, (mask, _)| m | mask);
    apex::check_proofs(ctx, signers, sink);
}

/// V19, V21 and V22 by sums.
fn check_sums(ctx: &Context<'_>, source: &dyn Source, tally: &Tally, sink: &mut Sink) {
    let claims = source
        .claims()
        .unwrap_or_else(|| content::claims_of(ctx, source));
    if claims.full != tally.full {
        sink.push(|| {
            Finding::zone(
                Check::V21,
                "predecessor and delta do not give the candidate",
            )
            .expected(
                format!("{:032x}", tally.full),
                format!("{:032x}", claims.full),
            )
        });
    }
    if claims.records as i64 != tally.counts.records {
        let (want, got) = (tally.counts.records, claims.records);
        sink.push(|| {
            Finding::zone(
                Check::V22,
                "the record count does not follow from the delta",
            )
            .expected(want, got)
        });
    }
    if claims.content != tally.content {
        sink.push(|| {
            Finding::zone(
                Check::V22,
                "the store's content fingerprint does not follow from the delta",
            )
        });
    }
    content::check_changed(ctx, source, tally, sink);
}
