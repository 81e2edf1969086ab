//! Versions in files: the archive's code over a disk whose power goes.

use std::collections::BTreeSet;
use std::sync::Arc;

use cascade_archive::segment::{Fresh, Want, Writing};
use cascade_archive::zones::{Kind, Recovery};
use cascade_archive::{ArchiveError, Check, Segment, Tail, ZoneFiles};
use cascade_pipeline::Event;
use cascade_pipeline::event::Keepsake;
use cascade_pipeline::state::JobId;
use cascade_verifier::{Ledger, Verified, VerifyReport, readmit};
use cascade_zone::{VersionId, ZoneVersion};
use serde::{Deserialize, Serialize};

use super::disk::{SimDisk, Worked};
use super::{Held, Real, STEPS};
use crate::check::Rule;
use crate::pipe::ZONE;
use crate::world::{Coming, World};

/// What of the files stands in the row and the tables beside it.
#[derive(Clone, Default)]
pub(super) struct Row {
    segments: Vec<Segment>,
    /// Ends of journals that are not synced yet.
    tails: Vec<Tail>,
}

/// The zone's files.
#[derive(Clone, Default)]
pub(super) struct Store {
    pub(super) disk: SimDisk,
    row: Row,
    /// As it was committed.
    committed: Row,
    /// A snapshot that is to take the place of the open segment's.
    fresh: Option<Fresh>,
}

/// What stands beside a version in its file, as the daemon writes it.
#[derive(Serialize, Deserialize)]
struct Beside {
    ledger: Option<Ledger>,
    report: VerifyReport,
}

fn beside(v: &Verified<Arc<ZoneVersion>>) -> Vec<u8> {
    let beside = Beside {
        ledger: v.ledger().cloned(),
        report: v.report().clone(),
    };
    serde_json::to_vec(&beside).unwrap_or_default()
}

/// A version with the verdict that stood beside it.
fn judged(v: Arc<ZoneVersion>, beside: &[u8]) -> Option<Verified<Arc<ZoneVersion>>> {
    let Beside { ledger, report } = serde_json::from_slice(beside).ok()?;
    readmit(v, ledger?, report).ok()
}

impl Store {
    pub(super) fn commit(&mut self) {
        self.committed = self.row.clone();
    }

    /// The power goes.
    pub(super) fn die(&mut self, draw: &mut crate::rng::Rng) {
        self.disk.crash(draw);
        self.row = self.committed.clone();
        self.fresh = None;
    }

    /// As the daemon: a small version goes behind the journal, and its patch into the commit.
    fn persist(
        row: &Row,
        fresh: Option<&Fresh>,
        files: &ZoneFiles,
        live: Option<&ZoneVersion>,
        new: Writing<'_>,
    ) -> Result<Row, ArchiveError> {
        let (segments, tails) = (&row.segments, &row.tails);
        if let Some((segments, tail)) = files.behind(segments, fresh, live, new)
            && files.append_tail(&tail).is_ok()
        {
            let mut tails = tails.clone();
            tails.push(tail);
            return Ok(Row { segments, tails });
        }
        let segments = files.follow(segments, fresh, live, new)?;
        // All of the open journal was synced.
        let open = segments.last().map(|s| s.base);
        let tails = tails.iter().filter(|t| Some(t.base) != open);
        Ok(Row {
            tails: tails.cloned().collect(),
            segments,
        })
    }
}

impl World {
    /// Work on the files, each of whose steps may be the last of this process. `None`: it was.
    fn on_disk<T>(
        &mut self,
        work: impl FnOnce(&ZoneFiles) -> Result<T, ArchiveError>,
    ) -> Option<Result<T, ArchiveError>> {
        let after = self.config.crash_after;
        let stop = after.and_then(|n| n.checked_sub(self.effects));
        let store = &mut self.pipe.as_mut()?.real.as_mut()?.store;
        let worked = store.disk.work(stop.filter(|n| *n > 0), work);
        match worked {
            Ok(Worked { result, steps }) => {
                self.effects += steps;
                if result.is_none() {
                    self.line("the power goes while files are written".to_string());
                    self.kill();
                    self.schedule(self.config.crash_down.max(1), Coming::Restart);
                }
                result
            }
            Err(e) => {
                self.fail(Rule::W22, format!("this host's own files: {e}"));
                None
            }
        }
    }

