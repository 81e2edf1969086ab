//! What people ask for. Each request is answered once: accepted, perhaps with what it waits for, or
//! refused with the state, the reason and the command that would help.

use crate::action::{Accepted, Refusal, RefusalCode};
use crate::candidate::Try;
use crate::event::{Actor, Command, Keep, Part, Request, Subject};
use crate::history::{HistoryKind, line};
use crate::review::{Outcome, more_needed};
use crate::settings::{ReviewMode, Settings};
use crate::state::{
    Candidate, Cause, Despite, Maintenance, Origin, Pin, Reason, RejectedAt, Report, RunwayClass,
    SignMode, Stage, Trigger, Upkeep, Work,
};
use crate::step::{About, Machine};
use cascade_zone::{Serial, VersionId};

type Answer = Result<Accepted, Refusal>;

impl Machine {
    pub(crate) fn request(&mut self, r: Request) {
        let result = match r.command {
            Command::Load { forced } => self.ask_load(forced, &r.by),
            Command::Approve { stage, of, comment } => self.approve(stage, of, &r.by, comment),
            Command::Reject { stage, of, reason } => {
                self.reject_by(stage, of, &r.by, reason.as_deref().unwrap_or(""))
            }
            Command::Override {
                stage,
                despite_verification,
            } => self.override_by(stage, despite_verification, &r.by),
            Command::Reset => self.reset(&r.by),
            Command::Rollback { to, pin } => self.rollback(to, pin, &r.by),
            Command::Resign { full, serial } => self.resign(full, serial, &r.by),
            Command::Pin { span } => self.pin(span, &r.by),
            Command::Unpin => self.unpin(&r.by),
            Command::Pause(part) => self.pause(part, &r.by),
            Command::Resume(part) => self.resume(part, &r.by),
            Command::MaintenanceOn { resign, span } => self.maintenance_on(resign, span, &r.by),
            Command::MaintenanceOff => self.maintenance_off(&r.by),
            Command::ChangeSource { source } => self.change_source(&source, &r.by),
            Command::ChangePolicy { settings } => self.change_policy(*settings, &r.by),
            Command::Remove { keys } => self.remove(keys, &r.by),
        };
        self.touch();
        self.answer = Some((r.id, result));
    }

    pub(crate) fn refusal(&self, code: RefusalCode, why: &str, commands: Vec<String>) -> Refusal {
        Refusal {
            code,
            state: self.z.api_state(),
            reason: why.to_owned(),
            commands,
        }
    }

    fn cmd(&self, what: &str) -> String {
        format!("cascade zone {what} {}", self.z.name)
    }

    fn ask_load(&mut self, forced: bool, by: &Actor) -> Answer {
        let hindrance = self.load_hindrance();
        self.want_load(forced, Trigger::Person(by.name.clone()));
        Ok(match hindrance {
            None => Accepted::default(),
            Some((why, commands)) => Accepted {
                note: format!("queued: {why}"),
                commands,
                missing: 0,
            },
        })
    }

    fn not_under_review(&self, stage: Stage) -> Refusal {
        let what = match stage {
            Stage::Unsigned => "no unsigned version is under review",
            Stage::Signed => "no signed version is under review",
        };
        let commands = vec![self.cmd("status")];
        self.refusal(RefusalCode::NotUnderReview, what, commands)
    }

    /// Who may decide, and whether it is about the version that is under review now.
    fn check_verdict(
        &self,
        stage: Stage,
        of: Option<Subject>,
        now: (Serial, VersionId),
        approvers: &[String],
        by: &Actor,
    ) -> Result<(), Refusal> {
        if !by.may_approve(approvers) {
            let who = match approvers {
                [] => "the role approver".to_owned(),
                some => format!("one of {}", some.join(", ")),
            };
            let why = format!("{} may not decide here: it takes {who}", by.name);
            return Err(self.refusal(RefusalCode::NotApprover, &why, vec![]));
        }
        let same = match of {
            None => true,
            Some(Subject::Serial(s)) => s == now.0,
            Some(Subject::Version(v)) => v == now.1,
        };
        if same {
            return Ok(());
        }
        let flag = match stage {
            Stage::Unsigned => "--unsigned",
            Stage::Signed => "--signed",
        };
        let why = format!("under review is version {} with serial {}", now.1, now.0);
        let cmd = format!("cascade zone approve {flag} {} {}", self.z.name, now.0);
        Err(self.refusal(RefusalCode::WrongVersion, &why, vec![cmd]))
    }

