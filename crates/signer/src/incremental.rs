//! A signing job that starts from the signed version before.
//!
//! It touches what changed: leaves of other content, the denial records around them, the apex, and
//! what upkeep chose. All else is the version's before, by pointer. Whatever does not fit is signed
//! from the start, and the report says why.

use cascade_time::Timestamp;
use cascade_zone::denial::{Chain, Denial};
use cascade_zone::patch::Alignment;
use cascade_zone::sign::{Draft, Sidecar};
use cascade_zone::version::ZoneVersion;

use crate::chain_patch::{BlockPatch, BlockPatched, ChainPatch};
use crate::due::key_set_due;
use crate::job::{Job, Stage};
use crate::leaf_patch::{LeafPatch, LeafPatched, LeafTask};
use crate::piece::run;
use crate::plan::SigningPlan;
use crate::scope::{Left, Mode, Place, Scope, WhyFull, choose};
use crate::sign::{
    Counts, Marks, SignError, Signed, Work, apex_sets, check, denial, make_chain, report, sign,
};
use crate::slots::Slots;
use crate::touched::{apex_is_unchanged, leaf_tasks};
use crate::zonemd;

/// What became of a job.
#[derive(Debug)]
pub enum Resigned {
    /// A new version; `Some`: all of it was signed anew, and why.
    Signed(Box<Signed>, Option<WhyFull>),
    /// Content, keys and signatures are as they should be: no version, no serial used up. What was
    /// left for later, because the scope said so.
    Nothing(Left),
}

/// Signs `base` on the grounds of `prev`, the signed version before: the records are those that
/// [`sign`] would give, but signatures that need not be made are kept. For upkeep `base` is the
/// unsigned version that `prev` was made from.
///
/// Call it from a thread that may wait (tokens) and is not one of `job.pool`.
///
/// # Errors
/// As [`sign`]; nothing was changed.
pub fn sign_from(
    prev: &ZoneVersion,
    base: &ZoneVersion,
    plan: &SigningPlan,
    scope: &Scope,
    job: &Job<'_>,
    now: Timestamp,
) -> Result<Resigned, SignError> {
    let why = match patch(prev, None, base, plan, scope, job, now) {
        Ok(done) => return Ok(done),
        Err(Stop::Failed(error)) => return Err(error),
        Err(Stop::Full(why)) => why,
    };
    let mut signed = sign(base, plan, job, now)?;
    signed.report.reasons.push(why.to_string());
    signed.report.dropped = prev.sums().signatures;
    Ok(Resigned::Signed(Box::new(signed), Some(why)))
}

/// Why a job does not go on incrementally.
pub(crate) enum Stop {
    Full(WhyFull),
    Failed(SignError),
}

impl<E: Into<SignError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Failed(error.into())
    }
}

impl From<WhyFull> for Stop {
    fn from(why: WhyFull) -> Self {
        Stop::Full(why)
    }
}

