//! DNS UPDATE in the daemon: requests on their way to the task that owns their zone.
//!
//! [`Incoming`] is a request with somebody who waits for its [`Verdict`]; the zone's side is in
//! `zone/update.rs`, what a request does in `cascade_loader::update`, and who may do it in
//! [`permit`].

pub mod permit;

use std::net::IpAddr;
use std::sync::Arc;

use cascade_loader::update::{Refused, Request};
use cascade_publisher::{UpdateIn, UpdateReply};
use cascade_wire::{Ede, rcode};
use cascade_zone::{Name, Serial};
use tokio::sync::{mpsc, oneshot};

use crate::daemon::Daemon;

/// UPDATEs of all zones on their way to the owner of theirs.
pub const QUEUE: usize = 4096;
/// Requests that wait for one zone; beyond, they are answered at once that it is busy.
pub const MAILBOX: usize = 1024;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// By DNS: what the policy allows to this key from there.
    Key { name: Name, from: IpAddr },
    /// Through the control API, which has judged already.
    Person(String),
}

/// A request, as it came.
#[derive(Debug)]
pub enum Asked {
    /// A message whose signature was verified.
    Message(Vec<u8>),
    Request(Box<Request>),
}

/// A request with somebody who waits.
#[derive(Debug)]
pub struct Incoming {
    pub asked: Asked,
    pub by: By,
    pub reply: oneshot::Sender<Verdict>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything was so already.
    Unchanged,
    /// Verified, durable and served.
    Published(Serial),
    /// Durable; what publication waits for.
    Accepted(String),
    /// Nothing has changed.
    Refused(Refused),
    /// Nothing has changed as far as we know; whoever asks may ask again.
    Unable(Unable),
}

/// Why nothing could be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unable {
    pub kind: UnableKind,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnableKind {
    /// The zone's content comes from elsewhere.
    Elsewhere,
    NotReady,
    /// The change guard, or a rule of the signer.
    Content,
    Other,
}

impl Verdict {
    pub fn unable(kind: UnableKind, text: impl Into<String>) -> Verdict {
        Verdict::Unable(Unable {
            kind,
            text: text.into(),
        })
    }

    /// The answer to an UPDATE message (RFC 2136 §3.8).
    pub fn reply(&self) -> UpdateReply {
        let (rcode, ede) = match self {
            Verdict::Unchanged | Verdict::Published(_) => (rcode::NOERROR, None),
            // The text helps whoever wonders why it is not served yet.
            Verdict::Accepted(why) => (rcode::NOERROR, Some((Ede::Other, why.clone()))),
            Verdict::Refused(r) => {
                let ede = match r {
                    Refused::NotPermitted { .. } | Refused::SignerOwns { .. } => Ede::Prohibited,
                    _ => Ede::Other,
                };
                (r.rcode(), Some((ede, r.to_string())))
            }
            Verdict::Unable(u) => {
                let (code, ede) = match u.kind {
                    UnableKind::Elsewhere => (rcode::REFUSED, Ede::NotSupported),
                    UnableKind::NotReady => (rcode::SERVFAIL, Ede::NotReady),
                    UnableKind::Content => (rcode::REFUSED, Ede::Prohibited),
                    UnableKind::Other => (rcode::SERVFAIL, Ede::Other),
                };
                (code, Some((ede, u.text.clone())))
            }
        };
        UpdateReply { rcode, ede }
    }
}

/// Brings messages from the servers to the zones, and their answers back.
pub async fn run(d: Arc<Daemon>, mut incoming: mpsc::Receiver<UpdateIn>) {
    while let Some(u) = incoming.recv().await {
        let name = u.apex.to_lowercase().without_dot();
        let Some(zone) = d.zone_of(&name, u.zone) else {
            let _ = u.reply.send(UpdateReply::unable("the zone is gone"));
            continue;
        };
        let (reply, verdict) = oneshot::channel();
        let asked = Incoming {
            asked: Asked::Message(u.message),
            by: By::Key {
                name: u.key,
                from: u.from,
            },
            reply,
        };
        if zone.line.try_update(Box::new(asked)).is_err() {
            let _ = u
                .reply
                .send(UpdateReply::unable("too many updates wait for this zone"));
            continue;
        }
        // Ends with the verdict, which the zone gives or drops within its patience.
        tokio::spawn(async move {
            if let Ok(verdict) = verdict.await {
                let _ = u.reply.send(verdict.reply());
            }
        });
    }
}
