//! Level Z with real data: versions that the product's loader, signer, gate, publisher and archive
//! make, in worlds that are otherwise those of the scenarios. A transfer that does not bring what was
//! published, a copy that a verification of all of it refuses, a version that the gate refuses though
//! nobody spoiled it, or a published version that is not there after a power cut breaks a rule.

use std::fs;
use std::path::Path;

use cascade_keys::{Class, Command, KskRoll, RollType};
use cascade_sim::fault::Choice;
use cascade_sim::run::run;
use cascade_sim::scenario::{expand, parse};
use cascade_sim::{Config, Counts, DAY, Denial, HOUR, World, quiet_policy};

/// One of each: ZSK, both ways of a KSK, CSK, a change of algorithm and of roles, insecure and back,
/// another denial of existence, a rollback, an emergency, a year.
const FILES: [&str; 12] = [
    "s10-zsk-pre-publish",
    "s11-zsk-double-signature",
    "s30-ksk-double-signature",
    "s31-ksk-double-ds",
    "s50-csk",
    "s51-to-csk-and-back",
    "s52-algorithm",
    "s55-insecure-and-back",
    "s57-denial-changes",
    "i6-se-2009-wrong-zone",
    "s69-emergency-safe",
    "s90-one-year",
];

/// Combinations of swept values of each file.
const COMBINATIONS: usize = 3;

fn scenarios(name: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration/sim");
    let text = fs::read_to_string(folder.join(format!("{name}.scn"))).expect("readable");
    let all = expand(&text).expect("a scenario");
    let skip = all.len().div_ceil(COMBINATIONS).max(1);
    all.into_iter().step_by(skip).collect()
}

fn play(name: &str, text: &str, seed: u64) -> Counts {
    let mut scenario = parse(text).expect("a scenario");
    scenario.config.real = true;
    let choice = Choice {
        seed,
        ..Choice::default()
    };
    let o = run(&scenario, &choice);
    assert_eq!(o.broken, None, "{name} {seed}: {text}");
    o.world.counts()
}

#[test]
fn scenarios_hold_with_real_zones() {
    for name in FILES {
        for (n, text) in scenarios(name).iter().enumerate() {
            let c = play(name, text, n as u64);
            println!("{name}: {c:?}");
            assert!(c.versions >= 5, "{name}: {c:?}");
            assert!(c.by_difference + 2 >= c.passed / 2, "{name}: {c:?}");
            assert_eq!(c.refused, 0, "{name}: {c:?}");
            assert!(c.verified + 1 >= c.passed, "{name}: {c:?}");
            assert!(c.axfr > 0 && c.ixfr > 0 && c.answers > 10, "{name}: {c:?}");
        }
    }
}

fn config(seed: u64) -> Config {
    Config {
        seed,
        data_ttl: 7200,
        ds_ttl: 7200,
        resign: 4 * HOUR,
        real: true,
        lines: false,
        ..Config::default()
    }
}

/// A ZSK roll and a KSK roll beside each other, with other content and another denial meanwhile.
fn busy(config: Config) -> World {
    let told = format!("{:?}", config.crash_after);
    let mut policy = quiet_policy();
    policy.ksk_roll = KskRoll::DoubleDs;
    let mut w = World::new(policy, config);
    let check = |w: &World| assert_eq!(w.broken, None, "{told}");
    w.run(3 * DAY);
    for class in [Class::Zsk, Class::Ksk] {
        // Where it is refused the daemon is down.
        let _ = w.command(Command::StartRoll { class });
    }
    w.run(HOUR);
    w.source(1);
    w.run(HOUR);
    w.change_denial(Denial::Nsec3);
    w.run(3 * DAY);
    w.source(2);
    w.run(20 * DAY);
    check(&w);
    w.end();
    check(&w);
    w
}

/// Before every so many operations on files and actions of the pipeline the power goes, and before each
/// of those about the first patch of a journal, which may leave a part of it; what was published is there
/// again, and the rolls end.
#[test]
fn what_was_published_survives_power_cuts() {
    let whole = busy(config(1));
    let done = |w: &World| w.finished.contains_key(&RollType::ZskPrePublish);
    assert!(done(&whole));
    let (mut restored, mut torn, mut cuts) = (0, 0, 0);
    let step = (whole.effects() / 60).max(1);
    let spread = (1..=whole.effects()).step_by(step as usize);
    for crash in spread.chain(50..56) {
        let w = busy(Config {
            crash_after: Some(crash),
            crash_down: 1 + u64::from(crash % 3) * HOUR,
            ..config(1)
        });
        cuts += w.restarts;
        let c = w.counts();
        restored += c.restored;
        torn += c.torn;
    }
    println!("{cuts} power cuts, {restored} times read back, {torn} torn ends");
    assert!(cuts >= 50 && restored >= 50 && torn > 0);
}

/// Wrong signatures of a token are caught, by whoever signs or by the gate, and service goes on.
#[test]
fn the_gate_catches_what_a_token_gets_wrong() {
    let mut refused = 0;
    for seed in 1..5 {
        let mut config = config(seed);
        config.token_lies = Some((2 * DAY, 25 * DAY, 3));
        config.proofs = false;
        let w = busy(config);
        refused += w.counts().refused;
    }
    assert!(refused > 3, "{refused}");
}

/// A secondary that was away goes on by differences as long as there are some, and takes the whole
/// zone where there are none; one with an old copy from a backup too.
#[test]
fn secondaries_catch_up() {
    let mut config = config(3);
    config.down = vec![(1, 4 * DAY, 9 * DAY)];
    let mut w = World::new(quiet_policy(), config);
    for n in 1..20 {
        w.run(12 * HOUR);
        w.source(n);
    }
    w.rewind(2, 3 * DAY, HOUR);
    w.run(DAY);
    w.end();
    assert_eq!(w.broken, None);
    let c = w.counts();
    assert!(c.axfr >= 4 && c.ixfr > 10 && c.ixfr > c.axfr, "{c:?}");
}

/// The same seed gives the same history.
#[test]
fn real_histories_are_repeated() {
    let once = busy(config(5));
    let again = busy(config(5));
    assert_eq!(once.hash(), again.hash());
    assert_eq!(once.counts(), again.counts());
    let other = busy(Config {
        crash_after: Some(3),
        ..config(5)
    });
    assert_ne!(once.hash(), other.hash());
}
