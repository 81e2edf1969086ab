//! The state database: values by key in typed tables, and the history of each zone.
//!
//! Values are JSON; what they mean is for the crates above. All changes of one transition go into
//! one commit; commits that wait for the disk at the same time share its sync.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use cascade_zone::ZoneId;
use rayon::prelude::*;
use redb::{
    Database, DatabaseError, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    TableDefinition, TableError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ballast::Ballast;
use crate::disk::{Disk, MODE_STATE, temporary};
use crate::error::ArchiveError;
use crate::lineage::Lineage;
use crate::zones::free_name;

/// Version of the tables' layout. 2: the state says which release wrote it ([`crate::lineage`]).
/// 3: it has ends of journals ([`crate::tail`]). 4: rows of keys have short names (cascade-keys,
/// `stored.rs`), which earlier releases cannot read.
pub const SCHEMA: u32 = 4;
/// The oldest layout that is still read; [`State::take_over`] brings it up to date.
pub const OLDEST_SCHEMA: u32 = 1;
/// Octets of the database that are kept in memory; the kernel keeps more.
const CACHE: usize = 32 << 20;
/// From so many entries on, values are decoded by several threads.
const PARALLEL: usize = 64;
/// Backups kept: `.bak-1` is the newest.
pub const BACKUPS: u32 = 3;

macro_rules! tables {
    ($($t:ident $name:literal $doc:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Table { $(#[doc = $doc] $t,)* }

        impl Table {
            pub const ALL: &'static [Table] = &[$(Table::$t,)*];

            pub fn name(self) -> &'static str {
                match self { $(Table::$t => $name,)* }
            }
        }
    };
}

tables! {
    Zones "zones" "Zone id -> the zone's durable value with its positions.";
    Names "names" "Zone name -> zone id.";
    Policies "policies" "Policy name -> text and revision.";
    Keys "keys" "Zone id -> what the key manager knows.";
    TsigKeys "tsig-keys" "TSIG key name -> key.";
    Hsms "hsms" "HSM name -> its configuration.";
    Tokens "tokens" "API token name -> role and digest.";
    Serials "serials" "Zone name -> highest serial ever shown by a zone that was removed.";
    Tails "tails" "Zone id, journal and offset -> octets there that may not be synced.";
    Settings "settings" "Everything else of the daemon.";
}

const HISTORY: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("history");
pub(crate) const META: TableDefinition<'static, &str, u32> = TableDefinition::new("meta");

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put {
        table: Table,
        key: String,
        value: Vec<u8>,
    },
    Delete {
        table: Table,
        key: String,
    },
    /// Appends to a zone's history and drops what is older than the last `keep` numbers.
    History {
        zone: ZoneId,
        seq: u64,
        entry: Vec<u8>,
        keep: u64,
    },
    DropHistory {
        zone: ZoneId,
    },
}

impl Change {
    pub fn put<T: Serialize>(table: Table, key: &str, value: &T) -> Result<Change, ArchiveError> {
        Ok(Change::Put {
            table,
            key: key.to_owned(),
            value: encode(table, key, value)?,
        })
    }

    pub fn history<T: Serialize>(
        zone: ZoneId,
        seq: u64,
        entry: &T,
        keep: u64,
    ) -> Result<Change, ArchiveError> {
        let entry = serde_json::to_vec(entry).map_err(|e| ArchiveError::Value {
            table: "history",
            key: seq.to_string(),
            detail: e.to_string(),
        })?;
        Ok(Change::History {
            zone,
            seq,
            entry,
            keep,
        })
    }
}

/// Where the state that was opened comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// There was nothing: a new installation.
    New,
    Existing,
    /// Parts of it were damaged; it was taken back to the last commit that is whole.
    Repaired,
    /// The state could not be opened; this backup was. Every zone is to be treated as recovered
    /// from a backup. The damaged file is kept under this name.
    Backup {
        from: PathBuf,
        damaged: Option<PathBuf>,
    },
}

pub struct State {
    pub(crate) inner: Arc<Inner>,
    writer: Option<JoinHandle<()>>,
}

/// What callers and the writer share.
pub(crate) struct Inner {
    /// `None` while it could not be opened again after the disk had failed.
    db: RwLock<Option<Database>>,
    ballast: Ballast,
    full: AtomicBool,
    path: PathBuf,
    disk: Disk,
    queue: Mutex<Queue>,
    turn: Condvar,
}

type Done = Box<dyn FnOnce(Result<(), ArchiveError>) + Send>;

/// Commits that wait: the writer takes all that there are and syncs once for them.
#[derive(Default)]
struct Queue {
    waiting: Vec<(Vec<Change>, Done)>,
    /// No more will come.
    stop: bool,
}

impl State {
    /// Opens `root/state.redb`. Never creates an empty one where there was one before.
    pub fn open(disk: &Disk, root: &Path) -> Result<(State, Origin), ArchiveError> {
        disk.make_dir(root)?;
        let path = root.join("state.redb");
        let (db, origin) = if path.exists() {
            match open_db(&path) {
                Ok((db, true)) => (db, Origin::Existing),
                Ok((db, false)) => (db, Origin::Repaired),
                Err(Unopened::Error(e)) => return Err(e),
                Err(Unopened::Damaged) => from_backup(disk, &path, true)?,
            }
        } else if backups(&path).iter().any(|p| p.exists()) {
            from_backup(disk, &path, false)?
        } else if disk.list(&root.join("zone-state"))?.is_empty() {
            (create_db(disk, &path)?, Origin::New)
        } else {
            return Err(ArchiveError::StateMissing { path });
        };
        let inner = Arc::new(Inner {
            db: RwLock::new(Some(db)),
            ballast: Ballast::new(disk, root),
            full: AtomicBool::new(false),
            path: path.clone(),
            disk: disk.clone(),
            queue: Mutex::new(Queue::default()),
            turn: Condvar::new(),
        });
        let of_writer = inner.clone();
        let writer = std::thread::Builder::new()
            .name("state".into())
            .spawn(move || of_writer.write_all())
            .map_err(|e| ArchiveError::io("start the writer of", &path, e))?;
        let state = State {
            inner,
            writer: Some(writer),
        };
        Ok((state, origin))
    }

    /// Makes all changes durable together. When this returns they are; on an error none is.
    /// Calls from several threads share one write.
    pub fn commit(&self, changes: Vec<Change>) -> Result<(), ArchiveError> {
        let (tx, rx) = std::sync::mpsc::sync_channel(1);
        self.submit(changes, move |result| _ = tx.send(result));
        rx.recv().unwrap_or_else(|_| Err(self.inner.gone()))
    }

    /// The same without waiting: `done` is called by the writer, and must be quick.
    pub fn submit(
        &self,
        changes: Vec<Change>,
        done: impl FnOnce(Result<(), ArchiveError>) + Send + 'static,
    ) {
        let mut q = self.inner.lock();
        q.waiting.push((changes, Box::new(done)));
        drop(q);
        self.inner.turn.notify_one();
    }

    /// All of a table whose values are not JSON.
    pub(crate) fn raw(&self, table: Table) -> Result<Vec<(String, Vec<u8>)>, ArchiveError> {
        let read = || -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
            let mut out = Vec::new();
            let tx = self.inner.read_tx()?;
            let Some(t) = table_of(&tx, table)? else {
                return Ok(out);
            };
            for entry in t.iter()? {
                let (k, v) = entry?;
                out.push((k.value().to_owned(), v.value().to_owned()));
            }
            Ok(out)
        };
        read().map_err(|e| self.err("read", e))
    }

    /// Tells that the disk has no room, whoever found out: the reserve is given back.
    ///
    /// # Errors
    /// The reserve cannot be removed.
    pub fn note_full(&self) -> Result<(), ArchiveError> {
        self.inner.full.store(true, Ordering::SeqCst);
        self.inner.ballast.release().map(drop)
    }

    /// The disk had no room when something was written last.
    pub fn is_full(&self) -> bool {
        self.inner.full.load(Ordering::SeqCst)
    }

    /// Looks whether there is plenty of room, and keeps a reserve of it; true: there is, and the
    /// disk no longer counts as full.
    ///
    /// # Errors
    /// As [`Ballast::restore`].
    pub fn look_for_room(&self) -> Result<bool, ArchiveError> {
        let room = self.inner.ballast.restore()?;
        if room {
            self.inner.full.store(false, Ordering::SeqCst);
        }
        Ok(room)
    }

    pub fn get<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &str,
    ) -> Result<Option<T>, ArchiveError> {
        let db = self.inner.db();
        let tx = self.inner.begin_read(&db)?;
        let Some(t) = table_of(&tx, table).map_err(|e| self.err("read", e))? else {
            return Ok(None);
        };
        let value = t.get(key).map_err(|e| self.err("read", e))?;
        value.map(|v| decode(table, key, v.value())).transpose()
    }

    /// Entries with keys after `after`, in order of keys, at most `limit`. Many are decoded on all
    /// threads of the current rayon pool.
    pub fn list<T: DeserializeOwned + Send>(
        &self,
        table: Table,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, T)>, ArchiveError> {
        use std::ops::Bound;
        let db = self.inner.db();
        let tx = self.inner.begin_read(&db)?;
        let Some(t) = table_of(&tx, table).map_err(|e| self.err("read", e))? else {
            return Ok(Vec::new());
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = t
            .range::<&str>((from, Bound::Unbounded))
            .map_err(|e| self.err("read", e))?;
        let mut raw: Vec<(String, Vec<u8>)> = Vec::new();
        for entry in range.take(limit) {
            let (k, v) = entry.map_err(|e| self.err("read", e))?;
            raw.push((k.value().to_owned(), v.value().to_owned()));
        }
        let one = |(key, value): (String, Vec<u8>)| {
            let value = decode(table, &key, &value)?;
            Ok((key, value))
        };
        match raw.len() < PARALLEL {
            true => raw.into_iter().map(one).collect(),
            false => raw.into_par_iter().with_min_len(16).map(one).collect(),
        }
    }

    /// History of a zone, newest first: entries with numbers below `before`, at most `limit`.
    pub fn history<T: DeserializeOwned>(
        &self,
        zone: ZoneId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, T)>, ArchiveError> {
        let db = self.inner.db();
        let tx = self.inner.begin_read(&db)?;
        let t = tx.open_table(HISTORY).map_err(|e| self.err("read", e))?;
        let (from, to) = (
            history_key(zone, 0),
            history_key(zone, before.unwrap_or(u64::MAX)),
        );
        let range = t
            .range::<&[u8]>(&from[..]..&to[..])
            .map_err(|e| self.err("read", e))?;
        let mut out = Vec::new();
        for entry in range.rev().take(limit) {
            let (k, v) = entry.map_err(|e| self.err("read", e))?;
            let seq = k
                .value()
                .last_chunk::<8>()
                .map_or(0, |b| u64::from_be_bytes(*b));
            let value = serde_json::from_slice(v.value()).map_err(|e| ArchiveError::Value {
                table: "history",
                key: seq.to_string(),
                detail: e.to_string(),
            })?;
            out.push((seq, value));
        }
        Ok(out)
    }

    /// A consistent copy as it is now, durable under `to`; an older file of that name is replaced
    /// only when the new one is complete.
    pub fn backup_to(&self, to: &Path) -> Result<(), ArchiveError> {
        let tmp = temporary(to);
        self.inner.disk.remove(&tmp)?;
        let copied = self
            .inner
            .copy_into(&tmp, &self.lineage_for_copy()?)
            .and_then(|()| self.inner.disk.rename(&tmp, to));
        if copied.is_err() {
            let _ = self.inner.disk.remove(&tmp);
        }
        copied
    }

    /// The hourly copy: `.bak-1` is the new one, older ones move on, the oldest goes.
    pub fn rotate_backup(&self) -> Result<(), ArchiveError> {
        let names = backups(&self.inner.path);
        let fresh = temporary(&self.inner.path.with_extension("redb.bak"));
        self.backup_to(&fresh)?;
        for pair in names.windows(2).rev() {
            if let [newer, older] = pair
                && newer.exists()
            {
                self.inner.disk.rename(newer, older)?;
            }
        }
        match names.first() {
            Some(first) => self.inner.disk.rename(&fresh, first),
            None => Ok(()),
        }
    }

    pub(crate) fn err(&self, op: &'static str, e: impl Into<redb::Error>) -> ArchiveError {
        self.inner.err(op, e)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.inner.lock().stop = true;
        self.inner.turn.notify_one();
        if let Some(writer) = self.writer.take() {
            // A panic there has been answered as an error to whoever waited.
            let _ = writer.join();
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is consistent whenever the lock is free; a panicking caller harms nobody.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's life: until the state is dropped and nothing waits.
    fn write_all(&self) {
        loop {
            let mut q = self.lock();
            while q.waiting.is_empty() && !q.stop {
                q = self.turn.wait(q).unwrap_or_else(PoisonError::into_inner);
            }
            let batch = std::mem::take(&mut q.waiting);
            drop(q);
            if batch.is_empty() {
                return;
            }
            // The library asserts its own format; whoever waits gets an answer all the same.
            let tried = catch_unwind(AssertUnwindSafe(|| self.write_or_make_room(&batch)));
            let result = tried.unwrap_or_else(|_| Err(self.gone()));
            for (_, done) in batch {
                done(result.clone());
            }
        }
    }

    fn gone(&self) -> ArchiveError {
        ArchiveError::State {
            op: "write",
            path: self.path.clone(),
            detail: "the writer has failed; see the log".into(),
        }
    }

    fn db(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.db.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the start, when nobody else is here yet.
    pub(crate) fn read_tx(&self) -> Result<redb::ReadTransaction, redb::Error> {
        let db = self.db();
        let db = db.as_ref().ok_or(redb::Error::PreviousIo)?;
        Ok(db.begin_read()?)
    }

    /// As [`Inner::read_tx`].
    pub(crate) fn write_tx(&self) -> Result<redb::WriteTransaction, redb::Error> {
        let db = self.db();
        let db = db.as_ref().ok_or(redb::Error::PreviousIo)?;
        Ok(db.begin_write()?)
    }

    fn begin_read(&self, db: &Option<Database>) -> Result<redb::ReadTransaction, ArchiveError> {
        let db = db.as_ref().ok_or_else(|| self.gone())?;
        db.begin_read().map_err(|e| self.err("read", e))
    }

    /// Writes; if the disk does not take it, once more after the reserve was given back. The
    /// database has to be opened again after every failure of the disk.
    fn write_or_make_room(&self, batch: &[(Vec<Change>, Done)]) -> Result<(), ArchiveError> {
        let changes = || batch.iter().flat_map(|(c, _)| c);
        if self.db().is_none() {
            self.reopen()?;
        }
        let Err(e) = self.write(changes()) else {
            return Ok(());
        };
        let full = matches!(e, ArchiveError::StorageFull { .. });
        if full {
            self.full.store(true, Ordering::SeqCst);
        }
        if !full && !matches!(e, ArchiveError::Io { .. }) {
            return Err(e);
        }
        let room = full && self.ballast.release().unwrap_or(false);
        self.reopen()?;
        match room {
            true => self.write(changes()),
            false => Err(e),
        }
    }

    fn reopen(&self) -> Result<(), ArchiveError> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        // Closed first: it is locked against a second opening.
        *db = None;
        match open_db(&self.path) {
            Ok((opened, _)) => *db = Some(opened),
            Err(Unopened::Error(e)) => return Err(e),
            Err(Unopened::Damaged) => {
                let path = self.path.clone();
                return Err(ArchiveError::StateUnusable { path });
            }
        }
        Ok(())
    }

    fn write<'a>(&self, changes: impl Iterator<Item = &'a Change>) -> Result<(), ArchiveError> {
        let db = self.db();
        let db = db.as_ref().ok_or_else(|| self.gone())?;
        let tx = db.begin_write().map_err(|e| self.err("begin", e))?;
        self.apply(&tx, changes)?;
        tx.commit().map_err(|e| self.err("commit", e))
    }

    /// Applies changes in their order.
    pub(crate) fn apply<'a>(
        &self,
        tx: &redb::WriteTransaction,
        changes: impl Iterator<Item = &'a Change>,
    ) -> Result<(), ArchiveError> {
        let mut tables = Tables::new(tx);
        for change in changes {
            let applied = tables.apply(change);
            applied.map_err(|e| self.err("write", e))?;
        }
        Ok(())
    }

    fn copy_into(&self, to: &Path, lineage: &Lineage) -> Result<(), ArchiveError> {
        let ours = self.db();
        let read = self.begin_read(&ours)?;
        let db = create_db(&self.disk, to)?;
        let write = db.begin_write().map_err(|e| self.err("back up", e))?;
        let copy = || -> Result<(), redb::Error> {
            for table in Table::ALL {
                let Some(from) = table_of(&read, *table)? else {
                    continue;
                };
                let mut into = write.open_table(definition(*table))?;
                for entry in from.iter()? {
                    let (k, v) = entry?;
                    into.insert(k.value(), v.value())?;
                }
            }
            let from = read.open_table(HISTORY)?;
            let mut into = write.open_table(HISTORY)?;
            for entry in from.iter()? {
                let (k, v) = entry?;
                into.insert(k.value(), v.value())?;
            }
            lineage.write(&write)
        };
        copy().map_err(|e| self.err("back up", e))?;
        write.commit().map_err(|e| self.err("back up", e))
    }

    pub(crate) fn err(&self, op: &'static str, e: impl Into<redb::Error>) -> ArchiveError {
        state_error(op, &self.path, e)
    }
}

