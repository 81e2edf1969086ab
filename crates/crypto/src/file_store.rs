//! Keys as file pairs: `<root>/<zone id>/K<zone>.+013+31203.{key,private}`.
//!
//! Pairs that wait for their end are in `<root>/<zone id>/trash/`, under the same reference.
//!
//! A pair counts as a key once both halves are there. `.private` is written first, so that a
//! published `.key` never lacks its private half.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use cascade_time::Timestamp;
use cascade_zone::{KeyId, Name, ZoneId};
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::algorithm::Algorithm;
use crate::dnskey::{Dnskey, FLAG_REVOKE, FLAG_ZONE, Role};
use crate::error::KeyError;
use crate::key_file::{parse_private, parse_public, private_text, public_text};
use crate::sign::SigningKey;
use crate::software::SoftwareKey;
use crate::store::{KeyStore, NewKey, StoredKey, ZoneRef};

/// No key file is larger: RSA of 8192 bits with all its numbers takes 8 KiB.
const MAX_FILE: u64 = 64 * 1024;

/// Pairs of one algorithm and tag that a zone can have.
const MAX_SAME_TAG: u32 = 16;

/// The file key store below one directory.
#[derive(Debug)]
pub struct FileKeyStore {
    root: PathBuf,
    /// Of the root: zones that get their first keys at the same time wait for one sync.
    folders: SharedSync,
}

impl FileKeyStore {
    pub fn new(root: impl Into<PathBuf>) -> FileKeyStore {
        FileKeyStore {
            root: root.into(),
            folders: SharedSync::default(),
        }
    }

    /// Copies a key pair made elsewhere into this store; the original is not touched.
    ///
    /// `path` names either half. Checked: owner name, algorithms of both halves, flags, that the
    /// halves belong together, and a trial signature.
    pub fn import(
        &self,
        id: KeyId,
        zone: ZoneRef<'_>,
        path: &Path,
        now: Timestamp,
    ) -> Result<StoredKey, KeyError> {
        let (public, private) = halves(path)?;
        let key = read_pair(id, zone.name, &public, &private)?;
        let flags = key.dnskey().flags();
        let what = match flags {
            f if f & FLAG_ZONE == 0 => Some("not a zone key (RFC 4034 §2.1.1)"),
            f if f & FLAG_REVOKE != 0 => Some("the key is revoked (RFC 5011 §2.1)"),
            _ => None,
        };
        if let Some(what) = what {
            return Err(KeyError::Flags {
                path: public,
                flags,
                what,
            });
        }
        if let Some(old) = self.find(zone, key.dnskey())? {
            return Err(KeyError::Exists(self.path_of(zone.id, &old)?));
        }
        self.write(zone, &key, None, now)
    }

    /// Imports the public half alone, for keys that are only published: nothing is written.
    pub fn read_public(zone: &Name, path: &Path) -> Result<Dnskey, KeyError> {
        let (owner, key) = parse_public(path, &read(path)?)?;
        check_owner(path, &owner, zone)?;
        Ok(key)
    }

    fn zone_dir(&self, zone: ZoneId) -> PathBuf {
        self.root.join(zone.to_string())
    }

    fn trash_dir(&self, zone: ZoneId) -> PathBuf {
        self.zone_dir(zone).join("trash")
    }

    /// Both halves, each where it is: a move to or from the trash may have been cut short.
    fn places(&self, zone: ZoneId, key: &StoredKey) -> Result<(PathBuf, PathBuf), KeyError> {
        let public = self.path_of(zone, key)?;
        let trash = self.trash_dir(zone);
        let place = |path: PathBuf| {
            let aside = path.file_name().map(|n| trash.join(n));
            aside
                .filter(|a| !is_taken(&path) && is_taken(a))
                .unwrap_or(path)
        };
        Ok((
            place(public.clone()),
            place(public.with_extension("private")),
        ))
    }

