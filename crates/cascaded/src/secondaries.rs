//! What secondaries show, looked at more closely than their serial: samples of their answers, lags
//! that matter, serials that are not ours, and the canary that goes first.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cascade_pipeline::Event;
use cascade_policy::{SerialPolicy, Target};
use cascade_publisher::notify::{self, NotifyCommand};
use cascade_publisher::watch::Seen;
use cascade_time::Timestamp;
use cascade_zone::{Serial, ZoneId, ZoneVersion};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::daemon::{Daemon, random};
use crate::looks::Asker;
use crate::looks::sample::{self, Sample};
use crate::zone::{Message, View, ZoneHandle};

/// Between two samples of one secondary.
const SAMPLE_EVERY: Duration = Duration::from_secs(3600);
/// How often it is looked which are due.
const TICK: Duration = Duration::from_secs(5);
/// Samples at the same time.
const AT_ONCE: usize = 8;

/// The last sample of one secondary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    pub at: Timestamp,
    pub serial: Serial,
    /// What it showed that was not published.
    pub bogus: Option<String>,
}

/// How far the canary of a zone has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    pub server: SocketAddr,
    pub serial: Serial,
    pub since: Timestamp,
    pub stage: CanaryStage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CanaryStage {
    /// It does not have the serial yet.
    Waits,
    /// It answers as it should; the others are told then.
    Holds(Timestamp),
    /// The others are not told of this version.
    Failed(String),
}

/// What is known beside the watch's table.
#[derive(Debug, Default)]
pub struct Secondaries {
    samples: Mutex<HashMap<(ZoneId, SocketAddr), Sampled>>,
    canaries: Mutex<HashMap<ZoneId, Canary>>,
}

impl Secondaries {
    pub fn sampled(&self, zone: ZoneId, server: SocketAddr) -> Option<Sampled> {
        self.samples.lock().get(&(zone, server)).cloned()
    }

    pub fn canary(&self, zone: ZoneId) -> Option<Canary> {
        self.canaries.lock().get(&zone).cloned()
    }

    fn set_canary(&self, zone: ZoneId, canary: Option<Canary>) {
        let mut all = self.canaries.lock();
        match canary {
            Some(c) => drop(all.insert(zone, c)),
            None => drop(all.remove(&zone)),
        }
    }

    /// The zone is gone.
    pub fn forget(&self, zone: ZoneId) {
        self.samples.lock().retain(|(z, _), _| *z != zone);
        self.set_canary(zone, None);
    }
}

/// A secondary that has been behind for longer than the policy likes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    pub server: SocketAddr,
    pub serial: Serial,
    pub since: Timestamp,
    /// The signatures that it serves are about to expire.
    pub critical: bool,
}

/// Secondaries of a zone that lag (`health.secondary-lag`).
pub fn lagging(d: &Daemon, z: &ZoneHandle, view: &View, now: Timestamp) -> Vec<Lag> {
    let zone = &view.row.zone;
    let Some(policy) = d.policy(&zone.settings.policy) else {
        return Vec::new();
    };
    let limit = policy.file.policy.health.secondary_lag;
    let critical = zone.settings.runway.critical;
    let lag = |(server, seen): (SocketAddr, Seen)| {
        let (serial, since) = (seen.serial?, seen.behind_since?);
        // A version that is not at hand is an old one: its signatures may be anything.
        let expires = version_of(view, serial).and_then(|v| v.earliest_expiration());
        let left = expires.map(|at| at.since(now));
        (now.since(since) > limit).then_some(Lag {
            server,
            serial,
            since,
            critical: left.is_some_and(|l| l <= critical),
        })
    };
    d.secondaries.of(z.id).into_iter().filter_map(lag).collect()
}

/// Something about the secondaries of a zone that people should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Name of the health check.
    pub check: &'static str,
    pub critical: bool,
    pub since: Option<Timestamp>,
    pub detail: String,
}

/// What is wrong with the secondaries of a zone, as far as the pipeline does not know.
pub fn troubles(d: &Daemon, z: &ZoneHandle, view: &View, now: Timestamp) -> Vec<Trouble> {
    let mut out = Vec::new();
    for lag in lagging(d, z, view, now) {
        let secs = now.since(lag.since).as_secs();
        let more = match lag.critical {
            true => "; the signatures that it serves are about to expire",
            false => "",
        };
        out.push(Trouble {
            check: "secondary-lag",
            critical: lag.critical,
            since: Some(lag.since),
            detail: format!(
                "secondary {} has serial {} and has been behind for {secs} s{more}",
                lag.server, lag.serial
            ),
        });
    }
    for server in d.secondaries.of(z.id).into_keys() {
        let Some(sampled) = d.known.sampled(z.id, server) else {
            continue;
        };
        let Some(what) = sampled.bogus else { continue };
        out.push(Trouble {
            check: "secondary-bogus",
            critical: true,
            since: Some(sampled.at),
            detail: format!(
                "secondary bogus: {server} at serial {}: {what}",
                sampled.serial
            ),
        });
    }
    let late = |c: &Canary| {
        let policy = d.policy(&view.row.zone.settings.policy);
        policy.is_some_and(|p| now.since(c.since) > p.file.policy.health.secondary_lag)
    };
    if let Some(c) = d.known.canary(z.id) {
        let (critical, what) = match &c.stage {
            CanaryStage::Failed(what) => (true, format!("failed: {what}")),
            CanaryStage::Waits if late(&c) => (false, "does not take it".into()),
            CanaryStage::Waits | CanaryStage::Holds(_) => return out,
        };
        out.push(Trouble {
            check: "canary",
            critical,
            since: Some(c.since),
            detail: format!(
                "canary {} of serial {} {what}; the other secondaries are not told of this version",
                c.server, c.serial
            ),
        });
    }
    out
}

