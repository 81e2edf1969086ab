//! Keys in an HSM behind the bridge: the page as printed, troubles, and what the operator sees.

use cascade_e2e::bridge::{LABEL, PIN};
use cascade_e2e::{Bridge, Site, until, within};

use crate::common::{SEED, change, seed_with_serial};
use crate::validity::judge;

/// The template with the page's edit, and more. An edit that names a section works behind its head.
pub fn policy(site: &Site, name: &str, edits: &[(&str, &str)]) {
    let mut text = site.ok(&["template", "policy"]);
    let hsm = ("#hsm-server-id = ", "hsm-server-id = ");
    for (from, to) in std::iter::once(&hsm).chain(edits) {
        let (section, from) = from
            .split_once(' ')
            .filter(|(s, _)| s.starts_with('['))
            .unwrap_or(("", from));
        let (head, rest) = text.split_at(text.find(section).unwrap());
        assert!(rest.contains(from), "{from:?} stands in the template");
        text = format!("{head}{}", rest.replacen(from, to, 1));
    }
    site.write(&format!("policies/{name}.toml"), &text);
}

pub fn add_hsm(site: &Site, id: &str, bridge: &Bridge) -> String {
    bridge.add_to(site, "0", id, &[]).expect(0).stdout
}

pub fn add_zone(site: &Site, zone: &str, text: &str) {
    let file = site.write(&format!("zones/{zone}"), text);
    let source = file.to_str().unwrap();
    let said = site.ok(&[
        "zone", "add", "--source", source, "--policy", "nethsm", zone,
    ]);
    assert_eq!(said, format!("Added zone {zone}\n"));
}

/// The page's steps 13 to 18.
pub fn walk(bridge: &Bridge, edits: &[(&str, &str)]) -> Site {
    let site = Site::started();
    policy(&site, "nethsm", edits);
    let reload = site.cascade(&["policy", "reload"]).expect(0);
    assert_eq!(reload.stdout, "Policies reloaded:\n- nethsm added\n");
    // The HSM is not registered yet: one warning, and that is all.
    assert_eq!(
        reload
            .stderr
            .lines()
            .filter(|l| l.contains("kmip2pkcs11"))
            .count(),
        1
    );
    assert!(
        reload.stderr.contains("cascade hsm add kmip2pkcs11"),
        "{}",
        reload.stderr
    );
    let added = add_hsm(&site, "kmip2pkcs11", bridge);
    assert!(
        added.starts_with("Added KMIP server 'kmip2pkcs11 ")
            && added.contains(&format!(" using PKCS#11 token with label {LABEL} in slot ")),
        "{added}"
    );
    assert!(
        added.ends_with(".so'\n") && added.lines().count() == 1,
        "{added}"
    );
    add_zone(&site, "example.net", SEED);
    site.await_published("example.net", 1);
    site
}

/// Upper-case identifiers of the keys that a detailed status names.
fn references(site: &Site, zone: &str) -> Vec<String> {
    let text = site.ok(&["zone", "status", zone, "--detailed"]);
    let keys = text.split("    key kmip://kmip2pkcs11/keys/").skip(1);
    keys.filter_map(|rest| Some(rest.split_once("_pub?")?.0.to_string()))
        .collect()
}

