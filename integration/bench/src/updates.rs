//! DNS UPDATE against the real daemon: one change at a time, and as many as it takes.
//!
//! The clock of a change runs from the request's last octet to the answer, and to the first answer
//! of the publication address that shows it. A request is signed before its clock starts.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cascade_e2e::Site;
use cascade_time::Timestamp;
use cascade_wire::tsig::{Algorithm, ClientTsig, TsigKey};
use cascade_wire::{Composer, Message, Section, opcode, rcode};
use cascade_zone::{Name, Rtype};

use crate::generate::Tld;
use crate::table::{Limit, Row};

const SECRET: &[u8] = b"the secret of a benchmark, 32 oct";
const KEY: &str = "bench-key";
/// Requests under way on the connection of the stream.
const WINDOW: usize = 64;
/// An answer that does not come ends the run.
const WAIT: Duration = Duration::from_secs(30);
pub(crate) const POLICY: &str = "[loader]\nupdate-allow = [\"any^bench-key\"]\n";

/// What is measured.
pub struct Plan {
    pub delegations: u64,
    pub seed: u64,
    /// Sequential changes.
    pub updates: u64,
    /// Changes of the stream.
    pub stream: u64,
}

/// Starts the `cascaded` that stands beside this program, on a zone of its own.
///
/// # Errors
/// Says what did not work.
pub fn run(plan: &Plan) -> Result<Vec<Row>, String> {
    let mut site = Site::new();
    site.try_start().map_err(|f| f.said)?;
    let zone = site.path("zones/bench");
    let begun = Instant::now();
    write(plan.delegations, plan.seed, &zone)?;
    site.policy("p", POLICY);
    let call = |method: &str, path: &str, body: String| {
        let reply = site.request(method, path, Some(&body))?;
        match reply.status {
            200..=299 => Ok(reply.body),
            _ => Err(format!("{path}: {}", reply.body)),
        }
    };
    call("POST", "/v1/tsig-keys", tsig_key())?;
    call("POST", "/v1/policies/reload", "{}".into())?;
    let path = zone.display();
    call(
        "POST",
        "/v1/zones",
        format!(r#"{{"zone":"bench","policy":"p","source":{{"kind":"update","path":"{path}"}}}}"#),
    )?;
    let ours = measure(site.publication_port(), plan, begun)?;
    site.stop();
    Ok(rows(plan, &ours))
}

/// The body that adds the key of [`Client`].
pub(crate) fn tsig_key() -> String {
    let secret = base64(SECRET);
    format!(r#"{{"name":"{KEY}","algorithm":"hmac-sha256","secret":"{secret}"}}"#)
}

/// What one server came to.
struct Measured {
    /// Seconds.
    first: f64,
    /// Median and 99 %, in milliseconds.
    answered: (f64, f64),
    served: (f64, f64),
    /// Changes a second.
    stream: f64,
}

fn measure(port: u16, plan: &Plan, begun: Instant) -> Result<Measured, String> {
    let mut client = Client::new(port)?;
    client.await_zone()?;
    let first = begun.elapsed().as_secs_f64();
    // The first changes of a process warm caches, allocator and key tables.
    for i in 0..20 {
        client.change(&format!("warm{i}"))?;
    }
    let mut answered = Vec::new();
    let mut served = Vec::new();
    for i in 0..plan.updates {
        let (a, s) = client.change(&format!("upd{i}"))?;
        answered.push(a);
        served.push(s);
    }
    let both = |list: &mut [Duration]| {
        let at = |list: &mut [Duration], n| quantile(list, n).as_secs_f64() * 1e3;
        (at(list, 500), at(list, 990))
    };
    Ok(Measured {
        first,
        answered: both(&mut answered),
        served: both(&mut served),
        stream: stream(&mut client, plan.stream)?,
    })
}

fn rows(plan: &Plan, m: &Measured) -> Vec<Row> {
    let million = plan.delegations >= 1_000_000;
    let one = format!("{} changes, one after the other", plan.updates);
    let row = |what, measured, unit, limit, note: &str| Row {
        what,
        measured,
        unit,
        limit: if million { limit } else { Limit::None },
        note: note.to_string(),
    };
    vec![
        row(
            "signed and served first",
            m.first,
            "s",
            Limit::None,
            &format!("{} delegations, from the file", plan.delegations),
        ),
        row(
            "UPDATE answered, median",
            m.answered.0,
            "ms",
            Limit::None,
            &one,
        ),
        row(
            "UPDATE answered, 99 %",
            m.answered.1,
            "ms",
            Limit::None,
            &one,
        ),
        row(
            "UPDATE served, median",
            m.served.0,
            "ms",
            Limit::AtMost(2.0),
            &one,
        ),
        row("UPDATE served, 99 %", m.served.1, "ms", Limit::None, &one),
        row(
            "UPDATE stream",
            m.stream,
            "/s",
            Limit::AtLeast(2000.0),
            &format!(
                "{} changes, {WINDOW} under way on one connection",
                plan.stream
            ),
        ),
    ]
}

/// Writes the zone of a registry.
pub(crate) fn write(delegations: u64, seed: u64, path: &Path) -> Result<(), String> {
    let file = std::fs::File::create(path).map_err(|e| e.to_string())?;
    let mut out = std::io::BufWriter::with_capacity(1 << 20, file);
    Tld::new(delegations, seed)
        .write(&mut out)
        .and_then(|_| out.flush())
        .map_err(|e| format!("cannot write the zone: {e}"))
}

pub(crate) fn quantile(list: &mut [Duration], per_mille: usize) -> Duration {
    list.sort_unstable();
    let at = list.len().saturating_sub(1) * per_mille / 1000;
    list.get(at).copied().unwrap_or_default()
}

fn base64(octets: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in octets.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            out.push(match i <= chunk.len() {
                true => char::from(LETTERS[(n >> (18 - 6 * i) & 63) as usize]),
                false => '=',
            });
        }
    }
    out
}

