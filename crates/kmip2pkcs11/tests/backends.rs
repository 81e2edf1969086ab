//! One suite for every place where keys can be: files, a SoftHSM token, a token with the manners of
//! a network HSM, and the last two behind this program. What signs a zone must not notice which.
#![allow(
    clippy::disallowed_methods,
    reason = "a test waits for another process"
)]

#[path = "../../../integration/netlike/tests/suite/mod.rs"]
mod suite;
mod support;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cascade_crypto::{
    Batch, FileKeyStore, KeySpec, KeyStore, Labelling, Mode, NewKey, Role, Signatures, StoredKey,
    ZoneRef,
};
use cascade_hsm::{KeyId as TokenKeyId, SignInput as TokenInput, Token};
use cascade_kmip::client::{AnswerError, ask};
use cascade_kmip::enums::{ObjectType, ResultReason};
use cascade_kmip::payload::ResponsePayload;
use cascade_kmip::{Credential, Hash, KeyKind, Mechanism, PublicKey, SignInput};
use cascade_time::Timestamp;
use cascade_zone::{KeyId, Name, ZoneId};
use ring::signature as judge;
use suite::{Bench, isolated};
use support::{LABEL, PIN, Peer, program};

const MESSAGES: usize = 60;

/// An algorithm of the suite, in everybody's words.
#[derive(Clone, Copy)]
struct Kind {
    spec: &'static str,
    kmip: KeyKind,
    mechanism: Mechanism,
}

const KINDS: [Kind; 4] = [
    Kind {
        spec: "ECDSAP256SHA256",
        kmip: KeyKind::P256,
        mechanism: Mechanism::Ecdsa(Hash::Sha256),
    },
    Kind {
        spec: "ECDSAP384SHA384",
        kmip: KeyKind::P384,
        mechanism: Mechanism::Ecdsa(Hash::Sha384),
    },
    Kind {
        spec: "ED25519",
        kmip: KeyKind::Ed25519,
        mechanism: Mechanism::Ed25519,
    },
    Kind {
        spec: "RSASHA256:2048",
        kmip: KeyKind::Rsa { bits: 2048 },
        mechanism: Mechanism::RsaPkcs1(Hash::Sha256),
    },
];

/// A public key as it stands in a DNSKEY.
type Public = Vec<u8>;

/// A place for keys. Keys are named by whatever the place calls them.
trait Backend {
    fn make(&mut self, kind: Kind) -> (String, Public);
    /// `None` if there is no such key.
    fn public(&mut self, key: &str, kind: Kind) -> Option<Public>;
    /// `None` if there is no such key.
    fn sign(&mut self, key: &str, kind: Kind, messages: &[Vec<u8>]) -> Option<Vec<Vec<u8>>>;
    /// Labels both halves: `None` where keys have no labels, false where they cannot be changed.
    fn label(&mut self, key: &str, label: &str) -> Option<bool>;
    /// Halves with this label.
    fn labelled(&mut self, label: &str) -> usize;
    fn destroy(&mut self, key: &str);
    /// Private halves that are there.
    fn count(&mut self) -> usize;
    /// Everything is closed, and opened again by another process where there is one.
    fn reopen(&mut self);
}

