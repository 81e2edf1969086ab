//! Active policies: stored with the state, replaced only by `cascade policy reload`.

// A problem is made at most once per reload.
#![allow(clippy::result_large_err)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use cascade_api::common::{Confirm, Finding, Level as ApiLevel, Warning};
use cascade_api::policies::{ChangeKind, PolicyChange as ApiChange, PolicyReload, PolicyReloaded};
use cascade_api::{Problem, ProblemType};
use cascade_archive::{Change, Table};
use cascade_policy::{
    Content, Diagnostic, DirEntry, HsmFacts, LintContext, MAX_FILE, PolicyChange, PolicySet,
    parse_policy,
};

use crate::control::second::need_second;
use crate::control::{Plan, need_consent};
use crate::daemon::{ActivePolicy, Daemon, PolicyRow};

/// Policies as an earlier process left them.
///
/// # Errors
/// A stored text that this program does not accept: names the policy and all findings.
pub fn stored(state: &cascade_archive::State) -> Result<BTreeMap<String, ActivePolicy>, String> {
    let rows: Vec<(String, PolicyRow)> = state
        .list(Table::Policies, None, usize::MAX)
        .map_err(|e| e.to_string())?;
    let mut out = BTreeMap::new();
    for (name, row) in rows {
        let file = parse_policy(&name, &row.file, row.text.as_bytes()).map_err(|found| {
            let lines: Vec<String> = found.iter().map(Diagnostic::one_line).collect();
            format!(
                "the stored policy '{name}' is not accepted by this release:\n  {}",
                lines.join("\n  ")
            )
        })?;
        out.insert(
            name,
            ActivePolicy {
                file: Arc::new(file),
                revision: row.revision,
                gone: row.gone,
            },
        );
    }
    Ok(out)
}

/// Entries of the policy directory, as they are.
///
/// # Errors
/// The directory cannot be read: names it and the reason.
pub fn read_dir(dir: &Path) -> Result<Vec<DirEntry>, String> {
    let list = std::fs::read_dir(dir).map_err(|e| {
        format!(
            "policy directory {} cannot be read: {e}; it must be readable by the daemon's user",
            dir.display()
        )
    })?;
    let mut out = Vec::new();
    for entry in list {
        let entry = entry.map_err(|e| format!("policy directory {}: {e}", dir.display()))?;
        let path = entry.path();
        let content = if path.is_dir() {
            Content::Directory
        } else {
            match read_bounded(&path) {
                Ok(bytes) => Content::File(bytes),
                Err(e) => Content::Unreadable(e.to_string()),
            }
        };
        out.push(DirEntry {
            path: path.display().to_string(),
            content,
        });
    }
    Ok(out)
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    std::fs::File::open(path)?
        .take(MAX_FILE as u64 + 1)
        .read_to_end(&mut out)?;
    Ok(out)
}

/// What is known of the registered HSMs.
pub fn hsm_facts(d: &Daemon) -> Vec<HsmFacts> {
    let facts = |id: String| {
        let row = d.hsms.row(&id)?;
        let number = |a: &String| Some(a.parse::<cascade_crypto::Algorithm>().ok()?.number());
        let said = row.algorithms.as_ref();
        Some(HsmFacts {
            algorithms: said.map(|all| all.iter().filter_map(number).collect()),
            can_destroy: None,
            signatures_per_second: None,
            id,
        })
    };
    d.hsms.ids().into_iter().filter_map(facts).collect()
}

/// Rules that look at more than the file. `keys`: names of the TSIG keys that exist.
pub fn lint_context<'a>(
    d: &Daemon,
    keys: &'a BTreeSet<String>,
    hsms: &'a [HsmFacts],
    runs: &'a dyn Fn(&str) -> bool,
) -> LintContext<'a> {
    let conf = d.conf();
    let c = &conf.config;
    LintContext {
        tsig_keys: Some(keys),
        hsms: Some(hsms),
        published_beyond_loopback: c.server.servers.iter().any(|s| !s.addr.ip().is_loopback()),
        loader_review_server: Some(!c.loader.review.servers.is_empty()),
        signer_review_server: Some(!c.signer.review.servers.is_empty()),
        hooks_timeout: Some(c.hooks.timeout),
        runs: Some(runs),
        ..LintContext::default()
    }
}

