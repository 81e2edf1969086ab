//! The ends of a zone's life in one process: coming back after a restart, and being removed.

use cascade_time::Timestamp;

use crate::action::{Accepted, Action, RefusalCode};
use crate::backoff::delay;
use crate::candidate::Try;
use crate::effects;
use crate::event::{Command, Event, Keepsake, Lost, Request};
use crate::history::HistoryKind;
use crate::state::{
    Cand, Candidate, Hook, Origin, Retained, Retry, Review, Serving, SignMode, Trigger, Upkeep,
    Work, Zone,
};
use crate::step::{About, Machine};

/// The saved value in a new process: nothing is served or done before the files were read, which
/// the returned action asks for. Answer it with `Event::Restored` or `Event::RestoreFailed`.
pub fn restore(mut zone: Zone, now: Timestamp) -> (Zone, Vec<Action>) {
    if let Candidate::Removing { retry_at, done, .. } = &mut zone.candidate {
        *retry_at = None;
        let job_of_old_process = effects::Outline::nothing();
        *done = false;
        return effects::finish(Machine::new(zone, now), job_of_old_process);
    }
    let mut saved = std::mem::take(&mut zone.candidate);
    while let Candidate::Restoring { saved: inner, .. } = saved {
        saved = *inner;
    }
    if let Candidate::Loading(l) = saved {
        want_load(&mut zone, l.forced, now);
        saved = *l.resume;
    }
    if let Candidate::Guarding { cand, .. } = &saved
        && cand.guard_report.is_none()
    {
        // Its content was never saved.
        want_load(&mut zone, true, now);
        saved = Candidate::Idle;
    }
    restore_upkeep(&mut zone);
    let (live, cand) = (zone.live.as_ref().map(|l| l.version), saved.cand());
    let ask = Action::Restore {
        live,
        unsigned: cand.map(|c| c.version),
        signed: cand.and_then(|c| c.signed.as_ref()).map(|s| s.version),
    };
    zone.candidate = Candidate::Restoring {
        saved: Box::new(saved),
        since: now,
    };
    zone.settled_at = now;
    (zone, vec![ask])
}

/// What upkeep had made is not kept: it follows from live again, with the delays it had.
fn restore_upkeep(zone: &mut Zone) {
    let mut m = Machine::new(zone.clone(), zone.settled_at);
    match std::mem::take(&mut m.z.upkeep) {
        Upkeep::Idle => {}
        Upkeep::Signing { job, .. } => {
            m.ask_again(&job.reasons);
            m.z.pending.full |= job.full;
        }
        Upkeep::Verifying { up, .. }
        | Upkeep::AwaitReview { up, .. }
        | Upkeep::Persisting { up, .. } => m.ask_again(&up.reasons),
        Upkeep::AwaitRetry { reasons, retry, .. } => {
            let retry = Retry {
                work: Work::Sign(SignMode::New),
                units_of: None,
                ..retry
            };
            m.z.upkeep = Upkeep::AwaitRetry {
                up: None,
                reasons,
                retry,
            };
        }
    }
    *zone = m.z;
}

fn want_load(zone: &mut Zone, forced: bool, now: Timestamp) {
    let mut m = Machine::new(zone.clone(), now);
    m.want_load(forced, Trigger::Restart);
    *zone = m.z;
}

impl Machine {
    /// While files are read, the world is noted and requests wait.
    pub(crate) fn apply_restoring(&mut self, event: Event) {
        match event {
            Event::Restored { candidate } => self.restored(candidate),
            Event::RestoreFailed(lost) => self.restore_failed(lost),
            Event::Request(r) => self.request_restoring(r),
            Event::SourceSignal(t) => self.want_load(false, t),
            Event::KeysChanged(keys) => self.z.keys = keys,
            Event::StorageFull => self.storage_full(),
            Event::StorageOk => self.storage_ok(),
            Event::ClockUnsafe { why } => self.clock_unsafe(&why),
            Event::ClockSafe => self.clock_safe(),
            Event::SourceExpired => self.source_expired(),
            Event::SourceBack => self.source_back(),
            Event::DelegationConflict { what } => {
                self.z.conflict.get_or_insert((self.now, what));
            }
            Event::DelegationOk => self.z.conflict = None,
            _ => {}
        }
    }

