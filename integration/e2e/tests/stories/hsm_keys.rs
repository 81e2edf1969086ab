//! Keys in HSMs: of every algorithm, named when they are made, and made by somebody else.

use cascade_e2e::bridge::{LABEL, PIN};
use cascade_e2e::{Bridge, Said, Site, until};
use serde_json::Value;

use crate::common::{SEED, change, seed_with_serial};
use crate::hsms::{add_hsm, add_zone};
use crate::validity::judge;

const ALGORITHMS: [(&str, &str); 4] = [
    ("p256", "ECDSAP256SHA256"),
    ("p384", "ECDSAP384SHA384"),
    ("ed25519", "ED25519"),
    ("rsa", "RSASHA256:2048"),
];

fn objects(site: &Site) -> Vec<Value> {
    let found = site.json(&["hsm", "inventory", "kmip2pkcs11"]);
    found["items"].as_array().unwrap().clone()
}

/// A policy whose keys are in the HSM, with more lines of its section.
fn in_hsm(site: &Site, name: &str, lines: &str) {
    site.policy(
        name,
        &format!("[key-manager.generation]\nhsm-server-id = \"kmip2pkcs11\"\n{lines}"),
    );
}

/// Signed, changed, signed again after a restart, removed with its keys: the same for each algorithm.
fn every_algorithm(bridge: &Bridge) {
    let mut site = Site::started();
    for (name, algorithm) in ALGORITHMS {
        in_hsm(&site, name, &format!("algorithm = \"{algorithm}\"\n"));
    }
    site.cascade(&["policy", "reload"]).expect(0);
    add_hsm(&site, "kmip2pkcs11", bridge);
    let text = |zone: &str, serial| seed_with_serial(serial).replace("example.net", zone);
    for (name, _) in ALGORITHMS {
        let zone = format!("{name}.example");
        let file = site.write(&format!("zones/{zone}"), &text(&zone, 1));
        let source = file.to_str().unwrap();
        site.ok(&["zone", "add", "--source", source, "--policy", name, &zone]);
    }
    for (name, _) in ALGORITHMS {
        let zone = format!("{name}.example");
        site.await_published(&zone, 1);
        judge(&site, &zone);
    }
    assert_eq!(objects(&site).len(), 4 * 2 * 2);
    site.stop();
    site.start();
    for (name, _) in ALGORITHMS {
        let zone = format!("{name}.example");
        change(&site, &zone, &text(&zone, 2));
        site.await_published(&zone, 2);
        judge(&site, &zone);
        site.ok(&["zone", "remove", "--purge-keys", "--yes", &zone]);
    }
    assert_eq!(objects(&site), Vec::<Value>::new(), "nothing is left");
}

#[test]
fn every_algorithm_in_softhsm() {
    if let Some(bridge) = Bridge::softhsm() {
        every_algorithm(&bridge);
    }
}

#[test]
fn every_algorithm_in_a_network_hsm() {
    if let Some(bridge) = Bridge::netlike() {
        every_algorithm(&bridge);
    }
}

#[test]
fn keys_are_named_when_they_are_made() {
    for bridge in [Bridge::netlike(), Bridge::softhsm()] {
        let Some(bridge) = bridge else { continue };
        let site = Site::started();
        in_hsm(&site, "nethsm", "key-label = \"at-creation\"\n");
        site.cascade(&["policy", "reload"]).expect(0);
        add_hsm(&site, "kmip2pkcs11", &bridge);
        add_zone(&site, "example.net", SEED);
        site.await_published("example.net", 1);
        judge(&site, "example.net");
        // Whatever the token: both halves say zone and role.
        let text = bridge.list_objects();
        for role in ["ksk", "zsk"] {
            let name = format!("example.net-{role}-");
            let shown = text
                .lines()
                .filter(|l| l.contains("label:") && l.contains(&name));
            assert_eq!(shown.count(), 2, "{role} in\n{text}");
        }
        assert_eq!(text.matches("label:").count(), 4, "{text}");
        let all = objects(&site);
        assert!(
            all.len() == 4
                && all
                    .iter()
                    .all(|o| o["zone"] == "example.net" && o["match"] == "public-key"),
            "{all:#?}"
        );
        assert!(all.iter().all(|o| {
            let label = o["label"].as_str().unwrap_or_default();
            label.starts_with(&format!("example.net-{}-", o["role"].as_str().unwrap()))
        }));
    }
}

