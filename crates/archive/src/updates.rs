//! Changes that were acknowledged and are not published yet: each group of edits leads from one
//! content of a zone to the next, named by their fingerprints.
//!
//! ```text
//! updates.cj   header of a journal, then groups: begin = fingerprint before (16) and after (16),
//!              chunk = edits, end = nothing
//! edit         key length 2, key, case 1 (0: none; else length 2 and octets follow), type 2,
//!              records 4 (0: the set is gone), TTL 4, then each RDATA with its length before it (2)
//! ```
//! The file is there only while something in it is not published. Its header's version counts the
//! rollbacks before it: one from before a rollback holds what was undone, and must not be carried out
//! again, however the process ended. All numbers are little-endian.

use std::path::PathBuf;

use cascade_time::Timestamp;
use cascade_zone::{Edit, Fingerprint, Rtype, Serial, VersionId, ZoneId};

use crate::error::{ArchiveError, Damage};
use crate::frame::{DELTA_BEGIN, DELTA_CHUNK, DELTA_END, FileHeader, FileKind, HEADER_LEN};
use crate::journal::{self, JournalTail, JournalWriter};
use crate::zones::ZoneFiles;

/// Beyond, nothing more is taken until something is published.
pub const MAX_LOG: u64 = 64 << 20;

/// Edits that lead from one content to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    pub before: Fingerprint,
    pub after: Fingerprint,
    pub edits: Vec<Edit>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct UpdateLog {
    pub groups: Vec<Logged>,
    /// Something behind the groups is damaged, which no interrupted write explains.
    pub damage: Option<Damage>,
}

impl ZoneFiles {
    pub fn update_log(&self, zone: ZoneId) -> PathBuf {
        self.dir(zone).join("updates.cj")
    }

    /// Appends a group; durable when this returns. `writer` is the open log, made when there is
    /// none; `rollbacks`: how many of the zone there were.
    ///
    /// # Errors
    /// `StorageFull` or `Io`; the log is as before.
    pub fn log_update(
        &self,
        zone: ZoneId,
        writer: &mut Option<JournalWriter>,
        rollbacks: u64,
        group: &Logged,
        now: Timestamp,
    ) -> Result<(), ArchiveError> {
        if writer.is_none() {
            self.make_dir(zone)?;
            let header = FileHeader {
                kind: FileKind::Journal,
                zone,
                version: VersionId(rollbacks),
                serial: Serial(0),
                created: now,
                fingerprint: group.before.to_bytes(),
            };
            let path = self.update_log(zone);
            *writer = Some(JournalWriter::create(&self.disk, &path, &header)?);
        }
        let Some(w) = writer else { return Ok(()) };
        let mut begin = group.before.to_bytes().to_vec();
        begin.extend_from_slice(&group.after.to_bytes());
        let chunk = encode(&group.edits);
        w.append(&[
            (DELTA_BEGIN, &begin),
            (DELTA_CHUNK, &chunk),
            (DELTA_END, &[]),
        ])?;
        Ok(())
    }

    /// The log that an earlier process left, with a writer that goes on after its whole groups.
    /// What an interrupted write left behind them is cut off. One from before the last of `rollbacks`
    /// is removed.
    ///
    /// # Errors
    /// `Io`, or `Damaged` when not even the header can be read.
    pub fn read_update_log(
        &self,
        zone: ZoneId,
        rollbacks: u64,
    ) -> Result<Option<(UpdateLog, JournalWriter)>, ArchiveError> {
        let path = self.update_log(zone);
        if !path.exists() {
            return Ok(None);
        }
        if journal::header(&self.disk, &path)?.version.0 < rollbacks {
            self.drop_update_log(zone)?;
            return Ok(None);
        }
        let found = journal::read(&self.disk, &path, zone, VersionId(rollbacks))?;
        let mut log = UpdateLog {
            damage: match found.tail {
                JournalTail::Corrupt { at } => Some(Damage::Corrupt { at }),
                _ => None,
            },
            ..UpdateLog::default()
        };
        let mut start = 0;
        for group in &found.groups {
            let Some(logged) = decode_group(&group.parts) else {
                log.damage = Some(Damage::Corrupt { at: start });
                break;
            };
            start = group.end;
            log.groups.push(logged);
        }
        if log.damage.is_some() {
            let from = found.groups.last().map_or(HEADER_LEN as u64, |g| g.end);
            self.cut(zone, &path, from)?;
        }
        let writer = JournalWriter::resume(&self.disk, &path, &found)?;
        Ok(Some((log, writer)))
    }

    /// Everything in it is published; durable when this returns.
    pub fn drop_update_log(&self, zone: ZoneId) -> Result<(), ArchiveError> {
        let path = self.update_log(zone);
        if path.exists() {
            self.disk.remove(&path)?;
            self.disk.sync_dir_of(&path)?;
        }
        Ok(())
    }

    /// Keeps a log that does not fit what is published, for whoever wants to know.
    pub fn set_update_log_aside(&self, zone: ZoneId) -> Result<PathBuf, ArchiveError> {
        self.set_aside(zone, &self.update_log(zone))
    }
}

fn encode(edits: &[Edit]) -> Vec<u8> {
    let mut out = Vec::new();
    let len16 = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_le_bytes();
    for e in edits {
        out.extend_from_slice(&len16(e.key.len()));
        out.extend_from_slice(&e.key);
        match &e.case {
            None => out.push(0),
            Some(case) => {
                out.push(1);
                out.extend_from_slice(&len16(case.len()));
                out.extend_from_slice(case);
            }
        }
        out.extend_from_slice(&e.rtype.0.to_le_bytes());
        let (ttl, rdatas) = match &e.set {
            None => (0, &[][..]),
            Some((ttl, rdatas)) => (*ttl, rdatas.as_slice()),
        };
        out.extend_from_slice(&(rdatas.len() as u32).to_le_bytes());
        out.extend_from_slice(&ttl.to_le_bytes());
        for r in rdatas {
            out.extend_from_slice(&len16(r.len()));
            out.extend_from_slice(r);
        }
    }
    out
}

