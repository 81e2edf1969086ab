//! Messages: transfers from our server to a secondary, and questions of the observer.

use std::net::IpAddr;
use std::sync::Arc;

use cascade_crypto::Dnskey;
use cascade_keys::SeenKey;
use cascade_loader::xfr::{Ask, Query, ReadOptions, Reader, Received, Step};
use cascade_publisher::{
    Candidate, Directory, Outcome, QueryContext, Role, Scratch, Settings, Transfer, Transport,
    ZoneSettings, answer,
};
use cascade_time::Timestamp;
use cascade_verifier::{Answers as _, Approval, Approved, Params, Rr, verify_records};
use cascade_wire::reader::Message;
use cascade_zone::key::to_name;
use cascade_zone::{Name, RecordBatch, Rtype, Serial, SoaFields, ZoneVersion};

use super::records::Records;
use super::zone::pool;
use super::{Published, STEPS};
use crate::pipe::ZONE;

/// How a copy came to be the one that it is.
pub(super) enum How {
    Whole,
    Differences,
    UpToDate,
}

/// What a secondary has that asks our server for `from`, and had `have`.
///
/// # Errors
/// A message that is not understood, or differences that do not fit what it had.
pub(super) fn transfer(
    from: &Published,
    have: Option<&Published>,
    now: Timestamp,
) -> Result<(Records, How), String> {
    let server = Server::new(from, now)?;
    let Some(have) = have else {
        return server.whole(now);
    };
    let before = have.records();
    let (soa_ttl, soa) = before.soa().ok_or("a copy without SOA")?;
    let ask = Ask::Ixfr { soa_ttl, soa };
    let query = Query::new(from.version().apex(), &ask, ID, None, now);
    let serial = Serial(have.serial());
    let reader = Reader::ixfr(query.clone(), serial, OPTIONS);
    match server.ask(&query, reader, now)? {
        Received::UpToDate(_) => Ok((before.clone(), How::UpToDate)),
        Received::NoDifferences(_) => server.whole(now),
        Received::Full(full) => Ok((whole(&full.batches, from.version().apex()), How::Whole)),
        Received::Delta(delta) => {
            let mut copy = before.clone();
            let mut wrong = None;
            delta.for_each(&mut |added, key, case, rtype, ttl, rdata| {
                let owner = to_name(key, case, from.version().apex());
                let id = (owner.as_wire().to_vec(), rtype, rdata.to_vec());
                let fits = match added {
                    true => copy.0.insert(id, ttl).is_none(),
                    false => copy.0.remove(&id) == Some(ttl),
                };
                if !fits {
                    wrong = Some(format!("{owner} {rtype}, added: {added}, does not fit"));
                }
            });
            match wrong {
                Some(wrong) => Err(wrong),
                None => Ok((copy, How::Differences)),
            }
        }
    }
}

const ID: u16 = 0x4711;

/// Whatever is sent is taken as it is.
const OPTIONS: ReadOptions = ReadOptions {
    strip: false,
    max_ttl: None,
    max_size: 0,
    max_records: 0,
    zonemd: cascade_loader::ZonemdCheck::Off,
};

/// The product's server with one version.
struct Server {
    directory: Directory,
    settings: Settings,
    apex: Name,
}

impl Server {
    fn new(from: &Published, now: Timestamp) -> Result<Server, String> {
        let directory = Directory::new();
        let settings = ZoneSettings {
            steps: STEPS,
            ..ZoneSettings::default()
        };
        let apex = from.version().apex();
        let entry = directory.add(ZONE, apex, settings);
        let entry = entry.map_err(|e| e.to_string())?;
        let approval = Approval {
            by: "policy".into(),
            at: now,
            comment: None,
        };
        let approved = Approved::new(from.verified.clone(), approval);
        entry.set_steps(from.steps.clone());
        directory
            .publish(ZONE, approved)
            .map_err(|e| e.to_string())?;
        Ok(Server {
            directory,
            settings: Settings::open(),
            apex: apex.clone(),
        })
    }

    fn whole(&self, now: Timestamp) -> Result<(Records, How), String> {
        let query = Query::new(&self.apex, &Ask::Axfr, ID, None, now);
        let reader = Reader::axfr(query.clone(), OPTIONS);
        match self.ask(&query, reader, now)? {
            Received::Full(full) => Ok((whole(&full.batches, &self.apex), How::Whole)),
            other => Err(format!("AXFR was answered by {other:?}")),
        }
    }

    fn ask(&self, query: &Query, mut reader: Reader, now: Timestamp) -> Result<Received, String> {
        let context = QueryContext {
            role: Role::Publication,
            peer: IpAddr::from([127, 0, 0, 1]),
            transport: Transport::Tcp,
            now,
            directory: &self.directory,
            settings: &self.settings,
            tls_name: None,
            limited: false,
        };
        let mut out = Vec::new();
        let outcome = answer(&query.octets, &context, &mut Scratch::default(), &mut out);
        let mut read = |message: &[u8]| reader.message(message, now).map_err(|e| e.to_string());
        match outcome {
            Outcome::Reply(_) => _ = read(&out)?,
            Outcome::Transfer(request) => {
                let mut transfer = Transfer::new(*request);
                let mut last = Step::More;
                while let Some(framed) = transfer.next_message(now) {
                    last = read(framed.get(2..).unwrap_or_default())?;
                }
                if !matches!(last, Step::Done) {
                    return Err("the transfer ends too early".into());
                }
            }
            other => return Err(format!("a request for a transfer was {other:?}")),
        }
        reader.finish().map_err(|e| e.to_string())
    }
}

