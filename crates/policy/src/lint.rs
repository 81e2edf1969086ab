//! Lints of one policy (policy.md §6): rules between values, and against what is registered.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::acl::{AclEntry, admits};
use crate::address::Target;
use crate::crosscheck::lets_anybody_in;
use crate::diag::{Diagnostic, Level};
use crate::file::PolicyFile;
use crate::hook::Hook;
use crate::keys::{CdsMode, RecordTimes};
use crate::keytypes::KeyAlgorithm;
use crate::policy::{DenialType, SerialKeepRefresh, SerialPolicy};
use crate::review::{OnReject, Review, ReviewMode};
use crate::value::{Validity, show_span};

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
        hsms(&mut l, context);
        times(&mut l);
        for stage in ["loader", "signer"] {
            review(&mut l, stage, context);
        }
        other_hooks(&mut l, context);
        rolls(&mut l, context);
        algorithm(&mut l);
        denial(&mut l);
        serial(&mut l);
        outbound(&mut l, context);
        removal(&mut l, context);
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

/// P04, P05.
fn hsms(l: &mut Lints<'_>, context: &LintContext<'_>) {
    let Some(known) = context.hsms else { return };
    let g = &l.file.policy.key_manager.generation;
    let whole = "key-manager.generation.hsm-server-id";
    let mut homes = vec![(
        ["key-manager.generation.ksk-hsm-server-id", whole],
        g.ksk_home(),
    )];
    if !g.use_csk {
        homes.push((
            ["key-manager.generation.zsk-hsm-server-id", whole],
            g.zsk_home(),
        ));
    }
    let mut seen = BTreeSet::new();
    for (keys, home) in homes {
        let Some(id) = home else { continue };
        if !seen.insert(id) {
            continue;
        }
        let keys: Vec<&str> = keys.into_iter().filter(|k| l.file.places.has(k)).collect();
        let Some(hsm) = known.iter().find(|h| h.id == id) else {
            let detail =
                format!("no HSM '{id}' is registered; zones wait for their keys until it is");
            l.add(
                "P04",
                Level::Warning,
                &keys,
                detail,
                format!("add it with: cascade hsm add {id} <address>"),
            );
            continue;
        };
        let Some(able) = &hsm.algorithms else {
            continue;
        };
        if !able.contains(&g.algorithm.number()) {
            let names: Vec<String> = able.iter().map(|n| algorithm_name(*n)).collect();
            let names = if names.is_empty() {
                "none".to_string()
            } else {
                names.join(", ")
            };
            l.add(
                "P05",
                Level::Error,
                &[
                    "key-manager.generation.algorithm",
                    keys.first().copied().unwrap_or(whole),
                ],
                format!("HSM '{id}' cannot do {}", g.algorithm.name()),
                format!("it can do: {names}"),
            );
        }
    }
}

fn algorithm_name(number: u8) -> String {
    match number {
        8 => "RSASHA256".into(),
        10 => "RSASHA512".into(),
        13 => "ECDSAP256SHA256".into(),
        14 => "ECDSAP384SHA384".into(),
        15 => "ED25519".into(),
        16 => "ED448".into(),
        n => format!("algorithm {n}"),
    }
}

/// P06 to P09, P18, P28.
fn times(l: &mut Lints<'_>) {
    let s = &l.file.policy.signer;
    let interval = s.signature_refresh_interval;
    if interval < Duration::from_secs(60) {
        let detail = format!(
            "the refresh interval {} is below a minute",
            show_span(interval)
        );
        l.add(
            "P06",
            Level::Error,
            &["signer.signature-refresh-interval"],
            detail,
            "write at least \"60s\"",
        );
    }
    let zone = RecordTimes {
        signature_inception_offset: s.signature_inception_offset,
        signature_lifetime: s.signature_lifetime,
        signature_remain_time: s.signature_remain_time,
    };
    signature_times(l, "signer", &zone, Some(interval));
    let quarter = zone.signature_remain_time / 4;
    if interval > quarter {
        l.add(
            "P08",
            Level::Warning,
            &[
                "signer.signature-refresh-interval",
                "signer.signature-remain-time",
            ],
            format!(
                "refresh interval {} is more than a quarter of remain-time {}: few attempts are \
                 left when one fails",
                show_span(interval),
                show_span(zone.signature_remain_time)
            ),
            format!("write at most \"{}\"", show_span(quarter)),
        );
    }
    let records = &l.file.policy.key_manager.records;
    signature_times(l, "key-manager.records.dnskey", &records.dnskey, None);
    signature_times(l, "key-manager.records.cds", &records.cds, None);
}

