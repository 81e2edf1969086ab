//! The NOTIFY message and its answer (RFC 1996 §3).

use std::sync::Arc;

use cascade_time::Timestamp;
use cascade_wire::reader::CLASS_IN;
use cascade_wire::{
    ClientTsig, Composer, Header, Message, Section, TsigError, TsigKey, WireError, flag, opcode,
};
use cascade_zone::{Name, Rtype};
use thiserror::Error;

use crate::answer::MAX_UDP;

/// Appends a NOTIFY with our SOA as a hint; gives what its answer is to be verified with.
pub fn compose(
    apex: &Name,
    soa_ttl: u32,
    soa: &[u8],
    id: u16,
    key: Option<&Arc<TsigKey>>,
    now: Timestamp,
    out: &mut Vec<u8>,
) -> Option<ClientTsig> {
    let mut c = Composer::new(out, MAX_UDP, id, flag::AA | (opcode::NOTIFY as u16) << 11);
    c.question(apex.as_wire(), Rtype::SOA, CLASS_IN);
    // A SOA that does not fit is left out: it is a hint only (RFC 1996 §3.7).
    let _ = c.record(Section::Answer, apex.as_wire(), Rtype::SOA, soa_ttl, soa);
    let _ = c.record_with(
        Section::Additional,
        &[0],
        Rtype::OPT,
        MAX_UDP as u16,
        0,
        |_| {},
    );
    let (out, start) = c.finish();
    key.map(|key| ClientTsig::request(key.clone(), out, start, now))
}

/// Why a message is no answer to our NOTIFY. Such a message changes nothing: whoever sent it, the
/// right answer may still come.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AnswerError {
    #[error("not an answer to this NOTIFY: ID, opcode or question differ")]
    Foreign,
    #[error("the answer to our NOTIFY is malformed")]
    Malformed(#[from] WireError),
    #[error("the signature of the answer to our NOTIFY is not good: {0}")]
    Tsig(#[from] TsigError),
}

/// The response code and whether the answer is truncated.
pub fn check_answer(
    msg: &[u8],
    apex: &Name,
    id: u16,
    tsig: Option<&ClientTsig>,
    now: Timestamp,
) -> Result<(u16, bool), AnswerError> {
    let header = Header::parse(msg).ok_or(WireError::Short)?;
    if header.id != id || !header.has(flag::QR) || header.opcode() != opcode::NOTIFY {
        return Err(AnswerError::Foreign);
    }
    let message = Message::parse(msg)?;
    // Servers that do not know NOTIFY may answer without the question.
    if header.counts[0] != 0 && message.question()? != Some((apex.clone(), Rtype::SOA, CLASS_IN)) {
        return Err(AnswerError::Foreign);
    }
    if let Some(tsig) = tsig {
        tsig.clone().verify(msg, now)?;
    }
    Ok((header.rcode(), header.has(flag::TC)))
}
