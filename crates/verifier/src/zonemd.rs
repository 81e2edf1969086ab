//! V20: ZONEMD (RFC 8976), scheme SIMPLE.

use sha2::{Digest, Sha384, Sha512};

use crate::content::covers;
use crate::context::Context;
use crate::finding::{Check, Finding, Sink};
use crate::group::{Group, Rec};
use crate::rdata::t;
use crate::source::Source;
use crate::wire::{self, cmp_names, same_name};

/// Checks every ZONEMD record whose scheme and hash are known (RFC 8976 §4).
pub(crate) fn check(ctx: &Context<'_>, source: &dyn Source, sink: &mut Sink) {
    let records = &ctx.apex.zonemd;
    let mut wrong =
        |what: String| sink.push(|| Finding::at(Check::V20, &ctx.apex_name, t::ZONEMD, what));
    if records.is_empty() && ctx.params.zonemd_required {
        wrong("the policy demands a ZONEMD RRset".into());
    }
    let known: Vec<&Vec<u8>> = records
        .iter()
        .filter(|r| r.get(4) == Some(&1) && matches!(r.get(5), Some(1 | 2)))
        .collect();
    if !records.is_empty() && known.is_empty() {
        wrong("no ZONEMD record has the scheme SIMPLE and a known hash".into());
    }
    for (i, record) in records.iter().enumerate() {
        if wire::u32_at(record, 0) != ctx.apex.serial() {
            wrong(format!(
                "ZONEMD is for serial {}, the SOA has {}",
                wire::u32_at(record, 0),
                ctx.apex.serial()
            ));
        }
        // RFC 8976 §2: one record per scheme and hash.
        if records[..i].iter().any(|o| o.get(4..6) == record.get(4..6)) {
            wrong("two ZONEMD records with the same scheme and hash".into());
        }
    }
    for record in known {
        let digest = if record[5] == 1 {
            digest::<Sha384>(ctx, source)
        } else {
            digest::<Sha512>(ctx, source)
        };
        if digest[..] != record[6..] {
            wrong("digest is wrong".into());
        }
    }
}

/// Owners of NSEC3 records with their records, one block at a time.
struct Hashed<'s> {
    source: &'s dyn Source,
    block: usize,
    groups: std::collections::VecDeque<Group>,
}

impl Hashed<'_> {
    fn peek(&mut self) -> Option<&Group> {
        while self.groups.is_empty() && self.block < self.source.block_count() {
            self.groups = collect(|f| self.source.block(self.block, f)).into();
            self.block += 1;
        }
        self.groups.front()
    }
}

fn collect(stream: impl FnOnce(&mut dyn FnMut(crate::source::Rr<'_>))) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    // What does not decode has been told by V01.
    let mut told = Sink::default();
    stream(&mut |rr| {
        if groups.last().is_none_or(|g| !same_name(&g.name, rr.owner)) {
            let mut group = Group::default();
            group.start(rr.owner);
            groups.push(group);
        }
        if let Some(group) = groups.last_mut() {
            group.push(&rr, rr.owner, &mut told);
        }
    });
    groups
}

/// RFC 8976 §3.3.1: all RRs in canonical order, duplicates once, without the ZONEMD RRset at the
/// apex and its RRSIGs.
fn digest<D: Digest>(ctx: &Context<'_>, source: &dyn Source) -> Vec<u8> {
    let mut hash = D::new();
    let mut buffer = Vec::new();
    let mut hashed = Hashed {
        source,
        block: 0,
        groups: Default::default(),
    };
    for i in 0..source.unit_count() {
        for mut group in collect(|f| source.unit(i, f)) {
            while hashed
                .peek()
                .is_some_and(|g| cmp_names(&g.name, &group.name).is_lt())
            {
                if let Some(mut g) = hashed.groups.pop_front() {
                    update(ctx, &mut g, &mut buffer, &mut hash);
                }
            }
            // A name of the zone may be a hash too.
            if hashed.peek().is_some_and(|g| g.name == group.name)
                && let Some(other) = hashed.groups.pop_front()
            {
                group.absorb(&other);
            }
            update(ctx, &mut group, &mut buffer, &mut hash);
        }
    }
    while hashed.peek().is_some() {
        if let Some(mut g) = hashed.groups.pop_front() {
            update(ctx, &mut g, &mut buffer, &mut hash);
        }
    }
    hash.finalize().to_vec()
}

fn update<D: Digest>(ctx: &Context<'_>, group: &mut Group, buffer: &mut Vec<u8>, hash: &mut D) {
    group.sort();
    buffer.clear();
    let mut last: Option<&Rec> = None;
    for rec in &group.recs {
        let rdata = group.rdata(rec);
        let rr = crate::source::Rr {
            owner: &group.name,
            rtype: rec.rtype,
            ttl: rec.ttl,
            rdata,
        };
        let zonemd = rec.rtype == t::ZONEMD || covers(&rr) == Some(t::ZONEMD);
        let again = last.is_some_and(|l| l.rtype == rec.rtype && group.rdata(l) == rdata);
        last = Some(rec);
        if again || (zonemd && group.name == ctx.apex_name) {
            continue;
        }
        buffer.extend_from_slice(&group.name);
        buffer.extend_from_slice(&rec.rtype.to_be_bytes());
        buffer.extend_from_slice(&[0, 1]);
        buffer.extend_from_slice(&rec.ttl.to_be_bytes());
        buffer.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        buffer.extend_from_slice(rdata);
    }
    hash.update(&buffer);
}
