//! Zones whose content comes from other servers: honest ones that are not ours, and one that lies.

use std::collections::BTreeSet;
use std::path::Path;

use cascade_e2e::primary::{KEY, Primary, Program, SECRET};
use cascade_e2e::{Site, dig, transfer, until};
use serde_json::Value;

use crate::common::site_with_policy;
use crate::liar::{Ixfr, Liar, Lies, ZONE};

fn add(site: &Site, zone: &str, sources: &[&str]) {
    let mut args = vec!["zone", "add", zone, "--policy", "p"];
    for s in sources {
        args.extend(["--source", s]);
    }
    assert_eq!(site.ok(&args), format!("Added zone {zone}\n"));
}

fn add_key(site: &Site, secret: &str) {
    site.ok(&["tsig", "add", KEY, "hmac-sha256", secret]);
}

fn refresh(site: &Site, zone: &str) {
    site.ok(&["zone", "reload", "--refresh", zone]);
}

fn kind(status: &Value) -> String {
    status["primaries"]["kind"]
        .as_str()
        .unwrap_or("")
        .to_owned()
}

/// The records of a transferred zone that are content: neither SOA nor what a signer makes.
fn content(port: u16, zone: &str, file: &Path) -> BTreeSet<String> {
    transfer(port, zone, file).unwrap();
    let made = [
        "SOA",
        "RRSIG",
        "NSEC",
        "NSEC3",
        "NSEC3PARAM",
        "DNSKEY",
        "CDS",
        "CDNSKEY",
        "ZONEMD",
    ];
    std::fs::read_to_string(file)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with(';'))
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() > 4 && !made.contains(&words[3]))
        .map(|words| words.join(" ").to_lowercase())
        .collect()
}

fn root(serial: u32) -> String {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
    let text = std::fs::read_to_string(data.join(format!("root-{serial}.zone"))).unwrap();
    // The files are transfers and end with the SOA once more, which NSD does not take.
    let (soa, rest) = text.split_once('\n').unwrap();
    let once: Vec<&str> = rest.lines().filter(|line| *line != soa).collect();
    assert_eq!(once.len() + 1, rest.lines().count());
    format!("{soa}\n{}\n", once.join("\n"))
}

/// Consecutive root zones from one primary: the first as a whole, all others as differences.
fn consecutive_root_zones(program: Program) {
    let site = site_with_policy("");
    let first = 2018013002;
    let Some(primary) = Primary::start(program, site.folder(), ".", &root(first), true) else {
        // `cargo xtask test` tells, and fails where nobody watches.
        eprintln!("{} is not installed", program.name());
        return;
    };
    add(&site, ".", &[&primary.source(None)]);
    let status = site.await_published(".", first);
    assert_eq!(kind(&status), "AXFR");
    for serial in [2018013100, 2018013101, 2018020100, 2018020101, 2018020102] {
        primary.publish(&root(serial), serial);
        refresh(&site, ".");
        let status = site.await_published(".", serial);
        // NSD 4.6 makes differences from files that add what was there before and remove nothing:
        // its answers to IXFR must end in whole zones. Others must not need them.
        let repaired = program == Program::Nsd && site.log().contains("which we have already");
        assert!(
            kind(&status).starts_with("IXFR") || repaired,
            "{} gave serial {serial} as {}\n{}",
            program.name(),
            kind(&status),
            site.log()
        );
    }
    let theirs = content(primary.port(), ".", &site.path("theirs"));
    let ours = content(site.publication_port(), ".", &site.path("ours"));
    assert!(theirs.len() > 5000);
    let missing: Vec<_> = theirs.difference(&ours).take(5).collect();
    let more: Vec<_> = ours.difference(&theirs).take(5).collect();
    assert!(
        missing.is_empty() && more.is_empty(),
        "{missing:?} {more:?}"
    );
    let text = site.ok(&["zone", "status", "."]);
    for words in ["Source 127.0.0.1:", "next refresh", "from the network"] {
        assert!(text.contains(words), "no `{words}` in\n{text}");
    }
}

#[test]
fn root_zones_from_nsd() {
    consecutive_root_zones(Program::Nsd);
}

#[test]
fn root_zones_from_knot() {
    consecutive_root_zones(Program::Knot);
}

#[test]
fn root_zones_from_bind() {
    consecutive_root_zones(Program::Bind);
}

