//! What every load does once it has records: build, check, compare with the current version, and
//! say so in the report.

use std::collections::BTreeMap;
use std::time::Duration;

use cascade_time::Clock;
use cascade_zone::{
    BuildError, Builder, Name, RecordBatch, Rtype, VersionId, ZoneId, ZoneVersion, diff_stats,
};

use crate::check::{Finding, Findings, OwnerChecks, across, across_changes, plain};
use crate::code::{Checks, Code, Level};
use crate::diag::{Diagnostic, Diagnostics};
use crate::report::{Delta, LoadReport, LoadResult, Stages, micros};
use crate::zonemd::{Verdict, ZonemdCheck};

/// Which version is made, of what zone, beside which one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub apex: &'a Name,
    pub zone: ZoneId,
    pub version: VersionId,
    /// The current unsigned version: its equal leaves are reused, its serial compared.
    pub current: Option<&'a ZoneVersion>,
    pub checks: &'a Checks,
    /// How bad a serial is that is not newer than the current one, unless the operator said so.
    pub backward: Level,
    /// The checks across owners found nothing in the current version, at the same levels.
    pub sound: bool,
}

/// Finds places in the source; transfers have none.
pub(crate) trait Places {
    /// Findings made on the built version, with their records: sets where they are.
    fn locate(&self, found: Vec<(Finding, Vec<u8>)>, findings: &Findings);
    fn placed(&self, finding: &Finding) -> Diagnostic;
}

/// A load that has its records, or soon will.
pub(crate) struct Assembly<'a> {
    pub target: Target<'a>,
    pub clock: &'a dyn Clock,
    pub report: LoadReport,
    /// The checks across owners found nothing in the version that was built.
    pub sound: bool,
    mark: Duration,
}

impl<'a> Assembly<'a> {
    pub fn new(target: Target<'a>, clock: &'a dyn Clock, report: LoadReport) -> Self {
        Assembly {
            report: LoadReport {
                serial_old: target.current.map(|v| v.serial().0),
                zonemd: "absent".to_string(),
                ..report
            },
            target,
            clock,
            sound: false,
            mark: clock.monotonic(),
        }
    }

    pub fn lap(&mut self, stage: impl FnOnce(&mut Stages) -> &mut u64) {
        let now = self.clock.monotonic();
        *stage(&mut self.report.stages) += micros(now.saturating_sub(self.mark));
        self.mark = now;
    }

    /// Builds with all checks of meaning; findings go to the report. `incomplete`: some records
    /// could not be read, so that what is absent may only seem so.
    pub fn build(
        &mut self,
        batches: Vec<RecordBatch>,
        incomplete: bool,
        places: &impl Places,
    ) -> Option<ZoneVersion> {
        let target = self.target;
        let findings = Findings::default();
        let inspector = OwnerChecks {
            apex: target.apex,
            checks: target.checks,
            findings: &findings,
            incomplete,
        };
        let mut builder = Builder::new(target.zone, target.version, target.apex, self.clock.now())
            .batches(batches)
            .inspector(&inspector);
        if let Some(current) = target.current {
            builder = builder.predecessor(current);
        }
        let built = builder.build_beside();
        self.lap(|s| &mut s.build);
        if let Ok(built) = &built
            && !incomplete
        {
            let across_findings = Findings::default();
            let found = match target.sound {
                true => across_changes(built, target.checks, &across_findings),
                false => across(&built.version, target.checks, &across_findings),
            };
            self.sound = found.is_empty() && across_findings.is_empty();
            findings.count_all(across_findings);
            places.locate(found, &findings);
        }
        let several = self.take(findings, places);
        self.lap(|s| &mut s.check);
        match built {
            Ok(built) => Some(built.version),
            Err(e) => {
                if !((e == BuildError::NoSoa && incomplete)
                    || (e == BuildError::SeveralSoas && several))
                {
                    self.not_built(&e);
                }
                None
            }
        }
    }

    /// Puts findings into the report; true if several SOA records are among them.
    pub fn take(&mut self, findings: Findings, places: &impl Places) -> bool {
        let (found, counts) = findings.into_parts();
        let several = counts.by_code.contains_key(&Code::SEVERAL_SOA.to_string());
        let kept = found.iter().map(|f| places.placed(f)).collect();
        self.report
            .diagnostics
            .append(Diagnostics { kept, ..counts });
        several
    }

