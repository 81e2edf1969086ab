//! Loader, guard, signer, verifier, disk and people of one zone, as a test needs them: every action
//! is performed at most once per process, all results come later as events, any of them may fail,
//! and the process may die between any two actions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use cascade_pipeline::action::StartSign;
use cascade_pipeline::event::{Loaded, SignResult};
use cascade_pipeline::settings::{OnExpiry, OnReject, ReviewMode};
use cascade_pipeline::state::*;
use cascade_pipeline::*;
use cascade_time::Timestamp;
use cascade_zone::{Serial, VersionId, ZoneId};

pub const START: i64 = 1_790_000_000;
const DAY: u64 = 86_400;

#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub load: bool,
    pub guard: Option<GuardOutcome>,
    pub hook: Option<Verdict>,
    pub hook_crash: bool,
    pub hook_hang: bool,
    pub sign: Option<Fault>,
    pub refuse: bool,
    pub unverifiable: bool,
    pub persist: bool,
    pub lose_candidate: bool,
}

pub struct World {
    pub zone: Zone,
    /// The last committed value: all that survives a crash.
    pub disk: Vec<u8>,
    pub now: Timestamp,
    pub faults: Faults,
    /// Content of the source: a number, its own fingerprint.
    pub source: u64,
    pub running: VecDeque<Action>,
    pub published: Option<VersionId>,
    pub live_serials: Vec<Serial>,
    pub content: BTreeMap<VersionId, u64>,
    pub signed_of: BTreeMap<VersionId, VersionId>,
    pub verified: BTreeSet<VersionId>,
    pub durable: BTreeSet<VersionId>,
    pub committed_live: Option<VersionId>,
    pub history: Vec<HistoryEntry>,
    pub log: Vec<String>,
    pub next_request: u64,
    pub answers: BTreeMap<u64, Result<Accepted, Refusal>>,
    pub forgotten: bool,
    pub events: u64,
    /// Jobs that it takes to build another denial of existence, once the policy asks for one.
    pub beside: u64,
}

impl World {
    pub fn new(settings: Settings) -> Self {
        let zone = Zone::new(ZoneId([7; 16]), "example.net", "file", settings, 42);
        World {
            disk: serde_json::to_vec(&zone).unwrap(),
            zone,
            now: Timestamp::from_secs(START),
            faults: Faults::default(),
            source: 1,
            running: VecDeque::new(),
            published: None,
            live_serials: Vec::new(),
            content: BTreeMap::new(),
            signed_of: BTreeMap::new(),
            verified: BTreeSet::new(),
            durable: BTreeSet::new(),
            committed_live: None,
            history: Vec::new(),
            log: Vec::new(),
            next_request: 1,
            answers: BTreeMap::new(),
            forgotten: false,
            events: 0,
            beside: 0,
        }
    }

    pub fn event(&mut self, event: Event) {
        self.event_until(event, usize::MAX);
    }

    /// Performs at most `budget` actions of the answer: the process dies after them.
    pub fn event_until(&mut self, event: Event, budget: usize) {
        self.events += 1;
        let name = event.name();
        let before = self.zone.clone();
        // Some of them twice: the same each time.
        let twice = self
            .events
            .is_multiple_of(4)
            .then(|| step(before.clone(), event.clone(), self.now));
        let (zone, actions) = step(before, event, self.now);
        if let Some((z, a)) = twice {
            assert_eq!((&zone, &actions), (&z, &a), "P8: step is deterministic");
        }
        self.log.push(format!(
            "{name} -> {} / {} : {}",
            zone.candidate.name(),
            zone.upkeep.name(),
            actions.iter().map(short).collect::<Vec<_>>().join(" ")
        ));
        self.check_new_live(&zone);
        self.zone = zone;
        self.commit();
        self.invariants(&actions);
        self.perform(actions, budget);
    }

    fn commit(&mut self) {
        self.disk = serde_json::to_vec(&self.zone).unwrap();
        if self.events.is_multiple_of(8) {
            let back: Zone = serde_json::from_slice(&self.disk).unwrap();
            assert_eq!(back, self.zone, "the durable form is the value");
        }
        self.committed_live = self.zone.live.as_ref().map(|l| l.version);
    }