/// True if the daemon's user may execute the program.
pub fn executable(program: &str) -> bool {
    use nix::unistd::{AccessFlags, access};
    let path = Path::new(program);
    if path.is_absolute() {
        return path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    }
    // A bare name is searched where the hook's PATH has it; only a missing one is reported there.
    true
}

pub fn finding(d: &Diagnostic) -> Finding {
    Finding {
        file: (!d.file.is_empty()).then(|| d.file.clone()),
        line: d.line.map(u64::from),
        column: d.column.map(u64::from),
        code: Some(d.code.to_string()),
        level: Some(match d.level {
            cascade_policy::Level::Error => ApiLevel::Error,
            cascade_policy::Level::Warning => ApiLevel::Warning,
            cascade_policy::Level::Note => ApiLevel::Info,
        }),
        detail: d.message(),
        suggestion: d.suggestion.clone(),
    }
}

fn warning(d: &Diagnostic) -> Warning {
    let place = match (d.line, d.column) {
        (Some(l), Some(c)) => format!("{}:{l}:{c}: ", d.file),
        _ => String::new(),
    };
    Warning {
        policy: d.policy.clone(),
        code: Some(d.code.to_string()),
        detail: format!("{place}{}", d.message()),
        action: d.suggestion.clone(),
    }
}

/// Reads the directory, checks everything, stores all or nothing, tells the zones.
pub async fn reload(
    d: &Arc<Daemon>,
    caller: &crate::http::Caller,
    request: &PolicyReload,
    dry_run: bool,
) -> Result<PolicyReloaded, Problem> {
    let _one = d.reloading.write().await;
    let dir = d.conf().config.policy_dir.clone();
    let found = tokio::task::spawn_blocking(move || read_dir(dir.as_std_path()))
        .await
        .map_err(|e| Problem::new(ProblemType::Bug, e.to_string()))?
        .map_err(|e| Problem::new(ProblemType::PolicyInvalid, e))?;
    let runs = |p: &str| executable(p);
    let keys = d.tsig.names();
    let hsms = hsm_facts(d);
    let loaded =
        PolicySet::load(&found, &lint_context(d, &keys, &hsms, &runs)).map_err(|found| {
            let errors: Vec<&Diagnostic> = found.iter().filter(|f| f.is_error()).collect();
            let n = errors.len();
            Problem::new(
                ProblemType::PolicyInvalid,
                format!(
                    "policies not reloaded: {n} error{}",
                    if n == 1 { "" } else { "s" }
                ),
            )
            .errors(errors.into_iter().map(finding).collect())
            .state("the active policies are unchanged")
            .action("correct the files, then: cascade policy reload")
        })?;
    let active = d.policies.load_full();
    let mut old = PolicySet::default();
    active.values().for_each(|p| old.insert(p.file.clone()));
    let mut new = loaded.set;
    let mut warnings: Vec<Warning> = loaded
        .findings
        .iter()
        .filter(|f| f.level == cascade_policy::Level::Warning)
        .map(warning)
        .collect();
    let used: BTreeSet<String> = d
        .zone_list()
        .iter()
        .map(|z| z.view().row.zone.settings.policy.clone())
        .collect();
    let mut gone = BTreeSet::new();
    for (name, policy) in active.iter() {
        if new.get(name).is_none() && used.contains(name) {
            new.insert(policy.file.clone());
            gone.insert(name.clone());
            warnings.push(Warning {
                policy: Some(name.clone()),
                code: None,
                detail: format!(
                    "the file of policy '{name}' is gone, but zones use it; it is kept"
                ),
                action: Some(format!("cascade zone list --policy {name}")),
            });
        }
    }
    let changes: Vec<(String, PolicyChange)> = old
        .diff(&new)
        .into_iter()
        .map(|(n, c)| (n.to_string(), c))
        .collect();
    let plan = Plan::of_policies(d, &new, |_| true);
    let answer = PolicyReloaded {
        changes: changes
            .iter()
            .map(|(policy, c)| ApiChange {
                policy: policy.clone(),
                change: change_kind(*c),
            })
            .collect(),
        warnings,
        plan: Some(plan.id()),
    };
    if dry_run {
        return Ok(answer);
    }
    let asks = plan.effects();
    let mut all = asks.clone();
    all.extend(
        changes
            .iter()
            .filter(|(_, c)| *c != PolicyChange::Unchanged)
            .map(|(name, c)| format!("policy '{name}' is {}", change_word(*c))),
    );
    if !asks.is_empty() || request.plan.is_some() {
        let consent = Confirm {
            confirm: request.plan.clone(),
            yes: request.yes,
            comment: None,
        };
        need_consent(&consent, &plan.id(), asks)?;
    }
    need_second(caller, &plan.id(), all)?;
    store(d, &active, &new, &gone, &changes).await?;
    Ok(answer)
}

