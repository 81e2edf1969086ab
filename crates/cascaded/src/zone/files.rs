//! Versions of a zone on disk: written whole, read back with every fingerprint checked.

use std::sync::Arc;

use cascade_archive::zones::{Kind, Recovery};
use cascade_archive::{ArchiveError, FileHeader, FileKind, ZoneFiles};
use cascade_time::Timestamp;
use cascade_verifier::{Ledger, Verified, VerifyReport, readmit};
use cascade_zone::parts::ImportError;
use cascade_zone::{VersionId, ZoneId, ZoneVersion};
use serde::{Deserialize, Serialize};

/// What stands beside a signed version in its file.
#[derive(Debug, Serialize, Deserialize)]
struct Beside {
    ledger: Option<Ledger>,
    report: VerifyReport,
}

/// What the gate said of a version.
pub type Gate = (Option<Ledger>, VerifyReport);

/// The octets that stand beside a version in its file.
pub fn beside(gate: Option<Gate>) -> Vec<u8> {
    let beside = gate.map(|(ledger, report)| Beside { ledger, report });
    beside
        .and_then(|b| serde_json::to_vec(&b).ok())
        .unwrap_or_default()
}

/// Writes a candidate; durable when it returns.
pub fn write(
    files: &ZoneFiles,
    version: &ZoneVersion,
    gate: Option<Gate>,
    now: Timestamp,
) -> Result<(), ArchiveError> {
    let header = FileHeader {
        kind: FileKind::Candidate,
        zone: version.zone(),
        version: version.id(),
        serial: version.serial(),
        created: now,
        fingerprint: version.full_fingerprint().to_bytes(),
    };
    let (records, beside) = (version.sums().records, beside(gate));
    files.write(Kind::Candidate, &header, records, &beside, &|sink| {
        version.export_parts(sink)
    })?;
    Ok(())
}

/// A version read back.
pub enum Read {
    /// Unsigned, or signed and not yet through the gate.
    Plain(Arc<ZoneVersion>),
    Verified(Box<Verified<Arc<ZoneVersion>>>),
    /// The file or its content is damaged; says what is.
    Content(String),
    /// Content is whole, signatures are not.
    Signatures(String),
    Missing,
}

/// Reads a version back, on the current compute pool for the parallel part.
pub fn read(
    files: &ZoneFiles,
    zone: ZoneId,
    kind: Kind,
    version: VersionId,
    pool: &rayon::ThreadPool,
) -> Read {
    let whole = match files.recover(zone, kind, version) {
        Ok(Recovery::Whole(w)) => w,
        Ok(other) => return lost(other),
        Err(e) => return Read::Content(e.to_string()),
    };
    let (parts, beside) = (whole.parts, whole.ledger);
    let v = match pool.install(|| ZoneVersion::import_parts(parts.into_iter())) {
        Ok(v) => v,
        Err(e @ ImportError::Signatures(_)) => return Read::Signatures(e.to_string()),
        Err(e) => return Read::Content(e.to_string()),
    };
    if v.zone() != zone || v.id() != version {
        return Read::Content("the file holds another version than its name says".into());
    }
    judged(Arc::new(v), &beside)
}

/// What a recovery that gave no version means.
pub fn lost(recovery: Recovery) -> Read {
    match recovery {
        Recovery::Missing => Read::Missing,
        Recovery::SignaturesLost { damage } => Read::Signatures(damage.to_string()),
        Recovery::ContentLost { damage, set_aside } => {
            let aside = set_aside.map_or(String::new(), |p| {
                format!("; the file is kept as {}", p.display())
            });
            Read::Content(format!("{damage}{aside}"))
        }
        Recovery::Foreign { damage, .. } => Read::Content(damage.to_string()),
        Recovery::Newer(e) => Read::Content(e.to_string()),
        Recovery::Whole(_) => Read::Content("the file could not be taken over".into()),
    }
}

/// A version with the verdict that stood beside it, if that is still one.
pub fn judged(v: Arc<ZoneVersion>, beside: &[u8]) -> Read {
    match serde_json::from_slice::<Beside>(beside) {
        Ok(Beside {
            ledger: Some(ledger),
            report,
        }) => match readmit(v, ledger, report) {
            Ok(verified) => Read::Verified(Box::new(verified)),
            Err((v, why)) => {
                tracing::warn!(zone = %v.apex(), version = %v.id(), "{why}");
                Read::Plain(v)
            }
        },
        _ => Read::Plain(v),
    }
}
