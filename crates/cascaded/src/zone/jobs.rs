//! The work of the stages, as functions that block: called outside of the async threads, parallel
//! parts on the compute pool. They decide nothing; what they return becomes an event.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cascade_crypto::{Class, ZonemdHash};
use cascade_loader::{
    Checks, Diagnostic, IncludeMode, Level, LoadReport, LoadRequest, Outcome as LoadOutcome,
    ParseOptions, ParsedRecord, Severity, SourceIdentity, ZonemdCheck, load_bytes, load_file,
    load_signed_file,
};
use cascade_pipeline::Fault;
use cascade_pipeline::state::Reason;
use cascade_policy as policy;
use cascade_signer::serial::SerialInput;
use cascade_signer::{
    Chosen, ClockGuard, DenialPlan, Job, KeepRefresh, KeyPace, Left, Occasion, Resigned, Scope,
    SerialNote, SerialPolicy, SignError, Signed, SigningPlan, Times, TimesError, next_serial, sign,
    sign_from,
};
use cascade_time::{Clock, Timestamp};
use cascade_verifier::{
    DenialPolicy, Engine, Ledger, Outcome, OwnKey, Params, Parent, Predecessor, StoreDelta,
    verify_changed, verify_full,
};
use cascade_zone::{Name, Serial, VersionId, ZoneId, ZoneVersion};

use super::beside::{self, Shelf, Way};
use crate::keys::{self, Loaded};

/// The year 2025 began: this software did not exist before.
pub const BUILT_AT: Timestamp = Timestamp::from_secs(1_735_689_600);
/// Most signatures refreshed in one version by software keys (`signer.refresh-batch`, its default).
const REFRESH_BATCH: u64 = 250_000;
/// How often upkeep looks at a version without DNSSEC.
const UNSIGNED_LOOK: Duration = Duration::from_secs(365 * 86_400);
/// For one batch of a token.
const TOKEN_WAIT: Duration = Duration::from_secs(30);

pub struct LoadJob {
    pub path: String,
    /// Instead of what stands in the file.
    pub text: Option<String>,
    pub apex: Name,
    pub zone: ZoneId,
    pub version: VersionId,
    pub current: Option<Arc<ZoneVersion>>,
    pub identity: Option<SourceIdentity>,
    pub forced: bool,
    pub trigger: &'static str,
    pub policy: Arc<policy::PolicyFile>,
}

/// Loads a zone file; `dnssec`: what of it is signed goes there instead of being dropped.
pub fn load(
    job: &LoadJob,
    pool: &rayon::ThreadPool,
    clock: &dyn Clock,
    progress: &cascade_loader::Progress,
    dnssec: Option<&mut Vec<ParsedRecord>>,
) -> LoadOutcome {
    let p = &job.policy.policy;
    let options = ParseOptions {
        checks: checks(&p.loader.checks),
        // What is passed on must fit its signatures.
        max_ttl: max_ttl(p).filter(|_| dnssec.is_none()),
        strip: true,
        include: match p.loader.include {
            policy::Include::Beside => IncludeMode::Beside,
            policy::Include::Anywhere => IncludeMode::Anywhere,
            policy::Include::Off => IncludeMode::Off,
        },
        zonemd: zonemd_check(p.loader.zonemd),
        max_size: p.loader.max_size.0,
        chunk: None,
    };
    let request = LoadRequest {
        path: Path::new(&job.path),
        apex: &job.apex,
        zone: job.zone,
        version: job.version,
        current: job.current.as_deref(),
        identity: job.identity.as_ref(),
        options: &options,
        max_records: p.loader.max_records,
        force: job.forced,
        trigger: job.trigger,
    };
    pool.install(|| match (&job.text, dnssec) {
        (Some(text), _) => load_bytes(&request, text.clone().into_bytes(), clock, progress),
        (None, Some(dnssec)) => load_signed_file(&request, clock, progress, dnssec),
        (None, None) => load_file(&request, clock, progress),
    })
}

/// What is asked of the source's own digest.
pub fn zonemd_check(check: policy::ZonemdCheck) -> ZonemdCheck {
    match check {
        policy::ZonemdCheck::Off => ZonemdCheck::Off,
        policy::ZonemdCheck::IfPresent => ZonemdCheck::IfPresent,
        policy::ZonemdCheck::Required => ZonemdCheck::Required,
    }
}

