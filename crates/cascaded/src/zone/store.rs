//! The published versions of a zone: made durable, read back, and how many stay in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cascade_archive::segment::{Fresh, Want, Writing};
use cascade_archive::zones::Kind;
use cascade_archive::{ArchiveError, Check, Segment, Tail, ZoneFiles};
use cascade_pipeline::action::StartSign;
use cascade_pipeline::event::{Keepsake, Lost};
use cascade_pipeline::state::{JobId, Live, Serving};
use cascade_pipeline::{Event, Fault};
use cascade_publisher::{StepLimits, Steps};
use cascade_time::Timestamp;
use cascade_zone::{VersionId, ZoneId, ZoneVersion};

use super::actor::{Actor, Done, Held, Running, spawn_job};
use super::files::{self, Read};
use super::tails::Tails;
use crate::daemon::{Daemon, INLINE_UNITS, QUICK_OCTETS};

/// Octets of old versions that a zone may always keep in memory.
const KEPT_MIN: u64 = 1 << 20;
/// Octets a second of snapshots that nobody waits for.
const SNAPSHOT_RATE: f64 = 64e6;

/// What the owner of a zone knows about its files.
#[derive(Default)]
pub(super) struct Store {
    /// Versions that wait to be made durable: one is written at a time.
    queue: VecDeque<(JobId, VersionId)>,
    busy: Option<JobId>,
    /// Version whose snapshot is being written behind the zone's back, and the one that is ready.
    writing: Option<Fresh>,
    fresh: Option<Fresh>,
    /// For incremental transfers, up to the version that is about to be published.
    next_steps: Option<(VersionId, Steps)>,
    pub tails: Tails,
    /// Octets that only this version holds beside the one after it.
    weights: BTreeMap<VersionId, u64>,
    /// Versions that nothing needs any more, until everybody who waits has been answered.
    dropped: Vec<(VersionId, Option<Held>)>,
    candidates: Candidates,
}

/// Versions that may have a candidate file.
#[derive(Default)]
struct Candidates {
    /// All before this one: an earlier task of the zone made them.
    before: u64,
    /// Of this task.
    saved: BTreeSet<VersionId>,
}

impl Candidates {
    /// Whether it may have a file; it is asked once.
    fn take(&mut self, v: VersionId) -> bool {
        self.saved.remove(&v) || v.0 < self.before
    }
}

impl Store {
    /// For a task whose first new version is `next`.
    pub fn new(next: u64) -> Store {
        Store {
            candidates: Candidates {
                before: next,
                ..Default::default()
            },
            ..Default::default()
        }
    }

    /// The version is about to be written as a candidate.
    pub fn note_candidate(&mut self, v: VersionId) {
        self.candidates.saved.insert(v);
    }

    /// Nothing is on its way to the disk.
    pub fn is_still(&self) -> bool {
        self.queue.is_empty()
            && self.busy.is_none()
            && self.writing.is_none()
            && self.next_steps.is_none()
            && self.dropped.is_empty()
            && self.tails.is_still()
    }

    /// The snapshot that the next version goes on from, for a zone that goes to rest before there is one.
    pub fn take_fresh(&mut self) -> Option<Box<Fresh>> {
        self.fresh.take().map(Box::new)
    }

    pub fn put_fresh(&mut self, fresh: Option<Box<Fresh>>) {
        self.fresh = fresh.map(|f| *f);
    }
}

/// A version that is durable, and what follows from it.
pub(super) struct Persisted {
    segments: Vec<Segment>,
    /// The last patch is not synced yet: it becomes durable with the commit.
    tail: Option<Tail>,
    steps: Steps,
    /// The version before it, and what only that one holds.
    weight: Option<(VersionId, u64)>,
}

