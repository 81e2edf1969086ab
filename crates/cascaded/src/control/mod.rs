//! What the control API can ask of the daemon: the [`Backend`] of the HTTP side.

// A problem is made at most once per request, and only when it is refused.
#![allow(clippy::result_large_err)]

pub mod backup;
mod daemon;
mod data;
mod edit;
mod hsms;
mod inventory;
pub mod keyset;
mod operations;
mod plan;
mod policies;
mod rollback;
pub mod second;
mod tokens;
mod tsig;
mod update;
mod zones;

use std::sync::Arc;

use cascade_api::backup::{Backup, BackupCreate};
use cascade_api::common::{Accepted, Commented, Confirm, List, PageQuery, Stage};
use cascade_api::daemon::{
    ClockConfirmed, Health, Info, Logging, LoggingEdit, Operation, Status, StatusKeys,
};
use cascade_api::hsm::{
    Hsm, HsmAdd, HsmAdded, HsmBench, HsmBenched, HsmEdit, HsmInventory, HsmTest, HsmTested,
    TokenAdd, TokenAdded, TokenItem, TsigAdd, TsigAdded, TsigItem,
};
use cascade_api::keys::{
    EmergencyRequest, Key, KeyCheck, KeyFilter, KeyImport, KeyImported, KeyRecords,
    KeyRecordsQuery, KeyRemove, RecordKind, Roll, RollKind, RollStep, Timeline, TimelineQuery,
};
use cascade_api::policies::{
    Policy, PolicyCheck, PolicyCheckRequest, PolicyItem, PolicyPlan, PolicyPlanRequest,
    PolicyReload, PolicyReloaded,
};
use cascade_api::second::SecondRequest;
use cascade_api::status::{Pin, ZoneStatus};
use cascade_api::zones::{
    Diff, DiffQuery, ExportQuery, HistoryEntry, HistoryFilter, Maintenance, MaintenanceRequest,
    OverrideRequest, PinRequest, ReloadRequest, ResignRequest, ReviewDecision, RollbackRequest,
    UpdateRequest, Updated, Verdict, Version, Why, Zone, ZoneAdd, ZoneEdit, ZoneFilter, ZoneItem,
    ZoneRemove,
};
use cascade_api::{Problem, ProblemType, Route, RouteId};
use cascade_archive::{AuditEntry, Change};

use crate::daemon::Daemon;
use crate::http::{Backend, Caller, Deed, Done, Identity, Streamed};
use crate::steps::ConfirmError;
use crate::zone::ZoneHandle;

pub use operations::Operations;
pub use plan::Plan;
pub use tokens::Tokens;

type Answer<T> = Result<T, Problem>;

/// The daemon as the HTTP side sees it.
pub struct Control {
    pub d: Arc<Daemon>,
}

impl Control {
    fn zone(&self, name: &str) -> Answer<Arc<ZoneHandle>> {
        self.d.zone(name).ok_or_else(|| {
            let known = self.d.zones.read();
            Problem::zone_not_found(name, known.keys().map(String::as_str))
        })
    }

    /// Audits what a changing call came to.
    async fn audit<T>(
        &self,
        caller: &Caller,
        action: &str,
        subject: &str,
        comment: Option<String>,
        result: &Answer<T>,
    ) {
        let problem = result.as_ref().err();
        let entry = AuditEntry {
            actor: caller.actor.clone(),
            from: caller.from.clone(),
            action: action.into(),
            subject: subject.into(),
            request_digest: None,
            result: match problem {
                None => "ok".into(),
                Some(p) if p.status < 500 => "refused".into(),
                Some(_) => "failed".into(),
            },
            problem: problem.map(|p| p.kind.slug().to_string()),
            comment,
        };
        self.d.audit(entry).await;
    }
}

fn bug(e: impl std::fmt::Display) -> Problem {
    Problem::new(ProblemType::Bug, e.to_string())
}

