//! The zone store: names in canonical order, RRsets, immutable versions that share what is equal.
//!
//! Everything that holds, compares or walks zone data is here. The crate knows names, RRsets,
//! versions and diffs; it knows no keys, clocks, sockets or policy.
//!
//! Reading order: [`name`] and [`key`] (what a name is and how it sorts), [`rtype`] and [`canon`]
//! (types and canonical RDATA), [`leaf`], [`sidecar`], [`block`], [`pool`] (the immutable bytes),
//! [`tree`] (how they hang together), [`version`] (one state of a zone), [`expand`] (its records), then
//! what is done with them: [`build`], [`sign`], [`patch`], [`update`], [`diff`], [`denial`], [`parts`], [`replay`],
//! [`audit`].

pub mod audit;
pub mod block;
pub mod build;
pub mod canon;
mod codec;
pub mod compare;
mod delta;
pub mod denial;
pub mod diff;
pub mod expand;
pub mod fingerprint;
pub mod id;
pub mod key;
pub mod leaf;
pub mod name;
pub mod parts;
pub mod patch;
pub mod pool;
pub mod rdata;
pub mod replay;
pub mod rtype;
mod settle;
pub mod sidecar;
pub mod sign;
pub mod slots;
mod splice;
mod sums;
pub mod tree;
pub mod update;
pub mod version;

pub use block::{Bitmaps, BlockBuilder, BlockRef, ChainContext, Hash, Nsec3Params};
pub use build::{
    Above, BatchFull, BuildError, Builder, Built, Inspector, OwnerGroup, RawRecord, RecordBatch,
};
pub use compare::{Compared, compare};
pub use denial::{Chain, Denial, Row};
pub use diff::{DiffItem, DiffPart, DiffStats, diff, diff_parts, diff_stats, diff_until};
pub use expand::Sink;
pub use fingerprint::Fingerprint;
pub use id::{KeyId, Serial, VersionId, ZoneId};
pub use leaf::Flags;
pub use name::{Name, NameError};
pub use patch::{Alignment, OwnersFrom, Run};
pub use replay::Replay;
pub use rtype::Rtype;
pub use sidecar::NSEC_SET;
pub use sign::{Draft, SetSpec, Sidecar, SidecarBuilder};
pub use slots::{KeySlot, KeyTable, TableFull};
pub use sums::LeafSums;
pub use update::{Edit, Effort, OwnerChange, Update};
pub use version::{Closest, Owner, RRset, Record, Sig, SoaFields, Unit, ZoneVersion};
