//! Where the files of zones are, and what is kept, set aside and removed.
//!
//! ```text
//! zone-state/<hh>/<zone-id>/snap-<version>.cz  cand-<version>.cc  jrnl-<version>.cj  lost/
//! ```
//! `<hh>` is the last two characters of the zone id; names of zones never appear in paths.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cascade_time::Timestamp;
use cascade_zone::parts::{ImportError, Imported};
use cascade_zone::{VersionId, ZoneId, ZoneVersion};

use crate::disk::Disk;
use crate::error::{ArchiveError, Damage};
use crate::frame::{FileHeader, FileKind};
use crate::version_file::{self, Pace, PartSource, WholeVersion};

#[derive(Clone)]
pub struct ZoneFiles {
    pub(crate) disk: Disk,
    root: PathBuf,
    /// Directories of many zones whose own entries are durable; no more than 1,024 by their names.
    durable: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// A file of a zone, by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub version: VersionId,
    pub kind: Kind,
    pub path: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Snapshot,
    Candidate,
    Journal,
}

/// When the records of a version that is read back are compared with its fingerprints. Check sums of its
/// file are compared in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    Now,
    /// Of a large version the caller does it himself: [`ZoneVersion::recount`].
    Later,
}

/// What recovery of one version came to: the table of the design, one case each.
#[derive(Debug)]
pub enum Recovery {
    Whole(Box<WholeVersion>),
    /// No such file.
    Missing,
    /// The content can be trusted no more; `lost/` has the file. Older versions or the source help.
    ContentLost {
        damage: Damage,
        set_aside: Option<PathBuf>,
    },
    /// Only signatures are affected; the file is left where it is, so that its content can be used.
    SignaturesLost {
        damage: Damage,
    },
    /// Not what the state says it is; `lost/` has it.
    Foreign {
        damage: Damage,
        set_aside: Option<PathBuf>,
    },
    /// Written by a newer release: neither touched nor served.
    Newer(ArchiveError),
}

impl ZoneFiles {
    /// `root` is `/var/lib/cascade`; directories are made when they are needed.
    pub fn new(disk: &Disk, root: &Path) -> Self {
        ZoneFiles {
            disk: disk.clone(),
            root: root.to_owned(),
            durable: Arc::default(),
        }
    }

    pub fn dir(&self, zone: ZoneId) -> PathBuf {
        let id = zone.to_string();
        let hh = id
            .get(id.len().saturating_sub(2)..)
            .unwrap_or("00")
            .to_owned();
        self.root.join("zone-state").join(hh).join(id)
    }

    pub fn path(&self, zone: ZoneId, kind: Kind, version: VersionId) -> PathBuf {
        let v = version.0;
        self.dir(zone).join(match kind {
            Kind::Snapshot => format!("snap-{v}.cz"),
            Kind::Candidate => format!("cand-{v}.cc"),
            Kind::Journal => format!("jrnl-{v}.cj"),
        })
    }

    /// Writes a whole version; when this returns, it is durable.
    ///
    /// # Errors
    /// `StorageFull` or `Io`; what was there before is still there.
    pub fn write(
        &self,
        kind: Kind,
        header: &FileHeader,
        records: u64,
        ledger: &[u8],
        parts: PartSource<'_>,
    ) -> Result<PathBuf, ArchiveError> {
        self.write_paced(kind, header, records, ledger, parts, &|_| {})
    }

    pub(crate) fn write_paced(
        &self,
        kind: Kind,
        header: &FileHeader,
        records: u64,
        ledger: &[u8],
        parts: PartSource<'_>,
        pace: Pace<'_>,
    ) -> Result<PathBuf, ArchiveError> {
        let path = self.path(header.zone, kind, header.version);
        self.make_dir(header.zone)?;
        version_file::write(&self.disk, &path, header, records, ledger, parts, pace)?;
        Ok(path)
    }

    /// Writes a version of the zone store as a snapshot or candidate.
    pub fn save(
        &self,
        kind: Kind,
        version: &ZoneVersion,
        ledger: &[u8],
        created: Timestamp,
    ) -> Result<PathBuf, ArchiveError> {
        let header = FileHeader {
            kind: file_kind(kind),
            zone: version.zone(),
            version: version.id(),
            serial: version.serial(),
            created,
            fingerprint: version.full_fingerprint().0.to_le_bytes(),
        };
        let records = version.sums().records;
        self.write(kind, &header, records, ledger, &|sink| {
            version.export_parts(sink)
        })
    }

    /// Reads a version back into the zone store; its ledger comes with it. What the store finds
    /// wrong is sorted like damage of the file.
    pub fn load(
        &self,
        zone: ZoneId,
        kind: Kind,
        version: VersionId,
    ) -> Result<Result<(ZoneVersion, Vec<u8>), Recovery>, ArchiveError> {
        let loaded = self.load_as(zone, kind, version, Check::Now)?;
        Ok(loaded.map(|(imported, ledger)| (imported.version, ledger)))
    }

