//! Transfers: what goes out is the zone, whole and in order.

use std::sync::Arc;

use cascade_wire::reader::NameBuf;
use cascade_wire::{Acl, Algorithm, ClientTsig, Message, TsigKey, TsigKeys, flag, rcode};
use cascade_zone::version::ZoneVersion;
use cascade_zone::{Name, Rtype};
use proptest::prelude::*;

use crate::answer::Outcome;
use crate::axfr::Transfer;
use crate::context::Transport;
use crate::directory::{Role, ZoneSettings};
use crate::testing::*;
use crate::tests::{Ask, World, ask, world};

pub(crate) type Rec = (Vec<u8>, Rtype, u32, Vec<u8>);

pub(crate) fn start(w: &World, ask: &Ask) -> Transfer {
    match w.run(ask, &mut Vec::new()) {
        Outcome::Transfer(request) => Transfer::new(*request),
        other => panic!("{other:?}"),
    }
}

/// All records of all messages, and the messages' sizes.
pub(crate) fn receive(mut t: Transfer, mut tsig: Option<ClientTsig>) -> (Vec<Rec>, Vec<usize>) {
    let (mut records, mut sizes) = (Vec::new(), Vec::new());
    while let Some(framed) = t.next_message(now()) {
        assert_eq!(
            u16::from_be_bytes([framed[0], framed[1]]) as usize,
            framed.len() - 2
        );
        let msg = &framed[2..];
        let m = Message::parse(msg).unwrap();
        assert!(
            m.header.has(flag::QR | flag::AA) && m.header.id == 0x1234 && m.header.rcode() == 0
        );
        assert_eq!(
            m.header.counts[0],
            u16::from(sizes.is_empty()),
            "question in the first only"
        );
        if let Some(tsig) = &mut tsig {
            tsig.verify(msg, now()).unwrap();
        }
        sizes.push(msg.len());
        for r in m.records().map(Result::unwrap).filter(|r| r.section == 1) {
            let mut owner = NameBuf::new();
            r.read_owner(&mut owner).unwrap();
            let mut rd = Vec::new();
            r.push_rdata(&mut rd).unwrap();
            records.push((owner.as_wire().to_vec(), r.rtype, r.ttl, rd));
        }
    }
    assert!(t.is_complete() && tsig.is_none_or(|t| t.is_complete()));
    assert_eq!(t.records() as usize, records.len());
    (records, sizes)
}

pub(crate) fn expected(v: &ZoneVersion) -> Vec<Rec> {
    let mut out = Vec::new();
    v.for_each_record(&mut |r| out.push((r.owner.to_vec(), r.rtype, r.ttl, r.rdata.to_vec())));
    out.push(out[0].clone());
    assert_eq!(out[0].1, Rtype::SOA);
    out
}

fn check(v: &Arc<ZoneVersion>, ask: &Ask) -> Vec<usize> {
    let (got, sizes) = receive(start(&world(v), ask), None);
    let want = expected(v);
    assert_eq!(got.len(), want.len());
    got.iter().zip(&want).for_each(|(g, w)| assert_eq!(g, w));
    sizes
}

fn axfr() -> Ask {
    ask("example", Rtype::AXFR).tcp()
}

pub(crate) fn big(n: usize) -> Arc<ZoneVersion> {
    let mut text = MAZE.to_string();
    for i in 0..n {
        let h = if i % 8 == 0 { 'H' } else { 'h' };
        text += &format!(
            "{h}ost-{i}.t.example. 3600 NS ns1.host-{i}.t.example.\nns1.host-{i}.t.example. 3600 A 192.0.2.9\n"
        );
        if i % 10 == 0 {
            text += &format!(
                "host-{i}.t.example. 3600 NS ns.other.test.\nhost-{i}.t.example. 3600 DS 7\nt{i}.example. 60 MX 5 Mail.EXAMPLE.\n"
            );
        }
    }
    unsigned("example", &text)
}

#[test]
fn zones_arrive_exactly() {
    check(&maze(), &axfr());
    // Without EDNS, and with the apex asked in other letters: the zone's own spelling survives.
    let mut a = axfr().plain();
    check(&maze(), &a);
    a.qname = wire("eXample");
    check(&maze(), &a);
    for scheme in [Scheme::Nsec, Scheme::Nsec3, Scheme::OptOut] {
        let sizes = check(&signed(&big(600), scheme), &axfr());
        let (last, full) = sizes.split_last().unwrap();
        assert!(
            full.len() > 1 && full.iter().all(|s| (16_000..=16_382).contains(s)),
            "{sizes:?} {last}"
        );
    }
    let root = unsigned(
        ".",
        ". 60 SOA a. b. 1 2 3 4 5\n. 60 NS a.\na. 60 A 192.0.2.1\nb.a. 60 NS a.",
    );
    let mut a = axfr();
    a.qname = vec![0];
    check(&root, &a);
}

