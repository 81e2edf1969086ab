//! Zone transfers out: which form a request gets, and the full zone as ready messages
//! (RFC 5936, RFC 1995).

use std::net::IpAddr;
use std::sync::Arc;

use cascade_time::Timestamp;
use cascade_wire::reader::{CLASS_IN, HEADER};
use cascade_wire::{Ede, ServerTsig, TsigKey, composer, flag, frame, rcode};
use cascade_zone::version::{Record, ZoneVersion};
use cascade_zone::{Rtype, Serial, Sink, ZoneId, canon};

use crate::answer::{Outcome, Responder, Why};
use crate::context::Transport;
use crate::directory::{Hold, Role, ZoneEntry};
use crate::ixfr::{self, Increment};

/// Messages are closed at this size: all of their names can be pointed to (14 bits), which saves
/// more than larger messages would, and on TLS one message with its length is one record.
const CLOSE_AT: usize = 16_384 - 2;
/// A record that is larger than that gets a message of its own up to this size.
const MAX_MESSAGE: usize = 0xffff;

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
    /// The messages take it when they begin; the key stays, for the access list.
    tsig: Option<ServerTsig>,
    key: Option<Arc<TsigKey>>,
    tls_name: Option<String>,
}

impl TransferRequest {
    /// The access list still lets this client transfer (withdrawn access ends
    /// a running transfer at the next messages to be sent).
    pub fn is_allowed(&self, settings: &crate::context::Settings) -> bool {
        let key = self.key.as_ref().map(|k| k.name());
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
        key: r.tsig.as_ref().map(|t| t.key().clone()),
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

/// Octets of messages that are prepared at a time, before one unit more is read.
pub(crate) const BATCH: usize = 256 * 1024;
/// Octets of messages that are held at most. A unit of the store expands to fewer nearly always, and
/// is then read once.
const MAX_HELD: usize = 512 * 1024;

/// A transfer being sent: gives messages, each with its two octets of length.
///
/// The zone is read unit by unit. What a unit expands to beyond [`MAX_HELD`] octets (huge RRsets)
/// is read again from where it stopped, so that memory stays at that much.
#[derive(Debug)]
pub struct Transfer {
    request: TransferRequest,
    /// Next unit or chain block to read.
    block: usize,
    /// Records of that block that are in messages already.
    skip: usize,
    state: Stage,
    messages: Messages,
    /// Octets of the messages that were given out.
    given: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Records,
    Closing,
    Done,
}

impl Transfer {
    pub fn new(mut request: TransferRequest) -> Self {
        Transfer {
            block: 0,
            skip: 0,
            state: Stage::Records,
            messages: Messages::new(&mut request),
            given: 0,
            request,
        }
    }

    pub fn request(&self) -> &TransferRequest {
        &self.request
    }

    /// Records that are in messages, the SOA at both ends counted.
    pub fn records(&self) -> u64 {
        self.messages.records
    }

    /// What is to be sent next: messages back to back, each with its length in front, as far as they
    /// were not [`sent`](Transfer::sent); `None` after the last.
    pub fn unsent(&mut self, now: Timestamp) -> Option<&[u8]> {
        if self.given == self.messages.complete {
            self.fill(now);
        }
        let unsent = &self.messages.out[self.given..self.messages.complete];
        (!unsent.is_empty()).then_some(unsent)
    }

    /// So many octets of it were sent.
    pub fn sent(&mut self, octets: usize) {
        self.given = self.messages.complete.min(self.given + octets);
    }

    /// The next message alone, as sent.
    pub fn next_message(&mut self, now: Timestamp) -> Option<&[u8]> {
        let len = self.unsent(now)?.first_chunk()?;
        let len = 2 + usize::from(u16::from_be_bytes(*len));
        let from = self.given;
        self.sent(len);
        self.messages.out.get(from..self.given)
    }

    /// All messages to the closing SOA were given out.
    pub fn is_complete(&self) -> bool {
        self.state == Stage::Done && self.given == self.messages.complete
    }

    /// Prepares more messages, those before having been given out.
    fn fill(&mut self, now: Timestamp) {
        self.messages.drop_complete();
        self.given = 0;
        while self.messages.complete < BATCH && self.state != Stage::Done {
            match self.state {
                Stage::Records => self.read_block(now),
                _ => self.close(now),
            }
        }
    }

    fn read_block(&mut self, now: Timestamp) {
        if self.request.increment.is_some() {
            return self.read_increment(now);
        }
        let version = &self.request.version;
        let (units, blocks) = (version.unit_count(), version.block_count());
        let mut part = Part {
            messages: &mut self.messages,
            now,
            skip: self.skip,
            index: 0,
            stalled: false,
        };
        if self.block < units {
            version.unit(self.block).expand(&mut part);
        } else if self.block < units + blocks {
            version.expand_block(self.block - units, &mut part);
        } else {
            self.state = Stage::Closing;
            return;
        }
        if part.stalled {
            self.skip = part.index;
        } else {
            self.skip = 0;
            self.block += 1;
        }
    }

    /// As many records of an increment as there is room for.
    fn read_increment(&mut self, now: Timestamp) {
        let Some(mut increment) = self.request.increment.take() else {
            return;
        };
        let messages = &mut self.messages;
        let all = increment.feed(&mut |r| messages.push(r, now));
        self.request.increment = Some(increment);
        if all {
            self.state = Stage::Closing;
        }
    }

    fn close(&mut self, now: Timestamp) {
        let version = &self.request.version;
        let soa = Record {
            owner: version.apex().as_wire(),
            rtype: Rtype::SOA,
            ttl: version.soa_ttl(),
            rdata: version.soa(),
        };
        if self.messages.push(&soa, now) {
            self.messages.end(now);
            self.state = Stage::Done;
        }
    }
}

fn put_counts(out: &mut [u8], start: usize, counts: &[u16; 4]) {
    for (i, c) in counts.iter().enumerate() {
        let at = start + 4 + 2 * i;
        if let Some(b) = out.get_mut(at..at + 2) {
            b.copy_from_slice(&c.to_be_bytes());
        }
    }
}

/// One unit or chain block on its way into messages.
struct Part<'t> {
    messages: &'t mut Messages,
    now: Timestamp,
    /// Records to leave out.
    skip: usize,
    /// Records seen until it stalled.
    index: usize,
    /// There is no room for more.
    stalled: bool,
}

impl Sink for Part<'_> {
    fn owner(&mut self, name: &[u8]) {
        self.messages.owner(name);
    }

