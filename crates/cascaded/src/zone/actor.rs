//! The task that owns a zone: one event at a time, one commit per step, then the actions.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cascade_archive::{Change, Segment, Table};
use cascade_loader::SourceIdentity;
use cascade_pipeline::state::JobId;
use cascade_pipeline::{
    Action, Event, Fault, Request, RequestId, Zone, next_deadline, restore, step,
};
use cascade_signer::SerialNote;
use cascade_time::Timestamp;
use cascade_verifier::{Outcome, Refused, Verified};
use cascade_zone::{Name, VersionId, ZoneVersion};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::defer::Kind;
use super::keys::{Desk, KeyDone};
use super::line::{Ears, Line};
use super::rest::{self, Counted, Kept};
use super::{Mark, Message, NotDone, Reply, View, ZoneHandle, ZoneRow};
use crate::daemon::{ActivePolicy, Daemon};
use crate::keys::Loaded;
use crate::sync::Lost;

/// Between attempts to make a step durable that nobody asked for.
const COMMIT_RETRY: Duration = Duration::from_secs(5);

/// What is durable of the zone, shared with those who look at it: copied only when it changes.
pub(super) struct Row {
    row: Arc<ZoneRow>,
    /// It may have changed since it was made durable: some of it waits for the next write.
    touched: bool,
}

impl Row {
    fn shared(&self) -> Arc<ZoneRow> {
        self.row.clone()
    }

    pub(super) fn is_touched(&self) -> bool {
        self.touched
    }
}

impl std::ops::Deref for Row {
    type Target = ZoneRow;

    fn deref(&self) -> &ZoneRow {
        &self.row
    }
}

impl std::ops::DerefMut for Row {
    fn deref_mut(&mut self) -> &mut ZoneRow {
        self.touched = true;
        Arc::make_mut(&mut self.row)
    }
}

/// The versions in memory, by id: a handful, so a list that is no larger than it must be.
#[derive(Default)]
pub(super) struct Versions(Vec<(VersionId, Held)>);

impl Versions {
    fn place(&self, v: VersionId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&v, |(id, _)| *id)
    }

    pub fn get(&self, v: &VersionId) -> Option<&Held> {
        self.0.get(self.place(*v).ok()?).map(|(_, held)| held)
    }

    pub fn insert(&mut self, v: VersionId, held: Held) {
        match self.place(v) {
            Ok(i) => self.0[i].1 = held,
            Err(i) => {
                self.0.reserve_exact(1);
                self.0.insert(i, (v, held));
            }
        }
    }

    pub fn remove(&mut self, v: &VersionId) -> Option<Held> {
        let i = self.place(*v).ok()?;
        let (_, held) = self.0.remove(i);
        self.0.shrink_to_fit();
        Some(held)
    }

    pub fn iter(&self) -> impl Iterator<Item = (VersionId, &Held)> {
        self.0.iter().map(|(v, held)| (*v, held))
    }
}

/// A version in memory, with what is known of it.
pub(super) enum Held {
    Unsigned(Arc<ZoneVersion>),
    Signed(Arc<ZoneVersion>),
    Verified(Box<Verified<Arc<ZoneVersion>>>),
    Refused(Box<Refused<Arc<ZoneVersion>>>),
}

impl Held {
    pub(super) fn version(&self) -> &Arc<ZoneVersion> {
        match self {
            Held::Unsigned(v) | Held::Signed(v) => v,
            Held::Verified(v) => v.version(),
            Held::Refused(r) => r.version(),
        }
    }
}

impl Held {
    /// What the gate said of it, to be kept beside it. A candidate that was refused is judged again
    /// after a restart.
    pub(super) fn gate(&self) -> Option<super::files::Gate> {
        match self {
            Held::Verified(v) => Some((v.ledger().cloned(), v.report().clone())),
            Held::Refused(r) => Some((None, r.report().clone())),
            _ => None,
        }
    }
}

/// Work under way for a zone.
pub(super) enum Running {
    Load(Arc<cascade_loader::Progress>, Timestamp),
    Fetch(
        Arc<cascade_loader::Progress>,
        Timestamp,
        tokio::task::AbortHandle,
    ),
    Sign(Arc<cascade_signer::Progress>),
    Verify(Timestamp),
    Hook(Option<oneshot::Sender<()>>),
    Other,
}

