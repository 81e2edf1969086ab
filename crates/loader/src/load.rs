//! A load: from a file, or octets, to a version or a report that says why not.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use cascade_time::Clock;
use cascade_zone::{Name, RecordBatch, Rtype, VersionId, ZoneId, ZoneVersion};
use xxhash_rust::xxh3::Xxh3;

use crate::assemble::{Assembly, Places, Target};
use crate::check::{Finding, Findings, Wanted, plain};
use crate::code::{Checks, Code, Level};
use crate::diag::Diagnostic;
use crate::parse::Env;
use crate::report::LoadReport;
use crate::run::{ParsedFile, Progress, parse_plan};
use crate::scan::{Item, Plan, ScanOptions, scan};
use crate::sink::{DnssecList, ParsedRecord, RecordSink};
use crate::source::{self, FileStat, IncludeMode, ReadError, SourceFile, SourceIdentity};
use crate::zonemd::{self, AsReceived, Verdict, ZonemdCheck};

/// Files below are parsed in one piece.
const WHOLE: usize = 256 * 1024;
/// Least octets of a chunk of a larger file.
const CHUNK: usize = 1024 * 1024;

/// How to read zone file text.
#[derive(Debug, Clone, Default)]
pub struct ParseOptions {
    pub checks: Checks,
    /// TTLs above are lowered (`signer.max-ttl`).
    pub max_ttl: Option<u32>,
    /// Drop the records that a signer makes (off for pass-through).
    pub strip: bool,
    pub include: IncludeMode,
    /// The source's own digest (`loader.zonemd`).
    pub zonemd: ZonemdCheck,
    /// Most octets of all files together (`loader.max-size`); 0 is unlimited.
    pub max_size: u64,
    /// Least octets of a chunk; the default suits the machine, other values are for tests. The
    /// result does not depend on it.
    pub chunk: Option<usize>,
}

/// Parses text that is in memory. `name` stands for the file in diagnostics; includes are refused.
pub fn parse_bytes<S>(
    bytes: Vec<u8>,
    name: &str,
    apex: &Name,
    options: &ParseOptions,
) -> ParsedFile<S>
where
    S: RecordSink + Default + Send,
{
    let stat = FileStat {
        size: bytes.len() as u64,
        ..FileStat::default()
    };
    let file = SourceFile {
        name: name.to_string(),
        bytes,
        parent: None,
        stat,
    };
    let options = ParseOptions {
        include: IncludeMode::Off,
        ..options.clone()
    };
    let plan = plan(file, apex, &options);
    parse(&plan, apex, &options, &Progress::default())
}

fn plan(file: SourceFile, apex: &Name, options: &ParseOptions) -> Plan {
    let chunk = match options.chunk {
        Some(n) => n.max(1),
        None if file.bytes.len() < WHOLE => usize::MAX,
        None => CHUNK,
    };
    let scan_options = ScanOptions {
        chunk,
        include: options.include,
        max_size: options.max_size,
    };
    scan(file, apex.as_wire(), &scan_options)
}

fn parse<S>(plan: &Plan, apex: &Name, options: &ParseOptions, progress: &Progress) -> ParsedFile<S>
where
    S: RecordSink + Default + Send,
{
    parse_plan(&env(plan, apex, options), plan, S::default, progress)
}

fn parse_with<S: RecordSink + Send>(
    plan: &Plan,
    apex: &Name,
    options: &ParseOptions,
    sink: impl Fn() -> S + Sync,
) -> ParsedFile<S> {
    parse_plan(&env(plan, apex, options), plan, sink, &Progress::default())
}

fn env<'a>(plan: &'a Plan, apex: &'a Name, options: &'a ParseOptions) -> Env<'a> {
    Env {
        apex,
        checks: &options.checks,
        max_ttl: options.max_ttl,
        strip: options.strip,
        files: &plan.files,
    }
}

