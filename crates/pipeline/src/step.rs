//! One event, one transition. The table of the design is [`Machine::apply`] with the lanes below it;
//! what is due by `now` is done by [`Machine::settle`] after every event.

use std::collections::BTreeSet;

use cascade_time::Timestamp;
use cascade_zone::{Serial, VersionId};

use crate::action::{Accepted, Action, Refusal};
use crate::effects::{self, Outline};
use crate::event::{Event, RequestId};
use crate::history::{HistoryEntry, HistoryKind, bounded, line};
use crate::state::{Candidate, JobId, Loading, PendingLoad, Trigger, Zone};

/// The next value of the zone, and what is to be done once it is durable, in this order.
pub fn step(zone: Zone, event: Event, now: Timestamp) -> (Zone, Vec<Action>) {
    let before = Outline::of(&zone, now);
    let mut m = Machine::new(zone, now);
    m.apply(event);
    m.settle();
    effects::finish(m, before)
}

/// A zone while one event is worked on.
pub(crate) struct Machine {
    pub z: Zone,
    pub now: Timestamp,
    /// Jobs and hook runs that this event ended: nothing to cancel.
    pub finished: BTreeSet<JobId>,
    pub records: Vec<HistoryEntry>,
    pub answer: Option<(RequestId, Result<Accepted, Refusal>)>,
    /// The live version is a new one, or is shown again after a restart: tell everybody.
    pub announce: bool,
    /// A load beside the parked candidate must not go on.
    pub stop_load: bool,
    /// A load runs beside the state that the event meets.
    pub load_aside: bool,
    changed: bool,
}

/// What an entry of the history is about, beside its kind.
#[derive(Default)]
pub(crate) struct About {
    pub version: Option<VersionId>,
    pub serial: Option<Serial>,
    pub reason: Option<String>,
    pub actor: Option<String>,
    pub since: Option<Timestamp>,
    pub details: serde_json::Value,
}

impl Machine {
    pub(crate) fn new(zone: Zone, now: Timestamp) -> Self {
        Machine {
            z: zone,
            now,
            finished: BTreeSet::new(),
            records: Vec::new(),
            answer: None,
            announce: false,
            stop_load: false,
            load_aside: false,
            changed: false,
        }
    }

    /// The table. Results of a load go to the lane as it is; all else concerns the parked state,
    /// whether or not a load runs beside it.
    fn apply(&mut self, event: Event) {
        if matches!(self.z.candidate, Candidate::Removing { .. }) {
            return self.apply_removing(event);
        }
        if matches!(self.z.candidate, Candidate::Restoring { .. }) {
            return self.apply_restoring(event);
        }
        match event {
            Event::Timer => {}
            Event::LoadUnchanged { job, expires_at } => self.load_unchanged(job, expires_at),
            Event::LoadDone { job, loaded } => self.load_done(job, loaded),
            Event::LoadFailed { job, error } => self.load_failed(job, &error),
            Event::TaskPanicked { job, error } => self.panicked(job, &error),
            other => {
                let load = self.set_load_aside();
                self.load_aside = load.is_some();
                self.apply_parked(other);
                self.take_load_back(load);
            }
        }
    }

    fn apply_parked(&mut self, event: Event) {
        if let Some(reason) = event.reason() {
            if let Event::SweepFinding { text } = &event {
                self.record(HistoryKind::SweepFinding, About::why(text));
            }
            self.z.pending.upkeep.insert(reason);
            return;
        }
        match event {
            Event::Request(r) => self.request(r),
            Event::SourceSignal(trigger) => self.want_load(false, trigger),
            Event::SourceExpired => self.source_expired(),
            Event::SourceBack => self.source_back(),
            Event::GuardResult {
                job,
                outcome,
                report,
            } => self.guard_result(job, outcome, report),
            Event::HookDone { run, verdict } => self.hook_done(run, verdict),
            Event::HookFailed { run, error } => self.hook_failed(run, &error),
            Event::SignProgress { job } => self.sign_progress(job),
            Event::SignDone { job, signed } => self.sign_done(job, signed),
            Event::SignNothing { job, next_due } => self.sign_nothing(job, next_due),
            Event::SignDeferred {
                job,
                next_due,
                done,
                total,
            } => self.upkeep_deferred(job, next_due, done, total),
            Event::SignFailed { job, fault, error } => self.sign_failed(job, fault, &error),
            Event::VerifyPassed { job, report } => self.verify_passed(job, report),
            Event::VerifyRefused {
                job,
                healable,
                report,
            } => {
                self.verify_refused(job, healable, report);
            }
            Event::VerifyImpossible { job, error } => self.verify_impossible(job, &error),
            Event::KeysChanged(keys) => self.keys_changed(keys),
            Event::PersistDone { job } => self.persist_done(job),
            Event::PersistFailed { job, error } => self.persist_failed(job, &error),
            Event::StorageFull => self.storage_full(),
            Event::StorageOk => self.storage_ok(),
            Event::ClockUnsafe { why } => self.clock_unsafe(&why),
            Event::ClockSafe => self.clock_safe(),
            Event::DelegationConflict { what } => {
                if self.z.conflict.is_none() {
                    self.record(HistoryKind::Conflict, About::why(&what));
                    self.z.conflict = Some((self.now, line(&what)));
                }
            }
            Event::DelegationOk => {
                if self.z.conflict.take().is_some() {
                    self.record(HistoryKind::ConflictOver, About::default());
                }
            }
            Event::ServersAsked(asked) => self.servers_asked(asked),
            Event::SecondaryAhead {
                serial,
                server,
                raise,
            } => self.secondary_ahead(serial, server, raise),
            // Handled above, or meaningful only while restoring or removing.
            Event::Timer
            | Event::LoadUnchanged { .. }
            | Event::LoadDone { .. }
            | Event::LoadFailed { .. }
            | Event::TaskPanicked { .. }
            | Event::RefreshDue
            | Event::SweepFinding { .. }
            | Event::Restored { .. }
            | Event::RestoreFailed(_)
            | Event::RemoveDone { .. }
            | Event::RemoveFailed { .. } => {}
        }
    }

