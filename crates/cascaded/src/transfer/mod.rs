//! Transfers in: the sockets around the loader's machine.
//!
//! [`fetch`] asks the primaries of a zone in order and gives what a load of a file gives; [`io`]
//! are the two ways to ask. What answers mean is decided in `cascade_loader::xfr`.

mod fetch;
mod io;
mod limits;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cascade_api::zones::{Source, SourceServer};
use cascade_wire::acl::AclEntry;
use cascade_wire::tsig::TsigKey;
use cascade_wire::{Acl, TsigKeys};
use cascade_zone::{Name, Serial};

pub use fetch::{Fetch, Fetched, fetch};
pub use limits::Gate;

use crate::xot::Auth;

/// A server that the zone's content comes from.
#[derive(Debug, Clone)]
pub struct Primary {
    pub addr: SocketAddr,
    pub key: Option<Arc<TsigKey>>,
    /// Over TLS, and never otherwise (RFC 9103).
    pub tls: Option<Tls>,
    /// Address, port and key as people write them.
    pub text: String,
}

/// How a primary proves itself over TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    pub auth: Auth,
    /// Authorities; absent: the system's.
    pub ca: Option<PathBuf>,
}

/// An IXFR that failed: asked for so often, it is not tried again until a whole transfer worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    pub addr: SocketAddr,
    pub serial: Serial,
    pub times: u32,
}

/// Failures of one IXFR before it is left.
const IXFR_TRIES: u32 = 2;

/// The primaries of a source, with the keys that the daemon has now. `ca`: `loader.tls.ca-path`.
///
/// # Errors
/// Names the server that cannot be used, and what to do.
pub fn primaries(
    servers: &[SourceServer],
    keys: &TsigKeys,
    ca: Option<&Path>,
) -> Result<Vec<Primary>, String> {
    servers.iter().map(|s| primary(s, keys, ca)).collect()
}

fn primary(s: &SourceServer, keys: &TsigKeys, ca: Option<&Path>) -> Result<Primary, String> {
    let text = server_text(s);
    let auth = s.tls_name.as_deref().map(Auth::parse).transpose();
    let tls = auth.map_err(|e| format!("{text}: {e}"))?.map(|auth| Tls {
        auth,
        ca: ca.map(Path::to_path_buf),
    });
    let ip: IpAddr = s
        .address
        .parse()
        .map_err(|_| format!("{text}: '{}' is not an IP address", s.address))?;
    if s.port == 0 {
        return Err(format!("{text}: port 0 cannot be asked"));
    }
    let key = match &s.tsig_key {
        None => None,
        Some(k) => {
            let known = Name::parse(k)
                .ok()
                .and_then(|n| keys.get(&n.to_lowercase()).cloned());
            Some(known.ok_or_else(|| {
                format!("{text}: TSIG key '{k}' is not known; add it: cascade tsig add {k}")
            })?)
        }
    };
    Ok(Primary {
        addr: SocketAddr::new(ip, s.port),
        key,
        tls,
        text,
    })
}

/// The server as `--source` takes it.
pub fn server_text(s: &SourceServer) -> String {
    let addr = match s.address.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, s.port).to_string(),
        Err(_) => format!("{}:{}", s.address, s.port),
    };
    let tls = s.tls_name.as_ref();
    format!(
        "{}{addr}{}{}",
        tls.map_or("", |_| "tls:"),
        tls.map_or(String::new(), |n| format!("#{n}")),
        s.tsig_key
            .as_ref()
            .map_or(String::new(), |k| format!("^{k}")),
    )
}

/// Who may say that the source has something new: the primaries by their address, and whoever has
/// their key.
pub fn notify_acl(source: &Source) -> Acl {
    let Source::Servers { servers } = source else {
        return Acl::none();
    };
    let mut entries = Vec::new();
    for s in servers {
        let mut texts = vec![s.address.clone()];
        if let Some(k) = &s.tsig_key {
            texts.push(format!("0.0.0.0/0^{k}"));
            texts.push(format!("::/0^{k}"));
        }
        // What cannot be compiled was refused when the source was given.
        entries.extend(
            texts
                .iter()
                .filter_map(|t| AclEntry::parse(t).ok())
                .map(|(e, _)| e),
        );
    }
    Acl::compile(entries)
}

