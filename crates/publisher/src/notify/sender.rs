//! The task that sends NOTIFYs and reads their answers; all decisions are the machine's.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cascade_time::{Clock, Timestamp};
use cascade_wire::{ClientTsig, TsigKey, frame};
use cascade_zone::{Name, Serial, ZoneId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;

use super::machine::{Machine, Notice, NotifyAnswer, Send};
use super::message::{AnswerError, check_answer, compose};
use crate::peers::{canonical, receive};

/// Longest answer to a NOTIFY that is read.
const MAX_ANSWER: usize = 16 * 1024;
const TCP_TIMEOUT: Duration = Duration::from_secs(10);
/// NOTIFYs over TCP under way.
const MAX_TCP: usize = 64;

/// Whom to tell.
#[derive(Debug, Clone)]
pub struct Target {
    pub addr: SocketAddr,
    pub key: Option<Arc<TsigKey>>,
    /// The watch asks it for its serial.
    pub watched: bool,
}

#[derive(Debug)]
pub enum NotifyCommand {
    /// A version is served; its targets as the policy has them now. Targets that are missing are
    /// forgotten.
    Published {
        zone: ZoneId,
        apex: Name,
        serial: Serial,
        soa_ttl: u32,
        soa: Vec<u8>,
        targets: Vec<Target>,
    },
    /// Further targets of a version that is served, beside those that know of it already. Nothing
    /// happens if a newer one is served by now.
    More {
        zone: ZoneId,
        serial: Serial,
        targets: Vec<Target>,
    },
    /// The zone was removed.
    Forget { zone: ZoneId },
    /// The watch saw a secondary serve this serial.
    Seen {
        zone: ZoneId,
        addr: SocketAddr,
        serial: Serial,
    },
}

/// What happened, for `zone status`, the log and the health page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyEvent {
    pub zone: ZoneId,
    pub target: SocketAddr,
    pub notice: Notice,
}

#[derive(Debug, Clone)]
pub struct SenderSettings {
    /// Our publication address of each family; the source of what we send.
    pub source_v4: Option<Ipv4Addr>,
    pub source_v6: Option<Ipv6Addr>,
    pub give_up: Duration,
    pub watched: bool,
    /// Sendings a second in all, and to one address.
    pub rate: u32,
    pub rate_per_address: u32,
}

impl Default for SenderSettings {
    fn default() -> Self {
        SenderSettings {
            source_v4: None,
            source_v6: None,
            give_up: Duration::from_secs(3600),
            watched: false,
            rate: 1000,
            rate_per_address: 50,
        }
    }
}

struct Job {
    machine: Machine,
    key: Option<Arc<TsigKey>>,
    /// A sending waits for the rate limit.
    queued: bool,
    /// The sending under way.
    id: u16,
    tsig: Option<ClientTsig>,
}

struct Zone {
    apex: Name,
    serial: Serial,
    soa_ttl: u32,
    soa: Vec<u8>,
    jobs: HashMap<SocketAddr, Job>,
}

/// Owns the machines of all zones and targets.
pub struct NotifySender {
    settings: SenderSettings,
    clock: Arc<dyn Clock>,
    random: Box<dyn FnMut() -> u32 + std::marker::Send>,
    zones: HashMap<ZoneId, Zone>,
    /// Sendings under way by ID and address, for matching answers.
    by_id: HashMap<(u16, SocketAddr), ZoneId>,
    /// Waiting for the rate limit; those of fresh versions first.
    queue: VecDeque<(ZoneId, SocketAddr, Send)>,
    /// Deadlines; one that the machine no longer has is skipped.
    due: BinaryHeap<Reverse<(Timestamp, ZoneId, SocketAddr)>>,
    sent_in: i64,
    sent: u32,
    sent_to: HashMap<IpAddr, u32>,
    events: mpsc::Sender<NotifyEvent>,
    tcp: mpsc::Sender<(SocketAddr, u16, Result<Vec<u8>, ()>)>,
    tcp_running: usize,
}

