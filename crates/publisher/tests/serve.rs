//! The servers over real sockets: queries, pipelining, transfers, limits, stop.

#![allow(clippy::unwrap_used)] // a failure here is the test's finding

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cascade_publisher::directory::{Directory, Role, ZoneSettings};
use cascade_publisher::limits::{ConnectionLimits, Connections, TransferGate, TransferLimits};
use cascade_publisher::server::{Common, Server, bind_tcp, bind_udp};
use cascade_publisher::{NotifyIn, Settings, UpdateIn, UpdateReply};
use cascade_time::{Clock, Timestamp};
use cascade_wire::tsig::{Algorithm, ClientTsig, TsigKey, TsigKeys};
use cascade_wire::{Acl, Composer, Message, Section, flag, opcode, rcode};
use cascade_zone::{Builder, Name, RecordBatch, Rtype, VersionId, ZoneId, ZoneVersion, key};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::timeout;

struct Wall(tokio::time::Instant);
impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_700_000_000) + self.0.elapsed()
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

const ZONE: ZoneId = ZoneId([1; 16]);

fn zone(extra: usize) -> Arc<ZoneVersion> {
    let apex = Name::parse("example.net").unwrap();
    let mut batch = RecordBatch::new();
    batch.owner(&[], None);
    let ns = Name::parse("ns.example.net").unwrap();
    let soa = [ns.as_wire(), ns.as_wire(), &7u32.to_be_bytes(), &[0; 16]].concat();
    batch.push(Rtype::SOA, 60, &soa, 0).unwrap();
    batch.push(Rtype::NS, 60, ns.as_wire(), 0).unwrap();
    batch
        .push(Rtype::DNSKEY, 60, &[1, 1, 3, 15, 1, 2, 3, 4], 0)
        .unwrap();
    for i in 0..extra {
        let owner = apex.child(format!("host-{i}").as_bytes()).unwrap();
        batch.owner(&key::key_of(&apex, owner.as_wire()).unwrap(), None);
        batch
            .push(Rtype::A, 60, &(i as u32).to_be_bytes(), 0)
            .unwrap();
    }
    let builder = Builder::new(ZONE, VersionId(1), &apex, Timestamp::EPOCH).batches(vec![batch]);
    Arc::new(builder.build().unwrap())
}

struct Running {
    server: Server,
    addr: SocketAddr,
    notify: mpsc::Receiver<NotifyIn>,
    updates: mpsc::Receiver<UpdateIn>,
    common: Common,
}

async fn run(role: Role, extra: usize) -> Running {
    let (tx, notify) = mpsc::channel(4);
    let (updates_tx, updates) = mpsc::channel(4);
    let directory = Arc::new(Directory::new());
    let settings = ZoneSettings {
        notify_from: Acl::loopback(),
        updates: true,
        ..ZoneSettings::default()
    };
    let version = zone(extra);
    directory.add(ZONE, version.apex(), settings).unwrap();
    directory.review_unsigned(ZONE, version).unwrap();
    let common = Common {
        directory,
        clock: Arc::new(Wall(tokio::time::Instant::now())),
        connections: Connections::new(ConnectionLimits {
            total: 8,
            per_address: 4,
            idle: Duration::from_millis(400),
            first: Duration::from_millis(200),
        }),
        transfers: TransferGate::new(TransferLimits::default()),
        notify: tx,
        updates: updates_tx,
    };
    let mut server = Server::new(role, common.clone(), Settings::open());
    // UDP and TCP on one port; another test may hold the number on TCP, so look again.
    for _ in 0..20 {
        let udp = bind_udp("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let addr = udp.local_addr().unwrap();
        if let Ok(tcp) = bind_tcp(addr, false) {
            server.serve_udp(bind_udp(addr, true).unwrap()).unwrap();
            server.serve_udp(udp).unwrap();
            server.serve_tcp(tcp).unwrap();
            return Running {
                server,
                addr,
                notify,
                updates,
                common,
            };
        }
    }
    panic!("no port is free for UDP and TCP");
}

fn query(id: u16, qname: &str, qtype: Rtype, code: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let mut c = Composer::new(&mut out, 512, id, (code as u16) << 11);
    c.question(Name::parse(qname).unwrap().as_wire(), qtype, 1);
    c.finish();
    out
}

fn framed(message: Vec<u8>) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], &message].concat()
}

async fn read_message(s: &mut TcpStream) -> Vec<u8> {
    let n = timeout(Duration::from_secs(5), s.read_u16())
        .await
        .unwrap()
        .unwrap();
    let mut m = vec![0; n as usize];
    s.read_exact(&mut m).await.unwrap();
    m
}