fn decode_group(parts: &[(u8, Vec<u8>)]) -> Option<Logged> {
    let part = |kind: u8| parts.iter().find(|(k, _)| *k == kind).map(|(_, b)| b);
    let begin = part(DELTA_BEGIN)?;
    let print = |at: usize| {
        let octets: [u8; 16] = begin.get(at..at + 16)?.try_into().ok()?;
        Some(Fingerprint::from_bytes(octets))
    };
    Some(Logged {
        before: print(0)?,
        after: print(16)?,
        edits: decode(part(DELTA_CHUNK).map_or(&[], Vec::as_slice))?,
    })
}

fn decode(bytes: &[u8]) -> Option<Vec<Edit>> {
    let mut r = Reader(bytes);
    let mut out = Vec::new();
    while !r.0.is_empty() {
        let key = r.counted()?;
        let case = match r.take(1)? {
            [0] => None,
            _ => Some(r.counted()?),
        };
        let rtype = Rtype(r.u16()?);
        let n = r.u32()?;
        let ttl = r.u32()?;
        let mut rdatas = Vec::new();
        for _ in 0..n {
            rdatas.push(r.counted()?);
        }
        out.push(Edit {
            key,
            case,
            rtype,
            set: (n > 0).then_some((ttl, rdatas)),
        });
    }
    Some(out)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(*self.take(2)?.first_chunk()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.take(4)?.first_chunk()?))
    }

    fn counted(&mut self) -> Option<Vec<u8>> {
        let n = self.u16()?;
        self.take(n.into()).map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;

    fn edit(key: &[u8], set: Option<(u32, Vec<Vec<u8>>)>) -> Edit {
        Edit {
            key: key.to_vec(),
            case: set.is_some().then(|| vec![1]),
            rtype: Rtype::TXT,
            set,
        }
    }

    #[test]
    fn what_was_logged_comes_back_without_an_interrupted_write() {
        let folder = tempfile::tempdir().unwrap();
        let files = ZoneFiles::new(&Disk::new(), folder.path());
        let zone = ZoneId([7; 16]);
        assert!(files.read_update_log(zone, 0).unwrap().is_none());
        let groups = [
            Logged {
                before: Fingerprint(1),
                after: Fingerprint(2),
                edits: vec![
                    edit(b"a\0", Some((300, vec![b"\x01x".to_vec(), vec![]]))),
                    edit(b"", None),
                ],
            },
            Logged {
                before: Fingerprint(2),
                after: Fingerprint(3),
                edits: vec![],
            },
        ];
        let mut writer = None;
        for g in &groups {
            files
                .log_update(zone, &mut writer, 0, g, Timestamp::EPOCH)
                .unwrap();
        }
        let path = files.update_log(zone);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..20 {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (log, mut writer) = files.read_update_log(zone, 0).unwrap().unwrap();
            assert_eq!(log.damage, None);
            assert_eq!(log.groups, groups[..if cut == 0 { 2 } else { 1 }]);
            // It goes on behind what was whole.
            let mut open = Some(writer);
            files
                .log_update(zone, &mut open, 0, &groups[0], Timestamp::EPOCH)
                .unwrap();
            writer = open.unwrap();
            drop(writer);
            let (log, _) = files.read_update_log(zone, 0).unwrap().unwrap();
            assert_eq!(log.groups.last(), Some(&groups[0]));
        }
        files.drop_update_log(zone).unwrap();
        assert!(files.read_update_log(zone, 0).unwrap().is_none());
    }

    #[test]
    fn damage_is_no_interrupted_write() {
        let folder = tempfile::tempdir().unwrap();
        let files = ZoneFiles::new(&Disk::new(), folder.path());
        let zone = ZoneId([7; 16]);
        let mut writer = None;
        for i in 0..3 {
            let g = Logged {
                before: Fingerprint(i),
                after: Fingerprint(i + 1),
                edits: vec![edit(b"a\0", None)],
            };
            files
                .log_update(zone, &mut writer, 0, &g, Timestamp::EPOCH)
                .unwrap();
        }
        let path = files.update_log(zone);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[crate::frame::HEADER_LEN + 30] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let (log, _) = files.read_update_log(zone, 0).unwrap().unwrap();
        assert!(log.damage.is_some() && log.groups.is_empty());
    }

    #[test]
    fn what_a_rollback_undid_is_not_carried_out_again() {
        let folder = tempfile::tempdir().unwrap();
        let files = ZoneFiles::new(&Disk::new(), folder.path());
        let zone = ZoneId([7; 16]);
        let group = Logged {
            before: Fingerprint(1),
            after: Fingerprint(2),
            edits: vec![edit(b"a\0", None)],
        };
        let mut writer = None;
        files
            .log_update(zone, &mut writer, 4, &group, Timestamp::EPOCH)
            .unwrap();
        // Neither is one of a state that this one is older than.
        assert!(files.read_update_log(zone, 3).is_err());
        let (log, _) = files.read_update_log(zone, 4).unwrap().unwrap();
        assert_eq!(log.groups, [group]);
        assert!(files.read_update_log(zone, 5).unwrap().is_none());
        assert!(!files.update_log(zone).exists());
    }
}
