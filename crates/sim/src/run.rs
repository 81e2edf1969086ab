//! Runs a scenario: its lines at their times, its conditions after each event, and standard faults
//! at a stage of a roll.

use std::collections::BTreeMap;
use std::time::Duration;

use cascade_keys::{
    Alert, Assumptions, Cds, Class, Command, Event, RollType, Stage, alerts, forecast, waits_for,
    why,
};
use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::check::{Broken, Rule};
use crate::config::By;
use crate::parent::Ds;
use crate::scenario::{
    Answer, CdsIs, Cond, Counter, Deed, Flag, Order, Scenario, Trigger, What, When, apply_policy,
    deeds_of, matches,
};
use crate::world::World;
use crate::{DAY, HOUR};

/// Faults that every scenario of a roll is run with, each at each stage. The second is what happens,
/// the third what happens a day later.
pub const FAULTS: &[(&str, &str, &str)] = &[
    ("secondary-dead", "secondary 1 down 40d", ""),
    ("secondary-lags", "secondary 1 lag 2d", ""),
    ("secondary-rewinds", "secondary 1 rewind 2h 20m", ""),
    ("secondary-refuses", "secondary 1 refuse 3d", ""),
    ("parent-late", "parent register=30d", ""),
    ("parent-apart", "parent copy=1m,3d", ""),
    ("parent-down", "parent down 1 5d", ""),
    ("token-down", "token down 2d", ""),
    ("token-lies", "token lies 20 2d", ""),
    ("crash", "kill", "restart after 2d"),
    ("disk-full", "disk full 1d", ""),
    ("network-down", "network down 2d", ""),
    ("clock-ahead", "clock step +3h", "operator clock-confirm"),
    ("clock-back", "clock step -3h", ""),
    ("ttl-low", "zone data-ttl=5m", ""),
    ("ttl-high", "zone data-ttl=2d", ""),
];

/// What a fault may cost in time on top of what the scenario allows.
const PATIENCE: u64 = 90 * DAY;

/// A standard fault at the first time that a roll of the class enters the stage.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Injection {
    pub fault: String,
    pub class: String,
    pub stage: Stage,
}

/// One run of a scenario.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Choice {
    pub seed: u64,
    pub injection: Option<Injection>,
    /// Read the state back after every event.
    pub restart: bool,
    /// Kill the daemon after this action, before its result is recorded.
    pub crash_after: Option<u32>,
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {}", self.seed)?;
        if let Some(i) = &self.injection {
            write!(f, ", {} at {} {:?}", i.fault, i.class, i.stage)?;
        }
        if self.restart {
            f.write_str(", restart after every event")?;
        }
        if let Some(n) = self.crash_after {
            write!(f, ", crash after action {n}")?;
        }
        Ok(())
    }
}

/// What became of it.
pub struct Outcome {
    pub world: World,
    pub broken: Option<Broken>,
    /// The line of the scenario that was not met.
    pub line: Option<usize>,
    /// Stages that were entered, for choosing injections.
    pub stages: Vec<(Class, Stage)>,
    pub seconds: u64,
}

/// Runs one scenario to its end, or until something is broken.
pub fn run(scenario: &Scenario, choice: &Choice) -> Outcome {
    let mut config = scenario.config.clone();
    config.seed = choice.seed;
    config.restart |= choice.restart;
    if choice.crash_after.is_some() {
        config.crash_after = choice.crash_after;
        config.crash_down = config.crash_down.max(HOUR);
    }
    let mut r = Runner::new(
        scenario,
        choice,
        World::new(scenario.policy.clone(), config),
    );
    r.run();
    let age = r.world.age();
    if r.world.broken.is_none() {
        r.world.end();
    }
    Outcome {
        broken: r.world.broken.clone(),
        world: r.world,
        line: r.line,
        stages: r.stages,
        seconds: age,
    }
}

/// The choices of a scenario: all, or a few of them that differ from seed to seed.
pub fn choices(scenario: &Scenario, seed: u64, sample: Option<usize>) -> Vec<Choice> {
    let plain = Choice {
        seed,
        ..Choice::default()
    };
    let first = run(scenario, &plain);
    let mut out = vec![
        plain.clone(),
        Choice {
            restart: true,
            ..plain.clone()
        },
    ];
    let Some((class, except)) = &scenario.faults else {
        return out;
    };
    let mut more = Vec::new();
    let stages = first.stages.iter().filter(|s| s.0 == *class);
    for (_, stage) in stages {
        for (fault, _, _) in FAULTS {
            if except.iter().any(|e| e == fault) {
                continue;
            }
            let injection = Injection {
                fault: fault.to_string(),
                class: class.word().to_string(),
                stage: *stage,
            };
            more.push(Choice {
                injection: Some(injection),
                ..plain.clone()
            });
        }
    }
    for n in 1..first.world.effects.min(200) {
        more.push(Choice {
            crash_after: Some(n),
            ..plain.clone()
        });
    }
    if let Some(n) = sample {
        let mut draw = crate::Rng::stream(seed, &scenario.name);
        while more.len() > n {
            more.swap_remove(draw.below(more.len() as u64) as usize);
        }
    }
    out.extend(more);
    out
}

