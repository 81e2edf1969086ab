//! Client against server in one process, over a token in memory.

mod software;

use cascade_kmip::attribute::AttributeValue;
use cascade_kmip::client::{
    Answer, AnswerError, Broken, Client, ClientSettings, SendError, Vendor, ask, locate_capacity,
    missing_operations, sign_capacity,
};
use cascade_kmip::enums::{
    BatchErrorContinuation, KeyFormatType, ObjectType, Operation, ResultReason, State,
    ValidityIndicator,
};
use cascade_kmip::message::{RequestHeader, RequestItem, encode_request, read_response};
use cascade_kmip::payload::{Get, RequestPayload, ResponsePayload, Sign, SignatureVerify};
use cascade_kmip::server::{Server, ServerLimits};
use cascade_kmip::ttlv::Limits;
use cascade_kmip::{
    Credential, Failure, Hash, KeyKind, Mechanism, PublicKey, SignInput, Version, fixed_signature,
};
use software::{SoftwareTokens, verify};

const NOW: i64 = 1_764_112_000;

struct Pair {
    client: Client,
    server: Server,
    tokens: SoftwareTokens,
}

impl Pair {
    fn new() -> Pair {
        Pair::with(ClientSettings {
            credential: Some(Credential::new("LocalHSM", "1234")),
            version: Version::V1_4,
            ..ClientSettings::default()
        })
    }

    fn with(settings: ClientSettings) -> Pair {
        Pair {
            client: Client::new(settings),
            server: Server::default(),
            tokens: SoftwareTokens::new(),
        }
    }

    fn batch(&mut self, payloads: Vec<RequestPayload>, on: BatchErrorContinuation) -> Vec<Answer> {
        let ticket = self.client.send(payloads, on).expect("room");
        while let Some(request) = self.client.take_output() {
            let response = self.server.respond(&request, &self.tokens, NOW);
            self.client.receive(&response).expect("good response");
        }
        let completion = self.client.next_completion().expect("answered");
        assert_eq!(completion.ticket, ticket);
        completion.results
    }

