//! Everything durable: the state database, the audit log, and the files of zones.
//!
//! All file I/O of zone data is here, through [`Disk`], so that a test can stop the process before
//! and after every write, sync and rename. Zones, keys and pipeline values are opaque: a crate above
//! says what they mean.

pub mod audit;
pub mod backup;
pub mod ballast;
pub mod disk;
pub mod error;
pub mod frame;
pub mod journal;
pub mod lineage;
pub mod segment;
pub mod state;
pub mod tail;
pub mod updates;
pub mod version_file;
pub mod zones;

pub use audit::{AuditEntry, AuditFault, AuditLog};
pub use disk::Disk;
pub use error::{ArchiveError, Damage};
pub use frame::{FileHeader, FileKind};
pub use journal::{JournalTail, JournalWriter};
pub use lineage::Writer;
pub use segment::{Fresh, Kept, Recovered, Segment, Want, Writing};
pub use state::{Change, Origin, State, Table};
pub use tail::Tail;
pub use updates::{Logged, MAX_LOG, UpdateLog};
pub use version_file::{PartSource, WholeVersion};
pub use zones::{Check, ZoneFiles};
