//! The world: virtual clock, one queue of things to come, and the loop over them.
//!
//! `now` is the true time, by which caches and signatures age. The host's clock is [`World::wall`];
//! faults move it away from the true time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cascade_keys::{
    Action, Answer, Command, Event, Facts, Key, KeyNum, KeyPolicy, Refusal, RollType, Scope,
    Subject, What, ZoneKeys, decide, next_deadline, permitted,
};
use cascade_time::Timestamp;

use crate::check::{Broken, Rule};
use crate::config::{By, Config};
use crate::parent::{Ds, ParentServer};
use crate::pipe::Pipe;
use crate::reach::Reach;
use crate::rng::Rng;
use crate::servers::{Server, Version};
use crate::steps::Told;
use crate::{DAY, MINUTE};

#[derive(Clone, Debug)]
pub(crate) enum Coming {
    /// A zone server gets this version, or the newest there is then.
    Update {
        server: usize,
        version: Option<usize>,
    },
    /// RFC 1034 §4.3.5: cut off for SOA EXPIRE, the secondary stops answering.
    Expire {
        server: usize,
        since: Timestamp,
    },
    Flip {
        server: usize,
        period: u64,
        until: Timestamp,
    },
    /// The signer gets to this part of the zone in a change of signers.
    Resign {
        part: usize,
    },
    /// Signatures over data come near their end.
    Refresh,
    Parent {
        server: usize,
        set: Vec<Ds>,
        change: u64,
    },
    ParentExpire {
        server: usize,
    },
    ParentGone {
        server: usize,
    },
    ParentBack {
        server: usize,
    },
    Scan,
    Register {
        set: Vec<Ds>,
    },
    Finish {
        action: Action,
    },
    LookEnds {
        what: What,
        scope: Scope,
        started: Timestamp,
        early: Vec<Option<(Answer, Told)>>,
    },
    /// A job of the pipeline ends, if that process still runs.
    Job {
        action: cascade_pipeline::Action,
        process: u32,
    },
    Restart,
    /// Ask the daemon again.
    Wake,
}

#[derive(Clone)]
pub struct World {
    pub zone: ZoneKeys,
    pub policy: KeyPolicy,
    pub facts: Facts,
    pub now: Timestamp,
    pub start: Timestamp,
    /// Host clock minus true time, in seconds.
    pub skew: i64,
    /// A forward step that nobody has confirmed.
    pub held_step: u64,
    pub config: Config,
    pub events: Vec<Event>,
    pub lines: Vec<String>,
    pub finished: BTreeMap<RollType, usize>,
    pub broken: Option<Broken>,
    /// The daemon runs.
    pub up: bool,
    pub checks: usize,
    pub looks: usize,
    /// How often the product was asked what to do now, or when next.
    pub decisions: u64,
    /// Seconds at which the parent was asked.
    pub ds_looks: Vec<u64>,
    pub reminders: usize,
    pub destroyed: usize,
    pub restarts: usize,
    /// Signatures, versions and keys that were refused before anybody saw them.
    pub refused: usize,
    /// Violations for which others are to blame and that were announced.
    pub announced: usize,
    pub(crate) versions: Vec<Version>,
    pub(crate) servers: Vec<Server>,
    pub(crate) parents: Vec<ParentServer>,
    pub(crate) registry: Vec<Ds>,
    /// Changes of the registry so far.
    pub(crate) registered: u64,
    /// Largest TTL of what was served before us.
    pub(crate) unsigned_ttl: Option<u32>,
    pub(crate) queue: BTreeMap<(Timestamp, u64, u64), Coming>,
    sequence: u64,
    pub(crate) reach: Reach,
    pub(crate) keys: BTreeMap<KeyNum, Key>,
    /// Keys whose private halves differ between instances.
    pub(crate) split: BTreeSet<KeyNum>,
    pub(crate) lost: BTreeSet<KeyNum>,
    /// Keys that were made while an instance was away, which it lacks.
    pub(crate) absent: BTreeSet<KeyNum>,
    pub(crate) fails: BTreeMap<Subject, u32>,
    pub(crate) effects: u32,
    pub(crate) unreported: Vec<Event>,
    pub(crate) person_read: Option<(Vec<KeyNum>, bool)>,
    /// What the members of the last sweep of each kind really had when they were asked.
    pub(crate) truth: BTreeMap<What, Vec<Told>>,
    pub(crate) mark: Timestamp,
    pub(crate) order: Rng,
    pub(crate) chance: Rng,
    pub(crate) hash: u64,
    pub(crate) calm: Calm,
    /// Next key pairs collide with tags that are taken.
    pub collide: u32,
    /// The RRSIG over DNSKEY gets lost on the way in the next versions.
    pub lose_signature: u32,
    /// Key pairs are generated once per instance, so that they differ.
    pub unsynchronised: bool,
    pub operator_lied: bool,
    /// Servers follow only when they are told to.
    pub manual: bool,
    pub(crate) refreshing: bool,
    /// Contents of the source, the present one last.
    pub(crate) contents: Vec<u32>,
    /// The source is cut off half way, and its TTL meanwhile.
    pub(crate) truncated: bool,
    pub(crate) held_ttl: Option<u32>,
    /// Versions of the source that the guard held.
    pub held: usize,
    /// Versions before belong to a zone that is no more.
    pub(crate) floor: usize,
    /// The zone is not ours at the moment.
    pub(crate) removed: bool,
    /// Level Z.
    pub(crate) pipe: Option<Pipe>,
}

