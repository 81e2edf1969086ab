//! HSMs: which are registered, how they are, and the keys in them.
//!
//! - [`row`]: what is kept of one, secrets included.
//! - [`device`]: one at work; [`gather`] has batches signed and verifies every signature.
//! - [`store`], [`key`]: the same as the keyring and the signer see it.
//! - [`monitor`]: arrivals, departures, proofs that are due.
//! - [`events`]: what the daemon makes of that.

pub mod bench;
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
            if let Err(e) = hsms.put(row) {
                tracing::error!(
                    "HSM '{id}' in the state cannot be used: {e}; cascade hsm edit {id}"
                );
            }
        }
        Ok(hsms)
    }

    /// After it is durable: a new HSM, or new settings of a known one.
    pub fn put(&self, row: HsmRow) -> Result<Arc<Device>, BadOption> {
        let settings = row.settings()?;
        let id = row.add.hsm.clone();
        if row.tls_word() == "unverified" {
            tracing::warn!(hsm = %id, "HSM '{id}' is not authenticated (--insecure): its TLS key is remembered, and no more");
        }
        let pool = Pool::start(settings, &self.world.on);
        let mut entries = self.entries.write();
        if let Some(entry) = entries.get_mut(&id) {
            entry.device.renew(pool, row.labels());
            entry.row = row;
            return Ok(entry.device.clone());
        }
        let device = Device::new(&id, pool, row.labels(), self.world.clone());
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
            },
        );
        Ok(device)
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
