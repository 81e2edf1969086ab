//! The program while it runs: the module is loaded beside the listeners, signals and a tick decide
//! what comes next.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cascade_hsm::{Event, Hsm, IdForm, ModuleError, Settings};
use cascade_kmip::serve::{Bounds, Service};
use cascade_kmip::server::ServerLimits;
use cascade_kmip::ttlv::Limits;
use cascade_policy::{BridgeConfig, KeyIdForm, SetLabels};
use cascade_program::clock::SystemClock;
use cascade_program::systemd;
use cascade_time::Clock;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::logging;
use crate::process;
use crate::tokens::{Module, fill_random};

/// A module that cannot be used fails the start if it says so within this time; a slow one does not
/// delay it for longer.
const LOADING: Duration = Duration::from_secs(5);
/// Waits before a module that did not start is tried again.
const RETRIES: [u64; 6] = [1, 2, 5, 10, 30, 60];
/// At a stop, requests under way have this long besides the longest call of the module.
const GRACE: Duration = Duration::from_secs(2);
/// Exit status when the module hangs for good.
const HUNG: u8 = 4;

/// What serving needs besides connections.
pub struct Bridge {
    pub config: BridgeConfig,
    pub log: logging::Handle,
    pub module: Arc<Module>,
    pub service: Arc<Service>,
    pub stop: watch::Sender<bool>,
    /// Listeners and connections; all end after a stop.
    pub tasks: JoinSet<()>,
    /// How an operator tests the configuration.
    pub test_hint: String,
    /// Called on SIGHUP.
    pub reload: Box<dyn Fn() + Send>,
}

impl Bridge {
    pub fn new(config: BridgeConfig, log: logging::Handle, idle: Duration) -> Bridge {
        let module = Arc::new(Module::new());
        let clock = SystemClock::new();
        let max = usize::try_from(config.max_request_bytes.0).unwrap_or(usize::MAX);
        let limits = ServerLimits {
            request: Limits::new(max),
            ..ServerLimits::default()
        };
        let bounds = Bounds {
            max_connections: config.max_connections as usize,
            handshake: config.handshake_timeout,
            idle,
            ..Bounds::default()
        };
        let now = move || clock.now().secs();
        Bridge {
            service: Arc::new(Service::new(limits, bounds, module.clone(), now)),
            config,
            log,
            module,
            stop: watch::channel(false).0,
            tasks: JoinSet::new(),
            test_hint: String::new(),
            reload: Box::new(|| {}),
        }
    }

    /// Loads the module, then works until a signal, the end of `over`, or a module that hangs.
    /// `ready` is called once connections are taken.
    pub async fn run(mut self, ready: impl FnOnce(), over: impl Future<Output = ()>) -> ExitCode {
        // Before the module is loaded, which may take its time.
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(e) => {
                tracing::error!("signals cannot be received: {e}");
                return ExitCode::FAILURE;
            }
        };
        let (first, outcome) = oneshot::channel();
        let (fatal, mut failed) = watch::channel(None::<String>);
        self.load(first, fatal);
        if let Ok(Ok(Err(error))) = timeout(LOADING, outcome).await {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
        systemd::ready(&self.status());
        ready();
        let code = tokio::select! {
            code = self.work(&mut signals, &mut failed) => code,
            () = over => ExitCode::SUCCESS,
        };
        self.finish(code).await
    }

