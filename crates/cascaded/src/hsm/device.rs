//! One registered HSM at work: its connections, what is known of its state, the proofs of its keys.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use arc_swap::ArcSwap;
use cascade_crypto::{Batch, Dnskey, Input, SignFailure};
use cascade_kmip::client::{Answer, AnswerError};
use cascade_kmip::enums::BatchErrorContinuation;
use cascade_kmip::link::{Call, InstanceStatus, NotSent, Outcome, Pool, Reach};
use cascade_kmip::payload::{RequestPayload, ResponsePayload};
use cascade_time::{Clock, Timestamp};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::gather::{self, How, Target};
use super::label::LabelRule;

/// Signatures of one identity proof on each instance. A module may spread them over instances of
/// its own; with three of these one is missed with probability 3 × (2/3)^40, below 10^-6.
pub const DRAWS: usize = 40;
/// A proof holds this long.
pub const PROOF_HOLDS: Duration = Duration::from_secs(3600);
/// After a failed proof, before the next.
const PROOF_PAUSE: Duration = Duration::from_secs(60);
/// A proof that was asked for is this old at most.
const PROOF_FRESH: Duration = Duration::from_secs(60);
/// So many wrong signatures within [`WRONG_WITHIN`] put the HSM into quarantine.
const WRONG_MOST: usize = 2;
const WRONG_WITHIN: Duration = Duration::from_secs(3600);
/// How long a request of ours that is no signature may wait to be sent.
const PATIENCE: Duration = Duration::from_secs(30);
/// A caller is let go after this, whatever became of its request.
const GIVE_UP: Duration = Duration::from_secs(300);
/// The class above all signing of zones, for proofs and the making of keys.
pub const TOP_CLASS: usize = cascade_kmip::link::CLASSES - 1;

/// What the daemon is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It can be used again, and its keys have been proven: whoever waits goes on.
    Back {
        hsm: String,
    },
    Away {
        hsm: String,
        why: String,
    },
    Quarantined {
        hsm: String,
        wrong: u64,
    },
    Released {
        hsm: String,
    },
    /// Objects that could not be destroyed; it is tried again.
    Undestroyed {
        hsm: String,
        objects: Vec<String>,
    },
    Destroyed {
        hsm: String,
        objects: Vec<String>,
    },
    /// The TLS key of the first contact, to be remembered.
    FirstSeen {
        hsm: String,
        key: [u8; 32],
    },
}

pub type Events = mpsc::UnboundedSender<Event>;

/// Whether the HSM can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Not known yet.
    Connecting,
    Up,
    Away {
        since: Timestamp,
        why: String,
    },
    Quarantined {
        since: Timestamp,
    },
}

impl Condition {
    pub fn word(&self) -> &'static str {
        match self {
            Condition::Connecting => "connecting",
            Condition::Up => "up",
            Condition::Away { .. } => "down",
            Condition::Quarantined { .. } => "quarantined",
        }
    }
}

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("{0}")]
    NotSent(NotSent),
    #[error("{0}")]
    Answer(AnswerError),
    #[error("the server's answer is not an answer to the request")]
    Odd,
    #[error("no answer")]
    Silent,
}

impl Trouble {
    pub fn is_temporary(&self) -> bool {
        match self {
            Trouble::NotSent(_) | Trouble::Silent => true,
            Trouble::Answer(e) => e.is_temporary(),
            Trouble::Odd => false,
        }
    }
}

#[derive(Default)]
struct Facts {
    away: Option<(Timestamp, String)>,
    wrong: VecDeque<Timestamp>,
    quarantined: Option<Timestamp>,
    /// By instance: when its last proofs of any key passed.
    last_proof: Option<Timestamp>,
    can_rename: Option<bool>,
}

/// Counts since the daemon started.
#[derive(Debug, Default)]
pub struct Counts {
    pub signed: AtomicU64,
    pub wrong: AtomicU64,
    pub proved: AtomicU64,
    pub unproved: AtomicU64,
}