    /// Makes a version durable; `None`: the process died of it.
    pub(crate) fn persist_real(&mut self, job: JobId, version: VersionId) -> Option<Event> {
        let now = self.wall();
        let pipe = self.pipe.as_ref()?;
        let live = pipe.zone.live.as_ref().map(|l| l.version);
        let real = pipe.real.as_ref()?;
        let verified = real.signed.get(&version)?.verified.clone()?;
        let live = live.and_then(|v| Some(real.signed.get(&v)?.version.clone()));
        let (row, fresh) = (real.store.row.clone(), real.store.fresh.clone());
        let beside = beside(&verified);
        let done = self.on_disk(|files| {
            let new = Writing {
                version: verified.version(),
                beside: &beside,
                now,
            };
            Store::persist(&row, fresh.as_ref(), files, live.as_deref(), new)
        })?;
        match done {
            Ok(next) => {
                let real = self.pipe.as_mut()?.real.as_mut()?;
                let moved = |r: &Row| r.segments.last().map(|s| s.base);
                if moved(&next) != moved(&row) {
                    real.store.fresh = None;
                }
                real.store.row = next;
                let content = verified.version().full_fingerprint();
                real.written.insert(version, content);
                self.pipe.as_mut()?.durable.insert(version);
                Some(Event::PersistDone { job })
            }
            Err(e) => {
                self.fail(Rule::W22, format!("{version} is not written: {e}"));
                let error = e.to_string();
                Some(Event::PersistFailed { job, error })
            }
        }
    }

    /// What follows when the commit with a version is durable: the journal is synced, a long one gets
    /// a new snapshot, and files that nothing names go.
    pub(crate) fn tend_files(&mut self) {
        let now = self.wall();
        let Some(pipe) = &self.pipe else { return };
        let Some(real) = &pipe.real else { return };
        let keep = pipe.zone.settings.retained_versions.max(1);
        let row = real.store.row.clone();
        if let Some(last) = row.tails.last() {
            let (base, end) = (last.base, last.end());
            match self.on_disk(|files| files.sync_journal(ZONE, base, end)) {
                Some(Ok(())) => {}
                Some(Err(e)) => return self.fail(Rule::W22, format!("no sync: {e}")),
                None => return,
            }
            if let Some(real) = self.pipe.as_mut().and_then(|p| p.real.as_mut()) {
                real.store.row.tails.clear();
            }
        }
        let Some(real) = self.pipe.as_ref().and_then(|p| p.real.as_ref()) else {
            return;
        };
        let open = row.segments.last().filter(|s| s.is_long());
        let Some(open) = open.filter(|_| real.store.fresh.is_none()) else {
            return;
        };
        let newest_first = open.marks.iter().rev().map(|m| m.version);
        let recent = newest_first.chain([open.base]).take(keep);
        let at_hand = |v: u64| real.signed.get(&VersionId(v)).cloned();
        let base = recent.map_while(at_hand).last();
        let Some(v) = base.and_then(|h| h.verified) else {
            return;
        };
        let id = v.version().id().0;
        let Some(from) = open.behind(id).filter(|_| id != open.base) else {
            return;
        };
        let (of, beside) = (open.base, beside(&v));
        let written = self.on_disk(|files| {
            files.tidy(ZONE, &row.segments, None)?;
            files.snapshot(Writing {
                version: v.version(),
                beside: &beside,
                now,
            })
        });
        match written {
            Some(Ok(segment)) => {
                if let Some(real) = self.pipe.as_mut().and_then(|p| p.real.as_mut()) {
                    real.store.fresh = Some(Fresh { of, from, segment });
                    real.counts.snapshots += 1;
                }
            }
            Some(Err(e)) => self.fail(Rule::W22, format!("no snapshot: {e}")),
            None => {}
        }
    }

    /// What waits for somebody is written before the step that says so; false: the process died.
    pub(crate) fn save_candidate(
        &mut self,
        unsigned: VersionId,
        signed: Option<VersionId>,
    ) -> bool {
        let now = self.wall();
        let Some(real) = self.pipe.as_mut().and_then(|p| p.real.as_mut()) else {
            return true;
        };
        let base = real.unsigned(unsigned);
        let held = signed.and_then(|v| real.signed.get(&v).cloned());
        let done = self.on_disk(|files| {
            if let Some(base) = &base {
                files.save(Kind::Candidate, base, &[], now)?;
            }
            if let Some(held) = &held {
                let verdict = held.verified.as_deref().map(beside).unwrap_or_default();
                files.save(Kind::Candidate, &held.version, &verdict, now)?;
            }
            Ok(())
        });
        match done {
            Some(Ok(())) => true,
            Some(Err(e)) => {
                self.fail(Rule::W22, format!("the candidate is not kept: {e}"));
                true
            }
            None => false,
        }
    }

    pub(crate) fn drop_files(&mut self, v: VersionId) {
        // Most versions were no candidate that waited.
        let has = |w: &World| {
            let real = w.pipe.as_ref().and_then(|p| p.real.as_ref());
            real.is_some_and(|r| r.store.disk.has_candidate(v.0))
        };
        if has(self)
            && let Some(Err(e)) = self.on_disk(|files| files.remove_candidate(ZONE, v))
        {
            self.fail(Rule::W22, format!("a file of {v} stays: {e}"));
        }
    }

