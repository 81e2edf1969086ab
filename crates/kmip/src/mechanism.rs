//! How to sign: from Cryptographic Parameters and the key's kind to a mechanism, and back.
//!
//! | key | mechanism | hash | padding that is taken | signature |
//! |---|---|---|---|---|
//! | RSA | PKCS#1 v1.5 (RFC 8017 §8.2) | SHA-256 (default), SHA-512 | none stated, PKCS1 v1.5 | length of the modulus |
//! | P-256 | ECDSA | SHA-256 | none stated, None, PKCS1 v1.5 | r and s, 32 octets each |
//! | P-384 | ECDSA | SHA-384 | none stated, None, PKCS1 v1.5 | r and s, 48 octets each |
//! | Ed25519, Ed448 | pure EdDSA (RFC 8032) | none | none stated, None | RFC 8032 |
//!
//! ECDSA with a padding method makes no sense, yet clients are about that always send one because
//! some servers insist on it for RSA.

use crate::attribute::CryptographicParameters;
use crate::der;
use crate::enums::{
    CryptographicAlgorithm, DigitalSignatureAlgorithm, HashingAlgorithm, PaddingMethod,
};
use crate::failure::Failure;
use crate::public_key::KeyKind;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mechanism {
    /// RSASSA-PKCS1-v1_5; the hash's DigestInfo is part of what is signed.
    RsaPkcs1(Hash),
    /// The signature is r and s, each as long as the curve's order, without DER around them.
    Ecdsa(Hash),
    Ed25519,
    Ed448,
}

/// What is to be signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SignInput {
    Message(Vec<u8>),
    /// The message's hash, by the mechanism's hash algorithm (KMIP 1.4 Digested Data).
    Digest(Vec<u8>),
}

impl Hash {
    pub const fn octets(self) -> usize {
        match self {
            Hash::Sha256 => 32,
            Hash::Sha384 => 48,
            Hash::Sha512 => 64,
        }
    }

    /// DER of DigestInfo up to the digest (RFC 8017 §9.2 note 1).
    pub const fn digest_info(self) -> [u8; 19] {
        let (oid, len) = match self {
            Hash::Sha256 => (1, 32),
            Hash::Sha384 => (2, 48),
            Hash::Sha512 => (3, 64),
        };
        [
            0x30,
            17 + len,
            0x30,
            0x0D,
            0x06,
            0x09,
            0x60,
            0x86,
            0x48,
            0x01,
            0x65,
            0x03,
            0x04,
            0x02,
            oid,
            0x05,
            0x00,
            0x04,
            len,
        ]
    }

    const fn code(self) -> HashingAlgorithm {
        match self {
            Hash::Sha256 => HashingAlgorithm::Sha256,
            Hash::Sha384 => HashingAlgorithm::Sha384,
            Hash::Sha512 => HashingAlgorithm::Sha512,
        }
    }

    fn from_code(code: HashingAlgorithm) -> Option<Hash> {
        match code {
            HashingAlgorithm::Sha256 => Some(Hash::Sha256),
            HashingAlgorithm::Sha384 => Some(Hash::Sha384),
            HashingAlgorithm::Sha512 => Some(Hash::Sha512),
            _ => None,
        }
    }
}

impl Mechanism {
    /// The hash that digests must be of; `None` if the mechanism signs messages only.
    pub const fn hash(self) -> Option<Hash> {
        match self {
            Mechanism::RsaPkcs1(hash) | Mechanism::Ecdsa(hash) => Some(hash),
            Mechanism::Ed25519 | Mechanism::Ed448 => None,
        }
    }

    /// What a client states, spelled so that strict servers are content.
    pub fn parameters(self) -> CryptographicParameters {
        let algorithm = match self {
            Mechanism::RsaPkcs1(_) => CryptographicAlgorithm::Rsa,
            Mechanism::Ecdsa(_) => CryptographicAlgorithm::Ecdsa,
            Mechanism::Ed25519 => CryptographicAlgorithm::Ed25519,
            Mechanism::Ed448 => CryptographicAlgorithm::Ed448,
        };
        CryptographicParameters {
            padding: matches!(self, Mechanism::RsaPkcs1(_)).then_some(PaddingMethod::Pkcs1v15),
            hashing: self.hash().map(Hash::code),
            signature_algorithm: None,
            algorithm: Some(algorithm),
        }
    }

