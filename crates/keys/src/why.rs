//! One sentence that names what is waited for, the evidence, and the next check.

use cascade_time::{Timestamp, format_span};

use crate::ds::DsRecord;
use crate::key::{Home, KeyNum};
use crate::next_action::{Facts, Subject, is_automatic, is_published, next_deadline};
use crate::observe::{Delegation, SweepReport, Verdict, What, next_look};
use crate::policy::{CdsPolicy, KeyPolicy};
use crate::roll::{Class, Roll, Row, Seen, Step};
use crate::state::ZoneKeys;
use crate::ttl::{Free, Served};
use crate::wish::{Wish, wishes};

/// Whom or what a roll waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Whom {
    Servers,
    /// The version with its keys, or with its signatures.
    Signer,
    Parent,
    Caches,
    /// The HSM with this id.
    Token(String),
    Backup,
    Operator,
}

/// Why a roll does not go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiting {
    pub whom: Whom,
    /// Begins with whom it waits for and goes on with the evidence.
    pub text: String,
    /// When it is looked at again; `None`: it is being done.
    pub next: Option<Timestamp>,
}

/// Why nothing moves, or what comes next. `name` is the zone as people write it.
pub fn why(
    name: &str,
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    facts: &Facts,
    now: Timestamp,
) -> String {
    let looks = |next: Option<Timestamp>| {
        let next = next.or_else(|| next_deadline(zone, policy, facts, now));
        next.map_or(" It is being done.".to_string(), |d| {
            format!(" Next look or step {}.", d.to_human())
        })
    };
    if zone.parent.vanished {
        return format!(
            "{name}: the parent has no DS any more, so the zone is insecure; rolls wait until the \
             DS is back ({}).{}",
            zone.wanted_ds(policy)
                .first()
                .map_or("-".to_string(), |d| d.text()),
            looks(None)
        );
    }
    if facts.clock_held {
        return format!(
            "{name}: waits for you: the clock is not trusted; no roll begins or goes on before it is \
             right or confirmed: cascade why {name}.{}",
            looks(None)
        );
    }
    if facts.paused {
        return format!(
            "{name}: waits for you: key decisions are paused: maintenance disable. Signatures over \
             the keys are renewed meanwhile.{}",
            looks(None)
        );
    }
    if let Some(roll) = zone.rolls.first() {
        let w = waiting(zone, policy, facts, roll, now);
        let mut next = w.next;
        let mut text = of_roll(zone, roll, &w);
        for other in zone.rolls.iter().skip(1) {
            let w = waiting(zone, policy, facts, other, now);
            text += &format!("; {}", of_roll(zone, other, &w));
            next = [next, w.next].into_iter().flatten().min();
        }
        return format!("{name}: {text}.{}", looks(next));
    }
    let wanted = zone
        .parent
        .wanted
        .iter()
        .any(|n| !zone.parent.shown.contains(n));
    if wanted && zone.parent.delegation == Delegation::Ours {
        let ds: Vec<String> = zone.wanted_ds(policy).iter().map(|d| d.text()).collect();
        return format!(
            "{name}: waits for the parent: it should have exactly {}{}{}.{}",
            ds.join(", "),
            evidence(zone.look(What::Ds)),
            zone.parent
                .notified
                .as_ref()
                .map_or(String::new(), |n| format!(
                    ", NOTIFY(CDS) {}: {}",
                    n.at.to_human(),
                    n.text
                )),
            looks(None)
        );
    }
    if policy.passthrough && zone.published.is_some() {
        return format!(
            "{name}: waits for you: the zone is to be passed on as it comes, and is signed with keys \
             of its own; remove it and add it anew, or set signer.mode = \"sign\".{}",
            looks(None)
        );
    }
    if policy.unsigned && !zone.unsigned {
        return format!("{name}: {}.{}", still_signed(zone, policy), looks(None));
    }
    match due_by_hand(zone, policy, now) {
        Some(text) => format!("{name}: {text}.{}", looks(None)),
        None => quiet(name, zone, policy, now),
    }
}