/// A record larger than a message usually is travels alone.
#[test]
fn huge_records_get_room() {
    let apex = name("example");
    let mut batch = cascade_zone::RecordBatch::new();
    batch.owner(&[], None);
    batch
        .push(
            Rtype::SOA,
            60,
            &rdata(Rtype::SOA, "a.example. b.example. 1 2 3 4 5"),
            0,
        )
        .unwrap();
    batch.push(Rtype::NS, 60, &wire("a.example."), 0).unwrap();
    for n in [60_000usize, 20_000, 65_000] {
        batch.push(Rtype(65280), 60, &vec![n as u8; n], 0).unwrap();
    }
    let b = cascade_zone::Builder::new(zone_id(&apex), cascade_zone::VersionId(1), &apex, now());
    let sizes = check(&Arc::new(b.batches(vec![batch]).build().unwrap()), &axfr());
    assert_eq!(
        sizes.iter().filter(|s| **s > 16_384).count(),
        3,
        "{sizes:?}"
    );
}

/// One block that expands to far more than two messages is cut and resumed.
#[test]
fn huge_sets_are_spread_over_messages() {
    let text: String = (0..900)
        .map(|i| format!("x.example. 60 TXT {i:0>250}\n"))
        .collect();
    let sizes = check(&unsigned("example", &format!("{MAZE}{text}")), &axfr());
    assert!(sizes.len() >= 12, "{sizes:?}");
}

#[test]
fn signed_transfers_verify() {
    let mut w = world(&signed(&big(600), Scheme::Nsec));
    for algorithm in Algorithm::ALL {
        let key = || TsigKey::new(&name("key.example"), algorithm, b"secret");
        w.settings.keys = Arc::new(TsigKeys::new([key()]));
        let mut a = axfr();
        a.key = Some(Arc::new(key()));
        let (message, client) = a.message();
        drop(message);
        let (got, sizes) = receive(start(&w, &a), client);
        assert!(got.len() > 1000 && sizes.len() > 1 && sizes.iter().all(|s| *s <= 16_382));
    }
}

#[test]
fn the_table_of_choices() {
    let v = signed(&maze(), Scheme::Nsec);
    let mut w = world(&v);
    w.directory.store(v.zone(), 2, v.clone()).unwrap();
    w.role = Role::Publication;
    let code = |w: &World, a: &Ask| w.get(a).reply.rcode;
    assert_eq!(
        code(&w, &axfr()),
        rcode::REFUSED,
        "loopback only unless the policy says more"
    );
    let mut local = axfr();
    local.peer = "::1".parse().unwrap();
    assert!(matches!(
        w.run(&local, &mut Vec::new()),
        Outcome::Transfer(_)
    ));
    let entry = w.directory.by_id(v.zone()).unwrap();
    let acl = Acl::parse(&["192.0.2.99^k"]).unwrap().0;
    entry.set_settings(ZoneSettings {
        provide_xfr_to: acl,
        ..ZoneSettings::default()
    });
    let key = || TsigKey::new(&name("k"), Algorithm::HmacSha256, b"secret");
    w.settings.keys = Arc::new(TsigKeys::new([key()]));
    assert_eq!(code(&w, &axfr()), rcode::REFUSED);
    let mut keyed = axfr();
    keyed.key = Some(Arc::new(key()));
    let t = start(&w, &keyed);
    assert!(t.request().is_allowed(&w.settings));
    entry.set_settings(ZoneSettings::default());
    assert!(
        !t.request().is_allowed(&w.settings),
        "access withdrawn while it runs"
    );
    let open = ZoneSettings {
        provide_xfr_to: Acl::any(),
        ..ZoneSettings::default()
    };
    entry.set_settings(ZoneSettings {
        require_tls: true,
        ..open.clone()
    });
    assert_eq!(code(&w, &axfr()), rcode::REFUSED);
    let tls = || {
        let mut ask = axfr();
        ask.transport = Transport::Tls;
        ask
    };
    let begun = w.run(&tls(), &mut Vec::new());
    assert!(matches!(begun, Outcome::Transfer(_)), "{begun:?}");
    entry.set_settings(ZoneSettings {
        refuse_tls: true,
        ..open.clone()
    });
    assert_eq!(code(&w, &tls()), rcode::REFUSED);
    entry.set_settings(open);
    assert_eq!(
        code(&w, &ask("example", Rtype::AXFR)),
        rcode::FORMERR,
        "RFC 5936 §4.2"
    );
    assert_eq!(
        code(&w, &ask("web.example", Rtype::AXFR).tcp()),
        rcode::NOTAUTH
    );
    let mut ixfr = ask("example", Rtype::IXFR).tcp();
    assert_eq!(code(&w, &ixfr), rcode::FORMERR);
    for serial in [2024, 2025] {
        ixfr.serial = Some(serial);
        assert_eq!(w.get(&ixfr).shape(), ["an example. SOA"]);
    }
    ixfr.serial = Some(2023);
    let (got, _) = receive(start(&w, &ixfr), None);
    assert_eq!(got, expected(&v));
    ixfr.transport = Transport::Udp;
    assert_eq!(w.get(&ixfr).shape(), ["an example. SOA"]);
    let mut out = Vec::new();
    ixfr.transport = Transport::Tcp;
    match w.run(&ixfr, &mut Vec::new()) {
        Outcome::Transfer(request) => request.busy(now(), &mut out),
        other => panic!("{other:?}"),
    }
    let m = Message::parse(&out[2..]).unwrap();
    assert_eq!(
        (m.header.rcode(), out.ends_with(b"busy")),
        (rcode::SERVFAIL, true)
    );
}

