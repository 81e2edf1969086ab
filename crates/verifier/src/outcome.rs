//! The verdict, and the types that carry it: nobody but this crate can say "verified".

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::finding::{Check, Counts, Finding, KeyCounts, Mode, Severity, Verdict, VerifyReport};
use crate::ledger::{Ledger, Octets};
use crate::owner::Work;
use crate::wire::hex;

/// What a run found, before it is bound to a version.
pub(crate) struct Judged {
    pub(crate) report: VerifyReport,
    pub(crate) ledger: Ledger,
}

/// V24, and the report.
pub(crate) fn conclude(
    ctx: &Context<'_>,
    mode: Mode,
    ledger: Ledger,
    mut work: Work,
    affected: u64,
) -> Judged {
    let earliest = ledger.earliest(ctx.now_wire);
    if let Some(earliest) = earliest {
        check_runway(ctx, earliest, &mut work);
    }
    let counts = Counts {
        records: ledger.counts.records as u64,
        rrsets: ledger.counts.rrsets as u64,
        signatures_checked: work.batch.checked.iter().sum(),
        signatures_carried: match mode {
            Mode::Full => work.carried,
            Mode::Changed => {
                (ledger.counts.signatures as u64).saturating_sub(work.batch.checked.iter().sum())
            }
        },
        denial_checked: work.tally.counts.denial_records.unsigned_abs(),
        affected_owners: affected,
    };
    let keys = ctx
        .keys
        .list
        .iter()
        .zip(work.batch.checked)
        .map(|(key, checked)| KeyCounts {
            tag: key.tag,
            algorithm: key.algorithm,
            sha256: hex(&key.sha256),
            checked,
        });
    let warnings = work
        .sink
        .kept
        .iter()
        .any(|f| f.severity == Severity::Warning);
    let report = VerifyReport {
        zone: crate::wire::show(&ctx.apex_name),
        version: None,
        predecessor: None,
        mode,
        engine: match work.batch.engine.tables {
            0 => "ring",
            _ => "tables",
        }
        .into(),
        engine_counts: work.batch.engine,
        started_at: ctx.now,
        duration_ms: None,
        counts,
        keys: keys.collect(),
        earliest_expiration: earliest.map(|e| Timestamp::from_wire(e, ctx.now)),
        ds_seen: ctx
            .params
            .parent
            .ds()
            .map(|set| set.iter().map(|ds| hex(ds)).collect()),
        findings_total: work.sink.total,
        verdict: match (work.sink.refusals, warnings) {
            (0, false) => Verdict::Passed,
            (0, true) => Verdict::PassedWithWarnings,
            _ => Verdict::Refused,
        },
        findings: work.sink.kept,
    };
    Judged { report, ledger }
}

/// V24. The ledger knows the hour of the earliest expiration; the benefit of that hour is given.
fn check_runway(ctx: &Context<'_>, earliest: u32, work: &mut Work) {
    let left = earliest.wrapping_add(3599).wrapping_sub(ctx.now_wire) as i32;
    let of_keys = ctx.params.min_remaining_key_set.unwrap_or(u32::MAX);
    let needed = ctx.params.min_remaining.min(of_keys) as i32;
    if left < needed {
        // Refreshing is late. A candidate that is no worse than what is live must get out, or the
        // delay would feed itself; one that is worse, or about to expire, must not.
        let no_worse = ctx.params.live_earliest.is_some_and(|live| {
            earliest.wrapping_add(3599).wrapping_sub(live.to_wire()) as i32 >= 0 && left > 0
        });
        let finding = Finding::zone(Check::V24, "the earliest signature expires too soon")
            .expected(format!(">= {needed} s"), format!("{left} s"));
        work.sink
            .push(|| if no_worse { finding.warning() } else { finding });
    } else if left < ctx.params.warn_remaining as i32 {
        work.sink.push(|| {
            Finding::zone(
                Check::V24,
                "the earliest signature expires soon: refreshing is late",
            )
            .expected(
                format!(">= {} s", ctx.params.warn_remaining),
                format!("{left} s"),
            )
            .warning()
        });
    }
}

/// A version that passed the gate. Only this crate makes one.
#[derive(Debug, Clone)]
pub struct Verified<V> {
    version: V,
    report: VerifyReport,
    ledger: Option<Box<Ledger>>,
}

impl<V> Verified<V> {
    pub fn version(&self) -> &V {
        &self.version
    }

    pub fn report(&self) -> &VerifyReport {
        &self.report
    }

    /// Of a version that was published despite a refusal there is none: its successor is judged in
    /// full.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_deref()
    }
}

/// A version that did not pass, with the reasons.
#[derive(Debug, Clone)]
pub struct Refused<V> {
    version: V,
    report: VerifyReport,
}

