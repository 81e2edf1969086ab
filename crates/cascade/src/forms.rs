//! Forms of arguments: from text to value, with the accepted forms in each refusal.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cascade_api::path::zone_name;
use cascade_api::zones::{Source, SourceServer};
use cascade_time::{Timestamp, parse_span};

/// A zone's name as people type it: any case, with or without final dot. `id:…` passes.
///
/// Only what no name can be is refused here; the daemon judges the rest.
pub fn zone(text: &str) -> Result<String, String> {
    let refuse = |why: &str| {
        Err(format!(
            "{why}; write a domain name, for example example.net, or . for the root"
        ))
    };
    if text.is_empty() {
        return refuse("the zone name is empty");
    }
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return refuse("the zone name has blanks or control characters");
    }
    if !text.is_ascii() {
        return refuse("the zone name is not ASCII: write its A-labels (xn--…)");
    }
    if text != "." && !text.starts_with("id:") {
        if text.starts_with('.') || text.replace("\\.", "").contains("..") {
            return refuse("the zone name has an empty label");
        }
        // Escapes make the text longer than the name, never shorter.
        if text.len() > 4 * 255 {
            return refuse("the zone name is too long");
        }
    }
    Ok(zone_name(text))
}

/// Seconds or `1h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    parse_span(text).map_err(|e| e.to_string())
}

/// A time, absolute or relative to the moment of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    At(Timestamp),
    FromNow(Duration),
    BeforeNow(Duration),
}

impl When {
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            When::At(at) => at,
            When::FromNow(span) => now + span,
            When::BeforeNow(span) => now - span,
        }
    }
}

/// RFC 3339, `now`, `now+2d`, `now-1h` or `YYYY-MM-DD`.
pub fn time(text: &str) -> Result<When, String> {
    if text == "now" {
        return Ok(When::FromNow(Duration::ZERO));
    }
    if let Some(span) = text.strip_prefix("now+") {
        return duration(span).map(When::FromNow);
    }
    if let Some(span) = text.strip_prefix("now-") {
        return duration(span).map(When::BeforeNow);
    }
    Timestamp::parse_rfc3339(text)
        .or_else(|| Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")))
        .map(When::At)
        .ok_or_else(|| {
            "write a time such as 2026-11-23T14:00:00Z, 2026-11-23, now, now+2d or now-1h"
                .to_string()
        })
}

/// `<version>` of a zone: `v<N>`, `serial:<N>`, `current`, `previous`, `candidate`.
pub fn version(text: &str) -> Result<String, String> {
    let number = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let ok = matches!(text, "current" | "previous" | "candidate")
        || text.strip_prefix('v').is_some_and(number)
        || text
            .strip_prefix("serial:")
            .is_some_and(|t| t.parse::<u32>().is_ok());
    if ok {
        return Ok(text.to_string());
    }
    Err("write v42, serial:2026112301, current, previous or candidate".to_string())
}

const SOURCE_FORMS: &str = "write /path or file:<path>, <IP>[:port][^tsig-key], \
    tls:<IP>[:port]#<auth-name>[^tsig-key], update:/path, update:<name server>[,…], or none";

/// One `--source`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceArg {
    None,
    File(PathBuf),
    Server(SourceServer),
    /// Content of its own: what it begins with.
    Update(Begin),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    File(PathBuf),
    NameServers(Vec<String>),
    /// What is published.
    Live,
}

pub fn source(text: &str) -> Result<SourceArg, String> {
    if text == "none" {
        return Ok(SourceArg::None);
    }
    if let Some(begin) = text.strip_prefix("update:") {
        return update(begin).map(SourceArg::Update);
    }
    if text == "update" {
        return Ok(SourceArg::Update(Begin::Live));
    }
    if let Some(path) = text.strip_prefix("file:") {
        return if path.is_empty() {
            Err(SOURCE_FORMS.to_string())
        } else {
            Ok(SourceArg::File(path.into()))
        };
    }
    if text.starts_with('/') || text.starts_with("./") || text.starts_with("../") {
        return Ok(SourceArg::File(text.into()));
    }
    server(text).map(SourceArg::Server).ok_or_else(|| {
        format!(
            "'{text}' is neither a path nor an address; {SOURCE_FORMS}. A host name is not accepted"
        )
    })
}

