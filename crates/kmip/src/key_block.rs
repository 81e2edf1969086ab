//! The forms in which KMIP carries public keys (KMIP 1.4 §2.1.3, §2.1.7).

use crate::enums::{
    CryptographicAlgorithm, KeyCompressionType, KeyFormatType, RecommendedCurve, ResultReason,
};
use crate::failure::Failure;
use crate::public_key::{KeyKind, PublicKey};
use crate::tags;
use crate::ttlv::{Fields, Item, Kind, TtlvError, Writer};

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

impl PublicKey {
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
