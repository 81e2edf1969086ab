//! `cascade zone …`

use std::path::{Path, PathBuf};

use cascade_api::client::{Call, ClientError};
use cascade_api::common::{Accepted, Commented};
use cascade_api::path::{Query, zone_segment};
use cascade_api::status::{Pin, ZoneStatus};
use cascade_api::zones::*;
use cascade_api::{Method, ProblemType, Stage, word};

use crate::args::{self, ExportFormat, StageArg, Wait, ZoneCommand};
use crate::ctx::Ctx;
use crate::error::CliError;
use crate::forms;
use crate::output::{ago, clean, signed_span, table};
use crate::{export, report, why};

pub async fn run(ctx: &Ctx, command: ZoneCommand) -> Result<(), CliError> {
    use ZoneCommand as C;
    match command {
        C::Add(add) => self::add(ctx, *add).await,
        C::Status { zone, detailed } => {
            ctx.show(at(&zone, "/status"), |s: &ZoneStatus| {
                report::report(s, detailed, s.at.unwrap_or(ctx.now), ctx.paint)
            })
            .await
        }
        C::List {
            policy,
            state,
            halted,
        } => list(ctx, policy, state, halted).await,
        C::Show { zone } => ctx.show(at(&zone, ""), |z: &Zone| shown(z, ctx)).await,
        C::Remove {
            zone,
            keep_keys: _,
            purge_keys,
            yes,
        } => remove(ctx, &zone, purge_keys, yes).await,
        C::Reload {
            zones,
            all,
            refresh,
            wait,
        } => reload(ctx, zones, all, refresh, wait).await,
        C::Resign {
            zones,
            full,
            serial,
            wait,
        } => {
            let body = ResignRequest {
                full,
                serial,
                comment: ctx.comment.clone(),
            };
            for zone in zones {
                let text = format!("Success: Requested re-signing of {}", clean(&zone));
                accepted(ctx, &at(&zone, "/resign"), &body, &text, wait).await?;
            }
            Ok(())
        }
        C::Update {
            zone,
            file,
            dry_run,
        } => crate::update::run(ctx, &zone, &file, dry_run).await,
        C::Approve(review) => decide(ctx, review, "approve", "Approved").await,
        C::Reject(review) => decide(ctx, review, "reject", "Rejected").await,
        C::Override {
            stage,
            zone,
            despite_verification,
            yes,
        } => overrule(ctx, stage_of(stage), &zone, despite_verification, yes).await,
        C::Reset { zone } => {
            let body = Commented {
                comment: ctx.comment.clone(),
            };
            let text = format!("Reset the pipeline for zone '{}'", clean(&zone));
            accepted(ctx, &at(&zone, "/reset"), &body, &text, Wait::default()).await
        }
        C::Rollback {
            zone,
            to,
            no_pin,
            dry_run,
            yes,
            wait,
        } => {
            let body = RollbackRequest {
                to,
                pin: !no_pin,
                comment: ctx.comment.clone(),
                ..RollbackRequest::default()
            };
            rollback(ctx, &zone, body, dry_run, yes, wait).await
        }
        C::Pin {
            zone,
            version,
            span,
        } => {
            let body = PinRequest {
                version,
                until: span.map(|s| ctx.now + s),
                comment: ctx.comment.clone(),
            };
            ctx.change(Method::Put, at(&zone, "/pin"), &body, |p: &Pin| {
                let until = p
                    .until
                    .map_or(String::new(), |t| format!(" until {}", t.to_human()));
                format!(
                    "Pinned zone {} to {}{until}",
                    clean(&zone),
                    clean(&p.version)
                )
            })
            .await
            .map(drop)
        }
        C::Unpin { zone } => {
            let query = Query::new().set("comment", ctx.comment.as_deref());
            let target = format!("{}{}", at(&zone, "/pin"), query.as_str());
            ctx.delete(target, &format!("Unpinned zone {}", clean(&zone)))
                .await
        }
        C::History {
            zone,
            limit,
            since,
            kind,
        } => {
            let query = Query::new()
                .set("limit", Some(limit.to_string()))
                .set("since", since.map(|s| s.at(ctx.now).to_rfc3339()))
                .set("kind", kind.map(|k| word(&k.0)));
            let target = format!("{}{}", at(&zone, "/history"), query.as_str());
            ctx.show(target, |l: &cascade_api::List<HistoryEntry>| {
                history(&l.items)
            })
            .await
        }
        C::Maintenance(m) => maintenance(ctx, m).await,
        C::Edit {
            zone,
            policy,
            source,
            dry_run,
            yes,
            wait,
        } => edit(ctx, &zone, policy, source, dry_run, yes, wait).await,
        C::Diff {
            zone,
            from,
            to,
            unsigned,
            dnssec,
            stat,
            limit,
        } => {
            let query = Query::new()
                .set("from", Some(from.unwrap_or_else(|| "previous".to_string())))
                .set("to", Some(to.unwrap_or_else(|| "current".to_string())))
                .set("stage", unsigned.then_some("unsigned"))
                .flag("dnssec", dnssec)
                .set("limit", limit.map(|n| n.to_string()));
            let target = format!("{}{}", at(&zone, "/diff"), query.as_str());
            ctx.show(target, |d: &Diff| diff(d, stat)).await
        }
        C::Export {
            zone,
            version,
            unsigned,
            format,
            output,
        } => {
            let query = Query::new()
                .set("version", version)
                .set("stage", unsigned.then_some("unsigned"))
                .flag("json", format == ExportFormat::Json || ctx.json);
            let target = format!("{}{}", at(&zone, "/export"), query.as_str());
            export::export(ctx, &target, output.as_deref()).await
        }
        C::Why { zone } => why::run(ctx, &zone).await,
        C::Timeline { zone, until, ics } => {
            crate::keyset::timeline(ctx, &zone, until, false, ics).await
        }
    }
}

