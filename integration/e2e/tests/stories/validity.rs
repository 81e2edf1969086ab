//! Whole zones through the daemon, judged by programs that are not ours.

use std::path::Path;

use cascade_e2e::judge::{Judge, Verdict};
use cascade_e2e::{Site, transfer};

use crate::common::{SEED, add, add_file, change, site_with_policy};

const DENIALS: [&str; 3] = [
    "",
    "[signer.denial]\ntype = \"nsec3\"\n",
    "[signer.denial]\ntype = \"nsec3\"\nopt-out = true\n",
];

#[track_caller]
pub fn judge(site: &Site, zone: &str) -> usize {
    let copy = site.path("transferred");
    let records = transfer(site.publication_port(), zone, &copy).unwrap();
    let single_key = site.ask(&[zone, "DNSKEY"]).rdata("DNSKEY").len() == 1;
    let mut judged = 0;
    for judge in Judge::ALL {
        match judge.judge(zone, &copy, single_key) {
            Verdict::Valid => judged += 1,
            Verdict::Invalid(said) => panic!("{} about {zone}: {said}", judge.program()),
            // `cargo xtask test` tells, and fails where nobody watches.
            Verdict::NotInstalled => eprintln!("{} is not installed", judge.program()),
        }
    }
    eprintln!("{zone}: {records} records, valid for {judged} judges");
    records
}

#[test]
fn the_seed_zone_is_valid_for_all() {
    for denial in DENIALS {
        for generation in ["", "[key-manager.generation]\nuse-csk = true\n"] {
            let site = site_with_policy(&format!("{denial}{generation}"));
            add(&site, "example.net", SEED);
            site.await_published("example.net", 1);
            judge(&site, "example.net");
        }
    }
}

#[test]
fn every_algorithm_is_valid_for_all() {
    for algorithm in [
        "RSASHA256",
        "RSASHA512",
        "ECDSAP256SHA256",
        "ECDSAP384SHA384",
        "ED25519",
    ] {
        let site = site_with_policy(&format!(
            "[key-manager.generation]\nalgorithm = \"{algorithm}\"\n"
        ));
        add(&site, "example.net", SEED);
        site.await_published("example.net", 1);
        judge(&site, "example.net");
    }
}

#[test]
fn the_root_zone_is_valid_for_all() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/root-2018013000.zone");
    let file = file.canonicalize().unwrap();
    for denial in DENIALS {
        let site = site_with_policy(denial);
        add_file(&site, ".", &file);
        site.await_published(".", 2018013000);
        let records = judge(&site, ".");
        // The delegations and glue of the time, without the signatures that came with them.
        assert!(records > 20_000, "{records}");
        let status = site.ok(&["zone", "status", "."]);
        assert!(status.contains("✔ Loaded version 2018013000"), "{status}");
    }
}

#[test]
fn successive_root_zones_are_valid_for_all() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
    let read =
        |serial: u32| std::fs::read_to_string(data.join(format!("root-{serial}.zone"))).unwrap();
    let site = site_with_policy("");
    let file = site.write("zones/root", &read(2018013002));
    add_file(&site, ".", &file);
    site.await_published(".", 2018013002);
    let mut last = site.served_serial(".");
    for serial in [2018013100, 2018013101, 2018020100, 2018020101, 2018020102] {
        site.write("zones/root", &read(serial));
        site.ok(&["zone", "reload", "."]);
        site.await_published(".", serial);
        let served = site.served_serial(".");
        assert!(served > last, "serial {served} after {last}");
        last = served;
    }
    judge(&site, ".");
}

/// A change costs what the change is worth: new signatures, and what the gate looks at.
#[test]
fn a_change_is_signed_and_verified_by_what_changed() {
    let text = |serial: u32, more: &str| {
        let hosts: String = (0..500).map(|i| format!("h{i} A 192.0.2.1\n")).collect();
        format!(
            "$TTL 3600\n@ SOA ns a {serial} 7200 900 1209600 300\n@ NS ns.else.test.\n{hosts}{more}"
        )
    };
    for denial in DENIALS {
        let site = site_with_policy(denial);
        add(&site, "example.net", &text(1, ""));
        let first = site.await_published("example.net", 1);
        let full_at = first["verification"]["last_full_at"].clone();
        assert!(first["verification"]["signatures_checked"].as_u64() > Some(1000));
        let changes = [
            "new A 192.0.2.2\n",
            "new A 192.0.2.3\nsub NS ns.else.test.\n",
            "",
        ];
        for (serial, more) in (2..).zip(changes) {
            change(&site, "example.net", &text(serial, more));
            let status = site.await_published("example.net", serial);
            let checked = status["verification"]["signatures_checked"].as_u64();
            // Of the SOA and of a link at least; that of the DNSKEY RRset stays, and is not verified again.
            assert!(checked.is_some_and(|n| (2..20).contains(&n)), "{status:#}");
            assert_eq!(status["verification"]["last_full_at"], full_at);
            judge(&site, "example.net");
        }
        // Every signature anew is another matter.
        site.ok(&["zone", "resign", "example.net", "--full", "--wait"]);
        let status = site.status("example.net");
        let checked = status["verification"]["signatures_checked"].as_u64();
        assert!(checked > Some(1000), "{status:#}");
        judge(&site, "example.net");
    }
}

