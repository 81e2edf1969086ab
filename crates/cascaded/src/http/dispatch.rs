//! One `match` over the routes: parameters and body in, a function of the backend, answer out.

use axum::body::Body;
use axum::extract::Query;
use cascade_api::common::{Commented, Confirm, PageQuery, Stage};
use cascade_api::daemon::LoggingEdit;
use cascade_api::keys::{RecordKind, RollKind};
use cascade_api::parse::{parse_request, query_problem};
use cascade_api::path::zone_of_segment;
use cascade_api::second::Asked;
use cascade_api::zones::{Verdict, ZoneAdd};
use cascade_api::{MAX_COMMENT, Problem, ProblemType, Route, RouteId, openapi};
use hyper::{Response, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answer;
use super::backend::{Backend, Caller, Deed, Done, Second};
use super::router::Params;

/// A call that passed the guards, with its whole body.
pub struct Request {
    pub route: &'static Route,
    pub params: Params,
    pub uri: Uri,
    pub body: bytes::Bytes,
    pub caller: Caller,
}

type Answered = Result<Response<Body>, Problem>;

/// Performs the call, or keeps it for a second person.
pub async fn dispatch<B: Backend>(b: &B, mut r: Request) -> Answered {
    if r.route.id == RouteId::SecondApprove {
        return approve(b, r).await;
    }
    let Some(verb) = b.two_person(r.route.id) else {
        return perform(b, r).await;
    };
    r.caller.second = Second::Needed;
    let caller = r.caller.clone();
    let zone = r.params.contains_key("z").then(|| r.zone());
    let (method, uri, body) = (r.route.method, r.uri.clone(), r.body.clone());
    let problem = match perform(b, r).await {
        Err(p) if p.kind == ProblemType::SecondPersonRequired => p,
        other => return other,
    };
    let plan = problem.plan.unwrap_or_default();
    let (target, body, comment) = bound(&uri, &body, &plan);
    let deed = Deed {
        verb,
        zone,
        method: method.as_str().into(),
        target,
        body,
        comment,
    };
    let request = b.second_add(caller, deed, problem.effects).await?;
    Ok(answer::json(202, &Asked { request }))
}

/// The call with the plan in the place of a general consent: what the second person agrees to is what
/// the first one saw.
fn bound(uri: &Uri, body: &[u8], plan: &str) -> (String, String, Option<String>) {
    let mut query: Vec<String> = Vec::new();
    for part in uri.query().unwrap_or_default().split('&') {
        let name = part.split('=').next().unwrap_or_default();
        if !part.is_empty() && !["yes", "confirm"].contains(&name) {
            query.push(part.into());
        }
    }
    let mut comment = None;
    let mut text = String::from_utf8_lossy(body).into_owned();
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(serde_json::Value::Object(mut members)) => {
            comment = members
                .get("comment")
                .and_then(|c| c.as_str())
                .map(str::to_owned);
            members.remove("yes");
            let key = match uri.path() == "/v1/policies/reload" {
                true => "plan",
                false => "confirm",
            };
            members.insert(key.into(), plan.into());
            text = serde_json::Value::Object(members).to_string();
        }
        _ => query.push(format!("confirm={}", cascade_api::path::encode(plan))),
    }
    let target = match query.is_empty() {
        true => uri.path().to_owned(),
        false => format!("{}?{}", uri.path(), query.join("&")),
    };
    (target, text, comment)
}

/// Somebody else agrees: the call is carried out as if it came now.
async fn approve<B: Backend>(b: &B, r: Request) -> Answered {
    let comment = r.json::<Commented>()?.comment;
    let id = r.param("id");
    let (deed, caller) = b.second_approve(r.caller.clone(), id, comment).await?;
    let broken = || Problem::new(ProblemType::Bug, "the call that was kept leads nowhere");
    let uri: Uri = deed.target.parse().map_err(|_| broken())?;
    let super::router::Found::Route(route, params) = super::router::find(&deed.method, uri.path())
    else {
        return Err(broken());
    };
    let call = Request {
        route,
        params,
        uri,
        body: deed.body.into_bytes().into(),
        caller,
    };
    perform(b, call).await
}

