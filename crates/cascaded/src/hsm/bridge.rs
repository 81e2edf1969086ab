//! A managed bridge: `kmip2pkcs11` as our child, so that a vendor's module has a process
//! of its own without anybody setting up a service, an address or certificates.
//!
//! The child gets one end of a socket pair; each connection is another pair, one end of which is
//! passed through the first. There is no name by which anybody else could reach the child, or pose
//! as it and be told the PIN. A thread waits for the child's end and starts the next one; it lives
//! as long as the bridge, as a child ends with the thread that started it.

use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cascade_api::hsm::{HsmManaged, HsmManagedState};
use cascade_kmip::link::Local;
use cascade_program::fds;
use cascade_time::{Clock, Timestamp};
use parking_lot::{Condvar, Mutex};

use super::device::Device;

/// Waits before the next start; the last repeats.
const PAUSES: [u64; 6] = [1, 2, 5, 10, 30, 60];
/// A child that has lived so long begins the waits anew.
const STEADY: Duration = Duration::from_secs(60);
/// A child that was told to end has this long: calls of the module under way are answered first.
const PATIENCE: Duration = Duration::from_secs(40);
/// Between looks at a child that has closed its standard error.
const LOOK: Duration = Duration::from_millis(20);
/// Between the closing of its connections and the end of a child.
const MOMENT: Duration = Duration::from_secs(2);
/// Octets of a line of the child that are logged in one piece.
const LINE_MAX: u64 = 2048;
/// Where the program is if not beside ours.
const ELSEWHERE: [&str; 2] = ["/usr/bin/kmip2pkcs11", "/usr/local/bin/kmip2pkcs11"];
/// What of our environment is ours alone: the service manager's, our own settings, and those of a
/// bridge that somebody runs as a service.
const OURS: [&str; 9] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "CREDENTIALS_DIRECTORY",
    "KMIP2PKCS11_CONFIG",
    "CASCADE_FAKETIME",
];

/// Keeps a child running; dropping it ends the child.
pub struct Bridge(Arc<Shared>);

struct Shared {
    hsm: String,
    program: PathBuf,
    spec: HsmManaged,
    clock: Arc<dyn Clock>,
    life: Mutex<Life>,
    changed: Condvar,
    /// Whose connections are to be tried at once when a child has started.
    device: Mutex<Weak<Device>>,
}

struct Life {
    phase: Phase,
    since: Timestamp,
    starts: u64,
    last_end: Option<String>,
    child: Option<Child>,
}

enum Phase {
    Running { pid: u32, passage: OwnedFd },
    Waiting,
    Over,
}

/// Where the program is.
///
/// # Errors
/// Nowhere; with what to do.
pub fn program() -> Result<PathBuf, String> {
    let ours = std::env::current_exe().ok();
    let beside = ours.as_deref().and_then(Path::parent);
    let beside = beside.map(|folder| folder.join("kmip2pkcs11"));
    let all = beside
        .into_iter()
        .chain(ELSEWHERE.iter().map(PathBuf::from));
    all.into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| "the program kmip2pkcs11 is not installed; install its package".to_string())
}

impl Bridge {
    /// Starts the first child before it returns, so that connections can be made at once.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        hsm: &str,
        program: PathBuf,
        spec: HsmManaged,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Bridge> {
        let shared = Arc::new(Shared {
            hsm: hsm.to_string(),
            program,
            spec,
            life: Mutex::new(Life {
                phase: Phase::Waiting,
                since: clock.now(),
                starts: 0,
                last_end: None,
                child: None,
            }),
            clock,
            changed: Condvar::new(),
            device: Mutex::default(),
        });
        let own = shared.clone();
        std::thread::Builder::new()
            .name("bridge".into())
            .spawn(move || supervise(&own))?;
        let mut life = shared.life.lock();
        while life.starts == 0 && life.last_end.is_none() {
            shared.changed.wait(&mut life);
        }
        drop(life);
        Ok(Bridge(shared))
    }

    /// The way to it.
    pub fn local(&self) -> Local {
        let shared = self.0.clone();
        Local::new(move || shared.connect())
    }

    /// Whose connections are hurried when a child has started.
    pub fn attach(&self, device: &Arc<Device>) {
        *self.0.device.lock() = Arc::downgrade(device);
    }

    pub fn state(&self) -> HsmManagedState {
        let life = self.0.life.lock();
        let (state, pid) = match &life.phase {
            Phase::Running { pid, .. } => ("running", Some(*pid)),
            Phase::Waiting | Phase::Over => ("waiting", None),
        };
        HsmManagedState {
            module: self.0.spec.module.clone(),
            state: state.into(),
            pid,
            since: Some(life.since),
            starts: life.starts,
            last_end: life.last_end.clone(),
        }
    }

