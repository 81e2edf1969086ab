//! Questions and replies: what was said, and whether an RRSIG in it verifies.

use cascade_crypto::Dnskey;
use cascade_time::Timestamp;
use cascade_wire::edns::{option, push_option};
use cascade_wire::{Composer, Edns, Message, Section, flag};
use cascade_zone::{Name, Rtype, canon};

/// EDNS with the DO bit (RFC 3225), and the size that avoids fragments (RFC 9715).
const DO: u32 = 0x8000;
const UDP_SIZE: u16 = 1232;

/// A record of a reply: owner in lower case, names in the RDATA uncompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rec {
    pub section: u8,
    pub owner: Vec<u8>,
    pub rtype: Rtype,
    pub ttl: u32,
    pub rdata: Vec<u8>,
}

/// A reply that fits its question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub aa: bool,
    pub tc: bool,
    /// With the upper bits of EDNS.
    pub rcode: u16,
    pub cookie: Option<Vec<u8>>,
    /// The node's name for itself (RFC 5001), as people can read it.
    pub nsid: Option<String>,
    pub records: Vec<Rec>,
}

pub const ANSWER: u8 = 1;
pub const AUTHORITY: u8 = 2;
pub const NOERROR: u16 = 0;
pub const NXDOMAIN: u16 = 3;

/// Composes a question; `rd`: of a resolver.
pub fn question(name: &Name, rtype: Rtype, id: u16, rd: bool, cookie: Option<[u8; 8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let flags = if rd { flag::RD } else { 0 };
    let mut c = Composer::new(&mut out, 512, id, flags);
    c.question(name.as_wire(), rtype, 1);
    // Larger than any message with one question: always fits.
    let _ = c.record_with(Section::Additional, &[0], Rtype::OPT, UDP_SIZE, DO, |o| {
        push_option(option::NSID, &[], o);
        if let Some(cookie) = cookie {
            push_option(option::COOKIE, &cookie, o);
        }
    });
    c.finish();
    out
}

impl Reply {
    /// Reads a reply to this question; says what is wrong with it.
    pub fn parse(octets: &[u8], name: &Name, rtype: Rtype, id: u16) -> Result<Reply, String> {
        let bad = |e: cascade_wire::WireError| format!("malformed answer: {e}");
        let m = Message::parse(octets).map_err(bad)?;
        if !m.header.has(flag::QR) || m.header.id != id || m.header.opcode() != 0 {
            return Err("not an answer to the question".into());
        }
        match m.question().map_err(bad)? {
            Some((n, t, 1)) if n == *name && t == rtype => {}
            _ => return Err("answers another question".into()),
        }
        let mut reply = Reply {
            aa: m.header.has(flag::AA),
            tc: m.header.has(flag::TC),
            rcode: m.header.rcode(),
            cookie: None,
            nsid: None,
            records: Vec::new(),
        };
        for record in m.records() {
            let record = record.map_err(bad)?;
            if record.rtype == Rtype::OPT {
                let edns = Edns::from_record(&record).map_err(bad)?;
                reply.rcode |= u16::from(edns.ext_rcode) << 4;
                reply.cookie = edns.option(option::COOKIE).map(<[u8]>::to_vec);
                reply.nsid = edns
                    .option(option::NSID)
                    .filter(|id| !id.is_empty())
                    .map(nsid_text);
                continue;
            }
            if record.class != 1 {
                continue;
            }
            let mut rdata = Vec::new();
            record.push_rdata(&mut rdata).map_err(bad)?;
            reply.records.push(Rec {
                section: record.section,
                owner: record
                    .owner()
                    .map_err(bad)?
                    .to_lowercase()
                    .as_wire()
                    .to_vec(),
                rtype: record.rtype,
                // RFC 2181 §8: the upper bit set means zero.
                ttl: if record.ttl > i32::MAX as u32 {
                    0
                } else {
                    record.ttl
                },
                rdata,
            });
        }
        Ok(reply)
    }

    /// The RRset of this owner and type in a section.
    pub fn set(&self, section: u8, owner: &[u8], rtype: Rtype) -> Vec<&Rec> {
        let fits = |r: &&Rec| r.section == section && r.rtype == rtype && r.owner == owner;
        self.records.iter().filter(fits).collect()
    }

    /// RRSIGs over that RRset.
    pub fn sigs(&self, section: u8, owner: &[u8], rtype: Rtype) -> Vec<Rrsig<'_>> {
        self.set(section, owner, Rtype::RRSIG)
            .into_iter()
            .filter_map(|r| Rrsig::parse(&r.rdata))
            .filter(|s| s.covered == rtype)
            .collect()
    }

    /// Owner and EXPIRE of the SOA in the authority section.
    pub fn soa(&self) -> Option<(&[u8], u32)> {
        let soa = self
            .records
            .iter()
            .find(|r| r.section == AUTHORITY && r.rtype == Rtype::SOA)?;
        let fields = cascade_zone::SoaFields::parse(&soa.rdata)?;
        Some((&soa.owner, fields.expire))
    }
}

