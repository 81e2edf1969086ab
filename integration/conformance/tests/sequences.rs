//! A few of the chains that `sequences` runs by the thousand.
#![allow(clippy::unwrap_used, reason = "a test suite")]

use cascade_conformance::sequences::{self, Tally};

#[test]
fn chains_of_changes() {
    let scratch = tempfile::tempdir().unwrap();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap();
    let mut total = Tally::default();
    for seed in 0..60 {
        let judge = seed % 5 == 0;
        match sequences::run(seed, &pool, judge.then_some(scratch.path())) {
            Ok(tally) => total.add(&tally),
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{total:?}");
    assert!(total.incremental > 4 * total.full, "{total:?}");
    assert!(total.kept > 4 * total.made, "{total:?}");
    assert!(
        total.switched > 2 && total.beside > total.switched,
        "{total:?}"
    );
}
