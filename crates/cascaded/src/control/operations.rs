//! Operations: what a changing call has set in motion, and how far it has come.
//!
//! Nothing is told to an operation; its state is derived, when somebody asks, from what the zone
//! shows and from its history since the request. The table is in memory only: a restart forgets
//! the ids, not the work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cascade_api::common::{Acts, Finding, List, PageQuery, SubjectKind};
use cascade_api::daemon::{Operation, OperationState};
use cascade_api::{Problem, ProblemType};
use cascade_pipeline::history::HistoryKind as H;
use cascade_pipeline::state::{Candidate, Cause, Reason, Upkeep};
use cascade_pipeline::{HistoryEntry, Zone};
use cascade_time::Timestamp;
use cascade_zone::{VersionId, ZoneId};
use parking_lot::Mutex;

use super::{Answer, bug};
use crate::daemon::Daemon;
use crate::zone::{Mark, View, ZoneHandle, diagnostic_line};

/// Operations remembered, and for how long.
const KEPT: usize = 1000;
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Entries of the history looked at; an operation that is followed needs a handful.
const ENTRIES: u64 = 1000;
/// Findings of a failed load shown with the operation.
const FINDINGS: usize = 20;

/// What an operation waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// A load asked for at the mark, and what comes of it. `patient`: a failed load is tried again
    /// by itself and is waited for.
    Load { patient: bool },
    /// The load that a reset may have started; none is fine too.
    Reset,
    /// This content, or newer, published.
    Candidate(VersionId),
    /// This content published, though newer content was.
    Rollback(VersionId),
    /// The live version signed again.
    Upkeep,
    /// The live version in accord with policy and keys.
    Accord,
}

#[derive(Debug, Clone)]
struct Entry {
    kind: &'static str,
    zone: ZoneId,
    name: String,
    goal: Goal,
    mark: u64,
    started_at: Timestamp,
    over: Option<(Judged, Timestamp)>,
}

/// Operations by number.
#[derive(Debug, Default)]
pub struct Operations(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    last: u64,
    entries: BTreeMap<u64, Entry>,
}

impl Operations {
    /// Registers an operation whose request was accepted at `mark`; returns its id.
    pub fn begin(
        &self,
        z: &ZoneHandle,
        kind: &'static str,
        goal: Goal,
        mark: Mark,
        now: Timestamp,
    ) -> String {
        let entry = Entry {
            kind,
            zone: z.id,
            name: z.name.clone(),
            goal,
            mark: mark.entry,
            started_at: now,
            over: None,
        };
        self.insert(entry)
    }

    fn insert(&self, entry: Entry) -> String {
        let mut t = self.0.lock();
        let now = entry.started_at;
        t.last += 1;
        let n = t.last;
        t.entries.insert(n, entry);
        while t.entries.len() > KEPT {
            t.entries.pop_first();
        }
        t.forget_old(now);
        id(n)
    }

    fn get(&self, n: u64, now: Timestamp) -> Option<Entry> {
        let mut t = self.0.lock();
        t.forget_old(now);
        t.entries.get(&n).cloned()
    }

    fn all(&self, now: Timestamp) -> Vec<(u64, Entry)> {
        let mut t = self.0.lock();
        t.forget_old(now);
        t.entries.iter().map(|(n, e)| (*n, e.clone())).collect()
    }

    /// The end of an operation is final.
    fn settle(&self, n: u64, judged: &Judged, now: Timestamp) -> Option<Timestamp> {
        let mut t = self.0.lock();
        let entry = t.entries.get_mut(&n)?;
        let (_, at) = entry.over.get_or_insert_with(|| (judged.clone(), now));
        Some(*at)
    }
}

impl Table {
    fn forget_old(&mut self, now: Timestamp) {
        while self
            .entries
            .first_key_value()
            .is_some_and(|(_, e)| now.since(e.started_at) > KEPT_FOR)
        {
            self.entries.pop_first();
        }
    }
}

fn id(n: u64) -> String {
    format!("op-{n}")
}

fn number(id: &str) -> Option<u64> {
    id.strip_prefix("op-")?.parse().ok()
}