#[tokio::test]
async fn udp_tcp_and_stop() {
    let r = run(Role::LoaderReview, 3).await;
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    udp.connect(r.addr).await.unwrap();
    let mut buf = [0; 2000];
    for id in 0..50 {
        udp.send(&query(id, "host-1.example.net", Rtype::A, 0))
            .await
            .unwrap();
        let n = timeout(Duration::from_secs(5), udp.recv(&mut buf))
            .await
            .unwrap()
            .unwrap();
        let m = Message::parse(&buf[..n]).unwrap();
        assert_eq!(
            (m.header.id, m.header.counts, m.header.has(flag::AA)),
            (id, [1, 1, 0, 0], true)
        );
    }
    // Three queries in one segment, the last one in two pieces.
    let mut tcp = TcpStream::connect(r.addr).await.unwrap();
    let all: Vec<u8> = (0..3)
        .flat_map(|i| framed(query(i, "host-2.example.net", Rtype::A, 0)))
        .collect();
    tcp.write_all(&all[..all.len() - 5]).await.unwrap();
    assert_eq!(read_message(&mut tcp).await[..2], [0, 0]);
    assert_eq!(read_message(&mut tcp).await[..2], [0, 1]);
    tcp.write_all(&all[all.len() - 5..]).await.unwrap();
    assert_eq!(read_message(&mut tcp).await[..2], [0, 2]);
    let stats = r.server.stats();
    assert_eq!(
        (
            stats.udp_queries.get(),
            stats.tcp_queries.get(),
            stats.rcodes[0].get()
        ),
        (50, 3, 53)
    );
    r.server.stop(Duration::from_secs(5)).await;
    assert_eq!(tcp.read(&mut buf).await.unwrap_or(0), 0, "closed");
    assert!(TcpStream::connect(r.addr).await.is_err());
    assert_eq!(r.common.connections.len(), 0);
}

#[tokio::test]
async fn a_transfer_arrives_and_a_query_after_it() {
    let r = run(Role::LoaderReview, 30_000).await;
    let mut tcp = TcpStream::connect(r.addr).await.unwrap();
    let both = [
        framed(query(1, "example.net", Rtype::AXFR, 0)),
        framed(query(2, "example.net", Rtype::SOA, 0)),
    ]
    .concat();
    tcp.write_all(&both).await.unwrap();
    let (mut records, mut soas) = (0, 0);
    while soas < 2 {
        let m = read_message(&mut tcp).await;
        let m = Message::parse(&m).unwrap();
        assert_eq!(m.header.id, 1);
        for record in m.records().map(Result::unwrap) {
            records += 1;
            soas += (record.rtype == Rtype::SOA) as usize;
        }
    }
    assert_eq!(records, 30_004);
    assert_eq!(read_message(&mut tcp).await[..2], [0, 2]);
    let stats = r.server.stats();
    assert_eq!(
        (
            stats.transfers_done.get(),
            stats.transfer_records.get(),
            stats.transfers_running.get()
        ),
        (1, 30_004, 0)
    );
    r.server.stop(Duration::from_secs(5)).await;
}

/// Nobody reads: the transfer waits, others are served, stop does not wait for it.
#[tokio::test]
async fn a_slow_reader_delays_nobody() {
    let r = run(Role::LoaderReview, 300_000).await;
    let mut slow = TcpStream::connect(r.addr).await.unwrap();
    slow.write_all(&framed(query(1, "example.net", Rtype::AXFR, 0)))
        .await
        .unwrap();
    while r.common.transfers.running() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut other = TcpStream::connect(r.addr).await.unwrap();
    other
        .write_all(&framed(query(2, "host-7.example.net", Rtype::A, 0)))
        .await
        .unwrap();
    assert_eq!(read_message(&mut other).await[..2], [0, 2]);
    timeout(
        Duration::from_secs(5),
        r.server.stop(Duration::from_millis(500)),
    )
    .await
    .unwrap();
    // The closing SOA never came.
    let mut all = Vec::new();
    let _ = timeout(Duration::from_secs(5), slow.read_to_end(&mut all))
        .await
        .unwrap();
    assert_eq!(r.common.transfers.running(), 0);
    let (mut at, mut soas) = (0, 0);
    while let Some(head) = all.get(at..at + 2) {
        let end = at + 2 + u16::from_be_bytes([head[0], head[1]]) as usize;
        let Some(m) = all.get(at + 2..end) else { break };
        soas += Message::parse(m)
            .unwrap()
            .records()
            .filter(|r| r.as_ref().is_ok_and(|r| r.rtype == Rtype::SOA))
            .count();
        at = end;
    }
    assert_eq!(soas, 1);
}

