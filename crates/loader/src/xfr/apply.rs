//! From what a transfer brought to an unsigned version, or to a report that says why not.

use cascade_time::{Clock, Timestamp};
use cascade_zone::{Name, VersionId, ZoneId, ZoneVersion, key};

use super::delta::{Delta, Edits};
use super::error::XfrError;
use super::owners;
use super::reader::{Full, Tally};
use crate::assemble::{Assembly, Places, Target};
use crate::check::{Finding, Findings, plain};
use crate::code::{Checks, Code, Level};
use crate::diag::Diagnostic;
use crate::load::Outcome;
use crate::report::{Delta as Counts, LoadReport};
use crate::zonemd::{self, ZonemdCheck};

/// Everything that making a version of a transfer needs to know.
#[derive(Debug, Clone, Copy)]
pub struct XfrRequest<'a> {
    pub apex: &'a Name,
    pub zone: ZoneId,
    /// Id of the version to make.
    pub version: VersionId,
    /// The newest unsigned version from this source. Differences are applied to it; of a whole
    /// zone, equal leaves are shared with it.
    pub current: Option<&'a ZoneVersion>,
    /// `current` came from this source: a serial that goes back is an error.
    pub same_source: bool,
    pub checks: &'a Checks,
    /// What is asked of the source's own digest; the records must have been kept for it.
    pub zonemd: ZonemdCheck,
    /// For the report: what asked for the transfer, from where it came, when it began.
    pub trigger: &'a str,
    pub source: &'a str,
    pub started: Timestamp,
}

/// Makes a version of a whole zone, on the current thread pool.
pub fn apply(request: &XfrRequest<'_>, full: Full, clock: &dyn Clock) -> Outcome {
    let mut at = begin(request, "AXFR".to_string(), &full.tally, clock);
    if let Some(received) = &full.received {
        let verdict = zonemd::check(request.apex, std::slice::from_ref(received));
        at.zonemd(&verdict, request.zonemd);
        if at.report.diagnostics.has_errors() {
            return Outcome::Failed {
                report: at.failed(),
            };
        }
    }
    let Some(version) = at.build(full.batches, false, &Unplaced(request.apex)) else {
        return Outcome::Failed {
            report: at.failed(),
        };
    };
    let same = |c: &ZoneVersion| {
        // Leaves may be cut otherwise after many updates; then the fingerprint tells.
        c.full_fingerprint() == version.full_fingerprint()
            && c.sums().records == version.sums().records
    };
    if at.report.diagnostics.has_errors() {
        at.counted(&version);
        return Outcome::Failed {
            report: at.failed(),
        };
    }
    if request.current.is_some_and(same) || !at.compare(&version) {
        return Outcome::Unchanged {
            report: at.unchanged("the records are the same"),
            identity: None,
        };
    }
    at.lap(|s| &mut s.compare);
    ended(at, version)
}

/// Applies differences to `request.current`, at a cost that goes with their number.
///
/// # Errors
/// They do not fit the version: ask for the whole zone. Findings of the checks are no such error,
/// they are in the report of a failed outcome.
pub fn apply_delta(
    request: &XfrRequest<'_>,
    delta: &Delta,
    clock: &dyn Clock,
) -> Result<Outcome, XfrError> {
    let base = request
        .current
        .ok_or_else(|| XfrError::NotApplicable("there is no version yet".into()))?;
    let mut edits = delta.edits(base)?;
    let kind = match delta.sequences {
        1 => "IXFR (1 sequence)".to_string(),
        n => format!("IXFR ({n} sequences)"),
    };
    let mut at = begin(request, kind, &delta.tally, clock);
    let list = std::mem::take(&mut edits.list);
    let updated = base
        .update(request.version, clock.now(), list)
        .map_err(|e| XfrError::NotApplicable(e.to_string()))?;
    at.lap(|s| &mut s.build);
    let version = updated.version;
    if Some(version.serial()) != delta.serial {
        return Err(XfrError::NotApplicable(format!(
            "they lead to serial {} instead of the one announced",
            version.serial()
        )));
    }
    let findings = Findings::default();
    owners::check(&version, &updated.owners, request.checks, &findings);
    at.take(findings, &Unplaced(request.apex));
    mixed(&mut at, &edits, request.apex);
    at.lap(|s| &mut s.check);
    at.counted(&version);
    at.report.delta = Some(counts(&updated.owners, &edits, &version));
    Ok(ended(at, version))
}

fn begin<'a>(
    request: &XfrRequest<'a>,
    kind: String,
    tally: &Tally,
    clock: &'a dyn Clock,
) -> Assembly<'a> {
    let report = LoadReport {
        trigger: request.trigger.to_string(),
        source: request.source.to_string(),
        kind,
        started: request.started,
        octets: tally.octets,
        messages: tally.messages,
        records_received: tally.records,
        ..LoadReport::default()
    };
    let target = Target {
        apex: request.apex,
        zone: request.zone,
        version: request.version,
        current: request.current,
        checks: request.checks,
        // A file may be an older one that somebody put back; a primary must not go back. The
        // serials of another source are not to be compared.
        backward: match request.same_source {
            true => Level::Error,
            false => Level::Off,
        },
        sound: false,
    };
    let mut at = Assembly::new(target, clock, report);
    at.stripped(&tally.stripped);
    if tally.ttl_range > 0 {
        let n = tally.ttl_range;
        let text = format!("{n} records have a TTL above 2147483647: 0 is used");
        at.whole(Code::TTL_RANGE, text);
    }
    if tally.ttl_lowered > 0 {
        let n = tally.ttl_lowered;
        let text = format!("{n} records have a TTL above signer.max-ttl: lowered");
        at.whole(Code::TTL_LOWERED, text);
    }
    at
}

fn ended(at: Assembly<'_>, version: ZoneVersion) -> Outcome {
    if at.report.diagnostics.has_errors() {
        return Outcome::Failed {
            report: at.failed(),
        };
    }
    Outcome::Loaded {
        version: Box::new(version),
        report: at.loaded(),
        identity: None,
    }
}

fn mixed(at: &mut Assembly<'_>, edits: &Edits, apex: &Name) {
    for (k, rtype) in &edits.mixed_ttl {
        let name = key::to_name(k, None, apex);
        let text = format!("TTLs of the {rtype} RRset at {name} differ: the smallest is used");
        at.whole(Code::TTL_MISMATCH, text);
    }
}

fn counts(owners: &[cascade_zone::OwnerChange], edits: &Edits, version: &ZoneVersion) -> Counts {
    let count = |f: &dyn Fn(&cascade_zone::OwnerChange) -> bool| {
        owners.iter().filter(|o| f(o)).count() as u64
    };
    let leaves = version.unit_count() as u64;
    Counts {
        owners_added: count(&|o| o.before.is_none() && o.after.is_some()),
        owners_removed: count(&|o| o.before.is_some() && o.after.is_none()),
        owners_changed: count(&|o| o.before.is_some() && o.after.is_some()),
        records_added: edits.added,
        records_removed: edits.removed,
        leaves,
        // An owner touches one leaf at most; a closer count would walk the zone.
        leaves_reused: leaves.saturating_sub(owners.len() as u64),
    }
}

/// Records of a transfer have no line.
struct Unplaced<'a>(&'a Name);

impl Places for Unplaced<'_> {
    fn locate(&self, found: Vec<(Finding, Vec<u8>)>, findings: &Findings) {
        for (finding, _) in found {
            findings.add(finding);
        }
    }

    fn placed(&self, finding: &Finding) -> Diagnostic {
        plain(finding, self.0)
    }
}
