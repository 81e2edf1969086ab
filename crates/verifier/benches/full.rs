//! Full mode against bare ring: what structure, denial and decoding add to verification.

// A benchmark that cannot be set up must stop.
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use cascade_verifier::{Params, RecordList, verify_full};
use common::*;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rayon::prelude::*;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

const DELEGATIONS: usize = 4000;

fn zone(chain: Chain) -> (RecordList, Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>) {
    let mut s = Signer::new(chain, false);
    s.keys = vec![Key::p256(257), Key::p256(256)];
    let mut content = vec![soa(1), r("example", NS, 3600, n("ns.elsewhere.test"))];
    for i in 0..DELEGATIONS {
        let name = format!("domain{i}.example");
        content.push(r(&name, NS, 3600, n("ns1.elsewhere.test")));
        content.push(r(&name, NS, 3600, n("ns2.elsewhere.test")));
        if i % 8 == 0 {
            content.push(r(
                &name,
                DS,
                3600,
                [&[0x30u8, 0x39, 13, 2][..], &[i as u8; 32]].concat(),
            ));
        }
    }
    let signed = s.sign(&content);
    // Preimages and signatures alone, as ring wants them.
    let jobs = signed
        .iter()
        .filter(|r| r.rtype == RRSIG)
        .map(|sig| {
            let tag = u16::from_be_bytes([sig.rdata[16], sig.rdata[17]]);
            let key = s.keys.iter().find(|k| k.tag() == tag).unwrap();
            let message = vec![0x5a; 240];
            let made = key.sign(&message);
            ([&[4u8][..], &key.dnskey()[4..]].concat(), message, made)
        })
        .collect();
    (
        RecordList::new(&s.apex, signed.iter().map(rr)).unwrap(),
        jobs,
    )
}

fn full(c: &mut Criterion) {
    for (name, chain) in [("nsec", Chain::Nsec), ("nsec3", Chain::nsec3())] {
        let (list, jobs) = zone(chain);
        let mut group = c.benchmark_group(name);
        group.sample_size(10);
        group.throughput(Throughput::Elements(jobs.len() as u64));
        group.bench_function("ring alone", |b| {
            b.iter(|| {
                jobs.par_iter().for_each(|(key, message, sig)| {
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key)
                        .verify(message, sig)
                        .unwrap();
                });
            });
        });
        group.bench_function("full mode", |b| {
            b.iter_batched(
                || &list,
                |list| {
                    assert!(
                        verify_full(list, &Params::file(), now())
                            .verified()
                            .is_some()
                    )
                },
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, full);
criterion_main!(benches);
