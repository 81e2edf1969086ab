//! Streams of messages as primaries send them, good and bad.

use cascade_time::SimClock;
use cascade_wire::{Composer, Section, TsigError, flag, rcode};
use cascade_zone::{Name, Rtype, Serial, ZoneVersion};
use proptest::prelude::*;

use super::testkit::*;
use super::*;
use crate::code::{Checks, Code, Level};
use crate::load::Outcome;
use crate::zonemd::ZonemdCheck;

const MORE: &str =
    "www A 192.0.2.2\nwww A 192.0.2.3\nWWW2 TXT \"a\"\nsub NS ns.sub\nns.sub A 192.0.2.9\n";

fn error(result: Result<Received, XfrError>) -> XfrError {
    match result {
        Err(e) => e,
        Ok(r) => panic!("accepted: {r:?}"),
    }
}

/// The same content, whatever the leaves.
fn same(a: &ZoneVersion, b: &ZoneVersion) -> bool {
    records(a) == records(b) && a.full_fingerprint() == b.full_fingerprint()
}

// ---- AXFR

#[test]
fn axfr_of_any_split_gives_the_zone() {
    let v = zone(&text(5, MORE), 1);
    let all = axfr(&v);
    for sizes in [
        vec![all.len()],
        vec![1],
        vec![2, 1, 3],
        vec![all.len() - 1, 1],
    ] {
        let got = read(axfr_reader(), &messages(&all, Rtype::AXFR, &sizes)).unwrap();
        let made = loaded(applied(got, None).unwrap());
        assert!(same(&made, &v), "{sizes:?}");
    }
}

#[test]
fn axfr_of_the_same_content_is_no_version() {
    let v = zone(&text(5, MORE), 1);
    let got = read(axfr_reader(), &messages(&axfr(&v), Rtype::AXFR, &[4])).unwrap();
    match applied(got, Some(&v)).unwrap() {
        Outcome::Unchanged { report, .. } => assert_eq!(report.messages, 3),
        other => panic!("{other:?}"),
    }
}

