//! What is left of a failure: enough to see it again, to make it small, and to show it.

use serde::{Deserialize, Serialize};

use crate::check::{Broken, Rule};
use crate::fault::Choice;
use crate::reach::{Content, list};
use crate::run::{Outcome, run};
use crate::scenario::{ScenarioError, parse};
use crate::world::World;

/// Lines of the history that are kept.
const KEPT: usize = 200;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The build that failed.
    pub build: String,
    pub name: String,
    /// The scenario, sweeps filled in.
    pub scenario: String,
    pub choice: Choice,
    /// With real data.
    #[serde(default)]
    pub real: bool,
    pub broken: Broken,
    /// What caches could hold then, by class.
    pub classes: Vec<String>,
    /// The last of what happened.
    pub lines: Vec<String>,
}

impl Failure {
    /// `None` if nothing is broken.
    pub fn of(name: &str, scenario: &str, choice: &Choice, outcome: &Outcome) -> Option<Failure> {
        let w = &outcome.world;
        let lines = &w.lines[w.lines.len().saturating_sub(KEPT)..];
        Some(Failure {
            build: env!("CARGO_PKG_VERSION").to_string(),
            name: name.to_string(),
            scenario: scenario.to_string(),
            choice: choice.clone(),
            real: w.config.real,
            broken: outcome.broken.clone()?,
            classes: classes(w),
            lines: lines.to_vec(),
        })
    }

    /// Runs it again.
    ///
    /// # Errors
    /// The scenario in the file cannot be read by this build.
    pub fn replay(&self) -> Result<Outcome, ScenarioError> {
        let mut scenario = parse(&self.scenario)?;
        scenario.config.real = self.real;
        Ok(run(&scenario, &self.choice))
    }

    /// Leaves out of the scenario whatever the same broken rule does not need: faults and orders,
    /// then secondaries, then time.
    ///
    /// # Errors
    /// The scenario in the file cannot be read by this build.
    pub fn shrink(&self) -> Result<Failure, ScenarioError> {
        parse(&self.scenario)?;
        let mut best = self.clone();
        let plain = Choice {
            seed: best.choice.seed,
            ..Choice::default()
        };
        best.try_instead(best.scenario.clone(), plain);
        loop {
            let before = best.scenario.clone();
            for i in (0..before.lines().count()).rev() {
                let mut lines: Vec<&str> = best.scenario.lines().collect();
                if lines.get(i).is_none_or(|l| l.starts_with("scenario")) {
                    continue;
                }
                lines.remove(i);
                best.try_instead(lines.join("\n") + "\n", best.choice.clone());
            }
            best.fewer_secondaries();
            if best.scenario == before {
                break;
            }
        }
        best.less_time();
        Ok(best)
    }

    fn fewer_secondaries(&mut self) {
        let words: Vec<String> = self.scenario.split(' ').map(String::from).collect();
        for w in words.iter().filter(|w| w.contains("lags=")) {
            if let Some((rest, _)) = w.trim_end().rsplit_once(',') {
                let text = self.scenario.replace(w.trim_end(), rest);
                self.try_instead(text, self.choice.clone());
            }
        }
    }

    fn less_time(&mut self) {
        let secs = self.broken.age + 1;
        let is_run = |l: &&str| l.trim_start().starts_with("run ");
        let mut lines: Vec<String> = self
            .scenario
            .lines()
            .filter(|l| !is_run(l))
            .map(String::from)
            .collect();
        lines.push(format!("run {secs}s"));
        self.try_instead(lines.join("\n") + "\n", self.choice.clone());
    }

    /// Takes the other scenario if it breaks the same rule.
    fn try_instead(&mut self, text: String, choice: Choice) {
        let Ok(mut scenario) = parse(&text) else {
            return;
        };
        scenario.config.real = self.real;
        let outcome = run(&scenario, &choice);
        let same = |b: &Broken| b.rule == self.broken.rule;
        if outcome.broken.as_ref().is_some_and(same)
            && let Some(f) = Failure::of(&self.name, &text, &choice, &outcome)
        {
            *self = f;
        }
    }

    /// As text for people.
    pub fn show(&self) -> String {
        let mut out = format!("{}: {}\n{}\n\n", self.name, self.broken, self.choice);
        out += "What caches could hold:\n";
        for c in &self.classes {
            out += &format!("  {c}\n");
        }
        out += "\nWhat happened:\n";
        for l in &self.lines {
            out += &format!("  {l}\n");
        }
        out += "\nScenario:\n";
        for l in self.scenario.lines() {
            out += &format!("  {l}\n");
        }
        if self.broken.rule == Rule::Expect {
            out += "\nAn expectation of the scenario, not a rule of the simulator, was not met.\n";
        }
        out
    }
}

fn classes(w: &World) -> Vec<String> {
    w.classes()
        .into_iter()
        .map(|c| {
            let what = match c {
                Content::Ds(d) => format!("DS      {}", crate::parent::text(d)),
                Content::Dnskey(k, by) => format!("DNSKEY  {} signed by {}", list(k), list(by)),
                Content::Data(r) => format!("data    signed by {}", list(r)),
                Content::Cds(r) => format!("CDS     signed by {}", list(r)),
            };
            match w.lives_until(c) {
                Some(until) => format!("{what}, until {}", until.to_human()),
                None => format!("{what}, served now"),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_found_again_and_becomes_small() {
        let text = "scenario impatient\n\
                    zone policy=quiet\n\
                    secondaries lags=1m,5m,10m\n\
                    at 5d secondary 1 down 3h\n\
                    at 9d operator start-roll zsk\n\
                    at 12d expect roll zsk stage=p1\n\
                    at 30d zone data-ttl=1h\n\
                    run 60d\n";
        let choice = Choice {
            seed: 3,
            ..Choice::default()
        };
        let scenario = parse(text).expect("good");
        let outcome = run(&scenario, &choice);
        let f = Failure::of("impatient", text, &choice, &outcome).expect("fails");
        assert_eq!(f.broken.rule, Rule::Expect);
        let again = f.replay().expect("readable");
        assert_eq!(again.broken.as_ref(), Some(&f.broken));
        assert_eq!(again.world.hash(), outcome.world.hash());
        let small = f.shrink().expect("readable");
        assert_eq!(small.broken.rule, Rule::Expect);
        assert!(small.scenario.lines().count() <= 3, "{}", small.scenario);
        assert!(small.show().contains("What caches could hold"));
        let json = serde_json::to_string(&small).expect("plain data");
        let back: Failure = serde_json::from_str(&json).expect("own text");
        assert_eq!(back.broken, small.broken);
    }
}
