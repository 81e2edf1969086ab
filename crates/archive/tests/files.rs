//! Files cut at every octet, every octet flipped, and a crash at every operation.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cascade_archive::journal::{self, Verdict};
use cascade_archive::zones::{Kind, Recovery};
use cascade_archive::*;
use cascade_time::Timestamp;
use cascade_zone::{Serial, VersionId, ZoneId};

const ZONE: ZoneId = ZoneId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

fn header(kind: FileKind, version: u64) -> FileHeader {
    FileHeader {
        kind,
        zone: ZONE,
        version: VersionId(version),
        serial: Serial(2026),
        created: Timestamp::from_secs(1_790_000_000),
        fingerprint: [0xab; 16],
    }
}

type Parts = Vec<(u8, Vec<u8>)>;

fn small() -> Parts {
    vec![
        (0x01, b"kinds".to_vec()),
        (0x05, b"apex of the zone".to_vec()),
        (0x10, vec![7; 40]),
        (0x10, vec![]),
        (0x11, b"signatures".to_vec()),
        (0x12, b"blocks".to_vec()),
    ]
}

fn write(files: &ZoneFiles, version: u64, parts: &Parts) -> Result<(), ArchiveError> {
    let h = header(FileKind::Snapshot, version);
    files
        .write(Kind::Snapshot, &h, 12, b"ledger", &|sink| {
            for (k, b) in parts {
                sink(*k, b);
            }
        })
        .map(|_| ())
}

fn recover(files: &ZoneFiles, version: u64) -> Recovery {
    files
        .recover(ZONE, Kind::Snapshot, VersionId(version))
        .unwrap()
}

fn is_whole(r: Recovery, parts: &Parts) -> bool {
    matches!(r, Recovery::Whole(v) if v.parts.iter().eq(parts.iter().map(|(k, b)| (*k, bytes::Bytes::copy_from_slice(b))).collect::<Vec<_>>().iter()) && v.records == 12 && v.ledger == b"ledger")
}

#[test]
fn snapshots_come_back_as_written_with_the_right_modes() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let files = ZoneFiles::new(&Disk::new(), dir.path());
    // One part is larger than a frame may be.
    let mut parts = small();
    parts.push((0x10, (0..9_000_000u32).map(|i| i as u8).collect()));
    write(&files, 3, &parts).unwrap();
    assert!(is_whole(recover(&files, 3), &parts));
    let path = files.path(ZONE, Kind::Snapshot, VersionId(3));
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o640);
    assert_eq!(mode(&files.dir(ZONE)), 0o750);
    let id = ZONE.to_string();
    assert!(path.ends_with(format!("zone-state/{}/{id}/snap-3.cz", &id[24..])));
    assert_eq!(files.zones().unwrap(), [ZONE]);
    assert_eq!(files.list(ZONE).unwrap().len(), 1);
    assert!(matches!(recover(&files, 4), Recovery::Missing));
    files.remove(ZONE, VersionId(3)).unwrap();
    assert!(files.list(ZONE).unwrap().is_empty());
    assert!(files.set_zone_aside(ZONE).unwrap().is_some());
    assert!(files.zones().unwrap().is_empty());
}

#[test]
fn a_snapshot_cut_anywhere_is_never_taken_for_whole() {
    let dir = tempfile::tempdir().unwrap();
    let files = ZoneFiles::new(&Disk::new(), dir.path());
    write(&files, 1, &small()).unwrap();
    let path = files.path(ZONE, Kind::Snapshot, VersionId(1));
    let whole = std::fs::read(&path).unwrap();
    for n in 0..whole.len() {
        std::fs::write(&path, &whole[..n]).unwrap();
        match recover(&files, 1) {
            Recovery::ContentLost { damage, set_aside } => {
                assert!(
                    matches!(damage, Damage::Torn { .. } | Damage::Header),
                    "{n}: {damage}"
                );
                assert!(set_aside.unwrap().exists());
                assert!(!path.exists(), "the damaged file is in lost/");
            }
            other => panic!("{n}: {other:?}"),
        }
    }
    assert_eq!(files.lost(ZONE).unwrap().len(), whole.len());
    std::fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    assert!(matches!(
        recover(&files, 1),
        Recovery::ContentLost {
            damage: Damage::Footer,
            ..
        }
    ));
}

