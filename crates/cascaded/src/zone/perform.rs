//! Actions of the pipeline carried out, and ends of jobs turned into events.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cascade_api::zones::Source;
use cascade_crypto::Class;
use cascade_loader::Outcome as LoadOutcome;
use cascade_pipeline::action::StartSign;
use cascade_pipeline::event::{GuardOutcome, Loaded, SignResult};
use cascade_pipeline::history::HistoryKind;
use cascade_pipeline::state::{JobId, Origin, Reason, Report, RunwayClass, SignMode, Stage};
use cascade_pipeline::{Action, Event, Fault, Keep, Serve, Severity};
use cascade_policy::{Policy, VerifyMode, Zonemd};
use cascade_publisher::notify::NotifyCommand;
use cascade_publisher::watch::WatchCommand;
use cascade_publisher::{EmptyReason, Role};
use cascade_signer::{DenialPlan, SerialNote};
use cascade_time::Timestamp;
use cascade_verifier::{Approval, Approved, DespiteVerification, Outcome};
use cascade_zone::patch::Alignment;
use cascade_zone::{VersionId, ZoneVersion};

use super::actor::{Actor, Done, Held, Running, fp, spawn_job, spawn_quick};
use super::files;
use super::{SignRow, guard, jobs};
use crate::daemon::{Daemon, INLINE_UNITS, QUICK_OCTETS, QUICK_UNITS};
use crate::keys::{gate_parent, own_keys, parent_breaks};

/// Nothing in a version without DNSSEC expires; by then it is another version.
const NEVER: std::time::Duration = std::time::Duration::from_secs(20 * 365 * 86_400);

/// Keys of a zone that is removed, for `zone add --restore-keys`. It may be called twice.
fn keep_keys(
    d: &crate::daemon::Daemon,
    zone: cascade_crypto::ZoneRef<'_>,
    rows: &crate::keys::KeysRow,
) -> Result<(), String> {
    if rows.zone.keys.is_empty() {
        return Ok(());
    }
    let bundle = crate::keys::Bundle {
        apex: zone.name.to_string(),
        removed_at: d.now(),
        keys: rows.clone(),
    };
    let kept = bundle.keep(zone.id).and_then(|c| d.state.commit(vec![c]));
    kept.map_err(|e| e.to_string())?;
    for left in d.keyring.set_all_aside(zone, rows) {
        tracing::warn!(zone = %zone.name, "a key file of the removed zone stays where it is: {left}");
    }
    Ok(())
}

/// An entry that each version has.
fn is_routine(kind: HistoryKind) -> bool {
    use HistoryKind::*;
    matches!(
        kind,
        LoadStarted
            | LoadUnchanged
            | NewVersion
            | GuardPassed
            | SigningStarted
            | SigningSucceeded
            | Verified
            | Persisted
            | Published
    )
}

/// Whether one thread does the work on so many leaves and blocks in a moment. A digest is of all the zone.
fn is_inline(units: usize, policy: &Policy) -> bool {
    units <= INLINE_UNITS && policy.signer.zonemd == Zonemd::Off
}

impl Actor {
    pub(super) async fn perform(&mut self, actions: Vec<Action>, now: Timestamp) {
        for action in actions {
            self.one(action, now);
        }
        self.refresh_deadline();
    }

    fn one(&mut self, action: Action, now: Timestamp) {
        match action {
            Action::Cancel { job, .. } => self.cancel(job),
            Action::KillHook { run } => self.cancel(run),
            Action::StartLoad {
                job,
                version,
                forced,
            } => self.start_load(job, version, forced, now),
            Action::EvaluateGuard {
                job,
                version,
                against,
            } => self.start_guard(job, version, against),
            Action::StartSign(s) => self.start_sign(s, now),
            Action::StartVerify { job, version, .. } => self.start_verify(job, version, now),
            Action::Persist { job, version, .. } => self.start_persist(job, version),
            // Written before the commit of the step that asks for it.
            Action::SaveCandidate { .. } => {}
            Action::Restore {
                live,
                unsigned,
                signed,
            } => self.start_restore(live, unsigned, signed),
            Action::SetAside { job, keys } => self.start_set_aside(job, keys),
            Action::ShowForReview { stage, version } => self.show_for_review(stage, version),
            Action::RunHook(run) => self.start_hook(run, now),
            Action::Publish(serve) => {
                self.wait_for_referral(serve);
                self.publish(serve, now);
                let z = &self.row.zone;
                let met = |l: &cascade_pipeline::state::Live| l.signing == z.settings.signing;
                if z.live.as_ref().is_none_or(met) {
                    self.beside.clear();
                }
            }
            Action::SendNotify { version, .. } => {
                if !self.referral.defers() {
                    self.send_notify(version);
                }
                self.export(version);
            }
            // The key manager reads it off what is live, in its next turn.
            Action::TellKeyManager { .. } => {}
            // A change by UPDATE has one line, when it is published; the history has all.
            Action::Record(e) if self.takes_updates() && is_routine(e.kind) => {
                tracing::debug!(zone = %self.me.name, version = ?e.version.map(|v| v.0), serial = ?e.serial.map(|s| s.0), "{}", e.text);
            }
            Action::Record(e) => {
                tracing::info!(zone = %self.me.name, version = ?e.version.map(|v| v.0), serial = ?e.serial.map(|s| s.0), reason = ?e.reason, actor = ?e.actor, "{}", e.text);
            }
            Action::Alert(a) => {
                let hint = a
                    .commands
                    .first()
                    .map_or(String::new(), |c| format!("; try: {c}"));
                match a.severity {
                    Severity::Critical => {
                        tracing::error!(critical = true, zone = %self.me.name, "{}{hint}", a.text)
                    }
                    Severity::Warning => tracing::warn!(zone = %self.me.name, "{}{hint}", a.text),
                    Severity::Notice => tracing::info!(zone = %self.me.name, "{}{hint}", a.text),
                }
            }
            Action::ClearAlert(key) => {
                tracing::info!(zone = %self.me.name, alert = ?key, "alert is over")
            }
            Action::DropVersion(v) => self.drop_version(v),
            Action::Answer { request, result } => self.answer(request, result),
            Action::SetTimer(at) => self.set_deadline(at),
            Action::Forget => self.forget(),
            Action::WatchSecondaries { version, .. } => self.watch(version, false),
            Action::HoldTransfers(held) => self.hold_transfers(held),
        }
    }

