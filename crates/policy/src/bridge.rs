//! The configuration file of `kmip2pkcs11`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use camino::Utf8PathBuf;

use crate::address::TcpAddr;
use crate::config::{Identity, LogLevel};
use crate::def::section;
use crate::diag::{Diagnostic, Level};
use crate::file::Places;
use crate::reader::Cx;
use crate::tree::{Node, Val, quote};
use crate::value::{Size, Value, choice, string};

/// `lib_path` in the packaged file, which an operator has to replace.
pub const LIB_PATH_PLACEHOLDER: &str = "/path/to/your/pkcs11.so";

/// Most variables in `module_env`.
const ENV_MAX: usize = 64;

choice! {
    pub enum BridgeLogTarget {
        Stderr = "stderr",
        Syslog = "syslog",
        File = "file",
        Journal = "journal",
    }
}
choice! {
    /// Facilities of syslog (RFC 5424 §6.2.1, table 1) that a service may use.
    pub enum Facility {
        User = "user",
        Daemon = "daemon",
        Auth = "auth",
        Authpriv = "authpriv",
        Local0 = "local0",
        Local1 = "local1",
        Local2 = "local2",
        Local3 = "local3",
        Local4 = "local4",
        Local5 = "local5",
        Local6 = "local6",
        Local7 = "local7",
    }
}
choice! {
    pub enum KeyIdForm { AsciiHex = "ascii-hex", Binary = "binary" }
}
choice! {
    pub enum SetLabels { Auto = "auto", Never = "never" }
}

impl Facility {
    /// The code of RFC 5424 §6.2.1, table 1.
    pub fn code(self) -> u8 {
        match self {
            Facility::User => 1,
            Facility::Daemon => 3,
            Facility::Auth => 4,
            Facility::Authpriv => 10,
            Facility::Local0 => 16,
            Facility::Local1 => 17,
            Facility::Local2 => 18,
            Facility::Local3 => 19,
            Facility::Local4 => 20,
            Facility::Local5 => 21,
            Facility::Local6 => 22,
            Facility::Local7 => 23,
        }
    }
}

