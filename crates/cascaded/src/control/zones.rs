//! Zones: adding, removing, asking, deciding.

use std::sync::Arc;
use std::time::Duration;

use cascade_api::common::{Accepted, Acts, Confirm, List, PageQuery, Stage, SubjectKind, Warning};
use cascade_api::zones::{
    Evidence, HistoryEntry, HistoryFilter, HistoryKind, Import, KeyRole as ApiRole, KeysOnRemoval,
    Maintenance, MaintenanceRequest, OverrideRequest, ReloadRequest, ResignRequest, ReviewDecision,
    Source, Then, Verdict, Why, Zone, ZoneAdd, ZoneFilter, ZoneItem, ZonePublished, ZoneRemove,
    ZoneState,
};
use cascade_api::{Problem, ProblemType, Role};
use cascade_archive::{Change, Table};
use cascade_crypto::{Algorithm, KeyError, StoredKey};
use cascade_loader::{ParsedFile, RecordList};
use cascade_pipeline::event::Subject;
use cascade_pipeline::settings::OnReject;
use cascade_pipeline::state::Stage as PStage;
use cascade_pipeline::{Actor, Command, Keep, Refusal, RefusalCode, Zone as PZone};
use cascade_zone::{Name, Rtype, Serial, ZoneId};

use super::operations::Goal;
use super::second::need_second;
use super::{Answer, bug, need_consent};
use crate::daemon::{ActivePolicy, Daemon, random};
use crate::hsm::store::HsmStore;
use crate::http::Caller;
use cascade_keys::Role as KeyRole;

use crate::keys::{Bundle, Import as KeyImport, KeysRow, zone_ref};
use crate::status::zone_state;
use crate::zone::{self, Mark, Message, NotDone, Reports, ZoneHandle, ZoneRow};

/// A zone answers a command within this time or is reported busy.
const COMMAND_BOUND: Duration = Duration::from_secs(4);
/// The answer to a removal waits this long for the files to be set aside.
const REMOVAL_BOUND: Duration = Duration::from_secs(3);

pub fn stage(s: Stage) -> PStage {
    match s {
        Stage::Unsigned => PStage::Unsigned,
        Stage::Signed => PStage::Signed,
    }
}

fn person(caller: &Caller) -> Actor {
    Actor::new(&caller.actor, caller.roles.has(Role::Approver))
}

/// Sends a command to a zone and waits for its durable answer.
pub async fn ask(
    z: &ZoneHandle,
    caller: &Caller,
    command: Command,
) -> Answer<(cascade_pipeline::Accepted, Mark)> {
    ask_with(z, caller, command, None).await
}

/// As [`ask`]; with the new source where the command changes it.
pub async fn ask_with(
    z: &ZoneHandle,
    caller: &Caller,
    command: Command,
    source: Option<Source>,
) -> Answer<(cascade_pipeline::Accepted, Mark)> {
    let busy = || {
        Problem::new(
            ProblemType::Busy,
            format!("zone '{}' has too much to do at the moment", z.name),
        )
        .subject(SubjectKind::Zone, &z.name)
        .retry_after(2)
    };
    let (reply, answer) = tokio::sync::oneshot::channel();
    let message = Message::Request {
        command,
        by: person(caller),
        source,
        reply,
    };
    z.line.try_send(message).map_err(|_| busy())?;
    match tokio::time::timeout(COMMAND_BOUND, answer).await {
        Ok(Ok(Ok(accepted))) => Ok(accepted),
        Ok(Ok(Err(NotDone::Refused(r)))) => Err(refusal(z, &r)),
        Ok(Ok(Err(NotDone::Storage(e)))) => {
            Err(Problem::new(ProblemType::StorageFull, e).subject(SubjectKind::Zone, &z.name))
        }
        Ok(Err(_)) => Err(bug(format!(
            "zone '{}' did not answer; see the log",
            z.name
        ))),
        Err(_) => Err(busy().state("the command may still be carried out")),
    }
}

fn refusal(z: &ZoneHandle, r: &Refusal) -> Problem {
    let kind = match r.code {
        RefusalCode::NotUnderReview | RefusalCode::WrongVersion => ProblemType::NotUnderReview,
        RefusalCode::NotHalted => ProblemType::NotHalted,
        RefusalCode::NotRejected => ProblemType::NotRejected,
        RefusalCode::GateRefused => ProblemType::GateRefused,
        RefusalCode::Halted | RefusalCode::AlreadyApproved => ProblemType::Halted,
        RefusalCode::NotApprover => ProblemType::NotAllowed,
        RefusalCode::UnknownVersion => ProblemType::VersionNotFound,
        RefusalCode::SerialTooLow => ProblemType::SerialNotAhead,
        RefusalCode::Restoring => ProblemType::Starting,
        RefusalCode::Busy => ProblemType::Busy,
        RefusalCode::MaintenanceState
        | RefusalCode::NotPinned
        | RefusalCode::NotPaused
        | RefusalCode::NothingLive
        | RefusalCode::Removing => ProblemType::MaintenanceState,
    };
    let mut p = Problem::new(kind, r.reason.clone())
        .subject(SubjectKind::Zone, &z.name)
        .state(format!(
            "zone is {}; nothing changed",
            cascade_api::word(&zone_state(&z.view()))
        ));
    if let Some(c) = r.commands.first() {
        p = p.action(c.clone());
    }
    p
}

