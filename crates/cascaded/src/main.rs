//! `cascaded`: runs the pipeline of every zone and hosts the control API.
//!
//! Start-up: [`start`]. A zone's loop: [`zone`]. What an action does: `zone/perform.rs`. The HTTP
//! side: [`http`], and what it asks of the daemon: [`control`].

mod activation;
mod args;
mod audit;
mod certificates;
mod control;
mod daemon;
mod few;
mod hooks;
mod hsm;
mod http;
mod keys;
mod lock;
mod logging;
mod looks;
mod metrics;
mod policies;
mod quick;
mod reload;
mod secondaries;
mod servers;
mod settings;
mod start;
mod status;
mod steps;
mod stores;
mod sync;
mod text;
mod transfer;
mod tsig;
mod update;
mod upgrade;
mod xot;
mod zone;

use std::process::ExitCode;

use clap::Parser;

/// What many threads give back is given back to the system too (ADR 6).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = args::Args::parse();
    if args.version {
        println!("{}", args::version_text());
        return ExitCode::SUCCESS;
    }
    if args.check_config {
        return start::check_config(&args);
    }
    start::run(args)
}
