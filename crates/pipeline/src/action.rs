//! Everything a zone can ask its surroundings to do.
//!
//! The order in the list is the order to perform them in, after the value is committed.

use std::collections::BTreeSet;

use cascade_time::Timestamp;
use cascade_zone::{Serial, VersionId};

use crate::alert::{Alert, AlertKey};
use crate::event::{Keep, RequestId};
use crate::history::HistoryEntry;
use crate::state::{ApiState, JobId, KeySet, Reason, SignMode, Stage};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A job whose result is no longer wanted; `keep_units`: what it signed will be taken over.
    Cancel {
        job: JobId,
        keep_units: bool,
    },
    /// TERM, then KILL, to the process group of this run.
    KillHook {
        run: JobId,
    },

    /// Read the source into version `version`.
    StartLoad {
        job: JobId,
        version: VersionId,
        forced: bool,
    },
    /// Compare version `version` with live and answer `GuardResult`.
    EvaluateGuard {
        job: JobId,
        version: VersionId,
        against: Option<VersionId>,
    },
    StartSign(StartSign),
    /// `against`: the live version it may take checked signatures from.
    StartVerify {
        job: JobId,
        version: VersionId,
        against: Option<VersionId>,
    },
    /// Make the signed version durable; the commit of the answer to `PersistDone` makes it live.
    Persist {
        job: JobId,
        version: VersionId,
        despite_verification: bool,
    },
    /// Keep the waiting candidate in its file, so that it survives a restart. Names nothing that
    /// is waited for; repeating it is harmless.
    SaveCandidate {
        unsigned: VersionId,
        signed: Option<VersionId>,
    },
    /// Read the files of the zone back; answer `Restored` or `RestoreFailed`.
    Restore {
        live: Option<VersionId>,
        unsigned: Option<VersionId>,
        signed: Option<VersionId>,
    },
    /// Set aside files and state of a zone that is removed; answer `RemoveDone`.
    SetAside {
        job: JobId,
        keys: Keep,
    },

    /// What the review server of this stage shows from now on; None: SERVFAIL.
    ShowForReview {
        stage: Stage,
        version: Option<VersionId>,
    },
    RunHook(RunHook),

    /// What the publication server answers from now on.
    Publish(Serve),
    SendNotify {
        version: VersionId,
        serial: Serial,
    },
    WatchSecondaries {
        version: VersionId,
        serial: Serial,
    },
    /// Transfers and NOTIFY of the live version are held (or no longer).
    HoldTransfers(bool),
    TellKeyManager {
        version: VersionId,
        serial: Serial,
        keys: KeySet,
        at: Timestamp,
    },

    Record(HistoryEntry),
    Alert(Alert),
    ClearAlert(AlertKey),
    /// Release memory and files of a version nothing refers to any more.
    DropVersion(VersionId),
    Answer {
        request: RequestId,
        result: Result<Accepted, Refusal>,
    },
    /// The value's next deadline changed; None: nothing to wait for.
    SetTimer(Option<Timestamp>),
    /// The zone is gone: forget its value.
    Forget,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartSign {
    pub job: JobId,
    /// Id of the signed version to be made.
    pub version: VersionId,
    /// An earlier signing of the same content whose good signatures are taken over.
    pub previous: Option<VersionId>,
    /// The content.
    pub unsigned: VersionId,
    /// The live version whose still good signatures are taken over.
    pub based_on: Option<VersionId>,
    pub mode: SignMode,
    pub full: bool,
    pub keys: KeySet,
    /// The new serial must exceed this one (RFC 1982) whatever the policy says.
    pub above: Option<Serial>,
    /// Serial asked for by a person.
    pub serial: Option<Serial>,
    pub reasons: BTreeSet<Reason>,
    pub units_of: Option<JobId>,
    pub upkeep: bool,
    pub runway: crate::state::RunwayClass,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunHook {
    pub run: JobId,
    pub stage: Stage,
    pub version: VersionId,
    /// Which of the policy's hooks.
    pub hook: usize,
    pub attempt: u32,
    pub deadline: Timestamp,
    pub reason: Reason,
    pub unsigned: VersionId,
    pub serial: Serial,
    pub previous: Option<Serial>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    Version(VersionId),
    /// SERVFAIL with EDE 14 (RFC 8914): not ready, or expired.
    NotReady,
    /// REFUSED: the zone is being removed.
    Gone,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// What will happen, when it is not at once; empty otherwise.
    pub note: String,
    /// What would let it happen now.
    pub commands: Vec<String>,
    /// Who or what is still missing, for approvals.
    pub missing: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    NotUnderReview,
    WrongVersion,
    NotHalted,
    NotRejected,
    GateRefused,
    Halted,
    NotApprover,
    AlreadyApproved,
    UnknownVersion,
    MaintenanceState,
    NotPinned,
    NotPaused,
    NothingLive,
    SerialTooLow,
    Restoring,
    Removing,
    Busy,
}

impl RefusalCode {
    /// The problem's name in the control API.
    pub fn as_str(self) -> &'static str {
        match self {
            RefusalCode::NotUnderReview => "not-under-review",
            RefusalCode::WrongVersion => "wrong-version",
            RefusalCode::NotHalted => "not-halted",
            RefusalCode::NotRejected => "not-rejected",
            RefusalCode::GateRefused => "gate-refused",
            RefusalCode::Halted => "halted",
            RefusalCode::NotApprover => "not-approver",
            RefusalCode::AlreadyApproved => "already-approved",
            RefusalCode::UnknownVersion => "unknown-version",
            RefusalCode::MaintenanceState => "maintenance-state",
            RefusalCode::NotPinned => "not-pinned",
            RefusalCode::NotPaused => "not-paused",
            RefusalCode::NothingLive => "nothing-live",
            RefusalCode::SerialTooLow => "serial-too-low",
            RefusalCode::Restoring => "restoring",
            RefusalCode::Removing => "removing",
            RefusalCode::Busy => "busy",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: RefusalCode,
    pub state: ApiState,
    pub reason: String,
    /// The commands that would help; may be empty.
    pub commands: Vec<String>,
}
