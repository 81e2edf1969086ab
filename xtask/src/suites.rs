//! `cargo xtask test`: everything is built once, each suite says what it ran, one line sums up.

use std::process::Command;
use std::time::Instant;

use clap::{Args, ValueEnum};

use crate::{interop, layers, page, process, tidy, tools};

#[derive(Args)]
pub struct TestArgs {
    /// Run only this suite; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Suite>,
    /// Take the tools as they are; install nothing.
    #[arg(long)]
    no_install: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    Fmt,
    Layers,
    Tidy,
    Clippy,
    Unit,
    Sim,
    Doc,
    Conformance,
    E2e,
    Interop,
    Page,
}

/// Parts of programs that only tests use: the stories of key rolls set the daemon's clock. Releases
/// are built without them.
const FEATURES: &str = "--features=cascaded/test-clock";

/// In the order in which they run: what is quick to fail comes first.
const ALL: &[Suite] = &[
    Suite::Fmt,
    Suite::Layers,
    Suite::Tidy,
    Suite::Unit,
    Suite::Sim,
    Suite::Conformance,
    Suite::E2e,
    Suite::Interop,
    Suite::Page,
    Suite::Doc,
    Suite::Clippy,
];

impl Suite {
    fn title(self) -> &'static str {
        match self {
            Suite::Fmt => "format",
            Suite::Layers => "layers",
            Suite::Tidy => "tidy",
            Suite::Clippy => "clippy",
            Suite::Unit => "unit and property tests",
            Suite::Sim => "simulated key rolls",
            Suite::Doc => "documentation tests",
            Suite::Conformance => "conformance",
            Suite::E2e => "end to end",
            Suite::Interop => "KMIP with PyKMIP",
            Suite::Page => "packages in a machine",
        }
    }

    fn run(self, nextest: bool) -> Result<Tally, String> {
        match self {
            Suite::Fmt => check(cargo(&["fmt", "--all", "--check"])),
            Suite::Layers => layers::run().map(Tally::check),
            Suite::Tidy => tidy::run().map(Tally::check),
            Suite::Interop => interop::run().map(|(passed, failed)| Tally { passed, failed }),
            Suite::Page => match page::walk(&page::PageArgs::built())? {
                page::Outcome::Walked { passed, failed } => Ok(Tally { passed, failed }),
                page::Outcome::Skipped(why) => {
                    println!("SKIP page: {why}");
                    Ok(Tally::default())
                }
            },
            Suite::Clippy => check(cargo(&[
                "clippy",
                "--workspace",
                FEATURES,
                "--all-targets",
                "--locked",
                "--quiet",
                "--",
                "--deny=warnings",
            ])),
            Suite::Doc => tests(cargo(&[
                "test",
                "--workspace",
                FEATURES,
                "--doc",
                "--locked",
                "--quiet",
            ])),
            Suite::Unit | Suite::Sim | Suite::Conformance | Suite::E2e if nextest => self.nextest(),
            Suite::Unit => tests(cargo(&[
                "test",
                "--workspace",
                FEATURES,
                "--lib",
                "--bins",
                "--tests",
                "--locked",
                "--no-fail-fast",
            ])),
            Suite::Sim | Suite::Conformance | Suite::E2e => {
                println!(
                    "(ran with the unit tests: cargo-nextest, which can tell them apart, is not installed)"
                );
                Ok(Tally::default())
            }
        }
    }

    /// The whole workspace is named and filtered afterwards: naming one package would make cargo
    /// choose other features for the dependencies and build them again.
    fn nextest(self) -> Result<Tally, String> {
        let filter = match self {
            Suite::Conformance => "package(cascade-conformance)",
            Suite::E2e => "package(cascade-e2e)",
            Suite::Sim => "package(cascade-sim)",
            _ => "not (package(cascade-conformance) | package(cascade-e2e) | package(cascade-sim))",
        };
        // What a conformance test prints is its summary: how many zones, judged by whom.
        let show = if self == Suite::Conformance {
            "final"
        } else {
            "never"
        };
        tests(cargo(&[
            "nextest",
            "run",
            "--workspace",
            FEATURES,
            "--lib",
            "--bins",
            "--tests",
            "--locked",
            "--cargo-quiet",
            "--no-fail-fast",
            "--no-tests=pass",
            "--status-level=fail",
            "--final-status-level=fail",
            "--success-output",
            show,
            "-E",
            filter,
        ]))
    }
}

