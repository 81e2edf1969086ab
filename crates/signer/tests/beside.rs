//! Another denial of existence, built beside the one in service while content and keys go on.
#![allow(clippy::unwrap_used)]

mod kit;

use std::time::Duration;

use cascade_crypto::Class;
use cascade_crypto::dnskey::Role;
use cascade_signer::*;
use cascade_time::SimClock;
use cascade_zone::denial::Denial;
use kit::changes::*;
use kit::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn salted() -> DenialPlan {
    DenialPlan::Nsec3 {
        iterations: 1,
        salt: vec![0xab, 0xcd],
        opt_out: false,
    }
}

/// From what to what.
fn changes() -> [(DenialPlan, DenialPlan); 5] {
    [
        (DenialPlan::Nsec, nsec3(false)),
        (nsec3(false), DenialPlan::Nsec),
        (nsec3(false), salted()),
        (nsec3(false), nsec3(true)),
        (nsec3(true), nsec3(false)),
    ]
}

/// Until then the version in service has nothing of the new chain, whatever happens to content,
/// times and keys; then it has nothing of the old one. Each version equals one that was signed from
/// the start, and verifies.
fn sequences(cases: u32, filler: (usize, usize), from: &DenialPlan, to: &DenialPlan) {
    let config = Config {
        cases,
        max_shrink_iters: 300,
        ..Config::default()
    };
    let steps = (any_sequence(10), 1usize..6);
    let tested = TestRunner::new(config).run(&steps, |(steps, batch)| {
        let keys = [("15", Role::Ksk), ("15", Role::Zsk)];
        let mut zone = Sequence::new(from.clone(), &keys, filler);
        let mut building = None;
        for step in steps {
            // The denial is what this is about; other keys at their pace are a sequence of its own.
            if matches!(step, Step::Denial(_)) {
                continue;
            }
            drop(zone.step(&step));
            prop_assert_eq!(&zone.denial, from);
            if zone.settled && zone.change(to, batch, &mut building) {
                return Ok(());
            }
        }
        zone.step(&Step::Keys(0, KeyPace::AtOnce));
        // Each call is one batch of those that are left, and one more begins it.
        let mut calls = 0;
        while !zone.change(to, batch, &mut building) {
            calls += 1;
            prop_assert!(calls < 200, "it never ends");
        }
        zone.step(&Step::Wait(30));
        Ok(())
    });
    if let Err(error) = tested {
        panic!("{error}");
    }
}

/// Keys that come and go while it is built end up in other slots of the version in service than of
/// what is built: that is begun anew in batches, and not signed anew by the version that switches.
#[test]
fn keys_in_other_slots() {
    for (from, to) in changes() {
        let filler = match to {
            DenialPlan::Nsec => (250, 400),
            DenialPlan::Nsec3 { .. } => (450, 4),
        };
        let keys = [("15", Role::Ksk), ("15", Role::Zsk)];
        let mut zone = Sequence::new(from.clone(), &keys, filler);
        let mut building = None;
        let mut switched = zone.change(&to, 4, &mut building);
        assert!(!switched);
        for choice in [2, 0] {
            // A few blocks are all there already.
            if !switched {
                zone.step(&Step::Keys(choice, KeyPace::AtOnce));
                switched = zone.change(&to, 4, &mut building);
            }
        }
        while !switched {
            switched = zone.change(&to, 4, &mut building);
        }
    }
}

#[test]
fn small_zones() {
    for (from, to) in changes() {
        sequences(6, (0, 0), &from, &to);
    }
}

#[test]
fn zones_of_many_leaves_and_blocks() {
    for (from, to) in changes() {
        let filler = match to {
            DenialPlan::Nsec => (250, 400),
            DenialPlan::Nsec3 { .. } => (450, 4),
        };
        sequences(2, filler, &from, &to);
    }
}

