//! Incremental signing against full signing: the same records after any chain of changes.
#![allow(clippy::unwrap_used)]

mod kit;

use cascade_crypto::dnskey::Role;
use cascade_signer::*;
use kit::changes::*;
use kit::*;
use proptest::test_runner::{Config, TestRunner};

fn sequences(cases: u32, steps: usize, filler: usize, denial: DenialPlan) {
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
    sequences(100, 12, 0, DenialPlan::Nsec);
}

#[test]
fn nsec3_sequences() {
    sequences(60, 12, 0, nsec3(false));
    sequences(10, 12, 400, nsec3(false));
}

#[test]
fn opt_out_sequences() {
    sequences(60, 12, 0, nsec3(true));
    sequences(10, 12, 400, nsec3(true));
}
