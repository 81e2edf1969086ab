//! From text to a scenario.

use cascade_keys::{KeyNum, Step, Strategy};

use super::settings::apply_policy;
use super::words::{Parsed, Word, Words};
use super::{
    Answer, ApplyDs, CdsIs, Cond, Counter, Deed, Flag, Line, Order, Scenario, ScenarioError,
    Trigger, What, When,
};
use crate::config::{By, Config, default_policy};
use crate::fault::{FAULTS, Faults};
use crate::real::Denial;

/// Combinations of `sweep` values above which a file is refused.
const MAX_COMBINATIONS: usize = 10_000;

/// One text for each combination of the values of `sweep NAME over a,b,c`: every `$NAME` is filled
/// in.
///
/// # Errors
/// A sweep that cannot be read, or too many combinations.
pub fn expand(text: &str) -> Result<Vec<String>, ScenarioError> {
    let mut texts = vec![String::new()];
    let mut sweeps: Vec<(String, Vec<String>)> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let mut w = Words::of(i + 1, line)?;
        if w.take("sweep") {
            let name = w.next("a name")?;
            if !w.take("over") {
                let found = w.next("'over'")?;
                return Err(w.bad(&found, "'over'"));
            }
            let values = w.next("values")?;
            w.end()?;
            let values = values.text.split(',').map(String::from).collect();
            sweeps.push((format!("${}", name.text), values));
            // The line stays, so that numbers of lines do.
            texts[0] += "\n";
        } else {
            texts[0] += line;
            texts[0] += "\n";
        }
    }
    // Longer names first, so that none is taken for the beginning of another.
    sweeps.sort_by_key(|s| std::cmp::Reverse(s.0.len()));
    for (name, values) in sweeps {
        if texts.len().saturating_mul(values.len()) > MAX_COMBINATIONS {
            return Err(ScenarioError {
                line: 1,
                column: 1,
                text: format!("more than {MAX_COMBINATIONS} combinations"),
            });
        }
        let mut filled = Vec::new();
        for t in &texts {
            filled.extend(values.iter().map(|v| t.replace(&name, v)));
        }
        texts = filled;
    }
    Ok(texts)
}

/// Reads one scenario, sweeps filled in.
///
/// # Errors
/// The first word that is not understood, with its place.
pub fn parse(text: &str) -> Result<Scenario, ScenarioError> {
    let mut s = Scenario {
        name: String::new(),
        text: text.to_string(),
        policy: default_policy(),
        config: Config::default(),
        lines: Vec::new(),
        run: 0,
        seeds: (0, 0),
        faults: Faults::default(),
    };
    let mut last = When::Always;
    for (i, line) in text.lines().enumerate() {
        let mut w = Words::of(i + 1, line)?;
        if !w.is_empty() {
            statement(&mut s, &mut w, &mut last)?;
            w.end()?;
        }
    }
    if s.run == 0 {
        return Err(ScenarioError {
            line: text.lines().count().max(1),
            column: 1,
            text: "'run' with a duration is missing".to_string(),
        });
    }
    if s.config.by != By::Hook {
        s.policy.tell_parent = false;
    }
    Ok(s)
}

