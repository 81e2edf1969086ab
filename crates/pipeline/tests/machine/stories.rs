//! What operators go through, told as they would tell it.

use std::time::Duration;

use cascade_pipeline::event::Part;
use cascade_pipeline::settings::{OnReject, ReviewMode, UpkeepReview};
use cascade_pipeline::state::*;
use cascade_pipeline::*;
use cascade_time::Timestamp;

use crate::table::candidate_states;
use crate::world::{World, settings};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

fn world(u: ReviewMode, s: ReviewMode, on_reject: OnReject) -> World {
    let mut w = World::new(settings(u, s, on_reject));
    w.event(Event::Timer);
    w
}

fn approve(stage: Stage) -> Command {
    Command::Approve {
        stage,
        of: None,
        comment: None,
    }
}

fn reject(stage: Stage) -> Command {
    Command::Reject {
        stage,
        of: None,
        reason: Some("looks wrong".into()),
    }
}

#[test]
fn from_file_to_published_without_reviews() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    assert_eq!(w.live_content(), Some(1));
    assert_eq!(w.published, w.zone.live.as_ref().map(|l| l.version));
    assert_eq!(w.zone.api_state(), ApiState::Published);
    let texts: Vec<&str> = w.history.iter().map(|e| e.text.as_str()).collect();
    assert!(texts.contains(&"New version received"), "{texts:?}");
    assert!(
        texts.contains(&"Signing succeeded (triggered by content)"),
        "{texts:?}"
    );
}

#[test]
fn rejected_then_overridden_then_restarted() {
    let mut w = world(ReviewMode::Manual, ReviewMode::Manual, OnReject::Halt);
    w.run(MINUTE);
    w.ask("ann", reject(Stage::Unsigned)).unwrap();
    assert_eq!(w.zone.api_state(), ApiState::Halted);
    let e = w.ask("ann", approve(Stage::Unsigned)).unwrap_err();
    assert_eq!(e.code, RefusalCode::NotUnderReview);
    w.crash();
    w.run(MINUTE);
    assert_eq!(
        w.zone.api_state(),
        ApiState::Halted,
        "a rejection survives a restart"
    );
    let over = |stage| Command::Override {
        stage,
        despite_verification: false,
    };
    let e = w.ask("ann", over(Stage::Signed)).unwrap_err();
    assert_eq!(
        e.commands[0],
        "cascade zone override --unsigned example.net"
    );
    w.ask("ann", over(Stage::Unsigned)).unwrap();
    w.run(MINUTE);
    w.ask("ann", reject(Stage::Signed)).unwrap();
    w.crash();
    w.run(MINUTE);
    w.ask("ann", over(Stage::Signed)).unwrap();
    w.run(MINUTE);
    assert_eq!(w.live_content(), Some(1));
    assert!(w.has(HistoryKind::Overridden));
}

#[test]
fn reset_after_a_signing_failure_and_after_a_signed_side_rejection() {
    let mut w = world(ReviewMode::Off, ReviewMode::Manual, OnReject::Halt);
    w.faults.sign = Some(Fault::Content);
    w.run(MINUTE);
    assert_eq!(w.zone.candidate.name(), "Rejected");
    w.faults.sign = None;
    w.ask("ann", Command::Reset).unwrap();
    w.ask("ann", Command::Load { forced: true }).unwrap();
    w.run(MINUTE);
    w.ask("ann", reject(Stage::Signed)).unwrap();
    w.ask("ann", Command::Reset).unwrap();
    let e = w.ask("ann", Command::Reset).unwrap_err();
    assert_eq!(e.code, RefusalCode::NotHalted);
    w.ask("ann", Command::Load { forced: true }).unwrap();
    w.run(MINUTE);
    w.ask("ann", approve(Stage::Signed)).unwrap();
    w.run(MINUTE);
    assert_eq!(w.live_content(), Some(1));
}

