//! The primaries of a zone asked in order, until one delivers.

use std::sync::Arc;

use cascade_loader::xfr::{
    self, Ask, Decision, Probe, Query, ReadOptions, Reader, Received, XfrError, XfrRequest, decide,
};
use cascade_loader::{
    Attempt, Checks, Code, Level, LoadReport, LoadResult, Outcome, Progress, Severity, ZonemdCheck,
};
use cascade_time::Timestamp;
use cascade_zone::{Name, Rtype, Serial, VersionId, ZoneId, ZoneVersion};

use super::io::{self, AskError};
use super::{Failed, Primary};
use crate::daemon::{Daemon, random};

/// One load of a zone from its primaries.
pub struct Fetch {
    pub primaries: Vec<Primary>,
    pub apex: Name,
    pub zone: ZoneId,
    pub version: VersionId,
    /// The newest unsigned version at hand.
    pub current: Option<Arc<ZoneVersion>>,
    /// `current` came from this source, so serials can be compared.
    pub same_source: bool,
    /// Without asking for the SOA, and the whole zone.
    pub forced: bool,
    pub checks: Checks,
    pub read: ReadOptions,
    pub trigger: &'static str,
    /// IXFR that failed before.
    pub failed_ixfr: Option<Failed>,
    /// The newest whole zone from this source had no ZONEMD record.
    pub no_zonemd: bool,
}

/// How it ended.
pub struct Fetched {
    pub outcome: Outcome,
    /// Seconds left at the primary, when it said so (RFC 7314).
    pub expire: Option<u32>,
    pub failed_ixfr: Option<Failed>,
    pub no_zonemd: bool,
}

/// Asks and transfers. Does not end before the primaries answered or their time was over.
pub async fn fetch(job: Fetch, d: &Daemon, progress: &Arc<Progress>) -> Fetched {
    let run = Run {
        started: d.now(),
        failed_ixfr: job.failed_ixfr,
        no_zonemd: job.no_zonemd,
        job: Arc::new(job),
        d,
        progress,
        attempts: Vec::new(),
        expire: None,
    };
    run.all().await
}

struct Run<'a> {
    job: Arc<Fetch>,
    d: &'a Daemon,
    progress: &'a Arc<Progress>,
    started: Timestamp,
    attempts: Vec<Attempt>,
    failed_ixfr: Option<Failed>,
    no_zonemd: bool,
    expire: Option<u32>,
}

