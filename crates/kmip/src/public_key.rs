//! Public keys, and the forms in which KMIP carries them (KMIP 1.4 §2.1.3, §2.1.7).

use crate::der;
use crate::enums::{
    CryptographicAlgorithm, KeyCompressionType, KeyFormatType, RecommendedCurve, ResultReason,
};
use crate::failure::Failure;
use crate::tags;
use crate::ttlv::{Fields, Item, Kind, TtlvError, Writer};

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

/// §2.1.3, unwrapped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyBlock {
    pub format: KeyFormatType,
    pub compression: Option<KeyCompressionType>,
    pub material: KeyMaterial,
    pub algorithm: Option<CryptographicAlgorithm>,
    pub length: Option<i32>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyMaterial {
    Octets(Vec<u8>),
    /// §2.1.7.5, octets of Big Integers.
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// §2.1.7.15 and its deprecated twin for ECDSA; Q as in SEC 1 §2.3.3.
    Ec {
        curve: RecommendedCurve,
        q: Vec<u8>,
    },
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
    fn q(&self) -> Vec<u8> {
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
    fn pkcs1(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
        let mut numbers = Vec::new();
        der::put_unsigned(&mut numbers, modulus);
        der::put_unsigned(&mut numbers, exponent);
        let mut out = Vec::new();
        der::put(&mut out, der::SEQUENCE, &numbers);
        out
    }

    fn from_pkcs1(mut octets: &[u8]) -> Option<PublicKey> {
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

    /// The key block in the format asked for. Without one: RSA as PKCS#1, everything else as Raw
    /// with a SubjectPublicKeyInfo inside, which is what clients in the field expect.
    pub fn key_block(&self, format: Option<KeyFormatType>) -> Result<KeyBlock, Failure> {
        use KeyFormatType as F;
        let kind = self.kind();
        let format = format.unwrap_or(match self {
            PublicKey::Rsa { .. } => F::Pkcs1,
            PublicKey::Point { .. } => F::Raw,
        });
        let material = match (self, format) {
            (PublicKey::Rsa { modulus, exponent }, F::Pkcs1) => {
                KeyMaterial::Octets(PublicKey::pkcs1(modulus, exponent))
            }
            (PublicKey::Rsa { modulus, exponent }, F::TransparentRsaPublicKey) => {
                KeyMaterial::Rsa {
                    modulus: modulus.clone(),
                    exponent: exponent.clone(),
                }
            }
            (_, F::X509) | (PublicKey::Point { .. }, F::Raw) => KeyMaterial::Octets(self.spki()),
            (PublicKey::Point { kind, .. }, F::TransparentEcPublicKey)
            | (
                PublicKey::Point {
                    kind: kind @ (KeyKind::P256 | KeyKind::P384),
                    ..
                },
                F::TransparentEcdsaPublicKey,
            ) => KeyMaterial::Ec {
                curve: kind.curve().unwrap_or(RecommendedCurve::Other(0)),
                q: self.q(),
            },
            (_, format) => {
                return Err(Failure::new(
                    ResultReason::KeyFormatTypeNotSupported,
                    format!(
                        "a public key of {} is not given as {format}",
                        kind.algorithm()
                    ),
                ));
            }
        };
        Ok(KeyBlock {
            format,
            compression: None,
            material,
            algorithm: Some(kind.algorithm()),
            length: Some(i32::from(kind.bits())),
        })
    }

    /// From a key block of any server. Raw is taken as SubjectPublicKeyInfo, RSAPublicKey, or the
    /// point alone, whichever it is.
    pub fn from_key_block(block: &KeyBlock) -> Option<PublicKey> {
        let key = match &block.material {
            KeyMaterial::Rsa { modulus, exponent } => PublicKey::rsa(modulus, exponent)?,
            KeyMaterial::Ec { curve, q } => PublicKey::point(kind_of(*curve)?, q)?,
            KeyMaterial::Octets(octets) => match block.format {
                KeyFormatType::Pkcs1 => PublicKey::from_pkcs1(octets)?,
                KeyFormatType::X509 => PublicKey::from_spki(octets)?,
                KeyFormatType::Raw | KeyFormatType::Opaque => PublicKey::from_spki(octets)
                    .or_else(|| PublicKey::from_pkcs1(octets))
                    .or_else(|| bare_point(block, octets))?,
                _ => return None,
            },
        };
        // What the server says about its key must fit what it gave.
        let algorithm = key.kind().algorithm();
        let fits = match block.algorithm {
            None => true,
            Some(CryptographicAlgorithm::Ec) => !matches!(key, PublicKey::Rsa { .. }),
            Some(said) => said == algorithm,
        };
        fits.then_some(key)
    }
}

fn kind_of(curve: RecommendedCurve) -> Option<KeyKind> {
    Some(match curve {
        RecommendedCurve::P256 => KeyKind::P256,
        RecommendedCurve::P384 => KeyKind::P384,
        RecommendedCurve::Curve25519 => KeyKind::Ed25519,
        RecommendedCurve::Curve448 => KeyKind::Ed448,
        _ => return None,
    })
}

fn bare_point(block: &KeyBlock, octets: &[u8]) -> Option<PublicKey> {
    use CryptographicAlgorithm as A;
    let kinds: &[KeyKind] = match block.algorithm? {
        A::Ed25519 => &[KeyKind::Ed25519],
        A::Ed448 => &[KeyKind::Ed448],
        A::Ecdsa | A::Ec => &[KeyKind::P256, KeyKind::P384],
        _ => &[],
    };
    kinds
        .iter()
        .find_map(|kind| PublicKey::point(*kind, octets))
}

/// Bits of a number without leading zeros. `None` for zero and for what is far too long.
fn bit_len(number: &[u8]) -> Option<u16> {
    let first = number.first()?;
    let bits = number.len() * 8 - first.leading_zeros() as usize;
    u16::try_from(bits).ok()
}

impl KeyBlock {
    pub(crate) fn write(&self, w: &mut Writer) {
        w.structure(tags::KEY_BLOCK, |w| {
            w.enumeration(tags::KEY_FORMAT_TYPE, self.format);
            w.opt_enum(tags::KEY_COMPRESSION_TYPE, self.compression);
            w.structure(tags::KEY_VALUE, |w| match &self.material {
                KeyMaterial::Octets(octets) => w.octets(tags::KEY_MATERIAL, octets),
                KeyMaterial::Rsa { modulus, exponent } => w.structure(tags::KEY_MATERIAL, |w| {
                    w.big_unsigned(tags::MODULUS, modulus);
                    w.big_unsigned(tags::PUBLIC_EXPONENT, exponent);
                }),
                KeyMaterial::Ec { curve, q } => w.structure(tags::KEY_MATERIAL, |w| {
                    w.enumeration(tags::RECOMMENDED_CURVE, *curve);
                    w.octets(tags::Q_STRING, q);
                }),
            });
            w.opt_enum(tags::CRYPTOGRAPHIC_ALGORITHM, self.algorithm);
            w.opt_integer(tags::CRYPTOGRAPHIC_LENGTH, self.length);
        });
    }

    pub(crate) fn read(mut f: Fields<'_>) -> Result<KeyBlock, TtlvError> {
        let format_item = f.req(tags::KEY_FORMAT_TYPE)?;
        let format = format_item.enumeration()?;
        let compression = f.opt_enum(tags::KEY_COMPRESSION_TYPE)?;
        let value = f.req(tags::KEY_VALUE)?;
        let mut fields = value.fields()?.lenient();
        let material = read_material(&fields.req(tags::KEY_MATERIAL)?, format)?;
        let algorithm = f.opt_enum(tags::CRYPTOGRAPHIC_ALGORITHM)?;
        let length = f.opt_integer(tags::CRYPTOGRAPHIC_LENGTH)?;
        if let Some(wrapped) = f.opt(tags::KEY_WRAPPING_DATA)? {
            return Err(wrapped.refused());
        }
        f.finish()?;
        Ok(KeyBlock {
            format,
            compression,
            material,
            algorithm,
            length,
        })
    }
}

fn read_material(item: &Item<'_>, format: KeyFormatType) -> Result<KeyMaterial, TtlvError> {
    if item.kind != Kind::Structure {
        return Ok(KeyMaterial::Octets(item.octets()?.to_vec()));
    }
    let mut f = item.fields()?.lenient();
    match format {
        KeyFormatType::TransparentRsaPublicKey => Ok(KeyMaterial::Rsa {
            modulus: f.req(tags::MODULUS)?.big()?.to_vec(),
            exponent: f.req(tags::PUBLIC_EXPONENT)?.big()?.to_vec(),
        }),
        KeyFormatType::TransparentEcPublicKey | KeyFormatType::TransparentEcdsaPublicKey => {
            Ok(KeyMaterial::Ec {
                curve: f.req(tags::RECOMMENDED_CURVE)?.enumeration()?,
                q: f.req(tags::Q_STRING)?.octets()?.to_vec(),
            })
        }
        _ => Err(item.refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<PublicKey> {
        vec![
            PublicKey::rsa(&[0xC3; 256], &[1, 0, 1]).expect("2048"),
            PublicKey::rsa(&[0x93; 128], &[3]).expect("1024"),
            PublicKey::point(KeyKind::P256, &[0x5A; 64]).expect("P-256"),
            PublicKey::point(KeyKind::P384, &[0x81; 96]).expect("P-384"),
            PublicKey::point(KeyKind::Ed25519, &[4; 32]).expect("Ed25519"),
            PublicKey::point(KeyKind::Ed448, &[9; 57]).expect("Ed448"),
        ]
    }

    #[test]
    fn every_format_round_trips() {
        use KeyFormatType as F;
        let formats = [
            None,
            Some(F::Raw),
            Some(F::Pkcs1),
            Some(F::X509),
            Some(F::TransparentRsaPublicKey),
            Some(F::TransparentEcPublicKey),
            Some(F::TransparentEcdsaPublicKey),
        ];
        for key in keys() {
            let mut given = 0;
            for format in formats {
                let Ok(block) = key.key_block(format) else {
                    continue;
                };
                given += 1;
                let mut w = Writer::new();
                block.write(&mut w);
                let octets = w.finish();
                let item = crate::ttlv::check(&octets, crate::ttlv::Limits::new(8192))
                    .expect("well-formed");
                let back = KeyBlock::read(item.fields().expect("structure")).expect("key block");
                assert_eq!(PublicKey::from_key_block(&back).as_ref(), Some(&key));
            }
            assert!(given >= 4, "{key:?}");
        }
    }

    #[test]
    fn defaults_by_algorithm() {
        let keys = keys();
        let rsa = keys[0].key_block(None).expect("RSA");
        assert_eq!(rsa.format, KeyFormatType::Pkcs1);
        assert_eq!(rsa.length, Some(2048));
        let ec = keys[2].key_block(None).expect("EC");
        assert_eq!(ec.format, KeyFormatType::Raw);
        assert_eq!(ec.length, Some(256));
        assert_eq!(ec.algorithm, Some(CryptographicAlgorithm::Ecdsa));
        let KeyMaterial::Octets(spki) = ec.material else {
            panic!("octets");
        };
        // RFC 5480: SEQUENCE of 89 octets, ecPublicKey and prime256v1, BIT STRING of 66.
        assert_eq!(&spki[..2], &[0x30, 89]);
        assert_eq!(&spki[23..27], &[0x03, 66, 0, 4]);
    }

    #[test]
    fn wrong_keys_are_refused() {
        assert!(PublicKey::rsa(&[1; 100], &[3]).is_none());
        assert!(PublicKey::rsa(&[0xFF; 1025], &[3]).is_none());
        assert!(PublicKey::rsa(&[0xFF; 256], &[]).is_none());
        assert!(PublicKey::point(KeyKind::P256, &[1; 63]).is_none());
        assert!(PublicKey::from_spki(&[0x30, 0x80, 0, 0]).is_none());
        let mut block = keys()[2].key_block(None).expect("EC");
        block.algorithm = Some(CryptographicAlgorithm::Rsa);
        assert_eq!(PublicKey::from_key_block(&block), None);
        let mut spki = keys()[0].spki();
        spki.push(0);
        assert!(PublicKey::from_spki(&spki).is_none());
    }
}
