//! The answer table, row by row: message in, message out.

use std::net::IpAddr;
use std::sync::Arc;

use cascade_time::Timestamp;
use cascade_wire::edns::{option, push_option};
use cascade_wire::{
    Acl, Algorithm, ClientTsig, Composer, Edns, Message, Section, TsigKey, TsigKeys, flag, rcode,
};
use cascade_zone::ZoneId;
use cascade_zone::version::ZoneVersion;
use cascade_zone::{Name, Rtype};

use crate::answer::{Outcome, Reply, Scratch, Why, answer};
use crate::context::{QueryContext, Settings, Transport};
use crate::directory::{Directory, EmptyReason, Role, ZoneEntry, ZoneSettings};
use crate::testing::*;

/// A question to be asked.
#[derive(Clone)]
pub(crate) struct Ask {
    pub qname: Vec<u8>,
    pub qtype: Rtype,
    pub qclass: u16,
    pub flags: u16,
    /// UDP size and DO.
    pub edns: Option<(u16, bool)>,
    pub options: Vec<u8>,
    pub transport: Transport,
    pub peer: IpAddr,
    pub key: Option<Arc<TsigKey>>,
    pub serial: Option<u32>,
    pub limited: bool,
}

pub(crate) fn ask(qname: &str, qtype: Rtype) -> Ask {
    Ask {
        qname: wire(qname),
        qtype,
        qclass: 1,
        flags: 0,
        edns: Some((1232, false)),
        options: vec![],
        transport: Transport::Udp,
        peer: "192.0.2.99".parse().unwrap(),
        key: None,
        serial: None,
        limited: false,
    }
}

impl Ask {
    pub fn dnssec(mut self) -> Self {
        self.edns = Some((1232, true));
        self
    }
    pub fn tcp(mut self) -> Self {
        self.transport = Transport::Tcp;
        self
    }
    pub fn plain(mut self) -> Self {
        self.edns = None;
        self
    }
    pub fn option(mut self, code: u16, data: &[u8]) -> Self {
        push_option(code, data, &mut self.options);
        self
    }
    pub fn opcode(mut self, n: u16) -> Self {
        self.flags |= n << 11;
        self
    }

    pub fn message(&self) -> (Vec<u8>, Option<ClientTsig>) {
        let mut out = Vec::new();
        let mut c = Composer::new(&mut out, 65535, 0x1234, self.flags);
        c.question(&self.qname, self.qtype, self.qclass);
        if let Some(serial) = self.serial {
            let soa = [&[0, 0][..], &serial.to_be_bytes(), &[0; 16]].concat();
            let notify = self.flags & flag::OPCODE != 0;
            let section = if notify {
                Section::Answer
            } else {
                Section::Authority
            };
            c.record(section, &self.qname, Rtype::SOA, 0, &soa).unwrap();
        }
        if let Some((size, dnssec)) = self.edns {
            let ttl = if dnssec { 0x8000 } else { 0 };
            c.record_with(Section::Additional, &[0], Rtype::OPT, size, ttl, |o| {
                o.extend_from_slice(&self.options)
            })
            .unwrap();
        }
        c.finish();
        let tsig = self
            .key
            .clone()
            .map(|k| ClientTsig::request(k, &mut out, 0, now()));
        (out, tsig)
    }
}

pub(crate) struct World {
    pub directory: Directory,
    pub settings: Settings,
    pub role: Role,
}

/// Loader review for unsigned versions, signer review for signed ones: the same answers as
/// publication, which takes only what passed the gate.
pub(crate) fn world(version: &Arc<ZoneVersion>) -> World {
    let directory = Directory::new();
    directory
        .add(version.zone(), version.apex(), ZoneSettings::default())
        .unwrap();
    let role = if version.is_signed() {
        Role::SignerReview
    } else {
        Role::LoaderReview
    };
    if version.is_signed() {
        directory
            .review_signed(version.zone(), version.clone())
            .unwrap();
    } else {
        directory
            .review_unsigned(version.zone(), version.clone())
            .unwrap();
    }
    World {
        directory,
        settings: Settings::open(),
        role,
    }
}

/// An answer, decoded.
pub(crate) struct Got {
    pub octets: Vec<u8>,
    pub reply: Reply,
    /// Section, owner, type, TTL, RDATA uncompressed.
    pub records: Vec<(u8, Name, Rtype, u32, Vec<u8>)>,
}

impl World {
    pub fn run(&self, ask: &Ask, out: &mut Vec<u8>) -> Outcome {
        let ctx = QueryContext {
            role: self.role,
            peer: ask.peer,
            transport: ask.transport,
            now: now(),
            directory: &self.directory,
            settings: &self.settings,
            tls_name: None,
            limited: ask.limited,
        };
        answer(&ask.message().0, &ctx, &mut Scratch::default(), out)
    }

