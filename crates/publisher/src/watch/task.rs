//! The task that asks secondaries for their serial; all decisions are the machine's.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cascade_time::{Clock, Timestamp};
use cascade_wire::reader::CLASS_IN;
use cascade_wire::{ClientTsig, Composer, Header, Message, Section, TsigKey, flag, opcode, rcode};
use cascade_zone::{Name, Rtype, Serial, SoaFields, ZoneId};
use parking_lot::RwLock;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::machine::{Finding, Machine, Problem};
use crate::answer::MAX_UDP;
use crate::notify::Target;
use crate::peers::{canonical, receive};

/// Longest answer to a SOA question that is read.
const MAX_ANSWER: usize = 4096;
/// Questions to one address in a second, over all zones.
const RATE: u32 = 20;

#[derive(Debug)]
pub enum WatchCommand {
    /// A version is served; the secondaries as the policy has them now.
    Published {
        zone: ZoneId,
        apex: Name,
        serial: Serial,
        refresh: Duration,
        /// By an earlier process.
        resumed: bool,
        targets: Vec<Target>,
    },
    Forget {
        zone: ZoneId,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchEvent {
    pub zone: ZoneId,
    pub target: SocketAddr,
    pub finding: Finding,
}

/// What is known of one secondary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub serial: Option<Serial>,
    pub up: bool,
    pub asked_at: Option<Timestamp>,
    /// Since when it lacks the version that is served; `None`: it has it, or is not known.
    pub behind_since: Option<Timestamp>,
}

/// What is known of all secondaries: written by the watcher, read by whoever shows it.
#[derive(Debug, Default)]
pub struct Table(RwLock<HashMap<ZoneId, BTreeMap<SocketAddr, Seen>>>);

impl Table {
    pub fn of(&self, zone: ZoneId) -> BTreeMap<SocketAddr, Seen> {
        self.0.read().get(&zone).cloned().unwrap_or_default()
    }
}

struct Watched {
    machine: Machine,
    key: Option<Arc<TsigKey>>,
    /// The question under way.
    id: u16,
    tsig: Option<ClientTsig>,
}

struct Zone {
    apex: Name,
    watched: HashMap<SocketAddr, Watched>,
}

/// Owns the machines of all zones and secondaries.
pub struct Watcher {
    clock: Arc<dyn Clock>,
    random: Box<dyn FnMut() -> u32 + Send>,
    zones: HashMap<ZoneId, Zone>,
    by_id: HashMap<(u16, SocketAddr), ZoneId>,
    due: BinaryHeap<Reverse<(Timestamp, ZoneId, SocketAddr)>>,
    asked_in: i64,
    asked: HashMap<IpAddr, u32>,
    table: Arc<Table>,
    events: mpsc::Sender<WatchEvent>,
}

impl Watcher {
    /// Runs until the command channel closes. Events that nobody takes in time are dropped; the
    /// table has what matters.
    pub async fn run(
        clock: Arc<dyn Clock>,
        random: Box<dyn FnMut() -> u32 + Send>,
        table: Arc<Table>,
        mut commands: mpsc::Receiver<WatchCommand>,
        events: mpsc::Sender<WatchEvent>,
    ) -> std::io::Result<()> {
        let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.ok();
        let v6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await.ok();
        if v4.is_none() && v6.is_none() {
            let what = "no UDP socket for watching secondaries could be bound";
            return Err(std::io::Error::other(what));
        }
        let mut me = Watcher {
            clock,
            random,
            zones: HashMap::new(),
            by_id: HashMap::new(),
            due: BinaryHeap::new(),
            asked_in: 0,
            asked: HashMap::new(),
            table,
            events,
        };
        let (mut buf4, mut buf6) = (vec![0u8; MAX_ANSWER], vec![0u8; MAX_ANSWER]);
        loop {
            let pause = me.pause();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => me.command(command),
                    None => return Ok(()),
                },
                got = receive(&v4, &mut buf4) => if let Ok((n, from)) = got {
                    me.arrived(&buf4[..n], from);
                },
                got = receive(&v6, &mut buf6) => if let Ok((n, from)) = got {
                    me.arrived(&buf6[..n], from);
                },
                () = tokio::time::sleep(pause) => {}
            }
            me.ask_what_is_due(v4.as_ref(), v6.as_ref());
        }
    }

    fn command(&mut self, command: WatchCommand) {
        let now = self.clock.now();
        match command {
            WatchCommand::Forget { zone } => {
                self.drop_zone(zone);
                self.table.0.write().remove(&zone);
            }
            WatchCommand::Published {
                zone,
                apex,
                serial,
                refresh,
                resumed,
                targets,
            } => {
                let mut old = self.drop_zone(zone);
                let mut watched = HashMap::new();
                for target in targets {
                    let addr = canonical(target.addr);
                    let machine = match old.remove(&addr) {
                        Some(w) => {
                            let mut m = w.machine;
                            m.published(serial, refresh, now);
                            m
                        }
                        None => Machine::new(serial, refresh, resumed, now),
                    };
                    self.due.push(Reverse((machine.deadline(), zone, addr)));
                    let one = Watched {
                        machine,
                        key: target.key,
                        id: 0,
                        tsig: None,
                    };
                    watched.insert(addr, one);
                }
                self.zones.insert(zone, Zone { apex, watched });
                self.show(zone);
            }
        }
    }

    fn drop_zone(&mut self, zone: ZoneId) -> HashMap<SocketAddr, Watched> {
        let old = self.zones.remove(&zone).map(|z| z.watched);
        let old = old.unwrap_or_default();
        for (addr, w) in &old {
            self.by_id.remove(&(w.id, *addr));
        }
        old
    }

    fn arrived(&mut self, message: &[u8], from: SocketAddr) {
        let from = canonical(from);
        let Some(id) = message.first_chunk::<2>().map(|b| u16::from_be_bytes(*b)) else {
            return;
        };
        let Some(zone_id) = self.by_id.get(&(id, from)).copied() else {
            return;
        };
        let now = self.clock.now();
        let Some(zone) = self.zones.get_mut(&zone_id) else {
            return;
        };
        let Some(w) = zone.watched.get_mut(&from) else {
            return;
        };
        // Whoever sent what is no answer, the answer may still come.
        let Some(answer) = read_answer(message, &zone.apex, w.tsig.as_ref(), now) else {
            return;
        };
        self.by_id.remove(&(id, from));
        let finding = w.machine.answered(answer, now);
        self.follow(zone_id, from, finding);
    }

    /// Puts the machine's deadline into the queue and tells what it found.
    fn follow(&mut self, zone: ZoneId, target: SocketAddr, finding: Option<Finding>) {
        let watched = self.zones.get(&zone).and_then(|z| z.watched.get(&target));
        let Some(w) = watched else { return };
        self.due.push(Reverse((w.machine.deadline(), zone, target)));
        self.show(zone);
        if let Some(finding) = finding {
            let _ = self.events.try_send(WatchEvent {
                zone,
                target,
                finding,
            });
        }
    }

    fn show(&self, zone: ZoneId) {
        let Some(z) = self.zones.get(&zone) else {
            return;
        };
        let now = self.clock.now();
        let seen = |m: &Machine| Seen {
            serial: m.serial,
            up: m.is_up(),
            asked_at: m.asked_at,
            behind_since: m.lag(now).filter(|l| !l.is_zero()).map(|l| now - l),
        };
        let all = z.watched.iter().map(|(a, w)| (*a, seen(&w.machine)));
        self.table.0.write().insert(zone, all.collect());
    }

    fn pause(&self) -> Duration {
        let next = self.due.peek().map(|Reverse((at, ..))| *at);
        next.map_or(Duration::from_secs(60), |at| {
            at.since(self.clock.now())
                .clamp(Duration::from_millis(5), Duration::from_secs(60))
        })
    }

    fn ask_what_is_due(&mut self, v4: Option<&UdpSocket>, v6: Option<&UdpSocket>) {
        let now = self.clock.now();
        if now.secs() != self.asked_in {
            self.asked_in = now.secs();
            self.asked.clear();
        }
        while let Some(&Reverse((at, zone_id, target))) = self.due.peek() {
            if at > now {
                return;
            }
            self.due.pop();
            let zone = self.zones.get_mut(&zone_id);
            let Some(w) = zone.and_then(|z| z.watched.get_mut(&target)) else {
                continue;
            };
            // Another deadline of the same machine is in the queue as well.
            if w.machine.deadline() != at {
                continue;
            }
            let (ask, finding) = w.machine.on_time(now);
            if ask {
                let asked = self.asked.entry(target.ip()).or_default();
                if *asked >= RATE {
                    w.machine.delayed(now);
                } else {
                    *asked += 1;
                    self.ask(zone_id, target, if target.is_ipv4() { v4 } else { v6 });
                }
            }
            self.follow(zone_id, target, finding);
        }
    }

    fn ask(&mut self, zone_id: ZoneId, target: SocketAddr, socket: Option<&UdpSocket>) {
        let id = (self.random)() as u16;
        let now = self.clock.now();
        let Some(zone) = self.zones.get_mut(&zone_id) else {
            return;
        };
        let Some(w) = zone.watched.get_mut(&target) else {
            return;
        };
        self.by_id.remove(&(w.id, target));
        let mut message = Vec::new();
        w.tsig = compose(&zone.apex, id, w.key.as_ref(), now, &mut message);
        w.id = id;
        self.by_id.insert((id, target), zone_id);
        if let Some(socket) = socket {
            // A full socket buffer is like a lost packet.
            let _ = socket.try_send_to(&message, target);
        }
    }
}

