//! Where the type of what may be published comes from: the gate alone makes it.

pub use cascade_verifier::{Approved, Verified};