fn signature_times(l: &mut Lints<'_>, section: &str, t: &RecordTimes, interval: Option<Duration>) {
    let key = |name: &str| format!("{section}.{name}");
    let (lifetime_key, remain_key) = (key("signature-lifetime"), key("signature-remain-time"));
    let (interval_key, offset_key) = (
        key("signature-refresh-interval"),
        key("signature-inception-offset"),
    );
    let (life, remain) = (t.signature_lifetime, t.signature_remain_time);
    let offset = t.signature_inception_offset;
    // RFC 4034 §3.1.5: times are compared in serial arithmetic; this stays far from its horizon.
    if life.as_secs() > 1 << 30 {
        let detail = format!("lifetime {} is above 2^30 seconds", show_span(life));
        l.add(
            "P06",
            Level::Error,
            &[&lifetime_key],
            detail,
            "write at most \"1775w\"",
        );
    }
    let least = remain + interval.unwrap_or_default() + HOUR;
    if life <= least {
        let sum = match interval {
            Some(i) => format!(
                "remain-time {} + refresh-interval {}",
                show_span(remain),
                show_span(i)
            ),
            None => format!("remain-time {}", show_span(remain)),
        };
        l.add(
            "P07",
            Level::Error,
            &[&lifetime_key, &remain_key, &interval_key],
            format!(
                "lifetime {} does not exceed {sum} + 1h: new signatures would be due at once",
                show_span(life)
            ),
            format!("write more than \"{}\"", show_span(least)),
        );
    }
    if remain < 3 * DAY {
        l.add(
            "P09",
            Level::Warning,
            &[&remain_key],
            format!(
                "remain-time {} is below 3d: a weekend's outage makes the zone bogus",
                show_span(remain)
            ),
            "write at least \"3d\"",
        );
    }
    let half = life / 2;
    if offset > 7 * DAY {
        let detail = format!("inception offset {} is above 7d", show_span(offset));
        l.add(
            "P18",
            Level::Error,
            &[&offset_key],
            detail,
            "write for example \"1d\"",
        );
    } else if offset < Duration::from_secs(300) || offset >= half {
        l.add(
            "P18",
            Level::Warning,
            &[&offset_key, &lifetime_key],
            format!(
                "inception offset {} should be 5m or more and less than half of lifetime {}: \
                 clocks of validators differ",
                show_span(offset),
                show_span(life)
            ),
            "write for example \"1h\"",
        );
    }
    if life > 60 * DAY {
        l.add(
            "P28",
            Level::Warning,
            &[&lifetime_key],
            format!(
                "lifetime {} is above 60d: old data can be replayed that long",
                show_span(life)
            ),
            "write at most \"60d\"",
        );
    }
}

/// P11 to P13 for one stage.
fn review(l: &mut Lints<'_>, stage: &str, context: &LintContext<'_>) {
    let policy = &l.file.policy;
    let (r, server): (&Review, _) = match stage {
        "loader" => (&policy.loader.review, context.loader_review_server),
        _ => (&policy.signer.review, context.signer_review_server),
    };
    let key = |name: &str| format!("{stage}.review.{name}");
    let (mode, hook, hooks) = (key("mode"), key("hook"), key("hooks"));
    let written = r.written().count();
    match r.mode {
        ReviewMode::Script if written == 0 => {
            l.add(
                "P11",
                Level::Error,
                &[&mode],
                "mode \"script\" without a hook",
                "set hook",
            );
        }
        ReviewMode::Script if server == Some(false) => l.add(
            "P11",
            Level::Error,
            &[&mode],
            format!(
                "there is no review server for the hook to ask: {stage}.review.servers is empty"
            ),
            format!("set {stage}.review.servers in the daemon's configuration"),
        ),
        ReviewMode::Off => {
            let unused = [
                (&hook, r.hook.is_some()),
                (&hooks, r.hooks.is_some()),
                (&key("on-reject"), r.on_reject != OnReject::Discard),
            ];
            for (key, _) in unused.iter().filter(|(_, set)| *set) {
                l.add(
                    "P11",
                    Level::Error,
                    &[key, &mode],
                    "set while mode is \"off\", so nothing is reviewed",
                    "set mode = \"script\" or \"manual\", or remove the line",
                );
            }
        }
        _ => {}
    }
    if r.hook.is_some() && r.hooks.is_some() {
        l.add(
            "P11",
            Level::Error,
            &[&hooks],
            "hook and hooks are both set",
            "put all into hooks",
        );
    }
    for h in r.written() {
        let key = if r.hook.as_ref() == Some(h) {
            &hook
        } else {
            &hooks
        };
        command(
            l,
            key,
            h,
            r.hook_shell,
            Some(&format!("set {stage}.review.hook-shell = true")),
            context,
        );
    }
    if let Some(most) = context.hooks_timeout
        && r.timeout > most
        && r.mode == ReviewMode::Script
    {
        let detail = format!(
            "timeout {} is above hooks.timeout {} of the configuration, which is kept to",
            show_span(r.timeout),
            show_span(most)
        );
        let fix = format!("write at most \"{}\"", show_span(most));
        l.add("P11", Level::Warning, &[&key("timeout")], detail, fix);
    }
}

