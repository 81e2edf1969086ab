//! Every roll type from start to done, with faults and with a restart after every event.

use std::time::Duration;

use cascade_keys::*;

use cascade_sim::{Config, DAY, HOUR, Led, World, default_policy, quiet_policy};

pub fn policy() -> KeyPolicy {
    default_policy()
}

pub fn quiet() -> KeyPolicy {
    quiet_policy()
}

/// A world whose zone is settled and linked.
pub fn settled(policy: KeyPolicy, config: Config) -> World {
    let mut w = World::new(policy, config);
    w.run(12 * DAY);
    assert_eq!(w.broken, None);
    assert!(w.zone.settled_at.is_some(), "{:?}", w.zone.rolls);
    w
}

pub fn change_for(kind: RollType, p: &mut KeyPolicy) {
    match kind {
        RollType::Algorithm => p.algorithm = 15,
        RollType::Csk => p.use_csk = true,
        RollType::KskDoubleDs => p.ksk_roll = KskRoll::DoubleDs,
        RollType::ZskDoubleSignature => p.zsk_roll = ZskRoll::DoubleSignature,
        RollType::GoInsecure => p.cds = CdsPolicy::Delete,
        RollType::Unsign => {
            p.cds = CdsPolicy::Delete;
            p.unsigned = true;
        }
        _ => {}
    }
}

/// Begins a roll of this kind in a settled world.
pub fn begin_roll(w: &mut World, kind: RollType) {
    change_for(kind, &mut w.policy);
    let class = match kind.class() {
        c @ (Class::Ksk | Class::Zsk) => c,
        _ => return,
    };
    w.command(Command::StartRoll { class }).expect("may start");
}

const ROLLS: [RollType; 8] = [
    RollType::KskDoubleSignature,
    RollType::KskDoubleDs,
    RollType::ZskPrePublish,
    RollType::ZskDoubleSignature,
    RollType::Csk,
    RollType::Algorithm,
    RollType::GoInsecure,
    RollType::Unsign,
];

fn roll(kind: RollType, config: Config, limit: u64) -> World {
    let mut w = settled(quiet(), config);
    begin_roll(&mut w, kind);
    let done = w.run_until_done(kind, limit);
    assert_eq!(w.broken, None, "{kind:?}: {}", w.lines.join("\n"));
    assert!(
        done,
        "{kind:?} does not end: {}\n{}",
        why("example.", &w.zone, &w.policy, &w.facts, w.now),
        w.lines.join("\n")
    );
    w.run(60 * DAY);
    assert_eq!(w.broken, None, "{kind:?} after its end");
    assert_eq!(w.zone.rolls.len(), 0);
    w.end();
    assert_eq!(w.broken, None);
    w
}

#[test]
fn every_kind_ends_and_no_cache_ever_breaks() {
    for kind in ROLLS {
        roll(kind, Config::default(), 12 * DAY);
    }
}

#[test]
fn with_a_restart_after_every_event() {
    for kind in ROLLS {
        let config = Config {
            restart: true,
            ..Config::default()
        };
        roll(kind, config, 12 * DAY);
    }
}

#[test]
fn with_other_ttls() {
    for (data_ttl, ds_ttl) in [(300, 3600), (7 * 86_400, 300), (3600, 2 * 86_400)] {
        for kind in ROLLS {
            let config = Config {
                data_ttl,
                ds_ttl,
                ..Config::default()
            };
            roll(kind, config, 40 * DAY);
        }
    }
}

#[test]
fn with_a_late_parent() {
    for kind in ROLLS {
        let config = Config {
            parent: vec![30 * DAY, 33 * DAY],
            ..Config::default()
        };
        // Linked only after a month.
        let mut w = World::new(quiet(), config);
        w.run(50 * DAY);
        assert_eq!(w.broken, None);
        assert!(w.zone.parent.linked_at.is_some());
        assert!(w.reminders > 10);
        begin_roll(&mut w, kind);
        let done = w.run_until_done(kind, 90 * DAY);
        assert_eq!(w.broken, None, "{kind:?}");
        assert!(done, "{kind:?}: {}", w.lines.join("\n"));
    }
}

#[test]
fn with_a_secondary_that_is_dead_for_long_and_comes_back_old() {
    for kind in ROLLS {
        let from = 12 * DAY + 60;
        let config = Config {
            // SOA EXPIRE is a week: afterwards it answers nothing until it has transferred.
            down: vec![(2, from, from + 60 * DAY)],
            ..Config::default()
        };
        roll(kind, config, 60 * DAY);
    }
}