#[test]
fn keys_are_named_after_they_are_made() {
    let Some(bridge) = Bridge::softhsm() else {
        return;
    };
    let site = Site::started();
    in_hsm(&site, "nethsm", "key-label = \"after\"\n");
    site.cascade(&["policy", "reload"]).expect(0);
    add_hsm(&site, "kmip2pkcs11", &bridge);
    add_zone(&site, "example.net", SEED);
    site.await_published("example.net", 1);
    for o in objects(&site) {
        let label = o["label"].as_str().unwrap_or_default();
        let name = format!("example.net-{}-{}-", o["tag"], o["role"].as_str().unwrap());
        assert!(label.starts_with(&name), "{label} for {o}");
    }
}

/// A pair that other software makes; the server's names of its halves.
fn foreign(bridge: &Bridge, id: &str, kind: &str) -> (String, String) {
    let made = bridge
        .on_token("pkcs11-tool")
        .arg("--module")
        .arg(bridge.module())
        .args(["--token-label", LABEL, "--login", "--pin", PIN])
        .args(["--keypairgen", "--key-type", kind, "--id", id])
        .args(["--label", &format!("other {id}")])
        .output()
        .expect("pkcs11-tool of opensc is installed");
    assert!(made.status.success(), "{made:?}");
    (format!("{id}_pub"), format!("{id}_priv"))
}

#[test]
fn keys_that_are_there_already() {
    let Some(bridge) = Bridge::softhsm_token() else {
        return;
    };
    // Made before the bridge looks at the token: SoftHSM shows new objects of others only then.
    let ids = [
        "A1B2C3D4E5F60718293A4B5C6D7E8F9001020304",
        "B1B2C3D4E5F60718293A4B5C6D7E8F9001020304",
        "C1C2",
    ];
    let [ksk, zsk, third] = ids.map(|id| foreign(&bridge, id, "EC:prime256v1"));
    let mut bridge = bridge;
    bridge.configure();
    bridge.start();
    let site = Site::started();
    in_hsm(&site, "nethsm", "");
    site.cascade(&["policy", "reload"]).expect(0);
    add_hsm(&site, "kmip2pkcs11", &bridge);
    let orphans = site.ok(&["hsm", "inventory", "kmip2pkcs11", "--orphans"]);
    assert!(
        [&ksk, &zsk, &third]
            .iter()
            .all(|(p, _)| orphans.contains(p)),
        "{orphans}"
    );
    let file = site.write("zones/example.net", SEED);
    let add = |imports: &[&str]| -> Said {
        let mut args = vec!["zone", "add", "--source", file.to_str().unwrap()];
        args.extend(["--policy", "nethsm", "example.net"]);
        args.extend(imports);
        site.cascade(&args)
    };
    let import = |option, hsm, public, private, algorithm, flags| -> [&str; 6] {
        [option, hsm, public, private, algorithm, flags]
    };
    const KSK: &str = "--import-ksk-kmip";
    const ZSK: &str = "--import-zsk-kmip";
    let good_ksk = import(KSK, "kmip2pkcs11", &ksk.0, &ksk.1, "ECDSAP256SHA256", "257");
    let good_zsk = import(ZSK, "kmip2pkcs11", &zsk.0, &zsk.1, "13", "256");
    // Nothing is taken on trust, and nothing is left of what is refused.
    for (wrong, words) in [
        (
            import(ZSK, "kmip2pkcs11", &zsk.0, &ksk.1, "13", "256"),
            "does not make the signatures of its public half",
        ),
        (
            import(ZSK, "kmip2pkcs11", &zsk.0, &zsk.1, "14", "256"),
            "is a key of another kind than ECDSAP384SHA384",
        ),
        (
            import(ZSK, "kmip2pkcs11", &zsk.0, &zsk.1, "13", "257"),
            "flags 257 do not fit",
        ),
        (
            import(ZSK, "kmip2pkcs11", "D1D2_pub", "D1D2_priv", "13", "256"),
            "has no object D1D2_pub",
        ),
        (
            import(ZSK, "kmip2pkcs11", &ksk.0, &ksk.1, "13", "256"),
            "a key that the zone has already",
        ),
    ] {
        let refused = add(&[&good_ksk[..], &wrong].concat());
        assert!(
            refused.code == Some(1) && refused.stderr.contains(words),
            "{words}: {refused}"
        );
    }
    let alone = add(&good_ksk);
    assert!(alone.stderr.contains("without a ZSK"), "{alone}");
    let unknown = import(ZSK, "kmip2pkcs12", &zsk.0, &zsk.1, "13", "256");
    let unknown = add(&[&good_ksk[..], &unknown].concat());
    assert_eq!(unknown.code, Some(3), "{unknown}");
    assert!(
        unknown.stderr.contains("kmip2pkcs11"),
        "the nearest: {unknown}"
    );

    add(&[good_ksk, good_zsk].concat()).expect(0);
    site.await_published("example.net", 1);
    judge(&site, "example.net");
    let items = objects(&site);
    let own = |id: &str| items.iter().find(|o| o["object"] == id).unwrap().clone();
    assert_eq!(
        (&own(&ksk.0)["zone"], &own(&ksk.0)["role"]),
        (&"example.net".into(), &"ksk".into())
    );
    assert_eq!(own(&zsk.1)["role"], "zsk");
    assert_eq!(own(&third.0)["match"], "orphan");
    assert_eq!(items.len(), 6, "no key was made");
    // Labels are its maker's.
    assert!(own(&ksk.0)["label"].as_str().unwrap().starts_with("other "));
    let status = site.ok(&["zone", "status", "example.net", "--detailed"]);
    assert!(
        status.contains(&ksk.0) && status.contains("does not expire"),
        "{status}"
    );

    // Into a zone that is there: published, and used by the next roll.
    let mut words = vec!["keyset", "example.net", "import"];
    words.extend(import(ZSK, "kmip2pkcs11", &third.0, &third.1, "13", "256"));
    let imported = site.ok(&words);
    assert!(imported.starts_with("Imported key "), "{imported}");
    let twice = site.cascade(&words);
    assert!(twice.stderr.contains("has already"), "{twice}");
    change(&site, "example.net", &seed_with_serial(2));
    site.await_published("example.net", 2);
    let answer = site.ask(&["example.net", "DNSKEY", "+norec", "+noedns"]);
    assert_eq!(answer.rdata("DNSKEY").len(), 3, "{}", answer.text);
    judge(&site, "example.net");

    // They are not ours to destroy.
    site.ok(&["zone", "remove", "--purge-keys", "--yes", "example.net"]);
    let left = objects(&site);
    assert_eq!(left.len(), 6, "{left:#?}");
    assert!(left.iter().all(|o| o["match"] == "orphan"));
}