#[test]
fn axfr_shares_what_is_equal_with_the_current_version() {
    let more: String = (0..2000).map(|i| format!("h{i} A 192.0.2.7\n")).collect();
    let old = zone(&text(5, &more), 1);
    let new = zone(&text(6, &format!("{more}zz A 192.0.2.8\n")), 2);
    let got = read(axfr_reader(), &messages(&axfr(&new), Rtype::AXFR, &[300])).unwrap();
    match applied(got, Some(&old)).unwrap() {
        Outcome::Loaded {
            report, version, ..
        } => {
            let delta = report.delta.unwrap();
            assert!(delta.leaves_reused + 3 >= delta.leaves, "{delta:?}");
            assert_eq!((delta.owners_added, delta.records_added), (1, 2));
            assert!(same(&version, &new));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn axfr_cut_after_any_message_or_octet_is_worthless() {
    let all = messages(&axfr(&zone(&text(5, MORE), 1)), Rtype::AXFR, &[1]);
    for n in 0..all.len() {
        assert!(matches!(
            error(read(axfr_reader(), &all[..n])),
            XfrError::Cut { .. }
        ));
    }
    let whole = messages(&axfr(&zone(&text(5, MORE), 1)), Rtype::AXFR, &[99]);
    for n in 0..whole[0].len() {
        error(read(axfr_reader(), &[whole[0][..n].to_vec()]));
    }
}

#[test]
fn axfr_ends_with_the_soa_it_began_with_and_nothing_follows() {
    let v = zone(&text(5, MORE), 1);
    let all = axfr(&v);
    let (mut other, mut extra, mut middle, mut no_soa) =
        (all.clone(), all.clone(), all.clone(), all.clone());
    let n = all.len() - 1;
    other[n].rdata = records(&zone(&text(6, ""), 1))[0].rdata.clone();
    extra.push(all[1].clone());
    middle.insert(3, all[0].clone());
    no_soa.remove(0);
    let one = |recs: &[Rec]| error(read(axfr_reader(), &messages(recs, Rtype::AXFR, &[99])));
    assert_eq!(
        one(&other),
        XfrError::OtherSoa {
            first: Serial(5),
            other: Serial(6)
        }
    );
    assert_eq!(one(&extra), XfrError::AfterEnd);
    assert_eq!(one(&middle), XfrError::AfterEnd);
    assert_eq!(one(&no_soa), XfrError::FirstNotSoa);
    // The same in a message of its own.
    let e = read(axfr_reader(), &messages(&extra, Rtype::AXFR, &[n + 1, 1]));
    assert_eq!(error(e), XfrError::AfterEnd);
    let mut ttl = all;
    ttl[n].ttl += 1;
    assert!(matches!(one(&ttl), XfrError::OtherSoa { .. }));
}

#[test]
fn headers_must_be_those_of_our_answer() {
    let good = messages(&axfr(&zone(&text(5, MORE), 1)), Rtype::AXFR, &[99]);
    let with = |f: &dyn Fn(&mut Vec<u8>)| {
        let mut m = good[0].clone();
        f(&mut m);
        error(read(axfr_reader(), &[m]))
    };
    assert_eq!(with(&|m| m[0] ^= 1), XfrError::WrongId);
    assert_eq!(with(&|m| m[2] &= 0x7f), XfrError::NotAnAnswer);
    assert_eq!(with(&|m| m[2] |= 0x20), XfrError::NotAnAnswer);
    assert_eq!(with(&|m| m[2] |= 0x02), XfrError::Truncated);
    assert_eq!(
        with(&|m| m[3] |= 5),
        XfrError::Rcode {
            rcode: rcode::REFUSED
        }
    );
    // Another name, type and class in the question.
    assert_eq!(with(&|m| m[13] ^= 1), XfrError::WrongQuestion);
    let question_end = 12 + apex().as_wire().len() + 4;
    assert_eq!(with(&|m| m[question_end - 3] ^= 1), XfrError::WrongQuestion);
    assert_eq!(with(&|m| m[question_end - 1] ^= 2), XfrError::WrongQuestion);
    assert!(matches!(with(&|m| m.push(0)), XfrError::Malformed { .. }));
    // Without question only later messages may be.
    let mut msg = Vec::new();
    let mut c = Composer::new(&mut msg, 65_535, ID, flag::QR);
    let soa = &axfr(&zone(&text(5, ""), 1))[0];
    c.record(Section::Answer, &soa.owner, soa.rtype, soa.ttl, &soa.rdata)
        .unwrap();
    c.finish();
    assert_eq!(error(read(axfr_reader(), &[msg])), XfrError::NoQuestion);
}

#[test]
fn what_no_zone_holds_is_refused_with_its_place() {
    let v = zone(&text(5, MORE), 1);
    let with = |rec: Rec| {
        let mut all = axfr(&v);
        all.insert(2, rec);
        error(read(axfr_reader(), &messages(&all, Rtype::AXFR, &[99])))
    };
    let rec = |owner: &str, rtype, rdata: &[u8]| Rec {
        owner: Name::parse(owner).unwrap().as_wire().to_vec(),
        rtype,
        ttl: 60,
        rdata: rdata.to_vec(),
    };
    let e = with(rec("example.org", Rtype::A, &[192, 0, 2, 1]));
    assert_eq!(e.to_string(), "A at example.org. is outside of the zone");
    let e = with(rec("x.example.net", Rtype::A, &[192, 0, 2]));
    assert!(e.to_string().starts_with("A at x.example.net.: "), "{e}");
    for meta in [Rtype::ANY, Rtype::OPT, Rtype::AXFR, Rtype(0)] {
        let e = with(rec("x.example.net", meta, &[]));
        assert!(matches!(e, XfrError::Rdata { .. }), "{e}");
    }
    // RDATA of a known type with octets after its end.
    let e = with(rec("x.example.net", Rtype::NS, b"\x01a\x00\x00"));
    assert!(matches!(e, XfrError::Rdata { .. }), "{e}");
}

#[test]
fn records_of_a_signer_are_dropped_and_counted() {
    let v = zone(&text(5, MORE), 1);
    let mut all = axfr(&v);
    let owner = |o: &str| Name::parse(o).unwrap().as_wire().to_vec();
    let mut nsec = Vec::new();
    nsec.extend_from_slice(&owner("ns1.example.net"));
    nsec.extend_from_slice(&[0, 1, 0x40]);
    for (at, rtype, rdata) in [
        ("example.net", Rtype::DNSKEY, vec![1, 1, 3, 13, 9, 9, 9, 9]),
        ("example.net", Rtype::NSEC, nsec.clone()),
        ("only-nsec.example.net", Rtype::NSEC, nsec),
        (
            "sub.example.net",
            Rtype::DNSKEY,
            vec![1, 1, 3, 13, 9, 9, 9, 9],
        ),
    ] {
        all.insert(
            2,
            Rec {
                owner: owner(at),
                rtype,
                ttl: 60,
                rdata,
            },
        );
    }
    let got = read(axfr_reader(), &messages(&all, Rtype::AXFR, &[5])).unwrap();
    match applied(got, None).unwrap() {
        Outcome::Loaded {
            version, report, ..
        } => {
            assert_eq!(report.stripped["NSEC"], 2);
            assert_eq!(report.stripped["DNSKEY"], 1);
            assert_eq!(report.records_received, all.len() as u64 - 1);
            assert_eq!(records(&version).len(), records(&v).len() + 1);
            let owners: Vec<_> = records(&version).iter().map(|r| r.owner.clone()).collect();
            assert!(!owners.contains(&owner("only-nsec.example.net")));
        }
        other => panic!("{other:#?}"),
    }
}

#[test]
fn limits_of_size_and_records() {
    let v = zone(&text(5, MORE), 1);
    let n = records(&v).len() as u64;
    let all = messages(&axfr(&v), Rtype::AXFR, &[2]);
    let octets: usize = all.iter().map(Vec::len).sum();
    let with = |max_size, max_records| {
        let options = ReadOptions {
            max_size,
            max_records,
            ..ReadOptions::default()
        };
        read(Reader::axfr(query(&Ask::Axfr, None), options), &all)
    };
    assert!(with(octets as u64, n).is_ok());
    assert_eq!(
        error(with(octets as u64 - 1, 0)),
        XfrError::TooLarge {
            limit: octets as u64 - 1
        }
    );
    assert_eq!(
        error(with(0, n - 1)),
        XfrError::TooManyRecords { limit: n - 1 }
    );
}

#[test]
fn checks_of_files_hold_for_transfers() {
    let v = zone(&text(5, MORE), 1);
    let mut all = axfr(&v);
    all.retain(|r| r.rtype != Rtype::NS);
    let got = read(axfr_reader(), &messages(&all, Rtype::AXFR, &[99])).unwrap();
    match applied(got, None).unwrap() {
        Outcome::Failed { report } => {
            assert!(
                report
                    .diagnostics
                    .kept
                    .iter()
                    .any(|d| d.code == Code::APEX_NS)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_older_serial_is_refused_unless_the_check_is_lowered() {
    let (old, new) = (zone(&text(4, ""), 1), zone(&text(5, MORE), 2));
    let stream = messages(&axfr(&old), Rtype::AXFR, &[99]);
    match applied(read(axfr_reader(), &stream).unwrap(), Some(&new)).unwrap() {
        Outcome::Failed { report } => {
            assert_eq!(
                report.diagnostics.kept.last().unwrap().code,
                Code::SERIAL_BACKWARD
            );
        }
        other => panic!("{other:?}"),
    }
    let mut checks = Checks::default();
    checks.set("serial-backward", Level::Warning).unwrap();
    let Received::Full(full) = read(axfr_reader(), &stream).unwrap() else {
        panic!()
    };
    let apex = apex();
    let outcome = apply(
        &request(&apex, &checks, Some(&new)),
        full,
        &SimClock::new(NOW),
    );
    assert!(same(&loaded(outcome), &old));
}

// ---- TSIG

fn signed_stream(n: usize, signed: impl Fn(usize) -> bool) -> Result<Received, XfrError> {
    let more: String = (0..n).map(|i| format!("h{i} A 192.0.2.7\n")).collect();
    let all = axfr(&zone(&text(5, &more), 1));
    let q = query(&Ask::Axfr, Some(&key()));
    let mut stream = messages(&all, Rtype::AXFR, &[1]);
    let last = stream.len() - 1;
    sign(&q, &mut stream, |i| signed(i) || i == last);
    read(Reader::axfr(q, ReadOptions::default()), &stream)
}

#[test]
fn at_most_99_unsigned_messages_between_two_signatures() {
    assert!(signed_stream(10, |_| true).is_ok());
    assert!(signed_stream(220, |i| i % 100 == 0).is_ok());
    assert_eq!(
        error(signed_stream(220, |i| i == 0 || i % 102 == 101)),
        XfrError::Tsig(TsigError::TooManyUnsigned)
    );
    // The first message has no predecessor to be covered with.
    assert_eq!(
        error(signed_stream(10, |i| i > 0)),
        XfrError::Tsig(TsigError::Unsigned)
    );
}

#[test]
fn the_last_message_is_signed_and_every_octet_is_covered() {
    let all = axfr(&zone(&text(5, MORE), 1));
    let q = query(&Ask::Axfr, Some(&key()));
    let reader = || Reader::axfr(q.clone(), ReadOptions::default());
    let mut stream = messages(&all, Rtype::AXFR, &[2]);
    sign(&q, &mut stream, |i| i != 2);
    let unsigned_last = {
        let mut s = messages(&all, Rtype::AXFR, &[2]);
        sign(&q, &mut s, |i| i == 0);
        s
    };
    assert!(read(reader(), &stream).is_ok());
    assert_eq!(error(read(reader(), &unsigned_last)), XfrError::UnsignedEnd);
    for (i, m) in stream.iter().enumerate() {
        for at in 0..m.len() {
            let mut bad = stream.clone();
            bad[i][at] ^= 0x01;
            // In names the case of a letter is no content, but it is signed too.
            assert!(read(reader(), &bad).is_err(), "message {i} octet {at}");
        }
    }
    // Dropped, repeated and swapped messages.
    for i in 1..stream.len() - 1 {
        let mut bad = stream.clone();
        bad.remove(i);
        assert!(read(reader(), &bad).is_err());
        let mut bad = stream.clone();
        bad.insert(i, stream[i].clone());
        assert!(read(reader(), &bad).is_err());
        let mut bad = stream.clone();
        bad.swap(i, i + 1);
        assert!(read(reader(), &bad).is_err());
    }
}

#[test]
fn unsigned_answers_to_signed_questions_are_not_believed() {
    let stream = messages(&axfr(&zone(&text(5, MORE), 1)), Rtype::AXFR, &[99]);
    let q = query(&Ask::Axfr, Some(&key()));
    let e = error(read(Reader::axfr(q, ReadOptions::default()), &stream));
    assert_eq!(e, XfrError::Tsig(TsigError::Unsigned));
}

// ---- IXFR

#[test]
fn ixfr_makes_what_axfr_would() {
    let a = zone(&text(5, MORE), 1);
    let b = zone(
        &text(
            6,
            "www A 192.0.2.2\nnew TXT \"n\"\nsub NS ns.sub\nns.sub A 192.0.2.10\n",
        ),
        2,
    );
    let c = zone(&text(8, "new 60 TXT \"n\"\nother CNAME new\n"), 3);
    for (chain, sequences) in [(vec![&a, &b], 1), (vec![&a, &b, &c], 2), (vec![&a, &c], 1)] {
        for size in [1, 2, 5, 99] {
            let stream = messages(&ixfr(&chain), Rtype::IXFR, &[size]);
            let got = read(ixfr_reader(&a), &stream).unwrap();
            match &got {
                Received::Delta(d) => assert_eq!(d.sequences, sequences),
                other => panic!("{other:?}"),
            }
            let made = loaded(applied(got, Some(&a)).unwrap());
            assert!(same(&made, chain.last().unwrap()));
        }
    }
}

#[test]
fn up_to_date_no_differences_and_whole_zones_are_told_apart() {
    let (a, b) = (zone(&text(5, MORE), 1), zone(&text(6, MORE), 2));
    let soa = |v: &ZoneVersion| messages(&axfr(v)[..1], Rtype::IXFR, &[1]);
    assert!(matches!(
        read(ixfr_reader(&a), &soa(&a)).unwrap(),
        Received::UpToDate(Serial(5))
    ));
    assert!(matches!(
        read(ixfr_reader(&b), &soa(&a)).unwrap(),
        Received::UpToDate(Serial(5))
    ));
    let mut reader = ixfr_reader(&a);
    assert_eq!(reader.message(&soa(&b)[0], NOW), Ok(Step::Perhaps));
    assert!(matches!(
        reader.finish().unwrap(),
        Received::NoDifferences(Serial(6))
    ));
    // A whole zone in answer to IXFR, also one record per message.
    for size in [1, 3, 99] {
        let stream = messages(&axfr(&b), Rtype::IXFR, &[size]);
        let got = read(ixfr_reader(&a), &stream).unwrap();
        assert!(matches!(got, Received::Full(_)));
        assert!(same(&loaded(applied(got, Some(&a)).unwrap()), &b));
    }
}

#[test]
fn sequences_must_lead_from_our_serial_to_the_one_announced() {
    let a = zone(&text(5, ""), 1);
    let b = zone(&text(6, "b A 192.0.2.2\n"), 2);
    let c = zone(&text(7, "b A 192.0.2.2\nc A 192.0.2.3\n"), 3);
    let one = |recs: &[Rec]| error(read(ixfr_reader(&a), &messages(recs, Rtype::IXFR, &[99])));
    // Begins elsewhere: taken for a whole zone, which has an SOA in its middle.
    assert!(matches!(one(&ixfr(&[&b, &c])), XfrError::OtherSoa { .. }));
    // The second sequence begins elsewhere.
    let mut gap = ixfr(&[&a, &b]);
    gap[0] = records(&c)[0].clone();
    gap.pop();
    gap.push(records(&a)[0].clone());
    assert_eq!(
        one(&gap),
        XfrError::SequenceStart {
            expected: Serial(6),
            got: Serial(5)
        }
    );
    // Backwards, and beyond the announced serial.
    let back = [
        records(&b)[0].clone(),
        records(&a)[0].clone(),
        records(&zone(&text(4, ""), 9))[0].clone(),
    ];
    assert_eq!(
        one(&back),
        XfrError::SequenceBack {
            from: Serial(5),
            to: Serial(4)
        }
    );
    let beyond = [
        records(&b)[0].clone(),
        records(&a)[0].clone(),
        records(&c)[0].clone(),
    ];
    assert!(matches!(one(&beyond), XfrError::OtherSoa { .. }));
    // Ends with another SOA than it began with; never ends.
    let mut other_end = ixfr(&[&a, &b]);
    *other_end.last_mut().unwrap() = records(&c)[0].clone();
    assert!(matches!(one(&other_end), XfrError::OtherSoa { .. }));
    let mut endless = ixfr(&[&a, &b]);
    endless.pop();
    assert!(matches!(one(&endless), XfrError::Cut { .. }));
}

#[test]
fn differences_that_do_not_fit_are_refused() {
    let a = zone(&text(5, MORE), 1);
    let b = zone(&text(6, "new A 192.0.2.2\n"), 2);
    let good = ixfr(&[&a, &b]);
    let with = |f: &dyn Fn(&mut Vec<Rec>)| {
        let mut recs = good.clone();
        f(&mut recs);
        let got = read(ixfr_reader(&a), &messages(&recs, Rtype::IXFR, &[99])).unwrap();
        applied(got, Some(&a)).map(|_| ()).unwrap_err()
    };
    let absent = Rec {
        rdata: vec![192, 0, 2, 77],
        ..good.iter().find(|r| r.rtype == Rtype::A).unwrap().clone()
    };
    let e = with(&|r| r.insert(2, absent.clone()));
    assert!(
        matches!(
            e,
            XfrError::Absent {
                rtype: Rtype::A,
                ..
            }
        ),
        "{e}"
    );
    let present = records(&a)[1].clone();
    let e = with(&|r| r.insert(r.len() - 1, present.clone()));
    assert!(
        matches!(
            e,
            XfrError::Present {
                rtype: Rtype::NS,
                ..
            }
        ),
        "{e}"
    );
    // The same serial, but the SOA of another zone: the copies differ.
    let e = with(&|r| {
        let at = r[1].rdata.len() - 1;
        r[1].rdata[at] ^= 1;
    });
    assert!(
        matches!(
            e,
            XfrError::Absent {
                rtype: Rtype::SOA,
                ..
            }
        ),
        "{e}"
    );
}

#[test]
fn a_ttl_or_a_spelling_changes_by_removing_and_adding() {
    let a = zone(
        &text(5, "www 300 A 192.0.2.2\nm MX 10 Mail\nmail A 192.0.2.4\n"),
        1,
    );
    let b = zone(
        &text(6, "www 60 A 192.0.2.2\nm MX 10 mail\nmail A 192.0.2.4\n"),
        2,
    );
    // One record a message: a compressed name takes the spelling of what it points to.
    let got = read(
        ixfr_reader(&a),
        &messages(&ixfr(&[&a, &b]), Rtype::IXFR, &[1]),
    )
    .unwrap();
    assert!(same(&loaded(applied(got, Some(&a)).unwrap()), &b));
}

#[test]
fn checks_run_on_the_owners_that_differences_touch() {
    let a = zone(&text(5, "www CNAME ns1\n"), 1);
    let outcome = |more: &str, tamper: &dyn Fn(&mut Vec<Rec>)| {
        let b = zone(&text(6, more), 2);
        let mut recs = ixfr(&[&a, &b]);
        tamper(&mut recs);
        let got = read(ixfr_reader(&a), &messages(&recs, Rtype::IXFR, &[99])).unwrap();
        applied(got, Some(&a)).unwrap()
    };
    let codes =
        |o: &Outcome| -> Vec<Code> { o.report().diagnostics.kept.iter().map(|d| d.code).collect() };
    // An address beside the CNAME.
    let o = outcome("www CNAME ns1\n", &|r| {
        let extra = Rec {
            owner: Name::parse("www.example.net").unwrap().as_wire().to_vec(),
            rtype: Rtype::A,
            ttl: 300,
            rdata: vec![192, 0, 2, 9],
        };
        r.insert(r.len() - 1, extra);
    });
    assert!(matches!(o, Outcome::Failed { .. }));
    assert_eq!(codes(&o), [Code::CNAME_CONFLICT]);
    // A delegation without glue is a warning.
    let o = outcome("www CNAME ns1\nsub NS ns.sub\n", &|_| {});
    assert_eq!(codes(&o), [Code::MISSING_GLUE]);
    assert_eq!(o.report().kind, "IXFR (1 sequence)");
    let delta = o.report().delta.unwrap();
    assert_eq!((delta.owners_added, delta.owners_changed), (1, 1));
    assert!(matches!(o, Outcome::Loaded { .. }));
}

#[test]
fn serials_wrap() {
    let a = zone(&text(u32::MAX, ""), 1);
    let b = zone(&text(3, "b A 192.0.2.2\n"), 2);
    let got = read(
        ixfr_reader(&a),
        &messages(&ixfr(&[&a, &b]), Rtype::IXFR, &[99]),
    )
    .unwrap();
    assert!(same(&loaded(applied(got, Some(&a)).unwrap()), &b));
    // 2^31 apart is not newer: an SOA alone is then "up to date", and a chain is refused.
    let far = zone(&text((1 << 31) - 1, ""), 3);
    let soa = messages(&axfr(&far)[..1], Rtype::IXFR, &[1]);
    assert!(matches!(
        read(ixfr_reader(&a), &soa).unwrap(),
        Received::UpToDate(_)
    ));
}

// ---- SOA

fn soa_answer(flags: u16, id: u16, records: &[Rec], ttl_opt: Option<&[u8]>) -> Vec<u8> {
    let mut msg = Vec::new();
    let mut c = Composer::new(&mut msg, 65_535, id, flags);
    c.question(apex().as_wire(), Rtype::SOA, 1);
    for r in records {
        c.record(Section::Answer, &r.owner, r.rtype, r.ttl, &r.rdata)
            .unwrap();
    }
    if let Some(options) = ttl_opt {
        c.record_with(Section::Additional, &[0], Rtype::OPT, 1232, 0, |out| {
            out.extend_from_slice(options)
        })
        .unwrap();
    }
    c.finish();
    msg
}

#[test]
fn probes_are_read() {
    let v = zone(&text(5, ""), 1);
    let soa = &records(&v)[..1];
    let cookie = *b"12345678";
    let q = query(&Ask::Soa { edns: Some(cookie) }, None);
    let ok = flag::QR | flag::AA;
    let mut options = vec![0, 9, 0, 4, 0, 0, 1, 0, 0, 10, 0, 16];
    options.extend_from_slice(&cookie);
    options.extend_from_slice(b"theirs--");
    let answer = q.probe(&soa_answer(ok, ID, soa, Some(&options)), NOW);
    let Ok(ProbeAnswer::Soa(p)) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!((p.serial, p.expire), (Serial(5), Some(256)));
    options[12] ^= 1;
    let no = |m: Vec<u8>| q.probe(&m, NOW).unwrap_err();
    assert_eq!(
        no(soa_answer(ok, ID, soa, Some(&options))),
        XfrError::WrongId
    );
    assert_eq!(no(soa_answer(ok, ID + 1, soa, None)), XfrError::WrongId);
    assert_eq!(
        no(soa_answer(flag::QR, ID, soa, None)),
        XfrError::NotAuthoritative
    );
    assert_eq!(no(soa_answer(ok, ID, &[], None)), XfrError::NoSoa);
    assert_eq!(
        no(soa_answer(ok | 5, ID, soa, None)),
        XfrError::Rcode { rcode: 5 }
    );
    let twice = [soa[0].clone(), records(&zone(&text(6, ""), 1))[0].clone()];
    assert_eq!(no(soa_answer(ok, ID, &twice, None)), XfrError::NoSoa);
    let other = [Rec {
        owner: Name::parse("www.example.net").unwrap().as_wire().to_vec(),
        ..soa[0].clone()
    }];
    assert_eq!(no(soa_answer(ok, ID, &other, None)), XfrError::NoSoa);
    assert_eq!(
        q.probe(&soa_answer(ok | flag::TC, ID, &[], None), NOW),
        Ok(ProbeAnswer::Truncated)
    );
}

#[test]
fn signed_probes() {
    let v = zone(&text(5, ""), 1);
    let q = query(&Ask::Soa { edns: None }, Some(&key()));
    let plain = soa_answer(flag::QR | flag::AA, ID, &records(&v)[..1], None);
    let mut signed = [plain.clone()];
    sign(&q, &mut signed, |_| true);
    assert!(q.probe(&signed[0], NOW).is_ok());
    // A forgery before the answer does not spoil the question.
    assert_eq!(
        q.probe(&plain, NOW),
        Err(XfrError::Tsig(TsigError::Unsigned))
    );
    assert!(q.probe(&signed[0], NOW).is_ok());
    let late = NOW + std::time::Duration::from_secs(301);
    assert_eq!(
        q.probe(&signed[0], late),
        Err(XfrError::Tsig(TsigError::BadTime))
    );
}

#[test]
fn decisions_follow_serial_arithmetic() {
    let d = |s: u32, c: u32| decide(Serial(s), Some(Serial(c)));
    assert_eq!(decide(Serial(0), None), Decision::Transfer);
    assert_eq!(d(6, 5), Decision::Transfer);
    assert_eq!(d(5, 5), Decision::UpToDate);
    assert_eq!(d(4, 5), Decision::WentBack);
    assert_eq!(d(0, u32::MAX), Decision::Transfer);
    assert_eq!(d(1 << 31, 0), Decision::WentBack);
}

// ---- any stream

/// A small zone from a few numbers: which hosts there are, with what.
fn random_zone(serial: u32, hosts: &[(u8, u8)], version: u64) -> ZoneVersion {
    let mut more = String::new();
    for (i, (kind, value)) in hosts.iter().enumerate() {
        more += &match kind % 5 {
            0 => format!("h{i} A 192.0.2.{value}\n"),
            1 => format!("h{i} A 192.0.2.{value}\nh{i} A 198.51.100.{value}\n"),
            2 => format!("d{i} NS ns.d{i}\nns.d{i} A 192.0.2.{value}\n"),
            3 => format!("a.b.h{i} {} TXT \"{value}\"\n", 60 + value % 2),
            _ => String::new(),
        };
    }
    zone(&text(serial, &more), version)
}

fn hosts() -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::vec((any::<u8>(), 0u8..4), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_chain_of_differences_equals_the_last_zone(
        all in prop::collection::vec(hosts(), 2..5),
        sizes in prop::collection::vec(1usize..9, 1..4),
        wrap: bool,
    ) {
        let base = if wrap { u32::MAX - 1 } else { 7 };
        let versions: Vec<ZoneVersion> = all
            .iter()
            .enumerate()
            .map(|(i, h)| random_zone(base.wrapping_add(i as u32), h, i as u64 + 1))
            .collect();
        let chain: Vec<&ZoneVersion> = versions.iter().collect();
        let stream = messages(&ixfr(&chain), Rtype::IXFR, &sizes);
        let got = read(ixfr_reader(chain[0]), &stream).unwrap();
        let made = loaded(applied(got, Some(chain[0])).unwrap());
        prop_assert!(same(&made, versions.last().unwrap()));
        // Every cut between messages is noticed.
        for n in 0..stream.len() {
            let cut = read(ixfr_reader(chain[0]), &stream[..n]);
            // The announcement alone is a whole answer: "no differences".
            let alone = n == 1 && sizes[0] == 1;
            prop_assert!(cut.is_err() || alone);
        }
    }

    #[test]
    fn damage_is_refused_or_leads_to_a_checked_zone(
        hosts in hosts(), at: prop::sample::Index, flip in 1u8..=255, sizes in prop::collection::vec(1usize..9, 1..3),
    ) {
        // Without TSIG nobody can tell a changed address from a true one; but no damage panics,
        // none changes the number of records, and none changes the serial alone.
        let v = random_zone(7, &hosts, 1);
        let mut stream = messages(&axfr(&v), Rtype::AXFR, &sizes);
        let i = at.index(stream.len());
        let m = &mut stream[i];
        let octet = at.index(m.len());
        m[octet] ^= flip;
        if let Ok(got) = read(axfr_reader(), &stream) {
            let Received::Full(full) = &got else { panic!() };
            prop_assert_eq!(full.tally.records as usize, records(&v).len());
            let _ = applied(got, Some(&v));
        }
    }

    #[test]
    fn garbage_never_panics(msgs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 1..4), tamper: bool) {
        let v = zone(&text(5, ""), 1);
        let mut msgs = msgs;
        if tamper {
            // As an answer to us, so that the garbage gets further.
            for m in &mut msgs {
                let mut head = messages(&axfr(&v)[..1], Rtype::AXFR, &[1]).remove(0);
                head[7] = 9;
                head.extend_from_slice(m);
                *m = head;
            }
        }
        prop_assert!(read(axfr_reader(), &msgs).is_err());
        let _ = read(ixfr_reader(&v), &msgs);
        let _ = query(&Ask::Soa { edns: None }, None).probe(&msgs[0], NOW);
    }
}

// ---- ZONEMD

/// The records with a ZONEMD record after the SOA.
fn with_digest(all: &[Rec]) -> Vec<Rec> {
    use cascade_crypto::ZonemdHash;
    let mut received = crate::zonemd::AsReceived::default();
    for r in &all[..all.len() - 1] {
        let key = cascade_zone::key::key_of(&apex(), &r.owner).unwrap();
        crate::sink::RecordSink::owner(&mut received, &key, None);
        received.push(r.rtype, r.ttl, &r.rdata);
    }
    let digest = crate::zonemd::digest_of(&apex(), &[received], ZonemdHash::Sha384);
    let serial = cascade_zone::SoaFields::parse(&all[0].rdata)
        .unwrap()
        .serial;
    let mut out = all.to_vec();
    out.insert(
        1,
        Rec {
            rtype: Rtype::ZONEMD,
            rdata: ZonemdHash::Sha384.rdata(serial, &digest),
            ..all[0].clone()
        },
    );
    out
}

/// What a whole zone is taken for when its digest is asked for.
fn digested(all: &[Rec], ixfr: bool, zonemd: ZonemdCheck) -> Outcome {
    let options = ReadOptions {
        zonemd,
        max_ttl: Some(60),
        ..ReadOptions::default()
    };
    let old = zone(&text(1, ""), 1);
    let (apex, checks) = (apex(), Checks::default());
    let ask = Ask::Ixfr {
        soa_ttl: old.soa_ttl(),
        soa: old.soa(),
    };
    let (reader, rtype) = match ixfr {
        true => (
            Reader::ixfr(query(&ask, None), old.serial(), options),
            Rtype::IXFR,
        ),
        false => (Reader::axfr(query(&Ask::Axfr, None), options), Rtype::AXFR),
    };
    let Received::Full(full) = read(reader, &messages(all, rtype, &[3])).unwrap() else {
        panic!("no whole zone");
    };
    let request = XfrRequest {
        zonemd,
        ..request(&apex, &checks, None)
    };
    crate::xfr::apply(&request, full, &SimClock::new(NOW))
}

#[test]
fn a_transfer_is_compared_with_its_digest() {
    let v = zone(&text(5, MORE), 1);
    let plain = axfr(&v);
    let good = with_digest(&plain);
    for ixfr in [false, true] {
        for check in [ZonemdCheck::IfPresent, ZonemdCheck::Required] {
            let outcome = digested(&good, ixfr, check);
            assert!(matches!(outcome, Outcome::Loaded { .. }), "{outcome:#?}");
            assert!(outcome.report().zonemd.starts_with("verified"));
            // A record that a signer drops is one that was digested all the same.
            let mut other = good.clone();
            other.insert(
                2,
                Rec {
                    rtype: Rtype::NSEC3PARAM,
                    rdata: vec![1, 0, 0, 0, 0],
                    ..good[0].clone()
                },
            );
            let outcome = digested(&other, ixfr, check);
            assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:#?}");
            let report = outcome.report();
            assert_eq!(report.zonemd, "failed");
            let codes: Vec<Code> = report.diagnostics.kept.iter().map(|d| d.code).collect();
            assert!(codes.contains(&Code::ZONEMD), "{codes:?}");
        }
        let outcome = digested(&plain, ixfr, ZonemdCheck::IfPresent);
        assert_eq!(outcome.report().zonemd, "absent");
        let outcome = digested(&plain, ixfr, ZonemdCheck::Required);
        assert!(matches!(outcome, Outcome::Failed { .. }));
        let outcome = digested(&good, ixfr, ZonemdCheck::Off);
        assert_eq!(outcome.report().zonemd, "skipped");
    }
}
