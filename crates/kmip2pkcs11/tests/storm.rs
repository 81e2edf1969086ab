//! A running bridge under malformed messages, over TLS, most of them with a valid PIN: whatever
//! comes, it answers a good client afterwards, and meanwhile.
//!
//! A corpus that follows from the structure of good requests, then random messages for as long as
//! `KMIP2PKCS11_STORM_SECS` says (`cargo xtask fuzz bridge`); if it does not, 3 s of them and one in
//! seven of the corpus.
#![allow(
    clippy::disallowed_methods,
    reason = "a test waits for another process, and is told how long"
)]

#[path = "../../kmip/tests/software/mod.rs"]
#[allow(dead_code)] // Only the judge is used.
mod software;
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cascade_kmip::client::{Client, ClientSettings, ask};
use cascade_kmip::enums::{BatchErrorContinuation, ObjectType};
use cascade_kmip::payload::{RequestPayload, ResponsePayload};
use cascade_kmip::{Credential, Hash, KeyKind, Mechanism, PublicKey, SignInput, Version};
use support::{LABEL, PIN, Peer, Place};

const ECDSA: Mechanism = Mechanism::Ecdsa(Hash::Sha256);
/// Clients that send nonsense at the same time.
const SENDERS: u64 = 3;
/// Messages on one connection, as long as the bridge keeps it open.
const PER_CONNECTION: usize = 24;
/// What a good client waits for its answer at most while the storm goes on.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is waited for an answer to nonsense: there is none to what claims to be longer.
const ANSWER: Duration = Duration::from_millis(40);
/// From this many seconds on the whole corpus is sent.
const LONG: u64 = 60;
/// Resident memory, in KiB.
const MEMORY: u64 = 512 * 1024;

/// Octets from a seed (xorshift64*): a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % below.max(1)
    }
}

/// Good requests, each as its octets; `key` is the private half of a key that is there.
fn seeds(key: &str) -> Vec<Vec<u8>> {
    let input = || SignInput::Message(vec![7; 40]);
    let all: [Vec<RequestPayload>; 9] = [
        vec![ask::query()],
        vec![ask::discover_versions()],
        vec![ask::sign(key, ECDSA, input()); 2],
        vec![ask::sign(key, ECDSA, SignInput::Digest(vec![1; 32]))],
        vec![ask::sign(
            "AB_priv",
            Mechanism::RsaPkcs1(Hash::Sha512),
            input(),
        )],
        vec![
            ask::locate(ObjectType::PrivateKey, None),
            ask::attributes(&key.replace("_priv", "_pub")),
            ask::public_key(&key.replace("_priv", "_pub")),
        ],
        vec![ask::rename("AB_pub", "x"), ask::destroy("AB_pub")],
        vec![ask::activate(key), ask::revoke("AB_priv", "why")],
        vec![ask::create_key_pair(KeyKind::P256, "a", "b")],
    ];
    let octets = |payloads: Vec<RequestPayload>| {
        let mut client = Client::new(ClientSettings {
            version: Version::V1_4,
            credential: Some(Credential::new(LABEL, PIN)),
            ..ClientSettings::default()
        });
        let sent = client.send(payloads, BatchErrorContinuation::Continue);
        sent.expect("room");
        client.take_output().expect("a request").to_vec()
    };
    all.into_iter().map(octets).collect()
}

/// Where the items of a message begin; in structures, too (KMIP 1.4 §9.1.1).
fn items(message: &[u8]) -> Vec<usize> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at + 8 <= message.len() {
        found.push(at);
        let length = u32::from_be_bytes([
            message[at + 4],
            message[at + 5],
            message[at + 6],
            message[at + 7],
        ]) as usize;
        at += match message[at + 3] {
            1 => 8,
            _ => 8 + length.next_multiple_of(8),
        };
    }
    found
}

/// Octets in front of an item that is nested in this many structures.
fn nested(depth: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for left in (1..=depth).rev() {
        out.extend([0x42, 0x00, 0x78, 0x01]);
        out.extend(((left - 1) as u32 * 8).to_be_bytes());
    }
    out
}