const SMALL: &str = "$TTL 300\n@ SOA ns1 hostmaster 1 3600 600 604800 300\n@ NS ns1\n\
                     ns1 A 192.0.2.1\nwww A 192.0.2.2\n";

#[test]
fn tsig_right_wrong_and_missing() {
    for program in Program::ALL {
        let sites = [
            Some(SECRET),
            Some("bm90IHRoZSBzZWNyZXQgYXQgYWxsLCBidXQgbG9uZw=="),
            None,
        ];
        for (i, secret) in sites.into_iter().enumerate() {
            let site = site_with_policy("");
            let started = Primary::start(program, site.folder(), "example.net", SMALL, false);
            let Some(primary) = started else {
                eprintln!("{} is not installed", program.name());
                break;
            };
            if let Some(secret) = secret {
                add_key(&site, secret);
            }
            let source = primary.source(secret.map(|_| KEY));
            add(&site, "example.net", &[&source]);
            if i == 0 {
                let status = site.await_published("example.net", 1);
                assert_eq!(kind(&status), "AXFR");
                let newer = format!("{}new TXT \"2\"\n", SMALL.replace("master 1", "master 2"));
                primary.publish(&newer, 2);
                refresh(&site, "example.net");
                let status = site.await_published("example.net", 2);
                assert!(kind(&status).starts_with("IXFR"), "{}", kind(&status));
                continue;
            }
            let status = site.await_status("example.net", "without a transfer", |s| {
                s["primaries"]["error"].is_string()
            });
            let error = status["primaries"]["error"].as_str().unwrap();
            let expected = match i {
                1 => ["TSIG error 16", "NOTAUTH"],
                _ => ["REFUSED", "NOTAUTH"],
            };
            assert!(
                expected.iter().any(|e| error.contains(e)),
                "{}: {error}",
                program.name()
            );
            assert_eq!(site.ask(&["example.net", "SOA"]).status, "SERVFAIL");
        }
    }
}

#[test]
fn a_source_that_cannot_be_used_is_refused_at_once() {
    let site = site_with_policy("");
    let refused = |source: &str, what: &str| {
        let said = site.cascade(&["zone", "add", ZONE, "--policy", "p", "--source", source]);
        assert!(said.stderr.contains(what), "{said}");
    };
    refused("192.0.2.1^nokey", "TSIG key 'nokey' is not known");
    refused("tls:192.0.2.1#pin-sha256=short", "32 octets");
}

/// A site with the liar's zone published at this serial.
fn published(lies: Lies) -> (Site, Liar) {
    let site = site_with_policy("");
    let serial = lies.serial;
    let liar = Liar::start(lies);
    add(&site, ZONE, &[&liar.source()]);
    site.await_published(ZONE, serial);
    (site, liar)
}

/// Asks the liar and waits until that has failed; the error. Nothing else is served than before.
#[track_caller]
fn fails(site: &Site) -> String {
    let before = site.served_serial(ZONE);
    let failures = |s: &Value| s["primaries"]["failures"].as_u64().unwrap_or(0);
    let had = failures(&site.status(ZONE));
    refresh(site, ZONE);
    let status = site.await_status(ZONE, "failed", |s| failures(s) > had);
    assert_eq!(site.served_serial(ZONE), before);
    let state = status["state"].as_str().unwrap();
    assert_eq!(state, "published");
    status["primaries"]["error"].as_str().unwrap().to_owned()
}

#[test]
fn a_truncated_transfer_is_discarded() {
    let (site, liar) = published(Lies::honest(1));
    liar.set(Lies {
        truncate: true,
        hosts: 500,
        ..Lies::honest(2)
    });
    let error = fails(&site);
    assert!(error.contains("before its closing SOA"), "{error}");
    liar.set(Lies::honest(2));
    refresh(&site, ZONE);
    site.await_published(ZONE, 2);
}