impl NotifySender {
    /// Runs until the command channel closes. Events that nobody takes in time are dropped.
    pub async fn run(
        settings: SenderSettings,
        clock: Arc<dyn Clock>,
        random: Box<dyn FnMut() -> u32 + std::marker::Send>,
        mut commands: mpsc::Receiver<NotifyCommand>,
        events: mpsc::Sender<NotifyEvent>,
    ) -> std::io::Result<()> {
        let v4 = UdpSocket::bind((settings.source_v4.unwrap_or(Ipv4Addr::UNSPECIFIED), 0))
            .await
            .ok();
        let v6 = UdpSocket::bind((settings.source_v6.unwrap_or(Ipv6Addr::UNSPECIFIED), 0))
            .await
            .ok();
        if v4.is_none() && v6.is_none() {
            return Err(std::io::Error::other(
                "no UDP socket for NOTIFY could be bound",
            ));
        }
        let (tcp, mut tcp_answers) = mpsc::channel(MAX_TCP);
        let mut me = NotifySender {
            settings,
            clock,
            random,
            zones: HashMap::new(),
            by_id: HashMap::new(),
            queue: VecDeque::new(),
            due: BinaryHeap::new(),
            sent_in: 0,
            sent: 0,
            sent_to: HashMap::new(),
            events,
            tcp,
            tcp_running: 0,
        };
        let (mut buf4, mut buf6) = (vec![0u8; MAX_ANSWER], vec![0u8; MAX_ANSWER]);
        loop {
            let pause = me.next_pause();
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
                Some((to, id, answer)) = tcp_answers.recv() => {
                    me.tcp_running -= 1;
                    match answer {
                        Ok(message) => me.arrived(&message, to),
                        Err(()) => me.answered(to, id, NotifyAnswer::Unreachable),
                    }
                }
                () = tokio::time::sleep(pause) => {}
            }
            me.expire();
            me.send_queued(v4.as_ref(), v6.as_ref());
        }
    }

    fn command(&mut self, command: NotifyCommand) {
        match command {
            NotifyCommand::Published {
                zone,
                apex,
                serial,
                soa_ttl,
                soa,
                targets,
            } => {
                self.published(
                    zone,
                    Zone {
                        apex,
                        serial,
                        soa_ttl,
                        soa,
                        jobs: HashMap::new(),
                    },
                    serial,
                    targets,
                );
            }
            NotifyCommand::More {
                zone,
                serial,
                targets,
            } => self.more(zone, serial, targets),
            NotifyCommand::Forget { zone } => {
                for (addr, job) in self.zones.remove(&zone).map(|z| z.jobs).unwrap_or_default() {
                    self.by_id.remove(&(job.id, canonical(addr)));
                }
            }
            NotifyCommand::Seen { zone, addr, serial } => {
                if let Some(job) = self
                    .zones
                    .get_mut(&zone)
                    .and_then(|z| z.jobs.get_mut(&addr))
                {
                    job.machine.seen(serial);
                }
            }
        }
    }

    fn published(&mut self, zone: ZoneId, mut fresh: Zone, serial: Serial, targets: Vec<Target>) {
        let now = self.clock.now();
        let mut old = self.zones.remove(&zone).map(|z| z.jobs).unwrap_or_default();
        for (addr, job) in &old {
            self.by_id.remove(&(job.id, canonical(*addr)));
        }
        for target in targets {
            let give_up = self.settings.give_up;
            let watched = self.settings.watched && target.watched;
            let mut machine = match old.remove(&target.addr) {
                Some(job) => job.machine,
                None => Machine::new(serial, give_up, watched),
            };
            let send = machine.published(serial, now, (self.random)());
            self.queue.push_front((zone, target.addr, send));
            let job = Job {
                machine,
                key: target.key,
                queued: true,
                id: 0,
                tsig: None,
            };
            fresh.jobs.insert(target.addr, job);
        }
        self.zones.insert(zone, fresh);
    }

    fn more(&mut self, zone: ZoneId, serial: Serial, targets: Vec<Target>) {
        let now = self.clock.now();
        let Some(served) = self.zones.get_mut(&zone).filter(|z| z.serial == serial) else {
            return;
        };
        for target in targets {
            if served.jobs.contains_key(&target.addr) {
                continue;
            }
            let watched = self.settings.watched && target.watched;
            let mut machine = Machine::new(serial, self.settings.give_up, watched);
            let send = machine.published(serial, now, (self.random)());
            self.queue.push_back((zone, target.addr, send));
            let job = Job {
                machine,
                key: target.key,
                queued: true,
                id: 0,
                tsig: None,
            };
            served.jobs.insert(target.addr, job);
        }
    }

    /// A message that may answer a NOTIFY.
    fn arrived(&mut self, message: &[u8], from: SocketAddr) {
        let Some(id) = message.first_chunk::<2>().map(|b| u16::from_be_bytes(*b)) else {
            return;
        };
        let from = canonical(from);
        let now = self.clock.now();
        let Some(zone) = self.by_id.get(&(id, from)).and_then(|z| self.zones.get(z)) else {
            return;
        };
        let Some(job) = zone.jobs.get(&from) else {
            return;
        };
        let answer = match check_answer(message, &zone.apex, id, job.tsig.as_ref(), now) {
            Ok((_, true)) => NotifyAnswer::Truncated,
            Ok((code, false)) => NotifyAnswer::Code(code),
            Err(AnswerError::Tsig(_)) => NotifyAnswer::BadTsig,
            // Whoever sent this, the answer may still come.
            Err(_) => return,
        };
        self.answered(from, id, answer);
    }

    fn answered(&mut self, from: SocketAddr, id: u16, answer: NotifyAnswer) {
        let now = self.clock.now();
        let random = (self.random)();
        let Some(zone) = self.by_id.remove(&(id, from)) else {
            return;
        };
        let Some(job) = self
            .zones
            .get_mut(&zone)
            .and_then(|z| z.jobs.get_mut(&from))
        else {
            return;
        };
        let (send, notice) = job.machine.answered(answer, now, random);
        self.follow(zone, from, send, notice);
    }

    fn follow(
        &mut self,
        zone: ZoneId,
        target: SocketAddr,
        send: Option<Send>,
        notice: Option<Notice>,
    ) {
        let Some(job) = self
            .zones
            .get_mut(&zone)
            .and_then(|z| z.jobs.get_mut(&target))
        else {
            return;
        };
        match (send, job.machine.deadline()) {
            (Some(send), _) => {
                job.queued = true;
                self.queue.push_back((zone, target, send));
            }
            (None, Some(at)) => self.due.push(Reverse((at, zone, target))),
            (None, None) => {}
        }
        if let Some(notice) = notice {
            let _ = self.events.try_send(NotifyEvent {
                zone,
                target,
                notice,
            });
        }
    }

    fn expire(&mut self) {
        let now = self.clock.now();
        while let Some(&Reverse((at, zone, target))) = self.due.peek() {
            if at > now {
                return;
            }
            self.due.pop();
            let job = self
                .zones
                .get_mut(&zone)
                .and_then(|z| z.jobs.get_mut(&target));
            let Some(job) = job.filter(|j| !j.queued && j.machine.deadline() == Some(at)) else {
                continue;
            };
            let (send, notice) = job.machine.on_time(now, (self.random)());
            self.by_id.remove(&(job.id, canonical(target)));
            self.follow(zone, target, send, notice);
        }
    }

    fn next_pause(&self) -> Duration {
        if !self.queue.is_empty() {
            return Duration::from_millis(20);
        }
        let next = self
            .due
            .peek()
            .map(|Reverse((at, _, _))| at.since(self.clock.now()));
        next.map_or(Duration::from_secs(60), |d| {
            d.clamp(Duration::from_millis(5), Duration::from_secs(60))
        })
    }

    /// Sends what the rates allow now.
    fn send_queued(&mut self, v4: Option<&UdpSocket>, v6: Option<&UdpSocket>) {
        let second = self.clock.now().secs();
        if second != self.sent_in {
            self.sent_in = second;
            self.sent = 0;
            self.sent_to.clear();
        }
        for _ in 0..self.queue.len() {
            if self.sent >= self.settings.rate {
                return;
            }
            let Some((zone, target, send)) = self.queue.pop_front() else {
                return;
            };
            let to = self.sent_to.entry(target.ip()).or_default();
            let tcp_full = send.tcp && self.tcp_running >= MAX_TCP;
            if *to >= self.settings.rate_per_address || tcp_full {
                self.queue.push_back((zone, target, send));
                continue;
            }
            *to += 1;
            self.sent += 1;
            self.send_one(zone, target, send, if target.is_ipv4() { v4 } else { v6 });
        }
    }

    fn send_one(
        &mut self,
        zone_id: ZoneId,
        target: SocketAddr,
        send: Send,
        socket: Option<&UdpSocket>,
    ) {
        let id = (self.random)() as u16;
        let now = self.clock.now();
        let Some(zone) = self.zones.get_mut(&zone_id) else {
            return;
        };
        let Some(job) = zone.jobs.get_mut(&target) else {
            return;
        };
        // Overtaken by a newer version, whose own sending is in the queue.
        if !job.queued || job.machine.serial() != send.serial {
            return;
        }
        job.queued = false;
        job.machine.sent(now, (self.random)());
        if let Some(at) = job.machine.deadline() {
            self.due.push(Reverse((at, zone_id, target)));
        }
        let mut message = vec![0, 0];
        job.tsig = compose(
            &zone.apex,
            zone.soa_ttl,
            &zone.soa,
            id,
            job.key.as_ref(),
            now,
            &mut message,
        );
        job.id = id;
        frame::close_frame(&mut message, 0);
        self.by_id.insert((id, canonical(target)), zone_id);
        if send.tcp {
            self.tcp_running += 1;
            tokio::spawn(over_tcp(target, id, message, self.tcp.clone()));
        } else if let Some(socket) = socket {
            // A full socket buffer is like a lost packet: the timeout sends again.
            let _ = socket.try_send_to(&message[2..], target);
        }
    }
}