/// What follows from the structure of good messages: each item with another type, with lengths that
/// are wrong in all ways, with extreme values, left out, twice, and the message ending in it.
fn corpus(seeds: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut out = vec![Vec::new(), vec![0; 8], vec![0xff; 64], nested(1000)];
    for seed in seeds {
        for at in items(seed) {
            let with = |from: usize, octets: &[u8]| {
                let mut changed = seed.clone();
                let end = (from + octets.len()).min(changed.len());
                changed[from..end].copy_from_slice(&octets[..end - from]);
                changed
            };
            for kind in 0..=11u8 {
                out.push(with(at + 3, &[kind]));
            }
            for length in [
                0u32,
                1,
                7,
                9,
                1 << 20,
                i32::MAX as u32,
                u32::MAX - 7,
                u32::MAX,
            ] {
                out.push(with(at + 4, &length.to_be_bytes()));
            }
            for value in [[0; 8], [0xff; 8], [0x7f; 8], [0x80, 0, 0, 0, 0, 0, 0, 0]] {
                out.push(with(at + 8, &value));
            }
            out.push(with(at, &[0x42, 0xff, 0xff]));
            out.push(seed[..at].to_vec());
            out.push(framed(
                [&seed[..at], &seed[(at + 8).min(seed.len())..]].concat(),
            ));
            out.push(framed([&seed[..at], &seed[at..], &seed[at..]].concat()));
        }
    }
    out
}

/// With a frame that is right, so that what is inside is looked at.
fn framed(mut message: Vec<u8>) -> Vec<u8> {
    if message.len() >= 8 {
        let length = (message.len() - 8) as u32;
        message[..4].copy_from_slice(&[0x42, 0x00, 0x78, 0x01]);
        message[4..8].copy_from_slice(&length.to_be_bytes());
    }
    message
}

/// A good message after a few accidents.
fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut octets = seeds[random.next(seeds.len())].clone();
    for _ in 0..=random.next(5) {
        let at = random.next(octets.len());
        match random.next(7) {
            0 => octets[at] = random.next(256) as u8,
            1 => octets[at] ^= 1 << random.next(8),
            2 => drop(octets.drain(at..(at + random.next(17)).min(octets.len()))),
            3 => octets.insert(at, random.next(256) as u8),
            4 => {
                // A piece of another message.
                let other = &seeds[random.next(seeds.len())];
                let from = random.next(other.len());
                let to = (from + random.next(65)).min(other.len());
                octets.splice(at..at, other[from..to].iter().copied());
            }
            5 => {
                let all = items(&octets);
                let at = all.get(random.next(all.len())).copied().unwrap_or(0);
                let length = [0u32, 1, 8, 24, 1 << 16, u32::MAX][random.next(6)];
                if let Some(field) = octets.get_mut(at + 4..at + 8) {
                    field.copy_from_slice(&length.to_be_bytes());
                }
            }
            _ => {
                let all = items(&octets);
                let at = all.get(random.next(all.len())).copied().unwrap_or(0);
                if let Some(kind) = octets.get_mut(at + 3) {
                    *kind = random.next(12) as u8;
                }
            }
        }
        if octets.is_empty() {
            octets.push(0x42);
        }
    }
    match random.next(3) {
        0 => octets,
        _ => framed(octets),
    }
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    messages: AtomicU64,
    answers: AtomicU64,
    good: AtomicU64,
    worst_ms: AtomicU64,
}

/// Sends what `next` gives until it gives nothing more.
fn send(place: &Place, counts: &Counts, mut next: impl FnMut() -> Option<Vec<u8>>) {
    let mut message = next();
    let (mut nth, mut failures) = (0u64, 0);
    while message.is_some() {
        nth += 1;
        if nth.is_multiple_of(50) {
            // Not even TLS.
            if let (Ok(mut tcp), Some(octets)) = (TcpStream::connect(place.addr()), &message) {
                let _ = tcp.write_all(octets);
            }
        }
        let Ok(mut peer) = place.try_connect(Credential::new(LABEL, PIN)) else {
            failures += 1;
            assert!(failures < 100, "no more connections");
            std::thread::sleep(ANSWER);
            continue;
        };
        failures = 0;
        counts.connections.fetch_add(1, Ordering::Relaxed);
        let _ = peer.stream.sock.set_read_timeout(Some(ANSWER));
        for _ in 0..PER_CONNECTION {
            let Some(octets) = message.take().or_else(&mut next) else {
                return;
            };
            counts.messages.fetch_add(1, Ordering::Relaxed);
            let sent = peer
                .stream
                .write_all(&octets)
                .and_then(|()| peer.stream.flush());
            let mut buffer = [0; 16 * 1024];
            match sent.and_then(|()| peer.stream.read(&mut buffer)) {
                Ok(n) if n > 0 => _ = counts.answers.fetch_add(1, Ordering::Relaxed),
                // Closed, or it waits for the rest of what claims to be longer.
                _ => break,
            }
        }
        message = message.or_else(&mut next);
    }
}

