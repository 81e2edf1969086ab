//! The walk of the page, with software keys: commands, texts and layout to the letter.

use std::fs;

use cascade_e2e::{Site, mask_times};

use crate::common::SEED;

const STATUS: &str = "\
Status report for zone 'example.net' using policy 'nethsm'
✔ Waited for a new version of the example.net zone
✔ Loaded version 1
  Loaded at TIME (AGE)
  Loaded 196 B and 3 records from the filesystem in 0 seconds
✔ Auto approving signing of version 1, no checks enabled in policy.
✔ Approval received to sign version 1, signing requested
✔ Signed version 1 as version SERIAL
  Signing requested at TIME (AGE)
  Signing started at TIME (AGE)
  Signing finished at TIME (AGE)
  Collected 3 records in 0s, sorted in 0s
  Generated 2 NSEC(3) records in 0s
  Generated 5 signatures in 0s (5 sig/s)
  Inserted signatures in 0s (5 sig/s)
  Took 0s in total, using N threads
  Current action: Finished
✔ Waited for approval to publish version SERIAL
✔ Published version SERIAL
  Published zone available on 127.0.0.1:PORT
";

/// Template, edits, reload, add: the page's steps 11 to 18.
fn walk(edits: &[(&str, &str)]) -> Site {
    let site = Site::started();
    let template = site.cascade(&["template", "policy"]).expect(0);
    assert_eq!(template.stderr, "");
    let mut policy = template.stdout;
    for (from, to) in edits {
        assert_eq!(
            policy.matches(from).count(),
            1,
            "{from:?} stands once in the template"
        );
        policy = policy.replace(from, to);
    }
    fs::write(site.path("policies/nethsm.toml"), policy).unwrap();
    assert_eq!(
        site.ok(&["policy", "reload"]),
        "Policies reloaded:\n- nethsm added\n"
    );
    let file = site.write("zones/example.net", SEED);
    let source = file.to_str().unwrap();
    let add = [
        "zone",
        "add",
        "--source",
        source,
        "--policy",
        "nethsm",
        "example.net",
    ];
    assert_eq!(site.ok(&add), "Added zone example.net\n");
    site.await_published("example.net", 1);
    site
}

#[test]
fn the_page_as_printed() {
    let site = walk(&[]);
    let status = site.cascade(&["zone", "status", "example.net"]).expect(0);
    assert_eq!(mask_times(&status.stdout), STATUS);
    assert_eq!(status.stderr, "");

    let answer = site.ask(&["example.net", "DNSKEY", "+nocrypto", "+norec", "+noedns"]);
    assert_eq!(answer.status, "NOERROR", "{}", answer.text);
    assert_eq!(answer.flags, ["qr", "aa"]);
    let mut keys = answer.rdata("DNSKEY");
    keys.sort();
    assert_eq!(keys.len(), 2, "{}", answer.text);
    assert!(
        keys[0].starts_with("256 3 13 ") && keys[1].starts_with("257 3 13 "),
        "{keys:?}"
    );
    assert!(
        answer
            .answer
            .iter()
            .all(|line| line.starts_with("example.net. 3600 IN DNSKEY"))
    );
    assert!(answer.additional.is_empty() && !answer.text.contains("OPT PSEUDOSECTION"));
}

#[test]
fn one_key_for_ever_and_serials_from_the_clock() {
    let site = walk(&[
        ("use-csk = false", "use-csk = true"),
        (
            "serial-policy = \"date-counter\"",
            "serial-policy = \"unix-time\"",
        ),
    ]);
    let keys = site.ask(&["example.net", "DNSKEY"]).rdata("DNSKEY");
    assert_eq!(keys.len(), 1);
    assert!(keys[0].starts_with("257 3 13 "), "{keys:?}");
    let status = mask_times(&site.ok(&["zone", "status", "example.net"]));
    assert_eq!(status, STATUS);
    assert!(site.served_serial("example.net") > 1_700_000_000);
}

#[test]
fn details_name_the_keys() {
    let site = walk(&[]);
    let text = site.ok(&["zone", "status", "example.net", "--detailed"]);
    let (status, details) = text
        .split_once("DNSSEC keys:\n")
        .expect("the heading of the keys");
    assert_eq!(mask_times(status), STATUS);
    assert!(
        details.contains("  KSK tagged ") && details.contains("  ZSK tagged "),
        "{details}"
    );
    assert_eq!(
        details.matches("    Reference: file://").count(),
        2,
        "{details}"
    );
    assert_eq!(
        details.matches("    Actively used for signing\n").count(),
        2,
        "{details}"
    );
    assert!(
        details.contains("  Details:\n") && details.contains(" expires at "),
        "{details}"
    );
    // The keys are files that nobody else may read.
    let keys = fs::read_dir(site.path("state/keys")).expect("the directory of the keys");
    for entry in keys {
        let path = entry.unwrap().path();
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "{} is open to others", path.display());
    }
}

#[test]
fn repeating_the_steps_changes_nothing() {
    let site = walk(&[]);
    let serial = site.served_serial("example.net");
    assert_eq!(
        site.ok(&["policy", "reload"]),
        "Policies reloaded:\n- nethsm unchanged\n"
    );
    let source = site.path("zones/example.net");
    let source = source.to_str().unwrap();
    site.cascade(&[
        "zone",
        "add",
        "--source",
        source,
        "--policy",
        "nethsm",
        "example.net",
    ])
    .expect(1)
    .complains(&["example.net", "cascade zone edit"]);
    let reload = site.ok(&["zone", "reload", "example.net"]);
    assert_eq!(
        reload,
        "Success: Sent zone reload command for example.net\n"
    );
    site.await_published("example.net", 1);
    assert_eq!(site.served_serial("example.net"), serial);
}

#[test]
fn adding_can_wait_for_the_publication() {
    let site = Site::started();
    site.policy("p", "");
    site.ok(&["policy", "reload"]);
    let file = site.write("zones/example.net", SEED);
    let source = file.to_str().unwrap();
    let add = [
        "zone",
        "add",
        "example.net",
        "--source",
        source,
        "--policy",
        "p",
        "--wait",
    ];
    let said = site.cascade(&add).expect(0);
    assert!(
        said.stdout.starts_with("Added zone example.net\n"),
        "{said}"
    );
    assert_eq!(site.status("example.net")["state"], "published");
}
