//! The scenarios of `integration/sim` at the real daemon: its own sockets, files and signatures, NSD
//! as parent and as secondaries, and Unbound asked before and after whatever changes.
//!
//! What the simulator can do to the world and these programs cannot (a token that lies, a clock that
//! is stepped, parents' servers that differ) makes a scenario one that does not apply. A secondary
//! follows at once, and the parent has one server. Conditions that cannot be seen from outside are
//! left aside and listed.

mod applies;
mod conditions;
mod deeds;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cascade_e2e::{Server, until, within};
use cascade_keys::{Class, KeyPolicy, RollType, Stage};
use cascade_sim::scenario::{
    Answer, Cond, Deed, Order, Scenario, Trigger, What, When, expand, parse,
};
use cascade_sim::{Config, Led};
use serde_json::Value;

use super::{START, Setup, World, ZONE};

/// Before something is due a resolver fills its cache, and is asked again after: younger than any TTL.
const BEFORE: i64 = 100;
/// Without rolls the clock goes on by this; signatures have more than twice of it left.
const QUIET: i64 = 3 * 86_400;
/// What is due and has not happened is looked at again then.
const AGAIN: i64 = 60;
/// While a roll runs.
const LONGEST: i64 = 86_400;

struct Due {
    at: i64,
    line: usize,
    what: What,
}

struct Run {
    world: World,
    policy: KeyPolicy,
    config: Config,
    nsec3: bool,
    begin: i64,
    end: i64,
    due: Vec<Due>,
    after: Vec<(Trigger, u64, usize, What)>,
    withins: Vec<(i64, usize, Cond)>,
    nevers: Vec<(usize, Cond)>,
    /// Zone content besides its TTL.
    data_ttl: u32,
    content: u32,
    serial: u32,
    /// Running rolls as they were seen last.
    rolls: Vec<(Class, usize)>,
    done: BTreeMap<Class, usize>,
    /// What the parent was asked for last, and DS sets on their way.
    asked: Option<Vec<String>>,
    coming: Vec<(i64, Vec<String>)>,
    /// The parent carried out what it was asked for long ago, and something else is asked for now.
    /// Nobody here can keep that from being bogus.
    stale: bool,
    next_scan: i64,
    /// Secondaries that are stopped, and until when.
    frozen: Vec<(usize, i64)>,
    /// Numbers of keys with their tags.
    tags: BTreeMap<String, u64>,
    /// Kill the daemon whenever a roll has moved.
    kills: bool,
    unseen: BTreeSet<usize>,
    validated: usize,
}

impl Run {
    fn new(scenario: &Scenario, kills: bool) -> Run {
        let config = scenario.config.clone();
        let text = applies::policy_text(&scenario.policy, &config, None, false);
        let world = World::set_up(Setup {
            lines: "",
            policy: Some(&text),
            delegated: config.led == Led::Here,
            start: START,
            secondaries: config.lags.len() - 1,
            zone: deeds::zone_text(&config, config.data_ttl, 0, 1),
        });
        let begin = world.site.now();
        let mut run = Run {
            world,
            policy: scenario.policy.clone(),
            nsec3: false,
            begin,
            end: begin + scenario.run as i64,
            due: Vec::new(),
            after: Vec::new(),
            withins: Vec::new(),
            nevers: Vec::new(),
            data_ttl: config.data_ttl,
            content: 0,
            serial: 1,
            rolls: Vec::new(),
            done: BTreeMap::new(),
            asked: None,
            coming: Vec::new(),
            stale: false,
            next_scan: begin + config.every as i64,
            frozen: Vec::new(),
            tags: BTreeMap::new(),
            kills,
            unseen: BTreeSet::new(),
            validated: 0,
            config,
        };
        run.write_policy();
        run.plan(scenario);
        run
    }

    fn plan(&mut self, scenario: &Scenario) {
        for l in &scenario.lines {
            let (line, what) = (l.number, l.what.clone());
            let mut at = |secs: u64, what: What| {
                let at = self.begin + secs as i64;
                self.due.push(Due { at, line, what });
            };
            match (&l.when, what) {
                (_, What::Never(c)) => self.nevers.push((line, c)),
                (When::Always, what) => at(0, what),
                (When::At(secs), what) => at(*secs, what),
                (When::Every { every, from, to }, what) => {
                    let to = if *to == 0 { scenario.run } else { *to };
                    let times = (*from..=to.min(scenario.run)).step_by((*every).max(1) as usize);
                    times.for_each(|secs| at(secs, what.clone()));
                }
                (When::After { trigger, delay }, what) => {
                    self.after.push((*trigger, *delay, line, what));
                }
            }
        }
        self.due.sort_by_key(|d| d.at);
    }

