//! Keys of zones that were removed: kept as they were, with their times, the TTL log and what the
//! parent showed, until the retention of the trash ends or `zone add --restore-keys` takes them back.

use std::path::Path;
use std::time::Duration;

use cascade_archive::{ArchiveError, Change, State, Table};
use cascade_time::Timestamp;
use cascade_zone::{Name, ZoneId};
use serde::{Deserialize, Serialize};

use super::ring::{Keyring, zone_ref};
use super::row::KeysRow;

/// What is kept of a removed zone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bundle {
    /// Presentation form with final dot.
    pub apex: String,
    pub removed_at: Timestamp,
    pub keys: KeysRow,
}

impl Bundle {
    /// The change that keeps it. Every zone has at most one: its id is its key.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn keep(&self, zone: ZoneId) -> Result<Change, ArchiveError> {
        Change::put(Table::Keys, &zone.to_string(), self)
    }

    pub fn forget(zone: ZoneId) -> Change {
        Change::Delete {
            table: Table::Keys,
            key: zone.to_string(),
        }
    }

    /// The bundle of the last zone of this name, with the id that the zone had.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn newest(state: &State, apex: &Name) -> Result<Option<(ZoneId, Bundle)>, ArchiveError> {
        let of_name = |b: &Bundle| Name::parse(&b.apex).is_ok_and(|n| n == *apex);
        let all = all(state)?.into_iter().filter(|(_, b)| of_name(b));
        Ok(all.max_by_key(|(_, b)| b.removed_at))
    }

    /// When it may be destroyed; never by itself while the parent's last answer leads to its keys.
    pub fn ends_at(&self, retention: Duration) -> Option<Timestamp> {
        let parent = &self.keys.zone.parent;
        let needed = !parent.shown.is_empty();
        (!needed).then(|| self.removed_at + retention)
    }

    /// The keys for a zone that is added again. Its versions are counted from the start, so that
    /// none of them may be taken for one of the zone before.
    pub fn into_row(self) -> KeysRow {
        let mut row = self.keys;
        row.apexes.clear();
        if let Some(p) = &mut row.zone.published {
            p.version = 0;
        }
        row
    }
}

/// Destroys the keys of bundles whose retention has ended. What fails is tried again at the next
/// call. `dir`: where key files are.
pub fn purge_old(state: &State, ring: &Keyring, dir: &Path, retention: Duration, now: Timestamp) {
    let bundles = match all(state) {
        Ok(b) => b,
        Err(e) => {
            tracing::error!("keys of removed zones cannot be read: {e}");
            return;
        }
    };
    for (id, bundle) in bundles {
        let zone = bundle.apex.trim_end_matches('.');
        match bundle.ends_at(retention) {
            Some(end) if end <= now => {}
            Some(_) => continue,
            None => {
                if bundle.removed_at + retention <= now {
                    tracing::warn!(
                        "keys of the removed zone {zone} are kept beyond their retention, because the parent had a DS for them when it was removed. To destroy them: cascade zone add {zone} --restore-keys …, and remove it with --purge-keys"
                    );
                }
                continue;
            }
        }
        let Ok(name) = Name::parse(&bundle.apex) else {
            continue;
        };
        let done = ring
            .purge(zone_ref(id, &name), &bundle.keys)
            .map_err(|e| e.to_string())
            .and_then(|()| {
                let forget = vec![Bundle::forget(id)];
                state.commit(forget).map_err(|e| e.to_string())
            });
        match done {
            Ok(()) => {
                remove_empty(dir, id);
                tracing::info!("keys of the removed zone {zone} were destroyed");
            }
            Err(e) => {
                tracing::warn!("keys of the removed zone {zone} are destroyed later: {e}");
            }
        }
    }
}

/// Removes a zone's directory of key files if nothing is in it.
pub fn remove_empty(dir: &Path, zone: ZoneId) {
    let dir = dir.join(zone.to_string());
    let _ = std::fs::remove_dir(dir.join("trash"));
    let _ = std::fs::remove_dir(dir);
}

fn all(state: &State) -> Result<Vec<(ZoneId, Bundle)>, ArchiveError> {
    let rows: Vec<(String, Bundle)> = state.list(Table::Keys, None, usize::MAX)?;
    let id = |(id, b): (String, Bundle)| Some((ZoneId::parse(&id)?, b));
    Ok(rows.into_iter().filter_map(id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cascade_archive::Disk;

    fn bundle(apex: &str, at: i64) -> Bundle {
        Bundle {
            apex: apex.to_string(),
            removed_at: Timestamp::from_secs(at),
            keys: KeysRow::new(&Name::parse(apex).unwrap()),
        }
    }

    #[test]
    fn the_newest_of_a_name_is_found_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(&Disk::new(), &dir.path().join("state")).unwrap();
        let ids = [ZoneId([1; 16]), ZoneId([2; 16]), ZoneId([3; 16])];
        let kept = [
            bundle("example.", 1000),
            bundle("Example.", 2000),
            bundle("other.", 3000),
        ];
        let changes = ids.iter().zip(&kept).map(|(id, b)| b.keep(*id).unwrap());
        state.commit(changes.collect()).unwrap();
        let name = Name::parse("EXAMPLE").unwrap();
        let newest = |state: &State| Bundle::newest(state, &name).unwrap().map(|(id, _)| id);
        assert_eq!(newest(&state), Some(ids[1]));
        let keys = dir.path().join("keys");
        let ring = Keyring::new(std::sync::Arc::new(crate::stores::KeyStores::new(&keys)));
        let hour = Duration::from_secs(3600);
        let purge = |at: i64| purge_old(&state, &ring, &keys, hour, Timestamp::from_secs(at));
        purge(2000 + 3599);
        assert_eq!(newest(&state), Some(ids[1]));
        purge(2000 + 3600);
        assert_eq!(newest(&state), None);
        assert!(
            Bundle::newest(&state, &Name::parse("other").unwrap())
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn keys_that_a_ds_leads_to_are_not_destroyed() {
        let mut b = bundle("example.", 1000);
        let hour = Duration::from_secs(3600);
        assert_eq!(b.ends_at(hour), Some(Timestamp::from_secs(4600)));
        b.keys.zone.parent.shown = vec![cascade_keys::KeyNum(1)];
        assert_eq!(b.ends_at(hour), None);
    }
}
