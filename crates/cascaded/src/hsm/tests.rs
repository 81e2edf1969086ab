//! The store against a KMIP server over TLS whose token has its troubles.

#[path = "../../../kmip/tests/software/mod.rs"]
mod software;
#[path = "../../../kmip/tests/software/trouble.rs"]
mod trouble;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use cascade_crypto::{
    Algorithm, Batch, Class, KeySpec, KeyStore, Mode, NewKey, Role, SignFailure, Signatures,
    SigningKey, StoredKey, verify,
};
use cascade_kmip::link::{LinkSettings, Pool, Timeouts, Trust};
use cascade_time::{Clock, Timestamp};
use cascade_zone::{KeyId, Name, ZoneId};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use trouble::Host;

use super::device::{Condition, Device, Event, World};
use super::label::LabelRule;
use super::reference::Reference;
use super::store::{HsmStore, objects};
use crate::keys::zone_ref;
use cascade_program::clock::SystemClock;

struct Bench {
    host: Host,
    rt: Runtime,
    device: Arc<Device>,
    store: HsmStore,
    events: mpsc::UnboundedReceiver<Event>,
    zone: Name,
}

fn link(host: &Host) -> LinkSettings {
    LinkSettings {
        trust: Trust::FirstSeen(None),
        credential: Some(cascade_kmip::Credential::new("LocalHSM", "1234")),
        timeouts: Timeouts {
            read: Duration::from_secs(5),
            ..Timeouts::default()
        },
        ..LinkSettings::new("127.0.0.1", host.address.port())
    }
}

impl Bench {
    fn new() -> Bench {
        let host = Host::new();
        let rt = Runtime::new().unwrap();
        let (send, events) = mpsc::unbounded_channel();
        let world = World {
            on: rt.handle().clone(),
            compute: Arc::new(
                rayon::ThreadPoolBuilder::new()
                    .num_threads(2)
                    .build()
                    .unwrap(),
            ),
            clock: Arc::new(SystemClock::new()),
            events: send,
        };
        let labels = LabelRule {
            prefix: "dns-".into(),
            max: 64,
        };
        let device = Device::new(
            "vault",
            Pool::start(link(&host), rt.handle()),
            labels,
            world,
        );
        let watch = super::monitor::watch(Arc::downgrade(&device), super::Pending::new(Vec::new()));
        rt.spawn(watch);
        Bench {
            store: HsmStore::new(device.clone()),
            host,
            rt,
            device,
            events,
            zone: Name::parse("example.net").unwrap(),
        }
    }

    fn generate(&self, n: u8, role: Role, spec: &str) -> StoredKey {
        self.try_generate(n, role, spec).unwrap()
    }

    fn try_generate(
        &self,
        n: u8,
        role: Role,
        spec: &str,
    ) -> Result<StoredKey, cascade_crypto::KeyError> {
        let spec: KeySpec = spec.parse().unwrap();
        let made = self.store.generate(&NewKey {
            id: KeyId([n; 16]),
            zone: zone_ref(ZoneId([1; 16]), &self.zone),
            role,
            spec,
            taken_tags: &[],
            tag_range: 0..=65535,
            labelling: cascade_crypto::Labelling::Auto,
            now: Timestamp::EPOCH,
        });
        made.map(|(key, _)| key)
    }

    fn load(&self, n: u8, key: &StoredKey) -> Arc<dyn SigningKey> {
        let zone = zone_ref(ZoneId([1; 16]), &self.zone);
        self.store.load(KeyId([n; 16]), zone, key).unwrap()
    }