fn statement(s: &mut Scenario, w: &mut Words, last: &mut When) -> Parsed<()> {
    let head = w.next("a statement")?;
    match head.text.as_str() {
        "scenario" => s.name = w.next("a name")?.text,
        "zone" | "parent" | "secondaries" | "token" | "daemon" | "network" => {
            w.settings(&head.text, &mut s.config, &mut s.policy)?;
        }
        "policy" => apply_policy(&mut s.policy, &w.policy_pairs()?),
        "run" => s.run = w.span("a duration")?,
        "seeds" => {
            let range = w.next("seeds such as 1..8")?;
            let ends = range.text.split_once("..");
            let ends = ends.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            s.seeds = ends.ok_or_else(|| w.bad(&range, "seeds such as 1..8"))?;
        }
        "faults" => {
            let all = w.take("all");
            let class = if all { None } else { Some(w.class()?) };
            let mut except = Vec::new();
            if w.take("except") {
                let names = w.next("names of faults")?;
                except = w.list_of(&names, |n| {
                    let known = FAULTS.iter().any(|f| f.0 == n.text);
                    let name = known.then(|| n.text.clone());
                    name.ok_or_else(|| w.bad(n, "a standard fault"))
                })?;
            }
            s.faults = Faults { class, except };
        }
        "at" => {
            *last = When::At(w.span("a time")?);
            action(s, w, last.clone())?;
        }
        "after" => {
            let trigger = trigger(w)?;
            let delay = match w.peek().and_then(|p| p.strip_prefix('+')) {
                Some(_) => {
                    let mut plus = w.next("a delay")?;
                    plus.text.remove(0);
                    plus.column += 1;
                    w.span_of(&plus)?
                }
                None => 0,
            };
            *last = When::After { trigger, delay };
            action(s, w, last.clone())?;
        }
        "every" => {
            let every = w.span("a period")?.max(1);
            let mut ends = [0, s.run];
            for (i, word) in ["from", "to"].into_iter().enumerate() {
                if w.take(word) {
                    ends[i] = w.span("a time")?;
                }
            }
            let [from, to] = ends;
            *last = When::Every { every, from, to };
            action(s, w, last.clone())?;
        }
        "within" | "never" | "expect" => {
            let when = if head.text == "never" {
                When::Always
            } else {
                last.clone()
            };
            if when == When::Always && head.text != "never" {
                return Err(w.error(head.column, "there is no line with a time before this one"));
            }
            let what = demand(&head, w)?;
            let number = w.line;
            s.lines.push(Line { number, when, what });
        }
        _ => return Err(w.bad(&head, "a statement")),
    }
    Ok(())
}

fn action(s: &mut Scenario, w: &mut Words, when: When) -> Parsed<()> {
    let head = w.next("an action")?;
    let number = w.line;
    let mut whats = Vec::new();
    match head.text.as_str() {
        "expect" | "within" | "never" => whats.push(demand(&head, w)?),
        "plan-emergency" => {
            let role = w.role()?;
            whats.push(What::Plan(role, strategy(w)?));
        }
        "forecast" => whats.push(What::Forecast(w.span("a duration")?)),
        _ => whats.extend(deeds(&head, w)?.into_iter().map(What::Do)),
    }
    for what in whats {
        let when = when.clone();
        s.lines.push(Line { number, when, what });
    }
    Ok(())
}

fn demand(head: &Word, w: &mut Words) -> Parsed<What> {
    Ok(match head.text.as_str() {
        "within" => {
            let span = w.span("a duration")?;
            if !w.take("expect") {
                let found = w.next("'expect'")?;
                return Err(w.bad(&found, "'expect'"));
            }
            What::Within(span, cond(w)?)
        }
        "never" => What::Never(cond(w)?),
        _ => What::Expect(cond(w)?),
    })
}

fn trigger(w: &mut Words) -> Parsed<Trigger> {
    if w.take("published") {
        return Ok(Trigger::Published);
    }
    if w.take("key") {
        return Ok(Trigger::KeyGenerated(w.key()?.0));
    }
    let class = w.class()?;
    let what = w.next("a stage, 'starts' or 'done'")?;
    Ok(match what.text.as_str() {
        "done" => Trigger::Done(class),
        "starts" => Trigger::Starts(class),
        _ => Trigger::Enters(class, w.stage_of(&what)?),
    })
}

/// What a line of a file, or of a list of faults, does.
pub(crate) fn deeds_of(text: &str) -> Parsed<Vec<Deed>> {
    let mut w = Words::of(1, text)?;
    let head = w.next("an action")?;
    let out = deeds(&head, &mut w)?;
    w.end()?;
    Ok(out)
}