/// The suite itself.
fn suite(place: &mut dyn Backend, labels: Option<bool>) {
    for kind in KINDS {
        let spec = kind.spec;
        let (one, public) = place.make(kind);
        let (two, other) = place.make(kind);
        assert!(one != two && public != other, "{spec}: two keys");
        assert_eq!(place.count(), 2, "{spec}");
        let messages: Vec<Vec<u8>> = (0..MESSAGES).map(|n| vec![n as u8; 20 + 7 * n]).collect();
        let signed = place.sign(&one, kind, &messages).expect("signs");
        assert_eq!(signed.len(), messages.len(), "{spec}");
        for (n, (message, signature)) in messages.iter().zip(&signed).enumerate() {
            assert!(verifies(kind, &public, message, signature), "{spec} {n}");
            let next = &messages[(n + 1) % MESSAGES];
            assert!(!verifies(kind, &public, next, signature), "{spec} {n}");
            assert!(!verifies(kind, &other, message, signature), "{spec} {n}");
        }

        let name = format!("example.net-12345-zsk-{}", one.len());
        let done = place.label(&one, &name);
        assert_eq!(done, labels, "{spec}: labels");
        if let Some(done) = done {
            assert_eq!(place.labelled(&name), if done { 2 } else { 0 }, "{spec}");
        }

        place.reopen();
        assert_eq!(place.public(&one, kind), Some(public.clone()), "{spec}");
        let again = place.sign(&one, kind, &messages[..1]).expect("signs");
        assert!(verifies(kind, &public, &messages[0], &again[0]), "{spec}");

        place.destroy(&one);
        // Already gone is success.
        place.destroy(&one);
        assert!(place.sign(&one, kind, &messages[..1]).is_none(), "{spec}");
        assert_eq!(place.public(&one, kind), None, "{spec}");
        let rest = place.sign(&two, kind, &messages[..1]).expect("untouched");
        assert!(verifies(kind, &other, &messages[0], &rest[0]), "{spec}");
        place.destroy(&two);
        assert_eq!(place.count(), 0, "{spec}: nothing is left");
    }
}

/// By a library that has no part in making signatures.
fn verifies(kind: Kind, public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let point = [&[4], public].concat();
    let (algorithm, key): (&dyn judge::VerificationAlgorithm, &[u8]) = match kind.kmip {
        KeyKind::P256 => (&judge::ECDSA_P256_SHA256_FIXED, &point),
        KeyKind::P384 => (&judge::ECDSA_P384_SHA384_FIXED, &point),
        KeyKind::Ed25519 => (&judge::ED25519, public),
        _ => {
            // RFC 3110 §2: an exponent of less than 256 octets has one octet of length.
            let (len, rest) = public.split_first().expect("octets");
            let (e, n) = rest.split_at(usize::from(*len));
            return judge::RsaPublicKeyComponents { n, e }
                .verify(&judge::RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok();
        }
    };
    judge::UnparsedPublicKey::new(algorithm, key)
        .verify(message, signature)
        .is_ok()
}

fn rfc3110(modulus: &[u8], exponent: &[u8]) -> Public {
    [&[exponent.len() as u8], exponent, modulus].concat()
}

// ---- files

struct Files {
    folder: tempfile::TempDir,
    store: FileKeyStore,
    zone: Name,
    keys: BTreeMap<String, StoredKey>,
    made: u8,
}

impl Files {
    fn zone(name: &Name) -> ZoneRef<'_> {
        let id = ZoneId([7; 16]);
        ZoneRef { id, name }
    }
}

impl Backend for Files {
    fn make(&mut self, kind: Kind) -> (String, Public) {
        self.made += 1;
        let key = self.store.generate(&NewKey {
            id: KeyId([self.made; 16]),
            zone: Files::zone(&self.zone),
            role: Role::Zsk,
            spec: kind.spec.parse::<KeySpec>().expect("an algorithm"),
            taken_tags: &[],
            tag_range: 0..=u16::MAX,
            labelling: Labelling::Auto,
            now: Timestamp::EPOCH,
        });
        let (key, _) = key.expect("makes a key");
        let public = key.dnskey.public_key().to_vec();
        self.keys.insert(key.reference.clone(), key.clone());
        (key.reference, public)
    }

    fn public(&mut self, key: &str, _: Kind) -> Option<Public> {
        let all = self.store.list(Files::zone(&self.zone)).expect("lists");
        let found = all.into_iter().find(|k| k.reference == key)?;
        Some(found.dnskey.public_key().to_vec())
    }

    fn sign(&mut self, key: &str, _: Kind, messages: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
        let stored = self.keys.get(key)?;
        let zone = Files::zone(&self.zone);
        let key = self.store.load(KeyId([0; 16]), zone, stored).ok()?;
        let Mode::Inline(signer) = key.mode() else {
            panic!("software keys sign inline")
        };
        let (mut batch, mut out) = (Batch::new(key.input()), Signatures::new());
        messages.iter().for_each(|m| assert!(batch.push(m)));
        signer.sign_batch(&batch, &mut out).expect("signs");
        (0..messages.len())
            .map(|i| out.get(i).map(<[u8]>::to_vec))
            .collect()
    }