/// RFC 5001 §2.3: any octets. Names stay names, all else is hexadecimal; long ones are cut.
fn nsid_text(id: &[u8]) -> String {
    const MOST: usize = 64;
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(b);
    let id = &id[..id.len().min(MOST)];
    if id.iter().all(plain) {
        return String::from_utf8_lossy(id).into_owned();
    }
    data_encoding::HEXLOWER.encode(id)
}

/// An RRSIG in its parts (RFC 4034 §3.1).
#[derive(Debug, Clone, Copy)]
pub struct Rrsig<'a> {
    pub covered: Rtype,
    pub algorithm: u8,
    pub labels: u8,
    pub original_ttl: u32,
    pub expiration: u32,
    pub inception: u32,
    pub tag: u16,
    pub signer: &'a [u8],
    head: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Rrsig<'a> {
    pub fn parse(rdata: &'a [u8]) -> Option<Rrsig<'a>> {
        let (head, rest) = rdata.split_at_checked(18)?;
        let len = Name::from_prefix(rest).ok()?.1;
        let (signer, signature) = rest.split_at_checked(len)?;
        let n = |i: usize| u32::from_be_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
        Some(Rrsig {
            covered: Rtype(u16::from_be_bytes([head[0], head[1]])),
            algorithm: head[2],
            labels: head[3],
            original_ttl: n(4),
            expiration: n(8),
            inception: n(12),
            tag: u16::from_be_bytes([head[16], head[17]]),
            signer,
            head,
            signature,
        })
    }

    /// Valid at `now`, and made by this key over this RRset. Owners under a wildcard do not occur
    /// here.
    pub fn verifies(&self, key: &Dnskey, set: &[&Rec], now: Timestamp) -> bool {
        let Some(first) = set.first() else {
            return false;
        };
        let (from, to) = (
            Timestamp::from_wire(self.inception, now),
            Timestamp::from_wire(self.expiration, now),
        );
        let labels = cascade_zone::key::rrsig_labels(&first.owner);
        if now < from
            || now > to
            || key.algorithm_number() != self.algorithm
            || labels != self.labels
        {
            return false;
        }
        // RFC 4034 §3.1.8.1: RDATA without the signature, then each record in canonical form.
        let mut octets = self.head.to_vec();
        octets.extend(self.signer.to_ascii_lowercase());
        let mut rdatas: Vec<Vec<u8>> = set.iter().map(|r| canonical(r)).collect();
        rdatas.sort();
        rdatas.dedup();
        for rdata in rdatas {
            octets.extend(&first.owner);
            octets.extend(first.rtype.0.to_be_bytes());
            octets.extend(1u16.to_be_bytes());
            octets.extend(self.original_ttl.to_be_bytes());
            octets.extend((rdata.len() as u16).to_be_bytes());
            octets.extend(rdata);
        }
        cascade_crypto::verify(key, &octets, self.signature)
    }
}

/// RFC 4034 §6.2: names in the RDATA of the types listed there are in lower case.
fn canonical(record: &Rec) -> Vec<u8> {
    let mut out = record.rdata.clone();
    canon::for_each_name(record.rtype, &record.rdata, |range| {
        if let Some(name) = out.get_mut(range) {
            // Lengths of labels are below 64, so only letters change.
            name.make_ascii_lowercase();
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_must_fit_its_question() {
        let name = Name::parse("Example.net").unwrap();
        let q = question(&name, Rtype::SOA, 7, false, Some([1; 8]));
        assert!(
            Reply::parse(&q, &name, Rtype::SOA, 7).is_err(),
            "a question"
        );
        let mut reply = q.clone();
        reply[2] |= 0x84;
        let parsed = Reply::parse(&reply, &name, Rtype::SOA, 7).unwrap();
        assert!(parsed.aa && !parsed.tc && parsed.rcode == 0);
        assert_eq!(parsed.cookie.as_deref(), Some(&[1u8; 8][..]));
        assert!(Reply::parse(&reply, &name, Rtype::SOA, 8).is_err());
        assert!(Reply::parse(&reply, &name, Rtype::NS, 7).is_err());
        for cut in 0..reply.len() {
            let _ = Reply::parse(&reply[..cut], &name, Rtype::SOA, 7);
        }
    }

    #[test]
    fn names_of_nodes_are_readable() {
        assert_eq!(nsid_text(b"fra1.ns-2"), "fra1.ns-2");
        assert_eq!(nsid_text(b"a b"), "612062");
        assert_eq!(nsid_text(&[0xff, 0]), "ff00");
        assert_eq!(nsid_text(&[b'x'; 900]).len(), 64);
    }

    #[test]
    fn no_octets_make_a_signature_panic() {
        for len in 0..40 {
            let _ = Rrsig::parse(&vec![0xc0; len]);
            let _ = Rrsig::parse(&vec![1; len]);
        }
    }
}
