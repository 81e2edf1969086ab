//! The older form of the bridge's configuration, in tables, rewritten into today's flat keys.

use crate::diag::{Diagnostic, Level};
use crate::tree::{Entry, Table, Val};

/// Older dotted key, today's key.
const KEYS: &[(&str, &str)] = &[
    ("pkcs11.lib-path", "lib_path"),
    ("server.addr", "addr"),
    ("server.port", "port"),
    ("server.identity.cert-path", "cert_path"),
    ("server.identity.key-path", "key_path"),
    ("daemon.log-level", "log_level"),
    ("daemon.log-target", "log_target"),
    ("daemon.log-facility", "log_facility"),
    ("daemon.log-file", "log_file"),
    ("daemon.daemonize", "daemonize"),
    ("daemon.pid-file", "pid_file"),
    ("daemon.identity", "identity"),
];

const TABLES: [&str; 3] = ["pkcs11", "server", "daemon"];

/// Rewrites in place; mixing both forms is an error.
pub(crate) fn modernise(root: &mut Table, found: &mut Vec<Diagnostic>) {
    let is_old = |e: &Entry| TABLES.contains(&e.name.as_str()) || e.name == "version";
    if !root.entries.iter().any(is_old) {
        return;
    }
    if let Some(flat) = root.entries.iter().find(|e| !is_old(e)) {
        found.push(
            Diagnostic::new("C01", Level::Error, "flat keys and tables are mixed")
                .key(flat.name.clone())
                .suggest("write all keys in one form; today's is the flat one")
                .at(Some(flat.name_span.clone())),
        );
        return;
    }
    if let Some(version) = root.take("version")
        && !matches!(&version.node.value, Val::Str(v) if v == "v1")
    {
        found.push(
            Diagnostic::new("C01", Level::Error, "an unknown version of the file's form")
                .key("version")
                .suggest("write \"v1\"")
                .at(Some(version.node.span.clone())),
        );
    }
    for (old, new) in KEYS {
        let Some(mut entry) = take(root, old) else {
            continue;
        };
        entry.name = (*new).to_string();
        if *new == "log_target" {
            split_target(&mut entry, root);
        }
        root.entries.push(entry);
    }
    // What is left of the tables is unknown in both forms.
    let mut left = Vec::new();
    root.entries.retain(|e| match &e.node.value {
        Val::Table(t) if TABLES.contains(&e.name.as_str()) => {
            leaves(t, &e.name, &mut left);
            false
        }
        _ => true,
    });
    for (key, span) in left {
        let d = Diagnostic::new("C01", Level::Error, "unknown key").key(key);
        found.push(d.at(Some(span)));
    }
}

fn take(root: &mut Table, dotted: &str) -> Option<Entry> {
    let mut path: Vec<&str> = dotted.split('.').collect();
    let name = path.pop()?;
    root.at_mut(&path)?.take(name)
}

/// `{ type = "file", path = "…" }` is two keys today.
fn split_target(entry: &mut Entry, root: &mut Table) {
    let Val::Table(table) = &mut entry.node.value else {
        return;
    };
    if let Some(mut path) = table.take("path") {
        path.name = "log_file".into();
        root.entries.push(path);
    }
    if let Some(kind) = table.take("type") {
        entry.node = kind.node;
    }
}

fn leaves(table: &Table, path: &str, out: &mut Vec<(String, std::ops::Range<usize>)>) {
    for e in &table.entries {
        let key = format!("{path}.{}", e.name);
        match &e.node.value {
            Val::Table(t) => leaves(t, &key, out),
            _ => out.push((key, e.name_span.clone())),
        }
    }
}
