//! What an HSM can do: throw-away keys that are used and destroyed, and signatures a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cascade_crypto::{Algorithm, KeyError, KeySpec, KeyStore, NewKey, Role, StoredKey, ZoneRef};
use cascade_kmip::client::ask;
use cascade_kmip::enums::BatchErrorContinuation;
use cascade_kmip::link::{Call, Outcome};
use cascade_kmip::payload::ResponsePayload;
use cascade_zone::{KeyId, Name, ZoneId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::device::Device;
use super::gather::Target;
use super::kind::sign_input;
use super::store::HsmStore;

/// Names keys that belong to no zone (RFC 6761 §6.4).
const NOWHERE: &str = "test.invalid";
/// Latencies kept of one run.
const SAMPLES: usize = 100_000;
/// Requests on the way for each connection: one that the HSM works on, and one that waits for it. More signatures at a
/// time go into larger requests, as they do when a zone is signed.
const REQUESTS: usize = 2;

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub parallel: usize,
    pub signatures: u64,
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
}

/// A key that is destroyed in the end.
pub struct ThrowAway {
    store: HsmStore,
    key: StoredKey,
    nowhere: Name,
}

impl ThrowAway {
    /// Makes and proves it. For threads that may block.
    ///
    /// # Errors
    /// Nothing is left on the token then, or it is destroyed later.
    pub fn new(device: &Arc<Device>, algorithm: Algorithm) -> Result<ThrowAway, KeyError> {
        let store = HsmStore::new(device.clone());
        let nowhere = Name::parse(NOWHERE).map_err(|_| KeyError::BadReference(NOWHERE.into()))?;
        let (key, _) = store.generate(&NewKey {
            id: KeyId(crate::daemon::random()),
            zone: zone(&nowhere),
            role: Role::Zsk,
            spec: KeySpec::new(algorithm),
            taken_tags: &[],
            tag_range: 0..=u16::MAX,
            labelling: cascade_crypto::Labelling::Auto,
            now: device.now(),
        })?;
        Ok(ThrowAway {
            store,
            key,
            nowhere,
        })
    }

    pub fn destroy(self) -> Result<(), KeyError> {
        self.store.destroy(zone(&self.nowhere), &self.key)
    }

    pub fn target(&self) -> Result<Target, KeyError> {
        self.store.target_of(&self.key)
    }
}

fn zone(name: &Name) -> ZoneRef<'_> {
    ZoneRef {
        id: ZoneId([0; 16]),
        name,
    }
}

/// Signs with `parallel` signatures under way for this long. `None` if none succeeded.
pub async fn run(
    device: &Arc<Device>,
    target: &Target,
    parallel: usize,
    span: Duration,
) -> Option<Run> {
    let pool = device.pool();
    let requests = REQUESTS * pool.settings().connections.max(1);
    let each = parallel.div_ceil(requests).max(1);
    let limit = pool.sign_batch(target.private.len(), target.sig_len);
    let each = each.min(limit);
    let requests = parallel.div_ceil(each);
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let signed = Arc::new(AtomicU64::new(0));
    let begin = tokio::time::Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for nth in 0..requests {
        let (device, target) = (device.clone(), target.clone());
        let (latencies, signed) = (latencies.clone(), signed.clone());
        tasks.spawn(async move {
            let mut round = 0u64;
            while begin.elapsed() < span {
                round += 1;
                let sent = tokio::time::Instant::now();
                let good = once(&device, &target, each, (nth as u64) << 32 | round).await;
                if good == 0 {
                    return;
                }
                signed.fetch_add(good, Ordering::Relaxed);
                let mut latencies = latencies.lock();
                if latencies.len() < SAMPLES {
                    latencies.push(sent.elapsed());
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    let took = begin.elapsed().as_secs_f64();
    let signatures = signed.load(Ordering::Relaxed);
    let mut latencies = std::mem::take(&mut *latencies.lock());
    latencies.sort_unstable();
    let at = |percent: usize| latencies.get(latencies.len() * percent / 100).copied();
    Some(Run {
        parallel,
        signatures,
        per_second: signatures as f64 / took,
        p50: at(50)?,
        p99: at(99)?,
    })
}

/// One request; how many of its signatures came back.
async fn once(device: &Device, target: &Target, items: usize, seed: u64) -> u64 {
    let digests = device.takes_digests();
    let payload = |i: usize| {
        let message = format!("cascade bench {seed} {i}");
        let input = sign_input(target.mechanism, message.as_bytes(), digests);
        ask::sign(&target.private, target.mechanism, input)
    };
    let (send, receive) = oneshot::channel();
    device.submit(Call {
        payloads: (0..items).map(payload).collect(),
        on_error: BatchErrorContinuation::Continue,
        // Below all signing of zones.
        class: 0,
        group: 0,
        instance: None,
        patience: Duration::from_secs(30),
        done: Box::new(move |outcome| drop(send.send(outcome))),
    });
    match receive.await {
        Ok(Outcome::Answered { answers, .. }) => answers
            .iter()
            .filter(|a| matches!(a, Ok(ResponsePayload::Sign { .. })))
            .count() as u64,
        _ => 0,
    }
}
