//! The upkeep lane: what is live, signed again because signatures, keys or policy ask for it.
//!
//! Reasons are derived from live wherever that is possible, so no restart, discarded candidate or
//! lost event loses one.

use std::collections::BTreeSet;

use crate::backoff::{delay, of_fault};
use crate::candidate::Try;
use crate::event::{Fault, SignResult};
use crate::history::{HistoryKind, line};
use crate::review::Outcome;
use crate::settings::{ReviewMode, UpkeepReview};
use crate::state::{
    Beside, Candidate, Cause, Fp, Hook, JobId, KeySet, Reason, Report, Retry, Review, RunwayClass,
    Serving, SignMode, Stage, UpJob, Upkeep, Work,
};
use crate::step::{About, Machine};

/// A refresh that found nothing to do is not asked for again before this time.
const NOTHING_AGAIN_SECS: u64 = 60;

// When.
impl Machine {
    /// Why the live version should be signed again.
    pub(crate) fn upkeep_reasons(&self) -> BTreeSet<Reason> {
        let mut out = self.z.pending.upkeep.clone();
        let Some(live) = &self.z.live else { return out };
        if live.next_due <= self.now {
            out.insert(Reason::Refresh);
        }
        if live.keys != self.z.keys {
            out.insert(Reason::Keys);
        }
        if live.signing != self.z.settings.signing {
            out.insert(Reason::Policy);
        }
        if live.serving == Serving::AwaitResign {
            out.insert(Reason::Recovery);
        }
        out
    }

    /// Class of the time left; a zone that is not answered before it is signed has none left.
    pub(crate) fn urgency(&self) -> RunwayClass {
        match &self.z.live {
            Some(l) if l.serving.is_silent() => RunwayClass::Emergency,
            _ => self.z.runway(self.now),
        }
    }

    pub(crate) fn upkeep_is_due(&self) -> bool {
        match &self.z.upkeep {
            Upkeep::Idle => !self.upkeep_reasons().is_empty(),
            Upkeep::AwaitRetry { retry, .. } => retry.at.is_none_or(|at| at <= self.now),
            _ => false,
        }
    }

    /// What keeps upkeep from working now, with its cause for the status.
    pub(crate) fn upkeep_hindrance(&self, persist: bool) -> Option<(Cause, &'static str)> {
        let Some(live) = &self.z.live else {
            return Some((Cause::OtherLane, "nothing is published yet"));
        };
        if self.z.doubt.is_some() {
            return Some((
                Cause::Doubt,
                "restored from a backup; its servers are asked first",
            ));
        }
        let class = self.urgency();
        if self.z.is_expired() {
            return Some((Cause::OtherLane, "the source expired"));
        }
        if live.serving == Serving::RecoveredOld && class == RunwayClass::Normal {
            return Some((
                Cause::OtherLane,
                "an older version was recovered; the source is asked",
            ));
        }
        if self.z.clock_unsafe.is_some() && !persist {
            return Some((Cause::Clock, "the clock is not safe"));
        }
        // The reserve on disk is for signatures that would expire otherwise.
        if self.z.storage_full.is_some() && class == RunwayClass::Normal {
            return Some((Cause::Storage, "the disk is full"));
        }
        if self.z.modes.maintenance.as_ref().is_some_and(|m| !m.resign)
            && class < RunwayClass::Critical
        {
            return Some((
                Cause::Maintenance,
                "the zone is in maintenance without re-signing",
            ));
        }
        if persist && self.z.modes.publish_paused.is_some() && class == RunwayClass::Normal {
            return Some((Cause::PublishPaused, "publishing is paused"));
        }
        if matches!(self.z.candidate, Candidate::Persisting { .. }) {
            return Some((Cause::OtherLane, "a version is going live"));
        }
        if self.z.candidate.is_active() && class < RunwayClass::Critical {
            return Some((Cause::OtherLane, "the candidate is being worked on"));
        }
        None
    }

    /// Critical upkeep comes before the candidate.
    pub(crate) fn settle_upkeep_first(&mut self) {
        if self.urgency() >= RunwayClass::Critical && self.upkeep_is_due() {
            self.settle_upkeep();
        }
    }

