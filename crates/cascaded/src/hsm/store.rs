//! The key store in an HSM.

use std::sync::Arc;

use cascade_crypto::{
    Algorithm, Dnskey, KeyError, KeyStore, Labelling, NewKey, SignFailure, SigningKey, StoredKey,
    ZoneRef,
};
use cascade_kmip::PublicKey;
use cascade_kmip::client::{Answer, ask};
use cascade_kmip::enums::{ObjectType, ResultReason};
use cascade_kmip::payload::ResponsePayload;
use cascade_zone::KeyId;

use super::device::{Device, Event, Trouble};
use super::gather::Target;
use super::key::HsmKey;
use super::kind::{dnskey_of, kind_of, mechanism_of};
use super::label::Side;
use super::reference::Reference;

/// New keys that are thrown away for their tags before it is given up: each costs the token's time.
const TAG_TRIES: u32 = 64;
/// Objects that are looked through at most.
const OBJECTS_MAX: usize = 100_000;

pub struct HsmStore {
    device: Arc<Device>,
}

/// A pair as the server made it.
struct Pair {
    public: String,
    private: String,
}

impl HsmStore {
    pub fn new(device: Arc<Device>) -> HsmStore {
        HsmStore { device }
    }

    fn error(&self, operation: &'static str, trouble: &Trouble) -> KeyError {
        let (store, why) = (self.device.id.clone(), trouble.to_string());
        match trouble.is_temporary() {
            true => KeyError::Away { store, why },
            false => KeyError::Refused {
                store,
                operation,
                why,
            },
        }
    }

    /// Makes a pair, activates it and reads its public half back in another request.
    fn make(&self, want: &NewKey<'_>) -> Result<(Pair, Dnskey), KeyError> {
        let (private, public) = self.first_names(want);
        let kind = kind_of(want.spec);
        let request = ask::create_key_pair(kind, &private, &public);
        let made = self.device.ask(request);
        let pair = match made.map_err(|e| self.error("make a key", &e))? {
            ResponsePayload::CreateKeyPair { private, public } => Pair { public, private },
            _ => return Err(self.error("make a key", &Trouble::Odd)),
        };
        match self.read_back(&pair, want) {
            Ok(dnskey) => Ok((pair, dnskey)),
            Err(e) => {
                self.drop_pair(&pair);
                Err(e)
            }
        }
    }

    /// The names of the halves when they are made.
    fn first_names(&self, want: &NewKey<'_>) -> (String, String) {
        let labels = self.device.labels();
        let random: [u8; 4] = crate::daemon::random();
        let label = |side| labels.provisional(want.zone.name, want.role, random, side);
        match want.labelling {
            Labelling::After => (String::new(), String::new()),
            Labelling::AtCreation if self.device.shares_names() => {
                let name = labels.lasting(want.zone.name, want.role, random);
                (name.clone(), name)
            }
            Labelling::AtCreation | Labelling::Auto => (label(Side::Private), label(Side::Public)),
        }
    }

    fn read_back(&self, pair: &Pair, want: &NewKey<'_>) -> Result<Dnskey, KeyError> {
        let algorithm = want.spec.algorithm;
        let activated = self.device.ask(ask::activate(&pair.private));
        activated.map_err(|e| match &e {
            Trouble::Answer(answer) if answer.is_gone() => self.vanished(),
            _ => self.error("activate a key", &e),
        })?;
        // Whether public halves have states differs; without, nothing is lost.
        let _ = self.device.ask(ask::activate(&pair.public));
        let key = self.public_key(&pair.public).map_err(|e| match e {
            KeyError::NotFound(_) => self.vanished(),
            other => other,
        })?;
        if key.kind() != kind_of(want.spec) {
            return Err(KeyError::Refused {
                store: self.device.id.clone(),
                operation: "make a key",
                why: format!("it made one of another kind than {}", want.spec),
            });
        }
        dnskey_of(want.role.flags(), algorithm, &key).ok_or(KeyError::Rejected(algorithm))
    }

    /// Another instance was asked for a key that was made a moment ago.
    fn vanished(&self) -> KeyError {
        KeyError::Unproven {
            store: self.device.id.clone(),
            why: "a new key is not there any more: instances of it do not hold the same keys"
                .into(),
        }
    }

