//! Simulated rolls: years of them, with every cache state checked.

mod hands;
mod looks;
mod random;
mod rolls;
mod timelines;
