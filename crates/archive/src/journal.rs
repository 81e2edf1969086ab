//! A journal: groups of frames, each appended and synced as one, each ended by a `DeltaEnd`.

use std::fs::File;
use std::path::{Path, PathBuf};

use cascade_zone::{VersionId, ZoneId};

use crate::disk::{Disk, MODE_ZONE};
use crate::error::{ArchiveError, Damage};
use crate::frame::{
    DELTA_BEGIN, DELTA_END, FLAG_CONTINUED, FileHeader, FileKind, HEADER_LEN, frame_at,
    good_frame_after, is_whole, push_part,
};
use crate::version_file::header_of;

/// One delta: its parts in the order they were appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub parts: Vec<(u8, Vec<u8>)>,
    /// Offset after it; what the state commits.
    pub end: u64,
}

/// What stands after the last whole group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalTail {
    Clean,
    /// Octets from here on are an interrupted write.
    Torn {
        at: u64,
    },
    /// A damaged frame with good ones after it: not an interrupted write.
    Corrupt {
        at: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    pub header: FileHeader,
    pub groups: Vec<Group>,
    pub tail: JournalTail,
    /// Number of the next frame.
    pub next_seq: u64,
}

/// The open journal of a zone.
pub struct JournalWriter {
    disk: Disk,
    file: File,
    path: PathBuf,
    zone: ZoneId,
    end: u64,
    seq: u64,
    /// A failed append could not be taken back; nothing more may follow it.
    broken: bool,
}

impl JournalWriter {
    /// A new journal, durable with its header before this returns.
    pub fn create(disk: &Disk, path: &Path, header: &FileHeader) -> Result<Self, ArchiveError> {
        let tmp = crate::disk::temporary(path);
        let mut file = disk.create(&tmp, MODE_ZONE)?;
        disk.write(&mut file, &tmp, &header.encode())?;
        disk.sync(&file, &tmp)?;
        disk.rename(&tmp, path)?;
        let file = disk.open_append(path, MODE_ZONE)?;
        Ok(JournalWriter {
            disk: disk.clone(),
            file,
            path: path.to_owned(),
            zone: header.zone,
            end: HEADER_LEN as u64,
            seq: 0,
            broken: false,
        })
    }

    /// Goes on after the groups that `journal` found; whatever stands behind them must have been
    /// dealt with by [`cut`].
    pub fn resume(disk: &Disk, path: &Path, journal: &Journal) -> Result<Self, ArchiveError> {
        let file = disk.open_append(path, MODE_ZONE)?;
        let end = journal.groups.last().map_or(HEADER_LEN as u64, |g| g.end);
        disk.truncate(&file, path, end)?;
        Ok(JournalWriter {
            disk: disk.clone(),
            file,
            path: path.to_owned(),
            zone: journal.header.zone,
            end,
            seq: journal.next_seq,
            broken: false,
        })
    }

    /// Goes on at an offset that a state has committed. What stands behind it was never committed
    /// and is cut off.
    ///
    /// # Errors
    /// `Damaged` when the file does not reach that far.
    pub fn reopen(
        disk: &Disk,
        path: &Path,
        zone: ZoneId,
        end: u64,
        seq: u64,
    ) -> Result<Self, ArchiveError> {
        let file = disk.open_append(path, MODE_ZONE)?;
        let len = disk.length(&file, path)?;
        if len < end {
            return Err(ArchiveError::damaged(path, Damage::Torn { at: len }));
        }
        if len > end {
            disk.truncate(&file, path, end)?;
        }
        Ok(JournalWriter {
            disk: disk.clone(),
            file,
            path: path.to_owned(),
            zone,
            end,
            seq,
            broken: false,
        })
    }

    /// Appends one group and syncs it. Returns the offset after it. After an error the journal is
    /// as before.
    pub fn append(&mut self, parts: &[(u8, &[u8])]) -> Result<u64, ArchiveError> {
        self.append_all(std::iter::once(parts))?;
        Ok(self.end)
    }

    /// Appends groups with one write and one sync; gives the offset and the frame number after
    /// each.
    pub fn append_all<'a>(
        &mut self,
        groups: impl Iterator<Item = &'a [(u8, &'a [u8])]>,
    ) -> Result<Vec<(u64, u64)>, ArchiveError> {
        if self.broken {
            self.disk.truncate(&self.file, &self.path, self.end)?;
            self.broken = false;
        }
        let mut buf = Vec::new();
        let mut seq = self.seq;
        let mut places = Vec::new();
        for parts in groups {
            for (kind, bytes) in parts {
                push_part(&mut buf, self.zone, *kind, &mut seq, bytes);
            }
            places.push((self.end + buf.len() as u64, seq));
        }
        let written = self
            .disk
            .write(&mut self.file, &self.path, &buf)
            .and_then(|()| self.disk.sync(&self.file, &self.path));
        if let Err(e) = written {
            self.broken = self
                .disk
                .truncate(&self.file, &self.path, self.end)
                .is_err();
            return Err(e);
        }
        self.seq = seq;
        self.end += buf.len() as u64;
        Ok(places)
    }

    pub fn len(&self) -> u64 {
        self.end
    }

    /// Number of the next frame.
    pub fn next_seq(&self) -> u64 {
        self.seq
    }

    pub fn is_empty(&self) -> bool {
        self.seq == 0
    }
}

