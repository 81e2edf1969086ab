//! `kmip2pkcs11`: a KMIP server in front of one PKCS#11 module, in a process of its own, so that a
//! vendor's library crashes here and nowhere else.
//!
//! Start-up: [`start`]. Keys on the token: [`tokens`]. Who may come in: [`door`].

mod args;
mod capture;
mod check;
mod door;
mod logging;
mod managed;
mod metrics;
mod process;
mod serve;
mod settings;
mod start;
mod tls;
mod tokens;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    start::run(args::Args::parse())
}
