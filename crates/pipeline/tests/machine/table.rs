//! The table of transitions as the code has it: every state meets every event.

use std::fmt::Write;

use cascade_pipeline::event::{Part, SignResult, Subject};
use cascade_pipeline::settings::{OnReject, ReviewMode, UpkeepReview};
use cascade_pipeline::state::*;
use cascade_pipeline::*;
use cascade_time::Timestamp;
use cascade_zone::{Serial, VersionId};

use crate::world::{World, job_of, settings, short};

/// A world with something live and something to roll back to.
fn live(unsigned: ReviewMode, signed: ReviewMode, on_reject: OnReject) -> World {
    let mut s = settings(ReviewMode::Off, ReviewMode::Off, on_reject);
    s.upkeep_review = UpkeepReview::Always;
    let mut w = World::new(s.clone());
    w.event(Event::Timer);
    while w.finish(0) {}
    w.change();
    while w.finish(0) {}
    assert_eq!(w.live_content(), Some(2));
    s.unsigned_review.mode = unsigned;
    s.signed_review.mode = signed;
    w.ask(
        "root",
        Command::ChangePolicy {
            settings: Box::new(s),
        },
    )
    .unwrap();
    w
}

fn until(mut w: World, name: &str) -> World {
    for _ in 0..20 {
        if w.zone.candidate.name() == name || w.zone.upkeep.name() == name {
            return w;
        }
        assert!(w.finish(0), "{name}: {}", w.tail());
    }
    panic!("{name} is not reached: {}", w.tail());
}

fn changed(u: ReviewMode, s: ReviewMode, r: OnReject, name: &str) -> World {
    let mut w = live(u, s, r);
    w.change();
    until(w, name)
}

pub fn candidate_states() -> Vec<(&'static str, Zone)> {
    use OnReject::{Discard, Halt};
    use ReviewMode::{Manual, Off, Script};
    let mut out = Vec::new();
    let mut add = |name, w: World| out.push((name, w.zone));
    let mut w = live(Off, Off, Discard);
    w.crash();
    add("Restoring", w);
    add("Idle", live(Off, Off, Discard));
    add("Loading", changed(Off, Off, Discard, "Loading"));
    add("Guarding", changed(Off, Off, Discard, "Guarding"));
    let mut w = live(Off, Off, Discard);
    w.faults.guard = Some(GuardOutcome::Hold);
    w.change();
    add("AwaitGuardApproval", until(w, "AwaitGuardApproval"));
    add(
        "AwaitUnsignedReview script",
        changed(Script, Off, Discard, "AwaitUnsignedReview"),
    );
    add(
        "AwaitUnsignedReview manual",
        changed(Manual, Off, Halt, "AwaitUnsignedReview"),
    );
    add("Signing", changed(Off, Off, Halt, "Signing"));
    add("Verifying", changed(Off, Off, Discard, "Verifying"));
    add(
        "AwaitSignedReview script",
        changed(Off, Script, Halt, "AwaitSignedReview"),
    );
    add(
        "AwaitSignedReview manual",
        changed(Off, Manual, Discard, "AwaitSignedReview"),
    );
    add("Persisting", changed(Off, Off, Discard, "Persisting"));
    let mut w = live(Off, Off, Discard);
    w.faults.sign = Some(Fault::Token);
    w.change();
    add("AwaitRetry token", until(w, "AwaitRetry"));
    let mut w = live(Off, Off, Discard);
    w.ask("root", Command::Pin { span: None }).unwrap();
    w.change();
    add("AwaitRetry pinned", until(w, "AwaitRetry"));
    let mut w = changed(Off, Manual, Halt, "AwaitSignedReview");
    w.ask(
        "root",
        Command::Reject {
            stage: Stage::Signed,
            of: None,
            reason: None,
        },
    )
    .unwrap();
    add("Rejected signed", until(w, "Rejected"));
    let mut w = live(Off, Off, Discard);
    w.faults.refuse = true;
    w.change();
    add("Refused", until(w, "Refused"));
    let mut w = live(Off, Off, Discard);
    w.ask("root", Command::Remove { keys: Keep::Keys }).unwrap();
    add("Removing", w);
    out
}

