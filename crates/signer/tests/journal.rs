//! Patches of versions as they are signed one from the other: replayed, they give those versions.
#![allow(clippy::unwrap_used)]

mod kit;

use std::sync::Arc;

use cascade_crypto::dnskey::Role;
use cascade_signer::*;
use cascade_zone::{Replay, ZoneVersion};
use kit::changes::*;
use kit::*;
use proptest::test_runner::{Config, TestRunner};

type Parts = Vec<(u8, Vec<u8>)>;

fn patch(old: &ZoneVersion, new: &ZoneVersion) -> Option<Parts> {
    let mut parts = Vec::new();
    let possible = new.export_patch(old, &mut |kind, bytes| parts.push((kind, bytes.to_vec())));
    assert!(possible || parts.is_empty());
    possible.then_some(parts)
}

fn same(got: &ZoneVersion, want: &ZoneVersion) {
    assert_eq!((got.id(), got.serial()), (want.id(), want.serial()));
    assert_eq!(got.unsigned_id(), want.unsigned_id());
    assert_eq!(got.made_at(), want.made_at());
    assert_eq!(got.full_fingerprint(), want.full_fingerprint());
    assert_eq!(got.sums(), want.sums());
    assert_eq!(records(got), records(want));
}

/// Replays all versions at once, and stopping at each; where a patch cannot be written, from there.
fn follow(versions: &[ZoneVersion]) -> usize {
    let mut patches = 0;
    let mut all = Replay::new(Arc::new(versions[0].clone()));
    let mut each = Replay::new(Arc::new(versions[0].clone()));
    for pair in versions.windows(2) {
        let Some(parts) = patch(&pair[0], &pair[1]) else {
            all = Replay::new(Arc::new(pair[1].clone()));
            each = Replay::new(Arc::new(pair[1].clone()));
            continue;
        };
        patches += 1;
        all.apply(&parts).unwrap();
        each.apply(&parts).unwrap();
        same(&each.version().unwrap(), &pair[1]);
        if pair[0].full_fingerprint() != pair[1].full_fingerprint() {
            assert!(all.apply(&parts).is_err(), "a patch twice");
        }
    }
    same(&all.version().unwrap(), versions.last().unwrap());
    patches
}

fn sequences(cases: u32, steps: usize, filler: usize, denial: DenialPlan) {
    let config = Config {
        cases,
        max_shrink_iters: 300,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let mut patches = 0;
    let seen = std::cell::Cell::new(0);
    let tested = runner.run(&any_sequence(steps), |steps| {
        let keys = [("15", Role::Ksk), ("15", Role::Zsk)];
        let mut chain = Sequence::new(denial.clone(), &keys, (filler, 4));
        let mut versions = vec![chain.prev.clone()];
        for step in &steps {
            chain.step(step);
            versions.push(chain.prev.clone());
        }
        seen.set(seen.get() + follow(&versions));
        Ok(())
    });
    patches += seen.get();
    if let Err(error) = tested {
        panic!("{error}");
    }
    assert!(patches > cases as usize, "{patches}");
}

#[test]
fn nsec() {
    sequences(40, 10, 0, DenialPlan::Nsec);
    sequences(4, 8, 600, DenialPlan::Nsec);
}

#[test]
fn nsec3() {
    sequences(30, 10, 0, kit::nsec3(false));
    sequences(6, 8, 600, kit::nsec3(true));
}

/// One changed owner among many costs little.
#[test]
fn a_small_change_is_a_small_patch() {
    for denial in [DenialPlan::Nsec, kit::nsec3(true)] {
        let keys = [("15", Role::Ksk), ("15", Role::Zsk)];
        let mut chain = Sequence::new(denial, &keys, (2000, 4));
        let old = chain.prev.clone();
        chain.step(&Step::Edit(vec![Op {
            key: b"b\x00100\0".to_vec(),
            rtype: cascade_zone::Rtype(65281),
            set: Some((60, [vec![9; 4]].into())),
        }]));
        let parts = patch(&old, &chain.prev).unwrap();
        let octets: usize = parts.iter().map(|p| p.1.len()).sum();
        assert!(octets < 2500, "{octets}");
        assert_eq!(follow(&[old, chain.prev.clone()]), 1);
    }
}

/// Whatever is damaged in a patch is found, and never by a panic.
#[test]
fn damage_is_found() {
    for denial in [DenialPlan::Nsec, kit::nsec3(false)] {
        let keys = [("15", Role::Ksk), ("15", Role::Zsk)];
        let mut chain = Sequence::new(denial, &keys, (150, 4));
        let old = Arc::new(chain.prev.clone());
        chain.step(&Step::Edit(vec![Op {
            key: b"new\0".to_vec(),
            rtype: cascade_zone::Rtype::A,
            set: Some((61, [vec![9; 4]].into())),
        }]));
        let parts = patch(&old, &chain.prev).unwrap();
        for part in 0..parts.len() {
            for octet in (0..parts[part].1.len()).step_by(7) {
                let mut bad = parts.clone();
                bad[part].1[octet] ^= 1 << (octet % 8);
                let mut replay = Replay::new(old.clone());
                if let Ok(got) = replay.apply(&bad).and_then(|()| replay.version()) {
                    // Ids, times and what is shown only (letter case, TTL of sets without a
                    // record) are in no fingerprint.
                    assert_eq!(got.full_fingerprint(), chain.prev.full_fingerprint());
                }
                bad[part].1.truncate(octet);
                let mut replay = Replay::new(old.clone());
                let _ = replay.apply(&bad).and_then(|()| replay.version());
            }
        }
    }
}