async fn over_tcp(
    target: SocketAddr,
    id: u16,
    message: Vec<u8>,
    done: mpsc::Sender<(SocketAddr, u16, Result<Vec<u8>, ()>)>,
) {
    let exchange = async {
        let mut stream = TcpStream::connect(target).await?;
        stream.write_all(&message).await?;
        let len = stream.read_u16().await? as usize;
        let mut answer = vec![0; len.min(MAX_ANSWER)];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(TCP_TIMEOUT, exchange).await;
    let answer = answer.ok().and_then(Result::ok).ok_or(());
    let _ = done.send((canonical(target), id, answer)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Wall;
    use cascade_wire::{Algorithm, Request, ServerTsig, TsigKeys};

    /// A secondary over a real socket: refuses, ignores with a wrong ID, then accepts with TSIG.
    #[tokio::test]
    async fn a_target_is_told_over_udp_with_tsig() {
        let secondary = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let key = || TsigKey::new(&Name::parse("k").unwrap(), Algorithm::HmacSha256, b"secret");
        let (commands, rx) = mpsc::channel(4);
        let (tx, mut events) = mpsc::channel(4);
        let mut n = 0;
        let random = Box::new(move || {
            n += 1;
            n
        });
        let clock = Arc::new(Wall(tokio::time::Instant::now()));
        let task = tokio::spawn(NotifySender::run(
            SenderSettings::default(),
            clock.clone(),
            random,
            rx,
            tx,
        ));
        let zone = ZoneId([1; 16]);
        let apex = Name::parse("example").unwrap();
        let soa = [&[0u8; 2][..], &7u32.to_be_bytes(), &[0; 16]].concat();
        let target = Target {
            addr: secondary.local_addr().unwrap(),
            key: Some(Arc::new(key())),
            watched: false,
        };
        commands
            .send(NotifyCommand::Published {
                zone,
                apex: apex.clone(),
                serial: Serial(7),
                soa_ttl: 60,
                soa,
                targets: vec![target.clone()],
            })
            .await
            .unwrap();
        let mut buf = [0u8; 1500];
        let (n, from) = secondary.recv_from(&mut buf).await.unwrap();
        let request = Request::parse(&buf[..n]).unwrap();
        assert_eq!(
            (request.header.opcode(), request.answer_serial),
            (4, Some(7))
        );
        assert!(request.header.has(cascade_wire::flag::AA) && request.edns.is_some());
        let keys = TsigKeys::new([key()]);
        let mut tsig = ServerTsig::verify(
            &keys,
            request.msg,
            request.tsig.as_ref().unwrap(),
            clock.now(),
        )
        .unwrap();
        let mut answer = buf[..request.question_end].to_vec();
        answer[2] |= 0x80;
        answer[6..12].fill(0);
        let mut foreign = answer.clone();
        foreign[0] ^= 0xff;
        secondary.send_to(&foreign, from).await.unwrap();
        tsig.sign(&mut answer, 0, clock.now());
        secondary.send_to(&answer, from).await.unwrap();
        let event = tokio::time::timeout(Duration::from_secs(1), events.recv())
            .await
            .unwrap()
            .unwrap();
        let acknowledged = Notice::Acknowledged { serial: Serial(7) };
        assert_eq!(
            event,
            NotifyEvent {
                zone,
                target: target.addr,
                notice: acknowledged
            }
        );
        drop(commands);
        task.await.unwrap().unwrap();
    }

    /// Others are told of a version later, and only while it is the one that is served.
    #[tokio::test]
    async fn more_targets_of_the_same_version() {
        let (commands, rx) = mpsc::channel(8);
        let (tx, _events) = mpsc::channel(8);
        let clock = Arc::new(Wall(tokio::time::Instant::now()));
        let random = Box::new(|| 7);
        let settings = SenderSettings::default();
        let task = tokio::spawn(NotifySender::run(settings, clock, random, rx, tx));
        let zone = ZoneId([1; 16]);
        let published = |serial: u32| NotifyCommand::Published {
            zone,
            apex: Name::parse("example").unwrap(),
            serial: Serial(serial),
            soa_ttl: 60,
            soa: [&[0u8; 2][..], &serial.to_be_bytes(), &[0; 16]].concat(),
            targets: Vec::new(),
        };
        let later = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let more = |serial: u32| NotifyCommand::More {
            zone,
            serial: Serial(serial),
            targets: vec![Target {
                addr: later.local_addr().unwrap(),
                key: None,
                watched: false,
            }],
        };
        for command in [published(7), published(8), more(7)] {
            commands.send(command).await.unwrap();
        }
        let mut buf = [0u8; 1500];
        let short = Duration::from_millis(300);
        let told = tokio::time::timeout(short, later.recv_from(&mut buf)).await;
        assert!(told.is_err(), "of a version that is gone");
        commands.send(more(8)).await.unwrap();
        let within = Duration::from_secs(5);
        let told = tokio::time::timeout(within, later.recv_from(&mut buf)).await;
        let (n, _) = told.unwrap().unwrap();
        let request = Request::parse(&buf[..n]).unwrap();
        assert_eq!(request.answer_serial, Some(8));
        drop(commands);
        task.await.unwrap().unwrap();
    }
}
