//! Copies of a state in use: what is in them, and what happens when files go or the disk ends.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cascade_archive::backup::{CopiedFile, MANIFEST, Sources, create};
use cascade_archive::{ArchiveError, Change, Disk, State, Table};

fn list(files: &[CopiedFile]) -> String {
    files
        .iter()
        .map(|f| format!("{} {}\n", f.path, f.size))
        .collect()
}

struct Site {
    dir: tempfile::TempDir,
    state: State,
}

impl Site {
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(&Disk::new(), dir.path()).unwrap();
        let change = Change::put(Table::Settings, "a", &1u32).unwrap();
        state.commit(vec![change]).unwrap();
        for (name, text) in [
            ("audit.log", "{}\n"),
            ("keys/z/Kx.private", "secret"),
            ("keys/z/Kx.key", "public"),
            ("zone-state/01/z/snap-1.cz", "one"),
            ("zone-state/01/z/snap-2.cz.tmp", "half"),
            ("zone-state/01/z/lost/snap-0.cz", "damaged"),
            ("lock", "17"),
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Site { dir, state }
    }

    fn copy(&self, disk: &Disk, to: &Path) -> Result<Vec<CopiedFile>, ArchiveError> {
        let keys = self.dir.path().join("keys");
        let from = Sources {
            state: &self.state,
            root: self.dir.path(),
            keys: &keys,
        };
        create(disk, from, to, &list)
    }
}

#[test]
fn everything_durable_is_in_it_and_nothing_else() {
    let site = Site::new();
    let to = site.dir.path().join("backup/x");
    let copied = site.copy(&Disk::new(), &to).unwrap();
    let names: Vec<&str> = copied.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(
        names,
        [
            "audit.log",
            "keys/z/Kx.key",
            "keys/z/Kx.private",
            "state.redb",
            "zone-state/01/z/snap-1.cz"
        ]
    );
    assert_eq!(
        fs::read_to_string(to.join(MANIFEST)).unwrap(),
        list(&copied)
    );
    for file in &copied {
        let path = to.join(&file.path);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let parent = path.parent().unwrap().metadata().unwrap();
        assert_eq!(parent.permissions().mode() & 0o777, 0o700);
    }
    let (state, _) = State::open(&Disk::new(), &to).unwrap();
    assert_eq!(state.get::<u32>(Table::Settings, "a").unwrap(), Some(1));
}

/// A version that the copied state may name must not be missing from the copy.
#[test]
fn a_file_that_goes_meanwhile_begins_it_anew() {
    let site = Site::new();
    let going = site.dir.path().join("zone-state/01/z/snap-1.cz");
    let coming = site.dir.path().join("zone-state/01/z/snap-3.cz");
    let copies = Arc::new(AtomicU32::new(0));
    let seen = copies.clone();
    let disk = Disk::with_hook(move |op, path| {
        // The audit log is copied first of the files, after the state.
        if op == "create" && path.ends_with("audit.log") && seen.fetch_add(1, Ordering::SeqCst) == 0
        {
            fs::write(&coming, "three")?;
            fs::remove_file(&going)?;
        }
        Ok(())
    });
    let to = site.dir.path().join("backup/x");
    let copied = site.copy(&disk, &to).unwrap();
    assert_eq!(copies.load(Ordering::SeqCst), 2);
    let sizes: BTreeMap<_, _> = copied.iter().map(|f| (f.path.as_str(), f.size)).collect();
    assert_eq!(sizes.get("zone-state/01/z/snap-3.cz"), Some(&5));
    assert!(!sizes.contains_key("zone-state/01/z/snap-1.cz"));
}

/// Whatever operation fails: an error, and no folder that could be taken for a backup.
#[test]
fn a_full_disk_leaves_nothing() {
    let site = Site::new();
    for fail_at in 0..200 {
        let n = Arc::new(AtomicU32::new(0));
        let count = n.clone();
        let disk = Disk::with_hook(move |op, path| {
            let ours = path.to_string_lossy().contains("backup/") && op != "remove";
            if ours && count.fetch_add(1, Ordering::SeqCst) == fail_at {
                return Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
            }
            Ok(())
        });
        let to = site.dir.path().join("backup/x");
        let result = site.copy(&disk, &to);
        if result.is_ok() {
            assert!(fail_at > 20, "only {fail_at} operations were seen");
            return;
        }
        if !to.exists() {
            let left: Vec<_> = fs::read_dir(site.dir.path().join("backup"))
                .map(|d| d.flatten().map(|e| e.file_name()).collect())
                .unwrap_or_default();
            assert!(left.is_empty(), "{left:?} after failure {fail_at}");
        } else {
            // The rename was done and what came after it failed: the backup is whole.
            assert!(to.join(MANIFEST).exists());
            fs::remove_dir_all(&to).unwrap();
        }
    }
    panic!("it never succeeded");
}
