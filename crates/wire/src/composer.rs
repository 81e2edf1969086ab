//! Composing a message into a reused buffer, with name compression (RFC 1035 §4.1.4).

use cascade_zone::{Rtype, canon};

use crate::reader::{CLASS_IN, HEADER};

/// The record does not fit into the message any more; nothing of it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Answer = 1,
    Authority = 2,
    Additional = 3,
}

/// Names remembered as targets of pointers. More are written, but no longer pointed to.
const MAX_TARGETS: usize = 120;

/// Appends one message to a buffer; the message starts where the buffer ended.
pub struct Composer<'b> {
    out: &'b mut Vec<u8>,
    start: usize,
    limit: usize,
    counts: [u16; 4],
    /// (hash of the lower-case suffix, its offset in the message).
    targets: [(u16, u16); MAX_TARGETS],
    target_count: usize,
}

/// A point to which a message can be cut back.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    len: usize,
    counts: [u16; 4],
    target_count: usize,
}

impl<'b> Composer<'b> {
    /// `limit`: largest size of the message, at most 65535.
    pub fn new(out: &'b mut Vec<u8>, limit: usize, id: u16, flags: u16) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        out[start..start + 2].copy_from_slice(&id.to_be_bytes());
        out[start + 2..start + 4].copy_from_slice(&flags.to_be_bytes());
        Composer {
            out,
            start,
            limit: limit.min(0xffff),
            counts: [0; 4],
            targets: [(0, 0); MAX_TARGETS],
            target_count: 0,
        }
    }

    /// Octets of the message so far.
    pub fn len(&self) -> usize {
        self.out.len() - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.counts == [0; 4]
    }

    pub fn count(&self, section: Section) -> u16 {
        self.counts[section as usize]
    }

    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(0xffff);
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Changes header bits: first clears, then sets.
    pub fn flags(&mut self, clear: u16, set: u16) {
        let at = self.start + 2;
        let now = u16::from_be_bytes([self.out[at], self.out[at + 1]]);
        self.out[at..at + 2].copy_from_slice(&((now & !clear) | set).to_be_bytes());
    }

    pub fn question(&mut self, qname: &[u8], qtype: Rtype, qclass: u16) {
        self.push_name(qname);
        self.out.extend_from_slice(&qtype.0.to_be_bytes());
        self.out.extend_from_slice(&qclass.to_be_bytes());
        self.counts[0] += 1;
    }

    /// One record of class IN with its RDATA uncompressed in `rdata`; names in the RDATA of the
    /// types of RFC 1035 are compressed (RFC 3597 §4).
    pub fn record(
        &mut self,
        section: Section,
        owner: &[u8],
        rtype: Rtype,
        ttl: u32,
        rdata: &[u8],
    ) -> Result<(), Full> {
        let mark = self.mark();
        let rdata_at = self.open(owner, rtype, CLASS_IN, ttl);
        if may_compress(rtype) {
            let mut done = 0;
            canon::for_each_name(rtype, rdata, |r| {
                self.out.extend_from_slice(&rdata[done..r.start]);
                done = r.end;
                self.push_name(&rdata[r]);
            });
            self.out.extend_from_slice(&rdata[done..]);
        } else {
            self.out.extend_from_slice(rdata);
        }
        self.close(section, rdata_at, mark)
    }

