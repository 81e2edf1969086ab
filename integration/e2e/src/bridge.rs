//! `kmip2pkcs11` in front of a token: SoftHSM, or the test module with the manners of a network HSM.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::site::beside_us;
use crate::{Ports, Said, Site, within};

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
    /// Lines of its configuration besides those that every bridge has.
    settings: String,
    child: Option<Child>,
}

impl Bridge {
    /// `hsm add` of this bridge under `id`, with further arguments.
    pub fn add_to(&self, site: &Site, username: &str, id: &str, more: &[&str]) -> Said {
        let port = self.port().to_string();
        let login = ["--username", username, "--password", PIN, "--port", &port];
        let ends = [id, "127.0.0.1"];
        site.cascade(&[&["hsm", "add", "--insecure"], &login[..], more, &ends].concat())
    }

    /// A running bridge in front of a SoftHSM token; `None`, with a line that says so, where SoftHSM
    /// or the program is missing.
    ///
    /// # Panics
    /// When what is there does not start.
    pub fn softhsm() -> Option<Bridge> {
        Bridge::softhsm_token()?.begin()
    }

    /// The token alone, for whoever starts the program otherwise.
    ///
    /// # Panics
    /// When SoftHSM is there and makes no token.
    pub fn softhsm_token() -> Option<Bridge> {
        Bridge::softhsm_token_with(PIN)
    }

    /// The same with a PIN of its own, for whoever looks where it turns up.
    ///
    /// # Panics
    /// When SoftHSM is there and makes no token.
    pub fn softhsm_token_with(pin: &str) -> Option<Bridge> {
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
            .args(["--so-pin", "1234", "--pin", pin])
            .output();
        match made {
            Ok(made) => assert!(made.status.success(), "{made:?}"),
            Err(_) => {
                eprintln!("SKIPPED: softhsm2-util is not installed (apt-get install softhsm2)");
                return None;
            }
        }
        Some(bridge)
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
            settings: String::new(),
            child: None,
        })
    }

    fn begin(mut self) -> Option<Bridge> {
        self.configure();
        self.start();
        Some(self)
    }

    /// Writes the program's configuration.
    pub fn configure(&self) {
        let (variable, file) = self.environment();
        let text = format!(
            "lib_path = \"{}\"\nport = {}\ntls_dir = \"{}\"\nmodule_env = {{ {variable} = \"{}\" }}\n{}",
            self.module.display(),
            self.port(),
            self.folder.path().display(),
            file.display(),
            self.settings,
        );
        self.write("config.toml", &text);
    }

    fn environment(&self) -> (&'static str, PathBuf) {
        match self.netlike {
            true => ("NETLIKE_CONFIG", self.path("netlike.toml")),
            false => ("SOFTHSM2_CONF", self.path("softhsm2.conf")),
        }
    }

    /// Starts the program anew with these lines of configuration besides the usual ones.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart_with(&mut self, settings: &str) {
        self.settings = settings.to_string();
        self.configure();
        self.start();
    }

    /// A second program in front of the same token, at another port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn twin(&self) -> Bridge {
        let folder = TempDir::with_prefix("cascade-bridge-");
        let mut twin = Bridge {
            folder: folder.expect("the temporary directory is writable"),
            ports: Ports::take(1),
            module: self.module.clone(),
            netlike: self.netlike,
            settings: String::new(),
            child: None,
        };
        let (_, ours) = twin.environment();
        fs::copy(self.environment().1, ours).expect("our own directory is writable");
        twin.configure();
        twin.start();
        twin
    }

    /// Waits until the program has ended by itself; its exit code.
    pub fn await_end(&mut self, limit: Duration) -> Option<i32> {
        let child = self.child.as_mut()?;
        let ended = within(limit, || child.try_wait().ok().flatten())?;
        self.child = None;
        ended.code()
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

    /// What is on the token, as OpenSC shows it.
    ///
    /// # Panics
    /// When `pkcs11-tool` is not installed.
    pub fn list_objects(&self) -> String {
        let mut command = self.on_token("pkcs11-tool");
        command
            .arg("--module")
            .arg(&self.module)
            .arg("--list-objects");
        // The network HSM's module has logged in by itself.
        if !self.netlike {
            command.args(["--login", "--pin", PIN]);
        }
        let list = command
            .output()
            .expect("pkcs11-tool of opensc is installed");
        String::from_utf8_lossy(&list.stdout).into_owned()
    }

    /// What the module must find in its environment, as `NAME=VALUE`.
    pub fn module_env(&self) -> String {
        let (variable, file) = self.environment();
        format!("{variable}={}", file.display())
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
        let up = within(crate::wait::PATIENCE, || {
            std::net::TcpStream::connect(at).ok()
        });
        assert!(up.is_some(), "kmip2pkcs11 does not listen:\n{}", self.log());
        // The socket is there before the certificate is.
        let own = self.certificate();
        let made = within(crate::wait::PATIENCE, || own.exists().then_some(()));
        assert!(made.is_some(), "no certificate:\n{}", self.log());
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
            crate::wait::freeze(child, on);
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