/// How far the canary is, in words.
pub fn canary_text(d: &Daemon, zone: ZoneId) -> Option<String> {
    let c = d.known.canary(zone)?;
    let what = match &c.stage {
        CanaryStage::Waits => "is waited for".to_string(),
        CanaryStage::Holds(until) => {
            format!("answers well; the others are told at {}", until.to_human())
        }
        CanaryStage::Failed(what) => format!("failed: {what}"),
    };
    Some(format!("canary {} of serial {} {what}", c.server, c.serial))
}

/// The published version with this serial.
fn version_of(view: &View, serial: Serial) -> Option<Arc<ZoneVersion>> {
    let zone = &view.row.zone;
    let live = zone.live.as_ref().map(|l| (l.version, l.serial));
    let kept = zone.retained.iter().map(|r| (r.version, r.serial));
    let (id, _) = live.into_iter().chain(kept).find(|(_, s)| *s == serial)?;
    view.versions.get(&id).filter(|v| v.is_signed()).cloned()
}

fn asker(d: &Daemon) -> Asker {
    Asker {
        timeout: d.conf().config.key_manager.check_timeout,
        tsig: d.tsig.keys(),
        looks: d.looks.clone(),
        clock: d.clock.clone(),
    }
}

/// The key that the policy has for this secondary.
fn key_of(targets: &[Target], server: SocketAddr) -> Option<String> {
    let same =
        |t: &&Target| t.addr.port() == server.port() && t.addr.ip().to_canonical() == server.ip();
    targets.iter().find(same)?.tsig_key.clone()
}

// ---- samples

/// Looks at what is due, for as long as the daemon runs.
pub async fn sample_all(d: Arc<Daemon>) {
    loop {
        tokio::time::sleep(TICK).await;
        let mut running = JoinSet::new();
        for z in d.zone_list() {
            for (server, seen) in d.secondaries.of(z.id) {
                let Some(serial) = seen.serial.filter(|_| seen.up) else {
                    continue;
                };
                if !is_due(d.known.sampled(z.id, server).as_ref(), serial, d.now()) {
                    continue;
                }
                while running.len() >= AT_ONCE {
                    running.join_next().await;
                }
                running.spawn(one(d.clone(), z.clone(), server, serial));
            }
        }
        while running.join_next().await.is_some() {}
    }
}

/// One that was wrong is looked at again as soon as it has another version.
fn is_due(last: Option<&Sampled>, serial: Serial, now: Timestamp) -> bool {
    last.is_none_or(|l| {
        now.since(l.at) >= SAMPLE_EVERY || (l.bogus.is_some() && l.serial != serial)
    })
}

async fn one(d: Arc<Daemon>, z: Arc<ZoneHandle>, server: SocketAddr, serial: Serial) {
    let view = z.view();
    let (Some(version), Some(policy)) = (
        version_of(&view, serial),
        d.policy(&view.row.zone.settings.policy),
    ) else {
        return;
    };
    let targets = policy.file.policy.server.outbound.watched().to_vec();
    let asked = sample::server(server, key_of(&targets, server));
    let seed = u64::from_le_bytes(random());
    let bogus = match sample::sample(&asker(&d), &asked, &version, seed).await {
        Sample::Good => None,
        Sample::Bogus(what) => Some(what),
        Sample::Nothing => return,
    };
    if let Some(what) = &bogus {
        tracing::error!(critical = true, zone = %z.name, secondary = %server, serial = serial.0, "secondary bogus: {what}; it is to transfer the zone anew");
    }
    let sampled = Sampled {
        at: d.now(),
        serial,
        bogus,
    };
    d.known.samples.lock().insert((z.id, server), sampled);
}

// ---- serials that are not ours

