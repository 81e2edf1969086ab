//! The sessions of one token: threads that own one each, and the queue before them.
//!
//! A session can do one thing at a time, and a module may hold a thread for as long as it likes. So
//! calls are made by threads of the pool only; callers wait for an answer that comes in any case:
//! from the thread, or from [`Pool::watch`] when the thread has taken too long.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cascade_time::Clock;
use cryptoki::slot::Slot;
use parking_lot::{Condvar, Mutex};

use crate::breaker::{Admission, Breaker, Open};
use crate::error::{Fault, HsmError, Trouble, Unavailable};
use crate::hsm::{Event, Observer, Settings};
use crate::job::{Done, Job, Kind, Outcome, Refuse};
use crate::known::Known;
use crate::login::Access;
use crate::module::Module;
use crate::session::{Live, Pulse};
use crate::slot::TokenEntry;
use crate::worker;

/// Pieces of work for one slot that wait or are under way; beyond that callers wait.
pub const MAX_IN_FLIGHT: usize = 256;
/// Sessions for one token, whatever it allows.
pub const MAX_SESSIONS: usize = 64;
/// How long fewer sessions are used when the token had none left.
const SQUEEZED_FOR: Duration = Duration::from_secs(60);
/// Threads that never came back from the module; with more, no new ones are started.
const MAX_GIVEN_UP: usize = MAX_SESSIONS + 8;
/// How much longer work of [`Kind::long`] may take: a token makes a large RSA key in up to a minute.
const LONG: u32 = 4;
/// Calls that hang in a row before the module is thought to be beyond recovery.
pub const HANGS_IN_A_ROW: u32 = 3;

pub(crate) struct Pool {
    pub module: Arc<Module>,
    pub clock: Arc<dyn Clock>,
    pub settings: Settings,
    observer: Observer,
    /// The slot's id; another after the module was initialised again and counts differently.
    slot: AtomicU64,
    /// Sessions that there may be when the token has them all.
    width: usize,
    pub token: TokenEntry,
    pub known: Arc<Known>,
    pub access: Mutex<Access>,
    /// Held by the one who logs in.
    pub login: Mutex<()>,
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
}

struct State {
    queue: VecDeque<Job>,
    workers: BTreeMap<u64, Worker>,
    next_worker: u64,
    most_workers: usize,
    /// When the token had no session for the last one; it may have later.
    squeezed: Option<Duration>,
    given_up: usize,
    hung_in_row: u32,
    last_hang: Option<Duration>,
    breaker: Breaker,
    /// The module has lost its state, as far as it says.
    lost: bool,
    closing: bool,
}

struct Worker {
    pulse: Pulse,
    busy: Option<Busy>,
    stats: SessionStats,
}

struct Busy {
    reply: Arc<dyn Refuse>,
    probe: bool,
    long: bool,
}

/// What one session has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SessionStats {
    pub session: u64,
    pub calls: u64,
    pub errors: u64,
    pub busy: Duration,
    pub slowest: Duration,
}

impl Pool {
    pub fn new(
        module: Arc<Module>,
        slot: Slot,
        token: TokenEntry,
        clock: Arc<dyn Clock>,
        settings: Settings,
        observer: Observer,
    ) -> Arc<Pool> {
        let allowed = token.max_sessions.unwrap_or(MAX_SESSIONS).max(1);
        let wanted = match settings.max_sessions {
            0 => MAX_SESSIONS,
            n => n,
        };
        let width = allowed.min(wanted).min(MAX_SESSIONS);
        module.healthy.fetch_add(1, Ordering::Relaxed);
        Arc::new(Pool {
            width,
            access: Mutex::new(Access::new(settings.salt)),
            module,
            clock,
            observer,
            slot: AtomicU64::new(slot.id()),
            token,
            known: Arc::default(),
            login: Mutex::new(()),
            state: Mutex::new(State {
                queue: VecDeque::new(),
                workers: BTreeMap::new(),
                next_worker: 0,
                most_workers: width,
                squeezed: None,
                given_up: 0,
                hung_in_row: 0,
                last_hang: None,
                breaker: Breaker::default(),
                lost: false,
                closing: false,
            }),
            settings,
            work: Condvar::new(),
            room: Condvar::new(),
        })
    }