    /// To the end of the scenario.
    fn go(&mut self) {
        loop {
            let now = self.world.site.now();
            while self.due.first().is_some_and(|d| d.at <= now) {
                let due = self.due.remove(0);
                self.perform(due);
            }
            self.thaw(now);
            self.parent(now);
            self.settle();
            if self.observe() {
                continue;
            }
            // What it asked for just now is on its way from now on.
            self.parent(now);
            self.judge();
            if self.world.site.now() >= self.end {
                break;
            }
            let next = self.next(self.world.site.now());
            self.on_to(next);
        }
        let open: Vec<usize> = self.withins.iter().map(|w| w.1).collect();
        assert!(open.is_empty(), "lines {open:?} do not hold at the end");
        let after: Vec<usize> = self.after.iter().map(|a| a.2).collect();
        assert!(after.is_empty(), "what lines {after:?} wait for never came");
    }

    /// When anything is to happen.
    fn next(&self, now: i64) -> i64 {
        let checks = self.world.rolls().into_iter().map(|r| {
            let at = r["next_check"].as_str().and_then(unix);
            at.unwrap_or(now + LONGEST).max(now + AGAIN)
        });
        let far = if self.rolls.is_empty() {
            QUIET
        } else {
            LONGEST
        };
        let scan = (self.asks_cds()).then_some(self.next_scan.max(now + 1));
        let dues = self.due.iter().map(|d| d.at);
        let withins = self.withins.iter().map(|w| w.0);
        let coming = self.coming.iter().map(|c| c.0);
        let thaws = self.frozen.iter().map(|f| f.1);
        let all = checks.chain(scan).chain(dues).chain(withins);
        let all = all.chain(coming).chain(thaws).chain([now + far, self.end]);
        all.filter(|at| *at > now).min().unwrap_or(now + AGAIN)
    }

    /// The clock goes there; a resolver that filled its cache just before, and one that has nothing,
    /// both validate.
    fn on_to(&mut self, at: i64) {
        let now = self.world.site.now();
        if at - now > 2 * BEFORE {
            self.advance(at - BEFORE);
            self.settle();
            if self.observe() {
                return;
            }
        }
        let primed = self.resolver();
        self.advance(at);
        self.settle();
        let moved = self.observe();
        self.validates(primed.as_ref(), "with what was there before in the cache");
        if moved {
            let fresh = self.resolver();
            self.validates(fresh.as_ref(), "with nothing in the cache");
        }
    }

    fn advance(&self, at: i64) {
        self.world.site.advance_to(at);
    }

    /// A resolver that has DNSKEY, DS and SOA; none if no DS leads to the zone.
    fn resolver(&mut self) -> Option<Server> {
        if self.world.ds.is_empty() || !self.world.delegated || self.stale {
            return None;
        }
        self.follow_up();
        let resolver = self.world.resolver();
        let when = format!("{:?}", self.world.states());
        for (name, rtype) in [(ZONE, "DNSKEY"), (ZONE, "DS"), (ZONE, "SOA")] {
            resolver.must_validate(name, rtype, &when);
        }
        self.validated += 1;
        Some(resolver)
    }

    fn validates(&mut self, resolver: Option<&Server>, how: &str) {
        let Some(resolver) = resolver else { return };
        let name = self.world.fresh_name();
        let states = self.world.states();
        resolver.must_validate(&name, "A", &format!("{how}: {states:?}"));
        self.validated += 1;
    }

    /// Servers that run have what is published.
    fn follow_up(&self) {
        let frozen: Vec<usize> = self.frozen.iter().map(|f| f.0).collect();
        let zone = self.world.site.served_serial(ZONE);
        let parent = self.world.site.served_serial("test");
        let running = self.world.secondaries.iter().enumerate();
        let running: Vec<&Server> = running
            .filter(|(n, _)| !frozen.contains(&(n + 1)))
            .map(|(_, s)| s)
            .collect();
        until("the servers are up to date", || {
            let has = |s: &Server, zone: &str, serial: u32| s.serial(zone) >= Some(serial);
            let all = running.iter().all(|s| has(s, ZONE, zone));
            (all && has(&self.world.parent, "test", parent)).then_some(())
        });
    }

    /// Until the daemon has nothing more to say about its rolls.
    fn settle(&self) {
        let mut before = Value::Null;
        within(Duration::from_secs(10), || {
            std::thread::sleep(Duration::from_millis(150));
            let now = Value::from(self.world.rolls());
            let same = now == before;
            before = now;
            same.then_some(())
        });
    }

