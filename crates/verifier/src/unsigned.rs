//! A zone that was ordered to be without DNSSEC: nothing of it is left, and no DS leads here.

use cascade_time::Timestamp;
use rayon::prelude::*;

use crate::apex;
use crate::content;
use crate::context::{Context, for_each_group};
use crate::finding::{Check, Finding, Mode, Sink, is_denial_or_signature};
use crate::full::add_work;
use crate::group::{Fingerprinter, Group};
use crate::ledger::Ledger;
use crate::outcome::{Judged, conclude};
use crate::owner::{Work, check_set};
use crate::params::Params;
use crate::rdata::t;
use crate::source::Source;
use crate::wire::same_name;

/// Checks everything that can be checked without keys.
pub(crate) fn run(source: &dyn Source, params: &Params<'_>, now: Timestamp) -> Judged {
    let ctx = Context::new(source, params, &[], None, now);
    let mut total = Work::default();
    apex::check_soa(&ctx, &mut total.sink);
    check_parent(&ctx, &mut total.sink);
    let units: Vec<Work> = (0..source.unit_count())
        .into_par_iter()
        .map(|i| check_unit(&ctx, source, i))
        .collect();
    units.into_iter().for_each(|w| add_work(&mut total, w));
    if source.block_count() > 0 {
        total
            .sink
            .push(|| Finding::zone(Check::V18, "NSEC3 records in a zone without DNSSEC"));
    }
    content::check_full(&ctx, source, &total.tally, &mut total.sink);
    content::check_claims(source, &total.tally, &mut total.sink);
    let ledger = Ledger::new(
        &total.tally,
        &ctx.keys,
        &[],
        ctx.apex.serial(),
        ctx.denial_state(),
    );
    conclude(&ctx, Mode::Full, ledger, total, 0)
}

/// RFC 4035 §5.2: where a DS is, unsigned answers are bogus.
fn check_parent(ctx: &Context<'_>, sink: &mut Sink) {
    let ds = ctx.params.parent.ds().map_or(0, <[_]>::len);
    if ds > 0 {
        sink.push(|| {
            let what = "the parent has a DS: without signatures every answer would be bogus";
            Finding::at(Check::V09, &ctx.apex_name, t::DNSKEY, what).expected("no DS", ds)
        });
    }
}

fn check_unit(ctx: &Context<'_>, source: &dyn Source, index: usize) -> Work {
    let mut work = Work::default();
    let mut sums = Work::default();
    let mut sink = Sink::default();
    let mut group = Group::default();
    let mut prints = Fingerprinter::new(ctx.params.fingerprint_seed);
    for_each_group(
        ctx,
        &mut group,
        &mut sink,
        |f| source.unit(index, f),
        |rr| prints.count(rr, same_name(rr.owner, &ctx.apex_name), &mut sums.tally),
        |group, sink| {
            let at_apex = group.name == ctx.apex_name;
            for set in group.sets() {
                let rtype = set[0].rtype;
                check_set(group, set, sink);
                work.tally.counts.rrsets += 1;
                let key_set = matches!(rtype, t::DNSKEY | t::CDS | t::CDNSKEY | t::NSEC3PARAM);
                if is_denial_or_signature(rtype) || at_apex && key_set {
                    sink.push(|| {
                        let what = "a record of DNSSEC in a zone that is to be without";
                        Finding::at(Check::V07, &group.name, rtype, what)
                    });
                }
            }
        },
    );
    work.sink.merge(sink);
    work.tally.add(&sums.tally, 1);
    work
}