    #[inline]
    fn record<const N: usize>(&mut self, rtype: Rtype, ttl: u32, rdata: [&[u8]; N]) {
        if self.stalled {
            return;
        }
        if self.index >= self.skip && !self.messages.record(rtype, ttl, rdata, self.now) {
            self.stalled = true;
            return;
        }
        self.index += 1;
    }
}

/// Messages on their way out.
#[derive(Debug)]
struct Messages {
    /// Each with its length in front, back to back; the last one is being filled.
    out: Vec<u8>,
    /// Octets of those that are complete.
    complete: usize,
    /// Records of the one being filled, and of all.
    count: u16,
    records: u64,
    /// Most octets that the one being filled may have: what is kept free for OPT and TSIG is left
    /// out.
    limit: usize,
    /// What a message begins with, and whether the question follows.
    header: [u8; HEADER],
    is_first: bool,
    opt: Option<Vec<u8>>,
    tsig: Option<ServerTsig>,
    /// Octets for OPT and TSIG.
    reserve: usize,
    names: Names,
}

/// Names that the message being filled can point to.
#[derive(Debug, Default)]
struct Names {
    /// The apex, spelled as the zone has it.
    apex: Vec<u8>,
    /// Its offset in the message; 0: it is not there.
    apex_at: u16,
    /// Owner of the records that come, and its offset; 0: it is to be written, or stands where no
    /// pointer reaches.
    owner: Vec<u8>,
    owner_at: u16,
    /// The same of the last one before that can be pointed to.
    before: Vec<u8>,
    before_at: u16,
}

