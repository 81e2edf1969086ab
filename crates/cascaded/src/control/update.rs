//! `POST /v1/zones/{z}/update`: changes as nsupdate(1) takes them.

use std::time::Duration;

use cascade_api::common::{Finding, Level, SubjectKind};
use cascade_api::zones::{Change, Source, UpdateOutcome, UpdateRequest, UpdateResult, Updated};
use cascade_api::{Problem, ProblemType};
use cascade_loader::update::script::{ScriptError, Scripted, parse};
use cascade_loader::update::{Asked, Making, Refused, Request, make};
use cascade_wire::rcode;
use cascade_zone::{Name, Rtype, VersionId, diff};
use tokio::sync::oneshot;

use super::bug;
use crate::daemon::Daemon;
use crate::http::Caller;
use crate::update::{self, By, Incoming, UnableKind, Verdict};
use crate::zone::ZoneHandle;

type Answer<T> = Result<T, Problem>;

/// Requests of one text.
const MAX_REQUESTS: usize = 1000;
/// Changes shown by a dry run.
const MAX_SHOWN: usize = 10_000;
/// Longer than a zone takes to say anything.
const LONGEST: Duration = Duration::from_secs(60);

/// Carries out the requests of a text one after the other, up to the first that is refused.
pub async fn update(z: &ZoneHandle, caller: &Caller, r: &UpdateRequest) -> Answer<Updated> {
    let script = read(z, r)?;
    let mut done = Updated {
        zone: z.name.clone(),
        requests: Vec::with_capacity(script.len()),
        changes: Vec::new(),
        dry_run: false,
    };
    for scripted in script {
        let verdict = ask(z, caller, scripted.request).await?;
        let result = result(scripted.line, &verdict);
        let refused = result.outcome == UpdateOutcome::Refused;
        done.requests.push(result);
        if refused {
            break;
        }
    }
    Ok(done)
}

/// What the text would change now.
pub fn dry_run(d: &Daemon, z: &ZoneHandle, r: &UpdateRequest) -> Answer<Updated> {
    let script = read(z, r)?;
    let view = z.view();
    let policy = d.policy(&view.row.zone.settings.policy);
    let (Some(base), Some(policy)) = (view.content.clone(), policy) else {
        return Err(not_ready(
            z,
            "the zone's first version is not published yet",
        ));
    };
    let permit = |_: &Name, _: Rtype| true;
    let lines: Vec<usize> = script.iter().map(|s| s.line).collect();
    let asked: Vec<Asked<'_>> = script
        .into_iter()
        .map(|s| Asked {
            request: Ok(s.request),
            permit: &permit,
        })
        .collect();
    let p = &policy.file.policy;
    let making = Making {
        base: &base,
        version: VersionId(0),
        checks: &crate::zone::checks(&p.loader.checks),
        max_ttl: crate::zone::max_ttl(p),
        now: d.now(),
    };
    let mut made = d.pool.install(|| make(&asked, &making)).map_err(bug)?;
    let refused = made.answers.iter().position(Result::is_err);
    if let Some(n) = refused {
        // Nothing behind it would be carried out.
        made = d.pool.install(|| make(&asked[..n], &making)).map_err(bug)?;
        let one = make(&asked[..=n], &making).map_err(bug)?;
        made.answers.extend(one.answers.into_iter().nth(n));
    }
    let mut changes = Vec::new();
    if let Some(new) = &made.version {
        diff(&base, new, &mut |c| {
            if changes.len() < MAX_SHOWN {
                changes.push(Change {
                    op: if c.removed { "-" } else { "+" }.into(),
                    record: crate::text::record(c.owner, c.rtype, c.ttl, c.rdata),
                });
            }
        });
    }
    let verdict = |a: &Result<_, Refused>| match a {
        Ok(cascade_loader::update::Changed::Yes(serial)) => Verdict::Published(*serial),
        Ok(cascade_loader::update::Changed::No) => Verdict::Unchanged,
        Err(refused) => Verdict::Refused(refused.clone()),
    };
    Ok(Updated {
        zone: z.name.clone(),
        requests: lines
            .iter()
            .zip(&made.answers)
            .map(|(line, a)| UpdateResult {
                serial: None,
                ..result(*line, &verdict(a))
            })
            .collect(),
        changes,
        dry_run: true,
    })
}

