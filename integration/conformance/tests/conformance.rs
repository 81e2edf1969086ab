//! The corpus: good zones are signed three ways and judged, bad files are refused as the snapshots
//! say.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test suite that runs other programs"
)]

use std::collections::BTreeSet;
use std::path::Path;

use cascade_conformance::corpus::{self, Case};
use cascade_conformance::limits::{self, Judge};
use cascade_conformance::resolver::{Resolver, Trouble};
use cascade_conformance::text::{self, Record, rtype};
use cascade_conformance::{make, questions};
use cascade_crypto::KeySpec;
use cascade_e2e::judge::{self, Verdict};
use cascade_loader::Outcome;
use cascade_loader::render::render_all;
use cascade_signer::DenialPlan;
use cascade_zone::{Name, ZoneVersion};

/// Owners of each kind that the resolver is asked about.
const OWNERS_ASKED: usize = 4;

fn nsec3(opt_out: bool) -> DenialPlan {
    DenialPlan::Nsec3 {
        iterations: 0,
        salt: Vec::new(),
        opt_out,
    }
}

#[test]
fn good_zones_with_nsec() {
    good_zones("NSEC", &DenialPlan::Nsec);
}

#[test]
fn good_zones_with_nsec3() {
    good_zones("NSEC3", &nsec3(false));
}

#[test]
fn good_zones_with_nsec3_and_opt_out() {
    good_zones("NSEC3 with opt-out", &nsec3(true));
}

/// Loads, signs, verifies and has everybody judge each good zone; tells all failures at once.
fn good_zones(title: &str, denial: &DenialPlan) {
    let scratch = tempfile::tempdir().unwrap();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap();
    let nsec3 = *denial != DenialPlan::Nsec;
    let mut run = Run {
        nsec3,
        ..Run::default()
    };
    let cases = corpus::good(scratch.path());
    for case in &cases {
        run.case(case, denial, &pool, scratch.path());
    }
    println!(
        "{title}: {} zones, {} records signed; {} verdicts of others and {} answers of a resolver",
        cases.len(),
        run.records,
        run.verdicts,
        run.answers
    );
    for (case, judge, reason) in &run.excused {
        println!("  {case} is not for {judge:?}: {reason}");
    }
    for judge in &run.absent {
        println!("  NOT JUDGED by {judge}: not installed");
    }
    let failures = run.failures.join("\n\n");
    assert!(
        run.failures.is_empty(),
        "{} failures with {title}:\n{failures}",
        run.failures.len()
    );
}

#[derive(Default)]
struct Run {
    nsec3: bool,
    failures: Vec<String>,
    excused: Vec<(String, Judge, &'static str)>,
    absent: BTreeSet<&'static str>,
    records: usize,
    verdicts: usize,
    answers: usize,
}

impl Run {
    fn case(&mut self, case: &Case, denial: &DenialPlan, pool: &rayon::ThreadPool, scratch: &Path) {
        let Some((version, single)) = self.make(case, denial, pool) else {
            return;
        };
        let records = make::records(&version);
        self.records += records.len();
        let file = scratch.join("signed");
        std::fs::write(&file, text::zone(&records)).unwrap();
        for judge in judge::Judge::ALL {
            self.judge(case, judge, &file, single);
        }
        self.resolve(case, &version, &records, &file);
    }

    /// The signed and verified version, and whether one key signs all.
    fn make(
        &mut self,
        case: &Case,
        denial: &DenialPlan,
        pool: &rayon::ThreadPool,
    ) -> Option<(ZoneVersion, bool)> {
        let apex = Name::parse(&case.zone).unwrap();
        let base = match pool.install(|| make::load(&case.path, &apex)) {
            Outcome::Loaded { version, .. } => version,
            other => {
                let said = render_all(&other.report().diagnostics);
                self.fail(case, "is refused", &said);
                return None;
            }
        };
        // Both ways to hold keys, spread over the corpus.
        let single = case.name.len().is_multiple_of(2);
        let keys = make::Keys::generate("ECDSAP256SHA256".parse::<KeySpec>().unwrap(), single);
        let signed = match make::sign_zone(&base, &keys, denial.clone(), pool) {
            Ok(signed) => signed.version,
            Err(error) => {
                self.fail(case, "cannot be signed", &error.to_string());
                return None;
            }
        };
        match pool.install(|| make::verify_zone(signed, &base, &keys, denial)) {
            cascade_verifier::Outcome::Verified(verified) => {
                Some((verified.version().clone(), single))
            }
            cascade_verifier::Outcome::Refused(refused) => {
                let findings: Vec<_> = refused
                    .report()
                    .findings
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                self.fail(case, "is refused by our verifier", &findings.join("\n"));
                None
            }
        }
    }

