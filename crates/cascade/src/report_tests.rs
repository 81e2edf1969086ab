use super::*;

const HEALTHY: &str = include_str!("../tests/data/status.json");

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2025-11-22T15:53:56Z").unwrap()
}

/// The healthy document with changes merged in.
fn with(changes: &str) -> ZoneStatus {
    fn merge(base: &mut serde_json::Value, patch: serde_json::Value) {
        match (base, patch) {
            (serde_json::Value::Object(base), serde_json::Value::Object(patch)) => {
                for (k, v) in patch {
                    merge(base.entry(k).or_insert(serde_json::Value::Null), v);
                }
            }
            (base, patch) => *base = patch,
        }
    }
    let mut doc = serde_json::from_str(HEALTHY).unwrap();
    merge(&mut doc, serde_json::from_str(changes).unwrap());
    serde_json::from_value(doc).unwrap()
}

fn text(changes: &str) -> String {
    report(&with(changes), false, now(), Paint(false))
}

const HEAD: &str = "\
Status report for zone 'example.net' using policy 'nethsm'
✔ Waited for a new version of the example.net zone
";
const LOADED: &str = "\
✔ Loaded version 1
  Loaded at 2025-11-22T14:42:20+00:00 (1h 11m 36s ago)
  Loaded 196 B and 3 records from the filesystem in 0 seconds
";
const APPROVED: &str = "\
✔ Auto approving signing of version 1, no checks enabled in policy.
✔ Approval received to sign version 1, signing requested
";
const SIGNED: &str = "\
✔ Signed version 1 as version 1763826146
  Signing requested at 2025-11-22T15:42:26+00:00 (11m 30s ago)
  Signing started at 2025-11-22T15:42:26+00:00 (11m 30s ago)
  Signing finished at 2025-11-22T15:42:26+00:00 (11m 30s ago)
  Collected 3 records in 0s, sorted in 0s
  Generated 2 NSEC(3) records in 0s
  Generated 5 signatures in 0s (5 sig/s)
  Inserted signatures in 0s (5 sig/s)
  Took 0s in total, using 2 threads
  Current action: Finished
";
const PUBLISHED: &str = "\
✔ Waited for approval to publish version 1763826146
✔ Published version 1763826146
  Published zone available on 127.0.0.1:4543
";

#[test]
fn healthy_and_idle_to_the_byte() {
    assert_eq!(
        text("{}"),
        format!("{HEAD}{LOADED}{APPROVED}{SIGNED}{PUBLISHED}")
    );
}

#[test]
fn colours_only_when_wanted() {
    let coloured = report(&with("{}"), false, now(), Paint(true));
    assert!(coloured.contains("\u{1b}[32m✔\u{1b}[0m Waited"));
    assert!(!text("{}").contains('\u{1b}'));
}

#[test]
fn waiting_for_a_first_version() {
    let report = text(
        r#"{"state":"waiting-source","unsigned":null,"signing":null,"published":null,"signatures":null}"#,
    );
    assert_eq!(
        report,
        "Status report for zone 'example.net' using policy 'nethsm'\n\
         • Waiting for a new version of the example.net zone\n"
    );
}

#[test]
fn waiting_for_its_turn() {
    for (before, said) in [
        (0, "Its turn is next"),
        (1, "Waits for its turn: 1 zone comes first"),
        (1200, "Waits for its turn: 1200 zones come first"),
    ] {
        let report = text(&format!(
            r#"{{"state":"waiting-source","turn":{before},"unsigned":null,"signing":null,"published":null,"signatures":null}}"#,
        ));
        assert_eq!(
            report,
            format!(
                "Status report for zone 'example.net' using policy 'nethsm'\n\
                 • Waiting for a new version of the example.net zone\n  {said}\n"
            )
        );
    }
}

