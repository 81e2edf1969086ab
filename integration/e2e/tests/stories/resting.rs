//! Zones at rest: in a daemon with very many zones those in which nothing goes on have no task. Here
//! they rest although they are few.

use std::time::Duration;

use cascade_e2e::follow::{Follower, Step};
use cascade_e2e::{Site, dig, until, within};

use crate::common::{add, change};

const DAY: Duration = Duration::from_secs(86_400);

/// Large enough that a change is worth a difference.
fn text(serial: u32) -> String {
    let hosts: String = (0..50).map(|i| format!("h{i} A 192.0.2.1\n")).collect();
    format!(
        "$TTL 3600\n@ SOA ns a {serial} 7200 900 1209600 300\n@ NS ns.else.test.\n{hosts}v{serial} A 192.0.2.2\n"
    )
}

/// Not running yet.
fn site() -> Site {
    site_with("CASCADE_TEST_REST_FROM=1; export CASCADE_TEST_REST_FROM")
}

fn site_with(variables: &str) -> Site {
    let mut site = Site::new();
    site.begin_after(variables);
    site
}

/// Running, with `example.net` and `example.org` published.
fn two_zones() -> Site {
    let mut site = site();
    site.start();
    site.policy("p", "[key-manager.generation]\nuse-csk = true\n");
    site.ok(&["policy", "reload"]);
    for zone in ["example.net", "example.org"] {
        add(&site, zone, &text(1));
        site.await_published(zone, 1);
    }
    site
}

fn at_rest(site: &Site) -> u32 {
    let page = site.request("GET", "/metrics", None).unwrap().body;
    let line = page
        .lines()
        .find_map(|l| l.strip_prefix("cascade_zones_at_rest "));
    line.unwrap_or_else(|| panic!("{page}")).parse().unwrap()
}

#[track_caller]
fn await_rest(site: &Site, zones: u32) {
    until(&format!("{zones} zones at rest"), || {
        (at_rest(site) == zones).then_some(())
    });
}

#[test]
fn a_zone_at_rest_is_there_for_everybody() {
    let site = two_zones();
    await_rest(&site, 2);
    // What people see of it is what they saw before.
    let status = site.status("example.net");
    assert_eq!(status["state"], "published", "{status:#}");
    let detailed = site.ok(&["zone", "status", "example.net", "--detailed"]);
    assert!(detailed.contains("CSK"), "{detailed}");
    let why = site.ok(&["why", "example.net"]);
    assert!(!why.contains("rror"), "{why}");
    let loaded = dig(
        site.unsigned_review_port(),
        &["example.net", "SOA", "+dnssec"],
    );
    assert_eq!(loaded.serial(), Some(1), "{loaded:?}");
    assert!(loaded.rdata("RRSIG").is_empty(), "{loaded:?}");
    let host = dig(site.unsigned_review_port(), &["v1.example.net", "A"]);
    assert_eq!(host.rdata("A"), ["192.0.2.2"]);
    assert_eq!(at_rest(&site), 2, "a look wakes nobody");
    let mut secondary = Follower::new(site.publication_port(), "example.net").unwrap();
    // A change wakes it, and secondaries have the difference.
    let served = site.served_serial("example.net");
    change(&site, "example.net", &text(2));
    site.await_published("example.net", 2);
    assert!(site.served_serial("example.net") > served);
    let step = secondary.follow(site.publication_port()).unwrap();
    assert!(matches!(step, Step::Incremental(_)), "{step:?}");
    secondary.compare(site.publication_port()).unwrap();
    await_rest(&site, 2);
    // The gate compares the next version with the one before, as if there had been no rest.
    change(&site, "example.net", &text(3));
    let status = site.await_published("example.net", 3);
    let checked = status["verification"]["signatures_checked"].as_u64();
    assert!(checked.is_some_and(|n| n < 20), "{status:#}");
    secondary.follow(site.publication_port()).unwrap();
    secondary.compare(site.publication_port()).unwrap();
    crate::validity::judge(&site, "example.net");
    await_rest(&site, 2);
    // A policy is for zones at rest as well.
    site.policy(
        "p",
        "[key-manager.generation]\nuse-csk = true\n[signer.denial]\ntype = \"nsec3\"\n",
    );
    site.ok(&["policy", "reload", "--yes"]);
    for zone in ["example.net", "example.org"] {
        until("NSEC3 by the new policy", || {
            let answer = site.ask(&[zone, "NSEC3PARAM"]);
            (!answer.rdata("NSEC3PARAM").is_empty()).then_some(())
        });
        crate::validity::judge(&site, zone);
    }
    await_rest(&site, 2);
    // An order is carried out; a zone at rest can go.
    let before = site.served_serial("example.org");
    site.ok(&["zone", "resign", "example.org"]);
    until("signed again", || {
        (site.served_serial("example.org") > before).then_some(())
    });
    await_rest(&site, 2);
    site.ok(&["zone", "remove", "example.org", "--yes"]);
    until("one zone is left", || {
        (!site.ok(&["zone", "list"]).contains("example.org")).then_some(())
    });
    assert_eq!(site.ask(&["example.org", "SOA"]).serial(), None);
}