    pub(crate) fn settle_upkeep(&mut self) {
        if !self.upkeep_is_due() {
            return;
        }
        let live = self.z.live.as_ref().map(|l| l.version);
        let (work, reasons, t) = match &self.z.upkeep {
            Upkeep::AwaitRetry { up, reasons, retry } => {
                let stale = up
                    .as_ref()
                    .is_none_or(|u| u.signed.based_on != live || self.is_passed(u.signed.serial));
                let work = match retry.work {
                    Work::Persist | Work::Verify { .. } if stale => Work::Sign(SignMode::New),
                    other => other,
                };
                let failed = !matches!(
                    retry.cause,
                    Cause::OtherLane | Cause::Maintenance | Cause::PublishPaused | Cause::Doubt
                );
                let attempt = retry.attempt.saturating_add(u32::from(failed));
                let t = Try {
                    attempt,
                    units_of: retry.units_of,
                    full: retry.full,
                };
                (work, reasons.clone(), t)
            }
            _ => (Work::Sign(SignMode::New), BTreeSet::new(), Try::default()),
        };
        if let Some((cause, why)) = self.upkeep_hindrance(work == Work::Persist) {
            // A time that has passed is not a time to wait for: whatever opens the way does.
            if let Upkeep::AwaitRetry { retry, .. } = &mut self.z.upkeep
                && retry.at.is_some()
            {
                retry.at = None;
                retry.cause = cause;
                retry.error = why.to_owned();
                self.touch();
            }
            return;
        }
        self.pause_candidate(Cause::OtherLane, "the live version must be signed first");
        match (std::mem::take(&mut self.z.upkeep), work) {
            (Upkeep::AwaitRetry { up: Some(up), .. }, Work::Persist | Work::Verify { .. }) => {
                self.upkeep_go(up, work, t);
            }
            (Upkeep::AwaitRetry { up, .. }, _) => {
                self.upkeep_sign(SignMode::New, reasons, up.and_then(|u| u.approved_fp), t);
            }
            _ => self.upkeep_sign(SignMode::New, reasons, None, t),
        }
    }

    fn upkeep_sign(
        &mut self,
        mode: SignMode,
        mut reasons: BTreeSet<Reason>,
        approved_fp: Option<Fp>,
        mut t: Try,
    ) {
        reasons.extend(self.upkeep_reasons());
        self.z.pending.upkeep.clear();
        t.full |= std::mem::take(&mut self.z.pending.full);
        let job = self.sign_job(mode, reasons, t);
        self.z.upkeep = Upkeep::Signing { job, approved_fp };
    }

    fn upkeep_go(&mut self, up: Box<UpJob>, work: Work, t: Try) {
        self.touch();
        let (attempt, since) = (t.attempt, self.now);
        if work == Work::Persist
            && let Some((cause, why)) = self.upkeep_hindrance(true)
        {
            return self.upkeep_waits(Some(up), work, cause, why, t);
        }
        let job = self.new_job();
        self.z.upkeep = match work {
            Work::Verify { healed } => Upkeep::Verifying {
                up,
                job,
                healed,
                attempt,
                since,
            },
            _ => Upkeep::Persisting {
                up,
                job,
                attempt,
                since,
            },
        };
    }

    fn upkeep_waits(
        &mut self,
        up: Option<Box<UpJob>>,
        work: Work,
        cause: Cause,
        error: &str,
        t: Try,
    ) {
        let at = match cause {
            Cause::Failed(f) => Some(delay(
                of_fault(&self.z.settings.backoff, f),
                t.attempt,
                self.draw(),
            )),
            Cause::Review => {
                let n = self.z.pending.rejections.saturating_sub(1);
                Some(delay(self.z.settings.backoff.review, n, self.draw()))
            }
            Cause::Refused => Some(delay(self.z.settings.backoff.refused, 0, self.draw())),
            _ => None,
        };
        let retry = Retry {
            work,
            cause,
            error: line(error),
            attempt: t.attempt,
            since: self.now,
            at: at.map(|d| self.now + d),
            units_of: t.units_of,
            full: t.full,
        };
        let reasons = up.as_ref().map(|u| u.reasons.clone()).unwrap_or_default();
        self.z.upkeep = Upkeep::AwaitRetry { up, reasons, retry };
        self.touch();
    }