impl Run<'_> {
    async fn all(mut self) -> Fetched {
        let job = self.job.clone();
        let mut confirmed = None;
        let mut lower: Option<(&Primary, Serial)> = None;
        for p in &job.primaries {
            let probe = match job.forced {
                true => None,
                // Once somebody has answered, a dead one is not waited for long.
                false => match self.probe(p, confirmed.is_none() && lower.is_none()).await {
                    Some(probe) => Some(probe),
                    None => continue,
                },
            };
            let decision = probe
                .as_ref()
                .map_or(Decision::Transfer, |s| decide(s.serial, self.ours()));
            let serial = probe.as_ref().map(|s| s.serial);
            match (decision, serial) {
                (Decision::Transfer, _) => {
                    let expire = probe.as_ref().and_then(|s| s.expire);
                    if let Some(outcome) = self.transfer(p, serial).await {
                        self.expire = expire;
                        return self.end(outcome);
                    }
                }
                (Decision::UpToDate, _) => {
                    confirmed.get_or_insert((p, probe.and_then(|s| s.expire)));
                }
                (Decision::WentBack, Some(s)) => _ = lower.get_or_insert((p, s)),
                (Decision::WentBack, None) => {}
            }
        }
        match (confirmed, lower) {
            (Some((p, expire)), _) => {
                self.expire = expire;
                let report = self.report(p, LoadResult::Unchanged, "the primary has this serial");
                self.end(Outcome::Unchanged {
                    report,
                    identity: None,
                })
            }
            (None, Some((p, serial))) => self.went_back(p, serial).await,
            (None, None) => {
                let why = self.why();
                let report = match job.primaries.first() {
                    Some(p) => self.report(p, LoadResult::Failed, &why),
                    None => LoadReport::default(),
                };
                self.end(Outcome::Failed { report })
            }
        }
    }

    /// The serial that primaries are compared with.
    fn ours(&self) -> Option<Serial> {
        let current = self.job.current.as_ref()?;
        self.job.same_source.then(|| current.serial())
    }

    /// Every primary that answered has an older serial than we.
    async fn went_back(mut self, p: &Primary, serial: Serial) -> Fetched {
        let lowered = self
            .job
            .checks
            .severity_or(Code::SERIAL_BACKWARD, Level::Error)
            != Some(Severity::Error);
        if lowered && let Some(outcome) = self.axfr(p, Some(serial)).await {
            return self.end(outcome);
        }
        let ours = self.ours().unwrap_or(serial);
        let text = format!(
            "{}: the source went back: {} has serial {serial} and we have {ours}; publish a higher serial there, or lower the check serial-backward",
            Code::SERIAL_BACKWARD,
            p.text
        );
        let report = self.report(p, LoadResult::Failed, &text);
        self.end(Outcome::Failed { report })
    }

    async fn probe(&mut self, p: &Primary, patient: bool) -> Option<Probe> {
        let started = self.d.clock.monotonic();
        let asked = self.ask_soa(p, patient).await;
        let result = match &asked {
            Ok(probe) => format!("serial {}", probe.serial),
            Err(e) => e.to_string(),
        };
        self.note(p, "SOA", result, started);
        asked.ok()
    }

    async fn ask_soa(&self, p: &Primary, patient: bool) -> Result<Probe, AskError> {
        let tries = if patient { 3 } else { 1 };
        let query = |edns| self.query(&Ask::Soa { edns }, p);
        let clock = self.d.clock.as_ref();
        let mut q = query(Some(random()));
        if p.tls.is_some() {
            let answer = io::probe_stream(p, &q, clock).await;
            return match answer.as_ref().is_err_and(AskError::is_edns_refusal) {
                true => io::probe_stream(p, &query(None), clock).await,
                false => answer,
            };
        }
        let mut answer = io::probe_udp(p.addr, &q, tries, clock).await;
        if answer.as_ref().is_err_and(AskError::is_edns_refusal) {
            // RFC 6891 §7: a server that does not know EDNS.
            q = query(None);
            answer = io::probe_udp(p.addr, &q, tries, clock).await;
        }
        match answer? {
            Some(probe) => Ok(probe),
            None => io::probe_stream(p, &q, clock).await,
        }
    }

    fn query(&self, ask: &Ask<'_>, p: &Primary) -> Query {
        let id = u16::from_be_bytes(random());
        Query::new(&self.job.apex, ask, id, p.key.as_ref(), self.d.now())
    }

    /// Differences if there can be any, else the whole zone. `None`: this primary failed.
    async fn transfer(&mut self, p: &Primary, announced: Option<Serial>) -> Option<Outcome> {
        let current = self.job.current.clone();
        let ours = self.ours();
        if let (Some(current), Some(c), false) = (&current, ours, self.job.forced)
            && Failed::allows(self.failed_ixfr, p.addr, c)
            && self.differences_will_do()
        {
            match self.ixfr(p, current, announced).await {
                Ixfr::Outcome(outcome) => return Some(*outcome),
                Ixfr::NoDifferences => {}
                Ixfr::Failed => {
                    let why = self.attempts.last().map_or("", |a| a.result.as_str());
                    tracing::info!(zone = %self.job.apex, primary = %p.text, "IXFR from serial {c} failed, the whole zone is asked for: {why}");
                    self.failed_ixfr = Some(Failed::again(self.failed_ixfr, p.addr, c));
                }
            }
        }
        self.axfr(p, announced).await
    }

    /// A digest is over all records, and of those that a signer makes itself none are kept: with
    /// `loader.zonemd` differences are taken only from a source that is known to have no digest.
    fn differences_will_do(&self) -> bool {
        match self.job.read.zonemd {
            ZonemdCheck::Off => true,
            ZonemdCheck::IfPresent => self.no_zonemd,
            ZonemdCheck::Required => false,
        }
    }

    async fn ixfr(
        &mut self,
        p: &Primary,
        current: &Arc<ZoneVersion>,
        announced: Option<Serial>,
    ) -> Ixfr {
        let ask = Ask::Ixfr {
            soa_ttl: current.soa_ttl(),
            soa: current.soa(),
        };
        let query = self.query(&ask, p);
        let reader = Reader::ixfr(query.clone(), current.serial(), self.job.read);
        let started = self.d.clock.monotonic();
        let received = match self.stream(p, &query, reader).await {
            Ok(received) => received,
            Err(e) => {
                self.note(p, "IXFR", e.to_string(), started);
                return Ixfr::Failed;
            }
        };
        if let Some(e) = contradiction(&received, announced) {
            self.note(p, "IXFR", e, started);
            return Ixfr::Failed;
        }
        let applied = match received {
            Received::UpToDate(serial) => {
                self.note(
                    p,
                    "IXFR",
                    format!("up to date with serial {serial}"),
                    started,
                );
                let report = self.report(p, LoadResult::Unchanged, "the primary has this serial");
                return Ixfr::Outcome(Box::new(Outcome::Unchanged {
                    report,
                    identity: None,
                }));
            }
            Received::NoDifferences(serial) => {
                let text = format!("no differences to serial {serial}");
                self.note(p, "IXFR", text, started);
                return Ixfr::NoDifferences;
            }
            Received::Delta(delta)
                if self.job.read.zonemd != ZonemdCheck::Off
                    && delta.tally.stripped.contains_key(&Rtype::ZONEMD.0) =>
            {
                let text = "brings a ZONEMD record, which only the whole zone can show right";
                self.note(p, "IXFR", text.into(), started);
                return Ixfr::NoDifferences;
            }
            whole_or_delta => self.apply(p, whole_or_delta).await,
        };
        match applied {
            Ok(Outcome::Failed { report }) => {
                let text = crate::zone::load_error(&report);
                self.note(p, "IXFR", text, started);
                Ixfr::Failed
            }
            Ok(outcome) => {
                self.note(p, "IXFR", "complete".into(), started);
                self.saw(&outcome);
                Ixfr::Outcome(Box::new(outcome))
            }
            Err(e) => {
                self.note(p, "IXFR", e, started);
                Ixfr::Failed
            }
        }
    }

    async fn axfr(&mut self, p: &Primary, announced: Option<Serial>) -> Option<Outcome> {
        let query = self.query(&Ask::Axfr, p);
        let reader = Reader::axfr(query.clone(), self.job.read);
        let started = self.d.clock.monotonic();
        let received = match self.stream(p, &query, reader).await {
            Ok(received) => received,
            Err(e) => {
                self.note(p, "AXFR", e.to_string(), started);
                return None;
            }
        };
        if let Some(e) = contradiction(&received, announced) {
            self.note(p, "AXFR", e, started);
            return None;
        }
        match self.apply(p, received).await {
            Ok(outcome) => {
                let text = match &outcome {
                    Outcome::Failed { report } => crate::zone::load_error(report),
                    _ => {
                        self.failed_ixfr = None;
                        "complete".to_string()
                    }
                };
                self.saw(&outcome);
                self.note(p, "AXFR", text, started);
                Some(outcome)
            }
            Err(e) => {
                self.note(p, "AXFR", e, started);
                None
            }
        }
    }

    /// Remembers whether a whole zone had a digest.
    fn saw(&mut self, outcome: &Outcome) {
        let report = outcome.report();
        if report.kind == "AXFR" && report.result != LoadResult::Failed {
            self.no_zonemd = report.zonemd == "absent";
        }
    }

    async fn stream(
        &self,
        p: &Primary,
        query: &Query,
        reader: Reader,
    ) -> Result<Received, AskError> {
        let _pass = self.d.transfers.enter(p.addr.ip()).await;
        let clock = self.d.clock.as_ref();
        io::transfer(p, query, reader, clock, self.progress).await
    }

    /// Makes a version, on the compute pool and within the bound of loads.
    async fn apply(&self, p: &Primary, received: Received) -> Result<Outcome, String> {
        // Closed never: the semaphore lives as long as the daemon.
        let _turn = self.d.loads.acquire().await.map_err(|e| e.to_string())?;
        let (job, pool, clock) = (self.job.clone(), self.d.pool.clone(), self.d.clock.clone());
        let (source, started) = (p.text.clone(), self.started);
        let work = tokio::task::spawn_blocking(move || {
            let request = XfrRequest {
                apex: &job.apex,
                zone: job.zone,
                version: job.version,
                current: job.current.as_deref(),
                same_source: job.same_source,
                checks: &job.checks,
                zonemd: job.read.zonemd,
                trigger: job.trigger,
                source: &source,
                started,
            };
            pool.install(|| match received {
                Received::Full(full) => Ok(xfr::apply(&request, full, clock.as_ref())),
                Received::Delta(delta) => xfr::apply_delta(&request, &delta, clock.as_ref()),
                Received::UpToDate(_) | Received::NoDifferences(_) => Err(XfrError::NoSoa),
            })
        });
        match work.await {
            Ok(applied) => applied.map_err(|e| e.to_string()),
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(e) => Err(e.to_string()),
        }
    }

    fn note(&mut self, p: &Primary, step: &str, result: String, started: std::time::Duration) {
        let millis = self.d.clock.monotonic().saturating_sub(started).as_millis();
        tracing::debug!(zone = %self.job.apex, primary = %p.text, step, "{result}");
        self.attempts.push(Attempt {
            primary: p.text.clone(),
            step: step.into(),
            result,
            millis: u64::try_from(millis).unwrap_or(u64::MAX),
        });
    }

    /// What failed, in one line: the last thing of each primary.
    fn why(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        for p in &self.job.primaries {
            if let Some(a) = self.attempts.iter().rev().find(|a| a.primary == p.text) {
                parts.push(format!("{} ({}): {}", a.primary, a.step, a.result));
            }
        }
        match parts.is_empty() {
            true => "the source names no server".into(),
            false => parts.join("; "),
        }
    }

    /// Of an end without a version.
    fn report(&self, p: &Primary, result: LoadResult, reason: &str) -> LoadReport {
        let old = self.job.current.as_ref().map(|v| v.serial().0);
        LoadReport {
            trigger: self.job.trigger.into(),
            source: p.text.clone(),
            kind: "SOA".into(),
            result,
            reason: Some(reason.into()),
            started: self.started,
            finished: self.d.now(),
            serial_old: old,
            serial_new: old,
            zonemd: "absent".into(),
            ..LoadReport::default()
        }
    }

    fn end(self, mut outcome: Outcome) -> Fetched {
        let (Outcome::Unchanged { report, .. }
        | Outcome::Loaded { report, .. }
        | Outcome::Failed { report }) = &mut outcome;
        report.attempts = self.attempts;
        Fetched {
            outcome,
            expire: self.expire,
            failed_ixfr: self.failed_ixfr,
            no_zonemd: self.no_zonemd,
        }
    }
}

enum Ixfr {
    Outcome(Box<Outcome>),
    NoDifferences,
    Failed,
}

/// A primary that announces one serial and delivers an older one lies, or is several servers that
/// do not agree: either way this is not what was asked for.
fn contradiction(received: &Received, announced: Option<Serial>) -> Option<String> {
    let delivered = match received {
        Received::UpToDate(s) | Received::NoDifferences(s) => *s,
        Received::Full(full) => full.serial,
        Received::Delta(delta) => delta.serial?,
    };
    let announced = announced.filter(|a| delivered != *a && !delivered.newer_than(*a))?;
    Some(format!(
        "the server announced serial {announced} and delivers {delivered}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_announced_must_come() {
        let got = |s| Received::UpToDate(Serial(s));
        assert_eq!(contradiction(&got(5), None), None);
        assert_eq!(contradiction(&got(5), Some(Serial(5))), None);
        assert_eq!(contradiction(&got(6), Some(Serial(5))), None);
        assert_eq!(contradiction(&got(0), Some(Serial(u32::MAX))), None);
        assert!(contradiction(&got(4), Some(Serial(5))).is_some());
    }
}
