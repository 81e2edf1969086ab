//! What all zones share: configuration, state, policies, pools, the directory of the servers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use cascade_archive::{ArchiveError, AuditEntry, Change, State, ZoneFiles};
use cascade_policy::RequireSync;
use cascade_policy::{ConfigFile, PolicyFile};
use cascade_publisher::Directory;
use cascade_publisher::notify::NotifyCommand;
use cascade_publisher::watch::WatchCommand;
use cascade_time::{Clock, Timestamp};
use cascade_zone::{KeyId, Name, ZoneId};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};

use crate::keys::Keyring;
use crate::steps::Doubt;
use crate::stores::KeyStores;
use crate::zone::ZoneHandle;

/// Leaves and blocks of a zone whose work is short: about 3,000 names.
pub const QUICK_UNITS: usize = 32;
/// Leaves and blocks that change in work which one thread does from beginning to end.
pub const INLINE_UNITS: usize = 32;
/// Octets of a zone file of about that size.
pub const QUICK_OCTETS: u64 = 256 << 10;

/// A stored policy: its text is parsed again at every start, by the rules of the program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PolicyRow {
    pub text: String,
    pub file: String,
    pub revision: u64,
    /// See [`ActivePolicy::gone`].
    #[serde(default)]
    pub gone: bool,
}

/// An active policy.
#[derive(Debug, Clone)]
pub struct ActivePolicy {
    pub file: Arc<PolicyFile>,
    pub revision: u64,
    /// Its file is no longer there: it stays for the zones that have it, and no other takes it.
    pub gone: bool,
}

/// Addresses that are bound, as people write them.
#[derive(Debug, Clone, Default)]
pub struct Bound {
    pub loader_review: Vec<std::net::SocketAddr>,
    pub signer_review: Vec<std::net::SocketAddr>,
    pub publication: Vec<std::net::SocketAddr>,
    pub notify: Vec<std::net::SocketAddr>,
}

/// Counters of the metrics page that no other part keeps.
#[derive(Debug, Default)]
pub struct Counters {
    pub signatures: AtomicU64,
    pub verified_signatures: AtomicU64,
    pub verify_refused: AtomicU64,
    pub loads: AtomicU64,
    pub load_failures: AtomicU64,
    pub publications: AtomicU64,
    pub hook_runs: AtomicU64,
    pub panics: AtomicU64,
    pub audit_entries: AtomicU64,
    pub store_errors: AtomicU64,
    pub http: Mutex<HashMap<(&'static str, u16), u64>>,
}

/// What the last reading of the configuration left open.
#[derive(Debug, Default)]
pub struct ReloadOutcome {
    pub at: Option<Timestamp>,
    /// Keys whose new values wait for a restart.
    pub waiting: Vec<String>,
    /// Why the file was not taken over.
    pub error: Option<String>,
}

/// Statistics of the servers by role.
pub type ServerStats = Mutex<Vec<(cascade_publisher::Role, Arc<cascade_publisher::Stats>)>>;

pub struct Daemon {
    pub clock: Arc<dyn Clock>,
    /// Whether that can be trusted.
    pub clock_watch: crate::steps::ClockWatch,
    /// Whether a time service steers it.
    pub clock_sync: crate::sync::SyncWatch,
    /// The configuration of the start: for everything that only a restart changes.
    pub config: Arc<ConfigFile>,
    /// The configuration as last read; see [`Daemon::conf`].
    pub live: ArcSwap<ConfigFile>,
    /// The control socket is bound by this process, not passed to it.
    pub own_socket: bool,
    /// What became of the last SIGHUP.
    pub reload: Mutex<ReloadOutcome>,
    pub started_at: Timestamp,
    /// When ours end.
    pub certificates: crate::certificates::Certificates,
    pub state: State,
    pub files: ZoneFiles,
    pub audit: crate::audit::Audit,
    pub stores: Arc<KeyStores>,
    pub hsms: crate::hsm::Hsms,
    pub keyring: Keyring,
    pub policies: ArcSwap<BTreeMap<String, ActivePolicy>>,
    /// One change at a time of what zones refer to: policies, TSIG keys, HSMs. Zones are added, any
    /// number at a time, while nobody changes these.
    pub reloading: tokio::sync::RwLock<()>,
    /// Names of zones that are being added.
    pub adding: Mutex<BTreeSet<String>>,
    /// One backup at a time.
    pub backups: tokio::sync::Mutex<()>,
    /// Of whoever makes a metrics page.
    pub metrics_turn: tokio::sync::Mutex<()>,
    /// By name in lower case, without final dot.
    pub zones: RwLock<BTreeMap<String, Arc<ZoneHandle>>>,
    pub directory: Arc<Directory>,
    /// Of zones at rest, and how many are not.
    pub alarm: crate::zone::Alarm,
    pub awake: crate::zone::Awake,
    /// For work on large zones.
    pub pool: Arc<rayon::ThreadPool>,
    /// For work that is short, so that it never waits for a large zone; the kernel divides the CPUs
    /// between the two.
    pub quick_pool: rayon::ThreadPool,
    /// For what one thread does faster than many would.
    pub quick: crate::quick::Quick,
    /// The same for small files that are read: these threads may wait for a disk.
    pub quick_files: crate::quick::Quick,
    /// Where the tasks of zones run: they do short work themselves, and no answer waits for that.
    pub zone_tasks: tokio::runtime::Handle,
    pub loads: Semaphore,
    /// Signings of small zones, and signings by difference.
    pub quick_signings: Semaphore,
    /// Bounds transfers from primaries.
    pub transfers: crate::transfer::Gate,
    pub signings: Semaphore,
    /// Of zones with keys in an HSM, which mostly wait.
    pub token_signings: Semaphore,
    pub hooks: Semaphore,
    /// One background check at a time, on a thread of its own: nobody waits for it.
    pub sweeps: Arc<Semaphore>,
    pub sweep_pool: rayon::ThreadPool,
    /// Zones that the start has brought back.
    pub restored: std::sync::atomic::AtomicUsize,
    /// Bounds the reading back of zones.
    pub restores: Arc<Semaphore>,
    pub looks: Arc<crate::looks::Looks>,
    pub notify: mpsc::Sender<NotifyCommand>,
    pub watch: mpsc::Sender<WatchCommand>,
    /// What is known of the secondaries of all zones.
    pub secondaries: Arc<cascade_publisher::watch::Table>,
    /// What is known of them beside that.
    pub known: crate::secondaries::Secondaries,
    pub bound: ArcSwap<Bound>,
    pub stats: ServerStats,
    /// The DNS servers, once they run.
    pub dns: Mutex<crate::servers::Running>,
    pub tsig: crate::tsig::Tsig,
    pub tokens: crate::control::Tokens,
    /// One change at a time of the calls that wait for a second person.
    pub second: Mutex<()>,
    pub operations: crate::control::Operations,
    pub counters: Arc<Counters>,
    pub logging: crate::logging::Handle,
    pub ready: std::sync::atomic::AtomicBool,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Daemon")
    }
}

