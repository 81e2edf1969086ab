//! Shape and canonical form of RDATA, by the gate's own table.

use crate::wire::name_len;

/// RR types the gate reasons about.
pub(crate) mod t {
    pub(crate) const NS: u16 = 2;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const DNAME: u16 = 39;
    pub(crate) const DS: u16 = 43;
    pub(crate) const RRSIG: u16 = 46;
    pub(crate) const NSEC: u16 = 47;
    pub(crate) const DNSKEY: u16 = 48;
    pub(crate) const NSEC3: u16 = 50;
    pub(crate) const NSEC3PARAM: u16 = 51;
    pub(crate) const CDS: u16 = 59;
    pub(crate) const CDNSKEY: u16 = 60;
    pub(crate) const ZONEMD: u16 = 63;
}

/// Layout of the RDATA of a type, one character a part:
/// `1` `2` `4` `6` `8` so many octets; `n` a name that is lower-cased in canonical form
/// (RFC 4034 §6.2 with RFC 6840 §5.1); `N` a name that is not; `s` a character-string; `S` one or
/// more of them; `h` a length octet and so many octets; `a` the rest of A6 (RFC 2874 §3.1);
/// `+` at least one more octet; `*` anything.
fn layout(rtype: u16) -> &'static [u8] {
    match rtype {
        1 => b"4",                                   // A
        2 | 3 | 4 | 5 | 7 | 8 | 9 | 12 | 39 => b"n", // NS MD MF CNAME MB MG MR PTR DNAME
        6 => b"nn44444",                             // SOA
        13 => b"ss",                                 // HINFO
        14 | 17 => b"nn",                            // MINFO RP
        15 | 18 | 21 | 36 => b"2n",                  // MX AFSDB RT KX
        16 | 20 | 99 => b"S",                        // TXT ISDN SPF
        19 => b"s",                                  // X25
        23 => b"N",                                  // NSAP-PTR
        24 | 46 => b"2114442n+",                     // SIG RRSIG
        25 => b"211*",                               // KEY
        26 => b"2nn",                                // PX
        27 => b"sss",                                // GPOS
        28 => b"88",                                 // AAAA
        29 => b"*",                                  // LOC: versions other than 0 are opaque
        30 => b"n+",                                 // NXT
        33 => b"222n",                               // SRV
        35 => b"22sssn",                             // NAPTR
        37 => b"221+",                               // CERT
        38 => b"a",                                  // A6
        43 | 59 => b"211+",                          // DS CDS
        44 => b"11+",                                // SSHFP
        47 => b"N*",                                 // NSEC: the bitmap is judged by V13
        48 | 60 => b"211+",                          // DNSKEY CDNSKEY
        50 => b"112hh*",                             // NSEC3: the bitmap is judged by V15
        51 => b"112h",                               // NSEC3PARAM
        52 | 53 => b"111+",                          // TLSA SMIMEA
        62 => b"42*",                                // CSYNC
        63 => b"411+",                               // ZONEMD
        64 | 65 => b"2N*",                           // SVCB HTTPS
        104 | 106 => b"28",                          // NID L64
        105 => b"24",                                // L32
        107 => b"2N",                                // LP
        108 => b"6",                                 // EUI48
        109 => b"8",                                 // EUI64
        256 => b"22*",                               // URI
        257 => b"1s*",                               // CAA
        _ => b"*",
    }
}

/// Walks the parts; calls `f` with the range of each name to be lower-cased. `None` = malformed.
fn walk(rtype: u16, rdata: &[u8], mut f: impl FnMut(std::ops::Range<usize>)) -> Option<()> {
    let mut at = 0usize;
    for part in layout(rtype) {
        match part {
            b'1'..=b'8' => at += (part - b'0') as usize,
            b'n' | b'N' => {
                let n = name_len(rdata.get(at..)?)?;
                if *part == b'n' {
                    f(at..at + n);
                }
                at += n;
            }
            b's' | b'h' => at += 1 + *rdata.get(at)? as usize,
            b'S' => {
                at += 1 + *rdata.get(at)? as usize;
                while at < rdata.len() {
                    at += 1 + rdata[at] as usize;
                }
            }
            b'a' => {
                let prefix = *rdata.get(at)? as usize;
                at += 1 + 128usize.checked_sub(prefix)?.div_ceil(8);
                if prefix > 0 {
                    let n = name_len(rdata.get(at..)?)?;
                    f(at..at + n);
                    at += n;
                }
            }
            b'+' => {
                rdata.get(at)?;
                at = rdata.len();
            }
            b'*' if at <= rdata.len() => at = rdata.len(),
            _ => {}
        }
        if at > rdata.len() {
            return None;
        }
    }
    (at == rdata.len()).then_some(())
}

/// Appends the canonical form of `rdata` (RFC 4034 §6.2). False, and the octets as they are, when
/// the RDATA has not the shape its type demands.
pub(crate) fn push_canonical(rtype: u16, rdata: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.extend_from_slice(rdata);
    walk(rtype, rdata, |r| {
        out[start + r.start..start + r.end].make_ascii_lowercase()
    })
    .is_some()
}

