//! A few connections that share one queue.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::dial::{DialError, ServerInfo, dial};
use super::queue::{Call, NotSent, Outcome, Queue};
use super::serve::{End, serve};
use super::settings::LinkSettings;
use super::status::{InstanceStatus, Reach, Statistics};
use crate::client::sign_capacity;

/// Between attempts to reach an instance; the last repeats.
const PAUSES_MS: [u64; 7] = [200, 500, 1000, 2000, 5000, 10_000, 30_000];
/// How often calls are looked at that wait too long.
const SWEEP: Duration = Duration::from_millis(250);

/// Connections to all instances of one server. Dropping it closes them; what is in flight then ends
/// as lost.
pub struct Pool {
    shared: Arc<Shared>,
    next_group: AtomicU64,
}

pub(super) struct Shared {
    pub settings: LinkSettings,
    pub queue: Queue,
    pub stop: watch::Sender<bool>,
    status: watch::Sender<Vec<InstanceStatus>>,
    instances: Vec<Instance>,
}

#[derive(Default)]
struct Instance {
    quarantined: AtomicBool,
    statistics: Mutex<Statistics>,
    in_flight: AtomicUsize,
    /// Operations that one request may carry; 0 while not known.
    max_batch: AtomicUsize,
    /// Ends the pause before the next attempt.
    hurry: Notify,
    /// From the first contact, for servers that are not verified.
    known_key: Mutex<Option<[u8; 32]>>,
}

impl Pool {
    /// Connects in the background on the runtime of `on`.
    pub fn start(settings: LinkSettings, on: &Handle) -> Pool {
        let n = settings.endpoints.len();
        let status = settings.endpoints.iter().cloned().map(InstanceStatus::new);
        let shared = Arc::new(Shared {
            queue: Queue::new(n),
            stop: watch::Sender::new(false),
            status: watch::Sender::new(status.collect()),
            instances: (0..n).map(|_| Instance::default()).collect(),
            settings,
        });
        for instance in 0..n {
            for _ in 0..shared.settings.connections.max(1) {
                on.spawn(keep_connected(shared.clone(), instance));
            }
        }
        on.spawn(sweep(shared.clone()));
        Pool {
            shared,
            next_group: AtomicU64::new(1),
        }
    }

    /// Queues a call; it completes exactly once, never from within this function.
    pub fn submit(&self, call: Call, on: &Handle) {
        if let Err((call, why)) = self.shared.queue.push(call) {
            on.spawn(async move { (call.done)(Outcome::NotSent(why)) });
        }
    }

    /// A number for calls that are cancelled together.
    pub fn new_group(&self) -> u64 {
        self.next_group.fetch_add(1, Ordering::Relaxed)
    }

    /// Ends the calls of a group that were not sent yet.
    pub fn cancel(&self, group: u64) {
        self.shared.queue.cancel(group);
    }

    /// The instances as they are, and a way to wait for changes.
    pub fn status(&self) -> watch::Receiver<Vec<InstanceStatus>> {
        self.shared.status.subscribe()
    }

    pub fn statistics(&self, instance: usize) -> Statistics {
        let Some(i) = self.shared.instances.get(instance) else {
            return Statistics::default();
        };
        let mut found = lock(&i.statistics).clone();
        found.in_flight = i.in_flight.load(Ordering::Relaxed);
        found
    }

    /// Most signatures of this length that one request should ask for.
    pub fn sign_batch(&self, id_len: usize, signature_len: usize) -> usize {
        let limits = self.shared.instances.iter();
        let limit = limits
            .map(|i| i.max_batch.load(Ordering::Relaxed))
            .filter(|n| *n > 0)
            .min();
        sign_capacity(self.shared.settings.max_response, id_len, signature_len)
            .min(limit.unwrap_or(1))
            .max(1)
    }

    /// Gives an instance no more work but calls that name it.
    pub fn quarantine(&self, instance: usize, on: bool) {
        if let Some(i) = self.shared.instances.get(instance) {
            i.quarantined.store(on, Ordering::Release);
        }
        self.shared.change(instance, |s| s.quarantined = on);
        self.shared.queue.wake_all();
    }