/// What stands behind `update:`.
fn update(text: &str) -> Result<Begin, String> {
    if text.is_empty() {
        return Ok(Begin::Live);
    }
    if text.contains('/') {
        return Ok(Begin::File(text.into()));
    }
    let names: Vec<String> = text.split(',').map(str::to_string).collect();
    match names.iter().find(|n| n.trim_end_matches('.').is_empty()) {
        None => Ok(Begin::NameServers(names)),
        Some(_) => Err(format!(
            "'update:{text}': write update:/path for a zone file to begin with, or \
             update:ns1.example.,ns2.example. for an empty zone with these name servers"
        )),
    }
}

fn server(text: &str) -> Option<SourceServer> {
    let (rest, tls) = match text.strip_prefix("tls:") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let (rest, tsig_key) = match rest.split_once('^') {
        Some((_, "")) => return None,
        Some((rest, key)) => (rest, Some(key.to_string())),
        None => (rest, None),
    };
    let (address, tls_name) = match (rest.split_once('#'), tls) {
        (Some((_, "")), true) | (None, true) | (Some(_), false) => return None,
        (Some((address, name)), true) => (address, Some(name.to_string())),
        (None, false) => (rest, None),
    };
    let default_port = if tls { 853 } else { 53 };
    let (ip, port) = match address.parse::<std::net::SocketAddr>() {
        Ok(sa) if sa.port() != 0 => (sa.ip(), sa.port()),
        Ok(_) => return None,
        Err(_) => {
            let bare = address
                .strip_prefix('[')
                .and_then(|a| a.strip_suffix(']'))
                .unwrap_or(address);
            (bare.parse().ok()?, default_port)
        }
    };
    Some(SourceServer {
        address: ip.to_string(),
        port,
        tsig_key,
        tls_name,
    })
}

/// All `--source` of one command together; relative paths are made absolute against `cwd` without
/// resolving links.
pub fn sources(args: &[SourceArg], cwd: &Path) -> Result<Source, String> {
    let mut servers = Vec::new();
    for arg in args {
        match arg {
            SourceArg::Server(s) => servers.push(s.clone()),
            SourceArg::None if args.len() == 1 => return Ok(Source::None {}),
            SourceArg::File(path) if args.len() == 1 => {
                return Ok(Source::File {
                    path: absolute(path, cwd)?,
                });
            }
            SourceArg::Update(begin) if args.len() == 1 => {
                return Ok(match begin {
                    Begin::File(path) => Source::Update {
                        path: Some(absolute(path, cwd)?),
                        name_servers: Vec::new(),
                    },
                    Begin::NameServers(names) => Source::Update {
                        path: None,
                        name_servers: names.clone(),
                    },
                    Begin::Live => Source::Update {
                        path: None,
                        name_servers: Vec::new(),
                    },
                });
            }
            _ => {
                return Err(
                    "a file, update: or none cannot be combined with another source".to_string(),
                );
            }
        }
    }
    Ok(Source::Servers { servers })
}

/// Absolute, and without `.` components; `..` stays, since resolving it would follow links.
pub fn absolute(path: &Path, cwd: &Path) -> Result<String, String> {
    let joined: PathBuf = cwd.join(path).components().collect();
    joined.to_str().map(str::to_string).ok_or_else(|| {
        format!(
            "path {} is not UTF-8, which the control API needs",
            joined.display()
        )
    })
}

/// A key algorithm as number or mnemonic (IANA registry of DNSSEC algorithms).
pub fn algorithm(text: &str) -> Result<u8, String> {
    if let Ok(n) = text.parse::<u8>() {
        return Ok(n);
    }
    ALGORITHMS
        .iter()
        .find(|(_, name)| name.eq_ignore_ascii_case(text))
        .map(|(n, _)| *n)
        .ok_or_else(|| format!("'{text}' is not an algorithm; write 13 or ECDSAP256SHA256"))
}

const ALGORITHMS: &[(u8, &str)] = &[
    (5, "RSASHA1"),
    (7, "RSASHA1-NSEC3-SHA1"),
    (8, "RSASHA256"),
    (10, "RSASHA512"),
    (13, "ECDSAP256SHA256"),
    (14, "ECDSAP384SHA384"),
    (15, "ED25519"),
    (16, "ED448"),
];

