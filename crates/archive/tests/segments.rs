//! Segments: what is committed comes back whatever happens around it.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cascade_archive::segment::{Fresh, Kept, Want, Writing};
use cascade_archive::zones::{Kind, Recovery};
use cascade_archive::*;
use cascade_time::Timestamp;
use cascade_zone::{
    Builder, Edit, Name, RecordBatch, Rtype, Serial, SoaFields, VersionId, ZoneId, ZoneVersion, key,
};
use proptest::prelude::*;

const ZONE: ZoneId = ZoneId([9; 16]);

fn now() -> Timestamp {
    Timestamp::from_secs(1_790_000_000)
}

fn first(owners: u32) -> ZoneVersion {
    made(0, owners)
}

fn made(start: u32, owners: u32) -> ZoneVersion {
    let mut b = RecordBatch::new();
    b.owner(&[], None);
    let mut soa = b"\x02ns\x07example\x00\x04mail\x07example\x00".to_vec();
    for n in [1u32, 3600, 600, 86400, 300] {
        soa.extend_from_slice(&n.to_be_bytes());
    }
    b.push(Rtype::SOA, 3600, &soa, 1).unwrap();
    b.push(Rtype::NS, 3600, b"\x02ns\x07example\x00", 2)
        .unwrap();
    for i in start..start + owners {
        b.owner(&host(i), None);
        b.push(Rtype::A, 300, &i.to_be_bytes(), 3).unwrap();
    }
    let apex = Name::parse("example").unwrap();
    Builder::new(ZONE, VersionId(1), &apex, now())
        .batches(vec![b])
        .build()
        .unwrap()
}

fn host(i: u32) -> Vec<u8> {
    let apex = Name::parse("example").unwrap();
    let owner = Name::parse(&format!("host{i}.example")).unwrap();
    key::key_of(&apex, owner.as_wire()).unwrap()
}

/// The version after `v`, with one other address.
fn next(v: &ZoneVersion, n: u32) -> ZoneVersion {
    let serial = Serial(v.serial().0 + 1);
    let soa = SoaFields::with_serial(v.soa(), serial);
    let edit = |key: Vec<u8>, rtype, ttl, data| Edit {
        key,
        case: None,
        rtype,
        set: Some((ttl, vec![data])),
    };
    let edits = vec![
        edit(vec![], Rtype::SOA, 3600, soa),
        edit(
            host(n % 700),
            Rtype::A,
            300 + n % 3,
            n.to_be_bytes().to_vec(),
        ),
    ];
    let id = VersionId(v.id().0 + 1);
    v.update(id, now(), edits).unwrap().version
}

fn line(n: usize) -> Vec<ZoneVersion> {
    let mut all = vec![first(600)];
    for i in 1..n {
        all.push(next(&all[i - 1], i as u32 * 7));
    }
    all
}

fn write(v: &ZoneVersion) -> Writing<'_> {
    Writing {
        version: v,
        beside: b"beside",
        now: now(),
    }
}

fn same(kept: &Kept, v: &ZoneVersion) {
    assert_eq!((kept.0.id(), kept.0.serial()), (v.id(), v.serial()));
    assert_eq!(kept.0.full_fingerprint(), v.full_fingerprint());
    assert_eq!(kept.1, b"beside");
}

fn recover(files: &ZoneFiles, s: &Segment, keep: usize, candidate: Option<u64>) -> Recovered {
    let want = Want::Newest(keep);
    files
        .recover_segment(ZONE, s, want, candidate, Check::Now)
        .unwrap()
        .unwrap()
}

/// All versions, each following the one before.
fn store(files: &ZoneFiles, versions: &[ZoneVersion]) -> Vec<Vec<Segment>> {
    let mut list = vec![files.follow(&[], None, None, write(&versions[0])).unwrap()];
    for pair in versions.windows(2) {
        let last = list.last().unwrap();
        list.push(
            files
                .follow(last, None, Some(&pair[0]), write(&pair[1]))
                .unwrap(),
        );
    }
    list
}

