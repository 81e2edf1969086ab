//! Why an answer or a transfer is not taken.

use cascade_wire::{TsigError, WireError};
use cascade_zone::rdata::RdataError;
use cascade_zone::{Name, Rtype, Serial};
use thiserror::Error;

/// What is wrong with what a primary sent. Nothing of the transfer is kept.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum XfrError {
    #[error("malformed message after {records} records: {source}")]
    Malformed { records: u64, source: WireError },
    #[error("an answer to another question: the message ID is not ours")]
    WrongId,
    #[error("not an answer to a query")]
    NotAnAnswer,
    #[error("the answer is for another name, type or class than was asked")]
    WrongQuestion,
    #[error("the first message does not repeat the question (RFC 5936 §2.2.1)")]
    NoQuestion,
    #[error("the message is truncated (TC), which a transfer must not be")]
    Truncated,
    #[error("the server answered {}{}", rcode_text(*.rcode), hint(*.rcode))]
    Rcode { rcode: u16 },
    #[error("the server is not authoritative for the zone (no AA)")]
    NotAuthoritative,
    #[error("there is no SOA record of the zone in the answer")]
    NoSoa,
    #[error("{0}")]
    Tsig(#[from] TsigError),
    #[error("the last message is not signed (RFC 8945 §5.3.1)")]
    UnsignedEnd,
    #[error("a message without records in its answer section")]
    Empty,
    #[error("records outside of the answer section")]
    Section,
    #[error("{rtype} at {owner}: class {class} is not IN")]
    Class {
        owner: Name,
        rtype: Rtype,
        class: u16,
    },
    #[error("{rtype} at {owner} is outside of the zone")]
    OutOfZone { owner: Name, rtype: Rtype },
    #[error("{rtype} at {owner}: {problem}")]
    Rdata {
        owner: Name,
        rtype: Rtype,
        problem: RdataError,
    },
    #[error("{rtype} at {owner}: {octets} octets fit no message (RFC 1035 §4.2.2)")]
    RecordTooLarge {
        owner: Name,
        rtype: Rtype,
        octets: usize,
    },
    #[error("more than {limit} octets (loader.max-size)")]
    TooLarge { limit: u64 },
    #[error("more than {limit} records (loader.max-records)")]
    TooManyRecords { limit: u64 },
    #[error("the first record is not the zone's SOA")]
    FirstNotSoa,
    #[error(
        "another SOA in the middle: the zone begins with serial {first} and this one says {other}"
    )]
    OtherSoa { first: Serial, other: Serial },
    #[error("records follow the closing SOA")]
    AfterEnd,
    #[error("the transfer ended before its closing SOA, after {records} records")]
    Cut { records: u64 },
    #[error("differences begin at serial {got} where ours is {expected}")]
    SequenceStart { expected: Serial, got: Serial },
    #[error("differences lead from serial {from} to {to}, which is not newer (RFC 1982)")]
    SequenceBack { from: Serial, to: Serial },
    #[error("the differences remove {rtype} at {owner}, which we do not have")]
    Absent { owner: Name, rtype: Rtype },
    #[error("the differences add {rtype} at {owner}, which we have already")]
    Present { owner: Name, rtype: Rtype },
    #[error("the differences do not fit the version they are for: {0}")]
    NotApplicable(String),
}

impl XfrError {
    /// The primary says that it does not do what was asked, or not with EDNS (RFC 6891 §7).
    pub fn is_edns_refusal(&self) -> bool {
        use cascade_wire::rcode;
        matches!(self, XfrError::Rcode { rcode } if matches!(*rcode,
            rcode::FORMERR | rcode::NOTIMP | rcode::BADVERS))
    }
}

fn rcode_text(rcode: u16) -> String {
    let known = match rcode {
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        9 => "NOTAUTH",
        16 => "BADVERS",
        23 => "BADCOOKIE",
        n => return format!("with error code {n}"),
    };
    known.to_string()
}

/// What an operator looks at first.
fn hint(rcode: u16) -> &'static str {
    match rcode {
        5 => "; it does not allow the transfer to this address or with this TSIG key",
        9 => "; it does not serve the zone, or does not know the TSIG key",
        2 => "; it cannot serve the zone now",
        _ => "",
    }
}