/// What a job hands back; the owner task turns it into an event.
pub(super) enum Done {
    Loaded(JobId, VersionId, Box<cascade_loader::Outcome>),
    /// What the source of this version has of DNSSEC; comes before [`Done::Loaded`].
    SourceSigned(VersionId, Vec<cascade_loader::ParsedRecord>),
    Fetched(JobId, VersionId, Box<crate::transfer::Fetched>),
    Guard(JobId, cascade_pipeline::guard::GuardReport),
    Signed(
        JobId,
        VersionId,
        Box<Result<super::jobs::SignEnd, (Fault, String)>>,
        /// What it was signed with.
        Arc<Loaded>,
    ),
    Verified(JobId, VersionId, Box<Outcome<Arc<ZoneVersion>>>),
    Persisted(
        JobId,
        VersionId,
        Result<Box<super::store::Persisted>, String>,
    ),
    /// It is not for the short way to the disk.
    PersistWhole(JobId, VersionId),
    /// Journals were synced up to these places.
    Synced(Result<Vec<(u64, u64)>, String>),
    Snapshotted(Result<Segment, String>),
    /// Content that is to be signed again, its id, and what was read back.
    /// Requests judged, for a version that the pipeline asked for.
    Content(JobId, VersionId, Box<super::update::Content>),
    /// For the source of this number.
    UpdatesBeside(u64, super::update::Beside),
    Recalled(
        Box<cascade_pipeline::action::StartSign>,
        VersionId,
        Result<Arc<ZoneVersion>, String>,
    ),
    Exported(VersionId, Result<(), String>),
    Saved(Result<(), String>),
    Hook(JobId, crate::hooks::End),
    Key(Box<KeyDone>),
    /// Secondaries have waited for the first look at the parent for long enough.
    ReferralLate,
    /// Report, and whether it passed.
    Swept(
        VersionId,
        Box<Result<(cascade_verifier::VerifyReport, bool), String>>,
    ),
    /// Whether what a start read back has its fingerprints.
    Recounted(VersionId, Result<(), String>),
    Restored(Box<super::store::Restored>),
    /// After so many rounds.
    ServersAsked(u32, cascade_pipeline::Asked),
    Removed(JobId, Result<(), String>),
    Panicked(JobId, String),
}

/// Work that the zone's own task does, with the pool of its thread.
type AtOnce = Box<dyn FnOnce(&rayon::ThreadPool) -> Done + Send>;

/// What the zone's task does before it listens to anybody, in this order.
enum Next {
    Work(JobId, AtOnce),
    /// It follows from an action of a step that is over.
    Event(Box<Event>),
}

/// Where the ends of a zone's jobs go; boxed for the same reason as what others send it.
#[derive(Clone)]
pub(super) struct Ends(mpsc::UnboundedSender<Box<Done>>);

impl Ends {
    pub(super) fn new(tx: mpsc::UnboundedSender<Box<Done>>) -> Ends {
        Ends(tx)
    }

    /// False: the zone is gone.
    pub fn send(&self, done: Done) -> bool {
        self.0.send(Box::new(done)).is_ok()
    }
}

pub(super) struct Actor {
    pub d: Arc<Daemon>,
    pub me: Arc<ZoneHandle>,
    pub row: Row,
    pub versions: Versions,
    pub running: HashMap<JobId, Running>,
    /// Keys to sign with.
    pub keys: Option<Arc<Loaded>>,
    pub desk: Desk,
    /// A signing that begins as soon as the keys are there.
    pub waits_for_keys: Option<cascade_pipeline::action::StartSign>,
    /// A denial of existence that is not in service yet.
    pub beside: super::beside::Shelf,
    /// The signing before the one that runs: what is shown if that comes to no version.
    pub sign_before: Option<super::SignRow>,
    pub identity: Option<(VersionId, SourceIdentity)>,
    pub source_signed: super::passed::SourceSigned,
    pub primaries: super::fetch::Primaries,
    /// What is made durable, and in what it is kept.
    pub store: super::store::Store,
    pub export: super::export::Export,
    pub updates: super::update::Updates,
    /// History that becomes durable with the step that ends the work at hand.
    pub unwritten: super::defer::Unwritten,
    /// The canary of the version that is served.
    pub canary: super::announce::Canary,
    pub done: Ends,
    /// Events and short work (a handful of leaves each) that come next, before anything else.
    /// (Never locked; it makes the zone's value fit to be looked at from several threads.)
    next: parking_lot::Mutex<VecDeque<Next>>,
    replies: HashMap<RequestId, (Reply, Mark)>,
    next_request: u64,
    deadline: Option<Timestamp>,
    /// When this process last verified as a whole what is published.
    pub full_at: Option<Timestamp>,
    /// A background check is queued or under way.
    pub sweeping: bool,
    pub referral: super::held::FirstReferral,
    /// No background check before this.
    pub sweep_after: Option<Timestamp>,
    /// What was last said of the zone's serials, and on which day.
    pub serial_told: Option<(std::mem::Discriminant<SerialNote>, i64)>,
    /// A zone restored from a backup is asking its servers.
    pub asking_servers: bool,
    pub gone: bool,
    _counted: Counted,
}