    fn request_restoring(&mut self, r: Request) {
        let wait = || Accepted {
            note: "accepted, waits until the zone is restored".to_owned(),
            ..Accepted::default()
        };
        match r.command {
            Command::Load { forced } => {
                self.want_load(forced, Trigger::Person(r.by.name));
                self.answer = Some((r.id, Ok(wait())));
            }
            Command::Pin { .. }
            | Command::Unpin
            | Command::Pause(_)
            | Command::Resume(_)
            | Command::MaintenanceOn { .. }
            | Command::MaintenanceOff
            | Command::Resign { .. }
            | Command::ChangeSource { .. }
            | Command::ChangePolicy { .. }
            | Command::Remove { .. } => self.request(r),
            Command::Approve { .. }
            | Command::Reject { .. }
            | Command::Override { .. }
            | Command::Reset
            | Command::Rollback { .. } => {
                let why = "the zone is being restored; try again in a moment";
                let no = self.refusal(RefusalCode::Restoring, why, vec![]);
                self.answer = Some((r.id, Err(no)));
            }
        }
    }

    fn take_saved(&mut self) -> Candidate {
        match std::mem::take(&mut self.z.candidate) {
            Candidate::Restoring { saved, .. } => *saved,
            other => other,
        }
    }

    fn restored(&mut self, found: Keepsake) {
        let saved = self.take_saved();
        self.touch();
        self.record(HistoryKind::ZoneRestored, About::default());
        // A crash may have come between the commit and the NOTIFY: say it again.
        self.announce = true;
        // What nobody was answered with lately is not shown with signatures that have ended.
        let now = self.now;
        let live = self.z.live.as_mut().filter(|l| l.min_exp <= now);
        if let Some(live) = live.filter(|l| l.serving == Serving::Yes) {
            live.serving = Serving::SignFirst;
        }
        if self.z.live.is_none() && saved == Candidate::Idle {
            self.want_load(false, Trigger::Restart);
        }
        let Some(cand) = saved.cand().cloned().map(Box::new) else {
            return;
        };
        match found {
            Keepsake::None | Keepsake::Lost => self.candidate_lost(*cand),
            Keepsake::Unsigned => self.resume_unsigned(saved, cand),
            Keepsake::Whole | Keepsake::Persisted => self.resume_whole(saved, cand, found),
        }
    }

    /// What came from the source can be asked for again; a rollback's content is retained.
    fn candidate_lost(&mut self, cand: Cand) {
        if let Origin::Rollback { to, .. } = &cand.origin
            && let Some(r) = self.z.retained(*to).cloned()
        {
            let again = self.cand_of(&r, cand.origin.clone(), cand.load_report);
            return self.go(again, Work::Sign(SignMode::New), Try::default());
        }
        self.drop_candidate(&cand);
        let about = About::version(cand.version, cand.source_serial);
        self.record(
            HistoryKind::LoadFailed,
            about.reason(
                "the candidate of before the restart is not whole; its source is read again",
            ),
        );
        self.want_load(true, Trigger::Restart);
    }

    /// Content is there, signatures are not: from the signing on, everything is done again.
    fn resume_unsigned(&mut self, saved: Candidate, mut cand: Box<Cand>) {
        let was_signed = cand.signed.take().is_some();
        cand.verify_report = None;
        let sign = Work::Sign(SignMode::Resume);
        match saved {
            Candidate::AwaitRetry {
                retry: Retry {
                    work: Work::Review, ..
                },
                ..
            } => {
                self.go(cand, Work::Review, Try::default());
            }
            Candidate::Signing { .. }
            | Candidate::Verifying { .. }
            | Candidate::AwaitSignedReview { .. }
            | Candidate::Persisting { .. }
            | Candidate::AwaitRetry { .. } => self.go(cand, sign, Try::default()),
            Candidate::Rejected { .. } | Candidate::Refused { .. } if was_signed => {
                self.go(cand, sign, Try::default());
            }
            other => self.resume_whole(other, cand, Keepsake::Whole),
        }
    }

