//! A daemon with many small zones, and a large one among them.

use std::time::Duration;

use cascade_e2e::many::Many;
use cascade_e2e::until;

use crate::common::{add, site_with_policy};

/// Zones; `CASCADE_ZONES` has another number.
const ZONES: u32 = 2_000;
/// For each phase.
const BOUND: Duration = Duration::from_secs(600);

#[test]
fn many_zones_are_added_signed_and_restarted() {
    let n = std::env::var("CASCADE_ZONES").map_or(ZONES, |n| n.parse().unwrap());
    let mut site = site_with_policy(Many::POLICY);
    let many = Many::new(&site, n);
    let added = many.add(&site);
    let published = added + many.await_published(&site, BOUND);
    let step = (n / 100).max(1) as usize;
    let sample: Vec<u32> = (0..n).step_by(step).collect();
    let serials: Vec<u32> = sample
        .iter()
        .map(|i| site.served_serial(&Many::name(*i)))
        .collect();
    // One of them changes just before a power cut, one while nobody runs.
    many.write(1, 2);
    site.ok(&["zone", "reload", &Many::name(1)]);
    site.await_published(&Many::name(1), 2);
    many.write(2, 2);
    site.kill();
    let began = std::time::Instant::now();
    site.start();
    let restarted = began.elapsed();
    // Ready means served, all of them.
    for (i, serial) in sample.iter().zip(serials) {
        let zone = Many::name(*i);
        let answer = site.ask(&[&zone, "SOA", "+dnssec"]);
        let now = answer.serial();
        assert!(now >= Some(serial), "{zone}: {now:?} after {serial}");
        assert!(!answer.rdata("RRSIG").is_empty(), "{}", answer.text);
    }
    let count = |i: u32| {
        let owner = format!("count.{}", Many::name(i));
        site.ask(&[&owner, "TXT"]).rdata("TXT")
    };
    assert_eq!(count(1), ["\"2\""]);
    until("the change made while nobody ran", || {
        (count(2) == ["\"2\""]).then_some(())
    });
    eprintln!(
        "{n} zones: added in {:.1} s, published after {:.1} s, restarted in {:.1} s",
        added.as_secs_f64(),
        published.as_secs_f64(),
        restarted.as_secs_f64()
    );
}

/// A large zone is loaded, signed and verified for a long time; small ones come and go live meanwhile.
#[test]
fn many_zones_do_not_wait_for_a_large_one() {
    let site = site_with_policy(Many::POLICY);
    let mut text = String::from(
        "$TTL 3600\n@ SOA ns1 hostmaster 1 7200 3600 1209600 900\n@ NS ns1\nns1 A 192.0.2.1\n",
    );
    for i in 0..60_000u32 {
        text += &format!("d{i} NS ns.other.test.\n");
    }
    add(&site, "large.test", &text);
    let many = Many::new(&site, 20);
    many.add(&site);
    let took = many.await_published(&site, Duration::from_secs(60));
    let state = site.status("large.test")["state"].clone();
    assert_ne!(state, "published", "the large zone is not large enough");
    // They change too while it goes on.
    many.write(3, 2);
    site.ok(&["zone", "reload", &Many::name(3)]);
    site.await_published(&Many::name(3), 2);
    let state = site.status("large.test")["state"].clone();
    eprintln!(
        "20 zones published in {:.1} s beside a large one, which is {state}",
        took.as_secs_f64()
    );
    assert_ne!(state, "published", "the large zone is not large enough");
}