/// How a task begins.
pub(super) enum Begin {
    /// The zone was just added; its row is durable already.
    Added,
    /// An earlier process left it. True: it was served at rest since the start, and its turn has come.
    Restored(bool),
    /// It was at rest, with this kept.
    Woken(Box<Kept>, Box<Verified<Arc<ZoneVersion>>>),
}

/// Starts the task of a zone that was just added, at once or when it is its turn; its row is durable
/// already.
pub fn start(d: &Arc<Daemon>, row: ZoneRow, apex: Name) -> Arc<ZoneHandle> {
    match rest::wait_for_turn(d, row.zone.id, &apex) {
        Some(handle) => handle,
        None => open(d, row, apex, Begin::Added),
    }
}

/// Starts the task of a zone that an earlier process left.
pub fn start_restored(d: &Arc<Daemon>, row: ZoneRow, apex: Name) -> Arc<ZoneHandle> {
    open(d, row, apex, Begin::Restored(false))
}

fn open(d: &Arc<Daemon>, row: ZoneRow, apex: Name, begin: Begin) -> Arc<ZoneHandle> {
    let mut ears = None;
    let me = Arc::new_cyclic(|me| {
        let (line, own, ends) = Line::open(d, me);
        ears = Some((own, ends));
        ZoneHandle {
            id: row.zone.id,
            name: apex.to_lowercase().without_dot(),
            apex,
            line,
            view: Default::default(),
        }
    });
    if let Some((ears, ends)) = ears {
        launch(d, me.clone(), row, ears, ends, Counted::new(d), begin);
    }
    me
}

/// Starts the task of a zone.
pub(super) fn launch(
    d: &Arc<Daemon>,
    me: Arc<ZoneHandle>,
    mut row: ZoneRow,
    ears: Ears,
    ends: Ends,
    counted: Counted,
    begin: Begin,
) {
    // Before anybody looks: a zone that is yet to be read back must not seem to be served.
    let first = matches!(begin, Begin::Restored(_)).then(|| {
        let now = d.now();
        let (zone, actions) = restore(row.zone.clone(), now);
        row.zone = zone;
        (actions, now)
    });
    let store = super::store::Store::new(row.zone.next_version);
    let row = Arc::new(row);
    if !matches!(begin, Begin::Woken(..)) {
        *me.view.write() = Some(Arc::new(View::still(row.clone())));
    }
    let actor = Actor {
        d: d.clone(),
        me: me.clone(),
        row: Row { row, touched: true },
        versions: Versions::default(),
        running: HashMap::new(),
        keys: None,
        desk: Desk::default(),
        waits_for_keys: None,
        beside: Default::default(),
        sign_before: None,
        identity: None,
        source_signed: None,
        primaries: super::fetch::Primaries::default(),
        store,
        canary: Default::default(),
        export: super::export::Export::default(),
        updates: super::update::Updates::default(),
        unwritten: super::defer::Unwritten::default(),
        done: ends,
        next: Default::default(),
        replies: HashMap::new(),
        next_request: 1,
        deadline: None,
        full_at: None,
        sweeping: false,
        referral: Default::default(),
        sweep_after: None,
        serial_told: None,
        asking_servers: false,
        gone: false,
        _counted: counted,
    };
    let task = d.zone_tasks.spawn(Box::new(actor).run(ears, begin, first));
    let d = d.clone();
    tokio::spawn(async move {
        if let Err(e) = task.await
            && e.is_panic()
        {
            // The zone halts alone; what it serves goes on being served.
            d.counters.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(zone = %me.name, "the zone's task has panicked; the zone is halted, what is published stays served. Restart the daemon to go on, and report this bug");
            let old = me.view();
            *me.view.write() = Some(Arc::new(View {
                versions: old.versions.clone(),
                bug: Some("internal fault; see the log".into()),
                ..View::still(old.row.clone())
            }));
        }
    });
}

