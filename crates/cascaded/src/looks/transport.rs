//! One question to one address: TCP, or UDP where TCP is refused.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cascade_time::Clock;
use cascade_wire::{ClientTsig, TsigKeys};
use cascade_zone::{Name, Rtype};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::Looks;
use super::message::{Reply, question};
use super::servers::Server;
use crate::daemon::random;

/// UDP answers count only if three from different ports are alike: one of them is easily forged.
const UDP_TIMES: usize = 3;

/// What became of a question.
#[derive(Debug)]
pub enum Fetch {
    Reply(Reply),
    /// The kernel has no route for the address family.
    NoRoute,
    Silent,
    Unusable(String),
}

/// Asks within the bounds of the configuration.
pub struct Asker {
    pub timeout: Duration,
    pub tsig: Arc<TsigKeys>,
    pub looks: Arc<Looks>,
    pub clock: Arc<dyn Clock>,
}

enum Failed {
    NoRoute,
    Refused,
    Silent,
    Wrong(String),
}

impl Asker {
    /// Asks an authoritative server.
    pub async fn ask(&self, server: &Server, name: &Name, rtype: Rtype) -> Fetch {
        let Ok(_turn) = self.looks.parallel.acquire().await else {
            return Fetch::Silent;
        };
        let wait = self.looks.pace(server.addr.ip(), self.clock.monotonic());
        tokio::time::sleep(wait).await;
        match self.tcp(server, name, rtype, false).await {
            Ok(reply) => Fetch::Reply(reply),
            Err(Failed::NoRoute) => Fetch::NoRoute,
            Err(Failed::Silent) => Fetch::Silent,
            Err(Failed::Wrong(why)) => Fetch::Unusable(why),
            Err(Failed::Refused) if server.tsig.is_none() => {
                self.udp_thrice(server, name, rtype).await
            }
            Err(Failed::Refused) => Fetch::Silent,
        }
    }

    /// Asks a resolver; `None` if it has no answer.
    pub async fn resolve(&self, resolver: SocketAddr, name: &Name, rtype: Rtype) -> Option<Reply> {
        let _turn = self.looks.parallel.acquire().await.ok()?;
        let server = Server {
            name: "resolver".into(),
            addr: resolver,
            tsig: None,
        };
        let reply = match self.udp(resolver, name, rtype, true).await {
            Ok(reply) if !reply.tc => Ok(reply),
            _ => self.tcp(&server, name, rtype, true).await,
        };
        reply.ok()
    }

    async fn tcp(
        &self,
        server: &Server,
        name: &Name,
        rtype: Rtype,
        rd: bool,
    ) -> Result<Reply, Failed> {
        let id = u16::from_be_bytes(random());
        let mut message = question(name, rtype, id, rd, None);
        let mut tsig = match &server.tsig {
            None => None,
            Some(key) => {
                let key_name = Name::parse(key).ok();
                let key_of = |n: &Name| self.tsig.get(n).cloned();
                let Some(found) = key_name.as_ref().and_then(key_of) else {
                    return Err(Failed::Wrong(format!("TSIG key '{key}' is not known here")));
                };
                let now = self.clock.now();
                Some(ClientTsig::request(found, &mut message, 0, now))
            }
        };
        let exchange = async {
            let mut stream = TcpStream::connect(server.addr).await?;
            let mut framed = (message.len() as u16).to_be_bytes().to_vec();
            framed.extend(&message);
            stream.write_all(&framed).await?;
            let mut octets = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut octets).await?;
            io::Result::Ok(octets)
        };
        let mut octets = match timeout(self.timeout, exchange).await {
            Err(_) => return Err(Failed::Silent),
            Ok(Err(e)) => return Err(failed(&e)),
            Ok(Ok(octets)) => octets,
        };
        if let Some(tsig) = &mut tsig {
            let now = self.clock.now();
            let len = tsig
                .verify(&octets, now)
                .map_err(|e| Failed::Wrong(e.to_string()))?;
            // What follows is the TSIG record, which the counts still name.
            octets.truncate(len.max(12));
            let less = u16::from_be_bytes([octets[10], octets[11]]).saturating_sub(1);
            octets[10..12].copy_from_slice(&less.to_be_bytes());
        }
        Reply::parse(&octets, name, rtype, id).map_err(Failed::Wrong)
    }

    async fn udp_thrice(&self, server: &Server, name: &Name, rtype: Rtype) -> Fetch {
        let mut first: Option<Reply> = None;
        for _ in 0..UDP_TIMES {
            let reply = match self.udp(server.addr, name, rtype, false).await {
                Ok(reply) if reply.tc => {
                    return Fetch::Unusable("truncated, and TCP is refused".into());
                }
                Ok(reply) => reply,
                Err(Failed::NoRoute) => return Fetch::NoRoute,
                Err(Failed::Silent | Failed::Refused) => return Fetch::Silent,
                Err(Failed::Wrong(why)) => return Fetch::Unusable(why),
            };
            match &first {
                None => first = Some(reply),
                Some(f) if same(f, &reply) => {}
                Some(_) => return Fetch::Unusable("answers over UDP differ".into()),
            }
        }
        first.map_or(Fetch::Silent, Fetch::Reply)
    }

    async fn udp(
        &self,
        addr: SocketAddr,
        name: &Name,
        rtype: Rtype,
        rd: bool,
    ) -> Result<Reply, Failed> {
        let id = u16::from_be_bytes(random());
        let cookie: [u8; 8] = random();
        let message = question(name, rtype, id, rd, Some(cookie));
        let exchange = async {
            let any: SocketAddr = if addr.is_ipv4() {
                ([0, 0, 0, 0], 0).into()
            } else {
                ([0u16; 8], 0).into()
            };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(addr).await?;
            socket.send(&message).await?;
            let mut octets = vec![0; 4096];
            loop {
                let n = socket.recv(&mut octets).await?;
                // What does not fit is somebody else's guess: the real answer may still come.
                if let Ok(reply) = Reply::parse(&octets[..n], name, rtype, id)
                    && reply.cookie.as_ref().is_none_or(|c| c.starts_with(&cookie))
                {
                    return io::Result::Ok(reply);
                }
            }
        };
        match timeout(self.timeout, exchange).await {
            Err(_) => Err(Failed::Silent),
            Ok(Err(e)) => Err(failed(&e)),
            Ok(Ok(reply)) => Ok(reply),
        }
    }
}

fn failed(e: &io::Error) -> Failed {
    match e.kind() {
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => Failed::NoRoute,
        io::ErrorKind::ConnectionRefused => Failed::Refused,
        _ => Failed::Silent,
    }
}

/// Alike but for the order of records, TTLs that count down, and cookies.
fn same(a: &Reply, b: &Reply) -> bool {
    let key = |r: &Reply| {
        let mut all: Vec<_> = r
            .records
            .iter()
            .map(|x| (x.section, x.owner.clone(), x.rtype.0, x.rdata.clone()))
            .collect();
        all.sort();
        all
    };
    a.aa == b.aa && a.rcode == b.rcode && key(a) == key(b)
}
