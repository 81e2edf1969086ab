//! The state database and the audit log: what is acknowledged is there again, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use cascade_archive::audit::{self, AuditEntry, AuditFault};
use cascade_archive::*;
use cascade_time::Timestamp;
use cascade_zone::ZoneId;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Thing {
    name: String,
    n: u64,
}

fn thing(n: u64) -> Thing {
    Thing {
        name: format!("thing {n}"),
        n,
    }
}

fn put(n: u64) -> Change {
    Change::put(Table::Zones, &format!("k{n:03}"), &thing(n)).unwrap()
}

#[test]
fn values_survive_and_are_listed_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let (s, origin) = State::open(&Disk::new(), dir.path()).unwrap();
    assert_eq!(origin, Origin::New);
    s.commit((0..25).map(put).collect()).unwrap();
    s.commit(vec![Change::Delete {
        table: Table::Zones,
        key: "k007".into(),
    }])
    .unwrap();
    drop(s);
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(dir.path().join("state.redb"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let (s, origin) = State::open(&Disk::new(), dir.path()).unwrap();
    assert_eq!(origin, Origin::Existing);
    assert_eq!(
        s.get::<Thing>(Table::Zones, "k003").unwrap(),
        Some(thing(3))
    );
    assert_eq!(s.get::<Thing>(Table::Zones, "k007").unwrap(), None);
    assert_eq!(s.get::<Thing>(Table::Keys, "k003").unwrap(), None);
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = s.list::<Thing>(Table::Zones, after.as_deref(), 10).unwrap();
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        all.extend(page.into_iter().map(|(_, t)| t.n));
    }
    assert_eq!(all, (0..25).filter(|n| *n != 7).collect::<Vec<_>>());
    let bad = s.get::<u32>(Table::Zones, "k003").unwrap_err();
    assert!(bad.to_string().contains("'k003' in table zones"), "{bad}");
}

#[test]
fn history_is_a_ring_per_zone_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = State::open(&Disk::new(), dir.path()).unwrap();
    let (a, b) = (ZoneId([1; 16]), ZoneId([2; 16]));
    for seq in 1..=30 {
        let change = |z| Change::history(z, seq, &thing(seq), 10).unwrap();
        s.commit(vec![change(a), change(b)]).unwrap();
    }
    let seqs = |before, limit| -> Vec<u64> {
        s.history::<Thing>(a, before, limit)
            .unwrap()
            .into_iter()
            .map(|(n, _)| n)
            .collect()
    };
    assert_eq!(seqs(None, 100), (21..=30).rev().collect::<Vec<_>>());
    assert_eq!(seqs(Some(25), 3), [24, 23, 22]);
    s.commit(vec![Change::DropHistory { zone: a }]).unwrap();
    assert!(seqs(None, 100).is_empty());
    assert_eq!(
        s.history::<Thing>(b, None, 100).unwrap().len(),
        10,
        "the other zone keeps its own"
    );
}

/// Of a long one the oldest go some at a time, and there are never more than asked for.
#[test]
fn a_long_history_is_cut_off_now_and_then() {
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = State::open(&Disk::new(), dir.path()).unwrap();
    let zone = ZoneId([1; 16]);
    let mut cuts = 0;
    let mut before = 0;
    for seq in 1..=600 {
        let change = Change::history(zone, seq, &thing(seq), 200).unwrap();
        s.commit(vec![change]).unwrap();
        let there = s.history::<Thing>(zone, None, 1000).unwrap().len();
        assert!(
            there <= 200 && (seq < 200 || there > 175),
            "{there} at {seq}"
        );
        cuts += u32::from(there < before);
        before = there;
    }
    assert!((10..=20).contains(&cuts), "{cuts}");
}