#[test]
fn the_page_with_softhsm_behind_the_bridge() {
    let Some(bridge) = Bridge::softhsm() else {
        return;
    };
    let site = walk(&bridge, &[]);
    let answer = site.ask(&["example.net", "DNSKEY", "+nocrypto", "+norec", "+noedns"]);
    assert_eq!(answer.rdata("DNSKEY").len(), 2, "{}", answer.text);
    judge(&site, "example.net");
    let ids = references(&site, "example.net");
    assert_eq!(
        ids.len(),
        2,
        "{}",
        site.ok(&["zone", "status", "example.net", "--detailed"])
    );
    for id in &ids {
        assert!(
            id.len() == 40
                && id
                    .bytes()
                    .all(|c| c.is_ascii_digit() || c.is_ascii_uppercase()),
            "{id}"
        );
    }
    // What others see on the token: two pairs, named after zone and role; nothing else is left.
    let list = bridge
        .on_token("pkcs11-tool")
        .arg("--module")
        .arg(bridge.module())
        .args(["--login", "--pin", PIN, "--list-objects"])
        .output();
    if let Ok(list) = list {
        let text = String::from_utf8_lossy(&list.stdout).into_owned();
        assert_eq!(text.matches("label:").count(), 4, "{text}");
        for role in ["-ksk-pub", "-ksk-pri", "-zsk-pub", "-zsk-pri"] {
            let named = text
                .lines()
                .any(|l| l.contains("example.net-") && l.contains(role));
            assert!(named, "{role} in\n{text}");
        }
        for id in &ids {
            let ascii: String = id
                .to_lowercase()
                .bytes()
                .map(|o| format!("{o:02x}"))
                .collect();
            assert_eq!(text.matches(&ascii).count(), 2, "{text}");
        }
    }
    // From the token to the zone.
    let inventory = site.json(&["hsm", "inventory", "kmip2pkcs11"]);
    assert_eq!(inventory["orphans"], 0, "{inventory:#}");
    assert_eq!(inventory["missing"], 0, "{inventory:#}");
    let items = inventory["items"].as_array().unwrap();
    assert_eq!(items.len(), 4);
    assert!(
        items
            .iter()
            .all(|i| i["zone"] == "example.net" && i["match"] == "public-key")
    );
    // Steps repeated change nothing.
    let again = site.cascade(&["policy", "reload"]).expect(0);
    assert_eq!(again.stdout, "Policies reloaded:\n- nethsm unchanged\n");
    assert_eq!(again.stderr, "");
    let port = bridge.port().to_string();
    let again = site.cascade(&[
        "hsm",
        "add",
        "--insecure",
        "--port",
        &port,
        "kmip2pkcs11",
        "127.0.0.1",
    ]);
    assert_eq!(again.code, Some(1));
    assert!(
        again.stderr.contains("exists already")
            && again.stderr.contains("cascade hsm edit kmip2pkcs11")
    );
    // Keys live there: it stays.
    let remove = site.cascade(&["hsm", "remove", "kmip2pkcs11", "--yes"]);
    assert_eq!(remove.code, Some(1));
    assert!(
        remove.stderr.contains("zone example.net (2 keys)")
            && remove.stderr.contains("policy nethsm"),
        "{}",
        remove.stderr
    );
    let tested = site.ok(&["hsm", "test", "kmip2pkcs11", "--write"]);
    assert!(
        tested.contains("ED25519") && !tested.contains("FAILED"),
        "{tested}"
    );
    assert!(!site.log().contains(PIN), "no PIN in the log");
    let shown = site.ok(&["hsm", "show", "kmip2pkcs11"]);
    assert!(
        shown.contains("has credentials: yes") && !shown.contains(PIN),
        "{shown}"
    );
    assert!(
        shown.contains("state: up") && shown.contains("not authenticated"),
        "{shown}"
    );
}

#[test]
fn one_key_for_ever_as_on_the_page() {
    let Some(bridge) = Bridge::softhsm() else {
        return;
    };
    let site = walk(
        &bridge,
        &[
            ("use-csk = false", "use-csk = true"),
            (
                "[key-manager.csk] validity = \"365d\"",
                "validity = \"forever\"",
            ),
        ],
    );
    let text = site.ok(&["zone", "status", "example.net", "--detailed"]);
    let wanted = "_pub?algorithm=13&flags=257 does not expire. No validity period is configured for the key type";
    assert!(
        text.contains("    key kmip://kmip2pkcs11/keys/") && text.contains(wanted),
        "{text}"
    );
}

#[test]
fn ten_thousand_records_and_a_bridge_that_dies_in_the_middle() {
    let Some(mut bridge) = Bridge::softhsm() else {
        return;
    };
    let site = walk(&bridge, &[]);
    let serial = site.served_serial("example.net");
    let mut text = SEED.to_string();
    for i in 0..10_000 {
        text.push_str(&format!("host{i} IN A 192.0.2.{}\n", i % 250 + 1));
    }
    add_zone(
        &site,
        "big.example",
        &text.replace("example.net", "big.example"),
    );
    // In the middle of it.
    let name = "cascade_hsm_signatures_total{hsm=\"kmip2pkcs11\"} ";
    let begun = within(cascade_e2e::PATIENCE, || {
        let page = site.request("GET", "/metrics", None).ok()?.body;
        let signed = page
            .lines()
            .find_map(|l| l.strip_prefix(name)?.parse::<f64>().ok())?;
        (signed > 1500.0).then_some(signed)
    });
    assert!(begun.is_some(), "signing began");
    bridge.kill();
    change(&site, "example.net", &seed_with_serial(2));
    // What is published stays served, and everybody is told.
    let why = until("the reason", || {
        let why = site.ok(&["why", "example.net"]);
        let all = [
            "HSM 'kmip2pkcs11' is away",
            "connection refused",
            "hold until",
        ];
        all.iter().all(|w| why.contains(w)).then_some(why)
    });
    assert_eq!(site.served_serial("example.net"), serial, "{why}");
    let status = site.ok(&["status"]);
    assert!(status.contains("kmip2pkcs11"), "{status}");
    let health = site.cascade(&["health"]);
    assert!(
        health.stdout.contains("HSM 'kmip2pkcs11' is away"),
        "{}",
        health.stdout
    );
    bridge.start();
    // By itself.
    site.await_published("example.net", 2);
    judge(&site, "example.net");
    site.await_published("big.example", 1);
    let records = judge(&site, "big.example");
    assert!(records > 30_000, "{records}");
}