    pub fn get(&self, ask: &Ask) -> Got {
        let mut octets = Vec::new();
        let reply = match self.run(ask, &mut octets) {
            Outcome::Reply(reply) | Outcome::Notified(reply, _) => reply,
            other => panic!("{other:?}"),
        };
        let m = Message::parse(&octets).unwrap();
        assert_eq!(m.header.id, 0x1234);
        assert!(m.header.has(flag::QR));
        let q = m.question().unwrap().unwrap();
        assert_eq!(
            (q.0.as_wire(), q.1, q.2),
            (&ask.qname[..], ask.qtype, ask.qclass)
        );
        let records = m
            .records()
            .map(|r| {
                let r = r.unwrap();
                let mut rd = Vec::new();
                r.push_rdata(&mut rd).unwrap();
                (r.section, r.owner().unwrap(), r.rtype, r.ttl, rd)
            })
            .collect::<Vec<_>>();
        assert_eq!(
            records.iter().filter(|r| r.2 == Rtype::OPT).count(),
            ask.edns.is_some() as usize
        );
        assert!(
            ask.transport != Transport::Udp
                || octets.len() <= ask.edns.map_or(512, |e| e.0.clamp(512, 1232) as usize)
        );
        Got {
            octets,
            reply,
            records,
        }
    }
}

impl Got {
    pub fn flags(&self) -> u16 {
        u16::from_be_bytes([self.octets[2], self.octets[3]])
    }
    pub fn aa(&self) -> bool {
        self.flags() & flag::AA != 0
    }
    pub fn tc(&self) -> bool {
        self.flags() & flag::TC != 0
    }
    /// `section owner type`, OPT left out.
    pub fn shape(&self) -> Vec<String> {
        let letter = ["", "an", "au", "ad"];
        self.records
            .iter()
            .filter(|r| r.2 != Rtype::OPT)
            .map(|r| {
                format!(
                    "{} {} {}",
                    letter[r.0 as usize],
                    r.1.to_string().to_lowercase(),
                    r.2
                )
            })
            .collect()
    }
    fn options(&self) -> Vec<(u16, Vec<u8>)> {
        let m = Message::parse(&self.octets).unwrap();
        let opt = m
            .records()
            .flatten()
            .find(|r| r.rtype == Rtype::OPT)
            .unwrap();
        Edns::from_record(&opt)
            .unwrap()
            .options()
            .map(|(c, d)| (c, d.to_vec()))
            .collect()
    }
    fn ede(&self) -> Option<u16> {
        self.options()
            .iter()
            .find(|o| o.0 == option::EDE)
            .map(|o| u16::from_be_bytes([o.1[0], o.1[1]]))
    }
    fn full_rcode(&self) -> u16 {
        let m = Message::parse(&self.octets).unwrap();
        let opt = m.records().flatten().find(|r| r.rtype == Rtype::OPT);
        (self.flags() & 15) | opt.map_or(0, |o| ((o.ttl >> 24) as u16) << 4)
    }
}

#[track_caller]
fn check(w: &World, ask: Ask, code: u16, aa: bool, shape: &[&str]) -> Got {
    let got = w.get(&ask);
    assert_eq!(
        (got.shape(), got.reply.rcode, got.aa(), got.tc()),
        (
            shape.iter().map(|s| s.to_string()).collect(),
            code,
            aa,
            false
        )
    );
    assert_eq!(got.full_rcode(), code);
    got
}

const SOA: &str = "au example. SOA";

#[test]
fn answers_of_an_unsigned_zone() {
    let w = world(&maze());
    let ok = rcode::NOERROR;
    // DO is echoed and changes nothing.
    let got = check(
        &w,
        ask("Web.Example", Rtype::A).dnssec(),
        ok,
        true,
        &["an web.example. A"],
    );
    let opt = got.records.iter().find(|r| r.2 == Rtype::OPT).unwrap();
    assert_eq!(opt.3, 0x8000);
    check(&w, ask("web.example", Rtype::AAAA), ok, true, &[SOA]);
    // Negative TTL: the smaller of 3600 and MINIMUM 300.
    let got = check(
        &w,
        ask("nope.example", Rtype::A),
        rcode::NXDOMAIN,
        true,
        &[SOA],
    );
    assert_eq!(got.records[0].3, 300);
    for ent in [
        "ent.example",
        "b.ent.example",
        "optent.example",
        "host.wild.example",
        "wild.example",
    ] {
        check(&w, ask(ent, Rtype::A), ok, true, &[SOA]);
    }
    check(
        &w,
        ask("example", Rtype::SOA),
        ok,
        true,
        &["an example. SOA"],
    );
    check(
        &w,
        ask("example", Rtype::NS),
        ok,
        true,
        &[
            "an example. NS",
            "an example. NS",
            "ad ns1.example. A",
            "ad ns1.example. AAAA",
            "ad ns2.deleg.example. A",
            "ad ns2.deleg.example. AAAA",
        ],
    );
    check(
        &w,
        ask("example", Rtype::MX),
        ok,
        true,
        &["an example. MX", "an example. MX", "ad mail.example. A"],
    );
    // What a DNAME hides is not given as an address either.
    check(
        &w,
        ask("srv.example", Rtype::SRV),
        ok,
        true,
        &[
            "an srv.example. SRV",
            "an srv.example. SRV",
            "ad web.example. A",
        ],
    );
    check(
        &w,
        ask("https.example", Rtype::HTTPS),
        ok,
        true,
        &["an https.example. HTTPS", "ad https.example. A"],
    );
    check(&w, ask("example", Rtype::NSEC), ok, true, &[SOA]);
    check(&w, ask("example", Rtype::RRSIG), ok, true, &[SOA]);
    check(
        &w,
        ask("web.example", Rtype::ANY),
        ok,
        true,
        &["an web.example. A"],
    );
    check(
        &w,
        ask("web.example", Rtype::ANY).tcp(),
        ok,
        true,
        &["an web.example. A", "an web.example. TXT"],
    );
    let mut any_class = ask("web.example", Rtype::A);
    any_class.qclass = 255;
    check(&w, any_class, ok, true, &["an web.example. A"]);
}

