//! Small worlds, all of them: two zone servers and two parent servers that follow at any tick
//! within a bound, TTLs of two ticks, and every order of all that.
//!
//! Breadth first from the start of a roll to its end; states that differ in nothing that matters
//! later are one. The number of states is part of the test, so that a search that silently became
//! smaller is noticed.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use cascade_keys::{Class, Command, RollType};
use cascade_time::Timestamp;

use crate::check::Broken;
use crate::config::{Config, quiet_policy};
use crate::scenario::apply_policy;
use crate::world::World;
use crate::{DAY, MINUTE};

const TICK: u64 = 10 * MINUTE;
/// TTL of everything, in ticks.
const TTL: u64 = 2;
/// Ticks after which a server has followed at the latest.
const LATEST: u8 = 3;
/// Ticks after which a roll must have ended.
const DEEPEST: usize = 120;

/// The one fault of a course.
const FAULTS: [&str; 4] = ["", "restart", "silent", "token"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Searched {
    pub states: usize,
    pub transitions: usize,
    /// Ticks of the longest course of the roll.
    pub deepest: usize,
    pub ended: usize,
    pub broken: Option<Broken>,
    /// How the broken state was reached.
    pub course: Vec<String>,
}

#[derive(Clone)]
struct Node {
    world: World,
    /// Ticks for which a server has not followed: the secondary, then the parent's two.
    late: [u8; 3],
    /// The one fault has not come yet.
    spare: bool,
    depth: usize,
    /// For each tick who followed, and the place of the fault in `FAULTS`.
    course: Vec<(u8, u8)>,
}

/// Searches all courses of these rolls, begun together.
///
/// # Errors
/// The world could not be brought to the beginning.
pub fn search(kinds: &[RollType], with_fault: bool, most: usize) -> Result<Searched, String> {
    let mut root = begin(kinds)?;
    root.spare = with_fault;
    let mut done = Searched {
        states: 0,
        transitions: 0,
        deepest: 0,
        ended: 0,
        broken: None,
        course: Vec::new(),
    };
    let mut seen = BTreeSet::new();
    seen.insert(root.key());
    let mut open = VecDeque::from([root]);
    while let Some(node) = open.pop_front() {
        done.states += 1;
        done.deepest = done.deepest.max(node.depth);
        if done.states > most {
            return Err(format!("more than {most} states"));
        }
        for next in node.successors() {
            done.transitions += 1;
            if let Some(b) = next.world.broken.clone() {
                done.broken = Some(b);
                let tick = |c: &(u8, u8)| format!("{:03b} {}", c.0, FAULTS[usize::from(c.1)]);
                done.course = next.course.iter().map(tick).collect();
                return Ok(done);
            }
            if next.world.zone.rolls.is_empty() {
                done.ended += 1;
                done.deepest = done.deepest.max(next.depth);
                continue;
            }
            if next.depth > DEEPEST {
                return Err(format!("a roll does not end: {:?}", next.world.zone.rolls));
            }
            if seen.insert(next.key()) {
                open.push_back(next);
            }
        }
    }
    Ok(done)
}

fn begin(kinds: &[RollType]) -> Result<Node, String> {
    let ttl = (TTL * TICK) as u32;
    let config = Config {
        lags: vec![0, 60],
        parent: vec![60, 60],
        data_ttl: ttl,
        ds_ttl: ttl,
        resign: TICK,
        lines: false,
        ..Config::default()
    };
    let mut p = quiet_policy();
    p.ttl = ttl;
    p.margin = Duration::ZERO;
    let mut w = World::new(p, config);
    w.run(2 * DAY);
    if w.zone.parent.linked_at.is_none() || w.broken.is_some() {
        return Err(format!("not settled: {:?}", w.broken));
    }
    w.manual = true;
    w.events.clear();
    for kind in kinds {
        let pair = |k: &str, v: &str| vec![(k.to_string(), v.to_string())];
        let change = match kind {
            RollType::KskDoubleDs => pair("ksk-roll", "double-ds"),
            RollType::ZskDoubleSignature => pair("zsk-roll", "double-signature"),
            RollType::Csk => pair("use-csk", "yes"),
            RollType::Algorithm => pair("algorithm", "15"),
            RollType::GoInsecure => pair("cds", "delete"),
            _ => Vec::new(),
        };
        apply_policy(&mut w.policy, &change);
        let class = kind.class();
        if matches!(class, Class::Ksk | Class::Zsk) {
            w.command(Command::StartRoll { class })
                .map_err(|e| e.to_string())?;
        }
    }
    w.advance(w.now);
    Ok(Node {
        world: w,
        late: [0; 3],
        spare: false,
        depth: 0,
        course: Vec::new(),
    })
}

impl Node {
    /// What one tick can bring: any of the servers that are behind follow now.
    fn successors(&self) -> Vec<Node> {
        let behind = [
            self.world.is_behind(1),
            self.world.is_parent_behind(0),
            self.world.is_parent_behind(1),
        ];
        let mut out = Vec::new();
        for mask in 0..8u8 {
            let follows = |i: usize| mask & (1 << i) != 0;
            let legal = (0..3).all(|i| {
                let must = behind[i] && self.late[i] >= LATEST;
                (!follows(i) || behind[i]) && (follows(i) || !must)
            });
            if !legal {
                continue;
            }
            out.push(self.step(mask, behind, 0));
            if self.spare {
                out.extend((1..4).map(|fault| self.step(mask, behind, fault)));
            }
        }
        out
    }

    fn step(&self, mask: u8, behind: [bool; 3], fault: u8) -> Node {
        let mut n = self.clone();
        n.depth += 1;
        n.course.push((mask, fault));
        let age = n.world.age();
        let follows = |i: usize| mask & (1 << i) != 0;
        for (i, late) in n.late.iter_mut().enumerate() {
            *late = if behind[i] && !follows(i) {
                *late + 1
            } else {
                0
            };
        }
        if follows(0) {
            n.world.follow(1);
        }
        for i in 0..2 {
            if follows(i + 1) {
                n.world.parent_follows(i);
            }
        }
        n.spare &= fault == 0;
        match FAULTS[usize::from(fault)] {
            "restart" => {
                n.world.kill();
                n.world.restart(2 * TICK);
            }
            "silent" => n.world.refuse(1, 3 * TICK),
            "token" => n.world.config.token_down = Some((age, age + 3 * TICK)),
            _ => {}
        }
        n.world.run(TICK);
        n.world.events.clear();
        n
    }

    /// All that matters for what can come, times counted from now.
    fn key(&self) -> u64 {
        let w = &self.world;
        let mut t = String::new();
        let rel = |at: Timestamp| at.secs_until(w.now).clamp(-(DAY as i64), 6 * TICK as i64);
        for r in &w.zone.rolls {
            let met: Vec<_> = r.met.iter().map(|m| m.seen).collect();
            let since = rel(r.since);
            let _ = write!(
                t,
                "{:?} {:?} {:?} {:?} {since} ",
                r.kind, r.stage, met, r.new
            );
        }
        for e in &w.zone.log.entries {
            // Ended long ago is ended.
            let last = e
                .last
                .map(|l| l.secs_until(w.now).min(i64::from(e.ttl) + 2));
            if last.is_none_or(|l| l <= i64::from(e.ttl) + 1) {
                let _ = write!(t, "{:?} {} {} {last:?} ", e.what, e.ttl, e.superseded);
            }
        }
        if let Some(p) = &w.zone.published {
            let at = (rel(p.apex_at), rel(p.data_at));
            let _ = write!(t, "{} {:?} {:?} {at:?} ", p.apex.id(), p.any, p.all);
        }
        let z = &w.zone.parent;
        let followed = z.followed_at.map(rel);
        let _ = write!(
            t,
            "{:?} {:?} {followed:?} {:?}",
            z.wanted,
            z.shown,
            z.told_at.map(rel)
        );
        for l in &w.zone.looks {
            let passed = (l.passed, l.covered, rel(l.ended));
            let answers: Vec<_> = l.members.iter().map(|m| m.verdict).collect();
            let _ = write!(t, "{:?} {passed:?} {answers:?} ", l.what);
        }
        for k in &w.zone.keys {
            let x = &k.times;
            let is = |a: Option<Timestamp>| u8::from(a.is_some());
            let _ = write!(
                t,
                "{}{}{}{}{}{}",
                is(x.published_at),
                is(x.active_at),
                is(x.retired_at),
                is(x.gone_at),
                is(x.removed_at),
                u8::from(k.restored)
            );
        }
        t += &w.outside_key();
        let _ = write!(
            t,
            "{:?} {} {:?}",
            self.late,
            self.spare,
            w.facts.retry_at.len()
        );
        let mut h = 0xcbf2_9ce4_8422_2325u64;
        for b in t.bytes() {
            h = (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        h
    }
}

impl World {
    fn is_behind(&self, server: usize) -> bool {
        let newest = self.versions.len().checked_sub(1);
        self.servers[server].has != newest
    }

    fn is_parent_behind(&self, server: usize) -> bool {
        self.parents[server].set != self.registry
    }

    fn follow(&mut self, server: usize) {
        self.arrive(server, None);
    }

    fn parent_follows(&mut self, server: usize) {
        let set = self.registry.clone();
        let change = self.registered;
        self.parent_gets(server, set, change);
    }

    /// Servers, caches and what is to come, times counted from now.
    fn outside_key(&self) -> String {
        let mut t = format!("{:?} {} ", self.registry, self.up);
        for s in &self.servers {
            let shows = s.has.map(|v| self.versions[v].ids());
            let refuses = s.refuses_until.filter(|u| *u > self.now);
            let _ = write!(
                t,
                "{shows:?} {:?} ",
                refuses.map(|u| self.now.secs_until(u))
            );
        }
        for p in &self.parents {
            let _ = write!(t, "{:?} ", p.set);
        }
        for (id, until) in &self.reach.past {
            let left = self.now.secs_until(*until);
            if left >= 0 {
                let _ = write!(t, "{id}:{left} ");
            }
        }
        for ((at, _, _), what) in &self.queue {
            // Refreshing is far away and the same for all.
            if self.now.secs_until(*at) < DAY as i64 {
                let _ = write!(t, "{} {what:?} ", self.now.secs_until(*at));
            }
        }
        t
    }
}
