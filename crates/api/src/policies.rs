//! Policies.

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::{Finding, Warning};
use crate::keys::RollKind;

/// One row of `GET /v1/policies`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyItem {
    pub policy: String,
    /// Zones that use it.
    pub zones: u64,
    pub hsm: Option<String>,
    /// Mnemonics of the algorithms of its keys.
    pub algorithms: Vec<String>,
    pub state: PolicyState,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyState {
    Active,
    ChangedOnDisk,
    RemovedOnDisk,
    NewOnDisk,
}

/// `GET /v1/policies/{p}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    pub policy: String,
    pub state: PolicyState,
    pub zones: u64,
    pub hsm: Option<String>,
    pub algorithms: Vec<String>,
    pub file: String,
    /// Every setting with its effective value in the syntax of policy files; defaults are marked
    /// `# default`.
    pub effective: String,
    /// The file as it was activated.
    #[serde(default)]
    pub active_text: Option<String>,
    /// The file as it is on disk.
    #[serde(default)]
    pub disk_text: Option<String>,
}

/// `POST /v1/policies/reload`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyReload {
    /// Apply exactly this plan or refuse.
    pub plan: Option<String>,
    pub yes: bool,
    pub comment: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyReloaded {
    /// Sorted by name.
    pub changes: Vec<PolicyChange>,
    #[serde(default)]
    pub warnings: Vec<Warning>,
    pub plan: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyChange {
    pub policy: String,
    pub change: ChangeKind,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    Added,
    Removed,
    Updated,
    Unchanged,
}

/// `POST /v1/policies/check`: a text, or names of files in the policy directory (none: all).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyCheckRequest {
    pub text: Option<String>,
    /// Of the policy that `text` would be.
    pub name: Option<String>,
    pub names: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyCheck {
    pub findings: Vec<Finding>,
}

/// `POST /v1/policies/plan`: which rolls the policy files on disk would begin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyPlanRequest {
    /// None: all.
    pub policies: Vec<String>,
    pub zone: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyPlan {
    /// For `policy reload`: applies exactly this, or refuses.
    #[serde(default)]
    pub plan: Option<String>,
    /// What a reload would ask consent for.
    #[serde(default)]
    pub effects: Vec<String>,
    pub items: Vec<PlannedRoll>,
}

/// A roll that begins because of the files, and would not without them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlannedRoll {
    pub zone: String,
    pub policy: String,
    pub kind: RollKind,
    #[serde(rename = "type")]
    pub roll_type: String,
    #[schema(value_type = String, format = DateTime)]
    pub starts_at: Timestamp,
    /// If servers and parent do what they should.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ends_at: Option<Timestamp>,
    /// The parent must change its DS set.
    pub needs_parent: bool,
}
