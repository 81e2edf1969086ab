//! Reading messages: header, names with compression, records (RFC 1035 §4).

use cascade_zone::canon::{self, Part};
use cascade_zone::{Name, Rtype};
use thiserror::Error;

/// Octets of a message header (RFC 1035 §4.1.1).
pub const HEADER: usize = 12;
pub const CLASS_IN: u16 = 1;
pub const CLASS_CH: u16 = 3;
pub const CLASS_ANY: u16 = 255;

/// Header flag bits (RFC 1035 §4.1.1, RFC 4035 §3).
pub mod flag {
    pub const QR: u16 = 0x8000;
    pub const OPCODE: u16 = 0x7800;
    pub const AA: u16 = 0x0400;
    pub const TC: u16 = 0x0200;
    pub const RD: u16 = 0x0100;
    pub const RA: u16 = 0x0080;
    pub const AD: u16 = 0x0020;
    pub const CD: u16 = 0x0010;
    pub const RCODE: u16 = 0x000f;
}

/// Opcodes (IANA "DNS OpCodes").
pub mod opcode {
    pub const QUERY: u8 = 0;
    pub const NOTIFY: u8 = 4;
    pub const UPDATE: u8 = 5;
}

/// Response codes (IANA "DNS RCODEs"); above 15 they need an OPT record.
pub mod rcode {
    pub const NOERROR: u16 = 0;
    pub const FORMERR: u16 = 1;
    pub const SERVFAIL: u16 = 2;
    pub const NXDOMAIN: u16 = 3;
    pub const NOTIMP: u16 = 4;
    pub const REFUSED: u16 = 5;
    pub const YXDOMAIN: u16 = 6;
    pub const NOTAUTH: u16 = 9;
    pub const BADVERS: u16 = 16;
    pub const BADSIG: u16 = 16;
    pub const BADKEY: u16 = 17;
    pub const BADTIME: u16 = 18;
    pub const BADTRUNC: u16 = 22;
    pub const BADCOOKIE: u16 = 23;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WireError {
    #[error("the message ends inside a header, name or record")]
    Short,
    #[error("a name in the message is malformed (RFC 1035 §4.1.4)")]
    BadName,
    #[error("the RDATA of a record is malformed")]
    BadRdata,
    #[error("octets follow the last record")]
    Trailing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    pub id: u16,
    pub flags: u16,
    /// Questions, answers, authority records, additional records.
    pub counts: [u16; 4],
}

impl Header {
    pub fn parse(msg: &[u8]) -> Option<Header> {
        let word = |i: usize| Some(u16::from_be_bytes([*msg.get(i)?, *msg.get(i + 1)?]));
        Some(Header {
            id: word(0)?,
            flags: word(2)?,
            counts: [word(4)?, word(6)?, word(8)?, word(10)?],
        })
    }

    pub fn has(&self, bits: u16) -> bool {
        self.flags & bits == bits
    }

    pub fn opcode(&self) -> u8 {
        ((self.flags & flag::OPCODE) >> 11) as u8
    }

    /// The lower four bits of the response code.
    pub fn rcode(&self) -> u16 {
        self.flags & flag::RCODE
    }
}

/// A name in uncompressed wire form on the stack.
#[derive(Clone, Copy)]
pub struct NameBuf {
    bytes: [u8; 255],
    len: u8,
}

impl NameBuf {
    pub fn new() -> Self {
        NameBuf {
            bytes: [0; 255],
            len: 1,
        }
    }

    pub fn as_wire(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    pub fn to_name(&self) -> Name {
        Name::from_wire(self.as_wire()).unwrap_or_else(|_| Name::root())
    }

    /// Takes an uncompressed name over; `false` when it is none.
    pub fn set(&mut self, wire: &[u8]) -> bool {
        if cascade_zone::name::wire_len(wire) != Ok(wire.len()) {
            return false;
        }
        self.bytes[..wire.len()].copy_from_slice(wire);
        self.len = wire.len() as u8;
        true
    }
}

impl Default for NameBuf {
    fn default() -> Self {
        NameBuf::new()
    }
}

impl std::fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        cascade_zone::name::write_name(self.as_wire(), f)
    }
}

