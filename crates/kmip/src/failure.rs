//! Why an operation was refused, in the terms of the protocol.

use std::fmt;

use thiserror::Error;

use crate::enums::{Operation, ResultReason};

/// Most octets of a Result Message that are written or kept.
pub const MAX_MESSAGE: usize = 1024;

/// The failure of one operation: a reason for programs and a message for people.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub struct Failure {
    pub reason: ResultReason,
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            return write!(f, "{}", self.reason);
        }
        write!(f, "{} ({})", self.message, self.reason)
    }
}

impl Failure {
    /// `message` may repeat what a peer sent: control characters become '?', as it goes to logs
    /// and terminals, and what exceeds [`MAX_MESSAGE`] is cut off.
    pub fn new(reason: ResultReason, message: impl Into<String>) -> Failure {
        let mut message = message.into();
        if message.chars().any(char::is_control) {
            message = message.replace(char::is_control, "?");
        }
        if message.len() > MAX_MESSAGE {
            let end = (0..=MAX_MESSAGE)
                .rev()
                .find(|&at| message.is_char_boundary(at));
            message.truncate(end.unwrap_or(0));
        }
        Failure { reason, message }
    }

    pub(crate) fn unsupported(operation: Operation) -> Failure {
        Failure::new(
            ResultReason::OperationNotSupported,
            format!("operation {operation} is not supported here"),
        )
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Failure {
        Failure::new(ResultReason::InvalidField, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_fit_for_terminals() {
        let long = format!("a\x1b[31m\n{}", "ö".repeat(MAX_MESSAGE));
        let failure = Failure::new(ResultReason::InvalidField, long);
        assert!(failure.message.starts_with("a?[31m?ö"));
        assert!((MAX_MESSAGE - 1..=MAX_MESSAGE).contains(&failure.message.len()));
    }
}