/// What the files of a zone gave after a start.
#[derive(Default)]
pub(super) struct Restored {
    live: Option<(VersionId, Read)>,
    /// Versions before it, oldest first.
    older: Vec<Arc<ZoneVersion>>,
    /// The files are good only up to this version.
    instead: Option<Arc<ZoneVersion>>,
    /// As the files are now.
    segments: Vec<Segment>,
    steps: Steps,
    unsigned: Option<(VersionId, Read)>,
    signed: Option<(VersionId, Read)>,
    /// The records of the published version have yet to be compared with its fingerprints.
    recount: bool,
}

/// A version on its way to the disk, with what that takes.
struct Way {
    d: Arc<Daemon>,
    v: Arc<ZoneVersion>,
    gate: Option<files::Gate>,
    live: Option<Arc<ZoneVersion>>,
    entry: Option<Arc<cascade_publisher::ZoneEntry>>,
    segments: Vec<Segment>,
    fresh: Option<Fresh>,
    now: Timestamp,
}

impl Way {
    fn writing<'a>(&'a self, beside: &'a [u8]) -> Writing<'a> {
        Writing {
            version: &self.v,
            beside,
            now: self.now,
        }
    }

    fn persisted(&self, segments: Vec<Segment>, tail: Option<Tail>) -> Persisted {
        let steps = match (&self.entry, &self.live) {
            (Some(e), Some(live)) => e.steps().then(live, &self.v, e.settings().steps),
            _ => Steps::default(),
        };
        let beside = |l: &Arc<ZoneVersion>| (l.id(), l.memory_beside(&self.v) as u64);
        Persisted {
            segments,
            tail,
            steps,
            weight: self.live.as_ref().map(beside),
        }
    }
}

impl Actor {
    // ---- out

    pub(super) fn start_persist(&mut self, job: JobId, version: VersionId) {
        self.running.insert(job, Running::Other);
        self.store.queue.push_back((job, version));
        self.next_persist();
    }

    fn next_persist(&mut self) {
        while self.store.busy.is_none() {
            let Some((job, version)) = self.store.queue.pop_front() else {
                return;
            };
            if !self.running.contains_key(&job) {
                continue;
            }
            let Some(way) = self.way(version) else {
                self.persist_lost(job);
                continue;
            };
            if let Some(base) = self.version(way.v.unsigned_id()) {
                let soa = data_encoding::HEXLOWER.encode(base.soa());
                self.row.sources.insert(version.0, (base.soa_ttl(), soa));
            }
            self.store.busy = Some(job);
            let live = way.live.as_ref();
            let small = live.is_some_and(|l| way.v.units_beside(l) <= INLINE_UNITS);
            if small && !self.store.tails.is_full() {
                self.persist_behind(job, version, way);
            } else {
                self.spawn_whole(job, version, way);
            }
        }
    }

    /// The short way to the disk: the commit that publishes the version has its patch.
    fn persist_behind(&mut self, job: JobId, version: VersionId, way: Way) {
        self.at_once(job, move |_| {
            let beside = files::beside(way.gate.clone());
            let written = way.d.files.behind(
                &way.segments,
                way.fresh.as_ref(),
                way.live.as_deref(),
                way.writing(&beside),
            );
            // What the journal does not take is the long way's to find out and to tell.
            match written.filter(|(_, tail)| way.d.files.append_tail(tail).is_ok()) {
                Some((segments, tail)) => {
                    let p = way.persisted(segments, Some(tail));
                    Done::Persisted(job, version, Ok(Box::new(p)))
                }
                None => Done::PersistWhole(job, version),
            }
        });
    }

    /// The short way did not take it.
    pub(super) fn persist_whole(&mut self, job: JobId, version: VersionId) {
        match self.way(version) {
            Some(way) => self.spawn_whole(job, version, way),
            None => self.persist_lost(job),
        }
    }

