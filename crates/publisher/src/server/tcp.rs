//! TCP: connections with pipelined queries (RFC 7766) and transfers.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cascade_wire::frame::{Frames, close_frame};
use cascade_wire::{Header, opcode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::Shared;
use super::log::Kind;
use crate::answer::{Outcome, Scratch, Why, answer};
use crate::axfr::{BATCH, Transfer, TransferRequest};
use crate::context::{QueryContext, Transport};
use crate::directory::Hold;
use crate::limits::Connection;
use crate::notify::NotifyIn;
use crate::update::Late;

/// Longest query that is read.
pub(super) const MAX_QUERY: usize = 16 * 1024;
const READ: usize = 8 * 1024;
/// Longest UPDATE.
const MAX_UPDATE: usize = 0xffff;
/// UPDATEs of a connection whose zones have not decided; reading waits meanwhile.
const MAX_LATE: usize = 64;
/// Answers are written once so much has gathered; reading waits meanwhile.
const MAX_UNSENT: usize = 64 * 1024;
/// For a peer to take the closing alert of TLS.
const CLOSE: Duration = Duration::from_secs(2);

pub(super) async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    tls: bool,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.changed() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, for example: others may close some.
                tracing::warn!(%error, "accepting a TCP connection failed");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = shared.common.connections.enter(peer.ip()) else {
            shared.stats.tcp_refused.one();
            continue;
        };
        shared.stats.tcp_accepted.one();
        // Answers are written whole, so waiting to fill segments only delays them.
        let _ = stream.set_nodelay(true);
        let client = Client {
            shared: shared.clone(),
            peer,
            transport: if tls { Transport::Tls } else { Transport::Tcp },
            tls_name: None,
            place,
        };
        let stop = stop.clone();
        if tls {
            connections.spawn(client.secure(stream, stop));
        } else {
            connections.spawn(async move { client.run(stream, stop).await });
        }
    }
    while connections.join_next().await.is_some() {}
}

/// One connection.
struct Client {
    shared: Arc<Shared>,
    peer: SocketAddr,
    transport: Transport,
    tls_name: Option<String>,
    place: Connection,
}

/// UPDATEs under way for one connection; they may be answered in any order (RFC 7766 §6.2.1.1).
struct Waiting {
    open: usize,
    tx: mpsc::Sender<Vec<u8>>,
    rx: mpsc::Receiver<Vec<u8>>,
}

/// Why a query has no answer yet.
enum Next {
    Transfer(Box<TransferRequest>),
    Update(Box<Late>),
}

/// Why a connection ends.
enum End {
    Closed,
    Stopped,
}

struct OpenGauge(Arc<Shared>);
impl Drop for OpenGauge {
    fn drop(&mut self) {
        self.0.stats.tcp_open.less(1);
    }
}