impl Daemon {
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Nothing may be signed by the clock as it is.
    pub fn clock_doubt(&self) -> Option<Doubt> {
        let live = self.live.load();
        let rules = &live.config.clock;
        if let Some(hold) = self.clock_watch.look(&*self.clock, rules.max_step) {
            return Some(Doubt::Stepped(*hold));
        }
        let required = rules.require_sync == RequireSync::Hold;
        let lost = required.then(|| self.clock_sync.lost()).flatten();
        lost.map(Doubt::Unsynchronised)
    }

    /// The configuration in force for everything that SIGHUP changes.
    pub fn conf(&self) -> Arc<ConfigFile> {
        self.live.load_full()
    }

    pub fn zone(&self, name: &str) -> Option<Arc<ZoneHandle>> {
        if let Some(id) = name.strip_prefix("id:") {
            let id = ZoneId::parse(id)?;
            return self.zones.read().values().find(|z| z.id == id).cloned();
        }
        let name = if name == "@" { "." } else { name };
        let key = Name::parse(name).ok()?.to_lowercase().without_dot();
        self.zones.read().get(&key).cloned()
    }

    /// The zone of this name, unless it is another one by now.
    pub fn zone_of(&self, name: &str, id: ZoneId) -> Option<Arc<ZoneHandle>> {
        let zones = self.zones.read();
        zones.get(name).filter(|z| z.id == id).cloned()
    }

    pub fn zone_list(&self) -> Vec<Arc<ZoneHandle>> {
        self.zones.read().values().cloned().collect()
    }

    pub fn policy(&self, name: &str) -> Option<ActivePolicy> {
        self.policies.load().get(name).cloned()
    }

    /// What the key manager does under a policy that is active.
    pub fn key_policy(&self, policy: &str) -> Option<cascade_keys::KeyPolicy> {
        let policy = self.policy(policy)?;
        let config = &self.conf().config;
        Some(crate::keys::key_policy(&policy.file.policy, config))
    }

    /// Makes changes of the state durable; all together or none.
    ///
    /// # Errors
    /// Says what is wrong with the disk.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<(), ArchiveError> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        self.state
            .submit(changes, move |result| _ = tx.send(result));
        rx.await.unwrap_or_else(|_| {
            Err(ArchiveError::State {
                op: "write",
                path: self.conf().config.state_dir.clone().into(),
                detail: "the writer has ended".into(),
            })
        })
    }

    /// The threads for work on so many leaves and blocks.
    pub fn pool_for(&self, units: usize) -> &rayon::ThreadPool {
        match units <= QUICK_UNITS {
            true => &self.quick_pool,
            false => &self.pool,
        }
    }

    /// 16 random octets.
    pub fn random_id(&self) -> [u8; 16] {
        random()
    }

    pub fn new_key_id(&self) -> KeyId {
        KeyId(self.random_id())
    }

    /// Writes an audit entry; it is durable when this returns. A log that cannot be written is
    /// counted and reported, and never stops an operation that keeps zones served.
    pub async fn audit(&self, entry: AuditEntry) {
        // An end without an answer is that of the writer, which has told why.
        let _ = self.audit.submit(self.now(), entry).await;
    }

    /// The same without waiting for it.
    pub fn audit_soon(&self, entry: AuditEntry) {
        drop(self.audit.submit(self.now(), entry));
    }
}

/// Octets of the system's random source.
pub fn random<const N: usize>() -> [u8; N] {
    let mut out = [0u8; N];
    cascade_crypto::random(&mut out);
    out
}
