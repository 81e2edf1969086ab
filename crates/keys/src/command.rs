//! What operators order: steps by hand, removal, emergency. A command gives events or a refusal
//! that says what is in the way and what to do instead.

use cascade_time::{Timestamp, format_span};
use thiserror::Error;

use crate::event::Event;
use crate::key::{Key, KeyNum, Role};
use crate::mutants::{Mutant, is};
use crate::next_action::{Facts, is_published, step_event};
use crate::observe::{Verdict, What};
use crate::policy::KeyPolicy;
use crate::roll::{Cause, Class, Roll, RollType, Seen, Stage, Step, Strategy};
use crate::state::ZoneKeys;
use crate::ttl::{Free, Served};
use crate::wish::{begin, roll_for, wishes};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    StartRoll {
        class: Class,
    },
    /// `propagation1-complete`, `propagation2-complete` with the highest TTL that was served.
    Propagated {
        class: Class,
        step: Step,
        ttl: u32,
        force: bool,
        who: String,
    },
    /// `cache-expired1`, `cache-expired2`.
    Expired {
        class: Class,
        step: Step,
    },
    RollDone {
        class: Class,
        force: bool,
        who: String,
    },
    BackedUp {
        key: KeyNum,
    },
    RemoveKey {
        key: KeyNum,
        force: bool,
    },
    /// Destroyed at once instead of resting in the trash. The events come before the destruction,
    /// which the caller reports.
    PurgeKey {
        key: KeyNum,
    },
    /// Out of the trash, to be the successor in the next roll of its role.
    RestoreKey {
        key: KeyNum,
    },
    Emergency {
        role: Role,
        strategy: Strategy,
    },
    /// A forward step of the clock was confirmed to be right.
    ClockConfirmed {
        stepped_secs: u64,
    },
}

