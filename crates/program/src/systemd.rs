//! The service manager: readiness, status, reload, stop, watchdog, as sd_notify(3) says.
//!
//! Every function does nothing without a service manager. A message that cannot be sent is not an
//! error of the daemon: the manager's own time-outs notice it.

use std::time::Duration;

use sd_notify::NotifyState;

/// Most sockets taken from a service manager.
pub const SOCKETS_MAX: usize = 64;

/// The daemon serves.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    send(&[NotifyState::Status(&one_line(text))]);
}

/// A reload began; [`ready`] ends it. The manager tells a reload from an earlier one by the
/// monotonic time.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(_) => send(&[NotifyState::Reloading]),
    }
}

pub fn stopping(status: &str) {
    send(&[
        NotifyState::Stopping,
        NotifyState::Status(&one_line(status)),
    ]);
}

/// Start or stop goes on and needs up to `span` more.
pub fn extend(span: Duration, status: &str) {
    let micros = u32::try_from(span.as_micros()).unwrap_or(u32::MAX);
    let status = one_line(status);
    send(&[
        NotifyState::ExtendTimeoutUsec(micros),
        NotifyState::Status(&status),
    ]);
}

/// The daemon is alive. To be called only after the internal probe answered.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] is to be called: half of what the manager allows, as sd_watchdog_enabled(3)
/// advises; nothing when it does not watch this process.
pub fn watchdog_interval() -> Option<Duration> {
    let allowed = sd_notify::watchdog_enabled().filter(|d| !d.is_zero())?;
    Some(allowed / 2)
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::debug!("service manager: {e}");
    }
}

/// A line break in a status would begin another message of the protocol.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(512)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;
    use std::process::{Command, Stdio};

    /// The environment belongs to a process, so what reads it is tested in one of its own: this
    /// test binary again, running one test.
    fn child(test: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("path"));
        command
            .args([
                &format!("systemd::tests::{test}"),
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .stdin(Stdio::null());
        command
    }

    #[test]
    #[ignore = "run by messages_are_those_of_the_protocol"]
    fn child_sends() {
        status("a\nREADY=1");
        extend(Duration::from_secs(2), "restoring");
        ready("serving");
        reloading();
        watchdog();
        stopping("bye");
        assert_eq!(watchdog_interval(), Some(Duration::from_secs(5)));
    }

    #[test]
    fn messages_are_those_of_the_protocol() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bind");
        let output = child("child_sends")
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "10000000")
            .env_remove("WATCHDOG_PID")
            .output()
            .expect("child");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        socket.set_nonblocking(true).expect("mode");
        let next = || {
            let mut buffer = [0u8; 4096];
            let n = socket.recv(&mut buffer).expect("message");
            String::from_utf8(buffer[..n].to_vec()).expect("text")
        };
        assert_eq!(next(), "STATUS=a READY=1\n");
        assert_eq!(next(), "EXTEND_TIMEOUT_USEC=2000000\nSTATUS=restoring\n");
        assert_eq!(next(), "READY=1\nSTATUS=serving\n");
        let reload = next();
        assert!(
            reload.starts_with("RELOADING=1\nMONOTONIC_USEC="),
            "{reload}"
        );
        assert_eq!(next(), "WATCHDOG=1\n");
        assert_eq!(next(), "STOPPING=1\nSTATUS=bye\n");
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        status("nobody listens");
    }
}