/// TTLs above are lowered.
pub fn max_ttl(p: &policy::Policy) -> Option<u32> {
    p.signer.max_ttl.map(secs)
}

pub fn checks(set: &policy::Checks) -> Checks {
    let mut out = Checks::default();
    for (code, level) in set.iter() {
        let level = match level {
            policy::CheckLevel::Off => Level::Off,
            policy::CheckLevel::Note => Level::Note,
            policy::CheckLevel::Warn => Level::Warning,
            policy::CheckLevel::Error => Level::Error,
        };
        // Validation has refused what cannot be set, so nothing is lost here.
        let _ = out.set(&format!("Z{code:03}"), level);
    }
    out
}

/// One line that says why a load failed.
pub fn load_error(report: &LoadReport) -> String {
    let first = report
        .diagnostics
        .kept
        .iter()
        .find(|d| d.severity == Severity::Error);
    match (&report.reason, first) {
        (Some(reason), None) => reason.clone(),
        (_, Some(d)) => {
            let more = report.diagnostics.errors.saturating_sub(1);
            let line = diagnostic_line(d);
            if more == 0 {
                line
            } else {
                format!("{line} (and {more} more errors)")
            }
        }
        (None, None) => "the source could not be loaded".into(),
    }
}

/// `file:line:column: code: message`.
pub fn diagnostic_line(d: &Diagnostic) -> String {
    let place = d.place.as_ref().map_or(String::new(), |p| {
        format!("{}:{}:{}: ", p.file, p.line, p.column)
    });
    format!("{place}{}: {}", d.code, d.message)
}

pub struct SignInput {
    pub base: Arc<ZoneVersion>,
    /// The published version: what is still good of it is kept. `None`: everything is signed anew.
    pub prev: Option<Arc<ZoneVersion>>,
    pub version: VersionId,
    pub keys: Arc<Loaded>,
    pub policy: Arc<policy::PolicyFile>,
    pub above: Option<Serial>,
    pub requested: Option<Serial>,
    pub upkeep: bool,
    pub first: bool,
    pub newest_inception: Option<Timestamp>,
    pub requested_at: Timestamp,
    pub reasons: BTreeSet<Reason>,
    pub class: Class,
    /// Since when another set of keys is to sign the zone, if that may take its time.
    pub keys_change_since: Option<Timestamp>,
    pub beside: Shelf,
}

/// What a signing came to.
pub enum SignEnd {
    Signed {
        signed: Box<Signed>,
        /// When the version's signatures are due.
        due: Timestamp,
        /// It keeps a denial of existence that is not the policy's: that is still being built.
        unmet: bool,
        /// What an operator should know about its serial.
        note: Option<SerialNote>,
    },
    /// No version, and the denial of existence that the policy asks for is not all there; how many of
    /// its parts are. All else is as it should be until `due`, if that was looked at.
    Deferred {
        due: Option<Timestamp>,
        done: u64,
        total: u64,
    },
    /// All is as it should be until then.
    Nothing(Timestamp),
}

