//! Bearer tokens over TCP.

use std::os::unix::fs::PermissionsExt;

use cascade_api::{Method, ProblemType};
use serde_json::{Value, json};

use crate::daemon::{Daemon, ZONE};

#[tokio::test]
async fn tokens_open_what_they_say_and_no_more() {
    let mut d = Daemon::start().await;
    let file = d.zone_file("zone", ZONE);
    d.published("a.example", &file).await;
    d.published("b.test", &file).await;
    let new = |body: Value| {
        let d = &d;
        async move {
            let added: Value = d.ok(Method::Post, "/v1/tokens", body).await;
            added["token"].as_str().unwrap().to_string()
        }
    };
    let viewer = new(json!({ "name": "view", "roles": ["viewer"] })).await;
    let operator = new(json!({ "name": "ops", "roles": ["operator"], "zones": "*.example" })).await;
    let short = new(json!({ "name": "short", "roles": ["admin"], "expires_in_secs": 1 })).await;
    assert!(viewer.starts_with("cas_") && viewer.len() == 47);
    for (body, kind) in [
        (
            json!({ "name": "view", "roles": ["viewer"] }),
            ProblemType::TokenExists,
        ),
        (
            json!({ "name": "x", "roles": [] }),
            ProblemType::InvalidValue,
        ),
        (
            json!({ "name": "a b", "roles": ["viewer"] }),
            ProblemType::InvalidValue,
        ),
        (
            json!({ "name": "x", "roles": ["viewer"], "expires_in_secs": 0 }),
            ProblemType::InvalidValue,
        ),
        (
            json!({ "name": "x", "roles": ["viewer"], "expires_in_secs": 5, "never_expires": true }),
            ProblemType::InvalidValue,
        ),
        (
            json!({ "name": "x", "roles": ["viewer"], "zones": "" }),
            ProblemType::InvalidValue,
        ),
    ] {
        d.refused(Method::Post, "/v1/tokens", body, kind).await;
    }

    let reload = |token: Option<&str>, zone: &str| {
        let (d, token) = (&d, token.map(str::to_string));
        let target = format!("/v1/zones/{zone}/reload");
        async move {
            let answer: Result<Value, _> = d
                .tcp(token.as_deref(), Method::Post, &target, json!({}))
                .await;
            answer.map_err(|p| p.kind)
        }
    };
    // Without a token TCP reads the open routes, and changes nothing.
    let status: Value = d.tcp(None, Method::Get, "/v1/status", ()).await.unwrap();
    assert_eq!(status["zones"]["configured"], 2);
    let history = "/v1/zones/a.example/history";
    let p = d
        .tcp::<Value>(None, Method::Get, history, ())
        .await
        .unwrap_err();
    assert_eq!(p.kind, ProblemType::NotAuthenticated);
    assert_eq!(
        reload(None, "a.example").await,
        Err(ProblemType::NotAuthenticated)
    );

    assert!(
        d.tcp::<Value>(Some(&viewer), Method::Get, history, ())
            .await
            .is_ok()
    );
    assert_eq!(
        reload(Some(&viewer), "a.example").await,
        Err(ProblemType::NotAllowed)
    );
    assert!(reload(Some(&operator), "a.example").await.is_ok());
    assert_eq!(
        reload(Some(&operator), "b.test").await,
        Err(ProblemType::NotAllowed)
    );
    let b: Value = d.get("/v1/zones/b.test").await;
    let by_id = format!("id:{}", b["id"].as_str().unwrap());
    assert_eq!(
        reload(Some(&operator), &by_id).await,
        Err(ProblemType::NotAllowed)
    );
    let add = d.add("c.test", &file);
    let p = d
        .tcp::<Value>(Some(&operator), Method::Post, "/v1/zones", add)
        .await
        .unwrap_err();
    assert_eq!(p.kind, ProblemType::NotAllowed);
    let add = d.add("c.example", &file);
    assert!(
        d.tcp::<Value>(Some(&operator), Method::Post, "/v1/zones", add)
            .await
            .is_ok()
    );

    // Over a restart; only the digest is on disk.
    d.stop();
    d.run().await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let wrong = format!("{}x", &viewer[..46]);
    for (token, ok) in [(&viewer, true), (&short, false), (&wrong, false)] {
        let answer = d.tcp::<Value>(Some(token), Method::Get, history, ()).await;
        assert_eq!(answer.is_ok(), ok, "{answer:?}");
    }
    let list: Value = d.get("/v1/tokens").await;
    let view = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|t| t["name"] == "view");
    assert!(view.unwrap()["last_used_at"].is_string(), "{list}");
    let secret = viewer.trim_start_matches("cas_");
    assert!(!list.to_string().contains(secret) && !d.log().contains(secret));
    let state = std::fs::read(d.path("state/state.redb"));
    if let Ok(bytes) = state {
        assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()));
    }

    let _: Value = d.ok(Method::Delete, "/v1/tokens/view", json!({})).await;
    let gone = d
        .tcp::<Value>(Some(&viewer), Method::Get, history, ())
        .await;
    assert_eq!(gone.unwrap_err().kind, ProblemType::NotAuthenticated);
    d.refused(
        Method::Delete,
        "/v1/tokens/view",
        json!({}),
        ProblemType::TokenNotFound,
    )
    .await;
    let socket = std::fs::metadata(d.path("socket")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o666);
}
