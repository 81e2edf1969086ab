//! Each cache wait, shortened by one TTL, must break a cache state: none of them is idle.

use cascade_keys::*;

use crate::rolls::{begin_roll, quiet};
use crate::world::{Config, DAY, Mutant, World};

/// Worlds in which each of the TTLs in turn decides.
fn worlds() -> Vec<(KeyPolicy, Config)> {
    let base = Config {
        lags: vec![0, 20],
        parent: vec![1, 1],
        resign: 600,
        ..Config::default()
    };
    let mut long_keys = quiet();
    long_keys.ttl = 2 * 86_400;
    let with = |p: KeyPolicy, data_ttl: u32, ds_ttl: u32| {
        let mut p = p;
        // The margin is slack on top of the formula; without it the formula stands alone.
        p.margin = std::time::Duration::ZERO;
        let c = Config {
            data_ttl,
            ds_ttl,
            ..base.clone()
        };
        (p, c)
    };
    vec![
        with(quiet(), 2 * 86_400, 3600),
        with(quiet(), 3600, 2 * 86_400),
        with(long_keys, 3600, 3600),
    ]
}

fn broken_by(m: Option<Mutant>, kind: RollType, policy: KeyPolicy, config: Config) -> bool {
    let mut w = World::new(policy, config);
    if kind == RollType::FirstKeys {
        w.mutant = m;
        w.run(8 * DAY);
        return w.broken.is_some();
    }
    w.run(8 * DAY);
    assert_eq!(w.broken, None);
    w.mutant = m;
    begin_roll(&mut w, kind);
    if kind == RollType::GoInsecure {
        // What follows makes a wait that is too short visible.
        w.policy.unsigned = true;
    }
    w.run(20 * DAY);
    if m.is_none() {
        assert_eq!(w.broken, None, "{kind:?}");
        assert!(
            w.finished.contains_key(&kind),
            "{kind:?} {}",
            w.lines.join("\n")
        );
    }
    w.broken.is_some()
}

#[test]
fn every_shortened_wait_is_caught() {
    let mut survivors = Vec::new();
    let mut count = 0;
    for kind in RollType::ALL {
        for row in kind.rows() {
            for dying in row.expired {
                count += 1;
                let m = Mutant {
                    kind,
                    stage: row.stage,
                    dying: *dying,
                };
                let caught = worlds()
                    .into_iter()
                    .any(|(p, c)| broken_by(Some(m), kind, p, c));
                if !caught {
                    survivors.push(m);
                }
            }
        }
    }
    assert_eq!(survivors, []);
    assert_eq!(count, 17, "waits in all tables");
}

#[test]
fn without_mutants_the_same_worlds_hold() {
    for kind in RollType::ALL {
        for (p, c) in worlds() {
            assert!(!broken_by(None, kind, p, c), "{kind:?}");
        }
    }
}

/// Looking at one server instead of all of them breaks every roll that changes anything.
#[test]
fn one_server_is_not_enough() {
    for kind in [
        RollType::KskDoubleSignature,
        RollType::KskDoubleDs,
        RollType::ZskPrePublish,
        RollType::Csk,
        RollType::Algorithm,
    ] {
        for (lags, parent) in [(vec![0, 3 * DAY], vec![1]), (vec![0], vec![1, 5 * DAY])] {
            if parent.len() > 1 && kind == RollType::ZskPrePublish {
                continue;
            }
            let config = Config {
                lags,
                parent,
                data_ttl: 3600,
                ds_ttl: 3600,
                ..Config::default()
            };
            let mut w = World::new(quiet(), config);
            w.run(20 * DAY);
            assert_eq!(w.broken, None);
            w.blind = true;
            begin_roll(&mut w, kind);
            w.run(20 * DAY);
            assert!(w.broken.is_some(), "{kind:?} {:?}", w.config);
        }
    }
}

/// A secondary that we cannot reach may serve old data until SOA EXPIRE: x is not idle.
#[test]
fn without_x_a_cut_off_secondary_breaks_the_roll() {
    for (told, breaks) in [(0, true), (7 * DAY as u32, false)] {
        let config = Config {
            lags: vec![0, 60],
            down: vec![(1, 12 * DAY, 80 * DAY)],
            ..Config::default()
        };
        let mut w = World::new(quiet(), config);
        w.told_expire = told;
        w.run(12 * DAY);
        begin_roll(&mut w, RollType::KskDoubleSignature);
        w.run(40 * DAY);
        assert_eq!(w.broken.is_some(), breaks, "{:?}", w.broken);
    }
}
