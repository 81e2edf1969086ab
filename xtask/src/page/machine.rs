//! A booted root file system, and commands run in it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cascade_e2e::{Said, within};

pub struct Machine {
    root: PathBuf,
    nspawn: Child,
    /// The machine's first process, as the host counts.
    init: u32,
}

impl Machine {
    /// Boots and waits until everything has started.
    pub fn boot(root: &Path) -> Result<Machine, String> {
        let log = root.with_extension("boot.log");
        let out = File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let err = out
            .try_clone()
            .map_err(|e| format!("{}: {e}", log.display()))?;
        let nspawn = Command::new("systemd-nspawn")
            .args([
                "--quiet",
                "--register=no",
                "--keep-unit",
                "--private-network",
                "--boot",
            ])
            .arg("-D")
            .arg(root)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|e| format!("cannot start systemd-nspawn: {e}"))?;
        let id = nspawn.id();
        let mut machine = Machine {
            root: root.to_owned(),
            nspawn,
            init: id,
        };
        let mut seen = String::new();
        let state = within(Duration::from_secs(120), || {
            // While it is set up, nspawn has another child.
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
            machine.init = children.split_whitespace().next()?.parse().ok()?;
            let said = machine.sh("systemctl is-system-running --wait");
            seen = said.to_string();
            let state = said.stdout.trim().to_owned();
            (state == "running" || state == "degraded").then_some(state)
        });
        match state.as_deref() {
            Some("running") => Ok(machine),
            _ => {
                let failed = machine.sh("systemctl --failed --no-pager").stdout;
                let console = fs::read_to_string(&log).unwrap_or_default();
                Err(format!(
                    "the machine is not running: {seen}\n{failed}\n{console}"
                ))
            }
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A command line as root.
    pub fn sh(&self, line: &str) -> Said {
        self.run(&["/bin/bash", "-c", line], line)
    }

    /// A command line as a user who is nobody in particular.
    pub fn as_user(&self, user: &str, line: &str) -> Said {
        self.run(
            &["runuser", "-u", user, "--", "/bin/bash", "-c", line],
            line,
        )
    }

    fn run(&self, args: &[&str], shown: &str) -> Said {
        let output = Command::new("nsenter")
            .args(["-t", &self.init.to_string(), "-a", "--"])
            .args(["env", "-i", "HOME=/root", "LANG=C.UTF-8"])
            .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .args(args)
            .stdin(Stdio::null())
            .output();
        match output {
            Ok(output) => Said::new(shown.to_owned(), &output),
            Err(e) => Said {
                command: shown.to_owned(),
                code: None,
                stdout: String::new(),
                stderr: format!("cannot start nsenter: {e}"),
            },
        }
    }

    /// Switches it off and on again.
    pub fn reboot(&mut self) -> Result<(), String> {
        self.power_off();
        let root = self.root.clone();
        *self = Machine::boot(&root)?;
        Ok(())
    }

    pub fn power_off(&mut self) {
        if matches!(self.nspawn.try_wait(), Ok(Some(_))) {
            return;
        }
        self.sh("systemctl poweroff");
        let ended = within(Duration::from_secs(60), || {
            self.nspawn.try_wait().ok().flatten()
        });
        if ended.is_none() {
            let _ = self.nspawn.kill();
            let _ = self.nspawn.wait();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.power_off();
    }
}
