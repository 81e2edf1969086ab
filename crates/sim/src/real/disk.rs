//! A disk as a power cut leaves it: what was synced is there, of the rest some sectors are.
//!
//! The archive works on real files in a directory in memory, and tells of each of its operations.
//! This keeps beside it what of them is durable.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cascade_archive::{ArchiveError, Disk, ZoneFiles};

use crate::rng::Rng;

/// What a disk writes at once.
const SECTOR: usize = 512;

#[derive(Clone, Default, Debug, PartialEq, Eq)]
struct Inode {
    now: Arc<Vec<u8>>,
    synced: Arc<Vec<u8>>,
}

/// A change of names that is not durable yet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Add(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Change::Add(path, id) => _ = names.insert(path.clone(), *id),
            Change::Remove(path) => _ = names.remove(path),
            Change::Rename(from, to, id) => {
                names.remove(from);
                names.insert(to.clone(), *id);
            }
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        let at = match self {
            Change::Add(path, _) | Change::Remove(path) | Change::Rename(_, path, _) => path,
        };
        at.parent() == Some(dir)
    }
}

/// Files below one directory, by their paths in it.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(super) struct SimDisk {
    inodes: BTreeMap<u64, Inode>,
    /// As the running system sees them, and as they are on the disk.
    names: BTreeMap<PathBuf, u64>,
    durable: BTreeMap<PathBuf, u64>,
    pending: Vec<Change>,
    next: u64,
}

/// What became of work on the files.
pub(super) struct Worked<T> {
    /// `None`: the power went.
    pub(super) result: Option<Result<T, ArchiveError>>,
    /// Operations that changed something, the one included that was not done.
    pub(super) steps: u32,
}

struct Watch {
    disk: SimDisk,
    root: PathBuf,
    steps: u32,
    stop: Option<u32>,
    dead: bool,
    /// A file that could not be read back: the model is wrong from there.
    lost: Option<io::Error>,
}

impl SimDisk {
    /// Work on the files; the power goes before the operation `stop`, counted from 1.
    ///
    /// # Errors
    /// The host's own file system does not do what it must.
    pub(super) fn work<T>(
        &mut self,
        stop: Option<u32>,
        work: impl FnOnce(&ZoneFiles) -> Result<T, ArchiveError>,
    ) -> io::Result<Worked<T>> {
        let memory = Path::new("/dev/shm");
        let mut place = tempfile::Builder::new();
        let place = place.prefix("cascade-sim-");
        let dir = match memory.is_dir() {
            true => place.tempdir_in(memory)?,
            false => place.tempdir()?,
        };
        let root = dir.path().to_owned();
        for (path, id) in &self.names {
            let path = root.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let inode = self.inodes.get(id).cloned().unwrap_or_default();
            fs::write(&path, &inode.now[..])?;
        }
        let watch = Arc::new(Mutex::new(Watch {
            disk: std::mem::take(self),
            root: root.clone(),
            steps: 0,
            stop,
            dead: false,
            lost: None,
        }));
        let seen = watch.clone();
        let disk = Disk::with_hook(move |op, path| {
            let mut watch = seen.lock().unwrap_or_else(PoisonError::into_inner);
            watch.see(op, path)
        });
        let result = work(&ZoneFiles::new(&disk, &root));
        let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
        *self = std::mem::take(&mut watch.disk);
        if let Some(e) = watch.lost.take() {
            return Err(e);
        }
        Ok(Worked {
            result: (!watch.dead).then_some(result),
            steps: watch.steps,
        })
    }

    /// The power goes: of what was not synced some sectors survive, and some changes of names.
    pub(super) fn crash(&mut self, draw: &mut Rng) {
        let mut names = std::mem::take(&mut self.durable);
        for change in std::mem::take(&mut self.pending) {
            if draw.one_in(2) {
                change.apply(&mut names);
            }
        }
        self.inodes.retain(|id, _| names.values().any(|n| n == id));
        for inode in self.inodes.values_mut() {
            if inode.now != inode.synced {
                let left = Arc::new(torn(&inode.synced, &inode.now, draw));
                (inode.now, inode.synced) = (left.clone(), left);
            }
        }
        self.durable.clone_from(&names);
        self.names = names;
    }

    /// Octets of a file.
    #[cfg(test)]
    fn file(&self, path: &str) -> Option<&[u8]> {
        let id = self.names.get(Path::new(path))?;
        self.inodes.get(id).map(|i| &i.now[..])
    }

    /// What recovery set aside is for people; it is looked at no more.
    pub(super) fn clear_lost(&mut self) {
        let lost = |p: &Path| p.components().any(|c| c.as_os_str() == "lost");
        self.names.retain(|p, _| !lost(p));
        self.durable.retain(|p, _| !lost(p));
        let stays = |c: &Change| match c {
            Change::Add(p, _) => !lost(p),
            Change::Remove(_) => true,
            Change::Rename(..) => true,
        };
        self.pending.retain(stays);
    }

    pub(super) fn has_candidate(&self, version: u64) -> bool {
        let name = format!("cand-{version}.cc");
        let is = |p: &PathBuf| p.file_name().is_some_and(|f| f == name.as_str());
        self.names.keys().any(is)
    }

