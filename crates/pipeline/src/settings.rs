//! What a policy and the configuration ask of the pipeline, in the pipeline's own words.
//!
//! The program derives this from the validated policy; it is part of the zone's durable value, so
//! that a replay decides alike.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Name and revision of the policy these settings come from.
    pub policy: String,
    pub revision: u64,
    /// Digest of everything in the policy that decides how a zone is signed. A live version made
    /// under another digest is signed again as upkeep.
    pub signing: u64,
    pub unsigned_review: ReviewRules,
    pub signed_review: ReviewRules,
    pub upkeep_review: UpkeepReview,
    /// Answers stop when the source has expired (RFC 1034 §4.3.5), unless the operator keeps them.
    pub on_expiry: OnExpiry,
    /// Published versions kept for rollback and differences, the live one included; at least 1.
    pub retained_versions: usize,
    pub runway: Runway,
    pub limits: Limits,
    pub backoff: Backoffs,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewRules {
    pub mode: ReviewMode,
    /// Number of hooks; they run in order and all must approve. What they are is the policy's.
    pub hooks: usize,
    /// Script: for one run of one hook. Manual: for the whole review.
    pub timeout: Duration,
    pub on_reject: OnReject,
    pub on_timeout: OnNoVerdict,
    pub on_failure: OnNoVerdict,
    pub on_newer: OnNewer,
    /// Distinct persons that must approve.
    pub approvals: usize,
    /// Names and groups of those who may; empty: everybody with the role approver.
    pub approvers: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReviewMode {
    Off,
    Manual,
    Script,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnReject {
    Discard,
    Halt,
}

/// What follows when a hook gave no verdict: a broken hook never decides by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnNoVerdict {
    Hold,
    Reject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnNewer {
    Queue,
    Supersede,
}

/// Which signed reviews also judge upkeep (refresh, keys): by default scripts do and people do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpkeepReview {
    Script,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExpiry {
    Stop,
    Keep,
}

/// Time left until the first signature of the live version expires, by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runway {
    pub warning: Duration,
    pub critical: Duration,
    pub emergency: Duration,
}

/// Longest time a stage may take without a sign of life; beyond it, it has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub load: Duration,
    pub sign_unit: Duration,
    pub verify: Duration,
    pub persist: Duration,
    /// Same content is not offered again for this long after a rejection.
    pub remember_rejected: Duration,
    /// A token may be away this long before somebody is told.
    pub token_alert: Duration,
    /// Failures of a hook after which a person is waited for; of a load before an alert.
    pub hook_failures: u32,
    pub load_failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoffs {
    pub source: Backoff,
    pub token: Backoff,
    pub key: Backoff,
    pub storage: Backoff,
    pub hook: Backoff,
    pub verifier: Backoff,
    pub review: Backoff,
    pub refused: Backoff,
}

/// `delay(n) = min(base · 2^n, cap) · U(0.8, 1.2)`, n from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    pub base: Duration,
    pub cap: Duration,
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

impl Default for Settings {
    fn default() -> Self {
        Settings {
            policy: "default".into(),
            revision: 0,
            signing: 0,
            unsigned_review: ReviewRules::default(),
            signed_review: ReviewRules::default(),
            upkeep_review: UpkeepReview::Script,
            on_expiry: OnExpiry::Stop,
            retained_versions: 10,
            runway: Runway::default(),
            limits: Limits::default(),
            backoff: Backoffs::default(),
        }
    }
}

impl Default for ReviewRules {
    fn default() -> Self {
        ReviewRules {
            mode: ReviewMode::Off,
            hooks: 0,
            timeout: secs(10 * MINUTE),
            on_reject: OnReject::Discard,
            on_timeout: OnNoVerdict::Hold,
            on_failure: OnNoVerdict::Hold,
            on_newer: OnNewer::Queue,
            approvals: 1,
            approvers: Vec::new(),
        }
    }
}

impl ReviewRules {
    pub fn manual() -> Self {
        ReviewRules {
            mode: ReviewMode::Manual,
            ..Self::default()
        }
    }

    pub fn script(hooks: usize) -> Self {
        ReviewRules {
            mode: ReviewMode::Script,
            hooks,
            ..Self::default()
        }
    }
}

impl Default for Runway {
    /// For the default signature times: lifetime 2 w, remain 1 w, interval 12 h.
    fn default() -> Self {
        Runway {
            warning: secs(6 * DAY),
            critical: secs(42 * HOUR),
            emergency: secs(DAY),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            load: secs(2 * HOUR),
            sign_unit: secs(10 * MINUTE),
            verify: secs(2 * HOUR),
            persist: secs(10 * MINUTE),
            remember_rejected: secs(HOUR),
            token_alert: secs(15 * MINUTE),
            hook_failures: 5,
            load_failures: 3,
        }
    }
}

impl Default for Backoffs {
    fn default() -> Self {
        let b = |base, cap| Backoff {
            base: secs(base),
            cap: secs(cap),
        };
        Backoffs {
            source: b(10, 15 * MINUTE),
            token: b(5, 5 * MINUTE),
            key: b(5 * MINUTE, 5 * MINUTE),
            storage: b(10, 5 * MINUTE),
            hook: b(30, 10 * MINUTE),
            verifier: b(30, 10 * MINUTE),
            review: b(10 * MINUTE, 6 * HOUR),
            refused: b(HOUR, HOUR),
        }
    }
}
