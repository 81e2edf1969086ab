//! DNS UPDATE in: whose it is, and the answer once the zone's owner has decided (RFC 2136).
//!
//! Nothing is decided here but who may speak at all: the zone, and the signature. What a request
//! may change, and whether it does, the owner of the zone says ([`UpdateIn::reply`]); until then the
//! request waits as a [`Late`], which needs the message again to sign the answer.

use std::net::IpAddr;

use cascade_wire::reader::CLASS_IN;
use cascade_wire::{Ede, Request, ServerTsig, rcode};
use cascade_zone::{Name, Rtype, ZoneId};
use tokio::sync::oneshot;

use crate::answer::{Outcome, Reply, Responder, Why};
use crate::context::QueryContext;

/// A signed UPDATE for a zone that takes some.
#[derive(Debug)]
pub struct UpdateIn {
    pub zone: ZoneId,
    pub apex: Name,
    pub from: IpAddr,
    /// The TSIG key that signed it.
    pub key: Name,
    pub message: Vec<u8>,
    /// Dropped unanswered: SERVFAIL.
    pub reply: oneshot::Sender<UpdateReply>,
}

/// What the owner of the zone says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateReply {
    pub rcode: u16,
    pub ede: Option<(Ede, String)>,
}

impl UpdateReply {
    /// There is nobody to ask, or too much is asked for.
    pub fn unable(why: &str) -> UpdateReply {
        UpdateReply {
            rcode: rcode::SERVFAIL,
            ede: Some((Ede::Other, why.to_string())),
        }
    }
}

/// A request that is answered later.
#[derive(Debug)]
pub struct Late {
    zone: ZoneId,
    apex: Name,
    from: IpAddr,
    message: Vec<u8>,
    tsig: ServerTsig,
    options: Vec<u8>,
    cookie: Option<bool>,
}

impl Late {
    /// What the owner of the zone gets, and where its answer comes from.
    pub fn ask(&self) -> (UpdateIn, oneshot::Receiver<UpdateReply>) {
        let (reply, answer) = oneshot::channel();
        let update = UpdateIn {
            zone: self.zone,
            apex: self.apex.clone(),
            from: self.from,
            key: self.tsig.key().name().clone(),
            message: self.message.clone(),
            reply,
        };
        (update, answer)
    }

    /// Appends the answer to `out`.
    pub fn answer(self, said: &UpdateReply, ctx: &QueryContext<'_>, out: &mut Vec<u8>) -> Reply {
        // It could be read before.
        let empty = Request::empty(&self.message);
        let request = Request::parse(&self.message).unwrap_or(empty);
        let mut r = Responder::again(&request, ctx, self.options, self.tsig, self.cookie);
        let why = match said.rcode {
            rcode::REFUSED => Why::Acl,
            _ => Why::Answered,
        };
        let ede = said.ede.as_ref().map(|(e, text)| (*e, text.as_str()));
        r.short(said.rcode, why, ede, out)
    }
}

pub(crate) fn incoming(r: &mut Responder<'_>, out: &mut Vec<u8>) -> Outcome {
    let (request, ctx) = (r.request, r.ctx);
    // RFC 2136 §3.1.1: one zone, and its type is SOA.
    if !request.has_question() || request.qtype != Rtype::SOA {
        return Outcome::Reply(r.short(rcode::FORMERR, Why::Malformed, None, out));
    }
    let entry = match request.qclass {
        CLASS_IN => ctx.directory.exact(request.qname),
        _ => None,
    };
    let Some(entry) = entry else {
        let ede = (Ede::NotAuthoritative, "zone is not known here");
        return Outcome::Reply(r.short(rcode::NOTAUTH, Why::NoZone, Some(ede), out));
    };
    if !entry.settings().updates {
        let text = "this zone's content comes from elsewhere; nothing is forwarded";
        let ede = (Ede::NotSupported, text);
        return Outcome::Reply(r.short(rcode::REFUSED, Why::Acl, Some(ede), out));
    }
    // RFC 3007 §1: an address proves nothing.
    let Some(tsig) = r.tsig.take() else {
        let ede = (Ede::Prohibited, "updates are taken with a TSIG key only");
        return Outcome::Reply(r.short(rcode::REFUSED, Why::Acl, Some(ede), out));
    };
    Outcome::Update(Box::new(Late {
        zone: entry.id(),
        apex: entry.apex().clone(),
        from: ctx.peer.to_canonical(),
        message: request.msg.to_vec(),
        tsig,
        options: r.take_options(),
        cookie: r.cookie(),
    }))
}