#[test]
fn what_came_back_from_the_disk_is_checked_in_the_background() {
    let mut site = site_with_policy("");
    add(&site, "example.net", SEED);
    let first = site.await_published("example.net", 1);
    site.kill();
    site.start();
    site.await_status("example.net", "a check after the restart", |status| {
        let full_at = &status["verification"]["last_full_at"];
        full_at.is_string() && *full_at != first["verification"]["last_full_at"]
    });
    let log = site.log();
    assert!(log.contains("signatures of version v"), "{log}");
}

#[test]
fn a_root_zone_that_lost_its_international_names_is_held_by_the_guard() {
    // The first of the stored versions writes them in Unicode, all later ones as A-labels: for the
    // DNS a tenth of the delegations goes and as many others come.
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
    let read = |serial: u32| std::fs::read(data.join(format!("root-{serial}.zone"))).unwrap();
    let site = site_with_policy("");
    let file = site.path("zones/root");
    std::fs::write(&file, read(2018013000)).unwrap();
    add_file(&site, ".", &file);
    site.await_published(".", 2018013000);
    let before = site.served_serial(".");
    std::fs::write(&file, read(2018013002)).unwrap();
    site.ok(&["zone", "reload", "."]);
    site.await_state(".", "unsigned-review");
    let status = site.ok(&["zone", "status", "."]);
    for word in [
        "guard",
        "151 of 1543",
        "cascade zone approve --unsigned . 2018013002",
    ] {
        assert!(status.contains(word), "no `{word}` in\n{status}");
    }
    assert_eq!(site.served_serial("."), before);
    site.ok(&["zone", "approve", "--unsigned", ".", "2018013002"]);
    site.await_published(".", 2018013002);
    judge(&site, ".");
}

#[test]
fn keys_that_come_from_elsewhere() {
    let site = site_with_policy("");
    let folder = site.folder().to_path_buf();
    let make = |flag: &[&str]| {
        let output = std::process::Command::new("dnssec-keygen")
            .args(["-q", "-a", "13", "-K"])
            .arg(&folder)
            .args(flag)
            .arg("example.net")
            .output();
        match output {
            Ok(output) if output.status.success() => Some(folder.join(format!(
                "{}.key",
                String::from_utf8_lossy(&output.stdout).trim()
            ))),
            _ => None,
        }
    };
    let (Some(ksk), Some(zsk)) = (make(&["-f", "KSK"]), make(&[])) else {
        eprintln!("dnssec-keygen is not installed (Debian: bind9-utils)");
        return;
    };
    let file = site.write("zones/example.net", SEED);
    let (ksk, zsk) = (ksk.to_str().unwrap(), zsk.to_str().unwrap());
    let add = [
        "zone",
        "add",
        "example.net",
        "--source",
        file.to_str().unwrap(),
        "--policy",
        "p",
    ];
    let half = [add.as_slice(), &["--import-ksk-file", ksk]].concat();
    site.cascade(&half).expect(1);
    assert_eq!(
        site.ok(&["zone", "list"]),
        "",
        "a refused add leaves nothing behind"
    );
    let both = [
        add.as_slice(),
        &["--import-ksk-file", ksk, "--import-zsk-file", zsk],
    ]
    .concat();
    site.ok(&both);
    site.await_published("example.net", 1);
    let wanted = std::fs::read_to_string(ksk).unwrap();
    let wanted: String = wanted
        .split_whitespace()
        .last()
        .unwrap()
        .chars()
        .take(20)
        .collect();
    let keys = site.ask(&["example.net", "DNSKEY"]).rdata("DNSKEY");
    assert_eq!(keys.len(), 2);
    assert!(
        keys.iter().any(|key| key.contains(&wanted)),
        "{keys:?} lack {wanted}"
    );
    judge(&site, "example.net");
}
