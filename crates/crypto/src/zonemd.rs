//! The digest of a zone (RFC 8976): how records go into it, and the RDATA that states it.
//!
//! Whoever makes a digest brings the owners in canonical order; [`OwnerRecords`] does the rest.

use std::ops::Range;

use aws_lc_rs::digest::{Context, SHA384, SHA512};
use cascade_zone::{Rtype, Serial, canon};

/// The one scheme there is, SIMPLE (RFC 8976 §5.2).
pub const SCHEME_SIMPLE: u8 = 1;

/// A digest algorithm of ZONEMD (RFC 8976 §5.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum ZonemdHash {
    Sha384,
    Sha512,
}

impl ZonemdHash {
    pub const fn number(self) -> u8 {
        match self {
            ZonemdHash::Sha384 => 1,
            ZonemdHash::Sha512 => 2,
        }
    }

    pub const fn from_number(n: u8) -> Option<ZonemdHash> {
        match n {
            1 => Some(ZonemdHash::Sha384),
            2 => Some(ZonemdHash::Sha512),
            _ => None,
        }
    }

    /// Octets of the digest.
    pub const fn octets(self) -> usize {
        match self {
            ZonemdHash::Sha384 => 48,
            ZonemdHash::Sha512 => 64,
        }
    }

    /// RDATA with this digest (RFC 8976 §2.2).
    pub fn rdata(self, serial: Serial, digest: &[u8]) -> Vec<u8> {
        let mut out = serial.0.to_be_bytes().to_vec();
        out.extend_from_slice(&[SCHEME_SIMPLE, self.number()]);
        out.extend_from_slice(digest);
        out
    }

    /// RDATA that holds the place of a digest while it is not known yet (RFC 8976 §3.2).
    pub fn placeholder(self, serial: Serial) -> Vec<u8> {
        self.rdata(serial, &[0; 64][..self.octets()])
    }
}

/// A digest under way.
pub struct ZoneDigest(Context);

impl ZoneDigest {
    pub fn new(hash: ZonemdHash) -> ZoneDigest {
        ZoneDigest(Context::new(match hash {
            ZonemdHash::Sha384 => &SHA384,
            ZonemdHash::Sha512 => &SHA512,
        }))
    }

    /// What [`OwnerRecords::write`] gave, owner after owner.
    pub fn update(&mut self, records: &[u8]) {
        self.0.update(records);
    }

    pub fn finish(self) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }
}

impl std::fmt::Debug for ZoneDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ZoneDigest")
    }
}

/// The records of one owner, brought in the order of RFC 8976 §3.3.1: by type, then by canonical
/// RDATA, each once.
#[derive(Debug, Default)]
pub struct OwnerRecords {
    octets: Vec<u8>,
    list: Vec<(Rtype, u32, Range<usize>)>,
}

impl OwnerRecords {
    /// A record with RDATA as it was received or stored.
    pub fn add(&mut self, rtype: Rtype, ttl: u32, rdata: &[u8]) {
        let from = self.octets.len();
        canon::push_canonical(rtype, rdata, &mut self.octets);
        self.list.push((rtype, ttl, from..self.octets.len()));
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Appends them in the form that is digested (RFC 8976 §3.3.2, RFC 4034 §6.2) and is empty
    /// again. `owner`: in lower case. `apex`: the ZONEMD RRset and its RRSIGs are left out.
    pub fn write(&mut self, owner: &[u8], apex: bool, out: &mut Vec<u8>) {
        let octets = &self.octets;
        let get = |r: &Range<usize>| octets.get(r.clone()).unwrap_or_default();
        self.list
            .sort_by(|a, b| (a.0, get(&a.2)).cmp(&(b.0, get(&b.2))));
        self.list
            .dedup_by(|a, b| a.0 == b.0 && get(&a.2) == get(&b.2));
        for (rtype, ttl, rdata) in &self.list {
            let rdata = get(rdata);
            if !(apex && is_zonemd(*rtype, rdata)) {
                push_rr(owner, *rtype, *ttl, rdata, out);
            }
        }
        self.octets.clear();
        self.list.clear();
    }
}

/// A ZONEMD record, or a signature over such (RFC 8976 §3.3.1).
fn is_zonemd(rtype: Rtype, rdata: &[u8]) -> bool {
    let covered = rdata
        .first_chunk::<2>()
        .map(|c| Rtype(u16::from_be_bytes(*c)));
    rtype == Rtype::ZONEMD || (rtype == Rtype::RRSIG && covered == Some(Rtype::ZONEMD))
}

fn push_rr(owner: &[u8], rtype: Rtype, ttl: u32, rdata: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(owner);
    out.extend_from_slice(&rtype.0.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    out.extend_from_slice(&ttl.to_be_bytes());
    // RDATA has at most 65,535 octets wherever it came from.
    out.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
    out.extend_from_slice(rdata);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        let hash = ZonemdHash::from_number(2).unwrap();
        let rdata = hash.placeholder(Serial(0x0102_0304));
        assert_eq!(rdata.len(), 4 + 2 + 64);
        assert_eq!(rdata[..7], [1, 2, 3, 4, 1, 2, 0]);
        assert_eq!(ZonemdHash::from_number(240), None);
        let mut records = OwnerRecords::default();
        records.add(Rtype::ZONEMD, 5, &rdata);
        records.add(Rtype::NS, 5, b"\x01B\x00");
        records.add(Rtype::A, 5, &[192, 0, 2, 1]);
        records.add(Rtype::A, 5, &[192, 0, 2, 1]);
        let mut out = Vec::new();
        records.write(b"\x01a\x00", true, &mut out);
        let head = |t: u8, n: u8| vec![1, b'a', 0, 0, t, 0, 1, 0, 0, 0, 5, 0, n];
        let a = [head(1, 4), vec![192, 0, 2, 1]].concat();
        let ns = [head(2, 3), vec![1, b'b', 0]].concat();
        assert_eq!(out, [a, ns].concat());
        assert!(records.is_empty());
        // Below the apex it is a record like any other (RFC 8976 §2).
        records.add(Rtype::ZONEMD, 5, &rdata);
        out.clear();
        records.write(b"\x01a\x00", false, &mut out);
        assert_eq!(out.len(), 13 + 70);
        // RFC 6234's digest of "abc" with SHA-384, and in two pieces.
        let mut digest = ZoneDigest::new(ZonemdHash::Sha384);
        digest.update(b"a");
        digest.update(b"bc");
        assert_eq!(digest.finish()[..4], [0xcb, 0x00, 0x75, 0x3f]);
    }
}