    fn label(&mut self, _: &str, _: &str) -> Option<bool> {
        None
    }

    fn labelled(&mut self, _: &str) -> usize {
        0
    }

    fn destroy(&mut self, key: &str) {
        let stored = &self.keys[key];
        let zone = Files::zone(&self.zone);
        self.store.destroy(zone, stored).expect("destroyed");
    }

    fn count(&mut self) -> usize {
        let all = self.store.list(Files::zone(&self.zone));
        all.expect("lists").len()
    }

    fn reopen(&mut self) {
        self.store = FileKeyStore::new(self.folder.path());
    }
}

#[test]
fn files() {
    let folder = tempfile::tempdir().expect("directory");
    let mut files = Files {
        store: FileKeyStore::new(folder.path()),
        folder,
        zone: Name::parse("example.net").expect("a name"),
        keys: BTreeMap::new(),
        made: 0,
    };
    suite(&mut files, None);
}

// ---- a token, driven directly

struct Direct {
    module: PathBuf,
    bench: Bench,
    token: Arc<Token>,
}

impl Direct {
    fn open(module: &Path) -> Direct {
        let bench = Bench::load(module);
        Direct {
            module: module.to_owned(),
            token: bench.open(LABEL, PIN),
            bench,
        }
    }
}

fn id(key: &str) -> TokenKeyId {
    TokenKeyId::parse(key).expect("an id")
}

fn token_kind(kind: Kind) -> cascade_hsm::KeyKind {
    let at = KINDS.iter().position(|k| k.spec == kind.spec);
    suite::KINDS[at.expect("one of the four")]
}

fn token_public(key: cascade_hsm::PublicKey) -> Public {
    match key {
        cascade_hsm::PublicKey::Point { octets, .. } => octets,
        cascade_hsm::PublicKey::Rsa { modulus, exponent } => rfc3110(&modulus, &exponent),
    }
}

impl Backend for Direct {
    fn make(&mut self, kind: Kind) -> (String, Public) {
        let made = suite::make(&self.token, token_kind(kind));
        (made.id.as_str().to_string(), token_public(made.public))
    }

    fn public(&mut self, key: &str, _: Kind) -> Option<Public> {
        self.token.public_key(&id(key)).ok().map(token_public)
    }

    fn sign(&mut self, key: &str, kind: Kind, messages: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
        let inputs: Vec<TokenInput> = messages.iter().cloned().map(TokenInput::Message).collect();
        let mechanism = suite::mechanism(token_kind(kind));
        let all = self.token.sign_batch(&id(key), mechanism, &inputs);
        all.into_iter().map(Result::ok).collect()
    }

    fn label(&mut self, key: &str, label: &str) -> Option<bool> {
        let halves = [cascade_hsm::Half::Public, cascade_hsm::Half::Private];
        let mut all = halves.into_iter();
        Some(all.all(|half| self.token.rename(&id(key), half, label).is_ok()))
    }

    fn labelled(&mut self, label: &str) -> usize {
        self.token.objects(Some(label)).expect("lists").len()
    }

    fn destroy(&mut self, key: &str) {
        self.token.destroy_pair(&id(key)).expect("destroyed");
    }

    fn count(&mut self) -> usize {
        let all = self.token.objects(None).expect("lists").into_iter();
        all.filter(|o| o.half == cascade_hsm::Half::Private).count()
    }

    fn reopen(&mut self) {
        self.bench.hsm.finish(Duration::from_secs(5));
        *self = Direct::open(&self.module);
    }
}

#[test]
fn softhsm() {
    isolated("softhsm", softhsm_token, |_| {
        let mut direct = Direct::open(&suite::softhsm_module());
        suite(&mut direct, Some(true));
        // SoftHSM tears itself down when the process ends, and no thread may be in it then.
        direct.bench.hsm.finish(Duration::from_secs(10));
    });
}

