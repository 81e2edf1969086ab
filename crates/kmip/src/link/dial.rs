//! From an address to a connection on which work can be sent: TCP, TLS, version, login, abilities.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::settings::{Endpoint, LinkSettings, Local, Trust};
use super::tls::{self, BadTls, show_digest};
use crate::client::{
    AnswerError, Broken, Client, ClientSettings, Missing, Vendor, ask, missing_operations,
};
use crate::enums::{BatchErrorContinuation, ResultReason};
use crate::message::Version;
use crate::payload::{RequestPayload, ResponsePayload};

/// What a server says of itself, and what was found out about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerInfo {
    /// Vendor identification.
    pub vendor: String,
    pub version: Version,
    pub limits: Vendor,
    pub missing: Missing,
    /// Mnemonics of DNSSEC algorithms, if the server says so.
    pub algorithms: Option<Vec<String>>,
    /// SHA-256 of its certificate and of the certificate's key; `None` without TLS.
    pub certificate: Option<[u8; 32]>,
    pub key: Option<[u8; 32]>,
}

/// Why there is no connection.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum DialError {
    #[error("the name '{name}' cannot be resolved: {why}")]
    Name { name: String, why: String },
    #[error("{endpoint}: {why}")]
    Connect { endpoint: Endpoint, why: String },
    #[error("{endpoint}: no answer to {phase} within {} s", .limit.as_secs_f64())]
    Timeout {
        endpoint: Endpoint,
        phase: &'static str,
        limit: Duration,
    },
    #[error("{endpoint}: TLS: {why}")]
    Tls { endpoint: Endpoint, why: String },
    #[error("{endpoint}: its certificate{} ({}) is not trusted: {why}", shown(.subject), show_digest(.fingerprint))]
    Untrusted {
        endpoint: Endpoint,
        subject: Option<String>,
        fingerprint: [u8; 32],
        why: String,
    },
    #[error("{endpoint}: its TLS key is {}, and it was {}; nothing was sent to it", show_digest(.found), show_digest(.known))]
    KeyChanged {
        endpoint: Endpoint,
        known: [u8; 32],
        found: [u8; 32],
    },
    #[error(transparent)]
    Settings(#[from] BadTls),
    #[error("{endpoint}: login refused: {why}")]
    Login { endpoint: Endpoint, why: String },
    #[error("{endpoint}: {why}")]
    Unavailable { endpoint: Endpoint, why: String },
    #[error("{endpoint}: {why}")]
    Protocol { endpoint: Endpoint, why: String },
    #[error("{endpoint} speaks KMIP up to {version}; signing needs 1.2")]
    TooOld {
        endpoint: Endpoint,
        version: Version,
    },
}

fn shown(subject: &Option<String>) -> String {
    subject
        .as_ref()
        .map_or(String::new(), |s| format!(" of '{s}'"))
}

/// Octets to and from the server, whatever is below.
pub(super) trait Octets: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Octets for T {}

pub(super) type Stream = Box<dyn Octets>;

/// A connection that is ready for work.
pub(super) struct Dialled {
    pub stream: Stream,
    pub client: Client,
    pub info: Arc<ServerInfo>,
}

/// Connects once, finds out what the server is, and goes away again.
///
/// # Errors
/// The first thing that stands in the way.
pub async fn probe(settings: &LinkSettings, endpoint: &Endpoint) -> Result<ServerInfo, DialError> {
    let dialled = dial(settings, endpoint, None).await?;
    Ok((*dialled.info).clone())
}

