//! Messages: headers and batch items around payloads (KMIP 1.4 §6, §7).

use std::fmt;

use zeroize::Zeroizing;

use crate::enums::{BatchErrorContinuation, CredentialType};
use crate::tags;
use crate::ttlv::{Fields, TtlvError, Writer};

mod request;
mod response;

pub use request::{
    ItemFailure, MessageFailure, RequestItem, RequestMessage, encode_request, read_request,
};
pub use response::{ResponseItem, ResponseMessage, encode_response, read_response};

/// Most batch items of a request.
pub const MAX_BATCH: usize = 256;

/// Most octets of a Unique Batch Item ID, which is echoed.
pub const MAX_BATCH_ID: usize = 64;

/// A version of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version {
    pub major: i32,
    pub minor: i32,
}

impl Version {
    pub const V1_0: Version = Version { major: 1, minor: 0 };
    pub const V1_1: Version = Version { major: 1, minor: 1 };
    pub const V1_2: Version = Version { major: 1, minor: 2 };
    pub const V1_3: Version = Version { major: 1, minor: 3 };
    pub const V1_4: Version = Version { major: 1, minor: 4 };

    /// All that are spoken here, best first, as Discover Versions wants them.
    pub const SPOKEN: [Version; 5] = [
        Version::V1_4,
        Version::V1_3,
        Version::V1_2,
        Version::V1_1,
        Version::V1_0,
    ];

    pub fn is_spoken(self) -> bool {
        Version::SPOKEN.contains(&self)
    }

    /// The best version in both lists; `ours` is in order of preference.
    pub fn best(ours: &[Version], theirs: &[Version]) -> Option<Version> {
        ours.iter().copied().find(|v| theirs.contains(v))
    }

    pub(crate) fn read_all(f: &mut Fields<'_>) -> Result<Vec<Version>, TtlvError> {
        let mut all = Vec::new();
        while let Some(version) = f.opt_fields(tags::PROTOCOL_VERSION)? {
            all.push(Version::read(version)?);
        }
        Ok(all)
    }

    fn read(mut f: Fields<'_>) -> Result<Version, TtlvError> {
        let major = f.req(tags::PROTOCOL_VERSION_MAJOR)?.integer()?;
        let minor = f.req(tags::PROTOCOL_VERSION_MINOR)?.integer()?;
        f.finish()?;
        Ok(Version { major, minor })
    }

    pub(crate) fn write(self, w: &mut Writer) {
        w.structure(tags::PROTOCOL_VERSION, |w| {
            w.integer(tags::PROTOCOL_VERSION_MAJOR, self.major);
            w.integer(tags::PROTOCOL_VERSION_MINOR, self.minor);
        });
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Who asks (§2.1.2). The password is wiped when dropped, never printed, and cannot be compared with
/// `==`, which takes a time that depends on it.
#[derive(Clone)]
pub struct Credential {
    pub username: String,
    pub password: Option<Zeroizing<String>>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Credential {
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Credential {
        Credential {
            username: username.into(),
            password: Some(Zeroizing::new(password.into())),
        }
    }

    /// The first username and password of an Authentication structure (§6.6); other types of
    /// credential are left aside, as the connection's certificate may be enough.
    fn read_authentication(mut f: Fields<'_>) -> Result<Option<Credential>, TtlvError> {
        let mut found = None;
        while let Some(mut credential) = f.opt_fields(tags::CREDENTIAL)? {
            let kind: CredentialType = credential.req(tags::CREDENTIAL_TYPE)?.enumeration()?;
            let value = credential.req(tags::CREDENTIAL_VALUE)?;
            credential.finish()?;
            if kind != CredentialType::UsernameAndPassword || found.is_some() {
                continue;
            }
            let mut value = value.fields()?;
            let username = value.req(tags::USERNAME)?.text()?.to_owned();
            let password = value.opt_text(tags::PASSWORD)?;
            value.finish()?;
            found = Some(Credential {
                username,
                password: password.map(|p| Zeroizing::new(p.to_owned())),
            });
        }
        f.finish()?;
        Ok(found)
    }

    fn write(&self, w: &mut Writer) {
        w.structure(tags::AUTHENTICATION, |w| {
            w.structure(tags::CREDENTIAL, |w| {
                w.enumeration(tags::CREDENTIAL_TYPE, CredentialType::UsernameAndPassword);
                w.structure(tags::CREDENTIAL_VALUE, |w| {
                    w.text(tags::USERNAME, &self.username);
                    let password = self.password.as_ref();
                    w.opt_text(tags::PASSWORD, password.map(|p| p.as_str()));
                });
            });
        });
    }
}

/// §7.2, the fields that matter here.
#[derive(Clone, Debug)]
pub struct RequestHeader {
    pub version: Version,
    /// Most octets of the response that the client takes.
    pub max_response: Option<i32>,
    pub credential: Option<Credential>,
    /// What to do after an item has failed. Stop if not stated.
    pub on_error: Option<BatchErrorContinuation>,
    /// True: items are processed in their order.
    pub in_order: Option<bool>,
}

impl RequestHeader {
    pub fn new(version: Version) -> RequestHeader {
        RequestHeader {
            version,
            max_response: None,
            credential: None,
            on_error: None,
            in_order: None,
        }
    }

    /// True if processing ends with the first item that fails (§6.14).
    pub fn stops_on_error(&self) -> bool {
        !matches!(self.on_error, Some(BatchErrorContinuation::Continue))
    }
}
