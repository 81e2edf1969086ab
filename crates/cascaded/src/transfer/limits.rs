//! How many transfers run at a time, over all zones and from one primary.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Over all zones.
const ALL: usize = 32;
/// From one address: a primary of thousands of zones has other secondaries too.
const EACH: usize = 4;

/// The bounds, shared by all zones.
#[derive(Debug)]
pub struct Gate {
    all: Arc<Semaphore>,
    /// Addresses in use; others are dropped when the next one comes.
    each: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

/// The right to one transfer.
#[derive(Debug)]
pub struct Pass {
    _each: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
    /// Keeps the address's bound alive as long as anybody counts in it.
    _own: Arc<Semaphore>,
}

impl Gate {
    pub fn new() -> Gate {
        Gate {
            all: Arc::new(Semaphore::new(ALL)),
            each: Mutex::default(),
        }
    }

    /// Waits for a place. Who waits for a busy primary takes no place from others.
    pub async fn enter(&self, address: IpAddr) -> Option<Pass> {
        let own = self.of(address);
        // Neither is ever closed.
        let each = own.clone().acquire_owned().await.ok()?;
        let all = self.all.clone().acquire_owned().await.ok()?;
        Some(Pass {
            _each: each,
            _all: all,
            _own: own,
        })
    }

    fn of(&self, address: IpAddr) -> Arc<Semaphore> {
        let mut each = self.each.lock();
        if let Some(own) = each.get(&address).and_then(Weak::upgrade) {
            return own;
        }
        each.retain(|_, s| s.strong_count() > 0);
        let own = Arc::new(Semaphore::new(EACH));
        each.insert(address, Arc::downgrade(&own));
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_busy_primary_holds_up_nobody_else() {
        let gate = Gate::new();
        let (a, b): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let mut held = Vec::new();
        for _ in 0..EACH {
            held.push(gate.enter(a).await.unwrap());
        }
        let more = tokio::time::timeout(Duration::from_millis(20), gate.enter(a)).await;
        assert!(more.is_err());
        assert!(gate.enter(b).await.is_some());
        held.pop();
        assert!(gate.enter(a).await.is_some());
        held.clear();
        let _ = gate.enter(b).await;
        assert_eq!(gate.each.lock().len(), 1);
    }
}
