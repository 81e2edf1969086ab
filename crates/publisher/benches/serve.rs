//! Full transfer into a null sink, and referrals, over a zone of delegations on one core.
//!
//! `cargo bench -p cascade-publisher --bench serve`; `DELEGATIONS` in the source sets the size.

#![allow(clippy::unwrap_used)] // a failure here is the bench's finding

use std::sync::Arc;

use cascade_publisher::directory::{Directory, Role, ZoneSettings};
use cascade_publisher::{Outcome, QueryContext, Scratch, Settings, Transfer, Transport, answer};
use cascade_time::Timestamp;
use cascade_wire::{Composer, Section};
use cascade_zone::{Builder, Name, RecordBatch, Rtype, VersionId, ZoneId, ZoneVersion, key};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const DELEGATIONS: usize = 200_000;
const ZONE: ZoneId = ZoneId([1; 16]);

fn now() -> Timestamp {
    Timestamp::from_secs(1_700_000_000)
}

fn zone() -> Arc<ZoneVersion> {
    let apex = Name::parse("example").unwrap();
    let ns = |i: usize| Name::parse(&format!("ns{i}.hosting.test")).unwrap();
    let mut batch = RecordBatch::new();
    batch.owner(&[], None);
    let soa = [
        ns(0).as_wire(),
        ns(1).as_wire(),
        &7u32.to_be_bytes(),
        &[0; 16],
    ]
    .concat();
    batch.push(Rtype::SOA, 3600, &soa, 0).unwrap();
    batch.push(Rtype::NS, 3600, ns(0).as_wire(), 0).unwrap();
    for i in 0..DELEGATIONS {
        let owner = apex.child(format!("delegation-{i}").as_bytes()).unwrap();
        batch.owner(&key::key_of(&apex, owner.as_wire()).unwrap(), None);
        batch
            .push(Rtype::NS, 3600, ns(i % 50).as_wire(), 0)
            .unwrap();
        if i % 4 == 0 {
            let glue = owner.child(b"ns").unwrap();
            batch.push(Rtype::NS, 3600, glue.as_wire(), 0).unwrap();
            batch.owner(&key::key_of(&apex, glue.as_wire()).unwrap(), None);
            batch
                .push(Rtype::A, 3600, &(i as u32).to_be_bytes(), 0)
                .unwrap();
        } else {
            batch
                .push(Rtype::NS, 3600, ns(i % 50 + 1).as_wire(), 0)
                .unwrap();
        }
    }
    let builder = Builder::new(ZONE, VersionId(1), &apex, now()).batches(vec![batch]);
    Arc::new(builder.build().unwrap())
}

fn query(qname: &Name, qtype: Rtype) -> Vec<u8> {
    let mut out = Vec::new();
    let mut c = Composer::new(&mut out, 512, 1, 0);
    c.question(qname.as_wire(), qtype, 1);
    c.record_with(Section::Additional, &[0], Rtype::OPT, 1232, 0x8000, |_| {})
        .unwrap();
    c.finish();
    out
}

fn serve(c: &mut Criterion) {
    let version = zone();
    let directory = Directory::new();
    directory
        .add(ZONE, version.apex(), ZoneSettings::default())
        .unwrap();
    directory.review_unsigned(ZONE, version.clone()).unwrap();
    let settings = Settings::open();
    let ctx = |transport| QueryContext {
        role: Role::LoaderReview,
        peer: "127.0.0.1".parse().unwrap(),
        transport,
        now: now(),
        directory: &directory,
        settings: &settings,
        tls_name: None,
        limited: false,
    };
    let axfr = query(version.apex(), Rtype::AXFR);
    let start = || match answer(
        &axfr,
        &ctx(Transport::Tcp),
        &mut Scratch::default(),
        &mut Vec::new(),
    ) {
        Outcome::Transfer(request) => Transfer::new(*request),
        _ => unreachable!("a transfer was asked for and is allowed"),
    };
    let run = |mut t: Transfer| {
        let mut octets = 0;
        while let Some(m) = t.next_message(now()) {
            octets += std::hint::black_box(m).len() as u64;
        }
        (octets, t.records())
    };
    let (octets, records) = run(start());
    println!(
        "transfer: {octets} octets, {records} records, {} octets a record",
        octets / records
    );
    let mut group = c.benchmark_group("transfer");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(octets));
    group.bench_function("octets", |b| {
        b.iter_batched(start, run, BatchSize::PerIteration)
    });
    group.throughput(Throughput::Elements(records));
    group.bench_function("records", |b| {
        b.iter_batched(start, run, BatchSize::PerIteration)
    });
    group.finish();

    let mut group = c.benchmark_group("answer");
    group.throughput(Throughput::Elements(1));
    let cases = [
        ("referral", "delegation-%.example"),
        ("referral below, glue", "www.delegation-%.example"),
        ("name error", "nothing-%.example"),
    ];
    for (what, pattern) in cases {
        let queries: Vec<Vec<u8>> = (0..4096)
            .map(|i| {
                query(
                    &Name::parse(&pattern.replace('%', &(i * 4 * 11 % DELEGATIONS).to_string()))
                        .unwrap(),
                    Rtype::A,
                )
            })
            .collect();
        let (mut scratch, mut out, mut i) = (Scratch::default(), Vec::with_capacity(2048), 0);
        group.bench_function(what, |b| {
            b.iter(|| {
                out.clear();
                i = (i + 1) % queries.len();
                std::hint::black_box(answer(
                    &queries[i],
                    &ctx(Transport::Udp),
                    &mut scratch,
                    &mut out,
                ));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, serve);
criterion_main!(benches);
