//! Reviews of both stages and both lanes: hooks, people, and the lack of a verdict.

use cascade_time::Timestamp;
use cascade_zone::{Serial, VersionId};

use crate::action::{Accepted, Refusal, RefusalCode};
use crate::backoff::delay;
use crate::candidate::Try;
use crate::event::{Actor, Verdict};
use crate::history::{HistoryKind, line};
use crate::settings::{OnNoVerdict, ReviewMode, ReviewRules};
use crate::state::{
    Approval, Cand, Candidate, Hook, JobId, RejectedAt, Review, SignMode, Stage, Upkeep, Work,
};
use crate::step::{About, Machine};

/// Where a review stands after something happened to it.
pub(crate) enum Outcome {
    Stay,
    Approved { by: String },
    Rejected { by: String, reason: String },
}

impl Machine {
    pub(crate) fn open_review(
        &mut self,
        stage: Stage,
        rules: ReviewRules,
        version: VersionId,
        serial: Serial,
        again: bool,
    ) -> Review {
        let kind = match stage {
            Stage::Unsigned => HistoryKind::UnsignedReviewPending,
            Stage::Signed => HistoryKind::SignedReviewPending,
        };
        self.record(kind, About::version(version, serial));
        let mut review = Review {
            stage,
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
        };
        self.begin_review(&mut review);
        review
    }

    /// The first hook runs, or people are asked.
    pub(crate) fn begin_review(&mut self, review: &mut Review) {
        match review.rules.mode {
            ReviewMode::Script if review.rules.hooks > review.hook_index => self.run_hook(review),
            ReviewMode::Script => {
                review.hook = Hook::Held;
                review.last_error = Some("the policy names no hook".to_owned());
            }
            ReviewMode::Manual | ReviewMode::Off => {
                review.hook = Hook::Person;
                review.deadline = Some(self.now + review.rules.timeout);
            }
        }
        self.touch();
    }

    pub(crate) fn run_hook(&mut self, review: &mut Review) {
        let run = self.new_job();
        let deadline = self.now + review.rules.timeout;
        review.hook = Hook::Running { run, deadline };
        let about = About {
            version: Some(review.version),
            ..About::default()
        };
        let nth = format!("hook {} of {}", review.hook_index + 1, review.rules.hooks);
        self.record(HistoryKind::HookStarted, about.reason(&nth));
    }

    pub(crate) fn hook_done(&mut self, run: JobId, verdict: Verdict) {
        let known = self.on_review(&|r| is_run(r, run), &mut |m, review| {
            m.finished.insert(run);
            m.judge(review, &verdict)
        });
        if !known {
            self.record(HistoryKind::LateVerdict, About::default());
        }
    }

    pub(crate) fn hook_failed(&mut self, run: JobId, error: &str) {
        self.on_review(&|r| is_run(r, run), &mut |m, review| {
            m.finished.insert(run);
            m.hook_broke(review, error)
        });
    }

    fn judge(&mut self, review: &mut Review, verdict: &Verdict) -> Outcome {
        review.failures = 0;
        match verdict {
            Verdict::Approve => {
                review.deferrals = 0;
                review.last_error = None;
                review.hook_index = review.hook_index.saturating_add(1);
                if review.hook_index < review.rules.hooks {
                    self.run_hook(review);
                    return Outcome::Stay;
                }
                Outcome::Approved {
                    by: "review hook".to_owned(),
                }
            }
            Verdict::Reject { reason } => Outcome::Rejected {
                by: "review hook".to_owned(),
                reason: line(reason),
            },
            Verdict::Retry { reason } => {
                let after = delay(self.z.settings.backoff.hook, review.deferrals, self.draw());
                review.deferrals = review.deferrals.saturating_add(1);
                review.last_error = Some(line(reason));
                review.hook = Hook::Backoff {
                    at: self.now + after,
                };
                Outcome::Stay
            }
            Verdict::Hold { reason } => {
                review.last_error = Some(line(reason));
                review.hook = Hook::Held;
                let about = About {
                    version: Some(review.version),
                    ..About::default()
                };
                self.record(HistoryKind::ReviewHeld, about.reason(reason));
                Outcome::Stay
            }
        }
    }

    /// A hook that crashed or could not be started never decides: it is tried again, and in the
    /// end a person is asked, unless the policy takes silence for a no.
    pub(crate) fn hook_broke(&mut self, review: &mut Review, error: &str) -> Outcome {
        let about = About {
            version: Some(review.version),
            ..About::default()
        };
        self.record(HistoryKind::HookFailed, about.reason(error));
        let after = delay(self.z.settings.backoff.hook, review.failures, self.draw());
        review.failures = review.failures.saturating_add(1);
        review.last_error = Some(line(error));
        if review.failures < self.z.settings.limits.hook_failures {
            review.hook = Hook::Backoff {
                at: self.now + after,
            };
            return Outcome::Stay;
        }
        self.no_verdict(
            review,
            review.rules.on_failure,
            "the review hook failed too often",
        )
    }

    fn no_verdict(&mut self, review: &mut Review, then: OnNoVerdict, why: &str) -> Outcome {
        match then {
            OnNoVerdict::Hold => {
                if review.rules.mode == ReviewMode::Script {
                    review.hook = Hook::Held;
                }
                Outcome::Stay
            }
            OnNoVerdict::Reject => Outcome::Rejected {
                by: "policy".to_owned(),
                reason: why.to_owned(),
            },
        }
    }