impl Control {
    /// What looks at all zones: with very many of them, most of which are read from the state, that takes
    /// seconds, and nobody else's answer waits for it.
    async fn at_leisure<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Arc<Daemon>) -> T + Send + 'static,
    ) -> Answer<T> {
        let d = self.d.clone();
        let work = tokio::task::spawn_blocking(move || look(&d));
        work.await.map_err(bug)
    }
}

impl Backend for Control {
    async fn ready(&self) -> Result<(), String> {
        if self.d.ready.load(std::sync::atomic::Ordering::Acquire) {
            Ok(())
        } else {
            Err("starting".into())
        }
    }

    async fn metrics(&self) -> String {
        // One at a time: with very many zones a page is large.
        let _turn = self.d.metrics_turn.lock().await;
        let made = self.at_leisure(|d| crate::metrics::page(d)).await;
        made.unwrap_or_else(|e| {
            tracing::error!("the metrics page could not be made: {}", e.detail);
            String::new()
        })
    }

    async fn authenticate(&self, token: &str) -> Option<Identity> {
        tokens::authenticate(&self.d, token)
    }

    async fn zone_name(&self, zone: &str) -> Option<String> {
        self.d.zone(zone).map(|z| z.name.clone())
    }

    async fn refused(&self, caller: &Caller, route: &'static Route, path: &str, problem: &Problem) {
        let result: Answer<()> = Err(problem.clone());
        self.audit(caller, route.path, path, None, &result).await;
    }

    fn answered(&self, route: Option<&'static Route>, status: u16, _took: std::time::Duration) {
        let path = route.map_or("unknown", |r| r.path);
        *self
            .d
            .counters
            .http
            .lock()
            .entry((path, status))
            .or_default() += 1;
    }

    async fn info(&self) -> Answer<Info> {
        Ok(daemon::info(&self.d))
    }
    async fn status(&self) -> Answer<Status> {
        self.at_leisure(|d| daemon::status(d)).await
    }
    async fn status_keys(&self) -> Answer<StatusKeys> {
        self.at_leisure(|d| daemon::status_keys(d)).await
    }
    async fn health(&self, _deep: bool) -> Answer<Health> {
        self.at_leisure(|d| daemon::health(d)).await
    }

