//! The machine against a simulated world: random walks with all invariants, stories, the table.

mod stories;
mod table;
mod walk;
mod world;