#[test]
fn an_ixfr_that_is_worth_nothing_becomes_an_axfr() {
    let (site, liar) = published(Lies::honest(1));
    assert_eq!(liar.asked(), ["SOA", "AXFR"]);
    for (serial, ixfr) in [(2, Ixfr::Garbage), (3, Ixfr::Wrong), (4, Ixfr::Hangup)] {
        liar.set(Lies {
            ixfr,
            ..Lies::honest(serial)
        });
        refresh(&site, ZONE);
        let status = site.await_published(ZONE, serial);
        assert_eq!(kind(&status), "AXFR");
        assert_eq!(liar.asked(), ["SOA", "IXFR", "AXFR"], "{ixfr:?}");
    }
    // Whole in answer to IXFR needs no second question.
    liar.set(Lies::honest(5));
    refresh(&site, ZONE);
    site.await_published(ZONE, 5);
    assert_eq!(liar.asked(), ["SOA", "IXFR"]);
    // Up to date: one question.
    refresh(&site, ZONE);
    until("a SOA question", || (liar.asked() == ["SOA"]).then_some(()));
}

#[test]
fn serials_that_go_back_or_are_not_delivered() {
    let (site, liar) = published(Lies::honest(7));
    liar.set(Lies::honest(5));
    let error = fails(&site);
    for words in ["Z121", "went back", "serial 5", "7"] {
        assert!(error.contains(words), "no `{words}` in {error}");
    }
    liar.set(Lies {
        announced: Some(9),
        ..Lies::honest(7)
    });
    let error = fails(&site);
    assert!(
        error.contains("announced serial 9 and delivers 7"),
        "{error}"
    );
    // Also by force nobody goes back.
    liar.set(Lies::honest(6));
    let had = site.status(ZONE)["primaries"]["failures"].as_u64().unwrap();
    site.ok(&["zone", "reload", ZONE]);
    let status = site.await_status(ZONE, "refused", |s| {
        s["primaries"]["failures"].as_u64().unwrap() > had
    });
    let error = status["primaries"]["error"].as_str().unwrap();
    assert!(error.contains("Z121"), "{error}");
}

#[test]
fn a_zone_that_shrinks_by_40_percent_is_held() {
    let (site, liar) = published(Lies {
        hosts: 300,
        ..Lies::honest(1)
    });
    let before = site.served_serial(ZONE);
    liar.set(Lies {
        hosts: 180,
        ..Lies::honest(2)
    });
    refresh(&site, ZONE);
    site.await_state(ZONE, "unsigned-review");
    assert_eq!(site.served_serial(ZONE), before);
    let text = site.ok(&["zone", "status", ZONE]);
    assert!(text.contains("guard"), "{text}");
}

#[test]
fn a_silent_source_expires_and_comes_back() {
    let (site, liar) = published(Lies {
        expire: Some(4),
        ..Lies::honest(1)
    });
    liar.set(Lies {
        silent: true,
        ..Lies::honest(1)
    });
    site.await_state(ZONE, "expired");
    let answer = site.ask(&[ZONE, "SOA"]);
    assert_eq!(answer.status, "SERVFAIL", "{}", answer.text);
    let text = site.ok(&["zone", "status", ZONE]);
    assert!(text.contains("EXPIRED"), "{text}");
    liar.set(Lies::honest(1));
    // A question to the silent server may still be under way.
    until("the zone is answered again", || {
        refresh(&site, ZONE);
        (site.ask(&[ZONE, "SOA"]).status == "NOERROR").then_some(())
    });
}

#[test]
fn the_second_primary_is_asked_when_the_first_is_dead() {
    let site = site_with_policy("");
    let liar = Liar::start(Lies::honest(3));
    // Nobody listens on the discard port.
    add(&site, ZONE, &["127.0.0.1:9", &liar.source()]);
    site.await_published(ZONE, 3);
}

#[test]
fn notify_from_the_primary_is_enough() {
    let (site, liar) = published(Lies::honest(1));
    liar.set(Lies::honest(2));
    let said = dig(
        site.publication_port(),
        &[ZONE, "SOA", "+opcode=notify", "+norec"],
    );
    assert_eq!(said.status, "NOERROR", "{}", said.text);
    site.await_published(ZONE, 2);
}

#[test]
fn after_a_restart_the_primary_is_asked_and_nothing_transferred() {
    let (mut site, liar) = published(Lies::honest(4));
    let before = site.served_serial(ZONE);
    site.kill();
    liar.asked();
    site.start();
    assert_eq!(site.served_serial(ZONE), before);
    until("a SOA question", || (liar.asked() == ["SOA"]).then_some(()));
    // What was transferred before is the base of differences.
    liar.set(Lies::honest(5));
    refresh(&site, ZONE);
    site.await_published(ZONE, 5);
    assert_eq!(liar.asked(), ["SOA", "IXFR"]);
}