    /// Moves what is of the pair in `from` to `to`, in this order of endings.
    fn move_pair(
        &self,
        zone: ZoneId,
        key: &StoredKey,
        (from, to): (&Path, &Path),
        endings: [&str; 2],
    ) -> Result<(), KeyError> {
        let public = self.path_of(zone, key)?;
        let Some(name) = public.file_name().map(Path::new) else {
            return Ok(());
        };
        let mut moved = false;
        for ending in endings {
            let name = name.with_extension(ending);
            let (old, new) = (from.join(&name), to.join(&name));
            if !is_taken(&old) {
                continue;
            }
            renameat2(
                AT_FDCWD,
                &old,
                AT_FDCWD,
                &new,
                RenameFlags::RENAME_NOREPLACE,
            )
            .map_err(|e| match e {
                nix::errno::Errno::EEXIST => KeyError::Exists(new.clone()),
                e => KeyError::io("move", &old, e.into()),
            })?;
            moved = true;
            between();
        }
        if moved {
            sync_dir(to)?;
            sync_dir(from)?;
        }
        Ok(())
    }

    /// Writes a pair durably, under a name that is free.
    fn write(
        &self,
        zone: ZoneRef<'_>,
        key: &SoftwareKey,
        role: Option<Role>,
        now: Timestamp,
    ) -> Result<StoredKey, KeyError> {
        let dir = self.zone_dir(zone.id);
        make_private_dir(&dir)?;
        self.folders.sync(&self.root)?;
        let parts = key.private_parts()?;
        let private = private_text(key.algorithm(), &parts, now);
        let public = public_text(zone.name, key.dnskey(), role, now);
        let base = base_name(zone.name, key.dnskey());
        // Two keys may share a tag, and a crash may have left half a pair: then the name is taken.
        for n in 1..=MAX_SAME_TAG {
            let base = if n == 1 {
                base.clone()
            } else {
                format!("{base}-{n}")
            };
            let private_path = dir.join(format!("{base}.private"));
            let public_path = dir.join(format!("{base}.key"));
            let trash = self.trash_dir(zone.id);
            let aside = [format!("{base}.private"), format!("{base}.key")].map(|n| trash.join(n));
            let places = [&private_path, &public_path, &aside[0], &aside[1]];
            if places.into_iter().any(|p| is_taken(p)) {
                continue;
            }
            // Both are whole before either has its name, and the folder is synced once.
            let private = New::write(&dir, &private_path, private.as_bytes())?;
            let public = New::write(&dir, &public_path, public.as_bytes())?;
            private.name()?;
            public.name()?;
            sync_dir(&dir)?;
            return Ok(StoredKey {
                reference: reference(&public_path),
                dnskey: key.dnskey().clone(),
            });
        }
        Err(KeyError::Exists(dir.join(format!("{base}.key"))))
    }

    /// The `.key` path behind a reference. Its name counts, in the zone's directory of this store:
    /// a state that was moved or restored has references with its former place.
    fn path_of(&self, zone: ZoneId, key: &StoredKey) -> Result<PathBuf, KeyError> {
        let bad = || KeyError::BadReference(key.reference.clone());
        let path = parse_reference(&key.reference).ok_or_else(bad)?;
        let dir = self.zone_dir(zone);
        let folder = |p: &Path| p.parent().and_then(Path::file_name).map(ToOwned::to_owned);
        let name = path.file_name().ok_or_else(bad)?;
        let inside = dir.file_name().map(ToOwned::to_owned) == folder(&path)
            && path.extension().is_some_and(|e| e == "key");
        if inside {
            Ok(dir.join(name))
        } else {
            Err(bad())
        }
    }
}

impl KeyStore for FileKeyStore {
    fn generate(&self, want: &NewKey<'_>) -> Result<(StoredKey, Arc<dyn SigningKey>), KeyError> {
        let algorithm = want.spec.algorithm;
        let width = want.tag_range.end().saturating_sub(*want.tag_range.start()) as u32 + 1;
        let tries = 16 + 8 * 65536 / width;
        for _ in 0..tries {
            let key = SoftwareKey::generate(want.id, want.role.flags(), want.spec)?;
            let (tag, revoked) = (key.dnskey().key_tag(), key.dnskey().revoked_tag());
            let free = !want.taken_tags.iter().any(|t| *t == tag || *t == revoked);
            if !free || !want.tag_range.contains(&tag) {
                continue;
            }
            let stored = self.write(want.zone, &key, Some(want.role), want.now)?;
            // What counts is what a later start will read; its trial signature is the key's.
            return match self.load(want.id, want.zone, &stored) {
                Ok(key) => Ok((stored, key)),
                Err(e) => {
                    // Nobody knows of it yet; what cannot be removed is no worse than what a crash leaves.
                    let _ = self.destroy(want.zone, &stored);
                    Err(e)
                }
            };
        }
        Err(KeyError::NoFreeTag {
            algorithm,
            tried: tries,
        })
    }