/// A datagram said that a secondary is ahead; it counts when a connection says so too.
pub fn ahead(d: &Arc<Daemon>, z: &Arc<ZoneHandle>, server: SocketAddr) {
    let (d, z) = (d.clone(), z.clone());
    tokio::spawn(async move {
        let view = z.view();
        let Some(policy) = d.policy(&view.row.zone.settings.policy) else {
            return;
        };
        let p = &policy.file.policy;
        let asked = sample::server(server, key_of(p.server.outbound.watched(), server));
        let Some(serial) = sample::serial(&asker(&d), &asked, &z.apex).await else {
            return;
        };
        let event = Event::SecondaryAhead {
            serial,
            server: server.to_string(),
            // Serials of the source are not ours to change.
            raise: p.signer.serial_policy != SerialPolicy::Keep,
        };
        let _ = z.line.send(Message::Told(Box::new(event))).await;
    });
}

// ---- the canary

/// What the canary's watch needs to know.
pub struct Flight {
    pub zone: ZoneId,
    pub name: String,
    pub version: Arc<ZoneVersion>,
    pub canary: Target,
    pub hold: Duration,
    /// Who is told after it.
    pub others: Vec<notify::Target>,
}

/// Waits until the canary has the version and answers from it, and for the hold; then tells the
/// others. `false`: it failed. Ends early when its task is aborted: a newer version begins anew.
pub async fn fly(d: Arc<Daemon>, f: Flight) -> bool {
    let addr = SocketAddr::new(f.canary.addr.ip().to_canonical(), f.canary.addr.port());
    let serial = f.version.serial();
    let since = d.now();
    let show = |stage| {
        let canary = Canary {
            server: addr,
            serial,
            since,
            stage,
        };
        d.known.set_canary(f.zone, Some(canary));
    };
    show(CanaryStage::Waits);
    let asked = sample::server(f.canary.addr, f.canary.tsig_key.clone());
    loop {
        let seen = d.secondaries.of(f.zone).remove(&addr);
        if seen.is_some_and(|s| s.serial == Some(serial)) {
            let seed = u64::from_le_bytes(random());
            match sample::sample(&asker(&d), &asked, &f.version, seed).await {
                Sample::Good => break,
                Sample::Bogus(what) => {
                    tracing::error!(critical = true, zone = %f.name, canary = %addr, serial = serial.0, "canary failed: {what}; the other secondaries are not told of this version");
                    show(CanaryStage::Failed(what));
                    return false;
                }
                Sample::Nothing => {}
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    show(CanaryStage::Holds(d.now() + f.hold));
    tracing::info!(zone = %f.name, canary = %addr, serial = serial.0, "canary answers as it should");
    tokio::time::sleep(f.hold).await;
    d.known.set_canary(f.zone, None);
    let more = NotifyCommand::More {
        zone: f.zone,
        serial,
        targets: f.others,
    };
    let _ = d.notify.send(more).await;
    true
}

/// Finds the servers of the apex NS RRset, but for those that are ours, and tells them too
/// (`notify-ns`).
pub async fn tell_ns(d: Arc<Daemon>, zone: ZoneId, version: Arc<ZoneVersion>) {
    let resolvers: Vec<SocketAddr> = {
        let conf = d.conf();
        let list = &conf.config.key_manager.resolvers;
        list.iter().map(|r| r.0).collect()
    };
    let found = sample::of_ns(&version, &resolvers, &asker(&d)).await;
    let bound = d.bound.load_full();
    let ours = |addr: &SocketAddr| bound.publication.iter().any(|b| b.ip() == addr.ip());
    let targets = found.into_iter().filter(|a| !ours(a));
    let more = NotifyCommand::More {
        zone,
        serial: version.serial(),
        targets: targets
            .map(|addr| notify::Target {
                addr,
                key: None,
                watched: false,
            })
            .collect(),
    };
    let _ = d.notify.send(more).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_hourly_and_sooner_after_a_bad_one() {
        let at = |secs: i64| Timestamp::from_secs(1_700_000_000 + secs);
        let last = |bogus: bool| Sampled {
            at: at(0),
            serial: Serial(5),
            bogus: bogus.then(|| "x".into()),
        };
        assert!(is_due(None, Serial(5), at(0)));
        assert!(!is_due(Some(&last(false)), Serial(6), at(3599)));
        assert!(is_due(Some(&last(false)), Serial(6), at(3600)));
        assert!(!is_due(Some(&last(true)), Serial(5), at(60)));
        assert!(is_due(Some(&last(true)), Serial(6), at(60)));
    }

    #[test]
    fn keys_are_found_by_address() {
        let t = |addr: &str, key: Option<&str>| Target {
            addr: addr.parse().unwrap(),
            tsig_key: key.map(Into::into),
        };
        let list = [
            t("[::ffff:192.0.2.1]:53", Some("k")),
            t("192.0.2.2:53", None),
        ];
        assert_eq!(
            key_of(&list, "192.0.2.1:53".parse().unwrap()).as_deref(),
            Some("k")
        );
        assert_eq!(key_of(&list, "192.0.2.1:54".parse().unwrap()), None);
        assert_eq!(key_of(&list, "192.0.2.2:53".parse().unwrap()), None);
    }
}
