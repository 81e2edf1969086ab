//! Level Z: the product's pipeline between the key manager and what servers show.
//!
//! What it asks for is done by models that take time, and may fail as scenarios say. As in the daemon
//! a step is durable before anything follows from it, together with the keys, and the process may die
//! before any one of the things that follow: what is then known is the row, and the versions whose
//! files were synced. Recovery is the product's own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cascade_keys::{Action as KeyAction, ApexSet, Event as KeyEvent, KeyNum, Publication, Subject};
use cascade_pipeline::action::StartSign;
use cascade_pipeline::event::{Loaded, SignResult};
use cascade_pipeline::state::{Fp, JobId, KeySet, Origin, Reason, Report, Trigger};
use cascade_pipeline::{
    Action, Candidate, Event, Fault, GuardOutcome, Keepsake, Serve, Settings, Zone, next_deadline,
    restore, step,
};
use cascade_time::Timestamp;
use cascade_zone::{Serial, VersionId, ZoneId};

use crate::MINUTE;
use crate::check::Rule;
use crate::config::Config;
use crate::real::{Counts, Real};
use crate::servers::{PARTS, Part};
use crate::world::{Coming, World};

/// What was asked of the pipeline and was not done is asked again then, as the daemon does.
const REMIND: Duration = Duration::from_secs(600);
/// Work that ends nothing: steps that lead to steps at the same moment.
const MAX_STEPS: usize = 200;
pub(crate) const ZONE: ZoneId = ZoneId([7; 16]);

/// What was signed as one version.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) apex: ApexSet,
    pub(crate) data: Vec<Part>,
    pub(crate) content: u32,
    pub(crate) apex_expires: Timestamp,
    /// Of real data: the largest TTL, and the serial.
    pub(crate) data_ttl: Option<u32>,
    pub(crate) serial: Option<u32>,
}

/// The pipeline of the simulated zone, and its disk.
#[derive(Clone)]
pub(crate) struct Pipe {
    pub(crate) zone: Zone,
    /// The committed row: all that is known after a crash.
    row: String,
    /// Versions in memory, and those whose files are whole on disk.
    pub(crate) made: BTreeMap<VersionId, Made>,
    pub(crate) durable: BTreeSet<VersionId>,
    /// Contents of the source by unsigned version.
    loaded: BTreeMap<VersionId, u32>,
    /// Apex sets by their digests, and which of them change all signers at once.
    pub(crate) sets: BTreeMap<u64, (ApexSet, bool)>,
    /// Signing waits for the first keys.
    waits: Option<StartSign>,
    /// The signatures over the keys are to be made anew.
    pub(crate) renews: bool,
    /// What resolvers get from our own server.
    shown: Option<VersionId>,
    /// Process by its number: jobs of a dead one have no results.
    process: u32,
    /// Commits, restarts with something at work, and candidates that were found on disk.
    pub(crate) commits: u32,
    pub(crate) interrupted: u32,
    /// Its versions are real ones.
    pub(crate) real: Option<Box<Real>>,
}

