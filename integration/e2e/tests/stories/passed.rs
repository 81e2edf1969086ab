//! Zones that another signer made: checked, and published as they came.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cascade_e2e::{Server, Site, transfer, until, within};

use crate::common::{SEED, add_file, seed_with_serial, site_with_policy};
use crate::validity::judge;

const ZONE: &str = "example.net";
const PASS: &str = "[signer]\nmode = \"passthrough\"\n";

/// Keys of the other signer, in a folder of their own; `None` if ldns is not there.
struct Signer {
    folder: PathBuf,
    keys: Vec<String>,
}

impl Signer {
    fn new(site: &Site) -> Option<Signer> {
        let folder = site.path("signer");
        fs::create_dir_all(&folder).unwrap();
        let mut keys = Vec::new();
        for role in [&["-k"][..], &[]] {
            let made = Command::new("ldns-keygen")
                .current_dir(&folder)
                .args(["-a", "ECDSAP256SHA256"])
                .args(role)
                .arg(ZONE)
                .output();
            // `cargo xtask test` tells, and fails where nobody watches.
            let made = made.ok()?;
            keys.push(String::from_utf8(made.stdout).unwrap().trim().to_string());
        }
        Some(Signer { folder, keys })
    }

    /// Signs this text into the zone's file.
    fn sign(&self, site: &Site, text: &str, how: &[&str]) -> PathBuf {
        let plain = self.folder.join("plain");
        fs::write(&plain, text).unwrap();
        let out = site.write(&format!("zones/{ZONE}"), "");
        // Validators' clocks may be behind, so signatures begin in the past.
        let date = Command::new("date")
            .args(["-u", "-d", "yesterday", "+%Y%m%d%H%M%S"])
            .output()
            .unwrap();
        let begin = String::from_utf8(date.stdout).unwrap();
        let signed = Command::new("ldns-signzone")
            .current_dir(&self.folder)
            .args(how)
            .args(["-i", begin.trim()])
            .args(["-o", ZONE, "-f"])
            .arg(&out)
            .arg(&plain)
            .args(&self.keys)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&signed.stderr);
        assert!(signed.status.success(), "{said}");
        out
    }
}

/// Every record in one form, sorted.
fn canonical(file: &Path) -> Vec<String> {
    let out = Command::new("named-compilezone")
        .args(["-i", "none", "-k", "ignore", "-s", "full", "-o", "-", ZONE])
        .arg(file)
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let words = |l: &str| l.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines: Vec<String> = text.lines().map(words).collect();
    lines.sort();
    lines.dedup();
    assert!(lines.len() > 10, "{text}");
    lines
}

/// What is published, by transfer, is what the signer wrote.
#[track_caller]
fn is_unchanged(site: &Site, source: &Path) {
    let copy = site.path("copy");
    transfer(site.publication_port(), ZONE, &copy).unwrap();
    assert_eq!(canonical(&copy), canonical(source));
}

#[test]
fn what_another_signed_is_published_as_it_came() {
    for how in [&[][..], &["-n"], &["-n", "-p", "-s", "ab12", "-t", "3"]] {
        let mut site = site_with_policy(PASS);
        let Some(signer) = Signer::new(&site) else {
            return;
        };
        let file = signer.sign(&site, SEED, how);
        add_file(&site, ZONE, &file);
        site.await_published(ZONE, 1);
        is_unchanged(&site, &file);
        judge(&site, ZONE);
        // No keys of ours, nowhere.
        let keys = site.json(&["keyset", ZONE, "list", "--all"]);
        assert_eq!(keys["items"].as_array().map(Vec::len), Some(0), "{keys:#}");
        assert!(!site.path("state/keys").join(ZONE).exists());
        let why = site.ok(&["zone", "why", ZONE]);
        assert!(!why.contains("roll"), "{why}");
        // The signer's next version, and a restart.
        signer.sign(&site, &seed_with_serial(2), how);
        site.ok(&["zone", "reload", ZONE]);
        site.await_published(ZONE, 2);
        is_unchanged(&site, &file);
        site.stop();
        site.start();
        until("it is served again", || {
            (site.ask(&[ZONE, "SOA"]).serial() == Some(2)).then_some(())
        });
        is_unchanged(&site, &file);
        judge(&site, ZONE);
        signer.sign(&site, &seed_with_serial(3), how);
        site.ok(&["zone", "reload", ZONE]);
        site.await_published(ZONE, 3);
        is_unchanged(&site, &file);
    }
}

#[test]
fn what_is_wrong_is_not_published_and_said() {
    let site = site_with_policy(PASS);
    let Some(signer) = Signer::new(&site) else {
        return;
    };
    let file = signer.sign(&site, SEED, &[]);
    add_file(&site, ZONE, &file);
    site.await_published(ZONE, 1);
    let good = fs::read_to_string(&file).unwrap();
    let told = |text: &str, words: &str| {
        fs::write(&file, text).unwrap();
        site.cascade(&["zone", "reload", ZONE]);
        let all = || {
            let status = site.ok(&["zone", "status", "--detailed", ZONE]);
            let why = site.ok(&["zone", "why", ZONE]);
            let history = site.ok(&["zone", "history", ZONE]);
            format!("{status}{why}{history}")
        };
        let found = within(cascade_e2e::PATIENCE, || {
            all().contains(words).then_some(())
        });
        assert!(found.is_some(), "{words} is not in:\n{}", all());
        assert_eq!(site.ask(&[ZONE, "SOA"]).serial(), Some(1));
    };
    // Not signed at all.
    told(&seed_with_serial(2), "the source is not signed");
    // Records that the signatures do not cover: the gate refuses it.
    signer.sign(&site, &seed_with_serial(3), &[]);
    let forged = fs::read_to_string(&file).unwrap();
    told(&forged.replace("192.0.2.2", "192.0.2.66"), "V03");
    // The same serial with other content.
    let other = seed_with_serial(3).replace(". 3 86400", ". 1 86400");
    signer.sign(&site, &other, &[]);
    told(
        &fs::read_to_string(&file).unwrap(),
        "its signer must count up",
    );
    // And all is well again.
    signer.sign(&site, &seed_with_serial(4), &[]);
    site.ok(&["zone", "reload", ZONE]);
    site.await_published(ZONE, 4);
    is_unchanged(&site, &file);
    assert!(!good.is_empty());
}

