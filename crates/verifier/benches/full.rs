//! Full mode against bare ring: what structure, denial and decoding add to verification, and what
//! tables save. All of one run, so that the ratios hold on a busy machine.

// A benchmark that cannot be set up must stop.
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use cascade_verifier::{Engine, Params, fingerprint_seed, verify_full};
use cascade_zone::ZoneVersion;
use common::stored::*;
use common::*;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rayon::prelude::*;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

const DELEGATIONS: usize = 20_000;

type Job = (Vec<u8>, Vec<u8>, Vec<u8>);

fn zone(chain: Chain) -> (ZoneVersion, ZoneVersion, Vec<Job>) {
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
    let (unsigned, signed) = store(&s, &content, 1, None);
    // Preimages and signatures alone, as ring wants them.
    let key = &s.keys[1];
    let jobs = (0..signed.sums().signatures)
        .map(|_| {
            let message = vec![0x5a; 240];
            let made = key.sign(&message);
            ([&[4u8][..], &key.dnskey()[4..]].concat(), message, made)
        })
        .collect();
    (unsigned, signed, jobs)
}

fn full(c: &mut Criterion) {
    for (name, chain) in [("nsec", Chain::Nsec), ("nsec3", Chain::nsec3())] {
        let (unsigned, signed, jobs) = zone(chain);
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
        for (name, engine) in [("full, ring", Engine::Ring), ("full, tables", Engine::Auto)] {
            let params = Params {
                fingerprint_seed: fingerprint_seed(ZONE),
                approved: Some(&unsigned),
                engine,
                ..Params::file()
            };
            group.bench_function(name, |b| {
                b.iter(|| assert!(verify_full(&signed, &params, now()).verified().is_some()));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, full);
criterion_main!(benches);
