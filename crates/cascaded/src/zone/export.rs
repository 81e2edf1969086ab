//! Each published version as a zone file, where the policy wants one.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cascade_pipeline::Verdict;
use cascade_time::Timestamp;
use cascade_zone::{VersionId, ZoneVersion};
use tokio::sync::oneshot;

use super::actor::{Actor, Done};
use crate::hooks::{End, Run, run};

/// After a failure, unless a newer version comes first.
const RETRY: Duration = Duration::from_secs(600);
/// What runs after the file was written has so long.
const HOOK_TIMEOUT: Duration = Duration::from_secs(600);

/// What becomes of the zone's file.
#[derive(Default)]
pub(super) struct Export {
    running: bool,
    /// Published meanwhile; only the newest is written.
    next: Option<VersionId>,
    retry: Option<Timestamp>,
}

impl Export {
    pub fn is_still(&self) -> bool {
        !self.running && self.next.is_none() && self.retry.is_none()
    }
}

impl Actor {
    /// The file that the policy wants, with the zone's name in it.
    fn export_path(&self) -> Option<PathBuf> {
        let policy = self.policy()?;
        let file = policy.file.policy.server.outbound.file.as_ref()?;
        Some(with_name(file.as_str(), &self.me.name))
    }

    /// Writes a version that is published now.
    pub(super) fn export(&mut self, version: VersionId) {
        let (Some(path), Some(v)) = (self.export_path(), self.version(version)) else {
            return;
        };
        if self.export.running {
            self.export.next = Some(version);
            return;
        }
        self.export.running = true;
        self.export.retry = None;
        let (d, done) = (self.d.clone(), self.done.clone());
        let hook = self.file_hook(&v, &path);
        tokio::spawn(async move {
            let to = path.clone();
            let written = tokio::task::spawn_blocking(move || write(&v, &to)).await;
            let result = match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(e)) => Err(format!("{}: {e}", path.display())),
                Err(e) => Err(e.to_string()),
            };
            if let (Ok(()), Some(mut hook)) = (&result, hook)
                && let Ok(_turn) = d.hooks.acquire().await
            {
                let conf = d.conf();
                super::hook::pass_on(&conf.config.hooks.environment, &mut hook.environment);
                hook.max_output = conf.config.hooks.max_output.0 as usize;
                let zone = hook.zone.clone();
                // Nobody takes its verdict back: it ends by itself or by the timeout.
                let (_keep, kill) = oneshot::channel();
                let why = match run(hook, kill).await {
                    End::Verdict(Verdict::Approve) => None,
                    End::Verdict(
                        Verdict::Reject { reason }
                        | Verdict::Retry { reason }
                        | Verdict::Hold { reason },
                    ) => Some(reason),
                    End::Failed(why) => Some(why),
                };
                if let Some(why) = why {
                    tracing::warn!(zone = %zone, "file-hook failed; the file stands: {why}");
                }
            }
            let _ = done.send(Done::Exported(version, result));
        });
    }

    fn file_hook(&self, v: &ZoneVersion, path: &Path) -> Option<Run> {
        let policy = self.policy()?;
        let hook = policy.file.policy.server.outbound.file_hook.as_ref()?;
        let variables = [
            ("ZONE", self.me.name.clone()),
            ("SERIAL", v.serial().to_string()),
            ("VERSION", v.id().to_string()),
            ("POLICY", policy.file.name.clone()),
            ("FILE", path.display().to_string()),
        ];
        let named = variables.map(|(k, v)| (format!("CASCADE_{k}"), v));
        Some(Run {
            zone: self.me.name.clone(),
            command: hook.command(false)?,
            environment: BTreeMap::from(named),
            timeout: HOOK_TIMEOUT,
            max_output: 0,
        })
    }

    pub(super) fn exported(&mut self, version: VersionId, result: Result<(), String>) {
        self.export.running = false;
        match result {
            Ok(()) => {
                tracing::info!(zone = %self.me.name, version = version.0, "zone file written")
            }
            Err(e) => {
                tracing::warn!(zone = %self.me.name, version = version.0, "the zone file could not be written; what is published stands: {e}");
                self.export.retry = Some(self.d.now() + RETRY);
            }
        }
        if let Some(next) = self.export.next.take() {
            self.export(next);
        }
    }

    /// Called now and then, and after a start: what failed, or was cut off by the end of the
    /// process, is written again.
    pub(super) fn export_again(&mut self, now: Timestamp) {
        if self.export.retry.is_some_and(|at| at <= now)
            && let Some(v) = self.row.zone.live.as_ref().map(|l| l.version)
        {
            self.export(v);
        }
    }

    /// The file is missing or older than what is published.
    pub(super) fn export_missed(&mut self) {
        let (Some(path), Some(live)) = (self.export_path(), self.row.zone.live.as_ref()) else {
            return;
        };
        let version = live.version;
        let written = std::fs::metadata(path).and_then(|m| m.modified());
        let published = Duration::from_secs(live.published_at.secs().max(0) as u64);
        let old = written.map_or(true, |at| {
            at.duration_since(std::time::UNIX_EPOCH)
                .is_ok_and(|at| at < published)
        });
        if old {
            self.export(version);
        }
    }
}

/// `{zone}` is the name without the final dot. A slash, as in RFC 2317 names, must not lead
/// elsewhere.
fn with_name(file: &str, zone: &str) -> PathBuf {
    let name = match zone {
        "." => "root".to_string(),
        name => name.replace('%', "%25").replace('/', "%2F"),
    };
    PathBuf::from(file.replace("{zone}", &name))
}

/// The old file or the new one, never a part.
fn write(v: &Arc<ZoneVersion>, to: &Path) -> std::io::Result<()> {
    let folder = match to.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    // The umask of the process decides who may read it.
    let open = std::fs::Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new()
        .prefix(".cascade-")
        .suffix(".tmp")
        .permissions(open)
        .tempfile_in(folder)?;
    let mut failed = None;
    {
        let mut out = BufWriter::with_capacity(1 << 16, file.as_file_mut());
        v.for_each_record(&mut |r| {
            if failed.is_none() {
                let line = crate::text::record(r.owner, r.rtype, r.ttl, r.rdata);
                failed = writeln!(out, "{line}").err();
            }
        });
        failed = failed.or(out.flush().err());
    }
    if let Some(e) = failed {
        return Err(e);
    }
    file.as_file().sync_data()?;
    file.persist(to).map_err(|e| e.error)?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        let path = |zone: &str| with_name("/x/{zone}.zone", zone).display().to_string();
        assert_eq!(path("example.net"), "/x/example.net.zone");
        assert_eq!(path("."), "/x/root.zone");
        assert_eq!(
            path("0/25.2.0.192.in-addr.arpa"),
            "/x/0%2F25.2.0.192.in-addr.arpa.zone"
        );
        assert_eq!(with_name("/x/fixed", "a").display().to_string(), "/x/fixed");
    }
}
