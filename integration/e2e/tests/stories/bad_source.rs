//! Zone files that are wrong, before and after a good one.

use std::os::unix::fs::PermissionsExt;

use cascade_e2e::until;

use crate::common::{SEED, add, change, seed_with_serial, site_with_policy};

const ZONE: &str = "example.net";

#[test]
fn a_bad_file_leaves_the_published_version_alone() {
    let site = site_with_policy("");
    add(&site, ZONE, SEED);
    site.await_published(ZONE, 1);
    let serial = site.served_serial(ZONE);
    let many = "x AAA 192.0.2.1\n".repeat(300);
    let bad = [
        ("www AAA 192.0.2.7\n", "Z002"),
        ("www CNAME ns\nwww A 192.0.2.7\n", "Z106"),
        ("www.example.org. A 192.0.2.7\n", "Z105"),
        ("$INCLUDE /etc/passwd\n", "Z011"),
        ("t TXT \"never closed\n", "Z006"),
        ("\u{1}\u{2}\u{3}\n", "Z0"),
        (many.as_str(), "Z002"),
    ];
    for (text, code) in bad {
        change(&site, ZONE, &format!("{}{text}", seed_with_serial(2)));
        until(&format!("{code} in the history"), || {
            let history = site.ok(&["zone", "history", ZONE]);
            history.contains(code).then_some(())
        });
        assert_eq!(site.served_serial(ZONE), serial, "after {text:?}");
        let status = site.ok(&["zone", "status", ZONE]);
        assert!(
            !status.contains('\u{1}'),
            "control characters reached the terminal"
        );
    }
    change(&site, ZONE, &seed_with_serial(3));
    site.await_published(ZONE, 3);
}

#[test]
fn an_empty_or_missing_file_leaves_the_published_version_alone() {
    let site = site_with_policy("");
    add(&site, ZONE, SEED);
    site.await_published(ZONE, 1);
    let serial = site.served_serial(ZONE);
    change(&site, ZONE, "");
    until("Z101 in the history", || {
        site.ok(&["zone", "history", ZONE])
            .contains("Z101")
            .then_some(())
    });
    std::fs::remove_file(site.path("zones/example.net")).unwrap();
    let _ = site.cascade(&["zone", "reload", ZONE]);
    until("the path in the history", || {
        site.ok(&["zone", "history", ZONE])
            .contains("zones/example.net")
            .then_some(())
    });
    assert_eq!(site.served_serial(ZONE), serial);
}

#[test]
fn a_source_that_cannot_be_read_is_told_when_the_zone_is_added() {
    let site = site_with_policy("");
    let absent = site.path("zones/absent");
    let absent = absent.to_str().unwrap();
    site.cascade(&["zone", "add", ZONE, "--source", absent, "--policy", "p"])
        .expect(1)
        .complains(&[absent]);
    let folder = site.path("zones");
    site.cascade(&[
        "zone",
        "add",
        ZONE,
        "--source",
        folder.to_str().unwrap(),
        "--policy",
        "p",
    ])
    .expect(1)
    .complains(&[folder.to_str().unwrap()]);
    assert_eq!(site.ok(&["zone", "list"]), "");
    // Unless the operator knows that it comes later.
    site.ok(&[
        "zone",
        "add",
        ZONE,
        "--source",
        absent,
        "--policy",
        "p",
        "--allow-missing",
    ]);
    assert_eq!(site.ok(&["zone", "list", "-q"]), "example.net\n");
    std::fs::write(absent, SEED).unwrap();
    site.ok(&["zone", "reload", ZONE]);
    site.await_published(ZONE, 1);
}

#[test]
fn a_file_of_another_zone() {
    let site = site_with_policy("");
    let file = site.write("zones/other", &SEED.replace("example.net", "example.org"));
    site.cascade(&[
        "zone",
        "add",
        ZONE,
        "--source",
        file.to_str().unwrap(),
        "--policy",
        "p",
    ])
    .expect(1)
    .complains(&["example.org", "example.net"]);
    assert_eq!(site.ok(&["zone", "list"]), "");
}

#[test]
fn many_errors_are_counted_and_shown_with_their_places() {
    let site = site_with_policy("");
    add(&site, ZONE, SEED);
    site.await_published(ZONE, 1);
    let text = format!(
        "{}www AAA 192.0.2.7\nmail MX ten mail\n",
        seed_with_serial(2)
    );
    change(&site, ZONE, &text);
    let detail = until("the diagnostics", || {
        let detail = site.ok(&["zone", "status", ZONE, "--detailed"]);
        detail.contains("Z002").then_some(detail)
    });
    assert!(detail.contains("zones/example.net:5:"), "{detail}");
}

#[test]
fn a_file_that_nobody_may_read() {
    let site = site_with_policy("");
    let file = site.write("zones/example.net", SEED);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(&file).is_ok() {
        // Root reads everything; then there is nothing to refuse.
        add(
            &site,
            "example.com",
            &SEED.replace("example.net", "example.com"),
        );
        return;
    }
    let said = site.cascade(&[
        "zone",
        "add",
        ZONE,
        "--source",
        file.to_str().unwrap(),
        "--policy",
        "p",
    ]);
    said.expect(1).complains(&[file.to_str().unwrap(), "read"]);
}
