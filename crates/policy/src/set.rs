//! Policies by name: reading a directory's files as one set, and comparing sets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::diag::{Diagnostic, Level};
use crate::file::{PolicyFile, parse_policy};
use crate::lint::LintContext;

/// At most this many policies are taken from a directory.
pub const MAX_POLICIES: usize = 10_000;

/// One entry of the policy directory, as the caller found it.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// Path as findings show it.
    pub path: String,
    pub content: Content,
}

#[derive(Clone, Debug)]
pub enum Content {
    /// At most [`MAX_FILE`](crate::MAX_FILE) + 1 octets need be read.
    File(Vec<u8>),
    Directory,
    /// With the system's reason.
    Unreadable(String),
}

/// Valid policies by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PolicySet {
    policies: BTreeMap<String, Arc<PolicyFile>>,
}

/// A set, and what was said about it besides errors.
#[derive(Clone, Debug)]
pub struct LoadedSet {
    pub set: PolicySet,
    pub findings: Vec<Diagnostic>,
}

/// What became of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyChange {
    Added,
    Removed,
    Updated,
    Unchanged,
}

impl fmt::Display for PolicyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PolicyChange::Added => "added",
            PolicyChange::Removed => "removed",
            PolicyChange::Updated => "updated",
            PolicyChange::Unchanged => "unchanged",
        })
    }
}

impl PolicySet {
    pub fn get(&self, name: &str) -> Option<&Arc<PolicyFile>> {
        self.policies.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<PolicyFile>)> {
        self.policies
            .iter()
            .map(|(name, file)| (name.as_str(), file))
    }

    pub fn len(&self) -> usize {
        self.policies.len()
    }

    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Replaces the policy of the same name. A policy whose file is gone is put back this way
    /// while zones use it.
    pub fn insert(&mut self, file: Arc<PolicyFile>) {
        self.policies.insert(file.name.clone(), file);
    }

    /// Reads all entries of a directory, in any order.
    ///
    /// # Errors
    /// Every finding of every file as soon as one of them is an error: a reload takes all or
    /// nothing.
    pub fn load(
        entries: &[DirEntry],
        context: &LintContext<'_>,
    ) -> Result<LoadedSet, Vec<Diagnostic>> {
        let mut order: Vec<&DirEntry> = entries.iter().collect();
        order.sort_by(|a, b| a.path.cmp(&b.path));
        let mut findings = Vec::new();
        let mut set = PolicySet::default();
        for entry in order {
            let Some(name) = policy_name(entry, &mut findings) else {
                continue;
            };
            if set.len() == MAX_POLICIES {
                let detail = format!("more than {MAX_POLICIES} policies");
                findings.push(about(
                    entry,
                    Level::Error,
                    detail,
                    "use fewer policies for more zones",
                ));
                break;
            }
            if let Some(file) = read(entry, name, context, &mut findings) {
                set.insert(Arc::new(file));
            }
        }
        if findings.iter().any(Diagnostic::is_error) {
            return Err(findings);
        }
        Ok(LoadedSet { set, findings })
    }

    /// What becomes of each policy when `self` is replaced by `new`, by name.
    ///
    /// Values are compared, not texts: a policy in which only comments changed is unchanged.
    pub fn diff<'s>(&'s self, new: &'s PolicySet) -> Vec<(&'s str, PolicyChange)> {
        let names: BTreeSet<&str> = self
            .policies
            .keys()
            .chain(new.policies.keys())
            .map(String::as_str)
            .collect();
        let change = |name: &str| match (self.get(name), new.get(name)) {
            (None, _) => PolicyChange::Added,
            (Some(_), None) => PolicyChange::Removed,
            (Some(a), Some(b)) if a.policy == b.policy => PolicyChange::Unchanged,
            (Some(_), Some(_)) => PolicyChange::Updated,
        };
        names.into_iter().map(|name| (name, change(name))).collect()
    }
}

/// Names of policies and HSMs: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.len() <= 63
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The policy a file is for. Hidden files and those of another suffix are not policies.
fn policy_name<'e>(entry: &'e DirEntry, findings: &mut Vec<Diagnostic>) -> Option<&'e str> {
    let file = entry.path.rsplit('/').next().unwrap_or_default();
    match file.strip_suffix(".toml") {
        Some(name) if !file.starts_with('.') => Some(name),
        _ if matches!(entry.content, Content::Directory) => None,
        _ => {
            let detail = "not a policy: hidden, or the suffix is not .toml; ignored";
            findings.push(about(entry, Level::Warning, detail, ""));
            None
        }
    }
}

fn read(
    entry: &DirEntry,
    name: &str,
    context: &LintContext<'_>,
    findings: &mut Vec<Diagnostic>,
) -> Option<PolicyFile> {
    let octets = match &entry.content {
        Content::File(octets) => octets,
        Content::Directory => {
            let fix = "move it elsewhere";
            findings.push(about(entry, Level::Error, "a directory, not a file", fix));
            return None;
        }
        Content::Unreadable(reason) => {
            let detail = format!("cannot be read: {reason}");
            findings.push(about(
                entry,
                Level::Error,
                detail,
                "let the daemon's user read it",
            ));
            return None;
        }
    };
    match parse_policy(name, &entry.path, octets) {
        Ok(mut file) => {
            findings.extend(std::mem::take(&mut file.warnings));
            findings.extend(file.lint(context));
            Some(file)
        }
        Err(found) => {
            findings.extend(found);
            None
        }
    }
}

fn about(entry: &DirEntry, level: Level, detail: impl Into<String>, fix: &str) -> Diagnostic {
    let mut d = Diagnostic::new("P02", level, detail);
    d.file = entry.path.clone();
    if !fix.is_empty() {
        d.suggestion = Some(fix.to_string());
    }
    d
}
