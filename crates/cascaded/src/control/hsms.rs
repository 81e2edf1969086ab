//! HSMs over the API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cascade_api::Role;
use cascade_api::common::{Confirm, List, PageQuery, SubjectKind, Warning};
use cascade_api::hsm::{
    Endpoint as ApiEndpoint, Hsm, HsmAdd, HsmAdded, HsmBench, HsmBenchRun, HsmBenchZone,
    HsmBenched, HsmEdit, HsmInstance, HsmManaged, HsmTest, HsmTestKey, HsmTestStep, HsmTested,
};
use cascade_api::{Problem, ProblemType};
use cascade_archive::{Change, Table};
use cascade_crypto::Algorithm;
use cascade_kmip::link::{
    DialError, Endpoint, LinkSettings, Reach, ServerInfo, probe, show_digest,
};
use cascade_policy::parse_policy;

use super::{Answer, bug, need_consent, policies};
use crate::daemon::Daemon;
use crate::hsm::bench::{self, ThrowAway};
use crate::hsm::bridge::Bridge;
use crate::hsm::device::{Condition, Device};
use crate::hsm::events::{keys_in, names};
use crate::hsm::row::{BadOption, HsmRow};
use crate::http::Caller;

/// HSMs that can be registered.
const HSMS_MAX: usize = 64;
/// How long a server may say that its token is not ready before that is believed.
const STARTING: Duration = Duration::from_secs(5);
/// Bounds of a measurement, in seconds.
const BENCH: std::ops::RangeInclusive<u64> = 1..=60;
const BENCH_DEFAULT: u64 = 10;
/// Signatures under way in the runs of a measurement that names none.
const PARALLEL: [usize; 4] = [1, 8, 32, 128];
const PARALLEL_MAX: u32 = 1024;
/// What is tested of a server that does not say what it can.
const USUAL: [Algorithm; 5] = [
    Algorithm::RsaSha256,
    Algorithm::RsaSha512,
    Algorithm::EcdsaP256Sha256,
    Algorithm::EcdsaP384Sha384,
    Algorithm::Ed25519,
];

pub fn list(d: &Daemon, page: &PageQuery) -> List<Hsm> {
    let all = d.hsms.ids().iter().filter_map(|id| one(d, id)).collect();
    List::page(all, page, |h: &Hsm| h.hsm.clone())
}

pub fn show(d: &Daemon, id: &str) -> Answer<Hsm> {
    one(d, id).ok_or_else(|| not_found(d, id))
}

pub fn not_found(d: &Daemon, id: &str) -> Problem {
    let known = d.hsms.ids();
    let near = cascade_api::problem::nearest(id, known.iter().map(String::as_str));
    Problem::new(
        ProblemType::HsmNotFound,
        format!("HSM '{id}' is not registered"),
    )
    .subject(SubjectKind::Hsm, id)
    .suggestion(near)
    .action(format!("cascade hsm list; or: cascade hsm add {id} <host>"))
}

fn known(d: &Daemon, id: &str) -> Answer<(HsmRow, Arc<Device>)> {
    match (d.hsms.row(id), d.hsms.device(id)) {
        (Some(row), Some(device)) => Ok((row, device)),
        _ => Err(not_found(d, id)),
    }
}

fn one(d: &Daemon, id: &str) -> Option<Hsm> {
    let (row, device) = (d.hsms.row(id)?, d.hsms.device(id)?);
    let condition = device.condition();
    let users = Users::of(d, id);
    let instances = device.instances();
    let vendor = instances.iter().find_map(|i| i.server.as_ref());
    Some(Hsm {
        hsm: id.to_string(),
        vendor: vendor.map(|s| s.vendor.clone()).or(row.vendor.clone()),
        state: condition.word().into(),
        since: match condition {
            Condition::Away { since, .. } | Condition::Quarantined { since } => Some(since),
            Condition::Up | Condition::Connecting => None,
        },
        settings: settings(&row),
        has_credentials: row.add.username.is_some() || row.add.password.is_some(),
        tls: row.tls_word().into(),
        managed: d.hsms.managed(id),
        instances: (0..instances.len()).map(|i| instance(&device, i)).collect(),
        algorithms: row.algorithms.clone().unwrap_or_default(),
        policies: users.policies,
        zones: users.zones.len() as u64,
        keys: users.zones.values().sum(),
    })
}