    /// The long way: whatever it is is synced before the commit.
    fn spawn_whole(&self, job: JobId, version: VersionId, way: Way) {
        spawn_job(&self.done, job, move || {
            let beside = files::beside(way.gate.clone());
            let written = way.d.files.follow(
                &way.segments,
                way.fresh.as_ref(),
                way.live.as_deref(),
                way.writing(&beside),
            );
            if let Err(ArchiveError::StorageFull { .. }) = &written
                && let Err(e) = way.d.state.note_full()
            {
                tracing::error!("the reserve on the full disk: {e}");
            }
            let result = written.map(|segments| Box::new(way.persisted(segments, None)));
            Done::Persisted(job, version, result.map_err(|e| e.to_string()))
        });
    }

    fn persist_lost(&mut self, job: JobId) {
        self.store.busy = None;
        self.running.remove(&job);
        let error = "the version is not at hand".into();
        self.later(Event::PersistFailed { job, error });
    }

    fn way(&self, version: VersionId) -> Option<Way> {
        let held = self.versions.get(&version)?;
        let live = self.row.zone.live.as_ref();
        Some(Way {
            v: held.version().clone(),
            gate: held.gate(),
            live: live.and_then(|l| self.version(l.version)),
            entry: self.d.directory.by_id(self.me.id),
            segments: self.wanted_segments(),
            fresh: self.store.fresh.clone(),
            now: self.d.now(),
            d: self.d.clone(),
        })
    }

    /// The last segment, and older ones that hold what can be rolled back to.
    fn wanted_segments(&self) -> Vec<Segment> {
        let all = &self.row.segments;
        let kept = &self.row.zone.retained;
        let wanted = |s: &Segment| kept.iter().any(|r| s.holds(r.version.0));
        let last = all.len().saturating_sub(1);
        let list = all.iter().enumerate();
        list.filter(|(i, s)| *i == last || wanted(s))
            .map(|(_, s)| s.clone())
            .collect()
    }

    pub(super) async fn persisted(
        &mut self,
        job: JobId,
        version: VersionId,
        result: Result<Box<Persisted>, String>,
    ) {
        self.store.busy = None;
        // What was not waited for any more was written behind the committed end; it does not count.
        let wanted = self.running.remove(&job).is_some();
        match result {
            Ok(p) if wanted => {
                let bases = |list: &[Segment]| list.iter().map(|s| s.base).collect::<Vec<_>>();
                let moved = bases(&self.row.segments) != bases(&p.segments);
                if p.segments.last().is_some_and(|s| s.base == version.0) {
                    tracing::debug!(zone = %self.me.name, version = version.0, "kept whole: it shares too little with the version before it, or there is none");
                }
                if let (None, Some(last)) = (&p.tail, p.segments.last()) {
                    // All of its journal was synced.
                    self.store.tails.synced(last.base, last.end());
                }
                self.row.segments = p.segments;
                self.store.tails.new = p.tail.map(Box::new);
                self.store.next_steps = Some((version, p.steps));
                self.store.weights.extend(p.weight);
                self.apply(Event::PersistDone { job }).await;
                // What comes below is not for those who wait for the version.
                self.settle_updates();
                if self.store.tails.new.is_some() && self.save_row().await {
                    self.written();
                }
                self.sync_journals();
                if moved {
                    self.store.fresh = None;
                    self.tidy();
                }
                self.release();
                self.renew_snapshot();
            }
            Err(error) if wanted => self.apply(Event::PersistFailed { job, error }).await,
            _ => {}
        }
        self.next_persist();
    }

    pub(super) fn persist_panicked(&mut self, job: JobId) {
        if self.store.busy == Some(job) {
            self.store.busy = None;
            self.next_persist();
        }
    }

    /// Clients that are behind find the way to `v` as soon as they find `v`.
    pub(super) fn show_steps(&mut self, v: VersionId) {
        let steps = match self.store.next_steps.take() {
            Some((of, steps)) if of == v => steps,
            // Published again, after an expiry for example: the steps to it are still there.
            _ => return,
        };
        if let Some(entry) = self.d.directory.by_id(self.me.id) {
            entry.set_steps(steps);
        }
    }

