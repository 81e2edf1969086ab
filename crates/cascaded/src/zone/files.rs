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

/// Writes a version; durable when it returns. `verified`: what the gate said of it.
pub fn write(
    files: &ZoneFiles,
    kind: Kind,
    version: &ZoneVersion,
    gate: Option<(Option<&Ledger>, &VerifyReport)>,
    now: Timestamp,
) -> Result<(), ArchiveError> {
    let file_kind = match kind {
        Kind::Candidate => FileKind::Candidate,
        _ => FileKind::Snapshot,
    };
    let header = FileHeader {
        kind: file_kind,
        zone: version.zone(),
        version: version.id(),
        serial: version.serial(),
        created: now,
        fingerprint: version.full_fingerprint().to_bytes(),
    };
    let beside = gate.map(|(ledger, report)| Beside {
        ledger: ledger.cloned(),
        report: report.clone(),
    });
    let beside = beside
        .and_then(|b| serde_json::to_vec(&b).ok())
        .unwrap_or_default();
    files.write(kind, &header, version.sums().records, &beside, &|sink| {
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
        Ok(Recovery::Missing) => return Read::Missing,
        Ok(Recovery::SignaturesLost { damage }) => return Read::Signatures(damage.to_string()),
        Ok(Recovery::ContentLost { damage, set_aside }) => {
            let aside = set_aside.map_or(String::new(), |p| {
                format!("; the file is kept as {}", p.display())
            });
            return Read::Content(format!("{damage}{aside}"));
        }
        Ok(Recovery::Foreign { damage, .. }) => return Read::Content(damage.to_string()),
        Ok(Recovery::Newer(e)) | Err(e) => return Read::Content(e.to_string()),
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
    let v = Arc::new(v);
    match serde_json::from_slice::<Beside>(&beside) {
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