    async fn work(
        &mut self,
        signals: &mut Signals,
        failed: &mut watch::Receiver<Option<String>>,
    ) -> ExitCode {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut said = String::new();
        let mut probes = JoinSet::new();
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => return ExitCode::SUCCESS,
                _ = signals.interrupt.recv() => return ExitCode::SUCCESS,
                _ = signals.hangup.recv() => {
                    systemd::reloading();
                    self.log.reopen();
                    (self.reload)();
                    systemd::ready(&self.status());
                }
                Ok(error) = failed.wait_for(Option::is_some) => {
                    tracing::error!("{}", error.as_deref().unwrap_or_default());
                    return ExitCode::FAILURE;
                }
                _ = tick.tick() => {
                    self.log.tick();
                    systemd::watchdog();
                    while probes.try_join_next().is_some() {}
                    if probes.is_empty() {
                        self.probe(&mut probes);
                    }
                    let status = self.status();
                    if status != said {
                        systemd::status(&status);
                        said = status;
                    }
                    if self.module.get().is_ok_and(|hsm| hsm.is_beyond_recovery()) {
                        tracing::error!(critical = true, "the module hangs: several calls in a row did not return; ending, so that the service manager starts anew");
                        return ExitCode::from(HUNG);
                    }
                }
            }
        }
    }

    /// Asks tokens that are away whether they are back. Each decides itself how often the device is
    /// really asked.
    fn probe(&self, probes: &mut JoinSet<()>) {
        let Ok(hsm) = self.module.get() else { return };
        for token in hsm.tokens() {
            if token.away().is_some() {
                // Its outcome is in the token's state, and told as an event.
                probes.spawn_blocking(move || drop(token.probe()));
            }
        }
    }

    /// Lets requests under way finish, then the module.
    async fn finish(mut self, code: ExitCode) -> ExitCode {
        systemd::stopping("stopping");
        tracing::info!("stopping");
        let _ = self.stop.send(true);
        let hung = code == ExitCode::from(HUNG);
        if hung {
            // What the module does at the end of the process may hang as well.
            std::thread::spawn(|| {
                pause(2 * GRACE);
                std::process::abort();
            });
        } else {
            let patience = self.config.call_timeout + GRACE;
            systemd::extend(patience + GRACE, "answering the last requests");
            let all = async { while self.tasks.join_next().await.is_some() {} };
            if timeout(patience, all).await.is_err() {
                tracing::warn!("requests are still under way; they are given up");
            }
            if let Ok(hsm) = self.module.get() {
                let end = tokio::task::spawn_blocking(move || hsm.finish(GRACE));
                let _ = timeout(2 * GRACE, end).await;
            }
        }
        self.log.flush();
        code
    }

    /// Loads on a thread of its own: modules read files, resolve names and connect.
    fn load(
        &self,
        first: oneshot::Sender<Result<(), String>>,
        fatal: watch::Sender<Option<String>>,
    ) {
        let (config, module) = (self.config.clone(), self.module.clone());
        let hint = self.test_hint.clone();
        let mut first = Some(first);
        let thread = std::thread::Builder::new().name("module-load".into());
        let spawned = thread.spawn(move || {
            for wait in RETRIES.iter().chain(std::iter::repeat(&60)) {
                let (error, retry) = match open(&config) {
                    Ok(hsm) => {
                        module.set(Ok(hsm));
                        return first.map(|f| f.send(Ok(())));
                    }
                    Err(error) => (
                        format!(
                            "{error}; this program runs as user {}{hint}",
                            process::user_name()
                        ),
                        matches!(error, LoadError::Module(ModuleError::Refused { .. })),
                    ),
                };
                module.set(Err(error.clone()));
                if !retry {
                    let told = first.take().map(|f| f.send(Err(error.clone())));
                    if !matches!(told, Some(Ok(()))) {
                        let _ = fatal.send(Some(error));
                    }
                    return None;
                }
                tracing::warn!("{error}; trying again in {wait} s");
                if let Some(first) = first.take() {
                    let _ = first.send(Ok(()));
                }
                pause(Duration::from_secs(*wait));
            }
            None
        });
        if let Err(e) = spawned {
            self.module
                .set(Err(format!("no thread can be started: {e}")));
        }
    }

    /// For `systemctl status`.
    fn status(&self) -> String {
        let hsm = match self.module.get() {
            Ok(hsm) => hsm,
            Err(why) => return format!("serving without a token: {why}"),
        };
        let tokens = hsm.tokens();
        let all: Vec<String> = tokens
            .iter()
            .map(|t| match t.away() {
                None => format!("token {} ready", t.info().label),
                Some(open) => format!("token {} away: {}", t.info().label, open.why),
            })
            .collect();
        match all.is_empty() {
            true => "serving; no client has opened a token yet".into(),
            false => format!("serving; {}", all.join(", ")),
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Why there is no module.
#[derive(Debug)]
pub enum LoadError {
    Module(ModuleError),
    NoRandom,
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadError::Module(error) => error.fmt(f),
            LoadError::NoRandom => f.write_str("the system gives no random octets"),
        }
    }
}

/// Loads the module as the configuration says.
pub fn open(config: &BridgeConfig) -> Result<Arc<Hsm>, LoadError> {
    let mut salt = [0; 16];
    if !fill_random(&mut salt) {
        return Err(LoadError::NoRandom);
    }
    let settings = Settings {
        call_timeout: config.call_timeout,
        max_sessions: config.max_sessions as usize,
        id_form: match config.key_id_form {
            KeyIdForm::AsciiHex => IdForm::AsciiHex,
            KeyIdForm::Binary => IdForm::Binary,
        },
        set_labels: config.set_labels == SetLabels::Auto,
        ..Settings::new(salt)
    };
    let path = config.lib_path.as_std_path();
    let clock = Arc::new(SystemClock::new());
    let hsm = Hsm::load(path, settings, clock, Arc::new(tell)).map_err(LoadError::Module)?;
    tracing::info!("module {} is in use", config.lib_path);
    Ok(Arc::new(hsm))
}

/// What happens at the tokens, as log lines.
fn tell(event: Event) {
    match event {
        Event::Opened {
            slot,
            by_module: true,
        } => tracing::info!(
            slot,
            "token opened; the module logs in by itself, so that any PIN is accepted"
        ),
        Event::Opened { slot, .. } => tracing::info!(slot, "token opened with a client's PIN"),
        Event::LoginRefused { slot, why } => tracing::warn!(slot, "login refused: {why}"),
        Event::Away { slot, why } => tracing::warn!(slot, "the token does not answer: {why}"),
        Event::Back { slot, after } => {
            tracing::info!(slot, "the token answers again after {} s", after.as_secs())
        }
        Event::Hung { slot, in_a_row } => tracing::warn!(
            slot,
            in_a_row,
            "a call of the module did not return in time; its session is given up"
        ),
        Event::InitialisedAgain { slot, result } => match result {
            Ok(()) => tracing::warn!(slot, "the module was initialised again"),
            Err(why) => tracing::warn!(slot, "initialising the module again failed: {why}"),
        },
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a thread of the program that has nothing else to do"
)]
fn pause(span: Duration) {
    std::thread::sleep(span);
}
