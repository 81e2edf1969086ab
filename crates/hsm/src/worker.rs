//! A thread of the pool: takes work, keeps its session alive, and draws conclusions from errors.

use std::sync::Arc;

use crate::error::{Class, Fault, HsmError, Trouble};
use crate::hsm::Event;
use crate::job::{Job, Outcome};
use crate::login::How;
use crate::objects;
use crate::pool::Pool;
use crate::session::{Live, Pulse};
use crate::slot;

/// Failed probes after which initialising the module again is tried.
const PROBES_BEFORE_RESET: u32 = 2;

/// Works until the pool closes or gives this thread up.
pub(crate) fn run(pool: &Arc<Pool>, number: u64, pulse: &Pulse) {
    let mut live = None;
    while let Some(mut job) = pool.take(number) {
        let start = pool.clock.monotonic();
        let outcome = perform(pool, &mut live, &mut job, pulse);
        let took = pool.clock.monotonic().saturating_sub(start);
        if !pool.finish(number, job, outcome, took) {
            break;
        }
    }
    if let Some(live) = live {
        live.close();
    }
}

/// Does the job, with a second try where a class of failures calls for one.
fn perform(pool: &Arc<Pool>, live: &mut Option<Live>, job: &mut Job, pulse: &Pulse) -> Outcome {
    if job.probe && reset_is_due(pool) {
        reset(pool);
    }
    let mut seen: Vec<Class> = Vec::new();
    loop {
        let result = {
            let _calls = pool.module.enter();
            attempt(pool, live, job, pulse)
        };
        if live.as_ref().is_some_and(|live| live.poisoned) {
            live.take().into_iter().for_each(Live::close);
        }
        let fault = match result {
            Ok(()) => return Outcome::Answered(Ok(())),
            Err(Trouble::Final(HsmError::Unavailable(away))) => {
                let (why, lost) = (away.why, false);
                return Outcome::Away { why, lost };
            }
            Err(Trouble::Final(error)) => return Outcome::Answered(Err(error)),
            Err(Trouble::Fault(fault)) => fault,
        };
        match fault.class {
            Class::Session | Class::Closed => *live = None,
            Class::Stuck => live.take().into_iter().for_each(Live::close),
            Class::Handle => live.iter_mut().for_each(Live::forget_all),
            Class::Login => live.iter_mut().for_each(|live| live.user = false),
            _ => {}
        }
        if job.probe && matches!(fault.class, Class::Device | Class::Odd) {
            // Some modules want a new session when the device is back.
            live.take().into_iter().for_each(Live::close);
        }
        let another_try = match fault.class {
            // The call was not made.
            Class::Handle | Class::Session | Class::Stuck | Class::Login => true,
            Class::Closed => job.kind.repeat,
            _ => false,
        };
        if another_try && !seen.contains(&fault.class) {
            seen.push(fault.class);
            continue;
        }
        return match fault.class {
            Class::Odd if !job.probe && answers(pool, live) => {
                Outcome::Answered(Err(HsmError::Refused(fault.why)))
            }
            Class::Device
            | Class::Odd
            | Class::Module
            | Class::Session
            | Class::Closed
            | Class::Stuck => {
                let lost = fault.class == Class::Module;
                Outcome::Away {
                    why: fault.why,
                    lost,
                }
            }
            Class::Full => Outcome::Full(fault.why),
            _ => Outcome::Answered(Err(fault.into())),
        };
    }
}

/// Whether the device answers a harmless question. Some modules have one error for a device that
/// is away and for a request that it does not like, and one odd request must not stop the others.
fn answers(pool: &Pool, live: &mut Option<Live>) -> bool {
    if pool.away().is_some() {
        return false;
    }
    let _calls = pool.module.enter();
    match live {
        Some(live) if live.is_current() => {
            live.beat();
            objects::touch(live).is_ok()
        }
        _ => false,
    }
}

fn attempt(
    pool: &Arc<Pool>,
    live: &mut Option<Live>,
    job: &mut Job,
    pulse: &Pulse,
) -> Result<(), Trouble> {
    pulse.beat();
    if live.as_ref().is_some_and(|live| !live.is_current()) {
        *live = None;
    }
    let live = match live {
        Some(live) => {
            // Work that must not be done twice is not begun on a session that may be gone.
            if !job.kind.repeat {
                live.ask_user()?;
            }
            live
        }
        none => none.insert(open(pool, pulse)?),
    };
    if !live.user && !job.kind.public {
        log_in(pool, live)?;
    }
    pulse.beat();
    job.work.attempt(live)
}