/// The answer of a command under which work follows. It counts as queued when somebody has to do
/// something before it goes on; what only waits for other work of the zone goes on by itself.
pub fn accepted(z: &ZoneHandle, a: cascade_pipeline::Accepted, operation: String) -> Accepted {
    // The document says by a member of its own that it is queued.
    let note = a.note.strip_prefix("queued: ").unwrap_or(&a.note);
    Accepted {
        zone: z.name.clone(),
        operation: Some(operation),
        queued: !note.is_empty() && !a.commands.is_empty(),
        detail: (!note.is_empty()).then(|| note.to_string()),
        warnings: Vec::new(),
    }
}

// ---- reading

pub fn list(d: &Daemon, f: &ZoneFilter) -> List<ZoneItem> {
    let now = d.now();
    let items: Vec<ZoneItem> = d
        .zone_list()
        .iter()
        .map(|z| item(z, now))
        .filter(|i| f.policy.as_ref().is_none_or(|p| *p == i.policy))
        .filter(|i| f.state.is_none_or(|s| s == i.state))
        .filter(|i| f.halted.is_none_or(|h| h == (i.state == ZoneState::Halted)))
        .collect();
    List::page(
        items,
        &PageQuery {
            limit: f.limit,
            after: f.after.clone(),
        },
        |i| i.zone.clone(),
    )
}

fn item(z: &ZoneHandle, now: cascade_time::Timestamp) -> ZoneItem {
    let view = z.view();
    let pz = &view.row.zone;
    let live = pz.live.as_ref();
    ZoneItem {
        zone: z.name.clone(),
        id: z.id.to_string(),
        policy: pz.settings.policy.clone(),
        state: zone_state(&view),
        serial: live.map(|l| l.serial.0),
        runway_secs: runway(&view, now),
        notes: pz.alerts.values().map(|a| a.text.clone()).collect(),
    }
}

pub fn show(d: &Daemon, z: &ZoneHandle) -> Zone {
    let policy = d.policy(&z.view().row.zone.settings.policy);
    Zone {
        settings: policy.map_or_else(Vec::new, |p| super::policies::settings(&p.file)),
        ..brief(d, z)
    }
}

/// The same without the settings of its policy, which take longer than the rest.
fn brief(d: &Daemon, z: &ZoneHandle) -> Zone {
    let view = z.view();
    let pz = &view.row.zone;
    let bound = d.bound.load();
    let text = |l: &[std::net::SocketAddr]| l.iter().map(ToString::to_string).collect();
    Zone {
        zone: z.name.clone(),
        id: z.id.to_string(),
        policy: pz.settings.policy.clone(),
        state: zone_state(&view),
        source: view.row.source.clone(),
        added_at: view.row.added_at,
        published: pz.live.as_ref().map(|l| ZonePublished {
            version: l.version.to_string(),
            serial: l.serial.0,
            at: l.published_at,
        }),
        operation: None,
        warnings: Vec::new(),
        settings: Vec::new(),
        review_addresses: Some(cascade_api::zones::ReviewAddresses {
            unsigned: text(&bound.loader_review),
            signed: text(&bound.signer_review),
        }),
        keys_directory: Some(
            // A restart is needed to move it.
            d.config
                .config
                .keys_dir()
                .join(z.id.to_string())
                .to_string(),
        ),
        hsm: None,
        previous_policy: None,
    }
}

pub async fn history(
    d: &Arc<Daemon>,
    zone: ZoneId,
    f: HistoryFilter,
) -> Answer<List<HistoryEntry>> {
    let d = d.clone();
    let limit = f.limit.unwrap_or(100).clamp(1, 1000) as usize;
    let all: Vec<(u64, cascade_pipeline::HistoryEntry)> =
        tokio::task::spawn_blocking(move || d.state.history(zone, None, 10_000))
            .await
            .map_err(bug)?
            .map_err(bug)?;
    // Newest first in the store; people read oldest first, and want the newest `limit`.
    let mut items: Vec<HistoryEntry> = all
        .into_iter()
        .map(|(_, e)| history_entry(e))
        .filter(|e| f.since.is_none_or(|s| e.at >= s))
        .filter(|e| f.kind.is_none_or(|k| k == e.kind))
        .collect();
    items.reverse();
    if let Some(after) = f.after {
        items.retain(|e| e.seq > after);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more {
            items.last().map(|e| e.seq.to_string())
        } else {
            None
        };
        return Ok(List { items, next });
    }
    let skip = items.len().saturating_sub(limit);
    Ok(List::whole(items.split_off(skip)))
}

fn history_entry(e: cascade_pipeline::HistoryEntry) -> HistoryEntry {
    let event = e.kind.event();
    HistoryEntry {
        seq: e.seq,
        at: e.at,
        kind: history_kind(event),
        event: event.to_string(),
        version: e.version.map(|v| v.to_string()),
        serial: e.serial.map(|s| s.0),
        // Texts name their cause in parentheses already.
        cause: e.reason.filter(|r| !e.text.contains(r.as_str())),
        detail: e.text,
        actor: e.actor,
        comment: None,
        duration_secs: e.duration_ms.map(|ms| ms as f64 / 1000.0),
    }
}