    /// One record whose RDATA `f` appends.
    pub fn record_with(
        &mut self,
        section: Section,
        owner: &[u8],
        rtype: Rtype,
        class: u16,
        ttl: u32,
        f: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Full> {
        let mark = self.mark();
        let rdata_at = self.open(owner, rtype, class, ttl);
        f(self.out);
        self.close(section, rdata_at, mark)
    }

    /// Octets of the message so far, header included.
    pub fn octets(&self) -> &[u8] {
        &self.out[self.start..]
    }

    pub fn mark(&self) -> Mark {
        Mark {
            len: self.len(),
            counts: self.counts,
            target_count: self.target_count,
        }
    }

    /// Cuts the message back to `mark`.
    pub fn rollback(&mut self, mark: Mark) {
        self.out.truncate(self.start + mark.len);
        self.counts = mark.counts;
        self.target_count = mark.target_count;
    }

    /// Writes the counts and ends the message; gives the buffer back and the message's start in it.
    pub fn finish(self) -> (&'b mut Vec<u8>, usize) {
        for (i, c) in self.counts.iter().enumerate() {
            let at = self.start + 4 + 2 * i;
            self.out[at..at + 2].copy_from_slice(&c.to_be_bytes());
        }
        (self.out, self.start)
    }

    fn open(&mut self, owner: &[u8], rtype: Rtype, class: u16, ttl: u32) -> usize {
        self.push_name(owner);
        let mut fixed = [0u8; 10];
        fixed[..2].copy_from_slice(&rtype.0.to_be_bytes());
        fixed[2..4].copy_from_slice(&class.to_be_bytes());
        fixed[4..8].copy_from_slice(&ttl.to_be_bytes());
        self.out.extend_from_slice(&fixed);
        self.out.len()
    }

    fn close(&mut self, section: Section, rdata_at: usize, mark: Mark) -> Result<(), Full> {
        let len = self.out.len() - rdata_at;
        if self.len() > self.limit || len > 0xffff {
            self.rollback(mark);
            return Err(Full);
        }
        self.out[rdata_at - 2..rdata_at].copy_from_slice(&(len as u16).to_be_bytes());
        self.counts[section as usize] += 1;
        Ok(())
    }

    /// Appends an uncompressed name, as a pointer where a suffix of it stands already. Letter case
    /// is ignored in looking for the suffix (RFC 4343 §4.1).
    fn push_name(&mut self, wire: &[u8]) {
        let mut starts = [0u8; 128];
        let mut hashes = [0u16; 128];
        let n = label_starts(wire, &mut starts);
        let mut hash = 0u32;
        for i in (0..n).rev() {
            let s = starts[i] as usize;
            for &b in &wire[s..s + 1 + wire[s] as usize] {
                hash =
                    (hash.rotate_left(5) ^ b.to_ascii_lowercase() as u32).wrapping_mul(0x9e37_79b1);
            }
            hashes[i] = (hash >> 16) as u16;
        }
        for i in 0..n {
            let s = starts[i] as usize;
            if let Some(offset) = self.find(hashes[i], &wire[s..]) {
                self.out.extend_from_slice(&(0xc000 | offset).to_be_bytes());
                return;
            }
            let here = self.len();
            // A pointer has 14 bits.
            if here < 0x4000 && self.target_count < MAX_TARGETS {
                self.targets[self.target_count] = (hashes[i], here as u16);
                self.target_count += 1;
            }
            self.out
                .extend_from_slice(&wire[s..s + 1 + wire[s] as usize]);
        }
        self.out.push(0);
    }

    fn find(&self, hash: u16, suffix: &[u8]) -> Option<u16> {
        let msg = &self.out[self.start..];
        self.targets[..self.target_count]
            .iter()
            .find(|(h, at)| *h == hash && name_at_equals(msg, *at as usize, suffix))
            .map(|(_, at)| *at)
    }
}

/// True for the types whose RDATA names may be compressed: those of RFC 1035 §3.3 only
/// (RFC 3597 §4).
pub fn may_compress(rtype: Rtype) -> bool {
    matches!(
        rtype,
        Rtype::NS
            | Rtype::MD
            | Rtype::MF
            | Rtype::CNAME
            | Rtype::SOA
            | Rtype::MB
            | Rtype::MG
            | Rtype::MR
            | Rtype::PTR
            | Rtype::MINFO
            | Rtype::MX
    )
}

fn label_starts(wire: &[u8], starts: &mut [u8; 128]) -> usize {
    let (mut n, mut at) = (0, 0);
    while let Some(&len) = wire.get(at) {
        // The caller's names are well-formed; a malformed one is cut instead of overrunning.
        if len == 0 || len > 63 || n == 127 || at + 1 + len as usize >= wire.len().min(255) {
            break;
        }
        starts[n] = at as u8;
        n += 1;
        at += 1 + len as usize;
    }
    n
}

/// Compares the name at `at`, written by this composer, with an uncompressed one.
fn name_at_equals(msg: &[u8], mut at: usize, mut name: &[u8]) -> bool {
    loop {
        let (Some(&n), Some(&m)) = (msg.get(at), name.first()) else {
            return false;
        };
        if n >= 0xc0 {
            let Some(&low) = msg.get(at + 1) else {
                return false;
            };
            let target = ((n & 0x3f) as usize) << 8 | low as usize;
            if target >= at {
                return false;
            }
            at = target;
            continue;
        }
        if n != m {
            return false;
        }
        if n == 0 {
            return true;
        }
        let len = 1 + n as usize;
        match (msg.get(at..at + len), name.get(..len)) {
            (Some(a), Some(b)) if a.eq_ignore_ascii_case(b) => {}
            _ => return false,
        }
        at += len;
        name = &name[len..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Message;
    use cascade_zone::Name;
    use proptest::prelude::*;

    fn wire(t: &str) -> Vec<u8> {
        Name::parse(t).unwrap().as_wire().to_vec()
    }

    #[test]
    fn question_is_pointed_to() {
        let mut out = vec![0xaa, 0xbb];
        let mut c = Composer::new(&mut out, 512, 7, 0x8400);
        c.question(&wire("Www.example.nl"), Rtype::MX, 1);
        let rdata = [&[0, 5][..], &wire("mail.EXAMPLE.nl")].concat();
        c.record(
            Section::Answer,
            &wire("www.example.NL"),
            Rtype::MX,
            60,
            &rdata,
        )
        .unwrap();
        assert_eq!(c.finish().1, 2);
        // Owner C00C; exchange `mail` and a pointer to `example` at 16.
        assert!(out.ends_with(
            b"\xc0\x0c\x00\x0f\x00\x01\x00\x00\x00\x3c\x00\x09\x00\x05\x04mail\xc0\x10"
        ));
        let m = Message::parse(&out[2..]).unwrap();
        assert_eq!(m.header.counts, [1, 1, 0, 0]);
        let mut back = Vec::new();
        m.records()
            .next()
            .unwrap()
            .unwrap()
            .push_rdata(&mut back)
            .unwrap();
        assert!(back.eq_ignore_ascii_case(&rdata));
    }

    #[test]
    fn names_of_later_types_stay_whole() {
        let mut out = Vec::new();
        let mut c = Composer::new(&mut out, 512, 7, 0);
        c.question(&wire("a.b"), Rtype::DNAME, 1);
        c.record(Section::Answer, &wire("a.b"), Rtype::DNAME, 0, &wire("a.b"))
            .unwrap();
        c.finish();
        assert!(out.ends_with(b"\x00\x05\x01a\x01b\x00"));
    }

    #[test]
    fn what_does_not_fit_leaves_no_trace() {
        let mut out = Vec::new();
        let mut c = Composer::new(&mut out, 40, 7, 0);
        c.question(&wire("example"), Rtype::A, 1);
        let before = c.octets().to_vec();
        assert_eq!(
            c.record(Section::Answer, &wire("other"), Rtype::A, 0, &[1, 2, 3, 4]),
            Err(Full)
        );
        assert_eq!(c.octets(), before);
        c.set_limit(512);
        c.record(Section::Answer, &wire("other"), Rtype::A, 0, &[1, 2, 3, 4])
            .unwrap();
        assert_eq!(c.count(Section::Answer), 1);
    }

    proptest! {
        #[test]
        fn composed_is_read_back(
            names in prop::collection::vec(prop::collection::vec("[abA]{1,2}", 0..6), 1..200),
            types in prop::collection::vec(prop::sample::select(&[Rtype::NS, Rtype::SRV, Rtype::SOA, Rtype::TXT][..]), 1..9),
        ) {
            let names: Vec<Vec<u8>> = names.iter().map(|l| {
                let t = l.join(".");
                wire(if t.is_empty() { "." } else { &t })
            }).collect();
            let mut out = Vec::new();
            let mut c = Composer::new(&mut out, 65535, 1, 0);
            let mut want = Vec::new();
            for (i, n) in names.iter().enumerate() {
                let t = types[i % types.len()];
                let other = &names[(i * 7) % names.len()];
                let rdata = match t {
                    Rtype::NS => other.clone(),
                    Rtype::SRV => [&[0; 6][..], other].concat(),
                    Rtype::SOA => [&other[..], n, &[0; 20]].concat(),
                    _ => b"\x03abc".to_vec(),
                };
                c.record(Section::Answer, n, t, i as u32, &rdata).unwrap();
                want.push((n.clone(), t, rdata));
            }
            c.finish();
            let m = Message::parse(&out).unwrap();
            for (r, (owner, t, rdata)) in m.records().zip(&want) {
                let r = r.unwrap();
                let mut back = Vec::new();
                r.push_rdata(&mut back).unwrap();
                prop_assert!(r.owner().unwrap().as_wire().eq_ignore_ascii_case(owner));
                prop_assert!(back.eq_ignore_ascii_case(rdata));
                prop_assert_eq!(r.rtype, *t);
            }
        }
    }
}
