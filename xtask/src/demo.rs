//! `cargo xtask demo`: a zone from its file to a validated publication, in a temporary place.
//!
//! Nothing needs to be configured or installed. The daemon listens on free ports of the loopback
//! interface and leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cascade_e2e::judge::{Judge, Verdict};
use cascade_e2e::{Answer, Site, dig, transfer, within};
use clap::Args;

/// The policy's name in the demo; its text is the template's.
const POLICY: &str = "demo";

#[derive(Args)]
pub struct DemoArgs {
    /// Zone file to sign; the root zone of January 2018 when absent.
    zone_file: Option<PathBuf>,
    /// Name of the zone, when the owner of its SOA does not say it.
    #[arg(long)]
    zone: Option<String>,
    /// Seconds to wait for the publication.
    #[arg(long, default_value_t = 300)]
    wait: u64,
    /// Build with optimisation: worth the longer build for large zones.
    #[arg(long)]
    release: bool,
}

pub fn run(args: &DemoArgs) -> Result<bool, String> {
    let file = match &args.zone_file {
        Some(path) => path.clone(),
        None => crate::root().join("integration/data/root-2018020102.zone"),
    };
    let file = file
        .canonicalize()
        .map_err(|e| format!("{}: {e}", file.display()))?;
    let zone = match &args.zone {
        Some(name) => name.clone(),
        None => zone_of(&file)?,
    };
    let programs = build(args.release)?;

    let mut site = Site::with_programs(programs);
    println!(
        "\nEverything happens in {} and goes away with it.",
        site.folder().display()
    );
    let begun = Instant::now();
    site.try_start().map_err(|failure| {
        format!(
            "the daemon did not start ({:?}):\n{}",
            failure.status, failure.said
        )
    })?;
    println!(
        "cascaded is ready after {} ms.",
        begun.elapsed().as_millis()
    );

    let template = say(&site, &["template", "policy"], false)?;
    fs::write(site.path(&format!("policies/{POLICY}.toml")), template)
        .map_err(|e| format!("cannot write the policy: {e}"))?;
    say(&site, &["policy", "reload"], true)?;
    let begun = Instant::now();
    let source = file.display().to_string();
    say(
        &site,
        &[
            "zone", "add", &zone, "--source", &source, "--policy", POLICY,
        ],
        true,
    )?;
    let published = within(Duration::from_secs(args.wait), || {
        let state = site.status(&zone)["state"].clone();
        (state == "published" || state == "halted").then_some(state == "published")
    });
    let took = begun.elapsed();
    say(&site, &["zone", "status", &zone], true)?;
    if published != Some(true) {
        let halted = &site.status(&zone)["halted"];
        return Err(format!(
            "the zone is not published after {} s ({halted})",
            took.as_secs()
        ));
    }
    println!(
        "\nFrom `zone add` to published: {:.2} s.",
        took.as_secs_f64()
    );

    let rows = judge(&site, &zone)?;
    print_table(&rows);
    site.stop();
    Ok(rows.iter().all(|row| row.good != Some(false)))
}

/// Without optimisation unless asked for: the dependencies that matter are optimised in both, and
/// a stranger waits half as long.
fn build(release: bool) -> Result<PathBuf, String> {
    println!(
        "Building cascaded and cascade{}.",
        if release { " with optimisation" } else { "" }
    );
    let mut command = Command::new("cargo");
    command.args([
        "build",
        "--locked",
        "--package",
        "cascaded",
        "--package",
        "cascade",
    ]);
    if release {
        command.arg("--release");
    }
    let status = command
        .current_dir(crate::root())
        .status()
        .map_err(|e| format!("cannot start cargo: {e}"))?;
    if !status.success() {
        return Err("the build failed".into());
    }
    let ours = std::env::current_exe().map_err(|e| format!("where this program is: {e}"))?;
    let target = ours
        .parent()
        .and_then(Path::parent)
        .ok_or("this program is in no folder")?;
    Ok(target.join(if release { "release" } else { "debug" }))
}

/// Runs `cascade`, showing the command and what it printed.
fn say(site: &Site, args: &[&str], show: bool) -> Result<String, String> {
    println!("\n$ cascade {}", args.join(" "));
    let said = site.cascade(args);
    if show {
        print!("{}{}", said.stdout, said.stderr);
    } else {
        println!("({} lines)", said.stdout.lines().count());
    }
    if said.code == Some(0) {
        Ok(said.stdout)
    } else {
        Err(said.to_string())
    }
}

struct Row {
    who: String,
    what: String,
    /// `None`: could not be asked.
    good: Option<bool>,
}

