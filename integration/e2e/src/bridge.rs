//! `kmip2pkcs11` in front of a token: SoftHSM, or the test module with the manners of a network HSM.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::site::beside_us;
use crate::{Ports, within};

pub const PIN: &str = "123456";
pub const LABEL: &str = "LocalHSM";

const SOFTHSM: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
];

/// A token and the program in front of it; both go away with this.
#[derive(Debug)]
pub struct Bridge {
    folder: TempDir,
    ports: Ports,
    module: PathBuf,
    netlike: bool,
    child: Option<Child>,
}

impl Bridge {
    /// A running bridge in front of a SoftHSM token; `None`, with a line that says so, where SoftHSM
    /// or the program is missing.
    ///
    /// # Panics
    /// When what is there does not start.
    pub fn softhsm() -> Option<Bridge> {
        let module = SOFTHSM.iter().map(Path::new).find(|p| p.exists());
        let Some(module) = module.and_then(|m| m.canonicalize().ok()) else {
            eprintln!("SKIPPED: SoftHSM is not installed (apt-get install softhsm2)");
            return None;
        };
        let bridge = Bridge::new(module, false)?;
        let tokens = bridge.path("tokens");
        fs::create_dir(&tokens).expect("our own directory is writable");
        bridge.write(
            "softhsm2.conf",
            &format!(
                "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n\
                 slots.removable = false\n",
                tokens.display()
            ),
        );
        let made = bridge
            .on_token("softhsm2-util")
            .args(["--init-token", "--free", "--label", LABEL])
            .args(["--so-pin", "1234", "--pin", PIN])
            .output();
        match made {
            Ok(made) => assert!(made.status.success(), "{made:?}"),
            Err(_) => {
                eprintln!("SKIPPED: softhsm2-util is not installed (apt-get install softhsm2)");
                return None;
            }
        }
        bridge.begin()
    }

    /// The same in front of the test module; its manners can be changed at any time.
    ///
    /// # Panics
    /// When what is there does not start.
    pub fn netlike() -> Option<Bridge> {
        let module = beside_us().join("libcascade_netlike.so");
        if !module.exists() {
            eprintln!("SKIPPED: {} is not built", module.display());
            return None;
        }
        let bridge = Bridge::new(module, true)?;
        bridge.write(
            "netlike.toml",
            &format!(
                "store = \"{}\"\npin = \"{PIN}\"\n[[slot]]\nlabel = \"{LABEL}\"\n",
                bridge.path("keys").display()
            ),
        );
        bridge.begin()
    }

    fn new(module: PathBuf, netlike: bool) -> Option<Bridge> {
        let program = beside_us().join("kmip2pkcs11");
        if !program.exists() {
            eprintln!("SKIPPED: {} is not built", program.display());
            return None;
        }
        Some(Bridge {
            folder: TempDir::with_prefix("cascade-bridge-")
                .expect("the temporary directory is writable"),
            ports: Ports::take(1),
            module,
            netlike,
            child: None,
        })
    }

    fn begin(mut self) -> Option<Bridge> {
        let (variable, file) = self.environment();
        let text = format!(
            "lib_path = \"{}\"\nport = {}\ntls_dir = \"{}\"\nmodule_env = {{ {variable} = \"{}\" }}\n",
            self.module.display(),
            self.port(),
            self.folder.path().display(),
            file.display(),
        );
        self.write("config.toml", &text);
        self.start();
        Some(self)
    }

    fn environment(&self) -> (&'static str, PathBuf) {
        match self.netlike {
            true => ("NETLIKE_CONFIG", self.path("netlike.toml")),
            false => ("SOFTHSM2_CONF", self.path("softhsm2.conf")),
        }
    }

    /// Changes the test module's manners: lines of TOML.
    pub fn manners(&self, lines: &str) {
        // Replaced as a whole, so that nobody reads half of it.
        self.write("new", lines);
        let target = self.path("netlike.toml.control");
        fs::rename(self.path("new"), target).expect("our own directory is writable");
    }

    pub fn port(&self) -> u16 {
        self.ports.get(0)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("our own directory is writable");
    }

    /// A program that looks at the token from outside.
    pub fn on_token(&self, program: &str) -> Command {
        let (variable, file) = self.environment();
        let mut command = Command::new(program);
        command.env(variable, file).stdin(Stdio::null());
        command
    }

    pub fn module(&self) -> &Path {
        &self.module
    }

    /// The certificate that the program made for itself.
    pub fn certificate(&self) -> PathBuf {
        self.path("server.pem")
    }

    /// Starts the program and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(&mut self) {
        self.kill();
        let child = Command::new(beside_us().join("kmip2pkcs11"))
            .arg("--config")
            .arg(self.path("config.toml"))
            .arg("--logfile")
            .arg(self.path("log"))
            .stdin(Stdio::null())
            .spawn()
            .expect("the program was built");
        self.child = Some(child);
        let at = ("127.0.0.1", self.port());
        let up = within(Duration::from_secs(20), || {
            std::net::TcpStream::connect(at).ok()
        });
        assert!(up.is_some(), "kmip2pkcs11 does not listen:\n{}", self.log());
    }

    /// Ends the program as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops the program where it is, or lets it go on.
    pub fn freeze(&self, on: bool) {
        if let Some(child) = &self.child {
            let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid is an i32"));
            let signal = if on { Signal::SIGSTOP } else { Signal::SIGCONT };
            let _ = kill(pid, signal);
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().rev().take(40).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            eprintln!("-- end of the log of kmip2pkcs11\n{}", lines.join("\n"));
        }
        self.freeze(false);
        self.kill();
    }
}
