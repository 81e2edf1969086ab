//! Changed mode: the denial chain around the affected owners (V12, V14, V15, V16), and the count of
//! empty non-terminals.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::affected::{
    Affected, Status, carried, confirm_prints as confirm, has_data, next_bearing, next_data,
};
use crate::changed::share;
use crate::context::{Context, Cover, Denial};
use crate::delta::Item;
use crate::denial::{Hash, check_hashed, hash_name, hash_of_owner, push_hashed_owner, show};
use crate::finding::{Check, Finding, Sink};
use crate::full::add_work;
use crate::group::{Fingerprinter, Group, Place, Rec};
use crate::owner::{Work, check_owner, only_made, place_of, type_list};
use crate::rdata::{self, t};
use crate::rrsig::Trust;
use crate::source::Source;
use crate::wire::{self, cmp_names, same_name};

/// `hashed`: what the delta says of NSEC3 records.
pub(crate) fn check(
    ctx: &Context<'_>,
    source: &dyn Source,
    old: &dyn Source,
    affected: &Affected,
    mut hashed: Vec<Item>,
    total: &mut Work,
) {
    let names = names(ctx, &affected.owners);
    let ents: i64 = names
        .par_iter()
        .with_min_len(64)
        .map(|name| {
            let status = affected.status(name);
            let there = (
                status.is_some_and(|s| s.old.is_some()),
                status.is_some_and(|s| s.new.is_some()),
            );
            let is = |there: bool, version| !there && is_ent(ctx, version, name.name);
            is(there.1, source) as i64 - is(there.0, old) as i64
        })
        .sum();
    total.tally.counts.ents += ents;
    match &ctx.denial {
        Denial::Nsec => {
            let mut prints = Fingerprinter::new(ctx.params.fingerprint_seed);
            for item in &mut hashed {
                let said = (item.owner.as_slice(), item.prints.as_mut_slice());
                let mut groups = [Group::default(), Group::default()];
                let versions = [old, source];
                read_hashed(
                    ctx,
                    versions,
                    said,
                    &mut groups,
                    &mut prints,
                    &mut total.sink,
                );
                // A chain vanished or appeared: not a difference this mode can judge.
                total.sink.push(|| {
                    Finding::at(
                        Check::V18,
                        &item.owner,
                        t::NSEC3,
                        "NSEC3 in a zone with NSEC",
                    )
                });
            }
        }
        Denial::Nsec3(h) => {
            let hashes = names.par_iter().with_min_len(64);
            let hashes: Vec<Hash> = hashes.map(|x| hash_name(x.name, h)).collect();
            let owners = names.iter().map(|x| x.name);
            let of_hash: HashMap<Hash, &[u8]> = hashes.iter().copied().zip(owners).collect();
            if of_hash.len() != names.len() {
                total
                    .sink
                    .push(|| Finding::zone(Check::V14, "two names have the same NSEC3 hash"));
            }
            check_needs(ctx, source, old, affected, (&names, &hashes), total);
            check_changed_links(ctx, source, old, &mut hashed, &of_hash, total);
        }
    }
}

/// A name that a change can touch.
struct Touched<'a> {
    name: &'a [u8],
    /// Its number among the affected owners.
    of: Option<usize>,
}

/// The affected owners and their ancestors below the apex, and the apex; in canonical order.
fn names<'a>(ctx: &Context<'_>, owners: &'a [Vec<u8>]) -> Vec<Touched<'a>> {
    let mut names: Vec<Touched<'a>> = Vec::with_capacity(owners.len());
    let mut before: Option<&[u8]> = None;
    for (i, owner) in owners.iter().enumerate() {
        // Names above both have been told with the owner before.
        let known = before.map_or(ctx.apex_labels, |b| wire::common_labels(b, owner) + 1);
        let labels = wire::label_count(owner);
        for n in known..=labels {
            names.push(Touched {
                name: wire::suffix(owner, n),
                of: (n == labels).then_some(i),
            });
        }
        before = Some(owner);
    }
    names
}