#[test]
fn an_always_rejecting_hook_for_48_hours_spins_nothing_and_keeps_the_old_content_fresh() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    let mut s = w.zone.settings.clone();
    s.unsigned_review.mode = ReviewMode::Script;
    w.ask(
        "root",
        Command::ChangePolicy {
            settings: Box::new(s),
        },
    )
    .unwrap();
    w.faults.hook = Some(Verdict::Reject {
        reason: "no".into(),
    });
    w.source = 2;
    for _ in 0..48 * 12 {
        w.event(Event::SourceSignal(Trigger::Timer));
        w.run(5 * MINUTE);
    }
    let runs = w
        .history
        .iter()
        .filter(|e| e.kind == HistoryKind::HookStarted)
        .count();
    assert!(
        (40..=60).contains(&runs),
        "about once an hour, not {runs} times"
    );
    assert_eq!(w.live_content(), Some(1));
    assert_eq!(w.zone.runway(w.now), RunwayClass::Normal);
    assert!(w.live_serials.len() >= 4, "refreshed meanwhile");
}

#[test]
fn a_hook_that_hangs_is_killed_and_a_person_is_asked() {
    let mut w = world(ReviewMode::Script, ReviewMode::Off, OnReject::Discard);
    w.faults.hook_hang = true;
    w.run(HOUR);
    assert_eq!(w.zone.candidate.name(), "AwaitUnsignedReview");
    assert!(w.running.is_empty(), "the hook was killed");
    let a = &w.zone.alerts[&AlertKey::Review];
    assert!(a.text.contains("did not end in time"), "{}", a.text);
    assert_eq!(
        a.commands[0],
        "cascade zone approve --unsigned example.net 1"
    );
    assert!(
        !w.has(HistoryKind::UnsignedRejected),
        "silence is not a verdict"
    );
    w.ask("ann", approve(Stage::Unsigned)).unwrap();
    w.run(MINUTE);
    assert_eq!(w.live_content(), Some(1));
}

#[test]
fn a_hook_that_crashes_is_tried_five_times_and_then_held() {
    let mut w = world(ReviewMode::Script, ReviewMode::Off, OnReject::Discard);
    w.faults.hook_crash = true;
    w.run(2 * HOUR);
    let failed = w
        .history
        .iter()
        .filter(|e| e.kind == HistoryKind::HookFailed)
        .count();
    assert_eq!(failed, 5);
    assert!(w.zone.alerts.contains_key(&AlertKey::Review));
    assert_eq!(w.zone.candidate.name(), "AwaitUnsignedReview");
}

#[test]
fn a_review_survives_a_restart_and_upkeep_and_needs_no_second_approval() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    let mut s = w.zone.settings.clone();
    s.signed_review.mode = ReviewMode::Manual;
    s.signed_review.approvals = 2;
    w.ask(
        "root",
        Command::ChangePolicy {
            settings: Box::new(s),
        },
    )
    .unwrap();
    w.change();
    w.run(MINUTE);
    let more = w.ask("ann", approve(Stage::Signed)).unwrap();
    assert_eq!(more.missing, 1);
    let e = w.ask("ann", approve(Stage::Signed)).unwrap_err();
    assert_eq!(e.code, RefusalCode::AlreadyApproved);
    w.crash();
    w.run(48 * HOUR);
    assert_eq!(w.live_content(), Some(1));
    assert!(
        w.live_serials.len() > 2,
        "live was refreshed while the review waited"
    );
    w.ask("bob", approve(Stage::Signed)).unwrap();
    w.run(MINUTE);
    assert_eq!(
        w.live_content(),
        Some(2),
        "rebased on the newer live, approval stands"
    );
    let pending = w
        .history
        .iter()
        .filter(|e| e.kind == HistoryKind::SignedReviewPending)
        .count();
    assert_eq!(pending, 1);
}

#[test]
fn rollback_pins_and_unpin_lets_the_newest_go_on() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    let first = w.zone.live.as_ref().unwrap().version;
    w.change();
    w.run(MINUTE);
    w.ask(
        "ann",
        Command::Rollback {
            to: first,
            pin: true,
        },
    )
    .unwrap();
    w.run(MINUTE);
    assert_eq!(w.live_content(), Some(1));
    w.change();
    w.run(48 * HOUR);
    assert_eq!(w.live_content(), Some(1), "pinned, and refreshed");
    assert_eq!(w.zone.runway(w.now), RunwayClass::Normal);
    w.ask("ann", Command::Unpin).unwrap();
    w.run(MINUTE);
    assert_eq!(w.live_content(), Some(3));
    let e = w.ask(
        "ann",
        Command::Rollback {
            to: cascade_zone::VersionId(999),
            pin: true,
        },
    );
    assert_eq!(e.unwrap_err().code, RefusalCode::UnknownVersion);
}

