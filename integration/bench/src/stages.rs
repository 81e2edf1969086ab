//! The stages of one version, each measured on the same zone: parse, load, sign, verify, transfer,
//! and the way to disk and back.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cascade_archive::zones::{Kind, Recovery};
use cascade_archive::{Disk, FileHeader, FileKind, ZoneFiles};
use cascade_crypto::dnskey::Role as KeyRole;
use cascade_crypto::{Algorithm, Class, DigestType, KeySpec, SigningKey, SoftwareKey};
use cascade_loader::{LoadRequest, Outcome as LoadOutcome, ParseOptions, load_file, parse_bytes};
use cascade_publisher::directory::{Directory, Role, ZoneSettings};
use cascade_publisher::{Outcome, QueryContext, Scratch, Settings, Transfer, Transport, answer};
use cascade_signer::{
    ApexKey, ApexOptions, ClockGuard, DenialPlan, Job, Progress, SigningPlan, Times, make_apex_set,
    sign,
};
use cascade_time::{Clock, Timestamp};
use cascade_verifier::{Outcome as Gate, Params};
use cascade_wire::{Composer, Section};
use cascade_zone::{KeyId, Name, RecordBatch, Rtype, Serial, VersionId, ZoneId, ZoneVersion};

use crate::memory;

const ZONE: ZoneId = ZoneId([1; 16]);

/// What one run measured.
#[derive(Debug, Default)]
pub struct Stages {
    pub text_octets: u64,
    pub records: u64,
    pub signed_records: u64,
    pub signatures: u64,
    pub checked: u64,
    /// Parsing alone, one thread.
    pub parse_secs: f64,
    pub load_secs: f64,
    pub sign_secs: f64,
    pub verify_secs: f64,
    /// Octets of the process with the signed version at rest, and at the highest on the way.
    pub resident: u64,
    pub peak: u64,
    /// What the store itself counts.
    pub store: u64,
    pub axfr_secs: f64,
    pub axfr_octets: u64,
    pub write_secs: f64,
    pub read_secs: f64,
    pub file_octets: u64,
}

/// Wall clock; for reports only.
pub(crate) struct Watch(pub(crate) Instant);

impl Clock for Watch {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp::from_nanos(since.map_or(0, |d| d.as_nanos() as i64))
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

pub(crate) fn timed<T>(f: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let out = f();
    (out, start.elapsed().as_secs_f64())
}

/// Processor seconds of this thread: what one core needs, whatever else the machine is doing.
fn on_one_core<T>(f: impl FnOnce() -> T) -> (T, f64) {
    use nix::time::{ClockId, clock_gettime};
    let now = || {
        let t = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
        t.map_or(0.0, |t| t.tv_sec() as f64 + t.tv_nsec() as f64 / 1e9)
    };
    let start = now();
    let out = f();
    (out, now() - start)
}

/// Runs all stages over the zone file at `path`.
///
/// # Errors
/// Names the stage and what it said.
pub fn run(path: &Path, apex: &str, denial: DenialPlan, dir: &Path) -> Result<Stages, String> {
    let apex = Name::parse(apex).map_err(|e| e.to_string())?;
    // Before anything: what the allocator keeps of a stage is used again by the next.
    let base_memory = memory::read().now;
    let mut s = Stages {
        parse_secs: parse_alone(path, &apex)?,
        ..Stages::default()
    };
    memory::reset_peak();
    let clock = Watch(Instant::now());
    let (outcome, secs) = timed(|| load_stage(path, &apex, &clock));
    s.load_secs = secs;
    let LoadOutcome::Loaded {
        version, report, ..
    } = outcome
    else {
        return Err(format!("load: {:?}", outcome.report().diagnostics));
    };
    let base = Arc::new(*version);
    s.text_octets = report.octets;
    s.records = base.sums().records;
    let (signed, secs) = sign_stage(&base, denial, &clock)?;
    s.sign_secs = secs;
    s.signatures = signed.sums().signatures;
    s.signed_records = signed.sums().records;
    let signed = Arc::new(signed);
    let params = Params {
        approved: Some(&base),
        fingerprint_seed: 0x0101_0101_0101_0101,
        ..Params::file()
    };
    let now = clock.now();
    let (gate, secs) = timed(|| cascade_verifier::verify_full(signed.clone(), &params, now));
    s.verify_secs = secs;
    if let Gate::Refused(r) = &gate {
        return Err(format!("verify: {}", r.report().text()));
    }
    s.checked = gate.report().counts.signatures_checked;
    drop(gate);
    drop(base);
    let at_rest = memory::read();
    s.resident = at_rest.now.saturating_sub(base_memory);
    s.peak = at_rest.peak.saturating_sub(base_memory);
    s.store = signed.memory() as u64;
    (s.axfr_octets, s.axfr_secs) = axfr(&signed)?;
    disk_stage(&signed, dir, &mut s)?;
    Ok(s)
}

/// One thread, the best of three.
///
/// # Errors
/// The file cannot be read, or is not a good zone.
pub fn parse_alone(path: &Path, apex: &Name) -> Result<f64, String> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .map_err(|e| e.to_string())?;
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    let options = stripped();
    let mut best = f64::MAX;
    for _ in 0..3 {
        let copy = bytes.clone();
        // The clock must be that of the thread that does the work.
        let (parsed, secs) = pool
            .install(|| on_one_core(|| parse_bytes::<RecordBatch>(copy, "bench", apex, &options)));
        if parsed.diagnostics.errors > 0 {
            return Err(format!("parse: {:?}", parsed.diagnostics));
        }
        best = best.min(secs);
    }
    Ok(best)
}