fn history_kind(event: &str) -> HistoryKind {
    match event {
        "zone.source-seen" | "zone.loaded" | "zone.load-failed" | "zone.expired" => {
            HistoryKind::Load
        }
        "zone.held"
        | "zone.rejected"
        | "zone.approved"
        | "zone.review-pending"
        | "zone.overridden" => HistoryKind::Review,
        "zone.signing" | "zone.signed" | "zone.sign-failed" | "zone.verified"
        | "zone.verify-failed" => HistoryKind::Sign,
        "zone.published" | "zone.rolled-back" => HistoryKind::Publish,
        "zone.changed" => HistoryKind::Policy,
        kind if ["key.", "roll.", "ds."].iter().any(|k| kind.starts_with(k)) => HistoryKind::Key,
        _ => HistoryKind::Operator,
    }
}

pub fn why(d: &Daemon, z: &ZoneHandle) -> Why {
    let view = z.view();
    let pz = &view.row.zone;
    let now = d.now();
    let runway = runway(&view, now);
    let next_at = cascade_pipeline::next_deadline(pz);
    let mut evidence = Vec::new();
    let note = |what: &str, text: String| Evidence {
        what: what.into(),
        text: Some(text),
        ..Evidence::default()
    };
    if let Some(r) = &view.row.reports.failed_load {
        let kept = r.diagnostics.kept.iter().take(5);
        evidence.extend(kept.map(|k| note("load", zone::diagnostic_line(k))));
        if let Some(reason) = &r.reason {
            evidence.push(note("load", reason.clone()));
        }
    }
    if let Some(k) = &view.keys_wait {
        evidence.push(note("keys", k.clone()));
    }
    if let Some(text) = crate::secondaries::canary_text(d, z.id) {
        evidence.push(note("canary", text));
    }
    let missed = crate::hsm::events::missed(d, &view);
    if let Some(m) = &missed {
        evidence.push(note("hsm", m.text()));
    }
    if let Some((_, r)) = &view.row.reports.verify
        && r.verdict == cascade_verifier::Verdict::Refused
    {
        evidence.extend(
            r.text()
                .lines()
                .take(5)
                .map(|l| note("verification", l.to_string())),
        );
    }
    let worst = pz.alerts.values().max_by_key(|a| a.severity);
    let mut acts = worst.map(|a| super::daemon::acts(a.key));
    let (mut summary, since, mut actions) = match worst {
        Some(a) => (a.text.clone(), Some(a.since), a.commands.clone()),
        None => (healthy(&view, z.turn(), now), None, Vec::new()),
    };
    if let Some(m) = missed.filter(|_| view.bug.is_none()) {
        acts = Some(Acts::Token);
        actions.push(format!("cascade hsm show {}", m.hsm));
        // Whatever else is said, this is the cause.
        summary = m.text();
    }
    if view.bug.is_some() {
        summary = "halted by an internal fault; what is published stays served".into();
        acts = Some(Acts::Cascade);
        evidence.push(note("bug", "the log names the place".into()));
        actions = vec![
            "journalctl -u cascaded".into(),
            "systemctl restart cascaded".into(),
        ];
    } else if acts.is_none() {
        // Not an alert yet, and still somebody may have to do something.
        match (&view.keys_wait, &view.row.reports.failed_load) {
            (Some(_), _) if pz.live.is_none() => acts = Some(Acts::Operator),
            _ if z.turn().is_some() => {
                // Who cannot wait.
                actions.push(format!("cascade zone reload {}", z.name));
            }
            (_, Some(_)) => {
                acts = Some(Acts::Source);
                actions.push(format!("cascade zone reload {}", z.name));
            }
            _ => {}
        }
    }
    let mut why = Why {
        zone: z.name.clone(),
        summary,
        since,
        acts,
        evidence,
        next_at,
        next: next_at.map(|_| "looks again".into()),
        runway_secs: runway,
        actions,
    };
    let urgent = worst.is_some_and(|a| a.severity != cascade_pipeline::Severity::Notice);
    if !urgent && view.bug.is_none() && pz.live.is_some() {
        super::keyset::explain(d, z, &view, now, &mut why);
    }
    why
}

/// Until the first signature in service expires.
fn runway(view: &zone::View, now: cascade_time::Timestamp) -> Option<i64> {
    let live = view.row.zone.live.as_ref()?;
    view.has_signatures(live.version)
        .then(|| now.secs_until(live.min_exp))
}

fn healthy(view: &zone::View, turn: Option<u64>, now: cascade_time::Timestamp) -> String {
    let pz = &view.row.zone;
    match &pz.live {
        Some(l) if view.row.reports.failed_load.is_some() => format!(
            "serial {} stays published: newer content of {} could not be loaded",
            l.serial,
            source_text(&view.row.source)
        ),
        Some(l) if !view.has_signatures(l.version) => format!(
            "published as serial {}, without DNSSEC as its policy says",
            l.serial
        ),
        Some(l) => format!(
            "published as serial {}; signatures are refreshed at {} and valid for {}",
            l.serial,
            l.next_due.to_human(),
            cascade_time::format_span(l.min_exp.since(now))
        ),
        None => match &view.keys_wait {
            Some(k) => format!("waits for keys: {k}"),
            None if let Some(before) = turn => {
                let place = match before {
                    0 => "its turn is next".to_string(),
                    1 => "1 is taken up before it".to_string(),
                    n => format!("{n} are taken up before it"),
                };
                format!(
                    "nothing is published yet; it was added while very many zones had work, and {place}"
                )
            }
            None if view.row.reports.failed_load.is_some() => format!(
                "nothing is published yet: {} could not be loaded",
                source_text(&view.row.source)
            ),
            None => format!(
                "nothing is published yet; the zone is {}",
                pz.api_state().as_str()
            ),
        },
    }
}