fn instance(device: &Device, i: usize) -> HsmInstance {
    let statistics = device.pool().statistics(i);
    let median = statistics.median().map(|d| d.as_secs_f64());
    let status = device.instances().into_iter().nth(i);
    let (endpoint, reach, quarantined) = match status {
        Some(s) => (s.endpoint.to_string(), s.reach, s.quarantined),
        None => (String::new(), Reach::Connecting, false),
    };
    let waited = statistics.waited.as_secs_f64();
    let (state, last_error) = match (&reach, quarantined) {
        (Reach::Down(why), _) => ("down", Some(why.to_string())),
        (_, true) => ("quarantined", None),
        (Reach::Up, _) => ("up", None),
        (Reach::Connecting, _) => ("connecting", None),
    };
    HsmInstance {
        endpoint,
        state: state.into(),
        latency_p50_secs: median,
        // While requests were under way.
        signatures_per_sec: (waited > 0.0).then(|| statistics.operations as f64 / waited),
        in_flight: u32::try_from(statistics.in_flight).unwrap_or(u32::MAX),
        last_error,
        keys_proved: device.counts.proved.load(Ordering::Relaxed),
        keys_failed: device.counts.unproved.load(Ordering::Relaxed),
    }
}

/// Everything but secrets.
fn settings(row: &HsmRow) -> Vec<String> {
    let a = &row.add;
    let Ok(s) = row.settings(None) else {
        return Vec::new();
    };
    let labels = row.labels();
    let mut out = vec![
        format!("username: {}", a.username.as_deref().unwrap_or("none")),
        format!("connect timeout: {}s", s.timeouts.connect.as_secs()),
        format!("read timeout: {}s", s.timeouts.read.as_secs()),
        format!("write timeout: {}s", s.timeouts.write.as_secs()),
        format!("max response bytes: {}", s.max_response),
        format!("connections: {}", s.connections),
        format!("label prefix: '{}'", labels.prefix),
        format!("label max bytes: {}", labels.max),
    ];
    if let Some(n) = s.max_in_flight {
        out.push(format!("in flight: {n}"));
    }
    match &row.first_seen {
        Some(key) if row.tls_word() == "unverified" => {
            out.push(format!("tls key first seen: sha256:{key}"));
        }
        _ => {}
    }
    if row.tls_word() == "unverified" {
        out.push("the server is not authenticated (--insecure)".into());
    }
    if !row.undestroyed.is_empty() {
        out.push(format!(
            "objects still to be destroyed: {}",
            row.undestroyed.len()
        ));
    }
    out
}

// ---- add, edit, remove

/// Which code runs on this host is not for those to say who cannot log in to it.
pub fn may_manage(caller: &Caller, managed: Option<&HsmManaged>) -> Answer<()> {
    if managed.is_none() || caller.from == "unix" {
        return Ok(());
    }
    Err(Problem::new(
        ProblemType::NotAllowed,
        "a PKCS#11 module is chosen on the daemon's own host, over its Unix socket",
    )
    .action("run the command there"))
}

