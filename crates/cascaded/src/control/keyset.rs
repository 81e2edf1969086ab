//! Rolls and keys by order of an operator; what will come.

use std::sync::Arc;
use std::time::Duration;

use cascade_api::common::{Acts, Confirm, List, PageQuery, SubjectKind};
use cascade_api::keys::{
    EmergencyRequest, EmergencyStrategy, Key, KeyCheck, KeyImport, KeyImported, KeyRemove, Roll,
    RollKind, RollStep, Timeline, TimelineItem, TimelineQuery,
};
use cascade_api::zones::{KeyRole as ApiRole, Why};
use cascade_api::{Problem, ProblemType};
use cascade_keys::{
    Alert, Assumptions, Class, Command, Delegation, Event, KeyPolicy, Refusal, Role, Step,
    Strategy, What, ZoneKeys, decide, forecast,
};
use cascade_time::{Timestamp, format_span};

use super::second::need_second;
use super::{Answer, bug, need_consent};
use crate::daemon::Daemon;
use crate::http::Caller;
use crate::keys::{KeysRow, note, report};
use crate::zone::{KeyOrder, KeyRefusal, Message, View, ZoneHandle, passed};

/// For an order to be taken up and stored.
const ORDER_BOUND: Duration = Duration::from_secs(30);
/// For looks that were asked for.
const LOOK_BOUND: Duration = Duration::from_secs(40);
const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// What servers and a parent are assumed to take in forecasts.
const ASSUMED: Assumptions = Assumptions {
    parent: Duration::from_secs(86_400),
    signing: Duration::ZERO,
    servers: Duration::from_secs(600),
};

/// What is assumed in forecasts under this policy: a change of zone-signing keys takes its
/// `key-roll-time`.
pub fn assumed(policy: &cascade_policy::Policy) -> Assumptions {
    Assumptions {
        signing: policy.signer.key_roll_time,
        ..ASSUMED
    }
}

pub fn rolls(d: &Daemon, z: &ZoneHandle, page: &PageQuery) -> Answer<List<Roll>> {
    let view = z.view();
    let rules = rules(d, z)?;
    let all = report::rolls(&z.name, &view.row.keys, &rules, &view.key_facts, d.now());
    Ok(List::page(all, page, |r| r.roll_type.clone()))
}

pub async fn step(
    d: &Daemon,
    z: &ZoneHandle,
    caller: &Caller,
    kind: RollKind,
    step: &str,
    r: &RollStep,
) -> Answer<Roll> {
    let class = match kind {
        RollKind::Ksk => Class::Ksk,
        RollKind::Zsk => Class::Zsk,
        RollKind::Csk => Class::Csk,
        RollKind::Algorithm => Class::Algorithm,
        RollKind::FirstKeys => Class::FirstKeys,
        RollKind::Insecure => Class::Insecure,
    };
    let propagated = |step| -> Answer<Command> {
        let ttl = r.ttl_secs.ok_or_else(|| {
            Problem::new(
                ProblemType::InvalidValue,
                "ttl_secs is missing: the highest TTL that servers show for the records",
            )
        })?;
        Ok(Command::Propagated {
            class,
            step,
            ttl,
            force: r.force,
            who: caller.actor.clone(),
        })
    };
    let command = match step {
        "start" => Command::StartRoll { class },
        "propagation1-complete" => propagated(Step::Propagation1Complete)?,
        "propagation2-complete" => propagated(Step::Propagation2Complete)?,
        "cache-expired1" => Command::Expired {
            class,
            step: Step::CacheExpired1,
        },
        "cache-expired2" => Command::Expired {
            class,
            step: Step::CacheExpired2,
        },
        "done" => Command::RollDone {
            class,
            force: r.force,
            who: caller.actor.clone(),
        },
        other => {
            return Err(Problem::new(
                ProblemType::InvalidValue,
                format!(
                    "step in the path is '{other}'; it must be start, propagation1-complete, \
                     cache-expired1, propagation2-complete, cache-expired2 or done"
                ),
            ));
        }
    };
    let before = shown(d, z, class);
    order(z, caller, KeyOrder::Command(command)).await?;
    shown(d, z, class)
        // It ended with this step.
        .or_else(|| {
            before.map(|r| Roll {
                state: "done".into(),
                waits_for: None,
                ..r
            })
        })
        .ok_or_else(|| bug("the roll is not there"))
}