/// Adds a zone and waits for nothing.
#[track_caller]
fn begin(site: &Site, zone: &str, more: &[&str]) {
    let file = site.write(&format!("zones/{zone}"), &text(1));
    let file = file.display().to_string();
    let mut args = vec!["zone", "add", zone, "--source", &file, "--policy", "p"];
    args.extend(more);
    site.ok(&args);
}

/// How many zones are, as `status` counts them.
fn published(site: &Site) -> u64 {
    let status = site.request("GET", "/v1/status", None).unwrap().json();
    status["zones"]["published"].as_u64().unwrap()
}

/// Of very many zones that are added faster than they are signed each waits for its turn. Here one
/// zone may have a task, and has it as long as it is in maintenance.
#[test]
fn an_added_zone_waits_for_its_turn() {
    let mut site = site_with(
        "CASCADE_TEST_REST_FROM=1; CASCADE_TEST_AWAKE=1; export CASCADE_TEST_REST_FROM CASCADE_TEST_AWAKE",
    );
    site.start();
    site.policy("p", "[key-manager.generation]\nuse-csk = true\n");
    site.ok(&["policy", "reload"]);
    begin(&site, "example.net", &["--maintenance"]);
    let zones = ["a.example", "b.example", "c.example", "d.example"];
    zones.iter().for_each(|zone| begin(&site, zone, &[]));
    // They are there, with nothing published, and no turn comes.
    assert_eq!(at_rest(&site), 4);
    assert_eq!(published(&site), 0);
    for (before, zone) in zones.iter().enumerate() {
        let status = site.status(zone);
        assert_eq!(status["state"], "waiting-source", "{status:#}");
        assert_eq!(status["turn"], before, "{status:#}");
        assert_eq!(site.ask(&[zone, "SOA"]).serial(), None);
        let why = site.ok(&["zone", "why", zone]);
        let place = match before {
            0 => "and its turn is next".to_string(),
            1 => "and 1 is taken up before it".to_string(),
            n => format!("and {n} are taken up before it"),
        };
        assert!(why.contains(&place), "{why}");
        assert!(
            why.contains(&format!("cascade zone reload {zone}")),
            "{why}"
        );
    }
    let status = site.ok(&["zone", "status", "c.example"]);
    assert!(
        status.contains("Waits for its turn: 2 zones come first"),
        "{status}"
    );
    // Who wants something of one does not wait for its turn.
    site.ok(&["zone", "reload", "a.example"]);
    site.await_published("a.example", 1);
    site.ok(&["zone", "remove", "b.example", "--yes"]);
    until("the zone is gone", || {
        (!site.ok(&["zone", "list"]).contains("b.example")).then_some(())
    });
    assert_eq!(published(&site), 1);
    // Added is durable: after a power cut they are all begun.
    site.kill();
    site.start();
    for zone in ["a.example", "c.example", "d.example"] {
        site.await_published(zone, 1);
        crate::validity::judge(&site, zone);
    }
    assert_eq!(site.ask(&["b.example", "SOA"]).serial(), None);
    // One that waits has its turn when the zone before it rests.
    begin(&site, "e.example", &[]);
    let status = site.status("e.example");
    assert_eq!(status["state"], "waiting-source", "{status:#}");
    site.ok(&["zone", "maintenance", "disable", "example.net"]);
    site.await_published("example.net", 1);
    site.await_published("e.example", 1);
    crate::validity::judge(&site, "e.example");
    await_rest(&site, 5);
    assert_eq!(published(&site), 5);
}