    fn load(
        &self,
        id: KeyId,
        zone: ZoneRef<'_>,
        key: &StoredKey,
    ) -> Result<Arc<dyn SigningKey>, KeyError> {
        let (public, private) = self.places(zone.id, key)?;
        if fs::symlink_metadata(&public).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            return Err(KeyError::NotFound(key.reference.clone()));
        }
        let loaded = read_pair(id, zone.name, &public, &private)?;
        if !loaded.dnskey().is_same_key(&key.dnskey) {
            return Err(KeyError::PairMismatch(public));
        }
        Ok(Arc::new(loaded))
    }

    fn list(&self, zone: ZoneRef<'_>) -> Result<Vec<StoredKey>, KeyError> {
        let dir = self.zone_dir(zone.id);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(KeyError::io("list", &dir, e)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| KeyError::io("list", &dir, e))?.path();
            let is_pair = path.extension().is_some_and(|e| e == "key")
                && path.with_extension("private").is_file();
            if is_pair {
                let dnskey = Self::read_public(zone.name, &path)?;
                found.push(StoredKey {
                    reference: reference(&path),
                    dnskey,
                });
            }
        }
        found.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(found)
    }

    fn destroy(&self, zone: ZoneRef<'_>, key: &StoredKey) -> Result<(), KeyError> {
        let (public, private) = self.places(zone.id, key)?;
        overwrite(&private)?;
        between();
        for path in [&private, &public] {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(KeyError::io("remove", path, e));
                }
                _ => {}
            }
            between();
        }
        let dirs = [&private, &public].map(|p| p.parent().unwrap_or(p));
        for dir in dirs {
            match sync_dir(dir) {
                Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn set_aside(&self, zone: ZoneRef<'_>, key: &StoredKey) -> Result<(), KeyError> {
        let (dir, trash) = (self.zone_dir(zone.id), self.trash_dir(zone.id));
        if !dir.is_dir() {
            return Ok(());
        }
        make_private_dir(&trash)?;
        sync_dir(&dir)?;
        self.move_pair(zone.id, key, (&dir, &trash), ["key", "private"])
    }

    fn bring_back(&self, zone: ZoneRef<'_>, key: &StoredKey) -> Result<(), KeyError> {
        let (dir, trash) = (self.zone_dir(zone.id), self.trash_dir(zone.id));
        // A `.key` never lacks its private half.
        self.move_pair(zone.id, key, (&trash, &dir), ["private", "key"])
    }
}

fn is_taken(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Both paths of a pair, from either.
fn halves(path: &Path) -> Result<(PathBuf, PathBuf), KeyError> {
    // Names end in +013+31203, so `with_extension` may only replace these two endings.
    match path.extension().and_then(|e| e.to_str()) {
        Some("key") => Ok((path.to_owned(), path.with_extension("private"))),
        Some("private") => Ok((path.with_extension("key"), path.to_owned())),
        _ => Err(KeyError::NotAKeyPath(path.to_owned())),
    }
}

fn read_pair(
    id: KeyId,
    zone: &Name,
    public: &Path,
    private: &Path,
) -> Result<SoftwareKey, KeyError> {
    let (owner, dnskey) = parse_public(public, &read(public)?)?;
    check_owner(public, &owner, zone)?;
    let secret = parse_private(private, &read(private)?)?;
    if secret.algorithm != dnskey.algorithm_number() {
        return Err(KeyError::AlgorithmMismatch {
            path: private.to_owned(),
            found: secret.algorithm,
            other: dnskey.algorithm_number(),
        });
    }
    match Algorithm::from_number(secret.algorithm) {
        Some(a) if !a.is_available() => return Err(KeyError::NotBuiltIn(a)),
        _ => {}
    }
    let mismatch = |e| match e {
        // Says which file, and covers halves that do not belong together.
        KeyError::Rejected(_) | KeyError::Trial(_) if !too_small(&dnskey) => {
            KeyError::PairMismatch(private.to_owned())
        }
        e => e,
    };
    let key = SoftwareKey::from_parts(id, &dnskey, &secret.parts).map_err(mismatch)?;
    key.prove().map_err(mismatch)?;
    Ok(key)
}

/// RSA keys that the library refuses for their size, not for their numbers.
fn too_small(key: &Dnskey) -> bool {
    key.algorithm().is_some_and(Algorithm::is_rsa) && key.signature_len().is_none_or(|n| n < 256)
}

fn check_owner(path: &Path, owner: &Name, zone: &Name) -> Result<(), KeyError> {
    if owner == zone {
        return Ok(());
    }
    Err(KeyError::WrongOwner {
        path: path.to_owned(),
        found: owner.to_string(),
        wanted: zone.to_string(),
    })
}

/// `K<zone>.+013+31203` with the zone name in lower case and without final dot.
fn base_name(zone: &Name, key: &Dnskey) -> String {
    let mut text = String::new();
    let lower = zone.to_lowercase();
    for (i, label) in lower.labels().enumerate() {
        if i > 0 {
            text.push('.');
        }
        for &b in label {
            match b {
                b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => text.push(b as char),
                _ => text.push_str(&format!("%{b:02X}")),
            }
        }
    }
    if text.len() > 180 {
        let digest = Sha256::digest(lower.as_wire());
        // All octets are ASCII here.
        text.truncate(140);
        text.push('~');
        text.extend(digest[..8].iter().map(|b| format!("{b:02x}")));
    }
    format!(
        "K{text}.+{:03}+{:05}",
        key.algorithm_number(),
        key.key_tag()
    )
}

/// `file://` and the path; octets outside RFC 3986's unreserved set, `/` and `+` as `%XX`.
fn reference(path: &Path) -> String {
    let mut text = String::from("file://");
    for &b in path.as_os_str().as_encoded_bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b'+' => {
                text.push(b as char)
            }
            _ => text.push_str(&format!("%{b:02X}")),
        }
    }
    text
}

