//! Octets from anybody: nothing panics, everything is answered, memory stays in proportion.

mod software;

use std::mem::size_of;

use cascade_kmip::MEMORY_FACTOR;
use cascade_kmip::attribute::{Attribute, AttributeValue};
use cascade_kmip::client::{Client, ClientSettings, ask};
use cascade_kmip::enums::{
    BatchErrorContinuation, KeyFormatType, ObjectType, Operation, RevocationReasonCode,
    ValidityIndicator,
};
use cascade_kmip::message::{
    ItemFailure, RequestHeader, RequestItem, RequestMessage, ResponseItem, ResponseMessage,
    encode_request, encode_response, read_request, read_response,
};
use cascade_kmip::payload::{
    Get, QueryResponse, RequestPayload, ResponsePayload, Revoke, SignatureVerify,
};
use cascade_kmip::server::Server;
use cascade_kmip::token::{NewPair, Token};
use cascade_kmip::ttlv::{Framer, Kind, Limits, Tag, Writer};
use cascade_kmip::{
    Credential, Failure, Hash, KeyKind, Mechanism, PublicKey, SignInput, Version, fixed_signature,
    tags,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use software::SoftwareTokens;

const LIMITS: Limits = Limits::new(1 << 20);
const NOW: i64 = 1_764_112_000;
/// Besides what is in proportion: headers and what a container starts with.
const CONSTANT: usize = 2048;

fn tokens() -> (SoftwareTokens, String, String) {
    let tokens = SoftwareTokens::new();
    let want = NewPair {
        kind: KeyKind::Ed25519,
        private_label: Some("a".into()),
        public_label: None,
        activation: Some(0),
    };
    let key = tokens.token.generate(&want).expect("a key");
    (tokens, key.private().to_string(), key.public().to_string())
}

/// One request for each operation, in each form.
fn requests(private: &str, public: &str) -> Vec<Vec<u8>> {
    let some = |id: &str| Some(id.to_owned());
    let input = || SignInput::Message(vec![1; 50]);
    let payloads = vec![
        ask::discover_versions(),
        ask::query(),
        ask::create_key_pair(KeyKind::P256, "x", "y"),
        ask::activate(private),
        ask::public_key(public),
        RequestPayload::Get(Get {
            id: some(public),
            format: Some(KeyFormatType::X509),
            compression: None,
        }),
        ask::attributes(private),
        RequestPayload::GetAttributes {
            id: some(public),
            names: vec!["State".into(), "Name".into(), String::new()],
        },
        ask::rename(private, "new name"),
        ask::locate(ObjectType::PrivateKey, Some("a")),
        ask::sign(private, Mechanism::Ed25519, input()),
        ask::sign(
            private,
            Mechanism::Ecdsa(Hash::Sha256),
            SignInput::Digest(vec![0; 32]),
        ),
        RequestPayload::SignatureVerify(SignatureVerify {
            id: some(public),
            parameters: Some(Mechanism::RsaPkcs1(Hash::Sha512).parameters()),
            input: input(),
            signature: vec![0; 64],
        }),
        RequestPayload::Revoke(Revoke {
            id: some(public),
            reason: RevocationReasonCode::KeyCompromise,
            message: Some("why".into()),
            compromised: Some(1),
        }),
        ask::destroy("00_priv"),
        RequestPayload::Destroy { id: None },
    ];
    let mut header = RequestHeader::new(Version::V1_4);
    header.credential = Some(Credential::new("LocalHSM", "1234"));
    header.max_response = Some(8192);
    header.in_order = Some(false);
    header.on_error = Some(BatchErrorContinuation::Continue);
    let items: Vec<RequestItem> = (0_u64..)
        .zip(payloads)
        .map(|(id, payload)| RequestItem {
            batch_id: Some(id.to_be_bytes().to_vec()),
            payload,
        })
        .collect();
    let mut all: Vec<_> = items
        .iter()
        .map(|item| encode_request(&header, std::slice::from_ref(item)))
        .collect();
    all.push(encode_request(&header, &items));
    all
}

fn responses() -> Vec<Vec<u8>> {
    let id = || "00_pub".to_owned();
    let point = PublicKey::point(KeyKind::P256, &[5; 64]).expect("a point");
    let rsa = PublicKey::rsa(&[0xD5; 256], &[1, 0, 1]).expect("a key");
    let get = |key: &PublicKey, format| ResponsePayload::Get {
        object_type: ObjectType::PublicKey,
        id: id(),
        key: key.key_block(format).expect("known"),
    };
    let attributes = || {
        vec![
            AttributeValue::text_name("n").into(),
            Attribute {
                index: Some(3),
                value: AttributeValue::CryptographicParameters(Mechanism::Ed25519.parameters()),
            },
        ]
    };
    let payloads = vec![
        ResponsePayload::DiscoverVersions(Version::SPOKEN.to_vec()),
        ResponsePayload::Query(QueryResponse {
            operations: vec![Operation::Sign, Operation::Other(99)],
            objects: vec![ObjectType::PublicKey],
            vendor: Some("kmip2pkcs11".into()),
            signing_algorithms: Some(vec!["ED25519".into()]),
        }),
        ResponsePayload::CreateKeyPair {
            private: "00_priv".into(),
            public: id(),
        },
        ResponsePayload::Locate {
            located: Some(2),
            ids: vec![id(), id()],
        },
        get(&point, None),
        get(&point, Some(KeyFormatType::TransparentEcPublicKey)),
        get(&rsa, None),
        get(&rsa, Some(KeyFormatType::TransparentRsaPublicKey)),
        ResponsePayload::GetAttributes {
            id: id(),
            attributes: attributes(),
        },
        ResponsePayload::ModifyAttribute {
            id: id(),
            attribute: AttributeValue::text_name("m").into(),
        },
        ResponsePayload::Activate { id: id() },
        ResponsePayload::Revoke { id: id() },
        ResponsePayload::Destroy { id: id() },
        ResponsePayload::Sign {
            id: id(),
            signature: vec![3; 64],
        },
        ResponsePayload::SignatureVerify {
            id: id(),
            validity: ValidityIndicator::Invalid,
        },
    ];
    let failed = ResponseItem {
        operation: Some(Operation::Sign),
        batch_id: None,
        result: Err(Failure::new(
            cascade_kmip::enums::ResultReason::GeneralFailure,
            "HSM unavailable",
        )),
    };
    let answers = (1_u64..).zip(payloads).map(|(id, payload)| ResponseItem {
        operation: Some(payload.operation()),
        batch_id: Some(id.to_be_bytes().to_vec()),
        result: Ok(Some(payload)),
    });
    let items: Vec<_> = answers.chain([failed]).collect();
    let message = |items: Vec<ResponseItem>| {
        encode_response(&ResponseMessage {
            version: Version::V1_4,
            time: NOW,
            items,
        })
    };
    let mut all: Vec<_> = items.iter().map(|i| message(vec![i.clone()])).collect();
    all.push(message(items));
    all
}

/// What is done to a good message.
#[derive(Clone, Debug)]
enum Change {
    Truncate(Index),
    Set(Index, u8),
    Flip(Index, u8),
    Remove(Index, usize),
    Repeat(Index, usize),
    /// Another length of the message, as the header says it.
    Length(u32),
    /// A tag or type where one may stand.
    Header(Index, [u8; 4]),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        at().prop_map(Change::Truncate),
        (at(), any::<u8>()).prop_map(|(i, o)| Change::Set(i, o)),
        (at(), 0_u8..8).prop_map(|(i, b)| Change::Flip(i, b)),
        (at(), 1_usize..64).prop_map(|(i, n)| Change::Remove(i, n)),
        (at(), 1_usize..64).prop_map(|(i, n)| Change::Repeat(i, n)),
        any::<u32>().prop_map(Change::Length),
        (at(), tag_octets(), 0_u8..12)
            .prop_map(|(i, t, k)| { Change::Header(i, [t[0], t[1], t[2], k]) }),
    ]
}