/// Since when nothing has been wrong, for the promises that hold without faults.
#[derive(Clone, Debug)]
pub(crate) struct Calm {
    pub(crate) all: Timestamp,
    pub(crate) signing: Timestamp,
    /// A violation that others are to blame for must be announced until then.
    pub(crate) announce_by: Option<Timestamp>,
    pub(crate) blamed: bool,
    /// Sum of all steps of the clock, by which waits may have grown.
    pub(crate) stepped: u64,
    pub(crate) fast_until: Option<Timestamp>,
    pub(crate) day: u64,
    pub(crate) actions: u32,
    pub(crate) hurry: bool,
}

impl World {
    pub fn new(policy: KeyPolicy, mut config: Config) -> World {
        if config.real {
            config.pipeline = true;
            config.public_keys = Some(crate::real::keys::public_key);
        }
        let start = Timestamp::from_secs(1_800_000_000);
        let mut w = World {
            zone: ZoneKeys::new(&config.owner),
            policy,
            facts: Facts::default(),
            now: start,
            start,
            skew: 0,
            held_step: 0,
            events: Vec::new(),
            lines: Vec::new(),
            finished: BTreeMap::new(),
            broken: None,
            up: true,
            checks: 0,
            looks: 0,
            decisions: 0,
            ds_looks: Vec::new(),
            reminders: 0,
            destroyed: 0,
            restarts: 0,
            refused: 0,
            announced: 0,
            versions: Vec::new(),
            servers: vec![Server::default(); config.lags.len()],
            parents: vec![ParentServer::default(); config.parent.len()],
            registry: Vec::new(),
            registered: 0,
            unsigned_ttl: None,
            queue: BTreeMap::new(),
            sequence: 0,
            reach: Reach::default(),
            keys: BTreeMap::new(),
            split: BTreeSet::new(),
            absent: BTreeSet::new(),
            lost: BTreeSet::new(),
            fails: BTreeMap::new(),
            effects: 0,
            unreported: Vec::new(),
            person_read: None,
            truth: BTreeMap::new(),
            mark: start,
            order: Rng::stream(config.seed, "order"),
            chance: Rng::stream(config.seed, "chance"),
            hash: 0xcbf2_9ce4_8422_2325,
            calm: Calm {
                all: start,
                signing: start,
                announce_by: None,
                blamed: false,
                stepped: 0,
                fast_until: None,
                day: 0,
                actions: 0,
                hurry: false,
            },
            collide: 0,
            lose_signature: 0,
            unsynchronised: false,
            operator_lied: false,
            manual: false,
            refreshing: false,
            contents: vec![0],
            truncated: false,
            held_ttl: None,
            held: 0,
            floor: 0,
            removed: false,
            pipe: config.pipeline.then(|| Pipe::new(&config)),
            config,
        };
        if w.config.signed_before {
            w.sign_before();
        }
        // Signatures must outlive the TTL at a secondary that is about to expire the zone.
        let least = u64::from(w.config.data_ttl.max(172_800)) + u64::from(w.config.soa_expire);
        w.config.data_remain = w.config.data_remain.max(least + DAY);
        w.config.data_lifetime = w.config.data_lifetime.max(w.config.data_remain + 7 * DAY);
        for (server, from, to) in w.config.down.clone() {
            w.cut_off_between(server, from, to);
        }
        for (server, from, to) in w.config.parent_down.clone() {
            let at = from + u64::from(w.config.parent_expire);
            w.schedule(at, Coming::ParentExpire { server });
            w.schedule(to, Coming::ParentBack { server });
        }
        if w.config.by == By::Cds {
            w.schedule(w.config.every, Coming::Scan);
        }
        w.pipe_source();
        w
    }