/// The mnemonic, or the number when there is none.
pub fn algorithm_name(number: u8) -> String {
    ALGORITHMS
        .iter()
        .find(|(n, _)| *n == number)
        .map_or_else(|| number.to_string(), |(_, name)| (*name).to_string())
}

/// `NAME=VALUE`, as for an environment.
pub fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
        _ => Err("write NAME=VALUE, for example SOFTHSM2_CONF=/etc/softhsm2.conf".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones() {
        for (text, name) in [
            ("Example.NET.", "example.net"),
            (".", "."),
            ("0/25.2.0.192.in-addr.arpa", "0/25.2.0.192.in-addr.arpa"),
            ("a\\046b.example", "a\\046b.example"),
            ("a\\.", "a\\."),
            ("id:01JD8Z3V", "id:01JD8Z3V"),
        ] {
            assert_eq!(zone(text).as_deref(), Ok(name), "{text}");
        }
        for text in ["", "a..b", ".a", "a b", "bücher.example", "a\u{1b}[m"] {
            assert!(zone(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sources_of_every_form() {
        let s = |address: &str, port, tsig: Option<&str>, tls: Option<&str>| {
            Ok(SourceArg::Server(SourceServer {
                address: address.into(),
                port,
                tsig_key: tsig.map(Into::into),
                tls_name: tls.map(Into::into),
            }))
        };
        for (text, expected) in [
            ("none", Ok(SourceArg::None)),
            ("/etc/z", Ok(SourceArg::File("/etc/z".into()))),
            ("./z", Ok(SourceArg::File("./z".into()))),
            ("file:a^b", Ok(SourceArg::File("a^b".into()))),
            ("192.0.2.1", s("192.0.2.1", 53, None, None)),
            ("192.0.2.1:5353^k", s("192.0.2.1", 5353, Some("k"), None)),
            ("[2001:db8::1]:5353", s("2001:db8::1", 5353, None, None)),
            ("2001:db8::1", s("2001:db8::1", 53, None, None)),
            (
                "tls:192.0.2.1#ns.example",
                s("192.0.2.1", 853, None, Some("ns.example")),
            ),
            (
                "tls:[::1]:8853#ns.example^k",
                s("::1", 8853, Some("k"), Some("ns.example")),
            ),
        ] {
            assert_eq!(source(text), expected, "{text}");
        }
        for text in [
            "",
            "file:",
            "primary.example",
            "zones/example.net",
            "192.0.2.1^",
            "192.0.2.1:0",
            "192.0.2.1#x",
            "tls:192.0.2.1",
            "tls:192.0.2.1#",
        ] {
            assert!(source(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sources_together() {
        let cwd = Path::new("/home/me");
        let file = SourceArg::File("./x/./y".into());
        assert_eq!(
            sources(std::slice::from_ref(&file), cwd),
            Ok(Source::File {
                path: "/home/me/x/y".into()
            })
        );
        assert!(sources(&[file.clone(), file], cwd).is_err());
        let server = source("192.0.2.1").unwrap();
        assert!(sources(&[server.clone(), SourceArg::None], cwd).is_err());
        match sources(&[server.clone(), server], cwd) {
            Ok(Source::Servers { servers }) => assert_eq!(servers.len(), 2),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn times_and_versions() {
        let now = Timestamp::from_secs(1000);
        assert_eq!(time("now+1m").unwrap().at(now), Timestamp::from_secs(1060));
        assert_eq!(time("now-1m").unwrap().at(now), Timestamp::from_secs(940));
        assert_eq!(
            time("1970-01-02").unwrap().at(now),
            Timestamp::from_secs(86_400)
        );
        assert_eq!(
            time("1970-01-01T01:00:00+01:00").unwrap().at(now),
            Timestamp::EPOCH
        );
        for text in ["", "yesterday", "now+", "2026-13-01"] {
            assert!(time(text).is_err(), "{text}");
        }
        for text in [
            "v1",
            "serial:4294967295",
            "current",
            "previous",
            "candidate",
        ] {
            assert!(version(text).is_ok(), "{text}");
        }
        for text in ["1", "v", "serial:4294967296", "newest"] {
            assert!(version(text).is_err(), "{text}");
        }
    }
}
