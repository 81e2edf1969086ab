//! The DNS servers of the daemon: sockets by configuration, settings by role.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cascade_policy::{AclEntry, ConfigFile, ListenAddr, Transport};
use cascade_publisher::limits::{ConnectionLimits, Connections, TransferGate, TransferLimits};
use cascade_publisher::server::{Common, Server, TransferTimes, bind_tcp, bind_udp};
use cascade_publisher::{Directory, NotifyIn, Role, Settings, StepLimits, UpdateIn, ZoneSettings};
use cascade_time::Clock;
use cascade_wire::cookie::{Secret, Secrets};
use cascade_wire::{Acl, TsigKeys};
use tokio::sync::mpsc;

use crate::activation::Passed;
use crate::daemon::{Bound, Daemon, random};

/// Accepted NOTIFYs that wait to be handed to their zone.
pub const NOTIFY_QUEUE: usize = 1024;

/// A policy's or the configuration's list, compiled.
pub fn acl(entries: &[AclEntry]) -> Acl {
    let compiled = entries
        .iter()
        // Validation has read every entry with the same grammar.
        .filter_map(|e| cascade_wire::acl::AclEntry::parse(&e.text()).ok())
        .map(|(e, _)| e)
        .collect();
    Acl::compile(compiled)
}

/// TSIG keys known to the daemon.
pub fn tsig_keys(d: &Daemon) -> Arc<TsigKeys> {
    d.tsig.keys()
}

/// How one zone is served, by its policy; and who may say that its source has something new.
pub fn zone_settings(
    policy: &cascade_policy::Policy,
    source: &cascade_api::zones::Source,
) -> ZoneSettings {
    let out = &policy.server.outbound;
    ZoneSettings {
        provide_xfr_to: acl(&out.provide_xfr_to),
        notify_from: crate::transfer::notify_acl(source),
        require_tls: out.tls == cascade_policy::TransferTls::Required,
        refuse_tls: out.tls == cascade_policy::TransferTls::Off,
        expires: None,
        steps: StepLimits {
            steps: out.max_diffs as usize,
            percent: out.max_diffs_size,
        },
        updates: matches!(source, cascade_api::zones::Source::Update { .. }),
    }
}

/// Everything that listens, bound but not yet serving.
pub struct Sockets {
    list: Vec<(Role, Vec<std::net::UdpSocket>, Vec<std::net::TcpListener>)>,
    /// Publication over TLS.
    tls: Vec<std::net::TcpListener>,
    certificate: Option<Arc<rustls::ServerConfig>>,
    pub bound: Bound,
}

/// Binds the DNS addresses of the configuration that were not passed by the service manager, and
/// takes over those that were.
///
/// # Errors
/// Names the address and the list it stands in. An IPv6 address that the host cannot have is left
/// out with a warning when another address of its list is bound.
pub fn bind(config: &ConfigFile, passed: &mut Passed) -> Result<Sockets, String> {
    let c = &config.config;
    let lists = [
        (
            Role::NotifyListener,
            "loader.notify-listeners",
            &c.loader.notify_listeners,
        ),
        (
            Role::LoaderReview,
            "loader.review.servers",
            &c.loader.review.servers,
        ),
        (
            Role::SignerReview,
            "signer.review.servers",
            &c.signer.review.servers,
        ),
        (Role::Publication, "server.servers", &c.server.servers),
    ];
    let mut sockets = Sockets {
        list: Vec::new(),
        tls: std::mem::take(&mut passed.tls),
        certificate: crate::xot::server(c)?,
        bound: Bound::default(),
    };
    for (role, key, list) in lists {
        let mut udp = taken(&mut passed.udp, role);
        let mut tcp = taken(&mut passed.tcp, role);
        let have = Have {
            udp: udp.iter().filter_map(|s| s.local_addr().ok()).collect(),
            tcp: tcp.iter().filter_map(|s| s.local_addr().ok()).collect(),
        };
        let mut bound = have.tcp.clone();
        bound.extend(have.udp.iter().filter(|a| !have.tcp.contains(a)));
        for listen in list {
            if have.covers(listen) {
                continue;
            }
            match bind_one(listen, &have, &mut udp, &mut tcp) {
                Ok(addr) if bound.contains(&addr) => {}
                Ok(addr) => bound.push(addr),
                Err(e) if no_ipv6(listen.addr, &e) && list.len() > 1 => {
                    tracing::warn!(
                        "{} of {key} is left out: the host has no IPv6 ({e})",
                        listen.addr
                    );
                }
                Err(e) => return Err(bind_error(listen.addr, key, &e)),
            }
        }
        match role {
            Role::NotifyListener => sockets.bound.notify = bound,
            Role::LoaderReview => sockets.bound.loader_review = bound,
            Role::SignerReview => sockets.bound.signer_review = bound,
            Role::Publication => sockets.bound.publication = bound,
        }
        sockets.list.push((role, udp, tcp));
    }
    sockets.bind_tls(&c.server.tls)?;
    Ok(sockets)
}

