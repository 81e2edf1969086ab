//! Edits of zones, and the configuration read again.

use std::os::unix::fs::PermissionsExt;

use cascade_api::daemon::OperationState;
use cascade_api::{Method, ProblemType};
use serde_json::{Value, json};

use crate::daemon::{Daemon, ZONE};

#[tokio::test]
async fn policy_and_source_of_a_zone() {
    let mut d = Daemon::start().await;
    d.policy("nsec3", "[signer.denial]\ntype = \"nsec3\"\n");
    d.policy(
        "other-keys",
        "[key-manager.generation]\nalgorithm = \"ECDSAP384SHA384\"\n",
    );
    let _: Value = d.ok(Method::Post, "/v1/policies/reload", json!({})).await;
    let file = d.zone_file("zone", ZONE);
    d.published("example.net", &file).await;
    let zone = "/v1/zones/example.net";
    d.refused(Method::Patch, zone, json!({}), ProblemType::InvalidValue)
        .await;
    let unknown = json!({ "policy": "nsec4" });
    let p = d
        .refused(Method::Patch, zone, unknown, ProblemType::PolicyNotFound)
        .await;
    assert_eq!(p.suggestion.as_deref(), Some("nsec3"));

    // What it would do, and nothing done.
    let trial: Value = d
        .ok(
            Method::Patch,
            &format!("{zone}?dry_run=true"),
            json!({ "policy": "other-keys" }),
        )
        .await;
    assert!(
        trial["warnings"]
            .to_string()
            .contains("key-manager.generation.algorithm"),
        "{trial}"
    );
    let shown: Value = d.get(zone).await;
    assert_eq!(shown["policy"], "default");

    // What concerns keys needs consent, to this plan and no other.
    let edit = |confirm: Option<&str>| json!({ "policy": "other-keys", "confirm": confirm });
    let p = d
        .refused(
            Method::Patch,
            zone,
            edit(None),
            ProblemType::ConfirmationRequired,
        )
        .await;
    assert!(p.effects[0].contains("algorithm"), "{p:?}");
    let plan = p.plan.unwrap();
    d.refused(
        Method::Patch,
        zone,
        edit(Some("p-0")),
        ProblemType::PlanOutdated,
    )
    .await;
    let done: Value = d.ok(Method::Patch, zone, edit(Some(&plan))).await;
    assert_eq!(
        (&done["policy"], &done["previous_policy"]),
        (&json!("other-keys"), &json!("default"))
    );

    // Another chain: signed anew.
    let back: Value = d
        .ok(
            Method::Patch,
            zone,
            json!({ "policy": "nsec3", "yes": true }),
        )
        .await;
    let op = d.over(back["operation"].as_str().unwrap()).await;
    assert_eq!(op.state, OperationState::Done, "{op:?}");
    // The chain as it is served.
    let param = crate::daemon::query(&d, b"\x07example\x03net\0\0\x33\0\x01").await;
    assert!(param[7] > 0, "NSEC3PARAM is served");

    let second = d.zone_file("second", &ZONE.replace(" 1 7200", " 5 7200"));
    let missing = json!({ "source": { "kind": "file", "path": d.path("none") } });
    d.refused(Method::Patch, zone, missing, ProblemType::SourceUnreadable)
        .await;
    let source = json!({ "kind": "file", "path": second });
    let moved: Value = d.ok(Method::Patch, zone, json!({ "source": source })).await;
    let op = d.over(moved["operation"].as_str().unwrap()).await;
    assert_eq!(
        (op.state, op.step.as_deref()),
        (OperationState::Done, Some("published"))
    );

    // Durable.
    d.stop();
    d.run().await;
    let shown: Value = d.get(zone).await;
    assert_eq!(
        (&shown["policy"], &shown["source"]),
        (&json!("nsec3"), &source)
    );
    let audit = std::fs::read_to_string(d.path("state/audit.log")).unwrap();
    assert!(audit.contains("zone.edit"));
}

#[tokio::test]
async fn sighup_takes_over_what_may_change() {
    let d = Daemon::start().await;
    let status = "/v1/status";
    assert!(d.tcp::<Value>(None, Method::Get, status, ()).await.is_ok());
    d.configure(
        "remote-control.anonymous-read = false\nremote-control.socket-mode = \"0600\"\n\
         loader.max-concurrent-loads = 1\nhooks.max-running = 3\nhistory.max-versions = 4\n\
         daemon.worker-threads = 3\n",
    );
    d.signal("HUP");
    d.logged("wait for a restart: daemon.worker-threads").await;
    d.logged("taken over: ").await;
    let p = d
        .tcp::<Value>(None, Method::Get, status, ())
        .await
        .unwrap_err();
    assert_eq!(p.kind, ProblemType::NotAuthenticated);
    let socket = std::fs::metadata(d.path("socket")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    // Still able to work.
    let file = d.zone_file("zone", ZONE);
    d.published("example.net", &file).await;

    // An error changes nothing.
    d.configure("remote-control.anonymous-read = \"perhaps\"\n");
    d.signal("HUP");
    d.logged("nothing changed: ").await;
    assert!(d.tcp::<Value>(None, Method::Get, status, ()).await.is_err());
    let health: Value = d.get("/v1/health").await;
    let stale = |h: &Value| h.to_string().matches("config-stale").count();
    // The error, and the key that waits since the reload before.
    assert_eq!(stale(&health), 2, "{health}");
    d.configure("");
    d.signal("HUP");
    for _ in 0..200 {
        let health: Value = d.get("/v1/health").await;
        if stale(&health) == 0 {
            assert!(d.tcp::<Value>(None, Method::Get, status, ()).await.is_ok());
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{}", d.log());
}