pub async fn add(d: &Arc<Daemon>, add: HsmAdd, dry_run: bool) -> Answer<HsmAdded> {
    let connect = add.connect;
    let id = add.hsm.clone();
    let mut row = HsmRow::new(add, d.now()).map_err(refused)?;
    let exists = || {
        Problem::new(ProblemType::HsmExists, format!("HSM '{id}' exists already"))
            .subject(SubjectKind::Hsm, &id)
            .action(format!("cascade hsm edit {id}"))
    };
    // Told before anybody is contacted, and looked at again before it counts.
    if d.hsms.row(&id).is_some() {
        return Err(exists());
    }
    let mut warnings = Vec::new();
    let bridge = start_bridge(d, &row).await?;
    if connect {
        contact(&mut row, bridge.as_ref(), &mut warnings).await?;
    }
    let answer = HsmAdded {
        hsm: id.clone(),
        vendor: row.vendor.clone(),
        endpoints: endpoints(&row),
        algorithms: row.algorithms.clone().unwrap_or_default(),
        warnings,
    };
    if dry_run {
        return Ok(answer);
    }
    let _one = d.reloading.write().await;
    if d.hsms.row(&id).is_some() {
        return Err(exists());
    }
    if d.hsms.ids().len() >= HSMS_MAX {
        return Err(Problem::new(
            ProblemType::InvalidValue,
            format!("there are {HSMS_MAX} HSMs already"),
        )
        .action("cascade hsm remove <id>"));
    }
    keep(d, row, bridge).await?;
    Ok(answer)
}

async fn keep(d: &Arc<Daemon>, row: HsmRow, bridge: Option<Arc<Bridge>>) -> Answer<()> {
    let change = Change::put(Table::Hsms, &row.add.hsm, &row).map_err(bug)?;
    super::commit(d, vec![change]).await?;
    d.hsms.put(row, bridge).map_err(refused)?;
    Ok(())
}

/// The bridge of a managed HSM; it ends again if nobody keeps it.
async fn start_bridge(d: &Arc<Daemon>, row: &HsmRow) -> Answer<Option<Arc<Bridge>>> {
    // Waits for a thread that starts a process.
    let (d, row) = (d.clone(), row.clone());
    let started = tokio::task::spawn_blocking(move || d.hsms.bridge(&row));
    started.await.map_err(bug)?.map_err(refused)
}

fn endpoints(row: &HsmRow) -> Vec<ApiEndpoint> {
    let all = row.add.endpoints.iter();
    all.map(|e| ApiEndpoint {
        tls: Some(row.tls_word().into()),
        ..e.clone()
    })
    .collect()
}

/// Finds out what the server is; every instance must be reached and do what is needed.
async fn contact(
    row: &mut HsmRow,
    bridge: Option<&Arc<Bridge>>,
    warnings: &mut Vec<Warning>,
) -> Answer<()> {
    let id = row.add.hsm.clone();
    let settings = |row: &HsmRow| {
        let local = bridge.map(|b| b.local());
        row.settings(local).map_err(refused)
    };
    for endpoint in settings(row)?.endpoints {
        // The key of the first instance holds for the others.
        let settings = settings(row)?;
        let info = match (patient_probe(&settings, &endpoint).await, bridge) {
            (Ok(info), _) => info,
            (Err(e), Some(bridge)) => return Err(out_of_order(&id, bridge, e).await),
            (Err(e), None) => return Err(unreachable(&id, &row.add, &e)),
        };
        capable(&id, &endpoint, &info, warnings)?;
        if let (Some(key), "unverified", None) = (info.key, row.tls_word(), &row.first_seen) {
            row.set_first_seen(key);
        }
        row.vendor = Some(info.vendor);
        row.algorithms = info.algorithms;
    }
    Ok(())
}

/// A bridge that was started a moment ago is loading its module.
async fn patient_probe(
    settings: &LinkSettings,
    endpoint: &Endpoint,
) -> Result<ServerInfo, DialError> {
    let until = tokio::time::Instant::now() + STARTING;
    loop {
        match probe(settings, endpoint).await {
            Err(DialError::Unavailable { .. }) if tokio::time::Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            result => return result,
        }
    }
}

