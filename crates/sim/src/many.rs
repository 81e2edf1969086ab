//! Many zones in one daemon: how far apart their rolls begin, what one address of the parent is
//! asked, and what a day of decisions costs. Zones do not touch each other, so they run one after
//! the other, and what they did is laid over each other.

use std::time::Duration;

use cascade_keys::{Event, Role, next_action, next_deadline};

use crate::config::{Config, default_policy};
use crate::world::World;
use crate::{Broken, DAY, MINUTE};

/// Questions in a second to one address that the daemon allows itself.
pub const RATE: u64 = 20;

/// What zones that were added within a minute did.
#[derive(Clone, Default, Debug)]
pub struct Together {
    pub zones: u32,
    /// Seconds at which ZSK rolls began, sorted.
    pub starts: Vec<u64>,
    /// Seconds at which every address of the parent was asked, sorted.
    pub looks: Vec<u64>,
    pub finished: usize,
    pub broken: Option<(u32, Broken)>,
}

impl Together {
    /// Most starts within `span` seconds.
    pub fn most_starts(&self, span: u64) -> usize {
        let mut first = 0;
        let mut most = 0;
        for (i, at) in self.starts.iter().enumerate() {
            while self.starts[first] + span < *at {
                first += 1;
            }
            most = most.max(i + 1 - first);
        }
        most
    }

    /// How long a question waits at most where only [`RATE`] a second are asked.
    pub fn longest_queue(&self) -> Duration {
        let (mut free, mut longest) = (0u64, 0u64);
        for at in &self.looks {
            let asked = (at * RATE).max(free);
            longest = longest.max(asked - at * RATE);
            free = asked + 1;
        }
        Duration::from_secs(longest / RATE)
    }

    fn take(&mut self, zone: u32, offset: u64, w: &World) {
        self.zones += 1;
        for e in &w.events {
            match e {
                Event::RollStarted { roll } if roll.wants == [Role::Zsk] => {
                    self.starts
                        .push(roll.started_at.since(w.start).as_secs() + offset);
                }
                Event::RollDone { .. } => self.finished += 1,
                _ => {}
            }
        }
        self.looks.extend(w.ds_looks.iter().map(|at| at + offset));
        if let Some(b) = &w.broken {
            self.broken.get_or_insert((zone, b.clone()));
        }
    }
}

/// Zones that are added within one minute, for so many days. `share`: the zones with these numbers.
pub fn together(zones: u32, days: u64, share: impl Iterator<Item = u32>) -> Together {
    let mut all = Together::default();
    for i in share {
        let mut w = World::new(default_policy(), config_of(i));
        w.run(days * DAY);
        w.end();
        all.take(i, u64::from(i) * MINUTE / u64::from(zones.max(1)), &w);
    }
    all.starts.sort_unstable();
    all.looks.sort_unstable();
    all
}

impl std::ops::AddAssign for Together {
    fn add_assign(&mut self, other: Together) {
        self.zones += other.zones;
        self.starts.extend(other.starts);
        self.looks.extend(other.looks);
        self.finished += other.finished;
        self.broken = self.broken.take().or(other.broken);
        self.starts.sort_unstable();
        self.looks.sort_unstable();
    }
}

/// One day of many zones, a thirtieth of which begins a ZSK roll in it.
#[derive(Clone, Default, Debug)]
pub struct OneDay {
    pub zones: u32,
    pub starts: usize,
    /// Sweeps of servers of zone and parent.
    pub looks: usize,
    /// How often the product was asked what to do.
    pub decisions: u64,
    /// Octets of the state of a zone that rests, as it is stored.
    pub state: usize,
    pub broken: Option<(u32, Broken)>,
}

/// Runs the zones with these numbers for a day.
pub fn one_day(share: impl Iterator<Item = u32>) -> OneDay {
    let mut before = World::new(default_policy(), config_of(0));
    before.run(20 * DAY);
    let mut day = OneDay::default();
    for i in share {
        let mut w = before.clone();
        w.config.owner = owner(i);
        w.zone.owner = owner(i);
        w.events.clear();
        // The day in which its ZSK is due differs from zone to zone.
        let due = w.now + Duration::from_secs(DAY / 2 + u64::from(i % 30) * DAY);
        for k in w.zone.keys.iter_mut().filter(|k| k.role == Role::Zsk) {
            k.times.active_at = Some(due - Duration::from_secs(30 * DAY));
        }
        if i == 1 {
            day.state = serde_json::to_string(&w.zone).map_or(0, |t| t.len());
        }
        let (looks, decisions) = (w.looks, w.decisions);
        w.run(DAY);
        day.decisions += w.decisions - decisions;
        day.zones += 1;
        day.looks += w.looks - looks;
        let starts = |e: &&Event| matches!(e, Event::RollStarted { .. });
        day.starts += w.events.iter().filter(starts).count();
        if let Some(b) = w.broken {
            day.broken.get_or_insert((i, b));
        }
    }
    day
}

/// Decides `n` times about a zone at rest: what to do now, and when next. Gives how often something
/// was to be done.
pub fn decide(n: u32) -> u32 {
    let mut w = World::new(default_policy(), config_of(0));
    w.run(20 * DAY);
    let mut acts = 0;
    for i in 0..n {
        let now = w.now + Duration::from_secs(u64::from(i) % DAY);
        let due = !next_action(&w.zone, &w.policy, &w.facts, now).is_empty();
        let next = next_deadline(&w.zone, &w.policy, &w.facts, now);
        acts += u32::from(due || next.is_none());
    }
    acts
}

impl std::ops::AddAssign for OneDay {
    fn add_assign(&mut self, other: OneDay) {
        self.zones += other.zones;
        self.starts += other.starts;
        self.looks += other.looks;
        self.decisions += other.decisions;
        self.state = self.state.max(other.state);
        self.broken = self.broken.take().or(other.broken);
    }
}

fn config_of(zone: u32) -> Config {
    Config {
        owner: owner(zone),
        lines: false,
        ..Config::default()
    }
}

/// `z<number>.example` in wire form.
fn owner(zone: u32) -> Vec<u8> {
    let label = format!("z{zone}");
    let mut out = vec![label.len() as u8];
    out.extend(label.bytes());
    out.extend(crate::OWNER);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_of_one_minute_do_not_roll_in_one() {
        let all = together(40, 70, 0..40);
        assert_eq!(all.broken, None);
        assert_eq!(all.starts.len(), 80, "two ZSK rolls each");
        // 1 % of 30 days: within 10 minutes comes one in 43 on the average.
        assert!(all.most_starts(600) <= 8, "{}", all.most_starts(600));
        assert!(all.longest_queue() < Duration::from_secs(30));
        assert!(all.finished >= 80 + 40);
    }

    #[test]
    fn a_day_of_many_zones_begins_a_thirtieth_of_the_rolls() {
        let day = one_day(0..60);
        assert_eq!(day.broken, None);
        assert_eq!((day.zones, day.starts), (60, 2));
        assert!(day.looks >= 60, "{}", day.looks);
        assert!(day.state < 8192, "{}", day.state);
    }

    #[test]
    fn a_queue_is_as_long_as_what_is_asked_at_once() {
        let all = Together {
            looks: vec![5; 100],
            ..Together::default()
        };
        assert_eq!(all.longest_queue(), Duration::from_secs(4));
    }
}
