//! A client: one request, one answer, over the transport that was asked for and no other.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::problem::Problem;
use crate::route::Method;
use crate::second::{Asked, SecondRequest};
use crate::{API_HEADER, API_VERSION};

/// Largest answer that is kept whole; streams have no such bound.
pub const MAX_ANSWER: usize = 256 << 20;

/// Where the daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    Unix(PathBuf),
    Tcp { host: String, port: u16, tls: bool },
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{0}' is not a server address")]
pub struct BadServer(pub String);

impl Server {
    /// The accepted forms, for messages.
    pub const FORMS: &str = "unix:<path>, <IP>:<port>, [<IPv6>]:<port>, <host>:<port>, http://<host>:<port> or https://<host>:<port>";

    /// Parses the forms of `--server`. A bare address means plain HTTP on loopback, TLS elsewhere.
    pub fn parse(text: &str) -> Result<Server, BadServer> {
        let bad = || BadServer(text.to_string());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(bad())
            } else {
                Ok(Server::Unix(path.into()))
            };
        }
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(false), rest),
            Some(("https", rest)) => (Some(true), rest),
            Some(_) => return Err(bad()),
            None => (None, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
        let port: u16 = port.parse().map_err(|_| bad())?;
        let host = match host.strip_prefix('[') {
            Some(h) => h
                .strip_suffix(']')
                .filter(|h| h.parse::<IpAddr>().is_ok())
                .ok_or_else(bad)?,
            None if host.contains(':') => return Err(bad()),
            None => host,
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        if host.is_empty() || port == 0 || !host.chars().all(legal) {
            return Err(bad());
        }
        let tls = scheme.unwrap_or_else(|| !is_loopback(host));
        Ok(Server::Tcp {
            host: host.to_string(),
            port,
            tls,
        })
    }

    pub fn is_unix(&self) -> bool {
        matches!(self, Server::Unix(_))
    }

    fn authority(&self) -> String {
        match self {
            Server::Unix(_) => "localhost".to_string(),
            Server::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Server::Tcp { host, port, .. } => format!("{host}:{port}"),
        }
    }
}

/// As it would be written after `--server`.
impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Server::Unix(path) => write!(f, "unix:{}", path.display()),
            Server::Tcp { tls, .. } => {
                write!(
                    f,
                    "{}://{}",
                    if *tls { "https" } else { "http" },
                    self.authority()
                )
            }
        }
    }
}

/// True for addresses whose packets do not leave the machine.
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// PEM texts for TLS. `ca` is required; the others go together.
#[derive(Clone, Default)]
pub struct TlsFiles {
    pub ca: Vec<u8>,
    pub client_cert: Option<Vec<u8>>,
    pub client_key: Option<Vec<u8>>,
}

#[derive(Debug, Error)]
pub enum ClientError {
    #[error("cannot reach the daemon at {server}")]
    Unreachable { server: Server, source: io::Error },
    #[error("no answer from the daemon at {server} within {secs} s")]
    Timeout { server: Server, secs: u64 },
    #[error("the connection to the daemon at {server} broke: {reason}")]
    Broken { server: Server, reason: String },
    #[error("a token is not sent over plain HTTP to {server}")]
    TokenInClear { server: Server },
    #[error("TLS towards {server} cannot be set up: {reason}")]
    Tls { server: Server, reason: String },
    #[error("the daemon speaks version {daemon} of the control API, this program version {ours}")]
    ApiMajor { daemon: String, ours: &'static str },
    #[error("the answer of {server} is not understood: {reason}")]
    Nonsense { server: Server, reason: String },
    #[error("{0}")]
    Problem(Box<Problem>),
    /// Nothing was done yet.
    #[error("request {} waits for a second person", .0.id)]
    SecondPerson(Box<SecondRequest>),
    #[error("cannot write the answer")]
    Output(#[source] io::Error),
}

/// An answer of success.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

impl Answer {
    pub fn parse<T: DeserializeOwned>(&self, server: &Server) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|e| ClientError::Nonsense {
            server: server.clone(),
            reason: e.to_string(),
        })
    }
}

/// A request in the making; see [`Client::call`].
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    /// Path and query, percent-encoded.
    pub target: String,
    pub body: Option<Vec<u8>>,
    /// Answer statuses besides 2xx that are answers and not problems.
    pub also: &'static [u16],
}

impl Call {
    pub fn get(target: impl Into<String>) -> Self {
        Call {
            method: Method::Get,
            target: target.into(),
            body: None,
            also: &[],
        }
    }