impl Client {
    /// The same over TLS, once the handshake is done.
    async fn secure(mut self, stream: TcpStream, mut stop: watch::Receiver<bool>) {
        let shared = self.shared.clone();
        let accepted = tokio::select! {
            accepted = shared.tls.accept(stream) => accepted,
            () = self.place.evicted() => return,
            _ = stop.changed() => return,
        };
        let (mut stream, name) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                shared.stats.tls_failed.one();
                let (peer, now) = (self.peer.ip(), shared.common.clock.now());
                if shared.log.open(peer, Kind::TlsFailed, now) {
                    tracing::info!(%peer, %error, "TLS handshake failed");
                }
                return;
            }
        };
        self.tls_name = name;
        self.run(&mut stream, stop).await;
        // RFC 8446 §6.1: the end is told, or it looks like a cut.
        let _ = timeout(CLOSE, stream.shutdown()).await;
    }

    async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        mut stream: S,
        mut stop: watch::Receiver<bool>,
    ) {
        self.shared.stats.tcp_open.one();
        let _gauge = OpenGauge(self.shared.clone());
        let limits = self.shared.common.connections.limits();
        let mut idle = Box::pin(sleep(limits.first));
        let mut frames = Frames::new(MAX_UPDATE);
        let (tx, rx) = mpsc::channel(MAX_LATE);
        let mut waiting = Waiting { open: 0, tx, rx };
        let mut scratch = Scratch::default();
        let mut out = Vec::with_capacity(4096);
        loop {
            match self
                .answer_all(
                    &mut stream,
                    &mut frames,
                    &mut scratch,
                    &mut out,
                    &mut stop,
                    &mut waiting,
                )
                .await
            {
                Ok(0) => {}
                Ok(_) => idle.as_mut().reset(Instant::now() + limits.idle),
                Err(_) => return,
            }
            let read = self
                .read(&mut stream, &mut frames, &mut idle, &mut stop, &mut waiting)
                .await;
            match read {
                Err(_) => return,
                Ok(None) => {}
                Ok(Some(answer)) => {
                    out.clear();
                    out.extend_from_slice(&answer);
                    while let Ok(more) = waiting.rx.try_recv() {
                        waiting.open -= 1;
                        out.extend_from_slice(&more);
                    }
                    if self.flush(&mut stream, &mut out).await.is_err() {
                        return;
                    }
                    if waiting.open == 0 {
                        self.place.set_busy(false);
                    }
                    idle.as_mut().reset(Instant::now() + limits.idle);
                }
            }
        }
    }

    /// Waits for more octets. The timer runs from the last query, so a client that sends one octet
    /// now and then is closed like an idle one. Gives the answer to an UPDATE when one is there first.
    async fn read<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        frames: &mut Frames,
        idle: &mut Pin<Box<Sleep>>,
        stop: &mut watch::Receiver<bool>,
        waiting: &mut Waiting,
    ) -> Result<Option<Vec<u8>>, End> {
        if *stop.borrow() {
            return Err(End::Stopped);
        }
        let (waits, full) = (waiting.open > 0, waiting.open >= MAX_LATE);
        let space = frames.space();
        space.reserve(READ);
        tokio::select! {
            n = stream.read_buf(space), if !full => match n {
                Ok(0) | Err(_) => Err(End::Closed),
                Ok(_) => Ok(None),
            },
            Some(answer) = waiting.rx.recv(), if waits => {
                waiting.open -= 1;
                Ok(Some(answer))
            }
            () = idle.as_mut(), if !waits => {
                self.shared.stats.tcp_idle_closed.one();
                Err(End::Closed)
            }
            () = self.place.evicted() => {
                self.shared.stats.tcp_idle_closed.one();
                Err(End::Closed)
            }
            _ = stop.changed() => Err(End::Stopped),
        }
    }

    /// Answers every whole query that has arrived; gives the number of answers.
    async fn answer_all<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        frames: &mut Frames,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
        stop: &mut watch::Receiver<bool>,
        waiting: &mut Waiting,
    ) -> Result<usize, End> {
        out.clear();
        let mut n = 0;
        loop {
            let before = out.len();
            if waiting.open >= MAX_LATE {
                break;
            }
            let outcome = match frames.next_message() {
                Ok(Some(query)) if query.len() <= MAX_QUERY || is_update(query) => {
                    self.answer_one(query, scratch, out)
                }
                Ok(None) => break,
                Ok(Some(_)) | Err(_) => {
                    self.shared.stats.ignored.one();
                    return Err(End::Closed);
                }
            };
            // What gets no answer does not keep the connection open either.
            if out.len() > before || outcome.is_some() {
                if n == 0 {
                    self.place.set_busy(true);
                }
                n += 1;
            }
            match outcome {
                None => {}
                Some(Next::Transfer(request)) => {
                    self.flush(stream, out).await?;
                    self.transfer(stream, *request, out, stop).await?;
                }
                Some(Next::Update(late)) => self.answer_later(*late, waiting),
            }
            if out.len() > MAX_UNSENT {
                self.flush(stream, out).await?;
            }
        }
        self.flush(stream, out).await?;
        if n > 0 && waiting.open == 0 {
            self.place.set_busy(false);
        }
        Ok(n)
    }

    /// The answer comes through `waiting` when the zone's owner has decided.
    fn answer_later(&self, late: Late, waiting: &mut Waiting) {
        waiting.open += 1;
        let (shared, answer) = (self.shared.clone(), self.shared.ask(&late));
        let (peer, transport, tls_name) = (self.peer, self.transport, self.tls_name.clone());
        let tx = waiting.tx.clone();
        tokio::spawn(async move {
            let mut out = vec![0, 0];
            let said = answer.await;
            shared.say(late, &said, peer, transport, tls_name.as_deref(), &mut out);
            close_frame(&mut out, 0);
            // A client that has gone does not learn it.
            let _ = tx.send(out).await;
        });
    }

    fn answer_one(&self, query: &[u8], scratch: &mut Scratch, out: &mut Vec<u8>) -> Option<Next> {
        let shared = &self.shared;
        let counter = match self.transport {
            Transport::Tls => &shared.stats.tls_queries,
            _ => &shared.stats.tcp_queries,
        };
        counter.one();
        let settings = shared.settings.load();
        let ctx = QueryContext {
            role: shared.role,
            peer: self.peer.ip().to_canonical(),
            transport: self.transport,
            now: shared.common.clock.now(),
            directory: &shared.common.directory,
            settings: &settings,
            tls_name: self.tls_name.as_deref(),
            limited: false,
        };
        let at = out.len();
        out.extend_from_slice(&[0, 0]);
        let outcome = answer(query, &ctx, scratch, out);
        shared.count(&outcome, &ctx);
        match outcome {
            Outcome::Dropped => out.truncate(at),
            Outcome::Reply(_) => close_frame(out, at),
            Outcome::Notified(_, notify) => {
                close_frame(out, at);
                shared.hand_on(notify);
            }
            Outcome::Transfer(request) => {
                out.truncate(at);
                return Some(Next::Transfer(request));
            }
            Outcome::Update(late) => {
                out.truncate(at);
                return Some(Next::Update(late));
            }
        }
        None
    }

    async fn flush<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        if out.is_empty() {
            return Ok(());
        }
        let limit = self.shared.common.connections.limits().idle;
        let written = timeout(limit, async {
            stream.write_all(out).await?;
            stream.flush().await
        });
        let written = written.await;
        out.clear();
        match written {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Closed),
        }
    }

    async fn transfer<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        request: TransferRequest,
        out: &mut Vec<u8>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), End> {
        let shared = &self.shared;
        let (zone, peer) = (request.zone, request.peer);
        shared.stats.transfers_waiting.one();
        let released = released(&request).await;
        let turn = match released {
            true => shared.common.transfers.turn(zone, peer).await,
            false => None,
        };
        shared.stats.transfers_waiting.less(1);
        if request.is_held(Hold::Refused) {
            request.held(shared.common.clock.now(), out);
            return self.flush(stream, out).await;
        }
        let Some(_turn) = turn else {
            shared.stats.transfers_busy.one();
            request.busy(shared.common.clock.now(), out);
            return self.flush(stream, out).await;
        };
        shared.stats.transfers_started.one();
        if request.is_incremental() {
            shared.stats.transfers_incremental.one();
        }
        shared.stats.transfers_running.one();
        let began = shared.common.clock.monotonic();
        let mut transfer = Transfer::new(request);
        let result = self.send_all(stream, &mut transfer, stop).await;
        shared.stats.transfers_running.less(1);
        shared.stats.transfer_records.add(transfer.records());
        let took = shared.common.clock.monotonic().saturating_sub(began);
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        shared.stats.transfer_millis.add(millis);
        if result.is_ok() && transfer.is_complete() {
            shared.stats.transfers_done.one();
            return Ok(());
        }
        shared.stats.transfers_failed.one();
        if shared
            .log
            .open(peer, Kind::TransferFailed, shared.common.clock.now())
        {
            let apex = transfer.request().version.apex();
            tracing::warn!(%peer, zone = %apex, records = transfer.records(), "zone transfer broke off");
        }
        Err(End::Closed)
    }

    async fn send_all<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        transfer: &mut Transfer,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), End> {
        let shared = &self.shared;
        let times = **shared.times.load();
        let started = shared.common.clock.monotonic();
        let entry = transfer.request().entry.clone();
        let version = transfer.request().version.id();
        while !*stop.borrow() {
            let now = shared.common.clock.now();
            if !transfer.request().is_allowed(&shared.settings.load()) {
                return Err(End::Closed);
            }
            let Some(messages) = transfer.unsent(now) else {
                return Ok(());
            };
            let some = &messages[..messages.len().min(BATCH)];
            let n = tokio::select! {
                n = timeout(times.stall, stream.write(some)) => match n {
                    Ok(Ok(n)) if n > 0 => n,
                    _ => return Err(End::Closed),
                },
                _ = stop.changed() => return Err(End::Stopped),
            };
            transfer.sent(n);
            shared.stats.transfer_octets.add(n as u64);
            let current = entry.slot(shared.role).and_then(|s| s.id());
            let age = shared.common.clock.monotonic().saturating_sub(started);
            if current != Some(version) && age > times.retired {
                return Err(End::Closed);
            }
            // What TLS still holds goes out before what follows.
            tokio::select! {
                flushed = timeout(times.stall, stream.flush()) => match flushed {
                    Ok(Ok(())) => {}
                    _ => return Err(End::Closed),
                },
                _ = stop.changed() => return Err(End::Stopped),
            }
        }
        Err(End::Stopped)
    }
}

