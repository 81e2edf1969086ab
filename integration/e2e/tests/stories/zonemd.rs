//! Zones with digests (RFC 8976): checked when they come, made when they go.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cascade_e2e::primary::{Primary, Program};
use cascade_e2e::{Site, until};

use crate::common::{add_file, change, site_with_policy};
use crate::validity::judge;

const ZONE: &str = "example.net";
const SMALL: &str = "$TTL 300\n@ SOA ns1 hostmaster 1 3600 600 604800 300\n@ NS ns1\n\
                     ns1 A 192.0.2.1\nwww A 192.0.2.2\nsub NS ns.sub\nns.sub A 192.0.2.3\n";

/// The published zone with what ldns says of its digest.
fn ldns(site: &Site, zone: &str) -> Result<String, String> {
    let file = site.path("published");
    let _ = fs::remove_file(&file);
    site.ok(&["zone", "export", zone, "--output", file.to_str().unwrap()]);
    let text = fs::read_to_string(&file).unwrap();
    match Command::new("ldns-verify-zone")
        .args(["-V", "1", "-ZZ"])
        .arg(&file)
        .output()
    {
        Ok(out) if out.status.success() => Ok(text),
        Ok(out) => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
        // `cargo xtask test` tells, and fails where nobody watches.
        Err(_) => Ok(text),
    }
}

/// What a zone file becomes when another program adds a digest to it.
fn with_digest(folder: &Path, text: &str, zone: &str) -> Option<PathBuf> {
    let plain = folder.join("plain");
    fs::write(&plain, text).unwrap();
    let out = folder.join("digested");
    let done = Command::new("ldns-signzone")
        .args(["-Z", "-z", "simple:sha384", "-o", zone, "-f"])
        .arg(&out)
        .arg(&plain)
        .output()
        .ok()?;
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    Some(out)
}

#[test]
fn every_version_has_its_digest_and_others_find_it_right() {
    for denial in ["nsec", "nsec3"] {
        let site = site_with_policy(&format!(
            "[signer]\nzonemd = \"sha384\"\ndenial.type = \"{denial}\"\n"
        ));
        let file = site.write("zones/example.net", SMALL);
        add_file(&site, ZONE, &file);
        site.await_published(ZONE, 1);
        let first = ldns(&site, ZONE).unwrap();
        let digest = |text: &str| -> String {
            let line = text
                .lines()
                .find(|l| l.contains("ZONEMD 2") || l.contains("ZONEMD 1"));
            line.unwrap_or_else(|| panic!("{text}")).to_owned()
        };
        judge(&site, ZONE);
        change(
            &site,
            ZONE,
            &format!("{}new TXT \"2\"\n", SMALL.replace("master 1", "master 2")),
        );
        site.await_published(ZONE, 2);
        let second = ldns(&site, ZONE).unwrap();
        assert_ne!(digest(&first), digest(&second));
        let serial = site.served_serial(ZONE);
        assert!(digest(&second).contains(&format!("ZONEMD {serial} 1 1 ")));
        // Off, and gone from the zone; then the other hash.
        for (value, has) in [("off", false), ("sha512", true)] {
            let before = site.served_serial(ZONE);
            site.policy(
                "p",
                &format!("[signer]\nzonemd = \"{value}\"\ndenial.type = \"{denial}\"\n"),
            );
            site.ok(&["policy", "reload"]);
            until("the policy's digest", || {
                (site.served_serial(ZONE) != before).then_some(())
            });
            let answer = site.ask(&[ZONE, "ZONEMD"]);
            assert_eq!(!answer.rdata("ZONEMD").is_empty(), has, "{}", answer.text);
        }
        let third = ldns(&site, ZONE).unwrap();
        assert!(third.contains(" 1 2 "), "{third}");
    }
}

#[test]
fn files_are_compared_with_their_digest() {
    let site = site_with_policy("[loader]\nzonemd = \"required\"\n");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
    let root = fs::read_to_string(data.join("root-2018020102.zone")).unwrap();
    // Without the SOA at its end, which is a transfer's.
    let (soa, rest) = root.split_once('\n').unwrap();
    let once: Vec<&str> = rest.lines().filter(|l| *l != soa).collect();
    let root = format!("{soa}\n{}\n", once.join("\n"));
    let Some(file) = with_digest(site.folder(), &root, ".") else {
        eprintln!("ldns-signzone is not installed");
        return;
    };
    let good = fs::read_to_string(&file).unwrap();
    assert!(good.contains("ZONEMD") && good.contains("RRSIG"));
    // One octet of glue: what DNSSEC does not protect.
    let glue = good
        .lines()
        .rfind(|l| l.contains("\tA\t"))
        .unwrap()
        .to_owned();
    let other = format!("{}\tA\t192.0.2.99", glue.split("\tA\t").next().unwrap());
    fs::write(&file, good.replace(&glue, &other)).unwrap();
    add_file(&site, ".", &file);
    let status = site.await_status(".", "refused", |s| s.to_string().contains("Z129"));
    assert!(status["published"].is_null());
    fs::write(&file, &good).unwrap();
    site.ok(&["zone", "reload", "."]);
    site.await_published(".", 2018020102);
    // A digest that is missing, by a policy that demands one.
    let bare = site.write("zones/example.net", SMALL);
    add_file(&site, ZONE, &bare);
    let status = site.await_status(ZONE, "refused", |s| s.to_string().contains("Z129"));
    assert!(status.to_string().contains("no ZONEMD record"), "{status}");
}

#[test]
fn transfers_are_compared_with_their_digest() {
    let site = site_with_policy("[loader]\nzonemd = \"if-present\"\n");
    let digested = |serial: u32, more: &str| {
        let text = SMALL.replace("master 1", &format!("master {serial}"));
        let file = with_digest(site.folder(), &format!("{text}{more}"), ZONE)?;
        Some(fs::read_to_string(file).unwrap())
    };
    let Some(good) = digested(1, "") else {
        eprintln!("ldns-signzone is not installed");
        return;
    };
    let Some(primary) = Primary::start(Program::Bind, site.folder(), ZONE, &good, true) else {
        eprintln!("named is not installed");
        return;
    };
    site.ok(&[
        "zone",
        "add",
        ZONE,
        "--policy",
        "p",
        "--source",
        &primary.source(None),
    ]);
    site.await_published(ZONE, 1);
    // A change by somebody who does not know of the digest.
    let stale = digested(2, "").unwrap().replace("192.0.2.2", "192.0.2.77");
    primary.publish(&stale, 2);
    site.ok(&["zone", "reload", "--refresh", ZONE]);
    let status = site.await_status(ZONE, "refused", |s| {
        s["primaries"]["error"].to_string().contains("Z129")
    });
    assert_eq!(status["published"]["serial"], site.served_serial(ZONE));
    assert_eq!(
        site.ask(&["www.example.net", "A"]).rdata("A"),
        ["192.0.2.2"]
    );
    primary.publish(&digested(3, "new TXT \"3\"\n").unwrap(), 3);
    site.ok(&["zone", "reload", "--refresh", ZONE]);
    let status = site.await_published(ZONE, 3);
    // Differences do not show the whole.
    assert_eq!(status["primaries"]["kind"], "AXFR");
}
