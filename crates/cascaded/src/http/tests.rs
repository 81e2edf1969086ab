//! The server as a stranger meets it: real sockets, a double instead of the daemon.

use std::sync::Arc;
use std::time::Duration;

use cascade_api::common::*;
use cascade_api::daemon::*;
use cascade_api::keys::*;
use cascade_api::policies::*;
use cascade_api::status::{Pin, ZoneStatus};
use cascade_api::zones::*;
use cascade_api::{Access, Method, Problem, ProblemType, ROUTES, Role, Roles, Route, RouteId};
use cascade_time::Timestamp;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

use super::{Backend, Caller, Http, Identity, Settings, Streamed};

type Answer<T> = Result<T, Problem>;

#[derive(Default)]
struct Double {
    refused: Mutex<Vec<String>>,
    callers: Mutex<Vec<Caller>>,
}

fn at() -> Timestamp {
    Timestamp::from_secs(1_763_822_540)
}

fn zone(name: &str) -> Zone {
    Zone {
        zone: name.to_string(),
        id: "01".into(),
        policy: "default".into(),
        state: ZoneState::Loading,
        source: Source::None {},
        added_at: at(),
        published: None,
        operation: None,
        warnings: Vec::new(),
        settings: Vec::new(),
        review_addresses: None,
        keys_directory: None,
        hsm: None,
        previous_policy: None,
    }
}

fn accepted(zone: String) -> Answer<Accepted> {
    Ok(Accepted {
        zone,
        operation: Some("op-1".into()),
        queued: false,
        detail: None,
        warnings: Vec::new(),
    })
}

