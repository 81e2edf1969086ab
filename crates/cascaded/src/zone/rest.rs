//! Zones at rest.
//!
//! With very many zones nearly all of them wait, for days. A zone that waits has no task here and
//! nothing in memory but what is published, what the gate said of that, and when it wants something
//! next: all else is in the state. It gets a task again when that time comes, or as soon as anybody
//! sends it something. A daemon with few zones lets none rest: what they would give back is nothing,
//! and what is at hand answers sooner.
//!
//! A start of very many zones is the same thing: what was published is read back and served, and each
//! zone is at rest until it is its turn to be restored, to compare its source and to look around. And so
//! are very many zones that are added faster than they can be signed: each waits for its turn.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cascade_archive::segment::{Fresh, Want};
use cascade_archive::{Check, Table};
use cascade_pipeline::state::{Candidate, Modes, Serving, Upkeep};
use cascade_pipeline::{Settings, Zone};
use cascade_publisher::{StepLimits, Steps, ZoneSettings};
use cascade_time::Timestamp;
use cascade_verifier::{Approval, Approved, Verified};
use cascade_zone::{Name, VersionId, ZoneId, ZoneVersion};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::actor::{Actor, Begin, Ends, Held, launch};
use super::fetch::Primaries;
use super::files::{Read, judged};
use super::keys::{Desk, Notes};
use super::line::{Ears, Line};
use super::passed::serves_passed;
use super::{MAILBOX, Message, View, ZoneHandle, ZoneRow};
use crate::daemon::Daemon;
use crate::keys::KeysRow;

/// From so many zones on they rest.
const FROM: usize = 1000;
/// A zone goes to rest when for so long nothing has happened to it.
const REST_AFTER: Duration = Duration::from_secs(2);
/// And nothing is due for so long.
const NOT_BEFORE: Duration = Duration::from_secs(10);
/// The same while others wait for their turn to have a task: a first look that comes in some seconds
/// does not keep it.
const REST_SOON: Duration = Duration::from_millis(50);
const NOT_BEFORE_SOON: Duration = Duration::from_secs(1);
/// No more zones are woken by their time while so many have a task.
const AWAKE: usize = 512;
/// Between looks for room among those.
const LOOK: Duration = Duration::from_millis(20);
/// Messages that wait for a zone's turn; with one more it is its turn.
const SAID: usize = MAILBOX / 2;
/// A version of so many leaves, and the apex, is small: what is read back or made of it again takes
/// less than a millisecond.
const SMALL: usize = 4;
/// After the row of a zone could not be read.
const RETRY: Duration = Duration::from_secs(60);

/// What stays of a zone that has no task.
pub(super) struct Rest {
    /// When it wants to do something; its place among the alarms.
    at: Option<Timestamp>,
    /// What it hears first when it is its turn.
    pub said: Box<[Message]>,
    origin: Origin,
}

/// What the zone comes from.
enum Origin {
    /// It was just added and waits for its turn to be loaded.
    Added,
    /// An earlier process left it; what was published is served.
    Served,
    /// Its task.
    Task(Box<Kept>),
}

/// What the state does not have.
pub(super) struct Kept {
    /// What the gate said of the published version; of a small one it is read back from its file.
    live: Option<Box<Verified<Arc<ZoneVersion>>>>,
    full_at: Option<Timestamp>,
    sweep_after: Option<Timestamp>,
    /// A background check is queued.
    sweeping: bool,
    primaries: Option<Box<Primaries>>,
    notes: Option<Box<Notes>>,
    fresh: Option<Box<Fresh>>,
}

/// How many zones have a task.
#[derive(Debug, Default)]
pub struct Awake {
    zones: AtomicUsize,
    /// Others wait because these are too many.
    wanted: AtomicBool,
}

impl Awake {
    fn has_room(&self) -> bool {
        self.zones.load(Ordering::Relaxed) < most_awake()
    }

