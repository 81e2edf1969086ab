//! Checks that need one owner only: V02, V04, V06, V07, and what the owner adds to the ledger.

use crate::context::{Context, Denial};
use crate::finding::{Check, Finding, Sink, is_denial_or_signature};
use crate::group::{Group, Place, Rec};
use crate::ledger::Tally;
use crate::rdata::{self, t};
use crate::rrsig::{Batch, Rrsig, Trust, check_rrsig};
use crate::wire;

/// State of one task: findings, counts, signatures under way, buffers.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) sink: Sink,
    pub(crate) tally: Tally,
    pub(crate) batch: Batch,
    /// Valid signers of DNSKEY, CDS and CDNSKEY, in this order.
    pub(crate) key_set_signers: [u64; 3],
    pub(crate) types: Vec<u16>,
    pub(crate) found_types: Vec<u16>,
    /// Not counted: the owner is looked at only to take its share out of a ledger.
    pub(crate) carried: u64,
}

/// Says for the signatures over one RRset how far they may be trusted.
pub(crate) type TrustOf<'t> = dyn FnMut(&Group, &[Rec], &Rec) -> Trust + 't;

/// Place of the owner in `group`; `covered` = a cut or DNAME stands above it.
pub(crate) fn place_of(ctx: &Context<'_>, group: &Group, covered: bool) -> Place {
    if group.name == ctx.apex_name {
        Place::Apex
    } else if covered {
        Place::Occluded
    } else if group.is_cut(&ctx.apex_name) {
        Place::Cut
    } else {
        Place::Data
    }
}

/// The RRset must be signed (RFC 4035 §2.2).
pub(crate) fn must_be_signed(place: Place, rtype: u16) -> bool {
    match place {
        Place::Occluded => false,
        Place::Cut => matches!(rtype, t::DS | t::NSEC),
        Place::Hashed => rtype == t::NSEC3,
        Place::Apex | Place::Data => rtype != t::RRSIG,
    }
}

pub(crate) fn check_owner(
    ctx: &Context<'_>,
    group: &Group,
    place: Place,
    trust: &mut TrustOf<'_>,
    work: &mut Work,
) {
    count_place(group, place, &mut work.tally);
    for set in group.sets() {
        let rtype = set[0].rtype;
        check_set(group, set, &mut work.sink);
        work.tally.counts.rrsets += 1;
        if rtype == t::RRSIG {
            work.tally.counts.signatures += set.len() as i64;
            continue;
        }
        if must_be_signed(place, rtype) {
            check_signed(ctx, group, place, set, trust, work);
        } else if !group.sigs(rtype).is_empty() {
            let why = match place {
                Place::Occluded => "signed, but it lies below a zone cut or DNAME",
                Place::Cut => "signed, but at a zone cut only DS and NSEC may be",
                _ => "signed, but must not be",
            };
            work.sink
                .push(|| Finding::at(Check::V07, &group.name, rtype, why));
        }
        if rtype == t::NSEC && ctx.denial != Denial::Nsec {
            work.sink.push(|| {
                Finding::at(
                    Check::V18,
                    &group.name,
                    rtype,
                    "NSEC in a zone with an NSEC3 chain",
                )
            });
        } else if rtype == t::NSEC && place == Place::Occluded {
            work.sink.push(|| {
                Finding::at(
                    Check::V12,
                    &group.name,
                    rtype,
                    "NSEC below a zone cut or DNAME",
                )
            });
        }
    }
    lone_signatures(group, place, work);
}

fn count_place(group: &Group, place: Place, tally: &mut Tally) {
    let c = &mut tally.counts;
    match place {
        Place::Hashed => {}
        _ if !group.is_owner() => {}
        Place::Occluded => {
            c.owners += 1;
            c.occluded += 1;
        }
        Place::Cut => {
            c.owners += 1;
            c.cuts += 1;
            c.secure_cuts += group.has(t::DS) as i64;
        }
        Place::Apex | Place::Data => c.owners += 1,
    }
}

/// V02.
pub(crate) fn check_set(group: &Group, set: &[Rec], sink: &mut Sink) {
    let rtype = set[0].rtype;
    for pair in set.windows(2) {
        // RFC 2181 §5.2; the RRSIGs of an owner follow the TTLs of what they cover (RFC 4034 §3).
        if rtype != t::RRSIG && pair[0].ttl != pair[1].ttl {
            let (a, b) = (pair[0].ttl, pair[1].ttl);
            sink.push(|| {
                Finding::at(
                    Check::V02,
                    &group.name,
                    rtype,
                    "RRs of one RRset with two TTLs",
                )
                .expected(a, b)
            });
        }
        if group.rdata(&pair[0]) == group.rdata(&pair[1]) {
            sink.push(|| Finding::at(Check::V02, &group.name, rtype, "duplicate RR"));
        }
    }
    let single = matches!(rtype, t::SOA | t::CNAME | t::DNAME | t::NSEC);
    if single && set.len() > 1 {
        let check = if rtype == t::SOA {
            Check::V01
        } else {
            Check::V02
        };
        sink.push(|| {
            Finding::at(
                check,
                &group.name,
                rtype,
                "more than one record where only one is allowed",
            )
        });
    }
}