impl Actor {
    /// In a box: the future would hold what it is given by value twice.
    async fn run(
        mut self: Box<Self>,
        mut ears: Ears,
        begin: Begin,
        first: Option<(Vec<Action>, Timestamp)>,
    ) {
        Box::pin(self.begin(begin, first)).await;
        let mut still_since = Instant::now();
        // Boxed: a zone that waits holds no room for what it does when something happens.
        while !self.gone {
            if !self.next.get_mut().is_empty() {
                Box::pin(self.do_next()).await;
            }
            // Whoever waits for a version that is live now does not wait for the key manager.
            self.settle_updates();
            Box::pin(self.keys_turn()).await;
            Box::pin(self.updates_turn()).await;
            if !self.next.get_mut().is_empty() {
                continue;
            }
            self.show();
            self.free_dropped();
            let mut pause = self.pause();
            if let Some(rest_after) = self.rest_after() {
                if still_since.elapsed() >= rest_after {
                    if !self.all_is_stored().await {
                        // What could not be written keeps the zone awake.
                        still_since = Instant::now();
                    } else if self.rest(&ears) {
                        return;
                    }
                }
                pause = pause.min(rest_after);
            }
            tokio::select! {
                biased;
                Some(d) = ears.done.recv() => {
                    still_since = Instant::now();
                    Box::pin(self.finished(*d)).await;
                }
                m = ears.rx.recv() => match m {
                    Some(m) => {
                        still_since = Instant::now();
                        if !Box::pin(self.message(*m)).await { break }
                    }
                    None => break,
                },
                Some(u) = ears.updates.recv(), if self.wants_updates() => {
                    self.queue_updates(*u, &mut ears.updates);
                }
                () = tokio::time::sleep(pause) => Box::pin(self.tick()).await,
            }
        }
        if !self.gone && self.unwritten_deadline().is_some() && self.save_row().await {
            self.written();
        }
        self.show();
    }

    async fn begin(&mut self, begin: Begin, first: Option<(Vec<Action>, Timestamp)>) {
        if let Some((actions, now)) = first {
            let expires_at = self.row.zone.source.expires_at;
            self.primaries = super::fetch::Primaries::restored(expires_at, now);
            Box::pin(self.perform(actions, now)).await;
            // What came from the disk is checked, but serving comes first.
            self.sweep_after = Some(now + self.sweep_turn());
        }
        let added = match begin {
            Begin::Added => true,
            Begin::Restored(in_turn) => {
                if in_turn {
                    // As all zones after a start, it compares its source with what was loaded from it.
                    let trigger = cascade_pipeline::state::Trigger::Restart;
                    Box::pin(self.apply(Event::SourceSignal(trigger))).await;
                }
                false
            }
            Begin::Woken(kept, live) => {
                self.take_up(*kept, live);
                if self.d.state.is_full() {
                    Box::pin(self.apply(Event::StorageFull)).await;
                }
                return;
            }
        };
        // For keys that an earlier zone of this name left, and after a start if there is a trash:
        // keys are usable wherever their files are, so what a crash left behind can wait.
        let trashed = |k: &cascade_keys::Key| k.times.trashed_at.is_some();
        let keys = &self.row.keys.zone.keys;
        if !keys.is_empty() && (added || keys.iter().any(trashed)) {
            self.tidy_key_files();
        }
        Box::pin(self.keys_turn()).await;
        if added {
            let trigger = cascade_pipeline::state::Trigger::Added;
            Box::pin(self.apply(Event::SourceSignal(trigger))).await;
        }
    }

