//! KMIP over standard input and output, for tests against other implementations.
//!
//! `kmip-pipe server` answers requests with a token in memory (user `LocalHSM`, PIN `1234`).
//! `kmip-pipe client` takes a key of each algorithm named as further arguments (`RSA-2048`,
//! `P-256`, ...) through its life on the server at the other end, and says on standard error what
//! it found; the exit status is 0 if everything was as it should be.

#[path = "../tests/software/mod.rs"]
mod software;

use std::io::{Read, Write, stdin, stdout};
use std::process::ExitCode;

use cascade_kmip::attribute::AttributeValue;
use cascade_kmip::client::{Answer, Broken, Client, ClientSettings, Vendor, ask};
use cascade_kmip::enums::{BatchErrorContinuation, ObjectType, State};
use cascade_kmip::payload::{RequestPayload, ResponsePayload};
use cascade_kmip::server::Server;
use cascade_kmip::ttlv::Framer;
use cascade_kmip::{
    Credential, Hash, KeyKind, Mechanism, PublicKey, SignInput, Version, fixed_signature, tags,
};

/// The time that responses carry; nobody here looks at it.
const NOW: i64 = 1_764_112_000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let done = match arguments.next().as_deref() {
        Some("server") => serve(),
        Some("client") => arguments.try_for_each(|name| Pipe::new()?.life_of_a_key(&name)),
        _ => Err("usage: kmip-pipe server | kmip-pipe client ALGORITHM...".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kmip-pipe: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), String> {
    let server = Server::default();
    let tokens = software::SoftwareTokens::new();
    let max = server.limits().request.max_octets;
    let mut framer = Framer::new(tags::REQUEST_MESSAGE, max);
    let mut buffer = [0; 4096];
    loop {
        match framer.next_message() {
            Ok(Some(request)) => write(&server.respond(request, &tokens, NOW))?,
            Ok(None) => {
                let octets = read(&mut buffer)?;
                if octets.is_empty() {
                    return Ok(());
                }
                framer.push(octets);
            }
            Err(error) => {
                write(&server.refuse(&error, NOW))?;
                return Err(error.to_string());
            }
        }
    }
}

fn write(octets: &[u8]) -> Result<(), String> {
    let mut out = stdout().lock();
    out.write_all(octets)
        .and_then(|()| out.flush())
        .map_err(|e| format!("writing: {e}"))
}

fn read(buffer: &mut [u8]) -> Result<&[u8], String> {
    let n = stdin().lock().read(buffer);
    n.map(|n| &buffer[..n]).map_err(|e| format!("reading: {e}"))
}

/// A client whose connection are the standard streams.
struct Pipe {
    client: Client,
}

impl Pipe {
    fn new() -> Result<Pipe, String> {
        let client = Client::new(ClientSettings {
            version: Version::V1_1,
            credential: Some(Credential::new("LocalHSM", "1234")),
            max_in_flight: 1,
            ..ClientSettings::default()
        });
        let mut pipe = Pipe { client };
        let ResponsePayload::DiscoverVersions(versions) = pipe.ok(ask::discover_versions())? else {
            return Err("another answer to Discover Versions".into());
        };
        let best = Version::best(&Version::SPOKEN, &versions).ok_or("no common version")?;
        pipe.client.set_version(best);
        let ResponsePayload::Query(query) = pipe.ok(ask::query())? else {
            return Err("another answer to Query".into());
        };
        let vendor = query.vendor.unwrap_or_default();
        eprintln!("KMIP {best} with '{vendor}'");
        let limits = Vendor::of(&vendor);
        if limits.prefix.is_empty() {
            return Err("the vendor is not known".into());
        }
        Ok(pipe)
    }

    fn batch(&mut self, payloads: Vec<RequestPayload>) -> Result<Vec<Answer>, String> {
        self.client
            .send(payloads, BatchErrorContinuation::Continue)
            .map_err(|e| e.to_string())?;
        let mut buffer = [0; 4096];
        loop {
            while let Some(output) = self.client.take_output() {
                write(&output)?;
            }
            if let Some(completion) = self.client.next_completion() {
                return Ok(completion.results);
            }
            let octets = read(&mut buffer)?;
            match octets.is_empty() {
                true => self.client.fail(Broken::Closed),
                false => self.client.receive(octets).map_err(|e| e.to_string())?,
            }
        }
    }

    fn one(&mut self, payload: RequestPayload) -> Result<Answer, String> {
        let mut answers = self.batch(vec![payload])?;
        answers.pop().ok_or_else(|| "no answer".into())
    }

    fn ok(&mut self, payload: RequestPayload) -> Result<ResponsePayload, String> {
        self.one(payload)?.map_err(|e| e.to_string())
    }

    fn life_of_a_key(&mut self, name: &str) -> Result<(), String> {
        let (kind, mechanism) = match name {
            "RSA-2048" => (
                KeyKind::Rsa { bits: 2048 },
                Mechanism::RsaPkcs1(Hash::Sha256),
            ),
            "RSA-2048-SHA512" => (
                KeyKind::Rsa { bits: 2048 },
                Mechanism::RsaPkcs1(Hash::Sha512),
            ),
            "P-256" => (KeyKind::P256, Mechanism::Ecdsa(Hash::Sha256)),
            "P-384" => (KeyKind::P384, Mechanism::Ecdsa(Hash::Sha384)),
            "Ed25519" => (KeyKind::Ed25519, Mechanism::Ed25519),
            other => return Err(format!("unknown algorithm {other}")),
        };
        let label = format!("example.net-zsk-{name}-pri");
        let request = ask::create_key_pair(kind, &label, "example.net-zsk-pub");
        let ResponsePayload::CreateKeyPair { private, public } = self.ok(request)? else {
            return Err("another answer to Create Key Pair".into());
        };
        for id in [&private, &public] {
            self.ok(ask::activate(id))?;
        }
        let ResponsePayload::Get { key, .. } = self.ok(ask::public_key(&public))? else {
            return Err("another answer to Get".into());
        };
        let key = PublicKey::from_key_block(&key).ok_or("the key block holds no key")?;
        if key.kind() != kind {
            return Err(format!("asked for {kind:?}, got {:?}", key.kind()));
        }
        self.check_attributes(&private, &label)?;

        let message = |n: usize| format!("message {n}").into_bytes();
        let sign = |n| ask::sign(&private, mechanism, SignInput::Message(message(n)));
        for (n, answer) in self
            .batch((0..8).map(sign).collect())?
            .into_iter()
            .enumerate()
        {
            let ResponsePayload::Sign { signature, .. } = answer.map_err(|e| e.to_string())? else {
                return Err("another answer to Sign".into());
            };
            let signature = fixed_signature(kind, &signature).ok_or("signature of wrong length")?;
            if !software::verify(&key, mechanism, &message(n), &signature) {
                return Err(format!("signature {n} does not verify"));
            }
        }

        let ResponsePayload::Locate { ids, .. } =
            self.ok(ask::locate(ObjectType::PrivateKey, Some(&label)))?
        else {
            return Err("another answer to Locate".into());
        };
        if ids != [private.clone()] {
            return Err(format!("located {ids:?} instead of {private}"));
        }
        for id in [&private, &public] {
            self.ok(ask::revoke(id, "rolled"))?;
            self.ok(ask::destroy(id))?;
        }
        match self.one(sign(0))? {
            Err(error) if error.is_gone() => eprintln!("{name}: good"),
            other => return Err(format!("a destroyed key answers {other:?}")),
        }
        Ok(())
    }

    fn check_attributes(&mut self, private: &str, label: &str) -> Result<(), String> {
        let ResponsePayload::GetAttributes { attributes, .. } =
            self.ok(ask::attributes(private))?
        else {
            return Err("another answer to Get Attributes".into());
        };
        for wanted in [
            AttributeValue::text_name(label),
            AttributeValue::State(State::Active),
            AttributeValue::ObjectType(ObjectType::PrivateKey),
        ] {
            if !attributes.iter().any(|a| a.value == wanted) {
                return Err(format!("the private key's attributes lack {wanted:?}"));
            }
        }
        Ok(())
    }
}
