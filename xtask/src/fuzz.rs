//! `cargo xtask fuzz`: coverage-guided fuzzing of everything that reads octets from outside.
//!
//! `cargo xtask fuzz bridge` is of another kind: malformed messages for a running kmip2pkcs11.
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
const ALL: [&str; 6] = ["parts", "file", "zonefile", "message", "ttlv", BRIDGE];
/// Only if named: it needs SoftHSM.
const BRIDGE: &str = "bridge";

#[derive(Args)]
pub struct FuzzArgs {
    /// What is fuzzed; all but `bridge` if none is named.
    #[arg(value_parser = ALL)]
    targets: Vec<String>,
    /// Seconds for each.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Inputs that were found are kept in `target/fuzz/corpus` and used again; an input that fails is
/// written beside them and named.
pub fn run(args: &FuzzArgs) -> Result<bool, String> {
    let named = |name: &str| args.targets.iter().any(|t| t == name);
    let root = crate::root();
    if named(BRIDGE) && !succeeds(&mut storm(&root, args.seconds))? {
        return Ok(false);
    }
    if named(BRIDGE) && args.targets.len() == 1 {
        return Ok(true);
    }
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
    for name in wanted.iter().filter(|name| *name != BRIDGE) {
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

/// The test that CI runs for a few seconds, for longer, with all of its corpus.
fn storm(root: &Path, seconds: u32) -> Command {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["test", "--locked", "--package", "kmip2pkcs11"])
        .args(["--test", "storm", "--", "--nocapture"])
        .env("KMIP2PKCS11_STORM_SECS", seconds.to_string())
        .current_dir(root);
    cargo
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