fn tag_octets() -> impl Strategy<Value = [u8; 3]> {
    (0_u32..0x110).prop_map(|n| {
        let [_, a, b, c] = (0x42_0000 + n).to_be_bytes();
        [a, b, c]
    })
}

fn apply(message: &mut Vec<u8>, change: &Change) {
    if message.is_empty() {
        return;
    }
    let len = message.len();
    match change {
        Change::Truncate(i) => message.truncate(i.index(len)),
        Change::Set(i, o) => message[i.index(len)] = *o,
        Change::Flip(i, b) => message[i.index(len)] ^= 1 << b,
        Change::Remove(i, n) => {
            // Whole items often stay whole: they start at multiples of eight octets.
            let from = i.index(len) / 8 * 8;
            message.drain(from..(from + n * 8).min(len));
        }
        Change::Repeat(i, n) => {
            let from = i.index(len) / 8 * 8;
            let part = message[from..(from + n * 8).min(len)].to_vec();
            message.splice(from..from, part);
        }
        Change::Length(n) => {
            if let Some(length) = message.get_mut(4..8) {
                length.copy_from_slice(&n.to_be_bytes());
            }
        }
        Change::Header(i, octets) => {
            let from = i.index(len) / 8 * 8;
            if let Some(header) = message.get_mut(from..from + 4) {
                header.copy_from_slice(octets);
            }
        }
    }
}