    /// The candidate goes first, or the zone is silent: what upkeep was about is asked for again.
    pub(crate) fn yield_upkeep(&mut self) {
        if let Upkeep::Signing { job, .. } = &self.z.upkeep {
            let (reasons, full) = (job.reasons.clone(), job.full);
            self.ask_again(&reasons);
            self.z.pending.full |= full;
            self.z.upkeep = Upkeep::Idle;
        }
    }

    /// Keeps those reasons that do not follow from live.
    pub(crate) fn ask_again(&mut self, reasons: &BTreeSet<Reason>) {
        let asked = [Reason::Manual, Reason::Sweep];
        self.z
            .pending
            .upkeep
            .extend(reasons.iter().filter(|r| asked.contains(r)));
    }

    /// A new version went live: whatever upkeep made of the old one is worthless.
    pub(crate) fn upkeep_lost_its_base(&mut self) {
        match std::mem::take(&mut self.z.upkeep) {
            Upkeep::AwaitRetry {
                reasons, mut retry, ..
            } => {
                retry.work = Work::Sign(SignMode::New);
                self.z.upkeep = Upkeep::AwaitRetry {
                    up: None,
                    reasons,
                    retry,
                };
            }
            Upkeep::AwaitReview { up, .. }
            | Upkeep::Verifying { up, .. }
            | Upkeep::Persisting { up, .. } => self.ask_again(&up.reasons),
            Upkeep::Signing { job, .. } => self.ask_again(&job.reasons),
            Upkeep::Idle => {}
        }
    }

    /// The signer review server shows one version: that of the candidate comes first.
    pub(crate) fn share_review_slot(&mut self) {
        let taken = matches!(
            self.z.candidate.parked(),
            Candidate::AwaitSignedReview { .. }
        );
        match std::mem::take(&mut self.z.upkeep) {
            Upkeep::AwaitReview { up, mut review } => {
                let shown = review.hook != Hook::NotOpened;
                if taken && shown {
                    review.hook = Hook::NotOpened;
                    review.deadline = None;
                    self.touch();
                } else if !taken && !shown {
                    self.begin_review(&mut review);
                }
                self.z.upkeep = Upkeep::AwaitReview { up, review };
            }
            other => self.z.upkeep = other,
        }
    }
}

// Results.
impl Machine {
    fn take_upkeep(&mut self, pick: &dyn Fn(&Upkeep) -> bool) -> Option<Upkeep> {
        if !pick(&self.z.upkeep) {
            return None;
        }
        self.touch();
        Some(std::mem::take(&mut self.z.upkeep))
    }

    fn take_upkeep_signing(&mut self, job: JobId) -> Option<(crate::state::SignJob, Option<Fp>)> {
        let mine = |u: &Upkeep| matches!(u, Upkeep::Signing { job: j, .. } if j.job == job);
        match self.take_upkeep(&mine)? {
            Upkeep::Signing {
                job: j,
                approved_fp,
            } => {
                self.finished.insert(job);
                Some((j, approved_fp))
            }
            other => {
                self.z.upkeep = other;
                None
            }
        }
    }

    pub(crate) fn upkeep_sign_done(&mut self, job: JobId, result: SignResult) {
        let Some((j, approved_fp)) = self.take_upkeep_signing(job) else {
            return;
        };
        if !self.serial_fits(&result) {
            let error = format!(
                "serial {} does not exceed the last one shown",
                result.serial
            );
            self.record(HistoryKind::Bug, About::why(&error));
            self.ask_again(&j.reasons);
            let t = Try {
                attempt: j.attempt,
                ..Try::default()
            };
            let work = Work::Sign(SignMode::New);
            return self.upkeep_waits(None, work, Cause::Failed(Fault::Bug), &error, t);
        }
        self.record_signed(&j, &result);
        self.z.pending.serial = None;
        let reasons = j.reasons.clone();
        let signed = j.signed(result, self.z.live.as_ref());
        let up = Box::new(UpJob {
            signed,
            reasons,
            approved_fp,
            approvals: Vec::new(),
        });
        let healed = j.mode == SignMode::Heal;
        self.upkeep_go(up, Work::Verify { healed }, Try::default());
    }

