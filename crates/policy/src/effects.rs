//! What a change of policy does to the zones that use it (policy.md §8).

use serde::Serialize;

/// From harmless to final; the class of a plan is its largest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Taken over at once or at the next decision.
    None,
    /// Signatures take the new values as they are refreshed.
    Refresh,
    /// The next version is signed anew, in whole or in large part.
    Resign,
    /// Keys are replaced without the parent's help.
    Roll,
    /// The parent's DS set changes.
    Parent,
    /// Something goes that cannot come back.
    Destroy,
}
