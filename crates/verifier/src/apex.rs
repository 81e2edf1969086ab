//! Checks of the apex: V01 (SOA), V08 to V11, V17 and V18 of the zone as a whole.

use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384};

use crate::context::{Context, Denial, MAX_ITERATIONS};
use crate::finding::{Check, Finding, Severity, Sink};
use crate::keys::{MAX_KEYS, REVOKE, SEP, ZONE};
use crate::params::{DenialPolicy, Parent};
use crate::rdata::t;
use crate::wire::{self, hex, serial_gt};

/// What can be said before any owner is looked at.
pub(crate) fn check_before(ctx: &Context<'_>, sink: &mut Sink) {
    check_soa(ctx, sink);
    check_keys(ctx, sink);
    check_denial(ctx, sink);
    check_cds(ctx, sink);
}

/// V01 and V11.
pub(crate) fn check_soa(ctx: &Context<'_>, sink: &mut Sink) {
    let apex = &ctx.apex_name;
    if ctx.apex.soa.len() != 1 {
        let n = ctx.apex.soa.len();
        sink.push(|| {
            Finding::at(
                Check::V01,
                apex,
                t::SOA,
                "there must be one SOA at the apex",
            )
            .expected(1, n)
        });
    }
    let serial = ctx.apex.serial();
    let older = [
        (ctx.params.live_serial, "of the live version"),
        (ctx.params.highest_serial, "shown by any server"),
    ];
    for (other, what) in older {
        if let Some(other) = other.filter(|o| !serial_gt(serial, o.0)) {
            sink.push(|| {
                let what = format!("serial is not newer than the one {what} (RFC 1982)");
                Finding::at(Check::V11, apex, t::SOA, what).expected(format!("> {other}"), serial)
            });
        }
    }
}

/// V08.
fn check_keys(ctx: &Context<'_>, sink: &mut Sink) {
    let apex = &ctx.apex_name;
    let set = &ctx.apex.dnskey;
    let mut wrong = |what: String| sink.push(|| Finding::at(Check::V08, apex, t::DNSKEY, what));
    if set.is_empty() {
        wrong("no DNSKEY RRset at the apex".into());
    }
    if set.len() > MAX_KEYS {
        wrong(format!(
            "{} DNSKEY records; at most {MAX_KEYS} can be judged",
            set.len()
        ));
    }
    for key in ctx.keys.list.iter().filter(|k| k.published) {
        let tag = key.tag;
        // RFC 4034 §2.1.1, §2.1.2; RFC 5011 §3 for the revoke bit, which only a KSK may carry.
        if key.flags & !(ZONE | SEP | REVOKE) != 0
            || key.flags & ZONE == 0
            || key.flags & (SEP | REVOKE) == REVOKE
        {
            wrong(format!(
                "flags of key {tag} are {}, not 256, 257 or 385",
                key.flags
            ));
        }
        if key.rdata.get(2) != Some(&3) {
            wrong(format!("protocol of key {tag} is not 3 (RFC 4034 §2.1.2)"));
        }
        if let Some(trouble) = key.trouble() {
            wrong(format!(
                "key {tag} of algorithm {}: {trouble}",
                key.algorithm
            ));
        }
    }
    let Some(own) = &ctx.params.own_keys else {
        return;
    };
    let published: Vec<_> = ctx.keys.list.iter().filter(|k| k.published).collect();
    for (i, key) in published.iter().enumerate() {
        let ours = own.iter().any(|o| o.dnskey == key.rdata);
        if !ours && !ctx.params.foreign_keys.contains(&key.rdata) {
            wrong(format!(
                "key {} (sha256 {}…) is not in the key store",
                key.tag,
                hex(&key.sha256[..4])
            ));
        }
        let clash = |o: &&&crate::keys::Key| o.tag == key.tag && o.algorithm == key.algorithm;
        if ours && published[..i].iter().any(|o| clash(&o)) {
            wrong(format!(
                "two keys of algorithm {} have the tag {}",
                key.algorithm, key.tag
            ));
        }
    }
    for key in own
        .iter()
        .filter(|k| k.published && !set.contains(&k.dnskey))
    {
        wrong(format!(
            "key {} of the key store is missing",
            wire::key_tag(&key.dnskey)
        ));
    }
}

/// V08, after the signatures: keys that signed must have proven lately that they are whom they say.
pub(crate) fn check_proofs(ctx: &Context<'_>, signers: u64, sink: &mut Sink) {
    let Some(own) = &ctx.params.own_keys else {
        return;
    };
    for (i, key) in ctx.keys.list.iter().enumerate() {
        if signers >> i & 1 == 1 && own.iter().any(|o| o.dnskey == key.rdata && !o.proven) {
            let what = format!(
                "key {} signs, but its private key has no fresh proof of identity",
                key.tag
            );
            sink.push(|| Finding::at(Check::V08, &ctx.apex_name, t::DNSKEY, what));
        }
    }
}

