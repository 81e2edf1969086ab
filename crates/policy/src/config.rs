//! The daemon's configuration file, version 1.

use std::time::Duration;

use camino::Utf8PathBuf;

use crate::acl::AclEntry;
use crate::address::{ListenAddr, Resolver, TcpAddr, member, only_members};
use crate::def::section;
use crate::hook::Hook;
use crate::policy::Version;
use crate::reader::Cx;
use crate::tree::{Node, Val, quote};
use crate::value::{FileMode, PathOrNone, Size, Value, choice, string};

choice! {
    pub enum LogLevel {
        Trace = "trace",
        Debug = "debug",
        Info = "info",
        Warning = "warning",
        Error = "error",
        Critical = "critical",
    }
}
choice! {
    pub enum LogFormat { Text = "text", Json = "json" }
}
choice! {
    pub enum ClientAuth { None = "none", Optional = "optional", Required = "required" }
}
choice! {
    /// Verbs that may need a second person.
    pub enum TwoPersonVerb {
        Rollback = "rollback",
        RemoveZone = "remove-zone",
        RemoveKey = "remove-key",
        Emergency = "emergency",
        Override = "override",
        PolicyApply = "policy-apply",
    }
}
choice! {
    pub enum RequireSync { Warn = "warn", Hold = "hold", Off = "off" }
}
choice! {
    pub enum Role {
        Viewer = "viewer",
        Operator = "operator",
        Approver = "approver",
        Admin = "admin",
    }
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    Stdout,
    Stderr,
    Syslog,
    Journal,
    File(Utf8PathBuf),
}

impl Value for LogTarget {
    fn type_text() -> String {
        "table of type (\"stdout\", \"stderr\", \"syslog\", \"journal\", \"file\") and path".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Val::Table(table) = &node.value else {
            cx.wrong_type(node, "a table");
            return None;
        };
        only_members(table, &["type", "path"], cx)?;
        let at = member(table, "type", node, cx)?;
        let words = ["stdout", "stderr", "syslog", "journal", "file"];
        let target = match string(at, cx, "a word")? {
            "stdout" => LogTarget::Stdout,
            "stderr" => LogTarget::Stderr,
            "syslog" => LogTarget::Syslog,
            "journal" => LogTarget::Journal,
            "file" => {
                let path = member(table, "path", node, cx)?;
                return Utf8PathBuf::read(path, cx).map(LogTarget::File);
            }
            other => {
                crate::value::not_a_word(at, cx, other, &words);
                return None;
            }
        };
        if let Some(entry) = table.get("path") {
            cx.bad(&entry.node, "a path belongs to type \"file\" only", "");
            return None;
        }
        Some(target)
    }

    fn write(&self) -> String {
        let word = match self {
            LogTarget::Stdout => "stdout",
            LogTarget::Stderr => "stderr",
            LogTarget::Syslog => "syslog",
            LogTarget::Journal => "journal",
            LogTarget::File(path) => {
                return format!("{{ type = \"file\", path = {} }}", quote(path.as_str()));
            }
        };
        format!("{{ type = {} }}", quote(word))
    }
}

/// Whom the daemon becomes when started as root; names or numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    pub group: Option<String>,
}

impl Value for Identity {
    fn type_text() -> String {
        "user[:group]".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = string(node, cx, "user[:group]")?;
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let good = |s: &str| !s.is_empty() && !s.contains([':', ' ', '/', '\0']);
        if !good(user) || group.is_some_and(|g| !good(g)) {
            cx.bad(
                node,
                "not a user and group",
                "write for example \"cascade:cascade\"",
            );
            return None;
        }
        Some(Identity {
            user: user.into(),
            group: group.map(str::to_string),
        })
    }

    fn write(&self) -> String {
        match &self.group {
            Some(group) => quote(&format!("{}:{group}", self.user)),
            None => quote(&self.user),
        }
    }
}

/// What holders of a client certificate may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRule {
    pub who: CertificateName,
    pub roles: Vec<Role>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateName {
    Subject(String),
    San(String),
}

