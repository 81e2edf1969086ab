//! A signing job: from an unsigned version to a signed one.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use cascade_crypto::SignFailure;
use cascade_time::Timestamp;
use cascade_zone::block::Nsec3Params;
use cascade_zone::build::BuildError;
use cascade_zone::denial::{Chain, Denial};
use cascade_zone::sign::{Draft, SetSpec, Sidecar};
use cascade_zone::slots::KeyTable;
use cascade_zone::version::{SoaFields, ZoneVersion};
use cascade_zone::{KeyId, Name, Rtype};
use thiserror::Error;

use crate::job::{Job, Stage};
use crate::leaf::{LeafContext, LeafDone};
use crate::nsec3::{self, ChainPlan};
use crate::piece::{Keys, SlotKey, run};
use crate::plan::{DenialPlan, PlanError, SigningPlan};
use crate::refresh::{ClockUnsafe, Spread, TimesError};
use crate::report::{KeyReport, SignReport};
use crate::scope::Left;
use crate::slots::assign_slots;
use crate::zonemd;

/// The result: neither verified nor published.
pub struct Signed {
    pub version: ZoneVersion,
    pub report: SignReport,
    /// Upkeep that waits for the next version.
    pub left: Left,
}

/// A version's own `Debug` shows every octet of the zone.
impl std::fmt::Debug for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signed")
            .field("version", &self.version.id())
            .field("serial", &self.version.serial())
            .field("report", &self.report)
            .field("left", &self.left)
            .finish()
    }
}