/// A key of this HSM that is in use.
pub struct Held {
    pub target: Target,
    /// Whether the halves belong together is somebody's claim: nothing else hangs on the proof.
    trial: bool,
    proof: Mutex<Proof>,
}

type Waiter = Box<dyn FnOnce(Result<(), SignFailure>) + Send>;

enum Proof {
    Needed,
    Running(Vec<Waiter>),
    Good { arrivals: u64, at: Timestamp },
    Failed { why: SignFailure, at: Timestamp },
}

pub struct Device {
    pub id: String,
    pool: ArcSwap<Pool>,
    labels: ArcSwap<LabelRule>,
    facts: Mutex<Facts>,
    pub counts: Counts,
    /// By the server's name of the private half.
    held: Mutex<BTreeMap<String, Arc<Held>>>,
    on: Handle,
    compute: Arc<rayon::ThreadPool>,
    clock: Arc<dyn Clock>,
    pub events: Events,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({})", self.id)
    }
}

/// What a device needs of the program around it.
#[derive(Clone)]
pub struct World {
    pub on: Handle,
    pub compute: Arc<rayon::ThreadPool>,
    pub clock: Arc<dyn Clock>,
    pub events: Events,
}

impl Device {
    pub fn new(id: &str, pool: Pool, labels: LabelRule, world: World) -> Arc<Device> {
        Arc::new(Device {
            id: id.to_string(),
            pool: ArcSwap::from_pointee(pool),
            labels: ArcSwap::from_pointee(labels),
            facts: Mutex::default(),
            counts: Counts::default(),
            held: Mutex::default(),
            on: world.on,
            compute: world.compute,
            clock: world.clock,
            events: world.events,
        })
    }

    pub fn pool(&self) -> Arc<Pool> {
        self.pool.load_full()
    }

    pub fn labels(&self) -> Arc<LabelRule> {
        self.labels.load_full()
    }

    /// Other connections and labels from now on; what is under way ends on the old connections.
    pub fn renew(&self, pool: Pool, labels: LabelRule) {
        self.labels.store(Arc::new(labels));
        let old = self.pool.swap(Arc::new(pool));
        self.facts.lock().can_rename = None;
        self.forget_proofs();
        self.on.spawn(async move {
            tokio::time::sleep(GIVE_UP).await;
            drop(old);
        });
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn compute(&self, work: impl FnOnce() + Send + 'static) {
        self.compute.spawn(work);
    }

    pub fn instances(&self) -> Vec<InstanceStatus> {
        self.pool().status().borrow().clone()
    }

    /// Where an object may be that is to go: each instance that is there, because instances that
    /// should hold the same may not. With one or none of them, whichever answers.
    pub fn everywhere(&self) -> Vec<Option<usize>> {
        let up: Vec<Option<usize>> = (0..)
            .zip(self.instances())
            .filter(|(_, i)| i.reach == Reach::Up)
            .map(|(n, _)| Some(n))
            .collect();
        match up.len() {
            0 | 1 => vec![None],
            _ => up,
        }
    }

    pub fn condition(&self) -> Condition {
        let facts = self.facts.lock();
        if let Some((since, why)) = &facts.away {
            return Condition::Away {
                since: *since,
                why: why.clone(),
            };
        }
        if let Some(since) = facts.quarantined {
            return Condition::Quarantined { since };
        }
        drop(facts);
        match self.instances().iter().any(|i| i.reach == Reach::Up) {
            true => Condition::Up,
            false => Condition::Connecting,
        }
    }

    /// The server takes digests; a server not met yet is asked to hash by itself.
    pub fn takes_digests(&self) -> bool {
        let instances = self.instances();
        let mut servers = instances
            .iter()
            .filter_map(|i| i.server.as_ref())
            .peekable();
        servers.peek().is_some() && servers.all(|s| s.limits.digests)
    }

    /// One name for both halves of a pair is taken as the key's name.
    pub fn shares_names(&self) -> bool {
        let instances = self.instances();
        let mut servers = instances.iter().filter_map(|i| i.server.as_ref());
        servers.any(|s| s.limits.shared_name)
    }

    /// Changes with every arrival of an instance.
    fn arrivals(&self) -> u64 {
        self.instances().iter().map(|i| i.arrivals).sum()
    }

    pub fn can_rename(&self) -> Option<bool> {
        self.facts.lock().can_rename
    }

    pub fn set_can_rename(&self, can: bool) {
        self.facts.lock().can_rename = Some(can);
    }

    pub fn last_proof(&self) -> Option<Timestamp> {
        self.facts.lock().last_proof
    }

    // ---- requests

    pub fn submit(&self, call: Call) {
        self.pool().submit(call, &self.on);
    }

    /// Asks and waits. For threads that may block.
    pub fn ask(&self, question: RequestPayload) -> Result<ResponsePayload, Trouble> {
        self.ask_at(None, question)
    }

    /// As [`Device::ask`], of one instance (its index among [`Device::instances`]) or any.
    pub fn ask_at(
        &self,
        instance: Option<usize>,
        question: RequestPayload,
    ) -> Result<ResponsePayload, Trouble> {
        let mut answers = self.all_at(instance, vec![question])?;
        match answers.pop() {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(e)) => Err(Trouble::Answer(e)),
            None => Err(Trouble::Odd),
        }
    }