async fn perform<B: Backend>(b: &B, mut r: Request) -> Answered {
    use RouteId as R;
    let dry = r.take_dry_run()?;
    let caller = r.caller.clone();
    match r.route.id {
        R::Livez => Ok(answer::text(200, "ok\n")),
        R::Readyz => Ok(match b.ready().await {
            Ok(()) => answer::text(200, "ok\n"),
            Err(missing) => answer::text(503, format!("not ready: {missing}\n")),
        }),
        R::Metrics => Ok(answer::raw(
            200,
            "text/plain; version=0.0.4; charset=utf-8",
            b.metrics().await,
        )),
        R::Openapi => ok(&openapi::document()),
        R::Info => ok(&b.info().await?),
        R::Status => ok(&b.status().await?),
        R::StatusKeys => ok(&b.status_keys().await?),
        R::Health => health(b, false).await,
        R::HealthDeep => health(b, true).await,

        R::ZoneList => ok(&b.zone_list(r.query()?).await?),
        R::ZoneAdd => {
            let add: ZoneAdd = r.json()?;
            if let Some(pattern) = &caller.zones
                && let Err(problem) = super::guard::zone_in_body(&add.zone, pattern)
            {
                b.refused(&caller, r.route, r.uri.path(), &problem).await;
                return Err(problem);
            }
            let zone = b.zone_add(caller, add, dry).await?;
            Ok(answer::json(if dry { 200 } else { 201 }, &zone))
        }
        R::ZoneShow => ok(&b.zone_show(r.zone()).await?),
        R::ZoneEdit => match b.zone_edit(caller, r.zone(), r.json()?, dry).await? {
            Done::Now(zone) => ok(&zone),
            Done::Later(zone, operation) => Ok(later(&zone, Some(&operation))),
        },
        R::ZoneRemove => gone(b.zone_remove(caller, r.zone(), r.query()?).await),
        R::ZoneStatus => ok(&b.zone_status(r.zone()).await?),
        R::ZoneWhy => ok(&b.zone_why(r.zone()).await?),
        R::ZoneHistory => ok(&b.zone_history(r.zone(), r.query()?).await?),
        R::VersionList => ok(&b.versions(r.zone(), r.query()?).await?),
        R::VersionShow => ok(&b.version(r.zone(), r.param("v")).await?),
        R::ZoneDiff => ok(&b.zone_diff(r.zone(), r.query()?).await?),
        R::ZoneExport => Ok(answer::streamed(b.zone_export(r.zone(), r.query()?).await?)),
        R::ZoneReload => accepted(b.zone_reload(caller, r.zone(), r.json()?).await?),
        R::ZoneUpdate => ok(&b.zone_update(caller, r.zone(), r.json()?, dry).await?),
        R::ZoneResign => accepted(b.zone_resign(caller, r.zone(), r.json()?).await?),
        R::ZoneReset => accepted(b.zone_reset(caller, r.zone(), r.json()?).await?),
        R::ZoneRollback => {
            let done = b.zone_rollback(caller, r.zone(), r.json()?, dry).await?;
            match dry {
                true => ok(&done),
                false => accepted(done),
            }
        }
        R::PinOn => ok(&b.pin_on(caller, r.zone(), r.json()?).await?),
        R::PinOff => {
            let comment = r.query::<Commented>()?.comment;
            gone(b.pin_off(caller, r.zone(), comment).await)
        }
        R::ReviewApprove => review(b, r, Verdict::Approved).await,
        R::ReviewReject => review(b, r, Verdict::Rejected).await,
        R::ReviewOverride => {
            let stage = r.stage()?;
            accepted(
                b.review_override(caller, r.zone(), stage, r.json()?)
                    .await?,
            )
        }
        R::MaintenanceOn => ok(&b.maintenance_on(caller, r.zone(), r.json()?).await?),
        R::MaintenanceOff => {
            let comment = r.query::<Commented>()?.comment;
            gone(b.maintenance_off(caller, r.zone(), comment).await)
        }
        R::KeyList => ok(&b.key_list(r.zone(), r.query()?).await?),
        R::KeyShow => ok(&b.key_show(r.zone(), r.param("k")).await?),
        R::KeyRecords => {
            let kind = r.choice("type", "ds, dnskey, cds or cdnskey", RecordKind::parse)?;
            ok(&b.key_records(r.zone(), kind, r.query()?).await?)
        }
        R::KeyImport => {
            let imported = b.key_import(caller, r.zone(), r.json()?).await?;
            Ok(answer::json(201, &imported))
        }
        R::KeyCheck => {
            r.json::<Commented>()?;
            ok(&b.key_check(caller, r.zone()).await?)
        }
        R::KeyRemove => gone(
            b.key_remove(caller, r.zone(), r.param("k"), r.query()?)
                .await,
        ),
        R::KeyBackedUp => {
            let comment = r.json::<Commented>()?.comment;
            ok(&b
                .key_backed_up(caller, r.zone(), r.param("k"), comment)
                .await?)
        }
        R::KeyRestore => {
            let comment = r.json::<Commented>()?.comment;
            ok(&b
                .key_restore(caller, r.zone(), r.param("k"), comment)
                .await?)
        }
        R::Emergency => ok(&b.emergency(caller, r.zone(), r.json()?).await?),
        R::Timeline => ok(&b.timeline(r.zone(), r.query()?).await?),
        R::RollList => ok(&b.roll_list(r.zone(), r.query()?).await?),
        R::RollStep => {
            let kind = r.choice("kind", "ksk, zsk, csk or algorithm", RollKind::parse)?;
            ok(&b
                .roll_step(caller, r.zone(), kind, r.param("step"), r.json()?)
                .await?)
        }

        R::PolicyList => ok(&b.policy_list(r.query()?).await?),
        R::PolicyShow => ok(&b.policy_show(r.param("p")).await?),
        R::PolicyCheck => ok(&b.policy_check(r.json()?).await?),
        R::PolicyPlan => ok(&b.policy_plan(r.json()?).await?),
        R::PolicyReload => ok(&b.policy_reload(caller, r.json()?, dry).await?),

        R::HsmList => ok(&b.hsm_list(r.query()?).await?),
        R::HsmAdd => {
            let added = b.hsm_add(caller, r.json()?, dry).await?;
            Ok(answer::json(if dry { 200 } else { 201 }, &added))
        }
        R::HsmShow => ok(&b.hsm_show(r.param("h")).await?),
        R::HsmEdit => ok(&b.hsm_edit(caller, r.param("h"), r.json()?, dry).await?),
        R::HsmTest => ok(&b.hsm_test(caller, r.param("h"), r.json()?).await?),
        R::HsmBench => ok(&b.hsm_bench(caller, r.param("h"), r.json()?).await?),
        R::HsmInventory => ok(&b.hsm_inventory(r.param("h")).await?),
        R::HsmOrphan => {
            let confirm = r.query::<Confirm>()?;
            gone(
                b.hsm_orphan(caller, r.param("h"), r.param("object"), confirm)
                    .await,
            )
        }
        R::HsmRemove => {
            let confirm = r.query::<Confirm>()?;
            gone(b.hsm_remove(caller, r.param("h"), confirm, dry).await)
        }
        R::TsigList => ok(&b.tsig_list(r.query()?).await?),
        R::TsigAdd => Ok(answer::json(201, &b.tsig_add(caller, r.json()?).await?)),
        R::TsigRemove => {
            let comment = r.query::<Commented>()?.comment;
            gone(b.tsig_remove(caller, r.param("n"), comment).await)
        }
        R::TokenList => ok(&b.token_list(r.query()?).await?),
        R::TokenAdd => Ok(answer::json(201, &b.token_add(caller, r.json()?).await?)),
        R::TokenRemove => {
            let comment = r.query::<Commented>()?.comment;
            gone(b.token_remove(caller, r.param("n"), comment).await)
        }

        R::BackupCreate => Ok(answer::json(
            201,
            &b.backup_create(caller, r.json()?).await?,
        )),
        R::ClockConfirm => {
            let comment = r.json::<Commented>()?.comment;
            ok(&b.clock_confirm(caller, comment).await?)
        }
        R::LoggingShow => ok(&b.logging().await?),
        R::LoggingEdit => {
            let edit: LoggingEdit = r.json()?;
            ok(&b.logging_edit(caller, edit).await?)
        }
        R::OperationList => ok(&b.operation_list(r.query::<PageQuery>()?).await?),
        R::SecondList => ok(&b.second_list(r.query::<PageQuery>()?).await?),
        R::SecondReject => {
            let comment = r.json::<Commented>()?.comment;
            ok(&b.second_reject(caller, r.param("id"), comment).await?)
        }
        // A kept call is never another approval.
        R::SecondApprove => Err(super::router::not_found(r.uri.path())),
        R::OperationShow => ok(&b.operation(r.param("id")).await?),
    }
}

