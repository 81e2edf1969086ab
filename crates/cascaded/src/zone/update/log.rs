//! The update log: what was acknowledged while publication waits, kept over a power cut.

use std::sync::Arc;

use cascade_archive::{JournalWriter, Logged};
use cascade_zone::{Edit, Fingerprint, VersionId, ZoneVersion};

use super::super::actor::{Actor, Done, fp, spawn_job};
use super::content::judge;
use super::flight::Lane;
use super::{BATCH, BESIDE, Content, Updates, Waiting};
use crate::update::{Incoming, UnableKind, Verdict};

/// What a job beside the pipeline came to.
pub(in super::super) enum Beside {
    /// The log has the edits of the flight.
    Logged(Result<(), String>, Option<JournalWriter>),
    /// Requests judged while a version is in the hands of people, with what became of the log.
    Judged(Box<Content>, Result<(), String>, Option<JournalWriter>),
    /// Nothing in the log was left to do.
    Dropped(Result<(), String>),
}

impl Actor {
    pub(super) fn log_flight(&mut self) {
        let Some(f) = &self.updates.flight else {
            return;
        };
        let group = logged(&f.before, &f.after, f.edits.clone());
        self.updates.busy = true;
        let mut writer = self.updates.log.take();
        let (d, zone, source) = (self.d.clone(), self.me.id, self.updates.source);
        let n = self.row.content.rollbacks;
        spawn_job(&self.done, BESIDE, move || {
            let written = d.files.log_update(zone, &mut writer, n, &group, d.now());
            Done::UpdatesBeside(
                source,
                Beside::Logged(written.map_err(|e| e.to_string()), writer),
            )
        });
    }

    /// A version is in the hands of people: what comes meanwhile builds on the head.
    pub(super) fn judge_beside(&mut self) {
        let (Some(head), Some(policy)) = (self.updates.head.clone(), self.policy()) else {
            return self.turn_away(UnableKind::NotReady, "the zone's policy is not loaded");
        };
        let n = self.updates.queue.len().min(BATCH);
        let batch: Vec<Incoming> = self.updates.queue.drain(..n).map(|(_, i)| i).collect();
        if batch.is_empty() {
            return;
        }
        self.updates.busy = true;
        let mut writer = self.updates.log.take();
        let (d, zone, source) = (self.d.clone(), self.me.id, self.updates.source);
        let n = self.row.content.rollbacks;
        spawn_job(&self.done, BESIDE, move || {
            let now = d.now();
            // It gets an id of its own when the pipeline asks for it.
            let id = VersionId(0);
            let content = judge(head, batch, id, &policy.file.policy, &d.pool, now);
            let written = match content.made.as_ref().map(|m| (&m.version, &m.edits)) {
                Ok((Some(v), edits)) => {
                    let group = logged(&content.base, v, edits.clone());
                    d.files.log_update(zone, &mut writer, n, &group, now)
                }
                _ => Ok(()),
            };
            let written = written.map_err(|e| e.to_string());
            Done::UpdatesBeside(source, Beside::Judged(Box::new(content), written, writer))
        });
    }

    /// Everything in the log is published: it goes.
    pub(super) fn drop_log(&mut self) {
        let live = self.row.zone.live.as_ref().map(|l| l.content_fp);
        let head = self.updates.head.as_ref();
        let head = head.map(|h| fp(h.full_fingerprint()));
        if self.updates.log.is_none() || head.is_none() || head != live {
            return;
        }
        self.updates.busy = true;
        self.updates.log = None;
        let (d, zone, source) = (self.d.clone(), self.me.id, self.updates.source);
        spawn_job(&self.done, BESIDE, move || {
            let gone = d.files.drop_update_log(zone).map_err(|e| e.to_string());
            Done::UpdatesBeside(source, Beside::Dropped(gone))
        });
    }

    pub(in super::super) fn updates_beside(&mut self, source: u64, end: Beside) {
        self.updates.busy = false;
        if source != self.updates.source {
            return self.beside_too_late(end);
        }
        match end {
            Beside::Logged(Ok(()), writer) => {
                self.updates.log = writer;
                let waits = self.updates.flight.as_ref().map(|f| self.lane(f));
                let text = match waits {
                    Some(Lane::Waits(what)) => what,
                    _ => "durable; it will be published in a moment".into(),
                };
                self.land(&Verdict::Accepted(text), true);
            }
            Beside::Logged(Err(e), writer) => {
                self.updates.log = writer;
                tracing::error!(zone = %self.me.name, "a change could not be made durable: {e}");
                let text = format!("the change could not be made durable: {e}");
                self.land(&Verdict::unable(UnableKind::Other, text), false);
            }
            Beside::Judged(c, written, writer) => {
                self.updates.log = writer;
                self.judged_beside(*c, written);
            }
            Beside::Dropped(Ok(())) => {}
            Beside::Dropped(Err(e)) => {
                tracing::warn!(zone = %self.me.name, "the update log stays, though all of it is published: {e}");
            }
        }
    }

    /// The source was changed meanwhile.
    fn beside_too_late(&mut self, end: Beside) {
        let writer = match end {
            Beside::Logged(_, writer) => writer,
            Beside::Judged(c, _, writer) => {
                let text = "the zone's source was changed";
                for asked in c.batch {
                    let _ = asked
                        .reply
                        .send(Verdict::unable(UnableKind::Elsewhere, text));
                }
                writer
            }
            Beside::Dropped(_) => None,
        };
        if writer.is_some() {
            self.set_log_aside();
        }
    }

