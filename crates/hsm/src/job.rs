//! Pieces of work for a session, and the way to their answers.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::{HsmError, Trouble};
use crate::session::Live;

/// How a piece of work may be treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Kind {
    /// Doing it twice does no harm.
    pub repeat: bool,
    /// May take several times as long as others: making a key.
    pub long: bool,
    /// Needs a session, but no login.
    pub public: bool,
}

impl Kind {
    pub const REPEAT: Kind = Kind {
        repeat: true,
        long: false,
        public: false,
    };
    pub const LONG: Kind = Kind {
        repeat: false,
        long: true,
        public: false,
    };
    pub const PUBLIC: Kind = Kind {
        repeat: false,
        long: false,
        public: true,
    };
}

/// A piece of work in the queue.
pub(crate) struct Job {
    pub work: Box<dyn Work>,
    pub kind: Kind,
    pub probe: bool,
    pub queued: Duration,
}

impl Job {
    pub fn new<T, F>(kind: Kind, f: F, done: Done<T>, now: Duration) -> Job
    where
        T: Send + 'static,
        F: FnMut(&mut Live) -> Result<T, Trouble> + Send + 'static,
    {
        let reply = Arc::new(Reply(Mutex::new(Some(done))));
        let out = None;
        Job {
            work: Box::new(Call { f, out, reply }),
            kind,
            probe: false,
            queued: now,
        }
    }

    /// Answers without the work having been done.
    pub fn refuse(self, error: HsmError) {
        self.work.reply().refuse(error);
    }
}

pub(crate) trait Work: Send {
    /// May be called again after a failure.
    fn attempt(&mut self, live: &mut Live) -> Result<(), Trouble>;
    fn answer(&mut self, result: Result<(), HsmError>);
    fn reply(&self) -> Arc<dyn Refuse>;
}

/// The way to an answer without the thread that works on it.
pub(crate) trait Refuse: Send + Sync {
    fn refuse(&self, error: HsmError);
}

pub(crate) type Done<T> = Box<dyn FnOnce(Result<T, HsmError>) + Send>;

/// Whoever comes first, gives the answer.
struct Reply<T>(Mutex<Option<Done<T>>>);

struct Call<T, F> {
    f: F,
    out: Option<T>,
    reply: Arc<Reply<T>>,
}

/// What the device made of a piece of work.
pub(crate) enum Outcome {
    /// It answered, yes or no.
    Answered(Result<(), HsmError>),
    /// It did not. `lost` if only initialising the module again helps.
    Away { why: String, lost: bool },
    /// There is no session for this thread.
    Full(String),
}

impl<T, F> Work for Call<T, F>
where
    T: Send + 'static,
    F: FnMut(&mut Live) -> Result<T, Trouble> + Send,
{
    fn attempt(&mut self, live: &mut Live) -> Result<(), Trouble> {
        self.out = Some((self.f)(live)?);
        Ok(())
    }

    fn answer(&mut self, result: Result<(), HsmError>) {
        let result = match (result, self.out.take()) {
            (Ok(()), Some(out)) => Ok(out),
            (Ok(()), None) => Err(HsmError::away("the work was not done")),
            (Err(error), _) => Err(error),
        };
        self.reply.give(result);
    }

    fn reply(&self) -> Arc<dyn Refuse> {
        self.reply.clone()
    }
}

impl<T> Reply<T> {
    fn give(&self, result: Result<T, HsmError>) {
        let done = self.0.lock().take();
        if let Some(done) = done {
            done(result);
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        self.give(Err(HsmError::away(
            "the work was dropped before it was done",
        )));
    }
}

impl<T: Send> Refuse for Reply<T> {
    fn refuse(&self, error: HsmError) {
        self.give(Err(error));
    }
}
