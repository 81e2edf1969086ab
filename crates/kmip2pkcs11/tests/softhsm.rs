//! The program in front of SoftHSM, asked by our own client half.
#![allow(
    clippy::disallowed_methods,
    reason = "a test waits for another process"
)]

#[path = "../../kmip/tests/software/mod.rs"]
#[allow(dead_code)] // Only the judge is used.
mod software;
mod support;

use cascade_kmip::attribute::AttributeValue;
use cascade_kmip::client::ask;
use cascade_kmip::enums::{ObjectType, State};
use cascade_kmip::payload::ResponsePayload;
use cascade_kmip::{Credential, Hash, KeyKind, Mechanism, PublicKey, SignInput};
use std::io::{Read, Write};
use std::process::Command;
use support::{LABEL, PIN, Peer, Place, until};

/// Each kind of key with its way to sign.
const KINDS: [(KeyKind, Mechanism); 5] = [
    (KeyKind::P256, Mechanism::Ecdsa(Hash::Sha256)),
    (KeyKind::P384, Mechanism::Ecdsa(Hash::Sha384)),
    (KeyKind::Ed25519, Mechanism::Ed25519),
    (
        KeyKind::Rsa { bits: 2048 },
        Mechanism::RsaPkcs1(Hash::Sha256),
    ),
    (
        KeyKind::Rsa { bits: 2048 },
        Mechanism::RsaPkcs1(Hash::Sha512),
    ),
];

fn make<S: Read + Write>(peer: &mut Peer<S>, kind: KeyKind, name: &str) -> (String, String) {
    let request = ask::create_key_pair(kind, &format!("{name}-pri"), &format!("{name}-pub"));
    match peer.good(request) {
        ResponsePayload::CreateKeyPair { private, public } => (private, public),
        other => panic!("{other:?}"),
    }
}