#[test]
fn a_secondary_that_is_ahead_is_told_and_overtaken() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    let live = w.zone.live.as_ref().unwrap().serial;
    let ahead = |serial, raise| Event::SecondaryAhead {
        serial,
        server: "192.0.2.1:53".into(),
        raise,
    };
    w.event(ahead(live, true));
    assert!(w.zone.ahead.is_none(), "it has ours");
    let theirs = cascade_zone::Serial(live.0 + 1000);
    w.event(ahead(theirs, false));
    let alert = &w.zone.alerts[&AlertKey::SecondaryAhead];
    assert_eq!(alert.severity, Severity::Critical);
    assert!(alert.text.contains("192.0.2.1:53"), "{}", alert.text);
    assert_ne!(
        w.zone.used_serial,
        Some(theirs),
        "the source's serials are kept"
    );
    w.event(ahead(cascade_zone::Serial(theirs.0 + 1), true));
    // An older one is no news.
    w.event(ahead(theirs, true));
    assert_eq!(w.zone.used_serial, Some(cascade_zone::Serial(theirs.0 + 1)));
    w.change();
    w.run(MINUTE);
    let next = w.zone.live.as_ref().unwrap().serial;
    assert!(
        next.newer_than(cascade_zone::Serial(theirs.0 + 1)),
        "{next}"
    );
    assert!(w.zone.ahead.is_none());
    assert!(!w.zone.alerts.contains_key(&AlertKey::SecondaryAhead));
}

#[test]
fn maintenance_queues_and_its_end_starts_what_waits() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    w.ask(
        "ann",
        Command::MaintenanceOn {
            resign: true,
            span: None,
        },
    )
    .unwrap();
    w.source = 2;
    let a = w.ask("ann", Command::Load { forced: false }).unwrap();
    assert!(a.note.contains("maintenance"), "{}", a.note);
    w.run(24 * HOUR);
    assert_eq!(w.live_content(), Some(1));
    assert!(w.live_serials.len() > 1, "refreshed");
    w.ask("ann", Command::MaintenanceOff).unwrap();
    w.run(MINUTE);
    assert_eq!(w.live_content(), Some(2));
}

#[test]
fn maintenance_without_re_signing_ends_at_critical_runway_under_alarm() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    w.ask(
        "ann",
        Command::MaintenanceOn {
            resign: false,
            span: None,
        },
    )
    .unwrap();
    w.run(9 * 24 * HOUR);
    assert_eq!(w.live_serials.len(), 1);
    assert!(
        w.zone.alerts.contains_key(&AlertKey::Runway),
        "{}",
        w.tail()
    );
    assert_eq!(w.zone.alerts[&AlertKey::Runway].severity, Severity::Warning);
    w.run(4 * 24 * HOUR);
    assert!(w.live_serials.len() > 1, "critical: refreshed all the same");
}

#[test]
fn a_full_disk_for_an_hour() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    w.event(Event::StorageFull);
    w.change();
    w.run(HOUR);
    assert_eq!(w.live_content(), Some(1));
    assert_eq!(
        w.zone.alerts[&AlertKey::Storage].severity,
        Severity::Critical
    );
    w.event(Event::StorageOk);
    w.run(MINUTE);
    assert_eq!(w.live_content(), Some(2));
    assert!(!w.zone.alerts.contains_key(&AlertKey::Storage));
}

#[test]
fn a_token_away_for_days_alerts_in_order_and_signs_when_it_is_back() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    w.faults.sign = Some(Fault::Token);
    w.change();
    w.run(10 * MINUTE);
    assert!(
        !w.zone.alerts.contains_key(&AlertKey::Retry),
        "short absences are no alert"
    );
    w.run(12 * 24 * HOUR + 12 * HOUR);
    assert!(w.zone.alerts.contains_key(&AlertKey::Retry));
    assert_eq!(
        w.zone.alerts[&AlertKey::Runway].severity,
        Severity::Critical
    );
    let attempts = w
        .history
        .iter()
        .filter(|e| e.kind == HistoryKind::SigningFailed)
        .count();
    // Two lanes, each about every five minutes.
    assert!(
        attempts < 13 * 24 * 12 * 2 * 5 / 4,
        "no tight loop: {attempts}"
    );
    w.faults.sign = None;
    w.event(Event::KeysChanged(KeySet::default()));
    w.run(HOUR);
    assert_eq!(w.live_content(), Some(2));
    let left: Vec<&AlertKey> = w.zone.alerts.keys().collect();
    assert_eq!(
        left,
        [&AlertKey::Source],
        "nobody asked the source for so long"
    );
}