    fn check_new_live(&mut self, zone: &Zone) {
        let Some(live) = &zone.live else {
            assert!(
                self.zone.live.is_none()
                    || matches!(self.zone.candidate, Candidate::Restoring { .. }),
                "P2: live vanished"
            );
            return;
        };
        if self.zone.live.as_ref().map(|l| l.version) == Some(live.version) {
            return;
        }
        if matches!(self.zone.candidate, Candidate::Restoring { .. })
            && live.serving == Serving::RecoveredOld
        {
            return;
        }
        if let Some(last) = self.live_serials.last() {
            assert!(live.serial.newer_than(*last), "P3: serials increase");
        }
        self.live_serials.push(live.serial);
        let ok = self.verified.contains(&live.version) || live.despite_verification.is_some();
        assert!(ok, "only verified versions go live: {}", self.tail());
        assert!(
            self.durable.contains(&live.version),
            "P1: made durable first"
        );
        assert_eq!(
            self.content.get(&live.of).copied(),
            Some(live.content_fp.0),
            "P12"
        );
    }

    pub fn tail(&self) -> String {
        self.log
            .iter()
            .rev()
            .take(25)
            .rev()
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn invariants(&self, actions: &[Action]) {
        let z = &self.zone;
        assert!(
            !(z.candidate.is_active() && z.upkeep.is_active()),
            "P4: one lane at work\n{}",
            self.tail()
        );
        for a in actions {
            if let Action::Publish(Serve::Version(v)) = a {
                assert_eq!(Some(*v), self.committed_live, "P1");
            }
        }
        if z.doubt.is_some() {
            let works = z.candidate.is_active() || z.upkeep.is_active();
            assert!(!works, "nothing new is signed in doubt\n{}", self.tail());
        }
        self.someone_knows();
        if let Some(at) = next_deadline(z) {
            assert!(at > z.settled_at, "a deadline that has passed would spin");
        }
        if let Candidate::Loading(l) = &z.candidate {
            assert!(
                !matches!(*l.resume, Candidate::Loading(_)),
                "one load at a time"
            );
        }
    }

    /// P5 and P6: who waits for a person has an alert with a command; who waits for time has one.
    fn someone_knows(&self) {
        let z = &self.zone;
        let alert = |k| z.alerts.get(&k);
        let person = |k| {
            let a = alert(k).unwrap_or_else(|| panic!("P5: no alert {k:?}\n{}", self.tail()));
            assert!(
                !a.commands.is_empty() && !a.text.is_empty(),
                "P5: no command"
            );
        };
        match z.candidate.parked() {
            Candidate::AwaitGuardApproval { .. } => person(AlertKey::Held),
            Candidate::Rejected { .. } => person(AlertKey::Rejected),
            Candidate::Refused { .. } => person(AlertKey::Refused),
            Candidate::AwaitUnsignedReview { review, .. }
            | Candidate::AwaitSignedReview { review, .. } => match review.hook {
                Hook::Person | Hook::Held => person(AlertKey::Review),
                Hook::Running { .. } | Hook::Backoff { .. } => {
                    assert!(next_deadline(z).is_some(), "P6");
                }
                Hook::NotOpened => panic!("a candidate's review is always open"),
            },
            Candidate::AwaitRetry { retry, .. } => match retry.cause {
                Cause::Pinned => person(AlertKey::Pinned),
                Cause::PublishPaused => person(AlertKey::Paused),
                Cause::Maintenance => person(AlertKey::Maintenance),
                Cause::Clock => assert!(z.clock_unsafe.is_some()),
                Cause::Doubt => person(AlertKey::Doubt),
                Cause::Storage => assert!(z.storage_full.is_some()),
                Cause::OtherLane => assert!(z.upkeep.is_active(), "P6\n{}", self.tail()),
                _ => assert!(retry.at.is_some(), "P6"),
            },
            _ => {}
        }
        if let Upkeep::AwaitReview { review, .. } = &z.upkeep
            && matches!(review.hook, Hook::Person | Hook::Held)
        {
            person(AlertKey::UpkeepReview);
        }
    }

    fn perform(&mut self, actions: Vec<Action>, budget: usize) {
        for a in actions.into_iter().take(budget) {
            match a {
                Action::Cancel { job, .. } | Action::KillHook { run: job } => {
                    self.running.retain(|r| job_of(r) != Some(job));
                }
                Action::Publish(Serve::Version(v)) => self.published = Some(v),
                Action::Publish(_) => self.published = None,
                Action::Record(e) => self.history.push(e),
                Action::DropVersion(v) => {
                    assert!(self.published != Some(v), "P10: dropped while served");
                }
                Action::Answer { request, result } => {
                    self.answers.insert(request.0, result);
                }
                Action::Forget => self.forgotten = true,
                a if job_of(&a).is_some() || matches!(a, Action::Restore { .. }) => {
                    self.running.push_back(a);
                }
                _ => {}
            }
        }
    }

    /// The process dies and comes back; what ran is gone, the committed value is not.
    pub fn crash(&mut self) {
        self.running.clear();
        self.published = None;
        let saved: Zone = serde_json::from_slice(&self.disk).unwrap();
        let (zone, actions) = restore(saved, self.now);
        self.log.push(format!("CRASH -> {}", zone.candidate.name()));
        self.zone = zone;
        self.commit();
        self.perform(actions, usize::MAX);
    }

    /// Ends the n-th running job, well or as the faults say. False when there is none.
    pub fn finish(&mut self, n: usize) -> bool {
        match self.result_of(n) {
            Some(e) => {
                self.event(e);
                true
            }
            None => false,
        }
    }

    pub fn result_of(&mut self, n: usize) -> Option<Event> {
        if self.running.is_empty() {
            return None;
        }
        let n = n % self.running.len();
        if matches!(self.running[n], Action::RunHook(_)) && self.faults.hook_hang {
            return None;
        }
        let a = self.running.remove(n)?;
        let f = self.faults.clone();
        let error = || "simulated".to_owned();
        Some(match a {
            Action::StartLoad { job, .. } if f.load => Event::LoadFailed {
                job,
                error: error(),
            },
            Action::StartLoad { job, version, .. } => {
                self.content.insert(version, self.source);
                Event::LoadDone {
                    job,
                    loaded: self.loaded(),
                }
            }
            Action::EvaluateGuard { job, .. } => {
                let outcome = f.guard.unwrap_or(GuardOutcome::Pass);
                Event::GuardResult {
                    job,
                    outcome,
                    report: Report::text("guard"),
                }
            }
            Action::StartSign(s) => match f.sign {
                Some(fault) => Event::SignFailed {
                    job: s.job,
                    fault,
                    error: error(),
                },
                None if self.beside > 0 && self.zone_unmet() && only_policy(&s) => {
                    self.beside -= 1;
                    Event::SignDeferred {
                        job: s.job,
                        next_due: None,
                        done: 1,
                        total: 1 + self.beside,
                    }
                }
                None => {
                    self.signed_of.insert(s.version, s.unsigned);
                    let serial = s.serial.or(s.above.map(Serial::next)).unwrap_or(Serial(1));
                    let fp = self.content.get(&s.unsigned).copied().unwrap_or(0);
                    let signed = SignResult {
                        serial,
                        min_exp: self.now + Duration::from_secs(14 * DAY),
                        next_due: self.now + Duration::from_secs(DAY / 2),
                        reviewed_fp: Fp(fp, s.keys.apex),
                        unmet: self.beside > 0 && self.zone_unmet(),
                        report: Report::text("signed"),
                    };
                    Event::SignDone { job: s.job, signed }
                }
            },
            Action::StartVerify { job, version, .. } => {
                if f.refuse {
                    Event::VerifyRefused {
                        job,
                        healable: true,
                        report: Report::text("V03"),
                    }
                } else if f.unverifiable {
                    Event::VerifyImpossible {
                        job,
                        error: error(),
                    }
                } else {
                    self.verified.insert(version);
                    Event::VerifyPassed {
                        job,
                        report: Report::text("passed"),
                    }
                }
            }
            Action::Persist { job, .. } if f.persist => Event::PersistFailed {
                job,
                error: error(),
            },
            Action::Persist { job, version, .. } => {
                self.durable.insert(version);
                Event::PersistDone { job }
            }
            Action::RunHook(h) if f.hook_crash => Event::HookFailed {
                run: h.run,
                error: error(),
            },
            Action::RunHook(h) => {
                let verdict = f.hook.unwrap_or(Verdict::Approve);
                Event::HookDone {
                    run: h.run,
                    verdict,
                }
            }
            Action::Restore {
                signed, unsigned, ..
            } => {
                let candidate = match (unsigned, signed) {
                    (None, _) => Keepsake::None,
                    _ if f.lose_candidate => Keepsake::Lost,
                    (Some(_), Some(v)) if self.durable.contains(&v) => Keepsake::Persisted,
                    _ => Keepsake::Whole,
                };
                Event::Restored { candidate }
            }
            Action::SetAside { job, .. } => Event::RemoveDone { job },
            other => panic!("not a job: {other:?}"),
        })
    }

    /// Live has another denial than the policy wants.
    fn zone_unmet(&self) -> bool {
        let live = self.zone.live.as_ref();
        live.is_some_and(|l| l.signing != self.zone.settings.signing)
    }

    pub fn loaded(&self) -> Loaded {
        Loaded {
            content_fp: Fp(self.source, 0),
            source_serial: Serial(self.source as u32),
            origin: Origin::Source,
            records: 10,
            octets: 100,
            expires_at: Some(self.now + Duration::from_secs(7 * DAY)),
            report: Report::text("loaded"),
        }
    }

    pub fn ask(&mut self, who: &str, command: Command) -> Result<Accepted, Refusal> {
        let id = self.next_request;
        self.next_request += 1;
        let by = Actor::new(who, true);
        self.event(Event::Request(Request {
            id: RequestId(id),
            by,
            command,
        }));
        self.answers
            .remove(&id)
            .expect("every request is answered once")
    }

    /// Lets jobs end and time pass for so long.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..100_000 {
            let mut n = 0;
            while n < self.running.len() {
                if !self.finish(n) {
                    n += 1;
                }
            }
            match next_deadline(&self.zone) {
                Some(at) if at <= end => {
                    self.now = self.now.max(at);
                    self.event(Event::Timer);
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("does not come to rest:\n{}", self.tail());
    }

    pub fn live_content(&self) -> Option<u64> {
        self.zone.live.as_ref().map(|l| l.content_fp.0)
    }

    /// New content, and somebody says so.
    pub fn change(&mut self) {
        self.source += 1;
        self.event(Event::SourceSignal(Trigger::File));
    }

    pub fn has(&self, kind: HistoryKind) -> bool {
        self.history.iter().any(|e| e.kind == kind)
    }
}

pub fn settings(unsigned: ReviewMode, signed: ReviewMode, on_reject: OnReject) -> Settings {
    let mut s = Settings::default();
    s.unsigned_review.mode = unsigned;
    s.signed_review.mode = signed;
    for r in [&mut s.unsigned_review, &mut s.signed_review] {
        r.hooks = 2;
        r.on_reject = on_reject;
    }
    s.on_expiry = OnExpiry::Stop;
    s.retained_versions = 3;
    s
}

fn only_policy(s: &StartSign) -> bool {
    s.upkeep && s.reasons.iter().eq([&Reason::Policy])
}

pub fn job_of(a: &Action) -> Option<JobId> {
    match a {
        Action::StartLoad { job, .. }
        | Action::EvaluateGuard { job, .. }
        | Action::StartVerify { job, .. }
        | Action::Persist { job, .. }
        | Action::SetAside { job, .. } => Some(*job),
        Action::StartSign(s) => Some(s.job),
        Action::RunHook(h) => Some(h.run),
        _ => None,
    }
}

pub fn short(a: &Action) -> String {
    let text = format!("{a:?}");
    match a {
        Action::Record(e) => format!("Record({:?})", e.kind),
        Action::Alert(al) => format!("Alert({:?})", al.key),
        Action::Answer { result, .. } => {
            format!("Answer({})", if result.is_ok() { "ok" } else { "refused" })
        }
        Action::Publish(s) => format!("Publish({s:?})"),
        _ => text.split([' ', '(', '{']).next().unwrap_or("").to_owned(),
    }
}
