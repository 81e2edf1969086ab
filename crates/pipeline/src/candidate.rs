//! The candidate lane: newest content on its way to become live.

use cascade_time::Timestamp;
use cascade_zone::Serial;

use crate::backoff::{delay, of_fault};
use crate::event::{Fault, GuardOutcome, Loaded, SignResult};
use crate::history::{HistoryKind, line};
use crate::settings::{OnReject, ReviewMode};
use crate::state::{
    Ahead, Cand, Candidate, Cause, JobId, Live, Loading, Origin, Reason, RejectedAt, Report,
    Retained, Retry, RunwayClass, Serving, SignJob, SignMode, Signed, Stage, Trigger, Upkeep, Work,
};
use crate::step::{About, Machine};

/// What an attempt inherits from the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Try {
    pub attempt: u32,
    pub units_of: Option<JobId>,
    pub full: bool,
}

// Loading and the guard.
impl Machine {
    /// Starts the load that is asked for as soon as the lane and the modes allow one.
    pub(crate) fn settle_load(&mut self) {
        if self.z.source.retry_at.is_some_and(|at| at <= self.now) {
            self.z.source.retry_at = None;
            self.want_load(false, Trigger::Retry);
        }
        if self.load_hindrance().is_some() {
            return;
        }
        let Some(p) = self.z.pending.load.take() else {
            return;
        };
        let job = self.new_job();
        let version = self.new_version();
        self.z.source.retry_at = None;
        let why = match &p.trigger {
            Trigger::Person(by) => About::by(by),
            Trigger::Added => About::why("zone added"),
            Trigger::Notify => About::why("NOTIFY"),
            Trigger::Timer => About::why("timer"),
            Trigger::File => About::why("file changed"),
            Trigger::Restart => About::why("restart"),
            Trigger::Retry => About::why("retry"),
            Trigger::Update => About::why("update"),
        };
        self.record(HistoryKind::LoadStarted, why);
        self.z.candidate = Candidate::Loading(Loading {
            job,
            version,
            trigger: p.trigger,
            forced: p.forced,
            since: self.now,
            resume: Box::new(std::mem::take(&mut self.z.candidate)),
        });
    }

    /// Why a load that is asked for does not start now, and what would help.
    pub(crate) fn load_hindrance(&self) -> Option<(String, Vec<String>)> {
        let name = &self.z.name;
        let zone = |what: &str| format!("cascade zone {what} {name}");
        let no = |why: &str, cmds: Vec<String>| Some((why.to_owned(), cmds));
        if self.z.modes.maintenance.is_some() {
            return no(
                "the zone is in maintenance",
                vec![zone("maintenance disable")],
            );
        }
        if self.z.modes.load_paused.is_some() {
            let cmd = format!("cascade zone resume load {name}");
            return no("loading is paused", vec![cmd]);
        }
        if self.z.storage_full.is_some() {
            return no("the disk is full", vec![]);
        }
        let rollback = |c: &Cand| matches!(c.origin, Origin::Rollback { .. });
        if self.z.candidate.cand().is_some_and(rollback) {
            return no("a rollback is under way", vec![zone("reset")]);
        }
        match &self.z.candidate {
            Candidate::Idle
            | Candidate::AwaitGuardApproval { .. }
            | Candidate::AwaitRetry { .. }
            | Candidate::Refused { .. } => None,
            Candidate::AwaitUnsignedReview { review, .. }
            | Candidate::AwaitSignedReview { review, .. } => match review.rules.on_newer {
                crate::settings::OnNewer::Supersede => None,
                crate::settings::OnNewer::Queue => no(
                    "a version is under review",
                    vec![zone("status"), zone("reset")],
                ),
            },
            Candidate::Rejected { at_stage, .. } => {
                let flag = match at_stage {
                    RejectedAt::SignedReview => "override --signed",
                    _ => "override --unsigned",
                };
                no(
                    "the zone is halted by a rejection",
                    vec![zone(flag), zone("reset")],
                )
            }
            Candidate::Restoring { .. } => no("the zone is being restored", vec![]),
            Candidate::Removing { .. } => no("the zone is being removed", vec![]),
            Candidate::Loading(_)
            | Candidate::Guarding { .. }
            | Candidate::Signing { .. }
            | Candidate::Verifying { .. }
            | Candidate::Persisting { .. } => no("a version is being worked on", vec![]),
        }
    }