section! {
    /// The bridge.
    pub struct BridgeConfig {
        /// The PKCS#11 module of the HSM's vendor: a shared library. It is
        /// loaded into this process and gets everything that this process has.
        req "lib_path" => lib_path: Utf8PathBuf = r#""/path/to/your/pkcs11.so""#;
        /// Addresses that KMIP is served on: one, or a list. An address may
        /// carry a port of its own.
        key "addr" => addr: BridgeAddrs = r#""127.0.0.1""# [why("this host only")];
        /// The port where an address names none.
        key "port" => port: u32 = "5696" [range(1, 65_535), why("assigned to KMIP")];
        /// Certificate chain, PEM. Without one, a self-signed certificate is
        /// made and kept in tls_dir.
        opt "cert_path" => cert_path: Utf8PathBuf [reload(), eg(r#""/etc/kmip2pkcs11/server.crt""#)];
        /// Private key of the certificate, PEM, not readable by others.
        opt "key_path" => key_path: Utf8PathBuf [reload(), eg(r#""/etc/kmip2pkcs11/server.key""#)];
        /// Clients must show a certificate of this CA, PEM. Needed when an
        /// address is not loopback, unless allow_password_only is true.
        opt "client_ca_path" => client_ca_path: Utf8PathBuf [reload(), eg(r#""/etc/kmip2pkcs11/clients-ca.crt""#)];
        /// Serve other hosts although nothing but the PIN tells clients apart.
        key "allow_password_only" => allow_password_only: bool = "false" [why("a PIN is short, and some modules take any")];
        /// Local users whose connections are taken, by name or number, besides
        /// the one this program runs as. ["*"] takes everybody's.
        key "allowed_users" => allowed_users: Vec<String> = r#"["root", "cascade"]"# [reload(), why("a module that logs in by itself accepts any PIN")];
        /// Keeps the self-signed certificate and its key, mode 0600.
        key "tls_dir" => tls_dir: Utf8PathBuf = r#""/var/lib/kmip2pkcs11""# [why("clients remember the fingerprint over restarts")];
        /// Where log lines go.
        key "log_target" => log_target: BridgeLogTarget = r#""stderr""# [packaged(r#""journal""#), why("seen by whoever started it; the packaged file says \"journal\"")];
        /// Facility of log lines in syslog.
        key "log_facility" => log_facility: Facility = r#""daemon""# [why("it is one")];
        /// The file of log_target = "file"; opened again on SIGHUP.
        opt "log_file" => log_file: Utf8PathBuf [eg(r#""/var/log/kmip2pkcs11/kmip2pkcs11.log""#)];
        /// Least level that is logged.
        key "log_level" => log_level: LogLevel = r#""info""# [why("starts, logins, keys made and destroyed, and trouble")];
        /// Sessions for each token, and so signatures made at the same time;
        /// 0: as many as the token allows, at most 64.
        key "max_sessions" => max_sessions: u32 = "0" [max(1024), why("a network HSM is slow for one and fast for many")];
        /// Most connections at once; more are closed at once.
        key "max_connections" => max_connections: u32 = "256" [range(1, 4096), why("bounds memory and descriptors")];
        /// Time for a connection's TLS handshake.
        key "handshake_timeout" => handshake_timeout: Duration = r#""5s""# [range(1, 60), why("handshakes run beside one another")];
        /// A connection without a request is closed after this.
        key "idle_timeout" => idle_timeout: Duration = r#""10m""# [range(1, 86_400), why("clients connect again by themselves")];
        /// Largest request; more gets an error, and the connection is closed.
        key "max_request_bytes" => max_request_bytes: Size = r#""1MiB""# [range(4096, 16_777_216), why("256 signatures take less than 100 KiB")];
        /// A call of the module that takes longer fails its request and gives
        /// its session up. After three in a row the program ends with status 4,
        /// so that the service manager starts it anew.
        key "call_timeout" => call_timeout: Duration = r#""30s""# [range(1, 600), why("a dead device takes modules up to a minute to notice")];
        /// CKA_ID of new keys: 40 hexadecimal digits, or the 20 octets that
        /// they spell. Keys of either form are found.
        key "key_id_form" => key_id_form: KeyIdForm = r#""ascii-hex""# [why("every module stores it as it is")];
        /// Whether to set labels of keys where the token lets us.
        key "set_labels" => set_labels: SetLabels = r#""auto""# [why("labels say which key belongs to which zone")];
        /// Environment variables for the module.
        key "module_env" => module_env: Environment = "{}" [why("most modules have a file of their own")];
        /// Metrics for Prometheus over HTTP, on a loopback address.
        opt "metrics_addr" => metrics_addr: TcpAddr [eg(r#""127.0.0.1:5697""#)];
        /// Go to the background.
        key "daemonize" => daemonize: bool = "false" [hidden(), why("service managers want the foreground")];
        /// Where the process id is written.
        opt "pid_file" => pid_file: Utf8PathBuf [hidden(), eg(r#""/run/kmip2pkcs11.pid""#)];
        /// Whom to become when started as root.
        opt "identity" => identity: Identity [hidden(), eg(r#""kmip2pkcs11:kmip2pkcs11""#)];
    }
}

impl BridgeConfig {
    /// Every address with its port, each once.
    pub fn listen(&self) -> Vec<SocketAddr> {
        // The reader keeps it within 16 bits.
        let default = u16::try_from(self.port).unwrap_or(5696);
        let mut all = Vec::new();
        for (ip, port) in &self.addr.0 {
            let addr = SocketAddr::new(*ip, port.unwrap_or(default));
            if !all.contains(&addr) {
                all.push(addr);
            }
        }
        all
    }
}

/// Addresses, some with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeAddrs(pub Vec<(IpAddr, Option<u16>)>);

impl Value for BridgeAddrs {
    fn type_text() -> String {
        "address, or list of addresses, with port or without".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let nodes = match &node.value {
            Val::List(nodes) if nodes.is_empty() || nodes.len() > 64 => {
                cx.bad(
                    node,
                    "1 to 64 addresses are possible",
                    "write \"127.0.0.1\"",
                );
                return None;
            }
            Val::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut all = Vec::new();
        let mut good = true;
        for node in nodes {
            match addresses(node, cx) {
                Some(found) => all.extend(found),
                None => good = false,
            }
        }
        good.then_some(BridgeAddrs(all))
    }

    fn write(&self) -> String {
        let one = |(ip, port): &(IpAddr, Option<u16>)| match port {
            Some(port) => quote(&SocketAddr::new(*ip, *port).to_string()),
            None => quote(&ip.to_string()),
        };
        match self.0.as_slice() {
            [only] => one(only),
            all => format!("[{}]", all.iter().map(one).collect::<Vec<_>>().join(", ")),
        }
    }
}

fn addresses(node: &Node, cx: &mut Cx) -> Option<Vec<(IpAddr, Option<u16>)>> {
    let text = string(node, cx, "an address")?;
    let both = |port| {
        vec![
            (IpAddr::V4(Ipv4Addr::LOCALHOST), port),
            (IpAddr::V6(Ipv6Addr::LOCALHOST), port),
        ]
    };
    let local = text.strip_prefix("localhost");
    let found = if local == Some("") {
        Some(both(None))
    } else if let Some(port) = local.and_then(|rest| rest.strip_prefix(':')) {
        port.parse().ok().map(|port: u16| both(Some(port)))
    } else if let Ok(ip) = text.parse::<IpAddr>() {
        Some(vec![(ip, None)])
    } else {
        let parsed = text.parse::<SocketAddr>().ok();
        parsed.map(|a| vec![(a.ip(), Some(a.port()))])
    };
    if found.is_none() {
        cx.bad(
            node,
            "not an address; of names only localhost is known here",
            "write for example \"127.0.0.1\" or \"[::1]:5696\"",
        );
    }
    found
}

/// Variables, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Environment(pub Vec<(String, String)>);

impl Value for Environment {
    fn type_text() -> String {
        "table of strings".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Val::Table(table) = &node.value else {
            cx.wrong_type(node, "a table");
            return None;
        };
        if table.entries.len() > ENV_MAX {
            cx.bad(node, format!("more than {ENV_MAX} variables"), "");
            return None;
        }
        let mut all = Vec::new();
        for entry in &table.entries {
            let value = string(&entry.node, cx, "a string")?;
            let name = &entry.name;
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                let eg = "write { P11NETHSM_CONFIG_FILE = \"/etc/nitrokey/p11nethsm.conf\" }";
                cx.bad(&entry.node, "not an environment variable", eg);
                return None;
            }
            all.push((name.clone(), value.to_string()));
        }
        Some(Environment(all))
    }

    fn write(&self) -> String {
        if self.0.is_empty() {
            return "{}".into();
        }
        let one = |(name, value): &(String, String)| format!("{} = {}", quote(name), quote(value));
        format!(
            "{{ {} }}",
            self.0.iter().map(one).collect::<Vec<_>>().join(", ")
        )
    }
}

/// Rules across keys that need nothing but the file.
pub(crate) fn crosscheck(config: &BridgeConfig, places: &Places, found: &mut Vec<Diagnostic>) {
    let mut refuse = |key: &str, also: &str, detail: &str, action: &str| {
        found.push(
            Diagnostic::new("C02", Level::Error, detail)
                .key(key)
                .suggest(action)
                .at(places.of(&[key, also])),
        );
    };
    match (&config.cert_path, &config.key_path) {
        (Some(_), None) => refuse(
            "key_path",
            "cert_path",
            "a certificate without its key",
            "set both or neither",
        ),
        (None, Some(_)) => refuse(
            "cert_path",
            "key_path",
            "a key without its certificate",
            "set both or neither",
        ),
        _ => {}
    }
    let open = config.listen().into_iter().find(|a| !a.ip().is_loopback());
    if let Some(addr) = open
        && config.client_ca_path.is_none()
        && !config.allow_password_only
    {
        refuse(
            "client_ca_path",
            "addr",
            &format!("needed, because {addr} is not loopback"),
            "set it, or allow_password_only = true, or listen on 127.0.0.1",
        );
    }
    if config.log_target == BridgeLogTarget::File && config.log_file.is_none() {
        refuse(
            "log_file",
            "log_target",
            "needed for log_target = \"file\"",
            "write for example log_file = \"/var/log/kmip2pkcs11/kmip2pkcs11.log\"",
        );
    }
    if config.metrics_addr.is_some_and(|a| !a.0.ip().is_loopback()) {
        refuse(
            "metrics_addr",
            "metrics_addr",
            "not a loopback address",
            "metrics are not protected; write for example \"127.0.0.1:5697\"",
        );
    }
}
