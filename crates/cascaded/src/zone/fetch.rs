//! Zones whose content comes from servers: the load as a transfer, and the timers of the source.

use std::sync::Arc;

use cascade_api::zones::{Source, SourceServer};
use cascade_loader::Outcome as LoadOutcome;
use cascade_loader::xfr::{ReadOptions, Refresh, RefreshLimits};
use cascade_pipeline::Event;
use cascade_pipeline::state::{Candidate, JobId, Trigger};
use cascade_policy as policy;
use cascade_time::Timestamp;
use cascade_zone::{SoaFields, VersionId, ZoneVersion};

use super::actor::{Actor, Done, Running};
use super::jobs;
use crate::daemon::random;
use crate::transfer::{Failed, Fetch, Fetched, fetch, primaries};

/// What a zone remembers of its primaries; none of it outlives the process except the time of
/// expiry, which the pipeline keeps.
#[derive(Debug, Default)]
pub(super) struct Primaries {
    pub refresh: Refresh,
    failed_ixfr: Option<Failed>,
    /// The newest whole transfer had no ZONEMD record.
    no_zonemd: bool,
    /// The version that the newest transfer made.
    newest: Option<VersionId>,
}

impl Primaries {
    /// Of a zone that an earlier process left.
    pub fn restored(expires_at: Option<Timestamp>, now: Timestamp) -> Primaries {
        Primaries {
            refresh: Refresh::restored(expires_at, now),
            ..Primaries::default()
        }
    }
}

impl Actor {
    /// True while primaries are to be asked; a zone that is being removed has none any more.
    fn has_primaries(&self) -> bool {
        matches!(self.row.source, Source::Servers { .. })
            && !matches!(self.row.zone.candidate, Candidate::Removing { .. })
    }

    /// For a zone at rest whose content comes from servers.
    pub(super) fn primaries_to_keep(&mut self) -> Option<Box<Primaries>> {
        let has = self.has_primaries();
        has.then(|| Box::new(std::mem::take(&mut self.primaries)))
    }

    /// The source is another one: nothing known of the old one counts.
    pub(super) fn source_changed(&mut self) {
        self.primaries = Primaries::default();
        self.identity = None;
        self.updates_source_changed();
        if let (Some(policy), Some(entry)) = (self.policy(), self.d.directory.by_id(self.me.id)) {
            entry.set_settings(crate::servers::zone_settings(
                &policy.file.policy,
                &self.row.source,
            ));
        }
    }

    /// When the source wants something although nothing happens.
    pub(super) fn source_deadline(&self) -> Option<Timestamp> {
        if !self.has_primaries() {
            return None;
        }
        let expiry = self
            .primaries
            .refresh
            .expiry_counts_at()
            .filter(|_| !self.row.zone.source.expired);
        [self.primaries.refresh.next_attempt(), expiry]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) async fn source_due(&mut self, now: Timestamp) {
        if !self.has_primaries() {
            return;
        }
        if !self.row.zone.source.expired && self.primaries.refresh.is_expired(now) {
            self.apply(Event::SourceExpired).await;
        }
        if self
            .primaries
            .refresh
            .next_attempt()
            .is_some_and(|at| at <= now)
        {
            self.primaries.refresh.begun();
            self.apply(Event::SourceSignal(Trigger::Timer)).await;
        }
    }

    /// When the next attempt is made, for the status.
    pub(super) fn next_attempt(&self) -> Option<Timestamp> {
        let own = self.row.zone.source.retry_at;
        let timer = self
            .primaries
            .refresh
            .next_attempt()
            .filter(|_| self.has_primaries());
        own.into_iter().chain(timer).min()
    }

    /// The newest unsigned version at hand: the last one transferred, a candidate, or what is live.
    fn newest_content(&self) -> Option<Arc<ZoneVersion>> {
        let z = &self.row.zone;
        [
            self.primaries.newest,
            z.candidate.cand().map(|c| c.version),
            z.live.as_ref().map(|l| l.of),
        ]
        .into_iter()
        .flatten()
        .find_map(|v| self.versions.get(&v))
        .map(|h| h.version().clone())
        .filter(|v| !v.is_signed())
    }

