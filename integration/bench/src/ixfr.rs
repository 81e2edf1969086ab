//! Changed records by IXFR, into the real daemon: the benchmark is the primary.
//!
//! Two clocks run for a change: from the NOTIFY, and from the last octet of the increment, both until the
//! publication address shows the new serial.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cascade_e2e::Site;
use cascade_loader::Outcome as LoadOutcome;
use cascade_publisher::directory::{Directory, Role, ZoneSettings};
use cascade_publisher::{Outcome, QueryContext, Scratch, Settings, Transfer, Transport, answer};
use cascade_time::Clock;
use cascade_wire::{Composer, Message, Section, flag, opcode};
use cascade_zone::{Name, Rtype, Serial, SoaFields, ZoneVersion};

use crate::daemon::expect;
use crate::question::Asker;
use crate::stages::{Watch, load_stage};
use crate::table::{Limit, Row};
use crate::updates::{quantile, write};

const ZONE: &str = "bench";
const BOUND: Duration = Duration::from_secs(1800);
/// A change that is not served by then ends the run.
const LOST: Duration = Duration::from_secs(30);
/// Changes before those that count: caches, allocator and key tables are cold.
const WARM: u32 = 20;

/// What is measured.
pub struct Plan {
    pub delegations: u64,
    pub seed: u64,
    /// Increments, one after the other.
    pub changes: u32,
    /// Delegations that each adds, anywhere in the zone.
    pub records: u32,
}

/// Starts the `cascaded` that stands beside this program, as a secondary of this one.
///
/// # Errors
/// Says what did not work.
pub fn run(plan: &Plan) -> Result<Vec<Row>, String> {
    let warm = if plan.records == 1 { WARM } else { 2 };
    let mut site = Site::new();
    site.policy("p", "[signer]\nserial-policy = \"counter\"\n");
    site.try_start().map_err(|f| f.said)?;
    let base = zone(&site, plan.delegations, plan.seed)?;
    let primary = Primary::start(base, plan.records)?;
    let begun = Instant::now();
    let port = primary.port;
    let source =
        format!(r#"{{"address":"127.0.0.1","port":{port},"tsig_key":null,"tls_name":null}}"#);
    let body = format!(
        r#"{{"zone":"{ZONE}","policy":"p","source":{{"kind":"servers","servers":[{source}]}}}}"#
    );
    expect(&site, "/v1/policies/reload", "{}", 200)?;
    expect(&site, "/v1/zones", &body, 201)?;
    let asker = Asker::new(site.publication_port(), ZONE)?;
    let first = asker.until(begun, BOUND, |_| true)?;
    let notify = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| e.to_string())?;
    notify
        .connect((Ipv4Addr::LOCALHOST, site.publication_port()))
        .map_err(|e| e.to_string())?;
    let mut all = Vec::new();
    for n in 0..warm + plan.changes {
        let before = asker.serial().ok_or("no answer")?;
        primary.change();
        let noticed = Instant::now();
        notify
            .send(&notify_message(n as u16)?)
            .map_err(|e| e.to_string())?;
        while asker.serial().is_none_or(|s| s == before) {
            if noticed.elapsed() > LOST {
                return Err(format!("change {n} was not served within {LOST:?}"));
            }
        }
        let served = Instant::now();
        let sent = lock(&primary.state).sent.take();
        let sent = sent.ok_or("the daemon did not ask for the increment")?;
        if n >= warm {
            all.push((served - sent, served - noticed));
        }
    }
    site.stop();
    let whole = lock(&primary.state).whole;
    if whole != 1 {
        return Err(format!(
            "{whole} transfers of the whole zone, and one is wanted"
        ));
    }
    Ok(rows(plan, first, all))
}