impl Pipe {
    pub(crate) fn new(config: &Config) -> Pipe {
        let real = config.real.then(|| Real::new(&config.owner, config.seed));
        let zone = Zone::new(ZONE, "example", "file", Settings::default(), 42);
        Pipe {
            row: serde_json::to_string(&zone).unwrap_or_default(),
            zone,
            made: BTreeMap::new(),
            durable: BTreeSet::new(),
            loaded: BTreeMap::new(),
            sets: BTreeMap::new(),
            waits: None,
            renews: false,
            shown: None,
            process: 0,
            commits: 0,
            interrupted: 0,
            real: real.flatten().map(Box::new),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        next_deadline(&self.zone)
    }
}

fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl World {
    /// Effects of the daemon so far: moments before which it may be killed.
    pub fn effects(&self) -> u32 {
        self.effects
    }

    /// Steps of the pipeline that were made durable.
    pub fn commits(&self) -> u32 {
        self.pipe.as_ref().map_or(0, |p| p.commits)
    }

    /// Deaths of the process while a version was being worked on.
    pub fn interrupted(&self) -> u32 {
        self.pipe.as_ref().map_or(0, |p| p.interrupted)
    }

    /// What was done with real data.
    pub fn counts(&self) -> Counts {
        let real = self.pipe.as_ref().and_then(|p| p.real.as_ref());
        real.map_or(Counts::default(), |r| r.counts)
    }

    pub(crate) fn is_real(&self) -> bool {
        self.pipe.as_ref().is_some_and(|p| p.real.is_some())
    }

    /// The product's recovery reads the zone back: what is live is not known yet.
    pub(crate) fn is_restoring(&self) -> bool {
        let restoring = |p: &Pipe| matches!(p.zone.candidate, Candidate::Restoring { .. });
        self.pipe.as_ref().is_some_and(restoring)
    }

    /// When the pipeline made live what it shows.
    pub(crate) fn live_since(&self) -> Option<Timestamp> {
        self.pipe
            .as_ref()?
            .zone
            .live
            .as_ref()
            .map(|l| l.published_at)
    }

    /// The key manager wants a version; true: the pipeline was told.
    pub(crate) fn tell_pipe(&mut self, action: &KeyAction) -> bool {
        let wall = self.wall();
        let Some(pipe) = &mut self.pipe else {
            return false;
        };
        let (apex, at_once, subject) = match action {
            KeyAction::BuildVersion { apex, at_once } => (apex, *at_once, Subject::Build),
            KeyAction::RenewApex { apex } => (apex, false, Subject::Renew),
            _ => return false,
        };
        let set = KeySet {
            apex: digest(&apex.id()),
            signing: digest(&format!("{:?}", apex.zone_signers)),
        };
        pipe.sets.insert(set.apex, (apex.clone(), at_once));
        self.facts.retry_at.insert(subject, wall + REMIND);
        if subject == Subject::Renew {
            pipe.renews = true;
            self.pipe_event(Event::RefreshDue);
        } else {
            self.pipe_event(Event::KeysChanged(set));
            let waits = self.pipe.as_mut().and_then(|p| p.waits.take());
            if let Some(sign) = waits {
                self.begin(Action::StartSign(sign));
            }
        }
        true
    }

    /// The source has other content.
    pub(crate) fn pipe_source(&mut self) {
        self.pipe_event(Event::SourceSignal(Trigger::File));
    }

    /// All that is due by the clock.
    pub(crate) fn pipe_timer(&mut self) {
        let wall = self.wall();
        for _ in 0..MAX_STEPS {
            let due = self.pipe.as_ref().and_then(Pipe::deadline);
            if !self.up || due.is_none_or(|at| at > wall) {
                return;
            }
            self.pipe_event(Event::Timer);
        }
        self.fail(Rule::W21, "the pipeline does not come to rest".into());
    }

    /// One step: the next value, durable together with the keys, and then what follows from it.
    pub(crate) fn pipe_event(&mut self, event: Event) {
        if !self.up {
            return;
        }
        let wall = self.wall();
        let Some(pipe) = &mut self.pipe else { return };
        let (zone, actions) = step(pipe.zone.clone(), event, wall);
        self.pipe_take(zone, actions);
    }

    fn pipe_take(&mut self, zone: Zone, actions: Vec<Action>) {
        if !self.keep_candidates(&actions) {
            return;
        }
        let Some(pipe) = &mut self.pipe else { return };
        pipe.zone = zone;
        if let Some(real) = &mut pipe.real {
            real.commit();
        }
        pipe.row = serde_json::to_string(&pipe.zone).unwrap_or_default();
        pipe.commits += 1;
        self.check_live();
        for action in actions {
            // The process may die before each of them.
            self.effects += 1;
            if self.config.crash_after == Some(self.effects) {
                self.kill();
                self.schedule(self.config.crash_down.max(1), Coming::Restart);
                return;
            }
            self.carry_out(action);
        }
        self.tell_keys();
    }

    /// What waits for somebody is on disk before the state that says so; false: the process died.
    fn keep_candidates(&mut self, actions: &[Action]) -> bool {
        if !self.is_real() {
            return true;
        }
        actions.iter().all(|a| match a {
            Action::SaveCandidate { unsigned, signed } => self.save_candidate(*unsigned, *signed),
            _ => true,
        })
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Publish(Serve::Version(v)) => self.publish(v),
            Action::Publish(_) => self.servers[0].off = true,
            Action::Cancel { job, .. } => {
                let of = |c: &Coming| matches!(c, Coming::Job { action, .. } if job_of(action) == Some(job));
                self.queue.retain(|_, c| !of(c));
                if let Some(pipe) = &mut self.pipe {
                    pipe.waits = pipe.waits.take().filter(|s| s.job != job);
                }
            }
            Action::DropVersion(v) => {
                let Some(pipe) = &mut self.pipe else { return };
                if pipe.shown == Some(v) {
                    self.fail(Rule::W6, "the version that is served is dropped".into());
                    return;
                }
                pipe.made.remove(&v);
                pipe.durable.remove(&v);
                pipe.loaded.remove(&v);
                if let Some(real) = &mut pipe.real {
                    real.drop_version(v);
                    self.drop_files(v);
                }
            }
            Action::SaveCandidate { signed, .. } => {
                if let Some(pipe) = &mut self.pipe {
                    pipe.durable.extend(signed);
                }
            }
            Action::StartSign(s) => {
                let known = |p: &Pipe| p.sets.contains_key(&s.keys.apex);
                match &mut self.pipe {
                    Some(p) if !known(p) => p.waits = Some(s),
                    _ => self.begin(Action::StartSign(s)),
                }
            }
            a if job_of(&a).is_some() || matches!(a, Action::Restore { .. }) => self.begin(a),
            _ => {}
        }
    }

