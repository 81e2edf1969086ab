//! Requests to one unsigned version: judged in order, then made and checked together.

use cascade_time::Timestamp;
use cascade_zone::{BuildError, Edit, VersionId, ZoneVersion};

use super::{Batch, Changed, Permit, Refused, Request};
use crate::check::{Findings, plain};
use crate::code::{Checks, Severity};
use crate::diag::Diagnostics;
use crate::xfr::check_owners;

/// One request, or why it could not even be read.
pub struct Asked<'a> {
    pub request: Result<Request, Refused>,
    pub permit: &'a dyn Permit,
}

/// What the version is made for and by.
#[derive(Debug, Clone, Copy)]
pub struct Making<'a> {
    /// Unsigned.
    pub base: &'a ZoneVersion,
    pub version: VersionId,
    pub checks: &'a Checks,
    /// TTLs above are lowered.
    pub max_ttl: Option<u32>,
    pub now: Timestamp,
}

/// What became of the requests.
#[derive(Debug)]
pub struct Made {
    /// One for each request, in their order.
    pub answers: Vec<Result<Changed, Refused>>,
    /// `None`: nothing has changed.
    pub version: Option<ZoneVersion>,
    /// What leads from the base to the version.
    pub edits: Vec<Edit>,
    /// Of the owners that changed.
    pub diagnostics: Diagnostics,
}

/// Judges the requests one after the other and makes one version of those that may be carried out.
/// A request that would make the zone break a check is refused alone.
///
/// # Errors
/// A fault of ours: the edits do not fit the version.
pub fn make(asked: &[Asked<'_>], making: &Making<'_>) -> Result<Made, BuildError> {
    let mut batch = Batch::new(making.base, making.max_ttl);
    let answers: Vec<_> = asked.iter().map(|a| judge(&mut batch, a)).collect();
    let made = finish(batch, answers, making)?;
    if !made.diagnostics.has_errors() {
        return Ok(made);
    }
    one_by_one(asked, making)
}

fn judge(batch: &mut Batch<'_>, asked: &Asked<'_>) -> Result<Changed, Refused> {
    match &asked.request {
        Ok(request) => batch.apply(request, asked.permit),
        Err(refused) => Err(refused.clone()),
    }
}

/// Each request is checked upon those before it, so that the one to blame is found.
fn one_by_one(asked: &[Asked<'_>], making: &Making<'_>) -> Result<Made, BuildError> {
    let mut good = Batch::new(making.base, making.max_ttl);
    let mut at = making.base.clone();
    let mut answers = Vec::with_capacity(asked.len());
    for a in asked {
        // On what came of those before, so that each costs what it changes.
        let mut alone = Batch::new(&at, making.max_ttl);
        let answer = judge(&mut alone, a);
        if !matches!(answer, Ok(Changed::Yes(_))) {
            answers.push(answer);
            continue;
        }
        let here = Making {
            base: &at,
            ..*making
        };
        let tried = finish(alone, Vec::new(), &here)?;
        let mut errors = tried.diagnostics.kept.iter();
        if let Some(d) = errors.find(|d| d.severity == Severity::Error) {
            answers.push(Err(Refused::Check {
                code: d.code.to_string(),
                message: d.message.clone(),
            }));
            continue;
        }
        if let Some(v) = tried.version {
            at = v;
        }
        answers.push(judge(&mut good, a));
    }
    finish(good, answers, making)
}

fn finish(
    batch: Batch<'_>,
    answers: Vec<Result<Changed, Refused>>,
    making: &Making<'_>,
) -> Result<Made, BuildError> {
    let edits = batch.edits();
    if edits.is_empty() {
        return Ok(Made {
            answers,
            version: None,
            edits,
            diagnostics: Diagnostics::default(),
        });
    }
    let updated = making
        .base
        .update(making.version, making.now, edits.clone())?;
    let findings = Findings::default();
    check_owners(&updated.version, &updated.owners, making.checks, &findings);
    let (found, mut diagnostics) = findings.into_parts();
    let apex = making.base.apex();
    diagnostics.kept = found.iter().map(|f| plain(f, apex)).collect();
    Ok(Made {
        answers,
        version: Some(updated.version),
        edits,
        diagnostics,
    })
}
