//! One daemon with its files, in a directory that goes away with it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Answer, Ports, Reply, Said, dig, http, until, within};

/// Why a daemon did not start: its exit and everything that it said.
#[derive(Debug)]
pub struct Failure {
    pub status: Option<ExitStatus>,
    pub said: String,
}

/// A place for one daemon: configuration, policies, zone files, state, control socket, log.
#[derive(Debug)]
pub struct Site {
    folder: TempDir,
    ports: Ports,
    programs: PathBuf,
    child: Option<Child>,
    /// What the daemon takes for the time at its start, in seconds; the real time if not given.
    time: Option<i64>,
    /// What a shell does before the daemon.
    prelude: String,
}

const HTTP: usize = 0;
const NOTIFY: usize = 1;
const UNSIGNED_REVIEW: usize = 2;
const SIGNED_REVIEW: usize = 3;
const PUBLICATION: usize = 4;

impl Site {
    /// A place with a configuration that touches nothing outside, and no daemon yet.
    ///
    /// # Panics
    /// When the temporary directory cannot be written.
    pub fn new() -> Site {
        Site::with_programs(beside_us())
    }

    /// The same with `cascaded` and `cascade` from this folder.
    ///
    /// # Panics
    /// When the temporary directory cannot be written.
    pub fn with_programs(programs: PathBuf) -> Site {
        let folder = tempfile::Builder::new()
            .prefix("cascade-")
            .tempdir()
            .expect("the temporary directory is writable");
        // Hooks and servers of other users must be able to reach what lies in it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
            .expect("our own directory can be changed");
        let site = Site {
            folder,
            ports: Ports::take(5),
            programs,
            child: None,
            time: None,
            prelude: String::new(),
        };
        for name in ["policies", "zones"] {
            fs::create_dir(site.path(name)).expect("our own directory is writable");
        }
        site.write("config.toml", &site.config());
        site
    }

    /// A place with a running daemon.
    ///
    /// # Panics
    /// When the daemon does not start; with all that it said.
    #[track_caller]
    pub fn started() -> Site {
        let mut site = Site::new();
        site.start();
        site
    }

    /// The daemon begins at this time whenever it starts; it must be built with the feature
    /// `test-clock`.
    pub fn begin_at(&mut self, unix_time: i64) {
        self.time = Some(unix_time);
    }

    /// The daemon is started by a shell after these lines, which set its surroundings.
    pub fn begin_after(&mut self, lines: &str) {
        self.prelude = format!("{lines}\nexec \"$0\" \"$@\"");
    }