/// Never zone data (RFC 6895 §3.1): type 0, OPT, and the meta and question types.
pub(crate) fn is_meta(rtype: u16) -> bool {
    matches!(rtype, 0 | 41 | 128..=255)
}

/// Why a type bitmap is not one (RFC 4034 §4.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BitmapError {
    Truncated,
    WindowOrder,
    WindowLength,
    TrailingZero,
}

impl BitmapError {
    pub(crate) fn text(self) -> &'static str {
        match self {
            BitmapError::Truncated => "type bitmap is cut short",
            BitmapError::WindowOrder => "type bitmap windows are not in ascending order",
            BitmapError::WindowLength => "type bitmap window is empty or longer than 32 octets",
            BitmapError::TrailingZero => "type bitmap window ends with a zero octet",
        }
    }
}

/// Types of a bitmap, ascending, into `out` (cleared first).
pub(crate) fn decode_bitmap(mut octets: &[u8], out: &mut Vec<u16>) -> Result<(), BitmapError> {
    out.clear();
    let mut last: Option<u8> = None;
    while let Some((&window, rest)) = octets.split_first() {
        let (&len, rest) = rest.split_first().ok_or(BitmapError::Truncated)?;
        if last.is_some_and(|l| l >= window) {
            return Err(BitmapError::WindowOrder);
        }
        last = Some(window);
        if len == 0 || len > 32 {
            return Err(BitmapError::WindowLength);
        }
        let bits = rest.get(..len as usize).ok_or(BitmapError::Truncated)?;
        if bits[bits.len() - 1] == 0 {
            return Err(BitmapError::TrailingZero);
        }
        for (i, &b) in bits.iter().enumerate() {
            let mut b = b;
            while b != 0 {
                let bit = b.leading_zeros();
                out.push((window as u16) << 8 | (i as u16 * 8 + bit as u16));
                b &= !(0x80 >> bit);
            }
        }
        octets = &rest[len as usize..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(rtype: u16, rdata: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        push_canonical(rtype, rdata, &mut out).then_some(out)
    }

    #[test]
    fn names_of_the_listed_types_are_lowered() {
        assert_eq!(
            canonical(15, b"\x00A\x01A\x02bC\x00").unwrap(),
            b"\x00A\x01a\x02bc\x00"
        );
        assert_eq!(
            canonical(35, b"ABCD\x01U\x03SIP\x00\x01A\x00").unwrap(),
            b"ABCD\x01U\x03SIP\x00\x01a\x00"
        );
        assert_eq!(canonical(13, b"\x01A\x01B").unwrap(), b"\x01A\x01B");
        // RFC 6840 §5.1: not the next name of NSEC. RFC 9460 §2.2: not the SVCB target.
        assert_eq!(
            canonical(47, b"\x01A\x00\x00\x01\x40").unwrap(),
            b"\x01A\x00\x00\x01\x40"
        );
        assert_eq!(
            canonical(64, b"\x00\x01\x01A\x00").unwrap(),
            b"\x00\x01\x01A\x00"
        );
        let sig = [&[0u8; 18][..], b"\x01A\x00", b"SIG"].concat();
        assert_eq!(&canonical(46, &sig).unwrap()[18..], b"\x01a\x00SIG");
    }

    #[test]
    fn malformed_is_told() {
        assert!(canonical(1, b"abc").is_none());
        assert!(canonical(1, b"abcde").is_none());
        assert!(canonical(6, b"\x05ab").is_none());
        assert!(canonical(16, b"").is_none());
        assert!(canonical(16, b"\x03ab").is_none());
        assert!(canonical(2, b"\x01a\x00x").is_none());
        assert!(canonical(38, b"\x81").is_none());
        assert!(canonical(50, b"\x01\x00\x00\x00\x05").is_none());
        assert!(canonical(65280, b"anything").is_some());
    }

    #[test]
    fn bitmaps() {
        let mut types = Vec::new();
        // RFC 4034 §4.3, the example: A MX RRSIG NSEC TYPE1234.
        let example = b"\x00\x06\x40\x01\x00\x00\x00\x03\x04\x1b\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x20";
        decode_bitmap(example, &mut types).unwrap();
        assert_eq!(types, [1, 15, 46, 47, 1234]);
        assert_eq!(
            decode_bitmap(b"\x00\x02\x40\x00", &mut types),
            Err(BitmapError::TrailingZero)
        );
        assert_eq!(
            decode_bitmap(b"\x01\x01\x40\x00\x01\x40", &mut types),
            Err(BitmapError::WindowOrder)
        );
        assert_eq!(
            decode_bitmap(b"\x00\x00", &mut types),
            Err(BitmapError::WindowLength)
        );
        assert_eq!(
            decode_bitmap(b"\x00\x05\x40", &mut types),
            Err(BitmapError::Truncated)
        );
        assert_eq!(decode_bitmap(b"", &mut types), Ok(()));
    }
}
