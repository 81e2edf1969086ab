//! What every command needs: the client, how to print, how to confirm, how to wait.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use cascade_api::client::{Answer, Call, Client, ClientError};
use cascade_api::common::{List, Warning};
use cascade_api::daemon::{Operation, OperationState};
use cascade_api::path::{Query, encode};
use cascade_api::{Method, Problem, ProblemType};
use cascade_time::{Timestamp, format_span};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::CliError;
use crate::output::{self, Paint, clean, note};

pub struct Ctx {
    pub client: Client,
    pub json: bool,
    pub quiet: bool,
    pub paint: Paint,
    pub comment: Option<String>,
    pub now: Timestamp,
    pub cwd: PathBuf,
    /// `--log-level debug` and below: say what is asked.
    pub verbose: bool,
}

/// Entries of one page when everything is wanted.
const PAGE: &str = "1000";

impl Ctx {
    /// One request, one answer.
    pub async fn call(&self, call: &Call) -> Result<Answer, ClientError> {
        let result = self.client.call(call).await;
        if self.verbose {
            let outcome = match &result {
                Ok(answer) => answer.status.to_string(),
                Err(ClientError::Problem(p)) => p.status.to_string(),
                Err(e) => clean(&e.to_string()),
            };
            note(&format!(
                "debug: {} {}: {outcome}",
                call.method.as_str(),
                clean(&call.target)
            ));
        }
        result
    }

    /// Reads a document and prints it: as it came with `--json`, else as `text` makes it.
    pub async fn show<T: DeserializeOwned>(
        &self,
        target: impl Into<String>,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        let answer = self.call(&Call::get(target)).await?;
        if self.json {
            return self.document(&answer);
        }
        self.print(&text(&self.parse(&answer)?))
    }

