use std::time::Duration;

use cascade_pipeline::event::Part;
use cascade_pipeline::settings::{OnNewer, OnReject, ReviewMode};
use cascade_pipeline::state::*;
use cascade_pipeline::*;
use cascade_zone::{Serial, VersionId};
use proptest::prelude::*;

use crate::world::{World, settings};

#[derive(Clone, Debug)]
enum Op {
    Finish(usize),
    /// A result of a job that nobody waits for.
    Stale(u8),
    Change,
    Ask(u8, u8),
    World(u8),
    Fault(u8),
    Healthy,
    Wait(u32),
    Timer,
    /// The process dies after so many actions of the next result.
    CrashAfter(usize),
    Crash,
    /// It is lost with its disk, and comes back from a backup of just now.
    Lose,
    Asked(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0usize..4).prop_map(Op::Finish),
        1 => any::<u8>().prop_map(Op::Stale),
        3 => Just(Op::Change),
        5 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Op::Ask(a, b)),
        2 => any::<u8>().prop_map(Op::World),
        2 => any::<u8>().prop_map(Op::Fault),
        2 => Just(Op::Healthy),
        3 => (1u32..200_000).prop_map(Op::Wait),
        2 => Just(Op::Timer),
        1 => (0usize..12).prop_map(Op::CrashAfter),
        1 => Just(Op::Crash),
        1 => Just(Op::Lose),
        2 => any::<u8>().prop_map(Op::Asked),
    ]
}

fn command(w: &World, a: u8, b: u8) -> Command {
    let flag = b & 1 == 1;
    let stage = if flag { Stage::Signed } else { Stage::Unsigned };
    match a % 24 {
        0 => Command::Load { forced: flag },
        1..=5 => Command::Approve {
            stage,
            of: None,
            comment: None,
        },
        6 => Command::Reject {
            stage,
            of: None,
            reason: Some("no".into()),
        },
        7 | 8 => Command::Override {
            stage,
            despite_verification: b & 2 == 2,
        },
        9 => Command::Reset,
        10 => {
            let known = w.zone.retained.get(usize::from(b) % 4).map(|r| r.version);
            Command::Rollback {
                to: known.unwrap_or(VersionId(b.into())),
                pin: flag,
            }
        }
        11 => Command::Resign {
            full: flag,
            serial: (b & 2 == 2).then_some(Serial(b.into())),
        },
        12 => Command::Pin {
            span: flag.then_some(Duration::from_secs(3600)),
        },
        13 | 14 => Command::Unpin,
        15 => Command::Pause(if flag { Part::Load } else { Part::Publish }),
        16 | 17 => Command::Resume(if flag { Part::Load } else { Part::Publish }),
        18 => Command::MaintenanceOn {
            resign: flag,
            span: None,
        },
        19 | 20 => Command::MaintenanceOff,
        21 => Command::ChangeSource {
            source: "other".into(),
        },
        22 => {
            let mut s = w.zone.settings.clone();
            s.revision += 1;
            s.signing = u64::from(b / 64);
            Command::ChangePolicy {
                settings: Box::new(s),
            }
        }
        _ => Command::Approve {
            stage,
            of: Some(event::Subject::Serial(Serial(b.into()))),
            comment: None,
        },
    }
}

