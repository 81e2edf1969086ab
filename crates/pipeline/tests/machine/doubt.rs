//! A zone that was restored from a backup.

use std::time::Duration;

use cascade_pipeline::event::Part;
use cascade_pipeline::settings::{OnReject, ReviewMode};
use cascade_pipeline::state::*;
use cascade_pipeline::*;
use cascade_zone::Serial;

use crate::world::{World, settings};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// Published once, and back from a backup of then.
fn restored() -> World {
    let mut w = World::new(settings(
        ReviewMode::Off,
        ReviewMode::Off,
        OnReject::Discard,
    ));
    w.event(Event::Timer);
    w.run(MINUTE);
    in_doubt(&mut w);
    w
}

fn in_doubt(w: &mut World) {
    doubt(&mut w.zone, w.now);
    w.disk = serde_json::to_vec(&w.zone).unwrap();
    w.crash();
    w.run(MINUTE);
}

fn serial(w: &World) -> Serial {
    w.zone.live.as_ref().unwrap().serial
}

fn asked(w: &mut World, asked: Asked) {
    w.event(Event::ServersAsked(asked));
    w.run(MINUTE);
}

#[test]
fn nothing_is_signed_before_an_answer_however_long_it_takes() {
    let mut w = restored();
    let before = serial(&w);
    w.change();
    let text = "none answers".to_owned();
    asked(&mut w, Asked::Silent { text: text.clone() });
    // Signatures come to their end meanwhile: an operator knows, and decides.
    for _ in 0..20 {
        w.run(24 * HOUR);
        asked(&mut w, Asked::Silent { text: text.clone() });
    }
    assert_eq!((serial(&w), w.live_content()), (before, Some(1)));
    let alert = w.zone.alerts.get(&AlertKey::Doubt).unwrap();
    assert_eq!(alert.severity, Severity::Critical);
    assert!(alert.text.contains(&text) && alert.commands[0].contains("--serial"));
    let said = w
        .history
        .iter()
        .filter(|e| e.kind == HistoryKind::ServersAsked);
    assert_eq!(said.count(), 1, "the same answer is told once");
    asked(&mut w, Asked::Known);
    assert!(serial(&w).newer_than(before));
    assert_eq!(w.live_content(), Some(2));
    assert!(!w.zone.alerts.contains_key(&AlertKey::Doubt));
}

#[test]
fn what_nobody_has_seen_more_of_is_not_signed_again() {
    let mut w = restored();
    let before = w.zone.live.clone();
    asked(&mut w, Asked::Known);
    assert_eq!(w.zone.live, before);
}

#[test]
fn the_next_serial_is_above_all_that_were_seen() {
    for changed in [false, true] {
        let mut w = restored();
        if changed {
            w.change();
            w.run(MINUTE);
            assert_eq!(w.zone.candidate.name(), "AwaitRetry");
        }
        asked(&mut w, Asked::Ahead { serial: Serial(50) });
        assert!(serial(&w).newer_than(Serial(50)), "{}", w.tail());
        assert_eq!(w.live_content(), Some(if changed { 2 } else { 1 }));
        assert_eq!(w.zone.live.as_ref().unwrap().serving, Serving::Yes);
    }
}

/// What the backup holds signed and ready has a serial that others may have seen with other content.
#[test]
fn a_version_that_was_ready_gets_another_serial() {
    let mut w = World::new(settings(
        ReviewMode::Off,
        ReviewMode::Off,
        OnReject::Discard,
    ));
    w.event(Event::Timer);
    w.run(MINUTE);
    w.ask("ann", Command::Pause(Part::Publish)).unwrap();
    w.change();
    w.run(MINUTE);
    let ready = w
        .zone
        .candidate
        .cand()
        .unwrap()
        .signed
        .clone()
        .unwrap()
        .serial;
    in_doubt(&mut w);
    w.event(Event::ServersAsked(Asked::Ahead {
        serial: Serial(ready.0 + 3),
    }));
    w.ask("ann", Command::Resume(Part::Publish)).unwrap();
    w.run(MINUTE);
    assert!(serial(&w).newer_than(Serial(ready.0 + 3)), "{}", w.tail());
    assert_eq!(w.live_content(), Some(2));
}

#[test]
fn strange_keys_are_for_a_person() {
    for by_serial in [false, true] {
        let mut w = restored();
        let before = serial(&w);
        let text = "key 4711".to_owned();
        asked(
            &mut w,
            Asked::Foreign {
                serial: Serial(9),
                text,
            },
        );
        let resign = |serial| Command::Resign {
            full: false,
            serial,
        };
        w.ask("ann", resign(None)).unwrap();
        w.run(HOUR);
        assert_eq!(serial(&w), before);
        w.crash();
        w.run(HOUR);
        assert_eq!(serial(&w), before, "a restart changes nothing");
        if by_serial {
            w.ask("ann", resign(Some(Serial(70)))).unwrap();
        } else {
            w.ask("ann", Command::Resume(Part::Publish)).unwrap();
        }
        w.run(HOUR);
        let least = Serial(if by_serial { 69 } else { 9 });
        assert!(serial(&w).newer_than(least), "{}", w.tail());
        assert!(w.zone.alerts.is_empty(), "{:?}", w.zone.alerts);
    }
}
