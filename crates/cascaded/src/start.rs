//! Start-up and stop: configuration, state, zones, sockets, ready; and back.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use cascade_archive::{
    ArchiveError, AuditLog, Change, Disk, Origin, State, Table, Tail, ZoneFiles,
};
use cascade_pipeline::state::Trigger;
use cascade_policy::{ConfigFile, Diagnostic, MAX_FILE, parse_config};
use cascade_program::systemd;
use cascade_publisher::Directory;
use cascade_publisher::notify::{NotifyCommand, NotifySender, SenderSettings};
use cascade_publisher::watch::{Finding, WatchCommand, Watcher};
use cascade_time::Clock;
use cascade_zone::Name;
use parking_lot::{Mutex, RwLock};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::activation::Passed;
use crate::args::{Args, state_dir};
use crate::control::Control;
use crate::daemon::{Counters, Daemon, random};
use crate::http::{Admins, Http, Settings as HttpSettings};
use crate::zone::{Message, ZoneRow};
use crate::{policies, reload, servers, zone};

/// Zones signed at a time with keys in an HSM.
const TOKEN_SIGNINGS: usize = 64;
/// Rows of zones read from the state at a time.
const ROWS: usize = 2048;
/// Zones read back at a time, for each CPU: some of them wait for the disk.
const RESTORES_PER_CPU: usize = 2;
/// Seconds between looks for room on a full disk.
const LOOK_FOR_ROOM: u32 = 5;
/// NOTIFYs that wait to be sent.
const NOTIFY_OUT: usize = 10_000;
/// Each zone that is restored gives the next one this long before the start counts as hung.
const RESTORE_STEP: Duration = Duration::from_secs(120);
/// After a stop, answers under way and running steps have this long.
const GRACE: Duration = Duration::from_secs(5);

/// `--check-config`: everything that can be found out without starting anything.
pub fn check_config(args: &Args) -> ExitCode {
    let config = match read_config(&args.config) {
        Ok(c) => c,
        Err(e) => return fail(&e),
    };
    let mut errors = Vec::new();
    match policies::read_dir(config.config.policy_dir.as_std_path()) {
        Err(e) => errors.push(e),
        Ok(entries) => {
            let context = cascade_policy::LintContext::default();
            if let Err(found) = cascade_policy::PolicySet::load(&entries, &context) {
                errors.extend(
                    found
                        .iter()
                        .filter(|d| d.is_error())
                        .map(Diagnostic::one_line),
                );
            }
        }
    }
    let now = cascade_program::clock::SystemClock::new().now();
    let (ended, ending) = crate::certificates::judge(&config.config, now);
    errors.extend(ended);
    ending.iter().for_each(|w| eprintln!("warning: {w}"));
    let state = config.config.state_dir.as_std_path();
    if state.exists()
        && let Err(e) = check_state_dir(state)
    {
        errors.push(e);
    }
    // A daemon that runs holds the addresses itself, and they are right as far as it knows.
    let socket = &config.config.remote_control.socket.0;
    let runs = socket
        .as_ref()
        .is_some_and(|path| std::os::unix::net::UnixStream::connect(path).is_ok());
    if runs {
        eprintln!("note: a daemon is running, so the addresses were not tried");
        if let Err(e) = crate::xot::server(&config.config) {
            errors.push(e);
        }
    } else if let Err(e) = servers::bind(&config, &mut Passed::default()) {
        errors.push(e);
    }
    if errors.is_empty() {
        println!("{}: ok", args.config.display());
        return ExitCode::SUCCESS;
    }
    errors.iter().for_each(|e| eprintln!("{e}"));
    ExitCode::FAILURE
}

fn fail(e: &str) -> ExitCode {
    eprintln!("cascaded: {e}");
    ExitCode::FAILURE
}

/// The configuration file, or what is wrong with it, for people.
pub fn read_config(path: &Path) -> Result<ConfigFile, String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|f| f.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes))
        .map_err(|e| {
            format!(
                "configuration {} cannot be read: {e}\n  Try: cascade template config > {}",
                path.display(),
                path.display()
            )
        })?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let show = |found: Vec<Diagnostic>| {
        let lines: Vec<String> = found.iter().map(|d| d.snippet(&text, false)).collect();
        format!(
            "configuration {} is not valid\n{}",
            path.display(),
            lines.join("\n")
        )
    };
    let config = parse_config(&path.display().to_string(), &bytes).map_err(show)?;
    let found = host_errors(&config);
    if found.is_empty() {
        Ok(config)
    } else {
        Err(show(found))
    }
}

