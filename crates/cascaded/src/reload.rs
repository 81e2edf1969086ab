//! SIGHUP: the configuration is read again, and what may change while the daemon runs is taken
//! over; the rest is named and waits for a restart.

use std::path::Path;
use std::sync::Arc;

use cascade_policy::{Config, ConfigChange, ConfigFile, config_changes};
use tokio::sync::Semaphore;

use crate::control::Control;
use crate::daemon::{Daemon, ReloadOutcome};
use crate::http::Http;
use crate::start::{http_settings, limits, read_config};
use crate::zone::{Message, ZoneHandle};

/// Reads the file again. On an error everything stays as it is. `state_given`: the state directory
/// was named on the command line, and the file's does not count.
pub async fn reload(d: &Arc<Daemon>, http: &Http<Control>, state_given: bool) {
    d.logging.reopen();
    let file = d.config.file.clone();
    let read = tokio::task::spawn_blocking(move || read_config(Path::new(&file))).await;
    let mut new = match read.unwrap_or_else(|e| Err(e.to_string())) {
        Ok(new) => new,
        Err(e) => {
            tracing::error!("nothing changed: {e}");
            let mut outcome = d.reload.lock();
            outcome.at = Some(d.now());
            outcome.error = Some(e);
            return;
        }
    };
    // Certificates are renewed in place: what cannot be used leaves everything as it is.
    let config = new.config.clone();
    let now = d.now();
    let read = tokio::task::spawn_blocking(move || {
        let server = crate::xot::server(&config)?;
        let (ended, _) = crate::certificates::judge(&config, now);
        match ended.is_empty() {
            true => Ok(server),
            false => Err(ended.join("\n")),
        }
    })
    .await;
    let certificate = match read.unwrap_or_else(|e| Err(e.to_string())) {
        Ok(certificate) => certificate,
        Err(e) => {
            tracing::error!("nothing changed: {e}");
            let mut outcome = d.reload.lock();
            outcome.at = Some(d.now());
            outcome.error = Some(e);
            return;
        }
    };
    if state_given {
        new.config.state_dir = d.config.config.state_dir.clone();
    }
    for w in &new.warnings {
        tracing::warn!("{}", w.one_line());
    }
    let old = d.conf();
    let report = Report::of(&d.config.config, &old.config, &new.config);
    d.dns.lock().renew_tls(&certificate);
    d.certificates.serve(&new.config);
    apply(d, http, &old, Arc::new(new)).await;
    report.tell();
    *d.reload.lock() = ReloadOutcome {
        at: Some(d.now()),
        waiting: report.waiting,
        error: None,
    };
}

async fn apply(d: &Arc<Daemon>, http: &Http<Control>, old: &ConfigFile, new: Arc<ConfigFile>) {
    if let Err(e) = d.logging.reconfigure(&new.config.daemon) {
        tracing::error!("log settings are unchanged: {e}");
    }
    d.live.store(new.clone());
    let rc = new.config.remote_control.clone();
    // Names of users and groups may be looked up over the network.
    match tokio::task::spawn_blocking(move || http_settings(&rc)).await {
        Ok(mut settings) => {
            // This bound is set at the start.
            settings.max_connections = d.config.config.remote_control.max_connections as usize;
            http.replace_settings(settings);
        }
        Err(e) => tracing::error!("remote-control is unchanged: {e}"),
    }
    socket_mode(d, &new.config);
    d.dns.lock().renew(&new, &d.tsig.keys());
    let (was, is) = (limits(&old.config), limits(&new.config));
    resize(d, |d| &d.loads, was.loads, is.loads);
    resize(d, |d| &d.signings, was.signings, is.signings);
    resize(d, |d| &d.hooks, was.hooks, is.hooks);
    // Times and counts of the configuration are part of what a zone decides by.
    tell_zones(d.zone_list());
}

/// Has zones look at their policy and the configuration again. One that is busy is waited for, and
/// nothing else waits with it.
pub fn tell_zones(zones: Vec<Arc<ZoneHandle>>) {
    zones.iter().for_each(|z| z.tell_in_turn(Message::Policy));
}

fn socket_mode(d: &Daemon, new: &Config) {
    use std::os::unix::fs::PermissionsExt;
    let Some(path) = &d.config.config.remote_control.socket.0 else {
        return;
    };
    if !d.own_socket {
        // Its mode is the socket unit's.
        return;
    }
    let mode = std::fs::Permissions::from_mode(new.remote_control.socket_mode.0);
    if let Err(e) = std::fs::set_permissions(path, mode) {
        tracing::error!("mode of the control socket {path} is unchanged: {e}");
    }
}

/// Gives or takes permits. Those in use are taken when they come back.
fn resize(d: &Arc<Daemon>, which: fn(&Daemon) -> &Semaphore, was: usize, is: usize) {
    if is >= was {
        which(d).add_permits(is - was);
        return;
    }
    let left = (was - is) - which(d).forget_permits(was - is);
    let Ok(left) = u32::try_from(left) else {
        return;
    };
    if left > 0 {
        let d = d.clone();
        tokio::spawn(async move {
            if let Ok(taken) = which(&d).acquire_many(left).await {
                taken.forget();
            }
        });
    }
}

/// Keys by what became of them.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    applied: Vec<String>,
    waiting: Vec<String>,
}

impl Report {
    /// `start`: as the daemon was started; `old`: as last read.
    fn of(start: &Config, old: &Config, new: &Config) -> Report {
        let keys = |all: Vec<ConfigChange>, reload: bool| -> Vec<String> {
            all.into_iter()
                .filter(|c| c.reload == reload)
                .map(|c| c.key)
                .collect()
        };
        Report {
            applied: keys(config_changes(old, new), true),
            // Also those that an earlier reload has found.
            waiting: keys(config_changes(start, new), false),
        }
    }

    fn tell(&self) {
        match self.applied.as_slice() {
            [] => tracing::info!("configuration was read again; nothing to take over"),
            some => tracing::info!(
                "configuration was read again; taken over: {}",
                some.join(", ")
            ),
        }
        if !self.waiting.is_empty() {
            tracing::warn!(
                "these keys of the configuration wait for a restart: {}",
                self.waiting.join(", ")
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let text = format!("version = \"v1\"\n{text}");
        cascade_policy::parse_config("config.toml", text.as_bytes())
            .unwrap()
            .config
    }

    #[test]
    fn keys_are_taken_over_or_wait() {
        let start = config("");
        let first = config("state-dir = \"/srv/c\"\n[server]\nanswer-rate = 5\n");
        let report = Report::of(&start, &start, &first);
        assert_eq!(report.applied, ["server.answer-rate"]);
        assert_eq!(report.waiting, ["state-dir"]);
        // The second time the rate is in force already; the directory still waits.
        let second = config(
            "state-dir = \"/srv/c\"\n[server]\nanswer-rate = 5\n[history]\nmax-versions = 3\n",
        );
        let report = Report::of(&start, &first, &second);
        assert_eq!(report.applied, ["history.max-versions"]);
        assert_eq!(report.waiting, ["state-dir"]);
        let back = Report::of(&start, &second, &start);
        assert_eq!(back.waiting, Vec::<String>::new());
    }
}
