//! `sim`: runs scenarios, looks for failures in random worlds, and makes failures small.
#![allow(
    clippy::disallowed_methods,
    reason = "a developer's program: it measures time itself"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use cascade_keys::{Class, RollType, Stage};
use cascade_sim::Rng;
use cascade_sim::cross::{cross, deal, place};
use cascade_sim::explore::random_scenario;
use cascade_sim::failure::Failure;
use cascade_sim::fault::{Choice, reached, unreached};
use cascade_sim::many;
use cascade_sim::run::{Outcome, run};
use cascade_sim::scenario::{Scenario, expand, parse};
use cascade_sim::small::search;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "sim", about = "Key rolls in a simulated world")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run scenario files, or all of a folder.
    Run {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Only this seed; else those that the file names.
        #[arg(long)]
        seed: Option<u64>,
        /// One in so many of the faults and crashes; 0 = none.
        #[arg(long, default_value_t = 20)]
        one_in: u64,
        /// Every standard fault at every stage, and a crash after every action.
        #[arg(long)]
        all: bool,
        /// Every standard fault at every stage once for each file and seed, dealt over what it sweeps.
        #[arg(long, conflicts_with = "all")]
        dealt: bool,
        /// More seeds than the files name: 0 up to this one.
        #[arg(long)]
        seeds: Option<u64>,
        /// Level Z: the product's pipeline, and zones with real keys, signatures and messages.
        #[arg(long)]
        real: bool,
        /// Which combinations of roll, stage and fault were reached, and the slowest files; one that was
        /// not reached is a failure.
        #[arg(long)]
        reached: bool,
        /// Folder for files of failures.
        #[arg(long, default_value = "target/sim")]
        out: PathBuf,
    },
    /// Random worlds from a seed on.
    Explore {
        #[arg(long, default_value_t = 0)]
        from: u64,
        #[arg(long, default_value_t = 1000)]
        count: u64,
        /// Stop after so many hours.
        #[arg(long)]
        hours: Option<f64>,
        #[arg(long, default_value = "target/sim")]
        out: PathBuf,
    },
    /// Run a failure again.
    Replay { failure: PathBuf },
    /// Leave out of a failure what it does not need.
    Shrink { failure: PathBuf },
    /// A failure as text: the rule, the caches, the history, the scenario.
    Show { failure: PathBuf },
    /// Zones that are added within one minute, for a year.
    Many {
        #[arg(long, default_value_t = 1000)]
        zones: u32,
        #[arg(long, default_value_t = 365)]
        days: u64,
    },
    /// One day of many zones, a thirtieth of which begins a ZSK roll.
    Day {
        #[arg(long, default_value_t = 100_000)]
        zones: u32,
    },
    /// All courses of each roll in a world of two servers on each side.
    Small {
        /// With a restart, a silent secondary or a dead token at any moment.
        #[arg(long)]
        fault: bool,
        /// States after which a search is given up.
        #[arg(long, default_value_t = 2_000_000)]
        most: usize,
    },
}

#[derive(Clone, Copy)]
enum Share {
    All,
    Dealt,
    OneIn(u64),
    None,
}

#[derive(Clone, Copy)]
enum Seeds {
    OfTheFile,
    Between(u64, u64),
}

impl Seeds {
    fn of(self, scenario: &Scenario) -> (u64, u64) {
        match self {
            Seeds::OfTheFile => scenario.seeds,
            Seeds::Between(a, b) => (a, b),
        }
    }
}

/// Which seeds, which share of faults and crashes, and whether data are real.
type How = (Seeds, Share, bool);

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Run {
            files,
            seed,
            one_in,
            all,
            dealt,
            seeds,
            real,
            reached,
            out,
        } => {
            let share = match (all, one_in) {
                _ if dealt => Share::Dealt,
                (true, _) => Share::All,
                (false, 0) => Share::None,
                (false, n) => Share::OneIn(n),
            };
            let seeds = match (seed, seeds) {
                (Some(s), _) => Seeds::Between(s, s),
                (None, Some(n)) => Seeds::Between(0, n),
                (None, None) => Seeds::OfTheFile,
            };
            run_files(&files, (seeds, share, real), reached, &out)
        }
        Command::Explore {
            from,
            count,
            hours,
            out,
        } => explore(from, count, hours, &out),
        Command::Replay { failure } => replay(&failure),
        Command::Shrink { failure } => shrink(&failure),
        Command::Show { failure } => read(&failure).map(|f| {
            print!("{}", f.show());
            true
        }),
        Command::Small { fault, most } => small(fault, most),
        Command::Many { zones, days } => Ok(many_zones(zones, days)),
        Command::Day { zones } => Ok(one_day(zones)),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Failures of one file that are kept; the others are counted.
