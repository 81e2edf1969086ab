//! A primary that does what it is told, also what no primary should do.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cascade_e2e::Ports;

pub const ZONE: &str = "liar.example";

const A: u16 = 1;
const NS: u16 = 2;
const SOA: u16 = 6;
const IXFR: u16 = 251;
const AXFR: u16 = 252;

/// How it answers.
#[derive(Clone, Debug)]
pub struct Lies {
    /// Serial of the zone that it transfers.
    pub serial: u32,
    /// Serial in answers to SOA questions; `None`: the true one.
    pub announced: Option<u32>,
    /// Addresses `h0`, `h1`, … below the apex.
    pub hosts: u32,
    /// Closes the connection before the closing SOA.
    pub truncate: bool,
    pub ixfr: Ixfr,
    /// EDNS EXPIRE in answers to SOA questions.
    pub expire: Option<u32>,
    /// Answers nothing at all.
    pub silent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ixfr {
    /// The whole zone, as RFC 1995 §4 allows.
    Whole,
    Garbage,
    /// Differences that remove a record which never was.
    Wrong,
    /// The connection is closed.
    Hangup,
}

impl Lies {
    pub fn honest(serial: u32) -> Lies {
        Lies {
            serial,
            announced: None,
            hosts: 3,
            truncate: false,
            ixfr: Ixfr::Whole,
            expire: None,
            silent: false,
        }
    }
}

#[derive(Debug)]
struct State {
    lies: Lies,
    /// Types of the questions so far.
    asked: Vec<&'static str>,
}

/// The server; its threads end with the process.
#[derive(Debug)]
pub struct Liar {
    ports: Ports,
    state: Arc<Mutex<State>>,
}

impl Liar {
    pub fn start(lies: Lies) -> Liar {
        let ports = Ports::take(1);
        let state = Arc::new(Mutex::new(State {
            lies,
            asked: Vec::new(),
        }));
        let at = ("127.0.0.1", ports.get(0));
        let udp = UdpSocket::bind(at).unwrap();
        let tcp = TcpListener::bind(at).unwrap();
        let s = state.clone();
        std::thread::spawn(move || datagrams(&udp, &s));
        let s = state.clone();
        std::thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let s = s.clone();
                std::thread::spawn(move || drop(stream_of(stream, &s)));
            }
        });
        Liar { ports, state }
    }

    pub fn source(&self) -> String {
        format!("127.0.0.1:{}", self.ports.get(0))
    }

    pub fn set(&self, lies: Lies) {
        lock(&self.state).lies = lies;
    }

    /// Types of the questions since the last call.
    pub fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut lock(&self.state).asked)
    }
}

fn lock(state: &Arc<Mutex<State>>) -> MutexGuard<'_, State> {
    state.lock().unwrap()
}

fn datagrams(socket: &UdpSocket, state: &Arc<Mutex<State>>) {
    let mut buf = [0u8; 4096];
    while let Ok((n, from)) = socket.recv_from(&mut buf) {
        let lies = lock(state).lies.clone();
        lock(state).asked.push("SOA");
        if !lies.silent {
            let answer = soa_answer(&buf[..n], &lies);
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn stream_of(mut stream: TcpStream, state: &Arc<Mutex<State>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut len = [0u8; 2];
    stream.read_exact(&mut len)?;
    let mut query = vec![0u8; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut query)?;
    let lies = lock(state).lies.clone();
    let qtype = qtype(&query);
    let mut records = zone(&lies);
    records.push(soa(lies.serial));
    lock(state).asked.push(match qtype {
        IXFR => "IXFR",
        AXFR => "AXFR",
        _ => "SOA",
    });
    if lies.silent {
        return Ok(());
    }
    match (qtype, lies.ixfr) {
        (IXFR, Ixfr::Garbage) => {
            let mut msg = message(&query, &[soa(lies.serial)]);
            msg[7] = 9;
            msg.extend((0u8..200).map(|b| b.wrapping_mul(57)));
            return send(&mut stream, &msg);
        }
        (IXFR, Ixfr::Wrong) => {
            let old = lies.serial.wrapping_sub(1);
            let never = record(&format!("never.{ZONE}"), A, &[192, 0, 2, 250]);
            let list = [
                soa(lies.serial),
                soa(old),
                never,
                soa(lies.serial),
                soa(lies.serial),
            ];
            return send(&mut stream, &message(&query, &list));
        }
        (IXFR, Ixfr::Hangup) => return Ok(()),
        _ => {}
    }
    if lies.truncate {
        records.pop();
    }
    for some in records.chunks(50) {
        send(&mut stream, &message(&query, some))?;
    }
    Ok(())
}

fn send(stream: &mut TcpStream, msg: &[u8]) -> std::io::Result<()> {
    let mut out = u16::try_from(msg.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(msg);
    stream.write_all(&out)
}

fn zone(lies: &Lies) -> Vec<Vec<u8>> {
    let ns = format!("ns1.{ZONE}");
    let mut out = vec![
        soa(lies.serial),
        record(ZONE, NS, &name(&ns)),
        record(&ns, A, &[192, 0, 2, 1]),
    ];
    out.extend((0..lies.hosts).map(|i| {
        let [_, _, high, low] = i.to_be_bytes();
        record(&format!("h{i}.{ZONE}"), A, &[10, 0, high, low])
    }));
    out
}

fn soa_answer(query: &[u8], lies: &Lies) -> Vec<u8> {
    let mut msg = message(query, &[soa(lies.announced.unwrap_or(lies.serial))]);
    if let Some(expire) = lies.expire {
        msg[11] = 1;
        // OPT with the option EXPIRE (RFC 7314).
        msg.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 8, 0, 9, 0, 4]);
        msg.extend_from_slice(&expire.to_be_bytes());
    }
    msg
}

fn qtype(query: &[u8]) -> u16 {
    let end = 12 + name(ZONE).len();
    u16::from_be_bytes([query[end], query[end + 1]])
}

/// An answer to this query with these records and nothing else.
fn message(query: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    let question = &query[12..12 + name(ZONE).len() + 4];
    let mut out = query[..2].to_vec();
    out.extend_from_slice(&[0x84, 0, 0, 1]);
    out.extend_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(question);
    records.iter().for_each(|r| out.extend_from_slice(r));
    out
}

fn record(owner: &str, rtype: u16, rdata: &[u8]) -> Vec<u8> {
    let mut out = name(owner);
    out.extend_from_slice(&rtype.to_be_bytes());
    out.extend_from_slice(&[0, 1, 0, 0, 1, 44]);
    out.extend_from_slice(&u16::try_from(rdata.len()).unwrap().to_be_bytes());
    out.extend_from_slice(rdata);
    out
}

fn soa(serial: u32) -> Vec<u8> {
    let mut rdata = name(&format!("ns1.{ZONE}"));
    rdata.extend_from_slice(&name(&format!("hostmaster.{ZONE}")));
    for n in [serial, 3600, 600, 604_800, 300] {
        rdata.extend_from_slice(&n.to_be_bytes());
    }
    record(ZONE, SOA, &rdata)
}

fn name(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in text.split('.') {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}
