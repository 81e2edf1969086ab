//! The manual, typed in: every box of it says how it is tested, and these tests do that.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cascade_e2e::{Said, Site, mask_times, within};
use nix::sys::signal::Signal;

use crate::common::SEED;

/// A box of a page.
struct Block {
    page: String,
    line: usize,
    /// `console,test` and so on.
    kind: String,
    text: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manual/src")
}

fn pages() -> Vec<(String, String)> {
    let mut pages: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "md"))
        .map(|p| {
            let name = p.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(p).unwrap())
        })
        .collect();
    pages.sort();
    pages
}

fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for (index, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(kind)) => {
                let block = Block {
                    page: page.to_owned(),
                    line: index + 1,
                    kind: kind.to_owned(),
                    text: String::new(),
                };
                open = Some((indent, block));
            }
            (Some(_), Some(_)) => found.extend(open.take().map(|(_, block)| block)),
            (Some((indent, block)), None) => {
                block.text.push_str(line.get(*indent..).unwrap_or_default());
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{page}: a box without end");
    found
}

fn all_blocks() -> Vec<Block> {
    pages()
        .iter()
        .flat_map(|(page, text)| blocks(page, text))
        .collect()
}

/// A command with what is printed after it.
struct Typed {
    prompt: char,
    command: String,
    printed: String,
}

fn typed(block: &Block) -> Vec<Typed> {
    let mut all: Vec<Typed> = Vec::new();
    let mut until: Option<String> = None;
    for line in block.text.lines() {
        let begins = ["# ", "$ "]
            .iter()
            .find_map(|p| Some((*p, line.strip_prefix(p)?)));
        let open = until.is_some() || all.last().is_some_and(|t| t.command.ends_with('\\'));
        match (all.last_mut(), begins) {
            (Some(last), _) if open => {
                last.command.push('\n');
                last.command.push_str(line);
                if until.as_deref() == Some(line) {
                    until = None;
                }
            }
            (_, Some((prompt, command))) => {
                until = command
                    .split_once("<< ")
                    .map(|(_, end)| end.trim().to_owned());
                all.push(Typed {
                    prompt: prompt.chars().next().unwrap(),
                    command: command.to_owned(),
                    printed: String::new(),
                });
            }
            (Some(last), None) => {
                last.printed.push_str(line);
                last.printed.push('\n');
            }
            (None, None) => panic!("{}:{}: output without a command", block.page, block.line),
        }
    }
    all
}