    /// A job beside the pipeline has panicked: what it had in its hands is not known.
    pub(in super::super) fn beside_panicked(&mut self) {
        self.updates.busy = false;
        self.updates.broken = true;
        let text = "internal fault; see the server's log";
        self.land(&Verdict::unable(UnableKind::Other, text), false);
    }

    fn judged_beside(&mut self, c: Content, written: Result<(), String>) {
        let made = c.made.and_then(|m| written.map(|()| m));
        let made = match made {
            Ok(made) => made,
            Err(e) => {
                tracing::error!(zone = %self.me.name, "a change could not be made durable: {e}");
                for asked in c.batch {
                    let _ = asked.reply.send(Verdict::unable(UnableKind::Other, &e));
                }
                return;
            }
        };
        let changed = made.version.is_some();
        if let Some(v) = made.version {
            self.updates.head = Some(Arc::new(v));
        }
        let text = "durable; publication waits for the version before it";
        for (asked, result) in c.batch.into_iter().zip(made.answers) {
            let w = Waiting {
                reply: asked.reply,
                result,
            };
            w.answer(&Verdict::Accepted(text.into()));
        }
        self.updates.offer |= changed;
    }

    /// Reads the log of an earlier process, on top of what it published.
    pub(in super::super) async fn recover_updates(&mut self) {
        if !self.takes_updates() {
            return;
        }
        self.settle_head();
        let Some(live) = self.updates.head.clone() else {
            return;
        };
        let (d, zone, n) = (self.d.clone(), self.me.id, self.row.content.rollbacks);
        let read = tokio::task::spawn_blocking(move || recover(&d, zone, n, live));
        match read.await.unwrap_or_else(|e| Err(e.to_string())) {
            Ok(None) => {}
            Ok(Some((head, writer))) => {
                tracing::info!(zone = %self.me.name, serial = head.serial().0, "changes that were acknowledged and not published are taken up again");
                self.updates.head = Some(head);
                self.updates.log = Some(writer);
            }
            Err(e) => {
                tracing::error!(critical = true, zone = %self.me.name, "changes that were acknowledged and not published are lost: {e}");
            }
        }
    }

    /// The source is another one: nothing of the old content counts.
    pub(in super::super) fn updates_source_changed(&mut self) {
        self.land(
            &Verdict::unable(UnableKind::Elsewhere, "the zone's source was changed"),
            true,
        );
        let had_log = self.updates.log.is_some();
        let queue = std::mem::take(&mut self.updates.queue);
        let busy = self.updates.busy;
        self.updates = Updates {
            queue,
            busy,
            source: self.updates.source + 1,
            ..Updates::default()
        };
        if had_log {
            self.set_log_aside();
        }
    }

    fn set_log_aside(&self) {
        let (d, zone, name) = (self.d.clone(), self.me.id, self.me.name.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(e) = d.files.set_update_log_aside(zone) {
                tracing::warn!(zone = %name, "the old update log stays: {e}");
            }
        });
    }
}

fn logged(before: &ZoneVersion, after: &ZoneVersion, edits: Vec<Edit>) -> Logged {
    Logged {
        before: before.full_fingerprint(),
        after: after.full_fingerprint(),
        edits,
    }
}

/// The content that the log leads to from what is published, and the log, open.
type Recovered = Option<(Arc<ZoneVersion>, JournalWriter)>;

fn recover(
    d: &crate::daemon::Daemon,
    zone: cascade_zone::ZoneId,
    rollbacks: u64,
    live: Arc<ZoneVersion>,
) -> Result<Recovered, String> {
    let text = |e: cascade_archive::ArchiveError| e.to_string();
    let found = d.files.read_update_log(zone, rollbacks);
    let Some((log, writer)) = found.map_err(text)? else {
        return Ok(None);
    };
    let aside = |why: String| {
        let at = d.files.set_update_log_aside(zone).map_err(text)?;
        Err(format!("{why}; the log is kept as {}", at.display()))
    };
    let print = live.full_fingerprint();
    let Some(from) = begins_at(&log.groups, print) else {
        return aside("the update log does not fit what is published".into());
    };
    if from == log.groups.len() && log.damage.is_none() {
        // All of it is published; the process ended before the file went.
        d.files.drop_update_log(zone).map_err(text)?;
        return Ok(None);
    }
    let mut head = live;
    let now = d.now();
    for group in log.groups.iter().skip(from) {
        let made = d
            .pool
            .install(|| head.update(VersionId(0), now, group.edits.clone()));
        match made {
            Ok(u) if u.version.full_fingerprint() == group.after => head = Arc::new(u.version),
            Ok(_) => return aside("the edits of the update log lead elsewhere".into()),
            Err(e) => return aside(e.to_string()),
        }
    }
    if let Some(damage) = log.damage {
        tracing::error!(critical = true, zone = %head.apex().without_dot(), "the update log is damaged, and changes behind the damage are lost: {damage}");
    }
    Ok(Some((head, writer)))
}

/// The group that goes on from a content; behind the last when nothing does.
fn begins_at(groups: &[Logged], print: Fingerprint) -> Option<usize> {
    let next = groups.iter().position(|g| g.before == print);
    next.or_else(|| {
        let done = groups.is_empty() || groups.last().is_some_and(|g| g.after == print);
        done.then_some(groups.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_goes_on_from_what_is_published() {
        let group = |before, after| Logged {
            before: Fingerprint(before),
            after: Fingerprint(after),
            edits: Vec::new(),
        };
        let log = [group(1, 2), group(2, 3), group(3, 4)];
        let at = |n| begins_at(&log, Fingerprint(n));
        assert_eq!(
            (at(1), at(3), at(4), at(5)),
            (Some(0), Some(2), Some(3), None)
        );
        assert_eq!(begins_at(&[], Fingerprint(9)), Some(0));
    }
}