/// `/v1/zones/{z}` and what follows.
pub fn at(zone: &str, rest: &str) -> String {
    format!("/v1/zones/{}{rest}", zone_segment(zone))
}

fn stage_of(stage: StageArg) -> Stage {
    if stage.signed {
        Stage::Signed
    } else {
        Stage::Unsigned
    }
}

async fn add(ctx: &Ctx, a: args::ZoneAdd) -> Result<(), CliError> {
    let source = forms::sources(&a.source, &ctx.cwd).map_err(CliError::Usage)?;
    let body = ZoneAdd {
        zone: a.zone.clone(),
        policy: a.policy.clone(),
        source: source.clone(),
        imports: imports(&a.imports, &ctx.cwd)?,
        maintenance: a.maintenance,
        allow_missing: a.allow_missing,
        restore_keys: a.restore_keys,
        comment: ctx.comment.clone(),
    };
    let target = format!(
        "/v1/zones{}",
        Query::new().flag("dry_run", a.dry_run).as_str()
    );
    let answer = match ctx.call(&Call::send(Method::Post, target, &body)).await {
        Err(ClientError::Problem(p)) if p.kind == ProblemType::ZoneExists && a.if_not_exists => {
            let answer = ctx.call(&Call::get(at(&a.zone, ""))).await?;
            let zone: Zone = ctx.parse(&answer)?;
            if zone.source != source || zone.policy != a.policy {
                return Err(ClientError::Problem(p).into());
            }
            return ctx.changed(&answer, || {
                format!("Zone {} exists already", clean(&zone.zone))
            });
        }
        other => other?,
    };
    let zone: Zone = ctx.parse(&answer)?;
    ctx.warnings(&zone.warnings);
    ctx.changed(&answer, || match a.dry_run {
        true => format!("Zone {} could be added", clean(&zone.zone)),
        false => format!("Added zone {}", clean(&zone.zone)),
    })?;
    ctx.wait(zone.operation.as_deref(), a.wait.wait).await
}