impl Sockets {
    fn bind_tls(&mut self, config: &cascade_policy::ServerTls) -> Result<(), String> {
        const KEY: &str = "server.tls.servers";
        let have: Vec<SocketAddr> = self
            .tls
            .iter()
            .filter_map(|l| l.local_addr().ok())
            .collect();
        for listen in config.servers.iter().filter(|l| !have.contains(&l.0)) {
            match bind_tcp(listen.0, false) {
                Ok(listener) => self.tls.push(listener),
                Err(e) if no_ipv6(listen.0, &e) && config.servers.len() > 1 => {
                    tracing::warn!(
                        "{} of {KEY} is left out: the host has no IPv6 ({e})",
                        listen.0
                    );
                }
                Err(e) => return Err(bind_error(listen.0, KEY, &e)),
            }
        }
        if !self.tls.is_empty() && self.certificate.is_none() {
            return Err(
                "publication over TLS has no certificate; set server.tls.cert-path and key-path"
                    .into(),
            );
        }
        Ok(())
    }
}

/// Addresses of one list that need not be bound.
struct Have {
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
}

impl Have {
    fn udp(&self, l: &ListenAddr) -> bool {
        l.transport == Transport::Tcp || self.udp.contains(&l.addr)
    }

    fn tcp(&self, l: &ListenAddr) -> bool {
        l.transport == Transport::Udp || self.tcp.contains(&l.addr)
    }

    fn covers(&self, l: &ListenAddr) -> bool {
        self.udp(l) && self.tcp(l)
    }
}

fn taken<S>(all: &mut Vec<(Role, S)>, role: Role) -> Vec<S> {
    let (mine, rest) = std::mem::take(all)
        .into_iter()
        .partition(|(r, _)| *r == role);
    *all = rest;
    let mine: Vec<(Role, S)> = mine;
    mine.into_iter().map(|(_, s)| s).collect()
}

fn bind_one(
    listen: &ListenAddr,
    have: &Have,
    udp: &mut Vec<std::net::UdpSocket>,
    tcp: &mut Vec<std::net::TcpListener>,
) -> std::io::Result<SocketAddr> {
    let mut addr = listen.addr;
    if !have.tcp(listen) {
        let listener = bind_tcp(addr, false)?;
        addr = listener.local_addr()?;
        tcp.push(listener);
    }
    if !have.udp(listen) {
        let socket = bind_udp(addr, false)?;
        addr = socket.local_addr()?;
        udp.push(socket);
    }
    Ok(addr)
}

fn no_ipv6(addr: SocketAddr, e: &std::io::Error) -> bool {
    use std::io::ErrorKind::{AddrNotAvailable, Unsupported};
    // EAFNOSUPPORT has no kind of its own.
    addr.is_ipv6()
        && (matches!(e.kind(), AddrNotAvailable | Unsupported) || e.raw_os_error() == Some(97))
}

fn bind_error(addr: SocketAddr, key: &str, e: &std::io::Error) -> String {
    let help = match e.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "; another program has it (see: ss -lntup 'sport = :{}'); stop it or change {key}",
            addr.port()
        ),
        std::io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE".to_string()
        }
        _ => format!("; change {key}"),
    };
    format!("cannot listen on {addr} ({key}): {e}{help}")
}

/// The servers, and the bounds that they share.
#[derive(Default)]
pub struct Running {
    list: Vec<(Role, Server)>,
    shared: Option<(Arc<Connections>, Arc<TransferGate>)>,
}

