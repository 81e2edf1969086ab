//! `cascade policy …`

use cascade_api::Method;
use cascade_api::client::Call;
use cascade_api::common::{Finding, Level};
use cascade_api::path::{Query, encode};
use cascade_api::policies::*;
use cascade_api::word;

use crate::args::PolicyCommand;
use crate::ctx::Ctx;
use crate::error::{CliError, finding_text};
use crate::output::{clean, clean_lines, table};

pub async fn run(ctx: &Ctx, command: PolicyCommand) -> Result<(), CliError> {
    match command {
        PolicyCommand::Reload { dry_run, plan, yes } => reload(ctx, dry_run, plan, yes).await,
        PolicyCommand::List => list(ctx).await,
        PolicyCommand::Show { policy, file, diff } => {
            ctx.show(
                format!("/v1/policies/{}", encode(&policy)),
                |p: &Policy| match (file, diff) {
                    (true, _) => clean_lines(p.disk_text.as_deref().unwrap_or_default()),
                    (_, true) => difference(
                        p.active_text.as_deref().unwrap_or_default(),
                        p.disk_text.as_deref().unwrap_or_default(),
                    ),
                    _ => clean_lines(&p.effective),
                },
            )
            .await
        }
        PolicyCommand::Plan {
            policies,
            zone,
            check,
        } => plan(ctx, policies, zone, check).await,
        PolicyCommand::Check { what, offline } => check(ctx, what, offline).await,
    }
}

/// Which rolls the files would begin; exit code 7 with `--check` if there is any.
async fn plan(
    ctx: &Ctx,
    policies: Vec<String>,
    zone: Option<String>,
    check: bool,
) -> Result<(), CliError> {
    let body = PolicyPlanRequest { policies, zone };
    let call = Call::send(Method::Post, "/v1/policies/plan".to_string(), &body);
    let answer = ctx.call(&call).await?;
    let plan: PolicyPlan = ctx.parse(&answer)?;
    if ctx.json {
        ctx.document(&answer)?;
    } else if plan.items.is_empty() && plan.effects.is_empty() {
        ctx.print("The policy files begin no roll.\n")?;
    } else {
        // Rolls are in the table; what else needs consent has a line of its own.
        let id = plan.plan.as_deref().unwrap_or_default();
        let begins = |e: &&String| !e.contains(" begins");
        let more: String = plan
            .effects
            .iter()
            .filter(begins)
            .map(|e| format!("{}\n", clean(e)))
            .collect();
        ctx.print(&format!(
            "Plan {}, valid while nothing else changes. Apply with: cascade policy reload --plan {} --yes\n{more}",
            clean(id),
            clean(id)
        ))?;
        let rows: Vec<Vec<String>> = plan
            .items
            .iter()
            .map(|r| {
                let parent = if r.needs_parent {
                    "DS must change"
                } else {
                    "-"
                };
                vec![
                    clean(&r.zone),
                    clean(&r.policy),
                    word(&r.kind),
                    clean(&r.roll_type),
                    r.starts_at.to_human(),
                    r.ends_at.map_or("-".to_string(), |at| at.to_human()),
                    parent.to_string(),
                ]
            })
            .collect();
        ctx.print(&table(
            &[
                "ZONE",
                "POLICY",
                "ROLL",
                "TYPE",
                "STARTS",
                "ENDS ABOUT",
                "PARENT",
            ],
            &rows,
        ))?;
    }
    match check && !(plan.items.is_empty() && plan.effects.is_empty()) {
        true => Err(CliError::Exit(7)),
        false => Ok(()),
    }
}

async fn reload(ctx: &Ctx, dry_run: bool, plan: Option<String>, yes: bool) -> Result<(), CliError> {
    let target = format!(
        "/v1/policies/reload{}",
        Query::new().flag("dry_run", dry_run).as_str()
    );
    let answer = ctx
        .confirmed(yes, |confirmed| {
            let body = PolicyReload {
                plan: plan
                    .clone()
                    .or_else(|| confirmed.and_then(|c| c.plan.clone())),
                yes: confirmed.is_some(),
                comment: ctx.comment.clone(),
            };
            Call::send(Method::Post, target.clone(), &body)
        })
        .await?;
    let reloaded: PolicyReloaded = ctx.parse(&answer)?;
    ctx.warnings(&reloaded.warnings);
    ctx.changed(&answer, || {
        let width = reloaded
            .changes
            .iter()
            .map(|c| c.policy.chars().count())
            .max()
            .unwrap_or(0);
        let head = if dry_run {
            "Policies would be reloaded:"
        } else {
            "Policies reloaded:"
        };
        let mut lines = vec![head.to_string()];
        lines.extend(
            reloaded
                .changes
                .iter()
                .map(|c| format!("- {:<width$} {}", clean(&c.policy), word(&c.change))),
        );
        lines.join("\n")
    })
}