    fn take_loading(&mut self, job: JobId) -> Option<Loading> {
        match std::mem::take(&mut self.z.candidate) {
            Candidate::Loading(l) if l.job == job => {
                self.finished.insert(job);
                self.touch();
                Some(l)
            }
            other => {
                self.z.candidate = other;
                None
            }
        }
    }

    pub(crate) fn load_unchanged(&mut self, job: JobId, expires_at: Option<Timestamp>) {
        let Some(l) = self.take_loading(job) else {
            return;
        };
        self.record(HistoryKind::LoadUnchanged, About::default().since(l.since));
        self.z.candidate = *l.resume;
        self.source_ok(expires_at);
        let old = self
            .z
            .live
            .clone()
            .filter(|l| l.serving == Serving::RecoveredOld);
        if let (Some(live), Candidate::Idle) = (old, &self.z.candidate) {
            // Changed or not, the first load after a recovery leads to a serial above the highest
            // ever served; only its publication ends the state.
            let retained = Retained::of(&live);
            let report = Report::text("content of the recovered version, confirmed by the source");
            let cand = self.cand_of(&retained, Origin::Source, report);
            self.go(cand, Work::Sign(SignMode::New), Try::default());
        }
    }

    pub(crate) fn load_done(&mut self, job: JobId, loaded: Loaded) {
        let Some(l) = self.take_loading(job) else {
            return;
        };
        self.source_ok(loaded.expires_at);
        let same = |fp, serial| fp == loaded.content_fp && serial == loaded.source_serial;
        let recovered = self
            .z
            .live
            .as_ref()
            .is_some_and(|l| l.serving == Serving::RecoveredOld);
        if l.resume
            .cand()
            .is_some_and(|c| same(c.content_fp, c.source_serial))
        {
            self.record(
                HistoryKind::LoadUnchanged,
                About::why("same as the candidate"),
            );
            self.z.candidate = *l.resume;
            return;
        }
        let is_live = self
            .z
            .live
            .as_ref()
            .is_some_and(|l| same(l.content_fp, l.source_serial));
        if is_live && !recovered {
            // The source went back to what is live: an older candidate must not overtake it.
            self.superseded(&l.resume);
            self.record(
                HistoryKind::LoadUnchanged,
                About::why("same as the live version"),
            );
            return;
        }
        if let Some((fp, until)) = self.z.rejected
            && fp == loaded.content_fp
            && self.now < until
            && !matches!(l.trigger, Trigger::Person(_))
        {
            self.record(HistoryKind::RejectedBefore, About::default());
            self.z.candidate = *l.resume;
            return;
        }
        self.superseded(&l.resume);
        let about = About::version(l.version, loaded.source_serial)
            .since(l.since)
            .details(serde_json::json!({ "records": loaded.records, "octets": loaded.octets }));
        self.record(HistoryKind::NewVersion, about);
        let cand = Box::new(Cand {
            version: l.version,
            source_serial: loaded.source_serial,
            content_fp: loaded.content_fp,
            origin: loaded.origin,
            loaded_at: self.now,
            load_report: loaded.report,
            guard_report: None,
            approvals: Vec::new(),
            signed: None,
            verify_report: None,
            approved_fp: None,
            bugs: 0,
            despite: None,
        });
        self.start_guard(cand);
    }

    pub(crate) fn start_guard(&mut self, cand: Box<Cand>) {
        let job = self.new_job();
        self.z.candidate = Candidate::Guarding {
            cand,
            job,
            since: self.now,
        };
    }

    fn superseded(&mut self, parked: &Candidate) {
        if let Some(c) = parked.cand() {
            let about = About::version(c.version, c.source_serial);
            self.record(HistoryKind::Superseded, about);
        }
    }

    pub(crate) fn load_failed(&mut self, job: JobId, error: &str) {
        let Some(l) = self.take_loading(job) else {
            return;
        };
        self.record(HistoryKind::LoadFailed, About::why(error).since(l.since));
        self.z.candidate = *l.resume;
        let ours = self
            .z
            .live
            .as_ref()
            .is_none_or(|l| l.serving == Serving::RecoveredOld)
            || self.z.source.expires_at.is_none();
        let after = delay(
            self.z.settings.backoff.source,
            self.z.source.failures,
            self.draw(),
        );
        let s = &mut self.z.source;
        s.failures = s.failures.saturating_add(1);
        s.error = Some(line(error));
        // A primary's SOA timers ask again by themselves; a file or a first load would not.
        s.retry_at = ours.then(|| self.now + after);
    }

