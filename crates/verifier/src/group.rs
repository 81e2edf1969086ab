//! The records of one owner, decoded and in canonical order, and what the owner is.

use crate::finding::{Check, Finding, Sink, is_denial_or_signature};
use crate::ledger::Tally;
use crate::rdata::{self, t};
use crate::source::Rr;
use crate::wire;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Rec {
    pub(crate) rtype: u16,
    pub(crate) ttl: u32,
    at: u32,
    len: u32,
}

/// What an owner is, by names and types alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Apex,
    /// Authoritative data below the apex.
    Data,
    /// A zone cut.
    Cut,
    /// Below a zone cut or a DNAME.
    Occluded,
    /// Owner of NSEC3 records.
    Hashed,
}

/// All main or all NSEC3 records of one owner. Buffers are reused from owner to owner.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Lower case.
    pub(crate) name: Vec<u8>,
    pub(crate) recs: Vec<Rec>,
    octets: Vec<u8>,
}

impl Group {
    pub(crate) fn start(&mut self, owner: &[u8]) {
        self.name.clear();
        self.name.extend_from_slice(owner);
        self.name.make_ascii_lowercase();
        self.recs.clear();
        self.octets.clear();
    }

    pub(crate) fn rdata(&self, rec: &Rec) -> &[u8] {
        &self.octets[rec.at as usize..(rec.at + rec.len) as usize]
    }

    /// Adds a record; V01 for what cannot be one.
    pub(crate) fn push(&mut self, rr: &Rr<'_>, apex: &[u8], sink: &mut Sink) {
        let at = self.octets.len();
        if rdata::is_meta(rr.rtype) {
            sink.push(|| {
                Finding::at(
                    Check::V01,
                    rr.owner,
                    rr.rtype,
                    "a type that is never zone data",
                )
            });
        }
        if !rdata::push_canonical(rr.rtype, rr.rdata, &mut self.octets) {
            sink.push(|| Finding::at(Check::V01, rr.owner, rr.rtype, "RDATA does not decode"));
        }
        if rr.rtype == t::SOA && self.name != apex {
            sink.push(|| Finding::at(Check::V01, rr.owner, rr.rtype, "SOA below the apex"));
        }
        if rr.ttl > i32::MAX as u32 {
            // RFC 2181 §8.
            sink.push(|| Finding::at(Check::V01, rr.owner, rr.rtype, "TTL above 2147483647"));
        }
        let len = (self.octets.len() - at) as u32;
        self.recs.push(Rec {
            rtype: rr.rtype,
            ttl: rr.ttl,
            at: at as u32,
            len,
        });
    }

    /// Takes over the records of another group of the same owner.
    pub(crate) fn absorb(&mut self, other: &Group) {
        for rec in &other.recs {
            let at = self.octets.len() as u32;
            self.octets.extend_from_slice(other.rdata(rec));
            self.recs.push(Rec { at, ..*rec });
        }
    }

    /// Brings the records in canonical order (RFC 4034 §6.3).
    pub(crate) fn sort(&mut self) {
        let Group { recs, octets, .. } = self;
        let data = |r: &Rec| &octets[r.at as usize..(r.at + r.len) as usize];
        if !recs.is_sorted_by(|a, b| (a.rtype, data(a)) <= (b.rtype, data(b))) {
            recs.sort_by(|a, b| (a.rtype, data(a)).cmp(&(b.rtype, data(b))));
        }
    }

    /// Range of the records of `rtype`; the group is sorted.
    pub(crate) fn set(&self, rtype: u16) -> &[Rec] {
        let from = self.recs.partition_point(|r| r.rtype < rtype);
        let len = self.recs[from..].partition_point(|r| r.rtype == rtype);
        &self.recs[from..from + len]
    }

    pub(crate) fn has(&self, rtype: u16) -> bool {
        !self.set(rtype).is_empty()
    }