#[test]
fn a_start_serves_zones_at_rest_and_restores_them_in_turn() {
    let mut site = two_zones();
    change(&site, "example.net", &text(2));
    site.await_published("example.net", 2);
    await_rest(&site, 2);
    let mut secondary = Follower::new(site.publication_port(), "example.net").unwrap();
    let serial = site.served_serial("example.net");
    // A change while nobody runs is found by a zone that is served at rest first.
    site.write("zones/example.net", &text(3));
    site.kill();
    site.start();
    assert!(site.ask(&["example.net", "SOA"]).serial() >= Some(serial));
    assert!(site.ask(&["example.org", "SOA"]).serial().is_some());
    site.await_published("example.net", 3);
    let step = secondary.follow(site.publication_port()).unwrap();
    assert!(matches!(step, Step::Incremental(_)), "{step:?}");
    secondary.compare(site.publication_port()).unwrap();
    await_rest(&site, 2);
    // Where what was published cannot be read back, nothing is served before it is mended.
    let damaged = newest_snapshot(&site);
    site.kill();
    let mut octets = std::fs::read(&damaged).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    std::fs::write(&damaged, octets).unwrap();
    site.start();
    assert!(site.ask(&["example.net", "SOA"]).serial() > Some(serial));
    site.await_published("example.org", 1);
    crate::validity::judge(&site, "example.org");
}

#[test]
fn a_zone_at_rest_whose_file_is_damaged_is_restored_when_it_is_woken() {
    let site = two_zones();
    await_rest(&site, 2);
    let served = site.served_serial("example.org");
    let damaged = newest_snapshot(&site);
    let mut octets = std::fs::read(&damaged).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    std::fs::write(&damaged, octets).unwrap();
    // Nobody is troubled by it before there is something to do.
    assert_eq!(site.served_serial("example.org"), served);
    change(&site, "example.org", &text(2));
    site.await_published("example.org", 2);
    assert!(site.served_serial("example.org") > served);
    let log = site.log();
    assert!(
        log.contains("the zone is restored as after a start"),
        "{log}"
    );
    crate::validity::judge(&site, "example.org");
    crate::validity::judge(&site, "example.net");
}

/// The file of what the zone `example.org` has published.
fn newest_snapshot(site: &Site) -> std::path::PathBuf {
    let mut snapshots = crate::recovery::files(site, "snap-");
    let name = b"\x07example\x03org\0";
    snapshots.retain(|p| {
        let octets = std::fs::read(p).unwrap();
        octets.windows(name.len()).any(|w| w == name)
    });
    snapshots.into_iter().max().unwrap()
}

/// What waits for a moment of a clock that stands still is let go on, and then left alone.
#[track_caller]
fn await_rest_as_time_goes_on(site: &Site) {
    let rests = (0..25).any(|_| {
        site.advance(Duration::from_secs(30));
        within(Duration::from_secs(4), || {
            (at_rest(site) == 1).then_some(())
        })
        .is_some()
    });
    assert!(rests, "{}", site.log());
}

#[test]
fn a_zone_at_rest_signs_again_in_time() {
    let mut site = site();
    let began = 1_800_000_000;
    site.begin_at(began);
    site.start();
    site.policy("p", "[key-manager.generation]\nuse-csk = true\n");
    site.ok(&["policy", "reload"]);
    add(&site, "example.net", &text(1));
    site.await_published("example.net", 1);
    await_rest_as_time_goes_on(&site);
    // Longer than signatures are good for, in days: it wakes each time that something is due.
    for day in 0..20 {
        site.advance(DAY);
        let now = site.now();
        until(&format!("day {day}: signatures that last"), || {
            let answer = site.ask(&["example.net", "SOA", "+dnssec"]);
            let rrsig = answer.rdata("RRSIG");
            let ends = rrsig.first()?.split_whitespace().nth(4)?.to_string();
            (secs(&ends) > now + 2 * 86_400).then_some(())
        });
    }
    // It rested in between, and does again when all of that is done.
    await_rest_as_time_goes_on(&site);
}

/// Of a time as signatures show it (RFC 4034 section 3.2), in seconds.
fn secs(text: &str) -> i64 {
    let n = |a: usize, b: usize| text[a..b].parse::<i64>().unwrap();
    let (y, m, d) = (n(0, 4), n(4, 6), n(6, 8));
    // Days since 1970 of a date in the Gregorian calendar.
    let (y, m) = if m > 2 { (y, m - 3) } else { (y - 1, m + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + d - 1 - 719_468;
    days * 86_400 + n(8, 10) * 3600 + n(10, 12) * 60 + n(12, 14)
}