    async fn zone_list(&self, filter: ZoneFilter) -> Answer<List<ZoneItem>> {
        self.at_leisure(move |d| zones::list(d, &filter)).await
    }
    async fn zone_add(&self, caller: Caller, add: ZoneAdd, dry_run: bool) -> Answer<Zone> {
        let (subject, comment) = (add.zone.clone(), add.comment.clone());
        let result = zones::add(&self.d, &caller, add, dry_run).await;
        if !dry_run {
            self.audit(&caller, "zone.add", &subject, comment, &result)
                .await;
        }
        result
    }
    async fn zone_show(&self, zone: String) -> Answer<Zone> {
        Ok(zones::show(&self.d, &*self.zone(&zone)?))
    }
    async fn zone_edit(
        &self,
        caller: Caller,
        zone: String,
        edit: ZoneEdit,
        dry_run: bool,
    ) -> Answer<Done<Zone>> {
        let z = self.zone(&zone)?;
        let result = edit::edit(&self.d, &z, &caller, &edit, dry_run).await;
        if !dry_run {
            self.audit(&caller, "zone.edit", &z.name, edit.comment, &result)
                .await;
        }
        result
    }
    async fn zone_remove(&self, caller: Caller, zone: String, remove: ZoneRemove) -> Answer<()> {
        let z = self.zone(&zone)?;
        let result = zones::remove(&self.d, &z, &caller, &remove).await;
        self.audit(&caller, "zone.remove", &z.name, remove.comment, &result)
            .await;
        result
    }
    async fn zone_status(&self, zone: String) -> Answer<ZoneStatus> {
        Ok(crate::status::zone(&self.d, &*self.zone(&zone)?))
    }
    async fn zone_why(&self, zone: String) -> Answer<Why> {
        Ok(zones::why(&self.d, &*self.zone(&zone)?))
    }
    async fn zone_history(
        &self,
        zone: String,
        filter: HistoryFilter,
    ) -> Answer<List<HistoryEntry>> {
        zones::history(&self.d, self.zone(&zone)?.id, filter).await
    }
    async fn versions(&self, zone: String, page: PageQuery) -> Answer<List<Version>> {
        Ok(data::versions(&*self.zone(&zone)?, &page))
    }
    async fn version(&self, zone: String, version: String) -> Answer<Version> {
        let z = self.zone(&zone)?;
        let d = self.d.clone();
        tokio::task::spawn_blocking(move || data::version(&d, &z, &version))
            .await
            .map_err(bug)?
    }
    async fn zone_diff(&self, zone: String, query: DiffQuery) -> Answer<Diff> {
        let z = self.zone(&zone)?;
        let d = self.d.clone();
        tokio::task::spawn_blocking(move || data::diff(&d, &z, &query))
            .await
            .map_err(bug)?
    }
    async fn zone_export(&self, zone: String, query: ExportQuery) -> Answer<Streamed> {
        let z = self.zone(&zone)?;
        let d = self.d.clone();
        tokio::task::spawn_blocking(move || data::export(&d, &z, &query))
            .await
            .map_err(bug)?
    }
    async fn zone_reload(
        &self,
        caller: Caller,
        zone: String,
        request: ReloadRequest,
    ) -> Answer<Accepted> {
        let z = self.zone(&zone)?;
        let result = zones::reload(&self.d, &z, &caller, &request).await;
        self.audit(&caller, "zone.reload", &z.name, request.comment, &result)
            .await;
        result
    }
    async fn zone_update(
        &self,
        caller: Caller,
        zone: String,
        request: UpdateRequest,
        dry_run: bool,
    ) -> Answer<Updated> {
        let z = self.zone(&zone)?;
        if dry_run {
            let d = self.d.clone();
            return tokio::task::spawn_blocking(move || update::dry_run(&d, &z, &request))
                .await
                .map_err(bug)?;
        }
        let result = update::update(&z, &caller, &request).await;
        self.audit(&caller, "zone.update", &z.name, request.comment, &result)
            .await;
        result
    }
    async fn zone_resign(
        &self,
        caller: Caller,
        zone: String,
        request: ResignRequest,
    ) -> Answer<Accepted> {
        let z = self.zone(&zone)?;
        let result = zones::resign(&self.d, &z, &caller, &request).await;
        self.audit(&caller, "zone.resign", &z.name, request.comment, &result)
            .await;
        result
    }
    async fn zone_reset(
        &self,
        caller: Caller,
        zone: String,
        request: Commented,
    ) -> Answer<Accepted> {
        let z = self.zone(&zone)?;
        let result = zones::reset(&self.d, &z, &caller).await;
        self.audit(&caller, "zone.reset", &z.name, request.comment, &result)
            .await;
        result
    }
    async fn review(
        &self,
        caller: Caller,
        zone: String,
        stage: Stage,
        serial: u32,
        verdict: Verdict,
        comment: Option<String>,
    ) -> Answer<ReviewDecision> {
        let z = self.zone(&zone)?;
        let action = match verdict {
            Verdict::Approved => "zone.approve",
            Verdict::Rejected => "zone.reject",
        };
        let result = zones::review(
            &self.d,
            &z,
            &caller,
            stage,
            serial,
            verdict,
            comment.clone(),
        )
        .await;
        self.audit(
            &caller,
            action,
            &format!("{} {} {serial}", z.name, stage.as_str()),
            comment,
            &result,
        )
        .await;
        result
    }
    async fn review_override(
        &self,
        caller: Caller,
        zone: String,
        stage: Stage,
        request: OverrideRequest,
    ) -> Answer<Accepted> {
        let z = self.zone(&zone)?;
        let result = zones::override_review(&self.d, &z, &caller, stage, &request).await;
        self.audit(
            &caller,
            "zone.override",
            &format!("{} {}", z.name, stage.as_str()),
            request.comment,
            &result,
        )
        .await;
        result
    }
    async fn zone_rollback(
        &self,
        caller: Caller,
        zone: String,
        request: RollbackRequest,
        dry_run: bool,
    ) -> Answer<Accepted> {
        let z = self.zone(&zone)?;
        let result = rollback::rollback(&self.d, &z, &caller, &request, dry_run).await;
        if !dry_run {
            let subject = format!("{} {}", z.name, request.to);
            self.audit(&caller, "zone.rollback", &subject, request.comment, &result)
                .await;
        }
        result
    }
    async fn pin_on(&self, caller: Caller, zone: String, request: PinRequest) -> Answer<Pin> {
        let z = self.zone(&zone)?;
        let result = rollback::pin(&self.d, &z, &caller, &request).await;
        self.audit(&caller, "zone.pin", &z.name, request.comment, &result)
            .await;
        result
    }
    async fn pin_off(&self, caller: Caller, zone: String, comment: Option<String>) -> Answer<()> {
        let z = self.zone(&zone)?;
        let result = rollback::unpin(&z, &caller).await;
        self.audit(&caller, "zone.unpin", &z.name, comment, &result)
            .await;
        result
    }
    async fn maintenance_on(
        &self,
        caller: Caller,
        zone: String,
        request: MaintenanceRequest,
    ) -> Answer<Maintenance> {
        let z = self.zone(&zone)?;
        let result = zones::maintenance_on(&self.d, &z, &caller, &request).await;
        self.audit(
            &caller,
            "zone.maintenance.enable",
            &z.name,
            request.comment,
            &result,
        )
        .await;
        result
    }
    async fn maintenance_off(
        &self,
        caller: Caller,
        zone: String,
        comment: Option<String>,
    ) -> Answer<()> {
        let z = self.zone(&zone)?;
        let result = zones::maintenance_off(&z, &caller).await;
        self.audit(
            &caller,
            "zone.maintenance.disable",
            &z.name,
            comment,
            &result,
        )
        .await;
        result
    }

