//! What happens next to a version of a zone: the approval pipeline as one state machine.
//!
//! [`step`] takes the durable value of a zone, one event and the time, and gives the next value
//! and what is to be done about it. Nothing here does I/O, reads a clock or draws a random number.
//! Whoever performs the actions commits the value first: an action is harmless when it is repeated
//! after a crash, because it names its job, its version or its history number.
//!
//! Reading order: [`state`] (the value), [`event`], [`step`](mod@step) (the table), `candidate` and
//! `upkeep` (the lanes), `effects` (actions that follow from what changed), [`deadline`],
//! [`restart`].

pub mod action;
pub mod alert;
mod backoff;
mod candidate;
pub mod deadline;
pub mod doubt;
mod effects;
pub mod event;
pub mod guard;
pub mod history;
mod plain;
mod request;
pub mod restart;
mod review;
pub mod settings;
pub mod state;
pub mod step;
mod upkeep;

pub use action::{Accepted, Action, Refusal, RefusalCode, Serve};
pub use alert::{Alert, AlertKey, Severity};
pub use deadline::next_deadline;
pub use doubt::{Asked, doubt};
pub use event::{
    Actor, Command, Event, Fault, GuardOutcome, Keep, Keepsake, Lost, Request, RequestId, Verdict,
};
pub use history::{HistoryEntry, HistoryKind};
pub use restart::restore;
pub use settings::Settings;
pub use state::{Candidate, Live, Zone};
pub use step::step;
