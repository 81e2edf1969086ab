//! What is checked before a call is looked at: host, origin, content type, role.

use std::net::IpAddr;

use cascade_api::client::is_loopback;
use cascade_api::{Access, Method, Problem, ProblemType, Role, Route, RouteId};
use hyper::header;
use hyper::http::request::Parts;

use super::backend::Caller;

/// How a connection came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Unix,
    Tcp { local: IpAddr, peer: IpAddr },
}

/// The `Host` of a request over TCP must be the address it came to, or a name that is allowed.
/// Otherwise a foreign name could be rebound to our address and a web page talk to us.
pub fn check_host(parts: &Parts, transport: Transport, allowed: &[String]) -> Result<(), Problem> {
    let Transport::Tcp { local, .. } = transport else {
        return Ok(());
    };
    let authority = match parts.headers.get(header::HOST) {
        Some(value) => value.to_str().unwrap_or("").to_string(),
        // HTTP/2 has it in the request's target.
        None => parts
            .uri
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default(),
    };
    let host = host_of(&authority);
    let bound = host
        .parse::<IpAddr>()
        .is_ok_and(|ip| ip.to_canonical() == local.to_canonical());
    let local_name = host.eq_ignore_ascii_case("localhost") && is_loopback(&local.to_string());
    let listed = allowed
        .iter()
        .any(|a| a.eq_ignore_ascii_case(host) || a.eq_ignore_ascii_case(&authority));
    if bound || local_name || listed {
        return Ok(());
    }
    Err(Problem::new(
        ProblemType::WrongHost,
        format!("host '{authority}' is not served here"),
    )
    .action("use the address of the daemon, or add the name to remote-control.allowed-hosts"))
}

/// A browser says where a page comes from; pages of strangers are refused.
pub fn check_origin(parts: &Parts, allowed: &[String]) -> Result<(), Problem> {
    let Some(origin) = parts.headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or("");
    if allowed.iter().any(|a| a == origin) {
        return Ok(());
    }
    Err(Problem::new(
        ProblemType::ForeignOrigin,
        format!("web pages of '{origin}' may not call this daemon"),
    )
    .action("add the origin to remote-control.cors-origins if it is yours"))
}

/// Pages can send forms and text without asking, but not JSON.
pub fn check_content_type(parts: &Parts, method: Method) -> Result<(), Problem> {
    if !method.changes() {
        return Ok(());
    }
    let given = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok());
    let essence = given.and_then(|v| v.split(';').next()).unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json")
        || essence.eq_ignore_ascii_case("application/merge-patch+json")
    {
        return Ok(());
    }
    let said = given.map_or("none".to_string(), |v| format!("'{v}'"));
    Err(Problem::new(
        ProblemType::WrongContentType,
        format!("content type is {said}; changing calls need 'application/json'"),
    )
    .action("send the header 'Content-Type: application/json'"))
}

/// The role check. `open` says that anonymous callers may use the routes marked "any".
pub fn check_role(
    route: &Route,
    caller: &Caller,
    transport: Transport,
    open: bool,
) -> Result<(), Problem> {
    let probe = matches!(route.id, RouteId::Livez | RouteId::Readyz);
    let allowed = match route.access {
        Access::Any => probe || open || !caller.roles.is_empty(),
        Access::Needs(_) => route.access.allows(caller.roles),
    };
    if allowed {
        return Ok(());
    }
    let what = format!("{} {}", route.method.as_str(), route.path);
    let needed = match route.access {
        Access::Any => "viewer",
        Access::Needs(role) => role.as_str(),
    };
    let unix = transport == Transport::Unix;
    if caller.roles.is_empty() && !unix {
        return Err(Problem::new(
            ProblemType::NotAuthenticated,
            format!("{what} needs role {needed}, and no credentials were given"),
        )
        .action("cascade token add <name> --role <role>, then --token-file"));
    }
    let held = caller.roles.to_string();
    let who = caller.actor.as_str();
    let mut problem = Problem::new(
        ProblemType::NotAllowed,
        format!("{who} has role {held}; {what} needs role {needed}"),
    )
    .action(if unix {
        "run as root or join group cascade, for example with sudo"
    } else {
        "cascade token add <name> --role <role>"
    });
    problem.role_held = Some(held);
    problem.role_needed = Some(needed.to_string());
    Err(problem)
}

/// A caller whose token is for some zones: what names a zone must name one of them, and what
/// changes something of all zones is not open. Adding a zone names it in the body; see
/// [`zone_in_body`].
pub fn check_zone(route: &Route, zone: Option<&str>, pattern: &str) -> Result<(), Problem> {
    let reads = !route.method.changes() || route.access == Access::Needs(Role::Viewer);
    match zone {
        Some(zone) => zone_in_body(zone, pattern),
        None if reads || route.id == RouteId::ZoneAdd => Ok(()),
        None => Err(Problem::new(
            ProblemType::NotAllowed,
            format!(
                "the token is for the zones '{pattern}' only, and {} {} is not about one zone",
                route.method.as_str(),
                route.path
            ),
        )
        .action("cascade token add <name> --role <role>, without --zones")),
    }
}

