//! Reviews of candidates.

use std::time::Duration;

use crate::def::section;
use crate::hook::{Command, Hook};
use crate::value::choice;

choice! {
    pub enum ReviewMode { Off = "off", Manual = "manual", Script = "script" }
}
choice! {
    /// After a rejection: go on with the next version, or stop the zone.
    pub enum OnReject { Discard = "discard", Halt = "halt" }
}
choice! {
    /// When a hook gave no verdict (ruling: only an exit status of its own is one).
    pub enum OnSilence { Hold = "hold", Reject = "reject" }
}
choice! {
    /// When newer content arrives during a review.
    pub enum OnNewer { Queue = "queue", Supersede = "supersede" }
}

section! {
    /// Review of a candidate before it goes on.
    pub struct Review {
        /// Who decides: "off" nobody, "manual" a person (cascade zone
        /// approve), "script" the hook's exit status.
        key "mode" => mode: ReviewMode = r#""off""# [why("the verification gate is always on; review of content is a local choice")];
        /// The command for mode "script". Exit 0 approves, 75 asks again
        /// later, any other status of its own rejects. Run directly, not by a
        /// shell; the candidate is described by CASCADE_ variables.
        opt "hook" => hook: Hook [eg(r#""/usr/local/bin/check-zone --strict""#)];
        /// Several commands, run in this order; all must approve. Instead of
        /// hook.
        opt "hooks" => hooks: Vec<Hook> [range(1, 16), eg(r#"["/usr/local/bin/count", "/usr/local/bin/lint -q"]"#)];
        /// Run the text of the hook with /bin/sh -c.
        key "hook-shell" => hook_shell: bool = "false" [why("no shell, no accidents of quoting")];
        /// How long a hook may take; never longer than hooks.timeout of the
        /// daemon's configuration.
        key "timeout" => timeout: Duration = r#""10m""# [range(1, 604_800), why("no official reference; a hook that waits for ever blocks the zone")];
        /// After a rejection: "discard" waits for the next version, "halt"
        /// stops the zone until a person acts.
        key "on-reject" => on_reject: OnReject = r#""discard""# [why("waiting for the next version recovers by itself")];
        /// When the hook takes too long: "hold" the version for a person, or
        /// "reject".
        key "on-timeout" => on_timeout: OnSilence = r#""hold""# [why("no verdict is not a rejection")];
        /// When the hook crashes or cannot be started.
        key "on-failure" => on_failure: OnSilence = r#""hold""# [why("no verdict is not a rejection")];
        /// When newer content arrives during a review: "queue" finishes the
        /// review first, "supersede" drops the candidate.
        key "on-newer" => on_newer: OnNewer = r#""queue""# [why("a source that changes often must not starve the review")];
        /// How many different persons must approve in mode "manual".
        key "approvals" => approvals: u32 = "1" [range(1, 16), why("one pair of eyes more than before")];
        /// Users and groups (with a leading "@") who may approve; empty: every
        /// user with the role approver.
        key "approvers" => approvers: Vec<String> = "[]" [why("roles decide unless names do")];
        /// Whether versions that only refresh signatures or keys are reviewed
        /// too. Unset: with mode "script" yes, with "manual" no.
        opt "upkeep" => upkeep: bool [only("signer.review"), eg("true")];
    }
}

impl Review {
    /// The commands to run, in order. Empty unless the mode is `script`.
    pub fn commands(&self) -> Vec<Command> {
        if self.mode != ReviewMode::Script {
            return Vec::new();
        }
        self.written()
            .filter_map(|h| h.command(self.hook_shell))
            .collect()
    }

    /// The commands as written, `hook` before `hooks`.
    pub fn written(&self) -> impl Iterator<Item = &Hook> {
        self.hook.iter().chain(self.hooks.iter().flatten())
    }

    /// Whether versions without new content are reviewed.
    pub fn reviews_upkeep(&self) -> bool {
        match self.mode {
            ReviewMode::Off => false,
            ReviewMode::Manual => self.upkeep.unwrap_or(false),
            ReviewMode::Script => self.upkeep.unwrap_or(true),
        }
    }
}
