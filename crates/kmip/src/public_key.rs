//! Public keys and their DER.

use crate::der;
use crate::enums::{CryptographicAlgorithm, RecommendedCurve};

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
    /// Big-endian, without leading zeros.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    /// x and y without the octet 4 in front for P-256 and P-384 (the form of RFC 6605 §4); the
    /// octets of RFC 8032 for Ed25519 and Ed448.
    Point { kind: KeyKind, octets: Vec<u8> },
}

const OID_RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01]; // RFC 8017
const OID_EC: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01]; // RFC 5480 §2.1.1
const OID_P256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
const OID_P384: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x22];
const OID_ED25519: &[u8] = &[0x2B, 0x65, 0x70]; // RFC 8410 §3
const OID_ED448: &[u8] = &[0x2B, 0x65, 0x71];

/// RSA moduli that are taken, in bits.
pub const RSA_BITS: std::ops::RangeInclusive<u16> = 1024..=8192;

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

    /// Cryptographic Length.
    pub const fn bits(self) -> u16 {
        match self {
            KeyKind::Rsa { bits } => bits,
            KeyKind::P256 | KeyKind::Ed25519 => 256,
            KeyKind::P384 => 384,
            KeyKind::Ed448 => 448,
        }
    }

    pub const fn algorithm(self) -> CryptographicAlgorithm {
        match self {
            KeyKind::Rsa { .. } => CryptographicAlgorithm::Rsa,
            KeyKind::P256 | KeyKind::P384 => CryptographicAlgorithm::Ecdsa,
            KeyKind::Ed25519 => CryptographicAlgorithm::Ed25519,
            KeyKind::Ed448 => CryptographicAlgorithm::Ed448,
        }
    }

    pub const fn curve(self) -> Option<RecommendedCurve> {
        match self {
            KeyKind::Rsa { .. } => None,
            KeyKind::P256 => Some(RecommendedCurve::P256),
            KeyKind::P384 => Some(RecommendedCurve::P384),
            KeyKind::Ed25519 => Some(RecommendedCurve::Curve25519),
            KeyKind::Ed448 => Some(RecommendedCurve::Curve448),
        }
    }
}

impl PublicKey {
    /// Leading zeros are removed. `None` if the sizes are those of no usable key.
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<PublicKey> {
        let (modulus, exponent) = (der::trim(modulus), der::trim(exponent));
        let bits = bit_len(modulus)?;
        // RFC 3110 §2 bounds the exponent; what is longer than the modulus is no exponent.
        let good = RSA_BITS.contains(&bits) && (1..=modulus.len()).contains(&exponent.len());
        good.then(|| PublicKey::Rsa {
            modulus: modulus.to_vec(),
            exponent: exponent.to_vec(),
        })
    }

    /// `octets` is x and y, or the same behind an octet 4 (P-256, P-384); or the RFC 8032 form.
    pub fn point(kind: KeyKind, octets: &[u8]) -> Option<PublicKey> {
        let len = kind.point_len()?;
        let octets = match (kind, octets) {
            (KeyKind::P256 | KeyKind::P384, [4, rest @ ..]) if rest.len() == len => rest,
            _ => octets,
        };
        (octets.len() == len).then(|| PublicKey::Point {
            kind,
            octets: octets.to_vec(),
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

    /// SEC 1 §2.3.3 for P-256 and P-384, RFC 8032 for the others.
    pub(crate) fn q(&self) -> Vec<u8> {
        match self {
            PublicKey::Rsa { .. } => Vec::new(),
            PublicKey::Point { kind, octets } => {
                let mut q = Vec::with_capacity(octets.len() + 1);
                if matches!(kind, KeyKind::P256 | KeyKind::P384) {
                    q.push(4);
                }
                q.extend_from_slice(octets);
                q
            }
        }
    }

    /// RSAPublicKey (RFC 8017 §A.1.1).
    pub(crate) fn pkcs1(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
        let mut numbers = Vec::new();
        der::put_unsigned(&mut numbers, modulus);
        der::put_unsigned(&mut numbers, exponent);
        let mut out = Vec::new();
        der::put(&mut out, der::SEQUENCE, &numbers);
        out
    }

    pub(crate) fn from_pkcs1(mut octets: &[u8]) -> Option<PublicKey> {
        let mut numbers = der::take(&mut octets, der::SEQUENCE)?;
        let modulus = der::take_unsigned(&mut numbers)?;
        let exponent = der::take_unsigned(&mut numbers)?;
        let whole = octets.is_empty() && numbers.is_empty();
        whole.then(|| PublicKey::rsa(modulus, exponent)).flatten()
    }

    /// SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
    pub fn spki(&self) -> Vec<u8> {
        let mut algorithm = Vec::new();
        let key = match self {
            PublicKey::Rsa { modulus, exponent } => {
                der::put(&mut algorithm, der::OID, OID_RSA);
                der::put(&mut algorithm, der::NULL, &[]);
                PublicKey::pkcs1(modulus, exponent)
            }
            PublicKey::Point { kind, .. } => {
                match kind {
                    KeyKind::Ed25519 => der::put(&mut algorithm, der::OID, OID_ED25519),
                    KeyKind::Ed448 => der::put(&mut algorithm, der::OID, OID_ED448),
                    KeyKind::P256 | KeyKind::P384 | KeyKind::Rsa { .. } => {
                        let p384 = *kind == KeyKind::P384;
                        der::put(&mut algorithm, der::OID, OID_EC);
                        let curve = if p384 { OID_P384 } else { OID_P256 };
                        der::put(&mut algorithm, der::OID, curve);
                    }
                }
                self.q()
            }
        };
        let mut bits = vec![0]; // no unused bits
        bits.extend_from_slice(&key);
        let mut both = Vec::new();
        der::put(&mut both, der::SEQUENCE, &algorithm);
        der::put(&mut both, der::BIT_STRING, &bits);
        let mut out = Vec::new();
        der::put(&mut out, der::SEQUENCE, &both);
        out
    }

    pub fn from_spki(mut octets: &[u8]) -> Option<PublicKey> {
        let mut both = der::take(&mut octets, der::SEQUENCE)?;
        let mut algorithm = der::take(&mut both, der::SEQUENCE)?;
        let [0, key @ ..] = der::take(&mut both, der::BIT_STRING)? else {
            return None;
        };
        if !octets.is_empty() || !both.is_empty() {
            return None;
        }
        match der::take(&mut algorithm, der::OID)? {
            OID_RSA => PublicKey::from_pkcs1(key),
            OID_EC => {
                let kind = match der::take(&mut algorithm, der::OID)? {
                    OID_P256 => KeyKind::P256,
                    OID_P384 => KeyKind::P384,
                    _ => return None,
                };
                PublicKey::point(kind, key)
            }
            OID_ED25519 => PublicKey::point(KeyKind::Ed25519, key),
            OID_ED448 => PublicKey::point(KeyKind::Ed448, key),
            _ => None,
        }
    }
}

/// Bits of a number without leading zeros. `None` for zero and for what is far too long.
fn bit_len(number: &[u8]) -> Option<u16> {
    let first = number.first()?;
    let bits = number.len() * 8 - first.leading_zeros() as usize;
    u16::try_from(bits).ok()
}
