//! Which code verifies signatures: ring, or for many by one P-256 key the tables of `p256`.
//!
//! The tables are several times faster, and new. So they are believed only as far as ring confirms:
//! nothing before a self test, a hundredth of what they accept is repeated by ring, ring decides
//! whatever they do not accept, and the first disagreement turns them off until the process ends.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::finding::{Check, Finding, Verdict};
use crate::outcome::Judged;
use crate::p256::table::{Point, Table};
use crate::p256::{self, Answer, Job, Judge, Tables};

/// Which engine a run may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Tables for more than 2,000 signatures by one P-256 key, and for what comes after by a key that
    /// has one; ring for everything else.
    #[default]
    Auto,
    /// Ring for everything.
    Ring,
}

/// What the tables did in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineCounts {
    /// Signatures judged by tables.
    pub tables: u64,
    /// Of these, accepted by tables and repeated by ring.
    pub cross_checked: u64,
    /// Of these, not accepted by tables and decided by ring.
    pub decided_by_ring: u64,
    /// Signatures about which ring said something else.
    pub mismatches: u64,
}

impl EngineCounts {
    pub(crate) fn add(&mut self, other: &EngineCounts) {
        self.tables += other.tables;
        self.cross_checked += other.cross_checked;
        self.decided_by_ring += other.decided_by_ring;
        self.mismatches += other.mismatches;
    }
}

/// Signatures by one key in one run above which its table pays: building it and warming it up takes
/// as long as about 200 verifications by ring.
pub(crate) const WORTHWHILE: u64 = 2000;

/// Of so many accepted signatures one is repeated by ring.
const REPEATED: usize = 100;

/// Tables kept, of the keys used last: 0.85 MB each.
const KEPT: usize = 64;

const UNTESTED: u8 = 0;
const TESTING: u8 = 1;
const ON: u8 = 2;
const OFF: u8 = 3;

/// A key and its table.
type Kept = ([u8; 64], Arc<Table>);

/// Finds a table and makes it the one used last.
fn find(kept: &mut [Kept], key: &[u8; 64]) -> Option<Arc<Table>> {
    let at = kept.iter().position(|(k, _)| k == key)?;
    kept[at..].rotate_left(1);
    kept.last().map(|(_, table)| table.clone())
}

/// The tables of the process, shared by all zones.
pub(crate) struct TableEngine {
    state: AtomicU8,
    /// The self test has failed and nobody was told yet.
    alert: AtomicBool,
    generator: OnceLock<Option<Table>>,
    /// The key used last at the end.
    kept: Mutex<Vec<Kept>>,
    most: usize,
    judge: Judge,
    /// Accepted so far in batches too small to have a hundredth.
    in_small: AtomicU64,
}

impl TableEngine {
    /// Keeps at most `most` tables.
    fn new(judge: Judge, most: usize) -> TableEngine {
        TableEngine {
            state: AtomicU8::new(UNTESTED),
            alert: AtomicBool::new(false),
            generator: OnceLock::new(),
            kept: Mutex::new(Vec::new()),
            most,
            judge,
            in_small: AtomicU64::new(0),
        }
    }

    pub(crate) fn of_process() -> Arc<TableEngine> {
        static PROCESS: LazyLock<Arc<TableEngine>> =
            LazyLock::new(|| Arc::new(TableEngine::new(p256::judge, KEPT)));
        PROCESS.clone()
    }

    pub(crate) fn turn_off(&self) {
        self.state.store(OFF, Ordering::SeqCst);
    }

    /// Runs the self test at the first call. Who comes while it runs uses ring.
    fn is_on(&self, seed: &[u8]) -> bool {
        let first =
            self.state
                .compare_exchange(UNTESTED, TESTING, Ordering::SeqCst, Ordering::SeqCst);
        match first {
            Err(state) => state == ON,
            Ok(_) => {
                let good = self
                    .generator()
                    .is_some_and(|g| p256::selftest::run(self.judge, g, seed).is_ok());
                self.alert.store(!good, Ordering::SeqCst);
                self.state
                    .store(if good { ON } else { OFF }, Ordering::SeqCst);
                good
            }
        }
    }

    fn generator(&self) -> Option<&Table> {
        self.generator
            .get_or_init(|| Point::generator().map(Table::new))
            .as_ref()
    }

    /// The table of a key (x and y); `None` while the engine is not to be used, and for what is no
    /// point of the curve.
    pub(crate) fn table(&self, key: &[u8; 64]) -> Option<Arc<Table>> {
        if !self.is_on(key) {
            return None;
        }
        if let Some(table) = self.kept(key) {
            return Some(table);
        }
        // Built without the lock: others need not wait for it, and building it twice does no harm.
        let table = Arc::new(Table::new(Point::new(key)?));
        let mut kept = self.lock_kept();
        if let Some(table) = find(&mut kept, key) {
            return Some(table);
        }
        if kept.len() >= self.most {
            kept.remove(0);
        }
        kept.push((*key, table.clone()));
        Some(table)
    }