/// Why a command is not carried out. Nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    #[error("The {wanted} cannot start: {} {doing} since {}.", running_words(*running), since.to_human())]
    Conflict {
        wanted: Class,
        running: Class,
        doing: String,
        since: Timestamp,
    },
    #[error("The {wanted} cannot start: the first DNSKEY set is not settled{}.", earliest(.settles))]
    NotSettled {
        wanted: Class,
        settles: Option<Timestamp>,
    },
    #[error("No {0} is running.")]
    NoRoll(Class),
    #[error("The {class} is at {stage:?} ({state}), not at {given}. Try: {} {fits}", class.word())]
    WrongStep {
        class: Class,
        stage: Stage,
        state: &'static str,
        given: &'static str,
        fits: &'static str,
    },
    #[error("The {class} waits until the version with its keys is published; see why.")]
    NotPublished { class: Class },
    #[error("The zone uses a {has}; use: {} start-roll", has.to_string().to_lowercase())]
    OtherLayout { has: Role },
    #[error("Caches may hold {what} until {until} ({}).", format_span(*left), until = until.to_human())]
    TooEarly {
        what: &'static str,
        until: Timestamp,
        left: std::time::Duration,
    },
    #[error("Servers may still show {what}; no sweep has shown its end yet.")]
    StillServed { what: &'static str },
    #[error("TTL {given} is below {needed}, which was served and may still be in caches.")]
    TtlTooLow { given: u32, needed: u32 },
    #[error("{server} ({address}) shows {found}; look again or use --force.")]
    Contradicted {
        server: String,
        address: String,
        found: String,
    },
    #[error("There is no key {0}.")]
    NoKey(KeyNum),
    #[error("The clock cannot be trusted: no step is taken until it is right or confirmed.")]
    ClockHeld,
    #[error("Key {tag} cannot be removed: {why}.")]
    InUse { tag: u16, why: &'static str },
    #[error("Key {tag} cannot be restored: {why}.")]
    NotRestorable { tag: u16, why: &'static str },
    #[error("There is no key in service with the role {0}.")]
    NoneInService(Role),
}

fn running_words(class: Class) -> String {
    match class {
        Class::Insecure => class.to_string(),
        Class::Algorithm => format!("an {class}"),
        _ => format!("a {class}"),
    }
}

fn earliest(at: &Option<Timestamp>) -> String {
    at.map(|t| format!(" before {}", t.to_human()))
        .unwrap_or_default()
}

impl Refusal {
    /// Problem type of the API.
    pub fn problem(&self) -> &'static str {
        match self {
            Refusal::Conflict { .. } | Refusal::NotSettled { .. } => "roll-conflict",
            Refusal::NoRoll(_)
            | Refusal::WrongStep { .. }
            | Refusal::OtherLayout { .. }
            | Refusal::NoneInService(_) => "wrong-roll-step",
            Refusal::NotPublished { .. }
            | Refusal::TooEarly { .. }
            | Refusal::ClockHeld
            | Refusal::StillServed { .. } => "too-early",
            Refusal::TtlTooLow { .. } | Refusal::Contradicted { .. } => "invalid-value",
            Refusal::NoKey(_) => "not-found",
            Refusal::InUse { .. } | Refusal::NotRestorable { .. } => "in-use",
        }
    }

    /// The earliest time at which the same command can succeed, where it is known.
    pub fn earliest_at(&self) -> Option<Timestamp> {
        match self {
            Refusal::TooEarly { until, .. } => Some(*until),
            Refusal::NotSettled { settles, .. } => *settles,
            _ => None,
        }
    }
}

/// Whether the command may be obeyed now at all.
///
/// # Errors
/// A step by hand while the clock is held: whether a wait has ended is not known then.
pub fn permitted(command: &Command, facts: &Facts) -> Result<(), Refusal> {
    let step = matches!(
        command,
        Command::Propagated { .. } | Command::Expired { .. } | Command::RollDone { .. }
    );
    if step && facts.clock_held && !is(Mutant::HeldClockIsIgnored) {
        return Err(Refusal::ClockHeld);
    }
    Ok(())
}

/// What a command does, as events to be stored and applied.
///
/// # Errors
/// The state is unchanged; the refusal names what is in the way.
pub fn decide(
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    command: &Command,
    now: Timestamp,
) -> Result<Vec<Event>, Refusal> {
    match command {
        Command::StartRoll { class } => start(zone, policy, *class, now),
        Command::Propagated {
            class,
            step,
            ttl,
            force,
            who,
        } => propagated(zone, policy, *class, *step, *ttl, *force, who, now),
        Command::Expired { class, step } => {
            let roll = at_step(zone, policy, *class, *step, now)?;
            expired(zone, policy, roll, now)?;
            Ok(vec![step_event(policy, roll, now)])
        }
        Command::RollDone { class, force, who } => {
            let roll = at_step(zone, policy, *class, Step::RollDone, now)?;
            let seen = unmet(roll);
            contradicted(zone, roll, &seen, *force)?;
            expired(zone, policy, roll, now)?;
            let mut out = Vec::new();
            if !seen.is_empty() {
                out.push(Event::Vouched {
                    class: *class,
                    seen,
                    who: who.clone(),
                    ttl: zone.step_ttl(roll, now).unwrap_or(0),
                    corrects: false,
                    at: now,
                });
            }
            out.push(step_event(policy, roll, now));
            Ok(out)
        }
        Command::BackedUp { key } => {
            zone.key(*key).ok_or(Refusal::NoKey(*key))?;
            Ok(vec![Event::KeyBackedUp { key: *key, at: now }])
        }
        Command::RemoveKey { key, force } => remove(zone, policy, *key, *force, now),
        Command::PurgeKey { key } => purge(zone, policy, *key, now),
        Command::RestoreKey { key } => restore(zone, *key, now),
        Command::Emergency { role, strategy } => emergency(zone, policy, *role, *strategy, now),
        Command::ClockConfirmed { stepped_secs } => Ok(vec![Event::ClockStepped {
            by_secs: *stepped_secs,
            at: now,
        }]),
    }
}

fn start(
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    class: Class,
    now: Timestamp,
) -> Result<Vec<Event>, Refusal> {
    let has = |role| zone.in_service(role).next().is_some();
    let kind = match class {
        Class::Ksk | Class::Zsk if has(Role::Csk) => {
            return Err(Refusal::OtherLayout { has: Role::Csk });
        }
        Class::Csk if !has(Role::Csk) && !policy.use_csk => {
            return Err(Refusal::OtherLayout { has: Role::Ksk });
        }
        Class::Ksk => roll_for(zone, Role::Ksk, policy),
        Class::Zsk => roll_for(zone, Role::Zsk, policy),
        Class::Csk => RollType::Csk,
        Class::Algorithm => RollType::Algorithm,
        Class::FirstKeys | Class::Insecure => return Err(Refusal::NoRoll(class)),
    };
    not_blocked(zone, policy, class, now)?;
    let roll = begin(zone, policy, kind, Cause::Operator, Strategy::Normal, now);
    Ok(vec![Event::RollStarted { roll }])
}

fn not_blocked(
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    class: Class,
    now: Timestamp,
) -> Result<(), Refusal> {
    if zone.settled_at.is_none() {
        let settles = zone.roll(Class::FirstKeys).and_then(|r| {
            zone.cache_waits(policy, r)
                .iter()
                .find_map(|w| match w.free {
                    Free::At { at, .. } if at > now => Some(at),
                    _ => None,
                })
        });
        return Err(Refusal::NotSettled {
            wanted: class,
            settles,
        });
    }
    match zone.rolls.iter().find(|r| !class.may_run_with(r.class())) {
        Some(r) => Err(Refusal::Conflict {
            wanted: class,
            running: r.class(),
            doing: crate::why::waits_for(zone, policy, r, now),
            since: r.since,
        }),
        None => Ok(()),
    }
}

/// The roll of the class, if it is at the step that the command ends.
fn at_step<'a>(
    zone: &'a ZoneKeys,
    policy: &KeyPolicy,
    class: Class,
    step: Step,
    now: Timestamp,
) -> Result<&'a Roll, Refusal> {
    let roll = zone.roll(class).ok_or(Refusal::NoRoll(class))?;
    if roll.stage.step() != step {
        return Err(Refusal::WrongStep {
            class,
            stage: roll.stage,
            state: roll.state(),
            given: step.word(),
            fits: roll.stage.step().word(),
        });
    }
    if !is_published(zone, policy, now) {
        return Err(Refusal::NotPublished { class });
    }
    Ok(roll)
}

