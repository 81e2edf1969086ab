//! Signatures a second of a token: driven directly with bare sessions, and through `cascade-hsm`.
//!
//! `rate MODULE SLOT PIN SESSIONS [SECONDS [direct]]`; SLOT is label, id or index. Makes one P-256
//! key and destroys it again.
#![allow(
    clippy::disallowed_methods,
    reason = "a program that measures reads the clock"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cascade_hsm::{Hash, Hsm, KeyKind, Mechanism, Naming, NewPair, Settings, SignInput, Token};
use cascade_time::{Clock, Timestamp};
use cryptoki::context::Pkcs11;
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::slot::Slot;

type Failure = Box<dyn std::error::Error>;

const ECDSA: Mechanism = Mechanism::Ecdsa(Hash::Sha256);

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [module, slot, pin, sessions, rest @ ..] = args.as_slice() else {
        return Err("rate MODULE SLOT PIN SESSIONS [SECONDS [direct]]".into());
    };
    let sessions: usize = sessions.parse()?;
    let seconds = rest.first().map_or(Ok(3), |s| s.parse())?;
    let span = Duration::from_secs(seconds);

    let mut settings = Settings::new(random()?);
    settings.max_sessions = sessions;
    let clock = Arc::new(Wall(Instant::now()));
    let hsm = Hsm::load(Path::new(module), settings, clock, Arc::new(|_| {}))?;
    let token = hsm.open(slot, &pin.as_str().into())?;
    let made = token.generate(&NewPair {
        kind: KeyKind::P256,
        random: random()?,
        naming: Naming::Plain,
    })?;
    let id = made.id.as_str().as_bytes().to_vec();
    let bare = direct(Path::new(module), token.slot_id(), &id, sessions, span)?;
    println!("direct, {sessions} sessions: {bare:.1} signatures/s");
    if rest.get(1).is_some_and(|word| word == "direct") {
        token.destroy_pair(&made.id)?;
        return Ok(());
    }
    let input = SignInput::Digest(vec![7; 32]);
    for (name, size) in [("batches of 256", 256), ("batches of 4096", 4096)] {
        let inputs = vec![input.clone(); size];
        let rate = through(span, || {
            let results = token.sign_batch(&made.id, ECDSA, &inputs);
            results.iter().filter(|result| result.is_ok()).count()
        });
        println!(
            "{name}: {rate:.0} signatures/s, {:.1} %",
            100.0 * rate / bare
        );
    }
    let rate = callers(&token, &made.id, &input, sessions, span);
    println!(
        "{sessions} callers: {rate:.0} signatures/s, {:.1} %",
        100.0 * rate / bare
    );
    let alone = through(span, || {
        usize::from(token.sign(&made.id, ECDSA, &input).is_ok())
    });
    println!(
        "one caller: {alone:.0} signatures/s, {:.1} us each",
        1e6 / alone
    );
    token.destroy_pair(&made.id)?;
    Ok(())
}

/// Sessions of its own in the module that is loaded already, as fast as it goes.
fn direct(
    module: &Path,
    slot: u64,
    id: &[u8],
    sessions: usize,
    span: Duration,
) -> Result<f64, Failure> {
    let p11 = Pkcs11::new(module)?;
    let end = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let threads: Vec<_> = (0..sessions)
        .map(|_| {
            let session = p11.open_rw_session(Slot::try_from(slot)?)?;
            let template = [
                Attribute::Class(ObjectClass::PRIVATE_KEY),
                Attribute::Id(id.to_vec()),
            ];
            let key = *session.find_objects(&template)?.first().ok_or("no key")?;
            let (end, count) = (Arc::clone(&end), Arc::clone(&count));
            Ok::<_, Failure>(std::thread::spawn(move || {
                let ecdsa = cryptoki::mechanism::Mechanism::Ecdsa;
                while !end.load(Ordering::Relaxed) {
                    let signed = session.sign(&ecdsa, key, &[7; 32]);
                    count.fetch_add(u64::from(signed.is_ok()), Ordering::Relaxed);
                }
            }))
        })
        .collect::<Result<_, _>>()?;
    std::thread::sleep(span);
    end.store(true, Ordering::Relaxed);
    let rate = count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")?;
    }
    Ok(rate)
}

fn through(span: Duration, mut f: impl FnMut() -> usize) -> f64 {
    f(); // Sessions are opened and find the key.
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed() < span {
        done += f();
    }
    done as f64 / start.elapsed().as_secs_f64()
}

fn callers(
    token: &Arc<Token>,
    key: &cascade_hsm::KeyId,
    input: &SignInput,
    callers: usize,
    span: Duration,
) -> f64 {
    let rates: Vec<_> = (0..callers)
        .map(|_| {
            let (token, key, input) = (Arc::clone(token), key.clone(), input.clone());
            std::thread::spawn(move || {
                through(span, || {
                    usize::from(token.sign(&key, ECDSA, &input).is_ok())
                })
            })
        })
        .collect();
    rates.into_iter().filter_map(|rate| rate.join().ok()).sum()
}

struct Wall(Instant);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Timestamp::from_nanos(since.map_or(0, |s| s.as_nanos() as i64))
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    use ring::rand::SecureRandom;
    let mut octets = [0; N];
    ring::rand::SystemRandom::new()
        .fill(&mut octets)
        .map_err(|_| "no random octets")?;
    Ok(octets)
}
