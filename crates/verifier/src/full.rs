//! Full mode: every record of the zone, in parallel over units, in one pass.

use std::ops::Range;
use std::sync::Arc;

use cascade_time::Timestamp;
use rayon::prelude::*;

use crate::apex;
use crate::content;
use crate::context::{Context, Denial, MAX_ITERATIONS, for_each_group};
use crate::denial::{self, Kind, Merger, Missing, Need, Run};
use crate::engine::TableEngine;
use crate::finding::{Check, Finding, Mode, Sink};
use crate::group::{Fingerprinter, Group, Place};
use crate::ledger::Ledger;
use crate::outcome::{Judged, conclude};
use crate::owner::{Work, check_nsec, check_owner, only_made, place_of};
use crate::params::Params;
use crate::rdata::t;
use crate::rrsig::{Batch, Trust, signer_spelling};
use crate::source::Source;
use crate::wire::{self, cmp_names, same_name};
use crate::zonemd;

/// Checks everything; the result does not depend on the number of threads.
pub(crate) fn run(
    source: &dyn Source,
    params: &Params<'_>,
    engine: Option<Arc<TableEngine>>,
    now: Timestamp,
) -> Judged {
    let mut ctx = Context::new(source, params, &[], engine, now);
    if let Some(live) = params.live_earliest {
        // Refreshing may be late (V24): then no signature may end before those that are live.
        let live = now.secs_until(live).clamp(1, u32::MAX as i64) as u32;
        ctx.min_remaining = ctx.min_remaining.min(live);
    }
    let mut total = Work::default();
    apex::check_before(&ctx, &mut total.sink);

    let units: Vec<Vec<UnitOut>> = stretches(source.unit_count())
        .map(|units| check_units(&ctx, source, units))
        .collect();
    let joined = join_units(&ctx, units, &mut total);
    if let Denial::Nsec3(h) = &ctx.denial
        && h.iterations <= MAX_ITERATIONS
    {
        check_chain(&ctx, source, joined.needs, &mut total);
    }
    apex::check_chain(&ctx, total.key_set_signers, &mut total.sink);
    let signers = total.tally.cover.iter().fold(0, |m, (mask, _)| m | mask);
    apex::check_proofs(&ctx, signers, &mut total.sink);
    content::check_full(&ctx, source, &total.tally, &mut total.sink);
    zonemd::check(&ctx, source, &mut total.sink);
    content::check_claims(source, &total.tally, &mut total.sink);
    let samples = crate::answers::SAMPLES;
    crate::answers::check(&ctx, source, &[], samples, &mut total.sink);

    let ledger = Ledger::new(
        &total.tally,
        &ctx.keys,
        &ctx.apex.dnskey,
        ctx.apex.serial(),
        ctx.denial_state(),
    );
    conclude(&ctx, Mode::Full, ledger, total, 0)
}

/// `count` units or blocks in stretches, one task each: long enough for batches of thousands of
/// signatures, and enough of them for many cores. They depend on the zone only, and so does the
/// order of what is found.
fn stretches(count: usize) -> impl IndexedParallelIterator<Item = Range<usize>> {
    let len = (count / 64).clamp(1, 32);
    (0..count.div_ceil(len))
        .into_par_iter()
        .with_max_len(1)
        .map(move |i| i * len..(i * len + len).min(count))
}

/// A bearing owner at the border of a unit.
struct Edge {
    first: Vec<u8>,
    last: Vec<u8>,
}

/// What one unit leaves for the joiner.
struct UnitOut {
    work: Work,
    needs: Vec<Need>,
    /// First and last owner of the unit, occluded or not.
    span: Option<Edge>,
    /// First and last owner that is not occluded.
    open: Option<Edge>,
    /// First and last owner that needs a denial record.
    bearing: Option<Edge>,
    /// Next name of the last NSEC; empty when it has none.
    next: Vec<u8>,
}

fn stretch(edge: &mut Option<Edge>, name: &[u8]) {
    match edge {
        Some(e) => {
            e.last.clear();
            e.last.extend_from_slice(name);
        }
        None => {
            *edge = Some(Edge {
                first: name.to_vec(),
                last: name.to_vec(),
            })
        }
    }
}

/// What one task needs for all its units or blocks.
struct Scratch {
    group: Group,
    prints: Fingerprinter,
    /// Signatures wait for those of the next unit: large batches are cheaper.
    batch: Batch,
}

impl Scratch {
    fn new(ctx: &Context<'_>) -> Scratch {
        Scratch {
            group: Group::default(),
            prints: Fingerprinter::new(ctx.params.fingerprint_seed),
            batch: Batch::default(),
        }
    }
}