    fn begin(&mut self, action: Action) {
        let process = self.pipe.as_ref().map_or(0, |p| p.process);
        // Time passes while it is done, so that a crash or a change can come in between.
        self.schedule(1, Coming::Job { action, process });
    }

    /// A job has ended.
    pub(crate) fn pipe_job(&mut self, action: Action, process: u32) {
        let ours = self.pipe.as_ref().is_some_and(|p| p.process == process);
        if self.up
            && ours
            && let Some(event) = self.outcome(action)
        {
            let written = matches!(event, Event::PersistDone { .. });
            self.pipe_event(event);
            if written && self.up && self.is_real() {
                self.tend_files();
            }
        }
    }

    fn outcome(&mut self, action: Action) -> Option<Event> {
        let content = self.contents.last().copied().unwrap_or(0);
        let full = self.within(self.config.disk_full);
        let (truncated, ttl) = (self.truncated, self.config.data_ttl);
        if self.is_real() {
            match action {
                Action::StartLoad { job, version, .. } => return self.load_real(job, version),
                Action::StartSign(s) => return self.sign_real(&s),
                Action::StartVerify { job, version, .. } => return self.verify_real(job, version),
                Action::Persist { job, version, .. } if !full => {
                    return self.persist_real(job, version);
                }
                Action::Restore {
                    live,
                    unsigned,
                    signed,
                } => return self.restore_real(live, unsigned, signed),
                _ => {}
            }
        }
        let lies = matches!(action, Action::StartVerify { .. }) && self.lies();
        self.refused += usize::from(lies);
        let pipe = self.pipe.as_mut()?;
        Some(match action {
            Action::StartLoad { job, version, .. } => {
                pipe.loaded.insert(version, content);
                let loaded = Loaded {
                    content_fp: Fp(u64::from(content), u64::from(ttl)),
                    source_serial: Serial(content + 1),
                    origin: Origin::Source,
                    records: 10,
                    octets: 100,
                    expires_at: None,
                    report: Report::default(),
                };
                Event::LoadDone { job, loaded }
            }
            Action::EvaluateGuard { job, .. } => Event::GuardResult {
                job,
                outcome: match truncated {
                    true => GuardOutcome::Hold,
                    false => GuardOutcome::Pass,
                },
                report: Report::default(),
            },
            Action::StartSign(s) => return self.sign(&s),
            Action::StartVerify { job, .. } if lies => Event::VerifyRefused {
                job,
                healable: true,
                report: Report::text("V03"),
            },
            Action::StartVerify { job, .. } => Event::VerifyPassed {
                job,
                report: Report::default(),
            },
            Action::Persist { job, .. } if full => Event::PersistFailed {
                job,
                error: "the disk is full".into(),
            },
            Action::Persist { job, version, .. } => {
                pipe.durable.insert(version);
                Event::PersistDone { job }
            }
            Action::Restore {
                unsigned, signed, ..
            } => {
                let whole = |v: &VersionId| pipe.durable.contains(v);
                let candidate = match (unsigned, signed) {
                    (None, _) => Keepsake::None,
                    (_, Some(v)) if whole(&v) => Keepsake::Whole,
                    // Its content is read from the source again.
                    _ => Keepsake::Lost,
                };
                Event::Restored { candidate }
            }
            _ => return None,
        })
    }