fn is_update(query: &[u8]) -> bool {
    Header::parse(query).is_some_and(|h| h.opcode() == opcode::UPDATE)
}

impl Shared {
    pub(super) fn hand_on(&self, notify: NotifyIn) {
        if self.common.notify.try_send(notify).is_err() {
            self.stats.notify_dropped.one();
        }
    }

    /// Counts an answer, and logs what an operator should see.
    pub(super) fn count(&self, outcome: &Outcome, ctx: &QueryContext<'_>) {
        let s = &self.stats;
        let reply = match outcome {
            Outcome::Dropped => return s.ignored.one(),
            Outcome::Transfer(request) => return s.qtype(request.qtype).one(),
            // Counted when it is answered.
            Outcome::Update(_) => return,
            Outcome::Notified(reply, _) => {
                s.notify_accepted.one();
                reply
            }
            Outcome::Reply(reply) => reply,
        };
        s.rcode(reply.rcode).one();
        s.qtype(reply.qtype).one();
        if reply.truncated {
            s.truncated.one();
        }
        match reply.cookie {
            Some(true) => s.cookies_valid.one(),
            Some(false) => s.cookies_invalid.one(),
            None => {}
        }
        match reply.why {
            Why::Acl => s.acl_refused.one(),
            Why::Tsig => s.tsig_failed.one(),
            Why::Broken(what) if self.log.open(ctx.peer, Kind::Broken, ctx.now) => {
                let version = reply.version.map(|(zone, id, _)| (zone, id));
                tracing::error!(
                    ?version,
                    what,
                    "answered SERVFAIL: the zone's data contradict themselves"
                );
            }
            _ => {}
        }
        let transfer = matches!(
            reply.qtype,
            cascade_zone::Rtype::AXFR | cascade_zone::Rtype::IXFR
        );
        let refused = reply.why == Why::Acl || reply.why == Why::Tsig;
        if refused && reply.opcode == opcode::NOTIFY {
            s.notify_refused.one();
            if self.log.open(ctx.peer, Kind::NotifyRefused, ctx.now) {
                tracing::warn!(peer = %ctx.peer, code = reply.rcode, "NOTIFY refused");
            }
        }
        if reply.why == Why::Acl
            && transfer
            && self.log.open(ctx.peer, Kind::TransferRefused, ctx.now)
        {
            tracing::warn!(peer = %ctx.peer, "zone transfer refused by the access list");
        }
    }
}

/// Waits while the zone's transfers are held briefly; false: for longer than anybody waits in line.
async fn released(request: &TransferRequest) -> bool {
    const LOOK: Duration = Duration::from_millis(10);
    const LONGEST: u32 = 3000;
    for _ in 0..LONGEST {
        if !request.is_held(Hold::Briefly) {
            return true;
        }
        sleep(LOOK).await;
    }
    false
}
