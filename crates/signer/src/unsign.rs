//! A version without DNSSEC: the content as it is, under a serial of ours.

use cascade_time::Timestamp;
use cascade_zone::denial::Denial;
use cascade_zone::sign::Draft;
use cascade_zone::slots::KeyTable;
use cascade_zone::version::{SoaFields, ZoneVersion};
use cascade_zone::{Rtype, Serial, VersionId};

use crate::job::{Job, Stage};
use crate::plan::PlanError;
use crate::report::SignReport;
use crate::scope::Left;
use crate::sign::{SignError, Signed};

/// Types that only DNSSEC has a use for, at the apex.
const APEX_TYPES: [Rtype; 5] = [
    Rtype::DNSKEY,
    Rtype::CDS,
    Rtype::CDNSKEY,
    Rtype::NSEC3PARAM,
    Rtype::ZONEMD,
];

/// Makes the version of `base` that has no keys, no signatures and no denial of existence.
///
/// # Errors
/// `base` is signed already, or has no SOA; nothing was changed.
pub fn unsign(
    base: &ZoneVersion,
    version: VersionId,
    serial: Serial,
    requested_at: Timestamp,
    reasons: Vec<String>,
    job: &Job<'_>,
    now: Timestamp,
) -> Result<Signed, SignError> {
    let started = job.clock.monotonic();
    if base.is_signed() {
        return Err(PlanError::NotUnsigned.into());
    }
    let ttl = base.soa_ttl();
    let soa = SoaFields::with_serial(base.soa(), serial);
    let gone = APEX_TYPES.iter().map(|t| (*t, ttl, Vec::new()));
    let sets = gone.chain([(Rtype::SOA, ttl, vec![soa])]).collect();
    job.progress.enter(Stage::Inserting);
    let draft = Draft::new(base, version, now, sets, KeyTable::default(), Denial::None)?;
    let units = draft.version().unit_count();
    let none = std::iter::repeat_with(|| None).take(units).collect();
    let version = job.pool.install(|| draft.finish(none, None))?;
    job.progress.enter(Stage::Finished);
    let total = job.clock.monotonic().saturating_sub(started);
    let records = base.sums().records;
    let report = SignReport {
        reasons,
        ..SignReport::without_signing(requested_at, now, total, records, "unsigned")
    };
    Ok(Signed {
        version,
        report,
        left: Left::default(),
    })
}