/// Keys that exist already, as the API names them.
pub fn imports(a: &args::Imports, cwd: &Path) -> Result<Vec<Import>, CliError> {
    let absolute = |p: &Path| forms::absolute(p, cwd).map_err(CliError::Usage);
    let mut all = Vec::new();
    for path in &a.import_public_key {
        all.push(Import::Public {
            path: absolute(path)?,
        });
    }
    for (role, paths) in [
        (KeyRole::Ksk, &a.import_ksk_file),
        (KeyRole::Zsk, &a.import_zsk_file),
        (KeyRole::Csk, &a.import_csk_file),
    ] {
        for path in paths {
            let (public, private) = pair(path)?;
            let (public, private) = (absolute(&public)?, absolute(&private)?);
            all.push(Import::File {
                role,
                public,
                private,
            });
        }
    }
    for (role, values) in [
        (KeyRole::Ksk, &a.import_ksk_kmip),
        (KeyRole::Zsk, &a.import_zsk_kmip),
        (KeyRole::Csk, &a.import_csk_kmip),
    ] {
        for five in values.chunks(5) {
            all.push(in_hsm(role, five)?);
        }
    }
    Ok(all)
}

/// `SERVER PUBID PRIVID ALG FLAGS`
fn in_hsm(role: KeyRole, five: &[String]) -> Result<Import, CliError> {
    let [hsm, public_id, private_id, algorithm, flags] = five else {
        return Err(CliError::Usage(
            "a key in an HSM is named by five words: HSM, public and private id, algorithm, flags"
                .to_string(),
        ));
    };
    Ok(Import::Kmip {
        role,
        hsm: hsm.clone(),
        public_id: public_id.clone(),
        private_id: private_id.clone(),
        algorithm: forms::algorithm(algorithm).map_err(CliError::Usage)?,
        flags: flags.parse().map_err(|_| {
            CliError::Usage(format!(
                "'{flags}' are not DNSKEY flags; write for example 257"
            ))
        })?,
    })
}

/// Both files of a key from the name of either.
fn pair(path: &Path) -> Result<(PathBuf, PathBuf), CliError> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("key" | "private") => Ok((path.with_extension("key"), path.with_extension("private"))),
        _ => Err(CliError::Usage(format!(
            "'{}' ends neither in .key nor in .private; write for example Kexample.net.+013+31203.key",
            path.display()
        ))),
    }
}

async fn list(
    ctx: &Ctx,
    policy: Option<String>,
    state: Option<args::StateArg>,
    halted: bool,
) -> Result<(), CliError> {
    let query = Query::new()
        .set("policy", policy)
        .set("state", state.map(|s| word(&s.0)))
        .flag("halted", halted);
    let filtered = !query.as_str().is_empty();
    ctx.list("/v1/zones", query, |zones: &[ZoneItem]| {
        let hint = if filtered {
            "no such zones"
        } else {
            "no zones yet; add one with: cascade zone add"
        };
        ctx.hint(zones.is_empty(), hint);
        if ctx.quiet {
            return zones
                .iter()
                .map(|z| format!("{}\n", clean(&z.zone)))
                .collect();
        }
        let rows: Vec<Vec<String>> = zones
            .iter()
            .map(|z| {
                vec![
                    z.zone.clone(),
                    z.policy.clone(),
                    word(&z.state),
                    z.serial.map_or("-".to_string(), |s| s.to_string()),
                    z.runway_secs.map_or("-".to_string(), signed_span),
                    z.notes.join(", "),
                ]
            })
            .collect();
        table(
            &["ZONE", "POLICY", "STATE", "SERIAL", "RUNWAY", "NOTES"],
            &rows,
        )
    })
    .await
}