/// Reads a journal. Everything up to `committed` must be whole; behind it, whole groups are given
/// and the rest is classified.
///
/// # Errors
/// `Damaged` for a header that does not fit; damage before `committed` is in the tail, with the
/// groups that are good.
pub fn read(
    disk: &Disk,
    path: &Path,
    zone: ZoneId,
    after: VersionId,
) -> Result<Journal, ArchiveError> {
    let bytes = disk.read(path)?;
    let header = header_of(path, &bytes)?;
    header
        .expect(FileKind::Journal, zone, after)
        .map_err(|d| ArchiveError::damaged(path, d))?;
    Ok(groups(&bytes, HEADER_LEN, zone, 0, header))
}

/// The header alone.
pub(crate) fn header(disk: &Disk, path: &Path) -> Result<FileHeader, ArchiveError> {
    header_of(path, &disk.read(path)?)
}

/// The groups that stand in a journal between two offsets that it has given out before.
pub(crate) fn read_range(
    disk: &Disk,
    path: &Path,
    header: FileHeader,
    (from, seq): (u64, u64),
    to: u64,
) -> Result<Journal, ArchiveError> {
    let bytes = disk.read_range(path, from, to)?;
    let zone = header.zone;
    Ok(groups(&bytes, 0, zone, seq, header))
}

/// Offsets in what comes out are those in `bytes`.
fn groups(bytes: &[u8], start: usize, zone: ZoneId, seq: u64, header: FileHeader) -> Journal {
    let mut out = Journal {
        header,
        groups: Vec::new(),
        tail: JournalTail::Clean,
        next_seq: seq,
    };
    let mut at = start;
    let mut seq = seq;
    let mut parts: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut open = false;
    while at < bytes.len() {
        let good =
            frame_at(bytes, at, zone).filter(|(f, crc)| f.seq == seq && is_whole(bytes, f, *crc));
        let Some((f, _)) = good else {
            let corrupt = good_frame_after(bytes, at, zone, seq);
            let at = at as u64;
            out.tail = if corrupt {
                JournalTail::Corrupt { at }
            } else {
                JournalTail::Torn { at }
            };
            return out;
        };
        // A group starts with its beginning and nothing else.
        if parts.is_empty() && f.kind != DELTA_BEGIN {
            out.tail = JournalTail::Corrupt { at: f.start };
            return out;
        }
        match parts.last_mut().filter(|(kind, _)| open && *kind == f.kind) {
            Some((_, joined)) => joined.extend_from_slice(f.payload),
            None => parts.push((f.kind, f.payload.to_vec())),
        }
        open = f.flags & FLAG_CONTINUED != 0;
        seq += 1;
        at = f.end as usize;
        if f.kind == DELTA_END && !open {
            out.groups.push(Group {
                parts: std::mem::take(&mut parts),
                end: f.end,
            });
            out.next_seq = seq;
        }
    }
    if !parts.is_empty() {
        let at = out.groups.last().map_or(start as u64, |g| g.end);
        out.tail = JournalTail::Torn { at };
    }
    out
}

/// What to do with a journal, given the offset that the state has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Whole up to the committed offset and nothing behind it.
    Whole,
    /// Whole groups stand behind the committed offset: perhaps the state's candidate, whose commit
    /// was missing. How many.
    Ahead { groups: usize },
    /// As `Whole` (with groups ahead, if any), and an interrupted write behind that: set it aside
    /// and cut.
    TornBehind { at: u64, groups: usize },
    /// Damage before the committed offset: only the groups given are good.
    Lost { damage: Damage },
}

impl Journal {
    pub fn verdict(&self, committed: u64) -> Verdict {
        let good_to = self.groups.last().map_or(HEADER_LEN as u64, |g| g.end);
        let bad = match self.tail {
            JournalTail::Clean => None,
            JournalTail::Torn { at } => Some(Damage::Torn { at }),
            JournalTail::Corrupt { at } => Some(Damage::Corrupt { at }),
        };
        let groups = self.groups.iter().filter(|g| g.end > committed).count();
        match bad {
            _ if good_to < committed => {
                let damage = bad.unwrap_or(Damage::Torn { at: good_to });
                Verdict::Lost { damage }
            }
            Some(Damage::Corrupt { at }) => Verdict::Lost {
                damage: Damage::Corrupt { at },
            },
            Some(_) => Verdict::TornBehind {
                at: good_to,
                groups,
            },
            None if groups > 0 => Verdict::Ahead { groups },
            None => Verdict::Whole,
        }
    }
}