// ---- adding

pub async fn add(d: &Arc<Daemon>, caller: &Caller, add: ZoneAdd, dry_run: bool) -> Answer<Zone> {
    let apex = parse_name(&add.zone)?;
    let name = apex.to_lowercase().without_dot();
    let exists = |z: &ZoneHandle| {
        if zone_state(&z.view()) == ZoneState::Removed {
            return Problem::new(
                ProblemType::Busy,
                format!("zone '{name}' is still being removed"),
            )
            .subject(SubjectKind::Zone, &name)
            .action(format!("cascade why {name}"))
            .retry_after(2);
        }
        Problem::new(
            ProblemType::ZoneExists,
            format!("zone '{name}' exists already"),
        )
        .subject(SubjectKind::Zone, &name)
        .action(format!("cascade zone edit {name}"))
    };
    if let Some(z) = d.zone(&name) {
        return Err(exists(&z));
    }
    if let Source::Update {
        path: None,
        name_servers,
    } = &add.source
        && name_servers.is_empty()
    {
        let detail = format!("zone '{name}' has nothing to begin with");
        return Err(Problem::new(ProblemType::InvalidValue, detail).action(
            "give a file or name servers: --source update:/path, --source update:ns1.example.",
        ));
    }
    // Looked at again below; told before the trouble of reading files.
    policy_for_new_zones(d, &add.policy)?;
    check_source(d, &apex, &add.source, add.allow_missing).await?;
    let imports = imports(d, &add.imports).await?;
    // From here on no policy goes, and nobody else adds the same zone.
    let _policies_stay = d.reloading.read().await;
    let _alone = Adding::begin(d, &name)?;
    if let Some(z) = d.zone(&name) {
        return Err(exists(&z));
    }
    let policy = policy_for_new_zones(d, &add.policy)?;
    let bundle = kept_keys(d, &apex).await?;
    if add.restore_keys {
        if bundle.is_none() {
            return Err(Problem::new(
                ProblemType::KeyNotFound,
                format!("no keys of an earlier zone '{name}' are kept"),
            )
            .subject(SubjectKind::Zone, &name)
            .action("leave --restore-keys out: new keys are made"));
        }
        if !add.imports.is_empty() {
            return Err(Problem::new(
                ProblemType::InvalidValue,
                "keys are either taken back or imported, not both",
            )
            .action(format!(
                "take them back, then import more with cascade keyset {name} import"
            )));
        }
    }
    let left_behind = bundle.as_ref().and_then(|(_, b)| left_behind(&name, b));
    // Keys that are taken back stay those of the zone that they were made for.
    let (id, taken) = match bundle {
        Some((id, b)) if add.restore_keys => (id, Some(b)),
        _ => (ZoneId(random()), None),
    };
    let restores = taken.is_some();
    let conf = d.conf();
    let settings = crate::settings::pipeline(&policy.file, policy.revision, &conf.config);
    let seed = u64::from_le_bytes(random());
    let mut pz = PZone::new(id, &name, &source_text(&add.source), settings, seed);
    let used: Option<u32> = d.state.get(Table::Serials, &name).map_err(bug)?;
    pz.used_serial = used.map(Serial);
    let mut row = ZoneRow {
        zone: pz,
        apex: apex.to_string(),
        source: add.source.clone(),
        added_at: d.now(),
        keys: taken.map_or_else(|| KeysRow::new(&apex), Bundle::into_row),
        sources: Default::default(),
        segments: Vec::new(),
        content: Default::default(),
        reports: Reports::default(),
    };
    if !imports.is_empty() {
        row = import_keys(d, row, apex.clone(), imports, dry_run).await?;
    }
    let mut warnings = warnings(d, &policy.file.policy);
    warnings.extend(left_behind.filter(|_| !restores));
    if dry_run {
        return Ok(Zone {
            zone: name,
            id: id.to_string(),
            policy: add.policy,
            state: ZoneState::WaitingSource,
            source: add.source,
            added_at: row.added_at,
            published: None,
            operation: None,
            warnings,
            settings: Vec::new(),
            review_addresses: None,
            keys_directory: None,
            hsm: None,
            previous_policy: None,
        });
    }
    if add.maintenance {
        // Part of the row that is stored first: nothing is loaded in between.
        row.zone.modes.maintenance = Some(cascade_pipeline::state::Maintenance {
            since: row.added_at,
            until: None,
            by: caller.actor.clone(),
            resign: true,
        });
    }
    if let Err(e) = store_new(d, &row, &name, restores).await {
        if !restores {
            let (d, apex) = (d.clone(), apex.clone());
            let undo = move || forget_keys(&d, zone_ref(id, &apex), &row.keys);
            let _ = tokio::task::spawn_blocking(undo).await;
        }
        return Err(e);
    }
    let entry = d.directory.add(
        id,
        &apex,
        crate::servers::zone_settings(&policy.file.policy, &row.source),
    );
    entry.map_err(bug)?;
    let handle = zone::start(d, row, apex);
    d.zones.write().insert(name.clone(), handle.clone());
    let goal = Goal::Load {
        patient: add.allow_missing,
    };
    let operation = d
        .operations
        .begin(&handle, "zone-add", goal, Mark::START, d.now());
    let mut shown = brief(d, &handle);
    shown.warnings = warnings;
    shown.operation = Some(operation);
    Ok(shown)
}