#[test]
fn a_storm_of_content_ends_with_the_newest_live() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    for _ in 0..600 {
        w.change();
        w.now = w.now + Duration::from_millis(100);
        w.finish(0);
    }
    assert!(
        w.live_serials.len() > 20,
        "the storm starves nobody: {}",
        w.live_serials.len()
    );
    w.run(MINUTE);
    assert_eq!(w.live_content(), Some(w.source));
}

#[test]
fn a_refused_version_is_healed_once_then_held_and_goes_out_only_by_a_deliberate_act() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    w.faults.refuse = true;
    w.change();
    w.run(MINUTE);
    assert_eq!(w.zone.candidate.name(), "Refused");
    assert!(w.has(HistoryKind::Healing));
    assert_eq!(w.live_content(), Some(1));
    let over = |d| Command::Override {
        stage: Stage::Signed,
        despite_verification: d,
    };
    assert_eq!(
        w.ask("ann", over(false)).unwrap_err().code,
        RefusalCode::GateRefused
    );
    w.ask("ann", over(true)).unwrap();
    w.run(MINUTE);
    assert_eq!(w.live_content(), Some(2));
    assert!(
        w.zone.alerts.contains_key(&AlertKey::DespiteVerification),
        "standing alarm"
    );
    w.faults.refuse = false;
    w.ask(
        "ann",
        Command::Resign {
            full: true,
            serial: None,
        },
    )
    .unwrap();
    w.run(MINUTE);
    assert!(!w.zone.alerts.contains_key(&AlertKey::DespiteVerification));
}

#[test]
fn upkeep_that_review_rejects_backs_off_and_the_candidate_review_comes_first() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    let mut s = w.zone.settings.clone();
    s.signed_review.mode = ReviewMode::Manual;
    s.upkeep_review = UpkeepReview::Always;
    w.ask(
        "root",
        Command::ChangePolicy {
            settings: Box::new(s),
        },
    )
    .unwrap();
    w.event(Event::RefreshDue);
    w.run(MINUTE);
    assert_eq!(w.zone.upkeep.name(), "AwaitReview");
    w.change();
    w.run(MINUTE);
    assert_eq!(w.zone.candidate.name(), "AwaitSignedReview");
    assert_eq!(w.zone.upkeep.review().unwrap().hook, Hook::NotOpened);
    w.ask("ann", reject(Stage::Signed)).unwrap();
    assert_eq!(w.zone.candidate.name(), "Idle");
    assert_eq!(w.zone.upkeep.review().unwrap().hook, Hook::Person);
    w.ask("ann", reject(Stage::Signed)).unwrap();
    assert_eq!(w.zone.upkeep.name(), "AwaitRetry");
    assert!(w.zone.alerts.contains_key(&AlertKey::UpkeepRetry));
}

#[test]
fn an_expired_source_silences_the_zone_and_its_return_brings_it_back() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    w.event(Event::SourceExpired);
    assert_eq!((w.published, w.zone.api_state()), (None, ApiState::Expired));
    w.event(Event::SourceBack);
    assert!(w.published.is_some());
    w.event(Event::SourceExpired);
    w.run(10 * 24 * HOUR);
    w.event(Event::SourceBack);
    assert_eq!(w.published, None, "late signatures are renewed first");
    w.run(MINUTE);
    assert!(w.published.is_some());
}

#[test]
fn recovery_of_an_older_version_ends_with_a_serial_above_all() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    let old = w.zone.live.clone().unwrap();
    w.change();
    w.run(MINUTE);
    let newest = w.zone.live.as_ref().unwrap().serial;
    w.crash();
    w.running.clear();
    w.event(Event::RestoreFailed(Lost::Old(Box::new(old))));
    assert_eq!(w.zone.live.as_ref().unwrap().serving, Serving::RecoveredOld);
    assert!(w.zone.alerts.contains_key(&AlertKey::Recovered));
    w.run(MINUTE);
    let live = w.zone.live.clone().unwrap();
    assert!(live.serial.newer_than(newest));
    assert_eq!(live.serving, Serving::Yes);
}