fn rows(plan: &Plan, first: Duration, all: Vec<(Duration, Duration)>) -> Vec<Row> {
    let (mut served, mut noticed): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    let at = |list: &mut [Duration], n| quantile(list, n).as_secs_f64() * 1e3;
    let limit = match plan.delegations >= 1_000_000 {
        true if plan.records == 1 => Limit::AtMost(2.0),
        true if plan.records <= 10_000 => Limit::AtMost(600.0),
        _ => Limit::None,
    };
    let row = Row::new;
    let records = plan.records;
    let many = format!("{} changes of {records}, one after the other", served.len());
    vec![
        row(
            "AXFR in, signed, served",
            first.as_secs_f64(),
            "s",
            Limit::None,
            format!("{} delegations", plan.delegations),
        ),
        row(
            "IXFR served, median",
            at(&mut served, 500),
            "ms",
            limit,
            format!("from the last octet of the increment; {many}"),
        ),
        row(
            "IXFR served, 99 %",
            at(&mut served, 990),
            "ms",
            Limit::None,
            many.clone(),
        ),
        row(
            "NOTIFY to served, median",
            at(&mut noticed, 500),
            "ms",
            Limit::None,
            format!("with SOA question and connection; {many}"),
        ),
    ]
}

/// The unsigned zone.
fn zone(site: &Site, delegations: u64, seed: u64) -> Result<ZoneVersion, String> {
    let path = site.path("primary.zone");
    write(delegations, seed, &path)?;
    let apex = Name::parse(ZONE).map_err(|e| e.to_string())?;
    match load_stage(&path, &apex, &Watch(Instant::now())) {
        LoadOutcome::Loaded { version, .. } => Ok(*version),
        other => Err(format!("load: {:?}", other.report().diagnostics)),
    }
}

struct State {
    base: Arc<ZoneVersion>,
    directory: Directory,
    /// Changes since the first version: each adds so many delegations.
    changes: u32,
    records: u32,
    /// When the last increment was written.
    sent: Option<Instant>,
    /// Transfers of the whole zone.
    whole: u32,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn serial(&self, changes: u32) -> Serial {
        Serial(self.base.serial().0.wrapping_add(changes))
    }

    fn soa(&self, changes: u32) -> Vec<u8> {
        SoaFields::with_serial(self.base.soa(), self.serial(changes))
    }
}

/// Serves the zone, and increments of the last step; its threads end with the process.
struct Primary {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Primary {
    fn start(base: ZoneVersion, records: u32) -> Result<Primary, String> {
        let io = |e: std::io::Error| e.to_string();
        let base = Arc::new(base);
        let directory = Directory::new();
        directory
            .add(base.zone(), base.apex(), ZoneSettings::default())
            .map_err(|e| e.to_string())?;
        directory
            .review_unsigned(base.zone(), base.clone())
            .map_err(|e| e.to_string())?;
        let state = Arc::new(Mutex::new(State {
            base,
            directory,
            changes: 0,
            records,
            sent: None,
            whole: 0,
        }));
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io)?;
        let port = tcp.local_addr().map_err(io)?.port();
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).map_err(io)?;
        let s = state.clone();
        std::thread::spawn(move || datagrams(&udp, &s));
        let s = state.clone();
        std::thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let s = s.clone();
                std::thread::spawn(move || drop(connection(stream, &s)));
            }
        });
        Ok(Primary { port, state })
    }

    fn change(&self) {
        lock(&self.state).changes += 1;
    }
}

fn datagrams(socket: &UdpSocket, state: &Mutex<State>) {
    let mut buf = [0; 4096];
    while let Ok((n, from)) = socket.recv_from(&mut buf) {
        let answer = increment(&buf[..n], &lock(state), false);
        if let Some(message) = answer.and_then(|a| a.into_iter().next()) {
            let _ = socket.send_to(&message, from);
        }
    }
}

fn connection(mut stream: TcpStream, state: &Mutex<State>) -> Result<(), std::io::Error> {
    stream.set_nodelay(true)?;
    loop {
        let mut len = [0; 2];
        stream.read_exact(&mut len)?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut query)?;
        if qtype(&query) == Some(Rtype::AXFR) {
            let mut state = lock(state);
            state.whole += 1;
            whole(&query, &state, &mut stream)?;
            continue;
        }
        let mut state = lock(state);
        let Some(answer) = increment(&query, &state, true) else {
            return Ok(());
        };
        let mut framed = Vec::new();
        for message in answer {
            framed.extend_from_slice(&(message.len() as u16).to_be_bytes());
            framed.extend_from_slice(&message);
        }
        stream.write_all(&framed)?;
        if qtype(&query) == Some(Rtype::IXFR) {
            state.sent = Some(Instant::now());
        }
    }
}