    /// How the last child ended, if it has or does so within a moment. For threads that may block.
    pub fn imminent_end(&self) -> Option<String> {
        let mut life = self.0.life.lock();
        let none = |life: &mut Life| life.last_end.is_none();
        self.0.changed.wait_while_for(&mut life, none, MOMENT);
        life.last_end.clone()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let mut life = self.0.life.lock();
        // Closes our end, which the child takes for the request to end.
        life.phase = Phase::Over;
        self.0.changed.notify_all();
        if life.child.is_none() {
            return;
        }
        drop(life);
        let shared = self.0.clone();
        let thread = std::thread::Builder::new().name("bridge-end".into());
        let _ = thread.spawn(move || {
            let mut life = shared.life.lock();
            let whole = shared.changed.wait_while_for(
                &mut life,
                |life| life.child.is_some(),
                PATIENCE,
            );
            if whole.timed_out()
                && let Some(child) = &mut life.child
            {
                tracing::warn!(hsm = %shared.hsm, "the bridge does not end by itself; it is killed");
                let _ = child.kill();
            }
        });
    }
}

impl Shared {
    fn connect(&self) -> io::Result<UnixStream> {
        let life = self.life.lock();
        match (&life.phase, &life.last_end) {
            (Phase::Running { passage, .. }, _) => {
                let (ours, theirs) = UnixStream::pair()?;
                // The end of the child is noticed a moment later elsewhere.
                fds::send(passage, theirs.as_fd()).map_err(|e| {
                    io::Error::new(e.kind(), format!("it takes no connection: {e}"))
                })?;
                Ok(ours)
            }
            (_, Some(end)) => Err(io::Error::other(format!(
                "the last one {end}; it is started again by itself"
            ))),
            (_, None) => Err(io::Error::other("it is not running")),
        }
    }

    /// # Errors
    /// The program cannot be started.
    fn spawn(&self) -> io::Result<ChildStderr> {
        let (ours, theirs) = fds::passage()?;
        let mut command = Command::new(&self.program);
        for name in OURS {
            command.env_remove(name);
        }
        let mut child = command
            .arg("--managed")
            .arg(&self.spec.module)
            .arg("--stderr")
            .envs(&self.spec.env)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.program.display())))?;
        let stderr = child.stderr.take();
        let mut life = self.life.lock();
        if !matches!(life.phase, Phase::Over) {
            life.phase = Phase::Running {
                pid: child.id(),
                passage: ours,
            };
        }
        life.since = self.clock.now();
        life.starts += 1;
        life.child = Some(child);
        self.changed.notify_all();
        drop(life);
        stderr.ok_or_else(|| io::Error::other("no pipe for its messages"))
    }

    /// Waits for the child's end; how that was, and its last words if it said any.
    fn await_end(&self, stderr: io::Result<ChildStderr>) -> String {
        let words = match stderr {
            Ok(stderr) => follow(&self.hsm, stderr),
            Err(e) => Some(e.to_string()),
        };
        let mut life = self.life.lock();
        // Its standard error is closed, so that it is about to end; seldom it is not.
        let status = loop {
            match life.child.as_mut().map(Child::try_wait) {
                Some(Ok(None)) => _ = self.changed.wait_for(&mut life, LOOK),
                Some(Ok(Some(status))) => break Some(status),
                Some(Err(_)) | None => break None,
            }
        };
        life.child = None;
        let end = told(status, words);
        life.last_end = Some(end.clone());
        life.since = self.clock.now();
        if !matches!(life.phase, Phase::Over) {
            life.phase = Phase::Waiting;
        }
        self.changed.notify_all();
        end
    }
}

fn told(status: Option<ExitStatus>, words: Option<String>) -> String {
    let how = match status.map(|s| (s.code(), s.signal())) {
        Some((Some(4), _)) => "gave up on a module that hangs (exit status 4)".to_string(),
        Some((Some(code), _)) => format!("ended with exit status {code}"),
        Some((None, Some(signal))) => format!("ended by signal {signal}"),
        Some((None, None)) => "ended".to_string(),
        None => "could not be started".to_string(),
    };
    match words {
        Some(words) => format!("{how}: {words}"),
        None => how,
    }
}

/// Until the bridge is dropped: a child, its end, a pause, the next child.
fn supervise(shared: &Arc<Shared>) {
    let mut failures = 0usize;
    loop {
        let begun = shared.clock.monotonic();
        let stderr = shared.spawn();
        if let Some(device) = shared.device.lock().upgrade() {
            device.pool().hurry();
        }
        let end = shared.await_end(stderr);
        let lived = shared.clock.monotonic().saturating_sub(begun);
        if lived >= STEADY {
            failures = 0;
        }
        let pause = PAUSES.get(failures).or(PAUSES.last()).copied().unwrap_or(1);
        failures += 1;
        let mut life = shared.life.lock();
        if matches!(life.phase, Phase::Over) {
            return;
        }
        tracing::warn!(hsm = %shared.hsm, "the bridge to HSM '{}' {end}; the next one starts in {pause} s", shared.hsm);
        let over = |life: &mut Life| !matches!(life.phase, Phase::Over);
        let pause = Duration::from_secs(pause);
        shared.changed.wait_while_for(&mut life, over, pause);
        if matches!(life.phase, Phase::Over) {
            return;
        }
    }
}