/// A zone that is being added; nobody else adds it meanwhile.
struct Adding<'a> {
    d: &'a Daemon,
    name: String,
}

impl<'a> Adding<'a> {
    fn begin(d: &'a Daemon, name: &str) -> Answer<Adding<'a>> {
        if !d.adding.lock().insert(name.to_string()) {
            let detail = format!("zone '{name}' is being added by another request");
            return Err(Problem::new(ProblemType::Busy, detail)
                .subject(SubjectKind::Zone, name)
                .action(format!("cascade zone status {name}"))
                .retry_after(1));
        }
        Ok(Adding {
            d,
            name: name.to_string(),
        })
    }
}

impl Drop for Adding<'_> {
    fn drop(&mut self) {
        self.d.adding.lock().remove(&self.name);
    }
}

fn parse_name(text: &str) -> Answer<Name> {
    let text = if text == "@" { "." } else { text };
    Name::parse(text).map_err(|e| {
        Problem::new(
            ProblemType::InvalidValue,
            format!("'{text}' is not a zone name: {e}"),
        )
        .action("give a domain name such as example.net")
    })
}

/// The active policy, for a zone that does not have it yet.
pub fn policy_for_new_zones(d: &Daemon, name: &str) -> Answer<ActivePolicy> {
    let policy = d.policy(name).ok_or_else(|| no_policy(d, name))?;
    if policy.gone {
        let detail = format!(
            "the file of policy '{name}' is gone: the policy stays for the zones that have it, \
             and no other zone takes it"
        );
        return Err(Problem::new(ProblemType::PolicyNotFound, detail)
            .subject(SubjectKind::Policy, name)
            .action(format!(
                "put {name}.toml back and run cascade policy reload, or take another policy"
            )));
    }
    Ok(policy)
}

fn no_policy(d: &Daemon, name: &str) -> Problem {
    let known = d.policies.load();
    let file = d.conf().config.policy_dir.join(format!("{name}.toml"));
    let p = Problem::policy_not_found(name, known.keys().map(String::as_str));
    if cascade_policy::is_name(name) && file.as_std_path().exists() {
        let detail = format!("policy '{name}' is not loaded; its file {file} is there");
        return Problem { detail, ..p }.action("cascade policy reload");
    }
    p
}

/// The source as the pipeline and the log name it.
pub fn source_text(source: &Source) -> String {
    match source {
        Source::None {} => "none".into(),
        Source::File { path } => path.clone(),
        Source::Servers { servers } => {
            let list: Vec<String> = servers.iter().map(crate::transfer::server_text).collect();
            list.join(" ")
        }
        Source::Update { path, name_servers } => match path {
            Some(path) => format!("update:{path}"),
            None => format!("update:{}", name_servers.join(",")),
        },
    }
}

/// The source must be readable now, unless the operator says that it comes later.
pub async fn check_source(
    d: &Daemon,
    apex: &Name,
    source: &Source,
    allow_missing: bool,
) -> Answer<()> {
    let path = match source {
        Source::File { path } => path.clone(),
        Source::None {} => return Ok(()),
        Source::Update { path, name_servers } => match path {
            Some(path) if name_servers.is_empty() => path.clone(),
            Some(_) => {
                let detail = "a zone begins with a file or with name servers, not with both";
                return Err(Problem::new(ProblemType::InvalidValue, detail));
            }
            None => return check_name_servers(name_servers),
        },
        // Whether they answer is no condition: the first transfer is tried until it succeeds.
        Source::Servers { servers } if servers.is_empty() => {
            return Err(Problem::new(
                ProblemType::InvalidValue,
                "the source names no server",
            ));
        }
        Source::Servers { servers } => {
            return match crate::transfer::primaries(servers, &d.tsig.keys(), None) {
                Ok(_) => Ok(()),
                Err(e) => Err(Problem::new(ProblemType::InvalidValue, e)),
            };
        }
    };
    if !path.starts_with('/') {
        return Err(Problem::new(
            ProblemType::InvalidValue,
            format!("source '{path}' is not an absolute path"),
        ));
    }
    let shown = path.clone();
    let zone = apex.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let path = std::path::Path::new(&path);
        cascade_loader::source::check_readable(path)?;
        Ok(other_zone(path, &zone))
    })
    .await
    .map_err(bug)?;
    let readable = match looked {
        Ok(Some(detail)) => {
            return Err(Problem::new(ProblemType::InvalidValue, detail)
                .subject(SubjectKind::File, &shown)
                .action("correct the name of the zone or the source"));
        }
        Ok(None) => Ok(()),
        Err(e) => Err::<(), cascade_loader::source::ReadError>(e),
    };
    if let Err(e) = readable
        && !allow_missing
    {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
            .ok()
            .flatten();
        let user = user.map_or_else(|| nix::unistd::geteuid().to_string(), |u| u.name);
        let home = if shown.starts_with("/home/") || shown.starts_with("/root/") {
            " (the service runs with ProtectHome: move the file out of home directories)"
        } else {
            ""
        };
        return Err(Problem::new(
            ProblemType::SourceUnreadable,
            format!(
                "source of zone '{}' cannot be read by the daemon's user '{user}': {e}{home}",
                apex.without_dot()
            ),
        )
        .subject(SubjectKind::File, &shown)
        .action(format!(
            "make {shown} readable for user {user}, or add --allow-missing"
        )));
    }
    Ok(())
}

