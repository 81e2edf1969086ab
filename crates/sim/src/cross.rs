//! One scenario with every standard fault at every stage, and with a crash after every action.
//!
//! The undisturbed run is made once. At each stage it is copied for each fault, so that what comes
//! before the fault is not simulated again; each copy equals the run of its [`Choice`].

use std::collections::BTreeSet;

use cascade_keys::{Class, Stage};

use crate::fault::{Choice, FAULTS, Injection};
use crate::run::{Outcome, Runner, run};
use crate::scenario::Scenario;
use crate::world::World;

/// Crash points of one scenario above which only the first are tried.
const MAX_CRASHES: u32 = 1000;

/// Runs the scenario, and for each disturbance that `wants` a copy of it; `each` gets every outcome,
/// the undisturbed one last.
///
/// `tail`: seconds after a fault from which on a run may end once no roll runs and nothing is to
/// come; without, each runs as long as the scenario.
pub fn cross(
    scenario: &Scenario,
    seed: u64,
    tail: Option<u64>,
    wants: &mut dyn FnMut(&Choice) -> bool,
    each: &mut dyn FnMut(Choice, Outcome),
) {
    let plain = Choice {
        seed,
        ..Choice::default()
    };
    let mut config = scenario.config.clone();
    config.seed = seed;
    // What breaks is run again with its history.
    config.lines = false;
    let mut each = |choice: Choice, o: Outcome| {
        let again = o.broken.is_some().then(|| run(scenario, &choice));
        let o = again.filter(|a| a.broken == o.broken).unwrap_or(o);
        each(choice, o);
    };
    let each = &mut each;
    let world = World::new(scenario.policy.clone(), config);
    let mut r = Runner::new(scenario, plain.clone(), world);
    r.brief = tail;
    // What comes after the action that is done last.
    let mut before = r.clone();
    loop {
        if r.world.effects > before.world.effects {
            crashes(&plain, &before, r.world.effects, wants, each);
            before = r.clone();
        }
        let known = r.stages.len();
        let sound = r.happen();
        for (class, stage) in r.stages[known..].iter().copied() {
            faults(scenario, &plain, &r, class, stage, wants, each);
        }
        if !sound || !r.go_on() {
            break;
        }
    }
    crashes(&plain, &before, r.world.effects, wants, each);
    each(plain, r.end());
}

fn faults(
    scenario: &Scenario,
    plain: &Choice,
    r: &Runner,
    class: Class,
    stage: Stage,
    wants: &mut dyn FnMut(&Choice) -> bool,
    each: &mut dyn FnMut(Choice, Outcome),
) {
    for (fault, _, _) in FAULTS {
        let choice = Choice {
            injection: Some(Injection {
                fault: (*fault).to_string(),
                class: class.word().to_string(),
                stage,
            }),
            ..plain.clone()
        };
        if scenario.faults.takes(fault, class) && wants(&choice) {
            let mut copy = r.clone();
            copy.inject(fault);
            let outcome = if copy.go_on() {
                copy.finish()
            } else {
                copy.end()
            };
            each(choice, outcome);
        }
    }
}

fn crashes(
    plain: &Choice,
    before: &Runner,
    to: u32,
    wants: &mut dyn FnMut(&Choice) -> bool,
    each: &mut dyn FnMut(Choice, Outcome),
) {
    for n in before.world.effects + 1..=to.min(MAX_CRASHES) {
        let choice = Choice {
            crash_after: Some(n),
            ..plain.clone()
        };
        if wants(&choice) {
            let mut copy = before.clone();
            copy.crash_after(n);
            each(choice, copy.finish());
        }
    }
}

/// Deals the faults out: every (class, stage, fault) that some scenario of the list reaches goes to
/// one of those that do, in turn.
///
/// First keys are the same in most files: each takes one in `first` of their places.
pub fn deal(
    reached: &[(&Scenario, &[(Class, Stage)])],
    salt: u64,
    first: usize,
) -> Vec<BTreeSet<String>> {
    let mut out = vec![BTreeSet::new(); reached.len()];
    let all: BTreeSet<(Class, Stage)> = reached.iter().flat_map(|r| r.1).copied().collect();
    let mut turn = salt as usize;
    for (class, stage) in all {
        for (fault, _, _) in FAULTS {
            let fits = |r: &(usize, &(&Scenario, &[(Class, Stage)]))| {
                r.1.1.contains(&(class, stage)) && r.1.0.faults.takes(fault, class)
            };
            let those: Vec<usize> = reached
                .iter()
                .enumerate()
                .filter(fits)
                .map(|r| r.0)
                .collect();
            turn += 1;
            if those.is_empty() || class == Class::FirstKeys && !turn.is_multiple_of(first.max(1)) {
                continue;
            }
            out[those[turn % those.len()]].insert(place(class.word(), stage, fault));
        }
    }
    out
}

/// A (class, stage, fault) as one word.
pub fn place(class: &str, stage: Stage, fault: &str) -> String {
    format!("{class} {stage:?} {fault}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::parse;

    const TEXT: &str = "scenario both\n\
        zone policy=quiet data-ttl=1h\n\
        at 4d expect published=yes\n\
        at 8d operator start-roll ksk\n\
        at 8d operator start-roll zsk\n\
        within 9d expect roll ksk done\n\
        run 20d\n";

    #[test]
    fn a_copy_is_what_the_whole_run_would_have_been() {
        let scenario = parse(TEXT).expect("good");
        let mut turn = 0;
        let mut wants = |_: &Choice| {
            turn += 1;
            turn % 13 == 0
        };
        let mut compared = 0;
        let mut each = |choice: Choice, o: Outcome| {
            assert_eq!(o.broken, None, "{choice}");
            let whole = run(&scenario, &choice);
            assert_eq!(whole.world.hash(), o.world.hash(), "{choice}");
            assert_eq!(whole.seconds, o.seconds, "{choice}");
            compared += 1;
        };
        cross(&scenario, 3, None, &mut wants, &mut each);
        assert!(compared >= 10, "{compared}");
    }

    #[test]
    fn every_place_is_dealt_to_one_that_reaches_it() {
        let scenario = parse(TEXT).expect("good");
        let zsk: &[(Class, Stage)] = &[(Class::FirstKeys, Stage::P1), (Class::Zsk, Stage::P1)];
        let ksk: &[(Class, Stage)] = &[(Class::FirstKeys, Stage::P1), (Class::Ksk, Stage::C1)];
        let out = deal(&[(&scenario, zsk), (&scenario, ksk)], 5, 1);
        let of = |s: &BTreeSet<String>, w: &str| s.iter().filter(|p| p.starts_with(w)).count();
        assert_eq!((of(&out[0], "zsk"), of(&out[1], "zsk")), (FAULTS.len(), 0));
        assert_eq!((of(&out[0], "ksk"), of(&out[1], "ksk")), (0, FAULTS.len()));
        let first = (of(&out[0], "first"), of(&out[1], "first"));
        assert_eq!(first.0 + first.1, FAULTS.len());
        assert!(first.0.abs_diff(first.1) <= 1, "{first:?}");
    }
}
