//! The public entries: octets to records.

use cascade_zone::Name;

use crate::code::Checks;
use crate::parse::Env;
use crate::run::{ParsedFile, Progress, parse_plan};
use crate::scan::{Plan, ScanOptions, scan};
use crate::sink::RecordSink;
use crate::source::{FileStat, IncludeMode, SourceFile};

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
    /// Most octets of all files together (`loader.max-size`); 0 is unlimited.
    pub max_size: u64,
    /// Least octets of a chunk; the default suits the machine, other values are for tests. The
    /// result does not depend on it.
    pub chunk: Option<usize>,
}

/// Parses text that is in memory. `name` stands for the file in diagnostics; includes are refused.
pub fn parse_bytes<S>(bytes: Vec<u8>, name: &str, apex: &Name, options: &ParseOptions) -> ParsedFile<S>
where
    S: RecordSink + Default + Send,
{
    let stat = FileStat { size: bytes.len() as u64, ..FileStat::default() };
    let file = SourceFile { name: name.to_string(), bytes, parent: None, stat };
    let options = ParseOptions { include: IncludeMode::Off, ..options.clone() };
    let plan = plan(file, apex, &options);
    parse(&plan, apex, &options, &Progress::default())
}

pub(crate) fn plan(file: SourceFile, apex: &Name, options: &ParseOptions) -> Plan {
    let chunk = match options.chunk {
        Some(n) => n.max(1),
        None if file.bytes.len() < WHOLE => usize::MAX,
        None => CHUNK,
    };
    let scan_options = ScanOptions { chunk, include: options.include, max_size: options.max_size };
    scan(file, apex.as_wire(), &scan_options)
}

pub(crate) fn parse<S>(plan: &Plan, apex: &Name, options: &ParseOptions, progress: &Progress) -> ParsedFile<S>
where
    S: RecordSink + Default + Send,
{
    let env = Env {
        apex,
        checks: &options.checks,
        max_ttl: options.max_ttl,
        strip: options.strip,
        files: &plan.files,
    };
    parse_plan(&env, plan, progress)
}