    /// The zone is read back from its files: what the row names is there, whole and as it was.
    pub(crate) fn restore_real(
        &mut self,
        live: Option<VersionId>,
        unsigned: Option<VersionId>,
        signed: Option<VersionId>,
    ) -> Option<Event> {
        let pipe = self.pipe.as_ref()?;
        let keep = pipe.zone.settings.retained_versions.max(STEPS.steps + 1);
        let row = pipe.real.as_ref()?.store.row.clone();
        let candidate = signed.map(|v| v.0);
        let read = self.on_disk(|files| {
            for tail in &row.tails {
                files.mend(tail)?;
            }
            let found = match row.segments.last() {
                Some(s) if live.is_some() => Some(files.recover_segment(
                    ZONE,
                    s,
                    Want::Newest(keep),
                    candidate,
                    Check::Later,
                )?),
                _ => None,
            };
            let kept = |v: Option<VersionId>| match v {
                Some(v) => files.load(ZONE, Kind::Candidate, v).map(Some),
                None => Ok(None),
            };
            files.tidy(ZONE, &row.segments, None)?;
            Ok((found, kept(unsigned)?, kept(signed)?))
        })?;
        let (found, unsigned_kept, signed_kept) = match read {
            Ok(read) => read,
            Err(e) => {
                self.fail(Rule::W22, format!("the files are not read: {e}"));
                return None;
            }
        };
        let real = self.pipe.as_mut()?.real.as_mut()?;
        real.store.disk.clear_lost();
        real.counts.restored += 1;
        let mut all = Vec::new();
        let mut ahead = None;
        let mut wrong = None;
        match found {
            None => {}
            Some(Ok(found)) => {
                wrong = found.damage.map(|d| d.to_string());
                real.counts.torn += usize::from(found.set_aside.is_some());
                ahead = found.ahead;
                all = found.versions;
            }
            Some(Err(lost)) => wrong = Some(format!("{lost:?}")),
        }
        let newest = all.last().map(|(v, _)| v.id());
        if newest != live {
            wrong.get_or_insert_with(|| format!("the files end with {newest:?}"));
        }
        if let Some((v, _)) = all.last()
            && real.written.get(&v.id()) != Some(&v.full_fingerprint())
        {
            wrong.get_or_insert_with(|| "it is another content".to_string());
        }
        if let Some(wrong) = wrong {
            let text = format!("{live:?} was published and is not there: {wrong}");
            self.fail(Rule::W22, text);
            return None;
        }
        let mut keepsake = match unsigned {
            None => Keepsake::None,
            Some(_) => Keepsake::Lost,
        };
        if let Some(Ok((v, _))) = unsigned_kept {
            keepsake = Keepsake::Unsigned;
            let real = self.pipe.as_mut()?.real.as_mut()?;
            real.unsigned.insert(v.id(), Arc::new(v));
        }
        let waits = match (ahead, signed_kept) {
            (Some((v, beside)), _) => Some((v, beside)),
            (None, Some(Ok((v, beside)))) => Some((Arc::new(v), beside)),
            (None, Some(Err(Recovery::Missing))) | (None, None) => None,
            (None, Some(Err(lost))) => {
                let text = format!("{signed:?} waits and is not there: {lost:?}");
                self.fail(Rule::W22, text);
                return None;
            }
        };
        let known: BTreeSet<VersionId> = {
            let zone = &self.pipe.as_ref()?.zone;
            zone.retained.iter().map(|r| r.version).collect()
        };
        let mut before: Option<Arc<ZoneVersion>> = None;
        for (v, beside) in all {
            let id = v.id();
            let is_live = Some(id) == live;
            if let Some(old) = before.replace(v.clone()) {
                let real = self.pipe.as_mut()?.real.as_mut()?;
                real.steps = real.steps.then(&old, &v, STEPS);
            }
            if is_live || known.contains(&id) {
                let verdict = judged(v.clone(), &beside);
                if is_live && verdict.is_none() {
                    self.fail(Rule::W22, format!("{id} has no verdict beside it"));
                }
                self.take_back_version(v, verdict)?;
            }
        }
        if let (Keepsake::Unsigned, Some((v, beside))) = (keepsake, waits) {
            let verdict = judged(v.clone(), &beside);
            keepsake = Keepsake::Whole;
            self.take_back_version(v, verdict)?;
        }
        let real = self.pipe.as_mut()?.real.as_mut()?;
        real.last = before;
        Some(Event::Restored {
            candidate: keepsake,
        })
    }

    fn take_back_version(
        &mut self,
        version: Arc<ZoneVersion>,
        verified: Option<Verified<Arc<ZoneVersion>>>,
    ) -> Option<()> {
        let classes = match self.classes_in(&version) {
            Ok(classes) => Arc::new(classes),
            Err(e) => {
                self.fail(Rule::W22, e);
                return None;
            }
        };
        let id = version.id();
        let pipe = self.pipe.as_mut()?;
        pipe.durable.insert(id);
        let real: &mut Real = pipe.real.as_mut()?;
        let held = Held {
            version,
            verified: verified.map(Box::new),
            classes,
            planted: false,
        };
        real.signed.insert(id, held);
        Some(())
    }
}
