//! Which release wrote a state, and whether what was opened is a copy of another one.
//!
//! A release copies the state of another before it touches it; a state that comes from a copy may
//! be behind what other servers have been shown since.

use redb::{TableDefinition, TableError};

use crate::error::ArchiveError;
use crate::state::{Change, META, SCHEMA, State};

const ABOUT: TableDefinition<'static, &str, &str> = TableDefinition::new("about");
const RELEASE: &str = "release";
/// Set in a copy, until whoever opens it has seen to what that means.
const COPY: &str = "copy";
/// States of schema 1 do not say who wrote them: it was what became this release.
const FIRST_RELEASE: &str = "0.1.0-pre";

/// Who wrote a state last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    pub schema: u32,
    pub release: String,
}

impl State {
    /// `None`: it was just made.
    pub fn writer(&self) -> Result<Option<Writer>, ArchiveError> {
        let read = || -> Result<(u32, Option<String>), redb::Error> {
            let tx = self.inner.read_tx()?;
            let meta = tx.open_table(META)?;
            let schema = meta.get("schema")?.map_or(0, |v| v.value());
            let release = match tx.open_table(ABOUT) {
                Ok(about) => about.get(RELEASE)?.map(|v| v.value().to_owned()),
                Err(TableError::TableDoesNotExist(_)) => None,
                Err(e) => return Err(e.into()),
            };
            Ok((schema, release))
        };
        let (schema, release) = read().map_err(|e| self.err("read", e))?;
        let release = match release {
            Some(release) => release,
            None if schema < 2 => FIRST_RELEASE.to_owned(),
            None => return Ok(None),
        };
        Ok(Some(Writer { schema, release }))
    }

    /// Brings the layout up to date and says who writes from now on, both or neither.
    pub fn take_over(&self, release: &str) -> Result<(), ArchiveError> {
        let write = || -> Result<(), redb::Error> {
            let tx = self.inner.write_tx()?;
            tx.open_table(META)?.insert("schema", SCHEMA)?;
            tx.open_table(ABOUT)?.insert(RELEASE, release)?;
            tx.commit()?;
            Ok(())
        };
        write().map_err(|e| self.err("take over", e))
    }

    /// It was restored from a backup, of whatever kind, and nobody has yet said that this was
    /// seen to ([`State::settle_copy`]).
    pub fn is_copy(&self) -> Result<bool, ArchiveError> {
        let read = || -> Result<bool, redb::Error> {
            let tx = self.inner.read_tx()?;
            Ok(tx.open_table(META)?.get(COPY)?.is_some())
        };
        read().map_err(|e| self.err("read", e))
    }

    /// From now on it is the state itself: these changes and the mark's end, together.
    pub fn settle_copy(&self, changes: &[Change]) -> Result<(), ArchiveError> {
        let begin = self.inner.write_tx();
        let tx = begin.map_err(|e| self.err("begin", e))?;
        self.inner.apply(&tx, changes.iter())?;
        let unmark = || -> Result<(), redb::Error> {
            tx.open_table(META)?.remove(COPY)?;
            Ok(())
        };
        unmark().map_err(|e| self.err("write", e))?;
        tx.commit().map_err(|e| self.err("commit", e))
    }

    pub(crate) fn lineage_for_copy(&self) -> Result<Lineage, ArchiveError> {
        Ok(Lineage(self.writer()?))
    }
}

/// What a copy says of itself.
pub(crate) struct Lineage(Option<Writer>);

impl Lineage {
    /// The writer is still the one of what was copied, and so is the layout: the release that wrote
    /// it can read the copy.
    pub(crate) fn write(&self, tx: &redb::WriteTransaction) -> Result<(), redb::Error> {
        let mut meta = tx.open_table(META)?;
        meta.insert(COPY, 1)?;
        if let Some(writer) = &self.0 {
            meta.insert("schema", writer.schema)?;
            tx.open_table(ABOUT)?
                .insert(RELEASE, writer.release.as_str())?;
        }
        Ok(())
    }
}

/// Of a state that begins.
pub(crate) fn create(tx: &redb::WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(META)?.insert("schema", SCHEMA)?;
    tx.open_table(ABOUT)?;
    Ok(())
}