    fn source_ok(&mut self, expires_at: Option<Timestamp>) {
        let s = &mut self.z.source;
        s.failures = 0;
        s.error = None;
        s.last_ok = Some(self.now);
        s.expires_at = expires_at;
        s.retry_at = None;
        self.source_back();
    }

    pub(crate) fn source_expired(&mut self) {
        if !std::mem::replace(&mut self.z.source.expired, true) {
            self.record(HistoryKind::SourceExpired, About::default());
            if self.z.is_expired() && self.z.live.is_some() {
                self.record(HistoryKind::Withdrawn, About::why("source expired"));
                self.yield_upkeep();
            }
        }
    }

    pub(crate) fn source_back(&mut self) {
        let was = self.z.is_expired();
        if !std::mem::replace(&mut self.z.source.expired, false) {
            return;
        }
        self.record(HistoryKind::SourceBack, About::default());
        // Nothing was refreshed while the zone was silent.
        let late = self.z.runway(self.now) != RunwayClass::Normal;
        if let Some(live) = self.z.live.as_mut().filter(|_| was && late)
            && live.serving == Serving::Yes
        {
            live.serving = Serving::SignFirst;
        }
        self.touch();
    }

    pub(crate) fn guard_result(&mut self, job: JobId, outcome: GuardOutcome, report: Report) {
        let mut cand = match std::mem::take(&mut self.z.candidate) {
            Candidate::Guarding { cand, job: j, .. } if j == job => cand,
            other => {
                self.z.candidate = other;
                return;
            }
        };
        self.finished.insert(job);
        let kind = match outcome {
            GuardOutcome::Pass => HistoryKind::GuardPassed,
            GuardOutcome::Warn => HistoryKind::GuardWarned,
            GuardOutcome::Hold => HistoryKind::GuardHeld,
            GuardOutcome::Reject => HistoryKind::GuardRejected,
        };
        let why = line(&report.text);
        let about = About::version(cand.version, cand.source_serial)
            .reason(&why)
            .details(report.data.clone());
        self.record(kind, about);
        cand.guard_report = Some(report);
        self.touch();
        match outcome {
            GuardOutcome::Pass | GuardOutcome::Warn => self.go(cand, Work::Review, Try::default()),
            GuardOutcome::Hold => {
                self.z.candidate = Candidate::AwaitGuardApproval {
                    cand,
                    since: self.now,
                };
            }
            GuardOutcome::Reject => {
                let on_reject = self.z.settings.unsigned_review.on_reject;
                self.reject(cand, RejectedAt::Guard, on_reject, "change guard", &why);
            }
        }
    }
}

// The gate before every stage, and waiting.
impl Machine {
    /// Goes on with this work, or waits where something stands in the way.
    pub(crate) fn go(&mut self, cand: Box<Cand>, work: Work, inherit: Try) {
        self.touch();
        let work = self.rebased(&cand, work);
        if let Some((cause, error)) = self.blocked(&cand, work) {
            return self.park(cand, work, cause, &error, inherit, None);
        }
        if work != Work::Review {
            self.yield_upkeep();
        }
        match work {
            Work::Review => self.unsigned_review(cand),
            Work::Sign(mode) => {
                let reason = match cand.origin {
                    Origin::Rollback { .. } => Reason::Rollback,
                    Origin::Source | Origin::Edit { .. } => Reason::Content,
                };
                let mut reasons = self.upkeep_reasons();
                reasons.insert(reason);
                let job = self.sign_job(mode, reasons, inherit);
                self.z.candidate = Candidate::Signing { cand, job };
            }
            Work::Verify { healed } => {
                let (job, since) = (self.new_job(), self.now);
                let attempt = inherit.attempt;
                self.z.candidate = Candidate::Verifying {
                    cand,
                    job,
                    healed,
                    attempt,
                    since,
                };
            }
            Work::Persist => {
                let (job, since) = (self.new_job(), self.now);
                let attempt = inherit.attempt;
                self.z.candidate = Candidate::Persisting {
                    cand,
                    job,
                    attempt,
                    since,
                };
            }
        }
    }

