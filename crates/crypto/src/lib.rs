//! Keys and cryptography: algorithms, DNSKEY and DS records, signing traits, software keys, key files.
//!
//! The crate makes signatures and holds private keys; it decides nothing about when a key is used.
//! Verification of what is published belongs to another crate and another library; the
//! verification here serves only the trial signatures by which keys prove themselves.

pub mod algorithm;
mod der;
pub mod dnskey;
pub mod ds;
pub mod error;
pub mod file_store;
pub mod key_file;
pub mod sign;
pub mod software;
pub mod store;
pub mod verify;
pub mod zonemd;

pub use algorithm::{Algorithm, AlgorithmError, KeySpec};
pub use dnskey::{Dnskey, DnskeyError, Role};
pub use ds::{DigestType, ds_digest, push_ds_rdata};
pub use error::KeyError;
pub use file_store::FileKeyStore;
pub use sign::{
    Batch, Class, Completion, InlineSigner, Input, MAX_BATCH, Mode, QueuedSigner, SignFailure,
    Signatures, SigningKey, Ticket,
};
pub use software::SoftwareKey;
pub use store::{KeyStore, Labelling, NewKey, StoredKey, ZoneRef};
pub use verify::verify;
pub use zonemd::ZonemdHash;

/// Fills `out` from the system's random source.
///
/// # Panics
/// When the kernel has no randomness to give: nothing secret could be made after that.
pub fn random(out: &mut [u8]) {
    aws_lc_rs::rand::fill(out).expect("the kernel's random source answers");
}
