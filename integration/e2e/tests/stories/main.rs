//! Stories of operators, told against the real programs.
//!
//! The programs are those that stand beside the tests: `cargo build --workspace --bins` first, or
//! `cargo xtask test`, which does.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests of running programs wait for them, and end where something is missing"
)]

mod backups;
mod bad_api;
mod bad_config;
mod bad_policy;
mod bad_source;
mod bad_usage;
mod clocks;
mod common;
mod denials;
mod hooks;
mod hsm_faults;
mod hsm_keys;
mod hsm_managed;
mod hsms;
mod keys;
mod kills;
mod liar;
mod manual;
mod many_zones;
mod passed;
mod primaries;
mod readers;
mod recovery;
mod restarts;
mod resting;
mod reviews;
mod rollbacks;
mod second;
mod secondaries;
mod seed_page;
mod serving;
mod updates;
mod validity;
mod watched;
mod xot;
mod zonemd;