    async fn key_list(&self, zone: String, filter: KeyFilter) -> Answer<List<Key>> {
        Ok(data::keys(&self.d, &*self.zone(&zone)?, &filter))
    }
    async fn key_show(&self, zone: String, key: String) -> Answer<Key> {
        data::key(&self.d, &*self.zone(&zone)?, &key)
    }
    async fn key_records(
        &self,
        zone: String,
        kind: RecordKind,
        query: KeyRecordsQuery,
    ) -> Answer<KeyRecords> {
        data::key_records(&self.d, &*self.zone(&zone)?, kind, &query)
    }

    async fn roll_list(&self, zone: String, page: PageQuery) -> Answer<List<Roll>> {
        keyset::rolls(&self.d, &*self.zone(&zone)?, &page)
    }
    async fn roll_step(
        &self,
        caller: Caller,
        zone: String,
        kind: RollKind,
        step: String,
        request: RollStep,
    ) -> Answer<Roll> {
        let z = self.zone(&zone)?;
        let result = keyset::step(&self.d, &z, &caller, kind, &step, &request).await;
        let action = format!("roll.{}.{step}", cascade_api::word(&kind));
        self.audit(&caller, &action, &z.name, request.comment, &result)
            .await;
        result
    }
    async fn key_import(
        &self,
        caller: Caller,
        zone: String,
        request: KeyImport,
    ) -> Answer<KeyImported> {
        let z = self.zone(&zone)?;
        let result = keyset::import(&self.d, &z, &caller, &request).await;
        self.audit(&caller, "key.import", &z.name, request.comment, &result)
            .await;
        result
    }
    async fn key_check(&self, caller: Caller, zone: String) -> Answer<KeyCheck> {
        keyset::check(&self.d, &*self.zone(&zone)?, &caller).await
    }
    async fn key_remove(
        &self,
        caller: Caller,
        zone: String,
        key: String,
        request: KeyRemove,
    ) -> Answer<()> {
        let z = self.zone(&zone)?;
        let result = keyset::remove(&z, &caller, &key, &request).await;
        let subject = format!("{} {key}", z.name);
        self.audit(&caller, "key.remove", &subject, request.comment, &result)
            .await;
        result
    }
    async fn key_backed_up(
        &self,
        caller: Caller,
        zone: String,
        key: String,
        comment: Option<String>,
    ) -> Answer<Key> {
        let z = self.zone(&zone)?;
        let result = keyset::backed_up(&self.d, &z, &caller, &key).await;
        let subject = format!("{} {key}", z.name);
        self.audit(&caller, "key.backed-up", &subject, comment, &result)
            .await;
        result
    }
    async fn key_restore(
        &self,
        caller: Caller,
        zone: String,
        key: String,
        comment: Option<String>,
    ) -> Answer<Key> {
        let z = self.zone(&zone)?;
        let result = keyset::restore(&self.d, &z, &caller, &key).await;
        let subject = format!("{} {key}", z.name);
        self.audit(&caller, "key.restore", &subject, comment, &result)
            .await;
        result
    }
    async fn emergency(
        &self,
        caller: Caller,
        zone: String,
        request: EmergencyRequest,
    ) -> Answer<Roll> {
        let z = self.zone(&zone)?;
        let result = keyset::emergency(&self.d, &z, &caller, &request).await;
        self.audit(&caller, "key.emergency", &z.name, request.reason, &result)
            .await;
        result
    }
    async fn timeline(&self, zone: String, query: TimelineQuery) -> Answer<Timeline> {
        keyset::timeline(&self.d, &self.zone(&zone)?, &query).await
    }
    async fn policy_plan(&self, request: PolicyPlanRequest) -> Answer<PolicyPlan> {
        policies::plan(&self.d, &request).await
    }

