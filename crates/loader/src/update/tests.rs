//! Requests as clients send them, each row of RFC 2136 §2.4, §2.5 and §3.4.2.

use cascade_wire::composer::Section;
use cascade_wire::{Composer, opcode};
use cascade_zone::{Name, Rtype, Serial, VersionId, ZoneVersion};
use proptest::prelude::*;

use super::*;
use crate::xfr::testkit::{NOW, Rec, apex, records, text, zone};

const IN: u16 = 1;
const NONE: u16 = 254;
const ANY: u16 = 255;

/// Section, owner below the apex, class, type, TTL, RDATA.
type Rr<'a> = (Section, &'a str, u16, Rtype, u32, &'a [u8]);

fn message(rrs: &[Rr<'_>]) -> Vec<u8> {
    let mut msg = Vec::new();
    let flags = u16::from(opcode::UPDATE) << 11;
    let mut c = Composer::new(&mut msg, 65_535, 7, flags);
    c.question(apex().as_wire(), Rtype::SOA, IN);
    for (section, owner, class, rtype, ttl, rdata) in rrs {
        let owner = name(owner);
        c.record_with(*section, owner.as_wire(), *rtype, *class, *ttl, |out| {
            out.extend_from_slice(rdata)
        })
        .unwrap();
    }
    c.finish();
    msg
}

fn name(owner: &str) -> Name {
    match owner {
        "@" => apex(),
        o if o.ends_with('.') => Name::parse(o).unwrap(),
        o => Name::parse(&format!("{o}.example.net")).unwrap(),
    }
}

const PRE: Section = Section::Answer;
const UPD: Section = Section::Authority;

fn base() -> ZoneVersion {
    zone(
        &text(
            5,
            "www A 192.0.2.2\nwww A 192.0.2.3\nalias CNAME www\na.b TXT \"x\"\n",
        ),
        1,
    )
}

fn run(v: &ZoneVersion, rrs: &[Rr<'_>]) -> Result<ZoneVersion, u16> {
    let code = |e: Refused| e.rcode();
    let request = read(&message(rrs), &apex()).map_err(code)?;
    let mut batch = Batch::new(v, None);
    batch.apply(&request, &|_: &Name, _| true).map_err(code)?;
    Ok(v.update(VersionId(9), NOW, batch.edits()).unwrap().version)
}

fn lines(v: &ZoneVersion, owner: &str) -> Vec<(Rtype, u32, Vec<u8>)> {
    let owner = name(owner).as_wire().to_vec();
    let all = records(v).into_iter();
    all.filter(|r: &Rec| r.owner.eq_ignore_ascii_case(&owner))
        .map(|r| (r.rtype, r.ttl, r.rdata))
        .collect()
}

fn a(n: u8) -> Vec<u8> {
    vec![192, 0, 2, n]
}

#[test]
fn prerequisites() {
    let v = base();
    let pre = |owner, class, rtype, rdata: &[u8]| {
        run(&v, &[(PRE, owner, class, rtype, 0, rdata)]).map(|_| ())
    };
    for (owner, class, rtype, expected) in [
        ("www", ANY, Rtype::ANY, Ok(())),
        ("nobody", ANY, Rtype::ANY, Err(3)),
        // An empty non-terminal is not in use.
        ("b", ANY, Rtype::ANY, Err(3)),
        ("www", ANY, Rtype::A, Ok(())),
        ("www", ANY, Rtype::TXT, Err(8)),
        ("nobody", NONE, Rtype::ANY, Ok(())),
        ("www", NONE, Rtype::ANY, Err(6)),
        ("www", NONE, Rtype::TXT, Ok(())),
        ("www", NONE, Rtype::A, Err(7)),
    ] {
        assert_eq!(
            pre(owner, class, rtype, &[]),
            expected,
            "{owner} {class} {rtype}"
        );
    }
    let sets = |all: &[Vec<u8>]| {
        let rrs: Vec<Rr<'_>> = all
            .iter()
            .map(|r| (PRE, "WWW", IN, Rtype::A, 0, &r[..]))
            .collect();
        run(&v, &rrs).map(|_| ())
    };
    assert_eq!(sets(&[a(3), a(2)]), Ok(()));
    assert_eq!(sets(&[a(2)]), Err(8));
    assert_eq!(sets(&[a(2), a(3), a(4)]), Err(8));
    // Malformed ones.
    assert_eq!(pre("www", ANY, Rtype::A, &[1]), Err(1));
    assert_eq!(pre("www", 3, Rtype::A, &a(2)), Err(1));
    assert_eq!(
        run(&v, &[(PRE, "www", ANY, Rtype::A, 1, &[])]).err(),
        Some(1)
    );
    assert_eq!(pre("www.example.org.", ANY, Rtype::A, &[]), Err(10));
}

#[test]
fn records_are_added_and_the_serial_grows_once() {
    let v = base();
    let new = run(
        &v,
        &[
            (UPD, "New", IN, Rtype::A, 60, &a(9)),
            (UPD, "new", IN, Rtype::A, 60, &a(8)),
        ],
    )
    .unwrap();
    assert_eq!(new.serial(), Serial(6));
    assert_eq!(
        lines(&new, "new"),
        [(Rtype::A, 60, a(8)), (Rtype::A, 60, a(9))]
    );
    // What is there already makes no version; another TTL does.
    let same = run(&v, &[(UPD, "www", IN, Rtype::A, 300, &a(2))]).unwrap();
    assert!(same.same_content_as(&v));
    let ttl = run(&v, &[(UPD, "www", IN, Rtype::A, 60, &a(2))]).unwrap();
    assert_eq!(
        lines(&ttl, "www"),
        [(Rtype::A, 60, a(2)), (Rtype::A, 60, a(3))]
    );
}

#[test]
fn records_are_deleted_in_each_way() {
    let v = base();
    let one = run(&v, &[(UPD, "www", NONE, Rtype::A, 0, &a(2))]).unwrap();
    assert_eq!(lines(&one, "www"), [(Rtype::A, 300, a(3))]);
    let set = run(&v, &[(UPD, "www", ANY, Rtype::A, 0, &[])]).unwrap();
    assert!(lines(&set, "www").is_empty());
    let all = run(&v, &[(UPD, "a.b", ANY, Rtype::ANY, 0, &[])]).unwrap();
    assert!(lines(&all, "a.b").is_empty());
    // Deleted and added again in one request: nothing has changed.
    let same = run(
        &v,
        &[
            (UPD, "a.b", ANY, Rtype::ANY, 0, &[]),
            (UPD, "a.b", IN, Rtype::TXT, 300, b"\x01x"),
        ],
    )
    .unwrap();
    assert!(same.same_content_as(&v));
    // What is not there is not an error.
    let none = run(&v, &[(UPD, "nobody", ANY, Rtype::ANY, 0, &[])]).unwrap();
    assert!(none.same_content_as(&v));
}

#[test]
fn the_apex_keeps_its_soa_and_one_ns() {
    let v = base();
    let apex_lines = lines(&v, "@");
    for rr in [
        (UPD, "@", ANY, Rtype::ANY, 0, &[][..]),
        (UPD, "@", ANY, Rtype::NS, 0, &[]),
        (UPD, "@", ANY, Rtype::SOA, 0, &[]),
        (UPD, "@", NONE, Rtype::NS, 0, name("ns1").as_wire()),
        (UPD, "@", NONE, Rtype::SOA, 0, &apex_lines[0].2[..]),
    ] {
        assert_eq!(lines(&run(&v, &[rr]).unwrap(), "@"), apex_lines, "{rr:?}");
    }
}

#[test]
fn an_soa_is_taken_when_it_is_newer() {
    let v = base();
    let soa = |s| zone(&text(s, ""), 2).soa().to_vec();
    let put = |s: u32| run(&v, &[(UPD, "@", IN, Rtype::SOA, 300, &soa(s)[..])]).unwrap();
    assert_eq!(put(77).serial(), Serial(77));
    assert!(put(4).same_content_as(&v));
    assert!(put(5).same_content_as(&v));
    // With other changes it stands, and is not raised again.
    let both = run(
        &v,
        &[
            (UPD, "x", IN, Rtype::A, 60, &a(9)),
            (UPD, "@", IN, Rtype::SOA, 300, &soa(77)[..]),
        ],
    );
    assert_eq!(both.unwrap().serial(), Serial(77));
    let last = zone(&text(u32::MAX, ""), 1);
    let new = run(&last, &[(UPD, "x", IN, Rtype::A, 60, &a(9))]).unwrap();
    assert_eq!(new.serial(), Serial(1));
}

#[test]
fn aliases_and_data_exclude_each_other_without_an_error() {
    let v = base();
    let target = name("ns1");
    let new = run(&v, &[(UPD, "www", IN, Rtype::CNAME, 60, target.as_wire())]).unwrap();
    assert!(new.same_content_as(&v));
    let new = run(&v, &[(UPD, "alias", IN, Rtype::A, 60, &a(9))]).unwrap();
    assert!(new.same_content_as(&v));
    // One alias replaces another; after its deletion there is room for data.
    let new = run(
        &v,
        &[(UPD, "alias", IN, Rtype::CNAME, 60, target.as_wire())],
    )
    .unwrap();
    assert_eq!(
        lines(&new, "alias"),
        [(Rtype::CNAME, 60, target.as_wire().to_vec())]
    );
    let new = run(
        &v,
        &[
            (UPD, "alias", ANY, Rtype::CNAME, 0, &[]),
            (UPD, "alias", IN, Rtype::A, 60, &a(9)),
        ],
    );
    assert_eq!(lines(&new.unwrap(), "alias"), [(Rtype::A, 60, a(9))]);
}

#[test]
fn malformed_and_foreign_requests() {
    let v = base();
    for (rr, code) in [
        ((UPD, "x.example.org.", IN, Rtype::A, 60, &a(9)[..]), 10),
        ((UPD, "x", IN, Rtype::A, 60, &[1, 2]), 1),
        ((UPD, "x", IN, Rtype::ANY, 60, &[]), 1),
        ((UPD, "x", ANY, Rtype::A, 60, &[]), 1),
        ((UPD, "x", ANY, Rtype::A, 0, &a(9)), 1),
        ((UPD, "x", ANY, Rtype::AXFR, 0, &[]), 1),
        ((UPD, "x", NONE, Rtype::A, 60, &a(9)), 1),
        ((UPD, "x", 3, Rtype::A, 60, &a(9)), 1),
        ((UPD, "@", IN, Rtype::DNSKEY, 60, &[1, 1, 3, 13, 9]), 5),
        ((UPD, "x", ANY, Rtype::RRSIG, 0, &[]), 5),
    ] {
        assert_eq!(run(&v, &[rr]).err(), Some(code), "{rr:?}");
    }
    let mut other = message(&[]);
    other[13] ^= 1;
    assert_eq!(read(&other, &apex()).unwrap_err().rcode(), 9);
    let mut query = message(&[]);
    query[2] = 0;
    assert_eq!(read(&query, &apex()).unwrap_err().rcode(), 1);
}

#[test]
fn nothing_of_a_request_stays_when_a_part_is_refused() {
    let v = base();
    let mut batch = Batch::new(&v, None);
    let permit = |owner: &Name, _: Rtype| owner.to_string() != "secret.example.net.";
    let go = |batch: &mut Batch<'_>, rrs: &[Rr<'_>]| {
        batch.apply(&read(&message(rrs), &apex()).unwrap(), &permit)
    };
    let e = go(
        &mut batch,
        &[
            (UPD, "x", IN, Rtype::A, 60, &a(9)),
            (UPD, "secret", IN, Rtype::A, 60, &a(9)),
        ],
    );
    assert!(matches!(e, Err(Refused::NotPermitted { .. })));
    let e = go(
        &mut batch,
        &[
            (PRE, "x", ANY, Rtype::ANY, 0, &[]),
            (UPD, "y", IN, Rtype::A, 60, &a(9)),
        ],
    );
    // The refused request before has left no `x`.
    assert!(matches!(e, Err(Refused::NameNotInUse(_))));
    // Requests see what those before them did.
    let yes = go(&mut batch, &[(UPD, "x", IN, Rtype::A, 60, &a(9))]);
    assert_eq!(yes, Ok(Changed::Yes(Serial(6))));
    let yes = go(
        &mut batch,
        &[
            (PRE, "x", ANY, Rtype::ANY, 0, &[]),
            (UPD, "y", IN, Rtype::A, 60, &a(9)),
        ],
    );
    assert_eq!(yes, Ok(Changed::Yes(Serial(7))));
    assert_eq!(go(&mut batch, &[]), Ok(Changed::No));
    let edits = batch.edits();
    assert_eq!(edits.len(), 3);
    let new = v.update(VersionId(9), NOW, edits).unwrap().version;
    assert_eq!(new.serial(), Serial(7));
}

#[test]
fn ttls_are_lowered() {
    let v = base();
    let mut batch = Batch::new(&v, Some(100));
    let rrs = [(UPD, "x", IN, Rtype::A, 5000, &a(9)[..])];
    let request = read(&message(&rrs), &apex()).unwrap();
    batch.apply(&request, &|_: &Name, _| true).unwrap();
    let new = v.update(VersionId(9), NOW, batch.edits()).unwrap().version;
    assert_eq!(lines(&new, "x"), [(Rtype::A, 100, a(9))]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Against a list of records, changed by the words of RFC 2136 §3.4.2.
    #[test]
    fn batches_do_what_a_plain_list_does(
        all in prop::collection::vec(prop::collection::vec((0u8..4, 0u8..3, 0u8..3), 0..5), 0..6),
    ) {
        let v = zone(&text(5, "h0 A 192.0.2.0\nh1 A 192.0.2.1\n"), 1);
        let mut model: Vec<(u8, u8)> = vec![(0, 0), (1, 1)];
        let mut batch = Batch::new(&v, None);
        let mut serial = 5;
        for request in &all {
            let before = model.clone();
            let mut changes = Vec::new();
            for &(what, host, value) in request {
                let owner = format!("h{host}");
                let rdata = a(value);
                match what {
                    0 | 1 => {
                        changes.push((owner, IN, Rtype::A, 300, rdata));
                        if !model.contains(&(host, value)) {
                            model.push((host, value));
                        }
                    }
                    2 => {
                        changes.push((owner, NONE, Rtype::A, 0, rdata));
                        model.retain(|m| *m != (host, value));
                    }
                    _ => {
                        changes.push((owner, ANY, Rtype::ANY, 0, Vec::new()));
                        model.retain(|m| m.0 != host);
                    }
                }
            }
            model.sort();
            let rrs: Vec<Rr<'_>> = changes
                .iter()
                .map(|(o, c, t, ttl, r)| (UPD, &o[..], *c, *t, *ttl, &r[..]))
                .collect();
            let done = batch.apply(&read(&message(&rrs), &apex()).unwrap(), &|_: &Name, _| true);
            if before == model {
                prop_assert_eq!(done, Ok(Changed::No));
            } else {
                serial += 1;
                prop_assert_eq!(done, Ok(Changed::Yes(Serial(serial))));
            }
        }
        let new = v.update(VersionId(9), NOW, batch.edits()).unwrap().version;
        prop_assert_eq!(new.serial(), Serial(serial));
        for host in 0..3u8 {
            let got = lines(&new, &format!("h{host}"));
            let want: Vec<_> = model
                .iter()
                .filter(|m| m.0 == host)
                .map(|m| (Rtype::A, 300, a(m.1)))
                .collect();
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn garbage_never_panics(octets in prop::collection::vec(any::<u8>(), 0..200), tamper: bool) {
        let mut msg = octets;
        if tamper {
            let mut head = message(&[]);
            head[7] = 2;
            head[9] = 3;
            head.extend_from_slice(&msg);
            msg = head;
        }
        if let Ok(request) = read(&msg, &apex()) {
            let v = base();
            let _ = Batch::new(&v, None).apply(&request, &|_: &Name, _| true);
        }
    }
}