    /// Asks several things that do not depend on one another, in as many requests as the server
    /// wants, and waits.
    pub fn ask_all(&self, questions: Vec<RequestPayload>) -> Result<Vec<Answer>, Trouble> {
        self.all_at(None, questions)
    }

    fn all_at(
        &self,
        instance: Option<usize>,
        questions: Vec<RequestPayload>,
    ) -> Result<Vec<Answer>, Trouble> {
        let mut receivers = Vec::new();
        // What is asked here has answers of at most a public key's size.
        let each = self.pool().sign_batch(64, 640);
        let mut rest = questions.into_iter().peekable();
        while rest.peek().is_some() {
            let payloads: Vec<RequestPayload> = rest.by_ref().take(each).collect();
            let (send, receive) = std_mpsc::channel();
            receivers.push(receive);
            self.submit(Call {
                payloads,
                on_error: BatchErrorContinuation::Continue,
                class: TOP_CLASS,
                group: 0,
                instance,
                patience: PATIENCE,
                done: Box::new(move |outcome| drop(send.send(outcome))),
            });
        }
        let mut answers = Vec::new();
        for receive in receivers {
            match receive.recv_timeout(GIVE_UP) {
                Ok(Outcome::Answered { answers: some, .. }) => answers.extend(some),
                Ok(Outcome::NotSent(why)) => return Err(Trouble::NotSent(why)),
                Err(_) => return Err(Trouble::Silent),
            }
        }
        Ok(answers)
    }

    // ---- signatures that were wrong

    pub fn note_signed(&self, n: u64) {
        self.counts.signed.fetch_add(n, Ordering::Relaxed);
    }

    /// Counts wrong signatures; the second within an hour closes the HSM to ordinary work.
    pub fn note_wrong(&self, instance: usize, n: usize, key: &Dnskey) {
        let total = self.counts.wrong.fetch_add(n as u64, Ordering::Relaxed) + n as u64;
        let now = self.now();
        tracing::error!(
            hsm = %self.id,
            "HSM '{}' gave {n} signatures by key {} that do not verify; they were thrown away",
            self.id,
            key.key_tag()
        );
        let mut facts = self.facts.lock();
        let wrong = &mut facts.wrong;
        wrong.extend(std::iter::repeat_n(now, n.min(WRONG_MOST)));
        while wrong.len() > WRONG_MOST {
            wrong.pop_front();
        }
        let first = wrong.front().copied().unwrap_or(now);
        if wrong.len() < WRONG_MOST
            || now.since(first) > WRONG_WITHIN
            || facts.quarantined.is_some()
        {
            return;
        }
        // Where others are left, the instance alone is closed; they go on with the work.
        let instances = self.instances();
        let others = |(i, s): (usize, &InstanceStatus)| {
            i != instance && s.reach == Reach::Up && !s.quarantined
        };
        if instances.iter().enumerate().any(others) {
            facts.wrong.clear();
            self.pool().quarantine(instance, true);
        } else {
            facts.quarantined = Some(now);
        }
        drop(facts);
        self.tell(Event::Quarantined {
            hsm: self.id.clone(),
            wrong: total,
        });
    }