    /// The table of a key, if there is one already.
    pub(crate) fn kept(&self, key: &[u8; 64]) -> Option<Arc<Table>> {
        let on = self.state.load(Ordering::SeqCst) == ON;
        find(&mut self.lock_kept(), key).filter(|_| on)
    }

    fn lock_kept(&self) -> std::sync::MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of so many that were accepted ring shall repeat: a hundredth, rounded up; over small
    /// batches together, the first of all among them.
    fn to_repeat(&self, accepted: usize) -> usize {
        if accepted >= REPEATED {
            return accepted.div_ceil(REPEATED);
        }
        let before = self.in_small.fetch_add(accepted as u64, Ordering::Relaxed);
        let until = |n: u64| n.div_ceil(REPEATED as u64);
        (until(before.saturating_add(accepted as u64)) - until(before)) as usize
    }

    /// Judges `jobs` by the key of `table`; places of those that do not verify go to `bad`.
    /// `ring(i)` is ring's word on the i-th. False when the two disagree: the engine is off then and
    /// `bad` worth nothing.
    pub(crate) fn judge(
        &self,
        table: &Table,
        jobs: &[Job<'_>],
        ring: impl Fn(usize) -> bool,
        bad: &mut Vec<usize>,
        counts: &mut EngineCounts,
    ) -> bool {
        bad.clear();
        let on = self.state.load(Ordering::SeqCst) == ON;
        let Some(g) = self.generator().filter(|_| on) else {
            return false;
        };
        let mut answers = Vec::with_capacity(jobs.len());
        (self.judge)(Tables { g, q: table }, jobs, &mut answers);
        counts.tables += jobs.len() as u64;
        let mut mismatches = jobs.len().abs_diff(answers.len()) as u64;
        let mut accepted = Vec::with_capacity(jobs.len());
        for (i, answer) in answers.into_iter().enumerate().take(jobs.len()) {
            if answer == Answer::Good {
                accepted.push((xxh3_64(jobs[i].signature), i));
                continue;
            }
            counts.decided_by_ring += 1;
            match ring(i) {
                true => mismatches += (answer == Answer::Bad) as u64,
                false => bad.push(i),
            }
        }
        // Those with the lowest hashes: nobody who makes signatures chooses them.
        let repeated = self.to_repeat(accepted.len());
        if repeated < accepted.len() {
            accepted.select_nth_unstable(repeated);
        }
        for &(_, i) in &accepted[..repeated] {
            counts.cross_checked += 1;
            mismatches += !ring(i) as u64;
        }
        counts.mismatches += mismatches;
        if mismatches > 0 {
            self.turn_off();
        }
        mismatches == 0
    }
}

/// Runs `f` with the engine that is chosen. When tables and ring disagree, what the tables have
/// accepted before is doubtful too: everything is done again by ring alone, and the report says so.
pub(crate) fn with(choice: Engine, f: impl Fn(Option<Arc<TableEngine>>) -> Judged) -> Judged {
    match choice {
        Engine::Ring => f(None),
        Engine::Auto => guarded(TableEngine::of_process(), f),
    }
}

fn guarded(engine: Arc<TableEngine>, f: impl Fn(Option<Arc<TableEngine>>) -> Judged) -> Judged {
    let mut judged = f(Some(engine.clone()));
    let counts = judged.report.engine_counts;
    if counts.mismatches > 0 {
        judged = f(None);
        judged.report.engine_counts = counts;
        let what = format!(
            "verify-engine-mismatch: tables and ring disagree about {} signatures; tables are off \
             until the daemon restarts, and this version was verified by ring alone",
            counts.mismatches
        );
        warn(&mut judged, what);
    }
    if engine.alert.swap(false, Ordering::SeqCst) {
        let what = "verify-engine-self-test: the tables have failed their self test; they are off \
                    until the daemon restarts, and ring verifies everything";
        warn(&mut judged, what.into());
    }
    judged
}

fn warn(judged: &mut Judged, what: String) {
    let report = &mut judged.report;
    // In front, where it cannot fall off the end of what is kept.
    report
        .findings
        .insert(0, Finding::zone(Check::V03, what).warning());
    report.findings_total += 1;
    if report.verdict == Verdict::Passed {
        report.verdict = Verdict::PassedWithWarnings;
    }
}

#[cfg(test)]
mod tests;
