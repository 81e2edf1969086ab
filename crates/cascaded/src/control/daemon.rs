//! The daemon as a whole: what it is, what it serves, whether it is well.

use std::sync::Arc;

use cascade_api::common::{Acts, Level, Subject, SubjectKind};
use cascade_api::daemon::{
    Addresses, Check, ExpiringKey, HaltedZone, Health, HsmTrouble, Info, QueueItem, QueueState,
    Status, StatusKeys, ZoneCounts, ZoneKeys,
};
use cascade_api::zones::ZoneState;
use cascade_pipeline::{AlertKey, Severity};
use cascade_policy::RequireSync;
use cascade_time::Timestamp;

use crate::daemon::Daemon;
use crate::hsm::device::{Condition, Device};
use crate::keys::report;
use crate::status::{self, zone_state};
use crate::zone::{View, ZoneHandle};

/// Keys listed as first to expire.
const FIRST: usize = 5;

pub fn info(d: &Daemon) -> Info {
    Info {
        version: env!("CARGO_PKG_VERSION").into(),
        commit: option_env!("CASCADE_COMMIT").map(str::to_string),
        api: cascade_api::API_VERSION.into(),
        started_at: d.started_at,
        schema: cascade_archive::state::SCHEMA,
        features: Vec::new(),
    }
}

pub fn status(d: &Daemon) -> Status {
    let bound = d.bound.load();
    let text = |l: &[std::net::SocketAddr]| l.iter().map(ToString::to_string).collect();
    let zones = d.zone_list();
    let mut counts = ZoneCounts {
        configured: zones.len() as u64,
        ..ZoneCounts::default()
    };
    let mut queue = Vec::new();
    for z in &zones {
        // Nothing is signed in a zone at rest, and it is not halted.
        if let Some(published) = z.line.rests_published() {
            counts.published += u64::from(published);
            continue;
        }
        let view = z.view();
        counts.published += u64::from(view.row.zone.live.is_some());
        if zone_state(&view) == ZoneState::Halted {
            let halted = status::zone(d, z).halted;
            counts.halted.push(HaltedZone {
                zone: z.name.clone(),
                reason: halted.map_or_else(String::new, |h| h.reason),
            });
        }
        queue.extend(queued(z, &view));
    }
    Status {
        addresses: Addresses {
            loaded_review: text(&bound.loader_review),
            signed_review: text(&bound.signer_review),
            server: text(&bound.publication),
        },
        zones: counts,
        queue,
        hsms: troubled(d),
    }
}

fn troubled(d: &Daemon) -> Vec<HsmTrouble> {
    let trouble = |device: Arc<Device>| {
        let condition = device.condition();
        let since = match condition {
            Condition::Up => return None,
            Condition::Connecting => None,
            Condition::Away { since, .. } | Condition::Quarantined { since } => Some(since),
        };
        Some(HsmTrouble {
            hsm: device.id.clone(),
            state: condition.word().into(),
            since,
        })
    };
    d.hsms.devices().into_iter().filter_map(trouble).collect()
}

/// HSMs that cannot be used, and the zones that miss them.
fn hsm_checks(d: &Daemon, now: Timestamp, out: &mut Vec<Check>) {
    for device in d.hsms.devices() {
        let (level, since, text) = match device.condition() {
            Condition::Away { since, why } => (Level::Warning, since, format!("is away: {why}")),
            Condition::Quarantined { since } => (
                Level::Critical,
                since,
                "is quarantined for wrong signatures; none of them was published".into(),
            ),
            Condition::Up | Condition::Connecting => continue,
        };
        out.push(Check {
            check: "hsm".into(),
            subject: Some(Subject {
                kind: SubjectKind::Hsm,
                name: device.id.clone(),
            }),
            level,
            since: Some(since),
            acts: Some(Acts::Token),
            detail: format!("HSM '{}' {text}", device.id),
            action: Some(format!("cascade hsm test {}", device.id)),
            last_run: Some(now),
        });
    }
    for z in d.zone_list() {
        let Some(m) = crate::hsm::events::missed(d, &z.view()) else {
            continue;
        };
        let level = match (m.until, m.used) {
            (Some(_), 80..) => Level::Critical,
            (Some(_), 50..) => Level::Warning,
            // Nothing is served yet, or there is time: the HSM's own check says enough.
            _ => continue,
        };
        out.push(Check {
            check: "runway".into(),
            subject: Some(Subject {
                kind: SubjectKind::Zone,
                name: z.name.clone(),
            }),
            level,
            since: Some(m.since),
            acts: Some(Acts::Token),
            detail: format!(
                "{} % of the time to repair it has passed: {}",
                m.used,
                m.text()
            ),
            action: Some(format!("cascade why {}", z.name)),
            last_run: Some(now),
        });
    }
}

