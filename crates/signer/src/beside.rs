//! Another denial of existence, built beside the one in service.
//!
//! The new NSEC or NSEC3 records grow, batch by batch, in a version that nobody sees and that has
//! no other signatures. Content that changes meanwhile goes in like any change: the records around
//! it are made anew. When all are signed, one version takes them over and drops the old ones, so
//! that every answer is out of one chain or out of the other (RFC 5155 §10.4, §10.5).

use std::time::Duration;

use cascade_time::Timestamp;
use cascade_zone::KeyId;
use cascade_zone::denial::{Chain, Denial, blocks_where};
use cascade_zone::patch::Alignment;
use cascade_zone::sign::Draft;
use cascade_zone::tree::Item;
use cascade_zone::version::ZoneVersion;
use rayon::prelude::*;

use crate::incremental::{Done, Resigned, Stop, patch, patch_chain, patch_leaves};
use crate::job::{Job, Progress, Stage};
use crate::leaf_patch::LeafPatch;
use crate::nsec3::{self, ChainPlan};
use crate::piece::Piece;
use crate::plan::SigningPlan;
use crate::refresh::Spread;
use crate::scope::{Mode, Place, Scope, WhyFull};
use crate::sign::{Marks, SignError, apex_sets, check, denial, sign};
use crate::slots::Slots;
use crate::touched::leaf_tasks;

/// Everything that is touched gets the wanted keys and times.
const ALL: Mode = Mode {
    fix_keys: true,
    redo: true,
};

/// A denial of existence in the making. Cloning costs nothing.
#[derive(Clone, Debug)]
pub struct Building {
    /// Content of some unsigned version, and denial records; other signatures it has none.
    version: ZoneVersion,
    /// Leaves or blocks, and those of them that are not as they must be yet.
    places: usize,
    left: usize,
}

impl Building {
    /// Leaves or blocks whose records are made, and all there are.
    pub fn progress(&self) -> (usize, usize) {
        (self.places - self.left.min(self.places), self.places)
    }

    pub fn is_complete(&self) -> bool {
        self.left == 0
    }

    /// What it will be in service as.
    pub fn denial(&self) -> &Denial {
        self.version.denial()
    }
}

/// How far one job goes.
pub struct Pace<'a> {
    /// Leaves or blocks, of about 100 signatures each, that are made at a time. A job that is
    /// cancelled ends with its batch, so that it has moved on however soon that was.
    pub batch: usize,
    /// No batch is begun later than this, by the job's monotonic clock.
    pub until: Duration,
    /// Told after every batch, also by a job that was cancelled meanwhile.
    pub keep: &'a dyn Fn(&Building),
}

/// What [`change_denial`] came to.
#[derive(Debug)]
pub enum Changed {
    /// Time is up, or all is there now: the next job goes on, or switches.
    Building(Box<Building>),
    /// The version that switches: nothing of the old denial is in it.
    Switched(Resigned),
}

/// Goes on with the denial of existence of `plan` beside that of `live`, the signed version of
/// `base`. Once it is complete, the next call makes the version that switches over. `building`: how
/// far earlier jobs came; of other parameters or of other content it is put right or begun anew.
///
/// Call it from a thread that may wait (tokens) and is not one of `job.pool`.
///
/// # Errors
/// As [`sign_from`](crate::sign_from), and [`SignError::Cancelled`]; what was told to `pace.keep`
/// stays good.
pub fn change_denial(
    live: &ZoneVersion,
    building: Option<Building>,
    base: &ZoneVersion,
    plan: &SigningPlan,
    scope: &Scope,
    pace: &Pace<'_>,
    job: &Job<'_>,
    now: Timestamp,
) -> Result<Changed, SignError> {
    let was_complete = building.as_ref().is_some_and(Building::is_complete);
    let built = match build(live, building, base, plan, pace, job, now) {
        Ok(building) if !was_complete || !building.is_complete() => {
            return Ok(Changed::Building(Box::new(building)));
        }
        Ok(building) => building,
        Err(Stop::Failed(error)) => return Err(error),
        // What cannot be built on is signed from the start, like any other version.
        Err(Stop::Full(why)) => return in_full(live, base, plan, why, job, now),
    };
    match patch(live, Some(&built.version), base, plan, scope, job, now) {
        Ok(done) => Ok(Changed::Switched(done)),
        Err(Stop::Failed(error)) => Err(error),
        Err(Stop::Full(why)) => in_full(live, base, plan, why, job, now),
    }
}

