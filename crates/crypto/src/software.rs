//! Keys in this process, on aws-lc-rs (Ed448: OpenSSL, feature `ed448`).
//!
//! Private keys live in the library's memory, which it clears when freeing; copies made here are
//! zeroised. Nothing that holds a private key implements `Debug`.

use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaPublicKeyComponents,
};
use cascade_zone::KeyId;
use zeroize::Zeroizing;

use crate::algorithm::{Algorithm, KeySpec};
use crate::der;
use crate::dnskey::{Dnskey, rsa_parts, rsa_public_key, trim};
use crate::error::KeyError;
use crate::sign::{Batch, InlineSigner, Input, Mode, SignFailure, Signatures, SigningKey};
use crate::verify::verify;

pub(crate) type Secret = Zeroizing<Vec<u8>>;

/// A private key as numbers, the way key files carry it.
pub(crate) enum PrivateParts {
    /// n, e, d, p, q, d mod p-1, d mod q-1, 1/q mod p; big-endian.
    Rsa([Secret; 8]),
    /// The secret scalar (ECDSA) or seed (EdDSA).
    Raw(Secret),
}

/// A key whose private half is in this process.
pub struct SoftwareKey {
    id: KeyId,
    dnskey: Dnskey,
    algorithm: Algorithm,
    sig_len: usize,
    pair: Pair,
}

enum Pair {
    Rsa(rsa::KeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    #[cfg(feature = "ed448")]
    Ed448(openssl::pkey::PKey<openssl::pkey::Private>),
}

impl SoftwareKey {
    /// Makes a new key with the library's system random source.
    pub fn generate(id: KeyId, flags: u16, spec: KeySpec) -> Result<SoftwareKey, KeyError> {
        let failed = |_| KeyError::Generate(spec.algorithm);
        let pair = match spec.algorithm {
            Algorithm::RsaSha256 | Algorithm::RsaSha512 => {
                let size = match spec.bits {
                    2048 => KeySize::Rsa2048,
                    3072 => KeySize::Rsa3072,
                    4096 => KeySize::Rsa4096,
                    bits => return Err(KeyError::RsaBits(bits)),
                };
                Pair::Rsa(rsa::KeyPair::generate(size).map_err(failed)?)
            }
            Algorithm::EcdsaP256Sha256 | Algorithm::EcdsaP384Sha384 => {
                Pair::Ecdsa(EcdsaKeyPair::generate(curve(spec.algorithm)).map_err(failed)?)
            }
            Algorithm::Ed25519 => Pair::Ed25519(Ed25519KeyPair::generate().map_err(failed)?),
            Algorithm::Ed448 => generate_ed448()?,
        };
        Self::with_pair(id, flags, spec.algorithm, pair)
    }