    pub(crate) fn upkeep_nothing(&mut self, job: JobId, next_due: cascade_time::Timestamp) {
        let Some((j, _)) = self.take_upkeep_signing(job) else {
            return;
        };
        self.record(HistoryKind::SigningNotNeeded, About::default());
        let soonest = self.now + std::time::Duration::from_secs(NOTHING_AGAIN_SECS);
        if let Some(live) = &mut self.z.live {
            live.next_due = next_due.max(soonest);
            // The plan is met as it is.
            live.keys = j.keys;
            live.signing = j.signing;
            if live.serving.is_silent() {
                live.serving = Serving::Yes;
            }
        }
    }

    /// Part of what the policy asks for is in the making, so it stays a reason for upkeep. What else
    /// comes goes first.
    pub(crate) fn upkeep_deferred(
        &mut self,
        job: JobId,
        next_due: Option<cascade_time::Timestamp>,
        done: u64,
        total: u64,
    ) {
        let Some((j, _)) = self.take_upkeep_signing(job) else {
            return;
        };
        if self.z.beside.is_none() {
            self.record(HistoryKind::DenialBuilding, About::default());
        }
        let since = self.z.beside.map_or(self.now, |b| b.since);
        self.z.beside = Some(Beside { since, done, total });
        let soonest = self.now + std::time::Duration::from_secs(NOTHING_AGAIN_SECS);
        if let (Some(live), Some(due)) = (&mut self.z.live, next_due) {
            live.next_due = due.max(soonest);
            live.keys = j.keys;
            if live.serving.is_silent() {
                live.serving = Serving::Yes;
            }
        }
    }

    /// Answers wait for signatures that are being made, and for nothing else.
    pub(crate) fn settle_sign_first(&mut self) {
        let under_way = matches!(
            self.z.upkeep,
            Upkeep::Signing { .. } | Upkeep::Verifying { .. } | Upkeep::Persisting { .. }
        );
        if let Some(live) = self.z.live.as_mut().filter(|_| !under_way)
            && live.serving == Serving::SignFirst
        {
            live.serving = Serving::Yes;
            self.touch();
        }
    }

    /// Nothing is being built once live is what the policy asks for.
    pub(crate) fn settle_beside(&mut self) {
        let met = |l: &crate::state::Live| l.signing == self.z.settings.signing;
        if self.z.beside.is_some() && self.z.live.as_ref().is_none_or(met) {
            self.z.beside = None;
        }
    }

    pub(crate) fn upkeep_sign_failed(&mut self, job: JobId, fault: Fault, error: &str) {
        let Some((j, approved_fp)) = self.take_upkeep_signing(job) else {
            return;
        };
        self.record(HistoryKind::SigningFailed, About::why(error).since(j.since));
        self.ask_again(&j.reasons);
        let units_of = (fault != Fault::Bug).then_some(job);
        let t = Try {
            attempt: j.attempt,
            units_of,
            full: j.full,
        };
        // A fault of content or of ours does not go away within seconds.
        let cause = match fault {
            Fault::Bug | Fault::Content => Cause::Failed(Fault::Content),
            other => Cause::Failed(other),
        };
        let _ = approved_fp;
        self.upkeep_waits(None, Work::Sign(SignMode::New), cause, error, t);
    }

    fn take_upkeep_verifying(&mut self, job: JobId) -> Option<(Box<UpJob>, bool, u32)> {
        let mine = |u: &Upkeep| matches!(u, Upkeep::Verifying { job: j, .. } if *j == job);
        match self.take_upkeep(&mine)? {
            Upkeep::Verifying {
                up,
                healed,
                attempt,
                ..
            } => {
                self.finished.insert(job);
                Some((up, healed, attempt))
            }
            other => {
                self.z.upkeep = other;
                None
            }
        }
    }