#[test]
fn commits_of_many_threads_are_all_there() {
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = State::open(&Disk::new(), dir.path()).unwrap();
    let s = Arc::new(s);
    let start = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8u64)
        .map(|t| {
            let (s, start) = (s.clone(), start.clone());
            std::thread::spawn(move || {
                start.wait();
                for n in 0..10 {
                    s.commit(vec![put(t * 10 + n)]).unwrap();
                    let key = format!("k{:03}", t * 10 + n);
                    assert!(s.get::<Thing>(Table::Zones, &key).unwrap().is_some());
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(s.list::<Thing>(Table::Zones, None, 1000).unwrap().len(), 80);
}

#[test]
fn a_damaged_state_is_replaced_by_its_newest_backup_and_never_by_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let (s, _) = State::open(&Disk::new(), dir.path()).unwrap();
    for n in 1..=4 {
        s.commit(vec![put(n)]).unwrap();
        s.rotate_backup().unwrap();
    }
    s.commit(vec![put(5)]).unwrap();
    let e = State::open(&Disk::new(), dir.path()).err().unwrap();
    assert!(
        matches!(e, ArchiveError::InUse { .. }),
        "a second process: {e}"
    );
    drop(s);
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(names.len(), 4, "state and three backups: {names:?}");

    std::fs::write(&path, b"not a database at all").unwrap();
    let (s, origin) = State::open(&Disk::new(), dir.path()).unwrap();
    let Origin::Backup {
        from,
        damaged: Some(kept),
    } = origin
    else {
        panic!("{origin:?}")
    };
    assert!(from.ends_with("state.redb.bak-1"));
    assert_eq!(std::fs::read(kept).unwrap(), b"not a database at all");
    assert_eq!(s.list::<Thing>(Table::Zones, None, 10).unwrap().len(), 4);
    drop(s);

    std::fs::remove_file(&path).unwrap();
    std::fs::write(dir.path().join("state.redb.bak-1"), b"bad too").unwrap();
    let (s, origin) = State::open(&Disk::new(), dir.path()).unwrap();
    assert!(
        matches!(origin, Origin::Backup { ref from, .. } if from.ends_with("state.redb.bak-2"))
    );
    assert_eq!(s.list::<Thing>(Table::Zones, None, 10).unwrap().len(), 3);
    drop(s);

    for f in [
        "state.redb",
        "state.redb.bak-1",
        "state.redb.bak-2",
        "state.redb.bak-3",
    ] {
        std::fs::write(dir.path().join(f), b"bad").unwrap();
    }
    let e = State::open(&Disk::new(), dir.path()).err().unwrap();
    assert!(matches!(e, ArchiveError::StateUnusable { .. }), "{e}");
    assert_eq!(std::fs::read(&path).unwrap(), b"bad", "nothing is touched");
}

#[test]
fn zone_files_without_a_state_are_not_taken_for_a_new_installation() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("zone-state/AA")).unwrap();
    let e = State::open(&Disk::new(), dir.path()).err().unwrap();
    assert!(matches!(e, ArchiveError::StateMissing { .. }), "{e}");
    assert!(!dir.path().join("state.redb").exists());
}

#[test]
fn a_state_cut_or_overwritten_anywhere_opens_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let (s, _) = State::open(&Disk::new(), dir.path()).unwrap();
    s.commit((0..40).map(put).collect()).unwrap();
    drop(s);
    let whole = std::fs::read(&path).unwrap();
    let step = whole.len() / 40;
    for i in 0..40 {
        let mut bad = whole.clone();
        bad.truncate(i * step);
        check(dir.path(), &bad);
        let mut bad = whole.clone();
        bad[i * step..i * step + 64].fill(0x5a);
        check(dir.path(), &bad);
    }
}

