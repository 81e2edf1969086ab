//! What an HSM and its neighbours can do to us, beyond what `hsms` tells: it is slow, it hangs, it is
//! two that differ, its PIN changes, strangers knock. Nothing bogus is published, serving goes on,
//! the operator is told, and work resumes by itself.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use cascade_e2e::bridge::{LABEL, PIN};
use cascade_e2e::{Bridge, Said, Site, until, within};

use crate::common::{SEED, change, seed_with_serial};
use crate::hsms::{add_hsm, add_zone, walk};
use crate::validity::judge;

/// A zone of more than a few signatures.
fn hosts(serial: u32, n: usize) -> String {
    let mut text = seed_with_serial(serial);
    for i in 0..n {
        text.push_str(&format!("host{i} IN A 192.0.2.{}\n", i % 250 + 1));
    }
    text
}

/// A zone with keys in files, beside the one in the HSM.
fn add_software_zone(site: &Site) {
    site.policy("software", "");
    site.cascade(&["policy", "reload"]).expect(0);
    let text = SEED.replace("example.net", "software.example");
    let file = site.write("zones/software.example", &text);
    let source = file.to_str().unwrap();
    site.ok(&[
        "zone",
        "add",
        "--source",
        source,
        "--policy",
        "software",
        "software.example",
    ]);
    site.await_published("software.example", 1);
}

/// The zone without HSM takes a change while the other waits: within this time, served.
fn software_zone_is_not_delayed(site: &Site, serial: u32) {
    let begun = Instant::now();
    let text = seed_with_serial(serial).replace("example.net", "software.example");
    change(site, "software.example", &text);
    site.await_published("software.example", serial);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(45), "{took:?}");
}

/// Waits until `cascade why` has these words.
fn told(site: &Site, words: &str) -> String {
    let said = within(cascade_e2e::PATIENCE, || {
        let why = site.ok(&["why", "example.net"]);
        why.contains(words).then_some(why)
    });
    said.unwrap_or_else(|| panic!("{words}: {}", site.ok(&["why", "example.net"])))
}

#[test]
fn a_slow_hsm_delays_only_its_own_zones() {
    let Some(bridge) = Bridge::netlike() else {
        return;
    };
    let site = walk(&bridge, &[]);
    add_software_zone(&site);
    bridge.manners("latency-us = 10000\n");
    let text = hosts(1, 2000).replace("example.net", "slow.example");
    add_zone(&site, "slow.example", &text);
    software_zone_is_not_delayed(&site, 2);
    site.await_published("slow.example", 1);
    judge(&site, "slow.example");
    let list = site.ok(&["hsm", "list"]);
    assert!(list.contains(" up ") && list.contains(" ms"), "{list}");
}

#[test]
fn a_hanging_hsm_ends_its_bridge_and_nothing_else() {
    let Some(mut bridge) = Bridge::netlike() else {
        return;
    };
    bridge.restart_with("call_timeout = \"4s\"\n");
    let site = walk(&bridge, &[]);
    add_software_zone(&site);
    let serial = site.served_serial("example.net");
    bridge.manners("hang-ms = 60000\n");
    change(&site, "example.net", &hosts(2, 300));
    software_zone_is_not_delayed(&site, 2);
    assert_eq!(site.served_serial("example.net"), serial);
    // A module that hangs cannot be helped from inside: the service manager starts a new process.
    let code = bridge.await_end(Duration::from_secs(60));
    assert_eq!(code, Some(4), "{}", bridge.log());
    assert!(
        bridge.log().contains("the module hangs"),
        "{}",
        bridge.log()
    );
    let why = told(&site, "HSM 'kmip2pkcs11' is away");
    assert!(why.contains("hold until"), "{why}");
    assert_eq!(site.served_serial("example.net"), serial);
    software_zone_is_not_delayed(&site, 3);
    // It still hangs for the next process, and is well for the one after that.
    bridge.start();
    std::thread::sleep(Duration::from_secs(2));
    bridge.manners("hang-ms = 0\n");
    bridge.start();
    site.await_published("example.net", 2);
    judge(&site, "example.net");
}