/// One roll, what it waits for, and since when.
fn of_roll(zone: &ZoneKeys, roll: &Roll, w: &Waiting) -> String {
    let instead = roll
        .instead
        .map_or(String::new(), |i| format!("; {}", i.words()));
    format!(
        "the {} ({}, {} -> {}{instead}) {} since {}",
        roll.class(),
        roll.kind.word(),
        tags(zone, &roll.old),
        tags(zone, &roll.new),
        w.text,
        roll.since.to_human(),
    )
}

/// What is due and may not begin by itself.
fn due_by_hand(zone: &ZoneKeys, policy: &KeyPolicy, now: Timestamp) -> Option<String> {
    let by_hand = |w: &Wish| w.at <= now && !policy.auto(w.kind.class()).start;
    let w = wishes(zone, policy, now).into_iter().find(by_hand)?;
    let class = w.kind.class();
    Some(format!(
        "waits for you: a {class} is due since {}: {} start-roll",
        w.at.to_human(),
        class.word()
    ))
}

/// Nothing runs: what comes next.
fn quiet(name: &str, zone: &ZoneKeys, policy: &KeyPolicy, now: Timestamp) -> String {
    let all = wishes(zone, policy, now);
    let auto = |w: &&Wish| policy.auto(w.kind.class()).start;
    match all.iter().filter(auto).min_by_key(|w| w.at) {
        Some(w) => format!(
            "{name}: nothing to wait for. Next: {} on {}.",
            w.kind.class(),
            w.at.to_human()
        ),
        None => format!("{name}: nothing to wait for."),
    }
}

/// An unsigned zone was ordered, and the zone stays signed for the time being.
fn still_signed(zone: &ZoneKeys, policy: &KeyPolicy) -> String {
    if policy.cds != CdsPolicy::Delete {
        return "waits for you: an unsigned zone is ordered, but not that its DS goes first; set \
                key-manager.ds.cds = \"delete\""
            .to_string();
    }
    let shown = match zone.parent.shown.is_empty() && !zone.parent.foreign {
        true => "a DS that was asked for may still be on its way".to_string(),
        false => format!("a DS is still there{}", evidence(zone.look(What::Ds))),
    };
    format!("waits for the parent: signatures go when no DS leads here, and {shown}")
}

/// What `roll` waits for, with the evidence and the next check: its own, or else the next time that
/// anything is looked at or done for the zone.
pub fn waiting(
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    facts: &Facts,
    roll: &Roll,
    now: Timestamp,
) -> Waiting {
    let mut w = reason(zone, policy, facts, roll, now);
    w.next = w.next.or_else(|| next_deadline(zone, policy, facts, now));
    w
}

fn reason(
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    facts: &Facts,
    roll: &Roll,
    now: Timestamp,
) -> Waiting {
    let Some(row) = roll.row() else {
        return for_keys(zone, policy, facts, roll);
    };
    if !is_published(zone, policy, now) {
        return for_version(zone, policy, facts, now);
    }
    let open: Vec<Seen> = row
        .seen
        .iter()
        .copied()
        .filter(|s| !roll.is_met(*s))
        .collect();
    if let Some(s) = open.iter().find(|s| !zone.is_signed_for(roll, **s)) {
        return for_signatures(zone, facts, roll, *s);
    }
    if let Some(s) = open.first() {
        return for_servers(zone, policy, facts, roll, &open, *s, now);
    }
    if let Some(w) = for_caches(zone, policy, roll, now) {
        return w;
    }
    for_operator(zone, policy, roll, row, now)
}

/// The beginning of every sentence about a waiting roll.
pub fn waits_for(zone: &ZoneKeys, policy: &KeyPolicy, roll: &Roll, now: Timestamp) -> String {
    let text = reason(zone, policy, &Facts::default(), roll, now).text;
    let end = text.find([':', '(']).unwrap_or(text.len());
    text[..end].trim_end().to_string()
}