    /// How long a zone keeps its task when nothing happens to it, and how long nothing must be due.
    fn patience(&self) -> (Duration, Duration) {
        match self.wanted.load(Ordering::Relaxed) {
            true => (REST_SOON, NOT_BEFORE_SOON),
            false => (REST_AFTER, NOT_BEFORE),
        }
    }
}

/// One of them.
pub(super) struct Counted(Arc<Daemon>);

impl Counted {
    pub fn new(d: &Arc<Daemon>) -> Counted {
        d.awake.zones.fetch_add(1, Ordering::Relaxed);
        Counted(d.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.awake.zones.fetch_sub(1, Ordering::Relaxed);
    }
}

/// When zones at rest want something.
#[derive(Default)]
pub struct Alarm {
    set: Mutex<BTreeMap<(Timestamp, ZoneId), Weak<ZoneHandle>>>,
    sooner: Notify,
}

impl Alarm {
    fn set(&self, at: Timestamp, zone: &Arc<ZoneHandle>) {
        self.insert(at, zone.id, Arc::downgrade(zone));
    }

    fn insert(&self, at: Timestamp, id: ZoneId, zone: Weak<ZoneHandle>) {
        let mut set = self.set.lock();
        let first = set.first_key_value().is_none_or(|((t, _), _)| at < *t);
        set.insert((at, id), zone);
        if first {
            self.sooner.notify_one();
        }
    }

    fn forget(&self, at: Option<Timestamp>, zone: ZoneId) {
        if let Some(at) = at {
            self.set.lock().remove(&(at, zone));
        }
    }

    /// How many are woken before.
    fn before(&self, at: Timestamp, zone: ZoneId) -> usize {
        self.set.lock().range(..(at, zone)).count()
    }

    fn is_due(&self, now: Timestamp) -> bool {
        let set = self.set.lock();
        set.first_key_value().is_some_and(|((at, _), _)| *at <= now)
    }