    pub(crate) fn load_as(
        &self,
        zone: ZoneId,
        kind: Kind,
        version: VersionId,
        check: Check,
    ) -> Result<Result<(Imported, Vec<u8>), Recovery>, ArchiveError> {
        let whole = match self.recover(zone, kind, version)? {
            Recovery::Whole(w) => *w,
            other => return Ok(Err(other)),
        };
        let fingerprint = whole.header.fingerprint;
        let path = self.path(zone, kind, version);
        let first = match check {
            Check::Now => None,
            // What is wrong is found out with all checks.
            Check::Later => ZoneVersion::import_first(whole.parts.iter().map(borrowed)).ok(),
        };
        let imported = match first {
            Some(imported) => Ok(imported),
            None => ZoneVersion::import_parts(whole.parts.iter().map(borrowed)).map(|version| {
                Imported {
                    version,
                    is_checked: true,
                }
            }),
        };
        match imported {
            Ok(i) if i.version.zone() != zone || i.version.id() != version => {
                let damage = Damage::WrongVersion;
                let set_aside = self.set_aside(zone, &path).ok();
                Ok(Err(Recovery::Foreign { damage, set_aside }))
            }
            Ok(i) if i.version.full_fingerprint().0.to_le_bytes() == fingerprint => {
                Ok(Ok((i, whole.ledger)))
            }
            Err(ImportError::Signatures(_)) => {
                let damage = Damage::Signatures { at: 0 };
                Ok(Err(Recovery::SignaturesLost { damage }))
            }
            Ok(_) | Err(_) => {
                let damage = Damage::Content { at: 0 };
                let set_aside = self.set_aside(zone, &path).ok();
                Ok(Err(Recovery::ContentLost { damage, set_aside }))
            }
        }
    }

    pub(crate) fn make_dir(&self, zone: ZoneId) -> Result<(), ArchiveError> {
        let dir = self.dir(zone);
        if dir.is_dir() {
            return Ok(());
        }
        self.disk.make_dir(&dir)?;
        // A new directory is durable only with the entry in the one above it. Another zone may have
        // made that one a moment ago, so that it is there and not yet durable.
        self.disk.sync_dir_of(&dir)?;
        let Some(shared) = dir.parent() else {
            return Ok(());
        };
        // A set cannot be left half changed.
        let durable = || self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if durable().contains(shared) {
            return Ok(());
        }
        let mut at = shared;
        while at != self.root && at.parent().is_some() {
            self.disk.sync_dir_of(at)?;
            at = at.parent().unwrap_or(&self.root);
        }
        durable().insert(shared.to_owned());
        Ok(())
    }

    /// Reads a version back and sorts out what is wrong with it.
    ///
    /// # Errors
    /// Only what says nothing about the file: the disk did not answer.
    pub fn recover(
        &self,
        zone: ZoneId,
        kind: Kind,
        version: VersionId,
    ) -> Result<Recovery, ArchiveError> {
        let path = self.path(zone, kind, version);
        match version_file::read(&self.disk, &path, file_kind(kind), zone, version) {
            Ok(v) => Ok(Recovery::Whole(Box::new(v))),
            Err(e) if e.is_not_found() => Ok(Recovery::Missing),
            Err(e @ ArchiveError::Newer { .. }) => Ok(Recovery::Newer(e)),
            Err(ArchiveError::Damaged { damage, .. }) => Ok(match damage {
                Damage::Signatures { .. } => Recovery::SignaturesLost { damage },
                Damage::OtherZone | Damage::WrongVersion => Recovery::Foreign {
                    damage,
                    set_aside: self.set_aside(zone, &path).ok(),
                },
                _ => Recovery::ContentLost {
                    damage,
                    set_aside: self.set_aside(zone, &path).ok(),
                },
            }),
            Err(e) => Err(e),
        }
    }

    /// Moves a file to `lost/` under a name that is free. Only an operator removes it from there.
    pub fn set_aside(&self, zone: ZoneId, path: &Path) -> Result<PathBuf, ArchiveError> {
        let lost = self.dir(zone).join("lost");
        self.disk.make_dir(&lost)?;
        let name = path
            .file_name()
            .map_or_else(|| "file".into(), |n| n.to_os_string());
        let to = free_name(&lost.join(name));
        self.disk.rename(path, &to)?;
        Ok(to)
    }

