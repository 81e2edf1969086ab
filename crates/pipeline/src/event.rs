//! Everything that can happen to a zone.

use std::time::Duration;

use cascade_time::Timestamp;
use cascade_zone::{Serial, VersionId};
use serde::{Deserialize, Serialize};

use crate::doubt::Asked;
use crate::settings::Settings;
use crate::state::{Fp, JobId, KeySet, Live, Origin, Reason, Report, Stage, Trigger};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// From a person or their program; answered by exactly one `Action::Answer`.
    Request(Request),
    /// The time of [`crate::next_deadline`] has come: retries, ends of reviews, refresh, watchdog.
    Timer,

    // Loader.
    SourceSignal(Trigger),
    LoadUnchanged {
        job: JobId,
        expires_at: Option<Timestamp>,
    },
    LoadDone {
        job: JobId,
        loaded: Loaded,
    },
    LoadFailed {
        job: JobId,
        error: String,
    },
    SourceExpired,
    SourceBack,

    // Guard and hooks.
    GuardResult {
        job: JobId,
        outcome: GuardOutcome,
        report: Report,
    },
    HookDone {
        run: JobId,
        verdict: Verdict,
    },
    HookFailed {
        run: JobId,
        error: String,
    },

    // Signer, verifier, key manager.
    SignProgress {
        job: JobId,
    },
    SignDone {
        job: JobId,
        signed: SignResult,
    },
    /// Nothing to be done; `next_due` as for a signed version.
    SignNothing {
        job: JobId,
        next_due: Timestamp,
    },
    /// No version yet: another denial of existence is being built beside what is live, and goes on
    /// with the next job. `done` of `total` leaves or blocks; when all are, the next job switches. `next_due`: all else is as it should be
    /// until then; absent: not looked at.
    SignDeferred {
        job: JobId,
        next_due: Option<Timestamp>,
        done: u64,
        total: u64,
    },
    SignFailed {
        job: JobId,
        fault: Fault,
        error: String,
    },
    VerifyPassed {
        job: JobId,
        report: Report,
    },
    /// `healable`: the findings lie in signatures or denial, so signing those anew may help.
    VerifyRefused {
        job: JobId,
        healable: bool,
        report: Report,
    },
    VerifyImpossible {
        job: JobId,
        error: String,
    },
    RefreshDue,
    KeysChanged(KeySet),
    SweepFinding {
        text: String,
    },

    // Storage, clock, process.
    PersistDone {
        job: JobId,
    },
    PersistFailed {
        job: JobId,
        error: String,
    },
    StorageFull,
    StorageOk,
    ClockUnsafe {
        why: String,
    },
    ClockSafe,
    DelegationConflict {
        what: String,
    },
    DelegationOk,
    /// Only in doubt.
    ServersAsked(Asked),
    /// A secondary serves a serial that is newer than what is live: another signer, or an old state
    /// of this one. `raise`: ours is to go above it.
    SecondaryAhead {
        serial: Serial,
        server: String,
        raise: bool,
    },
    Restored {
        candidate: Keepsake,
    },
    RestoreFailed(Lost),
    /// A task of ours panicked while doing this job.
    TaskPanicked {
        job: JobId,
        error: String,
    },
    /// Files and keys of a removed zone are set aside.
    RemoveDone {
        job: JobId,
    },
    RemoveFailed {
        job: JobId,
        error: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub id: RequestId,
    pub by: Actor,
    pub command: Command,
}

/// Who asks, as the control API established it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    pub name: String,
    pub groups: Vec<String>,
    /// Holds the role approver.
    pub approver: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `forced`: everything is read again even if it looks unchanged.
    Load {
        forced: bool,
    },
    /// `of`: the serial or version under review that the person saw.
    Approve {
        stage: Stage,
        of: Option<Subject>,
        comment: Option<String>,
    },
    Reject {
        stage: Stage,
        of: Option<Subject>,
        reason: Option<String>,
    },
    Override {
        stage: Stage,
        despite_verification: bool,
    },
    Reset,
    Rollback {
        to: VersionId,
        pin: bool,
    },
    Resign {
        full: bool,
        serial: Option<Serial>,
    },
    Pin {
        span: Option<Duration>,
    },
    Unpin,
    Pause(Part),
    Resume(Part),
    MaintenanceOn {
        resign: bool,
        span: Option<Duration>,
    },
    MaintenanceOff,
    /// The new source, as `Source::text`.
    ChangeSource {
        source: String,
    },
    ChangePolicy {
        settings: Box<Settings>,
    },
    Remove {
        keys: Keep,
    },
}

/// How a person names the version that is under review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Serial(Serial),
    Version(VersionId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Load,
    Publish,
}

/// What becomes of the keys of a removed zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    Keys,
    Purge,
}

/// New content; its version id is the one `StartLoad` gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub content_fp: Fp,
    pub source_serial: Serial,
    pub origin: Origin,
    pub records: u64,
    pub octets: u64,
    pub expires_at: Option<Timestamp>,
    pub report: Report,
}