/// What only the host can tell about a configuration, and what this release cannot do.
fn host_errors(file: &ConfigFile) -> Vec<Diagnostic> {
    let c = &file.config;
    let mut found = Vec::new();
    let user = |name: &str| match name.parse::<u32>() {
        Ok(_) => true,
        Err(_) => matches!(nix::unistd::User::from_name(name), Ok(Some(_))),
    };
    let group = |name: &str| match name.parse::<u32>() {
        Ok(_) => true,
        Err(_) => matches!(nix::unistd::Group::from_name(name), Ok(Some(_))),
    };
    let rc = &c.remote_control;
    // The default group is made by the package; without the package nobody misses it.
    let key = "remote-control.admin-groups";
    for g in rc.admin_groups.iter().filter(|_| file.sets(key)) {
        if !group(g) {
            let detail = format!("group '{g}' does not exist");
            found.push(file.refuse(key, detail, format!("groupadd --system {g}, or remove it")));
        }
    }
    let key = "remote-control.admin-users";
    for u in rc.admin_users.iter().filter(|u| !user(u)) {
        let detail = format!("user '{u}' does not exist");
        found.push(file.refuse(key, detail, "create the user, or remove it"));
    }
    let key = "daemon.identity";
    if let Some(i) = &c.daemon.identity {
        let detail = if !user(&i.user) {
            format!("user '{}' does not exist", i.user)
        } else if let Some(g) = i.group.as_ref().filter(|g| !group(g)) {
            format!("group '{g}' does not exist")
        } else {
            "changing the user is not built yet".to_string()
        };
        found.push(file.refuse(
            key,
            detail,
            "start the daemon as its user (User= of the systemd unit) and remove the line",
        ));
    }
    if c.daemon.daemonize {
        found.push(file.refuse(
            "daemon.daemonize",
            "going to the background is not built yet",
            "run the daemon under a service manager and remove the line",
        ));
    }
    found
}

/// The directory of everything that must not be lost or forged.
fn check_state_dir(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    let shown = path.display();
    let m = std::fs::metadata(path).map_err(|e| format!("state-dir {shown}: {e}"))?;
    let me = nix::unistd::geteuid().as_raw();
    if m.uid() != me {
        return Err(format!(
            "state-dir {shown} belongs to user {}, the daemon runs as {me}\n  Try: chown -R {me} {shown}",
            m.uid()
        ));
    }
    if m.mode() & 0o002 != 0 {
        return Err(format!(
            "state-dir {shown} has mode {:04o}: everybody may change keys and zones in it\n  Try: chmod o-w {shown}",
            m.mode() & 0o7777
        ));
    }
    Ok(())
}

/// Runs the daemon to its end.
pub fn run(args: Args) -> ExitCode {
    let mut config = match read_config(&args.config) {
        Ok(c) => c,
        Err(e) => return fail(&e),
    };
    if let Some(path) = &args.state {
        match camino::Utf8PathBuf::from_path_buf(state_dir(path)) {
            Ok(p) => config.config.state_dir = p,
            Err(p) => return fail(&format!("--state {}: not UTF-8", p.display())),
        }
    }
    let logging = match crate::logging::init(&config.config.daemon, &args) {
        Ok(l) => l,
        Err(e) => return fail(&e),
    };
    let threads = config.config.daemon.worker_threads as usize;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all();
    if threads > 0 {
        builder.worker_threads(threads);
    }
    let runtime = match builder.build() {
        Ok(r) => r,
        Err(e) => return fail(&format!("async runtime: {e}")),
    };
    // Threads of their own: the kernel divides the CPUs between answers and the work on zones.
    let zones = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(if threads > 0 { threads } else { cpus() })
        .thread_name("zones")
        .build();
    let zones = match zones {
        Ok(r) => r,
        Err(e) => return fail(&format!("async runtime: {e}")),
    };
    let log = logging.clone();
    let own = zones.handle().clone();
    let result = runtime.block_on(serve(Arc::new(config), logging, args.state.is_some(), own));
    // Blocking work that is still under way is safe to cut: nothing of it was acknowledged.
    zones.shutdown_timeout(Duration::from_secs(1));
    runtime.shutdown_timeout(Duration::from_secs(1));
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!("{e}");
            fail(&e)
        }
    };
    log.flush();
    code
}