#[test]
fn every_box_says_how_it_is_tested() {
    let kinds = [
        "console,test",
        "console,test-restore",
        "console,page",
        "console,untested",
        "toml,policy",
        "toml,config",
        "text",
        "sh",
        "yaml",
    ];
    for (page, text) in pages() {
        for block in blocks(&page, &text) {
            assert!(
                kinds.contains(&block.kind.as_str()),
                "{page}:{}: a box marked `{}`; tested.md has the marks",
                block.line,
                block.kind
            );
            if block.kind == "console,untested" {
                assert!(
                    text.contains("ot executed"),
                    "{page} does not say that a box is not tested"
                );
            }
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let summary = &pages
        .iter()
        .find(|(name, _)| name == "SUMMARY.md")
        .unwrap()
        .1;
    for (name, text) in &pages {
        assert!(
            name == "SUMMARY.md" || summary.contains(&format!("({name})")),
            "{name} is not in the summary"
        );
        for part in text.split("](").skip(1) {
            let target = part.split(')').next().unwrap();
            if target.starts_with("http") {
                continue;
            }
            let file = target.split('#').next().unwrap();
            assert!(folder().join(file).exists(), "{name}: no {target}");
        }
    }
    // The alert rules point to the headings of the page about them.
    let rules =
        fs::read_to_string(folder().join("../../../packaging/monitoring/alerts.yml")).unwrap();
    let page = &pages
        .iter()
        .find(|(name, _)| name == "alerts.md")
        .unwrap()
        .1;
    let mut count = 0;
    for line in rules.lines() {
        if let Some(alert) = line.trim().strip_prefix("- alert: ") {
            count += 1;
            assert!(
                page.contains(&format!("\n## {alert}\n")),
                "{alert} has no heading"
            );
            let anchor = format!("alerts.md#{}.", alert.to_lowercase());
            assert!(rules.contains(&anchor), "no rule points to {anchor}");
        }
    }
    assert!(count > 5);
}

/// Words of the form `cascade_…`, between anything.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split(|c| !part(c))
        .filter(|w| w.starts_with("cascade_") && w.len() > "cascade_".len())
        // Names of our crates have the same form.
        .filter(|w| {
            !Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../crates")
                .join(&w[8..])
                .exists()
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_manual_has_every_metric_and_every_alert_of_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let quoted = |text: &str| -> BTreeSet<String> {
        let strings = text.split('"').skip(1).step_by(2);
        strings
            .filter(|s| !s.contains(char::is_whitespace))
            .flat_map(metrics_in)
            .collect()
    };
    let mut emitted = quoted(&read("crates/cascaded/src/metrics.rs"));
    for file in fs::read_dir(root.join("crates/cascaded/src/metrics")).unwrap() {
        emitted.extend(quoted(&fs::read_to_string(file.unwrap().path()).unwrap()));
    }
    assert!(emitted.len() > 30, "{emitted:?}");
    let page = read("docs/manual/src/metrics.md");
    let rows: BTreeSet<String> = page
        .lines()
        .filter_map(|l| l.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(rows, emitted, "metrics.md (left) and the code (right)");
    for path in [
        "packaging/monitoring/alerts.yml",
        "packaging/monitoring/dashboard.json",
    ] {
        let named = metrics_in(&read(path));
        let unknown: Vec<_> = named.difference(&emitted).collect();
        assert!(named.len() > 5 && unknown.is_empty(), "{path}: {unknown:?}");
    }
    // What is served is what the code was searched for.
    let site = Site::started();
    let served = site.request("GET", "/metrics", None).unwrap();
    let helped: BTreeSet<String> = served
        .body
        .lines()
        .filter_map(|l| l.strip_prefix("# HELP ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(helped, emitted, "served (left) and the code (right)");

    let source = read("crates/pipeline/src/alert.rs");
    let (_, body) = source.split_once("pub enum AlertKey {").unwrap();
    let (keys, _) = body.split_once('}').unwrap();
    let keys: Vec<String> = keys
        .split(',')
        .map(|k| k.trim())
        .filter(|k| !k.is_empty())
        .map(|k| {
            let mut out = String::new();
            for c in k.chars() {
                if c.is_ascii_uppercase() && !out.is_empty() {
                    out.push('-');
                }
                out.push(c.to_ascii_lowercase());
            }
            out
        })
        .collect();
    assert!(keys.len() > 15, "{keys:?}");
    let page = read("docs/manual/src/alerts.md");
    for key in keys {
        assert!(
            page.contains(&format!("\n| `{key}` | ")),
            "alerts.md has no row for {key}"
        );
    }
}

#[test]
fn every_file_of_the_manual_is_valid() {
    for block in all_blocks() {
        let place = format!("{}:{}", block.page, block.line);
        match block.kind.as_str() {
            "toml,policy" => {
                if let Err(e) =
                    cascade_policy::parse_policy("manual", &place, block.text.as_bytes())
                {
                    panic!("{place}: {e:?}");
                }
            }
            "toml,config" => {
                if let Err(e) = cascade_policy::parse_config(&place, block.text.as_bytes()) {
                    panic!("{place}: {e:?}");
                }
            }
            _ => {}
        }
    }
}

#[test]
fn what_the_walk_is_said_to_type_it_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xtask/src/page");
    let walk: String = fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|e| fs::read_to_string(e.path()).unwrap())
        .collect();
    let walk = walk
        .replace("\\\\", "\\")
        .replace("\\\"", "\"")
        .replace("{MODULE}", "/usr/lib/x86_64-linux-gnu/nethsm-pkcs11.so");
    for block in all_blocks().iter().filter(|b| b.kind == "console,page") {
        for typed in typed(block) {
            let first = typed.command.lines().next().unwrap_or_default();
            assert!(
                walk.contains(first),
                "{}:{}: `{first}`",
                block.page,
                block.line
            );
        }
    }
}

#[test]
fn every_page_can_be_typed_in() {
    let mut counted = 0;
    let mut differences = String::new();
    for (page, text) in pages() {
        let mut reader: Option<Reader> = None;
        for block in blocks(&page, &text) {
            if !block.kind.starts_with("console,test") {
                continue;
            }
            let reader = reader.get_or_insert_with(|| Reader::new(page == "quick-start.md"));
            if block.kind == "console,test-restore" {
                reader.empty_machine();
            }
            for step in typed(&block) {
                differences.extend(reader.step(&block, &step));
                counted += 1;
            }
        }
    }
    assert!(differences.is_empty(), "{differences}");
    assert!(counted > 40, "{counted} commands");
}

/// A reader with a machine of their own.
struct Reader {
    site: Site,
    /// (as the manual writes it, as it is here), longest first.
    places: Vec<(&'static str, String)>,
}

impl Reader {
    /// From nothing, or with what the quick start leaves.
    fn new(from_nothing: bool) -> Reader {
        let site = Site::new();
        let here = |name: &str| site.path(name).display().to_string();
        let places = vec![
            ("/run/cascade/control.sock", here("control.sock")),
            ("/etc/cascade/config.toml", here("config.toml")),
            ("/etc/cascade/policies", here("policies")),
            ("/etc/cascade/zones", here("zones")),
            ("/var/lib/cascade", here("state")),
            ("/root/monday", here("monday")),
            ("-p 4543", format!("-p {}", site.publication_port())),
            ("-p 4542", format!("-p {}", site.signed_review_port())),
            ("127.0.0.1:4539", format!("127.0.0.1:{}", site.http_port())),
            ("2026112600", today()),
        ];
        let mut reader = Reader { site, places };
        if from_nothing {
            fs::remove_dir(reader.site.path("zones")).unwrap();
            return reader;
        }
        reader.site.start();
        reader.site.policy("default", "");
        reader.site.ok(&["policy", "reload"]);
        reader.site.write(
            "zones/example.org",
            &SEED.replace("example.net", "example.org"),
        );
        let file = reader.site.write("zones/example.net", SEED);
        let source = file.to_str().unwrap();
        reader.site.ok(&[
            "zone",
            "add",
            "example.net",
            "--source",
            source,
            "--policy",
            "default",
            "--wait",
        ]);
        reader
    }

    /// The backup of this machine, and nothing else.
    fn empty_machine(&mut self) {
        self.site.stop();
        fs::rename(
            self.site.path("state/backup/monday"),
            self.site.path("monday"),
        )
        .unwrap();
        fs::remove_dir_all(self.site.path("state")).unwrap();
    }

    /// What differs from the manual.
    fn step(&mut self, block: &Block, step: &Typed) -> Option<String> {
        let place = format!("{}:{}: `{}`", block.page, block.line, step.command);
        match step.command.as_str() {
            "systemctl start cascaded" => {
                self.site.start();
                return None;
            }
            "systemctl stop cascaded" => {
                self.site.stop();
                return None;
            }
            "systemctl reload cascaded" => {
                self.site.signal(Signal::SIGHUP);
                return None;
            }
            // As the table of tested.md says.
            other if other.starts_with("chown ") => return None,
            _ => {}
        }
        // What is looked at may take a moment to come about; what is done is done once.
        let patience = Duration::from_secs(if step.prompt == '$' { 15 } else { 0 });
        let mut last = String::new();
        let good = within(patience, || {
            let said = self.run(&step.command);
            last = said.to_string();
            let fits =
                step.printed.is_empty() || fits(&step.printed, &self.as_written(&said.stdout));
            (said.code == Some(0) && fits).then_some(())
        });
        good.is_none()
            .then(|| format!("{place}\nexpected\n{}\nbut\n{last}\n\n", step.printed))
    }

    fn run(&self, command: &str) -> Said {
        let mut line = command.to_owned();
        for (written, here) in &self.places {
            line = line.replace(written, here);
        }
        if line.starts_with("cascade backup restore") {
            let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
                .unwrap()
                .unwrap();
            let state = self.site.path("state");
            line.push_str(&format!(
                " --state-dir {} --owner {}",
                state.display(),
                user.name
            ));
        }
        let programs = std::env::current_exe().unwrap();
        let programs = programs.parent().unwrap().parent().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new("bash")
            .args(["-o", "pipefail", "-c", &line])
            .env("PATH", format!("{}:{path}", programs.display()))
            .env(
                "CASCADE_DAEMON",
                format!("unix:{}", self.site.socket().display()),
            )
            .env("CASCADE_CONFIG_PATH", self.site.path("config.toml"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Said::new(line, &output)
    }

    /// With the manual's paths and ports.
    fn as_written(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (written, here) in &self.places {
            text = text.replace(here, written);
        }
        text
    }
}

/// The first serial of a zone that is signed today.
fn today() -> String {
    let output = Command::new("date")
        .args(["-u", "+%Y%m%d00"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// `…` stands for anything, on a line of its own for any lines.
fn fits(pattern: &str, text: &str) -> bool {
    let ended = |text: &str| mask_times(text).trim_end().to_owned() + "\n";
    let (pattern, text) = (ended(pattern), ended(text));
    let pattern = pattern.replace("\n…\n", "\n…");
    let pattern = pattern
        .strip_prefix("…\n")
        .map_or(pattern.clone(), |rest| format!("…{rest}"));
    let mut pieces = pattern.split('…');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, middle)) = pieces.split_last() else {
        return rest.is_empty();
    };
    for piece in middle {
        match rest.split_once(piece) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn dots_stand_for_anything() {
    assert!(fits("a\n", "a\n") && !fits("a\n", "a\nb\n"));
    assert!(fits("a …\n", "a b c\n") && fits("a\n…\n", "a\nb\n") && fits("a\n…\n", "a\n"));
    assert!(
        fits("…\nb\n", "a\nb\n") && fits("a\n…\nc\n", "a\nc\n") && !fits("a\n…\nc\n", "a\nb\n")
    );
    assert!(fits(
        "at 2025-11-22T14:42:20+00:00\n",
        "at 2026-01-01T00:00:00+00:00\n"
    ));
}