    fn public_key(&self, public: &str) -> Result<PublicKey, KeyError> {
        let operation = "give a public key";
        match self.device.ask(ask::public_key(public)) {
            Ok(ResponsePayload::Get { key, .. }) => {
                PublicKey::from_key_block(&key).ok_or_else(|| self.error(operation, &Trouble::Odd))
            }
            Ok(_) => Err(self.error(operation, &Trouble::Odd)),
            Err(Trouble::Answer(e)) if e.is_gone() => Err(KeyError::NotFound(public.to_string())),
            Err(e) => Err(self.error(operation, &e)),
        }
    }

    /// Names both halves after zone and tag, where the token lets us.
    fn name(&self, pair: &Pair, want: &NewKey<'_>, tag: u16) {
        if want.labelling == Labelling::AtCreation || self.device.can_rename() == Some(false) {
            return;
        }
        let labels = self.device.labels();
        for (id, side) in [(&pair.private, Side::Private), (&pair.public, Side::Public)] {
            let label = labels.named(want.zone.name, tag, want.role, side);
            match self.device.ask(ask::rename(id, &label)) {
                Ok(_) => self.device.set_can_rename(true),
                Err(e) => {
                    if is_refusal(&e) {
                        self.device.set_can_rename(false);
                    }
                    tracing::info!(hsm = %self.device.id, "the label of a new key stays as it was made: {e}");
                    return;
                }
            }
        }
    }

    /// Destroys a pair that nobody uses; what cannot be destroyed is remembered.
    fn drop_pair(&self, pair: &Pair) {
        if let Err(e) = self.destroy_pair(pair) {
            tracing::warn!(hsm = %self.device.id, "a key that is not used could not be destroyed; it is tried again: {e}");
            self.device.tell(Event::Undestroyed {
                hsm: self.device.id.clone(),
                objects: vec![pair.private.clone(), pair.public.clone()],
            });
        }
    }

    /// Private, then public. What is gone already counts as destroyed.
    fn destroy_pair(&self, pair: &Pair) -> Result<(), KeyError> {
        self.device.forget(&pair.private);
        for id in [&pair.private, &pair.public] {
            destroy_object(&self.device, id).map_err(|e| self.error("destroy a key", &e))?;
        }
        Ok(())
    }

    fn target(&self, key: &StoredKey) -> Result<(Reference, Target, Algorithm), KeyError> {
        let bad = || KeyError::BadReference(key.reference.clone());
        let reference = Reference::parse(&key.reference).ok_or_else(bad)?;
        let number = key.dnskey.algorithm_number();
        let algorithm = key
            .dnskey
            .algorithm()
            .ok_or(KeyError::Unsupported(number))?;
        if reference.hsm != self.device.id || !reference.fits(&key.dnskey) {
            return Err(bad());
        }
        let sig_len = key
            .dnskey
            .signature_len()
            .ok_or(KeyError::Unsupported(number))?;
        let bits = u16::try_from(sig_len * 8).unwrap_or(0);
        let target = Target {
            private: reference.private.clone(),
            dnskey: key.dnskey.clone(),
            kind: kind_of(cascade_crypto::KeySpec { algorithm, bits }),
            mechanism: mechanism_of(algorithm),
            sig_len,
        };
        Ok((reference, target, algorithm))
    }

    /// What is needed to have something signed by a key of this store.
    pub fn target_of(&self, key: &StoredKey) -> Result<Target, KeyError> {
        self.target(key).map(|(_, target, _)| target)
    }

    fn stored(&self, pair: &Pair, dnskey: Dnskey) -> Result<StoredKey, KeyError> {
        let reference = Reference::new(&self.device.id, &pair.public, &pair.private, &dnskey)
            .ok_or_else(|| self.error("make a key", &Trouble::Odd))?;
        Ok(StoredKey {
            reference: reference.to_string(),
            dnskey,
        })
    }

    /// A key that is in the HSM already, by the server's names of its halves. Its kind and a proof
    /// decide whether it is what it is said to be; nothing in the HSM is changed. For threads that
    /// may block.
    ///
    /// # Errors
    /// What it is instead, or why nobody knows.
    pub fn adopt(
        &self,
        public: &str,
        private: &str,
        algorithm: Algorithm,
        flags: u16,
    ) -> Result<StoredKey, KeyError> {
        let key = self.public_key(public)?;
        let other = || KeyError::Refused {
            store: self.device.id.clone(),
            operation: "give the key",
            why: format!("{public} is a key of another kind than {algorithm}"),
        };
        let dnskey = dnskey_of(flags, algorithm, &key).ok_or_else(other)?;
        let pair = Pair {
            public: public.to_string(),
            private: private.to_string(),
        };
        let stored = self.stored(&pair, dnskey)?;
        let target = self.target_of(&stored)?;
        self.device.try_out(target).map_err(|e| self.failed(e))?;
        Ok(stored)
    }