    fn cancel(&mut self, job: JobId) {
        if self.waits_for_keys.as_ref().is_some_and(|s| s.job == job) {
            self.waits_for_keys = None;
        }
        match self.running.remove(&job) {
            Some(Running::Sign(p)) => p.cancel(),
            Some(Running::Fetch(_, _, abort)) => abort.abort(),
            Some(Running::Hook(Some(kill))) => _ = kill.send(()),
            _ => {}
        }
    }

    pub(super) fn version(&self, v: VersionId) -> Option<Arc<ZoneVersion>> {
        self.versions.get(&v).map(|h| h.version().clone())
    }

    // ---- load and guard

    fn start_load(&mut self, job: JobId, version: VersionId, forced: bool, now: Timestamp) {
        let passes = self.passes();
        if passes && !matches!(self.row.source, Source::File { .. }) {
            let error = "signer.mode = \"passthrough\" takes a zone from a file only".into();
            return self.later(Event::LoadFailed { job, error });
        }
        let (path, text) = match self.row.source.clone() {
            Source::File { path } => (path, None),
            Source::Update { .. } => match self.begin_content(job, version, now) {
                Some(begin) => begin,
                None => return,
            },
            Source::Servers { servers } => {
                return self.start_fetch(&servers, job, version, forced, now);
            }
            Source::None {} => {
                let event = Event::LoadFailed {
                    job,
                    error: "the zone has no source".into(),
                };
                self.later(event);
                return;
            }
        };
        let progress = Arc::new(cascade_loader::Progress::default());
        self.running
            .insert(job, Running::Load(progress.clone(), now));
        let Some(policy) = self.policy() else {
            self.running.remove(&job);
            self.later(Event::LoadFailed {
                job,
                error: "the zone's policy is not loaded".into(),
            });
            return;
        };
        let known = self
            .identity
            .as_ref()
            .and_then(|(v, i)| Some((self.version(*v)?, i.clone())));
        let live = self.row.zone.live.as_ref().and_then(|l| self.version(l.of));
        let (current, identity) = match known {
            Some((v, i)) => (Some(v), Some(i)),
            None => (live, None),
        };
        let input = jobs::LoadJob {
            path,
            text,
            apex: self.me.apex.clone(),
            zone: self.me.id,
            version,
            current,
            identity,
            forced,
            trigger: if forced { "forced" } else { "reload" },
            policy: policy.file,
        };
        let (d, done) = (self.d.clone(), self.done.clone());
        tokio::spawn(async move {
            let (d2, p2, input) = (d.clone(), progress.clone(), Arc::new(input));
            let load = move |input: &jobs::LoadJob, pool: &rayon::ThreadPool| {
                let mut dnssec = passes.then(Vec::new);
                let end = jobs::load(input, pool, d2.clock.as_ref(), &p2, dnssec.as_mut());
                (end, dnssec)
            };
            let (small, short) = (input.clone(), load.clone());
            let small = d.quick_files.run(move |own| {
                let size = match &small.text {
                    Some(text) => text.len() as u64,
                    None => std::fs::metadata(&small.path).map_or(0, |m| m.len()),
                };
                (size <= QUICK_OCTETS).then(|| short(&small, own))
            });
            let result = match small.result().await.map_err(|e| e.to_string()) {
                Ok(Some(loaded)) => Ok(loaded),
                Err(e) => Err(e),
                Ok(None) => {
                    // Closed never: the semaphore lives as long as the daemon.
                    let Ok(_turn) = d.loads.acquire().await else {
                        return;
                    };
                    let d = d.clone();
                    let work = tokio::task::spawn_blocking(move || load(&input, &d.pool));
                    work.await.map_err(|e| e.to_string())
                }
            };
            let result = match result {
                Ok((outcome, dnssec)) => {
                    // What is at hand belongs to a candidate that may still be signed.
                    if let (Some(dnssec), LoadOutcome::Loaded { .. }) = (dnssec, &outcome) {
                        let _ = done.send(Done::SourceSigned(version, dnssec));
                    }
                    Done::Loaded(job, version, Box::new(outcome))
                }
                Err(e) => Done::Panicked(job, e),
            };
            let _ = done.send(result);
        });
    }