fn deeds(head: &Word, w: &mut Words) -> Parsed<Vec<Deed>> {
    let one = match head.text.as_str() {
        "operator" => order(w)?,
        "policy" => Deed::Policy(w.policy_pairs()?),
        "zone" if w.take("remove") => Deed::Remove,
        "zone" if w.take("restore") => Deed::TakeBack,
        "source" => source(w)?,
        "upgrade" => Deed::Upgrade,
        "zone" => {
            let (k, v) = w.pair("a setting")?;
            match k.text.as_str() {
                "data-ttl" => Deed::DataTtl(w.seconds_of(&v)?),
                "delegated" => Deed::Led(w.led_of(&v)?),
                "denial" => Deed::Denial(match v.text.as_str() {
                    "nsec" => Denial::Nsec,
                    "nsec3" => Denial::Nsec3,
                    "opt-out" => Denial::OptOut,
                    _ => return Err(w.bad(&v, "nsec, nsec3 or opt-out")),
                }),
                _ => return Err(w.bad(&k, "data-ttl, delegated, denial, remove or restore")),
            }
        }
        "parent" => return parent(w),
        "secondary" => secondary(w)?,
        "token" => token(w)?,
        "lose-signature" => Deed::LoseSignature(w.number("a number of versions")?),
        "disk" => {
            full(w, "full")?;
            Deed::DiskFull(w.span("a duration")?)
        }
        "network" => {
            full(w, "down")?;
            Deed::NetworkDown(w.span("a duration")?)
        }
        "clock" => {
            full(w, "step")?;
            let mut by = w.next("a step such as +3h")?;
            let sign = match by.text.chars().next() {
                Some('+') => 1,
                Some('-') => -1,
                _ => return Err(w.bad(&by, "a step such as +3h or -2d")),
            };
            by.text.remove(0);
            by.column += 1;
            Deed::ClockStep(sign * i64::try_from(w.span_of(&by)?).unwrap_or(i64::MAX / 4))
        }
        "kill" => Deed::Kill,
        "restart" => match w.take("after") {
            true => Deed::Restart(w.span("a duration")?),
            false => Deed::Restart(0),
        },
        _ => return Err(w.bad(head, "an action")),
    };
    Ok(vec![one])
}

fn full(w: &mut Words, word: &str) -> Parsed<()> {
    let found = w.next(&format!("'{word}'"))?;
    if found.text == word {
        Ok(())
    } else {
        Err(w.bad(&found, &format!("'{word}'")))
    }
}

fn parent(w: &mut Words) -> Parsed<Vec<Deed>> {
    if w.take("down") {
        let server = w.number("a server's number")?;
        return Ok(vec![Deed::ParentDown(server, w.span("a duration")?)]);
    }
    let mut out = Vec::new();
    while !w.is_empty() {
        let (k, v) = w.pair("a setting")?;
        out.push(match k.text.as_str() {
            "ds-ttl" => Deed::ParentDsTtl(w.seconds_of(&v)?),
            "by" => Deed::ParentBy(w.by_of(&v)?),
            "keep-old" => Deed::ParentKeepOld(w.yes_of(&v)?),
            "remove-first" => Deed::ParentRemoveFirst(w.span_of(&v)?),
            "register" => Deed::ParentRegister(w.span_of(&v)?),
            "moves" => Deed::ParentMoves(w.spans_of(&v)?),
            "child-side" => Deed::ParentChildSide(w.indices_of(&v)?),
            "copy" => Deed::ParentCopy(w.spans_of(&v)?),
            "digests" => Deed::ParentDigests(w.list_of(&v, |d| w.number_of(d))?),
            "apply" => Deed::ParentApply(w.list_of(&v, |d| apply_ds(w, d))?),
            _ => return Err(w.bad(&k, "a setting of the parent that changes")),
        });
    }
    Ok(out)
}

/// `k3`, `k3/1` with a digest type, `k3/wrong`, `foreign`.
fn apply_ds(w: &Words, d: &Word) -> Parsed<ApplyDs> {
    let (name, suffix) = match d.text.split_once('/') {
        Some((n, s)) => (n, Some(s)),
        None => (d.text.as_str(), None),
    };
    let key = match name {
        "foreign" => None,
        _ => Some(w.key_of(&Word {
            text: name.to_string(),
            column: d.column,
        })?),
    };
    let wrong = suffix == Some("wrong");
    let digest = match suffix {
        None | Some("wrong") => None,
        Some(n) => Some(n.parse().map_err(|_| w.bad(d, "a DS such as k3/2"))?),
    };
    Ok(ApplyDs { key, digest, wrong })
}

