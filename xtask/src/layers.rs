//! The arrows between the crates, checked against `cargo metadata`.
//!
//! The table of rows is the one of ARCHITECTURE.md. An arrow may only point to a lower row; within
//! the words, only to a crate further to the right. Everything else is an exception with a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::process;

/// From top to bottom. `ordered`: members may use those that stand after them in the same row.
const ROWS: &[Row] = &[
    Row {
        name: "dev",
        ordered: true,
        members: &[
            "xtask",
            "cascade-bench",
            "cascade-conformance",
            "cascade-e2e",
            "cascade-netlike",
            "cascade-sim",
        ],
    },
    Row {
        name: "programs",
        ordered: false,
        members: &["cascaded", "cascade", "kmip2pkcs11"],
    },
    Row {
        name: "decide",
        ordered: false,
        members: &["cascade-pipeline", "cascade-keys"],
    },
    Row {
        name: "stage",
        ordered: false,
        members: &[
            "cascade-loader",
            "cascade-signer",
            "cascade-verifier",
            "cascade-publisher",
            "cascade-archive",
            "cascade-hsm",
            "cascade-kmip",
            "cascade-program",
        ],
    },
    Row {
        name: "words",
        ordered: true,
        members: &[
            "cascade-api",
            "cascade-policy",
            "cascade-wire",
            "cascade-crypto",
            "cascade-zone",
            "cascade-time",
        ],
    },
];

struct Row {
    name: &'static str,
    ordered: bool,
    members: &'static [&'static str],
}

/// Arrows that the rows forbid and that are right all the same.
const ALLOWED: &[(&str, &str, &str)] = &[(
    "cascade-publisher",
    "cascade-verifier",
    "the publisher takes only Approved<Verified<SignedVersion>>, and the verifier alone makes it \
     (docs/adr/0001-approved-verified-types.md)",
)];

/// Arrows that the rows allow and that are wrong all the same.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    (
        "cascade-verifier",
        "cascade-crypto",
        "the verifier must not use the library that made the signatures",
    ),
    (
        "cascade",
        "cascade-zone",
        "the CLI decides nothing about zones; it prints the API's answers",
    ),
    ("cascade", "cascade-crypto", "the CLI holds no keys"),
    (
        "cascade",
        "cascade-wire",
        "the CLI speaks to the control API only",
    ),
];

/// Packages from outside that must not be reachable, directly or not, over normal dependencies.
const ABSENT: &[(&str, &str, &str)] = &[
    (
        "cascade-verifier",
        "aws-lc-rs",
        "a fault in one cryptographic library must not hide itself",
    ),
    (
        "cascade-signer",
        "ring",
        "a fault in one cryptographic library must not hide itself",
    ),
    ("cascade-pipeline", "tokio", "deciding code does no I/O"),
    ("cascade-keys", "tokio", "deciding code does no I/O"),
    ("cascade-zone", "tokio", "the vocabulary has no tasks"),
    ("cascade", "redb", "the CLI holds no state"),
];

/// Packages from outside that only the named crates (and those of the row `dev`) may name.
const OWNED: &[(&str, &[&str], &str)] = &[
    ("redb", &["cascade-archive"], "durable state has one owner"),
    (
        "cryptoki",
        &["cascade-hsm"],
        "vendor code stays behind one crate and one process",
    ),
    (
        "cryptoki-sys",
        &["cascade-hsm"],
        "vendor code stays behind one crate and one process",
    ),
    (
        "aws-lc-rs",
        &["cascade-crypto"],
        "signing goes through KeyStore",
    ),
    ("axum", &["cascaded"], "the control API has one server"),
];

/// Runs the check and prints what it found.
pub fn run() -> Result<bool, String> {
    let graph = read_graph()?;
    let findings = check(&graph);
    for finding in &findings {
        eprintln!("layers: {finding}");
    }
    let arrows: usize = graph.normal.values().map(BTreeSet::len).sum();
    println!(
        "layers: {} crates, {arrows} arrows between them, {} wrong",
        graph.members.len(),
        findings.len()
    );
    Ok(findings.is_empty())
}

/// Who depends on whom, by package name.
#[derive(Default)]
struct Graph {
    members: BTreeSet<String>,
    /// Members to members, normal and build dependencies.
    normal: BTreeMap<String, BTreeSet<String>>,
    /// Every package to the packages that its normal and build dependencies resolve to.
    resolved: BTreeMap<String, BTreeSet<String>>,
}

fn check(graph: &Graph) -> Vec<String> {
    let mut findings = Vec::new();
    for member in &graph.members {
        if place(member).is_none() {
            findings.push(format!(
                "{member} stands in no row; add it to xtask/src/layers.rs"
            ));
        }
    }
    for (from, targets) in &graph.normal {
        for to in targets {
            if let Some(wrong) = judge(from, to) {
                findings.push(wrong);
            }
        }
    }
    for (from, to, why) in ABSENT {
        if let Some(path) = path_between(graph, from, to) {
            findings.push(format!("{from} reaches {to} ({path}): {why}"));
        }
    }
    for (package, owners, why) in OWNED {
        for member in &graph.members {
            let names = graph
                .resolved
                .get(member)
                .is_some_and(|deps| deps.contains(*package));
            let dev = place(member).is_some_and(|(row, _)| row == 0);
            if names && !dev && !owners.contains(&member.as_str()) {
                let owners = owners.join(", ");
                findings.push(format!(
                    "{member} names {package}, only {owners} may: {why}"
                ));
            }
        }
    }
    findings
}