/// Lengths of all structures around a change made right again would hide nothing; the whole
/// message's is enough to get deeper than the first check.
fn fix_length(message: &mut [u8]) {
    let len = (message.len() as u32).wrapping_sub(8);
    if let Some(length) = message.get_mut(4..8) {
        length.copy_from_slice(&len.to_be_bytes());
    }
}

/// A well-formed tree of items with tags of the protocol in places where they do not belong.
#[derive(Clone, Debug)]
enum Tree {
    Leaf(Tag, Kind, Vec<u8>),
    Node(Tag, Vec<Tree>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let tag = || (0_u32..0x110).prop_map(|n| Tag(0x42_0000 + n));
    let number = || prop_oneof![0_u32..40, any::<u32>()];
    let leaf = prop_oneof![
        (tag(), number()).prop_map(|(t, v)| Tree::Leaf(t, Kind::Integer, v.to_be_bytes().into())),
        (tag(), number()).prop_map(|(t, v)| Tree::Leaf(
            t,
            Kind::Enumeration,
            v.to_be_bytes().into()
        )),
        (tag(), any::<bool>()).prop_map(|(t, v)| Tree::Leaf(
            t,
            Kind::Boolean,
            u64::from(v).to_be_bytes().into()
        )),
        (tag(), any::<i64>()).prop_map(|(t, v)| Tree::Leaf(
            t,
            Kind::DateTime,
            v.to_be_bytes().into()
        )),
        (tag(), ".{0,20}").prop_map(|(t, v)| Tree::Leaf(t, Kind::TextString, v.into_bytes())),
        (tag(), vec(any::<u8>(), 0..40)).prop_map(|(t, v)| Tree::Leaf(t, Kind::ByteString, v)),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        (tag(), vec(inner, 0..8)).prop_map(|(t, items)| Tree::Node(t, items))
    })
}

fn plant(tree: &Tree, w: &mut Writer) {
    match tree {
        Tree::Leaf(tag, kind, value) => w.raw(*tag, *kind, value),
        Tree::Node(tag, items) => w.structure(*tag, |w| items.iter().for_each(|i| plant(i, w))),
    }
}

/// Everything a server and a client do with octets.
fn swallow(octets: &[u8]) {
    let (tokens, ..) = tokens();
    let server = Server::default();
    let answer = server.respond(octets, &tokens, NOW);
    let answer = read_response(&answer, LIMITS).expect("every answer is well-formed");
    assert!(!answer.items.is_empty());
    if let Ok(request) = read_request(octets, LIMITS, 256) {
        let memory = request_memory(&request);
        let most = MEMORY_FACTOR * octets.len() + CONSTANT;
        assert!(memory <= most, "{memory} octets for {}", octets.len());
    }
    if let Ok(response) = read_response(octets, LIMITS) {
        let memory = response_memory(&response);
        let most = MEMORY_FACTOR * octets.len() + CONSTANT;
        assert!(memory <= most, "{memory} octets for {}", octets.len());
        for item in response.items {
            if let Ok(Some(ResponsePayload::Get { key, .. })) = item.result {
                PublicKey::from_key_block(&key);
            }
        }
    }
    let mut client = Client::new(ClientSettings::default());
    for _ in 0..3 {
        client
            .send(vec![ask::query(); 5], BatchErrorContinuation::Continue)
            .expect("room");
    }
    let end = client.receive(octets);
    let done = std::iter::from_fn(|| client.next_completion()).count();
    // Each request completes once, at the latest with the connection's end.
    assert_eq!(done + client.in_flight(), 3);
    assert!(end.is_ok() || client.in_flight() == 0);
}

fn list<T>(v: &Vec<T>) -> usize {
    v.capacity() * size_of::<T>()
}

fn attributes_memory(all: &Vec<Attribute>) -> usize {
    let inside = |a: &Attribute| match &a.value {
        AttributeValue::UniqueIdentifier(s) => s.capacity(),
        AttributeValue::Name(n) => n.value.capacity(),
        AttributeValue::Other { name, value, .. } => name.capacity() + value.capacity(),
        _ => 0,
    };
    list(all) + all.iter().map(inside).sum::<usize>()
}