    fn start_guard(&mut self, job: JobId, version: VersionId, against: Option<VersionId>) {
        let new = self.version(version);
        let old = against.and_then(|v| self.version(v));
        let Some(policy) = self.policy() else { return };
        let keep = policy.file.policy.signer.serial_policy == cascade_policy::SerialPolicy::Keep;
        let used = self.row.zone.used_serial;
        self.running.insert(job, Running::Other);
        let both = old.as_ref().zip(new.as_ref());
        let small = both.is_some_and(|(a, b)| b.units_beside(a) <= INLINE_UNITS);
        let judge = move || {
            let inputs: Vec<_> = match (&old, &new) {
                (Some(a), Some(b)) => {
                    let stale = keep && used.is_some_and(|u| !b.serial().newer_than(u));
                    vec![guard::count(a, b, stale)]
                }
                _ => Vec::new(),
            };
            Done::Guard(
                job,
                guard::rules(&policy.file.policy.loader.guard).judge(&inputs),
            )
        };
        match small {
            true => self.at_once(job, move |_| judge()),
            false => spawn_job(&self.done, job, judge),
        }
    }

    // ---- sign, verify, persist

    pub(super) fn start_sign(&mut self, s: StartSign, now: Timestamp) {
        if self.passes() {
            return self.start_pass(s, now);
        }
        let job = s.job;
        if self.keys.is_none() && self.desk.wait.is_none() {
            self.waits_for_keys = Some(s);
            return;
        }
        let progress = Arc::new(cascade_signer::Progress::new());
        self.running.insert(job, Running::Sign(progress.clone()));
        let row = SignRow {
            version: s.version.0,
            unsigned_serial: self.version(s.unsigned).map_or(0, |v| v.serial().0),
            serial: None,
            requested_at: now,
            report: None,
            error: None,
        };
        self.sign_before = self.row.reports.sign.clone();
        // Until a denial of existence that is being built is whole, its jobs are no news.
        let goes_on = self.row.zone.beside.is_some() && s.upkeep && self.sign_before.is_some();
        if !goes_on || !s.reasons.iter().eq([&Reason::Policy]) {
            self.row.reports.sign = Some(row);
        }
        if self.version(s.unsigned).is_none() && self.recall(&s) {
            return;
        }
        let (base, keys, policy) = (self.version(s.unsigned), self.keys.clone(), self.policy());
        let (Some(base), Some(keys), Some(policy)) = (base, keys, policy) else {
            self.running.remove(&job);
            let why = self
                .desk
                .wait
                .clone()
                .unwrap_or_else(|| "the zone has no keys yet".into());
            self.later(Event::SignFailed {
                job,
                fault: Fault::Keys,
                error: why,
            });
            return;
        };
        let live = self.row.zone.live.as_ref();
        let offset = policy.file.policy.signer.signature_inception_offset;
        // Only what has passed the gate is built on; a repair builds on nothing.
        let prev = s
            .based_on
            .filter(|_| !s.full && s.mode != SignMode::Heal)
            .filter(|_| !s.reasons.contains(&Reason::Sweep))
            .and_then(|v| match self.versions.get(&v)? {
                Held::Verified(v) => Some(v.version().clone()),
                _ => None,
            });
        let input = jobs::SignInput {
            base,
            prev,
            version: s.version,
            keys: keys.clone(),
            policy: policy.file,
            above: s.above,
            requested: s.serial,
            upkeep: s.upkeep,
            first: live.is_none(),
            newest_inception: live
                .and_then(|l| self.version(l.version))
                .map(|v| v.made_at() - offset),
            requested_at: now,
            reasons: s.reasons.clone(),
            keys_change_since: self.row.keys.zone.signers_change_since(),
            beside: self.beside.clone(),
            class: match s.runway {
                RunwayClass::Critical | RunwayClass::Emergency => Class::Critical,
                // Another denial of existence, perhaps of all the zone, is in no hurry.
                _ if s.upkeep && s.reasons.iter().eq([&Reason::Policy]) => Class::Bulk,
                _ if s.upkeep => Class::Normal,
                _ => Class::Interactive,
            },
        };
        if self.says_whole(job, &input) {
            return;
        }
        let units = match &input.prev {
            Some(prev) if !s.upkeep => match self.version(prev.unsigned_id()) {
                // Two versions of content share more than their leaves.
                Some(old) => input.base.units_beside(&old),
                None => Alignment::of(prev, &input.base).units(),
            },
            _ => input.base.unit_count(),
        };
        let small = is_inline(units, &input.policy.policy);
        let waits = keys
            .signers
            .values()
            .any(|s| matches!(s.mode(), cascade_crypto::Mode::Queued(_)));
        let (d, done, with) = (self.d.clone(), self.done.clone(), keys);
        if small && !waits && input.prev.is_some() {
            return self.at_once(job, move |own| {
                let made = jobs::sign_version(&input, own, d.clock.as_ref(), &progress, d.now());
                Done::Signed(job, s.version, Box::new(made), with)
            });
        }
        tokio::spawn(async move {
            // Those that wait for a token take no turn from those that compute, and what is short
            // does not wait for what is long.
            let turns = match waits {
                true => &d.token_signings,
                false if units <= QUICK_UNITS => &d.quick_signings,
                false => &d.signings,
            };
            let Ok(_turn) = turns.acquire().await else {
                return;
            };
            let (d2, p2) = (d.clone(), progress.clone());
            let sign = move |pool: &rayon::ThreadPool, d: &Daemon| {
                jobs::sign_version(&input, pool, d.clock.as_ref(), &p2, d.now())
            };
            let result = match small && !waits {
                true => {
                    let work = d.quick.run(move |own| sign(own, &d2));
                    work.result().await.map_err(|e| e.to_string())
                }
                false => {
                    let work = move || sign(d2.pool_for(units), &d2);
                    let work = tokio::task::spawn_blocking(work);
                    work.await.map_err(|e| e.to_string())
                }
            };
            let result = match result {
                Ok(r) => Done::Signed(job, s.version, Box::new(r), with),
                Err(e) => Done::Panicked(job, e),
            };
            let _ = done.send(result);
        });
    }

