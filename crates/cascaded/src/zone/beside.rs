//! Whether another denial of existence goes into the next version, or is built beside what is live
//! over many jobs, and what is kept of it between them.

use std::sync::Arc;
use std::time::Duration;

use cascade_crypto::Mode;
use cascade_pipeline::state::Reason;
use cascade_signer::{
    Building, Changed, DenialPlan, Job, Pace, Resigned, Scope, SignError, SigningPlan,
    change_denial,
};
use cascade_time::Timestamp;
use cascade_zone::ZoneVersion;
use cascade_zone::denial::Denial;
use parking_lot::Mutex;

use super::jobs::SignInput;

/// Denial records that are signed within the job of the version that has them: less than a second
/// of one core, or of a token that is not slow.
const AT_ONCE: u64 = 20_000;
const AT_ONCE_BY_TOKEN: u64 = 1_000;
/// Leaves or blocks, of about 100 signatures each, between two looks at whether to go on.
const BATCH: usize = 64;
const BATCH_BY_TOKEN: usize = 8;
/// A job ends after so long, so that refreshes and others that wait for their turn come through.
const SPAN: Duration = Duration::from_secs(10);
/// How often a job that waits for the one before looks whether it is still wanted.
const TURN: Duration = Duration::from_millis(20);

/// What was built so far, of one zone. A restart begins anew: nothing of it is needed to be right.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<Option<Building>>>, Arc<Mutex<()>>);

impl Shelf {
    pub fn clear(&self) {
        self.0.lock().take();
    }

    /// All records of this denial are made, of the content of some moment.
    pub fn has_all_of(&self, wanted: &DenialPlan) -> bool {
        let shelf = self.0.lock();
        let building = shelf.as_ref().filter(|b| b.is_complete());
        building.is_some_and(|b| plan_of(b.denial()).as_ref() == Some(wanted))
    }

    /// Leaves or blocks that are signed, and all.
    pub fn progress(&self) -> (u64, u64) {
        let shelf = self.0.lock();
        let (done, all) = shelf.as_ref().map_or((0, 0), Building::progress);
        (done as u64, all as u64)
    }
}

/// How a job treats the denial of existence.
#[derive(Debug, PartialEq, Eq)]
pub enum Way {
    /// As the policy says, within this job.
    AtOnce,
    /// As it is in the live version: the policy's is built in jobs of its own.
    Keep(DenialPlan),
    /// This is such a job.
    Build,
}

/// Chooses for a job that is to end with `wanted`.
pub fn way(input: &SignInput, wanted: &DenialPlan) -> Way {
    let Some(prev) = &input.prev else {
        return Way::AtOnce;
    };
    let Some(now) = plan_of(prev.denial()).filter(|now| now != wanted) else {
        return Way::AtOnce;
    };
    let keys = input.keys.apex.zone_signers.len().max(1) as u64;
    let most = match waits_for_token(input) {
        true => AT_ONCE_BY_TOKEN,
        false => AT_ONCE,
    };
    if prev.sums().owners.saturating_mul(keys) <= most {
        return Way::AtOnce;
    }
    // Everything else goes first, and with what is there.
    match input.upkeep && input.reasons.iter().eq([&Reason::Policy]) {
        true => Way::Build,
        false => Way::Keep(now),
    }
}

/// The plan that a version was signed by; `None`: it is not signed.
pub fn plan_of(denial: &Denial) -> Option<DenialPlan> {
    match denial {
        Denial::None => None,
        Denial::Nsec { .. } => Some(DenialPlan::Nsec),
        Denial::Nsec3 { params, .. } => Some(DenialPlan::Nsec3 {
            iterations: params.iterations,
            salt: params.salt.clone(),
            opt_out: params.opt_out,
        }),
    }
}

fn waits_for_token(input: &SignInput) -> bool {
    let mut signers = input.keys.signers.values();
    signers.any(|s| matches!(s.mode(), Mode::Queued(_)))
}

/// What a job of building came to.
pub enum Built {
    /// So many leaves or blocks, of so many.
    Partly(u64, u64),
    Switched(Resigned),
}

/// Builds on, for a while, and switches over when all is there.
///
/// # Errors
/// As the signer; what was built stays on the shelf.
pub fn build(
    input: &SignInput,
    prev: &ZoneVersion,
    plan: &SigningPlan,
    scope: &Scope,
    job: &Job<'_>,
    now: Timestamp,
) -> Result<Built, SignError> {
    // A job that was cancelled may still be at its batch: that is what this one goes on from. One
    // that finds the place free makes a batch even if it was cancelled before it came to that: where
    // change follows change, every job is.
    let _turn = loop {
        if let Some(turn) = input.beside.1.try_lock_for(TURN) {
            break turn;
        }
        if job.progress.is_cancelled() {
            return Err(SignError::Cancelled);
        }
    };
    let earlier = input.beside.0.lock().clone();
    let pace = Pace {
        batch: match waits_for_token(input) {
            true => BATCH_BY_TOKEN,
            false => BATCH,
        },
        until: job.clock.monotonic() + SPAN,
        keep: &|building| drop(input.beside.0.lock().replace(building.clone())),
    };
    let base = &input.base;
    match change_denial(prev, earlier, base, plan, scope, &pace, job, now)? {
        Changed::Building(building) => {
            let (done, all) = building.progress();
            Ok(Built::Partly(done as u64, all as u64))
        }
        Changed::Switched(done) => Ok(Built::Switched(done)),
    }
}