    /// Proves that the private half belongs to the public octets. For threads that may block.
    pub fn prove(&self, key: &StoredKey) -> Result<(), KeyError> {
        let (_, target, _) = self.target(key)?;
        let held = self.device.hold(target);
        self.device.prove_now(&held).map_err(|e| self.failed(e))
    }

    fn signer(&self, id: KeyId, key: &StoredKey) -> Result<HsmKey, KeyError> {
        let (_, target, algorithm) = self.target(key)?;
        let (device, held) = (self.device.clone(), self.device.hold(target));
        let dnskey = key.dnskey.clone();
        Ok(HsmKey::new(id, dnskey, algorithm, device, held))
    }

    fn failed(&self, failure: SignFailure) -> KeyError {
        let store = self.device.id.clone();
        match failure {
            SignFailure::Unproven { why, .. } => KeyError::Unproven { store, why },
            SignFailure::Away { why, .. } => KeyError::Away { store, why },
            SignFailure::Refused { why, .. } => KeyError::Refused {
                store,
                operation: "sign",
                why,
            },
            other => KeyError::Away {
                store,
                why: other.to_string(),
            },
        }
    }
}

impl KeyStore for HsmStore {
    fn generate(&self, want: &NewKey<'_>) -> Result<(StoredKey, Arc<dyn SigningKey>), KeyError> {
        for _ in 0..TAG_TRIES {
            let (pair, dnskey) = self.make(want)?;
            let (tag, revoked) = (dnskey.key_tag(), dnskey.revoked_tag());
            let free = !want.taken_tags.iter().any(|t| *t == tag || *t == revoked);
            if !free || !want.tag_range.contains(&tag) {
                self.drop_pair(&pair);
                continue;
            }
            let stored = self.stored(&pair, dnskey)?;
            let proved = self.signer(want.id, &stored).and_then(|key| {
                let proof = self.device.prove_now(key.held());
                proof.map_err(|e| self.failed(e)).map(|()| key)
            });
            let key = match proved {
                Ok(key) => key,
                Err(e) => {
                    self.drop_pair(&pair);
                    return Err(e);
                }
            };
            self.name(&pair, want, tag);
            return Ok((stored, Arc::new(key)));
        }
        Err(KeyError::NoFreeTag {
            algorithm: want.spec.algorithm,
            tried: TAG_TRIES,
        })
    }

    fn load(
        &self,
        id: KeyId,
        _: ZoneRef<'_>,
        key: &StoredKey,
    ) -> Result<Arc<dyn SigningKey>, KeyError> {
        let key = self.signer(id, key)?;
        self.device.prove(key.held()).map_err(|e| self.failed(e))?;
        Ok(Arc::new(key))
    }

    fn find(&self, _: ZoneRef<'_>, dnskey: &Dnskey) -> Result<Option<StoredKey>, KeyError> {
        let Some(algorithm) = dnskey.algorithm() else {
            return Ok(None);
        };
        let objects = objects(&self.device).map_err(|e| self.error("list its keys", &e))?;
        for object in objects.iter().filter(|o| o.public) {
            let Some(key) = &object.key else { continue };
            let same = dnskey_of(dnskey.flags(), algorithm, key);
            if !same.is_some_and(|k| k.is_same_key(dnskey)) {
                continue;
            }
            let Some(private) = private_of(object, &objects) else {
                continue;
            };
            let pair = Pair {
                public: object.id.clone(),
                private,
            };
            return self.stored(&pair, dnskey.clone()).map(Some);
        }
        Ok(None)
    }

    /// Keys whose labels we made for the zone; a key's place in the zone is known elsewhere.
    fn list(&self, zone: ZoneRef<'_>) -> Result<Vec<StoredKey>, KeyError> {
        let objects = objects(&self.device).map_err(|e| self.error("list its keys", &e))?;
        let labels = self.device.labels();
        let mut found = Vec::new();
        for object in objects.iter().filter(|o| o.public) {
            let role = object
                .label
                .as_deref()
                .and_then(|l| labels.role_of(zone.name, l));
            let (Some(role), Some(key)) = (role, &object.key) else {
                continue;
            };
            let dnskey = Algorithm::ALL
                .into_iter()
                .find_map(|a| dnskey_of(role.flags(), a, key));
            let (Some(dnskey), Some(private)) = (dnskey, private_of(object, &objects)) else {
                continue;
            };
            let pair = Pair {
                public: object.id.clone(),
                private,
            };
            found.push(self.stored(&pair, dnskey)?);
        }
        found.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(found)
    }

