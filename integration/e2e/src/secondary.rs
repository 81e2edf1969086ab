//! Secondaries of three makers, each for one zone, on the loopback interface.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{Ports, transfer, within};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    Nsd,
    Knot,
    Bind,
}

/// A TSIG key as all of them want it.
#[derive(Clone, Debug)]
pub struct Key {
    pub name: String,
    /// Base64.
    pub secret: String,
}

/// A running secondary; ends when dropped.
#[derive(Debug)]
pub struct Secondary {
    pub make: Make,
    zone: String,
    ports: Ports,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Secondary {
    pub const ALL: [Make; 3] = [Make::Nsd, Make::Knot, Make::Bind];

    /// A place for a secondary of this zone, not started.
    ///
    /// # Panics
    /// When the temporary directory cannot be written.
    pub fn new(make: Make, zone: &str, primary: u16, key: Option<&Key>) -> Secondary {
        let folder = tempfile::tempdir().expect("the temporary directory is writable");
        let ports = Ports::take(1);
        let text = configuration(make, zone, folder.path(), ports.get(0), primary, key);
        fs::write(folder.path().join("conf"), text).expect("our own directory is writable");
        Secondary {
            make,
            zone: zone.into(),
            ports,
            folder,
            child: None,
        }
    }

    pub fn port(&self) -> u16 {
        self.ports.get(0)
    }

    /// Starts it; what it has from before it keeps.
    ///
    /// # Panics
    /// When the program is not installed.
    #[track_caller]
    pub fn start(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .expect("our own directory is writable");
        let too = log.try_clone().expect("a file can be opened twice");
        let (program, args): (&str, &[&str]) = match self.make {
            Make::Nsd => ("nsd", &["-d", "-c", "conf"]),
            Make::Knot => ("knotd", &["-c", "conf"]),
            Make::Bind => ("named", &["-g", "-n", "1", "-c", "conf"]),
        };
        let path = format!(
            "{}:/usr/sbin:/sbin",
            std::env::var("PATH").unwrap_or_default()
        );
        let child = Command::new("env")
            .arg(format!("PATH={path}"))
            .arg(program)
            .args(args)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(too)
            .spawn();
        self.child = Some(child.unwrap_or_else(|e| panic!("{program}: {e}")));
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = nix::unistd::Pid::from_raw(child.id() as i32);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let ended = within(Duration::from_secs(10), || child.try_wait().ok().flatten());
            if ended.is_none() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }

    pub fn serial(&self) -> Option<u32> {
        crate::serial(self.port(), &self.zone)
    }

    /// Waits until it serves this serial.
    ///
    /// # Panics
    /// When that does not come; with what it said.
    #[track_caller]
    pub fn await_serial(&self, serial: u32) {
        let found = within(crate::wait::PATIENCE, || {
            (self.serial() == Some(serial)).then_some(())
        });
        if found.is_none() {
            let has = self.serial();
            panic!("{:?} has {has:?}, not {serial}\n{}", self.make, self.log());
        }
    }

    /// All records that it serves, sorted, spelled in one way.
    ///
    /// # Panics
    /// When there is no transfer.
    #[track_caller]
    pub fn records(&self) -> BTreeSet<String> {
        records(self.port(), &self.zone).unwrap_or_else(|e| panic!("{:?}: {e}", self.make))
    }

    pub fn log(&self) -> String {
        let octets = fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&octets).into_owned()
    }
}

impl Drop for Secondary {
    fn drop(&mut self) {
        self.stop();
    }
}

/// All records that a server on the loopback interface transfers.
///
/// # Errors
/// What `dig` said.
pub fn records(port: u16, zone: &str) -> Result<BTreeSet<String>, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let path = folder.path().join("zone");
    transfer(port, zone, &path)?;
    let text = fs::read_to_string(&path).map_err(|e| e.to_string())?;
    let lines = text
        .lines()
        .filter(|l| !l.starts_with(';') && !l.is_empty());
    Ok(lines
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect())
}

fn configuration(
    make: Make,
    zone: &str,
    folder: &Path,
    port: u16,
    primary: u16,
    key: Option<&Key>,
) -> String {
    let place = folder.display();
    match make {
        Make::Nsd => {
            let name = key.map_or("NOKEY", |k| &k.name);
            let key = key.map_or(String::new(), |k| {
                format!(
                    "key:\n  name: \"{}\"\n  algorithm: hmac-sha256\n  secret: \"{}\"\n",
                    k.name, k.secret
                )
            });
            format!(
                "server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  chroot: \"\"\n  \
                 zonesdir: \"{place}\"\n  pidfile: \"{place}/pid\"\n  database: \"\"\n  \
                 xfrdfile: \"{place}/xfrd\"\n  xfrdir: \"{place}\"\n  \
                 zonelistfile: \"{place}/zones\"\n  server-count: 1\n  verbosity: 2\n  zonefiles-write: 1\n  \
                 rrl-ratelimit: 0\nremote-control:\n  control-enable: no\n{key}\
                 zone:\n  name: \"{zone}\"\n  zonefile: \"zone\"\n  \
                 request-xfr: 127.0.0.1@{primary} {name}\n  \
                 allow-notify: 127.0.0.1 {name}\n  provide-xfr: 127.0.0.1 NOKEY\n"
            )
        }
        Make::Knot => {
            let (keys, by, only) = match key {
                Some(k) => (
                    format!(
                        "key:\n  - id: {}\n    algorithm: hmac-sha256\n    secret: {}\n",
                        k.name, k.secret
                    ),
                    format!("    key: {}\n", k.name),
                    format!("    key: {}\n", k.name),
                ),
                None => (String::new(), String::new(), String::new()),
            };
            format!(
                "server:\n    listen: 127.0.0.1@{port}\n    rundir: \"{place}\"\n    \
                 background-workers: 1\n    udp-workers: 1\n    tcp-workers: 1\n\
                 control:\n    listen: \"{place}/control\"\n\
                 database:\n    storage: \"{place}\"\nlog:\n  - target: stdout\n    any: info\n\
                 {keys}remote:\n  - id: primary\n    address: 127.0.0.1@{primary}\n{by}\
                 acl:\n  - id: notify\n    address: 127.0.0.1\n    action: notify\n{only}  \
                 - id: copy\n    address: 127.0.0.1\n    action: transfer\n\
                 zone:\n  - domain: \"{zone}\"\n    storage: \"{place}\"\n    file: zone\n    \
                 master: primary\n    acl: [notify, copy]\n"
            )
        }
        Make::Bind => {
            let (keys, by) = match key {
                Some(k) => (
                    format!(
                        "key \"{}\" {{ algorithm hmac-sha256; secret \"{}\"; }};\n",
                        k.name, k.secret
                    ),
                    format!(" key \"{}\"", k.name),
                ),
                None => (String::new(), String::new()),
            };
            format!(
                "{keys}options {{ directory \"{place}\"; listen-on port {port} {{ 127.0.0.1; }}; \
                 listen-on-v6 {{ none; }}; pid-file \"{place}/pid\"; \
                 session-keyfile \"{place}/session\"; recursion no; dnssec-validation no; \
                 allow-transfer {{ any; }}; notify no; minimal-responses yes; }};\n\
                 controls {{ }};\n\
                 zone \"{zone}\" {{ type secondary; primaries {{ 127.0.0.1 port {primary}{by}; }}; \
                 file \"zone\"; masterfile-format text; }};\n"
            )
        }
    }
}
