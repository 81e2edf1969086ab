//! When something is due although nothing happens.

use cascade_time::Timestamp;

use crate::alert;
use crate::state::{Candidate, Hook, Review, SignJob, Upkeep, Zone};

/// The earliest time at which the zone wants `Event::Timer`. What was due at the last step has been
/// done then, or waits for an event; so the time lies after that step.
pub fn next_deadline(zone: &Zone) -> Option<Timestamp> {
    let mut first: Option<Timestamp> = None;
    each(zone, &mut |at| {
        if at > zone.settled_at && first.is_none_or(|f| at < f) {
            first = Some(at);
        }
    });
    first
}

fn each(z: &Zone, push: &mut dyn FnMut(Timestamp)) {
    match &z.candidate {
        Candidate::Restoring { .. } => return,
        Candidate::Removing { retry_at, .. } => {
            retry_at.iter().for_each(|t| push(*t));
            return;
        }
        Candidate::Loading(l) => push(l.since + z.settings.limits.load),
        _ => {}
    }
    let limits = &z.settings.limits;
    match z.candidate.parked() {
        Candidate::Guarding { since, .. } => push(*since + limits.load),
        Candidate::Signing { job, .. } => push(sign_limit(z, job)),
        Candidate::Verifying { since, .. } => push(*since + limits.verify),
        Candidate::Persisting { since, .. } => push(*since + limits.persist),
        Candidate::AwaitUnsignedReview { review, .. }
        | Candidate::AwaitSignedReview { review, .. } => of_review(review, push),
        Candidate::AwaitRetry { retry, .. } => retry.at.iter().for_each(|t| push(*t)),
        _ => {}
    }
    match &z.upkeep {
        Upkeep::Idle => {}
        Upkeep::Signing { job, .. } => push(sign_limit(z, job)),
        Upkeep::Verifying { since, .. } => push(*since + limits.verify),
        Upkeep::Persisting { since, .. } => push(*since + limits.persist),
        Upkeep::AwaitReview { review, .. } => of_review(review, push),
        Upkeep::AwaitRetry { retry, .. } => retry.at.iter().for_each(|t| push(*t)),
    }
    z.source.retry_at.iter().for_each(|t| push(*t));
    z.live.iter().for_each(|l| push(l.next_due));
    if let Some(m) = &z.modes.maintenance {
        m.until.iter().for_each(|t| push(*t));
    }
    if let Some(p) = &z.modes.pin {
        p.until.iter().for_each(|t| push(*t));
    }
    alert::deadlines(z, push);
}

pub(crate) fn sign_limit(z: &Zone, job: &SignJob) -> Timestamp {
    job.since + z.settings.limits.sign_unit
}

fn of_review(review: &Review, push: &mut dyn FnMut(Timestamp)) {
    review.deadline.iter().for_each(|t| push(*t));
    match review.hook {
        Hook::Running { deadline, .. } => push(deadline),
        Hook::Backoff { at } => push(at),
        Hook::NotOpened | Hook::Person | Hook::Held => {}
    }
}
