//! `cargo xtask bench`: builds the benchmark with optimisation and runs it.

use std::process::Command;

use clap::Args;

#[derive(Args)]
pub struct BenchArgs {
    /// Arguments of the benchmark, such as `--delegations 100000`; or one of its other commands, such as
    /// `update`, `ixfr`, `daemon`, `changes`, `zones`, `peers` or `hsm`, with arguments of its own.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// The numbers mean something only with optimisation, so this is the one command that builds it.
pub fn run(args: &BenchArgs) -> Result<bool, String> {
    // Without a word it is `run`, which needs no daemon.
    let other = args.rest.first().is_some_and(|word| !word.starts_with('-'));
    if other && !build_programs()? {
        return Ok(false);
    }
    let status = Command::new("cargo")
        .args([
            "run",
            "--release",
            "--locked",
            "--package",
            "cascade-bench",
            "--",
        ])
        .args(if other { &[][..] } else { &["run"] })
        .args(&args.rest)
        .current_dir(crate::root())
        .status()
        .map_err(|e| format!("cannot start cargo: {e}"))?;
    Ok(status.success())
}

/// What the other measurements start: daemon, client, bridge, the test module, and the program that
/// drives a module directly.
fn build_programs() -> Result<bool, String> {
    let cargo = |more: &[&str]| {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--locked"]).args(more);
        cargo.current_dir(crate::root()).status()
    };
    let programs = ["-p", "cascaded", "-p", "cascade", "-p", "kmip2pkcs11"];
    let module = ["-p", "cascade-netlike", "--lib", "--example", "rate"];
    for wanted in [&programs[..], &module] {
        let status = cargo(wanted).map_err(|e| format!("cannot start cargo: {e}"))?;
        if !status.success() {
            return Ok(false);
        }
    }
    Ok(true)
}