    /// The mechanism that a request means for a key of `kind`.
    pub fn resolve(
        kind: KeyKind,
        parameters: Option<&CryptographicParameters>,
    ) -> Result<Mechanism, Failure> {
        let p = parameters.copied().unwrap_or_default();
        let named = named_algorithm(kind, p.algorithm) && named_signature(kind, &p);
        if !named {
            return Err(Failure::invalid(format!(
                "the parameters name another algorithm than the key's, which is {}",
                kind.algorithm()
            )));
        }
        check_padding(kind, p.padding)?;
        let hash = stated_hash(&p)?;
        let mechanism = match (kind, hash) {
            (KeyKind::Rsa { .. }, None | Some(Hash::Sha256)) => Mechanism::RsaPkcs1(Hash::Sha256),
            (KeyKind::Rsa { .. }, Some(Hash::Sha512)) => Mechanism::RsaPkcs1(Hash::Sha512),
            (KeyKind::P256, None | Some(Hash::Sha256)) => Mechanism::Ecdsa(Hash::Sha256),
            (KeyKind::P384, None | Some(Hash::Sha384)) => Mechanism::Ecdsa(Hash::Sha384),
            (KeyKind::Ed25519, None) => Mechanism::Ed25519,
            (KeyKind::Ed448, None) => Mechanism::Ed448,
            (_, Some(hash)) => {
                return Err(Failure::invalid(format!(
                    "{} is not used with {} keys of {} bits here",
                    hash.code(),
                    kind.algorithm(),
                    kind.bits()
                )));
            }
        };
        Ok(mechanism)
    }

    /// Refuses an input that the mechanism cannot sign.
    pub fn check_input(self, input: &SignInput) -> Result<(), Failure> {
        match (input, self.hash()) {
            (SignInput::Message(_), _) => Ok(()),
            (SignInput::Digest(digest), Some(hash)) if digest.len() == hash.octets() => Ok(()),
            (SignInput::Digest(digest), Some(hash)) => Err(Failure::invalid(format!(
                "digested data of {} octets is no {} digest",
                digest.len(),
                hash.code()
            ))),
            (SignInput::Digest(_), None) => Err(Failure::invalid(
                "EdDSA signs messages, not digests; send Data",
            )),
        }
    }
}

/// The signature of a key of `kind` in the fixed form of the table above, from what a server gave:
/// some wrap r and s in DER. `None` if it is neither.
pub fn fixed_signature(kind: KeyKind, octets: &[u8]) -> Option<Vec<u8>> {
    let len = kind.signature_len();
    if let KeyKind::P256 | KeyKind::P384 = kind
        && let Some(fixed) = from_der(octets, len / 2)
    {
        return Some(fixed);
    }
    (octets.len() == len).then(|| octets.to_vec())
}

/// ECDSA-Sig-Value (RFC 3279 §2.2.3). A fixed signature reads as one with negligible probability.
fn from_der(mut octets: &[u8], half: usize) -> Option<Vec<u8>> {
    let mut numbers = der::take(&mut octets, der::SEQUENCE)?;
    let r = der::take_unsigned(&mut numbers)?;
    let s = der::take_unsigned(&mut numbers)?;
    if !octets.is_empty() || !numbers.is_empty() || r.len() > half || s.len() > half {
        return None;
    }
    let mut out = vec![0; 2 * half];
    out[half - r.len()..half].copy_from_slice(r);
    out[2 * half - s.len()..].copy_from_slice(s);
    Some(out)
}

fn named_algorithm(kind: KeyKind, stated: Option<CryptographicAlgorithm>) -> bool {
    match stated {
        None => true,
        Some(CryptographicAlgorithm::Ec) => !matches!(kind, KeyKind::Rsa { .. }),
        Some(stated) => stated == kind.algorithm(),
    }
}

fn named_signature(kind: KeyKind, p: &CryptographicParameters) -> bool {
    use DigitalSignatureAlgorithm as S;
    match p.signature_algorithm {
        None => true,
        Some(S::Sha256WithRsa | S::Sha384WithRsa | S::Sha512WithRsa) => {
            matches!(kind, KeyKind::Rsa { .. })
        }
        Some(S::EcdsaWithSha256 | S::EcdsaWithSha384 | S::EcdsaWithSha512) => {
            matches!(kind, KeyKind::P256 | KeyKind::P384)
        }
        Some(_) => false,
    }
}

fn check_padding(kind: KeyKind, padding: Option<PaddingMethod>) -> Result<(), Failure> {
    let good = match padding {
        None => true,
        Some(PaddingMethod::Pkcs1v15) => !matches!(kind, KeyKind::Ed25519 | KeyKind::Ed448),
        Some(PaddingMethod::None) => !matches!(kind, KeyKind::Rsa { .. }),
        Some(_) => false,
    };
    match padding {
        Some(padding) if !good => Err(Failure::invalid(format!(
            "padding method {padding} is not used with {} here",
            kind.algorithm()
        ))),
        _ => Ok(()),
    }
}

