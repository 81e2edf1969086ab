//! `status`, `health`, `info`, `debug`.

use cascade_api::client::Call;
use cascade_api::common::{Commented, Level};
use cascade_api::daemon::*;
use cascade_api::{Method, word};

use crate::args::{DebugCommand, StatusWhat};
use crate::ctx::Ctx;
use crate::detail::key_line;
use crate::error::CliError;
use crate::output::{clean, signed_span, table};
use crate::report::span;

pub async fn status(ctx: &Ctx, what: Option<StatusWhat>) -> Result<(), CliError> {
    match what {
        None => {
            ctx.show("/v1/status", |s: &Status| status_text(s, ctx))
                .await
        }
        Some(StatusWhat::Keys) => {
            ctx.show("/v1/status/keys", |k: &StatusKeys| keys_text(k, ctx))
                .await
        }
    }
}

fn status_text(s: &Status, ctx: &Ctx) -> String {
    let mut out = "Serving zones at the following addresses:\n".to_string();
    for (name, addresses) in [
        ("Loaded review", &s.addresses.loaded_review),
        ("Signed review", &s.addresses.signed_review),
        ("Server", &s.addresses.server),
    ] {
        out.push_str(&format!("  {name}:\n"));
        for address in addresses {
            out.push_str(&format!("    - {}\n", clean(address)));
        }
    }
    let z = &s.zones;
    out.push_str(&format!(
        "\nZones: {} configured, {} published, {} halted\n",
        z.configured,
        z.published,
        z.halted.len()
    ));
    if !z.halted.is_empty() {
        out.push_str("The following zones are halted:\n");
    }
    for h in &z.halted {
        let (zone, icon) = (clean(&h.zone), ctx.paint.red("x"));
        out.push_str(&format!(
            "  {icon} {zone}: {} (try: cascade why {zone})\n",
            clean(&h.reason)
        ));
    }
    for h in &s.hsms {
        let since = h
            .since
            .map_or(String::new(), |at| format!(" since {}", at.to_human()));
        let (hsm, icon) = (clean(&h.hsm), ctx.paint.red("x"));
        out.push_str(&format!(
            "  {icon} HSM {hsm} is {}{since} (try: cascade hsm show {hsm})\n",
            clean(&h.state)
        ));
    }
    out.push_str("\nSigning queue:\n");
    if s.queue.is_empty() {
        out.push_str("  The signing queue is currently empty.\n");
    }
    let rows: Vec<Vec<String>> = s
        .queue
        .iter()
        .map(|q| {
            let done = q.done.map_or("-".to_string(), |d| {
                format!("{:.0} %", d.clamp(0.0, 1.0) * 100.0)
            });
            vec![
                word(&q.state),
                q.since.to_human(),
                q.zone.clone(),
                q.action.clone(),
                done,
            ]
        })
        .collect();
    for line in table(&["STATE", "SINCE", "ZONE", "ACTION", "DONE"], &rows).lines() {
        out.push_str(&format!("  {line}\n"));
    }
    out
}

fn keys_text(k: &StatusKeys, ctx: &Ctx) -> String {
    let mut out = "First to expire (max 5):\n".to_string();
    for e in &k.first_to_expire {
        let left = if e.left_secs < 0 {
            format!("expired {} ago", signed_span(-e.left_secs))
        } else {
            format!("{} left", signed_span(e.left_secs))
        };
        out.push_str(&format!(
            "  {}: key {}: {left}\n",
            clean(&e.zone),
            clean(&e.key)
        ));
    }
    if k.first_to_expire.is_empty() {
        out.push_str("  No key expires.\n");
    }
    out.push_str("\nKeys per zone:\n");
    for zone in &k.zones {
        out.push_str(&format!("  {}:\n", clean(&zone.zone)));
        for key in &zone.keys {
            out.push_str(&format!("    {}\n", key_line(key, ctx.now)));
        }
    }
    out
}