#[test]
fn loading() {
    let changes = r#"{"state":"loading","loading":{"started_at":"2025-11-22T15:53:51Z","size_bytes":2500000,"records":41000}}"#;
    assert_eq!(
        text(changes),
        format!(
            "{HEAD}• Loading ..\n  Loaded 2 MB and 41K records from the filesystem in 5 seconds so far\n\
             ! Version 1763826146 stays published, valid for 13d 23h 50m\n"
        )
    );
}

#[test]
fn loaded_from_servers() {
    let mut doc: serde_json::Value = serde_json::from_str(HEALTHY).unwrap();
    doc["source"] = serde_json::json!({"kind":"servers","servers":[]});
    let s: ZoneStatus = serde_json::from_value(doc).unwrap();
    let shown = report(&s, false, now(), Paint(false));
    assert!(
        shown.contains("  Fetched 196 B and 3 records from the network in 0 seconds\n"),
        "{shown}"
    );
}

#[test]
fn unsigned_review_by_hand() {
    let changes = r#"{"state":"unsigned-review","signing":null,"published":null,"signatures":null,
        "reviews":{"unsigned":{"mode":"manual","status":"pending","addresses":["127.0.0.1:4541"]}}}"#;
    assert_eq!(
        text(changes),
        format!(
            "{HEAD}{LOADED}\
             • Waiting for approval to sign version 1\n\
             ! Zone will be held until manually approved\n\
             \x20 Approve with: cascade zone approve --unsigned example.net 1\n\
             \x20 Reject with: cascade zone reject --unsigned example.net 1\n\
             \x20 Unsigned zone available on 127.0.0.1:4541\n"
        )
    );
}

#[test]
fn unsigned_review_by_hook() {
    let changes = r#"{"state":"unsigned-review","signing":null,"published":null,"signatures":null,
        "reviews":{"unsigned":{"mode":"script","status":"pending","hook":"/usr/bin/check"}}}"#;
    assert!(text(changes).ends_with(
        "• Waiting for approval to sign version 1\n  Configured to invoke /usr/bin/check\n"
    ));
    let held = r#"{"state":"unsigned-review","signing":null,"published":null,"signatures":null,
        "reviews":{"unsigned":{"mode":"script","status":"held","hook":"/usr/bin/check","detail":"the hook timed out after 10m"}}}"#;
    let held = text(held);
    assert!(
        held.contains(
            "  the hook timed out after 10m\n! Zone will be held until manually approved\n"
        ),
        "{held}"
    );
    let approved = r#"{"reviews":{"unsigned":{"mode":"manual","status":"approved"}}}"#;
    assert!(text(approved).contains(
        "✔ Waited for approval to sign version 1\n✔ Approval received to sign version 1, signing requested\n"
    ));
}

#[test]
fn signing_in_progress() {
    let changes = r#"{"state":"signing","published":null,"signatures":null,
        "signing":{"serial":null,"action":"signing","finished_at":null,"signatures":1200,"signatures_planned":3500}}"#;
    assert_eq!(
        text(changes),
        format!(
            "{HEAD}{LOADED}{APPROVED}\
             • Signing version 1 as version <serial number not yet known>\n\
             \x20 Signing requested at 2025-11-22T15:42:26+00:00 (11m 30s ago)\n\
             \x20 Signing started at 2025-11-22T15:42:26+00:00 (11m 30s ago)\n\
             \x20 Generated 1200 of 3500 signatures\n\
             \x20 Current action: Generating signatures\n"
        )
    );
}

#[test]
fn incremental_run_names_what_it_kept() {
    let changes = r#"{"signing":{"signatures_kept":2500,"signatures":3000,"sign_secs":2.9}}"#;
    let report = text(changes);
    assert!(
        report.contains("  Generated 3K signatures in 2s (1K sig/s)\n"),
        "{report}"
    );
    assert!(
        report.contains("  Took 0s in total, using 2 threads, 2K signatures kept\n"),
        "{report}"
    );
}