#[test]
fn wrong_pins_certificates_and_addresses_are_told() {
    let Some(mut bridge) = Bridge::softhsm() else {
        return;
    };
    let site = Site::started();
    let port = bridge.port().to_string();
    let add = |more: &[&str]| {
        let mut args = vec!["hsm", "add", "--username", LABEL, "--port", &port];
        args.extend(more);
        args.extend(["vault", "127.0.0.1"]);
        site.cascade(&args)
    };
    let wrong = add(&["--insecure", "--password", "000000"]);
    assert_eq!(wrong.code, Some(1));
    assert!(
        wrong.stderr.contains("login refused") && !wrong.stderr.contains("000000"),
        "{}",
        wrong.stderr
    );
    let untrusted = add(&["--password", PIN]);
    assert_eq!(untrusted.code, Some(1));
    assert!(
        untrusted.stderr.contains("is not trusted"),
        "{}",
        untrusted.stderr
    );
    let shown = untrusted
        .stderr
        .lines()
        .find_map(|l| l.split_once("--fingerprint "))
        .unwrap()
        .1;
    let fingerprint = shown.split(' ').next().unwrap().to_string();
    assert!(add(&["--password", PIN, "--fingerprint", &fingerprint]).code == Some(0));
    assert!(site.ok(&["hsm", "show", "vault"]).contains("tls: pinned"));
    assert_eq!(
        site.ok(&["hsm", "remove", "vault", "--yes"]),
        "Removed HSM vault\n"
    );
    let ca = bridge.certificate();
    assert_eq!(
        add(&["--password", PIN, "--hsm-ca-cert", ca.to_str().unwrap()]).code,
        Some(0)
    );
    assert!(site.ok(&["hsm", "list"]).contains("verified"));
    site.ok(&["hsm", "remove", "vault", "--yes"]);
    bridge.kill();
    let nobody = add(&["--insecure", "--password", PIN]);
    assert_eq!(nobody.code, Some(1));
    assert!(
        nobody
            .stderr
            .contains(&format!("127.0.0.1:{port}: connection refused"))
            && nobody.stderr.contains("systemctl status kmip2pkcs11"),
        "{}",
        nobody.stderr
    );
    assert_eq!(
        site.json(&["hsm", "list"])
            .as_array()
            .or(site.json(&["hsm", "list"])["items"].as_array())
            .map(Vec::len),
        Some(0)
    );
}

#[test]
fn a_token_taken_away_and_put_back_over_a_restart() {
    let Some(mut bridge) = Bridge::softhsm() else {
        return;
    };
    let mut site = walk(&bridge, &[]);
    let serial = site.served_serial("example.net");
    let (there, away) = (bridge.path("tokens"), bridge.path("tokens-away"));
    // The device is unplugged while nobody looks; the bridge comes back without it.
    bridge.kill();
    std::fs::rename(&there, &away).unwrap();
    std::fs::create_dir(&there).unwrap();
    bridge.start();
    site.stop();
    site.start();
    assert_eq!(
        site.served_serial("example.net"),
        serial,
        "served as before"
    );
    change(&site, "example.net", &seed_with_serial(2));
    let told = within(cascade_e2e::PATIENCE, || {
        let status = site.ok(&["zone", "status", "example.net"]);
        status.contains("kmip2pkcs11").then_some(status)
    });
    assert!(
        told.is_some(),
        "{}",
        site.ok(&["zone", "status", "example.net"])
    );
    assert_eq!(site.served_serial("example.net"), serial);
    std::fs::remove_dir_all(&there).unwrap();
    std::fs::rename(&away, &there).unwrap();
    bridge.start();
    site.await_published("example.net", 2);
    judge(&site, "example.net");
}

