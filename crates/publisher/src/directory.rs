//! The zones that are served, and the version in each of their slots.
//!
//! A reader takes the slot once per query or transfer and keeps that version to the end; a writer
//! stores a new one. Neither waits for the other.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};
use cascade_time::Timestamp;
use cascade_wire::Acl;
use cascade_zone::version::ZoneVersion;
use cascade_zone::{Name, VersionId, ZoneId};
use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};
use thiserror::Error;

use crate::approved::{Approved, Verified};
use crate::steps::{StepLimits, Steps};

/// What a server shows, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    LoaderReview,
    SignerReview,
    Publication,
    /// Takes NOTIFY and nothing else.
    NotifyListener,
}

impl Role {
    fn slot(self) -> Option<usize> {
        match self {
            Role::LoaderReview => Some(0),
            Role::SignerReview => Some(1),
            Role::Publication => Some(2),
            Role::NotifyListener => None,
        }
    }
}

/// Why a zone that we know has nothing to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmptyReason {
    NeverLoaded,
    /// Stored data is being read back after a start.
    Restoring,
    /// The source was not reachable within the SOA EXPIRE time (RFC 1034 §4.3.5).
    Expired,
    NothingToReview,
    /// The zone is being removed, or an operator withdrew it.
    Withdrawn,
}

impl EmptyReason {
    /// Text for people: extra text of the extended error, `zone status`.
    pub fn text(self) -> &'static str {
        match self {
            EmptyReason::NeverLoaded => "zone has not been loaded yet",
            EmptyReason::Restoring => "zone is being restored after a restart",
            EmptyReason::Expired => "zone expired: its source was unreachable too long",
            EmptyReason::NothingToReview => "no version of the zone is up for review",
            EmptyReason::Withdrawn => "zone is withdrawn",
        }
    }
}

/// What a slot holds.
#[derive(Debug)]
pub enum Slot {
    Empty(EmptyReason),
    Live(Arc<ZoneVersion>),
    /// What a signed version was made from, while nobody has asked for it.
    Unmade(Box<Unmade>),
}

impl Slot {
    /// What the slot shows, made now if it has to be.
    ///
    /// # Errors
    /// Why it shows nothing.
    pub fn shown(&self) -> Result<&Arc<ZoneVersion>, EmptyReason> {
        match self {
            Slot::Live(v) => Ok(v),
            Slot::Empty(reason) => Err(*reason),
            Slot::Unmade(u) => u.version().ok_or(EmptyReason::NothingToReview),
        }
    }

    /// What is in memory of it.
    fn at_hand(&self) -> Option<&Arc<ZoneVersion>> {
        match self {
            Slot::Live(v) => Some(v),
            Slot::Empty(_) => None,
            Slot::Unmade(u) => u.made.get()?.as_ref(),
        }
    }

    /// The id of the version that the slot shows.
    pub fn id(&self) -> Option<VersionId> {
        match self {
            Slot::Unmade(u) => Some(u.signed.unsigned_id()),
            _ => self.at_hand().map(|v| v.id()),
        }
    }
}

/// The unsigned version of a signed one that is in memory anyway.
#[derive(Debug)]
pub struct Unmade {
    signed: Arc<ZoneVersion>,
    /// TTL and RDATA of the SOA as it was loaded.
    soa: (u32, Box<[u8]>),
    made: OnceLock<Option<Arc<ZoneVersion>>>,
}

impl Unmade {
    fn version(&self) -> Option<&Arc<ZoneVersion>> {
        let make = || {
            let (ttl, rdata) = &self.soa;
            let made = self.signed.to_unsigned((*ttl, rdata.to_vec()));
            made.ok().map(Arc::new)
        };
        self.made.get_or_init(make).as_ref()
    }
}

