//! Many small zones in one daemon: how fast they come, what each costs, and how fast they are back.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cascade_e2e::Site;
use cascade_e2e::many::Many;

use crate::table::{Limit, Row};

/// Longest wait for one phase.
const BOUND: Duration = Duration::from_secs(3600);
/// Zones that are asked for after the restart.
const SAMPLE: u32 = 200;

/// Adds `count` zones of ten records to a daemon of its own and restarts it. `programs`: the folder
/// with `cascaded`.
///
/// # Errors
/// Names what went wrong.
pub fn run(count: u32, programs: PathBuf) -> Result<Vec<Row>, String> {
    let mut site = Site::with_programs(programs);
    site.policy("p", Many::POLICY);
    site.start();
    let reply = site.request("POST", "/v1/policies/reload", Some("{}"))?;
    if reply.status != 200 {
        return Err(format!("policies: {reply:?}"));
    }
    let many = Many::new(&site, count);
    let pid = site.pid().ok_or("the daemon has no process id")?;
    let before = Usage::of(pid);
    let began = Instant::now();
    let adding = many.add(&site);
    many.await_published(&site, BOUND);
    let published = began.elapsed();
    settle(pid);
    let after = Usage::of(pid);
    let data = data_octets(&site.path("state/zone-state"));
    let state = std::fs::metadata(site.path("state/state.redb")).map_or(0, |m| m.len());
    let each = f64::from(count);

    let stopping = Instant::now();
    site.stop();
    let stop = stopping.elapsed();
    let starting = Instant::now();
    site.start();
    let ready = starting.elapsed();
    let pid = site.pid().ok_or("the daemon has no process id")?;
    let ready_cpu = Usage::of(pid).cpu;
    let wrong = (0..SAMPLE.min(count))
        .map(|i| i * (count / SAMPLE.min(count)))
        .filter(|i| site.ask(&[&Many::name(*i), "SOA"]).serial().is_none())
        .count();
    if wrong > 0 {
        return Err(format!("{wrong} zones do not answer after the restart"));
    }
    settle(pid);
    let again = Usage::of(pid);
    let row = Row::new;
    let kib = |u: &Usage| (u.resident as f64 - before.resident as f64) / each / 1024.0;
    Ok(vec![
        row(
            "added",
            each / adding.as_secs_f64(),
            "zones/s",
            Limit::None,
            format!("acknowledged, durable; {count} zones"),
        ),
        row(
            "added and published",
            each / published.as_secs_f64(),
            "zones/s",
            Limit::AtLeast(300.0),
            format!(
                "key made, signed, verified, durable, served; {:.2} ms of CPU each",
                (after.cpu - before.cpu) * 1e3 / each
            ),
        ),
        row(
            "memory beside data",
            kib(&after) - data as f64 / each / 1024.0,
            "KiB/zone",
            Limit::AtMost(4.0),
            format!(
                "resident {:.2} KiB/zone, of it data {:.2}",
                kib(&after),
                data as f64 / each / 1024.0
            ),
        ),
        row(
            "state database",
            state as f64 / each / 1024.0,
            "KiB/zone",
            Limit::None,
            "rows, history, and free pages".into(),
        ),
        row(
            "restart",
            ready.as_secs_f64(),
            "s",
            Limit::AtMost(10.0),
            format!(
                "until all are served; {ready_cpu:.1} s of CPU; stop {:.1} s",
                stop.as_secs_f64()
            ),
        ),
        row(
            "after the restart",
            kib(&again) - data as f64 / each / 1024.0,
            "KiB/zone",
            Limit::AtMost(4.0),
            format!(
                "beside data; quiet after {:.1} s of CPU more",
                again.cpu - ready_cpu
            ),
        ),
    ])
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Octets resident.
    pub resident: u64,
    /// Seconds of CPU.
    pub cpu: f64,
}

impl Usage {
    pub fn of(pid: u32) -> Usage {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let resident = status.lines().find_map(|l| {
            let kib = l.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?;
            kib.trim().parse::<u64>().ok()
        });
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // utime and stime, the 14th and 15th field; the name in parentheses may hold spaces.
        let ticks = stat.rsplit(')').next().map(|rest| {
            let words = rest.split_whitespace().skip(11).take(2);
            words.filter_map(|w| w.parse::<u64>().ok()).sum::<u64>()
        });
        Usage {
            resident: resident.unwrap_or_default() * 1024,
            // Linux counts hundredths for every program.
            cpu: ticks.unwrap_or_default() as f64 / 100.0,
        }
    }
}

/// Waits until the process does no more than what goes on in the background for long: checks of what is
/// published and looks at servers, less than a quarter of one CPU.
pub fn settle(pid: u32) {
    let began = Instant::now();
    while began.elapsed() < BOUND {
        let before = Usage::of(pid).cpu;
        std::thread::sleep(Duration::from_secs(2));
        if Usage::of(pid).cpu - before < 0.5 {
            return;
        }
    }
}

/// Octets of the zones' own files.
fn data_octets(folder: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let size = |e: std::fs::DirEntry| match e.metadata() {
        Ok(m) if m.is_dir() => data_octets(&e.path()),
        Ok(m) => m.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}
