//! Every command against a table of answers: what is asked, what is printed, how it ends.

mod mock;

use std::process::{Command, Stdio};

use mock::{Said, cascade, daemon, said};

const ZONE: &str = r#"{"zone":"example.net","id":"01JD","policy":"nethsm","state":"loading","source":{"kind":"file","path":"/etc/cascade/zones/example.net"},"added_at":"2026-11-23T13:00:00Z","published":null,"operation":"op-91","warnings":[]}"#;
const ACCEPTED: &str = r#"{"zone":"example.net","operation":"op-1"}"#;

/// Arguments separated by blanks, request, answer, exit code, stdout.
fn rows() -> Vec<(&'static str, &'static str, Said, i32, String)> {
    let s = |t: &str| t.to_string();
    vec![
        (
            "zone add --source /etc/cascade/zones/example.net --policy nethsm example.net",
            "POST /v1/zones",
            said(201, ZONE),
            0,
            s("Added zone example.net\n"),
        ),
        (
            "zone add --source none --policy nethsm example.net --dry-run",
            "POST /v1/zones?dry_run=true",
            said(200, ZONE),
            0,
            s("Zone example.net could be added\n"),
        ),
        (
            "zone status Example.NET.",
            "GET /v1/zones/example.net/status",
            said(200, include_str!("data/status.json")),
            0,
            String::new(),
        ),
        (
            "zone list",
            "GET /v1/zones?limit=1000",
            said(
                200,
                r#"{"items":[{"zone":"example.net","id":"01","policy":"nethsm","state":"published","serial":1,"runway_secs":86400,"notes":["pinned"]}],"next":null}"#,
            ),
            0,
            s(
                "ZONE         POLICY  STATE      SERIAL  RUNWAY  NOTES\nexample.net  nethsm  published  1       1d      pinned\n",
            ),
        ),
        (
            "zone list -q --policy p --state halted --halted",
            "GET /v1/zones?policy=p&state=halted&halted=true&limit=1000",
            said(
                200,
                r#"{"items":[{"zone":"example.net","id":"01","policy":"p","state":"halted","serial":null,"runway_secs":null}],"next":null}"#,
            ),
            0,
            s("example.net\n"),
        ),
        (
            "zone show example.net",
            "GET /v1/zones/example.net",
            said(200, ZONE),
            0,
            String::new(),
        ),
        (
            "zone remove example.net --purge-keys",
            "DELETE /v1/zones/example.net?keys=purge",
            said(204, ""),
            0,
            s("Removed zone example.net\n"),
        ),
        (
            "zone reload example.net --refresh",
            "POST /v1/zones/example.net/reload",
            said(202, ACCEPTED),
            0,
            s("Success: Sent zone reload command for example.net\n"),
        ),
        (
            "zone resign example.net",
            "POST /v1/zones/example.net/resign",
            said(202, ACCEPTED),
            0,
            s("Success: Requested re-signing of example.net\n"),
        ),
        (
            "zone approve --signed example.net 7",
            "POST /v1/zones/example.net/reviews/signed/7/approve",
            said(
                200,
                r#"{"zone":"example.net","stage":"signed","serial":7,"version":"v1","verdict":"approved","by":"uid:0","at":"2026-11-23T13:00:00Z","then":"publish"}"#,
            ),
            0,
            s("Approved signed zone 'example.net' with serial number 7\n"),
        ),
        (
            "zone reject --unsigned example.net 7",
            "POST /v1/zones/example.net/reviews/unsigned/7/reject",
            said(
                200,
                r#"{"zone":"example.net","stage":"unsigned","serial":7,"version":"v1","verdict":"rejected","by":"uid:0","at":"2026-11-23T13:00:00Z","then":"discard"}"#,
            ),
            0,
            s("Rejected unsigned zone 'example.net' with serial number 7\n"),
        ),
        (
            "zone override --signed example.net",
            "POST /v1/zones/example.net/reviews/signed/override",
            said(202, ACCEPTED),
            0,
            s("Overridden signed review for 'example.net'\n"),
        ),
        (
            "zone reset example.net",
            "POST /v1/zones/example.net/reset",
            said(202, ACCEPTED),
            0,
            s("Reset the pipeline for zone 'example.net'\n"),
        ),
        (
            "zone history example.net --kind publish",
            "GET /v1/zones/example.net/history?limit=100&kind=publish",
            said(
                200,
                r#"{"items":[{"seq":1,"at":"2026-11-23T13:00:00Z","kind":"publish","event":"zone.published","version":"v1","serial":7,"detail":"Published version 7","cause":"approval","actor":"uid:0(root)"}],"next":null}"#,
            ),
            0,
            s(
                "Timestamp                  Serial  Event\n2026-11-23T13:00:00+00:00  7       Published version 7, by uid:0(root), because of approval\n",
            ),
        ),
        (
            "zone maintenance enable example.net",
            "PUT /v1/zones/example.net/maintenance",
            said(
                200,
                r#"{"since":"2026-11-23T13:00:00Z","until":null,"resign":true}"#,
            ),
            0,
            s(
                "Maintenance mode for zone 'example.net' is now enabled\nLeave it with: cascade zone maintenance disable example.net\n",
            ),
        ),
        (
            "zone maintenance disable example.net",
            "DELETE /v1/zones/example.net/maintenance",
            said(204, ""),
            0,
            s("Maintenance mode for zone 'example.net' is now disabled\n"),
        ),
        (
            "zone rollback example.net --to v41 --yes",
            "POST /v1/zones/example.net/rollback",
            said(
                202,
                r#"{"zone":"example.net","operation":"op-7","detail":"v41 (serial 5)"}"#,
            ),
            0,
            s("Rolling back zone example.net to v41 (serial 5); pinned\n"),
        ),
        (
            "zone rollback example.net --no-pin --dry-run",
            "POST /v1/zones/example.net/rollback?dry_run=true",
            said(
                200,
                r#"{"zone":"example.net","detail":"the content of v41"}"#,
            ),
            0,
            s("Would roll back zone example.net: the content of v41\n"),
        ),
        (
            "zone pin example.net --version v42",
            "PUT /v1/zones/example.net/pin",
            said(
                200,
                r#"{"version":"v42","since":"2026-11-23T13:00:00Z","until":null}"#,
            ),
            0,
            s("Pinned zone example.net to v42\n"),
        ),
        (
            "zone unpin example.net",
            "DELETE /v1/zones/example.net/pin",
            said(204, ""),
            0,
            s("Unpinned zone example.net\n"),
        ),
        (
            "zone edit example.net --policy b",
            "PATCH /v1/zones/example.net",
            said(
                200,
                r#"{"zone":"example.net","id":"01JD","policy":"b","previous_policy":"a","state":"published","source":{"kind":"none"},"added_at":"2026-11-23T13:00:00Z","published":null}"#,
            ),
            0,
            s("Changed zone example.net: policy a -> b\n"),
        ),
        (
            "zone diff example.net",
            "GET /v1/zones/example.net/diff?from=previous&to=current",
            said(
                200,
                r#"{"zone":"example.net","stage":"signed","from":{"version":"v41","serial":1},"to":{"version":"v42","serial":2},"counts":{"added":1,"removed":1,"rrsets_changed":1,"signatures":3,"denial":0},"changes":[{"op":"-","record":"www.example.net. 3600 IN A 192.0.2.1"},{"op":"+","record":"www.example.net. 3600 IN A 192.0.2.7"}]}"#,
            ),
            0,
            s(
                "example.net: v41 (1) -> v42 (2), signed: 1 added, 1 removed, 1 RRsets changed, 3 signatures, 0 denial\n- www.example.net. 3600 IN A 192.0.2.1\n+ www.example.net. 3600 IN A 192.0.2.7\n",
            ),
        ),
        (
            "why example.net",
            "GET /v1/zones/example.net/why",
            said(
                200,
                r#"{"zone":"example.net","summary":"KSK roll waits for the parent","since":null,"acts":"parent","evidence":[{"what":"ds","at":"192.0.2.53","name":"ns1.parent.example","found":[54321],"expected":[31203],"ttl_secs":86400,"asked_at":"2026-11-23T13:32:00Z"}],"next_at":"2026-11-23T14:02:00Z","runway_secs":1051200,"actions":["cascade keyset example.net get ds"]}"#,
            ),
            0,
            s(
                "example.net: KSK roll waits for the parent.\n  Evidence  ns1.parent.example 192.0.2.53 has DS 54321 only (TTL 86400), asked 2026-11-23T13:32:00+00:00\n            expected DS 31203\n  Next      asks again at 2026-11-23T14:02:00+00:00\n  Safe      signatures valid for 12d 4h; nothing breaks while this waits\n  Try       cascade keyset example.net get ds\n",
            ),
        ),
        (
            "policy reload",
            "POST /v1/policies/reload",
            said(
                200,
                r#"{"changes":[{"policy":"a","change":"unchanged"},{"policy":"nethsm","change":"added"}],"warnings":[],"plan":null}"#,
            ),
            0,
            s("Policies reloaded:\n- a      unchanged\n- nethsm added\n"),
        ),
        (
            "policy list",
            "GET /v1/policies?limit=1000",
            said(
                200,
                r#"{"items":[{"policy":"nethsm","zones":1,"hsm":"kmip2pkcs11","algorithms":["ECDSAP256SHA256"],"state":"changed-on-disk"}],"next":null}"#,
            ),
            0,
            s(
                "POLICY  ZONES  HSM          ALGORITHMS       STATE\nnethsm  1      kmip2pkcs11  ECDSAP256SHA256  changed on disk\n",
            ),
        ),
        (
            "policy show nethsm",
            "GET /v1/policies/nethsm",
            said(
                200,
                r#"{"policy":"nethsm","state":"active","zones":1,"hsm":null,"algorithms":[],"file":"/p","effective":"version = \"v1\"\n"}"#,
            ),
            0,
            s("version = \"v1\"\n"),
        ),
        (
            "policy check nethsm",
            "POST /v1/policies/check",
            said(
                200,
                r#"{"findings":[{"file":"nethsm.toml","line":41,"column":1,"code":"P21","level":"warning","detail":"long","suggestion":null}]}"#,
            ),
            8,
            s("nethsm.toml:41:1: warning P21: long\n"),
        ),
        (
            "keyset example.net get DS",
            "GET /v1/zones/example.net/key-records/ds",
            said(
                200,
                r#"{"records":["example.net. 3600 IN DS 31203 13 2 9F3C"]}"#,
            ),
            0,
            s("example.net. 3600 IN DS 31203 13 2 9F3C\n"),
        ),
        (
            "keyset example.net list",
            "GET /v1/zones/example.net/keys?limit=1000",
            said(
                200,
                r#"{"items":[{"id":"k7","tag":31203,"role":"csk","algorithm":13,"state":"active","expires_at":null,"hsm":null,"reference":"file:///k"}],"next":null}"#,
            ),
            0,
            s(
                "TAG    ROLE  ALG              STATE   SINCE  NEXT  WHERE  LABEL\n31203  CSK   ECDSAP256SHA256  Active  -      -     files  -\n",
            ),
        ),
        (
            "keyset example.net ksk start-roll",
            "POST /v1/zones/example.net/rolls/ksk/start",
            said(
                200,
                r#"{"kind":"ksk","type":"double-signature","state":"x","old":[],"new":[],"waits_for":null}"#,
            ),
            0,
            s("Manual key roll for example.net successful\n"),
        ),
        (
            "hsm add --insecure --username 0 --password 123456 kmip2pkcs11 127.0.0.1",
            "POST /v1/hsms",
            said(
                201,
                r#"{"hsm":"kmip2pkcs11","vendor":"kmip2pkcs11 1.0.0 using PKCS#11 token with label LocalHSM in slot NetHSM via library nethsm-pkcs11.so","endpoints":[],"algorithms":[],"warnings":[]}"#,
            ),
            0,
            s(
                "Added KMIP server 'kmip2pkcs11 1.0.0 using PKCS#11 token with label LocalHSM in slot NetHSM via library nethsm-pkcs11.so'\n",
            ),
        ),
        (
            "tsig add hmac-sha512:xfr1:c2VjcmV0",
            "POST /v1/tsig-keys",
            said(201, r#"{"name":"xfr1","algorithm":"hmac-sha512"}"#),
            0,
            s("Added TSIG key 'xfr1'\n"),
        ),
        (
            "tsig remove xfr1",
            "DELETE /v1/tsig-keys/xfr1",
            said(204, ""),
            0,
            s("Removed TSIG key xfr1\n"),
        ),
        (
            "token add ops1 --role operator",
            "POST /v1/tokens",
            said(201, r#"{"name":"ops1","token":"cas_x","expires_at":null}"#),
            0,
            s("cas_x\n"),
        ),
        (
            "status",
            "GET /v1/status",
            said(
                200,
                r#"{"addresses":{"loaded_review":["127.0.0.1:4541"],"signed_review":["127.0.0.1:4542"],"server":["127.0.0.1:4543"]},"zones":{"configured":12,"published":11,"halted":[{"zone":"example.org","reason":"unsigned version 2026112301 rejected by review"}]},"queue":[]}"#,
            ),
            0,
            s(
                "Serving zones at the following addresses:\n  Loaded review:\n    - 127.0.0.1:4541\n  Signed review:\n    - 127.0.0.1:4542\n  Server:\n    - 127.0.0.1:4543\n\nZones: 12 configured, 11 published, 1 halted\nThe following zones are halted:\n  x example.org: unsigned version 2026112301 rejected by review (try: cascade why example.org)\n\nSigning queue:\n  The signing queue is currently empty.\n",
            ),
        ),
        (
            "status keys",
            "GET /v1/status/keys",
            said(
                200,
                r#"{"first_to_expire":[{"zone":"z","key":"k","left_secs":86400}],"zones":[]}"#,
            ),
            0,
            s("First to expire (max 5):\n  z: key k: 1d left\n\nKeys per zone:\n"),
        ),
        (
            "health",
            "GET /v1/health",
            said(
                200,
                r#"{"healthy":true,"level":"ok","at":"2026-11-23T13:00:00Z","checks":[]}"#,
            ),
            0,
            s("Ok\n"),
        ),
        (
            "health --deep",
            "GET /v1/health/deep",
            said(
                503,
                r#"{"healthy":false,"level":"critical","at":"2026-11-23T13:00:00Z","checks":[{"check":"runway","subject":{"kind":"zone","name":"example.net"},"level":"critical","since":null,"acts":"token","detail":"signatures end in 1d 3h; HSM kmip2pkcs11 down for 5h","action":"cascade why example.net"}]}"#,
            ),
            7,
            s(
                "Not healthy: 1 critical\ncritical  zone example.net  signatures end in 1d 3h; HSM kmip2pkcs11 down for 5h  -> cascade why example.net\n",
            ),
        ),
        (
            "info",
            "GET /v1/info",
            said(
                200,
                r#"{"version":"1.0.0","commit":null,"api":"1.4","started_at":"2026-11-23T13:00:00Z","schema":3,"features":[],"later":true}"#,
            ),
            0,
            s("Cascade daemon version: 1.0.0\n"),
        ),
        (
            "clock confirm",
            "POST /v1/clock/confirm",
            said(
                200,
                r#"{"stepped_secs":10800,"held_since":"2026-11-23T13:00:00Z","now":"2026-11-23T13:10:00Z","zones":2}"#,
            ),
            0,
            s(
                "Confirmed the clock: it is 2026-11-23T13:10:00Z, after a step of 3h forward; 2 zones go on\n",
            ),
        ),
        (
            "debug change-logging -l debug --trace-targets a,b",
            "PATCH /v1/logging",
            said(200, r#"{"level":"debug","targets":["a","b"],"until":null}"#),
            0,
            s("Changed log-level to: debug\nChanged trace targets to: a, b\n"),
        ),
    ]
}

#[test]
fn every_command_in_text_and_json() {
    for (args, request, answer, code, stdout) in rows() {
        let d = daemon(vec![(request, answer.clone())]);
        let args: Vec<&str> = args.split(' ').collect();
        let text = d.run(&args);
        assert_eq!(text.code, code, "{args:?} {text:?}");
        assert_eq!(text.stderr, "", "{args:?}");
        if !stdout.is_empty() {
            assert_eq!(text.stdout, stdout, "{args:?}");
        }
        assert_eq!(d.heard()[0].0, request, "{args:?}");
        let json = d.run(&[&args[..], &["--json"]].concat());
        assert_eq!(json.code, code, "{args:?} {json:?}");
        let compact = |t: &str| serde_json::from_str::<serde_json::Value>(t).ok();
        assert_eq!(
            compact(&json.stdout),
            compact(&answer.body),
            "{args:?} {json:?}"
        );
    }
}

#[test]
fn quiet_changes_say_nothing() {
    let d = daemon(vec![("POST /v1/zones", said(201, ZONE))]);
    let o = d.run(&[
        "zone",
        "add",
        "-q",
        "--source",
        "none",
        "--policy",
        "p",
        "example.net",
    ]);
    assert_eq!((o.code, o.stdout.as_str(), o.stderr.as_str()), (0, "", ""));
}

#[test]
fn names_of_every_kind() {
    for (zone, target) in [
        (
            "0/25.2.0.192.in-addr.arpa",
            "GET /v1/zones/0%2F25.2.0.192.in-addr.arpa",
        ),
        ("a%b.example", "GET /v1/zones/a%25b.example"),
        ("what?.example", "GET /v1/zones/what%3F.example"),
        ("a\\046b.example", "GET /v1/zones/a%5C046b.example"),
        (".", "GET /v1/zones/@"),
    ] {
        let d = daemon(vec![(target, said(200, ZONE))]);
        let o = d.run(&["zone", "show", zone]);
        assert_eq!(o.code, 0, "{zone}: {o:?}");
    }
}

fn problem(kind: &str, status: u16, rest: &str) -> Said {
    said(
        status,
        format!(r#"{{"type":"urn:cascade:problem:{kind}","title":"T","status":{status},{rest}}}"#),
    )
}

#[test]
fn errors_name_thing_and_remedy() {
    let unknown = problem(
        "zone-not-found",
        404,
        r#""detail":"zone 'exmaple.net' is not known","suggestion":"example.net","action":"cascade zone list","state":"nothing changed""#,
    );
    let d = daemon(vec![("GET /v1/zones/exmaple.net/status", unknown.clone())]);
    let o = d.run(&["zone", "status", "exmaple.net"]);
    assert_eq!(o.code, 3);
    assert_eq!(o.stdout, "");
    assert_eq!(
        o.stderr,
        "Error: zone 'exmaple.net' is not known.\n  Did you mean 'example.net'?\n  Try: cascade zone list\n"
    );
    let o = d.run(&["zone", "status", "exmaple.net", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&o.stderr).expect("a problem document");
    assert_eq!(document["type"], "urn:cascade:problem:zone-not-found");

    for (answer, code, says) in [
        (
            problem(
                "not-allowed",
                403,
                r#""detail":"uid:1000(alice) has role viewer","action":"run as root or join group cascade""#,
            ),
            4,
            "join group cascade",
        ),
        (
            problem("not-authenticated", 401, r#""detail":"no credentials""#),
            4,
            "no credentials",
        ),
        (
            problem(
                "zone-exists",
                409,
                r#""detail":"zone exists","action":"cascade zone edit example.net""#,
            ),
            1,
            "cascade zone edit example.net",
        ),
        (
            problem(
                "starting",
                503,
                r#""detail":"zones are being restored","retry_after_secs":2"#,
            ),
            5,
            "Possible again in 2 s",
        ),
        (
            problem("timeout", 504, r#""detail":"too slow""#),
            5,
            "too slow",
        ),
        (
            problem(
                "policy-invalid",
                422,
                r#""detail":"2 errors in policies","errors":[{"file":"a.toml","line":3,"column":1,"detail":"key 'x' is not known","suggestion":"y"},{"file":"b.toml","line":9,"column":2,"detail":"bad","suggestion":null}]"#,
            ),
            1,
            "  a.toml:3:1: key 'x' is not known (did you mean 'y'?)\n  b.toml:9:2: bad\n",
        ),
        (
            problem(
                "bug",
                500,
                r#""detail":"the daemon has a bug","state":"not known""#,
            ),
            1,
            "State: not known",
        ),
        (said(502, "<html>"), 1, "not understood"),
        (
            Said {
                api: "2.0",
                ..said(200, "{}")
            },
            1,
            "version 2.0",
        ),
    ] {
        let d = daemon(vec![("POST /v1/zones/example.net/reload", answer)]);
        let o = d.run(&["zone", "reload", "example.net"]);
        assert_eq!(o.code, code, "{o:?}");
        assert!(
            o.stderr.starts_with("Error: ") && o.stderr.contains(says),
            "{o:?}"
        );
        assert_eq!(o.stdout, "");
    }
}

#[test]
fn absent_and_silent_daemons() {
    let o = cascade("unix:/nonexistent/s", &["info"], "");
    assert_eq!(o.code, 5);
    assert!(
        o.stderr.contains("unix:/nonexistent/s") && o.stderr.contains("systemctl status cascaded"),
        "{o:?}"
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _silent = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let o = cascade(
        &format!("unix:{}", path.display()),
        &["info", "--timeout", "1"],
        "",
    );
    assert_eq!(o.code, 5, "{o:?}");
    assert!(o.stderr.contains("within 1 s"), "{o:?}");
}

#[test]
fn confirmation() {
    let wants = problem(
        "confirmation-required",
        409,
        r#""detail":"a DS of example.net is at the parent","plan":"p-1","effects":["resolvers will fail"]"#,
    );
    let rows = || {
        vec![
            ("DELETE /v1/zones/example.net?keys=keep", wants.clone()),
            (
                "DELETE /v1/zones/example.net?keys=keep&confirm=p-1&yes=true",
                said(204, ""),
            ),
        ]
    };
    let d = daemon(rows());
    let o = d.run(&["zone", "remove", "example.net"]);
    assert_eq!(o.code, 1);
    assert!(
        o.stderr
            .contains("A DS of example.net is at the parent:\n  resolvers will fail\n")
            && o.stderr.contains("--yes"),
        "{o:?}"
    );
    assert_eq!(d.heard().len(), 1);
    let d = daemon(rows());
    let o = d.run(&["zone", "remove", "example.net", "--yes"]);
    assert_eq!(
        (o.code, o.stdout.as_str()),
        (0, "Removed zone example.net\n"),
        "{o:?}"
    );
}

#[test]
fn waiting() {
    let op = |state: &str| {
        said(
            200,
            format!(
                r#"{{"operation":"op-1","kind":"reload","zone":"example.net","state":"{state}","started_at":"2026-11-23T13:00:00Z","finished_at":null,"step":"{state} step"}}"#
            ),
        )
    };
    for (last, code) in [("done", 0), ("rejected", 7), ("halted", 7), ("failed", 7)] {
        let d = daemon(vec![
            ("POST /v1/zones/example.net/reload", said(202, ACCEPTED)),
            ("GET /v1/operations/op-1", op("running")),
            ("GET /v1/operations/op-1", op(last)),
        ]);
        let o = d.run(&["zone", "reload", "example.net", "--wait"]);
        assert_eq!(o.code, code, "{o:?}");
        assert!(
            o.stderr
                .starts_with(&format!("running step\n{last} step\n")),
            "{o:?}"
        );
    }
    let d = daemon(vec![
        ("POST /v1/zones/example.net/reload", said(202, ACCEPTED)),
        ("GET /v1/operations/op-1", op("running")),
    ]);
    assert_eq!(
        d.run(&["zone", "reload", "example.net", "--wait=1s"]).code,
        6
    );
}

#[test]
fn lists_of_several_pages_and_none() {
    let page = |zone: &str, next: &str| {
        said(
            200,
            format!(
                r#"{{"items":[{{"zone":"{zone}","id":"1","policy":"p","state":"published","serial":1,"runway_secs":1}}],"next":{next}}}"#
            ),
        )
    };
    let d = daemon(vec![
        ("GET /v1/zones?limit=1000", page("a", "\"a\"")),
        ("GET /v1/zones?limit=1000&after=a", page("b", "null")),
    ]);
    assert_eq!(d.run(&["zone", "list", "-q"]).stdout, "a\nb\n");
    let d = daemon(vec![(
        "GET /v1/zones?limit=1000",
        said(200, r#"{"items":[],"next":null}"#),
    )]);
    let o = d.run(&["zone", "list"]);
    assert_eq!((o.code, o.stdout.as_str()), (0, ""));
    assert!(o.stderr.contains("cascade zone add"), "{o:?}");
}

#[test]
fn data_does_not_drive_the_terminal() {
    let d = daemon(vec![(
        "GET /v1/info",
        said(
            200,
            "{\"version\":\"1\\u001b[31m\\u009b\",\"commit\":null,\"api\":\"1.4\",\"started_at\":\"2026-11-23T13:00:00Z\",\"schema\":3,\"features\":[]}",
        ),
    )]);
    assert_eq!(
        d.run(&["info"]).stdout,
        "Cascade daemon version: 1\\027[31m\\u{9b}\n"
    );
}

#[test]
fn policy_warnings_go_to_stderr() {
    let d = daemon(vec![(
        "POST /v1/policies/reload",
        said(
            200,
            r#"{"changes":[{"policy":"nethsm","change":"added"}],"warnings":[{"policy":"nethsm","code":"P04","detail":"HSM 'kmip2pkcs11' is not registered","action":"cascade hsm add kmip2pkcs11 <host>"}],"plan":"p-1"}"#,
        ),
    )]);
    let o = d.run(&["policy", "reload"]);
    assert_eq!(
        (o.code, o.stdout.as_str()),
        (0, "Policies reloaded:\n- nethsm added\n")
    );
    assert_eq!(
        o.stderr,
        "Warning: policy nethsm: HSM 'kmip2pkcs11' is not registered (try: cascade hsm add kmip2pkcs11 <host>)\n"
    );
}

#[test]
fn exports_are_whole_or_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("zone");
    let path = file.to_str().unwrap();
    let d = daemon(vec![(
        "GET /v1/zones/example.net/export",
        said(200, "example.net. 1 IN SOA\n"),
    )]);
    assert_eq!(
        d.run(&["zone", "export", "example.net"]).stdout,
        "example.net. 1 IN SOA\n"
    );
    assert_eq!(
        d.run(&["zone", "export", "example.net", "--output", path])
            .code,
        0
    );
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "example.net. 1 IN SOA\n"
    );
    let d = daemon(vec![(
        "GET /v1/zones/example.net/export",
        problem("version-not-found", 404, r#""detail":"no version""#),
    )]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(
        d.run(&["zone", "export", "example.net", "--output", path])
            .code,
        3
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cascade"))
        .args(["template", "policy"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(0));
    assert_eq!(out.stderr, b"");
}

#[test]
fn what_needs_no_daemon() {
    let run = |args: &[&str]| cascade("unix:/nonexistent/s", args, "");
    let policy = run(&["template", "policy"]);
    assert_eq!((policy.code, policy.stderr.as_str()), (0, ""));
    assert_eq!(
        policy
            .stdout
            .lines()
            .filter(|l| *l == "#hsm-server-id = \"kmip2pkcs11\"")
            .count(),
        1
    );
    assert!(run(&["template", "config"]).stdout.contains("version"));
    assert!(run(&["completions", "bash"]).stdout.contains("cascade"));
    assert!(run(&["man"]).stdout.contains(".TH"));
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(&["man", "--dir", dir.path().to_str().unwrap()]).code, 0);
    assert!(dir.path().join("cascade-zone-add.1").exists());
    assert_eq!(
        run(&["-V"]).stdout,
        concat!("cascade ", env!("CARGO_PKG_VERSION"), "\n")
    );
    assert_eq!(run(&["zone", "frobnicate"]).code, 2);
    assert_eq!(run(&["help", "zone", "add"]).code, 0);
    let file = dir.path().join("p.toml");
    std::fs::write(&file, policy.stdout).unwrap();
    assert_eq!(
        run(&["policy", "check", "--offline", file.to_str().unwrap()]).code % 8,
        0
    );
    std::fs::write(&file, "version = \"v1\"\nnonsense = 1\n").unwrap();
    let o = run(&["policy", "check", "--offline", file.to_str().unwrap()]);
    assert_eq!(o.code, 7, "{o:?}");
    assert!(o.stdout.contains("p.toml:2:1: error "), "{o:?}");
}

#[test]
fn secrets_from_standard_input() {
    let d = daemon(vec![(
        "POST /v1/tsig-keys",
        said(201, r#"{"name":"k","algorithm":"hmac-sha256"}"#),
    )]);
    let server = format!("unix:{}", d.socket.display());
    assert_eq!(
        cascade(
            &server,
            &["tsig", "add", "k", "--secret-stdin"],
            "c2VjcmV0\n"
        )
        .code,
        0
    );
    assert!(d.heard()[0].1.contains("\"secret\":\"c2VjcmV0\""));
}
