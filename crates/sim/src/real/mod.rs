//! Level Z with real data: what the pipeline publishes is a zone with keys, signatures and proofs.
//!
//! The source is a small zone that the product's loader reads, its signer signs and its gate judges,
//! as in the daemon; secondaries take it by transfers that the product's publisher makes and its
//! loader reads, and answer with its answers. Which keys sign what in the world's caches is read
//! off the records.
//!
//! ```text
//! keys      private halves by number, and a token that lies
//! records   a version as records: who signs what until when
//! zone      source and signing
//! gate      what is refused
//! serve     what is published, copies of it, and what is said of them
//! wire      transfers, and answers to the observer
//! store     versions in files, read back after the power went
//! disk      what of files is left then
//! ```

mod disk;
mod gate;
pub(crate) mod keys;
mod records;
mod serve;
mod store;
mod wire;
mod zone;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use cascade_publisher::{StepLimits, Steps};
use cascade_signer::DenialPlan;
use cascade_verifier::Verified;
use cascade_zone::{Fingerprint, Name, VersionId, ZoneVersion};

pub(crate) use records::Classes;
use records::Records;
use store::Store;

use crate::rng::Rng;

/// As many records in steps as the zone has: it is small, and its apex is much of it.
const STEPS: StepLimits = StepLimits {
    steps: 5,
    percent: 100,
};

/// How non-existence is to be proved.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Denial {
    #[default]
    Nsec,
    Nsec3,
    OptOut,
}

impl Denial {
    fn plan(self) -> DenialPlan {
        match self {
            Denial::Nsec => DenialPlan::Nsec,
            Denial::Nsec3 | Denial::OptOut => DenialPlan::Nsec3 {
                iterations: 0,
                salt: Vec::new(),
                opt_out: self == Denial::OptOut,
            },
        }
    }
}

/// A version in memory.
#[derive(Clone)]
pub(crate) struct Held {
    version: Arc<ZoneVersion>,
    verified: Option<Box<Verified<Arc<ZoneVersion>>>>,
    classes: Arc<Classes>,
    /// The scenario put a fault in it.
    planted: bool,
}

/// A version that was published, with all that a server can do with it.
pub(crate) struct Published {
    verified: Verified<Arc<ZoneVersion>>,
    steps: Steps,
    pub(crate) classes: Arc<Classes>,
    pub(crate) content: u32,
    records: OnceLock<Records>,
    /// A copy of it has passed a full verification, and what a server with it answers.
    judged: OnceLock<()>,
    answers: OnceLock<wire::Answers>,
}

impl std::fmt::Debug for Published {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Published {}", self.version().id())
    }
}

impl Published {
    fn version(&self) -> &Arc<ZoneVersion> {
        self.verified.version()
    }

    pub(crate) fn serial(&self) -> u32 {
        self.version().serial().0
    }

    fn records(&self) -> &Records {
        self.records.get_or_init(|| Records::of(self.version()))
    }
}

/// What was done with real data.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Versions made, and signatures in them that were made for them.
    pub versions: usize,
    pub signatures: u64,
    /// Versions that the gate let through, of which by their difference from the one before; and
    /// those that it refused because of a planted fault.
    pub passed: usize,
    pub by_difference: usize,
    pub refused: usize,
    /// Copies at secondaries that were verified in full.
    pub verified: usize,
    /// Transfers of whole zones, of differences, and those that brought nothing.
    pub axfr: usize,
    pub ixfr: usize,
    pub up_to_date: usize,
    /// Answers of zone servers to the observer.
    pub answers: usize,
    /// Times that versions were read back from files, of which so many had a torn end; snapshots
    /// that took the place of a long journal.
    pub restored: usize,
    pub torn: usize,
    pub snapshots: usize,
}

/// The zone as it is.
#[derive(Clone)]
pub(crate) struct Real {
    apex: Name,
    /// Unsigned versions.
    unsigned: BTreeMap<VersionId, Arc<ZoneVersion>>,
    signed: BTreeMap<VersionId, Held>,
    /// SOA and its TTL of what was signed, by the signed version.
    sources: BTreeMap<VersionId, (u32, Vec<u8>)>,
    steps: Steps,
    /// What was published last.
    last: Option<Arc<ZoneVersion>>,
    /// Contents of what was written, to know them again.
    written: BTreeMap<VersionId, Fingerprint>,
    /// Contents by serial.
    serials: BTreeMap<u32, Fingerprint>,
    /// Serial of the source, and the text that it stands for.
    source: (u32, String),
    /// What the servers of the parent showed at the last look.
    ds: Vec<cascade_keys::DsRecord>,
    store: Store,
    power: Rng,
    pub(crate) counts: Counts,
}

impl Real {
    pub(crate) fn new(owner: &[u8], seed: u64) -> Option<Real> {
        Some(Real {
            apex: Name::from_wire(owner).ok()?,
            unsigned: BTreeMap::new(),
            signed: BTreeMap::new(),
            sources: BTreeMap::new(),
            steps: Steps::default(),
            last: None,
            written: BTreeMap::new(),
            serials: BTreeMap::new(),
            source: (0, String::new()),
            ds: Vec::new(),
            store: Store::default(),
            power: Rng::stream(seed, "disk"),
            counts: Counts::default(),
        })
    }

    pub(crate) fn drop_version(&mut self, v: VersionId) {
        self.unsigned.remove(&v);
        self.signed.remove(&v);
        self.sources.remove(&v);
    }

    /// A step is durable.
    pub(crate) fn commit(&mut self) {
        self.store.commit();
    }

    /// Power off: what was only in memory is gone.
    pub(crate) fn die(&mut self) {
        self.unsigned.clear();
        self.signed.clear();
        self.steps = Steps::default();
        self.last = None;
        self.store.die(&mut self.power);
    }

    /// Content by its number: at hand, or made again of what was signed of it.
    fn unsigned(&mut self, v: VersionId) -> Option<Arc<ZoneVersion>> {
        if let Some(u) = self.unsigned.get(&v) {
            return Some(u.clone());
        }
        let of = |h: &&Held| h.version.unsigned_id() == v;
        let signed = self.signed.values().find(of)?.version.clone();
        let soa = self.sources.get(&signed.id())?.clone();
        let made = Arc::new(signed.to_unsigned(soa).ok()?);
        self.unsigned.insert(v, made.clone());
        Some(made)
    }
}
