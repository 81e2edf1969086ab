//! One message in, one message out: who is answered how.

use cascade_wire::cookie::CookieState;
use cascade_wire::edns::{option, push_ede, push_option};
use cascade_wire::reader::{CLASS_ANY, CLASS_CH, CLASS_IN};
use cascade_wire::{
    BadRequest, Composer, Ede, Header, Malformed, Request, Section, ServerTsig, flag, opcode, rcode,
};
use cascade_zone::{Rtype, Serial, VersionId, ZoneId};

use crate::axfr::{self, TransferRequest};
use crate::context::{QueryContext, Transport};
use crate::directory::{EmptyReason, Role, ZoneEntry};
use crate::lookup::Lookup;
use crate::notify::{self, NotifyIn};
use crate::update::{self, Late};

/// Our UDP size: no fragmentation (RFC 9715 §3.1).
pub const MAX_UDP: usize = 1232;
/// Without EDNS (RFC 1035 §4.2.1).
pub const MIN_UDP: usize = 512;
/// Answers over TLS are padded to multiples of this (RFC 8467 §4.1).
const PADDING_BLOCK: usize = 468;
/// Fixed octets of an OPT record.
const OPT_LEN: usize = 11;

/// What to do with a message.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing is sent.
    Dropped,
    /// The answer is in the buffer.
    Reply(Reply),
    /// The answer is in the buffer, and the zone's owner is to be told.
    Notified(Reply, NotifyIn),
    /// Nothing is in the buffer: a transfer is to be run.
    Transfer(Box<TransferRequest>),
    /// Nothing is in the buffer: the zone's owner is to be asked.
    Update(Box<Late>),
}

/// What an answer says, for counters and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    pub rcode: u16,
    pub qtype: Rtype,
    pub opcode: u8,
    pub truncated: bool,
    pub cookie: Option<bool>,
    pub why: Why,
    /// The version that answered.
    pub version: Option<(ZoneId, VersionId, Serial)>,
}

/// Which row of the table decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Answered,
    Malformed,
    Opcode,
    Version,
    Tsig,
    Class,
    MetaType,
    Acl,
    NoZone,
    NoData(EmptyReason),
    Limited,
    /// Our own data contradict themselves; text for the log.
    Broken(&'static str),
}

/// Buffers that live from answer to answer.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) options: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) other_key: Vec<u8>,
    pub(crate) wire: Vec<u8>,
}

/// Answers one message. The answer is appended to `out`.
pub fn answer(
    query: &[u8],
    ctx: &QueryContext<'_>,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Outcome {
    match Request::parse(query) {
        Ok(request) => respond(&request, ctx, scratch, out),
        Err(bad) if bad.kind == Malformed::Ignore => Outcome::Dropped,
        Err(bad) => Outcome::Reply(refuse_malformed(query, &bad, out)),
    }
}

fn respond(
    request: &Request<'_>,
    ctx: &QueryContext<'_>,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Outcome {
    scratch.options.clear();
    let mut r = Responder {
        request,
        ctx,
        options: std::mem::take(&mut scratch.options),
        tsig: None,
        cookie: None,
    };
    let outcome = r.run(scratch, out);
    scratch.options = r.options;
    outcome
}

/// FORMERR, or NOTIMP where the opcode already decides.
fn refuse_malformed(query: &[u8], bad: &BadRequest, out: &mut Vec<u8>) -> Reply {
    let known = matches!(
        bad.header.opcode(),
        opcode::QUERY | opcode::NOTIFY | opcode::UPDATE
    );
    let code = if known { rcode::FORMERR } else { rcode::NOTIMP };
    let mut c = Composer::new(out, MIN_UDP, bad.header.id, reply_flags(&bad.header) | code);
    if let Some(end) = bad.question_end
        && let Some(q) = query.get(12..end)
        && let Some((name, rest)) = q.split_at_checked(q.len().saturating_sub(4))
        && rest.len() == 4
    {
        c.question(
            name,
            Rtype(u16::from_be_bytes([rest[0], rest[1]])),
            u16::from_be_bytes([rest[2], rest[3]]),
        );
    }
    if bad.has_opt {
        // Fits: header, question and an empty OPT stay below 512 octets.
        let _ = c.record_with(
            Section::Additional,
            &[0],
            Rtype::OPT,
            MAX_UDP as u16,
            0,
            |_| {},
        );
    }
    c.finish();
    let why = if known { Why::Malformed } else { Why::Opcode };
    Reply {
        rcode: code,
        qtype: Rtype(0),
        opcode: bad.header.opcode(),
        truncated: false,
        cookie: None,
        why,
        version: None,
    }
}