fn qtype(query: &[u8]) -> Option<Rtype> {
    let question = Message::parse(query).ok()?.question().ok()??;
    Some(question.1)
}

fn whole(query: &[u8], state: &State, stream: &mut TcpStream) -> Result<(), std::io::Error> {
    let settings = Settings::open();
    let now = Watch(Instant::now()).now();
    let ctx = QueryContext {
        role: Role::LoaderReview,
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        transport: Transport::Tcp,
        now,
        directory: &state.directory,
        settings: &settings,
        tls_name: None,
        limited: false,
    };
    let mut out = Vec::new();
    let outcome = answer(query, &ctx, &mut Scratch::default(), &mut out);
    let Outcome::Transfer(request) = outcome else {
        return Err(std::io::Error::other("the transfer was not granted"));
    };
    let mut transfer = Transfer::new(*request);
    while let Some(messages) = transfer.unsent(now) {
        let n = stream.write(messages)?;
        transfer.sent(n);
    }
    Ok(())
}

/// The messages of the answer to a question for the SOA or, over TCP, for the increment from the
/// version before.
fn increment(query: &[u8], state: &State, tcp: bool) -> Option<Vec<Vec<u8>>> {
    let message = Message::parse(query).ok()?;
    let (name, rtype, class) = message.question().ok()??;
    let theirs = message.records().flatten().find(|r| r.rtype == Rtype::SOA);
    let theirs = theirs.and_then(|r| r.raw_rdata().last_chunk::<20>().copied());
    let theirs = theirs.and_then(|numbers| numbers.first_chunk::<4>().copied());
    let n = state.changes;
    let before = n.checked_sub(1).map(|b| state.serial(b));
    let theirs = theirs.map(|s| Serial(u32::from_be_bytes(s)));
    let ttl = state.base.soa_ttl();
    let soa = |changes| (name.clone(), Rtype::SOA, ttl, state.soa(changes));
    let mut records = vec![soa(n)];
    if tcp && rtype == Rtype::IXFR && before.is_some() && theirs == before {
        records.extend([soa(n - 1), soa(n)]);
        let target = Name::parse("ns1.hoster.example").ok()?;
        for k in 0..state.records {
            let owner = Name::parse(&format!("{}.{ZONE}", label(n, k))).ok()?;
            records.push((owner, Rtype::NS, 3600, target.as_wire().to_vec()));
        }
        records.push(soa(n));
    }
    let mut messages = Vec::new();
    let mut rest = &records[..];
    while !rest.is_empty() {
        let mut out = Vec::new();
        let mut c = Composer::new(&mut out, 0x4000, message.header.id, flag::QR | flag::AA);
        c.question(name.as_wire(), rtype, class);
        while let Some(((owner, rtype, ttl, rdata), more)) = rest.split_first() {
            let owner = owner.as_wire();
            if c.record(Section::Answer, owner, *rtype, *ttl, rdata)
                .is_err()
            {
                break;
            }
            rest = more;
        }
        if c.count(Section::Answer) == 0 {
            return None;
        }
        c.finish();
        messages.push(out);
    }
    Some(messages)
}

/// Name of the `k`-th delegation that change `n` adds: anywhere in the zone.
fn label(n: u32, k: u32) -> String {
    let mut mixed = k.wrapping_add(n << 16).wrapping_mul(0x9e37_79b1);
    let mut label = String::new();
    for _ in 0..5 {
        label.push(char::from(b'a' + (mixed % 26) as u8));
        mixed /= 26;
    }
    format!("{label}-{n}-{k}")
}

fn notify_message(id: u16) -> Result<Vec<u8>, String> {
    let zone = Name::parse(ZONE).map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    let flags = u16::from(opcode::NOTIFY) << 11 | flag::AA;
    let mut c = Composer::new(&mut out, 512, id, flags);
    c.question(zone.as_wire(), Rtype::SOA, 1);
    c.finish();
    Ok(out)
}
