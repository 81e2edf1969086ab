//! The audit log and its writer: entries that come while the disk is busy share its next sync.
//!
//! Thousands of zones make their keys at the same time, and each has a few things to tell; with a
//! sync for each of them the log would be slower than the work that it tells of.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use cascade_archive::{AuditEntry, AuditLog};
use cascade_time::Timestamp;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::daemon::Counters;

/// Entries of one write: a few megabytes at most.
const TOGETHER: usize = 1024;

/// Entries go in, and are durable after a moment. A log that cannot be written is counted and
/// reported, and never stops an operation that keeps zones served.
pub struct Audit {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    turn: Condvar,
}

/// Requests wait for their entry, and a zone has a handful at a time: bounded by their numbers.
#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    stop: bool,
}

struct Waiting {
    /// None: somebody wants to know that what was before is written.
    entry: Option<(Timestamp, AuditEntry)>,
    tell: oneshot::Sender<()>,
}

impl Audit {
    /// # Errors
    /// The system gives no thread.
    pub fn new(log: AuditLog, counters: Arc<Counters>) -> std::io::Result<Audit> {
        let shared = Arc::<Shared>::default();
        let of_writer = shared.clone();
        let writer = std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || of_writer.write_all(log, &counters))?;
        Ok(Audit {
            shared,
            writer: Some(writer),
        })
    }

    /// Takes an entry; what is returned ends when it is durable, or could not be written.
    pub fn submit(&self, at: Timestamp, entry: AuditEntry) -> oneshot::Receiver<()> {
        self.push(Some((at, entry)))
    }

    /// What is returned ends when everything taken so far is written.
    pub fn flush(&self) -> oneshot::Receiver<()> {
        self.push(None)
    }

    fn push(&self, entry: Option<(Timestamp, AuditEntry)>) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        self.shared
            .queue
            .lock()
            .waiting
            .push(Waiting { entry, tell });
        self.shared.turn.notify_one();
        told
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.shared.queue.lock().stop = true;
        self.shared.turn.notify_one();
        if let Some(writer) = self.writer.take() {
            // If it panicked, those who waited were told by the end of their channels.
            let _ = writer.join();
        }
    }
}

impl Shared {
    fn write_all(&self, mut log: AuditLog, counters: &Counters) {
        loop {
            let mut queue = self.queue.lock();
            while queue.waiting.is_empty() && !queue.stop {
                self.turn.wait(&mut queue);
            }
            let n = queue.waiting.len().min(TOGETHER);
            let batch: Vec<_> = queue.waiting.drain(..n).collect();
            drop(queue);
            if batch.is_empty() {
                return;
            }
            let entries = || batch.iter().filter_map(|w| w.entry.as_ref());
            match log.append_all(entries().map(|(at, entry)| (*at, entry))) {
                Ok(()) => {
                    let n = entries().count() as u64;
                    counters.audit_entries.fetch_add(n, Ordering::Relaxed);
                }
                Err(e) => {
                    counters.store_errors.fetch_add(1, Ordering::Relaxed);
                    tracing::error!("audit log: {e}");
                }
            }
            for w in batch {
                // Whoever asked may have gone.
                let _ = w.tell.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cascade_archive::Disk;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn entries_that_wait_share_a_sync_and_keep_their_order() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("audit.log");
        let syncs = Arc::new(AtomicUsize::new(0));
        let (count, (go, wait)) = (syncs.clone(), std::sync::mpsc::channel::<()>());
        let wait = Mutex::new(wait);
        let disk = Disk::with_hook(move |op, _| {
            if op == "sync" && count.fetch_add(1, Ordering::SeqCst) == 0 {
                // Until everything else is in the queue.
                let _ = wait.lock().recv();
            }
            Ok(())
        });
        let log = AuditLog::open(&disk, &path).expect("log");
        let counters = Arc::<Counters>::default();
        let audit = Audit::new(log, counters.clone()).expect("thread");
        let entry = |i: i64| AuditEntry {
            subject: i.to_string(),
            ..AuditEntry::default()
        };
        let told: Vec<_> = (0..100)
            .map(|i| audit.submit(Timestamp::from_secs(i), entry(i)))
            .collect();
        go.send(()).expect("the writer waits");
        audit.flush().blocking_recv().expect("written");
        for mut t in told {
            t.try_recv().expect("durable");
        }
        assert_eq!(counters.audit_entries.load(Ordering::Relaxed), 100);
        drop(audit);
        assert!(syncs.load(Ordering::SeqCst) <= 3, "{syncs:?}");
        let text = std::fs::read_to_string(&path).expect("text");
        let subjects = text.lines().map(|l| {
            let line: serde_json::Value = serde_json::from_str(l).expect("line");
            line["subject"].as_str().expect("subject").to_string()
        });
        assert!(subjects.eq((0..100).map(|i| i.to_string())));
        let summary = cascade_archive::audit::verify_bytes(text.as_bytes());
        assert_eq!(summary.expect("whole").entries, 100);
    }
}
