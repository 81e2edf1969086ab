//! Which serial each secondary serves (publishing.md §9).

mod machine;
mod task;

pub use machine::{Finding, Machine, Problem};
pub use task::{Seen, Table, WatchCommand, WatchEvent, Watcher};
