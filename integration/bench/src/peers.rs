//! The same zone in other people's servers, in the same run: BIND and Knot sign it and take
//! DNS UPDATE, NSD gives transfers. Who is not installed is skipped, and said so.

use std::fs::{self, File};
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cascade_e2e::{Ports, Site, transfer};

use crate::axfr_client::{axfr, update};
use crate::generate::Tld;
use crate::question::Asker;
use crate::updates::{Client, POLICY, stream, tsig_key};
use crate::zones::{Usage, settle};

const ZONE: &str = "bench";
const BOUND: Duration = Duration::from_secs(3600);
/// Single updates; the median counts.
const UPDATES: u32 = 31;
/// Updates of one connection, up to 64 of them under way.
const STREAM: u64 = 1000;
const TRANSFERS: u32 = 5;

/// What one server took.
#[derive(Debug, Default)]
pub struct Took {
    pub who: &'static str,
    /// File to a signed answer.
    pub first: Option<f64>,
    /// One record by DNS UPDATE: the median of the answers.
    pub update: Option<f64>,
    /// Seconds for each of many of them, sent without waiting for the answers.
    pub stream: Option<f64>,
    /// Server's CPU for one transfer of the whole zone.
    pub axfr_cpu: Option<f64>,
    pub axfr_octets: u64,
    pub resident: u64,
    /// Why something is missing.
    pub notes: Vec<String>,
}

/// Runs them one after the other; ours comes first. `programs`: the folder with `cascaded`.
///
/// # Errors
/// Ours failed, or the zone cannot be written.
pub fn run(
    delegations: u64,
    seed: u64,
    without: &[Make],
    programs: &Path,
) -> Result<Vec<Took>, String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = dir.path().join("bench.zone");
    let out = File::create(&file).map_err(|e| e.to_string())?;
    let mut out = BufWriter::with_capacity(1 << 20, out);
    Tld::new(delegations, seed)
        .write(&mut out)
        .and_then(|_| out.flush())
        .map_err(|e| format!("cannot write the zone: {e}"))?;
    let signed = dir.path().join("signed.zone");
    let mut all = vec![ours(&file, programs, &signed)?];
    let makes = [Make::Bind, Make::Knot, Make::Nsd];
    for make in makes.into_iter().filter(|m| !without.contains(m)) {
        // NSD does not sign: it gets what we have signed.
        let source = if make == Make::Nsd { &signed } else { &file };
        all.push(theirs(make, source));
    }
    Ok(all)
}

fn ours(file: &Path, programs: &Path, signed: &Path) -> Result<Took, String> {
    let mut site = Site::with_programs(programs.to_path_buf());
    let policy = format!("[signer]\nserial-policy = \"counter\"\n\n{POLICY}");
    site.policy("p", &policy);
    site.start();
    let post = |site: &Site, path: &str, body: &str| {
        let reply = site.request("POST", path, Some(body))?;
        match reply.status {
            200..300 => Ok(()),
            _ => Err(format!("{path}: {reply:?}")),
        }
    };
    post(&site, "/v1/tsig-keys", &tsig_key())?;
    post(&site, "/v1/policies/reload", "{}")?;
    let asker = Asker::new(site.publication_port(), ZONE)?;
    let began = Instant::now();
    let body = format!(
        r#"{{"zone":"{ZONE}","policy":"p","source":{{"kind":"update","path":"{}"}}}}"#,
        file.display()
    );
    post(&site, "/v1/zones", &body)?;
    let first = asker.until(began, BOUND, |_| true)?;
    let pid = site.pid().ok_or("the daemon has no process id")?;
    settle(pid);
    let mut took = Took {
        who: "Cascade",
        first: Some(first.as_secs_f64()),
        ..Took::default()
    };
    // With TSIG, which the others are spared: we take no update without a key.
    let mut client = Client::new(site.publication_port())?;
    updates(&mut took, |n| Ok(client.change(&format!("update{n}"))?.0));
    streamed(&mut took, &mut client);
    transfers(&mut took, site.publication_port(), pid);
    took.resident = Usage::of(pid).resident;
    transfer(site.publication_port(), ZONE, signed)?;
    Ok(took)
}

