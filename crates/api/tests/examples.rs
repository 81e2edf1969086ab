//! The examples of the API's description are read by the types, and come out as they went in.

use cascade_api::common::List;
use cascade_api::daemon::{Health, Info, Status, StatusKeys};
use cascade_api::hsm::{Hsm, HsmAdd, HsmAdded, TokenAdd, TokenAdded, TsigAdd};
use cascade_api::keys::{Key, KeyRecords, Roll, RollStep};
use cascade_api::parse::parse_request;
use cascade_api::policies::{PolicyCheck, PolicyCheckRequest, PolicyReload, PolicyReloaded};
use cascade_api::status::ZoneStatus;
use cascade_api::zones::*;
use cascade_api::{Problem, ProblemType};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads an answer; every member of the example must come out again with its value.
fn answer<T: DeserializeOwned + Serialize>(text: &str) -> T {
    let before: Value = serde_json::from_str(text).expect("example is JSON");
    let value: T = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let after = serde_json::to_value(&value).expect("serializes");
    contains(&after, &before, "");
    value
}

fn request<T: DeserializeOwned>(text: &str) -> T {
    parse_request(text.as_bytes()).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn contains(whole: &Value, part: &Value, at: &str) {
    match (whole, part) {
        (Value::Object(w), Value::Object(p)) => {
            for (k, v) in p {
                let sub = w.get(k).unwrap_or_else(|| panic!("{at}/{k} got lost"));
                contains(sub, v, &format!("{at}/{k}"));
            }
        }
        (Value::Array(w), Value::Array(p)) => {
            assert_eq!(w.len(), p.len(), "{at}");
            for (i, (w, p)) in w.iter().zip(p).enumerate() {
                contains(w, p, &format!("{at}/{i}"));
            }
        }
        _ => assert_eq!(whole, part, "{at}"),
    }
}

#[test]
fn zones() {
    let add: ZoneAdd = request(
        r#"{"zone":"example.net","policy":"nethsm",
 "source":{"kind":"file","path":"/etc/cascade/zones/example.net"},
 "imports":[{"kind":"file","role":"ksk","public":"/p/Kexample.net.+013+31203.key","private":"/p/Kexample.net.+013+31203.private"},
            {"kind":"kmip","role":"zsk","hsm":"kmip2pkcs11","public_id":"3FCC_pub","private_id":"3FCC_priv","algorithm":13,"flags":256},
            {"kind":"public","path":"/p/Kexample.net.+013+11111.key"}],
 "maintenance":false,"allow_missing":false,"comment":"ticket 812"}"#,
    );
    assert_eq!(add.imports.len(), 3);
    for source in [
        r#"{"kind":"none"}"#,
        r#"{"kind":"file","path":"/x"}"#,
        r#"{"kind":"servers","servers":[{"address":"192.0.2.1","port":53,"tsig_key":"k","tls_name":null}]}"#,
    ] {
        answer::<Source>(source);
    }
    answer::<Zone>(
        r#"{"zone":"example.net","id":"01JD8Z3V","policy":"nethsm","state":"loading",
      "source":{"kind":"file","path":"/etc/cascade/zones/example.net"},"added_at":"2026-11-23T13:00:00Z",
      "published":null,"operation":"op-91","warnings":[]}"#,
    );
    request::<ZoneEdit>(r#"{"policy":"default","confirm":"p-5f31c0"}"#);
    request::<ReloadRequest>(r#"{"refresh":false}"#);
    request::<ResignRequest>(r#"{"full":false,"serial":null}"#);
    let back: RollbackRequest = request(r#"{"to":"v41","pin":true,"yes":true}"#);
    assert_eq!(back.to, "v41");
    assert!(
        request::<RollbackRequest>("{}").pin,
        "pinned unless refused"
    );
    request::<PinRequest>(r#"{"version":"v41","until":null}"#);
    let m: MaintenanceRequest =
        request(r#"{"until":"2026-11-24T06:00:00Z","resign":true,"comment":"c"}"#);
    assert!(m.resign);
    assert!(
        request::<MaintenanceRequest>("{}").resign,
        "signatures are refreshed unless refused"
    );
    for state in [
        "waiting-source",
        "waiting-keys",
        "loading",
        "unsigned-review",
        "signing",
        "verifying",
        "signed-review",
        "publishing",
        "published",
        "halted",
        "expired",
        "restoring",
        "removed",
    ] {
        answer::<ZoneState>(&format!("\"{state}\""));
    }
}

#[test]
fn reviews() {
    answer::<ReviewDecision>(
        r#"{"zone":"example.net","stage":"signed","serial":1763826146,"version":"v1","verdict":"rejected","by":"token:ops1","at":"2026-11-23T13:00:00Z","then":"discard"}"#,
    );
}

#[test]
fn status_report() {
    let s: ZoneStatus = answer(include_str!("status.json"));
    assert_eq!(s.unsigned.expect("loaded").serial, 1);
}

#[test]
fn why() {
    answer::<Why>(
        r#"{"zone":"example.net","summary":"KSK roll waits for the parent","since":"2026-11-20T11:30:00Z","acts":"parent",
 "evidence":[{"what":"ds","at":"192.0.2.53","name":"ns1.parent.example","found":[54321],"expected":[31203],"ttl_secs":86400,"asked_at":"2026-11-23T13:32:00Z"}],
 "next_at":"2026-11-23T14:02:00Z","runway_secs":1051200,"actions":["cascade keyset example.net get ds"]}"#,
    );
}

#[test]
fn keys_and_rolls() {
    request::<RollStep>("{}");
    request::<RollStep>(r#"{"ttl_secs":3600}"#);
    answer::<Roll>(
        r#"{"zone":"example.net","kind":"ksk","type":"double-signature","state":"await-dnskey-expired",
      "old":["k3"],"new":["k7"],"waits_for":"caches","since":"2026-11-20T11:30:00Z","earliest_at":"2026-11-20T12:30:00Z","automatic":true}"#,
    );
    answer::<List<Roll>>(
        r#"{"items":[{"kind":"ksk","type":"double-signature","state":"await-ds-seen","started_at":"2026-11-20T11:30:00Z","old":["k3"],"new":["k7"],
       "waits_for":"parent","last_look":"2026-11-20T11:30:00Z","next_look":"2026-11-20T11:30:00Z","evidence":[],"highest_ttl_secs":{"dnskey":3600,"ds":86400}}]}"#,
    );
    answer::<KeyRecords>(r#"{"records":["example.net. 3600 IN DS 31203 13 2 9F3C"]}"#);
    answer::<Key>(
        r#"{"id":"k7","tag":31203,"role":"csk","algorithm":13,"bits":256,"state":"active","published_at":"2026-11-20T11:30:00Z","active_at":"2026-11-20T11:30:00Z","expires_at":null,"hsm":"kmip2pkcs11","reference":"kmip://x","label":"example.net-31203-csk","at_parent":"seen","proved_at":{"127.0.0.1:5696":"2026-11-20T11:30:00Z"}}"#,
    );
}

#[test]
fn policies() {
    request::<PolicyReload>(r#"{"plan":null,"yes":false}"#);
    answer::<PolicyReloaded>(
        r#"{"changes":[{"policy":"nethsm","change":"added"}],
      "warnings":[{"policy":"nethsm","code":"P04","detail":"HSM 'kmip2pkcs11' is not registered","action":"cascade hsm add kmip2pkcs11 <host>"}],
      "plan":"p-5f31c0"}"#,
    );
    request::<PolicyCheckRequest>(r#"{"text":"version = \"v1\"\n","name":"nethsm"}"#);
    answer::<PolicyCheck>(
        r#"{"findings":[{"file":"nethsm.toml","line":41,"column":1,"code":"P09","level":"warning","detail":"d","suggestion":"1w"}]}"#,
    );
}

#[test]
fn hsms_and_secrets() {
    let add: HsmAdd = request(
        r#"{"hsm":"kmip2pkcs11","endpoints":[{"host":"127.0.0.1","port":5696}],"username":"0","password":"s3cret",
 "tls":{"verify":"none","ca_pem":null,"server_pem":null,"fingerprint":null,"client_pem":null,"client_key_pem":null},
 "connect_timeout_secs":3,"read_timeout_secs":30,"write_timeout_secs":3,"max_response_bytes":8192,
 "connections":16,"in_flight":null,"label":{"prefix":"","max_bytes":32},"connect":true}"#,
    );
    assert!(!format!("{add:?}").contains("s3cret"));
    answer::<HsmAdded>(
        r#"{"hsm":"kmip2pkcs11","vendor":"kmip2pkcs11 1.0.0 using x","endpoints":[{"host":"127.0.0.1","port":5696,"tls":"unverified"}],"algorithms":["RSASHA256"],"warnings":[]}"#,
    );
    answer::<Hsm>(
        r#"{"hsm":"kmip2pkcs11","vendor":"kmip2pkcs11 1.0.0 using x","state":"up","has_credentials":true,"tls":"unverified",
 "instances":[{"endpoint":"127.0.0.1:5696","state":"up","latency_p50_secs":0.006,"signatures_per_sec":640.0,"in_flight":12,"last_error":null,"keys_proved":2,"keys_failed":0}],
 "algorithms":["RSASHA256","ECDSAP256SHA256"],"policies":["nethsm"],"zones":1,"keys":2}"#,
    );
    let tsig: TsigAdd = request(r#"{"name":"xfr1","algorithm":"hmac-sha256","secret":"c2VjcmV0"}"#);
    assert!(!format!("{tsig:?}").contains("c2VjcmV0"));
    assert!(request::<TsigAdd>(r#"{"name":"xfr1","generate":true}"#).generate);
    request::<TokenAdd>(
        r#"{"name":"ops1","roles":["operator"],"expires_in_secs":7776000,"zones":"*.example"}"#,
    );
    request::<cascade_api::backup::BackupCreate>(r#"{"name":"before-upgrade"}"#);
    answer::<cascade_api::backup::Backup>(
        r#"{"path":"/var/lib/cascade/backup/x","created_at":"2026-11-20T11:30:00Z","zones":2,"key_files":4,"files":13,"size_bytes":90000}"#,
    );
    answer::<TokenAdded>(r#"{"name":"ops1","token":"cas_x","expires_at":"2026-11-20T11:30:00Z"}"#);
}

#[test]
fn diff_info_status_health() {
    answer::<Diff>(
        r#"{"zone":"example.net","stage":"signed","from":{"version":"v41","serial":2026112300},"to":{"version":"v42","serial":2026112301},
 "counts":{"added":1,"removed":1,"rrsets_changed":1,"signatures":3,"denial":0},
 "changes":[{"op":"-","record":"www.example.net. 3600 IN A 192.0.2.1"},{"op":"+","record":"www.example.net. 3600 IN A 192.0.2.7"}]}"#,
    );
    answer::<Info>(
        r#"{"version":"1.0.0","commit":"1a2b3c4d5e","api":"1.4","started_at":"2026-11-20T11:30:00Z","schema":3,"features":["xot"]}"#,
    );
    answer::<Health>(
        r#"{"healthy":false,"level":"critical","at":"2026-11-20T11:30:00Z","checks":[
 {"check":"runway","subject":{"kind":"zone","name":"example.net"},"level":"critical","since":"2026-11-20T11:30:00Z","acts":"token",
  "detail":"signatures end in 1d 3h; HSM kmip2pkcs11 down for 5h","action":"cascade why example.net"}]}"#,
    );
    answer::<Status>(
        r#"{"addresses":{"loaded_review":["127.0.0.1:4541"],"signed_review":["127.0.0.1:4542"],"server":["127.0.0.1:4543"]},"zones":{"configured":12,"published":11,"halted":[{"zone":"example.org","reason":"r"}]},"queue":[]}"#,
    );
    answer::<StatusKeys>(
        r#"{"first_to_expire":[{"zone":"z","key":"k","left_secs":86400}],"zones":[]}"#,
    );
}

#[test]
fn problems() {
    let p: Problem = answer(
        r#"{"type":"urn:cascade:problem:zone-not-found","title":"Zone not known","status":404,
 "detail":"zone 'exmaple.net' is not known","instance":"/v1/zones/exmaple.net",
 "subject":{"kind":"zone","name":"exmaple.net"},"suggestion":"example.net",
 "action":"cascade zone list","acts":"operator","state":"nothing changed","retry_after_secs":null,"errors":[]}"#,
    );
    assert_eq!(p.kind, ProblemType::ZoneNotFound);
    let made =
        Problem::zone_not_found("exmaple.net", ["example.net"]).instance("/v1/zones/exmaple.net");
    assert_eq!(made, p);
}