/// V14, V17 and V18 of the zone as a whole.
fn check_denial(ctx: &Context<'_>, sink: &mut Sink) {
    let apex = &ctx.apex_name;
    let params = &ctx.apex.nsec3param;
    let mut wrong =
        |check: Check, what: &str| sink.push(|| Finding::at(check, apex, t::NSEC3PARAM, what));
    if params.len() > 1 {
        wrong(Check::V14, "more than one NSEC3PARAM record");
        wrong(Check::V18, "more than one NSEC3PARAM record");
    }
    for p in params {
        // RFC 5155 §4.1.2.
        if p.get(1) != Some(&0) {
            wrong(Check::V14, "flags of NSEC3PARAM are not 0");
        }
        if p.first() != Some(&1) {
            wrong(Check::V14, "hash algorithm of NSEC3PARAM is not SHA-1");
        }
    }
    match (params.is_empty(), &ctx.apex.chain) {
        (true, Some(_)) => {
            wrong(Check::V14, "NSEC3 chain without NSEC3PARAM");
            wrong(Check::V18, "NSEC3 chain without NSEC3PARAM");
        }
        (false, None) => wrong(Check::V18, "NSEC3PARAM without an NSEC3 chain"),
        _ => {}
    }
    if let Denial::Nsec3(h) = &ctx.denial
        && h.iterations > MAX_ITERATIONS
    {
        wrong(
            Check::V17,
            "more NSEC3 iterations than any validator accepts",
        );
    }
    let fits = match (&ctx.params.denial, &ctx.denial) {
        (None, _) | (Some(DenialPolicy::Nsec), Denial::Nsec) => true,
        (
            Some(DenialPolicy::Nsec3 {
                iterations,
                salt,
                opt_out,
            }),
            Denial::Nsec3(h),
        ) => *iterations == h.iterations && *salt == h.salt && *opt_out == ctx.opt_out,
        _ => false,
    };
    if !fits {
        wrong(
            Check::V17,
            "denial of existence is not the one that the policy demands",
        );
    }
}

const DELETE_CDS: &[u8] = &[0, 0, 0, 0, 0];
const DELETE_CDNSKEY: &[u8] = &[0, 0, 3, 0, 0];

/// V10, but for the signers.
fn check_cds(ctx: &Context<'_>, sink: &mut Sink) {
    let (cds, cdnskey) = (&ctx.apex.cds, &ctx.apex.cdnskey);
    let mut wrong = |rtype: u16, what: String| {
        sink.push(|| Finding::at(Check::V10, &ctx.apex_name, rtype, what))
    };
    // RFC 7344 §4.1 lets the child publish one of them alone; the delete form always has both.
    let alone = !ctx.params.cdnskey && cdnskey.is_empty() && !cds.iter().any(|r| *r == DELETE_CDS);
    if alone {
        let named = |ds: &[u8], key: &[u8]| ds_fits(&ctx.apex_name, ds, key);
        let own = ctx.params.own_keys.iter().flatten();
        let wanted: Vec<&[u8]> = own
            .filter(|o| o.wanted_at_parent)
            .map(|o| o.dnskey.as_slice())
            .chain(ctx.apex.dnskey.iter().map(Vec::as_slice))
            .collect();
        for ds in cds {
            if !wanted.iter().any(|key| named(ds, key)) {
                let tag = wire::u16_at(ds, 0);
                wrong(t::CDS, format!("CDS for key {tag} fits no DNSKEY"));
            }
        }
        return;
    }
    if cds.is_empty() != cdnskey.is_empty() {
        wrong(
            t::CDS,
            "CDS and CDNSKEY must be published together (RFC 7344 §4.1)".into(),
        );
    }
    let deletes = cds.iter().filter(|r| *r == DELETE_CDS).count()
        + cdnskey.iter().filter(|r| *r == DELETE_CDNSKEY).count();
    if deletes > 0 {
        if cds.len() != 1 || cdnskey.len() != 1 || deletes != 2 {
            wrong(
                t::CDS,
                "the delete form must stand alone, in CDS and CDNSKEY (RFC 8078 §4)".into(),
            );
        }
        if !ctx.params.delete_ds_ordered {
            wrong(
                t::CDS,
                "asks the parent to delete the DS RRset, which was not ordered".into(),
            );
        }
        return;
    }
    for ds in cds {
        if !cdnskey.iter().any(|k| ds_fits(&ctx.apex_name, ds, k)) {
            wrong(
                t::CDS,
                format!("CDS for key {} fits no CDNSKEY", wire::u16_at(ds, 0)),
            );
        }
    }
    for key in cdnskey {
        let tag = wire::key_tag(key);
        if !cds.iter().any(|ds| ds_fits(&ctx.apex_name, ds, key)) {
            wrong(t::CDNSKEY, format!("CDNSKEY of key {tag} has no CDS"));
        }
        let wanted = ctx
            .params
            .own_keys
            .iter()
            .flatten()
            .any(|o| o.wanted_at_parent && o.dnskey == *key);
        if !wanted && !ctx.apex.dnskey.contains(key) {
            wrong(t::CDNSKEY, format!("key {tag} is not in the DNSKEY RRset"));
        }
    }
}