/// A server of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Make {
    Bind,
    Knot,
    Nsd,
}

impl Make {
    fn who(self) -> &'static str {
        match self {
            Make::Bind => "BIND",
            Make::Knot => "Knot",
            Make::Nsd => "NSD",
        }
    }

    fn command(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Make::Bind => ("named", &["-g", "-n", "2", "-c", "conf"]),
            Make::Knot => ("knotd", &["-c", "conf"]),
            Make::Nsd => ("nsd", &["-d", "-c", "conf"]),
        }
    }

    fn configuration(self, place: &Path, port: u16) -> String {
        let place = place.display();
        match self {
            Make::Bind => format!(
                "options {{ directory \"{place}\"; listen-on port {port} {{ 127.0.0.1; }}; \
                 listen-on-v6 {{ none; }}; pid-file \"{place}/pid\"; \
                 session-keyfile \"{place}/session\"; recursion no; dnssec-validation no; \
                 allow-transfer {{ any; }}; notify no; transfers-out 100; }};\ncontrols {{ }};\n\
                 dnssec-policy \"bench\" {{ keys {{ csk lifetime unlimited algorithm 13; }}; }};\n\
                 zone \"{ZONE}\" {{ type primary; file \"zone\"; dnssec-policy \"bench\"; \
                 key-directory \"{place}\"; allow-update {{ 127.0.0.1; }}; }};\n"
            ),
            Make::Knot => format!(
                "server:\n    listen: 127.0.0.1@{port}\n    rundir: \"{place}\"\n    \
                 background-workers: 2\ncontrol:\n    listen: \"{place}/control\"\n\
                 database:\n    storage: \"{place}\"\nlog:\n  - target: stdout\n    any: warning\n\
                 acl:\n  - id: all\n    address: 127.0.0.1\n    action: [transfer, update]\n\
                 policy:\n  - id: bench\n    algorithm: ecdsap256sha256\n    single-type-signing: on\n    \
                 signing-threads: 2\n\
                 zone:\n  - domain: {ZONE}\n    storage: \"{place}\"\n    file: zone\n    acl: all\n    \
                 dnssec-signing: on\n    dnssec-policy: bench\n    journal-content: changes\n    \
                 zonefile-sync: -1\n    zonefile-load: difference\n"
            ),
            Make::Nsd => format!(
                "server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  chroot: \"\"\n  \
                 zonesdir: \"{place}\"\n  pidfile: \"{place}/pid\"\n  database: \"\"\n  \
                 xfrdfile: \"{place}/xfrd\"\n  xfrdir: \"{place}\"\n  zonelistfile: \"{place}/zones\"\n  \
                 server-count: 1\n  rrl-ratelimit: 0\nremote-control:\n  control-enable: no\n\
                 zone:\n  name: {ZONE}\n  zonefile: \"zone\"\n  provide-xfr: 127.0.0.1 NOKEY\n"
            ),
        }
    }
}

/// A server of another make; ends when dropped.
struct Server {
    child: Child,
    _folder: tempfile::TempDir,
    ports: Ports,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(make: Make, zone: &Path) -> Result<Server, String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let ports = Ports::take(1);
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text);
        write("conf", &make.configuration(folder.path(), ports.get(0)))
            .map_err(|e| e.to_string())?;
        fs::copy(zone, folder.path().join("zone")).map_err(|e| e.to_string())?;
        let log = File::create(folder.path().join("log")).map_err(|e| e.to_string())?;
        let too = log.try_clone().map_err(|e| e.to_string())?;
        let (program, args) = make.command();
        // Debian keeps servers where not every user looks; exec, so that the process is theirs.
        let found =
            std::env::split_paths("/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
                .map(|p| p.join(program))
                .find(|p| p.exists())
                .ok_or_else(|| format!("skipped: {program} is not installed"))?;
        let child = Command::new(found)
            .args(args)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(too)
            .spawn()
            .map_err(|e| format!("skipped: {program}: {e}"))?;
        Ok(Server {
            child,
            _folder: folder,
            ports,
        })
    }
}