    /// A new snapshot when the journal has become long: of the oldest version at hand, so that
    /// the history stays with it.
    fn renew_snapshot(&mut self) {
        let store = &self.store;
        let Some(open) = self.row.segments.last().filter(|s| s.is_long()) else {
            return;
        };
        if store.writing.is_some() || store.fresh.is_some() {
            return;
        }
        let keep = self.row.zone.settings.retained_versions.max(1);
        let newest_first = open.marks.iter().rev().map(|m| m.version);
        let recent = newest_first.chain([open.base]).take(keep);
        let base = recent
            .map_while(|v| self.versions.get(&VersionId(v)))
            .last();
        // Everything in the journal is still wanted: a new snapshot would be the old one.
        let Some(held) = base.filter(|h| h.version().id().0 != open.base) else {
            return;
        };
        let (v, gate) = (held.version().clone(), held.gate());
        let Some(from) = open.behind(v.id().0) else {
            return;
        };
        self.store.writing = Some(Fresh {
            of: open.base,
            from,
            segment: Segment {
                base: v.id().0,
                serial: v.serial().0,
                snapshot: 0,
                marks: Vec::new(),
            },
        });
        let (d, done) = (self.d.clone(), self.done.clone());
        tokio::task::spawn_blocking(move || {
            let beside = files::beside(gate);
            let new = Writing {
                version: &v,
                beside: &beside,
                now: d.now(),
            };
            let written = d.files.snapshot_paced(new, &rest);
            let _ = done.send(Done::Snapshotted(written.map_err(|e| e.to_string())));
        });
    }

    pub(super) fn snapshotted(&mut self, result: Result<Segment, String>) {
        let writing = self.store.writing.take();
        match result {
            Ok(segment) => self.store.fresh = writing.map(|w| Fresh { segment, ..w }),
            Err(e) => {
                tracing::warn!(zone = %self.me.name, "a new snapshot could not be written; the journal goes on: {e}")
            }
        }
    }

    /// Files that nothing refers to any more; to be called when the segments are committed.
    fn tidy(&self) {
        let (d, zone) = (self.d.clone(), self.me.id);
        let segments = self.row.segments.clone();
        let keep = self.store.writing.as_ref().map(|w| w.segment.base);
        tokio::task::spawn_blocking(move || {
            if let Err(e) = d.files.tidy(zone, &segments, keep) {
                tracing::warn!("files of versions that are not kept stay: {e}");
            }
        });
    }

    pub(super) fn drop_version(&mut self, v: VersionId) {
        self.row.sources.remove(&v.0);
        self.row.keys.apexes.remove(&v.0);
        self.store.weights.remove(&v);
        let held = self.versions.remove(&v);
        self.store.dropped.push((v, held));
    }

    /// Frees what was dropped; to be called when nobody is shown it any more. What shares nearly all with
    /// what stays is freed at once; a large tree and files take time that no event waits for.
    pub(super) fn free_dropped(&mut self) {
        let mut later = Vec::new();
        for (v, held) in std::mem::take(&mut self.store.dropped) {
            let file = self.store.candidates.take(v).then_some(v);
            if file.is_some() || held.as_ref().is_some_and(|h| !self.is_nearly_kept(h)) {
                later.push((file, held));
            }
        }
        if later.is_empty() {
            return;
        }
        let (d, zone) = (self.d.clone(), self.me.id);
        tokio::task::spawn_blocking(move || {
            for (file, held) in later {
                drop(held);
                if let Some(v) = file
                    && let Err(e) = d.files.remove_candidate(zone, v)
                {
                    tracing::warn!("file of a dropped version stays: {e}");
                }
            }
        });
    }

    /// All but a handful of its leaves and blocks are those of what is published, or of its content.
    fn is_nearly_kept(&self, held: &Held) -> bool {
        let Some(live) = self.row.zone.live.as_ref() else {
            return false;
        };
        let like = match held {
            Held::Unsigned(_) => live.of,
            _ => live.version,
        };
        self.version(like)
            .is_some_and(|kept| held.version().units_beside(&kept) <= INLINE_UNITS)
    }