    fn one(&mut self, payload: RequestPayload) -> Answer {
        let mut answers = self.batch(vec![payload], BatchErrorContinuation::Stop);
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    fn ok(&mut self, payload: RequestPayload) -> ResponsePayload {
        self.one(payload).expect("success")
    }

    /// An active pair: private id, public id.
    fn key(&mut self, kind: KeyKind) -> (String, String) {
        let request = ask::create_key_pair(kind, "example.net-1-zsk-pri", "example.net-1-zsk-pub");
        let ResponsePayload::CreateKeyPair { private, public } = self.ok(request) else {
            panic!("another answer");
        };
        self.ok(ask::activate(&private));
        (private, public)
    }
}

fn reason(answer: Answer) -> ResultReason {
    match answer {
        Err(AnswerError::Refused { failure, .. }) => failure.reason,
        other => panic!("not refused: {other:?}"),
    }
}

fn mechanisms() -> [(KeyKind, Mechanism); 5] {
    let rsa = KeyKind::Rsa { bits: 2048 };
    [
        (rsa, Mechanism::RsaPkcs1(Hash::Sha256)),
        (rsa, Mechanism::RsaPkcs1(Hash::Sha512)),
        (KeyKind::P256, Mechanism::Ecdsa(Hash::Sha256)),
        (KeyKind::P384, Mechanism::Ecdsa(Hash::Sha384)),
        (KeyKind::Ed25519, Mechanism::Ed25519),
    ]
}

#[test]
fn the_life_of_a_key_in_every_algorithm() {
    for (kind, mechanism) in mechanisms() {
        let mut pair = Pair::new();
        let (private, public) = pair.key(kind);
        assert_eq!(private.len(), 45);
        assert_eq!(private.strip_suffix("_priv"), public.strip_suffix("_pub"));
        let ResponsePayload::Get { key, .. } = pair.ok(ask::public_key(&public)) else {
            panic!("another answer");
        };
        assert_eq!(key.length, Some(i32::from(kind.bits())));
        let key = PublicKey::from_key_block(&key).expect("a key");
        assert_eq!(key.kind(), kind);

        let message = b"an RRset in canonical form".to_vec();
        let input = SignInput::Message(message.clone());
        let answer = pair.ok(ask::sign(&private, mechanism, input.clone()));
        let ResponsePayload::Sign { signature, .. } = answer else {
            panic!("another answer");
        };
        let signature = fixed_signature(kind, &signature).expect("right length");
        assert!(verify(&key, mechanism, &message, &signature));
        assert!(!verify(&key, mechanism, b"another", &signature));

        for (signature, expected) in [
            (signature.clone(), ValidityIndicator::Valid),
            (vec![7; signature.len()], ValidityIndicator::Invalid),
        ] {
            let answer = pair.ok(RequestPayload::SignatureVerify(SignatureVerify {
                id: Some(public.clone()),
                parameters: Some(mechanism.parameters()),
                input: input.clone(),
                signature,
            }));
            assert!(
                matches!(answer, ResponsePayload::SignatureVerify { validity, .. } if validity == expected)
            );
        }

        let ResponsePayload::GetAttributes { attributes, .. } = pair.ok(ask::attributes(&private))
        else {
            panic!("another answer");
        };
        let values: Vec<_> = attributes.into_iter().map(|a| a.value).collect();
        assert!(values.contains(&AttributeValue::State(State::Active)));
        assert!(values.contains(&AttributeValue::text_name("example.net-1-zsk-pri")));
        assert!(values.contains(&AttributeValue::ObjectType(ObjectType::PrivateKey)));
        assert!(values.contains(&AttributeValue::Extractable(false)));

        assert_eq!(
            reason(pair.one(ask::destroy(&private))),
            ResultReason::PermissionDenied
        );
        for id in [&private, &public] {
            pair.ok(ask::revoke(id, "rolled"));
        }
        let again = pair.one(ask::sign(&private, mechanism, input.clone()));
        assert_eq!(reason(again), ResultReason::PermissionDenied);
        for id in [&private, &public, &private, &public] {
            pair.ok(ask::destroy(id)); // gone already is success
        }
        assert_eq!(pair.tokens.token.objects_left(), 0);
        assert!(
            pair.one(ask::sign(&private, mechanism, input))
                .expect_err("gone")
                .is_gone()
        );
    }
}

#[test]
fn digests_are_signed_like_their_messages() {
    for (kind, mechanism) in mechanisms() {
        let mut pair = Pair::new();
        let (private, public) = pair.key(kind);
        let Some(hash) = mechanism.hash() else {
            let digest = SignInput::Digest(vec![1; 32]);
            let answer = pair.one(ask::sign(&private, mechanism, digest));
            assert_eq!(reason(answer), ResultReason::InvalidField);
            continue;
        };
        let ResponsePayload::Get { key, .. } = pair.ok(ask::public_key(&public)) else {
            panic!("another answer");
        };
        let key = PublicKey::from_key_block(&key).expect("a key");
        let algorithm = match hash {
            Hash::Sha256 => &aws_lc_rs::digest::SHA256,
            Hash::Sha384 => &aws_lc_rs::digest::SHA384,
            Hash::Sha512 => &aws_lc_rs::digest::SHA512,
        };
        let digest = aws_lc_rs::digest::digest(algorithm, b"message")
            .as_ref()
            .to_vec();
        let answer = pair.ok(ask::sign(&private, mechanism, SignInput::Digest(digest)));
        let ResponsePayload::Sign { signature, .. } = answer else {
            panic!("another answer");
        };
        assert!(verify(&key, mechanism, b"message", &signature));
    }
}

#[test]
fn states_are_kept() {
    let mut pair = Pair::new();
    let request = ask::create_key_pair(KeyKind::P256, "a", "b");
    let ResponsePayload::CreateKeyPair { private, .. } = pair.ok(request) else {
        panic!("another answer");
    };
    let mechanism = Mechanism::Ecdsa(Hash::Sha256);
    let sign = ask::sign(&private, mechanism, SignInput::Message(vec![1]));
    let early = pair.one(sign.clone());
    assert_eq!(reason(early), ResultReason::PermissionDenied);
    pair.ok(ask::activate(&private));
    pair.ok(ask::activate(&private));
    pair.ok(sign);
}

#[test]
fn versions_are_negotiated_without_a_login() {
    let mut pair = Pair::with(ClientSettings {
        version: Version::V1_1,
        ..ClientSettings::default()
    });
    let ResponsePayload::DiscoverVersions(versions) = pair.ok(ask::discover_versions()) else {
        panic!("another answer");
    };
    assert_eq!(versions, Version::SPOKEN);
    let best = Version::best(&Version::SPOKEN, &versions);
    assert_eq!(best, Some(Version::V1_4));
    let theirs = vec![Version { major: 2, minor: 1 }, Version::V1_2, Version::V1_3];
    let answer = pair.ok(RequestPayload::DiscoverVersions(theirs));
    let common = ResponsePayload::DiscoverVersions(vec![Version::V1_2, Version::V1_3]);
    assert_eq!(answer, common);
    let all = pair.ok(RequestPayload::DiscoverVersions(Vec::new()));
    assert_eq!(
        all,
        ResponsePayload::DiscoverVersions(Version::SPOKEN.to_vec())
    );
    // Everything else needs one.
    let refused = pair.one(ask::query());
    assert_eq!(reason(refused), ResultReason::AuthenticationNotSuccessful);
}

#[test]
fn query_says_what_can_be_done() {
    for version in Version::SPOKEN {
        let mut pair = Pair::new();
        pair.client.set_version(version);
        let ResponsePayload::Query(q) = pair.ok(ask::query()) else {
            panic!("another answer");
        };
        let vendor = "kmip2pkcs11 0.1.0 using PKCS#11 token with label LocalHSM in slot Memory via \
                      library none.so";
        assert_eq!(q.vendor.as_deref(), Some(vendor));
        assert_eq!(Vendor::of(vendor).max_batch, 256);
        assert_eq!(Vendor::of("Acme").max_batch, 1);
        let missing = missing_operations(&q);
        if version >= Version::V1_2 {
            assert_eq!(missing, Default::default());
        } else {
            assert_eq!(missing.needed, [Operation::Sign]);
        }
        assert!(
            q.signing_algorithms
                .expect("ours")
                .contains(&"ED25519".into())
        );
    }
}

#[test]
fn signing_needs_kmip_1_2() {
    let mut pair = Pair::new();
    let (private, _) = pair.key(KeyKind::P256);
    let request = ask::sign(
        &private,
        Mechanism::Ecdsa(Hash::Sha256),
        SignInput::Message(vec![]),
    );
    for version in Version::SPOKEN {
        pair.client.set_version(version);
        let answer = pair.one(request.clone());
        match version >= Version::V1_2 {
            true => assert!(answer.is_ok()),
            false => assert_eq!(reason(answer), ResultReason::OperationNotSupported),
        }
    }
}

#[test]
fn wrong_pin_and_wrong_token() {
    for (user, pin) in [("LocalHSM", "12345"), ("LocalHSM", ""), ("Other", "1234")] {
        let mut pair = Pair::with(ClientSettings {
            credential: Some(Credential::new(user, pin)),
            ..ClientSettings::default()
        });
        let answer = pair.one(ask::query());
        let Err(AnswerError::Refused { failure, .. }) = answer else {
            panic!("not refused");
        };
        assert_eq!(failure.reason, ResultReason::AuthenticationNotSuccessful);
        assert!(!failure.message.contains("12345"));
    }
    let shown = format!("{:?}", Credential::new("user", "very secret"));
    assert!(shown.contains("user") && !shown.contains("secret"));
}

#[test]
fn located_by_name_and_type() {
    let mut pair = Pair::new();
    let (private, public) = pair.key(KeyKind::P256);
    let (other, _) = pair.key(KeyKind::Ed25519);
    pair.ok(ask::rename(&private, "example.org-4711-csk-pri"));
    let found = |pair: &mut Pair, request| match pair.ok(request) {
        ResponsePayload::Locate { ids, .. } => ids,
        _ => panic!("another answer"),
    };
    let name = Some("example.org-4711-csk-pri");
    let ids = found(&mut pair, ask::locate(ObjectType::PrivateKey, name));
    assert_eq!(ids, std::slice::from_ref(&private));
    assert!(found(&mut pair, ask::locate(ObjectType::PublicKey, name)).is_empty());
    let all = found(&mut pair, ask::locate(ObjectType::PrivateKey, None));
    assert_eq!(all.len(), 2);
    assert!(all.contains(&other) && !all.contains(&public));
    for algorithm in [ObjectType::Certificate, ObjectType::Other(77)] {
        assert!(found(&mut pair, ask::locate(algorithm, None)).is_empty());
    }
}

#[test]
fn long_lists_come_in_parts() {
    let mut pair = Pair::new();
    for _ in 0..200 {
        let want = ask::create_key_pair(KeyKind::Ed25519, "a", "b");
        pair.ok(want);
    }
    // All at once is more than the client takes.
    let whole = pair.one(ask::locate(ObjectType::PublicKey, None));
    assert_eq!(reason(whole), ResultReason::ResponseTooLarge);
    let most = locate_capacity(8192, 44);
    let mut all = Vec::new();
    loop {
        let part = ask::locate_part(ObjectType::PublicKey, all.len(), most);
        let ResponsePayload::Locate { located, ids } = pair.ok(part) else {
            panic!("another answer");
        };
        assert_eq!(located, Some(200));
        if ids.is_empty() {
            break;
        }
        all.extend(ids);
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 200);
}

#[test]
fn headers_and_extensions_of_other_clients() {
    use cascade_kmip::tags;
    use cascade_kmip::ttlv::Writer;
    let request = |critical: bool| {
        let mut w = Writer::new();
        w.structure(tags::REQUEST_MESSAGE, |w| {
            w.structure(tags::REQUEST_HEADER, |w| {
                w.structure(tags::PROTOCOL_VERSION, |w| {
                    w.integer(tags::PROTOCOL_VERSION_MAJOR, 1);
                    w.integer(tags::PROTOCOL_VERSION_MINOR, 4);
                });
                w.integer(tags::MAXIMUM_RESPONSE_SIZE, 4096);
                w.text(tags::CLIENT_CORRELATION_VALUE, "x");
                w.boolean(tags::ASYNCHRONOUS_INDICATOR, true);
                w.boolean(tags::ATTESTATION_CAPABLE_INDICATOR, false);
                w.structure(tags::AUTHENTICATION, |w| {
                    w.structure(tags::CREDENTIAL, |w| {
                        w.enumeration(tags::CREDENTIAL_TYPE, Operation::Other(2)); // device
                        w.structure(tags::CREDENTIAL_VALUE, |w| w.text(tags::PASSWORD, "no"));
                    });
                    w.structure(tags::CREDENTIAL, |w| {
                        w.enumeration(tags::CREDENTIAL_TYPE, Operation::Other(1));
                        w.structure(tags::CREDENTIAL_VALUE, |w| {
                            w.text(tags::USERNAME, "LocalHSM");
                            w.text(tags::PASSWORD, "1234");
                        });
                    });
                });
                w.boolean(tags::BATCH_ORDER_OPTION, true);
                w.date_time(tags::TIME_STAMP, NOW);
                w.integer(tags::BATCH_COUNT, 1);
            });
            w.structure(tags::BATCH_ITEM, |w| {
                w.enumeration(tags::OPERATION, Operation::Query);
                w.structure(tags::REQUEST_PAYLOAD, |_| {});
                w.structure(tags::MESSAGE_EXTENSION, |w| {
                    w.text(tags::VENDOR_IDENTIFICATION, "Acme");
                    w.boolean(tags::CRITICALITY_INDICATOR, critical);
                    w.structure(tags::VENDOR_EXTENSION, |w| w.text(tags::DATA, "?"));
                });
            });
        });
        w.finish()
    };
    let respond = |octets: &[u8]| {
        let response = Server::default().respond(octets, &SoftwareTokens::new(), NOW);
        let mut message = read_response(&response, Limits::new(4096)).expect("good");
        assert_eq!((message.items.len(), message.time), (1, NOW));
        assert_eq!(message.version, Version::V1_4);
        message.items.remove(0)
    };
    assert!(respond(&request(false)).result.is_ok());
    let refused = respond(&request(true));
    assert_eq!(refused.operation, Some(Operation::Query));
    let failure = refused.result.expect_err("critical");
    assert_eq!(failure.reason, ResultReason::FeatureNotSupported);
}

#[test]
fn what_cannot_be_had() {
    let mut pair = Pair::new();
    let (private, public) = pair.key(KeyKind::P256);
    let get = |id: &str, format| {
        RequestPayload::Get(Get {
            id: Some(id.to_owned()),
            format,
            compression: None,
        })
    };
    let cases = [
        (get(&private, None), ResultReason::PermissionDenied),
        (
            get(&public, Some(KeyFormatType::Pkcs1)),
            ResultReason::KeyFormatTypeNotSupported,
        ),
        (get("nonsense", None), ResultReason::ItemNotFound),
        (
            get(&public.to_lowercase(), None),
            ResultReason::ItemNotFound,
        ),
        (get(&"9".repeat(100_000), None), ResultReason::ItemNotFound),
        (
            RequestPayload::Activate { id: None },
            ResultReason::MissingData,
        ),
        (ask::rename(&private, ""), ResultReason::InvalidField),
        (
            RequestPayload::ModifyAttribute {
                id: Some(private.clone()),
                attribute: AttributeValue::State(State::Active).into(),
            },
            ResultReason::PermissionDenied,
        ),
        (
            ask::sign(
                &public,
                Mechanism::Ecdsa(Hash::Sha256),
                SignInput::Message(vec![]),
            ),
            ResultReason::IllegalOperation,
        ),
        (
            ask::sign(
                &private,
                Mechanism::RsaPkcs1(Hash::Sha256),
                SignInput::Message(vec![]),
            ),
            ResultReason::InvalidField,
        ),
    ];
    for (request, expected) in cases {
        assert_eq!(reason(pair.one(request.clone())), expected, "{request:?}");
    }
    // And what can: every format of an EC key.
    for format in [
        KeyFormatType::Raw,
        KeyFormatType::X509,
        KeyFormatType::TransparentEcPublicKey,
        KeyFormatType::TransparentEcdsaPublicKey,
    ] {
        pair.ok(get(&public, Some(format)));
    }
}

#[test]
fn an_absent_token_is_a_temporary_failure() {
    let mut pair = Pair::new();
    let (private, _) = pair.key(KeyKind::P256);
    let request = ask::sign(
        &private,
        Mechanism::Ecdsa(Hash::Sha256),
        SignInput::Message(vec![]),
    );
    pair.tokens.token.set_away(true);
    let error = pair.one(request.clone()).expect_err("away");
    assert!(error.is_temporary());
    assert!(error.to_string().contains("HSM unavailable"), "{error}");
    pair.tokens.token.set_away(false);
    pair.ok(request);
}

#[test]
fn batches_of_256_in_order_and_in_parallel() {
    let mut pair = Pair::with(ClientSettings {
        credential: Some(Credential::new("LocalHSM", "1234")),
        max_response: 1 << 20,
        ..ClientSettings::default()
    });
    let (private, public) = pair.key(KeyKind::Ed25519);
    let ResponsePayload::Get { key, .. } = pair.ok(ask::public_key(&public)) else {
        panic!("another answer");
    };
    let key = PublicKey::from_key_block(&key).expect("a key");
    let message = |n: usize| n.to_be_bytes().to_vec();
    let sign = |n| ask::sign(&private, Mechanism::Ed25519, SignInput::Message(message(n)));
    let payloads: Vec<_> = (0..256).map(sign).collect();
    let too_many: Vec<_> = (0..257).map(sign).collect();
    let refused = pair.client.send(too_many, BatchErrorContinuation::Continue);
    assert_eq!(refused, Err(SendError::BadBatch(257)));
    assert_eq!(
        pair.client.send(vec![], BatchErrorContinuation::Continue),
        Err(SendError::BadBatch(0))
    );

    // The caller spreads the items over its threads, here backwards.
    pair.client
        .send(payloads, BatchErrorContinuation::Continue)
        .expect("room");
    let request = pair.client.take_output().expect("output");
    let exchange = pair.server.accept(&request, NOW).expect("good");
    assert!(exchange.is_parallel() && exchange.needs_token());
    let mut results: Vec<_> = (0..exchange.len())
        .rev()
        .map(|at| exchange.perform(at, Some(&*pair.tokens.token), &mut None))
        .collect();
    results.reverse();
    pair.client
        .receive(&exchange.answer(results, NOW))
        .expect("good");
    let completion = pair.client.next_completion().expect("done");
    for (n, answer) in completion.results.into_iter().enumerate() {
        let Ok(ResponsePayload::Sign { signature, .. }) = answer else {
            panic!("item {n}: {answer:?}");
        };
        assert!(verify(&key, Mechanism::Ed25519, &message(n), &signature));
    }
}

#[test]
fn batches_go_on_or_stop() {
    let mut pair = Pair::new();
    let (private, _) = pair.key(KeyKind::P256);
    let good = ask::attributes(&private);
    let bad = ask::attributes("no such");
    let batch = vec![good.clone(), bad.clone(), good.clone()];
    let answers = pair.batch(batch.clone(), BatchErrorContinuation::Continue);
    assert!(answers[0].is_ok() && answers[1].is_err() && answers[2].is_ok());
    let answers = pair.batch(batch.clone(), BatchErrorContinuation::Stop);
    assert!(answers[0].is_ok() && answers[1].is_err());
    assert_eq!(
        answers[2],
        Err(AnswerError::NotPerformed(Operation::GetAttributes))
    );
    let answers = pair.batch(batch, BatchErrorContinuation::Undo);
    for answer in answers {
        assert_eq!(reason(answer), ResultReason::FeatureNotSupported);
    }
}

#[test]
fn the_placeholder_carries_a_new_key_through_a_batch() {
    let mut pair = Pair::new();
    let batch = vec![
        ask::create_key_pair(KeyKind::P256, "a", "b"),
        RequestPayload::Activate { id: None },
        RequestPayload::Sign(Sign {
            id: None,
            parameters: None,
            input: SignInput::Message(vec![1]),
        }),
    ];
    let answers = pair.batch(batch, BatchErrorContinuation::Continue);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

#[test]
fn pipelined_requests_are_matched_in_any_order() {
    let mut pair = Pair::new();
    let mut tickets = Vec::new();
    loop {
        match pair
            .client
            .send(vec![ask::query()], BatchErrorContinuation::Stop)
        {
            Ok(ticket) => tickets.push(ticket),
            Err(SendError::Full(n)) => break assert_eq!(n, 8),
            Err(other) => panic!("{other}"),
        }
    }
    let mut responses = Vec::new();
    while let Some(request) = pair.client.take_output() {
        responses.push(pair.server.respond(&request, &pair.tokens, NOW));
    }
    // The server answers the last first, and the network cuts as it likes.
    let stream: Vec<u8> = responses.iter().rev().flatten().copied().collect();
    for part in stream.chunks(13) {
        pair.client.receive(part).expect("good");
    }
    let completed = std::iter::from_fn(|| pair.client.next_completion());
    let order: Vec<_> = completed
        .map(|c| {
            assert!(c.results[0].is_ok());
            c.ticket
        })
        .collect();
    tickets.reverse();
    assert_eq!(order, tickets);
    assert_eq!(pair.client.in_flight(), 0);
}

#[test]
fn a_broken_connection_completes_everything() {
    let mut pair = Pair::new();
    for _ in 0..3 {
        let batch = vec![ask::query(), ask::query()];
        pair.client
            .send(batch, BatchErrorContinuation::Continue)
            .expect("room");
    }
    let garbage = pair.client.receive(b"HTTP/1.1 400 Bad Request\r\n");
    assert!(matches!(garbage, Err(Broken::Frame(_))));
    let completions: Vec<_> = std::iter::from_fn(|| pair.client.next_completion()).collect();
    assert_eq!(completions.len(), 3);
    for answer in completions.iter().flat_map(|c| &c.results) {
        assert!(matches!(answer, Err(AnswerError::Lost { .. })));
    }
    assert!(pair.client.take_output().is_none());
    let refused = pair
        .client
        .send(vec![ask::query()], BatchErrorContinuation::Stop);
    assert!(matches!(refused, Err(SendError::Broken(_))));
}

#[test]
fn answers_to_other_questions_are_refused() {
    let mut pair = Pair::new();
    let (one, _) = pair.key(KeyKind::P256);
    let (two, _) = pair.key(KeyKind::P256);
    // The answer is for another key: the request is changed on its way.
    pair.client
        .send(vec![ask::attributes(&one)], BatchErrorContinuation::Stop)
        .expect("room");
    let request = pair.client.take_output().expect("output");
    let at = request
        .windows(45)
        .position(|w| w == one.as_bytes())
        .expect("id");
    let mut changed = request.to_vec();
    changed[at..at + 45].copy_from_slice(two.as_bytes());
    let response = pair.server.respond(&changed, &pair.tokens, NOW);
    pair.client.receive(&response).expect("well-formed");
    let completion = pair.client.next_completion().expect("done");
    assert_eq!(
        completion.results,
        [Err(AnswerError::WrongAnswer(Operation::GetAttributes))]
    );
    // The same response again answers nothing.
    assert_eq!(pair.client.receive(&response), Err(Broken::Unasked));
}

#[test]
fn responses_that_are_too_large() {
    let mut pair = Pair::with(ClientSettings {
        credential: Some(Credential::new("LocalHSM", "1234")),
        max_response: 600,
        ..ClientSettings::default()
    });
    let answers = pair.batch(
        vec![ask::query(), ask::query()],
        BatchErrorContinuation::Continue,
    );
    for answer in answers {
        assert_eq!(reason(answer), ResultReason::ResponseTooLarge);
    }
}

#[test]
fn the_capacity_for_signatures_is_right() {
    let mut pair = Pair::new();
    let (private, _) = pair.key(KeyKind::P256);
    let capacity = sign_capacity(8192, private.len(), 64);
    assert!((30..60).contains(&capacity), "{capacity}");
    let mechanism = Mechanism::Ecdsa(Hash::Sha256);
    let sign = |n: usize| ask::sign(&private, mechanism, SignInput::Message(vec![0; n]));
    let answers = pair.batch(
        (0..capacity).map(sign).collect(),
        BatchErrorContinuation::Continue,
    );
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(sign_capacity(0, 45, 64), 1);
    assert_eq!(sign_capacity(1 << 30, 45, 64), 256);
}

/// Sends octets of a request as they are; gives the failure of the first item.
fn raw(octets: &[u8]) -> Failure {
    let tokens = SoftwareTokens::new();
    let mut client = Client::new(ClientSettings::default());
    client
        .send(vec![ask::query()], BatchErrorContinuation::Stop)
        .expect("room");
    let response = Server::default().respond(octets, &tokens, NOW);
    client.receive(&response).expect("a good response");
    let completion = client.next_completion().expect("an answer");
    match &completion.results[0] {
        Err(AnswerError::Refused { failure, .. }) => failure.clone(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn messages_that_are_wrong_as_a_whole_get_one_answer() {
    let item = RequestItem {
        batch_id: None,
        payload: ask::query(),
    };
    let good = |version| encode_request(&RequestHeader::new(version), std::slice::from_ref(&item));
    for (octets, part) in [
        (vec![], "message ends"),
        (good(Version::V1_4)[..40].to_vec(), "message ends"),
        (good(Version { major: 1, minor: 5 }), "KMIP 1.5"),
        (good(Version { major: 2, minor: 1 }), "KMIP 2.1"),
        (
            encode_request(&RequestHeader::new(Version::V1_2), &[]),
            "0 items",
        ),
        (vec![0x42, 0, 0x7B, 1, 0, 0, 0, 0], "no Request Message"),
    ] {
        let failure = raw(&octets);
        assert_eq!(failure.reason, ResultReason::InvalidMessage);
        assert!(failure.message.contains(part), "{failure}");
    }
    let items: Vec<_> = (0..257).map(|_| item.clone()).collect();
    let many = encode_request(&RequestHeader::new(Version::V1_2), &items);
    assert!(raw(&many).message.contains("more than 256"));
    let server = Server::new(ServerLimits {
        request: Limits::new(100),
        ..ServerLimits::default()
    });
    assert!(server.accept(&good(Version::V1_4), NOW).is_err());
}

#[test]
fn a_wrong_item_is_answered_with_its_operation_and_id() {
    let mut pair = Pair::new();
    // Get with a field that does not belong there: Digested Data of Sign renamed to Get.
    pair.client
        .send(
            vec![ask::query(), ask::public_key("X"), ask::query()],
            BatchErrorContinuation::Continue,
        )
        .expect("room");
    let request = pair.client.take_output().expect("output");
    let mut changed = request.to_vec();
    // The Unique Identifier becomes a Username.
    let at = changed
        .windows(4)
        .position(|w| w == [0x42, 0x00, 0x94, 0x07])
        .expect("identifier");
    changed[at + 2] = 0x99;
    let response = pair.server.respond(&changed, &pair.tokens, NOW);
    pair.client.receive(&response).expect("good");
    let answers = pair.client.next_completion().expect("done").results;
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert_eq!(reason(answers[1].clone()), ResultReason::InvalidField);
}
