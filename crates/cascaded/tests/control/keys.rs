//! TSIG keys, and keys brought along when a zone is added.

use cascade_api::{Method, ProblemType};
use serde_json::{Value, json};

use crate::daemon::{Daemon, ZONE, exchange};

const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

#[tokio::test]
async fn tsig_keys_are_kept_used_and_not_shown() {
    let mut d = Daemon::start().await;
    // A policy that names a key nobody knows is refused (P03).
    let secondary = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = secondary.local_addr().unwrap();
    d.policy(
        "xfr",
        &format!(
            "[server.outbound]\nprovide-xfr-to = [\"127.0.0.1^xfr1\"]\nsend-notify-to = [\"{to}^XFR1\"]\n"
        ),
    );
    let p = d
        .refused(
            Method::Post,
            "/v1/policies/reload",
            json!({}),
            ProblemType::PolicyInvalid,
        )
        .await;
    assert_eq!(p.errors[0].code.as_deref(), Some("P03"));
    let added: Value = d
        .ok(
            Method::Post,
            "/v1/tsig-keys",
            json!({ "name": "XFR1.", "algorithm": "hmac-sha256", "secret": SECRET }),
        )
        .await;
    assert_eq!(
        (&added["name"], &added["secret"]),
        (&json!("xfr1"), &Value::Null)
    );
    for (body, kind) in [
        (
            json!({ "name": "xfr1", "generate": true }),
            ProblemType::TsigKeyExists,
        ),
        (
            json!({ "name": "k2", "secret": "c2hvcnQ=" }),
            ProblemType::InvalidValue,
        ),
        (
            json!({ "name": "k2", "secret": "no base64!" }),
            ProblemType::InvalidValue,
        ),
        (
            json!({ "name": "k2", "algorithm": "hmac-md5", "generate": true }),
            ProblemType::InvalidValue,
        ),
        (json!({ "name": "k2" }), ProblemType::InvalidValue),
        (
            json!({ "name": "a..b", "generate": true }),
            ProblemType::InvalidValue,
        ),
    ] {
        d.refused(Method::Post, "/v1/tsig-keys", body, kind).await;
    }
    let made: Value = d
        .ok(
            Method::Post,
            "/v1/tsig-keys",
            json!({ "name": "k2", "algorithm": "hmac-sha512", "generate": true }),
        )
        .await;
    // 64 octets in base64.
    assert_eq!(made["secret"].as_str().unwrap().len(), 88);

    let _: Value = d.ok(Method::Post, "/v1/policies/reload", json!({})).await;
    let file = d.zone_file("zone", ZONE);
    let mut add = d.add("example.net", &file);
    add["policy"] = json!("xfr");
    let added: Value = d.ok(Method::Post, "/v1/zones", add).await;
    d.over(added["operation"].as_str().unwrap()).await;
    transfers(&d).await;
    let mut notify = [0; 512];
    let wait = std::time::Duration::from_secs(5);
    let got = tokio::time::timeout(wait, secondary.recv(&mut notify)).await;
    let n = got.expect("a NOTIFY comes").unwrap();
    // Opcode NOTIFY, and a TSIG record.
    assert_eq!(notify[2] >> 3 & 15, 4);
    assert!(notify[..n].windows(11).any(|w| w == b"hmac-sha256"));

    let list: Value = d.get("/v1/tsig-keys").await;
    assert_eq!(list["items"][1]["policies"], json!(["xfr"]));
    assert!(!list.to_string().contains(SECRET));
    let p = d
        .refused(
            Method::Delete,
            "/v1/tsig-keys/xfr1",
            json!({}),
            ProblemType::InUse,
        )
        .await;
    assert!(p.detail.contains("policy xfr"), "{p:?}");

    // Over a restart.
    d.stop();
    d.run().await;
    transfers(&d).await;
    let _: Value = d.ok(Method::Delete, "/v1/tsig-keys/k2", json!({})).await;
    d.refused(
        Method::Delete,
        "/v1/tsig-keys/k2",
        json!({}),
        ProblemType::TsigKeyNotFound,
    )
    .await;
    let audit = std::fs::read_to_string(d.path("state/audit.log")).unwrap();
    assert!(audit.contains("tsig.add") && !audit.contains(SECRET));
    assert!(!d.log().contains(SECRET));
}