/// Starts serving; must be called within the async runtime.
///
/// # Errors
/// The runtime does not take a socket.
pub fn serve(
    sockets: Sockets,
    config: &ConfigFile,
    keys: Arc<TsigKeys>,
    directory: Arc<Directory>,
    clock: Arc<dyn Clock>,
    notify: mpsc::Sender<NotifyIn>,
    updates: mpsc::Sender<UpdateIn>,
) -> std::io::Result<Running> {
    let (connections, transfers) = limits(config);
    let connections = Connections::new(connections);
    let transfers = TransferGate::new(transfers);
    let cookies = Secrets::new(Secret(random()), clock.now());
    let common = Common {
        directory,
        clock,
        connections: connections.clone(),
        transfers: transfers.clone(),
        notify,
        updates,
    };
    let mut list = Vec::new();
    let mut tls = sockets.tls;
    for (role, udp, tcp) in sockets.list {
        let made = Settings {
            cookies: Some(cookies),
            ..settings(role, config, keys.clone())
        };
        let mut server = Server::new(role, common.clone(), made);
        tune(role, &server, config);
        for socket in udp {
            server.serve_udp(socket)?;
        }
        for listener in tcp {
            server.serve_tcp(listener)?;
        }
        if role == Role::Publication {
            server.set_tls(sockets.certificate.clone());
            for listener in tls.drain(..) {
                let addr = server.serve_tls(listener)?;
                tracing::info!("publication over TLS on {addr}");
            }
        }
        list.push((role, server));
    }
    Ok(Running {
        list,
        shared: Some((connections, transfers)),
    })
}

impl Running {
    pub fn stats(&self) -> Vec<(Role, Arc<cascade_publisher::Stats>)> {
        self.list.iter().map(|(r, s)| (*r, s.stats())).collect()
    }

    /// Takes over what a new configuration and other keys change; cookies stay good.
    pub fn renew(&self, config: &ConfigFile, keys: &Arc<TsigKeys>) {
        for (role, server) in &self.list {
            server.set_settings(Settings {
                cookies: server.settings().cookies,
                ..settings(*role, config, keys.clone())
            });
            tune(*role, server, config);
        }
        if let Some((connections, transfers)) = &self.shared {
            let (c, t) = limits(config);
            connections.set_limits(c);
            transfers.set_limits(t);
        }
    }

    /// Connections from now on are shown this certificate.
    pub fn renew_tls(&self, certificate: &Option<Arc<rustls::ServerConfig>>) {
        for (_, server) in self.list.iter().filter(|(r, _)| *r == Role::Publication) {
            server.set_tls(certificate.clone());
        }
    }

    /// Ends all servers; answers under way go out first.
    pub async fn stop(self, grace: Duration) {
        let mut set = tokio::task::JoinSet::new();
        for (_, server) in self.list {
            set.spawn(server.stop(grace));
        }
        while set.join_next().await.is_some() {}
    }
}

/// The servers use the TSIG keys as they are now.
pub fn renew_keys(d: &Daemon) {
    d.dns.lock().renew(&d.conf(), &d.tsig.keys());
}

fn limits(config: &ConfigFile) -> (ConnectionLimits, TransferLimits) {
    let s = &config.config.server;
    let connections = ConnectionLimits {
        total: s.max_tcp_clients as usize,
        idle: s.tcp_idle_timeout,
        ..ConnectionLimits::default()
    };
    let transfers = TransferLimits {
        total: s.max_transfers as usize,
        ..TransferLimits::default()
    };
    (connections, transfers)
}

/// What a server holds beside its settings.
fn tune(role: Role, server: &Server, config: &ConfigFile) {
    let s = &config.config.server;
    server.set_transfer_times(TransferTimes {
        stall: s.transfer_timeout,
        ..TransferTimes::default()
    });
    if role == Role::Publication {
        server.set_answer_rate(s.answer_rate);
    }
}

/// Cookies are the caller's.
fn settings(role: Role, config: &ConfigFile, keys: Arc<TsigKeys>) -> Settings {
    let c = &config.config;
    let allow = match role {
        Role::LoaderReview => acl(&c.loader.review.allow),
        Role::SignerReview => acl(&c.signer.review.allow),
        Role::Publication | Role::NotifyListener => Acl::any(),
    };
    Settings {
        allow,
        notify_allow: acl(&c.loader.notify_allow),
        keys,
        nsid: c.server.nsid.as_ref().map(|n| nsid(n)),
        version_text: format!("Cascade {}", env!("CARGO_PKG_VERSION")),
        tcp_idle: c.server.tcp_idle_timeout,
        ..Settings::open()
    }
}

fn nsid(configured: &str) -> Vec<u8> {
    if configured != "hostname" {
        return configured.as_bytes().to_vec();
    }
    nix::unistd::gethostname()
        .ok()
        .and_then(|h| h.into_string().ok())
        .unwrap_or_default()
        .into_bytes()
}