fn check(dir: &std::path::Path, state: &[u8]) {
    std::fs::write(dir.join("state.redb"), state).unwrap();
    match State::open(&Disk::new(), dir) {
        Ok((s, origin @ (Origin::Existing | Origin::Repaired))) => {
            let all = s.list::<Thing>(Table::Zones, None, 100).unwrap();
            let names: Vec<Thing> = all.into_iter().map(|(_, t)| t).collect();
            // Unused pages may be overwritten without harm; a repair goes back one commit.
            let empty = names.is_empty() && origin == Origin::Repaired;
            assert!(
                empty || names == (0..40).map(thing).collect::<Vec<_>>(),
                "{origin:?}"
            );
        }
        Ok((_, other)) => panic!("{other:?}"),
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}

fn entry(n: u64) -> AuditEntry {
    AuditEntry {
        actor: "uid:1000(alice)".into(),
        from: "unix".into(),
        action: "zone.add".into(),
        subject: format!("zone{n}.example \"quoted\",\"hash\":\"trap\""),
        result: "ok".into(),
        ..AuditEntry::default()
    }
}

fn log(path: &std::path::Path, n: u64) -> AuditLog {
    let mut log = AuditLog::open(&Disk::new(), path).unwrap();
    for i in 0..n {
        log.append(Timestamp::from_secs(1_790_000_000 + i as i64), &entry(i))
            .unwrap();
    }
    log
}

#[test]
fn the_audit_chain_goes_on_after_a_restart_and_shows_every_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    drop(log(&path, 3));
    let head = log(&path, 3).head().to_owned();
    let bytes = std::fs::read(&path).unwrap();
    let ok = audit::verify(&Disk::new(), &path).unwrap().unwrap();
    assert_eq!((ok.entries, ok.head), (6, head));
    for i in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[i] ^= 1;
        assert!(audit::verify_bytes(&bad).is_err(), "octet {i}");
    }
    let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    let without = [&lines[..2], &lines[3..]].concat().concat();
    assert_eq!(
        audit::verify_bytes(&without),
        Err(AuditFault::Broken { line: 3 })
    );
    let swapped = [lines[0], lines[2], lines[1]].concat();
    assert_eq!(
        audit::verify_bytes(&swapped),
        Err(AuditFault::Broken { line: 2 })
    );
    for i in 1..bytes.len() {
        match audit::verify_bytes(&bytes[..i]) {
            Ok(s) => assert!(
                s.entries < 6 && bytes[i - 1] == b'\n',
                "only the head tells"
            ),
            Err(e) => assert!(matches!(e, AuditFault::Cut { .. })),
        }
    }
}

#[test]
fn an_interrupted_audit_write_is_cut_and_a_failed_one_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    drop(log(&path, 2));
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], b"{\"seq\":3,\"at"].concat()).unwrap();
    drop(log(&path, 1));
    assert_eq!(
        audit::verify(&Disk::new(), &path).unwrap().unwrap().entries,
        3
    );

    let fail = Arc::new(AtomicBool::new(false));
    let armed = fail.clone();
    let disk = Disk::with_hook(move |op, _| match op {
        "sync" if armed.load(Ordering::SeqCst) => Err(io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    });
    let mut log = AuditLog::open(&disk, &path).unwrap();
    fail.store(true, Ordering::SeqCst);
    let e = log.append(Timestamp::from_secs(1), &entry(9)).unwrap_err();
    assert!(e.is_full(), "{e}");
    fail.store(false, Ordering::SeqCst);
    assert_eq!(
        log.append(Timestamp::from_secs(2), &entry(10)).unwrap().0,
        4
    );
    assert_eq!(
        audit::verify(&Disk::new(), &path).unwrap().unwrap().entries,
        4
    );
}

/// Makes of a state what the first layout was.
fn as_schema_1(root: &std::path::Path) {
    let db = redb::Database::open(root.join("state.redb")).unwrap();
    let tx = db.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, u32>::new("meta");
    tx.open_table(meta).unwrap().insert("schema", 1).unwrap();
    tx.delete_table(redb::TableDefinition::<&str, &str>::new("about"))
        .unwrap();
    tx.commit().unwrap();
}

