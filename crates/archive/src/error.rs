//! What can go wrong with storage, and who must act.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

#[derive(Clone, Debug, Error)]
pub enum ArchiveError {
    /// Nothing was changed that matters: what was half written is removed or ignored.
    #[error("{}: the disk is full; free space or enlarge the file system", path.display())]
    StorageFull { path: PathBuf },
    #[error("{}: {op} failed", path.display())]
    Io {
        op: &'static str,
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("{}: {damage}", path.display())]
    Damaged { path: PathBuf, damage: Damage },
    #[error("{}: written by a newer release (format {found}, this release reads up to {known}); install that release", path.display())]
    Newer {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error("{}: in use by another process; stop the other cascaded first", path.display())]
    InUse { path: PathBuf },
    #[error("{}: the state cannot be opened and no backup can; restore one from your own backup, \
             or move the directory away to start empty", path.display())]
    StateUnusable { path: PathBuf },
    #[error("{}: zone files exist but the state is missing; put state.redb or state.redb.bak-1 \
             back, or move zone-state away to start empty", path.display())]
    StateMissing { path: PathBuf },
    #[error("{}: {op} in the state database failed: {detail}", path.display())]
    State {
        op: &'static str,
        path: PathBuf,
        detail: String,
    },
    #[error("'{key}' in table {table} of the state cannot be read: {detail}")]
    Value {
        table: &'static str,
        key: String,
        detail: String,
    },
    #[error("{}: zones changed during every attempt to copy them; try again when there is less to do", path.display())]
    Changing { path: PathBuf },
    #[error("'{what}' is too large for a file of zones")]
    TooLarge { what: &'static str },
}

/// What is wrong with a file, by what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    #[error("not a zone file of Cascade, or its header is damaged")]
    Header,
    #[error("it belongs to another zone")]
    OtherZone,
    #[error("it holds another version or another kind of data than its name says")]
    WrongVersion,
    /// The end is missing: writing was interrupted.
    #[error("it ends at octet {at} before its end mark: writing was interrupted")]
    Torn { at: u64 },
    /// Unsigned content is affected: the version cannot be used.
    #[error("content is damaged at octet {at}")]
    Content { at: u64 },
    /// Only signatures or denial records are affected: the content can be signed again.
    #[error("signatures are damaged at octet {at}, the content is whole")]
    Signatures { at: u64 },
    /// A journal has whole frames after a damaged one: no interrupted write does that.
    #[error("octet {at} is damaged although good data follows")]
    Corrupt { at: u64 },
    #[error("its end mark does not match what the file holds")]
    Footer,
}

impl ArchiveError {
    pub(crate) fn io(op: &'static str, path: &Path, e: io::Error) -> Self {
        let path = path.to_owned();
        match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ArchiveError::StorageFull { path }
            }
            _ => ArchiveError::Io {
                op,
                path,
                source: Arc::new(e),
            },
        }
    }

    pub(crate) fn damaged(path: &Path, damage: Damage) -> Self {
        ArchiveError::Damaged {
            path: path.to_owned(),
            damage,
        }
    }

    pub fn is_full(&self) -> bool {
        matches!(self, ArchiveError::StorageFull { .. })
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, ArchiveError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
