//! `--check-config`: the module is loaded and asked, nothing is served.

use std::path::Path;
use std::process::ExitCode;

use cascade_hsm::{
    Hash, Hsm, HsmError, KeyAlgorithm, KeyKind, Mechanism, Naming, NewPair, SecretString,
    SignInput, Token,
};
use cascade_policy::BridgeFile;
use zeroize::Zeroizing;

use crate::args::Args;
use crate::tokens::fill_random;
use crate::{process, serve, tls};

/// Longest PIN file that is read.
const PIN_MAX: u64 = 4096;

/// Prints what there is.
///
/// # Errors
/// The first thing that would keep the program from its work.
pub fn run(file: &BridgeFile, args: &Args) -> Result<ExitCode, String> {
    for warning in &file.warnings {
        println!("{}", warning.one_line());
    }
    println!("{}: correct", file.file);
    if file.config.cert_path.is_some() {
        println!(
            "certificate: SHA-256 {}",
            tls::load(&file.config)?.fingerprint
        );
    }
    let hsm = serve::open(&file.config)
        .map_err(|e| format!("{e}; this was user {}", process::user_name()))?;
    let about = hsm.about_module().map_err(|e| e.to_string())?;
    println!("module {}: {about}", file.config.lib_path);
    let slots = hsm.slots().map_err(|e| e.to_string())?;
    if slots.is_empty() {
        println!("no slots; the module may not be allowed to read its own files");
    }
    for slot in &slots {
        let what = match &slot.token {
            Err(why) => format!("does not answer: {why}"),
            Ok(None) => "no token".into(),
            Ok(Some(token)) if !token.initialised => "a token that is not initialised".into(),
            Ok(Some(token)) => format!(
                "token '{}' (serial {}, {} {})",
                token.label, token.serial, token.manufacturer, token.model
            ),
        };
        println!(
            "slot {} (id {}, {}): {what}",
            slot.index, slot.id, slot.description
        );
    }
    if let (Some(pin_file), Some(slot)) = (&args.pin_file, &args.slot) {
        log_in(&hsm, slot, pin_file, args.write)?;
    }
    hsm.finish(file.config.call_timeout);
    Ok(ExitCode::SUCCESS)
}

fn log_in(hsm: &Hsm, slot: &str, pin_file: &Path, write: bool) -> Result<(), String> {
    let shown = pin_file.display();
    let pin = read_pin(pin_file).map_err(|e| format!("--pin-file {shown}: {e}"))?;
    let token = hsm.open(slot, &pin).map_err(|e| e.to_string())?;
    let algorithms = token.algorithms().map_err(|e| e.to_string())?;
    let names: Vec<_> = algorithms.iter().map(|a| a.mnemonic()).collect();
    println!(
        "login to '{}': good; {}",
        token.info().label,
        names.join(" ")
    );
    if !write {
        return Ok(());
    }
    let mut bad = None;
    for algorithm in algorithms {
        let done = life(&token, algorithm);
        match &done {
            Ok(()) => println!(
                "{}: a key was made, signed and destroyed",
                algorithm.mnemonic()
            ),
            Err(e) => println!("{}: {e}", algorithm.mnemonic()),
        }
        bad = bad.or(done.err().map(|e| (algorithm, e)));
    }
    match bad {
        None => Ok(()),
        Some((algorithm, e)) => Err(format!("{}: {e}", algorithm.mnemonic())),
    }
}

fn life(token: &Token, algorithm: KeyAlgorithm) -> Result<(), HsmError> {
    let (kind, mechanism) = match algorithm {
        KeyAlgorithm::RsaSha256 => (rsa(), Mechanism::RsaPkcs1(Hash::Sha256)),
        KeyAlgorithm::RsaSha512 => (rsa(), Mechanism::RsaPkcs1(Hash::Sha512)),
        KeyAlgorithm::EcdsaP256Sha256 => (KeyKind::P256, Mechanism::Ecdsa(Hash::Sha256)),
        KeyAlgorithm::EcdsaP384Sha384 => (KeyKind::P384, Mechanism::Ecdsa(Hash::Sha384)),
        KeyAlgorithm::Ed25519 => (KeyKind::Ed25519, Mechanism::Eddsa),
        KeyAlgorithm::Ed448 => (KeyKind::Ed448, Mechanism::Eddsa),
    };
    let mut random = [0; 20];
    if !fill_random(&mut random) {
        return Err(HsmError::Refused(
            "the system gives no random octets".into(),
        ));
    }
    let made = token.generate(&NewPair {
        kind,
        random,
        naming: Naming::Plain,
    })?;
    let input = SignInput::Message(b"kmip2pkcs11 --check-config".to_vec());
    let signed = token.sign(&made.id, mechanism, &input);
    let destroyed = token.destroy_pair(&made.id);
    signed.and(destroyed)
}

fn rsa() -> KeyKind {
    KeyKind::Rsa { bits: 2048 }
}

/// The first line.
fn read_pin(path: &Path) -> Result<SecretString, String> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let mut text = Zeroizing::new(String::new());
    file.take(PIN_MAX)
        .read_to_string(&mut text)
        .map_err(|e| e.to_string())?;
    let line = text.lines().next().unwrap_or_default();
    match line.is_empty() {
        true => Err("its first line is empty".into()),
        false => Ok(SecretString::from(line)),
    }
}
