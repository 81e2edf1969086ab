//! Zones: what is asked for and what is answered, apart from the status report.

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::{Acts, Stage, Warning};

/// The word for what a zone is doing; derived from the pipeline's state.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ZoneState {
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
    Removed,
}

/// Where a zone's content comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    None {},
    File {
        /// Absolute.
        path: String,
    },
    Servers {
        /// Tried in order.
        servers: Vec<SourceServer>,
    },
    /// The zone's content is its own and is changed by updates.
    Update {
        /// The zone file it begins with; absolute. Not read again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// The name servers of a zone that begins empty; the first is the MNAME of its SOA.
        /// Without them and without a file it begins with what is published now.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        name_servers: Vec<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceServer {
    pub address: String,
    pub port: u16,
    pub tsig_key: Option<String>,
    /// Name to authenticate by TLS (RFC 9103); without it the transfer goes over TCP.
    pub tls_name: Option<String>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum KeyRole {
    Ksk,
    Zsk,
    Csk,
}

impl KeyRole {
    pub fn upper(self) -> &'static str {
        match self {
            KeyRole::Ksk => "KSK",
            KeyRole::Zsk => "ZSK",
            KeyRole::Csk => "CSK",
        }
    }
}

/// A key that exists already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Import {
    /// A foreign DNSKEY to publish.
    Public { path: String },
    /// A pair of files in BIND's form.
    File {
        role: KeyRole,
        public: String,
        private: String,
    },
    /// A key in a registered HSM.
    Kmip {
        role: KeyRole,
        hsm: String,
        public_id: String,
        private_id: String,
        algorithm: u8,
        flags: u16,
    },
}

/// `POST /v1/zones`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ZoneAdd {
    pub zone: String,
    pub policy: String,
    pub source: Source,
    #[serde(default)]
    pub imports: Vec<Import>,
    #[serde(default)]
    pub maintenance: bool,
    #[serde(default)]
    pub allow_missing: bool,
    /// Take back keys kept from an earlier removal.
    #[serde(default)]
    pub restore_keys: bool,
    #[serde(default)]
    pub comment: Option<String>,
}

/// `PATCH /v1/zones/{z}`: merge-patch, absent members stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ZoneEdit {
    pub policy: Option<String>,
    pub source: Option<Source>,
    /// Id of a plan seen before.
    pub confirm: Option<String>,
    pub yes: bool,
    pub comment: Option<String>,
}

/// A zone as `GET /v1/zones/{z}` and the answers to adding and editing show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Zone {
    pub zone: String,
    /// For life; usable as `id:<id>` wherever a name is.
    pub id: String,
    pub policy: String,
    pub state: ZoneState,
    pub source: Source,
    #[schema(value_type = String, format = DateTime)]
    pub added_at: Timestamp,
    pub published: Option<ZonePublished>,
    #[serde(default)]
    pub operation: Option<String>,
    #[serde(default)]
    pub warnings: Vec<Warning>,
    /// Effective settings, each with where it comes from; only in `GET`.
    #[serde(default)]
    pub settings: Vec<Setting>,
    /// Where the unsigned and the signed candidate can be looked at; only in `GET`.
    #[serde(default)]
    pub review_addresses: Option<ReviewAddresses>,
    #[serde(default)]
    pub keys_directory: Option<String>,
    #[serde(default)]
    pub hsm: Option<String>,
    /// Policy before an edit changed it.
    #[serde(default)]
    pub previous_policy: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReviewAddresses {
    pub unsigned: Vec<String>,
    pub signed: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    pub key: String,
    pub value: String,
    pub origin: Origin,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    Zone,
    Policy,
    Default,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ZonePublished {
    pub version: String,
    pub serial: u32,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// One row of `GET /v1/zones`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ZoneItem {
    pub zone: String,
    pub id: String,
    pub policy: String,
    pub state: ZoneState,
    /// Of the published version.
    pub serial: Option<u32>,
    /// Until the first signature in service expires; negative when past.
    pub runway_secs: Option<i64>,
    /// Short remarks for people: halted, maintenance, pinned, paused.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// `GET /v1/zones?policy=&state=&halted=`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ZoneFilter {
    pub policy: Option<String>,
    pub state: Option<ZoneState>,
    pub halted: Option<bool>,
    pub limit: Option<u32>,
    pub after: Option<String>,
}

/// Query of `DELETE /v1/zones/{z}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ZoneRemove {
    pub keys: KeysOnRemoval,
    pub confirm: Option<String>,
    pub yes: bool,
    pub comment: Option<String>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
#[derive(Default)]
pub enum KeysOnRemoval {
    /// Kept for the key trash retention, restorable.
    #[default]
    Keep,
    Purge,
}

/// `POST …/reload`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReloadRequest {
    /// Do what a NOTIFY would: ask for the SOA, then IXFR.
    pub refresh: bool,
    pub comment: Option<String>,
}