/// A signed version; its id is the one `StartSign` gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignResult {
    pub serial: Serial,
    pub min_exp: Timestamp,
    pub next_due: Timestamp,
    pub reviewed_fp: Fp,
    /// It has the denial of existence of the version that is live, while another is being built: the
    /// policy is not met yet.
    pub unmet: bool,
    pub report: Report,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardOutcome {
    Pass,
    Warn,
    Hold,
    Reject,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Approve,
    Reject {
        reason: String,
    },
    /// Not now: again after a while.
    Retry {
        reason: String,
    },
    /// A person shall decide.
    Hold {
        reason: String,
    },
}

/// Why a stage failed, by who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The token is away or overloaded.
    Token,
    /// Key missing, identity or PIN wrong, none usable yet.
    Keys,
    Storage,
    Clock,
    /// The content cannot be signed.
    Content,
    /// Verification could not be done.
    Verifier,
    /// Our fault.
    Bug,
}

/// What recovery found of the candidate of the saved state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keepsake {
    /// There was none to find.
    None,
    /// Its content is whole, its signatures are not there.
    Unsigned,
    /// Its file is whole.
    Whole,
    /// Its delta frames are complete: only the commit was missing.
    Persisted,
    /// Cannot be read, or its fingerprint differs.
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// An older published version could be read.
    Old(Box<Live>),
    /// Content is whole but signatures are damaged.
    Signatures,
    /// Nothing usable.
    Nothing { why: String },
}

impl Actor {
    pub fn new(name: &str, approver: bool) -> Self {
        Actor {
            name: name.into(),
            groups: Vec::new(),
            approver,
        }
    }

    /// Whether the person may give verdicts where these approvers are asked for.
    pub fn may_approve(&self, approvers: &[String]) -> bool {
        if approvers.is_empty() {
            return self.approver;
        }
        approvers.iter().any(|a| {
            *a == self.name
                || self
                    .groups
                    .iter()
                    .any(|g| g == a.strip_prefix('@').unwrap_or(a))
        })
    }
}

impl Event {
    /// The upkeep an outside event asks for.
    pub(crate) fn reason(&self) -> Option<Reason> {
        match self {
            Event::RefreshDue => Some(Reason::Refresh),
            Event::SweepFinding { .. } => Some(Reason::Sweep),
            _ => None,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Event::Request(r) => r.command.name(),
            Event::Timer => "Timer",
            Event::SourceSignal(_) => "SourceSignal",
            Event::LoadUnchanged { .. } => "LoadUnchanged",
            Event::LoadDone { .. } => "LoadDone",
            Event::LoadFailed { .. } => "LoadFailed",
            Event::SourceExpired => "SourceExpired",
            Event::SourceBack => "SourceBack",
            Event::GuardResult { .. } => "GuardResult",
            Event::HookDone { .. } => "HookDone",
            Event::HookFailed { .. } => "HookFailed",
            Event::SignProgress { .. } => "SignProgress",
            Event::SignDone { .. } => "SignDone",
            Event::SignNothing { .. } => "SignNothing",
            Event::SignDeferred { .. } => "SignDeferred",
            Event::SignFailed { .. } => "SignFailed",
            Event::VerifyPassed { .. } => "VerifyPassed",
            Event::VerifyRefused { .. } => "VerifyRefused",
            Event::VerifyImpossible { .. } => "VerifyImpossible",
            Event::RefreshDue => "RefreshDue",
            Event::KeysChanged(_) => "KeysChanged",
            Event::SweepFinding { .. } => "SweepFinding",
            Event::PersistDone { .. } => "PersistDone",
            Event::PersistFailed { .. } => "PersistFailed",
            Event::StorageFull => "StorageFull",
            Event::StorageOk => "StorageOk",
            Event::ClockUnsafe { .. } => "ClockUnsafe",
            Event::ClockSafe => "ClockSafe",
            Event::DelegationConflict { .. } => "DelegationConflict",
            Event::DelegationOk => "DelegationOk",
            Event::ServersAsked(_) => "ServersAsked",
            Event::SecondaryAhead { .. } => "SecondaryAhead",
            Event::Restored { .. } => "Restored",
            Event::RestoreFailed(_) => "RestoreFailed",
            Event::TaskPanicked { .. } => "TaskPanicked",
            Event::RemoveDone { .. } => "RemoveDone",
            Event::RemoveFailed { .. } => "RemoveFailed",
        }
    }
}

impl Command {
    pub fn name(&self) -> &'static str {
        match self {
            Command::Load { .. } => "LoadRequested",
            Command::Approve { .. } => "Approve",
            Command::Reject { .. } => "Reject",
            Command::Override { .. } => "Override",
            Command::Reset => "Reset",
            Command::Rollback { .. } => "Rollback",
            Command::Resign { .. } => "Resign",
            Command::Pin { .. } => "Pin",
            Command::Unpin => "Unpin",
            Command::Pause(_) => "Pause",
            Command::Resume(_) => "Resume",
            Command::MaintenanceOn { .. } => "MaintenanceOn",
            Command::MaintenanceOff => "MaintenanceOff",
            Command::ChangeSource { .. } => "SourceChanged",
            Command::ChangePolicy { .. } => "PolicyChanged",
            Command::Remove { .. } => "Remove",
        }
    }
}