/// A client of the publication server.
pub(crate) struct Client {
    socket: UdpSocket,
    to: SocketAddr,
    /// `None`: requests are not signed.
    key: Option<Arc<TsigKey>>,
    next_id: u16,
}

impl Client {
    pub(crate) fn new(port: u16) -> Result<Client, String> {
        let io = |e: std::io::Error| e.to_string();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io)?;
        socket.connect(to).map_err(io)?;
        socket.set_read_timeout(Some(WAIT)).map_err(io)?;
        let name = Name::parse(KEY).map_err(|e| e.to_string())?;
        Ok(Client {
            socket,
            to,
            key: Some(Arc::new(TsigKey::new(&name, Algorithm::HmacSha256, SECRET))),
            next_id: 1,
        })
    }

    /// For servers that take unsigned requests.
    pub(crate) fn without_key(self) -> Client {
        Client { key: None, ..self }
    }

    fn await_zone(&mut self) -> Result<(), String> {
        let until = Instant::now() + Duration::from_secs(1800);
        while Instant::now() < until {
            if matches!(self.ask("bench", Rtype::DNSKEY), Ok(n) if n > 0)
                && self.ask("bench", Rtype::NSEC)? > 0
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("the zone was not published within half an hour".into())
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// Records in the answer section.
    fn ask(&mut self, name: &str, rtype: Rtype) -> Result<u16, String> {
        let id = self.id();
        let mut query = Vec::new();
        let name = Name::parse(name).map_err(|e| e.to_string())?;
        let mut c = Composer::new(&mut query, 512, id, 0);
        c.question(name.as_wire(), rtype, 1);
        c.finish();
        let answer = self.exchange(&query)?;
        let message = Message::parse(&answer).map_err(|e| e.to_string())?;
        Ok(message.header.counts[1])
    }

    fn exchange(&self, query: &[u8]) -> Result<Vec<u8>, String> {
        let io = |e: std::io::Error| e.to_string();
        self.socket.send(query).map_err(io)?;
        let mut buf = vec![0; 4096];
        loop {
            let n = self.socket.recv(&mut buf).map_err(io)?;
            if buf.get(..2) == query.get(..2) {
                buf.truncate(n);
                return Ok(buf);
            }
        }
    }

    /// A delegation below the zone is added.
    fn request(&mut self, label: &str) -> Result<Vec<u8>, String> {
        let id = self.id();
        let name = |text: &str| Name::parse(text).map_err(|e| e.to_string());
        let (zone, owner) = (name("bench")?, name(&format!("{label}.bench"))?);
        let target = name("ns1.hoster.example")?;
        let mut out = Vec::new();
        let mut c = Composer::new(&mut out, 4096, id, u16::from(opcode::UPDATE) << 11);
        c.question(zone.as_wire(), Rtype::SOA, 1);
        c.record(
            Section::Authority,
            owner.as_wire(),
            Rtype::NS,
            3600,
            target.as_wire(),
        )
        .map_err(|_| "the request is too long".to_string())?;
        c.finish();
        let now = Timestamp::from_secs(
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |d| d.as_secs() as i64),
        );
        if let Some(key) = &self.key {
            let _ = ClientTsig::request(key.clone(), &mut out, 0, now);
        }
        Ok(out)
    }

    /// Time to the answer, and to the first answer that shows the change.
    pub(crate) fn change(&mut self, label: &str) -> Result<(Duration, Duration), String> {
        let request = self.request(label)?;
        let begun = Instant::now();
        let answer = self.exchange(&request)?;
        let answered = begun.elapsed();
        refused(&answer)?;
        while self.shown(label)? == 0 {}
        Ok((answered, begun.elapsed()))
    }

    /// Records of the delegation in the referral.
    fn shown(&mut self, label: &str) -> Result<u16, String> {
        let id = self.id();
        let mut query = Vec::new();
        let name = Name::parse(&format!("{label}.bench")).map_err(|e| e.to_string())?;
        let mut c = Composer::new(&mut query, 512, id, 0);
        c.question(name.as_wire(), Rtype::NS, 1);
        c.finish();
        let answer = self.exchange(&query)?;
        let message = Message::parse(&answer).map_err(|e| e.to_string())?;
        match message.header.rcode() {
            rcode::NXDOMAIN => Ok(0),
            _ => Ok(message.header.counts[1] + message.header.counts[2]),
        }
    }
}