fn other_hooks(l: &mut Lints<'_>, context: &LintContext<'_>) {
    let policy = &l.file.policy;
    let rest = [
        ("key-manager.ds.hook", &policy.key_manager.ds.hook),
        (
            "server.outbound.file-hook",
            &policy.server.outbound.file_hook,
        ),
    ];
    for (key, hook) in rest {
        if let Some(hook) = hook {
            command(l, key, hook, false, None, context);
        }
    }
}

/// P12, P13.
fn command(
    l: &mut Lints<'_>,
    key: &str,
    hook: &Hook,
    shell: bool,
    shell_key: Option<&str>,
    context: &LintContext<'_>,
) {
    if !shell && let Some(what) = hook.shell_syntax() {
        let script = "put the line into a script and name that";
        let fix = match shell_key {
            Some(text) => format!("{text}, or {script}"),
            None => script.to_string(),
        };
        let detail = format!("{what} means something to a shell only, and no shell runs this");
        l.add("P12", Level::Error, &[key], detail, fix);
        return;
    }
    let Some(command) = hook.command(shell) else {
        l.add(
            "P12",
            Level::Error,
            &[key],
            "cannot be split into words",
            "write a list of words",
        );
        return;
    };
    if let Some(runs) = context.runs
        && !shell
        && !runs(&command.program)
    {
        let detail = format!(
            "'{}' is missing or the daemon's user may not run it",
            command.program
        );
        l.add(
            "P13",
            Level::Warning,
            &[key],
            detail,
            "check the path and its mode",
        );
    }
}

/// P15 to P17, P27.
fn rolls(l: &mut Lints<'_>, context: &LintContext<'_>) {
    let (k, s) = (&l.file.policy.key_manager, &l.file.policy.signer);
    let csk = ("key-manager.csk.validity", k.csk.validity, k.csk.auto_start);
    let ksk = ("key-manager.ksk.validity", k.ksk.validity, k.ksk.auto_start);
    let zsk = ("key-manager.zsk.validity", k.zsk.validity, k.zsk.auto_start);
    let (with_parent, all) = if k.generation.use_csk {
        (csk, vec![csk])
    } else {
        (ksk, vec![ksk, zsk])
    };
    let signing = if k.generation.use_csk { csk } else { zsk };

    if let (key, Validity::After(validity), _) = signing {
        let ttl = s.max_ttl.map_or(USUAL_TTL, |m| m.min(USUAL_TTL));
        let margin = k.observe.margin;
        let least =
            k.records.ttl + ttl + s.key_roll_time + s.signature_refresh_interval + 2 * margin;
        if validity <= least {
            l.add(
                "P15",
                Level::Error,
                &[key],
                format!(
                    "validity {} does not exceed records.ttl {} + longest TTL {} + key-roll-time \
                     {} + refresh-interval {} + twice observe.margin {}: a roll could never end",
                    show_span(validity),
                    show_span(k.records.ttl),
                    show_span(ttl),
                    show_span(s.key_roll_time),
                    show_span(s.signature_refresh_interval),
                    show_span(margin)
                ),
                format!("write more than \"{}\"", show_span(least)),
            );
        } else if s.key_roll_time > validity / 2 {
            l.add(
                "P17",
                Level::Warning,
                &["signer.key-roll-time", key],
                format!(
                    "key-roll-time {} is more than half of validity {}: the zone is always between \
                     two keys",
                    show_span(s.key_roll_time),
                    show_span(validity)
                ),
                format!("write at most \"{}\"", show_span(validity / 2)),
            );
        }
    }
    if let (key, Validity::After(validity), true) = with_parent
        && validity < 90 * DAY
        && k.ds.hook.is_none()
        && k.ds.push.is_none()
        && !context.parent_follows_cds
    {
        l.add(
            "P16",
            Level::Warning,
            &[key],
            format!(
                "validity {} is below 90d and nothing but a person tells the parent: each roll \
                 waits for someone",
                show_span(validity)
            ),
            "write at least \"90d\", or set key-manager.ds.hook or push",
        );
    }
    for (key, validity, start) in all {
        let explicit = l.file.places.has(key);
        if validity == Validity::Forever && start && explicit {
            let detail = "with \"forever\" no roll is ever due, so auto-start has nothing to start";
            l.add(
                "P27",
                Level::Note,
                &[key],
                detail,
                "start rolls with: cascade keyset <zone> …",
            );
        }
    }
}

