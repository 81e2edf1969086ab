//! Benchmarks: a generator of registry zones, the floor that cryptography sets, and the stages
//! measured against it; what KMIP, bridge and daemon add to a token; what a daemon with many zones
//! needs.
#![allow(
    clippy::disallowed_methods,
    reason = "measuring is reading the clock; this crate is a developer's program"
)]

pub mod axfr_client;
pub mod changes;
pub mod daemon;
pub mod floor;
pub mod generate;
pub mod hsm;
pub mod ixfr;
pub mod kmip;
pub mod memory;
pub mod peers;
pub mod question;
pub mod stages;
pub mod table;
pub mod updates;
pub mod zones;

mod random;