fn queued(z: &ZoneHandle, view: &View) -> Option<QueueItem> {
    let p = view.signing.as_ref()?;
    let (done, total) = p.units();
    let waiting = p.stage() == cascade_signer::Stage::Waiting;
    Some(QueueItem {
        state: if waiting {
            QueueState::Waiting
        } else {
            QueueState::Running
        },
        since: view.row.reports.sign.as_ref()?.requested_at,
        zone: z.name.clone(),
        action: if waiting {
            "waiting".into()
        } else {
            "signing".into()
        },
        done: (total > 0).then(|| done as f64 / total as f64),
    })
}

pub fn status_keys(d: &Daemon) -> StatusKeys {
    let now = d.now();
    let mut expiring = Vec::new();
    let mut zones = Vec::new();
    for z in d.zone_list() {
        let view = z.view();
        let rules = d.key_policy(&view.row.zone.settings.policy);
        let row = &view.row.keys;
        let keys = report::keys(row, rules.as_ref(), false, now);
        expiring.extend(keys.iter().filter_map(|k| {
            let at = k.expires_at?;
            Some(ExpiringKey {
                zone: z.name.clone(),
                key: k.reference.clone(),
                left_secs: now.secs_until(at),
            })
        }));
        zones.push(ZoneKeys {
            zone: z.name.clone(),
            keys,
            rolls: row
                .zone
                .rolls
                .iter()
                .map(|r| report::kind(r.class()))
                .collect(),
        });
    }
    expiring.sort_by_key(|e| e.left_secs);
    expiring.truncate(FIRST);
    StatusKeys {
        first_to_expire: expiring,
        zones,
    }
}

/// Derived from outcomes: a zone that should be served and is not is critical.
pub fn health(d: &Daemon) -> Health {
    let now = d.now();
    let mut checks = Vec::new();
    for z in d.zone_list() {
        let view = z.view();
        zone_checks(&z, &view, now, &mut checks);
        key_checks(d, &z, &view, now, &mut checks);
        secondary_checks(d, &z, &view, now, &mut checks);
    }
    let failed = d
        .counters
        .store_errors
        .load(std::sync::atomic::Ordering::Relaxed);
    if failed > 0 {
        checks.push(Check {
            check: "storage".into(),
            subject: None,
            level: Level::Warning,
            since: None,
            acts: Some(Acts::Storage),
            detail: format!(
                "{failed} writes of state in {} have failed since the start",
                d.config.config.state_dir
            ),
            action: Some(format!(
                "df -h {}; journalctl -u cascaded",
                d.config.config.state_dir
            )),
            last_run: Some(now),
        });
    }
    clock_checks(d, now, &mut checks);
    hsm_checks(d, now, &mut checks);
    config_checks(d, &mut checks);
    certificate_checks(d, now, &mut checks);
    let level = checks.iter().map(|c| c.level).max().unwrap_or(Level::Ok);
    Health {
        healthy: level <= Level::Info,
        level,
        at: now,
        checks,
    }
}

/// A clock that nobody steers; zones tell by themselves when it holds them.
fn clock_checks(d: &Daemon, now: Timestamp, out: &mut Vec<Check>) {
    let level = match d.conf().config.clock.require_sync {
        RequireSync::Off => return,
        RequireSync::Warn => Level::Warning,
        RequireSync::Hold => Level::Critical,
    };
    let Some(lost) = d.clock_sync.lost() else {
        return;
    };
    out.push(Check {
        check: "clock".into(),
        subject: None,
        level,
        since: Some(lost.since),
        acts: Some(Acts::Operator),
        detail: lost.text().into(),
        action: Some("timedatectl; systemctl status chrony systemd-timesyncd".into()),
        last_run: Some(now),
    });
}

/// Certificates that end soon, or have ended.
fn certificate_checks(d: &Daemon, now: Timestamp, out: &mut Vec<Check>) {
    for c in d.certificates.all() {
        let Some(detail) = c.trouble(now) else {
            continue;
        };
        out.push(Check {
            check: "tls-expiry".into(),
            subject: Some(Subject {
                kind: SubjectKind::File,
                name: match c.file.is_empty() {
                    true => c.usage.clone(),
                    false => c.file.clone(),
                },
            }),
            level: match c.is_over(now) {
                true => Level::Critical,
                false => Level::Warning,
            },
            since: None,
            acts: Some(Acts::Operator),
            detail,
            action: Some(c.action),
            last_run: Some(now),
        });
    }
}

