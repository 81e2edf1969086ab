//! Runs a scenario: its lines at their times, its conditions after each event, and a standard fault
//! or a crash at its moment.
//!
//! Up to the fault the scenario's expectations hold; after it times are other ones, and what
//! remains is that rolls end and rules hold.

use std::time::Duration;

use cascade_keys::{
    Assumptions, Class, Command, Event, Role, Stage, Strategy, decide, forecast, why,
};
use cascade_time::Timestamp;

use crate::check::{Broken, Rule};
use crate::cond::holds;
use crate::config::By;
use crate::fault::{Choice, fault};
use crate::scenario::{Answer, Cond, Deed, Order, Scenario, Trigger, What, When, deeds_of};
use crate::world::World;
use crate::{DAY, HOUR, MINUTE};

/// What a fault may cost in time on top of what the scenario allows.
const PATIENCE: u64 = 90 * DAY;

/// Orders that are further away are not waited for in brief runs.
const SOON: u64 = 30 * DAY;

/// How long a run goes on after its fault.
const LONGEST: u64 = 200 * DAY;

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
    let world = World::new(scenario.policy.clone(), config);
    let mut r = Runner::new(scenario, choice.clone(), world);
    if let Some(n) = choice.crash_after {
        r.crash_after(n);
    }
    r.finish()
}

#[derive(Clone)]
struct Due {
    at: u64,
    line: usize,
    what: What,
}

/// A run between two moments; a copy goes on for itself.
#[derive(Clone)]
pub(crate) struct Runner {
    pub(crate) world: World,
    choice: Choice,
    /// The fault has happened.
    pub(crate) disturbed: bool,
    /// Seconds after the fault, then the time, from which on a run may end that waits for nothing.
    pub(crate) brief: Option<u64>,
    /// Where the scenario ends, and where it does with what the fault may cost.
    planned: u64,
    end: u64,
    due: Vec<Due>,
    /// Waiting for something to happen first.
    after: Vec<(Trigger, u64, usize, What)>,
    withins: Vec<(u64, usize, Cond)>,
    nevers: Vec<(usize, Cond)>,
    told: Vec<(usize, usize, Vec<Told>)>,
    /// Emergencies: line, class, begin and the end that was foretold.
    plans: Vec<(usize, Class, Timestamp, Timestamp)>,
    seen: usize,
    pub(crate) line: Option<usize>,
    pub(crate) stages: Vec<(Class, Stage)>,
}

type Told = (Class, Option<Stage>, Timestamp);