    /// Jobs that built another denial of existence and were cancelled told nobody how far they came.
    /// That it is whole must be known before the job that switches begins: nothing stops that one.
    fn says_whole(&mut self, job: JobId, input: &jobs::SignInput) -> bool {
        let known = self.row.zone.beside;
        if known.is_some_and(|b| b.is_whole()) {
            return false;
        }
        let wanted = jobs::denial(&input.policy.policy.signer.denial);
        let builds = super::beside::way(input, &wanted) == super::beside::Way::Build;
        if !builds || !self.beside.has_all_of(&wanted) {
            return false;
        }
        self.running.remove(&job);
        self.show_signing_before();
        let (done, total) = self.beside.progress();
        self.later(Event::SignDeferred {
            job,
            next_due: None,
            done,
            total,
        });
        true
    }

    fn start_verify(&mut self, job: JobId, version: VersionId, now: Timestamp) {
        self.running.insert(job, Running::Verify(now));
        let (Some(v), Some(policy)) = (self.version(version), self.policy()) else {
            self.running.remove(&job);
            self.later(Event::VerifyImpossible {
                job,
                error: "the version or its policy is not at hand".into(),
            });
            return;
        };
        let approved = self.version(v.unsigned_id());
        let keys = self.gate_keys(version, &v);
        let live = self.row.zone.live.as_ref();
        let by_change = policy.file.policy.signer.verify.mode == VerifyMode::Changed;
        let before = live
            .filter(|_| by_change)
            .and_then(|l| self.versions.get(&l.version)?.as_before());
        let denial = self.denial_of(&v, &policy.file.policy);
        let input = jobs::VerifyInput {
            version: v,
            denial,
            approved,
            before,
            keys,
            policy: policy.file,
            live: live.map(|l| (l.serial, Some(l.min_exp))),
            // What this version itself was given is used up only when a server has shown it.
            highest: live.map(|l| l.serial),
            sample_seed: self.row.zone.seed,
        };
        let d = self.d.clone();
        let units = match &input.before {
            Some(before) => input.version.units_beside(&before.version),
            None => input.version.unit_count(),
        };
        let inline = is_inline(units, &input.policy.policy);
        let by_difference = input.before.is_some();
        let verify = move |pool: &rayon::ThreadPool, d: &Daemon| {
            let outcome = jobs::verify(input, pool, d.now());
            Done::Verified(job, version, Box::new(outcome))
        };
        match inline {
            true if by_difference => self.at_once(job, move |own| verify(own, &d)),
            true => spawn_quick(&self.d, &self.done, job, move |own| verify(own, &d)),
            false => spawn_job(&self.done, job, move || verify(d.pool_for(units), &d)),
        }
    }

