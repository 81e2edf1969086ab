//! The commands and their options: one definition for parsing, `--help`, man pages, completions.

use std::path::PathBuf;
use std::time::Duration;

use cascade_api::client::Server;
use cascade_api::daemon::LogLevel;
use cascade_api::keys::RecordKind;
use cascade_api::zones::{HistoryKind, ZoneState};
use clap::builder::PossibleValue;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::forms::{self, SourceArg, When};

/// Control a Cascade daemon: DNSSEC zones, policies and keys.
#[derive(Debug, Parser)]
#[command(
    name = "cascade",
    version,
    propagate_version = false,
    disable_help_subcommand = false
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Where the daemon is: unix:<path>, <IP>:<port>, [<IPv6>]:<port>, <host>:<port>, http://… or
    /// https://…. A bare address means HTTP on loopback and HTTPS elsewhere
    #[arg(short, long, global = true, value_name = "ADDR", env = "CASCADE_DAEMON",
          default_value = "unix:/run/cascade/control.sock", value_parser = server)]
    pub server: Server,
    /// File with the bearer token for TCP; CASCADE_TOKEN may hold the token itself
    #[arg(long, global = true, value_name = "PATH", env = "CASCADE_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificates of the authorities that vouch for a remote daemon (PEM) [default: the system's]
    #[arg(long, global = true, value_name = "PATH", env = "CASCADE_CA_CERT")]
    pub ca_cert: Option<PathBuf>,
    /// Own certificate towards a remote daemon (PEM)
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "CASCADE_CLIENT_CERT",
        requires = "client_key"
    )]
    pub client_cert: Option<PathBuf>,
    /// Key of --client-cert (PEM)
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "CASCADE_CLIENT_KEY",
        requires = "client_cert"
    )]
    pub client_key: Option<PathBuf>,
    /// How long one request may take
    #[arg(long, global = true, value_name = "DUR", env = "CASCADE_TIMEOUT", default_value = "30s", value_parser = timeout)]
    pub timeout: Duration,
    /// Print the daemon's answer as JSON, unchanged
    #[arg(long, global = true)]
    pub json: bool,
    /// Lists: names only. Changes: print nothing on success
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// Stored in the audit log with any changing call (at most 500 bytes)
    #[arg(long, global = true, value_name = "TEXT", value_parser = comment)]
    pub comment: Option<String>,
    /// Diagnostics of this program itself, on stderr
    #[arg(long, global = true, value_name = "LEVEL", default_value = "warning")]
    pub log_level: LevelArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Zones: add, watch, review, change
    #[command(subcommand)]
    Zone(ZoneCommand),
    /// Policies: what is signed how
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Keys of a zone
    Keyset(Keyset),
    /// Hardware security modules
    #[command(subcommand)]
    Hsm(HsmCommand),
    /// Keys that authenticate transfers
    #[command(subcommand)]
    Tsig(TsigCommand),
    /// Tokens for the control API over TCP
    #[command(subcommand)]
    Token(TokenCommand),
    /// Calls that wait for a second person
    #[command(subcommand)]
    Request(RequestCommand),
    /// Copies of state, zones and keys
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Addresses, zones and the signing queue
    Status {
        #[command(subcommand)]
        what: Option<StatusWhat>,
    },
    /// Is all well? Exit code 0, 7 (critical) or 8 (warnings)
    Health {
        /// Also ask secondaries, the parent and HSMs
        #[arg(long)]
        deep: bool,
    },
    /// Version of the daemon
    Info,
    /// What a zone waits for, or why it halted
    Why {
        #[arg(value_parser = forms::zone)]
        zone: String,
    },
    /// Commented templates of files; needs no daemon
    #[command(subcommand)]
    Template(TemplateCommand),
    /// Trust in the clock of the daemon's host
    #[command(subcommand)]
    Clock(ClockCommand),
    /// For the hunt for errors
    #[command(subcommand)]
    Debug(DebugCommand),
    /// Shell completions on stdout
    Completions { shell: ShellArg },
    /// Manual pages on stdout, or as files
    Man {
        /// Write one file per command here
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShellArg {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum StatusWhat {
    /// Keys of all zones, the first to expire on top
    Keys,
}

/// Follow the work that the change causes and end with its outcome
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Wait {
    /// Wait until the work is done, at most this long
    #[arg(long, value_name = "DUR", num_args = 0..=1, require_equals = true,
          default_missing_value = "10m", value_parser = forms::duration)]
    pub wait: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub enum ZoneCommand {
    /// Add a zone; it is loaded, signed and published without another command
    Add(Box<ZoneAdd>),
    /// Report how far the newest version has come, and what is published
    Status {
        #[arg(value_parser = forms::zone)]
        zone: String,
        /// With keys, rolls, signatures and secondaries
        #[arg(long)]
        detailed: bool,
    },
    /// List zones
    List {
        #[arg(long)]
        policy: Option<String>,
        #[arg(long, value_name = "STATE")]
        state: Option<StateArg>,
        /// Only halted zones
        #[arg(long)]
        halted: bool,
    },
    /// Settings of a zone and where they come from
    Show {
        #[arg(value_parser = forms::zone)]
        zone: String,
    },
    /// Remove a zone
    Remove {
        #[arg(value_parser = forms::zone)]
        zone: String,
        /// Keep its keys for the retention of the key trash (the default)
        #[arg(long, conflicts_with = "purge_keys")]
        keep_keys: bool,
        /// Destroy its keys now, also on HSMs
        #[arg(long)]
        purge_keys: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Read the file again, or transfer the whole zone from its primary
    #[command(group = ArgGroup::new("which").args(["zones", "all"]).required(true))]
    Reload {
        #[arg(value_name = "ZONE", value_parser = forms::zone)]
        zones: Vec<String>,
        /// Every zone
        #[arg(long)]
        all: bool,
        /// Do what a NOTIFY would: look at the SOA, then IXFR
        #[arg(long)]
        refresh: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// Refresh the signatures that are due
    Resign {
        #[arg(value_name = "ZONE", value_parser = forms::zone, required = true)]
        zones: Vec<String>,
        /// Every signature
        #[arg(long)]
        full: bool,
        /// Serial of the next signed version; must be ahead of the present one
        #[arg(long)]
        serial: Option<u32>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Approve the version under review
    Approve(Review),
    /// Reject the version under review
    Reject(Review),
    /// Accept a rejected, halted version after all
    Override {
        #[command(flatten)]
        stage: StageArg,
        #[arg(value_parser = forms::zone)]
        zone: String,
        /// Even if the verification gate refused it; raises a standing alarm
        #[arg(long, requires = "signed")]
        despite_verification: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Drop a halted version; what is published stays
    Reset {
        #[arg(value_parser = forms::zone)]
        zone: String,
    },
    /// Publish the content of an older version again, under a new serial
    Rollback {
        #[arg(value_parser = forms::zone)]
        zone: String,
        /// v<N>, serial:<N> or previous
        #[arg(long, value_name = "VERSION", default_value = "previous", value_parser = forms::version)]
        to: String,
        /// Let newer content replace it as soon as it comes
        #[arg(long)]
        no_pin: bool,
        /// Say what would happen
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// Hold the published content: newer content waits; signatures are refreshed
    Pin {
        #[arg(value_parser = forms::zone)]
        zone: String,
        /// Only if this is the version that is published
        #[arg(long, value_name = "VERSION", value_parser = forms::version)]
        version: Option<String>,
        /// For so long
        #[arg(long = "for", value_name = "DUR", value_parser = forms::duration)]
        span: Option<Duration>,
    },
    /// Let newer content go on
    Unpin {
        #[arg(value_parser = forms::zone)]
        zone: String,
    },
    /// What happened to a zone, oldest first
    History {
        #[arg(value_parser = forms::zone)]
        zone: String,
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        #[arg(long, value_name = "TIME", value_parser = forms::time)]
        since: Option<When>,
        #[arg(long)]
        kind: Option<KindArg>,
    },
    /// Hold loads and key rolls while you work on it
    #[command(subcommand)]
    Maintenance(Maintenance),
    /// Change policy or source
    #[command(group = ArgGroup::new("what").args(["policy", "source"]).required(true).multiple(true))]
    Edit {
        #[arg(value_parser = forms::zone)]
        zone: String,
        #[arg(long)]
        policy: Option<String>,
        #[arg(long, value_name = "SRC", value_parser = forms::source)]
        source: Vec<SourceArg>,
        /// Print the effect, change nothing
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// Change the content of a zone whose source is update:
    ///
    /// The file has the commands of nsupdate(1): prereq, update, zone, ttl, send. Each request is
    /// carried out or refused as a whole; the first that is refused ends the run with exit code 7.
    Update {
        #[arg(value_parser = forms::zone)]
        zone: String,
        /// - for standard input
        file: PathBuf,
        /// Show what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Difference of two versions
    Diff {
        #[arg(value_parser = forms::zone)]
        zone: String,
        /// v<N>, serial:<N>, current, previous or candidate
        #[arg(value_parser = forms::version)]
        from: Option<String>,
        #[arg(value_parser = forms::version)]
        to: Option<String>,
        /// Of unsigned versions
        #[arg(long)]
        unsigned: bool,
        /// With RRSIG, NSEC and NSEC3
        #[arg(long)]
        dnssec: bool,
        /// Only the counts
        #[arg(long)]
        stat: bool,
        /// At most this many changes
        #[arg(long)]
        limit: Option<u64>,
    },
    /// Write a zone in zone-file form
    Export {
        #[arg(value_parser = forms::zone)]
        zone: String,
        /// v<N>, serial:<N>, current, previous or candidate
        #[arg(long, value_parser = forms::version)]
        version: Option<String>,
        #[arg(long)]
        unsigned: bool,
        #[arg(long, default_value = "zonefile")]
        format: ExportFormat,
        /// Into a file, which appears complete or not at all
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// What it waits for, or why it halted
    Why {
        #[arg(value_parser = forms::zone)]
        zone: String,
    },
    /// What will happen if nothing fails
    Timeline {
        #[arg(value_parser = forms::zone)]
        zone: String,
        /// Three years from now if not given
        #[arg(long, value_name = "TIME", value_parser = forms::time)]
        until: Option<When>,
        /// For calendars (RFC 5545)
        #[arg(long)]
        ics: bool,
    },
}

/// Keys that exist already.
#[derive(Debug, Args)]
pub struct Imports {
    /// Foreign DNSKEY to publish
    #[arg(long, value_name = "PATH")]
    pub import_public_key: Vec<PathBuf>,
    /// Key files, .key or .private; the partner is found beside it
    #[arg(long, value_name = "PATH")]
    pub import_ksk_file: Vec<PathBuf>,
    /// As --import-ksk-file
    #[arg(long, value_name = "PATH")]
    pub import_zsk_file: Vec<PathBuf>,
    /// As --import-ksk-file
    #[arg(long, value_name = "PATH")]
    pub import_csk_file: Vec<PathBuf>,
    /// Key that is in a registered HSM already
    #[arg(long, num_args = 5, value_names = ["SERVER", "PUBID", "PRIVID", "ALG", "FLAGS"])]
    pub import_ksk_kmip: Vec<String>,
    /// As --import-ksk-kmip
    #[arg(long, num_args = 5, value_names = ["SERVER", "PUBID", "PRIVID", "ALG", "FLAGS"])]
    pub import_zsk_kmip: Vec<String>,
    /// As --import-ksk-kmip
    #[arg(long, num_args = 5, value_names = ["SERVER", "PUBID", "PRIVID", "ALG", "FLAGS"])]
    pub import_csk_kmip: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ZoneAdd {
    #[arg(value_parser = forms::zone)]
    pub zone: String,
    /// /path or file:<path>; <IP>[:port][^tsig-key]; tls:<IP>[:port]#<auth-name>[^tsig-key]; none.
    /// Repeatable for servers, which are tried in order
    #[arg(long, required = true, value_name = "SRC", value_parser = forms::source)]
    pub source: Vec<SourceArg>,
    /// A loaded policy
    #[arg(long)]
    pub policy: String,
    #[command(flatten)]
    pub imports: Imports,
    /// Take back keys kept from an earlier removal
    #[arg(long)]
    pub restore_keys: bool,
    /// Start in maintenance mode
    #[arg(long)]
    pub maintenance: bool,
    /// Accept a source that cannot be read yet
    #[arg(long)]
    pub allow_missing: bool,
    /// Succeed if the zone exists with the same source and policy
    #[arg(long)]
    pub if_not_exists: bool,
    /// Check, change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: Wait,
}

#[derive(Debug, Clone, Copy, Args)]
#[group(required = true, multiple = false)]
pub struct StageArg {
    /// The version as it was loaded
    #[arg(long)]
    pub unsigned: bool,
    /// The version as it was signed
    #[arg(long)]
    pub signed: bool,
}

#[derive(Debug, Args)]
pub struct Review {
    #[command(flatten)]
    pub stage: StageArg,
    #[arg(value_parser = forms::zone)]
    pub zone: String,
    /// Of the version under review
    pub serial: u32,
}

#[derive(Debug, Subcommand)]
pub enum Maintenance {
    /// No loads, no key-roll steps; signatures are still refreshed
    Enable {
        #[arg(value_parser = forms::zone)]
        zone: String,
        /// Do not even refresh signatures
        #[arg(long)]
        no_resign: bool,
        /// End by itself
        #[arg(long = "for", value_name = "DUR", value_parser = forms::duration)]
        span: Option<Duration>,
    },
    /// Leave it; queued work starts
    Disable {
        #[arg(value_parser = forms::zone)]
        zone: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    Zonefile,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Activate the policy files, all or none
    Reload {
        /// Print the effect, change nothing
        #[arg(long)]
        dry_run: bool,
        /// Apply exactly this plan
        #[arg(long, value_name = "ID")]
        plan: Option<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// List policies
    List,
    /// Every setting with its effective value
    Show {
        policy: String,
        /// The file on disk
        #[arg(long, conflicts_with = "diff")]
        file: bool,
        /// Difference between what is active and the file on disk
        #[arg(long)]
        diff: bool,
    },
    /// Rolls that the files on disk would begin
    Plan {
        /// None: all
        policies: Vec<String>,
        #[arg(long, value_parser = forms::zone)]
        zone: Option<String>,
        /// Exit code 7 if there is any
        #[arg(long)]
        check: bool,
    },
    /// Check policies without activating them. Exit code 0, 7 (errors) or 8 (warnings)
    Check {
        /// Files (with / or .toml) or names of policies; none: all policies
        #[arg(value_name = "FILE|NAME")]
        what: Vec<String>,
        /// Do not ask the daemon; files only
        #[arg(long, requires = "what")]
        offline: bool,
    },
}

#[derive(Debug, Args)]
pub struct Keyset {
    #[arg(value_parser = forms::zone)]
    pub zone: String,
    #[command(subcommand)]
    pub command: KeysetCommand,
}

#[derive(Debug, Subcommand)]
pub enum KeysetCommand {
    /// Records for the parent, in zone-file form
    Get {
        #[arg(value_name = "ds|dnskey|cds|cdnskey", ignore_case = true)]
        kind: RecordArg,
        /// sha256 or sha384
        #[arg(long)]
        digest: Option<String>,
        /// Only of this key: tag, id or reference
        #[arg(long)]
        key: Option<String>,
    },
    /// List keys
    List {
        /// With those in the trash
        #[arg(long)]
        all: bool,
    },
    /// Import keys, which become active through a roll
    Import(Imports),
    /// Move a key to the trash
    RemoveKey {
        /// Tag, id or reference
        key: String,
        /// A key in use begins to leave, in the safe order
        #[arg(long)]
        force: bool,
        /// Destroy it at once instead of keeping it in the trash
        #[arg(long, conflicts_with = "force")]
        purge: bool,
        /// Destroy it, and give it up even if its HSM refuses; see then: cascade hsm inventory
        #[arg(long = "continue", conflicts_with = "force")]
        give_up: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Take a key out of the trash; the next roll of its role uses it
    RestoreKey {
        /// Tag, id or reference
        key: String,
    },
    /// Tell that keys are in a backup
    BackedUp {
        /// Tags, ids or references
        #[arg(required_unless_present = "all")]
        keys: Vec<String>,
        /// Every key
        #[arg(long, conflicts_with = "keys")]
        all: bool,
    },
    /// Look at all servers now
    Check,
    /// Replace a key that leaked
    Emergency {
        #[arg(value_name = "ksk|zsk|csk", ignore_case = true)]
        role: EmergencyRole,
        /// safe: no resolver sees bogus data; fast: waits for caches are skipped
        #[arg(long, default_value = "safe")]
        strategy: EmergencyArg,
        #[arg(long)]
        reason: Option<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// What will happen to the keys if nothing fails
    Timeline {
        /// Three years from now if not given
        #[arg(long, value_name = "TIME", value_parser = forms::time)]
        until: Option<When>,
        /// For calendars (RFC 5545)
        #[arg(long)]
        ics: bool,
    },
    /// Roll the key signing key
    #[command(subcommand)]
    Ksk(RollCommand),
    /// Roll the zone signing key
    #[command(subcommand)]
    Zsk(RollCommand),
    /// Roll the combined signing key
    #[command(subcommand)]
    Csk(RollCommand),
    /// Roll to the policy's algorithm
    #[command(subcommand)]
    Algorithm(RollCommand),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EmergencyRole {
    Ksk,
    Zsk,
    Csk,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EmergencyArg {
    Safe,
    Fast,
}

#[derive(Debug, Subcommand)]
pub enum RollCommand {
    /// Make the successor and start the roll
    StartRoll,
    /// The new records are visible everywhere, with this TTL
    #[command(name = "propagation1-complete")]
    Propagation1Complete(Ttl),
    /// Caches have let go of the old records
    #[command(name = "cache-expired1")]
    CacheExpired1(Force),
    /// The second change is visible everywhere, with this TTL
    #[command(name = "propagation2-complete")]
    Propagation2Complete(Ttl),
    /// Caches have let go of them, too
    #[command(name = "cache-expired2")]
    CacheExpired2(Force),
    /// All is done
    RollDone(Force),
}

#[derive(Debug, Args)]
pub struct Ttl {
    /// Seconds or a duration
    #[arg(value_parser = forms::duration)]
    pub ttl: Duration,
    #[command(flatten)]
    pub force: Force,
}

#[derive(Debug, Args)]
pub struct Force {
    /// Accept what is doubtful, but not what would break the zone
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Subcommand)]
pub enum HsmCommand {
    /// Register an HSM that speaks KMIP
    Add(Box<HsmAdd>),
    /// List HSMs
    List,
    /// Settings and state of an HSM
    Show { id: String },
    /// Change settings of an HSM; what is not given stays
    Edit(Box<HsmEdit>),
    /// Connect to every instance, and prove every key that zones have there
    Test {
        id: String,
        /// Also make, use and destroy a key of each algorithm
        #[arg(long)]
        write: bool,
    },
    /// Measure signatures a second with a key that is destroyed afterwards
    Bench {
        id: String,
        /// As a policy names it
        #[arg(long, value_name = "A")]
        algorithm: Option<String>,
        /// For all runs together
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
        seconds: u64,
        /// Signatures under way [default: several in turn]
        #[arg(long, value_name = "N")]
        parallel: Option<u32>,
    },
    /// Every object, and the zone and key it belongs to
    #[command(group = ArgGroup::new("only").args(["orphans", "missing", "destroy_orphan"]))]
    Inventory {
        id: String,
        /// Only objects of no known key
        #[arg(long)]
        orphans: bool,
        /// Only keys that should be there and are not
        #[arg(long)]
        missing: bool,
        /// Destroy this object of no known key
        #[arg(long, value_name = "OBJECT")]
        destroy_orphan: Option<String>,
        /// Do not ask
        #[arg(long, requires = "destroy_orphan")]
        yes: bool,
    },
    /// Forget an HSM
    Remove {
        id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Options of `hsm edit`: those of `hsm add`, none with a default.
#[derive(Debug, Args)]
pub struct HsmEdit {
    pub id: String,
    /// One more instance with the same keys
    #[arg(long, value_name = "HOST[:PORT]")]
    pub add_endpoint: Vec<String>,
    #[arg(long, value_name = "HOST[:PORT]")]
    pub remove_endpoint: Vec<String>,
    #[command(flatten)]
    pub managed: HsmManaged,
    #[arg(long, conflicts_with = "clear_credentials")]
    pub username: Option<String>,
    /// Visible to other users while the command runs; the other two forms are not
    #[arg(long, conflicts_with_all = ["password_stdin", "password_file", "clear_credentials"])]
    pub password: Option<String>,
    /// First line of stdin
    #[arg(long, conflicts_with_all = ["password_file", "clear_credentials"])]
    pub password_stdin: bool,
    /// First line of a file that others cannot read
    #[arg(long, value_name = "FILE", conflicts_with = "clear_credentials")]
    pub password_file: Option<PathBuf>,
    /// Forget username and password
    #[arg(long)]
    pub clear_credentials: bool,
    #[command(flatten)]
    pub tls: HsmTls,
    #[arg(long, value_name = "DUR", value_parser = forms::duration)]
    pub connect_timeout: Option<Duration>,
    #[arg(long, value_name = "DUR", value_parser = forms::duration)]
    pub read_timeout: Option<Duration>,
    #[arg(long, value_name = "DUR", value_parser = forms::duration)]
    pub write_timeout: Option<Duration>,
    #[arg(long, value_name = "N")]
    pub max_response_bytes: Option<u64>,
    #[arg(long, value_name = "N")]
    pub connections: Option<u32>,
    #[arg(long, value_name = "N")]
    pub in_flight: Option<u32>,
    #[arg(long, value_name = "S", requires = "key_label_max_bytes")]
    pub key_label_prefix: Option<String>,
    #[arg(long, value_name = "N")]
    pub key_label_max_bytes: Option<u16>,
    /// Do not contact it before
    #[arg(long)]
    pub no_connect: bool,
}

/// A bridge that the daemon starts itself.
#[derive(Debug, Args)]
pub struct HsmManaged {
    /// PKCS#11 module; the daemon starts kmip2pkcs11 with it, and again whenever it ends
    #[arg(long, value_name = "PATH", conflicts_with_all = ["insecure", "hsm_ca", "server_cert", "fingerprint", "hsm_client_cert"])]
    pub pkcs11_module: Option<PathBuf>,
    /// Label of the token, or id or index of its slot
    #[arg(long, value_name = "LABEL", conflicts_with = "username")]
    pub token: Option<String>,
    /// The token's PIN: first line of a file that others cannot read
    #[arg(long, value_name = "FILE", conflicts_with_all = ["password_stdin", "password_file"])]
    pub pin_file: Option<PathBuf>,
    /// For the module's environment
    #[arg(long, value_name = "NAME=VALUE", requires = "pkcs11_module", value_parser = forms::assignment)]
    pub module_env: Vec<(String, String)>,
}

/// Who the KMIP server must be, and who we are towards it.
#[derive(Debug, Args)]
pub struct HsmTls {
    /// Do not verify the server's certificate; whoever answers first is remembered
    #[arg(long, conflicts_with_all = ["hsm_ca", "server_cert", "fingerprint"])]
    pub insecure: bool,
    /// Authority that vouches for the server (PEM)
    #[arg(long = "hsm-ca-cert", value_name = "FILE", id = "hsm_ca")]
    pub hsm_ca: Option<PathBuf>,
    /// The server's certificate itself (PEM)
    #[arg(long, value_name = "FILE")]
    pub server_cert: Option<PathBuf>,
    /// The server's certificate by its digest
    #[arg(long, value_name = "sha256:HEX", value_parser = fingerprint)]
    pub fingerprint: Option<String>,
    /// Own certificate towards the server (PEM)
    #[arg(
        long = "hsm-client-cert",
        value_name = "FILE",
        requires = "hsm_client_key",
        id = "hsm_client_cert"
    )]
    pub hsm_client_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(
        long = "hsm-client-key",
        value_name = "FILE",
        requires = "hsm_client_cert",
        id = "hsm_client_key"
    )]
    pub hsm_client_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct HsmAdd {
    /// Becomes part of key references
    #[arg(value_parser = hsm_id)]
    pub id: String,
    /// Address or name of the KMIP server
    #[arg(
        required_unless_present = "pkcs11_module",
        conflicts_with = "pkcs11_module"
    )]
    pub host: Option<String>,
    #[command(flatten)]
    pub managed: HsmManaged,
    /// Further instances with the same keys
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with = "pkcs11_module")]
    pub endpoint: Vec<String>,
    #[arg(long, default_value_t = 5696, value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "pkcs11_module")]
    pub port: u16,
    /// For kmip2pkcs11: token label, slot id or slot index
    #[arg(long)]
    pub username: Option<String>,
    /// Visible to other users while the command runs; the other two forms are not
    #[arg(long, env = "CASCADE_HSM_PASSWORD", hide_env_values = true, conflicts_with_all = ["password_stdin", "password_file"])]
    pub password: Option<String>,
    /// First line of stdin
    #[arg(long, conflicts_with = "password_file")]
    pub password_stdin: bool,
    /// First line of a file that others cannot read
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    #[command(flatten)]
    pub tls: HsmTls,
    #[arg(long, value_name = "DUR", default_value = "3s", value_parser = forms::duration)]
    pub connect_timeout: Duration,
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = forms::duration)]
    pub read_timeout: Duration,
    #[arg(long, value_name = "DUR", default_value = "3s", value_parser = forms::duration)]
    pub write_timeout: Duration,
    #[arg(long, value_name = "N", default_value_t = 8192)]
    pub max_response_bytes: u64,
    /// At most this many per instance
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub connections: u32,
    /// Requests in flight [default: tuned by measured latency]
    #[arg(long, value_name = "N")]
    pub in_flight: Option<u32>,
    #[arg(long, value_name = "S", default_value = "")]
    pub key_label_prefix: String,
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub key_label_max_bytes: u16,
    /// Register without contacting it
    #[arg(long)]
    pub no_connect: bool,
}

#[derive(Debug, Subcommand)]
pub enum TsigCommand {
    /// Add a key: <NAME> <ALG> <SECRET>, or [<ALG>:]<NAME>:<SECRET>
    Add {
        /// Name, or all in one
        name: String,
        /// hmac-sha256, -sha224, -sha384, -sha512 or -sha1
        algorithm: Option<String>,
        /// Base64, or the path of a file that holds it
        secret: Option<String>,
        /// First line of stdin
        #[arg(long, conflicts_with = "secret")]
        secret_stdin: bool,
    },
    /// Make a random key; shown this once
    Generate {
        name: String,
        #[arg(long, default_value = "hmac-sha256")]
        algorithm: String,
    },
    /// List keys, without secrets
    List,
    /// Remove a key
    Remove { name: String },
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; shown this once
    Add {
        name: String,
        #[arg(long, required = true)]
        role: Vec<RoleArg>,
        /// A duration, or never
        #[arg(long, value_name = "DUR|never", default_value = "90d")]
        expires: String,
        /// Only for zones that this pattern fits
        #[arg(long, value_name = "GLOB")]
        zones: Option<String>,
    },
    /// List tokens
    List,
    /// Remove a token
    Remove { name: String },
}

#[derive(Debug, Subcommand)]
pub enum RequestCommand {
    /// List them, with what they will do
    List,
    /// Agree: the call is carried out now
    Approve { id: String },
    /// Drop one; its own maker may, too
    Reject { id: String },
}

#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Copy everything durable into a folder below the state directory, while the daemon runs.
    /// Private keys are in it; keys in HSMs are not
    Create {
        /// Name of the folder [default: the time]
        #[arg(long, value_parser = backup_name)]
        name: Option<String>,
    },
    /// Check every file of a backup; needs no daemon. Exit code 0 or 7
    Verify {
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Put a backup where there is no state; needs no daemon
    Restore {
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// Where the daemon will look for it
        #[arg(long, value_name = "DIR", default_value_os_t = crate::backup::default_state_dir())]
        state_dir: PathBuf,
        /// Whose the files become [default: cascade, if run as root and there is such a user]
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum TemplateCommand {
    /// A policy with every setting and its reason
    Policy,
    /// The daemon's configuration
    Config,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum ClockCommand {
    /// After a step of the clock, when it is right now: signing goes on, and waits of rolls become
    /// longer by what it was put forward
    Confirm,
}

#[derive(Debug, Subcommand)]
pub enum DebugCommand {
    /// Change log level and trace targets until restart
    #[command(group = ArgGroup::new("what").args(["level", "trace_targets", "clear_trace_targets"]).required(true).multiple(true))]
    ChangeLogging {
        #[arg(short, long)]
        level: Option<LevelArg>,
        /// Parts of the program to trace, separated by commas
        #[arg(
            long,
            value_name = "TARGETS",
            value_delimiter = ',',
            conflicts_with = "clear_trace_targets"
        )]
        trace_targets: Vec<String>,
        #[arg(long)]
        clear_trace_targets: bool,
        /// Back to the former settings after this time
        #[arg(long = "for", value_name = "DUR", value_parser = forms::duration)]
        span: Option<Duration>,
    },
}

/// Makes an enumeration of the API choosable on the command line, with the API's words.
macro_rules! choice {
    ($name:ident, $inner:ty, [$($variant:ident),*]) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub $inner);

        impl ValueEnum for $name {
            fn value_variants<'a>() -> &'a [Self] {
                &[$($name(<$inner>::$variant)),*]
            }
            fn to_possible_value(&self) -> Option<PossibleValue> {
                Some(PossibleValue::new(cascade_api::word(&self.0)))
            }
        }
    };
}

choice!(
    LevelArg,
    LogLevel,
    [Trace, Debug, Info, Warning, Error, Critical]
);
choice!(RecordArg, RecordKind, [Ds, Dnskey, Cds, Cdnskey]);
choice!(
    KindArg,
    HistoryKind,
    [Load, Sign, Review, Publish, Key, Policy, Operator]
);
choice!(
    RoleArg,
    cascade_api::Role,
    [Viewer, Operator, Approver, Admin]
);
choice!(
    StateArg,
    ZoneState,
    [
        WaitingSource,
        WaitingKeys,
        Loading,
        UnsignedReview,
        Signing,
        Verifying,
        SignedReview,
        Publishing,
        Published,
        Halted,
        Expired,
        Restoring,
        Removed
    ]
);

fn server(text: &str) -> Result<Server, String> {
    Server::parse(text).map_err(|e| format!("{e}; write {}", Server::FORMS))
}

fn timeout(text: &str) -> Result<Duration, String> {
    let span = forms::duration(text)?;
    if span.is_zero() {
        Err("a request needs some time, for example 30s".to_string())
    } else {
        Ok(span)
    }
}

fn comment(text: &str) -> Result<String, String> {
    if text.len() > cascade_api::MAX_COMMENT {
        return Err(format!(
            "{} bytes; at most {} are kept",
            text.len(),
            cascade_api::MAX_COMMENT
        ));
    }
    Ok(text.to_string())
}

fn backup_name(text: &str) -> Result<String, String> {
    if cascade_api::backup::is_name(text) {
        return Ok(text.to_string());
    }
    Err("a name has 1 to 64 letters, digits, '.', '_' and '-', and begins with a letter or digit, for example before-upgrade".to_string())
}

fn hsm_id(text: &str) -> Result<String, String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let first = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if first && text.len() <= 63 && text.bytes().all(legal) {
        return Ok(text.to_string());
    }
    Err("an id has 1 to 63 letters, digits, '.', '_' and '-', and starts with a letter or digit, for example kmip2pkcs11".to_string())
}

/// As our programs and others print it: with or without `sha256:`, with or without colons.
fn fingerprint(text: &str) -> Result<String, String> {
    let hex = text
        .strip_prefix("sha256:")
        .unwrap_or(text)
        .replace(':', "");
    if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(format!("sha256:{}", hex.to_ascii_lowercase()));
    }
    Err("write sha256: and 64 hexadecimal digits".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_stand_before_and_after() {
        for args in [
            "cascade --json -q zone list",
            "cascade zone list --json -q",
            "cascade zone --json list -q",
        ] {
            let cli = Cli::try_parse_from(args.split(' ')).unwrap();
            assert!(cli.global.json && cli.global.quiet, "{args}");
        }
    }

    #[test]
    fn wrong_usage() {
        for args in [
            "zone approve example.net 1",
            "zone approve --signed --unsigned example.net 1",
            "zone approve --signed example.net 4294967296",
            "zone add example.net --source /x",
            "zone add example.net --source zone.file --policy p",
            "zone reload",
            "zone edit example.net",
            "debug change-logging",
            "keyset example.net get txt",
            "hsm add -x 127.0.0.1",
            "hsm add id host --insecure --fingerprint sha256:00",
            "zone status bü.example",
            "--server ftp://x:1 info",
            "--timeout 0 info",
        ] {
            let full = std::iter::once("cascade").chain(args.split(' '));
            assert!(Cli::try_parse_from(full).is_err(), "{args}");
        }
        for args in [
            "zone add --source /etc/cascade/zones/example.net --policy nethsm example.net",
            "zone add e. --source 192.0.2.1 --source 192.0.2.2 --policy p --wait=5m",
            "hsm add --insecure --username 0 --password 123456 kmip2pkcs11 127.0.0.1",
            "keyset example.net get DS",
            "keyset example.net ksk propagation1-complete 1h",
            "zone reload --all --wait",
            "policy check --offline x.toml",
        ] {
            let full = std::iter::once("cascade").chain(args.split(' '));
            Cli::try_parse_from(full).unwrap_or_else(|e| panic!("{args}: {e}"));
        }
    }
}
