//! Rolls by hand: every step, every refusal with its earliest time.

use std::time::Duration;

use cascade_keys::*;

use crate::rolls::{quiet, settled};
use cascade_sim::{Config, DAY, HOUR, World};

fn by_hand() -> World {
    let mut p = quiet();
    p.ksk.auto = Auto::OFF;
    p.zsk.auto = Auto::OFF;
    settled(p, Config::default())
}

fn propagated(class: Class, step: Step, ttl: u32) -> Command {
    Command::Propagated {
        class,
        step,
        ttl,
        force: false,
        who: "anna".to_string(),
    }
}

fn stage(w: &World, class: Class) -> Option<Stage> {
    w.zone.roll(class).map(|r| r.stage)
}

fn refusal(w: &mut World, c: Command) -> String {
    let before = w.zone.clone();
    let r = w.command(c).expect_err("refused");
    assert_eq!(w.zone, before);
    format!("{}: {r}", r.problem())
}

#[test]
fn a_zsk_roll_step_by_step() {
    let class = Class::Zsk;
    let mut w = by_hand();
    let expired1 = Command::Expired {
        class,
        step: Step::CacheExpired1,
    };
    assert_eq!(
        refusal(&mut w, expired1.clone()),
        "wrong-roll-step: No ZSK roll is running."
    );
    w.command(Command::StartRoll { class }).expect("starts");
    w.run(20 * 60);
    // Seen, but the flag is off: nothing moves without a word.
    assert_eq!(stage(&w, class), Some(Stage::P1));
    assert!(w.zone.roll(class).is_some_and(|r| r.is_met(Seen::Dnskey)));
    let text = why("example.", &w.zone, &w.policy, &w.facts, w.now);
    assert!(
        text.contains("waits for you and may go on: zsk propagation1-complete 3600"),
        "{text}"
    );
    assert_eq!(
        refusal(&mut w, expired1.clone()),
        "wrong-roll-step: The ZSK roll is at P1 (await-dnskey-seen), not at cache-expired1. Try: zsk propagation1-complete"
    );
    assert_eq!(
        refusal(&mut w, propagated(class, Step::Propagation1Complete, 300)),
        "invalid-value: TTL 300 is below 3600, which was served and may still be in caches."
    );
    w.command(propagated(class, Step::Propagation1Complete, 3600))
        .expect("fits");
    assert_eq!(stage(&w, class), Some(Stage::C1));
    let e = w.command(expired1.clone()).expect_err("too early");
    let at = e.earliest_at().expect("named");
    assert_eq!(
        e.to_string(),
        "Caches may hold the DNSKEY RRset without the new key until 2027-01-27T10:10:01+00:00 (1h 50m 1s)."
    );
    w.run(at.since(w.now).as_secs() - 1);
    w.command(expired1.clone())
        .expect_err("one second too early");
    w.run(1);
    w.command(expired1).expect("on the second");
    assert_eq!(stage(&w, class), Some(Stage::P2));
    // Signatures by the old key are still there: no word of an operator can say otherwise.
    w.run(HOUR);
    assert!(
        refusal(
            &mut w,
            propagated(class, Step::Propagation2Complete, 86_400)
        )
        .starts_with("too-early")
    );
    w.run(8 * HOUR);
    w.command(propagated(class, Step::Propagation2Complete, 86_400))
        .expect("all signed");
    let expired2 = Command::Expired {
        class,
        step: Step::CacheExpired2,
    };
    let at = w
        .command(expired2.clone())
        .expect_err("too early")
        .earliest_at()
        .expect("named");
    w.run(at.since(w.now).as_secs());
    w.command(expired2).expect("expired");
    let done = Command::RollDone {
        class,
        force: false,
        who: "anna".to_string(),
    };
    assert!(
        refusal(&mut w, done.clone()).starts_with("wrong-roll-step")
            || stage(&w, class) == Some(Stage::D)
    );
    w.run(20 * 60);
    w.command(done).expect("seen");
    assert!(w.zone.rolls.is_empty());
    w.run(DAY);
    assert_eq!(w.broken, None);
}

