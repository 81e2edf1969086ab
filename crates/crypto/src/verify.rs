//! Verification of single signatures, for trial signatures and for what tokens return.

use aws_lc_rs::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};

use crate::algorithm::Algorithm;
use crate::dnskey::{Dnskey, rsa_parts};

/// True if `signature` over `message` is by `key`. False for algorithms not available here.
pub fn verify(key: &Dnskey, message: &[u8], signature: &[u8]) -> bool {
    let Some(algorithm) = key.algorithm() else {
        return false;
    };
    let public = key.public_key();
    match algorithm {
        Algorithm::RsaSha256 => rsa(
            &signature::RSA_PKCS1_2048_8192_SHA256,
            public,
            message,
            signature,
        ),
        Algorithm::RsaSha512 => rsa(
            &signature::RSA_PKCS1_2048_8192_SHA512,
            public,
            message,
            signature,
        ),
        Algorithm::EcdsaP256Sha256 => ecdsa(
            &signature::ECDSA_P256_SHA256_FIXED,
            public,
            message,
            signature,
        ),
        Algorithm::EcdsaP384Sha384 => ecdsa(
            &signature::ECDSA_P384_SHA384_FIXED,
            public,
            message,
            signature,
        ),
        Algorithm::Ed25519 => UnparsedPublicKey::new(&signature::ED25519, public)
            .verify(message, signature)
            .is_ok(),
        Algorithm::Ed448 => ed448(public, message, signature),
    }
}

pub(crate) fn rsa(
    parameters: &'static signature::RsaParameters,
    public: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    let Some((e, n)) = rsa_parts(public) else {
        return false;
    };
    RsaPublicKeyComponents { n, e }
        .verify(parameters, message, signature)
        .is_ok()
}

fn ecdsa(
    algorithm: &'static dyn signature::VerificationAlgorithm,
    public: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    // RFC 6605 §4 leaves out the octet that says "uncompressed" (SEC 1 §2.3.3).
    let mut point = [0u8; 97];
    let Some(end) = public.len().checked_add(1).filter(|&n| n <= point.len()) else {
        return false;
    };
    point[0] = 4;
    point[1..end].copy_from_slice(public);
    UnparsedPublicKey::new(algorithm, &point[..end])
        .verify(message, signature)
        .is_ok()
}

#[cfg(feature = "ed448")]
fn ed448(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    use openssl::pkey::{Id, PKey};
    let check = || {
        let key = PKey::public_key_from_raw_bytes(public, Id::ED448)?;
        openssl::sign::Verifier::new_without_digest(&key)?.verify_oneshot(signature, message)
    };
    check().unwrap_or(false)
}

#[cfg(not(feature = "ed448"))]
fn ed448(_: &[u8], _: &[u8], _: &[u8]) -> bool {
    false
}
