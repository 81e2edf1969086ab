//! The answer to a SOA question, and what follows from it.

use cascade_time::Timestamp;
use cascade_wire::edns::option;
use cascade_wire::reader::CLASS_IN;
use cascade_wire::{Edns, Header, Message, WireError, flag, opcode};
use cascade_zone::rdata::check_wire;
use cascade_zone::{Name, Rtype, Serial, SoaFields};

use super::error::XfrError;
use super::query::Query;

/// What a primary has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub serial: Serial,
    pub ttl: u32,
    pub soa: Vec<u8>,
    /// Seconds until the primary's own copy expires, when it said so (RFC 7314).
    pub expire: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAnswer {
    Soa(Probe),
    /// It did not fit: ask over TCP.
    Truncated,
}

impl Query {
    /// Reads an answer to a SOA question. Over UDP an error means that the datagram is not the
    /// answer: the caller goes on waiting for it until its time is over (RFC 8945 §5.3).
    ///
    /// # Errors
    /// Says what is wrong with the answer.
    pub fn probe(&self, msg: &[u8], now: Timestamp) -> Result<ProbeAnswer, XfrError> {
        let malformed = |source| XfrError::Malformed { records: 0, source };
        let message = Message::parse(msg).map_err(malformed)?;
        let header = message.header;
        check_header(&header, self.id)?;
        let question = message.question().map_err(malformed)?;
        let verified = match self.tsig.clone() {
            Some(mut tsig) => tsig.verify(msg, now).map(|_| ()),
            None => Ok(()),
        };
        refused(&message, &verified)?;
        verified?;
        if !is_question(question.as_ref(), self) {
            return Err(XfrError::WrongQuestion);
        }
        if header.has(flag::TC) {
            return Ok(ProbeAnswer::Truncated);
        }
        if !header.has(flag::AA) {
            return Err(XfrError::NotAuthoritative);
        }
        self.soa_of(&message).map(ProbeAnswer::Soa)
    }

    fn soa_of(&self, message: &Message<'_>) -> Result<Probe, XfrError> {
        let malformed = |source| XfrError::Malformed { records: 0, source };
        let mut found: Option<Probe> = None;
        let mut expire = None;
        for record in message.records() {
            let record = record.map_err(malformed)?;
            if record.section == 3 && record.rtype == Rtype::OPT {
                let edns = Edns::from_record(&record).map_err(malformed)?;
                if !self.cookie_is_ours(&edns) {
                    return Err(XfrError::WrongId);
                }
                expire = edns
                    .option(option::EXPIRE)
                    .and_then(|d| <[u8; 4]>::try_from(d).ok())
                    .map(u32::from_be_bytes);
            }
            if record.section != 1 || record.rtype != Rtype::SOA || record.class != CLASS_IN {
                continue;
            }
            let owner = record.owner().map_err(malformed)?;
            if owner.to_lowercase() != self.apex.to_lowercase() {
                continue;
            }
            let mut soa = Vec::new();
            record.push_rdata(&mut soa).map_err(malformed)?;
            check_wire(Rtype::SOA, &soa).map_err(|problem| XfrError::Rdata {
                owner,
                rtype: Rtype::SOA,
                problem,
            })?;
            let serial = SoaFields::parse(&soa).map(|s| s.serial);
            if found.is_some() {
                // Two SOA records are no answer.
                return Err(XfrError::NoSoa);
            }
            found = serial.map(|serial| Probe {
                serial,
                ttl: record.ttl,
                soa,
                expire: None,
            });
        }
        let found = found.ok_or(XfrError::NoSoa)?;
        Ok(Probe { expire, ..found })
    }

    /// RFC 7873 §5.3: an answer with a cookie that does not begin with ours is not for us.
    fn cookie_is_ours(&self, edns: &Edns<'_>) -> bool {
        match (self.cookie, edns.option(option::COOKIE)) {
            (Some(ours), Some(theirs)) => theirs.starts_with(&ours),
            _ => true,
        }
    }
}

pub(super) fn check_header(header: &Header, id: u16) -> Result<(), XfrError> {
    if header.id != id {
        return Err(XfrError::WrongId);
    }
    if !header.has(flag::QR) || header.opcode() != opcode::QUERY {
        return Err(XfrError::NotAnAnswer);
    }
    Ok(())
}

/// An error code of the server. What TSIG says of it comes first: it knows the reason better.
pub(super) fn refused(
    message: &Message<'_>,
    verified: &Result<(), cascade_wire::TsigError>,
) -> Result<(), XfrError> {
    let mut rcode = message.header.rcode();
    for record in message.records() {
        let Ok(record) = record else { break };
        if record.section == 3
            && record.rtype == Rtype::OPT
            && let Ok(edns) = Edns::from_record(&record)
        {
            rcode |= u16::from(edns.ext_rcode) << 4;
        }
    }
    match (rcode, verified) {
        (_, Err(e @ cascade_wire::TsigError::Server(_))) => Err(XfrError::Tsig(*e)),
        (0, _) => Ok(()),
        (rcode, _) => Err(XfrError::Rcode { rcode }),
    }
}

pub(super) fn is_question(question: Option<&(Name, Rtype, u16)>, query: &Query) -> bool {
    question.is_some_and(|(name, qtype, qclass)| {
        *qtype == query.qtype
            && *qclass == CLASS_IN
            && name.to_lowercase() == query.apex.to_lowercase()
    })
}

impl From<WireError> for XfrError {
    fn from(source: WireError) -> Self {
        XfrError::Malformed { records: 0, source }
    }
}

/// What a primary's serial means for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Transfer,
    UpToDate,
    /// Lower than ours, or not comparable (RFC 1982 §3.2).
    WentBack,
}

/// Compares the primary's serial with that of our newest content of it, never with a signed one.
pub fn decide(theirs: Serial, ours: Option<Serial>) -> Decision {
    match ours {
        None => Decision::Transfer,
        Some(c) if theirs == c => Decision::UpToDate,
        Some(c) if theirs.newer_than(c) => Decision::Transfer,
        Some(_) => Decision::WentBack,
    }
}
