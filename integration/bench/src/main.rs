//! `cascade-bench generate tld`: a registry's zone. `cascade-bench run`: the numbers.
#![allow(
    clippy::disallowed_methods,
    reason = "measuring is reading the clock; this crate is a developer's program"
)]

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cascade_bench::generate::Tld;
use cascade_bench::table::{self, Limit, Row};
use cascade_bench::{changes, daemon, floor, ixfr, peers, stages, updates, zones};
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Benchmarks of Cascade and the zones they run on")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a zone file.
    Generate {
        #[command(subcommand)]
        kind: Kind,
    },
    /// Measure the floor and the stages, print the table.
    Run(RunArgs),
    /// Measure what KMIP, bridge and daemon add to a token.
    Hsm {
        /// Seconds for each measurement.
        #[arg(long, default_value_t = 3)]
        secs: u64,
    },
    /// Measure what small changes of a large zone cost, and print the table.
    Changes {
        #[command(flatten)]
        zone: RunArgs,
        /// Changes of one record.
        #[arg(long, default_value_t = 41)]
        single: usize,
        /// Changes in one version; 0: none.
        #[arg(long, default_value_t = 10_000)]
        many: usize,
    },
    /// Measure many small zones in a daemon, whose program stands beside this one.
    Zones {
        #[arg(long, default_value_t = 100_000)]
        count: u32,
    },
    /// Measure a large zone in a daemon, whose program stands beside this one.
    Daemon {
        #[arg(long, default_value_t = 1_000_000)]
        delegations: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Run the same zone in the servers of others that are installed, and in ours.
    Peers {
        #[arg(long, default_value_t = 100_000)]
        delegations: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Leave these out, for example BIND, which takes long to sign a large zone.
        #[arg(long)]
        without: Vec<peers::Make>,
    },
    /// Measure DNS UPDATE against the `cascaded` beside this program, and print the table.
    Update {
        #[arg(long, default_value_t = 1_000_000)]
        delegations: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Changes one after the other.
        #[arg(long, default_value_t = 500)]
        updates: u64,
        /// Changes of the stream.
        #[arg(long, default_value_t = 20_000)]
        stream: u64,
    },
    /// Measure changed records by IXFR against the `cascaded` beside this program, and print the
    /// table.
    Ixfr {
        #[arg(long, default_value_t = 1_000_000)]
        delegations: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Changes one after the other.
        #[arg(long, default_value_t = 200)]
        changes: u32,
        /// Delegations that each change adds.
        #[arg(long, default_value_t = 1)]
        records: u32,
    },
    /// Repeat one stage, for a profiler.
    Repeat {
        #[arg(value_enum)]
        stage: Stage,
        zone: PathBuf,
        #[arg(long, default_value_t = 5)]
        times: u32,
    },
}

#[derive(Subcommand)]
enum Kind {
    /// The zone of a registry: delegations with name servers, glue and DS.
    Tld(TldArgs),
}

#[derive(Args)]
struct TldArgs {
    #[arg(long, default_value_t = 1_000_000)]
    delegations: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 2026112501)]
    serial: u32,
    /// Name of the zone.
    #[arg(long, default_value = "bench")]
    name: String,
    /// File to write; standard output when absent.
    #[arg(long, short)]
    output: Option<PathBuf>,
}

