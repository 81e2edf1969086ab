//! `cascade keyset <ZONE> …`

use cascade_api::client::Call;
use cascade_api::common::{Commented, List};
use cascade_api::keys::*;
use cascade_api::path::{Query, encode};
use cascade_api::zones::KeyRole;
use cascade_api::{Method, word};

use crate::args::{EmergencyArg, EmergencyRole, Force, Keyset, KeysetCommand, RollCommand, Ttl};
use crate::ctx::Ctx;
use crate::error::CliError;
use crate::forms::{When, algorithm_name};
use crate::output::{clean, table};
use crate::zone::at;

pub async fn run(ctx: &Ctx, keyset: Keyset) -> Result<(), CliError> {
    let zone = keyset.zone;
    match keyset.command {
        KeysetCommand::Get { kind, digest, key } => {
            let query = Query::new().set("digest", digest).set("key", key);
            let path = format!("/key-records/{}{}", word(&kind.0), query.as_str());
            ctx.show(at(&zone, &path), |r: &KeyRecords| {
                r.records
                    .iter()
                    .map(|r| format!("{}\n", clean(r)))
                    .collect()
            })
            .await
        }
        KeysetCommand::List { all } => {
            let query = Query::new().flag("all", all);
            ctx.list(&at(&zone, "/keys"), query, |keys: &[Key]| {
                ctx.hint(
                    keys.is_empty(),
                    "no keys yet; they are made when the zone is signed first",
                );
                if ctx.quiet {
                    return keys.iter().map(|k| format!("{}\n", k.tag)).collect();
                }
                list(keys)
            })
            .await
        }
        KeysetCommand::Import(all) => {
            let imports = crate::zone::imports(&all, &ctx.cwd)?;
            if imports.is_empty() {
                return Err(CliError::Usage("nothing to import was given".to_string()));
            }
            let body = KeyImport {
                imports,
                comment: ctx.comment.clone(),
            };
            ctx.change(
                Method::Post,
                at(&zone, "/keys"),
                &body,
                |i: &KeyImported| {
                    let tags: Vec<String> = i.keys.iter().map(|k| k.tag.to_string()).collect();
                    format!("Imported key {} into {}", tags.join(", "), clean(&zone))
                },
            )
            .await
            .map(drop)
        }
        KeysetCommand::RemoveKey {
            key,
            force,
            purge,
            give_up,
            yes,
        } => {
            let query = Query::new()
                .flag("force", force)
                .flag("purge", purge)
                .flag("continue", give_up);
            remove(ctx, &zone, &key, query, yes).await
        }
        KeysetCommand::RestoreKey { key } => {
            let body = Commented {
                comment: ctx.comment.clone(),
            };
            let target = at(&zone, &format!("/keys/{}/restore", encode(&key)));
            ctx.change(Method::Post, target, &body, |_: &Key| {
                format!("Restored key {} in zone {}", clean(&key), clean(&zone))
            })
            .await
            .map(drop)
        }
        KeysetCommand::BackedUp { keys, all } => backed_up(ctx, &zone, keys, all).await,
        KeysetCommand::Check => check(ctx, &zone).await,
        KeysetCommand::Emergency {
            role,
            strategy,
            reason,
            yes,
        } => emergency(ctx, &zone, role, strategy, reason, yes).await,
        KeysetCommand::Timeline { until, ics } => timeline(ctx, &zone, until, true, ics).await,
        KeysetCommand::Ksk(step) => roll(ctx, &zone, "ksk", step).await,
        KeysetCommand::Zsk(step) => roll(ctx, &zone, "zsk", step).await,
        KeysetCommand::Csk(step) => roll(ctx, &zone, "csk", step).await,
        KeysetCommand::Algorithm(step) => roll(ctx, &zone, "algorithm", step).await,
    }
}