fn check_units(ctx: &Context<'_>, source: &dyn Source, units: Range<usize>) -> Vec<UnitOut> {
    let mut scratch = Scratch::new(ctx);
    let mut outs: Vec<UnitOut> = units
        .map(|i| check_unit(ctx, source, i, &mut scratch))
        .collect();
    if let Some(last) = outs.last_mut() {
        scratch.batch.finish(&ctx.keys, &mut last.work.sink);
        last.work.batch = scratch.batch;
    }
    outs
}

fn check_unit(
    ctx: &Context<'_>,
    source: &dyn Source,
    index: usize,
    scratch: &mut Scratch,
) -> UnitOut {
    let mut out = UnitOut {
        work: Work::default(),
        needs: Vec::new(),
        span: None,
        open: None,
        bearing: None,
        next: Vec::new(),
    };
    let Scratch {
        group,
        prints,
        batch,
    } = scratch;
    std::mem::swap(&mut out.work.batch, batch);
    let mut sums = Work::default();
    let mut sink = Sink::default();
    // The topmost cut or DNAME that hides what comes next.
    let mut cover: Vec<u8> = Vec::new();
    for_each_group(
        ctx,
        group,
        &mut sink,
        |f| source.unit(index, f),
        |rr| {
            prints.count(rr, same_name(rr.owner, &ctx.apex_name), &mut sums.tally);
            signer_spelling(rr.owner, rr.rtype, rr.rdata, &mut sums.sink);
        },
        |group, sink| {
            if out.span.is_none() {
                cover = ctx.covered_by(source, &group.name).unwrap_or_default();
            } else if !cover.is_empty() && !wire::below(&group.name, &cover) {
                cover.clear();
            }
            visit(ctx, group, !cover.is_empty(), &mut out, sink);
            if cover.is_empty() && (group.has(t::DNAME) || group.is_cut(&ctx.apex_name)) {
                cover.extend_from_slice(&group.name);
            }
        },
    );
    std::mem::swap(&mut out.work.batch, batch);
    sink.merge(std::mem::take(&mut out.work.sink));
    sink.merge(sums.sink);
    out.work.sink = sink;
    out.work.tally.add(&sums.tally, 1);
    out
}

fn visit(ctx: &Context<'_>, group: &Group, covered: bool, out: &mut UnitOut, sink: &mut Sink) {
    let place = place_of(ctx, group, covered);
    if out
        .span
        .as_ref()
        .is_some_and(|s| cmp_names(&s.last, &group.name).is_ge())
    {
        sink.push(|| {
            Finding::at(
                Check::V01,
                &group.name,
                0,
                "owners are not in canonical order",
            )
        });
    }
    stretch(&mut out.span, &group.name);
    check_owner(
        ctx,
        group,
        place,
        &mut |_, _, _| Trust::Batched,
        &mut out.work,
    );
    if place == Place::Occluded || only_made(group) {
        return;
    }
    count_ents(
        ctx,
        out.open.as_ref().map(|e| e.last.as_slice()),
        &group.name,
        &mut out.work,
    );
    match &ctx.denial {
        Denial::Nsec => {
            if let Some(last) = &out.bearing {
                check_next(&last.last, &out.next, &group.name, sink);
            }
            stretch(&mut out.bearing, &group.name);
            out.work.tally.counts.bearing += 1;
            out.next.clear();
            out.next
                .extend_from_slice(check_nsec(ctx, group, place, &mut out.work).unwrap_or(&[]));
        }
        Denial::Nsec3(h) if h.iterations <= MAX_ITERATIONS => {
            let insecure = place == Place::Cut && !group.has(t::DS);
            let kind = kind_of(ctx, insecure);
            group.bitmap_types(place, false, &mut out.work.types);
            out.needs.push(Need::new(
                denial::hash_name(&group.name, h),
                &out.work.types,
                kind,
            ));
            // Opt-out: an ENT is required only above names that are; a second look finds these.
            let above = if ctx.opt_out {
                Kind::Optional
            } else {
                Kind::Required
            };
            let before = out.open.as_ref().map(|e| e.last.as_slice());
            push_ents(ctx, before, &group.name, above, &mut out.needs);
            if kind != Kind::Optional {
                if ctx.opt_out {
                    let before = out.bearing.as_ref().map(|e| e.last.as_slice());
                    push_ents(ctx, before, &group.name, Kind::Required, &mut out.needs);
                }
                stretch(&mut out.bearing, &group.name);
                out.work.tally.counts.bearing += 1;
            }
        }
        Denial::Nsec3(_) => {}
    }
    stretch(&mut out.open, &group.name);
}

fn kind_of(ctx: &Context<'_>, insecure_cut: bool) -> Kind {
    match (insecure_cut, ctx.opt_out) {
        (true, true) => Kind::Optional,
        (true, false) => Kind::RequiredCut,
        (false, _) => Kind::Required,
    }
}

