//! Where names stand inside RDATA, and the canonical form of RDATA.
//!
//! RFC 4034 §6.2 as corrected by RFC 6840 §5.1: names inside the listed types are lower-cased for
//! signing and comparing; HINFO and NSEC are not; types defined later never are (RFC 3597 §7).

use std::cmp::Ordering;

use crate::name::wire_len;
use crate::rtype::Rtype;

/// One step through RDATA, enough to find the names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// So many octets.
    Fixed(u8),
    /// A `<character-string>`: length octet and octets.
    String,
    /// An uncompressed name.
    Name,
    /// A6 (RFC 2874 §3.1): prefix length octet, (128 - prefix) / 8 rounded up octets of address;
    /// a name follows unless the prefix length is 0.
    A6,
}

/// The parts of the types whose names are lower-cased; empty for all other types.
pub fn parts(rtype: Rtype) -> &'static [Part] {
    use Part::*;
    match rtype {
        Rtype::NS
        | Rtype::MD
        | Rtype::MF
        | Rtype::CNAME
        | Rtype::MB
        | Rtype::MG
        | Rtype::MR
        | Rtype::PTR
        | Rtype::NXT
        | Rtype::DNAME => &[Name],
        Rtype::SOA | Rtype::MINFO | Rtype::RP => &[Name, Name],
        Rtype::MX | Rtype::AFSDB | Rtype::RT | Rtype::KX => &[Fixed(2), Name],
        Rtype::PX => &[Fixed(2), Name, Name],
        Rtype::SRV => &[Fixed(6), Name],
        Rtype::NAPTR => &[Fixed(4), String, String, String, Name],
        Rtype::SIG | Rtype::RRSIG => &[Fixed(18), Name],
        Rtype::A6 => &[A6],
        _ => &[],
    }
}

/// Calls `f` with the range of each name in `rdata`. Malformed RDATA ends the walk.
pub fn for_each_name(rtype: Rtype, rdata: &[u8], mut f: impl FnMut(std::ops::Range<usize>)) {
    let mut at = 0;
    for part in parts(rtype) {
        match part {
            Part::Fixed(n) => at += *n as usize,
            Part::String => match rdata.get(at) {
                Some(&n) => at += 1 + n as usize,
                None => return,
            },
            Part::A6 => match rdata.first() {
                Some(&prefix) if prefix > 0 && prefix <= 128 => {
                    at = 1 + (128 - prefix as usize).div_ceil(8);
                    if let Some(Ok(len)) = rdata.get(at..).map(wire_len) {
                        f(at..at + len);
                    }
                    return;
                }
                _ => return,
            },
            Part::Name => match rdata.get(at..).map(wire_len) {
                Some(Ok(len)) => {
                    f(at..at + len);
                    at += len;
                }
                _ => return,
            },
        }
        if at > rdata.len() {
            return;
        }
    }
}

/// True if the canonical form of `rdata` differs from `rdata`.
pub fn needs_lowering(rtype: Rtype, rdata: &[u8]) -> bool {
    let mut found = false;
    for_each_name(rtype, rdata, |r| {
        found |= rdata[r].iter().any(u8::is_ascii_uppercase)
    });
    found
}

/// Appends the canonical form of `rdata`.
pub fn push_canonical(rtype: Rtype, rdata: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(rdata);
    // Length octets of labels are below 64 and thus never letters.
    for_each_name(rtype, rdata, |r| {
        out[at + r.start..at + r.end].make_ascii_lowercase()
    });
}

/// Canonical RDATA order (RFC 4034 §6.3): as octet strings of the canonical forms.
pub fn cmp_rdata(rtype: Rtype, a: &[u8], b: &[u8]) -> Ordering {
    if parts(rtype).is_empty() || !(needs_lowering(rtype, a) || needs_lowering(rtype, b)) {
        return a.cmp(b);
    }
    let (mut ca, mut cb) = (Vec::new(), Vec::new());
    push_canonical(rtype, a, &mut ca);
    push_canonical(rtype, b, &mut cb);
    ca.cmp(&cb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_lowered() {
        let mut out = Vec::new();
        push_canonical(Rtype::MX, b"\x00A\x01A\x02bC\x00", &mut out);
        assert_eq!(out, b"\x00A\x01a\x02bc\x00");
        out.clear();
        push_canonical(
            Rtype::NAPTR,
            b"\x00\x01\x00\x02\x01U\x03SIP\x00\x01A\x00",
            &mut out,
        );
        assert_eq!(out, b"\x00\x01\x00\x02\x01U\x03SIP\x00\x01a\x00");
        out.clear();
        push_canonical(Rtype::HINFO, b"\x01A\x01B", &mut out);
        assert_eq!(out, b"\x01A\x01B");
        out.clear();
        // Malformed RDATA passes through without a panic.
        push_canonical(Rtype::SOA, b"\x05ab", &mut out);
        assert_eq!(out, b"\x05ab");
    }

    #[test]
    fn a6_prefix_zero_has_no_name() {
        let mut rdata = vec![0u8];
        rdata.extend_from_slice(b"AAAAAAAAAAAAAAAA");
        assert!(!needs_lowering(Rtype::A6, &rdata));
        assert!(needs_lowering(Rtype::A6, b"\x80\x01A\x00"));
    }

    #[test]
    fn order_ignores_case_of_names() {
        assert_eq!(
            cmp_rdata(Rtype::NS, b"\x01B\x00", b"\x01a\x00"),
            Ordering::Greater
        );
        assert_eq!(
            cmp_rdata(Rtype::NS, b"\x01A\x00", b"\x01a\x00"),
            Ordering::Equal
        );
        assert_eq!(cmp_rdata(Rtype::TXT, b"\x01B", b"\x01a"), Ordering::Less);
    }
}
