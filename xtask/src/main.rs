//! The project's own commands: `cargo xtask <command>`.
//!
//! `demo` and `test` are the two that the README names; the others are what they, CI and a
//! developer's day are made of.
#![allow(
    clippy::disallowed_methods,
    reason = "a developer's program: it measures time, waits and reads its environment itself"
)]

mod bench;
mod demo;
mod fuzz;
mod interop;
mod layers;
mod packages;
mod page;
mod process;
mod suites;
mod tidy;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Commands of the Cascade repository")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sign a zone with a daemon in a temporary place and show what became of it.
    Demo(demo::DemoArgs),
    /// Install what the tests need and run every suite.
    Test(suites::TestArgs),
    /// Check that the crates depend only downwards.
    Layers,
    /// Check what neither the compiler nor clippy checks.
    Tidy,
    /// Build the Debian packages into target/packages.
    Deb(packages::DebArgs),
    /// Install the packages in a booted Debian 12 and walk through the page.
    Page(page::PageArgs),
    /// Measure against the floor that cryptography sets.
    Bench(bench::BenchArgs),
    /// Feed what reads octets from outside with octets nobody would write.
    Fuzz(fuzz::FuzzArgs),
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => suites::run(&args),
        Command::Layers => layers::run(),
        Command::Tidy => tidy::run(),
        Command::Deb(args) => packages::run(&args),
        Command::Page(args) => page::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
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

/// The root of the repository: the folder above this crate's.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}

/// The target triple of this compiler.
fn host() -> Result<String, String> {
    let out = process::output(std::process::Command::new("rustc").arg("-vV"))?;
    String::from_utf8_lossy(&out)
        .lines()
        .find_map(|l| l.strip_prefix("host: ").map(String::from))
        .ok_or_else(|| "rustc -vV names no host".into())
}
