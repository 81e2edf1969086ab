//! What the HTTP side asks of the daemon: one function per route, typed request to typed answer.
//!
//! Transport, roles, limits and the shape of errors are settled before a function is called; it
//! answers with the document or with a [`Problem`]. "zone" is a name in presentation form, lower
//! case, without final dot (`.` is the root), or `id:<zone id>`; it has not been checked.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
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
use cascade_api::{Problem, ProblemType, Roles, Route, RouteId};
use tokio::sync::mpsc;

/// Who calls, as far as the transport could tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// For the audit log: `uid:1000(alice)`, `token:ops1`, `anonymous`.
    pub actor: String,
    /// `unix` or the peer's address.
    pub from: String,
    pub roles: Roles,
    /// Of a token for some zones only: a pattern of their names.
    pub zones: Option<String>,
    pub second: Second,
}

/// Whether somebody else has to agree to a call (`remote-control.two-person`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Second {
    #[default]
    NotNeeded,
    Needed,
    Given,
}

/// A call as it is kept for a second person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    pub verb: String,
    pub zone: Option<String>,
    pub method: String,
    /// Path and query.
    pub target: String,
    pub body: String,
    pub comment: Option<String>,
}

/// The bearer of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub roles: Roles,
    pub zones: Option<String>,
}

/// An answer that is not one JSON document: sent piece by piece, the sender waits for the reader.
/// A piece that is `Err` cuts the connection, so that half a zone is not taken for a whole one.
#[derive(Debug)]
pub struct Streamed {
    pub content_type: &'static str,
    pub pieces: mpsc::Receiver<Result<Bytes, std::io::Error>>,
}

/// The answer of a call that may be done at once or later.
#[derive(Debug)]
pub enum Done<T> {
    /// 200, or 201 where something was made.
    Now(T),
    /// 202; names the operation that goes on.
    Later(T, String),
}

type Answer<T> = Result<T, Problem>;