/// Everything a load of a zone file needs to know.
#[derive(Debug, Clone)]
pub struct LoadRequest<'a> {
    pub path: &'a Path,
    pub apex: &'a Name,
    pub zone: ZoneId,
    /// Id of the version to make.
    pub version: VersionId,
    /// The current unsigned version: its equal leaves are reused, its serial compared.
    pub current: Option<&'a ZoneVersion>,
    /// What the current version was read from.
    pub identity: Option<&'a SourceIdentity>,
    pub options: &'a ParseOptions,
    /// `loader.max-records`; 0 is unlimited.
    pub max_records: u64,
    /// Read the file even if its size, inode and time are as before.
    pub force: bool,
    /// For the report.
    pub trigger: &'a str,
}

/// How a load ended. A failed load leaves nothing behind.
#[derive(Debug)]
pub enum Outcome {
    /// The source has what the current version has. The identity is the new one, when it was read.
    Unchanged {
        report: LoadReport,
        identity: Option<SourceIdentity>,
    },
    Loaded {
        version: Box<ZoneVersion>,
        report: LoadReport,
        /// What it was read from; none for transfers.
        identity: Option<SourceIdentity>,
    },
    Failed {
        report: LoadReport,
    },
}

impl Outcome {
    pub fn report(&self) -> &LoadReport {
        match self {
            Outcome::Unchanged { report, .. }
            | Outcome::Loaded { report, .. }
            | Outcome::Failed { report } => report,
        }
    }
}

/// Loads a zone file on the current thread pool.
///
/// The clock is for the report and the version's time. `progress` can be read meanwhile.
pub fn load_file(request: &LoadRequest<'_>, clock: &dyn Clock, progress: &Progress) -> Outcome {
    read_file(request, clock, progress, None)
}

/// Loads a zone file whose DNSSEC records are to be kept: they are not part of the version, and
/// come beside it in `dnssec`, untouched.
pub fn load_signed_file(
    request: &LoadRequest<'_>,
    clock: &dyn Clock,
    progress: &Progress,
    dnssec: &mut Vec<ParsedRecord>,
) -> Outcome {
    read_file(request, clock, progress, Some(dnssec))
}

fn read_file(
    request: &LoadRequest<'_>,
    clock: &dyn Clock,
    progress: &Progress,
    dnssec: Option<&mut Vec<ParsedRecord>>,
) -> Outcome {
    let mut load = Load::new(request, clock);
    if !request.force && load.untouched() {
        return load.unchanged("the file has not been touched", None);
    }
    let (bytes, stat) = match source::read(request.path, request.options.max_size) {
        Ok(read) => read,
        Err(e) => return load.unreadable(&e),
    };
    load.at.lap(|s| &mut s.read);
    let name = request.path.display().to_string();
    let plan = plan(
        SourceFile {
            name,
            bytes,
            parent: None,
            stat,
        },
        request.apex,
        request.options,
    );
    load.at.lap(|s| &mut s.split);
    load.plan(plan, progress, dnssec)
}

/// Builds a version from text in memory, as [`load_file`] does from a file; includes are refused.
pub fn load_bytes(
    request: &LoadRequest<'_>,
    bytes: Vec<u8>,
    clock: &dyn Clock,
    progress: &Progress,
) -> Outcome {
    let load = Load::new(request, clock);
    let stat = FileStat {
        size: bytes.len() as u64,
        ..FileStat::default()
    };
    let name = request.path.display().to_string();
    let options = ParseOptions {
        include: IncludeMode::Off,
        ..request.options.clone()
    };
    let plan = plan(
        SourceFile {
            name,
            bytes,
            parent: None,
            stat,
        },
        request.apex,
        &options,
    );
    load.plan(plan, progress, None)
}

/// A load under way.
struct Load<'a> {
    request: &'a LoadRequest<'a>,
    at: Assembly<'a>,
}

