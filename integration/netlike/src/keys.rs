//! Keys: made, kept in files, used.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Kind {
    P256,
    P384,
    Ed25519,
    Rsa(u16),
}

/// A key pair with its names. With several instances, `private` has one key for each of those that
/// have it.
#[derive(Clone)]
pub struct Pair {
    pub kind: Kind,
    pub id: Vec<u8>,
    pub public_label: Vec<u8>,
    pub private_label: Vec<u8>,
    pub private: Arc<BTreeMap<usize, Private>>,
    pub has_public: bool,
    pub has_private: bool,
}

pub enum Private {
    Ecdsa(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
    Rsa(Box<rsa::KeyPair>),
}

/// A pair in its file. Octets are lower-case hexadecimal.
#[derive(Serialize, Deserialize)]
struct Stored {
    kind: Kind,
    id: String,
    public_label: String,
    private_label: String,
    has_public: bool,
    has_private: bool,
    /// PKCS#8 by instance.
    private: BTreeMap<String, String>,
}

impl Kind {
    pub fn signature_len(self) -> usize {
        match self {
            Kind::P256 | Kind::Ed25519 => 64,
            Kind::P384 => 96,
            Kind::Rsa(bits) => usize::from(bits) / 8,
        }
    }

    /// CKA_EC_PARAMS.
    pub fn params(self) -> Option<&'static [u8]> {
        match self {
            Kind::P256 => Some(P256),
            Kind::P384 => Some(P384),
            Kind::Ed25519 => Some(ED25519),
            Kind::Rsa(_) => None,
        }
    }
}

pub const P256: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
pub const P384: &[u8] = &[6, 5, 0x2b, 0x81, 4, 0, 0x22];
pub const ED25519: &[u8] = &[6, 3, 0x2b, 0x65, 0x70];
pub const ED25519_NAME: &[u8] = b"\x13\x0cedwards25519";

impl Private {
    pub fn make(kind: Kind) -> Option<Private> {
        Some(match kind {
            Kind::P256 => Private::Ecdsa(
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
                    .ok()?
                    .into(),
            ),
            Kind::P384 => Private::Ecdsa(
                EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)
                    .ok()?
                    .into(),
            ),
            Kind::Ed25519 => Private::Ed25519(Ed25519KeyPair::generate().ok()?.into()),
            Kind::Rsa(bits) => {
                let size = match bits {
                    2048 => KeySize::Rsa2048,
                    3072 => KeySize::Rsa3072,
                    4096 => KeySize::Rsa4096,
                    _ => return None,
                };
                Private::Rsa(rsa::KeyPair::generate(size).ok()?.into())
            }
        })
    }

    fn read(kind: Kind, pkcs8: &[u8]) -> Option<Private> {
        Some(match kind {
            Kind::P256 => {
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8);
                Private::Ecdsa(key.ok()?.into())
            }
            Kind::P384 => {
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8);
                Private::Ecdsa(key.ok()?.into())
            }
            Kind::Ed25519 => Private::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8).ok()?.into()),
            Kind::Rsa(_) => Private::Rsa(rsa::KeyPair::from_pkcs8(pkcs8).ok()?.into()),
        })
    }

    fn pkcs8(&self) -> Option<Vec<u8>> {
        Some(match self {
            Private::Ecdsa(key) => key.to_pkcs8v1().ok()?.as_ref().to_vec(),
            Private::Ed25519(key) => key.to_pkcs8v1().ok()?.as_ref().to_vec(),
            Private::Rsa(key) => key.as_der().ok()?.as_ref().to_vec(),
        })
    }

    /// The uncompressed point, the 32 octets of Ed25519, or DER of an RSAPublicKey.
    pub fn public(&self) -> Vec<u8> {
        match self {
            Private::Ecdsa(key) => key.public_key().as_ref().to_vec(),
            Private::Ed25519(key) => key.public_key().as_ref().to_vec(),
            Private::Rsa(key) => key.public_key().as_ref().to_vec(),
        }
    }

    /// What CKM_ECDSA, CKM_EDDSA and CKM_RSA_PKCS do. `None` if the input is not theirs.
    pub fn sign(&self, kind: Kind, data: &[u8]) -> Option<Vec<u8>> {
        match self {
            Private::Ecdsa(key) => {
                let algorithm = match kind {
                    Kind::P256 => &digest::SHA256,
                    _ => &digest::SHA384,
                };
                let digest = Digest::import_less_safe(data, algorithm).ok()?;
                Some(key.sign_digest(&digest).ok()?.as_ref().to_vec())
            }
            Private::Ed25519(key) => Some(key.sign(data).as_ref().to_vec()),
            Private::Rsa(key) => {
                // A DigestInfo; its last octets are the digest.
                let (algorithm, encoding) = match data.len() {
                    51 => (&digest::SHA256, &signature::RSA_PKCS1_SHA256),
                    83 => (&digest::SHA512, &signature::RSA_PKCS1_SHA512),
                    _ => return None,
                };
                let digest = Digest::import_less_safe(data.get(19..)?, algorithm).ok()?;
                let mut out = vec![0; key.public_modulus_len()];
                key.sign_digest(encoding, &digest, &mut out).ok()?;
                Some(out)
            }
        }
    }
}