    /// Opens the HSM again: it has proven itself, or a person says so.
    pub fn release(&self) {
        let was = {
            let mut facts = self.facts.lock();
            facts.wrong.clear();
            facts.quarantined.take().is_some()
        };
        let pool = self.pool();
        let mut some = was;
        for (i, s) in self
            .instances()
            .iter()
            .enumerate()
            .filter(|(_, s)| s.quarantined)
        {
            let _ = s;
            pool.quarantine(i, false);
            some = true;
        }
        if some {
            self.tell(Event::Released {
                hsm: self.id.clone(),
            });
        }
    }

    fn is_quarantined(&self) -> bool {
        self.facts.lock().quarantined.is_some()
    }

    /// A quarantine that has lasted an hour ends with proofs that pass.
    pub fn may_be_released(&self) -> bool {
        let now = self.now();
        let facts = self.facts.lock();
        let since_wrong = facts.wrong.back().map(|at| now.since(*at));
        let quarantined = facts.quarantined.map(|at| now.since(at));
        drop(facts);
        let instance = self.instances().iter().any(|i| i.quarantined);
        let long = |d: Option<Duration>| d.is_none_or(|d| d > WRONG_WITHIN);
        (quarantined.is_some() || instance) && long(since_wrong) && long(quarantined)
    }

    // ---- proofs

    /// The key with this name, held under its public octets; the first time it is unproven.
    pub fn hold(&self, target: Target) -> Arc<Held> {
        let mut held = self.held.lock();
        if let Some(known) = held.get(&target.private)
            && known.target.dnskey.is_same_key(&target.dnskey)
        {
            return known.clone();
        }
        let new = Arc::new(Held {
            target: target.clone(),
            trial: false,
            proof: Mutex::new(Proof::Needed),
        });
        held.insert(target.private, new.clone());
        new
    }

    pub fn forget(&self, private: &str) {
        self.held.lock().remove(private);
    }

    pub fn all_held(&self) -> Vec<Arc<Held>> {
        self.held.lock().values().cloned().collect()
    }

    fn forget_proofs(&self) {
        for held in self.all_held() {
            let mut proof = held.proof.lock();
            if matches!(*proof, Proof::Good { .. } | Proof::Failed { .. }) {
                *proof = Proof::Needed;
            }
        }
    }

    /// Signs a batch of preimages with a key that has proven itself since the HSM was last away.
    pub fn sign(
        self: &Arc<Self>,
        held: &Arc<Held>,
        batch: Batch,
        how: How,
        done: cascade_crypto::Completion,
    ) {
        // With the signatures about to expire every one that verifies is welcome.
        if self.is_quarantined() && how.class < TOP_CLASS {
            let failure = SignFailure::Unproven {
                hsm: self.id.clone(),
                why: "quarantined for wrong signatures".into(),
            };
            self.compute(move || done(batch, Err(failure)));
            return;
        }
        let away = self.facts.lock().away.clone();
        if let Some((_, why)) = away {
            let hsm = self.id.clone();
            self.compute(move || done(batch, Err(SignFailure::Away { hsm, why })));
            return;
        }
        let (device, key) = (self.clone(), held.clone());
        self.when_proven(held, move |proven| match proven {
            Ok(()) => gather::sign(&device, key.target.clone(), batch, how, done),
            Err(failure) => done(batch, Err(failure)),
        });
    }

