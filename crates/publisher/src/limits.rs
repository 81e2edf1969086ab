//! Who may use the server how much: turns of transfers, places of connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cascade_zone::ZoneId;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Bounds of transfers.
#[derive(Debug, Clone, Copy)]
pub struct TransferLimits {
    pub total: usize,
    pub per_address: usize,
    pub per_zone_and_address: usize,
    /// How many may wait for a turn, and how long.
    pub queue: usize,
    pub wait: Duration,
}

impl Default for TransferLimits {
    fn default() -> Self {
        TransferLimits {
            total: 64,
            per_address: 4,
            per_zone_and_address: 1,
            queue: 256,
            wait: Duration::from_secs(30),
        }
    }
}

#[derive(Debug, Default)]
struct Running {
    total: usize,
    waiting: usize,
    by_address: HashMap<IpAddr, usize>,
    by_pair: HashMap<(ZoneId, IpAddr), usize>,
}

/// Gives transfers their turns; shared by all servers of the daemon.
#[derive(Debug)]
pub struct TransferGate {
    limits: Mutex<TransferLimits>,
    running: Mutex<Running>,
    freed: Notify,
}

/// A turn; it ends when this is dropped.
#[derive(Debug)]
pub struct Turn {
    gate: Arc<TransferGate>,
    zone: ZoneId,
    peer: IpAddr,
}