    pub(crate) fn sign_job(
        &mut self,
        mode: SignMode,
        reasons: std::collections::BTreeSet<Reason>,
        inherit: Try,
    ) -> SignJob {
        let text: Vec<String> = reasons
            .iter()
            .map(|r| format!("{r:?}").to_lowercase())
            .collect();
        let kind = match (inherit.units_of, mode) {
            (_, SignMode::Heal) => HistoryKind::Healing,
            (Some(_), _) => HistoryKind::SigningResumed,
            (None, _) => HistoryKind::SigningStarted,
        };
        let version = self.new_version();
        let about = About {
            version: Some(version),
            ..About::default()
        };
        // One more step of what goes on for long is not news.
        let goes_on = self.z.beside.is_some() && reasons.iter().eq([&Reason::Policy]);
        if !goes_on {
            self.record(kind, about.reason(&text.join(", ")));
        }
        SignJob {
            job: self.new_job(),
            version,
            mode,
            attempt: inherit.attempt,
            keys: self.z.keys,
            signing: self.z.settings.signing,
            based_on: self.z.live.as_ref().map(|l| l.version),
            since: self.now,
            full: inherit.full,
            reasons,
            units_of: inherit.units_of,
            // One that was asked for and passed meanwhile would keep every later version out.
            serial: self
                .z
                .pending
                .serial
                .filter(|s| self.z.used_serial.is_none_or(|used| s.newer_than(used))),
        }
    }

    /// A version signed against a live version that is not live any more has an old serial, and
    /// may lack refreshed signatures.
    fn rebased(&self, cand: &Cand, work: Work) -> Work {
        if matches!(work, Work::Review | Work::Sign(_)) {
            return work;
        }
        let live = self.z.live.as_ref().map(|l| l.version);
        match &cand.signed {
            None => Work::Sign(SignMode::New),
            Some(s) if s.based_on != live || self.is_passed(s.serial) => {
                Work::Sign(SignMode::Rebase)
            }
            Some(_) => work,
        }
    }

    /// What keeps the candidate from this work now.
    fn blocked(&self, cand: &Cand, work: Work) -> Option<(Cause, String)> {
        let no = |cause, why: &str| Some((cause, why.to_owned()));
        if let Some(doubt) = self.z.doubt.as_ref().filter(|_| work != Work::Review) {
            return no(
                Cause::Doubt,
                &format!("restored from a backup: {}", doubt.text),
            );
        }
        if self.z.modes.maintenance.is_some() && work != Work::Persist {
            return no(Cause::Maintenance, "the zone is in maintenance");
        }
        if self.z.modes.maintenance.is_some() {
            return no(
                Cause::Maintenance,
                "ready to go live, the zone is in maintenance",
            );
        }
        if matches!(work, Work::Sign(_) | Work::Verify { .. })
            && let Some((_, why)) = &self.z.clock_unsafe
        {
            return no(Cause::Clock, &format!("the clock is not safe: {why}"));
        }
        if matches!(work, Work::Sign(_) | Work::Persist) && self.z.storage_full.is_some() {
            return no(Cause::Storage, "the disk is full");
        }
        if let Some(pin) = &self.z.modes.pin
            && !matches!(work, Work::Verify { .. })
            && !matches!(cand.origin, Origin::Rollback { to, .. } if to == pin.version)
        {
            return no(Cause::Pinned, "content is pinned");
        }
        if work == Work::Persist && self.z.modes.publish_paused.is_some() {
            return no(Cause::PublishPaused, "publishing is paused");
        }
        if work == Work::Review {
            return None;
        }
        let urgent = self.urgency() >= RunwayClass::Critical;
        let busy = match &self.z.upkeep {
            Upkeep::Verifying { .. } | Upkeep::Persisting { .. } => true,
            Upkeep::Signing { .. } => urgent,
            _ => urgent && self.upkeep_is_due() && self.upkeep_hindrance(false).is_none(),
        };
        if busy {
            return no(Cause::OtherLane, "the live version is being signed again");
        }
        None
    }

    pub(crate) fn park(
        &mut self,
        cand: Box<Cand>,
        work: Work,
        cause: Cause,
        error: &str,
        inherit: Try,
        at: Option<Timestamp>,
    ) {
        let retry = Retry {
            work,
            cause,
            error: line(error),
            attempt: inherit.attempt,
            since: self.now,
            at,
            units_of: inherit.units_of,
            full: inherit.full,
        };
        if !matches!(cause, Cause::OtherLane | Cause::Failed(_)) {
            let about = About::version(cand.version, cand.source_serial);
            self.record(HistoryKind::Waiting, about.reason(error));
        }
        self.z.candidate = Candidate::AwaitRetry { cand, retry };
    }