    /// Calls `then` once the key's proof holds, or with the reason why it does not. Never calls it
    /// from within if it has to wait; a proof that holds costs nothing.
    fn when_proven(
        self: &Arc<Self>,
        held: &Arc<Held>,
        then: impl FnOnce(Result<(), SignFailure>) + Send + 'static,
    ) {
        let now = self.now();
        let arrivals = self.arrivals();
        let mut proof = held.proof.lock();
        match &mut *proof {
            Proof::Good { arrivals: of, at }
                if *of == arrivals && now.since(*at) < PROOF_HOLDS * 2 =>
            {
                drop(proof);
                then(Ok(()));
            }
            Proof::Running(waiters) => waiters.push(Box::new(then)),
            Proof::Failed { why, at } if now.since(*at) < PROOF_PAUSE => {
                let why = why.clone();
                drop(proof);
                self.compute(move || then(Err(why)));
            }
            Proof::Needed | Proof::Good { .. } | Proof::Failed { .. } => {
                *proof = Proof::Running(vec![Box::new(then)]);
                drop(proof);
                self.draw(held.clone());
            }
        }
    }

    /// Begins a proof of the key although an earlier one may still hold, or failed a moment ago.
    pub fn prove_again(
        self: &Arc<Self>,
        held: &Arc<Held>,
        then: impl FnOnce(Result<(), SignFailure>) + Send + 'static,
    ) {
        {
            let mut proof = held.proof.lock();
            if !matches!(*proof, Proof::Running(_)) {
                *proof = Proof::Needed;
            }
        }
        self.when_proven(held, then);
    }

    /// Proves anew and waits. For threads that may block.
    pub fn prove_now(self: &Arc<Self>, held: &Arc<Held>) -> Result<(), SignFailure> {
        let (send, receive) = std_mpsc::channel();
        self.prove_again(held, move |result| drop(send.send(result)));
        receive
            .recv_timeout(GIVE_UP)
            .unwrap_or(Err(SignFailure::Timeout))
    }

    /// Whether two halves that somebody names belong together; the HSM is not to blame if they do
    /// not. For threads that may block.
    pub fn try_out(self: &Arc<Self>, target: Target) -> Result<(), SignFailure> {
        let held = Held {
            target,
            trial: true,
            proof: Mutex::new(Proof::Needed),
        };
        self.prove_now(&Arc::new(held))
    }

    /// Proves and waits, unless the key has just done so. For threads that may block.
    pub fn prove(self: &Arc<Self>, held: &Arc<Held>) -> Result<(), SignFailure> {
        let (send, receive) = std_mpsc::channel();
        let now = self.now();
        let fresh = held
            .proved_at()
            .is_some_and(|at| now.since(at) < PROOF_FRESH);
        let then = move |result| drop(send.send(result));
        match fresh {
            // Still counts only if the HSM has not been away since.
            true => self.when_proven(held, then),
            false => self.prove_again(held, then),
        }
        receive
            .recv_timeout(GIVE_UP)
            .unwrap_or(Err(SignFailure::Timeout))
    }

    /// Signs nonces on every instance that is up and compares with the public key.
    fn draw(self: &Arc<Self>, held: Arc<Held>) {
        let up: Vec<usize> = self
            .instances()
            .iter()
            .enumerate()
            .filter(|(_, s)| s.reach == Reach::Up)
            .map(|(i, _)| i)
            .collect();
        // With none up, the pool says why; while connecting, whichever comes first answers.
        let instances: Vec<Option<usize>> = match up.len() {
            0 => vec![None],
            _ => up.into_iter().map(Some).collect(),
        };
        let arrivals = self.arrivals();
        let left = Arc::new(Mutex::new((instances.len(), Ok(()))));
        for instance in instances {
            let (device, held, left) = (self.clone(), held.clone(), left.clone());
            let how = How {
                class: TOP_CLASS,
                patience: PATIENCE,
                group: 0,
                instance,
                again: false,
                blame: !held.trial,
            };
            let target = held.target.clone();
            let done: cascade_crypto::Completion = Box::new(move |_, result| {
                let mut left = left.lock();
                left.0 -= 1;
                if let Err(e) = result {
                    left.1 = Err(e);
                }
                if left.0 == 0 {
                    let result = left.1.clone();
                    drop(left);
                    device.drawn(&held, arrivals, result);
                }
            });
            gather::sign(self, target, nonces(), how, done);
        }
    }

