//! The tokens of the module as the KMIP server sees them.

use std::sync::Arc;

use cascade_hsm as hsm;
use cascade_hsm::{Hsm, HsmError, Naming, SecretString};
use cascade_kmip::enums::State;
use cascade_kmip::token::{
    About, NewPair, ObjectInfo, Revocation, SignJob, Token, TokenError, Tokens,
    vendor_identification,
};
use cascade_kmip::{
    Credential, Half, Hash, KeyId, KeyKind, Mechanism, ObjectId, PublicKey, SignInput,
};
use parking_lot::RwLock;

/// Draws of an id before the token's claims that each is taken are no longer believed.
const DRAWS: usize = 4;

/// The module, from before it is loaded to its end.
pub struct Module {
    state: RwLock<Result<Arc<Hsm>, String>>,
}

impl Module {
    /// Until [`Module::set`], clients are told that the module is being loaded.
    pub fn new() -> Module {
        Module {
            state: RwLock::new(Err("the module is being loaded".into())),
        }
    }

    pub fn set(&self, state: Result<Arc<Hsm>, String>) {
        *self.state.write() = state;
    }

    pub fn get(&self) -> Result<Arc<Hsm>, String> {
        self.state.read().clone()
    }
}

impl Tokens for Module {
    fn open(&self, credential: Option<&Credential>) -> Result<Arc<dyn Token>, TokenError> {
        let credential = credential.ok_or_else(|| {
            TokenError::LoginRefused(
                "no username and password; the username is label, id or index of a slot, the \
                 password its PIN"
                    .into(),
            )
        })?;
        let hsm = self.get().map_err(TokenError::Unavailable)?;
        let pin = credential.password.as_ref().map_or("", |p| p.as_str());
        let token = hsm
            .open(&credential.username, &SecretString::from(pin))
            .map_err(|e| refused(e, Half::Private))?;
        let file_name = hsm.file_name().to_owned();
        Ok(Arc::new(Opened { token, file_name }))
    }
}

/// A token, for one request.
struct Opened {
    token: Arc<hsm::Token>,
    file_name: String,
}

impl Token for Opened {
    fn about(&self) -> Result<About, TokenError> {
        let algorithms = self.ask(hsm::Token::algorithms)?;
        let able = !algorithms.is_empty();
        Ok(About {
            vendor: vendor_identification(
                env!("CARGO_PKG_VERSION"),
                &self.token.info().label,
                self.token.slot_description(),
                &self.file_name,
            ),
            algorithms: algorithms.iter().map(|a| a.mnemonic().into()).collect(),
            can_generate: able,
            can_sign: able,
            can_verify: false,
            can_rename: self.token.can_rename(),
            can_destroy: true,
        })
    }

    fn generate(&self, want: &NewPair) -> Result<KeyId, TokenError> {
        let naming = naming(want);
        for _ in 0..DRAWS {
            let pair = hsm::NewPair {
                kind: to_kind(want.kind),
                random: random()?,
                naming: naming.clone(),
            };
            match self.token.generate(&pair) {
                Ok(made) => {
                    tracing::info!(key = made.id.as_str(), "made a {} key", pair.kind.name());
                    return from_id(&made.id)
                        .ok_or_else(|| TokenError::Refused("the new key has no usable id".into()));
                }
                // Another random id helps, another name would be somebody else's decision.
                Err(HsmError::IdTaken(_)) if !matches!(naming, Naming::AtCreation { .. }) => {}
                Err(error) => {
                    tracing::warn!("a {} key was not made: {error}", pair.kind.name());
                    return Err(refused(error, Half::Private));
                }
            }
        }
        Err(TokenError::Refused(
            "the token says of every random id that it is in use".into(),
        ))
    }

    fn kind(&self, key: &KeyId) -> Result<KeyKind, TokenError> {
        let key = to_id(key)?;
        self.ask(|t| t.kind(&key)).map(from_kind)
    }

    fn public_key(&self, key: &KeyId) -> Result<PublicKey, TokenError> {
        let key = to_id(key)?;
        let public = self.token.public_key(&key);
        Ok(match public.map_err(|e| refused(e, Half::Public))? {
            hsm::PublicKey::Rsa { modulus, exponent } => PublicKey::Rsa { modulus, exponent },
            hsm::PublicKey::Point { kind, octets } => PublicKey::Point {
                kind: from_kind(kind),
                octets,
            },
        })
    }

    fn object(&self, id: &ObjectId) -> Result<ObjectInfo, TokenError> {
        let key = to_id(&id.key)?;
        let found = self.token.object(&key, to_half(id.half));
        let found = found.map_err(|e| refused(e, id.half))?;
        info(id.clone(), found).ok_or_else(|| {
            TokenError::Unsupported(format!("{id} is of a kind that is not used here"))
        })
    }

