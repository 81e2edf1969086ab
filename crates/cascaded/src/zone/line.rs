//! The way to a zone: to its task, or, while it is at rest, to what makes one.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendError, TrySendError};

use super::actor::{Done, Ends};
use super::rest::{self, Rest};
use super::{MAILBOX, Message, ZoneHandle};
use crate::daemon::Daemon;
use crate::update::Incoming;

/// Where messages to a zone go. They are boxed: a queue holds room for a number of them from the
/// start, and there are very many queues.
pub struct Line {
    state: Mutex<State>,
    daemon: Weak<Daemon>,
    me: Weak<ZoneHandle>,
}

enum State {
    Awake(Ways),
    Rest(Rest),
}

#[derive(Clone)]
struct Ways {
    tx: mpsc::Sender<Box<Message>>,
    updates: mpsc::Sender<Box<Incoming>>,
}

/// What a zone's task listens to.
pub(super) struct Ears {
    pub rx: mpsc::Receiver<Box<Message>>,
    pub updates: mpsc::Receiver<Box<Incoming>>,
    pub done: mpsc::UnboundedReceiver<Box<Done>>,
}

impl Ears {
    /// Nothing has come, and nobody is left who could send the end of a job: one sender is the task's
    /// own.
    fn hear_nothing(&self) -> bool {
        self.rx.is_empty()
            && self.updates.is_empty()
            && self.done.is_empty()
            && self.done.sender_strong_count() == 1
    }
}

fn ways() -> (Ways, Ears, Ends) {
    let (tx, rx) = mpsc::channel(MAILBOX);
    let (updates_tx, updates) = mpsc::channel(crate::update::MAILBOX);
    // One message per job, and a zone has a handful of jobs: bounded by construction.
    let (done_tx, done) = mpsc::unbounded_channel();
    let ways = Ways {
        tx,
        updates: updates_tx,
    };
    (ways, Ears { rx, updates, done }, Ends::new(done_tx))
}

impl Line {
    /// To a task that is about to be started.
    pub(super) fn open(d: &Arc<Daemon>, me: &Weak<ZoneHandle>) -> (Line, Ears, Ends) {
        let (ways, ears, ends) = ways();
        (Line::new(d, me, State::Awake(ways)), ears, ends)
    }

    /// To a zone at rest.
    pub(super) fn at_rest(d: &Arc<Daemon>, me: &Weak<ZoneHandle>, rest: Rest) -> Line {
        Line::new(d, me, State::Rest(rest))
    }

    fn new(d: &Arc<Daemon>, me: &Weak<ZoneHandle>, state: State) -> Line {
        Line {
            state: Mutex::new(state),
            daemon: Arc::downgrade(d),
            me: me.clone(),
        }
    }

    pub(super) fn daemon(&self) -> Option<Arc<Daemon>> {
        self.daemon.upgrade()
    }

    /// The queues of the zone's task; a zone at rest gets a task.
    fn awake<T>(&self, then: impl FnOnce(&Ways) -> T) -> Option<T> {
        let mut state = self.state.lock();
        if let State::Awake(ways) = &*state {
            return Some(then(ways));
        }
        let (d, me) = (self.daemon.upgrade()?, self.me.upgrade()?);
        let (ways, ears, ends) = ways();
        let was = std::mem::replace(&mut *state, State::Awake(ways.clone()));
        if let State::Rest(mut rest) = was {
            // Fewer than the queue has room for, which is empty.
            for message in std::mem::take(&mut rest.said) {
                let _ = ways.tx.try_send(Box::new(message));
            }
            rest::wake(d, me, rest, ears, ends);
        }
        Some(then(&ways))
    }

    /// # Errors
    /// The mailbox is full, or the zone is gone.
    pub fn try_send(&self, message: Message) -> Result<(), TrySendError<Box<Message>>> {
        let mut message = Some(Box::new(message));
        let sent = self.awake(|ways| match message.take() {
            Some(m) => ways.tx.try_send(m),
            None => Ok(()),
        });
        match (sent, message) {
            (Some(result), _) => result,
            (None, Some(m)) => Err(TrySendError::Closed(m)),
            (None, None) => Ok(()),
        }
    }

    /// Waits for room.
    ///
    /// # Errors
    /// The zone is gone.
    pub async fn send(&self, message: Message) -> Result<(), SendError<Box<Message>>> {
        // While this is held, the task does not go to rest.
        match self.awake(|ways| ways.tx.clone()) {
            Some(tx) => tx.send(Box::new(message)).await,
            None => Err(SendError(Box::new(message))),
        }
    }

    /// # Errors
    /// Too many updates wait, or the zone is gone.
    pub fn try_update(&self, asked: Box<Incoming>) -> Result<(), Box<Incoming>> {
        let mut asked = Some(asked);
        let sent = self.awake(|ways| match asked.take() {
            Some(a) => ways.updates.try_send(a),
            None => Ok(()),
        });
        match (sent, asked) {
            (Some(result), _) => result.map_err(TrySendError::into_inner),
            (None, Some(a)) => Err(a),
            (None, None) => Ok(()),
        }
    }

    /// Tells a task that the daemon stops; a zone at rest has nothing to end.
    pub fn stop(&self) {
        if let State::Awake(ways) = &*self.state.lock() {
            let _ = ways.tx.try_send(Box::new(Message::Stop));
        }
    }

    pub fn rests(&self) -> bool {
        matches!(&*self.state.lock(), State::Rest(_))
    }

    /// Of a zone at rest, whether something of it is published.
    pub fn rests_published(&self) -> Option<bool> {
        match &*self.state.lock() {
            State::Rest(rest) => Some(rest.is_published()),
            State::Awake(_) => None,
        }
    }

    /// Changes what a zone at rest waits for; nothing happens to another.
    pub(super) fn change_rest(&self, change: impl FnOnce(&mut Rest)) {
        if let State::Rest(rest) = &mut *self.state.lock() {
            change(rest);
        }
    }

    /// Wakes a zone at rest; nothing happens to another.
    pub(super) fn wake(&self) {
        let _ = self.awake(|_| ());
    }

    /// Lets the task of `ears` end, if nobody has anything for it. `rest` is called before anybody
    /// can wake the zone again.
    pub(super) fn let_rest(&self, ears: &Ears, rest: impl FnOnce() -> Rest) -> bool {
        let mut state = self.state.lock();
        let State::Awake(ways) = &*state else {
            return false;
        };
        // Somebody with a sender is about to use it.
        let alone = ways.tx.strong_count() == 1 && ways.updates.strong_count() == 1;
        if !alone || !ears.hear_nothing() {
            return false;
        }
        *state = State::Rest(rest());
        true
    }
}
