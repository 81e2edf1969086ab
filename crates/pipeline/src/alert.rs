//! Alerts follow from the value and the time; nobody has to remember to raise or clear one.

use std::collections::BTreeMap;

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::Fault;
use crate::settings::OnExpiry;
use crate::state::{
    Candidate, Cause, Hook, RejectedAt, Retry, Review, RunwayClass, Serving, Stage, Upkeep, Zone,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertKey {
    Held,
    Review,
    UpkeepReview,
    Rejected,
    Discarded,
    Refused,
    Retry,
    UpkeepRetry,
    Runway,
    Source,
    SourceExpired,
    Storage,
    Clock,
    Conflict,
    SecondaryAhead,
    Recovered,
    Doubt,
    DespiteVerification,
    Pinned,
    Paused,
    Maintenance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Notice,
    Warning,
    Critical,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    pub key: AlertKey,
    pub severity: Severity,
    pub since: Timestamp,
    pub text: String,
    /// What helps, exactly as typed.
    pub commands: Vec<String>,
}

/// The alerts that are on in this state at this time.
pub(crate) fn wanted(zone: &Zone, now: Timestamp) -> BTreeMap<AlertKey, Alert> {
    let mut a = Alerts {
        zone,
        now,
        out: BTreeMap::new(),
    };
    if matches!(zone.candidate, Candidate::Removing { .. }) {
        return a.out;
    }
    a.candidate();
    a.upkeep();
    a.world();
    a.modes();
    a.runway();
    a.out
}

/// Times at which [`wanted`] may change although nothing happens.
pub(crate) fn deadlines(zone: &Zone, push: &mut dyn FnMut(Timestamp)) {
    if let Some(live) = &zone.live {
        let r = &zone.settings.runway;
        for span in [r.warning, r.critical, r.emergency] {
            push(live.min_exp - span);
        }
    }
    zone.rejected.iter().for_each(|(_, until)| push(*until));
    let token = zone.settings.limits.token_alert;
    if let Candidate::AwaitRetry { retry, .. } = zone.candidate.parked()
        && retry.cause == Cause::Failed(Fault::Token)
    {
        push(retry.since + token);
    }
    if let Upkeep::AwaitRetry { retry, .. } = &zone.upkeep
        && retry.cause == Cause::Failed(Fault::Token)
    {
        push(retry.since + token);
    }
    if let (Some(ok), Some(end)) = (zone.source.last_ok, zone.source.expires_at) {
        let span = end.since(ok);
        for percent in [50, 75, 90] {
            push(ok + span * percent / 100);
        }
    }
}

struct Alerts<'a> {
    zone: &'a Zone,
    now: Timestamp,
    out: BTreeMap<AlertKey, Alert>,
}

