//! What a pool is told.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::message::Credential;

/// One instance of a server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Endpoint {
    /// Address or name.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host.contains(':'), self.port) {
            // Not an address: see `Local`.
            (_, 0) => f.write_str(&self.host),
            (true, port) => write!(f, "[{}]:{port}", self.host),
            (false, port) => write!(f, "{}:{port}", self.host),
        }
    }
}

/// Whom to believe that they are the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trust {
    /// A chain to one of these authorities (PEM), or to one of the system's, and the right name.
    Authorities(Option<String>),
    /// The certificate with this SHA-256 and no other.
    Certificate([u8; 32]),
    /// Whoever answers first; from then on only holders of the same key, whose SHA-256 this is.
    FirstSeen(Option<[u8; 32]>),
}

/// Our own certificate and its key, in PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: Zeroizing<String>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

/// A way to a server on this host that needs neither address nor TLS: each call gives a new
/// connection, or the reason why there is none. It must not block.
#[derive(Clone)]
pub struct Local(Arc<dyn Fn() -> io::Result<UnixStream> + Send + Sync>);

impl Local {
    pub fn new(connect: impl Fn() -> io::Result<UnixStream> + Send + Sync + 'static) -> Local {
        Local(Arc::new(connect))
    }

    pub(super) fn connect(&self) -> io::Result<UnixStream> {
        (self.0)()
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Local(..)")
    }
}

/// How long each phase may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// Each of: TCP, TLS.
    pub connect: Duration,
    /// From one octet of an answer that is waited for to the next.
    pub read: Duration,
    pub write: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(3),
            read: Duration::from_secs(30),
            write: Duration::from_secs(3),
        }
    }
}

#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// Instances that hold the same keys; at least one.
    pub endpoints: Vec<Endpoint>,
    /// Taken instead of addresses and TLS; the one endpoint is a name for people then.
    pub local: Option<Local>,
    pub trust: Trust,
    pub identity: Option<Identity>,
    pub credential: Option<Credential>,
    pub timeouts: Timeouts,
    /// Octets of the largest response that is taken.
    pub max_response: usize,
    /// Connections to each instance.
    pub connections: usize,
    /// Requests in flight on one connection; `None`: what the server is known to bear.
    pub max_in_flight: Option<usize>,
}

impl LinkSettings {
    pub fn new(host: &str, port: u16) -> LinkSettings {
        LinkSettings {
            endpoints: vec![Endpoint {
                host: host.to_string(),
                port,
            }],
            local: None,
            trust: Trust::Authorities(None),
            identity: None,
            credential: None,
            timeouts: Timeouts::default(),
            max_response: 8192,
            connections: 4,
            max_in_flight: None,
        }
    }
}
