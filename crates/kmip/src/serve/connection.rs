//! One connection: request, response, request, response.

use std::future::Future;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;
use zeroize::Zeroize as _;

use super::{Bounds, End, Service};
use crate::tags;
use crate::ttlv::Framer;

/// Octets read at once.
const BUFFER: usize = 16 * 1024;

pub(super) async fn run<S>(service: &Service, stream: S, mut stop: watch::Receiver<bool>) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let max = service.server.limits().request.max_octets;
    let mut c = Connection {
        service,
        stream,
        framer: Framer::new(tags::REQUEST_MESSAGE, max),
        buffer: vec![0; BUFFER],
    };
    let end = loop {
        if *stop.borrow() {
            break End::Stopping;
        }
        if let Err(end) = c.turn(&mut stop).await {
            break end;
        }
    };
    // Requests carry PINs.
    c.buffer.zeroize();
    let _ = timeout(service.bounds.handshake, c.stream.shutdown()).await;
    end
}

struct Connection<'a, S> {
    service: &'a Service,
    stream: S,
    framer: Framer,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// One request and its response.
    async fn turn(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), End> {
        let bounds = self.service.bounds;
        let arrived = tokio::select! {
            arrived = self.arrive(bounds) => arrived?,
            // A request that is not whole was not begun. An error is the end of the program that
            // could have stopped us.
            _ = stop.wait_for(|stop| *stop) => return Err(End::Stopping),
        };
        if let Arrived::Bad(response, end) = arrived {
            // Whoever sends something else may not read what we say.
            let _ = self.write(&response).await;
            return Err(end);
        }
        let response = match self.framer.next_message() {
            Ok(Some(request)) => self.service.respond(request).await,
            // `complete` saw a whole message.
            Ok(None) => return Ok(()),
            Err(error) => return Err(End::Frame(error)),
        };
        self.write(&response).await
    }

    /// Waits for a request, and for all of it.
    async fn arrive(&mut self, bounds: Bounds) -> Result<Arrived, End> {
        if self.framer.pending() == 0 {
            let first = within(bounds.idle, self.stream.read(&mut self.buffer)).await;
            let read = first.map_err(|e| match e {
                // Many clients leave without a word, which between requests is no harm.
                Some(End::Lost(kind)) if is_departure(kind) => End::Closed,
                Some(end) => end,
                None => End::Idle(bounds.idle),
            })?;
            self.push(read)?;
        }
        let whole = within(bounds.transfer, self.complete()).await;
        whole.map_err(|e| e.unwrap_or(End::SlowRequest(bounds.transfer)))
    }

    /// Reads until a whole request is there.
    async fn complete(&mut self) -> io::Result<Arrived> {
        loop {
            match self.framer.is_whole() {
                Ok(true) => return Ok(Arrived::Whole),
                Ok(false) => {}
                Err(error) => {
                    let service = self.service;
                    service.stats.malformed.fetch_add(1, Ordering::Relaxed);
                    let response = service.server.refuse(&error, (service.now)());
                    return Ok(Arrived::Bad(response, End::Frame(error)));
                }
            }
            let read = self.stream.read(&mut self.buffer).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.framer
                .push(self.buffer.get(..read).unwrap_or_default());
        }
    }

    fn push(&mut self, read: usize) -> Result<(), End> {
        if read == 0 {
            return Err(End::Closed);
        }
        self.framer
            .push(self.buffer.get(..read).unwrap_or_default());
        Ok(())
    }

    async fn write(&mut self, octets: &[u8]) -> Result<(), End> {
        let span = self.service.bounds.transfer;
        let stream = &mut self.stream;
        let written = within(span, async {
            stream.write_all(octets).await?;
            stream.flush().await
        });
        written
            .await
            .map_err(|e| e.unwrap_or(End::SlowResponse(span)))
    }
}

enum Arrived {
    Whole,
    /// What to answer before closing, and why.
    Bad(Vec<u8>, End),
}

fn is_departure(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// `Err(None)` when the time is over.
async fn within<T>(
    span: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, Option<End>> {
    match timeout(span, work).await {
        Ok(done) => done.map_err(|e| Some(End::Lost(e.kind()))),
        Err(_) => Err(None),
    }
}