/// A table, if the state's layout has it already.
fn table_of(
    tx: &ReadTransaction,
    table: Table,
) -> Result<Option<ReadOnlyTable<&'static str, &'static [u8]>>, redb::Error> {
    match tx.open_table(definition(table)) {
        Ok(t) => Ok(Some(t)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The tables of one transaction, each opened once.
struct Tables<'t> {
    tx: &'t redb::WriteTransaction,
    rows: BTreeMap<Table, redb::Table<'t, &'static str, &'static [u8]>>,
    history: Option<redb::Table<'t, &'static [u8], &'static [u8]>>,
}

impl<'t> Tables<'t> {
    fn new(tx: &'t redb::WriteTransaction) -> Self {
        Tables {
            tx,
            rows: BTreeMap::new(),
            history: None,
        }
    }

    fn rows(
        &mut self,
        table: Table,
    ) -> Result<&mut redb::Table<'t, &'static str, &'static [u8]>, redb::Error> {
        Ok(match self.rows.entry(table) {
            Entry::Occupied(e) => e.into_mut(),
            Entry::Vacant(e) => e.insert(self.tx.open_table(definition(table))?),
        })
    }

    fn history(
        &mut self,
    ) -> Result<&mut redb::Table<'t, &'static [u8], &'static [u8]>, redb::Error> {
        Ok(match &mut self.history {
            Some(t) => t,
            none => none.insert(self.tx.open_table(HISTORY)?),
        })
    }

    fn apply(&mut self, change: &Change) -> Result<(), redb::Error> {
        match change {
            Change::Put { table, key, value } => {
                self.rows(*table)?.insert(key.as_str(), value.as_slice())?;
            }
            Change::Delete { table, key } => {
                self.rows(*table)?.remove(key.as_str())?;
            }
            Change::History {
                zone,
                seq,
                entry,
                keep,
            } => {
                let t = self.history()?;
                t.insert(&history_key(*zone, *seq)[..], entry.as_slice())?;
                if let Some(kept_from) = kept_from(*seq, *keep) {
                    let (first, end) = (history_key(*zone, 0), history_key(*zone, kept_from));
                    t.retain_in::<&[u8], _>(&first[..]..&end[..], |_, _| false)?;
                }
            }
            Change::DropHistory { zone } => {
                let (first, end) = (history_key(*zone, 0), history_key(*zone, u64::MAX));
                self.history()?
                    .retain_in::<&[u8], _>(&first[..]..=&end[..], |_, _| false)?;
            }
        }
        Ok(())
    }
}

fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(table.name())
}

fn encode<T: Serialize>(table: Table, key: &str, value: &T) -> Result<Vec<u8>, ArchiveError> {
    serde_json::to_vec(value).map_err(|e| ArchiveError::Value {
        table: table.name(),
        key: key.to_owned(),
        detail: e.to_string(),
    })
}

fn decode<T: DeserializeOwned>(table: Table, key: &str, bytes: &[u8]) -> Result<T, ArchiveError> {
    serde_json::from_slice(bytes).map_err(|e| ArchiveError::Value {
        table: table.name(),
        key: key.to_owned(),
        detail: e.to_string(),
    })
}

/// From where on entries stay when this one is written, with `keep` at most; `None`: all of them. Old ones go
/// some at a time: a commit for each costs more pages than the entry itself.
fn kept_from(seq: u64, keep: u64) -> Option<u64> {
    let at_a_time = (keep / 8).clamp(1, 64);
    let kept_from = seq.saturating_add(at_a_time).saturating_sub(keep);
    (seq.is_multiple_of(at_a_time) && kept_from > 0).then_some(kept_from)
}

/// Zone id, then the number in big-endian, so that order of keys is order of time.
fn history_key(zone: ZoneId, seq: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&zone.0);
    key[16..].copy_from_slice(&seq.to_be_bytes());
    key
}

