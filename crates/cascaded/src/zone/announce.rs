//! Secondaries are told of a version, and watched until they have it.

use std::time::Duration;

use cascade_publisher::notify::{NotifyCommand, Target};
use cascade_publisher::watch::WatchCommand;
use cascade_zone::VersionId;

use super::actor::Actor;
use crate::secondaries::{self, Flight};

/// The task that waits for the canary; ends with its owner.
#[derive(Default)]
pub(super) struct Canary(Option<tokio::task::AbortHandle>);

impl Canary {
    /// Nobody waits for it.
    pub fn is_still(&self) -> bool {
        self.0.as_ref().is_none_or(|task| task.is_finished())
    }

    pub fn stop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Actor {
    pub(super) fn send_notify(&mut self, version: VersionId) {
        self.canary.stop();
        let (Some(v), Some(policy)) = (self.version(version), self.policy()) else {
            return;
        };
        let out = &policy.file.policy.server.outbound;
        let all = self.targets(&out.send_notify_to, out.watched());
        let targets = match &out.canary {
            None => all,
            Some(c) => {
                let first = self.targets(
                    std::slice::from_ref(&c.target),
                    std::slice::from_ref(&c.target),
                );
                let others = all.into_iter().filter(|t| t.addr != c.target.addr);
                let flight = Flight {
                    zone: self.me.id,
                    name: self.me.name.clone(),
                    version: v.clone(),
                    canary: c.target.clone(),
                    hold: c.hold,
                    others: others.collect(),
                };
                let (d, ns) = (self.d.clone(), out.notify_ns);
                let task = tokio::spawn(async move {
                    let (zone, version) = (flight.zone, flight.version.clone());
                    let good = secondaries::fly(d.clone(), flight).await;
                    if good && ns {
                        secondaries::tell_ns(d, zone, version).await;
                    }
                });
                self.canary.0 = Some(task.abort_handle());
                first
            }
        };
        let command = NotifyCommand::Published {
            zone: self.me.id,
            apex: self.me.apex.clone(),
            serial: v.serial(),
            soa_ttl: v.soa_ttl(),
            soa: v.soa().to_vec(),
            targets,
        };
        if self.d.notify.try_send(command).is_err() {
            tracing::warn!(zone = %self.me.name, "NOTIFY queue is full; secondaries find the version by their refresh timer");
        }
        if out.notify_ns && out.canary.is_none() {
            tokio::spawn(secondaries::tell_ns(self.d.clone(), self.me.id, v));
        }
    }

    /// `resumed`: an earlier process has published it.
    pub(super) fn watch(&mut self, version: VersionId, resumed: bool) {
        // They are not to have it.
        if self.row.zone.conflict.is_some() {
            return;
        }
        let (Some(v), Some(policy)) = (self.version(version), self.policy()) else {
            return;
        };
        let out = &policy.file.policy.server.outbound;
        let refresh = v.soa_fields().map_or(3600, |s| s.refresh);
        let mut watched = out.watched().to_vec();
        if let Some(c) = &out.canary
            && watched.iter().all(|t| t.addr != c.target.addr)
        {
            watched.push(c.target.clone());
        }
        self.tell_watch(WatchCommand::Published {
            zone: self.me.id,
            apex: self.me.apex.clone(),
            serial: v.serial(),
            refresh: Duration::from_secs(refresh.into()),
            resumed,
            targets: self.targets(&watched, &watched),
        });
    }

    pub(super) fn tell_watch(&self, command: WatchCommand) {
        if let Err(e) = self.d.watch.try_send(command) {
            let (watch, command) = (self.d.watch.clone(), e.into_inner());
            // Many zones at once, after a start; at most one of these per zone and step.
            tokio::spawn(async move { watch.send(command).await });
        }
    }

    /// The secondaries of what is served, by the policy as it is now.
    pub(super) fn watch_live(&mut self) {
        let live = self.row.zone.live.as_ref();
        let serving = live.filter(|l| l.serving == cascade_pipeline::state::Serving::Yes);
        if let Some(v) = serving.map(|l| l.version) {
            self.watch(v, true);
        }
    }

    /// A secondary was found behind after a start: it is told once what is served.
    pub(super) fn remind(&mut self) {
        let live = self.row.zone.live.as_ref();
        let serving = live.filter(|l| l.serving == cascade_pipeline::state::Serving::Yes);
        if let Some(v) = serving.map(|l| l.version) {
            self.send_notify(v);
        }
    }

    fn targets(
        &self,
        list: &[cascade_policy::Target],
        watched: &[cascade_policy::Target],
    ) -> Vec<Target> {
        let keys = crate::servers::tsig_keys(&self.d);
        let key_of = |name: &str| {
            let name = cascade_zone::Name::parse(name).ok()?;
            keys.get(&name).cloned()
        };
        list.iter()
            .map(|t| Target {
                addr: t.addr,
                key: t.tsig_key.as_deref().and_then(key_of),
                watched: watched.iter().any(|w| w.addr == t.addr),
            })
            .collect()
    }
}
