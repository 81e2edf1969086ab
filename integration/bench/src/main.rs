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
use cascade_bench::{floor, memory};
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
    /// Seconds for each measurement of the floor.
    #[arg(long, default_value_t = 2)]
    floor_secs: u64,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Generate {
            kind: Kind::Tld(args),
        } => generate(&args),
        Command::Run(args) => run(&args),
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

fn run(args: &RunArgs) -> Result<(), String> {
    let floor = floor::measure(Duration::from_secs(args.floor_secs))?;
    let mut zone = Vec::new();
    let counts = Tld::new(args.delegations, args.seed)
        .write(&mut zone)
        .map_err(|e| format!("cannot write the zone: {e}"))?;
    println!(
        "Zone: {} delegations, {} records, {} octets of text; {} threads",
        counts.delegations, counts.records, counts.octets, floor.threads
    );
    let note = format!("P-256, {} threads", floor.threads);
    let plain = |what, measured, unit, note: &str| Row {
        what,
        measured,
        unit,
        limit: Limit::None,
        note: note.to_owned(),
    };
    let rows = vec![
        plain(
            "one signature (aws-lc-rs)",
            floor.sign_secs * 1e6,
            "us",
            &note,
        ),
        plain(
            "one verification (ring)",
            floor.verify_secs * 1e6,
            "us",
            &note,
        ),
        plain(
            "peak memory",
            memory::read().peak as f64 / 1e6,
            "MB",
            "VmHWM",
        ),
    ];
    table::print(&rows);
    Ok(())
}