/// Reads the possibly compressed name at `at` into `out`; gives the position after it.
///
/// A pointer must lead to before the part that holds it, so the walk ends.
pub fn read_name(msg: &[u8], at: usize, out: &mut NameBuf) -> Result<usize, WireError> {
    let (mut pos, mut part_start) = (at, at);
    let mut after = None;
    let mut len = 0usize;
    loop {
        let n = *msg.get(pos).ok_or(WireError::Short)?;
        match n {
            0 => {
                if len >= 255 {
                    return Err(WireError::BadName);
                }
                out.bytes[len] = 0;
                out.len = (len + 1) as u8;
                return Ok(after.unwrap_or(pos + 1));
            }
            1..=63 => {
                let n = n as usize;
                let label = msg.get(pos..pos + 1 + n).ok_or(WireError::Short)?;
                if len + 1 + n >= 255 {
                    return Err(WireError::BadName);
                }
                out.bytes[len..len + 1 + n].copy_from_slice(label);
                len += 1 + n;
                pos += 1 + n;
            }
            0xc0.. => {
                let low = *msg.get(pos + 1).ok_or(WireError::Short)?;
                let target = ((n & 0x3f) as usize) << 8 | low as usize;
                if target >= part_start {
                    return Err(WireError::BadName);
                }
                after.get_or_insert(pos + 2);
                pos = target;
                part_start = target;
            }
            _ => return Err(WireError::BadName),
        }
    }
}

/// The position after the name at `at`; what a pointer leads to is not looked at.
pub fn skip_name(msg: &[u8], at: usize) -> Result<usize, WireError> {
    let mut pos = at;
    loop {
        let n = *msg.get(pos).ok_or(WireError::Short)?;
        match n {
            0 => return Ok(pos + 1),
            1..=63 => pos += 1 + n as usize,
            0xc0.. => {
                return if pos + 2 <= msg.len() {
                    Ok(pos + 2)
                } else {
                    Err(WireError::Short)
                };
            }
            _ => return Err(WireError::BadName),
        }
        if pos - at > 254 {
            return Err(WireError::BadName);
        }
    }
}

/// One record in its message.
#[derive(Clone, Copy)]
pub struct RecordView<'a> {
    msg: &'a [u8],
    pub at: usize,
    pub section: u8,
    pub rtype: Rtype,
    pub class: u16,
    pub ttl: u32,
    rdata_at: usize,
    pub end: usize,
}

impl<'a> RecordView<'a> {
    pub fn owner(&self) -> Result<Name, WireError> {
        let mut buf = NameBuf::new();
        read_name(self.msg, self.at, &mut buf)?;
        Ok(buf.to_name())
    }

    pub fn read_owner(&self, out: &mut NameBuf) -> Result<(), WireError> {
        read_name(self.msg, self.at, out).map(|_| ())
    }

    /// RDATA as sent; names in it may be compressed.
    pub fn raw_rdata(&self) -> &'a [u8] {
        &self.msg[self.rdata_at..self.end]
    }

    /// Appends the RDATA with its names uncompressed (RFC 3597 §4).
    ///
    /// # Errors
    /// The RDATA does not have the parts of its type, or a name leaves it; `out` may then hold a
    /// part of it.
    pub fn push_rdata(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let mut at = self.rdata_at;
        for part in canon::parts(self.rtype) {
            match part {
                Part::Name => at = self.push_name(at, out)?,
                Part::Fixed(n) => at = self.copy(at, *n as usize, out)?,
                Part::String => {
                    let n = *self.msg.get(at).ok_or(WireError::BadRdata)? as usize;
                    at = self.copy(at, 1 + n, out)?;
                }
                Part::A6 => {
                    // Never compressed by anyone since RFC 6563; taken as it is.
                    break;
                }
            }
        }
        self.copy(
            at,
            self.end.checked_sub(at).ok_or(WireError::BadRdata)?,
            out,
        )?;
        Ok(())
    }

    fn push_name(&self, at: usize, out: &mut Vec<u8>) -> Result<usize, WireError> {
        let mut buf = NameBuf::new();
        let next = read_name(self.msg, at, &mut buf)?;
        if next > self.end {
            return Err(WireError::BadRdata);
        }
        out.extend_from_slice(buf.as_wire());
        Ok(next)
    }

    fn copy(&self, at: usize, n: usize, out: &mut Vec<u8>) -> Result<usize, WireError> {
        if at + n > self.end {
            return Err(WireError::BadRdata);
        }
        out.extend_from_slice(self.msg.get(at..at + n).ok_or(WireError::BadRdata)?);
        Ok(at + n)
    }
}

/// A message whose header and questions were read.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    pub msg: &'a [u8],
    pub header: Header,
    records_at: usize,
}

impl<'a> Message<'a> {
    pub fn parse(msg: &'a [u8]) -> Result<Self, WireError> {
        let header = Header::parse(msg).ok_or(WireError::Short)?;
        let mut at = HEADER;
        for _ in 0..header.counts[0] {
            at = skip_name(msg, at)? + 4;
            if at > msg.len() {
                return Err(WireError::Short);
            }
        }
        Ok(Message {
            msg,
            header,
            records_at: at,
        })
    }

