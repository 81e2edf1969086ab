//! One zone in the daemon: its durable row, its owner task, what others may see of it.

mod actor;
mod announce;
mod beside;
mod defer;
mod doubt;
mod export;
mod fetch;
mod files;
mod guard;
mod held;
mod hook;
mod jobs;
mod key_io;
mod keys;
mod line;
pub mod passed;
mod perform;
mod rest;
mod store;
mod sweep;
mod tails;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;

use cascade_api::zones::Source;
use cascade_loader::LoadReport;
use cascade_pipeline::{Accepted, Actor as Person, Command, Refusal, Zone};
use cascade_signer::SignReport;
use cascade_time::Timestamp;
use cascade_verifier::{DespiteVerification, VerifyReport};
use cascade_zone::{Name, VersionId, ZoneId, ZoneVersion};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use crate::few::Few;
use crate::keys::KeysRow;

pub use actor::{start, start_restored};
pub use jobs::{BUILT_AT, checks, diagnostic_line, load_error, max_ttl};
pub use line::Line;
pub use rest::{Alarm, Awake, many, run_alarm, serve_at_rest};
pub use store::read_one;

/// Requests that wait for a zone; beyond it the caller is told that it is busy.
pub const MAILBOX: usize = 64;
/// Findings kept with the row; the report has counted all.
const FINDINGS_KEPT: usize = 20;

/// Everything durable about a zone but its data, one JSON document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ZoneRow {
    pub zone: Zone,
    /// Presentation form with final dot, spelling as given.
    pub apex: String,
    pub source: Source,
    pub added_at: Timestamp,
    pub keys: KeysRow,
    /// SOA (TTL, RDATA in hex) of the content of signed versions that have a file, so that the
    /// unsigned half can be made again.
    #[serde(default)]
    pub sources: Few<u64, (u32, String)>,
    /// How the published versions are kept on disk, newest last; the last one ends with the live
    /// version.
    #[serde(default)]
    pub segments: Vec<cascade_archive::Segment>,
    /// Of a zone that takes updates.
    #[serde(default)]
    pub content: update::OwnContent,
    #[serde(default)]
    pub reports: Reports,
}

/// The newest report of each stage.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Reports {
    /// Version it is about, report.
    pub load: Option<(u64, LoadReport)>,
    pub failed_load: Option<Box<LoadReport>>,
    pub sign: Option<SignRow>,
    pub verify: Option<(u64, VerifyReport)>,
    pub last_full_at: Option<Timestamp>,
    /// The live version was published although the gate refused it.
    pub despite: Option<DespiteVerification>,
    /// Who or what approved the live version.
    pub approved_by: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SignRow {
    pub version: u64,
    pub unsigned_serial: u32,
    pub serial: Option<u32>,
    pub requested_at: Timestamp,
    pub report: Option<SignReport>,
    /// What the signer said when it could not.
    pub error: Option<String>,
}

impl Reports {
    fn set_verify(&mut self, version: VersionId, mut report: VerifyReport) {
        report.findings.truncate(FINDINGS_KEPT);
        self.verify = Some((version.0, report));
    }
}

/// What others see of a zone: replaced as a whole after every step, read without waiting.
#[derive(Debug)]
pub struct View {
    pub row: Arc<ZoneRow>,
    /// Versions in memory.
    pub versions: BTreeMap<VersionId, Arc<ZoneVersion>>,
    pub loading: Option<(Timestamp, Arc<cascade_loader::Progress>)>,
    /// When the source is asked again without being told to.
    pub next_attempt: Option<Timestamp>,
    pub signing: Option<Arc<cascade_signer::Progress>>,
    pub verifying: Option<Timestamp>,
    /// The keys as far as they are ready, or why they are not.
    pub keys_wait: Option<String>,
    /// The content that the next update builds on.
    pub content: Option<Arc<ZoneVersion>>,
    /// What the key manager was told of the world, with what failed and when it is tried again.
    pub key_facts: cascade_keys::Facts,
    /// The task of the zone has panicked: it is halted alone.
    pub bug: Option<String>,
}

