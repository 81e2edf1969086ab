//! A signing job that starts from the signed version before (signing.md §3, §5, §6).
//!
//! It touches what changed: leaves of other content, the denial records around them, the apex, and
//! what upkeep chose. All else is the version's before, by pointer. Whatever does not fit is signed
//! from the start, and the report says why.

use std::collections::BTreeMap;

use cascade_time::Timestamp;
use cascade_zone::denial::{Chain, Denial};
use cascade_zone::patch::Alignment;
use cascade_zone::sign::{Draft, Sidecar};
use cascade_zone::slots::KeyTable;
use cascade_zone::version::{SoaFields, ZoneVersion};
use cascade_zone::{Rtype, Serial};
use sha2::{Digest, Sha256};

use crate::chain_patch::{BlockPatch, BlockPatched, ChainPatch};
use crate::due::key_set_due;
use crate::job::{Job, Stage};
use crate::leaf_patch::{LeafPatch, LeafPatched, LeafTask};
use crate::piece::{Keys, Piece, run, slots_of};
use crate::plan::{PlanError, SigningPlan};
use crate::scope::{Left, Masks, Mode, Place, Scope, WhyFull, choose};
use crate::sign::{
    Counts, Marks, SignError, Signed, Work, apex_sets, assign_slots, check, denial, key_slot,
    report, sign,
};

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
    let why = match patch(prev, base, plan, scope, job, now) {
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
enum Stop {
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

fn patch(
    prev: &ZoneVersion,
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
    fits(prev, base, &denial)?;
    let (keys, table, masks) = slots(prev, plan)?;
    let new_algorithms = new_algorithms(prev, plan, &table, &masks);
    let draft = Draft::new(
        base,
        plan.version,
        now,
        apex_sets(base, plan, &denial),
        table,
        denial.clone(),
    )
    .map_err(SignError::from)?;
    let spread = plan
        .times
        .spread(base.zone(), draft.version().sums().max_ttl, now)?;
    let alignment = Alignment::of(prev, base);
    let upkeep = choose(prev, scope, &masks, &new_algorithms, &spread, now);
    let leaves = LeafPatch {
        prev,
        draft: &draft,
        keys: &keys,
        masks: &masks,
        spread: &spread,
        nsec_ttl: match denial {
            Denial::Nsec { ttl } => Some(ttl),
            _ => None,
        },
        apex_times: (plan.apex.inception, plan.apex.expiration),
        key_set_due: key_set_due(scope.key_set_remain, &plan.times, now).to_wire(),
    };
    let tasks = leaf_tasks(
        prev,
        draft.version(),
        &alignment,
        scope,
        &upkeep.places,
        &leaves,
    );
    let idle = tasks.len() == 1 && alignment.runs().is_empty() && upkeep.places.is_empty();
    if idle && !scope.even_if_equal && apex_is_unchanged(&leaves, &tasks)? {
        job.progress.enter(Stage::Finished);
        return Ok(Resigned::Nothing(upkeep.left));
    }
    marks.collected = job.clock.monotonic();

    let mut done = Done::default();
    let chain = match prev.chain() {
        Some(chain) => {
            let blocks = blocks_of(&upkeep.places);
            Some(patch_chain(
                chain, &blocks, &leaves, &alignment, job, now, &mut marks, &mut done,
            )?)
        }
        None => None,
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
    marks.finished = job.clock.monotonic();
    job.progress.enter(Stage::Finished);
    let work = Work {
        plan,
        keys: &keys,
        spread: &spread,
        marks: &marks,
        scope: "incremental",
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
struct Done {
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

/// Whether `prev` is something to start from.
fn fits(prev: &ZoneVersion, base: &ZoneVersion, denial: &Denial) -> Result<(), WhyFull> {
    if prev.zone() != base.zone() || prev.apex() != base.apex() {
        return Err(WhyFull::OtherZone);
    }
    match (prev.denial(), denial) {
        (Denial::None, _) => return Err(WhyFull::NotSigned),
        (Denial::Nsec { ttl: was }, Denial::Nsec { ttl }) if was == ttl => {}
        (
            Denial::Nsec3 {
                params: was,
                ttl: was_ttl,
            },
            Denial::Nsec3 { params, ttl },
        ) if was == params && was_ttl == ttl => {}
        (Denial::Nsec { .. }, Denial::Nsec { .. }) => return Err(WhyFull::DenialTtl),
        (Denial::Nsec3 { params: was, .. }, Denial::Nsec3 { params, .. }) if was == params => {
            return Err(WhyFull::DenialTtl);
        }
        _ => return Err(WhyFull::Denial),
    }
    match (prev.denial(), prev.chain()) {
        (Denial::Nsec { .. }, None) => Ok(()),
        (Denial::Nsec3 { params, ttl }, Some(chain))
            if chain.params() == params && chain.ttl() == *ttl && !chain.is_empty() =>
        {
            Ok(())
        }
        _ => Err(WhyFull::Inconsistent("no chain of its denial of existence")),
    }
}

/// Slots: keys of the version before keep theirs while they have signatures.
fn slots(prev: &ZoneVersion, plan: &SigningPlan) -> Result<(Keys, KeyTable, Masks), Stop> {
    let mut table = prev.key_table().clone();
    let of_data = prev.chain().map_or(0, |c| c.tree().sums().any_mask);
    let of_data = of_data | prev.leaf_sums().any_mask;
    let (mut in_use, mut stale) = (prev.sums().any_mask, 0u16);
    for key in plan.apex.zone_signers.iter().chain(&plan.apex.apex_signers) {
        let Some(slot) = table.slot_of(key.id()) else {
            continue;
        };
        let now = key_slot(key.as_ref(), key.dnskey().key_tag());
        in_use |= 1 << slot;
        if table.get(slot).is_some_and(|was| *was != now) {
            // Its old signatures would be shown with the new tag.
            if of_data >> slot & 1 == 1 {
                return Err(WhyFull::KeyFace.into());
            }
            stale |= 1 << slot;
        }
    }
    table.retain(in_use);
    let before = table.clone();
    let (keys, table) = match assign_slots(plan, table) {
        Ok(done) => done,
        Err(SignError::Plan(PlanError::TooManyKeys(_))) => return Err(WhyFull::Slots.into()),
        Err(error) => return Err(error.into()),
    };
    let (zone, apex) = (slots_of(&keys[0]), slots_of(&keys[1]));
    let published: Vec<[u8; 32]> = plan
        .apex
        .dnskey
        .iter()
        .map(|rdata| Sha256::digest(rdata).into())
        .collect();
    let unpublished = before
        .iter()
        .filter(|(slot, key)| {
            (zone | apex) >> slot & 1 == 0 && !published.contains(&key.dnskey_sha256)
        })
        .fold(0, |mask, (slot, _)| mask | 1 << slot);
    let masks = Masks {
        zone,
        apex,
        gone: stale | unpublished,
    };
    Ok((keys, table, masks))
}

/// For each algorithm that enters the DNSKEY RRset with this version: the slots of its keys.
fn new_algorithms(
    prev: &ZoneVersion,
    plan: &SigningPlan,
    table: &KeyTable,
    masks: &Masks,
) -> Vec<u16> {
    let before: Vec<u8> = prev
        .apex_owner()
        .set(Rtype::DNSKEY)
        .into_iter()
        .flat_map(|s| s.rdatas())
        .filter_map(|r| r.get(3).copied())
        .collect();
    let algorithms = plan.apex.algorithms();
    let new = algorithms.iter().filter(|a| !before.contains(a));
    new.map(|a| {
        let of = table.iter().filter(|(_, k)| k.algorithm == *a);
        of.fold(0, |mask, (slot, _)| mask | 1 << slot) & !masks.gone
    })
    .collect()
}

/// The units of the draft to look at, ascending, the apex first.
fn leaf_tasks(
    prev: &ZoneVersion,
    version: &ZoneVersion,
    alignment: &Alignment,
    scope: &Scope,
    upkeep: &[(Place, Mode)],
    leaves: &LeafPatch<'_>,
) -> Vec<LeafTask> {
    let redo = scope.refresh > 0;
    let mut units: BTreeMap<usize, LeafTask> = BTreeMap::new();
    let mut touch = |unit: usize, mode: Mode| {
        let same = alignment.prev_unit(unit).is_some();
        let task = units.entry(unit).or_insert(LeafTask { unit, same, mode });
        task.mode = task.mode.with(mode);
    };
    // The apex is signed anew anyway, so whatever is due there goes along.
    let all = Mode {
        fix_keys: true,
        redo: true,
    };
    touch(0, all);
    for (place, mode) in upkeep {
        if let Place::Leaf(unit) = place
            && let Some(unit) = alignment.base_unit(*unit)
        {
            touch(unit, *mode);
        }
    }
    let moved: std::collections::BTreeSet<usize> = upkeep
        .iter()
        .filter_map(|(place, _)| match place {
            Place::Leaf(unit) if alignment.base_unit(*unit).is_none() => Some(*unit),
            _ => None,
        })
        .collect();
    for run in alignment.runs() {
        // Upkeep of leaves that a run replaces is done in those that stand there now.
        let upkept = moved
            .range(run.prev.start + 1..run.prev.end + 1)
            .next()
            .is_some();
        for leaf in run.base.clone() {
            touch(
                leaf + 1,
                Mode {
                    fix_keys: upkept,
                    redo: redo || upkept,
                },
            );
        }
        if leaves.nsec_ttl.is_some()
            && let Some(unit) = nsec_before(prev, version, alignment, run.base.start)
        {
            touch(unit, Mode::default());
        }
    }
    units.into_values().collect()
}

/// The unit before leaf `start` whose last NSEC names another owner now; `None` if it is the apex or
/// changed itself.
fn nsec_before(
    prev: &ZoneVersion,
    version: &ZoneVersion,
    alignment: &Alignment,
    start: usize,
) -> Option<usize> {
    let unit = version.bearing_unit_back(start);
    let was = prev.unit(alignment.prev_unit(unit)?).nsec_next();
    let last = version
        .unit(unit)
        .owners()
        .filter(|o| !o.flags().is_occluded())
        .last()?;
    let next = version.succ_bearing(last.key());
    let next = next.as_ref().map_or(&[][..], |o| o.key());
    (was != Some(next)).then_some(unit)
}

fn blocks_of(upkeep: &[(Place, Mode)]) -> Vec<(usize, Mode)> {
    let block = |(place, mode): &(Place, Mode)| match place {
        Place::Block(i) => Some((*i, *mode)),
        Place::Leaf(_) => None,
    };
    upkeep.iter().filter_map(block).collect()
}

/// True if the apex differs in nothing but the serial and the signature over the SOA, and none of
/// its signatures is due.
fn apex_is_unchanged(leaves: &LeafPatch<'_>, tasks: &[LeafTask]) -> Result<bool, SignError> {
    let (Some(task), version) = (tasks.first(), leaves.draft.version()) else {
        return Ok(false);
    };
    let masked = |v: &ZoneVersion| (v.soa_ttl(), SoaFields::with_serial(v.soa(), Serial(0)));
    let (old, new) = (leaves.prev.apex_owner(), version.apex_owner());
    if masked(leaves.prev) != masked(version) || !old.types().eq(new.types()) {
        return Ok(false);
    }
    let Some(soa) = new.set(Rtype::SOA).map(|s| s.index as u16) else {
        return Ok(false);
    };
    let mut piece = Piece::default();
    piece.reset(leaves.keys);
    leaves.prepare(task, &mut piece)?;
    // The old SOA has the signatures that a new one would get, and they are not due.
    let (mut slots, mut due) = (0u16, false);
    for sig in old.set(Rtype::SOA).iter().flat_map(|s| old.sigs(s.index)) {
        slots |= 1 << sig.slot;
        due |= leaves.spread.is_due(sig.expiration);
    }
    let rest = leaves.prev.unit(0).sums().signatures - u64::from(slots.count_ones());
    let only_soa = piece.entries.iter().all(|e| e.set == soa);
    Ok(only_soa && !due && slots == leaves.masks.zone && piece.kept() as u64 == rest)
}

fn patch_chain(
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

fn patch_leaves(
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