    /// Reads a list, page by page: with `--json` one document for each, else all in one.
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query,
        text: impl FnOnce(&[T]) -> String,
    ) -> Result<(), CliError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = query
                .clone()
                .set("limit", Some(PAGE))
                .set("after", after.as_deref());
            let answer = self
                .call(&Call::get(format!("{path}{}", page.as_str())))
                .await?;
            let list: List<T> = self.parse(&answer)?;
            if self.json {
                self.document(&answer)?;
            }
            all.extend(list.items);
            // A cursor that does not move would lead in a circle.
            if list.next.is_none() || list.next == after {
                break;
            }
            after = list.next;
        }
        if self.json {
            Ok(())
        } else {
            self.print(&text(&all))
        }
    }

    /// Makes a change and prints the answer, or `text`.
    pub async fn change<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        target: impl Into<String>,
        body: &B,
        text: impl FnOnce(&T) -> String,
    ) -> Result<T, CliError> {
        let answer = self.call(&Call::send(method, target, body)).await?;
        let value = self.parse(&answer)?;
        self.changed(&answer, || text(&value))?;
        Ok(value)
    }

    /// Makes a change whose success has nothing to say.
    pub async fn delete(&self, target: impl Into<String>, text: &str) -> Result<(), CliError> {
        let answer = self.call(&Call::delete(target)).await?;
        self.changed(&answer, || text.to_string())
    }

    /// Prints the outcome of a change; `-q` prints nothing.
    pub fn changed(&self, answer: &Answer, text: impl FnOnce() -> String) -> Result<(), CliError> {
        if self.json {
            return self.document(answer);
        }
        if self.quiet {
            Ok(())
        } else {
            self.print(&format!("{}\n", text()))
        }
    }

    /// Tries `make(None)`; if the daemon wants confirmation, shows what would happen, asks, and
    /// sends `make(Some(plan))`.
    pub async fn confirmed(
        &self,
        yes: bool,
        make: impl Fn(Option<&Confirmed>) -> Call,
    ) -> Result<Answer, CliError> {
        let problem = match self.call(&make(None)).await {
            Err(ClientError::Problem(p)) if p.kind == ProblemType::ConfirmationRequired => p,
            other => return Ok(other?),
        };
        note(&clean(&capital_sentence(&problem)));
        for effect in &problem.effects {
            note(&format!("  {}", clean(effect)));
        }
        let agreed = if yes {
            Some(true)
        } else {
            output::ask("Continue?")
        };
        match agreed {
            Some(true) => {
                let confirmed = Confirmed { plan: problem.plan };
                Ok(self.call(&make(Some(&confirmed))).await?)
            }
            Some(false) => Err(CliError::Declined),
            None => Err(CliError::Unconfirmed),
        }
    }

    /// Follows an operation to its end. The wait is not bound by `--timeout`.
    pub async fn wait(
        &self,
        operation: Option<&str>,
        bound: Option<Duration>,
    ) -> Result<(), CliError> {
        let (Some(id), Some(bound)) = (operation, bound) else {
            return Ok(());
        };
        let mut progress = Progress::default();
        let followed = tokio::time::timeout(bound, async {
            let mut pause = Duration::from_millis(50);
            loop {
                let call = Call::get(format!("/v1/operations/{}", encode(id)));
                let op: Operation = self.parse(&self.call(&call).await?)?;
                progress.show(&op);
                if op.state.is_over() {
                    return Ok::<Operation, CliError>(op);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        })
        .await;
        progress.end();
        let op = match followed {
            Ok(result) => result?,
            Err(_) => return Err(CliError::WaitedTooLong(format_span(bound))),
        };
        if op.state == OperationState::Done {
            return Ok(());
        }
        Err(CliError::Outcome(Box::new(op.problem.unwrap_or_else(
            || {
                Problem::new(
                    ProblemType::Halted,
                    format!("{} ended: {}", op.kind, cascade_api::word(&op.state)),
                )
            },
        ))))
    }

    pub fn parse<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, CliError> {
        Ok(answer.parse(self.client.server())?)
    }

    /// The answer itself, one document on one line. 204 has none.
    pub fn document(&self, answer: &Answer) -> Result<(), CliError> {
        if answer.body.is_empty() {
            return Ok(());
        }
        let mut body = answer.body.trim_ascii().to_vec();
        body.push(b'\n');
        output::stdout(&body).map_err(CliError::Stdout)
    }

    pub fn print(&self, text: &str) -> Result<(), CliError> {
        output::stdout(text.as_bytes()).map_err(CliError::Stdout)
    }

    /// On stderr, unless the document already has them.
    pub fn warnings(&self, warnings: &[Warning]) {
        if self.json {
            return;
        }
        for w in warnings {
            let policy = w
                .policy
                .as_ref()
                .map_or(String::new(), |p| format!("policy {}: ", clean(p)));
            let action = w
                .action
                .as_ref()
                .map_or(String::new(), |a| format!(" (try: {})", clean(a)));
            note(&format!("Warning: {policy}{}{action}", clean(&w.detail)));
        }
    }

    /// What an empty list says, where it does not disturb.
    pub fn hint(&self, empty: bool, text: &str) {
        if empty && !self.quiet {
            note(text);
        }
    }
}

/// The plan that was agreed to.
pub struct Confirmed {
    pub plan: Option<String>,
}

fn capital_sentence(problem: &Problem) -> String {
    format!("{}:", crate::report::capital(&problem.detail))
}

/// One refreshed line on a terminal, one line a step elsewhere.
#[derive(Default)]
struct Progress {
    last: String,
    drawn: bool,
}

impl Progress {
    fn show(&mut self, op: &Operation) {
        let Some(step) = &op.step else { return };
        let step = clean(step);
        if std::io::stderr().is_terminal() {
            let counts = match (op.done, op.total) {
                (Some(done), Some(total)) if total > 0 => format!(" {done} of {total}"),
                _ => String::new(),
            };
            // Back to the start of the line, write, erase the rest.
            eprint!("\r{step}{counts}\x1b[K");
            self.drawn = true;
        } else if step != self.last {
            note(&step);
        }
        self.last = step;
    }

    fn end(&mut self) {
        if self.drawn {
            eprint!("\r\x1b[K");
        }
    }
}