#[test]
fn versions_come_back_one_by_one_and_together() {
    let dir = tempfile::tempdir().unwrap();
    let files = ZoneFiles::new(&Disk::new(), dir.path());
    let versions = line(12);
    let segments = store(&files, &versions);
    let last = segments.last().unwrap();
    assert_eq!(
        last.len(),
        1,
        "one snapshot, and a journal of eleven patches"
    );
    let path = files.path(ZONE, Kind::Journal, VersionId(1));
    let octets = std::fs::metadata(path).unwrap().len();
    assert!(octets < 11 * 800, "{octets}");
    let all = recover(&files, &last[0], 5, None);
    assert!(all.damage.is_none() && all.ahead.is_none() && all.set_aside.is_none());
    assert_eq!(all.versions.len(), 5);
    for (got, want) in all.versions.iter().zip(&versions[7..]) {
        same(got, want);
    }
    assert_eq!(recover(&files, &last[0], 50, None).versions.len(), 12);
    for v in &versions {
        assert!(last[0].holds(v.id().0));
        let one = files.recover_segment(ZONE, &last[0], Want::One(v.id().0), None, Check::Now);
        same(&one.unwrap().unwrap().versions[0], v);
    }
    // Leaves are shared between what comes back.
    let (a, b) = (&all.versions[0].0, &all.versions[4].0);
    assert!(b.memory_beside(a) < b.memory() / 2);
}

#[test]
fn a_version_of_its_own_begins_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let files = ZoneFiles::new(&Disk::new(), dir.path());
    let versions = line(3);
    let segments = store(&files, &versions[..2]).pop().unwrap();
    // Loaded anew, with other tables and other content.
    let other = {
        let v = next(&made(10_000, 4_000), 1);
        next(&next(&v, 1), 1)
    };
    let segments = files
        .follow(&segments, None, Some(&versions[1]), write(&other))
        .unwrap();
    assert_eq!(segments.len(), 2);
    // The head is another one than the version before: written whole.
    let segments = files
        .follow(&segments[..1], None, Some(&other), write(&versions[2]))
        .unwrap();
    assert_eq!(
        (segments.len(), segments[1].base, segments[1].end()),
        (2, 3, 0)
    );
    same(
        &recover(&files, &segments[1], 3, None).versions[0],
        &versions[2],
    );
    // Who knows of the first segment only may come late: what is newer stays.
    files.tidy(ZONE, &segments[..1], None).unwrap();
    same(
        &recover(&files, &segments[1], 3, None).versions[0],
        &versions[2],
    );
    files.tidy(ZONE, &segments[1..], None).unwrap();
    let left: Vec<u64> = files
        .list(ZONE)
        .unwrap()
        .iter()
        .map(|f| f.version.0)
        .collect();
    // 4 was begun, and another version took its place: it goes when a segment is newer.
    assert_eq!(left, [3, 4]);
}

#[test]
fn a_long_journal_moves_behind_a_newer_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let files = ZoneFiles::new(&Disk::new(), dir.path());
    let versions = line(12);
    let segments = store(&files, &versions[..8]).pop().unwrap();
    let fresh = Fresh {
        of: segments[0].base,
        from: segments[0].behind(4).unwrap(),
        segment: files.snapshot(write(&versions[3])).unwrap(),
    };
    // More is published until the new snapshot is taken over.
    let grown = files
        .follow(&segments, None, Some(&versions[7]), write(&versions[8]))
        .unwrap();
    let moved = files
        .follow(
            &grown,
            Some(&fresh),
            Some(&versions[8]),
            write(&versions[9]),
        )
        .unwrap();
    assert_eq!((moved.len(), moved[0].base, moved[0].head()), (1, 4, 10));
    // Until the state names the new one, the old one holds.
    same(
        recover(&files, &grown[0], 1, None).versions.last().unwrap(),
        &versions[8],
    );
    files.tidy(ZONE, &moved, None).unwrap();
    let moved = files
        .follow(
            &moved,
            Some(&fresh),
            Some(&versions[9]),
            write(&versions[10]),
        )
        .unwrap();
    let all = recover(&files, &moved[0], 20, None);
    assert_eq!(all.versions.len(), 8);
    for (got, want) in all.versions.iter().zip(&versions[3..]) {
        same(got, want);
    }
    assert!(!segments[0].is_long());
}