    pub(crate) fn upkeep_verified(&mut self, job: JobId, report: &Report) {
        let Some((up, ..)) = self.take_upkeep_verifying(job) else {
            return;
        };
        self.use_serial(up.signed.serial);
        let about = About::version(up.signed.version, up.signed.serial);
        self.record(
            HistoryKind::Verified,
            about.reason(&report.text).details(report.data.clone()),
        );
        let rules = &self.z.settings.signed_review;
        let judged = match self.z.settings.upkeep_review {
            UpkeepReview::Script => rules.mode == ReviewMode::Script,
            UpkeepReview::Always => rules.mode != ReviewMode::Off,
            UpkeepReview::Never => false,
        };
        if !judged || up.approved_fp == Some(up.signed.reviewed_fp) {
            return self.upkeep_go(up, Work::Persist, Try::default());
        }
        let taken = matches!(
            self.z.candidate.parked(),
            Candidate::AwaitSignedReview { .. }
        );
        let again = up.approved_fp.is_some();
        let rules = rules.clone();
        let (version, serial) = (up.signed.version, up.signed.serial);
        let review = if taken {
            Review {
                stage: Stage::Signed,
                version,
                rules,
                revision: self.z.settings.revision,
                opened_at: self.now,
                hook: Hook::NotOpened,
                hook_index: 0,
                failures: 0,
                deferrals: 0,
                last_error: None,
                deadline: None,
                again,
            }
        } else {
            self.open_review(Stage::Signed, rules, version, serial, again)
        };
        self.z.upkeep = Upkeep::AwaitReview { up, review };
    }

    pub(crate) fn conclude_upkeep(&mut self, mut up: Box<UpJob>, review: Review, o: Outcome) {
        match o {
            Outcome::Stay => self.z.upkeep = Upkeep::AwaitReview { up, review },
            Outcome::Approved { by } => {
                let about = About::version(up.signed.version, up.signed.serial).actor(&by);
                self.record(HistoryKind::SignedApproved, about);
                up.approved_fp = Some(up.signed.reviewed_fp);
                self.z.pending.rejections = 0;
                if self.upkeep_hindrance(true).is_some() {
                    return self.upkeep_stays(up, Work::Persist);
                }
                self.pause_candidate(Cause::OtherLane, "the live version must be signed first");
                if up.signed.next_due <= self.now {
                    // It waited so long that part of it is due again.
                    self.z.upkeep = Upkeep::Idle;
                    let approved = up.approved_fp;
                    let reasons = up.reasons;
                    return self.upkeep_sign(SignMode::Rebase, reasons, approved, Try::default());
                }
                self.upkeep_go(up, Work::Persist, Try::default());
            }
            Outcome::Rejected { by, reason } => {
                let about = About::version(up.signed.version, up.signed.serial).actor(&by);
                self.record(HistoryKind::SignedRejected, about.reason(&reason));
                self.z.pending.rejections = self.z.pending.rejections.saturating_add(1);
                self.ask_again(&up.reasons);
                let error = format!("review rejected the refreshed version: {reason}");
                let work = Work::Sign(SignMode::New);
                self.upkeep_waits(None, work, Cause::Review, &error, Try::default());
            }
        }
    }

    fn upkeep_stays(&mut self, up: Box<UpJob>, work: Work) {
        if let Some((cause, why)) = self.upkeep_hindrance(work == Work::Persist) {
            self.upkeep_waits(Some(up), work, cause, why, Try::default());
        }
    }

    pub(crate) fn upkeep_refused(&mut self, job: JobId, healable: bool, report: &Report) {
        let Some((up, healed, _)) = self.take_upkeep_verifying(job) else {
            return;
        };
        let about = About::version(up.signed.version, up.signed.serial);
        self.record(HistoryKind::VerifyRefused, about.reason(&report.text));
        if healable && !healed {
            return self.upkeep_sign(SignMode::Heal, up.reasons, up.approved_fp, Try::default());
        }
        self.ask_again(&up.reasons);
        let error = format!(
            "verification refused the refreshed version: {}",
            report.text
        );
        let t = Try::default();
        self.upkeep_waits(None, Work::Sign(SignMode::New), Cause::Refused, &error, t);
    }

    pub(crate) fn upkeep_unverifiable(&mut self, job: JobId, error: &str) {
        let Some((up, healed, attempt)) = self.take_upkeep_verifying(job) else {
            return;
        };
        self.record(HistoryKind::VerifyImpossible, About::why(error));
        let t = Try {
            attempt,
            ..Try::default()
        };
        let cause = Cause::Failed(Fault::Verifier);
        self.upkeep_waits(Some(up), Work::Verify { healed }, cause, error, t);
    }

