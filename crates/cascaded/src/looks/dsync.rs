//! The parent is told that there is a new CDS (RFC 9859): where it wants to hear that is found by its
//! DSYNC records, and a NOTIFY(CDS) is sent there. It is a hint; what the parent then does is seen
//! by looks at its servers alone.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cascade_time::Clock;
use cascade_wire::{Composer, Message, Section, TsigKeys, flag, opcode};
use cascade_zone::{Name, Rtype};
use tokio::net::UdpSocket;

use super::Looks;
use super::message::{ANSWER, NOERROR, NXDOMAIN, Reply};
use super::servers::{self, Server};
use super::transport::{Asker, Fetch};
use crate::daemon::random;

/// RFC 9859 §2.1: scheme NOTIFY.
const SCHEME_NOTIFY: u8 = 1;
const IN: u16 = 1;
/// Endpoints, and addresses of each, that are tried.
const MOST: usize = 4;
/// RFC 1996 §3.6: a NOTIFY over UDP is repeated when no answer comes.
const TIMES: u32 = 3;
const MAX_UDP: u16 = 1232;

/// Whose parent is told.
#[derive(Debug)]
pub struct Telling {
    pub zone: Name,
    /// Servers of the parent as the policy names them; they are asked instead of resolvers.
    pub parent_servers: Vec<SocketAddr>,
    pub resolvers: Vec<SocketAddr>,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// Heard by this endpoint.
    By(String),
    /// The parent has no DSYNC record for CDS: there is nobody to tell.
    NoTarget,
}

/// Finds the endpoint and tells it.
///
/// # Errors
/// Says what did not answer, or what it answered; it may be tried again.
pub async fn notify(
    telling: &Telling,
    tsig: Arc<TsigKeys>,
    looks: Arc<Looks>,
    clock: Arc<dyn Clock>,
    bound: Duration,
) -> Result<Told, String> {
    let asker = Asker {
        timeout: bound,
        tsig,
        looks,
        clock,
    };
    let source = Source::of(telling).await;
    let endpoints = discover(&telling.zone, &source, &asker).await?;
    if endpoints.is_empty() {
        return Ok(Told::NoTarget);
    }
    let mut failed = String::new();
    for e in endpoints.iter().take(MOST) {
        let addresses = source.addresses(&e.target, &asker).await;
        if addresses.is_empty() {
            failed = format!("{} has no address that can be used", e.target);
        }
        for ip in addresses.into_iter().take(MOST) {
            let at = SocketAddr::new(ip, e.port);
            match send(&telling.zone, at, bound).await {
                Ok(()) => return Ok(Told::By(format!("{} ({at})", e.target))),
                Err(why) => failed = format!("{} ({at}): {why}", e.target),
            }
        }
    }
    Err(failed)
}

/// Who is asked where the parent wants to hear.
struct Source {
    parents: Vec<SocketAddr>,
    resolvers: Vec<SocketAddr>,
}

impl Source {
    async fn of(telling: &Telling) -> Source {
        Source {
            parents: telling.parent_servers.clone(),
            resolvers: servers::resolvers(&telling.resolvers).await,
        }
    }

    /// The first answer with or without data.
    async fn ask(&self, name: &Name, rtype: Rtype, asker: &Asker) -> Option<Reply> {
        for addr in &self.parents {
            let server = Server {
                name: "parent".into(),
                addr: *addr,
                tsig: None,
            };
            if let Fetch::Reply(r) = asker.ask(&server, name, rtype).await
                && r.aa
                && matches!(r.rcode, NOERROR | NXDOMAIN)
            {
                return Some(r);
            }
        }
        if !self.parents.is_empty() && rtype == Rtype::DSYNC {
            return None;
        }
        servers::first_reply(&self.resolvers, name, rtype, asker).await
    }

    /// Addresses of an endpoint. One on this host counts only if a parent's server that the policy
    /// names is on this host, too: others have no business to send us to ourselves.
    async fn addresses(&self, name: &Name, asker: &Asker) -> Vec<IpAddr> {
        let local = self.parents.iter().any(|p| p.ip().is_loopback());
        let mut out = Vec::new();
        for rtype in [Rtype::A, Rtype::AAAA] {
            let Some(reply) = self.ask(name, rtype, asker).await else {
                continue;
            };
            let of_type = reply
                .records
                .iter()
                .filter(|r| r.section == ANSWER && r.rtype == rtype);
            out.extend(of_type.filter_map(|r| servers::address(&r.rdata)));
        }
        out.retain(|ip| servers::is_public(*ip) || local && ip.is_loopback());
        out
    }
}