/// Modulus and exponent out of an RSAPublicKey (RFC 8017 §A.1.1), as they stand there.
pub fn rsa_numbers(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (_, contents, _) = element(der)?;
    let (_, modulus, rest) = element(contents)?;
    let (_, exponent, _) = element(rest)?;
    Some((modulus.to_vec(), exponent.to_vec()))
}

/// Tag, contents and what follows of the first element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        _ => {
            let count = usize::from(first & 0x7f);
            let octets = rest.get(..count)?;
            let len = octets
                .iter()
                .fold(0usize, |n, o| (n << 8) | usize::from(*o));
            (len, rest.get(count..)?)
        }
    };
    Some((*tag, rest.get(..len)?, rest.get(len..)?))
}

/// Reads all keys of a folder. What cannot be read is told and left out.
pub fn load(folder: &Path) -> Vec<Pair> {
    let _ = fs::create_dir_all(folder);
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "key"));
    let mut pairs = Vec::new();
    for path in paths {
        match fs::read_to_string(&path).ok().and_then(|text| parse(&text)) {
            Some(pair) => pairs.push(pair),
            None => eprintln!("netlike: {} is no key", path.display()),
        }
    }
    pairs
}

fn parse(text: &str) -> Option<Pair> {
    let stored: Stored = toml::from_str(text).ok()?;
    let mut private = BTreeMap::new();
    for (instance, pkcs8) in &stored.private {
        let key = Private::read(stored.kind, &unhex(pkcs8)?)?;
        private.insert(instance.parse().ok()?, key);
    }
    Some(Pair {
        kind: stored.kind,
        id: unhex(&stored.id)?,
        public_label: unhex(&stored.public_label)?,
        private_label: unhex(&stored.private_label)?,
        has_public: stored.has_public,
        has_private: stored.has_private,
        private: Arc::new(private),
    })
}

pub fn exists(folder: &Path, id: &[u8]) -> bool {
    place(folder, id).exists()
}

fn place(folder: &Path, id: &[u8]) -> PathBuf {
    folder.join(format!("{}.key", hex(id)))
}

/// Writes the pair's file, or removes it if nothing is left of the pair.
pub fn save(folder: &Path, pair: &Pair) {
    let path = place(folder, &pair.id);
    if !pair.has_public && !pair.has_private {
        let _ = fs::remove_file(path);
        return;
    }
    let keys = pair.private.iter();
    let stored = Stored {
        kind: pair.kind,
        id: hex(&pair.id),
        public_label: hex(&pair.public_label),
        private_label: hex(&pair.private_label),
        has_public: pair.has_public,
        has_private: pair.has_private,
        private: keys
            .filter_map(|(instance, key)| Some((instance.to_string(), hex(&key.pkcs8()?))))
            .collect(),
    };
    let text = toml::to_string(&stored).unwrap_or_default();
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    if let Err(why) = written {
        eprintln!("netlike: {}: {why}", path.display());
    }
}

pub fn random(octets: &mut [u8]) {
    use aws_lc_rs::rand::SecureRandom;
    let _ = SystemRandom::new().fill(octets);
}

pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
