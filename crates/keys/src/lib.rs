//! The key manager's decision half: which keys a zone has, what each one does now, and what the
//! parent should have.
//!
//! No I/O, no clock, no randomness: the daemon asks [`next_action`], performs what it is told,
//! and reports with [`Event`]s, which [`ZoneKeys::apply`] folds into the state. It sleeps until
//! [`next_deadline`].
//!
//! Facts move a roll, plans do not: a wait ends when servers were seen to show the new data
//! ([`judge`]) and no cache obeying TTLs can still hold the old ([`TtlLog`]).
//!
//! ```text
//! key  roll  tables  ttl     who there is, the rolls step by step, the log of TTLs
//! state  goal  apex          goals of all keys -> one apex set; states derived from times
//! event  apply  evidence     what happened -> state
//! observe  judge  ds         answers of servers -> evidence
//! wish  next_action  upkeep  state + now -> what is due, and when to ask again
//! command  why  forecast    operators: orders, refusals, reasons, what will come
//! drawing                  rolls as pictures, for the manual
//! ```

mod key;
mod roll;
mod tables;
mod ttl;

mod apex;
mod goal;
mod state;

mod apply;
mod event;
mod evidence;

mod ds;
mod judge;
mod observe;

mod next_action;
mod upkeep;
mod wish;

mod command;
mod drawing;
mod forecast;
mod why;

mod hex;
#[cfg(feature = "mutants")]
pub mod mutants;
#[cfg(not(feature = "mutants"))]
mod mutants;
mod policy;
#[cfg(test)]
mod testkit;

#[cfg(test)]
mod double_ds;
#[cfg(test)]
mod notified;
#[cfg(test)]
mod removal;
#[cfg(test)]
mod steady;
mod stored;

pub use apex::{ApexSet, Cds};
pub use command::{Command, Refusal, decide, permitted};
pub use drawing::drawing;
pub use ds::{DsRecord, absent, at_or_past, present};
pub use event::{Event, Publication};
pub use forecast::{Assumptions, forecast};
pub use judge::judge;
pub use key::{Home, Key, KeyNum, KeyState, Origin, Role, Times, key_tag};
pub use next_action::{
    Action, FRESH_PROOF, Facts, Subject, is_automatic, is_published, next_action, next_deadline,
    step_event,
};
pub use observe::{
    Answer, Delegation, DsShown, MAX_MEMBERS, Member, MemberReport, Referral, STEADY, Scope,
    SeenKey, Sweep, SweepReport, Verdict, What, next_look, next_watch,
};
pub use policy::{Auto, CdsPolicy, KeyPolicy, KskRoll, RolePolicy, SignatureTimes, ZskRoll};
pub use roll::{
    Cause, Class, Dying, Goal, Instead, Met, Roll, RollType, Row, Seen, Stage, Step, Strategy,
    Witness,
};
pub use state::{CacheWait, Notified, Parent, Published, ZoneKeys};
pub use ttl::{ASSUMED_DS_TTL, Entry, Free, Served, TtlLog};
pub use why::{Alert, Waiting, Whom, alerts, waiting, waits_for, why};
pub use wish::{Wish, begin, due_at, roll_type, wishes};
