//! The Prometheus page: built from views and counters, without a lock that zone work needs.

mod hsms;
mod keys;
mod transfers;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cascade_api::zones::ZoneState;
use cascade_policy::RequireSync;
use cascade_publisher::Role;
use cascade_time::Timestamp;
use rayon::prelude::*;

use crate::daemon::Daemon;
use crate::status::zone_state;
use crate::zone::{View, ZoneHandle};

const STATES: [(ZoneState, &str); 13] = [
    (ZoneState::WaitingSource, "waiting-source"),
    (ZoneState::WaitingKeys, "waiting-keys"),
    (ZoneState::Loading, "loading"),
    (ZoneState::UnsignedReview, "unsigned-review"),
    (ZoneState::Signing, "signing"),
    (ZoneState::Verifying, "verifying"),
    (ZoneState::SignedReview, "signed-review"),
    (ZoneState::Publishing, "publishing"),
    (ZoneState::Published, "published"),
    (ZoneState::Halted, "halted"),
    (ZoneState::Expired, "expired"),
    (ZoneState::Restoring, "restoring"),
    (ZoneState::Removed, "removed"),
];

/// Zones whose states are in memory at a time: those at rest are read from the state.
const AT_A_TIME: usize = 512;

/// The text format of Prometheus, version 0.0.4. With very many zones it takes seconds: for threads that
/// may block.
pub fn page(d: &Daemon) -> String {
    let mut p = Page::default();
    p.gauge("cascade_build_info", "Version of the daemon.");
    p.line(
        "cascade_build_info",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1.0,
    );
    p.gauge(
        "cascade_start_timestamp_seconds",
        "When the daemon started.",
    );
    p.line(
        "cascade_start_timestamp_seconds",
        &[],
        d.started_at.secs() as f64,
    );
    p.gauge(
        "cascade_clock_held",
        "1 while nothing is signed because the clock is not trusted.",
    );
    let held = f64::from(u8::from(d.clock_doubt().is_some()));
    p.line("cascade_clock_held", &[], held);
    p.gauge(
        "cascade_clock_synchronised",
        "1 while the kernel says that a time service steers the clock; no value if that is not asked.",
    );
    if d.conf().config.clock.require_sync != RequireSync::Off {
        let steered = f64::from(u8::from(d.clock_sync.lost().is_none()));
        p.line("cascade_clock_synchronised", &[], steered);
    }
    zones(d, &mut p);
    counters(d, &mut p);
    servers(d, &mut p);
    transfers::transfers(d, &mut p);
    transfers::secondaries(d, &mut p);
    hsms::hsms(d, &mut p);
    certificates(d, &mut p);
    p.text()
}

fn certificates(d: &Daemon, p: &mut Page) {
    const NAME: &str = "cascade_certificate_end_timestamp_seconds";
    p.gauge(NAME, "When a TLS certificate ends.");
    for c in d.certificates.all() {
        let labels = [("usage", c.usage.as_str()), ("file", &c.file)];
        p.line(NAME, &labels, c.ends.secs() as f64);
    }
}

fn zones(d: &Daemon, p: &mut Page) {
    let now = d.now();
    let list = d.zone_list();
    p.gauge("cascade_zones", "Number of zones in each state.");
    p.gauge(
        "cascade_zones_at_rest",
        "Zones that have no task because nothing goes on in them.",
    );
    let rest = list.iter().filter(|z| z.line.rests()).count();
    p.line("cascade_zones_at_rest", &[], rest as f64);
    let mut counts = [0u64; STATES.len()];
    // Once even without zones, for what stands above their values.
    let parts = list.chunks(AT_A_TIME);
    for part in parts.chain(list.is_empty().then_some(&[][..])) {
        let look = |z: &Arc<ZoneHandle>| (z.name.clone(), z.view());
        let all: Vec<_> = d.quick_pool.install(|| part.par_iter().map(look).collect());
        for (_, v) in &all {
            let state = zone_state(v);
            let place = STATES.iter().position(|(s, _)| *s == state);
            counts[place.unwrap_or_default()] += 1;
        }
        some_zones(d, &all, p, now);
    }
    for ((_, word), n) in STATES.iter().zip(counts) {
        p.line("cascade_zones", &[("state", word)], n as f64);
    }
}

