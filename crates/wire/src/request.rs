//! A request taken apart once: question, OPT, TSIG, and the serial it may carry.

use cascade_zone::Rtype;

use crate::edns::{Edns, option};
use crate::reader::{HEADER, Header, NameBuf, Records, WireError, flag, opcode, read_name};
use crate::tsig::TsigView;

/// A well-formed request; every part borrows from the message.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub msg: &'a [u8],
    pub header: Header,
    /// Uncompressed, as spelled; empty when there is no question.
    pub qname: &'a [u8],
    pub qtype: Rtype,
    pub qclass: u16,
    /// Where the question ends.
    pub question_end: usize,
    pub edns: Option<Edns<'a>>,
    pub tsig: Option<TsigView<'a>>,
    /// Serial of the first SOA in the answer section (NOTIFY, RFC 1996 §3.7).
    pub answer_serial: Option<u32>,
    /// Serial of the first SOA in the authority section (IXFR, RFC 1995 §3).
    pub authority_serial: Option<u32>,
}

/// Why a request gets no ordinary answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than a header, or a response: no answer at all.
    Ignore,
    /// QDCOUNT is not 1 (RFC 9619), and it is not a lone cookie question.
    QuestionCount,
    Undecodable,
    Trailing,
    SeveralOpt,
    BadOpt,
    /// TSIG not last or undecodable.
    BadTsig,
}

/// A malformed request with what is left to answer it.
#[derive(Debug, Clone, Copy)]
pub struct BadRequest {
    pub kind: Malformed,
    pub header: Header,
    /// End of the question when it could be read.
    pub question_end: Option<usize>,
    /// An OPT record of version 0 was seen, so the answer has one.
    pub has_opt: bool,
}