fn state_error(op: &'static str, path: &Path, e: impl Into<redb::Error>) -> ArchiveError {
    match e.into() {
        redb::Error::Io(io) => ArchiveError::io(op, path, io),
        other => ArchiveError::State {
            op,
            path: path.to_owned(),
            detail: other.to_string(),
        },
    }
}

fn backups(path: &Path) -> Vec<PathBuf> {
    (1..=BACKUPS)
        .map(|n| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".bak-{n}"));
            PathBuf::from(name)
        })
        .collect()
}

enum Unopened {
    /// The file is not a database that can be read.
    Damaged,
    /// Something else, which a backup would not help against.
    Error(ArchiveError),
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder
}

fn create_db(disk: &Disk, path: &Path) -> Result<Database, ArchiveError> {
    // Made here first, for its mode: it decides about keys and approvals.
    drop(disk.create(path, MODE_STATE)?);
    let db = builder()
        .create(path)
        .map_err(|e| state_error("create", path, e))?;
    let make = || -> Result<(), redb::Error> {
        let tx = db.begin_write()?;
        for table in Table::ALL {
            tx.open_table(definition(*table))?;
        }
        tx.open_table(HISTORY)?;
        crate::lineage::create(&tx)?;
        tx.commit()?;
        Ok(())
    };
    make().map_err(|e| state_error("create", path, e))?;
    disk.sync_dir_of(path)?;
    Ok(db)
}