const MOST_KEPT: usize = 20;

/// What came of one file.
#[derive(Default)]
struct Tally {
    runs: usize,
    days: u64,
    failed: usize,
    failures: Vec<Failure>,
    outcomes: Vec<(Choice, Vec<(Class, Stage)>)>,
    /// Seconds of each file.
    times: Vec<(f64, String)>,
}

/// Files that are told to be slow.
const SLOWEST: usize = 5;

fn run_files(files: &[PathBuf], how: How, report: bool, out: &Path) -> Result<bool, String> {
    let files = scenario_files(files)?;
    let next = AtomicUsize::new(0);
    let total = Mutex::new(Ok(Tally::default()));
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let begun = Instant::now();
    std::thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begun = Instant::now();
                    let done = run_file(file, how);
                    let Ok(mut total) = total.lock() else { return };
                    let Ok(sum) = total.as_mut() else { return };
                    match done.and_then(|t| told(file, begun, t, out)) {
                        Ok(t) => {
                            sum.runs += t.runs;
                            sum.days += t.days;
                            sum.failed += t.failed;
                            sum.outcomes.extend(t.outcomes);
                            sum.times.extend(t.times);
                        }
                        Err(e) => *total = Err(e),
                    }
                }
            });
        }
    });
    let mut total = total.into_inner().map_err(|_| "a run has panicked")??;
    let missing = if report { tell(&mut total) } else { 0 };
    println!(
        "{} runs, {} zone-years, {} failed, {:.0} s",
        total.runs,
        total.days / 365,
        total.failed,
        begun.elapsed().as_secs_f64()
    );
    Ok(total.failed == 0 && missing == 0)
}

/// The report of a night: what was reached, how often, and what never.
fn tell(total: &mut Tally) -> usize {
    for (what, n) in reached(&total.outcomes) {
        println!("reached {what}: {n}");
    }
    total.times.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (secs, name) in total.times.iter().take(SLOWEST) {
        println!("slow {name}: {secs:.0} s");
    }
    let missing = unreached(&total.outcomes);
    for what in &missing {
        println!("never reached {what}");
    }
    missing.len()
}

fn told(file: &Path, begun: Instant, mut t: Tally, out: &Path) -> Result<Tally, String> {
    for f in &t.failures {
        keep(f, out)?;
    }
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let secs = begun.elapsed().as_secs_f64();
    println!(
        "{name:<32} {:>6} runs {:>4} failed {secs:>7.2} s",
        t.runs, t.failed,
    );
    t.times.push((secs, name.into_owned()));
    Ok(t)
}

fn run_file(file: &Path, (seeds, share, real): How) -> Result<Tally, String> {
    let at = |e| format!("{}:{e}", file.display());
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut tally = Tally::default();
    let mut all = Vec::new();
    for text in expand(&text).map_err(at)? {
        let mut scenario = parse(&text).map_err(at)?;
        scenario.config.real = real;
        all.push((text, scenario));
    }
    if let (Share::Dealt, Some((_, one))) = (share, all.first()) {
        let (first, last) = seeds.of(one);
        (first..=last).for_each(|seed| run_dealt(&all, seed, &mut tally));
        return Ok(tally);
    }
    for (text, scenario) in &all {
        let (first, last) = seeds.of(scenario);
        for seed in first..=last {
            let mut draw = Rng::stream(seed, &scenario.name);
            let mut wants = |_: &Choice| match share {
                Share::All => true,
                Share::OneIn(n) => draw.one_in(n),
                Share::None | Share::Dealt => false,
            };
            let mut each = |choice: Choice, o: Outcome| tally.add(scenario, text, choice, o);
            let restart = with_restart(seed);
            let o = run(scenario, &restart);
            each(restart, o);
            cross(scenario, seed, None, &mut wants, &mut each);
        }
    }
    Ok(tally)
}

