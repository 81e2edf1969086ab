//! Every file of `integration/sim`: as it is, with a restart after every event, with every standard
//! fault at every stage of every roll that it reaches, and with some of the crashes. Where a file
//! sweeps over values the faults are spread over its combinations; all of them: `just year`.

use std::fs;
use std::path::{Path, PathBuf};

use cascade_keys::{Class, Stage};
use cascade_sim::cross::{cross, deal, place};
use cascade_sim::failure::Failure;
use cascade_sim::fault::{Choice, FAULTS};
use cascade_sim::run::{Outcome, run};
use cascade_sim::scenario::{Scenario, expand, parse};

/// Combinations of swept values per file; the rest is run by `just year`.
const COMBINATIONS: usize = 8;

/// Of the crashes, each after one action, that are tried of a file.
const CRASHES: usize = 8;

/// Of the faults at the first keys, which are the same in most files, one in so many is tried of each.
const FIRST: usize = 8;

/// How long a run goes on after its fault if nothing is to come.
const TAIL: u64 = 21 * cascade_sim::DAY;

/// Checks of all caches per file. Where a file would take more, one in so many of its places is tried.
const BUDGET: usize = 100_000;

/// Tests beside each other.
const PARTS: usize = 8;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration/sim")
}

fn files() -> Vec<(String, String)> {
    let mut out = Vec::new();
    for sub in ["", "regress"] {
        let Ok(entries) = fs::read_dir(folder().join(sub)) else {
            continue;
        };
        for e in entries {
            let path = e.expect("listed").path();
            if path.extension().is_some_and(|x| x == "scn") {
                let name = path
                    .file_stem()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned();
                out.push((name, fs::read_to_string(&path).expect("readable")));
            }
        }
    }
    out.sort();
    out
}

/// The scenarios of one file that are run here, with the texts they were read from.
fn combinations(name: &str, text: &str, turn: usize) -> Vec<(String, Scenario)> {
    let texts = expand(text).unwrap_or_else(|e| panic!("{name}.scn:{e}"));
    let skip = texts.len().div_ceil(COMBINATIONS).max(1);
    let chosen = texts
        .into_iter()
        .enumerate()
        .filter(|(n, _)| n % skip == turn % skip);
    chosen
        .map(|(_, text)| {
            let scenario = parse(&text).unwrap_or_else(|e| panic!("{name}.scn:{e}"));
            assert_eq!(scenario.name, name, "a scenario is called as its file");
            (text, scenario)
        })
        .collect()
}

/// All runs of one file; the failures as text.
fn all_of(name: &str, text: &str, turn: usize) -> (usize, Vec<String>) {
    let those = combinations(name, text, turn);
    let (mut runs, mut failed) = (0, Vec::new());
    let mut reached: Vec<(&Scenario, Vec<(Class, Stage)>)> = Vec::new();
    let mut cost = 1;
    for (n, (text, scenario)) in those.iter().enumerate() {
        let choice = Choice {
            seed: seed(scenario, n),
            restart: true,
            ..Choice::default()
        };
        let o = run(scenario, &choice);
        runs += 1;
        failed.extend(Failure::of(name, text, &choice, &o).map(|f| f.show()));
        cost = cost.max(o.world.checks);
        reached.push((scenario, o.stages));
    }
    let slices: Vec<(&Scenario, &[(Class, Stage)])> =
        reached.iter().map(|(s, st)| (*s, &st[..])).collect();
    let mut dealt = deal(&slices, turn as u64, FIRST);
    let places: usize = dealt.iter().map(|d| d.len()).sum();
    let keep = (places * cost).div_ceil(BUDGET).max(1);
    let mut place_no = turn;
    for set in &mut dealt {
        set.retain(|_| {
            place_no += 1;
            place_no.is_multiple_of(keep)
        });
    }
    let every = 60 * those.len() / CRASHES;
    for (n, (text, scenario)) in those.iter().enumerate() {
        let mut wants = |c: &Choice| match (&c.injection, c.crash_after) {
            (Some(i), _) => dealt[n].contains(&place(&i.class, i.stage, &i.fault)),
            (None, Some(k)) => (k as usize * 7 + n) % every.max(1) == turn % every.max(1),
            (None, None) => false,
        };
        let mut each = |choice: Choice, o: Outcome| {
            runs += 1;
            if failed.len() < 5 {
                failed.extend(Failure::of(name, text, &choice, &o).map(|f| f.show()));
            }
        };
        cross(
            scenario,
            seed(scenario, n),
            Some(TAIL),
            &mut wants,
            &mut each,
        );
    }
    (runs, failed)
}

fn seed(scenario: &Scenario, n: usize) -> u64 {
    scenario.seeds.0 + n as u64 % 2
}

fn part(part: usize) {
    let (mut runs, mut failed) = (0, Vec::new());
    for (i, (name, text)) in files().into_iter().enumerate() {
        if i % PARTS == part {
            let (n, f) = all_of(&name, &text, i);
            println!("{name}: {n} runs");
            runs += n;
            failed.extend(f);
        }
    }
    println!("{runs} runs");
    let n = failed.len();
    let shown: Vec<String> = failed.into_iter().take(3).collect();
    assert_eq!(n, 0, "{}", shown.join("\n\n"));
}

#[test]
fn part_1() {
    part(0);
}

#[test]
fn part_2() {
    part(1);
}

#[test]
fn part_3() {
    part(2);
}

#[test]
fn part_4() {
    part(3);
}

#[test]
fn part_5() {
    part(4);
}

#[test]
fn part_6() {
    part(5);
}

#[test]
fn part_7() {
    part(6);
}

#[test]
fn part_8() {
    part(7);
}

#[test]
fn equal_seeds_are_equal_histories_whatever_is_written_down() {
    let text = fs::read_to_string(folder().join("s85-slow-token.scn")).expect("there");
    let text = expand(&text).expect("good").remove(0);
    let mut scenario = parse(&text).expect("good");
    let hash = |s: &_, seed| {
        let choice = Choice {
            seed,
            ..Choice::default()
        };
        run(s, &choice).world.hash()
    };
    let first = hash(&scenario, 7);
    assert_eq!(first, hash(&scenario, 7));
    assert_ne!(first, hash(&scenario, 8));
    scenario.config.lines = false;
    assert_eq!(first, hash(&scenario, 7), "logging changes nothing");
}

#[test]
fn there_are_enough_of_them_and_standard_faults_can_be_read() {
    assert!(files().len() >= 60, "{}", files().len());
    for (name, first, later) in FAULTS {
        for text in [first, later] {
            let line = format!("at 1d {text}\nrun 2d\n");
            assert!(text.is_empty() || parse(&line).is_ok(), "{name}: {text}");
        }
    }
}