    /// Lets go of old versions, oldest first, while together they hold more than a quarter of the
    /// live one. They can be read back from their files.
    fn release(&mut self) {
        let Some(live) = self.row.zone.live.as_ref() else {
            return;
        };
        let Some(v) = self.version(live.version) else {
            return;
        };
        // The store needs about half of the uncompressed octets.
        let allowed = (v.sums().wire / 8).max(KEPT_MIN);
        let candidate = self.row.zone.candidate.cand().map(|c| c.version);
        let mut total = 0;
        let mut needed = vec![live.version, live.of];
        needed.extend(candidate);
        let mut surplus = Vec::new();
        for r in self.row.zone.retained.iter().skip(1) {
            total += self.store.weights.get(&r.version).copied().unwrap_or(0);
            if total > allowed {
                surplus.extend([r.version, r.of]);
            } else {
                needed.extend([r.version, r.of]);
            }
        }
        surplus.retain(|v| !needed.contains(v));
        let freed: Vec<Held> = surplus
            .iter()
            .filter_map(|v| self.versions.remove(v))
            .collect();
        if !freed.is_empty() {
            tokio::task::spawn_blocking(move || drop(freed));
        }
    }

    // ---- and back

    pub(super) fn start_restore(
        &mut self,
        live: Option<VersionId>,
        unsigned: Option<VersionId>,
        signed: Option<VersionId>,
    ) {
        let (d, done, zone) = (self.d.clone(), self.done.clone(), self.me.id);
        let entry = self.d.directory.by_id(zone);
        let limits = entry.map_or(StepLimits::default(), |e| e.settings().steps);
        let keep = self
            .row
            .zone
            .settings
            .retained_versions
            .max(limits.steps + 1);
        let segments = self.row.segments.clone();
        let read = move || {
            // A small one does not wait for a large one.
            let size = segments.last().map_or(0, |s: &Segment| s.snapshot);
            let pool = match size <= QUICK_OCTETS {
                true => &d.quick_pool,
                false => &*d.pool,
            };
            let get = |kind, v: Option<VersionId>| {
                v.map(|v| (v, files::read(&d.files, zone, kind, v, pool)))
            };
            let mut restored = Restored {
                segments,
                ..Restored::default()
            };
            if let Some(live) = live {
                let candidate = signed.map(|v| v.0);
                pool.install(|| restored.versions(&d.files, zone, live, candidate, keep));
                restored.make_steps(limits);
            }
            restored.unsigned = get(Kind::Candidate, unsigned);
            let ahead = restored.signed.take();
            restored.signed = ahead.or_else(|| {
                get(Kind::Candidate, signed).map(|(v, r)| match r {
                    // A crash between the snapshot and the commit that makes it live.
                    Read::Missing => (v, files::read(&d.files, zone, Kind::Snapshot, v, pool)),
                    r => (v, r),
                })
            });
            let kept: Vec<_> = unsigned.into_iter().chain(signed).collect();
            if let Err(e) = d.files.tidy_candidates(zone, &kept) {
                tracing::warn!("files of candidates that are gone stay: {e}");
            }
            let _ = done.send(Done::Restored(Box::new(restored)));
        };
        let turns = self.d.restores.clone();
        tokio::spawn(async move {
            // Closed never: the semaphore lives as long as the daemon.
            let Ok(turn) = turns.acquire_owned().await else {
                return;
            };
            tokio::task::spawn_blocking(move || {
                read();
                drop(turn);
            });
        });
    }