/// The name servers that a zone begins with.
fn check_name_servers(list: &[String]) -> Answer<()> {
    let bad = |n: &&String| !matches!(Name::parse(n), Ok(n) if !n.is_root());
    match list.iter().find(bad) {
        None if list.len() <= 13 => Ok(()),
        None => Err(Problem::new(
            ProblemType::InvalidValue,
            "a zone begins with at most 13 name servers; add others by updates",
        )),
        Some(n) => Err(Problem::new(
            ProblemType::InvalidValue,
            format!("'{n}' is not the name of a name server"),
        )),
    }
}

/// Octets of a source that are looked at before a zone is added; its SOA comes early.
const LOOK: u64 = 64 * 1024;

/// Says so if the file is plainly that of another zone: a SOA at another name, and none at `apex`.
/// Everything else is found by the load itself.
fn other_zone(path: &std::path::Path, apex: &Name) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(LOOK).read_to_end(&mut bytes).ok()?;
    // A line that the cut went through is not an entry.
    let end = bytes
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at + 1);
    if bytes.len() as u64 == LOOK {
        bytes.truncate(end);
    }
    let shown = path.display().to_string();
    let soa = |inside: &Name| {
        let parsed: ParsedFile<RecordList> =
            cascade_loader::parse_bytes(bytes.clone(), &shown, inside, &Default::default());
        let mut records = parsed.sinks.into_iter().flat_map(|s| s.records);
        records.find(|r| r.rtype == Rtype::SOA)
    };
    if soa(apex).is_some() {
        return None;
    }
    // Below the root everything is inside; a relative owner would have been found above.
    let found = soa(&Name::root())?;
    let owner = cascade_zone::key::to_name(&found.key, None, &Name::root());
    if owner.is_root() {
        return None;
    }
    Some(format!(
        "{shown}: the SOA of this file is that of zone '{}', not of '{}'",
        owner.without_dot(),
        apex.without_dot()
    ))
}

/// What is to be imported. Keys in HSMs are looked at and proven here, so that no zone has to wait
/// for an HSM.
pub async fn imports(d: &Arc<Daemon>, list: &[Import]) -> Answer<Vec<KeyImport>> {
    let role = |role: &ApiRole| match role {
        ApiRole::Ksk => KeyRole::Ksk,
        ApiRole::Zsk => KeyRole::Zsk,
        ApiRole::Csk => KeyRole::Csk,
    };
    let mut all = Vec::new();
    for import in list {
        all.push(match import {
            Import::Public { path } => KeyImport::Public { path: path.clone() },
            Import::File {
                role: r, public, ..
            } => KeyImport::File {
                role: role(r),
                path: public.clone(),
            },
            Import::Kmip { role: r, .. } => KeyImport::Stored {
                role: role(r),
                key: in_hsm(d, import).await?,
            },
        });
    }
    Ok(all)
}

/// A key that is in an HSM already.
async fn in_hsm(d: &Arc<Daemon>, import: &Import) -> Answer<StoredKey> {
    let Import::Kmip {
        role,
        hsm,
        public_id,
        private_id,
        algorithm,
        flags,
    } = import
    else {
        return Err(super::bug("a key that is in no HSM"));
    };
    let mismatch = |what: String| {
        Problem::new(ProblemType::ImportMismatch, what).state("nothing was imported")
    };
    let Some(device) = d.hsms.device(hsm) else {
        return Err(super::hsms::not_found(d, hsm));
    };
    // RFC 4034 §2.1.1: zone key, and SEP for keys that the parent vouches for.
    let wanted = match role {
        ApiRole::Ksk | ApiRole::Csk => 257,
        ApiRole::Zsk => 256,
    };
    if *flags != wanted {
        return Err(mismatch(format!(
            "flags {flags} do not fit the role it is imported for; KSK and CSK have 257, ZSK 256"
        )));
    }
    let algorithm = Algorithm::from_number(*algorithm)
        .filter(|a| a.is_available())
        .ok_or_else(|| mismatch(format!("algorithm {algorithm} cannot be used for signing")))?;
    let (public, private, flags) = (public_id.clone(), private_id.clone(), *flags);
    let work = tokio::task::spawn_blocking(move || {
        HsmStore::new(device).adopt(&public, &private, algorithm, flags)
    });
    work.await.map_err(bug)?.map_err(|e| match &e {
        KeyError::Away { store, .. } => Problem::new(ProblemType::HsmUnreachable, e.to_string())
            .subject(SubjectKind::Hsm, store)
            .action(format!("cascade hsm test {store}"))
            .state("nothing was imported"),
        KeyError::NotFound(id) => mismatch(format!("HSM '{hsm}' has no object {id}"))
            .action(format!("cascade hsm inventory {hsm} --orphans")),
        _ => mismatch(e.to_string()),
    })
}

async fn import_keys(
    d: &Arc<Daemon>,
    mut row: ZoneRow,
    apex: Name,
    list: Vec<KeyImport>,
    dry_run: bool,
) -> Answer<ZoneRow> {
    let d = d.clone();
    tokio::task::spawn_blocking(move || {
        let zone = zone_ref(row.zone.id, &apex);
        let now = d.now();
        let mut taken = row.keys.clone();
        let done = d
            .keyring
            .import(zone, &mut taken, &list, true, &mut || d.new_key_id(), now)
            .map(drop)
            .map_err(|e| {
                Problem::new(ProblemType::ImportMismatch, e.to_string()).state("nothing was added")
            });
        if dry_run || done.is_err() {
            if done.is_ok() {
                forget_keys(&d, zone, &taken);
            }
            remove_empty(&d, zone);
            return done.map(|()| row);
        }
        row.keys = taken;
        Ok(row)
    })
    .await
    .map_err(bug)?
}

