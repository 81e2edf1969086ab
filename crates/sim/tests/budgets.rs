//! What the keys of a zone cost to keep.

use cascade_sim::{Config, DAY, World, default_policy, quiet_policy};

/// Octets of the state as the daemon writes it, after so many days, and of its largest parts.
fn size(policy: cascade_keys::KeyPolicy, days: u64) -> (usize, String) {
    let config = Config {
        lines: false,
        ..Config::default()
    };
    let mut w = World::new(policy, config);
    w.run(days * DAY);
    assert_eq!(w.broken, None);
    let whole = serde_json::to_value(&w.zone).expect("plain data");
    let octets = |v: &serde_json::Value| v.to_string().len();
    let parts = whole.as_object().into_iter().flatten();
    let mut parts: Vec<(usize, &String)> = parts.map(|(k, v)| (octets(v), k)).collect();
    parts.sort_unstable();
    let parts = parts.iter().rev().take(4);
    let told: Vec<String> = parts.map(|(n, k)| format!("{k} {n}")).collect();
    (octets(&whole), told.join(", "))
}

/// 2 KiB were wanted for a zone at rest. Old keys and TTLs are forgotten after a while, so that the
/// state of a zone that rolls every month does not grow for ever.
#[test]
fn the_state_of_a_zone_is_bounded() {
    let quiet = size(quiet_policy(), 100);
    let (one, five) = (size(default_policy(), 400), size(default_policy(), 5 * 365));
    println!("at rest {quiet:?}, after a year of rolls {one:?}, after five {five:?}");
    assert!(quiet.0 <= 6 * 1024, "{quiet:?}");
    assert!(
        one.0 <= 20 * 1024 && five.0 <= 20 * 1024,
        "{one:?} {five:?}"
    );
}