    /// A changing call; the body is always JSON, `{}` if there is nothing to say.
    pub fn send<T: Serialize>(method: Method, target: impl Into<String>, body: &T) -> Self {
        // Our request types have string keys only, so they always serialize.
        let body = serde_json::to_vec(body).unwrap_or_else(|_| b"{}".to_vec());
        Call {
            method,
            target: target.into(),
            body: Some(body),
            also: &[],
        }
    }

    pub fn delete(target: impl Into<String>) -> Self {
        Call {
            method: Method::Delete,
            target: target.into(),
            body: None,
            also: &[],
        }
    }
}

/// Makes one connection per request.
#[derive(Clone)]
pub struct Client {
    server: Server,
    timeout: Duration,
    token: Option<String>,
    tls: TlsFiles,
}

impl Client {
    pub fn new(server: Server, timeout: Duration) -> Self {
        Client {
            server,
            timeout,
            token: None,
            tls: TlsFiles::default(),
        }
    }

    pub fn token(mut self, token: Option<String>) -> Self {
        self.token = token;
        self
    }

    pub fn tls(mut self, tls: TlsFiles) -> Self {
        self.tls = tls;
        self
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Sends a request and reads the whole answer within the timeout.
    ///
    /// # Errors
    /// Any status that is not success comes back as [`ClientError::Problem`]; a call that waits for a
    /// second person as [`ClientError::SecondPerson`].
    pub async fn call(&self, call: &Call) -> Result<Answer, ClientError> {
        let work = async {
            let response = self.open(call).await?;
            let status = response.status().as_u16();
            let body = self.collect(response.into_body()).await?;
            if status == 202
                && let Ok(Asked { request }) = serde_json::from_slice(&body)
            {
                return Err(ClientError::SecondPerson(Box::new(request)));
            }
            Ok(Answer { status, body })
        };
        self.bounded(work).await
    }

    /// Sends a request and hands the answer's body to `sink` as it comes; the timeout is for each
    /// piece.
    pub async fn stream(
        &self,
        call: &Call,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<u16, ClientError> {
        let response = self.bounded(self.open(call)).await?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        loop {
            let next = self.bounded(async { Ok(body.frame().await) }).await?;
            match next {
                None => return Ok(status),
                Some(Err(e)) => return Err(self.broken(&e)),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        sink(data).map_err(ClientError::Output)?;
                    }
                }
            }
        }
    }

    /// Up to the head of a successful answer.
    async fn open(&self, call: &Call) -> Result<hyper::Response<Incoming>, ClientError> {
        let response = match &self.server {
            Server::Unix(path) => {
                let io = UnixStream::connect(path)
                    .await
                    .map_err(|e| self.unreachable(e))?;
                self.exchange(io, call).await?
            }
            Server::Tcp { host, port, tls } => {
                if self.token.is_some() && !tls && !is_loopback(host) {
                    return Err(ClientError::TokenInClear {
                        server: self.server.clone(),
                    });
                }
                let io = TcpStream::connect((host.as_str(), *port))
                    .await
                    .map_err(|e| self.unreachable(e))?;
                // Requests are small and answered at once: do not wait for more to send.
                let _ = io.set_nodelay(true);
                if *tls {
                    let io = self.secure(host, io).await?;
                    self.exchange(io, call).await?
                } else {
                    self.exchange(io, call).await?
                }
            }
        };
        check_major(response.headers())?;
        let status = response.status();
        if status.is_success() || call.also.contains(&status.as_u16()) {
            return Ok(response);
        }
        let body = self.collect(response.into_body()).await?;
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => ClientError::Problem(Box::new(problem)),
            Err(_) => self.nonsense(format!("status {status} without a problem document")),
        })
    }

    async fn exchange<S>(
        &self,
        io: S,
        call: &Call,
    ) -> Result<hyper::Response<Incoming>, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
            .await
            .map_err(|e| self.broken(&e))?;
        // Ends by itself when the answer has been read or `sender` and the body are dropped.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let mut request = hyper::Request::builder()
            .method(call.method.as_str())
            .uri(&call.target)
            .header(header::HOST, self.server.authority())
            .header(
                header::USER_AGENT,
                concat!("cascade/", env!("CARGO_PKG_VERSION")),
            )
            .header(
                header::ACCEPT,
                "application/json, application/problem+json, */*;q=0.5",
            );
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if call.method.changes() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = Full::new(Bytes::from(call.body.clone().unwrap_or_default()));
        let request = request
            .body(body)
            .map_err(|e| self.nonsense(e.to_string()))?;
        sender
            .send_request(request)
            .await
            .map_err(|e| self.broken(&e))
    }

    async fn secure(
        &self,
        host: &str,
        io: TcpStream,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ClientError> {
        let fail = |reason: String| ClientError::Tls {
            server: self.server.clone(),
            reason,
        };
        let config = tls_config(&self.tls).map_err(fail)?;
        let name = rustls::pki_types::ServerName::try_from(host.to_string())
            .map_err(|e| fail(e.to_string()))?;
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, io)
            .await
            .map_err(|e| fail(e.to_string()))
    }

    async fn collect(&self, mut body: Incoming) -> Result<Bytes, ClientError> {
        let mut all = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| self.broken(&e))?;
            if let Some(data) = frame.data_ref() {
                if all.len() + data.len() > MAX_ANSWER {
                    return Err(self.nonsense("answer too large".to_string()));
                }
                all.extend_from_slice(data);
            }
        }
        Ok(all.freeze())
    }

    async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Timeout {
                server: self.server.clone(),
                secs: self.timeout.as_secs(),
            }),
        }
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        ClientError::Unreachable {
            server: self.server.clone(),
            source,
        }
    }

    fn broken(&self, error: &hyper::Error) -> ClientError {
        ClientError::Broken {
            server: self.server.clone(),
            reason: error.to_string(),
        }
    }

    fn nonsense(&self, reason: String) -> ClientError {
        ClientError::Nonsense {
            server: self.server.clone(),
            reason,
        }
    }
}