/// How an operation stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub state: OperationState,
    pub step: String,
    pub problem: Option<Problem>,
}

/// `GET /v1/operations/{id}`.
pub async fn show(d: &Arc<Daemon>, wanted: &str) -> Answer<Operation> {
    let found = number(wanted).and_then(|n| Some((n, d.operations.get(n, d.now())?)));
    let Some((n, entry)) = found else {
        return Err(Problem::new(
            ProblemType::OperationNotFound,
            format!(
                "operation '{wanted}' is not known: operations are kept for a day, and not over a restart of the daemon"
            ),
        )
        .subject(SubjectKind::Operation, wanted)
        .action("cascade zone status <zone> shows what became of it"));
    };
    let d = d.clone();
    tokio::task::spawn_blocking(move || look(&d, n, entry))
        .await
        .map_err(bug)?
}

/// `GET /v1/operations`, oldest first.
pub async fn list(d: &Arc<Daemon>, page: &PageQuery) -> Answer<List<Operation>> {
    let cursor = |n: u64| format!("{n:020}");
    let page = PageQuery {
        limit: page.limit,
        after: page.after.as_deref().and_then(number).map(cursor),
    };
    let chosen = List::page(d.operations.all(d.now()), &page, |(n, _)| cursor(*n));
    let d = d.clone();
    tokio::task::spawn_blocking(move || {
        let next = chosen
            .next
            .as_ref()
            .and(chosen.items.last())
            .map(|(n, _)| id(*n));
        let items: Answer<Vec<Operation>> = chosen
            .items
            .into_iter()
            .map(|(n, entry)| look(&d, n, entry))
            .collect();
        Ok(List {
            items: items?,
            next,
        })
    })
    .await
    .map_err(bug)?
}

/// The operation as it stands. Blocking: reads the zone's history.
fn look(d: &Daemon, n: u64, entry: Entry) -> Answer<Operation> {
    let mut counts = None;
    let (judged, finished_at) = match &entry.over {
        Some((judged, at)) => (judged.clone(), Some(*at)),
        None => {
            let zone = d.zone_of(&entry.name, entry.zone);
            let judged = match &zone {
                // Its history went with it.
                None => removed(&entry.name),
                Some(z) => {
                    // In this order: the history is then at least as new as the view.
                    let view = z.view();
                    counts = view.signing.as_ref().map(|p| p.units());
                    let since = history(d, entry.zone, entry.mark)?;
                    judge(&entry.name, entry.goal, entry.mark, &view, &since)
                }
            };
            let over = judged.state.is_over();
            let at = over.then(|| d.now());
            let at = at.and_then(|now| d.operations.settle(n, &judged, now));
            (judged, at)
        }
    };
    let running = judged.state == OperationState::Running;
    let counts = counts.filter(|(_, total)| running && *total > 0);
    Ok(Operation {
        operation: id(n),
        kind: entry.kind.into(),
        zone: Some(entry.name),
        state: judged.state,
        started_at: entry.started_at,
        finished_at,
        step: Some(judged.step),
        done: counts.map(|(done, _)| done),
        total: counts.map(|(_, total)| total),
        problem: judged.problem,
    })
}

/// Entries from `mark` on, oldest first.
fn history(d: &Daemon, zone: ZoneId, mark: u64) -> Answer<Vec<HistoryEntry>> {
    let before = mark.saturating_add(ENTRIES);
    let mut all: Vec<(u64, HistoryEntry)> = d
        .state
        .history(zone, Some(before), ENTRIES as usize)
        .map_err(bug)?;
    all.retain(|(seq, _)| *seq >= mark);
    all.reverse();
    Ok(all.into_iter().map(|(_, e)| e).collect())
}

// ---- judging

struct Facts<'a> {
    name: &'a str,
    view: &'a View,
    zone: &'a Zone,
    since: &'a [HistoryEntry],
    /// The history has entries that the view does not show yet.
    behind: bool,
}