#[test]
fn from_one_signer_to_another_is_not_done_by_a_word() {
    let site = site_with_policy(PASS);
    let Some(signer) = Signer::new(&site) else {
        return;
    };
    let file = signer.sign(&site, SEED, &[]);
    add_file(&site, ZONE, &file);
    site.await_published(ZONE, 1);
    // The policy signs from now on: keys of ours would not fit what caches have.
    site.policy("p", "");
    site.ok(&["policy", "reload", "--yes"]);
    signer.sign(&site, &seed_with_serial(2), &[]);
    site.ok(&["zone", "reload", ZONE]);
    until("it says why not", || {
        let status = site.ok(&["zone", "status", "--detailed", ZONE]);
        status.contains("was signed by another").then_some(())
    });
    assert_eq!(site.ask(&[ZONE, "SOA"]).serial(), Some(1));
    judge(&site, ZONE);
    // And back.
    site.policy("p", PASS);
    site.ok(&["policy", "reload", "--yes"]);
    signer.sign(&site, &seed_with_serial(3), &[]);
    site.ok(&["zone", "reload", ZONE]);
    site.await_published(ZONE, 3);
    is_unchanged(&site, &file);
}

/// The signer is somebody else, and so is who keeps the DS: that they do not fit is told.
#[test]
fn a_ds_that_fits_no_key_of_the_signer_is_told() {
    let mut site = Site::new();
    let parent = Server::nsd(&["net"], site.publication_port());
    let at = format!("[\"127.0.0.1:{}\"]", parent.port());
    site.start();
    site.policy(
        "p",
        &format!("{PASS}[key-manager.ds]\nparent-nameservers = {at}\n"),
    );
    site.policy(
        "net",
        &format!(
            "[server.outbound]\nprovide-xfr-to = [\"127.0.0.1\"]\nsend-notify-to = {at}\n\
             [key-manager]\npublication-nameservers = {at}\n"
        ),
    );
    site.ok(&["policy", "reload"]);
    let Some(signer) = Signer::new(&site) else {
        return;
    };
    let give = |serial: u32, ds: &str| {
        let text = format!(
            "$ORIGIN net.\n$TTL 300\n@ SOA ns u {serial} 60 30 86400 300\n@ NS ns\nns A 127.0.0.1\n\
             example NS ns.example\nns.example A 192.0.2.1\n{ds}\n"
        );
        site.write("zones/net", &text)
    };
    let net = give(1, &format!("example DS 31203 13 2 {}", "5".repeat(64)));
    let net = net.to_str().unwrap();
    site.ok(&["zone", "add", "net", "--source", net, "--policy", "net"]);
    let there = |n: usize| {
        until("the parent's server has it", || {
            let ds = parent.ask(&[ZONE, "DS"]).rdata("DS");
            (ds.len() == n).then_some(())
        });
    };
    there(1);
    add_file(&site, ZONE, &signer.sign(&site, SEED, &[]));
    site.await_published(ZONE, 1);
    let told = || {
        let all = [
            site.ok(&["zone", "status", ZONE]),
            site.ok(&["zone", "why", ZONE]),
            format!("{}", site.cascade(&["health"])),
        ];
        all.map(|text| text.contains("fits no key in the DNSKEY RRset"))
    };
    until("it is told everywhere", || {
        (told() == [true; 3]).then_some(())
    });
    // The parent gets the signer's DS beside it.
    let own = fs::read_to_string(signer.folder.join(format!("{}.ds", signer.keys[0]))).unwrap();
    give(
        2,
        &format!("example DS 31203 13 2 {}\n{own}", "5".repeat(64)),
    );
    site.ok(&["zone", "reload", "net"]);
    there(2);
    site.ok(&["keyset", ZONE, "check"]);
    until("all is well", || (told() == [false; 3]).then_some(()));
}

/// Its signatures come from the source and from nowhere else: after a restart they are fetched again.
#[test]
fn what_is_held_over_a_restart_is_passed_on_when_it_is_approved() {
    let mut site = site_with_policy(PASS);
    let Some(signer) = Signer::new(&site) else {
        return;
    };
    let file = signer.sign(&site, SEED, &[]);
    add_file(&site, ZONE, &file);
    site.await_published(ZONE, 1);
    site.policy("p", &format!("{PASS}[loader.review]\nmode = \"manual\"\n"));
    site.ok(&["policy", "reload", "--yes"]);
    signer.sign(&site, &seed_with_serial(2), &[]);
    site.ok(&["zone", "reload", ZONE]);
    site.await_state(ZONE, "unsigned-review");
    for graceful in [true, false] {
        if graceful {
            site.stop();
        } else {
            site.kill();
        }
        site.start();
        site.await_state(ZONE, "unsigned-review");
        assert_eq!(site.ask(&[ZONE, "SOA"]).serial(), Some(1));
    }
    let approve = ["zone", "approve", "--unsigned", ZONE, "2"];
    until("it is approved", || {
        (site.cascade(&approve).code == Some(0)).then_some(())
    });
    site.await_published(ZONE, 2);
    is_unchanged(&site, &file);
    judge(&site, ZONE);
}