fn parse_reference(text: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let mut rest = text.strip_prefix("file://")?.as_bytes();
    let mut path = Vec::with_capacity(rest.len());
    while let Some((&b, tail)) = rest.split_first() {
        rest = tail;
        if b == b'%' {
            let (hex, tail) = rest.split_first_chunk::<2>()?;
            path.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
            rest = tail;
        } else {
            path.push(b);
        }
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(path)))
}

/// Reads a key file of bounded size; pipes and devices are refused without waiting for them.
fn read(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let io = |e| KeyError::io("read", path, e);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    if !meta.is_file() {
        return Err(KeyError::NotAFile(path.to_owned()));
    }
    if meta.len() > MAX_FILE {
        return Err(KeyError::TooLarge {
            path: path.to_owned(),
            limit: MAX_FILE,
        });
    }
    let mut text = Zeroizing::new(String::with_capacity(meta.len() as usize + 1));
    file.take(MAX_FILE).read_to_string(&mut text).map_err(io)?;
    Ok(text)
}

/// A directory of mode 0700 that is no symbolic link; made if it is missing. That it is there is not yet
/// durable.
fn make_private_dir(dir: &Path) -> Result<(), KeyError> {
    let io = |e| KeyError::io("make", dir, e);
    match fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
    {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(io(e)),
        _ => {}
    }
    between();
    let meta = fs::symlink_metadata(dir).map_err(io)?;
    if !meta.is_dir() {
        return Err(KeyError::NotADirectory(dir.to_owned()));
    }
    if meta.permissions().mode() & 0o7777 != 0o700 {
        // Explicit and not by umask.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(io)?;
    }
    Ok(())
}