/// Compression pays: a good fifth of a zone of delegations, signatures included.
#[test]
fn octets_per_record() {
    let v = signed(&big(2000), Scheme::Nsec);
    let (got, sizes) = receive(start(&world(&v), &axfr()), None);
    let plain: usize = got.iter().map(|r| r.0.len() + 10 + r.3.len()).sum();
    let sent: usize = sizes.iter().sum();
    assert!(sent * 100 < plain * 77, "{sent} of {plain}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_zone_arrives(owners in prop::collection::vec(("[a-cA-C]{1,3}(\\.[a-cA-C]{1,40}){0,5}", 0u8..5), 0..120), spelled in "[eE]x[aA]mple") {
        let mut text = "example. 60 SOA a.example. b.example. 1 2 3 4 5\n".to_string();
        for (o, t) in &owners {
            let o = o.trim_end_matches('.');
            text += &match t {
                0 => format!("{o}.example. 60 A 192.0.2.1\n"),
                1 => format!("{o}.example. 60 NS {o}.EXAMPLE.\n"),
                2 => format!("{o}.example. 60 MX 1 x{o}.xexample.\n"),
                3 => format!("{o}.example. 60 SRV 1 2 3 {o}.example.\n"),
                _ => format!("{o}.example. 60 TXT {o}\n"),
            };
        }
        let mut a = axfr();
        a.qname = Name::parse(&spelled).unwrap().as_wire().to_vec();
        check(&unsigned("example", &text), &a);
    }
}

/// A zone that is live under another signer is answered and given to nobody; a transfer that runs
/// ends at its next message.
#[test]
fn what_is_held_is_refused() {
    let v = maze();
    let w = World {
        role: Role::Publication,
        ..world(&v)
    };
    w.directory.store(v.zone(), 2, v.clone()).unwrap();
    let peer = "127.0.0.1".parse().unwrap();
    let asked = Ask { peer, ..axfr() };
    let running = start(&w, &asked);
    let entry = running.request().entry.clone();
    let settings = crate::Settings::open();
    assert!(running.request().is_allowed(&settings));
    entry.set_hold(crate::Hold::Briefly);
    let waiting = start(&w, &asked);
    assert!(waiting.request().is_held(crate::Hold::Briefly));
    entry.set_hold(crate::Hold::Refused);
    assert!(!running.request().is_allowed(&settings));
    let mut out = Vec::new();
    assert!(matches!(w.run(&asked, &mut out), Outcome::Reply(_)));
    let reply = Message::parse(&out).unwrap();
    assert_eq!(reply.header.rcode(), rcode::REFUSED);
    entry.set_hold(crate::Hold::None);
    start(&w, &asked);
}
