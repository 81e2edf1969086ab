//! A token in memory whose keys have states: strict where real tokens are lax, so that a client
//! that forgets to activate, or to revoke before it destroys, is noticed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaEncoding, UnparsedPublicKey,
};
use cascade_kmip::enums::{KeyFormatType, RevocationReasonCode, State};
use cascade_kmip::key_block::{KeyBlock, KeyMaterial};
use cascade_kmip::token::{
    About, NewPair, ObjectInfo, Revocation, Token, TokenError, Tokens, vendor_identification,
};
use cascade_kmip::{
    Credential, Half, Hash, KeyId, KeyKind, Mechanism, ObjectId, PublicKey, SignInput,
};

/// Opens one token for those who know its label and PIN.
pub struct SoftwareTokens {
    pub token: Arc<SoftwareToken>,
    pub label: String,
    pub pin: String,
}

#[derive(Default)]
pub struct SoftwareToken {
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    made: u32,
    pairs: BTreeMap<KeyId, Pair>,
    /// The token is away.
    away: bool,
}

enum Secret {
    Rsa(rsa::KeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

struct Pair {
    kind: KeyKind,
    public_key: PublicKey,
    secret: Secret,
    private: Option<HalfState>,
    public: Option<HalfState>,
}

struct HalfState {
    label: Option<String>,
    state: State,
}

impl SoftwareTokens {
    pub fn new() -> SoftwareTokens {
        SoftwareTokens {
            token: Arc::default(),
            label: "LocalHSM".into(),
            pin: "1234".into(),
        }
    }
}

impl Tokens for SoftwareTokens {
    fn open(&self, credential: Option<&Credential>) -> Result<Arc<dyn Token>, TokenError> {
        let credential =
            credential.ok_or_else(|| TokenError::LoginRefused("no username".into()))?;
        if credential.username != self.label {
            return Err(TokenError::NoToken(format!(
                "no slot '{}'; there is 0 (label {})",
                credential.username, self.label
            )));
        }
        let pin = credential.password.as_ref().map(|p| p.as_str());
        if pin != Some(self.pin.as_str()) {
            return Err(TokenError::LoginRefused("wrong PIN".into()));
        }
        Ok(self.token.clone())
    }
}

#[allow(dead_code)] // Each user of this module uses its part.
impl SoftwareToken {
    pub fn set_away(&self, away: bool) {
        self.lock().away = away;
    }

    pub fn objects_left(&self) -> usize {
        let inside = self.lock();
        let halves = |p: &Pair| usize::from(p.private.is_some()) + usize::from(p.public.is_some());
        inside.pairs.values().map(halves).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside
            .lock()
            .expect("no test panics while it holds the token")
    }

    fn inside(&self) -> Result<MutexGuard<'_, Inside>, TokenError> {
        let inside = self.lock();
        match inside.away {
            true => Err(TokenError::Unavailable("the test took it away".into())),
            false => Ok(inside),
        }
    }
}

impl Inside {
    fn pair(&self, key: &KeyId, half: Half) -> Result<(&Pair, &HalfState), TokenError> {
        let not_found = || TokenError::NotFound(object_id(key, half));
        let pair = self.pairs.get(key).ok_or_else(not_found)?;
        let state = pair.half(half).as_ref().ok_or_else(not_found)?;
        Ok((pair, state))
    }

    fn half_mut(&mut self, id: &ObjectId) -> Result<&mut HalfState, TokenError> {
        let pair = self.pairs.get_mut(&id.key);
        pair.and_then(|p| p.half_mut(id.half).as_mut())
            .ok_or_else(|| TokenError::NotFound(id.clone()))
    }
}

impl Pair {
    fn half(&self, half: Half) -> &Option<HalfState> {
        match half {
            Half::Public => &self.public,
            Half::Private => &self.private,
        }
    }

    fn half_mut(&mut self, half: Half) -> &mut Option<HalfState> {
        match half {
            Half::Public => &mut self.public,
            Half::Private => &mut self.private,
        }
    }
}

fn object_id(key: &KeyId, half: Half) -> ObjectId {
    match half {
        Half::Public => key.public(),
        Half::Private => key.private(),
    }
}

impl Token for SoftwareToken {
    fn about(&self) -> Result<About, TokenError> {
        let algorithms = [
            "RSASHA256",
            "RSASHA512",
            "ECDSAP256SHA256",
            "ECDSAP384SHA384",
            "ED25519",
        ];
        Ok(About {
            vendor: vendor_identification("0.1.0", "LocalHSM        ", "Memory   ", "none.so"),
            algorithms: algorithms.map(String::from).to_vec(),
            can_generate: true,
            can_sign: true,
            can_verify: true,
            can_rename: true,
            can_destroy: true,
        })
    }