    fn objects(&self, label: Option<&str>) -> Result<Vec<ObjectInfo>, TokenError> {
        let all = self.ask(|t| t.objects(label))?;
        let named = |o: hsm::ObjectInfo| {
            let key = from_id(&o.id)?;
            let id = match o.half {
                hsm::Half::Public => key.public(),
                hsm::Half::Private => key.private(),
            };
            info(id, o)
        };
        Ok(all.into_iter().filter_map(named).collect())
    }

    fn rename(&self, id: &ObjectId, label: &str) -> Result<(), TokenError> {
        let key = to_id(&id.key)?;
        self.token
            .rename(&key, to_half(id.half), label)
            .map_err(|e| refused(e, id.half))
    }

    fn sign(
        &self,
        key: &KeyId,
        mechanism: Mechanism,
        input: &SignInput,
    ) -> Result<Vec<u8>, TokenError> {
        let key = to_id(key)?;
        self.ask(|t| t.sign(&key, to_mechanism(mechanism), &to_input(input)))
    }

    fn sign_all(&self, jobs: &[SignJob<'_>]) -> Vec<Result<Vec<u8>, TokenError>> {
        let mut results: Vec<_> = jobs
            .iter()
            .map(|_| Err(TokenError::Refused("not signed".into())))
            .collect();
        let mut left: Vec<usize> = (0..jobs.len()).collect();
        while let Some(first) = left.first().and_then(|at| jobs.get(*at)) {
            let same = |at: &usize| {
                let job = jobs.get(*at);
                job.is_some_and(|j| j.key == first.key && j.mechanism == first.mechanism)
            };
            let (group, others): (Vec<usize>, Vec<usize>) = left.iter().partition(|at| same(at));
            let inputs = group.iter().filter_map(|at| jobs.get(*at));
            let inputs: Vec<_> = inputs.map(|job| to_input(job.input)).collect();
            let signed = match to_id(first.key) {
                Ok(key) => {
                    let all = self
                        .token
                        .sign_batch(&key, to_mechanism(first.mechanism), &inputs);
                    let each = all.into_iter();
                    each.map(|r| r.map_err(|e| refused(e, Half::Private)))
                        .collect()
                }
                Err(error) => vec![Err(error); group.len()],
            };
            for (at, result) in group.into_iter().zip(signed) {
                if let Some(place) = results.get_mut(at) {
                    *place = result;
                }
            }
            left = others;
        }
        results
    }

    fn verify(&self, _: &KeyId, _: Mechanism, _: &SignInput, _: &[u8]) -> Result<bool, TokenError> {
        Err(TokenError::Unsupported(
            "signatures are verified by those who use them".into(),
        ))
    }

    fn activate(&self, id: &ObjectId) -> Result<(), TokenError> {
        // Keys on PKCS#11 tokens have no states.
        self.object(id).map(drop)
    }

    fn revoke(&self, id: &ObjectId, _: &Revocation) -> Result<(), TokenError> {
        self.object(id).map(drop)
    }

    fn destroy(&self, id: &ObjectId) -> Result<(), TokenError> {
        let key = to_id(&id.key)?;
        let done = self.token.destroy(&key, to_half(id.half));
        if done.map_err(|e| refused(e, id.half))? {
            tracing::info!(key = key.as_str(), "destroyed {id}");
        }
        Ok(())
    }
}

impl Opened {
    fn ask<T>(&self, what: impl Fn(&hsm::Token) -> Result<T, HsmError>) -> Result<T, TokenError> {
        what(&self.token).map_err(|e| refused(e, Half::Private))
    }
}

/// One name for both halves is the name of the key itself: where labels cannot be changed later,
/// it takes the place of the random id.
fn naming(want: &NewPair) -> Naming {
    match (&want.private_label, &want.public_label) {
        (None, None) => Naming::Plain,
        (Some(private), Some(public)) if private == public => Naming::AtCreation {
            private: private.clone(),
            public: public.clone(),
            name: private.clone(),
        },
        (private, public) => {
            let or = |own: &Option<String>, other: &Option<String>| {
                own.clone().or_else(|| other.clone()).unwrap_or_default()
            };
            Naming::Auto {
                private: or(private, public),
                public: or(public, private),
            }
        }
    }
}

fn random() -> Result<[u8; KeyId::OCTETS], TokenError> {
    let mut octets = [0; KeyId::OCTETS];
    match fill_random(&mut octets) {
        true => Ok(octets),
        false => Err(TokenError::Unavailable(
            "the system gives no random octets".into(),
        )),
    }
}

/// False if the system's random source fails.
pub fn fill_random(octets: &mut [u8]) -> bool {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.secure_random.fill(octets).is_ok()
}

/// `half` is the one that was asked for, where the error does not say.
fn refused(error: HsmError, half: Half) -> TokenError {
    let object = |id: &hsm::KeyId, half| {
        from_id(id).map(|key| match half {
            Half::Public => key.public(),
            Half::Private => key.private(),
        })
    };
    let text = error.to_string();
    match error {
        HsmError::NotFound { id, half } => match object(&id, from_half(half)) {
            Some(id) => TokenError::NotFound(id),
            None => TokenError::Refused(text),
        },
        HsmError::LabelFixed { id, .. } => match object(&id, half) {
            Some(id) => TokenError::LabelFixed(id),
            None => TokenError::Refused(text),
        },
        HsmError::LoginRefused(why) => TokenError::LoginRefused(why),
        HsmError::NoToken(why) => TokenError::NoToken(why),
        HsmError::Unsupported(why) => TokenError::Unsupported(why),
        HsmError::Refused(why) => TokenError::Refused(why),
        HsmError::Unavailable(why) => TokenError::Unavailable(why.to_string()),
        HsmError::IdTaken(_) | HsmError::BadInput(_) => TokenError::Refused(text),
    }
}

fn info(id: ObjectId, found: hsm::ObjectInfo) -> Option<ObjectInfo> {
    Some(ObjectInfo {
        id,
        kind: from_kind(found.kind?),
        label: found.label,
        state: State::Active,
    })
}

fn to_id(key: &KeyId) -> Result<hsm::KeyId, TokenError> {
    hsm::KeyId::parse(key.as_str()).map_err(|e| TokenError::Refused(e.to_string()))
}

fn from_id(key: &hsm::KeyId) -> Option<KeyId> {
    KeyId::from_cka_id(&key.octets())
}

fn to_half(half: Half) -> hsm::Half {
    match half {
        Half::Public => hsm::Half::Public,
        Half::Private => hsm::Half::Private,
    }
}

fn from_half(half: hsm::Half) -> Half {
    match half {
        hsm::Half::Public => Half::Public,
        hsm::Half::Private => Half::Private,
    }
}

fn to_kind(kind: KeyKind) -> hsm::KeyKind {
    match kind {
        KeyKind::Rsa { bits } => hsm::KeyKind::Rsa { bits },
        KeyKind::P256 => hsm::KeyKind::P256,
        KeyKind::P384 => hsm::KeyKind::P384,
        KeyKind::Ed25519 => hsm::KeyKind::Ed25519,
        KeyKind::Ed448 => hsm::KeyKind::Ed448,
    }
}

fn from_kind(kind: hsm::KeyKind) -> KeyKind {
    match kind {
        hsm::KeyKind::Rsa { bits } => KeyKind::Rsa { bits },
        hsm::KeyKind::P256 => KeyKind::P256,
        hsm::KeyKind::P384 => KeyKind::P384,
        hsm::KeyKind::Ed25519 => KeyKind::Ed25519,
        hsm::KeyKind::Ed448 => KeyKind::Ed448,
    }
}

fn to_mechanism(mechanism: Mechanism) -> hsm::Mechanism {
    let hash = |h| match h {
        Hash::Sha256 => hsm::Hash::Sha256,
        Hash::Sha384 => hsm::Hash::Sha384,
        Hash::Sha512 => hsm::Hash::Sha512,
    };
    match mechanism {
        Mechanism::RsaPkcs1(h) => hsm::Mechanism::RsaPkcs1(hash(h)),
        Mechanism::Ecdsa(h) => hsm::Mechanism::Ecdsa(hash(h)),
        Mechanism::Ed25519 | Mechanism::Ed448 => hsm::Mechanism::Eddsa,
    }
}

fn to_input(input: &SignInput) -> hsm::SignInput {
    match input {
        SignInput::Message(m) => hsm::SignInput::Message(m.clone()),
        SignInput::Digest(d) => hsm::SignInput::Digest(d.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_for_both_halves_names_the_key() {
        let pair = |private: Option<&str>, public: Option<&str>| NewPair {
            kind: KeyKind::P256,
            private_label: private.map(Into::into),
            public_label: public.map(Into::into),
            activation: None,
        };
        assert_eq!(naming(&pair(None, None)), Naming::Plain);
        let both = naming(&pair(Some("zone-ksk-1"), Some("zone-ksk-1")));
        assert!(matches!(both, Naming::AtCreation { name, .. } if name == "zone-ksk-1"));
        let one = naming(&pair(Some("a"), None));
        assert_eq!(
            one,
            Naming::Auto {
                private: "a".into(),
                public: "a".into()
            }
        );
    }

    #[test]
    fn ids_pass_unchanged() {
        for octets in [vec![1], vec![0xAB; 20], vec![0; 64]] {
            let id = KeyId::from_cka_id(&octets).expect("id");
            let other = to_id(&id).expect("id");
            assert_eq!(from_id(&other), Some(id));
        }
    }
}