    /// The configuration that [`Site::new`] writes.
    pub fn config(&self) -> String {
        let place = self.folder.path().display();
        let port = |which| self.ports.get(which);
        format!(
            r#"version = "v1"
policy-dir = "{place}/policies"
state-dir = "{place}/state"

[remote-control]
socket = "{place}/control.sock"
servers = ["127.0.0.1:{}"]
admin-groups = []

[loader]
notify-listeners = ["127.0.0.1:{}"]
review.servers = ["127.0.0.1:{}"]

[signer]
review.servers = ["127.0.0.1:{}"]

[server]
servers = ["127.0.0.1:{}"]

[key-manager]
# Nobody is there: tests ask no servers of the world.
resolvers = ["127.0.0.1:9"]

[clock]
# Machines that run tests need not have a time server.
require-sync = "off"
"#,
            port(HTTP),
            port(NOTIFY),
            port(UNSIGNED_REVIEW),
            port(SIGNED_REVIEW),
            port(PUBLICATION)
        )
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file below the place and returns its path.
    ///
    /// # Panics
    /// When that is not possible.
    #[track_caller]
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// Writes a policy of these lines; everything else in it is the default.
    #[track_caller]
    pub fn policy(&self, name: &str, lines: &str) {
        self.write(
            &format!("policies/{name}.toml"),
            &format!("version = \"v1\"\n{lines}"),
        );
    }

    /// Writes an executable script and returns its path.
    #[track_caller]
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.write(name, &format!("#!/bin/sh\n{text}"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
        path
    }

    pub fn socket(&self) -> PathBuf {
        self.path("control.sock")
    }

    pub fn http_port(&self) -> u16 {
        self.ports.get(HTTP)
    }

    pub fn unsigned_review_port(&self) -> u16 {
        self.ports.get(UNSIGNED_REVIEW)
    }

    pub fn signed_review_port(&self) -> u16 {
        self.ports.get(SIGNED_REVIEW)
    }

    pub fn publication_port(&self) -> u16 {
        self.ports.get(PUBLICATION)
    }

    /// Starts the daemon and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready; with all that it said.
    #[track_caller]
    pub fn start(&mut self) {
        if let Err(failure) = self.try_start() {
            panic!(
                "cascaded did not start ({:?}):\n{}",
                failure.status, failure.said
            );
        }
    }

    /// Starts the daemon and waits until it is ready or has ended.
    ///
    /// # Errors
    /// The daemon ended, or was not ready within 30 s.
    pub fn try_start(&mut self) -> Result<(), Failure> {
        self.launch()?;
        let ready = within(crate::wait::PATIENCE, || {
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                return Some(Some(status));
            }
            let reply = self.request("GET", "/readyz", None);
            reply.is_ok_and(|reply| reply.status == 200).then_some(None)
        });
        match ready {
            Some(None) => Ok(()),
            Some(Some(status)) => {
                self.child = None;
                Err(Failure {
                    status: Some(status),
                    said: self.log(),
                })
            }
            None => {
                self.kill();
                Err(Failure {
                    status: None,
                    said: self.log(),
                })
            }
        }
    }

    /// Starts the daemon and waits for nothing.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[track_caller]
    pub fn spawn(&mut self) {
        if let Err(failure) = self.launch() {
            panic!("{}", failure.said);
        }
    }

    fn launch(&mut self) -> Result<(), Failure> {
        self.kill();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .expect("our own directory is writable");
        let log_too = log.try_clone().expect("a file can be opened twice");
        let mut command = if self.prelude.is_empty() {
            Command::new(self.programs.join("cascaded"))
        } else {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", &self.prelude]);
            shell.arg(self.programs.join("cascaded"));
            shell
        };
        match self.time {
            Some(time) => command.env("CASCADE_FAKETIME", time.to_string()),
            None => command.env_remove("CASCADE_FAKETIME"),
        };
        let child = command
            .arg("--config")
            .arg(self.path("config.toml"))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .spawn();
        let child = child.map_err(|e| Failure {
            status: None,
            said: format!("{}: {e}", self.programs.join("cascaded").display()),
        })?;
        self.child = Some(child);
        Ok(())
    }

    /// Ends the daemon as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks the daemon to end, as the service manager does; its exit code.
    ///
    /// # Panics
    /// When it does not end within 20 s.
    #[track_caller]
    pub fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take()?;
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid is an i32"));
        let _ = kill(pid, Signal::SIGTERM);
        let ended = within(crate::wait::PATIENCE, || {
            child.try_wait().expect("our own child can be waited for")
        });
        match ended {
            Some(status) => status.code(),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                panic!(
                    "cascaded did not end within 20 s of SIGTERM:\n{}",
                    self.log()
                );
            }
        }
    }

    /// Sends a signal to the daemon.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid is an i32"));
            let _ = kill(pid, signal);
        }
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// True while the daemon runs.
    pub fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        fs::read(self.path("log")).map_or_else(
            |_| String::new(),
            |octets| String::from_utf8_lossy(&octets).into_owned(),
        )
    }

    /// Runs `cascade` with the control socket of this place, unless `--server` names another.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[track_caller]
    pub fn cascade(&self, args: &[&str]) -> Said {
        let mut command = Command::new(self.programs.join("cascade"));
        if !args.contains(&"--server") {
            command
                .arg("--server")
                .arg(format!("unix:{}", self.socket().display()));
        }
        run(command, args)
    }

    /// Runs `cascaded` with these arguments and nothing else, and waits for its end.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[track_caller]
    pub fn cascaded(&self, args: &[&str]) -> Said {
        run(Command::new(self.programs.join("cascaded")), args)
    }

    /// As [`Site::cascade`]; standard output of a command that must succeed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.cascade(args).expect(0).stdout
    }

    /// The JSON document that a command prints with `--json`.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        let said = self.cascade(&all).expect(0);
        serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {said}"))
    }

    /// The API's status document of a zone, `Null` when there is none.
    pub fn status(&self, zone: &str) -> Value {
        let path = format!("/v1/zones/{}/status", if zone == "." { "@" } else { zone });
        self.request("GET", &path, None)
            .map_or(Value::Null, |reply| reply.json())
    }

    /// Waits until the zone's status is as wanted and returns it.
    ///
    /// # Panics
    /// When that does not come; with the last status and the log.
    #[track_caller]
    pub fn await_status(&self, zone: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = within(crate::wait::PATIENCE, || {
            let status = self.status(zone);
            wanted(&status).then_some(status)
        });
        found.unwrap_or_else(|| {
            panic!(
                "zone {zone} did not become {what}; status:\n{:#}\n{}",
                self.status(zone),
                self.log()
            )
        })
    }

    /// Waits until the zone is published with this unsigned serial.
    #[track_caller]
    pub fn await_published(&self, zone: &str, serial: u32) -> Value {
        self.await_status(
            zone,
            &format!("published with unsigned serial {serial}"),
            |status| status["state"] == "published" && status["unsigned"]["serial"] == serial,
        )
    }

    /// Waits until the zone is in this state of the API.
    #[track_caller]
    pub fn await_state(&self, zone: &str, state: &str) -> Value {
        self.await_status(zone, state, |status| status["state"] == state)
    }

    /// Asks the publication server.
    pub fn ask(&self, args: &[&str]) -> Answer {
        dig(self.publication_port(), args)
    }

    /// Waits until the publication server answers with an SOA, and returns its serial.
    #[track_caller]
    pub fn served_serial(&self, zone: &str) -> u32 {
        until("an SOA from the publication server", || {
            crate::serial(self.publication_port(), zone)
        })
    }

    /// A request to the control API over the socket.
    ///
    /// # Errors
    /// A text, when there was no answer.
    pub fn request(&self, method: &str, path: &str, body: Option<&str>) -> Result<Reply, String> {
        http::over_unix(&self.socket(), method, path, &[], body)
    }

    /// Where the place is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "-- log of cascaded in {}\n{}",
                self.folder.path().display(),
                self.log()
            );
        }
        self.kill();
    }
}

#[track_caller]
fn run(mut command: Command, args: &[&str]) -> Said {
    // Nothing of the caller's surroundings may choose another daemon or another colour.
    for name in [
        "CASCADE_DAEMON",
        "CASCADE_TOKEN",
        "CASCADE_TOKEN_FILE",
        "CASCADE_CONFIG_PATH",
    ] {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    let text = format!("{command:?}");
    let output = command.output().unwrap_or_else(|e| panic!("{text}: {e}"));
    Said::new(text, &output)
}

/// The folder of the programs of the same build: the one of this program, or the one above it when
/// this is a test (`target/debug/deps/…`).
pub(crate) fn beside_us() -> PathBuf {
    let ours = std::env::current_exe().expect("the kernel knows which program this is");
    let folder = ours.parent().unwrap_or(Path::new("."));
    if folder.ends_with("deps") {
        return folder.parent().unwrap_or(folder).to_path_buf();
    }
    folder.to_path_buf()
}