    fn drawn(&self, held: &Held, mut arrivals: u64, result: Result<(), SignFailure>) {
        let now = self.now();
        let result = result.map_err(|e| match e {
            SignFailure::WrongSignature => SignFailure::Unproven {
                hsm: self.id.clone(),
                why: format!(
                    "key {} does not make the signatures of its public half on every instance",
                    held.target.dnskey.key_tag()
                ),
            },
            SignFailure::KeyNotFound => SignFailure::Unproven {
                hsm: self.id.clone(),
                why: format!("key {} is not there any more", held.target.dnskey.key_tag()),
            },
            other => other,
        });
        match &result {
            Ok(()) => {
                self.counts.proved.fetch_add(1, Ordering::Relaxed);
                self.facts.lock().last_proof = Some(now);
            }
            Err(SignFailure::Unproven { why, .. }) if held.trial => {
                tracing::warn!(hsm = %self.id, "HSM '{}': {why}; it is not imported", self.id);
            }
            Err(SignFailure::Unproven { why, .. }) => {
                self.counts.unproved.fetch_add(1, Ordering::Relaxed);
                tracing::error!(critical = true, hsm = %self.id, "HSM '{}': {why}", self.id);
            }
            Err(_) => {}
        }
        // Proven on the first contact, which arrived meanwhile.
        if arrivals == 0 {
            arrivals = self.arrivals();
        }
        let next = match &result {
            Ok(()) => Proof::Good { arrivals, at: now },
            Err(why @ SignFailure::Unproven { .. }) => Proof::Failed {
                why: why.clone(),
                at: now,
            },
            // Nothing was learnt about the key.
            Err(_) => Proof::Needed,
        };
        let before = std::mem::replace(&mut *held.proof.lock(), next);
        if let Proof::Running(waiters) = before {
            waiters.into_iter().for_each(|w| w(result.clone()));
        }
    }

    // ---- arrivals and departures, told by the monitor

    /// Notes that no instance can be reached any more; true if that is news.
    pub fn note_departure(&self) -> bool {
        let instances = self.instances();
        let mut why = None;
        for i in &instances {
            match &i.reach {
                Reach::Down(error) => why = why.or(Some(error.to_string())),
                Reach::Up | Reach::Connecting => return false,
            }
        }
        let Some(why) = why else { return false };
        let mut facts = self.facts.lock();
        match &mut facts.away {
            // The reason of the day; since when stays.
            Some((_, known)) => {
                *known = why;
                false
            }
            None => {
                facts.away = Some((self.clock.now(), why));
                true
            }
        }
    }

    /// It can be reached and does not sign; true if that is news.
    pub fn note_silence(&self, why: &str) -> bool {
        let mut facts = self.facts.lock();
        let news = facts.away.is_none();
        let since = facts
            .away
            .as_ref()
            .map_or_else(|| self.clock.now(), |(since, _)| *since);
        facts.away = Some((since, why.to_string()));
        news
    }

    pub fn is_away(&self) -> bool {
        self.facts.lock().away.is_some()
    }

    /// It signs again. That a server answers is not enough: its token may be away all the same.
    pub fn note_return(&self) {
        self.facts.lock().away = None;
    }

    pub fn tell(&self, event: Event) {
        // Gone only when the daemon is.
        let _ = self.events.send(event);
    }
}

impl Held {
    pub fn proved_at(&self) -> Option<Timestamp> {
        match &*self.proof.lock() {
            Proof::Good { at, .. } => Some(*at),
            _ => None,
        }
    }
}

/// Preimages that can be no RRSIG's: type 65535 is reserved (RFC 4034 §3.1.8.1, RFC 6895 §3.1).
fn nonces() -> Batch {
    let mut batch = Batch::new(Input::Preimage);
    for _ in 0..DRAWS {
        let nonce: [u8; 24] = crate::daemon::random();
        batch.push_with(|out| {
            out.extend_from_slice(b"\xff\xffcascade key proof ");
            out.extend_from_slice(&nonce);
        });
    }
    batch
}