/// `beside`: another version of `base` with all the denial records of `plan` and with no other
/// signatures, whose records are taken over.
pub(crate) fn patch(
    prev: &ZoneVersion,
    beside: Option<&ZoneVersion>,
    base: &ZoneVersion,
    plan: &SigningPlan,
    scope: &Scope,
    job: &Job<'_>,
    now: Timestamp,
) -> Result<Resigned, Stop> {
    let mut marks = Marks::new(job.clock.monotonic());
    let soa = check(base, plan, now)?;
    job.progress.enter(Stage::Collecting);
    let denial = denial(plan, base.soa_ttl().min(soa.minimum));
    // Another kind, other parameters or another TTL: RRsets keep their signatures, all denial is
    // made anew, and one version switches.
    let same_denial = fits(prev, base, &denial)?;
    let slots = Slots::new(prev, plan)?;
    let beside = beside.filter(|b| *b.denial() == denial && same_slots(b, &slots));
    let sets = apex_sets(base, plan, &denial);
    let draft = Draft::new(base, plan.version, now, sets, slots.table, denial.clone())
        .map_err(SignError::from)?;
    let spread = plan
        .times
        .spread(base.zone(), draft.version().sums().max_ttl, now)?;
    let alignment = Alignment::of(prev, base);
    let upkeep = choose(
        prev,
        scope,
        &slots.masks,
        &slots.new_algorithms,
        &spread,
        now,
    );
    let leaves = LeafPatch {
        prev,
        beside: beside.filter(|b| b.chain().is_none()),
        denial_alone: false,
        draft: &draft,
        keys: &slots.keys,
        masks: &slots.masks,
        spread: &spread,
        nsec_ttl: match denial {
            Denial::Nsec { ttl } => Some(ttl),
            _ => None,
        },
        apex_times: (plan.apex.inception, plan.apex.expiration),
        key_set_due: key_set_due(scope.key_set_remain, &plan.times, now).to_wire(),
        no_digest: true,
        alike: slots.masks.gone == 0 && beside.is_none() && prev.writes_like(draft.version()),
    };
    let tasks = leaf_tasks(&leaves, &alignment, scope, &upkeep.places, !same_denial);
    let idle =
        same_denial && tasks.len() == 1 && alignment.runs().is_empty() && upkeep.places.is_empty();
    if idle && !scope.even_if_equal && apex_is_unchanged(&leaves, &tasks)? {
        job.progress.enter(Stage::Finished);
        return Ok(Resigned::Nothing(upkeep.left));
    }
    marks.collected = job.clock.monotonic();

    let mut done = Done::default();
    let chain = match (&denial, prev.chain().filter(|_| same_denial)) {
        (_, Some(old)) => {
            let blocks = blocks_of(&upkeep.places);
            let chain = patch_chain(
                old, &blocks, &leaves, &alignment, job, now, &mut marks, &mut done,
            )?;
            Some(chain)
        }
        (Denial::Nsec3 { .. }, None) if beside.is_some() => {
            let chain = beside.and_then(ZoneVersion::chain).cloned();
            done.add(chain.as_ref().map_or(0, |c| c.len() as u64), (0, 0));
            chain
        }
        (Denial::Nsec3 { params, ttl }, None) => {
            let (keys, spread) = (&slots.keys, &spread);
            let chain = make_chain(&draft, keys, spread, params, *ttl, job, now, &mut marks)?;
            done.add(marks.rows, (marks.row_signatures, marks.row_signatures));
            Some(chain)
        }
        _ => None,
    };
    let patched = patch_leaves(&leaves, &tasks, job, now, &mut done)?;
    marks.signed = job.clock.monotonic();
    if job.progress.is_cancelled() {
        return Err(SignError::Cancelled.into());
    }
    job.progress.enter(Stage::Inserting);
    let version = draft
        .finish_from(prev, &alignment, patched, chain)
        .map_err(SignError::from)?;
    // Whatever went wrong on the way here, the content must be the content.
    if version.content_fingerprint() != base.content_fingerprint() {
        return Err(WhyFull::Inconsistent("the content came out differently").into());
    }
    let (version, sealing) = zonemd::seal(version, plan, &slots.keys, &spread, job, now)?;
    done.add(0, (sealing, sealing));
    marks.finished = job.clock.monotonic();
    job.progress.enter(Stage::Finished);
    let work = Work {
        plan,
        keys: &slots.keys,
        spread: &spread,
        marks: &marks,
        scope: if same_denial { "incremental" } else { "denial" },
        counts: done.counts(prev, &version),
    };
    let report = report(base, &version, &work, job, now);
    let signed = Signed {
        version,
        report,
        left: upkeep.left,
    };
    Ok(Resigned::Signed(Box::new(signed), None))
}

/// What was made, over all leaves and blocks.
#[derive(Default)]
pub(crate) struct Done {
    denial: u64,
    by_zone_keys: u64,
    signatures: u64,
}

impl Done {
    fn add(&mut self, denial: u64, made: (u64, u64)) {
        self.denial += denial;
        self.by_zone_keys += made.0;
        self.signatures += made.1;
    }