/// Signs `input.base`, on the grounds of `input.prev`.
///
/// # Errors
/// Says who must act, and why.
pub fn sign_version(
    input: &SignInput,
    pool: &rayon::ThreadPool,
    clock: &dyn Clock,
    progress: &cascade_signer::Progress,
    now: Timestamp,
) -> Result<SignEnd, (Fault, String)> {
    let p = &input.policy.policy;
    let serial = next_serial(
        &SerialInput {
            policy: match p.signer.serial_policy {
                policy::SerialPolicy::Keep => SerialPolicy::Keep,
                policy::SerialPolicy::Counter => SerialPolicy::Counter,
                policy::SerialPolicy::UnixTime => SerialPolicy::UnixTime,
                policy::SerialPolicy::DateCounter => SerialPolicy::DateCounter,
            },
            keep_refresh: match p.signer.serial_keep_refresh {
                policy::SerialKeepRefresh::Bump => KeepRefresh::Bump,
                policy::SerialKeepRefresh::Hold => KeepRefresh::Hold,
            },
            occasion: if input.upkeep {
                Occasion::Upkeep
            } else {
                Occasion::Content
            },
            prev: input.above,
            first: input.first,
            unsigned: input.base.serial(),
            requested: input.requested,
            history: &[],
        },
        now,
    )
    .map_err(|e| (Fault::Content, e.to_string()))?;
    if input.keys.apex.unsigned {
        return unsigned_version(input, serial, pool, clock, progress, now);
    }
    let apex = keys::signer_set(input.base.apex(), &input.keys, &keys::apex_times(p), now);
    let wanted = denial(&p.signer.denial);
    let way = beside::way(input, &wanted);
    let plan = SigningPlan {
        version: input.version,
        serial: serial.serial,
        apex,
        denial: match &way {
            Way::Keep(as_it_is) => as_it_is.clone(),
            Way::AtOnce | Way::Build => wanted,
        },
        zonemd: match p.signer.zonemd {
            policy::Zonemd::Off => None,
            policy::Zonemd::Sha384 => Some(ZonemdHash::Sha384),
            policy::Zonemd::Sha512 => Some(ZonemdHash::Sha512),
        },
        times: times(p),
        clock: ClockGuard {
            built_at: BUILT_AT,
            newest_inception: input.newest_inception,
        },
        requested_at: input.requested_at,
        reasons: input.reasons.iter().map(reason).collect(),
    };
    let job = Job {
        pool,
        clock,
        progress,
        class: input.class,
        token_wait: TOKEN_WAIT,
    };
    let failed = |e: SignError| (fault(&e), e.to_string());
    let whole = |signed: Box<Signed>| {
        let due = next_due(&signed.version, p, now).map_err(|e| failed(e.into()))?;
        let due = paced(due, &signed.left, p, now);
        Ok(SignEnd::Signed {
            signed,
            due,
            unmet: matches!(way, Way::Keep(_)),
            note: serial.note,
        })
    };
    let Some(prev) = &input.prev else {
        let signed = sign(&input.base, &plan, &job, now).map_err(failed)?;
        return whole(Box::new(signed));
    };
    let scope = scope(input);
    let resigned = match &way {
        Way::Build => match beside::build(input, prev, &plan, &scope, &job, now).map_err(failed)? {
            beside::Built::Switched(resigned) => resigned,
            beside::Built::Partly(done, total) => {
                let due = None;
                return Ok(SignEnd::Deferred { due, done, total });
            }
        },
        _ => sign_from(prev, &input.base, &plan, &scope, &job, now).map_err(failed)?,
    };
    match resigned {
        Resigned::Signed(signed, _) => whole(signed),
        Resigned::Nothing(left) => {
            let due = next_due(prev, p, now).map_err(|e| failed(e.into()))?;
            let due = paced(due, &left, p, now);
            if !matches!(way, Way::Keep(_)) {
                return Ok(SignEnd::Nothing(due));
            }
            let (done, total) = input.beside.progress();
            let due = Some(due);
            Ok(SignEnd::Deferred { due, done, total })
        }
    }
}

/// For reports and people.
pub fn reason(r: &Reason) -> String {
    format!("{r:?}").to_lowercase()
}

/// A version without DNSSEC. There is nothing in it to refresh.
fn unsigned_version(
    input: &SignInput,
    chosen: Chosen,
    pool: &rayon::ThreadPool,
    clock: &dyn Clock,
    progress: &cascade_signer::Progress,
    now: Timestamp,
) -> Result<SignEnd, (Fault, String)> {
    let due = now + UNSIGNED_LOOK;
    let by_themselves = [Reason::Refresh, Reason::Keys, Reason::Policy];
    let same = input
        .prev
        .as_ref()
        .is_some_and(|p| !p.is_signed() && p.unsigned_id() == input.base.id());
    if input.upkeep && same && input.reasons.iter().all(|r| by_themselves.contains(r)) {
        return Ok(SignEnd::Nothing(due));
    }
    let job = Job {
        pool,
        clock,
        progress,
        class: input.class,
        token_wait: TOKEN_WAIT,
    };
    let reasons = input.reasons.iter().map(reason).collect();
    let (at, serial) = (input.requested_at, chosen.serial);
    let done = cascade_signer::unsign(&input.base, input.version, serial, at, reasons, &job, now);
    let signed = done.map_err(|e| (fault(&e), e.to_string()))?;
    Ok(SignEnd::Signed {
        signed: Box::new(signed),
        due,
        unmet: false,
        note: chosen.note,
    })
}