    /// Keeps what waits for somebody, so that a restart finds it again.
    /// Done when this returns: a state that says that something waits must not become durable
    /// before what waits is.
    pub(super) async fn save_candidate(
        &mut self,
        unsigned: VersionId,
        signed: Option<VersionId>,
        now: Timestamp,
    ) {
        let d = self.d.clone();
        let done = self.done.clone();
        for v in [Some(unsigned), signed].into_iter().flatten() {
            self.store.note_candidate(v);
        }
        let base = self.version(unsigned);
        let signed = signed.and_then(|s| {
            let held = self.versions.get(&s)?;
            Some((held.version().clone(), held.gate()))
        });
        let written = tokio::task::spawn_blocking(move || {
            let mut result = Ok(());
            if let Some(v) = base {
                result = files::write(&d.files, &v, None, now);
            }
            if let (Ok(()), Some((v, gate))) = (&result, signed) {
                result = files::write(&d.files, &v, gate, now);
            }
            result.map_err(|e| e.to_string())
        });
        let result = written.await.unwrap_or_else(|e| Err(e.to_string()));
        let _ = done.send(Done::Saved(result));
    }

    // ---- removal

    fn start_set_aside(&mut self, job: JobId, keys: Keep) {
        self.running.insert(job, Running::Other);
        let (d, apex, id, rows) = (
            self.d.clone(),
            self.me.apex.clone(),
            self.me.id,
            self.row.keys.clone(),
        );
        spawn_job(&self.done, job, move || {
            let zone = crate::keys::zone_ref(id, &apex);
            let purged = match keys {
                Keep::Purge => d.keyring.purge(zone, &rows).map_err(|e| e.to_string()),
                Keep::Keys => keep_keys(&d, zone, &rows),
            };
            crate::keys::bundle::remove_empty(d.config.config.keys_dir().as_std_path(), id);
            let removed = purged.and_then(|()| {
                d.files
                    .set_zone_aside(id)
                    .map(drop)
                    .map_err(|e| e.to_string())
            });
            Done::Removed(job, removed)
        });
    }

    fn forget(&mut self) {
        self.d.directory.remove(self.me.id);
        self.d.zones.write().remove(&self.me.name);
        let _ = self
            .d
            .notify
            .try_send(NotifyCommand::Forget { zone: self.me.id });
        self.canary.stop();
        self.d.known.forget(self.me.id);
        self.tell_watch(WatchCommand::Forget { zone: self.me.id });
        self.gone = true;
    }

    // ---- outward

    fn show_for_review(&mut self, stage: Stage, version: Option<VersionId>) {
        let id = self.me.id;
        let role = match stage {
            Stage::Unsigned => Role::LoaderReview,
            Stage::Signed => Role::SignerReview,
        };
        let dir = &self.d.directory;
        let stored = match version.and_then(|v| self.version(v)) {
            Some(v) if stage == Stage::Unsigned => dir.review_unsigned(id, v),
            Some(v) => dir.review_signed(id, v),
            None => dir.withdraw(id, role, EmptyReason::NothingToReview),
        };
        if let Err(e) = stored {
            tracing::error!(zone = %self.me.name, "review server: {e}");
        }
    }

    fn publish(&mut self, serve: Serve, now: Timestamp) {
        let id = self.me.id;
        let result = match serve {
            Serve::Version(v) => match self.approved(v, now) {
                Some(approved) => {
                    self.d.counters.publications.fetch_add(1, Ordering::Relaxed);
                    let serial = approved.version().serial();
                    tracing::info!(
                        version = v.0,
                        serial = serial.0,
                        "Published zone {} version {} serial {}",
                        self.me.name,
                        v,
                        serial
                    );
                    self.show_steps(v);
                    self.d.directory.publish(id, approved)
                }
                None => {
                    tracing::error!(zone = %self.me.name, version = %v, "a version that is not verified was to be published; it is not");
                    return;
                }
            },
            Serve::NotReady => {
                let reason = if self.row.zone.source.expired {
                    EmptyReason::Expired
                } else if self.row.zone.live.is_some() {
                    EmptyReason::Restoring
                } else {
                    EmptyReason::NeverLoaded
                };
                self.d.directory.withdraw(id, Role::Publication, reason)
            }
            Serve::Gone => self
                .d
                .directory
                .withdraw(id, Role::Publication, EmptyReason::Withdrawn),
        };
        if let Err(e) = result {
            tracing::error!(zone = %self.me.name, "publication server: {e}");
        }
    }

    /// The only way of a version into the publication server.
    fn approved(
        &mut self,
        v: VersionId,
        now: Timestamp,
    ) -> Option<Approved<cascade_verifier::Verified<Arc<ZoneVersion>>>> {
        let by = self
            .row
            .reports
            .approved_by
            .clone()
            .unwrap_or_else(|| "policy".into());
        match self.versions.get(&v)? {
            Held::Verified(verified) => Some(Approved::new(
                verified.as_ref().clone(),
                Approval {
                    by,
                    at: now,
                    comment: None,
                },
            )),
            Held::Refused(refused) => {
                let live = self.row.zone.live.as_ref().filter(|l| l.version == v)?;
                let who = live.despite_verification.clone()?;
                let despite = DespiteVerification {
                    by: who,
                    reason: "override".into(),
                    at: now,
                };
                self.row.reports.despite = Some(despite.clone());
                Some(Approved::despite(refused.as_ref().clone(), despite))
            }
            Held::Signed(version) => self.judge_again(version.clone(), v, now),
            Held::Unsigned(_) => None,
        }
    }