    async fn policy_list(&self, page: PageQuery) -> Answer<List<PolicyItem>> {
        policies::list(&self.d, &page).await
    }
    async fn policy_show(&self, policy: String) -> Answer<Policy> {
        policies::show(&self.d, &policy).await
    }
    async fn policy_check(&self, request: PolicyCheckRequest) -> Answer<PolicyCheck> {
        policies::check(&self.d, request).await
    }
    async fn policy_reload(
        &self,
        caller: Caller,
        request: PolicyReload,
        dry_run: bool,
    ) -> Answer<PolicyReloaded> {
        let result = crate::policies::reload(&self.d, &caller, &request, dry_run).await;
        if !dry_run {
            self.audit(
                &caller,
                "policy.reload",
                "policies",
                request.comment,
                &result,
            )
            .await;
        }
        result
    }

    fn two_person(&self, route: RouteId) -> Option<String> {
        let verb = second::verb(route).filter(|_| second::is_needed(&self.d, route));
        verb.map(|v| v.as_str().to_owned())
    }
    async fn second_list(&self, page: PageQuery) -> Answer<List<SecondRequest>> {
        let d = self.d.clone();
        tokio::task::spawn_blocking(move || second::list(&d, &page))
            .await
            .map_err(bug)?
    }
    async fn second_add(
        &self,
        caller: Caller,
        deed: Deed,
        effects: Vec<String>,
    ) -> Answer<SecondRequest> {
        let (d, c, comment) = (self.d.clone(), caller.clone(), deed.comment.clone());
        let result = tokio::task::spawn_blocking(move || second::add(&d, &c, deed, effects))
            .await
            .map_err(bug)?;
        let id = result.as_ref().map_or("", |r| r.id.as_str());
        self.audit(&caller, "request.add", id, comment, &result)
            .await;
        result
    }
    async fn second_approve(
        &self,
        caller: Caller,
        id: String,
        comment: Option<String>,
    ) -> Answer<(Deed, Caller)> {
        let (d, c, i) = (self.d.clone(), caller.clone(), id.clone());
        let result = tokio::task::spawn_blocking(move || second::take(&d, &c, &i, false))
            .await
            .map_err(bug)?;
        self.audit(&caller, "request.approve", &id, comment, &result)
            .await;
        result.map(|(_, deed, first)| (deed, first))
    }
    async fn second_reject(
        &self,
        caller: Caller,
        id: String,
        comment: Option<String>,
    ) -> Answer<SecondRequest> {
        let (d, c, i) = (self.d.clone(), caller.clone(), id.clone());
        // One's own may be taken back.
        let result = tokio::task::spawn_blocking(move || second::take(&d, &c, &i, true))
            .await
            .map_err(bug)?;
        self.audit(&caller, "request.reject", &id, comment, &result)
            .await;
        result.map(|(request, ..)| request)
    }