#[test]
fn what_follows_the_committed_end_is_the_candidate_or_goes() {
    let dir = tempfile::tempdir().unwrap();
    let files = ZoneFiles::new(&Disk::new(), dir.path());
    let versions = line(4);
    let segments = store(&files, &versions[..3]);
    let (before, _after) = (&segments[1][0], &segments[2][0]);
    let got = recover(&files, before, 1, Some(3));
    same(got.versions.last().unwrap(), &versions[1]);
    same(&got.ahead.unwrap(), &versions[2]);
    assert!(recover(&files, before, 1, Some(9)).ahead.is_none());
    // Another version takes its place.
    let other = next(&versions[1], 99);
    let segments = files
        .follow(&segments[1], None, Some(&versions[1]), write(&other))
        .unwrap();
    let got = recover(&files, &segments[0], 9, None);
    assert_eq!(got.versions.len(), 3);
    same(&got.versions[2], &other);
}

#[test]
fn missing_files_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let files = ZoneFiles::new(&Disk::new(), dir.path());
    let versions = line(4);
    let segments = store(&files, &versions).pop().unwrap();
    std::fs::remove_file(files.path(ZONE, Kind::Journal, VersionId(1))).unwrap();
    let got = recover(&files, &segments[0], 9, None);
    assert!(got.damage.is_some());
    same(got.versions.last().unwrap(), &versions[0]);
    // Going on in it would leave a hole: the next version is written whole.
    let v = next(&versions[3], 1);
    let went_on = files
        .follow(&segments, None, Some(&versions[3]), write(&v))
        .unwrap();
    assert_eq!((went_on.len(), went_on[1].base), (2, 5));
    same(&recover(&files, &went_on[1], 1, None).versions[0], &v);
    std::fs::remove_file(files.path(ZONE, Kind::Snapshot, VersionId(1))).unwrap();
    let got = files.recover_segment(ZONE, &segments[0], Want::Newest(1), None, Check::Now);
    assert!(matches!(got.unwrap(), Err(Recovery::Missing)));
    files.set_segment_aside(ZONE, &went_on[1]).unwrap();
    assert_eq!(files.lost(ZONE).unwrap().len(), 1);
}

/// A disk that stops working at its n-th operation, half-way through a write.
fn dying(n: usize, count: Arc<AtomicUsize>) -> Disk {
    Disk::with_hook(move |_: &'static str, _: &Path| {
        if count.fetch_add(1, Ordering::SeqCst) >= n {
            return Err(io::Error::other("power cut"));
        }
        Ok(())
    })
}

/// Before and after every operation of every write: the old version or the new one.
#[test]
fn a_crash_anywhere_leaves_the_old_or_the_new_version() {
    let versions = line(8);
    let mut crashes = 0;
    for step in 1..6 {
        for n in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let good = ZoneFiles::new(&Disk::new(), dir.path());
            let segments = store(&good, &versions[..step]).pop().unwrap();
            let fresh = (step == 5).then(|| Fresh {
                of: 1,
                from: segments[0].behind(3).unwrap(),
                segment: good.snapshot(write(&versions[2])).unwrap(),
            });
            let count = Arc::new(AtomicUsize::new(0));
            let bad = ZoneFiles::new(&dying(n, count.clone()), dir.path());
            let (old, new) = (&versions[step - 1], &versions[step]);
            let result = bad.follow(&segments, fresh.as_ref(), Some(old), write(new));
            let died = count.load(Ordering::SeqCst) > n;
            crashes += usize::from(died);
            assert_eq!(result.is_err(), died);
            // The state never heard of it: the old version, perhaps with the new one ahead.
            let got = recover(&good, &segments[0], 9, Some(new.id().0));
            assert!(got.damage.is_none());
            same(got.versions.last().unwrap(), old);
            got.ahead.iter().for_each(|v| same(v, new));
            // Life goes on from there.
            let again = good.follow(&segments, None, Some(old), write(new)).unwrap();
            let again = good
                .follow(&again, None, Some(new), write(&versions[step + 1]))
                .unwrap();
            let got = recover(&good, again.last().unwrap(), 9, None);
            same(got.versions.last().unwrap(), &versions[step + 1]);
            if let Ok(list) = &result {
                let got = recover(&good, &segments[0], 9, None);
                assert!(got.damage.is_none() && list.last().unwrap().head() == new.id().0);
                break;
            }
        }
    }
    assert!(crashes > 25, "{crashes}");
}

