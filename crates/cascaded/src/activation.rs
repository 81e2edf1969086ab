//! Sockets passed by the service manager (sd_listen_fds(3)): taken over as owned
//! descriptors, told apart by name, or by address and type where they have none.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use cascade_policy::{Config, ListenAddr, Transport};
use cascade_publisher::Role;
use nix::sys::socket as nsocket;

use cascade_program::fds::own;
use cascade_program::systemd::SOCKETS_MAX;

/// Passed sockets by use.
#[derive(Debug, Default)]
pub struct Passed {
    pub control: Vec<UnixListener>,
    pub http: Vec<TcpListener>,
    pub udp: Vec<(Role, UdpSocket)>,
    pub tcp: Vec<(Role, TcpListener)>,
    /// Publication over TLS.
    pub tls: Vec<TcpListener>,
}

/// A socket of a known kind.
#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener, SocketAddr),
    Udp(UdpSocket, SocketAddr),
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Control,
    Http,
    Dns(Role),
    /// Publication over TLS.
    Tls,
}

/// Takes over what the service manager passed to this process.
///
/// # Errors
/// A descriptor that is no socket or of the wrong kind, an unknown name: names it and what is
/// possible.
pub fn take(config: &Config) -> Result<Passed, String> {
    let help = |e: std::io::Error| format!("LISTEN_FDS: {e}; check the socket unit, or stop it");
    let named: Vec<(RawFd, String)> = sd_notify::listen_fds_with_names().map_err(help)?.collect();
    if named.len() > SOCKETS_MAX {
        return Err(format!(
            "LISTEN_FDS: {} sockets were passed, at most {SOCKETS_MAX} are taken; shorten the socket unit",
            named.len()
        ));
    }
    let mut passed = Passed::default();
    for (raw, name) in named {
        let fd = own(raw).map_err(|e| format!("descriptor {raw} ('{name}') passed to us: {e}"))?;
        passed.sort_in(fd, &name, config)?;
    }
    Ok(passed)
}

impl Passed {
    fn sort_in(&mut self, fd: OwnedFd, name: &str, config: &Config) -> Result<(), String> {
        let socket = kind(fd).map_err(|e| {
            format!("the socket '{name}' passed by the service manager cannot be used: {e}")
        })?;
        let what = socket.shown();
        let found = use_of(name, &socket, config)
            .map_err(|e| format!("{what} ('{name}') passed by the service manager: {e}"))?;
        tracing::info!(
            "{what} ('{name}') of the service manager serves {}",
            found.text()
        );
        match (found, socket) {
            (Use::Control, Socket::Unix(s)) => self.control.push(s),
            (Use::Http, Socket::Tcp(s, _)) => self.http.push(s),
            (Use::Dns(role), Socket::Tcp(s, _)) => self.tcp.push((role, s)),
            (Use::Dns(role), Socket::Udp(s, _)) => self.udp.push((role, s)),
            (Use::Tls, Socket::Tcp(s, _)) => self.tls.push(s),
            _ => {
                return Err(format!(
                    "{what} ('{name}') passed by the service manager is not of the kind that {} needs; correct the socket unit",
                    found.text()
                ));
            }
        }
        Ok(())
    }
}

impl Use {
    fn text(self) -> &'static str {
        match self {
            Use::Control => "control",
            Use::Http => "http",
            Use::Dns(Role::NotifyListener) => "notify",
            Use::Dns(Role::LoaderReview) => "loader-review",
            Use::Dns(Role::SignerReview) => "signer-review",
            Use::Dns(Role::Publication) => "publish",
            Use::Tls => "publish-tls",
        }
    }
}

impl Socket {
    fn shown(&self) -> String {
        match self {
            Socket::Unix(s) => match s.local_addr().ok().as_ref().and_then(|a| a.as_pathname()) {
                Some(path) => format!("socket {}", path.display()),
                None => "a Unix socket".into(),
            },
            Socket::Tcp(_, addr) => format!("socket {addr}/tcp"),
            Socket::Udp(_, addr) => format!("socket {addr}/udp"),
        }
    }
}

/// The name decides; what has none is found in the configuration.
fn use_of(name: &str, socket: &Socket, config: &Config) -> Result<Use, String> {
    let named = match name {
        "control" => Use::Control,
        "http" => Use::Http,
        "notify" => Use::Dns(Role::NotifyListener),
        "loader-review" => Use::Dns(Role::LoaderReview),
        "signer-review" => Use::Dns(Role::SignerReview),
        "publish" => Use::Dns(Role::Publication),
        "publish-tls" => Use::Tls,
        // What the manager calls sockets without FileDescriptorName=, or after their unit.
        _ => return by_address(socket, config),
    };
    Ok(named)
}