/// P19, P20.
fn algorithm(l: &mut Lints<'_>) {
    let a = l.file.policy.key_manager.generation.algorithm;
    let key = ["key-manager.generation.algorithm"];
    if let Some(bits) = a.rsa_bits() {
        if !(1024..=4096).contains(&bits) || bits % 8 != 0 {
            let detail = format!("{bits} bits: RSA keys have 1024 to 4096, a multiple of 8");
            l.add(
                "P19",
                Level::Error,
                &key,
                detail,
                format!("write \"{}:2048\"", a.name()),
            );
        } else if bits < 2048 {
            let detail = format!("{bits} bits: below 2048 RSA is not safe for long");
            l.add(
                "P19",
                Level::Warning,
                &key,
                detail,
                format!("write \"{}:2048\"", a.name()),
            );
        }
    }
    if matches!(a, KeyAlgorithm::RsaSha512 { .. }) {
        let detail = format!("{} is not recommended for signing (RFC 9904)", a.name());
        l.add(
            "P20",
            Level::Warning,
            &key,
            detail,
            "write \"ECDSAP256SHA256\"",
        );
    }
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

/// P26, P30.
fn removal(l: &mut Lints<'_>, context: &LintContext<'_>) {
    let (k, s) = (&l.file.policy.key_manager, &l.file.policy.signer);
    let ttl = s.max_ttl.map_or(USUAL_TTL, |m| m.min(USUAL_TTL));
    let least = ttl + k.records.ttl;
    if k.auto_remove && k.auto_remove_delay < least {
        l.add(
            "P26",
            Level::Warning,
            &["key-manager.auto-remove-delay"],
            format!(
                "delay {} is below longest TTL {} + records.ttl {}: a key that caches still need \
                 could not be brought back",
                show_span(k.auto_remove_delay),
                show_span(ttl),
                show_span(k.records.ttl)
            ),
            format!("write at least \"{}\"", show_span(least)),
        );
    }
    if k.auto_remove {
        let homes = [k.generation.ksk_home(), k.generation.zsk_home()];
        let cannot = context
            .hsms
            .unwrap_or_default()
            .iter()
            .find(|h| h.can_destroy == Some(false) && homes.contains(&Some(h.id.as_str())));
        if let Some(hsm) = cannot {
            l.add(
                "P26",
                Level::Warning,
                &[
                    "key-manager.auto-remove",
                    "key-manager.generation.hsm-server-id",
                ],
                format!(
                    "HSM '{}' cannot destroy keys, so dead ones stay in it",
                    hsm.id
                ),
                "write false, and remove keys with the vendor's tools",
            );
        }
    }
    if k.ds.cds == CdsMode::Never && k.ds.hook.is_none() && k.ds.push.is_none() {
        l.add(
            "P30",
            Level::Warning,
            &["key-manager.ds.cds"],
            "with neither CDS, hook nor push only a person can tell the parent",
            "write \"when-needed\", or set key-manager.ds.hook or push",
        );
    }
}
