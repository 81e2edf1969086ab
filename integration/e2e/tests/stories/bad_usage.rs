//! Wrong use of the command line: exit code, name of the thing, next step.

use cascade_e2e::Site;

use crate::common::{SEED, add, site_with_policy};

#[test]
fn usage_errors_send_nothing() {
    // No daemon: a command that was sent would end with 5.
    let site = Site::new();
    for args in [
        ["zone"].as_slice(),
        &["zone", "ad"],
        &["zone", "add"],
        &["zone", "add", "example.net"],
        &[
            "zone",
            "add",
            "example..net",
            "--source",
            "/x",
            "--policy",
            "p",
        ],
        &[
            "zone",
            "add",
            "example.net",
            "--source",
            "ns1.example.net",
            "--policy",
            "p",
        ],
        &["zone", "approve", "--unsigned", "example.net", "four"],
        &["zone", "approve", "--unsigned", "example.net", "4294967296"],
        &["zone", "status", "example.net", "--timeout", "soon"],
        &["--server", "ftp://example.net", "status"],
        &["no-such-command"],
    ] {
        site.cascade(args).expect(2);
    }
}

#[test]
fn nobody_is_there() {
    let site = Site::new();
    let socket = site.socket();
    site.cascade(&["status"])
        .expect(5)
        .complains(&[socket.to_str().unwrap(), "systemctl status cascaded"]);
    let port = site.http_port().to_string();
    let said = site
        .cascade(&["--server", &format!("127.0.0.1:{port}"), "status"])
        .expect(5);
    assert!(said.stderr.contains(&port), "{said}");
}

#[test]
fn unknown_things_have_near_names() {
    let site = site_with_policy("");
    add(&site, "example.net", SEED);
    site.cascade(&["zone", "status", "exmaple.net"])
        .expect(3)
        .complains(&[
            "Error: ",
            "exmaple.net",
            "Did you mean 'example.net'?",
            "Try: cascade zone list",
        ]);
    site.cascade(&["policy", "show", "pp"])
        .expect(3)
        .complains(&["pp"]);
    let file = site.write("zones/x", SEED);
    site.cascade(&[
        "zone",
        "add",
        "example.org",
        "--source",
        file.to_str().unwrap(),
        "--policy",
        "q",
    ])
    .expect(3)
    .complains(&["q"]);
    for command in [
        ["zone", "reload", "no.example"].as_slice(),
        &["zone", "reset", "no.example"],
        &["zone", "history", "no.example"],
        &["zone", "remove", "no.example", "--yes"],
        &["zone", "approve", "--signed", "no.example", "1"],
        &["keyset", "no.example", "list"],
    ] {
        site.cascade(command).expect(3).complains(&["no.example"]);
    }
}

#[test]
fn errors_are_documents_with_json() {
    let site = Site::started();
    let said = site
        .cascade(&["zone", "status", "no.example", "--json"])
        .expect(3);
    assert_eq!(said.stdout, "");
    let problem: serde_json::Value = serde_json::from_str(&said.stderr).unwrap();
    assert_eq!(problem["status"], 404);
    assert_eq!(problem["type"], "urn:cascade:problem:zone-not-found");
    assert!(
        problem["action"].is_string() && problem["detail"].is_string(),
        "{problem:#}"
    );
}

#[test]
fn empty_lists_say_how_to_begin() {
    let site = Site::started();
    for (args, hint) in [
        (["zone", "list"], "cascade zone add"),
        (["policy", "list"], "cascade template policy"),
    ] {
        let said = site.cascade(&args).expect(0);
        assert_eq!(said.stdout, "");
        assert!(said.stderr.contains(hint), "{said}");
    }
}

#[test]
fn names_in_all_their_forms() {
    let site = site_with_policy("");
    add(&site, "example.net", SEED);
    site.await_published("example.net", 1);
    for name in ["example.net.", "EXAMPLE.net", "ex\\097mple.net"] {
        let text = site.ok(&["zone", "status", name]);
        assert!(
            text.starts_with("Status report for zone 'example.net'"),
            "{text}"
        );
    }
    let odd = "0/25.2.0.192.in-addr.arpa";
    let file = site.write(
        "zones/odd",
        "@ 60 IN SOA ns.example.net. h.example.net. 1 7200 3600 1209600 300\n@ NS ns.example.net.\n",
    );
    site.ok(&[
        "zone",
        "add",
        odd,
        "--source",
        file.to_str().unwrap(),
        "--policy",
        "p",
    ]);
    let status = site.cascade(&["zone", "status", odd]).expect(0);
    assert!(status.stdout.contains(odd), "{status}");
    site.ok(&["zone", "remove", odd, "--yes"]);
    assert_eq!(site.ok(&["zone", "list", "-q"]), "example.net\n");
}

#[test]
fn every_command_has_help() {
    let site = Site::new();
    for args in [
        ["--help"].as_slice(),
        &["zone", "--help"],
        &["zone", "add", "--help"],
        &["help", "zone"],
    ] {
        let said = site.cascade(args).expect(0);
        assert!(said.stdout.contains("Usage:"), "{said}");
    }
    let version = site.cascade(&["--version"]).expect(0);
    assert!(version.stdout.starts_with("cascade "), "{version}");
}