#[test]
fn verifying_while_an_older_version_is_served() {
    let changes = r#"{"state":"verifying","signing":{"serial":1763829999},
        "verification":{"status":"running","signatures_checked":1200,"signatures_total":3500,"finished_at":null},
        "reviews":{"signed":{"mode":"off","status":"none","addresses":["127.0.0.1:4542"]}}}"#;
    let report = text(changes);
    assert!(
        report.ends_with(
            "• Waiting for approval to publish version 1763829999\n\
             \x20 Verified 1200 of 3500 signatures\n\
             \x20 Signed zone available on 127.0.0.1:4542\n\
             ! Version 1763826146 stays published, valid for 13d 23h 50m\n"
        ),
        "{report}"
    );
}

#[test]
fn signed_review_by_hand() {
    let changes = r#"{"state":"signed-review","published":null,"signatures":null,"signing":{"serial":1763829999},
        "reviews":{"signed":{"mode":"manual","status":"pending","addresses":["127.0.0.1:4542"]}}}"#;
    let report = text(changes);
    assert!(
        report.ends_with(
            "• Waiting for approval to publish version 1763829999\n\
             ! Zone will be held until manually approved\n\
             \x20 Approve with: cascade zone approve --signed example.net 1763829999\n\
             \x20 Reject with: cascade zone reject --signed example.net 1763829999\n\
             \x20 Signed zone available on 127.0.0.1:4542\n"
        ),
        "{report}"
    );
}

#[test]
fn halted() {
    let changes = r#"{"state":"halted","signing":null,
        "reviews":{"unsigned":{"mode":"manual","status":"rejected"}},
        "halted":{"reason":"unsigned version 1 was rejected by review: glue missing","acts":"operator","stage":"unsigned",
                  "since":"2025-11-22T15:00:00Z","actions":["cascade zone reset example.net","cascade zone override --unsigned example.net"]}}"#;
    assert_eq!(
        text(changes),
        format!(
            "{HEAD}{LOADED}\
             x Unsigned version 1 was rejected by review: glue missing: the operator must act\n\
             \x20 Try: cascade zone reset example.net\n\
             \x20 Try: cascade zone override --unsigned example.net\n\
             ! Version 1763826146 stays published, valid for 13d 23h 50m\n"
        )
    );
    let failed = r#"{"state":"halted","signing":{"serial":null,"action":"failed"},
        "halted":{"reason":"no key can sign","acts":"token","stage":"signed","since":"2025-11-22T15:00:00Z"}}"#;
    let failed = text(failed);
    assert!(
        failed.contains("x Signing version 1 as version <serial number not yet known> failed\n"),
        "{failed}"
    );
    assert!(failed.contains("x No key can sign: the operator of the HSM must act\n  Try: cascade zone reset example.net\n"), "{failed}");
    assert_eq!(failed.matches("stays published").count(), 1, "{failed}");
}

#[test]
fn warnings_name_why() {
    let changes = r#"{"maintenance":{"since":"2025-11-22T15:42:26Z","until":null,"resign":true},
        "pin":{"version":"v1","since":"2025-11-22T15:42:26Z","until":"2025-11-23T00:00:00Z"},
        "pauses":[{"stage":"load","since":"2025-11-22T15:42:26Z","until":null}],
        "warnings":[{"detail":"secondary 192.0.2.53 is 2h behind"}]}"#;
    let report = text(changes);
    assert!(
        report.ends_with(
            "! Maintenance mode since 2025-11-22T15:42:26+00:00 (11m 30s ago) (see: cascade why example.net)\n\
             ! Pinned to v1 since 2025-11-22T15:42:26+00:00 (11m 30s ago) until 2025-11-23T00:00:00+00:00 (see: cascade why example.net)\n\
             ! Paused load since 2025-11-22T15:42:26+00:00 (11m 30s ago) (see: cascade why example.net)\n\
             ! Secondary 192.0.2.53 is 2h behind (see: cascade why example.net)\n"
        ),
        "{report}"
    );
}

