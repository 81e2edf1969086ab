//! A zone that comes signed: what another signer made comes out as it went in, or is refused by
//! name.
#![allow(clippy::unwrap_used)]

mod kit;

use cascade_crypto::Class;
use cascade_crypto::dnskey::Role;
use cascade_signer::{AdoptError, DenialPlan, Job, Progress, Signed, SourceRecord, adopt};
use cascade_time::SimClock;
use cascade_zone::{Name, Rtype, VersionId, ZoneVersion, key};
use kit::{Rec, build, keys, name, now, nsec3, plan, records, run, zone};

const ZONE: &str = "@ SOA ns u 5 60 30 86400 300
    @ NS ns
    ns A 192.0.2.1
    ns AAAA 2001:db8::9
    *.wild 60 TXT \"w\"
    a.b.c TXT \"deep\"
    sub NS ns.sub
    ns.sub A 192.0.2.2
    safe NS ns
    safe DS 1 13 2 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
    d DNAME other.
    x.d A 192.0.2.3
    Mixed.Case MX 10 ns";

/// What a source that is signed like this consists of: the version without DNSSEC, and the rest.
fn source(all: &[Rec], apex: &Name) -> (ZoneVersion, Vec<SourceRecord>) {
    let (mut plain, mut dnssec) = (Vec::new(), Vec::new());
    for r in all {
        let owner = Name::from_wire(&r.owner).unwrap();
        let k = key::key_of(apex, owner.as_wire()).unwrap();
        let ours = r.rtype.is_denial_or_signature() || k.is_empty() && r.rtype.is_signer_apex();
        match ours {
            true => dnssec.push(SourceRecord {
                key: k,
                rtype: r.rtype,
                ttl: r.ttl,
                rdata: r.rdata.clone(),
            }),
            false => plain.push((owner, r.rtype, r.ttl, r.rdata.clone())),
        }
    }
    (build(apex, &plain), dnssec)
}

fn take(base: &ZoneVersion, dnssec: &[SourceRecord]) -> Result<Signed, AdoptError> {
    let pool = rayon::ThreadPoolBuilder::new().build().unwrap();
    let (clock, progress) = (SimClock::new(now()), Progress::new());
    let job = Job {
        pool: &pool,
        clock: &clock,
        progress: &progress,
        class: Class::Normal,
        token_wait: std::time::Duration::ZERO,
    };
    adopt(base, dnssec, VersionId(9), now(), &job, now())
}

fn signed(denial: DenialPlan) -> (Name, Vec<Rec>) {
    let base = zone("example.", ZONE);
    let all = keys(&[("13", Role::Ksk), ("13", Role::Zsk)]);
    let made = run(&base, &plan(&base, &all, denial));
    (name("example."), records(&made.version))
}

#[test]
fn what_goes_in_comes_out() {
    let salted = DenialPlan::Nsec3 {
        iterations: 3,
        salt: vec![0xab, 1],
        opt_out: false,
    };
    for denial in [DenialPlan::Nsec, nsec3(false), nsec3(true), salted] {
        let (apex, all) = signed(denial.clone());
        let (base, dnssec) = source(&all, &apex);
        let done = take(&base, &dnssec).unwrap();
        assert_eq!(records(&done.version), all, "{denial:?}");
        assert_eq!(done.version.serial(), base.serial());
        assert_eq!(done.version.unsigned_id(), base.id());
        let rrsigs = all.iter().filter(|r| r.rtype == Rtype::RRSIG).count() as u64;
        assert_eq!((done.report.signatures, done.report.kept), (0, rrsigs));
    }
}

