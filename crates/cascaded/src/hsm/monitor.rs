//! Watches one HSM: arrivals and departures, proofs that are due, what is still to be destroyed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cascade_crypto::SignFailure;
use cascade_kmip::link::{Reach, Trust};
use parking_lot::Mutex;

use super::device::{Condition, Device, Event, Held, PROOF_HOLDS};
use super::store::destroy_object;

/// Between looks at what time brings.
const TICK: Duration = Duration::from_secs(15);
const TICK_AWAY: Duration = Duration::from_secs(5);
/// Keys proven in one go; the others prove themselves when they are needed.
const PROOFS: usize = 32;
/// Objects that are destroyed in one go.
const DESTRUCTIONS: usize = 64;

/// Objects of one HSM that are still to be destroyed.
#[derive(Debug, Default)]
pub struct Pending {
    objects: Mutex<Vec<String>>,
    busy: AtomicBool,
}

impl Pending {
    pub fn new(objects: Vec<String>) -> Arc<Pending> {
        Arc::new(Pending {
            objects: Mutex::new(objects),
            busy: AtomicBool::new(false),
        })
    }

    pub fn add(&self, objects: &[String]) {
        self.objects.lock().extend_from_slice(objects);
    }
}

/// Runs until nobody else holds the device.
pub async fn watch(device: Weak<Device>, pending: Arc<Pending>) {
    let mut arrivals = 0;
    let proving = Arc::new(AtomicBool::new(false));
    loop {
        let Some(mut status) = device.upgrade().map(|d| d.pool().status()) else {
            return;
        };
        status.borrow_and_update();
        let mut pause = TICK;
        if let Some(device) = device.upgrade() {
            look(&device, &pending, &proving, &mut arrivals);
            if device.is_away() {
                pause = TICK_AWAY;
            }
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() {
                // The connections were replaced, or the device is gone.
                tokio::time::sleep(Duration::from_millis(100)).await;
            },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn look(
    device: &Arc<Device>,
    pending: &Arc<Pending>,
    proving: &Arc<AtomicBool>,
    arrivals: &mut u64,
) {
    let instances = device.instances();
    if let Trust::FirstSeen(None) = device.pool().settings().trust
        && let Some(key) = instances.iter().find_map(|i| i.server.as_ref()?.key)
    {
        let hsm = device.id.clone();
        device.tell(Event::FirstSeen { hsm, key });
    }
    if device.note_departure()
        && let Condition::Away { why, .. } = device.condition()
    {
        device.tell(Event::Away {
            hsm: device.id.clone(),
            why,
        });
    }
    let up = instances.iter().any(|i| i.reach == Reach::Up);
    if !up || proving.swap(true, Ordering::AcqRel) {
        return;
    }
    let now_arrived: u64 = instances.iter().map(|i| i.arrivals).sum();
    let d = device.clone();
    let over = proving.clone();
    if now_arrived != *arrivals || device.is_away() {
        *arrivals = now_arrived;
        prove_all(device, device.all_held(), move |end| {
            over.store(false, Ordering::Release);
            match end.silent {
                None => {
                    d.note_return();
                    d.tell(Event::Back { hsm: d.id.clone() });
                }
                // Its server answers, and it does not sign.
                Some(why) => {
                    if d.note_silence(&why) {
                        let hsm = d.id.clone();
                        d.tell(Event::Away { hsm, why });
                    }
                }
            }
        });
    } else if device.may_be_released() {
        prove_all(device, device.all_held(), move |end| {
            over.store(false, Ordering::Release);
            if end.silent.is_none() && end.good {
                d.release();
            }
        });
    } else {
        let now = device.now();
        let due = |h: &Arc<Held>| h.proved_at().is_some_and(|at| now.since(at) >= PROOF_HOLDS);
        let due: Vec<Arc<Held>> = device.all_held().into_iter().filter(due).collect();
        prove_all(device, due, move |_| over.store(false, Ordering::Release));
    }
    if !device.is_away() {
        destroy_pending(device, pending);
    }
}

/// How proofs of several keys ended.
#[derive(Clone)]
struct End {
    /// Why the HSM neither signed nor said that a key is not what it should be.
    silent: Option<String>,
    /// Every key was.
    good: bool,
}

/// Proves at most [`PROOFS`] of these keys, then says how that ended.
fn prove_all(device: &Arc<Device>, keys: Vec<Arc<Held>>, then: impl FnOnce(End) + Send + 'static) {
    let keys: Vec<Arc<Held>> = keys.into_iter().take(PROOFS).collect();
    let end = End {
        silent: None,
        good: true,
    };
    if keys.is_empty() {
        device.compute(move || then(end));
        return;
    }
    let left = Arc::new(Mutex::new((keys.len(), end, Some(then))));
    for key in keys {
        let left = left.clone();
        device.prove_again(&key, move |result| {
            let mut left = left.lock();
            left.0 -= 1;
            left.1.good &= result.is_ok();
            match result {
                Ok(()) | Err(SignFailure::Unproven { .. }) => {}
                Err(SignFailure::Away { why, .. }) => left.1.silent = Some(why),
                Err(e) => left.1.silent = Some(e.to_string()),
            }
            if left.0 == 0
                && let Some(then) = left.2.take()
            {
                let end = left.1.clone();
                drop(left);
                then(end);
            }
        });
    }
}

fn destroy_pending(device: &Arc<Device>, pending: &Arc<Pending>) {
    if pending.objects.lock().is_empty() || pending.busy.swap(true, Ordering::AcqRel) {
        return;
    }
    let (device, pending) = (device.clone(), pending.clone());
    tokio::task::spawn_blocking(move || {
        let some: Vec<String> = pending
            .objects
            .lock()
            .iter()
            .take(DESTRUCTIONS)
            .cloned()
            .collect();
        let gone: Vec<String> = some
            .into_iter()
            .filter(|id| destroy_object(&device, id).is_ok())
            .collect();
        if !gone.is_empty() {
            pending.objects.lock().retain(|id| !gone.contains(id));
            device.tell(Event::Destroyed {
                hsm: device.id.clone(),
                objects: gone,
            });
        }
        pending.busy.store(false, Ordering::Release);
    });
}
