//! From a zone file to a verified signed zone, by the crates themselves and without a daemon.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cascade_crypto::dnskey::Role;
use cascade_crypto::{Class, DigestType, KeySpec, SigningKey, SoftwareKey};
use cascade_loader::{LoadRequest, Outcome, ParseOptions, load_file};
use cascade_signer::{
    ApexKey, ApexOptions, ClockGuard, DenialPlan, Job, Progress, SignError, Signed, SigningPlan,
    Times, make_apex_set, sign,
};
use cascade_time::{Clock, Timestamp};
use cascade_verifier::{DenialPolicy, OwnKey, Params, fingerprint_seed, verify_full};
use cascade_zone::{KeyId, Name, VersionId, ZoneId, ZoneVersion};

use crate::text::Record;

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct WallClock(Instant);

impl WallClock {
    pub fn new() -> Self {
        WallClock(Instant::now())
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The one zone of a test.
pub const ZONE: ZoneId = ZoneId(*b"conformance zone");

/// Loads a zone file as the daemon does.
pub fn load(path: &Path, apex: &Name) -> Outcome {
    let options = ParseOptions {
        strip: true,
        ..ParseOptions::default()
    };
    let request = LoadRequest {
        path,
        apex,
        zone: ZONE,
        version: VersionId(1),
        current: None,
        identity: None,
        options: &options,
        max_records: 0,
        force: false,
        trigger: "add",
    };
    load_file(
        &request,
        &WallClock::new(),
        &cascade_loader::Progress::default(),
    )
}

/// Keys of one zone: a KSK and a ZSK, or one key for all.
#[derive(Clone)]
pub struct Keys(Vec<ApexKey>);

impl Keys {
    /// # Panics
    /// When the library makes no key.
    pub fn generate(spec: KeySpec, single: bool) -> Keys {
        let roles: &[Role] = if single {
            &[Role::Csk]
        } else {
            &[Role::Ksk, Role::Zsk]
        };
        let keys = roles.iter().enumerate().map(|(at, role)| {
            let id = KeyId([at as u8 + 1; 16]);
            let key = SoftwareKey::generate(id, role.flags(), spec).expect("a key can be made");
            let key: Arc<dyn SigningKey> = Arc::new(key);
            ApexKey {
                dnskey: key.dnskey().clone(),
                role: *role,
                signer: Some(key),
                wanted_at_parent: role.signs_dnskey(),
            }
        });
        Keys(keys.collect())
    }

    /// The keys as the gate must know them.
    fn own(&self) -> Vec<OwnKey> {
        let own = |key: &ApexKey| OwnKey {
            dnskey: key.dnskey.rdata().to_vec(),
            published: true,
            may_sign_unpublished: false,
            wanted_at_parent: false,
            proven: true,
        };
        self.0.iter().map(own).collect()
    }
}

/// Signs with the policy's default times.
///
/// # Errors
/// What the signer refuses.
pub fn sign_zone(
    base: &ZoneVersion,
    keys: &Keys,
    denial: DenialPlan,
    pool: &rayon::ThreadPool,
) -> Result<Signed, SignError> {
    let clock = WallClock::new();
    let now = clock.now();
    let options = ApexOptions {
        ttl: 3600,
        cds: vec![DigestType::Sha256],
        cdnskey: true,
        lifetime: 14 * 86_400,
        inception_offset: 86_400,
    };
    let plan = SigningPlan {
        version: VersionId(2),
        serial: base.serial(),
        apex: make_apex_set(base.apex(), &keys.0, &options, now)?,
        denial,
        zonemd: None,
        times: Times::default(),
        clock: ClockGuard {
            built_at: now,
            newest_inception: None,
        },
        requested_at: now,
        reasons: Vec::new(),
    };
    let job = Job {
        pool,
        clock: &clock,
        progress: &Progress::new(),
        class: Class::Normal,
        token_wait: Duration::from_secs(30),
    };
    sign(base, &plan, &job, now)
}

/// Judges in full, with all that the gate is told in the daemon.
pub fn verify_zone(
    version: ZoneVersion,
    base: &ZoneVersion,
    keys: &Keys,
    denial: &DenialPlan,
) -> cascade_verifier::Outcome<ZoneVersion> {
    let now = WallClock::new().now();
    let denial = match denial {
        DenialPlan::Nsec => DenialPolicy::Nsec,
        DenialPlan::Nsec3 {
            iterations,
            salt,
            opt_out,
        } => DenialPolicy::Nsec3 {
            iterations: *iterations,
            salt: salt.clone(),
            opt_out: *opt_out,
        },
    };
    let params = Params {
        fingerprint_seed: fingerprint_seed(ZONE),
        own_keys: Some(keys.own()),
        denial: Some(denial),
        approved: Some(base),
        ..Params::file()
    };
    verify_full(version, &params, now)
}

/// All records, in transfer order.
pub fn records(version: &ZoneVersion) -> Vec<Record> {
    let mut records = Vec::new();
    version.for_each_record(&mut |record| {
        records.push(Record {
            owner: record.owner.to_vec(),
            rtype: record.rtype.0,
            ttl: record.ttl,
            rdata: record.rdata.to_vec(),
        });
    });
    records
}