#[test]
fn a_batch_is_a_bound() {
    for (from, to) in changes() {
        // Many leaves, or many blocks: equal data of several owners is stored once.
        let filler = match to {
            DenialPlan::Nsec => (250, 400),
            DenialPlan::Nsec3 { .. } => (900, 4),
        };
        let mut zone = Sequence::new(from, &[("15", Role::Csk)], filler);
        let mut building = None;
        let mut before = 0;
        while !zone.change(&to, 2, &mut building) {
            let (done, all) = building.as_ref().map(Building::progress).unwrap();
            // The apex, or the block that it is in, comes along with the first.
            assert!(done - before <= 3 && done <= all, "{done} after {before}");
            before = done;
        }
        assert!(before > 3, "{before} {:?}", zone.denial);
    }
}

#[test]
fn a_change_of_mind_begins_anew() {
    let mut zone = Sequence::new(DenialPlan::Nsec, &[("15", Role::Csk)], (900, 4));
    let mut building = None;
    assert!(!zone.change(&nsec3(false), 3, &mut building));
    assert!(!zone.change(&salted(), 1, &mut building));
    let Some(now) = &building else { panic!() };
    assert!(matches!(now.denial(), Denial::Nsec3 { params, .. } if params.salt == [0xab, 0xcd]));
    assert_eq!(now.progress().0, 1);
    while !zone.change(&salted(), 3, &mut building) {}
    assert_eq!(zone.prev.chain().map(|c| c.params().salt.len()), Some(2));
}

/// What was made stays when a job is cancelled between two batches, and nothing else comes out.
#[test]
fn a_cancelled_job_leaves_what_it_made() {
    let zone = Sequence::new(DenialPlan::Nsec, &[("15", Role::Csk)], (900, 4));
    let plan = SigningPlan {
        denial: nsec3(false),
        ..zone.plan()
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let (clock, progress) = (SimClock::new(zone.now), Progress::new());
    let job = Job {
        pool: &pool.unwrap(),
        clock: &clock,
        progress: &progress,
        class: Class::Normal,
        token_wait: Duration::from_secs(10),
    };
    let kept = std::cell::RefCell::new(Vec::new());
    let pace = Pace {
        batch: 1,
        until: Duration::MAX,
        keep: &|b: &Building| {
            kept.borrow_mut().push(b.progress().0);
            if b.progress().0 == 3 {
                progress.cancel();
            }
        },
    };
    let scope = Scope::content(KEY_SET_REMAIN);
    let done = change_denial(
        &zone.prev, None, &zone.base, &plan, &scope, &pace, &job, zone.now,
    );
    assert!(matches!(done, Err(SignError::Cancelled)), "{done:?}");
    assert_eq!(kept.into_inner(), [1, 2, 3]);
}

/// Blocks of a large version are believed first what they say of themselves, like leaves.
#[test]
fn a_chain_is_believed_first_and_recounted() {
    use cascade_zone::ZoneVersion;
    use cascade_zone::parts::{BLOCKS, SUMS};
    let zone = Sequence::new(nsec3(false), &[("15", Role::Csk)], (7000, 4));
    let mut parts: Vec<(u8, Vec<u8>)> = Vec::new();
    zone.prev
        .export_parts(&mut |kind, bytes| parts.push((kind, bytes.to_vec())));
    assert_eq!(parts.last().map(|p| p.0), Some(SUMS));
    let back = ZoneVersion::import_first(parts.clone().into_iter()).unwrap();
    assert!(!back.is_checked);
    assert_eq!(back.version.sums(), zone.prev.sums());
    assert_eq!(back.version.recount(), Ok(()));
    assert_eq!(back.version.audit(), vec![]);

    // The last octet of a part is one of a signature.
    let blocks = parts.iter().position(|p| p.0 == BLOCKS).unwrap();
    *parts[blocks].1.last_mut().unwrap() ^= 1;
    let back = ZoneVersion::import_first(parts.clone().into_iter()).unwrap();
    assert!(back.version.recount().is_err());
    assert!(ZoneVersion::import_parts(parts.into_iter()).is_err());
}
