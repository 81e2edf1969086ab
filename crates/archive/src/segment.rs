//! A snapshot and the journal of what followed it: how the published versions of a zone are kept.
//!
//! The state holds the [`Segment`]s of a zone, the newest last; it alone says what is committed. A
//! version is durable when its patch is synced into the journal, and it counts when the state that
//! names the new end of the journal is. What stands behind that end is a leftover of a crash.
//!
//! Segments begin anew with a snapshot when a version shares too little with the one before it, or
//! behind a running daemon when the journal has grown: then with a snapshot of the oldest version
//! that is still wanted, and with the patches since then, so that one segment holds the history.

use std::path::PathBuf;
use std::sync::Arc;

use cascade_time::Timestamp;
use cascade_zone::{Replay, Serial, VersionId, ZoneId, ZoneVersion};
use serde::{Deserialize, Serialize};

use crate::error::{ArchiveError, Damage};
use crate::frame::{DELTA_BEGIN, DELTA_END, FileHeader, FileKind, HEADER_LEN};
use crate::journal::{self, Group, JournalTail, JournalWriter};
use crate::version_file::Pace;
use crate::zones::{Check, Kind, Recovery, ZoneFiles};

/// Versions whose place in the journal is remembered: what can be read back one by one.
const MARKS_MAX: usize = 64;
/// Journals below this size are not worth a new snapshot.
const JOURNAL_MIN: u64 = 1 << 20;
const JOURNAL_MAX: u64 = 256 << 20;
/// Journals of small zones are, from this size and this number of versions on: each of very many
/// zones is read back at a start.
const JOURNAL_SMALL: u64 = 64 << 10;
const MARKS_MANY: usize = 32;
/// Patches up to this size go into the journal however small the zone is: the versions before stay
/// at hand for incremental transfers, over restarts too.
const PATCH_SMALL: u64 = 32 << 10;

/// Where a version ends in its journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub version: u64,
    /// Offset behind it, and number of the next frame.
    pub end: u64,
    pub seq: u64,
}

/// What the state knows of a snapshot and its journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Version in the snapshot, its serial, and the size of the file.
    pub base: u64,
    pub serial: u32,
    pub snapshot: u64,
    /// Newest versions, oldest first; the last one is where the segment ends.
    pub marks: Vec<Mark>,
}

impl Segment {
    /// The version it ends with.
    pub fn head(&self) -> u64 {
        self.marks.last().map_or(self.base, |m| m.version)
    }

    /// Whether a version can be read back from it.
    pub fn holds(&self, version: u64) -> bool {
        self.base == version || self.marks.iter().any(|m| m.version == version)
    }

    /// Octets of the journal that count; 0: there is none.
    pub fn end(&self) -> u64 {
        self.marks.last().map_or(0, |m| m.end)
    }

    /// Where the patches that follow a version begin in the journal, if that is known.
    pub fn behind(&self, version: u64) -> Option<(u64, u64)> {
        let mark = self.marks.iter().find(|m| m.version == version);
        let first = (self.base == version).then_some((HEADER_LEN as u64, 0));
        mark.map(|m| (m.end, m.seq)).or(first)
    }

    /// The journal has grown so much that a new snapshot is due.
    pub fn is_long(&self) -> bool {
        let limit = (self.snapshot / 4).clamp(JOURNAL_MIN, JOURNAL_MAX);
        let many = self.marks.len() >= MARKS_MANY && self.snapshot / 4 < JOURNAL_SMALL;
        self.end() > if many { JOURNAL_SMALL } else { limit }
    }

    /// Largest patch that goes into its journal: half of the zone in patches costs more to read back
    /// than the zone.
    pub(crate) fn most(&self) -> u64 {
        (self.snapshot / 2).max(PATCH_SMALL)
    }

    /// Its journal goes on to here.
    pub(crate) fn push(&mut self, mark: Mark) {
        self.marks.push(mark);
        let surplus = self.marks.len().saturating_sub(MARKS_MAX);
        self.marks.drain(..surplus);
    }

    fn of(version: &ZoneVersion, snapshot: u64) -> Self {
        Segment {
            base: version.id().0,
            serial: version.serial().0,
            snapshot,
            marks: Vec::new(),
        }
    }
}

/// A newer snapshot that is to take the place of a segment's.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// Snapshot of the segment that it continues.
    pub of: u64,
    /// Where the patches after it begin in that segment's journal.
    pub from: (u64, u64),
    pub segment: Segment,
}