    fn park_failed(&mut self, cand: Box<Cand>, work: Work, fault: Fault, error: &str, t: Try) {
        let class = of_fault(&self.z.settings.backoff, fault);
        let at = self.now + delay(class, t.attempt, self.draw());
        self.touch();
        self.park(cand, work, Cause::Failed(fault), error, t, Some(at));
    }

    /// Tries again what waited, when its time has come or nothing stands in the way any more.
    pub(crate) fn settle_candidate(&mut self) {
        let loading = matches!(self.z.candidate, Candidate::Loading(_));
        let Candidate::AwaitRetry { cand, retry } = self.z.candidate.parked() else {
            return;
        };
        match retry.cause {
            Cause::Failed(_) | Cause::Review | Cause::Refused => {
                // What failed waits for newer content that is being read.
                if loading || retry.at.is_some_and(|at| at > self.now) {
                    return;
                }
            }
            _ => {
                let work = self.rebased(cand, retry.work);
                match self.blocked(cand, work) {
                    Some((cause, _)) if cause == retry.cause => return,
                    Some(_) | None => {}
                }
            }
        }
        // A gate that opened lets it go on at once, whatever is being read beside it.
        let load = self.set_load_aside();
        self.retry_candidate();
        self.take_load_back(load);
    }

    fn retry_candidate(&mut self) {
        let (cand, retry) = match std::mem::take(&mut self.z.candidate) {
            Candidate::AwaitRetry { cand, retry } => (cand, retry),
            other => {
                self.z.candidate = other;
                return;
            }
        };
        let failed = matches!(retry.cause, Cause::Failed(_));
        let attempt = retry.attempt.saturating_add(u32::from(failed));
        let t = Try {
            attempt,
            units_of: retry.units_of,
            full: retry.full,
        };
        self.go(cand, retry.work, t);
    }

    /// The candidate's job stops for the sake of something else; its units are kept.
    pub(crate) fn pause_candidate(&mut self, cause: Cause, error: &str) {
        let (cand, work, t) = match std::mem::take(&mut self.z.candidate) {
            Candidate::Signing { cand, job } => {
                let t = Try {
                    attempt: job.attempt,
                    units_of: Some(job.job),
                    full: job.full,
                };
                (cand, Work::Sign(job.mode), t)
            }
            Candidate::Verifying {
                cand,
                healed,
                attempt,
                ..
            } => (
                cand,
                Work::Verify { healed },
                Try {
                    attempt,
                    ..Try::default()
                },
            ),
            other => {
                self.z.candidate = other;
                return;
            }
        };
        self.record(HistoryKind::SigningPaused, About::why(error));
        self.touch();
        self.park(cand, work, cause, error, t, None);
    }
}

// Signing, verifying, persisting.
impl Machine {
    /// The candidate, if it waits for this job in this kind of state.
    fn take_signing(&mut self, job: JobId) -> Option<(Box<Cand>, SignJob)> {
        match std::mem::take(&mut self.z.candidate) {
            Candidate::Signing { cand, job: j } if j.job == job => {
                self.finished.insert(job);
                self.touch();
                Some((cand, j))
            }
            other => {
                self.z.candidate = other;
                None
            }
        }
    }

    pub(crate) fn sign_progress(&mut self, job: JobId) {
        let now = self.now;
        if let Candidate::Signing { job: j, .. } = &mut self.z.candidate
            && j.job == job
        {
            j.since = now;
        }
        if let Upkeep::Signing { job: j, .. } = &mut self.z.upkeep
            && j.job == job
        {
            j.since = now;
        }
    }

    /// A higher serial has been shown since.
    pub(crate) fn is_passed(&self, serial: Serial) -> bool {
        self.z
            .used_serial
            .is_some_and(|used| used.newer_than(serial))
    }

    /// A serial that secondaries would not take as newer must never go out (RFC 1982 §3.2).
    pub(crate) fn serial_fits(&self, result: &SignResult) -> bool {
        self.z
            .used_serial
            .is_none_or(|used| result.serial.newer_than(used))
    }

    pub(crate) fn sign_done(&mut self, job: JobId, result: SignResult) {
        let Some((mut cand, j)) = self.take_signing(job) else {
            return self.upkeep_sign_done(job, result);
        };
        if !self.serial_fits(&result) {
            let error = format!(
                "serial {} does not exceed the last one shown",
                result.serial
            );
            return self.signing_bug(cand, &j, &error);
        }
        self.record_signed(&j, &result);
        self.z.pending.serial = None;
        cand.signed = Some(j.signed(result, self.z.live.as_ref()));
        cand.verify_report = None;
        self.go(
            cand,
            Work::Verify {
                healed: j.mode == SignMode::Heal,
            },
            Try::default(),
        );
    }