fn public_key<S: Read + Write>(peer: &mut Peer<S>, id: &str) -> PublicKey {
    match peer.good(ask::public_key(id)) {
        ResponsePayload::Get { key, .. } => PublicKey::from_key_block(&key).expect("key"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_live_sign_and_die() {
    let Some(place) = Place::new() else { return };
    let running = place.start();
    let mut peer = place.client();
    for (kind, mechanism) in KINDS {
        let (private, public) = make(&mut peer, kind, "example.net");
        let hex = private.strip_suffix("_priv").expect("suffix");
        assert_eq!(public, format!("{hex}_pub"));
        assert!(hex.len() == 40 && !hex.contains(|c: char| c.is_ascii_lowercase()));
        peer.good(ask::activate(&private));
        let key = public_key(&mut peer, &public);
        assert_eq!(key.kind(), kind);
        let message = |n: usize| vec![n as u8; 20 + n];
        let batch = (0..100)
            .map(|n| ask::sign(&private, mechanism, SignInput::Message(message(n))))
            .collect();
        for (n, answer) in peer.ask_all(batch).into_iter().enumerate() {
            let Ok(ResponsePayload::Sign { signature, .. }) = answer else {
                panic!("{kind:?} {n}: {answer:?}");
            };
            assert!(software::verify(&key, mechanism, &message(n), &signature));
        }
        peer.good(ask::rename(&private, "example.net-12345-zsk-pri"));
        let located = peer.good(ask::locate(
            ObjectType::PrivateKey,
            Some("example.net-12345-zsk-pri"),
        ));
        let ResponsePayload::Locate { ids, .. } = located else {
            panic!("{located:?}");
        };
        assert_eq!(ids, std::slice::from_ref(&private));
        let ResponsePayload::GetAttributes { attributes, .. } =
            peer.good(ask::attributes(&private))
        else {
            panic!("attributes");
        };
        assert!(
            attributes
                .iter()
                .any(|a| a.value == AttributeValue::State(State::Active))
        );
        peer.good(ask::revoke(&private, "rolled"));
        for id in [&private, &public] {
            peer.good(ask::destroy(id));
            // Already gone is success.
            peer.good(ask::destroy(id));
        }
        let gone = peer.ask(ask::sign(
            &private,
            mechanism,
            SignInput::Message(message(1)),
        ));
        assert!(gone.expect_err("gone").is_gone());
    }
    assert!(running.log().contains("made a P-256 key"));
    assert!(!running.log().contains(PIN), "no PIN in the log");
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn the_page_s_texts_and_what_other_tools_see() {
    let Some(mut place) = Place::new() else {
        return;
    };
    // The name by which the module is configured counts, as on the page.
    let link = place.dir.path().join("nethsm-pkcs11.so");
    std::os::unix::fs::symlink(&place.module, &link).expect("link");
    place.module = link;
    place.write_config("");
    let running = place.start();
    // The page's user name: the slot's index.
    let mut peer = place.connect(Credential::new("0", PIN));
    let ResponsePayload::Query(query) = peer.good(ask::query()) else {
        panic!("query");
    };
    let vendor = query.vendor.expect("vendor");
    let start = format!(
        "kmip2pkcs11 {} using PKCS#11 token with label {LABEL} in slot SoftHSM slot ID 0x",
        env!("CARGO_PKG_VERSION")
    );
    assert!(vendor.starts_with(&start), "{vendor}");
    assert!(
        vendor.ends_with(" via library nethsm-pkcs11.so"),
        "{vendor}"
    );
    let (private, public) = make(&mut peer, KeyKind::P256, "example.net-31203-csk");
    let before = public_key(&mut peer, &public);

    let list = Command::new("pkcs11-tool")
        .arg("--module")
        .arg(&place.module)
        .args(["--login", "--pin", PIN, "--list-objects"])
        .env("SOFTHSM2_CONF", place.softhsm_conf())
        .output();
    if let Ok(list) = list {
        let text = String::from_utf8_lossy(&list.stdout).into_owned();
        let id = private.strip_suffix("_priv").expect("id").to_lowercase();
        let ascii: String = id.bytes().map(|o| format!("{o:02x}")).collect();
        assert_eq!(text.matches(&ascii).count(), 2, "{text}");
        assert!(text.contains("example.net-31203-csk-pri"), "{text}");
        assert!(
            text.contains("sensitive, always sensitive, never extractable"),
            "{text}"
        );
    }

    // The same identifier means the same key after a restart.
    drop(peer);
    assert_eq!(running.stop(), Some(0));
    let running = place.start();
    let mut peer = place.client();
    assert_eq!(public_key(&mut peer, &public), before);
    let mechanism = Mechanism::Ecdsa(Hash::Sha256);
    let input = SignInput::Message(b"again".to_vec());
    let ResponsePayload::Sign { signature, .. } = peer.good(ask::sign(&private, mechanism, input))
    else {
        panic!("sign");
    };
    assert!(software::verify(&before, mechanism, b"again", &signature));
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn who_has_another_pin_is_refused_although_the_token_is_open() {
    let Some(place) = Place::new() else { return };
    let running = place.start();
    let refused = |credential: Credential| {
        let mut peer = place.connect(credential);
        peer.ask(ask::query()).expect_err("refused").to_string()
    };
    let first = refused(Credential::new(LABEL, "wrong1"));
    assert!(first.contains("login refused"), "{first}");
    place.client().good(ask::query());
    let other = refused(Credential::new(LABEL, "wrong2"));
    assert!(
        other.contains("not the one that opened this token"),
        "{other}"
    );
    let nobody = refused(Credential::new("no such token", PIN));
    assert!(nobody.contains(LABEL), "the slots are listed: {nobody}");
    place.client().good(ask::query());
    assert!(!running.log().contains("wrong1"), "no PIN in the log");
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn idle_clients_delay_nobody() {
    let Some(place) = Place::new() else { return };
    let running = place.start();
    let _silent = std::net::TcpStream::connect(place.addr()).expect("connect");
    let mut half = place.client();
    half.stream.write_all(&[0x42, 0, 0x78]).expect("write");
    half.stream.flush().expect("flush");
    let mut idle = place.client();
    idle.good(ask::query());
    let begun = std::time::Instant::now();
    place.client().good(ask::query());
    assert!(begun.elapsed().as_millis() < 2000, "{:?}", begun.elapsed());
    assert_eq!(running.stop(), Some(0));
}

/// Octets from a seed (xorshift64*): a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % below
    }
}

#[test]
fn nothing_malformed_ends_it() {
    use cascade_kmip::client::{Client, ClientSettings};
    use cascade_kmip::enums::BatchErrorContinuation;
    let Some(place) = Place::new() else { return };
    let mut running = place.start();
    let mut client = Client::new(ClientSettings {
        credential: Some(Credential::new(LABEL, PIN)),
        max_in_flight: 100,
        ..ClientSettings::default()
    });
    let mechanism = Mechanism::Ecdsa(Hash::Sha256);
    let input = SignInput::Message(vec![7; 40]);
    let mut corpus = Vec::new();
    for payloads in [
        vec![ask::query()],
        vec![ask::discover_versions()],
        vec![ask::create_key_pair(KeyKind::P256, "a", "b")],
        vec![ask::sign("AB_priv", mechanism, input.clone()); 5],
        vec![
            ask::locate(ObjectType::PrivateKey, None),
            ask::attributes("AB_pub"),
        ],
        vec![ask::rename("AB_pub", "x"), ask::destroy("AB_pub")],
    ] {
        client
            .send(payloads, BatchErrorContinuation::Continue)
            .expect("room");
        corpus.push(client.take_output().expect("request").to_vec());
    }
    let mut random = Random(0x5EED_1234_ABCD_0001);
    let mut answered = 0;
    for round in 0..600 {
        let mut octets = corpus[random.next(corpus.len())].clone();
        for _ in 0..=random.next(4) {
            let at = random.next(octets.len());
            match random.next(4) {
                0 => octets[at] = random.next(256) as u8,
                1 => octets[at] ^= 1 << random.next(8),
                2 => drop(octets.drain(at..(at + random.next(9)).min(octets.len()))),
                _ => octets.insert(at, random.next(256) as u8),
            }
            if octets.is_empty() {
                octets.push(0x42);
            }
        }
        if random.next(2) == 0 && octets.len() >= 8 {
            // Keep the frame right, so that what is inside is looked at.
            let len = (octets.len() - 8) as u32;
            octets[..4].copy_from_slice(&[0x42, 0x00, 0x78, 0x01]);
            octets[4..8].copy_from_slice(&len.to_be_bytes());
        }
        let mut peer = place.client();
        let sent = peer.stream.write_all(&octets).and_then(|()| {
            peer.stream.conn.send_close_notify();
            peer.stream.flush()
        });
        if sent.is_ok() {
            let mut answer = Vec::new();
            let _ = peer.stream.read_to_end(&mut answer);
            answered += usize::from(!answer.is_empty());
        }
        assert!(running.is_alive(), "round {round}: {octets:02x?}");
    }
    assert!(answered > 100, "{answered} of 600 answered");
    assert!(!running.log().contains("panicked"));
    place.client().good(ask::query());
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn users_who_are_not_named_are_refused() {
    use std::os::unix::process::CommandExt;
    let Some(place) = Place::new() else { return };
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("SKIPPED: only root can play another user");
        return;
    }
    let running = place.start();
    let line = format!("exec 3<>/dev/tcp/127.0.0.1/{}; cat <&3", place.port);
    let nobody = Command::new("bash")
        .args(["-c", &line])
        .current_dir("/")
        .uid(65_534)
        .gid(65_534)
        .output()
        .expect("bash");
    assert!(nobody.stdout.is_empty());
    assert!(
        running.says("nobody is not in allowed_users"),
        "{}",
        running.log()
    );
    place.client().good(ask::query());
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn metrics_count_what_was_done() {
    let Some(place) = Place::new() else { return };
    let port = support::free_port();
    place.write_config(&format!("metrics_addr = \"127.0.0.1:{port}\"\n"));
    let running = place.start();
    let mut peer = place.client();
    peer.good(ask::query());
    assert!(peer.ask(ask::destroy("nonsense")).is_err());
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connect");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("write");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        answer
    };
    let page = get("/metrics");
    for line in [
        "kmip2pkcs11_operations_total 2\n",
        "kmip2pkcs11_failed_operations_total 1\n",
        "kmip2pkcs11_connections 1\n",
        "kmip2pkcs11_tokens 1\n",
        "kmip2pkcs11_tokens_away 0\n",
    ] {
        assert!(page.contains(line), "{line}{page}");
    }
    assert!(get("/").starts_with("HTTP/1.1 404 "));
    assert_eq!(running.stop(), Some(0));
}

/// systemd's own tool plays the service manager.
#[test]
fn a_passed_socket_replaces_the_configured_address() {
    use std::process::Stdio;
    let Some(mut place) = Place::new() else {
        return;
    };
    let passed = support::free_port();
    let child = Command::new("systemd-socket-activate")
        .args(["-l", &format!("127.0.0.1:{passed}"), "-E", "PATH"])
        .arg(env!("CARGO_BIN_EXE_kmip2pkcs11"))
        .args(["--stderr", "--config"])
        .arg(place.config())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("SKIPPED: systemd-socket-activate is not installed (apt-get install systemd)");
        return;
    };
    let pem = place.dir.path().join("server.pem");
    // The first connection starts the program.
    assert!(until(|| std::net::TcpStream::connect((
        "127.0.0.1",
        passed
    ))
    .is_ok()
        && pem.exists()));
    let configured = place.port;
    place.port = passed;
    assert!(until(|| place.client().ask(ask::query()).is_ok()));
    assert!(std::net::TcpStream::connect(("127.0.0.1", configured)).is_err());
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("runs");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
}

#[test]
fn a_hangup_reads_certificates_again() {
    let Some(place) = Place::new() else { return };
    let running = place.start();
    place.client().good(ask::query());
    std::fs::remove_file(place.dir.path().join("server.pem")).expect("remove");
    running.signal("HUP");
    assert!(until(|| place.dir.path().join("server.pem").exists()));
    assert!(running.says("read again"));
    place.client().good(ask::query());
    // What cannot be used leaves the former in force.
    std::fs::write(place.config(), "lib_path = 5\n").expect("write");
    running.signal("HUP");
    assert!(running.says("the former settings stay in force"));
    place.client().good(ask::query());
    assert_eq!(running.stop(), Some(0));
}