    fn judge(&mut self, case: &Case, judge: judge::Judge, file: &Path, single: bool) {
        let entry = match judge {
            judge::Judge::Ldns => Judge::Ldns,
            judge::Judge::Bind => Judge::Bind,
            judge::Judge::Knot => Judge::Knot,
        };
        match judge.judge(&case.zone, file, single) {
            Verdict::Valid => self.content(case, entry),
            Verdict::Invalid(said) => {
                let head: Vec<_> = said.lines().take(12).collect();
                self.discontent(case, entry, &head.join("\n"));
            }
            Verdict::NotInstalled => {
                self.absent.insert(judge.program());
            }
        }
    }

    fn resolve(&mut self, case: &Case, version: &ZoneVersion, records: &[Record], file: &Path) {
        let anchors: Vec<String> = records
            .iter()
            .filter(|r| r.rtype == rtype::DNSKEY && r.owner == version.apex().as_wire())
            .filter(|r| r.rdata.get(1).is_some_and(|flags| flags & 1 == 1))
            .map(|record| {
                let mut line = String::new();
                text::push_record(record, &mut line);
                line.trim().replace('\t', " ")
            })
            .collect();
        match Resolver::new(&case.zone, file, &anchors) {
            Ok(resolver) => {
                let questions = questions::about(version.apex().as_wire(), records, OWNERS_ASKED);
                let wrong = resolver.ask(&questions);
                self.answers += questions.len();
                if wrong.is_empty() {
                    self.content(case, Judge::Unbound);
                } else {
                    let shown: Vec<_> = wrong.iter().take(4).cloned().collect();
                    let said = format!(
                        "{} of {} answers wrong\n{}",
                        wrong.len(),
                        questions.len(),
                        shown.join("\n")
                    );
                    self.discontent(case, Judge::Unbound, &said);
                }
            }
            Err(Trouble::NotInstalled(program)) => {
                self.absent.insert(program);
            }
            Err(Trouble::NotServing(program, said)) => {
                self.discontent(
                    case,
                    Judge::Unbound,
                    &format!("{program} does not serve it: {said}"),
                );
            }
        }
    }

    fn content(&mut self, case: &Case, judge: Judge) {
        self.verdicts += 1;
        if let Some(reason) = limits::reason(&case.name, judge, self.nsec3) {
            let why = format!("the table of limits says it cannot: {reason}; take the entry out");
            self.fail(case, &format!("is fine for {judge:?}"), &why);
        }
    }

    fn discontent(&mut self, case: &Case, judge: Judge, said: &str) {
        match limits::reason(&case.name, judge, self.nsec3) {
            Some(reason) => self.excused.push((case.name.clone(), judge, reason)),
            None => self.fail(case, &format!("is invalid for {judge:?}"), said),
        }
    }

    fn fail(&mut self, case: &Case, what: &str, said: &str) {
        self.failures
            .push(format!("{} ({}) {what}:\n{said}", case.name, case.zone));
    }
}

#[test]
fn bad_files_are_refused_as_the_snapshots_say() {
    let scratch = tempfile::tempdir().unwrap();
    let cases = corpus::bad(scratch.path());
    let mut accepted = Vec::new();
    let stored = corpus::here().join("zones/bad");
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        for case in &cases {
            let apex = Name::parse(&case.zone).unwrap();
            match make::load(&case.path, &apex) {
                Outcome::Failed { report } => {
                    let mut said = render_all(&report.diagnostics);
                    if let Some(reason) = &report.reason {
                        said = format!("{reason}\n{said}");
                    }
                    // Where the repository or the scratch directory is must not matter.
                    let said = said
                        .replace(&format!("{}/", stored.display()), "")
                        .replace(&stored.display().to_string(), "<here>")
                        .replace(&format!("{}/", scratch.path().display()), "");
                    insta::assert_snapshot!(format!("bad__{}", case.name), said);
                }
                _ => accepted.push(case.name.clone()),
            }
        }
    });
    println!("refused: {} files", cases.len() - accepted.len());
    assert!(accepted.is_empty(), "accepted: {accepted:?}");
}

#[test]
fn good_files_give_the_findings_that_the_snapshot_holds() {
    let scratch = tempfile::tempdir().unwrap();
    let mut lines = Vec::new();
    for case in corpus::good(scratch.path()) {
        let apex = Name::parse(&case.zone).unwrap();
        let outcome = make::load(&case.path, &apex);
        let report = outcome.report();
        let mut codes: Vec<String> = report
            .diagnostics
            .kept
            .iter()
            .map(|d| format!("{:?} {:?}", d.severity, d.code))
            .collect();
        codes.sort();
        codes.dedup();
        lines.push(format!(
            "{}: {} records, {} owners, {} cuts; {}",
            case.name,
            report.records,
            report.owners,
            report.cuts,
            if codes.is_empty() {
                "nothing to say".into()
            } else {
                codes.join(", ")
            }
        ));
    }
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("good_files", lines.join("\n"));
    });
}