/// `due`, or when a change of keys that is not yet all through the zone goes on.
fn paced(due: Timestamp, left: &Left, p: &policy::Policy, now: Timestamp) -> Timestamp {
    let tick = cascade_signer::key_tick(secs(p.signer.key_roll_time));
    match left.keys {
        0 => due,
        _ => due.min(now + Duration::from_secs(tick.into())),
    }
}

/// What a job does beside following the content: a change of content leaves upkeep to upkeep, so
/// that it costs what it is worth.
fn scope(input: &SignInput) -> Scope {
    let p = &input.policy.policy;
    let remain = key_set_remain(p);
    let pace = match (input.keys_change_since, secs(p.signer.key_roll_time)) {
        (Some(since), over) if over > 0 => KeyPace::Spread { since, over },
        _ => KeyPace::AtOnce,
    };
    if !input.upkeep {
        let keys = match input.reasons.contains(&Reason::Keys) {
            true => pace,
            false => KeyPace::Later,
        };
        return Scope {
            keys,
            // Another serial of the source is another version, whatever else is equal.
            even_if_equal: true,
            ..Scope::content(remain)
        };
    }
    let by_themselves = [Reason::Refresh, Reason::Keys, Reason::Policy];
    Scope {
        refresh: match p.signer.refresh_batch {
            0 => REFRESH_BATCH,
            n => n,
        },
        even_if_equal: input.reasons.iter().any(|r| !by_themselves.contains(r)),
        keys: pace,
        ..Scope::everything(remain)
    }
}

fn fault(e: &SignError) -> Fault {
    match e {
        SignError::Plan(_) => Fault::Keys,
        SignError::Clock(_) => Fault::Clock,
        SignError::Key { .. } => Fault::Token,
        SignError::HashCollision { .. } | SignError::TooLarge | SignError::Times(_) => {
            Fault::Content
        }
        SignError::Build(_) | SignError::Cancelled => Fault::Bug,
    }
}

/// How the policy wants non-existence to be proved.
pub fn denial(d: &policy::Denial) -> DenialPlan {
    match d.kind {
        policy::DenialType::Nsec => DenialPlan::Nsec,
        policy::DenialType::Nsec3 => DenialPlan::Nsec3 {
            iterations: u16::try_from(d.iterations).unwrap_or(u16::MAX),
            salt: d.salt.0.clone(),
            opt_out: d.opt_out,
        },
    }
}

fn secs(d: Duration) -> u32 {
    u32::try_from(d.as_secs()).unwrap_or(u32::MAX)
}

pub fn times(p: &policy::Policy) -> Times {
    let s = &p.signer;
    Times {
        lifetime: secs(s.signature_lifetime),
        remain: secs(s.signature_remain_time),
        refresh: secs(s.signature_refresh_interval),
        inception_offset: secs(s.signature_inception_offset),
        jitter: secs(s.signature_jitter),
    }
}

/// When upkeep of a version's signatures comes next, those of its key sets included.
///
/// # Errors
/// The policy's times do not fit each other.
pub fn next_due(
    version: &ZoneVersion,
    p: &policy::Policy,
    now: Timestamp,
) -> Result<Timestamp, TimesError> {
    let due = cascade_signer::next_upkeep(version, &times(p), key_set_remain(p), now)?;
    Ok(due.unwrap_or(now))
}

/// Signatures over key sets with no more than this left, in seconds, are made anew.
fn key_set_remain(p: &policy::Policy) -> u32 {
    secs(keys::apex_times(p).remain)
}

/// A version that has passed the gate, and what the gate noted of it.
pub struct Before {
    pub version: Arc<ZoneVersion>,
    pub ledger: Ledger,
}

/// What the gate is told of keys and of the delegation.
#[derive(Default)]
pub struct GateKeys {
    pub own: Vec<OwnKey>,
    /// DNSKEY RDATA of other signers.
    pub foreign: Vec<Vec<u8>>,
    pub parent: Parent,
    pub live_chain_broken: bool,
    pub delete_ds_ordered: bool,
    /// CDS without CDNSKEY, by policy.
    pub cds_alone: bool,
    /// Algorithms of DNSKEY RRsets in caches.
    pub cached_algorithms: Vec<u8>,
    /// There is to be no DNSSEC at all.
    pub unsigned: bool,
    /// Another signer made it: keys, lifetimes and the kind of denial are that one's own affair.
    pub passed: bool,
}

