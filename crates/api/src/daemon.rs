//! The daemon as a whole.

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::{Acts, Level, Subject};
use crate::keys::{Key, RollKind};
use crate::problem::Problem;

/// `GET /v1/info`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Info {
    pub version: String,
    pub commit: Option<String>,
    pub api: String,
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// Of the state on disk.
    pub schema: u32,
    pub features: Vec<String>,
}

/// `GET /v1/status`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub addresses: Addresses,
    pub zones: ZoneCounts,
    /// Signing work that runs or waits, oldest first.
    pub queue: Vec<QueueItem>,
    /// HSMs that are down, untrusted or quarantined.
    #[serde(default)]
    pub hsms: Vec<HsmTrouble>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Addresses {
    pub loaded_review: Vec<String>,
    pub signed_review: Vec<String>,
    pub server: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ZoneCounts {
    pub configured: u64,
    pub published: u64,
    pub halted: Vec<HaltedZone>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HaltedZone {
    pub zone: String,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueItem {
    pub state: QueueState,
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    pub zone: String,
    pub action: String,
    /// Fraction from 0 to 1.
    pub done: Option<f64>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum QueueState {
    Waiting,
    Running,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HsmTrouble {
    pub hsm: String,
    pub state: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
}

/// `GET /v1/status/keys`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatusKeys {
    /// At most 5, by remaining validity.
    pub first_to_expire: Vec<ExpiringKey>,
    pub zones: Vec<ZoneKeys>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExpiringKey {
    pub zone: String,
    /// Reference.
    pub key: String,
    /// Negative when expired.
    pub left_secs: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ZoneKeys {
    pub zone: String,
    pub keys: Vec<Key>,
    #[serde(default)]
    pub rolls: Vec<RollKind>,
}

/// `GET /v1/health`; 200 for `ok` and `warning`, 503 for `critical`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    pub healthy: bool,
    pub level: Level,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    pub checks: Vec<Check>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// For example `runway`, `verification`, `serving`, `halted`, `storage`.
    pub check: String,
    pub subject: Option<Subject>,
    pub level: Level,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    pub acts: Option<Acts>,
    pub detail: String,
    pub action: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_run: Option<Timestamp>,
}

/// The answer to `POST /v1/clock/confirm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClockConfirmed {
    /// Seconds that the clock had been put forward; negative: back.
    pub stepped_secs: i64,
    /// By the clock as it is now.
    #[schema(value_type = String, format = DateTime)]
    pub held_since: Timestamp,
    /// The clock that was confirmed.
    #[schema(value_type = String, format = DateTime)]
    pub now: Timestamp,
    /// Zones that go on.
    pub zones: u64,
}

/// `GET /v1/logging`, and the answer to `PATCH`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Logging {
    pub level: LogLevel,
    pub targets: Vec<String>,
    /// When the former settings come back; `null`: at restart.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

/// `PATCH /v1/logging`: absent members stay as they are, an empty `targets` clears them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoggingEdit {
    pub level: Option<LogLevel>,
    pub targets: Option<Vec<String>>,
    pub for_secs: Option<u64>,
    pub comment: Option<String>,
}

/// `GET /v1/operations/{id}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    pub operation: String,
    /// For example `zone-add`, `reload`.
    pub kind: String,
    pub zone: Option<String>,
    pub state: OperationState,
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// The step it is at, for people: "signing", "waiting for review".
    pub step: Option<String>,
    #[serde(default)]
    pub done: Option<u64>,
    #[serde(default)]
    pub total: Option<u64>,
    /// Why it failed, was rejected or halted.
    #[serde(default)]
    pub problem: Option<Problem>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum OperationState {
    Running,
    Done,
    Failed,
    Rejected,
    Halted,
    Cancelled,
}

impl OperationState {
    pub fn is_over(self) -> bool {
        self != OperationState::Running
    }
}