/// Versions whose patches went the short way: journal without sync, state with the commit.
fn behind(
    files: &ZoneFiles,
    state: &State,
    versions: &[ZoneVersion],
    mut segments: Vec<Segment>,
) -> Vec<Segment> {
    for pair in versions.windows(2) {
        let new = write(&pair[1]);
        let (next, tail) = files.behind(&segments, None, Some(&pair[0]), new).unwrap();
        files.append_tail(&tail).unwrap();
        // Done twice when a commit is tried again.
        files.append_tail(&tail).unwrap();
        state.commit(vec![tail.put()]).unwrap();
        segments = next;
    }
    segments
}

/// Whatever a power cut leaves of octets that were not synced, the start has all of them.
#[test]
fn what_a_power_cut_takes_from_a_journal_is_in_the_state() {
    let versions = line(7);
    for case in 0..60u64 {
        let dir = tempfile::tempdir().unwrap();
        let files = ZoneFiles::new(&Disk::new(), dir.path());
        let state = State::open(&Disk::new(), dir.path()).unwrap().0;
        let synced = store(&files, &versions[..3]).pop().unwrap();
        let segments = behind(&files, &state, &versions[2..], synced.clone());
        let whole = segments[0].clone();
        let path = files.path(ZONE, Kind::Journal, VersionId(whole.base));
        assert_eq!(path.metadata().unwrap().len(), whole.end());
        let mut octets = std::fs::read(&path).unwrap();
        let kept = synced[0].end() + case * (whole.end() - synced[0].end()) / 59;
        match case % 3 {
            0 => octets.truncate(kept as usize),
            1 => octets[kept as usize..].fill(0),
            _ => {
                octets.truncate(kept as usize);
                octets.extend([0xa5; 3000]);
            }
        }
        std::fs::write(&path, &octets).unwrap();
        let tails = state.tails().unwrap();
        assert_eq!(tails.len(), 4);
        let lacked = tails.iter().filter(|t| files.mend(t).unwrap()).count();
        assert!(kept == whole.end() || lacked > 0);
        assert!(tails.iter().all(|t| !files.mend(t).unwrap()));
        let got = recover(&files, &whole, 9, None);
        assert!(got.damage.is_none());
        assert_eq!(got.versions.len(), 7);
        got.versions
            .iter()
            .zip(&versions)
            .for_each(|(k, v)| same(k, v));
    }
}

#[test]
fn the_short_way_is_for_small_patches_of_an_open_journal() {
    let versions = line(4);
    let dir = tempfile::tempdir().unwrap();
    let files = ZoneFiles::new(&Disk::new(), dir.path());
    let ways = |list: &[Segment], fresh: Option<&Fresh>, old, new| {
        files.behind(list, fresh, old, write(new)).is_some()
    };
    assert!(!ways(&[], None, None, &versions[0]));
    let lists = store(&files, &versions[..3]);
    // The journal does not exist yet.
    assert!(!ways(&lists[0], None, Some(&versions[0]), &versions[1]));
    let (open, old, other) = (&lists[2], Some(&versions[2]), made(5_000, 3_000));
    assert!(ways(open, None, old, &versions[3]));
    assert!(!ways(open, None, Some(&versions[1]), &versions[3]));
    assert!(!ways(open, None, old, &other));
    let fresh = Fresh {
        of: open[0].base,
        from: open[0].behind(2).unwrap(),
        segment: files.snapshot(write(&versions[1])).unwrap(),
    };
    assert!(!ways(open, Some(&fresh), old, &versions[3]));
    // A journal that lacks its end is neither written nor synced as if nothing were.
    let (next, tail) = files.behind(open, None, old, write(&versions[3])).unwrap();
    let path = files.path(ZONE, Kind::Journal, VersionId(open[0].base));
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(open[0].end() - 1).unwrap();
    assert!(matches!(
        files.append_tail(&tail),
        Err(ArchiveError::Damaged { .. })
    ));
    let end = next[0].end();
    assert!(files.sync_journal(ZONE, open[0].base, end).is_err());
    std::fs::remove_file(&path).unwrap();
    assert!(files.sync_journal(ZONE, open[0].base, end).is_ok());
    assert!(!files.mend(&tail).unwrap());
}