fn some_zones(d: &Daemon, all: &[(String, Arc<View>)], p: &mut Page, now: Timestamp) {
    p.gauge("cascade_zone_state", "1 for the present state of the zone.");
    for (name, v) in all {
        let word = STATES
            .iter()
            .find(|(s, _)| *s == zone_state(v))
            .map_or("", |(_, w)| w);
        p.line(
            "cascade_zone_state",
            &[("zone", name), ("state", word)],
            1.0,
        );
    }
    p.gauge("cascade_zone_halted", "1 when the zone needs a decision.");
    for (name, v) in all {
        let halted = f64::from(u8::from(zone_state(v) == ZoneState::Halted));
        p.line("cascade_zone_halted", &[("zone", name)], halted);
    }
    keys::keys(d, all, p, now);
    hsms::zones(d, all, p);
    p.gauge(
        "cascade_zone_alert",
        "1 for each alert of the zone that is on.",
    );
    for (name, v) in all {
        for alert in v.row.zone.alerts.values() {
            let word = |v: serde_json::Result<serde_json::Value>| {
                let v = v.unwrap_or_default();
                v.as_str().unwrap_or_default().to_owned()
            };
            let (key, severity) = (
                word(serde_json::to_value(alert.key)),
                word(serde_json::to_value(alert.severity)),
            );
            let labels = [
                ("zone", name.as_str()),
                ("alert", &key),
                ("severity", &severity),
            ];
            p.line("cascade_zone_alert", &labels, 1.0);
        }
    }
    p.gauge(
        "cascade_zone_rrsig_runway_seconds",
        "Until the first signature in service expires; negative when past.",
    );
    for (name, v) in all {
        if let Some(l) = v
            .row
            .zone
            .live
            .as_ref()
            .filter(|l| v.has_signatures(l.version))
        {
            p.line(
                "cascade_zone_rrsig_runway_seconds",
                &[("zone", name)],
                now.secs_until(l.min_exp) as f64,
            );
        }
    }
    p.gauge(
        "cascade_zone_next_refresh_timestamp_seconds",
        "When signatures are refreshed next.",
    );
    for (name, v) in all {
        if let Some(l) = &v.row.zone.live {
            p.line(
                "cascade_zone_next_refresh_timestamp_seconds",
                &[("zone", name)],
                l.next_due.secs() as f64,
            );
        }
    }
    p.gauge("cascade_zone_serial", "Serial of the zone by stage.");
    for (name, v) in all {
        let z = &v.row.zone;
        if let Some(c) = z.candidate.cand() {
            p.line(
                "cascade_zone_serial",
                &[("zone", name), ("stage", "unsigned")],
                f64::from(c.source_serial.0),
            );
            if let Some(s) = &c.signed {
                p.line(
                    "cascade_zone_serial",
                    &[("zone", name), ("stage", "signed")],
                    f64::from(s.serial.0),
                );
            }
        }
        if let Some(l) = &z.live {
            p.line(
                "cascade_zone_serial",
                &[("zone", name), ("stage", "source")],
                f64::from(l.source_serial.0),
            );
            p.line(
                "cascade_zone_serial",
                &[("zone", name), ("stage", "published")],
                f64::from(l.serial.0),
            );
        }
    }
    sizes(all, p);
}