fn judge(site: &Site, zone: &str) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let status = site.status(zone);
    let checked = &status["verification"]["signatures_checked"];
    rows.push(Row {
        who: "our verifier".into(),
        what: format!(
            "{} ({checked} signatures checked)",
            status["verification"]["status"]
        ),
        good: Some(status["verification"]["status"] == "passed"),
    });

    if crate::tools::find("dig").is_none() {
        // A machine with nothing but the compiler: our own verdict has to do.
        rows.push(Row {
            who: "dig and others".into(),
            what: "not asked: dig is not installed (Debian: bind9-dnsutils)".into(),
            good: None,
        });
        return Ok(rows);
    }
    let copy = site.path("transferred.zone");
    let port = site.publication_port();
    println!("\n$ dig @127.0.0.1 -p {port} {zone} AXFR");
    match transfer(port, zone, &copy) {
        Ok(records) => {
            rows.push(Row {
                who: "dig AXFR".into(),
                what: format!("{records} records"),
                good: Some(records > 0),
            });
            rows.extend(Judge::ALL.map(|judge| foreign(judge, zone, &copy)));
        }
        Err(error) => rows.push(Row {
            who: "dig AXFR".into(),
            what: error,
            good: Some(false),
        }),
    }
    // A label that no zone has: it holds a control character.
    let absent = if zone == "." {
        "\\001nobody.".into()
    } else {
        format!("\\001nobody.{zone}")
    };
    for (name, rtype, wanted) in [
        (zone, "SOA", "NOERROR"),
        (zone, "DNSKEY", "NOERROR"),
        (absent.as_str(), "A", "NXDOMAIN"),
    ] {
        rows.push(query(
            &dig(port, &[name, rtype, "+dnssec", "+norec"]),
            name,
            rtype,
            wanted,
        ));
    }
    Ok(rows)
}

fn foreign(judge: Judge, zone: &str, copy: &Path) -> Row {
    println!("$ {} …", judge.program());
    let (what, good) = match judge.judge(zone, copy, false) {
        Verdict::Valid => ("valid".to_owned(), Some(true)),
        Verdict::Invalid(said) => (first_lines(&said), Some(false)),
        Verdict::NotInstalled => ("not installed".to_owned(), None),
    };
    Row {
        who: judge.program().into(),
        what,
        good,
    }
}

fn query(answer: &Answer, name: &str, rtype: &str, wanted: &str) -> Row {
    let everything = answer.answer.iter().chain(&answer.authority);
    let signed = everything
        .clone()
        .any(|line| line.split(' ').nth(3) == Some("RRSIG"));
    let records = everything.count();
    Row {
        who: format!("dig {name} {rtype}"),
        what: format!(
            "{}, {}{records} records{}",
            if answer.status.is_empty() {
                "no answer"
            } else {
                &answer.status
            },
            if answer.has_flag("aa") {
                "authoritative, "
            } else {
                ""
            },
            if signed { ", signed" } else { "" }
        ),
        good: Some(answer.status == wanted && answer.has_flag("aa") && signed),
    }
}

fn first_lines(text: &str) -> String {
    text.lines().take(3).collect::<Vec<_>>().join(" | ")
}

fn print_table(rows: &[Row]) {
    let width = rows
        .iter()
        .map(|row| row.who.chars().count())
        .max()
        .unwrap_or(0);
    println!();
    for Row { who, what, good } in rows {
        let mark = match good {
            Some(true) => "✔",
            Some(false) => "x",
            None => "-",
        };
        println!("{mark} {who:<width$}  {what}");
    }
    let failed = rows.iter().filter(|row| row.good == Some(false)).count();
    let verdict = if failed == 0 {
        "The zone is valid."
    } else {
        "The zone is NOT valid."
    };
    println!("{verdict}");
}

/// The owner of the SOA record, with what `$ORIGIN` lines before it say.
fn zone_of(file: &Path) -> Result<String, String> {
    let octets = fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    zone_in(&String::from_utf8_lossy(&octets)).ok_or_else(|| {
        format!(
            "{}: the name of the zone cannot be seen from its SOA; give it with --zone",
            file.display()
        )
    })
}

fn zone_in(text: &str) -> Option<String> {
    let mut origin: Option<String> = None;
    for line in text.lines() {
        let line = line.split(';').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        if first.eq_ignore_ascii_case("$ORIGIN") {
            origin = words.next().map(str::to_owned);
        } else if words.take(3).any(|word| word.eq_ignore_ascii_case("SOA")) {
            let owner = if line.starts_with([' ', '\t']) || first == "@" {
                origin?
            } else if first.ends_with('.') {
                first.to_owned()
            } else {
                format!("{first}.{}", origin?)
            };
            let name = owner.trim_end_matches('.').to_ascii_lowercase();
            return Some(if name.is_empty() { ".".into() } else { name });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_is_the_owner_of_the_soa() {
        let zone = |text| zone_in(text);
        assert_eq!(
            zone("; c\n.  86400 IN SOA a. b. 1 2 3 4 5\n").as_deref(),
            Some(".")
        );
        assert_eq!(
            zone("Example.NET. 3600 IN SOA ns u (\n").as_deref(),
            Some("example.net")
        );
        assert_eq!(
            zone("$ORIGIN a.test.\n$TTL 5\n@ SOA x y\n").as_deref(),
            Some("a.test")
        );
        assert_eq!(
            zone("$ORIGIN test.\na IN SOA x y\n").as_deref(),
            Some("a.test")
        );
        assert_eq!(zone("@ IN SOA x y\n"), None);
        assert_eq!(zone(""), None);
    }
}