/// The first snapshot too.
#[test]
fn a_crash_in_a_snapshot_leaves_nothing_or_all() {
    let v = first(50);
    for n in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let bad = ZoneFiles::new(&dying(n, Arc::default()), dir.path());
        let done = bad.follow(&[], None, None, write(&v)).is_ok();
        let good = ZoneFiles::new(&Disk::new(), dir.path());
        let segments = good.follow(&[], None, None, write(&v)).unwrap();
        same(&recover(&good, &segments[0], 1, None).versions[0], &v);
        if done {
            return;
        }
    }
}

/// Every octet of a small journal, flipped: found, and what was good before it is given.
#[test]
fn flipped_bits_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let files = ZoneFiles::new(&Disk::new(), dir.path());
    let versions = line(4);
    let segments = store(&files, &versions).pop().unwrap();
    let path = files.path(ZONE, Kind::Journal, VersionId(1));
    let octets = std::fs::read(&path).unwrap();
    let ends: Vec<u64> = segments[0].marks.iter().map(|m| m.end).collect();
    for at in (0..octets.len()).step_by(3) {
        let mut bad = octets.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&path, bad).unwrap();
        let got = recover(&files, &segments[0], 9, None);
        // The creation time and the serial in the header decide nothing.
        assert!(got.damage.is_some(), "octet {at}");
        let whole = ends.iter().filter(|e| **e <= at as u64).count();
        same(got.versions.last().unwrap(), &versions[whole]);
        assert!(got.set_aside.is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_cut_journal_gives_what_is_whole(cut in 0usize..10_000, junk in prop::collection::vec(any::<u8>(), 0..40), committed in 0usize..6) {
        let dir = tempfile::tempdir().unwrap();
        let files = ZoneFiles::new(&Disk::new(), dir.path());
        let versions = line(6);
        let segments = store(&files, &versions);
        let segment = &segments[committed][0];
        let path = files.path(ZONE, Kind::Journal, VersionId(1));
        let mut octets = std::fs::read(&path).unwrap();
        octets.truncate(cut % octets.len());
        let len = octets.len() as u64;
        octets.extend_from_slice(&junk);
        std::fs::write(&path, octets).unwrap();
        let all = &segments[5][0];
        let whole = all.marks.iter().filter(|m| m.end <= len).count();
        let got = recover(&files, segment, 9, None);
        prop_assert_eq!(got.damage.is_some(), whole < committed);
        same(got.versions.last().unwrap(), &versions[whole.min(committed)]);
        // Afterwards the file is clean.
        let again = recover(&files, segment, 9, None);
        prop_assert_eq!(again.versions.len(), got.versions.len());
        prop_assert!(again.set_aside.is_none());
    }
}

/// A start serves a large version before its records have been read; whoever wants it checked gets it checked.
#[test]
fn a_large_version_may_be_checked_later() {
    let dir = tempfile::tempdir().unwrap();
    let files = ZoneFiles::new(&Disk::new(), dir.path());
    let (small, large) = (first(600), first(60_000));
    for (v, later) in [(small, true), (large, false)] {
        let segments = files.follow(&[], None, None, write(&v)).unwrap();
        for (check, checked) in [(Check::Later, later), (Check::Now, true)] {
            let got = files.recover_segment(ZONE, &segments[0], Want::Newest(1), None, check);
            let got = got.unwrap().unwrap();
            same(&got.versions[0], &v);
            assert_eq!(got.is_checked, checked, "{check:?}");
            assert_eq!(got.versions[0].0.recount(), Ok(()));
        }
    }
}