fn capable(
    id: &str,
    endpoint: &Endpoint,
    info: &ServerInfo,
    warnings: &mut Vec<Warning>,
) -> Answer<()> {
    let words = |all: &[cascade_kmip::enums::Operation]| -> String {
        let words: Vec<String> = all.iter().map(ToString::to_string).collect();
        words.join(", ")
    };
    if !info.missing.needed.is_empty() {
        let lacks = words(&info.missing.needed);
        return Err(Problem::new(
            ProblemType::HsmIncapable,
            format!(
                "{endpoint} ('{}') lacks {lacks}, so it cannot keep keys",
                info.vendor
            ),
        )
        .subject(SubjectKind::Hsm, id)
        .action("use a server that can make key pairs and sign"));
    }
    if !info.missing.wanted.is_empty() {
        warnings.push(Warning {
            policy: None,
            code: None,
            detail: format!("{endpoint} lacks {}", words(&info.missing.wanted)),
            action: Some("what needs these is left to you: labels, inventory, destruction".into()),
        });
    }
    Ok(())
}

fn refused(e: BadOption) -> Problem {
    Problem::new(ProblemType::InvalidValue, e.what).action(e.action)
}

/// What a person can do about a managed bridge that does not work.
async fn out_of_order(id: &str, bridge: &Arc<Bridge>, e: DialError) -> Problem {
    let lost = matches!(e, DialError::Connect { .. } | DialError::Protocol { .. });
    let bridge = bridge.clone();
    let end = match lost {
        true => tokio::task::spawn_blocking(move || bridge.imminent_end()).await,
        false => Ok(None),
    };
    let end = end.ok().flatten();
    let (kind, what, action) = match (&e, end) {
        (DialError::Login { .. }, _) => (
            ProblemType::HsmLoginFailed,
            e.to_string(),
            "check --token (label of the token, or slot id or index) and the PIN in --pin-file",
        ),
        (_, Some(end)) => (
            ProblemType::HsmUnreachable,
            format!("the bridge {end}"),
            "check the module, and what it needs in --module-env; the log of cascaded has all that it said",
        ),
        _ => (
            ProblemType::HsmUnreachable,
            e.to_string(),
            "look at the HSM; the log of cascaded has what the module said",
        ),
    };
    Problem::new(kind, format!("HSM '{id}': {what}"))
        .subject(SubjectKind::Hsm, id)
        .action(action)
}

/// What a person can do about a server that was not reached.
fn unreachable(id: &str, add: &HsmAdd, e: &DialError) -> Problem {
    let kind = match e {
        DialError::Untrusted { .. } | DialError::KeyChanged { .. } => ProblemType::HsmUntrusted,
        DialError::Login { .. } => ProblemType::HsmLoginFailed,
        DialError::TooOld { .. } => ProblemType::HsmIncapable,
        DialError::Settings(_) | DialError::Name { .. } => ProblemType::InvalidValue,
        _ => ProblemType::HsmUnreachable,
    };
    let mut problem = Problem::new(kind, format!("HSM '{id}': {e}")).subject(SubjectKind::Hsm, id);
    let host = add.endpoints.first().map_or("<host>", |e| e.host.as_str());
    problem = match e {
        DialError::Untrusted { fingerprint, .. } => {
            let shown = show_digest(fingerprint);
            problem.fingerprint = Some(shown.clone());
            problem.action(format!(
                "if that is its fingerprint: cascade hsm add --fingerprint {shown} {id} {host}"
            ))
        }
        DialError::KeyChanged { .. } => problem.action(format!(
            "if its key was renewed: cascade hsm edit {id} --insecure"
        )),
        DialError::Login { .. } => {
            problem.action("check --username (token label, slot id or index) and the PIN")
        }
        DialError::Connect { .. } | DialError::Timeout { .. } => {
            problem.action("systemctl status kmip2pkcs11")
        }
        DialError::Unavailable { .. } => {
            problem.action("look at the HSM, and: journalctl -u kmip2pkcs11")
        }
        _ => problem,
    };
    problem
}

pub async fn edit(d: &Arc<Daemon>, id: &str, edit: HsmEdit, dry_run: bool) -> Answer<Hsm> {
    let (old, _) = known(d, id)?;
    let mut row = changed(&old, &edit)?;
    let bridge = start_bridge(d, &row).await?;
    if edit.connect {
        contact(&mut row, bridge.as_ref(), &mut Vec::new()).await?;
    }
    if dry_run {
        return show(d, id);
    }
    let _one = d.reloading.write().await;
    let (now, _) = known(d, id)?;
    if now.add != old.add {
        return Err(Problem::new(
            ProblemType::Busy,
            format!("HSM '{id}' was changed by somebody else meanwhile"),
        )
        .action(format!("cascade hsm show {id}, then try again")));
    }
    row.undestroyed = now.undestroyed;
    keep(d, row, bridge).await?;
    show(d, id)
}

