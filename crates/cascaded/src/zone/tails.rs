//! Patches that the state keeps until their journals are synced (ADR 4).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cascade_archive::{ArchiveError, Change, Tail};
use cascade_time::Timestamp;

use super::actor::{Actor, Done};

/// Patches that were published wait this long for the sync of their journal.
const SYNC_AFTER: Duration = Duration::from_secs(1);
/// After a sync that failed; meanwhile versions are synced before they are published.
const SYNC_RETRY: Duration = Duration::from_secs(30);
/// From so many patches, or octets of them, on it is synced at once.
const TAILS: usize = 64;
const TAIL_OCTETS: u64 = 1 << 20;

/// The ends of journals that the state has as well.
#[derive(Default)]
pub(super) struct Tails {
    /// To be committed with the step that publishes.
    pub new: Option<Box<Tail>>,
    /// Key, journal, offset behind it, octets.
    kept: Vec<(String, u64, u64, u64)>,
    /// Keys of those that are in their journals for good.
    surplus: Vec<String>,
    /// When the journals are to be synced.
    sync_at: Option<Timestamp>,
    syncing: bool,
    failed: bool,
}

impl Tails {
    fn octets(&self) -> u64 {
        self.kept.iter().map(|(.., n)| n).sum()
    }

    /// All is in the journals for good, and the state has let it go.
    pub fn is_still(&self) -> bool {
        let synced = self.sync_at.is_none() && !self.syncing && !self.failed;
        synced && self.new.is_none() && self.kept.is_empty() && self.surplus.is_empty()
    }

    fn is_long(&self) -> bool {
        self.kept.len() >= TAILS || self.octets() >= TAIL_OCTETS
    }

    /// More would only grow: the disk does not follow.
    pub fn is_full(&self) -> bool {
        self.failed || self.kept.len() >= 4 * TAILS || self.octets() >= 4 * TAIL_OCTETS
    }

    /// The journal of `base` is synced up to `end`.
    pub fn synced(&mut self, base: u64, end: u64) {
        let is_safe = |(_, b, e, _): &(String, u64, u64, u64)| *b == base && *e <= end;
        let (safe, rest) = std::mem::take(&mut self.kept)
            .into_iter()
            .partition(is_safe);
        let safe: Vec<_> = safe;
        self.kept = rest;
        self.surplus.extend(safe.into_iter().map(|(key, ..)| key));
    }

    /// What a commit has to say of the ends of journals; `gone`: the zone goes, and they with it. Gives
    /// how many this gives up.
    pub fn unwritten(&self, gone: bool, changes: &mut Vec<Change>) -> usize {
        changes.extend(self.surplus.iter().cloned().map(Tail::forget));
        if gone {
            let kept = self.kept.iter().map(|(key, ..)| key.clone());
            changes.extend(kept.map(Tail::forget));
            return self.surplus.len();
        }
        changes.extend(self.new.iter().map(|tail| tail.put()));
        self.surplus.len()
    }

    /// That commit is durable.
    pub fn written(&mut self, given_up: usize, now: Timestamp) {
        self.surplus.drain(..given_up.min(self.surplus.len()));
        if let Some(tail) = self.new.take() {
            let octets = tail.octets.len() as u64;
            self.kept.push((tail.key(), tail.base, tail.end(), octets));
            self.sync_at.get_or_insert(now + SYNC_AFTER);
        }
    }
}

impl Actor {
    pub(super) fn sync_deadline(&self) -> Option<Timestamp> {
        self.store
            .tails
            .sync_at
            .filter(|_| !self.store.tails.syncing)
    }