    /// Takes note of what rolls have become; true if the daemon was ended for it.
    fn observe(&mut self) -> bool {
        let shown = self.world.site.json(&["keyset", ZONE, "list", "--all"]);
        for key in shown["items"].as_array().into_iter().flatten() {
            if let (Some(id), Some(tag)) = (key["id"].as_str(), key["tag"].as_u64()) {
                self.tags.insert(id.to_string(), tag);
            }
        }
        let now: Vec<(Class, usize)> = self.world.rolls().iter().filter_map(place).collect();
        if now == self.rolls {
            return false;
        }
        let kinds: Vec<(Class, Option<RollType>)> =
            self.world.rolls().iter().filter_map(kind_of).collect();
        let before = std::mem::replace(&mut self.rolls, now.clone());
        for (class, _) in &before {
            if !now.iter().any(|n| n.0 == *class) {
                *self.done.entry(*class).or_default() += 1;
                self.trigger(Trigger::Done(*class));
            }
        }
        for (class, step) in now {
            let was = before.iter().find(|b| b.0 == class).map(|b| b.1);
            if was.is_none() {
                self.trigger(Trigger::Starts(class));
            }
            let kind = kinds.iter().find(|k| k.0 == class).and_then(|k| k.1);
            // Steps that took no time were entered as well.
            for n in was.map_or(0, |w| w + 1)..=step {
                let stage = match n {
                    0 => Some(Stage::Keys),
                    n => kind.and_then(|k| k.rows().get(n - 1)).map(|r| r.stage),
                };
                stage
                    .into_iter()
                    .for_each(|s| self.trigger(Trigger::Enters(class, s)));
            }
        }
        if self.kills {
            let now = self.world.site.now();
            self.world.site.kill();
            self.world.site.begin_at(now);
            self.world.site.start();
        }
        self.kills
    }

    fn trigger(&mut self, t: Trigger) {
        let now = self.world.site.now();
        let (due, rest): (Vec<_>, Vec<_>) = self.after.drain(..).partition(|a| a.0 == t);
        self.after = rest;
        for (_, delay, line, what) in due {
            let at = now + delay as i64;
            self.due.push(Due { at, line, what });
        }
        self.due.sort_by_key(|d| d.at);
    }

    fn perform(&mut self, due: Due) {
        match due.what {
            What::Do(deed) => self.deed(&deed, due.line),
            What::Expect(c) => {
                self.settle();
                self.observe();
                let held = within(Duration::from_secs(20), || {
                    (self.holds(&c) != Some(false)).then_some(())
                });
                if self.holds(&c).is_none() {
                    self.unseen.insert(due.line);
                }
                assert!(held.is_some(), "{}", self.unmet(due.line, &c));
            }
            What::Within(span, c) => self.withins.push((due.at + span as i64, due.line, c)),
            What::Never(c) => self.nevers.push((due.line, c)),
            What::Forecast(_) => {
                self.unseen.insert(due.line);
            }
            What::Plan(role, strategy) => {
                // What the plan says of the end is compared in the simulator.
                self.unseen.insert(due.line);
                let order = Order::Emergency(role, strategy);
                self.deed(&Deed::Order(order, Answer::Done), due.line);
            }
        }
    }

    fn judge(&mut self) {
        let now = self.world.site.now();
        for (line, c) in &self.nevers {
            assert!(self.holds(c) != Some(true), "{}", self.unmet(*line, c));
        }
        for (until, line, c) in std::mem::take(&mut self.withins) {
            match self.holds(&c) {
                Some(true) => {}
                None => {
                    self.unseen.insert(line);
                }
                Some(false) => {
                    // What is due at that moment may take some more.
                    assert!(now <= until + 600, "{}", self.unmet(line, &c));
                    self.withins.push((until, line, c));
                }
            }
        }
    }

    fn unmet(&self, line: usize, c: &Cond) -> String {
        format!(
            "line {line}: {c:?} does not hold {} s after the beginning; rolls {:#?}, done {:?}\n{}{}\n\
             the parent has {:?}, was asked for {:?}",
            self.world.site.now() - self.begin,
            self.world.rolls(),
            self.done,
            self.world.site.ok(&["zone", "why", ZONE]),
            self.world
                .site
                .ok(&["zone", "history", ZONE, "--kind", "key"]),
            self.world.ds,
            self.asked
        )
    }
}

fn kind_of(roll: &Value) -> Option<(Class, Option<RollType>)> {
    let class = Class::of_word(roll["kind"].as_str()?)?;
    let word = roll["type"].as_str()?;
    let is = |k: &&RollType| k.class() == class && k.word() == word;
    Some((class, RollType::ALL.iter().find(is).copied()))
}