    pub(crate) fn record_signed(&mut self, j: &SignJob, result: &SignResult) {
        let why: Vec<String> = j
            .reasons
            .iter()
            .map(|r| format!("{r:?}").to_lowercase())
            .collect();
        let about = About::version(j.version, result.serial)
            .reason(&format!("triggered by {}", why.join(", ")))
            .since(j.since)
            .details(result.report.data.clone());
        self.record(HistoryKind::SigningSucceeded, about);
    }

    pub(crate) fn sign_nothing(&mut self, job: JobId, next_due: Timestamp) {
        match self.take_signing(job) {
            Some((cand, _)) => {
                self.record(HistoryKind::SigningNotNeeded, About::default());
                self.drop_candidate(&cand);
            }
            None => self.upkeep_nothing(job, next_due),
        }
    }

    pub(crate) fn sign_failed(&mut self, job: JobId, fault: Fault, error: &str) {
        let Some((cand, j)) = self.take_signing(job) else {
            return self.upkeep_sign_failed(job, fault, error);
        };
        self.record(HistoryKind::SigningFailed, About::why(error).since(j.since));
        match fault {
            Fault::Content => {
                let on_reject = self.z.settings.unsigned_review.on_reject;
                self.reject(cand, RejectedAt::Signer, on_reject, "signer", error);
            }
            Fault::Bug => self.signing_bug(cand, &j, error),
            _ => {
                let t = Try {
                    attempt: j.attempt,
                    units_of: Some(job),
                    full: j.full,
                };
                self.park_failed(cand, Work::Sign(j.mode), fault, error, t);
            }
        }
    }

    /// Our own fault: forgiven once, then a person must look.
    fn signing_bug(&mut self, mut cand: Box<Cand>, j: &SignJob, error: &str) {
        self.record(HistoryKind::Bug, About::why(error));
        cand.bugs = cand.bugs.saturating_add(1);
        if cand.bugs > 1 {
            let reason = format!("internal fault while signing: {}", line(error));
            self.z.candidate = Candidate::Refused {
                cand,
                reason,
                at: self.now,
            };
            return;
        }
        let t = Try {
            attempt: j.attempt,
            units_of: None,
            full: j.full,
        };
        self.park_failed(cand, Work::Sign(j.mode), Fault::Bug, error, t);
    }

    fn take_verifying(&mut self, job: JobId) -> Option<(Box<Cand>, bool, u32)> {
        match std::mem::take(&mut self.z.candidate) {
            Candidate::Verifying {
                cand,
                job: j,
                healed,
                attempt,
                ..
            } if j == job => {
                self.finished.insert(job);
                self.touch();
                Some((cand, healed, attempt))
            }
            other => {
                self.z.candidate = other;
                None
            }
        }
    }

    pub(crate) fn verify_passed(&mut self, job: JobId, report: Report) {
        let Some((mut cand, ..)) = self.take_verifying(job) else {
            return self.upkeep_verified(job, &report);
        };
        let Some(signed) = &cand.signed else { return };
        // From here on a review server may show it: the serial is used up.
        let serial = signed.serial;
        let about = About::version(signed.version, serial)
            .reason(&report.text)
            .details(report.data.clone());
        let approved = cand.approved_fp == Some(signed.reviewed_fp);
        self.use_serial(serial);
        self.record(HistoryKind::Verified, about);
        cand.verify_report = Some(report);
        if approved || self.z.settings.signed_review.mode == ReviewMode::Off {
            return self.go(cand, Work::Persist, Try::default());
        }
        self.signed_review(cand);
    }

    pub(crate) fn verify_refused(&mut self, job: JobId, healable: bool, report: Report) {
        let Some((cand, healed, _)) = self.take_verifying(job) else {
            return self.upkeep_refused(job, healable, &report);
        };
        let mut about = About::why(&report.text).details(report.data.clone());
        about.version = cand.signed.as_ref().map(|s| s.version);
        self.record(HistoryKind::VerifyRefused, about);
        if healable && !healed {
            return self.go(cand, Work::Sign(SignMode::Heal), Try::default());
        }
        let reason = format!("verification refused it: {}", line(&report.text));
        self.z.candidate = Candidate::Refused {
            cand,
            reason,
            at: self.now,
        };
    }

