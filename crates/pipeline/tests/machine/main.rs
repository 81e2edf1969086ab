//! The machine against a simulated world: random walks with all invariants, stories, the table.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod doubt;
mod stories;
mod table;
mod walk;
mod world;