pub struct VerifyInput {
    pub version: Arc<ZoneVersion>,
    /// The published version, when what changed since is enough to look at.
    pub before: Option<Before>,
    pub approved: Option<Arc<ZoneVersion>>,
    pub keys: GateKeys,
    pub policy: Arc<policy::PolicyFile>,
    pub live: Option<(Serial, Option<Timestamp>)>,
    pub highest: Option<Serial>,
    /// The denial of existence that it must have.
    pub denial: DenialPlan,
    pub sample_seed: u64,
}

/// The gate: what changed since `input.before`, or everything.
pub fn verify(
    input: VerifyInput,
    pool: &rayon::ThreadPool,
    now: Timestamp,
) -> Outcome<Arc<ZoneVersion>> {
    judge(input, Engine::Auto, pool, now)
}

/// The check of what is published already: everything, by ring alone. Signatures need only be valid
/// now; that they are renewed in time is another's duty.
pub fn sweep(
    input: VerifyInput,
    pool: &rayon::ThreadPool,
    now: Timestamp,
) -> Outcome<Arc<ZoneVersion>> {
    judge(input, Engine::Ring, pool, now)
}

fn judge(
    input: VerifyInput,
    engine: Engine,
    pool: &rayon::ThreadPool,
    now: Timestamp,
) -> Outcome<Arc<ZoneVersion>> {
    let p = &input.policy.policy;
    let s = &p.signer;
    let hour = 3600;
    let records = &p.key_manager.records;
    let span = |life: Duration, offset: Duration| {
        secs(life).saturating_add(secs(offset)).saturating_add(hour)
    };
    let key_spans = [&records.dnskey, &records.cds];
    let passed = input.keys.passed;
    let answers = cascade_publisher::Candidate::new(&input.version, now);
    let params = Params {
        fingerprint_seed: cascade_verifier::fingerprint_seed(input.version.zone()),
        own_keys: (!passed).then_some(input.keys.own),
        foreign_keys: input.keys.foreign,
        parent: input.keys.parent,
        live_chain_broken: input.keys.live_chain_broken,
        delete_ds_ordered: input.keys.delete_ds_ordered,
        cdnskey: !input.keys.cds_alone,
        cached_algorithms: input.keys.cached_algorithms,
        unsigned: input.keys.unsigned,
        live_serial: input.live.map(|l| l.0),
        highest_serial: input.highest,
        engine,
        min_remaining: match engine {
            Engine::Auto if passed => hour,
            Engine::Auto => secs(s.signature_remain_time),
            Engine::Ring => 0,
        },
        min_remaining_key_set: key_spans
            .iter()
            .map(|r| secs(r.signature_remain_time))
            .min()
            .filter(|_| engine == Engine::Auto && !passed),
        warn_remaining: secs(p.runway_warning()),
        live_earliest: input.live.and_then(|l| l.1),
        max_span: Some(span(s.signature_lifetime, s.signature_inception_offset))
            .filter(|_| !passed),
        max_span_key_set: key_spans
            .iter()
            .map(|r| span(r.signature_lifetime, r.signature_inception_offset))
            .max()
            .filter(|_| !passed),
        denial: (!passed).then_some(match input.denial {
            DenialPlan::Nsec => DenialPolicy::Nsec,
            DenialPlan::Nsec3 {
                iterations,
                salt,
                opt_out,
            } => DenialPolicy::Nsec3 {
                iterations,
                salt,
                opt_out,
            },
        }),
        approved: input
            .approved
            .as_ref()
            .map(|a| a as &dyn cascade_verifier::Source),
        answers: answers
            .as_ref()
            .map(|a| a as &dyn cascade_verifier::Answers),
        // A version made before the policy asked for a digest is still as it was meant to be.
        zonemd_required: engine == Engine::Auto && !passed && s.zonemd != policy::Zonemd::Off,
        sample_seed: input.sample_seed,
    };
    let Some(before) = input.before else {
        return pool.install(|| verify_full(input.version, &params, now));
    };
    let new = input.version.clone();
    let delta = StoreDelta {
        old: &before.version,
        new: &new,
    };
    let predecessor = Predecessor {
        version: &before.version,
        ledger: &before.ledger,
        delta: &delta,
        unsigned_delta: None,
    };
    pool.install(|| verify_changed(input.version, &predecessor, &params, now))
}
