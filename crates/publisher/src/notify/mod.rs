//! NOTIFY (RFC 1996): taking them in, sending them out.

mod incoming;
mod machine;
mod message;
mod sender;

pub use incoming::NotifyIn;
pub(crate) use incoming::incoming;
pub use machine::{Machine, Notice, NotifyAnswer, NotifyState, Send};
pub use message::{AnswerError, check_answer, compose};
pub use sender::{NotifyCommand, NotifyEvent, NotifySender, SenderSettings, Target};