async fn serve(
    config: Arc<ConfigFile>,
    logging: crate::logging::Handle,
    state_given: bool,
    zone_tasks: tokio::runtime::Handle,
) -> Result<(), String> {
    let c = &config.config;
    tracing::info!("Cascade version {}", env!("CARGO_PKG_VERSION"));
    for w in &config.warnings {
        tracing::warn!("{}", w.one_line());
    }
    let state_path = c.state_dir.as_std_path().to_path_buf();
    let disk = Disk::new();
    disk.make_dir(&state_path).map_err(|e| e.to_string())?;
    check_state_dir(&state_path)?;
    let _lock = crate::lock::Lock::take(&state_path).map_err(|e| e.to_string())?;
    let clock: Arc<dyn Clock> = cascade_program::clock::start(&state_path)?;
    let opened = State::open(&disk, &state_path);
    let (state, origin) = opened.map_err(|e| crate::upgrade::refusal(&e, &state_path))?;
    if let Origin::Backup { from, .. } = &origin {
        tracing::error!(
            "state was restored from the backup {}; check every zone",
            from.display()
        );
    }
    crate::upgrade::take_over(&state, &state_path, c.keys_dir().as_std_path(), clock.now())?;
    let active = policies::stored(&state)?;
    let tsig = crate::tsig::Tsig::stored(&state)?;
    let tokens = crate::control::Tokens::stored(&state)?;
    let audit = AuditLog::open(&disk, &state_path.join("audit.log")).map_err(|e| e.to_string())?;
    let counters = Arc::<Counters>::default();
    let audit = crate::audit::Audit::new(audit, counters.clone())
        .map_err(|e| format!("writer of the audit log: {e}"))?;
    let mut passed = crate::activation::take(c)?;
    let sockets = servers::bind(&config, &mut passed)?;
    let own_socket = passed.control.is_empty();
    let (notify_tx, notify_rx) = mpsc::channel(NOTIFY_OUT);
    let (watch_tx, watch_rx) = mpsc::channel(NOTIFY_OUT);
    let (in_tx, in_rx) = mpsc::channel(servers::NOTIFY_QUEUE);
    let (updates_tx, updates_rx) = mpsc::channel(crate::update::QUEUE);
    let threads = match c.signer.threads {
        0 => cpus(),
        n => n as usize,
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("compute-{i}"))
        .build()
        .map_err(|e| format!("compute pool: {e}"))?;
    let quick_pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("quick-{i}"))
        .build()
        .map_err(|e| format!("pool for short work: {e}"))?;
    let quick = crate::quick::Quick::new("quick", threads)
        .map_err(|e| format!("threads for short work: {e}"))?;
    let quick_files = crate::quick::Quick::new("files", cpus().saturating_mul(2))
        .map_err(|e| format!("threads for small files: {e}"))?;
    let sweep_pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .thread_name(|_| "sweep".into())
        .build()
        .map_err(|e| format!("thread of the background checks: {e}"))?;
    let bounds = limits(c);
    let directory = Arc::new(Directory::new());
    let stores = Arc::new(crate::stores::KeyStores::new(c.keys_dir().as_std_path()));
    // Each HSM tells a handful of things when its state changes: bounded by their number.
    let (hsm_tx, hsm_rx) = mpsc::unbounded_channel();
    let pool = Arc::new(pool);
    let world = crate::hsm::device::World {
        on: tokio::runtime::Handle::current(),
        compute: pool.clone(),
        clock: clock.clone(),
        events: hsm_tx,
    };
    let hsms = crate::hsm::Hsms::stored(&state, stores.clone(), world)?;
    let held = crate::steps::ClockWatch::kept(&state)?;
    let d = Arc::new(Daemon {
        clock_watch: crate::steps::ClockWatch::new(&*clock, held),
        clock_sync: crate::sync::SyncWatch::new(&*clock),
        started_at: clock.now(),
        files: ZoneFiles::new(&disk, &state_path),
        audit,
        keyring: crate::keys::Keyring::new(stores.clone()),
        stores,
        hsms,
        policies: ArcSwap::from_pointee(active),
        reloading: tokio::sync::RwLock::new(()),
        adding: Mutex::default(),
        backups: tokio::sync::Mutex::new(()),
        metrics_turn: tokio::sync::Mutex::new(()),
        zones: RwLock::new(BTreeMap::new()),
        directory: directory.clone(),
        alarm: Default::default(),
        awake: Default::default(),
        pool,
        quick_pool,
        quick,
        quick_files,
        zone_tasks,
        quick_signings: Semaphore::new(cpus().saturating_mul(2)),
        loads: Semaphore::new(bounds.loads),
        transfers: crate::transfer::Gate::new(),
        signings: Semaphore::new(bounds.signings),
        token_signings: Semaphore::new(TOKEN_SIGNINGS),
        hooks: Semaphore::new(bounds.hooks),
        sweeps: Arc::new(Semaphore::new(1)),
        sweep_pool,
        restored: AtomicUsize::new(0),
        restores: Arc::new(Semaphore::new(cpus().saturating_mul(RESTORES_PER_CPU))),
        looks: Arc::new(crate::looks::Looks::new(c.key_manager.check_parallel)),
        notify: notify_tx,
        watch: watch_tx,
        secondaries: Arc::default(),
        known: Default::default(),
        bound: ArcSwap::from_pointee(sockets.bound.clone()),
        stats: Mutex::new(Vec::new()),
        dns: Mutex::default(),
        own_socket,
        reload: Mutex::default(),
        certificates: Default::default(),
        tsig,
        tokens,
        second: Mutex::new(()),
        operations: crate::control::Operations::default(),
        live: ArcSwap::new(config.clone()),
        counters,
        logging,
        ready: AtomicBool::new(false),
        clock: clock.clone(),
        config: config.clone(),
        state,
    });
    d.certificates.serve(&config.config);
    tokio::spawn(crate::certificates::watch(d.clone()));
    tokio::spawn(crate::hsm::events::run(d.clone(), hsm_rx));
    start_watch(&d, watch_rx);
    let looks = d.looks.clone();
    tokio::spawn(async move { looks.give_turns().await });
    tokio::spawn(watch_room(d.clone()));
    tokio::spawn(crate::steps::watch(d.clone()));
    systemd::status("restoring zones");
    let started = start_zones(&d).await?;
    let purging = d.clone();
    tokio::task::spawn_blocking(move || purge_bundles(&purging));
    // A zone is served as soon as it is read back; until then its answer is SERVFAIL.
    let keys = d.tsig.keys();
    let dns = servers::serve(
        sockets,
        &config,
        keys,
        directory,
        clock.clone(),
        in_tx,
        updates_tx,
    )
    .map_err(|e| e.to_string())?;
    *d.stats.lock() = dns.stats();
    *d.dns.lock() = dns;
    restored(&d, started).await;
    start_notify(&d, notify_rx, in_rx);
    tokio::spawn(crate::update::run(d.clone(), updates_rx));
    let (stop_tx, stop_rx) = watch::channel(false);
    let (http, api) = start_api(&d, passed, stop_rx).await?;
    d.ready.store(true, Ordering::Release);
    tracing::info!("Cascade is fully initialized.");
    systemd::ready("serving");
    until_stopped(&d, &http, state_given).await?;
    systemd::stopping("stopping");
    tracing::info!("stopping");
    let _ = stop_tx.send(true);
    for z in d.zone_list() {
        z.line.stop();
    }
    let _ = tokio::time::timeout(GRACE, api).await;
    let dns = std::mem::take(&mut *d.dns.lock());
    dns.stop(GRACE).await;
    let _ = tokio::time::timeout(GRACE, d.audit.flush()).await;
    // The service manager's socket stays for the next start.
    if let Some(path) = &d.config.config.remote_control.socket.0
        && d.own_socket
    {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// How much of each kind of work runs at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub loads: usize,
    pub signings: usize,
    pub hooks: usize,
}