fn by_address(socket: &Socket, config: &Config) -> Result<Use, String> {
    let rc = &config.remote_control;
    let lists: [(Role, &[ListenAddr]); 4] = [
        (Role::NotifyListener, &config.loader.notify_listeners),
        (Role::LoaderReview, &config.loader.review.servers),
        (Role::SignerReview, &config.signer.review.servers),
        (Role::Publication, &config.server.servers),
    ];
    let dns = |addr: SocketAddr, other: Transport| {
        let has = |l: &&ListenAddr| l.addr == addr && l.transport != other;
        let found = lists.iter().find(|(_, list)| list.iter().any(|l| has(&l)));
        // What nobody has claimed serves zones.
        Use::Dns(found.map_or(Role::Publication, |(role, _)| *role))
    };
    match socket {
        Socket::Unix(s) => {
            let addr = s.local_addr().map_err(|e| e.to_string())?;
            let configured = rc.socket.0.as_ref().map(|p| p.as_std_path());
            if addr.as_pathname().is_some_and(|p| Some(p) == configured) {
                return Ok(Use::Control);
            }
            let is = configured.map_or("not set".into(), |p: &Path| p.display().to_string());
            Err(format!(
                "it has no name and is not remote-control.socket, which is {is}; set FileDescriptorName=control"
            ))
        }
        Socket::Tcp(_, addr) if rc.servers.iter().any(|s| s.0 == *addr) => Ok(Use::Http),
        Socket::Tcp(_, addr) if config.server.tls.servers.iter().any(|s| s.0 == *addr) => {
            Ok(Use::Tls)
        }
        Socket::Tcp(_, addr) => Ok(dns(*addr, Transport::Udp)),
        Socket::Udp(_, addr) => Ok(dns(*addr, Transport::Tcp)),
    }
}

fn kind(fd: OwnedFd) -> Result<Socket, String> {
    use nsocket::{SockType, SockaddrLike, sockopt};
    let err = |e: nix::Error| e.to_string();
    let addr = nsocket::getsockname::<nsocket::SockaddrStorage>(fd.as_raw_fd())
        .map_err(|_| "it is not a socket".to_string())?;
    let stream = match nsocket::getsockopt(&fd, sockopt::SockType).map_err(err)? {
        SockType::Stream => true,
        SockType::Datagram => false,
        other => return Err(format!("its type is {other:?}")),
    };
    if stream && !nsocket::getsockopt(&fd, sockopt::AcceptConn).map_err(err)? {
        return Err("it does not listen (Accept=yes is not possible)".into());
    }
    let io = |e: std::io::Error| e.to_string();
    match (addr.family(), stream) {
        (Some(nsocket::AddressFamily::Unix), true) => Ok(Socket::Unix(UnixListener::from(fd))),
        (Some(nsocket::AddressFamily::Inet | nsocket::AddressFamily::Inet6), true) => {
            let s = TcpListener::from(fd);
            let at = s.local_addr().map_err(io)?;
            Ok(Socket::Tcp(s, at))
        }
        (Some(nsocket::AddressFamily::Inet | nsocket::AddressFamily::Inet6), false) => {
            let s = UdpSocket::from(fd);
            let at = s.local_addr().map_err(io)?;
            Ok(Socket::Udp(s, at))
        }
        _ => Err("it is neither an internet socket nor a Unix stream socket".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let text = format!("version = \"v1\"\n{text}");
        cascade_policy::parse_config("config.toml", text.as_bytes())
            .unwrap()
            .config
    }

    fn tcp() -> (OwnedFd, SocketAddr) {
        let s = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = s.local_addr().unwrap();
        (s.into(), addr)
    }

    #[test]
    fn names_decide_and_addresses_help() {
        let (fd, addr) = tcp();
        let c = config(&format!("signer.review.servers = [\"{addr}\"]\n"));
        let use_of = |fd: OwnedFd, name: &str| {
            let socket = kind(fd).unwrap();
            use_of(name, &socket, &c)
        };
        assert_eq!(use_of(fd, "unknown"), Ok(Use::Dns(Role::SignerReview)));
        assert_eq!(use_of(tcp().0, "unknown"), Ok(Use::Dns(Role::Publication)));
        assert_eq!(use_of(tcp().0, "http"), Ok(Use::Http));
        assert_eq!(
            use_of(tcp().0, "notify"),
            Ok(Use::Dns(Role::NotifyListener))
        );
        assert_eq!(use_of(tcp().0, "publish-tls"), Ok(Use::Tls));
        let dir = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(dir.path().join("s")).unwrap();
        assert!(
            use_of(unix.into(), "unknown")
                .unwrap_err()
                .contains("remote-control.socket")
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let c = config("");
        let mut passed = Passed::default();
        let udp: OwnedFd = UdpSocket::bind("127.0.0.1:0").unwrap().into();
        let e = passed.sort_in(udp, "http", &c).unwrap_err();
        assert!(e.contains("/udp") && e.contains("http"), "{e}");
        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        assert!(
            passed
                .sort_in(file, "publish", &c)
                .unwrap_err()
                .contains("not a socket")
        );
        assert!(passed.http.is_empty() && passed.tcp.is_empty());
        passed.sort_in(tcp().0, "publish", &c).unwrap();
        assert_eq!(passed.tcp.len(), 1);
    }
}