fn strategy(w: &mut Words) -> Parsed<Strategy> {
    let how = w.next("safe or fast")?;
    match how.text.as_str() {
        "safe" => Ok(Strategy::Safe),
        "fast" => Ok(Strategy::Fast),
        _ => Err(w.bad(&how, "safe or fast")),
    }
}

fn source(w: &mut Words) -> Parsed<Deed> {
    let what = w.next("truncated, good or content=N")?;
    let content = what.text.strip_prefix("content=").map(str::parse);
    match (what.text.as_str(), content) {
        ("truncated", _) => Ok(Deed::Truncated(true)),
        ("good", _) => Ok(Deed::Truncated(false)),
        (_, Some(Ok(n))) => Ok(Deed::Source(n)),
        _ => Err(w.bad(&what, "truncated, good or content=N")),
    }
}

fn secondary(w: &mut Words) -> Parsed<Deed> {
    let server = w.number("a server's number")?;
    let what = w.next("what it does")?;
    Ok(match what.text.as_str() {
        "down" => Deed::SecondaryDown(server, w.span("a duration")?),
        "refuse" => Deed::SecondaryRefuse(server, w.span("a duration")?),
        "forge" => Deed::SecondaryForge(server, w.span("a duration")?),
        "lag" => Deed::SecondaryLag(server, w.span("a duration")?),
        "rewind" => {
            let ago = w.span("how old the backup is")?;
            Deed::SecondaryRewind(server, ago, w.span("a duration")?)
        }
        "flip" => {
            let period = w.span("a period")?;
            let span = w.span("a duration")?;
            Deed::SecondaryFlip(server, period, span, !w.take("new"))
        }
        _ => return Err(w.bad(&what, "one of down, refuse, forge, lag, rewind, flip")),
    })
}

fn token(w: &mut Words) -> Parsed<Deed> {
    let what = w.next("what it does")?;
    Ok(match what.text.as_str() {
        "down" => Deed::TokenDown(w.span("a duration")?),
        "instance-lost" => Deed::TokenInstanceLost(w.span("a duration")?),
        "lies" => {
            let one_in = w.number("one in how many signatures")?;
            Deed::TokenLies(one_in, w.span("a duration")?)
        }
        "loses" => Deed::TokenLoses(w.key()?),
        "restores" => Deed::TokenRestores(w.key()?),
        "unsynchronised" => {
            let on = w.next("yes or no")?;
            Deed::TokenUnsynchronised(w.yes_of(&on)?)
        }
        "keeps" => Deed::TokenKeeps(w.span("a duration")?),
        "collides" => Deed::TokenCollides(w.number("a number of key pairs")?),
        _ => {
            return Err(w.bad(
                &what,
                "one of down, instance-lost, lies, loses, restores, collides, unsynchronised, keeps",
            ));
        }
    })
}

fn order(w: &mut Words) -> Parsed<Deed> {
    let head = w.next("a command")?;
    let order = match head.text.as_str() {
        "start-roll" => Order::Start(w.class()?),
        "remove-key" => {
            let key = w.key()?;
            Order::Remove(key, w.take("--force"))
        }
        "emergency" => {
            let role = w.role()?;
            Order::Emergency(role, strategy(w)?)
        }
        "backed-up" => Order::BackedUp(w.key()?),
        "clock-confirm" => Order::ConfirmClock,
        "rollback" => Order::Rollback,
        "import" => Order::Import,
        "pause" => Order::Pause,
        "resume" => Order::Resume,
        "check" => Order::Check,
        _ => {
            let mut class = Words::of(w.line, &head.text)?;
            let class = class.class().map_err(|_| w.bad(&head, "a command"))?;
            let word = w.next("a step")?;
            match w.step_of(&word)? {
                step @ (Step::Propagation1Complete | Step::Propagation2Complete) => {
                    let ttl = w.number("a TTL")?;
                    Order::Propagated(class, step, ttl, w.take("--force"))
                }
                Step::RollDone => Order::RollDone(class, w.take("--force")),
                step => Order::Expired(class, step),
            }
        }
    };
    let answer = match w.peek() {
        Some("maybe") => {
            w.take("maybe");
            Answer::Any
        }
        Some(p) if p.starts_with("refused~") => {
            let word = w.next("a refusal")?;
            Answer::Refused(word.text["refused~".len()..].to_string())
        }
        _ => Answer::Done,
    };
    Ok(Deed::Order(order, answer))
}

