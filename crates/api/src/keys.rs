//! Keys, their records for the parent, and rolls.

use std::collections::BTreeMap;

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::zones::{Evidence, Import, KeyRole};

/// A key of a zone, in `GET …/keys` and the status report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    #[serde(default)]
    pub id: String,
    pub tag: u16,
    pub role: KeyRole,
    /// IANA number.
    pub algorithm: u8,
    #[serde(default)]
    pub bits: Option<u32>,
    pub state: KeyState,
    /// Makes signatures now.
    #[serde(default)]
    pub signing: bool,
    #[serde(default)]
    pub imported: bool,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub published_at: Option<Timestamp>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub active_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When a retired key goes.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub remove_at: Option<Timestamp>,
    /// Entered its state.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// What becomes of it next, for people.
    #[serde(default)]
    pub next: Option<String>,
    pub hsm: Option<String>,
    /// `file://…` or `kmip://…`
    pub reference: String,
    #[serde(default)]
    pub label: Option<String>,
    #[serde(default)]
    pub at_parent: Option<AtParent>,
    /// Per HSM instance: when it last proved to hold this very key.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub proved_at: BTreeMap<String, Timestamp>,
}

/// RFC 7583 §3.1, and trash.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    Generated,
    Published,
    Ready,
    Active,
    Retired,
    Dead,
    Removed,
    Revoked,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum AtParent {
    Unknown,
    Absent,
    Wanted,
    Seen,
    Foreign,
}

/// `GET …/keys?all=`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeyFilter {
    /// With those in the trash.
    pub all: bool,
    pub limit: Option<u32>,
    pub after: Option<String>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RecordKind {
    Ds,
    Dnskey,
    Cds,
    Cdnskey,
}

impl RecordKind {
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "ds" => Some(RecordKind::Ds),
            "dnskey" => Some(RecordKind::Dnskey),
            "cds" => Some(RecordKind::Cds),
            "cdnskey" => Some(RecordKind::Cdnskey),
            _ => None,
        }
    }
}

/// `GET …/key-records/{type}?digest=&key=`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeyRecordsQuery {
    /// `sha256` or `sha384`.
    pub digest: Option<String>,
    pub key: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KeyRecords {
    /// In zone-file form.
    pub records: Vec<String>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RollKind {
    Ksk,
    Zsk,
    Csk,
    Algorithm,
    /// The beginning of a zone; no person moves it.
    FirstKeys,
    /// To a zone without DS, and from there to one without DNSSEC; no person moves it.
    Insecure,
}

impl RollKind {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ksk" => Some(RollKind::Ksk),
            "zsk" => Some(RollKind::Zsk),
            "csk" => Some(RollKind::Csk),
            "algorithm" => Some(RollKind::Algorithm),
            _ => None,
        }
    }
}

/// A running or past roll.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Roll {
    #[serde(default)]
    pub zone: Option<String>,
    pub kind: RollKind,
    /// As RFC 6781 §4.1 and RFC 7583 §2 call it, for example `double-signature`.
    #[serde(rename = "type")]
    pub roll_type: String,
    /// What it waits for, for example `await-ds-seen`.
    pub state: String,
    /// Of `steps`; 0 while keys are made.
    #[serde(default)]
    pub step: Option<u32>,
    #[serde(default)]
    pub steps: Option<u32>,
    pub old: Vec<String>,
    pub new: Vec<String>,
    #[serde(default)]
    pub old_tags: Vec<u16>,
    #[serde(default)]
    pub new_tags: Vec<u16>,
    pub waits_for: Option<String>,
    /// In one sentence, with the evidence.
    #[serde(default)]
    pub why: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub earliest_at: Option<Timestamp>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_look: Option<Timestamp>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_look: Option<Timestamp>,
    /// When what it waits for is looked at again, or tried again.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_check: Option<Timestamp>,
    #[serde(default)]
    pub automatic: Option<bool>,
    /// Command of the next step when a person must do it.
    #[serde(default)]
    pub next_command: Option<String>,
    #[serde(default)]
    pub evidence: Vec<crate::zones::Evidence>,
    #[serde(default)]
    pub highest_ttl_secs: BTreeMap<String, u32>,
}

/// `POST …/rolls/{kind}/{step}`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RollStep {
    /// What is visible everywhere; for the propagation steps.
    pub ttl_secs: Option<u32>,
    pub force: bool,
    pub comment: Option<String>,
}

/// `POST …/keys/check`: what every server that was asked showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KeyCheck {
    pub zone: String,
    pub items: Vec<Evidence>,
    /// Looks did not end in time; their last results are shown.
    #[serde(default)]
    pub unfinished: bool,
}

/// `POST …/keys`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyImport {
    pub imports: Vec<Import>,
    #[serde(default)]
    pub comment: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KeyImported {
    pub keys: Vec<Key>,
}

/// Query of `DELETE …/keys/{k}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeyRemove {
    /// A key in use begins to leave, in the safe order.
    pub force: bool,
    /// Destroyed at once instead of resting in the trash.
    pub purge: bool,
    /// As `purge`, and given up even if its store does not destroy it; what is left of it is then
    /// an orphan of the HSM's inventory.
    #[serde(rename = "continue")]
    pub give_up: bool,
    pub confirm: Option<String>,
    pub yes: bool,
    pub comment: Option<String>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
#[derive(Default)]
pub enum EmergencyStrategy {
    /// The normal order with a small margin: nobody sees bogus data.
    #[default]
    Safe,
    /// Waits for caches are skipped: some see bogus data until their copies end.
    Fast,
}

/// `POST …/emergency`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmergencyRequest {
    pub role: KeyRole,
    #[serde(default)]
    pub strategy: EmergencyStrategy,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub confirm: Option<String>,
    #[serde(default)]
    pub yes: bool,
}

/// `GET …/timeline?until=&only=keys`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TimelineQuery {
    /// Three years from now if not given.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// `keys`: nothing else.
    pub only: Option<String>,
}

/// What will happen if nothing fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Timeline {
    pub zone: String,
    pub items: Vec<TimelineItem>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TimelineItem {
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Kind of event, for example `roll.started`.
    pub what: String,
    pub text: String,
}