/// `POST …/update`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    /// Commands as nsupdate(1) takes them.
    pub text: String,
    /// What errors call the text.
    #[serde(default)]
    pub file: Option<String>,
    #[serde(default)]
    pub comment: Option<String>,
}

/// Up to the first request that was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Updated {
    pub zone: String,
    pub requests: Vec<UpdateResult>,
    /// Of a dry run: what would change, the SOA included.
    pub changes: Vec<Change>,
    pub dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpdateResult {
    /// Where the request begins in the text.
    pub line: u64,
    pub outcome: UpdateOutcome,
    /// As a DNS server would answer (RFC 2136 §2.2).
    pub code: String,
    /// Of the published version.
    pub serial: Option<u32>,
    pub detail: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOutcome {
    /// Everything was so already.
    Unchanged,
    /// Verified, durable and served; of a dry run: something would change.
    Published,
    /// Durable; publication waits.
    Accepted,
    Refused,
}

/// `POST …/resign`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResignRequest {
    /// Every signature, not only those that are due.
    pub full: bool,
    /// Next signed serial; must be ahead (RFC 1982 §3.2).
    pub serial: Option<u32>,
    pub comment: Option<String>,
}

/// `POST …/rollback`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// `v<N>`, `serial:<N>`, or `previous`: the newest one that is kept and has another content.
    #[serde(default = "previous")]
    pub to: String,
    /// Newer content waits until the zone is unpinned.
    #[serde(default = "yes")]
    pub pin: bool,
    #[serde(default)]
    pub confirm: Option<String>,
    #[serde(default)]
    pub yes: bool,
    #[serde(default)]
    pub comment: Option<String>,
}

impl Default for RollbackRequest {
    fn default() -> Self {
        RollbackRequest {
            to: previous(),
            pin: true,
            confirm: None,
            yes: false,
            comment: None,
        }
    }
}

fn previous() -> String {
    "previous".into()
}

/// `PUT …/pin`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PinRequest {
    /// Refused unless it is the one that is published.
    pub version: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    pub comment: Option<String>,
}

/// `PUT …/maintenance`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceRequest {
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// False also stops the refreshing of signatures.
    #[serde(default = "yes")]
    pub resign: bool,
    #[serde(default)]
    pub comment: Option<String>,
}

impl Default for MaintenanceRequest {
    fn default() -> Self {
        MaintenanceRequest {
            until: None,
            resign: true,
            comment: None,
        }
    }
}

fn yes() -> bool {
    true
}

/// Maintenance as it stands: answer to `PUT …/maintenance`, member of the status report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Maintenance {
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    pub resign: bool,
    #[serde(default)]
    pub by: Option<String>,
    #[serde(default)]
    pub comment: Option<String>,
}