async fn list(ctx: &Ctx) -> Result<(), CliError> {
    ctx.list("/v1/policies", Query::new(), |policies: &[PolicyItem]| {
        ctx.hint(
            policies.is_empty(),
            "no policies yet; write one with: cascade template policy > /etc/cascade/policies/<name>.toml",
        );
        if ctx.quiet {
            return policies.iter().map(|p| format!("{}\n", clean(&p.policy))).collect();
        }
        let rows: Vec<Vec<String>> = policies
            .iter()
            .map(|p| {
                vec![
                    p.policy.clone(),
                    p.zones.to_string(),
                    p.hsm.clone().unwrap_or_else(|| "-".to_string()),
                    p.algorithms.join(", "),
                    word(&p.state).replace('-', " "),
                ]
            })
            .collect();
        table(&["POLICY", "ZONES", "HSM", "ALGORITHMS", "STATE"], &rows)
    })
    .await
}

async fn check(ctx: &Ctx, what: Vec<String>, offline: bool) -> Result<(), CliError> {
    let mut findings = Vec::new();
    let mut names = Vec::new();
    let everything = what.is_empty();
    for item in what {
        if !(offline || item.contains('/') || item.ends_with(".toml")) {
            names.push(item);
            continue;
        }
        let read = |source| CliError::File {
            what: "read",
            path: item.clone(),
            source,
        };
        if offline {
            findings.extend(offline_findings(
                &item,
                &std::fs::read(&item).map_err(read)?,
            ));
        } else {
            let text = std::fs::read_to_string(&item).map_err(read)?;
            let request = PolicyCheckRequest {
                text: Some(text),
                name: Some(name_of(&item)),
                names: None,
            };
            findings.extend(ask(ctx, &request).await?);
        }
    }
    if everything || !names.is_empty() {
        let names = (!names.is_empty()).then_some(names);
        findings.extend(
            ask(
                ctx,
                &PolicyCheckRequest {
                    names,
                    ..Default::default()
                },
            )
            .await?,
        );
    }
    let worst = findings
        .iter()
        .filter_map(|f| f.level)
        .max()
        .unwrap_or(Level::Ok);
    if ctx.json {
        let document = serde_json::to_string(&PolicyCheck { findings }).unwrap_or_default();
        ctx.print(&format!("{document}\n"))?;
    } else {
        let lines: String = findings
            .iter()
            .map(|f| format!("{}\n", finding_text(f)))
            .collect();
        ctx.print(&lines)?;
    }
    match worst {
        Level::Ok | Level::Info => Ok(()),
        Level::Warning => Err(CliError::Exit(8)),
        Level::Error | Level::Critical => Err(CliError::Exit(7)),
    }
}

async fn ask(ctx: &Ctx, request: &PolicyCheckRequest) -> Result<Vec<Finding>, CliError> {
    let call = Call::send(Method::Post, "/v1/policies/check", request);
    Ok(ctx.parse::<PolicyCheck>(&ctx.call(&call).await?)?.findings)
}

/// The name the policy would have: the file's without directory and ending.
fn name_of(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.strip_suffix(".toml").unwrap_or(base).to_string()
}

fn offline_findings(file: &str, bytes: &[u8]) -> Vec<Finding> {
    let diagnostics = match cascade_policy::parse_policy(&name_of(file), file, bytes) {
        Ok(parsed) => parsed.warnings,
        Err(errors) => errors,
    };
    diagnostics
        .iter()
        .map(|d| Finding {
            file: Some(d.file.clone()),
            line: d.line.map(u64::from),
            column: d.column.map(u64::from),
            code: Some(d.code.to_string()),
            level: Some(match d.level {
                cascade_policy::Level::Error => Level::Error,
                cascade_policy::Level::Warning => Level::Warning,
                cascade_policy::Level::Note => Level::Info,
            }),
            detail: d.message(),
            suggestion: None,
        })
        .collect()
}

/// Lines that one text has and the other lacks, by longest common subsequence.
fn difference(old: &str, new: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    // Policy files have hundreds of lines; beyond that, comparing costs more than it tells.
    if a.len().saturating_mul(b.len()) > 25_000_000 {
        return "the files are too long to compare\n".to_string();
    }
    let width = b.len() + 1;
    let mut common = vec![0u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i * width + j] = if a[i] == b[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if j >= b.len()
            || (i < a.len() && common[(i + 1) * width + j] >= common[i * width + j + 1])
        {
            out.push_str(&format!("- {}\n", clean(a[i])));
            i += 1;
        } else {
            out.push_str(&format!("+ {}\n", clean(b[j])));
            j += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences() {
        assert_eq!(difference("a\nb\nc\n", "a\nx\nc\nd\n"), "- b\n+ x\n+ d\n");
        assert_eq!(difference("a\n", "a\n"), "");
        assert_eq!(difference("", "a\n"), "+ a\n");
    }

    #[test]
    fn names() {
        assert_eq!(name_of("/etc/cascade/policies/nethsm.toml"), "nethsm");
        assert_eq!(name_of("x"), "x");
    }
}
