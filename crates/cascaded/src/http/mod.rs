//! The HTTP side of the daemon: listeners, limits, identity, roles, and errors as documents.
//!
//! `router` finds the row of the route table, `guard` refuses what must not come in, `dispatch`
//! calls the [`Backend`], `answer` writes. Nothing here knows what a zone is.

// A problem is made at most once per request, and only when it is refused.
#![allow(clippy::result_large_err)]

mod answer;
mod backend;
mod caller;
mod dispatch;
mod guard;
mod limit;
mod router;
mod serve;
#[cfg(test)]
mod tests;

pub use backend::{Backend, Caller, Deed, Done, Identity, Second, Streamed};
pub use caller::Admins;
pub use guard::zone_in_body;
pub use serve::{Http, Settings};
