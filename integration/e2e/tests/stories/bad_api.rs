//! Requests that no well-behaved client would send.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use cascade_e2e::{Reply, Site, over_tcp, over_unix};

use crate::common::{SEED, add, site_with_policy};

/// Every error is a problem document with the parts that a person needs.
#[track_caller]
fn problem(reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{reply:?}");
    let kind = reply.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/problem+json"), "{reply:?}");
    let document = reply.json();
    assert_eq!(document["status"], status, "{reply:?}");
    for member in ["type", "title", "detail"] {
        assert!(document[member].is_string(), "no {member} in {reply:?}");
    }
    assert!(!reply.body.contains("panicked"), "{reply:?}");
}

fn post(site: &Site, path: &str, body: &str) -> Reply {
    site.request("POST", path, Some(body)).unwrap()
}

#[test]
fn bodies_that_are_wrong() {
    let site = site_with_policy("");
    let file = site.write("zones/example.net", SEED);
    let path = file.display();
    let good = format!(
        r#"{{"zone":"example.net","policy":"p","source":{{"kind":"file","path":"{path}"}}}}"#
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("nonsense", 400),
        (deep.as_str(), 400),
        ("[]", 422),
        ("{}", 422),
        (r#"{"zone":7}"#, 422),
        (&good.replace("\"policy\"", "\"polcy\""), 422),
        (&good.replace("example.net\",", "example..net\","), 422),
        (&good.replace("\"file\"", "\"tape\""), 422),
        (&good.replace(&path.to_string(), "relative"), 422),
    ] {
        let reply = post(&site, "/v1/zones", body);
        assert!(
            reply.status == status || (400..=422).contains(&reply.status),
            "{body:.80}: {reply:?}"
        );
        problem(&reply, reply.status);
    }
    let reply = post(&site, "/v1/zones", &good.replace("\"policy\"", "\"polcy\""));
    assert!(
        reply.body.contains("policy"),
        "a near name is suggested: {reply:?}"
    );
    assert_eq!(
        site.ok(&["zone", "list"]),
        "",
        "nothing was applied by halves"
    );
    assert_eq!(post(&site, "/v1/zones", &good).status, 201);
    problem(&post(&site, "/v1/zones", &good), 409);
}

#[test]
fn bodies_that_are_too_large() {
    let site = Site::started();
    let reply = post(
        &site,
        "/v1/zones",
        &format!("{{\"zone\":\"{}\"}}", "x".repeat(5 << 20)),
    );
    assert_eq!(
        reply.status,
        413,
        "{}",
        &reply.body[..reply.body.len().min(300)]
    );
}

#[test]
fn routes_and_methods_that_do_not_exist() {
    let site = Site::started();
    problem(&site.request("GET", "/v1/nothing", None).unwrap(), 404);
    problem(
        &site.request("GET", "/v1/zones/no.example", None).unwrap(),
        404,
    );
    problem(&site.request("GET", "/v1/zones/%ff%fe", None).unwrap(), 404);
    problem(&site.request("DELETE", "/v1/status", None).unwrap(), 405);
    problem(&post(&site, "/v1/zones/no.example/reload", "{}"), 404);
    problem(
        &post(&site, "/v1/zones/no.example/reviews/signed/1/approve", "{}"),
        404,
    );
}

#[test]
fn headers_that_web_pages_send() {
    let site = Site::started();
    let ask = |headers: &[(&str, &str)]| {
        over_unix(
            &site.socket(),
            "POST",
            "/v1/policies/reload",
            headers,
            Some("{}"),
        )
        .unwrap()
    };
    problem(&ask(&[("Content-Type", "text/plain")]), 415);
    problem(&ask(&[("Origin", "https://evil.example")]), 403);
    let reply = over_tcp(
        site.http_port(),
        "GET",
        "/v1/status",
        &[("Host", "evil.example")],
        None,
    );
    problem(&reply.unwrap(), 421);
    assert_eq!(ask(&[]).status, 200);
}

#[test]
fn strangers_over_tcp_may_look_at_status_and_no_more() {
    let site = site_with_policy("");
    add(&site, "example.net", SEED);
    site.await_published("example.net", 1);
    let port = site.http_port();
    let get = |path: &str| over_tcp(port, "GET", path, &[], None).unwrap();
    for path in [
        "/livez",
        "/readyz",
        "/metrics",
        "/v1/openapi.json",
        "/v1/info",
        "/v1/status",
        "/v1/health",
        "/v1/zones",
        "/v1/zones/example.net/status",
    ] {
        assert_eq!(get(path).status, 200, "{path}");
    }
    for path in [
        "/v1/zones/example.net/history",
        "/v1/zones/example.net/export",
        "/v1/policies",
    ] {
        let reply = get(path);
        problem(&reply, 401);
        assert!(
            reply
                .header("www-authenticate")
                .is_some_and(|v| v.starts_with("Bearer")),
            "{path}"
        );
    }
    let reply = over_tcp(
        port,
        "POST",
        "/v1/zones/example.net/reload",
        &[],
        Some("{}"),
    )
    .unwrap();
    problem(&reply, 401);
    let headers = [("Authorization", "Bearer cas_not-a-token")];
    problem(
        &over_tcp(port, "POST", "/v1/policies/reload", &headers, Some("{}")).unwrap(),
        401,
    );
}

#[test]
fn octets_that_are_no_requests() {
    let mut site = Site::started();
    let garbage: [&[u8]; 6] = [
        b"\0\0\0\0\0\0\0\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/zones HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /v1/zones HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\xff\xff\xff\xff\xff",
    ];
    let long = [b"GET /".as_slice(), &[b'a'; 1 << 20], b" HTTP/1.1\r\n\r\n"].concat();
    for octets in garbage.into_iter().chain([long.as_slice()]) {
        let mut stream = UnixStream::connect(site.socket()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let _ = stream.write_all(octets);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(
            !answer.starts_with(b"HTTP/1.1 2"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    // Connections that say nothing keep nobody else out.
    let silent: Vec<_> = (0..100)
        .filter_map(|_| TcpStream::connect(("127.0.0.1", site.http_port())).ok())
        .collect();
    site.ok(&["status"]);
    drop(silent);
    assert!(site.is_running());
    assert!(!site.log().contains("panicked"), "{}", site.log());
}

#[test]
fn decisions_by_the_api_are_checked_like_those_by_the_command() {
    let site = site_with_policy("[loader.review]\nmode = \"manual\"\n");
    add(&site, "example.net", SEED);
    site.await_state("example.net", "unsigned-review");
    let path = "/v1/zones/example.net/reviews/unsigned";
    problem(&post(&site, &format!("{path}/2/approve"), "{}"), 409);
    problem(
        &post(&site, &format!("{path}/99999999999/approve"), "{}"),
        422,
    );
    problem(
        &post(&site, "/v1/zones/example.net/reviews/half/1/approve", "{}"),
        422,
    );
    problem(
        &post(&site, &format!("{path}/1/approve"), "{\"by\":\"me\"}"),
        422,
    );
    assert_eq!(site.status("example.net")["state"], "unsigned-review");
    let reply = post(
        &site,
        &format!("{path}/1/approve"),
        "{\"comment\":\"ticket 812\"}",
    );
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["verdict"], "approved");
    site.await_published("example.net", 1);
}
