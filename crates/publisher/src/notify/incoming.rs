//! NOTIFY in: who may, for what, and what the zone's owner is told.

use std::net::IpAddr;

use cascade_wire::reader::CLASS_IN;
use cascade_wire::{Ede, flag, rcode};
use cascade_zone::{Name, Rtype, Serial, ZoneId};

use crate::answer::{Outcome, Responder, Why};
use crate::directory::Role;

/// An accepted NOTIFY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyIn {
    pub zone: ZoneId,
    pub apex: Name,
    pub from: IpAddr,
    /// Of the SOA in the answer section, if there is one.
    pub serial: Option<Serial>,
    /// The TSIG key that signed it. Only then may `serial` cancel a refresh (RFC 1996 §3.7).
    pub key: Option<Name>,
}

pub(crate) fn incoming(r: &mut Responder<'_>, out: &mut Vec<u8>) -> Outcome {
    let (request, ctx) = (r.request, r.ctx);
    if !matches!(ctx.role, Role::Publication | Role::NotifyListener) {
        let ede = (Ede::NotSupported, "NOTIFY is taken on other addresses");
        return Outcome::Reply(r.short(rcode::REFUSED, Why::Opcode, Some(ede), out));
    }
    if request.qclass != CLASS_IN {
        return Outcome::Reply(r.short(rcode::REFUSED, Why::Class, None, out));
    }
    let Some(entry) = ctx.directory.exact(request.qname) else {
        let ede = (Ede::NotAuthoritative, "zone is not known here");
        return Outcome::Reply(r.short(rcode::NOTAUTH, Why::NoZone, Some(ede), out));
    };
    if request.qtype != Rtype::SOA {
        let ede = (Ede::NotSupported, "only NOTIFY for SOA is taken");
        return Outcome::Reply(r.short(rcode::REFUSED, Why::MetaType, Some(ede), out));
    }
    if !r.allowed(&entry.settings().notify_from) && !r.allowed(&ctx.settings.notify_allow) {
        let ede = (
            Ede::Prohibited,
            "NOTIFY is not allowed from this address or with this key",
        );
        return Outcome::Reply(r.short(rcode::REFUSED, Why::Acl, Some(ede), out));
    }
    let notify = NotifyIn {
        zone: entry.id(),
        apex: entry.apex().clone(),
        from: ctx.peer.to_canonical(),
        serial: request.answer_serial.map(Serial),
        key: r.tsig.as_ref().map(|t| t.key().name().clone()),
    };
    let composer = r.open(out, flag::AA);
    r.finish(composer, rcode::NOERROR);
    Outcome::Notified(r.reply(rcode::NOERROR, Why::Answered, false), notify)
}
