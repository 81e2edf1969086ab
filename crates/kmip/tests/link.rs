//! Connections of the client against a server over TLS that has its troubles.

// What passes by itself is waited for.
#![allow(clippy::disallowed_methods)]

mod software;
#[path = "software/trouble.rs"]
mod trouble;

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use cascade_kmip::client::{Answer, AnswerError, ask};
use cascade_kmip::enums::BatchErrorContinuation;
use cascade_kmip::link::{
    Call, DialError, Endpoint, LinkSettings, NotSent, Outcome, Pool, Reach, Timeouts, Trust,
    certificate_digest, probe,
};
use cascade_kmip::payload::{RequestPayload, ResponsePayload};
use cascade_kmip::{Credential, Hash, KeyKind, Mechanism, PublicKey, SignInput};
use tokio::runtime::{Handle, Runtime};
use trouble::Host;

fn settings(host: &Host) -> LinkSettings {
    LinkSettings {
        trust: Trust::FirstSeen(None),
        credential: Some(Credential::new("LocalHSM", "1234")),
        timeouts: Timeouts {
            read: Duration::from_secs(3),
            ..Timeouts::default()
        },
        ..LinkSettings::new("127.0.0.1", host.address.port())
    }
}

fn endpoint(host: &Host) -> Endpoint {
    Endpoint {
        host: "127.0.0.1".into(),
        port: host.address.port(),
    }
}

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime")
}

fn submit(
    pool: &Pool,
    on: &Handle,
    payloads: Vec<RequestPayload>,
    change: impl FnOnce(&mut Call),
) -> mpsc::Receiver<Outcome> {
    let (send, receive) = mpsc::channel();
    let mut call = Call {
        payloads,
        on_error: BatchErrorContinuation::Continue,
        class: 1,
        group: 0,
        instance: None,
        patience: Duration::from_secs(20),
        done: Box::new(move |outcome| drop(send.send(outcome))),
    };
    change(&mut call);
    pool.submit(call, on);
    receive
}

fn answers(receive: &mpsc::Receiver<Outcome>) -> Vec<Answer> {
    match receive.recv_timeout(Duration::from_secs(30)) {
        Ok(Outcome::Answered { answers, .. }) => answers,
        other => panic!("{other:?}"),
    }
}

fn one(pool: &Pool, on: &Handle, payload: RequestPayload) -> ResponsePayload {
    let mut all = answers(&submit(pool, on, vec![payload], |_| {}));
    all.pop().expect("one answer").expect("a good one")
}

/// A key that is active: its private id and its public key.
fn key(pool: &Pool, on: &Handle) -> (String, PublicKey) {
    let made = one(pool, on, ask::create_key_pair(KeyKind::P256, "a", "b"));
    let ResponsePayload::CreateKeyPair { private, public } = made else {
        panic!("{made:?}");
    };
    one(pool, on, ask::activate(&private));
    let ResponsePayload::Get { key, .. } = one(pool, on, ask::public_key(&public)) else {
        panic!("another answer");
    };
    (private, PublicKey::from_key_block(&key).expect("a key"))
}

fn signs(id: &str, n: usize) -> Vec<RequestPayload> {
    let message = |i: usize| SignInput::Message(format!("message {i}").into_bytes());
    (0..n)
        .map(|i| ask::sign(id, Mechanism::Ecdsa(Hash::Sha256), message(i)))
        .collect()
}

