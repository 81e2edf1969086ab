//! Secondaries that do not show what we published, and the one that goes first.

use std::fs;

use cascade_e2e::primary::{Primary, Program};
use cascade_e2e::secondary::{Make, Secondary};
use cascade_e2e::{Site, until};

use crate::common::{add, change};

const ZONE: &str = "example.net";

fn zone(serial: u32) -> String {
    format!(
        "$TTL 300\n@ SOA ns1 hostmaster {serial} 86400 86400 604800 300\n@ NS ns1\n\
         ns1 A 192.0.2.1\nwww A 192.0.2.80\n"
    )
}

fn policy(site: &Site, lines: &str) {
    site.policy("p", lines);
    site.ok(&["policy", "reload"]);
}

/// The published zone as a file.
fn published(site: &Site) -> String {
    let file = site.path("published");
    let _ = fs::remove_file(&file);
    site.ok(&["zone", "export", ZONE, "--output", file.to_str().unwrap()]);
    fs::read_to_string(file).unwrap()
}

/// A server that is given as a secondary and has its data from elsewhere.
fn impostor(site: &Site, text: &str) -> Option<Primary> {
    let made = Primary::start(Program::Bind, site.folder(), ZONE, text, true);
    if made.is_none() {
        // `cargo xtask test` tells, and fails where nobody watches.
        eprintln!("named is not installed");
    }
    made
}

fn warnings(site: &Site) -> String {
    site.status(ZONE)["warnings"].to_string()
}

#[test]
fn a_secondary_with_other_records_is_found_out() {
    let site = Site::started();
    policy(&site, "");
    add(&site, ZONE, &zone(1));
    site.await_published(ZONE, 1);
    let ours = published(&site);
    let other = ours.replace("hostmaster.", "somebody.");
    assert_ne!(ours, other);
    let Some(liar) = impostor(&site, &other) else {
        return;
    };
    policy(
        &site,
        &format!(
            "[server.outbound]\nsecondaries = [\"127.0.0.1:{}\"]\n",
            liar.port()
        ),
    );
    let found = until("the sample", || {
        let all = warnings(&site);
        all.contains("secondary bogus").then_some(all)
    });
    assert!(
        found.contains("not the records that were published"),
        "{found}"
    );
    let health = site.request("GET", "/v1/health", None).unwrap();
    assert_eq!(health.status, 503, "{}", health.body);
    assert!(health.body.contains("secondary-bogus"), "{}", health.body);
    let metrics = site.request("GET", "/metrics", None).unwrap().body;
    let line = format!(
        "cascade_secondary_bogus{{zone=\"example.net\",server=\"127.0.0.1:{}\"}} 1",
        liar.port()
    );
    assert!(metrics.contains(&line), "{metrics}");
    assert!(metrics.contains("cascade_secondary_serial{"), "{metrics}");
    let detailed = site.ok(&["zone", "status", "--detailed", ZONE]);
    assert!(detailed.contains("BOGUS"), "{detailed}");
}

#[test]
fn a_secondary_that_is_ahead_is_overtaken() {
    let site = Site::started();
    policy(&site, "");
    add(&site, ZONE, &zone(1));
    site.await_published(ZONE, 1);
    let ours = site.served_serial(ZONE);
    let theirs = ours + 5000;
    let Some(other) = impostor(&site, &zone(theirs)) else {
        return;
    };
    policy(
        &site,
        &format!(
            "[server.outbound]\nsecondaries = [\"127.0.0.1:{}\"]\n",
            other.port()
        ),
    );
    let text = until("the alarm", || {
        let all = warnings(&site);
        all.contains("newer than ours").then_some(all)
    });
    assert!(text.contains(&format!("serves serial {theirs}")), "{text}");
    let health = site.request("GET", "/v1/health", None).unwrap();
    assert_eq!(health.status, 503, "{}", health.body);
    site.ok(&["zone", "resign", "--full", "--wait", ZONE]);
    let next = site.served_serial(ZONE);
    assert!(next > theirs, "{next} after {theirs}");
    assert!(!warnings(&site).contains("newer than ours"));
    let history = site.ok(&["zone", "history", ZONE]);
    assert!(
        history.contains("Secondary serves a newer serial than ours"),
        "{history}"
    );
}

#[test]
fn the_canary_goes_first_and_a_bad_one_holds_the_others() {
    let site = Site::started();
    let port = site.publication_port();
    let mut follower = Secondary::new(Make::Knot, ZONE, port, None);
    let mut canary = Secondary::new(Make::Nsd, ZONE, port, None);
    let told = follower.port();
    let outbound = |first: Option<u16>| {
        let canary = first.map_or(String::new(), |p| {
            format!("canary = {{ addr = \"127.0.0.1:{p}\", hold = \"2s\" }}\n")
        });
        format!(
            "[signer]\nserial-policy = \"keep\"\n[server.outbound]\n\
             send-notify-to = [\"127.0.0.1:{}\"]\n{canary}",
            told
        )
    };
    policy(&site, &outbound(None));
    add(&site, ZONE, &zone(1));
    site.await_published(ZONE, 1);
    follower.start();
    canary.start();
    follower.await_serial(1);
    canary.await_serial(1);
    // One that has the serial already, and the content of somebody else.
    let Some(liar) = impostor(&site, &zone(2)) else {
        return;
    };
    policy(&site, &outbound(Some(liar.port())));
    change(&site, ZONE, &zone(2).replace("192.0.2.80", "192.0.2.81"));
    site.await_published(ZONE, 2);
    until("the canary's failure", || {
        warnings(&site).contains("canary").then_some(())
    });
    assert!(warnings(&site).contains("the other secondaries are not told"));
    let why = site.ok(&["why", ZONE]);
    assert!(why.contains("canary 127.0.0.1:"), "{why}");
    assert_eq!(follower.serial(), Some(1), "not told");
    // With an honest one the next version goes its way: first there, then everywhere.
    policy(&site, &outbound(Some(canary.port())));
    change(&site, ZONE, &zone(3));
    site.await_published(ZONE, 3);
    canary.await_serial(3);
    assert_eq!(follower.serial(), Some(1), "told after the hold");
    follower.await_serial(3);
    until("nothing is left of it", || {
        (!warnings(&site).contains("canary")).then_some(())
    });
}