    pub(crate) fn verify_impossible(&mut self, job: JobId, error: &str) {
        let Some((cand, healed, attempt)) = self.take_verifying(job) else {
            return self.upkeep_unverifiable(job, error);
        };
        self.record(HistoryKind::VerifyImpossible, About::why(error));
        let t = Try {
            attempt,
            ..Try::default()
        };
        self.park_failed(cand, Work::Verify { healed }, Fault::Verifier, error, t);
    }

    pub(crate) fn persist_failed(&mut self, job: JobId, error: &str) {
        let (cand, attempt) = match std::mem::take(&mut self.z.candidate) {
            Candidate::Persisting {
                cand,
                job: j,
                attempt,
                ..
            } if j == job => (cand, attempt),
            other => {
                self.z.candidate = other;
                return self.upkeep_not_persisted(job, error);
            }
        };
        self.finished.insert(job);
        self.record(HistoryKind::PersistFailed, About::why(error));
        let t = Try {
            attempt,
            ..Try::default()
        };
        self.park_failed(cand, Work::Persist, Fault::Storage, error, t);
    }

    pub(crate) fn persist_done(&mut self, job: JobId) {
        let cand = match std::mem::take(&mut self.z.candidate) {
            Candidate::Persisting { cand, job: j, .. } if j == job => cand,
            other => {
                self.z.candidate = other;
                return self.upkeep_persisted(job);
            }
        };
        self.finished.insert(job);
        self.candidate_is_live(*cand);
    }

    /// The commit of the value that comes out of this makes the version live.
    pub(crate) fn candidate_is_live(&mut self, cand: Cand) {
        let Some(signed) = cand.signed else { return };
        let despite = cand
            .despite
            .filter(|d| d.version == signed.version)
            .map(|d| d.by);
        self.z.rejected = None;
        if let Origin::Rollback { to, by, .. } = &cand.origin {
            let why = format!("content of {to}");
            let about = About::version(signed.version, signed.serial)
                .actor(by)
                .reason(&why);
            self.record(HistoryKind::RolledBack, about);
        }
        let live = Live {
            version: signed.version,
            of: cand.version,
            serial: signed.serial,
            source_serial: cand.source_serial,
            content_fp: cand.content_fp,
            published_at: self.now,
            min_exp: signed.min_exp,
            next_due: signed.next_due,
            keys: signed.keys,
            signing: signed.signing,
            serving: Serving::Yes,
            despite_verification: despite,
        };
        self.set_live(live);
        self.upkeep_lost_its_base();
    }

    /// Both lanes end here.
    pub(crate) fn set_live(&mut self, live: Live) {
        self.record(
            HistoryKind::Published,
            About::version(live.version, live.serial),
        );
        self.use_serial(live.serial);
        // The secondary takes this one.
        let over = |a: &Ahead| live.serial == a.serial || live.serial.newer_than(a.serial);
        if self.z.ahead.as_ref().is_some_and(over) {
            self.z.ahead = None;
        }
        self.z.retained.insert(0, Retained::of(&live));
        let pinned = self.z.modes.pin.as_ref().map(|p| p.version);
        let keep = self.z.settings.retained_versions.max(1);
        let mut n = 0;
        self.z.retained.retain(|r| {
            n += 1;
            n <= keep || Some(r.version) == pinned
        });
        self.z.live = Some(live);
        self.announce = true;
        self.touch();
    }

    /// The next version of ours goes above it (RFC 1982 §3.2), or the secondary never takes one.
    pub(crate) fn secondary_ahead(&mut self, serial: Serial, server: String, raise: bool) {
        let Some(live) = &self.z.live else { return };
        if !serial.newer_than(live.serial) {
            return;
        }
        let known = self.z.ahead.as_ref();
        if known.is_some_and(|a| !serial.newer_than(a.serial)) {
            return;
        }
        let since = known.map_or(self.now, |a| a.since);
        let about = About {
            serial: Some(serial),
            ..About::why(&server)
        };
        self.record(HistoryKind::SecondaryAhead, about);
        self.z.ahead = Some(Ahead {
            since,
            serial,
            server: line(&server),
        });
        if raise {
            self.use_serial(serial);
        }
    }