fn in_full(
    live: &ZoneVersion,
    base: &ZoneVersion,
    plan: &SigningPlan,
    why: WhyFull,
    job: &Job<'_>,
    now: Timestamp,
) -> Result<Changed, SignError> {
    let mut signed = sign(base, plan, job, now)?;
    signed.report.reasons.push(why.to_string());
    signed.report.dropped = live.sums().signatures;
    let done = Resigned::Signed(Box::new(signed), Some(why));
    Ok(Changed::Switched(done))
}

/// Batches until all is there, the time is up, or the job is cancelled.
fn build(
    live: &ZoneVersion,
    building: Option<Building>,
    base: &ZoneVersion,
    plan: &SigningPlan,
    pace: &Pace<'_>,
    job: &Job<'_>,
    now: Timestamp,
) -> Result<Building, Stop> {
    let soa = check(base, plan, now)?;
    let wanted = denial(plan, base.soa_ttl().min(soa.minimum));
    // What was begun of a batch is finished.
    let own = Progress::new();
    let steady = Job {
        progress: &own,
        ..*job
    };
    // The version that switches takes signatures over by the slots of their keys.
    let in_service = zone_slots(live, plan)?;
    let fits = |b: &Building| {
        *b.denial() == wanted
            && b.version.zone() == base.zone()
            && zone_slots(&b.version, plan).is_ok_and(|own| own == in_service)
    };
    let step = |before: &ZoneVersion| step(before, &wanted, base, plan, pace.batch, &steady, now);
    // What cannot be gone on with is begun anew; what cannot be begun is for the caller.
    let earlier = building.filter(fits).map(|b| step(&b.version));
    let mut at = match earlier {
        Some(Err(Stop::Full(_))) | None => step(&begin(live, &wanted, base, plan, job, now)?)?,
        Some(other) => other?,
    };
    (pace.keep)(&at);
    while !at.is_complete() && job.clock.monotonic() < pace.until {
        if job.progress.is_cancelled() {
            return Err(SignError::Cancelled.into());
        }
        at = step(&at.version)?;
        (pace.keep)(&at);
    }
    Ok(at)
}

/// The keys that sign the zone's data, and the slot of each in what follows this version.
fn zone_slots(of: &ZoneVersion, plan: &SigningPlan) -> Result<Vec<(u8, KeyId)>, WhyFull> {
    let [zone, ..] = Slots::new(of, plan)?.keys;
    Ok(zone.iter().map(|k| (k.slot, k.key.id())).collect())
}

/// The content with nothing signed; of NSEC3 the names, in order, are there.
fn begin(
    live: &ZoneVersion,
    wanted: &Denial,
    base: &ZoneVersion,
    plan: &SigningPlan,
    job: &Job<'_>,
    now: Timestamp,
) -> Result<ZoneVersion, Stop> {
    // Slots as in the version that is live, because that is what will take the records over.
    let slots = Slots::new(live, plan)?;
    let draft = draft(base, plan, wanted, &slots, now)?;
    let spread = spread_of(&draft, base, plan, now)?;
    let chain = match wanted {
        Denial::Nsec3 { params, ttl } => {
            job.progress.enter(Stage::Denial);
            let version = draft.version();
            let mut rows = job.pool.install(|| nsec3::collect(version, params));
            job.pool.install(|| rows.sort(version, params))?;
            let (blocks, per_block) = ChainPlan::block_count(rows.rows.len());
            let chain = ChainPlan {
                version,
                keys: &slots.keys,
                spread: &spread,
                params,
                ttl: *ttl,
                rows: &rows,
                per_block,
            };
            let unsigned = |i| chain.finish(i, &Piece::default()).map(|(block, _)| block);
            let blocks: Result<Vec<_>, SignError> = job
                .pool
                .install(|| (0..blocks).into_par_iter().map(unsigned).collect());
            Some(Chain::new(params.clone(), *ttl, rows.bitmaps, blocks?))
        }
        _ => None,
    };
    let none = std::iter::repeat_with(|| None).take(draft.version().unit_count());
    let none = none.collect();
    let version = job.pool.install(|| draft.finish(none, chain));
    Ok(version.map_err(SignError::from)?)
}