/// A version to be made durable.
#[derive(Clone, Copy)]
pub struct Writing<'a> {
    pub version: &'a ZoneVersion,
    /// Whatever is to be kept beside it (the verifier's ledger).
    pub beside: &'a [u8],
    pub now: Timestamp,
}

/// Which versions of a segment are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The newest ones, so many.
    Newest(usize),
    One(u64),
}

/// A version with what was kept beside it.
pub type Kept = (Arc<ZoneVersion>, Vec<u8>);

/// What a segment gave.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Oldest first.
    pub versions: Vec<Kept>,
    /// What follows the committed end, if it is whole: a version whose commit was missing.
    pub ahead: Option<Kept>,
    /// The versions end before the committed end.
    pub damage: Option<Damage>,
    /// Where octets are that were cut off or set aside.
    pub set_aside: Option<PathBuf>,
    /// Nothing of them is left to be checked ([`Check::Later`]).
    pub is_checked: bool,
}

impl ZoneFiles {
    /// Makes a version durable that follows `old`, the head of the last segment. Gives the segments
    /// as they are to be committed; until then the old ones hold too.
    ///
    /// # Errors
    /// Nothing has changed that counts.
    pub fn follow(
        &self,
        segments: &[Segment],
        fresh: Option<&Fresh>,
        old: Option<&ZoneVersion>,
        new: Writing<'_>,
    ) -> Result<Vec<Segment>, ArchiveError> {
        let mut list = segments.to_vec();
        let Some((open, old)) = open_segment(&list, old, new.version) else {
            list.push(self.snapshot(new)?);
            return Ok(list);
        };
        let Some(parts) = patch(old, new, open.most()) else {
            list.push(self.snapshot(new)?);
            return Ok(list);
        };
        let next = match fresh.filter(|f| f.of == open.base) {
            Some(fresh) => self.move_on(open, fresh, new.version.zone(), &parts),
            None => self.append(open, new.version.zone(), vec![parts]),
        };
        match next {
            Ok(next) => {
                list.pop();
                list.push(next);
            }
            // Somebody took the journal away: what is published next does not hang on it.
            Err(ArchiveError::Damaged { .. }) => list.push(self.snapshot(new)?),
            Err(e) => return Err(e),
        }
        Ok(list)
    }

    /// Writes a version whole: a segment without a journal yet.
    pub fn snapshot(&self, new: Writing<'_>) -> Result<Segment, ArchiveError> {
        self.snapshot_paced(new, &|_| {})
    }

    /// The same for a version that is durable already, so that nobody waits for it: `pace` is told
    /// of octets written and may take its time.
    pub fn snapshot_paced(
        &self,
        new: Writing<'_>,
        pace: Pace<'_>,
    ) -> Result<Segment, ArchiveError> {
        let v = new.version;
        let header = FileHeader {
            kind: FileKind::Snapshot,
            zone: v.zone(),
            version: v.id(),
            serial: v.serial(),
            created: new.now,
            fingerprint: v.full_fingerprint().to_bytes(),
        };
        let records = v.sums().records;
        let parts = |sink: &mut dyn FnMut(u8, &[u8])| v.export_parts(sink);
        let kind = Kind::Snapshot;
        let path = self.write_paced(kind, &header, records, new.beside, &parts, pace)?;
        let size = std::fs::metadata(&path).map_or(0, |m| m.len());
        Ok(Segment::of(v, size))
    }

    fn append(
        &self,
        segment: &Segment,
        zone: ZoneId,
        groups: Vec<Parts>,
    ) -> Result<Segment, ArchiveError> {
        let base = VersionId(segment.base);
        let path = self.path(zone, Kind::Journal, base);
        let mut journal = match segment.marks.last() {
            Some(m) => JournalWriter::reopen(&self.disk, &path, zone, m.end, m.seq)?,
            None => {
                self.make_dir(zone)?;
                JournalWriter::create(&self.disk, &path, &header(zone, segment))?
            }
        };
        let refs: Vec<Vec<(u8, &[u8])>> = groups
            .iter()
            .map(|parts| parts.iter().map(|(k, b)| (*k, &b[..])).collect())
            .collect();
        let places = journal.append_all(refs.iter().map(|r| &r[..]))?;
        let mut out = segment.clone();
        for (parts, (end, seq)) in groups.iter().zip(places) {
            let version = to_of(parts).unwrap_or_default();
            out.push(Mark { version, end, seq });
        }
        Ok(out)
    }

