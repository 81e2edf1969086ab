//! The usual line, read straight from the octets: `owner [TTL] [IN] TYPE data` on one line, of the
//! types that make up nearly all of the world's zone data.
//!
//! This reader knows no errors. Whatever it does not expect (quotes around names, parentheses,
//! escapes, wrong values) makes it say nothing, and the general parser reads the line.
//! What it does accept means the same there.

use cascade_zone::Rtype;

use crate::scan::MAX_TTL;

/// Octets of an owner or of the data of a usual line; anything larger is not usual.
const ROOM: usize = 512;

/// Where a line is read to.
#[derive(Debug)]
pub struct Room {
    owner: [u8; ROOM],
    rdata: [u8; ROOM],
}

impl Default for Room {
    fn default() -> Self {
        Room {
            owner: [0; ROOM],
            rdata: [0; ROOM],
        }
    }
}

/// A usual line.
#[derive(Debug, PartialEq, Eq)]
pub struct Plain<'a, 'r> {
    /// `None`: that of the line before.
    pub owner: Option<PlainOwner<'a, 'r>>,
    /// As stated, in range.
    pub ttl: Option<u32>,
    pub rtype: Rtype,
    pub rdata: &'r [u8],
    /// Start of the next line.
    pub next: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub struct PlainOwner<'a, 'r> {
    pub text: &'a [u8],
    /// Wire form: no octet below 0x21 in any label.
    pub wire: &'r [u8],
    /// Some letter of the text is upper case.
    pub upper: bool,
}

/// Reads the line at `pos`. `last`: the owner field of the line before, empty if unknown.
#[inline]
pub fn read<'a, 'r>(
    src: &'a [u8],
    pos: usize,
    last: &[u8],
    origin: &[u8],
    room: &'r mut Room,
) -> Option<Plain<'a, 'r>> {
    let rest = src.get(pos..)?;
    let mut owner = None;
    let at = if is_blank(*rest.first()?) {
        pos
    } else if !last.is_empty() && rest.starts_with(last) && is_blank(*rest.get(last.len())?) {
        pos + last.len()
    } else {
        let name = name(src, pos, origin, &mut room.owner, 0)?;
        owner = Some((name.len, name.seen & UPPER != 0));
        name.end
    };
    let text = src.get(pos..at)?;
    let (ttl, rtype, at) = prefix(src, at)?;
    let (at, len) = data(src, at, rtype, origin, &mut room.rdata)?;
    let next = end(src, at)?;
    let owner = match owner {
        Some((len, upper)) => Some(PlainOwner {
            text,
            wire: room.owner.get(..len)?,
            upper,
        }),
        None => None,
    };
    Some(Plain {
        owner,
        ttl,
        rtype,
        rdata: room.rdata.get(..len)?,
        next,
    })
}

/// `[TTL] [IN] TYPE` with the blanks around.
#[inline]
fn prefix(src: &[u8], at: usize) -> Option<(Option<u32>, Rtype, usize)> {
    let mut at = gap(src, at)?;
    let (mut ttl, mut class) = (None, false);
    loop {
        let (rtype, n) = match src.get(at..)? {
            [b'0'..=b'9', ..] if ttl.is_none() => {
                let (v, after) = number(src, at, MAX_TTL)?;
                ttl = Some(v as u32);
                at = gap(src, after)?;
                continue;
            }
            [b'I' | b'i', b'N' | b'n', b' ' | b'\t', ..] if !class => {
                class = true;
                at = gap(src, at + 2)?;
                continue;
            }
            [b'N' | b'n', b'S' | b's', b' ' | b'\t', ..] => (Rtype::NS, 2),
            [b'D' | b'd', b'S' | b's', b' ' | b'\t', ..] => (Rtype::DS, 2),
            [b'A' | b'a', b' ' | b'\t', ..] => (Rtype::A, 1),
            [
                b'A' | b'a',
                b'A' | b'a',
                b'A' | b'a',
                b'A' | b'a',
                b' ' | b'\t',
                ..,
            ] => (Rtype::AAAA, 4),
            [b'M' | b'm', b'X' | b'x', b' ' | b'\t', ..] => (Rtype::MX, 2),
            [b'T' | b't', b'X' | b'x', b'T' | b't', b' ' | b'\t', ..] => (Rtype::TXT, 3),
            [b'P' | b'p', b'T' | b't', b'R' | b'r', b' ' | b'\t', ..] => (Rtype::PTR, 3),
            [b'S' | b's', b'R' | b'r', b'V' | b'v', b' ' | b'\t', ..] => (Rtype::SRV, 3),
            [
                b'C' | b'c',
                b'N' | b'n',
                b'A' | b'a',
                b'M' | b'm',
                b'E' | b'e',
                b' ' | b'\t',
                ..,
            ] => (Rtype::CNAME, 5),
            _ => return None,
        };
        return Some((ttl, rtype, gap(src, at + n)?));
    }
}

/// The data; gives where it ends in the text, and its length.
#[inline]
fn data(
    src: &[u8],
    at: usize,
    rtype: Rtype,
    origin: &[u8],
    out: &mut [u8; ROOM],
) -> Option<(usize, usize)> {
    match rtype {
        Rtype::A => ipv4(src, at, out).map(|at| (at, 4)),
        Rtype::AAAA => ipv6(src, at, out).map(|at| (at, 16)),
        Rtype::DS => ds(src, at, out),
        Rtype::TXT => strings(src, at, out),
        _ => {
            let numbers = match rtype {
                Rtype::MX => 1,
                Rtype::SRV => 3,
                _ => 0,
            };
            let (mut at, mut n) = (at, 0);
            for _ in 0..numbers {
                let (v, after) = number(src, at, 65535)?;
                out.get_mut(n..n + 2)?
                    .copy_from_slice(&(v as u16).to_be_bytes());
                at = gap(src, after)?;
                n += 2;
            }
            let name = name(src, at, origin, out, n)?;
            Some((name.end, n + name.len))
        }
    }
}

/// Octets of a name that stand for themselves; upper-case letters are marked.
const SELF: u8 = 1;
const UPPER: u8 = 2;

const OCTETS: [u8; 256] = {
    let mut t = [0; 256];
    let mut b = 0x21;
    while b < 0x7f {
        t[b] = SELF;
        if (b as u8).is_ascii_uppercase() {
            t[b] |= UPPER;
        }
        b += 1;
    }
    // What ends a field or means something in a name. `$` is no directive here: that is seen before.
    let mut i = 0;
    while i < 7 {
        t[b"\"();\\.@"[i] as usize] = 0;
        i += 1;
    }
    t
};

struct PlainName {
    /// Where its text ends.
    end: usize,
    /// Octets of its wire form.
    len: usize,
    /// All kinds of octets in it.
    seen: u8,
}

/// A name to `out[start..]`.
#[inline]
fn name(
    src: &[u8],
    pos: usize,
    origin: &[u8],
    out: &mut [u8; ROOM],
    start: usize,
) -> Option<PlainName> {
    let mut seen = 0;
    let mut label = start;
    let mut n = start + 1;
    let mut end = pos;
    for &b in src.get(pos..)? {
        let kind = OCTETS[b as usize];
        if kind != 0 {
            *out.get_mut(n)? = b;
            n += 1;
            seen |= kind;
        } else if b == b'.' {
            *out.get_mut(label)? = label_length(n - label - 1)?;
            label = n;
            n += 1;
        } else if matches!(b, b' ' | b'\t' | b'\n' | b'\r') {
            break;
        } else {
            return None;
        }
        end += 1;
    }
    if n - label == 1 && label > start {
        // The text ended with a dot: the octet kept for a length is the root label.
        *out.get_mut(label)? = 0;
    } else {
        *out.get_mut(label)? = label_length(n - label - 1)?;
        out.get_mut(n..n + origin.len())?.copy_from_slice(origin);
        n += origin.len();
    }
    let len = n - start;
    (len <= 255).then_some(PlainName { end, len, seen })
}

#[inline]
fn label_length(n: usize) -> Option<u8> {
    (1..=63).contains(&n).then_some(n as u8)
}

#[inline]
fn is_blank(b: u8) -> bool {
    b == b' ' || b == b'\t'
}

/// Behind one or more blanks.
#[inline]
fn gap(src: &[u8], at: usize) -> Option<usize> {
    if !is_blank(*src.get(at)?) {
        return None;
    }
    Some(blanks(src, at + 1))
}

#[inline]
fn blanks(src: &[u8], mut at: usize) -> usize {
    while src.get(at).is_some_and(|&b| is_blank(b)) {
        at += 1;
    }
    at
}

/// Behind the line feed, if nothing else than a comment stands before it.
#[inline]
fn end(src: &[u8], at: usize) -> Option<usize> {
    let at = blanks(src, at);
    match src.get(at)? {
        b'\n' => Some(at + 1),
        b'\r' if src.get(at + 1) == Some(&b'\n') => Some(at + 2),
        b';' => memchr::memchr(b'\n', src.get(at..)?).map(|i| at + i + 1),
        _ => None,
    }
}

/// A decimal number up to `max`, and what is behind it.
#[inline]
fn number(src: &[u8], at: usize, max: u64) -> Option<(u64, usize)> {
    let mut v = 0u64;
    let mut n = 0;
    while let Some(d) = src.get(at + n).map(|b| b.wrapping_sub(b'0')) {
        if d > 9 {
            break;
        }
        v = v * 10 + d as u64;
        n += 1;
        if n > 10 {
            return None;
        }
    }
    (n > 0 && v <= max).then_some((v, at + n))
}

#[inline]
fn ipv4(src: &[u8], at: usize, out: &mut [u8; ROOM]) -> Option<usize> {
    let mut at = at;
    for (i, octet) in out.iter_mut().take(4).enumerate() {
        if i > 0 {
            if *src.get(at)? != b'.' {
                return None;
            }
            at += 1;
        }
        let (v, after) = number(src, at, 255)?;
        // Leading zeros might mean octal to someone.
        if after - at > 3 || (after - at > 1 && src.get(at) == Some(&b'0')) {
            return None;
        }
        *octet = v as u8;
        at = after;
    }
    Some(at)
}

/// RFC 4291 §2.2, without an IPv4 address at the end.
fn ipv6(src: &[u8], at: usize, out: &mut [u8; ROOM]) -> Option<usize> {
    let hex = |at: usize| src.get(at).map_or(NO_DIGIT, |&b| HEX[b as usize]);
    let mut groups = [0u16; 8];
    let (mut n, mut at) = (0, at);
    let mut zeros = None;
    let mut more = true;
    if src.get(at..)?.starts_with(b"::") {
        zeros = Some(0);
        at += 2;
        more = hex(at) != NO_DIGIT;
    }
    while more {
        let mut v = 0u16;
        let mut digits = 0;
        while digits < 4 && hex(at) != NO_DIGIT {
            v = v << 4 | hex(at) as u16;
            at += 1;
            digits += 1;
        }
        if digits == 0 {
            return None;
        }
        *groups.get_mut(n)? = v;
        n += 1;
        if src.get(at) != Some(&b':') {
            break;
        }
        at += 1;
        if src.get(at) == Some(&b':') {
            if zeros.is_some() {
                return None;
            }
            zeros = Some(n);
            at += 1;
            more = hex(at) != NO_DIGIT;
        }
    }
    let before = match zeros {
        None if n == 8 => 8,
        Some(before) if n < 8 => before,
        _ => return None,
    };
    let mut all = [0u16; 8];
    let after = n - before;
    all.get_mut(..before)?
        .copy_from_slice(groups.get(..before)?);
    all.get_mut(8 - after..)?
        .copy_from_slice(groups.get(before..n)?);
    for (octets, group) in out.chunks_exact_mut(2).zip(all) {
        octets.copy_from_slice(&group.to_be_bytes());
    }
    Some(at)
}

const NO_DIGIT: u8 = 0xff;

/// Values of hex digits.
const HEX: [u8; 256] = {
    let mut t = [NO_DIGIT; 256];
    let mut i = 0;
    while i < 16 {
        t[b"0123456789abcdef"[i] as usize] = i as u8;
        t[b"0123456789ABCDEF"[i] as usize] = i as u8;
        i += 1;
    }
    t
};

/// Key tag, algorithm and digest type in numbers, the digest in hex, broken only between octets.
#[inline]
fn ds(src: &[u8], at: usize, out: &mut [u8; ROOM]) -> Option<(usize, usize)> {
    let (tag, at) = number(src, at, 65535)?;
    let (algorithm, at) = number(src, gap(src, at)?, 255)?;
    let (digest, at) = number(src, gap(src, at)?, 255)?;
    let [high, low] = (tag as u16).to_be_bytes();
    let (head, digits) = out.split_first_chunk_mut::<4>()?;
    *head = [high, low, algorithm as u8, digest as u8];
    let mut at = gap(src, at)?;
    let mut n = 0;
    loop {
        let text = src.get(at..)?;
        let mut read = 0;
        for (pair, octet) in text.chunks_exact(2).zip(digits.get_mut(n..)?) {
            let (a, b) = (HEX[pair[0] as usize], HEX[pair[1] as usize]);
            // A value is below 16, `NO_DIGIT` has all bits.
            if (a | b) > 15 {
                break;
            }
            *octet = a << 4 | b;
            read += 1;
        }
        if read == 0 {
            return None;
        }
        n += read;
        at += 2 * read;
        match blanks(src, at) {
            after if after == at || matches!(src.get(after), Some(b'\n' | b'\r' | b';')) => break,
            after => at = after,
        }
    }
    Some((at, 4 + n))
}

/// Strings without escapes, quoted or bare.
fn strings(src: &[u8], at: usize, out: &mut [u8; ROOM]) -> Option<(usize, usize)> {
    let (mut at, mut n) = (at, 0);
    loop {
        let quoted = *src.get(at)? == b'"';
        at += quoted as usize;
        let text = src.get(at..)?;
        let len = match quoted {
            true => text
                .iter()
                .position(|&b| b < b' ' || b == b'"' || b == b'\\')?,
            false => text
                .iter()
                .position(|&b| !matches!(OCTETS[b as usize], 1..) && b != b'.' && b != b'@')?,
        };
        if quoted {
            if text.get(len) != Some(&b'"') {
                return None;
            }
        } else if len == 0 {
            return None;
        }
        *out.get_mut(n)? = u8::try_from(len).ok()?;
        out.get_mut(n + 1..n + 1 + len)?
            .copy_from_slice(text.get(..len)?);
        n += 1 + len;
        at += len + quoted as usize;
        let after = blanks(src, at);
        match src.get(after)? {
            b'\n' | b'\r' | b';' => return Some((at, n)),
            _ if after == at => return None,
            _ => at = after,
        }
    }
}

#[cfg(test)]
mod tests;