/// V12: the NSEC at `owner` names `name`.
pub(crate) fn check_next(owner: &[u8], next: &[u8], name: &[u8], sink: &mut Sink) {
    // Its absence has been told already.
    if !next.is_empty() && !same_name(next, name) {
        sink.push(|| {
            Finding::at(
                Check::V12,
                owner,
                t::NSEC,
                "next name is not the next owner",
            )
            .expected(wire::show(name), wire::show(next))
        });
    }
}

/// Label counts of the empty non-terminals between two owners that follow each other: ancestors of
/// `name` that are neither ancestors of `before` nor `before` itself. An owner above `name` would
/// come right before its descendants, so none of them is an owner.
fn ents(ctx: &Context<'_>, before: Option<&[u8]>, name: &[u8]) -> std::ops::Range<usize> {
    let shared = before
        .map_or(ctx.apex_labels, |b| wire::common_labels(b, name))
        .max(ctx.apex_labels);
    shared + 1..wire::label_count(name).max(shared + 1)
}

fn count_ents(ctx: &Context<'_>, before: Option<&[u8]>, name: &[u8], work: &mut Work) {
    // The first owner of a unit is settled by the joiner.
    if before.is_some() {
        work.tally.counts.ents += ents(ctx, before, name).len() as i64;
    }
}

fn push_ents(
    ctx: &Context<'_>,
    before: Option<&[u8]>,
    name: &[u8],
    kind: Kind,
    needs: &mut Vec<Need>,
) {
    let (Denial::Nsec3(h), true) = (&ctx.denial, before.is_some()) else {
        return;
    };
    for labels in ents(ctx, before, name) {
        needs.push(Need::new(
            denial::hash_name(wire::suffix(name, labels), h),
            &[],
            kind,
        ));
    }
}

struct Joined {
    needs: Vec<Need>,
}

/// Adds up the units in order and checks what lies between them.
fn join_units(ctx: &Context<'_>, units: Vec<Vec<UnitOut>>, total: &mut Work) -> Joined {
    let mut joined = Joined {
        needs: Vec::with_capacity(units.iter().flatten().map(|u| u.needs.len()).sum()),
    };
    let (mut span, mut open, mut bearing): (Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>) =
        (None, None, None);
    let mut next: Vec<u8> = Vec::new();
    for unit in units.into_iter().flatten() {
        add_work(total, unit.work);
        joined.needs.extend_from_slice(&unit.needs);
        if let (Some(last), Some(s)) = (&span, &unit.span)
            && cmp_names(last, &s.first).is_ge()
        {
            total
                .sink
                .push(|| Finding::at(Check::V01, &s.first, 0, "owners are not in canonical order"));
        }
        if let Some(edge) = &unit.open {
            let before = open.as_deref().unwrap_or(&ctx.apex_name);
            total.tally.counts.ents += ents(ctx, Some(before), &edge.first).len() as i64;
            if ctx.denial != Denial::Nsec {
                let kind = if ctx.opt_out {
                    Kind::Optional
                } else {
                    Kind::Required
                };
                push_ents(ctx, Some(before), &edge.first, kind, &mut joined.needs);
            }
            open = Some(edge.last.clone());
        }
        if let Some(edge) = unit.bearing {
            match (&ctx.denial, &bearing) {
                (Denial::Nsec, Some(last)) => check_next(last, &next, &edge.first, &mut total.sink),
                (Denial::Nsec3(_), last) if ctx.opt_out => {
                    let before = last.as_deref().unwrap_or(&ctx.apex_name);
                    push_ents(
                        ctx,
                        Some(before),
                        &edge.first,
                        Kind::Required,
                        &mut joined.needs,
                    );
                }
                _ => {}
            }
            bearing = Some(edge.last);
            next = unit.next;
        }
        span = unit.span.map(|s| s.last).or(span);
    }
    if let Some(last) = bearing.filter(|_| ctx.denial == Denial::Nsec) {
        check_next(&last, &next, &ctx.apex_name, &mut total.sink);
    }
    joined
}

pub(crate) fn add_work(total: &mut Work, work: Work) {
    total.sink.merge(work.sink);
    total.tally.add(&work.tally, 1);
    total.carried += work.carried;
    for (sum, n) in total.batch.checked.iter_mut().zip(work.batch.checked) {
        *sum += n;
    }
    total.batch.engine.add(&work.batch.engine);
    for (sum, mask) in total.key_set_signers.iter_mut().zip(work.key_set_signers) {
        *sum |= mask;
    }
}

