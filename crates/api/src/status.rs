//! The status report of a zone: everything the CLI prints, and nothing it computes.

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::{Acts, Stage};
use crate::keys::{Key, Roll};
use crate::zones::{Maintenance, Source, ZoneState};

/// `GET /v1/zones/{z}/status`. Steps describe the newest attempt; `published` what is in service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ZoneStatus {
    pub zone: String,
    pub policy: String,
    pub source: Source,
    pub state: ZoneState,
    /// Of a zone that was added while very many others had work: how many are taken up before it.
    #[serde(default)]
    pub turn: Option<u64>,
    /// The daemon's time when it wrote this.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    pub halted: Option<Halted>,
    pub maintenance: Option<Maintenance>,
    pub pin: Option<Pin>,
    #[serde(default)]
    pub pauses: Vec<Pause>,
    /// Of a zone whose content comes from servers.
    #[serde(default)]
    pub primaries: Option<Primaries>,
    /// A load that runs now.
    #[serde(default)]
    pub loading: Option<Loading>,
    /// The newest loaded version.
    pub unsigned: Option<Unsigned>,
    pub reviews: Reviews,
    pub signing: Option<Signing>,
    pub verification: Option<Verification>,
    pub published: Option<Published>,
    /// Of the published version.
    pub signatures: Option<Signatures>,
    #[serde(default)]
    pub keys: Vec<Key>,
    #[serde(default)]
    pub rolls: Vec<Roll>,
    #[serde(default)]
    pub secondaries: Vec<Secondary>,
    /// What threatens this zone or needs a person; maintenance, pin and pauses have their members.
    #[serde(default)]
    pub warnings: Vec<StatusWarning>,
}

/// What the primaries of a zone said last, and when they are asked again (RFC 1034 §4.3.5).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Primaries {
    /// Last time that one confirmed our serial or delivered a new one.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub confirmed_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_refresh_at: Option<Timestamp>,
    /// Without contact the content is too old from then on.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    pub expired: bool,
    /// Attempts in a row that failed, and why the last one did.
    pub failures: u32,
    pub error: Option<String>,
    /// How the newest version came: `AXFR`, `IXFR (1 sequence)`.
    pub kind: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Halted {
    pub reason: String,
    pub acts: Acts,
    /// The stage of the review that rejected it, or the side where it failed.
    pub stage: Option<Stage>,
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Commands that end it, the usual one first.
    #[serde(default)]
    pub actions: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pin {
    pub version: String,
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    #[serde(default)]
    pub by: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pause {
    pub stage: PauseStage,
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum PauseStage {
    Load,
    Publish,
    Keys,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Loading {
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    pub size_bytes: u64,
    pub records: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Unsigned {
    pub version: String,
    pub serial: u32,
    #[schema(value_type = String, format = DateTime)]
    pub loaded_at: Timestamp,
    pub size_bytes: u64,
    /// RRs including the SOA, without what the key manager adds.
    pub records: u64,
    pub load_secs: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Reviews {
    pub unsigned: Review,
    pub signed: Review,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Review {
    pub mode: ReviewMode,
    pub status: ReviewStatus,
    /// The command that decides, when `mode` is `script`.
    #[serde(default)]
    pub hook: Option<String>,
    /// Servers that show the candidate.
    #[serde(default)]
    pub addresses: Vec<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Why it was rejected or is held although a hook should decide.
    #[serde(default)]
    pub detail: Option<String>,
}

impl Review {
    /// No review by policy.
    pub fn off() -> Self {
        Review {
            mode: ReviewMode::Off,
            status: ReviewStatus::Approved,
            hook: None,
            addresses: Vec::new(),
            since: None,
            detail: None,
        }
    }
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ReviewMode {
    Off,
    Manual,
    Script,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ReviewStatus {
    /// Not come to this step yet.
    None,
    Pending,
    /// Waits for a person although a hook should decide: it gave no verdict.
    Held,
    Approved,
    Rejected,
}

/// How far NSEC or NSEC3 records of another kind or of other parameters are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DenialChange {
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Parts of about 100 records that are signed.
    pub parts_done: u64,
    pub parts: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Signing {
    /// Of the version being made; `null` until it is drawn.
    #[serde(default)]
    pub serial: Option<u32>,
    #[serde(default)]
    pub version: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub requested_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    pub action: SigningAction,
    /// Unsigned records handled.
    pub records: u64,
    /// NSEC or NSEC3 records made.
    pub denial_records: u64,
    /// RRSIGs made, without those over DNSKEY, CDS and CDNSKEY.
    pub signatures: u64,
    /// RRSIGs taken over from the version before.
    pub signatures_kept: u64,
    /// Signatures this run will make in all; for progress.
    #[serde(default)]
    pub signatures_planned: Option<u64>,
    /// Another denial of existence is being built; that of the live version stays until it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denial_change: Option<DenialChange>,
    pub threads: u32,
    pub collect_secs: f64,
    pub sort_secs: f64,
    pub denial_secs: f64,
    pub sign_secs: f64,
    pub insert_secs: f64,
    pub total_secs: f64,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum SigningAction {
    Requested,
    /// No key that can sign is at hand.
    WaitingKeys,
    Collecting,
    Sorting,
    Denial,
    Signing,
    Inserting,
    Finished,
    Failed,
}

impl SigningAction {
    /// After "Current action:".
    pub fn text(self) -> &'static str {
        match self {
            SigningAction::Requested => "Waiting to start",
            SigningAction::WaitingKeys => "Waiting for keys",
            SigningAction::Collecting => "Collecting records to sign",
            SigningAction::Sorting => "Sorting records",
            SigningAction::Denial => "Generating NSEC(3) records",
            SigningAction::Signing => "Generating signatures",
            SigningAction::Inserting => "Inserting signatures",
            SigningAction::Finished => "Finished",
            SigningAction::Failed => "Failed",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    pub status: VerificationStatus,
    pub signatures_checked: u64,
    /// Signatures to check in all; for progress.
    #[serde(default)]
    pub signatures_total: Option<u64>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_full_at: Option<Timestamp>,
    /// What was found when it refused.
    #[serde(default)]
    pub findings: Vec<String>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum VerificationStatus {
    Pending,
    Running,
    Passed,
    Refused,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Published {
    pub version: String,
    pub serial: u32,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    pub records: u64,
    pub addresses: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Signatures {
    #[schema(value_type = String, format = DateTime)]
    pub first_expires_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_refresh_at: Option<Timestamp>,
    /// Until the first signature expires; negative when past.
    pub runway_secs: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Secondary {
    pub server: String,
    pub serial: Option<u32>,
    pub lag_secs: Option<u64>,
    pub up: bool,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub asked_at: Option<Timestamp>,
    /// Last comparison of some of its answers with the version of its serial.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub sampled_at: Option<Timestamp>,
    /// What it showed that was not published.
    #[serde(default)]
    pub bogus: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatusWarning {
    pub detail: String,
    #[serde(default)]
    pub code: Option<String>,
}