/// `POST …/reviews/{stage}/{serial}/{approve|reject}` answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReviewDecision {
    pub zone: String,
    pub stage: Stage,
    pub serial: u32,
    pub version: String,
    pub verdict: Verdict,
    pub by: String,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What follows.
    pub then: Then,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Approved,
    Rejected,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// Further approvals or hooks are needed.
    Wait,
    Sign,
    Publish,
    Discard,
    Halt,
}

/// `POST …/reviews/{stage}/override`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OverrideRequest {
    pub confirm: Option<String>,
    pub yes: bool,
    /// Also publish what the verification gate refused: a deliberate act that raises a standing
    /// alarm (stage `signed` only).
    pub despite_verification: bool,
    pub comment: Option<String>,
}

/// `GET …/why`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Why {
    pub zone: String,
    pub summary: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Who must act; `null` when nobody needs to.
    pub acts: Option<Acts>,
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_at: Option<Timestamp>,
    /// What happens at `next_at`, for example "refreshes signatures".
    #[serde(default)]
    pub next: Option<String>,
    pub runway_secs: Option<i64>,
    #[serde(default)]
    pub actions: Vec<String>,
}

/// One observation. `what` tells the kind; people are shown `text` when there is one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    pub what: String,
    #[serde(default)]
    pub text: Option<String>,
    #[serde(default)]
    pub at: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    /// The node behind the address, if it named itself (RFC 5001).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nsid: Option<String>,
    /// Key tags.
    #[serde(default)]
    pub found: Vec<u16>,
    #[serde(default)]
    pub expected: Vec<u16>,
    #[serde(default)]
    pub ttl_secs: Option<u32>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub asked_at: Option<Timestamp>,
}

/// One entry of `GET …/history`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HistoryEntry {
    pub seq: u64,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    pub kind: HistoryKind,
    /// As the event kinds of §6, for example `zone.published`.
    pub event: String,
    pub version: Option<String>,
    pub serial: Option<u32>,
    /// For people.
    pub detail: String,
    pub cause: Option<String>,
    /// Who, when it was a person.
    pub actor: Option<String>,
    #[serde(default)]
    pub comment: Option<String>,
    #[serde(default)]
    pub duration_secs: Option<f64>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum HistoryKind {
    Load,
    Sign,
    Review,
    Publish,
    Key,
    Policy,
    Operator,
}

/// `GET …/history?since=&kind=`; oldest first, the newest `limit` entries unless `after` is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryFilter {
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    pub kind: Option<HistoryKind>,
    pub limit: Option<u32>,
    /// Sequence number after which to go on.
    pub after: Option<u64>,
}

/// One entry of `GET …/versions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    pub version: String,
    pub stage: Stage,
    pub serial: u32,
    /// The unsigned version it was made of; itself when unsigned.
    pub of: String,
    #[schema(value_type = String, format = DateTime)]
    pub made_at: Timestamp,
    pub records: u64,
    pub size_bytes: u64,
    pub status: VersionStatus,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum VersionStatus {
    Published,
    Candidate,
    Retained,
}

/// `GET …/export?version=&stage=`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExportQuery {
    pub version: Option<String>,
    pub stage: Option<Stage>,
    /// JSON lines instead of zone-file form.
    pub json: bool,
}

/// `GET …/diff?from=&to=&stage=&dnssec=`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DiffQuery {
    pub from: Option<String>,
    pub to: Option<String>,
    pub stage: Option<Stage>,
    /// With RRSIG, NSEC, NSEC3.
    pub dnssec: bool,
    pub limit: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Diff {
    pub zone: String,
    pub stage: Stage,
    pub from: DiffEnd,
    pub to: DiffEnd,
    pub counts: DiffCounts,
    pub changes: Vec<Change>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DiffEnd {
    pub version: String,
    pub serial: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DiffCounts {
    pub added: u64,
    pub removed: u64,
    pub rrsets_changed: u64,
    pub signatures: u64,
    pub denial: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// `+` or `-`.
    pub op: String,
    /// In zone-file form.
    pub record: String,
}
