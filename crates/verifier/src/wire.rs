//! Names in wire form, base32hex, key tags and serial arithmetic, written for the gate alone.
//!
//! Nothing here is shared with the zone store or the signer: a mistake in their reading of names
//! must not be repeated by the check of it.

use std::cmp::Ordering;
use std::fmt::Write;

/// Longest name in wire form (RFC 1035 §2.3.4).
pub(crate) const MAX_NAME: usize = 255;

/// Length of the uncompressed name at the start of `wire`, or `None` when there is no valid one.
pub(crate) fn name_len(wire: &[u8]) -> Option<usize> {
    let mut at = 0usize;
    loop {
        let n = *wire.get(at)? as usize;
        if n > 63 {
            return None;
        }
        at += 1 + n;
        if at > MAX_NAME {
            return None;
        }
        if n == 0 {
            return Some(at);
        }
    }
}

/// True if `wire` is exactly one name.
pub(crate) fn is_name(wire: &[u8]) -> bool {
    name_len(wire) == Some(wire.len())
}

/// Start of each label, leftmost first, without the root label. At most 127 labels fit in a name.
pub(crate) struct Starts {
    at: [u8; 128],
    len: usize,
}

impl Starts {
    pub(crate) fn of(name: &[u8]) -> Starts {
        let mut starts = Starts {
            at: [0; 128],
            len: 0,
        };
        let mut i = 0usize;
        while let Some(&n) = name.get(i) {
            if n == 0 || starts.len == 128 || i > MAX_NAME {
                break;
            }
            starts.at[starts.len] = i as u8;
            starts.len += 1;
            i += 1 + n as usize;
        }
        starts
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Start of the suffix of `labels` labels; `labels` is at most [`len`](Self::len).
    fn suffix(&self, labels: usize, name: &[u8]) -> usize {
        match labels {
            0 => name.len().saturating_sub(1),
            n => self.at[self.len - n] as usize,
        }
    }
}

/// Number of labels without the root label.
pub(crate) fn label_count(name: &[u8]) -> usize {
    Starts::of(name).len()
}

/// The suffix of `name` with `labels` labels.
pub(crate) fn suffix(name: &[u8], labels: usize) -> &[u8] {
    let starts = Starts::of(name);
    &name[starts.suffix(labels.min(starts.len()), name)..]
}

fn label_at(name: &[u8], start: u8) -> &[u8] {
    let start = start as usize;
    let n = name.get(start).copied().unwrap_or(0) as usize;
    name.get(start + 1..start + 1 + n).unwrap_or(&[])
}

fn cmp_labels(a: &[u8], b: &[u8]) -> Ordering {
    // RFC 4034 §6.1: as left-justified unsigned octet strings, upper case letters as lower case.
    let n = a.len().min(b.len());
    for i in 0..n {
        let (x, y) = (a[i].to_ascii_lowercase(), b[i].to_ascii_lowercase());
        if x != y {
            return x.cmp(&y);
        }
    }
    a.len().cmp(&b.len())
}

/// Canonical order of names (RFC 4034 §6.1).
pub(crate) fn cmp_names(a: &[u8], b: &[u8]) -> Ordering {
    let (sa, sb) = (Starts::of(a), Starts::of(b));
    for i in 1..=sa.len.min(sb.len) {
        let order = cmp_labels(
            label_at(a, sa.at[sa.len - i]),
            label_at(b, sb.at[sb.len - i]),
        );
        if order != Ordering::Equal {
            return order;
        }
    }
    sa.len.cmp(&sb.len)
}

/// Number of labels two names have in common, counted from the root.
pub(crate) fn common_labels(a: &[u8], b: &[u8]) -> usize {
    let (sa, sb) = (Starts::of(a), Starts::of(b));
    let most = sa.len.min(sb.len);
    (1..=most)
        .take_while(|&i| {
            label_at(a, sa.at[sa.len - i]).eq_ignore_ascii_case(label_at(b, sb.at[sb.len - i]))
        })
        .count()
}

/// Equality of names (RFC 4343 §3). Length octets are below 64 and thus never letters.
pub(crate) fn same_name(a: &[u8], b: &[u8]) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// True if `name` is `ancestor` or lies below it.
pub(crate) fn at_or_below(name: &[u8], ancestor: &[u8]) -> bool {
    if name.len() < ancestor.len() {
        return false;
    }
    let split = name.len() - ancestor.len();
    if !name[split..].eq_ignore_ascii_case(ancestor) {
        return false;
    }
    // The split must be a label boundary.
    let mut i = 0;
    while i < split {
        i += 1 + name[i] as usize;
    }
    i == split
}

/// True if `name` lies strictly below `ancestor`.
pub(crate) fn below(name: &[u8], ancestor: &[u8]) -> bool {
    name.len() > ancestor.len() && at_or_below(name, ancestor)
}

pub(crate) fn is_wildcard(name: &[u8]) -> bool {
    name.starts_with(b"\x01*")
}

/// Presentation form with final dot.
pub(crate) fn show(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    let starts = Starts::of(name);
    for &s in &starts.at[..starts.len] {
        for &b in label_at(name, s) {
            match b {
                b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                    text.push('\\');
                    text.push(b as char);
                }
                0x21..=0x7e => text.push(b as char),
                _ => {
                    let _ = write!(text, "\\{b:03}");
                }
            }
        }
        text.push('.');
    }
    if text.is_empty() {
        text.push('.');
    }
    text
}

pub(crate) fn hex(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len() * 2);
    for b in octets {
        let _ = write!(text, "{b:02x}");
    }
    text
}

