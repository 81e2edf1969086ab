//! Keys, rolls and the parent on the metrics page.

use std::sync::Arc;

use cascade_keys::{Delegation, Key, Roll, What, Whom, waiting};
use cascade_time::Timestamp;

use super::Page;
use crate::daemon::Daemon;
use crate::zone::View;

pub fn keys(d: &Daemon, all: &[(String, Arc<View>)], p: &mut Page, now: Timestamp) {
    let rules = |v: &View| d.key_policy(&v.row.zone.settings.policy);
    p.gauge("cascade_key_state", "1 for the present state of the key.");
    for (zone, v) in all {
        let Some(rules) = rules(v) else { continue };
        for k in kept(v) {
            let state = v.row.keys.zone.key_state(k, &rules, now);
            let state = format!("{state}").to_lowercase();
            let (tag, role) = names(k);
            let algorithm = k.algorithm.to_string();
            let labels = [
                ("zone", zone.as_str()),
                ("tag", &tag),
                ("role", &role),
                ("algorithm", &algorithm),
                ("state", &state),
            ];
            p.line("cascade_key_state", &labels, 1.0);
        }
    }
    p.gauge(
        "cascade_key_expires_timestamp_seconds",
        "When the key is due to be replaced.",
    );
    for (zone, v) in all {
        let Some(rules) = rules(v) else { continue };
        for k in kept(v).filter(|k| k.in_service()) {
            let (tag, role) = names(k);
            let labels = [("zone", zone.as_str()), ("tag", &tag), ("role", &role)];
            if let Some(at) = v.row.keys.zone.expires_at(k, &rules) {
                p.line(
                    "cascade_key_expires_timestamp_seconds",
                    &labels,
                    at.secs() as f64,
                );
            }
        }
    }
    let waits: [(&str, &str, fn(&Roll, Timestamp) -> f64); 2] = [
        (
            "cascade_roll_active",
            "1 while the roll runs, by what it waits for.",
            |_, _| 1.0,
        ),
        (
            "cascade_roll_step_wait_seconds",
            "How long the present step of the roll has lasted.",
            |r, now| r.since.secs_until(now) as f64,
        ),
    ];
    for (name, help, value) in waits {
        p.gauge(name, help);
        for (zone, v) in all {
            let Some(rules) = rules(v) else { continue };
            for r in &v.row.keys.zone.rolls {
                let w = waiting(&v.row.keys.zone, &rules, &v.key_facts, r, now);
                let labels = [
                    ("zone", zone.as_str()),
                    ("kind", r.class().word()),
                    ("waits_for", whom(&w.whom, r)),
                ];
                p.line(name, &labels, value(r, now));
            }
        }
    }
    parent(all, p, now);
}

fn parent(all: &[(String, Arc<View>)], p: &mut Page, now: Timestamp) {
    let led = |v: &View| {
        let d = v.row.keys.zone.parent.delegation;
        matches!(d, Delegation::Ours | Delegation::Linked)
    };
    p.gauge(
        "cascade_ds_wait_seconds",
        "How long the parent has not followed the wanted DS set; 0 when it has.",
    );
    for (zone, v) in all.iter().filter(|(_, v)| led(v)) {
        let parent = &v.row.keys.zone.parent;
        let wait = match (parent.wanted_at, parent.followed_at) {
            (Some(at), None) => at.secs_until(now).max(0),
            _ => 0,
        };
        p.line("cascade_ds_wait_seconds", &[("zone", zone)], wait as f64);
    }
    p.gauge(
        "cascade_ds_matches",
        "1 when the DS RRset at the parent was last seen as wanted.",
    );
    for (zone, v) in all.iter().filter(|(_, v)| led(v)) {
        let fits = v.row.keys.zone.parent.followed_at.is_some();
        p.line(
            "cascade_ds_matches",
            &[("zone", zone)],
            f64::from(u8::from(fits)),
        );
    }
}

/// Keys that have not gone to the trash.
fn kept(v: &View) -> impl Iterator<Item = &Key> {
    let keys = v.row.keys.zone.keys.iter();
    keys.filter(|k| k.times.trashed_at.is_none() && k.times.destroyed_at.is_none())
}

fn names(k: &Key) -> (String, String) {
    (k.tag().to_string(), k.role.to_string().to_lowercase())
}

fn whom(whom: &Whom, roll: &Roll) -> &'static str {
    match whom {
        Whom::Servers => {
            let seen = roll.row().map_or(&[][..], |r| r.seen);
            let open = seen.iter().find(|s| !roll.is_met(**s));
            match open.map(|s| What::of(*s)) {
                Some(What::Dnskey) => "dnskey",
                _ => "rrsig",
            }
        }
        Whom::Signer => "rrsig",
        Whom::Parent => "ds",
        Whom::Caches => "cache",
        Whom::Token(_) => "hsm",
        Whom::Backup | Whom::Operator => "operator",
    }
}
