//! Simulated rolls: years of them, with every cache state checked.

mod mutants;
mod rolls;
mod timelines;
mod world;
