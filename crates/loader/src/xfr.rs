//! Transfers in, without I/O: what is asked, what the answers mean, what becomes of them.
//!
//! Reading order: [`query`] composes the three questions and [`probe`] reads the answer to the SOA
//! one; [`reader`] takes the messages of a transfer one by one and gives a [`Received`] only when it
//! is whole; [`delta`] turns the differences of an IXFR into edits; [`apply`] makes a version of
//! either, with the checks that files have; [`refresh`] says when to ask again.
//!
//! A transfer is worth nothing before its end: the reader hands out no record earlier, so a peer
//! that stops, truncates or fails its signature changes nothing.

pub mod apply;
mod delta;
pub mod error;
mod owners;
pub mod probe;
pub mod query;
pub mod reader;
pub mod refresh;
#[cfg(test)]
pub(crate) mod testkit;
#[cfg(test)]
mod tests;

pub use apply::{XfrRequest, apply, apply_delta};
pub use delta::Delta;
pub use error::XfrError;
pub(crate) use owners::check as check_owners;
pub use probe::{Decision, Probe, ProbeAnswer, decide};
pub use query::{Ask, Query};
pub use reader::{Full, ReadOptions, Reader, Received, Step, Tally};
pub use refresh::{Refresh, RefreshLimits};
