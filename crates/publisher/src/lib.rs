//! The DNS servers: authoritative answers, transfers out, NOTIFY in and out.
//!
//! One server code; a role differs only in slot, access list and what it may do. Everything is
//! answered from one zone version taken once per query or transfer.

pub mod answer;
mod approved;
pub mod axfr;
mod candidate;
pub mod context;
pub mod directory;
mod ixfr;
pub mod limits;
mod lookup;
pub mod notify;
mod peers;
mod proof;
pub mod server;
pub mod stats;
pub mod steps;
pub mod update;
pub mod watch;

pub use answer::{Outcome, Reply, Scratch, answer};
pub use approved::{Approved, Verified};
pub use axfr::{Transfer, TransferRequest};
pub use candidate::Candidate;
pub use context::{QueryContext, Settings, Transport};
pub use directory::{Directory, EmptyReason, Hold, PublishError, Role, ZoneEntry, ZoneSettings};
pub use notify::NotifyIn;
pub use stats::{Counter, Stats};
pub use steps::{Step, StepLimits, Steps};
pub use update::{UpdateIn, UpdateReply};

#[cfg(test)]
mod axfr_tests;
#[cfg(test)]
mod ixfr_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod validate;