#[test]
fn with_a_dead_token() {
    for kind in ROLLS {
        for at in [12 * DAY, 12 * DAY + 3 * HOUR, 14 * DAY] {
            let config = Config {
                token_down: Some((at, at + 2 * DAY)),
                ..Config::default()
            };
            roll(kind, config, 30 * DAY);
        }
    }
}

#[test]
fn nobody_is_waited_for_but_the_first_keys() {
    let mut w = World::new(policy(), Config::default());
    w.run(0);
    let p = w.zone.published.as_ref().expect("published at once");
    assert_eq!(p.apex.dnskey, [KeyNum(1), KeyNum(2)]);
    assert_eq!(p.apex.cds, Cds::None);
    assert!(w.zone.parent.wanted.is_empty(), "unsigned data in caches");
    let e = w
        .command(Command::StartRoll { class: Class::Zsk })
        .expect_err("not settled");
    assert_eq!(e.problem(), "roll-conflict");
}

#[test]
fn an_undelegated_zone_settles_at_once_and_rolls_without_a_ds() {
    let config = Config {
        led: Led::Nowhere,
        ..Config::default()
    };
    let mut w = World::new(quiet(), config);
    w.run(HOUR);
    assert!(w.zone.settled_at.is_some());
    for kind in [
        RollType::ZskPrePublish,
        RollType::KskDoubleSignature,
        RollType::Csk,
    ] {
        begin_roll(&mut w, kind);
        assert!(w.run_until_done(kind, 5 * DAY), "{kind:?}");
    }
    // Delegated later: first keys settle again before a DS is wanted.
    w.config.led = Led::Here;
    w.config.parent = vec![60, 60];
    w.run(DAY + HOUR);
    assert!(w.zone.settled_at.is_none());
    assert!(w.zone.parent.wanted.is_empty());
    w.run(4 * DAY);
    assert_eq!(w.broken, None);
    assert!(w.zone.parent.linked_at.is_some(), "{}", w.lines.join("\n"));
}

#[test]
fn back_from_an_island() {
    let mut w = settled(quiet(), Config::default());
    begin_roll(&mut w, RollType::GoInsecure);
    assert!(w.run_until_done(RollType::GoInsecure, 9 * DAY));
    assert!(w.zone.island && w.ds_everywhere().iter().all(Vec::is_empty));
    w.policy.cds = CdsPolicy::WhenNeeded;
    w.run(2 * DAY);
    assert_eq!(w.broken, None);
    assert!(
        w.ds_everywhere().iter().all(|d| d == &[KeyNum(1)]),
        "{}",
        w.lines.join("\n")
    );
    // And turned back half-way.
    w.policy.cds = CdsPolicy::Delete;
    w.run(HOUR);
    w.policy.cds = CdsPolicy::WhenNeeded;
    w.run(3 * DAY);
    assert_eq!(w.broken, None);
    assert!(w.zone.rolls.is_empty() && !w.zone.island);
    assert!(w.ds_everywhere().iter().all(|d| d == &[KeyNum(1)]));
}

#[test]
fn from_unsigned_to_signed_again() {
    let mut w = settled(quiet(), Config::default());
    begin_roll(&mut w, RollType::Unsign);
    assert!(w.run_until_done(RollType::Unsign, 20 * DAY));
    w.policy = quiet();
    w.run(10 * DAY);
    assert_eq!(w.broken, None, "{}", w.lines.join("\n"));
    assert!(w.zone.settled_at.is_some() && w.zone.parent.linked_at.is_some());
    assert!(!w.ds_keys(0).is_empty());
}

#[test]
fn csk_and_back_and_algorithms_in_a_row() {
    let mut w = settled(quiet(), Config::default());
    for (csk, algorithm, kind) in [
        (true, 13, RollType::Csk),
        (true, 15, RollType::Algorithm),
        (false, 15, RollType::Csk),
        (true, 8, RollType::Algorithm),
        (false, 13, RollType::Algorithm),
    ] {
        w.policy.use_csk = csk;
        w.policy.algorithm = algorithm;
        assert!(w.run_until_done(kind, 20 * DAY), "{}", w.lines.join("\n"));
        assert_eq!(w.broken, None);
    }
    w.run(60 * DAY);
    assert!(w.destroyed >= 7, "{}", w.destroyed);
}

