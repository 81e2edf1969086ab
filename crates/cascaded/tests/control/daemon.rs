//! A daemon of its own for a test: directories, free ports, and calls over its two transports.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cascade_api::client::{Call, Client, ClientError, Server};
use cascade_api::daemon::{Operation, OperationState};
use cascade_api::{Method, Problem, ProblemType};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub const ZONE: &str = "$TTL 300\n@ SOA ns.example.net. host.example.net. 1 7200 3600 1209600 300\n@ NS ns.example.net.\n@ A 192.0.2.1\n";

pub struct Daemon {
    pub dir: tempfile::TempDir,
    pub http: u16,
    pub dns: u16,
    ports: [u16; 5],
    child: Option<Child>,
}

/// Ports that are free for UDP and TCP at this moment, each another one: all are held until the last
/// is found.
fn free_ports() -> [u16; 5] {
    let mut held = Vec::new();
    while held.len() < 5 {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if let Ok(udp) = UdpSocket::bind(("127.0.0.1", port)) {
            held.push((port, tcp, udp));
        }
    }
    std::array::from_fn(|i| held[i].0)
}

impl Daemon {
    pub async fn start() -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let ports = free_ports();
        let mut d = Daemon {
            dir,
            http: ports[0],
            dns: ports[4],
            ports,
            child: None,
        };
        std::fs::create_dir(d.path("policies")).unwrap();
        d.policy("default", "");
        d.configure("");
        d.run().await;
        d.ok::<Value>(Method::Post, "/v1/policies/reload", json!({}))
            .await;
        d
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a policy file; `cascade policy reload` is another matter.
    pub fn policy(&self, name: &str, text: &str) {
        let text = format!("version = \"v1\"\n{text}");
        std::fs::write(self.path(&format!("policies/{name}.toml")), text).unwrap();
    }

    /// Writes the configuration; `more` goes to the end.
    pub fn configure(&self, more: &str) {
        let root = self.dir.path().display();
        let [http, notify, unsigned, signed, publish] = self.ports;
        let text = format!(
            "version = \"v1\"\npolicy-dir = \"{root}/policies\"\nstate-dir = \"{root}/state\"\n\
             daemon.log-target = {{ type = \"file\", path = \"{root}/log\" }}\n\
             remote-control.socket = \"{root}/socket\"\nremote-control.servers = [\"127.0.0.1:{http}\"]\n\
             remote-control.admin-groups = []\nloader.notify-listeners = [\"127.0.0.1:{notify}\"]\n\
             loader.review.servers = [\"127.0.0.1:{unsigned}\"]\nsigner.review.servers = [\"127.0.0.1:{signed}\"]\n\
             server.servers = [\"127.0.0.1:{publish}\"]\n{more}"
        );
        std::fs::write(self.path("config.toml"), text).unwrap();
    }

    pub async fn run(&mut self) {
        let child = Command::new(env!("CARGO_BIN_EXE_cascaded"))
            .arg("--config")
            .arg(self.path("config.toml"))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        self.started(child).await;
    }

    /// As a service manager does, with sockets from descriptor 3 on. They travel as standard
    /// descriptors, and a shell moves them.
    pub async fn run_with(&mut self, sockets: [OwnedFd; 3], names: &str) {
        let [a, b, c] = sockets;
        let child = Command::new("sh")
            .arg("-c")
            .arg("LISTEN_PID=$$ LISTEN_FDS=3 exec \"$@\" 3<&0 4<&1 5<&2 0</dev/null 1>/dev/null 2>&1")
            .args(["sh", env!("CARGO_BIN_EXE_cascaded"), "--config"])
            .arg(self.path("config.toml"))
            .env("LISTEN_FDNAMES", names)
            .stdin(a)
            .stdout(b)
            .stderr(c)
            .spawn()
            .unwrap();
        self.started(child).await;
    }

