use std::collections::BTreeMap;

use cascade_time::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::build::{Builder, RecordBatch};
use crate::diff::diff;
use crate::id::{VersionId, ZoneId};
use crate::leaf::LEAF_MAX;
use crate::name::Name;
use crate::rtype::Rtype;
use crate::update::{Edit, Update};

const SOA: &[u8] = b"\x01m\0\x01r\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05";
const ZONE: ZoneId = ZoneId([5; 16]);

/// What stands at an owner: size of a TXT, and a number in it.
type Model = BTreeMap<u16, (u8, u8)>;

fn key_of(n: u16) -> Vec<u8> {
    format!("owner-{n:05}\0").into_bytes()
}

/// No two owners have the same, so that none is pooled.
fn rdata(owner: u16, (size, n): (u8, u8)) -> Vec<u8> {
    let text = format!("{owner:05} {n} ").into_bytes();
    let text = text.into_iter().cycle().take(usize::from(size));
    [size].into_iter().chain(text).collect()
}

fn edit(n: u16, set: Option<(u8, u8)>) -> Edit {
    Edit {
        key: key_of(n),
        case: None,
        rtype: Rtype::TXT,
        set: set.map(|set| (300, vec![rdata(n, set)])),
    }
}

fn builder<'a>(model: &Model, apex: &'a Name, id: u64) -> Builder<'a> {
    let mut batch = RecordBatch::new();
    batch.owner(&[], None);
    batch.push(Rtype::SOA, 300, SOA, 0).unwrap();
    for (n, set) in model {
        batch.owner(&key_of(*n), None);
        batch.push(Rtype::TXT, 300, &rdata(*n, *set), 0).unwrap();
    }
    let at = Timestamp::from_secs(1_800_000_000);
    Builder::new(ZONE, VersionId(id), apex, at).batches(vec![batch])
}

fn build(model: &Model, before: Option<&ZoneVersion>) -> ZoneVersion {
    let apex = Name::parse("settle.example").unwrap();
    let builder = builder(model, &apex, 1);
    match before {
        Some(before) => builder.predecessor(before).build().unwrap(),
        None => builder.build().unwrap(),
    }
}

fn apply(model: &mut Model, changes: &[(u16, Option<(u8, u8)>)]) -> Vec<Edit> {
    for (n, set) in changes {
        match set {
            Some(set) => model.insert(*n, *set),
            None => model.remove(n),
        };
    }
    changes.iter().map(|(n, set)| edit(*n, *set)).collect()
}

fn change(v: &ZoneVersion, edits: Vec<Edit>) -> Update {
    v.update(VersionId(v.id.0 + 1), v.made_at(), edits).unwrap()
}

fn owners(v: &ZoneVersion) -> Vec<(Vec<u8>, Vec<u8>)> {
    let all = (1..v.unit_count()).flat_map(|i| v.unit(i).owners());
    let text = |o: &crate::Owner<'_>| o.set(Rtype::TXT)?.rdatas().next().map(<[u8]>::to_vec);
    all.map(|o| (o.key().to_vec(), text(&o).unwrap())).collect()
}

fn wanted(model: &Model) -> Vec<(Vec<u8>, Vec<u8>)> {
    model
        .iter()
        .map(|(n, s)| (key_of(*n), rdata(*n, *s)))
        .collect()
}

/// The rule of neighbours, over all of the zone.
fn lonely(v: &ZoneVersion) -> Option<(usize, usize)> {
    let leaves: Vec<&LeafRef> = v.tree.iter().collect();
    let sizes = |w: &[&LeafRef]| (w[0].u.bytes().len(), w[1].u.bytes().len());
    let pair = leaves.windows(2).find(|w| belong(w[0], w[1]));
    pair.map(sizes)
}

fn sound(v: &ZoneVersion, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(owners(v), wanted(model));
    prop_assert_eq!(lonely(v), None);
    prop_assert_eq!(v.audit(), vec![]);
    // No record is larger than 300 octets here: a leaf outgrows its limit by one owner at most.
    let most = v.tree.iter().map(|l| l.u.bytes().len()).max();
    prop_assert!(most.is_none_or(|most| most < LEAF_MAX + 700), "{:?}", most);
    Ok(())
}

/// Records of the difference: owner and RDATA, gone and come.
type Differs = (Vec<(Vec<u8>, Vec<u8>)>, Vec<(Vec<u8>, Vec<u8>)>);

fn differs(a: &ZoneVersion, b: &ZoneVersion) -> Differs {
    let (mut gone, mut come) = (vec![], vec![]);
    diff(a, b, &mut |item| {
        let list = if item.removed { &mut gone } else { &mut come };
        list.push((item.owner.to_vec(), item.rdata.to_vec()));
    });
    (gone, come)
}

fn model_differs(a: &Model, b: &Model) -> Differs {
    let apex = Name::parse("settle.example").unwrap();
    let name = |n: &u16| {
        let mut wire = Vec::new();
        crate::key::push_wire(&key_of(*n), None, apex.as_wire(), &mut wire);
        wire
    };
    let only = |x: &Model, y: &Model| {
        // Two sets of a few octets may be one: their text is cut off before what tells them apart.
        let there = |n: &u16| y.get(n).map(|s| rdata(*n, *s));
        let differ = x.iter().filter(|(n, s)| there(n) != Some(rdata(**n, **s)));
        differ.map(|(n, s)| (name(n), rdata(*n, *s))).collect()
    };
    (only(a, b), only(b, a))
}