#[test]
fn operators_may_vouch_for_what_no_sweep_shows_but_not_against_it() {
    let class = Class::Ksk;
    let config = Config {
        // Dead for so long that it has stopped answering others as well.
        down: vec![(2, 4 * DAY, 80 * DAY)],
        parent: vec![60, 60],
        ..Config::default()
    };
    let mut p = quiet();
    p.ignore_unreachable_after = None;
    p.ksk.auto.report = false;
    let mut w = settled(p, config);
    w.command(Command::StartRoll { class }).expect("starts");
    w.run(20 * 60);
    let text = why("example.", &w.zone, &w.policy, &w.facts, w.now);
    assert!(text.contains("waits for its name servers (ns2.example at 198.51.100.2 has no answer; 2 of 3 addresses agree)"), "{text}");
    w.command(propagated(class, Step::Propagation1Complete, 3600))
        .expect("vouched");
    w.run(3 * HOUR);
    assert_eq!(stage(&w, class), Some(Stage::P2));
    // The parent did not follow: it is asked once more and says no.
    w.tell_parent(vec![KeyNum(1)]);
    w.run(HOUR);
    let r = refusal(
        &mut w,
        propagated(class, Step::Propagation2Complete, 86_400),
    );
    assert_eq!(r.split(':').next(), Some("invalid-value"), "{r}");
    assert!(r.contains("ns0.parent (192.0.2.0) shows"), "{r}");
}

#[test]
fn conflicts_and_layouts() {
    let mut w = settled(quiet(), Config::default());
    w.policy.algorithm = 15;
    w.run(60);
    assert!(w.zone.roll(Class::Algorithm).is_some());
    let r = refusal(&mut w, Command::StartRoll { class: Class::Ksk });
    assert_eq!(
        r,
        "roll-conflict: The KSK roll cannot start: an algorithm roll waits for signing since 2027-01-27T08:00:00+00:00."
    );
    let r = refusal(&mut w, Command::StartRoll { class: Class::Csk });
    assert_eq!(
        r,
        "wrong-roll-step: The zone uses a KSK; use: ksk start-roll"
    );
    let r = refusal(
        &mut w,
        Command::RemoveKey {
            key: KeyNum(1),
            force: true,
        },
    );
    assert_eq!(r.split(':').next(), Some("in-use"));
    assert!(
        refusal(
            &mut w,
            Command::RemoveKey {
                key: KeyNum(77),
                force: false
            }
        )
        .starts_with("not-found")
    );
}

#[test]
fn an_algorithm_wish_queues_behind_a_running_roll_and_goes_with_its_reason() {
    let mut w = settled(quiet(), Config::default());
    w.command(Command::StartRoll { class: Class::Ksk })
        .expect("starts");
    w.run(HOUR);
    w.policy.algorithm = 15;
    w.run(2 * HOUR);
    assert_eq!(w.zone.rolls.len(), 1);
    w.policy.algorithm = 13;
    w.run(9 * DAY);
    assert!(w.zone.rolls.is_empty());
    assert!(!w.finished.contains_key(&RollType::Algorithm));
    assert_eq!(w.broken, None);
}

#[test]
fn pause_and_a_held_clock_stop_steps_but_not_renewal() {
    for held in [false, true] {
        let mut p = quiet();
        p.apex_signatures.lifetime = Duration::from_secs(4 * DAY);
        p.apex_signatures.remain = Duration::from_secs(2 * DAY);
        let mut w = settled(p, Config::default());
        w.command(Command::StartRoll { class: Class::Zsk })
            .expect("starts");
        w.run(30 * 60);
        w.facts.paused = !held;
        w.facts.clock_held = held;
        w.run(100 * DAY);
        assert_eq!(stage(&w, Class::Zsk), Some(Stage::C1));
        assert_eq!(w.broken, None);
        w.facts.paused = false;
        w.facts.clock_held = false;
        // The clock had been stepped: the wait becomes longer by as much.
        w.command(Command::ClockConfirmed {
            stepped_secs: 200 * DAY,
        })
        .expect("noted");
        w.run(DAY);
        assert_eq!(stage(&w, Class::Zsk), Some(Stage::C1));
        w.run(120 * DAY);
        assert!(w.zone.rolls.is_empty());
        assert_eq!(w.broken, None);
    }
}

