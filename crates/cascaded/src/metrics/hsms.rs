//! HSMs on the metrics page.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Page;
use crate::daemon::Daemon;
use crate::hsm::device::{Condition, Device};
use crate::hsm::events::missed;
use crate::zone::View;
use cascade_kmip::link::{InstanceStatus, Reach, Statistics};

/// A metric of each instance: name, help, whether it is a counter, value.
type PerInstance = (
    &'static str,
    &'static str,
    bool,
    fn(&Device, &InstanceStatus, &Statistics) -> f64,
);

const INSTANCES: &[PerInstance] = &[
    (
        "cascade_hsm_up",
        "1 if the instance can be reached.",
        false,
        |_, i, _| flag(i.reach == Reach::Up),
    ),
    (
        "cascade_hsm_quarantined",
        "1 if it gets no ordinary work because its signatures were wrong.",
        false,
        |d, i, _| flag(i.quarantined || matches!(d.condition(), Condition::Quarantined { .. })),
    ),
    (
        "cascade_hsm_in_flight",
        "Requests under way.",
        false,
        |_, _, s| s.in_flight as f64,
    ),
    (
        "cascade_hsm_requests_total",
        "Requests answered.",
        true,
        |_, _, s| s.requests as f64,
    ),
    (
        "cascade_hsm_request_seconds_total",
        "Time from request to answer, summed up.",
        true,
        |_, _, s| s.waited.as_secs_f64(),
    ),
    (
        "cascade_hsm_operations_total",
        "Operations answered; a request has one or more.",
        true,
        |_, _, s| s.operations as f64,
    ),
    (
        "cascade_hsm_errors_total",
        "Operations that failed.",
        true,
        |_, _, s| s.failures as f64,
    ),
];

pub(super) fn hsms(d: &Daemon, p: &mut Page) {
    let devices = d.hsms.devices();
    for (name, help, is_counter, value) in INSTANCES {
        match is_counter {
            true => p.counter(name, help),
            false => p.gauge(name, help),
        }
        for device in &devices {
            for (nth, i) in device.instances().iter().enumerate() {
                let statistics = device.pool().statistics(nth);
                let endpoint = i.endpoint.to_string();
                let labels = [("hsm", device.id.as_str()), ("instance", endpoint.as_str())];
                p.line(name, &labels, value(device, i, &statistics));
            }
        }
    }
    let mut whole = |name: &str, help: &str, value: &dyn Fn(&Device) -> Option<f64>| {
        match name.ends_with("_total") {
            true => p.counter(name, help),
            false => p.gauge(name, help),
        }
        for device in &devices {
            if let Some(value) = value(device) {
                p.line(name, &[("hsm", &device.id)], value);
            }
        }
    };
    let load = |n: &std::sync::atomic::AtomicU64| Some(n.load(Ordering::Relaxed) as f64);
    whole(
        "cascade_hsm_signatures_total",
        "Signatures that verified.",
        &|d| load(&d.counts.signed),
    );
    whole(
        "cascade_hsm_wrong_signatures_total",
        "Signatures that did not verify; none was used.",
        &|d| load(&d.counts.wrong),
    );
    whole(
        "cascade_key_proof_failures_total",
        "Keys that did not make the signatures of their public halves.",
        &|d| load(&d.counts.unproved),
    );
    whole(
        "cascade_key_proof_timestamp_seconds",
        "When a key was proven last.",
        &|d| d.last_proof().map(|at| at.secs() as f64),
    );
}

pub fn zones(d: &Daemon, all: &[(String, Arc<View>)], p: &mut Page) {
    p.gauge(
        "cascade_zone_hsm_missed_ratio",
        "Share of the time between an HSM's leaving and the first expiry that has passed.",
    );
    for (name, v) in all {
        if let Some(m) = missed(d, v).filter(|m| m.until.is_some()) {
            let labels = [("zone", name.as_str()), ("hsm", m.hsm.as_str())];
            p.line(
                "cascade_zone_hsm_missed_ratio",
                &labels,
                m.used as f64 / 100.0,
            );
        }
    }
}

fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}
