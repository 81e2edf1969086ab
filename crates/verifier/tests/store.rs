//! The gate over real versions of the zone store, signed by the reference signer.

// Helpers of tests: a panic is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
use std::collections::HashMap;

use cascade_time::Timestamp;
use cascade_verifier::{
    Approval, Approved, Check, DespiteVerification, Mode, NotReadmitted, Outcome, Params,
    Predecessor, Source, StoreDelta, Verdict, fingerprint_seed, readmit, verify_changed,
    verify_full,
};
use cascade_zone::ZoneVersion;
use common::random::*;
use common::stored::*;
use common::*;
use proptest::prelude::*;

fn params<'a>(approved: Option<&'a dyn Source>) -> Params<'a> {
    let mut p = Params::file();
    p.fingerprint_seed = fingerprint_seed(ZONE);
    p.approved = approved;
    p
}

fn passed(outcome: &Outcome<&ZoneVersion>, mode: Mode) -> bool {
    assert_eq!(outcome.report().mode, mode);
    outcome.report().verdict == Verdict::Passed
}

#[test]
fn versions_of_the_store_pass_in_both_modes() {
    for (chain, two) in [
        (Chain::Nsec, false),
        (Chain::nsec3(), false),
        (Chain::opt_out(), true),
    ] {
        let s = Signer::new(chain, two);
        // Enough owners for several leaves.
        let mut content = unsigned();
        content.extend((0..1500).map(|i| {
            r(
                &format!("host{i}.many.example"),
                A,
                300,
                [10, 0, (i >> 8) as u8, i as u8],
            )
        }));
        let (u1, v1) = store(&s, &content, 1, None);
        assert!(v1.unit_count() > 4, "{}", v1.unit_count());
        let first = verify_full(&v1, &params(Some(&u1)), now());
        assert!(passed(&first, Mode::Full), "{}", first.report().text());
        let ledger = first.verified().unwrap().ledger().unwrap().clone();

        let mut changed = content.clone();
        changed[0] = soa(8);
        changed
            .retain(|r| r.owner != n("host300.many.example") && r.owner != n("z.b.c.ent.example"));
        changed.push(r("new.example", NS, 3600, n("ns.elsewhere.test")));
        changed.push(r("many.example", TXT, 3600, b"\x01x"));
        let (u2, v2) = store(&s, &changed, 2, Some(&u1));
        let delta = StoreDelta { old: &v1, new: &v2 };
        let unsigned_delta = StoreDelta { old: &u1, new: &u2 };
        let before = Predecessor {
            version: &v1,
            ledger: &ledger,
            delta: &delta,
            unsigned_delta: Some(&unsigned_delta),
        };
        // P-256 signatures differ from run to run, so only the other zones have a small delta.
        let outcome = verify_changed(&v2, &before, &params(Some(&u2)), now());
        assert!(
            passed(&outcome, Mode::Changed),
            "{}",
            outcome.report().text()
        );
        if !two {
            assert!(outcome.report().counts.signatures_checked < 20);
        }
        let full = verify_full(&v2, &params(Some(&u2)), now());
        assert!(passed(&full, Mode::Full), "{}", full.report().text());
        let (Outcome::Verified(a), Outcome::Verified(b)) = (&outcome, &full) else {
            panic!()
        };
        assert_eq!(a.ledger(), b.ledger());
        assert_eq!(
            full.report().earliest_expiration.unwrap().secs() / 3600,
            v2.earliest_expiration().unwrap().secs() / 3600
        );

        // Content that was not approved.
        let wrong = verify_changed(&v2, &before, &params(Some(&u1)), now());
        assert!(wrong.report().has(Check::V19), "{}", wrong.report().text());
    }
}

#[test]
fn admission_and_override() {
    let s = Signer::new(Chain::nsec3(), false);
    let (u1, v1) = store(&s, &unsigned(), 1, None);
    let verified = verify_full(&v1, &params(Some(&u1)), now())
        .verified()
        .unwrap();
    let (ledger, report) = (
        verified.ledger().unwrap().clone(),
        verified.report().clone(),
    );
    let approval = Approval {
        by: "policy".into(),
        at: now(),
        comment: None,
    };
    let approved = Approved::new(verified, approval.clone());
    assert_eq!(approved.approval(), Some(&approval));
    assert!(approved.despite_verification().is_none());

    assert!(readmit(&v1, ledger.clone(), report.clone()).is_ok());
    let mut c = unsigned();
    find(&mut c, "www.example", A).rdata[3] = 77;
    let (_, other) = store(&s, &c, 2, None);
    assert_eq!(
        readmit(&other, ledger.clone(), report.clone())
            .unwrap_err()
            .1,
        NotReadmitted::Fingerprint
    );
    let mut tampered = ledger.clone();
    tampered.dnskey.0[0] ^= 1;
    assert_eq!(
        readmit(&v1, tampered, report.clone()).unwrap_err().1,
        NotReadmitted::Dnskey
    );

    let late = Timestamp::from_secs(NOW + 30 * DAY as i64);
    let Outcome::Refused(refused) = verify_full(&v1, &params(None), late) else {
        panic!()
    };
    assert_eq!(
        readmit(&v1, ledger, refused.report().clone())
            .unwrap_err()
            .1,
        NotReadmitted::NotPassed
    );
    let despite = DespiteVerification {
        by: "jane".into(),
        reason: "clock".into(),
        at: late,
    };
    let approved = Approved::despite(refused, despite.clone());
    assert_eq!(approved.despite_verification(), Some(&despite));
    assert!(approved.inner().ledger().is_none());
    assert!(approved.approval().is_none());
}