fn compose(
    apex: &Name,
    id: u16,
    key: Option<&Arc<TsigKey>>,
    now: Timestamp,
    out: &mut Vec<u8>,
) -> Option<ClientTsig> {
    let mut c = Composer::new(out, MAX_UDP, id, 0);
    c.question(apex.as_wire(), Rtype::SOA, CLASS_IN);
    let size = MAX_UDP as u16;
    // Header, question and an empty OPT fit any message.
    let _ = c.record_with(Section::Additional, &[0], Rtype::OPT, size, 0, |_| {});
    let (out, start) = c.finish();
    key.map(|key| ClientTsig::request(key.clone(), out, start, now))
}

/// `None`: not an answer to our question.
fn read_answer(
    msg: &[u8],
    apex: &Name,
    tsig: Option<&ClientTsig>,
    now: Timestamp,
) -> Option<Result<Serial, Problem>> {
    let header = Header::parse(msg)?;
    if !header.has(flag::QR) || header.opcode() != opcode::QUERY {
        return None;
    }
    let message = Message::parse(msg).ok()?;
    let asked = Some((apex.clone(), Rtype::SOA, CLASS_IN));
    if header.counts[0] != 0 && message.question().ok()? != asked {
        return None;
    }
    if header.rcode() != rcode::NOERROR {
        return Some(Err(Problem::Code(header.rcode())));
    }
    if tsig.is_some_and(|t| t.clone().verify(msg, now).is_err()) {
        return Some(Err(Problem::Unusable));
    }
    if !header.has(flag::AA) {
        return Some(Err(Problem::NotAuthoritative));
    }
    let soa = message.records().filter_map(Result::ok).find(|r| {
        let here = r.owner().is_ok_and(|o| o == *apex);
        r.section == 1 && r.rtype == Rtype::SOA && here
    });
    let mut rdata = Vec::new();
    let fields = soa.and_then(|r| {
        r.push_rdata(&mut rdata).ok()?;
        SoaFields::parse(&rdata)
    });
    Some(fields.map(|f| f.serial).ok_or(Problem::Unusable))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Wall;
    use cascade_wire::Algorithm;

    /// Answers one SOA question over a real socket.
    async fn answer(server: &UdpSocket, serial: u32, aa: bool) {
        let mut buf = [0u8; 1500];
        let (n, from) = server.recv_from(&mut buf).await.unwrap();
        let request = cascade_wire::Request::parse(&buf[..n]).unwrap();
        assert_eq!((request.qtype, request.header.opcode()), (Rtype::SOA, 0));
        assert!(request.tsig.is_some(), "asked with the key");
        let mut out = Vec::new();
        let flags = flag::QR | if aa { flag::AA } else { 0 };
        let mut c = Composer::new(&mut out, 512, request.header.id, flags);
        c.question(request.qname, Rtype::SOA, CLASS_IN);
        let soa = [&[0, 0][..], &serial.to_be_bytes(), &[0; 16]].concat();
        c.record(Section::Answer, request.qname, Rtype::SOA, 60, &soa)
            .unwrap();
        c.finish();
        // Another ID first: not an answer.
        let mut foreign = out.clone();
        foreign[0] ^= 0xff;
        server.send_to(&foreign, from).await.unwrap();
        server.send_to(&out, from).await.unwrap();
    }

    #[tokio::test]
    async fn an_unsigned_answer_to_a_signed_question_is_no_serial() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let key = TsigKey::new(&Name::parse("k").unwrap(), Algorithm::HmacSha256, b"secret");
        let table = Arc::new(Table::default());
        let (commands, rx) = mpsc::channel(4);
        let (tx, _events) = mpsc::channel(4);
        let mut n = 0;
        let random = Box::new(move || {
            n += 1;
            n
        });
        let clock = Arc::new(Wall(tokio::time::Instant::now()));
        let task = tokio::spawn(Watcher::run(clock, random, table.clone(), rx, tx));
        let zone = ZoneId([1; 16]);
        let addr = server.local_addr().unwrap();
        let command = WatchCommand::Published {
            zone,
            apex: Name::parse("example").unwrap(),
            serial: Serial(7),
            refresh: Duration::from_secs(900),
            resumed: false,
            targets: vec![Target {
                addr,
                key: Some(Arc::new(key)),
                watched: true,
            }],
        };
        commands.send(command).await.unwrap();
        let within = Duration::from_secs(5);
        tokio::time::timeout(within, answer(&server, 7, true))
            .await
            .unwrap();
        let mut seen = None;
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            seen = table.of(zone).remove(&addr);
            if seen.as_ref().is_some_and(|s| s.asked_at.is_some()) {
                break;
            }
        }
        let seen = seen.unwrap();
        assert_eq!((seen.serial, seen.up), (None, false));
        assert!(seen.asked_at.is_some());
        commands.send(WatchCommand::Forget { zone }).await.unwrap();
        drop(commands);
        task.await.unwrap().unwrap();
        assert!(table.of(zone).is_empty());
    }

    #[test]
    fn answers_are_read() {
        let apex = Name::parse("example").unwrap();
        let now = Timestamp::from_secs(1_700_000_000);
        let made = |flags: u16, rtype: Rtype, qname: &str| {
            let mut out = Vec::new();
            let mut c = Composer::new(&mut out, 512, 5, flags);
            let name = Name::parse(qname).unwrap();
            c.question(name.as_wire(), Rtype::SOA, CLASS_IN);
            let soa = [&[0, 0][..], &9u32.to_be_bytes(), &[0; 16]].concat();
            c.record(Section::Answer, apex.as_wire(), rtype, 60, &soa)
                .unwrap();
            c.finish();
            out
        };
        let read = |m: Vec<u8>| read_answer(&m, &apex, None, now);
        let good = flag::QR | flag::AA;
        assert_eq!(read(made(good, Rtype::SOA, "eXample")), Some(Ok(Serial(9))));
        assert_eq!(read(made(flag::AA, Rtype::SOA, "example")), None);
        assert_eq!(read(made(good, Rtype::SOA, "other")), None);
        let what = |flags, rtype| read(made(flags, rtype, "example"));
        let refused = Problem::Code(rcode::REFUSED);
        assert_eq!(what(good | rcode::REFUSED, Rtype::SOA), Some(Err(refused)));
        assert_eq!(
            what(flag::QR, Rtype::SOA),
            Some(Err(Problem::NotAuthoritative))
        );
        assert_eq!(what(good, Rtype(65280)), Some(Err(Problem::Unusable)));
        assert_eq!(read(vec![0; 5]), None);
    }
}
