//! The durable value of one zone.

use std::collections::{BTreeMap, BTreeSet};

use cascade_time::Timestamp;
use cascade_zone::{Serial, VersionId, ZoneId};
use serde::{Deserialize, Serialize};

use crate::alert::{Alert, AlertKey};
use crate::doubt::Doubt;
use crate::event::{Fault, Keep};
use crate::plain;
use crate::settings::{OnExpiry, ReviewRules, Settings};

/// Names one piece of work; never reused within a zone. A result that names another job than the
/// one waited for changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

/// 128 bits that stand for a set of records, as computed by the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fp(pub u64, pub u64);

/// Which keys a version is signed with: apex set and zone-signing keys, as digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySet {
    pub apex: u64,
    pub signing: u64,
}

/// What a stage reported: a line for people and the part that programs read (the performer keeps
/// it small, the full report stands beside the version).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub text: String,
    #[serde(default)]
    pub data: serde_json::Value,
}

impl Report {
    pub fn text(text: impl Into<String>) -> Self {
        Report {
            text: text.into(),
            data: serde_json::Value::Null,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    #[serde(with = "plain")]
    pub id: ZoneId,
    /// As people write it, without the final dot.
    pub name: String,
    pub settings: Settings,
    pub source: Source,
    /// What the key manager wants now; a live version with other keys is upkeep.
    pub keys: KeySet,
    pub live: Option<Live>,
    pub candidate: Candidate,
    pub upkeep: Upkeep,
    /// Another denial of existence is being built beside that of live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Beside>,
    pub pending: Pending,
    pub modes: Modes,
    pub storage_full: Option<Timestamp>,
    pub clock_unsafe: Option<(Timestamp, String)>,
    /// Somebody else's DNSKEYs are delegated to: transfers are held.
    pub conflict: Option<(Timestamp, String)>,
    /// The state was restored from a backup and may be behind: nothing new is signed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
    /// A secondary that serves a newer serial than ours, until ours is above it.
    #[serde(default)]
    pub ahead: Option<Ahead>,
    /// Published versions that can be rolled back to, newest first; live is among them.
    pub retained: Vec<Retained>,
    /// Content somebody rejected, not offered again before the time.
    pub rejected: Option<(Fp, Timestamp)>,
    /// Highest serial that any server of ours has shown, review servers included.
    #[serde(with = "plain::opt")]
    pub used_serial: Option<Serial>,
    /// Alerts that are on.
    pub alerts: BTreeMap<AlertKey, Alert>,
    /// Time of the last step: everything due by then has been done.
    pub settled_at: Timestamp,
    pub next_version: u64,
    pub next_job: u64,
    pub next_entry: u64,
    /// For the spread of retries; drawn once when the zone is added.
    pub seed: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// What the loader reads, in its own words; replaced by `Event` of a source change.
    pub text: String,
    pub failures: u32,
    pub error: Option<String>,
    pub last_ok: Option<Timestamp>,
    /// When the content becomes too old (SOA EXPIRE); none for files.
    pub expires_at: Option<Timestamp>,
    /// Next attempt of our own, while nothing is live: no SOA gives a timer yet.
    pub retry_at: Option<Timestamp>,
    pub expired: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    #[serde(with = "plain")]
    pub version: VersionId,
    /// The unsigned version it was made of.
    #[serde(with = "plain")]
    pub of: VersionId,
    #[serde(with = "plain")]
    pub serial: Serial,
    #[serde(with = "plain")]
    pub source_serial: Serial,
    pub content_fp: Fp,
    pub published_at: Timestamp,
    /// Earliest expiration of a signature.
    pub min_exp: Timestamp,
    /// When signatures are to be refreshed.
    pub next_due: Timestamp,
    pub keys: KeySet,
    /// `Settings::signing` it was made under.
    pub signing: u64,
    pub serving: Serving,
    /// Who published it although the gate had refused it.
    pub despite_verification: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Serving {
    Yes,
    /// Recovery found an older version only: served, but nobody is notified.
    RecoveredOld,
    /// Signatures are damaged: nothing is answered before it is signed again.
    AwaitResign,
    /// Signatures ended or became late while the zone was not answered: it is signed again first. It
    /// is answered as it is when that does not succeed, as it would be had it been answered all along.
    SignFirst,
}

impl Serving {
    /// Nothing is answered for now.
    pub fn is_silent(self) -> bool {
        matches!(self, Serving::AwaitResign | Serving::SignFirst)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    #[serde(with = "plain")]
    pub version: VersionId,
    #[serde(with = "plain")]
    pub of: VersionId,
    #[serde(with = "plain")]
    pub serial: Serial,
    #[serde(with = "plain")]
    pub source_serial: Serial,
    pub content_fp: Fp,
    pub published_at: Timestamp,
}

/// A serial that we did not make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    pub since: Timestamp,
    #[serde(with = "plain")]
    pub serial: Serial,
    pub server: String,
}

/// Content on its way to become live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cand {
    #[serde(with = "plain")]
    pub version: VersionId,
    #[serde(with = "plain")]
    pub source_serial: Serial,
    pub content_fp: Fp,
    pub origin: Origin,
    pub loaded_at: Timestamp,
    pub load_report: Report,
    pub guard_report: Option<Report>,
    /// Who approved what, for the unsigned and the signed stage.
    pub approvals: Vec<Approval>,
    pub signed: Option<Signed>,
    pub verify_report: Option<Report>,
    /// `Signed::reviewed_fp` that was approved; a later signing of the same needs no new review.
    pub approved_fp: Option<Fp>,
    /// Software faults met; one is forgiven.
    pub bugs: u32,
    /// An approver publishes exactly this signed version although the gate refused it.
    pub despite: Option<Despite>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Despite {
    #[serde(with = "plain")]
    pub version: VersionId,
    pub by: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    Source,
    /// A person's edit; its author does not count among the approvers.
    Edit {
        by: String,
    },
    Rollback {
        #[serde(with = "plain")]
        to: VersionId,
        by: String,
        /// The pin was set by the rollback and goes with it when it is given up.
        pinned: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub stage: Stage,
    pub by: String,
    pub at: Timestamp,
    pub comment: Option<String>,
}

/// The two places of review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Unsigned,
    Signed,
}

/// The signed half of a candidate or of an upkeep version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    #[serde(with = "plain")]
    pub version: VersionId,
    #[serde(with = "plain")]
    pub serial: Serial,
    pub min_exp: Timestamp,
    pub next_due: Timestamp,
    pub keys: KeySet,
    pub signing: u64,
    /// Live version it was made against: signing takes over its signatures and exceeds its serial.
    #[serde(with = "plain::opt")]
    pub based_on: Option<VersionId>,
    /// Stands for all records but RRSIG, ZONEMD and the SOA serial: what a reviewer judged.
    pub reviewed_fp: Fp,
    pub report: Report,
}

/// The candidate lane. *Parked* states wait for somebody or for time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Candidate {
    #[default]
    Idle,
    Restoring {
        saved: Box<Candidate>,
        since: Timestamp,
    },
    Loading(Loading),
    /// The change guard compares with live.
    Guarding {
        cand: Box<Cand>,
        job: JobId,
        since: Timestamp,
    },
    AwaitGuardApproval {
        cand: Box<Cand>,
        since: Timestamp,
    },
    AwaitUnsignedReview {
        cand: Box<Cand>,
        review: Review,
    },
    Signing {
        cand: Box<Cand>,
        job: SignJob,
    },
    Verifying {
        cand: Box<Cand>,
        job: JobId,
        healed: bool,
        attempt: u32,
        since: Timestamp,
    },
    AwaitSignedReview {
        cand: Box<Cand>,
        review: Review,
    },
    Persisting {
        cand: Box<Cand>,
        job: JobId,
        attempt: u32,
        since: Timestamp,
    },
    AwaitRetry {
        cand: Box<Cand>,
        retry: Retry,
    },
    Rejected {
        cand: Box<Cand>,
        at_stage: RejectedAt,
        by: String,
        reason: String,
        at: Timestamp,
    },
    Refused {
        cand: Box<Cand>,
        reason: String,
        at: Timestamp,
    },
    Removing {
        by: String,
        keys: Keep,
        job: JobId,
        since: Timestamp,
        attempt: u32,
        retry_at: Option<Timestamp>,
        done: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loading {
    pub job: JobId,
    /// Id the new content will have.
    #[serde(with = "plain")]
    pub version: VersionId,
    pub trigger: Trigger,
    pub forced: bool,
    pub since: Timestamp,
    /// The parked state that goes on when nothing new is found; never itself `Loading`.
    pub resume: Box<Candidate>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// First load after the zone was added or its source changed.
    Added,
    Person(String),
    Notify,
    Timer,
    File,
    Restart,
    Retry,
    /// Content that the zone's owner has changed himself.
    Update,
}

/// How far a denial of existence is that is not in service yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    pub since: Timestamp,
    /// Leaves or blocks that are signed, and all.
    pub done: u64,
    pub total: u64,
}

impl Beside {
    /// The next job switches.
    pub fn is_whole(self) -> bool {
        self.total > 0 && self.done >= self.total
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignJob {
    pub job: JobId,
    /// Id the signed version will have.
    #[serde(with = "plain")]
    pub version: VersionId,
    pub mode: SignMode,
    pub attempt: u32,
    pub keys: KeySet,
    pub signing: u64,
    #[serde(with = "plain::opt")]
    pub based_on: Option<VersionId>,
    /// Last sign of life.
    pub since: Timestamp,
    /// Every signature anew, whatever is still good.
    pub full: bool,
    /// Why, for the history: reasons of upkeep that are taken along or are the cause.
    pub reasons: BTreeSet<Reason>,
    /// Units of an earlier run that may be taken over.
    pub units_of: Option<JobId>,
    /// Serial a person asked for.
    #[serde(with = "plain::opt")]
    pub serial: Option<Serial>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignMode {
    New,
    Rebase,
    Heal,
    Resume,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    Content,
    Refresh,
    Keys,
    Policy,
    Manual,
    Rollback,
    Sweep,
    Recovery,
}

/// What a waiting candidate or upkeep version does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Go on after the guard: unsigned review where there is one.
    Review,
    Sign(SignMode),
    Verify {
        healed: bool,
    },
    Persist,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    pub work: Work,
    pub cause: Cause,
    pub error: String,
    pub attempt: u32,
    pub since: Timestamp,
    /// None: only what the cause names helps.
    pub at: Option<Timestamp>,
    /// Units of the paused or failed job are kept for the next attempt.
    pub units_of: Option<JobId>,
    pub full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The stage failed; class as the stage reported it.
    Failed(Fault),
    /// `zone unpin`.
    Pinned,
    /// `zone resume publish`.
    PublishPaused,
    /// `zone maintenance disable`.
    Maintenance,
    /// The other lane is at work.
    OtherLane,
    /// The clock cannot be trusted.
    Clock,
    /// The disk is full.
    Storage,
    /// A review of upkeep said no.
    Review,
    /// The gate refused upkeep twice.
    Refused,
    /// Restored from a backup: servers are asked first.
    Doubt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RejectedAt {
    Guard,
    UnsignedReview,
    /// The signer found content that cannot be signed.
    Signer,
    SignedReview,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    pub stage: Stage,
    #[serde(with = "plain")]
    pub version: VersionId,
    /// Rules as they were when the review was opened.
    pub rules: ReviewRules,
    pub revision: u64,
    pub opened_at: Timestamp,
    pub hook: Hook,
    /// Index of the hook whose turn it is.
    pub hook_index: usize,
    /// Hook runs that gave no verdict, in a row.
    pub failures: u32,
    /// "Not now" answers in a row.
    pub deferrals: u32,
    pub last_error: Option<String>,
    /// When a manual review runs out.
    pub deadline: Option<Timestamp>,
    /// The reviewer's report says that an earlier approval did not cover this version.
    pub again: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hook {
    /// The review slot is taken by the other lane; only upkeep waits so.
    NotOpened,
    /// People decide.
    Person,
    Running {
        run: JobId,
        deadline: Timestamp,
    },
    Backoff {
        at: Timestamp,
    },
    /// The hook gave no verdict; a person must.
    Held,
}

/// The upkeep lane: what is live, signed again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upkeep {
    #[default]
    Idle,
    Signing {
        job: SignJob,
        approved_fp: Option<Fp>,
    },
    Verifying {
        up: Box<UpJob>,
        job: JobId,
        healed: bool,
        attempt: u32,
        since: Timestamp,
    },
    AwaitReview {
        up: Box<UpJob>,
        review: Review,
    },
    Persisting {
        up: Box<UpJob>,
        job: JobId,
        attempt: u32,
        since: Timestamp,
    },
    AwaitRetry {
        up: Option<Box<UpJob>>,
        reasons: BTreeSet<Reason>,
        retry: Retry,
    },
}

/// A version of upkeep on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpJob {
    pub signed: Signed,
    pub reasons: BTreeSet<Reason>,
    pub approved_fp: Option<Fp>,
    pub approvals: Vec<Approval>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub load: Option<PendingLoad>,
    /// Upkeep asked for that does not follow from live itself.
    pub upkeep: BTreeSet<Reason>,
    /// The upkeep asked for makes every signature anew.
    pub full: bool,
    /// Serial wanted by `resign --serial`.
    #[serde(with = "plain::opt")]
    pub serial: Option<Serial>,
    /// Rejections of upkeep by review in a row.
    pub rejections: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingLoad {
    pub forced: bool,
    pub trigger: Trigger,
    pub since: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modes {
    pub maintenance: Option<Maintenance>,
    pub pin: Option<Pin>,
    pub load_paused: Option<Timestamp>,
    pub publish_paused: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    pub since: Timestamp,
    pub until: Option<Timestamp>,
    pub by: String,
    /// Signatures are refreshed as usual; without, only at critical runway.
    pub resign: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The published version whose content stays.
    #[serde(with = "plain")]
    pub version: VersionId,
    pub since: Timestamp,
    pub until: Option<Timestamp>,
    pub by: String,
}

/// How long the live signatures last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunwayClass {
    Normal,
    Late,
    Critical,
    Emergency,
}

/// What `zone status` calls the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApiState {
    Restoring,
    WaitingSource,
    Loading,
    UnsignedReview,
    WaitingKeys,
    Signing,
    Verifying,
    SignedReview,
    Publishing,
    Published,
    Expired,
    Halted,
    Removed,
}

impl ApiState {
    pub fn as_str(self) -> &'static str {
        match self {
            ApiState::Restoring => "restoring",
            ApiState::WaitingSource => "waiting-source",
            ApiState::Loading => "loading",
            ApiState::UnsignedReview => "unsigned-review",
            ApiState::WaitingKeys => "waiting-keys",
            ApiState::Signing => "signing",
            ApiState::Verifying => "verifying",
            ApiState::SignedReview => "signed-review",
            ApiState::Publishing => "publishing",
            ApiState::Published => "published",
            ApiState::Expired => "expired",
            ApiState::Halted => "halted",
            ApiState::Removed => "removed",
        }
    }
}

impl Zone {
    /// A zone that was just added: nothing live, the first load asked for (the first event, of
    /// whatever kind, starts it).
    pub fn new(id: ZoneId, name: &str, source: &str, settings: Settings, seed: u64) -> Zone {
        Zone {
            id,
            name: name.to_owned(),
            settings,
            source: Source {
                text: source.to_owned(),
                ..Source::default()
            },
            keys: KeySet::default(),
            live: None,
            candidate: Candidate::Idle,
            upkeep: Upkeep::Idle,
            beside: None,
            pending: Pending {
                load: Some(PendingLoad {
                    forced: false,
                    trigger: Trigger::Added,
                    since: Timestamp::EPOCH,
                }),
                ..Pending::default()
            },
            modes: Modes::default(),
            storage_full: None,
            clock_unsafe: None,
            conflict: None,
            doubt: None,
            ahead: None,
            retained: Vec::new(),
            rejected: None,
            used_serial: None,
            alerts: BTreeMap::new(),
            settled_at: Timestamp::EPOCH,
            next_version: 1,
            next_job: 1,
            next_entry: 1,
            seed,
        }
    }

    pub fn runway(&self, now: Timestamp) -> RunwayClass {
        let Some(live) = &self.live else {
            return RunwayClass::Normal;
        };
        let left = live.min_exp.since(now);
        // At the limit itself the class has changed: that is when the timer fires.
        let r = &self.settings.runway;
        if left <= r.emergency.min(r.critical) {
            RunwayClass::Emergency
        } else if left <= r.critical {
            RunwayClass::Critical
        } else if left <= r.warning {
            RunwayClass::Late
        } else {
            RunwayClass::Normal
        }
    }

    /// This job makes the version that takes over a denial of existence that is whole.
    pub(crate) fn switches_with(&self, job: &SignJob) -> bool {
        self.beside.is_some_and(Beside::is_whole) && job.reasons.iter().eq([&Reason::Policy])
    }

    /// The source has been silent for too long and the policy wants silence from us too.
    pub fn is_expired(&self) -> bool {
        self.source.expired && self.settings.on_expiry == OnExpiry::Stop
    }

    /// The live version's content, for candidates and rollbacks.
    pub(crate) fn retained(&self, version: VersionId) -> Option<&Retained> {
        self.retained
            .iter()
            .find(|r| r.version == version || r.of == version)
    }

    pub fn api_state(&self) -> ApiState {
        self.candidate.api_state().unwrap_or(match &self.live {
            None => ApiState::WaitingSource,
            Some(_) if self.is_expired() => ApiState::Expired,
            Some(_) => ApiState::Published,
        })
    }
}

impl Candidate {
    /// None for `Idle`: there live decides.
    pub fn api_state(&self) -> Option<ApiState> {
        Some(match self {
            Candidate::Idle => return None,
            Candidate::Restoring { .. } => ApiState::Restoring,
            Candidate::Loading(_) | Candidate::Guarding { .. } => ApiState::Loading,
            Candidate::AwaitGuardApproval { .. } | Candidate::AwaitUnsignedReview { .. } => {
                ApiState::UnsignedReview
            }
            Candidate::Signing { .. } => ApiState::Signing,
            Candidate::Verifying { .. } => ApiState::Verifying,
            Candidate::AwaitSignedReview { .. } => ApiState::SignedReview,
            Candidate::Persisting { .. } => ApiState::Publishing,
            Candidate::AwaitRetry { retry, .. } => match (retry.cause, retry.work) {
                (Cause::Failed(Fault::Token | Fault::Keys), _) => ApiState::WaitingKeys,
                (_, Work::Review) => ApiState::UnsignedReview,
                (_, Work::Sign(_)) => ApiState::Signing,
                (_, Work::Verify { .. }) => ApiState::Verifying,
                (_, Work::Persist) => ApiState::Publishing,
            },
            Candidate::Rejected { .. } | Candidate::Refused { .. } => ApiState::Halted,
            Candidate::Removing { .. } => ApiState::Removed,
        })
    }

    /// Name of the state, as in the table of transitions.
    pub fn name(&self) -> &'static str {
        match self {
            Candidate::Idle => "Idle",
            Candidate::Restoring { .. } => "Restoring",
            Candidate::Loading(_) => "Loading",
            Candidate::Guarding { .. } => "Guarding",
            Candidate::AwaitGuardApproval { .. } => "AwaitGuardApproval",
            Candidate::AwaitUnsignedReview { .. } => "AwaitUnsignedReview",
            Candidate::Signing { .. } => "Signing",
            Candidate::Verifying { .. } => "Verifying",
            Candidate::AwaitSignedReview { .. } => "AwaitSignedReview",
            Candidate::Persisting { .. } => "Persisting",
            Candidate::AwaitRetry { .. } => "AwaitRetry",
            Candidate::Rejected { .. } => "Rejected",
            Candidate::Refused { .. } => "Refused",
            Candidate::Removing { .. } => "Removing",
        }
    }

    /// The content on its way, also while something newer is being loaded.
    pub fn cand(&self) -> Option<&Cand> {
        match self {
            Candidate::Idle | Candidate::Removing { .. } => None,
            Candidate::Restoring { saved, .. } => saved.cand(),
            Candidate::Loading(l) => l.resume.cand(),
            Candidate::Guarding { cand, .. }
            | Candidate::AwaitGuardApproval { cand, .. }
            | Candidate::AwaitUnsignedReview { cand, .. }
            | Candidate::Signing { cand, .. }
            | Candidate::Verifying { cand, .. }
            | Candidate::AwaitSignedReview { cand, .. }
            | Candidate::Persisting { cand, .. }
            | Candidate::AwaitRetry { cand, .. }
            | Candidate::Rejected { cand, .. }
            | Candidate::Refused { cand, .. } => Some(cand),
        }
    }

    /// The open review, also while something newer is being loaded.
    pub fn review(&self) -> Option<&Review> {
        match self {
            Candidate::AwaitUnsignedReview { review, .. }
            | Candidate::AwaitSignedReview { review, .. } => Some(review),
            Candidate::Loading(l) => l.resume.review(),
            _ => None,
        }
    }

    /// The state without a load that runs beside it.
    pub fn parked(&self) -> &Candidate {
        match self {
            Candidate::Loading(l) => &l.resume,
            other => other,
        }
    }

    /// Signs, verifies or persists: at most one lane may.
    pub fn is_active(&self) -> bool {
        matches!(
            self,
            Candidate::Signing { .. } | Candidate::Verifying { .. } | Candidate::Persisting { .. }
        )
    }
}

impl Upkeep {
    pub fn is_active(&self) -> bool {
        matches!(
            self,
            Upkeep::Signing { .. } | Upkeep::Verifying { .. } | Upkeep::Persisting { .. }
        )
    }

    pub fn name(&self) -> &'static str {
        match self {
            Upkeep::Idle => "Idle",
            Upkeep::Signing { .. } => "Signing",
            Upkeep::Verifying { .. } => "Verifying",
            Upkeep::AwaitReview { .. } => "AwaitReview",
            Upkeep::Persisting { .. } => "Persisting",
            Upkeep::AwaitRetry { .. } => "AwaitRetry",
        }
    }

    pub fn signed(&self) -> Option<&Signed> {
        match self {
            Upkeep::Idle | Upkeep::Signing { .. } => None,
            Upkeep::Verifying { up, .. }
            | Upkeep::AwaitReview { up, .. }
            | Upkeep::Persisting { up, .. } => Some(&up.signed),
            Upkeep::AwaitRetry { up, .. } => up.as_ref().map(|u| &u.signed),
        }
    }

    pub fn review(&self) -> Option<&Review> {
        match self {
            Upkeep::AwaitReview { review, .. } => Some(review),
            _ => None,
        }
    }
}