/// Opens, compares every page with its check sum and walks through every table once: a database
/// that opens but cannot be read is damaged. Says whether it was whole.
fn open_db(path: &Path) -> Result<(Database, bool), Unopened> {
    // The database library asserts its own format; a damaged file must not end the daemon.
    let opened = std::panic::catch_unwind(|| builder().open(path));
    let mut db = match opened {
        Ok(Ok(db)) => db,
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
            return Err(Unopened::Error(ArchiveError::InUse {
                path: path.to_owned(),
            }));
        }
        Ok(Err(DatabaseError::Storage(redb::StorageError::Io(e))))
            if !matches!(
                e.kind(),
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
            ) =>
        {
            return Err(Unopened::Error(ArchiveError::Io {
                op: "open",
                path: path.to_owned(),
                source: Arc::new(e),
            }));
        }
        Ok(Err(_)) | Err(_) => return Err(Unopened::Damaged),
    };
    let check = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let whole = db.check_integrity()?;
        Ok::<_, redb::Error>((walk(&db)?, whole))
    }));
    match check {
        Ok(Ok((OLDEST_SCHEMA..=SCHEMA, whole))) => Ok((db, whole)),
        Ok(Ok((found, _))) if found > SCHEMA => Err(Unopened::Error(ArchiveError::Newer {
            path: path.to_owned(),
            found,
            known: SCHEMA,
        })),
        _ => Err(Unopened::Damaged),
    }
}