    /// Copies the octets from `from` on to `lost/` and cuts them off.
    pub fn cut(&self, zone: ZoneId, path: &Path, from: u64) -> Result<PathBuf, ArchiveError> {
        let bytes = self.disk.read(path)?;
        let lost = self.dir(zone).join("lost");
        self.disk.make_dir(&lost)?;
        let name = path
            .file_name()
            .map_or_else(|| "file".into(), |n| n.to_os_string());
        let to = free_name(&lost.join(name));
        let tail = bytes
            .get(usize::try_from(from).unwrap_or(usize::MAX)..)
            .unwrap_or_default();
        let mut copy = self.disk.create(&to, crate::disk::MODE_ZONE)?;
        self.disk.write(&mut copy, &to, tail)?;
        self.disk.sync(&copy, &to)?;
        self.disk.sync_dir_of(&to)?;
        let file = self.disk.open_append(path, crate::disk::MODE_ZONE)?;
        self.disk.truncate(&file, path, from)?;
        self.disk.sync(&file, path)?;
        Ok(to)
    }

    /// The files of a zone, by version. Temporary and unknown names are not among them.
    pub fn list(&self, zone: ZoneId) -> Result<Vec<Found>, ArchiveError> {
        let mut out: Vec<Found> = self
            .disk
            .list(&self.dir(zone))?
            .into_iter()
            .filter_map(parse_name)
            .collect();
        out.sort();
        Ok(out)
    }

    /// Files in `lost/`, for the status.
    pub fn lost(&self, zone: ZoneId) -> Result<Vec<PathBuf>, ArchiveError> {
        self.disk.list(&self.dir(zone).join("lost"))
    }

    /// Removes every file of this version; having none is fine.
    pub fn remove(&self, zone: ZoneId, version: VersionId) -> Result<(), ArchiveError> {
        for kind in [Kind::Snapshot, Kind::Candidate, Kind::Journal] {
            let path = self.path(zone, kind, version);
            if path.exists() {
                self.disk.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Removes the candidate file of this version, if there is one.
    pub fn remove_candidate(&self, zone: ZoneId, version: VersionId) -> Result<(), ArchiveError> {
        let path = self.path(zone, Kind::Candidate, version);
        if path.exists() {
            self.disk.remove(&path)?;
        }
        Ok(())
    }

    /// Removes candidate files that a crash has left: all but those of `kept`. To be called while nothing
    /// writes any.
    pub fn tidy_candidates(&self, zone: ZoneId, kept: &[VersionId]) -> Result<(), ArchiveError> {
        for file in self.list(zone)? {
            if file.kind == Kind::Candidate && !kept.contains(&file.version) {
                self.disk.remove(&file.path)?;
            }
        }
        Ok(())
    }

    /// A removed zone's directory goes to `removed/`, where an operator can still find it.
    pub fn set_zone_aside(&self, zone: ZoneId) -> Result<Option<PathBuf>, ArchiveError> {
        let dir = self.dir(zone);
        if !dir.is_dir() {
            return Ok(None);
        }
        let removed = self.root.join("removed");
        self.disk.make_dir(&removed)?;
        let to = free_name(&removed.join(zone.to_string()));
        self.disk.rename(&dir, &to)?;
        Ok(Some(to))
    }

    /// Zones that have a directory, whether or not the state knows them.
    pub fn zones(&self) -> Result<Vec<ZoneId>, ArchiveError> {
        let mut out = Vec::new();
        for hh in self.disk.list(&self.root.join("zone-state"))? {
            if !hh.is_dir() {
                continue;
            }
            for dir in self.disk.list(&hh)? {
                out.extend(
                    dir.file_name()
                        .and_then(|n| n.to_str())
                        .and_then(ZoneId::parse),
                );
            }
        }
        Ok(out)
    }
}

fn file_kind(kind: Kind) -> FileKind {
    match kind {
        Kind::Snapshot => FileKind::Snapshot,
        Kind::Candidate => FileKind::Candidate,
        Kind::Journal => FileKind::Journal,
    }
}

fn parse_name(path: PathBuf) -> Option<Found> {
    let name = path.file_name()?.to_str()?;
    let (kind, rest) = match name.split_once('-')? {
        ("snap", rest) => (Kind::Snapshot, rest.strip_suffix(".cz")?),
        ("cand", rest) => (Kind::Candidate, rest.strip_suffix(".cc")?),
        ("jrnl", rest) => (Kind::Journal, rest.strip_suffix(".cj")?),
        _ => return None,
    };
    let version = VersionId(rest.parse().ok()?);
    Some(Found {
        version,
        kind,
        path,
    })
}

/// The path itself or the first `<path>.<n>` that does not exist.
pub(crate) fn free_name(path: &Path) -> PathBuf {
    if !path.exists() {
        return path.to_owned();
    }
    (1u32..)
        .map(|n| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        })
        .find(|p| !p.exists())
        .unwrap_or_else(|| path.to_owned())
}

fn borrowed((kind, bytes): &(u8, bytes::Bytes)) -> (u8, &bytes::Bytes) {
    (*kind, bytes)
}
