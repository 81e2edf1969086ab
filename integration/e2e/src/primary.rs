//! Foreign servers as primaries of our zones: NSD, Knot and BIND, each with one zone from a file
//! and one TSIG key.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Ports, within};

/// Name and secret of the key that the servers have.
pub const KEY: &str = "xfr-key";
pub const SECRET: &str = "c29tZSBzZWNyZXQgb2Ygb3VyIHRlc3RzLCBubyBtb3Jl";

/// A program that can be a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Nsd,
    Knot,
    Bind,
}

impl Program {
    pub const ALL: [Program; 3] = [Program::Nsd, Program::Knot, Program::Bind];

    pub fn name(self) -> &'static str {
        match self {
            Program::Nsd => "nsd",
            Program::Knot => "knotd",
            Program::Bind => "named",
        }
    }

    fn path(self) -> Option<PathBuf> {
        ["/usr/sbin", "/usr/local/sbin", "/usr/bin"]
            .iter()
            .map(|folder| Path::new(folder).join(self.name()))
            .find(|p| p.exists())
    }
}

/// A running primary on the loopback interface. `open`: transfers need no key.
#[derive(Debug)]
pub struct Primary {
    program: Program,
    child: Child,
    ports: Ports,
    zone: String,
    folder: PathBuf,
}

impl Primary {
    /// `None` when the program is not installed.
    ///
    /// # Panics
    /// When it does not start serving; with its log.
    #[track_caller]
    pub fn start(
        program: Program,
        folder: &Path,
        zone: &str,
        text: &str,
        open: bool,
    ) -> Option<Primary> {
        Primary::start_with(program, folder, zone, text, open, "")
    }

    /// BIND, which takes DNS UPDATE signed with [`KEY`]; the zone's file is its own from then on.
    ///
    /// # Panics
    /// When it does not start serving; with its log.
    #[track_caller]
    pub fn updatable(folder: &Path, zone: &str, text: &str) -> Option<Primary> {
        let more = format!("allow-update {{ key \"{KEY}\"; }};");
        Primary::start_with(Program::Bind, folder, zone, text, true, &more)
    }

    /// `more`: lines of the zone's clause.
    #[track_caller]
    fn start_with(
        program: Program,
        folder: &Path,
        zone: &str,
        text: &str,
        open: bool,
        more: &str,
    ) -> Option<Primary> {
        let path = program.path()?;
        let folder = folder.join(program.name());
        fs::create_dir_all(&folder).expect("our own directory is writable");
        fs::write(folder.join("zone"), text).expect("our own directory is writable");
        let ports = Ports::take(1);
        let config = folder.join("config");
        let text = config_of(program, &folder, zone, ports.get(0), open).replace(
            "check-integrity no; }",
            &format!("check-integrity no; {more} }}"),
        );
        fs::write(&config, text).expect("our own directory is writable");
        let log = fs::File::create(folder.join("log")).expect("our own directory is writable");
        let mut command = Command::new(path);
        match program {
            Program::Nsd => command.args(["-d", "-c"]),
            Program::Knot => command.arg("-c"),
            // Without threads of its own for each CPU; -g: in the foreground, log to stderr.
            Program::Bind => command.args(["-g", "-n", "1", "-c"]),
        };
        let child = command
            .arg(&config)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be opened twice"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", program.name()));
        let primary = Primary {
            program,
            child,
            ports,
            zone: zone.to_owned(),
            folder,
        };
        let up = within(crate::wait::PATIENCE, || {
            TcpStream::connect(("127.0.0.1", primary.port())).ok()?;
            primary.serial()
        });
        if up.is_none() {
            panic!("{} does not serve:\n{}", program.name(), primary.log());
        }
        Some(primary)
    }

    pub fn port(&self) -> u16 {
        self.ports.get(0)
    }

    /// As `--source` takes it.
    pub fn source(&self, key: Option<&str>) -> String {
        let key = key.map_or(String::new(), |k| format!("^{k}"));
        format!("127.0.0.1:{}{key}", self.port())
    }

    /// The serial that it serves.
    pub fn serial(&self) -> Option<u32> {
        crate::serial(self.port(), &self.zone)
    }

    /// Replaces the zone file and waits until the server has read it.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn publish(&self, text: &str, serial: u32) {
        fs::write(self.folder.join("zone"), text).expect("our own directory is writable");
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid is an i32"));
        kill(pid, Signal::SIGHUP).expect("our own child");
        let read = within(crate::wait::PATIENCE, || {
            (self.serial() == Some(serial)).then_some(())
        });
        if read.is_none() {
            let name = self.program.name();
            panic!("{name} did not read serial {serial}:\n{}", self.log());
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        crate::wait::end(&mut self.child);
    }
}

fn config_of(program: Program, folder: &Path, zone: &str, port: u16, open: bool) -> String {
    let place = folder.display();
    match program {
        Program::Nsd => {
            let key = if open { "NOKEY" } else { KEY };
            format!(
                r#"server:
  ip-address: 127.0.0.1
  port: {port}
  username: ""
  chroot: ""
  server-count: 1
  zonesdir: "{place}"
  pidfile: "{place}/pid"
  database: ""
  xfrdfile: "{place}/xfrd"
  xfrdir: "{place}"
  zonelistfile: "{place}/zones"
remote-control:
  control-enable: no
key:
  name: "{KEY}"
  algorithm: hmac-sha256
  secret: "{SECRET}"
zone:
  name: "{zone}"
  zonefile: "zone"
  store-ixfr: yes
  create-ixfr: yes
  provide-xfr: 127.0.0.1 {key}
"#
            )
        }
        Program::Knot => {
            let key = match open {
                true => String::new(),
                false => format!("    key: {KEY}\n"),
            };
            format!(
                r#"server:
    rundir: "{place}"
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: "{place}"
key:
  - id: {KEY}
    algorithm: hmac-sha256
    secret: {SECRET}
acl:
  - id: out
    address: 127.0.0.1
{key}    action: transfer
zone:
  - domain: "{zone}"
    storage: "{place}"
    file: zone
    zonefile-load: difference
    zonefile-sync: -1
    journal-content: changes
    semantic-checks: off
    acl: out
"#
            )
        }
        Program::Bind => {
            let who = match open {
                true => "127.0.0.1;".to_owned(),
                false => format!("key {KEY};"),
            };
            format!(
                r#"options {{
  directory "{place}";
  listen-on port {port} {{ 127.0.0.1; }};
  listen-on-v6 {{ none; }};
  pid-file "{place}/pid";
  session-keyfile "{place}/session.key";
  recursion no;
  notify no;
  ixfr-from-differences yes;
  allow-query {{ any; }};
  allow-transfer {{ {who} }};
  dnssec-validation no;
}};
controls {{ }};
key "{KEY}" {{ algorithm hmac-sha256; secret "{SECRET}"; }};
zone "{zone}" {{ type primary; file "{place}/zone"; check-names ignore; check-integrity no; }};
"#
            )
        }
    }
}