fn read(z: &ZoneHandle, r: &UpdateRequest) -> Answer<Vec<Scripted>> {
    if !matches!(z.view().row.source, Source::Update { .. }) {
        let detail = format!(
            "the content of zone '{}' comes from its source; it is changed there",
            z.name
        );
        return Err(Problem::new(ProblemType::NoSource, detail)
            .subject(SubjectKind::Zone, &z.name)
            .action(format!(
                "to own the content here: cascade zone edit {} --source update:",
                z.name
            )));
    }
    let script = parse(&r.text, &z.apex).map_err(|errors| refused_text(&errors, r))?;
    if script.requests.len() > MAX_REQUESTS {
        let detail = format!(
            "{} requests in one text; at most {MAX_REQUESTS} are taken",
            script.requests.len()
        );
        return Err(Problem::new(ProblemType::InvalidValue, detail));
    }
    if script.requests.is_empty() {
        let detail = "there is no command in the text";
        return Err(Problem::new(ProblemType::InvalidValue, detail)
            .action("write for example: update add www.example.net. 3600 A 192.0.2.1"));
    }
    Ok(script.requests)
}

fn refused_text(errors: &[ScriptError], r: &UpdateRequest) -> Problem {
    let n = errors.len();
    let detail = match n {
        1 => "a command cannot be read".to_string(),
        n => format!("{n} commands cannot be read"),
    };
    let mut p = Problem::new(ProblemType::InvalidValue, detail).state("nothing changed");
    p.errors = errors
        .iter()
        .map(|e| Finding {
            file: r.file.clone(),
            line: Some(e.line as u64),
            column: Some(e.column as u64),
            code: None,
            level: Some(Level::Error),
            detail: e.message.clone(),
            suggestion: None,
        })
        .collect();
    p
}

fn not_ready(z: &ZoneHandle, why: &str) -> Problem {
    Problem::new(ProblemType::Busy, format!("zone '{}': {why}", z.name))
        .subject(SubjectKind::Zone, &z.name)
        .retry_after(2)
}

async fn ask(z: &ZoneHandle, caller: &Caller, request: Request) -> Answer<Verdict> {
    let (reply, verdict) = oneshot::channel();
    let asked = Incoming {
        asked: update::Asked::Request(Box::new(request)),
        by: By::Person(caller.actor.clone()),
        reply,
    };
    if z.line.try_update(Box::new(asked)).is_err() {
        return Err(not_ready(z, "too many updates wait"));
    }
    match tokio::time::timeout(LONGEST, verdict).await {
        Ok(Ok(verdict)) => Ok(verdict),
        Ok(Err(_)) => Err(bug(format!(
            "zone '{}' gave no answer; see the log",
            z.name
        ))),
        Err(_) => {
            Err(not_ready(z, "no answer in time").state("the change may still be carried out"))
        }
    }
}

fn result(line: usize, verdict: &Verdict) -> UpdateResult {
    let mut out = UpdateResult {
        line: line as u64,
        outcome: UpdateOutcome::Unchanged,
        code: "NOERROR".into(),
        serial: None,
        detail: None,
    };
    match verdict {
        Verdict::Unchanged => {}
        Verdict::Published(serial) => {
            out.outcome = UpdateOutcome::Published;
            out.serial = Some(serial.0);
        }
        Verdict::Accepted(why) => {
            out.outcome = UpdateOutcome::Accepted;
            out.detail = Some(why.clone());
        }
        Verdict::Refused(refused) => {
            out.outcome = UpdateOutcome::Refused;
            out.code = code_text(refused.rcode()).into();
            out.detail = Some(refused.to_string());
        }
        Verdict::Unable(u) => {
            out.outcome = UpdateOutcome::Refused;
            out.code = match u.kind {
                UnableKind::Elsewhere | UnableKind::Content => "REFUSED".into(),
                UnableKind::NotReady | UnableKind::Other => "SERVFAIL".into(),
            };
            out.detail = Some(u.text.clone());
        }
    }
    out
}

/// RFC 2136 §2.2.
fn code_text(code: u16) -> &'static str {
    match code {
        rcode::NOERROR => "NOERROR",
        rcode::FORMERR => "FORMERR",
        rcode::NXDOMAIN => "NXDOMAIN",
        rcode::REFUSED => "REFUSED",
        rcode::YXDOMAIN => "YXDOMAIN",
        cascade_loader::update::rcode::YXRRSET => "YXRRSET",
        cascade_loader::update::rcode::NXRRSET => "NXRRSET",
        cascade_loader::update::rcode::NOTZONE => "NOTZONE",
        rcode::NOTAUTH => "NOTAUTH",
        _ => "SERVFAIL",
    }
}