impl Alerts<'_> {
    fn raise(
        &mut self,
        key: AlertKey,
        severity: Severity,
        since: Timestamp,
        text: String,
        commands: &[String],
    ) {
        self.out.insert(
            key,
            Alert {
                key,
                severity,
                since,
                text,
                commands: commands.to_vec(),
            },
        );
    }

    fn cmd(&self, what: &str) -> String {
        format!("cascade zone {what} {}", self.zone.name)
    }

    fn verdicts(&self, stage: Stage, number: u64) -> Vec<String> {
        let flag = match stage {
            Stage::Unsigned => "--unsigned",
            Stage::Signed => "--signed",
        };
        let name = &self.zone.name;
        vec![
            format!("cascade zone approve {flag} {name} {number}"),
            format!("cascade zone reject {flag} {name} {number}"),
        ]
    }

    fn candidate(&mut self) {
        let z = self.zone;
        match z.candidate.parked() {
            Candidate::AwaitGuardApproval { cand, since } => {
                let why = cand.guard_report.as_ref().map_or("", |r| &r.text);
                let text = format!("change guard holds version {}: {why}", cand.version);
                let cmds = self.verdicts(Stage::Unsigned, cand.source_serial.0.into());
                self.raise(AlertKey::Held, Severity::Warning, *since, text, &cmds);
            }
            Candidate::AwaitUnsignedReview { cand, review } => {
                let cmds = self.verdicts(Stage::Unsigned, cand.source_serial.0.into());
                self.review(AlertKey::Review, review, &cmds);
            }
            Candidate::AwaitSignedReview { cand, review } => {
                let serial = cand
                    .signed
                    .as_ref()
                    .map_or(cand.source_serial, |s| s.serial);
                let cmds = self.verdicts(Stage::Signed, serial.0.into());
                self.review(AlertKey::Review, review, &cmds);
            }
            Candidate::Rejected {
                cand,
                at_stage,
                by,
                reason,
                at,
            } => {
                let flag = match at_stage {
                    RejectedAt::SignedReview => "override --signed",
                    _ => "override --unsigned",
                };
                let text = format!("version {} was rejected by {by}: {reason}", cand.version);
                let cmds = [self.cmd(flag), self.cmd("reset")];
                self.raise(AlertKey::Rejected, Severity::Warning, *at, text, &cmds);
            }
            Candidate::Refused { cand, reason, at } => {
                let text = format!("version {} cannot be published: {reason}", cand.version);
                let cmds = [
                    self.cmd("resign --full"),
                    self.cmd("reset"),
                    self.cmd("reload"),
                ];
                self.raise(AlertKey::Refused, Severity::Critical, *at, text, &cmds);
            }
            Candidate::AwaitRetry { retry, .. } => self.retry(AlertKey::Retry, retry),
            _ => {}
        }
    }

    fn upkeep(&mut self) {
        match &self.zone.upkeep {
            Upkeep::AwaitReview { up, review } => {
                let cmds = self.verdicts(Stage::Signed, up.signed.serial.0.into());
                self.review(AlertKey::UpkeepReview, review, &cmds);
            }
            Upkeep::AwaitRetry { retry, .. } => self.retry(AlertKey::UpkeepRetry, retry),
            _ => {}
        }
    }

    fn review(&mut self, key: AlertKey, review: &Review, commands: &[String]) {
        let (severity, text) = match &review.hook {
            Hook::Person => match &review.last_error {
                None => (Severity::Notice, "waits for a person".to_owned()),
                Some(e) => (Severity::Warning, format!("waits for a person: {e}")),
            },
            Hook::NotOpened => (
                Severity::Notice,
                "waits for the review of the candidate to end".to_owned(),
            ),
            Hook::Held => {
                let why = review.last_error.as_deref().unwrap_or("it gave no verdict");
                (
                    Severity::Warning,
                    format!("the hook gave no verdict: {why}"),
                )
            }
            Hook::Running { .. } | Hook::Backoff { .. } => return,
        };
        let stage = match review.stage {
            Stage::Unsigned => "unsigned",
            Stage::Signed => "signed",
        };
        let text = format!("review of {stage} version {}: {text}", review.version);
        self.raise(key, severity, review.opened_at, text, commands);
    }

    fn retry(&mut self, key: AlertKey, retry: &Retry) {
        let mut commands = Vec::new();
        let severity = match retry.cause {
            // The pause, the pin, the maintenance and the doubt have alerts of their own.
            Cause::Pinned
            | Cause::PublishPaused
            | Cause::Maintenance
            | Cause::OtherLane
            | Cause::Doubt => return,
            Cause::Failed(Fault::Token) => {
                let late = self.now >= retry.since + self.zone.settings.limits.token_alert;
                if !late && self.zone.runway(self.now) == RunwayClass::Normal {
                    return;
                }
                commands.push("cascade hsm status".to_owned());
                Severity::Warning
            }
            Cause::Failed(Fault::Keys) => {
                commands.push(format!("cascade keyset {} list", self.zone.name));
                Severity::Warning
            }
            Cause::Refused => {
                commands.push(self.cmd("resign --full"));
                Severity::Critical
            }
            Cause::Review => {
                commands.push(self.cmd("resign"));
                Severity::Warning
            }
            Cause::Failed(_) | Cause::Clock | Cause::Storage => Severity::Warning,
        };
        let what = match key {
            AlertKey::UpkeepRetry => "keeping the zone fresh",
            _ => "the candidate",
        };
        let text = format!("{what} waits: {}", retry.error);
        self.raise(key, severity, retry.since, text, &commands);
    }

    fn world(&mut self) {
        let z = self.zone;
        if let Some(since) = z.storage_full {
            let text = "the disk is full: nothing new is loaded or signed".to_owned();
            self.raise(AlertKey::Storage, Severity::Critical, since, text, &[]);
        }
        if let Some((since, why)) = &z.clock_unsafe {
            let text = format!("the clock cannot be trusted, nothing is signed: {why}");
            // Of use where the reason names it: a clock that nobody steers is not confirmed.
            let confirm = "cascade clock confirm".to_owned();
            let cmds = match why.contains(&confirm) {
                true => vec![confirm],
                false => Vec::new(),
            };
            self.raise(AlertKey::Clock, Severity::Critical, *since, text, &cmds);
        }
        if let Some((since, what)) = &z.conflict {
            let text = format!("transfers are held: {what}");
            let cmds = [self.cmd("remove")];
            self.raise(AlertKey::Conflict, Severity::Critical, *since, text, &cmds);
        }
        if let Some(a) = &z.ahead {
            let text = format!(
                "secondary {} serves serial {}, which is newer than ours: another signer, or an old state of this one; until a newer version is published it takes nothing from us",
                a.server, a.serial
            );
            let cmds = [self.cmd("resign")];
            let (key, severity) = (AlertKey::SecondaryAhead, Severity::Critical);
            self.raise(key, severity, a.since, text, &cmds);
        }
        if let Some((_, until)) = z.rejected
            && until > self.now
        {
            let text = "the last content was rejected and dropped; what is live stays".to_owned();
            let cmds = [self.cmd("history"), self.cmd("reload")];
            let since = until - z.settings.limits.remember_rejected;
            self.raise(AlertKey::Discarded, Severity::Warning, since, text, &cmds);
        }
        self.source();
        self.doubt();
        let Some(live) = &z.live else { return };
        let reload = [self.cmd("reload")];
        match live.serving {
            Serving::RecoveredOld => {
                let text = format!(
                    "recovery found only version {}, which is served",
                    live.version
                );
                self.raise(
                    AlertKey::Recovered,
                    Severity::Critical,
                    live.published_at,
                    text,
                    &reload,
                );
            }
            Serving::AwaitResign => {
                let text =
                    "signatures are damaged: no answers before the zone is signed again".to_owned();
                self.raise(
                    AlertKey::Recovered,
                    Severity::Critical,
                    live.published_at,
                    text,
                    &reload,
                );
            }
            Serving::Yes | Serving::SignFirst => {}
        }
        if let Some(by) = &live.despite_verification {
            let text = format!(
                "{by} published version {} despite verification",
                live.version
            );
            let cmds = [self.cmd("resign --full"), self.cmd("rollback --to VERSION")];
            self.raise(
                AlertKey::DespiteVerification,
                Severity::Critical,
                live.published_at,
                text,
                &cmds,
            );
        }
    }

    fn source(&mut self) {
        let z = self.zone;
        let s = &z.source;
        let reload = [self.cmd("reload")];
        if s.expired {
            let since = s.expires_at.unwrap_or(self.now);
            let text = match z.settings.on_expiry {
                OnExpiry::Stop => "the source expired: the zone is not answered any more",
                OnExpiry::Keep => "the source expired: the last content is still served",
            };
            let key = AlertKey::SourceExpired;
            self.raise(key, Severity::Critical, since, text.to_owned(), &reload);
            return;
        }
        let used = match (s.last_ok, s.expires_at) {
            (Some(ok), Some(end)) if end > ok => {
                self.now.since(ok).as_secs().saturating_mul(100) / end.since(ok).as_secs().max(1)
            }
            _ => 0,
        };
        if s.failures >= z.settings.limits.load_failures || used >= 50 {
            let severity = if used >= 75 {
                Severity::Critical
            } else {
                Severity::Warning
            };
            let error = s.error.as_deref().unwrap_or("no answer from the source");
            let text = match s.failures {
                0 => format!("the source grows old: {error}"),
                n => format!("loading failed {n} times in a row: {error}"),
            };
            self.raise(
                AlertKey::Source,
                severity,
                s.last_ok.unwrap_or(self.now),
                text,
                &reload,
            );
        }
    }

    fn doubt(&mut self) {
        let z = self.zone;
        let Some(doubt) = &z.doubt else { return };
        let text = format!(
            "restored from a backup, nothing new is signed: {}",
            doubt.text
        );
        // Above what may have been published since the backup, as far as anybody can guess.
        let above = z.used_serial.map_or(1, |s| s.0.wrapping_add(100));
        let cmds = [format!("cascade zone resign --serial {above} {}", z.name)];
        let severity = match doubt.asked {
            true => Severity::Critical,
            false => Severity::Warning,
        };
        self.raise(AlertKey::Doubt, severity, doubt.since, text, &cmds);
    }

    fn modes(&mut self) {
        let m = &self.zone.modes;
        if let Some(p) = &m.pin {
            let text = format!("content is pinned to {} by {}", p.version, p.by);
            let cmds = [self.cmd("unpin")];
            self.raise(AlertKey::Pinned, Severity::Notice, p.since, text, &cmds);
        }
        let load = m.load_paused.map(|at| (at, "resume load"));
        let publish = m.publish_paused.map(|at| (at, "resume publish"));
        if let Some(since) = load.or(publish).map(|(at, _)| at) {
            let name = &self.zone.name;
            let cmds: Vec<String> = [
                m.load_paused.map(|_| "load"),
                m.publish_paused.map(|_| "publish"),
            ]
            .into_iter()
            .flatten()
            .map(|part| format!("cascade zone resume {part} {name}"))
            .collect();
            let text = "the zone is paused".to_owned();
            self.raise(AlertKey::Paused, Severity::Notice, since, text, &cmds);
        }
        if let Some(m) = &m.maintenance {
            let text = format!("maintenance by {}: no new content goes live", m.by);
            let cmds = [self.cmd("maintenance disable")];
            self.raise(
                AlertKey::Maintenance,
                Severity::Notice,
                m.since,
                text,
                &cmds,
            );
        }
    }

    /// Whatever fails, time left is what counts; the text names what stands in the way.
    fn runway(&mut self) {
        let z = self.zone;
        let Some(live) = &z.live else { return };
        if z.is_expired() {
            return;
        }
        let severity = match z.runway(self.now) {
            RunwayClass::Normal => return,
            RunwayClass::Late => Severity::Warning,
            RunwayClass::Critical | RunwayClass::Emergency => Severity::Critical,
        };
        let blocking = match (&z.upkeep, z.modes.maintenance.as_ref().map(|m| m.resign)) {
            (Upkeep::AwaitRetry { retry, .. }, _) => retry.error.clone(),
            (Upkeep::AwaitReview { .. }, _) => "refreshed signatures wait for review".to_owned(),
            (Upkeep::Idle, _) if z.clock_unsafe.is_some() => "the clock is not safe".to_owned(),
            (Upkeep::Idle, Some(false)) => "maintenance without re-signing".to_owned(),
            _ => "signatures are being refreshed".to_owned(),
        };
        let text = format!("signatures expire at {}: {blocking}", live.min_exp);
        let since = live.min_exp - z.settings.runway.warning;
        let cmds = [self.cmd("resign")];
        self.raise(AlertKey::Runway, severity, since, text, &cmds);
    }
}
