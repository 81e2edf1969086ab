//! Threads for work that takes a few milliseconds at most.
//!
//! A compute pool wakes all its threads for a piece of work and lets them look for parts of it; for one changed record
//! that costs more than the work. Here a piece is done by one thread from beginning to end, with a pool that consists
//! of that thread alone: what is written for many threads runs in it one part after the other, without a switch.

use std::any::Any;
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::oneshot;

type Work = Box<dyn FnOnce(&ThreadPool) + Send>;

thread_local! {
    /// The pool of a thread that does short work beside what else it does.
    static OWN: OnceCell<Option<ThreadPool>> = const { OnceCell::new() };
}

/// Does `work` on this very thread, with a pool that consists of it. For threads that live as long as
/// the program: a thread cannot leave its pool. `None`: there is no such pool, and nothing was done.
///
/// # Errors
/// What the work panicked with.
pub fn here<T>(work: impl FnOnce(&ThreadPool) -> T) -> Option<Result<T, String>> {
    let build = || {
        let builder = ThreadPoolBuilder::new().num_threads(1);
        builder.use_current_thread().build().ok()
    };
    OWN.with(|own| {
        let pool = own.get_or_init(build).as_ref()?;
        let made = catch_unwind(AssertUnwindSafe(|| work(pool)));
        Some(made.map_err(|p| panic_text(p.as_ref())))
    })
}

/// The threads, and the queue before them. A zone has one job at a time, so that the queue is bounded by the number
/// of zones. Dropping it ends the threads after what they do.
pub struct Quick {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Work>,
    closed: bool,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    #[error("{0}")]
    Panicked(String),
    #[error("the threads for short work have ended")]
    Ended,
}

/// The result, when it is there.
pub struct Ticket<T>(oneshot::Receiver<Result<T, String>>);

impl Quick {
    /// # Errors
    /// The system gives no threads.
    pub fn new(name: &str, threads: usize) -> Result<Quick, String> {
        let shared = Arc::<Shared>::default();
        let quick = Quick {
            shared: shared.clone(),
        };
        for i in 0..threads.max(1) {
            let shared = shared.clone();
            let (tell, begun) = std::sync::mpsc::sync_channel(1);
            std::thread::Builder::new()
                .name(format!("{name}-{i}"))
                .spawn(move || {
                    let own = ThreadPoolBuilder::new()
                        .num_threads(1)
                        .use_current_thread()
                        .build();
                    match own {
                        Ok(own) => {
                            drop(tell.send(Ok(())));
                            serve(&shared, &own);
                        }
                        Err(e) => drop(tell.send(Err(e.to_string()))),
                    }
                })
                .map_err(|e| e.to_string())?;
            begun.recv().map_err(|e| e.to_string())??;
        }
        Ok(quick)
    }

    /// Has `work` done. It must not wait for a token or another piece of such work, nor for a disk where these
    /// threads are not there for that.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ThreadPool) -> T + Send + 'static,
    ) -> Ticket<T> {
        let (tell, result) = oneshot::channel();
        let piece: Work = Box::new(move |own| {
            let made = catch_unwind(AssertUnwindSafe(|| work(own)));
            // Whoever asked may have gone.
            drop(tell.send(made.map_err(|p| panic_text(p.as_ref()))));
        });
        let mut queue = self.shared.queue.lock();
        if !queue.closed {
            queue.waiting.push_back(piece);
        }
        drop(queue);
        self.shared.work.notify_one();
        Ticket(result)
    }
}

impl Drop for Quick {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl<T> Ticket<T> {
    /// # Errors
    /// The work panicked, or the threads have ended.
    pub async fn result(self) -> Result<T, Lost> {
        match self.0.await {
            Ok(made) => made.map_err(Lost::Panicked),
            Err(_) => Err(Lost::Ended),
        }
    }
}

fn serve(shared: &Shared, own: &ThreadPool) {
    let mut queue = shared.queue.lock();
    loop {
        if let Some(work) = queue.waiting.pop_front() {
            drop(queue);
            work(own);
            queue = shared.queue.lock();
        } else if queue.closed {
            return;
        } else {
            shared.work.wait(&mut queue);
        }
    }
}

/// What a panic said.
pub fn panic_text(p: &(dyn Any + Send)) -> String {
    p.downcast_ref::<&str>()
        .map(|s| (*s).to_string())
        .or_else(|| p.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    #[tokio::test]
    async fn a_piece_of_work_stays_on_one_thread() {
        let quick = Quick::new("quick", 2).expect("threads");
        let here = || std::thread::current().id();
        let work = move |own: &ThreadPool| {
            let before = here();
            let all: Vec<_> = own.install(|| (0..100).into_par_iter().map(|_| here()).collect());
            let sum: u32 = (0..100u32).into_par_iter().sum();
            (before, all, sum)
        };
        let (before, all, sum) = quick.run(work).result().await.expect("result");
        assert!(all.iter().all(|id| *id == before));
        assert_eq!(sum, 4950);
    }

    #[test]
    fn work_is_done_where_it_is_asked_for() {
        let here_id = std::thread::current().id();
        let work = |own: &ThreadPool| {
            let ids = own.install(|| {
                let all = (0..100).into_par_iter();
                all.map(|_| std::thread::current().id()).collect::<Vec<_>>()
            });
            ids.into_iter().all(|id| id == here_id)
        };
        assert_eq!(here(work), Some(Ok(true)));
        let lost = here(|_| -> u8 { panic!("no luck") });
        assert_eq!(lost, Some(Err("no luck".into())));
        assert_eq!(here(work), Some(Ok(true)));
    }

    #[tokio::test]
    async fn a_panic_ends_the_piece_and_nothing_else() {
        let quick = Quick::new("quick", 1).expect("threads");
        let lost = quick.run(|_| panic!("no luck")).result().await;
        assert!(matches!(lost, Err::<(), _>(Lost::Panicked(text)) if text == "no luck"));
        assert_eq!(quick.run(|_| 3).result().await.ok(), Some(3));
    }

    #[tokio::test]
    async fn what_waits_is_done_before_the_end() {
        let quick = Quick::new("quick", 1).expect("threads");
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let first = quick.run(move |_| wait.recv().is_ok());
        let second = quick.run(|_| 2);
        drop(quick);
        go.send(()).expect("it waits");
        assert_eq!(first.result().await.ok(), Some(true));
        assert_eq!(second.result().await.ok(), Some(2));
    }
}