/// Of the crashes of a file whose faults are dealt, each after one action, one in so many.
const CRASH_IN: u64 = 50;
/// And this one, so that every combination has some.
const ALWAYS: u32 = 5;
/// How long a run of those goes on after its fault if nothing is to come.
const TAIL: u64 = 21 * cascade_sim::DAY;
/// The first keys are the same in most files: each has one in so many of the faults there.
const FIRST: usize = 8;

/// One seed of a file: each of its combinations as it is, and each fault at each stage in one of them.
fn run_dealt(all: &[(String, Scenario)], seed: u64, tally: &mut Tally) {
    let mut stages = Vec::new();
    for (text, scenario) in all {
        let restart = with_restart(seed);
        let o = run(scenario, &restart);
        stages.push(o.stages.clone());
        tally.add(scenario, text, restart, o);
    }
    let slices: Vec<(&Scenario, &[(Class, Stage)])> = all
        .iter()
        .zip(&stages)
        .map(|((_, s), stages)| (s, &stages[..]))
        .collect();
    let salt = all
        .first()
        .map_or(0, |(_, s)| s.name.bytes().map(u64::from).sum());
    let dealt = deal(&slices, salt + seed, FIRST);
    for ((text, scenario), dealt) in all.iter().zip(&dealt) {
        let mut draw = Rng::stream(seed, text);
        let mut wants = |c: &Choice| match &c.injection {
            Some(i) => dealt.contains(&place(&i.class, i.stage, &i.fault)),
            None => c.crash_after == Some(ALWAYS) || draw.one_in(CRASH_IN),
        };
        let mut each = |choice: Choice, o: Outcome| tally.add(scenario, text, choice, o);
        cross(scenario, seed, Some(TAIL), &mut wants, &mut each);
    }
}

fn with_restart(seed: u64) -> Choice {
    Choice {
        seed,
        restart: true,
        ..Choice::default()
    }
}

impl Tally {
    fn add(&mut self, scenario: &Scenario, text: &str, choice: Choice, o: Outcome) {
        self.runs += 1;
        self.days += o.seconds / cascade_sim::DAY;
        if let Some(f) = Failure::of(&scenario.name, text, &choice, &o) {
            self.failed += 1;
            if self.failures.len() < MOST_KEPT {
                self.failures.push(f);
            }
        }
        self.outcomes.push((choice, o.stages));
    }
}

/// Files as they are, folders as the scenarios in them, in the order of their names.
fn scenario_files(given: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut out = Vec::new();
    for path in given {
        if !path.is_dir() {
            out.push(path.clone());
            continue;
        }
        let entries = fs::read_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut found: Vec<PathBuf> = entries
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| p.extension().is_some_and(|x| x == "scn"))
            .collect();
        found.sort();
        out.extend(found);
    }
    Ok(out)
}

fn keep(f: &Failure, out: &Path) -> Result<(), String> {
    let told = |e: std::io::Error| format!("{}: {e}", out.display());
    fs::create_dir_all(out).map_err(told)?;
    let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let choice: String = f.choice.to_string().chars().map(word).collect();
    // Combinations of one file have the same name.
    let text = f
        .scenario
        .bytes()
        .fold(0u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let path = out.join(format!("{}-{choice}-{text:08x}.json", f.name));
    let text = serde_json::to_string_pretty(f).map_err(|e| e.to_string())?;
    fs::write(&path, text).map_err(told)?;
    println!("{}: {}", f.name, f.broken);
    println!("  with {}; kept as {}", f.choice, path.display());
    Ok(())
}

fn read(path: &Path) -> Result<Failure, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: not a failure: {e}", path.display()))
}

fn replay(path: &Path) -> Result<bool, String> {
    let f = read(path)?;
    let o = f.replay().map_err(|e| format!("{}:{e}", path.display()))?;
    match &o.broken {
        Some(b) if *b == f.broken => println!("the same: {b}"),
        Some(b) => println!("another failure: {b}\nwas: {}", f.broken),
        None => println!("no failure any more; was: {}", f.broken),
    }
    Ok(o.broken.is_none())
}

fn shrink(path: &Path) -> Result<bool, String> {
    let f = read(path)?;
    let small = f.shrink().map_err(|e| format!("{}:{e}", path.display()))?;
    let text = serde_json::to_string_pretty(&small).map_err(|e| e.to_string())?;
    let to = path.with_extension("small.json");
    fs::write(&to, text).map_err(|e| format!("{}: {e}", to.display()))?;
    print!("{}", small.show());
    println!("kept as {}", to.display());
    Ok(true)
}