fn shown(d: &Daemon, z: &ZoneHandle, class: Class) -> Option<Roll> {
    let view = z.view();
    let row = &view.row.keys;
    let rules = d.key_policy(&view.row.zone.settings.policy)?;
    let roll = row.zone.roll(class)?;
    let facts = &view.key_facts;
    Some(report::roll(&z.name, row, &rules, facts, roll, d.now()))
}

pub async fn import(
    d: &Arc<Daemon>,
    z: &ZoneHandle,
    caller: &Caller,
    r: &KeyImport,
) -> Answer<KeyImported> {
    let first = z.view().row.keys.zone.next_num;
    let list = super::zones::imports(d, &r.imports).await?;
    order(z, caller, KeyOrder::Import(list)).await?;
    let view = z.view();
    let row = &view.row.keys;
    let rules = d.key_policy(&view.row.zone.settings.policy);
    let keys = row.zone.keys.iter().filter(|k| k.num.0 >= first);
    Ok(KeyImported {
        keys: keys
            .filter_map(|k| report::key(row, k, rules.as_ref(), d.now()))
            .collect(),
    })
}

pub async fn remove(z: &ZoneHandle, caller: &Caller, key: &str, r: &KeyRemove) -> Answer<()> {
    let view = z.view();
    let found = super::data::find_key(z, &view.row.keys, key)?;
    let consent = Confirm {
        confirm: r.confirm.clone(),
        yes: r.yes,
        comment: None,
    };
    let (tag, zone) = (found.tag(), &z.name);
    if r.purge || r.give_up {
        if r.force {
            return Err(Problem::new(
                ProblemType::InvalidValue,
                "a key in use leaves in the safe order first; force and purge exclude each other",
            ));
        }
        let rest = match r.give_up {
            true => "; if its store refuses, it is given up and what is left stays there",
            false => "",
        };
        let effect =
            format!("key {tag} of zone '{zone}' is destroyed; nothing brings it back{rest}");
        let plan = format!("purge-{}-{}", z.id, found.num);
        need_consent(&consent, &plan, vec![effect])?;
        let purge = KeyOrder::Purge {
            key: found.num,
            forget: r.give_up,
        };
        return order(z, caller, purge).await;
    }
    let effects = vec![format!(
        "key {tag} of zone '{zone}' goes to the trash, or leaves by a roll if it is in use"
    )];
    let plan = format!("remove-{}-{}", z.id, found.num);
    need_consent(&consent, &plan, effects.clone())?;
    need_second(caller, &plan, effects)?;
    let command = Command::RemoveKey {
        key: found.num,
        force: r.force,
    };
    order(z, caller, KeyOrder::Command(command)).await
}

pub async fn backed_up(d: &Daemon, z: &ZoneHandle, caller: &Caller, key: &str) -> Answer<Key> {
    let num = super::data::find_key(z, &z.view().row.keys, key)?.num;
    order(z, caller, KeyOrder::Command(Command::BackedUp { key: num })).await?;
    super::data::key(d, z, key)
}

/// Takes a key out of the trash: the next roll of its role uses it.
pub async fn restore(d: &Daemon, z: &ZoneHandle, caller: &Caller, key: &str) -> Answer<Key> {
    let num = super::data::find_key(z, &z.view().row.keys, key)?.num;
    order(
        z,
        caller,
        KeyOrder::Command(Command::RestoreKey { key: num }),
    )
    .await?;
    super::data::key(d, z, &num.to_string())
}