pub fn source_text(source: &Source) -> String {
    match source {
        Source::None {} => "none".to_string(),
        Source::File { path } => clean(path),
        Source::Update { path, name_servers } => match path {
            Some(path) => format!("update:{}", clean(path)),
            None => format!("update:{}", clean(&name_servers.join(","))),
        },
        Source::Servers { servers } => {
            let one = |s: &SourceServer| {
                let tls = s
                    .tls_name
                    .as_ref()
                    .map_or(String::new(), |n| format!("#{n}"));
                let key = s
                    .tsig_key
                    .as_ref()
                    .map_or(String::new(), |k| format!("^{k}"));
                let prefix = if s.tls_name.is_some() { "tls:" } else { "" };
                let address = match s.address.contains(':') {
                    true => format!("[{}]", s.address),
                    false => s.address.clone(),
                };
                clean(&format!("{prefix}{address}:{}{tls}{key}", s.port))
            };
            servers.iter().map(one).collect::<Vec<_>>().join(", ")
        }
    }
}

fn shown(z: &Zone, ctx: &Ctx) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: String| out.push_str(&format!("{key}: {value}\n"));
    line("zone", clean(&z.zone));
    line("id", clean(&z.id));
    line("policy", clean(&z.policy));
    line("state", word(&z.state));
    line("source", source_text(&z.source));
    line("added", ago(z.added_at, ctx.now));
    if let Some(p) = &z.published {
        line(
            "published",
            format!(
                "{} serial {} at {}",
                clean(&p.version),
                p.serial,
                ago(p.at, ctx.now)
            ),
        );
    }
    if let Some(r) = &z.review_addresses {
        line("unsigned review", clean(&r.unsigned.join(", ")));
        line("signed review", clean(&r.signed.join(", ")));
    }
    if let Some(dir) = &z.keys_directory {
        line("keys directory", clean(dir));
    }
    if let Some(hsm) = &z.hsm {
        line("hsm", clean(hsm));
    }
    for s in &z.settings {
        line(
            &clean(&s.key),
            format!("{} ({})", clean(&s.value), word(&s.origin)),
        );
    }
    out
}

async fn remove(ctx: &Ctx, zone: &str, purge: bool, yes: bool) -> Result<(), CliError> {
    let base = Query::new()
        .set("keys", Some(if purge { "purge" } else { "keep" }))
        .set("comment", ctx.comment.as_deref());
    let answer = ctx
        .confirmed(yes, |confirmed| {
            let query = match confirmed {
                None => base.clone(),
                Some(c) => base
                    .clone()
                    .set("confirm", c.plan.as_deref())
                    .flag("yes", true),
            };
            Call::delete(format!("{}{}", at(zone, ""), query.as_str()))
        })
        .await?;
    ctx.changed(&answer, || format!("Removed zone {}", clean(zone)))
}

async fn reload(
    ctx: &Ctx,
    mut zones: Vec<String>,
    all: bool,
    refresh: bool,
    wait: Wait,
) -> Result<(), CliError> {
    if all {
        zones = every_zone(ctx).await?;
        ctx.hint(
            zones.is_empty(),
            "no zones yet; add one with: cascade zone add",
        );
    }
    let body = ReloadRequest {
        refresh,
        comment: ctx.comment.clone(),
    };
    for zone in zones {
        let text = format!("Success: Sent zone reload command for {}", clean(&zone));
        accepted(ctx, &at(&zone, "/reload"), &body, &text, wait).await?;
    }
    Ok(())
}

async fn every_zone(ctx: &Ctx) -> Result<Vec<String>, CliError> {
    let mut names = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let query = Query::new()
            .set("limit", Some("1000"))
            .set("after", after.as_deref());
        let call = Call::get(format!("/v1/zones{}", query.as_str()));
        let page: cascade_api::List<ZoneItem> = ctx.parse(&ctx.call(&call).await?)?;
        names.extend(page.items.into_iter().map(|z| z.zone));
        if page.next.is_none() || page.next == after {
            return Ok(names);
        }
        after = page.next;
    }
}