    fn id(&mut self, path: &Path) -> u64 {
        if let Some(id) = self.names.get(path) {
            return *id;
        }
        self.make(path)
    }

    fn make(&mut self, path: &Path) -> u64 {
        self.next += 1;
        self.inodes.insert(self.next, Inode::default());
        self.change(Change::Add(path.to_owned(), self.next));
        self.next
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }
}

/// `new` over `old`, of which each sector that differs may have come to the disk or not.
fn torn(old: &[u8], new: &[u8], draw: &mut Rng) -> Vec<u8> {
    let mut out = old.to_vec();
    let longest = old.len().max(new.len());
    let mut length = old.len();
    // The length is metadata, which may be ahead of the data.
    let whole = draw.one_in(2);
    if whole || new.len() < old.len() && draw.one_in(2) {
        length = new.len();
    }
    out.resize(longest, 0);
    for at in (0..new.len()).step_by(SECTOR) {
        let end = (at + SECTOR).min(new.len());
        let same = old.get(at..end) == new.get(at..end);
        if !same && draw.one_in(2) {
            out[at..end].copy_from_slice(&new[at..end]);
            length = length.max(end);
        }
    }
    out.truncate(length);
    out
}

impl Watch {
    fn see(&mut self, op: &'static str, path: &Path) -> io::Result<()> {
        if self.dead {
            return Err(io::Error::other("the power is off"));
        }
        let Ok(path) = path.strip_prefix(&self.root) else {
            return Ok(());
        };
        let path = path.to_owned();
        match op {
            "create" | "write" | "sync" | "truncate" | "rename" | "remove" | "sync directory" => {
                self.steps += 1;
                if self.stop == Some(self.steps) {
                    self.dead = true;
                    return Err(io::Error::other("the power goes"));
                }
            }
            "create done" => _ = self.disk.make(&path),
            "open done" => _ = self.disk.id(&path),
            "write done" | "truncate done" => {
                let id = self.disk.id(&path);
                match fs::read(self.root.join(&path)) {
                    Ok(octets) => {
                        if let Some(inode) = self.disk.inodes.get_mut(&id) {
                            inode.now = Arc::new(octets);
                        }
                    }
                    Err(e) => self.lost = Some(e),
                }
            }
            "sync done" => {
                let id = self.disk.id(&path);
                if let Some(inode) = self.disk.inodes.get_mut(&id) {
                    inode.synced = inode.now.clone();
                }
            }
            "rename done" => {
                let gone = |p: &&PathBuf| **p != path && !self.root.join(p).exists();
                let from = self.disk.names.keys().find(gone).cloned();
                if let Some(from) = from {
                    let id = self.disk.id(&from);
                    self.disk.change(Change::Rename(from, path, id));
                }
            }
            "remove done" => self.disk.change(Change::Remove(path)),
            "sync directory done" => {
                let (now, later) = std::mem::take(&mut self.disk.pending)
                    .into_iter()
                    .partition(|c| c.is_in(&path));
                self.disk.pending = later;
                let now: Vec<Change> = now;
                now.iter().for_each(|c| c.apply(&mut self.disk.durable));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(synced: &[u8], now: &[u8]) -> SimDisk {
        let mut d = SimDisk::default();
        let id = d.make(Path::new("a"));
        let inode = d.inodes.get_mut(&id).expect("made");
        inode.synced = Arc::new(synced.to_vec());
        inode.now = Arc::new(now.to_vec());
        for c in std::mem::take(&mut d.pending) {
            c.apply(&mut d.durable);
        }
        d
    }

    #[test]
    fn what_is_synced_survives_and_of_the_rest_any_sectors() {
        let old = vec![1u8; 700];
        let new = [vec![1u8; 700], vec![2u8; 1500]].concat();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut d = disk(&old, &new);
            d.crash(&mut Rng::stream(seed, "disk"));
            let left = d.file("a").expect("its name was synced");
            assert_eq!(left[..512], old[..512]);
            assert!(left.len() >= old.len() && left.len() <= new.len());
            assert!(left[700..].iter().all(|b| *b == 2 || *b == 0));
            assert_eq!(left[..700], new[..700]);
            seen.insert(left.to_vec());
        }
        assert!(seen.contains(&old) && seen.contains(&new));
        assert!(seen.len() > 8, "{}", seen.len());
    }

    #[test]
    fn a_name_is_durable_with_its_directory() {
        let mut kept = 0;
        for seed in 0..64 {
            let mut d = SimDisk::default();
            d.make(Path::new("x/a"));
            let mut synced = d.clone();
            d.crash(&mut Rng::stream(seed, "disk"));
            kept += usize::from(d.file("x/a").is_some());
            for c in std::mem::take(&mut synced.pending) {
                assert!(c.is_in(Path::new("x")) && !c.is_in(Path::new("")));
                c.apply(&mut synced.durable);
            }
            synced.crash(&mut Rng::stream(seed, "disk"));
            assert!(synced.file("x/a").is_some());
        }
        assert!(kept > 16 && kept < 48, "{kept}");
    }
}