/// The keys of a run: P-256, a KSK and a ZSK.
pub(crate) fn keys() -> Result<[ApexKey; 2], String> {
    let spec = KeySpec::new(Algorithm::EcdsaP256Sha256);
    let key = |n: u8, role: KeyRole| -> Result<ApexKey, String> {
        let key =
            SoftwareKey::generate(KeyId([n; 16]), role.flags(), spec).map_err(|e| e.to_string())?;
        Ok(ApexKey {
            dnskey: key.dnskey().clone(),
            role,
            signer: Some(Arc::new(key)),
            wanted_at_parent: role != KeyRole::Zsk,
        })
    };
    Ok([key(1, KeyRole::Ksk)?, key(2, KeyRole::Zsk)?])
}

/// A plan for version `n` of the zone.
pub(crate) fn plan(
    base: &ZoneVersion,
    keys: &[ApexKey],
    denial: DenialPlan,
    n: u32,
    now: Timestamp,
) -> Result<SigningPlan, String> {
    let options = ApexOptions {
        ttl: 3600,
        cds: vec![DigestType::Sha256],
        cdnskey: true,
        lifetime: 1_209_600,
        inception_offset: 86_400,
    };
    let apex = make_apex_set(base.apex(), keys, &options, now).map_err(|e| e.to_string())?;
    Ok(SigningPlan {
        version: VersionId(u64::from(n)),
        serial: Serial(base.serial().0.wrapping_add(n)),
        apex,
        denial,
        zonemd: None,
        times: Times::default(),
        clock: ClockGuard {
            built_at: Timestamp::from_secs(1_735_689_600),
            newest_inception: None,
        },
        requested_at: now,
        reasons: Vec::new(),
    })
}

fn sign_stage(
    base: &Arc<ZoneVersion>,
    denial: DenialPlan,
    clock: &Watch,
) -> Result<(ZoneVersion, f64), String> {
    let now = clock.now();
    let plan = plan(base, &keys()?, denial, 2, now)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .build()
        .map_err(|e| e.to_string())?;
    let progress = Progress::new();
    let job = Job {
        pool: &pool,
        clock,
        progress: &progress,
        class: Class::Bulk,
        token_wait: Duration::from_secs(1),
    };
    let (signed, secs) = timed(|| sign(base, &plan, &job, now));
    Ok((signed.map_err(|e| format!("sign: {e}"))?.version, secs))
}

/// Text as a signer reads it.
fn stripped() -> ParseOptions {
    ParseOptions {
        strip: true,
        ..ParseOptions::default()
    }
}

/// The first load of the zone at `path`.
fn request<'a>(path: &'a Path, apex: &'a Name, options: &'a ParseOptions) -> LoadRequest<'a> {
    LoadRequest {
        path,
        apex,
        zone: ZONE,
        version: VersionId(1),
        current: None,
        identity: None,
        options,
        max_records: 0,
        force: true,
        trigger: "bench",
    }
}

pub(crate) fn load_stage(path: &Path, apex: &Name, clock: &Watch) -> LoadOutcome {
    let options = stripped();
    load_file(
        &request(path, apex, &options),
        clock,
        &cascade_loader::Progress::default(),
    )
}