/// The 20 octets of a base32hex label (RFC 4648 §7, RFC 5155 §1.3), any case; `None` if it is not one.
pub(crate) fn base32hex_decode(label: &[u8]) -> Option<[u8; 20]> {
    if label.len() != 32 {
        return None;
    }
    let mut out = [0u8; 20];
    for (chunk, octets) in label.chunks_exact(8).zip(out.chunks_exact_mut(5)) {
        let mut v = 0u64;
        for &c in chunk {
            let d = match c {
                b'0'..=b'9' => c - b'0',
                b'a'..=b'v' => c - b'a' + 10,
                b'A'..=b'V' => c - b'A' + 10,
                _ => return None,
            };
            v = v << 5 | d as u64;
        }
        octets.copy_from_slice(&v.to_be_bytes()[3..]);
    }
    Some(out)
}

pub(crate) fn base32hex(hash: &[u8; 20]) -> [u8; 32] {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let mut out = [0u8; 32];
    for (octets, chunk) in hash.chunks_exact(5).zip(out.chunks_exact_mut(8)) {
        let mut b = [0u8; 8];
        b[3..].copy_from_slice(octets);
        let v = u64::from_be_bytes(b);
        for (i, c) in chunk.iter_mut().enumerate() {
            *c = DIGITS[(v >> (35 - 5 * i) & 31) as usize];
        }
    }
    out
}

/// Key tag of DNSKEY RDATA (RFC 4034 appendix B); algorithm 1 is not supported anywhere here.
pub(crate) fn key_tag(dnskey: &[u8]) -> u16 {
    let mut sum = 0u32;
    for (i, &b) in dnskey.iter().enumerate() {
        sum += if i & 1 == 0 {
            (b as u32) << 8
        } else {
            b as u32
        };
    }
    (sum + (sum >> 16)) as u16
}

/// RFC 1982 §3.2: `a` > `b`; false for the undefined distance 2^31.
pub(crate) fn serial_gt(a: u32, b: u32) -> bool {
    let d = a.wrapping_sub(b);
    d != 0 && d < 1 << 31
}

pub(crate) fn u16_at(octets: &[u8], at: usize) -> u16 {
    match octets.get(at..at + 2) {
        Some(b) => u16::from_be_bytes([b[0], b[1]]),
        None => 0,
    }
}

pub(crate) fn u32_at(octets: &[u8], at: usize) -> u32 {
    match octets.get(at..at + 4) {
        Some(b) => u32::from_be_bytes([b[0], b[1], b[2], b[3]]),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for label in text.split('.').filter(|l| !l.is_empty()) {
            out.push(label.len() as u8);
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
        out
    }

    #[test]
    fn order_is_that_of_rfc4034() {
        let names: Vec<Vec<u8>> = [
            "example",
            "a.example",
            "yljkjljk.a.example",
            "Z.a.example",
            "zABC.a.EXAMPLE",
            "z.example",
            "\u{1}.z.example",
            "*.z.example",
        ]
        .iter()
        .map(|t| n(t))
        .collect();
        for w in names.windows(2) {
            assert_eq!(
                cmp_names(&w[0], &w[1]),
                Ordering::Less,
                "{} {}",
                show(&w[0]),
                show(&w[1])
            );
            assert_eq!(cmp_names(&w[1], &w[0]), Ordering::Greater);
        }
        assert_eq!(cmp_names(&n("A.b"), &n("a.B")), Ordering::Equal);
    }

    #[test]
    fn ancestors() {
        assert!(at_or_below(&n("a.B.c"), &n("b.C")));
        assert!(!at_or_below(&n("xb.c"), &n("b.c")));
        assert!(!below(&n("b.c"), &n("b.c")));
        assert!(below(&n("a"), &n("")));
        assert_eq!(common_labels(&n("a.b.c"), &n("x.B.c")), 2);
        assert_eq!(suffix(&n("a.b.c"), 1), n("c"));
        assert_eq!(suffix(&n("a.b.c"), 0), n(""));
    }

    #[test]
    fn broken_names_are_no_names() {
        assert_eq!(name_len(b""), None);
        assert_eq!(name_len(b"\x01"), None);
        assert_eq!(name_len(b"\xc0\x00"), None);
        assert_eq!(name_len(&[1u8, b'a'].repeat(127)), None);
        let longest = [[1u8, b'a'].repeat(127), vec![0]].concat();
        assert_eq!(name_len(&longest), Some(255));
        assert_eq!(label_count(&longest), 127);
        let longer = [vec![2, b'a', b'a'], [1u8, b'a'].repeat(126), vec![0]].concat();
        assert_eq!(name_len(&longer), None);
    }

    #[test]
    fn base32hex_of_rfc5155() {
        // RFC 5155 appendix A: hash of the apex "example".
        let hash = base32hex_decode(b"0p9mhaveqvm6t7vbl5lop2u3t2rp3tom").unwrap();
        assert_eq!(&base32hex(&hash), b"0p9mhaveqvm6t7vbl5lop2u3t2rp3tom");
        assert_eq!(
            base32hex_decode(b"0P9MHAVEQVM6T7VBL5LOP2U3T2RP3TOM"),
            Some(hash)
        );
        assert_eq!(base32hex_decode(b"0p9mhaveqvm6t7vbl5lop2u3t2rp3tow"), None);
        assert_eq!(base32hex_decode(b"0p9m"), None);
    }

    #[test]
    fn serials() {
        assert!(serial_gt(0, u32::MAX));
        assert!(!serial_gt(5, 5));
        assert!(!serial_gt(1 << 31, 0));
    }
}