/// Keys are made, saved and proved first.
fn for_keys(zone: &ZoneKeys, policy: &KeyPolicy, facts: &Facts, roll: &Roll) -> Waiting {
    let made = |role| {
        let mut new = roll.new.iter().filter_map(|n| zone.key(*n));
        new.find(|k| k.role == role)
    };
    for role in &roll.wants {
        let Some(key) = made(*role) else {
            let subject = Subject::Generate(*role);
            return of_store(
                policy.home(*role),
                &format!("a new {role} of algorithm {} is to be made", roll.algorithm),
                facts,
                subject,
            );
        };
        if policy.require_backup && !key.backed_up {
            return Waiting {
                whom: Whom::Backup,
                text: format!(
                    "waits for a backup of key {}: it was made {} and is not used before: \
                     backed-up {}",
                    key.tag(),
                    key.times
                        .generated_at
                        .map_or("-".to_string(), Timestamp::to_human),
                    key.tag()
                ),
                next: None,
            };
        }
    }
    Waiting {
        whom: Whom::Signer,
        text: "waits for signing: its keys are there".to_string(),
        next: None,
    }
}

/// Waits for a key store: with its last error, if there was one.
fn of_store(home: &Home, what: &str, facts: &Facts, subject: Subject) -> Waiting {
    let tried = facts
        .errors
        .get(&subject)
        .map_or(String::new(), |e| format!("; the last attempt failed: {e}"));
    let (whom, head) = match home {
        Home::File => (Whom::Signer, "signing".to_string()),
        Home::Hsm(id) => (Whom::Token(id.clone()), format!("HSM {id}")),
    };
    Waiting {
        whom,
        text: format!("waits for {head}: {what}{tried}"),
        next: facts.retry_at.get(&subject).copied(),
    }
}

/// The version with the keys of the present step is not out.
fn for_version(zone: &ZoneKeys, policy: &KeyPolicy, facts: &Facts, now: Timestamp) -> Waiting {
    let apex = zone.apex_set(policy, now);
    let failed = |n: &KeyNum| {
        let error = facts.errors.get(&Subject::Prove(*n))?;
        Some((*n, error))
    };
    let listed = apex
        .iter()
        .flat_map(|a| [&a.dnskey, &a.zone_signers, &a.cds_signers])
        .flatten();
    if let Some((n, _)) = listed.copied().collect::<Vec<_>>().iter().find_map(failed)
        && let Some(k) = zone.key(n)
    {
        let what = format!("key {} has to prove itself before it is published", k.tag());
        return of_store(&k.home, &what, facts, Subject::Prove(n));
    }
    let tried = facts
        .errors
        .get(&Subject::Build)
        .map_or(String::new(), |e| format!("; the last attempt failed: {e}"));
    Waiting {
        whom: Whom::Signer,
        text: format!("waits for signing: the version with its keys is not published yet{tried}"),
        next: facts.retry_at.get(&Subject::Build).copied(),
    }
}

/// The published version has not all signatures that the step is about.
fn for_signatures(zone: &ZoneKeys, facts: &Facts, roll: &Roll, seen: Seen) -> Waiting {
    let p = zone.published.as_ref();
    let signs = |n: &&KeyNum| zone.key(**n).is_some_and(|k| k.role.signs_data());
    let what = match seen {
        Seen::RrsigOldGone => {
            let any = p.map_or(&[][..], |p| &p.any);
            let left: Vec<KeyNum> = roll.old.iter().filter(signs).copied().collect();
            let left: Vec<KeyNum> = left.into_iter().filter(|n| any.contains(n)).collect();
            format!("signatures by {} are still in the zone", tags(zone, &left))
        }
        Seen::RrsigNew => {
            let all = p.map_or(&[][..], |p| &p.all);
            let left: Vec<KeyNum> = roll.new.iter().filter(signs).copied().collect();
            let left: Vec<KeyNum> = left.into_iter().filter(|n| !all.contains(n)).collect();
            format!("not every record is signed by {} yet", tags(zone, &left))
        }
        _ => "the unsigned version is not published yet".to_string(),
    };
    let serial = p.map_or(String::new(), |p| format!(" (serial {})", p.serial));
    Waiting {
        whom: Whom::Signer,
        text: format!("waits for signing: {what}{serial}, which takes its key-roll-time"),
        next: facts.signs_next,
    }
}