async fn accepted<B: serde::Serialize>(
    ctx: &Ctx,
    target: &str,
    body: &B,
    text: &str,
    wait: Wait,
) -> Result<(), CliError> {
    let done: Accepted = ctx
        .change(Method::Post, target, body, |a: &Accepted| {
            match (a.queued, &a.detail) {
                (true, Some(detail)) => format!("{text} (queued: {})", clean(detail)),
                (true, None) => format!("{text} (queued)"),
                (false, _) => text.to_string(),
            }
        })
        .await?;
    ctx.warnings(&done.warnings);
    // What is queued waits for a person; following it would be waiting for them.
    if done.queued {
        Ok(())
    } else {
        ctx.wait(done.operation.as_deref(), wait.wait).await
    }
}

async fn decide(ctx: &Ctx, r: args::Review, verb: &str, past: &str) -> Result<(), CliError> {
    let stage = stage_of(r.stage).as_str();
    let target = at(&r.zone, &format!("/reviews/{stage}/{}/{verb}", r.serial));
    let body = Commented {
        comment: ctx.comment.clone(),
    };
    ctx.change(Method::Post, target, &body, |d: &ReviewDecision| {
        let (zone, serial) = (clean(&r.zone), d.serial);
        format!("{past} {stage} zone '{zone}' with serial number {serial}")
    })
    .await
    .map(drop)
}

async fn overrule(
    ctx: &Ctx,
    stage: Stage,
    zone: &str,
    despite_verification: bool,
    yes: bool,
) -> Result<(), CliError> {
    let target = at(zone, &format!("/reviews/{}/override", stage.as_str()));
    let answer = ctx
        .confirmed(yes, |confirmed| {
            let body = OverrideRequest {
                confirm: confirmed.and_then(|c| c.plan.clone()),
                yes: confirmed.is_some(),
                despite_verification,
                comment: ctx.comment.clone(),
            };
            Call::send(Method::Post, target.clone(), &body)
        })
        .await?;
    ctx.changed(&answer, || {
        format!("Overridden {} review for '{}'", stage.as_str(), clean(zone))
    })
}

async fn rollback(
    ctx: &Ctx,
    zone: &str,
    body: RollbackRequest,
    dry_run: bool,
    yes: bool,
    wait: Wait,
) -> Result<(), CliError> {
    let query = Query::new().flag("dry_run", dry_run);
    let target = format!("{}{}", at(zone, "/rollback"), query.as_str());
    let answer = ctx
        .confirmed(yes, |confirmed| {
            let body = RollbackRequest {
                confirm: confirmed.and_then(|c| c.plan.clone()),
                yes: confirmed.is_some(),
                ..body.clone()
            };
            Call::send(Method::Post, target.clone(), &body)
        })
        .await?;
    let done: Accepted = ctx.parse(&answer)?;
    let (name, what) = (clean(zone), clean(done.detail.as_deref().unwrap_or("?")));
    let pinned = if body.pin { "; pinned" } else { "" };
    let waits = done.operation.is_some() && !done.queued && wait.wait.is_some();
    if !waits {
        return ctx.changed(&answer, || match (dry_run, done.queued) {
            (true, _) => format!("Would roll back zone {name}: {what}"),
            (false, true) => format!("Rolling back zone {name} (queued: {what}){pinned}"),
            (false, false) => format!("Rolling back zone {name} to {what}{pinned}"),
        });
    }
    ctx.wait(done.operation.as_deref(), wait.wait).await?;
    let status = ctx.call(&Call::get(at(zone, "/status"))).await?;
    let status: ZoneStatus = ctx.parse(&status)?;
    let serial = status.published.as_ref().map_or(0, |p| p.serial);
    ctx.changed(&answer, || {
        format!("Rolled back zone {name} to {what}, published as serial {serial}{pinned}")
    })
}