    fn approve(
        &mut self,
        stage: Stage,
        of: Option<Subject>,
        by: &Actor,
        comment: Option<String>,
    ) -> Answer {
        self.decide(stage, of, by, Decision::Approve(comment))
    }

    fn reject_by(&mut self, stage: Stage, of: Option<Subject>, by: &Actor, why: &str) -> Answer {
        self.decide(stage, of, by, Decision::Reject(line(why)))
    }

    /// Finds what is under review, candidate first, and applies the decision of a person.
    fn decide(&mut self, stage: Stage, of: Option<Subject>, by: &Actor, d: Decision) -> Answer {
        let upkeep_meant = match (&self.z.upkeep, of) {
            (Upkeep::AwaitReview { up, .. }, Some(Subject::Serial(s))) => s == up.signed.serial,
            (Upkeep::AwaitReview { up, .. }, Some(Subject::Version(v))) => v == up.signed.version,
            _ => false,
        };
        match (std::mem::take(&mut self.z.candidate), stage) {
            (Candidate::AwaitGuardApproval { cand, since }, Stage::Unsigned) => {
                self.z.candidate = Candidate::AwaitGuardApproval { cand, since };
                self.decide_held(of, by, d)
            }
            (Candidate::AwaitUnsignedReview { mut cand, review }, Stage::Unsigned) => {
                let now = (cand.source_serial, cand.version);
                let author = author(&cand.origin) == Some(&by.name);
                let judged = self
                    .check_verdict(stage, of, now, &review.rules.approvers, by)
                    .and_then(|()| self.not_author(author, by, &d))
                    .and_then(|()| self.count(&mut cand.approvals, stage, &review.rules, by, d));
                let (outcome, answer) = split(judged);
                self.conclude_unsigned(cand, review, outcome);
                answer
            }
            (Candidate::AwaitSignedReview { mut cand, review }, Stage::Signed) if !upkeep_meant => {
                let serial = cand
                    .signed
                    .as_ref()
                    .map_or(cand.source_serial, |s| s.serial);
                let author = author(&cand.origin) == Some(&by.name);
                let judged = self
                    .check_verdict(
                        stage,
                        of,
                        (serial, review.version),
                        &review.rules.approvers,
                        by,
                    )
                    .and_then(|()| self.not_author(author, by, &d))
                    .and_then(|()| self.count(&mut cand.approvals, stage, &review.rules, by, d));
                let (outcome, answer) = split(judged);
                self.conclude_signed(cand, review, outcome);
                answer
            }
            (other, _) => {
                self.z.candidate = other;
                self.decide_upkeep(stage, of, by, d)
            }
        }
    }

    fn decide_upkeep(
        &mut self,
        stage: Stage,
        of: Option<Subject>,
        by: &Actor,
        d: Decision,
    ) -> Answer {
        match (std::mem::take(&mut self.z.upkeep), stage) {
            (Upkeep::AwaitReview { mut up, review }, Stage::Signed) => {
                let now = (up.signed.serial, up.signed.version);
                let judged = self
                    .check_verdict(stage, of, now, &review.rules.approvers, by)
                    .and_then(|()| self.count(&mut up.approvals, stage, &review.rules, by, d));
                let (outcome, answer) = split(judged);
                self.conclude_upkeep(up, review, outcome);
                answer
            }
            (other, _) => {
                self.z.upkeep = other;
                Err(self.not_under_review(stage))
            }
        }
    }

    fn not_author(&self, author: bool, by: &Actor, d: &Decision) -> Result<(), Refusal> {
        if author && matches!(d, Decision::Approve(_)) {
            let why = format!("{} made this edit; another person must approve it", by.name);
            return Err(self.refusal(RefusalCode::NotApprover, &why, vec![]));
        }
        Ok(())
    }

    fn count(
        &mut self,
        approvals: &mut Vec<crate::state::Approval>,
        stage: Stage,
        rules: &crate::settings::ReviewRules,
        by: &Actor,
        d: Decision,
    ) -> Result<(Outcome, Accepted), Refusal> {
        match d {
            Decision::Reject(reason) => {
                let by = by.name.clone();
                Ok((Outcome::Rejected { by, reason }, Accepted::default()))
            }
            Decision::Approve(comment) => {
                let missing = self.add_approval(approvals, stage, rules, by, comment)?;
                if missing > 0 {
                    self.record(HistoryKind::ApprovalGiven, About::by(&by.name));
                    return Ok((Outcome::Stay, more_needed(missing)));
                }
                Ok((
                    Outcome::Approved {
                        by: by.name.clone(),
                    },
                    Accepted::default(),
                ))
            }
        }
    }