    /// From an unencrypted PKCS#8 document.
    pub fn from_pkcs8(
        id: KeyId,
        flags: u16,
        algorithm: Algorithm,
        pkcs8: &[u8],
    ) -> Result<SoftwareKey, KeyError> {
        let rejected = |_| KeyError::Rejected(algorithm);
        let pair = match algorithm {
            Algorithm::RsaSha256 | Algorithm::RsaSha512 => {
                Pair::Rsa(rsa::KeyPair::from_pkcs8(pkcs8).map_err(rejected)?)
            }
            Algorithm::EcdsaP256Sha256 | Algorithm::EcdsaP384Sha384 => {
                Pair::Ecdsa(EcdsaKeyPair::from_pkcs8(curve(algorithm), pkcs8).map_err(rejected)?)
            }
            Algorithm::Ed25519 => {
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8).map_err(rejected)?)
            }
            Algorithm::Ed448 => ed448_from_pkcs8(pkcs8)?,
        };
        Self::with_pair(id, flags, algorithm, pair)
    }

    /// From the numbers of a key file and the DNSKEY beside them.
    ///
    /// # Errors
    /// [`KeyError::Rejected`] if the numbers are no key or not the one of `dnskey`.
    pub(crate) fn from_parts(
        id: KeyId,
        dnskey: &Dnskey,
        parts: &PrivateParts,
    ) -> Result<SoftwareKey, KeyError> {
        let algorithm = dnskey
            .algorithm()
            .ok_or(KeyError::Unsupported(dnskey.algorithm_number()))?;
        let rejected = |_| KeyError::Rejected(algorithm);
        let pair = match (algorithm, parts) {
            (Algorithm::RsaSha256 | Algorithm::RsaSha512, PrivateParts::Rsa(numbers)) => {
                Pair::Rsa(rsa_from_numbers(numbers).map_err(rejected)?)
            }
            (
                Algorithm::EcdsaP256Sha256 | Algorithm::EcdsaP384Sha384,
                PrivateParts::Raw(secret),
            ) => {
                let mut point = vec![4]; // uncompressed, SEC 1 §2.3.3
                point.extend_from_slice(dnskey.public_key());
                let curve = curve(algorithm);
                Pair::Ecdsa(
                    EcdsaKeyPair::from_private_key_and_public_key(curve, secret, &point)
                        .map_err(rejected)?,
                )
            }
            (Algorithm::Ed25519, PrivateParts::Raw(seed)) => {
                if seed.len() != 32 {
                    return Err(KeyError::Rejected(algorithm));
                }
                Pair::Ed25519(
                    Ed25519KeyPair::from_seed_and_public_key(seed, dnskey.public_key())
                        .map_err(rejected)?,
                )
            }
            (Algorithm::Ed448, PrivateParts::Raw(seed)) => ed448_from_seed(seed)?,
            _ => return Err(KeyError::Rejected(algorithm)),
        };
        let key = Self::with_pair(id, dnskey.flags(), algorithm, pair)?;
        // RSA numbers carry their own public half.
        let same = match algorithm.is_rsa() {
            true => rsa_parts(key.dnskey.public_key()) == rsa_parts(dnskey.public_key()),
            false => key.dnskey.is_same_key(dnskey),
        };
        if !same {
            return Err(KeyError::Rejected(algorithm));
        }
        // The published octets win, should the exponent have been written in an unusual form.
        Ok(SoftwareKey {
            dnskey: dnskey.clone(),
            ..key
        })
    }

    fn with_pair(
        id: KeyId,
        flags: u16,
        algorithm: Algorithm,
        pair: Pair,
    ) -> Result<SoftwareKey, KeyError> {
        let public = match &pair {
            Pair::Rsa(k) => {
                let [n, e] = der::rsa_public_numbers(k.public_key().as_ref())
                    .ok_or(KeyError::Rejected(algorithm))?;
                rsa_public_key(e, n)
            }
            Pair::Ecdsa(k) => k
                .public_key()
                .as_ref()
                .get(1..)
                .unwrap_or_default()
                .to_vec(),
            Pair::Ed25519(k) => k.public_key().as_ref().to_vec(),
            #[cfg(feature = "ed448")]
            Pair::Ed448(k) => k
                .raw_public_key()
                .map_err(|_| KeyError::Rejected(algorithm))?,
        };
        let dnskey = Dnskey::new(flags, algorithm, &public);
        let sig_len = dnskey
            .signature_len()
            .ok_or(KeyError::Rejected(algorithm))?;
        Ok(SoftwareKey {
            id,
            dnskey,
            algorithm,
            sig_len,
            pair,
        })
    }

    /// The private numbers, for writing a key file.
    pub(crate) fn private_parts(&self) -> Result<PrivateParts, KeyError> {
        let failed = |_| KeyError::Rejected(self.algorithm);
        match &self.pair {
            Pair::Rsa(k) => {
                let der: Pkcs8V1Der<'_> = k.as_der().map_err(failed)?;
                let numbers =
                    der::rsa_numbers(der.as_ref()).ok_or(KeyError::Rejected(self.algorithm))?;
                Ok(PrivateParts::Rsa(
                    numbers.map(|n| Zeroizing::new(n.to_vec())),
                ))
            }
            Pair::Ecdsa(k) => {
                let secret: EcPrivateKeyBin<'_> = k.private_key().as_be_bytes().map_err(failed)?;
                Ok(PrivateParts::Raw(Zeroizing::new(secret.as_ref().to_vec())))
            }
            Pair::Ed25519(k) => {
                let seed = k.seed().map_err(failed)?;
                let bytes = seed.as_be_bytes().map_err(failed)?;
                Ok(PrivateParts::Raw(Zeroizing::new(bytes.as_ref().to_vec())))
            }
            #[cfg(feature = "ed448")]
            Pair::Ed448(k) => {
                let seed = k
                    .raw_private_key()
                    .map_err(|_| KeyError::Rejected(self.algorithm))?;
                Ok(PrivateParts::Raw(Zeroizing::new(seed)))
            }
        }
    }

    /// Signs something that is no RRSIG and checks it with the public half.
    ///
    /// It starts with type 65535, so it can never be an RRSIG's preimage (RFC 4034 §3.1.8.1).
    pub fn prove(&self) -> Result<(), KeyError> {
        let message = b"\xff\xffcascade key check 1";
        let mut batch = Batch::new(self.input());
        batch.push(message);
        let mut out = Signatures::new();
        let failed = KeyError::Trial(self.algorithm);
        if self.sign_batch(&batch, &mut out).is_err() {
            return Err(failed);
        }
        match out.get(0) {
            Some(signature) if verify(&self.dnskey, message, signature) => Ok(()),
            _ => Err(failed),
        }
    }

    fn sign_item(&self, rng: &SystemRandom, item: &[u8], out: &mut [u8]) -> bool {
        let copy = |out: &mut [u8], signature: &[u8]| {
            let fits = signature.len() == out.len();
            if fits {
                out.copy_from_slice(signature);
            }
            fits
        };
        match &self.pair {
            Pair::Rsa(k) => {
                let encoding: &'static dyn signature::RsaEncoding = match self.algorithm {
                    Algorithm::RsaSha512 => &signature::RSA_PKCS1_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                k.sign(encoding, rng, item, out).is_ok()
            }
            Pair::Ecdsa(k) => k.sign(rng, item).is_ok_and(|s| copy(out, s.as_ref())),
            Pair::Ed25519(k) => k.try_sign(item).is_ok_and(|s| copy(out, s.as_ref())),
            #[cfg(feature = "ed448")]
            Pair::Ed448(k) => openssl::sign::Signer::new_without_digest(k)
                .and_then(|mut s| s.sign_oneshot_to_vec(item))
                .is_ok_and(|s| copy(out, &s)),
        }
    }
}