    /// Seconds since the beginning.
    pub fn age(&self) -> u64 {
        self.now.since(self.start).as_secs()
    }

    /// The host's clock.
    pub fn wall(&self) -> Timestamp {
        let by = Duration::from_secs(self.skew.unsigned_abs());
        if self.skew >= 0 {
            self.now + by
        } else {
            self.now - by
        }
    }

    /// A time of the host's clock as true time.
    fn true_time(&self, wall: Timestamp) -> Timestamp {
        let by = Duration::from_secs(self.skew.unsigned_abs());
        if self.skew >= 0 { wall - by } else { wall + by }
    }

    /// Times of the lines count from here.
    pub fn mark(&mut self) {
        self.mark = self.now;
        self.lines.clear();
    }

    pub fn run(&mut self, secs: u64) {
        let end = self.now + Duration::from_secs(secs);
        while self.advance(end) {}
    }

    /// All that happens at this moment, then on to the next; false at `end` and when broken.
    pub fn advance(&mut self, end: Timestamp) -> bool {
        self.settle() && self.proceed(end)
    }

    /// All that the daemon does at this moment, and the checks; false when broken.
    pub fn settle(&mut self) -> bool {
        self.work();
        self.read_by_person();
        self.check();
        self.broken.is_none()
    }

    /// On to the next moment at which something comes; false at `end`.
    pub fn proceed(&mut self, end: Timestamp) -> bool {
        let world = self.queue.first_key_value().map(|(k, _)| k.0);
        let next = [self.own_deadline(), world, self.reach_deadline()];
        match next.into_iter().flatten().min() {
            Some(t) if t <= end => self.now = self.now.max(t),
            _ => {
                self.now = end;
                return false;
            }
        }
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let what = entry.remove();
            self.deliver(what);
        }
        true
    }

    fn own_deadline(&mut self) -> Option<Timestamp> {
        if !self.up {
            return None;
        }
        let wall = self.wall();
        let due = match self.is_restoring() {
            true => None,
            false => next_deadline(&self.zone, &self.policy, &self.facts, wall),
        };
        if due.is_some_and(|due| due <= wall) {
            self.fail(Rule::W21, "a deadline that is not in the future".into());
        }
        let of_pipe = self.pipe.as_ref().and_then(Pipe::deadline);
        let first = due.into_iter().chain(of_pipe).min()?;
        Some(self.true_time(first))
    }

    /// Runs until a roll of this kind has ended, at most `secs`.
    pub fn run_until_done(&mut self, kind: RollType, secs: u64) -> bool {
        let before = self.finished.get(&kind).copied().unwrap_or(0);
        let end = self.now + Duration::from_secs(secs);
        while self.now < end && self.broken.is_none() {
            self.run(10 * MINUTE);
            if self.finished.get(&kind).copied().unwrap_or(0) > before {
                return true;
            }
        }
        false
    }

    /// An operator's order.
    ///
    /// # Errors
    /// The product's refusal; nothing has changed.
    pub fn command(&mut self, command: Command) -> Result<(), Refusal> {
        permitted(&command, &self.facts)?;
        let lies = self.is_untrue(&command);
        let events = decide(&self.zone, &self.policy, &command, self.wall())?;
        self.operator_lied |= lies;
        if let Command::ClockConfirmed { stepped_secs } = command {
            self.calm.stepped += stepped_secs;
            self.facts.clock_held = false;
            self.held_step = 0;
        }
        for e in events {
            self.apply_by(e, true);
        }
        Ok(())
    }

    /// The host's clock jumps.
    pub fn step_clock(&mut self, by: i64) {
        self.skew += by;
        self.calm.stepped += by.unsigned_abs();
        self.line(format!("the clock is stepped by {by} s"));
        if by > 0 && by.unsigned_abs() > self.config.max_step {
            self.held_step += by.unsigned_abs();
            self.facts.clock_held = true;
        }
    }

    pub(crate) fn schedule(&mut self, secs: u64, what: Coming) {
        self.sequence += 1;
        let at = self.now + Duration::from_secs(secs);
        // Of one second any order may be the real one.
        let tie = if self.config.seed == 0 {
            0
        } else {
            self.order.draw()
        };
        self.queue.insert((at, tie, self.sequence), what);
    }

    pub(crate) fn fail(&mut self, rule: Rule, text: String) {
        if self.broken.is_none() {
            self.line(format!("BROKEN {rule}: {text}"));
            self.broken = Some(Broken {
                rule,
                age: self.age(),
                text,
            });
        }
    }

    pub(crate) fn within(&self, window: Option<(u64, u64)>) -> bool {
        let age = self.age();
        window.is_some_and(|(a, b)| a <= age && age < b)
    }

    fn deliver(&mut self, what: Coming) {
        match what {
            Coming::Update { server, version } => self.arrive(server, version),
            Coming::Expire { server, since } => self.expire(server, since),
            Coming::Flip {
                server,
                period,
                until,
            } => self.flip_now(server, period, until),
            Coming::Resign { part } => self.resign(part),
            Coming::Refresh => self.refresh(),
            Coming::Parent {
                server,
                set,
                change,
            } => self.parent_gets(server, set, change),
            Coming::ParentExpire { server } => self.parent_expires(server),
            Coming::ParentGone { server } => self.parent_goes(server),
            Coming::ParentBack { server } => {
                let set = self.registry.clone();
                self.parent_gets(server, set, self.registered);
            }
            Coming::Scan => {
                self.scan_cds();
                self.schedule(self.config.every.max(1), Coming::Scan);
            }
            Coming::Register { set } => self.register(set),
            Coming::Finish { action } => self.finish(action),
            Coming::LookEnds {
                what,
                scope,
                started,
                early,
            } => self.end_look(what, scope, started, early),
            Coming::Job { action, process } => self.pipe_job(action, process),
            Coming::Restart => self.boot(),
            Coming::Wake => {
                let over = !self.within(self.config.token_down);
                if over && !self.within(self.config.disk_full) {
                    self.retry_now();
                }
            }
        }
    }

    /// Checks that belong to the end of a run.
    pub fn end(&mut self) {
        let mut replayed = ZoneKeys::new(&self.config.owner);
        self.events.iter().for_each(|e| replayed.apply(e));
        if replayed != self.zone && self.unreported.is_empty() {
            self.fail(Rule::W22, "the events do not give the state".into());
        }
        if self.age() < DAY {
            return;
        }
        let text = serde_json::to_string(&self.zone).map_or(0, |t| t.len());
        if text > 65_536 {
            self.fail(Rule::W22, format!("the state has grown to {text} octets"));
        }
    }
}