    /// A published version whose file carried no verdict: the gate decides again.
    fn judge_again(
        &mut self,
        version: Arc<ZoneVersion>,
        v: VersionId,
        now: Timestamp,
    ) -> Option<Approved<cascade_verifier::Verified<Arc<ZoneVersion>>>> {
        let policy = self.policy()?;
        let keys = self.gate_keys(v, &version);
        let denial = self.denial_of(&version, &policy.file.policy);
        let input = jobs::VerifyInput {
            version,
            denial,
            before: None,
            approved: None,
            keys,
            policy: policy.file,
            live: None,
            highest: None,
            sample_seed: self.row.zone.seed,
        };
        let approval = Approval {
            by: "restored".into(),
            at: now,
            comment: None,
        };
        match jobs::verify(input, &self.d.pool, now) {
            Outcome::Verified(verified) => {
                self.versions
                    .insert(v, Held::Verified(Box::new(verified.clone())));
                Some(Approved::new(verified, approval))
            }
            Outcome::Refused(refused) => {
                tracing::error!(zone = %self.me.name, "{}", refused.report().text());
                let who = self.row.zone.live.as_ref()?.despite_verification.clone()?;
                let despite = DespiteVerification {
                    by: who,
                    reason: "override".into(),
                    at: now,
                };
                self.versions
                    .insert(v, Held::Refused(Box::new(refused.clone())));
                Some(Approved::despite(refused, despite))
            }
        }
    }

    /// The denial of existence that a version must have: the policy's, or, until that is built, the
    /// one that is live.
    pub(super) fn denial_of(&self, version: &ZoneVersion, p: &Policy) -> DenialPlan {
        let row = &self.row.zone;
        let live = row.live.as_ref();
        let unmet = live.filter(|l| l.signing != row.settings.signing);
        let kept = unmet
            .and_then(|l| self.version(l.version))
            .and_then(|v| super::beside::plan_of(v.denial()));
        kept.filter(|kept| super::beside::plan_of(version.denial()).as_ref() == Some(kept))
            .unwrap_or_else(|| jobs::denial(&p.signer.denial))
    }

    /// What the gate is told of the keys that this version was signed with.
    pub(super) fn gate_keys(&self, id: VersionId, version: &ZoneVersion) -> jobs::GateKeys {
        let row = &self.row.keys;
        if self.is_passed(id) {
            return jobs::GateKeys {
                passed: true,
                ..jobs::GateKeys::default()
            };
        }
        let apex = row.apexes.get(&id.0).cloned();
        let Some(apex) = apex.or_else(|| crate::keys::derived_apex(version, row)) else {
            // Without a DNSKEY RRset nothing passes anyway.
            return jobs::GateKeys::default();
        };
        let (own, foreign) = own_keys(row, &apex);
        jobs::GateKeys {
            own,
            foreign,
            parent: gate_parent(row, &apex),
            live_chain_broken: parent_breaks(row),
            delete_ds_ordered: apex.cds == cascade_keys::Cds::Delete,
            cds_alone: !apex.cdnskey && matches!(apex.cds, cascade_keys::Cds::Keys(_)),
            cached_algorithms: row.zone.cached_algorithms(self.d.now()),
            unsigned: apex.unsigned,
            passed: false,
        }
    }

    // ---- ends of jobs

