//! One UDP socket: read, answer, write.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::Shared;
use super::tcp::MAX_QUERY;
use crate::answer::{Outcome, Scratch, Why, answer};
use crate::context::{QueryContext, Transport};
use crate::update::Late;

/// Queries answered before other tasks get their turn.
const BURST: usize = 64;

pub(super) async fn serve(shared: Arc<Shared>, socket: UdpSocket, mut stop: watch::Receiver<bool>) {
    let mut buf = vec![0u8; MAX_QUERY];
    let mut out = Vec::with_capacity(2048);
    let mut scratch = Scratch::default();
    let socket = Arc::new(socket);
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            ready = socket.readable() => if ready.is_err() { return },
        }
        for _ in 0..BURST {
            match socket.try_recv_from(&mut buf) {
                Ok((n, peer)) => {
                    out.clear();
                    let mut waits = None;
                    if one(&shared, &buf[..n], peer, &mut scratch, &mut out, &mut waits)
                        && socket.try_send_to(&out, peer).is_err()
                    {
                        shared.stats.send_failed.one();
                    }
                    if let Some(late) = waits {
                        answer_later(&shared, &socket, peer, *late);
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                // An ICMP error for an answer sent earlier; the next query is not concerned.
                Err(_) => continue,
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Nobody waits for the owner of a zone but the one who asked.
fn answer_later(shared: &Arc<Shared>, socket: &Arc<UdpSocket>, peer: SocketAddr, late: Late) {
    let answer = shared.ask(&late);
    let (shared, socket) = (shared.clone(), socket.clone());
    tokio::spawn(async move {
        let mut out = Vec::with_capacity(256);
        let said = answer.await;
        shared.say(late, &said, peer, Transport::Udp, None, &mut out);
        if socket.send_to(&out, peer).await.is_err() {
            shared.stats.send_failed.one();
        }
    });
}

/// Answers one datagram; `true`: `out` is to be sent. `waits`: the answer comes later.
fn one(
    shared: &Shared,
    query: &[u8],
    peer: SocketAddr,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
    waits: &mut Option<Box<Late>>,
) -> bool {
    let now = shared.common.clock.now();
    shared.stats.udp_queries.one();
    let over = shared.rate.over(peer.ip(), now);
    let settings = shared.settings.load();
    let ctx = QueryContext {
        role: shared.role,
        peer: peer.ip().to_canonical(),
        transport: Transport::Udp,
        now,
        directory: &shared.common.directory,
        settings: &settings,
        tls_name: None,
        limited: over.is_some(),
    };
    // A fault of ours in one answer must not silence the socket.
    let outcome = catch_unwind(AssertUnwindSafe(|| answer(query, &ctx, scratch, out)));
    let Ok(outcome) = outcome else {
        tracing::error!(%peer, "answering a query panicked; the query is dropped");
        return false;
    };
    shared.count(&outcome, &ctx);
    match outcome {
        Outcome::Dropped | Outcome::Transfer(_) => false,
        Outcome::Update(late) => {
            *waits = Some(late);
            false
        }
        Outcome::Reply(reply) if reply.why == Why::Limited => {
            shared.stats.rate_limited.one();
            // Every second one gets the hint to come back over TCP.
            over.is_some_and(|n| n % 2 == 1)
        }
        Outcome::Reply(_) => true,
        Outcome::Notified(_, notify) => {
            shared.hand_on(notify);
            true
        }
    }
}