/// A key that is of no use, in a token that is away: it can be given up, and is an orphan then.
#[test]
fn a_key_that_its_token_does_not_destroy_is_given_up() {
    let Some(mut bridge) = Bridge::softhsm() else {
        return;
    };
    let site = Site::started();
    in_hsm(&site, "nethsm", "require-backup = true\n");
    site.cascade(&["policy", "reload"]).expect(0);
    add_hsm(&site, "kmip2pkcs11", &bridge);
    let file = site.write("zones/example.net", SEED);
    let source = file.to_str().unwrap();
    let add = ["zone", "add", "--source", source, "--policy", "nethsm"];
    site.ok(&[&add[..], &["example.net"]].concat());
    let keys = || {
        let list = site.json(&["keyset", "example.net", "list", "--all"]);
        list["items"].as_array().unwrap().clone()
    };
    // They wait for their backup, so that none is in use.
    until("both keys are made", || (keys().len() == 2).then_some(()));
    let ksk = keys().iter().find(|k| k["role"] == "ksk").cloned().unwrap();
    let tag = ksk["tag"].to_string();
    bridge.kill();
    let remove = |how| {
        let args = ["keyset", "example.net", "remove-key", &tag, how, "--yes"];
        site.cascade(&args)
    };
    let refused = remove("--purge");
    refused
        .expect(1)
        .complains(&["was not destroyed", "--continue"]);
    let shown = keys();
    assert!(shown.iter().any(|k| k["tag"] == ksk["tag"]), "{shown:#?}");
    remove("--continue").expect(0);
    let shown = keys();
    assert!(!shown.iter().any(|k| k["tag"] == ksk["tag"]), "{shown:#?}");
    bridge.start();
    until("what is left is an orphan", || {
        let all = site.cascade(&["--json", "hsm", "inventory", "kmip2pkcs11"]);
        let all: Value = serde_json::from_str(&all.stdout).ok()?;
        (all["orphans"] == 2).then_some(())
    });
}