#[test]
fn referrals() {
    let w = world(&maze());
    let ok = rcode::NOERROR;
    let full = [
        "au deleg.example. NS",
        "au deleg.example. NS",
        "ad ns1.deleg.example. A",
        "ad ns2.deleg.example. A",
        "ad ns2.deleg.example. AAAA",
    ];
    for (q, t) in [
        ("deleg.example", Rtype::NS),
        ("deleg.example", Rtype::ANY),
        ("x.y.deleg.example", Rtype::A),
        ("ns1.deleg.example", Rtype::A),
        ("x.deleg.example", Rtype::DS),
    ] {
        check(&w, ask(q, t), ok, false, &full);
    }
    check(&w, ask("deleg.example", Rtype::DS), ok, true, &[SOA]);
    check(
        &w,
        ask("secure.example", Rtype::DS),
        ok,
        true,
        &["an secure.example. DS"],
    );
    check(
        &w,
        ask("off.example", Rtype::A),
        ok,
        false,
        &["au off.example. NS"],
    );
    // Sibling glue comes along when there is room.
    check(
        &w,
        ask("sib.example", Rtype::A),
        ok,
        false,
        &["au sib.example. NS", "ad ns1.deleg.example. A"],
    );
    // After an alias the answer stays authoritative.
    let mut shape = vec!["an indeleg.example. CNAME"];
    shape.extend(full);
    check(&w, ask("indeleg.example", Rtype::A), ok, true, &shape);
}

#[test]
fn aliases() {
    let w = world(&maze());
    let ok = rcode::NOERROR;
    check(
        &w,
        ask("www.example", Rtype::A),
        ok,
        true,
        &["an www.example. CNAME", "an web.example. A"],
    );
    check(
        &w,
        ask("www.example", Rtype::AAAA),
        ok,
        true,
        &["an www.example. CNAME", SOA],
    );
    check(
        &w,
        ask("www.example", Rtype::CNAME),
        ok,
        true,
        &["an www.example. CNAME"],
    );
    check(
        &w,
        ask("www.example", Rtype::ANY),
        ok,
        true,
        &["an www.example. CNAME"],
    );
    check(
        &w,
        ask("www.example", Rtype::NSEC),
        ok,
        true,
        &["an www.example. CNAME", SOA],
    );
    check(
        &w,
        ask("out.example", Rtype::A),
        ok,
        true,
        &["an out.example. CNAME"],
    );
    // RFC 6604 §3: the code is that of the last name.
    check(
        &w,
        ask("c1.example", Rtype::A),
        rcode::NXDOMAIN,
        true,
        &[
            "an c1.example. CNAME",
            "an c2.example. CNAME",
            "an c3.example. CNAME",
            SOA,
        ],
    );
    check(
        &w,
        ask("loop1.example", Rtype::A),
        ok,
        true,
        &["an loop1.example. CNAME", "an loop2.example. CNAME"],
    );
    check(
        &w,
        ask("q.wild.example", Rtype::A),
        ok,
        true,
        &["an q.wild.example. A"],
    );
    check(
        &w,
        ask("x.y.wild.example", Rtype::TXT),
        ok,
        true,
        &["an x.y.wild.example. TXT"],
    );
    check(&w, ask("q.wild.example", Rtype::MX), ok, true, &[SOA]);
    check(
        &w,
        ask("*.wild.example", Rtype::A),
        ok,
        true,
        &["an *.wild.example. A"],
    );
    // RFC 4592 §2.2.1: host.wild exists, so the wildcard does not cover names below it.
    check(
        &w,
        ask("other.host.wild.example", Rtype::A),
        rcode::NXDOMAIN,
        true,
        &[SOA],
    );
    check(
        &w,
        ask("q.wcname.example", Rtype::A),
        ok,
        true,
        &["an q.wcname.example. CNAME", "an web.example. A"],
    );
    check(
        &w,
        ask("q.wout.example", Rtype::A),
        ok,
        true,
        &["an q.wout.example. CNAME"],
    );
}

