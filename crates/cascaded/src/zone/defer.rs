//! Steps in the middle of work that goes on by itself become durable with the step that ends it.
//!
//! A version passes load, guard, signer, gate and disk in a few milliseconds; a commit between each
//! of them would cost more than all of them, and very many zones share one disk. What such a step
//! leaves is what a process that ends there would find anyway: the state before, and a source that
//! is asked again. Only steps whose effects nobody outside can see are treated so: what a review
//! server shows waits for the commit, so that no serial is shown that could be given again.

use std::time::Duration;

use cascade_pipeline::state::{Candidate, Upkeep};
use cascade_pipeline::{Action, Event, Zone};
use cascade_time::Timestamp;

use super::actor::Actor;

/// Work that takes longer shows its beginning in the history.
const LONGEST: Duration = Duration::from_secs(1);

/// Actions of steps that are not durable yet.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    since: Option<Timestamp>,
    /// Entries of the history.
    pub records: Vec<Action>,
    /// What review servers show from the commit on.
    shows: Vec<Action>,
}

impl Unwritten {
    pub fn is_empty(&self) -> bool {
        self.since.is_none() && self.records.is_empty() && self.shows.is_empty()
    }
}

/// What decides whether the step of an event may wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Files were read back, and are what was committed.
    Restored,
    /// A load found nothing new.
    Unchanged,
    /// Somebody waits for the answer.
    Request,
    Other,
}

impl Kind {
    pub(super) fn of(event: &Event) -> Kind {
        match event {
            Event::Restored { .. } => Kind::Restored,
            Event::LoadUnchanged { .. } => Kind::Unchanged,
            Event::Request(_) => Kind::Request,
            _ => Kind::Other,
        }
    }
}

/// A step that only hands a job from one stage to the next, or says that all is as it was.
fn may_wait(kind: Kind, zone: &Zone, actions: &[Action]) -> bool {
    let working = matches!(
        zone.candidate,
        Candidate::Loading(_)
            | Candidate::Guarding { .. }
            | Candidate::Signing { .. }
            | Candidate::Verifying { .. }
            | Candidate::Persisting { .. }
    ) || matches!(
        zone.upkeep,
        Upkeep::Signing { .. } | Upkeep::Verifying { .. } | Upkeep::Persisting { .. }
    );
    let inward = |a: &Action| match a {
        Action::Cancel { .. }
        | Action::StartLoad { .. }
        | Action::EvaluateGuard { .. }
        | Action::StartSign(_)
        | Action::StartVerify { .. }
        | Action::Persist { .. }
        | Action::ShowForReview { .. }
        | Action::Record(_)
        | Action::SetTimer(_) => true,
        // What was committed as published is published again.
        Action::Publish(_)
        | Action::SendNotify { .. }
        | Action::WatchSecondaries { .. }
        | Action::TellKeyManager { .. }
        | Action::HoldTransfers(_) => kind == Kind::Restored,
        _ => false,
    };
    let fits = match kind {
        Kind::Restored | Kind::Unchanged => working || matches!(zone.candidate, Candidate::Idle),
        Kind::Request => false,
        Kind::Other => working,
    };
    fits && actions.iter().all(inward)
}

impl Actor {
    pub(super) fn may_wait(&self, kind: Kind, actions: &[Action]) -> bool {
        may_wait(kind, &self.row.zone, actions)
    }

    /// What is left of these actions to be performed now.
    pub(super) fn keep_unwritten(&mut self, kind: Kind, actions: Vec<Action>) -> Vec<Action> {
        let now = self.d.now();
        self.unwritten.since.get_or_insert(now);
        let mut rest = Vec::with_capacity(actions.len());
        for a in actions {
            match a {
                Action::Record(_) => {
                    self.unwritten.records.push(a.clone());
                    // The log has it at once.
                    rest.push(a);
                }
                Action::ShowForReview { .. } if kind != Kind::Restored => {
                    self.unwritten.shows.push(a);
                }
                other => rest.push(other),
            }
        }
        rest
    }

    /// The row has something that may be written with the next step.
    pub(super) fn note_unwritten(&mut self) {
        let now = self.d.now();
        self.unwritten.since.get_or_insert(now);
    }

    pub(super) fn unwritten_deadline(&self) -> Option<Timestamp> {
        self.unwritten.since.map(|at| at + LONGEST)
    }

    pub(super) async fn write_unwritten(&mut self) {
        let now = self.d.now();
        if self.unwritten_deadline().is_some_and(|at| at <= now) && self.save_row().await {
            let shows = self.written();
            self.perform(shows, now).await;
        }
    }

    /// The row was committed: what may be shown now.
    pub(super) fn written(&mut self) -> Vec<Action> {
        self.unwritten.since = None;
        // Its room as well: very many zones have nothing to write for long.
        self.unwritten.records = Vec::new();
        std::mem::take(&mut self.unwritten.shows)
    }
}