    /// A verdict about what the change guard holds.
    fn decide_held(&mut self, of: Option<Subject>, by: &Actor, d: Decision) -> Answer {
        let Candidate::AwaitGuardApproval { mut cand, since } =
            std::mem::take(&mut self.z.candidate)
        else {
            return Err(self.not_under_review(Stage::Unsigned));
        };
        let rules = self.z.settings.unsigned_review.clone();
        let now = (cand.source_serial, cand.version);
        let author = author(&cand.origin) == Some(&by.name);
        let judged = self
            .check_verdict(Stage::Unsigned, of, now, &rules.approvers, by)
            .and_then(|()| self.not_author(author, by, &d))
            .and_then(|()| self.count(&mut cand.approvals, Stage::Unsigned, &rules, by, d));
        let (outcome, answer) = split(judged);
        match outcome {
            Outcome::Stay => self.z.candidate = Candidate::AwaitGuardApproval { cand, since },
            Outcome::Approved { by } => {
                let about = About::version(cand.version, cand.source_serial).actor(&by);
                self.record(HistoryKind::GuardApproved, about);
                self.go(cand, Work::Review, Try::default());
            }
            Outcome::Rejected { by, reason } => {
                self.record(HistoryKind::GuardRejected, About::by(&by).reason(&reason));
                self.reject(cand, RejectedAt::Guard, rules.on_reject, &by, &reason);
            }
        }
        answer
    }

    fn override_by(&mut self, stage: Stage, despite: bool, by: &Actor) -> Answer {
        if !by.approver {
            let why = format!("{} does not hold the role approver", by.name);
            return Err(self.refusal(RefusalCode::NotApprover, &why, vec![]));
        }
        match std::mem::take(&mut self.z.candidate) {
            Candidate::Rejected {
                cand,
                at_stage,
                by: rejector,
                reason,
                at,
            } => {
                let fits = match at_stage {
                    RejectedAt::Guard | RejectedAt::UnsignedReview => stage == Stage::Unsigned,
                    RejectedAt::SignedReview => stage == Stage::Signed,
                    RejectedAt::Signer => true,
                };
                if !fits {
                    let flag = match at_stage {
                        RejectedAt::SignedReview => "override --signed",
                        _ => "override --unsigned",
                    };
                    let cmds = vec![self.cmd(flag), self.cmd("reset")];
                    let by = rejector;
                    self.z.candidate = Candidate::Rejected {
                        cand,
                        at_stage,
                        by,
                        reason,
                        at,
                    };
                    let why = "the version was rejected at the other stage";
                    return Err(self.refusal(RefusalCode::NotRejected, why, cmds));
                }
                let about = About::version(cand.version, cand.source_serial).actor(&by.name);
                self.record(HistoryKind::Overridden, about);
                self.go_overridden(cand, at_stage);
                Ok(Accepted::default())
            }
            Candidate::Refused { cand, reason, at } => {
                self.z.candidate = Candidate::Refused { cand, reason, at };
                self.override_refused(stage, despite, by)
            }
            other => {
                self.z.candidate = other;
                let why = "no version of the zone is rejected";
                let cmds = vec![self.cmd("status")];
                Err(self.refusal(RefusalCode::NotRejected, why, cmds))
            }
        }
    }

    fn go_overridden(&mut self, mut cand: Box<crate::state::Cand>, at_stage: RejectedAt) {
        match at_stage {
            RejectedAt::Guard if self.z.settings.unsigned_review.mode == ReviewMode::Script => {
                // The hook has not seen it yet.
                self.go(cand, Work::Review, Try::default());
            }
            RejectedAt::Guard | RejectedAt::UnsignedReview | RejectedAt::Signer => {
                self.go(cand, Work::Sign(SignMode::New), Try::default());
            }
            RejectedAt::SignedReview => {
                cand.approved_fp = cand.signed.as_ref().map(|s| s.reviewed_fp);
                self.go(cand, Work::Persist, Try::default());
            }
        }
    }