impl Messages {
    fn new(request: &mut TransferRequest) -> Self {
        let reserve = request.tsig.as_ref().map_or(0, ServerTsig::record_len)
            + request.opt.as_ref().map_or(0, |o| 11 + o.len());
        let mut header = [0; HEADER];
        header[..2].copy_from_slice(&request.id.to_be_bytes());
        header[2..4].copy_from_slice(&(request.flags | flag::AA).to_be_bytes());
        // A small zone needs less.
        let wire = usize::try_from(request.version.sums().wire).unwrap_or(usize::MAX);
        let mut all = Messages {
            out: Vec::with_capacity(wire.min(BATCH + 2 * MAX_MESSAGE)),
            complete: 0,
            count: 0,
            records: 0,
            limit: MAX_MESSAGE - reserve,
            header,
            is_first: true,
            opt: None,
            tsig: request.tsig.take(),
            reserve,
            names: Names::default(),
        };
        let mut opt = Vec::new();
        let mut counts = [0; 4];
        request.push_opt(&mut opt, &mut counts);
        all.opt = (counts[3] > 0).then_some(opt);
        let apex = request.version.apex().as_wire();
        all.names.apex.extend_from_slice(apex);
        all.out.extend_from_slice(&[0, 0]);
        request.head(rcode::NOERROR, &mut all.out);
        // A pointer to the question would change the letter case of the zone's names.
        if request.qname == apex && apex.len() > 1 {
            all.names.apex_at = HEADER as u16;
        }
        all
    }

    /// The records that come are of this owner.
    fn owner(&mut self, name: &[u8]) {
        let names = &mut self.names;
        if names.owner_at != 0 {
            std::mem::swap(&mut names.owner, &mut names.before);
            names.before_at = std::mem::take(&mut names.owner_at);
        }
        names.owner.clear();
        names.owner.extend_from_slice(name);
    }

    fn is_full(&self) -> bool {
        self.complete >= MAX_HELD
    }

    /// Puts a record into the message being filled, or into a new one; `false` when that would be
    /// too many.
    #[inline]
    fn record<const N: usize>(
        &mut self,
        rtype: Rtype,
        ttl: u32,
        rdata: [&[u8]; N],
        now: Timestamp,
    ) -> bool {
        if self.append(rtype, ttl, rdata) {
            return true;
        }
        // A record fits an empty message: the loader refuses larger ones (Z130).
        if self.count > 0 {
            if self.is_full() {
                return false;
            }
            self.end(now);
            self.append(rtype, ttl, rdata);
        }
        true
    }

    fn push(&mut self, r: &Record<'_>, now: Timestamp) -> bool {
        if self.names.owner_at == 0 || self.names.owner != r.owner {
            self.owner(r.owner);
        }
        self.record(r.rtype, r.ttl, [r.rdata], now)
    }

    /// Appends a record to the message being filled; `false` and nothing written when it does not
    /// fit.
    #[inline]
    fn append<const N: usize>(&mut self, rtype: Rtype, ttl: u32, rdata: [&[u8]; N]) -> bool {
        let (out, names) = (&mut self.out, &mut self.names);
        let (start, was) = (out.len(), (names.apex_at, names.owner_at));
        let len: usize = rdata.iter().map(|part| part.len()).sum();
        // The owner as a pointer.
        let mut head = [0u8; 12];
        head[..2].copy_from_slice(&(0xc000 | names.owner_at).to_be_bytes());
        head[2..4].copy_from_slice(&rtype.0.to_be_bytes());
        head[4..6].copy_from_slice(&CLASS_IN.to_be_bytes());
        head[6..10].copy_from_slice(&ttl.to_be_bytes());
        head[10..].copy_from_slice(&(len as u16).to_be_bytes());
        if names.owner_at != 0 {
            out.extend_from_slice(&head);
        } else {
            names.push_owner(start - self.complete - 2, out);
            out.extend_from_slice(&head[2..]);
        }
        match rdata[..] {
            [rdata] if composer::may_compress(rtype) => {
                let at = out.len();
                names.push_rdata(rtype, rdata, out);
                let len = (out.len() - at) as u16;
                out[at - 2..at].copy_from_slice(&len.to_be_bytes());
            }
            _ => rdata.iter().for_each(|part| out.extend_from_slice(part)),
        }
        if out.len() - self.complete - 2 > self.limit || self.count == u16::MAX {
            out.truncate(start);
            (names.apex_at, names.owner_at) = was;
            return false;
        }
        self.limit = CLOSE_AT - self.reserve;
        self.count += 1;
        true
    }