#[tokio::test]
async fn connections_are_bounded_and_idle_ones_closed() {
    let r = run(Role::LoaderReview, 1).await;
    let mut idle = TcpStream::connect(r.addr).await.unwrap();
    let started = tokio::time::Instant::now();
    assert_eq!(idle.read(&mut [0; 9]).await.unwrap_or(0), 0);
    assert!(started.elapsed() >= Duration::from_millis(150));
    // One octet now and then is no query.
    let mut drip = TcpStream::connect(r.addr).await.unwrap();
    let mut alive = 0;
    while drip.write_all(&[0]).await.is_ok() && alive < 50 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        alive += 1;
    }
    assert!(alive < 20, "{alive}");
    let mut many = Vec::new();
    for _ in 0..4 {
        let mut s = TcpStream::connect(r.addr).await.unwrap();
        s.write_all(&framed(query(1, "example.net", Rtype::SOA, 0)))
            .await
            .unwrap();
        read_message(&mut s).await;
        many.push(s);
    }
    let mut fifth = TcpStream::connect(r.addr).await.unwrap();
    fifth
        .write_all(&framed(query(5, "example.net", Rtype::SOA, 0)))
        .await
        .unwrap();
    assert_eq!(read_message(&mut fifth).await[..2], [0, 5]);
    assert_eq!(
        many[0].read(&mut [0; 9]).await.unwrap_or(0),
        0,
        "the one idle longest made room"
    );
    assert!(r.server.stats().tcp_idle_closed.get() >= 3);
    // A length beyond the limit ends the connection.
    fifth.write_all(&[0xff, 0xff]).await.unwrap();
    assert_eq!(fifth.read(&mut [0; 9]).await.unwrap_or(0), 0);
    r.server.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn notify_is_handed_on() {
    let mut r = run(Role::NotifyListener, 0).await;
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    udp.connect(r.addr).await.unwrap();
    let mut buf = [0; 512];
    udp.send(&query(9, "example.net", Rtype::SOA, opcode::NOTIFY))
        .await
        .unwrap();
    let n = timeout(Duration::from_secs(5), udp.recv(&mut buf))
        .await
        .unwrap()
        .unwrap();
    let m = Message::parse(&buf[..n]).unwrap();
    assert_eq!(
        (m.header.opcode(), m.header.rcode(), m.header.has(flag::AA)),
        (4, rcode::NOERROR, true)
    );
    let got = timeout(Duration::from_secs(5), r.notify.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((got.zone, got.from), (ZONE, IpAddr::from([127, 0, 0, 1])));
    udp.send(&query(9, "example.net", Rtype::SOA, 0))
        .await
        .unwrap();
    let n = timeout(Duration::from_secs(5), udp.recv(&mut buf))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        Message::parse(&buf[..n]).unwrap().header.rcode(),
        rcode::REFUSED
    );
    // More than the queue takes: answered all the same, and counted.
    for _ in 0..10 {
        udp.send(&query(9, "example.net", Rtype::SOA, opcode::NOTIFY))
            .await
            .unwrap();
        timeout(Duration::from_secs(5), udp.recv(&mut buf))
            .await
            .unwrap()
            .unwrap();
    }
    assert_eq!(
        (
            r.server.stats().notify_accepted.get(),
            r.server.stats().notify_dropped.get()
        ),
        (11, 6)
    );
    r.server.stop(Duration::from_secs(5)).await;
}

/// The health check of package tests, word for word.
#[tokio::test]
async fn dig_without_edns_gets_a_plain_answer() {
    let r = run(Role::LoaderReview, 0).await;
    let port = r.addr.port().to_string();
    let args = [
        "@127.0.0.1",
        "-p",
        &port,
        "example.net",
        "DNSKEY",
        "+nocrypto",
        "+norec",
        "+noedns",
    ];
    let Ok(out) = tokio::process::Command::new("dig")
        .args(args)
        .output()
        .await
    else {
        eprintln!("dig is not installed: not tested");
        return;
    };
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        text.contains("status: NOERROR")
            && text.contains("flags: qr aa; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 0"),
        "{text}"
    );
    assert!(
        !text.contains("OPT PSEUDOSECTION") && !text.contains("WARNING"),
        "{text}"
    );
    r.server.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn random_datagrams_and_streams_do_no_harm() {
    let r = run(Role::LoaderReview, 1).await;
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    udp.connect(r.addr).await.unwrap();
    let mut x = 1u64;
    for i in 0..500u64 {
        let noise: Vec<u8> = (0..i % 90)
            .map(|_| {
                x = x
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (x >> 33) as u8
            })
            .collect();
        udp.send(&noise).await.unwrap();
        if i % 100 == 0 {
            let mut tcp = TcpStream::connect(r.addr).await.unwrap();
            let _ = tcp.write_all(&noise).await;
        }
    }
    let mut buf = [0; 2000];
    let mut tcp = TcpStream::connect(r.addr).await.unwrap();
    tcp.write_all(&framed(query(3, "example.net", Rtype::SOA, 0)))
        .await
        .unwrap();
    assert_eq!(read_message(&mut tcp).await[..2], [0, 3]);
    udp.send(&query(0x7777, "example.net", Rtype::SOA, 0))
        .await
        .unwrap();
    loop {
        let n = timeout(Duration::from_secs(5), udp.recv(&mut buf))
            .await
            .unwrap()
            .unwrap();
        if n > 12 && buf[..2] == [0x77, 0x77] && buf[7] == 1 {
            break;
        }
    }
    r.server.stop(Duration::from_secs(5)).await;
}