    /// One deliberate act publishes exactly the refused version, as long as nothing newer is live.
    fn override_refused(&mut self, stage: Stage, despite: bool, by: &Actor) -> Answer {
        let live = self.z.live.as_ref().map(|l| l.version);
        let again = vec![self.cmd("resign --full"), self.cmd("reset")];
        if stage != Stage::Signed || !despite {
            let why = "verification refused the version; publishing it makes the zone bogus for \
                       validating resolvers";
            let mut cmds = again;
            cmds.push(self.cmd("override --signed --despite-verification"));
            return Err(self.refusal(RefusalCode::GateRefused, why, cmds));
        }
        let Candidate::Refused { cand, .. } = &mut self.z.candidate else {
            return Err(self.not_under_review(stage));
        };
        let signed = cand.signed.as_ref();
        let fresh = signed.filter(|s| {
            s.based_on == live
                && self
                    .z
                    .used_serial
                    .is_none_or(|u| s.serial == u || s.serial.newer_than(u))
        });
        let Some(version) = fresh.map(|s| s.version) else {
            let why = "the refused version is older than the live one; sign it again first";
            return Err(self.refusal(RefusalCode::GateRefused, why, again));
        };
        cand.despite = Some(Despite {
            version,
            by: by.name.clone(),
        });
        let Candidate::Refused { cand, .. } = std::mem::take(&mut self.z.candidate) else {
            return Err(self.not_under_review(stage));
        };
        let about = About::by(&by.name);
        self.record(
            HistoryKind::VerificationOverridden,
            About {
                version: Some(version),
                ..about
            },
        );
        self.go(cand, Work::Persist, Try::default());
        Ok(Accepted::default())
    }

    /// Abandons the candidate wherever it is; live is not touched.
    fn reset(&mut self, by: &Actor) -> Answer {
        let waiting = match &mut self.z.upkeep {
            Upkeep::AwaitRetry { retry, .. } => {
                retry.at = retry.at.map(|at| at.min(self.now));
                true
            }
            _ => false,
        };
        let retrying = self.z.source.retry_at.is_some();
        let idle = matches!(self.z.candidate, Candidate::Idle) && !self.load_aside;
        if idle && !waiting && !retrying {
            let why = "there is nothing to abandon: no candidate, no load, nothing waits to retry";
            return Err(self.refusal(RefusalCode::NotHalted, why, vec![self.cmd("status")]));
        }
        // A running load is started anew.
        self.stop_load = true;
        if let Some(c) = self.z.candidate.cand().cloned() {
            self.drop_candidate(&c);
        }
        self.z.rejected = None;
        self.z.source.failures = 0;
        if self.z.source.retry_at.is_some() {
            self.z.source.retry_at = Some(self.now);
        }
        self.record(HistoryKind::ZoneReset, About::by(&by.name));
        Ok(Accepted::default())
    }

    fn rollback(&mut self, to: VersionId, pin: bool, by: &Actor) -> Answer {
        if self.z.candidate.is_active() {
            let why = "a version is being signed, verified or published";
            let cmds = vec![self.cmd("reset"), self.cmd("status")];
            return Err(self.refusal(RefusalCode::Busy, why, cmds));
        }
        let live = self.z.live.as_ref();
        if live.is_some_and(|l| l.version == to || l.of == to) {
            let why = format!("the content of {to} is live");
            return Err(self.refusal(RefusalCode::UnknownVersion, &why, vec![self.cmd("pin")]));
        }
        let Some(r) = self.z.retained(to).cloned() else {
            let have: Vec<String> = self
                .z
                .retained
                .iter()
                .skip(1)
                .map(|r| r.version.to_string())
                .collect();
            let why = format!("version {to} is not kept; kept are: {}", have.join(", "));
            let cmds = vec![self.cmd("history")];
            return Err(self.refusal(RefusalCode::UnknownVersion, &why, cmds));
        };
        // The same content under another serial, by an earlier rollback or by upkeep.
        if self.z.live.as_ref().is_some_and(|l| l.of == r.of) {
            let why = format!("the content of {to} is live");
            return Err(self.refusal(RefusalCode::UnknownVersion, &why, vec![self.cmd("pin")]));
        }
        if let Some(c) = self.z.candidate.cand().cloned() {
            let about = About::version(c.version, c.source_serial).actor(&by.name);
            self.record(HistoryKind::Superseded, about);
            self.drop_candidate(&c);
        }
        self.stop_load = true;
        let (since, who) = (self.now, by.name.clone());
        self.z.modes.pin = pin.then(|| Pin {
            version: r.version,
            since,
            until: None,
            by: who.clone(),
        });
        self.record(
            HistoryKind::RollbackStarted,
            About::version(r.version, r.serial).actor(&who),
        );
        let origin = Origin::Rollback {
            to: r.version,
            by: who,
            pinned: pin,
        };
        let cand = self.cand_of(
            &r,
            origin,
            Report::text(format!("content of {}", r.version)),
        );
        self.go(cand, Work::Sign(SignMode::New), Try::default());
        Ok(Accepted::default())
    }

