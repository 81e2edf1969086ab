//! Keys and how they sign, in the words of this crate.

use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::error::HsmError;

/// What a key is for arithmetic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum KeyKind {
    Rsa { bits: u16 },
    P256,
    P384,
    Ed25519,
    Ed448,
}

/// A public key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PublicKey {
    /// Big-endian, without leading zeros (RFC 3110 §2).
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    /// x and y for P-256 and P-384 (RFC 6605 §4); the octets of RFC 8032 for Ed25519 and Ed448.
    Point { kind: KeyKind, octets: Vec<u8> },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mechanism {
    /// RSASSA-PKCS1-v1_5 (RFC 8017 §8.2).
    RsaPkcs1(Hash),
    /// The signature is r and s, each as long as the curve's order.
    Ecdsa(Hash),
    /// Ed25519 or Ed448, by the key; pure (RFC 8032 §5.1, §5.2).
    Eddsa,
}

/// What is to be signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SignInput {
    Message(Vec<u8>),
    /// The message's hash, by the mechanism's hash algorithm.
    Digest(Vec<u8>),
}

/// RSA moduli that are used, in bits.
pub const RSA_BITS: std::ops::RangeInclusive<u16> = 1024..=8192;

/// Longest message that is handed to a token as a whole. Only EdDSA needs it: an RRset with its
/// RRSIG RDATA in front fits a DNS message many times over.
pub const MAX_MESSAGE: usize = 1 << 20;

impl KeyKind {
    /// Octets of [`PublicKey::Point`]; `None` for RSA.
    pub const fn point_len(self) -> Option<usize> {
        match self {
            KeyKind::Rsa { .. } => None,
            KeyKind::P256 => Some(64),
            KeyKind::P384 => Some(96),
            KeyKind::Ed25519 => Some(32),
            KeyKind::Ed448 => Some(57),
        }
    }

    /// Octets of a signature.
    pub const fn signature_len(self) -> usize {
        match self {
            KeyKind::Rsa { bits } => (bits as usize).div_ceil(8),
            KeyKind::P256 | KeyKind::Ed25519 => 64,
            KeyKind::P384 => 96,
            KeyKind::Ed448 => 114,
        }
    }

    pub const fn is_rsa(self) -> bool {
        matches!(self, KeyKind::Rsa { .. })
    }

    /// As people write it.
    pub fn name(self) -> String {
        match self {
            KeyKind::Rsa { bits } => format!("RSA-{bits}"),
            KeyKind::P256 => "P-256".into(),
            KeyKind::P384 => "P-384".into(),
            KeyKind::Ed25519 => "Ed25519".into(),
            KeyKind::Ed448 => "Ed448".into(),
        }
    }
}

impl PublicKey {
    /// Leading zeros are removed. `None` if the sizes are those of no usable key.
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<PublicKey> {
        let (modulus, exponent) = (trim(modulus), trim(exponent));
        let bits = bit_len(modulus)?;
        let good = RSA_BITS.contains(&bits) && (1..=modulus.len()).contains(&exponent.len());
        good.then(|| PublicKey::Rsa {
            modulus: modulus.to_vec(),
            exponent: exponent.to_vec(),
        })
    }

    pub fn kind(&self) -> KeyKind {
        match self {
            PublicKey::Rsa { modulus, .. } => KeyKind::Rsa {
                bits: bit_len(modulus).unwrap_or(0),
            },
            PublicKey::Point { kind, .. } => *kind,
        }
    }
}

impl Hash {
    pub const fn octets(self) -> usize {
        match self {
            Hash::Sha256 => 32,
            Hash::Sha384 => 48,
            Hash::Sha512 => 64,
        }
    }

    pub fn of(self, message: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha256 => Sha256::digest(message).to_vec(),
            Hash::Sha384 => Sha384::digest(message).to_vec(),
            Hash::Sha512 => Sha512::digest(message).to_vec(),
        }
    }

    /// The DER of a DigestInfo up to the digest itself (RFC 8017 §9.2, note 1).
    const fn digest_info(self) -> [u8; 19] {
        let (total, last, len) = match self {
            Hash::Sha256 => (0x31, 1, 0x20),
            Hash::Sha384 => (0x41, 2, 0x30),
            Hash::Sha512 => (0x51, 3, 0x40),
        };
        [
            0x30, total, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
            last, 0x05, 0x00, 0x04, len,
        ]
    }
}