#[test]
fn force_removal_rolls_in_the_safe_order() {
    let mut w = settled(quiet(), Config::default());
    let remove = |force| Command::RemoveKey {
        key: KeyNum(2),
        force,
    };
    assert!(refusal(&mut w, remove(false)).contains("--force rolls it out"));
    w.command(remove(true)).expect("rolls");
    assert!(w.run_until_done(RollType::ZskPrePublish, 9 * DAY));
    w.run(DAY);
    assert_eq!(w.broken, None);
    w.command(remove(false)).expect("to the trash");
    assert!(
        w.zone
            .key(KeyNum(2))
            .is_some_and(|k| k.times.trashed_at.is_some())
    );
}

#[test]
fn an_imported_zone_goes_on_at_once_and_waits_for_unknown_ttls() {
    let mut w = settled(quiet(), Config::default());
    let mut zone = ZoneKeys::new(cascade_sim::OWNER);
    let at = w.now;
    for n in [1, 2] {
        let mut key = w.zone.key(KeyNum(n)).expect("there").clone();
        key.origin = Origin::Imported;
        key.times = Times {
            active_at: Some(at),
            ..Times::default()
        };
        zone.apply(&Event::KeyAdded {
            key,
            roll: None,
            at,
        });
    }
    let (dnskey_ttl, data_ttl, ds_ttl) = (300, 300, 300);
    zone.apply(&Event::TakenOver {
        dnskey_ttl,
        data_ttl,
        ds_ttl,
        at,
    });
    let actions = next_action(&zone, &w.policy, &w.facts, at);
    assert!(
        actions.iter().all(|a| matches!(a, Action::ProveKey { .. })),
        "{actions:?}"
    );
    for key in [KeyNum(1), KeyNum(2)] {
        zone.apply(&Event::KeyProved { key, at });
    }
    let actions = next_action(&zone, &w.policy, &w.facts, at);
    assert!(
        matches!(&actions[..], [Action::BuildVersion { .. }]),
        "{actions:?}"
    );
    let ttls: Vec<u32> = zone.log.entries.iter().map(|e| e.ttl).collect();
    // DNSKEY, data, DS, and CDS as the one before may have left it.
    assert_eq!(ttls, [86_400, 86_400, 172_800, 86_400]);
    // Imported keys do not expire.
    assert!(
        zone.keys
            .iter()
            .all(|k| zone.expires_at(k, &KeyPolicy::default()).is_none())
    );
    w.run(0);
}

#[test]
fn a_backup_is_waited_for() {
    let mut p = quiet();
    p.require_backup = true;
    let mut w = World::new(p, Config::default());
    w.run(DAY);
    assert!(w.zone.published.is_none());
    let text = why("example.", &w.zone, &w.policy, &w.facts, w.now);
    assert!(text.contains("waits for a backup of key"), "{text}");
    for key in [KeyNum(1), KeyNum(2)] {
        w.command(Command::BackedUp { key }).expect("noted");
    }
    w.run(60);
    assert!(w.zone.published.is_some());
}