/// Removes copies of imported keys of a zone that does not come to be. The originals are not ours
/// to touch.
fn forget_keys(d: &Daemon, zone: cascade_crypto::ZoneRef<'_>, keys: &KeysRow) {
    if let Err(left) = d.keyring.purge(zone, keys) {
        tracing::error!("copies of imported keys stay behind: {left}");
    }
    remove_empty(d, zone);
}

/// Removes the zone's directory of keys if nothing is in it.
fn remove_empty(d: &Daemon, zone: cascade_crypto::ZoneRef<'_>) {
    crate::keys::bundle::remove_empty(d.config.config.keys_dir().as_std_path(), zone.id);
}

/// Keys of an earlier zone of this name.
async fn kept_keys(d: &Arc<Daemon>, apex: &Name) -> Answer<Option<(ZoneId, Bundle)>> {
    let (d, apex) = (d.clone(), apex.clone());
    tokio::task::spawn_blocking(move || Bundle::newest(&d.state, &apex))
        .await
        .map_err(bug)?
        .map_err(bug)
}

/// New keys beside a DS of the old ones make a bogus zone, so whoever adds it is told.
fn left_behind(name: &str, bundle: &Bundle) -> Option<Warning> {
    let parent = &bundle.keys.zone.parent;
    (!parent.shown.is_empty()).then(|| Warning {
        policy: None,
        code: None,
        detail: format!(
            "the parent had a DS of the zone's earlier keys when it was removed on {}; those keys are kept",
            bundle.removed_at.to_human()
        ),
        action: Some(format!(
            "to go on with them: cascade zone remove {name}, then cascade zone add {name} --restore-keys …"
        )),
    })
}

/// `restores`: the zone has its keys from the bundle under its id, which is used up.
async fn store_new(d: &Arc<Daemon>, row: &ZoneRow, name: &str, restores: bool) -> Answer<()> {
    let id = row.zone.id.to_string();
    let mut changes = vec![
        Change::put(Table::Zones, &id, row).map_err(bug)?,
        Change::put(Table::Names, name, &id).map_err(bug)?,
    ];
    if restores {
        changes.push(Bundle::forget(row.zone.id));
    }
    super::commit(d, changes).await
}

/// What a new zone of this policy will have to wait for.
pub fn warnings(d: &Daemon, policy: &cascade_policy::Policy) -> Vec<Warning> {
    let g = &policy.key_manager.generation;
    let mut hsms: Vec<&str> = [g.ksk_home(), g.zsk_home()].into_iter().flatten().collect();
    hsms.dedup();
    hsms.into_iter()
        .filter(|h| !d.stores.is_registered(h))
        .map(|h| Warning {
            policy: None,
            code: Some("P04".into()),
            detail: format!("HSM '{h}' is not registered; the zone waits for its keys"),
            action: Some(format!("cascade hsm add {h} <host>")),
        })
        .collect()
}

// ---- commands

