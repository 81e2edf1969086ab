//! UPDATEs on their way to the owner of their zone, and back.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;

use cascade_wire::rcode;

use super::Shared;
use super::log::Kind;
use crate::answer::{Outcome, Reply};
use crate::context::{QueryContext, Transport};
use crate::update::{Late, UpdateReply};

/// Longer than the owner of a zone takes to give any answer.
const LONGEST: Duration = Duration::from_secs(60);

impl Shared {
    /// Hands the request to the zone's owner; what comes out is its answer. Bounded by the queue:
    /// what does not fit is answered at once.
    pub(super) fn ask(&self, late: &Late) -> impl Future<Output = UpdateReply> + Send + 'static {
        let (update, answer) = late.ask();
        let sent = self.common.updates.try_send(update);
        async move {
            match sent {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    return UpdateReply::unable("too many updates wait; try again");
                }
                Err(TrySendError::Closed(_)) => {
                    return UpdateReply::unable("the server is stopping");
                }
            }
            match tokio::time::timeout(LONGEST, answer).await {
                Ok(Ok(reply)) => reply,
                Ok(Err(_)) => UpdateReply::unable("the zone gave no answer; see its log"),
                Err(_) => UpdateReply::unable("the zone takes too long; look before asking again"),
            }
        }
    }

    /// Appends the answer to `out`.
    pub(super) fn say(
        &self,
        late: Late,
        said: &UpdateReply,
        peer: SocketAddr,
        transport: Transport,
        tls_name: Option<&str>,
        out: &mut Vec<u8>,
    ) -> Reply {
        let settings = self.settings.load();
        let ctx = QueryContext {
            role: self.role,
            peer: peer.ip().to_canonical(),
            transport,
            now: self.common.clock.now(),
            directory: &self.common.directory,
            settings: &settings,
            tls_name,
            limited: false,
        };
        let reply = late.answer(said, &ctx, out);
        self.count(&Outcome::Reply(reply), &ctx);
        if reply.rcode == rcode::NOERROR {
            self.stats.updates_taken.one();
        } else {
            self.stats.updates_refused.one();
            if self.log.open(ctx.peer, Kind::UpdateRefused, ctx.now) {
                let why = said.ede.as_ref().map(|(_, text)| text.as_str());
                tracing::warn!(peer = %ctx.peer, code = reply.rcode, why, "UPDATE refused");
            }
        }
        reply
    }
}