    /// A candidate made of content that was live before.
    pub(crate) fn cand_of(&self, r: &Retained, origin: Origin, load_report: Report) -> Box<Cand> {
        Box::new(Cand {
            version: r.of,
            source_serial: r.source_serial,
            content_fp: r.content_fp,
            origin,
            loaded_at: self.now,
            load_report,
            guard_report: None,
            approvals: Vec::new(),
            signed: None,
            verify_report: None,
            approved_fp: None,
            bugs: 0,
            despite: None,
        })
    }

    pub(crate) fn reject(
        &mut self,
        cand: Box<Cand>,
        at_stage: RejectedAt,
        on_reject: OnReject,
        by: &str,
        reason: &str,
    ) {
        let kind = match at_stage {
            RejectedAt::Guard => None,
            RejectedAt::UnsignedReview => Some(HistoryKind::UnsignedRejected),
            RejectedAt::Signer => Some(HistoryKind::ContentRejected),
            RejectedAt::SignedReview => Some(HistoryKind::SignedRejected),
        };
        if let Some(kind) = kind {
            let serial = cand
                .signed
                .as_ref()
                .map_or(cand.source_serial, |s| s.serial);
            let about = About::version(cand.version, serial)
                .actor(by)
                .reason(reason);
            self.record(kind, about);
        }
        self.touch();
        match on_reject {
            OnReject::Halt => {
                let (by, reason) = (by.to_owned(), line(reason));
                let at = self.now;
                self.z.candidate = Candidate::Rejected {
                    cand,
                    at_stage,
                    by,
                    reason,
                    at,
                };
            }
            OnReject::Discard => {
                if matches!(cand.origin, Origin::Source) {
                    let until = self.now + self.z.settings.limits.remember_rejected;
                    self.z.rejected = Some((cand.content_fp, until));
                }
                self.drop_candidate(&cand);
            }
        }
    }

    /// The lane is idle again; a pin that came with a rollback goes with it.
    pub(crate) fn drop_candidate(&mut self, cand: &Cand) {
        if let Origin::Rollback {
            to, pinned: true, ..
        } = &cand.origin
            && self.z.modes.pin.as_ref().is_some_and(|p| p.version == *to)
        {
            self.z.modes.pin = None;
        }
        self.z.candidate = Candidate::Idle;
        self.touch();
    }

    /// Unsigned review where the policy has one; approvals of a guard hold settle a manual one.
    fn unsigned_review(&mut self, cand: Box<Cand>) {
        let rules = &self.z.settings.unsigned_review;
        let given = cand
            .approvals
            .iter()
            .filter(|a| a.stage == Stage::Unsigned)
            .count();
        let done = match rules.mode {
            ReviewMode::Off => true,
            ReviewMode::Manual => given >= rules.approvals.max(1),
            ReviewMode::Script => false,
        };
        if done {
            return self.go(cand, Work::Sign(SignMode::New), Try::default());
        }
        let (version, serial) = (cand.version, cand.source_serial);
        let rules = rules.clone();
        let review = self.open_review(Stage::Unsigned, rules, version, serial, false);
        self.z.candidate = Candidate::AwaitUnsignedReview { cand, review };
    }

    pub(crate) fn signed_review(&mut self, mut cand: Box<Cand>) {
        let Some(signed) = &cand.signed else { return };
        let again = cand.approved_fp.take().is_some();
        // Approvals expire with the version they were given to.
        let (version, serial) = (signed.version, signed.serial);
        cand.approvals.retain(|a| a.stage != Stage::Signed);
        let rules = self.z.settings.signed_review.clone();
        let review = self.open_review(Stage::Signed, rules, version, serial, again);
        self.z.candidate = Candidate::AwaitSignedReview { cand, review };
    }
}

impl SignJob {
    /// `live`: what it was signed against.
    pub(crate) fn signed(&self, r: SignResult, live: Option<&Live>) -> Signed {
        let as_before = live.filter(|_| r.unmet).map(|l| l.signing);
        Signed {
            version: self.version,
            serial: r.serial,
            min_exp: r.min_exp,
            next_due: r.next_due,
            keys: self.keys,
            signing: as_before.unwrap_or(self.signing),
            based_on: self.based_on,
            reviewed_fp: r.reviewed_fp,
            report: r.report,
        }
    }
}

impl Retained {
    pub(crate) fn of(live: &Live) -> Self {
        Retained {
            version: live.version,
            of: live.of,
            serial: live.serial,
            source_serial: live.source_serial,
            content_fp: live.content_fp,
            published_at: live.published_at,
        }
    }
}
