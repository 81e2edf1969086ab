//! The end of a journal that is not synced yet, kept in the state until it is.
//!
//! A version has to wait for the disk once, and the commit that makes it the published one is that
//! wait. So its patch goes into this commit as well ([`Tail`]), and into the journal without a sync.
//! The journal is synced a moment later, for all versions that came meanwhile, and then the state
//! gives the patches up. After a power cut [`ZoneFiles::mend`] writes into the journal what it lost.

use cascade_zone::{VersionId, ZoneId, ZoneVersion};

use crate::error::{ArchiveError, Damage};
use crate::frame::push_part;
use crate::segment::{Fresh, Mark, Segment, Writing, open_segment, patch, to_of};
use crate::state::{Change, State, Table};
use crate::zones::{Kind, ZoneFiles};

/// Patches above this size are synced where they belong, not written twice.
const TAIL_MAX: u64 = 64 << 10;

/// Octets of the journal behind the snapshot of `base`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    pub zone: ZoneId,
    pub base: u64,
    /// Where in the journal they begin.
    pub from: u64,
    pub octets: Vec<u8>,
}

impl Tail {
    /// Offset behind it.
    pub fn end(&self) -> u64 {
        self.from + self.octets.len() as u64
    }

    /// Its key in the state: by zone, journal and place, in that order.
    pub fn key(&self) -> String {
        format!("{} {:016x} {:016x}", self.zone, self.base, self.from)
    }

    /// Keeps it.
    pub fn put(&self) -> Change {
        Change::Put {
            table: Table::Tails,
            key: self.key(),
            value: self.octets.clone(),
        }
    }

    /// Gives the one with this key up.
    pub fn forget(key: String) -> Change {
        Change::Delete {
            table: Table::Tails,
            key,
        }
    }

    fn read(key: &str, octets: Vec<u8>) -> Option<Tail> {
        let mut parts = key.split(' ');
        let zone = ZoneId::parse(parts.next()?)?;
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let (base, from) = (number()?, number()?);
        let fits = from.checked_add(octets.len() as u64).is_some() && parts.next().is_none();
        fits.then_some(Tail {
            zone,
            base,
            from,
            octets,
        })
    }
}

impl State {
    /// What is kept of the ends of journals, by zone, journal and place. A key that nobody wrote is
    /// none.
    pub fn tails(&self) -> Result<Vec<Tail>, ArchiveError> {
        let rows = self.raw(Table::Tails)?;
        let read = |(key, octets): (String, Vec<u8>)| Tail::read(&key, octets);
        Ok(rows.into_iter().filter_map(read).collect())
    }
}

impl ZoneFiles {
    /// How a version that follows `old` stands behind the open journal: the segments as they are to
    /// be committed together with the tail. `None`: it is not for this way ([`ZoneFiles::follow`]),
    /// because there is no journal yet, or a new one is to begin, or it is too large.
    pub fn behind(
        &self,
        segments: &[Segment],
        fresh: Option<&Fresh>,
        old: Option<&ZoneVersion>,
        new: Writing<'_>,
    ) -> Option<(Vec<Segment>, Tail)> {
        let (open, old) = open_segment(segments, old, new.version)?;
        let last = open.marks.last()?;
        if fresh.is_some_and(|f| f.of == open.base) {
            return None;
        }
        let parts = patch(old, new, open.most().min(TAIL_MAX))?;
        let zone = new.version.zone();
        let (mut octets, mut seq) = (Vec::new(), last.seq);
        for (kind, bytes) in &parts {
            push_part(&mut octets, zone, *kind, &mut seq, bytes);
        }
        let tail = Tail {
            zone,
            base: open.base,
            from: last.end,
            octets,
        };
        let mut list = segments.to_vec();
        let segment = list.last_mut()?;
        segment.push(Mark {
            version: to_of(&parts)?,
            end: tail.end(),
            seq,
        });
        Some((list, tail))
    }

    /// Writes a tail into its journal, without a sync. What stands behind its beginning is written
    /// over: it never counted. It may be done again.
    ///
    /// # Errors
    /// `Damaged` when the journal does not reach as far as the tail begins.
    pub fn append_tail(&self, tail: &Tail) -> Result<(), ArchiveError> {
        let path = self.path(tail.zone, Kind::Journal, VersionId(tail.base));
        let mut file = self.disk.open_existing(&path)?;
        let len = self.disk.length(&file, &path)?;
        if len < tail.from {
            return Err(ArchiveError::damaged(&path, Damage::Torn { at: len }));
        }
        if len > tail.from {
            self.disk.truncate(&file, &path, tail.from)?;
        }
        self.disk.write(&mut file, &path, &tail.octets)
    }

    /// Makes what stands in a journal up to `end` durable. A journal that is gone needs it no more.
    ///
    /// # Errors
    /// The disk does not take it, or the journal is shorter.
    pub fn sync_journal(&self, zone: ZoneId, base: u64, end: u64) -> Result<(), ArchiveError> {
        let path = self.path(zone, Kind::Journal, VersionId(base));
        let file = match self.disk.open_existing(&path) {
            Ok(file) => file,
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => return Err(e),
        };
        let len = self.disk.length(&file, &path)?;
        if len < end {
            return Err(ArchiveError::damaged(&path, Damage::Torn { at: len }));
        }
        self.disk.sync(&file, &path)
    }

    /// Syncs a tail in its journal; true: it had to be written there first. Tails of one journal in
    /// order.
    ///
    /// # Errors
    /// As [`ZoneFiles::append_tail`]; a journal that is gone needs nothing.
    pub fn mend(&self, tail: &Tail) -> Result<bool, ArchiveError> {
        let path = self.path(tail.zone, Kind::Journal, VersionId(tail.base));
        let lacks = match self.disk.read_range(&path, tail.from, tail.end()) {
            Ok(there) => there != tail.octets,
            Err(e) if e.is_not_found() => return Ok(false),
            Err(e) => return Err(e),
        };
        if lacks {
            self.append_tail(tail)?;
        }
        // Also what is there: whoever ended before the sync may have left it in the system's memory.
        self.sync_journal(tail.zone, tail.base, tail.end())?;
        Ok(lacks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_say_which_octets_they_are() {
        let tail = Tail {
            zone: ZoneId([7; 16]),
            base: 12,
            from: 72,
            octets: vec![1, 2, 3],
        };
        assert_eq!(Tail::read(&tail.key(), vec![1, 2, 3]), Some(tail.clone()));
        assert_eq!(tail.end(), 75);
        let later = Tail {
            from: 75,
            ..tail.clone()
        };
        assert!(tail.key() < later.key());
        for key in ["", "x 1 2", "a b", &format!("{} 3", tail.key())] {
            assert_eq!(Tail::read(key, Vec::new()), None);
        }
        let far = format!("{} {:016x} {:016x}", tail.zone, 1, u64::MAX);
        assert_eq!(Tail::read(&far, vec![0]), None);
    }
}
