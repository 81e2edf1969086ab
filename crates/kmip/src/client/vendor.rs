//! What servers put up with, by the start of their vendor identification, and what they lack.

use crate::enums::Operation;
use crate::message::MAX_BATCH;
use crate::payload::QueryResponse;

/// Limits that a server does not state itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vendor {
    /// Start of the vendor identification.
    pub prefix: &'static str,
    /// Requests that may be sent before the first is answered.
    pub max_in_flight: usize,
    /// Operations of one request.
    pub max_batch: usize,
    /// How messages begin that say that the token is away: General Failure alone may mean anything.
    pub away: Option<&'static str>,
    /// Takes Digested Data (KMIP 1.4 §4.31).
    pub digests: bool,
    /// Takes one name for both halves of a pair, and makes it the key's own where labels cannot be
    /// changed. Elsewhere names are unique (KMIP 1.4 §3.2).
    pub shared_name: bool,
}

const KNOWN: &[Vendor] = &[
    Vendor {
        prefix: "kmip2pkcs11 ",
        max_in_flight: 8,
        max_batch: MAX_BATCH,
        away: Some("HSM unavailable"),
        digests: true,
        shared_name: true,
    },
    // Takes batches, performs them one after the other, and reads one request at a time.
    Vendor {
        prefix: "PyKMIP ",
        max_in_flight: 1,
        max_batch: 32,
        away: None,
        digests: false,
        shared_name: false,
    },
];

/// Nothing is presumed: one operation, then its answer.
const UNKNOWN: Vendor = Vendor {
    prefix: "",
    max_in_flight: 1,
    max_batch: 1,
    away: None,
    digests: false,
    shared_name: false,
};

impl Vendor {
    pub fn of(identification: &str) -> Vendor {
        let known = KNOWN.iter().find(|v| identification.starts_with(v.prefix));
        *known.unwrap_or(&UNKNOWN)
    }
}

/// Operations that a server lacks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Missing {
    /// Without them the server is of no use.
    pub needed: Vec<Operation>,
    /// Without them something is done by hand.
    pub wanted: Vec<Operation>,
}

/// Compares what a server says it can do with what is asked of it.
pub fn missing_operations(query: &QueryResponse) -> Missing {
    let lacks = |operations: &[Operation]| {
        let mut lacking = operations.to_vec();
        lacking.retain(|o| !query.operations.contains(o));
        lacking
    };
    Missing {
        needed: lacks(&[Operation::CreateKeyPair, Operation::Get, Operation::Sign]),
        wanted: lacks(&[
            Operation::Locate,
            Operation::GetAttributes,
            Operation::ModifyAttribute,
            Operation::Activate,
            Operation::Revoke,
            Operation::Destroy,
        ]),
    }
}
