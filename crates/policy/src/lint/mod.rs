//! Lints of one policy: rules between values, and against what is registered.

mod hooks;
mod keys;
mod times;
mod zone;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::acl::{AclEntry, admits};
use crate::address::Target;
use crate::crosscheck::lets_anybody_in;
use crate::diag::{Diagnostic, Level};
use crate::file::PolicyFile;
use crate::policy::{DenialType, SerialKeepRefresh, SerialPolicy};

pub use zone::ZoneFacts;

/// What the lints may know besides the file. `None` means unknown, and the rule is left out.
#[derive(Clone, Copy, Default)]
pub struct LintContext<'a> {
    /// Names of the TSIG keys that exist.
    pub tsig_keys: Option<&'a BTreeSet<String>>,
    /// The HSMs registered.
    pub hsms: Option<&'a [HsmFacts]>,
    /// Whether a publication address is not loopback.
    pub published_beyond_loopback: bool,
    /// Whether a review server is configured for each stage.
    pub loader_review_server: Option<bool>,
    pub signer_review_server: Option<bool>,
    /// `hooks.timeout` of the configuration.
    pub hooks_timeout: Option<Duration>,
    /// Whether a program exists and the daemon's user may execute it.
    pub runs: Option<&'a dyn Fn(&str) -> bool>,
    /// A parent was seen to follow CDS for zones of this policy.
    pub parent_follows_cds: bool,
}

/// What is known of one HSM.
#[derive(Clone, Debug, PartialEq)]
pub struct HsmFacts {
    pub id: String,
    /// Algorithm numbers it can make keys of and sign with; `None` before the first connection.
    pub algorithms: Option<Vec<u8>>,
    pub can_destroy: Option<bool>,
    /// Measured, from all sessions together.
    pub signatures_per_second: Option<f64>,
}

/// Collects findings of one file.
pub(crate) struct Lints<'a> {
    file: &'a PolicyFile,
    pub found: Vec<Diagnostic>,
}

impl<'a> Lints<'a> {
    pub fn new(file: &'a PolicyFile) -> Self {
        Lints {
            file,
            found: Vec::new(),
        }
    }

    /// The first key that the file sets is the place; the first of all names the finding.
    pub fn add(
        &mut self,
        code: &'static str,
        level: Level,
        keys: &[&str],
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let mut d = Diagnostic::new(code, level, detail)
            .key(keys.first().copied().unwrap_or_default())
            .suggest(fix)
            .at(self.file.places.of(keys));
        d.policy = Some(self.file.name.clone());
        self.found.push(d);
    }

