//! Zone transfers out: which form a request gets, and the full zone as ready messages
//! (RFC 5936, RFC 1995).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use cascade_time::Timestamp;
use cascade_wire::reader::{CLASS_IN, HEADER};
use cascade_wire::{Ede, ServerTsig, composer, flag, frame, rcode};
use cascade_zone::version::{Record, ZoneVersion};
use cascade_zone::{Rtype, Serial, ZoneId, canon};

use crate::answer::{Outcome, Responder, Why};
use crate::context::Transport;
use crate::directory::{Hold, Role, ZoneEntry};
use crate::ixfr::{self, Increment};

/// Messages are closed at this size: all of their names can be pointed to (14 bits), which saves
/// more than larger messages would, and on TLS one message with its length is one record.
const CLOSE_AT: usize = 16_384 - 2;
/// A record that is larger than that gets a message of its own up to this size.
const MAX_MESSAGE: usize = 0xffff;
/// Longest owner name and fixed part of a record: what may be written before it is cut again.
const MAX_HEAD: usize = 255 + 10;

/// Extra text for a transfer of a zone that is live under another signer (RFC 8914: at most 80
/// octets are sent).
const HELD: &str = "transfers are held: the DS at the parent fits no key of this zone";

/// A transfer that was granted and has yet to get its turn.
#[derive(Debug)]
pub struct TransferRequest {
    pub zone: ZoneId,
    pub entry: Arc<ZoneEntry>,
    pub version: Arc<ZoneVersion>,
    pub role: Role,
    pub peer: IpAddr,
    pub transport: Transport,
    /// Whether the client asked for an increment.
    pub qtype: Rtype,
    pub client_serial: Option<Serial>,
    /// What it gets; `None`: the whole zone.
    increment: Option<Increment>,
    id: u16,
    flags: u16,
    qname: Vec<u8>,
    qclass: u16,
    opt: Option<Vec<u8>>,
    tsig: Option<ServerTsig>,
    tls_name: Option<String>,
}

impl TransferRequest {
    /// The access list still lets this client transfer (withdrawn access ends
    /// a running transfer at the next messages to be sent).
    pub fn is_allowed(&self, settings: &crate::context::Settings) -> bool {
        let key = self.tsig.as_ref().map(|t| t.key().name());
        let tls = self.tls_name.as_deref();
        let zone = self.entry.settings();
        let acl = if self.role == Role::Publication {
            &zone.provide_xfr_to
        } else {
            &settings.allow
        };
        acl.allows(self.peer, key, tls) && !self.is_held(Hold::Refused)
    }

    /// Transfers of what it asks for are held like this.
    pub fn is_held(&self, how: Hold) -> bool {
        self.role == Role::Publication && self.entry.hold() == how
    }

    /// An increment is sent, not the whole zone.
    pub fn is_incremental(&self) -> bool {
        self.increment.is_some()
    }

    /// The answer when no turn came in time: SERVFAIL, EDE 0 `busy`; length prefix included.
    pub fn busy(self, now: Timestamp, out: &mut Vec<u8>) {
        self.turned_away(rcode::SERVFAIL, (Ede::Other, "busy"), now, out);
    }

    /// The answer when the zone turned out to be live under another signer while this waited.
    pub fn held(self, now: Timestamp, out: &mut Vec<u8>) {
        self.turned_away(rcode::REFUSED, (Ede::Prohibited, HELD), now, out);
    }

    fn turned_away(mut self, code: u16, why: (Ede, &str), now: Timestamp, out: &mut Vec<u8>) {
        if let Some(opt) = &mut self.opt {
            cascade_wire::edns::push_ede(why.0, why.1, opt);
        }
        let at = out.len();
        out.extend_from_slice(&[0, 0]);
        let mut counts = [1, 0, 0, 0];
        self.head(code, out);
        self.push_opt(out, &mut counts);
        put_counts(out, at + 2, &counts);
        if let Some(tsig) = &mut self.tsig {
            tsig.sign(out, at + 2, now);
        }
        frame::close_frame(out, at);
    }

    fn head(&self, code: u16, out: &mut Vec<u8>) {
        let flags = if code == rcode::NOERROR {
            self.flags | flag::AA
        } else {
            self.flags | code
        };
        out.extend_from_slice(&self.id.to_be_bytes());
        out.extend_from_slice(&flags.to_be_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.qname);
        out.extend_from_slice(&self.qtype.0.to_be_bytes());
        out.extend_from_slice(&self.qclass.to_be_bytes());
    }