    fn resign(&mut self, full: bool, serial: Option<Serial>, by: &Actor) -> Answer {
        if let (Some(wanted), Some(used)) = (serial, self.z.used_serial)
            && !wanted.newer_than(used)
        {
            let why = format!("serial {wanted} does not exceed {used}, which was shown already");
            return Err(self.refusal(RefusalCode::SerialTooLow, &why, vec![self.cmd("resign")]));
        }
        if serial.is_some() {
            self.z.pending.serial = serial;
            // Whoever names the serial answers for it.
            if self.z.doubt.is_some() {
                self.record(
                    HistoryKind::Resumed,
                    About::by(&by.name).reason("serial given"),
                );
                self.end_doubt();
            }
        }
        if full
            && matches!(self.z.candidate, Candidate::Refused { .. })
            && let Candidate::Refused { cand, .. } = std::mem::take(&mut self.z.candidate)
        {
            let t = Try {
                full: true,
                ..Try::default()
            };
            self.go(cand, Work::Sign(SignMode::New), t);
            return Ok(Accepted::default());
        }
        if self.z.live.is_none() {
            let why = "nothing is published yet";
            return Err(self.refusal(RefusalCode::NothingLive, why, vec![self.cmd("status")]));
        }
        self.z.pending.upkeep.insert(Reason::Manual);
        self.z.pending.full |= full;
        if let Upkeep::AwaitRetry { retry, .. } = &mut self.z.upkeep {
            retry.at = retry.at.map(|at| at.min(self.now));
            retry.full |= full;
        }
        let _ = by;
        let note = match self.upkeep_hindrance(false) {
            Some((_, why)) => format!("queued: {why}"),
            None if matches!(self.z.upkeep, Upkeep::Idle | Upkeep::AwaitRetry { .. }) => {
                String::new()
            }
            None => "queued: the zone is being signed already".to_owned(),
        };
        Ok(Accepted {
            note,
            ..Accepted::default()
        })
    }

    fn pin(&mut self, span: Option<std::time::Duration>, by: &Actor) -> Answer {
        let Some(live) = &self.z.live else {
            let why = "nothing is published that could be pinned";
            return Err(self.refusal(RefusalCode::NothingLive, why, vec![self.cmd("status")]));
        };
        if matches!(self.z.candidate, Candidate::Persisting { .. }) {
            let why = "a version is going live at this moment; try again when it is";
            return Err(self.refusal(RefusalCode::Busy, why, vec![self.cmd("status")]));
        }
        let version = live.version;
        let (since, by) = (self.now, by.name.clone());
        self.record(
            HistoryKind::Pinned,
            About::version(version, live_serial(live)).actor(&by),
        );
        let until = span.map(|s| since + s);
        self.z.modes.pin = Some(Pin {
            version,
            since,
            until,
            by,
        });
        Ok(Accepted::default())
    }

    fn unpin(&mut self, by: &Actor) -> Answer {
        if self.z.modes.pin.take().is_none() {
            let why = "the content is not pinned";
            return Err(self.refusal(RefusalCode::NotPinned, why, vec![self.cmd("status")]));
        }
        self.record(HistoryKind::Unpinned, About::by(&by.name));
        Ok(Accepted::default())
    }

    fn pause(&mut self, part: Part, by: &Actor) -> Answer {
        let now = self.now;
        let slot = match part {
            Part::Load => &mut self.z.modes.load_paused,
            Part::Publish => &mut self.z.modes.publish_paused,
        };
        if slot.is_none() {
            *slot = Some(now);
            self.record(
                HistoryKind::Paused,
                About::by(&by.name).reason(part_name(part)),
            );
        }
        Ok(Accepted::default())
    }

    fn resume(&mut self, part: Part, by: &Actor) -> Answer {
        let doubted = part == Part::Publish && self.z.doubt.is_some();
        if doubted {
            self.end_doubt();
        }
        let slot = match part {
            Part::Load => &mut self.z.modes.load_paused,
            Part::Publish => &mut self.z.modes.publish_paused,
        };
        if slot.take().is_none() && !doubted {
            let why = format!("{} is not paused", part_name(part));
            return Err(self.refusal(RefusalCode::NotPaused, &why, vec![self.cmd("status")]));
        }
        self.record(
            HistoryKind::Resumed,
            About::by(&by.name).reason(part_name(part)),
        );
        Ok(Accepted::default())
    }