    fn generate(&self, want: &NewPair) -> Result<KeyId, TokenError> {
        let mut inside = self.inside()?;
        inside.made += 1;
        let mut octets = [0; KeyId::OCTETS];
        octets[..4].copy_from_slice(&inside.made.to_be_bytes());
        octets[19] = 0xAB;
        let id = KeyId::new(octets);
        let (secret, public_key) = make(want.kind)?;
        let state = match want.activation {
            Some(_) => State::Active,
            None => State::PreActive,
        };
        let half = |label: &Option<String>| {
            let label = label.clone();
            Some(HalfState { label, state })
        };
        let pair = Pair {
            kind: want.kind,
            public_key,
            secret,
            private: half(&want.private_label),
            public: half(&want.public_label),
        };
        inside.pairs.insert(id.clone(), pair);
        Ok(id)
    }

    fn kind(&self, key: &KeyId) -> Result<KeyKind, TokenError> {
        let inside = self.inside()?;
        let pair = inside.pairs.get(key);
        pair.map(|p| p.kind)
            .ok_or_else(|| TokenError::NotFound(key.private()))
    }

    fn public_key(&self, key: &KeyId) -> Result<PublicKey, TokenError> {
        let inside = self.inside()?;
        Ok(inside.pair(key, Half::Public)?.0.public_key.clone())
    }

    fn object(&self, id: &ObjectId) -> Result<ObjectInfo, TokenError> {
        let inside = self.inside()?;
        let (pair, half) = inside.pair(&id.key, id.half)?;
        Ok(ObjectInfo {
            id: id.clone(),
            kind: pair.kind,
            label: half.label.clone(),
            state: half.state,
        })
    }

    fn objects(&self, label: Option<&str>) -> Result<Vec<ObjectInfo>, TokenError> {
        let inside = self.inside()?;
        let mut all = Vec::new();
        for (key, pair) in &inside.pairs {
            for half in [Half::Private, Half::Public] {
                let Some(state) = pair.half(half) else {
                    continue;
                };
                if label.is_some_and(|l| state.label.as_deref() != Some(l)) {
                    continue;
                }
                all.push(ObjectInfo {
                    id: object_id(key, half),
                    kind: pair.kind,
                    label: state.label.clone(),
                    state: state.state,
                });
            }
        }
        Ok(all)
    }

    fn rename(&self, id: &ObjectId, label: &str) -> Result<(), TokenError> {
        let mut inside = self.inside()?;
        inside.half_mut(id)?.label = Some(label.to_owned());
        Ok(())
    }

    fn sign(
        &self,
        key: &KeyId,
        mechanism: Mechanism,
        input: &SignInput,
    ) -> Result<Vec<u8>, TokenError> {
        let inside = self.inside()?;
        let (pair, half) = inside.pair(key, Half::Private)?;
        if half.state != State::Active {
            return Err(TokenError::WrongState {
                id: key.private(),
                state: half.state,
            });
        }
        sign(&pair.secret, mechanism, input).ok_or_else(|| TokenError::Refused("sign".into()))
    }

    fn verify(
        &self,
        key: &KeyId,
        mechanism: Mechanism,
        input: &SignInput,
        signature: &[u8],
    ) -> Result<bool, TokenError> {
        let inside = self.inside()?;
        let (pair, _) = inside.pair(key, Half::Public)?;
        let SignInput::Message(message) = input else {
            return Err(TokenError::Unsupported("verifying digests".into()));
        };
        Ok(verify(&pair.public_key, mechanism, message, signature))
    }

    fn activate(&self, id: &ObjectId) -> Result<(), TokenError> {
        let mut inside = self.inside()?;
        let half = inside.half_mut(id)?;
        match half.state {
            State::PreActive | State::Active => half.state = State::Active,
            state => {
                let id = id.clone();
                return Err(TokenError::WrongState { id, state });
            }
        }
        Ok(())
    }

    fn revoke(&self, id: &ObjectId, why: &Revocation) -> Result<(), TokenError> {
        let mut inside = self.inside()?;
        inside.half_mut(id)?.state = match why.reason {
            RevocationReasonCode::KeyCompromise => State::Compromised,
            _ => State::Deactivated,
        };
        Ok(())
    }