/// How the operation stands, from what the zone shows and its history since the request.
fn judge(name: &str, goal: Goal, mark: u64, view: &View, since: &[HistoryEntry]) -> Judged {
    let zone = &view.row.zone;
    let facts = Facts {
        name,
        view,
        zone,
        since,
        behind: since.last().is_some_and(|e| e.seq >= zone.next_entry),
    };
    // Entries of steps that become durable with a later one; the history shows no more than so many.
    let written = since.last().map_or(mark, |e| e.seq + 1);
    let ahead = written < zone.next_entry && (since.len() as u64) < ENTRIES;
    if view.bug.is_some() {
        let detail = format!("zone '{name}' is halted by an internal fault; the log has more");
        return facts.ended(
            OperationState::Failed,
            Problem::new(ProblemType::Bug, detail).action("systemctl restart cascaded"),
        );
    }
    if matches!(zone.candidate, Candidate::Removing { .. }) {
        return removed(name);
    }
    if facts.behind || ahead {
        // In a moment the one has what the other has.
        return facts.running(facts.step());
    }
    match goal {
        Goal::Load { patient } => facts.load(patient, false),
        Goal::Reset => facts.load(false, true),
        Goal::Candidate(v) => facts.candidate(v, false, since),
        Goal::Rollback(v) => facts.candidate(v, true, since),
        Goal::Upkeep => facts.upkeep(),
        Goal::Accord => facts.accord(),
    }
}

fn removed(name: &str) -> Judged {
    let detail = format!("zone '{name}' was removed");
    Judged {
        state: OperationState::Cancelled,
        step: "removed".into(),
        problem: Some(
            Problem::new(ProblemType::ZoneNotFound, detail)
                .subject(SubjectKind::Zone, name)
                .state("the operation has ended with the zone"),
        ),
    }
}

