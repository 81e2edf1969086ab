//! What can go wrong for a client.

use thiserror::Error;

use crate::enums::Operation;
use crate::failure::Failure;
use crate::message::MAX_BATCH;
use crate::ttlv::{FrameError, TtlvError};

/// Why an operation has no result.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum AnswerError {
    /// The server says no.
    #[error("{operation} refused: {failure}")]
    Refused {
        operation: Operation,
        failure: Failure,
    },
    /// An operation before it failed, and the batch was to stop then.
    #[error("{0} was not performed, because an operation before it failed")]
    NotPerformed(Operation),
    /// The server says that it succeeded, and gives something else than was asked for.
    #[error("the server's answer to {0} is not an answer to the request")]
    WrongAnswer(Operation),
    /// Whether it was performed is unknown.
    #[error("{operation} was not answered: {reason}")]
    Lost {
        operation: Operation,
        reason: Broken,
    },
}

/// Why a connection can be used no longer.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Broken {
    #[error("the server closed the connection")]
    Closed,
    #[error("no answer within {0} ms")]
    TimedOut(u64),
    /// The program's own words for what its socket or TLS said.
    #[error("{0}")]
    Transport(String),
    #[error("{0}")]
    Frame(FrameError),
    #[error("malformed response: {0}")]
    Malformed(TtlvError),
    #[error("the server answered a request that was not made")]
    Unasked,
}

impl From<FrameError> for Broken {
    fn from(error: FrameError) -> Broken {
        Broken::Frame(error)
    }
}

impl From<TtlvError> for Broken {
    fn from(error: TtlvError) -> Broken {
        Broken::Malformed(error)
    }
}

/// Why a request was not sent. Nothing has happened.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SendError {
    #[error("{0} requests are in flight already; wait for a completion")]
    Full(usize),
    #[error("a batch has 1 to {MAX_BATCH} operations, this one {0}")]
    BadBatch(usize),
    #[error("the connection is broken: {0}")]
    Broken(Broken),
}

impl AnswerError {
    /// True if the same request may succeed later without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            AnswerError::Refused { failure, .. } => failure.reason.is_temporary(),
            AnswerError::NotPerformed(_) | AnswerError::Lost { .. } => true,
            AnswerError::WrongAnswer(_) => false,
        }
    }

    /// True if the object does not exist on the server.
    pub fn is_gone(&self) -> bool {
        matches!(self, AnswerError::Refused { failure, .. } if failure.reason.is_gone())
    }
}
