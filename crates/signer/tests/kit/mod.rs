//! What the tests share: small zones from text, keys, plans, and records as plain data.
#![allow(clippy::unwrap_used, dead_code)]

pub mod changes;
pub mod verify;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cascade_crypto::dnskey::Role;
use cascade_crypto::{Class, DigestType, KeySpec, SigningKey, SoftwareKey};
use cascade_signer::*;
use cascade_time::{SimClock, Timestamp};
use cascade_zone::{
    Builder, KeyId, Name, RecordBatch, Rtype, Serial, VersionId, ZoneId, ZoneVersion, key, name,
};
use data_encoding::{BASE32HEX_NOPAD, HEXLOWER};

pub const ZONE: ZoneId = ZoneId([5; 16]);

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn relative(text: &str, apex: &Name) -> Name {
    match text {
        "@" => apex.clone(),
        t if t.ends_with('.') => name(t),
        t => name(&format!("{t}.{}", apex.to_string().trim_start_matches('.'))),
    }
}

/// RDATA from presentation form, for the few types the tests use.
pub fn rdata(rtype: Rtype, words: &[&str], apex: &Name) -> Vec<u8> {
    let n = |i: usize| relative(words[i], apex).as_wire().to_vec();
    let num = |i: usize| words[i].parse::<u32>().unwrap();
    match rtype {
        Rtype::A => words[0]
            .parse::<std::net::Ipv4Addr>()
            .unwrap()
            .octets()
            .to_vec(),
        Rtype::AAAA => words[0]
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets()
            .to_vec(),
        Rtype::NS | Rtype::CNAME | Rtype::DNAME | Rtype::PTR => n(0),
        Rtype::MX => [(num(0) as u16).to_be_bytes().to_vec(), n(1)].concat(),
        Rtype::SOA => {
            let mut out = [n(0), n(1)].concat();
            (2..7).for_each(|i| out.extend(num(i).to_be_bytes()));
            out
        }
        Rtype::TXT | Rtype::HINFO => {
            let strings = words.iter().map(|w| w.trim_matches('"'));
            strings
                .flat_map(|w| [&[w.len() as u8], w.as_bytes()].concat())
                .collect()
        }
        Rtype::DS | Rtype::CDS => {
            let mut out = (num(0) as u16).to_be_bytes().to_vec();
            out.extend([num(1) as u8, num(2) as u8]);
            out.extend(HEXLOWER.decode(words[3].to_lowercase().as_bytes()).unwrap());
            out
        }
        t => panic!("no RDATA parser for {t}"),
    }
}

/// An unsigned version from lines of `owner [ttl] TYPE rdata`.
pub fn zone(apex: &str, text: &str) -> ZoneVersion {
    let apex = name(apex);
    let mut records = Vec::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let owner = relative(words[0], &apex);
        let (ttl, rest) = match words[1].parse() {
            Ok(ttl) => (ttl, &words[2..]),
            Err(_) => (3600, &words[1..]),
        };
        let rtype: Rtype = rest[0].parse().unwrap();
        records.push((owner, rtype, ttl, rdata(rtype, &rest[1..], &apex)));
    }
    build(&apex, &records)
}

pub fn build(apex: &Name, records: &[(Name, Rtype, u32, Vec<u8>)]) -> ZoneVersion {
    let mut batch = RecordBatch::new();
    for (owner, rtype, ttl, rdata) in records {
        let k = key::key_of(apex, owner.as_wire()).unwrap();
        batch.owner(&k, key::case_of(apex, owner.as_wire()).as_deref());
        batch.push(*rtype, *ttl, rdata, 0).unwrap();
    }
    Builder::new(ZONE, VersionId(1), apex, now())
        .batches(vec![batch])
        .build()
        .unwrap()
}

pub fn now() -> Timestamp {
    Timestamp::from_secs(1_764_000_000)
}

/// Keys are made once per test program.
pub fn software(spec: &str, role: Role) -> Arc<dyn SigningKey> {
    static KEYS: OnceLock<parking_lot::Mutex<BTreeMap<String, Arc<dyn SigningKey>>>> =
        OnceLock::new();
    let mut keys = KEYS.get_or_init(Default::default).lock();
    let id = keys.len() as u8 + 1;
    let make = || {
        let spec: KeySpec = spec.parse().unwrap();
        Arc::new(SoftwareKey::generate(KeyId([id; 16]), role.flags(), spec).unwrap())
            as Arc<dyn SigningKey>
    };
    keys.entry(format!("{spec} {role}"))
        .or_insert_with(make)
        .clone()
}

/// A second ZSK of algorithm 15.
pub fn other_zsk() -> Arc<dyn SigningKey> {
    static KEY: OnceLock<Arc<dyn SigningKey>> = OnceLock::new();
    let make = || {
        let key = SoftwareKey::generate(KeyId([77; 16]), 256, "15".parse().unwrap());
        Arc::new(key.unwrap()) as Arc<dyn SigningKey>
    };
    KEY.get_or_init(make).clone()
}

pub fn apex_key(key: Arc<dyn SigningKey>, role: Role) -> ApexKey {
    ApexKey {
        dnskey: key.dnskey().clone(),
        role,
        signer: Some(key),
        wanted_at_parent: false,
    }
}

pub fn keys(specs: &[(&str, Role)]) -> Vec<ApexKey> {
    specs
        .iter()
        .map(|(spec, role)| apex_key(software(spec, *role), *role))
        .collect()
}

pub fn options() -> ApexOptions {
    ApexOptions {
        ttl: 3600,
        cds: vec![DigestType::Sha256],
        cdnskey: true,
        lifetime: 14 * 86_400,
        inception_offset: 86_400,
    }
}

