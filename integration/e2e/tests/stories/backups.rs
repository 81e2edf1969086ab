//! A backup made while the daemon runs, restored where there is nothing, and served on.

use std::fs;
use std::path::Path;

use cascade_e2e::Site;

use crate::common::{SEED, add, change, seed_with_serial, site_with_policy};

/// Where the next daemon finds what a former one left, and nothing else of it.
fn restored(backup: &Path) -> Site {
    let site = Site::new();
    let state = site.path("state");
    let said = site.cascade(&[
        "backup",
        "restore",
        backup.to_str().unwrap(),
        "--state-dir",
        state.to_str().unwrap(),
        // This user, whoever that is.
        "--owner",
        &nix_user(),
    ]);
    said.expect(0);
    site
}

fn nix_user() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .map_or_else(|| "root".into(), |user| user.name)
}

#[test]
fn what_was_backed_up_goes_on_elsewhere() {
    let site = site_with_policy("");
    add(&site, "example.net", SEED);
    add(
        &site,
        "example.org",
        &SEED.replace("example.net", "example.org"),
    );
    for zone in ["example.net", "example.org"] {
        site.await_published(zone, 1);
    }
    let serial = site.served_serial("example.net");
    let keys = site.ask(&["example.net", "DNSKEY"]).rdata("DNSKEY");
    let signatures = site.ask(&["example.net", "SOA", "+dnssec"]).rdata("RRSIG");

    let made = site.json(&["backup", "create", "--name", "b1"]);
    assert_eq!((&made["zones"], &made["key_files"]), (&2.into(), &4.into()));
    let backup = site.path("state/backup/b1");
    assert_eq!(made["path"], backup.to_str().unwrap());
    // What happens after the backup is not in it.
    change(&site, "example.net", &seed_with_serial(2));
    site.await_published("example.net", 2);

    let mut other = restored(&backup);
    drop(site);
    other.policy("p", "");
    other.start();
    assert_eq!(other.served_serial("example.net"), serial);
    let mut now = other.ask(&["example.net", "DNSKEY"]).rdata("DNSKEY");
    let mut before = keys.clone();
    now.sort();
    before.sort();
    assert_eq!(now, before);
    assert_eq!(
        other.ask(&["example.net", "SOA", "+dnssec"]).rdata("RRSIG"),
        signatures,
        "nothing was signed again"
    );
    // It can sign: the keys were found at their new place.
    let file = other.write("zones/example.net", &seed_with_serial(3));
    let source = file.to_str().unwrap();
    other.ok(&["zone", "edit", "example.net", "--source", source]);
    other.await_published("example.net", 3);
    assert!(other.served_serial("example.net") > serial);
    let mut after = other.ask(&["example.net", "DNSKEY"]).rdata("DNSKEY");
    after.sort();
    assert_eq!(after, before);
}

#[test]
fn damage_is_found_and_nothing_is_overwritten() {
    let site = site_with_policy("");
    add(&site, "example.net", SEED);
    site.await_published("example.net", 1);
    let said = site.ok(&["backup", "create", "--name", "b1"]);
    let backup = site.path("state/backup/b1");
    let folder = backup.to_str().unwrap();
    assert!(
        said.starts_with(&format!("Backup {folder}: 1 zones, 2 private keys, ")),
        "{said}"
    );
    let said = site.ok(&["backup", "verify", folder]);
    assert!(
        said.starts_with(&format!("Backup {folder} intact: 1 zones, ")),
        "{said}"
    );

    // Once more under the same name, and over a state.
    site.cascade(&["backup", "create", "--name", "b1"])
        .expect(1)
        .complains(&["b1", "exists already", "--name"]);
    let state = site.path("state");
    let restore = [
        "backup",
        "restore",
        folder,
        "--state-dir",
        state.to_str().unwrap(),
    ];
    site.cascade(&restore)
        .expect(1)
        .complains(&["state.redb", "stop cascaded"]);

    let key = fs::read_dir(backup.join("keys"))
        .unwrap()
        .flatten()
        .flat_map(|zone| fs::read_dir(zone.path()).unwrap().flatten())
        .map(|file| file.path())
        .find(|path| path.extension().is_some_and(|e| e == "private"))
        .unwrap();
    let mut text = fs::read(&key).unwrap();
    text[60] ^= 1;
    fs::write(&key, text).unwrap();
    fs::remove_file(backup.join("audit.log")).unwrap();
    let empty = site.path("empty");
    for command in [
        vec!["backup", "verify", folder],
        vec![
            "backup",
            "restore",
            folder,
            "--state-dir",
            empty.to_str().unwrap(),
        ],
    ] {
        site.cascade(&command).expect(7).complains(&[
            ".private: its content was changed",
            "audit.log: ",
            "2 files",
        ]);
    }
    assert!(!empty.exists());
    fs::write(backup.join("manifest.json"), "{}").unwrap();
    site.cascade(&["backup", "verify", folder])
        .expect(1)
        .complains(&["manifest.json"]);
}

#[test]
fn a_list_of_files_cannot_lead_out_of_the_backup() {
    let site = site_with_policy("");
    site.ok(&["backup", "create", "--name", "b1"]);
    let list = site.path("state/backup/b1/manifest.json");
    let text = fs::read_to_string(&list).unwrap();
    fs::write(&list, text.replace("\"audit.log\"", "\"../../audit.log\"")).unwrap();
    let folder = site.path("state/backup/b1");
    site.cascade(&["backup", "verify", folder.to_str().unwrap()])
        .expect(7)
        .complains(&["leads out of the backup"]);
}

/// The state of a former release is copied before it is touched, and goes on.
#[test]
fn the_state_of_a_former_layout_is_copied_and_taken_over() {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/states/schema-1.tar.gz");
    let mut site = Site::new();
    let unpacked = std::process::Command::new("tar")
        .arg("-xzf")
        .arg(&archive)
        .arg("-C")
        .arg(site.path(""))
        .status();
    assert!(unpacked.unwrap().success());
    site.policy("default", "");
    // Five minutes after it was left.
    site.begin_at(1_780_000_300);
    site.start();
    let report = site.ok(&["zone", "status", "example.net"]);
    // Its file is being looked for, or is not there.
    assert!(report.contains("ersion 2026052801"), "{report}");
    assert_eq!(site.served_serial("example.net"), 2_026_052_801);
    let keys = site.ok(&["keyset", "example.net", "list"]);
    assert!(keys.contains("17076") && keys.contains("21737"), "{keys}");
    let copy = site.path("state/backup/0.1.0-pre");
    let said = site.ok(&["backup", "verify", copy.to_str().unwrap()]);
    assert!(
        said.contains("intact: 1 zones") && said.contains("by release 0.1.0-pre"),
        "{said}"
    );
    // It signs with the keys of before.
    let file = site.write("zones/example.net", &seed_with_serial(3));
    let source = file.to_str().unwrap();
    site.ok(&["zone", "edit", "example.net", "--source", source]);
    site.await_published("example.net", 3);
    assert_eq!(site.served_serial("example.net"), 2_026_052_802);
    // Once: the next start finds a state of its own.
    site.stop();
    site.start();
    assert_eq!(fs::read_dir(site.path("state/backup")).unwrap().count(), 1);
}