#[test]
fn detailed() {
    let report = report(&with("{}"), true, now(), Paint(false));
    let reference = "kmip://kmip2pkcs11/keys/3FCCAF83FF24BDE4E0D3EE036ACAD36DEC76BD8A_pub?algorithm=13&flags=257";
    assert!(
        report.ends_with(&format!(
            "DNSSEC keys:\n\
             \x20 CSK tagged 31203:\n\
             \x20   Reference: {reference}\n\
             \x20   Actively used for signing\n\
             \x20 Details:\n\
             \x20   key {reference} does not expire. No validity period is configured for the key type\n\
             Signatures: first expires 2025-12-06T15:42:26+00:00, next refresh 2025-11-29T15:42:26+00:00, runway 13d 23h 50m\n"
        )),
        "{report}"
    );
}

#[test]
fn lives_of_keys() {
    let key = |changes: &str| {
        let mut s = with("{}").keys[0].clone();
        s.reference = "R".into();
        let mut doc = serde_json::to_value(&s).unwrap();
        let patch: serde_json::Value = serde_json::from_str(changes).unwrap();
        for (k, v) in patch.as_object().unwrap() {
            doc[k] = v.clone();
        }
        crate::detail::key_line(&serde_json::from_value(doc).unwrap(), now())
    };
    for (changes, line) in [
        (
            r#"{"expires_at":"2026-01-01T00:00:00Z"}"#,
            "key R expires at 2026-01-01T00:00:00+00:00",
        ),
        (
            r#"{"expires_at":"2025-01-01T00:00:00Z"}"#,
            "key R has expired at 2025-01-01T00:00:00+00:00",
        ),
        (r#"{"state":"generated"}"#, "key R is not yet published"),
        (
            r#"{"imported":true}"#,
            "key R is imported and does not expire",
        ),
        (
            r#"{"state":"retired","remove_at":"2026-01-01T00:00:00Z"}"#,
            "key R is retired and will be removed at 2026-01-01T00:00:00+00:00",
        ),
    ] {
        assert_eq!(key(changes), line);
    }
}

#[test]
fn sizes_counts_rates() {
    assert_eq!(
        [size(1000), size(1001), size(1_000_000), size(1_000_001)],
        ["1000 B", "1 KB", "1000 KB", "1 MB"]
    );
    assert_eq!(
        [count(1000), count(1001), count(9_999_999)],
        ["1000", "1K", "9M"]
    );
    assert_eq!(
        [rate(5, 0.0), rate(10, 2.9), rate(10, f64::NAN)],
        ["5", "5", "10"]
    );
}

#[test]
fn servers_as_source_show_their_timers() {
    let mut s = with(
        r#"{"primaries": {"confirmed_at": "2025-11-22T15:52:56Z",
              "next_refresh_at": "2025-11-22T16:52:56Z", "expires_at": "2025-11-29T15:52:56Z",
              "failures": 2, "error": "192.0.2.1:53^k (SOA): no answer within 14 s",
              "kind": "IXFR (1 sequence)"}}"#,
    );
    s.source = Source::Servers {
        servers: vec![cascade_api::zones::SourceServer {
            address: "192.0.2.1".into(),
            port: 53,
            tsig_key: Some("k".into()),
            tls_name: None,
        }],
    };
    let out = report(&s, false, now(), Paint(false));
    for part in [
        "\nSource 192.0.2.1:53^k (IXFR (1 sequence)), confirmed 2025-11-22T15:52:56+00:00 (1m",
        "ago), next refresh 2025-11-22T16:52:56+00:00, expires 2025-11-29T15:52:56+00:00\n",
        "\n  Failed 2 times: 192.0.2.1:53^k (SOA): no answer within 14 s\n",
        "Fetched 196 B and 3 records from the network",
    ] {
        assert!(out.contains(part), "no `{part}` in\n{out}");
    }
    let out = text(r#"{"primaries": {"expired": true}}"#);
    assert!(out.contains(", no answer yet, EXPIRED\n"), "{out}");
}