/// What is wrong with the arrow, if anything.
fn judge(from: &str, to: &str) -> Option<String> {
    if let Some((_, _, why)) = FORBIDDEN.iter().find(|(f, t, _)| (*f, *t) == (from, to)) {
        return Some(format!("{from} -> {to} is not allowed: {why}"));
    }
    if ALLOWED.iter().any(|(f, t, _)| (*f, *t) == (from, to)) {
        return None;
    }
    let ((from_row, from_at), (to_row, to_at)) = (place(from)?, place(to)?);
    let (above, below) = (ROWS[from_row].name, ROWS[to_row].name);
    if to_row > from_row || (to_row == from_row && ROWS[from_row].ordered && to_at > from_at) {
        return None;
    }
    let direction = if to_row < from_row { "up" } else { "sideways" };
    Some(format!(
        "{from} ({above}) -> {to} ({below}) points {direction}"
    ))
}

fn place(package: &str) -> Option<(usize, usize)> {
    ROWS.iter().enumerate().find_map(|(row, r)| {
        r.members
            .iter()
            .position(|member| *member == package)
            .map(|at| (row, at))
    })
}

/// A shortest chain of packages from one to the other.
fn path_between(graph: &Graph, from: &str, to: &str) -> Option<String> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        if at == to {
            let mut path = vec![at];
            while let Some(previous) = path.last().and_then(|last| came_from.get(last)) {
                path.push(previous);
                if *previous == from {
                    break;
                }
            }
            path.reverse();
            return Some(path.join(" -> "));
        }
        for next in graph.resolved.get(at).into_iter().flatten() {
            if next != from && !came_from.contains_key(next.as_str()) {
                came_from.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    None
}

fn read_graph() -> Result<Graph, String> {
    let text = process::output(
        Command::new("cargo")
            .args(["metadata", "--format-version", "1", "--locked"])
            .current_dir(crate::root()),
    )?;
    let json: Value = serde_json::from_slice(&text)
        .map_err(|e| format!("cargo metadata is not JSON that can be read: {e}"))?;
    let mut names = BTreeMap::new();
    for package in array(&json["packages"]) {
        names.insert(text_of(&package["id"]), text_of(&package["name"]));
    }
    let name_of = |id: &Value| names.get(&text_of(id)).cloned().unwrap_or_default();
    let mut graph = Graph {
        members: array(&json["workspace_members"])
            .iter()
            .map(name_of)
            .collect(),
        ..Graph::default()
    };
    for node in array(&json["resolve"]["nodes"]) {
        let from = name_of(&node["id"]);
        let mut targets = BTreeSet::new();
        for dep in array(&node["deps"]) {
            // A dependency's `kind` is null when normal, else "build" or "dev".
            if array(&dep["dep_kinds"])
                .iter()
                .any(|kind| kind["kind"] != "dev")
            {
                targets.insert(name_of(&dep["pkg"]));
            }
        }
        if graph.members.contains(&from) {
            let inside = targets.intersection(&graph.members).cloned().collect();
            graph.normal.insert(from.clone(), inside);
        }
        graph.resolved.entry(from).or_default().extend(targets);
    }
    Ok(graph)
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(arrows: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::default();
        for (from, to) in arrows {
            for name in [from, to] {
                if place(name).is_some() {
                    graph.members.insert((*name).to_owned());
                }
            }
            graph
                .resolved
                .entry((*from).into())
                .or_default()
                .insert((*to).into());
            if place(from).is_some() && place(to).is_some() {
                graph
                    .normal
                    .entry((*from).into())
                    .or_default()
                    .insert((*to).into());
            }
        }
        graph
    }

    #[test]
    fn arrows_point_down() {
        let good = graph(&[
            ("cascaded", "cascade-signer"),
            ("cascade-signer", "cascade-crypto"),
            ("cascade-crypto", "cascade-zone"),
            ("cascade-publisher", "cascade-verifier"),
            ("xtask", "cascade-e2e"),
        ]);
        assert_eq!(check(&good), Vec::<String>::new());
    }

    #[test]
    fn up_and_sideways_are_told() {
        for (from, to, word) in [
            ("cascade-zone", "cascade-crypto", "sideways"),
            ("cascade-zone", "cascade-signer", "up"),
            ("cascade-signer", "cascade-loader", "sideways"),
            ("cascade-verifier", "cascade-signer", "sideways"),
            ("cascade-pipeline", "cascade-keys", "sideways"),
            ("cascade-signer", "cascade-pipeline", "up"),
            ("cascade-e2e", "xtask", "sideways"),
        ] {
            let findings = check(&graph(&[(from, to)]));
            assert_eq!(findings.len(), 1, "{from} -> {to}: {findings:?}");
            assert!(findings[0].contains(word), "{findings:?}");
        }
    }

    #[test]
    fn what_must_be_absent_is_found_behind_others() {
        let findings = check(&graph(&[("cascade-verifier", "x"), ("x", "aws-lc-rs")]));
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].contains("cascade-verifier -> x -> aws-lc-rs"),
            "{findings:?}"
        );
    }

    #[test]
    fn owners_of_outside_packages() {
        assert!(check(&graph(&[("cascade-archive", "redb")])).is_empty());
        assert_eq!(check(&graph(&[("cascaded", "redb")])).len(), 1);
    }
}
