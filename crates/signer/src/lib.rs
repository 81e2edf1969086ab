//! Signing: from an unsigned version, a plan and one point in time to a signed version.
//!
//! The crate makes no choices about keys or time: the plan says which keys sign what, `now` is one
//! value for a whole job. It verifies nothing of its own work; that is another crate's task.
//!
//! In reading order: [`plan`] what is wanted, [`serial`] the next SOA serial, [`refresh`] when
//! signatures expire, [`sign`] a job that signs everything, [`scope`] what else a job does,
//! [`sign_from`] a job that starts from the version before, [`change_denial`] another chain built
//! beside the one in service, then their parts.

mod adopt;
mod beside;
mod chain_patch;
mod due;
mod incremental;
pub mod job;
mod leaf;
mod leaf_patch;
mod leaf_splice;
mod nsec3;
mod piece;
pub mod plan;
pub mod refresh;
pub mod report;
mod rrsig;
pub mod scope;
pub mod serial;
mod sign;
mod slots;
mod touched;
mod unsign;
mod zonemd;

pub use adopt::{AdoptError, SourceRecord, adopt};
pub use beside::{Building, Changed, Pace, change_denial};
pub use due::{key_tick, next_due, next_upkeep};
pub use incremental::{Resigned, sign_from};
pub use job::{Job, Progress, Stage};
pub use nsec3::nsec3_hash;
pub use plan::{ApexKey, ApexOptions, ApexSet, DenialPlan, PlanError, SigningPlan, make_apex_set};
pub use refresh::{ClockGuard, ClockUnsafe, Times, TimesError};
pub use report::{KeyReport, SignReport};
pub use scope::{KeyPace, Left, Scope, WhyFull};
pub use serial::{
    Chosen, KeepRefresh, Occasion, SerialError, SerialNote, SerialPolicy, next_serial,
};
pub use sign::{SignError, Signed, sign};
pub use unsign::unsign;