impl Mechanism {
    /// The hash that digests must be of; `None` if messages are signed as they are.
    pub const fn hash(self) -> Option<Hash> {
        match self {
            Mechanism::RsaPkcs1(hash) | Mechanism::Ecdsa(hash) => Some(hash),
            Mechanism::Eddsa => None,
        }
    }

    /// True if keys of this kind sign with this mechanism.
    pub const fn fits(self, kind: KeyKind) -> bool {
        matches!(
            (self, kind),
            (Mechanism::RsaPkcs1(_), KeyKind::Rsa { .. })
                | (Mechanism::Ecdsa(_), KeyKind::P256 | KeyKind::P384)
                | (Mechanism::Eddsa, KeyKind::Ed25519 | KeyKind::Ed448)
        )
    }

    /// The octets that the token signs: hashing is done here, so that a token needs only the bare
    /// mechanism (SoftHSM 2.6 has no CKM_ECDSA_SHA256) and gets a digest over the wire.
    ///
    /// # Errors
    /// [`HsmError::BadInput`].
    pub fn prepare(self, input: &SignInput) -> Result<Vec<u8>, HsmError> {
        let digest = match (input, self.hash()) {
            (SignInput::Message(message), None) if message.len() <= MAX_MESSAGE => {
                return Ok(message.clone());
            }
            (SignInput::Message(message), None) => {
                let len = message.len();
                return Err(HsmError::BadInput(format!(
                    "a message of {len} octets is longer than {MAX_MESSAGE}"
                )));
            }
            (SignInput::Message(message), Some(hash)) => hash.of(message),
            (SignInput::Digest(digest), Some(hash)) if digest.len() == hash.octets() => {
                digest.clone()
            }
            (SignInput::Digest(digest), Some(hash)) => {
                let (len, want) = (digest.len(), hash.octets());
                return Err(HsmError::BadInput(format!(
                    "a digest of {len} octets where {want} are needed"
                )));
            }
            (SignInput::Digest(_), None) => {
                return Err(HsmError::BadInput(
                    "EdDSA signs messages, not digests".into(),
                ));
            }
        };
        match self {
            Mechanism::RsaPkcs1(hash) => {
                let mut info = hash.digest_info().to_vec();
                info.extend(digest);
                Ok(info)
            }
            _ => Ok(digest),
        }
    }
}

/// Without leading zeros.
fn trim(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|o| **o == 0).count();
    number.get(zeros..).unwrap_or_default()
}

fn bit_len(trimmed: &[u8]) -> Option<u16> {
    let first = trimmed.first()?;
    u16::try_from(trimmed.len() * 8 - first.leading_zeros() as usize).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_token_signs() {
        let message = SignInput::Message(b"abc".to_vec());
        let digest = Mechanism::Ecdsa(Hash::Sha256)
            .prepare(&message)
            .expect("hashes");
        assert_eq!(digest.len(), 32);
        assert_eq!(&digest[..4], [0xba, 0x78, 0x16, 0xbf]); // FIPS 180-4's example
        for hash in [Hash::Sha256, Hash::Sha384, Hash::Sha512] {
            let info = Mechanism::RsaPkcs1(hash).prepare(&message).expect("hashes");
            // The lengths in the DER must be those of what follows.
            assert_eq!(usize::from(info[1]), info.len() - 2);
            assert_eq!(usize::from(info[18]), hash.octets());
            let same = SignInput::Digest(hash.of(b"abc"));
            assert_eq!(Mechanism::RsaPkcs1(hash).prepare(&same), Ok(info));
        }
        assert_eq!(Mechanism::Eddsa.prepare(&message), Ok(b"abc".to_vec()));
        assert!(
            Mechanism::Eddsa
                .prepare(&SignInput::Digest(vec![0; 32]))
                .is_err()
        );
        let short = SignInput::Digest(vec![0; 31]);
        assert!(Mechanism::Ecdsa(Hash::Sha256).prepare(&short).is_err());
    }

    #[test]
    fn rsa_without_leading_zeros() {
        let mut modulus = vec![0, 0x80];
        modulus.extend([1; 255]);
        let key = PublicKey::rsa(&modulus, &[0, 1, 0, 1]).expect("usable");
        assert_eq!(key.kind(), KeyKind::Rsa { bits: 2048 });
        assert!(matches!(key, PublicKey::Rsa { ref exponent, .. } if exponent == &[1, 0, 1]));
        assert!(PublicKey::rsa(&[0, 0], &[3]).is_none());
        assert!(PublicKey::rsa(&modulus, &[]).is_none());
    }
}
