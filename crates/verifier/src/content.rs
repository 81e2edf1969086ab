//! V19 and V22: the content is the approved one, the counts are the store's.

use std::collections::HashMap;

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use crate::context::Context;
use crate::finding::{Check, Finding, Sink};
use crate::group::{Fingerprinter, is_content};
use crate::ledger::Tally;
use crate::rdata::t;
use crate::source::{Claims, Rr, Source};
use crate::wire::{same_name, u16_at};

/// V19 over the whole zone. The content sum of the candidate is in `tally`.
pub(crate) fn check_full(ctx: &Context<'_>, source: &dyn Source, tally: &Tally, sink: &mut Sink) {
    let Some(approved) = ctx.params.approved else {
        return;
    };
    check_soa(ctx, approved, sink);
    if sum(ctx, approved) == tally.content {
        return;
    }
    let before = sink.total;
    for (owner, rtype) in differences(ctx, source, approved) {
        sink.push(|| {
            Finding::at(
                Check::V19,
                &owner,
                rtype,
                "RRset differs from the approved content",
            )
        });
    }
    if sink.total == before {
        sink.push(|| Finding::zone(Check::V19, "content differs from the approved content"));
    }
}

/// V19 in changed mode: content sums, the store's claim for the approved version being good enough
/// for what it made itself.
pub(crate) fn check_changed(
    ctx: &Context<'_>,
    source: &dyn Source,
    tally: &Tally,
    sink: &mut Sink,
) {
    let Some(approved) = ctx.params.approved else {
        return;
    };
    match approved.claims() {
        Some(claims) if claims.content == tally.content => check_soa(ctx, approved, sink),
        _ => check_full(ctx, source, tally, sink),
    }
}

/// What a store would claim, counted.
pub(crate) fn claims_of(ctx: &Context<'_>, version: &dyn Source) -> Claims {
    let count = |walk: &dyn Fn(&mut dyn FnMut(Rr<'_>))| {
        let mut tally = Tally::default();
        let mut prints = Fingerprinter::new(ctx.params.fingerprint_seed);
        walk(&mut |rr| prints.count(&rr, same_name(rr.owner, &ctx.apex_name), &mut tally));
        tally
    };
    let mut all = Tally::default();
    for i in 0..version.unit_count() {
        all.add(&count(&|f| version.unit(i, f)), 1);
    }
    for i in 0..version.block_count() {
        all.add(&count(&|f| version.block(i, f)), 1);
    }
    Claims {
        records: all.counts.records as u64,
        content: all.content,
        full: all.full,
    }
}

/// The SOA is the approved one but for its serial.
pub(crate) fn check_soa(ctx: &Context<'_>, approved: &dyn Source, sink: &mut Sink) {
    let mut same = false;
    let ours = ctx.apex.soa.first();
    approved.at(&ctx.apex_name, &mut |rr| {
        if rr.rtype == t::SOA
            && let Some(soa) = ours
        {
            same = without_serial(rr.rdata) == without_serial(soa) && rr.ttl == ctx.apex.soa_ttl;
        }
    });
    if !same {
        sink.push(|| {
            Finding::at(
                Check::V19,
                &ctx.apex_name,
                t::SOA,
                "SOA differs from the approved one in more than its serial",
            )
        });
    }
}

fn without_serial(soa: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = soa.len().checked_sub(20)?;
    Some((&soa[..at], &soa[at + 4..]))
}

/// Content sum of a version, computed here.
fn sum(ctx: &Context<'_>, version: &dyn Source) -> u128 {
    let unit = |i: usize| {
        let mut tally = Tally::default();
        let mut prints = Fingerprinter::new(ctx.params.fingerprint_seed);
        version.unit(i, &mut |rr| {
            prints.count(&rr, same_name(rr.owner, &ctx.apex_name), &mut tally)
        });
        tally.content
    };
    (0..version.unit_count())
        .into_par_iter()
        .map(unit)
        .reduce(|| 0, u128::wrapping_add)
}

/// Owners and types whose RRsets differ. Only a refused version pays for this.
fn differences(
    ctx: &Context<'_>,
    source: &dyn Source,
    approved: &dyn Source,
) -> Vec<(Vec<u8>, u16)> {
    let place = |rr: &Rr<'_>| {
        xxh3_64(&[&rr.owner.to_ascii_lowercase()[..], &rr.rtype.to_be_bytes()].concat())
    };
    let relevant = |rr: &Rr<'_>| is_content(rr.rtype, same_name(rr.owner, &ctx.apex_name));
    let mut prints = Fingerprinter::new(ctx.params.fingerprint_seed);
    let mut rest: HashMap<u64, u128> = HashMap::new();
    for (version, add) in [(approved, true), (source, false)] {
        for i in 0..version.unit_count() {
            version.unit(i, &mut |rr| {
                if relevant(&rr) {
                    let (sum, fp) = (rest.entry(place(&rr)).or_default(), prints.of(&rr));
                    *sum = if add {
                        sum.wrapping_add(fp)
                    } else {
                        sum.wrapping_sub(fp)
                    };
                }
            });
        }
    }
    rest.retain(|_, sum| *sum != 0);
    let mut found = Vec::new();
    for version in [approved, source] {
        for i in 0..version.unit_count() {
            version.unit(i, &mut |rr| {
                if relevant(&rr) && rest.remove(&place(&rr)).is_some() {
                    found.push((rr.owner.to_vec(), rr.rtype));
                }
            });
        }
    }
    found
}

/// V22: what the store claims is what was counted.
pub(crate) fn check_claims(source: &dyn Source, tally: &Tally, sink: &mut Sink) {
    let Some(claims) = source.claims() else {
        return;
    };
    let counted = tally.counts.records as u64;
    if claims.records != counted {
        sink.push(|| {
            Finding::zone(Check::V22, "the store's record count is wrong")
                .expected(counted, claims.records)
        });
    }
    let sums = [
        (claims.content, tally.content, "content"),
        (claims.full, tally.full, "full"),
    ];
    for (claimed, counted, what) in sums {
        if claimed != counted {
            sink.push(|| {
                Finding::zone(
                    Check::V22,
                    format!("the store's {what} fingerprint is wrong"),
                )
                .expected(format!("{counted:032x}"), format!("{claimed:032x}"))
            });
        }
    }
}

/// True if the record takes part in content checks as an RRSIG's covered type would not.
pub(crate) fn covers(rr: &Rr<'_>) -> Option<u16> {
    (rr.rtype == t::RRSIG).then(|| u16_at(rr.rdata, 0))
}
