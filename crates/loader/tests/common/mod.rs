//! Helpers of the tests.
#![allow(dead_code)] // each test file uses some of them

use std::fmt::Write;

use cascade_loader::{ParseOptions, ParsedFile, ParsedRecord, RecordList, parse_bytes, render};
use cascade_zone::{Name, key, rdata};

pub fn apex() -> Name {
    Name::parse("example.").unwrap()
}

pub fn parse_with(text: &[u8], options: &ParseOptions) -> ParsedFile<RecordList> {
    parse_bytes(text.to_vec(), "zone", &apex(), options)
}

pub fn parse(text: impl AsRef<[u8]>) -> ParsedFile<RecordList> {
    parse_with(text.as_ref(), &ParseOptions::default())
}

pub fn records(parsed: &ParsedFile<RecordList>) -> Vec<ParsedRecord> {
    parsed
        .sinks
        .iter()
        .flat_map(|s| s.records.clone())
        .collect()
}

pub fn show(r: &ParsedRecord, apex: &Name) -> String {
    let mut line = String::new();
    let owner = key::to_name(&r.key, r.case.as_deref(), apex);
    write!(line, "{owner} {} IN {} ", r.ttl, r.rtype).unwrap();
    rdata::print(r.rtype, &r.rdata, &mut line).unwrap();
    line
}

/// All records as text, which must be free of errors.
pub fn good(text: impl AsRef<[u8]>) -> Vec<String> {
    let parsed = parse(text.as_ref());
    assert_eq!(
        parsed.diagnostics.errors,
        0,
        "{}",
        render::render_all(&parsed.diagnostics)
    );
    records(&parsed).iter().map(|r| show(r, &apex())).collect()
}

/// The codes found, in order.
pub fn codes(text: impl AsRef<[u8]>) -> Vec<String> {
    parse(text)
        .diagnostics
        .kept
        .iter()
        .map(|d| d.code.to_string())
        .collect()
}