impl Backend for Double {
    async fn ready(&self) -> Result<(), String> {
        Err("zones are being restored".into())
    }
    async fn metrics(&self) -> String {
        "cascade_zones 1\n".into()
    }
    async fn authenticate(&self, token: &str) -> Option<Identity> {
        let role = Role::ALL
            .into_iter()
            .find(|r| format!("cas_{}", r.as_str()) == token)?;
        Some(Identity {
            name: role.as_str().to_string(),
            roles: role.into(),
            zones: None,
        })
    }
    async fn refused(&self, caller: &Caller, _: &'static Route, path: &str, p: &Problem) {
        self.refused
            .lock()
            .push(format!("{} {path} {}", caller.actor, p.kind.slug()));
    }
    async fn info(&self) -> Answer<Info> {
        Ok(Info {
            version: "1".into(),
            commit: None,
            api: "1.4".into(),
            started_at: at(),
            schema: 1,
            features: Vec::new(),
        })
    }
    async fn status(&self) -> Answer<Status> {
        Ok(Status {
            addresses: Addresses::default(),
            zones: ZoneCounts::default(),
            queue: Vec::new(),
            hsms: Vec::new(),
        })
    }
    async fn status_keys(&self) -> Answer<StatusKeys> {
        panic!("a bug for the test")
    }
    async fn health(&self, deep: bool) -> Answer<Health> {
        let level = if deep {
            Level::Critical
        } else {
            Level::Warning
        };
        Ok(Health {
            healthy: false,
            level,
            at: at(),
            checks: Vec::new(),
        })
    }
    async fn zone_list(&self, filter: ZoneFilter) -> Answer<List<ZoneItem>> {
        if filter.policy.as_deref() == Some("slow") {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        Ok(List::whole(Vec::new()))
    }
    async fn zone_add(&self, caller: Caller, add: ZoneAdd, _: bool) -> Answer<Zone> {
        self.callers.lock().push(caller);
        Ok(zone(&add.zone))
    }
    async fn zone_show(&self, name: String) -> Answer<Zone> {
        Ok(zone(&name))
    }
    async fn zone_remove(&self, _: Caller, _: String, _: ZoneRemove) -> Answer<()> {
        Ok(())
    }
    async fn zone_status(&self, name: String) -> Answer<ZoneStatus> {
        Err(Problem::zone_not_found(&name, ["example.net"]))
    }
    async fn zone_why(&self, name: String) -> Answer<Why> {
        Err(Problem::zone_not_found(&name, []))
    }
    async fn zone_history(&self, _: String, _: HistoryFilter) -> Answer<List<HistoryEntry>> {
        Ok(List::whole(Vec::new()))
    }
    async fn zone_export(&self, _: String, query: ExportQuery) -> Answer<Streamed> {
        let (send, pieces) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let _ = send.send(Ok("example. 1 IN ".into())).await;
            let last = if query.json {
                Err(std::io::Error::other("gone"))
            } else {
                Ok("SOA\n".into())
            };
            let _ = send.send(last).await;
        });
        Ok(Streamed {
            content_type: "text/dns",
            pieces,
        })
    }
    async fn zone_reload(&self, _: Caller, zone: String, _: ReloadRequest) -> Answer<Accepted> {
        accepted(zone)
    }
    async fn zone_resign(&self, _: Caller, zone: String, _: ResignRequest) -> Answer<Accepted> {
        accepted(zone)
    }
    async fn zone_reset(&self, _: Caller, zone: String, _: Commented) -> Answer<Accepted> {
        accepted(zone)
    }
    async fn review(
        &self,
        caller: Caller,
        zone: String,
        stage: Stage,
        serial: u32,
        verdict: Verdict,
        _: Option<String>,
    ) -> Answer<ReviewDecision> {
        Ok(ReviewDecision {
            zone,
            stage,
            serial,
            version: "v1".into(),
            verdict,
            by: caller.actor,
            at: at(),
            then: Then::Sign,
        })
    }
    async fn review_override(
        &self,
        _: Caller,
        zone: String,
        _: Stage,
        _: OverrideRequest,
    ) -> Answer<Accepted> {
        accepted(zone)
    }
    async fn zone_rollback(
        &self,
        _: Caller,
        zone: String,
        _: RollbackRequest,
        _: bool,
    ) -> Answer<Accepted> {
        accepted(zone)
    }
    async fn pin_on(&self, _: Caller, _: String, request: PinRequest) -> Answer<Pin> {
        Ok(Pin {
            version: "v1".into(),
            since: at(),
            until: request.until,
            by: None,
        })
    }
    async fn pin_off(&self, _: Caller, _: String, _: Option<String>) -> Answer<()> {
        Ok(())
    }
    async fn maintenance_on(
        &self,
        _: Caller,
        _: String,
        request: MaintenanceRequest,
    ) -> Answer<Maintenance> {
        Ok(Maintenance {
            since: at(),
            until: request.until,
            resign: request.resign,
            by: None,
            comment: request.comment,
        })
    }
    async fn maintenance_off(&self, _: Caller, _: String, _: Option<String>) -> Answer<()> {
        Ok(())
    }
    async fn key_list(&self, _: String, _: KeyFilter) -> Answer<List<Key>> {
        Ok(List::whole(Vec::new()))
    }
    async fn key_show(&self, _: String, _: String) -> Answer<Key> {
        Err(Problem::new(ProblemType::KeyNotFound, "no such key"))
    }
    async fn key_records(
        &self,
        _: String,
        _: RecordKind,
        _: KeyRecordsQuery,
    ) -> Answer<KeyRecords> {
        Ok(KeyRecords {
            records: Vec::new(),
        })
    }
    async fn policy_list(&self, _: PageQuery) -> Answer<List<PolicyItem>> {
        Ok(List::whole(Vec::new()))
    }
    async fn policy_show(&self, policy: String) -> Answer<Policy> {
        Err(Problem::policy_not_found(&policy, []))
    }
    async fn policy_check(&self, _: PolicyCheckRequest) -> Answer<PolicyCheck> {
        Ok(PolicyCheck {
            findings: Vec::new(),
        })
    }
    async fn policy_reload(&self, _: Caller, _: PolicyReload, _: bool) -> Answer<PolicyReloaded> {
        Ok(PolicyReloaded {
            changes: Vec::new(),
            warnings: Vec::new(),
            plan: None,
        })
    }
    async fn clock_confirm(&self, _: Caller, _: Option<String>) -> Answer<ClockConfirmed> {
        Ok(ClockConfirmed {
            stepped_secs: 7200,
            held_since: at(),
            now: at(),
            zones: 1,
        })
    }
    async fn logging(&self) -> Answer<Logging> {
        Ok(Logging {
            level: LogLevel::Info,
            targets: Vec::new(),
            until: None,
        })
    }
    async fn logging_edit(&self, _: Caller, _: LoggingEdit) -> Answer<Logging> {
        self.logging().await
    }
    async fn operation_list(&self, _: PageQuery) -> Answer<List<Operation>> {
        Ok(List::whole(Vec::new()))
    }
    async fn operation(&self, _: String) -> Answer<Operation> {
        Err(Problem::new(
            ProblemType::OperationNotFound,
            "no such operation",
        ))
    }
}