    pub(super) fn start_fetch(
        &mut self,
        servers: &[SourceServer],
        job: JobId,
        version: VersionId,
        forced: bool,
        now: Timestamp,
    ) {
        self.primaries.refresh.begun();
        let conf = self.d.conf();
        let ca = conf.config.loader.tls.ca_path.as_ref();
        let list = primaries(servers, &self.d.tsig.keys(), ca.map(|p| p.as_std_path()));
        let policy = self.policy();
        let (list, policy) = match (list, policy) {
            (Ok(list), Some(policy)) => (list, policy),
            (Err(error), _) => return self.fetch_impossible(job, error),
            (_, None) => {
                return self.fetch_impossible(job, "the zone's policy is not loaded".into());
            }
        };
        let loader = &policy.file.policy.loader;
        let fetch_job = Fetch {
            primaries: list,
            apex: self.me.apex.clone(),
            zone: self.me.id,
            version,
            current: self.newest_content(),
            // Set when a load from this source succeeded, cleared when the source changes.
            same_source: self.row.zone.source.last_ok.is_some(),
            forced,
            checks: jobs::checks(&loader.checks),
            read: ReadOptions {
                strip: true,
                max_ttl: jobs::max_ttl(&policy.file.policy),
                max_size: loader.max_size.0,
                max_records: loader.max_records,
                zonemd: jobs::zonemd_check(loader.zonemd),
            },
            trigger: self.trigger(forced),
            failed_ixfr: self.primaries.failed_ixfr,
            no_zonemd: self.primaries.no_zonemd,
        };
        let progress = Arc::new(cascade_loader::Progress::default());
        let (d, done, p) = (self.d.clone(), self.done.clone(), progress.clone());
        let work = tokio::spawn(async move { fetch(fetch_job, &d, &p).await });
        let abort = work.abort_handle();
        self.running
            .insert(job, Running::Fetch(progress, now, abort));
        tokio::spawn(async move {
            let result = match work.await {
                Ok(fetched) => Done::Fetched(job, version, Box::new(fetched)),
                // Nobody waits for it any more.
                Err(e) if e.is_cancelled() => return,
                Err(e) => Done::Panicked(job, e.to_string()),
            };
            let _ = done.send(result);
        });
    }

    /// Only the operator can help, but the key or policy may come any time.
    fn fetch_impossible(&mut self, job: JobId, error: String) {
        let now = self.d.now();
        self.source_failed(now);
        self.later(Event::LoadFailed { job, error });
    }

    fn trigger(&self, forced: bool) -> &'static str {
        let trigger = match &self.row.zone.candidate {
            Candidate::Loading(l) => Some(&l.trigger),
            _ => None,
        };
        match trigger {
            Some(Trigger::Added) => "added",
            Some(Trigger::Notify) => "NOTIFY",
            Some(Trigger::Timer) => "timer",
            Some(Trigger::Restart) => "restart",
            Some(Trigger::Retry) => "retry",
            Some(Trigger::File) => "file",
            Some(Trigger::Update) => "update",
            Some(Trigger::Person(_)) | None if forced => "forced",
            Some(Trigger::Person(_)) | None => "reload",
        }
    }

    /// Sets the timers, then treats the outcome as that of any load.
    pub(super) async fn fetched(&mut self, job: JobId, version: VersionId, fetched: Fetched) {
        if !self.running.contains_key(&job) {
            return;
        }
        let now = self.d.now();
        self.primaries.failed_ixfr = fetched.failed_ixfr;
        self.primaries.no_zonemd = fetched.no_zonemd;
        let soa = match &fetched.outcome {
            LoadOutcome::Loaded { version: v, .. } => {
                self.primaries.newest = Some(version);
                v.soa_fields()
            }
            LoadOutcome::Unchanged { .. } => self.newest_content().and_then(|v| v.soa_fields()),
            LoadOutcome::Failed { .. } => None,
        };
        match &fetched.outcome {
            LoadOutcome::Failed { .. } => self.source_failed(now),
            _ => self.source_confirmed(soa, fetched.expire, now),
        }
        let expires_at = self.primaries.refresh.expires_at();
        self.loaded(job, version, fetched.outcome, expires_at).await;
    }

    fn source_confirmed(&mut self, soa: Option<SoaFields>, expire: Option<u32>, now: Timestamp) {
        // A version without SOA is never made.
        let Some(soa) = soa else { return };
        let (limits, draw) = (self.refresh_limits(), u64::from_le_bytes(random()));
        let refresh = &mut self.primaries.refresh;
        refresh.succeeded(&soa, expire, &limits, draw, now);
    }

    fn source_failed(&mut self, now: Timestamp) {
        let soa = self.newest_content().and_then(|v| v.soa_fields());
        if soa.is_none() && self.row.zone.source.expires_at.is_none() {
            // A first transfer: the pipeline asks again by its own pauses.
            return;
        }
        let (limits, draw) = (self.refresh_limits(), u64::from_le_bytes(random()));
        let refresh = &mut self.primaries.refresh;
        refresh.failed(soa.as_ref(), &limits, draw, now);
    }

    fn refresh_limits(&self) -> RefreshLimits {
        self.policy()
            .map_or_else(RefreshLimits::default, |p| limits(&p.file.policy))
    }
}

fn limits(p: &policy::Policy) -> RefreshLimits {
    RefreshLimits {
        refresh_min: p.loader.refresh_min,
        refresh_max: p.loader.refresh_max,
        retry_min: p.loader.retry_min,
    }
}