fn reply_flags(header: &Header) -> u16 {
    flag::QR | header.flags & (flag::OPCODE | flag::RD | flag::CD)
}

/// State of one answer.
pub(crate) struct Responder<'a> {
    pub request: &'a Request<'a>,
    pub ctx: &'a QueryContext<'a>,
    /// Options of the OPT record of the answer.
    options: Vec<u8>,
    pub tsig: Option<ServerTsig>,
    cookie: Option<bool>,
}

impl<'a> Responder<'a> {
    /// Goes on with a request that was looked at before.
    pub fn again(
        request: &'a Request<'a>,
        ctx: &'a QueryContext<'a>,
        options: Vec<u8>,
        tsig: ServerTsig,
        cookie: Option<bool>,
    ) -> Self {
        Responder {
            request,
            ctx,
            options,
            tsig: Some(tsig),
            cookie,
        }
    }
}

impl Responder<'_> {
    fn run(&mut self, scratch: &mut Scratch, out: &mut Vec<u8>) -> Outcome {
        let request = self.request;
        if let Some(reply) = self.check_envelope(out) {
            return Outcome::Reply(reply);
        }
        if request.header.opcode() == opcode::NOTIFY {
            return notify::incoming(self, out);
        }
        if request.header.opcode() == opcode::UPDATE {
            return update::incoming(self, out);
        }
        if !request.has_question() {
            return Outcome::Reply(self.short(rcode::NOERROR, Why::Answered, None, out));
        }
        if self.ctx.role == Role::NotifyListener {
            let ede = (Ede::NotSupported, "this address takes NOTIFY only");
            return Outcome::Reply(self.short(rcode::REFUSED, Why::Acl, Some(ede), out));
        }
        if let Some(reply) = self.check_question(out) {
            return Outcome::Reply(reply);
        }
        let Some(entry) = self.find_zone() else {
            // RFC 5936 §2.2.1: a transfer of what is no zone here.
            let transfer = matches!(request.qtype, Rtype::AXFR | Rtype::IXFR);
            let code = if transfer {
                rcode::NOTAUTH
            } else {
                rcode::REFUSED
            };
            let ede = (Ede::NotAuthoritative, "zone is not served here");
            return Outcome::Reply(self.short(code, Why::NoZone, Some(ede), out));
        };
        let Some(slot) = entry.slot(self.ctx.role) else {
            return Outcome::Dropped;
        };
        let version = match slot.shown() {
            Ok(version) => version,
            Err(reason) => return Outcome::Reply(self.not_ready(reason, out)),
        };
        self.zone_options(&entry, version.soa(), version.serial());
        if matches!(request.qtype, Rtype::AXFR | Rtype::IXFR) {
            return axfr::decide(self, &entry, version, out);
        }
        let mut reply = self.look_up(version, scratch, out);
        reply.version = Some((entry.id(), version.id(), version.serial()));
        Outcome::Reply(reply)
    }

    /// Opcode, EDNS version, cookie, TSIG.
    fn check_envelope(&mut self, out: &mut Vec<u8>) -> Option<Reply> {
        let header = &self.request.header;
        let taken = match header.opcode() {
            opcode::QUERY | opcode::NOTIFY => true,
            opcode::UPDATE => self.ctx.role == Role::Publication,
            _ => false,
        };
        if !taken {
            let text = match header.opcode() {
                opcode::UPDATE => "UPDATE is taken by the publication server",
                _ => "",
            };
            return Some(self.short(
                rcode::NOTIMP,
                Why::Opcode,
                Some((Ede::NotSupported, text)),
                out,
            ));
        }
        if self.request.edns.is_some_and(|e| e.version > 0) {
            return Some(self.short(rcode::BADVERS, Why::Version, None, out));
        }
        if let Some(tsig) = &self.request.tsig {
            match ServerTsig::verify(
                &self.ctx.settings.keys,
                self.request.msg,
                tsig,
                self.ctx.now,
            ) {
                Ok(state) => self.tsig = Some(state),
                Err(refusal) => {
                    // The error record is made from the request's, so it goes on last.
                    let start = out.len();
                    let reply = self.short(rcode::NOTAUTH, Why::Tsig, None, out);
                    refusal.sign(tsig, out, start, self.ctx.now);
                    return Some(reply);
                }
            }
        }
        self.base_options(out)
    }

    /// NSID, COOKIE, TCP keepalive; may end with FORMERR or BADCOOKIE.
    fn base_options(&mut self, out: &mut Vec<u8>) -> Option<Reply> {
        let edns = self.request.edns?;
        let settings = self.ctx.settings;
        if edns.option(option::NSID).is_some()
            && let Some(nsid) = &settings.nsid
        {
            push_option(option::NSID, nsid, &mut self.options);
        }
        if edns.option(option::TCP_KEEPALIVE).is_some() && self.ctx.transport != Transport::Udp {
            // RFC 7828 §3.1: units of 100 ms.
            let idle = (settings.tcp_idle.as_millis() / 100).min(0xffff) as u16;
            push_option(
                option::TCP_KEEPALIVE,
                &idle.to_be_bytes(),
                &mut self.options,
            );
        }
        let secrets = settings.cookies.as_ref();
        let sent = edns.option(option::COOKIE);
        if let (Some(secrets), Some(cookie)) = (secrets, sent) {
            let state = secrets.check(cookie, self.ctx.peer, self.ctx.now);
            let client = cookie
                .first_chunk::<8>()
                .filter(|_| state != CookieState::Malformed);
            let Some(client) = client else {
                return Some(self.short(rcode::FORMERR, Why::Malformed, None, out));
            };
            let fresh = secrets.make(client, self.ctx.peer, self.ctx.now);
            push_option(option::COOKIE, &fresh, &mut self.options);
            self.cookie = Some(state == CookieState::Valid);
        }
        None
    }

    /// Rate limit, class, type, access list.
    fn check_question(&mut self, out: &mut Vec<u8>) -> Option<Reply> {
        let (request, ctx) = (self.request, self.ctx);
        if ctx.limited && ctx.transport == Transport::Udp && self.cookie != Some(true) {
            if self.cookie.is_some() {
                return Some(self.short(rcode::BADCOOKIE, Why::Limited, None, out));
            }
            return Some(self.truncated(out));
        }
        if request.qclass == CLASS_CH {
            return Some(self.chaos(out));
        }
        if !matches!(request.qclass, CLASS_IN | CLASS_ANY) {
            return Some(self.short(rcode::REFUSED, Why::Class, None, out));
        }
        let t = request.qtype;
        if t.is_meta() && !matches!(t, Rtype::AXFR | Rtype::IXFR | Rtype::ANY) {
            // RFC 9824 §3.4 for NXNAME.
            let code = if t == Rtype::NXNAME {
                rcode::FORMERR
            } else {
                rcode::REFUSED
            };
            return Some(self.short(code, Why::MetaType, Some((Ede::InvalidQueryType, "")), out));
        }
        if !self.allowed(&ctx.settings.allow) {
            let ede = (Ede::Prohibited, "not in the access list of this address");
            return Some(self.short(rcode::REFUSED, Why::Acl, Some(ede), out));
        }
        None
    }

    /// The request passes the access list.
    pub fn allowed(&self, acl: &cascade_wire::Acl) -> bool {
        let key = self.tsig.as_ref().map(|t| t.key().name());
        acl.allows(self.ctx.peer, key, self.ctx.tls_name)
    }

    fn find_zone(&self) -> Option<std::sync::Arc<ZoneEntry>> {
        let (directory, qname) = (self.ctx.directory, self.request.qname);
        if matches!(self.request.qtype, Rtype::AXFR | Rtype::IXFR) {
            return directory.exact(qname);
        }
        let entry = directory.find(qname)?;
        // RFC 4035 §3.1.4.1: DS lives at the parent.
        if self.request.qtype == Rtype::DS && entry.apex().as_wire().len() == qname.len() {
            return directory.find_above(qname).or(Some(entry));
        }
        Some(entry)
    }

    fn not_ready(&mut self, reason: EmptyReason, out: &mut Vec<u8>) -> Reply {
        if reason == EmptyReason::Expired {
            push_ede(Ede::NoReachableAuthority, "", &mut self.options);
        }
        self.short(
            rcode::SERVFAIL,
            Why::NoData(reason),
            Some((Ede::NotReady, reason.text())),
            out,
        )
    }

    /// EXPIRE (RFC 7314) and ZONEVERSION (RFC 9660), when asked for.
    fn zone_options(&mut self, entry: &ZoneEntry, soa: &[u8], serial: Serial) {
        let Some(edns) = self.request.edns else {
            return;
        };
        if edns.option(option::EXPIRE).is_some() && self.ctx.role == Role::Publication {
            let left = match entry.settings().expires {
                Some(at) => self.ctx.now.secs_until(at).clamp(0, u32::MAX as i64) as u32,
                None => soa_tail(soa, 12),
            };
            push_option(option::EXPIRE, &left.to_be_bytes(), &mut self.options);
        }
        if edns
            .option(option::ZONEVERSION)
            .is_some_and(<[u8]>::is_empty)
        {
            let mut data = [0u8; 6];
            data[0] = entry.apex().label_count() as u8;
            data[2..].copy_from_slice(&serial.0.to_be_bytes());
            push_option(option::ZONEVERSION, &data, &mut self.options);
        }
    }

    fn look_up(
        &mut self,
        version: &cascade_zone::version::ZoneVersion,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Reply {
        let request = self.request;
        let dnssec = version.is_signed() && request.edns.is_some_and(|e| e.dnssec_ok);
        let composer = self.open(out, flag::AA);
        let lookup = Lookup::new(
            version,
            composer,
            dnssec,
            self.ctx.transport == Transport::Udp,
        );
        let (composer, found) = lookup.run(request.qname, request.qtype, scratch);
        let why = found.broken.map_or(Why::Answered, Why::Broken);
        self.finish(composer, found.rcode);
        self.reply(found.rcode, why, found.truncated)
    }

    /// CH TXT names of the server, answered only when a name is configured.
    fn chaos(&mut self, out: &mut Vec<u8>) -> Reply {
        let request = self.request;
        let is = |name: &[u8]| request.qname.eq_ignore_ascii_case(name);
        let settings = self.ctx.settings;
        let text = match &settings.nsid {
            Some(nsid) if matches!(request.qtype, Rtype::TXT | Rtype::ANY) => {
                if is(b"\x07version\x04bind\0") || is(b"\x07version\x06server\0") {
                    Some(settings.version_text.as_bytes())
                } else if is(b"\x02id\x06server\0") || is(b"\x08hostname\x04bind\0") {
                    Some(&nsid[..])
                } else {
                    None
                }
            }
            _ => None,
        };
        let Some(text) = text else {
            return self.short(rcode::REFUSED, Why::Class, None, out);
        };
        let mut c = self.open(out, flag::AA);
        let text = &text[..text.len().min(255)];
        let _ = c.record_with(
            Section::Answer,
            request.qname,
            Rtype::TXT,
            CLASS_CH,
            0,
            |o| {
                o.push(text.len() as u8);
                o.extend_from_slice(text);
            },
        );
        self.finish(c, rcode::NOERROR);
        self.reply(rcode::NOERROR, Why::Answered, false)
    }

    /// An answer that is nothing but a code.
    pub fn short(
        &mut self,
        code: u16,
        why: Why,
        ede: Option<(Ede, &str)>,
        out: &mut Vec<u8>,
    ) -> Reply {
        if let (Some((ede, text)), true) = (ede, self.request.edns.is_some()) {
            push_ede(ede, text, &mut self.options);
        }
        let composer = self.open(out, 0);
        self.finish(composer, code);
        self.reply(code, why, false)
    }

    /// An empty answer that asks to come back over TCP.
    fn truncated(&mut self, out: &mut Vec<u8>) -> Reply {
        let composer = self.open(out, flag::TC);
        self.finish(composer, rcode::NOERROR);
        self.reply(rcode::NOERROR, Why::Limited, true)
    }

    pub fn cookie(&self) -> Option<bool> {
        self.cookie
    }

    /// Hands the options over to a transfer, whose first message carries them.
    pub fn take_options(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.options)
    }

    pub fn reply(&self, rcode: u16, why: Why, truncated: bool) -> Reply {
        Reply {
            rcode,
            qtype: self.request.qtype,
            opcode: self.request.header.opcode(),
            truncated,
            cookie: self.cookie,
            why,
            version: None,
        }
    }

    /// Begins the answer: header and question.
    pub fn open<'o>(&self, out: &'o mut Vec<u8>, flags: u16) -> Composer<'o> {
        let request = self.request;
        let limit = self.limit().saturating_sub(self.reserve());
        let mut c = Composer::new(
            out,
            limit,
            request.header.id,
            reply_flags(&request.header) | flags,
        );
        if request.has_question() {
            c.question(request.qname, request.qtype, request.qclass);
        }
        c
    }

    /// Largest size of the answer.
    fn limit(&self) -> usize {
        match (self.ctx.transport, &self.request.edns) {
            (Transport::Udp, Some(e)) => (e.udp_size as usize).clamp(MIN_UDP, MAX_UDP),
            (Transport::Udp, None) => MIN_UDP,
            _ => 0xffff,
        }
    }

    /// Room for OPT and TSIG.
    fn reserve(&self) -> usize {
        let opt = self
            .request
            .edns
            .map_or(0, |_| OPT_LEN + self.options.len());
        opt + self.tsig.as_ref().map_or(0, ServerTsig::record_len)
    }

    /// Ends the answer: code, OPT, counts, signature.
    pub fn finish(&mut self, mut c: Composer<'_>, code: u16) {
        c.flags(flag::RCODE, code & 0xf);
        if let Some(edns) = self.request.edns {
            self.pad(&edns, c.len());
            c.set_limit(0xffff);
            let ttl = (code as u32 >> 4) << 24 | if edns.dnssec_ok { 0x8000 } else { 0 };
            let options = &self.options;
            let _ = c.record_with(
                Section::Additional,
                &[0],
                Rtype::OPT,
                MAX_UDP as u16,
                ttl,
                |o| {
                    o.extend_from_slice(options);
                },
            );
        }
        let (out, start) = c.finish();
        if let Some(tsig) = &mut self.tsig {
            tsig.sign(out, start, self.ctx.now);
        }
    }

    /// PADDING (RFC 7830, RFC 8467) for clients on TLS that ask for it.
    fn pad(&mut self, edns: &cascade_wire::Edns<'_>, len: usize) {
        if self.ctx.transport != Transport::Tls || edns.option(option::PADDING).is_none() {
            return;
        }
        let total = len + self.reserve() + 4;
        let padded = total.next_multiple_of(PADDING_BLOCK).min(0xffff);
        push_option(
            option::PADDING,
            &[0; PADDING_BLOCK][..padded.saturating_sub(total)],
            &mut self.options,
        );
    }
}

/// A number of SOA RDATA by its place behind the two names: serial 0, refresh 4, retry 8, expire 12, minimum 16.
pub(crate) fn soa_tail(soa: &[u8], at: usize) -> u32 {
    let field = soa
        .len()
        .checked_sub(20)
        .and_then(|start| soa.get(start + at..start + at + 4));
    field.map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}