    fn push_opt(&self, out: &mut Vec<u8>, counts: &mut [u16; 4]) {
        let Some(opt) = &self.opt else { return };
        out.push(0);
        out.extend_from_slice(&Rtype::OPT.0.to_be_bytes());
        out.extend_from_slice(&(crate::answer::MAX_UDP as u16).to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(opt.len() as u16).to_be_bytes());
        out.extend_from_slice(opt);
        counts[3] += 1;
    }
}

/// What a request for a transfer gets, in the order of the checks.
pub(crate) fn decide(
    r: &mut Responder<'_>,
    entry: &Arc<ZoneEntry>,
    version: &Arc<ZoneVersion>,
    out: &mut Vec<u8>,
) -> Outcome {
    let (request, ctx) = (r.request, r.ctx);
    let settings = entry.settings();
    let allowed = match ctx.role {
        Role::Publication => r.allowed(&settings.provide_xfr_to),
        // On the review servers the query list, which was passed, holds for transfers too.
        _ => true,
    };
    let refuse = |r: &mut Responder<'_>, text: &str, out: &mut Vec<u8>| {
        Outcome::Reply(r.short(rcode::REFUSED, Why::Acl, Some((Ede::Prohibited, text)), out))
    };
    if !allowed {
        return refuse(
            r,
            "transfer is not allowed from this address or with this key",
            out,
        );
    }
    if ctx.role == Role::Publication && entry.hold() == Hold::Refused {
        return refuse(r, HELD, out);
    }
    let udp = ctx.transport == Transport::Udp;
    if request.qtype == Rtype::AXFR && udp {
        // RFC 5936 §4.2.
        let ede = (Ede::NotSupported, "AXFR needs TCP");
        return Outcome::Reply(r.short(rcode::FORMERR, Why::Malformed, Some(ede), out));
    }
    if settings.require_tls && ctx.role == Role::Publication && ctx.transport != Transport::Tls {
        return refuse(r, "transfer needs TLS", out);
    }
    if settings.refuse_tls && ctx.role == Role::Publication && ctx.transport == Transport::Tls {
        return refuse(r, "transfer over TLS is off (server.outbound.tls)", out);
    }
    let client_serial = match request.qtype {
        Rtype::IXFR => match request.authority_serial {
            Some(serial) => Some(Serial(serial)),
            None => {
                let ede = (Ede::Other, "IXFR without SOA in the authority section");
                return Outcome::Reply(r.short(rcode::FORMERR, Why::Malformed, Some(ede), out));
            }
        },
        _ => None,
    };
    let mut increment = None;
    if let Some(client) = client_serial {
        let behind = version.serial().newer_than(client);
        // The review servers show single versions without a past.
        if behind && ctx.role == Role::Publication {
            increment = ixfr::find(entry, client, version);
        }
        // RFC 1995 §2: up to date, or over UDP too old for one message: the current SOA alone.
        if udp || !behind {
            let whole = increment.and_then(|i| ixfr::one_message(r, i, out));
            return Outcome::Reply(whole.unwrap_or_else(|| one_soa(r, version, out)));
        }
    }
    Outcome::Transfer(Box::new(TransferRequest {
        zone: entry.id(),
        entry: entry.clone(),
        version: version.clone(),
        role: ctx.role,
        peer: ctx.peer,
        transport: ctx.transport,
        qtype: request.qtype,
        client_serial,
        increment,
        id: request.header.id,
        flags: flag::QR | request.header.flags & (flag::RD | flag::CD),
        qname: request.qname.to_vec(),
        qclass: request.qclass,
        opt: request.edns.map(|_| r.take_options()),
        tsig: r.tsig.take(),
        tls_name: ctx.tls_name.map(str::to_string),
    }))
}

fn one_soa(
    r: &mut Responder<'_>,
    version: &ZoneVersion,
    out: &mut Vec<u8>,
) -> crate::answer::Reply {
    let mut c = r.open(out, flag::AA);
    let name = version.apex().as_wire();
    // One SOA always fits into 512 octets beside its question: 12 + 259 + 12 + 530 can exceed
    // that only for names near the limit, and is then cut like any other answer.
    let fits = c.record(
        cascade_wire::Section::Answer,
        name,
        Rtype::SOA,
        version.soa_ttl(),
        version.soa(),
    );
    if fits.is_err() {
        c.flags(0, flag::TC);
    }
    r.finish(c, rcode::NOERROR);
    let mut reply = r.reply(rcode::NOERROR, Why::Answered, fits.is_err());
    reply.version = Some((version.zone(), version.id(), version.serial()));
    reply
}