fn explore(from: u64, count: u64, hours: Option<f64>, out: &Path) -> Result<bool, String> {
    let begun = Instant::now();
    let (mut runs, mut failed, mut days) = (0u64, 0u64, 0u64);
    for seed in from..from.saturating_add(count) {
        if hours.is_some_and(|h| begun.elapsed().as_secs_f64() > h * 3600.0) {
            break;
        }
        let text = random_scenario(seed);
        let scenario = parse(&text).map_err(|e| format!("explored-{seed}:{e}"))?;
        let choice = Choice {
            seed,
            restart: seed % 4 == 3,
            ..Choice::default()
        };
        let o = run(&scenario, &choice);
        runs += 1;
        days += o.seconds / cascade_sim::DAY;
        if let Some(f) = Failure::of(&scenario.name, &text, &choice, &o) {
            failed += 1;
            keep(&f, out)?;
        }
    }
    println!("{runs} worlds, {} zone-years, {failed} failed", days / 365);
    Ok(failed == 0)
}

/// The zones' numbers, dealt out to as many threads as there are cores.
fn on_all_cores<T: Default + Send + std::ops::AddAssign>(
    zones: u32,
    work: impl Fn(&mut dyn Iterator<Item = u32>) -> T + Sync,
) -> T {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()) as u32;
    let total = Mutex::new(T::default());
    std::thread::scope(|s| {
        for t in 0..threads {
            let (total, work) = (&total, &work);
            s.spawn(move || {
                let done = work(&mut (t..zones).step_by(threads as usize));
                if let Ok(mut total) = total.lock() {
                    *total += done;
                }
            });
        }
    });
    total.into_inner().unwrap_or_default()
}

fn many_zones(zones: u32, days: u64) -> bool {
    let begun = Instant::now();
    let all = on_all_cores(zones, |share| many::together(zones, days, share));
    println!(
        "{} zones, {days} days, {} rolls begun and {} ended, at most {} ZSK rolls begin within \
         10 minutes, {} looks at the parent, one waits {} s at most for its turn, {:.0} s",
        all.zones,
        all.starts.len(),
        all.finished,
        all.most_starts(600),
        all.looks.len(),
        all.longest_queue().as_secs(),
        begun.elapsed().as_secs_f64()
    );
    if let Some((zone, b)) = &all.broken {
        println!("zone {zone}: {b}");
    }
    all.broken.is_none()
}

fn one_day(zones: u32) -> bool {
    let begun = Instant::now();
    let day = on_all_cores(zones, |share| many::one_day(share));
    println!(
        "{} zones, {} rolls begun, {} looks, {} octets of state a zone, {:.0} s",
        day.zones,
        day.starts,
        day.looks,
        day.state,
        begun.elapsed().as_secs_f64()
    );
    // Asked for now and for next, as the daemon does.
    let begun = Instant::now();
    let n = 200_000;
    let acts = many::decide(n);
    let each = begun.elapsed().as_secs_f64() / f64::from(n);
    println!(
        "{} decisions, {:.1} us each ({acts} of {n} tried had something to do), {:.1} s for the day",
        day.decisions,
        each * 1e6,
        each * day.decisions as f64
    );
    if let Some((zone, b)) = &day.broken {
        println!("zone {zone}: {b}");
    }
    day.broken.is_none()
}

fn small(fault: bool, most: usize) -> Result<bool, String> {
    let pairs: [&[RollType]; 8] = [
        &[RollType::ZskPrePublish],
        &[RollType::ZskDoubleSignature],
        &[RollType::KskDoubleSignature],
        &[RollType::KskDoubleDs],
        &[RollType::Csk],
        &[RollType::Algorithm],
        &[RollType::GoInsecure],
        &[RollType::KskDoubleSignature, RollType::ZskPrePublish],
    ];
    let mut good = true;
    for kinds in pairs {
        let begun = Instant::now();
        let s = search(kinds, fault, most)?;
        println!(
            "{kinds:?}: {} states, {} transitions, at most {} ticks, {:.1} s",
            s.states,
            s.transitions,
            s.deepest,
            begun.elapsed().as_secs_f64()
        );
        if let Some(b) = s.broken {
            good = false;
            println!("BROKEN {b}\n{}", s.course.join("\n"));
        }
    }
    Ok(good)
}
