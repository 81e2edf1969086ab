//! Transfers out, and what the watch knows of secondaries.

use std::sync::Arc;

use cascade_publisher::Stats;

use super::{Page, word};
use crate::daemon::Daemon;

/// A number of one role.
type Read = fn(&Stats) -> f64;

/// Counters of transfers beside their results.
const COUNTERS: [(&str, &str, Read); 5] = [
    (
        "cascade_transfer_octets_total",
        "Octets of zone transfers sent.",
        |s| s.transfer_octets.get() as f64,
    ),
    (
        "cascade_transfer_records_total",
        "Records of zone transfers sent.",
        |s| s.transfer_records.get() as f64,
    ),
    (
        "cascade_transfer_seconds_total",
        "Seconds that zone transfers took.",
        |s| s.transfer_millis.get() as f64 / 1000.0,
    ),
    (
        "cascade_transfers_refused_total",
        "Questions refused by an access list, transfers among them.",
        |s| s.acl_refused.get() as f64,
    ),
    (
        "cascade_tls_handshakes_failed_total",
        "TLS handshakes that did not end in a connection.",
        |s| s.tls_failed.get() as f64,
    ),
];

pub(super) fn transfers(d: &Daemon, p: &mut Page) {
    let stats: Vec<(&str, Arc<Stats>)> = {
        let all = d.stats.lock();
        all.iter().map(|(r, s)| (word(*r), s.clone())).collect()
    };
    for (name, help, read) in COUNTERS {
        p.counter(name, help);
        for (server, s) in &stats {
            p.line(name, &[("server", *server)], read(s));
        }
    }
    p.gauge(
        "cascade_transfers_waiting",
        "Zone transfers that wait for their turn.",
    );
    for (server, s) in &stats {
        let n = s.transfers_waiting.get() as f64;
        p.line("cascade_transfers_waiting", &[("server", *server)], n);
    }
}

pub(super) fn secondaries(d: &Daemon, p: &mut Page) {
    let now = d.now();
    let mut all = Vec::new();
    for z in d.zone_list() {
        for (server, seen) in d.secondaries.of(z.id) {
            let sampled = d.known.sampled(z.id, server);
            all.push((z.name.clone(), server.to_string(), seen, sampled));
        }
    }
    p.gauge(
        "cascade_secondary_serial",
        "Serial that a secondary serves.",
    );
    for (zone, server, seen, _) in &all {
        if let Some(serial) = seen.serial {
            let labels = [("zone", zone.as_str()), ("server", server.as_str())];
            p.line("cascade_secondary_serial", &labels, f64::from(serial.0));
        }
    }
    p.gauge(
        "cascade_secondary_lag_seconds",
        "For how long a secondary has lacked the published version.",
    );
    for (zone, server, seen, _) in &all {
        if seen.serial.is_some() {
            let lag = seen.behind_since.map_or(0, |at| now.since(at).as_secs());
            let labels = [("zone", zone.as_str()), ("server", server.as_str())];
            p.line("cascade_secondary_lag_seconds", &labels, lag as f64);
        }
    }
    p.gauge(
        "cascade_secondary_up",
        "1 when a secondary answers with a serial.",
    );
    for (zone, server, seen, _) in &all {
        let labels = [("zone", zone.as_str()), ("server", server.as_str())];
        p.line(
            "cascade_secondary_up",
            &labels,
            f64::from(u8::from(seen.up)),
        );
    }
    p.gauge(
        "cascade_secondary_bogus",
        "1 when the last sample of a secondary was not what we published.",
    );
    for (zone, server, _, sampled) in &all {
        if let Some(s) = sampled {
            let labels = [("zone", zone.as_str()), ("server", server.as_str())];
            let bogus = f64::from(u8::from(s.bogus.is_some()));
            p.line("cascade_secondary_bogus", &labels, bogus);
        }
    }
}