    fn wait_event(&mut self, wanted: impl Fn(&Event) -> bool) {
        let events = &mut self.events;
        self.rt.block_on(async {
            let all = async {
                while let Some(e) = events.recv().await {
                    if wanted(&e) {
                        return;
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(20), all)
                .await
                .expect("the event comes");
        });
    }
}

fn messages(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|i| format!("record {i}").into_bytes()).collect()
}

fn sign(
    key: &dyn SigningKey,
    class: Class,
    messages: &[Vec<u8>],
) -> Result<Signatures, SignFailure> {
    let mut batch = Batch::new(key.input());
    messages.iter().for_each(|m| assert!(batch.push(m)));
    let Mode::Queued(signer) = key.mode() else {
        panic!("keys in an HSM queue");
    };
    let (send, receive) = std_mpsc::channel();
    let deadline = SystemClock::new().now() + Duration::from_secs(10);
    signer.submit(
        batch,
        class,
        deadline,
        Box::new(move |_, r| drop(send.send(r))),
    );
    receive.recv_timeout(Duration::from_secs(20)).unwrap()
}

fn assert_all_right(key: &dyn SigningKey, messages: &[Vec<u8>], signatures: &Signatures) {
    for (i, m) in messages.iter().enumerate() {
        let signature = signatures.get(i).expect("each is there");
        assert!(verify(key.dnskey(), m, signature), "{i}");
    }
}

#[test]
fn keys_of_every_algorithm_live_their_lives() {
    let b = Bench::new();
    for (n, spec) in [
        "ECDSAP256SHA256",
        "ECDSAP384SHA384",
        "ED25519",
        "RSASHA256:2048",
        "RSASHA512:2048",
    ]
    .into_iter()
    .enumerate()
    {
        let key = b.generate(n as u8, Role::Ksk, spec);
        let number = key.dnskey.algorithm_number();
        let reference = Reference::parse(&key.reference).unwrap();
        assert_eq!((reference.hsm.as_str(), reference.flags), ("vault", 257));
        assert!(
            key.reference
                .ends_with(&format!("_pub?algorithm={number}&flags=257"))
        );
        let signer = b.load(n as u8, &key);
        let m = messages(100);
        let signatures = sign(&*signer, Class::Normal, &m).unwrap();
        assert_all_right(&*signer, &m, &signatures);
        let tag = key.dnskey.key_tag();
        let labels: Vec<String> = objects(&b.device)
            .unwrap()
            .into_iter()
            .filter_map(|o| o.label)
            .collect();
        assert!(
            labels.contains(&format!("dns-example.net-{tag}-ksk-pri")),
            "{labels:?}"
        );
        let zone = zone_ref(ZoneId([1; 16]), &b.zone);
        assert_eq!(
            b.store.find(zone, &key.dnskey).unwrap().as_ref(),
            Some(&key)
        );
        if spec != "RSASHA512:2048" {
            assert_eq!(b.store.list(zone).unwrap(), std::slice::from_ref(&key));
        }
        b.store.destroy(zone, &key).unwrap();
        b.store.destroy(zone, &key).unwrap();
        assert_eq!(b.host.token.objects_left(), 0);
        assert_eq!(b.store.find(zone, &key.dnskey).unwrap(), None);
    }
}

#[test]
fn one_lie_is_signed_again_and_two_close_the_door_except_in_need() {
    let mut b = Bench::new();
    let key = b.generate(1, Role::Zsk, "ECDSAP256SHA256");
    let signer = b.load(1, &key);
    let m = messages(200);
    let lie = |every| b.host.token.lie_every.store(every, Ordering::Relaxed);
    // Of the next 200 exactly one is wrong.
    let signed = b.host.token.signed.load(Ordering::Relaxed);
    lie(signed + 150);
    let signatures = sign(&*signer, Class::Normal, &m).unwrap();
    assert_all_right(&*signer, &m, &signatures);
    assert_eq!(b.host.token.lies.load(Ordering::Relaxed), 1);
    assert_eq!(b.device.counts.wrong.load(Ordering::Relaxed), 1);
    assert_eq!(b.device.condition(), Condition::Up);
    lie(50);
    let _ = sign(&*signer, Class::Normal, &m);
    lie(0);
    assert!(matches!(
        b.device.condition(),
        Condition::Quarantined { .. }
    ));
    let refused = sign(&*signer, Class::Interactive, &m);
    assert!(
        matches!(refused, Err(SignFailure::Unproven { .. })),
        "{refused:?}"
    );
    // Before signatures expire, those that verify are welcome.
    let signatures = sign(&*signer, Class::Critical, &m).unwrap();
    assert_all_right(&*signer, &m, &signatures);
    b.wait_event(|e| matches!(e, Event::Quarantined { hsm, .. } if hsm == "vault"));
    b.device.release();
    assert_eq!(b.device.condition(), Condition::Up);
    assert!(sign(&*signer, Class::Normal, &m).is_ok());
}

#[test]
fn a_token_that_always_lies_makes_no_key() {
    let b = Bench::new();
    b.host.token.lie_every.store(2, Ordering::Relaxed);
    let e = b.try_generate(1, Role::Ksk, "ECDSAP256SHA256").unwrap_err();
    assert!(
        matches!(e, cascade_crypto::KeyError::Unproven { .. }),
        "{e}"
    );
    assert_eq!(b.host.token.objects_left(), 0, "nothing is left of it");
}

#[test]
fn away_and_back() {
    let mut b = Bench::new();
    let key = b.generate(1, Role::Ksk, "ECDSAP256SHA256");
    let signer = b.load(1, &key);
    b.wait_event(|e| matches!(e, Event::Back { .. }));
    b.host.stop();
    let failed = sign(&*signer, Class::Normal, &messages(3)).unwrap_err();
    assert!(matches!(failed, SignFailure::Away { .. }), "{failed}");
    assert!(
        failed.to_string().contains("HSM 'vault' is away"),
        "{failed}"
    );
    b.wait_event(|e| matches!(e, Event::Away { .. }));
    assert!(matches!(b.device.condition(), Condition::Away { .. }));
    assert!(matches!(
        b.try_generate(2, Role::Zsk, "ED25519"),
        Err(cascade_crypto::KeyError::Away { .. })
    ));
    // A start of the daemon while the HSM is away: nothing is taken on trust.
    b.device
        .forget(&Reference::parse(&key.reference).unwrap().private);
    let zone = zone_ref(ZoneId([1; 16]), &b.zone);
    let e = b.store.load(KeyId([1; 16]), zone, &key).err().unwrap();
    assert!(matches!(e, cascade_crypto::KeyError::Away { .. }), "{e}");
    b.host.start();
    b.wait_event(|e| matches!(e, Event::Back { .. }));
    let m = messages(200);
    // The key from before the outage proves itself again by itself; so does one loaded anew.
    for signer in [signer, b.load(1, &key)] {
        let signatures = sign(&*signer, Class::Normal, &m).unwrap();
        assert_all_right(&*signer, &m, &signatures);
    }
}

#[test]
fn a_token_taken_out_and_put_back() {
    let mut b = Bench::new();
    let key = b.generate(1, Role::Ksk, "ECDSAP256SHA256");
    let signer = b.load(1, &key);
    b.wait_event(|e| matches!(e, Event::Back { .. }));
    b.host.token.away.store(true, Ordering::Relaxed);
    assert!(sign(&*signer, Class::Normal, &messages(3)).is_err());
    b.wait_event(|e| matches!(e, Event::Away { why, .. } if why.contains("HSM unavailable")));
    b.host.token.away.store(false, Ordering::Relaxed);
    b.wait_event(|e| matches!(e, Event::Back { .. }));
    assert!(sign(&*signer, Class::Normal, &messages(3)).is_ok());
}

#[test]
fn another_key_under_the_same_name_signs_nothing() {
    let b = Bench::new();
    let key = b.generate(1, Role::Ksk, "ECDSAP256SHA256");
    let other = b.generate(2, Role::Ksk, "ECDSAP256SHA256");
    // As after a restore of the wrong backup: the name is there, the key is another.
    let mixed = StoredKey {
        reference: other.reference,
        dnskey: key.dnskey,
    };
    let zone = zone_ref(ZoneId([1; 16]), &b.zone);
    let e = b.store.load(KeyId([3; 16]), zone, &mixed).err().unwrap();
    assert!(
        matches!(e, cascade_crypto::KeyError::Unproven { .. }),
        "{e}"
    );
    let wrong_hsm = StoredKey {
        reference: mixed.reference.replace("vault", "other"),
        ..mixed
    };
    let e = b
        .store
        .load(KeyId([3; 16]), zone, &wrong_hsm)
        .err()
        .unwrap();
    assert!(
        matches!(e, cascade_crypto::KeyError::BadReference(_)),
        "{e}"
    );
    assert_eq!(Algorithm::from_number(13), Some(Algorithm::EcdsaP256Sha256));
}