#[test]
fn network_hsm() {
    isolated("network_hsm", netlike_token, |_| {
        suite(&mut Direct::open(&netlike_module()), Some(false));
    });
}

type Environment = Vec<(&'static str, String)>;

fn softhsm_token(folder: &Path) -> Environment {
    let (tokens, conf) = (folder.join("tokens"), folder.join("softhsm2.conf"));
    std::fs::create_dir(&tokens).expect("own folder");
    let text = format!("directories.tokendir = {}\n", tokens.display());
    std::fs::write(&conf, text).expect("own folder");
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", LABEL])
        .args(["--so-pin", "1234", "--pin", PIN])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .expect("softhsm2-util is installed");
    assert!(made.status.success(), "{made:?}");
    vec![("SOFTHSM2_CONF", conf.display().to_string())]
}

fn netlike_token(folder: &Path) -> Environment {
    let conf = folder.join("netlike.toml");
    let text = format!(
        "store = '{}/keys'\n[[slot]]\nlabel = '{LABEL}'\n",
        folder.display()
    );
    std::fs::write(&conf, text).expect("own folder");
    vec![("NETLIKE_CONFIG", conf.display().to_string())]
}

/// Where cargo puts it when it builds this test.
fn netlike_module() -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    own.with_file_name("libcascade_netlike.so")
}

// ---- a token behind the program

struct Bridged {
    module: PathBuf,
    env: Environment,
    child: Child,
    peer: Peer<UnixStream>,
}

fn start(module: &Path, env: &Environment) -> (Child, Peer<UnixStream>) {
    let (ours, theirs) = UnixStream::pair().expect("pair");
    let child = program()
        .arg("--managed")
        .arg(module)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let limit = Some(Duration::from_secs(30));
    ours.set_read_timeout(limit).expect("timeout");
    let mut peer = Peer::new(ours, Credential::new(LABEL, PIN));
    // The module may still be loading.
    let ready = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        peer.ask(ask::query()).is_ok()
    });
    assert!(ready, "the bridge answers");
    (child, peer)
}

impl Bridged {
    fn open(module: &Path, env: Environment) -> Bridged {
        let module = module.canonicalize().expect("the module");
        let (child, peer) = start(&module, &env);
        Bridged {
            module,
            env,
            child,
            peer,
        }
    }

