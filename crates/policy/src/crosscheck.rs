//! Rules of the configuration across keys.

use std::net::SocketAddr;

use camino::Utf8Path;

use crate::acl::{AclEntry, Net};
use crate::address::{ListenAddr, TcpAddr, Transport};
use crate::config::{ClientAuth, Config, LogTarget};
use crate::diag::{Diagnostic, Level};
use crate::file::Places;

/// Checks, and lets default addresses yield to those that are set.
pub(crate) fn config(config: &mut Config, places: &Places, found: &mut Vec<Diagnostic>) {
    daemon(config, places, found);
    directories(config, places, found);
    tls(config, places, found);
    addresses(config, places, found);
    review_access(config, places, found);
}

fn error(
    code: &'static str,
    places: &Places,
    keys: &[&str],
    detail: impl Into<String>,
) -> Diagnostic {
    Diagnostic::new(code, Level::Error, detail)
        .key(keys.first().copied().unwrap_or_default())
        .at(places.of(keys))
}

fn daemon(config: &Config, places: &Places, found: &mut Vec<Diagnostic>) {
    let d = &config.daemon;
    let silent = matches!(d.log_target, LogTarget::Stdout | LogTarget::Stderr);
    if d.daemonize && silent {
        found.push(
            error(
                "C02",
                places,
                &["daemon.daemonize"],
                "a daemon in the background has no stdout or stderr to log to",
            )
            .suggest("set daemon.log-target to { type = \"syslog\" } or a file"),
        );
    }
    if d.pid_file.is_some() && !d.daemonize {
        found.push(
            Diagnostic::new("C02", Level::Warning, "not written: daemonize is not set")
                .key("daemon.pid-file")
                .suggest("remove the line, or set daemonize = true")
                .at(places.of(&["daemon.pid-file"])),
        );
    }
    let url = config.alerts.url.as_deref().unwrap_or("https://");
    if !url.starts_with("https://") && !url.starts_with("http://") {
        found.push(
            error(
                "C02",
                places,
                &["alerts.url"],
                "not the address of a web service",
            )
            .suggest("write https://…"),
        );
    }
}

fn directories(config: &Config, places: &Places, found: &mut Vec<Diagnostic>) {
    let (state, policies) = (&config.state_dir, &config.policy_dir);
    let within = |a: &Utf8Path, b: &Utf8Path| a.starts_with(b);
    if within(state, policies) || within(policies, state) {
        let detail = format!("state-dir {state} and policy-dir {policies} lie in each other");
        found.push(
            error("C03", places, &["state-dir", "policy-dir"], detail)
                .suggest("give each a place of its own"),
        );
    }
}

fn tls(config: &Config, places: &Places, found: &mut Vec<Diagnostic>) {
    let rc = &config.remote_control;
    let pairs = [
        (
            "remote-control.tls.cert-path",
            &rc.tls.cert_path,
            "remote-control.tls.key-path",
            &rc.tls.key_path,
        ),
        (
            "server.tls.cert-path",
            &config.server.tls.cert_path,
            "server.tls.key-path",
            &config.server.tls.key_path,
        ),
    ];
    for (cert_key, cert, key_key, key) in pairs {
        if cert.is_some() != key.is_some() {
            let (there, missing) = if cert.is_some() {
                (cert_key, key_key)
            } else {
                (key_key, cert_key)
            };
            let detail = format!("{missing} is missing; a certificate and its key come in pairs");
            found.push(error("C04", places, &[there], detail).suggest(format!("set {missing}")));
        }
    }
    let open: Vec<&TcpAddr> = rc
        .servers
        .iter()
        .filter(|a| !a.0.ip().is_loopback())
        .collect();
    if let Some(addr) = open.first()
        && rc.tls.cert_path.is_none()
    {
        let detail = format!(
            "{} is not a loopback address, and TLS is not set up",
            addr.0
        );
        found.push(
            error("C04", places, &["remote-control.servers"], detail).suggest(
                "set remote-control.tls.cert-path and key-path, or use loopback addresses",
            ),
        );
    }
    if !config.server.tls.servers.is_empty() && config.server.tls.cert_path.is_none() {
        found.push(
            error(
                "C04",
                places,
                &["server.tls.servers"],
                "TLS addresses without a certificate",
            )
            .suggest("set server.tls.cert-path and key-path"),
        );
    }
    let wants_ca = matches!(
        rc.tls.client_auth,
        Some(ClientAuth::Optional | ClientAuth::Required)
    );
    if wants_ca && rc.tls.client_ca_path.is_none() {
        found.push(
            error(
                "C04",
                places,
                &["remote-control.tls.client-auth"],
                "client certificates cannot be verified without a CA",
            )
            .suggest("set remote-control.tls.client-ca-path"),
        );
    }
}