/// What the last SIGHUP left open.
fn config_checks(d: &Daemon, out: &mut Vec<Check>) {
    let reload = d.reload.lock();
    let mut add = |level, detail: String, action: String| {
        out.push(Check {
            check: "config-stale".into(),
            subject: Some(Subject {
                kind: SubjectKind::File,
                name: d.config.file.clone(),
            }),
            level,
            since: reload.at,
            acts: Some(Acts::Operator),
            detail,
            action: Some(action),
            last_run: reload.at,
        });
    };
    if let Some(error) = &reload.error {
        let first = error.lines().next().unwrap_or_default();
        add(
            Level::Warning,
            format!("the configuration was not taken over: {first}"),
            format!(
                "cascaded --check-config --config {}; then: systemctl reload cascaded",
                d.config.file
            ),
        );
    }
    if !reload.waiting.is_empty() {
        add(
            Level::Info,
            format!(
                "these keys of {} wait for a restart: {}",
                d.config.file,
                reload.waiting.join(", ")
            ),
            "systemctl restart cascaded".into(),
        );
    }
}

/// Who can end the cause of an alert.
pub fn acts(key: AlertKey) -> Acts {
    match key {
        AlertKey::Source | AlertKey::SourceExpired => Acts::Source,
        AlertKey::Storage => Acts::Storage,
        _ => Acts::Operator,
    }
}

fn key_checks(
    d: &Daemon,
    z: &ZoneHandle,
    view: &View,
    now: cascade_time::Timestamp,
    out: &mut Vec<Check>,
) {
    use cascade_keys::Alert;
    for a in super::keyset::alerts(d, view, now) {
        let (check, acts, since) = match &a {
            Alert::ParentLate { since } => ("ds-wait", Acts::Parent, Some(*since)),
            Alert::RollTooLong { .. } => ("roll", Acts::Operator, None),
            _ => ("ds", Acts::Parent, None),
        };
        out.push(Check {
            check: check.into(),
            subject: Some(Subject {
                kind: SubjectKind::Zone,
                name: z.name.clone(),
            }),
            level: match a.is_critical() {
                true => Level::Critical,
                false => Level::Warning,
            },
            since,
            acts: Some(acts),
            detail: a.text(),
            action: Some(format!("cascade keyset {} get ds", z.name)),
            last_run: Some(now),
        });
    }
}

fn secondary_checks(
    d: &Daemon,
    z: &ZoneHandle,
    view: &View,
    now: cascade_time::Timestamp,
    out: &mut Vec<Check>,
) {
    for t in crate::secondaries::troubles(d, z, view, now) {
        out.push(Check {
            check: t.check.into(),
            subject: Some(Subject {
                kind: SubjectKind::Zone,
                name: z.name.clone(),
            }),
            level: match t.critical {
                true => Level::Critical,
                false => Level::Warning,
            },
            since: t.since,
            acts: Some(Acts::Operator),
            detail: t.detail,
            action: Some(format!("cascade zone status --detailed {}", z.name)),
            last_run: Some(now),
        });
    }
}

fn zone_checks(z: &ZoneHandle, view: &View, now: cascade_time::Timestamp, out: &mut Vec<Check>) {
    let subject = Some(Subject {
        kind: SubjectKind::Zone,
        name: z.name.clone(),
    });
    let pz = &view.row.zone;
    for a in pz.alerts.values() {
        let check = match a.key {
            AlertKey::Runway => "runway",
            AlertKey::Held
            | AlertKey::Review
            | AlertKey::UpkeepReview
            | AlertKey::Rejected
            | AlertKey::Refused => "halted",
            AlertKey::Source | AlertKey::SourceExpired => "source-expiry",
            AlertKey::Storage => "storage",
            AlertKey::Clock => "clock",
            AlertKey::DespiteVerification => "verification",
            AlertKey::SecondaryAhead => "secondary-lag",
            _ => "zone",
        };
        out.push(Check {
            check: check.into(),
            subject: subject.clone(),
            level: match a.severity {
                Severity::Notice => Level::Info,
                Severity::Warning => Level::Warning,
                Severity::Critical => Level::Critical,
            },
            since: Some(a.since),
            acts: Some(acts(a.key)),
            detail: a.text.clone(),
            action: Some(format!("cascade why {}", z.name)),
            last_run: Some(now),
        });
    }
    let serving = pz.live.is_some() && !pz.is_expired();
    if let Some(bug) = &view.bug {
        out.push(Check {
            check: "halted".into(),
            subject: subject.clone(),
            level: Level::Critical,
            since: None,
            acts: Some(Acts::Cascade),
            detail: bug.clone(),
            action: Some("journalctl -u cascaded; systemctl restart cascaded".into()),
            last_run: Some(now),
        });
    }
    if !serving && pz.alerts.is_empty() && view.keys_wait.is_some() {
        out.push(Check {
            check: "serving".into(),
            subject,
            level: Level::Warning,
            since: Some(view.row.added_at),
            acts: Some(Acts::Operator),
            detail: format!(
                "not published yet; waits for keys: {}",
                view.keys_wait.clone().unwrap_or_default()
            ),
            action: Some(format!("cascade why {}", z.name)),
            last_run: Some(now),
        });
    }
}