/// Messages prepared ahead: a unit of the store expands to a few of them, and is then read once.
const AHEAD: usize = 16;

/// A transfer being sent: gives one message after the other, each with its two octets of length.
///
/// The zone is read unit by unit. What a unit expands to beyond [`AHEAD`] messages (huge RRsets)
/// is read again from where it stopped, so that memory stays at that many messages.
#[derive(Debug)]
pub struct Transfer {
    request: TransferRequest,
    /// Next unit or chain block to read.
    block: usize,
    /// Records of that block that are in messages already.
    skip: usize,
    state: Stage,
    /// The message given out last.
    current: Draft,
    /// Messages in order; the last one may take more.
    ahead: VecDeque<Draft>,
    /// Emptied ones, for their buffers.
    spare: Vec<Draft>,
    /// Octets kept free for OPT and TSIG.
    reserve: usize,
    sent_first: bool,
    /// Records given out, the SOA at both ends counted.
    pub records: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Records,
    Closing,
    Done,
}

impl Transfer {
    pub fn new(request: TransferRequest) -> Self {
        let reserve = request.tsig.as_ref().map_or(0, ServerTsig::record_len)
            + request.opt.as_ref().map_or(0, |o| 11 + o.len());
        let mut first = Draft::default();
        first.open(&request, true);
        Transfer {
            block: 0,
            skip: 0,
            state: Stage::Records,
            current: Draft::default(),
            ahead: VecDeque::from([first]),
            spare: Vec::new(),
            reserve,
            sent_first: false,
            records: 0,
            request,
        }
    }

    pub fn request(&self) -> &TransferRequest {
        &self.request
    }

    /// The next message with its length in front; `None` after the last.
    pub fn next_message(&mut self, now: Timestamp) -> Option<&[u8]> {
        // A message is complete when another one was begun after it, or nothing follows.
        while self.ahead.len() < 2 && self.state != Stage::Done {
            match self.state {
                Stage::Records => self.read_block(),
                _ => self.close(),
            }
        }
        let next = self.ahead.pop_front().filter(|d| d.count > 0)?;
        self.spare.push(std::mem::replace(&mut self.current, next));
        self.records += self.current.count as u64;
        self.finish_message(now);
        self.sent_first = true;
        Some(&self.current.out)
    }

    /// The closing SOA was given out.
    pub fn is_complete(&self) -> bool {
        self.state == Stage::Done && self.ahead.is_empty()
    }

    fn read_block(&mut self) {
        if self.request.increment.is_some() {
            return self.read_increment();
        }
        let version = self.request.version.clone();
        let (units, blocks) = (version.unit_count(), version.block_count());
        let (apex, reserve) = (version.apex().as_wire(), self.reserve);
        let (skip, mut index, mut stalled) = (self.skip, 0usize, false);
        let Transfer {
            request,
            ahead,
            spare,
            ..
        } = self;
        let mut put = |r: Record<'_>| {
            if index >= skip && !stalled && !push(ahead, spare, request, &r, apex, reserve) {
                stalled = true;
            }
            index += usize::from(!stalled);
        };
        if self.block < units {
            version.unit(self.block).for_each_record(&mut put);
        } else if self.block < units + blocks {
            version.for_each_record_in_block(self.block - units, &mut put);
        } else {
            self.state = Stage::Closing;
            return;
        }
        if stalled {
            self.skip = index;
        } else {
            self.skip = 0;
            self.block += 1;
        }
    }

    /// As many records of an increment as there is room for.
    fn read_increment(&mut self) {
        let Some(mut increment) = self.request.increment.take() else {
            return;
        };
        let version = self.request.version.clone();
        let (apex, reserve) = (version.apex().as_wire(), self.reserve);
        let Transfer {
            request,
            ahead,
            spare,
            ..
        } = self;
        let all = increment.feed(&mut |r| push(ahead, spare, request, r, apex, reserve));
        self.request.increment = Some(increment);
        if all {
            self.state = Stage::Closing;
        }
    }

    fn close(&mut self) {
        let version = self.request.version.clone();
        let apex = version.apex().as_wire();
        let soa = Record {
            owner: apex,
            rtype: Rtype::SOA,
            ttl: version.soa_ttl(),
            rdata: version.soa(),
        };
        push(
            &mut self.ahead,
            &mut self.spare,
            &self.request,
            &soa,
            apex,
            self.reserve,
        );
        self.state = Stage::Done;
    }

    fn finish_message(&mut self, now: Timestamp) {
        let draft = &mut self.current;
        let mut counts = [u16::from(!self.sent_first), draft.count, 0, 0];
        if !self.sent_first {
            self.request.push_opt(&mut draft.out, &mut counts);
        }
        put_counts(&mut draft.out, 2, &counts);
        if let Some(tsig) = &mut self.request.tsig {
            tsig.sign(&mut draft.out, 2, now);
        }
        frame::close_frame(&mut draft.out, 0);
    }
}