    fn destroy(&self, _: ZoneRef<'_>, key: &StoredKey) -> Result<(), KeyError> {
        let (reference, ..) = self.target(key)?;
        self.destroy_pair(&Pair {
            public: reference.public,
            private: reference.private,
        })
    }
}

/// One object of the token.
#[derive(Debug, Clone)]
pub struct Object {
    pub id: String,
    pub public: bool,
    pub label: Option<String>,
    /// Of public objects.
    pub key: Option<PublicKey>,
}

/// Every key object of the HSM. For threads that may block.
pub fn objects(device: &Device) -> Result<Vec<Object>, Trouble> {
    let mut found = Vec::new();
    for (kind, public) in [
        (ObjectType::PublicKey, true),
        (ObjectType::PrivateKey, false),
    ] {
        for id in locate(device, kind)? {
            found.push(Object {
                id,
                public,
                label: None,
                key: None,
            });
        }
    }
    let attributes = found.iter().map(|o| ask::attributes(&o.id)).collect();
    for (object, answer) in found.iter_mut().zip(device.ask_all(attributes)?) {
        object.label = label_in(answer);
    }
    let public: Vec<usize> = (0..found.len()).filter(|i| found[*i].public).collect();
    let keys = public
        .iter()
        .map(|i| ask::public_key(&found[*i].id))
        .collect();
    for (i, answer) in public.into_iter().zip(device.ask_all(keys)?) {
        if let Ok(ResponsePayload::Get { key, .. }) = answer {
            found[i].key = PublicKey::from_key_block(&key);
        }
    }
    Ok(found)
}

fn label_in(answer: Answer) -> Option<String> {
    use cascade_kmip::attribute::AttributeValue;
    let Ok(ResponsePayload::GetAttributes { attributes, .. }) = answer else {
        return None;
    };
    attributes.into_iter().find_map(|a| match a.value {
        AttributeValue::Name(name) => Some(name.value.replace(char::is_control, "?")),
        _ => None,
    })
}

/// All identifiers of one type, in parts that fit a response.
fn locate(device: &Device, kind: ObjectType) -> Result<Vec<String>, Trouble> {
    let most = cascade_kmip::client::locate_capacity(device.pool().settings().max_response, 64);
    let mut all: Vec<String> = Vec::new();
    while all.len() < OBJECTS_MAX {
        let part = match device.ask(ask::locate_part(kind, all.len(), most))? {
            ResponsePayload::Locate { ids, .. } => ids,
            _ => return Err(Trouble::Odd),
        };
        let n = part.len();
        // Servers before KMIP 1.3 do not know offsets and begin again.
        let new: Vec<String> = part.into_iter().filter(|id| !all.contains(id)).collect();
        if new.is_empty() {
            break;
        }
        all.extend(new);
        if n < most {
            break;
        }
    }
    Ok(all)
}

/// The private half that belongs to a public one.
fn private_of(object: &Object, all: &[Object]) -> Option<String> {
    let id = object.id.strip_suffix("_pub")?;
    let wanted = format!("{id}_priv");
    all.iter().any(|o| o.id == wanted).then_some(wanted)
}

/// Revokes and destroys one object wherever it may be; one that is gone counts as destroyed.
///
/// # Errors
/// The first instance's that would not; the others have been asked all the same.
pub fn destroy_object(device: &Device, id: &str) -> Result<(), Trouble> {
    let mut end = Ok(());
    for instance in device.everywhere() {
        // Active keys want to be revoked first; servers whose keys have no states may not know how.
        let _ = device.ask_at(instance, ask::revoke(id, "no longer used"));
        match device.ask_at(instance, ask::destroy(id)) {
            Ok(_) => {}
            Err(Trouble::Answer(e)) if e.is_gone() => {}
            Err(e) => end = end.and(Err(e)),
        }
    }
    end
}

/// The token says no, and will say so again.
fn is_refusal(trouble: &Trouble) -> bool {
    use cascade_kmip::client::AnswerError;
    matches!(
        trouble,
        Trouble::Answer(AnswerError::Refused { failure, .. })
            if matches!(
                failure.reason,
                ResultReason::PermissionDenied
                    | ResultReason::OperationNotSupported
                    | ResultReason::FeatureNotSupported
            )
    )
}