pub async fn remove(d: &Daemon, z: &ZoneHandle, caller: &Caller, r: &ZoneRemove) -> Answer<()> {
    let keys = match r.keys {
        KeysOnRemoval::Keep => Keep::Keys,
        KeysOnRemoval::Purge => Keep::Purge,
    };
    consent_to_removal(z, caller, keys, r)?;
    ask(z, caller, Command::Remove { keys }).await?;
    // Durable already; who asks next should find the name free, if the disk lets it.
    let gone = async {
        while d.zone_of(&z.name, z.id).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = tokio::time::timeout(REMOVAL_BOUND, gone).await;
    Ok(())
}

/// A zone that a DS leads to turns bogus when it goes away, and keys that are destroyed never come
/// back: the first is agreed to by any consent, both together only by one that names the DS.
fn consent_to_removal(z: &ZoneHandle, caller: &Caller, keys: Keep, r: &ZoneRemove) -> Answer<()> {
    let view = z.view();
    let row = &view.row.keys;
    let ds: Vec<String> = match row.zone.parent.shown.is_empty() {
        true => Vec::new(),
        false => row.parent_ds.iter().map(|d| d.text()).collect(),
    };
    let mut effects = Vec::new();
    if keys == Keep::Purge {
        effects.push(format!(
            "the keys of zone '{}' are destroyed; signatures cannot be made again",
            z.name
        ));
    }
    effects.extend(ds.iter().map(|text| {
        format!("the parent has DS {text}: validating resolvers fail for the zone until it is gone there")
    }));
    let seen = crate::settings::digest(ds.join(",").as_bytes());
    let plan = format!("remove-{}-{seen:?}", z.id);
    let named = keys == Keep::Purge && !ds.is_empty();
    let consent = Confirm {
        confirm: r.confirm.clone(),
        yes: r.yes && !named,
        comment: None,
    };
    if !effects.is_empty() {
        need_consent(&consent, &plan, effects.clone())?;
    }
    effects.push(format!("zone '{}' is removed", z.name));
    need_second(caller, &plan, effects)
}

pub async fn reload(
    d: &Daemon,
    z: &ZoneHandle,
    caller: &Caller,
    r: &ReloadRequest,
) -> Answer<Accepted> {
    if matches!(z.view().row.source, Source::None {}) {
        return Err(Problem::new(
            ProblemType::NoSource,
            format!("zone '{}' has no source to load from", z.name),
        )
        .subject(SubjectKind::Zone, &z.name)
        .action(format!("cascade zone edit {} --source <source>", z.name)));
    }
    let command = Command::Load { forced: !r.refresh };
    let (a, mark) = ask(z, caller, command).await?;
    let goal = Goal::Load { patient: false };
    let operation = d.operations.begin(z, "reload", goal, mark, d.now());
    Ok(accepted(z, a, operation))
}

pub async fn resign(
    d: &Daemon,
    z: &ZoneHandle,
    caller: &Caller,
    r: &ResignRequest,
) -> Answer<Accepted> {
    let command = Command::Resign {
        full: r.full,
        serial: r.serial.map(Serial),
    };
    let (a, mark) = ask(z, caller, command).await?;
    let operation = d.operations.begin(z, "resign", Goal::Upkeep, mark, d.now());
    Ok(accepted(z, a, operation))
}

pub async fn reset(d: &Daemon, z: &ZoneHandle, caller: &Caller) -> Answer<Accepted> {
    let (a, mark) = ask(z, caller, Command::Reset).await?;
    let operation = d.operations.begin(z, "reset", Goal::Reset, mark, d.now());
    Ok(accepted(z, a, operation))
}

pub async fn review(
    d: &Daemon,
    z: &ZoneHandle,
    caller: &Caller,
    s: Stage,
    serial: u32,
    verdict: Verdict,
    comment: Option<String>,
) -> Answer<ReviewDecision> {
    let of = Some(Subject::Serial(Serial(serial)));
    let before = z.view();
    let rules = match s {
        Stage::Unsigned => &before.row.zone.settings.unsigned_review,
        Stage::Signed => &before.row.zone.settings.signed_review,
    };
    let version = before.row.zone.candidate.review().map(|r| r.version);
    let command = match verdict {
        Verdict::Approved => Command::Approve {
            stage: stage(s),
            of,
            comment,
        },
        Verdict::Rejected => Command::Reject {
            stage: stage(s),
            of,
            reason: comment,
        },
    };
    let candidate = before.row.zone.candidate.cand().map(|c| c.version);
    let (done, mark) = ask(z, caller, command).await?;
    if verdict == Verdict::Approved && done.missing == 0 {
        let goal = candidate.map_or(Goal::Upkeep, Goal::Candidate);
        d.operations.begin(z, "approve", goal, mark, d.now());
    }
    Ok(ReviewDecision {
        zone: z.name.clone(),
        stage: s,
        serial,
        version: version.map_or_else(String::new, |v| v.to_string()),
        verdict,
        by: caller.actor.clone(),
        at: d.now(),
        then: match (verdict, rules.on_reject) {
            (Verdict::Approved, _) if done.missing > 0 => Then::Wait,
            (Verdict::Approved, _) if s == Stage::Unsigned => Then::Sign,
            (Verdict::Approved, _) => Then::Publish,
            (Verdict::Rejected, OnReject::Discard) => Then::Discard,
            (Verdict::Rejected, OnReject::Halt) => Then::Halt,
        },
    })
}

pub async fn override_review(
    d: &Daemon,
    z: &ZoneHandle,
    caller: &Caller,
    s: Stage,
    r: &OverrideRequest,
) -> Answer<Accepted> {
    let consent = Confirm {
        confirm: r.confirm.clone(),
        yes: r.yes,
        comment: None,
    };
    let mut effects = vec![format!(
        "the rejected {} version of zone '{}' goes on as if approved",
        s.as_str(),
        z.name
    )];
    if r.despite_verification {
        effects.push("a version that verification refused is published; validating resolvers may treat the zone as bogus".into());
    }
    let plan = format!("override-{}-{}", z.id, s.as_str());
    need_consent(&consent, &plan, effects.clone())?;
    need_second(caller, &plan, effects)?;
    let command = Command::Override {
        stage: stage(s),
        despite_verification: r.despite_verification,
    };
    let candidate = z.view().row.zone.candidate.cand().map(|c| c.version);
    let (a, mark) = ask(z, caller, command).await?;
    let goal = candidate.map_or(Goal::Upkeep, Goal::Candidate);
    let operation = d.operations.begin(z, "override", goal, mark, d.now());
    Ok(accepted(z, a, operation))
}

pub async fn maintenance_on(
    d: &Daemon,
    z: &ZoneHandle,
    caller: &Caller,
    r: &MaintenanceRequest,
) -> Answer<Maintenance> {
    let now = d.now();
    if r.until.is_some_and(|u| u <= now) {
        return Err(Problem::new(
            ProblemType::InvalidValue,
            "the end of maintenance lies in the past",
        ));
    }
    let span = r.until.map(|u| u.since(now));
    ask(
        z,
        caller,
        Command::MaintenanceOn {
            resign: r.resign,
            span,
        },
    )
    .await?;
    Ok(Maintenance {
        since: now,
        until: r.until,
        resign: r.resign,
        by: Some(caller.actor.clone()),
        comment: r.comment.clone(),
    })
}

pub async fn maintenance_off(z: &ZoneHandle, caller: &Caller) -> Answer<()> {
    ask(z, caller, Command::MaintenanceOff).await.map(drop)
}