    fn destroy(&self, id: &ObjectId) -> Result<(), TokenError> {
        let mut inside = self.inside()?;
        match inside.half_mut(id) {
            Ok(half) if half.state == State::Active => {
                let (id, state) = (id.clone(), half.state);
                return Err(TokenError::WrongState { id, state });
            }
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
        if let Some(pair) = inside.pairs.get_mut(&id.key) {
            *pair.half_mut(id.half) = None;
            if pair.private.is_none() && pair.public.is_none() {
                inside.pairs.remove(&id.key);
            }
        }
        Ok(())
    }
}

fn make(kind: KeyKind) -> Result<(Secret, PublicKey), TokenError> {
    let failed = || TokenError::Refused("the library did not make a key".into());
    let (secret, public) = match kind {
        KeyKind::Rsa { bits } => {
            let size = match bits {
                2048 => KeySize::Rsa2048,
                3072 => KeySize::Rsa3072,
                4096 => KeySize::Rsa4096,
                _ => return Err(TokenError::Unsupported(format!("RSA keys of {bits} bits"))),
            };
            let pair = rsa::KeyPair::generate(size).map_err(|_| failed())?;
            // The library gives RSAPublicKey (RFC 8017 §A.1.1).
            let public = PublicKey::from_key_block(&KeyBlock {
                format: KeyFormatType::Pkcs1,
                compression: None,
                material: KeyMaterial::Octets(pair.public_key().as_ref().to_vec()),
                algorithm: None,
                length: None,
            });
            (Secret::Rsa(pair), public)
        }
        KeyKind::P256 | KeyKind::P384 => {
            let algorithm = match kind {
                KeyKind::P256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
                _ => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
            };
            let pair = EcdsaKeyPair::generate(algorithm).map_err(|_| failed())?;
            let public = PublicKey::point(kind, pair.public_key().as_ref());
            (Secret::Ecdsa(pair), public)
        }
        KeyKind::Ed25519 => {
            let pair = Ed25519KeyPair::generate().map_err(|_| failed())?;
            let public = PublicKey::point(kind, pair.public_key().as_ref());
            (Secret::Ed25519(pair), public)
        }
        KeyKind::Ed448 => return Err(TokenError::Unsupported("Ed448".into())),
    };
    Ok((secret, public.ok_or_else(failed)?))
}

fn algorithm(hash: Hash) -> &'static digest::Algorithm {
    match hash {
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    }
}

fn digest_of(hash: Hash, input: &SignInput) -> Option<Digest> {
    match input {
        SignInput::Message(message) => Some(digest::digest(algorithm(hash), message)),
        SignInput::Digest(octets) => Digest::import_less_safe(octets, algorithm(hash)).ok(),
    }
}

fn sign(secret: &Secret, mechanism: Mechanism, input: &SignInput) -> Option<Vec<u8>> {
    match (secret, mechanism, input) {
        (Secret::Rsa(pair), Mechanism::RsaPkcs1(hash), input) => {
            let padding: &'static dyn RsaEncoding = match hash {
                Hash::Sha256 => &signature::RSA_PKCS1_SHA256,
                Hash::Sha384 => &signature::RSA_PKCS1_SHA384,
                Hash::Sha512 => &signature::RSA_PKCS1_SHA512,
            };
            let mut out = vec![0; pair.public_modulus_len()];
            match input {
                SignInput::Message(m) => pair.sign(padding, &SystemRandom::new(), m, &mut out),
                digest => pair.sign_digest(padding, &digest_of(hash, digest)?, &mut out),
            }
            .ok()?;
            Some(out)
        }
        (Secret::Ecdsa(pair), Mechanism::Ecdsa(hash), input) => {
            let signature = pair.sign_digest(&digest_of(hash, input)?).ok()?;
            Some(signature.as_ref().to_vec())
        }
        (Secret::Ed25519(pair), Mechanism::Ed25519, SignInput::Message(m)) => {
            Some(pair.sign(m).as_ref().to_vec())
        }
        _ => None,
    }
}

/// Verifies outside the token as well; the tests use it as the judge of what comes back.
pub fn verify(key: &PublicKey, mechanism: Mechanism, message: &[u8], signature: &[u8]) -> bool {
    match (key, mechanism) {
        (PublicKey::Rsa { modulus, exponent }, Mechanism::RsaPkcs1(hash)) => {
            let parameters = match hash {
                Hash::Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                Hash::Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                Hash::Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            };
            let (n, e) = (modulus.as_slice(), exponent.as_slice());
            signature::RsaPublicKeyComponents { n, e }
                .verify(parameters, message, signature)
                .is_ok()
        }
        (PublicKey::Point { kind, octets }, _) => match kind {
            KeyKind::Ed25519 => UnparsedPublicKey::new(&signature::ED25519, octets)
                .verify(message, signature)
                .is_ok(),
            KeyKind::P256 | KeyKind::P384 => {
                let algorithm = match kind {
                    KeyKind::P256 => &signature::ECDSA_P256_SHA256_FIXED,
                    _ => &signature::ECDSA_P384_SHA384_FIXED,
                };
                let point: Vec<u8> = std::iter::once(4).chain(octets.iter().copied()).collect();
                UnparsedPublicKey::new(algorithm, point)
                    .verify(message, signature)
                    .is_ok()
            }
            _ => false,
        },
        _ => false,
    }
}
