//! Keys of zones: their durable row, where their private halves are, and what a version is signed
//! with. What becomes of them is decided by `cascade_keys`; here it is carried out.

pub mod bundle;
mod notes;
mod plan;
mod policy;
pub mod report;
mod ring;
mod row;

pub use bundle::Bundle;
pub use notes::{note, wanted_text};
pub use plan::{
    Chain, Loaded, chain, derived_apex, ds_rdata, gate_parent, own_keys, parent_breaks,
    publication, signer_set, signing_keys,
};
pub use policy::{apex_times, digests, key_policy};
pub use ring::{Import, Keyring, Wanted, zone_ref};
pub use row::{KeysRow, Place};
