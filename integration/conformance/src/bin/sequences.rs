//! `sequences --count 10000`: many chains of changes, each judged step by step; every so many a last
//! version goes to programs of others.
#![allow(clippy::disallowed_methods, reason = "a test program of its own")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use cascade_conformance::sequences::{self, Tally};

/// How often it says how far it is.
const TOLD: u64 = 500;

struct Args {
    count: u64,
    first: u64,
    judge_every: u64,
}

fn main() -> ExitCode {
    let args = match args() {
        Ok(args) => args,
        Err(text) => {
            eprintln!("{text}\nusage: sequences [--count N] [--first SEED] [--judge-every N]");
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failures) => {
            eprintln!("{failures}");
            ExitCode::FAILURE
        }
    }
}

fn args() -> Result<Args, String> {
    let mut args = Args {
        count: 10_000,
        first: 1,
        judge_every: 50,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let place = match word.as_str() {
            "--count" => &mut args.count,
            "--first" => &mut args.first,
            "--judge-every" => &mut args.judge_every,
            _ => return Err(format!("unknown argument {word}")),
        };
        let value = words.next().and_then(|v| v.parse().ok());
        *place = value.ok_or_else(|| format!("{word} needs a number"))?;
    }
    Ok(args)
}

fn run(args: &Args) -> Result<(), String> {
    let started = Instant::now();
    let scratch = tempfile::tempdir().map_err(|e| e.to_string())?;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let (next, ended) = (AtomicU64::new(0), AtomicU64::new(0));
    let worker = || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let pool = pool.map_err(|e| e.to_string())?;
        let (mut tally, mut failures) = (Tally::default(), Vec::new());
        loop {
            let n = next.fetch_add(1, Relaxed);
            if n >= args.count || failures.len() >= 5 {
                return Ok::<_, String>((tally, failures));
            }
            let judge = args.judge_every > 0 && n.is_multiple_of(args.judge_every);
            match sequences::run(args.first + n, &pool, judge.then_some(scratch.path())) {
                Ok(done) => tally.add(&done),
                Err(failure) => {
                    eprintln!("{failure}");
                    failures.push(failure);
                }
            }
            let done = ended.fetch_add(1, Relaxed) + 1;
            if done.is_multiple_of(TOLD) {
                let secs = started.elapsed().as_secs_f64();
                eprintln!("{done} of {} in {secs:.0} s", args.count);
            }
        }
    };
    let results: Vec<_> = std::thread::scope(|s| {
        let threads: Vec<_> = (0..threads).map(|_| s.spawn(worker)).collect();
        threads.into_iter().map(|t| t.join()).collect()
    });
    let (mut total, mut failures) = (Tally::default(), Vec::new());
    for result in results {
        let (tally, failed) = result.map_err(|_| "a worker panicked".to_string())??;
        total.add(&tally);
        failures.extend(failed);
    }
    println!("{total:#?}\nin {:.1} s", started.elapsed().as_secs_f64());
    match failures.is_empty() {
        true => Ok(()),
        false => Err(failures.join("\n\n")),
    }
}
