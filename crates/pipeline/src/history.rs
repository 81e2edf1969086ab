//! What the history of a zone says, in the words operators know.

use cascade_time::Timestamp;
use cascade_zone::{Serial, VersionId};
use serde::{Deserialize, Serialize};

use crate::plain;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// From 1, without gaps, per zone.
    pub seq: u64,
    pub at: Timestamp,
    pub kind: HistoryKind,
    #[serde(with = "plain::opt")]
    pub version: Option<VersionId>,
    #[serde(with = "plain::opt")]
    pub serial: Option<Serial>,
    /// Short text for people, one line.
    pub text: String,
    pub reason: Option<String>,
    pub actor: Option<String>,
    pub duration_ms: Option<u64>,
    /// At most 4 KiB; larger ones are replaced by a note.
    pub details: serde_json::Value,
}

macro_rules! kinds {
    ($($kind:ident $event:literal $text:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum HistoryKind { $($kind,)* }

        impl HistoryKind {
            pub const ALL: &'static [HistoryKind] = &[$(HistoryKind::$kind,)*];

            /// The text form.
            pub fn text(self) -> &'static str {
                match self { $(HistoryKind::$kind => $text,)* }
            }

            /// Kind of the event that the control API derives from it.
            pub fn event(self) -> &'static str {
                match self { $(HistoryKind::$kind => $event,)* }
            }
        }
    };
}

kinds! {
    ZoneRemoved "zone.removed" "Zone removed";
    ZoneRestored "zone.changed" "Zone restored";
    ZoneRecovered "zone.changed" "Zone recovered from an older version";
    ServersAsked "zone.changed" "Servers asked after the restoration of a backup";
    PolicyChanged "zone.changed" "Policy changed";
    SourceChanged "zone.changed" "Source changed";
    MaintenanceOn "zone.maintenance" "Maintenance enabled";
    MaintenanceOff "zone.maintenance" "Maintenance disabled";
    Pinned "zone.pinned" "Content pinned";
    Unpinned "zone.unpinned" "Content unpinned";
    Paused "zone.paused" "Paused";
    Resumed "zone.resumed" "Resumed";
    ZoneReset "zone.reset" "Zone reset";
    LoadStarted "zone.source-seen" "Loading started";
    LoadUnchanged "zone.source-seen" "Source unchanged";
    NewVersion "zone.loaded" "New version received";
    LoadFailed "zone.load-failed" "Loading failed";
    SourceExpired "zone.expired" "Source expired";
    SourceBack "zone.source-seen" "Source back";
    GuardPassed "zone.loaded" "Change guard passed";
    GuardWarned "zone.loaded" "Change guard warned";
    GuardHeld "zone.held" "Change guard held the version";
    GuardRejected "zone.rejected" "Change guard rejected the version";
    GuardApproved "zone.approved" "Held version approved";
    UnsignedReviewPending "zone.review-pending" "Unsigned zone review pending";
    SignedReviewPending "zone.review-pending" "Signed zone review pending";
    HookStarted "zone.review-pending" "Review hook started";
    HookFailed "zone.review-pending" "Review hook failed";
    ReviewTimedOut "zone.review-pending" "Review timed out";
    ReviewHeld "zone.held" "Review waits for a person";
    ApprovalGiven "zone.approved" "Approval given, more are needed";
    UnsignedApproved "zone.approved" "Unsigned zone review approved";
    SignedApproved "zone.approved" "Signed zone review approved";
    UnsignedRejected "zone.rejected" "Unsigned zone review rejected";
    SignedRejected "zone.rejected" "Signed zone review rejected";
    ContentRejected "zone.rejected" "Content rejected by the signer";
    RejectedBefore "zone.rejected" "Content was rejected before and is not offered again";
    LateVerdict "zone.review-pending" "Verdict came too late and was ignored";
    Superseded "zone.loaded" "Candidate superseded";
    Overridden "zone.overridden" "Rejection overridden";
    VerificationOverridden "zone.overridden" "Refusal by verification overridden";
    SigningStarted "zone.signing" "Signing started";
    SigningSucceeded "zone.signed" "Signing succeeded";
    SigningNotNeeded "zone.signed" "Nothing to sign";
    DenialBuilding "zone.signing" "Another denial of existence is built beside the one in service";
    SigningFailed "zone.sign-failed" "Signing failed";
    SigningPaused "zone.signing" "Signing paused";
    SigningResumed "zone.signing" "Signing resumed";
    Healing "zone.signing" "Signatures that were refused are made anew";
    Verified "zone.verified" "Verification passed";
    VerifyRefused "zone.verify-failed" "Verification refused the version";
    VerifyImpossible "zone.verify-failed" "Verification could not be done";
    SweepFinding "zone.verify-failed" "Background check found a fault";
    Persisted "zone.published" "Version made durable";
    PersistFailed "zone.halted" "Version could not be made durable";
    Published "zone.published" "Version published";
    Withdrawn "zone.expired" "Zone withdrawn";
    RollbackStarted "zone.rolled-back" "Rollback started";
    RolledBack "zone.rolled-back" "Rolled back";
    KeysChanged "zone.signing" "Keys changed";
    KeyMade "key.generated" "Key made";
    KeyChanged "key.changed" "Key changed";
    RollStarted "roll.started" "Key roll started";
    RollStep "roll.step" "Key roll goes on";
    RollDone "roll.done" "Key roll over";
    DsWanted "ds.wanted" "Parent";
    DsSeen "ds.seen" "Delegation seen";
    Waiting "zone.halted" "Waiting";
    StorageFull "health.changed" "Storage full";
    StorageOk "health.changed" "Storage has room again";
    ClockUnsafe "clock.held" "Clock not safe";
    ClockSafe "clock.ok" "Clock safe";
    Conflict "health.changed" "Delegation names other keys";
    ConflictOver "health.changed" "Delegation names our keys";
    SecondaryAhead "health.changed" "Secondary serves a newer serial than ours";
    Bug "health.changed" "Internal fault";
}

/// Largest serialised `details`.
pub const MAX_DETAILS: usize = 4096;

/// Keeps details within [`MAX_DETAILS`].
pub(crate) fn bounded(details: serde_json::Value) -> serde_json::Value {
    if details.is_null() {
        return details;
    }
    match serde_json::to_vec(&details) {
        Ok(bytes) if bytes.len() <= MAX_DETAILS => details,
        _ => serde_json::json!({ "note": "left out: larger than 4 KiB; see the version's report" }),
    }
}

/// One line of at most 300 characters, for texts that come from outside.
pub(crate) fn line(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    first
        .chars()
        .filter(|c| !c.is_control())
        .take(300)
        .collect()
}