    /// Tries instances that are down again without waiting.
    pub fn hurry(&self) {
        self.shared
            .instances
            .iter()
            .for_each(|i| i.hurry.notify_waiters());
    }

    pub fn settings(&self) -> &LinkSettings {
        &self.shared.settings
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
        for i in 0..self.shared.instances.len() {
            self.shared.queue.shut(i, NotSent::Closed);
        }
    }
}

impl Shared {
    pub fn is_quarantined(&self, instance: usize) -> bool {
        let i = self.instances.get(instance);
        i.is_some_and(|i| i.quarantined.load(Ordering::Acquire))
    }

    pub fn note(&self, instance: usize, operations: usize, failures: usize, took: Duration) {
        if let Some(i) = self.instances.get(instance) {
            lock(&i.statistics).note(operations, failures, took);
        }
    }

    pub fn count_in_flight(&self, instance: usize, by: isize) {
        if let Some(i) = self.instances.get(instance) {
            i.in_flight.fetch_add(by.cast_unsigned(), Ordering::Relaxed);
        }
    }

    fn change(&self, instance: usize, change: impl FnOnce(&mut InstanceStatus)) {
        self.status.send_if_modified(|all| {
            let Some(status) = all.get_mut(instance) else {
                return false;
            };
            let before = status.clone();
            change(status);
            *status != before
        });
    }

    fn connected(&self, instance: usize, info: &Arc<ServerInfo>) {
        if let Some(i) = self.instances.get(instance) {
            i.max_batch
                .store(info.limits.max_batch.max(1), Ordering::Relaxed);
            *lock(&i.known_key) = info.key;
        }
        self.queue.open(instance);
        self.change(instance, |s| {
            s.connections += 1;
            s.server = Some(info.clone());
            if s.reach != Reach::Up {
                s.reach = Reach::Up;
                s.arrivals += 1;
            }
        });
    }

    fn ended(&self, instance: usize) {
        self.change(instance, |s| {
            s.connections = s.connections.saturating_sub(1);
            if s.connections == 0 && s.reach == Reach::Up {
                s.reach = Reach::Connecting;
            }
        });
    }

    /// The instance cannot be used, although some connections may be open yet.
    fn down(&self, instance: usize, why: DialError, even_if_connected: bool) {
        let why = Arc::new(why);
        let mut is_down = false;
        self.change(instance, |s| {
            if s.connections == 0 || even_if_connected {
                s.reach = Reach::Down(why.clone());
                is_down = true;
            }
        });
        if is_down {
            self.queue.shut(instance, NotSent::Down(why));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection, again and again.
async fn keep_connected(shared: Arc<Shared>, instance: usize) {
    let (Some(endpoint), Some(own)) = (
        shared.settings.endpoints.get(instance).cloned(),
        shared.instances.get(instance),
    ) else {
        return;
    };
    let mut stop = shared.stop.subscribe();
    let mut failures = 0usize;
    loop {
        let known = *lock(&own.known_key);
        let dialled = tokio::select! {
            _ = stop.wait_for(|s| *s) => return,
            dialled = dial(&shared.settings, &endpoint, known) => dialled,
        };
        match dialled {
            Ok(dialled) => {
                shared.connected(instance, &dialled.info);
                let end = serve(dialled, &shared, instance).await;
                shared.ended(instance);
                match end {
                    End::Stopped => return,
                    // At once; if that fails, the pauses begin.
                    End::Lost(_) => {
                        failures = 0;
                        continue;
                    }
                    // The server is there and its token is not: the pauses grow as if it were away.
                    End::TokenAway(why) => {
                        let endpoint = endpoint.clone();
                        shared.down(instance, DialError::Unavailable { endpoint, why }, true);
                    }
                }
            }
            Err(why) => shared.down(instance, why, false),
        }
        let pause = PAUSES_MS
            .get(failures)
            .or(PAUSES_MS.last())
            .copied()
            .unwrap_or(1000);
        failures += 1;
        tokio::select! {
            _ = stop.wait_for(|s| *s) => return,
            () = own.hurry.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
        }
    }
}

async fn sweep(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    loop {
        tokio::select! {
            _ = stop.wait_for(|s| *s) => return,
            () = tokio::time::sleep(SWEEP) => shared.queue.sweep(),
        }
    }
}
