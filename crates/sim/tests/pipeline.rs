//! Level Z: rolls whose versions go through the product's pipeline. The process dies before every one
//! of the actions that follow from a durable step, and comes back by the product's own recovery; all
//! rules of the simulator hold at every moment, and every roll ends.

use cascade_keys::{Class, Command, KeyPolicy, KskRoll, RollType, ZskRoll};
use cascade_sim::{Config, DAY, HOUR, World, quiet_policy};

const LONGEST: u64 = 60 * DAY;

#[derive(Clone, Copy)]
struct Case {
    kind: RollType,
    policy: fn() -> KeyPolicy,
    begin: fn(&mut World),
}

fn start(w: &mut World, class: Class) {
    w.command(Command::StartRoll { class }).expect("allowed");
}

const CASES: [Case; 6] = [
    Case {
        kind: RollType::ZskPrePublish,
        policy: quiet_policy,
        begin: |w| start(w, Class::Zsk),
    },
    Case {
        kind: RollType::ZskDoubleSignature,
        policy: || KeyPolicy {
            zsk_roll: ZskRoll::DoubleSignature,
            ..quiet_policy()
        },
        begin: |w| start(w, Class::Zsk),
    },
    Case {
        kind: RollType::KskDoubleSignature,
        policy: quiet_policy,
        begin: |w| start(w, Class::Ksk),
    },
    Case {
        kind: RollType::KskDoubleDs,
        policy: || KeyPolicy {
            ksk_roll: KskRoll::DoubleDs,
            ..quiet_policy()
        },
        begin: |w| start(w, Class::Ksk),
    },
    Case {
        kind: RollType::Csk,
        policy: quiet_policy,
        begin: |w| w.policy.use_csk = true,
    },
    Case {
        kind: RollType::Algorithm,
        policy: quiet_policy,
        begin: |w| w.policy.algorithm = 15,
    },
];

fn config(seed: u64) -> Config {
    Config {
        seed,
        data_ttl: 7200,
        ds_ttl: 7200,
        resign: 4 * HOUR,
        pipeline: true,
        lines: false,
        ..Config::default()
    }
}

/// From the first version to two days after the roll.
fn follow(case: &Case, config: Config) -> World {
    let told = format!("{:?} {:?}", case.kind, config.crash_after);
    let mut w = World::new((case.policy)(), config);
    w.run(5 * DAY);
    assert_eq!(w.broken, None, "{told}");
    (case.begin)(&mut w);
    let ended = w.run_until_done(case.kind, LONGEST);
    assert_eq!(w.broken, None, "{told}");
    assert!(ended, "{told}: the roll does not end: {:?}", w.zone.rolls);
    w.run(2 * DAY);
    w.end();
    assert_eq!(w.broken, None, "{told}");
    w
}

#[test]
fn every_roll_goes_through_the_pipeline() {
    for case in &CASES {
        let w = follow(case, config(1));
        assert!(w.commits() > 20, "{:?}: {}", case.kind, w.commits());
    }
}

/// As many crashes as there are actions, down for a second or for three days.
#[test]
fn a_crash_before_any_action_costs_no_roll_and_no_rule() {
    for (n, case) in CASES.iter().enumerate() {
        let whole = follow(case, config(0));
        let (keys, rolls) = (whole.zone.next_num, whole.finished.clone());
        let (mut crashes, mut interrupted) = (0, 0);
        for crash in 1..=whole.effects() {
            let long = (crash as usize + n).is_multiple_of(3);
            let w = follow(
                case,
                Config {
                    crash_after: Some(crash),
                    crash_down: if long { 3 * DAY } else { 1 },
                    ..config(0)
                },
            );
            assert_eq!((w.zone.next_num, &w.finished), (keys, &rolls), "{crash}");
            // After the last ones the run is over before the process is back.
            crashes += w.restarts + usize::from(!w.up);
            interrupted += w.interrupted();
        }
        println!(
            "{:?}: {crashes} crashes, {interrupted} of them at work",
            case.kind
        );
        assert_eq!(crashes, whole.effects() as usize);
        assert!(interrupted > 10, "{:?}: {interrupted}", case.kind);
    }
}

/// What else keeps a version from being signed or published: the pipeline tries again.
#[test]
fn faults_of_token_disk_and_signatures_delay_rolls_and_no_more() {
    let faults: [fn(&mut Config); 3] = [
        |c| c.token_down = Some((5 * DAY, 7 * DAY)),
        |c| c.disk_full = Some((5 * DAY + HOUR, 6 * DAY)),
        |c| c.token_lies = Some((5 * DAY, 8 * DAY, 4)),
    ];
    for (seed, case) in CASES.iter().enumerate() {
        for fault in faults {
            let mut config = config(seed as u64 + 2);
            config.proofs = false;
            fault(&mut config);
            follow(case, config);
        }
    }
}
