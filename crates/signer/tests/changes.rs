//! Incremental signing against full signing: the same records after any chain of changes.
#![allow(clippy::unwrap_used)]

mod kit;

use cascade_crypto::dnskey::Role;
use cascade_signer::*;
use cascade_zone::Rtype;
use kit::changes::*;
use kit::*;
use proptest::test_runner::{Config, TestRunner};

fn sequences(cases: u32, steps: usize, filler: (usize, usize), denial: DenialPlan) {
    let config = Config {
        cases,
        max_shrink_iters: 3000,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let tested = runner.run(&any_sequence(steps), |steps| {
        let keys = [("15", Role::Ksk), ("15", Role::Zsk)];
        let mut chain = Sequence::new(denial.clone(), &keys, filler);
        steps.iter().for_each(|step| drop(chain.step(step)));
        Ok(())
    });
    if let Err(error) = tested {
        panic!("{error}");
    }
}

#[test]
fn nsec_sequences() {
    sequences(16, 12, (0, 0), DenialPlan::Nsec);
    sequences(6, 12, (60, 1000), DenialPlan::Nsec);
}

#[test]
fn nsec3_sequences() {
    sequences(10, 12, (0, 0), nsec3(false));
    sequences(2, 12, (450, 4), nsec3(false));
}

#[test]
fn opt_out_sequences() {
    sequences(10, 12, (0, 0), nsec3(true));
    sequences(2, 12, (450, 4), nsec3(true));
}

/// A row at the edge of a block goes and comes back; one comes before the first of all.
#[test]
fn rows_at_the_edges_of_blocks() {
    for opt_out in [false, true] {
        let keys = [("15", Role::Csk)];
        let mut zone = Sequence::new(nsec3(opt_out), &keys, (700, 4));
        let hash_of = |key: &[u8]| {
            let mut wire = Vec::new();
            cascade_zone::key::push_wire(key, None, b"\x07example\0", &mut wire);
            nsec3_hash(&wire, &[], 0)
        };
        let owners: Vec<Vec<u8>> = zone.content.keys().cloned().collect();
        let edges: Vec<[u8; 20]> = {
            let blocks = zone.prev.chain().unwrap().tree();
            assert!(blocks.len() > 4);
            let edge = |b: &cascade_zone::BlockRef| {
                let n = b.block.len();
                [
                    *b.block.row(0).unwrap().hash,
                    *b.block.row(n - 1).unwrap().hash,
                ]
            };
            blocks.iter().flat_map(edge).collect()
        };
        let mut tried = 0;
        let at_edge = |k: &&Vec<u8>| !k.is_empty() && edges.contains(&hash_of(k));
        for key in owners.iter().filter(at_edge).take(5) {
            let set = zone.content[key][&Rtype(65281)].clone();
            let op = |set| Op {
                key: key.clone(),
                rtype: Rtype(65281),
                set,
            };
            zone.step(&Step::Edit(vec![op(None)]));
            zone.step(&Step::Edit(vec![op(Some(set))]));
            tried += 1;
        }
        assert!(tried == 5, "{tried} owners at edges");
        let first = edges.iter().min().unwrap();
        let new = (0..).map(|i| format!("new{i}\0").into_bytes());
        let key = new.into_iter().find(|k| hash_of(k) < *first).unwrap();
        for set in [Some((60, [vec![7; 4]].into())), None] {
            zone.step(&Step::Edit(vec![Op {
                key: key.clone(),
                rtype: Rtype::A,
                set,
            }]));
        }
    }
}

fn op(key: &[u8], set: Option<u8>) -> Op {
    Op {
        key: key.to_vec(),
        rtype: Rtype(65281),
        set: set.map(|n| (60, [vec![n; 400]].into())),
    }
}

/// Leaves become fewer as their names go, and more as they come back: no record and no signature shows it.
#[test]
fn leaves_that_are_joined_and_divided() {
    for denial in [DenialPlan::Nsec, nsec3(false)] {
        let mut zone = Sequence::new(denial, &[("15", Role::Csk)], (120, 400));
        let owners: Vec<Vec<u8>> = zone.content.keys().skip(1).cloned().collect();
        let before = zone.prev.unit_count();
        assert!(before > 6);
        let some = |n: usize| owners.iter().enumerate().filter(move |(i, _)| i % 12 != n);
        for part in some(5).collect::<Vec<_>>().chunks(37) {
            let gone = part.iter().map(|(_, key)| op(key, None)).collect();
            zone.step(&Step::Edit(gone));
        }
        assert!(zone.prev.unit_count() <= 3, "{}", zone.prev.unit_count());
        for part in some(5).collect::<Vec<_>>().chunks(50) {
            let back = part
                .iter()
                .map(|(i, key)| op(key, Some(*i as u8)))
                .collect();
            zone.step(&Step::Edit(back));
        }
        // Fuller than a zone file is written.
        assert!(zone.prev.unit_count() > before / 2);
    }
}

/// An owner that changes where it stands, goes and comes back, first, last and within a leaf.
#[test]
fn owners_at_every_place_of_leaves() {
    let mut zone = Sequence::new(DenialPlan::Nsec, &[("15", Role::Csk)], (40, 400));
    assert!(zone.prev.unit_count() > 3);
    let owners: Vec<Vec<u8>> = zone.content.keys().skip(1).cloned().collect();
    for key in &owners {
        for set in [Some(200), None, Some(201)] {
            zone.step(&Step::Edit(vec![op(key, set)]));
        }
    }
    // In every leaf at once, every third owner.
    let third = owners.iter().step_by(3);
    zone.step(&Step::Edit(third.map(|key| op(key, Some(202))).collect()));
}
