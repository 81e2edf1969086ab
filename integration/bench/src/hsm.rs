//! A token through daemon and bridge, against the same token driven directly.
//!
//! The machine's other work changes from second to second, so what is compared is measured in turn:
//! direct, through the daemon, direct, ... and the median of the pairs counts.

use std::path::PathBuf;
use std::process::Command;

use cascade_e2e::bridge::{LABEL, PIN};
use cascade_e2e::{Bridge, Site};
use serde_json::Value;

use crate::table::{Limit, Row};

/// Pairs of measurements.
const ROUNDS: usize = 5;
/// Sessions with SoftHSM, which lets one at a time into most of its work.
const SESSIONS: usize = 4;
/// Sessions with the slow token.
const MANY: usize = 32;
/// Signatures under way, as when a zone is signed.
const UNDER_WAY: usize = 1024;

/// Measures for `secs` at a time, with programs of the same build.
///
/// # Errors
/// What is missing, or did not work.
pub fn measure(secs: u64) -> Result<Vec<Row>, String> {
    Ok(vec![softhsm(secs)?, slow_token(secs)?])
}

fn softhsm(secs: u64) -> Result<Row, String> {
    let bridge = Bridge::softhsm().ok_or("SoftHSM or kmip2pkcs11 is missing")?;
    let daemon = Daemon::with(bridge, &format!("max_sessions = {SESSIONS}\n"));
    let (mut direct, mut through, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let own = daemon.direct(secs)?;
        let ours = daemon.through(secs, UNDER_WAY)?;
        ratios.push(100.0 * ours / own);
        direct.push(own);
        through.push(ours);
    }
    Ok(Row {
        what: "SoftHSM through daemon and bridge",
        measured: median(&mut ratios),
        unit: "% of direct",
        limit: Limit::AtLeast(85.0),
        note: format!(
            "P-256, {SESSIONS} sessions, medians of {ROUNDS} pairs in turn: {:.0}/s through, {:.0}/s direct; pairs from {:.0} to {:.0} %",
            median(&mut through),
            median(&mut direct),
            ratios.first().copied().unwrap_or(0.0),
            ratios.last().copied().unwrap_or(0.0),
        ),
    })
}

fn slow_token(secs: u64) -> Result<Row, String> {
    let bridge = Bridge::netlike().ok_or("the module netlike or kmip2pkcs11 is missing")?;
    let daemon = Daemon::with(bridge, &format!("max_sessions = {MANY}\n"));
    daemon.bridge.manners("latency-us = 10000\n");
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push(daemon.through(secs, UNDER_WAY)?);
    }
    Ok(Row {
        what: "token with 10 ms latency",
        measured: median(&mut rates),
        unit: "/s",
        limit: Limit::AtLeast(2500.0),
        note: format!(
            "P-256, {MANY} sessions through daemon and bridge, median of {ROUNDS}; no more than {} can be",
            MANY * 100
        ),
    })
}

/// Sorts, too.
fn median(all: &mut [f64]) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

struct Daemon {
    bridge: Bridge,
    site: Site,
}

impl Daemon {
    fn with(mut bridge: Bridge, settings: &str) -> Daemon {
        bridge.restart_with(settings);
        let site = Site::started();
        bridge.add_to(&site, LABEL, "token", &[]).expect(0);
        Daemon { bridge, site }
    }

    /// Signatures a second through the daemon's connections and the bridge.
    fn through(&self, secs: u64, parallel: usize) -> Result<f64, String> {
        let (secs, parallel) = (secs.to_string(), parallel.to_string());
        let args = [
            "hsm",
            "bench",
            "token",
            "--seconds",
            &secs,
            "--parallel",
            &parallel,
        ];
        let said = self.site.json(&args);
        let rate = said.pointer("/runs/0/signatures_per_sec");
        let rate = rate.and_then(Value::as_f64);
        rate.ok_or_else(|| format!("no rate in {said}"))
    }

    /// Signatures a second of bare sessions in a process of their own.
    fn direct(&self, secs: u64) -> Result<f64, String> {
        let output = self
            .bridge
            .on_token(&program()?.to_string_lossy())
            .arg(self.bridge.module())
            .args([
                LABEL,
                PIN,
                &SESSIONS.to_string(),
                &secs.to_string(),
                "direct",
            ])
            .output()
            .map_err(|e| format!("rate: {e}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let rate = text
            .split_whitespace()
            .find_map(|word| word.parse::<f64>().ok().filter(|n| *n > SESSIONS as f64));
        rate.ok_or_else(|| format!("rate: {output:?}"))
    }
}

/// The program that drives a module directly, beside this one.
fn program() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let path = own.with_file_name("examples").join("rate");
    let found = Command::new(&path).output();
    found.map_err(|e| format!("{}: {e}; cargo xtask bench hsm builds it", path.display()))?;
    Ok(path)
}