/// V03 to V06 of an RRset that must be signed.
fn check_signed(
    ctx: &Context<'_>,
    group: &Group,
    place: Place,
    set: &[Rec],
    trust: &mut TrustOf<'_>,
    work: &mut Work,
) {
    let rtype = set[0].rtype;
    let key_set = match rtype {
        _ if place != Place::Apex => None,
        t::DNSKEY => Some(0),
        t::CDS => Some(1),
        t::CDNSKEY => Some(2),
        _ => None,
    };
    let mut signers = 0u64;
    for rec in group.sigs(rtype) {
        let how = match trust(group, set, rec) {
            // Who signed the key sets must be known before the end of the run.
            Trust::Batched if key_set.is_some() => Trust::Now,
            how => how,
        };
        work.carried += (how == Trust::Carried) as u64;
        let by = check_rrsig(ctx, group, set, rec, how, &mut work.batch, &mut work.sink);
        signers |= by.map_or(0, |key| 1u64 << key);
        if let Some(sig) = Rrsig::parse(group.rdata(rec)) {
            work.tally.expires(sig.expiration, 1);
        }
    }
    work.tally.counts.authoritative += 1;
    work.tally.signed_by(signers, 1);
    if let Some(i) = key_set {
        work.key_set_signers[i] = signers;
    }
    for &(algorithm, keys) in &ctx.keys.required {
        if signers & keys == 0 {
            work.sink.push(|| {
                let what = format!(
                    "no valid RRSIG of algorithm {algorithm}, which the DNSKEY RRset announces"
                );
                Finding::at(Check::V06, &group.name, rtype, what)
            });
        }
    }
}

/// V07: RRSIGs over RRsets that are not there, and over RRSIG.
fn lone_signatures(group: &Group, place: Place, work: &mut Work) {
    let mut last = None;
    for rec in group.set(t::RRSIG) {
        let covered = wire::u16_at(group.rdata(rec), 0);
        if last == Some(covered) {
            continue;
        }
        last = Some(covered);
        if covered == t::RRSIG {
            work.sink
                .push(|| Finding::at(Check::V07, &group.name, covered, "RRSIG over RRSIG"));
        } else if !group.has(covered) {
            work.sink.push(|| {
                Finding::at(
                    Check::V07,
                    &group.name,
                    covered,
                    "RRSIG over an RRset that is not there",
                )
            });
        }
    }
    if place != Place::Hashed && !group.is_owner() && group.has(t::NSEC) {
        work.sink.push(|| {
            Finding::at(
                Check::V12,
                &group.name,
                t::NSEC,
                "NSEC at a name without data",
            )
        });
    }
    if place != Place::Hashed && group.has(t::NSEC3) {
        work.sink
            .push(|| Finding::at(Check::V14, &group.name, t::NSEC3, "NSEC3 outside the chain"));
    }
}

/// NSEC of a bearing owner: presence (V12), TTL (V17), bitmap (V13). Gives the next name.
pub(crate) fn check_nsec<'g>(
    ctx: &Context<'_>,
    group: &'g Group,
    place: Place,
    work: &mut Work,
) -> Option<&'g [u8]> {
    let Some(rec) = group.set(t::NSEC).first() else {
        work.sink
            .push(|| Finding::at(Check::V12, &group.name, t::NSEC, "no NSEC at this owner"));
        return None;
    };
    work.tally.counts.denial_records += 1;
    if rec.ttl != ctx.denial_ttl {
        let (want, got) = (ctx.denial_ttl, rec.ttl);
        work.sink.push(|| {
            Finding::at(
                Check::V17,
                &group.name,
                t::NSEC,
                "TTL is not min(SOA TTL, SOA MINIMUM)",
            )
            .expected(want, got)
        });
    }
    let data = group.rdata(rec);
    let next_len = wire::name_len(data)?;
    group.bitmap_types(place, true, &mut work.types);
    if let Err(e) = rdata::decode_bitmap(&data[next_len..], &mut work.found_types) {
        work.sink
            .push(|| Finding::at(Check::V13, &group.name, t::NSEC, e.text()));
    } else if work.types != work.found_types {
        let (want, got) = (type_list(&work.types), type_list(&work.found_types));
        work.sink.push(|| {
            Finding::at(
                Check::V13,
                &group.name,
                t::NSEC,
                "type bitmap does not fit the owner",
            )
            .expected(want, got)
        });
    }
    Some(&data[..next_len])
}

pub(crate) fn type_list(types: &[u16]) -> String {
    let names: Vec<String> = types
        .iter()
        .map(|&x| cascade_zone::Rtype(x).to_string())
        .collect();
    if names.is_empty() {
        "nothing".into()
    } else {
        names.join(" ")
    }
}

/// True if the owner has nothing but what a signer made: no name of the zone.
pub(crate) fn only_made(group: &Group) -> bool {
    group.recs.iter().all(|r| is_denial_or_signature(r.rtype))
}