    fn take_upkeep_persisting(&mut self, job: JobId) -> Option<(Box<UpJob>, u32)> {
        let mine = |u: &Upkeep| matches!(u, Upkeep::Persisting { job: j, .. } if *j == job);
        match self.take_upkeep(&mine)? {
            Upkeep::Persisting { up, attempt, .. } => {
                self.finished.insert(job);
                Some((up, attempt))
            }
            other => {
                self.z.upkeep = other;
                None
            }
        }
    }

    pub(crate) fn upkeep_not_persisted(&mut self, job: JobId, error: &str) {
        let Some((up, attempt)) = self.take_upkeep_persisting(job) else {
            return;
        };
        self.record(HistoryKind::PersistFailed, About::why(error));
        let t = Try {
            attempt,
            ..Try::default()
        };
        self.upkeep_waits(
            Some(up),
            Work::Persist,
            Cause::Failed(Fault::Storage),
            error,
            t,
        );
    }

    pub(crate) fn upkeep_persisted(&mut self, job: JobId) {
        let Some((up, _)) = self.take_upkeep_persisting(job) else {
            return;
        };
        let Some(mut live) = self.z.live.clone() else {
            return;
        };
        let s = up.signed;
        live.version = s.version;
        live.serial = s.serial;
        live.published_at = self.now;
        live.min_exp = s.min_exp;
        live.next_due = s.next_due;
        live.keys = s.keys;
        live.signing = s.signing;
        live.despite_verification = None;
        if live.serving.is_silent() {
            live.serving = Serving::Yes;
        }
        self.z.pending.rejections = 0;
        self.set_live(live);
    }
}

// The world changes under both lanes.
impl Machine {
    pub(crate) fn keys_changed(&mut self, keys: KeySet) {
        if self.z.keys != keys {
            self.record(HistoryKind::KeysChanged, About::default());
        }
        self.z.keys = keys;
        self.replan();
        self.remedy(&|c| matches!(c, Cause::Failed(Fault::Keys | Fault::Token)));
    }

    /// Jobs that sign by an old plan start again; units that are the same are taken over.
    pub(crate) fn replan(&mut self) {
        let (keys, signing) = (self.z.keys, self.z.settings.signing);
        let old = |j: &crate::state::SignJob| j.keys != keys || j.signing != signing;
        if matches!(&self.z.candidate, Candidate::Signing { job, .. } if old(job))
            && let Candidate::Signing { cand, job } = std::mem::take(&mut self.z.candidate)
        {
            let t = Try {
                attempt: 0,
                units_of: Some(job.job),
                full: job.full,
            };
            self.go(cand, Work::Sign(job.mode), t);
        }
        if matches!(&self.z.upkeep, Upkeep::Signing { job, .. } if old(job))
            && let Upkeep::Signing { job, approved_fp } = std::mem::take(&mut self.z.upkeep)
        {
            let t = Try {
                attempt: 0,
                units_of: Some(job.job),
                full: job.full,
            };
            self.upkeep_sign(job.mode, job.reasons, approved_fp, t);
        }
    }

    /// What failed for one of these causes is tried again now.
    pub(crate) fn remedy(&mut self, helps: &dyn Fn(Cause) -> bool) {
        let now = self.now;
        if let Candidate::AwaitRetry { retry, .. } = &mut self.z.candidate
            && helps(retry.cause)
            && retry.at.is_some()
        {
            retry.at = Some(now);
        }
        if let Upkeep::AwaitRetry { retry, .. } = &mut self.z.upkeep
            && helps(retry.cause)
            && retry.at.is_some()
        {
            retry.at = Some(now);
        }
        self.touch();
    }

    pub(crate) fn storage_full(&mut self) {
        if self.z.storage_full.is_none() {
            self.z.storage_full = Some(self.now);
            self.record(HistoryKind::StorageFull, About::default());
        }
    }

