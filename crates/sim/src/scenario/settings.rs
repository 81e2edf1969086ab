//! `key=value` of world and policy.

use std::time::Duration;

use cascade_keys::{Auto, CdsPolicy, Home, KeyPolicy, KskRoll, RolePolicy, ZskRoll};

use super::ScenarioError;
use super::words::{Parsed, Word, Words};
use crate::config::{By, Config, Led, default_policy, quiet_policy};

impl Words {
    pub(super) fn led_of(&self, v: &Word) -> Parsed<Led> {
        match v.text.as_str() {
            "here" => Ok(Led::Here),
            "nowhere" => Ok(Led::Nowhere),
            "elsewhere" => Ok(Led::Elsewhere),
            _ => Err(self.bad(v, "one of here, nowhere, elsewhere")),
        }
    }

    pub(super) fn by_of(&self, v: &Word) -> Parsed<By> {
        match v.text.as_str() {
            "hook" => Ok(By::Hook),
            "cds" => Ok(By::Cds),
            "person" => Ok(By::Person),
            "nobody" => Ok(By::Nobody),
            _ => Err(self.bad(v, "one of hook, cds, person, nobody")),
        }
    }

    pub(super) fn indices_of(&self, v: &Word) -> Parsed<Vec<usize>> {
        self.list_of(v, |w| self.number_of(w))
    }

    fn unknown(&self, key: &Word, of: &str) -> ScenarioError {
        self.error(key.column, format!("{of} has no '{}'", key.text))
    }

    /// The world's settings at its beginning.
    pub(super) fn settings(
        &mut self,
        of: &str,
        c: &mut Config,
        policy: &mut KeyPolicy,
    ) -> Parsed<()> {
        while !self.is_empty() {
            let (k, v) = self.pair("a setting")?;
            match (of, k.text.as_str()) {
                ("zone", "policy") => {
                    *policy = match v.text.as_str() {
                        "default" => default_policy(),
                        "quiet" => quiet_policy(),
                        _ => return Err(self.bad(&v, "default or quiet")),
                    }
                }
                ("zone", "data-ttl") => c.data_ttl = self.seconds_of(&v)?,
                ("zone", "expire") => c.soa_expire = self.seconds_of(&v)?,
                ("zone", "delegated") => c.led = self.led_of(&v)?,
                ("zone", "resign") => c.resign = self.span_of(&v)?,
                ("zone", "lifetime") => c.data_lifetime = self.span_of(&v)?,
                ("zone", "remain") => c.data_remain = self.span_of(&v)?,
                ("parent", "by") => c.by = self.by_of(&v)?,
                ("parent", "ds-ttl") => c.ds_ttl = self.seconds_of(&v)?,
                ("parent", "every") => c.every = self.span_of(&v)?,
                ("parent", "register") => c.register = self.span_of(&v)?,
                ("parent", "copy") => c.parent = self.spans_of(&v)?,
                ("parent", "keep-old") => c.keep_old = self.yes_of(&v)?,
                ("parent", "remove-first") => c.remove_first = self.span_of(&v)?,
                ("parent", "digests") => c.digests = self.list_of(&v, |w| self.number_of(w))?,
                ("parent", "expire") => c.parent_expire = self.seconds_of(&v)?,
                ("parent", "bootstrap") => c.bootstrap = self.yes_of(&v)?,
                ("parent", "v6-only") => c.parent_v6_only = self.indices_of(&v)?,
                ("secondaries", "lags") => {
                    c.lags = self.spans_of(&v)?;
                    c.lags.insert(0, 0);
                }
                ("secondaries", "v6-only") => c.v6_only = self.indices_of(&v)?,
                ("secondaries", "rewrites") => c.rewrites = self.indices_of(&v)?,
                ("zone", "signed-before") => c.signed_before = self.yes_of(&v)?,
                ("secondaries", "hidden-primary") => c.hidden_primary = self.yes_of(&v)?,
                ("parent", "child-side") => c.child_side = self.indices_of(&v)?,
                ("secondaries", "hidden") => c.hidden = self.indices_of(&v)?,
                ("token", "instances") => c.instances = self.number_of(&v)?,
                ("token", "proofs") => c.proofs = self.yes_of(&v)?,
                ("token", "verify-after-sign") => c.verify_after_sign = self.yes_of(&v)?,
                ("daemon", "gate") => c.gate = self.yes_of(&v)?,
                ("daemon", "generate") => c.costs.generate = self.span_of(&v)?,
                ("daemon", "build") => c.costs.build = self.span_of(&v)?,
                ("daemon", "prove") => c.costs.prove = self.span_of(&v)?,
                ("daemon", "look") => c.costs.look = self.span_of(&v)?,
                ("daemon", "restart") => c.restart = self.yes_of(&v)?,
                ("daemon", "crash-after") => c.crash_after = Some(self.number_of(&v)?),
                ("daemon", "crash-down") => c.crash_down = self.span_of(&v)?,
                ("network", "ipv6") => c.has_ipv6 = self.yes_of(&v)?,
                ("network", "spoofed") => c.spoofed = self.number_of(&v)?,
                _ => return Err(self.unknown(&k, of)),
            }
        }
        Ok(())
    }