pub async fn health(ctx: &Ctx, deep: bool) -> Result<(), CliError> {
    let target = if deep {
        "/v1/health/deep"
    } else {
        "/v1/health"
    };
    // 503 is how a critical state is told to probes; the document comes with it.
    let call = Call {
        also: &[503],
        ..Call::get(target)
    };
    let answer = ctx.call(&call).await?;
    let health: Health = match ctx.parse(&answer) {
        Ok(health) => health,
        // 503 for another reason, for example while starting.
        Err(e) => match serde_json::from_slice::<cascade_api::Problem>(&answer.body) {
            Ok(p) => return Err(cascade_api::client::ClientError::Problem(Box::new(p)).into()),
            Err(_) => return Err(e),
        },
    };
    if ctx.json {
        ctx.document(&answer)?;
    } else {
        ctx.print(&health_text(&health))?;
    }
    match health.level {
        Level::Ok | Level::Info => Ok(()),
        Level::Warning => Err(CliError::Exit(8)),
        Level::Error | Level::Critical => Err(CliError::Exit(7)),
    }
}

fn health_text(h: &Health) -> String {
    let mut checks: Vec<&Check> = h
        .checks
        .iter()
        .filter(|c| c.level >= Level::Warning)
        .collect();
    if checks.is_empty() && h.level <= Level::Info {
        return "Ok\n".to_string();
    }
    checks.sort_by_key(|c| std::cmp::Reverse(c.level));
    let critical = checks.iter().filter(|c| c.level > Level::Warning).count();
    let warnings = checks.len() - critical;
    let plural = |n: usize, word: &str| {
        if n == 1 {
            format!("1 {word}")
        } else {
            format!("{n} {word}s")
        }
    };
    let counts: Vec<String> = [
        (critical > 0).then(|| format!("{critical} critical")),
        (warnings > 0).then(|| plural(warnings, "warning")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut out = format!("Not healthy: {}\n", counts.join(", "));
    for c in checks {
        let level = if c.level > Level::Warning {
            "critical"
        } else {
            "warning"
        };
        let subject = match &c.subject {
            Some(s) => format!("{} {}", word(&s.kind), clean(&s.name)),
            None => clean(&c.check),
        };
        let action = c
            .action
            .as_ref()
            .map_or(String::new(), |a| format!("  -> {}", clean(a)));
        out.push_str(&format!(
            "{level:<8}  {subject}  {}{action}\n",
            clean(&c.detail)
        ));
    }
    out
}

pub async fn info(ctx: &Ctx) -> Result<(), CliError> {
    ctx.show("/v1/info", |i: &Info| {
        format!("Cascade daemon version: {}\n", clean(&i.version))
    })
    .await
}

pub async fn clock_confirm(ctx: &Ctx) -> Result<(), CliError> {
    let body = Commented {
        comment: ctx.comment.clone(),
    };
    let confirmed = |c: &ClockConfirmed| {
        let way = if c.stepped_secs < 0 {
            "back"
        } else {
            "forward"
        };
        let by = span(c.stepped_secs.unsigned_abs());
        let zones = match c.zones {
            1 => "1 zone goes on".to_string(),
            n => format!("{n} zones go on"),
        };
        format!(
            "Confirmed the clock: it is {}, after a step of {by} {way}; {zones}",
            c.now
        )
    };
    ctx.change(Method::Post, "/v1/clock/confirm", &body, confirmed)
        .await
        .map(drop)
}

pub async fn debug(ctx: &Ctx, command: DebugCommand) -> Result<(), CliError> {
    let DebugCommand::ChangeLogging {
        level,
        trace_targets,
        clear_trace_targets,
        span: time,
    } = command;
    let targets = match (clear_trace_targets, trace_targets.is_empty()) {
        (true, _) => Some(Vec::new()),
        (false, true) => None,
        (false, false) => Some(trace_targets),
    };
    let changes_targets = targets.is_some();
    let body = LoggingEdit {
        level: level.map(|l| l.0),
        targets,
        for_secs: time.map(|t| t.as_secs()),
        comment: ctx.comment.clone(),
    };
    ctx.change(Method::Patch, "/v1/logging", &body, |l: &Logging| {
        let mut lines = Vec::new();
        if body.level.is_some() {
            lines.push(format!("Changed log-level to: {}", word(&l.level)));
        }
        if changes_targets {
            lines.push(
                format!("Changed trace targets to: {}", clean(&l.targets.join(", ")))
                    .trim_end()
                    .to_string(),
            );
        }
        if let Some(t) = body.for_secs {
            lines.push(format!("Back to the former settings in {}", span(t)));
        }
        lines.join("\n")
    })
    .await
    .map(drop)
}