    async fn clock_confirm(
        &self,
        caller: Caller,
        comment: Option<String>,
    ) -> Answer<ClockConfirmed> {
        let result = match crate::steps::confirm(&self.d).await {
            Ok(Some((hold, zones))) => Ok(ClockConfirmed {
                stepped_secs: hold.ahead,
                held_since: hold.since,
                now: self.d.now(),
                zones,
            }),
            Ok(None) => Err(Problem::new(
                ProblemType::ClockTrusted,
                "the clock is trusted; there is nothing to confirm",
            )
            .state("nothing changed")),
            Err(ConfirmError::Unsynchronised(why)) => {
                Err(Problem::new(ProblemType::ClockHeld, why).state("nothing changed"))
            }
            Err(ConfirmError::Storage(e)) => Err(Problem::new(ProblemType::StorageFull, e)
                .state("the zones go on, and are held again after a restart")),
        };
        self.audit(&caller, "clock.confirm", "clock", comment, &result)
            .await;
        result
    }
    async fn logging(&self) -> Answer<Logging> {
        Ok(self.d.logging.current())
    }
    async fn logging_edit(&self, caller: Caller, edit: LoggingEdit) -> Answer<Logging> {
        let result = self
            .d
            .logging
            .change(&edit, self.d.now())
            .map_err(|e| Problem::new(ProblemType::InvalidValue, e));
        self.audit(&caller, "logging.change", "logging", edit.comment, &result)
            .await;
        result
    }
    async fn hsm_list(&self, page: PageQuery) -> Answer<List<Hsm>> {
        Ok(hsms::list(&self.d, &page))
    }
    async fn hsm_show(&self, hsm: String) -> Answer<Hsm> {
        hsms::show(&self.d, &hsm)
    }
    async fn hsm_add(&self, caller: Caller, add: HsmAdd, dry_run: bool) -> Answer<HsmAdded> {
        let (subject, comment) = (add.hsm.clone(), add.comment.clone());
        let result = match hsms::may_manage(&caller, add.managed.as_ref()) {
            Ok(()) => hsms::add(&self.d, add, dry_run).await,
            Err(refusal) => Err(refusal),
        };
        if !dry_run {
            self.audit(&caller, "hsm.add", &subject, comment, &result)
                .await;
        }
        result
    }
    async fn hsm_edit(
        &self,
        caller: Caller,
        hsm: String,
        edit: HsmEdit,
        dry_run: bool,
    ) -> Answer<Hsm> {
        let comment = edit.comment.clone();
        let result = match hsms::may_manage(&caller, edit.managed.as_ref()) {
            Ok(()) => hsms::edit(&self.d, &hsm, edit, dry_run).await,
            Err(refusal) => Err(refusal),
        };
        if !dry_run {
            self.audit(&caller, "hsm.edit", &hsm, comment, &result)
                .await;
        }
        result
    }
    async fn hsm_remove(
        &self,
        caller: Caller,
        hsm: String,
        confirm: Confirm,
        dry_run: bool,
    ) -> Answer<()> {
        let result = hsms::remove(&self.d, &hsm, &confirm, dry_run).await;
        if !dry_run {
            self.audit(&caller, "hsm.remove", &hsm, confirm.comment, &result)
                .await;
        }
        result
    }
    async fn hsm_test(&self, caller: Caller, hsm: String, test: HsmTest) -> Answer<HsmTested> {
        let (write, comment) = (test.write, test.comment.clone());
        let result = hsms::test(&self.d, &caller, &hsm, test).await;
        if write || result.as_ref().is_ok_and(|t| t.released) {
            self.audit(&caller, "hsm.test", &hsm, comment, &result)
                .await;
        }
        result
    }
    async fn hsm_bench(&self, caller: Caller, hsm: String, bench: HsmBench) -> Answer<HsmBenched> {
        let comment = bench.comment.clone();
        let result = hsms::bench(&self.d, &hsm, bench).await;
        self.audit(&caller, "hsm.bench", &hsm, comment, &result)
            .await;
        result
    }
    async fn hsm_inventory(&self, hsm: String) -> Answer<HsmInventory> {
        inventory::inventory(&self.d, &hsm).await
    }
    async fn hsm_orphan(
        &self,
        caller: Caller,
        hsm: String,
        object: String,
        confirm: Confirm,
    ) -> Answer<()> {
        let result = inventory::destroy_orphan(&self.d, &hsm, &object, &confirm).await;
        let subject = format!("{hsm} {object}");
        self.audit(
            &caller,
            "hsm.destroy-orphan",
            &subject,
            confirm.comment,
            &result,
        )
        .await;
        result
    }
    async fn tsig_list(&self, page: PageQuery) -> Answer<List<TsigItem>> {
        Ok(tsig::list(&self.d, &page))
    }
    async fn tsig_add(&self, caller: Caller, add: TsigAdd) -> Answer<TsigAdded> {
        let result = tsig::add(&self.d, &add).await;
        let action = if add.generate {
            "tsig.generate"
        } else {
            "tsig.add"
        };
        self.audit(&caller, action, &add.name, add.comment, &result)
            .await;
        result
    }
    async fn tsig_remove(
        &self,
        caller: Caller,
        name: String,
        comment: Option<String>,
    ) -> Answer<()> {
        let result = tsig::remove(&self.d, &name).await;
        self.audit(&caller, "tsig.remove", &name, comment, &result)
            .await;
        result
    }
    async fn token_list(&self, page: PageQuery) -> Answer<List<TokenItem>> {
        Ok(tokens::list(&self.d, &page))
    }
    async fn token_add(&self, caller: Caller, add: TokenAdd) -> Answer<TokenAdded> {
        let result = tokens::add(&self.d, &add).await;
        self.audit(&caller, "token.add", &add.name, add.comment, &result)
            .await;
        result
    }
    async fn token_remove(
        &self,
        caller: Caller,
        name: String,
        comment: Option<String>,
    ) -> Answer<()> {
        let result = tokens::remove(&self.d, &name).await;
        self.audit(&caller, "token.remove", &name, comment, &result)
            .await;
        result
    }