    fn counts(&self, prev: &ZoneVersion, version: &ZoneVersion) -> Counts {
        let kept = version.sums().signatures.saturating_sub(self.signatures);
        Counts {
            denial: self.denial,
            signatures: self.by_zone_keys,
            kept,
            dropped: prev.sums().signatures.saturating_sub(kept),
        }
    }
}

/// Whether `prev` is something to start from; `true`: its denial of existence too.
fn fits(prev: &ZoneVersion, base: &ZoneVersion, denial: &Denial) -> Result<bool, WhyFull> {
    if !prev.is_signed() {
        return Err(WhyFull::NotSigned);
    }
    if prev.zone() != base.zone() || prev.apex() != base.apex() {
        return Err(WhyFull::OtherZone);
    }
    match (prev.denial(), prev.chain()) {
        (Denial::Nsec { .. }, None) => {}
        (Denial::Nsec3 { params, ttl }, Some(chain))
            if chain.params() == params && chain.ttl() == *ttl && !chain.is_empty() => {}
        _ => return Err(WhyFull::Inconsistent("no chain of its denial of existence")),
    }
    Ok(prev.denial() == denial)
}

/// Whether the keys that sign zone data have the numbers that they have in `beside`.
fn same_slots(beside: &ZoneVersion, slots: &Slots) -> bool {
    let zone = slots
        .table
        .iter()
        .filter(|(slot, _)| slots.masks.zone >> slot & 1 == 1);
    zone.fold(true, |same, (slot, key)| {
        same && beside.key_table().get(slot) == Some(key)
    })
}

fn blocks_of(upkeep: &[(Place, Mode)]) -> Vec<(usize, Mode)> {
    let block = |(place, mode): &(Place, Mode)| match place {
        Place::Block(i) => Some((*i, *mode)),
        Place::Leaf(_) => None,
    };
    upkeep.iter().filter_map(block).collect()
}

pub(crate) fn patch_chain(
    chain: &Chain,
    upkeep: &[(usize, Mode)],
    leaves: &LeafPatch<'_>,
    alignment: &Alignment,
    job: &Job<'_>,
    now: Timestamp,
    marks: &mut Marks,
    done: &mut Done,
) -> Result<Chain, Stop> {
    job.progress.enter(Stage::Denial);
    let version = leaves.draft.version();
    let patch = job
        .pool
        .install(|| ChainPatch::new(leaves.prev, chain, version, alignment, upkeep))?;
    let hashed = job.clock.monotonic();
    marks.hashed = hashed.saturating_sub(marks.collected);
    marks.collected = hashed;
    job.progress.enter(Stage::Signing);
    job.progress.add_total(patch.len());
    let blocks = BlockPatch {
        prev: leaves.prev,
        chain,
        version,
        keys: leaves.keys,
        masks: leaves.masks,
        spread: leaves.spread,
        patch: &patch,
    };
    let made: Vec<BlockPatched> = run(
        patch.len(),
        leaves.keys,
        job,
        now,
        &|i, piece| blocks.prepare(i, piece),
        &|i, piece| blocks.finish(i, piece),
    )?;
    made.iter().for_each(|b| done.add(b.denial, b.made));
    Ok(patch.chain(chain, made.into_iter().map(|b| b.block).collect()))
}

pub(crate) fn patch_leaves(
    leaves: &LeafPatch<'_>,
    tasks: &[LeafTask],
    job: &Job<'_>,
    now: Timestamp,
    done: &mut Done,
) -> Result<Vec<(usize, Option<Sidecar>)>, SignError> {
    job.progress.enter(Stage::Signing);
    job.progress.add_total(tasks.len());
    let task = |i: usize| tasks.get(i).ok_or(SignError::Cancelled);
    let made: Vec<LeafPatched> = run(
        tasks.len(),
        leaves.keys,
        job,
        now,
        &|i, piece| leaves.prepare(task(i)?, piece),
        &|i, piece| leaves.finish(task(i)?, piece),
    )?;
    made.iter().for_each(|l| done.add(l.denial, l.made));
    let sidecars = made.into_iter().map(|l| l.sidecar);
    Ok(tasks.iter().map(|t| t.unit).zip(sidecars).collect())
}