impl Facts<'_> {
    /// From the load to the end of what it found.
    fn load(&self, patient: bool, optional: bool) -> Judged {
        let Some(start) = self.position(self.since, &[H::LoadStarted]) else {
            if self.zone.pending.load.is_some() || self.is_loading() {
                return self.running(self.waiting_to_load());
            }
            if optional {
                return done("reset");
            }
            return self.cancelled("the load was given up before it began");
        };
        let after = self.since.get(start + 1..).unwrap_or_default();
        let mut failed = None;
        for (i, e) in after.iter().enumerate() {
            match e.kind {
                H::LoadUnchanged => return done("unchanged"),
                H::RejectedBefore => {
                    return self.rejected(e, "this content was rejected before");
                }
                H::LoadFailed if patient => failed = e.reason.clone(),
                H::LoadFailed => return self.load_failed(e),
                H::NewVersion => {
                    let rest = after.get(i + 1..).unwrap_or_default();
                    return match e.version {
                        Some(v) => self.candidate(v, false, rest),
                        None => self.running(self.step()),
                    };
                }
                _ => {}
            }
        }
        if self.is_loading() || self.zone.pending.load.is_some() {
            return self.running(self.step());
        }
        if patient && let Some(error) = failed {
            return self.running(format!("waits for the source: {error}"));
        }
        if optional {
            return done("reset");
        }
        self.cancelled("the load ended without a result")
    }

    /// Content on its way to be published; `after`: the history since it came in.
    /// `exact`: newer content is another one.
    fn candidate(&self, v: VersionId, exact: bool, after: &[HistoryEntry]) -> Judged {
        let is = |of: VersionId| if exact { of == v } else { of >= v };
        if self.zone.live.as_ref().is_some_and(|l| is(l.of)) {
            return done("published");
        }
        let parked = self.zone.candidate.parked();
        if self.zone.candidate.cand().is_some_and(|c| is(c.version)) {
            return match parked {
                Candidate::Rejected { by, reason, .. } => {
                    let why = format!("the version was rejected by {by}: {reason}");
                    self.halted(ProblemType::Halted, &why)
                }
                Candidate::Refused { reason, .. } => {
                    let why = format!("verification refused the version: {reason}");
                    self.halted(ProblemType::GateRefused, &why)
                }
                _ => self.running(self.step()),
            };
        }
        for e in after {
            match e.kind {
                H::GuardRejected
                | H::UnsignedRejected
                | H::SignedRejected
                | H::ContentRejected
                | H::RejectedBefore => return self.rejected(e, "the version was rejected"),
                H::ZoneReset => return self.cancelled("the zone was reset"),
                H::SigningNotNeeded => return done("unchanged"),
                _ => {}
            }
        }
        // The content was published and something older after it, or it gave way to newer content
        // that ended by itself.
        if self.position(after, &[H::Published]).is_some() {
            return done("published");
        }
        self.cancelled("the version is no longer on its way")
    }

    /// Signing of the live version, asked for by a person.
    fn upkeep(&self) -> Judged {
        let began = [H::SigningStarted, H::SigningResumed, H::Healing];
        if let Some(start) = self.position(self.since, &began) {
            let after = self.since.get(start + 1..).unwrap_or_default();
            if self.position(after, &[H::Published]).is_some() {
                return done("published");
            }
            if self.position(after, &[H::SigningNotNeeded]).is_some() {
                return done("unchanged");
            }
        }
        self.upkeep_lane()
            .unwrap_or_else(|| done("nothing to sign"))
    }

    /// Signing of the live version, as far as a change of policy asks for it.
    fn accord(&self) -> Judged {
        if let Some(judged) = self.upkeep_lane() {
            return judged;
        }
        let z = self.zone;
        let differs = z
            .live
            .as_ref()
            .is_some_and(|l| l.signing != z.settings.signing || l.keys != z.keys);
        if differs || z.candidate.is_active() {
            return self.running(self.step());
        }
        done("done")
    }

    /// What the lane of upkeep is at; `None` when it rests.
    fn upkeep_lane(&self) -> Option<Judged> {
        let z = self.zone;
        if let Candidate::Refused { reason, .. } = z.candidate.parked() {
            let why = format!("verification refused the version: {reason}");
            return Some(self.halted(ProblemType::GateRefused, &why));
        }
        let text = match &z.upkeep {
            Upkeep::Idle if z.pending.upkeep.contains(&Reason::Manual) => "waiting-to-sign".into(),
            Upkeep::Idle => return None,
            Upkeep::Signing { .. } => "signing".to_string(),
            Upkeep::Verifying { .. } => "verifying".into(),
            Upkeep::AwaitReview { .. } => "signed-review".into(),
            Upkeep::Persisting { .. } => "publishing".into(),
            Upkeep::AwaitRetry { retry, .. } => match retry.cause {
                Cause::Refused => {
                    let why = format!("verification refused the new signatures: {}", retry.error);
                    return Some(self.halted(ProblemType::GateRefused, &why));
                }
                Cause::Review => {
                    let why = format!("the new signatures were rejected: {}", retry.error);
                    return Some(self.ended(
                        OperationState::Rejected,
                        self.problem(ProblemType::Halted, &why),
                    ));
                }
                _ => format!("waits: {}", retry.error),
            },
        };
        Some(self.running(text))
    }

    fn is_loading(&self) -> bool {
        matches!(
            self.zone.candidate,
            Candidate::Loading(_) | Candidate::Restoring { .. }
        )
    }

    fn position(&self, entries: &[HistoryEntry], kinds: &[H]) -> Option<usize> {
        entries.iter().position(|e| kinds.contains(&e.kind))
    }

    fn waiting_to_load(&self) -> String {
        if self.zone.modes.maintenance.is_some() {
            return "waits for the end of maintenance".into();
        }
        if self.zone.modes.load_paused.is_some() {
            return "waits: loading is paused".into();
        }
        match self.zone.candidate {
            Candidate::Idle => "waiting-to-load".into(),
            _ => format!("waiting-to-load, now {}", self.step()),
        }
    }

    /// The step the zone is at, in one word and with the reason where it waits.
    fn step(&self) -> String {
        let state = self.zone.api_state().as_str();
        if let Candidate::AwaitRetry { retry, .. } = self.zone.candidate.parked() {
            return format!("{state}: {}", retry.error);
        }
        match &self.view.keys_wait {
            Some(why) => format!("waiting-keys: {why}"),
            None => state.to_string(),
        }
    }

    fn running(&self, step: String) -> Judged {
        Judged {
            state: OperationState::Running,
            step,
            problem: None,
        }
    }

    fn problem(&self, kind: ProblemType, why: &str) -> Problem {
        let left = match &self.zone.live {
            Some(l) => format!("serial {} stays published", l.serial),
            None => "nothing is published".into(),
        };
        Problem::new(kind, format!("zone '{}': {why}", self.name))
            .subject(SubjectKind::Zone, self.name)
            .state(left)
            .action(format!("cascade why {}", self.name))
    }

    fn ended(&self, state: OperationState, problem: Problem) -> Judged {
        Judged {
            step: cascade_api::word(&state),
            state,
            problem: Some(problem),
        }
    }

    fn halted(&self, kind: ProblemType, why: &str) -> Judged {
        self.ended(OperationState::Halted, self.problem(kind, why))
    }

    fn cancelled(&self, why: &str) -> Judged {
        let problem = self.problem(ProblemType::Halted, why);
        self.ended(OperationState::Cancelled, problem)
    }

    fn rejected(&self, e: &HistoryEntry, what: &str) -> Judged {
        let by = e
            .actor
            .as_ref()
            .map_or(String::new(), |a| format!(" by {a}"));
        let why = match &e.reason {
            Some(reason) => format!("{what}{by}: {reason}"),
            None => format!("{what}{by}"),
        };
        let problem = self.problem(ProblemType::Halted, &why);
        self.ended(OperationState::Rejected, problem)
    }

    fn load_failed(&self, e: &HistoryEntry) -> Judged {
        let reason = e.reason.as_deref().unwrap_or("see the history");
        let report = self.view.row.reports.failed_load.as_ref();
        let kept = report.map(|r| r.diagnostics.kept.as_slice());
        let errors = kept
            .unwrap_or_default()
            .iter()
            .take(FINDINGS)
            .map(|k| Finding {
                file: None,
                line: None,
                column: None,
                code: None,
                level: None,
                detail: diagnostic_line(k),
                suggestion: None,
            });
        let why = format!("loading failed: {reason}");
        let problem = self
            .problem(ProblemType::SourceUnreadable, &why)
            .acts(Acts::Source)
            .errors(errors.collect());
        self.ended(OperationState::Failed, problem)
    }
}

