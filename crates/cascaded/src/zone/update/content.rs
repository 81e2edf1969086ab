//! Content for the pipeline: what a zone begins with, and what requests make of it.

use std::sync::Arc;

use cascade_api::zones::Source;
use cascade_loader::update::{Asked, Made, Making, make, read};
use cascade_loader::{LoadReport, LoadResult, Outcome as LoadOutcome};
use cascade_pipeline::Event;
use cascade_pipeline::state::{JobId, Origin, Zone};
use cascade_time::Timestamp;
use cascade_zone::{Fingerprint, VersionId, ZoneVersion};

use super::super::actor::{Actor, Done, Running, fp, spawn_job};
use super::super::jobs;
use super::{BATCH, Content, Flight, OwnContent, Waiting};
use crate::daemon::INLINE_UNITS;
use crate::update::permit::Rules;
use crate::update::{self, Incoming, UnableKind, Verdict};

/// Times of the SOA of a zone that begins empty: RFC 1912 §2.2 with an expiry of two weeks.
const EMPTY_SOA: &str = "1 3600 900 1209600 3600";

impl Actor {
    /// True once the content is what updates made, and no longer what the source began with.
    pub(in super::super) fn content_is_own(&self) -> bool {
        self.row.content.own
    }

    /// Before a step is committed: the first version of the source may have become live.
    pub(in super::super) fn note_own_content(&mut self) {
        if self.row.content.own || !matches!(self.row.source, Source::Update { .. }) {
            return;
        }
        let live = self.row.zone.live.as_ref().map(|l| l.of.0);
        let content = &mut self.row.content;
        content.own = matches!((live, content.begun), (Some(l), Some(b)) if l >= b || content.same);
    }

    /// Before a step is committed: the content of a rollback may have become live by it.
    pub(in super::super) fn note_rollback(&mut self, before: &Zone) {
        let rolled = before.candidate.cand();
        let to = rolled.filter(|c| matches!(c.origin, Origin::Rollback { .. }));
        let live = |z: &Zone| z.live.as_ref().map(|l| (l.version, l.of));
        let (was, is) = (live(before), live(&self.row.zone));
        if was != is && to.is_some_and(|c| is.is_some_and(|(_, of)| of == c.version)) {
            let content = &mut self.row.content;
            content.rollbacks = content.rollbacks.saturating_add(1);
        }
    }

    /// A load of what the content begins with came to this.
    pub(in super::super) fn note_beginning(
        &mut self,
        version: VersionId,
        print: Option<Fingerprint>,
    ) {
        if self.row.content.own || !matches!(self.row.source, Source::Update { .. }) {
            return;
        }
        // One borrow, so that its parts can be told apart.
        let row: &mut crate::zone::ZoneRow = &mut self.row;
        let (z, content) = (&row.zone, &mut row.content);
        content.begun.get_or_insert(version.0);
        // Without a candidate, what is unchanged is what is published.
        let live = z.live.as_ref();
        content.same = match print {
            Some(p) => live.is_some_and(|l| l.content_fp == fp(p)),
            None => live.is_some() && z.candidate.cand().is_none(),
        };
    }

    /// What the content begins with: a file, or text. `None`: the job is under way or has ended.
    pub(in super::super) fn begin_content(
        &mut self,
        job: JobId,
        version: VersionId,
        now: Timestamp,
    ) -> Option<(String, Option<String>)> {
        if self.content_is_own() && self.updates.head.is_none() {
            self.settle_head();
        }
        if self.updates.head.is_some() {
            self.start_content(job, version, now);
            return None;
        }
        let Source::Update { path, name_servers } = self.row.source.clone() else {
            return None;
        };
        if self.content_is_own() {
            let error = "the zone's own content is damaged on disk, and what it began with is too \
                         old: restore a backup, or give it a new beginning with \
                         'cascade zone edit --source update:/path'";
            self.later(Event::LoadFailed {
                job,
                error: error.into(),
            });
            return None;
        }
        match (path, name_servers.is_empty()) {
            (Some(path), _) => Some((path, None)),
            (None, false) => {
                let text = empty_zone(&self.me.apex.to_string(), &name_servers);
                Some(("the empty zone".into(), Some(text)))
            }
            (None, true) => {
                // What is published is the beginning.
                let live = self.row.zone.live.as_ref().map(|l| l.of);
                match live.and_then(|v| self.version(v)) {
                    Some(v) => {
                        self.row.content = OwnContent {
                            begun: Some(v.id().0),
                            same: true,
                            own: true,
                            rollbacks: self.row.content.rollbacks,
                        };
                        self.updates.head = Some(v);
                        self.start_content(job, version, now);
                    }
                    None => self.later(Event::LoadFailed {
                        job,
                        error: "there is nothing published to begin with; give a file or name \
                                servers: update:/path, update:ns1.example."
                            .into(),
                    }),
                }
                None
            }
        }
    }

    /// Judges what waits, and makes a version of it; without anything that waits, the head.
    fn start_content(&mut self, job: JobId, version: VersionId, now: Timestamp) {
        let (Some(head), Some(policy)) = (self.updates.head.clone(), self.policy()) else {
            self.later(Event::LoadFailed {
                job,
                error: "the zone's policy is not loaded".into(),
            });
            return;
        };
        self.running.insert(job, Running::Other);
        // A version of others' is not answered yet: nothing may build on it in secret.
        let n = match self.updates.flight.is_some() || self.updates.busy {
            true => 0,
            false => self.updates.queue.len().min(BATCH),
        };
        let batch: Vec<Incoming> = self.updates.queue.drain(..n).map(|(_, i)| i).collect();
        let rules = policy.file;
        let judge = move |pool: &rayon::ThreadPool| {
            let content = judge(head, batch, version, &rules.policy, pool, now);
            Done::Content(job, version, Box::new(content))
        };
        if n <= INLINE_UNITS {
            return self.at_once(job, judge);
        }
        let d = self.d.clone();
        spawn_job(&self.done, job, move || judge(&d.pool));
    }

