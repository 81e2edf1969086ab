//! Review hooks: a process of its own group, bounded in time and output.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use cascade_pipeline::Verdict;
use cascade_policy::Command;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command as Process};
use tokio::sync::oneshot;

/// After TERM a group has this long before KILL.
const GRACE: Duration = Duration::from_secs(10);
/// A hook's grandchildren may keep its pipes open; nobody waits longer for them.
const PIPE_BOUND: Duration = Duration::from_secs(2);
const STDERR_LINES: usize = 200;
const STDERR_LINE: usize = 1000;

#[derive(Debug)]
pub struct Run {
    pub zone: String,
    pub command: Command,
    /// Variables for the hook, besides those passed on.
    pub environment: BTreeMap<String, String>,
    pub timeout: Duration,
    pub max_output: usize,
}

/// How a hook ended: with a verdict of its own, or without one.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Verdict(Verdict),
    Failed(String),
}

/// Runs the hook to its end. `kill` fires when the verdict is no longer wanted.
pub async fn run(run: Run, kill: oneshot::Receiver<()>) -> End {
    let shown = run.command.program.clone();
    let cwd = match tempfile::Builder::new().prefix("cascade-hook-").tempdir() {
        Ok(dir) => dir,
        Err(e) => return End::Failed(format!("no working directory for hook '{shown}': {e}")),
    };
    let mut child = match spawn(&run, cwd.path()) {
        Ok(child) => child,
        Err(e) => return End::Failed(format!("hook '{shown}' cannot be started: {e}")),
    };
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let out = tokio::spawn(keep(stdout, run.max_output));
    let err = tokio::spawn(log_lines(stderr, run.zone.clone()));
    let group = child.id().map(|id| Pid::from_raw(id as i32));
    let ended = tokio::select! {
        status = child.wait() => Ok(status),
        () = tokio::time::sleep(run.timeout) => Err(format!(
            "hook '{shown}' gave no verdict within {} and was stopped",
            cascade_time::format_span(run.timeout))),
        _ = kill => Err(format!("hook '{shown}' was stopped: its verdict is no longer wanted")),
    };
    let end = match ended {
        Ok(Ok(status)) => {
            let out = tokio::time::timeout(PIPE_BOUND, out).await;
            let text = out.ok().and_then(Result::ok).unwrap_or_default();
            let said = tokio::time::timeout(PIPE_BOUND, err).await;
            let said = said.ok().and_then(Result::ok).unwrap_or_default();
            verdict(&shown, status, &text, &said)
        }
        Ok(Err(e)) => End::Failed(format!("hook '{shown}': {e}")),
        Err(why) => {
            stop(&mut child, group).await;
            End::Failed(why)
        }
    };
    // A hook never outlives its run, and neither does what it left in the background.
    if let Some(group) = group {
        let _ = killpg(group, Signal::SIGKILL);
    }
    end
}

fn spawn(run: &Run, cwd: &std::path::Path) -> std::io::Result<Child> {
    Process::new(&run.command.program)
        .args(&run.command.args)
        .env_clear()
        .envs(&run.environment)
        .current_dir(cwd)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// TERM to the whole group, KILL after a while.
async fn stop(child: &mut Child, group: Option<Pid>) {
    let Some(group) = group else { return };
    let _ = killpg(group, Signal::SIGTERM);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let _ = killpg(group, Signal::SIGKILL);
        let _ = child.wait().await;
    }
}

/// The first `max` octets; the rest is read and dropped, so that the hook never blocks on a full
/// pipe.
async fn keep(pipe: Option<impl AsyncRead + Unpin>, max: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(mut pipe) = pipe else { return out };
    let mut buf = [0u8; 8192];
    while let Ok(n) = pipe.read(&mut buf).await {
        if n == 0 {
            break;
        }
        let room = max.saturating_sub(out.len());
        out.extend_from_slice(&buf[..n.min(room)]);
    }
    out
}

/// Logs the lines, at most [`STDERR_LINES`]; gives the first one.
async fn log_lines(pipe: Option<impl AsyncRead + Unpin>, zone: String) -> String {
    let mut first = String::new();
    let Some(pipe) = pipe else { return first };
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    let mut count = 0usize;
    loop {
        line.clear();
        // `take` bounds what one endless line can cost.
        let mut bounded = (&mut reader).take(STDERR_LINE as u64);
        match bounded.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        count += 1;
        if count > STDERR_LINES {
            continue;
        }
        let text = printable(&String::from_utf8_lossy(&line));
        if first.is_empty() {
            first.clone_from(&text);
        }
        tracing::info!(zone, hook = %text, "review hook says");
    }
    first
}

fn printable(text: &str) -> String {
    text.trim_end()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(500)
        .collect()
}

/// What a hook may print instead of text.
#[derive(Debug, Deserialize)]
struct Printed {
    verdict: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    findings: Vec<Finding>,
}

#[derive(Debug, Deserialize)]
struct Finding {
    #[serde(default)]
    owner: String,
    #[serde(default)]
    text: String,
}