/// Looks at all servers and waits for what they say.
pub async fn check(d: &Daemon, z: &ZoneHandle, caller: &Caller) -> Answer<KeyCheck> {
    let asked = d.now();
    // Of a zone that is passed on, only the parent is looked at.
    let view = z.view();
    let passed = passed::serves_passed(&view.row);
    if view.row.keys.zone.published.is_none() && !passed {
        return Err(Problem::new(
            ProblemType::TooEarly,
            format!(
                "zone '{}' is not published yet; there is nothing to look for",
                z.name
            ),
        ));
    }
    order(z, caller, KeyOrder::Look).await?;
    let done = |row: &KeysRow| {
        What::ALL.iter().all(|w| {
            *w == What::Ds && row.zone.owner == [0]
                || *w != What::Ds && passed
                || row.zone.look(*w).is_some_and(|l| l.started >= asked)
        })
    };
    let wait = async {
        while !done(&z.view().row.keys) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let unfinished = tokio::time::timeout(LOOK_BOUND, wait).await.is_err();
    let view = z.view();
    let row = &view.row.keys;
    let looks = row.zone.looks.iter();
    Ok(KeyCheck {
        zone: z.name.clone(),
        items: looks.flat_map(|l| report::evidence(row, l)).collect(),
        unfinished,
    })
}

pub async fn emergency(
    d: &Daemon,
    z: &ZoneHandle,
    caller: &Caller,
    r: &EmergencyRequest,
) -> Answer<Roll> {
    let role = match r.role {
        ApiRole::Ksk => Role::Ksk,
        ApiRole::Zsk => Role::Zsk,
        ApiRole::Csk => Role::Csk,
    };
    let strategy = match r.strategy {
        EmergencyStrategy::Safe => Strategy::Safe,
        EmergencyStrategy::Fast => Strategy::Fast,
    };
    let rules = rules(d, z)?;
    let view = z.view();
    let keys = &view.row.keys.zone;
    let now = d.now();
    let ends = |strategy| -> Answer<Option<Timestamp>> {
        let command = Command::Emergency { role, strategy };
        let events = decide(keys, &rules, &command, now).map_err(|e| refused(z, &e))?;
        let mut copy = keys.clone();
        events.iter().for_each(|e| copy.apply(e));
        let until = now + YEAR;
        let coming = forecast(&copy, &rules, now, until, &ASSUMED);
        Ok(coming.iter().find_map(|e| match e {
            Event::RollDone { at, .. } => Some(*at),
            _ => None,
        }))
    };
    let line = |word: &str, at: Option<Timestamp>, cost: &str| {
        let when = at.map_or("is not known to end".to_string(), |at| {
            format!(
                "ends about {} ({})",
                at.to_human(),
                format_span(at.since(now))
            )
        });
        format!("{word} {when}; {cost}")
    };
    let effects = vec![
        line("safe", ends(Strategy::Safe)?, "no resolver sees bogus data"),
        line(
            "fast",
            ends(Strategy::Fast)?,
            "resolvers that hold the old DS or DNSKEY see bogus data until their TTLs end",
        ),
        "a third way is no DS at all: cds = \"delete\" in the policy".to_string(),
    ];
    let consent = Confirm {
        confirm: r.confirm.clone(),
        yes: r.yes,
        comment: None,
    };
    let word = format!("{strategy:?}").to_lowercase();
    let plan = format!("emergency-{}-{role}-{word}", z.id);
    need_consent(&consent, &plan, effects.clone())?;
    need_second(caller, &plan, effects)?;
    let class = match role {
        Role::Ksk => Class::Ksk,
        Role::Zsk => Class::Zsk,
        Role::Csk | Role::Foreign => Class::Csk,
    };
    order(
        z,
        caller,
        KeyOrder::Command(Command::Emergency { role, strategy }),
    )
    .await?;
    // Another roll may have to end first.
    let running = z.view().row.keys.zone.rolls.first().map(|r| r.class());
    shown(d, z, class)
        .or_else(|| shown(d, z, running?))
        .ok_or_else(|| bug("no roll has started"))
}

pub async fn timeline(d: &Daemon, z: &Arc<ZoneHandle>, q: &TimelineQuery) -> Answer<Timeline> {
    let rules = rules(d, z)?;
    let policy = d.policy(&z.view().row.zone.settings.policy);
    let guess = policy.map_or(ASSUMED, |p| assumed(&p.file.policy));
    let now = d.now();
    let until = q.until.unwrap_or(now + YEAR * 3);
    let view = z.view();
    let mut items = Vec::new();
    if q.only.as_deref() != Some("keys")
        && let Some(live) = &view.row.zone.live
    {
        items.push(TimelineItem {
            at: live.next_due,
            what: "zone.signing".into(),
            text: "signatures are refreshed, and from then on as they come due".into(),
        });
    }
    let row = view.row.keys.clone();
    // Years of rolls take a moment.
    let coming = tokio::task::spawn_blocking(move || coming(row, &rules, now, until, &guess))
        .await
        .map_err(bug)?;
    items.extend(coming);
    items.retain(|i| i.at <= until);
    items.sort_by_key(|i| i.at);
    Ok(Timeline {
        zone: z.name.clone(),
        items,
    })
}

fn coming(
    mut row: KeysRow,
    rules: &KeyPolicy,
    now: Timestamp,
    until: Timestamp,
    guess: &Assumptions,
) -> Vec<TimelineItem> {
    let events = forecast(&row.zone, rules, now, until, guess);
    let mut out = Vec::new();
    for e in &events {
        let item = match e {
            // Made-up octets have made-up tags.
            Event::KeyAdded { key, .. } => Some((
                "key.generated".to_string(),
                format!(
                    "a new {} of algorithm {}: {}",
                    key.role, key.algorithm, key.num
                ),
            )),
            Event::RollStepped { class, to, .. } => {
                Some((e.name().to_string(), step_text(&row.zone, *class, *to)))
            }
            _ => note(e, &row).map(|(kind, text)| (kind.event().to_string(), text)),
        };
        if let Some((what, text)) = item {
            out.push(TimelineItem {
                at: e.at(),
                what,
                text,
            });
        }
        row.apply(e);
    }
    out
}

fn step_text(zone: &ZoneKeys, class: Class, to: cascade_keys::Stage) -> String {
    let next = zone.roll(class).and_then(|r| r.kind.row(to));
    let asks = next.is_some_and(|n| n.state == "await-ds-seen");
    let hint = if asks {
        "; the parent must change the DS"
    } else {
        ""
    };
    format!("{class}: {}{hint}", next.map_or("", |n| n.state))
}

/// What keys and rolls of a healthy zone wait for, if anything.
pub fn explain(d: &Daemon, z: &ZoneHandle, view: &View, now: Timestamp, why: &mut Why) {
    let row = &view.row.keys;
    let Some(rules) = d.key_policy(&view.row.zone.settings.policy) else {
        return;
    };
    let unfit = |a: &Alert| matches!(a, Alert::PassedUnfit { .. });
    if let Some(a) = alerts(d, view, now).into_iter().find(unfit) {
        why.summary = a.text();
        why.acts = Some(Acts::Parent);
        let look = row.zone.look(What::Ds);
        why.evidence
            .extend(look.into_iter().flat_map(|l| report::evidence(row, l)));
        why.actions.push(format!("cascade keyset {} check", z.name));
        return;
    }
    let facts = &view.key_facts;
    let parent = &row.zone.parent;
    let reachable = matches!(parent.delegation, Delegation::Ours | Delegation::Linked);
    let parent_waits = reachable && parent.wanted_at.is_some() && parent.followed_at.is_none();
    let roll = row.zone.rolls.first();
    let text = cascade_keys::why(&z.name, &row.zone, &rules, facts, now);
    let text = text.strip_prefix(&format!("{}: ", z.name)).unwrap_or(&text);
    let text = text.split(" Next look or step ").next().unwrap_or(text);
    let text = text.trim_end_matches('.');
    let waits = text.contains("waits for ");
    if !waits && !parent_waits && !parent.vanished {
        // Nothing waits; what comes next is told after how it is.
        if let Some((_, next)) = text.split_once("Next: ") {
            why.summary.push_str(&format!("; next: {next}"));
        }
        return;
    }
    why.summary = text.to_string();
    why.since = None;
    let shown = roll.map(|r| report::roll(&z.name, row, &rules, facts, r, now));
    let asks_parent = shown
        .as_ref()
        .is_some_and(|r| r.waits_for.as_deref() == Some("parent"));
    if let Some(r) = shown {
        why.next_at = r.next_look.or(r.earliest_at).or(why.next_at);
        why.evidence.extend(r.evidence);
        why.actions.extend(r.next_command);
    } else if let Some(look) = row.zone.look(What::Ds) {
        why.evidence.extend(report::evidence(row, look));
    }
    why.next = why.next_at.map(|_| "looks again".into());
    if asks_parent || parent_waits || parent.vanished {
        why.acts = Some(Acts::Parent);
        why.actions
            .push(format!("cascade keyset {} get ds", z.name));
    }
    if !asks_parent && !why.actions.is_empty() && roll.is_some() {
        why.acts = Some(Acts::Operator);
    }
}

/// What people should know of the keys even if no roll waits for it.
pub fn alerts(d: &Daemon, view: &View, now: Timestamp) -> Vec<Alert> {
    let Some(rules) = d.key_policy(&view.row.zone.settings.policy) else {
        return Vec::new();
    };
    let mut all = cascade_keys::alerts(&view.row.keys.zone, &rules, now);
    if passed::serves_passed(&view.row) {
        // The zone's keys are another signer's, and the key manager does not know them.
        all.retain(|a| *a != Alert::ForeignDs);
        let ds = passed::unfit_ds(view);
        if !ds.is_empty() {
            all.push(Alert::PassedUnfit { ds });
        }
    }
    all
}

fn rules(d: &Daemon, z: &ZoneHandle) -> Answer<KeyPolicy> {
    let name = z.view().row.zone.settings.policy.clone();
    d.key_policy(&name)
        .ok_or_else(|| Problem::policy_not_found(&name, []))
}

async fn order(z: &ZoneHandle, caller: &Caller, order: KeyOrder) -> Answer<()> {
    let busy = || {
        Problem::new(
            ProblemType::Busy,
            format!("zone '{}' has too much to do at the moment", z.name),
        )
        .subject(SubjectKind::Zone, &z.name)
        .retry_after(2)
    };
    let (reply, answer) = tokio::sync::oneshot::channel();
    let by = caller.actor.clone();
    let message = Message::Keys { order, by, reply };
    z.line.try_send(message).map_err(|_| busy())?;
    match tokio::time::timeout(ORDER_BOUND, answer).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(KeyRefusal::Refused(r)))) => Err(refused(z, &r)),
        Ok(Ok(Err(KeyRefusal::Import(e)))) => Err(Problem::new(ProblemType::ImportMismatch, e)
            .subject(SubjectKind::Zone, &z.name)
            .state("nothing was imported")),
        Ok(Ok(Err(KeyRefusal::Unusable(e)))) => Err(Problem::new(ProblemType::InUse, e)
            .subject(SubjectKind::Zone, &z.name)
            .state("nothing has changed")),
        Ok(Ok(Err(KeyRefusal::NotDestroyed(e)))) => Err(Problem::new(
            ProblemType::HsmUnreachable,
            format!("the key was not destroyed: {e}"),
        )
        .subject(SubjectKind::Zone, &z.name)
        .state("the key is in the trash, and its destruction is tried again later")
        .action(
            "give it up with remove-key --continue; its object is then an orphan in hsm inventory",
        )),
        Ok(Ok(Err(KeyRefusal::Storage))) => Err(Problem::new(
            ProblemType::StorageFull,
            "the change could not be made durable; nothing has changed",
        )
        .subject(SubjectKind::Zone, &z.name)),
        Ok(Ok(Err(KeyRefusal::NoPolicy))) => Err(Problem::policy_not_found(
            &z.view().row.zone.settings.policy,
            [],
        )),
        Ok(Err(_)) => Err(bug(format!(
            "zone '{}' did not answer; see the log",
            z.name
        ))),
        Err(_) => Err(busy().state("the order may still be carried out")),
    }
}

fn refused(z: &ZoneHandle, r: &Refusal) -> Problem {
    let kind = match r.problem() {
        "not-found" => ProblemType::KeyNotFound,
        slug => ProblemType::from_slug(slug),
    };
    let problem =
        Problem::new(kind, format!("{}: {r}", z.name)).subject(SubjectKind::Zone, &z.name);
    let problem = match r {
        Refusal::WrongStep { class, fits, .. } => {
            problem.action(format!("cascade keyset {} {} {fits}", z.name, class.word()))
        }
        _ => problem.action(format!("cascade zone why {}", z.name)),
    };
    match r.earliest_at() {
        Some(at) => problem.state(format!("possible from {} on", at.to_human())),
        None => problem,
    }
}