impl SigningKey for SoftwareKey {
    fn id(&self) -> KeyId {
        self.id
    }
    fn dnskey(&self) -> &Dnskey {
        &self.dnskey
    }
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
    fn sig_len(&self) -> usize {
        self.sig_len
    }
    /// The library hashes faster than a second pass through the arena would be.
    fn input(&self) -> Input {
        Input::Preimage
    }
    fn mode(&self) -> Mode<'_> {
        Mode::Inline(self)
    }
}

impl InlineSigner for SoftwareKey {
    fn sign_batch(&self, batch: &Batch, out: &mut Signatures) -> Result<(), SignFailure> {
        out.reset(self.sig_len, batch.len());
        if batch.input() != Input::Preimage {
            return Err(SignFailure::WrongInput {
                found: "digests",
                wanted: "preimages",
            });
        }
        let rng = SystemRandom::new();
        for (i, item) in batch.items().enumerate() {
            let mut done = false;
            out.fill(i, |out| {
                done = self.sign_item(&rng, item, out);
                done
            });
            if !done {
                return Err(SignFailure::Library(self.algorithm));
            }
        }
        Ok(())
    }
}

fn curve(algorithm: Algorithm) -> &'static EcdsaSigningAlgorithm {
    match algorithm {
        Algorithm::EcdsaP384Sha384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        _ => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
    }
}

fn rsa_from_numbers(numbers: &[Secret; 8]) -> Result<rsa::KeyPair, aws_lc_rs::error::KeyRejected> {
    let [n, e, d, p, q, d_p, d_q, q_inv] = numbers.each_ref().map(|s| trim(s));
    rsa::KeyPair::from_components(&rsa::KeyPairComponents {
        public_key: RsaPublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: d_p,
        dQ: d_q,
        qInv: q_inv,
    })
}

#[cfg(feature = "ed448")]
fn generate_ed448() -> Result<Pair, KeyError> {
    let key = openssl::pkey::PKey::generate_ed448();
    key.map(Pair::Ed448)
        .map_err(|_| KeyError::Generate(Algorithm::Ed448))
}

#[cfg(feature = "ed448")]
fn ed448_from_pkcs8(pkcs8: &[u8]) -> Result<Pair, KeyError> {
    match openssl::pkey::PKey::private_key_from_pkcs8(pkcs8) {
        Ok(key) if key.id() == openssl::pkey::Id::ED448 => Ok(Pair::Ed448(key)),
        _ => Err(KeyError::Rejected(Algorithm::Ed448)),
    }
}

#[cfg(feature = "ed448")]
fn ed448_from_seed(seed: &[u8]) -> Result<Pair, KeyError> {
    let key = openssl::pkey::PKey::private_key_from_raw_bytes(seed, openssl::pkey::Id::ED448);
    key.map(Pair::Ed448)
        .map_err(|_| KeyError::Rejected(Algorithm::Ed448))
}

#[cfg(not(feature = "ed448"))]
fn generate_ed448() -> Result<Pair, KeyError> {
    Err(KeyError::NotBuiltIn(Algorithm::Ed448))
}

#[cfg(not(feature = "ed448"))]
fn ed448_from_pkcs8(_: &[u8]) -> Result<Pair, KeyError> {
    Err(KeyError::NotBuiltIn(Algorithm::Ed448))
}

#[cfg(not(feature = "ed448"))]
fn ed448_from_seed(_: &[u8]) -> Result<Pair, KeyError> {
    Err(KeyError::NotBuiltIn(Algorithm::Ed448))
}