/// NSEC3: the chain, block by block, against the hashes that the zone needs.
fn check_chain(ctx: &Context<'_>, source: &dyn Source, mut needs: Vec<Need>, total: &mut Work) {
    denial::settle(&mut needs, &mut total.sink);
    let blocks: Vec<Vec<BlockOut>> = stretches(source.block_count())
        .map(|blocks| check_blocks(ctx, source, blocks, &needs))
        .collect();
    let mut runs = Vec::with_capacity(blocks.len());
    let mut missing = Missing::new();
    for (work, run, absent) in blocks.into_iter().flatten() {
        add_work(total, work);
        runs.extend(run);
        missing.extend(absent);
    }
    denial::join(&runs, &needs, &mut missing, &mut total.sink);
    report_missing(ctx, source, missing, &mut total.sink);
}

type BlockOut = (Work, Option<Run>, Missing);

fn check_blocks(
    ctx: &Context<'_>,
    source: &dyn Source,
    blocks: Range<usize>,
    needs: &[Need],
) -> Vec<BlockOut> {
    let mut scratch = Scratch::new(ctx);
    let mut outs: Vec<BlockOut> = blocks
        .map(|i| check_block(ctx, source, i, needs, &mut scratch))
        .collect();
    if let Some((last, ..)) = outs.last_mut() {
        scratch.batch.finish(&ctx.keys, &mut last.sink);
        last.batch = scratch.batch;
    }
    outs
}

fn check_block(
    ctx: &Context<'_>,
    source: &dyn Source,
    index: usize,
    needs: &[Need],
    scratch: &mut Scratch,
) -> BlockOut {
    let Scratch {
        group,
        prints,
        batch,
    } = scratch;
    let mut work = Work::default();
    std::mem::swap(&mut work.batch, batch);
    let mut sums = Work::default();
    let mut merger = Merger::new(needs);
    let mut sink = Sink::default();
    for_each_group(
        ctx,
        group,
        &mut sink,
        |f| source.block(index, f),
        |rr| {
            prints.count(rr, false, &mut sums.tally);
            signer_spelling(rr.owner, rr.rtype, rr.rdata, &mut sums.sink);
        },
        |group, sink| {
            if let Some(link) =
                denial::check_hashed(ctx, group, &mut |_, _, _| Trust::Batched, &mut work)
            {
                merger.link(link, &work.found_types, &group.name, sink);
            }
        },
    );
    std::mem::swap(&mut work.batch, batch);
    work.sink.merge(sink);
    work.sink.merge(sums.sink);
    work.tally.add(&sums.tally, 1);
    let (run, missing) = merger.run();
    (work, run, missing)
}

/// Names the owners of missing hashes by a second walk, which only a refused zone needs.
fn report_missing(ctx: &Context<'_>, source: &dyn Source, missing: Missing, sink: &mut Sink) {
    if missing.is_empty() {
        return;
    }
    let wanted: std::collections::HashSet<denial::Hash> = missing
        .iter()
        .take(crate::finding::FINDINGS_KEPT)
        .map(|m| m.1)
        .collect();
    let names = names_of(ctx, source, &wanted);
    for (check, hash, found) in missing {
        sink.push(|| {
            let name = names.get(&hash).cloned().unwrap_or_default();
            let what = match check {
                Check::V15 => "type bitmap does not fit the owner",
                Check::V16 => "insecure delegation has no NSEC3 and no opt-out record covers it",
                _ => "no NSEC3 for this name",
            };
            let mut finding = Finding::at(
                check,
                &name,
                t::NSEC3,
                format!("{what} (hash {})", denial::show(&hash)),
            );
            if check == Check::V15 {
                finding.found = Some(found);
            }
            finding
        });
    }
}

fn names_of(
    ctx: &Context<'_>,
    source: &dyn Source,
    wanted: &std::collections::HashSet<denial::Hash>,
) -> std::collections::HashMap<denial::Hash, Vec<u8>> {
    let Denial::Nsec3(h) = &ctx.denial else {
        return Default::default();
    };
    let parts: Vec<Vec<(denial::Hash, Vec<u8>)>> = (0..source.unit_count())
        .into_par_iter()
        .map(|i| {
            let mut found = Vec::new();
            let mut last: Vec<u8> = Vec::new();
            source.unit(i, &mut |rr| {
                if rr.owner == last.as_slice() || !wire::at_or_below(rr.owner, &ctx.apex_name) {
                    return;
                }
                last.clear();
                last.extend_from_slice(rr.owner);
                let lower = rr.owner.to_ascii_lowercase();
                for labels in ctx.apex_labels..=wire::label_count(&lower) {
                    let name = wire::suffix(&lower, labels);
                    let hash = denial::hash_name(name, h);
                    if wanted.contains(&hash) {
                        found.push((hash, name.to_vec()));
                    }
                }
            });
            found
        })
        .collect();
    parts.into_iter().flatten().collect()
}