#[derive(Args)]
struct RunArgs {
    #[arg(long, default_value_t = 1_000_000)]
    delegations: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How non-existence is proved.
    #[arg(long, value_enum, default_value_t = Denial::Nsec)]
    denial: Denial,
    /// Seconds for each measurement of the floor.
    #[arg(long, default_value_t = 2)]
    floor_secs: u64,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Stage {
    Parse,
    Axfr,
    /// The file read again beside a version that has the same records but one.
    Reload,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Denial {
    Nsec,
    Nsec3,
    OptOut,
}

impl Denial {
    fn word(self) -> &'static str {
        match self {
            Denial::Nsec => "NSEC",
            Denial::Nsec3 => "NSEC3",
            Denial::OptOut => "NSEC3 with opt-out",
        }
    }

    fn plan(self) -> cascade_signer::DenialPlan {
        let nsec3 = |opt_out| cascade_signer::DenialPlan::Nsec3 {
            iterations: 0,
            salt: Vec::new(),
            opt_out,
        };
        match self {
            Denial::Nsec => cascade_signer::DenialPlan::Nsec,
            Denial::Nsec3 => nsec3(false),
            Denial::OptOut => nsec3(true),
        }
    }
}

/// As in the daemon, whose code is measured.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Generate {
            kind: Kind::Tld(args),
        } => generate(&args),
        Command::Run(args) => run(&args),
        Command::Hsm { secs } => hsm(secs),
        Command::Changes { zone, single, many } => changes(&zone, changes::Plan { single, many }),
        Command::Zones { count } => beside_us().and_then(|p| zones::run(count, p)).map(shown),
        Command::Daemon { delegations, seed } => beside_us()
            .and_then(|p| daemon::run(delegations, seed, p))
            .map(shown),
        Command::Peers {
            delegations,
            seed,
            without,
        } => beside_us()
            .and_then(|p| peers::run(delegations, seed, &without, &p))
            .map(|all| peers::print(&all)),
        Command::Update {
            delegations,
            seed,
            updates,
            stream,
        } => update(&updates::Plan {
            delegations,
            seed,
            updates,
            stream,
        }),
        Command::Ixfr {
            delegations,
            seed,
            changes,
            records,
        } => ixfr::run(&ixfr::Plan {
            delegations,
            seed,
            changes,
            records,
        })
        .and_then(judged),
        Command::Repeat { stage, zone, times } => repeat(stage, &zone, times),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn generate(args: &TldArgs) -> Result<(), String> {
    let mut tld = Tld::new(args.delegations, args.seed);
    tld.serial = args.serial;
    tld.name = args.name.trim_end_matches('.').to_ascii_lowercase();
    let sink: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(File::create(path).map_err(|e| format!("{}: {e}", path.display()))?),
        None => Box::new(io::stdout().lock()),
    };
    let mut out = BufWriter::with_capacity(1 << 20, sink);
    let counts = tld
        .write(&mut out)
        .and_then(|counts| out.flush().map(|()| counts))
        .map_err(|e| format!("cannot write the zone: {e}"))?;
    eprintln!(
        "{} delegations, {} with glue, {} with DS, {} records, {} octets",
        counts.delegations, counts.with_glue, counts.with_ds, counts.records, counts.octets
    );
    Ok(())
}

fn hsm(secs: u64) -> Result<(), String> {
    let mut rows = cascade_bench::kmip::measure(Duration::from_secs(secs))?;
    rows.extend(cascade_bench::hsm::measure(secs)?);
    judged(rows)
}

/// Writes the zone, runs every stage on it, prints the table with ratios to the floor.
fn run(args: &RunArgs) -> Result<(), String> {
    let floor = floor::measure(Duration::from_secs(args.floor_secs))?;
    let dir = tempfile::tempdir().map_err(|e| format!("no temporary directory: {e}"))?;
    let path = dir.path().join("bench.zone");
    let file = File::create(&path).map_err(|e| e.to_string())?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let counts = Tld::new(args.delegations, args.seed)
        .write(&mut out)
        .and_then(|counts| out.flush().map(|()| counts))
        .map_err(|e| format!("cannot write the zone: {e}"))?;
    println!(
        "Zone: {} delegations, {} records, {} octets of text; {}; {} threads\n",
        counts.delegations,
        counts.records,
        counts.octets,
        args.denial.word(),
        floor.threads
    );
    let s = stages::run(&path, "bench", args.denial.plan(), dir.path())?;
    let pure = floor.sign_secs * s.signatures as f64 + floor.verify_secs * s.checked as f64;
    let total = s.load_secs + s.sign_secs + s.verify_secs;
    let records = s.signed_records as f64;
    let mb = |octets: u64, secs: f64| octets as f64 / 1e6 / secs;
    let row = Row::new;
    let rows = vec![
        row(
            "one signature, pure",
            floor.sign_secs * 1e6,
            "us",
            Limit::None,
            format!("aws-lc-rs P-256, {} threads", floor.threads),
        ),
        row(
            "one verification, pure",
            floor.verify_secs * 1e6,
            "us",
            Limit::None,
            format!("ring P-256, {} threads", floor.threads),
        ),
        row(
            "parse, one core",
            mb(s.text_octets, s.parse_secs),
            "MB/s",
            Limit::AtLeast(200.0),
            "text to records, best of 3".into(),
        ),
        row(
            "load",
            s.load_secs,
            "s",
            Limit::None,
            format!("file to unsigned version, {} records", s.records),
        ),
        row(
            "sign",
            s.sign_secs,
            "s",
            Limit::None,
            format!(
                "{} signatures; pure {:.2} s",
                s.signatures,
                floor.sign_secs * s.signatures as f64
            ),
        ),
        row(
            "verify",
            s.verify_secs,
            "s",
            Limit::None,
            format!(
                "{} checked; pure {:.2} s",
                s.checked,
                floor.verify_secs * s.checked as f64
            ),
        ),
        row(
            "file to verified",
            total / pure,
            "x pure",
            Limit::AtMost(1.25),
            format!("{total:.2} s against {pure:.2} s of pure sign + verify"),
        ),
        row(
            "resident",
            s.resident as f64 / records,
            "B/record",
            Limit::AtMost(80.0),
            format!(
                "{} signed records; the store counts {:.1}",
                s.signed_records,
                s.store as f64 / records
            ),
        ),
        row(
            "peak",
            s.peak as f64 / s.resident.max(1) as f64,
            "x resident",
            Limit::AtMost(2.5),
            format!("{} MB", s.peak / 1_000_000),
        ),
        row(
            "write to disk",
            s.write_secs,
            "s",
            Limit::None,
            format!("{} MB, synced", s.file_octets / 1_000_000),
        ),
        row(
            "read back",
            s.read_secs,
            "s",
            Limit::AtMost(2.0),
            "to a version that can be served, every fingerprint checked".into(),
        ),
        row(
            "AXFR",
            mb(s.axfr_octets, s.axfr_secs),
            "MB/s",
            Limit::AtLeast(500.0),
            format!(
                "{} MB into nothing, one core, best of 10",
                s.axfr_octets / 1_000_000
            ),
        ),
    ];
    table::print(&rows);
    Ok(())
}

