//! Policies as the API shows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cascade_api::common::{List, PageQuery, SubjectKind};
use cascade_api::policies::{
    Policy, PolicyCheck, PolicyCheckRequest, PolicyItem, PolicyPlan, PolicyPlanRequest, PolicyState,
};
use cascade_api::zones::{Origin, Setting};
use cascade_api::{Problem, ProblemType};
use cascade_policy::{Content, DirEntry, PolicyFile, PolicySet, print_effective};

use super::plan::Plan;
use super::{Answer, bug};
use crate::daemon::{ActivePolicy, Daemon};
use crate::policies::{executable, finding, lint_context, read_dir};
use crate::zone::ZoneHandle;

/// Texts in the policy directory by policy name.
pub(super) async fn on_disk(d: &Daemon) -> BTreeMap<String, String> {
    let dir = d.conf().config.policy_dir.clone();
    let found = tokio::task::spawn_blocking(move || read_dir(dir.as_std_path())).await;
    let Ok(Ok(entries)) = found else {
        return BTreeMap::new();
    };
    entries
        .into_iter()
        .filter_map(|e| {
            let file = std::path::Path::new(&e.path)
                .file_name()?
                .to_str()?
                .to_string();
            let name = file.strip_suffix(".toml")?.to_string();
            match e.content {
                Content::File(bytes) => Some((name, String::from_utf8_lossy(&bytes).into_owned())),
                _ => None,
            }
        })
        .filter(|(name, _)| cascade_policy::is_name(name))
        .collect()
}

fn state(active: Option<&ActivePolicy>, disk: Option<&String>) -> PolicyState {
    match (active, disk) {
        (Some(a), Some(d)) if a.file.text == *d => PolicyState::Active,
        (Some(_), Some(_)) => PolicyState::ChangedOnDisk,
        (Some(_), None) => PolicyState::RemovedOnDisk,
        (None, _) => PolicyState::NewOnDisk,
    }
}

fn zones(d: &Daemon, name: &str) -> u64 {
    d.zone_list()
        .iter()
        .filter(|z| z.view().row.zone.settings.policy == name)
        .count() as u64
}

fn algorithms(p: &PolicyFile) -> Vec<String> {
    vec![p.policy.key_manager.generation.algorithm.name().to_string()]
}

fn hsm(p: &PolicyFile) -> Option<String> {
    p.policy
        .key_manager
        .generation
        .ksk_home()
        .map(str::to_string)
}

pub async fn list(d: &Daemon, page: &PageQuery) -> Answer<List<PolicyItem>> {
    let disk = on_disk(d).await;
    let active = d.policies.load_full();
    let mut names: Vec<&String> = active.keys().chain(disk.keys()).collect();
    names.sort();
    names.dedup();
    let items = names
        .into_iter()
        .map(|n| {
            let a = active.get(n);
            PolicyItem {
                policy: n.clone(),
                zones: zones(d, n),
                hsm: a.and_then(|a| hsm(&a.file)),
                algorithms: a.map(|a| algorithms(&a.file)).unwrap_or_default(),
                state: state(a, disk.get(n)),
            }
        })
        .collect();
    Ok(List::page(items, page, |i| i.policy.clone()))
}

pub async fn show(d: &Daemon, name: &str) -> Answer<Policy> {
    let disk = on_disk(d).await;
    let active = d.policies.load_full();
    let Some(a) = active.get(name) else {
        return Err(Problem::policy_not_found(
            name,
            active.keys().map(String::as_str),
        ));
    };
    Ok(Policy {
        policy: name.to_string(),
        state: state(Some(a), disk.get(name)),
        zones: zones(d, name),
        hsm: hsm(&a.file),
        algorithms: algorithms(&a.file),
        file: a.file.file.clone(),
        effective: print_effective(&a.file.effective(), true),
        active_text: Some(a.file.text.clone()),
        disk_text: disk.get(name).cloned(),
    })
}

/// Effective settings of a policy for `zone show`.
pub fn settings(p: &Arc<PolicyFile>) -> Vec<Setting> {
    p.effective()
        .into_iter()
        .map(|s| Setting {
            key: s.key().to_string(),
            value: s.value.clone(),
            origin: if s.is_default {
                Origin::Default
            } else {
                Origin::Policy
            },
        })
        .collect()
}

/// Reads and lints without activating: a text, or files by policy name, or all.
pub async fn check(d: &Arc<Daemon>, request: PolicyCheckRequest) -> Answer<PolicyCheck> {
    let entries = match (request.text, request.names) {
        (Some(text), _) => {
            let name = request.name.unwrap_or_else(|| "policy".into());
            vec![DirEntry {
                path: format!("{name}.toml"),
                content: Content::File(text.into_bytes()),
            }]
        }
        (None, names) => {
            let dir = d.conf().config.policy_dir.clone();
            let all = tokio::task::spawn_blocking(move || read_dir(dir.as_std_path()))
                .await
                .map_err(bug)?
                .map_err(|e| Problem::new(ProblemType::PolicyInvalid, e))?;
            match names {
                None => all,
                Some(names) => pick(all, &names)?,
            }
        }
    };
    let runs = |p: &str| executable(p);
    let keys = d.tsig.names();
    let found = match PolicySet::load(
        &entries,
        &lint_context(d, &keys, &crate::policies::hsm_facts(d), &runs),
    ) {
        Ok(loaded) => loaded.findings,
        Err(found) => found,
    };
    Ok(PolicyCheck {
        findings: found.iter().map(finding).collect(),
    })
}

fn pick(all: Vec<DirEntry>, names: &[String]) -> Answer<Vec<DirEntry>> {
    let of = |name: &str| {
        let file = format!("{name}.toml");
        all.iter()
            .find(|e| {
                std::path::Path::new(&e.path)
                    .file_name()
                    .is_some_and(|f| *f == *file)
            })
            .cloned()
    };
    names
        .iter()
        .map(|n| {
            of(n).ok_or_else(|| {
                Problem::new(
                    ProblemType::PolicyNotFound,
                    format!("there is no file of policy '{n}'"),
                )
                .subject(SubjectKind::Policy, n)
            })
        })
        .collect()
}

/// Which rolls the files on disk would begin that would not begin without them.
pub async fn plan(d: &Arc<Daemon>, request: &PolicyPlanRequest) -> Answer<PolicyPlan> {
    let dir = d.conf().config.policy_dir.clone();
    let entries = tokio::task::spawn_blocking(move || read_dir(dir.as_std_path()))
        .await
        .map_err(bug)?
        .map_err(|e| Problem::new(ProblemType::PolicyInvalid, e))?;
    if !request.policies.is_empty() {
        pick(entries.clone(), &request.policies)?;
    }
    let runs = |p: &str| executable(p);
    let names = d.tsig.names();
    let hsms = crate::policies::hsm_facts(d);
    let context = lint_context(d, &names, &hsms, &runs);
    let loaded = PolicySet::load(&entries, &context).map_err(|found| {
        let first = found.first().map_or(String::new(), |f| f.one_line());
        Problem::new(
            ProblemType::PolicyInvalid,
            format!("the policy files have errors: {first}"),
        )
        .action("cascade policy check")
    })?;
    let wanted = |z: &ZoneHandle| {
        let name = z.view().row.zone.settings.policy.clone();
        (request.policies.is_empty() || request.policies.contains(&name))
            && request.zone.as_ref().is_none_or(|w| *w == z.name)
    };
    let plan = Plan::of_policies(d, &loaded.set, wanted);
    Ok(PolicyPlan {
        plan: Some(plan.id()),
        effects: plan.effects(),
        items: plan.rolls,
    })
}