/// Servers have not shown it yet.
fn for_servers(
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    facts: &Facts,
    roll: &Roll,
    open: &[Seen],
    first: Seen,
    now: Timestamp,
) -> Waiting {
    let what = What::of(first);
    // The one that says most: a server that contradicts or is silent.
    let of_step = |s: &Seen| zone.look(What::of(*s)).filter(|l| l.started >= roll.since);
    let look = open
        .iter()
        .filter_map(of_step)
        .find(|l| bad_member(l).is_some())
        .or_else(|| of_step(&first));
    let (whom, mut text) = match what {
        What::Ds => (Whom::Parent, "waits for the parent".to_string()),
        _ => (Whom::Servers, "waits for its name servers".to_string()),
    };
    text += &match look {
        Some(_) => evidence(look),
        None => ": nobody was asked yet in this step".to_string(),
    };
    if what == What::Ds
        && let Some(n) = &zone.parent.notified
    {
        text += &format!(", NOTIFY(CDS) {}: {}", n.at.to_human(), n.text);
    }
    if what == What::Ds && zone.parent.delegation == Delegation::Unknown {
        text += ", and where the zone is delegated is not known: set \
                 key-manager.ds.parent-nameservers, or tell what they show by hand";
    }
    if !is_automatic(policy, roll) {
        text += &format!(", and then for you: {}", by_hand(zone, roll, now));
    }
    let last = zone
        .look(what)
        .map(|l| l.ended)
        .filter(|at| *at >= roll.since);
    let retry = facts.retry_at.get(&Subject::Look(what)).copied();
    Waiting {
        whom,
        text,
        next: Some(retry.unwrap_or_else(|| next_look(roll.since, last))),
    }
}

/// All is seen, and copies of the old live on.
fn for_caches(zone: &ZoneKeys, policy: &KeyPolicy, roll: &Roll, now: Timestamp) -> Option<Waiting> {
    let mut next: Option<Timestamp> = None;
    let mut text = String::new();
    let mut served = false;
    for w in zone.cache_waits(policy, roll) {
        match w.free {
            Free::At { at, ttl } if at > now => {
                next = next.max(Some(at));
                text += &format!(
                    " (they may hold {} until {}, {} from now, TTL {ttl})",
                    w.dying.words(),
                    at.to_human(),
                    format_span(at.since(now))
                );
            }
            Free::Served => {
                served = true;
                let shown = evidence(zone.look(w.dying.look()));
                text += &format!(" (a server may still show {}{shown})", w.dying.words());
            }
            _ => {}
        }
    }
    (!text.is_empty()).then(|| Waiting {
        whom: Whom::Caches,
        text: format!("waits for caches{text}"),
        next: next.filter(|_| !served),
    })
}

/// Everything is as it should be, and nobody has said so.
fn for_operator(
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    roll: &Roll,
    row: &Row,
    now: Timestamp,
) -> Waiting {
    if is_automatic(policy, roll) {
        return Waiting {
            whom: Whom::Signer,
            text: format!("waits for signing: {} is over", row.state),
            next: Some(now),
        };
    }
    Waiting {
        whom: Whom::Operator,
        text: format!("waits for you and may go on: {}", by_hand(zone, roll, now)),
        next: None,
    }
}

