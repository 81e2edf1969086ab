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

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cascade_api::zones::Source;
use cascade_archive::{Logged, MAX_LOG};
use cascade_loader::update::{Asked, Changed, Made, Making, Refused, make, read};
use cascade_loader::{LoadReport, LoadResult, Outcome as LoadOutcome};
use cascade_pipeline::Event;
use cascade_pipeline::settings::OnNewer;
use cascade_pipeline::state::{Candidate, Cause, JobId, Origin, RejectedAt, Trigger};
use cascade_time::Timestamp;

use cascade_zone::{Edit, Fingerprint, VersionId, ZoneVersion};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::actor::{Actor, Done, Running, fp, spawn_job};
use super::jobs;
use crate::update::permit::Rules;
use crate::update::{self, Incoming, UnableKind, Verdict};

/// Requests that become one version.
const BATCH: usize = 512;
/// An answer does not wait longer for publication.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Times of the SOA of a zone that begins empty: RFC 1912 §2.2 with an expiry of two weeks.
const EMPTY_SOA: &str = "1 3600 900 1209600 3600";

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
}

#[derive(Default)]
pub(super) struct Updates {
    queue: VecDeque<(Timestamp, Incoming)>,
    /// Newest content that was acknowledged or is on its way to be.
    head: Option<Arc<ZoneVersion>>,
    flight: Option<Flight>,
    /// The log, while something in it is not published.
    log: Option<cascade_archive::JournalWriter>,
    /// Work beside the pipeline is under way.
    busy: bool,
    /// A rollback on its way: its content becomes the head when it is live.
    rollback: Option<VersionId>,
    /// The head was put back: it is to be offered again.
    offer: bool,
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

/// What a job beside the pipeline came to.
pub(super) enum Beside {
    /// The log has the edits of the flight.
    Logged(Result<(), String>, Option<cascade_archive::JournalWriter>),
    /// Requests judged while a version is in the hands of people, with what became of the log.
    Judged(
        Box<Content>,
        Result<(), String>,
        Option<cascade_archive::JournalWriter>,
    ),
    /// Nothing in the log was left to do.
    Dropped(Result<(), String>),
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

/// Where the flight is.
enum Lane {
    Live,
    UnderWay,
    /// What it waits for.
    Waits(String),
    Failed(UnableKind, String),
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
    pub(super) fn queue_updates(&mut self, first: Incoming, rx: &mut mpsc::Receiver<Incoming>) {
        let now = self.d.now();
        self.updates.queue.push_back((now, first));
        while self.wants_updates()
            && let Ok(next) = rx.try_recv()
        {
            self.updates.queue.push_back((now, next));
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
        if self.updates.busy || self.updates.flight.is_some() {
            return;
        }
        if self.updates.queue.is_empty() && !self.updates.offer {
            return self.drop_log();
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
            Candidate::Idle
            | Candidate::AwaitGuardApproval { .. }
            | Candidate::AwaitRetry { .. }
            | Candidate::Refused { .. } => Gate::Open,
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

    // ---- content for the pipeline

    /// True once the content is what updates made, and no longer what the source began with.
    pub(super) fn content_is_own(&self) -> bool {
        self.row.content.own
    }

    /// Before a step is committed: the first version of the source may have become live.
    pub(super) fn note_own_content(&mut self) {
        if self.row.content.own || !matches!(self.row.source, Source::Update { .. }) {
            return;
        }
        let live = self.row.zone.live.as_ref().map(|l| l.of.0);
        let content = &mut self.row.content;
        content.own = matches!((live, content.begun), (Some(l), Some(b)) if l >= b || content.same);
    }

    /// A load of what the content begins with came to this.
    pub(super) fn note_beginning(&mut self, version: VersionId, print: Option<Fingerprint>) {
        if self.row.content.own || !matches!(self.row.source, Source::Update { .. }) {
            return;
        }
        // One borrow, so that its parts can be told apart.
        let row: &mut super::ZoneRow = &mut self.row;
        let (z, content) = (&row.zone, &mut row.content);
        content.begun.get_or_insert(version.0);
        // Without a candidate, what is unchanged is what is published.
        let live = z.live.as_ref();
        content.same = match print {
            Some(p) => live.is_some_and(|l| l.content_fp == fp(p)),
            None => live.is_some() && z.candidate.cand().is_none(),
        };
    }

    /// What the content begins with: a file, or text. `None`: the job is under way or has ended.
    pub(super) fn begin_content(
        &mut self,
        job: JobId,
        version: VersionId,
        now: Timestamp,
    ) -> Option<(String, Option<String>)> {
        if self.content_is_own() && self.updates.head.is_none() {
            self.settle_head();
        }
        if self.updates.head.is_some() {
            self.start_content(job, version, now);
            return None;
        }
        let Source::Update { path, name_servers } = self.row.source.clone() else {
            return None;
        };
        if self.content_is_own() {
            let error = "the zone's own content is damaged on disk, and what it began with is too \
                         old: restore a backup, or give it a new beginning with \
                         'cascade zone edit --source update:/path'";
            self.later(Event::LoadFailed {
                job,
                error: error.into(),
            });
            return None;
        }
        match (path, name_servers.is_empty()) {
            (Some(path), _) => Some((path, None)),
            (None, false) => {
                let text = empty_zone(&self.me.apex.to_string(), &name_servers);
                Some(("the empty zone".into(), Some(text)))
            }
            (None, true) => {
                // What is published is the beginning.
                let live = self.row.zone.live.as_ref().map(|l| l.of);
                match live.and_then(|v| self.version(v)) {
                    Some(v) => {
                        self.row.content = OwnContent {
                            begun: Some(v.id().0),
                            same: true,
                            own: true,
                        };
                        self.updates.head = Some(v);
                        self.start_content(job, version, now);
                    }
                    None => self.later(Event::LoadFailed {
                        job,
                        error: "there is nothing published to begin with; give a file or name \
                                servers: update:/path, update:ns1.example."
                            .into(),
                    }),
                }
                None
            }
        }
    }

    /// Judges what waits, and makes a version of it; without anything that waits, the head.
    fn start_content(&mut self, job: JobId, version: VersionId, now: Timestamp) {
        let (Some(head), Some(policy)) = (self.updates.head.clone(), self.policy()) else {
            self.later(Event::LoadFailed {
                job,
                error: "the zone's policy is not loaded".into(),
            });
            return;
        };
        self.running.insert(job, Running::Other);
        // A version of others' is not answered yet: nothing may build on it in secret.
        let n = match self.updates.flight.is_some() || self.updates.busy {
            true => 0,
            false => self.updates.queue.len().min(BATCH),
        };
        let batch: Vec<Incoming> = self.updates.queue.drain(..n).map(|(_, i)| i).collect();
        let rules = policy.file;
        let d = self.d.clone();
        spawn_job(&self.done, job, move || {
            let started = now;
            let content = judge(head, batch, version, &rules.policy, &d.pool, started);
            Done::Content(job, version, Box::new(content))
        });
    }

    pub(super) async fn content_made(&mut self, job: JobId, version: VersionId, c: Content) {
        if !self.running.contains_key(&job) {
            let text = "the change was cancelled; ask again";
            for asked in c.batch {
                let _ = asked.reply.send(Verdict::unable(UnableKind::Other, text));
            }
            return;
        }
        let now = self.d.now();
        let report = LoadReport {
            trigger: "update".into(),
            source: self.row.zone.source.text.clone(),
            kind: format!("UPDATE ({} requests)", c.batch.len()),
            started: c.started,
            finished: now,
            serial_old: Some(c.base.serial().0),
            ..LoadReport::default()
        };
        let made = match c.made {
            Ok(made) => made,
            Err(error) => {
                // A fault of ours: nothing has changed.
                for asked in c.batch {
                    let _ = asked.reply.send(Verdict::unable(UnableKind::Other, &error));
                }
                self.running.remove(&job);
                return self.apply(Event::LoadFailed { job, error }).await;
            }
        };
        let none = c.batch.is_empty();
        let mut waiting: Vec<Waiting> = c
            .batch
            .into_iter()
            .zip(made.answers)
            .map(|(asked, result)| Waiting {
                reply: asked.reply,
                result,
            })
            .collect();
        let live = self.row.zone.live.as_ref().map(|l| l.content_fp);
        let v = made
            .version
            .filter(|v| live != Some(fp(v.full_fingerprint())));
        let Some(v) = v else {
            for w in waiting.drain(..) {
                w.answer(&Verdict::Unchanged);
            }
            let report = LoadReport {
                result: LoadResult::Unchanged,
                ..report
            };
            let outcome = LoadOutcome::Unchanged {
                report,
                identity: None,
            };
            return self.loaded(job, version, outcome, None).await;
        };
        let after = Arc::new(v);
        let sums = after.sums();
        let report = LoadReport {
            result: LoadResult::Loaded,
            records: sums.records,
            owners: sums.owners,
            cuts: sums.cuts,
            secure_cuts: sums.secure,
            serial_new: Some(after.serial().0),
            diagnostics: made.diagnostics,
            ..report
        };
        self.updates.head = Some(after.clone());
        if !none {
            self.updates.flight = Some(Flight {
                before: c.base,
                after: after.clone(),
                edits: made.edits,
                waiting,
                since: now,
            });
        }
        let outcome = LoadOutcome::Loaded {
            version: Box::new(ZoneVersion::clone(&after)),
            report,
            identity: None,
        };
        self.loaded(job, version, outcome, None).await;
    }

    // ---- the flight

    fn settle_head(&mut self) {
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

    fn lane(&self, f: &Flight) -> Lane {
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

    fn settle_flight(&mut self) {
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
    fn land(&mut self, verdict: &Verdict, keep: bool) {
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

    // ---- the log

    fn log_flight(&mut self) {
        let Some(f) = &self.updates.flight else {
            return;
        };
        let group = logged(&f.before, &f.after, f.edits.clone());
        self.updates.busy = true;
        let mut writer = self.updates.log.take();
        let (d, zone) = (self.d.clone(), self.me.id);
        spawn_job(&self.done, JobId(0), move || {
            let written = d.files.log_update(zone, &mut writer, &group, d.now());
            Done::UpdatesBeside(Beside::Logged(written.map_err(|e| e.to_string()), writer))
        });
    }

    /// A version is in the hands of people: what comes meanwhile builds on the head.
    fn judge_beside(&mut self) {
        let (Some(head), Some(policy)) = (self.updates.head.clone(), self.policy()) else {
            return self.turn_away(UnableKind::NotReady, "the zone's policy is not loaded");
        };
        let n = self.updates.queue.len().min(BATCH);
        let batch: Vec<Incoming> = self.updates.queue.drain(..n).map(|(_, i)| i).collect();
        if batch.is_empty() {
            return;
        }
        self.updates.busy = true;
        let mut writer = self.updates.log.take();
        let (d, zone) = (self.d.clone(), self.me.id);
        spawn_job(&self.done, JobId(0), move || {
            let now = d.now();
            // It gets an id of its own when the pipeline asks for it.
            let id = VersionId(0);
            let content = judge(head, batch, id, &policy.file.policy, &d.pool, now);
            let written = match content.made.as_ref().map(|m| (&m.version, &m.edits)) {
                Ok((Some(v), edits)) => {
                    let group = logged(&content.base, v, edits.clone());
                    d.files.log_update(zone, &mut writer, &group, now)
                }
                _ => Ok(()),
            };
            let written = written.map_err(|e| e.to_string());
            Done::UpdatesBeside(Beside::Judged(Box::new(content), written, writer))
        });
    }

    /// Everything in the log is published: it goes.
    fn drop_log(&mut self) {
        let live = self.row.zone.live.as_ref().map(|l| l.content_fp);
        let head = self.updates.head.as_ref();
        let head = head.map(|h| fp(h.full_fingerprint()));
        if self.updates.log.is_none() || head.is_none() || head != live {
            return;
        }
        self.updates.busy = true;
        self.updates.log = None;
        let (d, zone) = (self.d.clone(), self.me.id);
        spawn_job(&self.done, JobId(0), move || {
            let gone = d.files.drop_update_log(zone).map_err(|e| e.to_string());
            Done::UpdatesBeside(Beside::Dropped(gone))
        });
    }

    pub(super) async fn updates_beside(&mut self, end: Beside) {
        self.updates.busy = false;
        match end {
            Beside::Logged(Ok(()), writer) => {
                self.updates.log = writer;
                let waits = self.updates.flight.as_ref().map(|f| self.lane(f));
                let text = match waits {
                    Some(Lane::Waits(what)) => what,
                    _ => "durable; it will be published in a moment".into(),
                };
                self.land(&Verdict::Accepted(text), true);
            }
            Beside::Logged(Err(e), writer) => {
                self.updates.log = writer;
                tracing::error!(zone = %self.me.name, "a change could not be made durable: {e}");
                let text = format!("the change could not be made durable: {e}");
                self.land(&Verdict::unable(UnableKind::Other, text), false);
            }
            Beside::Judged(c, written, writer) => {
                self.updates.log = writer;
                self.judged_beside(*c, written).await;
            }
            Beside::Dropped(Ok(())) => {}
            Beside::Dropped(Err(e)) => {
                tracing::warn!(zone = %self.me.name, "the update log stays, though all of it is published: {e}");
            }
        }
    }

    async fn judged_beside(&mut self, c: Content, written: Result<(), String>) {
        let made = c.made.and_then(|m| written.map(|()| m));
        let made = match made {
            Ok(made) => made,
            Err(e) => {
                tracing::error!(zone = %self.me.name, "a change could not be made durable: {e}");
                for asked in c.batch {
                    let _ = asked.reply.send(Verdict::unable(UnableKind::Other, &e));
                }
                return;
            }
        };
        let changed = made.version.is_some();
        if let Some(v) = made.version {
            self.updates.head = Some(Arc::new(v));
        }
        let text = "durable; publication waits for the version before it";
        for (asked, result) in c.batch.into_iter().zip(made.answers) {
            let w = Waiting {
                reply: asked.reply,
                result,
            };
            w.answer(&Verdict::Accepted(text.into()));
        }
        if changed {
            self.apply(Event::SourceSignal(Trigger::Update)).await;
        }
    }

    // ---- after a start, and when the source changes

    /// Reads the log of an earlier process, on top of what it published.
    pub(super) async fn recover_updates(&mut self) {
        if !self.takes_updates() {
            return;
        }
        self.settle_head();
        let Some(live) = self.updates.head.clone() else {
            return;
        };
        let (d, zone) = (self.d.clone(), self.me.id);
        let read = tokio::task::spawn_blocking(move || recover(&d, zone, live));
        match read.await.unwrap_or_else(|e| Err(e.to_string())) {
            Ok(None) => {}
            Ok(Some((head, writer))) => {
                tracing::info!(zone = %self.me.name, serial = head.serial().0, "changes that were acknowledged and not published are taken up again");
                self.updates.head = Some(head);
                self.updates.log = Some(writer);
            }
            Err(e) => {
                tracing::error!(critical = true, zone = %self.me.name, "changes that were acknowledged and not published are lost: {e}");
            }
        }
    }

    /// The source is another one: nothing of the old content counts.
    pub(super) fn updates_source_changed(&mut self) {
        self.land(
            &Verdict::unable(UnableKind::Elsewhere, "the zone's source was changed"),
            true,
        );
        let had_log = self.updates.log.is_some();
        let queue = std::mem::take(&mut self.updates.queue);
        let busy = self.updates.busy;
        self.updates = Updates {
            queue,
            busy,
            ..Updates::default()
        };
        if had_log {
            let (d, zone, name) = (self.d.clone(), self.me.id, self.me.name.clone());
            tokio::task::spawn_blocking(move || {
                if let Err(e) = d.files.set_update_log_aside(zone) {
                    tracing::warn!(zone = %name, "the old update log stays: {e}");
                }
            });
        }
    }
}

fn logged(before: &ZoneVersion, after: &ZoneVersion, edits: Vec<Edit>) -> Logged {
    Logged {
        before: before.full_fingerprint(),
        after: after.full_fingerprint(),
        edits,
    }
}

/// Judges requests upon `base`, on the compute pool. Without requests the version is the base under
/// its new id.
fn judge(
    base: Arc<ZoneVersion>,
    batch: Vec<Incoming>,
    version: VersionId,
    policy: &cascade_policy::Policy,
    pool: &rayon::ThreadPool,
    now: Timestamp,
) -> Content {
    let checks = jobs::checks(&policy.loader.checks);
    let making = Making {
        base: &base,
        version,
        checks: &checks,
        max_ttl: jobs::max_ttl(policy),
        now,
    };
    let made = if batch.is_empty() {
        let same = pool.install(|| base.update(version, now, Vec::new()));
        same.map(|u| Made {
            answers: Vec::new(),
            version: Some(u.version),
            edits: Vec::new(),
            diagnostics: Default::default(),
        })
    } else {
        let rules = Rules::new(&policy.loader.update_allow, base.apex());
        let permits: Vec<_> = batch.iter().map(|i| rules.of(&i.by, base.apex())).collect();
        let asked: Vec<Asked<'_>> = batch
            .iter()
            .zip(&permits)
            .map(|(i, permit)| Asked {
                request: match &i.asked {
                    update::Asked::Message(m) => read(m, base.apex()),
                    update::Asked::Request(r) => Ok((**r).clone()),
                },
                permit,
            })
            .collect();
        pool.install(|| make(&asked, &making))
    };
    Content {
        made: made.map_err(|e| e.to_string()),
        base,
        batch,
        started: now,
    }
}

/// The content that the log leads to from what is published, and the log, open.
type Recovered = Option<(Arc<ZoneVersion>, cascade_archive::JournalWriter)>;

fn recover(
    d: &crate::daemon::Daemon,
    zone: cascade_zone::ZoneId,
    live: Arc<ZoneVersion>,
) -> Result<Recovered, String> {
    let text = |e: cascade_archive::ArchiveError| e.to_string();
    let Some((log, writer)) = d.files.read_update_log(zone).map_err(text)? else {
        return Ok(None);
    };
    let aside = |why: String| {
        let at = d.files.set_update_log_aside(zone).map_err(text)?;
        Err(format!("{why}; the log is kept as {}", at.display()))
    };
    let print = live.full_fingerprint();
    let Some(from) = begins_at(&log.groups, print) else {
        return aside("the update log does not fit what is published".into());
    };
    if from == log.groups.len() && log.damage.is_none() {
        // All of it is published; the process ended before the file went.
        d.files.drop_update_log(zone).map_err(text)?;
        return Ok(None);
    }
    let mut head = live;
    let now = d.now();
    for group in log.groups.iter().skip(from) {
        let made = d
            .pool
            .install(|| head.update(VersionId(0), now, group.edits.clone()));
        match made {
            Ok(u) if u.version.full_fingerprint() == group.after => head = Arc::new(u.version),
            Ok(_) => return aside("the edits of the update log lead elsewhere".into()),
            Err(e) => return aside(e.to_string()),
        }
    }
    if let Some(damage) = log.damage {
        tracing::error!(critical = true, zone = %head.apex().without_dot(), "the update log is damaged, and changes behind the damage are lost: {damage}");
    }
    Ok(Some((head, writer)))
}

/// The group that goes on from a content; behind the last when nothing does.
fn begins_at(groups: &[Logged], print: Fingerprint) -> Option<usize> {
    let next = groups.iter().position(|g| g.before == print);
    next.or_else(|| {
        let done = groups.is_empty() || groups.last().is_some_and(|g| g.after == print);
        done.then_some(groups.len())
    })
}

/// The text of a zone that has nothing but its name servers.
fn empty_zone(apex: &str, name_servers: &[String]) -> String {
    let first = name_servers.first().map_or(".", String::as_str);
    let dot = if apex == "." { "" } else { "." };
    let mut text = format!(
        "$TTL 3600\n@ IN SOA {} hostmaster{dot}{apex} {EMPTY_SOA}\n",
        absolute(first)
    );
    for ns in name_servers {
        text.push_str(&format!("@ IN NS {}\n", absolute(ns)));
    }
    text
}

fn absolute(name: &str) -> String {
    match name.ends_with('.') {
        true => name.to_string(),
        false => format!("{name}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_zone_is_one_that_loads() {
        let names = ["ns1.example.org".to_string(), "ns2.example.net.".into()];
        let apex = cascade_zone::Name::parse("example.net").unwrap();
        let text = empty_zone(&apex.to_string(), &names);
        let parsed: cascade_loader::ParsedFile<cascade_loader::RecordList> =
            cascade_loader::parse_bytes(text.into_bytes(), "empty", &apex, &Default::default());
        let n: usize = parsed.sinks.iter().map(|s| s.records.len()).sum();
        assert_eq!(n, 3);
        assert!(empty_zone(".", &names).contains("SOA ns1.example.org. hostmaster. 1 "));
    }

    #[test]
    fn the_log_goes_on_from_what_is_published() {
        let group = |before, after| Logged {
            before: Fingerprint(before),
            after: Fingerprint(after),
            edits: Vec::new(),
        };
        let log = [group(1, 2), group(2, 3), group(3, 4)];
        let at = |n| begins_at(&log, Fingerprint(n));
        assert_eq!(
            (at(1), at(3), at(4), at(5)),
            (Some(0), Some(2), Some(3), None)
        );
        assert_eq!(begins_at(&[], Fingerprint(9)), Some(0));
    }
}
