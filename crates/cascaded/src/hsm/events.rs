//! What the daemon makes of the events of its HSMs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cascade_archive::{AuditEntry, Change, Table};
use cascade_crypto::StoredKey;
use cascade_keys::Key;
use cascade_time::Timestamp;
use tokio::sync::mpsc;

use super::device::{Condition, Event};
use super::row::HsmRow;
use crate::daemon::Daemon;
use crate::keys::KeysRow;
use crate::stores::hsm_of;
use crate::zone::{Message, View, ZoneHandle};

/// Between looks at how long signatures still hold.
const LOOK: Duration = Duration::from_secs(30);
/// Shares of the time that signatures held when the HSM left, in percent.
const SHARES: [u64; 2] = [50, 80];

/// Runs as long as the daemon.
pub async fn run(d: Arc<Daemon>, mut events: mpsc::UnboundedReceiver<Event>) {
    let mut told: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => take(&d, event).await,
                None => return,
            },
            _ = look.tick() => runways(&d, &mut told),
        }
    }
}

async fn take(d: &Arc<Daemon>, event: Event) {
    match event {
        Event::Back { hsm } => {
            tracing::info!(hsm = %hsm, "HSM '{hsm}' can be used");
            wake(d, &hsm);
        }
        Event::Away { hsm, why } => {
            tracing::warn!(hsm = %hsm, "HSM '{hsm}' is away: {why}; what is signed stays served");
        }
        Event::Quarantined { hsm, wrong } => {
            tracing::error!(critical = true, hsm = %hsm, "HSM '{hsm}' is quarantined: {wrong} of its signatures were wrong; none was published. Try: cascade hsm test {hsm}");
            audit(d, "hsm.quarantine", &hsm);
        }
        Event::Released { hsm } => {
            tracing::info!(hsm = %hsm, "HSM '{hsm}' is out of quarantine");
            audit(d, "hsm.release", &hsm);
            wake(d, &hsm);
        }
        Event::Undestroyed { hsm, objects } => {
            d.hsms.add_pending(&hsm, &objects);
            let row = d.hsms.note(&hsm, |row| row.undestroyed.extend(objects));
            store(d, row).await;
        }
        Event::Destroyed { hsm, objects } => {
            let row = d
                .hsms
                .note(&hsm, |row| row.undestroyed.retain(|o| !objects.contains(o)));
            store(d, row).await;
        }
        Event::FirstSeen { hsm, key } => {
            let row = d.hsms.note(&hsm, |row| {
                if row.first_seen.is_none() {
                    row.set_first_seen(key);
                }
            });
            store(d, row).await;
        }
    }
}

fn audit(d: &Daemon, action: &str, hsm: &str) {
    d.audit_soon(AuditEntry {
        actor: "cascade".into(),
        action: action.into(),
        subject: hsm.into(),
        result: "ok".into(),
        ..AuditEntry::default()
    });
}

async fn store(d: &Arc<Daemon>, row: Option<HsmRow>) {
    let Some(row) = row else { return };
    let d = d.clone();
    let done = tokio::task::spawn_blocking(move || {
        let change = Change::put(Table::Hsms, &row.add.hsm, &row)?;
        d.state.commit(vec![change])
    });
    if let Ok(Err(e)) = done.await {
        tracing::error!("state of an HSM could not be written: {e}");
    }
}

/// Zones that wait for this HSM go on.
pub fn wake(d: &Daemon, hsm: &str) {
    for z in d.zone_list() {
        if uses(d, &z.view(), hsm) {
            z.tell_in_turn(Message::KeyStoreBack);
        }
    }
}

/// The zone has keys in this HSM, or its policy wants new ones there.
pub fn uses(d: &Daemon, view: &View, hsm: &str) -> bool {
    let has = keys_in(&view.row.keys, hsm).next().is_some();
    has || d
        .policy(&view.row.zone.settings.policy)
        .is_some_and(|p| names(&p.file.policy, hsm))
}

/// Keys of a zone that are in this HSM and not destroyed.
pub fn keys_in<'a>(
    row: &'a KeysRow,
    hsm: &'a str,
) -> impl Iterator<Item = (&'a Key, StoredKey)> + 'a {
    row.zone
        .keys
        .iter()
        .filter(|k| k.times.destroyed_at.is_none())
        .filter_map(|k| Some((k, row.stored(k)?)))
        .filter(move |(_, stored)| hsm_of(&stored.reference) == Some(hsm))
}

/// The policy makes keys in this HSM.
pub fn names(policy: &cascade_policy::Policy, hsm: &str) -> bool {
    let g = &policy.key_manager.generation;
    [g.ksk_home(), g.zsk_home()].contains(&Some(hsm))
}

/// An HSM that a zone needs and cannot use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    pub hsm: String,
    pub since: Timestamp,
    pub why: String,
    /// Until when the signatures that are served hold.
    pub until: Option<Timestamp>,
    /// Percent of the time between leaving and expiry that has passed.
    pub used: u64,
}

/// The HSM that this zone misses, if any; the one that left first.
pub fn missed(d: &Daemon, view: &View) -> Option<Missed> {
    let now = d.now();
    let mut all: Vec<Missed> = Vec::new();
    for device in d.hsms.devices() {
        let (since, why) = match device.condition() {
            Condition::Away { since, why } => (since, format!("is away: {why}")),
            Condition::Quarantined { since } => {
                (since, "is quarantined for wrong signatures".to_string())
            }
            Condition::Up | Condition::Connecting => continue,
        };
        if !uses(d, view, &device.id) {
            continue;
        }
        let until = view.row.zone.live.as_ref().map(|l| l.min_exp);
        let used = until.map_or(0, |until| {
            let whole = until.since(since).as_secs().max(1);
            now.since(since).as_secs().saturating_mul(100) / whole
        });
        all.push(Missed {
            hsm: device.id.clone(),
            since,
            why,
            until,
            used,
        });
    }
    all.into_iter().min_by_key(|m| m.since)
}

impl Missed {
    /// One line for people.
    pub fn text(&self) -> String {
        let holds = match self.until {
            Some(until) => format!("; the signatures served hold until {}", until.to_human()),
            None => String::new(),
        };
        format!(
            "HSM '{}' {} (since {}){holds}",
            self.hsm,
            self.why,
            self.since.to_human()
        )
    }
}

/// Tells once at each share of the time that is left.
fn runways(d: &Daemon, told: &mut BTreeMap<(String, String), u64>) {
    let mut seen = Vec::new();
    for z in d.zone_list() {
        let view = z.view();
        let Some(missed) = missed(d, &view) else {
            continue;
        };
        let key = (z.name.clone(), missed.hsm.clone());
        let share = SHARES.into_iter().rev().find(|s| missed.used >= *s);
        if let (Some(share), true) = (share, missed.until.is_some()) {
            let before = told.insert(key.clone(), share).unwrap_or(0);
            if share > before {
                shout(&z, share, &missed);
            }
        }
        seen.push(key);
    }
    told.retain(|key, _| seen.contains(key));
}

fn shout(z: &ZoneHandle, share: u64, missed: &Missed) {
    let text = missed.text();
    match share {
        80.. => {
            tracing::error!(critical = true, zone = %z.name, hsm = %missed.hsm, "{share} % of the time to repair it has passed: {text}");
        }
        _ => {
            tracing::warn!(zone = %z.name, hsm = %missed.hsm, "{share} % of the time to repair it has passed: {text}");
        }
    }
}
