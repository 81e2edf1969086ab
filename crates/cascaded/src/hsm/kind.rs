//! Between DNSSEC's algorithms and KMIP's.

use cascade_crypto::{Algorithm, Dnskey, KeySpec};
use cascade_kmip::{Hash, KeyKind, Mechanism, PublicKey, SignInput};
use sha2::{Digest, Sha256, Sha384, Sha512};

pub fn kind_of(spec: KeySpec) -> KeyKind {
    match spec.algorithm {
        Algorithm::RsaSha256 | Algorithm::RsaSha512 => KeyKind::Rsa { bits: spec.bits },
        Algorithm::EcdsaP256Sha256 => KeyKind::P256,
        Algorithm::EcdsaP384Sha384 => KeyKind::P384,
        Algorithm::Ed25519 => KeyKind::Ed25519,
        Algorithm::Ed448 => KeyKind::Ed448,
    }
}

pub fn mechanism_of(algorithm: Algorithm) -> Mechanism {
    match algorithm {
        Algorithm::RsaSha256 => Mechanism::RsaPkcs1(Hash::Sha256),
        Algorithm::RsaSha512 => Mechanism::RsaPkcs1(Hash::Sha512),
        Algorithm::EcdsaP256Sha256 => Mechanism::Ecdsa(Hash::Sha256),
        Algorithm::EcdsaP384Sha384 => Mechanism::Ecdsa(Hash::Sha384),
        Algorithm::Ed25519 => Mechanism::Ed25519,
        Algorithm::Ed448 => Mechanism::Ed448,
    }
}

/// The public key field of a DNSKEY (RFC 3110 §2, RFC 6605 §4, RFC 8080 §3).
pub fn public_octets(key: &PublicKey) -> Vec<u8> {
    match key {
        PublicKey::Point { octets, .. } => octets.clone(),
        PublicKey::Rsa { modulus, exponent } => {
            let mut out = Vec::with_capacity(3 + exponent.len() + modulus.len());
            match u8::try_from(exponent.len()) {
                Ok(len) if len > 0 => out.push(len),
                _ => {
                    let len = u16::try_from(exponent.len()).unwrap_or(u16::MAX);
                    out.push(0);
                    out.extend_from_slice(&len.to_be_bytes());
                }
            }
            out.extend_from_slice(exponent);
            out.extend_from_slice(modulus);
            out
        }
    }
}

/// The DNSKEY of a key on a token; `None` if it is of another kind than the algorithm's.
pub fn dnskey_of(flags: u16, algorithm: Algorithm, key: &PublicKey) -> Option<Dnskey> {
    let fits = match key.kind() {
        KeyKind::Rsa { .. } => algorithm.is_rsa(),
        kind => kind_of(KeySpec { algorithm, bits: 0 }) == kind,
    };
    let dnskey = Dnskey::new(flags, algorithm, &public_octets(key));
    fits.then(|| Dnskey::from_rdata(dnskey.rdata()).ok())
        .flatten()
}

/// What is sent for `preimage`: a digest where the mechanism has one and the server takes it.
pub fn sign_input(mechanism: Mechanism, preimage: &[u8], digests: bool) -> SignInput {
    match mechanism.hash().filter(|_| digests) {
        None => SignInput::Message(preimage.to_vec()),
        Some(Hash::Sha256) => SignInput::Digest(Sha256::digest(preimage).to_vec()),
        Some(Hash::Sha384) => SignInput::Digest(Sha384::digest(preimage).to_vec()),
        Some(Hash::Sha512) => SignInput::Digest(Sha512::digest(preimage).to_vec()),
    }
}