    /// One whose time has come, or how long there is none.
    fn due(&self, now: Timestamp) -> Result<Weak<ZoneHandle>, Duration> {
        let mut set = self.set.lock();
        let longest = cascade_program::clock::longest_sleep();
        match set.first_entry() {
            Some(e) if e.key().0 <= now => Ok(e.remove()),
            Some(e) => Err(e.key().0.since(now).clamp(LOOK, longest)),
            None => Err(longest),
        }
    }
}

/// Wakes zones when it is their time.
pub async fn run_alarm(d: Arc<Daemon>) {
    loop {
        if !d.awake.has_room() {
            d.awake
                .wanted
                .store(d.alarm.is_due(d.now()), Ordering::Relaxed);
            tokio::time::sleep(LOOK).await;
            continue;
        }
        match d.alarm.due(d.now()) {
            Ok(zone) => {
                if let Some(zone) = zone.upgrade() {
                    zone.line.wake();
                }
                tokio::task::yield_now().await;
            }
            Err(pause) => {
                d.awake.wanted.store(false, Ordering::Relaxed);
                tokio::select! {
                    () = d.alarm.sooner.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

/// Whether a daemon with so many zones lets them rest.
pub fn many(zones: usize) -> bool {
    zones >= from()
}

#[cfg(not(feature = "test-clock"))]
fn from() -> usize {
    FROM
}

#[cfg(not(feature = "test-clock"))]
fn most_awake() -> usize {
    AWAKE
}

/// Tests let zones rest that are few.
#[cfg(feature = "test-clock")]
fn from() -> usize {
    static FROM_HERE: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *FROM_HERE.get_or_init(|| given("CASCADE_TEST_REST_FROM").unwrap_or(FROM))
}

#[cfg(feature = "test-clock")]
fn most_awake() -> usize {
    static AWAKE_HERE: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *AWAKE_HERE.get_or_init(|| given("CASCADE_TEST_AWAKE").unwrap_or(AWAKE))
}

#[cfg(feature = "test-clock")]
#[allow(clippy::disallowed_methods, reason = "never in a release: of a test")]
fn given(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Nothing goes on in the zone, nobody has to be told anything, and what is published is good.
fn is_still(z: &Zone) -> bool {
    let live = z.live.as_ref();
    let good = live.is_some_and(|l| l.serving == Serving::Yes && l.despite_verification.is_none());
    let p = &z.pending;
    good && matches!(z.candidate, Candidate::Idle)
        && matches!(z.upkeep, Upkeep::Idle)
        && z.beside.is_none()
        && p.load.is_none()
        && p.upkeep.is_empty()
        && !p.full
        && p.serial.is_none()
        && z.modes == Modes::default()
        && z.storage_full.is_none()
        && z.clock_unsafe.is_none()
        && z.conflict.is_none()
        && z.doubt.is_none()
        && z.ahead.is_none()
        && !z.source.expired
}

impl Actor {
    /// After how long without anything the task may end; nothing if it may not.
    pub(super) fn rest_after(&self) -> Option<Duration> {
        if !self.may_rest() {
            return None;
        }
        let (after, not_before) = self.d.awake.patience();
        let now = self.d.now();
        let soon = self.next_due().is_some_and(|at| at.since(now) < not_before);
        (!soon).then_some(after)
    }

    /// Nothing is under way here that the state does not know of.
    fn may_rest(&self) -> bool {
        let live = self.row.zone.live.as_ref();
        let held = live.and_then(|l| self.versions.get(&l.version));
        let published = self.row.keys.zone.published.as_ref();
        many(self.d.directory.len())
            && is_still(&self.row.zone)
            && matches!(held, Some(Held::Verified(_)))
            && self.running.is_empty()
            && self.waits_for_keys.is_none()
            && self.source_signed.is_none()
            && self.has_nothing_next()
            && self.store.is_still()
            && self.export.is_still()
            && self.unwritten.is_empty()
            && self.canary.is_still()
            && self.desk.is_still(published.map(|p| &p.apex))
            && !self.asking_servers
            && !self.referral.defers()
            && !self.takes_updates()
            && !self.passes()
            && !self.serves_passed()
            && !self.gone
    }

    /// The state has the row as it is here. Some of it waits for the next write otherwise, such as the
    /// times of looks that showed nothing new; without them the zone would look again when it is woken.
    pub(super) async fn all_is_stored(&mut self) -> bool {
        if !self.row.is_touched() {
            return true;
        }
        let stored = self
            .d
            .state
            .get::<serde_json::Value>(Table::Zones, &self.me.id.to_string());
        let row: &ZoneRow = &self.row;
        let same = match (stored, serde_json::to_value(row)) {
            (Ok(stored), Ok(row)) => stored == Some(row),
            _ => false,
        };
        same || self.save_row().await
    }

    /// Lets the zone rest, if nobody has anything for it: its task ends. What was shown of it goes with
    /// it.
    pub(super) fn rest(&mut self, ears: &Ears) -> bool {
        let next = self.next_due();
        let Some(version) = self.row.zone.live.as_ref().map(|l| l.version) else {
            return false;
        };
        let me = self.me.clone();
        me.line.let_rest(ears, || {
            *self.me.view.write() = None;
            if let Some(at) = next {
                self.d.alarm.set(at, &self.me);
            }
            let origin = self.let_go_of(version).map_or(Origin::Served, |live| {
                Origin::Task(Box::new(Kept {
                    live,
                    full_at: self.full_at,
                    sweep_after: self.sweep_after,
                    sweeping: self.sweeping,
                    primaries: self.primaries_to_keep(),
                    notes: std::mem::take(&mut self.desk).into_notes(),
                    fresh: self.store.take_fresh(),
                }))
            });
            Rest {
                at: next,
                said: Box::default(),
                origin,
            }
        })
    }

    /// What of the published version stays in memory beside what is served.
    fn let_go_of(&mut self, version: VersionId) -> Option<Option<Box<Verified<Arc<ZoneVersion>>>>> {
        let Some(Held::Verified(live)) = self.versions.remove(&version) else {
            return None;
        };
        if live.version().unit_count() > SMALL || self.row.segments.is_empty() {
            return Some(Some(live));
        }
        let entry = self.d.directory.by_id(self.me.id);
        if let (Some(entry), Some(soa)) = (entry, self.loaded_soa(version)) {
            entry.unmake_unsigned(live.version(), soa);
        }
        Some(None)
    }
}

/// The verdict on what is served, from its file.
fn read_verdict(d: &Daemon, row: &ZoneRow) -> Option<Box<Verified<Arc<ZoneVersion>>>> {
    let (zone, live) = (&row.zone, row.zone.live.as_ref()?);
    let served = d.directory.by_id(zone.id)?.published()?;
    let want = Want::One(live.version.0);
    let found = d
        .files
        .recover_segment(zone.id, row.segments.last()?, want, None, Check::Now);
    let (newest, beside) = found.ok()?.ok()?.versions.pop()?;
    if newest.id() != served.id() {
        return None;
    }
    match judged(served, &beside) {
        Read::Verified(verified) => Some(verified),
        _ => None,
    }
}

/// Makes the task of a zone that was at rest; what is sent to it meanwhile waits.
pub(super) fn wake(d: Arc<Daemon>, me: Arc<ZoneHandle>, rest: Rest, ears: Ears, ends: Ends) {
    d.alarm.forget(rest.at, me.id);
    let (tasks, counted) = (d.zone_tasks.clone(), Counted::new(&d));
    tasks.spawn(async move {
        let row = loop {
            match read_row(&d, &me) {
                Ok(row) => break row,
                Err(e) => {
                    tracing::error!(zone = %me.name, "the zone's row in the state cannot be read; what is published stays served, and nothing else happens to it; it is tried again in {} s: {e}. If it stays so, stop the daemon and restore a backup: cascade backup restore --help", RETRY.as_secs());
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        let begin = match rest.origin {
            Origin::Added => Begin::Added,
            Origin::Served => Begin::Restored(true),
            Origin::Task(mut kept) => match kept.live.take().or_else(|| read_verdict(&d, &row)) {
                Some(live) => Begin::Woken(kept, live),
                None => {
                    tracing::warn!(zone = %me.name, "what the gate said of the published version could not be read back; the zone is restored as after a start");
                    Begin::Restored(true)
                }
            },
        };
        launch(&d, me, row, ears, ends, counted, begin);
    });
}

fn read_row(d: &Daemon, me: &ZoneHandle) -> Result<ZoneRow, String> {
    let row = d.state.get(Table::Zones, &me.id.to_string());
    let row: Option<ZoneRow> = row.map_err(|e| e.to_string())?;
    let mut row = row.ok_or("it is not there")?;
    row.keys.renew(&me.apex, d.now());
    Ok(row)
}

impl Actor {
    pub(super) fn take_up(&mut self, kept: Kept, live: Box<Verified<Arc<ZoneVersion>>>) {
        let signed = live.version().clone();
        self.versions.insert(signed.id(), Held::Verified(live));
        self.take_unsigned_half(&signed);
        self.full_at = kept.full_at;
        self.sweep_after = kept.sweep_after;
        self.sweeping = kept.sweeping;
        self.primaries = kept.primaries.map(|p| *p).unwrap_or_default();
        self.desk = kept.notes.map(|n| Desk::of_notes(*n)).unwrap_or_default();
        self.store.put_fresh(kept.fresh);
        self.refresh_deadline();
    }
}

impl Rest {
    /// Nothing that keeps a zone awake goes on in one that was published; another has nothing yet.
    pub(super) fn is_published(&self) -> bool {
        !matches!(self.origin, Origin::Added)
    }
}

impl ZoneHandle {
    /// Of a zone that has no task, from what the state has.
    pub(super) fn view_at_rest(&self) -> View {
        let d = self.line.daemon();
        let read = match &d {
            Some(d) => read_row(d, self),
            None => Err("the daemon has ended".into()),
        };
        let (row, bug) = match read {
            Ok(row) => (row, None),
            Err(e) => (
                self.empty_row(),
                Some(format!("its row in the state cannot be read: {e}")),
            ),
        };
        let published = d
            .as_ref()
            .and_then(|d| d.directory.by_id(self.id)?.published());
        let live = row.zone.live.as_ref();
        View {
            versions: published.map(|v| (v.id(), v)).into_iter().collect(),
            next_attempt: row.zone.source.retry_at,
            key_facts: cascade_keys::Facts {
                clock_held: d.as_ref().is_some_and(|d| d.clock_doubt().is_some()),
                signs_next: live.map(|l| l.next_due),
                ..Default::default()
            },
            bug,
            ..View::still(Arc::new(row))
        }
    }

    /// How many zones are taken up before this one, which was added and waits for its turn.
    pub fn turn(&self) -> Option<u64> {
        let mut added = None;
        self.line.change_rest(|rest| match rest.origin {
            Origin::Added => added = rest.at,
            Origin::Served | Origin::Task(_) => {}
        });
        let before = self.line.daemon()?.alarm.before(added?, self.id);
        u64::try_from(before).ok()
    }

    fn empty_row(&self) -> ZoneRow {
        ZoneRow {
            zone: Zone::new(self.id, &self.name, "", Settings::default(), 0),
            apex: self.apex.to_string(),
            source: cascade_api::zones::Source::None {},
            added_at: Timestamp::EPOCH,
            keys: KeysRow::new(&self.apex),
            sources: Default::default(),
            segments: Vec::new(),
            content: Default::default(),
            reports: Default::default(),
        }
    }

    /// Sends what very many zones are told at once: a zone at rest hears it as soon as it is its turn,
    /// so that they are not all woken together.
    pub fn tell_in_turn(self: &Arc<Self>, message: Message) {
        let mut message = Some(message);
        self.line.change_rest(|rest| {
            if rest.said.len() < SAID
                && let Some(d) = self.line.daemon()
            {
                let said = std::mem::take(&mut rest.said);
                rest.said = said.into_iter().chain(message.take()).collect();
                d.alarm.forget(rest.at, self.id);
                let now = d.now();
                let at = rest.at.map_or(now, |at| at.min(now));
                rest.at = Some(at);
                d.alarm.set(at, self);
            }
        });
        if let Some(message) = message {
            self.tell(message);
        }
    }
}

/// What of a start is served at once: the zone rests until it is its turn. Nothing if it cannot be so;
/// then it is restored like any zone, and nothing was done.
pub fn serve_at_rest(
    d: &Arc<Daemon>,
    row: &ZoneRow,
    apex: &Name,
    settings: &ZoneSettings,
) -> Option<Arc<ZoneHandle>> {
    let (now, zone) = (d.now(), &row.zone);
    let live = zone.live.as_ref().filter(|l| l.min_exp > now)?;
    let late = zone.source.expires_at.is_some_and(|at| at <= now);
    if !is_still(zone) || late || settings.updates || serves_passed(row) {
        return None;
    }
    let segment = row.segments.last()?;
    let keep = zone
        .settings
        .retained_versions
        .max(settings.steps.steps + 1);
    let found = d
        .files
        .recover_segment(zone.id, segment, Want::Newest(keep), None, Check::Now);
    let mut found = found.ok()?.ok()?;
    let (newest, beside) = found.versions.pop()?;
    if found.damage.is_some() || newest.id() != live.version {
        return None;
    }
    let Read::Verified(verified) = judged(newest, &beside) else {
        return None;
    };
    let steps = steps(
        found
            .versions
            .iter()
            .map(|(v, _)| v)
            .chain([verified.version()]),
        settings.steps,
    );
    let by = row
        .reports
        .approved_by
        .clone()
        .unwrap_or_else(|| "policy".into());
    let approval = Approval {
        by,
        at: now,
        comment: None,
    };
    let entry = d.directory.add(zone.id, apex, settings.clone()).ok()?;
    entry.set_steps(steps);
    if let Err(e) = d
        .directory
        .publish(zone.id, Approved::new(*verified, approval))
    {
        tracing::error!(zone = %zone.name, "publication server: {e}");
        d.directory.remove(zone.id);
        return None;
    }
    Some(begin_at_rest(d, zone.id, apex.clone(), Origin::Served))
}

/// A zone that was just added, its row durable, when too many zones have a task already: nothing if
/// they are not.
pub(super) fn wait_for_turn(d: &Arc<Daemon>, id: ZoneId, apex: &Name) -> Option<Arc<ZoneHandle>> {
    let waits = many(d.directory.len()) && !d.awake.has_room();
    waits.then(|| begin_at_rest(d, id, apex.clone(), Origin::Added))
}

/// Its turn comes after that of all who wait already.
fn begin_at_rest(d: &Arc<Daemon>, id: ZoneId, apex: Name, origin: Origin) -> Arc<ZoneHandle> {
    let now = d.now();
    let rest = Rest {
        at: Some(now),
        said: Box::default(),
        origin,
    };
    let handle = Arc::new_cyclic(|me| ZoneHandle {
        id,
        name: apex.to_lowercase().without_dot(),
        apex,
        line: Line::at_rest(d, me, rest),
        view: Default::default(),
    });
    d.alarm.set(now, &handle);
    handle
}

/// From each version to the next, oldest first.
pub(super) fn steps<'a>(
    versions: impl Iterator<Item = &'a Arc<cascade_zone::ZoneVersion>>,
    limits: StepLimits,
) -> Steps {
    let mut steps = Steps::default();
    let mut before: Option<&Arc<cascade_zone::ZoneVersion>> = None;
    for v in versions {
        if let Some(old) = before {
            steps = steps.then(old, v, limits);
        }
        before = Some(v);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + secs)
    }

    fn id(n: u8) -> ZoneId {
        ZoneId([n; 16])
    }

    #[test]
    fn zones_are_woken_in_the_order_of_their_times() {
        let alarm = Alarm::default();
        assert!(alarm.due(at(0)).is_err());
        for (secs, n) in [(30, 1), (10, 2), (20, 3), (20, 4)] {
            alarm.insert(at(secs), id(n), Weak::new());
        }
        alarm.forget(Some(at(20)), id(4));
        alarm.forget(None, id(1));
        // Never sooner, and never long after.
        assert_eq!(alarm.due(at(0)).err(), Some(Duration::from_secs(10)));
        assert_eq!(
            alarm.due(at(9) + Duration::from_millis(999)).err(),
            Some(LOOK)
        );
        let mut woken = 0;
        while alarm.due(at(20)).is_ok() {
            woken += 1;
        }
        assert_eq!(woken, 2);
        assert_eq!(alarm.due(at(20)).err(), Some(Duration::from_secs(10)));
        assert!(alarm.due(at(40)).is_ok() && alarm.due(at(40)).is_err());
    }

    /// What is put into a zone at rest costs as much in each of very many zones. Octets.
    #[test]
    fn a_zone_at_rest_is_small() {
        assert!(size_of::<Rest>() <= 48, "{}", size_of::<Rest>());
        assert!(size_of::<Kept>() <= 96, "{}", size_of::<Kept>());
        assert!(
            size_of::<ZoneHandle>() <= 224,
            "{}",
            size_of::<ZoneHandle>()
        );
    }

    #[test]
    fn a_zone_in_which_something_goes_on_does_not_rest() {
        // Nothing is published yet, and the first load waits.
        let new = Zone::new(id(1), "example.net", "", Settings::default(), 1);
        assert!(!is_still(&new));
        assert!(!many(FROM - 1) && many(FROM));
    }
}