fn cond(w: &mut Words) -> Parsed<Cond> {
    let head = w.next("a condition")?;
    if let Some((name, pattern)) = head.text.split_once('~') {
        let pattern = pattern.to_string();
        return match name {
            "why" => Ok(Cond::Why(pattern)),
            "alert" => Ok(Cond::Alert(pattern)),
            _ => Err(w.bad(&head, "a condition")),
        };
    }
    if let Some((name, n)) = head.text.split_once(">=") {
        let counter = match name {
            "destroyed" => Counter::Destroyed,
            "reminders" => Counter::Reminders,
            "refused" => Counter::Refused,
            "restarts" => Counter::Restarts,
            "announced" => Counter::Announced,
            "keys" => Counter::Keys,
            "held" => Counter::Held,
            _ => return Err(w.bad(&head, "something that is counted")),
        };
        let n = n.parse().map_err(|_| w.bad(&head, "a number"))?;
        return Ok(Cond::Count(counter, n));
    }
    if let Some((name, value)) = head.text.split_once('=') {
        let value = Word {
            text: value.to_string(),
            column: head.column + name.chars().count() + 1,
        };
        return Ok(match (name, value.text.as_str()) {
            ("dnskey", _) => Cond::Dnskey(w.keys_of(&value)?),
            ("signers", _) => Cond::Signers(w.keys_of(&value)?),
            ("ds", _) => Cond::DsIs(w.keys_of(&value)?),
            ("cds", "none") => Cond::Cds(CdsIs::None),
            ("cds", "delete") => Cond::Cds(CdsIs::Delete),
            ("cds", _) => Cond::Cds(CdsIs::Keys(w.keys_of(&value)?)),
            ("content", _) => Cond::Content(w.number_of(&value)?),
            ("published", _) => Cond::Is(Flag::Published, w.yes_of(&value)?),
            ("settled", _) => Cond::Is(Flag::Settled, w.yes_of(&value)?),
            ("linked", _) => Cond::Is(Flag::Linked, w.yes_of(&value)?),
            ("island", _) => Cond::Is(Flag::Island, w.yes_of(&value)?),
            ("unsigned", _) => Cond::Is(Flag::Unsigned, w.yes_of(&value)?),
            _ => return Err(w.bad(&head, "a condition")),
        });
    }
    match head.text.as_str() {
        "rolls" => {
            full(w, "none")?;
            Ok(Cond::NoRolls)
        }
        "alert" => {
            let what = w.next("none or critical")?;
            match what.text.as_str() {
                "none" => Ok(Cond::NoAlert),
                "critical" => Ok(Cond::Critical),
                _ => Err(w.bad(&what, "none or critical")),
            }
        }
        "key" => {
            let key: KeyNum = w.key()?;
            let (k, v) = w.pair("state=…")?;
            match k.text.as_str() {
                "state" => Ok(Cond::Key(key, w.state_of(&v)?)),
                _ => Err(w.bad(&k, "'state'")),
            }
        }
        "roll" => roll(w),
        _ => Err(w.bad(&head, "a condition")),
    }
}

