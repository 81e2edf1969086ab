//! What the server needs of a token: the operations on keys. Implemented over PKCS#11 elsewhere.

use std::sync::Arc;

use thiserror::Error;

use crate::enums::{ResultReason, RevocationReasonCode, State};
use crate::failure::Failure;
use crate::ident::{Half, KeyId, ObjectId};
use crate::mechanism::{Mechanism, SignInput};
use crate::message::Credential;
use crate::public_key::{KeyKind, PublicKey};

/// Opens tokens for those who present a credential.
pub trait Tokens: Send + Sync {
    /// The token that the credential's username names, after its password was accepted.
    ///
    /// Called once for each request, so it must be quick when the same credential was accepted
    /// before.
    fn open(&self, credential: Option<&Credential>) -> Result<Arc<dyn Token>, TokenError>;
}

/// One token, logged in. Calls block until the token has answered, and come from many threads.
///
/// Every method:
/// 1. does its work at most once, except where it says that repeating is harmless,
/// 2. answers [`TokenError::NotFound`] if the object does not exist,
/// 3. answers [`TokenError::Unavailable`] at once while the token is known to be away.
pub trait Token: Send + Sync {
    fn about(&self) -> Result<About, TokenError>;

    /// Makes a key pair. An error leaves nothing on the token: a pair that cannot be used is
    /// destroyed again.
    fn generate(&self, want: &NewPair) -> Result<KeyId, TokenError>;

    /// What kind of key it is. Asked for each signature, so it should come from memory.
    fn kind(&self, key: &KeyId) -> Result<KeyKind, TokenError>;

    fn public_key(&self, key: &KeyId) -> Result<PublicKey, TokenError>;

    fn object(&self, id: &ObjectId) -> Result<ObjectInfo, TokenError>;

    /// All key objects; only those with this label if one is given. In any order.
    fn objects(&self, label: Option<&str>) -> Result<Vec<ObjectInfo>, TokenError>;

    /// Sets the label of one object.
    fn rename(&self, id: &ObjectId, label: &str) -> Result<(), TokenError>;

    /// Signs with the private half. `mechanism` fits the key's kind and `input` the mechanism.
    /// Repeating is harmless.
    fn sign(
        &self,
        key: &KeyId,
        mechanism: Mechanism,
        input: &SignInput,
    ) -> Result<Vec<u8>, TokenError>;

    /// Signs many inputs: one result for each, in their order. Tokens with several sessions spread
    /// them.
    fn sign_all(&self, jobs: &[SignJob<'_>]) -> Vec<Result<Vec<u8>, TokenError>> {
        let one = |job: &SignJob<'_>| self.sign(job.key, job.mechanism, job.input);
        jobs.iter().map(one).collect()
    }

    /// Verifies with the public half. Called only if [`About::can_verify`].
    fn verify(
        &self,
        key: &KeyId,
        mechanism: Mechanism,
        input: &SignInput,
        signature: &[u8],
    ) -> Result<bool, TokenError>;

    /// Makes a key usable. A token whose keys have no states accepts this for every object that
    /// exists. Repeating is harmless.
    fn activate(&self, id: &ObjectId) -> Result<(), TokenError>;

    /// Ends the use of a key; accepted without effect by tokens whose keys have no states.
    fn revoke(&self, id: &ObjectId, why: &Revocation) -> Result<(), TokenError>;

    /// Destroys one half of a pair. Success also if it is gone already: some tokens remove both
    /// halves together.
    fn destroy(&self, id: &ObjectId) -> Result<(), TokenError>;
}

/// One signature to be made; see [`Token::sign`].
#[derive(Clone, Copy, Debug)]
pub struct SignJob<'a> {
    pub key: &'a KeyId,
    pub mechanism: Mechanism,
    pub input: &'a SignInput,
}

/// What a token is and can do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct About {
    /// See [`vendor_identification`].
    pub vendor: String,
    /// Mnemonics of the DNSSEC algorithms that it can make keys for and sign with.
    pub algorithms: Vec<String>,
    pub can_generate: bool,
    pub can_sign: bool,
    pub can_verify: bool,
    pub can_rename: bool,
    pub can_destroy: bool,
}

/// A key pair to be made. The private half signs and does nothing else, cannot be read and cannot
/// leave the token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPair {
    pub kind: KeyKind,
    pub private_label: Option<String>,
    pub public_label: Option<String>,
    /// When its use begins, in seconds since 1970, if the client said so. Otherwise the client
    /// activates it later.
    pub activation: Option<i64>,
}

/// One half of a key pair as it is on the token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectInfo {
    pub id: ObjectId,
    pub kind: KeyKind,
    pub label: Option<String>,
    /// [`State::Active`] on tokens whose keys have no states.
    pub state: State,
}

/// Why a key is no longer to be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revocation {
    pub reason: RevocationReasonCode,
    pub message: Option<String>,
    /// Since when it may have been known to others.
    pub compromised: Option<i64>,
}

/// Why a token did not do what was asked.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TokenError {
    #[error("there is no key object {0} on the token")]
    NotFound(ObjectId),
    #[error("login refused: {0}")]
    LoginRefused(String),
    #[error("no usable token: {0}")]
    NoToken(String),
    #[error("the token cannot do this: {0}")]
    Unsupported(String),
    #[error("the key {id} is in state '{state}', which does not allow this")]
    WrongState { id: ObjectId, state: State },
    #[error("the label of {0} cannot be changed on this token")]
    LabelFixed(ObjectId),
    /// The token answered, and its answer was no.
    #[error("the token refused: {0}")]
    Refused(String),
    /// It may work later without anybody changing anything.
    #[error("HSM unavailable: {0}")]
    Unavailable(String),
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Failure {
        let reason = match error {
            TokenError::NotFound(_) => ResultReason::ItemNotFound,
            TokenError::LoginRefused(_) | TokenError::NoToken(_) => {
                ResultReason::AuthenticationNotSuccessful
            }
            TokenError::Unsupported(_) => ResultReason::FeatureNotSupported,
            TokenError::WrongState { .. } | TokenError::LabelFixed(_) => {
                ResultReason::PermissionDenied
            }
            TokenError::Refused(_) => ResultReason::CryptographicFailure,
            // KMIP 1.x has no reason of its own for what passes.
            TokenError::Unavailable(_) => ResultReason::GeneralFailure,
        };
        Failure::new(reason, error.to_string())
    }
}

/// The vendor identification of a KMIP server in front of a PKCS#11 token. Blanks with which
/// PKCS#11 pads its texts are removed.
pub fn vendor_identification(version: &str, label: &str, slot: &str, library: &str) -> String {
    let (label, slot) = (label.trim_end(), slot.trim_end());
    format!(
        "kmip2pkcs11 {version} using PKCS#11 token with label {label} in slot {slot} via library \
         {library}"
    )
}

impl ObjectInfo {
    pub fn is_private(&self) -> bool {
        self.id.half == Half::Private
    }
}