    /// A new journal behind a newer snapshot: what the old one has since then, and one more.
    fn move_on(
        &self,
        old: &Segment,
        fresh: &Fresh,
        zone: ZoneId,
        last: &Parts,
    ) -> Result<Segment, ArchiveError> {
        let from = fresh.from;
        let mut groups: Vec<Parts> = Vec::new();
        if old.end() > from.0 {
            let path = self.path(zone, Kind::Journal, VersionId(old.base));
            let found = journal::read_range(&self.disk, &path, header(zone, old), from, old.end())?;
            if found.tail != JournalTail::Clean {
                return Err(ArchiveError::damaged(&path, Damage::Corrupt { at: from.0 }));
            }
            groups.extend(found.groups.into_iter().map(|g| g.parts));
        }
        groups.push(last.clone());
        self.append(&fresh.segment, zone, groups)
    }

    /// Reads versions of a segment back. `candidate`: a version that may stand behind the committed
    /// end. What else stands there is set aside and cut off.
    ///
    /// # Errors
    /// Only what says nothing about the files: the disk did not answer.
    pub fn recover_segment(
        &self,
        zone: ZoneId,
        segment: &Segment,
        want: Want,
        candidate: Option<u64>,
        check: Check,
    ) -> Result<Result<Recovered, Recovery>, ArchiveError> {
        let base = VersionId(segment.base);
        let (base, beside) = match self.load_as(zone, Kind::Snapshot, base, check)? {
            Ok(loaded) => loaded,
            Err(lost) => return Ok(Err(lost)),
        };
        let mut out = Recovered {
            is_checked: base.is_checked,
            ..Recovered::default()
        };
        let base = Arc::new(base.version);
        // One version is read while others may be written: nothing is repaired then.
        let repair = matches!(want, Want::Newest(_));
        let groups = self.groups(zone, segment, repair, &mut out)?;
        let end = segment.end();
        let committed = groups.iter().take_while(|g| g.end <= end).count();
        let next = groups.get(committed);
        let next = next.filter(|g| candidate.is_some() && to_of(&g.parts) == candidate);
        let mut whole = committed;
        while let Err(at) = replay(&base, &beside, &groups[..whole], want, &mut out.versions) {
            // The check sums fit and the content does not: what is good ends before it.
            out.damage = Some(Damage::Content { at: groups[at].end });
            out.versions.clear();
            whole = at;
        }
        if let (Some(group), Some((newest, _)), None) =
            (next, out.versions.last(), out.damage.as_ref())
        {
            let mut one = Vec::new();
            let tried = replay(
                newest,
                &[],
                std::slice::from_ref(group),
                Want::Newest(1),
                &mut one,
            );
            out.ahead = tried.ok().and_then(|()| one.pop());
        }
        Ok(Ok(out))
    }

    /// Groups of the journal as far as they are whole; whatever is not is dealt with.
    fn groups(
        &self,
        zone: ZoneId,
        segment: &Segment,
        repair: bool,
        out: &mut Recovered,
    ) -> Result<Vec<Group>, ArchiveError> {
        let path = self.path(zone, Kind::Journal, VersionId(segment.base));
        let end = segment.end();
        let found = match journal::read(&self.disk, &path, zone, VersionId(segment.base)) {
            Ok(found) => found,
            Err(e) if e.is_not_found() => {
                out.damage = (end > 0).then_some(Damage::Torn { at: 0 });
                return Ok(Vec::new());
            }
            Err(ArchiveError::Damaged { damage, .. }) => {
                if repair {
                    out.set_aside = self.set_aside(zone, &path).ok();
                }
                out.damage = (end > 0).then_some(damage);
                return Ok(Vec::new());
            }
            Err(e) => return Err(e),
        };
        let good = found.groups.last().map_or(HEADER_LEN as u64, |g| g.end);
        if good < end {
            if repair && found.tail != JournalTail::Clean {
                out.set_aside = self.cut(zone, &path, good).ok();
            }
            out.damage = Some(match found.tail {
                JournalTail::Corrupt { at } => Damage::Corrupt { at },
                JournalTail::Torn { at } => Damage::Torn { at },
                JournalTail::Clean => Damage::Torn { at: good },
            });
            return Ok(found.groups);
        }
        let cut = match found.tail {
            JournalTail::Clean => None,
            // An interrupted write, or octets that never counted.
            JournalTail::Torn { .. } | JournalTail::Corrupt { .. } => Some(good),
        };
        if let Some(at) = cut.filter(|_| repair) {
            out.set_aside = self.cut(zone, &path, at).ok();
        }
        Ok(found.groups)
    }

