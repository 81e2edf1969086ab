//! Work that waits for a connection with room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::DialError;
use crate::client::Answer;
use crate::enums::BatchErrorContinuation;
use crate::payload::RequestPayload;

/// Classes of work; higher ones go first.
pub const CLASSES: usize = 4;

/// Calls that may wait; a caller that gets more refused is told to come again.
const MAX_WAITING: usize = 8192;

/// Operations to be sent as one request.
pub struct Call {
    pub payloads: Vec<RequestPayload>,
    pub on_error: BatchErrorContinuation,
    /// Below [`CLASSES`].
    pub class: usize,
    /// Calls of one group are cancelled together.
    pub group: u64,
    /// The instance that must answer; `None`: any.
    pub instance: Option<usize>,
    /// How long it may wait before it is sent.
    pub patience: Duration,
    pub done: Done,
}

/// Called exactly once, on a thread of the runtime: it must not block.
pub type Done = Box<dyn FnOnce(Outcome) + Send>;

/// The end of a call.
#[derive(Debug)]
pub enum Outcome {
    Answered {
        /// Index of the endpoint that answered.
        instance: usize,
        /// One for each operation.
        answers: Vec<Answer>,
    },
    NotSent(NotSent),
}

/// Why a call was not sent. Nothing has happened on the server.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum NotSent {
    #[error("cancelled")]
    Cancelled,
    #[error("{MAX_WAITING} requests wait already")]
    Full,
    #[error("no connection had room in time")]
    Expired,
    #[error("{0}")]
    Down(Arc<DialError>),
    #[error("the connections to the server are closed")]
    Closed,
}

pub(super) struct Waiting {
    pub call: Call,
    pub expires: Instant,
    /// How often it was sent and lost.
    pub losses: u8,
}

pub(super) struct Queue {
    inner: Mutex<Inner>,
    wake: Notify,
}

struct Inner {
    lanes: [VecDeque<Waiting>; CLASSES],
    /// For one instance each.
    direct: Vec<VecDeque<Waiting>>,
    waiting: usize,
    /// Why nothing is taken in; per instance.
    shut: Vec<Option<NotSent>>,
}

impl Queue {
    pub fn new(instances: usize) -> Queue {
        Queue {
            inner: Mutex::new(Inner {
                lanes: Default::default(),
                direct: (0..instances).map(|_| VecDeque::new()).collect(),
                waiting: 0,
                shut: vec![None; instances],
            }),
            wake: Notify::new(),
        }
    }

    /// Takes a call in, or gives it back with the reason.
    pub fn push(&self, call: Call) -> Result<(), (Call, NotSent)> {
        let mut inner = self.lock();
        if let Some(why) = inner.refusal(call.instance) {
            return Err((call, why));
        }
        if inner.waiting >= MAX_WAITING {
            return Err((call, NotSent::Full));
        }
        let waiting = Waiting {
            expires: Instant::now() + call.patience,
            call,
            losses: 0,
        };
        inner.waiting += 1;
        inner.lane(&waiting.call).push_back(waiting);
        drop(inner);
        self.wake_all();
        Ok(())
    }

    /// Puts a call that was lost with its connection back, at the front.
    pub fn put_back(&self, waiting: Waiting) {
        let refused = {
            let mut inner = self.lock();
            match inner.refusal(waiting.call.instance) {
                Some(why) => Some((waiting, why)),
                None => {
                    inner.waiting += 1;
                    inner.lane(&waiting.call).push_front(waiting);
                    None
                }
            }
        };
        match refused {
            Some((waiting, why)) => (waiting.call.done)(Outcome::NotSent(why)),
            None => self.wake_all(),
        }
    }

    /// The next call for a connection to `instance`. `common`: also what any instance may answer.
    /// Nothing is lost when this is dropped before it is ready.
    pub async fn take(&self, instance: usize, common: bool) -> Waiting {
        loop {
            let woken = self.wake.notified();
            if let Some(waiting) = self.lock().pop(instance, common) {
                return waiting;
            }
            woken.await;
        }
    }

    /// Completes what has waited too long.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.drop_where(|w| w.expires <= now, NotSent::Expired);
    }

    pub fn cancel(&self, group: u64) {
        self.drop_where(|w| w.call.group == group, NotSent::Cancelled);
    }

    /// Nothing more for this instance until it is opened again. When no instance is left, what
    /// waits for any of them ends, too.
    pub fn shut(&self, instance: usize, why: NotSent) {
        let ended = {
            let mut inner = self.lock();
            if let Some(shut) = inner.shut.get_mut(instance) {
                *shut = Some(why.clone());
            }
            let mut ended: Vec<Waiting> = Vec::new();
            if let Some(direct) = inner.direct.get_mut(instance) {
                ended.extend(direct.drain(..));
            }
            if inner.refusal(None).is_some() {
                for lane in &mut inner.lanes {
                    ended.extend(lane.drain(..));
                }
            }
            inner.waiting -= ended.len();
            ended
        };
        for waiting in ended {
            (waiting.call.done)(Outcome::NotSent(why.clone()));
        }
    }

    pub fn open(&self, instance: usize) {
        if let Some(shut) = self.lock().shut.get_mut(instance) {
            *shut = None;
        }
        self.wake_all();
    }

    /// Lets every connection look again: which of them may take a call differs from call to call.
    pub fn wake_all(&self) {
        self.wake.notify_waiters();
    }

    fn drop_where(&self, is_over: impl Fn(&Waiting) -> bool, why: NotSent) {
        let mut ended = Vec::new();
        {
            let mut inner = self.lock();
            let Inner { lanes, direct, .. } = &mut *inner;
            for lane in lanes.iter_mut().chain(direct) {
                let mut at = 0;
                while let Some(waiting) = lane.get(at) {
                    match is_over(waiting) {
                        true => ended.extend(lane.remove(at)),
                        false => at += 1,
                    }
                }
            }
            inner.waiting -= ended.len();
        }
        for waiting in ended {
            (waiting.call.done)(Outcome::NotSent(why.clone()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics half-way; completions are called outside of the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn lane(&mut self, call: &Call) -> &mut VecDeque<Waiting> {
        let class = call.class.min(CLASSES - 1);
        match call.instance.and_then(|i| self.direct.get_mut(i)) {
            Some(direct) => direct,
            None => &mut self.lanes[class],
        }
    }

    fn pop(&mut self, instance: usize, common: bool) -> Option<Waiting> {
        let direct = self.direct.get_mut(instance).and_then(VecDeque::pop_front);
        let found = direct.or_else(|| {
            let lanes = self.lanes.iter_mut().rev().filter(|_| common);
            lanes.filter_map(VecDeque::pop_front).next()
        })?;
        self.waiting -= 1;
        Some(found)
    }

    /// Why a call for `instance`, or for any, is not taken in.
    fn refusal(&self, instance: Option<usize>) -> Option<NotSent> {
        match instance {
            Some(i) => match self.shut.get(i) {
                Some(shut) => shut.clone(),
                None => Some(NotSent::Closed),
            },
            None if self.shut.iter().all(Option::is_some) => {
                self.shut.iter().flatten().next().cloned()
            }
            None => None,
        }
    }
}