#[test]
fn a_former_layout_is_read_copied_as_it_is_and_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let (s, _) = State::open(&Disk::new(), root).unwrap();
    assert_eq!(s.writer().unwrap(), None, "nobody has written it yet");
    s.commit(vec![put(1)]).unwrap();
    drop(s);
    as_schema_1(root);
    let (s, origin) = State::open(&Disk::new(), root).unwrap();
    assert_eq!(origin, Origin::Existing);
    let first = Writer {
        schema: 1,
        release: "0.1.0-pre".into(),
    };
    assert_eq!(s.writer().unwrap(), Some(first.clone()));
    let copy = root.join("copy");
    std::fs::create_dir(&copy).unwrap();
    s.backup_to(&copy.join("state.redb")).unwrap();
    s.take_over("0.2.0").unwrap();
    let now = Writer {
        schema: state::SCHEMA,
        release: "0.2.0".into(),
    };
    assert_eq!(s.writer().unwrap(), Some(now.clone()));
    assert_eq!(s.get(Table::Zones, "k001").unwrap(), Some(thing(1)));
    drop(s);
    let (s, _) = State::open(&Disk::new(), root).unwrap();
    assert_eq!(s.writer().unwrap(), Some(now));
    // The former release can read the copy.
    let (copied, _) = State::open(&Disk::new(), &copy).unwrap();
    assert_eq!(copied.writer().unwrap(), Some(first));
    assert_eq!(copied.get(Table::Zones, "k001").unwrap(), Some(thing(1)));
}

#[test]
fn a_copy_says_so_until_that_was_seen_to() {
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = State::open(&Disk::new(), dir.path()).unwrap();
    s.commit(vec![put(1)]).unwrap();
    s.rotate_backup().unwrap();
    assert!(!s.is_copy().unwrap());
    drop(s);
    // Whoever restores it, and by whatever means.
    let state = dir.path().join("state.redb");
    std::fs::rename(dir.path().join("state.redb.bak-1"), &state).unwrap();
    let (s, _) = State::open(&Disk::new(), dir.path()).unwrap();
    assert!(s.is_copy().unwrap());
    s.settle_copy(&[put(2)]).unwrap();
    assert!(!s.is_copy().unwrap());
    drop(s);
    let (s, _) = State::open(&Disk::new(), dir.path()).unwrap();
    assert!(!s.is_copy().unwrap());
    assert_eq!(s.get(Table::Zones, "k002").unwrap(), Some(thing(2)));
}

#[test]
fn a_full_disk_is_noted_and_the_reserve_comes_back_with_room() {
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = State::open(&Disk::new(), dir.path()).unwrap();
    let reserve = dir.path().join("ballast");
    if !s.look_for_room().unwrap() {
        // The machine of this test has a full disk itself.
        return;
    }
    assert!(reserve.exists() && !s.is_full());
    s.note_full().unwrap();
    assert!(!reserve.exists() && s.is_full());
    // What must be made durable still is.
    s.commit(vec![put(1)]).unwrap();
    assert!(s.look_for_room().unwrap());
    assert!(reserve.exists() && !s.is_full());
    drop(s);
    let (s, _) = State::open(&Disk::new(), dir.path()).unwrap();
    assert_eq!(
        s.get::<Thing>(Table::Zones, "k001").unwrap(),
        Some(thing(1))
    );
}

/// Many values are decoded by several threads, and stay in order.
#[test]
fn a_long_list_keeps_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = State::open(&Disk::new(), dir.path()).unwrap();
    s.commit((0..500).map(put).collect()).unwrap();
    let all: Vec<(String, Thing)> = s.list(Table::Zones, None, usize::MAX).unwrap();
    let numbers: Vec<u64> = all.iter().map(|(_, t)| t.n).collect();
    assert_eq!(numbers, (0..500).collect::<Vec<_>>());
    s.commit(vec![Change::Put {
        table: Table::Zones,
        key: "k250".into(),
        value: b"not JSON".to_vec(),
    }])
    .unwrap();
    let broken = s.list::<Thing>(Table::Zones, None, usize::MAX).unwrap_err();
    assert!(broken.to_string().contains("k250"), "{broken}");
}
