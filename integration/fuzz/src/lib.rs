//! What is fuzzed: each target takes any octets and must neither panic nor take memory out of
//! proportion.

use cascade_loader::{ParseOptions, ParsedFile, RecordList, parse_bytes};
use cascade_wire::reader::Message;
use cascade_zone::{Name, ZoneVersion};

/// A target by its name.
pub fn by_name(name: &str) -> Option<fn(&[u8])> {
    ALL.iter().find(|t| t.0 == name).map(|t| t.1)
}

pub const ALL: [(&str, fn(&[u8])); 5] = [
    ("parts", parts),
    ("file", file),
    ("zonefile", zonefile),
    ("message", message),
    ("ttlv", ttlv),
];

/// The parts of a version as they are on disk: leaves, sidecars, blocks, pool and tables. What is
/// taken must be a version that can be walked, looked up and written again.
fn parts(input: &[u8]) {
    let Ok(version) = ZoneVersion::import_parts(split(input).into_iter()) else {
        return;
    };
    let mut last = None;
    version.for_each_record(&mut |r| last = Some(r.rtype));
    for i in 0..version.unit_count() {
        for owner in version.unit(i).owners() {
            let found = version.owner(owner.key());
            assert!(found.is_some(), "an owner that is not found");
            version.succ(owner.key());
            version.pred_bearing(owner.key());
        }
    }
    let mut again = Vec::new();
    version.export_parts(&mut |kind, bytes| again.push((kind, bytes.to_vec())));
    assert!(ZoneVersion::import_parts(again.into_iter()).is_ok());
}

/// `kind, u32 length, octets` until the input ends.
fn split(mut input: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut out = Vec::new();
    while let Some((head, rest)) = input.split_first_chunk::<5>() {
        let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (part, rest) = rest.split_at(len.min(rest.len()));
        out.push((head[0], part.to_vec()));
        input = rest;
    }
    out
}

/// The inverse of [`split`].
pub fn join(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The header of a file of the archive.
fn file(input: &[u8]) {
    if let Ok(header) = cascade_archive::FileHeader::decode(input) {
        // A time beyond what a timestamp holds is its last moment, and has a fraction.
        let octets = header.encode();
        let again = cascade_archive::FileHeader::decode(&octets).map(|h| h.encode());
        assert_eq!(again.as_ref(), Ok(&octets));
    }
}

/// Zone file text.
fn zonefile(input: &[u8]) {
    let options = ParseOptions {
        strip: true,
        max_size: 1 << 20,
        chunk: Some(64),
        ..ParseOptions::default()
    };
    let Ok(apex) = Name::parse("example.net") else {
        return;
    };
    let parsed: ParsedFile<RecordList> = parse_bytes(input.to_vec(), "input", &apex, &options);
    // Includes are refused and one file was given, so every place is inside of it.
    for d in &parsed.diagnostics.kept {
        if let Some(place) = &d.place {
            assert!(place.line as usize <= input.len() + 1);
        }
    }
}

/// A DNS message from anybody.
fn message(input: &[u8]) {
    let _ = cascade_wire::Request::parse(input);
    let Ok(message) = Message::parse(input) else {
        return;
    };
    let _ = message.question();
    let mut rdata = Vec::new();
    for record in message.records() {
        let Ok(record) = record else { return };
        let _ = record.owner();
        rdata.clear();
        let _ = record.push_rdata(&mut rdata);
        if let Ok(edns) = cascade_wire::edns::Edns::from_record(&record) {
            edns.options().for_each(drop);
        }
    }
}

/// A KMIP request.
fn ttlv(input: &[u8]) {
    let server = cascade_kmip::server::Server::default();
    if let Ok(exchange) = server.accept(input, 0) {
        let _ = exchange.len();
    }
}