#[test]
fn dnames() {
    let w = world(&maze());
    let ok = rcode::NOERROR;
    let got = check(
        &w,
        ask("q.D.example", Rtype::A),
        ok,
        true,
        &[
            "an d.example. DNAME",
            "an q.d.example. CNAME",
            "an q.wild.example. A",
        ],
    );
    assert_eq!(
        (got.records[1].3, &got.records[1].4[..]),
        (30, &wire("q.wild.example")[..])
    );
    check(
        &w,
        ask("below.d.example", Rtype::A),
        ok,
        true,
        &[
            "an d.example. DNAME",
            "an below.d.example. CNAME",
            "an below.wild.example. A",
        ],
    );
    check(
        &w,
        ask("d.example", Rtype::DNAME),
        ok,
        true,
        &["an d.example. DNAME"],
    );
    check(&w, ask("d.example", Rtype::A), ok, true, &[SOA]);
    // The target lies below the DNAME itself: grows until the name is too long or 16 steps are over.
    let got = w.get(&ask("x.dl.example", Rtype::A).tcp());
    assert!(
        got.records.len() <= 2 * 17 + 1
            && matches!(got.reply.rcode, rcode::NOERROR | rcode::YXDOMAIN)
    );
    let long = format!(
        "{}.{}.{}.{}.dl.example",
        "a".repeat(60),
        "b".repeat(60),
        "c".repeat(60),
        "d".repeat(58)
    );
    let got = w.get(&ask(&long, Rtype::A).tcp());
    assert_eq!(
        (got.reply.rcode, got.shape()),
        (rcode::YXDOMAIN, vec!["an dl.example. DNAME".to_string()])
    );
}

#[test]
fn the_message_table() {
    let w = world(&maze());
    let ctx = |role| QueryContext {
        role,
        peer: "192.0.2.99".parse().unwrap(),
        transport: Transport::Udp,
        now: now(),
        directory: &w.directory,
        settings: &w.settings,
        tls_name: None,
        limited: false,
    };
    let raw = |m: &[u8]| {
        let mut out = Vec::new();
        let outcome = answer(
            m,
            &ctx(Role::LoaderReview),
            &mut Scratch::default(),
            &mut out,
        );
        (outcome, out)
    };
    assert!(matches!(raw(&[0; 11]).0, Outcome::Dropped));
    let good = ask("web.example", Rtype::A).plain().message().0;
    let mut response = good.clone();
    response[2] |= 0x80;
    assert!(matches!(raw(&response).0, Outcome::Dropped));
    let mut trailing = good.clone();
    trailing.push(0);
    let (outcome, out) = raw(&trailing);
    assert!(matches!(
        outcome,
        Outcome::Reply(Reply {
            rcode: rcode::FORMERR,
            ..
        })
    ));
    assert_eq!(
        out,
        [
            &[0x12, 0x34, 0x80, 0x01, 0, 1, 0, 0, 0, 0, 0, 0],
            &good[12..]
        ]
        .concat()
    );
    for op in [1, 2, 3, 6, 15] {
        let got = w.get(&ask("example", Rtype::SOA).opcode(op));
        assert_eq!(
            (got.reply.rcode, got.ede()),
            (rcode::NOTIMP, Some(21)),
            "{op}"
        );
        assert_eq!(got.flags() & flag::OPCODE, op << 11);
    }
    // An UPDATE without EDNS and with whatever in its sections.
    let (outcome, _) = raw(&[0, 1, 0x28, 0, 0, 9, 0, 9, 0, 9, 0, 9, 1]);
    assert!(matches!(
        outcome,
        Outcome::Reply(Reply {
            rcode: rcode::FORMERR,
            ..
        })
    ));
    // RD and CD are copied, RA and AD are not set.
    let mut a = ask("web.example", Rtype::A).plain();
    a.flags = flag::RD | flag::CD | flag::AD;
    assert_eq!(w.get(&a).flags(), flag::QR | flag::AA | flag::RD | flag::CD);
    let mut m = ask("web.example", Rtype::A).message().0;
    let n = m.len();
    m[n - 5] = 1;
    let (outcome, out) = raw(&m);
    assert!(matches!(
        outcome,
        Outcome::Reply(Reply {
            rcode: rcode::BADVERS,
            ..
        })
    ));
    assert_eq!(out[out.len() - 6..], [1, 0, 0, 0, 0, 0]);
    for t in [0u16, 41, 249, 250, 253, 254, 200] {
        let got = w.get(&ask("example", Rtype(t)));
        assert_eq!(
            (got.reply.rcode, got.ede()),
            (rcode::REFUSED, Some(30)),
            "{t}"
        );
    }
    let got = w.get(&ask("example", Rtype::NXNAME));
    assert_eq!((got.reply.rcode, got.ede()), (rcode::FORMERR, Some(30)));
    let got = w.get(&ask("other.test", Rtype::A));
    assert_eq!(
        (got.reply.rcode, got.ede(), got.reply.why),
        (rcode::REFUSED, Some(20), Why::NoZone)
    );
    let mut hs = ask("example", Rtype::A);
    hs.qclass = 4;
    assert_eq!(w.get(&hs).reply.rcode, rcode::REFUSED);
}