fn theirs(make: Make, zone: &Path) -> Took {
    let mut took = Took {
        who: make.who(),
        ..Took::default()
    };
    let began = Instant::now();
    let server = match Server::start(make, zone) {
        Ok(server) => server,
        Err(why) => {
            took.notes.push(why);
            return took;
        }
    };
    let (port, pid) = (server.ports.get(0), server.child.id());
    let ready = Asker::new(port, ZONE).and_then(|a| a.until(began, BOUND, |_| true));
    if let Err(why) = ready {
        took.notes.push(why);
        return took;
    }
    // BIND answers before it has signed; what counts is that it has nothing left to do.
    settle(pid);
    took.first = Some((began.elapsed().as_secs_f64() - 2.0).max(0.0));
    if make != Make::Nsd {
        updates(&mut took, |n| update(port, ZONE, n));
        match Client::new(port) {
            Ok(client) => streamed(&mut took, &mut client.without_key()),
            Err(why) => took.notes.push(why),
        }
    }
    transfers(&mut took, port, pid);
    took.resident = Usage::of(pid).resident;
    took
}

/// One after the other; who refuses one is not asked again.
fn updates(took: &mut Took, change: impl FnMut(u32) -> Result<Duration, String>) {
    match (0..UPDATES).map(change).collect::<Result<Vec<_>, _>>() {
        Ok(mut all) => {
            all.sort();
            took.update = Some(all[all.len() / 2].as_secs_f64());
        }
        Err(why) => took.notes.push(why),
    }
}

fn streamed(took: &mut Took, client: &mut Client) {
    match stream(client, STREAM) {
        Ok(rate) => took.stream = Some(1.0 / rate.max(1e-9)),
        Err(why) => took.notes.push(why),
    }
}

fn transfers(took: &mut Took, port: u16, pid: u32) {
    settle(pid);
    let before = tree_cpu(pid);
    for _ in 0..TRANSFERS {
        match axfr(port, ZONE) {
            Ok(octets) => took.axfr_octets = octets,
            Err(why) => return took.notes.push(why),
        }
    }
    took.axfr_cpu = Some((tree_cpu(pid) - before) / f64::from(TRANSFERS));
}

/// CPU of a process and of those that it started: NSD transfers in a child.
fn tree_cpu(pid: u32) -> f64 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let theirs = children.split_whitespace().filter_map(|p| p.parse().ok());
    Usage::of(pid).cpu + theirs.map(tree_cpu).sum::<f64>()
}

/// Prints what they took, and what that is in parts of ours.
pub fn print(all: &[Took]) {
    println!(
        "| server | signed and quiet after | one record by DNS UPDATE | each of a stream of them | CPU of one AXFR | MB/s of that CPU | resident |\n\
         |---|---|---|---|---|---|---|"
    );
    let ours = all.first();
    let ratio = |theirs: Option<f64>, ours: Option<f64>| match (theirs, ours) {
        (Some(t), Some(o)) if o > 0.0 && t != o => format!(" ({:.1} x ours)", t / o),
        _ => String::new(),
    };
    for t in all {
        let show = |value: Option<f64>, unit: &str, scale: f64, base: Option<f64>| {
            value.map_or("-".to_string(), |v| {
                format!("{:.3} {unit}{}", v * scale, ratio(Some(v), base))
            })
        };
        let rate = t.axfr_cpu.filter(|c| *c > 0.0);
        let rate = rate.map_or("-".into(), |c| {
            format!("{:.0}", t.axfr_octets as f64 / 1e6 / c)
        });
        println!(
            "| {} | {} | {} | {} | {} | {rate} | {} MB |",
            t.who,
            show(t.first, "s", 1.0, ours.and_then(|o| o.first)),
            show(t.update, "ms", 1e3, ours.and_then(|o| o.update)),
            show(t.stream, "ms", 1e3, ours.and_then(|o| o.stream)),
            show(t.axfr_cpu, "s", 1.0, ours.and_then(|o| o.axfr_cpu)),
            t.resident / 1_000_000
        );
        t.notes
            .iter()
            .for_each(|note| eprintln!("{}: {note}", t.who));
    }
}
