//! Full signing of a delegation zone: with a real key, and with one that does no cryptography, so
//! that everything else shows.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use cascade_crypto::dnskey::Role;
use cascade_crypto::{
    Algorithm, Batch, Class, Dnskey, InlineSigner, Input, Mode, SignFailure, Signatures,
    SigningKey, SoftwareKey,
};
use cascade_signer::*;
use cascade_time::{SimClock, Timestamp};
use cascade_zone::{
    Builder, KeyId, Name, RecordBatch, Rtype, Serial, VersionId, ZoneId, ZoneVersion, key,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

struct NullKey(Dnskey);

impl SigningKey for NullKey {
    fn id(&self) -> KeyId {
        KeyId([1; 16])
    }
    fn dnskey(&self) -> &Dnskey {
        &self.0
    }
    fn algorithm(&self) -> Algorithm {
        Algorithm::EcdsaP256Sha256
    }
    fn sig_len(&self) -> usize {
        64
    }
    fn input(&self) -> Input {
        Input::Preimage
    }
    fn mode(&self) -> Mode<'_> {
        Mode::Inline(self)
    }
}

impl InlineSigner for NullKey {
    fn sign_batch(&self, batch: &Batch, out: &mut Signatures) -> Result<(), SignFailure> {
        out.reset(64, batch.len());
        (0..batch.len()).for_each(|i| out.fill(i, |_| true));
        Ok(())
    }
}

/// n delegations with two name servers, 40 % of them secure.
fn delegations(n: u32) -> ZoneVersion {
    let apex = Name::parse("example").unwrap();
    let mut batch = RecordBatch::new();
    let wire = |t: &str| Name::parse(t).unwrap().as_wire().to_vec();
    batch.owner(&[], None);
    let mut soa = [wire("ns.example"), wire("h.example")].concat();
    [1u32, 3600, 300, 3_600_000, 900]
        .iter()
        .for_each(|v| soa.extend(v.to_be_bytes()));
    batch.push(Rtype::SOA, 3600, &soa, 0).unwrap();
    let mut owner = Vec::new();
    for i in 0..n {
        owner.clear();
        key::push_label(
            format!("d{:08x}", i.wrapping_mul(0x9e37_79b9)).as_bytes(),
            &mut owner,
        );
        batch.owner(&owner, None);
        for ns in ["ns1", "ns2"] {
            let target = wire(&format!("{ns}.provider{}.example", i % 97));
            batch.push(Rtype::NS, 3600, &target, 0).unwrap();
        }
        if i % 5 < 2 {
            let mut ds = vec![1, 2, 13, 2];
            ds.extend([i as u8; 32]);
            batch.push(Rtype::DS, 3600, &ds, 0).unwrap();
        }
    }
    let at = Timestamp::from_secs(1_764_000_000);
    Builder::new(ZoneId([1; 16]), VersionId(1), &apex, at)
        .batches(vec![batch])
        .build()
        .unwrap()
}

fn plan(
    base: &ZoneVersion,
    key: Arc<dyn SigningKey>,
    denial: DenialPlan,
    now: Timestamp,
) -> SigningPlan {
    let apex_key = ApexKey {
        dnskey: key.dnskey().clone(),
        role: Role::Csk,
        signer: Some(key),
        wanted_at_parent: false,
    };
    let options = ApexOptions {
        ttl: 3600,
        cds: vec![],
        cdnskey: false,
        lifetime: 14 * 86_400,
        inception_offset: 86_400,
    };
    SigningPlan {
        version: VersionId(2),
        serial: Serial(2),
        apex: make_apex_set(base.apex(), &[apex_key], &options, now).unwrap(),
        denial,
        zonemd: None,
        times: Times::default(),
        clock: ClockGuard {
            built_at: now,
            newest_inception: None,
        },
        requested_at: now,
        reasons: vec![],
    }
}

fn full(c: &mut Criterion) {
    const N: u32 = 20_000;
    let now = Timestamp::from_secs(1_764_000_000);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap();
    let base = pool.install(|| delegations(N));
    let real: Arc<dyn SigningKey> =
        Arc::new(SoftwareKey::generate(KeyId([1; 16]), 257, "13".parse().unwrap()).unwrap());
    let null: Arc<dyn SigningKey> = Arc::new(NullKey(real.dnskey().clone()));
    let nsec3 = |opt_out| DenialPlan::Nsec3 {
        iterations: 0,
        salt: vec![],
        opt_out,
    };
    let mut group = c.benchmark_group("full");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(N as u64));
    for (name, denial) in [
        ("nsec", DenialPlan::Nsec),
        ("nsec3", nsec3(false)),
        ("opt-out", nsec3(true)),
    ] {
        for (kind, key) in [("null", &null), ("p256", &real)] {
            let plan = plan(&base, key.clone(), denial.clone(), now);
            group.bench_function(format!("{name}/{kind}"), |b| {
                b.iter(|| {
                    let (clock, progress) = (SimClock::new(now), Progress::new());
                    let job = Job {
                        pool: &pool,
                        clock: &clock,
                        progress: &progress,
                        class: Class::Bulk,
                        token_wait: Duration::from_secs(1),
                    };
                    sign(&base, &plan, &job, now)
                        .unwrap()
                        .version
                        .sums()
                        .records
                })
            });
        }
    }
    group.finish();
}

criterion_group!(benches, full);
criterion_main!(benches);