    pub fn finish(self) -> Vec<Diagnostic> {
        crate::diag::finish(self.found, &self.file.file, &self.file.text)
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// The longest TTL of zones while none is known (P15, P26).
const USUAL_TTL: Duration = DAY;

impl PolicyFile {
    /// Every lint that needs no zone, in order of place. Errors refuse the reload.
    pub fn lint(&self, context: &LintContext<'_>) -> Vec<Diagnostic> {
        let mut l = Lints::new(self);
        references(&mut l, context);
        keys::hsms(&mut l, context);
        times::times(&mut l);
        for stage in ["loader", "signer"] {
            hooks::review(&mut l, stage, context);
        }
        hooks::other_hooks(&mut l, context);
        keys::rolls(&mut l, context);
        keys::algorithm(&mut l);
        denial(&mut l);
        serial(&mut l);
        outbound(&mut l, context);
        keys::removal(&mut l, context);
        l.finish()
    }

    /// Names of the TSIG keys this policy refers to, each with the key that names it.
    pub fn tsig_references(&self) -> Vec<(&'static str, String)> {
        let p = &self.policy;
        let o = &p.server.outbound;
        let acl = |key, list: &[AclEntry]| -> Vec<(&'static str, String)> {
            list.iter()
                .filter_map(|e| Some((key, e.key.clone()?)))
                .collect()
        };
        let targets = |key, list: &[Target]| -> Vec<(&'static str, String)> {
            list.iter()
                .filter_map(|t| Some((key, t.tsig_key.clone()?)))
                .collect()
        };
        let mut out = acl("server.query-allow", &p.server.query_allow);
        out.extend(
            p.loader
                .update_allow
                .iter()
                .filter_map(|r| Some(("loader.update-allow", r.who.key.clone()?))),
        );
        out.extend(acl("server.outbound.provide-xfr-to", &o.provide_xfr_to));
        out.extend(targets("server.outbound.send-notify-to", &o.send_notify_to));
        out.extend(targets(
            "server.outbound.secondaries",
            o.secondaries.as_deref().unwrap_or_default(),
        ));
        out.extend(
            o.canary
                .iter()
                .filter_map(|c| Some(("server.outbound.canary", c.target.tsig_key.clone()?))),
        );
        let k = &p.key_manager;
        out.extend(targets(
            "key-manager.publication-nameservers",
            &k.publication_nameservers,
        ));
        out.extend(targets(
            "key-manager.ds.parent-nameservers",
            &k.ds.parent_nameservers,
        ));
        out.extend(
            k.ds.push
                .iter()
                .map(|p| ("key-manager.ds.push", p.tsig_key.clone())),
        );
        out
    }
}

/// P03.
fn references(l: &mut Lints<'_>, context: &LintContext<'_>) {
    let Some(known) = context.tsig_keys else {
        return;
    };
    for (key, name) in l.file.tsig_references() {
        let exists = known.iter().any(|k| same_key(k, &name));
        if !exists {
            let fix = format!("add it with: cascade tsig add {name}");
            l.add(
                "P03",
                Level::Error,
                &[key],
                format!("there is no TSIG key '{name}'"),
                fix,
            );
        }
    }
}

/// Key names are domain names: case and a final dot do not count (RFC 8945 §4.2).
fn same_key(a: &str, b: &str) -> bool {
    let plain = |s: &str| s.trim_end_matches('.').to_ascii_lowercase();
    plain(a) == plain(b)
}

/// P21.
fn denial(l: &mut Lints<'_>) {
    let d = &l.file.policy.signer.denial;
    let iterations = "signer.denial.iterations";
    let salt = "signer.denial.salt";
    match d.kind {
        DenialType::Nsec => {
            let set = [
                ("signer.denial.opt-out", d.opt_out),
                (iterations, d.iterations > 0),
                (salt, !d.salt.0.is_empty()),
            ];
            for (key, _) in set.into_iter().filter(|(_, set)| *set) {
                let detail = "belongs to NSEC3, and denial.type is \"nsec\"";
                l.add(
                    "P21",
                    Level::Error,
                    &[key],
                    detail,
                    "remove the line, or set type = \"nsec3\"",
                );
            }
        }
        DenialType::Nsec3 => {
            if d.iterations > 50 {
                let detail = format!(
                    "{} iterations: validators treat the zone as insecure (RFC 9276 §3.2)",
                    d.iterations
                );
                l.add("P21", Level::Error, &[iterations], detail, "write 0");
            } else if d.iterations > 0 {
                let detail = format!(
                    "{} iterations cost every resolver and hide nothing (RFC 9276 §3.1)",
                    d.iterations
                );
                l.add("P21", Level::Warning, &[iterations], detail, "write 0");
            }
            if !d.salt.0.is_empty() {
                let detail =
                    "a salt does not help: names are hashed with the zone's name (RFC 9276 §3.1)";
                l.add("P21", Level::Warning, &[salt], detail, "write \"\"");
            }
        }
    }
}

/// P23 as far as no zone is needed.
fn serial(l: &mut Lints<'_>) {
    let s = &l.file.policy.signer;
    if s.serial_policy == SerialPolicy::Keep && s.serial_keep_refresh == SerialKeepRefresh::Hold {
        l.add(
            "P23",
            Level::Warning,
            &["signer.serial-keep-refresh", "signer.serial-policy"],
            "with \"keep\" and \"hold\" signatures expire unless the source gets a new serial in time",
            "write \"bump\"",
        );
    }
}

/// P25, P31.
fn outbound(l: &mut Lints<'_>, context: &LintContext<'_>) {
    let o = &l.file.policy.server.outbound;
    let xfr = "server.outbound.provide-xfr-to";
    if context.published_beyond_loopback && lets_anybody_in(&o.provide_xfr_to) {
        l.add(
            "P25",
            Level::Warning,
            &[xfr],
            "anybody may transfer the zone from a publication address that others reach",
            "name the secondaries' addresses, or write \"any^key\"",
        );
    }
    let watched = o
        .secondaries
        .iter()
        .flatten()
        .map(|t| ("server.outbound.secondaries", t));
    let canary = o
        .canary
        .iter()
        .map(|c| ("server.outbound.canary", &c.target));
    let mut missing: Vec<(&str, IpAddr)> = Vec::new();
    for (key, target) in watched.chain(canary) {
        let ip = target.addr.ip();
        if !admits(&o.provide_xfr_to, ip) && !missing.contains(&(key, ip)) {
            missing.push((key, ip));
        }
    }
    for (key, ip) in missing {
        let detail = format!("{ip} may not transfer the zone: provide-xfr-to does not let it in");
        l.add(
            "P31",
            Level::Warning,
            &[key, xfr],
            detail,
            format!("add \"{ip}\" to provide-xfr-to"),
        );
    }
}