/// The daemon as the control API sees it. Functions with a body belong to parts that a daemon may
/// lack; they answer `no-such-route`.
pub trait Backend: Send + Sync + 'static {
    /// Not ready: says what is missing.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;
    /// Prometheus text format.
    fn metrics(&self) -> impl Future<Output = String> + Send;

    /// The caller with this bearer token.
    fn authenticate(&self, _token: &str) -> impl Future<Output = Option<Identity>> + Send {
        async { None }
    }
    /// The name of a zone that is known, also of `id:…`.
    fn zone_name(&self, _zone: &str) -> impl Future<Output = Option<String>> + Send {
        async { None }
    }
    /// A changing call was refused before it came to its function; for the audit log.
    fn refused(
        &self,
        _caller: &Caller,
        _route: &'static Route,
        _path: &str,
        _problem: &Problem,
    ) -> impl Future<Output = ()> + Send {
        async {}
    }
    /// After every answer; for metrics. `route` is `None` for unknown paths.
    fn answered(&self, _route: Option<&'static Route>, _status: u16, _took: Duration) {}
    /// A function panicked; returns the id under which the log has it.
    fn panicked(&self, route: &'static Route, request_id: &str) {
        tracing::error!(
            route = route.path,
            request = request_id,
            "a control call panicked"
        );
    }

    fn info(&self) -> impl Future<Output = Answer<Info>> + Send;
    fn status(&self) -> impl Future<Output = Answer<Status>> + Send;
    fn status_keys(&self) -> impl Future<Output = Answer<StatusKeys>> + Send;
    fn health(&self, deep: bool) -> impl Future<Output = Answer<Health>> + Send;

    fn zone_list(&self, filter: ZoneFilter) -> impl Future<Output = Answer<List<ZoneItem>>> + Send;
    fn zone_add(
        &self,
        caller: Caller,
        add: ZoneAdd,
        dry_run: bool,
    ) -> impl Future<Output = Answer<Zone>> + Send;
    fn zone_show(&self, zone: String) -> impl Future<Output = Answer<Zone>> + Send;
    fn zone_edit(
        &self,
        _caller: Caller,
        _zone: String,
        _edit: ZoneEdit,
        _dry_run: bool,
    ) -> impl Future<Output = Answer<Done<Zone>>> + Send {
        absent()
    }
    fn zone_remove(
        &self,
        caller: Caller,
        zone: String,
        remove: ZoneRemove,
    ) -> impl Future<Output = Answer<()>> + Send;
    fn zone_status(&self, zone: String) -> impl Future<Output = Answer<ZoneStatus>> + Send;
    fn zone_why(&self, zone: String) -> impl Future<Output = Answer<Why>> + Send;
    fn zone_history(
        &self,
        zone: String,
        filter: HistoryFilter,
    ) -> impl Future<Output = Answer<List<HistoryEntry>>> + Send;
    fn versions(
        &self,
        _zone: String,
        _page: PageQuery,
    ) -> impl Future<Output = Answer<List<Version>>> + Send {
        absent()
    }
    fn version(
        &self,
        _zone: String,
        _version: String,
    ) -> impl Future<Output = Answer<Version>> + Send {
        absent()
    }
    fn zone_diff(
        &self,
        _zone: String,
        _query: DiffQuery,
    ) -> impl Future<Output = Answer<Diff>> + Send {
        absent()
    }
    fn zone_export(
        &self,
        _zone: String,
        _query: ExportQuery,
    ) -> impl Future<Output = Answer<Streamed>> + Send {
        absent()
    }
    fn zone_reload(
        &self,
        caller: Caller,
        zone: String,
        request: ReloadRequest,
    ) -> impl Future<Output = Answer<Accepted>> + Send;
    fn zone_update(
        &self,
        _caller: Caller,
        _zone: String,
        _request: UpdateRequest,
        _dry_run: bool,
    ) -> impl Future<Output = Answer<Updated>> + Send {
        absent()
    }
    fn zone_resign(
        &self,
        caller: Caller,
        zone: String,
        request: ResignRequest,
    ) -> impl Future<Output = Answer<Accepted>> + Send;
    fn zone_reset(
        &self,
        caller: Caller,
        zone: String,
        request: Commented,
    ) -> impl Future<Output = Answer<Accepted>> + Send;
    fn review(
        &self,
        caller: Caller,
        zone: String,
        stage: Stage,
        serial: u32,
        verdict: Verdict,
        comment: Option<String>,
    ) -> impl Future<Output = Answer<ReviewDecision>> + Send;
    fn review_override(
        &self,
        caller: Caller,
        zone: String,
        stage: Stage,
        request: OverrideRequest,
    ) -> impl Future<Output = Answer<Accepted>> + Send;
    fn zone_rollback(
        &self,
        caller: Caller,
        zone: String,
        request: RollbackRequest,
        dry_run: bool,
    ) -> impl Future<Output = Answer<Accepted>> + Send;
    fn pin_on(
        &self,
        caller: Caller,
        zone: String,
        request: PinRequest,
    ) -> impl Future<Output = Answer<Pin>> + Send;
    fn pin_off(
        &self,
        caller: Caller,
        zone: String,
        comment: Option<String>,
    ) -> impl Future<Output = Answer<()>> + Send;
    fn maintenance_on(
        &self,
        caller: Caller,
        zone: String,
        request: MaintenanceRequest,
    ) -> impl Future<Output = Answer<Maintenance>> + Send;
    fn maintenance_off(
        &self,
        caller: Caller,
        zone: String,
        comment: Option<String>,
    ) -> impl Future<Output = Answer<()>> + Send;

    fn key_list(
        &self,
        zone: String,
        filter: KeyFilter,
    ) -> impl Future<Output = Answer<List<Key>>> + Send;
    /// `key`: id, tag if unique, or reference.
    fn key_show(&self, zone: String, key: String) -> impl Future<Output = Answer<Key>> + Send;
    fn key_records(
        &self,
        zone: String,
        kind: RecordKind,
        query: KeyRecordsQuery,
    ) -> impl Future<Output = Answer<KeyRecords>> + Send;
    fn roll_list(
        &self,
        _zone: String,
        _page: PageQuery,
    ) -> impl Future<Output = Answer<List<Roll>>> + Send {
        absent()
    }
    fn roll_step(
        &self,
        _caller: Caller,
        _zone: String,
        _kind: RollKind,
        _step: String,
        _request: RollStep,
    ) -> impl Future<Output = Answer<Roll>> + Send {
        absent()
    }

    fn key_import(
        &self,
        _caller: Caller,
        _zone: String,
        _request: KeyImport,
    ) -> impl Future<Output = Answer<KeyImported>> + Send {
        absent()
    }
    fn key_check(
        &self,
        _caller: Caller,
        _zone: String,
    ) -> impl Future<Output = Answer<KeyCheck>> + Send {
        absent()
    }
    fn key_remove(
        &self,
        _caller: Caller,
        _zone: String,
        _key: String,
        _request: KeyRemove,
    ) -> impl Future<Output = Answer<()>> + Send {
        absent()
    }
    fn key_backed_up(
        &self,
        _caller: Caller,
        _zone: String,
        _key: String,
        _comment: Option<String>,
    ) -> impl Future<Output = Answer<Key>> + Send {
        absent()
    }
    fn key_restore(
        &self,
        _caller: Caller,
        _zone: String,
        _key: String,
        _comment: Option<String>,
    ) -> impl Future<Output = Answer<Key>> + Send {
        absent()
    }
    fn emergency(
        &self,
        _caller: Caller,
        _zone: String,
        _request: EmergencyRequest,
    ) -> impl Future<Output = Answer<Roll>> + Send {
        absent()
    }
    fn timeline(
        &self,
        _zone: String,
        _query: TimelineQuery,
    ) -> impl Future<Output = Answer<Timeline>> + Send {
        absent()
    }
    fn policy_plan(
        &self,
        _request: PolicyPlanRequest,
    ) -> impl Future<Output = Answer<PolicyPlan>> + Send {
        absent()
    }

    fn policy_list(&self, page: PageQuery)
    -> impl Future<Output = Answer<List<PolicyItem>>> + Send;
    fn policy_show(&self, policy: String) -> impl Future<Output = Answer<Policy>> + Send;
    fn policy_check(
        &self,
        request: PolicyCheckRequest,
    ) -> impl Future<Output = Answer<PolicyCheck>> + Send;
    fn policy_reload(
        &self,
        caller: Caller,
        request: PolicyReload,
        dry_run: bool,
    ) -> impl Future<Output = Answer<PolicyReloaded>> + Send;

    fn hsm_list(&self, _page: PageQuery) -> impl Future<Output = Answer<List<Hsm>>> + Send {
        absent()
    }
    fn hsm_show(&self, _hsm: String) -> impl Future<Output = Answer<Hsm>> + Send {
        absent()
    }
    fn hsm_add(
        &self,
        _caller: Caller,
        _add: HsmAdd,
        _dry_run: bool,
    ) -> impl Future<Output = Answer<HsmAdded>> + Send {
        absent()
    }
    fn hsm_edit(
        &self,
        _caller: Caller,
        _hsm: String,
        _edit: HsmEdit,
        _dry_run: bool,
    ) -> impl Future<Output = Answer<Hsm>> + Send {
        absent()
    }
    fn hsm_test(
        &self,
        _caller: Caller,
        _hsm: String,
        _test: HsmTest,
    ) -> impl Future<Output = Answer<HsmTested>> + Send {
        absent()
    }
    fn hsm_bench(
        &self,
        _caller: Caller,
        _hsm: String,
        _bench: HsmBench,
    ) -> impl Future<Output = Answer<HsmBenched>> + Send {
        absent()
    }
    fn hsm_inventory(&self, _hsm: String) -> impl Future<Output = Answer<HsmInventory>> + Send {
        absent()
    }
    fn hsm_orphan(
        &self,
        _caller: Caller,
        _hsm: String,
        _object: String,
        _confirm: Confirm,
    ) -> impl Future<Output = Answer<()>> + Send {
        absent()
    }
    fn hsm_remove(
        &self,
        _caller: Caller,
        _hsm: String,
        _confirm: Confirm,
        _dry_run: bool,
    ) -> impl Future<Output = Answer<()>> + Send {
        absent()
    }
    fn tsig_list(&self, _page: PageQuery) -> impl Future<Output = Answer<List<TsigItem>>> + Send {
        absent()
    }
    fn tsig_add(
        &self,
        _caller: Caller,
        _add: TsigAdd,
    ) -> impl Future<Output = Answer<TsigAdded>> + Send {
        absent()
    }
    fn tsig_remove(
        &self,
        _caller: Caller,
        _name: String,
        _comment: Option<String>,
    ) -> impl Future<Output = Answer<()>> + Send {
        absent()
    }
    fn token_list(&self, _page: PageQuery) -> impl Future<Output = Answer<List<TokenItem>>> + Send {
        absent()
    }
    fn token_add(
        &self,
        _caller: Caller,
        _add: TokenAdd,
    ) -> impl Future<Output = Answer<TokenAdded>> + Send {
        absent()
    }
    fn token_remove(
        &self,
        _caller: Caller,
        _name: String,
        _comment: Option<String>,
    ) -> impl Future<Output = Answer<()>> + Send {
        absent()
    }

    fn backup_create(
        &self,
        _caller: Caller,
        _request: BackupCreate,
    ) -> impl Future<Output = Answer<Backup>> + Send {
        absent()
    }

    /// The verb of this route, if calls need a second person at present.
    fn two_person(&self, _route: RouteId) -> Option<String> {
        None
    }
    fn second_list(
        &self,
        _page: PageQuery,
    ) -> impl Future<Output = Answer<List<SecondRequest>>> + Send {
        absent()
    }
    fn second_add(
        &self,
        _caller: Caller,
        _deed: Deed,
        _effects: Vec<String>,
    ) -> impl Future<Output = Answer<SecondRequest>> + Send {
        absent()
    }
    /// Who asked, together with the caller, and what to do now.
    fn second_approve(
        &self,
        _caller: Caller,
        _id: String,
        _comment: Option<String>,
    ) -> impl Future<Output = Answer<(Deed, Caller)>> + Send {
        absent()
    }
    fn second_reject(
        &self,
        _caller: Caller,
        _id: String,
        _comment: Option<String>,
    ) -> impl Future<Output = Answer<SecondRequest>> + Send {
        absent()
    }

    fn clock_confirm(
        &self,
        _caller: Caller,
        _comment: Option<String>,
    ) -> impl Future<Output = Answer<ClockConfirmed>> + Send {
        absent()
    }
    fn logging(&self) -> impl Future<Output = Answer<Logging>> + Send;
    fn logging_edit(
        &self,
        caller: Caller,
        edit: LoggingEdit,
    ) -> impl Future<Output = Answer<Logging>> + Send;
    fn operation_list(
        &self,
        page: PageQuery,
    ) -> impl Future<Output = Answer<List<Operation>>> + Send;
    fn operation(&self, id: String) -> impl Future<Output = Answer<Operation>> + Send;
}

/// What a part that this daemon lacks answers.
async fn absent<T>() -> Answer<T> {
    Err(Problem::new(
        ProblemType::NoSuchRoute,
        "this daemon does not have this function",
    ))
}