fn sizes(all: &[(String, Arc<View>)], p: &mut Page) {
    let published = |v: &View| {
        let l = v.row.zone.live.as_ref()?;
        Some((l.published_at, v.versions.get(&l.version)?.clone()))
    };
    p.gauge("cascade_zone_records", "Records of the published version.");
    for (name, v) in all {
        if let Some((_, version)) = published(v) {
            p.line(
                "cascade_zone_records",
                &[("zone", name), ("stage", "published")],
                version.sums().records as f64,
            );
        }
    }
    p.gauge(
        "cascade_zone_size_bytes",
        "Octets of the published version's records, uncompressed.",
    );
    for (name, v) in all {
        if let Some((_, version)) = published(v) {
            p.line(
                "cascade_zone_size_bytes",
                &[("zone", name), ("stage", "published")],
                version.sums().wire as f64,
            );
        }
    }
    p.gauge(
        "cascade_zone_published_timestamp_seconds",
        "When the published version was published.",
    );
    for (name, v) in all {
        if let Some((at, _)) = published(v) {
            p.line(
                "cascade_zone_published_timestamp_seconds",
                &[("zone", name)],
                at.secs() as f64,
            );
        }
    }
    p.gauge(
        "cascade_verify_last_full_timestamp_seconds",
        "Last full verification of the zone.",
    );
    for (name, v) in all {
        if let Some(at) = v.row.reports.last_full_at {
            p.line(
                "cascade_verify_last_full_timestamp_seconds",
                &[("zone", name)],
                at.secs() as f64,
            );
        }
    }
}

fn counters(d: &Daemon, p: &mut Page) {
    let c = &d.counters;
    let list: [(&str, &str, &AtomicU64); 10] = [
        (
            "cascade_signatures_total",
            "Signatures made.",
            &c.signatures,
        ),
        (
            "cascade_verified_signatures_total",
            "Signatures checked by the verification gate.",
            &c.verified_signatures,
        ),
        (
            "cascade_verify_failures_total",
            "Versions refused by the verification gate.",
            &c.verify_refused,
        ),
        ("cascade_load_attempts_total", "Loads of zones.", &c.loads),
        (
            "cascade_load_failures_total",
            "Loads that failed.",
            &c.load_failures,
        ),
        (
            "cascade_zone_publications_total",
            "Versions published.",
            &c.publications,
        ),
        ("cascade_hook_runs_total", "Review hooks run.", &c.hook_runs),
        (
            "cascade_store_errors_total",
            "Writes of state that failed.",
            &c.store_errors,
        ),
        (
            "cascade_audit_entries_total",
            "Entries of the audit log written.",
            &c.audit_entries,
        ),
        (
            "cascade_panics_total",
            "Faults caught; each halts one zone at most.",
            &c.panics,
        ),
    ];
    for (name, help, value) in list {
        p.counter(name, help);
        p.line(name, &[], value.load(Ordering::Relaxed) as f64);
    }
    p.counter(
        "cascade_log_dropped_total",
        "Log lines dropped because their target was too slow.",
    );
    p.line("cascade_log_dropped_total", &[], d.logging.dropped() as f64);
    p.counter(
        "cascade_http_requests_total",
        "Requests to the control API.",
    );
    let http = d.counters.http.lock().clone();
    let mut rows: Vec<_> = http.into_iter().collect();
    rows.sort();
    for ((route, status), n) in rows {
        p.line(
            "cascade_http_requests_total",
            &[("route", route), ("status", &status.to_string())],
            n as f64,
        );
    }
}

fn word(r: Role) -> &'static str {
    match r {
        Role::Publication => "publish",
        Role::LoaderReview => "unsigned",
        Role::SignerReview => "signed",
        Role::NotifyListener => "notify",
    }
}