fn roll(w: &mut Words) -> Parsed<Cond> {
    let class = w.class()?;
    if w.take("none") {
        return Ok(Cond::NotRunning(class));
    }
    if let Some(p) = w.peek().filter(|p| p.starts_with("done")) {
        let n = match p.strip_prefix("done") {
            Some("") => Some(1),
            Some(rest) => rest.strip_prefix(">=").and_then(|n| n.parse().ok()),
            None => None,
        };
        let word = w.next("done")?;
        let n = n.ok_or_else(|| w.bad(&word, "done or done>=N"))?;
        return Ok(Cond::Done(class, n));
    }
    let (mut state, mut stage, mut why) = (None, None, None);
    while let Some(p) = w.peek() {
        if let Some(pattern) = p.strip_prefix("why~") {
            why = Some(pattern.to_string());
            w.next("why")?;
            continue;
        }
        let (k, v) = w.pair("state=…, stage=… or why~…")?;
        match k.text.as_str() {
            "state" => state = Some(v.text),
            "stage" => stage = Some(w.stage_of(&v)?),
            _ => return Err(w.bad(&k, "state, stage or why")),
        }
    }
    Ok(Cond::Running {
        class,
        state,
        stage,
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_their_place() {
        let err = |text: &str| parse(text).expect_err("refused").to_string();
        assert_eq!(
            err("scenario x\nzone data-ttl=1x\nrun 1d\n"),
            "2:15: '1x' is not a duration; write seconds or for example 90s, 15m, 1h30m, 2w"
        );
        assert_eq!(err("zonk\n"), "1:1: 'zonk' is not a statement");
        assert_eq!(
            err("at 3d operator start-roll tsk\nrun 1d"),
            "1:27: 'tsk' is not one of first-keys, insecure, algorithm, csk, ksk, zsk"
        );
        assert_eq!(
            err("parent\tby=cds colour=red"),
            "1:15: parent has no 'colour'"
        );
        assert_eq!(
            err("at 3d expect why~\"x"),
            "1:20: the quotation is not closed"
        );
        assert_eq!(err("at 3d"), "1:6: an action is missing");
        assert_eq!(
            err("zone data-ttl=1d"),
            "1:1: 'run' with a duration is missing"
        );
        assert_eq!(err("run 1d now"), "1:8: 'now' is not expected here");
        assert_eq!(
            err("within 1d expect settled=yes"),
            "1:1: there is no line with a time before this one"
        );
    }

    #[test]
    fn sweeps_are_all_combinations() {
        let text = "sweep A over 1,2\nsweep AB over x,y,z\nzone data-ttl=$A # $AB\n";
        let all = expand(text).expect("good");
        assert_eq!(all.len(), 6);
        assert!(
            all.iter()
                .all(|t| t.lines().count() == 3 && !t.contains('$'))
        );
        assert!(expand("sweep A of 1").is_err());
        let big = "sweep A over 1,2,3,4,5,6,7,8,9,0\n".replace('A', "$");
        let many: String = (0..5).map(|i| big.replace('$', &format!("A{i}"))).collect();
        assert!(expand(&many).is_err());
    }

    #[test]
    fn a_whole_scenario() {
        let s = parse(
            "scenario whole # with a comment\n\
             zone policy=quiet data-ttl=1h\n\
             policy ksk-roll=double-ds ksk-auto=start,done\n\
             at 20d operator ksk propagation1-complete 3600 --force refused~\"no roll\"\n\
             within 2d expect roll ksk state=await-ds-seen why~\"the parent\"\n\
             after zsk c1 +1h kill\n\
             every 1d from 2d to 9d secondary 1 down 2h\n\
             at 30d parent apply=k3,k1/1,foreign,k2/wrong\n\
             never island=yes\n\
             faults ksk except clock-back\n\
             seeds 1..4\n\
             run 40d\n",
        )
        .expect("good");
        assert_eq!(
            (s.name.as_str(), s.lines.len(), s.seeds),
            ("whole", 6, (1, 4))
        );
        assert_eq!(s.config.data_ttl, 3600);
        assert!(s.policy.ksk.auto.start && !s.policy.ksk.auto.report);
    }
}
