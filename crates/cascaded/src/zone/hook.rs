//! What a review hook is told about the version it judges.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use cascade_pipeline::action::RunHook;
use cascade_pipeline::state::Stage;
use cascade_time::Timestamp;
use cascade_zone::{ZoneVersion, diff};
use tokio::sync::oneshot;

use super::actor::{Actor, Done, Running};
use crate::hooks::{End, Run, run};

/// The diff handed to a hook; beyond, a note stands at its end.
const DIFF_MAX: usize = 10 << 20;
/// Passed on from the daemon's environment besides those the configuration names.
const PASSED: [&str; 4] = ["PATH", "LANG", "HOME", "TMPDIR"];

impl Actor {
    pub(super) fn start_hook(&mut self, r: RunHook, now: Timestamp) {
        let (tx, kill) = oneshot::channel();
        self.running.insert(r.run, Running::Hook(Some(tx)));
        let Some(policy) = self.policy() else { return };
        let p = &policy.file.policy;
        let review = match r.stage {
            Stage::Unsigned => &p.loader.review,
            Stage::Signed => &p.signer.review,
        };
        let Some(command) = review.commands().into_iter().nth(r.hook) else {
            let end = End::Failed("the policy has no such hook any more".into());
            let _ = self.done.send(Done::Hook(r.run, end));
            return;
        };
        let variables = self.variables(&r, &policy.file.name);
        let get = |v| self.versions.get(&v).map(|h| h.version().clone());
        let live = self.row.zone.live.as_ref();
        let old = live.and_then(|l| {
            get(if r.stage == Stage::Unsigned {
                l.of
            } else {
                l.version
            })
        });
        let new = get(r.version);
        let report = serde_json::to_vec_pretty(&self.row.reports).unwrap_or_default();
        let (d, done, zone) = (self.d.clone(), self.done.clone(), self.me.name.clone());
        let timeout = r.deadline.since(now);
        tokio::spawn(async move {
            let Ok(_turn) = d.hooks.acquire().await else {
                return;
            };
            let made = tokio::task::spawn_blocking(move || Files::make(old, new, &report)).await;
            let end = match made {
                Ok(Ok(files)) => {
                    let mut environment = variables;
                    files.describe(&mut environment);
                    pass_on(&d.conf().config.hooks.environment, &mut environment);
                    let max_output = d.conf().config.hooks.max_output.0 as usize;
                    // The files live until the hook has ended.
                    let end = run(
                        Run {
                            zone,
                            command,
                            environment,
                            timeout,
                            max_output,
                        },
                        kill,
                    )
                    .await;
                    drop(files);
                    end
                }
                Ok(Err(e)) => End::Failed(format!("files for the hook could not be written: {e}")),
                Err(e) => End::Failed(e.to_string()),
            };
            let _ = done.send(Done::Hook(r.run, end));
        });
    }

    fn variables(&self, r: &RunHook, policy: &str) -> BTreeMap<String, String> {
        let bound = self.d.bound.load();
        let (servers, stage) = match r.stage {
            Stage::Unsigned => (&bound.loader_review, "unsigned"),
            Stage::Signed => (&bound.signer_review, "signed"),
        };
        let server = servers.first();
        let source_serial = self
            .versions
            .get(&r.unsigned)
            .map(|h| h.version().serial().to_string());
        let reason = serde_json::to_value(r.reason)
            .ok()
            .and_then(|v| v.as_str().map(str::to_string));
        let mut out = BTreeMap::new();
        let mut put = |k: &str, v: String| _ = out.insert(format!("CASCADE_{k}"), v);
        put("ZONE", self.me.name.clone());
        put("SERIAL", r.serial.to_string());
        put("SERVER", server.map_or(String::new(), ToString::to_string));
        put(
            "SERVER_IP",
            server.map_or(String::new(), |s| s.ip().to_string()),
        );
        put(
            "SERVER_PORT",
            server.map_or(String::new(), |s| s.port().to_string()),
        );
        put("STAGE", stage.into());
        put("VERSION", r.version.to_string());
        put("UNSIGNED_SERIAL", source_serial.unwrap_or_default());
        put(
            "PREVIOUS_SERIAL",
            r.previous.map_or(String::new(), |s| s.to_string()),
        );
        put("POLICY", policy.into());
        put("REASON", reason.unwrap_or_default());
        put("REVIEW_ID", r.run.0.to_string());
        put("DEADLINE", r.deadline.secs().to_string());
        out
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "what the operator lets through is read from the environment, in the program itself"
)]
pub(super) fn pass_on(more: &[String], out: &mut BTreeMap<String, String>) {
    for name in PASSED
        .iter()
        .copied()
        .chain(more.iter().map(String::as_str))
    {
        if let Ok(value) = std::env::var(name) {
            out.entry(name.to_string()).or_insert(value);
        }
    }
}

/// What a hook may read about the change.
struct Files {
    dir: tempfile::TempDir,
    counts: (u64, u64, u64),
}

impl Files {
    fn make(
        old: Option<Arc<ZoneVersion>>,
        new: Option<Arc<ZoneVersion>>,
        report: &[u8],
    ) -> std::io::Result<Files> {
        let dir = tempfile::Builder::new()
            .prefix("cascade-review-")
            .tempdir()?;
        let mut text = Vec::new();
        let mut counts = (0, 0, 0);
        let mut cut = false;
        if let Some(new) = &new {
            let mut line = |removed: bool, owner: &[u8], rtype, ttl, rdata: &[u8]| {
                if text.len() > DIFF_MAX {
                    cut = true;
                    return;
                }
                let sign = if removed { '-' } else { '+' };
                let shown = crate::text::record(owner, rtype, ttl, rdata);
                let _ = writeln!(text, "{sign}{shown}");
            };
            match &old {
                Some(old) => {
                    let s = diff(old, new, &mut |d| {
                        line(d.removed, d.owner, d.rtype, d.ttl, d.rdata)
                    });
                    counts = (s.records_added, s.records_removed, s.owners_changed);
                }
                None => {
                    new.for_each_record(&mut |r| line(false, r.owner, r.rtype, r.ttl, r.rdata));
                    counts = (new.sums().records, 0, new.sums().owners);
                }
            }
        }
        if cut {
            text.extend_from_slice(
                b"; the rest is left out: the difference is larger than 10 MiB\n",
            );
        }
        std::fs::write(dir.path().join("diff"), text)?;
        std::fs::write(dir.path().join("report.json"), report)?;
        Ok(Files { dir, counts })
    }

    fn describe(&self, out: &mut BTreeMap<String, String>) {
        let mut put = |k: &str, v: String| _ = out.insert(format!("CASCADE_{k}"), v);
        put("DIFF", self.dir.path().join("diff").display().to_string());
        put(
            "REPORT",
            self.dir.path().join("report.json").display().to_string(),
        );
        put("ADDED", self.counts.0.to_string());
        put("REMOVED", self.counts.1.to_string());
        put("CHANGED_OWNERS", self.counts.2.to_string());
    }
}