    /// Signatures by the keys that are asked for: of a change of signers one part after the other.
    fn sign(&mut self, s: &StartSign) -> Option<Event> {
        let job = s.job;
        let failed = |fault, error: &str| Event::SignFailed {
            job,
            fault,
            error: error.into(),
        };
        let wall = self.wall();
        let (lifetime, remain) = (
            self.policy.apex_signatures.lifetime,
            self.policy.apex_signatures.remain,
        );
        let pipe = self.pipe.as_ref()?;
        let Some((apex, at_once)) = pipe.sets.get(&s.keys.apex).cloned() else {
            return Some(failed(Fault::Keys, "the keys are not at hand"));
        };
        let base = s.based_on.and_then(|v| pipe.made.get(&v)).cloned();
        let content = pipe.loaded.get(&s.unsigned).copied();
        let content = content.or(base.as_ref().map(|b| b.content))?;
        let renews = pipe.renews;
        let refreshes = Duration::from_secs(self.config.data_remain);
        let before = base.as_ref().map_or_else(Vec::new, |b| b.data.clone());
        let data = self.signed_data(&apex, at_once, before.clone());
        let apex_expires = match &base {
            Some(b) if b.apex == apex && !renews && b.apex_expires - remain > wall => {
                b.apex_expires
            }
            _ => wall + lifetime,
        };
        let changes = base.as_ref().is_none_or(|b| {
            b.apex != apex
                || b.data != data
                || b.content != content
                || b.apex_expires != apex_expires
        });
        let unfinished = data.iter().any(|p| p.signers != apex.zone_signers);
        let part = Duration::from_secs(self.config.resign / PARTS as u64);
        let due = data.iter().map(|p| p.expires - refreshes).min()?;
        let next_due = match unfinished {
            true => wall + part.max(Duration::from_secs(MINUTE)),
            false => due.max(wall + Duration::from_secs(MINUTE)),
        };
        let forced = s.reasons.contains(&Reason::Manual) || s.serial.is_some();
        if s.upkeep && !changes && !forced {
            return Some(Event::SignNothing { job, next_due });
        }
        let signers: Vec<KeyNum> = apex
            .dnskey_signers
            .iter()
            .chain(&apex.zone_signers)
            .copied()
            .collect();
        if !self.can_sign(&signers) {
            return Some(failed(Fault::Token, "the token does not answer"));
        }
        let min_exp = data.iter().map(|p| p.expires).min()?.min(apex_expires);
        let made = Made {
            apex,
            data,
            content,
            apex_expires,
            data_ttl: None,
            serial: None,
        };
        let pipe = self.pipe.as_mut()?;
        pipe.renews = false;
        pipe.made.insert(s.version, made);
        let signed = SignResult {
            serial: s.serial.or(s.above.map(Serial::next)).unwrap_or(Serial(1)),
            min_exp,
            next_due,
            reviewed_fp: Fp(u64::from(content), s.keys.apex),
            unmet: false,
            report: Report::default(),
        };
        Some(Event::SignDone { job, signed })
    }

    /// What is due is signed by the keys of now; of a change of signers besides the next part.
    fn signed_data(&self, apex: &ApexSet, at_once: bool, before: Vec<Part>) -> Vec<Part> {
        let expires = self.fresh_data();
        let done = Part {
            signers: apex.zone_signers.clone(),
            expires,
        };
        let first = before.is_empty() || before.iter().all(|p| p.signers.is_empty());
        if first || at_once || apex.unsigned {
            return match before.iter().all(|p| p.signers == apex.zone_signers) && !before.is_empty()
            {
                true => self.refreshed(before, &done),
                false => vec![done; PARTS],
            };
        }
        let mut data = self.refreshed(before, &done);
        if let Some(p) = data.iter_mut().find(|p| p.signers != apex.zone_signers) {
            *p = done;
        }
        data
    }

    fn refreshed(&self, mut data: Vec<Part>, done: &Part) -> Vec<Part> {
        let remain = Duration::from_secs(self.config.data_remain);
        let wall = self.wall();
        for p in data.iter_mut().filter(|p| p.expires - remain <= wall) {
            *p = done.clone();
        }
        data
    }

    /// Resolvers get this version from our server from now on.
    fn publish(&mut self, v: VersionId) {
        self.servers[0].off = false;
        let Some(pipe) = &mut self.pipe else { return };
        if pipe.shown == Some(v) {
            return;
        }
        if !pipe.durable.contains(&v) {
            return self.fail(Rule::W22, format!("{v:?} is served and not durable"));
        }
        let Some(made) = pipe.made.get(&v).cloned() else {
            return self.fail(Rule::W6, format!("{v:?} is served and unknown"));
        };
        pipe.shown = Some(v);
        let real = match self.is_real() {
            true => self.publish_real(v),
            false => None,
        };
        self.show_real(made.apex, made.data, made.apex_expires, real);
    }

