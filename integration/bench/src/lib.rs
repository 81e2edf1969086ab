//! Benchmarks: a generator of registry zones, the floor that cryptography sets, and the stages
//! measured against it; what KMIP adds to a token.
#![allow(
    clippy::disallowed_methods,
    reason = "measuring is reading the clock; this crate is a developer's program"
)]

pub mod bind;
pub mod changes;
pub mod floor;
pub mod generate;
pub mod kmip;
pub mod memory;
pub mod stages;
pub mod table;
pub mod updates;

mod random;