    async fn started(&mut self, child: Child) {
        self.child = Some(child);
        for _ in 0..500 {
            if self.call(&Call::get("/readyz")).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the daemon does not answer; its log:\n{}", self.log());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn signal(&self, name: &str) {
        // Not kill(1): an empty Debian has none.
        let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().unwrap();
        let pid = i32::try_from(self.child.as_ref().unwrap().id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }

    pub fn stop(&mut self) {
        self.signal("TERM");
        let mut child = self.child.take().unwrap();
        assert!(child.wait().unwrap().success(), "{}", self.log());
    }

    /// Waits until the log has the text.
    pub async fn logged(&self, text: &str) {
        for _ in 0..300 {
            if self.log().contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("'{text}' is not in the log:\n{}", self.log());
    }

    pub fn zone_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn call(&self, call: &Call) -> Result<cascade_api::client::Answer, ClientError> {
        let client = Client::new(Server::Unix(self.path("socket")), Duration::from_secs(10));
        client.call(call).await
    }

    /// Over the socket, as admin.
    pub async fn try_call<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: impl Serialize,
    ) -> Result<T, Box<Problem>> {
        let server = Server::Unix(self.path("socket"));
        ask(server, None, method, target, body).await
    }

    pub async fn ok<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: impl Serialize,
    ) -> T {
        match self.try_call(method, target, body).await {
            Ok(t) => t,
            Err(p) => panic!("{} {target}: {p:?}\n{}", method.as_str(), self.log()),
        }
    }

    pub async fn get<T: DeserializeOwned>(&self, target: &str) -> T {
        self.ok(Method::Get, target, Value::Null).await
    }

    pub async fn refused(
        &self,
        method: Method,
        target: &str,
        body: impl Serialize,
        kind: ProblemType,
    ) -> Problem {
        match self.try_call::<Value>(method, target, body).await {
            Err(p) if p.kind == kind => *p,
            other => panic!("{} {target}: {other:?} is not {kind:?}", method.as_str()),
        }
    }

    /// Over TCP.
    pub async fn tcp<T: DeserializeOwned>(
        &self,
        token: Option<&str>,
        method: Method,
        target: &str,
        body: impl Serialize,
    ) -> Result<T, Box<Problem>> {
        let server = Server::Tcp {
            host: "127.0.0.1".into(),
            port: self.http,
            tls: false,
        };
        ask(server, token, method, target, body).await
    }

    pub fn add(&self, zone: &str, source: &Path) -> Value {
        json!({ "zone": zone, "policy": "default", "source": { "kind": "file", "path": source } })
    }

    /// Follows an operation to its end.
    pub async fn over(&self, id: &str) -> Operation {
        for _ in 0..500 {
            let op: Operation = self.get(&format!("/v1/operations/{id}")).await;
            if op.state.is_over() {
                return op;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("operation {id} does not end:\n{}", self.log());
    }

    /// Adds a zone and waits until it is published.
    pub async fn published(&self, zone: &str, source: &Path) {
        let added: Value = self
            .ok(Method::Post, "/v1/zones", self.add(zone, source))
            .await;
        let op = self.over(added["operation"].as_str().unwrap()).await;
        assert_eq!(op.state, OperationState::Done, "{op:?}\n{}", self.log());
    }
}

/// The answer of the publication server to a question, over TCP.
pub async fn query(d: &Daemon, question: &[u8]) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(question);
    exchange(d, &message).await
}

pub async fn exchange(d: &Daemon, message: &[u8]) -> Vec<u8> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut s = tokio::net::TcpStream::connect(("127.0.0.1", d.dns))
        .await
        .unwrap();
    s.write_u16(message.len() as u16).await.unwrap();
    s.write_all(message).await.unwrap();
    let n = s.read_u16().await.unwrap();
    let mut answer = vec![0; n.into()];
    s.read_exact(&mut answer).await.unwrap();
    answer
}

async fn ask<T: DeserializeOwned>(
    server: Server,
    token: Option<&str>,
    method: Method,
    target: &str,
    body: impl Serialize,
) -> Result<T, Box<Problem>> {
    let client =
        Client::new(server.clone(), Duration::from_secs(10)).token(token.map(str::to_string));
    let call = match method {
        Method::Get => Call::get(target),
        Method::Delete => Call::delete(target),
        _ => Call::send(method, target, &body),
    };
    match client.call(&call).await {
        Ok(a) if a.body.is_empty() => Ok(serde_json::from_value(Value::Null).unwrap()),
        Ok(a) => Ok(a.parse(&server).unwrap()),
        Err(ClientError::Problem(p)) => Err(p),
        Err(e) => panic!("{} {target}: {e}", method.as_str()),
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
