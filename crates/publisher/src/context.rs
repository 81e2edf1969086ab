//! What an answer depends on beside the question.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cascade_time::Timestamp;
use cascade_wire::cookie::Secrets;
use cascade_wire::{Acl, TsigKeys};

use crate::directory::{Directory, Role};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

/// Configuration of one role; immutable, replaced as a whole.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who may ask; on the review servers also who may transfer.
    pub allow: Acl,
    /// Senders of NOTIFY for any zone, beside those of the zone.
    pub notify_allow: Acl,
    pub keys: Arc<TsigKeys>,
    /// Answered to NSID (RFC 5001), `id.server` and `hostname.bind`.
    pub nsid: Option<Vec<u8>>,
    /// Answered to `version.bind` when `nsid` is set.
    pub version_text: String,
    /// `None`: cookies are neither made nor checked.
    pub cookies: Option<Secrets>,
    /// Told to clients that ask for it (RFC 7828).
    pub tcp_idle: Duration,
}

impl Settings {
    /// Defaults: `allow` from anywhere, no keys, no name of the server.
    pub fn open() -> Self {
        Settings {
            allow: Acl::any(),
            notify_allow: Acl::none(),
            keys: Arc::new(TsigKeys::default()),
            nsid: None,
            version_text: "Cascade".into(),
            cookies: None,
            tcp_idle: Duration::from_secs(30),
        }
    }
}

/// Everything that an answer depends on beside the message.
#[derive(Debug, Clone, Copy)]
pub struct QueryContext<'a> {
    pub role: Role,
    pub peer: IpAddr,
    pub transport: Transport,
    pub now: Timestamp,
    pub directory: &'a Directory,
    pub settings: &'a Settings,
    /// A name of the verified client certificate.
    pub tls_name: Option<&'a str>,
    /// The rate limit is in force for this address: only valid cookies are served in full.
    pub limited: bool,
}
