//! Random worlds: TTLs, delays, faults, orders of operators, changes of policy.

use cascade_keys::*;
use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};
use proptest::strategy::Strategy as _;

use crate::rolls::{policy, quiet};
use cascade_sim::{Config, DAY, HOUR, Led, OWNER, World};

fn config() -> impl proptest::strategy::Strategy<Value = Config> {
    (
        prop::collection::vec(0u64..2 * DAY, 1..3),
        prop::collection::vec(0u64..3 * DAY, 1..3),
        prop::sample::select(vec![300u32, 3600, 86_400, 172_800]),
        prop::sample::select(vec![60u32, 3600, 86_400, 604_800]),
        60u64..2 * DAY,
        (12 * DAY..40 * DAY, 0u64..30 * DAY),
        (0u64..40 * DAY, 0u64..3 * DAY),
    )
        .prop_map(
            |(mut lags, parent, ds_ttl, data_ttl, resign, down, token)| {
                lags.insert(0, 0);
                Config {
                    lags,
                    parent,
                    ds_ttl,
                    data_ttl,
                    resign,
                    down: vec![(1, down.0, down.0 + down.1)],
                    token_down: Some((token.0, token.0 + token.1)),
                    restart: false,
                    led: Led::Here,
                    ..Config::default()
                }
            },
        )
}

fn operate(w: &mut World, what: u8) {
    let class = match what % 3 {
        0 => Class::Ksk,
        1 => Class::Zsk,
        _ => Class::Csk,
    };
    let who = "eve".to_string();
    let command = match what / 3 {
        0 => Command::StartRoll { class },
        1 => Command::Expired {
            class,
            step: Step::CacheExpired1,
        },
        2 => Command::Expired {
            class,
            step: Step::CacheExpired2,
        },
        3 => Command::RemoveKey {
            key: KeyNum(u32::from(what % 5) + 1),
            force: what.is_multiple_of(2),
        },
        4 => Command::Emergency {
            role: Role::Zsk,
            strategy: Strategy::Safe,
        },
        5 => Command::Emergency {
            role: Role::Ksk,
            strategy: Strategy::Safe,
        },
        6 => Command::RollDone {
            class,
            force: false,
            who,
        },
        7 => {
            w.policy.use_csk ^= true;
            return;
        }
        8 => {
            w.policy.algorithm = [8, 13, 14][usize::from(what % 3)];
            return;
        }
        9 => {
            w.policy.ttl = [60, 3600, 86_400][usize::from(what % 3)];
            return;
        }
        10 => {
            w.config.data_ttl = [60, 3600, 86_400][usize::from(what % 3)];
            return;
        }
        11 => {
            w.policy.standby_ksk = u32::from(what % 3);
            w.policy.standby_zsk = u32::from(what % 2);
            return;
        }
        12 => {
            w.policy.ksk_roll =
                [KskRoll::DoubleDs, KskRoll::DoubleSignature][usize::from(what % 2)];
            w.policy.zsk_roll =
                [ZskRoll::DoubleSignature, ZskRoll::PrePublish][usize::from(what % 2)];
            return;
        }
        _ => {
            w.policy.cds = [CdsPolicy::Delete, CdsPolicy::WhenNeeded, CdsPolicy::Always]
                [usize::from(what % 3)];
            return;
        }
    };
    let _ = w.command(command);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn nothing_an_operator_does_makes_a_cache_bogus(
        config in config(),
        orders in prop::collection::vec((0u64..5 * DAY, 0u8..42), 1..24),
    ) {
        let mut w = World::new(quiet(), config);
        w.run(10 * DAY);
        for (wait, what) in orders {
            operate(&mut w, what);
            w.run(wait);
            prop_assert_eq!(&w.broken, &None, "{}", w.lines.join("\n"));
        }
        // From wherever it is, it comes to rest.
        w.policy = quiet();
        w.config.token_down = None;
        w.run(120 * DAY);
        prop_assert_eq!(&w.broken, &None, "{}", w.lines.join("\n"));
        prop_assert!(w.zone.rolls.is_empty(), "{}\n{}",
            why("example.", &w.zone, &w.policy, &w.facts, w.now), w.lines.join("\n"));
        let mut replayed = ZoneKeys::new(OWNER);
        w.events.iter().for_each(|e| replayed.apply(e));
        prop_assert_eq!(replayed, w.zone);
    }

    #[test]
    fn a_year_in_any_world(config in config()) {
        let mut w = World::new(policy(), config);
        w.run(365 * DAY + 12 * HOUR);
        prop_assert_eq!(&w.broken, &None, "{}", w.lines.join("\n"));
        prop_assert!(w.finished[&RollType::ZskPrePublish] >= 4, "{:?}", w.finished);
    }
}