    /// Hooks that are to run again or ran too long; reviews nobody decided.
    pub(crate) fn settle_reviews(&mut self) {
        self.share_review_slot();
        let load = self.set_load_aside();
        let now = self.now;
        // At most one due thing per lane and round; the bound is for our own bugs.
        for _ in 0..4 {
            let due = |r: &Review| is_due(r, now);
            if !self.on_review(&due, &mut |m, review| m.review_due(review)) {
                break;
            }
            self.touch();
        }
        self.take_load_back(load);
    }

    fn review_due(&mut self, review: &mut Review) -> Outcome {
        let about = About {
            version: Some(review.version),
            ..About::default()
        };
        match review.hook {
            Hook::Backoff { .. } => {
                self.run_hook(review);
                Outcome::Stay
            }
            Hook::Running { .. } => {
                self.record(HistoryKind::ReviewTimedOut, about);
                review.last_error = Some("the hook did not end in time".to_owned());
                self.no_verdict(review, review.rules.on_timeout, "the review hook timed out")
            }
            Hook::Person | Hook::Held | Hook::NotOpened => {
                self.record(HistoryKind::ReviewTimedOut, about);
                review.deadline = None;
                review.last_error = Some("nobody decided within the time".to_owned());
                self.no_verdict(review, review.rules.on_timeout, "nobody decided in time")
            }
        }
    }

    /// Applies `f` to the first open review that `which` picks, candidate first.
    pub(crate) fn on_review(
        &mut self,
        which: &dyn Fn(&Review) -> bool,
        f: &mut dyn FnMut(&mut Self, &mut Review) -> Outcome,
    ) -> bool {
        match std::mem::take(&mut self.z.candidate) {
            Candidate::AwaitUnsignedReview { cand, mut review } if which(&review) => {
                let outcome = f(self, &mut review);
                self.conclude_unsigned(cand, review, outcome);
                return true;
            }
            Candidate::AwaitSignedReview { cand, mut review } if which(&review) => {
                let outcome = f(self, &mut review);
                self.conclude_signed(cand, review, outcome);
                return true;
            }
            other => self.z.candidate = other,
        }
        match std::mem::take(&mut self.z.upkeep) {
            Upkeep::AwaitReview { up, mut review } if which(&review) => {
                let outcome = f(self, &mut review);
                self.conclude_upkeep(up, review, outcome);
                return true;
            }
            other => self.z.upkeep = other,
        }
        false
    }

    pub(crate) fn conclude_unsigned(&mut self, cand: Box<Cand>, review: Review, outcome: Outcome) {
        match outcome {
            Outcome::Stay => self.z.candidate = Candidate::AwaitUnsignedReview { cand, review },
            Outcome::Approved { by } => {
                let about = About::version(cand.version, cand.source_serial).actor(&by);
                self.record(HistoryKind::UnsignedApproved, about);
                self.go(cand, Work::Sign(SignMode::New), Try::default());
            }
            Outcome::Rejected { by, reason } => {
                let on_reject = review.rules.on_reject;
                self.reject(cand, RejectedAt::UnsignedReview, on_reject, &by, &reason);
            }
        }
    }

    pub(crate) fn conclude_signed(
        &mut self,
        mut cand: Box<Cand>,
        review: Review,
        outcome: Outcome,
    ) {
        match outcome {
            Outcome::Stay => self.z.candidate = Candidate::AwaitSignedReview { cand, review },
            Outcome::Approved { by } => {
                let Some(signed) = &cand.signed else { return };
                let about = About::version(signed.version, signed.serial).actor(&by);
                let due = signed.next_due <= self.now;
                cand.approved_fp = Some(signed.reviewed_fp);
                self.record(HistoryKind::SignedApproved, about);
                // Signatures that became due while it waited are made anew first.
                let work = if due {
                    Work::Sign(SignMode::Rebase)
                } else {
                    Work::Persist
                };
                self.go(cand, work, Try::default());
            }
            Outcome::Rejected { by, reason } => {
                let on_reject = review.rules.on_reject;
                self.reject(cand, RejectedAt::SignedReview, on_reject, &by, &reason);
            }
        }
    }

    /// Takes one approval of a person; says how many are still missing.
    pub(crate) fn add_approval(
        &self,
        approvals: &mut Vec<Approval>,
        stage: Stage,
        rules: &ReviewRules,
        by: &Actor,
        comment: Option<String>,
    ) -> Result<usize, Refusal> {
        let again = approvals
            .iter()
            .any(|a| a.stage == stage && a.by == by.name);
        if again {
            let why = format!(
                "{} approved this version already; another person must",
                by.name
            );
            return Err(self.refusal(RefusalCode::AlreadyApproved, &why, vec![]));
        }
        let comment = comment.map(|c| line(&c));
        approvals.push(Approval {
            stage,
            by: by.name.clone(),
            at: self.now,
            comment,
        });
        let given = approvals.iter().filter(|a| a.stage == stage).count();
        Ok(rules.approvals.max(1).saturating_sub(given))
    }
}

/// The answer to an approval that was not the last one needed.
pub(crate) fn more_needed(missing: usize) -> Accepted {
    let note = format!("approval recorded; {missing} more of other persons needed");
    Accepted {
        note,
        commands: Vec::new(),
        missing,
    }
}

fn is_run(r: &Review, run: JobId) -> bool {
    matches!(r.hook, Hook::Running { run: at_work, .. } if at_work == run)
}

fn is_due(r: &Review, now: Timestamp) -> bool {
    match r.hook {
        Hook::Running { deadline, .. } => deadline <= now,
        Hook::Backoff { at } => at <= now,
        Hook::Person => r.deadline.is_some_and(|d| d <= now),
        Hook::Held | Hook::NotOpened => false,
    }
}