/// Loads the zone at `path`, then reads it again with one more record beside what was loaded: the
/// milliseconds of each stage of the second load.
///
/// # Errors
/// The file cannot be read, or is not a good zone.
pub fn reload(path: &Path, apex: &Name) -> Result<String, String> {
    let clock = Watch(Instant::now());
    let (first, identity) = match load_stage(path, apex, &clock) {
        LoadOutcome::Loaded {
            version, identity, ..
        } => (*version, identity),
        other => return Err(format!("load: {:?}", other.report().diagnostics)),
    };
    let mut bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    bytes.extend_from_slice(format!("added.{apex} 3600 IN A 192.0.2.1\n").as_bytes());
    let options = stripped();
    let request = LoadRequest {
        version: VersionId(2),
        current: Some(&first),
        identity: identity.as_ref(),
        ..request(path, apex, &options)
    };
    let progress = cascade_loader::Progress::default();
    let (outcome, secs) = timed(|| cascade_loader::load_bytes(&request, bytes, &clock, &progress));
    let LoadOutcome::Loaded { report, .. } = outcome else {
        return Err(format!("reload: {:?}", outcome.report().diagnostics));
    };
    let (s, d) = (report.stages, report.delta.unwrap_or_default());
    Ok(format!(
        "{:.0} ms: split {:.0}, parse {:.0}, build {:.0}, check {:.0}, compare {:.0}; {} of {} leaves kept",
        secs * 1e3,
        s.split as f64 / 1e3,
        s.parse as f64 / 1e3,
        s.build as f64 / 1e3,
        s.check as f64 / 1e3,
        s.compare as f64 / 1e3,
        d.leaves_reused,
        d.leaves
    ))
}

/// A signed version of the zone at `path`, for looking at one stage with a profiler.
///
/// # Errors
/// Names the stage and what it said.
pub fn signed(path: &Path, apex: &str, denial: DenialPlan) -> Result<Arc<ZoneVersion>, String> {
    let apex = Name::parse(apex).map_err(|e| e.to_string())?;
    let clock = Watch(Instant::now());
    match load_stage(path, &apex, &clock) {
        LoadOutcome::Loaded { version, .. } => {
            Ok(Arc::new(sign_stage(&Arc::new(*version), denial, &clock)?.0))
        }
        other => Err(format!("load: {:?}", other.report().diagnostics)),
    }
}

/// A whole transfer into nothing, on this thread; the best of ten.
///
/// # Errors
/// The transfer was not granted.
pub fn axfr(version: &Arc<ZoneVersion>) -> Result<(u64, f64), String> {
    let directory = Directory::new();
    directory
        .add(ZONE, version.apex(), ZoneSettings::default())
        .map_err(|e| e.to_string())?;
    directory
        .review_signed(ZONE, version.clone())
        .map_err(|e| e.to_string())?;
    let settings = Settings::open();
    let now = version.made_at();
    let ctx = QueryContext {
        role: Role::SignerReview,
        peer: std::net::IpAddr::from([127, 0, 0, 1]),
        transport: Transport::Tcp,
        now,
        directory: &directory,
        settings: &settings,
        tls_name: None,
        limited: false,
    };
    let mut query = Vec::new();
    let mut c = Composer::new(&mut query, 512, 1, 0);
    c.question(version.apex().as_wire(), Rtype::AXFR, 1);
    let _ = Section::Additional;
    c.finish();
    let mut best = (0, f64::MAX);
    for _ in 0..10 {
        let Outcome::Transfer(request) =
            answer(&query, &ctx, &mut Scratch::default(), &mut Vec::new())
        else {
            return Err("transfer: refused".into());
        };
        let mut transfer = Transfer::new(*request);
        let (octets, secs) = on_one_core(|| {
            let mut octets = 0;
            while let Some(m) = transfer.next_message(now) {
                octets += std::hint::black_box(m).len() as u64;
            }
            octets
        });
        if secs < best.1 {
            best = (octets, secs);
        }
    }
    Ok(best)
}

fn disk_stage(version: &Arc<ZoneVersion>, dir: &Path, s: &mut Stages) -> Result<(), String> {
    let files = ZoneFiles::new(&Disk::new(), dir);
    let header = FileHeader {
        kind: FileKind::Snapshot,
        zone: ZONE,
        version: version.id(),
        serial: version.serial(),
        created: version.made_at(),
        fingerprint: version.full_fingerprint().to_bytes(),
    };
    let (written, secs) = timed(|| {
        files.write(
            Kind::Snapshot,
            &header,
            version.sums().records,
            &[],
            &|sink| version.export_parts(sink),
        )
    });
    s.write_secs = secs;
    let path = written.map_err(|e| format!("write: {e}"))?;
    s.file_octets = std::fs::metadata(&path).map_or(0, |m| m.len());
    let (read, secs) = timed(|| match files.recover(ZONE, Kind::Snapshot, version.id()) {
        Ok(Recovery::Whole(w)) => {
            ZoneVersion::import_parts(w.parts.into_iter()).map_err(|e| e.to_string())
        }
        Ok(other) => Err(format!("{other:?}")),
        Err(e) => Err(e.to_string()),
    });
    s.read_secs = secs;
    let back = read.map_err(|e| format!("read: {e}"))?;
    if back.full_fingerprint() != version.full_fingerprint() {
        return Err("read: another zone came back".into());
    }
    Ok(())
}