    /// RRSIGs over `covered`: sorted by RDATA they are sorted by the type they cover.
    pub(crate) fn sigs(&self, covered: u16) -> &[Rec] {
        let sigs = self.set(t::RRSIG);
        let type_of = |r: &Rec| wire::u16_at(self.rdata(r), 0);
        let from = sigs.partition_point(|r| type_of(r) < covered);
        let len = sigs[from..].partition_point(|r| type_of(r) == covered);
        &sigs[from..from + len]
    }

    /// The RRsets: each run of records of one type.
    pub(crate) fn sets(&self) -> impl Iterator<Item = &[Rec]> {
        self.recs.chunk_by(|a, b| a.rtype == b.rtype)
    }

    /// There is data of its own, beside signatures and NSEC.
    pub(crate) fn is_owner(&self) -> bool {
        self.recs.iter().any(|r| !is_denial_or_signature(r.rtype))
    }

    /// A zone cut, unless occluded (RFC 9499 §7); the apex is none.
    pub(crate) fn is_cut(&self, apex: &[u8]) -> bool {
        self.name != apex && self.has(t::NS)
    }

    /// Types a bitmap must list at this owner, ascending.
    pub(crate) fn bitmap_types(&self, place: Place, nsec: bool, out: &mut Vec<u16>) {
        out.clear();
        let mut signed = nsec;
        for set in self.sets() {
            let rtype = set[0].rtype;
            // RFC 4035 §2.3: at a cut only what the parent side is authoritative for, and NS.
            let listed = match place {
                Place::Cut => matches!(rtype, t::NS | t::DS),
                _ => !is_denial_or_signature(rtype),
            };
            if listed {
                out.push(rtype);
                signed |= place != Place::Cut || rtype == t::DS;
            }
        }
        if signed {
            insert(out, t::RRSIG);
        }
        if nsec {
            insert(out, t::NSEC);
        }
    }
}

fn insert(types: &mut Vec<u16>, rtype: u16) {
    let at = types.partition_point(|&x| x < rtype);
    types.insert(at, rtype);
}

/// Records that are content: not made by a signer (store.md's list of apex exceptions).
pub(crate) fn is_content(rtype: u16, at_apex: bool) -> bool {
    let signer_apex = matches!(
        rtype,
        t::SOA | t::DNSKEY | t::CDS | t::CDNSKEY | t::NSEC3PARAM | t::ZONEMD
    );
    !(is_denial_or_signature(rtype) || at_apex && signer_apex)
}

/// The sum of fingerprints: order-free, so it can be carried forward by differences.
pub(crate) struct Fingerprinter {
    seed: u64,
    buffer: Vec<u8>,
}

impl Fingerprinter {
    pub(crate) fn new(seed: u64) -> Self {
        Fingerprinter {
            seed,
            buffer: Vec::with_capacity(512),
        }
    }

    /// Of owner in lower case, type, class, TTL, RDATA as served.
    pub(crate) fn of(&mut self, rr: &Rr<'_>) -> u128 {
        let b = &mut self.buffer;
        b.clear();
        b.extend_from_slice(rr.owner);
        b.make_ascii_lowercase();
        b.extend_from_slice(&rr.rtype.to_be_bytes());
        b.extend_from_slice(&[0, 1]);
        b.extend_from_slice(&rr.ttl.to_be_bytes());
        b.extend_from_slice(rr.rdata);
        xxhash_rust::xxh3::xxh3_128_with_seed(b, self.seed)
    }

    /// Adds the record to the sums and the record count of `tally`.
    pub(crate) fn count(&mut self, rr: &Rr<'_>, at_apex: bool, tally: &mut Tally) {
        let fp = self.of(rr);
        tally.counts.records += 1;
        tally.full = tally.full.wrapping_add(fp);
        if is_content(rr.rtype, at_apex) {
            tally.content = tally.content.wrapping_add(fp);
        }
    }
}