#[test]
fn five_years_by_the_default_policy() {
    let mut w = World::new(policy(), Config::default());
    w.run(5 * 365 * DAY);
    assert_eq!(w.broken, None, "{}", w.lines.join("\n"));
    let n = |k| w.finished.get(&k).copied().unwrap_or(0);
    assert!(
        (58..=61).contains(&n(RollType::ZskPrePublish)),
        "{:?}",
        w.finished
    );
    assert!(
        (4..=5).contains(&n(RollType::KskDoubleSignature)),
        "{:?}",
        w.finished
    );
    assert_eq!(w.reminders, 0);
    let text = serde_json::to_string(&w.zone).expect("plain");
    assert!(text.len() < 32_768, "state stays small: {}", text.len());
}

#[test]
fn years_with_double_signature_double_ds_and_standby_keys() {
    let mut p = policy();
    p.ksk_roll = KskRoll::DoubleDs;
    p.zsk_roll = ZskRoll::DoubleSignature;
    p.standby_zsk = 1;
    p.ksk.validity = Some(Duration::from_secs(90 * DAY));
    let mut w = World::new(p, Config::default());
    w.run(2 * 365 * DAY);
    assert_eq!(w.broken, None, "{}", w.lines.join("\n"));
    assert!(w.finished[&RollType::KskDoubleDs] >= 7);
    assert!(w.finished[&RollType::ZskDoubleSignature] >= 20);
    let mut p = policy();
    p.standby_ksk = 1;
    p.ksk.validity = Some(Duration::from_secs(90 * DAY));
    let mut w = World::new(p, Config::default());
    w.run(2 * 365 * DAY);
    assert_eq!(w.broken, None, "{}", w.lines.join("\n"));
    assert!(w.finished[&RollType::KskDoubleSignature] >= 7);
}

#[test]
fn ksk_and_zsk_rolls_overlap_at_every_offset() {
    for offset in (0..72).step_by(3) {
        let mut w = settled(quiet(), Config::default());
        begin_roll(&mut w, RollType::KskDoubleSignature);
        w.run(offset * HOUR);
        begin_roll(&mut w, RollType::ZskPrePublish);
        w.run(10 * DAY);
        assert_eq!(w.broken, None, "offset {offset}");
        assert_eq!(w.finished[&RollType::KskDoubleSignature], 1);
        assert_eq!(w.finished[&RollType::ZskPrePublish], 1);
    }
}

#[test]
fn a_ds_of_a_removed_key_brings_it_back() {
    let mut w = settled(quiet(), Config::default());
    begin_roll(&mut w, RollType::KskDoubleSignature);
    assert!(w.run_until_done(RollType::KskDoubleSignature, 9 * DAY));
    w.run(9 * DAY);
    let old = KeyNum(1);
    assert!(
        w.zone
            .key(old)
            .is_some_and(|k| k.times.trashed_at.is_some())
    );
    // A registrar applies an old ticket: the old DS beside the new one.
    w.tell_parent(vec![old, KeyNum(3)]);
    w.run(2 * DAY);
    assert_eq!(w.broken, None);
    assert!(
        w.zone
            .published
            .as_ref()
            .is_some_and(|p| p.apex.dnskey.contains(&old) && p.apex.dnskey_signers.contains(&old))
    );
    w.tell_parent(vec![KeyNum(3)]);
    w.run(9 * DAY);
    assert_eq!(w.broken, None);
    assert!(
        w.zone
            .published
            .as_ref()
            .is_some_and(|p| !p.apex.dnskey.contains(&old))
    );
}

#[test]
fn emergencies() {
    for role in [Role::Ksk, Role::Zsk] {
        for standby in [0, 1] {
            let mut p = quiet();
            p.standby_ksk = standby;
            p.standby_zsk = standby;
            let mut w = settled(p, Config::default());
            let strategy = Strategy::Safe;
            w.command(Command::Emergency { role, strategy })
                .expect("may start");
            let kind = roll_type(role, &w.policy);
            assert!(w.run_until_done(kind, 4 * DAY), "{}", w.lines.join("\n"));
            assert_eq!(w.broken, None);
        }
    }
    // Fast: ends within hours, and what breaks is announced: only caches of old data.
    let mut w = settled(quiet(), Config::default());
    let (role, strategy) = (Role::Zsk, Strategy::Fast);
    w.command(Command::Emergency { role, strategy })
        .expect("may start");
    w.run(60);
    let p = w.zone.published.as_ref().expect("published");
    assert_eq!(p.any, [KeyNum(3)]);
    assert_eq!(p.apex.dnskey, [KeyNum(1), KeyNum(3)]);
}

