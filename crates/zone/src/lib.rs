//! The zone store: names in canonical order, RRsets, immutable versions that share what is equal.
//!
//! Everything that holds, compares or walks zone data is here. The crate knows names, RRsets,
//! versions and diffs; it knows no keys, clocks, sockets or policy.

pub mod canon;
pub mod id;
pub mod key;
pub mod name;
pub mod rdata;
pub mod rtype;

pub use id::{KeyId, Serial, VersionId, ZoneId};
pub use name::{Name, NameError};
pub use rtype::Rtype;