fn check_major(headers: &hyper::HeaderMap) -> Result<(), ClientError> {
    let Some(daemon) = headers.get(API_HEADER).and_then(|v| v.to_str().ok()) else {
        return Ok(());
    };
    let major = |v: &str| v.split('.').next().map(str::to_string);
    if major(daemon) == major(API_VERSION) {
        return Ok(());
    }
    Err(ClientError::ApiMajor {
        daemon: daemon.to_string(),
        ours: API_VERSION,
    })
}

fn tls_config(files: &TlsFiles) -> Result<rustls::ClientConfig, String> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certs = |pem: &[u8], what: &str| {
        CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| format!("{what}: {e}"))
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(certs(&files.ca, "CA certificates")?);
    if roots.is_empty() {
        return Err("no CA certificate found; give one with --ca-cert".to_string());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots);
    match (&files.client_cert, &files.client_key) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|e| format!("key of the client certificate: {e}"))?;
            builder
                .with_client_auth_cert(certs(cert, "client certificate")?, key)
                .map_err(|e| e.to_string())
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("127.0.0.1:4539", "http://127.0.0.1:4539"),
            ("[::1]:4539", "http://[::1]:4539"),
            ("localhost:4539", "http://localhost:4539"),
            ("192.0.2.1:4539", "https://192.0.2.1:4539"),
            ("[2001:db8::1]:1", "https://[2001:db8::1]:1"),
            ("host.example:4539", "https://host.example:4539"),
            ("http://192.0.2.1:80", "http://192.0.2.1:80"),
            ("https://localhost:443/", "https://localhost:443"),
        ] {
            let server = Server::parse(text).unwrap();
            assert_eq!(server.to_string(), shown);
            assert_eq!(
                Server::parse(&server.to_string()).unwrap(),
                server,
                "{text}"
            );
        }
        for text in [
            "",
            "unix:",
            "/run/x.sock",
            "127.0.0.1",
            "::1:80",
            "[::1]",
            "[x]:1",
            "a:0",
            "a:99999",
            "ftp://a:1",
            "a b:1",
            "a\r\nb:1",
        ] {
            assert_eq!(Server::parse(text), Err(BadServer(text.into())), "{text}");
        }
    }

    #[tokio::test]
    async fn tokens_stay_off_plain_http() {
        let server = Server::parse("http://192.0.2.1:80").unwrap();
        let client = Client::new(server, Duration::from_secs(1)).token(Some("cas_x".into()));
        let e = client.call(&Call::get("/v1/info")).await.unwrap_err();
        assert!(matches!(e, ClientError::TokenInClear { .. }), "{e}");
    }

    #[tokio::test]
    async fn absent_and_silent_daemons() {
        let dir = std::env::temp_dir().join(format!("cascade-api-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("s.sock");
        let client = Client::new(Server::Unix(path.clone()), Duration::from_millis(100));
        let e = client.call(&Call::get("/v1/info")).await.unwrap_err();
        assert!(matches!(e, ClientError::Unreachable { .. }), "{e}");
        let _silent = tokio::net::UnixListener::bind(&path).unwrap();
        let e = client.call(&Call::get("/v1/info")).await.unwrap_err();
        assert!(matches!(e, ClientError::Timeout { .. }), "{e}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
