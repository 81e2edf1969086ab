//! What neither the compiler nor clippy checks. Sizes are facts to weigh, the rest are errors.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file above this is printed, so that somebody asks whether it is two.
const LONG_FILE: usize = 700;

/// Crates that may read clock and environment and sleep: the programs, the clock's own crate, and
/// what developers run.
const MAY_READ_CLOCK: &[&str] = &[
    "crates/cascaded/",
    "crates/cascade/",
    "crates/kmip2pkcs11/",
    "crates/time/",
    "crates/program/src/clock.rs",
    "crates/sim/",
    // A socket's own idle and retry timers; what is answered and when to give up is decided elsewhere.
    "crates/publisher/src/server/",
    "crates/publisher/src/notify/sender.rs",
    "crates/publisher/src/watch/task.rs",
    "crates/kmip/src/link/",
    "crates/kmip/src/serve/",
    "xtask/",
    "integration/",
];

const CLOCK: &[&str] = &[
    "SystemTime::now",
    "Instant::now",
    "Zoned::now",
    "jiff::Timestamp::now",
    "thread::sleep",
    "time::sleep",
];

/// Runs the check and prints what it found.
pub fn run() -> Result<bool, String> {
    let root = crate::root();
    let mut files = Vec::new();
    for folder in ["crates", "xtask", "integration"] {
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut findings = Vec::new();
    let mut lengths = Vec::new();
    for path in &files {
        let name = path
            .strip_prefix(&root)
            .unwrap_or(path)
            .display()
            .to_string();
        let text = fs::read_to_string(path).map_err(|e| format!("cannot read {name}: {e}"))?;
        if name.ends_with("Cargo.toml") {
            findings.extend(check_manifest(&name, &text));
        } else {
            lengths.push((text.lines().count(), name.clone()));
            findings.extend(check_source(&name, &text));
        }
    }
    findings.extend(stale_lock(&root)?);
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    for (lines, name) in lengths.iter().take_while(|(lines, _)| *lines > LONG_FILE) {
        println!("tidy: note: {name} has {lines} lines");
    }
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    let median = lengths
        .get(lengths.len() / 2)
        .map_or(0, |(lines, _)| *lines);
    println!(
        "tidy: {} source files, median {median} lines, {} findings",
        lengths.len(),
        findings.len()
    );
    Ok(findings.is_empty())
}

/// The fuzzers are a workspace of their own, whose lock file nothing else reads.
fn stale_lock(root: &Path) -> Result<Option<String>, String> {
    let out = Command::new("cargo")
        .args(["metadata", "--locked", "--format-version", "1"])
        .arg("--manifest-path")
        .arg(root.join("integration/fuzz/Cargo.toml"))
        .output()
        .map_err(|e| format!("cannot start cargo: {e}"))?;
    Ok((!out.status.success()).then(|| {
        format!(
            "integration/fuzz/Cargo.lock (cargo metadata in that folder renews it): {}",
            String::from_utf8_lossy(&out.stderr).trim()
        )
    }))
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("cannot list {folder:?}: {e}"))?;
    for entry in entries {
        let entry = entry.map_err(|e| format!("cannot list {folder:?}: {e}"))?;
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            // Build output and corpora are not ours to tidy.
            if name != "target" && name != "tmp" && name != "zones" && name != "corpus" {
                collect(&path, into)?;
            }
        } else if name == "Cargo.toml" || path.extension().is_some_and(|ext| ext == "rs") {
            into.push(path);
        }
    }
    Ok(())
}

fn check_manifest(name: &str, text: &str) -> Option<String> {
    let inherits = text.contains("[lints]\nworkspace = true") || text.contains("[workspace]");
    (!inherits).then(|| format!("{name}: no `[lints] workspace = true`"))
}

/// Findings as `file:line: what`.
fn check_source(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let may_read_clock = MAY_READ_CLOCK.iter().any(|prefix| name.starts_with(prefix));
    let own_rules = name == "xtask/src/tidy.rs";
    let mut in_tests = name.contains("/tests/") || name.contains("/benches/");
    let mut previous = "";
    for (index, line) in text.lines().enumerate() {
        let mut tell = |what: String| findings.push(format!("{name}:{}: {what}", index + 1));
        let code = line.trim_start();
        in_tests |= code.starts_with("#[cfg(test)]");
        let is_comment = code.starts_with("//");
        if !own_rules {
            for word in ["TODO", "FIXME", "XXX"] {
                if let Some(at) = line.find(word)
                    && is_comment
                    && !line[at + word.len()..].starts_with("(#")
                {
                    tell(format!(
                        "{word} without the number of its issue: {word}(#123)"
                    ));
                }
            }
            if ["<<<<<<< ", ">>>>>>> "]
                .iter()
                .any(|mark| line.starts_with(mark))
            {
                tell("mark of an unresolved merge".into());
            }
            if !may_read_clock && !in_tests && !is_comment {
                for call in CLOCK.iter().filter(|call| line.contains(**call)) {
                    tell(format!("{call}: time is an argument outside the programs"));
                }
            }
        }
        let allows = code.starts_with("#[allow(") || code.starts_with("#![allow(");
        let rest: String = text.lines().skip(index).take(5).collect();
        let told = rest
            .split(']')
            .next()
            .is_some_and(|attr| attr.contains("reason"))
            || previous.trim_start().starts_with("//")
            || line.contains("] //");
        if allows && !told && !in_tests {
            tell("an `allow` without its reason".into());
        }
        previous = line;
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str) -> Vec<String> {
        check_source(name, text)
    }

    #[test]
    fn finds_what_it_should() {
        let clock = "fn f() { Instant::now(); }\n";
        assert_eq!(check("crates/zone/src/a.rs", clock).len(), 1);
        assert_eq!(check("crates/cascaded/src/a.rs", clock).len(), 0);
        assert_eq!(
            check("crates/zone/src/a.rs", "#[cfg(test)]\nInstant::now();\n").len(),
            0
        );
        let todo = "// TODO: later\n// TODO(#3): later\n";
        assert_eq!(
            check("crates/zone/src/a.rs", todo),
            ["crates/zone/src/a.rs:1: TODO without the number of its issue: TODO(#123)"]
        );
        assert_eq!(check("a.rs", "#[allow(dead_code)]\nfn f() {}\n").len(), 1);
        assert_eq!(
            check("a.rs", "// Kept for x.\n#[allow(dead_code)]\nfn f() {}\n").len(),
            0
        );
        assert_eq!(
            check("a.rs", "#[allow(\n  dead_code,\n  reason = \"x\"\n)]\n").len(),
            0
        );
        assert!(check_manifest("Cargo.toml", "[package]\n").is_some());
    }
}