#[test]
fn the_forecast_is_what_happens() {
    let steps = |events: &[Event]| -> Vec<(Class, Option<Stage>, u64)> {
        events
            .iter()
            .filter_map(|e| match e {
                Event::RollStepped { class, to, at, .. } => {
                    Some((*class, Some(*to), at.secs() as u64))
                }
                Event::RollDone { class, at } => Some((*class, None, at.secs() as u64)),
                _ => None,
            })
            .collect()
    };
    for kind in ROLLS {
        let config = Config {
            lags: vec![0, 60],
            parent: vec![60],
            ..Config::default()
        };
        let mut w = settled(quiet(), config);
        begin_roll(&mut w, kind);
        let assume = Assumptions {
            parent: Duration::from_secs(60),
            signing: Duration::from_secs(w.config.resign),
            servers: Duration::from_secs(60),
        };
        let until = w.now + Duration::from_secs(20 * DAY);
        let told = steps(&forecast(&w.zone, &w.policy, w.now, until, &assume));
        let from = w.events.len();
        w.run(20 * DAY);
        let real = steps(&w.events[from..]);
        assert_eq!(told.len(), real.len(), "{kind:?} {told:?} {real:?}");
        for (a, b) in told.iter().zip(&real) {
            assert_eq!((a.0, a.1), (b.0, b.1), "{kind:?}");
            // Signing of the last part and one look interval.
            assert!(a.2.abs_diff(b.2) <= w.config.resign, "{kind:?} {a:?} {b:?}");
        }
    }
}

#[test]
fn a_fast_ksk_emergency_does_not_wait_for_caches() {
    let config = Config {
        parent: vec![60],
        ..Config::default()
    };
    let mut w = settled(quiet(), config);
    let (role, strategy) = (Role::Ksk, Strategy::Fast);
    w.command(Command::Emergency { role, strategy })
        .expect("may start");
    assert!(w.zone.key(KeyNum(1)).is_some_and(|k| k.compromised));
    w.run(1);
    // K1 stays until every parent address has K2 only; what breaks meanwhile is the caches that
    // lack K2, as announced.
    let p = w.zone.published.as_ref().expect("published");
    assert_eq!(p.apex.dnskey, [KeyNum(1), KeyNum(2), KeyNum(3)]);
    assert_eq!(p.apex.cds, Cds::Keys(vec![KeyNum(3)]));
    assert_eq!(w.zone.parent.wanted, [KeyNum(3)]);
}

#[test]
fn ttls_that_change_in_mid_roll() {
    for kind in [
        RollType::KskDoubleSignature,
        RollType::KskDoubleDs,
        RollType::Csk,
        RollType::Algorithm,
        RollType::ZskPrePublish,
    ] {
        for row in kind.rows() {
            for (before, after) in [(86_400, 300), (300, 86_400)] {
                let config = Config {
                    data_ttl: before,
                    ds_ttl: before,
                    ..Config::default()
                };
                let mut p = quiet();
                p.ttl = before;
                let mut w = settled(p, config);
                begin_roll(&mut w, kind);
                for _ in 0..20 * 24 * 60 {
                    if w.zone
                        .roll(kind.class())
                        .is_some_and(|r| r.stage == row.stage)
                    {
                        break;
                    }
                    w.run(60);
                }
                assert!(w.zone.roll(kind.class()).is_some());
                // The parent's change is seen once a day at least; a raised TTL that nobody has
                // seen yet would be the parent's fault.
                if after < before {
                    w.set_ds_ttl(after);
                }
                w.config.data_ttl = after;
                w.policy.ttl = after;
                let done = w.run_until_done(kind, 20 * DAY);
                assert_eq!(w.broken, None, "{kind:?} {:?}", row.stage);
                let reason = why("example.", &w.zone, &w.policy, &w.facts, w.now);
                assert!(done, "{kind:?} {:?} {reason}", row.stage);
                w.run(5 * DAY);
                assert_eq!(w.broken, None, "{kind:?} {:?}", row.stage);
            }
        }
    }
}

#[test]
fn a_ds_of_a_destroyed_key_is_told_with_its_text() {
    let mut w = settled(quiet(), Config::default());
    begin_roll(&mut w, RollType::KskDoubleSignature);
    w.run(60 * DAY);
    assert_eq!(w.broken, None);
    let old = w.zone.key(KeyNum(1)).expect("remembered").clone();
    assert!(old.times.destroyed_at.is_some());
    assert_eq!(alerts(&w.zone, &w.policy, w.now), []);
    w.tell_parent(vec![KeyNum(1), KeyNum(3)]);
    w.run(2 * DAY);
    let told = alerts(&w.zone, &w.policy, w.now);
    assert!(told.iter().any(Alert::is_critical));
    let ds = DsRecord::of(cascade_sim::OWNER, &old, 2).expect("known");
    assert!(
        told.iter().any(|a| a.text().contains(&ds.text())),
        "{told:?}"
    );
}
