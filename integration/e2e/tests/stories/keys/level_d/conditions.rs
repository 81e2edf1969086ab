//! Conditions of scenarios, as far as they can be seen from outside.

use std::collections::BTreeSet;

use cascade_keys::{Class, KeyNum, KeyState};
use cascade_sim::scenario::{CdsIs, Cond, Flag, matches};
use serde_json::Value;

use super::super::{ZONE, tag};
use super::{Run, place};

impl Run {
    /// Whether it is so; `None`: that is not shown to anybody.
    pub fn holds(&self, c: &Cond) -> Option<bool> {
        let site = &self.world.site;
        let why = || site.ok(&["zone", "why", ZONE]);
        Some(match c {
            Cond::Running {
                class,
                state,
                why: text,
                ..
            } => {
                let roll = self.roll(*class);
                roll.is_some_and(|r| {
                    let is = state.as_ref().is_none_or(|s| r["state"] == **s);
                    let told = r["why"].as_str().unwrap_or_default();
                    let says = |t: &String| matches(t, told) || matches(t, &why());
                    is && text.as_ref().is_none_or(says)
                })
            }
            Cond::NotRunning(class) => self.roll(*class).is_none(),
            Cond::Done(class, n) => self.done.get(class).copied().unwrap_or(0) >= *n,
            Cond::NoRolls => self.world.rolls().is_empty(),
            Cond::Why(p) => matches(p, &why()),
            Cond::Is(flag, yes) => {
                let is = match flag {
                    Flag::Published => site.ask(&[ZONE, "SOA"]).serial().is_some(),
                    Flag::Settled => self.roll(Class::FirstKeys).is_none(),
                    Flag::Linked => self.keys().iter().any(|k| k["at_parent"] == "seen"),
                    Flag::Unsigned => site.ask(&[ZONE, "DNSKEY"]).rdata("DNSKEY").is_empty(),
                    Flag::Island => return None,
                };
                is == *yes
            }
            Cond::Dnskey(keys) => {
                let shown = site.ask(&["+multi", ZONE, "DNSKEY"]).text;
                let tags = self.tags_of(keys)?;
                let there = |t: &u64| shown.contains(&format!("key id = {t}"));
                shown.matches("key id = ").count() == tags.len() && tags.iter().all(there)
            }
            Cond::Signers(keys) => {
                let signatures = site.ask(&["+dnssec", ZONE, "SOA"]).rdata("RRSIG");
                // Covered type, algorithm, labels, TTL, end, begin, key tag (RFC 4034 §3.2).
                let by = |r: &String| r.split(' ').nth(6).and_then(|t| t.parse().ok());
                let by: BTreeSet<u64> = signatures.iter().filter_map(by).collect();
                by == self.tags_of(keys)?
            }
            Cond::Cds(is) => {
                let shown = site.ask(&[ZONE, "CDS"]).rdata("CDS");
                match is {
                    CdsIs::None => shown.is_empty(),
                    CdsIs::Delete => shown.len() == 1 && shown[0].starts_with("0 0 0"),
                    CdsIs::Keys(keys) => first_words(&shown) == self.tags_of(keys)?,
                }
            }
            Cond::DsIs(keys) => {
                let of = |l: &String| tag(l).and_then(|t| t.parse().ok());
                let there: BTreeSet<u64> = self.world.ds.iter().filter_map(of).collect();
                there == self.tags_of(keys)?
            }
            Cond::Key(n, state) => {
                let id = n.to_string();
                let keys = self.keys();
                let key = keys.iter().find(|k| k["id"] == *id)?;
                key["state"] == word(*state)
            }
            Cond::Critical => {
                let health = site.request("GET", "/v1/health", None).ok()?.json();
                let checks = health["checks"].as_array().expect("checks");
                checks
                    .iter()
                    .any(|c| c["level"] == "critical" && c["subject"]["name"] == ZONE)
            }
            Cond::NoAlert | Cond::Alert(_) | Cond::Content(_) | Cond::Count(..) => {
                return None;
            }
        })
    }

    fn roll(&self, class: Class) -> Option<Value> {
        let of = |r: &Value| place(r).is_some_and(|p| p.0 == class);
        self.world.rolls().into_iter().find(of)
    }

    fn keys(&self) -> Vec<Value> {
        let shown = self.world.site.json(&["keyset", ZONE, "list", "--all"]);
        shown["items"].as_array().cloned().unwrap_or_default()
    }

    fn tags_of(&self, keys: &[KeyNum]) -> Option<BTreeSet<u64>> {
        let tag = |k: &KeyNum| self.tags.get(&k.to_string()).copied();
        keys.iter().map(tag).collect()
    }
}

fn first_words(rdata: &[String]) -> BTreeSet<u64> {
    let first = |r: &String| r.split(' ').next().and_then(|t| t.parse().ok());
    rdata.iter().filter_map(first).collect()
}

fn word(state: KeyState) -> String {
    format!("{state:?}").to_lowercase()
}
