//! A SoftHSM token, the program in front of it, and a client, each in a temporary place.
#![allow(dead_code)] // Each test program uses its part.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cascade_kmip::client::{Answer, Client, ClientSettings};
use cascade_kmip::enums::BatchErrorContinuation;
use cascade_kmip::payload::{RequestPayload, ResponsePayload};
use cascade_kmip::{Credential, Version};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

pub const PIN: &str = "123456";
pub const LABEL: &str = "LocalHSM";

const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
];

/// A directory with a token and the program's files.
pub struct Place {
    pub dir: tempfile::TempDir,
    pub module: PathBuf,
    pub port: u16,
}

impl Place {
    /// `None`, with a line that says so, where SoftHSM is not installed.
    pub fn new() -> Option<Place> {
        let Some(module) = MODULES.iter().map(Path::new).find(|p| p.exists()) else {
            eprintln!("SKIPPED: SoftHSM is not installed (apt-get install softhsm2)");
            return None;
        };
        let dir = tempfile::tempdir().expect("directory");
        let tokens = dir.path().join("tokens");
        std::fs::create_dir(&tokens).expect("directory");
        let conf = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n\
             slots.removable = false\n",
            tokens.display()
        );
        std::fs::write(dir.path().join("softhsm2.conf"), conf).expect("write");
        let place = Place {
            // The real file: links are followed by the program as well.
            module: module.canonicalize().expect("module"),
            port: free_port(),
            dir,
        };
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", LABEL])
            .args(["--so-pin", "1234", "--pin", PIN])
            .env("SOFTHSM2_CONF", place.softhsm_conf())
            .output()
            .expect("softhsm2-util");
        assert!(made.status.success(), "{made:?}");
        place.write_config("");
        Some(place)
    }

    pub fn softhsm_conf(&self) -> PathBuf {
        self.dir.path().join("softhsm2.conf")
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    pub fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The configuration: what every test needs, then `more`.
    pub fn write_config(&self, more: &str) {
        let text = format!(
            "lib_path = \"{}\"\nport = {}\ntls_dir = \"{}\"\n\
             module_env = {{ SOFTHSM2_CONF = \"{}\" }}\n{more}",
            self.module.display(),
            self.port,
            self.dir.path().display(),
            self.softhsm_conf().display(),
        );
        std::fs::write(self.config(), text).expect("write");
    }

    pub fn command(&self) -> Command {
        let mut command = program();
        command.arg("--config").arg(self.config());
        command
    }

    /// Runs the program to its end.
    pub fn output(&self, args: &[&str]) -> Output {
        self.command().args(args).output().expect("runs")
    }

    pub fn start(&self) -> Running<'_> {
        let notify = self.dir.path().join("notify");
        let _ = std::fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify).expect("bind");
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("timeout");
        let log = self.dir.path().join("log");
        let _ = std::fs::remove_file(&log);
        let child = self
            .command()
            .arg("--logfile")
            .arg(&log)
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .spawn()
            .expect("starts");
        let running = Running {
            place: self,
            child: Some(child),
            log,
        };
        let mut buffer = [0; 4096];
        let n = socket.recv(&mut buffer).unwrap_or(0);
        let said = String::from_utf8_lossy(&buffer[..n]).into_owned();
        assert!(said.starts_with("READY=1\n"), "{said}\n{}", running.log());
        running
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let own = self.dir.path().join("server.pem");
        let certificate = CertificateDer::from_pem_file(own).expect("certificate");
        roots.add(certificate).expect("certificate");
        roots
    }

    pub fn connect(
        &self,
        credential: Credential,
    ) -> Peer<StreamOwned<ClientConnection, TcpStream>> {
        self.try_connect(credential).expect("connects")
    }

    pub fn try_connect(
        &self,
        credential: Credential,
    ) -> std::io::Result<Peer<StreamOwned<ClientConnection, TcpStream>>> {
        let config = ClientConfig::builder()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("name");
        let tls = ClientConnection::new(Arc::new(config), name).expect("settings");
        let tcp = TcpStream::connect(self.addr())?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut stream = StreamOwned::new(tls, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Peer::new(stream, credential))
    }

    pub fn client(&self) -> Peer<StreamOwned<ClientConnection, TcpStream>> {
        self.connect(Credential::new(LABEL, PIN))
    }
}

pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kmip2pkcs11"))
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("port");
    listener.local_addr().expect("address").port()
}

/// The program while it runs.
pub struct Running<'a> {
    place: &'a Place,
    child: Option<Child>,
    log: PathBuf,
}

impl Running<'_> {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("runs").id()
    }

    pub fn signal(&self, name: &str) {
        // Not kill(1): an empty Debian has none.
        let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().expect("a signal");
        let pid = i32::try_from(self.pid()).expect("a process id");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("it runs");
    }

    pub fn is_alive(&mut self) -> bool {
        let child = self.child.as_mut().expect("runs");
        child.try_wait().expect("status").is_none()
    }

    /// Waits until the log has these words.
    pub fn says(&self, words: &str) -> bool {
        until(|| self.log().contains(words))
    }

    /// Stops it as a service manager does; its exit status.
    pub fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            let child = self.child.as_mut().expect("runs");
            if let Some(status) = child.try_wait().expect("status") {
                self.child = None;
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("does not stop");
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                eprintln!("{}", self.log());
            }
        }
        let _ = self.place;
    }
}

/// Waits up to ten seconds.
pub fn until(is: impl Fn() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if is() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// A client on one connection.
pub struct Peer<S> {
    pub stream: S,
    client: Client,
}

impl<S: Read + Write> Peer<S> {
    pub fn new(stream: S, credential: Credential) -> Peer<S> {
        let settings = ClientSettings {
            version: Version::V1_4,
            credential: Some(credential),
            max_response: 1 << 20,
            ..ClientSettings::default()
        };
        Peer {
            stream,
            client: Client::new(settings),
        }
    }

    pub fn ask_all(&mut self, payloads: Vec<RequestPayload>) -> Vec<Answer> {
        self.client
            .send(payloads, BatchErrorContinuation::Continue)
            .expect("room");
        while let Some(octets) = self.client.take_output() {
            self.stream.write_all(&octets).expect("write");
        }
        self.stream.flush().expect("flush");
        loop {
            if let Some(done) = self.client.next_completion() {
                return done.results;
            }
            let mut buffer = [0; 16 * 1024];
            let n = self.stream.read(&mut buffer).expect("read");
            assert!(n > 0, "the server closed");
            self.client.receive(&buffer[..n]).expect("response");
        }
    }

    pub fn ask(&mut self, payload: RequestPayload) -> Answer {
        self.ask_all(vec![payload]).remove(0)
    }

    pub fn good(&mut self, payload: RequestPayload) -> ResponsePayload {
        self.ask(payload).expect("success")
    }
}