#[test]
fn instances_with_different_keys_under_one_id_are_found_out() {
    let Some(bridge) = Bridge::netlike() else {
        return;
    };
    bridge.manners("instances = 2\nsplit = \"different\"\n");
    let site = Site::started();
    site.policy(
        "nethsm",
        "[key-manager.generation]\nhsm-server-id = \"kmip2pkcs11\"\n",
    );
    site.cascade(&["policy", "reload"]).expect(0);
    add_hsm(&site, "kmip2pkcs11", &bridge);
    add_zone(&site, "example.net", SEED);
    told(&site, "does not make the signatures of its public half");
    let health = site.cascade(&["health"]);
    assert!(
        health.code != Some(0) && health.stdout.contains("example.net"),
        "{health}"
    );
    // No such key gets anywhere: nothing is served, and nothing stays on the token.
    let answer = site.ask(&["example.net", "DNSKEY", "+norec", "+noedns"]);
    assert!(answer.rdata("DNSKEY").is_empty(), "{}", answer.text);
    let log = site.log();
    assert!(log.contains("on every instance"), "{log}");
    bridge.manners("instances = 1\n");
    well_again(&site);
    site.await_published("example.net", 1);
    judge(&site, "example.net");
    let inventory = site.json(&["hsm", "inventory", "kmip2pkcs11"]);
    assert_eq!(inventory["orphans"], 0, "{inventory:#}");
    // A key that is there and proven, and then is not on one of the instances: it signs no more.
    let serial = site.served_serial("example.net");
    bridge.manners("instances = 2\n");
    let tested = site.cascade(&["hsm", "test", "kmip2pkcs11"]);
    assert_eq!(tested.code, Some(7), "{tested}");
    change(&site, "example.net", &seed_with_serial(2));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(site.served_serial("example.net"), serial);
    bridge.manners("instances = 1\n");
    well_again(&site);
    site.await_published("example.net", 2);
    judge(&site, "example.net");
}

/// Keys that failed are tried again after a pause; a test by a person ends a quarantine.
fn well_again(site: &Site) {
    let passed = within(cascade_e2e::PATIENCE, || {
        let tested = site.cascade(&["hsm", "test", "kmip2pkcs11"]);
        (tested.code == Some(0)).then_some(())
    });
    assert!(
        passed.is_some(),
        "{}",
        site.cascade(&["hsm", "test", "kmip2pkcs11"])
    );
}

fn add_two(site: &Site, one: &Bridge, two: &Bridge) -> Said {
    let ends = [one, two].map(|b| format!("127.0.0.1:{}", b.port()));
    one.add_to(site, "0", "kmip2pkcs11", &["--endpoint", &ends[1]])
}

#[test]
fn two_instances_must_have_the_same_keys() {
    let (Some(one), Some(two)) = (Bridge::softhsm(), Bridge::softhsm()) else {
        return;
    };
    let site = Site::started();
    site.policy(
        "nethsm",
        "[key-manager.generation]\nhsm-server-id = \"kmip2pkcs11\"\n",
    );
    site.cascade(&["policy", "reload"]).expect(0);
    // Each has a TLS key of its own, so that one of them cannot be the first contact's.
    let refused = add_two(&site, &one, &two);
    assert!(
        refused.code == Some(1) && refused.stderr.contains("TLS key"),
        "{refused}"
    );
    std::fs::copy(one.certificate(), two.certificate()).unwrap();
    let mut two = two;
    two.start();
    add_two(&site, &one, &two).expect(0);
    add_zone(&site, "example.net", SEED);
    told(&site, "is not there any more");
    let answer = site.ask(&["example.net", "DNSKEY", "+norec", "+noedns"]);
    assert!(answer.rdata("DNSKEY").is_empty(), "{}", answer.text);
    // Removed while no attempt is under way: neither token keeps a key that nobody uses.
    site.ok(&["zone", "remove", "--purge-keys", "--yes", "example.net"]);
    until("no object on either token", || {
        let left = [&one, &two].map(|b| b.list_objects());
        left.iter().all(|l| !l.contains("label:")).then_some(())
    });
}

#[test]
fn one_of_two_instances_may_go() {
    let Some(mut one) = Bridge::softhsm() else {
        return;
    };
    let mut two = one.twin();
    std::fs::copy(one.certificate(), two.certificate()).unwrap();
    two.start();
    let site = Site::started();
    site.policy(
        "nethsm",
        "[key-manager.generation]\nhsm-server-id = \"kmip2pkcs11\"\n",
    );
    site.cascade(&["policy", "reload"]).expect(0);
    add_two(&site, &one, &two).expect(0);
    add_zone(&site, "example.net", SEED);
    site.await_published("example.net", 1);
    one.kill();
    change(&site, "example.net", &hosts(2, 200));
    site.await_published("example.net", 2);
    judge(&site, "example.net");
    let shown = site.ok(&["hsm", "show", "kmip2pkcs11"]);
    assert!(
        shown.contains("state: up") && shown.contains("connection refused"),
        "{shown}"
    );
    one.start();
    two.kill();
    change(&site, "example.net", &hosts(3, 200));
    site.await_published("example.net", 3);
    judge(&site, "example.net");
}