async fn remove(ctx: &Ctx, zone: &str, key: &str, how: Query, yes: bool) -> Result<(), CliError> {
    let base = how.set("comment", ctx.comment.as_deref());
    let answer = ctx
        .confirmed(yes, |confirmed| {
            let query = match confirmed {
                None => base.clone(),
                Some(c) => base
                    .clone()
                    .set("confirm", c.plan.as_deref())
                    .flag("yes", true),
            };
            let path = format!("/keys/{}{}", encode(key), query.as_str());
            Call::delete(at(zone, &path))
        })
        .await?;
    ctx.changed(&answer, || {
        format!("Removed key {} from zone {}", clean(key), clean(zone))
    })
}

async fn backed_up(
    ctx: &Ctx,
    zone: &str,
    mut keys: Vec<String>,
    all: bool,
) -> Result<(), CliError> {
    if all {
        let answer = ctx.call(&Call::get(at(zone, "/keys?limit=1000"))).await?;
        let list: List<Key> = ctx.parse(&answer)?;
        keys = list.items.into_iter().map(|k| k.id).collect();
    }
    let n = keys.len();
    let body = Commented {
        comment: ctx.comment.clone(),
    };
    for (i, key) in keys.iter().enumerate() {
        let target = at(zone, &format!("/keys/{}/backed-up", encode(key)));
        let call = Call::send(Method::Post, target, &body);
        let answer = ctx.call(&call).await?;
        if i + 1 == n {
            ctx.changed(&answer, || {
                format!("Marked {n} keys of {} as backed up", clean(zone))
            })?;
        }
    }
    Ok(())
}

/// One line per server and address: what was expected, what it showed.
async fn check(ctx: &Ctx, zone: &str) -> Result<(), CliError> {
    let body = Commented::default();
    let call = Call::send(Method::Post, at(zone, "/keys/check"), &body);
    let answer = ctx.call(&call).await?;
    if ctx.json {
        return ctx.document(&answer);
    }
    let found: KeyCheck = ctx.parse(&answer)?;
    let tags = |t: &[u16]| match t {
        [] => "-".to_string(),
        t => t.iter().map(u16::to_string).collect::<Vec<_>>().join(" "),
    };
    let dash = || "-".to_string();
    let rows: Vec<Vec<String>> = found
        .items
        .iter()
        .map(|e| {
            // The verdict is the last part of the text.
            let text = e.text.as_deref().unwrap_or_default();
            let result = text.rsplit_once(", ").map_or(text, |(_, r)| r);
            let shown = text.split_once(": ").map_or("", |(_, t)| t);
            let shown = match e.found.is_empty() {
                true => shown.split_once(' ').map_or("-", |(_, t)| t).to_string(),
                false => tags(&e.found),
            };
            vec![
                clean(e.name.as_deref().unwrap_or("-")),
                clean(&match (&e.at, &e.nsid) {
                    (Some(at), Some(id)) => format!("{at} ({id})"),
                    (at, _) => at.clone().unwrap_or_else(dash),
                }),
                e.what.to_uppercase(),
                tags(&e.expected),
                clean(shown.strip_suffix(&format!(", {result}")).unwrap_or(&shown)),
                e.ttl_secs.map_or_else(dash, |t| t.to_string()),
                e.asked_at.map_or_else(dash, |t| t.to_human()),
                clean(result),
            ]
        })
        .collect();
    ctx.hint(
        found.unfinished,
        "not every server has answered yet; run it again to see the rest",
    );
    ctx.print(&table(
        &[
            "SERVER", "ADDRESS", "WHAT", "EXPECTED", "FOUND", "TTL", "ASKED", "RESULT",
        ],
        &rows,
    ))
}

