//! Signing with one session.

use cryptoki::mechanism::Mechanism as CkMechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};

use crate::error::{Class, Fault, HsmError, Trouble};
use crate::id::{Half, KeyId};
use crate::key::{KeyKind, Mechanism};
use crate::objects;
use crate::session::Live;

/// Room for a signature: modules compare it with sizes that they reckon generously.
const ROOM: usize = 256;

/// One signature. `data` is what [`Mechanism::prepare`] made; it is left as it was.
pub(crate) fn sign(
    live: &mut Live,
    key: &KeyId,
    kind: KeyKind,
    mechanism: Mechanism,
    data: &mut [u8],
) -> Result<Vec<u8>, Trouble> {
    match once(live, key, kind, mechanism, data) {
        Err(Trouble::Fault(fault)) if fault.class == Class::Handle => {
            // The key may have been restored, or replaced by one with the same id.
            live.forget(key, Half::Private);
            match once(live, key, kind, mechanism, data) {
                // A module may still show what the device no longer has.
                Err(Trouble::Fault(fault)) if fault.class == Class::Handle => {
                    let (id, half) = (key.clone(), Half::Private);
                    Err(HsmError::NotFound { id, half }.into())
                }
                other => other,
            }
        }
        other => other,
    }
}

fn once(
    live: &mut Live,
    key: &KeyId,
    kind: KeyKind,
    mechanism: Mechanism,
    data: &mut [u8],
) -> Result<Vec<u8>, Trouble> {
    let handle = objects::find(live, key, Half::Private)?;
    let want = kind.signature_len();
    live.session.sign_init(&on_token(mechanism, kind), handle)?;
    let raw = live.module.raw_sign;
    let signature = raw.sign(&live.session, data, ROOM.max(want * 2))?;
    if signature.len() != want {
        let (name, len) = (kind.name(), signature.len());
        return Err(HsmError::Refused(format!(
            "a signature by {name} key {key} of {len} octets, where {want} are right"
        ))
        .into());
    }
    Ok(signature)
}

fn on_token(mechanism: Mechanism, kind: KeyKind) -> CkMechanism<'static> {
    match (mechanism, kind) {
        (Mechanism::RsaPkcs1(_), _) => CkMechanism::RsaPkcs,
        (Mechanism::Ecdsa(_), _) => CkMechanism::Ecdsa,
        // PKCS#11 v3.0 §2.3.14: parameters are needed for Ed448, and left out for pure Ed25519.
        (Mechanism::Eddsa, KeyKind::Ed448) => {
            CkMechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed448(b"")))
        }
        (Mechanism::Eddsa, _) => {
            CkMechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519))
        }
    }
}

/// Several signatures by one key with one session. Goes on where it stopped when it is tried again.
pub(crate) struct Chunk {
    pub key: KeyId,
    pub kind: KeyKind,
    pub mechanism: Mechanism,
    pub inputs: Vec<Vec<u8>>,
    pub done: Vec<Result<Vec<u8>, HsmError>>,
}

impl Chunk {
    pub fn go_on(&mut self, live: &mut Live) -> Result<Vec<Result<Vec<u8>, HsmError>>, Trouble> {
        while let Some(data) = self.inputs.get_mut(self.done.len()) {
            live.beat();
            let result = match sign(live, &self.key, self.kind, self.mechanism, data) {
                Ok(signature) => Ok(signature),
                Err(Trouble::Final(error)) => Err(error),
                Err(Trouble::Fault(fault)) if is_about_this_item(&fault) => Err(fault.into()),
                Err(fault) => return Err(fault),
            };
            self.done.push(result);
        }
        Ok(std::mem::take(&mut self.done))
    }
}

/// Faults that say nothing about session and device.
fn is_about_this_item(fault: &Fault) -> bool {
    matches!(
        fault.class,
        Class::Refused | Class::Template | Class::Unsupported
    )
}