fn apply(w: &mut World, op: Op) {
    match op {
        Op::Finish(n) => {
            w.finish(n);
        }
        Op::Stale(n) => {
            let job = JobId(u64::MAX);
            let report = Report::default();
            let before = (w.zone.candidate.clone(), w.zone.upkeep.clone());
            w.event(match n % 6 {
                0 => Event::PersistDone { job },
                1 => Event::VerifyPassed { job, report },
                2 => Event::HookDone {
                    run: job,
                    verdict: Verdict::Approve,
                },
                3 => Event::LoadDone {
                    job,
                    loaded: w.loaded(),
                },
                4 => Event::GuardResult {
                    job,
                    outcome: GuardOutcome::Pass,
                    report,
                },
                _ => Event::SignNothing {
                    job,
                    next_due: w.now,
                },
            });
            // Time passes too: only a verdict taken for good would show as one of these.
            let after = (&w.zone.candidate, &w.zone.upkeep);
            if w.zone.settled_at == w.now && before.0.name() == after.0.name() {
                assert!(after.0.cand().is_some() || before.0.cand().is_none(), "P11");
            }
        }
        Op::Change => w.change(),
        Op::Ask(a, b) => {
            let who = ["ann", "bob", "cid"][usize::from(b / 4) % 3];
            let c = command(w, a, b);
            let reset = c == Command::Reset;
            let ok = w.ask(who, c).is_ok();
            if reset && ok {
                let lane = w.zone.candidate.name();
                assert!(matches!(lane, "Idle" | "Loading"), "P14: {lane}");
            }
        }
        Op::World(n) => w.event(match n % 12 {
            0 => Event::StorageFull,
            1 | 2 => Event::StorageOk,
            3 => Event::ClockUnsafe { why: "step".into() },
            4 | 5 => Event::ClockSafe,
            6 => Event::SourceExpired,
            7 => Event::SourceBack,
            8 => Event::KeysChanged(KeySet {
                apex: u64::from(n / 12),
                signing: 1,
            }),
            9 => Event::DelegationConflict {
                what: "keys".into(),
            },
            10 => Event::DelegationOk,
            _ => Event::SweepFinding { text: "V03".into() },
        }),
        Op::Fault(n) => {
            let f = &mut w.faults;
            match n % 12 {
                0 => f.load = true,
                1 => f.guard = Some(GuardOutcome::Hold),
                2 => f.guard = Some(GuardOutcome::Reject),
                3 => {
                    f.hook = Some(Verdict::Reject {
                        reason: "bad".into(),
                    })
                }
                4 => f.hook_crash = true,
                5 => f.hook_hang = true,
                6 => f.sign = Some(Fault::Token),
                7 => f.sign = Some(Fault::Content),
                8 => f.sign = Some(Fault::Bug),
                9 => f.refuse = true,
                10 => f.unverifiable = true,
                _ => f.persist = true,
            }
        }
        Op::Healthy => w.faults = Default::default(),
        Op::Wait(secs) => {
            w.now = w.now + Duration::from_secs(secs.into());
            w.event(Event::Timer);
        }
        Op::Timer => {
            if let Some(at) = next_deadline(&w.zone) {
                w.now = w.now.max(at);
            }
            w.event(Event::Timer);
        }
        Op::CrashAfter(n) => {
            if let Some(e) = w.result_of(0) {
                w.event_until(e, n);
                w.crash();
            }
        }
        Op::Crash => w.crash(),
        Op::Lose => {
            doubt(&mut w.zone, w.now);
            w.disk = serde_json::to_vec(&w.zone).unwrap();
            w.crash();
        }
        Op::Asked(n) => {
            let used = w.zone.used_serial.map_or(0, |s| s.0);
            let serial = Serial(used + u32::from(n / 4));
            let text = "nobody".to_owned();
            let asked = match n % 4 {
                0 => Asked::Known,
                1 => Asked::Ahead { serial },
                2 => Asked::Foreign { serial, text },
                _ => Asked::Silent { text },
            };
            let doubted = w.zone.doubt.is_some();
            w.event(Event::ServersAsked(asked));
            assert!(doubted || w.zone.doubt.is_none(), "nobody doubts by asking");
        }
    }
}

/// With faults gone and people deciding, the newest content is live within a day, well signed.
fn becomes_healthy(w: &mut World) {
    w.faults = Default::default();
    for e in [
        Event::StorageOk,
        Event::ClockSafe,
        Event::SourceBack,
        Event::DelegationOk,
        Event::ServersAsked(Asked::Known),
    ] {
        w.event(e);
    }
    let _ = w.ask("root", Command::MaintenanceOff);
    let _ = w.ask("root", Command::Unpin);
    let _ = w.ask("root", Command::Resume(Part::Load));
    let _ = w.ask("root", Command::Resume(Part::Publish));
    w.run(Duration::from_secs(3600));
    let _ = w.ask("root", Command::Reset);
    let _ = w.ask("root", Command::Unpin);
    w.source += 1;
    let _ = w.ask("root", Command::Load { forced: true });
    for n in 0..40 {
        w.run(Duration::from_secs(1500));
        for stage in [Stage::Unsigned, Stage::Signed] {
            let _ = w.ask(
                &format!("p{n}"),
                Command::Approve {
                    stage,
                    of: None,
                    comment: None,
                },
            );
        }
    }
    let tail = w.tail();
    assert_eq!(
        w.live_content(),
        Some(w.source),
        "newest content is live\n{tail}"
    );
    assert_eq!(w.zone.runway(w.now), RunwayClass::Normal, "{tail}");
    let live = w.zone.live.as_ref().unwrap();
    assert_eq!(w.published, Some(live.version), "and served\n{tail}");
    assert!(
        matches!(w.zone.candidate, Candidate::Idle),
        "{}\n{tail}",
        w.zone.candidate.name()
    );
}

fn modes() -> impl Strategy<Value = Settings> {
    let mode = || {
        prop_oneof![
            Just(ReviewMode::Off),
            Just(ReviewMode::Manual),
            Just(ReviewMode::Script)
        ]
    };
    (mode(), mode(), any::<bool>(), any::<bool>(), 1usize..3).prop_map(|(u, s, halt, sup, n)| {
        let on_reject = if halt {
            OnReject::Halt
        } else {
            OnReject::Discard
        };
        let mut out = settings(u, s, on_reject);
        let on_newer = if sup {
            OnNewer::Supersede
        } else {
            OnNewer::Queue
        };
        for r in [&mut out.unsigned_review, &mut out.signed_review] {
            r.on_newer = on_newer;
            r.approvals = n;
        }
        out
    })
}

proptest! {
    // Walks of up to 1,300 operations, and their recovery: more than 10^5 events in all.
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_and_health_returns(
        settings in modes(),
        beside in prop_oneof![3 => Just(0u64), 1 => 1u64..60],
        ops in prop::collection::vec(op(), 1..1300),
    ) {
        let mut w = World::new(settings);
        w.beside = beside;
        w.event(Event::Timer);
        for op in ops {
            apply(&mut w, op);
        }
        becomes_healthy(&mut w);
        let seqs: Vec<u64> = w.history.iter().map(|e| e.seq).collect();
        prop_assert!(seqs.windows(2).all(|p| p[0] < p[1]), "history numbers increase");
    }
}
