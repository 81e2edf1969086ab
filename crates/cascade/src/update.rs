//! `cascade zone update ZONE FILE|-`

use std::io::Read;
use std::path::Path;

use cascade_api::client::Call;
use cascade_api::path::{Query, zone_segment};
use cascade_api::zones::{UpdateOutcome, UpdateRequest, UpdateResult, Updated};
use cascade_api::{Method, word};

use crate::ctx::Ctx;
use crate::error::CliError;
use crate::output::clean;

/// Octets of a text; the control API takes no more.
const MAX_TEXT: u64 = 3 << 20;
/// A request was refused; those before it were carried out.
const REFUSED: u8 = 7;

pub async fn run(ctx: &Ctx, zone: &str, file: &Path, dry_run: bool) -> Result<(), CliError> {
    let (name, text) = read(file)?;
    let query = Query::new().flag("dry_run", dry_run);
    let target = format!("/v1/zones/{}/update{}", zone_segment(zone), query.as_str());
    let body = UpdateRequest {
        text,
        file: Some(name.clone()),
        comment: ctx.comment.clone(),
    };
    let answer = ctx.call(&Call::send(Method::Post, target, &body)).await?;
    let updated: Updated = ctx.parse(&answer)?;
    ctx.changed(&answer, || told(&updated, &name))?;
    let refused = |r: &UpdateResult| r.outcome == UpdateOutcome::Refused;
    match updated.requests.iter().any(refused) {
        true => Err(CliError::Exit(REFUSED)),
        false => Ok(()),
    }
}

fn read(file: &Path) -> Result<(String, String), CliError> {
    let shown = match file.as_os_str() == "-" {
        true => "(stdin)".to_string(),
        false => file.display().to_string(),
    };
    let fault = |source| CliError::File {
        what: "read",
        path: shown.clone(),
        source,
    };
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().take(MAX_TEXT + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|f| f.take(MAX_TEXT + 1).read_to_end(&mut bytes))
    }
    .map_err(fault)?;
    if bytes.len() as u64 > MAX_TEXT {
        let text = format!("{shown} has more than {MAX_TEXT} octets; split it");
        return Err(CliError::Usage(text));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok((shown, text)),
        Err(_) => Err(CliError::Usage(format!(
            "{shown} is not UTF-8; write other octets as \\DDD"
        ))),
    }
}

fn told(u: &Updated, file: &str) -> String {
    let mut lines = Vec::new();
    for r in &u.requests {
        let place = format!("{}:{}", clean(file), r.line);
        let detail = r
            .detail
            .as_deref()
            .map_or(String::new(), |d| format!(": {}", clean(d)));
        lines.push(match (r.outcome, u.dry_run) {
            (UpdateOutcome::Published, true) => format!("{place}: would be carried out"),
            (UpdateOutcome::Published, false) => {
                let serial = r
                    .serial
                    .map_or(String::new(), |s| format!(" with serial {s}"));
                format!("{place}: published{serial}")
            }
            (UpdateOutcome::Refused, _) => {
                format!("{place}: {} {}{detail}", word(&r.outcome), clean(&r.code))
            }
            (outcome, _) => format!("{place}: {}{detail}", word(&outcome)),
        });
    }
    for c in &u.changes {
        lines.push(format!("{} {}", clean(&c.op), clean(&c.record)));
    }
    lines.join("\n")
}