fn unmet(roll: &Roll) -> Vec<Seen> {
    roll.row().map_or(Vec::new(), |r| {
        r.seen
            .iter()
            .copied()
            .filter(|s| !roll.is_met(*s))
            .collect()
    })
}

fn propagated(
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    class: Class,
    step: Step,
    ttl: u32,
    force: bool,
    who: &str,
    now: Timestamp,
) -> Result<Vec<Event>, Refusal> {
    let roll = at_step(zone, policy, class, step, now)?;
    let seen = unmet(roll);
    // Nobody outside can know better than we do which signatures the published version has.
    if seen.iter().any(|s| !zone.is_signed_for(roll, *s)) {
        return Err(Refusal::NotPublished { class });
    }
    contradicted(zone, roll, &seen, force)?;
    let asks_parent = seen.iter().any(|s| What::of(*s) == What::Ds);
    let needed = zone.step_ttl(roll, now).unwrap_or(0);
    // With force the TTL of others' answers may be corrected, never that of our own.
    let corrects = force && asks_parent && ttl < needed;
    if ttl < needed && !corrects {
        return Err(Refusal::TtlTooLow { given: ttl, needed });
    }
    let mut out = Vec::new();
    if !seen.is_empty() {
        out.push(Event::Vouched {
            class,
            seen,
            who: who.to_string(),
            ttl,
            corrects,
            at: now,
        });
    }
    // Rows of this kind may have cache waits as well (the end of an algorithm roll).
    expired(zone, policy, roll, now)?;
    out.push(step_event(policy, roll, now));
    Ok(out)
}

fn contradicted(zone: &ZoneKeys, roll: &Roll, seen: &[Seen], force: bool) -> Result<(), Refusal> {
    if force {
        return Ok(());
    }
    for s in seen {
        let Some(look) = zone.look(What::of(*s)).filter(|l| l.started >= roll.since) else {
            continue;
        };
        if let Some(m) = look.members.iter().find(|m| m.verdict == Verdict::Mismatch) {
            return Err(Refusal::Contradicted {
                server: m.server.clone(),
                address: m.place(),
                found: m.found.clone(),
            });
        }
    }
    Ok(())
}

/// Waits for caches cannot be forced: the data is other people's.
fn expired(
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    roll: &Roll,
    now: Timestamp,
) -> Result<(), Refusal> {
    for w in zone.cache_waits(policy, roll) {
        match w.free {
            Free::Always => {}
            Free::At { at, .. } if at <= now => {}
            Free::At { at, .. } => {
                return Err(Refusal::TooEarly {
                    what: w.dying.words(),
                    until: at,
                    left: at.since(now),
                });
            }
            Free::Served => {
                return Err(Refusal::StillServed {
                    what: w.dying.words(),
                });
            }
        }
    }
    Ok(())
}

fn remove(
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    num: KeyNum,
    force: bool,
    now: Timestamp,
) -> Result<Vec<Event>, Refusal> {
    let key = not_needed(zone, policy, num, now)?;
    let in_use = |why| Refusal::InUse {
        tag: key.tag(),
        why,
    };
    if key.times.destroyed_at.is_some() {
        return Err(in_use("it was destroyed already"));
    }
    if key.times.removed_at.is_some() {
        return Ok(vec![Event::KeyTrashed { key: num, at: now }]);
    }
    if !key.in_service() {
        return Ok(vec![Event::KeyDropped { key: num, at: now }]);
    }
    if !force {
        return Err(in_use(
            "it is in use; --force rolls it out in the safe order",
        ));
    }
    // It leaves by the roll that replaces it, so it is never the last of its kind.
    let kind = roll_for(zone, key.role, policy);
    not_blocked(zone, policy, kind.class(), now)?;
    let roll = begin(zone, policy, kind, Cause::Operator, Strategy::Normal, now);
    Ok(vec![Event::RollStarted { roll }])
}