#[test]
fn access_and_empty_slots() {
    let mut w = world(&maze());
    w.settings.allow = Acl::parse(&["192.0.2.0/24^k", "127.0.0.1"]).unwrap().0;
    let got = w.get(&ask("web.example", Rtype::A));
    assert_eq!((got.reply.rcode, got.ede()), (rcode::REFUSED, Some(18)));
    assert_eq!(
        w.get(&ask("web.example", Rtype::A).plain()).records.len(),
        0
    );
    let key = Arc::new(TsigKey::new(&name("k"), Algorithm::HmacSha256, b"secret"));
    w.settings.keys = Arc::new(TsigKeys::new([TsigKey::new(
        &name("k"),
        Algorithm::HmacSha256,
        b"secret",
    )]));
    let mut signed = ask("web.example", Rtype::A);
    signed.key = Some(key.clone());
    let (_, client) = signed.message();
    let got = w.get(&signed);
    assert_eq!(got.reply.rcode, rcode::NOERROR);
    client.unwrap().verify(&got.octets, now()).unwrap();
    // An unknown key: NOTAUTH and BADKEY, never the rules for unsigned requests.
    let mut other = signed.clone();
    other.peer = "127.0.0.1".parse().unwrap();
    other.key = Some(Arc::new(TsigKey::new(
        &name("k2"),
        Algorithm::HmacSha256,
        b"secret",
    )));
    let (_, client) = other.message();
    let got = w.get(&other);
    assert_eq!(
        (got.reply.rcode, got.reply.why),
        (rcode::NOTAUTH, Why::Tsig)
    );
    let refused = client.unwrap().verify(&got.octets, now()).unwrap_err();
    assert_eq!(refused, cascade_wire::TsigError::Server(rcode::BADKEY));

    w.settings.allow = Acl::any();
    w.role = Role::Publication;
    for reason in [
        EmptyReason::NeverLoaded,
        EmptyReason::Restoring,
        EmptyReason::Expired,
    ] {
        w.directory
            .withdraw(zone_id(&name("example")), Role::Publication, reason)
            .unwrap();
        let got = w.get(&ask("web.example", Rtype::A));
        assert_eq!(
            (got.reply.rcode, got.reply.why),
            (rcode::SERVFAIL, Why::NoData(reason))
        );
        let text = got
            .options()
            .iter()
            .any(|o| o.1.ends_with(reason.text().as_bytes()) && o.1[1] == 14);
        assert!(text, "{reason:?}");
    }
}

#[test]
fn options_are_answered() {
    let mut w = world(&maze());
    w.settings.nsid = Some(b"ns1".to_vec());
    w.settings.cookies = Some(cascade_wire::cookie::Secrets::new(
        cascade_wire::cookie::Secret([3; 16]),
        now(),
    ));
    let base = ask("web.example", Rtype::A);
    let got = w.get(
        &base
            .clone()
            .option(option::NSID, b"")
            .option(option::CLIENT_SUBNET, &[0, 1, 0, 0])
            .option(9999, b"x"),
    );
    assert_eq!(got.options(), [(option::NSID, b"ns1".to_vec())]);
    let got = w.get(&base.clone().option(option::COOKIE, b"12345678"));
    let cookie = got.options()[0].1.clone();
    assert_eq!((cookie.len(), got.reply.cookie), (24, Some(false)));
    assert_eq!(
        w.get(&base.clone().option(option::COOKIE, &cookie))
            .reply
            .cookie,
        Some(true)
    );
    assert_eq!(
        w.get(&base.clone().option(option::COOKIE, b"short"))
            .reply
            .rcode,
        rcode::FORMERR
    );
    let mut limited = base.clone().option(option::COOKIE, b"12345678");
    limited.limited = true;
    assert_eq!(w.get(&limited).full_rcode(), rcode::BADCOOKIE);
    limited.options.clear();
    let got = w.get(&limited);
    assert!(got.tc() && got.shape().is_empty());
    limited = limited.option(option::COOKIE, &cookie);
    assert_eq!(w.get(&limited).shape(), ["an web.example. A"]);
    let got = w.get(&base.clone().tcp().option(option::TCP_KEEPALIVE, b""));
    assert_eq!(got.options(), [(option::TCP_KEEPALIVE, vec![1, 44])]);
    assert!(
        w.get(&base.clone().option(option::TCP_KEEPALIVE, b""))
            .options()
            .is_empty()
    );
    let got = w.get(&base.clone().option(option::ZONEVERSION, b""));
    assert_eq!(
        got.options(),
        [(
            option::ZONEVERSION,
            [&[1, 0][..], &2024u32.to_be_bytes()].concat()
        )]
    );
    let mut tls = base.clone().option(option::PADDING, b"");
    tls.transport = Transport::Tls;
    assert_eq!(w.get(&tls).octets.len(), 468);
    let mut ch = ask("id.server", Rtype::TXT);
    ch.qclass = 3;
    assert!(w.get(&ch).octets.windows(4).any(|o| o == b"\x03ns1"));
    w.settings.nsid = None;
    assert_eq!(w.get(&ch).reply.rcode, rcode::REFUSED);
}

