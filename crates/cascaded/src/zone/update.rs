//! A zone whose content is its own: requests taken together into versions, and what is answered
//! when.
//!
//! The newest content is the *head*. While nothing is under way, everything that waits is judged in
//! order, each request upon what those before it left, and becomes one version (the *flight*) that
//! takes the ordinary way: guard, reviews, signer, gate, disk, publication. Its requests are
//! answered when it is served. Where that waits for people or for time (a review, a hold, a key
//! store, more than [`PATIENCE`]), the edits go to the zone's update log, which is synced, and the
//! answer says that the change is durable and not yet served. What the gate, the guard or the
//! signer refuse before that is answered so, and the head is what it was.
//!
//! After a start the head is the published content with the log's edits on top.

mod content;
mod flight;
mod log;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cascade_api::zones::Source;
use cascade_archive::{JournalWriter, MAX_LOG};
use cascade_loader::update::{Changed, Made, Refused};
use cascade_pipeline::Event;
use cascade_pipeline::settings::OnNewer;
use cascade_pipeline::state::{Candidate, Cause, JobId, Origin, Trigger};
use cascade_time::Timestamp;
use cascade_zone::{Edit, VersionId, ZoneVersion};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::actor::Actor;
use crate::update::{Incoming, UnableKind, Verdict};

pub(super) use log::Beside;

/// No job of the pipeline: those are counted from one.
pub(super) const BESIDE: JobId = JobId(0);
/// Requests that become one version.
const BATCH: usize = 512;
/// An answer does not wait longer for publication.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Whose the content is, durable with the zone's row.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct OwnContent {
    /// The first version made of the source as it is now.
    pub begun: Option<u64>,
    /// What that version holds, when it was published already.
    #[serde(default)]
    pub same: bool,
    /// It was published: from then on the content is ours, and the source's beginning is not read
    /// again.
    pub own: bool,
    /// Rollbacks that were published, and changes of the source: a log from before the last one holds
    /// what it undid. Counted in
    /// the commit that makes the content live, so that no end of the process comes between.
    #[serde(default)]
    pub rollbacks: u64,
}

#[derive(Default)]
pub(super) struct Updates {
    queue: VecDeque<(Timestamp, Incoming)>,
    /// Newest content that was acknowledged or is on its way to be.
    head: Option<Arc<ZoneVersion>>,
    flight: Option<Flight>,
    /// The log, while something in it is not published.
    log: Option<JournalWriter>,
    /// Work beside the pipeline is under way.
    busy: bool,
    /// A rollback on its way: its content becomes the head when it is live.
    rollback: Option<VersionId>,
    /// The head is to be offered to the pipeline as soon as it takes it.
    offer: bool,
    /// Counts sources: what comes of work for an earlier one is not ours.
    source: u64,
    /// A job has panicked with the log in its hands: nothing more is taken before a restart.
    broken: bool,
}

/// A version of requests that are not answered.
struct Flight {
    before: Arc<ZoneVersion>,
    after: Arc<ZoneVersion>,
    edits: Vec<Edit>,
    waiting: Vec<Waiting>,
    since: Timestamp,
}

struct Waiting {
    reply: oneshot::Sender<Verdict>,
    result: Result<Changed, Refused>,
}

impl Waiting {
    fn answer(self, made: &Verdict) {
        let verdict = match self.result {
            Err(refused) => Verdict::Refused(refused),
            // It builds on what the others did.
            Ok(Changed::No) if !matches!(made, Verdict::Unable(_)) => Verdict::Unchanged,
            Ok(_) => made.clone(),
        };
        // Whoever asked may have gone.
        let _ = self.reply.send(verdict);
    }
}

/// What a job made of requests.
pub(super) struct Content {
    base: Arc<ZoneVersion>,
    batch: Vec<Incoming>,
    made: Result<Made, String>,
    started: Timestamp,
}

/// What may be done with requests that wait.
enum Gate {
    Open,
    /// Something is under way that ends by itself.
    Busy,
    /// Somebody has to do something first; requests are judged and logged meanwhile.
    Parked,
    Closed(UnableKind, &'static str),
}

impl Actor {
    pub(super) fn takes_updates(&self) -> bool {
        matches!(self.row.source, Source::Update { .. })
    }

    pub(super) fn update_head(&self) -> Option<Arc<ZoneVersion>> {
        self.updates.head.clone().filter(|_| self.takes_updates())
    }

    /// Room for more requests; the rest waits in the mailbox, and beyond that is told so.
    pub(super) fn wants_updates(&self) -> bool {
        self.updates.queue.len() < BATCH
    }