/// What `at` and the neighbours give is what the units give.
fn check_lookups(v: &ZoneVersion) {
    let mut owners: Vec<Vec<u8>> = Vec::new();
    let mut records: HashMap<Vec<u8>, Vec<R>> = HashMap::new();
    let own = |rr: cascade_verifier::Rr<'_>| R {
        owner: rr.owner.to_vec(),
        rtype: rr.rtype,
        ttl: rr.ttl,
        rdata: rr.rdata.to_vec(),
    };
    for i in 0..Source::unit_count(v) {
        Source::unit(v, i, &mut |rr| {
            if owners.last().is_none_or(|o| o != rr.owner) {
                owners.push(rr.owner.to_vec());
            }
            records.entry(rr.owner.to_vec()).or_default().push(own(rr));
        });
    }
    let mut out = Vec::new();
    for (i, o) in owners.iter().enumerate() {
        let mut found = Vec::new();
        v.at(o, &mut |rr| found.push(own(rr)));
        found.sort();
        records.get_mut(o).unwrap().sort();
        assert_eq!(&found, &records[o]);
        assert_eq!(
            v.next_owner(o, &mut out).then(|| out.clone()),
            owners.get(i + 1).cloned()
        );
        assert_eq!(
            v.previous_owner(o, &mut out).then(|| out.clone()),
            i.checked_sub(1).map(|i| owners[i].clone())
        );
    }
    let (mut hashed, mut records): (Vec<Vec<u8>>, HashMap<Vec<u8>, Vec<R>>) = Default::default();
    for i in 0..Source::block_count(v) {
        v.block(i, &mut |rr| {
            if hashed.last().is_none_or(|o| o != rr.owner) {
                hashed.push(rr.owner.to_vec());
            }
            records.entry(rr.owner.to_vec()).or_default().push(own(rr));
        });
    }
    let end = [vec![1, b'w'], n("example")].concat();
    assert_eq!(
        v.next_hashed(&n("example"), &mut out).then(|| out.clone()),
        hashed.first().cloned()
    );
    assert_eq!(
        v.previous_hashed(&end, &mut out).then(|| out.clone()),
        hashed.last().cloned()
    );
    for (i, o) in hashed.iter().enumerate() {
        let mut found = Vec::new();
        v.hashed_at(o, &mut |rr| found.push(own(rr)));
        assert_eq!(&found, &records[o]);
        assert_eq!(
            v.next_hashed(o, &mut out).then(|| out.clone()),
            hashed.get(i + 1).cloned()
        );
        assert_eq!(
            v.previous_hashed(o, &mut out).then(|| out.clone()),
            i.checked_sub(1).map(|i| hashed[i].clone())
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn store_and_list_agree(before in spots(12), added in spots(5), chain in chain()) {
        let s = Signer::new(chain, false);
        let (u1, v1) = store(&s, &zone_of(&before, 7), 1, None);
        check_lookups(&v1);
        let first = verify_full(&v1, &params(Some(&u1)), now());
        prop_assert!(passed(&first, Mode::Full), "{}", first.report().text());
        let ledger = first.verified().unwrap().ledger().unwrap().clone();
        let after: Vec<Spot> = before.into_iter().skip(2).chain(added).collect();
        let (u2, v2) = store(&s, &zone_of(&after, 8), 2, Some(&u1));
        let delta = StoreDelta { old: &v1, new: &v2 };
        let unsigned_delta = StoreDelta { old: &u1, new: &u2 };
        let step = Predecessor { version: &v1, ledger: &ledger, delta: &delta, unsigned_delta: Some(&unsigned_delta) };
        let outcome = verify_changed(&v2, &step, &params(Some(&u2)), now());
        prop_assert!(passed(&outcome, Mode::Changed), "{}", outcome.report().text());
        let full = verify_full(&v2, &params(Some(&u2)), now()).verified().unwrap();
        let changed = outcome.verified().unwrap();
        prop_assert_eq!(changed.ledger(), full.ledger());
    }
}
