//! `cascade request`: calls that wait for a second person.

use cascade_api::client::Call;
use cascade_api::path::encode;
use cascade_api::second::SecondRequest;
use cascade_api::{List, Method};
use serde_json::json;

use crate::args::RequestCommand;
use crate::ctx::Ctx;
use crate::error::CliError;
use crate::output::clean;

pub async fn run(ctx: &Ctx, command: &RequestCommand) -> Result<(), CliError> {
    match command {
        RequestCommand::List => list(ctx).await,
        RequestCommand::Approve { id } => {
            let call = Call::send(Method::Post, target(id, "approve"), &body(ctx));
            let answer = ctx.call(&call).await?;
            ctx.changed(&answer, || format!("Carried out request {}", clean(id)))
        }
        RequestCommand::Reject { id } => {
            let call = Call::send(Method::Post, target(id, "reject"), &body(ctx));
            let answer = ctx.call(&call).await?;
            ctx.changed(&answer, || format!("Dropped request {}", clean(id)))
        }
    }
}

fn target(id: &str, verb: &str) -> String {
    format!("/v1/requests/{}/{verb}", encode(id))
}

fn body(ctx: &Ctx) -> serde_json::Value {
    match &ctx.comment {
        Some(comment) => json!({ "comment": comment }),
        None => json!({}),
    }
}

async fn list(ctx: &Ctx) -> Result<(), CliError> {
    let answer = ctx.call(&Call::get("/v1/requests")).await?;
    if ctx.json {
        return ctx.document(&answer);
    }
    let list: List<SecondRequest> = ctx.parse(&answer)?;
    ctx.hint(list.items.is_empty(), "Nothing waits for a second person.");
    for r in &list.items {
        match ctx.quiet {
            true => ctx.print(&format!("{}\n", clean(&r.id)))?,
            false => ctx.print(&format!("{}\n", text(r)))?,
        }
    }
    Ok(())
}

/// What it is, what it will do, and how to agree.
pub fn text(r: &SecondRequest) -> String {
    let zone = match &r.zone {
        Some(zone) => format!(" {}", clean(zone)),
        None => String::new(),
    };
    let mut lines = vec![format!(
        "{}: {}{zone}, asked for by {}, until {}",
        clean(&r.id),
        clean(&r.verb),
        clean(&r.by),
        r.expires_at.to_human()
    )];
    lines.extend(r.comment.iter().map(|c| format!("  \"{}\"", clean(c))));
    lines.extend(r.effects.iter().map(|e| format!("  {}", clean(e))));
    lines.join("\n")
}