    /// Says why there is no version.
    pub fn not_built(&mut self, e: &BuildError) {
        let apex = self.target.apex;
        let (code, text) = match e {
            BuildError::NoSoa => (Code::NO_SOA, format!("no SOA record at the apex {apex}")),
            BuildError::SeveralSoas => {
                (Code::SEVERAL_SOA, format!("several SOA records at {apex}"))
            }
            e => (Code::RESOURCE_LIMIT, e.to_string()),
        };
        self.whole(code, text);
    }

    /// Against the current version. False: the records are the same.
    pub fn compare(&mut self, version: &ZoneVersion) -> bool {
        self.counted(version);
        let Some(current) = self.target.current else {
            return true;
        };
        if version.same_content_as(current) {
            return false;
        }
        let stats = diff_stats(current, version);
        let reused = reused(current, version);
        self.report.delta = Some(Delta::new(&stats, version.unit_count() as u64, reused));
        self.serial(version);
        true
    }

    /// The numbers of the new version.
    pub fn counted(&mut self, version: &ZoneVersion) {
        let sums = version.sums();
        let r = &mut self.report;
        r.serial_new = Some(version.serial().0);
        r.records = sums.records;
        r.owners = sums.owners;
        r.cuts = sums.cuts;
        r.secure_cuts = sums.secure;
    }

    fn serial(&mut self, version: &ZoneVersion) {
        let Some(old) = self.target.current.map(ZoneVersion::serial) else {
            return;
        };
        let new = version.serial();
        if new == old {
            self.whole(
                Code::SERIAL_UNCHANGED,
                format!("the records changed, but the serial is still {new}"),
            );
        } else if !new.newer_than(old) {
            let text = format!("serial {new} is not newer than the current {old}");
            self.whole_at(Code::SERIAL_BACKWARD, self.target.backward, text);
        }
    }

    pub fn stripped(&mut self, stripped: &BTreeMap<u16, u64>) {
        if stripped.is_empty() {
            return;
        }
        if stripped.contains_key(&Rtype::ZONEMD.0) {
            self.report.zonemd = "skipped".to_string();
        }
        self.report.stripped = stripped
            .iter()
            .map(|(t, n)| (Rtype(*t).to_string(), *n))
            .collect();
        let list: Vec<String> = stripped
            .iter()
            .map(|(t, n)| format!("{} {n}", Rtype(*t)))
            .collect();
        self.whole(
            Code::STRIPPED,
            format!(
                "records that the signer makes itself were dropped: {}",
                list.join(", ")
            ),
        );
    }

    /// What the source's own digest said.
    pub fn zonemd(&mut self, verdict: &Verdict, check: ZonemdCheck) {
        self.report.zonemd = verdict.text().to_string();
        if let Some(why) = verdict.refusal(check) {
            self.whole(Code::ZONEMD, why);
        }
        self.lap(|s| &mut s.check);
    }

    /// A finding about the zone as a whole.
    pub fn whole(&mut self, code: Code, message: String) {
        let level = code.info().map_or(Level::Error, |i| i.level);
        self.whole_at(code, level, message);
    }

    /// The same for a check whose level differs from its usual one here.
    pub fn whole_at(&mut self, code: Code, level: Level, message: String) {
        let Some(severity) = self.target.checks.severity_or(code, level) else {
            return;
        };
        let finding = Finding {
            severity,
            loc: 0,
            code,
            key: Vec::new(),
            rtype: None,
            message,
            label: String::new(),
            related: None,
            help: None,
        };
        let apex = self.target.apex;
        self.report
            .diagnostics
            .add(code, severity, || plain(&finding, apex));
    }

    /// The finished report of a load that failed.
    pub fn failed(mut self) -> LoadReport {
        self.report.result = LoadResult::Failed;
        self.report.finished = self.clock.now();
        self.report
    }

    /// The finished report of a load that found nothing new.
    pub fn unchanged(mut self, why: &str) -> LoadReport {
        self.report.result = LoadResult::Unchanged;
        self.report.reason = Some(why.to_string());
        self.report.serial_new = self.report.serial_old;
        self.report.finished = self.clock.now();
        self.report
    }

    /// The finished report of a load that made a version.
    pub fn loaded(mut self) -> LoadReport {
        self.report.result = LoadResult::Loaded;
        self.report.finished = self.clock.now();
        self.report
    }
}

/// Leaves of `new` that are the very leaves of `old`.
fn reused(old: &ZoneVersion, new: &ZoneVersion) -> u64 {
    // Both run in key order.
    let mut olds = old.units().peekable();
    let mut n = 0;
    for unit in new.units() {
        while olds.next_if(|o| o.first_key() < unit.first_key()).is_some() {}
        n += olds.peek().is_some_and(|o| o.same_content(&unit)) as u64;
    }
    n
}
