//! The engine with faults put into it.

use sha2::{Digest, Sha256};

use super::*;
use crate::finding::Severity;
use crate::full;
use crate::params::Params;

#[path = "../../tests/common/mod.rs"]
mod common;

use common::{A, Chain, DNSKEY, Key, R, RRSIG, Signer, now, r, rr, soa};

/// An arithmetic that accepts everything.
fn credulous(tables: Tables<'_>, jobs: &[Job<'_>], answers: &mut Vec<Answer>) {
    p256::judge(tables, jobs, answers);
    answers.fill(Answer::Good);
}

/// One that refuses a good signature now and then, by its octets.
fn fussy(tables: Tables<'_>, jobs: &[Job<'_>], answers: &mut Vec<Answer>) {
    p256::judge(tables, jobs, answers);
    for (answer, job) in answers.iter_mut().zip(jobs) {
        if job.signature.first().is_some_and(|&b| b < 8) {
            *answer = Answer::Bad;
        }
    }
}

/// One that passes every question on.
fn unsure(_: Tables<'_>, jobs: &[Job<'_>], answers: &mut Vec<Answer>) {
    answers.clear();
    answers.resize(jobs.len(), Answer::Unsure);
}

/// One that loses an answer.
fn forgetful(tables: Tables<'_>, jobs: &[Job<'_>], answers: &mut Vec<Answer>) {
    p256::judge(tables, jobs, answers);
    answers.pop();
}

/// Past its self test.
fn trusted(judge: Judge) -> Arc<TableEngine> {
    let engine = TableEngine::new(judge, KEPT);
    engine.state.store(ON, Ordering::SeqCst);
    Arc::new(engine)
}

#[test]
fn the_self_test_passes_and_finds_faults() {
    let g = Table::new(Point::generator().unwrap());
    let test = |judge| p256::selftest::run(judge, &g, b"seed");
    assert_eq!(test(p256::judge), Ok(()));
    for broken in [credulous as Judge, fussy, unsure, forgetful] {
        assert!(test(broken).is_err());
    }
}

#[test]
fn a_failed_self_test_turns_tables_off_and_is_told_once() {
    let engine = Arc::new(TableEngine::new(credulous, KEPT));
    let zone = Zone::new();
    for told in [true, false] {
        let judged = zone.verify(&engine, &zone.records);
        let report = &judged.report;
        assert_eq!(
            (report.engine.as_str(), report.findings.len()),
            ("ring", told as usize)
        );
        assert_eq!(report.verdict == Verdict::PassedWithWarnings, told);
        assert_eq!(report.has(Check::V03), told);
        assert!(report.text().contains("verify-engine-self-test") == told);
    }
}

#[test]
fn tables_are_shared_and_bounded() {
    let engine = TableEngine::new(p256::judge, 2);
    engine.state.store(ON, Ordering::SeqCst);
    let keys: Vec<[u8; 64]> = (0..3)
        .map(|_| Key::p256(256).dnskey()[4..].try_into().unwrap())
        .collect();
    let first = engine.table(&keys[0]).unwrap();
    engine.table(&keys[1]).unwrap();
    assert!(Arc::ptr_eq(&first, &engine.table(&keys[0]).unwrap()));
    // The third takes the place of the second, which was used longest ago.
    engine.table(&keys[2]).unwrap();
    assert_eq!(engine.kept.lock().unwrap().len(), 2);
    assert!(Arc::ptr_eq(&first, &engine.table(&keys[0]).unwrap()));
    let held: Vec<[u8; 64]> = engine.kept.lock().unwrap().iter().map(|k| k.0).collect();
    assert_eq!(held, [keys[2], keys[0]]);
    assert!(engine.table(&[7; 64]).is_none(), "not on the curve");
    engine.turn_off();
    assert!(engine.table(&keys[0]).is_none());
}

/// A zone with more signatures by one key than the engine asks for.
struct Zone {
    signer: Signer,
    records: Vec<R>,
}

impl Zone {
    fn new() -> Zone {
        let mut signer = Signer::new(Chain::Nsec, false);
        signer.keys = vec![Key::p256(257), Key::p256(256)];
        let mut content = vec![
            soa(1),
            r("example", 2, 3600, common::n("ns.elsewhere.test")),
        ];
        for i in 0..1100 {
            content.push(r(&format!("n{i}.example"), A, 3600, [192, 0, 2, 1]));
        }
        let records = signer.sign(&content);
        Zone { signer, records }
    }

    fn verify(&self, engine: &Arc<TableEngine>, records: &[R]) -> Judged {
        let list = crate::RecordList::new(&self.signer.apex, records.iter().map(rr)).unwrap();
        guarded(engine.clone(), |e| {
            full::run(&list, &Params::file(), e, now())
        })
    }

    fn with_bad_signatures(&self, owners: &[&str]) -> Vec<R> {
        let mut records = self.records.clone();
        for owner in owners {
            let sig = common::find_sig(&mut records, owner, A);
            *sig.rdata.last_mut().unwrap() ^= 1;
        }
        records
    }
}

