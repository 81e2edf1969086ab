//! Changed mode: a candidate judged by its difference from a verified predecessor.
//!
//! If the predecessor satisfies the checks and the difference is what it says (V21), only owners
//! that changed, owners whose occlusion changed, and the denial records around them can be wrong.

use std::cmp::Ordering;
use std::sync::Arc;

use cascade_time::Timestamp;

use crate::affected;
use crate::apex;
use crate::content;
use crate::context::{Apex, Context};
use crate::delta::{self, Delta, Item};
use crate::denial_changed;
use crate::engine::TableEngine;
use crate::finding::{Check, Finding, Mode, Sink};
use crate::full;
use crate::ledger::{Ledger, Tally, dnskey_digest};
use crate::outcome::{Judged, conclude};
use crate::owner::Work;
use crate::params::Params;
use crate::source::Source;
use crate::wire::cmp_names;
use crate::zonemd;

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
    // Each begins with a part that one thread does.
    let (listed, unsigned) = rayon::join(
        || delta::list(&ctx, before.delta),
        || {
            let unsigned = before.unsigned_delta;
            unsigned.map(|unsigned| delta::list_unsigned(&ctx, unsigned))
        },
    );
    total.tally.add(&listed.tally, 1);
    total.sink.merge(listed.sink);
    let mut named = vec![ctx.apex_name.clone()];
    if let Some((content, owners)) = unsigned {
        named.extend(owners);
        if content != listed.content {
            total.sink.push(|| {
                let what = "the delta's content is not the difference of the unsigned versions";
                Finding::zone(Check::V19, what)
            });
        }
    }
    let items = with_owners(listed.main, named);
    let affected = affected::check(&ctx, source, before.version, items, &mut total);
    let hashed = listed.hashed;
    denial_changed::check(&ctx, source, before.version, &affected, hashed, &mut total);
    apex::check_chain(&ctx, total.key_set_signers, &mut total.sink);

    let mut tally = old;
    tally.add(&total.tally, 1);
    check_cover(&ctx, &tally, &mut total.sink);
    check_sums(&ctx, source, &tally, &mut total.sink);
    zonemd::check(&ctx, source, &mut total.sink);
    let samples = crate::answers::SAMPLES_OF_CHANGE;
    crate::answers::check(&ctx, source, &affected.owners, samples, &mut total.sink);
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
        affected.owners.len() as u64,
    )
}

/// Owners per task: hundreds share a batch of signatures where there are many, and the number depends
/// on nothing but theirs.
pub(crate) fn share(owners: usize) -> usize {
    (owners / 32).clamp(64, 1024)
}

/// The items of the delta, and those of other owners, of which it says nothing.
fn with_owners(mut items: Vec<Item>, mut owners: Vec<Vec<u8>>) -> Vec<Item> {
    // Both are in canonical order, but for what a delta did not give in order.
    let mut at = 0;
    owners.retain(|x| {
        let known = |i: &Item| cmp_names(&i.owner, x);
        while items.get(at).is_some_and(|i| known(i).is_lt()) {
            at += 1;
        }
        match items.get(at).map(known) {
            Some(Ordering::Equal) => false,
            _ => items.binary_search_by(known).is_err(),
        }
    });
    if owners.is_empty() {
        return items;
    }
    items.extend(owners.into_iter().map(|owner| Item {
        owner,
        prints: Vec::new(),
    }));
    items.sort_by(|a, b| cmp_names(&a.owner, &b.owner));
    items.dedup_by(|b, a| a.owner == b.owner);
    items
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