    fn resume_whole(&mut self, saved: Candidate, cand: Box<Cand>, found: Keepsake) {
        match saved {
            // The baseline or the rules may be others by now.
            Candidate::Guarding { .. } | Candidate::AwaitGuardApproval { .. } => {
                self.start_guard(cand);
            }
            Candidate::Signing { job, .. } => {
                let t = Try {
                    attempt: 0,
                    units_of: Some(job.job),
                    full: job.full,
                };
                let mode = match job.mode {
                    SignMode::Heal | SignMode::Rebase => job.mode,
                    SignMode::New | SignMode::Resume => SignMode::Resume,
                };
                self.go(cand, Work::Sign(mode), t);
            }
            Candidate::Verifying { healed, .. } => {
                self.go(cand, Work::Verify { healed }, Try::default());
            }
            Candidate::Persisting { .. } if found == Keepsake::Persisted => {
                self.candidate_is_live(*cand);
            }
            Candidate::Persisting { .. } => self.go(cand, Work::Persist, Try::default()),
            Candidate::AwaitUnsignedReview { mut review, .. } => {
                self.reopen(&mut review);
                self.z.candidate = Candidate::AwaitUnsignedReview { cand, review };
            }
            Candidate::AwaitSignedReview { mut review, .. } => {
                self.reopen(&mut review);
                self.z.candidate = Candidate::AwaitSignedReview { cand, review };
            }
            other => self.z.candidate = other,
        }
    }

    /// A hook that was running died with the process; its run was not its fault.
    fn reopen(&mut self, review: &mut Review) {
        if matches!(review.hook, Hook::Running { .. }) {
            self.run_hook(review);
        }
    }

    fn restore_failed(&mut self, lost: Lost) {
        let saved = self.take_saved();
        self.touch();
        if let Some(c) = saved.cand().cloned() {
            self.drop_candidate(&c);
        }
        match lost {
            Lost::Old(live) => {
                let about = About::version(live.version, live.serial);
                self.record(HistoryKind::ZoneRecovered, about);
                let mut live = *live;
                live.serving = Serving::RecoveredOld;
                if self.z.used_serial.is_none_or(|u| live.serial.newer_than(u)) {
                    self.z.used_serial = Some(live.serial);
                }
                self.z.retained = vec![Retained::of(&live)];
                self.z.live = Some(live);
            }
            Lost::Signatures => {
                self.record(
                    HistoryKind::ZoneRecovered,
                    About::why("signatures are damaged"),
                );
                if let Some(live) = &mut self.z.live {
                    live.serving = Serving::AwaitResign;
                }
            }
            Lost::Nothing { why } => {
                self.record(HistoryKind::ZoneRecovered, About::why(&why));
                self.z.live = None;
                self.z.retained.clear();
            }
        }
        self.want_load(true, Trigger::Restart);
    }

    pub(crate) fn apply_removing(&mut self, event: Event) {
        let mine = match &self.z.candidate {
            Candidate::Removing { job, .. } => *job,
            _ => return,
        };
        match event {
            Event::RemoveDone { job } if job == mine => {
                self.finished.insert(job);
                if let Candidate::Removing { done, .. } = &mut self.z.candidate {
                    *done = true;
                }
            }
            Event::RemoveFailed { job, error } | Event::TaskPanicked { job, error }
                if job == mine =>
            {
                self.finished.insert(job);
                self.record(HistoryKind::Waiting, About::why(&error));
                let next = self.new_job();
                let (class, draw) = (self.z.settings.backoff.storage, self.draw());
                let now = self.now;
                if let Candidate::Removing {
                    job,
                    retry_at,
                    attempt,
                    ..
                } = &mut self.z.candidate
                {
                    *job = next;
                    *retry_at = Some(now + delay(class, *attempt, draw));
                    *attempt = attempt.saturating_add(1);
                }
            }
            Event::Request(r) => {
                let why = "the zone is being removed";
                let no = self.refusal(RefusalCode::Removing, why, vec![]);
                self.answer = Some((r.id, Err(no)));
            }
            _ => {}
        }
    }

    pub(crate) fn settle_removing(&mut self) {
        let now = self.now;
        if let Candidate::Removing { retry_at, .. } = &mut self.z.candidate
            && retry_at.is_some_and(|at| at <= now)
        {
            *retry_at = None;
        }
    }
}