fn change_word(c: PolicyChange) -> &'static str {
    match c {
        PolicyChange::Added => "added",
        PolicyChange::Removed => "removed",
        PolicyChange::Updated => "updated",
        PolicyChange::Unchanged => "unchanged",
    }
}

fn change_kind(c: PolicyChange) -> ChangeKind {
    match c {
        PolicyChange::Added => ChangeKind::Added,
        PolicyChange::Removed => ChangeKind::Removed,
        PolicyChange::Updated => ChangeKind::Updated,
        PolicyChange::Unchanged => ChangeKind::Unchanged,
    }
}

async fn store(
    d: &Arc<Daemon>,
    active: &BTreeMap<String, ActivePolicy>,
    new: &PolicySet,
    gone: &BTreeSet<String>,
    changes: &[(String, PolicyChange)],
) -> Result<(), Problem> {
    let mut next = BTreeMap::new();
    let mut writes = Vec::new();
    let bug = |e: String| Problem::new(ProblemType::Bug, e);
    for (name, file) in new.iter() {
        let before = active.get(name);
        let changed = changes
            .iter()
            .any(|(n, c)| n == name && *c != PolicyChange::Unchanged);
        let revision = before.map_or(1, |b| b.revision + u64::from(changed));
        let row = PolicyRow {
            text: file.text.clone(),
            file: file.file.clone(),
            revision,
            gone: gone.contains(name),
        };
        writes.push(Change::put(Table::Policies, name, &row).map_err(|e| bug(e.to_string()))?);
        next.insert(
            name.to_string(),
            ActivePolicy {
                file: file.clone(),
                revision,
                gone: gone.contains(name),
            },
        );
    }
    for (name, c) in changes {
        if *c == PolicyChange::Removed {
            writes.push(Change::Delete {
                table: Table::Policies,
                key: name.clone(),
            });
        }
    }
    let d2 = d.clone();
    tokio::task::spawn_blocking(move || d2.state.commit(writes))
        .await
        .map_err(|e| bug(e.to_string()))?
        .map_err(|e| {
            Problem::new(ProblemType::StorageFull, e.to_string())
                .state("the active policies are unchanged")
        })?;
    d.policies.store(Arc::new(next));
    let mut told = Vec::new();
    for z in d.zone_list() {
        let policy = z.view().row.zone.settings.policy.clone();
        let changed = changes
            .iter()
            .any(|(n, c)| *n == policy && *c != PolicyChange::Unchanged);
        if changed {
            if let Some(p) = d.policy(&policy)
                && let Some(entry) = d.directory.by_id(z.id)
            {
                let source = &z.view().row.source;
                entry.set_settings(crate::servers::zone_settings(&p.file.policy, source));
            }
            told.push(z);
        }
    }
    crate::reload::tell_zones(told);
    Ok(())
}