    /// Has `f` done by one of the sessions and waits for the answer.
    pub fn call<T, F>(self: &Arc<Self>, kind: Kind, f: F) -> Result<T, HsmError>
    where
        T: Send + 'static,
        F: FnMut(&mut Live) -> Result<T, Trouble> + Send + 'static,
    {
        let (tell, answer) = std::sync::mpsc::sync_channel(1);
        let done = Box::new(move |result| drop(tell.send(result)));
        self.submit(kind, f, done, true);
        // Without an answer the pool is gone; the answer was dropped with it.
        answer
            .recv()
            .unwrap_or_else(|_| Err(HsmError::away("the module is being shut down")))
    }

    /// Has `f` done; `done` is called once, perhaps before this returns, perhaps by another
    /// thread. If there is no room: waits with `wait`, otherwise refuses.
    pub fn submit<T, F>(self: &Arc<Self>, kind: Kind, f: F, done: Done<T>, wait: bool)
    where
        T: Send + 'static,
        F: FnMut(&mut Live) -> Result<T, Trouble> + Send + 'static,
    {
        let mut job = Job::new(kind, f, done, self.clock.monotonic());
        let mut state = self.state.lock();
        let refusal = loop {
            if state.closing {
                break Some(HsmError::away("the module is being shut down"));
            }
            let in_flight = state.queue.len() + state.busy();
            if in_flight >= MAX_IN_FLIGHT {
                let limit = self.settings.call_timeout;
                if wait && !self.room.wait_for(&mut state, limit).timed_out() {
                    continue;
                }
                break Some(HsmError::away(format!(
                    "{MAX_IN_FLIGHT} requests are waiting for this token already"
                )));
            }
            // Waiting for room is not waiting in the queue.
            job.queued = self.clock.monotonic();
            match state.breaker.admit(job.queued) {
                Admission::Go => {}
                Admission::Probe => job.probe = true,
                Admission::No { why, retry_in } => break Some(away(why, retry_in)),
            }
            break None;
        };
        if let Some(refusal) = refusal {
            drop(state);
            job.refuse(refusal);
            return;
        }
        state.queue.push_back(job);
        let enough = state.idle() >= state.queue.len();
        if enough || self.start_worker(&mut state) {
            drop(state);
            self.work.notify_one();
            return;
        }
        // No thread can be started and none will come free.
        if state.workers.is_empty()
            && let Some(job) = state.queue.pop_back()
        {
            if job.probe {
                state.breaker.release();
            }
            drop(state);
            job.refuse(HsmError::away("no thread for this token can be started"));
        }
    }

    /// True if one was started or as many as may be are running.
    fn start_worker(self: &Arc<Self>, state: &mut State) -> bool {
        if state.workers.len() >= state.most_workers {
            return true;
        }
        if state.given_up >= MAX_GIVEN_UP {
            return false;
        }
        let number = state.next_worker;
        state.next_worker += 1;
        let pulse = Pulse::new(Arc::clone(&self.clock));
        let (pool, own) = (Arc::clone(self), pulse.clone());
        let thread = std::thread::Builder::new()
            .name(format!(
                "hsm-{}-{number}",
                self.slot.load(Ordering::Relaxed)
            ))
            .spawn(move || worker::run(&pool, number, &own));
        if thread.is_err() {
            return !state.workers.is_empty();
        }
        let stats = SessionStats {
            session: number,
            ..SessionStats::default()
        };
        let busy = None;
        state.workers.insert(number, Worker { pulse, busy, stats });
        true
    }

