//! The store against the simplest thing that could be right: a `BTreeMap` of names.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cascade_time::Timestamp;
use cascade_zone::build::NoInspector;
use cascade_zone::*;
use proptest::prelude::*;

type Model = BTreeMap<Vec<u8>, BTreeMap<Rtype, (u32, BTreeSet<Vec<u8>>)>>;

fn apex() -> Name {
    Name::parse("Zone.example").unwrap()
}

const SOA: &[u8] = b"\x01m\0\x01r\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05";

/// Relative names from a small alphabet, so that cuts, DNAMEs, ENTs and siblings collide.
fn any_key() -> impl Strategy<Value = Vec<u8>> {
    let label = prop_oneof![
        4 => prop::sample::select(vec![&b"a"[..], b"b", b"c", b"*", b"\x01\x01", b"longer-label-than-a-fence"]),
        1 => prop::sample::select(vec![&b"aa"[..], b"ab", b"\xff", b"longer-label-than-a-fence-2"]),
    ];
    prop::collection::vec(label, 1..4).prop_map(|labels| {
        labels
            .iter()
            .flat_map(|l| l.iter().copied().chain([0]))
            .collect()
    })
}

fn any_set() -> impl Strategy<Value = (Rtype, u32, BTreeSet<Vec<u8>>)> {
    let ns = prop::sample::select(vec![
        b"\x02n1\0".to_vec(),
        b"\x02n2\x03foo\0".to_vec(),
        b"\x01z\0".to_vec(),
    ]);
    prop_oneof![
        3 => (Just(Rtype::A), prop::collection::btree_set(prop::collection::vec(any::<u8>(), 4..5), 1..3)),
        3 => (Just(Rtype::NS), prop::collection::btree_set(ns.clone(), 1..3)),
        1 => (Just(Rtype::DNAME), prop::collection::btree_set(ns, 1..2)),
        2 => (Just(Rtype::DS), prop::collection::btree_set(prop::collection::vec(any::<u8>(), 36..37), 1..2)),
        2 => (Just(Rtype::TXT), prop::collection::btree_set(
            prop::sample::select(vec![b"\x14twenty octets of text".to_vec(), vec![0], vec![b'x'; 9000]]), 1..3)),
        1 => (Just(Rtype(65280)), prop::collection::btree_set(prop::collection::vec(any::<u8>(), 0..40), 1..2)),
    ]
    .prop_flat_map(|(t, set)| (Just(t), prop::sample::select(vec![60u32, 300, 3600]), Just(set)))
}

fn any_model(n: usize) -> impl Strategy<Value = Model> {
    prop::collection::vec((any_key(), any_set()), 0..n).prop_map(|list| {
        let mut m = Model::new();
        m.entry(vec![])
            .or_default()
            .insert(Rtype::SOA, (3600, BTreeSet::from([SOA.to_vec()])));
        for (k, (t, ttl, set)) in list {
            m.entry(k).or_default().insert(t, (ttl, set));
        }
        m
    })
}

/// Builds with records in an order that `seed` scrambles, over several batches.
fn build(m: &Model, id: u64, seed: u64, before: Option<&ZoneVersion>) -> ZoneVersion {
    build_seen(m, id, seed, before, &NoInspector).version
}

fn build_seen(
    m: &Model,
    id: u64,
    seed: u64,
    before: Option<&ZoneVersion>,
    inspector: &dyn Inspector,
) -> Built {
    let mut all: Vec<(&Vec<u8>, Rtype, u32, &Vec<u8>)> = Vec::new();
    for (k, sets) in m {
        for (t, (ttl, set)) in sets {
            all.extend(set.iter().map(|r| (k, *t, *ttl, r)));
        }
    }
    if seed != 0 {
        let h = |i: usize| {
            (i as u64 + 1)
                .wrapping_mul(seed | 1)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(17)
        };
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|&i| h(i));
        all = order.into_iter().map(|i| all[i]).collect();
    }
    let mut batches = Vec::new();
    for part in all.chunks(7) {
        let mut b = RecordBatch::new();
        for (k, t, ttl, r) in part {
            b.owner(k, None);
            b.push(*t, *ttl, r, 0).unwrap();
        }
        batches.push(b);
    }
    let mut builder = Builder::new(
        ZoneId([7; 16]),
        VersionId(id),
        &apex(),
        Timestamp::from_secs(1_800_000_000),
    )
    .batches(batches)
    .inspector(inspector);
    if let Some(v) = before {
        builder = builder.predecessor(v);
    }
    builder.build_beside().unwrap()
}