async fn emergency(
    ctx: &Ctx,
    zone: &str,
    role: EmergencyRole,
    strategy: EmergencyArg,
    reason: Option<String>,
    yes: bool,
) -> Result<(), CliError> {
    let role = match role {
        EmergencyRole::Ksk => KeyRole::Ksk,
        EmergencyRole::Zsk => KeyRole::Zsk,
        EmergencyRole::Csk => KeyRole::Csk,
    };
    let (strategy, word) = match strategy {
        EmergencyArg::Safe => (EmergencyStrategy::Safe, "safe"),
        EmergencyArg::Fast => (EmergencyStrategy::Fast, "fast"),
    };
    let target = at(zone, "/emergency");
    let answer = ctx
        .confirmed(yes, |confirmed| {
            let body = EmergencyRequest {
                role,
                strategy,
                reason: reason.clone(),
                confirm: confirmed.and_then(|c| c.plan.clone()),
                yes: confirmed.is_some(),
            };
            Call::send(Method::Post, target.clone(), &body)
        })
        .await?;
    ctx.changed(&answer, || {
        format!(
            "Emergency roll of {} for {} started: {word}",
            role.upper(),
            clean(zone)
        )
    })
}

/// `keyset timeline`, and `zone timeline` for all.
pub async fn timeline(
    ctx: &Ctx,
    zone: &str,
    until: Option<When>,
    only_keys: bool,
    ics: bool,
) -> Result<(), CliError> {
    let until = until.map(|u| u.at(ctx.now).to_rfc3339());
    let query = Query::new()
        .set("until", until)
        .set("only", only_keys.then_some("keys"));
    let target = at(zone, &format!("/timeline{}", query.as_str()));
    ctx.show(target, |t: &Timeline| {
        if ics {
            return crate::calendar::calendar(t, ctx.now);
        }
        let rows: Vec<Vec<String>> = t
            .items
            .iter()
            .map(|i| vec![i.at.to_human(), clean(&i.what), clean(&i.text)])
            .collect();
        table(&["TIME", "EVENT", "WHAT"], &rows)
    })
    .await
}

fn list(keys: &[Key]) -> String {
    let dash = || "-".to_string();
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|k| {
            vec![
                k.tag.to_string(),
                k.role.upper().to_string(),
                algorithm_name(k.algorithm),
                crate::report::capital(&word(&k.state)),
                k.since
                    .or(k.active_at)
                    .or(k.published_at)
                    .map_or_else(dash, |t| t.to_human()),
                k.next.clone().unwrap_or_else(dash),
                k.hsm.clone().unwrap_or_else(|| "files".to_string()),
                k.label.clone().unwrap_or_else(dash),
            ]
        })
        .collect();
    table(
        &[
            "TAG", "ROLE", "ALG", "STATE", "SINCE", "NEXT", "WHERE", "LABEL",
        ],
        &rows,
    )
}

async fn roll(ctx: &Ctx, zone: &str, kind: &str, step: RollCommand) -> Result<(), CliError> {
    let (name, ttl, force) = match step {
        RollCommand::StartRoll => ("start", None, false),
        RollCommand::Propagation1Complete(Ttl { ttl, force }) => {
            ("propagation1-complete", Some(ttl), force.force)
        }
        RollCommand::CacheExpired1(Force { force }) => ("cache-expired1", None, force),
        RollCommand::Propagation2Complete(Ttl { ttl, force }) => {
            ("propagation2-complete", Some(ttl), force.force)
        }
        RollCommand::CacheExpired2(Force { force }) => ("cache-expired2", None, force),
        RollCommand::RollDone(Force { force }) => ("done", None, force),
    };
    let ttl_secs = match ttl.map(|t| u32::try_from(t.as_secs())) {
        None => None,
        // RFC 2181 §8: a TTL has 31 bits.
        Some(Ok(secs)) if secs <= i32::MAX as u32 => Some(secs),
        Some(_) => {
            return Err(CliError::Usage(
                "a TTL is at most 2147483647 seconds, for example 1h".to_string(),
            ));
        }
    };
    let body = RollStep {
        ttl_secs,
        force,
        comment: ctx.comment.clone(),
    };
    let target = at(zone, &format!("/rolls/{kind}/{name}"));
    ctx.change(Method::Post, target, &body, |_: &Roll| {
        format!("Manual key roll for {} successful", clean(zone))
    })
    .await
    .map(drop)
}