    /// Moves the files of a segment that is of no use any more to `lost/`.
    pub fn set_segment_aside(&self, zone: ZoneId, segment: &Segment) -> Result<(), ArchiveError> {
        for kind in [Kind::Snapshot, Kind::Journal] {
            let path = self.path(zone, kind, VersionId(segment.base));
            if path.exists() {
                self.set_aside(zone, &path)?;
            }
        }
        Ok(())
    }

    /// Removes snapshots and journals that no segment names and that are older than the newest one. To
    /// be called when the segments are committed. `keep`: a snapshot that is being made.
    ///
    /// What is newer may have been begun after the caller looked at its segments, so it stays: what a
    /// crash left of it goes when a segment is newer.
    pub fn tidy(
        &self,
        zone: ZoneId,
        segments: &[Segment],
        keep: Option<u64>,
    ) -> Result<(), ArchiveError> {
        let newest = segments.iter().map(|s| s.base).max();
        for file in self.list(zone)? {
            let v = file.version.0;
            let named = segments.iter().any(|s| s.base == v) || keep == Some(v);
            let older = newest.is_some_and(|n| v < n);
            if file.kind != Kind::Candidate && !named && older {
                self.disk.remove(&file.path)?;
            }
        }
        Ok(())
    }
}

pub(crate) type Parts = Vec<(u8, Vec<u8>)>;

/// The segment that a version goes on in, with the version before it; `None`: it has to begin one.
pub(crate) fn open_segment<'a>(
    segments: &'a [Segment],
    old: Option<&'a ZoneVersion>,
    new: &ZoneVersion,
) -> Option<(&'a Segment, &'a ZoneVersion)> {
    let (open, old) = (segments.last()?, old?);
    let goes_on = old.id().0 == open.head() && !open.holds(new.id().0);
    goes_on.then_some((open, old))
}

/// The patch of a version as a group; `None`: it is larger than `max`, or cannot be.
pub(crate) fn patch(old: &ZoneVersion, new: Writing<'_>, max: u64) -> Option<Parts> {
    let v = new.version;
    let mut begin = old.id().0.to_le_bytes().to_vec();
    begin.extend_from_slice(&v.id().0.to_le_bytes());
    begin.extend_from_slice(&old.serial().0.to_le_bytes());
    begin.extend_from_slice(&v.serial().0.to_le_bytes());
    begin.extend_from_slice(&new.now.secs().to_le_bytes());
    begin.extend_from_slice(&v.full_fingerprint().to_bytes());
    let mut parts = vec![(DELTA_BEGIN, begin)];
    let mut octets = 0u64;
    let possible = v.export_patch(old, &mut |kind, bytes| {
        octets += bytes.len() as u64;
        if octets <= max {
            parts.push((kind, bytes.to_vec()));
        }
    });
    parts.push((DELTA_END, new.beside.to_vec()));
    (possible && octets <= max).then_some(parts)
}

/// The version that a group leads to.
pub(crate) fn to_of(parts: &Parts) -> Option<u64> {
    let (_, begin) = parts.first().filter(|(kind, _)| *kind == DELTA_BEGIN)?;
    let to = begin.get(8..16)?.first_chunk()?;
    Some(u64::from_le_bytes(*to))
}

/// Plays groups onto a version. An error names the group that does not fit.
fn replay(
    base: &Arc<ZoneVersion>,
    beside: &[u8],
    groups: &[Group],
    want: Want,
    out: &mut Vec<Kept>,
) -> Result<(), usize> {
    let wanted = |i: usize, version: u64| match want {
        Want::Newest(n) => i + n > groups.len(),
        Want::One(v) => v == version,
    };
    if wanted(0, base.id().0) {
        out.push((base.clone(), beside.to_vec()));
    }
    let mut replay = Replay::new(base.clone());
    let mut open = 0;
    for (i, group) in groups.iter().enumerate() {
        let Some((_, inner)) = group.parts.split_first() else {
            return Err(i);
        };
        let (beside, patch) = match inner.split_last() {
            Some(((DELTA_END, beside), patch)) => (beside, patch),
            _ => return Err(i),
        };
        replay.apply(patch).map_err(|_| i)?;
        if wanted(i + 1, to_of(&group.parts).unwrap_or_default()) {
            // What does not fit may be any since the last one that was checked.
            let version = replay.version().map_err(|_| open)?;
            out.push((version, beside.clone()));
            open = i + 1;
        }
    }
    Ok(())
}

fn header(zone: ZoneId, segment: &Segment) -> FileHeader {
    FileHeader {
        kind: FileKind::Journal,
        zone,
        version: VersionId(segment.base),
        serial: Serial(segment.serial),
        created: Timestamp::from_secs(0),
        fingerprint: [0; 16],
    }
}