/// Logs what the child says until it closes its standard error; its last error, if it said one.
fn follow(hsm: &str, stderr: impl Read) -> Option<String> {
    let mut from = BufReader::new(stderr);
    let (mut line, mut last) = (Vec::new(), None);
    loop {
        line.clear();
        match from.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(0) => return last,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line).replace(char::is_control, " ");
                let (level, text) = level_and_text(text.trim_end());
                match level {
                    Level::Error => {
                        tracing::error!(hsm, "kmip2pkcs11: {text}");
                        last = Some(text.to_string());
                    }
                    Level::Warning => tracing::warn!(hsm, "kmip2pkcs11: {text}"),
                    Level::Other => tracing::info!(hsm, "kmip2pkcs11: {text}"),
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return last,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Error,
    Warning,
    Other,
}

/// Lines are "<time> <level> <text>", or "Error: <text>" from before there is a log.
fn level_and_text(line: &str) -> (Level, &str) {
    if let Some(text) = line.strip_prefix("Error: ") {
        return (Level::Error, text);
    }
    let mut parts = line.splitn(3, ' ');
    let level = match (parts.next(), parts.next()) {
        (_, Some("error" | "critical")) => Level::Error,
        (_, Some("warning")) => Level::Warning,
        (_, Some("info" | "debug" | "trace")) => Level::Other,
        _ => return (Level::Other, line),
    };
    (level, parts.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cascade_time::SimClock;
    use std::os::unix::fs::PermissionsExt;

    fn clock() -> Arc<dyn Clock> {
        Arc::new(SimClock::new(Timestamp::EPOCH))
    }

    /// A bridge whose program is this script.
    fn bridge(folder: &Path, script: &str) -> Bridge {
        let program = folder.join("program");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let spec = HsmManaged {
            module: "/module.so".into(),
            env: [("TOKEN_FILE".to_string(), "here".to_string())].into(),
        };
        Bridge::start("vault", program, spec, clock()).unwrap()
    }

    #[allow(clippy::disallowed_methods, reason = "a test that waits")]
    fn until(what: &str, mut is: impl FnMut() -> bool) {
        for _ in 0..500 {
            if is() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("not within 5 s: {what}");
    }

    #[test]
    fn a_child_that_ends_is_told_and_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let b = bridge(
            dir.path(),
            "echo \"Error: $1 $2 in $TOKEN_FILE is no module\" >&2; exit 1",
        );
        until("its end", || b.state().last_end.is_some());
        let end = b.state().last_end.unwrap();
        assert_eq!(
            end,
            "ended with exit status 1: --managed /module.so in here is no module"
        );
        until("the next start", || b.state().starts >= 2);
        let e = b.0.connect();
        if let Err(e) = e {
            // The second: it has just ended, which is not noticed yet.
            let told = ["started again", "takes no connection"];
            assert!(told.iter().any(|t| e.to_string().contains(t)), "{e}");
        }
    }

    #[test]
    fn a_killed_child_has_a_successor_and_the_last_one_ends_with_the_bridge() {
        let dir = tempfile::tempdir().unwrap();
        // Ends when its standard input does.
        let b = bridge(dir.path(), "exec cat >/dev/null");
        let state = b.state();
        assert_eq!((state.state.as_str(), state.starts), ("running", 1));
        assert!(b.0.connect().is_ok());
        let pid = |b: &Bridge| b.state().pid.map(|p| nix::unistd::Pid::from_raw(p as i32));
        let first = pid(&b).unwrap();
        nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGKILL).unwrap();
        until("the next one", || pid(&b).is_some_and(|p| p != first));
        assert_eq!(b.state().last_end.as_deref(), Some("ended by signal 9"));
        let shared = b.0.clone();
        drop(b);
        until("the last end", || shared.life.lock().child.is_none());
        assert!(shared.connect().is_err());
    }

    #[test]
    fn a_program_that_is_not_there_is_told() {
        let spec = HsmManaged::default();
        let b = Bridge::start("vault", "/no/program".into(), spec, clock()).unwrap();
        until("the refusal", || b.state().last_end.is_some());
        let end = b.state().last_end.unwrap();
        assert!(
            end.starts_with("could not be started: /no/program: "),
            "{end}"
        );
    }

    #[test]
    fn levels_of_lines() {
        for (line, level, text) in [
            ("Error: no module", Level::Error, "no module"),
            (
                "2026-11-26T04:32:50+00:00 warning the token is away",
                Level::Warning,
                "the token is away",
            ),
            (
                "2026-11-26T04:32:50+00:00 info an error ",
                Level::Other,
                "an error ",
            ),
            ("something else", Level::Other, "something else"),
        ] {
            assert_eq!(level_and_text(line), (level, text));
        }
    }
}