fn changed(old: &HsmRow, edit: &HsmEdit) -> Answer<HsmRow> {
    let mut add = old.add.clone();
    add.comment = None;
    let same = |a: &ApiEndpoint, b: &ApiEndpoint| a.host == b.host && a.port == b.port;
    for gone in &edit.remove_endpoints {
        if !add.endpoints.iter().any(|e| same(e, gone)) {
            return Err(Problem::new(
                ProblemType::InvalidValue,
                format!("{}:{} is no endpoint of it", gone.host, gone.port),
            ));
        }
        add.endpoints.retain(|e| !same(e, gone));
    }
    for new in &edit.add_endpoints {
        if !add.endpoints.iter().any(|e| same(e, new)) {
            add.endpoints.push(new.clone());
        }
    }
    if edit.clear_credentials {
        add.username = None;
        add.password = None;
    }
    macro_rules! take {
        ($($name:ident)*) => {$(
            if edit.$name.is_some() {
                add.$name = edit.$name.clone();
            }
        )*};
    }
    take!(username password connect_timeout_secs read_timeout_secs write_timeout_secs);
    take!(max_response_bytes connections in_flight label);
    if let Some(managed) = &edit.managed {
        // What the bridge is not told anew it keeps, as everything else.
        let env = match managed.env.is_empty() {
            true => add.managed.take().map(|m| m.env).unwrap_or_default(),
            false => managed.env.clone(),
        };
        add.managed = Some(HsmManaged {
            module: managed.module.clone(),
            env,
        });
    }
    if let Some(tls) = &edit.tls {
        add.tls = tls.clone();
    }
    let mut row = HsmRow::new(add, old.added_at).map_err(refused)?;
    row.vendor = old.vendor.clone();
    row.algorithms = old.algorithms.clone();
    row.undestroyed = old.undestroyed.clone();
    // A person who says how TLS is to be judged begins a new acquaintance.
    if edit.tls.is_none() {
        row.first_seen = old.first_seen.clone();
    }
    Ok(row)
}

pub async fn remove(d: &Arc<Daemon>, id: &str, confirm: &Confirm, dry_run: bool) -> Answer<()> {
    known(d, id)?;
    let on_disk = policies::on_disk(d).await;
    let _one = d.reloading.write().await;
    let mut users = Users::of(d, id);
    for (policy, text) in &on_disk {
        // A file with errors cannot be activated, and names nothing yet.
        if let Ok(file) = parse_policy(policy, policy, text.as_bytes())
            && names(&file.policy, id)
            && !users.policies.contains(policy)
        {
            users.policies.push(format!("{policy} (file)"));
        }
    }
    let in_use: Vec<String> = users
        .zones
        .iter()
        .map(|(zone, n)| format!("zone {zone} ({n} keys)"))
        .chain(users.policies.iter().map(|p| format!("policy {p}")))
        .collect();
    if !in_use.is_empty() {
        return Err(Problem::new(
            ProblemType::InUse,
            format!("HSM '{id}' is used by {}", in_use.join(", ")),
        )
        .subject(SubjectKind::Hsm, id)
        .action("roll the keys to another home, and take it out of the policies, first"));
    }
    if dry_run {
        return Ok(());
    }
    let effect =
        format!("HSM '{id}' and its credentials are forgotten; no object in it is touched");
    need_consent(confirm, &format!("hsm-{id}"), vec![effect])?;
    let change = Change::Delete {
        table: Table::Hsms,
        key: id.to_string(),
    };
    super::commit(d, vec![change]).await?;
    d.hsms.remove(id);
    Ok(())
}