#[test]
fn a_lost_rollback_is_done_again() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    let first = w.zone.live.as_ref().unwrap().version;
    w.change();
    w.run(MINUTE);
    w.ask(
        "ann",
        Command::Rollback {
            to: first,
            pin: true,
        },
    )
    .unwrap();
    w.faults.lose_candidate = true;
    w.crash();
    w.run(MINUTE);
    assert_eq!(
        w.live_content(),
        Some(1),
        "an acknowledged command is not lost"
    );
}

#[test]
fn removal_from_every_state_ends_in_nothing() {
    for (name, zone) in candidate_states() {
        let now: Timestamp = zone.settled_at;
        let mut w = World::new(Settings::default());
        w.now = now;
        w.disk = serde_json::to_vec(&zone).unwrap();
        w.zone = zone;
        if name != "Removing" {
            w.ask("ann", Command::Remove { keys: Keep::Keys }).unwrap();
        } else {
            w.crash();
        }
        assert_eq!(w.zone.api_state(), ApiState::Removed, "{name}");
        w.event(Event::StorageFull);
        w.crash();
        w.run(MINUTE);
        assert!(w.forgotten, "{name}");
    }
}

#[test]
fn a_panic_in_each_stage_halts_nothing_for_good() {
    for stage in ["Loading", "Guarding", "Signing", "Verifying", "Persisting"] {
        let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
        while w.zone.candidate.name() != stage {
            assert!(w.finish(0));
        }
        let job = crate::world::job_of(&w.running[0]).unwrap();
        w.running.clear();
        w.event(Event::TaskPanicked {
            job,
            error: "index out of bounds".into(),
        });
        w.run(HOUR);
        if stage == "Guarding" {
            w.ask("ann", approve(Stage::Unsigned)).unwrap();
            w.run(MINUTE);
        }
        assert_eq!(w.live_content(), Some(1), "{stage}\n{}", w.tail());
    }
}

#[test]
fn publishing_paused_holds_only_the_last_step() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    w.ask("ann", Command::Pause(Part::Publish)).unwrap();
    w.change();
    w.run(HOUR);
    assert_eq!(
        (w.live_content(), w.zone.candidate.name()),
        (Some(1), "AwaitRetry")
    );
    w.ask("ann", Command::Resume(Part::Publish)).unwrap();
    w.run(MINUTE);
    assert_eq!(w.live_content(), Some(2));
}

/// Another denial of existence takes many jobs; content and refreshes go on with the old one, and a
/// restart in the middle changes nothing of that.
#[test]
fn a_denial_is_built_beside_while_content_goes_on() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    let mut s = w.zone.settings.clone();
    s.signing = 7;
    w.beside = 1000;
    let change = Command::ChangePolicy {
        settings: Box::new(s),
    };
    w.ask("root", change).unwrap();
    for _ in 0..10 {
        assert!(w.finish(0));
    }
    let since = w.now;
    assert_eq!(w.zone.beside.map(|b| b.since), Some(since));
    let started = |w: &World| {
        let of = |e: &&HistoryEntry| e.kind == HistoryKind::SigningStarted;
        w.history.iter().filter(of).count()
    };
    let before = started(&w);
    for content in [2, 3] {
        w.change();
        let jobs = (0..20).find(|_| !w.finish(0) || w.live_content() == Some(content));
        assert!(jobs.is_some(), "content waits for the chain");
        let live = w.zone.live.as_ref().unwrap();
        assert_ne!(live.signing, 7, "the policy is not met yet");
        w.crash();
        for _ in 0..10 {
            w.finish(0);
        }
    }
    // What is due goes first.
    let live = w.zone.live.as_mut().unwrap();
    live.next_due = w.now;
    let serial = live.serial;
    w.event(Event::Timer);
    for _ in 0..10 {
        w.finish(0);
    }
    let live = w.zone.live.as_ref().unwrap();
    assert!(live.serial.newer_than(serial), "{}", w.tail());
    assert_ne!(live.signing, 7);
    assert!(w.beside > 900 && w.zone.beside.is_some());
    // No entry for every step.
    assert!(started(&w) <= before + 6, "{}", started(&w) - before);
    // All of it is there: the version that switches is not kept away by a stream of changes.
    w.beside = 1;
    while w.beside > 0 {
        assert!(w.finish(0));
    }
    w.change();
    for _ in 0..12 {
        // Whatever comes from the source is done before the signing that switches.
        let other = w
            .running
            .iter()
            .position(|a| !matches!(a, Action::StartSign(_)));
        w.finish(other.unwrap_or(0));
        if w.zone.live.as_ref().unwrap().signing == 7 {
            break;
        }
    }
    let live = w.zone.live.as_ref().unwrap();
    assert_eq!((live.signing, live.content_fp.0), (7, 3), "{}", w.tail());
    w.run(MINUTE);
    assert_eq!(w.zone.beside, None);
    let live = w.zone.live.as_ref().unwrap();
    assert_eq!((live.signing, live.content_fp.0), (7, 4));
}