/// The hash that is stated, by whichever field; both must agree.
fn stated_hash(p: &CryptographicParameters) -> Result<Option<Hash>, Failure> {
    use DigitalSignatureAlgorithm as S;
    let by_signature = p.signature_algorithm.and_then(|s| match s {
        S::Sha256WithRsa | S::EcdsaWithSha256 => Some(Hash::Sha256),
        S::Sha384WithRsa | S::EcdsaWithSha384 => Some(Hash::Sha384),
        S::Sha512WithRsa | S::EcdsaWithSha512 => Some(Hash::Sha512),
        _ => None,
    });
    let Some(code) = p.hashing else {
        return Ok(by_signature);
    };
    let hash = Hash::from_code(code)
        .ok_or_else(|| Failure::invalid(format!("hashing algorithm {code} is not used here")))?;
    match by_signature {
        Some(other) if other != hash => Err(Failure::invalid(format!(
            "hashing algorithm {code} contradicts the digital signature algorithm"
        ))),
        _ => Ok(Some(hash)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [KeyKind; 5] = [
        KeyKind::Rsa { bits: 2048 },
        KeyKind::P256,
        KeyKind::P384,
        KeyKind::Ed25519,
        KeyKind::Ed448,
    ];

    #[test]
    fn what_the_client_states_is_what_the_server_means() {
        for (kind, mechanism) in [
            (KINDS[0], Mechanism::RsaPkcs1(Hash::Sha256)),
            (KINDS[0], Mechanism::RsaPkcs1(Hash::Sha512)),
            (KeyKind::P256, Mechanism::Ecdsa(Hash::Sha256)),
            (KeyKind::P384, Mechanism::Ecdsa(Hash::Sha384)),
            (KeyKind::Ed25519, Mechanism::Ed25519),
            (KeyKind::Ed448, Mechanism::Ed448),
        ] {
            let parameters = mechanism.parameters();
            assert_eq!(Mechanism::resolve(kind, Some(&parameters)), Ok(mechanism));
            for other in KINDS {
                if other.algorithm() != kind.algorithm() {
                    assert!(Mechanism::resolve(other, Some(&parameters)).is_err());
                }
            }
        }
        // P-256 and P-384 are one algorithm and differ by the hash.
        let p256 = Mechanism::Ecdsa(Hash::Sha256).parameters();
        assert!(Mechanism::resolve(KeyKind::P384, Some(&p256)).is_err());
    }

    #[test]
    fn refused_parameters() {
        let rsa = KINDS[0];
        let with = |f: fn(&mut CryptographicParameters)| {
            let mut p = CryptographicParameters::default();
            f(&mut p);
            p
        };
        for p in [
            with(|p| p.padding = Some(PaddingMethod::Pss)),
            with(|p| p.padding = Some(PaddingMethod::None)),
            with(|p| p.hashing = Some(HashingAlgorithm::Sha1)),
            with(|p| p.hashing = Some(HashingAlgorithm::Sha384)),
            with(|p| p.signature_algorithm = Some(DigitalSignatureAlgorithm::RsassaPss)),
            with(|p| p.signature_algorithm = Some(DigitalSignatureAlgorithm::EcdsaWithSha256)),
            with(|p| {
                p.signature_algorithm = Some(DigitalSignatureAlgorithm::Sha512WithRsa);
                p.hashing = Some(HashingAlgorithm::Sha256);
            }),
        ] {
            assert!(Mechanism::resolve(rsa, Some(&p)).is_err(), "{p:?}");
        }
        let p = with(|p| p.signature_algorithm = Some(DigitalSignatureAlgorithm::Sha512WithRsa));
        assert_eq!(
            Mechanism::resolve(rsa, Some(&p)),
            Ok(Mechanism::RsaPkcs1(Hash::Sha512))
        );
        let p = with(|p| p.hashing = Some(HashingAlgorithm::Sha256));
        assert!(Mechanism::resolve(KeyKind::Ed25519, Some(&p)).is_err());
    }

    #[test]
    fn digests() {
        let ecdsa = Mechanism::Ecdsa(Hash::Sha256);
        assert!(ecdsa.check_input(&SignInput::Digest(vec![0; 32])).is_ok());
        assert!(ecdsa.check_input(&SignInput::Digest(vec![0; 48])).is_err());
        let digest = SignInput::Digest(vec![0; 32]);
        assert!(Mechanism::Ed25519.check_input(&digest).is_err());
    }

    #[test]
    fn signatures_in_both_forms() {
        let mut fixed = vec![0; 64];
        fixed[31] = 7; // r = 7
        fixed[32] = 0x80; // s has its highest bit set
        let mut numbers = Vec::new();
        der::put_unsigned(&mut numbers, &fixed[..32]);
        der::put_unsigned(&mut numbers, &fixed[32..]);
        let mut wrapped = Vec::new();
        der::put(&mut wrapped, der::SEQUENCE, &numbers);
        assert_eq!(
            fixed_signature(KeyKind::P256, &wrapped),
            Some(fixed.clone())
        );
        assert_eq!(fixed_signature(KeyKind::P256, &fixed), Some(fixed.clone()));
        assert_eq!(fixed_signature(KeyKind::P384, &fixed), None);
        assert_eq!(fixed_signature(KeyKind::P256, &fixed[1..]), None);
    }
}