fn ok<T: Serialize>(document: &T) -> Answered {
    Ok(answer::json(200, document))
}

fn gone(result: Result<(), Problem>) -> Answered {
    result.map(|()| answer::empty(204))
}

fn accepted(accepted: cascade_api::Accepted) -> Answered {
    Ok(later(&accepted, accepted.operation.as_deref()))
}

fn later<T: Serialize>(document: &T, operation: Option<&str>) -> Response<Body> {
    let mut response = answer::json(202, document);
    if let Some(id) = operation {
        let place = format!("/v1/operations/{}", cascade_api::path::encode(id));
        answer::set(&mut response, hyper::header::LOCATION, &place);
    }
    response
}

/// 503 when critical, so that load balancers and probes can use it.
async fn health<B: Backend>(b: &B, deep: bool) -> Answered {
    let health = b.health(deep).await?;
    let critical = health.level >= cascade_api::common::Level::Error;
    Ok(answer::json(if critical { 503 } else { 200 }, &health))
}

async fn review<B: Backend>(b: &B, r: Request, verdict: Verdict) -> Answered {
    let stage = r.stage()?;
    let serial = r.choice("serial", "a number from 0 to 4294967295", |s| {
        s.parse().ok()
    })?;
    let comment = r.json::<Commented>()?.comment;
    ok(&b
        .review(r.caller.clone(), r.zone(), stage, serial, verdict, comment)
        .await?)
}