/// One sync of a directory for all who wait for it at the same time.
#[derive(Debug, Default)]
struct SharedSync {
    turns: Mutex<Turns>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Turns {
    begun: u64,
    /// The last one that succeeded.
    done: u64,
    running: bool,
}

impl SharedSync {
    /// What the caller has changed in `dir` is durable when this returns.
    fn sync(&self, dir: &Path) -> Result<(), KeyError> {
        // Consistent whenever the lock is free.
        let lock = || self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let mut turns = lock();
        // One that has begun may have missed the change.
        let wanted = turns.begun + 1;
        while turns.running {
            turns = self
                .ended
                .wait(turns)
                .unwrap_or_else(PoisonError::into_inner);
            if turns.done >= wanted {
                return Ok(());
            }
        }
        turns.begun += 1;
        turns.running = true;
        let mine = turns.begun;
        drop(turns);
        let result = sync_dir(dir);
        let mut turns = lock();
        turns.running = false;
        if result.is_ok() {
            turns.done = mine;
        }
        drop(turns);
        // After one that failed each tries for itself.
        self.ended.notify_all();
        result
    }
}

/// A file that is whole and synced under another name; removed if it does not get its own.
struct New {
    temp: PathBuf,
    path: PathBuf,
    named: bool,
}

impl New {
    fn write(dir: &Path, path: &Path, content: &[u8]) -> Result<New, KeyError> {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".new");
        let temp = dir.join(name);
        let create = || {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .custom_flags(OFlag::O_NOFOLLOW.bits())
                .open(&temp)
        };
        let io = |e| KeyError::io("write", &temp, e);
        let mut file = match create() {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                // A crash left it; it never counted as a key.
                overwrite(&temp)?;
                fs::remove_file(&temp).map_err(io)?;
                between();
                create().map_err(io)?
            }
            other => other.map_err(io)?,
        };
        let new = New {
            temp: temp.clone(),
            path: path.to_owned(),
            named: false,
        };
        let mut fill = || -> io::Result<()> {
            between();
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            between();
            file.write_all(content)?;
            between();
            file.sync_all()
        };
        fill().map_err(io)?;
        Ok(new)
    }

    /// Gives it its name, never over a file that is there. The folder is for the caller to sync.
    fn name(mut self) -> Result<(), KeyError> {
        renameat2(
            AT_FDCWD,
            &self.temp,
            AT_FDCWD,
            &self.path,
            RenameFlags::RENAME_NOREPLACE,
        )
        .map_err(|e| match e {
            nix::errno::Errno::EEXIST => KeyError::Exists(self.path.clone()),
            e => KeyError::io("rename", &self.path, e.into()),
        })?;
        self.named = true;
        between();
        Ok(())
    }
}

impl Drop for New {
    fn drop(&mut self) {
        if !self.named {
            // Best effort: it never counted as a key.
            let _ = overwrite(&self.temp);
            let _ = fs::remove_file(&self.temp);
        }
    }
}

/// Stands between any two changes of the file system; tests look at what is there then.
#[cfg(not(test))]
fn between() {}
#[cfg(test)]
use tests::between;

fn sync_dir(dir: &Path) -> Result<(), KeyError> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(|e| KeyError::io("sync", dir, e))
}

