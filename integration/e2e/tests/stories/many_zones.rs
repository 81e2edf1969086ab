//! A daemon with many small zones, and a large one among them.

use std::time::Duration;

use cascade_e2e::many::Many;
use cascade_e2e::{until, within};

use crate::common::{add, site_with_policy};

/// Zones; `CASCADE_ZONES` has another number.
const ZONES: u32 = 10_000;
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

/// Small zones that change all at once, alone and beside a large one.
const CHANGING: u32 = 200;
/// Delegations of the large zone: with NSEC and signatures it has three times as many records.
const DELEGATIONS: u32 = 100_000;
/// How much longer the changes of the small zones may take beside the large one: it may have its
/// share of the CPUs, and they may not wait for its end.
const SLOWER: u32 = 10;

/// While 300,000 records are being signed, 200 small zones change and are published, all of them.
#[test]
fn many_zones_change_while_a_large_one_is_signed() {
    let site = site_with_policy(Many::POLICY);
    let many = Many::new(&site, CHANGING);
    many.add(&site);
    many.await_published(&site, BOUND);
    let alone = change_all(&site, &many, 2);
    let mut text = String::from(
        "$TTL 3600\n@ SOA ns1 hostmaster 1 7200 3600 1209600 900\n@ NS ns1\nns1 A 192.0.2.1\n",
    );
    for i in 0..DELEGATIONS {
        text += &format!("d{i} NS ns.other.test.\n");
    }
    add(&site, "large.test", &text);
    let beside = change_all(&site, &many, 3);
    let state = site.status("large.test")["state"].clone();
    eprintln!(
        "{CHANGING} zones changed in {:.1} s alone, in {:.1} s beside a large one, which is {state}",
        alone.as_secs_f64(),
        beside.as_secs_f64()
    );
    assert_ne!(state, "published", "they waited for it, or it is too small");
    let most = alone * SLOWER + Duration::from_secs(60);
    assert!(beside <= most, "{beside:?}, and {alone:?} alone");
}

/// Changes every zone and waits until each is published anew; how long that took.
fn change_all(site: &cascade_e2e::Site, many: &Many, serial: u32) -> Duration {
    let before = serials(site);
    (0..many.n).for_each(|i| many.write(i, serial));
    let began = std::time::Instant::now();
    for i in 0..many.n {
        let path = format!("/v1/zones/{}/reload", Many::name(i));
        let reply = site.request("POST", &path, Some("{}")).unwrap();
        assert_eq!(reply.status, 202, "{reply:?}");
    }
    within(BOUND, || {
        let now = serials(site);
        let news = |i: &u32| {
            let name = Many::name(*i);
            now.get(&name).is_some_and(|s| Some(s) != before.get(&name))
        };
        (0..many.n).all(|i| news(&i)).then_some(())
    })
    .expect("every small zone is published with its change");
    began.elapsed()
}

/// Of all zones that are published.
fn serials(site: &cascade_e2e::Site) -> std::collections::BTreeMap<String, u64> {
    let list = site.request("GET", "/v1/zones?limit=1000", None).unwrap();
    let list = list.json();
    let items = list["items"].as_array().expect("a list");
    items
        .iter()
        .filter_map(|z| Some((z["zone"].as_str()?.to_string(), z["serial"].as_u64()?)))
        .collect()
}