/// A transfer succeeds with the key and is refused without.
async fn transfers(d: &Daemon) {
    assert!(axfr(d, true).await, "with the key\n{}", d.log());
    assert!(!axfr(d, false).await, "without the key");
}

async fn axfr(d: &Daemon, signed: bool) -> bool {
    use cascade_wire::tsig::{Algorithm, ClientTsig, TsigKey};
    let mut query = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend_from_slice(b"\x07example\x03net\0\0\xfc\0\x01");
    if signed {
        let name = cascade_zone::Name::parse("xfr1").unwrap();
        let secret = b"0123456789abcdef0123456789abcdef";
        let key = TsigKey::new(&name, Algorithm::HmacSha256, secret);
        #[allow(clippy::disallowed_methods)]
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let now = cascade_time::Timestamp::from_secs(since.as_secs() as i64);
        ClientTsig::request(key.into(), &mut query, 0, now);
    }
    let answer = exchange(d, &query).await;
    // RCODE, and records in the answer.
    answer[3] & 15 == 0 && answer[7] > 0
}

#[tokio::test]
async fn imported_keys() {
    let d = Daemon::start().await;
    let file = d.zone_file("zone", ZONE);
    // Keys that this program made serve as keys made elsewhere.
    d.published("example.net", &file).await;
    let keys: Value = d.get("/v1/zones/example.net/keys").await;
    let zone: Value = d.get("/v1/zones/example.net").await;
    let from = std::path::PathBuf::from(zone["keys_directory"].as_str().unwrap());
    let names: Vec<std::path::PathBuf> = std::fs::read_dir(&from)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "key"))
        .collect();
    let own: std::path::PathBuf = d.path("import");
    std::fs::create_dir(&own).unwrap();
    let mut imports = Vec::new();
    for name in &names {
        let base = name.file_stem().unwrap().to_str().unwrap();
        for suffix in ["key", "private"] {
            let file = format!("{base}.{suffix}");
            std::fs::copy(from.join(&file), own.join(&file)).unwrap();
        }
        let text = std::fs::read_to_string(name).unwrap();
        let role = match (text.contains(" 257 "), names.len()) {
            (true, 1) => "csk",
            (true, _) => "ksk",
            _ => "zsk",
        };
        imports.push(json!({ "kind": "file", "role": role,
            "public": own.join(format!("{base}.key")), "private": own.join(format!("{base}.private")) }));
    }
    let tags = |keys: &Value| -> Vec<u64> {
        let items = keys["items"].as_array().unwrap();
        let mut all: Vec<u64> = items.iter().map(|k| k["tag"].as_u64().unwrap()).collect();
        all.sort_unstable();
        all
    };
    let before = tags(&keys);
    let _: Value = d
        .ok(Method::Delete, "/v1/zones/example.net", json!({}))
        .await;

    let kept = || std::fs::read_dir(d.path("state/keys")).unwrap().count();
    let left = kept();
    let mut add = d.add("example.net", &file);
    // One half only, when there are two; another zone's; a missing file.
    if imports.len() == 2 {
        add["imports"] = json!([imports[0]]);
        d.refused(Method::Post, "/v1/zones", &add, ProblemType::ImportMismatch)
            .await;
    }
    let mut other = d.add("example.org", &file);
    other["imports"] = json!(imports);
    d.refused(
        Method::Post,
        "/v1/zones",
        &other,
        ProblemType::ImportMismatch,
    )
    .await;
    add["imports"] = json!([{ "kind": "public", "path": d.path("none.key") }]);
    d.refused(Method::Post, "/v1/zones", &add, ProblemType::ImportMismatch)
        .await;
    add["imports"] = json!(imports);
    let _: Value = d.ok(Method::Post, "/v1/zones?dry_run=true", &add).await;
    assert_eq!(kept(), left, "refused adds and dry runs leave no key");

    let added: Value = d.ok(Method::Post, "/v1/zones", &add).await;
    d.over(added["operation"].as_str().unwrap()).await;
    let keys: Value = d.get("/v1/zones/example.net/keys").await;
    assert_eq!(tags(&keys), before);
    let zone: Value = d.get("/v1/zones/example.net").await;
    assert_eq!(zone["state"], "published");
}