fn whole(batches: &[RecordBatch], apex: &Name) -> Records {
    let mut out = Records::default();
    for batch in batches {
        batch.for_each(&mut |key, case, rtype, ttl, rdata| {
            let owner = to_name(key, case, apex).as_wire().to_vec();
            out.0.insert((owner, rtype, rdata.to_vec()), ttl);
        });
    }
    out
}

/// Everything in a copy, by a verification that knows nothing but the copy.
pub(super) fn verify(
    apex: &Name,
    copy: &Records,
    params: &Params<'_>,
    now: Timestamp,
) -> Result<(), String> {
    let records = copy.0.iter().map(|((owner, rtype, rdata), ttl)| Rr {
        owner,
        rtype: rtype.0,
        ttl: *ttl,
        rdata,
    });
    let pool = pool().ok_or("no thread")?;
    let judged = pool.install(|| verify_records(apex.as_wire(), records, params, now));
    match judged.map_err(|e| e.to_string())? {
        cascade_verifier::Outcome::Verified(_) => Ok(()),
        cascade_verifier::Outcome::Refused(r) => Err(format!("{:?}", r.report().findings)),
    }
}

/// What a server with a copy says to the observer.
pub(super) struct Answers {
    pub(super) keys: Vec<SeenKey>,
    pub(super) ttl: u32,
    /// Keys of the RRset whose signature over it verifies, by their place in `keys`.
    pub(super) signed_by: Vec<usize>,
    pub(super) serial: u32,
    /// No signature over the SOA verifies with a key of the RRset.
    pub(super) soa_fault: bool,
}

/// Asks a server that has this version and nothing else.
///
/// # Errors
/// It cannot be served, or an answer cannot be read.
pub(super) fn ask(version: &Arc<ZoneVersion>, now: Timestamp) -> Result<Answers, String> {
    let apex = version.apex();
    let server = Candidate::new(version, now).ok_or("it cannot be served")?;
    let get = |rtype: Rtype| -> Result<Vec<(Rtype, u32, Vec<u8>)>, String> {
        let mut out = Vec::new();
        if !server.ask(apex.as_wire(), rtype.0, &mut out) {
            return Err(format!("{rtype} is not answered"));
        }
        let message = Message::parse(&out).map_err(|e| e.to_string())?;
        let mut found = Vec::new();
        for r in message.records() {
            let r = r.map_err(|e| e.to_string())?;
            let mut rdata = Vec::new();
            r.push_rdata(&mut rdata).map_err(|e| e.to_string())?;
            if r.section == 1 {
                found.push((r.rtype, r.ttl, rdata));
            }
        }
        Ok(found)
    };
    let (dnskey, soa) = (get(Rtype::DNSKEY)?, get(Rtype::SOA)?);
    let keys: Vec<Dnskey> = dnskey
        .iter()
        .filter(|r| r.0 == Rtype::DNSKEY)
        .filter_map(|r| Dnskey::from_rdata(&r.2).ok())
        .collect();
    let signs = |set: &[(Rtype, u32, Vec<u8>)], rtype, k: &Dnskey| {
        let rrs = set.iter().filter(|r| r.0 == rtype).map(|r| &r.2[..]);
        let rrs: Vec<&[u8]> = rrs.collect();
        let mut sigs = set.iter().filter(|r| r.0 == Rtype::RRSIG);
        sigs.any(|sig| is_signed_by(apex, rtype, &rrs, &sig.2, k))
    };
    let seen = |k: &Dnskey| SeenKey {
        flags: k.flags(),
        algorithm: k.algorithm_number(),
        public_key: k.public_key().to_vec(),
    };
    let signed_by = keys.iter().enumerate();
    let signed_by = signed_by.filter(|(_, k)| signs(&dnskey, Rtype::DNSKEY, k));
    let fields = soa.iter().find(|r| r.0 == Rtype::SOA);
    let fields = fields.and_then(|r| SoaFields::parse(&r.2));
    Ok(Answers {
        ttl: dnskey.first().map_or(0, |r| r.1),
        signed_by: signed_by.map(|(i, _)| i).collect(),
        serial: fields.ok_or("no SOA in the answer")?.serial.0,
        soa_fault: !keys.is_empty() && !keys.iter().any(|k| signs(&soa, Rtype::SOA, k)),
        keys: keys.iter().map(seen).collect(),
    })
}

/// RFC 4034 §3.1.8.1, of a set at the apex without a wildcard.
fn is_signed_by(apex: &Name, rtype: Rtype, rrs: &[&[u8]], sig: &[u8], k: &Dnskey) -> bool {
    let (Some(head), Some(octets)) = (sig.get(..18), sig.get(18..)) else {
        return false;
    };
    let name = apex.as_wire();
    let tag = u16::from_be_bytes([head[16], head[17]]);
    if head[..2] != rtype.0.to_be_bytes()
        || tag != k.key_tag()
        || head[2] != k.algorithm_number()
        || !octets.starts_with(name)
    {
        return false;
    }
    let mut sorted: Vec<Vec<u8>> = Vec::new();
    for rr in rrs {
        let mut canonical = Vec::new();
        cascade_zone::canon::push_canonical(rtype, rr, &mut canonical);
        sorted.push(canonical);
    }
    sorted.sort();
    let mut message = head.to_vec();
    message.extend(name);
    for rr in &sorted {
        message.extend(name);
        message.extend(rtype.0.to_be_bytes());
        message.extend([0, 1]);
        message.extend(&head[4..8]);
        message.extend((rr.len() as u16).to_be_bytes());
        message.extend(rr);
    }
    let signature = octets.get(name.len()..).unwrap_or_default();
    cascade_crypto::verify(k, &message, signature)
}
