//! From a listening socket to connections.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{End, Service};

/// Wait after the system refused to hand out a connection, for want of descriptors mostly.
const PAUSE: Duration = Duration::from_millis(100);

/// Who may come in, and how.
pub trait Door: Send + Sync + 'static {
    /// The TLS settings for a new connection.
    fn tls(&self) -> Arc<ServerConfig>;

    /// Decides before the handshake. May block for a moment.
    ///
    /// # Errors
    /// Why not.
    fn admit(&self, peer: SocketAddr, local: SocketAddr) -> Result<(), String>;

    /// A connection is over.
    fn ended(&self, peer: SocketAddr, end: &End);
}

/// Accepts connections until `stop` is true, then waits until running requests are answered.
/// Returns early only if the listener itself is broken beyond repair.
pub async fn listen(
    listener: TcpListener,
    service: Arc<Service>,
    places: Arc<Semaphore>,
    door: Arc<dyn Door>,
    mut stop: watch::Receiver<bool>,
) {
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // An error: whoever could have stopped us is gone.
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
        };
        let Ok((stream, peer)) = accepted else {
            let _ = timeout(PAUSE, std::future::pending::<()>()).await;
            continue;
        };
        service.stats.accepted.fetch_add(1, Ordering::Relaxed);
        let Ok(place) = places.clone().try_acquire_owned() else {
            service.stats.refused.fetch_add(1, Ordering::Relaxed);
            door.ended(peer, &End::Full(service.bounds.max_connections));
            continue;
        };
        let (service, door, stop) = (service.clone(), door.clone(), stop.clone());
        open.spawn(async move {
            let end = connection(stream, peer, &service, &door, stop).await;
            if end.is_refusal() {
                service.stats.refused.fetch_add(1, Ordering::Relaxed);
            }
            door.ended(peer, &end);
            drop(place);
        });
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    service: &Service,
    door: &Arc<dyn Door>,
    mut stop: watch::Receiver<bool>,
) -> End {
    // A response is one write: waiting for more to send would only delay it.
    let _ = stream.set_nodelay(true);
    let span = service.bounds.handshake;
    let entered = tokio::select! {
        entered = bounded(span, enter(stream, peer, door)) => entered,
        _ = stop.wait_for(|stop| *stop) => Err(End::Stopping),
    };
    match entered {
        Ok(stream) => service.serve(stream, stop).await,
        Err(end) => end,
    }
}

async fn enter(
    stream: TcpStream,
    peer: SocketAddr,
    door: &Arc<dyn Door>,
) -> Result<tokio_rustls::server::TlsStream<TcpStream>, End> {
    let local = stream.local_addr().map_err(|e| End::Lost(e.kind()))?;
    let asked = door.clone();
    let admitted = tokio::task::spawn_blocking(move || asked.admit(peer, local)).await;
    admitted
        .unwrap_or_else(|_| Err("the check of the client failed".into()))
        .map_err(End::NotAdmitted)?;
    let handshake = TlsAcceptor::from(door.tls()).accept(stream).await;
    handshake.map_err(|e| End::Handshake(e.to_string()))
}

async fn bounded<T>(span: Duration, work: impl Future<Output = Result<T, End>>) -> Result<T, End> {
    timeout(span, work)
        .await
        .unwrap_or(Err(End::SlowHandshake(span)))
}
