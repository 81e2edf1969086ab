//! Payloads of the operations (KMIP 1.4 §4), requests and responses.

use crate::attribute::{Attribute, CryptographicParameters};
use crate::enums::{
    KeyCompressionType, KeyFormatType, ObjectType, Operation, QueryFunction, RevocationReasonCode,
    ValidityIndicator,
};
use crate::failure::Failure;
use crate::key_block::KeyBlock;
use crate::mechanism::SignInput;
use crate::message::Version;

mod request;
mod response;

/// What one batch item asks for. `id: None` means the object that the batch item before it made
/// or used (the ID Placeholder, §4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestPayload {
    /// §4.26. Empty: which versions are there?
    DiscoverVersions(Vec<Version>),
    Query(Vec<QueryFunction>),
    CreateKeyPair(CreateKeyPair),
    Locate(Locate),
    Get(Get),
    GetAttributes {
        id: Option<String>,
        /// Empty: all.
        names: Vec<String>,
    },
    ModifyAttribute {
        id: Option<String>,
        attribute: Attribute,
    },
    Activate {
        id: Option<String>,
    },
    Revoke(Revoke),
    Destroy {
        id: Option<String>,
    },
    Sign(Sign),
    SignatureVerify(SignatureVerify),
}

/// §4.2.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CreateKeyPair {
    /// Attributes of both halves.
    pub common: Vec<Attribute>,
    pub private: Vec<Attribute>,
    pub public: Vec<Attribute>,
}

/// §4.9.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Locate {
    pub maximum_items: Option<i32>,
    pub offset_items: Option<i32>,
    pub storage_status: Option<i32>,
    pub attributes: Vec<Attribute>,
}

/// §4.11. Key wrapping is refused while reading.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Get {
    pub id: Option<String>,
    pub format: Option<KeyFormatType>,
    pub compression: Option<KeyCompressionType>,
}

/// §4.20.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revoke {
    pub id: Option<String>,
    pub reason: RevocationReasonCode,
    pub message: Option<String>,
    pub compromised: Option<i64>,
}

/// §4.31. Signing in several parts is refused while reading.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sign {
    pub id: Option<String>,
    pub parameters: Option<CryptographicParameters>,
    pub input: SignInput,
}

/// §4.32.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignatureVerify {
    pub id: Option<String>,
    pub parameters: Option<CryptographicParameters>,
    pub input: SignInput,
    pub signature: Vec<u8>,
}

/// What one batch item that succeeded answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ResponsePayload {
    DiscoverVersions(Vec<Version>),
    Query(QueryResponse),
    CreateKeyPair {
        private: String,
        public: String,
    },
    Locate {
        /// How many match, `maximum_items` apart; since KMIP 1.3.
        located: Option<i32>,
        ids: Vec<String>,
    },
    Get {
        object_type: ObjectType,
        id: String,
        key: KeyBlock,
    },
    GetAttributes {
        id: String,
        attributes: Vec<Attribute>,
    },
    ModifyAttribute {
        id: String,
        attribute: Attribute,
    },
    Activate {
        id: String,
    },
    Revoke {
        id: String,
    },
    Destroy {
        id: String,
    },
    Sign {
        id: String,
        signature: Vec<u8>,
    },
    SignatureVerify {
        id: String,
        validity: ValidityIndicator,
    },
}

/// §4.25.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QueryResponse {
    pub operations: Vec<Operation>,
    pub objects: Vec<ObjectType>,
    pub vendor: Option<String>,
    /// Algorithms that the server can make keys for and sign with; an extension of ours in Server
    /// Information. `None` from other servers.
    pub signing_algorithms: Option<Vec<String>>,
}

impl RequestPayload {
    pub fn operation(&self) -> Operation {
        match self {
            RequestPayload::DiscoverVersions(_) => Operation::DiscoverVersions,
            RequestPayload::Query(_) => Operation::Query,
            RequestPayload::CreateKeyPair(_) => Operation::CreateKeyPair,
            RequestPayload::Locate(_) => Operation::Locate,
            RequestPayload::Get(_) => Operation::Get,
            RequestPayload::GetAttributes { .. } => Operation::GetAttributes,
            RequestPayload::ModifyAttribute { .. } => Operation::ModifyAttribute,
            RequestPayload::Activate { .. } => Operation::Activate,
            RequestPayload::Revoke(_) => Operation::Revoke,
            RequestPayload::Destroy { .. } => Operation::Destroy,
            RequestPayload::Sign(_) => Operation::Sign,
            RequestPayload::SignatureVerify(_) => Operation::SignatureVerify,
        }
    }

    /// True if doing it twice leaves and answers the same as doing it once, on a server that takes
    /// the activation of an active and the destruction of a destroyed object for success. A new
    /// key pair is another each time.
    pub fn may_be_repeated(&self) -> bool {
        !matches!(self, RequestPayload::CreateKeyPair(_))
    }

    /// The object's identifier, if the operation works on one and it is stated.
    pub fn id(&self) -> Option<&str> {
        self.subject().flatten()
    }

    /// True if the operation works on the object of the batch item before it.
    pub fn uses_placeholder(&self) -> bool {
        self.subject() == Some(None)
    }

    /// `None` if the operation does not work on one object.
    fn subject(&self) -> Option<Option<&str>> {
        match self {
            RequestPayload::Get(Get { id, .. })
            | RequestPayload::GetAttributes { id, .. }
            | RequestPayload::ModifyAttribute { id, .. }
            | RequestPayload::Activate { id }
            | RequestPayload::Revoke(Revoke { id, .. })
            | RequestPayload::Destroy { id }
            | RequestPayload::Sign(Sign { id, .. })
            | RequestPayload::SignatureVerify(SignatureVerify { id, .. }) => Some(id.as_deref()),
            RequestPayload::DiscoverVersions(_)
            | RequestPayload::Query(_)
            | RequestPayload::CreateKeyPair(_)
            | RequestPayload::Locate(_) => None,
        }
    }
}

/// What stands between reading a payload and its operation: its octets are wrong, or they ask for
/// something that is not done here.
pub(crate) enum PayloadError {
    Malformed(crate::ttlv::TtlvError),
    Refused(Failure),
}

impl From<crate::ttlv::TtlvError> for PayloadError {
    fn from(error: crate::ttlv::TtlvError) -> PayloadError {
        PayloadError::Malformed(error)
    }
}

impl From<Failure> for PayloadError {
    fn from(failure: Failure) -> PayloadError {
        PayloadError::Refused(failure)
    }
}
