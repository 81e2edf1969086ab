//! Parsing of a generated registry zone, in octets per second on one thread.

use std::fmt::Write;

use cascade_loader::{Full, ParseOptions, RecordSink, parse_bytes};
use cascade_zone::{Name, RecordBatch, Rtype};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// 100,000 delegations with two name servers each, DS for 40 %, glue for 5 %.
fn registry() -> String {
    let mut zone = String::from(
        "$TTL 3600\n@ IN SOA ns1.nic.example. admin.nic.example. 1 7200 3600 1209600 300\n@ IN NS ns1.nic.example.\n\
         ns1.nic IN A 192.0.2.1\n",
    );
    let mut seed = 1u64;
    for i in 0..100_000 {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let r = seed >> 33;
        let name = format!("{:x}-domain{i}", r % 0xffff);
        let host = r % 5000;
        // Writing to a String cannot fail.
        let _ = writeln!(
            zone,
            "{name}.example.\t86400\tIN\tNS\tns1.hoster{host}.net."
        );
        let _ = writeln!(
            zone,
            "{name}.example.\t86400\tIN\tNS\tns2.hoster{host}.net."
        );
        if r.is_multiple_of(5) || r % 5 == 1 {
            let _ = writeln!(
                zone,
                "{name}.example.\t3600\tIN\tDS\t{} 13 2 {r:064X}",
                r % 65536
            );
        }
        if r % 20 == 7 {
            let _ = writeln!(
                zone,
                "ns.{name}.example.\t86400\tIN\tA\t192.0.2.{}",
                r % 256
            );
        }
    }
    zone
}

/// Counts and forgets: what parsing alone costs.
#[derive(Default)]
struct Count(u64);

impl RecordSink for Count {
    fn owner(&mut self, key: &[u8], _: Option<&[u8]>) {
        self.0 += key.len() as u64;
    }
    fn record(&mut self, _: Rtype, _: u32, rdata: &[u8], _: u32) -> Result<(), Full> {
        self.0 += rdata.len() as u64;
        Ok(())
    }
}

fn parse(c: &mut Criterion) {
    let zone = registry().into_bytes();
    let apex = Name::parse("example.").unwrap_or_else(|_| Name::root());
    let options = ParseOptions::default();
    let one = match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
        Ok(pool) => pool,
        Err(e) => return eprintln!("no thread pool: {e}"),
    };
    let mut group = c.benchmark_group("parse");
    group
        .throughput(Throughput::Bytes(zone.len() as u64))
        .sample_size(20);
    group.bench_function("one thread, counting", |b| {
        b.iter(|| {
            one.install(|| parse_bytes::<Count>(zone.clone(), "zone", &apex, &options).records)
        });
    });
    group.bench_function("one thread, into batches", |b| {
        b.iter(|| {
            one.install(|| {
                parse_bytes::<RecordBatch>(zone.clone(), "zone", &apex, &options).records
            })
        });
    });
    group.bench_function("all threads, into batches", |b| {
        b.iter(|| parse_bytes::<RecordBatch>(zone.clone(), "zone", &apex, &options).records);
    });
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