    async fn backup_create(&self, caller: Caller, request: BackupCreate) -> Answer<Backup> {
        let result = backup::make(&self.d, &request).await;
        let subject = match &result {
            Ok(made) => made.path.clone(),
            Err(_) => request.name.clone().unwrap_or_default(),
        };
        self.audit(&caller, "backup.create", &subject, request.comment, &result)
            .await;
        result
    }

    async fn operation_list(&self, page: PageQuery) -> Answer<List<Operation>> {
        operations::list(&self.d, &page).await
    }
    async fn operation(&self, id: String) -> Answer<Operation> {
        operations::show(&self.d, &id).await
    }
}

/// Durable when it returns.
async fn commit(d: &Arc<Daemon>, changes: Vec<Change>) -> Answer<()> {
    d.commit(changes)
        .await
        .map_err(|e| Problem::new(ProblemType::StorageFull, e.to_string()))
}

/// What a call that needs consent answers without it. A plan that was agreed to holds only as long
/// as it is still the plan.
pub fn need_consent(given: &Confirm, plan: &str, effects: Vec<String>) -> Answer<()> {
    match &given.confirm {
        Some(agreed) if agreed == plan => Ok(()),
        Some(agreed) => Err(Problem::new(
            ProblemType::PlanOutdated,
            format!("plan {agreed} is out of date: something has changed since; now it is {plan}"),
        )
        .action("look at the plan again, and confirm the new one")
        .plan(plan, effects)),
        None if given.yes => Ok(()),
        None => Err(
            Problem::new(ProblemType::ConfirmationRequired, "this needs your consent")
                .plan(plan, effects),
        ),
    }
}
