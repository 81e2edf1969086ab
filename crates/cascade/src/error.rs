//! What can go wrong, how it is said, and the exit code.

use std::io;

use cascade_api::client::{ClientError, Server};
use cascade_api::common::Finding;
use cascade_api::{Problem, ProblemType};
use serde_json::json;
use thiserror::Error;

use crate::output::clean;

#[derive(Debug, Error)]
pub enum CliError {
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Wrong usage that the parser could not see.
    #[error("{0}")]
    Usage(String),
    /// A local file.
    #[error("cannot {what} {path}")]
    File {
        what: &'static str,
        path: String,
        source: io::Error,
    },
    #[error("this needs confirmation")]
    Unconfirmed,
    #[error("nothing was changed")]
    Declined,
    #[error("still not done after {0}; the work goes on")]
    WaitedTooLong(String),
    /// The work that was waited for did not end well.
    #[error("{0}")]
    Outcome(Box<Problem>),
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
    /// The answer has been printed; only the exit code is left to say.
    #[error("exit {0}")]
    Exit(u8),
}

impl CliError {
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::Client(e) => client_code(e),
            CliError::Usage(_) => 2,
            CliError::File { .. } | CliError::Unconfirmed | CliError::Declined => 1,
            CliError::WaitedTooLong(_) => 6,
            CliError::Outcome(_) => 7,
            CliError::Stdout(_) => 1,
            CliError::Exit(code) => *code,
        }
    }

    /// A reader that went away is not an error.
    pub fn is_closed_pipe(&self) -> bool {
        match self {
            CliError::Stdout(e) | CliError::Client(ClientError::Output(e)) => {
                e.kind() == io::ErrorKind::BrokenPipe
            }
            _ => false,
        }
    }

    /// For people: what failed, the causes, and what to try.
    pub fn text(&self) -> String {
        match self {
            CliError::Client(ClientError::SecondPerson(r)) => {
                let mut lines =
                    vec!["Nothing is done yet: a second person must agree.".to_string()];
                lines.push(crate::second::text(r));
                lines.extend(self.try_line().map(|t| format!("  Try: {t}")));
                lines.join("\n")
            }
            CliError::Client(ClientError::Problem(p)) | CliError::Outcome(p) => problem_text(p),
            _ => {
                let mut lines = vec![format!("Error: {}.", clean(&self.to_string()))];
                let mut cause = std::error::Error::source(self);
                while let Some(c) = cause {
                    lines.push(format!("  {}", clean(&c.to_string())));
                    cause = c.source();
                }
                lines.extend(self.try_line().map(|t| format!("  Try: {t}")));
                lines.join("\n")
            }
        }
    }

    /// For `--json`: the problem document, or one in its form.
    pub fn json(&self) -> String {
        match self {
            CliError::Client(ClientError::Problem(p)) | CliError::Outcome(p) => {
                serde_json::to_string(p).unwrap_or_default()
            }
            CliError::Client(ClientError::SecondPerson(r)) => json!({ "request": r }).to_string(),
            _ => {
                let cause = std::error::Error::source(self).map(ToString::to_string);
                let detail = match cause {
                    Some(cause) => format!("{self}: {cause}"),
                    None => self.to_string(),
                };
                json!({
                    "type": "about:blank",
                    "title": "Command failed",
                    "status": null,
                    "detail": detail,
                    "action": self.try_line(),
                    "exit_code": self.exit_code(),
                })
                .to_string()
            }
        }
    }

    fn try_line(&self) -> Option<String> {
        match self {
            CliError::Client(ClientError::Unreachable {
                server: Server::Unix(path),
                source,
            }) => Some(match source.kind() {
                io::ErrorKind::PermissionDenied => "run as root or join group cascade".to_string(),
                io::ErrorKind::NotFound if path.as_os_str() != cascade_api::DEFAULT_SOCKET => {
                    "systemctl status cascaded; the path in --server is not the default".to_string()
                }
                _ => "systemctl status cascaded".to_string(),
            }),
            CliError::Client(
                ClientError::Unreachable { .. }
                | ClientError::Timeout { .. }
                | ClientError::Broken { .. },
            ) => Some("systemctl status cascaded".to_string()),
            CliError::Client(ClientError::TokenInClear { .. }) => Some("https://…".to_string()),
            CliError::Client(ClientError::ApiMajor { .. }) => {
                Some("install the same version of cascade and cascaded".to_string())
            }
            CliError::Client(ClientError::SecondPerson(r)) => Some(format!(
                "somebody else, until {}: cascade request approve {}",
                r.expires_at.to_human(),
                clean(&r.id)
            )),
            CliError::Unconfirmed => Some("--yes, if that is what you want".to_string()),
            CliError::WaitedTooLong(_) => Some("cascade zone status <zone>".to_string()),
            _ => None,
        }
    }
}

fn client_code(error: &ClientError) -> u8 {
    match error {
        ClientError::Unreachable { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            4
        }
        ClientError::Unreachable { .. }
        | ClientError::Timeout { .. }
        | ClientError::Broken { .. } => 5,
        ClientError::Problem(p) => p.exit_code(),
        ClientError::TokenInClear { .. } => 2,
        // Not refused, and not done.
        ClientError::SecondPerson(_) => 6,
        _ => 1,
    }
}

fn problem_text(p: &Problem) -> String {
    let mut lines = vec![format!("Error: {}.", clean(p.detail.trim_end_matches('.')))];
    for finding in p.errors.iter().filter(|f| f.detail != p.detail) {
        lines.push(format!("  {}", finding_text(finding)));
    }
    if let Some(s) = &p.suggestion {
        lines.push(format!("  Did you mean '{}'?", clean(s)));
    }
    if let Some(at) = p.earliest_at {
        lines.push(format!("  Possible from {}", at.to_human()));
    }
    if let Some(f) = &p.fingerprint {
        lines.push(format!("  Fingerprint: {}", clean(f)));
    }
    if let Some(state) = p.state.as_ref().filter(|s| *s != "nothing changed") {
        lines.push(format!("  State: {}", clean(state)));
    }
    if let Some(secs) = p.retry_after_secs {
        lines.push(format!("  Possible again in {secs} s"));
    }
    if p.kind == ProblemType::Bug {
        lines.push("  This is a bug of Cascade.".to_string());
    }
    if let Some(action) = &p.action {
        lines.push(format!("  Try: {}", clean(action)));
    }
    lines.join("\n")
}

/// `file:line:column: message`
pub fn finding_text(f: &Finding) -> String {
    let mut out = String::new();
    if let Some(file) = &f.file {
        out.push_str(&clean(file));
        out.push(':');
    }
    for n in [f.line, f.column].into_iter().flatten() {
        out.push_str(&format!("{n}:"));
    }
    if !out.is_empty() {
        out.push(' ');
    }
    if let Some(level) = f.level {
        out.push_str(&cascade_api::word(&level));
        match &f.code {
            Some(code) => out.push_str(&format!(" {}: ", clean(code))),
            None => out.push_str(": "),
        }
    }
    out.push_str(&clean(&f.detail));
    if let Some(s) = &f.suggestion {
        out.push_str(&format!(" (did you mean '{}'?)", clean(s)));
    }
    out
}
