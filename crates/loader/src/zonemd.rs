//! ZONEMD of the input: whether what was received is what the source digested (RFC 8976 §4).
//!
//! Records are kept exactly as they came, before anything is stripped, lowered or normalised; only
//! for zones whose policy asks for the check, and only for as long as it takes.

use std::collections::BTreeSet;
use std::ops::Range;

use cascade_crypto::ZonemdHash;
use cascade_crypto::zonemd::{OwnerRecords, SCHEME_SIMPLE, ZoneDigest};
use cascade_zone::{Name, Rtype, SoaFields, key};
use rayon::prelude::*;

use crate::sink::{Full, RecordSink};

/// What is asked of the source's digest (`loader.zonemd`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ZonemdCheck {
    #[default]
    Off,
    /// One that is there must be right.
    IfPresent,
    /// There must be one that is right.
    Required,
}

/// What became of the check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is no ZONEMD record at the apex.
    Absent,
    /// One digest is right.
    Verified(ZonemdHash),
    /// None has a scheme and a hash that are known here.
    Unknown,
    /// What is wrong.
    Wrong(String),
}

impl Verdict {
    /// Why the load is refused, if it is.
    pub fn refusal(&self, check: ZonemdCheck) -> Option<String> {
        let required = check == ZonemdCheck::Required;
        match self {
            _ if check == ZonemdCheck::Off => None,
            Verdict::Absent if required => {
                Some("the zone has no ZONEMD record, and loader.zonemd is \"required\"".into())
            }
            Verdict::Unknown if required => Some(
                "no ZONEMD record has scheme 1 and hash 1 or 2, and loader.zonemd is \"required\""
                    .into(),
            ),
            Verdict::Wrong(why) => Some(why.clone()),
            Verdict::Absent | Verdict::Unknown | Verdict::Verified(_) => None,
        }
    }

    /// For the report. A digest that no validated signature covers shows that the data arrived
    /// whole, not who sent it.
    pub fn text(&self) -> &'static str {
        match self {
            Verdict::Absent => "absent",
            Verdict::Verified(ZonemdHash::Sha384) => "verified (SHA-384; integrity only)",
            Verdict::Verified(ZonemdHash::Sha512) => "verified (SHA-512; integrity only)",
            Verdict::Unknown => "skipped",
            Verdict::Wrong(_) => "failed",
        }
    }
}

/// Records as received, in the order received.
#[derive(Debug, Default)]
pub struct AsReceived {
    octets: Vec<u8>,
    owner: Range<usize>,
    records: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    key: Range<usize>,
    rdata: Range<usize>,
    rtype: Rtype,
    ttl: u32,
}

impl AsReceived {
    pub fn push(&mut self, rtype: Rtype, ttl: u32, rdata: &[u8]) {
        let from = self.octets.len();
        self.octets.extend_from_slice(rdata);
        self.records.push(Kept {
            key: self.owner.clone(),
            rdata: from..self.octets.len(),
            rtype,
            ttl,
        });
    }

    fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        let record = |r: &Kept| (self.get(&r.key), r.rtype, r.ttl, self.get(&r.rdata));
        self.records.iter().map(record)
    }

    fn get(&self, range: &Range<usize>) -> &[u8] {
        self.octets.get(range.clone()).unwrap_or_default()
    }
}

impl RecordSink for AsReceived {
    fn owner(&mut self, key: &[u8], _: Option<&[u8]>) {
        // Owners are compared and digested in lower case (RFC 8976 §3.3.2).
        if !self.records.is_empty() && self.get(&self.owner) == key {
            return;
        }
        let from = self.octets.len();
        self.octets.extend_from_slice(key);
        self.owner = from..self.octets.len();
    }

    fn record(&mut self, rtype: Rtype, ttl: u32, rdata: &[u8], _: u32) -> Result<(), Full> {
        self.push(rtype, ttl, rdata);
        Ok(())
    }
}

/// One record of one of the lists.
type Record<'a> = (&'a [u8], Rtype, u32, &'a [u8]);