    pub(in super::super) async fn content_made(
        &mut self,
        job: JobId,
        version: VersionId,
        c: Content,
    ) {
        if !self.running.contains_key(&job) {
            let text = "the change was cancelled; ask again";
            for asked in c.batch {
                let _ = asked.reply.send(Verdict::unable(UnableKind::Other, text));
            }
            return;
        }
        let now = self.d.now();
        let report = LoadReport {
            trigger: "update".into(),
            source: self.row.zone.source.text.clone(),
            kind: format!("UPDATE ({} requests)", c.batch.len()),
            started: c.started,
            finished: now,
            serial_old: Some(c.base.serial().0),
            ..LoadReport::default()
        };
        let made = match c.made {
            Ok(made) => made,
            Err(error) => {
                // A fault of ours: nothing has changed.
                for asked in c.batch {
                    let _ = asked.reply.send(Verdict::unable(UnableKind::Other, &error));
                }
                self.running.remove(&job);
                return self.apply(Event::LoadFailed { job, error }).await;
            }
        };
        let none = c.batch.is_empty();
        let mut waiting: Vec<Waiting> = c
            .batch
            .into_iter()
            .zip(made.answers)
            .map(|(asked, result)| Waiting {
                reply: asked.reply,
                result,
            })
            .collect();
        let live = self.row.zone.live.as_ref().map(|l| l.content_fp);
        let v = made
            .version
            .filter(|v| live != Some(fp(v.full_fingerprint())));
        let Some(v) = v else {
            for w in waiting.drain(..) {
                w.answer(&Verdict::Unchanged);
            }
            let report = LoadReport {
                result: LoadResult::Unchanged,
                ..report
            };
            let outcome = LoadOutcome::Unchanged {
                report,
                identity: None,
            };
            return self.loaded(job, version, outcome, None).await;
        };
        let after = Arc::new(v);
        let sums = after.sums();
        let report = LoadReport {
            result: LoadResult::Loaded,
            records: sums.records,
            owners: sums.owners,
            cuts: sums.cuts,
            secure_cuts: sums.secure,
            serial_new: Some(after.serial().0),
            diagnostics: made.diagnostics,
            ..report
        };
        self.updates.head = Some(after.clone());
        if !none {
            self.updates.flight = Some(Flight {
                before: c.base,
                after: after.clone(),
                edits: made.edits,
                waiting,
                since: now,
            });
        }
        let outcome = LoadOutcome::Loaded {
            version: Box::new(ZoneVersion::clone(&after)),
            report,
            identity: None,
        };
        self.loaded(job, version, outcome, None).await;
    }
}

/// Judges requests upon `base`, on the compute pool. Without requests the version is the base under
/// its new id.
pub(super) fn judge(
    base: Arc<ZoneVersion>,
    batch: Vec<Incoming>,
    version: VersionId,
    policy: &cascade_policy::Policy,
    pool: &rayon::ThreadPool,
    now: Timestamp,
) -> Content {
    let checks = jobs::checks(&policy.loader.checks);
    let making = Making {
        base: &base,
        version,
        checks: &checks,
        max_ttl: jobs::max_ttl(policy),
        now,
    };
    let made = if batch.is_empty() {
        let same = pool.install(|| base.update(version, now, Vec::new()));
        same.map(|u| Made {
            answers: Vec::new(),
            version: Some(u.version),
            edits: Vec::new(),
            diagnostics: Default::default(),
        })
    } else {
        let rules = Rules::new(&policy.loader.update_allow, base.apex());
        let permits: Vec<_> = batch.iter().map(|i| rules.of(&i.by, base.apex())).collect();
        let asked: Vec<Asked<'_>> = batch
            .iter()
            .zip(&permits)
            .map(|(i, permit)| Asked {
                request: match &i.asked {
                    update::Asked::Message(m) => read(m, base.apex()),
                    update::Asked::Request(r) => Ok((**r).clone()),
                },
                permit,
            })
            .collect();
        pool.install(|| make(&asked, &making))
    };
    Content {
        made: made.map_err(|e| e.to_string()),
        base,
        batch,
        started: now,
    }
}

/// The text of a zone that has nothing but its name servers.
fn empty_zone(apex: &str, name_servers: &[String]) -> String {
    let first = name_servers.first().map_or(".", String::as_str);
    let dot = if apex == "." { "" } else { "." };
    let mut text = format!(
        "$TTL 3600\n@ IN SOA {} hostmaster{dot}{apex} {EMPTY_SOA}\n",
        absolute(first)
    );
    for ns in name_servers {
        text.push_str(&format!("@ IN NS {}\n", absolute(ns)));
    }
    text
}

fn absolute(name: &str) -> String {
    match name.ends_with('.') {
        true => name.to_string(),
        false => format!("{name}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_zone_is_one_that_loads() {
        let names = ["ns1.example.org".to_string(), "ns2.example.net.".into()];
        let apex = cascade_zone::Name::parse("example.net").unwrap();
        let text = empty_zone(&apex.to_string(), &names);
        let parsed: cascade_loader::ParsedFile<cascade_loader::RecordList> =
            cascade_loader::parse_bytes(text.into_bytes(), "empty", &apex, &Default::default());
        let n: usize = parsed.sinks.iter().map(|s| s.records.len()).sum();
        assert_eq!(n, 3);
        assert!(empty_zone(".", &names).contains("SOA ns1.example.org. hostmaster. 1 "));
    }
}