    pub(super) async fn restored(&mut self, r: Restored) {
        let now = self.d.now();
        let mut lost = None;
        self.row.segments = r.segments;
        for v in r.older {
            if self.row.zone.retained.iter().any(|x| x.version == v.id()) {
                self.versions.insert(v.id(), Held::Signed(v));
            }
        }
        if let Some((v, read)) = r.live {
            lost = self.take_live(v, read);
            self.store.next_steps = Some((v, r.steps));
        }
        if let (Some(_), Some(old)) = (&lost, r.instead) {
            lost = self.take_old(old, now).or(lost);
        }
        let wants_candidate = r.unsigned.is_some();
        let mut keepsake = Keepsake::None;
        if let Some((v, read)) = r.unsigned {
            keepsake = match read {
                Read::Plain(u) if !u.is_signed() => {
                    self.versions.insert(v, Held::Unsigned(u));
                    Keepsake::Unsigned
                }
                Read::Content(e) | Read::Signatures(e) => {
                    tracing::warn!(zone = %self.me.name, "candidate could not be read back: {e}");
                    Keepsake::Lost
                }
                _ => Keepsake::Lost,
            };
        }
        if let (Keepsake::Unsigned, Some((v, read))) = (keepsake, r.signed) {
            match read {
                Read::Verified(s) => {
                    self.versions.insert(v, Held::Verified(s));
                    keepsake = Keepsake::Whole;
                }
                Read::Plain(s) if s.is_signed() => {
                    self.versions.insert(v, Held::Signed(s));
                    keepsake = Keepsake::Whole;
                }
                _ => {}
            }
        }
        if matches!(keepsake, Keepsake::Unsigned) && self.passes() {
            // The signatures of its source were in memory only. Loaded again it comes to where it
            // was; a person who has to agree is asked again.
            tracing::info!(zone = %self.me.name, "the candidate is loaded again: its signatures are the source's");
            keepsake = Keepsake::Lost;
        }
        if lost.is_none() {
            self.recover_updates().await;
        }
        match lost {
            Some(lost) => self.apply(Event::RestoreFailed(lost)).await,
            None => {
                let candidate = if wants_candidate {
                    keepsake
                } else {
                    Keepsake::None
                };
                self.apply(Event::Restored { candidate }).await;
            }
        }
        self.tidy();
        if let Some(v) = self.row.zone.live.as_ref().map(|l| l.version) {
            self.watch(v, true);
            self.export_missed();
            if r.recount {
                self.start_recount(v);
            }
        }
    }

    /// Takes the published version back; says what is lost.
    fn take_live(&mut self, v: VersionId, read: Read) -> Option<Lost> {
        let held = match read {
            Read::Verified(s) => Held::Verified(s),
            Read::Plain(s) => Held::Signed(s),
            Read::Signatures(why) => {
                tracing::error!(zone = %self.me.name, "signatures of the published version are damaged: {why}");
                return Some(Lost::Nothing { why });
            }
            Read::Content(why) => return Some(Lost::Nothing { why }),
            Read::Missing => {
                return Some(Lost::Nothing {
                    why: "the file of the published version is missing".into(),
                });
            }
        };
        let signed = held.version().clone();
        self.take_unsigned_half(&signed);
        self.versions.insert(v, held);
        None
    }

    /// The content that a version was made of, made again from it.
    pub(super) fn take_unsigned_half(&mut self, signed: &ZoneVersion) {
        match self.unsigned_half(signed) {
            Some(u) => self.versions.insert(u.id(), Held::Unsigned(u)),
            None => {
                tracing::warn!(zone = %self.me.name, "the unsigned half could not be made again; it comes with the next load")
            }
        }
    }

    fn unsigned_half(&self, signed: &ZoneVersion) -> Option<Arc<ZoneVersion>> {
        let soa = self.loaded_soa(signed.id())?;
        let pool = self.d.pool_for(signed.unit_count());
        let unsigned = pool.install(|| signed.to_unsigned(soa));
        unsigned.ok().map(Arc::new)
    }