#[test]
fn every_flipped_octet_of_a_snapshot_is_found_and_classified() {
    let dir = tempfile::tempdir().unwrap();
    let files = ZoneFiles::new(&Disk::new(), dir.path());
    write(&files, 1, &small()).unwrap();
    let path = files.path(ZONE, Kind::Snapshot, VersionId(1));
    let whole = std::fs::read(&path).unwrap();
    let find = |what: &[u8]| whole.windows(what.len()).position(|w| w == what).unwrap();
    let (apex, sigs) = (find(b"apex of"), find(b"signatures"));
    for i in 0..whole.len() {
        for bit in 0..8 {
            let mut bad = whole.clone();
            bad[i] ^= 1 << bit;
            std::fs::write(&path, &bad).unwrap();
            let recovered = recover(&files, 1);
            let _ = std::fs::remove_dir_all(files.dir(ZONE).join("lost"));
            match recovered {
                Recovery::Whole(_) | Recovery::Missing => panic!("octet {i} bit {bit} not noticed"),
                Recovery::SignaturesLost { .. } => {
                    assert!(i >= sigs - 20, "octet {i} bit {bit} is content");
                }
                Recovery::ContentLost { damage, .. } => {
                    if (sigs..sigs + 10).contains(&i) {
                        panic!("octet {i} bit {bit} is a signature: {damage}");
                    }
                    if (apex..apex + 16).contains(&i) {
                        let at = apex as u64 - 20;
                        assert_eq!(damage, Damage::Content { at });
                    }
                }
                Recovery::Foreign { .. } | Recovery::Newer(_) => {
                    panic!("octet {i} bit {bit}: the header's check sum was not looked at")
                }
            }
        }
    }
}

#[test]
fn other_zones_versions_and_formats_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let files = ZoneFiles::new(&Disk::new(), dir.path());
    write(&files, 1, &small()).unwrap();
    let one = files.path(ZONE, Kind::Snapshot, VersionId(1));
    std::fs::copy(&one, files.path(ZONE, Kind::Snapshot, VersionId(2))).unwrap();
    let r = recover(&files, 2);
    assert!(
        matches!(
            r,
            Recovery::Foreign {
                damage: Damage::WrongVersion,
                ..
            }
        ),
        "{r:?}"
    );
    let mut newer = std::fs::read(&one).unwrap();
    newer[8] = 2;
    let crc = crc32fast::hash(&newer[..68]);
    newer[68..72].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&one, newer).unwrap();
    let r = recover(&files, 1);
    assert!(
        matches!(
            r,
            Recovery::Newer(ArchiveError::Newer {
                found: 2,
                known: 1,
                ..
            })
        ),
        "{r:?}"
    );
    assert!(one.exists(), "a newer file is not touched");
}

/// A disk that fails at the n-th hook call, and at all after it, as if the process were gone.
fn dying(n: usize, kind: io::ErrorKind) -> (Disk, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    let disk = Disk::with_hook(move |_, _| {
        if seen.fetch_add(1, Ordering::SeqCst) >= n {
            Err(kind.into())
        } else {
            Ok(())
        }
    });
    (disk, count)
}

#[test]
fn a_crash_at_any_operation_leaves_the_old_or_the_new_snapshot() {
    let (old, new) = (small(), vec![(0x10, b"new".to_vec())]);
    let mut seen = [false; 2];
    for n in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let healthy = ZoneFiles::new(&Disk::new(), dir.path());
        write(&healthy, 1, &old).unwrap();
        let (disk, count) = dying(n, io::ErrorKind::Other);
        let result = write(&ZoneFiles::new(&disk, dir.path()), 1, &new);
        let is_new = is_whole(recover(&healthy, 1), &new);
        let is_old = is_whole(recover(&healthy, 1), &old);
        assert!(is_new || is_old, "operation {n}: a third state");
        assert!(
            is_new || result.is_err(),
            "operation {n}: acknowledged and lost"
        );
        seen[usize::from(is_new)] = true;
        // Whatever is left over does not disturb the next attempt.
        write(&healthy, 1, &new).unwrap();
        assert!(is_whole(recover(&healthy, 1), &new));
        if count.load(Ordering::SeqCst) <= n {
            break;
        }
    }
    assert_eq!(seen, [true, true]);
}

#[test]
fn a_full_disk_says_so_and_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let healthy = ZoneFiles::new(&Disk::new(), dir.path());
    write(&healthy, 1, &small()).unwrap();
    let full = Disk::with_hook(|op, _| match op {
        "write" => Err(io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    });
    let e = write(&ZoneFiles::new(&full, dir.path()), 2, &small()).unwrap_err();
    assert!(e.is_full(), "{e}");
    assert_eq!(
        std::fs::read_dir(healthy.dir(ZONE)).unwrap().count(),
        1,
        "no left-over"
    );
    assert!(is_whole(recover(&healthy, 1), &small()));
}

fn delta(n: u8) -> Parts {
    vec![(0x20, vec![n; 9]), (0x21, vec![n; 30]), (0x22, vec![n; 4])]
}

fn append(w: &mut JournalWriter, n: u8) -> Result<u64, ArchiveError> {
    let d = delta(n);
    let refs: Vec<(u8, &[u8])> = d.iter().map(|(k, b)| (*k, b.as_slice())).collect();
    w.append(&refs)
}

fn read_journal(path: &Path) -> Result<journal::Journal, ArchiveError> {
    journal::read(&Disk::new(), path, ZONE, VersionId(1))
}

fn new_journal(disk: &Disk, path: &Path) -> JournalWriter {
    JournalWriter::create(disk, path, &header(FileKind::Journal, 1)).unwrap()
}