struct Due {
    at: u64,
    line: usize,
    what: What,
}

struct Runner<'a> {
    world: World,
    choice: &'a Choice,
    end: u64,
    due: Vec<Due>,
    /// Waiting for something to happen first.
    after: Vec<(Trigger, u64, usize, What)>,
    withins: Vec<(u64, usize, Cond)>,
    nevers: Vec<(usize, Cond)>,
    told: Vec<(usize, usize, Vec<Told>)>,
    seen: usize,
    line: Option<usize>,
    stages: Vec<(Class, Stage)>,
}

type Told = (Class, Option<Stage>, Timestamp);

impl<'a> Runner<'a> {
    fn new(scenario: &Scenario, choice: &'a Choice, world: World) -> Runner<'a> {
        let disturbed = choice.injection.is_some() || choice.crash_after.is_some();
        let patience = if disturbed { PATIENCE } else { 0 };
        let mut r = Runner {
            world,
            choice,
            end: scenario.run + patience,
            due: Vec::new(),
            after: Vec::new(),
            withins: Vec::new(),
            nevers: Vec::new(),
            told: Vec::new(),
            seen: 0,
            line: None,
            stages: Vec::new(),
        };
        for l in &scenario.lines {
            let mut what = l.what.clone();
            if disturbed {
                // Times are other ones now; what remains is that rolls end and rules hold.
                what = match what {
                    What::Within(span, c @ Cond::Done(..)) => What::Within(span + patience, c),
                    What::Expect(_) | What::Within(..) | What::Never(_) | What::Forecast(_) => {
                        continue;
                    }
                    What::Do(Deed::Order(o, _)) => What::Do(Deed::Order(o, Answer::Any)),
                    other => other,
                };
            }
            let line = l.number;
            match (&l.when, what) {
                (_, What::Never(c)) => r.nevers.push((line, c)),
                (When::Always, what) => r.due.push(Due { at: 0, line, what }),
                (When::At(at), what) => r.due.push(Due {
                    at: *at,
                    line,
                    what,
                }),
                (When::Every { every, from, to }, what) => {
                    let to = if *to == 0 { scenario.run } else { *to };
                    let mut at = *from;
                    while at <= to.min(r.end) {
                        let what = what.clone();
                        r.due.push(Due { at, line, what });
                        at += every;
                    }
                }
                (When::After { trigger, delay }, what) => {
                    r.after.push((*trigger, *delay, line, what));
                }
            }
        }
        r.due.sort_by_key(|d| d.at);
        r.due.reverse();
        r
    }

    fn run(&mut self) {
        loop {
            let age = self.world.age();
            while self.due.last().is_some_and(|d| d.at <= age) {
                let Some(d) = self.due.pop() else { break };
                self.perform(d);
            }
            self.world.settle();
            self.look_at_events();
            self.judge_conditions();
            if self.world.broken.is_some() {
                return;
            }
            if self.due.last().is_some_and(|d| d.at <= age) {
                continue;
            }
            let dues = self.due.last().map(|d| d.at);
            let ends = self.withins.iter().map(|w| w.0);
            let until = ends.chain(dues).chain([self.end]).min().unwrap_or(self.end);
            let until = until.max(age);
            let until = self.world.start + Duration::from_secs(until);
            let idle = self.due.last().is_none_or(|d| d.at > self.end);
            if age >= self.end && idle {
                self.judge_forecasts();
                return;
            }
            self.world.proceed(until);
        }
    }

    fn perform(&mut self, d: Due) {
        match d.what {
            What::Do(deed) => self.deed(&deed, d.line),
            What::Expect(c) => {
                // What is due at this second is done before.
                self.world.advance(self.world.now);
                if !holds(&self.world, &c) {
                    self.unmet(d.line, &c);
                }
            }
            What::Within(span, c) => self.withins.push((d.at + span, d.line, c)),
            What::Never(c) => self.nevers.push((d.line, c)),
            What::Forecast(span) => {
                let w = &mut self.world;
                w.advance(w.now);
                let c = &w.config;
                let parent = c.register + c.parent.iter().max().copied().unwrap_or(0);
                let scan = if c.by == By::Cds { c.every } else { 0 };
                let assume = Assumptions {
                    parent: Duration::from_secs(parent + scan),
                    signing: Duration::from_secs(c.resign),
                    servers: Duration::from_secs(c.lags.iter().max().copied().unwrap_or(0)),
                };
                let until = w.now + Duration::from_secs(span);
                let events = forecast(&w.zone, &w.policy, w.wall(), until, &assume);
                self.told.push((d.line, w.events.len(), steps(&events)));
            }
        }
    }

    fn unmet(&mut self, line: usize, c: &Cond) {
        self.line = Some(line);
        let w = &mut self.world;
        let now = w.wall();
        let text = why("example.", &w.zone, &w.policy, &w.facts, now);
        w.fail(
            Rule::Expect,
            format!("line {line}: {c:?} does not hold; {text}"),
        );
    }

    fn look_at_events(&mut self) {
        while let Some(e) = self.world.events.get(self.seen) {
            self.seen += 1;
            let happened = match e {
                Event::RollStepped { class, to, .. } => vec![Trigger::Enters(*class, *to)],
                Event::RollDone { class, .. } => vec![Trigger::Done(*class)],
                Event::RollStarted { roll } => vec![
                    Trigger::Starts(roll.class()),
                    Trigger::Enters(roll.class(), roll.stage),
                ],
                Event::KeyAdded { key, .. } => vec![Trigger::KeyGenerated(key.num.0)],
                Event::VersionPublished(_) => vec![Trigger::Published],
                _ => Vec::new(),
            };
            for t in happened {
                self.trigger(t);
            }
        }
    }

    fn trigger(&mut self, t: Trigger) {
        if let Trigger::Enters(class, stage) = t
            && !self.stages.contains(&(class, stage))
        {
            self.stages.push((class, stage));
            let injected = self.choice.injection.as_ref();
            if injected.is_some_and(|i| i.class == class.word() && i.stage == stage) {
                self.inject();
            }
        }
        let age = self.world.age();
        let (now, rest): (Vec<_>, Vec<_>) = self.after.drain(..).partition(|a| a.0 == t);
        self.after = rest;
        for (_, delay, line, what) in now.into_iter().rev() {
            let at = age + delay;
            self.due.push(Due { at, line, what });
        }
        self.due.sort_by_key(|d| std::cmp::Reverse(d.at));
    }

    fn inject(&mut self) {
        let Some(i) = &self.choice.injection else {
            return;
        };
        let Some((_, first, later)) = FAULTS.iter().find(|f| f.0 == i.fault) else {
            return;
        };
        let age = self.world.age();
        for (text, at) in [(first, age), (later, age + DAY)] {
            for deed in deeds_of(text).unwrap_or_default().into_iter().rev() {
                let what = What::Do(deed);
                self.due.push(Due { at, line: 0, what });
            }
        }
        self.due.sort_by_key(|d| std::cmp::Reverse(d.at));
    }

    fn judge_conditions(&mut self) {
        let mut open = Vec::new();
        for (end, line, c) in std::mem::take(&mut self.withins) {
            if holds(&self.world, &c) {
                continue;
            }
            if self.world.age() >= end {
                self.unmet(line, &c);
            }
            open.push((end, line, c));
        }
        self.withins = open;
        let hit = self.nevers.iter().find(|(_, c)| holds(&self.world, c));
        if let Some((line, c)) = hit.cloned() {
            self.line = Some(line);
            let text = format!("line {line}: {c:?} holds");
            self.world.fail(Rule::Expect, text);
        }
    }

    /// W28: what was foretold is what happened, to the interval of looks and the time of signing.
    fn judge_forecasts(&mut self) {
        for (line, from, told) in std::mem::take(&mut self.told) {
            let real = steps(&self.world.events[from..]);
            let slack = self.world.config.resign + 2 * HOUR + self.world.config.every;
            let fits = told.len() <= real.len()
                && told.iter().zip(&real).all(|(a, b)| {
                    let apart = a.2.secs().abs_diff(b.2.secs());
                    (a.0, a.1) == (b.0, b.1) && apart <= slack
                });
            if !fits {
                self.line = Some(line);
                let text = format!("foretold {told:?}, happened {real:?}");
                self.world.fail(Rule::W28, text);
            }
        }
    }

    fn deed(&mut self, deed: &Deed, line: usize) {
        let w = &mut self.world;
        let age = w.age();
        w.mix(&format!("{age} {deed:?}"));
        match deed {
            Deed::Order(order, answer) => self.order(order, answer, line),
            Deed::Policy(pairs) => apply_policy(&mut w.policy, pairs),
            Deed::DataTtl(ttl) => w.set_data_ttl(*ttl),
            Deed::Led(led) => w.config.led = *led,
            Deed::ParentDsTtl(ttl) => w.set_ds_ttl(*ttl),
            Deed::ParentBy(by) => {
                w.config.by = *by;
                w.policy.tell_parent = *by == By::Hook;
                if *by == By::Cds {
                    w.scan_from_now();
                }
            }
            Deed::ParentKeepOld(yes) => w.config.keep_old = *yes,
            Deed::ParentRemoveFirst(span) => w.config.remove_first = *span,
            Deed::ParentRegister(span) => w.config.register = *span,
            Deed::ParentCopy(spans) => {
                let n = w.config.parent.len();
                for (i, s) in spans.iter().take(n).enumerate() {
                    w.config.parent[i] = *s;
                }
            }
            Deed::ParentDigests(d) => w.config.digests.clone_from(d),
            Deed::ParentApply(list) => {
                let digests = w.config.digests.clone();
                let set: Vec<Ds> = list
                    .iter()
                    .flat_map(|d| d.ds(w.algorithm_of(d.key), &digests))
                    .collect();
                w.register(set);
            }
            Deed::ParentDown(server, span) => w.cut_off_parent(*server, *span),
            Deed::SecondaryDown(s, span) if w.has_server(*s) => w.cut_off(*s, *span),
            Deed::SecondaryLag(s, span) if w.has_server(*s) => w.config.lags[*s] = *span,
            Deed::SecondaryRewind(s, ago, span) if w.has_server(*s) => w.rewind(*s, *ago, *span),
            Deed::SecondaryFlip(s, period, span, old) if w.has_server(*s) => {
                w.flip(*s, *period, *span, *old);
            }
            Deed::SecondaryRefuse(s, span) if w.has_server(*s) => w.refuse(*s, *span),
            Deed::SecondaryForge(s, span) if w.has_server(*s) => w.forge(*s, *span),
            Deed::SecondaryForge(..)
            | Deed::SecondaryDown(..)
            | Deed::SecondaryLag(..)
            | Deed::SecondaryRewind(..)
            | Deed::SecondaryFlip(..)
            | Deed::SecondaryRefuse(..) => {}
            Deed::TokenDown(span) => {
                w.config.token_down = Some((age, age + span));
                w.retry_at(*span);
            }
            Deed::TokenLies(n, span) => w.config.token_lies = Some((age, age + span, *n)),
            Deed::TokenLoses(key) => w.lose(*key),
            Deed::TokenRestores(key) => w.find_again(*key),
            Deed::TokenCollides(n) => w.collide = *n,
            Deed::TokenUnsynchronised(yes) => w.unsynchronised = *yes,
            Deed::TokenKeeps(span) => w.config.token_keeps = Some((age, age + span)),
            Deed::LoseSignature(n) => w.lose_signature = *n,
            Deed::DiskFull(span) => {
                w.config.disk_full = Some((age, age + span));
                w.retry_at(*span);
            }
            Deed::NetworkDown(span) => w.config.network_down = Some((age, age + span)),
            Deed::ClockStep(by) => w.step_clock(*by),
            Deed::Kill => w.kill(),
            Deed::Restart(after) => w.restart(*after),
        }
    }

    fn order(&mut self, order: &Order, answer: &Answer, line: usize) {
        let w = &mut self.world;
        let who = "anna".to_string();
        let command = match order.clone() {
            Order::Pause => {
                w.facts.paused = true;
                return;
            }
            Order::Resume => {
                w.facts.paused = false;
                return;
            }
            Order::Check => {
                w.facts.look_now = true;
                return;
            }
            Order::Start(class) => Command::StartRoll { class },
            Order::Propagated(class, step, ttl, force) => Command::Propagated {
                class,
                step,
                ttl,
                force,
                who,
            },
            Order::Expired(class, step) => Command::Expired { class, step },
            Order::RollDone(class, force) => Command::RollDone { class, force, who },
            Order::Remove(key, force) => Command::RemoveKey { key, force },
            Order::Emergency(role, strategy) => Command::Emergency { role, strategy },
            Order::BackedUp(key) => Command::BackedUp { key },
            Order::ConfirmClock => Command::ClockConfirmed {
                stepped_secs: w.held_step,
            },
        };
        if !w.up {
            return;
        }
        let said = match w.command(command) {
            Ok(()) => None,
            Err(refusal) => Some(refusal.to_string()),
        };
        let fits = match (answer, &said) {
            (Answer::Any, _) | (Answer::Done, None) => true,
            (Answer::Refused(p), Some(text)) => matches(p, text),
            (Answer::Done, Some(_)) | (Answer::Refused(_), None) => false,
        };
        if !fits {
            self.line = Some(line);
            let text = format!("line {line}: {order:?} is answered with {said:?}");
            w.fail(Rule::Expect, text);
        }
    }
}

fn steps(events: &[Event]) -> Vec<Told> {
    let of = |e: &Event| match e {
        Event::RollStepped { class, to, at, .. } => Some((*class, Some(*to), *at)),
        Event::RollDone { class, at } => Some((*class, None, *at)),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

/// Whether a condition of a scenario is true now.
pub fn holds(w: &World, c: &Cond) -> bool {
    let now = w.wall();
    let reason = || why("example.", &w.zone, &w.policy, &w.facts, now);
    let told = || alerts(&w.zone, &w.policy, now);
    match c {
        Cond::Running {
            class,
            state,
            stage,
            why: text,
        } => w.zone.roll(*class).is_some_and(|r| {
            state.as_ref().is_none_or(|s| s == r.state())
                && stage.is_none_or(|s| s == r.stage)
                && text.as_ref().is_none_or(|t| {
                    matches(t, &reason()) || matches(t, &waits_for(&w.zone, &w.policy, r, now))
                })
        }),
        Cond::NotRunning(class) => w.zone.roll(*class).is_none(),
        Cond::Done(class, n) => {
            let of = |(k, n): (&RollType, &usize)| if k.class() == *class { *n } else { 0 };
            w.finished.iter().map(of).sum::<usize>() >= *n
        }
        Cond::NoRolls => w.zone.rolls.is_empty(),
        Cond::Why(p) => matches(p, &reason()),
        Cond::NoAlert => told().is_empty(),
        Cond::Alert(p) => told().iter().any(|a| matches(p, &a.text())),
        Cond::Critical => told().iter().any(Alert::is_critical),
        Cond::Is(flag, yes) => {
            let is = match flag {
                Flag::Published => w.zone.published.is_some(),
                Flag::Settled => w.zone.settled_at.is_some(),
                Flag::Linked => w.zone.parent.linked_at.is_some(),
                Flag::Island => w.zone.island,
                Flag::Unsigned => w.zone.published.as_ref().is_some_and(|p| p.apex.unsigned),
            };
            is == *yes
        }
        Cond::Dnskey(keys) => {
            let p = w.zone.published.as_ref();
            p.is_some_and(|p| p.apex.dnskey == *keys)
        }
        Cond::Signers(keys) => w.zone.published.as_ref().is_some_and(|p| p.any == *keys),
        Cond::Cds(is) => w
            .zone
            .published
            .as_ref()
            .is_some_and(|p| match (is, &p.apex.cds) {
                (CdsIs::None, Cds::None) | (CdsIs::Delete, Cds::Delete) => true,
                (CdsIs::Keys(a), Cds::Keys(b)) => a == b,
                _ => false,
            }),
        Cond::DsIs(keys) => w.ds_everywhere().iter().all(|d| d == keys),
        Cond::Key(n, state) => {
            let key = w.zone.key(*n);
            key.is_some_and(|k| w.zone.key_state(k, &w.policy, now) == *state)
        }
        Cond::Count(counter, n) => {
            let count = match counter {
                Counter::Destroyed => w.destroyed,
                Counter::Reminders => w.reminders,
                Counter::Refused => w.refused,
                Counter::Restarts => w.restarts,
                Counter::Announced => w.announced,
                Counter::Keys => w.zone.keys.len(),
            };
            count as u64 >= *n
        }
    }
}

/// Which (class, stage, fault) were reached, with counts.
pub fn reached(outcomes: &[(Choice, Vec<(Class, Stage)>)]) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for (choice, stages) in outcomes {
        let fault = match &choice.injection {
            Some(i) => i.fault.clone(),
            None if choice.restart => "restart".to_string(),
            None if choice.crash_after.is_some() => "crash-point".to_string(),
            None => "none".to_string(),
        };
        for (class, stage) in stages {
            *out.entry(format!("{} {stage:?} {fault}", class.word()))
                .or_insert(0) += 1;
        }
    }
    out
}