fn place(roll: &Value) -> Option<(Class, usize)> {
    let class = Class::of_word(roll["kind"].as_str()?)?;
    Some((class, roll["step"].as_u64()? as usize))
}

/// Seconds of a time as the API writes it.
fn unix(text: &str) -> Option<i64> {
    let time: cascade_time::Timestamp = serde_json::from_value(Value::from(text)).ok()?;
    Some(time.secs())
}

/// The first of the swept values of a file, and what became of it.
fn tell(name: &str, text: &str, kills: bool) -> String {
    let text = expand(text)
        .unwrap_or_else(|e| panic!("{name}.scn:{e}"))
        .remove(0);
    let scenario = parse(&text).unwrap_or_else(|e| panic!("{name}.scn:{e}"));
    if let Some(why) = applies::not(&scenario) {
        return format!("{name}: does not apply: {why}");
    }
    let mut run = Run::new(&scenario, kills);
    run.go();
    let unseen = match run.unseen.is_empty() {
        true => String::new(),
        false => format!(", lines {:?} not seen from outside", run.unseen),
    };
    format!("{name}: {} answers validated{unseen}", run.validated)
}

/// All files with their names, those of mended failures as `regress/…`.
fn files() -> Vec<(String, String)> {
    let mut out = Vec::new();
    for place in ["", "regress/"] {
        for entry in std::fs::read_dir(folder().join(place)).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "scn") {
                let name = path.file_stem().unwrap().to_string_lossy();
                let text = std::fs::read_to_string(&path).unwrap();
                out.push((format!("{place}{name}"), text));
            }
        }
    }
    out.sort();
    out
}

fn folder() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim")
}

fn story(name: &str, kills: bool) {
    let (_, text) = files().into_iter().find(|f| f.0 == name).expect("a file");
    let told = tell(name, &text, kills);
    println!("{told}");
    assert!(told.contains(" answers validated"), "{told}");
}

#[test]
fn a_zsk_roll_as_in_the_simulator() {
    story("s10-zsk-pre-publish", false);
}

#[test]
fn a_ksk_roll_as_in_the_simulator() {
    story("s31-ksk-double-ds", true);
}

#[test]
fn going_insecure_and_back_as_in_the_simulator() {
    story("s55-insecure-and-back", false);
}

/// One file, played once.
struct Played {
    name: String,
    kills: bool,
    /// What was validated, or where it failed.
    told: Result<String, String>,
    secs: u64,
}

impl Played {
    /// Of a run during which all of it was stopped from outside a failure says nothing: clients gave up
    /// a daemon that stood still. It is played again.
    fn new(name: &str, text: &str, kills: bool) -> Played {
        loop {
            let stops = STOPS.load(Ordering::Relaxed);
            let played = Played::once(name, text, kills);
            if played.told.is_ok() || STOPS.load(Ordering::Relaxed) == stops {
                return played;
            }
            println!("{name}: stopped from outside while it ran, played again");
        }
    }

    fn once(name: &str, text: &str, kills: bool) -> Played {
        let began = std::time::Instant::now();
        let told = std::panic::catch_unwind(|| tell(name, text, kills));
        let told = told.map_err(|why| {
            let text = why.downcast_ref::<String>().map(String::as_str);
            let text = text.or(why.downcast_ref::<&str>().copied());
            let first = text.and_then(|t| t.lines().next()).unwrap_or("panicked");
            format!("{name}: FAILED: {first}")
        });
        let secs = began.elapsed().as_secs();
        let played = Played {
            name: name.to_string(),
            kills,
            told,
            secs,
        };
        println!("{played}");
        played
    }
}

impl std::fmt::Display for Played {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Ok(told) | Err(told)) = &self.told;
        let how = if self.kills {
            ", killed at every step"
        } else {
            ""
        };
        write!(f, "{told}{how} ({} s)", self.secs)
    }
}

/// How often this program was stopped and went on.
static STOPS: AtomicUsize = AtomicUsize::new(0);