pub fn plan_at(
    base: &ZoneVersion,
    keys: &[ApexKey],
    denial: DenialPlan,
    at: Timestamp,
) -> SigningPlan {
    SigningPlan {
        version: VersionId(2),
        serial: Serial(4711),
        apex: make_apex_set(base.apex(), keys, &options(), at).unwrap(),
        denial,
        zonemd: None,
        times: Times::default(),
        clock: ClockGuard {
            built_at: at,
            newest_inception: None,
        },
        requested_at: at,
        reasons: vec!["content".into()],
    }
}

pub fn plan(base: &ZoneVersion, keys: &[ApexKey], denial: DenialPlan) -> SigningPlan {
    plan_at(base, keys, denial, now())
}

pub fn nsec3(opt_out: bool) -> DenialPlan {
    DenialPlan::Nsec3 {
        iterations: 0,
        salt: vec![],
        opt_out,
    }
}

pub fn run_with(
    base: &ZoneVersion,
    plan: &SigningPlan,
    threads: usize,
    at: Timestamp,
    progress: &Progress,
) -> Result<Signed, SignError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    let clock = SimClock::new(at);
    let token_wait = Duration::from_secs(10);
    sign(
        base,
        plan,
        &Job {
            pool: &pool,
            clock: &clock,
            progress,
            class: Class::Normal,
            token_wait,
        },
        at,
    )
}

pub fn run(base: &ZoneVersion, plan: &SigningPlan) -> Signed {
    let signed = run_with(base, plan, 2, now(), &Progress::new()).unwrap();
    assert_eq!(
        signed.version.content_fingerprint(),
        base.content_fingerprint()
    );
    signed
}

#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Rec {
    pub owner: Vec<u8>,
    pub rtype: Rtype,
    pub ttl: u32,
    pub rdata: Vec<u8>,
}

impl Rec {
    pub fn owner_text(&self) -> String {
        text_of(&self.owner)
    }
}

pub fn text_of(wire: &[u8]) -> String {
    let mut out = String::new();
    name::write_name(wire, &mut out).unwrap();
    out
}

pub fn records(version: &ZoneVersion) -> Vec<Rec> {
    let mut out = Vec::new();
    version.for_each_record(&mut |r| {
        out.push(Rec {
            owner: r.owner.to_vec(),
            rtype: r.rtype,
            ttl: r.ttl,
            rdata: r.rdata.to_vec(),
        })
    });
    assert_eq!(out.len() as u64, version.sums().records);
    out
}

/// RFC 3597 §5 form of all records: every tool reads it, and it needs no knowledge of types.
pub fn to_text(version: &ZoneVersion) -> String {
    let mut out = String::new();
    for r in records(version) {
        let (owner, hex) = (r.owner_text(), HEXLOWER.encode(&r.rdata));
        writeln!(
            out,
            "{owner} {} IN {} \\# {} {hex}",
            r.ttl,
            r.rtype,
            r.rdata.len()
        )
        .unwrap();
    }
    out
}

/// The types of a bitmap in wire form.
pub fn bitmap(mut wire: &[u8]) -> Vec<Rtype> {
    let mut out = Vec::new();
    while let [window, len, rest @ ..] = wire {
        let (bits, rest) = rest.split_at(*len as usize);
        assert!(
            (1..=32).contains(len) && bits.last() != Some(&0),
            "RFC 4034 §4.1.2"
        );
        for i in 0..bits.len() * 8 {
            if bits[i / 8] >> (7 - i % 8) & 1 == 1 {
                out.push(Rtype((*window as u16) << 8 | i as u16));
            }
        }
        wire = rest;
    }
    out
}

fn types_text(wire: &[u8]) -> String {
    bitmap(wire)
        .iter()
        .map(|t| t.to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

/// `owner next types` of every NSEC, in order.
pub fn nsec_lines(version: &ZoneVersion) -> Vec<String> {
    let all = records(version);
    let line = |r: &Rec| {
        let len = name::wire_len(&r.rdata).unwrap();
        format!(
            "{} {} {}",
            r.owner_text(),
            text_of(&r.rdata[..len]),
            types_text(&r.rdata[len..])
        )
    };
    all.iter()
        .filter(|r| r.rtype == Rtype::NSEC)
        .map(line)
        .collect()
}

/// `hash flags iterations salt next types` of every NSEC3, in order.
pub fn nsec3_lines(version: &ZoneVersion) -> Vec<String> {
    let all = records(version);
    let line = |r: &Rec| {
        let d = &r.rdata;
        let owner = r.owner_text();
        let salt_len = d[4] as usize;
        let next = &d[6 + salt_len..26 + salt_len];
        format!(
            "{} {} {} {} {} {}",
            owner.split('.').next().unwrap(),
            d[1],
            u16::from_be_bytes([d[2], d[3]]),
            HEXLOWER.encode(&d[5..5 + salt_len]),
            BASE32HEX_NOPAD.encode(next).to_lowercase(),
            types_text(&d[26 + salt_len..])
        )
    };
    let mut lines: Vec<String> = all
        .iter()
        .filter(|r| r.rtype == Rtype::NSEC3)
        .map(line)
        .collect();
    lines
        .iter_mut()
        .for_each(|l| l.truncate(l.trim_end().len()));
    lines
}

/// `owner type tag` of every RRSIG, sorted.
pub fn rrsig_lines(version: &ZoneVersion) -> Vec<String> {
    let mut lines: Vec<String> = records(version)
        .iter()
        .filter(|r| r.rtype == Rtype::RRSIG)
        .map(|r| {
            let covered = Rtype(u16::from_be_bytes([r.rdata[0], r.rdata[1]]));
            let tag = u16::from_be_bytes([r.rdata[16], r.rdata[17]]);
            format!("{} {covered} {tag}", r.owner_text())
        })
        .collect();
    lines.sort();
    lines
}
