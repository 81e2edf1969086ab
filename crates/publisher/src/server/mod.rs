//! Sockets of one role: UDP and TCP, limits, graceful stop.
//!
//! Sockets come bound, from [`bind_udp`] and [`bind_tcp`] or from the service manager. Clock and
//! configuration are given; nothing here reads the environment.

mod log;
mod rate;
mod tcp;
mod tls;
mod udp;
mod update;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use cascade_time::Clock;
use nix::sys::socket::{self, sockopt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::context::Settings;
use crate::directory::{Directory, Role};
use crate::limits::{Connections, TransferGate};
use crate::notify::NotifyIn;
use crate::stats::Stats;
use crate::update::UpdateIn;
use log::LogGate;
use rate::RateLimit;

/// Kernel buffer of a UDP socket for queries not yet read.
const UDP_BUFFER: usize = 4 << 20;
/// Connections that the kernel holds before they are accepted.
const BACKLOG: i32 = 1024;

/// What servers of all roles share.
#[derive(Clone)]
pub struct Common {
    pub directory: Arc<Directory>,
    pub clock: Arc<dyn Clock>,
    pub connections: Arc<Connections>,
    pub transfers: Arc<TransferGate>,
    /// Accepted NOTIFYs. When it is full they are counted and dropped: the primary repeats itself,
    /// and the refresh timer comes.
    pub notify: mpsc::Sender<NotifyIn>,
    /// Signed UPDATEs for zones that take them. When it is full they are answered SERVFAIL.
    pub updates: mpsc::Sender<UpdateIn>,
}

/// Times that end a transfer.
#[derive(Debug, Clone, Copy)]
pub struct TransferTimes {
    /// Without the client taking a single octet.
    pub stall: Duration,
    /// Holding a version that is no longer served.
    pub retired: Duration,
}

impl Default for TransferTimes {
    fn default() -> Self {
        TransferTimes {
            stall: Duration::from_secs(600),
            retired: Duration::from_secs(4 * 3600),
        }
    }
}

/// What the tasks of one role share.
pub(crate) struct Shared {
    role: Role,
    common: Common,
    settings: ArcSwap<Settings>,
    times: ArcSwap<TransferTimes>,
    rate: RateLimit,
    stats: Arc<Stats>,
    log: LogGate,
    tls: tls::Tls,
}

/// The running servers of one role.
pub struct Server {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Server {
    pub fn new(role: Role, common: Common, settings: Settings) -> Self {
        let shared = Arc::new(Shared {
            role,
            common,
            settings: ArcSwap::from_pointee(settings),
            times: ArcSwap::from_pointee(TransferTimes::default()),
            rate: RateLimit::default(),
            stats: Arc::default(),
            log: LogGate::default(),
            tls: tls::Tls::default(),
        });
        Server {
            shared,
            stop: watch::channel(false).0,
            tasks: JoinSet::new(),
        }
    }

    pub fn stats(&self) -> Arc<Stats> {
        self.shared.stats.clone()
    }

    /// In force from the next message on; for running transfers at their next message.
    pub fn set_settings(&self, settings: Settings) {
        self.shared.settings.store(Arc::new(settings));
    }

    pub fn settings(&self) -> Arc<Settings> {
        self.shared.settings.load_full()
    }

    pub fn set_transfer_times(&self, times: TransferTimes) {
        self.shared.times.store(Arc::new(times));
    }

    /// UDP answers per second and network; 0: no limit.
    pub fn set_answer_rate(&self, per_second: u32) {
        self.shared.rate.set(per_second);
    }

    /// Serves a bound UDP socket. Call it several times with sockets of one address that were bound
    /// with `reuse_port` to spread the load.
    pub fn serve_udp(&mut self, socket: std::net::UdpSocket) -> io::Result<SocketAddr> {
        socket.set_nonblocking(true)?;
        let addr = socket.local_addr()?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        self.tasks.spawn(udp::serve(
            self.shared.clone(),
            socket,
            self.stop.subscribe(),
        ));
        Ok(addr)
    }

    /// Serves a listening TCP socket.
    pub fn serve_tcp(&mut self, listener: std::net::TcpListener) -> io::Result<SocketAddr> {
        self.listen(listener, false)
    }

    /// Serves a listening TCP socket with TLS on every connection (RFC 7858, RFC 9103), by what
    /// [`set_tls`](Server::set_tls) gave.
    pub fn serve_tls(&mut self, listener: std::net::TcpListener) -> io::Result<SocketAddr> {
        self.listen(listener, true)
    }

    /// Certificate, key and authorities of TLS from the next connection on; those that are open
    /// stay. `None`: connections are closed at once.
    pub fn set_tls(&self, config: Option<Arc<rustls::ServerConfig>>) {
        self.shared.tls.config.store(config);
    }

    fn listen(&mut self, listener: std::net::TcpListener, tls: bool) -> io::Result<SocketAddr> {
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        self.tasks.spawn(tcp::serve(
            self.shared.clone(),
            listener,
            tls,
            self.stop.subscribe(),
        ));
        Ok(addr)
    }

    /// Takes no more queries, lets answers under way go out for at most `grace`, then closes
    /// everything. Transfers end without their closing SOA, so no client takes half a zone.
    pub async fn stop(mut self, grace: Duration) {
        let _ = self.stop.send(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(grace, all).await;
        self.tasks.shutdown().await;
    }
}

/// Binds a UDP socket with a receive buffer fit for bursts.
pub fn bind_udp(addr: SocketAddr, reuse_port: bool) -> io::Result<std::net::UdpSocket> {
    let fd = open(addr, socket::SockType::Datagram, reuse_port)?;
    // More than the system's limit is cut by the kernel, which is fine.
    let _ = socket::setsockopt(&fd, sockopt::RcvBuf, &UDP_BUFFER);
    socket::bind(
        std::os::fd::AsRawFd::as_raw_fd(&fd),
        &socket::SockaddrStorage::from(addr),
    )?;
    Ok(std::net::UdpSocket::from(fd))
}

/// Binds and listens on a TCP socket.
pub fn bind_tcp(addr: SocketAddr, reuse_port: bool) -> io::Result<std::net::TcpListener> {
    let fd = open(addr, socket::SockType::Stream, reuse_port)?;
    // A restart must not wait for old connections in TIME_WAIT.
    socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    socket::bind(
        std::os::fd::AsRawFd::as_raw_fd(&fd),
        &socket::SockaddrStorage::from(addr),
    )?;
    socket::listen(&fd.as_fd(), socket::Backlog::new(BACKLOG)?)?;
    Ok(std::net::TcpListener::from(fd))
}

fn open(
    addr: SocketAddr,
    kind: socket::SockType,
    reuse_port: bool,
) -> io::Result<std::os::fd::OwnedFd> {
    let family = if addr.is_ipv4() {
        socket::AddressFamily::Inet
    } else {
        socket::AddressFamily::Inet6
    };
    let fd = socket::socket(family, kind, socket::SockFlag::SOCK_CLOEXEC, None)?;
    if addr.is_ipv6() {
        // [::] does not take the place of 0.0.0.0, which may be bound too.
        socket::setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    if reuse_port {
        socket::setsockopt(&fd, sockopt::ReusePort, &true)?;
    }
    Ok(fd)
}