impl Affected {
    fn status(&self, name: &Touched<'_>) -> Option<&Status> {
        self.statuses.get(name.of?)
    }
}

/// An empty non-terminal above names that are not occluded (RFC 9499 §7).
fn is_ent(ctx: &Context<'_>, version: &dyn Source, name: &[u8]) -> bool {
    if name == ctx.apex_name || has_data(version, name) || ctx.covered_by(version, name).is_some() {
        return false;
    }
    let mut next = name.to_vec();
    // Nothing stands between an ENT and the first owner below it that could hide that owner.
    next_data(version, &mut next) && wire::below(&next, name)
}

/// What the chain must hold for a name.
enum Need {
    None,
    Required,
    RequiredCut,
    Optional,
}

/// V14, V15, V16: each name that a change can touch has its record, or none.
fn check_needs(
    ctx: &Context<'_>,
    source: &dyn Source,
    old: &dyn Source,
    affected: &Affected,
    (names, hashes): (&[Touched<'_>], &[Hash]),
    total: &mut Work,
) {
    // Affected owners that now need a record for sure.
    let required: Vec<&[u8]> = affected
        .owners
        .iter()
        .zip(&affected.statuses)
        .filter(|(_, s)| Status::bears(s.new) && !(ctx.opt_out && s.new_insecure))
        .map(|(o, _)| o.as_slice())
        .collect();
    let sinks: Vec<Sink> = names
        .par_chunks(64)
        .zip(hashes.par_chunks(64))
        .map(|(names, hashes)| {
            let mut sink = Sink::default();
            let mut buffers = Buffers::default();
            for (name, hash) in names.iter().zip(hashes) {
                let b = &mut buffers;
                b.types.clear();
                let of_owner = affected.status(name).and_then(|s| need_of_owner(ctx, s, b));
                let name = (name.name, hash);
                check_need(ctx, source, old, &required, name, of_owner, b, &mut sink);
            }
            sink
        })
        .collect();
    sinks.into_iter().for_each(|s| total.sink.merge(s));
}

#[derive(Default)]
struct Buffers {
    group: Group,
    owner: Vec<u8>,
    types: Vec<u16>,
    found: Vec<u16>,
}

/// What an owner with data needs, with its types in `b`: it has been read already. `None`: no such
/// owner.
fn need_of_owner(ctx: &Context<'_>, status: &Status, b: &mut Buffers) -> Option<Need> {
    if status.new? == Place::Occluded {
        return Some(Need::None);
    }
    b.types.extend_from_slice(&status.types);
    Some(need(ctx, status.new_insecure))
}

fn need(ctx: &Context<'_>, insecure: bool) -> Need {
    match (insecure, ctx.opt_out) {
        (true, true) => Need::Optional,
        (true, false) => Need::RequiredCut,
        (false, _) => Need::Required,
    }
}

/// `of_owner`: what the name needs, if that is known.
fn check_need(
    ctx: &Context<'_>,
    source: &dyn Source,
    old: &dyn Source,
    required: &[&[u8]],
    (name, hash): (&[u8], &Hash),
    of_owner: Option<Need>,
    b: &mut Buffers,
    sink: &mut Sink,
) {
    push_hashed_owner(hash, &ctx.apex_name, &mut b.owner);
    let bitmap = bitmap_at(source, &b.owner);
    let need = match of_owner {
        Some(need) => need,
        None => need_of(ctx, source, old, required, name, bitmap.is_some(), b),
    };
    match (need, bitmap) {
        (Need::None, Some(_)) => sink.push(|| {
            let what = format!(
                "NSEC3 for a name that is gone or occluded (hash {})",
                show(hash)
            );
            Finding::at(Check::V14, name, t::NSEC3, what)
        }),
        (Need::Required, None) => {
            sink.push(|| {
                Finding::at(
                    Check::V14,
                    name,
                    t::NSEC3,
                    format!("no NSEC3 for this name (hash {})", show(hash)),
                )
            });
        }
        (Need::RequiredCut, None) => sink.push(|| {
            let what = format!(
                "insecure delegation has no NSEC3 and no opt-out record covers it (hash {})",
                show(hash)
            );
            Finding::at(Check::V16, name, t::NSEC3, what)
        }),
        (Need::Optional, None) => check_opt_out(source, name, &b.owner, sink),
        (Need::None, None) => {}
        (_, Some(octets)) => {
            // A bitmap that does not decode is told where its record is checked.
            if rdata::decode_bitmap(&octets, &mut b.found).is_ok() && b.found != b.types {
                sink.push(|| {
                    Finding::at(
                        Check::V15,
                        name,
                        t::NSEC3,
                        format!("type bitmap does not fit the owner (hash {})", show(hash)),
                    )
                    .expected(type_list(&b.types), type_list(&b.found))
                });
            }
        }
    }
}

/// The same for a name that may be anything; `has_record`: the chain has a record of it.
fn need_of(
    ctx: &Context<'_>,
    source: &dyn Source,
    old: &dyn Source,
    required: &[&[u8]],
    name: &[u8],
    has_record: bool,
    b: &mut Buffers,
) -> Need {
    // Told once already, at the owner itself.
    let mut told = Sink::default();
    load(ctx, source, name, &mut b.group, &mut told);
    let covered = ctx.covered_by(source, name).is_some();
    let place = place_of(ctx, &b.group, covered);
    if covered {
        Need::None
    } else if !only_made(&b.group) {
        b.group.bitmap_types(place, false, &mut b.types);
        need(ctx, place == Place::Cut && !b.group.has(t::DS))
    } else if !is_ent(ctx, source, name) {
        Need::None
    } else if !ctx.opt_out {
        Need::Required
    } else if has_record {
        // In the chain it may be; whether it must be is of no interest.
        Need::Optional
    } else if bears_below(ctx, source, old, required, name, &b.owner) {
        Need::Required
    } else {
        Need::Optional
    }
}

/// Reads the main records of `owner` into `group`, sorted.
fn load(ctx: &Context<'_>, version: &dyn Source, owner: &[u8], group: &mut Group, sink: &mut Sink) {
    group.start(owner);
    version.at(owner, &mut |rr| group.push(&rr, &ctx.apex_name, sink));
    group.sort();
}

fn bitmap_at(version: &dyn Source, hashed: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    version.hashed_at(hashed, &mut |rr| {
        if rr.rtype == t::NSEC3 {
            found = Some(bitmap_of(rr.rdata).to_vec());
        }
    });
    found
}

/// The same of records that have been read.
fn bitmap_in(group: &Group) -> Option<&[u8]> {
    let last = group.set(t::NSEC3).last()?;
    Some(bitmap_of(group.rdata(last)))
}

/// The type bitmap of NSEC3 RDATA (RFC 5155 §3.2); empty where there is none.
fn bitmap_of(rdata: &[u8]) -> &[u8] {
    let at = rdata.get(4).map_or(5, |salt| 5 + *salt as usize);
    let map = rdata
        .get(at)
        .and_then(|n| rdata.get(at + 1 + *n as usize..));
    map.unwrap_or(&[])
}

/// Opt-out: some name below the ENT needs a record, so the ENT does. If the predecessor had none,
/// nothing below needed one, and only a change can have brought one.
fn bears_below(
    ctx: &Context<'_>,
    source: &dyn Source,
    old: &dyn Source,
    required: &[&[u8]],
    name: &[u8],
    hashed: &[u8],
) -> bool {
    let from = required.partition_point(|r| cmp_names(r, name).is_le());
    if required.get(from).is_some_and(|r| wire::below(r, name)) {
        return true;
    }
    if bitmap_at(old, hashed).is_none() {
        return false;
    }
    let mut at = name.to_vec();
    let mut group = Group::default();
    let mut told = Sink::default();
    let mut cover = Cover::new(ctx, source);
    loop {
        at = next_bearing(ctx, &mut cover, &at);
        if !wire::below(&at, name) {
            return false;
        }
        load(ctx, source, &at, &mut group, &mut told);
        if !group.is_cut(&ctx.apex_name) || group.has(t::DS) {
            return true;
        }
    }
}

/// V16: the record that covers the hash has the opt-out bit.
fn check_opt_out(source: &dyn Source, name: &[u8], hashed: &[u8], sink: &mut Sink) {
    let mut before = Vec::new();
    // At the wrap the last record covers; its flags are those of the chain (V14).
    if !source.previous_hashed(hashed, &mut before) {
        return;
    }
    source.hashed_at(&before, &mut |rr| {
        if rr.rtype == t::NSEC3 && rr.rdata.get(1).is_none_or(|flags| flags & 1 == 0) {
            sink.push(|| {
                Finding::at(
                    Check::V16,
                    name,
                    t::NSEC3,
                    "no opt-out record covers this insecure delegation",
                )
            });
        }
    });
}

/// V14: each NSEC3 record that came, went or changed, and the one before it; each is explained by a
/// name that changed.
fn check_changed_links(
    ctx: &Context<'_>,
    source: &dyn Source,
    old: &dyn Source,
    hashed: &mut [Item],
    of_hash: &HashMap<Hash, &[u8]>,
    total: &mut Work,
) {
    let share = share(hashed.len());
    let parts: Vec<(Work, crate::ledger::Tally)> = hashed
        .par_chunks_mut(share)
        .map(|items| check_hashed_owners(ctx, source, old, items, of_hash))
        .collect();
    for (work, past) in parts {
        add_work(total, work);
        total.tally.add(&past, -1);
    }
}

/// Reads an NSEC3 owner in the older and the newer version; V21 for what the delta says of it.
fn read_hashed(
    ctx: &Context<'_>,
    versions: [&dyn Source; 2],
    (owner, said): (&[u8], &mut [(bool, u128)]),
    groups: &mut [Group; 2],
    prints: &mut Fingerprinter,
    sink: &mut Sink,
) {
    let mut found = [Vec::new(), Vec::new()];
    let mut past = Sink::default();
    for (i, version) in versions.into_iter().enumerate() {
        let told = if i == 0 { &mut past } else { &mut *sink };
        groups[i].start(owner);
        version.hashed_at(owner, &mut |rr| {
            found[i].push(prints.of(&rr));
            groups[i].push(&rr, &ctx.apex_name, told);
        });
        groups[i].sort();
        found[i].sort_unstable();
    }
    confirm(owner, said, &found[0], &found[1], sink);
}

fn check_hashed_owners(
    ctx: &Context<'_>,
    source: &dyn Source,
    old: &dyn Source,
    items: &mut [Item],
    of_hash: &HashMap<Hash, &[u8]>,
) -> (Work, crate::ledger::Tally) {
    let (mut work, mut past) = (Work::default(), Work::default());
    let mut groups = [Group::default(), Group::default()];
    let mut prints = Fingerprinter::new(ctx.params.fingerprint_seed);
    for item in items {
        let owner = item.owner.as_slice();
        let said = (owner, item.prints.as_mut_slice());
        let versions = [old, source];
        read_hashed(
            ctx,
            versions,
            said,
            &mut groups,
            &mut prints,
            &mut work.sink,
        );
        let [was, is] = &groups;
        let carry = &mut |_: &Group, _: &[Rec], _: &Rec| Trust::Carried;
        check_owner(ctx, was, Place::Hashed, carry, &mut past);
        let existed = was.has(t::NSEC3);
        past.tally.counts.denial_records += existed as i64;
        past.sink = Sink::default();

        let mut trust = |group: &Group, set: &[Rec], sig: &Rec| {
            if carried(was, group, set, sig) {
                Trust::Carried
            } else {
                Trust::Batched
            }
        };
        if is.recs.is_empty() {
            // Gone altogether.
        } else if let Some(link) = check_hashed(ctx, is, &mut trust, &mut work) {
            let next = following(source, owner, &ctx.apex_name);
            if next != Some(link.next) {
                work.sink.push(|| {
                    Finding::at(
                        Check::V14,
                        owner,
                        t::NSEC3,
                        "next hashed name is not the next in the chain",
                    )
                    .expected(next.map_or("none".into(), |h| show(&h)), show(&link.next))
                });
            }
        }
        let explained =
            hash_of_owner(owner, &ctx.apex_name).is_some_and(|h| of_hash.contains_key(&h));
        let exists = is.has(t::NSEC3);
        if existed != exists {
            check_before(ctx, source, owner, exists, &mut work.sink);
            if !explained {
                let what = if exists {
                    "no name of the zone needs this NSEC3 record"
                } else {
                    "removed, but no name changed"
                };
                work.sink
                    .push(|| Finding::at(Check::V14, owner, t::NSEC3, what));
            }
        } else if exists && !explained && bitmap_in(was) != bitmap_in(is) {
            work.sink.push(|| {
                Finding::at(
                    Check::V15,
                    owner,
                    t::NSEC3,
                    "type bitmap changed, but the name did not",
                )
            });
        }
    }
    work.batch.finish(&ctx.keys, &mut work.sink);
    (work, past.tally)
}

/// Hash of the record after `owner` in the chain, around the wrap.
fn following(source: &dyn Source, owner: &[u8], apex: &[u8]) -> Option<Hash> {
    let mut next = Vec::new();
    let found =
        next_with_record(source, owner, &mut next) || next_with_record(source, apex, &mut next);
    found.then(|| hash_of_owner(&next, apex)).flatten()
}

fn next_with_record(source: &dyn Source, from: &[u8], next: &mut Vec<u8>) -> bool {
    let mut at = from.to_vec();
    while source.next_hashed(&at, next) {
        if bitmap_at(source, next).is_some() {
            return true;
        }
        std::mem::swap(&mut at, next);
    }
    false
}

/// The record before one that came or went leads past or to it.
fn check_before(
    ctx: &Context<'_>,
    source: &dyn Source,
    owner: &[u8],
    exists: bool,
    sink: &mut Sink,
) {
    let apex = &ctx.apex_name;
    let mut before = Vec::new();
    if !source.previous_hashed(owner, &mut before) && !last_hashed(source, apex, &mut before) {
        return;
    }
    let expected = if exists {
        hash_of_owner(owner, apex)
    } else {
        following(source, owner, apex)
    };
    source.hashed_at(&before, &mut |rr| {
        if rr.rtype != t::NSEC3 {
            return;
        }
        let at = rr.rdata.get(4).map_or(5, |salt| 6 + *salt as usize);
        let next = rr
            .rdata
            .get(at..at + 20)
            .and_then(|n| Hash::try_from(n).ok());
        if next != expected {
            sink.push(|| {
                Finding::at(
                    Check::V14,
                    &before,
                    t::NSEC3,
                    "next hashed name is not the next in the chain",
                )
                .expected(
                    expected.map_or("none".into(), |h| show(&h)),
                    next.map_or("none".into(), |h| show(&h)),
                )
            });
        }
    });
}

/// The last record of the chain: the one before a name that sorts after every hash.
fn last_hashed(source: &dyn Source, apex: &[u8], out: &mut Vec<u8>) -> bool {
    // 'w' is beyond the base32hex digits.
    let mut end = vec![1, b'w'];
    end.extend_from_slice(apex);
    end.len() <= wire::MAX_NAME && source.previous_hashed(&end, out) && !same_name(out, apex)
}