fn verdict(hook: &str, status: std::process::ExitStatus, stdout: &[u8], stderr: &str) -> End {
    let Some(code) = status.code() else {
        return End::Failed(format!("hook '{hook}' was ended by a signal ({status})"));
    };
    if let (0 | 1, Ok(p)) = (code, serde_json::from_slice::<Printed>(stdout)) {
        let mut reason = printable(&p.reason);
        if let Some(f) = p.findings.first() {
            reason = format!("{reason} ({} {})", f.owner, f.text)
                .trim()
                .to_string();
        }
        return match p.verdict.as_str() {
            "approve" => End::Verdict(Verdict::Approve),
            "reject" => End::Verdict(Verdict::Reject { reason }),
            "retry" => End::Verdict(Verdict::Retry { reason }),
            "hold" => End::Verdict(Verdict::Hold { reason }),
            other => End::Failed(format!(
                "hook '{hook}' printed the unknown verdict '{}'",
                printable(other)
            )),
        };
    }
    let text = String::from_utf8_lossy(stdout);
    let first = text.lines().next().map(printable).filter(|l| !l.is_empty());
    let reason = first.unwrap_or_else(|| {
        if stderr.is_empty() {
            format!("hook '{hook}' exited with status {code}")
        } else {
            stderr.to_string()
        }
    });
    match code {
        0 => End::Verdict(Verdict::Approve),
        75 => End::Verdict(Verdict::Retry { reason }),
        126 | 127 => End::Failed(format!(
            "hook '{hook}' could not run its program: exit status {code}"
        )),
        1..=125 => End::Verdict(Verdict::Reject { reason }),
        _ => End::Failed(format!(
            "hook '{hook}' ended with status {code}, as after a signal"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Run {
        let words = ["-c", script].map(str::to_string).to_vec();
        Run {
            zone: "example".into(),
            command: Command {
                program: "/bin/sh".into(),
                args: words,
            },
            environment: BTreeMap::from([
                ("CASCADE_ZONE".to_string(), "example".to_string()),
                ("PATH".to_string(), "/usr/bin:/bin".to_string()),
            ]),
            timeout: Duration::from_secs(20),
            max_output: 1000,
        }
    }

    async fn end(run_: Run) -> End {
        let (_keep, kill) = oneshot::channel();
        run(run_, kill).await
    }

    #[tokio::test]
    async fn exit_status_is_the_verdict() {
        let reject = |r: &str| End::Verdict(Verdict::Reject { reason: r.into() });
        assert_eq!(end(sh("exit 0")).await, End::Verdict(Verdict::Approve));
        assert_eq!(end(sh("echo too few; exit 3")).await, reject("too few"));
        assert_eq!(end(sh("echo bad >&2; exit 1")).await, reject("bad"));
        assert_eq!(
            end(sh("exit 9")).await,
            reject("hook '/bin/sh' exited with status 9")
        );
        assert!(matches!(
            end(sh("exit 75")).await,
            End::Verdict(Verdict::Retry { .. })
        ));
        for broken in ["exit 126", "exit 127", "kill -9 $$", "/does/not/exist"] {
            assert!(matches!(end(sh(broken)).await, End::Failed(_)), "{broken}");
        }
        let mut missing = sh("");
        missing.command.program = "/does/not/exist".into();
        assert!(matches!(end(missing).await, End::Failed(e) if e.contains("/does/not/exist")));
    }

    #[tokio::test]
    async fn a_printed_document_is_the_verdict() {
        let hold =
            r#"echo '{"verdict":"hold","reason":"look","findings":[{"owner":"a.","text":"odd"}]}'"#;
        assert_eq!(
            end(sh(hold)).await,
            End::Verdict(Verdict::Hold {
                reason: "look (a. odd)".into()
            })
        );
        assert!(matches!(
            end(sh(r#"echo '{"verdict":"perhaps"}'"#)).await,
            End::Failed(_)
        ));
    }

    #[tokio::test]
    async fn environment_is_what_was_given_and_the_directory_is_empty() {
        let script = r#"[ "$CASCADE_ZONE" = example ] && [ -z "$HOME$USER" ] && [ -z "$(ls -A)" ] && ! read x"#;
        assert_eq!(end(sh(script)).await, End::Verdict(Verdict::Approve));
    }

    #[tokio::test]
    async fn floods_are_bounded() {
        let flood = sh("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 4");
        assert!(matches!(
            end(flood).await,
            End::Verdict(Verdict::Reject { .. })
        ));
    }

    #[tokio::test]
    async fn what_hangs_is_stopped_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let mut hang = sh(&format!("(sleep 3; touch {}) & sleep 60", mark.display()));
        hang.timeout = Duration::from_millis(300);
        assert!(matches!(end(hang).await, End::Failed(e) if e.contains("no verdict")));
        tokio::time::sleep(Duration::from_millis(3500)).await;
        assert!(!mark.exists(), "a grandchild went on");
    }

    #[tokio::test]
    async fn an_unwanted_run_is_stopped() {
        let (tx, kill) = oneshot::channel();
        let task = tokio::spawn(run(sh("sleep 60"), kill));
        tx.send(()).unwrap();
        assert!(matches!(task.await.unwrap(), End::Failed(e) if e.contains("no longer wanted")));
    }
}
