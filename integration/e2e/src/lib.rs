//! A daemon in a temporary place, and what an operator does with it.
//!
//! Tests, the demo and the conformance suite share this: [`Site`] starts and stops `cascaded` with
//! a configuration of its own, runs `cascade` and `dig` against it, and looks at the control API;
//! [`judge`] has foreign programs look at signed zones, [`secondary`] has them follow one, and
//! [`follow`] follows one record by record.
#![allow(
    clippy::disallowed_methods,
    reason = "a test harness waits for programs, so it sleeps and reads the clock"
)]

pub mod bridge;
mod cli;
mod clock;
mod dns;
pub mod follow;
mod http;
pub mod judge;
pub mod many;
mod ports;
pub mod primary;
pub mod secondary;
mod site;
mod wait;
mod world;

pub use bridge::Bridge;
pub use cli::{Said, mask_times};
pub use dns::{Answer, Heard, ask, dig, serial, transfer};
pub use http::{Reply, over_tcp, over_unix};
pub use ports::Ports;
pub use site::{Failure, Site};
pub use wait::{PATIENCE, end, until, within};
pub use world::Server;