#[test]
fn tables_and_ring_agree_about_a_zone() {
    let (zone, engine) = (Zone::new(), trusted(p256::judge));
    let report = zone.verify(&engine, &zone.records).report;
    assert_eq!(
        (report.engine.as_str(), report.verdict),
        ("tables", Verdict::Passed)
    );
    let signed = zone.records.iter().filter(|r| r.rtype == RRSIG).count() as u64;
    assert_eq!(report.counts.signatures_checked, signed);
    let counts = report.engine_counts;
    assert!(counts.cross_checked * 100 >= counts.tables && counts.tables > 0);
    assert_eq!((counts.decided_by_ring, counts.mismatches), (0, 0));
    // The key that signs nothing but the DNSKEY RRset has no table.
    assert_eq!(engine.kept.lock().unwrap().len(), 1);
    let key_set = zone.records.iter().filter(|r| r.rtype == DNSKEY).count();
    assert_eq!(key_set, 2);

    let bad = zone.with_bad_signatures(&["n7.example", "n1099.example"]);
    let report = zone.verify(&engine, &bad).report;
    assert_eq!(
        (report.engine.as_str(), report.verdict),
        ("tables", Verdict::Refused)
    );
    let told: Vec<&str> = report.findings.iter().map(|f| f.owner.as_str()).collect();
    assert_eq!(report.findings_total, 2, "{}", report.text());
    assert!(told.contains(&"n7.example.") && told.contains(&"n1099.example."));
    assert_eq!(engine.state.load(Ordering::SeqCst), ON);
}

#[test]
fn few_signatures_are_for_ring() {
    let (zone, engine) = (Zone::new(), trusted(credulous));
    let few = {
        let mut signer = Signer::new(Chain::Nsec, false);
        signer.keys = vec![Key::p256(257), Key::p256(256)];
        signer.sign(&common::unsigned())
    };
    let report = zone.verify(&engine, &few).report;
    assert_eq!(
        (report.engine.as_str(), report.engine_counts),
        ("ring", EngineCounts::default())
    );
    assert!(engine.kept.lock().unwrap().is_empty());
}

/// Whatever the tables say, the verdict is ring's: good zones pass and bad ones do not, the engine
/// is off afterwards, and the report tells.
#[test]
fn a_disagreement_turns_tables_off_and_ring_repeats_all() {
    let zone = Zone::new();
    // Every one, so that the hundredth which is repeated meets one, however the run is cut up: the
    // tables judge only what comes after the first 2,000.
    let mut bad = zone.records.clone();
    for sig in bad.iter_mut().filter(|r| r.rtype == RRSIG) {
        *sig.rdata.last_mut().unwrap() ^= 1;
    }
    let cases = [
        (fussy as Judge, &zone.records, Verdict::PassedWithWarnings),
        (forgetful, &zone.records, Verdict::PassedWithWarnings),
        (credulous, &bad, Verdict::Refused),
    ];
    for (judge, records, verdict) in cases {
        let engine = trusted(judge);
        let judged = zone.verify(&engine, records);
        let report = &judged.report;
        assert_eq!(report.verdict, verdict, "{}", report.text());
        assert!(report.engine_counts.mismatches > 0);
        assert_eq!(report.engine, "ring");
        let first = &report.findings[0];
        assert_eq!(
            (first.check, first.severity),
            (Check::V03, Severity::Warning)
        );
        assert!(first.detail.starts_with("verify-engine-mismatch"));
        assert_eq!(engine.state.load(Ordering::SeqCst), OFF);
        if verdict == Verdict::Refused {
            assert!(report.findings_total >= 1100);
        }
        // The next run has nothing to complain of.
        let next = zone.verify(&engine, &zone.records).report;
        assert_eq!(
            (next.engine.as_str(), next.verdict),
            ("ring", Verdict::Passed)
        );
    }
}

#[test]
fn an_unsure_engine_is_slow_but_right() {
    let (zone, engine) = (Zone::new(), trusted(unsure));
    let bad = zone.with_bad_signatures(&["n5.example"]);
    let report = zone.verify(&engine, &bad).report;
    let counts = report.engine_counts;
    assert_eq!(report.findings_total, 1);
    assert_eq!(
        (counts.decided_by_ring, counts.cross_checked),
        (counts.tables, 0)
    );
    assert_eq!(counts.mismatches, 0);
}

#[test]
fn the_cross_check_takes_a_hundredth_at_least() {
    let engine = trusted(p256::judge);
    let key = Key::p256(256);
    let table = engine
        .table(&key.dnskey()[4..].try_into().unwrap())
        .unwrap();
    let made: Vec<([u8; 32], Vec<u8>)> = (0..101u32)
        .map(|i| {
            (
                Sha256::digest(i.to_be_bytes()).into(),
                key.sign(&i.to_be_bytes()),
            )
        })
        .collect();
    let jobs: Vec<Job<'_>> = made
        .iter()
        .map(|(digest, signature)| Job {
            digest: *digest,
            signature,
        })
        .collect();
    for (n, repeated) in [(0, 0), (1, 1), (100, 1), (101, 2)] {
        let (mut bad, mut counts) = (vec![3], EngineCounts::default());
        assert!(engine.judge(&table, &jobs[..n], |_| true, &mut bad, &mut counts));
        assert_eq!((counts.cross_checked, bad.len()), (repeated, 0));
    }
    // One by one, as small changes come.
    let (mut bad, mut counts) = (Vec::new(), EngineCounts::default());
    for job in jobs.iter().cycle().take(300) {
        let job = std::slice::from_ref(job);
        assert!(engine.judge(&table, job, |_| true, &mut bad, &mut counts));
    }
    assert_eq!((counts.tables, counts.cross_checked), (300, 3));
    // Ring refuses what it is asked about.
    let (mut bad, mut counts) = (Vec::new(), EngineCounts::default());
    assert!(!engine.judge(&table, &jobs, |_| false, &mut bad, &mut counts));
    assert_eq!(counts.mismatches, 2);
}
