//! Bad content is published, and taken back within seconds.

use cascade_e2e::judge::{Judge, Verdict};
use cascade_e2e::secondary::Secondary;
use cascade_e2e::{Site, until};

use crate::common::{add, change};
use crate::validity::judge;

const ZONE: &str = "example.net";

/// `bad`: an address that nobody should be sent to.
fn zone(serial: u32, bad: bool, big: bool) -> String {
    let www = if bad { "192.0.2.66" } else { "192.0.2.80" };
    let mut text = format!(
        "$TTL 300\n@ SOA ns1 hostmaster {serial} 3600 600 604800 300\n@ NS ns1\n\
         ns1 A 192.0.2.1\nwww A {www}\n"
    );
    if big {
        // So much that versions which differ in all of it do not all stay in memory.
        for i in 0..4000 {
            text += &format!("h{i} TXT \"{} {serial}\"\n", "x".repeat(180));
        }
    }
    text
}

fn site_with(policy: &str) -> Site {
    let site = Site::started();
    site.policy("p", policy);
    site.ok(&["policy", "reload"]);
    site
}

fn www(port: u16) -> Vec<String> {
    cascade_e2e::dig(port, &["www.example.net", "A"]).rdata("A")
}

/// Serial and version that are published.
fn published(site: &Site) -> (u32, String) {
    let status = site.status(ZONE);
    let p = &status["published"];
    (
        u32::try_from(p["serial"].as_u64().unwrap()).unwrap(),
        p["version"].as_str().unwrap().to_owned(),
    )
}

#[test]
fn bad_content_is_taken_back_and_held_until_unpinned() {
    let mut site = Site::started();
    let port = site.publication_port();
    let mut secondary = Secondary::new(Secondary::ALL[1], ZONE, port, None);
    site.policy(
        "p",
        &format!(
            "[server.outbound]\nsend-notify-to = [\"127.0.0.1:{}\"]\nmax-diffs-size = 100\n",
            secondary.port()
        ),
    );
    site.ok(&["policy", "reload"]);
    add(&site, ZONE, &zone(1, false, false));
    site.await_published(ZONE, 1);
    secondary.start();
    secondary.await_serial(site.served_serial(ZONE));
    let (first, good) = published(&site);
    change(&site, ZONE, &zone(2, true, false));
    site.await_published(ZONE, 2);
    let (bad, _) = published(&site);
    secondary.await_serial(bad);
    assert_eq!(www(secondary.port()), ["192.0.2.66"]);

    // What would happen; and nothing without consent.
    let would = site.ok(&["zone", "rollback", ZONE, "--dry-run"]);
    assert!(
        would.contains(&format!("{good} (serial {first})")),
        "{would}"
    );
    let asked = site.cascade(&["zone", "rollback", ZONE]).expect(1);
    assert!(asked.stderr.contains("this needs confirmation"), "{asked}");
    assert_eq!(published(&site).0, bad);

    let started = std::time::Instant::now();
    let said = site.ok(&["zone", "rollback", ZONE, "--yes", "--wait"]);
    let took = started.elapsed();
    let (back, _) = published(&site);
    assert!(back > bad, "{back} after {bad}");
    assert_eq!(
        said,
        format!(
            "Rolled back zone {ZONE} to {good} (serial {first}), published as serial {back}; pinned\n"
        )
    );
    assert!(took.as_secs() < 60, "{took:?}");
    assert_eq!(www(port), ["192.0.2.80"]);
    secondary.await_serial(back);
    assert_eq!(www(secondary.port()), ["192.0.2.80"]);
    judge(&site, ZONE);
    let status = site.status(ZONE);
    assert_eq!(status["pin"]["version"], good.as_str());
    let text = site.ok(&["zone", "status", ZONE]);
    assert!(text.to_lowercase().contains("pinned"), "{text}");

    // The source still has the bad content, and then a better one: both wait.
    change(
        &site,
        ZONE,
        &zone(3, false, false).replace("192.0.2.80", "192.0.2.81"),
    );
    until("the new content waits", || {
        (site.status(ZONE)["unsigned"]["serial"] == 3).then_some(())
    });
    assert_eq!(published(&site).0, back);
    site.ok(&["zone", "resign", ZONE, "--full", "--wait"]);
    assert_eq!(www(port), ["192.0.2.80"], "refreshed, and the same content");
    // Also over a power cut.
    site.kill();
    site.start();
    until("it is served again", || {
        (www(port) == ["192.0.2.80"]).then_some(())
    });
    assert_eq!(site.status(ZONE)["pin"]["version"], good.as_str());
    let said = site.ok(&["zone", "unpin", ZONE]);
    assert_eq!(said, format!("Unpinned zone {ZONE}\n"));
    site.await_published(ZONE, 3);
    assert_eq!(www(port), ["192.0.2.81"]);
    site.cascade(&["zone", "unpin", ZONE])
        .complains(&["not pinned"]);

    let history = site.ok(&["zone", "history", ZONE]);
    for words in ["Rollback started", "Rolled back", "Content unpinned"] {
        assert!(history.contains(words), "no {words:?} in\n{history}");
    }
    let audit = std::fs::read_to_string(site.path("state/audit.log")).unwrap();
    for action in ["zone.rollback", "zone.unpin"] {
        assert!(
            audit.contains(&format!("\"action\":\"{action}\"")),
            "{audit}"
        );
    }
}

