//! What scenarios do, done to the daemon, its zone and its parent.

use std::process::Command;

use cascade_keys::{Role, Strategy};
use cascade_sim::scenario::{Answer, ApplyDs, Deed, Order, apply_policy, matches};
use cascade_sim::{By, Config};

use super::super::{TTL, ZONE};
use super::{Run, applies};

/// The zone with data of this TTL, content and serial.
pub fn zone_text(config: &Config, ttl: u32, content: u32, serial: u32) -> String {
    let names = (1..config.lags.len()).map(|n| format!("@ NS ns{n}\nns{n} A 127.0.0.1\n"));
    format!(
        "$ORIGIN {ZONE}.\n$TTL {ttl}\n@ SOA ns1 u {serial} 60 30 {} {TTL}\n{}www A 192.0.2.1\n\
         *.wild A 192.0.2.2\ncontent TXT \"{content}\"\n",
        config.soa_expire,
        names.collect::<String>()
    )
}

impl Run {
    pub fn write_policy(&mut self) {
        let told = self.world.site.path("told");
        let script = format!(
            "printf '%s\\n' \"$CASCADE_DS_SET\" > {0}.new && mv {0}.new {0}\n",
            told.display()
        );
        let hook = self.world.site.script("tell", &script);
        let hook = (self.config.by == By::Hook).then(|| hook.display().to_string());
        let text = applies::policy_text(&self.policy, &self.config, hook.as_deref(), self.nsec3);
        self.world.whole_policy(&text);
        self.world.site.ok(&["policy", "reload", "--yes"]);
    }

    fn write_zone(&mut self) {
        self.serial += 1;
        let text = zone_text(&self.config, self.data_ttl, self.content, self.serial);
        self.world.site.write(&format!("zones/{ZONE}"), &text);
        self.world.site.ok(&["zone", "reload", ZONE]);
        self.world.site.await_published(ZONE, self.serial);
    }

    pub fn deed(&mut self, deed: &Deed, line: usize) {
        let now = self.world.site.now();
        match deed {
            Deed::Order(order, answer) => self.order(order, answer, line),
            Deed::Policy(pairs) => {
                apply_policy(&mut self.policy, pairs);
                self.write_policy();
            }
            Deed::DataTtl(ttl) => {
                self.data_ttl = *ttl;
                self.write_zone();
            }
            Deed::Source(content) => {
                self.content = *content;
                self.write_zone();
            }
            Deed::Denial(_) => {
                self.nsec3 = !self.nsec3;
                self.write_policy();
            }
            Deed::ParentDsTtl(ttl) => {
                self.config.ds_ttl = *ttl;
                let set = self.world.ds.clone();
                self.give(set);
            }
            Deed::ParentBy(by) => {
                self.config.by = *by;
                self.write_policy();
            }
            Deed::ParentKeepOld(yes) => self.config.keep_old = *yes,
            Deed::ParentRegister(span) => self.config.register = *span,
            Deed::ParentApply(list) => {
                let set = list.iter().map(|d| self.ds_of(d)).collect();
                self.coming.clear();
                self.stale = false;
                self.give(set);
            }
            Deed::SecondaryDown(n, span) => {
                if let Some(server) = n.checked_sub(1).and_then(|n| self.world.secondaries.get(n)) {
                    server.freeze(true);
                    self.frozen.push((*n, now + *span as i64));
                }
            }
            other => panic!("line {line}: {other:?} does not apply"),
        }
    }

