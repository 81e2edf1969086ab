//! `cascade keyset <ZONE> …`

use cascade_api::keys::*;
use cascade_api::path::Query;
use cascade_api::{Method, word};

use crate::args::{Force, Keyset, KeysetCommand, RollCommand, Ttl};
use crate::ctx::Ctx;
use crate::error::CliError;
use crate::forms::algorithm_name;
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
        KeysetCommand::Ksk(step) => roll(ctx, &zone, "ksk", step).await,
        KeysetCommand::Zsk(step) => roll(ctx, &zone, "zsk", step).await,
        KeysetCommand::Csk(step) => roll(ctx, &zone, "csk", step).await,
        KeysetCommand::Algorithm(step) => roll(ctx, &zone, "algorithm", step).await,
    }
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