    /// Syncs journals whose last patches the state has, if it is time for that.
    pub(super) fn sync_journals(&mut self) {
        let now = self.d.now();
        let tails = &mut self.store.tails;
        let due = tails.is_long() || tails.sync_at.is_some_and(|at| at <= now);
        if !due || tails.syncing || (tails.failed && tails.sync_at.is_some_and(|at| at > now)) {
            return;
        }
        tails.sync_at = None;
        let mut ends: BTreeMap<u64, u64> = BTreeMap::new();
        for (_, base, end, _) in &tails.kept {
            let last = ends.entry(*base).or_default();
            *last = (*last).max(*end);
        }
        if ends.is_empty() {
            return;
        }
        tails.syncing = true;
        let (d, zone, done) = (self.d.clone(), self.me.id, self.done.clone());
        tokio::task::spawn_blocking(move || {
            let sync = |(base, end)| {
                d.files.sync_journal(zone, base, end)?;
                Ok((base, end))
            };
            let synced: Result<Vec<_>, ArchiveError> = ends.into_iter().map(sync).collect();
            let _ = done.send(Done::Synced(synced.map_err(|e| e.to_string())));
        });
    }

    pub(super) fn journals_synced(&mut self, result: Result<Vec<(u64, u64)>, String>) {
        let now = self.d.now();
        let tails = &mut self.store.tails;
        tails.syncing = false;
        match result {
            Ok(ends) => {
                tails.failed = false;
                for (base, end) in ends {
                    tails.synced(base, end);
                }
                if !tails.kept.is_empty() {
                    tails.sync_at.get_or_insert(now + SYNC_AFTER);
                }
                self.note_unwritten();
            }
            Err(e) => {
                // Nothing is lost: the state has it, and the next start writes it.
                tails.failed = true;
                tails.sync_at = Some(now + SYNC_RETRY);
                self.d.counters.store_errors.fetch_add(1, Ordering::Relaxed);
                tracing::error!(zone = %self.me.name, "the zone's journal could not be synced, and is tried again in {} s; what is published is safe in the state database meanwhile: {e}", SYNC_RETRY.as_secs());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cascade_zone::ZoneId;

    fn tail(base: u64, from: u64) -> Option<Box<Tail>> {
        let zone = ZoneId([1; 16]);
        let octets = vec![0; 10];
        Some(Box::new(Tail {
            zone,
            base,
            from,
            octets,
        }))
    }

    fn at(n: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + n)
    }

    /// One commit; what it gives up and whether it has a new one.
    fn commit(t: &mut Tails, now: Timestamp) -> (usize, bool) {
        let mut changes = Vec::new();
        let new = t.new.is_some();
        let given_up = t.unwritten(false, &mut changes);
        assert_eq!(changes.len(), given_up + usize::from(new));
        t.written(given_up, now);
        (given_up, new)
    }

    #[test]
    fn only_what_is_synced_is_given_up_and_only_once() {
        let mut t = Tails::default();
        for (base, from) in [(1, 0), (1, 10), (2, 0)] {
            t.new = tail(base, from);
            assert_eq!(commit(&mut t, at(0)), (0, true));
        }
        assert_eq!(t.sync_at, Some(at(0) + SYNC_AFTER));
        t.synced(1, 10);
        t.synced(3, 100);
        assert_eq!((t.kept.len(), t.surplus.len()), (2, 1));
        // A commit that failed gives it up again with the next.
        let mut changes = Vec::new();
        assert_eq!(t.unwritten(false, &mut changes), 1);
        // More comes while a commit is under way.
        t.synced(2, 10);
        t.written(1, at(1));
        assert_eq!(commit(&mut t, at(2)), (1, false));
        assert_eq!(commit(&mut t, at(2)), (0, false));
        assert_eq!(t.kept.len(), 1);
        // The zone goes, and all of them with it.
        let mut changes = Vec::new();
        t.new = tail(1, 20);
        assert_eq!(t.unwritten(true, &mut changes), 0);
        assert_eq!(changes.len(), 1);
    }

    #[test]
    fn a_disk_that_does_not_follow_is_waited_for() {
        let mut t = Tails::default();
        for i in 0..4 * TAILS as u64 {
            assert!(!t.is_full());
            assert_eq!(t.is_long(), i >= TAILS as u64);
            t.new = tail(1, 10 * i);
            commit(&mut t, at(0));
        }
        assert!(t.is_full());
        t.synced(1, u64::MAX);
        assert!(!t.is_full() && !t.is_long());
        t.failed = true;
        assert!(t.is_full());
    }
}