/// Who needs an HSM.
#[derive(Default)]
struct Users {
    /// With how many keys each.
    zones: BTreeMap<String, u64>,
    policies: Vec<String>,
}

impl Users {
    fn of(d: &Daemon, id: &str) -> Users {
        let mut users = Users::default();
        for z in d.zone_list() {
            let n = keys_in(&z.view().row.keys, id).count();
            if n > 0 {
                users.zones.insert(z.name.clone(), n as u64);
            }
        }
        for (name, policy) in d.policies.load().iter() {
            if names(&policy.file.policy, id) {
                users.policies.push(name.clone());
            }
        }
        users
    }
}

// ---- test and bench

pub async fn test(d: &Arc<Daemon>, caller: &Caller, id: &str, test: HsmTest) -> Answer<HsmTested> {
    let (row, device) = known(d, id)?;
    if test.write && !caller.roles.has(Role::Admin) {
        return Err(Problem::new(
            ProblemType::NotAllowed,
            "making keys on an HSM needs the role admin",
        )
        .action(format!("cascade hsm test {id}")));
    }
    let settings = device.pool().settings().clone();
    let mut steps = Vec::new();
    for endpoint in &settings.endpoints {
        let begin = tokio::time::Instant::now();
        let found = probe(&settings, endpoint).await;
        steps.push(HsmTestStep {
            instance: Some(endpoint.to_string()),
            step: "connect".into(),
            passed: found.is_ok(),
            detail: Some(match found {
                Ok(info) => format!("KMIP {}, {}", info.version, info.vendor),
                Err(e) => e.to_string(),
            }),
            secs: begin.elapsed().as_secs_f64(),
        });
    }
    device.pool().hurry();
    let reached = steps.iter().any(|s| s.passed);
    let (d2, id2) = (d.clone(), id.to_string());
    let algorithms = algorithms(&row);
    let work = tokio::task::spawn_blocking(move || {
        if !reached {
            return (Vec::new(), Vec::new());
        }
        let keys = prove_keys(&d2, &device, &id2);
        let made = match test.write {
            true => algorithms
                .into_iter()
                .map(|a| try_algorithm(&device, a))
                .collect(),
            false => Vec::new(),
        };
        (keys, made)
    });
    let (keys, made): (Vec<HsmTestKey>, Vec<HsmTestStep>) = work.await.map_err(bug)?;
    steps.extend(made);
    let passed = steps.iter().all(|s| s.passed) && keys.iter().all(|k| k.passed);
    let (_, device) = known(d, id)?;
    let quarantined = matches!(device.condition(), Condition::Quarantined { .. })
        || device.instances().iter().any(|i| i.quarantined);
    let released = passed && quarantined && caller.roles.has(Role::Operator);
    if released {
        device.release();
    }
    Ok(HsmTested {
        hsm: id.to_string(),
        passed,
        steps,
        keys,
        released,
    })
}

fn algorithms(row: &HsmRow) -> Vec<Algorithm> {
    let said = row.algorithms.as_ref();
    let all = said.map(|all| all.iter().filter_map(|a| a.parse().ok()).collect());
    let all: Vec<Algorithm> = all.unwrap_or_else(|| USUAL.to_vec());
    all.into_iter().filter(|a| a.is_available()).collect()
}

/// Every key that zones have there.
fn prove_keys(d: &Daemon, device: &Arc<Device>, id: &str) -> Vec<HsmTestKey> {
    let store = crate::hsm::store::HsmStore::new(device.clone());
    let mut out = Vec::new();
    for z in d.zone_list() {
        for (k, key) in keys_in(&z.view().row.keys, id) {
            let proved = store.prove(&key);
            out.push(HsmTestKey {
                zone: z.name.clone(),
                role: k.role.to_string().to_lowercase(),
                tag: key.dnskey.key_tag(),
                passed: proved.is_ok(),
                detail: proved.err().map(|e| e.to_string()),
            });
        }
    }
    out
}

