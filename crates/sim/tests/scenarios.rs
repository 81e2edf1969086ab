//! Every file of `integration/sim`, as it is, with a restart after every event, and with a few
//! standard faults and crashes that differ from file to file. All of them: `just year`.

use std::fs;
use std::path::{Path, PathBuf};

use cascade_sim::failure::Failure;
use cascade_sim::run::{Choice, FAULTS, choices, run};
use cascade_sim::scenario::{expand, parse};

/// Combinations of swept values per file; the rest is run by `just year`.
const COMBINATIONS: usize = 8;
const INJECTIONS: usize = 3;

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

/// A quarter of the files, so that they run beside each other.
fn quarter(part: usize) {
    let mut failed = Vec::new();
    for (i, (name, text)) in files().into_iter().enumerate() {
        if i % 4 != part {
            continue;
        }
        let texts = expand(&text).unwrap_or_else(|e| panic!("{name}.scn:{e}"));
        let skip = texts.len().div_ceil(COMBINATIONS).max(1);
        for (n, text) in texts
            .iter()
            .enumerate()
            .filter(|(n, _)| n % skip == i % skip)
        {
            let scenario = parse(text).unwrap_or_else(|e| panic!("{name}.scn:{e}"));
            assert_eq!(scenario.name, name, "a scenario is called as its file");
            // Long ones once, short ones with faults.
            let few = if texts.len() > 1 { 1 } else { INJECTIONS };
            let all = if scenario.run > 1000 * cascade_sim::DAY {
                vec![Choice {
                    seed: scenario.seeds.0,
                    ..Choice::default()
                }]
            } else {
                choices(&scenario, scenario.seeds.0 + n as u64 % 2, Some(few))
            };
            for choice in all {
                let o = run(&scenario, &choice);
                if let Some(f) = Failure::of(&name, text, &choice, &o) {
                    failed.push(f.show());
                    break;
                }
            }
        }
    }
    let n = failed.len();
    let shown: Vec<String> = failed.into_iter().take(3).collect();
    assert_eq!(n, 0, "{}", shown.join("\n\n"));
}

#[test]
fn first_quarter() {
    quarter(0);
}

#[test]
fn second_quarter() {
    quarter(1);
}

#[test]
fn third_quarter() {
    quarter(2);
}

#[test]
fn fourth_quarter() {
    quarter(3);
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
    let with_faults = files().iter().filter(|f| f.1.contains("\nfaults")).count();
    assert!(with_faults >= 12, "{with_faults}");
    for (name, first, later) in FAULTS {
        for text in [first, later] {
            let line = format!("at 1d {text}\nrun 2d\n");
            assert!(text.is_empty() || parse(&line).is_ok(), "{name}: {text}");
        }
    }
}
