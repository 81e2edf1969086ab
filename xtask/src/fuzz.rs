//! `cargo xtask fuzz`: coverage-guided fuzzing of everything that reads octets from outside.
//!
//! The counters are made by the stable compiler's own coverage pass, so no nightly is needed.

use std::path::Path;
use std::process::Command;

use clap::Args;

/// The passes that libFuzzer reads: counters in line, their places, and compared values.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Octets of memory that a single input may make the process take, in MiB.
const MEMORY: &str = "-rss_limit_mb=2048";

const TARGETS: [&str; 5] = ["parts", "file", "zonefile", "message", "ttlv"];

#[derive(Args)]
pub struct FuzzArgs {
    /// What is fuzzed; all of them if none is named.
    #[arg(value_parser = TARGETS)]
    targets: Vec<String>,
    /// Seconds for each.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Inputs that were found are kept in `target/fuzz/corpus` and used again; an input that fails is
/// written beside them and named.
pub fn run(args: &FuzzArgs) -> Result<bool, String> {
    let root = crate::root();
    let target = root.join("target/fuzz");
    let corpus = target.join("corpus");
    let mut seeds = cargo(&root, &target, "run");
    seeds.args(["--bin", "seeds", "--"]).arg(&root).arg(&corpus);
    if !succeeds(&mut seeds)? {
        return Ok(false);
    }
    let mut build = cargo(&root, &target.join("coverage"), "build");
    build.args(["--bin", "fuzz", "--features", "fuzzer"]);
    // The flags are for the fuzzed crates; with a target named, build scripts do without.
    let host = crate::host()?;
    build.args(["--target", &host]).env("RUSTFLAGS", COVERAGE);
    if !succeeds(&mut build)? {
        return Ok(false);
    }
    let program = target
        .join("coverage")
        .join(host)
        .join("release")
        .join("fuzz");
    let all: Vec<String> = TARGETS.map(String::from).to_vec();
    let wanted = match args.targets.is_empty() {
        true => &all,
        false => &args.targets,
    };
    let mut good = true;
    for name in wanted {
        println!("== fuzz {name}");
        let mut fuzz = Command::new(&program);
        fuzz.env("CASCADE_FUZZ_TARGET", name)
            .arg(corpus.join(name))
            .arg(format!("-max_total_time={}", args.seconds))
            .arg(format!("-artifact_prefix={}/{name}-", corpus.display()))
            .args([
                MEMORY,
                "-timeout=10",
                "-print_final_stats=1",
                "-verbosity=0",
            ]);
        good &= succeeds(&mut fuzz)?;
    }
    Ok(good)
}

fn cargo(root: &Path, target: &Path, command: &str) -> Command {
    let mut cargo = Command::new("cargo");
    cargo
        .args([command, "--release", "--locked", "--manifest-path"])
        .arg(root.join("integration/fuzz/Cargo.toml"))
        .arg("--target-dir")
        .arg(target);
    cargo
}

fn succeeds(command: &mut Command) -> Result<bool, String> {
    let status = command
        .status()
        .map_err(|e| format!("cannot start {:?}: {e}", command.get_program()))?;
    Ok(status.success())
}