fn refused(answer: &[u8]) -> Result<(), String> {
    let message = Message::parse(answer).map_err(|e| e.to_string())?;
    match message.header.rcode() {
        rcode::NOERROR => Ok(()),
        code => Err(format!("an UPDATE was answered with code {code}")),
    }
}

/// Changes a second on one connection.
pub(crate) fn stream(client: &mut Client, n: u64) -> Result<f64, String> {
    let io = |e: std::io::Error| e.to_string();
    let mut requests = Vec::new();
    for i in 0..n {
        let message = client.request(&format!("str{i}"))?;
        let mut framed = (message.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(&message);
        requests.push(framed);
    }
    let mut tcp = TcpStream::connect(client.to).map_err(io)?;
    tcp.set_nodelay(true).map_err(io)?;
    tcp.set_read_timeout(Some(WAIT)).map_err(io)?;
    let mut reader = tcp.try_clone().map_err(io)?;
    let begun = Instant::now();
    let (mut sent, mut answered) = (0, 0);
    while answered < requests.len() {
        let mut now = Vec::new();
        while sent < requests.len() && sent - answered < WINDOW {
            now.extend_from_slice(&requests[sent]);
            sent += 1;
        }
        tcp.write_all(&now).map_err(io)?;
        let mut len = [0; 2];
        reader.read_exact(&mut len).map_err(io)?;
        let mut answer = vec![0; u16::from_be_bytes(len).into()];
        reader.read_exact(&mut answer).map_err(io)?;
        refused(&answer)?;
        answered += 1;
    }
    let secs = begun.elapsed().as_secs_f64();
    if let Some(last) = n.checked_sub(1)
        && client.shown(&format!("str{last}"))? == 0
    {
        return Err("the last change was acknowledged and is not served".into());
    }
    Ok(n as f64 / secs.max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_as_the_daemon_takes_them() {
        assert_eq!(base64(b"a"), "YQ==");
        assert_eq!(base64(b"ab"), "YWI=");
        assert_eq!(base64(b"abc"), "YWJj");
        let mut list: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&mut list, 500), Duration::from_millis(50));
        assert_eq!(quantile(&mut [], 500), Duration::ZERO);
    }
}