impl<'a> Request<'a> {
    /// A request of which nothing is known but its header.
    pub fn empty(msg: &'a [u8]) -> Request<'a> {
        Request {
            msg,
            header: Header::parse(msg).unwrap_or_default(),
            qname: &[],
            qtype: Rtype(0),
            qclass: 0,
            question_end: HEADER,
            edns: None,
            tsig: None,
            answer_serial: None,
            authority_serial: None,
        }
    }

    /// # Errors
    /// See [`Malformed`]; all but `Ignore` are answered FORMERR.
    pub fn parse(msg: &'a [u8]) -> Result<Request<'a>, BadRequest> {
        let header = Header::parse(msg).unwrap_or_default();
        let mut bad = BadRequest {
            kind: Malformed::Ignore,
            header,
            question_end: None,
            has_opt: false,
        };
        if msg.len() < HEADER || header.has(flag::QR) {
            return Err(bad);
        }
        let mut request = Request::empty(msg);
        let fail = |bad: &BadRequest, kind| BadRequest { kind, ..*bad };
        match header.counts[0] {
            0 => {}
            1 => {
                request
                    .read_question()
                    .map_err(|_| fail(&bad, Malformed::Undecodable))?;
                bad.question_end = Some(request.question_end);
            }
            _ => return Err(fail(&bad, Malformed::QuestionCount)),
        }
        request.read_records().map_err(|kind| BadRequest {
            kind,
            has_opt: request.edns.is_some(),
            ..bad
        })?;
        let cookie_only = header.opcode() == 0
            && header.counts[0] == 0
            && request
                .edns
                .is_some_and(|e| e.option(option::COOKIE).is_some());
        if header.counts[0] == 0 && !cookie_only {
            return Err(BadRequest {
                has_opt: request.edns.is_some(),
                ..fail(&bad, Malformed::QuestionCount)
            });
        }
        Ok(request)
    }

    /// True for a request without question that only asks for a cookie (RFC 7873 §5.4).
    pub fn has_question(&self) -> bool {
        self.header.counts[0] == 1
    }

    fn read_question(&mut self) -> Result<(), WireError> {
        // Nothing precedes the question but the header, so a pointer cannot be right here.
        let rest = self.msg.get(HEADER..).ok_or(WireError::Short)?;
        let len = cascade_zone::name::wire_len(rest).map_err(|_| WireError::BadName)?;
        let at = HEADER + len;
        let b = self.msg.get(at..at + 4).ok_or(WireError::Short)?;
        self.qname = &rest[..len];
        self.qtype = Rtype(u16::from_be_bytes([b[0], b[1]]));
        self.qclass = u16::from_be_bytes([b[2], b[3]]);
        self.question_end = at + 4;
        Ok(())
    }

    fn read_records(&mut self) -> Result<(), Malformed> {
        let mut records = Records::start(self.msg, self.question_end, &self.header);
        for record in records.by_ref() {
            let record = record.map_err(|_| Malformed::Undecodable)?;
            if self.tsig.is_some() {
                return Err(Malformed::BadTsig);
            }
            match record.rtype {
                Rtype::OPT if self.edns.is_some() => return Err(Malformed::SeveralOpt),
                Rtype::OPT if record.section != 3 => return Err(Malformed::BadOpt),
                Rtype::OPT => {
                    self.edns = Some(Edns::from_record(&record).map_err(|_| Malformed::BadOpt)?);
                }
                Rtype::TSIG if record.section != 3 => return Err(Malformed::BadTsig),
                Rtype::TSIG => {
                    self.tsig =
                        Some(TsigView::from_record(&record).map_err(|_| Malformed::BadTsig)?);
                }
                // In an UPDATE it is what is to be changed, and may have no RDATA (RFC 2136 §2.5).
                Rtype::SOA if record.section < 3 && self.header.opcode() != opcode::UPDATE => {
                    let serial = soa_serial(self.msg, record.raw_rdata(), record.end)
                        .map_err(|_| Malformed::Undecodable)?;
                    let place = if record.section == 1 {
                        &mut self.answer_serial
                    } else {
                        &mut self.authority_serial
                    };
                    place.get_or_insert(serial);
                }
                _ => {}
            }
        }
        if records.position() != self.msg.len() {
            return Err(Malformed::Trailing);
        }
        Ok(())
    }
}

/// The serial of a SOA whose RDATA ends at `end` of `msg`.
fn soa_serial(msg: &[u8], rdata: &[u8], end: usize) -> Result<u32, WireError> {
    let mut name = NameBuf::new();
    let at = read_name(msg, end - rdata.len(), &mut name)?;
    let at = read_name(msg, at, &mut name)?;
    if at + 20 != end {
        return Err(WireError::BadRdata);
    }
    let b = msg.get(at..at + 4).ok_or(WireError::Short)?;
    Ok(u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn query(extra: &[u8], counts: [u16; 4]) -> Vec<u8> {
        let mut msg = vec![0x12, 0x34, 0x01, 0x00];
        counts
            .iter()
            .for_each(|c| msg.extend_from_slice(&c.to_be_bytes()));
        if counts[0] > 0 {
            msg.extend_from_slice(b"\x07eXample\x00\x00\x06\x00\x01");
        }
        msg.extend_from_slice(extra);
        msg
    }

    const OPT: &[u8] = b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00";

    #[test]
    fn parts_are_found() {
        let msg = query(OPT, [1, 0, 0, 1]);
        let r = Request::parse(&msg).unwrap();
        assert_eq!(
            (r.qname, r.qtype, r.qclass),
            (&b"\x07eXample\x00"[..], Rtype::SOA, 1)
        );
        let e = r.edns.unwrap();
        assert!(e.dnssec_ok && e.udp_size == 1232 && e.version == 0);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let kind = |m: &[u8]| Request::parse(m).map(|_| ()).map_err(|b| b.kind);
        assert_eq!(kind(&[0; 11]), Err(Malformed::Ignore));
        let mut response = query(b"", [1, 0, 0, 0]);
        response[2] |= 0x80;
        assert_eq!(kind(&response), Err(Malformed::Ignore));
        assert_eq!(
            kind(&query(b"", [0, 0, 0, 0])),
            Err(Malformed::QuestionCount)
        );
        assert_eq!(
            kind(&query(b"\x01a\x00\x00\x01\x00\x01", [2, 0, 0, 0])),
            Err(Malformed::QuestionCount)
        );
        assert_eq!(kind(&query(b"x", [1, 0, 0, 0])), Err(Malformed::Trailing));
        assert_eq!(kind(&query(b"", [1, 0, 0, 1])), Err(Malformed::Undecodable));
        assert_eq!(
            kind(&query(&[OPT, OPT].concat(), [1, 0, 0, 2])),
            Err(Malformed::SeveralOpt)
        );
        assert_eq!(
            kind(&query(
                b"\x01a\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00",
                [1, 0, 0, 1]
            )),
            Err(Malformed::BadOpt)
        );
        assert_eq!(
            kind(&query(
                b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x01\x00",
                [1, 0, 0, 1]
            )),
            Err(Malformed::BadOpt)
        );
        // Version 1: the form of its options is unknown.
        assert_eq!(
            kind(&query(
                b"\x00\x00\x29\x04\xd0\x00\x01\x00\x00\x00\x01\x00",
                [1, 0, 0, 1]
            )),
            Ok(())
        );
        let tsig = b"\x00\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x11\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
        assert_eq!(
            kind(&query(&[&tsig[..], OPT].concat(), [1, 0, 0, 2])),
            Err(Malformed::BadTsig)
        );
        assert_eq!(
            kind(&query(
                b"\x00\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x00",
                [1, 0, 0, 1]
            )),
            Err(Malformed::BadTsig)
        );
    }

    #[test]
    fn a_lone_cookie_is_a_request() {
        let opt = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x0801234567";
        assert!(
            !Request::parse(&query(opt, [0, 0, 0, 1]))
                .unwrap()
                .has_question()
        );
    }

    #[test]
    fn serial_of_an_increment() {
        let soa = b"\xc0\x0c\x00\x06\x00\x01\x00\x00\x00\x00\x00\x16\x00\x00\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
        let m = query(soa, [1, 0, 1, 0]);
        let r = Request::parse(&m).unwrap();
        assert_eq!((r.authority_serial, r.answer_serial), (Some(7), None));
    }

    proptest! {
        #[test]
        fn mutated_requests_never_panic(
            at in prop::collection::vec((0usize..60, any::<u8>()), 0..6), cut in 0usize..60, ids in any::<[u8; 4]>()
        ) {
            let mut msg = query(OPT, [1, 0, 0, 1]);
            msg.extend_from_slice(&ids);
            for (i, b) in at {
                let n = msg.len();
                msg[i % n] = b;
            }
            let n = msg.len();
            msg.truncate(n.saturating_sub(cut));
            let _ = Request::parse(&msg);
        }

        #[test]
        fn random_octets_never_panic(mut msg in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Request::parse(&msg);
            if msg.len() > 12 {
                msg[2] &= 0x7f;
                msg[4..12].copy_from_slice(&[0, 1, 0, 1, 0, 1, 0, 2]);
                let _ = Request::parse(&msg);
            }
        }
    }
}
