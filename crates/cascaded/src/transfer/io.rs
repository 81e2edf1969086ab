//! Asking a primary: one datagram, one message over TCP, one stream of messages.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cascade_loader::Progress;
use cascade_loader::xfr::{Probe, ProbeAnswer, Query, Reader, Received, Step, XfrError};
use cascade_time::Clock;
use cascade_wire::frame::Frames;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Primary, Tls};
use crate::xot::{self, Auth};

/// Pauses of a SOA question over UDP: so many tries.
const TRIES: [Duration; 3] = [
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
const CONNECT: Duration = Duration::from_secs(5);
/// A connection that is silent for so long is dead.
const IDLE: Duration = Duration::from_secs(30);
/// After an SOA alone, until it is taken as the whole answer.
const PERHAPS: Duration = Duration::from_secs(3);
/// Longest transfer.
const WHOLE: Duration = Duration::from_secs(3600);
/// Octets that must come in each window: a peer that drips is not waited for.
const LEAST_OCTETS: u64 = 60 * 1024;
const WINDOW: Duration = Duration::from_secs(60);
/// Octets asked of the socket at a time.
const READ: usize = 128 * 1024;

/// Why there was no answer, or none that is taken.
#[derive(Debug, Error)]
pub enum AskError {
    #[error("no answer within {0} s")]
    Silent(u64),
    #[error("no connection within {} s", CONNECT.as_secs())]
    NoConnection,
    #[error("TLS: {0}")]
    Tls(String),
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("the server closed the connection: {0}")]
    Closed(XfrError),
    #[error("nothing was sent for {secs} s: {error}")]
    Idle { secs: u64, error: XfrError },
    #[error("less than 1 KiB a second for {} s", WINDOW.as_secs())]
    Slow,
    #[error("not complete within one hour")]
    TooLong,
    #[error("{0}")]
    Answer(#[from] XfrError),
}

impl AskError {
    /// Another form of the question may be understood.
    pub fn is_edns_refusal(&self) -> bool {
        matches!(self, AskError::Answer(e) if e.is_edns_refusal())
    }
}

/// Asks for the SOA with a datagram; `None` when the answer did not fit one. `tries`: at most 3.
pub async fn probe_udp(
    addr: SocketAddr,
    query: &Query,
    tries: usize,
    clock: &dyn Clock,
) -> Result<Option<Probe>, AskError> {
    let any: SocketAddr = match addr {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // A port of its own for each question, chosen by the kernel; only the peer's datagrams arrive.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(addr).await?;
    let mut last = None;
    let mut waited = 0;
    for pause in TRIES.into_iter().take(tries) {
        waited += pause.as_secs();
        let asked = timeout(pause, ask_once(&socket, query, clock, &mut last)).await;
        match asked {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(e)) if e.is_edns_refusal() => return Err(e),
            Ok(Err(e)) => {
                // Nobody listens there now; a server that restarts is back soon.
                last = Some(e);
                tokio::time::sleep(pause / 4).await;
            }
            Err(_) => {}
        }
    }
    Err(last.unwrap_or(AskError::Silent(waited)))
}

/// One datagram, and answers to it until one is ours. An answer that is not believed may be a
/// forgery: it is noted in `last`, and the true one awaited.
async fn ask_once(
    socket: &UdpSocket,
    query: &Query,
    clock: &dyn Clock,
    last: &mut Option<AskError>,
) -> Result<Option<Probe>, AskError> {
    socket.send(&query.octets).await?;
    let mut buf = vec![0u8; 4096];
    loop {
        let n = socket.recv(&mut buf).await?;
        let msg = buf.get(..n).unwrap_or_default();
        match query.probe(msg, clock.now()) {
            Ok(ProbeAnswer::Soa(probe)) => return Ok(Some(probe)),
            Ok(ProbeAnswer::Truncated) => return Ok(None),
            Err(XfrError::WrongId) => {}
            Err(e) if e.is_edns_refusal() => return Err(e.into()),
            Err(e) => *last = Some(e.into()),
        }
    }
}

/// Asks for the SOA over TCP, or over TLS where the primary is asked so.
pub async fn probe_stream(
    p: &Primary,
    query: &Query,
    clock: &dyn Clock,
) -> Result<Probe, AskError> {
    let mut stream = connect(p).await?;
    send(stream.as_mut(), &query.octets).await?;
    let mut frames = Frames::new(usize::from(u16::MAX));
    loop {
        if let Ok(Some(msg)) = frames.next_message() {
            return match query.probe(msg, clock.now())? {
                ProbeAnswer::Soa(probe) => Ok(probe),
                ProbeAnswer::Truncated => Err(XfrError::Truncated.into()),
            };
        }
        let read = stream.read_buf(frames.space());
        let read = timeout(IDLE, read)
            .await
            .map_err(|_| AskError::Silent(IDLE.as_secs()))??;
        if read == 0 {
            return Err(AskError::Closed(XfrError::Cut { records: 0 }));
        }
    }
}

/// One transfer over a connection of its own.
pub async fn transfer(
    p: &Primary,
    query: &Query,
    mut reader: Reader,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<Received, AskError> {
    let mut stream = connect(p).await?;
    send(stream.as_mut(), &query.octets).await?;
    let mut frames = Frames::new(usize::from(u16::MAX));
    let started = clock.monotonic();
    let (mut window, mut window_octets) = (started, 0u64);
    let mut patience = IDLE;
    loop {
        while let Ok(Some(msg)) = frames.next_message() {
            let step = reader.message(msg, clock.now())?;
            let tally = reader.tally();
            progress.octets.store(tally.octets, Ordering::Relaxed);
            progress.records.store(tally.records, Ordering::Relaxed);
            patience = match step {
                Step::Done => return Ok(reader.finish()?),
                Step::Perhaps => PERHAPS,
                Step::More => IDLE,
            };
        }
        let space = frames.space();
        space.reserve(READ);
        let read = match timeout(patience, stream.read_buf(space)).await {
            Ok(n) => n?,
            Err(_) => {
                let secs = patience.as_secs();
                let idle = |error| AskError::Idle { secs, error };
                return reader.finish().map_err(idle);
            }
        };
        if read == 0 {
            return reader.finish().map_err(AskError::Closed);
        }
        let now = clock.monotonic();
        window_octets += read as u64;
        if now.saturating_sub(window) >= WINDOW {
            if window_octets < LEAST_OCTETS {
                return Err(AskError::Slow);
            }
            (window, window_octets) = (now, 0);
        }
        if now.saturating_sub(started) >= WHOLE {
            return Err(AskError::TooLong);
        }
    }
}

/// TCP, or TLS over it.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn connect(p: &Primary) -> Result<Box<dyn Stream>, AskError> {
    let stream = timeout(CONNECT, TcpStream::connect(p.addr))
        .await
        .map_err(|_| AskError::NoConnection)??;
    stream.set_nodelay(true)?;
    match &p.tls {
        None => Ok(Box::new(stream)),
        Some(tls) => Ok(Box::new(secure(stream, p.addr, tls).await?)),
    }
}

/// RFC 9103 §7: TLS 1.3, the token `dot`, and a server that is who it shall be. There is no other
/// way to a primary that is asked over TLS.
async fn secure(
    stream: TcpStream,
    addr: SocketAddr,
    tls: &Tls,
) -> Result<TlsStream<TcpStream>, AskError> {
    let (auth, ca) = (tls.auth.clone(), tls.ca.clone());
    let made = tokio::task::spawn_blocking(move || xot::client(&auth, ca.as_deref())).await;
    let (config, refusal) = made
        .map_err(|e| AskError::Tls(e.to_string()))?
        .map_err(AskError::Tls)?;
    let name = match &tls.auth {
        Auth::Name(name) => {
            ServerName::try_from(name.clone()).map_err(|e| AskError::Tls(e.to_string()))?
        }
        Auth::Pin(_) | Auth::Any => ServerName::from(addr.ip()),
    };
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = timeout(CONNECT, handshake).await.map_err(|_| {
        AskError::Tls(format!(
            "the handshake took longer than {} s",
            CONNECT.as_secs()
        ))
    })?;
    let stream = stream.map_err(|e| {
        let why = refusal.take();
        AskError::Tls(why.unwrap_or_else(|| format!("the handshake failed: {e}")))
    })?;
    if stream.get_ref().1.alpn_protocol() != Some(xot::ALPN) {
        let text = "the server does not select the protocol 'dot' (ALPN, RFC 9103 §7.1)";
        return Err(AskError::Tls(text.into()));
    }
    Ok(stream)
}

async fn send(stream: &mut dyn Stream, msg: &[u8]) -> Result<(), AskError> {
    let len = u16::try_from(msg.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // In one write: some servers do not like a length alone (RFC 7766 §8).
    let mut out = len.to_be_bytes().to_vec();
    out.extend_from_slice(msg);
    let sent = async {
        stream.write_all(&out).await?;
        stream.flush().await
    };
    match timeout(IDLE, sent).await {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(AskError::Silent(IDLE.as_secs())),
    }
}