    /// TTL and RDATA of the SOA of what a signed version was made from.
    pub(super) fn loaded_soa(&self, signed: VersionId) -> Option<(u32, Vec<u8>)> {
        let (ttl, hex) = self.row.sources.get(&signed.0)?;
        let soa = data_encoding::HEXLOWER.decode(hex.as_bytes()).ok()?;
        Some((*ttl, soa))
    }

    /// An older published version in place of one whose data are damaged.
    fn take_old(&mut self, old: Arc<ZoneVersion>, now: Timestamp) -> Option<Lost> {
        let zone = &self.row.zone;
        let kept = zone.retained.iter().find(|r| r.version == old.id())?;
        let live = zone.live.as_ref()?;
        let min_exp = old.earliest_expiration().unwrap_or(now);
        let lost = Live {
            version: kept.version,
            of: kept.of,
            serial: kept.serial,
            source_serial: kept.source_serial,
            content_fp: kept.content_fp,
            published_at: kept.published_at,
            min_exp,
            next_due: min_exp,
            keys: live.keys,
            signing: live.signing,
            serving: Serving::RecoveredOld,
            despite_verification: None,
        };
        tracing::error!(zone = %self.me.name, version = %old.id(), "what was published last is damaged on disk; an older version is served until the source gives a newer one");
        if let Some(u) = self.unsigned_half(&old) {
            self.versions.insert(u.id(), Held::Unsigned(u));
        }
        self.versions.insert(old.id(), Held::Signed(old));
        Some(Lost::Old(Box::new(lost)))
    }

    /// Begins to read content back that is to be signed again, after a restart or when it was let
    /// go from memory. False: it is not among what is kept.
    pub(super) fn recall(&mut self, s: &StartSign) -> bool {
        let kept = &self.row.zone.retained;
        let Some(r) = kept.iter().find(|r| r.of == s.unsigned) else {
            return false;
        };
        let signed = r.version;
        let Some((ttl, soa)) = self.row.sources.get(&signed.0).cloned() else {
            return false;
        };
        let at_hand = self.version(signed);
        let segments = &self.row.segments;
        let segment = segments.iter().rev().find(|s| s.holds(signed.0)).cloned();
        if at_hand.is_none() && segment.is_none() {
            return false;
        }
        self.running.insert(s.job, Running::Other);
        let (d, zone, unsigned) = (self.d.clone(), self.me.id, s.unsigned);
        let (job, s) = (s.job, Box::new(s.clone()));
        spawn_job(&self.done, job, move || {
            let read = |seg: &Segment| read_one(&d.files, zone, seg, signed);
            let found = match (at_hand, &segment) {
                (Some(v), _) => Ok(v),
                (None, Some(seg)) => d.pool.install(|| read(seg)),
                (None, None) => Err("it is not kept".into()),
            };
            let half = found.and_then(|v| {
                let soa = data_encoding::HEXLOWER.decode(soa.as_bytes());
                let soa = soa.map_err(|e| e.to_string())?;
                let half = d.pool.install(|| v.to_unsigned((ttl, soa)));
                half.map(Arc::new).map_err(|e| e.to_string())
            });
            Done::Recalled(s, unsigned, half)
        });
        true
    }

    pub(super) fn recalled(
        &mut self,
        s: StartSign,
        unsigned: VersionId,
        result: Result<Arc<ZoneVersion>, String>,
    ) {
        let job = s.job;
        if self.running.remove(&job).is_none() {
            return;
        }
        match result {
            Ok(v) => {
                self.versions.insert(unsigned, Held::Unsigned(v));
                let now = self.d.now();
                self.start_sign(s, now);
            }
            Err(e) => self.later(Event::SignFailed {
                job,
                fault: Fault::Storage,
                error: format!("the kept version could not be read back: {e}"),
            }),
        }
    }
}