#[test]
fn a_pin_that_is_changed_on_the_token() {
    let Some(mut bridge) = Bridge::softhsm() else {
        return;
    };
    let site = walk(&bridge, &[]);
    let serial = site.served_serial("example.net");
    const NEW: &str = "87654321";
    bridge.kill();
    let changed = bridge
        .on_token("pkcs11-tool")
        .arg("--module")
        .arg(bridge.module())
        .args(["--token-label", LABEL, "--login", "--pin", PIN])
        .args(["--change-pin", "--new-pin", NEW])
        .output()
        .expect("pkcs11-tool of opensc is installed");
    assert!(changed.status.success(), "{changed:?}");
    bridge.start();
    change(&site, "example.net", &seed_with_serial(2));
    told(&site, "login refused");
    assert_eq!(site.served_serial("example.net"), serial);
    let wrong = site.cascade(&["hsm", "edit", "kmip2pkcs11", "--password", "000000"]);
    assert!(
        wrong.code == Some(1) && wrong.stderr.contains("login refused"),
        "{wrong}"
    );
    site.ok(&["hsm", "edit", "kmip2pkcs11", "--password", NEW]);
    site.await_published("example.net", 2);
    judge(&site, "example.net");
    // Whoever comes with another PIN is refused although the token is open, and disturbs nobody.
    let other = bridge.add_to(&site, LABEL, "other", &[]);
    assert!(
        other.code == Some(1) && other.stderr.contains("login refused"),
        "{other}"
    );
    assert!(site.ok(&["hsm", "test", "kmip2pkcs11"]).contains("good"));
    assert!(
        ![PIN, NEW, "000000"]
            .iter()
            .any(|pin| site.log().contains(pin))
    );
}

#[test]
fn idle_and_half_open_clients_delay_nobody() {
    let Some(mut bridge) = Bridge::softhsm() else {
        return;
    };
    bridge.restart_with("max_connections = 300\n");
    let site = walk(&bridge, &[]);
    let connect = || TcpStream::connect(("127.0.0.1", bridge.port())).unwrap();
    // Silent ones; and such as begin a TLS handshake (RFC 8446 §5.1) and never finish it.
    let idle: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
    let half: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = connect();
            stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252]).unwrap();
            stream
        })
        .collect();
    let begun = Instant::now();
    change(&site, "example.net", &hosts(2, 100));
    site.await_published("example.net", 2);
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
    judge(&site, "example.net");
    let tested = site.ok(&["hsm", "test", "kmip2pkcs11"]);
    assert!(!tested.contains("FAILED"), "{tested}");
    drop((idle, half));
}

#[test]
fn a_bridge_that_wants_a_certificate_of_its_clients() {
    let Some(mut bridge) = Bridge::softhsm() else {
        return;
    };
    let site = Site::started();
    // A certificate that vouches for itself is an authority for one client.
    let made = rcgen::generate_simple_self_signed(vec!["cascaded".into()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["stranger".into()]).unwrap();
    let own = site.write("client.pem", &made.cert.pem());
    let key = site.write("client.key", &made.signing_key.serialize_pem());
    let theirs = site.write("other.pem", &other.cert.pem());
    let their_key = site.write("other.key", &other.signing_key.serialize_pem());
    bridge.restart_with(&format!("client_ca_path = \"{}\"\n", own.display()));
    let port = bridge.port().to_string();
    let add = |more: &[&str]| {
        let mut args = vec![
            "hsm",
            "add",
            "--insecure",
            "--username",
            LABEL,
            "--password",
            PIN,
        ];
        args.extend(["--port", &port]);
        args.extend(more);
        args.extend(["vault", "127.0.0.1"]);
        site.cascade(&args)
    };
    let without = add(&[]);
    assert!(
        without.code == Some(1) && without.stderr.contains("HSM 'vault'"),
        "{without}"
    );
    let (theirs, their_key) = (theirs.to_str().unwrap(), their_key.to_str().unwrap());
    let stranger = add(&["--hsm-client-cert", theirs, "--hsm-client-key", their_key]);
    assert_eq!(stranger.code, Some(1), "{stranger}");
    let (own, key) = (own.to_str().unwrap(), key.to_str().unwrap());
    add(&["--hsm-client-cert", own, "--hsm-client-key", key]).expect(0);
    assert!(
        site.ok(&["hsm", "test", "vault", "--write"])
            .contains("ECDSAP256SHA256")
    );
}