fn wait_for(pool: &Pool, what: impl Fn(&Reach) -> bool) {
    let status = pool.status();
    for _ in 0..400 {
        if what(&status.borrow()[0].reach) {
            return;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("{:?}", status.borrow()[0]);
}

#[test]
fn many_batches_at_once_over_several_connections() {
    let host = Host::new();
    let rt = runtime();
    let pool = Pool::start(settings(&host), rt.handle());
    let (id, public) = key(&pool, rt.handle());
    let n = pool.sign_batch(id.len(), 64);
    assert!((30..60).contains(&n), "{n} in 8192 octets");
    let waiting: Vec<_> = (0..40)
        .map(|_| submit(&pool, rt.handle(), signs(&id, n), |_| {}))
        .collect();
    for receive in &waiting {
        let all = answers(receive);
        assert_eq!(all.len(), n);
        let Ok(ResponsePayload::Sign { signature, .. }) = &all[n - 1] else {
            panic!("{:?}", all[n - 1]);
        };
        let message = format!("message {}", n - 1);
        assert!(software::verify(
            &public,
            Mechanism::Ecdsa(Hash::Sha256),
            message.as_bytes(),
            signature
        ));
    }
    let status = pool.status().borrow()[0].clone();
    assert_eq!((status.reach, status.connections), (Reach::Up, 4));
    assert!(pool.statistics(0).median().is_some());
    assert_eq!(pool.statistics(0).in_flight, 0);
}

#[test]
fn what_is_lost_with_the_server_is_done_when_it_is_back() {
    let mut host = Host::new();
    let rt = runtime();
    let pool = Pool::start(settings(&host), rt.handle());
    let (id, _) = key(&pool, rt.handle());
    host.token.delay_ms.store(20, Ordering::Relaxed);
    let lost: Vec<_> = (0..8)
        .map(|_| submit(&pool, rt.handle(), signs(&id, 10), |_| {}))
        .collect();
    std::thread::sleep(Duration::from_millis(50));
    host.stop();
    // While nobody is there, everything ends at once and says why.
    for receive in lost {
        match receive.recv_timeout(Duration::from_secs(10)) {
            Ok(Outcome::NotSent(NotSent::Down(why))) => {
                assert!(why.to_string().contains("connection refused"), "{why}");
            }
            Ok(Outcome::Answered { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    wait_for(&pool, |r| matches!(r, Reach::Down(_)));
    let refused = submit(&pool, rt.handle(), signs(&id, 1), |_| {});
    let refused = refused.recv_timeout(Duration::from_millis(500));
    assert!(
        matches!(refused, Ok(Outcome::NotSent(NotSent::Down(_)))),
        "{refused:?}"
    );
    host.start();
    pool.hurry();
    wait_for(&pool, |r| *r == Reach::Up);
    let back = answers(&submit(&pool, rt.handle(), signs(&id, 3), |_| {}));
    assert!(back.iter().all(Result::is_ok), "{back:?}");
    assert!(pool.status().borrow()[0].arrivals >= 2);
}

#[test]
fn a_token_that_is_away_closes_the_door_until_it_is_back() {
    let host = Host::new();
    let rt = runtime();
    let pool = Pool::start(settings(&host), rt.handle());
    let (id, _) = key(&pool, rt.handle());
    host.token.away.store(true, Ordering::Relaxed);
    let all = answers(&submit(&pool, rt.handle(), signs(&id, 2), |_| {}));
    assert!(matches!(&all[0], Err(e) if e.is_temporary()), "{all:?}");
    wait_for(
        &pool,
        |r| matches!(r, Reach::Down(why) if why.to_string().contains("unavailable")),
    );
    host.token.away.store(false, Ordering::Relaxed);
    wait_for(&pool, |r| *r == Reach::Up);
    let all = answers(&submit(&pool, rt.handle(), signs(&id, 2), |_| {}));
    assert!(all.iter().all(Result::is_ok));
}

#[test]
fn a_hanging_token_is_given_up_after_the_read_timeout() {
    let host = Host::new();
    let rt = runtime();
    let mut settings = settings(&host);
    settings.timeouts.read = Duration::from_millis(300);
    settings.connections = 1;
    let pool = Pool::start(settings, rt.handle());
    let (id, _) = key(&pool, rt.handle());
    host.token.delay_ms.store(2000, Ordering::Relaxed);
    let all = answers(&submit(&pool, rt.handle(), signs(&id, 1), |_| {}));
    assert!(matches!(&all[0], Err(AnswerError::Lost { .. })), "{all:?}");
    assert!(all[0].as_ref().unwrap_err().to_string().contains("300 ms"));
    host.token.delay_ms.store(0, Ordering::Relaxed);
    let all = answers(&submit(&pool, rt.handle(), signs(&id, 1), |_| {}));
    assert!(all[0].is_ok(), "{all:?}");
}

#[test]
fn waiting_calls_expire_and_are_cancelled() {
    let host = Host::new();
    let rt = runtime();
    let mut settings = settings(&host);
    settings.connections = 1;
    settings.max_in_flight = Some(1);
    let pool = Pool::start(settings, rt.handle());
    let (id, _) = key(&pool, rt.handle());
    host.token.delay_ms.store(1200, Ordering::Relaxed);
    let first = submit(&pool, rt.handle(), signs(&id, 1), |_| {});
    std::thread::sleep(Duration::from_millis(100));
    let group = pool.new_group();
    let late = submit(&pool, rt.handle(), signs(&id, 1), |c| {
        c.patience = Duration::from_millis(100);
    });
    let unwanted = submit(&pool, rt.handle(), signs(&id, 1), |c| c.group = group);
    let urgent = submit(&pool, rt.handle(), signs(&id, 1), |c| c.class = 3);
    pool.cancel(group);
    let end = |r: mpsc::Receiver<Outcome>| r.recv_timeout(Duration::from_secs(5));
    assert!(matches!(
        end(unwanted),
        Ok(Outcome::NotSent(NotSent::Cancelled))
    ));
    assert!(matches!(end(late), Ok(Outcome::NotSent(NotSent::Expired))));
    assert!(matches!(end(first), Ok(Outcome::Answered { .. })));
    assert!(matches!(end(urgent), Ok(Outcome::Answered { .. })));
}

#[test]
fn whom_to_believe() {
    let mut host = Host::new();
    let rt = runtime();
    let at = endpoint(&host);
    let with = |host: &Host, trust| LinkSettings {
        trust,
        ..settings(host)
    };
    let ask = |s: &LinkSettings| rt.block_on(probe(s, &at));
    let digest = certificate_digest(&host.certificate).expect("ours");
    // Nobody vouches for it: the error has what a person needs to decide.
    let other = rcgen::generate_simple_self_signed(vec!["x".into()]).expect("made");
    match ask(&with(&host, Trust::Authorities(Some(other.cert.pem())))) {
        Err(DialError::Untrusted { fingerprint, .. }) => assert_eq!(fingerprint, digest),
        other => panic!("{other:?}"),
    }
    let own = Trust::Authorities(Some(host.certificate.clone()));
    assert!(ask(&with(&host, own)).is_ok());
    assert!(ask(&with(&host, Trust::Certificate(digest))).is_ok());
    let wrong = ask(&with(&host, Trust::Certificate([0; 32])));
    assert!(
        matches!(wrong, Err(DialError::Untrusted { .. })),
        "{wrong:?}"
    );
    // First contact is remembered; another key is refused then, on this and later connections.
    let seen = ask(&with(&host, Trust::FirstSeen(None))).expect("whoever it is");
    assert_eq!(seen.certificate, Some(digest));
    assert!(
        seen.vendor
            .starts_with("kmip2pkcs11 0.1.0 using PKCS#11 token with label LocalHSM")
    );
    assert!(ask(&with(&host, Trust::FirstSeen(seen.key))).is_ok());
    let pool = Pool::start(with(&host, Trust::FirstSeen(None)), rt.handle());
    wait_for(&pool, |r| *r == Reach::Up);
    host.stop();
    host.new_certificate();
    host.start();
    let changed = ask(&with(&host, Trust::FirstSeen(seen.key)));
    assert!(
        matches!(changed, Err(DialError::KeyChanged { .. })),
        "{changed:?}"
    );
    wait_for(
        &pool,
        |r| matches!(r, Reach::Down(why) if matches!(**why, DialError::KeyChanged { .. })),
    );
}

#[test]
fn failures_have_words() {
    let mut host = Host::new();
    let rt = runtime();
    let at = endpoint(&host);
    let mut wrong = settings(&host);
    wrong.credential = Some(Credential::new("LocalHSM", "9999"));
    match rt.block_on(probe(&wrong, &at)) {
        Err(e @ DialError::Login { .. }) => {
            assert!(e.to_string().contains("wrong PIN"), "{e}");
            assert!(!e.to_string().contains("9999"), "{e}");
        }
        other => panic!("{other:?}"),
    }
    host.stop();
    match rt.block_on(probe(&settings(&host), &at)) {
        Err(e @ DialError::Connect { .. }) => {
            assert_eq!(e.to_string(), format!("{at}: connection refused"));
        }
        other => panic!("{other:?}"),
    }
}
