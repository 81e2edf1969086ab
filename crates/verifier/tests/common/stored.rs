//! The reference signer's zone as versions of the zone store.

use std::collections::HashMap;

use cascade_zone::{
    Bitmaps, BlockBuilder, Builder, ChainContext, Denial, Draft, KeyId, KeySlot, KeyTable,
    NSEC_SET, Name, Nsec3Params, RecordBatch, Rtype, VersionId, ZoneId, ZoneVersion, key,
};

use super::*;

pub const ZONE: ZoneId = ZoneId(*b"0123456789abcdef");

pub fn apex() -> Name {
    Name::from_wire(&n("example")).unwrap()
}

pub fn build(content: &[R], id: u64, before: Option<&ZoneVersion>) -> ZoneVersion {
    let mut batch = RecordBatch::new();
    let mut sorted = content.to_vec();
    sorted.sort_by_key(|r| order(&r.owner));
    for r in &sorted {
        batch.owner(
            &key::key_of(&apex(), &r.owner).unwrap(),
            key::case_of(&apex(), &r.owner).as_deref(),
        );
        batch.push(Rtype(r.rtype), r.ttl, &r.rdata, 0).unwrap();
    }
    let mut b = Builder::new(ZONE, VersionId(id), &apex(), now()).batches(vec![batch]);
    if let Some(v) = before {
        b = b.predecessor(v);
    }
    b.build().unwrap()
}

/// Puts the reference signer's signatures into a version of the store.
pub fn store(
    s: &Signer,
    content: &[R],
    id: u64,
    before: Option<&ZoneVersion>,
) -> (ZoneVersion, ZoneVersion) {
    let unsigned = build(content, id, before);
    let zone = s.sign(content);
    let mut keys = KeyTable::new();
    let mut slots: HashMap<(u16, u8), u8> = HashMap::new();
    for (i, k) in s.keys.iter().enumerate() {
        let slot = KeySlot {
            id: KeyId([i as u8; 16]),
            algorithm: k.algorithm(),
            tag: k.tag(),
            sig_len: 64,
            dnskey_sha256: [0; 32],
        };
        slots.insert((k.tag(), k.algorithm()), keys.assign(slot).unwrap());
    }
    let mut sigs: HashMap<(Vec<u8>, u16), Vec<&R>> = HashMap::new();
    for r in zone.iter().filter(|r| r.rtype == RRSIG) {
        sigs.entry((r.owner.to_ascii_lowercase(), covered(r)))
            .or_default()
            .push(r);
    }
    let field = |r: &R, at: usize| u32::from_be_bytes(r.rdata[at..at + 4].try_into().unwrap());
    let parts = |r: &R| {
        let slot = slots[&(u16::from_be_bytes([r.rdata[16], r.rdata[17]]), r.rdata[2])];
        (
            slot,
            field(r, 12),
            field(r, 8),
            r.rdata[18 + name_len(&r.rdata[18..])..].to_vec(),
        )
    };
    let set = |rtype: u16| -> Vec<Vec<u8>> {
        zone.iter()
            .filter(|r| r.rtype == rtype && same(&r.owner, &s.apex))
            .map(|r| r.rdata.clone())
            .collect()
    };
    let (denial, sets) = match &s.chain {
        Chain::Nsec => (
            Denial::Nsec { ttl: 900 },
            vec![(Rtype::DNSKEY, 3600, set(DNSKEY))],
        ),
        Chain::Nsec3 {
            iterations,
            salt,
            opt_out,
        } => (
            Denial::Nsec3 {
                params: Nsec3Params {
                    algorithm: 1,
                    iterations: *iterations,
                    salt: salt.clone(),
                    opt_out: *opt_out,
                },
                ttl: 900,
            },
            vec![
                (Rtype::DNSKEY, 3600, set(DNSKEY)),
                (Rtype::NSEC3PARAM, 3600, set(NSEC3PARAM)),
            ],
        ),
    };
    let draft = Draft::new(
        &unsigned,
        VersionId(id + 1000),
        now(),
        sets,
        keys.clone(),
        denial.clone(),
    )
    .unwrap();
    let mut sidecars = Vec::new();
    for i in 0..draft.version().unit_count() {
        let mut b = draft.sidecar(i);
        let unit = draft.version().unit(i);
        let mut last = Vec::new();
        for o in unit.owners() {
            last = o.key().to_vec();
            let name = o.name().to_lowercase().as_wire().to_vec();
            for set in o.sets() {
                for r in sigs.get(&(name.clone(), set.rtype.0)).into_iter().flatten() {
                    let (slot, inc, exp, sig) = parts(r);
                    b.push(o.ordinal(), set.index as u16, slot, inc, exp, &sig);
                }
            }
            for r in sigs.get(&(name.clone(), NSEC)).into_iter().flatten() {
                let (slot, inc, exp, sig) = parts(r);
                b.push(o.ordinal(), NSEC_SET, slot, inc, exp, &sig);
            }
        }
        if s.chain == Chain::Nsec {
            let next = draft
                .version()
                .succ_bearing(&last)
                .map_or(Vec::new(), |o| o.key().to_vec());
            b.nsec(900, &next);
        }
        sidecars.push(Some(b.build()));
    }
    let chain = match &denial {
        Denial::Nsec3 { params, ttl } => {
            let mut records: Vec<&R> = zone.iter().filter(|r| r.rtype == NSEC3).collect();
            records.sort_by_key(|r| order(&r.owner));
            let mut bitmaps = Bitmaps::default();
            let at = 5 + params.salt.len() + 21;
            let ids: Vec<u32> = records
                .iter()
                .map(|r| bitmaps.intern(&r.rdata[at..]))
                .collect();
            let hash = |r: &R| unbase32(&r.owner[1..33]);
            let mut blocks = Vec::new();
            // Small blocks, so that borders are met.
            for (c, chunk) in records.chunks(3).enumerate() {
                let mut b = BlockBuilder::new();
                for (i, r) in chunk.iter().enumerate() {
                    b.row(hash(r), ids[c * 3 + i]);
                    for sig in &sigs[&(r.owner.clone(), NSEC3)] {
                        let (slot, inc, exp, sig) = parts(sig);
                        b.sig(i as u16, slot, inc, exp, &sig);
                    }
                }
                let next = hash(records[(c * 3 + chunk.len()) % records.len()]);
                let ctx = ChainContext {
                    zone: ZONE,
                    apex: &apex(),
                    params,
                    bitmaps: &bitmaps,
                    keys: &keys,
                };
                blocks.push(b.build(&next, *ttl, &ctx, NOW as u32));
            }
            Some(cascade_zone::Chain::new(
                params.clone(),
                *ttl,
                bitmaps,
                blocks,
            ))
        }
        _ => None,
    };
    (unsigned, draft.finish(sidecars, chain).unwrap())
}