    /// The next piece of work for thread `number`, which waits for it; `None` if it is to end.
    pub fn take(&self, number: u64) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if state.closing {
                state.workers.remove(&number);
                return None;
            }
            let pulse = state.workers.get(&number)?.pulse.clone();
            let Some(job) = state.queue.pop_front() else {
                self.work.wait(&mut state);
                continue;
            };
            // The device may have been found away while this waited.
            if !job.probe
                && let Some(open) = state.breaker.state()
            {
                let why = open.why.clone();
                drop(state);
                self.room.notify_one();
                job.refuse(HsmError::away(why));
                state = self.state.lock();
                continue;
            }
            pulse.beat();
            let busy = Busy {
                reply: job.work.reply(),
                probe: job.probe,
                long: job.kind.long,
            };
            if let Some(worker) = state.workers.get_mut(&number) {
                worker.busy = Some(busy);
            }
            return Some(job);
        }
    }

    /// Thread `number` is done with its job. False if the thread is to end.
    pub fn finish(&self, number: u64, mut job: Job, outcome: Outcome, took: Duration) -> bool {
        let now = self.clock.monotonic();
        let mut state = self.state.lock();
        let Some(worker) = state.workers.get_mut(&number) else {
            // Given up meanwhile; the answer was given, too. The module is slow, but does not hang.
            state.given_up = state.given_up.saturating_sub(1);
            state.hung_in_row = 0;
            return false;
        };
        worker.busy = None;
        worker.stats.calls += 1;
        worker.stats.busy += took;
        worker.stats.slowest = worker.stats.slowest.max(took);
        worker.stats.errors += u64::from(!matches!(outcome, Outcome::Answered(Ok(()))));
        let (result, event, stay) = match outcome {
            Outcome::Answered(result) => {
                state.hung_in_row = 0;
                state.lost = false;
                let since = state.breaker.state().map(|open| open.since);
                let event = state.breaker.good().then(|| {
                    self.module.healthy.fetch_add(1, Ordering::Relaxed);
                    self.back(now.saturating_sub(since.unwrap_or(now)))
                });
                (result, event, true)
            }
            Outcome::Away { why, lost } => {
                state.lost = lost;
                let event = self.fail(&mut state, job.probe, &why, now);
                let retry_in = match state.breaker.admit_in(now) {
                    Duration::ZERO => None,
                    left => Some(left),
                };
                (
                    Err(HsmError::Unavailable(Unavailable { why, retry_in })),
                    event,
                    true,
                )
            }
            Outcome::Full(why) => {
                let others = state.workers.len() - 1;
                if others == 0 {
                    if job.probe {
                        state.breaker.release();
                    }
                    (Err(HsmError::away(why)), None, true)
                } else {
                    // The sessions that there are do the work.
                    state.most_workers = others;
                    state.squeezed = Some(now);
                    state.workers.remove(&number);
                    state.queue.push_front(job);
                    drop(state);
                    self.work.notify_one();
                    return false;
                }
            }
        };
        drop(state);
        self.room.notify_one();
        if let Some(event) = event {
            self.tell(event);
        }
        job.work.answer(result);
        stay
    }

    /// Gives up what takes too long. To be called about once a second.
    pub fn watch(&self) {
        let now = self.clock.monotonic();
        let limit = self.settings.call_timeout;
        let mut refused: Vec<(Arc<dyn Refuse>, HsmError)> = Vec::new();
        let mut events = Vec::new();
        let mut state = self.state.lock();
        while let Some(job) = state.queue.front()
            && now.saturating_sub(job.queued) > limit
            && let Some(job) = state.queue.pop_front()
        {
            if job.probe {
                state.breaker.release();
            }
            let why = format!("all sessions were busy for {} s", limit.as_secs_f32());
            refused.push((job.work.reply(), HsmError::away(why)));
        }
        if let Some(at) = state.squeezed
            && now.saturating_sub(at) >= SQUEEZED_FOR
        {
            state.squeezed = None;
            state.most_workers = self.width;
        }
        let hung: Vec<u64> = state
            .workers
            .iter()
            .filter(|(_, w)| w.hangs(now, limit))
            .map(|(number, _)| *number)
            .collect();
        for number in hung {
            let Some(worker) = state.workers.remove(&number) else {
                continue;
            };
            let Some(busy) = worker.busy else { continue };
            state.given_up += 1;
            // What hangs at the same time hangs once.
            if state.last_hang.is_none_or(|at| worker.pulse.last() >= at) {
                state.hung_in_row += 1;
                state.last_hang = Some(now);
            }
            let limit = if busy.long { limit * LONG } else { limit };
            let seconds = limit.as_secs_f32();
            let why = format!("the module did not return from a call within {seconds} s");
            events.extend(self.fail(&mut state, busy.probe, &why, now));
            events.push(Event::Hung {
                slot: self.slot.load(Ordering::Relaxed),
                in_a_row: state.hung_in_row,
            });
            refused.push((busy.reply, HsmError::away(why)));
        }
        drop(state);
        if !refused.is_empty() {
            self.room.notify_all();
        }
        for event in events {
            self.tell(event);
        }
        for (reply, error) in refused {
            reply.refuse(error);
        }
    }

    fn fail(&self, state: &mut State, probe: bool, why: &str, now: Duration) -> Option<Event> {
        let slot = self.slot.load(Ordering::Relaxed);
        state.breaker.bad(probe, why, now).then(|| {
            self.module.healthy.fetch_sub(1, Ordering::Relaxed);
            let why = why.to_owned();
            Event::Away { slot, why }
        })
    }

    fn back(&self, after: Duration) -> Event {
        Event::Back {
            slot: self.slot.load(Ordering::Relaxed),
            after,
        }
    }

    pub fn tell(&self, event: Event) {
        (self.observer)(event);
    }

    pub fn slot(&self) -> Result<Slot, Fault> {
        Ok(Slot::try_from(self.slot.load(Ordering::Relaxed))?)
    }

    pub fn slot_id(&self) -> u64 {
        self.slot.load(Ordering::Relaxed)
    }

    pub fn set_slot(&self, id: u64) {
        self.slot.store(id, Ordering::Relaxed);
    }

    pub fn is_lost(&self) -> bool {
        self.state.lock().lost
    }

    /// Since when and why the device is away, if it is.
    pub fn away(&self) -> Option<Open> {
        self.state.lock().breaker.state().cloned()
    }

    pub fn hangs_in_a_row(&self) -> u32 {
        self.state.lock().hung_in_row
    }

    /// One entry for each session that is open or was asked for.
    pub fn stats(&self) -> Vec<SessionStats> {
        let state = self.state.lock();
        state.workers.values().map(|worker| worker.stats).collect()
    }

    /// Sessions that there may be.
    pub fn width(&self) -> usize {
        self.state.lock().most_workers
    }

    /// Sessions that nobody's work is meant for yet, those included that are not open.
    pub fn spare(&self) -> usize {
        let state = self.state.lock();
        let taken = state.busy() + state.queue.len();
        state.most_workers.saturating_sub(taken)
    }

    /// Lets threads end after what they are doing; what waits is refused.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        let waiting: Vec<Job> = state.queue.drain(..).collect();
        drop(state);
        self.work.notify_all();
        self.room.notify_all();
        for job in waiting {
            job.refuse(HsmError::away("the module is being shut down"));
        }
    }

    /// Threads that have not ended after [`Pool::close`].
    pub fn running(&self) -> usize {
        self.state.lock().workers.len()
    }
}

impl State {
    fn busy(&self) -> usize {
        self.workers.values().filter(|w| w.busy.is_some()).count()
    }

    fn idle(&self) -> usize {
        self.workers.len() - self.busy()
    }
}

impl Worker {
    fn hangs(&self, now: Duration, limit: Duration) -> bool {
        let Some(busy) = &self.busy else {
            return false;
        };
        let limit = if busy.long { limit * LONG } else { limit };
        now.saturating_sub(self.pulse.last()) > limit
    }
}

fn away(why: String, retry_in: Duration) -> HsmError {
    HsmError::Unavailable(Unavailable {
        why,
        retry_in: Some(retry_in),
    })
}