/// Puts a record into the last message, or into a new one; `false` when that would be too many.
fn push(
    ahead: &mut VecDeque<Draft>,
    spare: &mut Vec<Draft>,
    request: &TransferRequest,
    r: &Record<'_>,
    apex: &[u8],
    reserve: usize,
) -> bool {
    if ahead.back_mut().is_some_and(|d| d.push(r, apex, reserve)) {
        return true;
    }
    if ahead.len() >= AHEAD {
        return false;
    }
    let mut draft = spare.pop().unwrap_or_default();
    draft.open(request, false);
    // A record fits an empty message: the loader refuses larger ones (Z130).
    draft.push(r, apex, reserve);
    ahead.push_back(draft);
    true
}

fn put_counts(out: &mut [u8], start: usize, counts: &[u16; 4]) {
    for (i, c) in counts.iter().enumerate() {
        let at = start + 4 + 2 * i;
        if let Some(b) = out.get_mut(at..at + 2) {
            b.copy_from_slice(&c.to_be_bytes());
        }
    }
}

/// A message being filled.
#[derive(Debug, Default)]
struct Draft {
    /// Length, then the message.
    out: Vec<u8>,
    count: u16,
    /// Offset in the message of the apex spelled as the zone has it; 0: not there yet.
    apex_at: u16,
    /// The owner of the record before, and its offset.
    owner: Vec<u8>,
    owner_at: u16,
}

impl Draft {
    fn open(&mut self, request: &TransferRequest, first: bool) {
        self.out.clear();
        self.out.reserve(CLOSE_AT + MAX_HEAD);
        self.out.extend_from_slice(&[0, 0]);
        (self.count, self.apex_at, self.owner_at) = (0, 0, 0);
        self.owner.clear();
        if first {
            request.head(rcode::NOERROR, &mut self.out);
            // A pointer to the question would change the letter case of the zone's names.
            if request.qname == request.version.apex().as_wire() && request.qname.len() > 1 {
                self.apex_at = HEADER as u16;
            }
        } else {
            let flags = request.flags | flag::AA;
            self.out.extend_from_slice(&request.id.to_be_bytes());
            self.out.extend_from_slice(&flags.to_be_bytes());
            self.out.extend_from_slice(&[0; 8]);
        }
    }

    /// Appends a record; `false` and nothing written when it does not fit.
    fn push(&mut self, r: &Record<'_>, apex: &[u8], reserve: usize) -> bool {
        let start = self.out.len();
        if self.count == u16::MAX {
            return false;
        }
        if self.owner_at != 0 && self.owner == r.owner && !composer::may_compress(r.rtype) {
            return self.push_as_is(r, reserve);
        }
        let apex_at = self.apex_at;
        self.push_owner(r.owner, apex);
        let mut fixed = [0u8; 10];
        fixed[..2].copy_from_slice(&r.rtype.0.to_be_bytes());
        fixed[2..4].copy_from_slice(&CLASS_IN.to_be_bytes());
        fixed[4..8].copy_from_slice(&r.ttl.to_be_bytes());
        self.out.extend_from_slice(&fixed);
        let rdata_at = self.out.len();
        self.push_rdata(r.rtype, r.rdata, apex);
        let len = (self.out.len() - rdata_at) as u16;
        self.out[rdata_at - 2..rdata_at].copy_from_slice(&len.to_be_bytes());
        let max = if self.count == 0 {
            MAX_MESSAGE
        } else {
            CLOSE_AT
        };
        if self.out.len() - 2 > max - reserve {
            self.out.truncate(start);
            self.apex_at = apex_at;
            self.owner_at = 0;
            return false;
        }
        self.count += 1;
        true
    }

