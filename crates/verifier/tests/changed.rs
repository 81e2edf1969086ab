//! Changed mode says what full mode says, and keeps the same ledger.

// Helpers of tests: a panic is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
use cascade_verifier::{
    Check, Delta, Ledger, Mode, Outcome, Params, Predecessor, RecordList, Rr, Verdict,
    verify_changed,
};
use common::random::*;
use common::*;
use proptest::prelude::*;

/// Difference of two lists; `true` = only the older has it.
struct Changes(Vec<(bool, R)>);

impl Changes {
    fn between(old: &[R], new: &[R]) -> Changes {
        let mut out: Vec<(bool, R)> = Vec::new();
        let mut rest = new.to_vec();
        for r in old {
            match rest.iter().position(|x| x == r) {
                Some(i) => {
                    rest.swap_remove(i);
                }
                None => out.push((true, r.clone())),
            }
        }
        out.extend(rest.into_iter().map(|r| (false, r)));
        out.sort_by_key(|(_, r)| order(&r.owner));
        Changes(out)
    }
}

impl Delta for Changes {
    fn for_each(&self, f: &mut dyn FnMut(bool, Rr<'_>)) {
        for (removed, r) in &self.0 {
            f(*removed, rr(r));
        }
    }
}

fn ledger_of(zone: &[R]) -> Ledger {
    let outcome = verify(zone, &Params::file());
    let text = outcome.report().text();
    outcome
        .verified()
        .unwrap_or_else(|| panic!("{text}"))
        .ledger()
        .unwrap()
        .clone()
}

fn judge(old: &[R], new: &[R], delta: &Changes, params: &Params<'_>) -> Outcome<RecordList> {
    let (version, ledger) = (list(old), ledger_of(old));
    let before = Predecessor {
        version: &version,
        ledger: &ledger,
        delta,
        unsigned_delta: None,
    };
    verify_changed(list(new), &before, params, now())
}

/// Both modes, and that they agree.
#[track_caller]
fn both(old: &[R], new: &[R]) -> Outcome<RecordList> {
    let changed = judge(old, new, &Changes::between(old, new), &Params::file());
    let full = verify(new, &Params::file());
    assert_eq!(changed.report().mode, Mode::Changed);
    assert_eq!(
        changed.report().verdict,
        full.report().verdict,
        "changed:\n{}full:\n{}",
        changed.report().text(),
        full.report().text()
    );
    if let (Outcome::Verified(c), Outcome::Verified(f)) = (&changed, &full) {
        assert_eq!(c.ledger(), f.ledger());
    }
    changed
}

#[test]
fn small_changes_cost_little() {
    for chain in [Chain::Nsec, Chain::nsec3(), Chain::opt_out()] {
        let s = Signer::new(chain.clone(), false);
        let old = s.sign(&unsigned());
        let mut c = unsigned();
        c[0] = soa(8);
        find(&mut c, "www.example", A).rdata[3] = 99;
        let outcome = both(&old, &s.sign(&c));
        assert_eq!(outcome.report().verdict, Verdict::Passed);
        // SOA and www A.
        assert_eq!(outcome.report().counts.signatures_checked, 2, "{chain:?}");
    }
}

#[test]
fn wrong_deltas() {
    let s = Signer::new(Chain::Nsec, false);
    let old = s.sign(&unsigned());
    let mut c = unsigned();
    c[0] = soa(8);
    find(&mut c, "www.example", A).rdata[3] = 99;
    let new = s.sign(&c);
    let right = Changes::between(&old, &new);
    for i in 0..right.0.len() {
        // 52: one item omitted.
        let mut delta = Changes(right.0.clone());
        delta.0.remove(i);
        let report = judge(&old, &new, &delta, &Params::file()).report().clone();
        assert!(
            report.verdict == Verdict::Refused && report.has(Check::V21),
            "{}",
            report.text()
        );
    }
    // 53: an addition of what was there; and of what is nowhere.
    for extra in [
        old.iter()
            .find(|r| r.owner == n("mail.example"))
            .unwrap()
            .clone(),
        r("new.example", A, 1, [1, 2, 3, 4]),
    ] {
        for removed in [false, true] {
            let mut delta = Changes(right.0.clone());
            delta.0.push((removed, extra.clone()));
            let report = judge(&old, &new, &delta, &Params::file()).report().clone();
            assert!(report.has(Check::V21), "{}", report.text());
        }
    }
    // The whole owner omitted: only the sums can tell.
    let mut delta = Changes(right.0.clone());
    delta.0.retain(|(_, r)| r.owner != n("www.example"));
    assert!(
        judge(&old, &new, &delta, &Params::file())
            .report()
            .has(Check::V21)
    );
}

#[test]
fn occlusion_is_not_taken_from_the_delta() {
    for chain in [Chain::Nsec, Chain::nsec3(), Chain::opt_out()] {
        let s = Signer::new(chain, false);
        let old = s.sign(&unsigned());
        for (rtype, target) in [(NS, n("ns.elsewhere.test")), (DNAME, n("elsewhere.test"))] {
            let mut c = unsigned();
            c[0] = soa(8);
            c.push(r("ent.example", rtype, 3600, target));
            let good = s.sign(&c);
            assert_eq!(both(&old, &good).report().verdict, Verdict::Passed);
            // 56: the signatures of what is occluded now are kept.
            let mut z = good.clone();
            z.extend(
                old.iter()
                    .filter(|r| {
                        r.owner == n("a.b.c.ent.example") && r.rtype == RRSIG && covered(r) == TXT
                    })
                    .cloned(),
            );
            assert!(both(&old, &z).report().has(Check::V07));
            // And back: 57.
            let mut back = unsigned();
            back[0] = soa(9);
            let cleared = s.sign(&back);
            assert_eq!(both(&good, &cleared).report().verdict, Verdict::Passed);
            let mut z = cleared.clone();
            z.retain(|r| {
                !(r.owner == n("a.b.c.ent.example") && r.rtype == RRSIG && covered(r) == TXT)
            });
            assert!(both(&good, &z).report().has(Check::V06));
        }
    }
}

#[test]
fn keys_come_and_go() {
    let s = Signer::new(Chain::nsec3(), true);
    let old = s.sign(&unsigned());
    // All signatures of one algorithm dropped, and its keys: fine.
    let one = Signer::new(Chain::nsec3(), false);
    let new = one.sign(&unsigned());
    let good = both(&old, &new);
    assert_eq!(
        good.report().verdict,
        Verdict::Passed,
        "{}",
        good.report().text()
    );
    // The keys only: the zone is still signed with them.
    let mut z = old.clone();
    z.retain(|r| !(r.rtype == DNSKEY && r.rdata[3] == 13));
    one.resign(&mut z, &s.apex, DNSKEY);
    assert!(both(&old, &z).report().has(Check::V07));
    // A new algorithm announced, with nothing else changed.
    let mut z = new.clone();
    z.push(R {
        rdata: s.keys[2].dnskey(),
        ..r("example", DNSKEY, 3600, [])
    });
    s.resign(&mut z, &s.apex, DNSKEY);
    let report = both(&new, &z).report().clone();
    assert!(report.has(Check::V06), "{}", report.text());
}

#[test]
fn another_denial_is_judged_in_full() {
    let (a, b) = (
        Signer::new(Chain::Nsec, false),
        Signer::new(Chain::nsec3(), false),
    );
    let (old, new) = (a.sign(&unsigned()), b.sign(&unsigned()));
    let outcome = judge(&old, &new, &Changes::between(&old, &new), &Params::file());
    assert_eq!(
        (outcome.report().mode, outcome.report().verdict),
        (Mode::Full, Verdict::Passed)
    );
    // A ledger of another version, too.
    let (version, ledger) = (list(&old), ledger_of(&a.sign(&zone_of(&[], 3))));
    let delta = Changes(vec![]);
    let before = Predecessor {
        version: &version,
        ledger: &ledger,
        delta: &delta,
        unsigned_delta: None,
    };
    assert_eq!(
        verify_changed(list(&old), &before, &Params::file(), now())
            .report()
            .mode,
        Mode::Full
    );
}

#[test]
fn content_must_follow_the_unsigned_delta() {
    let s = Signer::new(Chain::Nsec, false);
    let old = s.sign(&unsigned());
    let mut c = unsigned();
    c[0] = soa(8);
    find(&mut c, "www.example", A).rdata[3] = 99;
    let new = s.sign(&c);
    let (version, ledger, delta) = (list(&old), ledger_of(&old), Changes::between(&old, &new));
    let right = Changes::between(&unsigned(), &c);
    let mut c2 = c.clone();
    find(&mut c2, "mail.example", A).rdata[3] = 99;
    let wrong = Changes::between(&unsigned(), &c2);
    for (unsigned_delta, passes) in [(&right, true), (&wrong, false)] {
        let before = Predecessor {
            version: &version,
            ledger: &ledger,
            delta: &delta,
            unsigned_delta: Some(unsigned_delta),
        };
        let report = verify_changed(list(&new), &before, &Params::file(), now())
            .report()
            .clone();
        assert_eq!(!report.has(Check::V19), passes, "{}", report.text());
    }
    // And the approved version as a whole.
    let approved = list(&c2);
    let mut params = Params::file();
    params.approved = Some(&approved);
    let report = judge(&old, &new, &delta, &params).report().clone();
    assert!(report.has(Check::V19), "{}", report.text());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    /// For every edit the verdicts and ledgers agree; for every mutation of the candidate, too.
    #[test]
    fn changed_equals_full(
        before in spots(12),
        dropped in prop::collection::vec(any::<bool>(), 12),
        added in spots(4),
        chain in chain(),
        mutations in prop::collection::vec((any::<usize>(), mutation()), 6),
    ) {
        let s = Signer::new(chain, false);
        let old = s.sign(&zone_of(&before, 7));
        let mut after: Vec<Spot> = before.iter().zip(&dropped).filter(|(_, d)| !**d).map(|(s, _)| s.clone()).collect();
        after.extend(added);
        let new = s.sign(&zone_of(&after, 8));
        let outcome = both(&old, &new);
        prop_assert_eq!(outcome.report().verdict, Verdict::Passed, "{}", outcome.report().text());
        for (at, how) in mutations {
            let mut z = new.clone();
            mutate(&mut z, at, &how);
            if z.iter().any(|r| cascade_zone::Name::from_wire(&r.owner).is_err()) {
                continue;
            }
            let changed = judge(&old, &z, &Changes::between(&old, &z), &Params::file());
            let full = verify(&z, &Params::file());
            prop_assert_eq!(changed.report().verdict, full.report().verdict, "{:?} at {:?}\nchanged:\n{}full:\n{}",
                how, &new[at % new.len()], changed.report().text(), full.report().text());
        }
    }
}