fn try_algorithm(device: &Arc<Device>, algorithm: Algorithm) -> HsmTestStep {
    let begin = device.now();
    let done = ThrowAway::new(device, algorithm).and_then(ThrowAway::destroy);
    HsmTestStep {
        instance: None,
        step: algorithm.to_string(),
        passed: done.is_ok(),
        detail: Some(match done {
            Ok(()) => "key made, used and destroyed".into(),
            Err(e) => e.to_string(),
        }),
        secs: device.now().since(begin).as_secs_f64(),
    }
}

pub async fn bench(d: &Arc<Daemon>, id: &str, asked: HsmBench) -> Answer<HsmBenched> {
    let (_, device) = known(d, id)?;
    let invalid =
        |what: String, action: &str| Problem::new(ProblemType::InvalidValue, what).action(action);
    let name = asked.algorithm.as_deref().unwrap_or("ECDSAP256SHA256");
    let algorithm: Algorithm = name
        .parse()
        .map_err(|e: cascade_crypto::AlgorithmError| invalid(e.to_string(), "name another"))?;
    let seconds = asked.seconds.unwrap_or(BENCH_DEFAULT);
    if !BENCH.contains(&seconds) {
        return Err(invalid(
            format!("{seconds} s is out of range"),
            "choose 1 to 60",
        ));
    }
    if asked
        .parallel
        .is_some_and(|n| !(1..=PARALLEL_MAX).contains(&n))
    {
        return Err(invalid(
            "parallel is out of range".into(),
            "choose 1 to 1024",
        ));
    }
    let runs = match asked.parallel {
        Some(n) => vec![n as usize],
        None => PARALLEL.to_vec(),
    };
    let failed = |e: cascade_crypto::KeyError| {
        Problem::new(ProblemType::HsmIncapable, e.to_string())
            .subject(SubjectKind::Hsm, id)
            .action(format!("cascade hsm test {id} --write"))
    };
    let made = device.clone();
    let key = tokio::task::spawn_blocking(move || ThrowAway::new(&made, algorithm))
        .await
        .map_err(bug)?
        .map_err(failed)?;
    let target = key.target().map_err(failed)?;
    let span = Duration::from_secs_f64(seconds as f64 / runs.len() as f64);
    let mut measured = Vec::new();
    for parallel in runs {
        measured.extend(bench::run(&device, &target, parallel, span).await);
    }
    let destroyed = tokio::task::spawn_blocking(move || key.destroy())
        .await
        .map_err(bug)?;
    if let Err(e) = destroyed {
        tracing::warn!(hsm = %id, "the key of a measurement could not be destroyed: {e}");
    }
    if measured.is_empty() {
        return Err(Problem::new(
            ProblemType::HsmUnreachable,
            format!("HSM '{id}' signed nothing"),
        )
        .action(format!("cascade hsm test {id}")));
    }
    let best = measured.iter().map(|r| r.per_second).fold(0.0, f64::max);
    Ok(HsmBenched {
        hsm: id.to_string(),
        algorithm: algorithm.to_string(),
        zones: resign_times(d, id, best),
        runs: measured
            .into_iter()
            .map(|r| HsmBenchRun {
                parallel: u32::try_from(r.parallel).unwrap_or(u32::MAX),
                signatures: r.signatures,
                signatures_per_sec: r.per_second,
                latency_p50_secs: r.p50.as_secs_f64(),
                latency_p99_secs: r.p99.as_secs_f64(),
            })
            .collect(),
    })
}

fn resign_times(d: &Daemon, id: &str, rate: f64) -> Vec<HsmBenchZone> {
    let mut out = Vec::new();
    for z in d.zone_list() {
        let view = z.view();
        let report = view
            .row
            .reports
            .sign
            .as_ref()
            .and_then(|s| s.report.as_ref());
        let here = keys_in(&view.row.keys, id).next().is_some();
        if let (Some(report), true) = (report, here && rate > 0.0) {
            out.push(HsmBenchZone {
                zone: z.name.clone(),
                signatures: report.signatures,
                resign_secs: report.signatures as f64 / rate,
            });
        }
    }
    out
}