fn request_memory(message: &RequestMessage) -> usize {
    let string = |s: &Option<String>| s.as_ref().map_or(0, String::capacity);
    let octets = |o: &Option<Vec<u8>>| o.as_ref().map_or(0, Vec::capacity);
    let input = |i: &SignInput| match i {
        SignInput::Message(v) | SignInput::Digest(v) => v.capacity(),
    };
    let of = |item: &Result<RequestItem, ItemFailure>| match item {
        Ok(item) => {
            octets(&item.batch_id)
                + match &item.payload {
                    RequestPayload::DiscoverVersions(v) => list(v),
                    RequestPayload::Query(v) => list(v),
                    RequestPayload::CreateKeyPair(c) => {
                        attributes_memory(&c.common)
                            + attributes_memory(&c.private)
                            + attributes_memory(&c.public)
                    }
                    RequestPayload::Locate(l) => attributes_memory(&l.attributes),
                    RequestPayload::GetAttributes { id, names } => {
                        string(id) + list(names) + names.iter().map(String::capacity).sum::<usize>()
                    }
                    RequestPayload::ModifyAttribute { id, attribute } => {
                        string(id) + attributes_memory(&vec![attribute.clone()])
                    }
                    RequestPayload::Revoke(r) => string(&r.id) + string(&r.message),
                    RequestPayload::Sign(s) => string(&s.id) + input(&s.input),
                    RequestPayload::SignatureVerify(v) => {
                        string(&v.id) + input(&v.input) + v.signature.capacity()
                    }
                    RequestPayload::Get(Get { id, .. })
                    | RequestPayload::Activate { id }
                    | RequestPayload::Destroy { id } => string(id),
                }
        }
        Err(item) => octets(&item.batch_id) + item.failure.message.capacity(),
    };
    list(&message.items) + message.items.iter().map(of).sum::<usize>()
}

fn response_memory(message: &ResponseMessage) -> usize {
    let strings = |all: &Vec<String>| list(all) + all.iter().map(String::capacity).sum::<usize>();
    let of = |item: &ResponseItem| {
        item.batch_id.as_ref().map_or(0, Vec::capacity)
            + match &item.result {
                Ok(Some(ResponsePayload::Query(q))) => {
                    list(&q.operations)
                        + list(&q.objects)
                        + q.signing_algorithms.as_ref().map_or(0, strings)
                }
                Ok(Some(ResponsePayload::DiscoverVersions(v))) => list(v),
                Ok(Some(ResponsePayload::Locate { ids, .. })) => strings(ids),
                Ok(Some(ResponsePayload::GetAttributes { attributes, .. })) => {
                    attributes_memory(attributes)
                }
                Ok(_) => 0,
                Err(failure) => failure.message.capacity(),
            }
    };
    list(&message.items) + message.items.iter().map(of).sum::<usize>()
}

