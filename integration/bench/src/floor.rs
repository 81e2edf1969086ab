//! The floor: what the cryptography alone costs, measured in the same run as everything else.

use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use rayon::prelude::*;

/// Seconds per operation when all threads of the current pool are at it, and how many there are.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    pub threads: usize,
    pub sign_secs: f64,
    pub verify_secs: f64,
}

impl Floor {
    /// Seconds that making and checking this many signatures must take on this machine.
    pub fn secs(&self, signatures: u64) -> f64 {
        signatures as f64 * (self.sign_secs + self.verify_secs)
    }
}

/// Octets of a typical RRset with its RRSIG preamble, as hashed for one signature.
const MESSAGE: usize = 120;
const BATCH: usize = 64;

/// Signs with aws-lc-rs and verifies with ring, P-256, for about the given time each.
///
/// # Errors
/// A text, when one of the libraries refuses its own key.
pub fn measure(time: Duration) -> Result<Floor, String> {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random)
        .map_err(|_| "aws-lc-rs cannot make a P-256 key")?;
    let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref())
        .map_err(|e| format!("aws-lc-rs refuses its own P-256 key: {e}"))?;
    let message = vec![0x5a; MESSAGE];
    let signature = key
        .sign(&random, &message)
        .map_err(|_| "aws-lc-rs cannot sign with its own key")?;
    let public = ring::signature::UnparsedPublicKey::new(
        &ring::signature::ECDSA_P256_SHA256_FIXED,
        key.public_key().as_ref(),
    );
    public
        .verify(&message, signature.as_ref())
        .map_err(|_| "ring refuses a signature of aws-lc-rs")?;
    Ok(Floor {
        threads: rayon::current_num_threads(),
        sign_secs: rate(time, || key.sign(&random, &message).is_ok()),
        verify_secs: rate(time, || public.verify(&message, signature.as_ref()).is_ok()),
    })
}

/// Wall-clock seconds per call with all threads of the pool calling.
fn rate(time: Duration, call: impl Fn() -> bool + Sync) -> f64 {
    let start = Instant::now();
    let mut calls = 0usize;
    let mut good = true;
    while start.elapsed() < time {
        let round = BATCH * rayon::current_num_threads();
        good &= (0..round)
            .into_par_iter()
            .map(|_| call())
            .reduce(|| true, |a, b| a && b);
        calls += round;
    }
    assert!(good, "a call that worked once failed");
    start.elapsed().as_secs_f64() / calls as f64
}