impl Failed {
    /// Whether an IXFR from there with our serial is worth a try.
    pub fn allows(failed: Option<Failed>, addr: SocketAddr, serial: Serial) -> bool {
        !failed.is_some_and(|f| f.addr == addr && f.serial == serial && f.times >= IXFR_TRIES)
    }

    /// One more failure.
    pub fn again(failed: Option<Failed>, addr: SocketAddr, serial: Serial) -> Failed {
        let before = failed.filter(|f| f.addr == addr && f.serial == serial);
        Failed {
            addr,
            serial,
            times: before.map_or(0, |f| f.times).saturating_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cascade_wire::tsig::Algorithm;

    fn server(address: &str, port: u16, key: Option<&str>) -> SourceServer {
        SourceServer {
            address: address.into(),
            port,
            tsig_key: key.map(Into::into),
            tls_name: None,
        }
    }

    #[test]
    fn servers_become_primaries_with_their_keys() {
        let name = Name::parse("k1").unwrap();
        let keys = TsigKeys::new([TsigKey::new(&name, Algorithm::HmacSha256, b"secret")]);
        let list = [
            server("192.0.2.1", 53, Some("K1")),
            server("::1", 5353, None),
        ];
        let made = primaries(&list, &keys, None).unwrap();
        assert_eq!(made[0].text, "192.0.2.1:53^K1");
        assert!(made[0].key.is_some());
        assert_eq!(made[1].text, "[::1]:5353");
        let e = primaries(&[server("192.0.2.1", 53, Some("k2"))], &keys, None).unwrap_err();
        assert!(e.contains("cascade tsig add k2"), "{e}");
        assert!(primaries(&[server("ns.example", 53, None)], &keys, None).is_err());
        assert!(primaries(&[server("192.0.2.1", 0, None)], &keys, None).is_err());
        let tls = SourceServer {
            tls_name: Some("ns1.example".into()),
            ..server("192.0.2.1", 853, Some("k1"))
        };
        assert_eq!(server_text(&tls), "tls:192.0.2.1:853#ns1.example^k1");
        let made = primaries(std::slice::from_ref(&tls), &keys, None).unwrap();
        let how = made[0].tls.as_ref().map(|t| t.auth.clone());
        assert_eq!(how, Some(Auth::Name("ns1.example".into())));
        let bad = SourceServer {
            tls_name: Some("pin-sha256=no".into()),
            ..tls
        };
        let e = primaries(&[bad], &keys, None).unwrap_err();
        assert!(e.starts_with("tls:192.0.2.1:853#pin-sha256=no^k1: "), "{e}");
    }

    #[test]
    fn notify_comes_from_primaries_or_with_their_key() {
        let source = Source::Servers {
            servers: vec![
                server("192.0.2.1", 53, Some("k1")),
                server("2001:db8::1", 53, None),
            ],
        };
        let acl = notify_acl(&source);
        let (k1, k2) = (Name::parse("k1").unwrap(), Name::parse("k2").unwrap());
        let ip = |t: &str| t.parse::<IpAddr>().unwrap();
        assert!(acl.allows(ip("192.0.2.1"), None, None));
        assert!(acl.allows(ip("2001:db8::1"), None, None));
        assert!(!acl.allows(ip("198.51.100.1"), None, None));
        assert!(acl.allows(ip("198.51.100.1"), Some(&k1), None));
        assert!(acl.allows(ip("2001:db8::77"), Some(&k1), None));
        assert!(!acl.allows(ip("198.51.100.1"), Some(&k2), None));
        let file = Source::File { path: "/z".into() };
        assert!(!notify_acl(&file).allows(ip("192.0.2.1"), Some(&k1), None));
    }

    #[test]
    fn an_ixfr_that_fails_twice_is_left() {
        let a: SocketAddr = "192.0.2.1:53".parse().unwrap();
        let b: SocketAddr = "192.0.2.2:53".parse().unwrap();
        let once = Some(Failed::again(None, a, Serial(5)));
        assert!(Failed::allows(once, a, Serial(5)));
        let twice = Some(Failed::again(once, a, Serial(5)));
        assert!(!Failed::allows(twice, a, Serial(5)));
        assert!(Failed::allows(twice, a, Serial(6)));
        assert!(Failed::allows(twice, b, Serial(5)));
        assert_eq!(Failed::again(twice, b, Serial(5)).times, 1);
    }
}