/// DS, or CDS, RDATA names this DNSKEY (RFC 4034 §5.1.4).
pub(crate) fn ds_fits(apex: &[u8], ds: &[u8], dnskey: &[u8]) -> bool {
    if ds.len() < 5
        || dnskey.len() < 5
        || wire::u16_at(ds, 0) != wire::key_tag(dnskey)
        || ds[2] != dnskey[3]
    {
        return false;
    }
    match ds[3] {
        1 => {
            Sha1::new()
                .chain_update(apex)
                .chain_update(dnskey)
                .finalize()[..]
                == ds[4..]
        }
        2 => {
            Sha256::new()
                .chain_update(apex)
                .chain_update(dnskey)
                .finalize()[..]
                == ds[4..]
        }
        4 => {
            Sha384::new()
                .chain_update(apex)
                .chain_update(dnskey)
                .finalize()[..]
                == ds[4..]
        }
        _ => false,
    }
}

/// V09 and the signers of V10. `signers`: valid signers of DNSKEY, CDS, CDNSKEY.
pub(crate) fn check_chain(ctx: &Context<'_>, signers: [u64; 3], sink: &mut Sink) {
    let severity = if ctx.params.live_chain_broken {
        Severity::Warning
    } else {
        Severity::Refusal
    };
    let published = |i: usize| ctx.keys.list[i].published;
    let signs = |set: usize, i: usize| signers[set] >> i & 1 == 1;
    let places = 0..ctx.keys.list.len();
    let named = |ds: &[u8], i: usize| ds_fits(&ctx.apex_name, ds, &ctx.keys.list[i].rdata);
    if let Some(ds_set) = ctx.params.parent.ds().filter(|s| !s.is_empty()) {
        let mut wrong = |what: String| {
            sink.push(|| Finding {
                severity,
                ..Finding::at(Check::V09, &ctx.apex_name, t::DNSKEY, what)
            });
        };
        for i in places.clone().filter(|&i| published(i) && !signs(0, i)) {
            if ds_set.iter().any(|ds| named(ds, i)) {
                wrong(format!(
                    "not signed by key {}, which the parent's DS names",
                    ctx.keys.list[i].tag
                ));
            }
        }
        let standby: &[Vec<u8>] = match &ctx.params.parent {
            Parent::Linked { standby, .. } => standby,
            _ => &[],
        };
        let mut algorithms: Vec<u8> = ds_set
            .iter()
            .filter(|d| !standby.contains(d))
            .filter_map(|d| d.get(2).copied())
            .collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        if algorithms.is_empty() {
            wrong("the parent has DS records for standby keys only".into());
        }
        for algorithm in algorithms {
            let fits = |i: usize| {
                ds_set
                    .iter()
                    .any(|ds| ds.get(2) == Some(&algorithm) && named(ds, i))
            };
            if !places
                .clone()
                .any(|i| published(i) && signs(0, i) && fits(i))
            {
                wrong(format!(
                    "no key that the parent's DS of algorithm {algorithm} names is in the RRset and signs it"
                ));
            }
        }
    }
    for (set, rtype, present) in [
        (1, t::CDS, &ctx.apex.cds),
        (2, t::CDNSKEY, &ctx.apex.cdnskey),
    ] {
        // RFC 7344 §4.1: a key in both the DNSKEY and the DS RRset.
        let ds_set = ctx.params.parent.ds().filter(|s| !s.is_empty());
        let linked = |i: usize| ds_set.is_none_or(|s| s.iter().any(|ds| named(ds, i)));
        if !present.is_empty()
            && !places
                .clone()
                .any(|i| published(i) && signs(set, i) && linked(i))
        {
            let what = "not signed by a key that is in the DNSKEY and the DS RRset";
            sink.push(|| Finding {
                severity,
                ..Finding::at(Check::V10, &ctx.apex_name, rtype, what)
            });
        }
        for &algorithm in ctx
            .params
            .cached_algorithms
            .iter()
            .filter(|_| !present.is_empty())
        {
            let of = |i: usize| ctx.keys.list[i].algorithm == algorithm;
            if !places.clone().any(|i| of(i) && signs(set, i)) {
                let what = format!(
                    "no valid RRSIG of algorithm {algorithm}, which a DNSKEY RRset in caches announces"
                );
                sink.push(|| Finding::at(Check::V10, &ctx.apex_name, rtype, what));
            }
        }
    }
}