    /// Everything due by now, and everything that waited for a gate that is open now. Each round
    /// can open the way for another; a handful always suffices, the bound is for our own bugs.
    pub(crate) fn settle(&mut self) {
        self.z.settled_at = self.now;
        if matches!(self.z.candidate, Candidate::Restoring { .. }) {
            return;
        }
        if matches!(self.z.candidate, Candidate::Removing { .. }) {
            return self.settle_removing();
        }
        for _ in 0..16 {
            self.changed = false;
            self.end_modes();
            self.watchdog();
            self.settle_reviews();
            self.settle_upkeep_first();
            self.settle_candidate();
            self.settle_load();
            self.settle_upkeep();
            self.settle_sign_first();
            self.settle_beside();
            if !self.changed {
                break;
            }
        }
    }

    /// Notes that something moved, so that [`settle`](Self::settle) looks again.
    pub(crate) fn touch(&mut self) {
        self.changed = true;
    }

    pub(crate) fn new_job(&mut self) -> JobId {
        let job = JobId(self.z.next_job);
        self.z.next_job = self.z.next_job.saturating_add(1);
        self.touch();
        job
    }

    pub(crate) fn new_version(&mut self) -> VersionId {
        let version = VersionId(self.z.next_version);
        self.z.next_version = self.z.next_version.saturating_add(1);
        version
    }

    /// Number for the spread of a delay; another one for every job.
    pub(crate) fn draw(&self) -> u64 {
        self.z.seed ^ self.z.next_job.rotate_left(32)
    }

    pub(crate) fn record(&mut self, kind: HistoryKind, about: About) {
        let seq = self.z.next_entry;
        self.z.next_entry = seq.saturating_add(1);
        let text = match (&about.reason, &about.actor) {
            (Some(r), Some(a)) => format!("{} by {a}: {r}", kind.text()),
            (Some(r), None) => format!("{} ({r})", kind.text()),
            (None, Some(a)) => format!("{} by {a}", kind.text()),
            (None, None) => kind.text().to_owned(),
        };
        self.records.push(HistoryEntry {
            seq,
            at: self.now,
            kind,
            version: about.version,
            serial: about.serial,
            text,
            reason: about.reason,
            actor: about.actor,
            duration_ms: about
                .since
                .map(|s| self.now.since(s).as_millis().min(u64::MAX as u128) as u64),
            details: bounded(about.details),
        });
    }

    /// Asks for a load; requests merge, the stronger one wins.
    pub(crate) fn want_load(&mut self, forced: bool, trigger: Trigger) {
        let since = self.now;
        match &mut self.z.pending.load {
            Some(p) => {
                p.forced |= forced;
                if matches!(trigger, Trigger::Person(_)) {
                    p.trigger = trigger;
                }
            }
            none => {
                *none = Some(PendingLoad {
                    forced,
                    trigger,
                    since,
                })
            }
        }
    }

    /// Takes a running load off the lane, so that an event meets the parked state.
    pub(crate) fn set_load_aside(&mut self) -> Option<Loading> {
        match std::mem::take(&mut self.z.candidate) {
            Candidate::Loading(mut l) => {
                self.z.candidate = std::mem::take(&mut *l.resume);
                Some(l)
            }
            other => {
                self.z.candidate = other;
                None
            }
        }
    }

    /// Puts the load back if the lane still is where one can run; else it is asked for again.
    pub(crate) fn take_load_back(&mut self, load: Option<Loading>) {
        let stop = std::mem::take(&mut self.stop_load);
        let Some(mut load) = load else { return };
        let fits = matches!(
            self.z.candidate,
            Candidate::Idle
                | Candidate::AwaitGuardApproval { .. }
                | Candidate::AwaitUnsignedReview { .. }
                | Candidate::AwaitSignedReview { .. }
                | Candidate::AwaitRetry { .. }
                | Candidate::Refused { .. }
        );
        if fits && !stop {
            *load.resume = std::mem::take(&mut self.z.candidate);
            self.z.candidate = Candidate::Loading(load);
        } else if !matches!(self.z.candidate, Candidate::Removing { .. }) {
            self.want_load(load.forced, load.trigger);
        }
    }
}

impl About {
    pub(crate) fn why(reason: &str) -> Self {
        About {
            reason: Some(line(reason)),
            ..About::default()
        }
    }

    pub(crate) fn by(actor: &str) -> Self {
        About {
            actor: Some(actor.to_owned()),
            ..About::default()
        }
    }

    pub(crate) fn version(version: VersionId, serial: Serial) -> Self {
        About {
            version: Some(version),
            serial: Some(serial),
            ..About::default()
        }
    }

    pub(crate) fn reason(mut self, reason: &str) -> Self {
        let reason = line(reason);
        self.reason = (!reason.is_empty()).then_some(reason);
        self
    }

    pub(crate) fn actor(mut self, actor: &str) -> Self {
        self.actor = Some(actor.to_owned());
        self
    }

    pub(crate) fn since(mut self, since: Timestamp) -> Self {
        self.since = Some(since);
        self
    }

    pub(crate) fn details(mut self, details: serde_json::Value) -> Self {
        self.details = details;
        self
    }
}
