//! Crafted primaries for tests: zones from text, transfers of them, cut as a test wants.

use std::sync::Arc;

use cascade_time::{SimClock, Timestamp};
use cascade_wire::tsig::{Algorithm, ServerTsig, TsigKey, TsigKeys, TsigView};
use cascade_wire::{Composer, Message, Section, flag};
use cascade_zone::{Name, Rtype, VersionId, ZoneId, ZoneVersion};

use crate::load::{LoadRequest, Outcome, ParseOptions, load_bytes};
use crate::run::Progress;
use crate::xfr::query::{Ask, Query};
use crate::xfr::reader::{ReadOptions, Reader, Received, Step};
use crate::xfr::{XfrError, XfrRequest};

pub const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
pub const ID: u16 = 0x1234;

pub fn apex() -> Name {
    Name::parse("example.net").unwrap()
}

/// A record as a primary sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rec {
    pub owner: Vec<u8>,
    pub rtype: Rtype,
    pub ttl: u32,
    pub rdata: Vec<u8>,
}

/// The unsigned version of zone file text below `$ORIGIN example.net.`
pub fn zone(text: &str, version: u64) -> ZoneVersion {
    let name = apex();
    let options = ParseOptions {
        strip: true,
        ..ParseOptions::default()
    };
    let request = LoadRequest {
        path: std::path::Path::new("test"),
        apex: &name,
        zone: ZoneId([1; 16]),
        version: VersionId(version),
        current: None,
        identity: None,
        options: &options,
        max_records: 0,
        force: true,
        trigger: "test",
    };
    let text = format!("$ORIGIN example.net.\n$TTL 300\n{text}");
    let clock = SimClock::new(NOW);
    match load_bytes(&request, text.into_bytes(), &clock, &Progress::default()) {
        Outcome::Loaded { version, .. } => *version,
        other => panic!("{other:#?}"),
    }
}

/// `@ SOA` with this serial, an NS and its address, and more lines.
pub fn text(serial: u32, more: &str) -> String {
    format!("@ SOA ns1 hostmaster {serial} 3600 600 604800 300\n@ NS ns1\nns1 A 192.0.2.1\n{more}")
}

/// All records, SOA first.
pub fn records(v: &ZoneVersion) -> Vec<Rec> {
    let mut out = Vec::new();
    v.for_each_record(&mut |r| {
        out.push(Rec {
            owner: r.owner.to_vec(),
            rtype: r.rtype,
            ttl: r.ttl,
            rdata: r.rdata.to_vec(),
        });
    });
    out
}

/// The records of an AXFR.
pub fn axfr(v: &ZoneVersion) -> Vec<Rec> {
    let mut all = records(v);
    all.push(all[0].clone());
    all
}

/// The records of an IXFR from the first version to the last through all between.
pub fn ixfr(versions: &[&ZoneVersion]) -> Vec<Rec> {
    let last = records(versions.last().unwrap())[0].clone();
    let mut out = vec![last.clone()];
    for pair in versions.windows(2) {
        let (old, new) = (records(pair[0]), records(pair[1]));
        out.push(old[0].clone());
        out.extend(old[1..].iter().filter(|r| !new.contains(r)).cloned());
        out.push(new[0].clone());
        out.extend(new[1..].iter().filter(|r| !old.contains(r)).cloned());
    }
    out.push(last);
    out
}

/// Messages with the given numbers of records each, the last number repeated; the first one has
/// the question.
pub fn messages(records: &[Rec], qtype: Rtype, sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = records;
    let mut sizes = sizes.iter().copied().chain(std::iter::repeat(
        sizes.last().copied().unwrap_or(records.len()).max(1),
    ));
    while !rest.is_empty() {
        let n = sizes.next().unwrap_or(1).clamp(1, rest.len());
        let mut msg = Vec::new();
        let mut c = Composer::new(&mut msg, 65_535, ID, flag::QR | flag::AA);
        if out.is_empty() {
            c.question(apex().as_wire(), qtype, 1);
        }
        for r in &rest[..n] {
            c.record(Section::Answer, &r.owner, r.rtype, r.ttl, &r.rdata)
                .unwrap();
        }
        c.finish();
        out.push(msg);
        rest = &rest[n..];
    }
    out
}

pub fn key() -> Arc<TsigKey> {
    Arc::new(TsigKey::new(
        &Name::parse("k.example").unwrap(),
        Algorithm::HmacSha256,
        b"0123456789abcdef",
    ))
}

/// The server's half of TSIG for this question.
pub fn server(query: &Query) -> ServerTsig {
    let keys = TsigKeys::new([TsigKey::new(
        &Name::parse("k.example").unwrap(),
        Algorithm::HmacSha256,
        b"0123456789abcdef",
    )]);
    let message = Message::parse(&query.octets).unwrap();
    let last = message.records().last().unwrap().unwrap();
    let view = TsigView::from_record(&last).unwrap();
    ServerTsig::verify(&keys, &query.octets, &view, NOW).unwrap()
}

/// Signs each message for which `signed` says so.
pub fn sign(query: &Query, messages: &mut [Vec<u8>], signed: impl Fn(usize) -> bool) {
    let mut tsig = server(query);
    for (i, m) in messages.iter_mut().enumerate() {
        match signed(i) {
            true => tsig.sign(m, 0, NOW),
            false => tsig.skip(m),
        }
    }
}

pub fn query(ask: &Ask<'_>, key: Option<&Arc<TsigKey>>) -> Query {
    Query::new(&apex(), ask, ID, key, NOW)
}

/// Feeds all messages; the connection ends after them.
pub fn read(mut reader: Reader, messages: &[Vec<u8>]) -> Result<Received, XfrError> {
    let mut done = false;
    for m in messages {
        done = reader.message(m, NOW)? == Step::Done;
    }
    let received = reader.finish()?;
    assert!(done || matches!(received, Received::NoDifferences(_)));
    Ok(received)
}

pub fn axfr_reader() -> Reader {
    Reader::axfr(query(&Ask::Axfr, None), ReadOptions::default())
}

pub fn ixfr_reader(base: &ZoneVersion) -> Reader {
    let ask = Ask::Ixfr {
        soa_ttl: base.soa_ttl(),
        soa: base.soa(),
    };
    Reader::ixfr(query(&ask, None), base.serial(), ReadOptions::default())
}

pub fn request<'a>(
    apex: &'a Name,
    checks: &'a crate::Checks,
    current: Option<&'a ZoneVersion>,
) -> XfrRequest<'a> {
    XfrRequest {
        apex,
        zone: ZoneId([1; 16]),
        version: VersionId(99),
        current,
        same_source: true,
        checks,
        zonemd: crate::zonemd::ZonemdCheck::Off,
        trigger: "test",
        source: "192.0.2.1:53",
        started: NOW,
    }
}

/// The version that a transfer makes.
pub fn applied(received: Received, current: Option<&ZoneVersion>) -> Result<Outcome, XfrError> {
    let (apex, checks) = (apex(), crate::Checks::default());
    let request = request(&apex, &checks, current);
    let clock = SimClock::new(NOW);
    match received {
        Received::Full(full) => Ok(crate::xfr::apply::apply(&request, full, &clock)),
        Received::Delta(delta) => crate::xfr::apply::apply_delta(&request, &delta, &clock),
        other => panic!("{other:?}"),
    }
}

pub fn loaded(outcome: Outcome) -> ZoneVersion {
    match outcome {
        Outcome::Loaded { version, .. } => *version,
        other => panic!("{other:#?}"),
    }
}
