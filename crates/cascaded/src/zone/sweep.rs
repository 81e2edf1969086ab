//! The background check of what is published: everything is verified again, by ring alone, once in
//! `signer.verify.sweep`. It finds what a restart, a disk or a memory cell broke after the gate.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cascade_pipeline::Event;
use cascade_policy::OffOr;
use cascade_time::Timestamp;
use cascade_verifier::{Outcome, VerifyReport};
use cascade_zone::{VersionId, ZoneVersion};

use super::actor::{Actor, Done, Held};
use super::{Message, jobs};

/// Before the first check of what a restart brought back.
const AFTER_START: Duration = Duration::from_secs(5);
/// Checks take at most one part in so many of one core, and never let the next one wait longer.
const SHARE: u32 = 20;
const LONGEST_REST: Duration = Duration::from_secs(600);
/// For each zone that a start brings back, so much longer until the checks of all have begun.
const PER_ZONE: Duration = Duration::from_millis(50);
/// After a check that could not be finished (a panic in it).
const AGAIN: Duration = Duration::from_secs(600);

/// When the next check is due: one interval after the last time that everything was verified, and
/// not before `earliest`. Without an interval, never.
pub(super) fn due(
    last: Option<Timestamp>,
    interval: Option<Duration>,
    earliest: Option<Timestamp>,
) -> Option<Timestamp> {
    let interval = interval?;
    // What this process has not verified as a whole is due at once: it came from a disk.
    let at = last.map_or(Timestamp::EPOCH, |at| at + interval);
    Some(earliest.map_or(at, |e| at.max(e)))
}