impl<V> Refused<V> {
    pub fn version(&self) -> &V {
        &self.version
    }

    pub fn report(&self) -> &VerifyReport {
        &self.report
    }

    /// Gives the version back, to be healed or dropped.
    pub fn into_parts(self) -> (V, VerifyReport) {
        (self.version, self.report)
    }
}

/// The answer of the gate.
#[derive(Debug, Clone)]
pub enum Outcome<V> {
    Verified(Verified<V>),
    Refused(Refused<V>),
}

impl<V> Outcome<V> {
    pub(crate) fn of(version: V, judged: Judged) -> Outcome<V> {
        let Judged { report, ledger } = judged;
        match report.verdict {
            Verdict::Refused => Outcome::Refused(Refused { version, report }),
            _ => Outcome::Verified(Verified {
                version,
                report,
                ledger: Some(Box::new(ledger)),
            }),
        }
    }

    /// Of a version whose successor is to be judged in full.
    pub(crate) fn without_ledger(version: V, judged: Judged) -> Outcome<V> {
        match Outcome::of(version, judged) {
            Outcome::Verified(v) => Outcome::Verified(Verified { ledger: None, ..v }),
            refused => refused,
        }
    }

    pub fn report(&self) -> &VerifyReport {
        match self {
            Outcome::Verified(v) => &v.report,
            Outcome::Refused(r) => &r.report,
        }
    }

    pub fn verified(self) -> Option<Verified<V>> {
        match self {
            Outcome::Verified(v) => Some(v),
            Outcome::Refused(_) => None,
        }
    }
}

/// Who let a verified version out, and when: a person, a hook, or the policy itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub by: String,
    pub at: Timestamp,
    pub comment: Option<String>,
}

/// One deliberate act of an approver to publish a version that the gate refused. Stands as an alarm
/// until a verified version replaces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DespiteVerification {
    pub by: String,
    pub reason: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ground {
    Approved(Approval),
    Despite(DespiteVerification),
}

/// A version that may be published. Made from [`Verified`] and an [`Approval`], or by the one act of
/// [`DespiteVerification`].
#[derive(Debug, Clone)]
pub struct Approved<T> {
    inner: T,
    ground: Ground,
}

impl<V> Approved<Verified<V>> {
    pub fn new(verified: Verified<V>, approval: Approval) -> Self {
        Approved {
            inner: verified,
            ground: Ground::Approved(approval),
        }
    }

    /// The override: takes the refusal itself, so that nobody can override what was never judged.
    pub fn despite(refused: Refused<V>, despite: DespiteVerification) -> Self {
        let Refused { version, report } = refused;
        Approved {
            inner: Verified {
                version,
                report,
                ledger: None,
            },
            ground: Ground::Despite(despite),
        }
    }

    pub fn version(&self) -> &V {
        &self.inner.version
    }
}

impl<T> Approved<T> {
    pub fn inner(&self) -> &T {
        &self.inner
    }

    pub fn approval(&self) -> Option<&Approval> {
        match &self.ground {
            Ground::Approved(a) => Some(a),
            Ground::Despite(_) => None,
        }
    }

    /// The standing alarm.
    pub fn despite_verification(&self) -> Option<&DespiteVerification> {
        match &self.ground {
            Ground::Despite(d) => Some(d),
            Ground::Approved(_) => None,
        }
    }
}

/// Why a stored version is not taken as verified: judge it in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReadmitted {
    #[error("the stored report does not say that the version passed; verify it in full")]
    NotPassed,
    #[error("the version's fingerprint is not that of the ledger; verify it in full")]
    Fingerprint,
    #[error("the version's DNSKEY RRset is not that of the ledger; verify it in full")]
    Dnskey,
    #[error("the version's SOA serial is not that of the ledger; verify it in full")]
    Serial,
}

/// A version read back from disk counts as verified when its full fingerprint, which the reader has
/// recomputed while reading, and its DNSKEY RRset are those of its ledger.
pub fn readmit<V: crate::source::Source>(
    version: V,
    ledger: Ledger,
    report: VerifyReport,
) -> Result<Verified<V>, (V, NotReadmitted)> {
    if report.verdict == Verdict::Refused {
        return Err((version, NotReadmitted::NotPassed));
    }
    let apex = crate::context::Apex::read(&version);
    let full = version.claims().map(|c| Octets(c.full.to_be_bytes()));
    if full != Some(ledger.full) {
        return Err((version, NotReadmitted::Fingerprint));
    }
    if crate::ledger::dnskey_digest(&apex.dnskey) != ledger.dnskey.0 {
        return Err((version, NotReadmitted::Dnskey));
    }
    if apex.serial() != ledger.serial {
        return Err((version, NotReadmitted::Serial));
    }
    Ok(Verified {
        version,
        report,
        ledger: Some(Box::new(ledger)),
    })
}
