//! DNS UPDATE, without I/O: requests read, their prerequisites judged, their changes made edits of
//! an unsigned version (RFC 2136).
//!
//! A zone whose content is its own takes updates; nothing is forwarded. Each request is all or
//! nothing. A [`Batch`] takes several, one after the other, each on what the ones before it left, so
//! that they become one version and one commit. Who may change what is the caller's question,
//! asked through [`Permit`] for every record of the request before anything else is looked at.
//! [`make`] does all of that for a list of requests, with the checks that files have; [`script`]
//! reads requests as people write them.

mod batch;
mod make;
mod read;
pub mod script;
#[cfg(test)]
mod script_tests;
#[cfg(test)]
mod tests;

use cascade_wire::rcode as usual;
use cascade_zone::{Name, Rtype};
use thiserror::Error;

pub use batch::{Batch, Changed};
pub use make::{Asked, Made, Making, make};
pub use read::read;

/// Response codes of RFC 2136 §2.2 that no other message has.
pub mod rcode {
    pub const YXRRSET: u16 = 7;
    pub const NXRRSET: u16 = 8;
    pub const NOTZONE: u16 = 10;
}

/// One RR of a request: key and spelling below the apex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub key: Vec<u8>,
    pub case: Option<Vec<u8>>,
    pub rtype: Rtype,
}

/// What must be so before anything is changed (RFC 2136 §2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prerequisite {
    /// The name has records. An empty non-terminal has none.
    NameInUse(Target),
    NameNotInUse(Target),
    SetExists(Target),
    SetAbsent(Target),
    /// The RRset has exactly these records, whatever their TTL.
    SetIs(Target, Vec<Vec<u8>>),
}

/// One change (RFC 2136 §2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Add {
        at: Target,
        ttl: u32,
        rdata: Vec<u8>,
    },
    DeleteSet(Target),
    /// Every RRset of the name.
    DeleteName(Target),
    DeleteRecord {
        at: Target,
        rdata: Vec<u8>,
    },
}

impl Change {
    pub fn target(&self) -> &Target {
        match self {
            Change::Add { at, .. } | Change::DeleteRecord { at, .. } => at,
            Change::DeleteSet(t) | Change::DeleteName(t) => t,
        }
    }
}

/// A request that is well formed and for our zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    pub prerequisites: Vec<Prerequisite>,
    pub changes: Vec<Change>,
}

/// Who asked may change this; RRSIG, NSEC and what else the signer makes is refused before.
pub trait Permit: Sync {
    /// `rtype`: ANY for the deletion of a whole name.
    fn allows(&self, owner: &Name, rtype: Rtype) -> bool;
}

impl<F: Fn(&Name, Rtype) -> bool + Sync> Permit for F {
    fn allows(&self, owner: &Name, rtype: Rtype) -> bool {
        self(owner, rtype)
    }
}

/// Why a request changes nothing; the variant decides the response code.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    #[error("malformed update: {0}")]
    Malformed(String),
    #[error("the update is for {0}, which is not the zone")]
    OtherZone(String),
    #[error("{0} is outside of the zone")]
    OutOfZone(Name),
    #[error("{rtype} at {owner} may not be changed with this key or from this address")]
    NotPermitted { owner: Name, rtype: Rtype },
    #[error("{rtype} at {owner} is made by the signer and not by updates")]
    SignerOwns { owner: Name, rtype: Rtype },
    #[error("the zone would break a rule: {code}: {message}")]
    Check { code: String, message: String },
    #[error("prerequisite: {0} has no records")]
    NameNotInUse(Name),
    #[error("prerequisite: {0} has records")]
    NameInUse(Name),
    #[error("prerequisite: {rtype} at {owner} is not there, or has other records")]
    NoSet { owner: Name, rtype: Rtype },
    #[error("prerequisite: {rtype} at {owner} is there")]
    Set { owner: Name, rtype: Rtype },
}

impl Refused {
    /// RFC 2136 §2.2.
    pub fn rcode(&self) -> u16 {
        match self {
            Refused::Malformed(_) => usual::FORMERR,
            Refused::OtherZone(_) => usual::NOTAUTH,
            Refused::OutOfZone(_) => rcode::NOTZONE,
            Refused::NotPermitted { .. } | Refused::SignerOwns { .. } | Refused::Check { .. } => {
                usual::REFUSED
            }
            Refused::NameNotInUse(_) => usual::NXDOMAIN,
            Refused::NameInUse(_) => usual::YXDOMAIN,
            Refused::NoSet { .. } => rcode::NXRRSET,
            Refused::Set { .. } => rcode::YXRRSET,
        }
    }
}
