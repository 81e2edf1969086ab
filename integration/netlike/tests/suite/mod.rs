//! What every PKCS#11 backend must do, whatever its manners. Each test runs in a process of its
//! own: a module is loaded once in a process and reads its environment then.
#![allow(dead_code, reason = "each backend has its own use of these")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cascade_hsm::{
    Event, Half, Hash, Hsm, HsmError, KeyId, KeyKind, Made, Mechanism, Naming, NewPair, PublicKey,
    SecretString, Settings, SignInput, Token,
};
use cascade_time::{Clock, Timestamp};
use ring::signature as judge;

pub const KINDS: [KeyKind; 4] = [
    KeyKind::P256,
    KeyKind::P384,
    KeyKind::Ed25519,
    KeyKind::Rsa { bits: 2048 },
];

/// Set in the process that has the module.
const CHILD: &str = "NETLIKE_TEST_CHILD";
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `body` in a child of this process with what `setup` put into the folder and returns as
/// environment. `test` is the full name of the calling test.
pub fn isolated(
    test: &str,
    setup: impl FnOnce(&Path) -> Vec<(&'static str, String)>,
    body: impl FnOnce(&Path),
) {
    if let Ok(folder) = std::env::var(CHILD) {
        return body(Path::new(&folder));
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let env = setup(folder.path());
    let mut child = Command::new(std::env::current_exe().expect("own path"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, folder.path())
        .envs(env)
        .stdin(Stdio::null())
        .spawn()
        .expect("a child of the test");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("own child") {
            break status;
        }
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("{test}: the child hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{test}: {status}");
}

pub struct Wall(Instant);

impl Wall {
    pub fn new() -> Wall {
        Wall(Instant::now())
    }
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Timestamp::from_nanos(since.expect("after 1970").as_nanos() as i64)
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A module with a list of what happened.
pub struct Bench {
    pub hsm: Hsm,
    pub events: Arc<Mutex<Vec<Event>>>,
}

impl Bench {
    pub fn load(module: &Path) -> Bench {
        Bench::with(module, Settings::new([9; 16]))
    }

    pub fn with(module: &Path, settings: Settings) -> Bench {
        let events = Arc::new(Mutex::new(Vec::new()));
        let own = Arc::clone(&events);
        let observer = Arc::new(move |event| own.lock().expect("no panic").push(event));
        let clock = Arc::new(Wall::new());
        let hsm = Hsm::load(module, settings, clock, observer).expect("the module loads");
        Bench { hsm, events }
    }

    pub fn open(&self, name: &str, pin: &str) -> Arc<Token> {
        self.hsm.open(name, &pin.into()).expect("the token opens")
    }

    pub fn saw(&self, what: impl Fn(&Event) -> bool) -> bool {
        self.events.lock().expect("no panic").iter().any(what)
    }
}

pub fn pin(text: &str) -> SecretString {
    text.into()
}

/// Different octets for each call within a process.
pub fn random() -> [u8; 20] {
    use ring::rand::SecureRandom;
    let mut octets = [0; 20];
    ring::rand::SystemRandom::new()
        .fill(&mut octets)
        .expect("random octets");
    octets
}

pub fn make(token: &Token, kind: KeyKind) -> Made {
    token
        .generate(&NewPair {
            kind,
            random: random(),
            naming: Naming::Plain,
        })
        .unwrap_or_else(|e| panic!("{}: {e}", kind.name()))
}

pub fn mechanism(kind: KeyKind) -> Mechanism {
    match kind {
        KeyKind::Rsa { .. } => Mechanism::RsaPkcs1(Hash::Sha256),
        KeyKind::P256 => Mechanism::Ecdsa(Hash::Sha256),
        KeyKind::P384 => Mechanism::Ecdsa(Hash::Sha384),
        KeyKind::Ed25519 | KeyKind::Ed448 => Mechanism::Eddsa,
    }
}

/// By a library that has no part in making signatures.
pub fn verifies(public: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    match public {
        PublicKey::Rsa { modulus, exponent } => judge::RsaPublicKeyComponents {
            n: modulus,
            e: exponent,
        }
        .verify(&judge::RSA_PKCS1_2048_8192_SHA256, message, signature)
        .is_ok(),
        PublicKey::Point { kind, octets } => {
            let full = [&[4], octets.as_slice()].concat();
            let (algorithm, key): (&dyn judge::VerificationAlgorithm, &[u8]) = match kind {
                KeyKind::P256 => (&judge::ECDSA_P256_SHA256_FIXED, &full),
                KeyKind::P384 => (&judge::ECDSA_P384_SHA384_FIXED, &full),
                KeyKind::Ed25519 => (&judge::ED25519, octets),
                other => panic!("{other:?} cannot be judged"),
            };
            judge::UnparsedPublicKey::new(algorithm, key)
                .verify(message, signature)
                .is_ok()
        }
    }
}

pub fn sign(
    token: &Token,
    key: &KeyId,
    kind: KeyKind,
    message: &[u8],
) -> Result<Vec<u8>, HsmError> {
    token.sign(key, mechanism(kind), &SignInput::Message(message.to_vec()))
}

/// Makes a key of each kind, signs by each way, and lets the judge decide.
pub fn make_and_sign(token: &Token) {
    for kind in KINDS {
        let made = make(token, kind);
        assert_eq!(made.public.kind(), kind);
        assert_eq!(token.public_key(&made.id).as_ref(), Ok(&made.public));
        let signature = sign(token, &made.id, kind, b"one").expect("signs");
        assert_eq!(signature.len(), kind.signature_len());
        assert!(
            verifies(&made.public, b"one", &signature),
            "{}",
            kind.name()
        );
        assert!(!verifies(&made.public, b"two", &signature));
        if let Some(hash) = mechanism(kind).hash() {
            let digest = SignInput::Digest(hash.of(b"one"));
            let signature = token
                .sign(&made.id, mechanism(kind), &digest)
                .expect("signs");
            assert!(verifies(&made.public, b"one", &signature));
        }
        let wrong = match kind {
            KeyKind::Rsa { .. } => Mechanism::Eddsa,
            _ => Mechanism::RsaPkcs1(Hash::Sha256),
        };
        let refused = token.sign(&made.id, wrong, &SignInput::Message(vec![1]));
        assert!(matches!(refused, Err(HsmError::BadInput(_))), "{refused:?}");
    }
}

pub fn softhsm_module() -> PathBuf {
    for path in [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
    ] {
        if Path::new(path).exists() {
            return path.into();
        }
    }
    panic!("SoftHSM is not installed: apt-get install softhsm2");
}

/// Both halves of a key, as `objects` shows them.
pub fn halves(token: &Token, key: &KeyId) -> Vec<Half> {
    let objects = token.objects(None).expect("lists");
    let own = objects.into_iter().filter(|object| object.id == *key);
    own.map(|object| object.half).collect()
}

pub fn input(text: &str) -> SignInput {
    SignInput::Message(text.as_bytes().to_vec())
}

/// Finds keys, changes labels where the token allows it, and destroys.
pub fn find_rename_destroy(token: &Token, renames: bool) {
    for kind in KINDS {
        let made = make(token, kind);
        let other = make(token, kind);
        assert_eq!(made.id.as_str().len(), 40);
        assert_eq!(made.sensitive, Some(true));
        assert_eq!(made.extractable, Some(false));
        assert_eq!(token.kind(&made.id), Ok(kind));
        for half in [Half::Public, Half::Private] {
            let object = token.object(&made.id, half).expect("found");
            assert_eq!((object.kind, object.half), (Some(kind), half));
            let result = token.rename(&made.id, half, "example.net-12345-ksk");
            match renames {
                true => assert_eq!(result, Ok(())),
                false => assert!(
                    matches!(result, Err(HsmError::LabelFixed { .. })),
                    "{result:?}"
                ),
            }
        }
        let named = token.objects(Some("example.net-12345-ksk")).expect("lists");
        let named: Vec<_> = named.iter().filter(|object| object.id == made.id).collect();
        assert_eq!(named.len(), if renames { 2 } else { 0 });
        assert_eq!(halves(token, &made.id).len(), 2);

        assert_eq!(token.destroy_pair(&made.id), Ok(()));
        assert_eq!(halves(token, &made.id), []);
        assert_eq!(
            token.destroy_pair(&made.id),
            Ok(()),
            "already gone is success"
        );
        let gone = token.sign(&made.id, mechanism(kind), &input("x"));
        assert!(matches!(gone, Err(HsmError::NotFound { .. })), "{gone:?}");
        assert!(
            sign(token, &other.id, kind, b"x").is_ok(),
            "the other one is untouched"
        );
        assert_eq!(token.destroy_pair(&other.id), Ok(()));
    }
    assert_eq!(token.can_rename(), renames);
    assert_eq!(token.objects(None), Ok(vec![]), "nothing is left");
}

/// Many signatures at once come back in order.
pub fn batch(token: &Token) {
    let key = make(token, KeyKind::P256);
    let texts: Vec<String> = (0..300).map(|i| format!("rrset {i}")).collect();
    let mut inputs: Vec<_> = texts.iter().map(|text| input(text)).collect();
    inputs.push(SignInput::Digest(vec![0; 31]));
    let mut results = token.sign_batch(&key.id, mechanism(KeyKind::P256), &inputs);
    assert!(matches!(results.pop(), Some(Err(HsmError::BadInput(_)))));
    assert_eq!(results.len(), texts.len());
    for (text, result) in texts.iter().zip(results) {
        let signature = result.expect("signs");
        assert!(verifies(&key.public, text.as_bytes(), &signature), "{text}");
    }
    let (tell, answer) = std::sync::mpsc::channel();
    token.sign_then(
        &key.id,
        mechanism(KeyKind::P256),
        &input("later"),
        move |result| {
            tell.send(result).expect("somebody waits");
        },
    );
    let signature = answer.recv().expect("called").expect("signs");
    assert!(verifies(&key.public, b"later", &signature));
}

/// An id that is taken is not taken twice; keys are there after the module was closed and loaded.
pub fn survives_restart(module: &Path, name: &str, secret: &str) {
    let bench = Bench::load(module);
    let token = bench.open(name, secret);
    let want = NewPair {
        kind: KeyKind::P256,
        random: [0xab; 20],
        naming: Naming::Plain,
    };
    let made = token.generate(&want).expect("makes a key");
    assert_eq!(made.id.as_str(), "ab".repeat(20));
    assert_eq!(
        token.generate(&want),
        Err(HsmError::IdTaken(made.id.clone()))
    );
    assert_eq!(halves(&token, &made.id).len(), 2);
    bench.hsm.finish(Duration::from_secs(5));
    let closed = token.sign(&made.id, mechanism(KeyKind::P256), &input("x"));
    assert!(closed.is_err_and(|e| e.is_transient()));

    let bench = Bench::load(module);
    let token = bench.open(name, secret);
    assert_eq!(token.public_key(&made.id).as_ref(), Ok(&made.public));
    let signature = sign(&token, &made.id, KeyKind::P256, b"x").expect("signs");
    assert!(verifies(&made.public, b"x", &signature));
}

/// Waits until `f` succeeds.
pub fn until<T>(limit: Duration, what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = f() {
            return value;
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// OpenSC's view of a module, as it would be in another process.
pub fn pkcs11_tool(module: &Path, args: &[&str]) -> String {
    let output = Command::new("pkcs11-tool")
        .arg("--module")
        .arg(module)
        .args(args)
        .output()
        .expect("pkcs11-tool of opensc is installed");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// More callers than there is room for: all are served.
pub fn crowd(token: &Arc<Token>) {
    let key = make(token, KeyKind::P256);
    let callers: Vec<_> = (0..cascade_hsm::MAX_IN_FLIGHT + 100)
        .map(|i| {
            let (token, id, public) = (Arc::clone(token), key.id.clone(), key.public.clone());
            std::thread::spawn(move || {
                let text = format!("caller {i}");
                let signature = sign(&token, &id, KeyKind::P256, text.as_bytes()).expect("signs");
                assert!(verifies(&public, text.as_bytes(), &signature));
            })
        })
        .collect();
    for caller in callers {
        caller.join().expect("served");
    }
}
