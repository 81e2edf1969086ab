//! What the keys of a zone cost to keep.

use cascade_sim::{Config, DAY, World, default_policy, quiet_policy};

/// Octets of the state as the daemon writes it, after so many days.
fn size(policy: cascade_keys::KeyPolicy, days: u64) -> usize {
    let config = Config {
        lines: false,
        ..Config::default()
    };
    let mut w = World::new(policy, config);
    w.run(days * DAY);
    assert_eq!(w.broken, None);
    serde_json::to_vec(&w.zone).expect("plain data").len()
}

#[test]
fn a_zone_with_two_keys_takes_few_octets_and_does_not_grow() {
    let quiet = size(quiet_policy(), 100);
    let (one, five) = (size(default_policy(), 400), size(default_policy(), 5 * 365));
    println!("quiet {quiet}, after a year of rolls {one}, after five {five}");
    assert!(quiet <= 4096, "{quiet}");
    assert!(one <= 8192 && five <= 8192, "{one} {five}");
}