/// A session on the token that was opened, and no other that has come into its slot.
fn open(pool: &Pool, pulse: &Pulse) -> Result<Live, Fault> {
    let slot = pool.slot()?;
    let there = slot::token(&pool.module, slot)?;
    if !there.initialised || there.serial != pool.token.serial {
        return Err(Fault::new(
            Class::Module,
            format!(
                "slot {} has another token now: serial {} instead of {}",
                slot.id(),
                there.serial,
                pool.token.serial
            ),
        ));
    }
    Live::open(&pool.module, slot, &pool.known, pulse)
}

/// Brings the session into the user state. One thread at a time.
fn log_in(pool: &Pool, live: &mut Live) -> Result<(), Trouble> {
    let limit = pool.settings.call_timeout;
    let Some(_one) = pool.login.try_lock_for(limit) else {
        return Err(HsmError::away("a login does not come to its end").into());
    };
    if live.ask_user()? {
        return Ok(());
    }
    let pin = {
        let mut access = pool.access.lock();
        match access.how() {
            How::ByItself if !pool.token.login_required => {
                live.user = true;
                live.anonymous = true;
                return Ok(());
            }
            How::ByItself => {
                access.forget();
                None
            }
            _ => access.pin(),
        }
    };
    let Some(pin) = pin else {
        let text = "the token is not logged in, and no PIN is known that would open it";
        return Err(HsmError::LoginRefused(text.into()).into());
    };
    match live.login(&pin) {
        Ok(_) => Ok(()),
        Err(fault) if fault.class == Class::Pin => {
            // Once is enough: tokens lock themselves after a few wrong PINs.
            pool.access.lock().refused(&pin, pool.clock.monotonic());
            let slot = pool.slot_id();
            pool.tell(Event::LoginRefused {
                slot,
                why: fault.why.clone(),
            });
            Err(HsmError::LoginRefused(format!(
                "the token no longer takes the PIN that it took before ({})",
                fault.why
            ))
            .into())
        }
        Err(fault) => Err(fault.into()),
    }
}

/// Whether the tokens seem to have been replaced under the module. While another slot works, its
/// sessions are worth more, unless the module itself says that it has lost its state.
fn reset_is_due(pool: &Pool) -> bool {
    let Some(open) = pool.away() else {
        return false;
    };
    let alone = pool
        .module
        .healthy
        .load(std::sync::atomic::Ordering::Relaxed)
        == 0;
    pool.is_lost() || (alone && open.failed_probes >= PROBES_BEFORE_RESET)
}

fn reset(pool: &Pool) {
    let result = pool.module.initialise_again();
    if result.is_ok() {
        relocate(pool);
    }
    pool.tell(Event::InitialisedAgain {
        slot: pool.slot_id(),
        result,
    });
}

/// Slots may have other ids now: the token's serial number finds it.
fn relocate(pool: &Pool) {
    let is_there = |slot| {
        let _calls = pool.module.enter();
        let token = slot::token(&pool.module, slot);
        token.is_ok_and(|t| t.serial == pool.token.serial && t.label == pool.token.label)
    };
    if pool.slot().is_ok_and(is_there) {
        return;
    }
    let slots = slot::list(&pool.module).unwrap_or_default();
    if let Some(found) = slots.into_iter().find(|slot| is_there(*slot)) {
        pool.set_slot(found.id());
    }
}

/// A fault in words for people, where the module's own are no help. `what` was to be done, which
/// on NetHSM is the administrator's work.
pub(crate) fn explain(what: &str, live: &mut Live, fault: Fault) -> Fault {
    let refused = fault.why.contains("CKR_FUNCTION_FAILED")
        || (fault.class == Class::Login && live.ask_user() == Ok(true));
    if !refused {
        return fault;
    }
    Fault::new(
        Class::Refused,
        format!(
            "{what}: the module's administrator account is probably missing or wrong ({})",
            fault.why
        ),
    )
}
