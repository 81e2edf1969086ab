//! DNS responses as octets (RFC 1035 §4.1), read for the sample answers of V23.

use crate::rdata::t;
use crate::wire::{MAX_NAME, u16_at, u32_at};

/// A record of a response, uncompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) owner: Vec<u8>,
    pub(crate) rtype: u16,
    pub(crate) ttl: u32,
    pub(crate) rdata: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) rcode: u8,
    pub(crate) aa: bool,
    pub(crate) tc: bool,
    pub(crate) answer: Vec<Record>,
    pub(crate) authority: Vec<Record>,
}

/// The parts of a response that proofs live in; `None` when it does not decode.
pub(crate) fn read(octets: &[u8]) -> Option<Message> {
    if octets.len() < 12 || octets[2] & 0x80 == 0 {
        return None;
    }
    let mut message = Message {
        rcode: octets[3] & 15,
        aa: octets[2] & 4 != 0,
        tc: octets[2] & 2 != 0,
        ..Message::default()
    };
    let mut at = 12;
    for _ in 0..u16_at(octets, 4) {
        read_name(octets, &mut at, &mut Vec::new())?;
        at += 4;
    }
    for _ in 0..u16_at(octets, 6) {
        message.answer.push(read_record(octets, &mut at)?);
    }
    for _ in 0..u16_at(octets, 8) {
        message.authority.push(read_record(octets, &mut at)?);
    }
    Some(message)
}

fn read_record(octets: &[u8], at: &mut usize) -> Option<Record> {
    let mut owner = Vec::new();
    read_name(octets, at, &mut owner)?;
    let head = octets.get(*at..*at + 10)?;
    let (rtype, ttl, len) = (u16_at(head, 0), u32_at(head, 4), u16_at(head, 8) as usize);
    let end = *at + 10 + len;
    let mut from = *at + 10;
    octets.get(from..end)?;
    let mut rdata = Vec::with_capacity(len);
    // RFC 3597 §4: only in the types of RFC 1035 may names be compressed.
    let (fixed, names) = match rtype {
        t::NS | 3 | 4 | t::CNAME | 7 | 8 | 9 | 12 => (0, 1),
        t::SOA | 14 => (0, 2),
        15 => (2, 1),
        _ => (0, 0),
    };
    rdata.extend_from_slice(
        octets
            .get(from..from + fixed)
            .filter(|_| from + fixed <= end)?,
    );
    from += fixed;
    for _ in 0..names {
        read_name(octets, &mut from, &mut rdata)?;
    }
    rdata.extend_from_slice(octets.get(from..end)?);
    *at = end;
    Some(Record {
        owner,
        rtype,
        ttl,
        rdata,
    })
}

/// Appends the name at `at`, following pointers backwards only, so that the walk ends.
fn read_name(octets: &[u8], at: &mut usize, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    let (mut here, mut limit, mut jumped) = (*at, *at, false);
    loop {
        let len = *octets.get(here)? as usize;
        match len >> 6 {
            0 => {
                out.extend_from_slice(octets.get(here..here + 1 + len)?);
                here += 1 + len;
                if out.len() - start > MAX_NAME {
                    return None;
                }
                if !jumped {
                    *at = here;
                }
                if len == 0 {
                    return Some(());
                }
            }
            3 => {
                let to = (u16_at(octets, here) & 0x3fff) as usize;
                octets.get(here + 1)?;
                if to >= limit {
                    return None;
                }
                if !jumped {
                    *at = here + 2;
                }
                (here, limit, jumped) = (to, to, true);
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_names_are_followed_and_loops_are_not() {
        let mut m = vec![0, 0, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        m.extend(b"\x01a\x07example\x00\x00\x02\x00\x01");
        m.extend(b"\xc0\x0c\x00\x02\x00\x01\x00\x00\x00\x05\x00\x05\x02ns\xc0\x0e");
        let message = read(&m).unwrap();
        assert!(message.aa && message.rcode == 0);
        assert_eq!(message.answer[0].owner, b"\x01a\x07example\x00");
        assert_eq!(message.answer[0].rdata, b"\x02ns\x07example\x00");
        // A pointer to itself, and any cut.
        let at = m.len() - 2;
        let mut looped = m.clone();
        looped[at + 1] = at as u8;
        assert!(read(&looped).is_none());
        for n in 0..m.len() {
            assert!(read(&m[..n]).is_none(), "{n}");
        }
    }
}