fn walk(db: &Database) -> Result<u32, redb::Error> {
    let tx = db.begin_read()?;
    let schema = tx.open_table(META)?.get("schema")?.map_or(0, |v| v.value());
    if schema > SCHEMA {
        return Ok(schema);
    }
    for table in Table::ALL {
        let Some(t) = table_of(&tx, *table)? else {
            continue;
        };
        for entry in t.iter()? {
            entry?;
        }
    }
    for entry in tx.open_table(HISTORY)?.iter()? {
        entry?;
    }
    Ok(schema)
}

/// The newest backup that opens takes the state's place; the damaged state is kept beside it.
fn from_backup(
    disk: &Disk,
    path: &Path,
    damaged: bool,
) -> Result<(Database, Origin), ArchiveError> {
    for backup in backups(path) {
        if !backup.exists() {
            continue;
        }
        match open_db(&backup) {
            Ok((db, _)) => drop(db),
            Err(Unopened::Damaged) => continue,
            Err(Unopened::Error(e)) => return Err(e),
        }
        let bytes = disk.read(&backup)?;
        let tmp = temporary(path);
        let mut file = disk.create(&tmp, MODE_STATE)?;
        disk.write(&mut file, &tmp, &bytes)?;
        disk.sync(&file, &tmp)?;
        let kept = damaged.then(|| free_name(&path.with_extension("redb.damaged")));
        if let Some(kept) = &kept {
            disk.rename(path, kept)?;
        }
        disk.rename(&tmp, path)?;
        let db = match open_db(path) {
            Ok((db, _)) => db,
            Err(Unopened::Error(e)) => return Err(e),
            Err(Unopened::Damaged) => {
                return Err(ArchiveError::StateUnusable {
                    path: path.to_owned(),
                });
            }
        };
        return Ok((
            db,
            Origin::Backup {
                from: backup,
                damaged: kept,
            },
        ));
    }
    Err(ArchiveError::StateUnusable {
        path: path.to_owned(),
    })
}