    /// Ends the message being filled and begins the next one.
    fn end(&mut self, now: Timestamp) {
        let start = self.complete;
        let mut counts = [u16::from(self.is_first), self.count, 0, 0];
        if let Some(opt) = self.opt.take() {
            self.out.extend_from_slice(&opt);
            counts[3] = 1;
        }
        put_counts(&mut self.out, start + 2, &counts);
        if let Some(tsig) = &mut self.tsig {
            tsig.sign(&mut self.out, start + 2, now);
        }
        frame::close_frame(&mut self.out, start);
        self.complete = self.out.len();
        self.records += u64::from(self.count);
        (self.count, self.is_first) = (0, false);
        self.limit = MAX_MESSAGE - self.reserve;
        self.out.extend_from_slice(&[0, 0]);
        self.out.extend_from_slice(&self.header);
        self.names.forget();
    }

    /// Makes room: complete messages have been given out.
    fn drop_complete(&mut self) {
        let len = self.out.len() - self.complete;
        self.out.copy_within(self.complete.., 0);
        self.out.truncate(len);
        self.complete = 0;
    }
}

impl Names {
    /// Another message begins.
    fn forget(&mut self) {
        (self.apex_at, self.owner_at, self.before_at) = (0, 0, 0);
    }

    /// Writes the owner, at offset `here` of the message.
    fn push_owner(&mut self, here: usize, out: &mut Vec<u8>) {
        let (owner, apex) = (&self.owner[..], &self.apex[..]);
        let known = match self.before_at {
            0 => None,
            // Glue below its cut, for one.
            at => below(owner, &self.before).map(|keep| (keep, at)),
        };
        let known = known.or_else(|| match self.apex_at {
            0 => None,
            at => below(owner, apex).map(|keep| (keep, at)),
        });
        let mut at = here;
        match known {
            Some((keep, target)) => {
                out.extend_from_slice(&owner[..keep]);
                out.extend_from_slice(&(0xc000 | target).to_be_bytes());
                if keep == 0 {
                    at = target.into();
                }
            }
            None => {
                out.extend_from_slice(owner);
                let labels = owner.len().saturating_sub(apex.len());
                if here + labels < 0x4000 && owner.ends_with(apex) && apex.len() > 1 {
                    self.apex_at = (here + labels) as u16;
                }
            }
        }
        // A pointer has 14 bits; farther names are written again.
        self.owner_at = if at < 0x4000 { at as u16 } else { 0 };
    }

    /// What a name in RDATA can point to: the octets in front of it, and its offset.
    #[inline]
    fn target_of(&self, name: &[u8]) -> Option<(usize, u16)> {
        let owner = |name| match self.owner_at {
            0 => None,
            at => Some((below(name, &self.owner)?, at)),
        };
        match self.apex_at {
            0 => owner(name),
            // What is not below the apex, as most names of servers, is not below the owner.
            at => {
                let keep = below(name, &self.apex)?;
                owner(name).or(Some((keep, at)))
            }
        }
    }

    /// Writes RDATA of a type whose names may be compressed.
    fn push_rdata(&self, rtype: Rtype, rdata: &[u8], out: &mut Vec<u8>) {
        let mut done = 0;
        let mut name_at = |range: std::ops::Range<usize>| {
            if let Some((keep, target)) = self.target_of(&rdata[range.clone()]) {
                out.extend_from_slice(&rdata[done..range.start + keep]);
                out.extend_from_slice(&(0xc000 | target).to_be_bytes());
                done = range.end;
            }
        };
        match rtype {
            // Nothing but a name.
            Rtype::NS | Rtype::CNAME | Rtype::PTR => name_at(0..rdata.len()),
            _ => canon::for_each_name(rtype, rdata, name_at),
        }
        out.extend_from_slice(&rdata[done..]);
    }
}

/// Octets of the labels in front of `suffix`, when `name` ends in exactly it on a label boundary.
fn below(name: &[u8], suffix: &[u8]) -> Option<usize> {
    let split = name.len().checked_sub(suffix.len())?;
    let [.., last, 0] = suffix else {
        return None;
    };
    // Most names differ here.
    if name[name.len() - 2] != *last || name[split] != suffix[0] || &name[split..] != suffix {
        return None;
    }
    let mut at = 0;
    while at < split {
        at += 1 + name[at] as usize;
    }
    (at == split).then_some(split)
}
