//! Secondaries are told of a version, and watched until they have it.

use std::time::Duration;

use cascade_publisher::notify::{NotifyCommand, Target};
use cascade_publisher::watch::WatchCommand;
use cascade_zone::VersionId;

use super::actor::Actor;

impl Actor {
    pub(super) fn send_notify(&mut self, version: VersionId) {
        let (Some(v), Some(policy)) = (self.version(version), self.policy()) else {
            return;
        };
        let out = &policy.file.policy.server.outbound;
        let command = NotifyCommand::Published {
            zone: self.me.id,
            apex: self.me.apex.clone(),
            serial: v.serial(),
            soa_ttl: v.soa_ttl(),
            soa: v.soa().to_vec(),
            targets: self.targets(&out.send_notify_to, out.watched()),
        };
        if self.d.notify.try_send(command).is_err() {
            tracing::warn!(zone = %self.me.name, "NOTIFY queue is full; secondaries find the version by their refresh timer");
        }
    }

    /// `resumed`: an earlier process has published it.
    pub(super) fn watch(&mut self, version: VersionId, resumed: bool) {
        let (Some(v), Some(policy)) = (self.version(version), self.policy()) else {
            return;
        };
        let out = &policy.file.policy.server.outbound;
        let refresh = v.soa_fields().map_or(3600, |s| s.refresh);
        self.tell_watch(WatchCommand::Published {
            zone: self.me.id,
            apex: self.me.apex.clone(),
            serial: v.serial(),
            refresh: Duration::from_secs(refresh.into()),
            resumed,
            targets: self.targets(out.watched(), out.watched()),
        });
    }

    pub(super) fn tell_watch(&self, command: WatchCommand) {
        if let Err(e) = self.d.watch.try_send(command) {
            let (watch, command) = (self.d.watch.clone(), e.into_inner());
            // Many zones at once, after a start; at most one of these per zone and step.
            tokio::spawn(async move { watch.send(command).await });
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