    fn order(&mut self, order: &Order, answer: &Answer, line: usize) {
        let mut args: Vec<String> = vec!["keyset".into(), ZONE.into()];
        let mut more = |words: &[&str]| args.extend(words.iter().map(|w| (*w).to_string()));
        let force = |yes: bool| if yes { &["--force"][..] } else { &[] };
        match order {
            Order::Start(class) => more(&[class.word(), "start-roll"]),
            Order::Propagated(class, step, ttl, forced) => {
                more(&[class.word(), step.word(), &ttl.to_string()]);
                more(force(*forced));
            }
            Order::Expired(class, step) => more(&[class.word(), step.word()]),
            Order::RollDone(class, forced) => {
                more(&[class.word(), "roll-done"]);
                more(force(*forced));
            }
            Order::Remove(key, forced) => {
                more(&["remove-key", &key.to_string(), "--yes"]);
                more(force(*forced));
            }
            Order::Emergency(role, strategy) => {
                let role = match role {
                    Role::Zsk => "zsk",
                    Role::Csk => "csk",
                    _ => "ksk",
                };
                let strategy = if *strategy == Strategy::Fast {
                    "fast"
                } else {
                    "safe"
                };
                more(&["emergency", role, "--strategy", strategy, "--yes"]);
            }
            Order::BackedUp(key) => more(&["backed-up", &key.to_string()]),
            Order::Check => more(&["check"]),
            Order::Rollback => args = ["zone", "rollback", ZONE, "--yes"].map(String::from).into(),
            Order::Pause | Order::Resume => {
                let word = if *order == Order::Pause {
                    "enable"
                } else {
                    "disable"
                };
                args = ["zone", "maintenance", word, ZONE].map(String::from).into();
            }
            Order::Import | Order::ConfirmClock => panic!("line {line} does not apply"),
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let said = self.world.site.cascade(&args);
        let done = said.code == Some(0);
        let fits = match answer {
            Answer::Done => done,
            Answer::Refused(p) => !done && matches(p, &said.stderr),
            Answer::Any => true,
        };
        assert!(fits, "line {line}: {answer:?} was to be said: {said}");
    }

    /// Secondaries whose time is over go on.
    pub fn thaw(&mut self, now: i64) {
        for (n, until) in std::mem::take(&mut self.frozen) {
            if until > now {
                self.frozen.push((n, until));
            } else if let Some(server) = self.world.secondaries.get(n - 1) {
                server.freeze(false);
            }
        }
    }

    /// The zone has CDS for a parent that reads them.
    pub fn asks_cds(&self) -> bool {
        self.config.by == By::Cds && !self.cds().is_empty()
    }

    fn cds(&self) -> Vec<String> {
        self.world.site.ask(&[ZONE, "CDS"]).rdata("CDS")
    }

    /// What the parent does of its own, or because it was asked.
    pub fn parent(&mut self, now: i64) {
        while let Some(i) = self.coming.iter().position(|c| c.0 <= now) {
            let (_, set) = self.coming.remove(i);
            self.stale = self.asked.as_ref() != Some(&set);
            self.give(set);
        }
        let Some(set) = self.wanted(now) else { return };
        if self.asked.as_ref() == Some(&set) {
            return;
        }
        self.asked = Some(set.clone());
        let copy = self.config.parent.iter().max().copied().unwrap_or(0);
        self.coming
            .push((now + (self.config.register + copy) as i64, set));
    }

    /// The DS set that the parent hears of now, as what follows the word DS.
    fn wanted(&mut self, now: i64) -> Option<Vec<String>> {
        if !self.world.delegated {
            return None;
        }
        let mut set = match self.config.by {
            By::Nobody => return None,
            By::Hook => {
                let told = std::fs::read_to_string(self.world.site.path("told")).ok()?;
                rdata(&told, " DS ")
            }
            By::Person => {
                let asked = self.world.states();
                let waits = |s: &String| s.ends_with("await-ds-seen");
                let first = self.rolls.is_empty() && self.world.ds.is_empty();
                if !asked.iter().any(waits) && !first {
                    return None;
                }
                rdata(&self.world.site.ok(&["keyset", ZONE, "get", "ds"]), " DS ")
            }
            By::Cds => {
                if now < self.next_scan {
                    return None;
                }
                let every = (self.config.every as i64).max(1);
                self.next_scan += ((now - self.next_scan) / every + 1) * every;
                let set = self.cds();
                match set.first()?.starts_with("0 0 0") {
                    true => Vec::new(),
                    false => set,
                }
            }
        };
        if self.config.keep_old {
            let old = self.world.ds.iter().flat_map(|l| rdata(l, " DS "));
            set.extend(old);
        }
        set.sort();
        set.dedup();
        Some(set)
    }

    /// The parent's servers have this DS set.
    fn give(&mut self, set: Vec<String>) {
        let line = |d: &String| match d.split_once(" DS ") {
            Some((_, rdata)) => rdata.to_string(),
            None => d.clone(),
        };
        let ttl = self.config.ds_ttl;
        let lines = set.iter().map(line);
        let lines = lines.map(|d| format!("example {ttl} IN DS {d}")).collect();
        self.world.give_ds(lines);
    }

    /// The DS of a key, made by another program from its file.
    fn ds_of(&self, ds: &ApplyDs) -> String {
        let id = ds.key.map_or(String::new(), |k| k.to_string());
        let shown = self.world.site.json(&["keyset", ZONE, "list", "--all"]);
        let keys = shown["items"].as_array().cloned().unwrap_or_default();
        let key = keys.iter().find(|k| k["id"] == *id);
        let key = key.unwrap_or_else(|| panic!("no key {id}: {shown:#}"));
        let place = key["reference"].as_str().unwrap_or_default();
        let path =
            std::path::PathBuf::from(place.trim_start_matches("file://").replace("%2B", "+"));
        let aside = path
            .parent()
            .unwrap()
            .join("trash")
            .join(path.file_name().unwrap());
        let file = if path.exists() { path } else { aside };
        let made = Command::new("dnssec-dsfromkey")
            .args(["-a", "SHA-256"])
            .arg(&file)
            .output();
        let made = made.expect("dnssec-dsfromkey is installed (Debian: bind9-utils)");
        let text = String::from_utf8_lossy(&made.stdout).into_owned();
        let found = rdata(&text, " DS ").pop();
        found.unwrap_or_else(|| panic!("{}: {made:?}", file.display()))
    }
}

/// What follows this word in each line that has it.
fn rdata(text: &str, word: &str) -> Vec<String> {
    let after = |l: &str| l.split_once(word).map(|(_, r)| r.trim().to_string());
    text.lines().filter_map(after).collect()
}
