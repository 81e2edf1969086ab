//! A version of requests on its way: when it is answered, and with what.

use cascade_pipeline::state::{Candidate, Cause, Origin, RejectedAt};

use super::super::actor::{Actor, fp};
use super::{Flight, PATIENCE};
use crate::update::{UnableKind, Verdict};

/// Where the flight is.
pub(super) enum Lane {
    Live,
    UnderWay,
    /// What it waits for.
    Waits(String),
    Failed(UnableKind, String),
}

impl Actor {
    pub(super) fn settle_head(&mut self) {
        let z = &self.row.zone;
        let live = z.live.as_ref();
        let cand = z.candidate.cand();
        if let Some(c) = cand.filter(|c| matches!(c.origin, Origin::Rollback { .. })) {
            self.updates.rollback = Some(c.version);
        } else if let Some(to) = self.updates.rollback.take()
            && live.is_some_and(|l| l.of == to)
        {
            // Whoever rolled back wants that content, and not what came after it.
            self.updates.head = self.version(to).filter(|v| !v.is_signed());
        }
        if self.updates.head.is_none() && self.row.content.own {
            let of = live.map(|l| l.of);
            let v = of.and_then(|v| self.version(v));
            self.updates.head = v.filter(|v| !v.is_signed());
        }
    }

    pub(super) fn lane(&self, f: &Flight) -> Lane {
        let z = &self.row.zone;
        let mine = fp(f.after.full_fingerprint());
        if z.live.as_ref().is_some_and(|l| l.content_fp == mine) {
            return Lane::Live;
        }
        if z.candidate.cand().is_none_or(|c| c.content_fp != mine) {
            let text = "the change was given up before it was published; see the zone's history";
            return Lane::Failed(UnableKind::Other, text.into());
        }
        let waits = |what: &str| Lane::Waits(format!("durable; publication waits for {what}"));
        match z.candidate.parked() {
            Candidate::AwaitGuardApproval { .. } => waits("a decision about the change guard"),
            Candidate::AwaitUnsignedReview { .. } | Candidate::AwaitSignedReview { .. } => {
                waits("a review")
            }
            Candidate::AwaitRetry { retry, .. } => match retry.cause {
                Cause::OtherLane => Lane::UnderWay,
                _ => waits(&retry.error),
            },
            Candidate::Rejected {
                at_stage, reason, ..
            } => match at_stage {
                RejectedAt::Guard | RejectedAt::Signer => {
                    Lane::Failed(UnableKind::Content, reason.clone())
                }
                _ => waits("an operator: the version was rejected"),
            },
            Candidate::Refused { reason, .. } => {
                let text = format!("verification refused the version: {reason}");
                Lane::Failed(UnableKind::Other, text)
            }
            _ => Lane::UnderWay,
        }
    }

    pub(super) fn settle_flight(&mut self) {
        if self.updates.busy {
            return;
        }
        let now = self.d.now();
        let Some(f) = &self.updates.flight else {
            return;
        };
        match self.lane(f) {
            Lane::UnderWay if now.since(f.since) < PATIENCE => {}
            Lane::Live => {
                let serial = self.row.zone.live.as_ref().map(|l| l.serial);
                let serial = serial.unwrap_or(f.after.serial());
                self.land(&Verdict::Published(serial), true);
            }
            Lane::UnderWay | Lane::Waits(_) => self.log_flight(),
            Lane::Failed(kind, text) => self.land(&Verdict::unable(kind, text), false),
        }
    }

    /// Answers everybody of the flight. `keep`: its content is the head from now on.
    pub(super) fn land(&mut self, verdict: &Verdict, keep: bool) {
        let Some(f) = self.updates.flight.take() else {
            return;
        };
        for w in f.waiting {
            w.answer(verdict);
        }
        if !keep {
            let live = self.row.zone.live.as_ref().map(|l| l.content_fp);
            // What was acknowledged before and is not published is offered again.
            self.updates.offer = live != Some(fp(f.before.full_fingerprint()));
            self.updates.head = Some(f.before);
        }
    }
}
