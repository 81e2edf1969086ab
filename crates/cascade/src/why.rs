//! `cascade why`: what a zone waits for, with the evidence.

use cascade_api::zones::{Evidence, Why};

use crate::ctx::Ctx;
use crate::error::CliError;
use crate::output::{clean, signed_span};
use crate::report::span;
use crate::zone::at;

pub async fn run(ctx: &Ctx, zone: &str) -> Result<(), CliError> {
    ctx.show(at(zone, "/why"), |w: &Why| text(w, ctx)).await
}

fn text(w: &Why, ctx: &Ctx) -> String {
    let since = w.since.map(|at| {
        let ago = at.secs_until(ctx.now).max(0) as u64;
        // The exact minute of a wait of days is noise.
        let ago = if ago >= 86_400 { ago - ago % 3600 } else { ago };
        format!(" since {}", span(ago))
    });
    let mut out = format!(
        "{}: {}{}.\n",
        clean(&w.zone),
        clean(&w.summary),
        since.unwrap_or_default()
    );
    let mut labelled = |label: &str, text: String| out.push_str(&format!("  {label:<8}  {text}\n"));
    let mut label = "Evidence";
    for evidence in &w.evidence {
        for line in evidence_lines(evidence) {
            labelled(label, line);
            label = "";
        }
    }
    if let Some(at) = w.next_at {
        let what = w.next.as_deref().unwrap_or("asks again");
        labelled("Next", format!("{} at {}", clean(what), at.to_human()));
    }
    match w.runway_secs {
        Some(secs) if secs > 0 => {
            let rest = if w.acts.is_some() {
                "; nothing breaks while this waits"
            } else {
                ""
            };
            labelled(
                "Safe",
                format!("signatures valid for {}{rest}", signed_span(secs)),
            );
        }
        Some(secs) => labelled(
            "Broken",
            format!("signatures expired {} ago", signed_span(-secs)),
        ),
        None => {}
    }
    let mut label = "Try";
    for action in &w.actions {
        labelled(label, clean(action));
        label = "";
    }
    out
}

fn evidence_lines(e: &Evidence) -> Vec<String> {
    if let Some(text) = &e.text {
        return vec![clean(text)];
    }
    let tags = |t: &[u16]| t.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let what = clean(&e.what.to_uppercase());
    let place = [e.name.as_deref(), e.at.as_deref()]
        .into_iter()
        .flatten()
        .map(clean);
    let place = place.collect::<Vec<_>>().join(" ");
    let found = if e.found.is_empty() {
        "none".to_string()
    } else {
        format!("{} only", tags(&e.found))
    };
    let ttl = e.ttl_secs.map_or(String::new(), |t| format!(" (TTL {t})"));
    let asked = e
        .asked_at
        .map_or(String::new(), |at| format!(", asked {}", at.to_human()));
    vec![
        format!("{place} has {what} {found}{ttl}{asked}"),
        format!("expected {what} {}", tags(&e.expected)),
    ]
}