/// The key, unless the parent, a cache or a roll needs it.
fn not_needed<'a>(
    zone: &'a ZoneKeys,
    policy: &KeyPolicy,
    num: KeyNum,
    now: Timestamp,
) -> Result<&'a Key, Refusal> {
    let key = zone.key(num).ok_or(Refusal::NoKey(num))?;
    let in_use = |why| Refusal::InUse {
        tag: key.tag(),
        why,
    };
    if zone.parent.shown.contains(&num) {
        return Err(in_use("its DS is at the parent"));
    }
    let ds = |s: &Served| matches!(s, Served::Ds { ours, .. } if ours.contains(&num));
    if !zone.log.free(ds, policy.margin).holds(now) {
        return Err(in_use("its DS may be in caches"));
    }
    if zone
        .rolls
        .iter()
        .any(|r| r.old.contains(&num) || (r.new.contains(&num) && r.stage != Stage::Keys))
    {
        return Err(in_use("a roll needs it; it ends with the roll"));
    }
    Ok(key)
}

fn purge(
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    num: KeyNum,
    now: Timestamp,
) -> Result<Vec<Event>, Refusal> {
    let key = not_needed(zone, policy, num, now)?;
    let in_use = |why| Refusal::InUse {
        tag: key.tag(),
        why,
    };
    if key.times.destroyed_at.is_some() {
        return Err(in_use("it was destroyed already"));
    }
    let shows = |p: &crate::state::Published| {
        let lists = [
            &p.apex.dnskey,
            &p.apex.cds_signers,
            &p.apex.zone_signers,
            &p.any,
        ];
        lists.into_iter().any(|l| l.contains(&num))
    };
    if key.in_service() || zone.published.as_ref().is_some_and(shows) {
        return Err(in_use(
            "it is in the zone; it can be destroyed when it has left (remove-key --force begins that)",
        ));
    }
    let mut out = Vec::new();
    if key.times.removed_at.is_none() {
        out.push(Event::KeyDropped { key: num, at: now });
    }
    if key.times.trashed_at.is_none() {
        out.push(Event::KeyTrashed { key: num, at: now });
    }
    Ok(out)
}

fn restore(zone: &ZoneKeys, num: KeyNum, now: Timestamp) -> Result<Vec<Event>, Refusal> {
    let key = zone.key(num).ok_or(Refusal::NoKey(num))?;
    let no = |why| {
        Err(Refusal::NotRestorable {
            tag: key.tag(),
            why,
        })
    };
    let t = &key.times;
    if t.destroyed_at.is_some() {
        return no("it was destroyed");
    }
    if key.compromised {
        return no("it is compromised");
    }
    if t.removed_at.is_none() && t.trashed_at.is_none() {
        return no("it has not left the zone");
    }
    Ok(vec![Event::KeyRecovered { key: num, at: now }])
}

fn emergency(
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    role: Role,
    strategy: Strategy,
    now: Timestamp,
) -> Result<Vec<Event>, Refusal> {
    let leaked: Vec<&Key> = zone.in_service(role).collect();
    if leaked.is_empty() {
        return Err(Refusal::NoneInService(role));
    }
    let mut out: Vec<Event> = leaked
        .iter()
        .map(|k| Event::KeyCompromised {
            key: k.num,
            at: now,
        })
        .collect();
    let kind = match (roll_for(zone, role, policy), strategy) {
        (RollType::KskDoubleDs, Strategy::Fast) => RollType::KskDoubleSignature,
        (kind, _) => kind,
    };
    let leaves = |r: &&Roll| leaked.iter().all(|k| r.old.contains(&k.num));
    if let Some(running) = zone.rolls.iter().find(leaves)
        && running.kind.class() != Class::Insecure
    {
        out.push(Event::RollHurried {
            class: running.class(),
            strategy,
            at: now,
        });
        return Ok(out);
    }
    if not_blocked(zone, policy, kind.class(), now).is_ok() {
        let roll = begin(zone, policy, kind, Cause::Emergency, strategy, now);
        out.push(Event::RollStarted { roll });
    } else if !wishes(zone, policy, now).is_empty() || zone.settled_at.is_some() {
        // The mark makes the roll due as soon as the running one has ended, which is hurried.
        for r in &zone.rolls {
            out.push(Event::RollHurried {
                class: r.class(),
                strategy: Strategy::Safe,
                at: now,
            });
        }
    }
    Ok(out)
}
