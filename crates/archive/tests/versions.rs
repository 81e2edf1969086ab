//! A version of the zone store in a file and back.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use cascade_archive::zones::{Kind, Recovery};
use cascade_archive::*;
use cascade_time::Timestamp;
use cascade_zone::{Builder, Name, RecordBatch, Rtype, VersionId, ZoneId, ZoneVersion};

fn version(id: u64) -> ZoneVersion {
    let mut b = RecordBatch::new();
    b.owner(&[], None);
    let mut soa = b"\x02ns\x07example\x00\x04mail\x07example\x00".to_vec();
    for n in [2026u32, 3600, 600, 86400, 300] {
        soa.extend_from_slice(&n.to_be_bytes());
    }
    b.push(Rtype(6), 3600, &soa, 1).unwrap();
    b.push(Rtype(2), 3600, b"\x02ns\x07example\x00", 2).unwrap();
    let apex = Name::parse("example").unwrap();
    for i in 0..500u32 {
        let owner = Name::parse(&format!("host{i}.example")).unwrap();
        let mut key = Vec::new();
        assert!(cascade_zone::key::push_key(
            &apex,
            owner.as_wire(),
            &mut key
        ));
        b.owner(&key, None);
        b.push(Rtype(1), 300, &i.to_be_bytes(), 3).unwrap();
    }
    Builder::new(
        ZoneId([9; 16]),
        VersionId(id),
        &apex,
        Timestamp::from_secs(1_790_000_000),
    )
    .batches(vec![b])
    .build()
    .unwrap()
}

#[test]
fn a_version_comes_back_equal() {
    let dir = tempfile::tempdir().unwrap();
    let files = ZoneFiles::new(&Disk::new(), dir.path());
    let v = version(4);
    let path = files
        .save(Kind::Candidate, &v, b"ledger", Timestamp::from_secs(5))
        .unwrap();
    let load = || files.load(v.zone(), Kind::Candidate, v.id()).unwrap();
    let (back, ledger) = load().unwrap();
    assert_eq!(ledger, b"ledger");
    assert_eq!(back.full_fingerprint(), v.full_fingerprint());
    assert_eq!(
        (back.serial(), back.sums().records),
        (v.serial(), v.sums().records)
    );
    let all = |v: &ZoneVersion| {
        let mut out = Vec::new();
        v.for_each_record(&mut |r| {
            out.push((r.owner.to_vec(), r.rtype, r.ttl, r.rdata.to_vec()));
        });
        out
    };
    assert_eq!(all(&back), all(&v));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(load(), Err(Recovery::ContentLost { .. })));
    assert_eq!(files.lost(v.zone()).unwrap().len(), 1);
    assert!(matches!(load(), Err(Recovery::Missing)));
}

#[test]
fn what_a_crash_left_of_candidates_goes() {
    let dir = tempfile::tempdir().unwrap();
    let files = ZoneFiles::new(&Disk::new(), dir.path());
    let at = Timestamp::from_secs(5);
    for (kind, id) in [
        (Kind::Snapshot, 2),
        (Kind::Candidate, 3),
        (Kind::Candidate, 4),
    ] {
        files.save(kind, &version(id), b"", at).unwrap();
    }
    let zone = version(2).zone();
    files.tidy_candidates(zone, &[VersionId(4)]).unwrap();
    let left = files.list(zone).unwrap();
    let left: Vec<_> = left.iter().map(|f| (f.kind, f.version.0)).collect();
    assert_eq!(left, [(Kind::Snapshot, 2), (Kind::Candidate, 4)]);
}