    pub(crate) fn storage_ok(&mut self) {
        if self.z.storage_full.take().is_some() {
            self.record(HistoryKind::StorageOk, About::default());
        }
        self.remedy(&|c| matches!(c, Cause::Storage | Cause::Failed(Fault::Storage)));
    }

    /// Nothing is signed or verified by a clock that may be wrong; serving goes on.
    pub(crate) fn clock_unsafe(&mut self, why: &str) {
        if let Some((_, known)) = &mut self.z.clock_unsafe {
            // Another reason for the same.
            *known = line(why);
            return;
        }
        self.z.clock_unsafe = Some((self.now, line(why)));
        self.record(HistoryKind::ClockUnsafe, About::why(why));
        self.pause_candidate(Cause::Clock, "the clock is not safe");
        match std::mem::take(&mut self.z.upkeep) {
            Upkeep::Signing { job, .. } => {
                self.ask_again(&job.reasons);
                let t = Try {
                    attempt: 0,
                    units_of: Some(job.job),
                    full: job.full,
                };
                let work = Work::Sign(SignMode::New);
                self.upkeep_waits(None, work, Cause::Clock, "the clock is not safe", t);
            }
            Upkeep::Verifying {
                up,
                healed,
                attempt,
                ..
            } => {
                let t = Try {
                    attempt,
                    ..Try::default()
                };
                let work = Work::Verify { healed };
                self.upkeep_waits(Some(up), work, Cause::Clock, "the clock is not safe", t);
            }
            other => self.z.upkeep = other,
        }
    }

    pub(crate) fn clock_safe(&mut self) {
        if self.z.clock_unsafe.take().is_some() {
            self.record(HistoryKind::ClockSafe, About::default());
        }
        self.remedy(&|c| matches!(c, Cause::Clock | Cause::Failed(Fault::Clock)));
    }

    /// A panic counts as the failure of the stage it happened in.
    pub(crate) fn panicked(&mut self, job: JobId, error: &str) {
        self.stage_failed(job, Fault::Bug, error);
    }

    pub(crate) fn stage_failed(&mut self, job: JobId, fault: Fault, error: &str) {
        let before = self.finished.len();
        self.load_failed(job, error);
        if self.finished.len() > before {
            return;
        }
        let load = self.set_load_aside();
        let report = Report::text(format!("the comparison failed: {error}"));
        // Not compared is not passed: a person looks.
        self.guard_result(job, crate::event::GuardOutcome::Hold, report);
        self.sign_failed(job, fault, error);
        self.verify_impossible(job, error);
        self.persist_failed(job, error);
        self.on_review(
            &|r| matches!(r.hook, Hook::Running { run, .. } if run == job),
            &mut |m, r| {
                m.finished.insert(job);
                m.hook_broke(r, error)
            },
        );
        self.take_load_back(load);
    }

    /// No stage hangs for ever: beyond its limit it has failed, and its job is cancelled.
    pub(crate) fn watchdog(&mut self) {
        let (limits, now) = (self.z.settings.limits, self.now);
        let mut late = Vec::new();
        if let Candidate::Loading(l) = &self.z.candidate
            && l.since + limits.load <= now
        {
            late.push(l.job);
        }
        match self.z.candidate.parked() {
            Candidate::Guarding { job, since, .. } if *since + limits.load <= now => {
                late.push(*job);
            }
            Candidate::Signing { job, .. } if job.since + limits.sign_unit <= now => {
                late.push(job.job);
            }
            Candidate::Verifying { job, since, .. } if *since + limits.verify <= now => {
                late.push(*job);
            }
            Candidate::Persisting { job, since, .. } if *since + limits.persist <= now => {
                late.push(*job);
            }
            _ => {}
        }
        match &self.z.upkeep {
            Upkeep::Signing { job, .. } if job.since + limits.sign_unit <= now => {
                late.push(job.job);
            }
            Upkeep::Verifying { job, since, .. } if *since + limits.verify <= now => {
                late.push(*job);
            }
            Upkeep::Persisting { job, since, .. } if *since + limits.persist <= now => {
                late.push(*job);
            }
            _ => {}
        }
        for job in late {
            self.stage_failed(job, Fault::Bug, "no sign of life within its time limit");
            self.finished.remove(&job);
        }
    }
}