/// Counts stops until the end of the program.
fn watch_for_stops() {
    std::thread::spawn(|| {
        loop {
            let began = std::time::Instant::now();
            std::thread::sleep(Duration::from_secs(1));
            if began.elapsed() > Duration::from_secs(15) {
                STOPS.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
}

/// Files that are played at the same time: most of it is waiting for programs to answer.
const AT_ONCE: usize = 10;

/// All that apply, each also with the daemon killed after every step: `just level-d`, which may name
/// the first letters of files, and `CASCADE_LEVEL_D_AT_ONCE` how many are played at the same time.
#[test]
#[ignore = "takes 25 minutes; `just level-d`"]
fn every_scenario_that_applies() {
    let only = std::env::var("CASCADE_LEVEL_D").unwrap_or_default();
    let at_once = std::env::var("CASCADE_LEVEL_D_AT_ONCE").ok();
    let at_once = at_once.and_then(|n| n.parse().ok()).unwrap_or(AT_ONCE);
    let began = std::time::Instant::now();
    watch_for_stops();
    let (mut due, mut not) = (Vec::new(), BTreeMap::<&str, Vec<String>>::new());
    for (name, text) in files().into_iter().filter(|f| f.0.starts_with(&only)) {
        let first = expand(&text).unwrap_or_else(|e| panic!("{name}.scn:{e}"));
        let scenario = parse(&first[0]).unwrap_or_else(|e| panic!("{name}.scn:{e}"));
        match applies::not(&scenario) {
            Some(why) => not.entry(why).or_default().push(name),
            None => {
                let days = scenario.run / cascade_sim::DAY;
                due.extend([false, true].map(|kills| (days, name.clone(), text.clone(), kills)));
            }
        }
    }
    // The longest are taken first, from the end.
    due.sort_by_key(|d| (d.0, d.3));
    let due = Mutex::new(due);
    let played = Mutex::new(Vec::new());
    std::thread::scope(|s| {
        for _ in 0..at_once {
            s.spawn(|| {
                loop {
                    let next = due.lock().unwrap().pop();
                    let Some((_, name, text, kills)) = next else {
                        break;
                    };
                    let one = Played::new(&name, &text, kills);
                    played.lock().unwrap().push(one);
                }
            });
        }
    });
    let mut played = played.into_inner().unwrap();
    played.sort_by(|a, b| (&a.name, a.kills).cmp(&(&b.name, b.kills)));
    println!("{}", summary(&played, &not, began.elapsed()));
    let failed: Vec<String> = played
        .iter()
        .filter(|p| p.told.is_err())
        .map(ToString::to_string)
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

fn summary(played: &[Played], not: &BTreeMap<&str, Vec<String>>, took: Duration) -> String {
    let mut out = String::from("\nLevel D\n");
    for (kills, how) in [(false, "plain"), (true, "killed at every step")] {
        let all: Vec<&Played> = played.iter().filter(|p| p.kills == kills).collect();
        let good = all.iter().filter(|p| p.told.is_ok()).count();
        let secs: u64 = all.iter().map(|p| p.secs).sum();
        out += &format!("{how}: {good} of {} files, {secs} s\n", all.len());
    }
    for (why, names) in not {
        let names = names.join(", ");
        out += &format!("does not apply, {why}: {names}\n");
    }
    let mut slow: Vec<&Played> = played.iter().collect();
    slow.sort_by_key(|p| std::cmp::Reverse(p.secs));
    for p in slow.iter().take(5) {
        out += &format!("slow: {p}\n");
    }
    for p in played.iter().filter(|p| p.told.is_err()) {
        out += &format!("{p}\n");
    }
    let (secs, stops) = (took.as_secs(), STOPS.load(Ordering::Relaxed));
    if stops > 0 {
        out += &format!("stopped from outside {stops} times\n");
    }
    out + &format!("{} min {} s in all\n", secs / 60, secs % 60)
}

/// What is left out is left out by name and with its reason, so that a file that stops to apply is
/// noticed, and so is one that nobody has looked at.
#[test]
fn what_does_not_apply_is_listed_with_its_reason() {
    let page = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let (_, list) = page.split_once("## Not at the real daemon\n").unwrap();
    let (list, _) = list.split_once("\n## ").unwrap();
    let row = |line: &str| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let (why, instead) = rest.strip_suffix(" |")?.split_once(" | ")?;
        assert!(!instead.is_empty(), "{name}: where else it is checked");
        Some((name.to_string(), why.to_string()))
    };
    let listed: BTreeMap<String, String> = list.lines().filter_map(row).collect();
    let mut apply = 0;
    let mut not = BTreeMap::new();
    for (name, text) in files() {
        let text = expand(&text).unwrap().remove(0);
        match applies::not(&parse(&text).unwrap()) {
            None => apply += 1,
            Some(why) => {
                not.insert(name, why.to_string());
            }
        }
    }
    let rows: String = not
        .iter()
        .map(|(n, w)| format!("| `{n}` | {w} |\n"))
        .collect();
    assert_eq!(listed, not, "README.md (left), the code (right):\n{rows}");
    assert!(apply >= 38, "{apply} apply");
}