#[test]
fn two_algorithms_and_hundreds_of_names() {
    let mut text = ZONE.to_string();
    for n in 0..700 {
        text += &format!("\n    h{n} A 192.0.2.{}", n % 250);
    }
    let base = zone("example.", &text);
    let all = keys(&[("13", Role::Csk), ("15", Role::Csk)]);
    for denial in [DenialPlan::Nsec, nsec3(false)] {
        let made = run(&base, &plan(&base, &all, denial));
        let all = records(&made.version);
        let (base, dnssec) = source(&all, base.apex());
        assert_eq!(records(&take(&base, &dnssec).unwrap().version), all);
    }
}

fn refused(base: &ZoneVersion, dnssec: &[SourceRecord]) -> String {
    take(base, dnssec).expect_err("refused").to_string()
}

#[test]
fn what_cannot_be_passed_on_is_refused_by_name() {
    let (apex, all) = signed(DenialPlan::Nsec);
    let (base, good) = source(&all, &apex);
    let without =
        |t: Rtype| -> Vec<SourceRecord> { good.iter().filter(|r| r.rtype != t).cloned().collect() };
    assert!(refused(&base, &[]).contains("no DNSKEY RRset"));
    assert!(refused(&base, &without(Rtype::DNSKEY)).contains("no DNSKEY RRset"));
    assert!(refused(&base, &without(Rtype::NSEC)).contains("no NSEC or NSEC3"));
    let edit = |rtype: Rtype, change: &dyn Fn(&mut SourceRecord)| {
        let mut list = good.clone();
        change(list.iter_mut().rfind(|r| r.rtype == rtype).unwrap());
        refused(&base, &list)
    };
    let nsec = edit(Rtype::NSEC, &|r| *r.rdata.last_mut().unwrap() ^= 0x40);
    assert!(
        nsec.contains("NSEC records of the source do not fit"),
        "{nsec}"
    );
    assert!(edit(Rtype::NSEC, &|r| r.ttl += 1).contains("differ in TTL"));
    // RRSIG: covered 0..2, algorithm 2, labels 3, original TTL 4..8, key tag 16..18.
    let tag = edit(Rtype::RRSIG, &|r| r.rdata[16] ^= 1);
    assert!(tag.contains("is not in the source's DNSKEY RRset"), "{tag}");
    let ttl = edit(Rtype::RRSIG, &|r| r.rdata[7] ^= 1);
    assert!(ttl.contains("its RRSIG was made for"), "{ttl}");
    let over = edit(Rtype::RRSIG, &|r| r.rdata[..2].copy_from_slice(&[0, 99]));
    assert!(over.contains("nothing of that type"), "{over}");
    let short = edit(Rtype::RRSIG, &|r| r.rdata.truncate(30));
    assert!(short.contains("cannot be read"), "{short}");
    let mut twice = good.clone();
    twice.push(
        good.iter()
            .find(|r| r.rtype == Rtype::RRSIG)
            .unwrap()
            .clone(),
    );
    assert!(refused(&base, &twice).contains("has two RRSIGs over"));
    let mut both = good.clone();
    both.push(SourceRecord {
        key: b"a\0".to_vec(),
        rtype: Rtype::NSEC3,
        ttl: 1,
        rdata: vec![1, 0],
    });
    assert!(refused(&base, &both).contains("both NSEC and NSEC3"));
    // One NSEC too many: of a name that is not there.
    let mut more = good.clone();
    let mut extra = good
        .iter()
        .find(|r| r.rtype == Rtype::NSEC)
        .unwrap()
        .clone();
    extra.key = b"zzz\0".to_vec();
    more.push(extra);
    assert!(refused(&base, &more).contains("see zzz.example"));
}

#[test]
fn no_octets_make_it_panic() {
    let (apex, all) = signed(nsec3(true));
    let (base, good) = source(&all, &apex);
    for (i, r) in good.iter().enumerate().step_by(3) {
        for cut in 0..r.rdata.len().min(60) {
            let mut list = good.clone();
            list[i].rdata.truncate(cut);
            assert!(
                take(&base, &list).is_err() || cut >= 45,
                "{r:?} cut to {cut}"
            );
        }
    }
}
