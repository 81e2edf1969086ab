//! From a source to a complete, checked unsigned zone version, or to a report that says why not.
//!
//! Reading order: [`load`] is the whole of a load from a file; [`scan`] splits the octets,
//! [`parse`] turns entries into records with [`rdata`], [`run`] does so in parallel; [`check`] looks
//! at what the records mean; [`diag`] and [`render`] say what was found. Reading files is the only
//! I/O here ([`source`]). [`xfr`] is the sibling of `load` for transfers from primaries: it reads
//! messages, writes to the same batches and uses the same checks. [`zonemd`] compares what was
//! received with the source's own digest. [`update`] takes
//! the changes of DNS UPDATE to a zone whose content is its own.

mod assemble;
mod check;
pub mod code;
pub mod diag;
mod directive;
mod lex;
mod load;
mod parse;
mod plain;
mod rdata;
pub mod render;
mod report;
mod run;
mod scan;
mod sink;
pub mod source;
mod text;
pub mod update;
pub mod xfr;
pub mod zonemd;

pub use code::{CheckError, Checks, Code, Level, Severity};
pub use diag::{Diagnostic, Diagnostics, Place};
pub use load::{
    LoadRequest, Outcome, ParseOptions, load_bytes, load_file, load_signed_file, parse_bytes,
};
pub use report::{Attempt, Delta, LoadReport, LoadResult, Stages};
pub use run::{ParsedFile, Progress};
pub use sink::{Full, ParsedRecord, RecordList, RecordSink};
pub use source::{IncludeMode, SourceIdentity};
pub use zonemd::ZonemdCheck;