/// The command that ends the step, without program and zone.
fn by_hand(zone: &ZoneKeys, roll: &Roll, now: Timestamp) -> String {
    let step = roll.stage.step();
    let ttl = match step {
        Step::Propagation1Complete | Step::Propagation2Complete => zone
            .step_ttl(roll, now)
            .map_or(String::new(), |t| format!(" {t}")),
        _ => String::new(),
    };
    format!("{} {}{ttl}", roll.class().word(), step.word())
}

fn bad_member(look: &SweepReport) -> Option<&crate::observe::MemberReport> {
    let bad = |v| matches!(v, Verdict::Mismatch | Verdict::NoAnswer);
    let unsteady = |v| matches!(v, Verdict::Unsteady);
    let first = |test: &dyn Fn(Verdict) -> bool| look.members.iter().find(|m| test(m.verdict));
    first(&bad).or_else(|| first(&unsteady))
}

/// What a look showed, in parentheses.
fn evidence(look: Option<&SweepReport>) -> String {
    let Some(look) = look else {
        return String::new();
    };
    let agree = look.members.iter();
    let agree = agree.filter(|m| m.verdict == Verdict::Match).count();
    let all = look.members.len();
    match bad_member(look) {
        Some(m) => format!(
            " ({} at {} has {}{}; {agree} of {all} addresses agree) when asked {}",
            m.server,
            m.place(),
            m.found,
            m.flipped_at.map_or(String::new(), |at| format!(
                " and went back to the old {}",
                at.to_human()
            )),
            look.ended.to_human()
        ),
        None => format!(
            " ({agree} of {all} addresses agree) when asked {}",
            look.ended.to_human()
        ),
    }
}

fn tags(zone: &ZoneKeys, nums: &[KeyNum]) -> String {
    if nums.is_empty() {
        return "-".to_string();
    }
    nums.iter()
        .filter_map(|n| zone.key(*n))
        .map(|k| k.tag().to_string())
        .collect::<Vec<_>>()
        .join("+")
}

/// Something that people should know even if no roll waits for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Alert {
    /// Linked before, and now there is no DS: the zone is insecure.
    DsVanished,
    /// A DS leads to a key that no longer exists, or into an unsigned zone; resolvers that use it
    /// see bogus data.
    DsOfLostKey { key: KeyNum, ds: Vec<DsRecord> },
    /// The parent has removed it, and caches may still hold it.
    LostDsInCaches { key: KeyNum, until: Timestamp },
    /// A DS that fits no key of the zone.
    ForeignDs,
    /// A DS is at the parent before it was asked for; `alone`: without one that leads to a key
    /// that all caches know.
    EarlyDs {
        key: KeyNum,
        alone: bool,
        until: Option<Timestamp>,
    },
    /// Another signer makes the zone, and none of its keys is one that the parent's DS names.
    PassedUnfit { ds: Vec<DsRecord> },
    /// The parent has not followed for longer than `remind_after`.
    ParentLate { since: Timestamp },
    /// A roll takes longer than the key it replaces was to live.
    RollTooLong { class: Class },
}

impl Alert {
    pub fn is_critical(&self) -> bool {
        matches!(
            self,
            Alert::DsVanished
                | Alert::DsOfLostKey { .. }
                | Alert::LostDsInCaches { .. }
                | Alert::PassedUnfit { .. }
                | Alert::EarlyDs { alone: true, .. }
        )
    }