    /// When the zone wants something although nothing happens.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let next = [
            self.deadline,
            self.desk.next(),
            self.sweep_due(),
            self.source_deadline(),
            self.update_deadline(),
            self.unwritten_deadline(),
            self.sync_deadline(),
        ];
        next.into_iter().flatten().min()
    }

    fn pause(&self) -> Duration {
        let now = self.d.now();
        let longest = cascade_program::clock::longest_sleep();
        let until = self.next_due().map_or(longest, |t| t.since(now));
        // A deadline in whole seconds may lie a fraction ahead; never spin on it.
        until.clamp(Duration::from_millis(20), longest)
    }

    pub(super) fn has_nothing_next(&self) -> bool {
        self.next.lock().is_empty() && self.replies.is_empty()
    }

    async fn tick(&mut self) {
        let now = self.d.now();
        self.write_unwritten().await;
        self.sync_journals();
        self.export_again(now);
        if self.deadline.is_some_and(|t| t <= now) {
            self.apply(Event::Timer).await;
        }
        if self.sweep_due().is_some_and(|t| t <= now) {
            self.queue_sweep();
        }
        self.source_due(now).await;
    }

    /// Has short work done by this task: handing it to another thread would take longer. It must not
    /// wait for anybody.
    pub(super) fn at_once(
        &mut self,
        job: JobId,
        work: impl FnOnce(&rayon::ThreadPool) -> Done + Send + 'static,
    ) {
        let work = Next::Work(job, Box::new(work));
        self.next.get_mut().push_back(work);
    }

    /// An event that follows from an action; it is applied after all actions of this step, and before
    /// anything that begins later.
    pub(super) fn later(&mut self, event: Event) {
        self.next.get_mut().push_back(Next::Event(Box::new(event)));
    }

    async fn do_next(&mut self) {
        while let Some(next) = self.next.get_mut().pop_front() {
            // A rollback may begin and be live before this ends: it is seen while it is on its way.
            self.settle_updates();
            match next {
                Next::Event(event) => self.apply(*event).await,
                Next::Work(job, work) => self.work_here(job, work).await,
            }
        }
    }

    async fn work_here(&mut self, job: JobId, work: AtOnce) {
        let mut work = Some(work);
        let done = crate::quick::here(|own| work.take().map(|w| w(own)));
        match (done, work) {
            (Some(Ok(Some(done))), _) => self.finished(done).await,
            (Some(Err(text)), _) => self.finished(Done::Panicked(job, text)).await,
            (_, Some(work)) => spawn_quick(&self.d, &self.done, job, work),
            (_, None) => {}
        }
    }

    /// False: the daemon stops.
    async fn message(&mut self, m: Message) -> bool {
        match m {
            Message::Request {
                command,
                by,
                source,
                reply,
            } => {
                let id = RequestId(self.next_request);
                self.next_request += 1;
                let mark = Mark {
                    entry: self.row.zone.next_entry,
                };
                self.replies.insert(id, (reply, mark));
                let old = source.map(|new| {
                    // A log of the old source's is as good as undone.
                    let rollbacks = self.row.content.rollbacks.saturating_add(1);
                    let fresh = super::update::OwnContent {
                        rollbacks,
                        ..Default::default()
                    };
                    let content = std::mem::replace(&mut self.row.content, fresh);
                    (std::mem::replace(&mut self.row.source, new), content)
                });
                let request = Request { id, by, command };
                let durable = self.try_apply(Event::Request(request)).await;
                match old {
                    Some((source, content)) if !durable => {
                        self.row.source = source;
                        self.row.content = content;
                    }
                    Some(_) => self.source_changed(),
                    _ => {}
                }
            }
            Message::Keys { order, by, reply } => self.key_order(order, &by, reply).await,
            Message::Policy => self.policy_changed().await,
            Message::KeyStoreBack => self.store_back().await,
            Message::Source(trigger) => self.apply(Event::SourceSignal(trigger)).await,
            Message::Storage { full: true } => self.apply(Event::StorageFull).await,
            Message::Storage { full: false } => self.apply(Event::StorageOk).await,
            Message::ClockConfirmed { longer } => self.clock_confirmed(longer).await,
            Message::LookTurn(what, scope, turn) => self.take_turn(what, scope, turn),
            Message::SweepTurn(turn) => self.start_sweep(turn),
            Message::Behind => self.remind(),
            Message::Told(event) => self.apply(*event).await,
            Message::Stop => return false,
        }
        true
    }

    async fn policy_changed(&mut self) {
        let Some(policy) = self.policy() else { return };
        let settings =
            crate::settings::pipeline(&policy.file, policy.revision, &self.d.conf().config);
        if settings != self.row.zone.settings {
            let command = cascade_pipeline::Command::ChangePolicy {
                settings: Box::new(settings),
            };
            let by = cascade_pipeline::Actor::new("cascade", true);
            let id = RequestId(self.next_request);
            self.next_request += 1;
            self.apply(Event::Request(Request { id, by, command }))
                .await;
        }
        // Other secondaries may be watched now.
        self.watch_live();
    }

    pub(super) fn policy(&self) -> Option<ActivePolicy> {
        self.d.policy(&self.row.zone.settings.policy)
    }

    pub(super) async fn apply(&mut self, event: Event) {
        self.try_apply(event).await;
    }

    /// [`Self::take`], by a clock that can be trusted: a step of it is known before anything is
    /// begun, whoever is told first.
    async fn try_apply(&mut self, event: Event) -> bool {
        let told = match (&self.row.zone.clock_unsafe, self.d.clock_doubt()) {
            (None, Some(doubt)) => Some(Event::ClockUnsafe { why: doubt.why() }),
            // Told by an earlier process, and somebody steers it now, or nobody asks for that any more.
            (Some((_, why)), None) if Lost::is_told_by(why) => Some(Event::ClockSafe),
            _ => None,
        };
        if let Some(told) = told {
            Box::pin(self.take(told)).await;
        }
        self.take(event).await
    }

    /// One step: the next value, made durable, then the actions. False: see [`Self::commit`].
    async fn take(&mut self, event: Event) -> bool {
        let now = self.d.now();
        let request = match &event {
            Event::Request(r) => Some(r.id),
            _ => None,
        };
        let before = self.row.zone.clone();
        let kind = Kind::of(&event);
        let (zone, actions) = step(before.clone(), event, now);
        let changed = zone != before || actions.iter().any(|a| matches!(a, Action::Record(_)));
        self.row.zone = zone;
        self.note_own_content();
        self.note_rollback(&before);
        for a in &actions {
            if let Action::SaveCandidate { unsigned, signed } = a {
                self.save_candidate(*unsigned, *signed, now).await;
            }
        }
        if changed && self.may_wait(kind, &actions) {
            let rest = self.keep_unwritten(kind, actions);
            self.perform(rest, now).await;
            return true;
        }
        if changed {
            if !self.commit(&actions, request, before).await {
                return false;
            }
            let shows = self.written();
            self.perform(shows, now).await;
        }
        self.perform(actions, now).await;
        true
    }

    /// Makes the row and the history of this step durable. False: a request could not be made
    /// durable; it was refused and nothing has changed.
    async fn commit(
        &mut self,
        actions: &[Action],
        request: Option<RequestId>,
        before: Zone,
    ) -> bool {
        loop {
            let Err(e) = self.write(actions).await else {
                return true;
            };
            self.d.counters.store_errors.fetch_add(1, Ordering::Relaxed);
            tracing::error!(zone = %self.me.name, "state could not be written: {e}");
            if let Some(id) = request {
                self.row.zone = before;
                if let Some((reply, _)) = self.replies.remove(&id) {
                    let _ = reply.send(Err(NotDone::Storage(e)));
                }
                return false;
            }
            // A result of our own work: nothing goes on before it is durable; serving does.
            tokio::time::sleep(COMMIT_RETRY).await;
        }
    }

    async fn write(&mut self, actions: &[Action]) -> Result<(), String> {
        let id = self.row.zone.id;
        let keep = self.d.conf().config.history.max_entries;
        let mut changes = Vec::with_capacity(2);
        let gone = actions.iter().any(|a| matches!(a, Action::Forget));
        let key = id.to_string();
        if gone {
            changes.push(Change::Delete {
                table: Table::Zones,
                key: key.clone(),
            });
            changes.push(Change::Delete {
                table: Table::Names,
                key: self.me.name.clone(),
            });
            changes.push(Change::DropHistory { zone: id });
        } else {
            let row: &ZoneRow = &self.row;
            changes.push(Change::put(Table::Zones, &key, row).map_err(|e| e.to_string())?);
            for a in self.unwritten.records.iter().chain(actions) {
                if let Action::Record(entry) = a {
                    changes.push(
                        Change::history(id, entry.seq, entry, keep).map_err(|e| e.to_string())?,
                    );
                }
            }
        }
        if let Some(serial) = self.row.zone.used_serial.filter(|_| gone) {
            // Outlives the zone: a zone added again never goes back.
            changes.push(
                Change::put(Table::Serials, &self.me.name, &serial.0).map_err(|e| e.to_string())?,
            );
        }
        let given_up = self.store.tails.unwritten(gone, &mut changes);
        let written = self.d.commit(changes).await;
        written.map_err(|e| e.to_string())?;
        self.row.touched = false;
        let now = self.d.now();
        self.store.tails.written(given_up, now);
        Ok(())
    }

    /// Makes the row durable outside of a step (reports).
    pub(super) async fn save_row(&mut self) -> bool {
        self.write_or_log(&[]).await
    }

    /// Makes the row and these entries of the history durable.
    pub(super) async fn write_or_log(&mut self, actions: &[Action]) -> bool {
        match self.write(actions).await {
            Ok(()) => true,
            Err(e) => {
                tracing::error!(zone = %self.me.name, "state could not be written: {e}");
                false
            }
        }
    }

    pub(super) fn answer(
        &mut self,
        id: RequestId,
        result: Result<cascade_pipeline::Accepted, cascade_pipeline::Refusal>,
    ) {
        if let Some((reply, mark)) = self.replies.remove(&id) {
            // Whoever has the answer sees its effect.
            self.show();
            let _ = reply.send(result.map(|a| (a, mark)).map_err(NotDone::Refused));
        }
    }

    pub(super) fn set_deadline(&mut self, at: Option<Timestamp>) {
        self.deadline = at;
    }

    /// Lets others see the present state.
    pub(super) fn show(&self) {
        let mut view = View {
            versions: self
                .versions
                .iter()
                .map(|(id, h)| (id, h.version().clone()))
                .collect(),
            next_attempt: self.next_attempt(),
            keys_wait: self.desk.wait.clone(),
            content: self.update_head(),
            key_facts: self.key_facts(),
            ..View::still(self.row.shared())
        };
        for r in self.running.values() {
            match r {
                Running::Load(p, at) | Running::Fetch(p, at, _) => {
                    view.loading = Some((*at, p.clone()))
                }
                Running::Sign(p) => view.signing = Some(p.clone()),
                Running::Verify(at) => view.verifying = Some(*at),
                Running::Hook(_) | Running::Other => {}
            }
        }
        *self.me.view.write() = Some(Arc::new(view));
    }

    /// Settles the deadline after actions that did not name one.
    pub(super) fn refresh_deadline(&mut self) {
        self.deadline = next_deadline(&self.row.zone);
    }
}