fn done(step: &str) -> Judged {
    Judged {
        state: OperationState::Done,
        step: step.into(),
        problem: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at: u64) -> Entry {
        Entry {
            kind: "reload",
            zone: ZoneId([1; 16]),
            name: "example.net".into(),
            goal: Goal::Upkeep,
            mark: 1,
            started_at: Timestamp::from_secs(at as i64),
            over: None,
        }
    }

    #[test]
    fn the_table_is_bounded_by_number_and_age() {
        let ops = Operations::default();
        let now = Timestamp::from_secs(1_000);
        for _ in 0..KEPT + 10 {
            ops.insert(entry(1_000));
        }
        assert_eq!(ops.all(now).len(), KEPT);
        assert!(ops.get(10, now).is_none());
        assert!(ops.get(11, now).is_some());
        let tomorrow = now + KEPT_FOR + Duration::from_secs(1);
        assert_eq!(ops.all(tomorrow).len(), 0);
        assert_eq!(ops.insert(entry(200_000)), format!("op-{}", KEPT + 11));
    }

    #[test]
    fn an_end_is_final() {
        let ops = Operations::default();
        ops.insert(entry(1_000));
        let (first, later) = (Timestamp::from_secs(1_001), Timestamp::from_secs(1_002));
        assert_eq!(ops.settle(1, &done("published"), first), Some(first));
        assert_eq!(ops.settle(1, &removed("example.net"), later), Some(first));
        let kept = ops.get(1, later).and_then(|e| e.over).map(|(j, _)| j.state);
        assert_eq!(kept, Some(OperationState::Done));
    }

    #[test]
    fn ids() {
        assert_eq!(number("op-7"), Some(7));
        assert_eq!(number("7"), None);
        assert_eq!(number("op-x"), None);
    }
}