    /// The key manager learns of what is live, at the latest after a restart.
    fn tell_keys(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let Some(live) = &pipe.zone.live else { return };
        let version = live.version.0;
        let known = self.zone.published.as_ref().map(|p| p.version);
        if known == Some(version) || pipe.shown != Some(live.version) {
            return;
        }
        let Some(made) = pipe.made.get(&live.version).cloned() else {
            return;
        };
        let at = live.published_at;
        let any: BTreeSet<KeyNum> = made.data.iter().flat_map(|p| &p.signers).copied().collect();
        let every = |k: &&KeyNum| made.data.iter().all(|d| d.signers.contains(k));
        let all = any.iter().filter(every).copied().collect();
        let cds_ttl = match made.apex.cds {
            cascade_keys::Cds::None => 0,
            _ => made.apex.ttl,
        };
        let serial = made.serial.unwrap_or(self.versions.len() as u32);
        let data_ttl = made.data_ttl.unwrap_or(self.config.data_ttl);
        let event = KeyEvent::VersionPublished(Publication {
            version,
            serial,
            apex_expires: made.apex_expires,
            apex: made.apex,
            any: any.into_iter().collect(),
            all,
            data_ttl: data_ttl.max(cds_ttl),
            soa_expire: self.config.soa_expire,
            unsigned_ttl: known.is_none().then_some(data_ttl),
            at,
        });
        self.facts.retry_at.remove(&Subject::Build);
        self.facts.retry_at.remove(&Subject::Renew);
        self.apply(event);
    }

    /// W5 and W22: what is live was durable before, and its serial is above all that were.
    fn check_live(&mut self) {
        if self.is_real() && self.is_restoring() {
            // Whether it is there is being found out.
            return;
        }
        let Some(pipe) = &self.pipe else { return };
        let Some(live) = &pipe.zone.live else { return };
        if !pipe.durable.contains(&live.version) {
            let text = format!("{:?} is live and not durable", live.version);
            self.fail(Rule::W22, text);
        }
    }

    /// The process is gone: what it had in memory, and the work that it did.
    pub(crate) fn pipe_dies(&mut self) {
        self.queue.retain(|_, c| !matches!(c, Coming::Job { .. }));
        let Some(pipe) = &mut self.pipe else { return };
        let works = pipe.zone.candidate.is_active() || pipe.zone.upkeep.is_active();
        pipe.interrupted += u32::from(works);
        pipe.process += 1;
        pipe.waits = None;
        pipe.renews = false;
        match &mut pipe.real {
            // What was asked for of each version stands in the row; what is durable is found out.
            Some(real) => {
                real.die();
                pipe.durable.clear();
            }
            None => {
                let durable = &pipe.durable;
                pipe.made.retain(|v, _| durable.contains(v));
            }
        }
        pipe.loaded.clear();
        // Key sets are held in memory; the key manager asks for its own again.
        pipe.sets.clear();
    }

    /// A new process: the row is read, and the product's recovery says what is to be done.
    pub(crate) fn pipe_boots(&mut self) {
        let wall = self.wall();
        let Some(pipe) = &mut self.pipe else { return };
        let saved: Zone = match serde_json::from_str(&pipe.row) {
            Ok(zone) => zone,
            Err(e) => return self.fail(Rule::W22, format!("the row is not read back: {e}")),
        };
        if saved != pipe.zone {
            return self.fail(
                Rule::W22,
                "the row is not the value that was committed".into(),
            );
        }
        pipe.shown = None;
        // The keys of what is published are loaded first.
        let published = self.zone.published.as_ref().map(|p| p.apex.clone());
        if let Some(apex) = published {
            pipe.sets.insert(digest(&apex.id()), (apex, false));
        }
        let (zone, actions) = restore(saved, wall);
        self.pipe_take(zone, actions);
    }
}

fn job_of(action: &Action) -> Option<JobId> {
    match action {
        Action::StartLoad { job, .. }
        | Action::EvaluateGuard { job, .. }
        | Action::StartVerify { job, .. }
        | Action::Persist { job, .. } => Some(*job),
        Action::StartSign(s) => Some(s.job),
        _ => None,
    }
}