struct Server {
    tcp: std::net::SocketAddr,
    unix: std::path::PathBuf,
    backend: Arc<Double>,
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

async fn server(settings: Settings) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let unix = dir.path().join("s");
    let listener = UnixListener::bind(&unix).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = tcp.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let backend = Arc::new(Double::default());
    let http = Http::new(Arc::clone(&backend), settings, 0xb007, stopped);
    let tasks = vec![
        tokio::spawn(http.clone().serve_unix(listener)),
        tokio::spawn(http.serve_tcp(tcp)),
    ];
    Server {
        tcp: addr,
        unix,
        backend,
        stop,
        tasks,
        _dir: dir,
    }
}

/// Status, head and body of a request written by hand.
async fn raw(
    mut io: impl AsyncReadExt + AsyncWriteExt + Unpin,
    text: &str,
) -> (u16, String, String) {
    io.write_all(text.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let read = io.read_to_end(&mut all);
    let _ = tokio::time::timeout(Duration::from_secs(20), read)
        .await
        .expect("an answer");
    let all = String::from_utf8(all).unwrap();
    let (head, body) = all.split_once("\r\n\r\n").unwrap_or((&all, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or(0);
    (status, head.to_ascii_lowercase(), body.to_string())
}

async fn tcp(
    s: &Server,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String, String) {
    let io = TcpStream::connect(s.tcp).await.unwrap();
    let host = s.tcp;
    raw(io, &format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())).await
}

fn problem(body: &str) -> Problem {
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"))
}

const JSON: &str = "content-type: application/json\r\n";

fn example_path(route: &Route) -> String {
    route
        .path
        .replace("{z}", "example.net")
        .replace("{stage}", "signed")
        .replace("{serial}", "1")
        .replace("{type}", "ds")
        .replace("{kind}", "ksk")
        .replace("{step}", "start")
        .replace(['{', '}'], "")
}

#[tokio::test]
async fn every_route_with_every_role() {
    let s = server(Settings::default()).await;
    for route in ROUTES {
        let body = match route.id {
            RouteId::ZoneAdd => r#"{"zone":"a","policy":"p","source":{"kind":"none"}}"#,
            _ => "{}",
        };
        let body = if route.method == Method::Get {
            ""
        } else {
            body
        };
        for role in [
            None,
            Some(Role::Viewer),
            Some(Role::Operator),
            Some(Role::Approver),
            Some(Role::Admin),
        ] {
            let auth = role.map(|r| format!("authorization: Bearer cas_{}\r\n", r.as_str()));
            let headers = format!("{JSON}{}", auth.unwrap_or_default());
            let (status, head, answer) = tcp(
                &s,
                route.method.as_str(),
                &example_path(route),
                &headers,
                body,
            )
            .await;
            let roles = role.map_or(Roles::NONE, Roles::from);
            let expected = route.access.allows(roles);
            let refused = matches!(status, 401 | 403);
            let what = format!(
                "{} {} as {role:?}: {status} {answer}",
                route.method.as_str(),
                route.path
            );
            assert_eq!(expected, !refused, "{what}");
            assert!(
                head.contains("cascade-api: 1.4") && head.contains("x-request-id: b007-"),
                "{what}"
            );
            if refused {
                assert_eq!(status, if role.is_none() { 401 } else { 403 }, "{what}");
                assert_eq!(
                    role.is_none(),
                    head.contains("www-authenticate: bearer"),
                    "{what}"
                );
                if let (Some(held), Access::Needs(needed)) = (role, route.access) {
                    let p = problem(&answer);
                    assert_eq!(p.role_held.as_deref(), Some(held.as_str()), "{what}");
                    assert_eq!(p.role_needed.as_deref(), Some(needed.as_str()), "{what}");
                }
            } else if status >= 400 && !answer.starts_with("not ready") {
                // 503 is health's, which is a document of its own.
                assert!(
                    status == 503 || head.contains("application/problem+json"),
                    "{what}"
                );
            } else if status < 400 {
                assert_eq!(status, route.success, "{what}");
            }
        }
    }
    let refused = s.backend.refused.lock();
    assert!(
        refused
            .iter()
            .any(|r| r == "anonymous /v1/zones not-authenticated")
    );
    assert!(
        refused
            .iter()
            .any(|r| r == "token:operator /v1/zones/example.net not-allowed"),
        "{refused:?}"
    );
    assert!(!refused.iter().any(|r| r.contains("token:admin")));
}

#[tokio::test]
async fn what_strangers_send() {
    let s = server(Settings {
        max_body: 1000,
        ..Settings::default()
    })
    .await;
    let admin = format!("{JSON}authorization: Bearer cas_admin\r\n");
    let big = format!("{{\"comment\":\"{}\"}}", "x".repeat(2000));
    let long = format!("{{\"comment\":\"{}\"}}", "x".repeat(501));
    let add = r#"{"zone":"a","policy":"p","source":{"kind":"none"}}"#;
    for (method, path, headers, body, status, kind) in [
        ("GET", "/v1/nothing", "", "", 404, "no-such-route"),
        ("GET", "/", "", "", 404, "no-such-route"),
        ("DELETE", "/v1/zones", JSON, "", 405, "method-not-allowed"),
        ("BREW", "/v1/zones", "", "", 405, "method-not-allowed"),
        (
            "GET",
            "/v1/zones",
            "origin: https://evil.example\r\n",
            "",
            403,
            "foreign-origin",
        ),
        (
            "GET",
            "/v1/zones?halted=maybe",
            "",
            "",
            422,
            "invalid-value",
        ),
        ("GET", "/v1/zones?halt=true", "", "", 422, "unknown-member"),
        (
            "GET",
            "/v1/zones?dry_run=true",
            "",
            "",
            422,
            "unknown-member",
        ),
        (
            "POST",
            "/v1/zones",
            "authorization: Bearer cas_admin\r\n",
            add,
            415,
            "wrong-content-type",
        ),
        (
            "POST",
            "/v1/zones",
            "authorization: Bearer cas_admin\r\ncontent-type: text/plain\r\n",
            add,
            415,
            "wrong-content-type",
        ),
        ("POST", "/v1/zones", &admin, "{", 400, "malformed-json"),
        ("POST", "/v1/zones", &admin, "{}", 422, "invalid-value"),
        (
            "POST",
            "/v1/zones",
            &admin,
            r#"{"zon":"a"}"#,
            422,
            "unknown-member",
        ),
        (
            "POST",
            "/v1/zones?dry_run=perhaps",
            &admin,
            add,
            422,
            "invalid-value",
        ),
        ("POST", "/v1/zones/a/reload", &admin, &big, 413, "too-large"),
        (
            "POST",
            "/v1/zones/a/reload",
            &admin,
            &long,
            422,
            "invalid-value",
        ),
        (
            "POST",
            "/v1/zones/a/reload?dry_run=true",
            &admin,
            "{}",
            422,
            "unknown-member",
        ),
        (
            "POST",
            "/v1/zones/a/reviews/other/1/approve",
            &admin,
            "{}",
            422,
            "invalid-value",
        ),
        (
            "POST",
            "/v1/zones/a/reviews/signed/4294967296/approve",
            &admin,
            "{}",
            422,
            "invalid-value",
        ),
        (
            "GET",
            "/v1/zones/exmaple.net/status",
            "",
            "",
            404,
            "zone-not-found",
        ),
        ("GET", "/v1/status/keys", "", "", 500, "bug"),
        (
            "GET",
            "/v1/hsms",
            "authorization: Bearer cas_viewer\r\n",
            "",
            404,
            "no-such-route",
        ),
    ] {
        let (got, head, answer) = tcp(&s, method, path, headers, body).await;
        let what = format!("{method} {path} {body}: {got} {answer}");
        assert_eq!(got, status, "{what}");
        assert!(
            head.contains("content-type: application/problem+json"),
            "{what}"
        );
        let p = problem(&answer);
        assert_eq!(p.kind.slug(), kind, "{what}");
        assert_eq!(p.instance.as_deref(), path.split('?').next(), "{what}");
    }
    let (status, head, _) = tcp(&s, "OPTIONS", "/v1/zones", "", "").await;
    assert_eq!(status, 204);
    assert!(head.contains("allow: get, post, head, options"), "{head}");
    let (status, _, body) = tcp(&s, "HEAD", "/v1/info", "", "").await;
    assert_eq!((status, body.as_str()), (200, ""));
    let p = problem(
        &tcp(&s, "GET", "/v1/zones/exmaple.net/status", "", "")
            .await
            .2,
    );
    assert_eq!(p.suggestion.as_deref(), Some("example.net"));
}

#[tokio::test]
async fn foreign_hosts_and_wrong_tokens() {
    let s = server(Settings {
        allowed_hosts: vec!["ops.example".into()],
        ..Settings::default()
    })
    .await;
    for (host, status) in [
        ("evil.example", 421),
        ("ops.example", 200),
        ("localhost", 200),
        ("", 421),
    ] {
        let io = TcpStream::connect(s.tcp).await.unwrap();
        let text = format!("GET /v1/info HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        assert_eq!(raw(io, &text).await.0, status, "{host}");
    }
    let (status, head, _) = tcp(&s, "GET", "/v1/info", "authorization: Bearer cas_x\r\n", "").await;
    assert_eq!(status, 401);
    assert!(head.contains("www-authenticate: bearer"));
}

#[tokio::test]
async fn failed_authentications_are_limited() {
    let s = server(Settings::default()).await;
    let tries: Vec<_> = (0..10)
        .map(|_| {
            let addr = s.tcp;
            tokio::spawn(async move {
                let io = TcpStream::connect(addr).await.unwrap();
                raw(io, &format!("GET /v1/info HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\nauthorization: Bearer no\r\n\r\n")).await.0
            })
        })
        .collect();
    for t in tries {
        assert_eq!(t.await.unwrap(), 401);
    }
    // Even the right token has to wait now; no credentials need no wait.
    let (status, head, _) = tcp(
        &s,
        "GET",
        "/v1/info",
        "authorization: Bearer cas_admin\r\n",
        "",
    )
    .await;
    assert_eq!(status, 401);
    assert!(head.contains("retry-after:"), "{head}");
    assert_eq!(tcp(&s, "GET", "/v1/info", "", "").await.0, 200);
}

#[tokio::test]
async fn closed_to_anonymous_callers() {
    let s = server(Settings {
        anonymous_read: false,
        ..Settings::default()
    })
    .await;
    for (path, status) in [
        ("/v1/info", 401),
        ("/metrics", 401),
        ("/livez", 200),
        ("/readyz", 503),
    ] {
        assert_eq!(tcp(&s, "GET", path, "", "").await.0, status, "{path}");
    }
    let viewer = "authorization: Bearer cas_viewer\r\n";
    assert_eq!(tcp(&s, "GET", "/metrics", viewer, "").await.0, 200);
}

#[tokio::test]
async fn peer_of_the_socket_is_known() {
    // Tests run as some user: with that user as the daemon's own, the caller is admin.
    let own_uid = nix::unistd::getuid().as_raw();
    let mut settings = Settings::default();
    settings.admins.own_uid = own_uid;
    let s = server(settings).await;
    let add = r#"{"zone":"a.example","policy":"p","source":{"kind":"none"}}"#;
    let text = format!(
        "POST /v1/zones HTTP/1.1\r\nhost: localhost\r\n{JSON}connection: close\r\ncontent-length: {}\r\n\r\n{add}",
        add.len()
    );
    let (status, _, body) = raw(UnixStream::connect(&s.unix).await.unwrap(), &text).await;
    assert_eq!(status, 201, "{body}");
    let callers = s.backend.callers.lock();
    assert!(
        callers[0].actor.starts_with(&format!("uid:{own_uid}")),
        "{callers:?}"
    );
    assert_eq!(callers[0].from, "unix");
    assert!(callers[0].roles.has(Role::Admin));
}

#[tokio::test]
async fn names_arrive_as_they_are() {
    let s = server(Settings::default()).await;
    for name in [
        "example.net",
        ".",
        "0/25.2.0.192.in-addr.arpa",
        "a%b?.example",
        "a\\046b.example",
        "@",
    ] {
        let path = format!("/v1/zones/{}", cascade_api::path::zone_segment(name));
        let (status, _, body) = tcp(&s, "GET", &path, "", "").await;
        assert_eq!(status, 200);
        let zone: Zone = serde_json::from_str(&body).unwrap();
        // A label `@` is written `\064`, so that it is not taken for the root.
        assert_eq!(zone.zone, if name == "@" { "\\064" } else { name });
    }
}

#[tokio::test]
async fn later_and_streamed_answers() {
    let s = server(Settings::default()).await;
    let operator = format!("{JSON}authorization: Bearer cas_operator\r\n");
    let (status, head, _) = tcp(&s, "POST", "/v1/zones/a/reload", &operator, "").await;
    assert_eq!(status, 202);
    assert!(head.contains("location: /v1/operations/op-1"), "{head}");
    let (status, head, body) = tcp(&s, "GET", "/v1/zones/a/export", &operator, "").await;
    assert_eq!(status, 200);
    assert!(
        head.contains("text/dns") && body.contains("example. 1 IN ") && body.ends_with("0\r\n\r\n")
    );
    // Half a zone must not look whole: the chunked answer lacks its end.
    let (_, _, body) = tcp(&s, "GET", "/v1/zones/a/export?json=true", &operator, "").await;
    assert!(!body.ends_with("0\r\n\r\n"), "{body:?}");
}

#[tokio::test]
async fn health_speaks_to_probes() {
    let s = server(Settings::default()).await;
    assert_eq!(tcp(&s, "GET", "/v1/health", "", "").await.0, 200);
    let viewer = "authorization: Bearer cas_viewer\r\n";
    assert_eq!(tcp(&s, "GET", "/v1/health/deep", viewer, "").await.0, 503);
}

#[tokio::test]
async fn reads_are_bounded() {
    let s = server(Settings::default()).await;
    let (status, _, body) = tcp(&s, "GET", "/v1/zones?policy=slow", "", "").await;
    assert_eq!((status, problem(&body).kind), (504, ProblemType::Timeout));
}

#[tokio::test]
async fn too_many_connections_are_turned_away() {
    let s = server(Settings {
        max_connections: 2,
        ..Settings::default()
    })
    .await;
    let first = TcpStream::connect(s.tcp).await.unwrap();
    let second = TcpStream::connect(s.tcp).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut third = TcpStream::connect(s.tcp).await.unwrap();
    let mut text = String::new();
    third.read_to_string(&mut text).await.unwrap();
    assert!(
        text.starts_with("HTTP/1.1 503 ") && text.contains("problem:busy"),
        "{text}"
    );
    drop((first, second));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(tcp(&s, "GET", "/livez", "", "").await.0, 200);
}

#[tokio::test]
async fn stops_although_a_peer_is_silent() {
    let s = server(Settings::default()).await;
    let _silent = TcpStream::connect(s.tcp).await.unwrap();
    let _half = {
        let mut io = UnixStream::connect(&s.unix).await.unwrap();
        io.write_all(b"GET /v1/in").await.unwrap();
        io
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    s.stop.send(true).unwrap();
    for t in s.tasks {
        tokio::time::timeout(Duration::from_secs(8), t)
            .await
            .expect("ends")
            .unwrap();
    }
}