/// Notes what it is shown of each owner.
#[derive(Default)]
struct Shown(std::sync::Mutex<Vec<(Vec<u8>, Flags, Option<Vec<u8>>, usize)>>);

impl Inspector for Shown {
    fn owner(&self, o: &OwnerGroup<'_>) {
        let above = o.above.map(|a| a.key.to_vec());
        let seen = (o.key.to_vec(), o.flags, above, o.records.len());
        self.0.lock().unwrap().push(seen);
    }
    fn duplicate(&self, _: &[u8], _: &RawRecord<'_>, _: &RawRecord<'_>) {}
    fn ttl_mismatch(&self, _: &[u8], _: Rtype, _: u32, _: &RawRecord<'_>, _: &RawRecord<'_>) {}
}

impl Shown {
    fn sorted(self) -> Vec<(Vec<u8>, Flags, Option<Vec<u8>>, usize)> {
        let mut all = self.0.into_inner().unwrap();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

fn stops(m: &Model, k: &[u8]) -> bool {
    m.get(k).is_some_and(|s| {
        (!k.is_empty() && s.contains_key(&Rtype::NS)) || s.contains_key(&Rtype::DNAME)
    })
}

fn occluded(m: &Model, k: &[u8]) -> bool {
    key::ancestors_from_apex(k).any(|p| p.len() < k.len() && stops(m, p))
}

/// The owner has other sets, or another role because of what is above it.
fn differs(m: &Model, after: &Model, k: &[u8]) -> bool {
    m.get(k) != after.get(k) || (after.contains_key(k) && occluded(m, k) != occluded(after, k))
}

fn records_of(v: &ZoneVersion) -> Vec<(Vec<u8>, Rtype, u32, Vec<u8>)> {
    let mut out = Vec::new();
    v.for_each_record(&mut |r| out.push((r.owner.to_vec(), r.rtype, r.ttl, r.rdata.to_vec())));
    out
}

fn model_records(m: &Model) -> Vec<(Vec<u8>, Rtype, u32, Vec<u8>)> {
    let mut out = Vec::new();
    for (k, sets) in m {
        let mut wire = Vec::new();
        key::push_wire(k, None, apex().as_wire(), &mut wire);
        let mut sets: Vec<_> = sets.iter().collect();
        if k.is_empty() {
            sets.sort_by_key(|(t, _)| (**t != Rtype::SOA, **t));
        }
        for (t, (ttl, set)) in sets {
            out.extend(set.iter().map(|r| (wire.clone(), *t, *ttl, r.clone())));
        }
    }
    out
}

fn check(m: &Model, v: &ZoneVersion) {
    assert_eq!(records_of(v), model_records(m));
    let owners: Vec<&Vec<u8>> = m.keys().collect();
    assert_eq!(v.sums().owners as usize, owners.len());
    assert_eq!(v.sums().records as usize, model_records(m).len());
    let mut cuts = 0;
    for (i, k) in owners.iter().enumerate() {
        let o = v.owner(k).unwrap();
        assert_eq!(o.key(), k.as_slice());
        let occ = occluded(m, k);
        let ns = !k.is_empty() && m[*k].contains_key(&Rtype::NS);
        assert_eq!(o.flags().is_occluded(), occ, "{k:?}");
        assert_eq!(o.flags().is_cut(), ns && !occ);
        assert_eq!(
            o.flags().is_secure(),
            ns && !occ && m[*k].contains_key(&Rtype::DS)
        );
        assert_eq!(o.flags().is_wild(), key::is_wildcard(k));
        cuts += u64::from(ns && !occ);
        assert_eq!(
            v.succ(k).map(|o| o.key().to_vec()),
            owners.get(i + 1).map(|k| k.to_vec())
        );
        let pred = if i == 0 {
            None
        } else {
            Some(owners[i - 1].clone())
        };
        assert_eq!(v.pred(k).map(|o| o.key().to_vec()), pred);
    }
    assert_eq!(v.sums().cuts, cuts);
}

fn check_lookups(m: &Model, v: &ZoneVersion, k: &[u8]) {
    let below = |k: &[u8]| m.keys().any(|o| key::below(o, k));
    let exists = |k: &[u8]| m.contains_key(k) || below(k);
    assert_eq!(v.owner(k).is_some(), m.contains_key(k));
    if !m.contains_key(k) {
        assert_eq!(v.is_ent(k), below(k));
    }
    let bearing = |o: &&Vec<u8>| !occluded(m, o);
    let next = m.keys().filter(|o| o.as_slice() > k).find(bearing).cloned();
    assert_eq!(v.succ_bearing(k).map(|o| o.key().to_vec()), next);
    let prev = m
        .keys()
        .rev()
        .filter(|o| o.as_slice() < k)
        .find(bearing)
        .cloned();
    assert_eq!(v.pred_bearing(k).map(|o| o.key().to_vec()), prev);
    let c = v.closest(k);
    let stop = key::ancestors_from_apex(k).find(|p| {
        let here = m.get(*p).is_some();
        let cut = here && !p.is_empty() && m[*p].contains_key(&Rtype::NS);
        let dname = here && m[*p].contains_key(&Rtype::DNAME) && p.len() < k.len();
        cut || dname
    });
    assert_eq!(c.stop.map(|o| o.key().to_vec()), stop.map(<[u8]>::to_vec));
    if stop.is_none() {
        let deepest = key::ancestors_from_apex(k)
            .filter(|p| exists(p))
            .last()
            .unwrap();
        assert_eq!(c.encloser_len, deepest.len());
        assert_eq!(c.exact, exists(k));
        assert_eq!(c.owner.is_some(), m.contains_key(k));
    }
}

/// Signs with octets that stand for signatures: by two keys, expiring at different times.
fn sign(v: &ZoneVersion, id: u64) -> ZoneVersion {
    let slot = |n: u8, len| KeySlot {
        id: KeyId([n; 16]),
        algorithm: 13,
        tag: n as u16,
        sig_len: len,
        dnskey_sha256: [n; 32],
    };
    let mut keys = KeyTable::new();
    keys.assign(slot(1, 64)).unwrap();
    keys.assign(slot(2, 96)).unwrap();
    let soa = SoaFields::with_serial(v.soa(), Serial(99));
    let dnskey = (Rtype::DNSKEY, 300, vec![b"\x01\x01\x03\x0dkey".to_vec()]);
    let draft = Draft::new(
        v,
        VersionId(id),
        v.made_at(),
        vec![(Rtype::SOA, 3600, vec![soa]), dnskey],
        keys,
        Denial::Nsec { ttl: 5 },
    )
    .unwrap();
    let dv = draft.version();
    let sidecars = (0..dv.unit_count())
        .map(|i| {
            let unit = dv.unit(i);
            let mut s = draft.sidecar(i);
            let last = unit.owners().last().unwrap().key().to_vec();
            let next = dv.succ_bearing(&last).map_or(vec![], |o| o.key().to_vec());
            s.nsec(5, &next);
            for o in unit.owners() {
                for set in o.sets().filter(|s| o.is_signed_set(s.rtype)) {
                    s.push(
                        o.ordinal(),
                        set.index as u16,
                        0,
                        100,
                        2000 + i as u32,
                        &[1; 64],
                    );
                    s.push(o.ordinal(), set.index as u16, 1, 100, 3000, &[2; 96]);
                }
                if !o.flags().is_occluded() {
                    s.push(o.ordinal(), NSEC_SET, 0, 100, 2500, &[3; 64]);
                }
            }
            Some(s.build())
        })
        .collect();
    draft.finish(sidecars, None).unwrap()
}

fn export(v: &ZoneVersion) -> Vec<(u8, Vec<u8>)> {
    let mut parts = Vec::new();
    v.export_parts(&mut |k, b| parts.push((k, b.to_vec())));
    parts
}

#[test]
fn where_much_differs_everything_is_built_anew() {
    let model = |n: u32, every: u32| -> Model {
        let mut m = Model::new();
        m.entry(vec![])
            .or_default()
            .insert(Rtype::SOA, (3600, BTreeSet::from([SOA.to_vec()])));
        for i in 0..n {
            let set = BTreeSet::from([(i / every).to_be_bytes().to_vec()]);
            m.entry(format!("h{i:05}\0").into_bytes())
                .or_default()
                .insert(Rtype::A, (60, set));
        }
        m
    };
    let v = build(&model(2000, 1), 1, 0, None);
    let shown = Shown::default();
    let after = model(2000, 2);
    let built = build_seen(&after, 2, 0, Some(&v), &shown);
    assert!(built.changes.is_none());
    check(&after, &built.version);
    assert_eq!(shown.sorted().len(), 2001);
    // A tenth of the owners is not much.
    let after = model(1800, 1);
    let built = build_seen(&after, 3, 0, Some(&v), &NoInspector);
    assert_eq!(built.changes.map(|c| c.len()), Some(200));
    check(&after, &built.version);
}

#[test]
fn another_spelling_is_a_change() {
    let of = |case: Option<&[u8]>, before: Option<&ZoneVersion>| {
        let mut b = RecordBatch::new();
        b.owner(&[], None);
        b.push(Rtype::SOA, 1, SOA, 0).unwrap();
        b.owner(b"abc\0", case);
        b.push(Rtype::A, 1, &[1; 4], 0).unwrap();
        let builder = Builder::new(ZoneId([7; 16]), VersionId(1), &apex(), Timestamp::EPOCH);
        let builder = builder.batches(vec![b]);
        match before {
            Some(v) => builder.predecessor(v),
            None => builder,
        }
        .build()
        .unwrap()
    };
    let name = Name::parse("ABC.Zone.example").unwrap();
    let case = key::case_of(&apex(), name.as_wire()).unwrap();
    let v = of(None, None);
    let w = of(Some(&case), Some(&v));
    assert_eq!(w.owner(b"abc\0").unwrap().name().as_wire(), name.as_wire());
    assert!(!w.same_content_as(&v));
    let again = of(Some(&case), Some(&w));
    assert!(again.same_content_as(&w));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn build_is_the_model(m in any_model(60), seed: u64, probes in prop::collection::vec(any_key(), 12)) {
        let v = build(&m, 1, seed, None);
        check(&m, &v);
        probes.iter().for_each(|k| check_lookups(&m, &v, k));
        let again = build(&m, 2, seed.wrapping_add(99), None);
        prop_assert_eq!(again.full_fingerprint(), v.full_fingerprint());
        let reload = build(&m, 3, 1, Some(&v));
        prop_assert!(reload.same_content_as(&v));
        prop_assert_eq!(diff_stats(&v, &reload), DiffStats::default());
    }

    #[test]
    fn update_is_a_build(
        m in any_model(50),
        edits in prop::collection::vec((any_key(), any_set(), any::<bool>()), 1..12),
    ) {
        let v = build(&m, 1, 0, None);
        let mut after = m.clone();
        let mut list = Vec::new();
        for (k, (t, ttl, set), gone) in edits {
            let set = (!gone).then_some((ttl, set));
            let owner = after.entry(k.clone()).or_default();
            match &set {
                Some(s) => drop(owner.insert(t, s.clone())),
                None => drop(owner.remove(&t)),
            }
            list.push(Edit { key: k, case: None, rtype: t, set: set.map(|(ttl, s)| (ttl, s.into_iter().collect())) });
        }
        after.retain(|_, s| !s.is_empty());
        let up = v.update(VersionId(2), v.made_at(), list).unwrap();
        check(&after, &up.version);
        // All records again beside the version before: the same leaves, and all owners are shown.
        let (alone, beside) = (Shown::default(), Shown::default());
        let anew = build_seen(&after, 2, 7, None, &alone);
        prop_assert!(anew.changes.is_none());
        let reload = build_seen(&after, 2, 5, Some(&v), &beside);
        check(&after, &reload.version);
        prop_assert_eq!(reload.version.audit(), vec![]);
        prop_assert_eq!(alone.sorted(), beside.sorted());
        let wild = after.keys().any(|k| k.ends_with(b"\0*\0") || k == b"*\0");
        prop_assert_eq!(reload.wildcards, wild);
        let changes: Vec<_> = reload.changes.unwrap().into_iter().map(|c| c.key).collect();
        let differing = up.owners.iter().filter(|c| differs(&m, &after, &c.key));
        prop_assert_eq!(changes, differing.map(|c| c.key.clone()).collect::<Vec<_>>());
        prop_assert_eq!(up.version.audit(), vec![]);
        let built = build(&after, 3, 0, None);
        prop_assert_eq!(built.full_fingerprint(), up.version.full_fingerprint());
        prop_assert_eq!(built.sums(), up.version.sums());
        check(&m, &v);
        // The owners reported are those that differ in presence, types or role, at least.
        for k in m.keys().chain(after.keys()) {
            let role = |m: &Model| m.get(k).map(|s| (occluded(m, k), s.keys().copied().collect::<Vec<_>>()));
            if role(&m) != role(&after) {
                prop_assert!(up.owners.iter().any(|c| &c.key == k), "{:?} not reported", k);
            }
        }
        prop_assert!(up.owners.windows(2).all(|w| w[0].key < w[1].key));

        // The difference, applied to the records of the one, gives the other.
        let mut all: BTreeSet<_> = records_of(&v).into_iter().collect();
        let mut stats = DiffStats::default();
        let shown = diff(&v, &up.version, &mut |d| {
            let r = (d.owner.to_vec(), d.rtype, d.ttl, d.rdata.to_vec());
            if d.removed { assert!(all.remove(&r)); stats.records_removed += 1 } else { assert!(all.insert(r)); stats.records_added += 1 }
        });
        prop_assert_eq!((shown.records_removed, shown.records_added), (stats.records_removed, stats.records_added));
        prop_assert_eq!(all, records_of(&up.version).into_iter().collect::<BTreeSet<_>>());
    }

    #[test]
    fn signed_versions_hold_what_was_signed(m in any_model(40)) {
        let v = build(&m, 1, 0, None);
        let s = sign(&v, 2);
        prop_assert_eq!(s.content_fingerprint(), v.content_fingerprint());
        prop_assert_eq!((v.audit(), s.audit()), (vec![], vec![]));
        prop_assert_eq!(s.serial(), Serial(99));
        prop_assert_eq!(s.unsigned_id(), VersionId(1));
        prop_assert_eq!(s.sums().any_mask, 3);
        // NSEC has no signature by the second key.
        prop_assert_eq!(s.sums().full_mask, 1);
        prop_assert_eq!(s.earliest_expiration().unwrap().to_wire(), 2000);
        let records = records_of(&s);
        prop_assert_eq!(s.sums().records as usize, records.len());
        let nsecs: Vec<_> = records.iter().filter(|r| r.1 == Rtype::NSEC).collect();
        let bearing: Vec<_> = m.keys().filter(|k| !occluded(&m, k)).collect();
        prop_assert_eq!(nsecs.len(), bearing.len());
        for (i, r) in nsecs.iter().enumerate() {
            let mut next = Vec::new();
            key::push_wire(bearing[(i + 1) % bearing.len()], None, apex().to_lowercase().as_wire(), &mut next);
            prop_assert!(r.3.starts_with(&next));
        }
        let mut full = Fingerprint::default();
        let mut h = cascade_zone::fingerprint::Hasher::new(s.zone());
        records.iter().for_each(|r| full.add(h.record(&r.0, r.1, r.2, &r.3)));
        prop_assert_eq!(full, s.full_fingerprint());
        for k in &bearing {
            let o = s.owner(k).unwrap();
            prop_assert_eq!(o.nsec().unwrap().sigs().count(), 1);
            for set in o.sets() {
                prop_assert_eq!(o.sigs(set.index).count(), if o.is_signed_set(set.rtype) { 2 } else { 0 });
            }
        }

        let bare = s.to_unsigned((v.soa_ttl(), v.soa().to_vec())).unwrap();
        prop_assert_eq!(records_of(&bare), records_of(&v));
        prop_assert_eq!((bare.id(), bare.sums()), (v.id(), v.sums()));

        let parts = export(&s);
        let back = ZoneVersion::import_parts(parts.clone().into_iter()).unwrap();
        prop_assert_eq!(records_of(&back), records);
        prop_assert_eq!(back.sums(), s.sums());
        prop_assert_eq!(back.key_table(), s.key_table());
        let unsigned = ZoneVersion::import_parts(export(&v).into_iter()).unwrap();
        prop_assert_eq!(records_of(&unsigned), records_of(&v));
    }

    /// Whatever is broken on disk is found, and never by a panic.
    #[test]
    fn damage_is_found(m in any_model(20), part: prop::sample::Index, at: prop::sample::Index, bit in 0u8..8, cut: bool) {
        let s = sign(&build(&m, 1, 0, None), 2);
        let mut parts = export(&s);
        let i = part.index(parts.len());
        let j = at.index(parts[i].1.len());
        if cut { parts[i].1.truncate(j) } else { parts[i].1[j] ^= 1 << bit }
        if let Ok(back) = ZoneVersion::import_parts(parts.into_iter()) {
            // Octets that say nothing about records (key ids, version ids, made_at, the spelling of
            // owners) may pass; files carry a CRC for those.
            let lower = |v: &ZoneVersion| -> Vec<_> {
                records_of(v).into_iter().map(|(o, t, ttl, r)| (o.to_ascii_lowercase(), t, ttl, r)).collect()
            };
            prop_assert_eq!(back.full_fingerprint(), s.full_fingerprint());
            prop_assert!(lower(&back) == lower(&s) || back.apex() != s.apex());
        }
    }
}

/// A version that is signed wrongly in one way is not taken for right.
#[test]
fn audit_finds_what_a_signer_did_wrong() {
    let mut m = Model::new();
    let set = |r: &[u8]| (60u32, BTreeSet::from([r.to_vec()]));
    m.insert(vec![], BTreeMap::from([(Rtype::SOA, set(SOA))]));
    for key in [&b"a\0"[..], b"b\0", b"b\0c\0"] {
        m.insert(key.to_vec(), BTreeMap::from([(Rtype::A, set(&[1; 4]))]));
    }
    m.entry(b"b\0".to_vec())
        .or_default()
        .insert(Rtype::NS, set(b"\x01n\0"));
    let v = build(&m, 1, 0, None);
    let key = KeySlot {
        id: KeyId([1; 16]),
        algorithm: 13,
        tag: 1,
        sig_len: 4,
        dnskey_sha256: [1; 32],
    };
    // (set of the second owner, its length, owner named by the last NSEC) -> what is wrong.
    let cases: [(u16, usize, &[u8], &str); 4] = [
        (NSEC_SET, 4, b"", ""),
        (NSEC_SET, 4, b"b\0", "names the wrong owner"),
        (0, 4, b"", "over what is not signed"),
        (NSEC_SET, 5, b"", "is not of its key"),
    ];
    for (set, len, next, wrong) in cases {
        let mut keys = KeyTable::new();
        keys.assign(key.clone()).unwrap();
        let soa = (Rtype::SOA, 3600, vec![SOA.to_vec()]);
        let nsec = Denial::Nsec { ttl: 5 };
        let draft = Draft::new(&v, VersionId(2), v.made_at(), vec![soa], keys, nsec).unwrap();
        let mut apex = draft.sidecar(0);
        apex.nsec(5, b"a\0");
        apex.push(0, NSEC_SET, 0, 1, 2, &[1; 4]);
        let mut leaf = draft.sidecar(1);
        leaf.nsec(5, next);
        // The A set at a cut is glue.
        leaf.push(1, set, 0, 1, 2, &vec![1; len]);
        let sidecars = vec![Some(apex.build()), Some(leaf.build())];
        let faults = draft.finish(sidecars, None).unwrap().audit();
        let text: Vec<String> = faults.iter().map(|f| f.to_string()).collect();
        let found = text.iter().any(|t| t.contains(wrong));
        assert_eq!(faults.is_empty(), wrong.is_empty(), "{text:?}");
        assert!(wrong.is_empty() || found, "{text:?}");
    }
}

#[test]
fn apex_faults_are_named() {
    let b = |records: &[(&[u8], Rtype, &[u8])]| {
        let mut batch = RecordBatch::new();
        for (k, t, r) in records {
            batch.owner(k, None);
            batch.push(*t, 60, r, 0).unwrap();
        }
        Builder::new(ZoneId([0; 16]), VersionId(1), &apex(), Timestamp::EPOCH)
            .batches(vec![batch])
            .build()
            .map(|_| ())
    };
    assert_eq!(b(&[]), Err(BuildError::NoSoa));
    assert_eq!(
        b(&[(b"a\0", Rtype::A, b"\x01\x02\x03\x04")]),
        Err(BuildError::NoSoa)
    );
    let other = SoaFields::with_serial(SOA, Serial(2));
    assert_eq!(
        b(&[(b"", Rtype::SOA, SOA), (b"", Rtype::SOA, &other)]),
        Err(BuildError::SeveralSoas)
    );
    assert_eq!(b(&[(b"", Rtype::SOA, SOA), (b"", Rtype::SOA, SOA)]), Ok(()));
}

/// 200,000 owners: several ranges, chunks and leaves; a reload with one change shares the rest.
#[test]
fn large_zones_share_what_did_not_change() {
    let make = |changed: Option<u32>, before: Option<&ZoneVersion>| {
        let mut batches = Vec::new();
        for part in 0..8u32 {
            let mut b = RecordBatch::new();
            if part == 3 {
                b.owner(b"", None);
                b.push(Rtype::SOA, 3600, SOA, 0).unwrap();
            }
            for i in (0..200_000u32).filter(|i| i % 8 == part) {
                let key = format!("domain-number-{i:07}\0").into_bytes();
                b.owner(&key, None);
                let ns = format!("\x03ns{}\x04host\x04test\0", i % 7).into_bytes();
                b.push(Rtype::NS, 3600, &ns, i).unwrap();
                if i % 10 == 0 {
                    b.push(Rtype::DS, 3600, &[i as u8; 36], i).unwrap();
                }
                if changed == Some(i) {
                    b.push(Rtype::NS, 3600, b"\x01x\0", i).unwrap();
                }
            }
            batches.push(b);
        }
        let b =
            Builder::new(ZoneId([1; 16]), VersionId(1), &apex(), Timestamp::EPOCH).batches(batches);
        match before {
            Some(v) => b.predecessor(v),
            None => b,
        }
        .build()
        .unwrap()
    };
    let v = make(None, None);
    assert_eq!(v.sums().owners, 200_001);
    assert_eq!(v.sums().cuts, 200_000);
    assert_eq!(v.sums().secure, 20_000);
    let per_record = v.memory() as f64 / v.sums().records as f64;
    assert!(per_record < 25.0, "{per_record} octets a record");
    let w = make(Some(123_456), Some(&v));
    let shared = (0..w.unit_count().min(v.unit_count()))
        .filter(|&i| v.unit(i).same_as(&w.unit(i)))
        .count();
    assert!(
        shared + 2 >= v.unit_count(),
        "{shared} of {}",
        v.unit_count()
    );
    let stats = diff_stats(&v, &w);
    assert_eq!(
        (
            stats.records_removed,
            stats.records_added,
            stats.owners_changed
        ),
        (0, 1, 1)
    );
    assert!(stats.units_read <= 4, "{stats:?}");

    let edits = (0..1000u32).map(|i| Edit {
        key: format!("domain-number-{:07}\0", i * 199).into_bytes(),
        case: None,
        rtype: Rtype::TXT,
        set: Some((60, vec![b"\x01t".to_vec()])),
    });
    let up = v
        .update(VersionId(2), Timestamp::EPOCH, edits.collect())
        .unwrap();
    assert_eq!(up.owners.len(), 1000);
    assert_eq!(diff_stats(&v, &up.version).records_added, 1000);
    let arc = Arc::new(up.version);
    assert_eq!(arc.sums().records, v.sums().records + 1000);
}

/// A large version is served before its records have been read again: what it says of itself is believed
/// first, and whatever is not true of it is found by the recount.
#[test]
fn a_large_version_is_believed_first_and_recounted() {
    let set = |r: &[u8]| (60u32, BTreeSet::from([r.to_vec()]));
    let mut m = Model::from([(vec![], BTreeMap::from([(Rtype::SOA, set(SOA))]))]);
    for i in 0..8_000u32 {
        let key = format!("owner-number-{:07}\0", i * 7919 % 100_003).into_bytes();
        let long = format!("\x31{i:049}").into_bytes();
        let sets = [(Rtype::A, set(&i.to_be_bytes())), (Rtype::TXT, set(&long))];
        m.insert(key, BTreeMap::from(sets));
    }
    let v = sign(&build(&m, 1, 0, None), 2);
    assert!(v.unit_count() >= 64, "{}", v.unit_count());
    let parts = export(&v);
    let first = |parts: &Vec<(u8, Vec<u8>)>| ZoneVersion::import_first(parts.clone().into_iter());

    let back = first(&parts).unwrap();
    assert!(!back.is_checked);
    assert_eq!(back.version.sums(), v.sums());
    assert_eq!(back.version.audit(), vec![]);
    assert_eq!(back.version.recount(), Ok(()));
    assert_eq!(export(&back.version), parts);

    // One octet of an address, of a signature, and of the counts.
    let at = |kind: u8, what: &[u8]| {
        let i = parts.iter().position(|(k, _)| *k == kind).unwrap();
        let found = parts[i].1.windows(what.len()).position(|w| w == what);
        (i, found.unwrap())
    };
    let an_address = 0x1aceu32.to_be_bytes();
    let sums = parts.len() - 1;
    assert_eq!(parts[sums].0, cascade_zone::parts::SUMS);
    let places = [
        at(cascade_zone::parts::LEAVES, &an_address),
        (at(cascade_zone::parts::SIDECARS, b"S1").0, usize::MAX),
        // The first leaf's number of records stands behind the number of leaves.
        (sums, 4),
    ];
    for (part, octet) in places {
        let mut bad = parts.clone();
        let octet = octet.min(bad[part].1.len() - 1);
        bad[part].1[octet] ^= 1;
        let believed = first(&bad).unwrap();
        assert!(believed.version.recount().is_err(), "part {part}");
        assert_ne!(believed.version.audit(), vec![], "part {part}");
        let all = ZoneVersion::import_parts(bad.into_iter());
        assert_eq!(all.is_err(), part != sums, "part {part}");
    }

    // Sums of other leaves are not these leaves'.
    for cut in [0, 3, 40] {
        let mut bad = parts.clone();
        bad[sums].1.truncate(cut);
        assert!(first(&bad).is_err(), "{cut}");
    }
    let mut without = parts.clone();
    without.pop();
    assert!(first(&without).unwrap().is_checked);

    // A small one is read once.
    m.retain(|k, _| k.len() < 3 || k.ends_with(b"77\0"));
    let small = export(&sign(&build(&m, 1, 0, None), 2));
    assert!(small.iter().all(|(k, _)| *k != cascade_zone::parts::SUMS));
    assert!(first(&small).unwrap().is_checked);
}