/// As [`check_zone`], for the zone that a body names.
pub fn zone_in_body(zone: &str, pattern: &str) -> Result<(), Problem> {
    let plain = cascade_api::path::zone_name(zone);
    if matches(&cascade_api::path::zone_name(pattern), &plain) {
        return Ok(());
    }
    Err(Problem::new(
        ProblemType::NotAllowed,
        format!("the token is for the zones '{pattern}' only, not for '{plain}'"),
    )
    .action("cascade token add <name> --role <role> --zones <pattern>"))
}

/// `*` stands for any run of characters, `?` for one. After a mismatch only the last star can take
/// more, so the work is bounded by the product of the lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let (p, t) = (pattern.as_bytes(), text.as_bytes());
    let (mut i, mut j) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while j < t.len() {
        match p.get(i) {
            Some(b'*') => {
                star = Some((i, j));
                i += 1;
            }
            Some(&c) if c == b'?' || t.get(j) == Some(&c) => {
                i += 1;
                j += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    i = at + 1;
                    j = taken + 1;
                }
                None => return false,
            },
        }
    }
    p.iter().skip(i).all(|c| *c == b'*')
}

/// `host` of `host`, `host:port`, `[v6]` and `[v6]:port`.
fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or("", |(host, _)| host);
    }
    authority
        .split_once(':')
        .map_or(authority, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut r = hyper::Request::builder().uri("/v1/zones");
        for (k, v) in headers {
            r = r.header(*k, *v);
        }
        r.body(()).unwrap().into_parts().0
    }

    #[test]
    fn hosts() {
        let here = |ip: &str| Transport::Tcp {
            local: ip.parse().unwrap(),
            peer: "127.0.0.1".parse().unwrap(),
        };
        for (host, local, ok) in [
            ("127.0.0.1:4539", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("localhost:4539", "127.0.0.1", true),
            ("[::1]:4539", "::1", true),
            ("localhost", "192.0.2.1", false),
            ("192.0.2.1:1", "192.0.2.1", true),
            ("evil.example:4539", "127.0.0.1", false),
            ("ops.example", "127.0.0.1", true),
            ("", "127.0.0.1", false),
            ("127.0.0.1.evil.example", "127.0.0.1", false),
        ] {
            let r = check_host(
                &parts(&[("host", host)]),
                here(local),
                &["ops.example".into()],
            );
            assert_eq!(r.is_ok(), ok, "{host} at {local}");
        }
        assert!(check_host(&parts(&[]), here("127.0.0.1"), &[]).is_err());
        assert!(check_host(&parts(&[("host", "whatever")]), Transport::Unix, &[]).is_ok());
    }

    #[test]
    fn patterns() {
        for (pattern, text, ok) in [
            ("*", "anything.example", true),
            ("*", "", true),
            ("*.example", "a.example", true),
            ("*.example", "a.b.example", true),
            ("*.example", "example", false),
            ("*.example", "a.example.net", false),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("example.net", "example.net", true),
            ("example.net", "xexample.net", false),
            ("**", "x", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), ok, "{pattern} {text}");
        }
    }

    #[test]
    fn tokens_for_some_zones() {
        let route = |id: RouteId| {
            cascade_api::ROUTES
                .iter()
                .find(|r| r.id == id)
                .expect("route")
        };
        let check = |id, zone, ok| {
            let r = check_zone(route(id), zone, "*.Example.");
            assert_eq!(r.is_ok(), ok, "{id:?} {zone:?}");
        };
        check(RouteId::ZoneReload, Some("a.example"), true);
        check(RouteId::ZoneReload, Some("a.test"), false);
        check(RouteId::ZoneHistory, Some("a.test"), false);
        check(RouteId::ZoneList, None, true);
        check(RouteId::PolicyCheck, None, true);
        check(RouteId::ZoneAdd, None, true);
        check(RouteId::PolicyReload, None, false);
        check(RouteId::TokenAdd, None, false);
        assert!(zone_in_body("A.example.", "*.example").is_ok());
        assert!(zone_in_body("a.test", "*.example").is_err());
    }

    #[test]
    fn origins_and_types() {
        assert!(check_origin(&parts(&[]), &[]).is_ok());
        assert!(check_origin(&parts(&[("origin", "https://evil.example")]), &[]).is_err());
        assert!(check_origin(&parts(&[("origin", "null")]), &[]).is_err());
        let mine = ["https://ops.example".to_string()];
        assert!(check_origin(&parts(&[("origin", "https://ops.example")]), &mine).is_ok());
        assert!(check_content_type(&parts(&[]), Method::Get).is_ok());
        for (ct, ok) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            let r = check_content_type(&parts(&[("content-type", ct)]), Method::Post);
            assert_eq!(r.is_ok(), ok, "{ct}");
        }
        assert!(check_content_type(&parts(&[]), Method::Delete).is_err());
    }
}