/// Overwrites a file once with zeros; one that is gone is fine.
fn overwrite(path: &Path) -> Result<(), KeyError> {
    let io = |e| KeyError::io("overwrite", path, e);
    let open = OpenOptions::new()
        .write(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path);
    let mut file = match open {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io(e)),
    };
    let meta = file.metadata().map_err(io)?;
    if !meta.is_file() {
        return Err(KeyError::NotAFile(path.to_owned()));
    }
    let len = meta.len().min(MAX_FILE) as usize;
    file.write_all(&vec![0; len])
        .and_then(|()| file.sync_all())
        .map_err(io)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use crate::algorithm::KeySpec;

    use super::*;

    type Look = Box<dyn FnMut()>;

    thread_local! {
        static LOOK: RefCell<Option<Look>> = const { RefCell::new(None) };
    }

    pub(super) fn between() {
        LOOK.with_borrow_mut(|look| {
            if let Some(look) = look {
                look();
            }
        });
    }

    /// Every file below is for its owner alone, and so is every folder; how many files there are.
    fn must_be_private(dir: &Path) -> usize {
        let mut files = 0;
        for entry in fs::read_dir(dir).expect("our own folder") {
            let path = entry.expect("listed").path();
            let meta = fs::symlink_metadata(&path).expect("nobody else removes it");
            let mode = meta.permissions().mode() & 0o7777;
            let want = if meta.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, want, "{} has mode {mode:o}", path.display());
            if meta.is_dir() {
                files += must_be_private(&path);
            } else {
                files += 1;
            }
        }
        files
    }

    #[test]
    fn a_sync_that_has_begun_is_none_for_what_changes_later() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let shared = SharedSync::default();
        let turns = || shared.turns.lock().expect("nobody panics");
        let counts = || {
            let turns = turns();
            (turns.begun, turns.done)
        };
        // Somebody syncs.
        {
            let mut turns = turns();
            (turns.begun, turns.running) = (1, true);
        }
        let syncs = std::thread::scope(|threads| {
            let waiting: Vec<_> = (0..8)
                .map(|_| threads.spawn(|| shared.sync(place.path())))
                .collect();
            {
                let mut turns = turns();
                (turns.done, turns.running) = (1, false);
            }
            shared.ended.notify_all();
            let ends = waiting.into_iter().map(|w| w.join().expect("no panic"));
            ends.filter(Result::is_ok).count()
        });
        assert_eq!(syncs, 8);
        let (begun, done) = counts();
        assert!((2..=9).contains(&begun), "{begun}");
        assert_eq!(begun, done);

        // One that fails counts for nobody.
        let gone = place.path().join("gone");
        assert!(shared.sync(&gone).is_err());
        assert_eq!(counts(), (begun + 1, done));
        assert!(shared.sync(place.path()).is_ok());
    }

    // W25 of the simulator's rules, where there are files.
    #[test]
    fn a_key_file_is_its_owners_alone_at_every_instant() {
        // Nothing but the modes that the store asks for protects the files.
        nix::sys::stat::umask(nix::sys::stat::Mode::empty());
        let place = tempfile::tempdir().expect("a temporary folder");
        let root = place.path().join("keys");
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&root)
            .expect("a folder");
        let seen = Rc::new(RefCell::new(Vec::new()));
        let (dir, into) = (root.clone(), Rc::clone(&seen));
        let look = move || into.borrow_mut().push(must_be_private(&dir));
        LOOK.set(Some(Box::new(look)));

        let store = FileKeyStore::new(&root);
        let name: Name = "example.net".parse().expect("a name");
        let zone = ZoneRef {
            id: ZoneId([7; 16]),
            name: &name,
        };
        let now = Timestamp::from_secs(1_763_822_540);
        let want = |role| NewKey {
            id: KeyId([1; 16]),
            zone,
            spec: "ECDSAP256SHA256".parse::<KeySpec>().expect("a spec"),
            role,
            taken_tags: &[],
            tag_range: 0..=u16::MAX,
            labelling: crate::Labelling::Auto,
            now,
        };
        let (ksk, _) = store.generate(&want(Role::Ksk)).expect("a key");
        let (zsk, _) = store.generate(&want(Role::Zsk)).expect("a key");
        store.set_aside(zone, &zsk).expect("moved");
        store.bring_back(zone, &zsk).expect("moved");
        store.set_aside(zone, &zsk).expect("moved");
        store.destroy(zone, &zsk).expect("destroyed");

        // Into another zone's folder, from a pair that anybody can read.
        let open = place.path().join("elsewhere");
        fs::create_dir(&open).expect("a folder");
        let (public, private) = store.places(zone.id, &ksk).expect("a pair");
        for half in [&public, &private] {
            let to = open.join(half.file_name().expect("a name"));
            fs::copy(half, &to).expect("copied");
            fs::set_permissions(&to, fs::Permissions::from_mode(0o666)).expect("our own file");
        }
        let pair = open.join(public.file_name().expect("a name"));
        let other = ZoneRef {
            id: ZoneId([8; 16]),
            name: &name,
        };
        let imported = store.import(KeyId([2; 16]), other, &pair, now);
        let imported = imported.expect("imported");
        // A crash left what it was writing, for everybody.
        let left = root.join(other.id.to_string()).join(".left.new");
        fs::write(&left, "PrivateKey: x").expect("our own folder");
        LOOK.set(None);
        let folder = left.parent().expect("a folder");
        let new = New::write(folder, &left.with_file_name("left"), b"PrivateKey: y");
        new.and_then(New::name).expect("written");
        must_be_private(&root);
        store.destroy(other, &imported).expect("destroyed");

        // Three pairs are written by six files of four instants each, then moved and destroyed.
        let seen = seen.borrow();
        assert!(seen.len() >= 38, "{seen:?}");
        assert_eq!(seen.iter().max(), Some(&4), "{seen:?}");
    }
}