#[test]
fn states_follow_rfc_7583() {
    let mut w = settled(quiet(), Config::default());
    let class = Class::Ksk;
    w.command(Command::StartRoll { class }).expect("starts");
    w.run(60);
    let mut seen = [Vec::new(), Vec::new()];
    while w.now.since(w.start).as_secs() < 30 * DAY {
        for (i, n) in [KeyNum(1), KeyNum(3)].into_iter().enumerate() {
            let k = w.zone.key(n).expect("known");
            let s = w.zone.key_state(k, &w.policy, w.now);
            if seen[i].last() != Some(&s) {
                seen[i].push(s);
            }
        }
        // Held at C2 until the old key has been Dead for all to see.
        let held = seen[0].last() != Some(&KeyState::Dead);
        w.policy.ksk.auto.expire = stage(&w, class) != Some(Stage::C2) || !held;
        w.run(30);
    }
    use KeyState::*;
    assert_eq!(seen[0], [Active, Retired, Dead, Removed]);
    assert_eq!(seen[1], [Published, Ready, Active]);
}

#[test]
fn a_key_removed_before_its_roll_began_is_replaced() {
    let mut p = quiet();
    p.require_backup = true;
    let mut w = World::new(p, Config::default());
    w.run(60);
    for key in [KeyNum(1), KeyNum(2)] {
        w.command(Command::BackedUp { key }).expect("noted");
    }
    w.run(12 * DAY);
    w.command(Command::StartRoll { class: Class::Zsk })
        .expect("starts");
    w.run(60);
    let (key, force) = (KeyNum(3), false);
    w.command(Command::RemoveKey { key, force })
        .expect("not in use yet");
    w.run(60);
    let key = KeyNum(4);
    assert_eq!(
        w.zone.roll(Class::Zsk).map(|r| r.new.clone()),
        Some(vec![key])
    );
    w.command(Command::BackedUp { key }).expect("noted");
    assert!(w.run_until_done(RollType::ZskPrePublish, 9 * DAY));
    assert_eq!(w.broken, None);
}

#[test]
fn renewal_goes_on_while_everything_else_fails() {
    let mut w = settled(quiet(), Config::default());
    w.command(Command::StartRoll { class: Class::Zsk })
        .expect("starts");
    // The proof of the new key hangs for ever.
    let (policy, mut facts) = (w.policy.clone(), w.facts.clone());
    facts
        .in_flight
        .extend([Subject::Prove(KeyNum(3)), Subject::Build]);
    facts.in_flight.insert(Subject::Look(What::Dnskey));
    let expires = w.zone.published.as_ref().expect("published").apex_expires;
    let late = expires - policy.apex_signatures.remain;
    let actions = next_action(&w.zone, &policy, &facts, late);
    assert!(
        matches!(actions.first(), Some(Action::RenewApex { .. })),
        "{actions:?}"
    );
}

#[test]
fn one_key_that_cannot_be_made_delays_no_other() {
    let w = World::new(quiet(), Config::default());
    let mut zone = w.zone.clone();
    for a in next_action(&zone, &w.policy, &w.facts, w.now) {
        if let Action::Commit(events) = a {
            events.iter().for_each(|e| zone.apply(e));
        }
    }
    let made = |facts: &Facts| -> Vec<(KeyNum, Role)> {
        next_action(&zone, &w.policy, facts, w.now)
            .into_iter()
            .filter_map(|a| match a {
                Action::GenerateKey { num, role, .. } => Some((num, role)),
                _ => None,
            })
            .collect()
    };
    let mut facts = w.facts.clone();
    assert_eq!(
        made(&facts),
        [(KeyNum(1), Role::Ksk), (KeyNum(2), Role::Zsk)]
    );
    facts.in_flight.insert(Subject::Generate(Role::Ksk));
    assert_eq!(made(&facts), [(KeyNum(2), Role::Zsk)]);
    facts.in_flight.clear();
    let later = w.now + Duration::from_secs(60);
    facts.retry_at.insert(Subject::Generate(Role::Zsk), later);
    assert_eq!(made(&facts), [(KeyNum(1), Role::Ksk)]);
    assert_eq!(next_deadline(&zone, &w.policy, &facts, w.now), Some(later));
}
