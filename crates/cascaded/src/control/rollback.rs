//! Going back to older content, and holding what is published.

use std::sync::Arc;

use cascade_api::common::{Accepted, Confirm, SubjectKind};
use cascade_api::status::Pin;
use cascade_api::zones::{PinRequest, RollbackRequest};
use cascade_api::{Problem, ProblemType};
use cascade_pipeline::Command;
use cascade_pipeline::state::Retained;
use cascade_zone::VersionId;

use super::operations::Goal;
use super::second::need_second;
use super::zones::{accepted, ask};
use super::{Answer, need_consent};
use crate::daemon::Daemon;
use crate::http::Caller;
use crate::zone::{View, ZoneHandle};

/// Publishes the content of a version that is kept again, under a new serial.
pub async fn rollback(
    d: &Arc<Daemon>,
    z: &ZoneHandle,
    caller: &Caller,
    r: &RollbackRequest,
    dry_run: bool,
) -> Answer<Accepted> {
    let view = z.view();
    let kept = kept(z, &view, &r.to)?;
    let what = format!("{} (serial {})", kept.version, kept.serial);
    let mut effects = vec![format!(
        "the content of {what}, published {}, replaces what zone '{}' publishes now; it gets a new, higher serial",
        kept.published_at.to_rfc3339(),
        z.name
    )];
    effects.push(match r.pin {
        true => "it is pinned: newer content waits until the zone is unpinned".into(),
        false => "it is not pinned: the next change of the source replaces it again".into(),
    });
    if dry_run {
        return Ok(Accepted {
            zone: z.name.clone(),
            operation: None,
            queued: false,
            detail: Some(effects.join("; ")),
            warnings: Vec::new(),
        });
    }
    let consent = Confirm {
        confirm: r.confirm.clone(),
        yes: r.yes,
        comment: None,
    };
    let plan = format!("rollback-{}-{}-{}", z.id, kept.version, r.pin);
    need_consent(&consent, &plan, effects.clone())?;
    need_second(caller, &plan, effects)?;
    let (version, of) = (kept.version, kept.of);
    let command = Command::Rollback {
        to: version,
        pin: r.pin,
    };
    let (a, mark) = ask(z, caller, command).await?;
    let goal = Goal::Rollback(of);
    let operation = d.operations.begin(z, "rollback", goal, mark, d.now());
    let mut answer = accepted(z, a, operation);
    answer.detail.get_or_insert(what);
    Ok(answer)
}

/// What is published stays until it is unpinned or the time is over; it is refreshed all the same.
pub async fn pin(d: &Daemon, z: &ZoneHandle, caller: &Caller, r: &PinRequest) -> Answer<Pin> {
    let now = d.now();
    if r.until.is_some_and(|u| u <= now) {
        return Err(Problem::new(
            ProblemType::InvalidValue,
            "the end of the pin lies in the past",
        ));
    }
    let view = z.view();
    let live = view.row.zone.live.as_ref();
    if let (Some(wanted), Some(live)) = (&r.version, live) {
        let is_live =
            wanted == "current" || kept(z, &view, wanted).is_ok_and(|k| k.version == live.version);
        if !is_live {
            return Err(Problem::new(
                ProblemType::InvalidValue,
                format!(
                    "version '{wanted}' is not the one that zone '{}' publishes, which is {}; only that can be pinned",
                    z.name, live.version
                ),
            )
            .subject(SubjectKind::Version, wanted)
            .action(format!("cascade zone rollback {} --to {wanted}", z.name)));
        }
    }
    let span = r.until.map(|u| u.since(now));
    ask(z, caller, Command::Pin { span }).await?;
    let view = z.view();
    let set = view.row.zone.modes.pin.as_ref();
    Ok(Pin {
        version: set.map_or_else(String::new, |p| p.version.to_string()),
        since: set.map_or(now, |p| p.since),
        until: set.and_then(|p| p.until),
        by: set.map(|p| p.by.clone()),
    })
}

pub async fn unpin(z: &ZoneHandle, caller: &Caller) -> Answer<()> {
    ask(z, caller, Command::Unpin).await.map(drop)
}

/// The version of that name among those that were published and are kept.
fn kept(z: &ZoneHandle, view: &View, name: &str) -> Answer<Retained> {
    let zone = &view.row.zone;
    let list = &zone.retained;
    let found = match name {
        // The same content signed again is nothing to go back to.
        "previous" => {
            let now = zone.live.as_ref().map(|l| l.content_fp);
            list.iter().find(|r| Some(r.content_fp) != now)
        }
        other => {
            let number = |prefix: &str| other.strip_prefix(prefix)?.parse::<u64>().ok();
            match (number("v").map(VersionId), number("serial:")) {
                (Some(v), _) => list.iter().find(|r| r.version == v || r.of == v),
                (_, Some(s)) => list.iter().find(|r| u64::from(r.serial.0) == s),
                _ => {
                    return Err(Problem::new(
                        ProblemType::InvalidValue,
                        format!("'{other}' names no version that was published"),
                    )
                    .action("write v<N>, serial:<N> or previous"));
                }
            }
        }
    };
    found.cloned().ok_or_else(|| {
        let live = zone.live.as_ref().map(|l| l.version);
        let others = list.iter().filter(|r| Some(r.version) != live);
        let have: Vec<String> = others
            .map(|r| format!("{} (serial {})", r.version, r.serial))
            .collect();
        let text = match have.is_empty() {
            true => "no older version is kept".to_string(),
            false => format!("kept are {}", have.join(", ")),
        };
        Problem::new(
            ProblemType::VersionNotFound,
            format!(
                "zone '{}' has no version '{name}' to go back to: {text}",
                z.name
            ),
        )
        .subject(SubjectKind::Version, name)
        .action(format!("cascade zone history {}", z.name))
    })
}