impl Runner {
    pub(crate) fn new(scenario: &Scenario, choice: Choice, world: World) -> Runner {
        let mut r = Runner {
            world,
            choice,
            disturbed: false,
            brief: None,
            planned: scenario.run,
            end: scenario.run,
            due: Vec::new(),
            after: Vec::new(),
            withins: Vec::new(),
            nevers: Vec::new(),
            told: Vec::new(),
            plans: Vec::new(),
            seen: 0,
            line: None,
            stages: Vec::new(),
        };
        for l in &scenario.lines {
            let (line, what) = (l.number, l.what.clone());
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

    /// To the end of the scenario, or until something is broken.
    pub(crate) fn finish(mut self) -> Outcome {
        loop {
            let known = self.stages.len();
            let sound = self.happen();
            let entered = |i: &crate::fault::Injection| {
                let of = |s: &(Class, Stage)| i.class == s.0.word() && i.stage == s.1;
                self.stages[known..].iter().any(of)
            };
            if let Some(i) = self.choice.injection.clone().filter(entered) {
                self.inject(&i.fault);
            }
            if !sound || !self.go_on() {
                break;
            }
        }
        self.end()
    }

    /// What became of it.
    pub(crate) fn end(mut self) -> Outcome {
        let age = self.world.age();
        if self.world.broken.is_none() {
            self.world.end();
        }
        Outcome {
            broken: self.world.broken.clone(),
            world: self.world,
            line: self.line,
            stages: self.stages,
            seconds: age,
        }
    }

    /// All that is due at this moment; false when something is broken.
    pub(crate) fn happen(&mut self) -> bool {
        let age = self.world.age();
        while self.due.last().is_some_and(|d| d.at <= age) {
            let Some(d) = self.due.pop() else { break };
            self.perform(d);
        }
        self.world.settle();
        self.look_at_events();
        self.world.broken.is_none()
    }

    /// Judges this moment, and on to the next; false at the end and when something is broken.
    pub(crate) fn go_on(&mut self) -> bool {
        self.judge_conditions();
        if self.world.broken.is_some() {
            return false;
        }
        let age = self.world.age();
        let dues = self.due.last().map(|d| d.at);
        if dues.is_some_and(|at| at <= age) {
            return true;
        }
        let ends = self.withins.iter().map(|w| w.0);
        let brief = self.brief.filter(|_| self.disturbed);
        let stops = brief.into_iter().chain([self.planned, self.end]);
        let stop = stops.filter(|s| *s > age).min().unwrap_or(self.end);
        let until = ends.chain(dues).chain([stop]).min().unwrap_or(stop);
        let until = self.world.start + Duration::from_secs(until.max(age));
        let idle = self.due.last().is_none_or(|d| d.at > self.end);
        if age >= self.end && idle || self.is_over(age) {
            self.judge_forecasts();
            return false;
        }
        self.world.proceed(until);
        true
    }

    /// After the time of the scenario, or a while after a fault, nothing is waited for.
    fn is_over(&self, age: u64) -> bool {
        let rests = self.withins.is_empty() && self.world.zone.rolls.is_empty();
        let brief = self.disturbed && self.brief.is_some_and(|end| age >= end);
        // Then what comes much later is another story.
        let horizon = if brief { age + SOON } else { u64::MAX };
        let idle = self.due.last().is_none_or(|d| d.at > horizon);
        (brief || age >= self.planned) && rests && idle && self.world.up
    }

    /// The daemon is killed after this action.
    pub(crate) fn crash_after(&mut self, n: u32) {
        self.choice.crash_after = Some(n);
        let c = &mut self.world.config;
        c.crash_after = Some(n);
        c.crash_down = c.crash_down.max(HOUR);
    }

    /// A standard fault begins now.
    pub(crate) fn inject(&mut self, name: &str) {
        let Some((_, first, later)) = fault(name) else {
            return;
        };
        self.disturb();
        let age = self.world.age();
        for (text, at) in [(first, age), (later, age + DAY)] {
            for deed in deeds_of(text).unwrap_or_default().into_iter().rev() {
                let what = What::Do(deed);
                self.due.push(Due { at, line: 0, what });
            }
        }
        self.due.sort_by_key(|d| std::cmp::Reverse(d.at));
    }

    /// From now on times are other ones: rolls end, though later, and rules hold.
    fn disturb(&mut self) {
        self.disturbed = true;
        // What comes long after the fault is the scenario as it is without.
        self.end = (self.end + PATIENCE).min(self.world.age() + LONGEST);
        self.planned = self.planned.min(self.end);
        self.brief = self.brief.map(|tail| self.world.age() + tail);
        let stays = |what: &What| {
            matches!(
                what,
                What::Do(_) | What::Plan(..) | What::Within(_, Cond::Done(..))
            )
        };
        self.due.retain(|d| stays(&d.what));
        self.after.retain(|a| stays(&a.3));
        self.nevers.clear();
        self.told.clear();
        self.withins.retain(|w| matches!(w.2, Cond::Done(..)));
        for w in &mut self.withins {
            w.0 = self.end;
        }
    }

    fn note_crash(&mut self) {
        let n = self.choice.crash_after;
        if !self.disturbed && n.is_some_and(|n| self.world.effects >= n) {
            self.disturb();
        }
    }

    /// The same deed again after a while.
    pub(crate) fn again(&mut self, what: What, line: usize, secs: u64) {
        let at = self.world.age() + secs;
        self.due.push(Due { at, line, what });
        self.due.sort_by_key(|d| std::cmp::Reverse(d.at));
    }

    fn perform(&mut self, d: Due) {
        match d.what {
            What::Do(deed) => self.deed(&deed, d.line),
            What::Expect(_) | What::Never(_) | What::Forecast(_) if self.disturbed => {}
            What::Plan(role, strategy) => self.plan(role, strategy, d.line),
            What::Within(_, c) if self.disturbed => {
                if matches!(c, Cond::Done(..)) {
                    self.withins.push((self.end, d.line, c));
                }
            }
            What::Expect(c) => {
                // What is due at this second is done before.
                self.world.advance(self.world.now);
                self.note_crash();
                let holds = self.disturbed || holds(&self.world, &c);
                if !holds && self.world.config.real {
                    // What was ordered takes its time there.
                    self.withins.push((d.at + MINUTE, d.line, c));
                } else if !holds {
                    self.unmet(d.line, &c);
                }
            }
            What::Within(span, c) => self.withins.push((d.at + span, d.line, c)),
            What::Never(c) => self.nevers.push((d.line, c)),
            What::Forecast(span) => {
                let w = &mut self.world;
                w.advance(w.now);
                let assume = assumptions(w);
                let until = w.now + Duration::from_secs(span);
                let events = forecast(&w.zone, &w.policy, w.wall(), until, &assume);
                self.told.push((d.line, w.events.len(), steps(&events)));
            }
        }
    }

    /// W27: what an emergency is said to take, it takes, to a tenth.
    fn plan(&mut self, role: Role, strategy: Strategy, line: usize) {
        let w = &mut self.world;
        w.advance(w.now);
        let begin = w.wall();
        let command = Command::Emergency { role, strategy };
        let mut copy = w.zone.clone();
        let Ok(events) = decide(&copy, &w.policy, &command, begin) else {
            if !self.disturbed {
                self.unmet(line, &Cond::NoRolls);
            }
            return;
        };
        events.iter().for_each(|e| copy.apply(e));
        let assume = assumptions(w);
        let until = begin + Duration::from_secs(60 * DAY);
        let future = forecast(&copy, &w.policy, begin, until, &assume);
        let mut rolls = events.iter().filter_map(|e| match e {
            Event::RollStarted { roll } => Some(roll.class()),
            Event::RollHurried { class, .. } => Some(*class),
            _ => None,
        });
        let Some(class) = rolls.next_back() else {
            return;
        };
        let end = steps(&future)
            .into_iter()
            .find(|s| s.0 == class && s.1.is_none());
        if let Some((_, _, end)) = end {
            self.plans.push((line, class, begin, end));
        }
        let order = Deed::Order(Order::Emergency(role, strategy), Answer::Done);
        self.deed(&order, line);
    }

    fn judge_plan(&mut self, class: Class, at: Timestamp) {
        let Some(i) = self.plans.iter().position(|p| p.1 == class) else {
            return;
        };
        let (line, _, begin, end) = self.plans.remove(i);
        if self.disturbed {
            return;
        }
        let (said, took) = (end.since(begin).as_secs(), at.since(begin).as_secs());
        if said.abs_diff(took) > said / 10 {
            self.line = Some(line);
            let text = format!("the {class} was to take {said} s and takes {took} s");
            self.world.fail(Rule::W27, text);
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
        // A zone that is added anew begins another history.
        self.seen = self.seen.min(self.world.events.len());
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
            let done = match e {
                Event::RollDone { class, at } => Some((*class, *at)),
                _ => None,
            };
            for t in happened {
                self.trigger(t);
            }
            if let Some((class, at)) = done {
                self.judge_plan(class, at);
            }
        }
    }

    fn trigger(&mut self, t: Trigger) {
        if let Trigger::Enters(class, stage) = t
            && !self.stages.contains(&(class, stage))
        {
            self.stages.push((class, stage));
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

    fn judge_conditions(&mut self) {
        self.note_crash();
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
}

/// What somebody would expect who knows the world.
fn assumptions(w: &World) -> Assumptions {
    let c = &w.config;
    let parent = c.register + c.parent.iter().max().copied().unwrap_or(0);
    let scan = if c.by == By::Cds { c.every } else { 0 };
    Assumptions {
        parent: Duration::from_secs(parent + scan),
        signing: Duration::from_secs(c.resign),
        servers: Duration::from_secs(c.lags.iter().max().copied().unwrap_or(0)),
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