#[test]
fn journals_end_at_their_last_whole_group_wherever_they_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jrnl-1.cj");
    let mut w = new_journal(&Disk::new(), &path);
    let ends: Vec<u64> = (1..4).map(|n| append(&mut w, n).unwrap()).collect();
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(whole.len() as u64, ends[2]);
    for n in 72..=whole.len() {
        std::fs::write(&path, &whole[..n]).unwrap();
        let j = read_journal(&path).unwrap();
        let want = ends.iter().filter(|e| **e <= n as u64).count();
        assert_eq!(j.groups.len(), want, "cut at {n}");
        for (i, g) in j.groups.iter().enumerate() {
            assert_eq!(g.parts, delta(i as u8 + 1));
        }
        let at_end = n == 72 || ends.contains(&(n as u64));
        assert_eq!(
            j.tail == JournalTail::Clean,
            at_end,
            "cut at {n}: {:?}",
            j.tail
        );
        assert!(!matches!(j.tail, JournalTail::Corrupt { .. }), "cut at {n}");
        // Committed up to the first group.
        let verdict = j.verdict(ends[0]);
        match want {
            0 => assert!(matches!(verdict, Verdict::Lost { .. }), "cut at {n}"),
            k if at_end && k == 1 => assert_eq!(verdict, Verdict::Whole),
            k if at_end => assert_eq!(verdict, Verdict::Ahead { groups: k - 1 }),
            k => assert_eq!(
                verdict,
                Verdict::TornBehind {
                    at: ends[k - 1],
                    groups: k - 1
                }
            ),
        }
        // Going on writes a good journal again.
        let mut w = JournalWriter::resume(&Disk::new(), &path, &j).unwrap();
        append(&mut w, 9).unwrap();
        let j = read_journal(&path).unwrap();
        assert_eq!((j.groups.len(), j.tail), (want + 1, JournalTail::Clean));
    }
    for n in 0..72 {
        std::fs::write(&path, &whole[..n]).unwrap();
        assert!(read_journal(&path).is_err());
    }
}

#[test]
fn every_flipped_octet_of_a_journal_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jrnl-1.cj");
    let mut w = new_journal(&Disk::new(), &path);
    let ends: Vec<u64> = (1..4).map(|n| append(&mut w, n).unwrap()).collect();
    let whole = std::fs::read(&path).unwrap();
    let last_frame = whole.len() - 24;
    for i in 0..whole.len() {
        for bit in 0..8 {
            let mut bad = whole.clone();
            bad[i] ^= 1 << bit;
            std::fs::write(&path, &bad).unwrap();
            let Ok(j) = read_journal(&path) else {
                assert!(i < 72, "octet {i}");
                continue;
            };
            let good = ends.iter().filter(|e| **e <= i as u64).count();
            assert_eq!(j.groups.len(), good, "octet {i} bit {bit}");
            assert!(matches!(j.verdict(ends[2]), Verdict::Lost { .. }));
            let corrupt = matches!(j.tail, JournalTail::Corrupt { .. });
            assert_eq!(corrupt, i < last_frame, "octet {i} bit {bit}: {:?}", j.tail);
        }
    }
}

#[test]
fn a_failed_append_leaves_the_journal_as_it_was() {
    for n in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jrnl-1.cj");
        let armed = Arc::new(AtomicUsize::new(usize::MAX));
        let left = armed.clone();
        let disk = Disk::with_hook(move |_, _| {
            let l = left.load(Ordering::SeqCst);
            match l {
                usize::MAX => Ok(()),
                0 => Err(io::ErrorKind::StorageFull.into()),
                _ => {
                    left.store(l - 1, Ordering::SeqCst);
                    Ok(())
                }
            }
        });
        let mut w = new_journal(&disk, &path);
        append(&mut w, 1).unwrap();
        armed.store(n, Ordering::SeqCst);
        assert!(append(&mut w, 2).unwrap_err().is_full());
        armed.store(usize::MAX, Ordering::SeqCst);
        append(&mut w, 3).unwrap();
        let j = read_journal(&path).unwrap();
        let got: Vec<_> = j.groups.into_iter().map(|g| g.parts).collect();
        assert_eq!(got, [delta(1), delta(3)], "failure at {n}");
        assert_eq!(j.tail, JournalTail::Clean);
    }
}

#[test]
fn a_torn_end_is_copied_to_lost_and_cut() {
    let dir = tempfile::tempdir().unwrap();
    let files = ZoneFiles::new(&Disk::new(), dir.path());
    std::fs::create_dir_all(files.dir(ZONE)).unwrap();
    let path = files.path(ZONE, Kind::Journal, VersionId(1));
    let end = append(&mut new_journal(&Disk::new(), &path), 1).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(b"half a frame");
    std::fs::write(&path, bytes).unwrap();
    let j = read_journal(&path).unwrap();
    assert_eq!(j.verdict(end), Verdict::TornBehind { at: end, groups: 0 });
    let kept = files.cut(ZONE, &path, end).unwrap();
    assert_eq!(std::fs::read(kept).unwrap(), b"half a frame");
    assert_eq!(read_journal(&path).unwrap().verdict(end), Verdict::Whole);
}