#[test]
fn pins_of_what_is_published_and_of_nothing_else() {
    let site = site_with("");
    add(&site, ZONE, &zone(1, false, false));
    site.await_published(ZONE, 1);
    let (_, version) = published(&site);
    site.cascade(&["zone", "pin", ZONE, "--version", "v999"])
        .complains(&[
            "is not the one that zone 'example.net' publishes",
            "zone rollback",
        ]);
    let said = site.ok(&["zone", "pin", ZONE, "--version", &version, "--for", "1h"]);
    assert!(
        said.starts_with(&format!("Pinned zone {ZONE} to {version} until ")),
        "{said}"
    );
    change(&site, ZONE, &zone(2, true, false));
    until("the new content waits", || {
        (site.status(ZONE)["unsigned"]["serial"] == 2).then_some(())
    });
    assert_eq!(www(site.publication_port()), ["192.0.2.80"]);
    site.ok(&["zone", "unpin", ZONE]);
    site.await_published(ZONE, 2);
    // By hand over HTTP, unpinned; then forth again.
    let body = r#"{"to":"serial:1","pin":false,"yes":true}"#;
    let first = site.status(ZONE)["published"]["serial"].clone();
    let reply = site.request("POST", "/v1/zones/example.net/rollback", Some(body));
    let reply = reply.unwrap();
    assert_eq!(
        reply.status, 404,
        "no signed version has that serial: {}",
        reply.body
    );
    assert!(reply.body.contains("kept are"), "{}", reply.body);
    let body = format!(r#"{{"to":"{version}","pin":false,"yes":true}}"#);
    let reply = site.request("POST", "/v1/zones/example.net/rollback", Some(&body));
    assert_eq!(reply.unwrap().status, 202);
    until("the first content", || {
        (www(site.publication_port()) == ["192.0.2.80"]).then_some(())
    });
    assert!(site.status(ZONE)["pin"].is_null());
    assert_ne!(site.status(ZONE)["published"]["serial"], first);
    site.cascade(&["zone", "rollback", ZONE, "--to", &version, "--yes"])
        .complains(&["is live"]);
}

#[test]
fn versions_that_memory_let_go_are_compared_and_taken_back_from_disk() {
    let site = site_with("");
    add(&site, ZONE, &zone(1, false, true));
    site.await_published(ZONE, 1);
    let (_, first) = published(&site);
    for serial in 2..5 {
        change(&site, ZONE, &zone(serial, true, true));
        site.await_state(ZONE, "unsigned-review");
        // The change guard does not like what changes everything.
        site.ok(&["zone", "approve", "--unsigned", ZONE, &serial.to_string()]);
        site.await_published(ZONE, serial);
    }
    let in_memory = site.json(&["zone", "show", ZONE]).to_string();
    let all = site
        .request("GET", "/v1/zones/example.net/versions", None)
        .unwrap();
    assert!(
        !all.body.contains(&format!("\"version\":\"{first}\"")),
        "the first version should have been let go: {in_memory} {}",
        all.body
    );
    let signed = site.ok(&["zone", "diff", ZONE, &first, "current"]);
    assert!(
        signed.contains("\n- www.example.net. 300 IN A 192.0.2.80\n"),
        "{}",
        &signed[..300]
    );
    assert!(signed.contains("\n+ www.example.net. 300 IN A 192.0.2.66\n"));
    let unsigned = site.ok(&[
        "zone",
        "diff",
        ZONE,
        &first,
        "current",
        "--unsigned",
        "--stat",
    ]);
    assert!(
        unsigned.contains("unsigned: 4002 added, 4002 removed"),
        "{unsigned}"
    );
    // Written out as it was: the zone of then, signatures and all, and what the source had.
    let file = site.path("first.zone");
    let out = file.to_str().unwrap();
    site.ok(&["zone", "export", ZONE, "--version", &first, "--output", out]);
    let single = site.ask(&[ZONE, "DNSKEY"]).rdata("DNSKEY").len() == 1;
    for judge in Judge::ALL {
        if let Verdict::Invalid(said) = judge.judge(ZONE, &file, single) {
            panic!("{}: {said}", judge.program());
        }
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("www.example.net. 300 IN A 192.0.2.80\n") && text.contains("RRSIG"));
    let source = site.ok(&["zone", "export", ZONE, "--version", &first, "--unsigned"]);
    assert!(source.contains("www.example.net. 300 IN A 192.0.2.80\n") && !source.contains("RRSIG"));
    assert_eq!(source.lines().count(), 4004);
    site.cascade(&["zone", "diff", ZONE, "v999"])
        .complains(&["has no version 'v999': kept are"]);
    site.ok(&["zone", "rollback", ZONE, "--to", &first, "--yes", "--wait"]);
    assert_eq!(www(site.publication_port()), ["192.0.2.80"]);
}