/// What policy and configuration say about serving one zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneSettings {
    /// Who may transfer the published zone; loopback unless the policy says more.
    pub provide_xfr_to: Acl,
    /// Senders of NOTIFY: the primaries, and `any^key` for the source's key.
    pub notify_from: Acl,
    /// Transfers only over TLS (`server.outbound.tls = "required"`).
    pub require_tls: bool,
    /// No transfers over TLS (`"off"`): what nobody asked for is not offered.
    pub refuse_tls: bool,
    /// When the published data expire unless the source is reached (RFC 7314); `None` for zones
    /// that do not expire, which answer with the EXPIRE of their SOA.
    pub expires: Option<Timestamp>,
    /// How much of the past is kept for incremental transfers.
    pub steps: StepLimits,
    /// The zone's content is its own: it takes DNS UPDATE.
    pub updates: bool,
}

impl Default for ZoneSettings {
    fn default() -> Self {
        ZoneSettings {
            provide_xfr_to: Acl::loopback(),
            notify_from: Acl::none(),
            require_tls: false,
            refuse_tls: false,
            expires: None,
            steps: StepLimits::default(),
            updates: false,
        }
    }
}

/// Whether the published zone is given to secondaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Hold {
    None = 0,
    /// It is about to be known whether the zone is live under another signer: transfers wait in line.
    Briefly = 1,
    /// It is, so that what is published here would be bogus out there: transfers are refused.
    Refused = 2,
}

/// A zone that is served.
#[derive(Debug)]
pub struct ZoneEntry {
    id: ZoneId,
    apex: Name,
    slots: [ArcSwap<Slot>; 3],
    settings: ArcSwap<ZoneSettings>,
    /// What led to the published version.
    steps: ArcSwap<Steps>,
    hold: AtomicU8,
}

impl ZoneEntry {
    fn new(id: ZoneId, apex: Name, settings: Arc<ZoneSettings>) -> Self {
        let empty = |r| ArcSwap::from_pointee(Slot::Empty(r));
        ZoneEntry {
            id,
            apex,
            slots: [
                empty(EmptyReason::NothingToReview),
                empty(EmptyReason::NothingToReview),
                empty(EmptyReason::NeverLoaded),
            ],
            settings: ArcSwap::new(settings),
            steps: ArcSwap::default(),
            hold: AtomicU8::new(Hold::None as u8),
        }
    }

    pub fn id(&self) -> ZoneId {
        self.id
    }

    pub fn apex(&self) -> &Name {
        &self.apex
    }

    pub fn settings(&self) -> Guard<Arc<ZoneSettings>> {
        self.settings.load()
    }

    pub fn set_settings(&self, settings: ZoneSettings) {
        self.settings.store(Arc::new(settings));
    }

    /// Whether transfers of the published zone are held.
    pub fn hold(&self) -> Hold {
        match self.hold.load(Ordering::Acquire) {
            0 => Hold::None,
            1 => Hold::Briefly,
            _ => Hold::Refused,
        }
    }

    /// Holds transfers of the published zone, running ones from their next message on. To be called
    /// before the version that it is about is published.
    pub fn set_hold(&self, hold: Hold) {
        self.hold.store(hold as u8, Ordering::Release);
    }

    /// What a role shows now; the NOTIFY listener shows nothing.
    pub fn slot(&self, role: Role) -> Option<Guard<Arc<Slot>>> {
        role.slot().map(|i| self.slots[i].load())
    }

    /// The version that is published.
    pub fn published(&self) -> Option<Arc<ZoneVersion>> {
        self.slots[2].load().at_hand().cloned()
    }

    /// The steps that lead to the published version, for incremental transfers.
    pub fn steps(&self) -> Arc<Steps> {
        self.steps.load_full()
    }

    /// Takes over the steps of a version that is about to be published; to be called before it is,
    /// so that no client finds the version without them. Steps behind the served version are not
    /// used.
    pub fn set_steps(&self, steps: Steps) {
        self.steps.store(Arc::new(steps));
    }

    fn swap(&self, slot: usize, content: Slot) -> Option<Arc<ZoneVersion>> {
        self.slots[slot].swap(Arc::new(content)).at_hand().cloned()
    }

