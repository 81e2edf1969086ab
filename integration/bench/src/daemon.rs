//! A large zone in the whole daemon: what one changed record in its file costs until it is served,
//! how fast the zone is back after a power cut, and what memory it takes.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cascade_e2e::Site;

use crate::generate::Tld;
use crate::question::Asker;
use crate::table::{Limit, Row};
use crate::zones::{Usage, settle};

const BOUND: Duration = Duration::from_secs(1800);
/// Changed files; the median counts.
const CHANGES: u32 = 7;
const ZONE: &str = "bench";

/// Runs a daemon of its own with a registry's zone. `programs`: the folder with `cascaded`.
///
/// # Errors
/// Names what went wrong.
pub fn run(delegations: u64, seed: u64, programs: PathBuf) -> Result<Vec<Row>, String> {
    let mut site = Site::with_programs(programs);
    site.policy("p", "[signer]\nserial-policy = \"counter\"\n");
    site.start();
    expect(&site, "/v1/policies/reload", "{}", 200)?;
    let file = site.path("zones/bench");
    write(&file, delegations, seed, 0)?;
    let asker = Asker::new(site.publication_port(), ZONE)?;
    let pid = site.pid().ok_or("the daemon has no process id")?;
    let began = Instant::now();
    let body = format!(
        r#"{{"zone":"{ZONE}","policy":"p","source":{{"kind":"file","path":"{}"}}}}"#,
        file.display()
    );
    expect(&site, "/v1/zones", &body, 201)?;
    let first = asker.until(began, BOUND, |_| true)?;
    let records = records(&site)?;
    settle(pid);
    let after = Usage::of(pid);

    let mut changed = Vec::new();
    let mut serial = asker.serial().ok_or("no answer")?;
    for n in 1..=CHANGES {
        write(&file, delegations, seed, n)?;
        let began = Instant::now();
        expect(&site, "/v1/zones/bench/reload", "{}", 202)?;
        changed.push(asker.until(began, BOUND, |s| s != serial)?.as_secs_f64());
        serial = asker.serial().ok_or("no answer")?;
        settle(pid);
    }
    changed.sort_by(f64::total_cmp);
    let later = Usage::of(pid);

    site.kill();
    let began = Instant::now();
    site.spawn();
    let answered = asker.until(began, BOUND, |s| s == serial)?;
    let row = Row::new;
    Ok(vec![
        row(
            "first publication",
            first.as_secs_f64(),
            "s",
            Limit::None,
            format!("file to served; {records} signed records"),
        ),
        row(
            "one record in the file",
            changed[changed.len() / 2],
            "s",
            Limit::AtMost(0.6),
            format!(
                "reload asked to served; median of {CHANGES}, {:.2} to {:.2} s",
                changed[0],
                changed[changed.len() - 1]
            ),
        ),
        row(
            "restart",
            answered.as_secs_f64(),
            "s",
            Limit::AtMost(0.5),
            "program started to first answer".into(),
        ),
        row(
            "resident",
            after.resident as f64 / records as f64,
            "B/record",
            Limit::AtMost(60.0),
            format!("the whole process, {} MB", after.resident / 1_000_000),
        ),
        row(
            "after the changes",
            later.resident as f64 / records as f64,
            "B/record",
            Limit::None,
            format!("{CHANGES} versions more, {} MB", later.resident / 1_000_000),
        ),
    ])
}

pub(crate) fn expect(site: &Site, path: &str, body: &str, status: u16) -> Result<(), String> {
    let reply = site.request("POST", path, Some(body))?;
    match reply.status == status {
        true => Ok(()),
        false => Err(format!("{path}: {reply:?}")),
    }
}

/// Records of the zone as published; what is served shows on that page a moment later.
fn records(site: &Site) -> Result<u64, String> {
    let found = cascade_e2e::within(Duration::from_secs(10), || {
        let text = site.request("GET", "/metrics", None).ok()?.body;
        let mut lines = text.lines();
        let line = lines.find(|l| l.starts_with("cascade_zone_records{"))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    });
    found
        .map(|v| v as u64)
        .ok_or_else(|| "no metric of records".into())
}

/// The zone file with its `n`-th change: another serial, and another address of one host.
fn write(path: &Path, delegations: u64, seed: u64, n: u32) -> Result<(), String> {
    let new = path.with_extension("new");
    let mut tld = Tld::new(delegations, seed);
    tld.serial += n;
    let file = File::create(&new).map_err(|e| e.to_string())?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    tld.write(&mut out)
        .and_then(|_| writeln!(out, "changing.bench. 3600 IN A 192.0.2.{n}"))
        .and_then(|()| out.flush())
        .map_err(|e| format!("cannot write the zone: {e}"))?;
    fs::rename(&new, path).map_err(|e| e.to_string())
}