    pub(super) async fn finished(&mut self, done: Done) {
        match done {
            Done::SourceSigned(version, records) => self.source_signed(version, records),
            Done::Loaded(job, version, outcome) => self.loaded(job, version, *outcome, None).await,
            Done::Fetched(job, version, fetched) => self.fetched(job, version, *fetched).await,
            Done::Guard(job, report) => {
                self.running.remove(&job);
                let outcome = report.outcome;
                let text = report.text();
                let data = serde_json::to_value(&report.findings).unwrap_or_default();
                if outcome != GuardOutcome::Pass {
                    tracing::warn!(zone = %self.me.name, "change guard: {text}");
                }
                self.apply(Event::GuardResult {
                    job,
                    outcome,
                    report: Report { text, data },
                })
                .await;
            }
            Done::Signed(job, version, result, with) => {
                self.signed(job, version, *result, with).await
            }
            Done::Verified(job, version, outcome) => self.verified(job, version, *outcome).await,
            Done::Persisted(job, version, result) => self.persisted(job, version, result).await,
            Done::PersistWhole(job, version) => self.persist_whole(job, version),
            Done::Synced(result) => self.journals_synced(result),
            Done::Exported(version, result) => self.exported(version, result),
            Done::Snapshotted(result) => self.snapshotted(result),
            Done::Content(job, version, c) => self.content_made(job, version, *c).await,
            Done::UpdatesBeside(source, end) => self.updates_beside(source, end),
            Done::Recalled(s, unsigned, result) => self.recalled(*s, unsigned, result),
            Done::Saved(Ok(())) => _ = self.save_row().await,
            Done::Saved(Err(e)) => {
                tracing::warn!(zone = %self.me.name, "the waiting candidate could not be kept for a restart: {e}");
            }
            Done::Hook(run, end) => {
                self.running.remove(&run);
                self.d.counters.hook_runs.fetch_add(1, Ordering::Relaxed);
                match end {
                    crate::hooks::End::Verdict(verdict) => {
                        self.apply(Event::HookDone { run, verdict }).await
                    }
                    crate::hooks::End::Failed(error) => {
                        self.apply(Event::HookFailed { run, error }).await
                    }
                }
            }
            Done::ReferralLate => self.referral_known(),
            Done::Swept(version, result) => self.swept(version, *result).await,
            Done::Recounted(version, result) => self.recounted(version, result).await,
            Done::Key(end) => self.key_done(*end).await,
            Done::Restored(r) => {
                self.restored(*r).await;
                self.ask_servers(0);
            }
            Done::ServersAsked(round, asked) => self.servers_asked(round, asked).await,
            Done::Removed(job, result) => {
                self.running.remove(&job);
                match result {
                    Ok(()) => self.apply(Event::RemoveDone { job }).await,
                    Err(error) => self.apply(Event::RemoveFailed { job, error }).await,
                }
            }
            Done::Panicked(job, error) => {
                self.running.remove(&job);
                self.persist_panicked(job);
                self.d.counters.panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(zone = %self.me.name, "internal fault in a job: {error}");
                if job == super::update::BESIDE {
                    return self.beside_panicked();
                }
                self.apply(Event::TaskPanicked { job, error }).await;
            }
        }
    }

    /// `expires_at`: when the content becomes too old if the source stays silent.
    pub(super) async fn loaded(
        &mut self,
        job: JobId,
        version: VersionId,
        outcome: LoadOutcome,
        expires_at: Option<Timestamp>,
    ) {
        if self.running.remove(&job).is_none() {
            // Cancelled meanwhile: nobody waits for it.
            return;
        }
        self.d.counters.loads.fetch_add(1, Ordering::Relaxed);
        match outcome {
            LoadOutcome::Unchanged {
                report: _,
                identity,
            } => {
                if let (Some(i), Some((_, old))) = (identity, &mut self.identity) {
                    *old = i;
                }
                self.row.reports.failed_load = None;
                self.note_beginning(version, None);
                self.apply(Event::LoadUnchanged { job, expires_at }).await;
            }
            LoadOutcome::Loaded {
                version: v,
                report,
                identity,
            } => {
                let v = Arc::new(*v);
                self.note_beginning(version, Some(v.full_fingerprint()));
                let loaded = Loaded {
                    content_fp: content_fp(&v),
                    source_serial: v.serial(),
                    origin: Origin::Source,
                    records: report.records,
                    octets: report.octets,
                    expires_at,
                    report: Report::text(report.summary()),
                };
                self.identity = identity.map(|i| (version, i));
                self.versions.insert(version, Held::Unsigned(v));
                self.row.reports.failed_load = None;
                self.row.reports.load = Some((version.0, report));
                self.apply(Event::LoadDone { job, loaded }).await;
            }
            LoadOutcome::Failed { report } => {
                self.d
                    .counters
                    .load_failures
                    .fetch_add(1, Ordering::Relaxed);
                let error = jobs::load_error(&report);
                tracing::warn!(zone = %self.me.name, "load failed: {error}");
                self.row.reports.failed_load = Some(Box::new(report));
                self.apply(Event::LoadFailed { job, error }).await;
            }
        }
    }