impl<'a> Load<'a> {
    fn new(request: &'a LoadRequest<'a>, clock: &'a dyn Clock) -> Self {
        let report = LoadReport {
            trigger: request.trigger.to_string(),
            source: request.path.display().to_string(),
            kind: "file".to_string(),
            started: clock.now(),
            ..LoadReport::default()
        };
        let target = Target {
            apex: request.apex,
            zone: request.zone,
            version: request.version,
            current: request.current,
            checks: &request.options.checks,
            backward: Level::Warning,
            sound: request
                .identity
                .and_then(|i| i.sound.as_deref())
                .is_some_and(|checks| *checks == request.options.checks),
        };
        Load {
            request,
            at: Assembly::new(target, clock, report),
        }
    }

    /// All files of the current version are as they were, by inode, size and time.
    fn untouched(&self) -> bool {
        let Some(identity) = self
            .request
            .identity
            .filter(|_| self.request.current.is_some())
        else {
            return false;
        };
        identity
            .files
            .first()
            .is_some_and(|f| f.path == self.request.path)
            && identity
                .files
                .iter()
                .all(|f| source::stat(&f.path).as_ref() == Some(f))
    }

    fn plan(
        mut self,
        plan: Plan,
        progress: &Progress,
        dnssec: Option<&mut Vec<ParsedRecord>>,
    ) -> Outcome {
        let request = self.request;
        let mut identity = identity(&plan);
        self.at.report.octets = plan.files.iter().map(|f| f.stat.size).sum();
        self.at.report.files = plan.files.len() as u64;
        let broken = plan.items.iter().any(|i| matches!(i, Item::Broken { .. }));
        let same = request
            .identity
            .is_some_and(|i| i.hash == identity.hash && i.files.len() == identity.files.len());
        if same && !broken && request.current.is_some() {
            identity.sound = request.identity.and_then(|i| i.sound.clone());
            return self.unchanged("the octets of the file are the same", Some(identity));
        }
        let parsed: ParsedFile<RecordBatch> = parse(&plan, request.apex, request.options, progress);
        self.at.lap(|s| &mut s.parse);
        self.at.report.records_received = parsed.records;
        self.at.report.diagnostics = parsed.diagnostics;
        if dnssec.is_none() {
            self.at.stripped(&parsed.stripped);
        }
        if plan.lines > u32::MAX as u64 {
            self.at.whole(
                Code::LIMIT,
                "the files have more than 4294967295 lines".to_string(),
            );
        }
        if request.max_records > 0 && parsed.records > request.max_records {
            let text = format!(
                "{} records; at most {} are allowed (loader.max-records)",
                parsed.records, request.max_records
            );
            self.at.whole(Code::RESOURCE_LIMIT, text);
            return self.failed();
        }
        if !self.at.report.diagnostics.has_errors() {
            self.zonemd(&plan, parsed.stripped.contains_key(&Rtype::ZONEMD.0));
        }
        if let Some(dnssec) = dnssec {
            let all = ParseOptions {
                strip: false,
                max_ttl: None,
                ..request.options.clone()
            };
            let parsed = parse_with(&plan, request.apex, &all, DnssecList::default);
            dnssec.extend(parsed.sinks.into_iter().flat_map(|s| s.0.records));
        }
        let incomplete = self.at.report.diagnostics.has_errors();
        let places = InFiles {
            plan: &plan,
            request,
        };
        match self.at.build(parsed.sinks, incomplete, &places) {
            Some(version) if !self.at.report.diagnostics.has_errors() => {
                identity.sound = self
                    .at
                    .sound
                    .then(|| Arc::new(request.options.checks.clone()));
                self.compare(version, identity)
            }
            _ => self.failed(),
        }
    }