/// What the rest of the daemon holds of a zone.
pub struct ZoneHandle {
    pub id: ZoneId,
    pub apex: Name,
    /// Lower case, without final dot; `.` for the root.
    pub name: String,
    pub line: Line,
    /// Nothing while the zone is at rest.
    view: RwLock<Option<Arc<View>>>,
}

impl std::fmt::Debug for ZoneHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ZoneHandle({})", self.name)
    }
}

/// Why a request got no answer of the pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotDone {
    Refused(Refusal),
    /// The change could not be made durable; nothing changed.
    Storage(String),
}

pub type Reply = oneshot::Sender<Result<(Accepted, Mark), NotDone>>;

/// Where a zone's history stood when a request was taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Number of the first entry that can follow from the request.
    pub entry: u64,
}

impl Mark {
    /// Before everything: of a zone that is being added.
    pub const START: Mark = Mark { entry: 1 };
}

/// What an operator orders about keys.
#[derive(Debug)]
pub enum KeyOrder {
    Command(cascade_keys::Command),
    Import(Vec<crate::keys::Import>),
    /// Destroy a key now; `forget`: give it up even if its store does not destroy it.
    Purge {
        key: cascade_keys::KeyNum,
        forget: bool,
    },
    /// Look at all servers now.
    Look,
}

/// Why an order about keys was not carried out; nothing has changed.
#[derive(Debug)]
pub enum KeyRefusal {
    Refused(cascade_keys::Refusal),
    Import(String),
    /// The private half is not there, or not the right one.
    Unusable(String),
    /// The key is in the trash, and its store did not destroy it.
    NotDestroyed(String),
    Storage,
    /// The zone's policy is not loaded.
    NoPolicy,
}

pub type KeyReply = oneshot::Sender<Result<(), KeyRefusal>>;

/// What can be sent to a zone from outside.
#[derive(Debug)]
pub enum Message {
    Request {
        command: Command,
        by: Person,
        /// Of a change of source: what the row says from then on.
        source: Option<Source>,
        reply: Reply,
    },
    /// An order about keys.
    Keys {
        order: KeyOrder,
        by: String,
        reply: KeyReply,
    },
    /// The policy of the zone has another content.
    Policy,
    /// A key store can be used again: keys are looked for now, and what waits for them goes on.
    KeyStoreBack,
    /// A NOTIFY, or a changed file.
    Source(cascade_pipeline::state::Trigger),
    /// The disk has no room for new versions, or has room again.
    Storage { full: bool },
    /// A person says that the clock is right; it was put forward by so many seconds.
    ClockConfirmed { longer: u64 },
    /// A secondary was found behind after a start.
    Behind,
    /// A look that was queued may begin.
    LookTurn(
        cascade_keys::What,
        cascade_keys::Scope,
        tokio::sync::OwnedSemaphorePermit,
    ),
    /// The zone may check what it publishes now.
    SweepTurn(tokio::sync::OwnedSemaphorePermit),
    /// Something that another part of the daemon found out.
    Told(Box<cascade_pipeline::Event>),
    /// The daemon stops: end after the current step.
    Stop,
}

impl View {
    /// Of a zone in which nothing is under way, and nothing in memory.
    fn still(row: Arc<ZoneRow>) -> View {
        View {
            row,
            versions: BTreeMap::new(),
            loading: None,
            next_attempt: None,
            signing: None,
            verifying: None,
            keys_wait: None,
            content: None,
            key_facts: Default::default(),
            bug: None,
        }
    }

    /// A version that is not at hand is taken to be as versions are.
    pub fn has_signatures(&self, version: VersionId) -> bool {
        self.versions.get(&version).is_none_or(|v| v.is_signed())
    }
}

impl ZoneHandle {
    /// Sends what every zone is told: a zone that is busy must hear of it too, and must not delay the
    /// others.
    pub fn tell(self: &Arc<Self>, message: Message) {
        if let Err(TrySendError::Full(message)) = self.line.try_send(message) {
            let zone = self.clone();
            tokio::spawn(async move { zone.line.send(*message).await });
        }
    }

    /// What was last shown of it; of a zone at rest, what the state has.
    pub fn view(&self) -> Arc<View> {
        let shown = self.view.read().clone();
        shown.unwrap_or_else(|| Arc::new(self.view_at_rest()))
    }
}