fn test_key() -> TsigKey {
    TsigKey::new(&Name::parse("k").unwrap(), Algorithm::HmacSha256, b"secret")
}

/// An UPDATE that deletes the apex SOA, which is a record without RDATA; with its TSIG state.
fn update(id: u16, signed: bool, now: Timestamp) -> (Vec<u8>, Option<ClientTsig>) {
    let mut out = Vec::new();
    let mut c = Composer::new(&mut out, 512, id, (opcode::UPDATE as u16) << 11);
    let apex = Name::parse("example.net").unwrap();
    c.question(apex.as_wire(), Rtype::SOA, 1);
    c.record_with(
        Section::Authority,
        apex.as_wire(),
        Rtype::SOA,
        255,
        0,
        |_| {},
    )
    .unwrap();
    c.finish();
    let tsig = signed.then(|| ClientTsig::request(Arc::new(test_key()), &mut out, 0, now));
    (out, tsig)
}

#[tokio::test]
async fn updates_wait_for_the_zone_and_nothing_else_does() {
    let mut r = run(Role::Publication, 3).await;
    r.server.set_settings(Settings {
        keys: Arc::new(TsigKeys::new([test_key()])),
        ..Settings::open()
    });
    let now = r.common.clock.now();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    udp.connect(r.addr).await.unwrap();
    let mut buf = [0; 2000];
    udp.send(&update(1, false, now).0).await.unwrap();
    let n = udp.recv(&mut buf).await.unwrap();
    let m = Message::parse(&buf[..n]).unwrap();
    assert_eq!((m.header.id, m.header.rcode()), (1, rcode::REFUSED));
    let (message, tsig) = update(2, true, now);
    udp.send(&message).await.unwrap();
    let mut tcp = TcpStream::connect(r.addr).await.unwrap();
    let (over_tcp, tcp_tsig) = update(3, true, now);
    let both = [
        framed(over_tcp.clone()),
        framed(query(4, "example.net", Rtype::SOA, 0)),
    ];
    tcp.write_all(&both.concat()).await.unwrap();
    // The query is answered although the update waits, and so is one over UDP.
    assert_eq!(read_message(&mut tcp).await[..2], [0, 4]);
    udp.send(&query(5, "example.net", Rtype::SOA, 0))
        .await
        .unwrap();
    let n = udp.recv(&mut buf).await.unwrap();
    assert_eq!(buf[..2], [0, 5]);
    assert!(n > 12);
    let mut asked = [
        r.updates.recv().await.unwrap(),
        r.updates.recv().await.unwrap(),
    ];
    asked.sort_by_key(|u| u.message.clone());
    let [first, second] = asked;
    assert_eq!((&first.message, &second.message), (&message, &over_tcp));
    assert_eq!(
        (first.zone, first.key.to_string()),
        (ZONE, "k.".to_string())
    );
    let said = |code| UpdateReply {
        rcode: code,
        ede: None,
    };
    first.reply.send(said(rcode::YXDOMAIN)).unwrap();
    // Dropped by the owner: there must be an answer.
    drop(second.reply);
    let n = udp.recv(&mut buf).await.unwrap();
    let m = Message::parse(&buf[..n]).unwrap();
    assert_eq!((m.header.id, m.header.rcode()), (2, rcode::YXDOMAIN));
    assert!(tsig.unwrap().verify(&buf[..n], now).is_ok());
    let answer = read_message(&mut tcp).await;
    let m = Message::parse(&answer).unwrap();
    assert_eq!((m.header.id, m.header.rcode()), (3, rcode::SERVFAIL));
    assert!(tcp_tsig.unwrap().verify(&answer, now).is_ok());
    assert_eq!(r.server.stats().updates_refused.get(), 2);
    // More than the queue takes is answered at once.
    let mut last = 0;
    for id in 10..20 {
        udp.send(&update(id, true, now).0).await.unwrap();
        last = id;
    }
    for _ in 0..6 {
        let n = timeout(Duration::from_secs(5), udp.recv(&mut buf))
            .await
            .unwrap()
            .unwrap();
        let m = Message::parse(&buf[..n]).unwrap();
        assert_eq!(m.header.rcode(), rcode::SERVFAIL);
        assert!(m.header.id <= last);
    }
}