/// Writes and signs the zone, then changes it a little and a little more.
fn changes(args: &RunArgs, plan: changes::Plan) -> Result<(), String> {
    let floor = floor::measure(Duration::from_secs(args.floor_secs))?;
    let dir = tempfile::tempdir().map_err(|e| format!("no temporary directory: {e}"))?;
    let path = dir.path().join("bench.zone");
    let file = File::create(&path).map_err(|e| e.to_string())?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    Tld::new(args.delegations, args.seed)
        .write(&mut out)
        .and_then(|_| out.flush())
        .map_err(|e| format!("cannot write the zone: {e}"))?;
    println!(
        "Zone: {} delegations; {}; {} threads\n",
        args.delegations,
        args.denial.word(),
        floor.threads
    );
    table::print(&changes::run(
        &path,
        "bench",
        args.denial.plan(),
        plan,
        &floor,
    )?);
    Ok(())
}

/// Where the programs of the same build are.
fn beside_us() -> Result<PathBuf, String> {
    let ours = std::env::current_exe().map_err(|e| e.to_string())?;
    Ok(ours.parent().map(PathBuf::from).unwrap_or_default())
}

fn shown(rows: Vec<Row>) {
    table::print(&rows);
}

fn update(plan: &updates::Plan) -> Result<(), String> {
    judged(updates::run(plan)?)
}

/// Prints the table, and fails when a limit was missed.
fn judged(rows: Vec<Row>) -> Result<(), String> {
    table::print(&rows);
    match rows.iter().all(Row::holds) {
        true => Ok(()),
        false => Err("a limit was missed".into()),
    }
}

fn repeat(stage: Stage, zone: &std::path::Path, times: u32) -> Result<(), String> {
    let apex = cascade_zone::Name::parse("bench").map_err(|e| e.to_string())?;
    let octets = std::fs::metadata(zone).map_err(|e| e.to_string())?.len() as f64 / 1e6;
    match stage {
        Stage::Parse => {
            for _ in 0..times {
                println!("{:.1} MB/s", octets / stages::parse_alone(zone, &apex)?);
            }
        }
        Stage::Axfr => {
            let version = stages::signed(zone, "bench", cascade_signer::DenialPlan::Nsec)?;
            for _ in 0..times {
                let (octets, secs) = stages::axfr(&version)?;
                let records = version.sums().records as f64;
                println!(
                    "{:.1} MB/s, {:.1} ns a record",
                    octets as f64 / 1e6 / secs,
                    secs * 1e9 / records
                );
            }
        }
        Stage::Reload => {
            for _ in 0..times {
                println!("{}", stages::reload(zone, &apex)?);
            }
        }
    }
    Ok(())
}
