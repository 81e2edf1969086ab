//! HSMs: which are registered, how they are, and the keys in them.
//!
//! - [`row`]: what is kept of one, secrets included.
//! - [`bridge`]: a bridge that is a child of ours.
//! - [`device`]: one at work; [`gather`] has batches signed and verifies every signature.
//! - [`store`], [`key`]: the same as the keyring and the signer see it.
//! - [`monitor`]: arrivals, departures, proofs that are due.
//! - [`events`]: what the daemon makes of that.

pub mod bench;
pub mod bridge;
pub mod device;
pub mod events;
mod gather;
mod key;
mod kind;
pub mod label;
mod monitor;
pub mod reference;
pub mod row;
pub mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use cascade_archive::{State, Table};
use cascade_kmip::link::Pool;
use parking_lot::RwLock;

use crate::stores::KeyStores;
use bridge::Bridge;
use device::{Device, World};
use monitor::Pending;
use row::{BadOption, HsmRow};
use store::HsmStore;

pub use kind::public_octets;

/// The registered HSMs by their id.
pub struct Hsms {
    entries: RwLock<BTreeMap<String, Entry>>,
    stores: Arc<KeyStores>,
    world: World,
}

#[derive(Clone)]
struct Entry {
    row: HsmRow,
    device: Arc<Device>,
    pending: Arc<Pending>,
    /// Runs as long as it stands here.
    bridge: Option<Arc<Bridge>>,
}

impl std::fmt::Debug for Hsms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hsms({:?})", self.entries.read().keys())
    }
}

impl Hsms {
    /// HSMs as an earlier process left them; connections begin at once.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn stored(state: &State, stores: Arc<KeyStores>, world: World) -> Result<Hsms, String> {
        let rows: Vec<(String, HsmRow)> = state
            .list(Table::Hsms, None, usize::MAX)
            .map_err(|e| e.to_string())?;
        let hsms = Hsms {
            entries: RwLock::default(),
            stores,
            world,
        };
        for (id, row) in rows {
            let put = hsms.bridge(&row).and_then(|bridge| hsms.put(row, bridge));
            if let Err(e) = put {
                tracing::error!(
                    "HSM '{id}' in the state cannot be used: {e}; cascade hsm edit {id}"
                );
            }
        }
        Ok(hsms)
    }

    /// The bridge that this HSM needs, if it is a managed one: the one that runs, or a new one.
    ///
    /// # Errors
    /// It cannot be started at all. A child that ends is no error: it is started again.
    pub fn bridge(&self, row: &HsmRow) -> Result<Option<Arc<Bridge>>, BadOption> {
        let Some(spec) = &row.add.managed else {
            return Ok(None);
        };
        let id = &row.add.hsm;
        // With another PIN begins another process: one that is logged in takes the first PIN only.
        let same = |e: &&Entry| {
            let (old, new) = (&e.row.add, &row.add);
            old.managed == new.managed
                && old.username == new.username
                && old.password == new.password
        };
        let entries = self.entries.read();
        if let Some(known) = entries.get(id).filter(same).and_then(|e| e.bridge.clone()) {
            return Ok(Some(known));
        }
        drop(entries);
        let failed = |what: String| BadOption {
            what,
            action: "install the package kmip2pkcs11, or name the address of a KMIP server".into(),
        };
        let program = bridge::program().map_err(failed)?;
        let started = Bridge::start(id, program, spec.clone(), self.world.clock.clone());
        let started = started.map_err(|e| failed(format!("no bridge can be started: {e}")))?;
        Ok(Some(Arc::new(started)))
    }

    /// After it is durable: a new HSM, or new settings of a known one. `bridge` is what
    /// [`Self::bridge`] gave for it.
    pub fn put(&self, row: HsmRow, bridge: Option<Arc<Bridge>>) -> Result<Arc<Device>, BadOption> {
        let settings = row.settings(bridge.as_ref().map(|b| b.local()))?;
        let id = row.add.hsm.clone();
        if row.tls_word() == "unverified" {
            tracing::warn!(hsm = %id, "HSM '{id}' is not authenticated (--insecure): its TLS key is remembered, and no more");
        }
        let pool = Pool::start(settings, &self.world.on);
        let mut entries = self.entries.write();
        if let Some(entry) = entries.get_mut(&id) {
            entry.device.renew(pool, row.labels());
            entry.row = row;
            if let Some(bridge) = &bridge {
                bridge.attach(&entry.device);
            }
            entry.bridge = bridge;
            return Ok(entry.device.clone());
        }
        let device = Device::new(&id, pool, row.labels(), self.world.clone());
        if let Some(bridge) = &bridge {
            bridge.attach(&device);
        }
        let pending = Pending::new(row.undestroyed.clone());
        let watch = monitor::watch(Arc::downgrade(&device), pending.clone());
        self.world.on.spawn(watch);
        self.stores
            .put(&id, Arc::new(HsmStore::new(device.clone())));
        entries.insert(
            id,
            Entry {
                row,
                device: device.clone(),
                pending,
                bridge,
            },
        );
        Ok(device)
    }

    /// What became of its bridge, if it is a managed one.
    pub fn managed(&self, id: &str) -> Option<cascade_api::hsm::HsmManagedState> {
        let bridge = self.entries.read().get(id)?.bridge.clone();
        bridge.map(|b| b.state())
    }

    /// After it is durable.
    pub fn remove(&self, id: &str) {
        self.stores.remove(id);
        self.entries.write().remove(id);
    }

    pub fn ids(&self) -> Vec<String> {
        self.entries.read().keys().cloned().collect()
    }

    pub fn row(&self, id: &str) -> Option<HsmRow> {
        self.entries.read().get(id).map(|e| e.row.clone())
    }

    pub fn device(&self, id: &str) -> Option<Arc<Device>> {
        self.entries.read().get(id).map(|e| e.device.clone())
    }

    pub fn devices(&self) -> Vec<Arc<Device>> {
        let entries = self.entries.read();
        entries.values().map(|e| e.device.clone()).collect()
    }

    /// Changes what is kept of an HSM without touching its connections; gives the row to be stored.
    fn note(&self, id: &str, change: impl FnOnce(&mut HsmRow)) -> Option<HsmRow> {
        let mut entries = self.entries.write();
        let entry = entries.get_mut(id)?;
        let before = entry.row.clone();
        change(&mut entry.row);
        (entry.row != before).then(|| entry.row.clone())
    }

    fn add_pending(&self, id: &str, objects: &[String]) {
        if let Some(entry) = self.entries.read().get(id) {
            entry.pending.add(objects);
        }
    }
}