/// A DSYNC record for CDS with scheme NOTIFY.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Endpoint {
    target: Name,
    port: u16,
}

impl Endpoint {
    /// RFC 9859 §2.1: type, scheme, port, target. The root as target: no endpoint.
    fn parse(rdata: &[u8]) -> Option<Endpoint> {
        let (head, target) = rdata.split_at_checked(5)?;
        let rtype = u16::from_be_bytes([head[0], head[1]]);
        let port = u16::from_be_bytes([head[3], head[4]]);
        let target = Name::from_wire(target).ok()?;
        let is_ours = rtype == Rtype::CDS.0 && head[2] == SCHEME_NOTIFY && port != 0;
        (is_ours && !target.is_root()).then_some(Endpoint { target, port })
    }

    fn all(reply: &Reply) -> Vec<Endpoint> {
        // Behind a CNAME or wildcard as well: any DSYNC of the answer was asked for.
        let of_type = reply
            .records
            .iter()
            .filter(|r| r.section == ANSWER && r.rtype == Rtype::DSYNC);
        let mut all: Vec<Endpoint> = of_type.filter_map(|r| Endpoint::parse(&r.rdata)).collect();
        all.sort();
        all.dedup();
        all
    }
}

/// RFC 9859 §4.1: at the child's own name under `_dsync`, where a wildcard may answer; then with
/// the label before the zone that the denial's SOA names; then at `_dsync` itself.
async fn discover(zone: &Name, source: &Source, asker: &Asker) -> Result<Vec<Endpoint>, String> {
    let Some(above) = zone.parent() else {
        return Ok(Vec::new());
    };
    let mut parent = above;
    let mut asked: Vec<Name> = Vec::new();
    let mut next = Some(lookup_name(zone, &parent));
    while let Some(Some(name)) = next.take() {
        asked.push(name.clone());
        let Some(reply) = source.ask(&name, Rtype::DSYNC, asker).await else {
            return Err(format!("nobody answered the question for DSYNC at {name}"));
        };
        let found = Endpoint::all(&reply);
        if !found.is_empty() {
            return Ok(found);
        }
        if let Some(real) = denied_by(&reply, zone).filter(|p| *p != parent)
            && asked.len() == 1
        {
            parent = real;
            next = Some(lookup_name(zone, &parent));
            continue;
        }
        let bare = parent.child(b"_dsync").ok();
        next = Some(bare.filter(|b| !asked.contains(b)));
    }
    Ok(Vec::new())
}

/// The zone that denied, if it is above ours.
fn denied_by(reply: &Reply, zone: &Name) -> Option<Name> {
    let owner = Name::from_wire(reply.soa()?.0).ok()?;
    let above = zone.parent()?.to_lowercase();
    above.is_at_or_below(&owner).then_some(owner)
}

/// The zone's name with `_dsync` between the parent's name and what is before it; `None` if it gets
/// too long.
fn lookup_name(zone: &Name, parent: &Name) -> Option<Name> {
    let before = zone.label_count().checked_sub(parent.label_count())?;
    let labels: Vec<&[u8]> = zone.labels().take(before).collect();
    let mut name = parent.child(b"_dsync").ok()?;
    for label in labels.into_iter().rev() {
        name = name.child(label).ok()?;
    }
    Some(name)
}

/// RFC 9859 §4.2: a NOTIFY whose question is the child's CDS.
fn message(zone: &Name, id: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let flags = flag::AA | (opcode::NOTIFY as u16) << 11;
    let mut c = Composer::new(&mut out, usize::from(MAX_UDP), id, flags);
    c.question(zone.as_wire(), Rtype::CDS, IN);
    // Larger than any message with one question: always fits.
    let _ = c.record_with(Section::Additional, &[0], Rtype::OPT, MAX_UDP, 0, |_| {});
    c.finish();
    out
}

/// The response code of an answer to our NOTIFY; `None` for anything else.
fn answered(octets: &[u8], zone: &Name, id: u16) -> Option<u16> {
    let m = Message::parse(octets).ok()?;
    if m.header.id != id || !m.header.has(flag::QR) || m.header.opcode() != opcode::NOTIFY {
        return None;
    }
    match m.question() {
        // Servers that do not know NOTIFY may answer without the question.
        Ok(None) => {}
        Ok(Some((n, Rtype::CDS, IN))) if n == *zone => {}
        _ => return None,
    }
    Some(m.header.rcode())
}

