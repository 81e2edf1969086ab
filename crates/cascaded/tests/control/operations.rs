//! Operations from request to outcome.

use cascade_api::daemon::{Operation, OperationState};
use cascade_api::{List, Method, ProblemType};
use serde_json::{Value, json};

use crate::daemon::{Daemon, ZONE};

#[tokio::test]
async fn a_zone_from_adding_to_removal() {
    let d = Daemon::start().await;
    let file = d.zone_file("zone", ZONE);
    let added: Value = d
        .ok(Method::Post, "/v1/zones", d.add("example.net", &file))
        .await;
    let op = d.over(added["operation"].as_str().unwrap()).await;
    assert_eq!(
        (op.state, op.kind.as_str()),
        (OperationState::Done, "zone-add")
    );
    assert_eq!(op.step.as_deref(), Some("published"));
    assert!(op.finished_at.is_some());

    // Nothing new: done without a version.
    let reload = || async {
        let a: Value = d
            .ok(Method::Post, "/v1/zones/example.net/reload", json!({}))
            .await;
        d.over(a["operation"].as_str().unwrap()).await
    };
    let op = reload().await;
    assert_eq!(
        (op.state, op.step.as_deref()),
        (OperationState::Done, Some("unchanged"))
    );

    std::fs::write(&file, ZONE.replace(" 1 7200", " 2 7200")).unwrap();
    let op = reload().await;
    assert_eq!(
        (op.state, op.step.as_deref()),
        (OperationState::Done, Some("published"))
    );

    // A mistake: the operation fails with the place, what is published stays.
    std::fs::write(&file, ZONE.replace("192.0.2.1", "192.0.2")).unwrap();
    let op = reload().await;
    assert_eq!(op.state, OperationState::Failed);
    let p = op.problem.unwrap();
    assert!(p.errors[0].detail.contains(":4:"), "{p:?}");
    assert!(
        p.state.as_deref().unwrap().contains("stays published"),
        "{p:?}"
    );
    assert_eq!(p.action.as_deref(), Some("cascade why example.net"));

    let a: Value = d
        .ok(
            Method::Post,
            "/v1/zones/example.net/resign",
            json!({ "full": true }),
        )
        .await;
    let op = d.over(a["operation"].as_str().unwrap()).await;
    assert_eq!(
        (op.state, op.step.as_deref()),
        (OperationState::Done, Some("published"))
    );

    let all: List<Operation> = d.get("/v1/operations?limit=2").await;
    assert_eq!(all.items.len(), 2);
    let rest: List<Operation> = d
        .get(&format!("/v1/operations?after={}", all.next.unwrap()))
        .await;
    assert_eq!(rest.items.len(), 3);
    assert_eq!(rest.items[2].operation, op.operation);

    let _: Value = d
        .ok(Method::Delete, "/v1/zones/example.net", json!({}))
        .await;
    d.refused(
        Method::Get,
        "/v1/operations/op-99",
        json!({}),
        ProblemType::OperationNotFound,
    )
    .await;
    // What had an end keeps it.
    let op: Operation = d.get(&format!("/v1/operations/{}", op.operation)).await;
    assert_eq!(op.state, OperationState::Done);
}

#[tokio::test]
async fn reviews_hold_operations_and_end_them() {
    let d = Daemon::start().await;
    d.policy(
        "default",
        "[signer.review]\nmode = \"manual\"\non-reject = \"halt\"\n[loader.review]\nmode = \"manual\"\n",
    );
    let _: Value = d.ok(Method::Post, "/v1/policies/reload", json!({})).await;
    let file = d.zone_file("zone", ZONE);
    let added: Value = d
        .ok(Method::Post, "/v1/zones", d.add("example.net", &file))
        .await;
    let id = added["operation"].as_str().unwrap().to_string();
    let step = |want: &'static str| {
        let (d, id) = (&d, &id);
        async move {
            for _ in 0..500 {
                let op: Operation = d.get(&format!("/v1/operations/{id}")).await;
                assert_eq!(op.state, OperationState::Running, "{op:?}");
                if op.step.as_deref() == Some(want) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            panic!("never at {want}");
        }
    };
    step("unsigned-review").await;
    let review = "/v1/zones/example.net/reviews";
    let _: Value = d
        .ok(
            Method::Post,
            &format!("{review}/unsigned/1/approve"),
            json!({}),
        )
        .await;
    step("signed-review").await;
    let candidate: Value = d.get("/v1/zones/example.net/versions/candidate").await;
    let serial = candidate["serial"].as_u64().unwrap();
    // Another serial is not the one under review; the state named is the true one.
    let p = d
        .refused(
            Method::Post,
            &format!("{review}/signed/1/approve"),
            json!({}),
            ProblemType::NotUnderReview,
        )
        .await;
    assert!(p.state.unwrap().contains("signed-review"));
    let _: Value = d
        .ok(
            Method::Post,
            &format!("{review}/signed/{serial}/reject"),
            json!({ "comment": "glue missing" }),
        )
        .await;
    let op = d.over(&id).await;
    assert_eq!(op.state, OperationState::Halted, "{op:?}");
    assert!(op.problem.unwrap().detail.contains("glue missing"));

    // Overridden after all: needs consent, and has an operation of its own.
    let target = format!("{review}/signed/override");
    d.refused(
        Method::Post,
        &target,
        json!({}),
        ProblemType::ConfirmationRequired,
    )
    .await;
    let a: Value = d.ok(Method::Post, &target, json!({ "yes": true })).await;
    let op = d.over(a["operation"].as_str().unwrap()).await;
    assert_eq!(
        (op.state, op.kind.as_str()),
        (OperationState::Done, "override")
    );
}