/// `known`: the key remembered from an earlier contact, for [`Trust::FirstSeen`].
pub(super) async fn dial(
    settings: &LinkSettings,
    endpoint: &Endpoint,
    known: Option<[u8; 32]>,
) -> Result<Dialled, DialError> {
    let mut settings = settings.clone();
    if let (Trust::FirstSeen(None), Some(key)) = (&settings.trust, known) {
        settings.trust = Trust::FirstSeen(Some(key));
    }
    let (mut stream, seen) = match &settings.local {
        Some(local) => (beside(local, endpoint)?, None),
        None => {
            let (stream, seen) = secure(&settings, endpoint).await?;
            (stream, Some(seen))
        }
    };
    let mut client = Client::new(ClientSettings {
        // The first version that can be asked which versions there are (KMIP 1.4 §4.26).
        version: Version::V1_1,
        credential: settings.credential.clone(),
        max_response: settings.max_response,
        max_in_flight: 1,
    });
    let limit = settings.timeouts.read;
    let version = negotiate(&mut client, &mut stream, endpoint, limit).await?;
    client.set_version(version);
    let query = ask(&mut client, &mut stream, endpoint, limit, ask::query()).await?;
    let query = match query.map_err(|e| refused(endpoint, e))? {
        ResponsePayload::Query(query) => query,
        _ => return Err(odd(endpoint, "Query")),
    };
    let vendor = query.vendor.clone().unwrap_or_default();
    let vendor = vendor.replace(char::is_control, "?");
    let limits = Vendor::of(&vendor);
    client.set_max_in_flight(settings.max_in_flight.unwrap_or(limits.max_in_flight));
    let info = Arc::new(ServerInfo {
        missing: missing_operations(&query),
        algorithms: query.signing_algorithms,
        limits,
        version,
        vendor,
        certificate: seen.as_ref().map(|s| s.certificate),
        key: seen.as_ref().map(|s| s.key),
    });
    Ok(Dialled {
        stream,
        client,
        info,
    })
}

fn beside(local: &Local, endpoint: &Endpoint) -> Result<Stream, DialError> {
    let connect = || -> io::Result<UnixStream> {
        let stream = local.connect()?;
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream)
    };
    match connect() {
        Ok(stream) => Ok(Box::new(stream)),
        Err(e) => Err(DialError::Connect {
            endpoint: endpoint.clone(),
            why: io_text(&e),
        }),
    }
}

async fn secure(
    settings: &LinkSettings,
    endpoint: &Endpoint,
) -> Result<(Stream, tls::Seen), DialError> {
    let limit = settings.timeouts.connect;
    let late = |phase| DialError::Timeout {
        endpoint: endpoint.clone(),
        phase,
        limit,
    };
    let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
    let tcp = timeout(limit, tcp).await.map_err(|_| late("connecting"))?;
    let tcp = tcp.map_err(|e| DialError::Connect {
        endpoint: endpoint.clone(),
        why: io_text(&e),
    })?;
    // Requests are written whole; waiting for more would only delay them.
    let _ = tcp.set_nodelay(true);
    let (config, seen) = tls::config(settings)?;
    let name = ServerName::try_from(endpoint.host.clone()).map_err(|e| DialError::Name {
        name: endpoint.host.clone(),
        why: e.to_string(),
    })?;
    let shake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let shaken = timeout(limit, shake)
        .await
        .map_err(|_| late("the TLS handshake"))?;
    let seen = seen.lock().ok().and_then(|s| s.clone());
    match (shaken, seen) {
        (Ok(stream), Some(seen)) => Ok((Box::new(stream), seen)),
        (Ok(_), None) => Err(DialError::Tls {
            endpoint: endpoint.clone(),
            why: "the server showed no certificate".into(),
        }),
        (Err(e), seen) => Err(handshake_error(settings, endpoint, &e, seen)),
    }
}

fn handshake_error(
    settings: &LinkSettings,
    endpoint: &Endpoint,
    error: &io::Error,
    seen: Option<tls::Seen>,
) -> DialError {
    let endpoint = endpoint.clone();
    let inner = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    match (inner, seen, &settings.trust) {
        (Some(rustls::Error::InvalidCertificate(_)), Some(seen), Trust::FirstSeen(Some(known)))
            if seen.changed =>
        {
            DialError::KeyChanged {
                endpoint,
                known: *known,
                found: seen.key,
            }
        }
        (Some(rustls::Error::InvalidCertificate(why)), Some(seen), trust) => DialError::Untrusted {
            endpoint,
            subject: seen.subject,
            fingerprint: seen.certificate,
            why: match trust {
                Trust::Certificate(_) => "it is not the one that is registered".into(),
                _ => why.to_string(),
            },
        },
        _ => DialError::Tls {
            endpoint,
            why: io_text(error),
        },
    }
}