async fn send(zone: &Name, at: SocketAddr, bound: Duration) -> Result<(), String> {
    let id = u16::from_be_bytes(random());
    let message = message(zone, id);
    let exchange = async {
        let any: SocketAddr = if at.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            ([0u16; 8], 0).into()
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(at).await?;
        let mut octets = vec![0; 4096];
        for n in 0..TIMES {
            socket.send(&message).await?;
            let wait = (bound / (1 << TIMES)) * (1 << n);
            let hear = async {
                loop {
                    let n = socket.recv(&mut octets).await?;
                    if let Some(rcode) = answered(&octets[..n], zone, id) {
                        return std::io::Result::Ok(rcode);
                    }
                }
            };
            match tokio::time::timeout(wait, hear).await {
                Ok(end) => return end.map(Some),
                Err(_) => continue,
            }
        }
        Ok(None)
    };
    match exchange.await {
        Ok(Some(0)) => Ok(()),
        Ok(Some(rcode)) => Err(format!("answers NOTIFY(CDS) with {}", rcode_text(rcode))),
        Ok(None) => Err(format!("no answer to {TIMES} NOTIFY(CDS)")),
        Err(e) => Err(e.to_string()),
    }
}

fn rcode_text(rcode: u16) -> String {
    match rcode {
        1 => "FORMERR".into(),
        2 => "SERVFAIL".into(),
        3 => "NXDOMAIN".into(),
        4 => "NOTIMP".into(),
        5 => "REFUSED".into(),
        9 => "NOTAUTH".into(),
        other => format!("RCODE {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: &str) -> Name {
        Name::parse(n).unwrap()
    }

    #[test]
    fn names_at_which_the_endpoint_is_looked_for() {
        let at = |zone: &str, parent: &str| {
            lookup_name(&name(zone), &name(parent)).map(|n| n.to_string())
        };
        assert_eq!(
            at("child.example.", "example."),
            Some("child._dsync.example.".into())
        );
        assert_eq!(
            at("city.ise.mie.jp.", "mie.jp."),
            Some("city.ise._dsync.mie.jp.".into())
        );
        assert_eq!(at("jp.", "."), Some("jp._dsync.".into()));
        let long = "a".repeat(63);
        let long = format!("{long}.{long}.{long}.{}.", "b".repeat(57));
        assert_eq!(at(&long, "."), None);
    }

    #[test]
    fn only_notify_for_cds_is_an_endpoint() {
        let rdata = |rtype: u16, scheme: u8, port: u16, target: &str| {
            let mut out = rtype.to_be_bytes().to_vec();
            out.push(scheme);
            out.extend(port.to_be_bytes());
            out.extend(name(target).as_wire());
            out
        };
        let good = Endpoint::parse(&rdata(59, 1, 5359, "a.example.")).unwrap();
        assert_eq!((good.port, good.target), (5359, name("a.example.")));
        for bad in [
            rdata(62, 1, 5359, "a."),
            rdata(59, 2, 5359, "a."),
            rdata(59, 1, 0, "a."),
            rdata(59, 1, 53, "."),
            vec![0, 59, 1, 0],
            vec![],
        ] {
            assert_eq!(Endpoint::parse(&bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_message_and_its_answer() {
        let zone = name("child.example.");
        let sent = message(&zone, 7);
        let m = Message::parse(&sent).unwrap();
        assert_eq!(m.header.opcode(), opcode::NOTIFY);
        assert_eq!(m.question().unwrap(), Some((zone.clone(), Rtype::CDS, 1)));
        assert_eq!(answered(&sent, &zone, 7), None, "a question");
        let mut reply = sent.clone();
        reply[2] |= 0x80;
        assert_eq!(answered(&reply, &zone, 7), Some(0));
        assert_eq!(answered(&reply, &zone, 8), None);
        assert_eq!(answered(&reply, &name("other.example."), 7), None);
        reply[3] = 5;
        assert_eq!(answered(&reply, &zone, 7), Some(5));
        for cut in 0..reply.len() {
            let _ = answered(&reply[..cut], &zone, 7);
        }
    }
}