    pub(super) fn update_deadline(&self) -> Option<Timestamp> {
        let u = &self.updates;
        let flight = u.flight.as_ref().filter(|_| !u.busy).map(|f| f.since);
        let first = u.queue.front().map(|(at, _)| *at);
        flight
            .into_iter()
            .chain(first)
            .min()
            .map(|at| at + PATIENCE)
    }

    /// Takes a request, and those that came with it.
    pub(super) fn queue_updates(
        &mut self,
        first: Incoming,
        rx: &mut mpsc::Receiver<Box<Incoming>>,
    ) {
        let now = self.d.now();
        self.updates.queue.push_back((now, first));
        while self.wants_updates()
            && let Ok(next) = rx.try_recv()
        {
            self.updates.queue.push_back((now, *next));
        }
    }

    /// Answers what can be answered.
    pub(super) fn settle_updates(&mut self) {
        if self.takes_updates() {
            self.settle_head();
            self.settle_flight();
        }
    }

    /// Whatever can be done now: answers, the log, the next batch.
    pub(super) async fn updates_turn(&mut self) {
        if !self.takes_updates() {
            let text = "this zone's content comes from elsewhere; nothing is forwarded";
            return self.turn_away(UnableKind::Elsewhere, text);
        }
        self.settle_head();
        self.settle_flight();
        if self.updates.flight.is_none() && !self.updates.busy {
            self.drop_log();
        }
        let nothing = self.updates.queue.is_empty() && !self.updates.offer;
        if self.updates.busy || self.updates.flight.is_some() || nothing {
            return;
        }
        match self.gate() {
            Gate::Open => {
                self.updates.offer = false;
                self.apply(Event::SourceSignal(Trigger::Update)).await;
            }
            Gate::Busy => {}
            Gate::Parked => self.judge_beside(),
            Gate::Closed(kind, why) => self.turn_away(kind, why),
        }
    }

    fn turn_away(&mut self, kind: UnableKind, why: &str) {
        for (_, asked) in self.updates.queue.drain(..) {
            let _ = asked.reply.send(Verdict::unable(kind, why));
        }
    }

    fn gate(&self) -> Gate {
        use UnableKind::{NotReady, Other};
        let z = &self.row.zone;
        let long = self.updates.queue.front().is_some_and(|(at, _)| {
            let now = self.d.now();
            now.since(*at) >= PATIENCE
        });
        match &z.candidate {
            Candidate::Restoring { .. } => return Gate::Busy,
            Candidate::Removing { .. } => {
                return Gate::Closed(NotReady, "the zone is being removed");
            }
            _ => {}
        }
        if self.updates.broken {
            return Gate::Closed(Other, "internal fault; see the server's log");
        }
        if self.updates.head.is_none() {
            return Gate::Closed(NotReady, "the zone's first version is not published yet");
        }
        if z.modes.maintenance.is_some() {
            return Gate::Closed(Other, "the zone is in maintenance");
        }
        if z.modes.load_paused.is_some() {
            return Gate::Closed(Other, "loading of the zone is paused");
        }
        if z.storage_full.is_some() {
            return Gate::Closed(Other, "the server's disk is full");
        }
        if self.updates.log.as_ref().is_some_and(|l| l.len() > MAX_LOG) {
            return Gate::Closed(Other, "too many changes wait to be published");
        }
        let rolling =
            |c: &cascade_pipeline::state::Cand| matches!(c.origin, Origin::Rollback { .. });
        if z.candidate.cand().is_some_and(rolling) {
            return Gate::Busy;
        }
        match &z.candidate {
            Candidate::Idle | Candidate::AwaitGuardApproval { .. } | Candidate::Refused { .. } => {
                Gate::Open
            }
            Candidate::AwaitRetry { retry, .. } if retry.cause == Cause::OtherLane => Gate::Busy,
            // A candidate that waits is kept whole on disk: not anew for every change.
            Candidate::AwaitRetry { .. } => Gate::Parked,
            Candidate::AwaitUnsignedReview { review, .. }
            | Candidate::AwaitSignedReview { review, .. } => match review.rules.on_newer {
                OnNewer::Supersede => Gate::Open,
                OnNewer::Queue => Gate::Parked,
            },
            Candidate::Rejected { .. } => Gate::Closed(
                Other,
                "the zone is halted by a rejection; an operator must act",
            ),
            _ if long => Gate::Parked,
            _ => Gate::Busy,
        }
    }
}