fn servers(d: &Daemon, p: &mut Page) {
    let stats = d.stats.lock().clone();
    p.counter(
        "cascade_dns_queries_total",
        "DNS messages answered, by transport.",
    );
    for (role, s) in &stats {
        for (transport, n) in [
            ("udp", s.udp_queries.get()),
            ("tcp", s.tcp_queries.get()),
            ("tls", s.tls_queries.get()),
        ] {
            p.line(
                "cascade_dns_queries_total",
                &[("server", word(*role)), ("transport", transport)],
                n as f64,
            );
        }
    }
    p.counter(
        "cascade_dns_responses_total",
        "DNS answers by response code.",
    );
    for (role, s) in &stats {
        for (code, n) in s.rcodes.iter().enumerate().filter(|(_, n)| n.get() > 0) {
            let code = code.to_string();
            p.line(
                "cascade_dns_responses_total",
                &[("server", word(*role)), ("rcode", &code)],
                n.get() as f64,
            );
        }
    }
    p.counter(
        "cascade_updates_total",
        "DNS UPDATE requests for zones that take them, by answer.",
    );
    let publication = stats.iter().filter(|(r, _)| *r == Role::Publication);
    for (result, get) in [
        (
            "taken",
            (|s| s.updates_taken.get()) as fn(&cascade_publisher::Stats) -> u64,
        ),
        ("refused", |s| s.updates_refused.get()),
    ] {
        let n: u64 = publication.clone().map(|(_, s)| get(s)).sum();
        p.line("cascade_updates_total", &[("result", result)], n as f64);
    }
    p.counter("cascade_transfers_total", "Zone transfers by result.");
    for (role, s) in &stats {
        for (result, n) in [
            ("ok", s.transfers_done.get()),
            ("failed", s.transfers_failed.get()),
            ("busy", s.transfers_busy.get()),
        ] {
            p.line(
                "cascade_transfers_total",
                &[("server", word(*role)), ("result", result)],
                n as f64,
            );
        }
    }
    p.counter(
        "cascade_transfers_incremental_total",
        "Zone transfers that sent what has changed, begun.",
    );
    for (role, s) in &stats {
        p.line(
            "cascade_transfers_incremental_total",
            &[("server", word(*role))],
            s.transfers_incremental.get() as f64,
        );
    }
    p.gauge("cascade_transfers_running", "Zone transfers under way.");
    for (role, s) in &stats {
        p.line(
            "cascade_transfers_running",
            &[("server", word(*role))],
            s.transfers_running.get() as f64,
        );
    }
}

/// Metrics in the order in which they were named first, each with all its values together.
#[derive(Default)]
struct Page {
    metrics: Vec<String>,
    places: BTreeMap<String, usize>,
}

impl Page {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        if !self.places.contains_key(name) {
            self.places.insert(name.to_owned(), self.metrics.len());
            let head = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
            self.metrics.push(head);
        }
    }

    fn text(self) -> String {
        let all = self.metrics.iter().map(String::len).sum();
        let mut text = String::with_capacity(all);
        // One after the other goes, so that not everything is there twice.
        for metric in self.metrics {
            text.push_str(&metric);
        }
        text
    }

    fn gauge(&mut self, name: &str, help: &str) {
        self.head(name, help, "gauge");
    }

    fn counter(&mut self, name: &str, help: &str) {
        self.head(name, help, "counter");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let metric = self.places.get(name).and_then(|i| self.metrics.get_mut(*i));
        let Some(out) = metric else {
            debug_assert!(false, "{name} has no head");
            return;
        };
        out.push_str(name);
        if !labels.is_empty() {
            out.push('{');
            for (i, (k, v)) in labels.iter().enumerate() {
                let comma = if i > 0 { "," } else { "" };
                // Writing to a string cannot fail.
                let _ = write!(out, "{comma}{k}=\"{}\"", escape(v));
            }
            out.push('}');
        }
        let _ = writeln!(out, " {value}");
    }
}

/// Label values: backslash, quote and line feed are escaped.
fn escape(v: &str) -> String {
    v.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_escaped() {
        let mut p = Page::default();
        p.gauge("a", "Help.");
        p.line("a", &[("zone", "x\"\\046")], 1.5);
        assert_eq!(
            p.text(),
            "# HELP a Help.\n# TYPE a gauge\na{zone=\"x\\\"\\\\046\"} 1.5\n"
        );
    }

    #[test]
    fn values_of_a_metric_stand_together() {
        let mut p = Page::default();
        for zone in ["x", "y"] {
            p.gauge("a", "Help.");
            p.line("a", &[("zone", zone)], 1.0);
            p.counter("b_total", "More.");
            p.line("b_total", &[("zone", zone)], 2.0);
        }
        let wanted = "# HELP a Help.\n# TYPE a gauge\na{zone=\"x\"} 1\na{zone=\"y\"} 1\n\
            # HELP b_total More.\n# TYPE b_total counter\nb_total{zone=\"x\"} 2\nb_total{zone=\"y\"} 2\n";
        assert_eq!(p.text(), wanted);
    }
}
