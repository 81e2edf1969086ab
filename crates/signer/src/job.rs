//! What surrounds a job: where it runs, how it is watched and stopped.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use cascade_crypto::Class;
use cascade_time::Clock;

/// The surroundings of one job.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Parallel parts run here. The job itself must be called from a thread outside of it, because
    /// it waits for tokens.
    pub pool: &'a rayon::ThreadPool,
    /// For measuring only; signatures depend on `now` alone.
    pub clock: &'a dyn Clock,
    pub progress: &'a Progress,
    /// Importance at tokens.
    pub class: Class,
    /// How long a token may take for one batch.
    pub token_wait: Duration,
}

/// What a job does at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Stage {
    Waiting,
    Collecting,
    Denial,
    Signing,
    TokenWait,
    Inserting,
    Zonemd,
    Finished,
}

const STAGES: [Stage; 8] = [
    Stage::Waiting,
    Stage::Collecting,
    Stage::Denial,
    Stage::Signing,
    Stage::TokenWait,
    Stage::Inserting,
    Stage::Zonemd,
    Stage::Finished,
];

/// Progress of a job, read from any thread; and the way to cancel it.
#[derive(Debug, Default)]
pub struct Progress {
    stage: AtomicU8,
    done: AtomicU64,
    total: AtomicU64,
    signatures: AtomicU64,
    threads: AtomicU64,
    cancelled: AtomicBool,
}

impl Progress {
    pub fn new() -> Progress {
        Progress::default()
    }

    pub fn stage(&self) -> Stage {
        STAGES
            .get(self.stage.load(Relaxed) as usize)
            .copied()
            .unwrap_or(Stage::Waiting)
    }

    /// Units done and units in all; a unit is a leaf or a block.
    pub fn units(&self) -> (u64, u64) {
        (self.done.load(Relaxed), self.total.load(Relaxed))
    }

    /// Signatures made so far.
    pub fn signatures(&self) -> u64 {
        self.signatures.load(Relaxed)
    }

    /// Ends the job before its next unit.
    pub fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }

    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Relaxed);
    }

    pub(crate) fn add_total(&self, units: usize) {
        self.total.fetch_add(units as u64, Relaxed);
    }

    pub(crate) fn unit_done(&self, signatures: usize) {
        self.done.fetch_add(1, Relaxed);
        self.signatures.fetch_add(signatures as u64, Relaxed);
        if let Some(i) = rayon::current_thread_index() {
            self.threads.fetch_or(1 << (i % 64), Relaxed);
        }
    }

    /// Threads that have done units.
    pub(crate) fn threads(&self) -> u32 {
        self.threads.load(Relaxed).count_ones()
    }
}