/// Why nothing was signed. The live version is untouched in every case.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignError {
    #[error("signing plan refused: {0}")]
    Plan(#[from] PlanError),
    #[error("signature times refused: {0}")]
    Times(#[from] TimesError),
    #[error("the clock cannot be trusted: {0}")]
    Clock(#[from] ClockUnsafe),
    #[error("Z131: {a} and {b} have the same NSEC3 hash; use another salt or NSEC")]
    HashCollision { a: Name, b: Name },
    #[error("key {id} (tag {tag}): {failure}")]
    Key {
        id: KeyId,
        tag: u16,
        failure: SignFailure,
    },
    #[error("an RRset is too large to be signed")]
    TooLarge,
    #[error("the version could not be put together: {0}")]
    Build(#[from] BuildError),
    #[error("cancelled")]
    Cancelled,
}

/// Signs all of `base`. Depends on nothing but its arguments; of `job`, only the report does.
///
/// Call it from a thread that may wait (tokens) and is not one of `job.pool`.
pub fn sign(
    base: &ZoneVersion,
    plan: &SigningPlan,
    job: &Job<'_>,
    now: Timestamp,
) -> Result<Signed, SignError> {
    let started = job.clock.monotonic();
    let soa = check(base, plan, now)?;

    job.progress.enter(Stage::Collecting);
    let (keys, table) = assign_slots(plan, KeyTable::new())?;
    // RFC 9077 §3: the TTL of denial is that of negative answers.
    let ttl = base.soa_ttl().min(soa.minimum);
    let denial = denial(plan, ttl);
    let draft = job.pool.install(|| {
        Draft::new(
            base,
            plan.version,
            now,
            apex_sets(base, plan, &denial),
            table,
            denial.clone(),
        )
    })?;
    let spread = plan
        .times
        .spread(base.zone(), draft.version().sums().max_ttl, now)?;
    let mut marks = Marks {
        collected: job.clock.monotonic(),
        ..Marks::new(started)
    };

    let chain = match &denial {
        Denial::Nsec3 { params, ttl } => Some(make_chain(
            &draft, &keys, &spread, params, *ttl, job, now, &mut marks,
        )?),
        _ => None,
    };
    let (sidecars, done) = sign_leaves(&draft, &keys, &spread, plan, &denial, job, now)?;
    marks.signed = job.clock.monotonic();

    if job.progress.is_cancelled() {
        return Err(SignError::Cancelled);
    }
    job.progress.enter(Stage::Inserting);
    let version = job.pool.install(|| draft.finish(sidecars, chain))?;
    let (version, sealing) = zonemd::seal(version, plan, &keys, &spread, job, now)?;
    marks.finished = job.clock.monotonic();
    job.progress.enter(Stage::Finished);
    let counts = Counts {
        denial: done.0 + marks.rows,
        signatures: done.1 + marks.row_signatures + sealing,
        kept: 0,
        dropped: 0,
    };
    let work = Work {
        plan,
        keys: &keys,
        spread: &spread,
        marks: &marks,
        scope: "full",
        counts,
    };
    let report = report(base, &version, &work, job, now);
    Ok(Signed {
        version,
        report,
        left: Left::default(),
    })
}

/// When each part of the job ended.
pub(crate) struct Marks {
    pub started: Duration,
    pub collected: Duration,
    pub hashed: Duration,
    pub sorted: Duration,
    pub signed: Duration,
    pub finished: Duration,
    pub rows: u64,
    pub row_signatures: u64,
}

impl Marks {
    pub fn new(at: Duration) -> Marks {
        Marks {
            started: at,
            collected: at,
            hashed: Duration::ZERO,
            sorted: Duration::ZERO,
            signed: at,
            finished: at,
            rows: 0,
            row_signatures: 0,
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Counts {
    pub denial: u64,
    pub signatures: u64,
    pub kept: u64,
    pub dropped: u64,
}

/// What a report is made of.
pub(crate) struct Work<'a> {
    pub plan: &'a SigningPlan,
    pub keys: &'a Keys,
    pub spread: &'a Spread,
    pub marks: &'a Marks,
    pub scope: &'static str,
    pub counts: Counts,
}

/// Where the job is refused before any work.
pub(crate) fn check(
    base: &ZoneVersion,
    plan: &SigningPlan,
    now: Timestamp,
) -> Result<SoaFields, SignError> {
    if base.is_signed() {
        return Err(PlanError::NotUnsigned.into());
    }
    plan.check(base.apex(), now)?;
    plan.times.check()?;
    plan.clock.check(plan.times.inception_offset, now)?;
    Ok(base.soa_fields().ok_or(PlanError::NoSoa)?)
}

pub(crate) fn denial(plan: &SigningPlan, ttl: u32) -> Denial {
    match &plan.denial {
        DenialPlan::Nsec => Denial::Nsec { ttl },
        DenialPlan::Nsec3 {
            iterations,
            salt,
            opt_out,
        } => Denial::Nsec3 {
            params: Nsec3Params {
                algorithm: 1,
                iterations: *iterations,
                salt: salt.clone(),
                opt_out: *opt_out,
            },
            ttl,
        },
    }
}

/// The apex sets that are ours; those of the same types in the content are gone (RFC 4035 §2).
pub(crate) fn apex_sets(base: &ZoneVersion, plan: &SigningPlan, denial: &Denial) -> Vec<SetSpec> {
    let mut sets = plan.apex.sets();
    let soa_ttl = base.soa_ttl();
    sets.push((
        Rtype::SOA,
        soa_ttl,
        vec![SoaFields::with_serial(base.soa(), plan.serial)],
    ));
    let param = match denial {
        Denial::Nsec3 { params, .. } => vec![params.nsec3param_rdata()],
        _ => Vec::new(),
    };
    sets.push((Rtype::NSEC3PARAM, soa_ttl, param));
    // Its place is held, so that it stands in the bitmap that is digested (RFC 8976 §3.2).
    let digest = plan.zonemd.map(|hash| hash.placeholder(plan.serial));
    sets.push((Rtype::ZONEMD, soa_ttl, digest.into_iter().collect()));
    sets
}

pub(crate) fn make_chain(
    draft: &Draft,
    keys: &Keys,
    spread: &Spread,
    params: &Nsec3Params,
    ttl: u32,
    job: &Job<'_>,
    now: Timestamp,
    marks: &mut Marks,
) -> Result<Chain, SignError> {
    job.progress.enter(Stage::Denial);
    let version = draft.version();
    let mut rows = job.pool.install(|| nsec3::collect(version, params));
    let hashed = job.clock.monotonic();
    job.pool.install(|| rows.sort(version, params))?;
    let sorted = job.clock.monotonic();
    marks.hashed = hashed.saturating_sub(marks.collected);
    marks.sorted = sorted.saturating_sub(hashed);
    marks.collected = sorted;
    marks.rows = rows.rows.len() as u64;

    job.progress.enter(Stage::Signing);
    let (blocks, per_block) = ChainPlan::block_count(rows.rows.len());
    let plan = ChainPlan {
        version,
        keys,
        spread,
        params,
        ttl,
        rows: &rows,
        per_block,
    };
    job.progress.add_total(blocks);
    let done = run(
        blocks,
        keys,
        job,
        now,
        &|i, piece| plan.prepare(i, piece),
        &|i, piece| plan.finish(i, piece),
    )?;
    marks.row_signatures = done.iter().map(|d| d.1).sum();
    let blocks = done.into_iter().map(|d| d.0).collect();
    Ok(Chain::new(params.clone(), ttl, rows.bitmaps, blocks))
}

type Sidecars = Vec<Option<Sidecar>>;

/// Signs apex and leaves; gives NSEC records and signatures made.
fn sign_leaves(
    draft: &Draft,
    keys: &Keys,
    spread: &Spread,
    plan: &SigningPlan,
    denial: &Denial,
    job: &Job<'_>,
    now: Timestamp,
) -> Result<(Sidecars, (u64, u64)), SignError> {
    job.progress.enter(Stage::Signing);
    let context = LeafContext {
        draft,
        keys,
        spread,
        nsec_ttl: match denial {
            Denial::Nsec { ttl } => Some(*ttl),
            _ => None,
        },
        apex_times: (plan.apex.inception, plan.apex.expiration),
    };
    let units = draft.version().unit_count();
    job.progress.add_total(units);
    let done: Vec<LeafDone> = run(
        units,
        keys,
        job,
        now,
        &|i, piece| context.prepare(i, piece),
        &|i, piece| context.finish(i, piece),
    )?;
    let counts = done
        .iter()
        .fold((0, 0), |n, d| (n.0 + d.denial, n.1 + d.signatures));
    Ok((done.into_iter().map(|d| d.sidecar).collect(), counts))
}

pub(crate) fn report(
    base: &ZoneVersion,
    version: &ZoneVersion,
    work: &Work<'_>,
    job: &Job<'_>,
    now: Timestamp,
) -> SignReport {
    let Work {
        plan,
        keys,
        spread,
        marks,
        scope,
        counts,
    } = *work;
    let total = marks.finished.saturating_sub(marks.started);
    let made = |key: &SlotKey| KeyReport {
        slot: key.slot,
        id: key.key.id().to_string(),
        algorithm: key.key.algorithm().number(),
        tag: key.tag,
        signatures: key.made.load(Relaxed),
        retries: key.retries.load(Relaxed),
        queue_wait: Duration::from_nanos(key.waited.load(Relaxed)),
    };
    let mut key_reports: Vec<KeyReport> = Vec::new();
    for key in keys.iter().flatten().map(made) {
        match key_reports.iter_mut().find(|k| k.slot == key.slot) {
            // A CSK is in all groups.
            Some(k) => {
                k.signatures += key.signatures;
                k.retries += key.retries;
                k.queue_wait += key.queue_wait;
            }
            None => key_reports.push(key),
        }
    }
    key_reports.sort_by_key(|k| k.slot);
    let min_exp = version.sums().min_exp;
    SignReport {
        requested_at: plan.requested_at,
        started_at: now,
        finished_at: now + total,
        records: base.sums().records,
        collect_time: marks
            .collected
            .saturating_sub(marks.started + marks.hashed + marks.sorted),
        sort_time: marks.sorted,
        denial_records: counts.denial,
        denial_time: marks.hashed,
        signatures: counts.signatures,
        sign_time: marks.signed.saturating_sub(marks.collected),
        insert_time: marks.finished.saturating_sub(marks.signed),
        total_time: total,
        threads: job.progress.threads(),
        action: "finished".to_owned(),
        scope: scope.to_owned(),
        reasons: plan.reasons.clone(),
        kept: counts.kept,
        dropped: counts.dropped,
        keys: key_reports,
        min_exp: min_exp.map(|e| Timestamp::from_wire(e, now)),
        next_due: min_exp.map(|e| spread.next_due(e)),
    }
}