async fn negotiate(
    client: &mut Client,
    stream: &mut Stream,
    endpoint: &Endpoint,
    limit: Duration,
) -> Result<Version, DialError> {
    let answer = ask(client, stream, endpoint, limit, ask::discover_versions()).await?;
    let versions = match answer {
        Ok(ResponsePayload::DiscoverVersions(versions)) => versions,
        Ok(_) => return Err(odd(endpoint, "Discover Versions")),
        // Servers of 1.0 do not know the question.
        Err(AnswerError::Refused { failure, .. })
            if failure.reason == ResultReason::OperationNotSupported =>
        {
            vec![Version::V1_0]
        }
        Err(e) => return Err(refused(endpoint, e)),
    };
    match Version::best(&Version::SPOKEN, &versions) {
        Some(version) if version >= Version::V1_2 => Ok(version),
        found => Err(DialError::TooOld {
            endpoint: endpoint.clone(),
            version: found.unwrap_or(Version::V1_0),
        }),
    }
}

/// One question and its answer, on a connection that does nothing else yet.
async fn ask(
    client: &mut Client,
    stream: &mut Stream,
    endpoint: &Endpoint,
    limit: Duration,
    question: RequestPayload,
) -> Result<Result<ResponsePayload, AnswerError>, DialError> {
    let protocol = |why: String| DialError::Protocol {
        endpoint: endpoint.clone(),
        why,
    };
    let operation = question.operation();
    client
        .send(vec![question], BatchErrorContinuation::Stop)
        .map_err(|e| protocol(e.to_string()))?;
    let exchange = async {
        let io = |e: io::Error| Broken::Transport(io_text(&e));
        while let Some(octets) = client.take_output() {
            stream.write_all(&octets).await.map_err(io)?;
        }
        stream.flush().await.map_err(io)?;
        let mut buffer = [0; 4096];
        loop {
            if let Some(completion) = client.next_completion() {
                return Ok(completion.results.into_iter().next());
            }
            match stream.read(&mut buffer).await.map_err(io)? {
                0 => return Err(Broken::Closed),
                n => client.receive(buffer.get(..n).unwrap_or_default())?,
            }
        }
    };
    let answered = timeout(limit, exchange)
        .await
        .map_err(|_| DialError::Timeout {
            endpoint: endpoint.clone(),
            phase: "the first question",
            limit,
        })?;
    match answered {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(odd(endpoint, "the first question")),
        Err(broken) => Err(protocol(format!("{operation}: {broken}"))),
    }
}

fn odd(endpoint: &Endpoint, question: &str) -> DialError {
    DialError::Protocol {
        endpoint: endpoint.clone(),
        why: format!("its answer to {question} is not an answer to that"),
    }
}

fn refused(endpoint: &Endpoint, error: AnswerError) -> DialError {
    let endpoint = endpoint.clone();
    match error {
        AnswerError::Refused { failure, .. } => match failure.reason {
            ResultReason::AuthenticationNotSuccessful
            | ResultReason::PermissionDenied
            | ResultReason::BadPassword => DialError::Login {
                endpoint,
                why: failure.message,
            },
            reason if reason.is_temporary() => DialError::Unavailable {
                endpoint,
                why: failure.message,
            },
            _ => DialError::Protocol {
                endpoint,
                why: failure.to_string(),
            },
        },
        other => DialError::Protocol {
            endpoint,
            why: other.to_string(),
        },
    }
}

/// The error in words, without "os error".
pub(super) fn io_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset => "the server reset the connection".into(),
        io::ErrorKind::UnexpectedEof => "the server closed the connection".into(),
        io::ErrorKind::HostUnreachable => "no route to the host".into(),
        io::ErrorKind::NetworkUnreachable => "the network is unreachable".into(),
        io::ErrorKind::TimedOut => "no answer".into(),
        _ => error.to_string(),
    }
}