/// Judges all records of a zone, on the current thread pool.
pub fn check(apex: &Name, lists: &[AsReceived]) -> Verdict {
    let all = by_owner(lists);
    let at_apex = |rtype: Rtype| {
        let mut found: BTreeSet<&[u8]> = BTreeSet::new();
        let records = all.iter().filter(|r| r.0.is_empty() && r.1 == rtype);
        found.extend(records.map(|r| r.3));
        found
    };
    let stated = at_apex(Rtype::ZONEMD);
    if stated.is_empty() {
        return Verdict::Absent;
    }
    let serial = at_apex(Rtype::SOA)
        .first()
        .and_then(|soa| SoaFields::parse(soa))
        .map(|soa| soa.serial);
    let mut kinds: BTreeSet<(u8, u8)> = BTreeSet::new();
    let mut usable: Vec<(ZonemdHash, &[u8])> = Vec::new();
    let mut why: Option<String> = None;
    for rdata in &stated {
        let Some((head, digest)) = rdata.split_first_chunk::<6>() else {
            why = Some("a ZONEMD record is too short".into());
            continue;
        };
        let [s0, s1, s2, s3, scheme, hash] = *head;
        // RFC 8976 §4 step 4: neither of two is to be trusted.
        if !kinds.insert((scheme, hash)) {
            return Verdict::Wrong(format!(
                "two ZONEMD records have scheme {scheme} and hash {hash} (RFC 8976 §2)"
            ));
        }
        let of = u32::from_be_bytes([s0, s1, s2, s3]);
        let known = ZonemdHash::from_number(hash).filter(|_| scheme == SCHEME_SIMPLE);
        match known {
            None => {}
            Some(_) if serial.is_none_or(|s| s.0 != of) => {
                let soa = serial.map_or("none".to_string(), |s| s.to_string());
                why = Some(format!(
                    "the ZONEMD record is for serial {of}, and the SOA has {soa}"
                ));
            }
            Some(hash) if digest.len() != hash.octets() => {
                why = Some(format!(
                    "the ZONEMD digest has {} octets, and its hash gives {}",
                    digest.len(),
                    hash.octets()
                ));
            }
            Some(hash) => usable.push((hash, digest)),
        }
    }
    if usable.is_empty() {
        return why.map_or(Verdict::Unknown, Verdict::Wrong);
    }
    // One that is right is enough (RFC 8976 §4 step 5).
    match usable.iter().find(|(h, d)| digest(apex, &all, *h) == *d) {
        Some((hash, _)) => Verdict::Verified(*hash),
        None => Verdict::Wrong(
            "the digest of the records received is not that of the ZONEMD record: the zone is not \
             complete, or was changed after its digest was made"
                .into(),
        ),
    }
}

fn by_owner(lists: &[AsReceived]) -> Vec<Record<'_>> {
    let mut all: Vec<Record<'_>> = lists.iter().flat_map(AsReceived::iter).collect();
    all.par_sort_by(|a, b| a.0.cmp(b.0));
    all
}

/// For tests that make zones with digests.
#[cfg(test)]
pub(crate) fn digest_of(apex: &Name, lists: &[AsReceived], hash: ZonemdHash) -> Vec<u8> {
    digest(apex, &by_owner(lists), hash)
}

/// `records`: by owner.
fn digest(apex: &Name, records: &[Record<'_>], hash: ZonemdHash) -> Vec<u8> {
    let lower = apex.to_lowercase();
    let mut digest = ZoneDigest::new(hash);
    let mut owner = OwnerRecords::default();
    let (mut name, mut out) = (Vec::new(), Vec::new());
    for group in records.chunk_by(|a, b| a.0 == b.0) {
        let Some((key, ..)) = group.first() else {
            continue;
        };
        for (_, rtype, ttl, rdata) in group {
            owner.add(*rtype, *ttl, rdata);
        }
        name.clear();
        key::push_wire(key, None, lower.as_wire(), &mut name);
        out.clear();
        owner.write(&name, key.is_empty(), &mut out);
        digest.update(&out);
    }
    digest.finish()
}
