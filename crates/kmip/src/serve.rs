//! The server's shell: connections, TLS and timeouts around [`server`](crate::server).
//!
//! Each connection is a task of its own, from before its TLS handshake to its end, and has one
//! request at a time with the token; the token is asked on a thread that may block. So a client
//! that says nothing, or half of something, delays nobody but itself. Everything is bounded:
//! connections, the size of a request, and the time for a handshake, for a request to arrive, for a
//! response to be taken and between requests. Give the runtime at least as many blocking threads as
//! there may be connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::enums::Operation;
use crate::server::{Exchange, Performed, Server, ServerLimits};
use crate::token::{TokenError, Tokens};
use crate::ttlv::FrameError;

mod connection;
mod door;

pub use door::{Door, listen};

/// What bounds connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    pub max_connections: usize,
    /// From the acceptance of a connection to the end of its TLS handshake.
    pub handshake: Duration,
    /// Between requests.
    pub idle: Duration,
    /// From the first octet of a request to its last, and for the client to take a response.
    pub transfer: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            max_connections: 256,
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(600),
            transfer: Duration::from_secs(30),
        }
    }
}

/// Answers requests on connections. Shared by all of them.
pub struct Service {
    server: Server,
    tokens: Arc<dyn Tokens>,
    bounds: Bounds,
    /// Seconds since 1970.
    now: Box<dyn Fn() -> i64 + Send + Sync>,
    stats: Stats,
}

/// What was done, since the start.
#[derive(Debug, Default)]
pub struct Stats {
    /// Open now.
    pub connections: AtomicU64,
    pub accepted: AtomicU64,
    /// Closed before their first request could be answered: too many, not admitted, no TLS.
    pub refused: AtomicU64,
    pub requests: AtomicU64,
    /// Requests that are no KMIP, or exceed the limits.
    pub malformed: AtomicU64,
    pub signatures: AtomicU64,
    pub operations: AtomicU64,
    pub failed_operations: AtomicU64,
}

/// Why a connection ended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum End {
    #[error("closed by the client")]
    Closed,
    #[error("closed, as the server stops")]
    Stopping,
    #[error("closed after {} s without a request", .0.as_secs())]
    Idle(Duration),
    #[error("closed: a request did not arrive within {} s", .0.as_secs())]
    SlowRequest(Duration),
    #[error("closed: a response was not taken within {} s", .0.as_secs())]
    SlowResponse(Duration),
    #[error("closed: {0}")]
    Frame(FrameError),
    #[error("lost: {0}")]
    Lost(std::io::ErrorKind),
    #[error("refused: {0} connections are open, and no more are allowed")]
    Full(usize),
    #[error("refused: {0}")]
    NotAdmitted(String),
    #[error("refused: no TLS handshake within {} s", .0.as_secs())]
    SlowHandshake(Duration),
    #[error("refused: TLS: {0}")]
    Handshake(String),
}

impl End {
    /// True for what happens in the ordinary life of clients and servers.
    pub fn is_ordinary(&self) -> bool {
        matches!(self, End::Closed | End::Stopping | End::Idle(_))
    }

    fn is_refusal(&self) -> bool {
        matches!(
            self,
            End::Full(_) | End::NotAdmitted(_) | End::SlowHandshake(_) | End::Handshake(_)
        )
    }
}

impl Service {
    /// `now` gives seconds since 1970.
    pub fn new(
        limits: ServerLimits,
        bounds: Bounds,
        tokens: Arc<dyn Tokens>,
        now: impl Fn() -> i64 + Send + Sync + 'static,
    ) -> Service {
        Service {
            server: Server::new(limits),
            tokens,
            bounds,
            now: Box::new(now),
            stats: Stats::default(),
        }
    }

    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Serves one connection until it ends, or until `stop` is true: then the running request is
    /// still answered.
    pub async fn serve<S>(&self, stream: S, stop: watch::Receiver<bool>) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.stats.connections.fetch_add(1, Ordering::Relaxed);
        let end = connection::run(self, stream, stop).await;
        self.stats.connections.fetch_sub(1, Ordering::Relaxed);
        end
    }

    /// The response to one request.
    async fn respond(&self, request: &[u8]) -> Vec<u8> {
        let now = (self.now)();
        self.stats.requests.fetch_add(1, Ordering::Relaxed);
        let exchange = match self.server.accept(request, now) {
            Ok(exchange) => exchange,
            Err(response) => {
                self.stats.malformed.fetch_add(1, Ordering::Relaxed);
                return response;
            }
        };
        if !exchange.needs_token() {
            let results = exchange.perform_all(None);
            self.count(&exchange, &results);
            return exchange.answer(results, now);
        }
        let exchange = Arc::new(exchange);
        let (tokens, asked) = (self.tokens.clone(), exchange.clone());
        let done = tokio::task::spawn_blocking(move || with_token(&asked, &*tokens)).await;
        match done {
            Ok(Ok(results)) => {
                self.count(&exchange, &results);
                exchange.answer(results, now)
            }
            Ok(Err(error)) => self.refuse(&exchange, error, now),
            // A bug of ours, or of what is behind the token: this request fails and no other.
            Err(_) => {
                let error = "the server failed while it asked the token; its log says more";
                self.refuse(&exchange, TokenError::Refused(error.into()), now)
            }
        }
    }

    fn refuse(&self, exchange: &Exchange, error: TokenError, now: i64) -> Vec<u8> {
        let all = exchange.len() as u64;
        self.stats.operations.fetch_add(all, Ordering::Relaxed);
        self.stats
            .failed_operations
            .fetch_add(all, Ordering::Relaxed);
        exchange.refuse(error, now)
    }

    fn count(&self, exchange: &Exchange, results: &[Performed]) {
        let done = exchange.operations().zip(results);
        let (mut signed, mut failed) = (0, 0);
        for (operation, result) in done {
            failed += u64::from(result.is_err());
            signed += u64::from(operation == Operation::Sign && result.is_ok());
        }
        let add = |to: &AtomicU64, n| _ = to.fetch_add(n, Ordering::Relaxed);
        add(&self.stats.operations, results.len() as u64);
        add(&self.stats.failed_operations, failed);
        add(&self.stats.signatures, signed);
    }
}

/// On a thread that may block.
fn with_token(exchange: &Exchange, tokens: &dyn Tokens) -> Result<Vec<Performed>, TokenError> {
    let token = tokens.open(exchange.credential())?;
    let token = Some(&*token);
    Ok(match exchange.is_parallel() {
        true => exchange.perform_together(token),
        false => exchange.perform_all(token),
    })
}
