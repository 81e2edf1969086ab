//! BIND's dynamic update on the same zone, for comparison: signed in place by its own policy.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A `named` that ends when this goes away.
pub struct Bind {
    child: Child,
    pub port: u16,
}

impl Bind {
    /// Starts `named` on a zone file named `bench.zone` in `folder`, open to updates with the key.
    /// `None`: it is not installed.
    ///
    /// # Errors
    /// It could not be set up.
    pub fn start(folder: &Path, key: &str, secret: &str) -> Result<Option<Bind>, String> {
        let io = |e: std::io::Error| e.to_string();
        // Free a moment ago; nobody else of the benchmark binds ports meanwhile.
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|s| s.local_addr())
            .map_err(io)?
            .port();
        let dir = folder.display();
        let config = folder.join("named.conf");
        let text = format!(
            "options {{ directory \"{dir}\"; listen-on port {port} {{ 127.0.0.1; }}; \
             listen-on-v6 {{ none; }}; pid-file none; recursion no; allow-query {{ any; }}; \
             dnssec-validation no; session-keyfile none; notify no; }};\n\
             controls {{ }};\n\
             key \"{key}\" {{ algorithm hmac-sha256; secret \"{secret}\"; }};\n\
             dnssec-policy \"one\" {{ keys {{ csk lifetime unlimited algorithm ecdsap256sha256; }}; }};\n\
             zone \"bench\" {{ type primary; file \"bench.zone\"; dnssec-policy \"one\"; \
             key-directory \"{dir}\"; allow-update {{ key \"{key}\"; }}; }};\n"
        );
        std::fs::write(&config, text).map_err(io)?;
        let log = std::fs::File::create(folder.join("named.log")).map_err(io)?;
        let child = Command::new("named")
            .arg("-g")
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        match child {
            Ok(child) => Ok(Some(Bind { child, port })),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(format!("named: {e}")),
        }
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