impl Restored {
    /// Reads the published version, and those before it, from the segments.
    fn versions(
        &mut self,
        files: &ZoneFiles,
        zone: ZoneId,
        live: VersionId,
        candidate: Option<u64>,
        keep: usize,
    ) {
        let mut first = true;
        while let Some(segment) = self.segments.last_mut() {
            let newest = Want::Newest(keep);
            let found = match files.recover_segment(zone, segment, newest, candidate, Check::Later)
            {
                Ok(Ok(found)) => found,
                Ok(Err(why)) => {
                    self.live.get_or_insert((live, files::lost(why)));
                    // Kept for whoever wants to know, and never in the way of what comes.
                    if let Err(e) = files.set_segment_aside(zone, segment) {
                        tracing::warn!("damaged files stay where they are: {e}");
                    }
                    self.segments.pop();
                    first = false;
                    continue;
                }
                Err(e) => {
                    // The disk did not answer: nothing is thrown away.
                    self.live = Some((live, Read::Content(e.to_string())));
                    return;
                }
            };
            let mut versions = found.versions;
            if let Some(damage) = &found.damage {
                self.live
                    .get_or_insert((live, Read::Content(damage.to_string())));
            }
            let Some((newest, beside)) = versions.pop() else {
                self.segments.pop();
                first = false;
                continue;
            };
            let good = segment
                .marks
                .iter()
                .position(|m| m.version == newest.id().0);
            segment.marks.truncate(good.map_or(0, |i| i + 1));
            self.older = versions.into_iter().map(|(v, _)| v).collect();
            self.recount = !found.is_checked;
            if newest.id() == live && first && found.damage.is_none() {
                self.live = Some((live, files::judged(newest, &beside)));
                self.signed = found
                    .ahead
                    .map(|(v, beside)| (v.id(), files::judged(v, &beside)));
            } else {
                self.live.get_or_insert_with(|| {
                    (
                        live,
                        Read::Content("the journal ends with another version".into()),
                    )
                });
                self.instead = Some(newest);
            }
            return;
        }
        if self.live.is_some() {
            return;
        }
        // Written before there were journals: one file for each version.
        let path = files.path(zone, Kind::Snapshot, live);
        let snapshot = std::fs::metadata(&path).map_or(0, |m| m.len());
        let read = match files.load(zone, Kind::Snapshot, live) {
            Ok(Ok((v, beside))) => {
                self.segments = vec![Segment {
                    base: live.0,
                    serial: v.serial().0,
                    snapshot,
                    marks: Vec::new(),
                }];
                files::judged(Arc::new(v), &beside)
            }
            Ok(Err(why)) => files::lost(why),
            Err(e) => Read::Content(e.to_string()),
        };
        self.live = Some((live, read));
    }

    /// The steps between the versions that were read back.
    fn make_steps(&mut self, limits: StepLimits) {
        let live = match &self.live {
            Some((_, Read::Verified(v))) => v.version().clone(),
            Some((_, Read::Plain(v))) => v.clone(),
            _ => return,
        };
        self.steps = super::rest::steps(self.older.iter().chain([&live]), limits);
    }
}

/// Nobody waits for a snapshot that is made behind the journal: it leaves the disk to others.
#[allow(
    clippy::disallowed_methods,
    reason = "a thread of its own that may sleep, in the program"
)]
fn rest(octets: u64) {
    std::thread::sleep(Duration::from_secs_f64(octets as f64 / SNAPSHOT_RATE));
}

/// One published version from its file.
///
/// # Errors
/// Why it cannot be had.
pub fn read_one(
    files: &ZoneFiles,
    zone: ZoneId,
    segment: &Segment,
    version: VersionId,
) -> Result<Arc<ZoneVersion>, String> {
    let found = files
        .recover_segment(zone, segment, Want::One(version.0), None, Check::Now)
        .map_err(|e| e.to_string())?;
    match found {
        Ok(mut r) => match r.versions.pop() {
            Some((v, _)) => Ok(v),
            None => Err("its file ends before it".into()),
        },
        Err(why) => match files::lost(why) {
            Read::Content(why) | Read::Signatures(why) => Err(why),
            _ => Err("its file is missing".into()),
        },
    }
}