#[test]
fn two_homes_for_the_keys_of_one_zone() {
    let (Some(vault), Some(bridge)) = (Bridge::softhsm(), Bridge::softhsm()) else {
        return;
    };
    let site = Site::started();
    policy(
        &site,
        "nethsm",
        &[(
            "#ksk-hsm-server-id = \"vault\"",
            "ksk-hsm-server-id = \"vault\"",
        )],
    );
    site.ok(&["policy", "reload"]);
    // The zone is there before its HSMs are; it waits, and goes on by itself.
    add_zone(&site, "example.net", SEED);
    add_hsm(&site, "kmip2pkcs11", &bridge);
    add_hsm(&site, "vault", &vault);
    site.await_published("example.net", 1);
    judge(&site, "example.net");
    for (hsm, role) in [("vault", "ksk"), ("kmip2pkcs11", "zsk")] {
        let items = site.json(&["hsm", "inventory", hsm])["items"].clone();
        let items = items.as_array().unwrap();
        assert!(
            items.len() == 2 && items.iter().all(|i| i["role"] == role),
            "{items:#?}"
        );
    }
}

#[test]
fn a_network_hsm_that_lies_leaves_and_returns() {
    let Some(bridge) = Bridge::netlike() else {
        return;
    };
    let site = walk(&bridge, &[]);
    judge(&site, "example.net");
    // Its labels cannot be changed afterwards, so they name zone and role from the beginning.
    let inventory = site.json(&["hsm", "inventory", "kmip2pkcs11"]);
    assert_eq!(
        (&inventory["orphans"], &inventory["missing"]),
        (&0.into(), &0.into()),
        "{inventory:#}"
    );
    let serial = site.served_serial("example.net");
    // One signature in a thousand is wrong: none of those is published.
    bridge.manners("lie-every = 1000\n");
    let mut text = seed_with_serial(2);
    for i in 0..300 {
        text.push_str(&format!("host{i} IN A 192.0.2.{}\n", i % 250 + 1));
    }
    change(&site, "example.net", &text);
    site.await_published("example.net", 2);
    judge(&site, "example.net");
    bridge.manners("away = true\n");
    change(
        &site,
        "example.net",
        &text.replace(". 2 86400", ". 3 86400"),
    );
    let away = within(cascade_e2e::PATIENCE, || {
        let why = site.ok(&["why", "example.net"]);
        why.contains("HSM 'kmip2pkcs11' is away").then_some(why)
    });
    assert!(away.is_some(), "{}", site.ok(&["why", "example.net"]));
    assert!(site.served_serial("example.net") >= serial);
    assert!(
        site.log().matches("can be used").count() < 3,
        "it does not flap"
    );
    bridge.manners("away = false\n");
    site.await_published("example.net", 3);
    judge(&site, "example.net");
    // Two signatures in a row are wrong: the HSM is closed, and the operator is told.
    bridge.manners("lie-every = 2\n");
    for i in 0..20 {
        text.push_str(&format!("more{i} IN A 192.0.2.1\n"));
    }
    change(
        &site,
        "example.net",
        &text.replace(". 2 86400", ". 4 86400"),
    );
    let closed = within(cascade_e2e::PATIENCE, || {
        let shown = site.ok(&["hsm", "show", "kmip2pkcs11"]);
        shown.contains("state: quarantined").then_some(shown)
    });
    assert!(
        closed.is_some(),
        "{}",
        site.ok(&["hsm", "show", "kmip2pkcs11"])
    );
    bridge.manners("lie-every = 1\n");
    let failed = site.cascade(&["hsm", "test", "kmip2pkcs11"]);
    assert_eq!(failed.code, Some(7), "{failed}");
    bridge.manners("lie-every = 0\n");
    // Keys that failed are tried again after a pause; a test by a person ends the quarantine.
    let released = within(cascade_e2e::PATIENCE, || {
        let tested = site.cascade(&["hsm", "test", "kmip2pkcs11"]);
        (tested.code == Some(0)).then_some(tested.stdout)
    });
    assert!(released.is_some_and(|t| t.contains("out of quarantine")));
    site.await_published("example.net", 4);
    judge(&site, "example.net");
}