    /// Lets go of the unsigned half of a signed version, if that is what the loader review servers
    /// show: it is made again when somebody asks there. For small zones: whoever asks waits for it.
    ///
    /// `soa`: TTL and RDATA of the SOA as it was loaded.
    pub fn unmake_unsigned(&self, signed: &Arc<ZoneVersion>, soa: (u32, Vec<u8>)) {
        let of = signed.unsigned_id();
        if self.slots[0].load().id() == Some(of) {
            let unmade = Unmade {
                signed: signed.clone(),
                soa: (soa.0, soa.1.into_boxed_slice()),
                made: OnceLock::new(),
            };
            drop(self.swap(0, Slot::Unmade(Box::new(unmade))));
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PublishError {
    #[error("zone {0} is not served; add it first")]
    UnknownZone(ZoneId),
    #[error("this version belongs to zone {found} ({apex}), not to zone {zone}")]
    WrongZone {
        zone: ZoneId,
        found: ZoneId,
        apex: Name,
    },
    #[error("zone {0} is served already")]
    AlreadyServed(Name),
}

type Shard = HashMap<Box<[u8]>, Arc<ZoneEntry>, RandomState>;

/// A zone that comes or goes copies one of them: with 100,000 zones some 25 places.
const SHARDS: usize = 4096;

/// All zones of the daemon.
pub struct Directory {
    hasher: RandomState,
    /// By lower-case apex in wire form.
    shards: Vec<ArcSwap<Shard>>,
    /// For the owners of zones; not used on the way of a query.
    by_id: RwLock<HashMap<ZoneId, Arc<ZoneEntry>>>,
    /// Settings that zones came with lately: most are those of a policy, and very many zones have one.
    lately: Mutex<VecDeque<Arc<ZoneSettings>>>,
}

/// Settings that are compared with those of a zone that comes.
const LATELY: usize = 8;

impl Default for Directory {
    fn default() -> Self {
        Directory::new()
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Directory of {} zones", self.len())
    }
}

impl Directory {
    /// For very many zones.
    pub fn new() -> Self {
        Directory::with_shards(SHARDS)
    }

    /// For a handful of zones, and a moment: it costs next to nothing to make and to drop.
    pub fn small() -> Self {
        Directory::with_shards(1)
    }

    fn with_shards(n: usize) -> Self {
        Directory {
            hasher: RandomState::default(),
            shards: (0..n)
                .map(|_| ArcSwap::from_pointee(Shard::default()))
                .collect(),
            by_id: RwLock::default(),
            lately: Mutex::default(),
        }
    }

    /// The same settings, in one place for all zones that have them.
    fn shared(&self, settings: ZoneSettings) -> Arc<ZoneSettings> {
        let mut lately = self.lately.lock();
        if let Some(same) = lately.iter().find(|s| ***s == settings) {
            return same.clone();
        }
        let settings = Arc::new(settings);
        lately.truncate(LATELY - 1);
        lately.push_front(settings.clone());
        settings
    }

    pub fn len(&self) -> usize {
        self.by_id.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes a zone known; all its slots are empty.
    pub fn add(
        &self,
        id: ZoneId,
        apex: &Name,
        settings: ZoneSettings,
    ) -> Result<Arc<ZoneEntry>, PublishError> {
        let mut ids = self.by_id.write();
        let key: Box<[u8]> = apex.as_wire().to_ascii_lowercase().into();
        let shard = &self.shards[self.shard_of(&key)];
        let now = shard.load_full();
        if now.contains_key(&key) || ids.contains_key(&id) {
            return Err(PublishError::AlreadyServed(apex.clone()));
        }
        let entry = Arc::new(ZoneEntry::new(id, apex.clone(), self.shared(settings)));
        let mut next = Shard::clone(&now);
        next.insert(key, entry.clone());
        // Only holders of the lock above store, so nothing is lost between load and store.
        shard.store(Arc::new(next));
        ids.insert(id, entry.clone());
        Ok(entry)
    }

    /// Forgets a zone: from the next query on it is unknown here.
    pub fn remove(&self, id: ZoneId) -> Option<Arc<ZoneEntry>> {
        let mut ids = self.by_id.write();
        let entry = ids.remove(&id)?;
        let key = entry.apex.as_wire().to_ascii_lowercase();
        let shard = &self.shards[self.shard_of(&key)];
        let mut next = Shard::clone(&shard.load_full());
        next.remove(&key[..]);
        shard.store(Arc::new(next));
        Some(entry)
    }

    pub fn by_id(&self, id: ZoneId) -> Option<Arc<ZoneEntry>> {
        self.by_id.read().get(&id).cloned()
    }

    pub fn entries(&self) -> Vec<Arc<ZoneEntry>> {
        self.by_id.read().values().cloned().collect()
    }

    /// The zone whose apex is `apex`, an uncompressed name.
    pub fn exact(&self, apex: &[u8]) -> Option<Arc<ZoneEntry>> {
        self.find_from(apex, 0)
            .filter(|e| e.apex.as_wire().len() == apex.len())
    }

    /// The zone with the longest apex at or above `qname`, an uncompressed name.
    pub fn find(&self, qname: &[u8]) -> Option<Arc<ZoneEntry>> {
        self.find_from(qname, 0)
    }

    /// The same strictly above `qname`.
    pub fn find_above(&self, qname: &[u8]) -> Option<Arc<ZoneEntry>> {
        let first = 1 + *qname.first()? as usize;
        if first == 1 {
            None
        } else {
            self.find_from(qname, first)
        }
    }

    /// Makes an approved version the one that is served. From the next query on all addresses show
    /// it. Gives the version that it replaces, which the caller hands to the reaper.
    pub fn publish(
        &self,
        zone: ZoneId,
        approved: Approved<Verified<Arc<ZoneVersion>>>,
    ) -> Result<Option<Arc<ZoneVersion>>, PublishError> {
        self.store(zone, 2, approved.version().clone())
    }

    /// Shows an unsigned candidate on the loader review servers.
    pub fn review_unsigned(
        &self,
        zone: ZoneId,
        version: Arc<ZoneVersion>,
    ) -> Result<Option<Arc<ZoneVersion>>, PublishError> {
        self.store(zone, 0, version)
    }

    /// Shows a signed candidate on the signer review servers.
    pub fn review_signed(
        &self,
        zone: ZoneId,
        version: Arc<ZoneVersion>,
    ) -> Result<Option<Arc<ZoneVersion>>, PublishError> {
        self.store(zone, 1, version)
    }

    /// Empties the slot of a role; queries are answered SERVFAIL with the reason.
    pub fn withdraw(
        &self,
        zone: ZoneId,
        role: Role,
        reason: EmptyReason,
    ) -> Result<Option<Arc<ZoneVersion>>, PublishError> {
        let entry = self.by_id(zone).ok_or(PublishError::UnknownZone(zone))?;
        Ok(role
            .slot()
            .and_then(|slot| entry.swap(slot, Slot::Empty(reason))))
    }

    pub(crate) fn store(
        &self,
        zone: ZoneId,
        slot: usize,
        version: Arc<ZoneVersion>,
    ) -> Result<Option<Arc<ZoneVersion>>, PublishError> {
        let entry = self.by_id(zone).ok_or(PublishError::UnknownZone(zone))?;
        if version.zone() != zone || version.apex() != &entry.apex {
            return Err(PublishError::WrongZone {
                zone,
                found: version.zone(),
                apex: version.apex().clone(),
            });
        }
        Ok(entry.swap(slot, Slot::Live(version)))
    }

    fn find_from(&self, qname: &[u8], mut at: usize) -> Option<Arc<ZoneEntry>> {
        let mut lower = [0u8; 255];
        let lower = lower.get_mut(..qname.len())?;
        lower.copy_from_slice(qname);
        // Length octets are below 64 and thus never letters.
        lower.make_ascii_lowercase();
        loop {
            let suffix = lower.get(at..)?;
            let len = *suffix.first()?;
            if let Some(entry) = self.shards[self.shard_of(suffix)].load().get(suffix) {
                return Some(entry.clone());
            }
            if len == 0 {
                return None;
            }
            at += 1 + len as usize;
        }
    }

    fn shard_of(&self, lower: &[u8]) -> usize {
        self.hasher.hash_one(lower) as usize % self.shards.len()
    }
}
