//! EDNS: the OPT record, its options, extended errors (RFC 6891, RFC 8914).

use crate::reader::{RecordView, WireError};

/// EDNS option codes (IANA "DNS EDNS0 Option Codes").
pub mod option {
    pub const NSID: u16 = 3;
    pub const CLIENT_SUBNET: u16 = 8;
    pub const EXPIRE: u16 = 9;
    pub const COOKIE: u16 = 10;
    pub const TCP_KEEPALIVE: u16 = 11;
    pub const PADDING: u16 = 12;
    pub const EDE: u16 = 15;
    pub const ZONEVERSION: u16 = 19;
}

/// The OPT record of a message.
#[derive(Debug, Clone, Copy)]
pub struct Edns<'a> {
    pub udp_size: u16,
    /// Upper eight bits of the response code.
    pub ext_rcode: u8,
    pub version: u8,
    pub dnssec_ok: bool,
    options: &'a [u8],
}

impl<'a> Edns<'a> {
    /// # Errors
    /// The owner is not the root, or the options of a version 0 record are malformed.
    pub fn from_record(record: &RecordView<'a>) -> Result<Self, WireError> {
        let mut owner = crate::reader::NameBuf::new();
        record.read_owner(&mut owner)?;
        if owner.as_wire() != [0] {
            return Err(WireError::BadName);
        }
        let edns = Edns {
            udp_size: record.class,
            ext_rcode: (record.ttl >> 24) as u8,
            version: (record.ttl >> 16) as u8,
            dnssec_ok: record.ttl & 0x8000 != 0,
            options: record.raw_rdata(),
        };
        // Options of later versions may have another form.
        if edns.version == 0 {
            let mut rest = edns.options;
            while !rest.is_empty() {
                let (_, _, tail) = split_option(rest).ok_or(WireError::BadRdata)?;
                rest = tail;
            }
        }
        Ok(edns)
    }

    pub fn options(&self) -> Options<'a> {
        Options(if self.version == 0 { self.options } else { &[] })
    }

    pub fn option(&self, code: u16) -> Option<&'a [u8]> {
        self.options()
            .find(|(c, _)| *c == code)
            .map(|(_, data)| data)
    }
}

/// Walks options as (code, data).
#[derive(Debug, Clone)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);
    fn next(&mut self) -> Option<Self::Item> {
        let (code, data, tail) = split_option(self.0)?;
        self.0 = tail;
        Some((code, data))
    }
}

fn split_option(octets: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (head, rest) = octets.split_at_checked(4)?;
    let len = u16::from_be_bytes([head[2], head[3]]) as usize;
    let (data, tail) = rest.split_at_checked(len)?;
    Some((u16::from_be_bytes([head[0], head[1]]), data, tail))
}

/// Extended DNS errors that we send (RFC 8914 §5.2 and the IANA registry).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ede {
    Other,
    NotReady,
    Prohibited,
    NotAuthoritative,
    NotSupported,
    NoReachableAuthority,
    InvalidQueryType,
}

impl Ede {
    pub fn code(self) -> u16 {
        match self {
            Ede::Other => 0,
            Ede::NotReady => 14,
            Ede::Prohibited => 18,
            Ede::NotAuthoritative => 20,
            Ede::NotSupported => 21,
            Ede::NoReachableAuthority => 22,
            Ede::InvalidQueryType => 30,
        }
    }
}

/// Longest extra text of an extended error that is sent.
pub const MAX_EDE_TEXT: usize = 80;

/// Appends one option.
pub fn push_option(code: u16, data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&(data.len().min(0xffff) as u16).to_be_bytes());
    out.extend_from_slice(&data[..data.len().min(0xffff)]);
}

/// Appends an extended error, its text cut at a character boundary within 80 octets.
pub fn push_ede(ede: Ede, text: &str, out: &mut Vec<u8>) {
    let mut end = text.len().min(MAX_EDE_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.extend_from_slice(&option::EDE.to_be_bytes());
    out.extend_from_slice(&((end + 2) as u16).to_be_bytes());
    out.extend_from_slice(&ede.code().to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..end]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_round_trip() {
        let mut out = Vec::new();
        push_option(option::NSID, b"ns1", &mut out);
        push_ede(Ede::NotReady, &"é".repeat(60), &mut out);
        let got: Vec<_> = Options(&out).collect();
        assert_eq!(got[0], (3, &b"ns1"[..]));
        assert_eq!(
            (got[1].0, got[1].1.len(), &got[1].1[..2]),
            (15, 82, &[0, 14][..])
        );
    }

    #[test]
    fn a_cut_option_is_none() {
        assert_eq!(split_option(&[0, 3, 0, 4, 1, 2, 3]), None);
        assert_eq!(split_option(&[0, 3, 0]), None);
    }
}