/// Runs blocking work of a zone; a panic in it becomes a message, not the end of the task.
pub(super) fn spawn_job(done: &Ends, job: JobId, work: impl FnOnce() -> Done + Send + 'static) {
    let done = done.clone();
    let task = tokio::task::spawn_blocking(work);
    tokio::spawn(async move {
        let result = match task.await {
            Ok(d) => d,
            Err(e) => {
                let text = match e.try_into_panic() {
                    Ok(p) => crate::quick::panic_text(p.as_ref()),
                    Err(e) => e.to_string(),
                };
                Done::Panicked(job, text)
            }
        };
        let _ = done.send(result);
    });
}

/// The same for what one thread does in a moment.
pub(super) fn spawn_quick(
    d: &Daemon,
    done: &Ends,
    job: JobId,
    work: impl FnOnce(&rayon::ThreadPool) -> Done + Send + 'static,
) {
    let done = done.clone();
    let task = d.quick.run(work);
    tokio::spawn(async move {
        let result = task.result().await;
        let _ = done.send(result.unwrap_or_else(|e| Done::Panicked(job, e.to_string())));
    });
}

/// The store's fingerprint in the pipeline's form.
pub(super) fn fp(f: cascade_zone::Fingerprint) -> cascade_pipeline::state::Fp {
    cascade_pipeline::state::Fp((f.0 >> 64) as u64, f.0 as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the future that such a function gives.
    fn future<A, B, C, D, F>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// Very many zones wait for something to happen, and each of them has these: what is put into
    /// them costs as much in every zone. Octets.
    #[test]
    fn a_zone_that_waits_is_small() {
        assert!(future(Actor::run) <= 512, "{}", future(Actor::run));
        assert!(size_of::<Actor>() <= 2304, "{}", size_of::<Actor>());
        assert!(size_of::<ZoneRow>() <= 3840, "{}", size_of::<ZoneRow>());
        assert!(size_of::<View>() <= 256, "{}", size_of::<View>());
        assert!(size_of::<Held>() <= 16, "{}", size_of::<Held>());
    }
}
