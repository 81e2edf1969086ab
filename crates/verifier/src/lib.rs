//! The verification gate: judges a signed zone version independently of the signer.
//!
//! One question: would a validating resolver and a conforming secondary accept everything that this
//! version says, and is it the content that was approved? The only thing the publisher takes is
//! [`Approved<Verified<V>>`](Approved), and only this crate can make a [`Verified`].
//!
//! Independence: names, canonical forms, bitmaps, hashing, preimages and cryptography (ring, and
//! tables for many signatures by one P-256 key that ring keeps an eye on) are this crate's own. Of the zone store it uses ids and the reader, behind [`Source`].

mod affected;
mod answers;
mod apex;
mod changed;
mod content;
mod context;
mod delta;
mod denial;
mod denial_changed;
mod engine;
mod finding;
mod full;
mod group;
mod keys;
mod ledger;
mod memo;
mod message;
mod outcome;
mod owner;
mod p256;
mod params;
mod proof;
mod rdata;
mod rrsig;
mod source;
mod store;
mod unsigned;
mod wire;
mod zonemd;

#[cfg(test)]
extern crate self as cascade_verifier;

use cascade_time::Timestamp;

pub use answers::Answers;
pub use changed::Predecessor;
pub use delta::Delta;
pub use engine::{Engine, EngineCounts};
pub use finding::{
    Check, Counts, FINDINGS_KEPT, Finding, KeyCounts, Mode, Severity, Verdict, VerifyReport,
};
pub use ledger::{CoverRow, DenialState, Ledger, Numbers, Octets};
pub use outcome::{
    Approval, Approved, DespiteVerification, NotReadmitted, Outcome, Refused, Verified, readmit,
};
pub use params::{DenialPolicy, OwnKey, Params, Parent};
pub use source::{BadRecord, Claims, RecordList, Rr, Source};
pub use store::{StoreDelta, fingerprint_seed};

/// Full mode: judges every record of `version`. Runs on the current rayon pool.
pub fn verify_full<V: Source>(version: V, params: &Params<'_>, now: Timestamp) -> Outcome<V> {
    if params.unsigned {
        let judged = unsigned::run(&version, params, now);
        return Outcome::without_ledger(version, judged);
    }
    let judged = engine::with(params.engine, |e| full::run(&version, params, e, now));
    Outcome::of(version, judged)
}

/// Changed mode: judges `version` by its difference from a verified predecessor.
///
/// Falls back to full mode, and says so in the report, when the ledger is not that of the
/// predecessor or the kind, parameters or TTL of denial of existence changed.
pub fn verify_changed<V: Source>(
    version: V,
    predecessor: &Predecessor<'_>,
    params: &Params<'_>,
    now: Timestamp,
) -> Outcome<V> {
    if params.unsigned {
        return verify_full(version, params, now);
    }
    let judged = engine::with(params.engine, |e| {
        changed::run(&version, predecessor, params, e, now)
    });
    Outcome::of(version, judged)
}

/// File mode: judges the records of a signed zone file.
///
/// # Errors
/// When a record cannot even be held: its owner is no name.
pub fn verify_records<'r>(
    apex: &[u8],
    records: impl IntoIterator<Item = Rr<'r>>,
    params: &Params<'_>,
    now: Timestamp,
) -> Result<Outcome<RecordList>, BadRecord> {
    Ok(verify_full(RecordList::new(apex, records)?, params, now))
}