    /// The only question: name, type, class. `None` unless there is exactly one.
    pub fn question(&self) -> Result<Option<(Name, Rtype, u16)>, WireError> {
        if self.header.counts[0] != 1 {
            return Ok(None);
        }
        let mut buf = NameBuf::new();
        let at = read_name(self.msg, HEADER, &mut buf)?;
        let b = self.msg.get(at..at + 4).ok_or(WireError::Short)?;
        let qtype = Rtype(u16::from_be_bytes([b[0], b[1]]));
        Ok(Some((
            buf.to_name(),
            qtype,
            u16::from_be_bytes([b[2], b[3]]),
        )))
    }

    pub fn records(&self) -> Records<'a> {
        let h = &self.header.counts;
        Records {
            msg: self.msg,
            at: self.records_at,
            left: [h[1], h[2], h[3]],
            failed: false,
        }
    }
}

/// Walks the records of the three sections; ends after the first error.
#[derive(Clone)]
pub struct Records<'a> {
    msg: &'a [u8],
    at: usize,
    left: [u16; 3],
    failed: bool,
}

impl<'a> Records<'a> {
    pub(crate) fn start(msg: &'a [u8], at: usize, header: &Header) -> Self {
        let h = &header.counts;
        Records {
            msg,
            at,
            left: [h[1], h[2], h[3]],
            failed: false,
        }
    }

    /// Position of the next record.
    pub fn position(&self) -> usize {
        self.at
    }

    fn read(&mut self, section: usize) -> Result<RecordView<'a>, WireError> {
        let at = self.at;
        let fixed = skip_name(self.msg, at)?;
        let b = self.msg.get(fixed..fixed + 10).ok_or(WireError::Short)?;
        let rdata_at = fixed + 10;
        let end = rdata_at + u16::from_be_bytes([b[8], b[9]]) as usize;
        if end > self.msg.len() {
            return Err(WireError::Short);
        }
        self.at = end;
        Ok(RecordView {
            msg: self.msg,
            at,
            section: section as u8 + 1,
            rtype: Rtype(u16::from_be_bytes([b[0], b[1]])),
            class: u16::from_be_bytes([b[2], b[3]]),
            ttl: u32::from_be_bytes([b[4], b[5], b[6], b[7]]),
            rdata_at,
            end,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, WireError>;
    fn next(&mut self) -> Option<Self::Item> {
        let section = self.left.iter().position(|&n| n > 0)?;
        if self.failed {
            return None;
        }
        self.left[section] -= 1;
        let record = self.read(section);
        self.failed = record.is_err();
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pointers_lead_backwards_only() {
        let mut buf = NameBuf::new();
        let msg = b"\x01a\x00\x01b\xc0\x00\xc0\x07";
        assert_eq!(read_name(msg, 3, &mut buf), Ok(7));
        assert_eq!(buf.as_wire(), b"\x01b\x01a\x00");
        // At 7 a pointer to itself.
        assert_eq!(read_name(msg, 7, &mut buf), Err(WireError::BadName));
        assert_eq!(
            read_name(b"\x01a\xc0\x00", 0, &mut buf),
            Err(WireError::BadName)
        );
        assert_eq!(read_name(b"\x40a", 0, &mut buf), Err(WireError::BadName));
        assert_eq!(read_name(b"\x02a", 0, &mut buf), Err(WireError::Short));
    }

    #[test]
    fn names_have_at_most_255_octets() {
        let mut buf = NameBuf::new();
        let mut ok = b"\x01a".repeat(127);
        ok.push(0);
        assert_eq!(read_name(&ok, 0, &mut buf), Ok(255));
        let mut long = b"\x01a".repeat(128);
        long.push(0);
        assert_eq!(read_name(&long, 0, &mut buf), Err(WireError::BadName));
        assert_eq!(skip_name(&long, 0), Err(WireError::BadName));
    }

    #[test]
    fn rdata_is_expanded() {
        let mut msg = vec![0, 1, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        msg.extend_from_slice(b"\x01x\x00\x00\x0f\x00\x01");
        msg.extend_from_slice(
            b"\xc0\x0c\x00\x0f\x00\x01\x00\x00\x00\x05\x00\x06\x00\x0a\x01m\xc0\x0c",
        );
        let m = Message::parse(&msg).unwrap();
        let r = m.records().next().unwrap().unwrap();
        let mut out = Vec::new();
        r.push_rdata(&mut out).unwrap();
        assert_eq!(out, b"\x00\x0a\x01m\x01x\x00");
        assert_eq!(r.owner().unwrap(), Name::parse("x").unwrap());
        assert_eq!((r.section, r.ttl), (1, 5));
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(msg in prop::collection::vec(any::<u8>(), 0..200)) {
            let Ok(m) = Message::parse(&msg) else { return Ok(()) };
            let _ = m.question();
            let mut out = Vec::new();
            for r in m.records() {
                let Ok(r) = r else { break };
                let _ = (r.owner(), r.raw_rdata(), r.push_rdata(&mut out));
            }
        }
    }
}