#[test]
fn sizes() {
    let w = world(&maze());
    let got = w.get(&ask("big.example", Rtype::TXT));
    assert!(got.tc() && got.shape().is_empty() && got.reply.truncated && got.aa());
    let got = w.get(&ask("big.example", Rtype::TXT).tcp());
    assert!(!got.tc() && got.shape().len() == 8);
    // Addresses that are only a courtesy never truncate; glue does.
    let mut plain = ask("example", Rtype::NS).plain();
    plain.edns = None;
    assert!(!w.get(&plain).tc());
    let glue: String = (0..13).map(|i| format!("d.t. 60 NS n{i}-abcdefghijklmnop.d.t.\nn{i}-abcdefghijklmnop.d.t. 60 A 192.0.2.{i}\nn{i}-abcdefghijklmnop.d.t. 60 AAAA 2001:db8::{i}\n")).collect();
    let zone = unsigned(
        "t",
        &format!("t. 60 SOA a.t. b.t. 1 2 3 4 5\nt. 60 NS a.d.t.\n{glue}"),
    );
    let w = world(&zone);
    let got = w.get(&ask("x.d.t", Rtype::A).plain());
    assert!(got.tc() && got.shape().is_empty());
    let got = w.get(&ask("x.d.t", Rtype::A));
    assert!(!got.tc() && got.shape().len() == 39);
}

#[test]
fn unsigned_content_that_was_let_go_is_shown_as_before() {
    let loaded = maze();
    let w = world(&loaded);
    let entry = w.directory.by_id(loaded.zone()).unwrap();
    let soa = (loaded.soa_ttl(), loaded.soa().to_vec());
    let version = |entry: &ZoneEntry| {
        let slot = entry.slot(Role::LoaderReview).unwrap();
        (slot.id(), slot.shown().cloned().map_err(drop))
    };
    let signed = signed(&loaded, Scheme::Nsec);
    entry.unmake_unsigned(&signed, soa.clone());
    let (id, shown) = version(&entry);
    let shown = shown.unwrap();
    assert_eq!((id, shown.id()), (Some(loaded.id()), loaded.id()));
    assert!(!Arc::ptr_eq(&shown, &loaded));
    assert_eq!(shown.full_fingerprint(), loaded.full_fingerprint());
    let same = w.get(&ask("secure.example", Rtype::NS)).shape();
    assert_eq!(
        same,
        world(&loaded)
            .get(&ask("secure.example", Rtype::NS))
            .shape()
    );
    // It is made once.
    assert!(Arc::ptr_eq(&version(&entry).1.unwrap(), &shown));
    // What is up for review is something else, and stays.
    w.directory
        .review_unsigned(loaded.zone(), signed.clone())
        .unwrap();
    entry.unmake_unsigned(&signed, soa);
    assert!(Arc::ptr_eq(&version(&entry).1.unwrap(), &signed));
}

#[test]
fn ds_comes_from_the_parent() {
    let w = world(&maze());
    let child = unsigned(
        "secure.example",
        "secure.example. 60 SOA a.example. b.example. 1 2 3 4 5\nsecure.example. 60 NS a.example.",
    );
    w.directory
        .add(child.zone(), child.apex(), ZoneSettings::default())
        .unwrap();
    w.directory
        .review_unsigned(child.zone(), child.clone())
        .unwrap();
    check(
        &w,
        ask("secure.example", Rtype::DS),
        rcode::NOERROR,
        true,
        &["an secure.example. DS"],
    );
    check(
        &w,
        ask("secure.example", Rtype::NS),
        rcode::NOERROR,
        true,
        &["an secure.example. NS"],
    );
    check(
        &w,
        ask("x.secure.example", Rtype::A),
        rcode::NXDOMAIN,
        true,
        &["au secure.example. SOA"],
    );
    // Without the parent the child answers that it has none.
    w.directory.remove(zone_id(&name("example"))).unwrap();
    check(
        &w,
        ask("secure.example", Rtype::DS),
        rcode::NOERROR,
        true,
        &["au secure.example. SOA"],
    );
    assert_eq!(
        w.get(&ask("www.example", Rtype::A)).reply.rcode,
        rcode::REFUSED
    );
}

