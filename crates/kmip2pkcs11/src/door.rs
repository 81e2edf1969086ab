//! Who may connect, with which TLS settings; what became of connections.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use cascade_kmip::serve::{Door, End};
use nix::unistd::{Uid, User};
use rustls::ServerConfig;

/// The kernel's tables of TCP sockets.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
/// `TCP_ESTABLISHED` in these tables.
const ESTABLISHED: &str = "01";
/// Refusals are logged singly up to this many; from then on one in as many.
const TOLD: u64 = 100;

/// The door in force; settings are exchanged as a whole.
pub struct BridgeDoor {
    tls: ArcSwap<ServerConfig>,
    allowed: ArcSwap<Allowed>,
    refusals: AtomicU64,
}

/// Local users whose connections are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    Everybody,
    Uids(BTreeSet<u32>),
}

impl Allowed {
    /// Names are looked up now; those that nobody has are told and mean nobody.
    pub fn resolve(names: &[String]) -> Allowed {
        if names.iter().any(|n| n == "*") {
            return Allowed::Everybody;
        }
        let mut uids = BTreeSet::new();
        for name in names {
            match User::from_name(name) {
                Ok(Some(user)) => _ = uids.insert(user.uid.as_raw()),
                _ => match name.parse() {
                    Ok(uid) => _ = uids.insert(uid),
                    Err(_) => tracing::debug!("allowed_users: there is no user '{name}' here"),
                },
            }
        }
        Allowed::Uids(uids)
    }

    /// And this process's own user, who has the module and its files in reach anyway.
    pub fn and_self(mut self) -> Allowed {
        if let Allowed::Uids(uids) = &mut self {
            uids.insert(Uid::effective().as_raw());
        }
        self
    }
}

impl BridgeDoor {
    pub fn new(tls: Arc<ServerConfig>, allowed: Allowed) -> BridgeDoor {
        BridgeDoor {
            tls: ArcSwap::new(tls),
            allowed: ArcSwap::from_pointee(allowed),
            refusals: AtomicU64::new(0),
        }
    }

    pub fn exchange(&self, tls: Arc<ServerConfig>, allowed: Allowed) {
        self.tls.store(tls);
        self.allowed.store(Arc::new(allowed));
    }
}

impl Door for BridgeDoor {
    fn tls(&self) -> Arc<ServerConfig> {
        self.tls.load_full()
    }

    fn admit(&self, peer: SocketAddr, local: SocketAddr) -> Result<(), String> {
        let allowed = self.allowed.load();
        let Allowed::Uids(uids) = &**allowed else {
            return Ok(());
        };
        match owner(peer, local) {
            Some(uid) if uids.contains(&uid) => Ok(()),
            Some(uid) => {
                let name = User::from_uid(Uid::from_raw(uid)).ok().flatten();
                let name = name.map_or_else(|| uid.to_string(), |u| u.name);
                Err(format!(
                    "local user {name} is not in allowed_users of the configuration"
                ))
            }
            // Not a process of this host, so that certificate and PIN decide.
            None if !peer.ip().to_canonical().is_loopback() => Ok(()),
            None => Err("the kernel does not say whose connection it is".into()),
        }
    }

    fn ended(&self, peer: SocketAddr, end: &End) {
        match end {
            end if end.is_ordinary() => tracing::debug!(client = %peer, "connection {end}"),
            End::Full(_) | End::NotAdmitted(_) | End::SlowHandshake(_) | End::Handshake(_) => {
                // Somebody who knocks for hours must not fill the disk.
                let n = self.refusals.fetch_add(1, Ordering::Relaxed);
                if n < TOLD || n.is_multiple_of(TOLD) {
                    tracing::warn!(client = %peer, refusals = n + 1, "connection {end}");
                }
            }
            end => tracing::info!(client = %peer, "connection {end}"),
        }
    }
}

/// The user at the other end, if it is a process of this host.
fn owner(peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    TABLES.iter().find_map(|path| {
        let file = File::open(path).ok()?;
        let mut lines = BufReader::new(file).lines().map_while(Result::ok);
        lines.find_map(|line| owner_in(&line, peer, local))
    })
}

/// The owner in a line of the table, if it is the peer's socket. A socket that no process has open
/// any more (inode 0) counts as nobody's: the table says 0 for its owner, who is not root.
fn owner_in(line: &str, peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let own = address(fields.next()?)?;
    let other = address(fields.next()?)?;
    if !same(own, peer) || !same(other, local) || fields.next()? != ESTABLISHED {
        return None;
    }
    // tx_queue:rx_queue tr:tm->when retrnsmt, then uid timeout inode.
    let uid = fields.nth(3)?.parse().ok()?;
    let inode: u64 = fields.nth(1)?.parse().ok()?;
    (inode != 0).then_some(uid)
}

fn same(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.ip().to_canonical() == b.ip().to_canonical()
}

/// `0100007F:1640`: words of 32 bits in the machine's byte order, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = ip.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for (at, chunk) in octets.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_owner_of_a_local_connection_is_found() {
        let own = Uid::current().as_raw();
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(bind) else {
                continue; // No IPv6 here.
            };
            let addr = listener.local_addr().expect("address");
            let client = TcpStream::connect(addr).expect("connect");
            let (served, peer) = listener.accept().expect("accept");
            let local = served.local_addr().expect("address");
            assert_eq!(owner(peer, local), Some(own));
            drop(client);
            assert_eq!(owner(peer, local), None, "closed: nobody's");
        }
    }

    #[test]
    fn only_allowed_users_come_in() {
        let line = "   1: 0100007F:C001 0100007F:1640 01 00000000:00000000 00:00000000 00000000 \
                     1000        0 4242 1 0000000000000000 20 4 30 10 -1";
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if cfg!(target_endian = "little") {
            assert_eq!(owner_in(line, at(0xC001), at(0x1640)), Some(1000));
            assert_eq!(owner_in(line, at(0xC002), at(0x1640)), None);
            let orphan = line.replace(" 4242 ", " 0 ");
            assert_eq!(owner_in(&orphan, at(0xC001), at(0x1640)), None);
            let closing = line.replace(":1640 01 ", ":1640 08 ");
            assert_eq!(owner_in(&closing, at(0xC001), at(0x1640)), None);
        }
        for nonsense in [
            "",
            "sl local rem",
            "1: zz:1 0100007F:1 01",
            "1: 0:0 0:0 01 1",
        ] {
            assert_eq!(owner_in(nonsense, at(1), at(1)), None);
        }
    }

    #[test]
    fn names_are_resolved_and_a_star_is_everybody() {
        let names = |all: &[&str]| all.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        assert_eq!(Allowed::resolve(&names(&["root", "*"])), Allowed::Everybody);
        let Allowed::Uids(uids) = Allowed::resolve(&names(&["root", "12345", "no such user"]))
        else {
            panic!("a list");
        };
        assert!(uids.contains(&0) && uids.contains(&12345));
    }
}
