//! Calls that wait for a second person: kept with the state until
//! somebody else agrees, refuses, or the time is over.

use cascade_api::common::{List, PageQuery, SubjectKind};
use cascade_api::second::SecondRequest;
use cascade_api::{Problem, ProblemType, Roles, RouteId};
use cascade_archive::{Change, Table};
use cascade_policy::TwoPersonVerb;
use serde::{Deserialize, Serialize};

use super::{Answer, bug};
use crate::daemon::{Daemon, random};
use crate::http::{Caller, Deed, Second};

/// Requests at a time.
const MAX: usize = 64;
/// Where they are in the state.
const KEY: &str = "second-person";

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    request: SecondRequest,
    method: String,
    target: String,
    body: String,
    from: String,
    roles: Vec<cascade_api::Role>,
    zones: Option<String>,
}

/// The verb of a route, if it may need a second person.
pub fn verb(route: RouteId) -> Option<TwoPersonVerb> {
    match route {
        RouteId::ZoneRollback => Some(TwoPersonVerb::Rollback),
        RouteId::ZoneRemove => Some(TwoPersonVerb::RemoveZone),
        RouteId::KeyRemove => Some(TwoPersonVerb::RemoveKey),
        RouteId::Emergency => Some(TwoPersonVerb::Emergency),
        RouteId::ReviewOverride => Some(TwoPersonVerb::Override),
        RouteId::PolicyReload => Some(TwoPersonVerb::PolicyApply),
        _ => None,
    }
}

pub fn is_needed(d: &Daemon, route: RouteId) -> bool {
    let list = &d.conf().config.remote_control.two_person;
    verb(route).is_some_and(|v| list.contains(&v))
}

/// Where everything is checked and agreed to, and nothing is done yet: whoever calls alone goes no
/// further. `plan` names what was agreed to.
///
/// # Errors
/// A second person is needed.
pub fn need_second(caller: &Caller, plan: &str, effects: Vec<String>) -> Answer<()> {
    match caller.second {
        Second::NotNeeded | Second::Given => Ok(()),
        Second::Needed => Err(Problem::new(
            ProblemType::SecondPersonRequired,
            "a second person must agree",
        )
        .plan(plan, effects)),
    }
}

/// Those that can still be agreed to, oldest first.
fn pending(d: &Daemon) -> Answer<Vec<Kept>> {
    let now = d.now();
    let all: Option<Vec<Kept>> = d.state.get(Table::Settings, KEY).map_err(bug)?;
    let mut all = all.unwrap_or_default();
    all.retain(|k| k.request.expires_at > now);
    Ok(all)
}

fn store(d: &Daemon, all: &[Kept]) -> Answer<()> {
    let change = Change::put(Table::Settings, KEY, &all).map_err(bug)?;
    d.state.commit(vec![change]).map_err(|e| {
        Problem::new(
            ProblemType::StorageFull,
            format!("the request could not be kept: {e}"),
        )
        .state("nothing changed")
    })
}

/// Blocking.
pub fn list(d: &Daemon, page: &PageQuery) -> Answer<List<SecondRequest>> {
    let all = pending(d)?.into_iter().map(|k| k.request).collect();
    Ok(List::page(all, page, |r: &SecondRequest| r.id.clone()))
}

/// Keeps a call. Durable when this returns. Blocking.
pub fn add(d: &Daemon, caller: &Caller, deed: Deed, effects: Vec<String>) -> Answer<SecondRequest> {
    let _turn = d.second.lock();
    let mut all = pending(d)?;
    if all.len() >= MAX {
        return Err(Problem::new(
            ProblemType::Busy,
            format!("{MAX} requests wait for a second person already"),
        )
        .action("cascade request list"));
    }
    let now = d.now();
    let rc = &d.conf().config.remote_control;
    let number = u64::from_le_bytes(random());
    let call = format!(
        "{} {}",
        deed.method,
        deed.target.split('?').next().unwrap_or_default()
    );
    let request = SecondRequest {
        id: format!("r-{:08x}", number as u32),
        verb: deed.verb,
        zone: deed.zone,
        call,
        effects,
        by: caller.actor.clone(),
        comment: deed.comment,
        requested_at: now,
        expires_at: now + rc.two_person_expiry,
    };
    let roles = cascade_api::Role::ALL.into_iter();
    all.push(Kept {
        request: request.clone(),
        method: deed.method,
        target: deed.target,
        body: deed.body,
        from: caller.from.clone(),
        roles: roles.filter(|r| caller.roles.has(*r)).collect(),
        zones: caller.zones.clone(),
    });
    store(d, &all)?;
    Ok(request)
}

/// Takes a request out, for whoever may: agreed to, it is carried out once. Blocking.
///
/// # Errors
/// It is not there (any more), or it is the caller's own and `own` ones are not theirs to take.
pub fn take(
    d: &Daemon,
    caller: &Caller,
    id: &str,
    own: bool,
) -> Answer<(SecondRequest, Deed, Caller)> {
    let _turn = d.second.lock();
    let mut all = pending(d)?;
    let Some(i) = all.iter().position(|k| k.request.id == id) else {
        return Err(Problem::new(
            ProblemType::OperationNotFound,
            format!("no request '{id}' waits for a second person"),
        )
        .subject(SubjectKind::Operation, id)
        .action("cascade request list"));
    };
    let request = &all[i].request;
    if request.by == caller.actor && !own {
        return Err(Problem::new(
            ProblemType::SecondPersonRequired,
            format!("request '{id}' is yours; somebody else must agree"),
        )
        .subject(SubjectKind::Operation, id));
    }
    if let Some(pattern) = &caller.zones {
        // What is not about one zone is about all.
        crate::http::zone_in_body(request.zone.as_deref().unwrap_or("*"), pattern)?;
    }
    let kept = all.remove(i);
    store(d, &all)?;
    let first = Caller {
        actor: format!("{} with {}", kept.request.by, caller.actor),
        from: kept.from,
        roles: kept.roles.into_iter().fold(Roles::NONE, Roles::with),
        zones: kept.zones,
        second: Second::Given,
    };
    let deed = Deed {
        verb: kept.request.verb.clone(),
        zone: kept.request.zone.clone(),
        method: kept.method,
        target: kept.target,
        body: kept.body,
        comment: kept.request.comment.clone(),
    };
    Ok((kept.request, deed, first))
}