#[tokio::test]
async fn a_source_that_comes_later() {
    let d = Daemon::start().await;
    let missing = d.path("later");
    let p = d
        .refused(
            Method::Post,
            "/v1/zones",
            d.add("example.net", &missing),
            ProblemType::SourceUnreadable,
        )
        .await;
    assert!(p.detail.contains("later"), "{p:?}");
    let mut add = d.add("example.net", &missing);
    add["allow_missing"] = json!(true);
    let added: Value = d.ok(Method::Post, "/v1/zones", &add).await;
    let id = added["operation"].as_str().unwrap();
    // Not failed: it is looked for again.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let op: Operation = d.get(&format!("/v1/operations/{id}")).await;
    assert_eq!(op.state, OperationState::Running, "{op:?}");
    let why: Value = d.get("/v1/zones/example.net/why").await;
    assert!(why.to_string().contains("later"), "{why}");
    d.zone_file("later", ZONE);
    let _: Value = d
        .ok(Method::Post, "/v1/zones/example.net/reload", json!({}))
        .await;
    assert_eq!(d.over(id).await.state, OperationState::Done);
}

#[tokio::test]
async fn names_of_every_kind() {
    let d = Daemon::start().await;
    let text = ZONE.replace("example.net.", "example.");
    let file = d.zone_file("zone", &text);
    for (name, segment) in [
        ("0/25.2.0.192.in-addr.arpa", "0%2F25.2.0.192.in-addr.arpa"),
        (".", "@"),
        ("a\\046b.example", "a%5C.b.example"),
        ("Under_score.Example.", "under_score.example"),
    ] {
        d.published(name, &file).await;
        let zone: Value = d.get(&format!("/v1/zones/{segment}")).await;
        assert_eq!(zone["state"], "published", "{name}");
        let again = d
            .refused(
                Method::Post,
                "/v1/zones",
                d.add(name, &file),
                ProblemType::ZoneExists,
            )
            .await;
        assert!(again.action.unwrap().starts_with("cascade zone edit"));
        let _: Value = d
            .ok(Method::Delete, &format!("/v1/zones/{segment}"), json!({}))
            .await;
    }
    for bad in ["a..b", "", &"x".repeat(64)] {
        d.refused(
            Method::Post,
            "/v1/zones",
            d.add(bad, &file),
            ProblemType::InvalidValue,
        )
        .await;
    }
    // Nothing of a dry run stays.
    let _: Value = d
        .ok(
            Method::Post,
            "/v1/zones?dry_run=true",
            d.add("example.net", &file),
        )
        .await;
    let zones: Value = d.get("/v1/zones").await;
    assert_eq!(zones["items"], json!([]));
}

#[tokio::test]
async fn what_ends_without_a_version() {
    let d = Daemon::start().await;
    d.policy(
        "default",
        "[loader.review]\nmode = \"manual\"\non-reject = \"discard\"\n",
    );
    let _: Value = d.ok(Method::Post, "/v1/policies/reload", json!({})).await;
    let file = d.zone_file("zone", ZONE);
    let added: Value = d
        .ok(Method::Post, "/v1/zones", d.add("example.net", &file))
        .await;
    let first = added["operation"].as_str().unwrap().to_string();
    let reject = "/v1/zones/example.net/reviews/unsigned/1/reject";
    let body = json!({ "comment": "not today" });
    for _ in 0..200 {
        if d.try_call::<Value>(Method::Post, reject, &body)
            .await
            .is_ok()
        {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let op = d.over(&first).await;
    assert_eq!(op.state, OperationState::Rejected, "{op:?}");
    assert!(op.problem.unwrap().detail.contains("not today"));

    // Asked for again by a person it is offered again; a reset abandons it.
    let reload = || async {
        let a: Value = d
            .ok(Method::Post, "/v1/zones/example.net/reload", json!({}))
            .await;
        a["operation"].as_str().unwrap().to_string()
    };
    let second = reload().await;
    let review = || async {
        for _ in 0..200 {
            let z: Value = d.get("/v1/zones/example.net").await;
            if z["state"] == "unsigned-review" {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("no review");
    };
    review().await;
    let a: Value = d
        .ok(Method::Post, "/v1/zones/example.net/reset", json!({}))
        .await;
    let reset = d.over(a["operation"].as_str().unwrap()).await;
    assert_eq!(reset.state, OperationState::Done, "{reset:?}");
    assert_eq!(d.over(&second).await.state, OperationState::Cancelled);

    // Removal ends what is left.
    let third = reload().await;
    review().await;
    let _: Value = d
        .ok(Method::Delete, "/v1/zones/example.net", json!({}))
        .await;
    assert_eq!(d.over(&third).await.state, OperationState::Cancelled);
}