impl Request {
    fn param(&self, name: &str) -> String {
        self.params.get(name).cloned().unwrap_or_default()
    }

    fn zone(&self) -> String {
        zone_of_segment(&self.param("z"))
    }

    fn stage(&self) -> Result<Stage, Problem> {
        self.choice("stage", "unsigned or signed", Stage::parse)
    }

    /// A part of the path that has few values.
    fn choice<T>(
        &self,
        name: &str,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Problem> {
        let given = self.param(name);
        parse(&given).ok_or_else(|| {
            Problem::new(
                ProblemType::InvalidValue,
                format!("{name} in the path is '{given}'; it must be {allowed}"),
            )
        })
    }

    fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        check_comment(&self.body)?;
        parse_request(&self.body)
    }

    fn query<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        Query::<T>::try_from_uri(&self.uri)
            .map(|Query(q)| q)
            .map_err(|e| query_problem(&e.body_text()))
    }

    /// Cuts `dry_run` out of the query. Refused where the route does not know it: a caller who
    /// asks for a trial must not get the deed.
    fn take_dry_run(&mut self) -> Result<bool, Problem> {
        let Some(query) = self.uri.query() else {
            return Ok(false);
        };
        let (flags, rest): (Vec<&str>, Vec<&str>) = query
            .split('&')
            .partition(|p| *p == "dry_run" || p.starts_with("dry_run="));
        if flags.is_empty() {
            return Ok(false);
        }
        if !self.route.dry_run {
            return Err(query_problem("unknown field `dry_run`"));
        }
        let dry = match flags.as_slice() {
            ["dry_run" | "dry_run=true"] => true,
            ["dry_run=false"] => false,
            _ => {
                return Err(Problem::new(
                    ProblemType::InvalidValue,
                    "query parameter dry_run must be 'true' or 'false'",
                ));
            }
        };
        let target = format!("{}?{}", self.uri.path(), rest.join("&"));
        self.uri = target.parse().map_err(|_| {
            Problem::new(
                ProblemType::MalformedRequest,
                "the query string is not well-formed",
            )
        })?;
        Ok(dry)
    }
}

/// Comments go into the audit log and are bounded there.
fn check_comment(body: &[u8]) -> Result<(), Problem> {
    #[derive(serde::Deserialize)]
    struct OnlyComment<'a> {
        #[serde(borrow)]
        comment: Option<std::borrow::Cow<'a, str>>,
    }
    match serde_json::from_slice::<OnlyComment<'_>>(body) {
        Ok(OnlyComment { comment: Some(c) }) if c.len() > MAX_COMMENT => Err(Problem::new(
            ProblemType::InvalidValue,
            format!(
                "comment has {} bytes; at most {MAX_COMMENT} are kept",
                c.len()
            ),
        )),
        // Anything else that is wrong is told by the real parser.
        _ => Ok(()),
    }
}
