//! Which serial each secondary serves.

mod machine;
mod task;

pub use machine::{Finding, Machine, Problem};
pub use task::{Seen, Table, WatchCommand, WatchEvent, Watcher};