    fn maintenance_on(
        &mut self,
        resign: bool,
        span: Option<std::time::Duration>,
        by: &Actor,
    ) -> Answer {
        let since = self
            .z
            .modes
            .maintenance
            .as_ref()
            .map_or(self.now, |m| m.since);
        let until = span.map(|s| self.now + s);
        let name = by.name.clone();
        self.z.modes.maintenance = Some(Maintenance {
            since,
            until,
            by: name,
            resign,
        });
        let why = if resign { "" } else { "without re-signing" };
        self.record(HistoryKind::MaintenanceOn, About::by(&by.name).reason(why));
        self.pause_candidate(Cause::Maintenance, "the zone is in maintenance");
        if !resign && self.urgency() < RunwayClass::Critical {
            self.yield_upkeep();
        }
        Ok(Accepted::default())
    }

    fn maintenance_off(&mut self, by: &Actor) -> Answer {
        if self.z.modes.maintenance.take().is_none() {
            let why = "the zone is not in maintenance";
            let cmds = vec![self.cmd("status")];
            return Err(self.refusal(RefusalCode::MaintenanceState, why, cmds));
        }
        self.record(HistoryKind::MaintenanceOff, About::by(&by.name));
        Ok(Accepted::default())
    }

    /// Modes with an end of their own.
    pub(crate) fn end_modes(&mut self) {
        let now = self.now;
        let over = |until: Option<cascade_time::Timestamp>| until.is_some_and(|u| u <= now);
        if self
            .z
            .modes
            .maintenance
            .as_ref()
            .is_some_and(|m| over(m.until))
        {
            self.z.modes.maintenance = None;
            self.record(HistoryKind::MaintenanceOff, About::why("its time is over"));
        }
        if self.z.modes.pin.as_ref().is_some_and(|p| over(p.until)) {
            self.z.modes.pin = None;
            self.record(HistoryKind::Unpinned, About::why("its time is over"));
        }
    }

    fn change_source(&mut self, source: &str, by: &Actor) -> Answer {
        self.z.source = crate::state::Source {
            text: source.to_owned(),
            expired: self.z.source.expired,
            ..crate::state::Source::default()
        };
        self.record(HistoryKind::SourceChanged, About::by(&by.name));
        // What is being read now comes from the old source.
        self.stop_load = true;
        self.z.rejected = None;
        let hindrance = self.load_hindrance();
        self.want_load(true, Trigger::Added);
        let note = hindrance.map_or_else(String::new, |(why, _)| format!("queued: {why}"));
        Ok(Accepted {
            note,
            ..Accepted::default()
        })
    }

    fn change_policy(&mut self, settings: Settings, by: &Actor) -> Answer {
        let why = format!("{} revision {}", settings.policy, settings.revision);
        self.record(HistoryKind::PolicyChanged, About::by(&by.name).reason(&why));
        self.z.settings = settings;
        self.replan();
        Ok(Accepted::default())
    }

    pub(crate) fn remove(&mut self, keys: Keep, by: &Actor) -> Answer {
        self.record(HistoryKind::ZoneRemoved, About::by(&by.name));
        let job = self.new_job();
        self.z.candidate = Candidate::Removing {
            by: by.name.clone(),
            keys,
            job,
            since: self.now,
            attempt: 0,
            retry_at: None,
            done: false,
        };
        self.z.upkeep = Upkeep::Idle;
        self.z.pending = crate::state::Pending::default();
        Ok(Accepted::default())
    }
}

enum Decision {
    Approve(Option<String>),
    Reject(String),
}

fn split(judged: Result<(Outcome, Accepted), Refusal>) -> (Outcome, Answer) {
    match judged {
        Ok((outcome, accepted)) => (outcome, Ok(accepted)),
        Err(refusal) => (Outcome::Stay, Err(refusal)),
    }
}

fn author(origin: &Origin) -> Option<&String> {
    match origin {
        Origin::Edit { by } => Some(by),
        Origin::Source | Origin::Rollback { .. } => None,
    }
}

fn live_serial(live: &crate::state::Live) -> Serial {
    live.serial
}

fn part_name(part: Part) -> &'static str {
    match part {
        Part::Load => "load",
        Part::Publish => "publish",
    }
}