impl TransferGate {
    pub fn new(limits: TransferLimits) -> Arc<Self> {
        Arc::new(TransferGate {
            limits: Mutex::new(limits),
            running: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Takes effect for the next turn that is asked for or freed.
    pub fn set_limits(&self, limits: TransferLimits) {
        *self.limits.lock() = limits;
        self.freed.notify_waiters();
    }

    pub fn running(&self) -> usize {
        self.running.lock().total
    }

    pub fn waiting(&self) -> usize {
        self.running.lock().waiting
    }

    /// A turn at once, if the limits let it.
    pub fn try_turn(self: &Arc<Self>, zone: ZoneId, peer: IpAddr) -> Option<Turn> {
        let peer = peer.to_canonical();
        let limits = *self.limits.lock();
        let mut r = self.running.lock();
        let of = |n: Option<&usize>| n.copied().unwrap_or(0);
        if r.total >= limits.total
            || of(r.by_address.get(&peer)) >= limits.per_address
            || of(r.by_pair.get(&(zone, peer))) >= limits.per_zone_and_address
        {
            return None;
        }
        r.total += 1;
        *r.by_address.entry(peer).or_default() += 1;
        *r.by_pair.entry((zone, peer)).or_default() += 1;
        Some(Turn {
            gate: self.clone(),
            zone,
            peer,
        })
    }

    /// Waits in line for a turn; `None` when the line is full or the wait too long.
    pub async fn turn(self: &Arc<Self>, zone: ZoneId, peer: IpAddr) -> Option<Turn> {
        if let Some(turn) = self.try_turn(zone, peer) {
            return Some(turn);
        }
        let limits = *self.limits.lock();
        let _place = Place::take(self, limits.queue)?;
        tokio::time::timeout(limits.wait, async {
            loop {
                let freed = self.freed.notified();
                tokio::pin!(freed);
                // Registered before looking, so that no turn freed in between is missed.
                freed.as_mut().enable();
                if let Some(turn) = self.try_turn(zone, peer) {
                    return turn;
                }
                freed.await;
            }
        })
        .await
        .ok()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut r = self.gate.running.lock();
        r.total = r.total.saturating_sub(1);
        less(&mut r.by_address, &self.peer);
        less(&mut r.by_pair, &(self.zone, self.peer));
        drop(r);
        self.gate.freed.notify_waiters();
    }
}

/// A place in the line.
struct Place(Arc<TransferGate>);

impl Place {
    fn take(gate: &Arc<TransferGate>, queue: usize) -> Option<Place> {
        let mut r = gate.running.lock();
        if r.waiting >= queue {
            return None;
        }
        r.waiting += 1;
        Some(Place(gate.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.lock().waiting -= 1;
    }
}

fn less<K: std::hash::Hash + Eq>(map: &mut HashMap<K, usize>, key: &K) {
    if let Some(n) = map.get_mut(key) {
        *n -= 1;
        if *n == 0 {
            map.remove(key);
        }
    }
}

/// Bounds of stream connections (RFC 7766 §6.2.2).
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    pub total: usize,
    pub per_address: usize,
    /// Without a query for this long after the last one.
    pub idle: Duration,
    /// Without a first query for this long.
    pub first: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        ConnectionLimits {
            total: 1000,
            per_address: 50,
            idle: Duration::from_secs(30),
            first: Duration::from_secs(10),
        }
    }
}

/// The open connections of all servers.
#[derive(Debug)]
pub struct Connections {
    limits: Mutex<ConnectionLimits>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// Idle ones by when they became idle; places of equal time are told apart by their number.
    places: HashMap<u64, PlaceState>,
    by_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct PlaceState {
    peer: IpAddr,
    /// `None` while a query is answered or a transfer runs.
    idle_since: Option<u64>,
    close: Arc<Notify>,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub struct Connection {
    table: Arc<Connections>,
    id: u64,
    close: Arc<Notify>,
}

impl Connections {
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Connections {
            limits: Mutex::new(limits),
            open: Mutex::default(),
        })
    }

    pub fn set_limits(&self, limits: ConnectionLimits) {
        *self.limits.lock() = limits;
    }

    pub fn limits(&self) -> ConnectionLimits {
        *self.limits.lock()
    }

    pub fn len(&self) -> usize {
        self.open.lock().places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A place for a new connection. When all are taken, the one idle longest is told to close and
    /// its place is given away; when none is idle, the newcomer gets none.
    pub fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Connection> {
        let peer = peer.to_canonical();
        let limits = self.limits();
        let mut open = self.open.lock();
        if open.by_address.get(&peer).copied().unwrap_or(0) >= limits.per_address {
            open.evict(|p| p.peer == peer)?;
        } else if open.places.len() >= limits.total {
            open.evict(|_| true)?;
        }
        open.next += 1;
        let id = open.next;
        let close = Arc::new(Notify::new());
        open.places.insert(
            id,
            PlaceState {
                peer,
                idle_since: Some(id),
                close: close.clone(),
            },
        );
        *open.by_address.entry(peer).or_default() += 1;
        Some(Connection {
            table: self.clone(),
            id,
            close,
        })
    }
}

impl Open {
    fn evict(&mut self, which: impl Fn(&PlaceState) -> bool) -> Option<()> {
        let (_, id) = self
            .places
            .iter()
            .filter(|(_, p)| which(p))
            .filter_map(|(id, p)| Some((p.idle_since?, *id)))
            .min()?;
        self.leave(id)
    }

    fn leave(&mut self, id: u64) -> Option<()> {
        let place = self.places.remove(&id)?;
        place.close.notify_one();
        less(&mut self.by_address, &place.peer);
        Some(())
    }
}

impl Connection {
    /// Resolves when the place was given away.
    pub async fn evicted(&self) {
        self.close.notified().await;
    }

    /// Marks the connection as at work, or idle from now on.
    pub fn set_busy(&self, busy: bool) {
        let mut open = self.table.open.lock();
        // The order of becoming idle is all that eviction needs, so a counter is the clock.
        open.next += 1;
        let now = open.next;
        if let Some(p) = open.places.get_mut(&self.id) {
            p.idle_since = if busy { None } else { Some(now) };
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.table.open.lock().leave(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }
    fn zone(n: u8) -> ZoneId {
        ZoneId([n; 16])
    }

    #[test]
    fn transfers_are_bounded() {
        let gate = TransferGate::new(TransferLimits {
            total: 3,
            per_address: 2,
            ..TransferLimits::default()
        });
        let a = gate.try_turn(zone(1), ip(1)).unwrap();
        assert!(
            gate.try_turn(zone(1), ip(1)).is_none(),
            "one per zone and address"
        );
        let _b = gate.try_turn(zone(2), ip(1)).unwrap();
        assert!(gate.try_turn(zone(3), ip(1)).is_none(), "two per address");
        let _c = gate.try_turn(zone(1), ip(2)).unwrap();
        assert!(gate.try_turn(zone(1), ip(3)).is_none(), "three in all");
        drop(a);
        assert!(gate.try_turn(zone(1), ip(1)).is_some());
        assert_eq!(gate.running(), 2);
    }

    #[tokio::test]
    async fn waiting_in_line() {
        let gate = TransferGate::new(TransferLimits {
            total: 1,
            queue: 1,
            wait: Duration::from_millis(50),
            ..TransferLimits::default()
        });
        let first = gate.try_turn(zone(1), ip(1)).unwrap();
        let second = tokio::spawn({
            let gate = gate.clone();
            async move { gate.turn(zone(1), ip(2)).await }
        });
        while gate.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(
            gate.turn(zone(1), ip(3)).await.is_none(),
            "the line is full"
        );
        drop(first);
        let second = second.await.unwrap();
        assert!(second.is_some());
        assert!(
            gate.turn(zone(1), ip(4)).await.is_none(),
            "the wait is over"
        );
        assert_eq!((gate.running(), gate.waiting()), (1, 0));
    }

    #[tokio::test]
    async fn the_longest_idle_connection_makes_room() {
        let limits = ConnectionLimits {
            total: 3,
            per_address: 2,
            ..ConnectionLimits::default()
        };
        let table = Connections::new(limits);
        let a = table.enter(ip(1)).unwrap();
        let b = table.enter(ip(1)).unwrap();
        a.set_busy(true);
        a.set_busy(false);
        let c = table.enter(ip(1)).unwrap();
        b.evicted().await;
        c.set_busy(true);
        a.set_busy(true);
        assert!(table.enter(ip(1)).is_none(), "both at work");
        let _d = table.enter(ip(2)).unwrap();
        assert_eq!(table.len(), 3);
        let _e = table.enter(ip(3)).unwrap();
        assert_eq!(table.len(), 3);
        drop(b);
        assert_eq!(
            table.len(),
            3,
            "an evicted connection has no place to give back"
        );
        drop((a, c));
        assert_eq!(table.len(), 1);
    }
}
