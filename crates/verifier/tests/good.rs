//! Correct zones pass.

// Helpers of tests: a panic is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
use cascade_verifier::{Mode, Params, Severity, Verdict};
use common::*;

fn kinds() -> Vec<(Chain, bool)> {
    vec![
        (Chain::Nsec, false),
        (Chain::Nsec, true),
        (Chain::nsec3(), false),
        (Chain::nsec3(), true),
        (Chain::opt_out(), false),
        (Chain::opt_out(), true),
    ]
}

#[test]
fn good_zones_pass() {
    for (chain, two) in kinds() {
        let signer = Signer::new(chain.clone(), two);
        let content = unsigned();
        let approved = list(&content);
        let zone = signer.sign(&content);
        let mut params = Params::file();
        params.approved = Some(&approved);
        let outcome = verify(&zone, &params);
        let report = outcome.report();
        assert_eq!(
            report.verdict,
            Verdict::Passed,
            "{chain:?} {two}\n{}",
            report.text()
        );
        assert_eq!(report.mode, Mode::Full);
        let sigs = zone.iter().filter(|r| r.rtype == RRSIG).count() as u64;
        assert_eq!(report.counts.signatures_checked, sigs);
        assert_eq!(report.counts.records, zone.len() as u64);
        assert!(
            report
                .findings
                .iter()
                .all(|f| f.severity != Severity::Refusal)
        );
        let ledger = outcome.verified().unwrap().ledger().unwrap().clone();
        assert_eq!(ledger.counts.ents, 6, "ent c b / wild / cuts / cuts2");
        assert_eq!(
            (
                ledger.counts.cuts,
                ledger.counts.secure_cuts,
                ledger.counts.occluded
            ),
            (4, 1, 3)
        );
        let denial = zone
            .iter()
            .filter(|r| matches!(r.rtype, NSEC | NSEC3))
            .count() as i64;
        assert_eq!(ledger.counts.denial_records, denial);
        let json = serde_json::to_string(&ledger).unwrap();
        assert_eq!(
            serde_json::from_str::<cascade_verifier::Ledger>(&json).unwrap(),
            ledger
        );
    }
}