impl Value for RoleRule {
    fn type_text() -> String {
        "table of subject or san, and roles".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Val::Table(table) = &node.value else {
            cx.wrong_type(node, "a table");
            return None;
        };
        only_members(table, &["subject", "san", "roles"], cx)?;
        let text = |name: &str, cx: &mut Cx| match table.get(name) {
            Some(e) => string(&e.node, cx, "a string").map(str::to_string),
            None => None,
        };
        let who = match (text("subject", cx), text("san", cx)) {
            (Some(s), None) => CertificateName::Subject(s),
            (None, Some(s)) => CertificateName::San(s),
            _ => {
                let eg = "write { subject = \"CN=ops1\", roles = [\"operator\"] }";
                cx.bad(node, "either subject or san names the certificate", eg);
                return None;
            }
        };
        let roles = Vec::<Role>::read(member(table, "roles", node, cx)?, cx)?;
        Some(RoleRule { who, roles })
    }

    fn write(&self) -> String {
        let who = match &self.who {
            CertificateName::Subject(s) => format!("subject = {}", quote(s)),
            CertificateName::San(s) => format!("san = {}", quote(s)),
        };
        format!("{{ {who}, roles = {} }}", self.roles.write())
    }
}

section! {
    /// The process.
    pub struct DaemonConfig {
        /// Least level that is logged.
        key "log-level" => log_level: LogLevel = r#""info""# [reload(), why("one line for each finished operation")];
        /// Where log lines go; "file" takes a path as well.
        key "log-target" => log_target: LogTarget = r#"{ type = "stdout" }"# [reload(), why("seen by whoever started the daemon")];
        /// One event is one line of text, or one JSON object.
        key "log-format" => log_format: LogFormat = r#""text""# [reload(), why("people read it first")];
        /// Prefixes of modules that are logged at level trace.
        key "trace-targets" => trace_targets: Vec<String> = "[]" [reload(), why("for developers")];
        /// Threads for I/O and short work; 0: one for each usable CPU.
        key "worker-threads" => worker_threads: u32 = "0" [range(0, 1024), why("respects quota and affinity")];
        /// Go to the background once sockets are bound and state is open.
        /// Needs a log target syslog or file.
        key "daemonize" => daemonize: bool = "false" [why("service managers want the foreground")];
        /// Written with its lock before the parent exits. Only with daemonize.
        opt "pid-file" => pid_file: Utf8PathBuf [eg(r#""/run/cascade/cascaded.pid""#)];
        /// Whom to become when started as root.
        opt "identity" => identity: Identity [eg(r#""cascade:cascade""#)];
    }
}

section! {
    /// TLS of the control API. Needed as soon as one address is not loopback.
    pub struct ControlTls {
        /// Certificate chain, PEM.
        opt "cert-path" => cert_path: Utf8PathBuf [reload(), eg(r#""/etc/cascade/control.crt""#)];
        /// Private key, PEM, not readable by others.
        opt "key-path" => key_path: Utf8PathBuf [reload(), eg(r#""/etc/cascade/control.key""#)];
        /// Verifies client certificates.
        opt "client-ca-path" => client_ca_path: Utf8PathBuf [reload(), eg(r#""/etc/cascade/operators-ca.crt""#)];
        /// "none", "optional", "required"; unset: optional with a CA.
        opt "client-auth" => client_auth: ClientAuth [reload(), eg(r#""optional""#)];
    }
}

section! {
    /// Control: the socket and the HTTP API.
    pub struct RemoteControlConfig {
        /// Unix socket; "" disables it.
        key "socket" => socket: PathOrNone = r#""/run/cascade/control.sock""# [why("local users need no password")];
        /// Mode of the socket. Peer credentials decide what a caller may do; a
        /// narrower mode keeps readers out altogether.
        key "socket-mode" => socket_mode: FileMode = r#""0666""# [reload(), why("status for everybody, changes for admin groups")];
        /// Groups whose members may do everything, besides root and the
        /// daemon's own user.
        key "admin-groups" => admin_groups: Vec<String> = r#"["cascade"]"# [reload(), why("made by the package")];
        /// Users who may do everything.
        key "admin-users" => admin_users: Vec<String> = "[]" [reload(), why("groups serve better")];
        /// Every local user may read over the socket.
        key "local-read" => local_read: bool = "true" [reload(), why("status is not secret on the host")];
        /// TCP addresses of the API; [] disables it.
        key "servers" => servers: Vec<TcpAddr> = r#"["127.0.0.1:4539", "[::1]:4539"]"# [why("this host only")];
        /// Status over TCP without credentials; never zone contents, audit or
        /// inventory.
        key "anonymous-read" => anonymous_read: bool = "true" [reload(), why("monitoring without secrets")];
        /// Further values of the Host header that are accepted.
        key "allowed-hosts" => allowed_hosts: Vec<String> = "[]" [reload(), why("bound addresses and localhost always are")];
        /// Origins of browsers that are allowed.
        key "cors-origins" => cors_origins: Vec<String> = "[]" [reload(), why("a web page must not steer a signer")];
        /// Roles of client certificates.
        key "roles" => roles: Vec<RoleRule> = "[]" [reload(), why("no certificate has a role by itself")];
        /// Verbs that need a second, different person: "rollback",
        /// "remove-zone", "remove-key", "emergency", "override",
        /// "policy-apply".
        key "two-person" => two_person: Vec<TwoPersonVerb> = "[]" [reload(), why("small teams have one operator at night")];
        /// Requests for a second person expire after this.
        key "two-person-expiry" => two_person_expiry: Duration = r#""1h""# [reload(), range(60, 604_800), why("what was meant then may be wrong later")];
        /// Most connections at once; more are answered 503.
        key "max-connections" => max_connections: u32 = "256" [range(1, 65_535), why("bounds memory and descriptors")];
        /// Largest request; more is answered 413.
        key "max-body" => max_body: Size = r#""4MiB""# [range(1024, 1_073_741_824), why("bounds memory")];
        sub "tls" => tls: ControlTls;
    }
}

section! {
    /// A review server.
    pub struct LoaderReviewConfig {
        /// Serve unsigned candidates.
        key "servers" => servers: Vec<ListenAddr> = r#"["127.0.0.1:4541", "[::1]:4541"]"# [why("this host only")];
        /// Who may ask and transfer.
        key "allow" => allow: Vec<AclEntry> = r#"["127.0.0.0/8", "::1"]"# [reload(), why("candidates are not public")];
    }
}

section! {
    /// Loading.
    pub struct LoaderConfig {
        /// Addresses that take NOTIFY and nothing else. NOTIFY is also taken
        /// on the publication servers.
        key "notify-listeners" => notify_listeners: Vec<ListenAddr> = r#"["127.0.0.1:4540", "[::1]:4540"]"# [why("this host only")];
        /// Further senders of NOTIFY, besides the primaries of a zone.
        key "notify-allow" => notify_allow: Vec<AclEntry> = "[]" [reload(), why("primaries are known")];
        /// Zones loaded at the same time; 0: half of the CPUs, 1 to 16.
        key "max-concurrent-loads" => max_concurrent_loads: u32 = "0" [reload(), range(0, 1024), why("signing needs the other half")];
        sub "review" => review: LoaderReviewConfig;
        sub "tls" => tls: LoaderTls;
    }
}

section! {
    /// Transfers from primaries over TLS (RFC 9103).
    pub struct LoaderTls {
        /// Authorities that may certify the names of primaries, PEM; absent:
        /// those of the system.
        opt "ca-path" => ca_path: Utf8PathBuf [reload(), eg(r#""/etc/cascade/primaries-ca.crt""#)];
    }
}

section! {
    /// A review server.
    pub struct SignerReviewConfig {
        /// Serve signed candidates.
        key "servers" => servers: Vec<ListenAddr> = r#"["127.0.0.1:4542", "[::1]:4542"]"# [why("this host only")];
        /// Who may ask and transfer.
        key "allow" => allow: Vec<AclEntry> = r#"["127.0.0.0/8", "::1"]"# [reload(), why("candidates are not public")];
    }
}

section! {
    /// Signing and verifying.
    pub struct SignerConfig {
        /// CPU threads; 0: one for each usable CPU.
        key "threads" => threads: u32 = "0" [range(0, 1024), why("shared by all zones; one zone uses all if alone")];
        /// Zones signed at the same time; 0: as many as CPUs.
        key "max-concurrent-zones" => max_concurrent_zones: u32 = "0" [reload(), range(0, 4096), why("the nearest expiry goes first")];
        sub "review" => review: SignerReviewConfig;
    }
}

section! {
    /// Keys.
    pub struct KeyManagerConfig {
        /// Resolvers used to find servers of parents and secondaries; []: the
        /// system's. Facts about keys and DS come from those servers.
        key "resolvers" => resolvers: Vec<Resolver> = "[]" [reload(), why("the system knows")];
        /// For each query of a check.
        key "check-timeout" => check_timeout: Duration = r#""5s""# [reload(), range(1, 60), why("a slow server is not a dead one")];
        /// Checks at the same time, of the whole daemon.
        key "check-parallel" => check_parallel: u32 = "64" [reload(), range(1, 4096), why("checks run beside zone work")];
        /// How long removed keys can be restored.
        key "trash-retention" => trash_retention: Duration = r#""30d""# [reload(), why("a month to notice a mistake")];
        /// Proof of the identity of keys on every HSM instance; also after
        /// each reconnect.
        key "prove-interval" => prove_interval: Duration = r#""1h""# [reload(), min(60), why("a few signatures an hour cost nothing")];
    }
}

section! {
    /// Transfers over TLS (RFC 9103).
    pub struct ServerTls {
        /// TLS addresses, usually of port 853.
        key "servers" => servers: Vec<TcpAddr> = "[]" [why("needs a certificate")];
        /// Certificate chain, PEM.
        opt "cert-path" => cert_path: Utf8PathBuf [reload(), eg(r#""/etc/cascade/dns.crt""#)];
        /// Private key, PEM, not readable by others.
        opt "key-path" => key_path: Utf8PathBuf [reload(), eg(r#""/etc/cascade/dns.key""#)];
        /// Verifies client certificates.
        opt "client-ca-path" => client_ca_path: Utf8PathBuf [reload(), eg(r#""/etc/cascade/secondaries-ca.crt""#)];
    }
}

section! {
    /// Publication.
    pub struct ServerConfig {
        /// Publication addresses.
        key "servers" => servers: Vec<ListenAddr> = r#"["127.0.0.1:4543", "[::1]:4543"]"# [why("a hidden primary opens what it needs")];
        /// Most TCP connections.
        key "max-tcp-clients" => max_tcp_clients: u32 = "1000" [reload(), range(1, 65_535), why("bounds memory and descriptors")];
        /// A TCP connection without request is closed after this.
        key "tcp-idle-timeout" => tcp_idle_timeout: Duration = r#""30s""# [reload(), range(1, 3600), why("RFC 7766 wants seconds")];
        /// Most transfers at the same time.
        key "max-transfers" => max_transfers: u32 = "64" [reload(), range(1, 65_535), why("bounds memory")];
        /// A transfer without progress for this long is cut.
        key "transfer-timeout" => transfer_timeout: Duration = r#""10m""# [reload(), range(1, 86_400), why("a slow reader never delays a publication")];
        /// UDP answers a second to one /24 or /56; 0 is no limit.
        key "answer-rate" => answer_rate: u32 = "0" [reload(), why("a hidden primary has few clients")];
        /// Answered to NSID requests; "hostname" for the host's name.
        opt "nsid" => nsid: String [reload(), eg(r#""hostname""#)];
        sub "tls" => tls: ServerTls;
    }
}

section! {
    /// Processes run for policies and alerts.
    pub struct HooksConfig {
        /// Upper bound for every hook; policies may lower it.
        key "timeout" => timeout: Duration = r#""10m""# [reload(), range(1, 604_800), why("no official reference")];
        /// Output kept of each; more is dropped with a mark.
        key "max-output" => max_output: Size = r#""64KiB""# [reload(), range(1024, 16_777_216), why("enough for reasons, bounds memory")];
        /// Most hooks at the same time.
        key "max-running" => max_running: u32 = "8" [reload(), range(1, 1024), why("hooks must not starve signing")];
        /// Names of variables passed on besides PATH, LANG, HOME and TMPDIR.
        key "environment" => environment: Vec<String> = "[]" [reload(), why("secrets of the daemon's environment stay there")];
    }
}

section! {
    /// The record of who did what.
    pub struct AuditConfig {
        /// How long entries are kept; 0 is for ever.
        key "retention" => retention: Duration = "0" [reload(), why("deleting evidence is the operator's decision")];
        /// Also send entries to syslog.
        key "syslog" => syslog: bool = "false" [reload(), why("most log elsewhere")];
    }
}

section! {
    /// What is kept of each zone.
    pub struct HistoryConfig {
        /// Entries of the history.
        key "max-entries" => max_entries: u64 = "10000" [reload(), range(1, 10_000_000), why("about a year of a busy zone")];
        /// Versions for differences and rollback; the published and pinned
        /// ones always are.
        key "max-versions" => max_versions: u32 = "10" [reload(), range(1, 10_000), why("versions share what did not change")];
    }
}

section! {
    /// Trust in the clock.
    pub struct ClockConfig {
        /// What an unsynchronised clock does to signing: "warn", "hold",
        /// "off".
        key "require-sync" => require_sync: RequireSync = r#""warn""# [reload(), why("isolated hosts have no time server")];
        /// A larger jump holds signing until the clock is confirmed.
        key "max-step" => max_step: Duration = r#""1h""# [reload(), min(1), why("signatures of a wrong day are bogus")];
    }
}

section! {
    /// Messages to people.
    pub struct AlertsConfig {
        /// Run on each change of health.
        opt "hook" => hook: Hook [reload(), eg(r#""/usr/local/bin/page-someone""#)];
        /// Receives a POST on each change of health.
        opt "url" => url: String [reload(), eg(r#""https://alerts.example/cascade""#)];
        /// Send a test message this often.
        opt "self-test" => self_test: Duration [reload(), min(60), eg(r#""24h""#)];
    }
}

section! {
    /// Configuration of the daemon cascaded.
    pub struct Config {
        /// Version of this format. The only line that must be present.
        req "version" => version: Version = r#""v1""#;
        /// Directory of policies, one file for each. Read on "cascade policy
        /// reload" only.
        key "policy-dir" => policy_dir: Utf8PathBuf = r#""/etc/cascade/policies""# [reload(), why("beside this file")];
        /// Everything the daemon must keep. One daemon for each directory.
        key "state-dir" => state_dir: Utf8PathBuf = r#""/var/lib/cascade""# [why("the place of the system's rules")];
        /// Software keys. Unset: "keys" in state-dir.
        opt "keys-dir" => keys_dir: Utf8PathBuf [eg(r#""/var/lib/cascade/keys""#)];
        /// Zone data. Unset: "zone-state" in state-dir.
        opt "zone-state-dir" => zone_state_dir: Utf8PathBuf [eg(r#""/var/lib/cascade/zone-state""#)];
        /// Older key: read once as a source of import.
        opt "tsig-store-path" => tsig_store_path: Utf8PathBuf [hidden(), eg(r#""/var/lib/cascade/tsig-keys.db""#)];
        /// Older key: read once as a source of import.
        opt "kmip-credentials-store-path" => kmip_credentials_store_path: Utf8PathBuf [hidden(), eg(r#""/var/lib/cascade/kmip/credentials.db""#)];
        /// Older key: read once as a source of import.
        opt "kmip-server-state-dir" => kmip_server_state_dir: Utf8PathBuf [hidden(), eg(r#""/var/lib/cascade/kmip""#)];
        /// Older key: ignored.
        opt "dnst-binary-path" => dnst_binary_path: String [hidden(), eg(r#""/usr/bin/dnst""#)];
        sub "daemon" => daemon: DaemonConfig;
        sub "remote-control" => remote_control: RemoteControlConfig;
        sub "loader" => loader: LoaderConfig;
        sub "signer" => signer: SignerConfig;
        sub "key-manager" => key_manager: KeyManagerConfig;
        sub "server" => server: ServerConfig;
        sub "hooks" => hooks: HooksConfig;
        sub "audit" => audit: AuditConfig;
        sub "history" => history: HistoryConfig;
        sub "clock" => clock: ClockConfig;
        sub "alerts" => alerts: AlertsConfig;
    }
}

impl Config {
    pub fn keys_dir(&self) -> Utf8PathBuf {
        self.keys_dir
            .clone()
            .unwrap_or_else(|| self.state_dir.join("keys"))
    }

    pub fn zone_state_dir(&self) -> Utf8PathBuf {
        self.zone_state_dir
            .clone()
            .unwrap_or_else(|| self.state_dir.join("zone-state"))
    }
}