/// The configuration's bounds; 0 there means by the number of CPUs.
pub fn limits(config: &cascade_policy::Config) -> Limits {
    let or = |configured: u32, default: usize| match configured {
        0 => default,
        n => n as usize,
    };
    Limits {
        loads: or(
            config.loader.max_concurrent_loads,
            (cpus() / 2).clamp(1, 16),
        ),
        signings: or(config.signer.max_concurrent_zones, cpus()),
        hooks: config.hooks.max_running as usize,
    }
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// After the restoration of a backup, by whatever means, no zone is sure to be the newest: each asks
/// its servers before anything new is signed. The marks are durable before anything begins.
fn doubt_copies(d: &Daemon) -> Result<(), String> {
    let text = |e: cascade_archive::ArchiveError| e.to_string();
    if !d.state.is_copy().map_err(text)? {
        return Ok(());
    }
    tracing::warn!(
        "the state comes from a backup; the servers of every zone are asked whether they have seen more since"
    );
    let rows: Vec<(String, ZoneRow)> =
        d.state.list(Table::Zones, None, usize::MAX).map_err(text)?;
    let mut changes = Vec::with_capacity(rows.len());
    for (id, mut row) in rows {
        cascade_pipeline::doubt(&mut row.zone, d.now());
        changes.push(Change::put(Table::Zones, &id, &row).map_err(text)?);
    }
    d.state.settle_copy(&changes).map_err(text)
}

/// What an earlier process did not wait to see in its journals is written there, before anybody reads
/// them. What cannot be is damage, which each zone finds for itself, and is given up: the zone goes on
/// without it, and written at a later start it would stand in place of what came meanwhile.
fn mend_journals(d: &Daemon) -> Result<(), String> {
    let tails = d.state.tails().map_err(|e| e.to_string())?;
    if tails.is_empty() {
        return Ok(());
    }
    let mut written = 0;
    for tail in &tails {
        let mut mended = d.files.mend(tail);
        if mended.as_ref().is_err_and(ArchiveError::is_full) {
            // The reserve is for this.
            if let Err(e) = d.state.note_full() {
                tracing::error!("the reserve on the full disk: {e}");
            }
            mended = d.files.mend(tail);
        }
        match mended {
            Ok(lacked) => written += usize::from(lacked),
            Err(e) => tracing::error!(
                "the end of a journal cannot be written, and its zone goes on from the last version that is whole, which is told when it is read back: {e}"
            ),
        }
    }
    tracing::info!(kept = tails.len(), written, "ends of journals are complete");
    let done = tails.iter().map(|tail| Tail::forget(tail.key()));
    d.state.commit(done.collect()).map_err(|e| e.to_string())
}

/// Every zone that an earlier process left gets its task, and is read back.
async fn start_zones(d: &Arc<Daemon>) -> Result<Vec<Arc<zone::ZoneHandle>>, String> {
    let mut started = Vec::new();
    let mut after: Option<String> = None;
    doubt_copies(d)?;
    mend_journals(d)?;
    let mut at_rest = false;
    loop {
        let rows: Vec<(String, ZoneRow)> = d
            .pool
            .install(|| d.state.list(Table::Zones, after.as_deref(), ROWS))
            .map_err(|e| e.to_string())?;
        let Some((last, _)) = rows.last() else { break };
        after = Some(last.clone());
        d.restored.fetch_add(rows.len(), Ordering::Relaxed);
        at_rest |= zone::many(rows.len());
        let rows = match at_rest {
            true => serve_at_rest(d, rows),
            false => rows,
        };
        for (id, row) in rows {
            started.extend(restore_zone(d, &id, row));
        }
        systemd::extend(RESTORE_STEP, "restoring zones");
        // Those that were started are read back while the next ones are decoded.
        tokio::task::yield_now().await;
    }
    Ok(started)
}

/// Of very many zones, those that nothing was going on in are served at once, and restored one after
/// the other later. Gives the others.
fn serve_at_rest(d: &Arc<Daemon>, rows: Vec<(String, ZoneRow)>) -> Vec<(String, ZoneRow)> {
    use rayon::iter::Either;
    use rayon::prelude::*;
    let one = |(id, mut row): (String, ZoneRow)| {
        let known = Name::parse(&row.apex).ok();
        let known = known.zip(d.policy(&row.zone.settings.policy));
        let served = known.and_then(|(apex, policy)| {
            row.keys.renew(&apex, d.now());
            let settings = servers::zone_settings(&policy.file.policy, &row.source);
            zone::serve_at_rest(d, &row, &apex, &settings)
        });
        match served {
            Some(z) => Either::Left(z),
            None => Either::Right((id, row)),
        }
    };
    let (rest, others): (Vec<_>, Vec<_>) = d
        .pool
        .install(|| rows.into_par_iter().map(one).partition_map(|e| e));
    let mut zones = d.zones.write();
    zones.extend(rest.into_iter().map(|z| (z.name.clone(), z)));
    others
}

/// Waits until every zone that can be served is served: that is what ready means.
async fn restored(d: &Arc<Daemon>, started: Vec<Arc<zone::ZoneHandle>>) {
    let n = started.len();
    let mut left = started;
    let mut told = n + 1;
    while !left.is_empty() {
        left.retain(|z| {
            z.view().row.zone.api_state() == cascade_pipeline::state::ApiState::Restoring
        });
        if !left.is_empty() {
            if left.len() < told {
                told = left.len();
                let text = format!("restoring zones: {} of {n}", n - told);
                systemd::extend(RESTORE_STEP, &text);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    // Start-up always compares the file with what was loaded from it; those at rest do in their turn.
    for z in d.zone_list().into_iter().filter(|z| !z.line.rests()) {
        let _ = z.line.try_send(Message::Source(Trigger::Restart));
    }
    tokio::spawn(zone::run_alarm(d.clone()));
}

/// Starts the task of a zone that is in the state.
fn restore_zone(d: &Arc<Daemon>, id: &str, mut row: ZoneRow) -> Option<Arc<zone::ZoneHandle>> {
    let Ok(apex) = Name::parse(&row.apex) else {
        tracing::error!(
            "zone {id} has the unreadable name '{}' in the state; it is left alone",
            row.apex
        );
        return None;
    };
    row.keys.renew(&apex, d.now());
    let settings = match d.policy(&row.zone.settings.policy) {
        Some(p) => servers::zone_settings(&p.file.policy, &row.source),
        None => {
            tracing::error!(zone = %row.zone.name, "policy '{}' of the zone is not in the state", row.zone.settings.policy);
            Default::default()
        }
    };
    if let Err(e) = d.directory.add(row.zone.id, &apex, settings) {
        tracing::error!(zone = %row.zone.name, "{e}");
        return None;
    }
    let handle = zone::start_restored(d, row, apex);
    d.zones.write().insert(handle.name.clone(), handle.clone());
    Some(handle)
}

fn start_notify(
    d: &Arc<Daemon>,
    commands: mpsc::Receiver<NotifyCommand>,
    mut incoming: mpsc::Receiver<cascade_publisher::NotifyIn>,
) {
    let (events_tx, mut events) = mpsc::channel(1024);
    let clock = d.clock.clone();
    let rng = Box::new(|| u32::from_le_bytes(random()));
    tokio::spawn(async move {
        let settings = SenderSettings {
            watched: true,
            ..SenderSettings::default()
        };
        if let Err(e) = NotifySender::run(settings, clock, rng, commands, events_tx).await {
            tracing::error!("NOTIFY cannot be sent: {e}");
        }
    });
    tokio::spawn(async move {
        while let Some(e) = events.recv().await {
            tracing::info!(target = %e.target, notice = ?e.notice, "NOTIFY");
        }
    });
    let d = d.clone();
    tokio::spawn(async move {
        while let Some(n) = incoming.recv().await {
            let name = n.apex.to_lowercase().without_dot();
            if let Some(z) = d.zone(&name) {
                let _ = z.line.try_send(Message::Source(Trigger::Notify));
            }
        }
    });
}

/// Keeps the reserve on the disk, and tells the zones when there is no room and when there is again.
async fn watch_room(d: Arc<Daemon>) {
    let look = |d: &Arc<Daemon>| {
        let d = d.clone();
        tokio::task::spawn_blocking(move || d.state.look_for_room())
    };
    match look(&d).await {
        Ok(Ok(true)) | Err(_) => {}
        Ok(Ok(false)) => tracing::warn!(
            "{}: no room for a reserve of 64 MiB and 256 MiB or 5 % beside it; should the disk become full, nothing can be signed",
            d.config.config.state_dir
        ),
        Ok(Err(e)) => tracing::warn!("the reserve on the disk: {e}"),
    }
    let mut told = false;
    let mut seconds = 0u32;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        seconds = seconds.wrapping_add(1);
        if d.state.is_full() && seconds.is_multiple_of(LOOK_FOR_ROOM) {
            let _ = look(&d).await;
        }
        let full = d.state.is_full();
        if full == told {
            continue;
        }
        told = full;
        match full {
            true => tracing::error!(
                critical = true,
                "{}: the disk is full. What is published goes on being served; new versions wait for room, and only signatures that would expire are renewed",
                d.config.config.state_dir
            ),
            false => tracing::info!("the disk has room again"),
        }
        // One at rest hears of it when it is woken.
        for z in d.zone_list().into_iter().filter(|z| !z.line.rests()) {
            z.tell(Message::Storage { full });
        }
    }
}

/// Asks secondaries for their serial, and passes on what that shows.
fn start_watch(d: &Arc<Daemon>, commands: mpsc::Receiver<WatchCommand>) {
    let (events_tx, mut events) = mpsc::channel(1024);
    let (clock, table) = (d.clock.clone(), d.secondaries.clone());
    let rng = Box::new(|| u32::from_le_bytes(random()));
    tokio::spawn(async move {
        if let Err(e) = Watcher::run(clock, rng, table, commands, events_tx).await {
            tracing::error!("secondaries cannot be watched: {e}");
        }
    });
    tokio::spawn(crate::secondaries::sample_all(d.clone()));
    let d = d.clone();
    tokio::spawn(async move {
        while let Some(e) = events.recv().await {
            let entry = d.directory.by_id(e.zone);
            let name = entry.map(|z| z.apex().to_lowercase().without_dot());
            let Some(zone) = name.and_then(|n| d.zone(&n)) else {
                continue;
            };
            let (name, target) = (&zone.name, e.target);
            match e.finding {
                Finding::HasSerial { serial, after } => {
                    tracing::info!(zone = %name, secondary = %target, serial = serial.0, after_ms = after.as_millis() as u64, "secondary has the serial");
                    let seen = NotifyCommand::Seen {
                        zone: e.zone,
                        addr: target,
                        serial,
                    };
                    let _ = d.notify.try_send(seen);
                }
                Finding::Behind { serial } => {
                    tracing::info!(zone = %name, secondary = %target, serial = serial.0, "secondary is behind; it is told");
                    let _ = zone.line.try_send(Message::Behind);
                }
                Finding::Ahead { serial } => {
                    tracing::warn!(zone = %name, secondary = %target, serial = serial.0, "secondary says that it has a newer serial than ours; it is asked again over TCP");
                    crate::secondaries::ahead(&d, &zone, target);
                }
                Finding::Failing { problem } => {
                    tracing::warn!(zone = %name, secondary = %target, ?problem, "secondary gave no serial three times in a row");
                }
            }
        }
    });
}

async fn start_api(
    d: &Arc<Daemon>,
    passed: Passed,
    stop: watch::Receiver<bool>,
) -> Result<(Http<Control>, tokio::task::JoinHandle<()>), String> {
    let rc = &d.config.config.remote_control;
    let control = Arc::new(Control { d: d.clone() });
    let http = Http::new(
        control,
        http_settings(rc),
        u64::from_le_bytes(random()),
        stop,
    );
    let mut tasks = tokio::task::JoinSet::new();
    if !passed.control.is_empty() {
        for listener in passed.control {
            let listener = listener
                .set_nonblocking(true)
                .and_then(|()| UnixListener::from_std(listener))
                .map_err(|e| format!("control socket of the service manager: {e}"))?;
            let http = http.clone();
            tasks.spawn(async move { http.serve_unix(listener).await });
        }
    } else if let Some(path) = &rc.socket.0 {
        let listener = bind_control(path.as_std_path(), rc.socket_mode.0)?;
        let http = http.clone();
        tasks.spawn(async move { http.serve_unix(listener).await });
    }
    let n = rc.servers.len() + passed.http.len();
    let mut have = Vec::new();
    for listener in passed.http {
        let shown = |e: std::io::Error| format!("http socket of the service manager: {e}");
        let addr = listener.local_addr().map_err(shown)?;
        only_loopback(addr, "the http socket of the service manager")?;
        listener.set_nonblocking(true).map_err(shown)?;
        let listener = TcpListener::from_std(listener).map_err(shown)?;
        let http = http.clone();
        tasks.spawn(async move { http.serve_tcp(listener).await });
        have.push(addr);
    }
    for addr in &rc.servers {
        let addr = addr.0;
        only_loopback(addr, "remote-control.servers")?;
        if have.contains(&addr) {
            continue;
        }
        match TcpListener::bind(addr).await {
            Ok(listener) => {
                let http = http.clone();
                tasks.spawn(async move { http.serve_tcp(listener).await });
            }
            Err(e) if addr.is_ipv6() && n > 1 && e.kind() != std::io::ErrorKind::AddrInUse => {
                tracing::warn!(
                    "{addr} of remote-control.servers is left out: the host has no IPv6 ({e})"
                );
            }
            Err(e) => {
                return Err(format!(
                    "cannot listen on {addr} (remote-control.servers): {e}"
                ));
            }
        }
    }
    let serving = tokio::spawn(async move { while tasks.join_next().await.is_some() {} });
    Ok((http, serving))
}

fn only_loopback(addr: std::net::SocketAddr, what: &str) -> Result<(), String> {
    if addr.ip().is_loopback() {
        return Ok(());
    }
    Err(format!(
        "{what}: {addr} is not loopback and TLS for the control API is not built yet; use a loopback address"
    ))
}

/// A stale socket file is replaced only if nobody answers on it.
fn bind_control(path: &Path, mode: u32) -> Result<UnixListener, String> {
    use std::os::unix::fs::PermissionsExt;
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(format!(
                "another program answers on the control socket {}",
                path.display()
            ));
        }
        std::fs::remove_file(path)
            .map_err(|e| format!("stale control socket {}: {e}", path.display()))?;
    }
    let listener = UnixListener::bind(path).map_err(|e| {
        format!(
            "control socket {}: {e}; the directory must exist and be writable",
            path.display()
        )
    })?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|e| format!("control socket {}: {e}", path.display()))?;
    Ok(listener)
}