/// Runs the suites; true when nothing failed.
pub fn run(args: &TestArgs) -> Result<bool, String> {
    let begun = Instant::now();
    let missing = if args.no_install {
        Vec::new()
    } else {
        tools::provide()
    };
    let chosen: Vec<Suite> = ALL
        .iter()
        .copied()
        .filter(|s| args.only.is_empty() || args.only.contains(s))
        .collect();
    let nextest = cargo(&["nextest", "--version"])
        .output()
        .is_ok_and(|o| o.status.success());
    let mut total = Tally::default();
    let mut lines = Vec::new();

    if chosen.iter().any(|s| {
        matches!(
            s,
            Suite::Unit
                | Suite::Sim
                | Suite::Conformance
                | Suite::E2e
                | Suite::Interop
                | Suite::Page
        )
    }) {
        // Programs and tests in one go, so that they share one choice of features. The end-to-end
        // tests run the programs that stand beside them.
        println!("\n== build");
        let built = check(cargo(&[
            "build",
            "--workspace",
            FEATURES,
            "--lib",
            "--bins",
            "--tests",
            "--locked",
            "--quiet",
        ]))?;
        lines.push(summary("build", begun, built));
        if built.failed > 0 {
            return finish(begun, total.plus(built), &lines, &missing);
        }
    }
    for suite in chosen {
        println!("\n== {}", suite.title());
        let start = Instant::now();
        let tally = suite.run(nextest).unwrap_or_else(|error| {
            eprintln!("Error: {error}");
            Tally {
                passed: 0,
                failed: 1,
            }
        });
        lines.push(summary(suite.title(), start, tally));
        total = total.plus(tally);
    }
    finish(begun, total, &lines, &missing)
}

fn summary(title: &str, start: Instant, tally: Tally) -> String {
    let Tally { passed, failed } = tally;
    format!(
        "{title:<24} {passed:>6} passed {failed:>4} failed {:>5} s",
        start.elapsed().as_secs()
    )
}

fn finish(
    begun: Instant,
    mut total: Tally,
    lines: &[String],
    missing: &[(&str, &str)],
) -> Result<bool, String> {
    println!("\n== summary");
    for line in lines {
        println!("{line}");
    }
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
        println!("Not judged by, because not installed: {}", names.join(", "));
        // Where nobody watches, a judge who is missing would never be missed.
        if std::env::var_os("CI").is_some() {
            total.failed += missing.len();
        }
    }
    println!("in {} s", begun.elapsed().as_secs());
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(total.failed == 0)
}

#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn check(good: bool) -> Tally {
        Tally {
            passed: usize::from(good),
            failed: usize::from(!good),
        }
    }

    fn plus(self, other: Tally) -> Tally {
        Tally {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
        }
    }
}

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(args).current_dir(crate::root());
    command
}

/// A command whose end is the verdict.
fn check(mut command: Command) -> Result<Tally, String> {
    Ok(Tally::check(process::tee(&mut command)?.success))
}

/// A test runner: its own summary lines are counted.
fn tests(mut command: Command) -> Result<Tally, String> {
    let done = process::tee(&mut command)?;
    let mut tally = count(done.lines.iter().map(String::as_str));
    if !done.success && tally.failed == 0 {
        // It did not get as far as a summary.
        tally.failed = 1;
    }
    Ok(tally)
}

/// Adds up `Summary [ 1.2s] 5 tests run: 4 passed, 1 failed, 0 skipped` of cargo-nextest or, where
/// it did not run, `test result: ok. 4 passed; 1 failed; 0 ignored; …` of libtest. The output of a
/// failed test that nextest shows holds lines of the second kind.
fn count<'a>(lines: impl Iterator<Item = &'a str> + Clone) -> Tally {
    let summaries = lines.clone().filter_map(|line| {
        let rest = line.trim_start().strip_prefix("Summary [")?;
        rest.split_once(" run: ").map(|(_, counts)| counts)
    });
    let results = lines.filter_map(|line| line.trim_start().strip_prefix("test result: "));
    let nextest = summaries.clone().next().is_some();
    let mut tally = Tally::default();
    for counts in summaries.chain(results.filter(|_| !nextest)) {
        let words: Vec<&str> = counts
            .split([' ', ',', ';'])
            .filter(|w| !w.is_empty())
            .collect();
        for pair in words.windows(2) {
            let Ok(number) = pair[0].parse::<usize>() else {
                continue;
            };
            match pair[1] {
                "passed" => tally.passed += number,
                "failed" | "timed" | "exec" => tally.failed += number,
                _ => {}
            }
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_both_runners_are_counted() {
        let nextest = [
            "    test result: FAILED. 0 passed; 1 failed; 0 ignored",
            "  Summary [  0.012s] 9 tests run: 5 passed (1 slow), 3 failed, 1 timed out, 7 skipped",
        ];
        assert_eq!(
            count(nextest.into_iter()),
            Tally {
                passed: 5,
                failed: 4
            }
        );
        let libtest = [
            "test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored",
            "running 2 tests",
        ];
        assert_eq!(
            count(libtest.into_iter()),
            Tally {
                passed: 5,
                failed: 2
            }
        );
    }
}