    pub fn text(&self) -> String {
        match self {
            Alert::DsVanished => "the parent has no DS any more: the zone is insecure".to_string(),
            Alert::DsOfLostKey { key, ds } => format!(
                "the parent has a DS of key {key}, which is gone; have it removed: {}",
                ds.iter().map(DsRecord::text).collect::<Vec<_>>().join(", ")
            ),
            Alert::LostDsInCaches { key, until } => format!(
                "the parent had a DS of key {key}, which is gone; resolvers that hold it fail \
                 until {} at most, then this ends by itself",
                until.to_human()
            ),
            Alert::PassedUnfit { ds } => format!(
                "the DS at the parent fits no key in the DNSKEY RRset that the zone's signer made, \
                 so resolvers refuse the zone; have the parent show one of them, or the signer \
                 publish that key again; the parent has: {}",
                ds.iter().map(DsRecord::text).collect::<Vec<_>>().join(", ")
            ),
            Alert::ForeignDs => "the parent has a DS that fits no key of this zone".to_string(),
            Alert::EarlyDs { key, until, .. } => format!(
                "the parent has a DS of key {key} before it was asked for; caches may hold data \
                 that do not fit it{}",
                until.map_or(String::new(), |u| format!(" until {}", u.to_human()))
            ),
            Alert::ParentLate { since } => format!(
                "the parent has not followed since {}; see: get ds",
                since.to_human()
            ),
            Alert::RollTooLong { class } => {
                format!("the {class} takes longer than the validity of its key")
            }
        }
    }
}

/// All alerts at `now`.
pub fn alerts(zone: &ZoneKeys, policy: &KeyPolicy, now: Timestamp) -> Vec<Alert> {
    let mut out = Vec::new();
    let parent = &zone.parent;
    if parent.vanished {
        out.push(Alert::DsVanished);
    }
    for k in &zone.keys {
        let left = k.times.removed_at.or(k.times.trashed_at);
        let lost = k.times.destroyed_at.is_some() || (k.compromised && left.is_some());
        let key = k.num;
        if !lost && !zone.unsigned {
            continue;
        }
        if parent.shown.contains(&key) {
            let of = |d: &u8| DsRecord::of(&zone.owner, k, *d);
            let ds = [1, 2, 4].iter().filter_map(of).collect();
            out.push(Alert::DsOfLostKey { key, ds });
            continue;
        }
        let of_key = |s: &Served| matches!(s, Served::Ds { ours, .. } if ours.contains(&key));
        // The margin is for clocks and looks that failed, not for caches.
        if let Free::At { at: until, .. } = zone.log.free(of_key, std::time::Duration::ZERO)
            && until > now
        {
            out.push(Alert::LostDsInCaches { key, until });
        }
    }
    if parent.foreign && parent.delegation != Delegation::Elsewhere {
        out.push(Alert::ForeignDs);
    }
    out.extend(early_ds(zone, policy, now));
    let reachable = matches!(parent.delegation, Delegation::Ours | Delegation::Linked);
    if let (Some(since), None, true) = (parent.wanted_at, parent.followed_at, reachable)
        && now.since(since) >= policy.remind_after
    {
        out.push(Alert::ParentLate { since });
    }
    for roll in &zone.rolls {
        let validity = roll
            .old
            .iter()
            .filter_map(|n| policy.validity(zone.key(*n)?.role))
            .min();
        if validity.is_some_and(|v| now.since(roll.started_at) > v) {
            out.push(Alert::RollTooLong {
                class: roll.class(),
            });
        }
    }
    out
}

/// Keys on their way in whose DS is there already.
fn early_ds(zone: &ZoneKeys, policy: &KeyPolicy, now: Timestamp) -> Vec<Alert> {
    let parent = &zone.parent;
    let led = parent.wanted.iter().any(|n| parent.shown.contains(n));
    let mut out = Vec::new();
    for roll in &zone.rolls {
        let ends = zone.cache_waits(policy, roll).into_iter();
        let until = ends.filter_map(|w| match w.free {
            Free::At { at, .. } if at > now => Some(at),
            _ => None,
        });
        let until = until.max();
        for key in roll.new.iter().copied() {
            if parent.shown.contains(&key) && !parent.wanted.contains(&key) {
                let alone = !led;
                out.push(Alert::EarlyDs { key, alone, until });
            }
        }
    }
    out
}

#[cfg(test)]
#[path = "why_tests.rs"]
mod tests;