/// One list of addresses that will be bound.
struct List<'c> {
    key: &'static str,
    set: bool,
    dns: Option<&'c mut Vec<ListenAddr>>,
    tcp: Option<&'c mut Vec<TcpAddr>>,
}

impl List<'_> {
    fn sockets(&self) -> Vec<(SocketAddr, &'static str)> {
        let mut out = Vec::new();
        for a in self.dns.iter().flat_map(|l| l.iter()) {
            if a.transport != Transport::Tcp {
                out.push((a.addr, "UDP"));
            }
            if a.transport != Transport::Udp {
                out.push((a.addr, "TCP"));
            }
        }
        out.extend(self.tcp.iter().flat_map(|l| l.iter()).map(|a| (a.0, "TCP")));
        out
    }

    fn remove(&mut self, addr: SocketAddr) {
        if let Some(list) = &mut self.dns {
            list.retain(|a| a.addr != addr);
        }
        if let Some(list) = &mut self.tcp {
            list.retain(|a| a.0 != addr);
        }
    }
}

fn addresses(config: &mut Config, places: &Places, found: &mut Vec<Diagnostic>) {
    if config.server.servers.is_empty() {
        found.push(
            error(
                "C05",
                places,
                &["server.servers"],
                "without an address nothing is published",
            )
            .suggest("name at least one address, or leave the key out"),
        );
    }
    let list = |key, dns, tcp| List {
        key,
        set: places.has(key),
        dns,
        tcp,
    };
    let mut lists = [
        list(
            "remote-control.servers",
            None,
            Some(&mut config.remote_control.servers),
        ),
        list(
            "loader.notify-listeners",
            Some(&mut config.loader.notify_listeners),
            None,
        ),
        list(
            "loader.review.servers",
            Some(&mut config.loader.review.servers),
            None,
        ),
        list(
            "signer.review.servers",
            Some(&mut config.signer.review.servers),
            None,
        ),
        list("server.servers", Some(&mut config.server.servers), None),
        list(
            "server.tls.servers",
            None,
            Some(&mut config.server.tls.servers),
        ),
    ];
    // Lists that the file sets claim first, so that defaults yield to them.
    let mut held: Vec<(SocketAddr, &str, &str)> = Vec::new();
    for set in [true, false] {
        for list in lists.iter_mut().filter(|l| l.set == set) {
            for (addr, transport) in list.sockets() {
                let holder = held
                    .iter()
                    .find(|(a, t, _)| *t == transport && overlap(*a, addr));
                let Some((_, _, holder)) = holder.copied() else {
                    held.push((addr, transport, list.key));
                    continue;
                };
                if set {
                    let detail = format!("{addr} ({transport}) is also in {holder}");
                    found.push(
                        error("C05", places, &[list.key], detail)
                            .suggest("each address serves one purpose"),
                    );
                } else {
                    list.remove(addr);
                    let detail = format!("the default {addr} yields to {holder}, which sets it");
                    let already = found.iter().any(|d| d.detail == detail);
                    if !already {
                        found.push(Diagnostic::new("C05", Level::Note, detail).key(list.key));
                    }
                }
            }
        }
    }
}

/// Whether two sockets cannot both be bound: the unspecified address covers its family.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let family = a.is_ipv4() == b.is_ipv4();
    let covers = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    family && a.port() == b.port() && a.port() != 0 && covers
}

fn review_access(config: &Config, places: &Places, found: &mut Vec<Diagnostic>) {
    let stages = [
        (
            "loader.review.allow",
            &config.loader.review.servers,
            &config.loader.review.allow,
        ),
        (
            "signer.review.allow",
            &config.signer.review.servers,
            &config.signer.review.allow,
        ),
    ];
    for (key, servers, allow) in stages {
        let open = servers.iter().find(|a| !a.addr.ip().is_loopback());
        if let (Some(addr), true) = (open, lets_anybody_in(allow)) {
            let detail = format!("anybody may fetch candidates from {}", addr.addr);
            found.push(
                Diagnostic::new("C06", Level::Warning, detail)
                    .key(key)
                    .suggest("name the reviewers' addresses, or use \"any^key\"")
                    .at(places.of(&[key])),
            );
        }
    }
}

/// Whether an entry lets any address in without a key.
pub(crate) fn lets_anybody_in(list: &[AclEntry]) -> bool {
    let whole = |net: &Net| matches!(net, Net::Any | Net::Prefix { len: 0, .. });
    list.iter()
        .take_while(|e| !(e.negate && matches!(e.net, Net::Any) && e.key.is_none()))
        .any(|e| !e.negate && e.key.is_none() && whole(&e.net))
}