    /// RFC 8976 §4, over all that is in the file: its text is parsed once more, with nothing
    /// dropped and no TTL lowered. `stripped`: there is a ZONEMD record.
    fn zonemd(&mut self, plan: &Plan, stripped: bool) {
        let options = self.request.options;
        if options.zonemd == ZonemdCheck::Off {
            return;
        }
        let verdict = if stripped || !options.strip {
            let all = ParseOptions {
                strip: false,
                max_ttl: None,
                ..options.clone()
            };
            let parsed = parse_with(plan, self.request.apex, &all, AsReceived::default);
            zonemd::check(self.request.apex, &parsed.sinks)
        } else {
            Verdict::Absent
        };
        self.at.zonemd(&verdict, options.zonemd);
    }

    fn compare(mut self, version: ZoneVersion, identity: SourceIdentity) -> Outcome {
        if !self.at.compare(&version) {
            return self.unchanged("the records are the same", Some(identity));
        }
        self.at.lap(|s| &mut s.compare);
        if self.at.report.diagnostics.has_errors() {
            return self.failed();
        }
        Outcome::Loaded {
            version: Box::new(version),
            report: self.at.loaded(),
            identity: Some(identity),
        }
    }

    fn unreadable(mut self, e: &ReadError) -> Outcome {
        self.at.whole(Code::UNREADABLE, e.to_string());
        self.at.report.reason = Some(e.to_string());
        self.failed()
    }

    fn failed(self) -> Outcome {
        Outcome::Failed {
            report: self.at.failed(),
        }
    }

    fn unchanged(self, why: &str, identity: Option<SourceIdentity>) -> Outcome {
        Outcome::Unchanged {
            report: self.at.unchanged(why),
            identity,
        }
    }
}

/// Lines of the files that were read.
struct InFiles<'a> {
    plan: &'a Plan,
    request: &'a LoadRequest<'a>,
}

impl Places for InFiles<'_> {
    /// The built version knows no lines: the text is parsed once more, by a sink that only looks
    /// for the records of the findings.
    fn locate(&self, found: Vec<(Finding, Vec<u8>)>, findings: &Findings) {
        if found.is_empty() {
            return;
        }
        let id = |f: &Finding, rdata: &[u8]| {
            (f.key.clone(), f.rtype.unwrap_or(Rtype(0)), rdata.to_vec())
        };
        let wanted = found.iter().map(|(f, rdata)| id(f, rdata)).collect();
        let sinks = parse_with(
            self.plan,
            self.request.apex,
            self.request.options,
            Wanted::sinks(wanted),
        )
        .sinks;
        let mut lines = HashMap::new();
        for (id, loc) in sinks.into_iter().flat_map(|s| s.found) {
            lines.entry(id).or_insert(loc);
        }
        for (mut f, rdata) in found {
            f.loc = lines.get(&id(&f, &rdata)).copied().unwrap_or(u32::MAX);
            findings.add(f);
        }
    }

    fn placed(&self, finding: &Finding) -> Diagnostic {
        placed(finding, self.plan, self.request.apex)
    }
}

/// Stats and hash of all that was read, in the order of reading.
fn identity(plan: &Plan) -> SourceIdentity {
    let mut hash = Xxh3::new();
    for f in &plan.files {
        // The length keeps two files from being one.
        hash.update(&(f.bytes.len() as u64).to_le_bytes());
        hash.update(&f.bytes);
    }
    SourceIdentity {
        files: plan.files.iter().map(|f| f.stat.clone()).collect(),
        hash: hash.digest128(),
        sound: None,
    }
}

/// A finding with its places.
fn placed(f: &Finding, plan: &Plan, apex: &Name) -> Diagnostic {
    let mut d = plain(f, apex);
    if let Some((place, included)) = plan.place(f.loc) {
        d.place = Some(place.labelled(f.label.clone()));
        d.included_from = included;
    }
    if let Some((place, _)) = f.related.and_then(|(loc, _)| plan.place(loc)) {
        d.related
            .push(place.labelled(f.related.map_or("", |(_, label)| label)));
    }
    d
}