    /// [`Self::push`] of a record whose owner can be pointed to and whose data stays as it is: most
    /// records of a signed zone, in two writes.
    fn push_as_is(&mut self, r: &Record<'_>, reserve: usize) -> bool {
        let len = r.rdata.len();
        if self.out.len() - 2 + 12 + len > CLOSE_AT - reserve {
            self.owner_at = 0;
            return false;
        }
        let mut head = [0u8; 12];
        head[..2].copy_from_slice(&(0xc000 | self.owner_at).to_be_bytes());
        head[2..4].copy_from_slice(&r.rtype.0.to_be_bytes());
        head[4..6].copy_from_slice(&CLASS_IN.to_be_bytes());
        head[6..10].copy_from_slice(&r.ttl.to_be_bytes());
        head[10..].copy_from_slice(&(len as u16).to_be_bytes());
        self.out.extend_from_slice(&head);
        self.out.extend_from_slice(r.rdata);
        self.count += 1;
        true
    }

    fn push_owner(&mut self, owner: &[u8], apex: &[u8]) {
        let here = self.out.len() - 2;
        if self.owner_at != 0 && self.owner == owner {
            self.out
                .extend_from_slice(&(0xc000 | self.owner_at).to_be_bytes());
            return;
        }
        if self.owner_at != 0
            && let Some(keep) = below(owner, &self.owner)
        {
            // Glue below its cut, for one.
            self.out.extend_from_slice(&owner[..keep]);
            self.out
                .extend_from_slice(&(0xc000 | self.owner_at).to_be_bytes());
            self.remember(owner, here);
            return;
        }
        let labels = owner.len().saturating_sub(apex.len());
        if self.apex_at != 0 && owner.ends_with(apex) {
            if labels == 0 {
                self.out
                    .extend_from_slice(&(0xc000 | self.apex_at).to_be_bytes());
                return;
            }
            self.out.extend_from_slice(&owner[..labels]);
            self.out
                .extend_from_slice(&(0xc000 | self.apex_at).to_be_bytes());
        } else {
            self.out.extend_from_slice(owner);
            if here + labels < 0x4000 && owner.ends_with(apex) && apex.len() > 1 {
                self.apex_at = (here + labels) as u16;
            }
        }
        self.remember(owner, here);
    }

    fn remember(&mut self, owner: &[u8], here: usize) {
        // A pointer has 14 bits; farther names are written again.
        self.owner_at = if here < 0x4000 { here as u16 } else { 0 };
        self.owner.clear();
        if self.owner_at != 0 {
            self.owner.extend_from_slice(owner);
        }
    }

    fn push_rdata(&mut self, rtype: Rtype, rdata: &[u8], apex: &[u8]) {
        if !composer::may_compress(rtype) {
            self.out.extend_from_slice(rdata);
            return;
        }
        let mut done = 0;
        let (out, owner) = (&mut self.out, &self.owner);
        let (owner_at, apex_at) = (self.owner_at, self.apex_at);
        canon::for_each_name(rtype, rdata, |range| {
            let name = &rdata[range.clone()];
            let known = [(owner_at, &owner[..]), (apex_at, apex)]
                .into_iter()
                .filter(|(at, _)| *at != 0)
                .find_map(|(at, suffix)| Some((at, below(name, suffix)?)));
            if let Some((at, keep)) = known {
                out.extend_from_slice(&rdata[done..range.start + keep]);
                out.extend_from_slice(&(0xc000 | at).to_be_bytes());
                done = range.end;
            }
        });
        self.out.extend_from_slice(&rdata[done..]);
    }
}

/// Octets of the labels in front of `suffix`, when `name` ends in exactly it on a label boundary.
fn below(name: &[u8], suffix: &[u8]) -> Option<usize> {
    let split = name.len().checked_sub(suffix.len())?;
    if suffix.len() <= 1 || &name[split..] != suffix {
        return None;
    }
    let mut at = 0;
    while at < split {
        at += 1 + name[at] as usize;
    }
    (at == split).then_some(split)
}