pub fn upkeep_states() -> Vec<(&'static str, Zone)> {
    let mut out = Vec::new();
    for name in ["Signing", "Verifying", "AwaitReview", "Persisting"] {
        let signed = if name == "Persisting" {
            ReviewMode::Off
        } else {
            ReviewMode::Manual
        };
        let mut w = live(ReviewMode::Off, signed, OnReject::Discard);
        w.event(Event::RefreshDue);
        out.push((name, until(w, name).zone));
    }
    let mut w = live(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.faults.sign = Some(Fault::Token);
    w.event(Event::RefreshDue);
    out.push(("AwaitRetry", until(w, "AwaitRetry").zone));
    out
}

/// One event of every kind; results name a job that is at work, so that they fit where they can.
fn events(z: &Zone, now: Timestamp) -> Vec<(String, Event)> {
    let (_, started) = restart_jobs(z, now);
    let job = started.unwrap_or(JobId(u64::MAX));
    let report = || Report::text("report");
    let error = || "error".to_owned();
    let stage = Stage::Unsigned;
    let mut out: Vec<(String, Event)> = Vec::new();
    let commands = [
        ("LoadRequested", Command::Load { forced: false }),
        (
            "Approve unsigned",
            Command::Approve {
                stage,
                of: None,
                comment: None,
            },
        ),
        (
            "Approve signed",
            Command::Approve {
                stage: Stage::Signed,
                of: None,
                comment: None,
            },
        ),
        (
            "Approve other serial",
            Command::Approve {
                stage,
                of: Some(Subject::Serial(Serial(999))),
                comment: None,
            },
        ),
        (
            "Reject unsigned",
            Command::Reject {
                stage,
                of: None,
                reason: None,
            },
        ),
        (
            "Reject signed",
            Command::Reject {
                stage: Stage::Signed,
                of: None,
                reason: None,
            },
        ),
        (
            "Override signed",
            Command::Override {
                stage: Stage::Signed,
                despite_verification: false,
            },
        ),
        (
            "Override despite",
            Command::Override {
                stage: Stage::Signed,
                despite_verification: true,
            },
        ),
        ("Reset", Command::Reset),
        (
            "Rollback",
            Command::Rollback {
                to: VersionId(2),
                pin: true,
            },
        ),
        (
            "Resign full",
            Command::Resign {
                full: true,
                serial: None,
            },
        ),
        ("Pin", Command::Pin { span: None }),
        ("Unpin", Command::Unpin),
        ("Pause publish", Command::Pause(Part::Publish)),
        ("Resume publish", Command::Resume(Part::Publish)),
        (
            "MaintenanceOn",
            Command::MaintenanceOn {
                resign: false,
                span: None,
            },
        ),
        ("MaintenanceOff", Command::MaintenanceOff),
        (
            "SourceChanged",
            Command::ChangeSource { source: "x".into() },
        ),
        (
            "PolicyChanged",
            Command::ChangePolicy {
                settings: Box::new(Settings {
                    signing: 9,
                    ..z.settings.clone()
                }),
            },
        ),
        ("Remove", Command::Remove { keys: Keep::Purge }),
    ];
    for (name, command) in commands {
        let by = Actor::new("eve", true);
        let r = Request {
            id: RequestId(1),
            by,
            command,
        };
        out.push((name.to_owned(), Event::Request(r)));
    }
    let loaded = World::new(Settings::default()).loaded();
    let signed = SignResult {
        serial: Serial(99),
        min_exp: now,
        next_due: now,
        reviewed_fp: Fp(1, 1),
        unmet: false,
        report: report(),
    };
    for e in [
        Event::Timer,
        Event::SourceSignal(Trigger::Notify),
        Event::LoadUnchanged {
            job,
            expires_at: None,
        },
        Event::LoadDone { job, loaded },
        Event::LoadFailed {
            job,
            error: error(),
        },
        Event::SourceExpired,
        Event::SourceBack,
        Event::GuardResult {
            job,
            outcome: GuardOutcome::Pass,
            report: report(),
        },
        Event::GuardResult {
            job,
            outcome: GuardOutcome::Hold,
            report: report(),
        },
        Event::GuardResult {
            job,
            outcome: GuardOutcome::Reject,
            report: report(),
        },
        Event::HookDone {
            run: job,
            verdict: Verdict::Approve,
        },
        Event::HookDone {
            run: job,
            verdict: Verdict::Reject { reason: error() },
        },
        Event::HookDone {
            run: job,
            verdict: Verdict::Retry { reason: error() },
        },
        Event::HookDone {
            run: job,
            verdict: Verdict::Hold { reason: error() },
        },
        Event::HookFailed {
            run: job,
            error: error(),
        },
        Event::SignProgress { job },
        Event::SignDone { job, signed },
        Event::SignNothing { job, next_due: now },
        Event::SignDeferred {
            job,
            next_due: Some(now),
            done: 1,
            total: 2,
        },
        Event::SignFailed {
            job,
            fault: Fault::Token,
            error: error(),
        },
        Event::SignFailed {
            job,
            fault: Fault::Content,
            error: error(),
        },
        Event::SignFailed {
            job,
            fault: Fault::Bug,
            error: error(),
        },
        Event::VerifyPassed {
            job,
            report: report(),
        },
        Event::VerifyRefused {
            job,
            healable: true,
            report: report(),
        },
        Event::VerifyRefused {
            job,
            healable: false,
            report: report(),
        },
        Event::VerifyImpossible {
            job,
            error: error(),
        },
        Event::RefreshDue,
        Event::KeysChanged(KeySet {
            apex: 5,
            signing: 5,
        }),
        Event::SweepFinding { text: error() },
        Event::PersistDone { job },
        Event::PersistFailed {
            job,
            error: error(),
        },
        Event::StorageFull,
        Event::StorageOk,
        Event::ClockUnsafe { why: error() },
        Event::ClockSafe,
        Event::DelegationConflict { what: error() },
        Event::DelegationOk,
        Event::SecondaryAhead {
            serial: Serial(1 << 20),
            server: "192.0.2.1:53".into(),
            raise: true,
        },
        Event::Restored {
            candidate: Keepsake::None,
        },
        Event::RestoreFailed(Lost::Nothing { why: error() }),
        Event::RestoreFailed(Lost::Signatures),
        Event::TaskPanicked {
            job,
            error: error(),
        },
        Event::RemoveDone { job },
        Event::RemoveFailed {
            job,
            error: error(),
        },
    ] {
        let detail = match &e {
            Event::GuardResult { outcome, .. } => format!(" {outcome:?}").to_lowercase(),
            Event::HookDone { verdict, .. } => {
                let text = format!("{verdict:?}").to_lowercase();
                format!(" {}", text.split(' ').next().unwrap_or(""))
            }
            Event::SignFailed { fault, .. } => format!(" {fault:?}").to_lowercase(),
            Event::VerifyRefused { healable: true, .. } => " healable".into(),
            Event::RestoreFailed(Lost::Signatures) => " signatures".into(),
            Event::RestoreFailed(_) => " nothing".into(),
            _ => String::new(),
        };
        out.push((format!("{}{detail}", e.name()), e));
    }
    out
}

/// The job that the state waits for, found by asking what a removal would cancel.
fn restart_jobs(z: &Zone, now: Timestamp) -> (Zone, Option<JobId>) {
    if let Candidate::Removing { job, .. } = &z.candidate {
        return (z.clone(), Some(*job));
    }
    let r = Request {
        id: RequestId(1),
        by: Actor::new("eve", true),
        command: Command::Remove { keys: Keep::Keys },
    };
    let (z, actions) = step(z.clone(), Event::Request(r), now);
    let job = actions.iter().find_map(|a| match a {
        Action::Cancel { job, .. } | Action::KillHook { run: job } => Some(*job),
        _ => None,
    });
    (z, job)
}

fn rows(states: Vec<(&'static str, Zone)>, lane: fn(&Zone) -> String) -> String {
    let mut out = String::new();
    for (name, zone) in states {
        let now = zone.settled_at;
        writeln!(out, "{name}").unwrap();
        for (event, e) in events(&zone, now) {
            let (after, actions) = step(zone.clone(), e, now);
            let mut what: Vec<String> = actions
                .iter()
                .filter(|a| !matches!(a, Action::SetTimer(_) | Action::Record(_)))
                .map(short)
                .collect();
            what.dedup();
            let (from, to) = (lane(&zone), lane(&after));
            if from == to && what.is_empty() {
                continue;
            }
            let to = if from == to { "same".to_owned() } else { to };
            writeln!(out, "  {event:24} -> {to:28} {}", what.join(" ")).unwrap();
        }
    }
    out
}

#[test]
fn table_of_the_candidate_lane() {
    let lane = |z: &Zone| match &z.candidate {
        Candidate::Loading(l) if *l.resume != Candidate::Idle => {
            format!("Loading({})", l.resume.name())
        }
        c => c.name().to_owned(),
    };
    insta::assert_snapshot!(rows(candidate_states(), lane));
}

#[test]
fn table_of_the_upkeep_lane() {
    insta::assert_snapshot!(rows(upkeep_states(), |z| z.upkeep.name().to_owned()));
}

/// P11: a result that names another job changes nothing, in every state.
#[test]
fn results_of_other_jobs_change_nothing() {
    let mut states = candidate_states();
    states.extend(upkeep_states());
    for (name, zone) in states {
        let now = zone.settled_at;
        let job = JobId(u64::MAX);
        let report = Report::text("r");
        for e in [
            Event::PersistDone { job },
            Event::VerifyPassed {
                job,
                report: report.clone(),
            },
            Event::VerifyRefused {
                job,
                healable: true,
                report: report.clone(),
            },
            Event::GuardResult {
                job,
                outcome: GuardOutcome::Pass,
                report,
            },
            Event::SignNothing { job, next_due: now },
            Event::SignFailed {
                job,
                fault: Fault::Bug,
                error: String::new(),
            },
            Event::LoadFailed {
                job,
                error: String::new(),
            },
            Event::HookFailed {
                run: job,
                error: String::new(),
            },
            Event::TaskPanicked {
                job,
                error: String::new(),
            },
        ] {
            let what = e.name();
            let (after, actions) = step(zone.clone(), e, now);
            assert_eq!(after, zone, "{name}: {what}");
            assert!(actions.is_empty(), "{name}: {what}");
        }
    }
    let _ = job_of;
}

/// P14: from every state that has something to abandon, reset leads to a lane that loads.
#[test]
fn reset_frees_the_lane_from_every_state() {
    for (name, zone) in candidate_states() {
        if matches!(name, "Removing" | "Restoring" | "Idle") {
            continue;
        }
        let now = zone.settled_at;
        let ask = |command| {
            Event::Request(Request {
                id: RequestId(1),
                by: Actor::new("eve", true),
                command,
            })
        };
        let (z, _) = step(zone.clone(), ask(Command::Reset), now);
        assert!(
            matches!(z.candidate, Candidate::Idle | Candidate::Loading(_)),
            "{name}"
        );
        assert_eq!(z.live, zone.live, "{name}: live is not touched");
        let (z, _) = step(z, ask(Command::Unpin), now);
        let (z, _) = step(z, ask(Command::Load { forced: true }), now);
        assert_eq!(z.candidate.name(), "Loading", "{name}");
    }
}