#[test]
fn notify_in() {
    let mut w = world(&maze());
    w.role = Role::NotifyListener;
    let mut n = ask("example", Rtype::SOA).opcode(4);
    n.serial = Some(2025);
    let got = w.get(&n);
    assert_eq!((got.reply.rcode, got.ede()), (rcode::REFUSED, Some(18)));
    let entry = w.directory.by_id(zone_id(&name("example"))).unwrap();
    entry.set_settings(ZoneSettings {
        notify_from: Acl::parse(&["192.0.2.99", "any^k"]).unwrap().0,
        ..ZoneSettings::default()
    });
    let mut out = Vec::new();
    match w.run(&n, &mut out) {
        Outcome::Notified(reply, notify) => {
            assert_eq!(reply.rcode, rcode::NOERROR);
            assert_eq!(
                (notify.serial.map(|s| s.0), notify.key, notify.apex),
                (Some(2025), None, name("example"))
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(out[2..4], [0xa4, 0]);
    n.peer = "192.0.2.98".parse().unwrap();
    assert_eq!(w.get(&n).reply.rcode, rcode::REFUSED);
    w.settings.keys = Arc::new(TsigKeys::new([TsigKey::new(
        &name("k"),
        Algorithm::HmacSha512,
        b"s",
    )]));
    n.key = Some(Arc::new(TsigKey::new(
        &name("k"),
        Algorithm::HmacSha512,
        b"s",
    )));
    assert!(
        matches!(w.run(&n, &mut Vec::new()), Outcome::Notified(_, i) if i.key == Some(name("k")))
    );
    n.key = Some(Arc::new(TsigKey::new(
        &name("k"),
        Algorithm::HmacSha512,
        b"wrong",
    )));
    assert_eq!(w.get(&n).reply.rcode, rcode::NOTAUTH);
    n.key = None;
    n.peer = "192.0.2.99".parse().unwrap();
    n.qtype = Rtype::CDS;
    assert_eq!(w.get(&n).reply.rcode, rcode::REFUSED);
    n.qname = wire("other");
    let got = w.get(&n);
    assert_eq!((got.reply.rcode, got.ede()), (rcode::NOTAUTH, Some(20)));
    let got = w.get(&ask("example", Rtype::SOA));
    assert_eq!(
        got.reply.rcode,
        rcode::REFUSED,
        "a listener answers no queries"
    );
    w.role = Role::LoaderReview;
    assert_eq!(
        w.get(&ask("example", Rtype::SOA).opcode(4)).reply.rcode,
        rcode::REFUSED
    );
}

#[test]
fn expire_tells_what_is_left() {
    let w = world(&maze());
    let entry = w.directory.by_id(zone_id(&name("example"))).unwrap();
    entry.set_settings(ZoneSettings {
        expires: Some(now() + std::time::Duration::from_secs(77)),
        ..ZoneSettings::default()
    });
    w.directory.store(entry.id(), 2, maze()).unwrap();
    let w = World {
        role: Role::Publication,
        ..w
    };
    let got = w.get(&ask("example", Rtype::SOA).option(option::EXPIRE, b""));
    assert_eq!(
        got.options(),
        [(option::EXPIRE, 77u32.to_be_bytes().to_vec())]
    );
    entry.set_settings(ZoneSettings {
        expires: Some(Timestamp::EPOCH),
        ..ZoneSettings::default()
    });
    let got = w.get(&ask("example", Rtype::SOA).option(option::EXPIRE, b""));
    assert_eq!(got.options()[0].1, [0; 4]);
    entry.set_settings(ZoneSettings::default());
    let got = w.get(&ask("example", Rtype::SOA).option(option::EXPIRE, b""));
    assert_eq!(got.options()[0].1, 1_209_600u32.to_be_bytes());
}

/// From the gate to the wire: the only way into the published slot.
#[test]
fn what_passed_the_gate_is_published() {
    use crate::directory::PublishError;
    use cascade_verifier::{Approval, Approved, Params, fingerprint_seed, verify_full};

    for scheme in [Scheme::Nsec, Scheme::Nsec3, Scheme::OptOut] {
        let v = signed(&maze(), scheme);
        let params = Params {
            fingerprint_seed: fingerprint_seed(v.zone()),
            ..Params::file()
        };
        let outcome = verify_full(v.clone(), &params, now());
        assert!(
            outcome.report().findings.is_empty(),
            "{:#?}",
            outcome.report().findings
        );
        let approval = Approval {
            by: "policy".into(),
            at: now(),
            comment: None,
        };
        let approved = Approved::new(outcome.verified().unwrap(), approval);
        let directory = Directory::new();
        let unknown = directory.publish(v.zone(), approved.clone()).unwrap_err();
        assert_eq!(unknown, PublishError::UnknownZone(v.zone()));
        let entry = directory
            .add(v.zone(), v.apex(), ZoneSettings::default())
            .unwrap();
        let w = World {
            directory,
            settings: Settings::open(),
            role: Role::Publication,
        };
        assert_eq!(
            w.get(&ask("web.example", Rtype::A)).reply.rcode,
            rcode::SERVFAIL
        );
        assert!(
            w.directory
                .publish(v.zone(), approved.clone())
                .unwrap()
                .is_none()
        );
        let got = w.get(&ask("web.example", Rtype::A).dnssec());
        assert_eq!(got.shape(), ["an web.example. A", "an web.example. RRSIG"]);
        // The version that is replaced goes to the reaper, and a reader of it is not disturbed.
        let held = entry.published().unwrap();
        assert!(
            w.directory
                .publish(v.zone(), approved.clone())
                .unwrap()
                .is_some()
        );
        assert_eq!(held.serial().0, 2024);
        // Under another zone's id it is refused.
        let other = unsigned("other", "other. 60 SOA a. b. 1 2 3 4 5\nother. 60 NS a.");
        w.directory
            .add(other.zone(), other.apex(), ZoneSettings::default())
            .unwrap();
        assert!(matches!(
            w.directory.publish(other.zone(), approved),
            Err(PublishError::WrongZone { .. })
        ));
    }
}

#[test]
fn a_directory_of_many_zones() {
    let directory = Directory::new();
    let apex = |i: usize| name(&format!("Zone-{i}.{}", ["test", "sub.zone-7.test"][i % 2]));
    for i in 0..3000 {
        directory
            .add(zone_id(&apex(i)), &apex(i), ZoneSettings::default())
            .unwrap();
    }
    assert!(
        directory
            .add(
                zone_id(&name("x")),
                &name("zone-8.TEST"),
                ZoneSettings::default()
            )
            .is_err()
    );
    for i in 0..3000 {
        let below = apex(i).child(b"A").unwrap();
        assert_eq!(directory.find(below.as_wire()).unwrap().apex(), &apex(i));
        assert!(directory.exact(below.as_wire()).is_none());
        assert_eq!(
            directory
                .exact(&apex(i).as_wire().to_ascii_uppercase())
                .unwrap()
                .apex(),
            &apex(i)
        );
    }
    assert!(directory.find(&wire("test")).is_none() && directory.find(&[0]).is_none());
    assert!(directory.find_above(&wire("zone-8.test")).is_none());
    for i in (0..3000).step_by(2) {
        assert_eq!(
            directory.remove(zone_id(&apex(i))).unwrap().apex(),
            &apex(i)
        );
    }
    assert!(directory.find(&wire("a.zone-8.test")).is_none());
    assert_eq!(directory.len(), 1500);
}

proptest::proptest! {
    /// Requests with octets changed, cut and added: an answer that decodes, or none.
    #[test]
    fn no_request_makes_it_panic(
        at in proptest::collection::vec((0usize..80, proptest::num::u8::ANY), 0..8),
        cut in 0usize..40, t in 0u16..300, tail in proptest::collection::vec(proptest::num::u8::ANY, 0..30),
    ) {
        let w = world(&signed(&unsigned("example", "example. 9 SOA a. b. 1 2 3 4 5\nexample. 9 NS a.\n*.example. 9 A 192.0.2.1"), Scheme::Nsec3));
        let mut m = ask("q.example", Rtype(t)).dnssec().option(option::COOKIE, b"12345678").message().0;
        for (i, b) in at {
            let n = m.len();
            m[i % n] = b;
        }
        m.truncate(m.len().saturating_sub(cut));
        m.extend_from_slice(&tail);
        for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
            let ctx = QueryContext { role: w.role, peer: "::1".parse().unwrap(), transport, now: now(), directory: &w.directory, settings: &w.settings, tls_name: None, limited: false };
            let mut out = Vec::new();
            match answer(&m, &ctx, &mut Scratch::default(), &mut out) {
                Outcome::Dropped | Outcome::Transfer(_) => proptest::prop_assert!(out.is_empty()),
                _ => {
                    let parsed = Message::parse(&out).unwrap();
                    proptest::prop_assert!(parsed.records().all(|r| r.is_ok()));
                    proptest::prop_assert!(parsed.header.has(flag::QR) && out[..2] == m[..2]);
                }
            }
        }
    }
}

/// Very many zones have the settings of one policy: they are in one place.
#[test]
fn equal_settings_are_shared() {
    for directory in [Directory::new(), Directory::small()] {
        let add = |n: u8, settings: ZoneSettings| {
            let apex = Name::parse(&format!("z{n}.example.")).unwrap();
            directory.add(ZoneId([n; 16]), &apex, settings).unwrap()
        };
        let open = |steps: usize| {
            let mut settings = ZoneSettings::default();
            settings.steps.steps = steps;
            settings
        };
        let entries: Vec<_> = (0..40).map(|n| add(n, open(usize::from(n % 2)))).collect();
        let same = |a: usize, b: usize| Arc::ptr_eq(&entries[a].settings(), &entries[b].settings());
        assert!(same(0, 38) && same(1, 39) && !same(0, 1));
        entries[0].set_settings(open(7));
        assert_eq!(
            (
                entries[0].settings().steps.steps,
                entries[38].settings().steps.steps
            ),
            (7, 0)
        );
        for n in 0..40 {
            let apex = Name::parse(&format!("z{n}.example.")).unwrap();
            assert_eq!(
                directory.exact(apex.as_wire()).unwrap().id(),
                ZoneId([n; 16])
            );
        }
    }
}