/// A signature on a new connection and one on an old one.
fn good_client(place: &Place, old: &mut Peer<impl Read + Write>, key: &str, public: &PublicKey) {
    let mut new = place.client();
    for n in 0..2u8 {
        let message = vec![n; 50];
        let request = ask::sign(key, ECDSA, SignInput::Message(message.clone()));
        let answer = match n {
            0 => new.good(request),
            _ => old.good(request),
        };
        let ResponsePayload::Sign { signature, .. } = answer else {
            panic!("{answer:?}");
        };
        assert!(software::verify(public, ECDSA, &message, &signature));
    }
}

/// Destroys what the storm has made.
fn tidy(peer: &mut Peer<impl Read + Write>, key: &str) {
    let own = key.trim_end_matches("_priv");
    for kind in [ObjectType::PrivateKey, ObjectType::PublicKey] {
        let ResponsePayload::Locate { ids, .. } = peer.good(ask::locate(kind, None)) else {
            panic!("locate");
        };
        for id in ids.iter().filter(|id| !id.starts_with(own)) {
            let _ = peer.ask(ask::destroy(id));
        }
    }
}

fn memory(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let number = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

#[test]
fn a_storm_of_malformed_messages() {
    let Some(place) = Place::new() else { return };
    let secs = std::env::var("KMIP2PKCS11_STORM_SECS");
    let secs = secs.ok().and_then(|s| s.parse().ok()).unwrap_or(3u64);
    let mut running = place.start();
    let mut peer = place.client();
    let made = peer.good(ask::create_key_pair(KeyKind::P256, "good-pri", "good-pub"));
    let ResponsePayload::CreateKeyPair { private, public } = made else {
        panic!("{made:?}");
    };
    let ResponsePayload::Get { key, .. } = peer.good(ask::public_key(&public)) else {
        panic!("a public key");
    };
    let public = PublicKey::from_key_block(&key).expect("a key");
    let seeds = seeds(&private);
    let step = if secs < LONG { 7 } else { 1 };
    let corpus: Vec<Vec<u8>> = corpus(&seeds).into_iter().step_by(step).collect();
    let (counts, over) = (Counts::default(), AtomicBool::new(false));
    let fixed = Mutex::new(corpus.iter());
    let most = Mutex::new(0u64);
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (place, counts, seeds, fixed, over) = (&place, &counts, &seeds, &fixed, &over);
            scope.spawn(move || {
                let from_corpus = || fixed.lock().expect("no panic").next().cloned();
                send(place, counts, from_corpus);
                let end = Instant::now() + Duration::from_secs(secs);
                let mut random = Random(0x5EED_0000_0001 + sender * 0x9E37_79B9);
                send(place, counts, || {
                    (Instant::now() < end).then(|| mutated(seeds, &mut random))
                });
                over.store(true, Ordering::Release);
            });
        }
        // A good client, meanwhile.
        while !over.load(Ordering::Acquire) {
            let begun = Instant::now();
            good_client(&place, &mut peer, &private, &public);
            let took = begun.elapsed();
            assert!(took < PATIENCE, "{took:?}");
            counts.good.fetch_add(2, Ordering::Relaxed);
            let ms = took.as_millis() as u64;
            counts.worst_ms.fetch_max(ms, Ordering::Relaxed);
            tidy(&mut peer, &private);
            let now = memory(running.pid());
            let mut most = most.lock().expect("no panic");
            *most = now.max(*most);
            assert!(*most < MEMORY, "{most} KiB");
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert!(running.is_alive(), "it ended:\n{}", running.log());
    assert!(!running.log().contains("panicked"));
    good_client(&place, &mut peer, &private, &public);
    let n = |c: &AtomicU64| c.load(Ordering::Relaxed);
    eprintln!(
        "storm: {} messages of a corpus, {} in all on {} connections, {} answered; {} signatures for a good client meanwhile, the slowest pair {} ms; at most {} KiB resident",
        corpus.len(),
        n(&counts.messages),
        n(&counts.connections),
        n(&counts.answers),
        n(&counts.good),
        n(&counts.worst_ms),
        most.lock().expect("no panic"),
    );
    assert!(n(&counts.messages) >= corpus.len() as u64);
    assert!(n(&counts.answers) > 100, "most is looked at");
    drop(peer);
    assert_eq!(running.stop(), Some(0));
}