proptest! {
    #[test]
    fn random_octets(mut octets in vec(any::<u8>(), 0..400), kind in 0..3) {
        // Two of three start like a message.
        if kind > 0 && octets.len() >= 8 {
            octets[..4].copy_from_slice(&[0x42, 0, if kind == 1 { 0x78 } else { 0x7B }, 1]);
            fix_length(&mut octets);
        }
        swallow(&octets);
        let mut framer = Framer::new(tags::REQUEST_MESSAGE, 1000);
        framer.push(&octets);
        while let Ok(Some(message)) = framer.next_message() {
            prop_assert!(message.len() <= 1000);
        }
    }

    #[test]
    fn random_trees(items in vec(tree(), 0..6), response in any::<bool>()) {
        let root = if response { tags::RESPONSE_MESSAGE } else { tags::REQUEST_MESSAGE };
        let mut w = Writer::new();
        plant(&Tree::Node(root, items), &mut w);
        swallow(&w.finish());
    }

    #[test]
    fn random_payloads(items in vec(tree(), 0..4), operation in 0_u32..0x24, response: bool) {
        // The frame is good, so that every payload reader is reached.
        let (message, header, payload) = match response {
            false => (tags::REQUEST_MESSAGE, tags::REQUEST_HEADER, tags::REQUEST_PAYLOAD),
            true => (tags::RESPONSE_MESSAGE, tags::RESPONSE_HEADER, tags::RESPONSE_PAYLOAD),
        };
        let mut w = Writer::new();
        w.structure(message, |w| {
            w.structure(header, |w| {
                w.structure(tags::PROTOCOL_VERSION, |w| {
                    w.integer(tags::PROTOCOL_VERSION_MAJOR, 1);
                    w.integer(tags::PROTOCOL_VERSION_MINOR, 4);
                });
                if response {
                    w.date_time(tags::TIME_STAMP, 0);
                }
                w.integer(tags::BATCH_COUNT, 1);
            });
            w.structure(tags::BATCH_ITEM, |w| {
                w.enumeration(tags::OPERATION, Operation::Other(operation));
                if response {
                    w.enumeration(tags::RESULT_STATUS, Operation::Other(0));
                }
                plant(&Tree::Node(payload, items), w);
            });
        });
        swallow(&w.finish());
    }

    #[test]
    fn mutated_requests(which: Index, changes in vec(change(), 1..5), fix: bool) {
        let (_, private, public) = tokens();
        let all = requests(&private, &public);
        let mut message = all[which.index(all.len())].clone();
        changes.iter().for_each(|c| apply(&mut message, c));
        if fix {
            fix_length(&mut message);
        }
        swallow(&message);
    }

    #[test]
    fn mutated_responses(which: Index, changes in vec(change(), 1..5), fix: bool) {
        let all = responses();
        let mut message = all[which.index(all.len())].clone();
        changes.iter().for_each(|c| apply(&mut message, c));
        if fix {
            fix_length(&mut message);
        }
        swallow(&message);
    }

    #[test]
    fn random_keys_and_signatures(octets in vec(any::<u8>(), 0..140)) {
        PublicKey::from_spki(&octets);
        for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519, KeyKind::Rsa { bits: 1024 }] {
            if let Some(signature) = fixed_signature(kind, &octets) {
                prop_assert_eq!(signature.len(), kind.signature_len());
            }
        }
    }
}

#[test]
fn every_truncation() {
    let (_, private, public) = tokens();
    for message in requests(&private, &public).iter().chain(&responses()) {
        let step = if message.len() > 700 { 7 } else { 1 };
        for end in (0..message.len()).step_by(step) {
            swallow(&message[..end]);
        }
    }
}

#[test]
fn good_messages_survive() {
    let (_, private, public) = tokens();
    for message in requests(&private, &public) {
        let read = read_request(&message, LIMITS, 256).expect("good");
        let items: Vec<_> = read.items.into_iter().map(|i| i.expect("good")).collect();
        assert_eq!(encode_request(&read.header, &items), message);
    }
    for message in responses() {
        let read = read_response(&message, LIMITS).expect("good");
        assert_eq!(encode_response(&read), message);
    }
}

/// The lists that grow most for what they cost the sender.
#[test]
fn the_worst_lists_stay_in_proportion() {
    let request = |operation: u32, fill: &dyn Fn(&mut Writer)| {
        let mut w = Writer::new();
        w.structure(tags::REQUEST_MESSAGE, |w| {
            w.structure(tags::REQUEST_HEADER, |w| {
                w.structure(tags::PROTOCOL_VERSION, |w| {
                    w.integer(tags::PROTOCOL_VERSION_MAJOR, 1);
                    w.integer(tags::PROTOCOL_VERSION_MINOR, 4);
                });
                w.integer(tags::BATCH_COUNT, 1);
            });
            w.structure(tags::BATCH_ITEM, |w| {
                w.enumeration(tags::OPERATION, Operation::Other(operation));
                w.structure(tags::REQUEST_PAYLOAD, |w| (0..10_001).for_each(|_| fill(w)));
            });
        });
        w.finish()
    };
    let attribute = |w: &mut Writer| {
        w.structure(tags::ATTRIBUTE, |w| {
            w.text(tags::ATTRIBUTE_NAME, "");
            w.octets(tags::ATTRIBUTE_VALUE, &[]);
        });
    };
    let messages = [
        request(0x0B, &|w| w.text(tags::ATTRIBUTE_NAME, "")),
        request(0x18, &|w| {
            w.enumeration(tags::QUERY_FUNCTION, Operation::Other(1))
        }),
        request(0x08, &attribute),
    ];
    for message in messages {
        let read = read_request(&message, LIMITS, 256).expect("good");
        assert!(read.items[0].is_ok());
        let memory = request_memory(&read);
        assert!(memory <= MEMORY_FACTOR * message.len() + CONSTANT);
        swallow(&message);
    }
}