fn history(entries: &[HistoryEntry]) -> String {
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|e| {
            let mut event = e.detail.clone();
            if let Some(actor) = &e.actor {
                event.push_str(&format!(", by {actor}"));
            }
            if let Some(cause) = &e.cause {
                event.push_str(&format!(", because of {cause}"));
            }
            if let Some(comment) = &e.comment {
                event.push_str(&format!(": {comment}"));
            }
            vec![
                e.at.to_human(),
                e.serial.map_or("-".to_string(), |s| s.to_string()),
                event,
            ]
        })
        .collect();
    table(&["Timestamp", "Serial", "Event"], &rows)
}

async fn maintenance(ctx: &Ctx, m: args::Maintenance) -> Result<(), CliError> {
    match m {
        args::Maintenance::Enable {
            zone,
            no_resign,
            span,
        } => {
            let body = MaintenanceRequest {
                until: span.map(|s| ctx.now + s),
                resign: !no_resign,
                comment: ctx.comment.clone(),
            };
            ctx.change(
                Method::Put,
                at(&zone, "/maintenance"),
                &body,
                |_: &Maintenance| {
                    let zone = clean(&zone);
                    format!(
                        "Maintenance mode for zone '{zone}' is now enabled\n\
                     Leave it with: cascade zone maintenance disable {zone}"
                    )
                },
            )
            .await
            .map(drop)
        }
        args::Maintenance::Disable { zone } => {
            let query = Query::new().set("comment", ctx.comment.as_deref());
            let target = format!("{}{}", at(&zone, "/maintenance"), query.as_str());
            ctx.delete(
                target,
                &format!(
                    "Maintenance mode for zone '{}' is now disabled",
                    clean(&zone)
                ),
            )
            .await
        }
    }
}

async fn edit(
    ctx: &Ctx,
    zone: &str,
    policy: Option<String>,
    source: Vec<forms::SourceArg>,
    dry_run: bool,
    yes: bool,
    wait: Wait,
) -> Result<(), CliError> {
    let source = match source.as_slice() {
        [] => None,
        some => Some(forms::sources(some, &ctx.cwd).map_err(CliError::Usage)?),
    };
    let target = format!(
        "{}{}",
        at(zone, ""),
        Query::new().flag("dry_run", dry_run).as_str()
    );
    let answer = ctx
        .confirmed(yes, |confirmed| {
            let body = ZoneEdit {
                policy: policy.clone(),
                source: source.clone(),
                confirm: confirmed.and_then(|c| c.plan.clone()),
                yes: confirmed.is_some(),
                comment: ctx.comment.clone(),
            };
            Call::send(Method::Patch, target.clone(), &body)
        })
        .await?;
    let changed: Zone = ctx.parse(&answer)?;
    ctx.warnings(&changed.warnings);
    ctx.changed(&answer, || {
        let mut what = Vec::new();
        if let Some(new) = &policy {
            let old = changed.previous_policy.as_deref().unwrap_or("?");
            what.push(format!("policy {} -> {}", clean(old), clean(new)));
        }
        if source.is_some() {
            what.push(format!("source {}", source_text(&changed.source)));
        }
        let verb = if dry_run { "Would change" } else { "Changed" };
        format!("{verb} zone {}: {}", clean(zone), what.join(", "))
    })?;
    ctx.wait(changed.operation.as_deref(), wait.wait).await
}

fn diff(d: &Diff, stat: bool) -> String {
    let c = &d.counts;
    let mut out = format!(
        "{}: {} ({}) -> {} ({}), {}: {} added, {} removed, {} RRsets changed, {} signatures, {} denial\n",
        clean(&d.zone),
        clean(&d.from.version),
        d.from.serial,
        clean(&d.to.version),
        d.to.serial,
        d.stage.as_str(),
        c.added,
        c.removed,
        c.rrsets_changed,
        c.signatures,
        c.denial
    );
    if !stat {
        for change in &d.changes {
            out.push_str(&format!(
                "{} {}\n",
                clean(&change.op),
                clean(&change.record)
            ));
        }
    }
    out
}