    async fn signed(
        &mut self,
        job: JobId,
        version: VersionId,
        result: Result<jobs::SignEnd, (Fault, String)>,
        with: Arc<crate::keys::Loaded>,
    ) {
        if self.running.remove(&job).is_none() {
            // Cancelled meanwhile: nobody waits for it.
            return;
        }
        match result {
            Ok(jobs::SignEnd::Nothing(next_due)) => {
                self.show_signing_before();
                self.apply(Event::SignNothing { job, next_due }).await;
            }
            Ok(jobs::SignEnd::Deferred { due, done, total }) => {
                self.show_signing_before();
                let deferred = Event::SignDeferred {
                    job,
                    next_due: due,
                    done,
                    total,
                };
                self.apply(deferred).await;
            }
            Ok(jobs::SignEnd::Signed {
                signed: done,
                due: next_due,
                unmet,
                note,
            }) => {
                let now = self.d.now();
                let v = Arc::new(done.version);
                if let Some(note) = note {
                    self.tell_of_serial(v.serial(), note, now);
                }
                let report = done.report;
                self.d
                    .counters
                    .signatures
                    .fetch_add(report.signatures, Ordering::Relaxed);
                let min_exp = match v.is_signed() {
                    true => v.earliest_expiration().unwrap_or(now),
                    false => now + NEVER,
                };
                let live = self.row.zone.live.as_ref().filter(|_| unmet);
                let signing = live.map_or(self.row.zone.settings.signing, |l| l.signing);
                let mut reviewed = v.content_fingerprint();
                reviewed.add(cascade_zone::Fingerprint(
                    u128::from(with.set.apex) << 64 | u128::from(signing),
                ));
                let signed = SignResult {
                    serial: v.serial(),
                    min_exp,
                    next_due,
                    reviewed_fp: fp(reviewed),
                    unmet,
                    report: Report::text(format!("{} signatures", report.signatures)),
                };
                if let Some(row) = &mut self.row.reports.sign {
                    row.version = version.0;
                    row.requested_at = report.requested_at;
                    row.error = None;
                    row.serial = Some(v.serial().0);
                    row.report = Some(report);
                }
                self.versions.insert(version, Held::Signed(v));
                self.row.keys.apexes.insert(version.0, with.apex.clone());
                self.apply(Event::SignDone { job, signed }).await;
            }
            Err((fault, error)) => {
                if let Some(row) = &mut self.row.reports.sign {
                    row.error = Some(error.clone());
                }
                self.apply(Event::SignFailed { job, fault, error }).await;
            }
        }
    }

    /// What is so of one version is so of those that follow: it is said once a day, not of each of them. A
    /// number that the source has to exceed is said each time.
    fn tell_of_serial(&mut self, serial: cascade_zone::Serial, note: SerialNote, now: Timestamp) {
        let told = (std::mem::discriminant(&note), now.secs().div_euclid(86_400));
        let anew = self.serial_told.replace(told) != Some(told);
        if anew || matches!(note, SerialNote::Bumped(_)) {
            tracing::warn!(zone = %self.me.name, serial = serial.0, "{note}");
        }
    }

    /// The one that ran came to no version: what is live was made by the one before.
    fn show_signing_before(&mut self) {
        if let Some(before) = self.sign_before.take() {
            self.row.reports.sign = Some(before);
        }
    }

    async fn verified(
        &mut self,
        job: JobId,
        version: VersionId,
        outcome: Outcome<Arc<ZoneVersion>>,
    ) {
        let started = match self.running.remove(&job) {
            Some(Running::Verify(at)) => at,
            _ => self.d.now(),
        };
        let now = self.d.now();
        let mut report = outcome.report().clone();
        report.duration_ms = Some(now.since(started).as_millis() as u64);
        self.d
            .counters
            .verified_signatures
            .fetch_add(report.counts.signatures_checked, Ordering::Relaxed);
        if report.engine_counts.mismatches > 0 {
            // Which of the two is wrong is not known; the version was decided by ring alone.
            tracing::error!(
                zone = %self.me.name,
                "verify-engine-mismatch: the table engine and ring disagreed on {} signatures; \
                 the engine is off until the daemon restarts; check this machine's memory and CPU",
                report.engine_counts.mismatches
            );
        }
        let text = Report::text(report.text());
        self.row.reports.set_verify(version, report.clone());
        let passed = matches!(outcome, Outcome::Verified(_));
        if report.mode == cascade_verifier::Mode::Full && passed {
            self.full_at = Some(now);
            self.row.reports.last_full_at = Some(now);
        }
        match outcome {
            Outcome::Verified(v) => {
                self.versions.insert(version, Held::Verified(Box::new(v)));
                self.apply(Event::VerifyPassed { job, report: text }).await;
            }
            Outcome::Refused(r) => {
                self.d
                    .counters
                    .verify_refused
                    .fetch_add(1, Ordering::Relaxed);
                tracing::error!(zone = %self.me.name, "verification refused version {version}: {}", report.text());
                let healable = healable(&report);
                self.versions.insert(version, Held::Refused(Box::new(r)));
                self.apply(Event::VerifyRefused {
                    job,
                    healable,
                    report: text,
                })
                .await;
            }
        }
    }
}

/// Signing anew may help where signatures or denial records are what is wrong.
fn healable(report: &cascade_verifier::VerifyReport) -> bool {
    use cascade_verifier::Check;
    let content = [Check::V01, Check::V02, Check::V08, Check::V11, Check::V19];
    !content.iter().any(|c| report.has(*c))
}

/// Stands for the content including the source's SOA: another source serial is another content.
fn content_fp(v: &ZoneVersion) -> cascade_pipeline::state::Fp {
    fp(v.full_fingerprint())
}