impl Actor {
    /// How long after a start this zone is checked: the zones come one after the other, by an order
    /// that their ids give.
    pub(super) fn sweep_turn(&self) -> Duration {
        let zones = u32::try_from(self.d.restored.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let all = PER_ZONE.saturating_mul(zones.saturating_sub(1));
        let place = u32::from(u16::from_le_bytes([self.me.id.0[0], self.me.id.0[1]]));
        AFTER_START + all.mul_f64(f64::from(place) / 65536.0)
    }

    pub(super) fn sweep_due(&self) -> Option<Timestamp> {
        if self.sweeping {
            return None;
        }
        let policy = self.policy()?;
        let interval = match policy.file.policy.signer.verify.sweep {
            OffOr::Off => None,
            OffOr::After(every) => Some(every),
        };
        let live = self.row.zone.live.as_ref()?;
        // Published against the gate's word: checking again tells nothing new.
        if live.despite_verification.is_some() {
            return None;
        }
        due(self.full_at, interval, self.sweep_after)
    }

    /// Queues for the one turn that the daemon has for these checks; the version that is checked is
    /// the one published when it comes. The zone may rest meanwhile.
    pub(super) fn queue_sweep(&mut self) {
        self.sweeping = true;
        let (turns, zone) = (self.d.sweeps.clone(), Arc::downgrade(&self.me));
        tokio::spawn(async move {
            if let Ok(turn) = turns.acquire_owned().await
                && let Some(zone) = zone.upgrade()
            {
                zone.tell(Message::SweepTurn(turn));
            }
        });
    }

    pub(super) fn start_sweep(&mut self, turn: tokio::sync::OwnedSemaphorePermit) {
        let live = self.row.zone.live.as_ref().map(|l| l.version);
        let held = live.and_then(|v| Some((v, self.versions.get(&v)?)));
        let (Some((version, held)), Some(policy)) = (held, self.policy()) else {
            self.sweeping = false;
            return;
        };
        let signed: Arc<ZoneVersion> = held.version().clone();
        let keys = self.gate_keys(version, &signed);
        let denial = self.denial_of(&signed, &policy.file.policy);
        let input = jobs::VerifyInput {
            denial,
            approved: self.version(signed.unsigned_id()),
            version: signed,
            before: None,
            keys,
            policy: policy.file,
            live: None,
            highest: None,
            sample_seed: self.row.zone.seed,
        };
        let (d, done) = (self.d.clone(), self.done.clone());
        let (started, d2) = (d.now(), d.clone());
        let work = tokio::task::spawn_blocking(move || {
            let outcome = jobs::sweep(input, &d.sweep_pool, d.now());
            let mut report = match &outcome {
                Outcome::Verified(v) => v.report().clone(),
                Outcome::Refused(r) => r.report().clone(),
            };
            report.duration_ms = Some(d.now().since(started).as_millis() as u64);
            (report, matches!(outcome, Outcome::Verified(_)))
        });
        tokio::spawn(async move {
            let result = work.await.map_err(|e| e.to_string());
            let took = d2.now().since(started);
            tokio::spawn(async move {
                tokio::time::sleep(took.saturating_mul(SHARE - 1).min(LONGEST_REST)).await;
                drop(turn);
            });
            let _ = done.send(Done::Swept(version, Box::new(result)));
        });
    }

    /// A large version is served as soon as its file is read and its check sums fit; its records are
    /// compared with its fingerprints right after that.
    pub(super) fn start_recount(&self, version: VersionId) {
        let Some(v) = self.version(version) else {
            return;
        };
        let (d, done, me) = (self.d.clone(), self.done.clone(), self.me.clone());
        let work = tokio::task::spawn_blocking(move || d.sweep_pool.install(|| v.recount()));
        tokio::spawn(async move {
            match work.await {
                Ok(counted) => {
                    let result = counted.map_err(|e| e.to_string());
                    let _ = done.send(Done::Recounted(version, result));
                }
                // That says nothing of the disk.
                Err(e) => {
                    tracing::error!(zone = %me.name, "version {version} could not be compared with its fingerprints after the start; unless signer.verify.sweep is off, the background check verifies it next. Report this bug: {e}")
                }
            }
        });
    }

    pub(super) async fn recounted(&mut self, version: VersionId, result: Result<(), String>) {
        let Err(why) = result else {
            tracing::debug!(zone = %self.me.name, "version {version} has the fingerprints of its file");
            return;
        };
        let text = format!("what was read back from disk is not what was written: {why}");
        tracing::error!(
            critical = true,
            zone = %self.me.name,
            "version {version}: {text}; it is verified and signed again. Have the memory and the disk of this machine tested"
        );
        let live = self.row.zone.live.as_ref().map(|l| l.version);
        if live == Some(version) {
            self.apply(Event::SweepFinding { text }).await;
        }
    }

    pub(super) async fn swept(
        &mut self,
        version: VersionId,
        result: Result<(VerifyReport, bool), String>,
    ) {
        self.sweeping = false;
        let now = self.d.now();
        let (report, passed) = match result {
            Ok(r) => r,
            Err(e) => {
                tracing::error!(zone = %self.me.name, "the background check could not be finished: {e}");
                self.sweep_after = Some(now + AGAIN);
                return;
            }
        };
        let live = self.row.zone.live.as_ref().map(|l| l.version);
        if !passed {
            // Looked at once more at the next turn, whatever healing does meanwhile.
            self.sweep_after = Some(now + AGAIN);
            tracing::error!(
                critical = true,
                zone = %self.me.name,
                "the background check found faults in what is published: {}", report.text()
            );
            if live == Some(version) {
                let text = report.text();
                self.apply(Event::SweepFinding { text }).await;
            }
            return;
        }
        tracing::info!(
            zone = %self.me.name,
            "background check: {} signatures of version {version}, no findings",
            report.counts.signatures_checked
        );
        self.full_at = Some(now);
        self.row.reports.last_full_at = Some(now);
        self.save_row().await;
    }
}

impl Held {
    /// What the next version can be compared with: verified, with what the gate noted of it.
    pub(super) fn as_before(&self) -> Option<jobs::Before> {
        match self {
            Held::Verified(v) => Some(jobs::Before {
                version: v.version().clone(),
                ledger: v.ledger()?.clone(),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_due_one_interval_after_the_last() {
        let hour = Duration::from_secs(3600);
        let at = Timestamp::from_secs(1_800_000_000);
        assert_eq!(due(Some(at), Some(hour), None), Some(at + hour));
        assert_eq!(due(Some(at), Some(hour), Some(at)), Some(at + hour));
        assert_eq!(due(None, Some(hour), None), Some(Timestamp::EPOCH));
        assert_eq!(due(None, Some(hour), Some(at)), Some(at));
        // Switched off is off, whatever a restart or a failed check has put off.
        assert_eq!(due(Some(at), None, None), None);
        assert_eq!(due(Some(at), None, Some(at)), None);
    }
}