/// The policy is taken back: nothing is built any more, and nothing has to be signed for it.
#[test]
fn a_denial_that_nobody_wants_any_more_is_dropped() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    let old = w.zone.settings.clone();
    let mut s = old.clone();
    s.signing = 7;
    w.beside = 1000;
    for settings in [s, old] {
        let change = Command::ChangePolicy {
            settings: Box::new(settings),
        };
        w.ask("root", change).unwrap();
        for _ in 0..5 {
            w.finish(0);
        }
    }
    let live = w.zone.live.clone();
    w.run(MINUTE);
    assert_eq!((w.zone.beside, w.zone.live.clone()), (None, live));
    assert!(w.running.is_empty());
}

/// Off for so long that the signatures ended: nothing is answered with them while others are made, and
/// when none can be made the zone is answered as it would be had it been on.
#[test]
fn signatures_that_ended_while_off_are_made_anew_first() {
    for token_is_away in [false, true] {
        let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
        w.run(MINUTE);
        let old = w.published;
        w.now = w.now + 60 * 24 * HOUR;
        w.crash();
        let serial = w.zone.live.as_ref().unwrap().serial;
        w.faults.sign = token_is_away.then_some(Fault::Token);
        while matches!(w.zone.candidate, Candidate::Restoring { .. }) {
            assert!(w.finish(0));
        }
        assert_eq!(w.zone.live.as_ref().unwrap().serving, Serving::SignFirst);
        assert_eq!(w.published, None, "nothing is answered yet");
        for _ in 0..6 {
            if w.published.is_some() {
                break;
            }
            w.finish(0);
        }
        let live = w.zone.live.as_ref().unwrap();
        assert_eq!(live.serving, Serving::Yes);
        assert_eq!(w.published == old, token_is_away);
        assert_eq!(live.serial.newer_than(serial), !token_is_away);
        w.faults.sign = None;
        w.run(HOUR);
        let live = w.zone.live.as_ref().unwrap();
        assert!(live.min_exp > w.now && live.serving == Serving::Yes);
    }
}

/// What another signer's DS makes bogus out there is neither announced nor transferred, and is
/// announced as soon as it may be.
#[test]
fn a_conflict_holds_transfers_and_its_end_announces() {
    let mut w = world(ReviewMode::Off, ReviewMode::Off, OnReject::Discard);
    w.run(MINUTE);
    let live = w.zone.live.as_ref().map(|l| l.version);
    let next = |w: &mut World, event| {
        let (zone, actions) = step(w.zone.clone(), event, w.now);
        w.zone = zone;
        actions
    };
    let tells = |actions: &[Action]| {
        actions.iter().any(|a| {
            matches!(
                a,
                Action::SendNotify { .. } | Action::WatchSecondaries { .. }
            )
        })
    };
    let what = "a DS of somebody else".to_owned();
    let held = next(&mut w, Event::DelegationConflict { what });
    assert!(
        held.contains(&Action::HoldTransfers(true)) && !tells(&held),
        "{held:?}"
    );
    assert!(
        held.iter()
            .any(|a| matches!(a, Action::Alert(a) if a.text.contains("transfers are held")))
    );
    let freed = next(&mut w, Event::DelegationOk);
    assert!(
        freed.contains(&Action::HoldTransfers(false)) && tells(&freed),
        "{freed:?}"
    );
    let told =
        |a: &Action| matches!(a, Action::SendNotify { version, .. } if Some(*version) == live);
    assert!(freed.iter().any(told), "{freed:?}");
}