    fn made(&mut self, kind: Kind, private: &str, public: &str) -> String {
        match self
            .peer
            .good(ask::create_key_pair(kind.kmip, private, public))
        {
            ResponsePayload::CreateKeyPair { private, public } => {
                let key = private.strip_suffix("_priv").expect("a private half");
                assert_eq!(public, format!("{key}_pub"));
                key.to_string()
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Backend for Bridged {
    fn make(&mut self, kind: Kind) -> (String, Public) {
        let key = self.made(kind, "a-pri", "a-pub");
        let public = self.public(&key, kind).expect("a public key");
        (key, public)
    }

    fn public(&mut self, key: &str, kind: Kind) -> Option<Public> {
        match self.peer.ask(ask::public_key(&format!("{key}_pub"))) {
            Ok(ResponsePayload::Get { key, .. }) => {
                let key = PublicKey::from_key_block(&key).expect("a key block");
                assert_eq!(key.kind(), kind.kmip);
                Some(match key {
                    PublicKey::Point { octets, .. } => octets,
                    PublicKey::Rsa { modulus, exponent } => rfc3110(&modulus, &exponent),
                })
            }
            Err(e) if e.is_gone() => None,
            other => panic!("{other:?}"),
        }
    }

    fn sign(&mut self, key: &str, kind: Kind, messages: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
        let id = format!("{key}_priv");
        let one = |m: &Vec<u8>| ask::sign(&id, kind.mechanism, SignInput::Message(m.clone()));
        let all = self.peer.ask_all(messages.iter().map(one).collect());
        all.into_iter()
            .map(|answer| match answer {
                Ok(ResponsePayload::Sign { signature, .. }) => Some(signature),
                Err(e) if e.is_gone() => None,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn label(&mut self, key: &str, label: &str) -> Option<bool> {
        let halves = [format!("{key}_priv"), format!("{key}_pub")];
        let mut all = halves.iter();
        Some(all.all(|id| match self.peer.ask(ask::rename(id, label)) {
            Ok(_) => true,
            Err(AnswerError::Refused { failure, .. }) => {
                assert_eq!(failure.reason, ResultReason::PermissionDenied);
                false
            }
            other => panic!("{other:?}"),
        }))
    }

    fn labelled(&mut self, label: &str) -> usize {
        let kinds = [ObjectType::PrivateKey, ObjectType::PublicKey];
        let found = kinds.map(
            |kind| match self.peer.good(ask::locate(kind, Some(label))) {
                ResponsePayload::Locate { ids, .. } => ids.len(),
                other => panic!("{other:?}"),
            },
        );
        found.iter().sum()
    }

    fn destroy(&mut self, key: &str) {
        for half in ["priv", "pub"] {
            self.peer.good(ask::destroy(&format!("{key}_{half}")));
        }
    }

    fn count(&mut self) -> usize {
        match self.peer.good(ask::locate(ObjectType::PrivateKey, None)) {
            ResponsePayload::Locate { ids, .. } => ids.len(),
            other => panic!("{other:?}"),
        }
    }

    fn reopen(&mut self) {
        let closed = self.peer.stream.shutdown(std::net::Shutdown::Both);
        closed.expect("our own socket");
        let status = self.child.wait().expect("our own child");
        assert_eq!(status.code(), Some(0));
        (self.child, self.peer) = start(&self.module, &self.env);
    }
}

impl Drop for Bridged {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn softhsm_behind_the_bridge() {
    let folder = tempfile::tempdir().expect("directory");
    let env = softhsm_token(folder.path());
    let mut bridge = Bridged::open(&suite::softhsm_module(), env);
    suite(&mut bridge, Some(true));
}

#[test]
fn network_hsm_behind_the_bridge() {
    let folder = tempfile::tempdir().expect("directory");
    let env = netlike_token(folder.path());
    suite(&mut Bridged::open(&netlike_module(), env), Some(false));
}

/// One name for both halves stays with the key on every token; where labels cannot be changed it is
/// what other tools show.
#[test]
fn names_given_at_creation_are_what_others_see() {
    let name = "example.net-ksk-0a1b2c3d";
    let tokens: [(PathBuf, fn(&Path) -> Environment, bool); 2] = [
        (suite::softhsm_module(), softhsm_token, true),
        (netlike_module(), netlike_token, false),
    ];
    for (module, token, random_id) in tokens {
        let folder = tempfile::tempdir().expect("directory");
        let env = token(folder.path());
        let mut bridge = Bridged::open(&module, env.clone());
        let key = bridge.made(KINDS[0], name, name);
        let hex: String = name.bytes().map(|o| format!("{o:02X}")).collect();
        match random_id {
            true => assert_eq!(key.len(), 40, "{key}"),
            false => assert_eq!(key, hex),
        }
        let mut tool = Command::new("pkcs11-tool");
        tool.arg("--module").arg(&module).arg("--list-objects");
        // The other one's module has logged in by itself.
        if random_id {
            tool.args(["--login", "--pin", PIN]);
        }
        let listed = tool.envs(env.iter().map(|(name, value)| (name, value)));
        let listed = listed.output().expect("pkcs11-tool of opensc is installed");
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let shown = text
            .lines()
            .filter(|l| l.contains("label:") && l.contains(name));
        assert_eq!(shown.count(), 2, "{text}");
        // A second key of that name is refused, not confused, where the name is the id.
        let again = bridge
            .peer
            .ask(ask::create_key_pair(KeyKind::P256, name, name));
        assert_eq!(again.is_ok(), random_id, "{again:?}");
        // Keys without names have none until they get one.
        let plain = bridge.made(KINDS[0], "", "");
        assert_eq!(plain.len(), 40, "{plain}");
        assert_eq!(bridge.label(&plain, "later"), Some(random_id));
    }
}