    pub(super) fn policy_pairs(&mut self) -> Parsed<Vec<(String, String)>> {
        let mut out = Vec::new();
        while !self.is_empty() {
            let (k, v) = self.pair("a policy setting")?;
            // Tried at once, so that an error has its place.
            self.policy_setting(&mut default_policy(), &k, &v)?;
            out.push((k.text, v.text));
        }
        Ok(out)
    }

    pub(super) fn policy_setting(&self, p: &mut KeyPolicy, k: &Word, v: &Word) -> Parsed<()> {
        let span = || -> Parsed<Duration> { Ok(Duration::from_secs(self.span_of(v)?)) };
        let validity = |r: &mut RolePolicy| -> Parsed<()> {
            r.validity = if v.text == "forever" {
                None
            } else {
                Some(span()?)
            };
            Ok(())
        };
        match k.text.as_str() {
            "ksk-validity" => validity(&mut p.ksk)?,
            "zsk-validity" => validity(&mut p.zsk)?,
            "csk-validity" => validity(&mut p.csk)?,
            "ksk-auto" => p.ksk.auto = self.auto_of(v)?,
            "zsk-auto" => p.zsk.auto = self.auto_of(v)?,
            "csk-auto" => p.csk.auto = self.auto_of(v)?,
            "algorithm-auto" => p.algorithm_auto = self.auto_of(v)?,
            "ksk-roll" => {
                p.ksk_roll = match v.text.as_str() {
                    "double-signature" => KskRoll::DoubleSignature,
                    "double-ds" => KskRoll::DoubleDs,
                    _ => return Err(self.bad(v, "double-signature or double-ds")),
                }
            }
            "zsk-roll" => {
                p.zsk_roll = match v.text.as_str() {
                    "pre-publish" => ZskRoll::PrePublish,
                    "double-signature" => ZskRoll::DoubleSignature,
                    _ => return Err(self.bad(v, "pre-publish or double-signature")),
                }
            }
            "algorithm" => p.algorithm = self.number_of(v)?,
            "use-csk" => p.use_csk = self.yes_of(v)?,
            "ksk-home" => p.ksk_home = Home::Hsm(v.text.clone()),
            "zsk-home" => p.zsk_home = Home::Hsm(v.text.clone()),
            "ds-algorithm" => p.digests = self.list_of(v, |w| self.number_of(w))?,
            "auto-remove" => p.auto_remove = self.yes_of(v)?,
            "auto-remove-delay" => p.auto_remove_delay = span()?,
            "trash-retention" => p.trash_retention = span()?,
            "ignore-unreachable-after" => {
                p.ignore_unreachable_after = if v.text == "off" { None } else { Some(span()?) }
            }
            "undelegated" => {
                p.undelegated_own = match v.text.as_str() {
                    "own" => true,
                    "wait" => false,
                    _ => return Err(self.bad(v, "own or wait")),
                }
            }
            "margin" => p.margin = span()?,
            "ttl" => p.ttl = self.seconds_of(v)?,
            "signature-lifetime" => p.apex_signatures.lifetime = span()?,
            "signature-remain-time" => p.apex_signatures.remain = span()?,
            "cds" => {
                p.cds = match v.text.as_str() {
                    "when-needed" => CdsPolicy::WhenNeeded,
                    "always" => CdsPolicy::Always,
                    "never" => CdsPolicy::Never,
                    "delete" => CdsPolicy::Delete,
                    _ => return Err(self.bad(v, "when-needed, always, never or delete")),
                }
            }
            "hook" => p.tell_parent = self.yes_of(v)?,
            "remind-after" => p.remind_after = span()?,
            "standby-ksk" => p.standby_ksk = self.number_of(v)?,
            "standby-zsk" => p.standby_zsk = self.number_of(v)?,
            "require-backup" => p.require_backup = self.yes_of(v)?,
            "unsigned" => p.unsigned = self.yes_of(v)?,
            _ => return Err(self.unknown(k, "a policy")),
        }
        Ok(())
    }

    /// `on`, `off`, or the flags that are on: `start,report,expire,done`.
    fn auto_of(&self, v: &Word) -> Parsed<Auto> {
        match v.text.as_str() {
            "on" => return Ok(Auto::ON),
            "off" => return Ok(Auto::OFF),
            _ => {}
        }
        let mut auto = Auto::OFF;
        self.list_of(v, |w| match w.text.as_str() {
            "start" | "report" | "expire" | "done" => Ok(w.text.clone()),
            _ => Err(self.bad(w, "one of start, report, expire, done")),
        })?
        .iter()
        .for_each(|w| match w.as_str() {
            "start" => auto.start = true,
            "report" => auto.report = true,
            "expire" => auto.expire = true,
            _ => auto.done = true,
        });
        Ok(auto)
    }
}

/// Settings that were read before.
pub fn apply_policy(p: &mut KeyPolicy, pairs: &[(String, String)]) {
    let Ok(words) = Words::of(0, "") else { return };
    for (k, v) in pairs {
        let word = |text: &String| Word {
            text: text.clone(),
            column: 0,
        };
        // They were tried when the scenario was read.
        let _ = words.policy_setting(p, &word(k), &word(v));
    }
}
