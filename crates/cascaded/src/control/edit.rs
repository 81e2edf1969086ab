//! `PATCH /v1/zones/{z}`: another policy, another source, with the plan first.

use std::sync::Arc;

use cascade_api::common::{Confirm, SubjectKind, Warning};
use cascade_api::zones::{Zone, ZoneEdit};
use cascade_api::{Problem, ProblemType, Role};
use cascade_pipeline::Command;
use cascade_policy::{Effect, KeyChange, effects};
use sha2::{Digest, Sha256};

use super::operations::Goal;
use super::plan::sentence;
use super::zones::{
    ask, ask_with, check_source, policy_for_new_zones, show, source_text, warnings,
};
use super::{Answer, need_consent};
use crate::daemon::{ActivePolicy, Daemon};
use crate::http::{Caller, Done};
use crate::zone::ZoneHandle;

/// What an edit would do.
struct Plan {
    /// Old and new policy, where it changes.
    policy: Option<(String, ActivePolicy)>,
    changes: Vec<KeyChange>,
    /// Rolls that begin.
    rolls: Vec<String>,
    source: bool,
}

pub async fn edit(
    d: &Arc<Daemon>,
    z: &ZoneHandle,
    caller: &Caller,
    edit: &ZoneEdit,
    dry_run: bool,
) -> Answer<Done<Zone>> {
    if edit.policy.is_none() && edit.source.is_none() {
        return Err(Problem::new(
            ProblemType::InvalidValue,
            "there is nothing to change: neither policy nor source is given",
        )
        .subject(SubjectKind::Zone, &z.name)
        .action(format!("cascade zone edit {} --policy <policy>", z.name)));
    }
    if let Some(source) = &edit.source {
        check_source(d, &z.apex, source, false).await?;
    }
    // Policies stay as they are from the plan to the deed.
    let _one = d.reloading.write().await;
    let plan = plan(d, z, edit)?;
    may(caller, &plan)?;
    let mut shown = show(d, z);
    shown.settings = Vec::new();
    shown.previous_policy = edit.policy.is_some().then(|| shown.policy.clone());
    if let Some((_, new)) = &plan.policy {
        shown.warnings = warnings(d, &new.file.policy);
    }
    if dry_run {
        let texts = plan.changes.iter().map(sentence);
        let would = texts
            .chain(plan.rolls.iter().cloned())
            .map(|detail| Warning {
                policy: edit.policy.clone(),
                code: None,
                detail,
                action: None,
            });
        shown.warnings.extend(would);
        if let Some(name) = &edit.policy {
            shown.policy = name.clone();
        }
        if let Some(source) = &edit.source {
            shown.source = source.clone();
        }
        return Ok(Done::Now(shown));
    }
    if plan.changes.iter().any(|c| c.confirm) || !plan.rolls.is_empty() {
        let consent = Confirm {
            confirm: edit.confirm.clone(),
            yes: edit.yes,
            comment: None,
        };
        let texts = plan.changes.iter().map(sentence);
        let texts = texts.chain(plan.rolls.iter().cloned()).collect();
        need_consent(&consent, &plan.id(z), texts)?;
    }
    let operation = carry_out(d, z, caller, edit, &plan).await?;
    let after = show(d, z);
    shown.policy = after.policy;
    shown.source = after.source;
    shown.state = after.state;
    shown.operation = operation.clone();
    Ok(match operation {
        Some(id) => Done::Later(shown, id),
        None => Done::Now(shown),
    })
}

fn plan(d: &Daemon, z: &ZoneHandle, edit: &ZoneEdit) -> Answer<Plan> {
    let view = z.view();
    let old_name = view.row.zone.settings.policy.clone();
    let source = edit.source.as_ref().is_some_and(|s| *s != view.row.source);
    let Some(name) = edit.policy.as_ref().filter(|n| **n != old_name) else {
        return Ok(Plan {
            policy: None,
            changes: Vec::new(),
            rolls: Vec::new(),
            source,
        });
    };
    let new = policy_for_new_zones(d, name)?;
    let (changes, rolls) = match d.policy(&old_name) {
        Some(old) => (
            effects(&old.file.policy, &new.file.policy),
            super::Plan::of_zone(d, z, &old.file, &new.file).effects(),
        ),
        None => (Vec::new(), Vec::new()),
    };
    Ok(Plan {
        policy: Some((old_name, new)),
        changes,
        rolls,
        source,
    })
}

/// Whoever touches keys must be admin.
fn may(caller: &Caller, plan: &Plan) -> Answer<()> {
    let keys = plan.changes.iter().any(|c| c.effect >= Effect::Roll);
    if !keys || caller.roles.has(Role::Admin) {
        return Ok(());
    }
    let held = caller.roles.to_string();
    let mut problem = Problem::new(
        ProblemType::NotAllowed,
        format!(
            "{} has role {held}; a change of policy that concerns keys needs role admin",
            caller.actor
        ),
    );
    problem.role_held = Some(held);
    problem.role_needed = Some(Role::Admin.as_str().into());
    Err(problem)
}

impl Plan {
    /// Names this change of this zone from this state; any other has another id.
    fn id(&self, z: &ZoneHandle) -> String {
        let mut h = Sha256::new();
        h.update(z.id.to_string());
        if let Some((old, new)) = &self.policy {
            let revision = z.view().row.zone.settings.revision;
            h.update(format!(
                " {old} {revision} {} {}",
                new.file.name, new.revision
            ));
        }
        for c in &self.changes {
            h.update(sentence(c));
            h.update([0]);
        }
        let digest = data_encoding::HEXLOWER.encode(&h.finalize());
        format!("p-{}", digest.get(..12).unwrap_or_default())
    }
}

/// Sends the commands. Each is durable by itself; if the second fails, the first stays.
async fn carry_out(
    d: &Arc<Daemon>,
    z: &ZoneHandle,
    caller: &Caller,
    edit: &ZoneEdit,
    plan: &Plan,
) -> Answer<Option<String>> {
    let mut operation = None;
    if let Some((_, new)) = &plan.policy {
        let conf = d.conf();
        let settings = crate::settings::pipeline(&new.file, new.revision, &conf.config);
        let command = Command::ChangePolicy {
            settings: Box::new(settings),
        };
        let (_, mark) = ask(z, caller, command).await?;
        if let Some(entry) = d.directory.by_id(z.id) {
            // A new source follows with its own command.
            let source = &z.view().row.source;
            entry.set_settings(crate::servers::zone_settings(&new.file.policy, source));
        }
        if plan.changes.iter().any(|c| c.effect >= Effect::Resign) {
            let begun = d
                .operations
                .begin(z, "zone-edit", Goal::Accord, mark, d.now());
            operation = Some(begun);
        }
    }
    if let Some(source) = edit.source.as_ref().filter(|_| plan.source) {
        let command = Command::ChangeSource {
            source: source_text(source),
        };
        let asked = ask_with(z, caller, command, Some(source.clone())).await;
        let (_, mark) = asked.map_err(|p| match &plan.policy {
            Some((_, new)) => p.state(format!(
                "the zone has policy '{}' now and its old source",
                new.file.name
            )),
            None => p,
        })?;
        let goal = Goal::Load { patient: false };
        operation = Some(d.operations.begin(z, "zone-edit", goal, mark, d.now()));
    }
    Ok(operation)
}