/// One batch more, and the records of `base` where it differs from what `before` was made of.
fn step(
    before: &ZoneVersion,
    wanted: &Denial,
    base: &ZoneVersion,
    plan: &SigningPlan,
    batch: usize,
    job: &Job<'_>,
    now: Timestamp,
) -> Result<Building, Stop> {
    let slots = Slots::new(before, plan)?;
    let draft = draft(base, plan, wanted, &slots, now)?;
    let spread = spread_of(&draft, base, plan, now)?;
    let alignment = Alignment::of(before, base);
    let leaves = LeafPatch {
        prev: before,
        beside: None,
        denial_alone: true,
        draft: &draft,
        keys: &slots.keys,
        masks: &slots.masks,
        spread: &spread,
        nsec_ttl: match wanted {
            Denial::Nsec { ttl } => Some(*ttl),
            _ => None,
        },
        apex_times: (plan.apex.inception, plan.apex.expiration),
        key_set_due: 0,
        no_digest: true,
        alike: false,
    };
    let mut todo = missing(before, slots.masks.zone, &spread);
    todo.truncate(batch.max(1));
    let mut done = Done::default();
    let (patched, chain) = match before.chain() {
        Some(chain) => {
            let blocks: Vec<(usize, Mode)> = todo.iter().map(|i| (*i, ALL)).collect();
            let mut marks = Marks::new(job.clock.monotonic());
            let chain = patch_chain(
                chain, &blocks, &leaves, &alignment, job, now, &mut marks, &mut done,
            )?;
            let changed = alignment.runs().iter().flat_map(|r| r.base.clone());
            let units = std::iter::once(0).chain(changed.map(|leaf| leaf + 1));
            (units.map(|unit| (unit, None)).collect(), Some(chain))
        }
        None => {
            let places: Vec<(Place, Mode)> = todo.iter().map(|i| (Place::Leaf(*i), ALL)).collect();
            let scope = Scope::content(0);
            let mut tasks = leaf_tasks(&leaves, &alignment, &scope, &places, false);
            // Whether a leaf lacks a key is seen from its first record, so none is done by half.
            tasks.iter_mut().for_each(|t| t.mode = ALL);
            (patch_leaves(&leaves, &tasks, job, now, &mut done)?, None)
        }
    };
    let version = draft
        .finish_from(before, &alignment, patched, chain)
        .map_err(SignError::from)?;
    if version.content_fingerprint() != base.content_fingerprint() {
        return Err(WhyFull::Inconsistent("the content came out differently").into());
    }
    let left = missing(&version, slots.masks.zone, &spread).len();
    let places = match version.chain() {
        Some(chain) => chain.tree().len(),
        None => version.unit_count(),
    };
    Ok(Building {
        version,
        places,
        left,
    })
}

fn draft(
    base: &ZoneVersion,
    plan: &SigningPlan,
    wanted: &Denial,
    slots: &Slots,
    now: Timestamp,
) -> Result<Draft, SignError> {
    let sets = apex_sets(base, plan, wanted);
    let table = slots.table.clone();
    Ok(Draft::new(
        base,
        plan.version,
        now,
        sets,
        table,
        wanted.clone(),
    )?)
}

fn spread_of(
    draft: &Draft,
    base: &ZoneVersion,
    plan: &SigningPlan,
    now: Timestamp,
) -> Result<Spread, SignError> {
    let max_ttl = draft.version().sums().max_ttl;
    Ok(plan.times.spread(base.zone(), max_ttl, now)?)
}

/// Blocks, or else units, whose denial records are not all signed by the wanted keys alone, or are
/// due already.
fn missing(version: &ZoneVersion, keys: u16, spread: &Spread) -> Vec<usize> {
    let due = |min_exp: Option<u32>| min_exp.is_some_and(|e| spread.is_due(e));
    match version.chain() {
        Some(chain) => {
            let all = blocks_where(chain, |_| true).map(|(i, block)| (i, block.sums()));
            let lacks = all.filter(|(_, s)| {
                keys & !s.full_mask != 0 || s.any_mask & !keys != 0 || due(s.min_exp)
            });
            lacks.map(|(i, _)| i).collect()
        }
        None => {
            let all = version.units_where(|s| s.owners > s.occluded);
            let lacks = all.filter(|(_, s)| s.any_mask != keys || due(s.min_exp));
            lacks.map(|(unit, _)| unit).collect()
        }
    }
}