/// `[remote-control]`, with names of users and groups looked up.
pub fn http_settings(rc: &cascade_policy::RemoteControlConfig) -> HttpSettings {
    let group = |g: &String| {
        let found = nix::unistd::Group::from_name(g).ok().flatten();
        if found.is_none() {
            tracing::warn!("remote-control.admin-groups: group '{g}' does not exist");
        }
        found.map(|g| g.gid.as_raw())
    };
    let user = |u: &String| {
        let found = nix::unistd::User::from_name(u).ok().flatten();
        if found.is_none() {
            tracing::warn!("remote-control.admin-users: user '{u}' does not exist");
        }
        found.map(|u| u.uid.as_raw())
    };
    HttpSettings {
        admins: Admins {
            own_uid: nix::unistd::geteuid().as_raw(),
            uids: rc.admin_users.iter().filter_map(user).collect(),
            gids: rc.admin_groups.iter().filter_map(group).collect(),
            local_read: rc.local_read,
            users: Arc::default(),
        },
        anonymous_read: rc.anonymous_read,
        allowed_hosts: rc.allowed_hosts.clone(),
        cors_origins: rc.cors_origins.clone(),
        max_connections: rc.max_connections as usize,
        max_body: rc.max_body.0 as usize,
    }
}

/// Signals until one of them ends the daemon.
async fn until_stopped(
    d: &Arc<Daemon>,
    http: &Http<Control>,
    state_given: bool,
) -> Result<(), String> {
    let get = |kind| signal(kind).map_err(|e| format!("signals: {e}"));
    let mut term = get(SignalKind::terminate())?;
    let mut int = get(SignalKind::interrupt())?;
    let mut hup = get(SignalKind::hangup())?;
    let mut usr1 = get(SignalKind::user_defined1())?;
    let mut usr2 = get(SignalKind::user_defined2())?;
    let turn = Arc::new(tokio::sync::Mutex::new(()));
    let mut backup = tokio::time::interval(Duration::from_secs(3600));
    backup.tick().await;
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let beat = systemd::watchdog_interval();
    let mut watchdog = tokio::time::interval(beat.unwrap_or(Duration::from_secs(3600)));
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            _ = hup.recv() => {
                // Beside the loop: a slow look-up of a group must not delay a stop.
                let (d, http, turn) = (d.clone(), http.clone(), turn.clone());
                tokio::spawn(async move {
                    let _one = turn.lock().await;
                    systemd::reloading();
                    reload::reload(&d, &http, state_given).await;
                    systemd::ready("serving");
                });
            }
            _ = usr2.recv() => d.logging.reopen(),
            _ = usr1.recv() => summary(d),
            _ = backup.tick() => {
                let d = d.clone();
                tokio::task::spawn_blocking(move || {
                    purge_bundles(&d);
                    if let Err(e) = d.state.rotate_backup() {
                        tracing::error!("hourly copy of the state: {e}");
                    }
                });
            }
            _ = second.tick() => {
                d.logging.expire(d.now());
            }
            _ = watchdog.tick(), if beat.is_some() => {
                // Fed only while the state answers.
                let d = d.clone();
                tokio::task::spawn_blocking(move || {
                    if d.state.get::<u32>(Table::Settings, "probe").is_ok() {
                        systemd::watchdog();
                    }
                });
            }
        }
    }
}

/// Keys of removed zones whose retention has ended.
fn purge_bundles(d: &Daemon) {
    let conf = d.conf();
    let retention = conf.config.key_manager.trash_retention;
    let dir = d.config.config.keys_dir();
    crate::keys::bundle::purge_old(&d.state, &d.keyring, dir.as_std_path(), retention, d.now());
}

fn summary(d: &Daemon) {
    for z in d.zone_list() {
        let view = z.view();
        let pz = &view.row.zone;
        tracing::info!(zone = %z.name, state = pz.api_state().as_str(), candidate = pz.candidate.name(), upkeep = pz.upkeep.name(), serial = ?pz.live.as_ref().map(|l| l.serial.0), "summary");
    }
}