fn changes() -> impl Strategy<Value = Vec<(u16, Option<(u8, u8)>)>> {
    let set = prop::option::weighted(0.4, (0u8..=255, any::<u8>()));
    let single = prop::collection::vec((0u16..600, set.clone()), 1..20);
    // A stretch of owners that go, or come.
    let stretch = (0u16..600, 1u16..400, set).prop_map(|(from, n, set)| {
        (from..(from + n).min(600))
            .map(|i| (i, set))
            .collect::<Vec<_>>()
    });
    prop_oneof![single, stretch]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is edited, the zone is what the model says, no two leaves stand beside each other that
    /// should be one, and differences say what changed; a reload of the same gives the same leaves.
    #[test]
    fn leaves_are_neither_tiny_nor_huge(
        n in 0u16..600,
        size in 0u8..=255,
        rounds in prop::collection::vec(changes(), 1..6),
    ) {
        let mut model: Model = (0..n).map(|i| (i, (size, i as u8))).collect();
        let mut v = build(&model, None);
        sound(&v, &model)?;
        for round in rounds {
            let before = model.clone();
            let edits = apply(&mut model, &round);
            let next = change(&v, edits).version;
            sound(&next, &model)?;
            prop_assert_eq!(differs(&v, &next), model_differs(&before, &model));
            let loaded = build(&model, Some(&v));
            sound(&loaded, &model)?;
            prop_assert_eq!(differs(&next, &loaded), (vec![], vec![]));
            let again = build(&model, Some(&loaded));
            let shared = again.tree.iter().zip(loaded.tree.iter()).all(|(a, b)| a.u.same(&b.u));
            prop_assert!(shared && again.tree.len() == loaded.tree.len());
            v = next;
        }
    }
}

#[test]
fn a_zone_that_lost_most_of_its_names_has_few_leaves() {
    let mut model: Model = (0..4000).map(|i| (i, (100, i as u8))).collect();
    let mut v = build(&model, None);
    let before = v.tree.len();
    assert!(before > 60);
    // One in twenty stays, and they go in many small changes.
    let gone: Vec<u16> = (0..4000).filter(|i| i % 20 != 7).collect();
    for part in gone.chunks(97) {
        let edits: Vec<_> = part.iter().map(|n| (*n, None)).collect();
        v = change(&v, apply(&mut model, &edits)).version;
    }
    sound(&v, &model).unwrap();
    let octets: usize = v.tree.iter().map(|l| l.u.bytes().len()).sum();
    assert!(
        v.tree.len() <= 2 * octets.div_ceil(LEAF_TARGET),
        "{} leaves of {octets} octets, {before} before",
        v.tree.len()
    );
    // The same at once, and as a zone file with those names only.
    let whole: Model = (0..4000).map(|i| (i, (100, i as u8))).collect();
    let first = build(&whole, None);
    let at_once = change(&first, gone.iter().map(|n| edit(*n, None)).collect());
    assert!(at_once.effort.joined > 50);
    sound(&at_once.version, &model).unwrap();
    sound(&build(&model, Some(&first)), &model).unwrap();
    // All of them.
    let none = change(&v, model.keys().map(|n| edit(*n, None)).collect());
    assert!(none.version.tree.is_empty());
}

#[test]
fn an_edit_writes_the_owners_around_it_and_no_more() {
    let model: Model = (0..4000).map(|i| (2 * i, (100, i as u8))).collect();
    let v = build(&model, None);
    for n in [1, 400, 401, 3999, 7999] {
        let update = change(&v, vec![edit(n, Some((100, 1)))]);
        let effort = update.effort;
        assert_eq!((effort.leaves, effort.whole, effort.joined), (1, 0, 0));
        // Behind one that came groups begin elsewhere; still, none is hashed.
        let most = if n % 2 == 0 { RESTART } else { 100 };
        assert!(effort.written <= most, "{n}: {effort:?}");
        // One leaf on either side is read, and in it one group of owners, not sixty.
        let stats = crate::diff::diff_stats(&v, &update.version);
        assert_eq!((stats.units_read, stats.owners_changed), (2, 1));
        if n % 2 == 0 {
            assert!(stats.steps <= RESTART as u64, "{n}: {stats:?}");
        }
        let unit = v.unit_of(&key_of(n)).unwrap_or(v.unit(1));
        let new = update.version.unit(unit.index());
        let compared = crate::compare::compare(&unit, &new);
        assert_eq!(compared.come.len(), 1);
        if n % 2 == 0 {
            assert!(compared.steps <= RESTART, "{n}: {compared:?}");
        }
    }
}

/// What outgrows a leaf becomes two that can both grow, so that the next owner is written alone.
#[test]
fn a_full_leaf_is_divided_in_the_middle() {
    let mut model: Model = (0..60).map(|i| (10 * i, (99, i as u8))).collect();
    let mut v = build(&model, None);
    let leaves = v.tree.len();
    let mut n = 0;
    while v.tree.len() == leaves {
        n += 1;
        v = change(&v, apply(&mut model, &[(n * 10 + 1, Some((99, 1)))])).version;
    }
    sound(&v, &model).unwrap();
    let sizes: Vec<usize> = v.tree.iter().map(|l| l.u.bytes().len()).collect();
    assert!(sizes.iter().all(|s| *s > LEAF_MIN), "{sizes:?}");
    let next = change(&v, apply(&mut model, &[(2, Some((99, 1)))]));
    assert_eq!(next.effort.whole, 0);
    sound(&next.version, &model).unwrap();
}
