//! Order keys: octet strings whose memcmp order is canonical order (RFC 4034 §6.1).
//!
//! A key is relative to the apex: labels from the apex side to the leftmost, ASCII letters in
//! lower case, inside a label `00 -> 01 01` and `01 -> 01 02`, each label closed by `00`. The apex
//! itself is the empty key. The closing `00` sorts before any escaped octet, so a name comes right
//! before its descendants, and they before its next sibling. At most 508 octets.
//!
//! ```text
//! apex example.            (empty)
//! a.example.               61 00
//! z.a.example.             61 00 7a 00
//! \000.example.            01 01 00
//! ```

use crate::name::{Labels, Name};

/// Longest key: 254 octets of labels, each octet escaped to two.
pub const MAX_KEY: usize = 508;

/// Appends the order key of the uncompressed name `owner` below `apex`.
///
/// Gives `false` and leaves `out` as it was when `owner` is not at or below `apex`.
pub fn push_key(apex: &Name, owner: &[u8], out: &mut Vec<u8>) -> bool {
    let apex = apex.as_wire();
    if owner.len() < apex.len() {
        return false;
    }
    let split = owner.len() - apex.len();
    if !owner[split..].eq_ignore_ascii_case(apex) {
        return false;
    }
    // The split must fall on a label boundary; collect label starts on the way.
    let mut starts = [0u8; 128];
    let mut n = 0;
    let mut i = 0;
    while i < split {
        starts[n] = i as u8;
        n += 1;
        i += 1 + owner[i] as usize;
    }
    if i != split {
        return false;
    }
    for &s in starts[..n].iter().rev() {
        let s = s as usize;
        push_label(&owner[s + 1..s + 1 + owner[s] as usize], out);
    }
    true
}

/// Appends one label in key form.
pub fn push_label(label: &[u8], out: &mut Vec<u8>) {
    // Nearly all labels have nothing to escape. No early exit: short labels, and vector code.
    if label.iter().fold(true, |plain, &b| plain & (b > 1)) {
        let at = out.len();
        out.extend_from_slice(label);
        out[at..].make_ascii_lowercase();
        out.push(0);
        return;
    }
    for &b in label {
        match b {
            0 => out.extend_from_slice(&[1, 1]),
            1 => out.extend_from_slice(&[1, 2]),
            b => out.push(b.to_ascii_lowercase()),
        }
    }
    out.push(0);
}

/// The key of `owner`, or `None` when it is not at or below `apex`.
pub fn key_of(apex: &Name, owner: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(owner.len());
    push_key(apex, owner, &mut key).then_some(key)
}

/// First 8 octets as a big-endian number, zero padded: sort key and fence.
pub fn fence(key: &[u8]) -> u64 {
    let mut b = [0u8; 8];
    let n = key.len().min(8);
    b[..n].copy_from_slice(&key[..n]);
    u64::from_be_bytes(b)
}

/// The key of the parent name; `None` for the apex.
pub fn parent(key: &[u8]) -> Option<&[u8]> {
    let (_, body) = key.split_last()?;
    let end = memchr::memrchr(0, body).map_or(0, |i| i + 1);
    Some(&key[..end])
}

/// True if `x` is a name strictly below `y`.
pub fn below(x: &[u8], y: &[u8]) -> bool {
    x.len() > y.len() && x.starts_with(y)
}

/// Number of labels below the apex.
pub fn depth(key: &[u8]) -> usize {
    memchr::memchr_iter(0, key).count()
}

/// The encoded labels, apex side first, each without its closing `00`.
pub fn labels(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let body = key.strip_suffix(&[0]).unwrap_or(key);
    body.split(|&b| b == 0)
        .take(if key.is_empty() { 0 } else { usize::MAX })
}

/// The key's prefixes from the apex (empty) to the key itself.
pub fn ancestors_from_apex(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::once(&key[..0]).chain(memchr::memchr_iter(0, key).map(move |i| &key[..i + 1]))
}

/// Appends the uncompressed wire name of `key` below `apex`, in lower case, or in the spelling
/// that `case` holds: one bit per label octet in wire order, 1 = upper case. Gives the number of
/// labels below the apex.
pub fn push_wire(key: &[u8], case: Option<&[u8]>, apex: &[u8], out: &mut Vec<u8>) -> u8 {
    if case.is_some() || key.contains(&1) {
        return push_wire_slowly(key, case, apex, out);
    }
    // Nothing is escaped: labels are copied as they stand, the leftmost first.
    let (mut end, mut labels) = (key.len(), 0);
    while end > 0 {
        let start = label_start(key, end);
        out.push((end - 1 - start) as u8);
        out.extend_from_slice(&key[start..end - 1]);
        (end, labels) = (start, labels + 1);
    }
    out.extend_from_slice(apex);
    labels
}

/// True only if the key is one label and nothing in it is escaped. Without a loop where keys are as
/// short as most are: how often it would run cannot be foreseen.
#[inline]
pub(crate) fn is_one_plain_label(key: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Octets below 2 get their high bit, and so may others above such an octet.
    let low = |octets: &[u8; 8]| {
        let b = u64::from_le_bytes(*octets);
        b.wrapping_sub(2 * ONES) & !b & (0x80 * ONES)
    };
    let Some((end, label)) = key.split_last() else {
        return false;
    };
    match (label.first_chunk::<8>(), key.last_chunk::<8>()) {
        // The closing octet alone, which is the highest of its eight.
        (Some(first), Some(last)) if key.len() <= 16 => {
            low(first) == 0 && low(last) == 0x80 << 56 && *end == 0
        }
        _ => *end == 0 && matches!(label.len(), 1..=63) && label.iter().all(|b| *b > 1),
    }
}

/// Where the label begins whose closing `00` is at `end - 1`.
fn label_start(key: &[u8], end: usize) -> usize {
    let before = key[..end - 1].iter().rposition(|&b| b == 0);
    before.map_or(0, |i| i + 1)
}

fn push_wire_slowly(key: &[u8], case: Option<&[u8]>, apex: &[u8], out: &mut Vec<u8>) -> u8 {
    let (mut end, mut labels) = (key.len(), 0);
    let mut bit = 0usize;
    while end > 0 {
        let start = label_start(key, end);
        let at = out.len();
        out.push(0);
        let mut label = key[start..end - 1].iter();
        while let Some(&b) = label.next() {
            let b = match b {
                1 => label.next().map_or(0, |&e| e - 1),
                b => b,
            };
            let upper =
                case.is_some_and(|c| c.get(bit / 8).is_some_and(|v| v >> (bit % 8) & 1 == 1));
            out.push(if upper { b.to_ascii_uppercase() } else { b });
            bit += 1;
        }
        out[at] = (out.len() - at - 1) as u8;
        (end, labels) = (start, labels + 1);
    }
    out.extend_from_slice(apex);
    labels
}

/// The spelling of the labels of `owner` below `apex`, or `None` when all are lower case.
pub fn case_of(apex: &Name, owner: &[u8]) -> Option<Vec<u8>> {
    let relative = &owner[..owner.len().saturating_sub(apex.as_wire().len())];
    if !relative.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut bits = Vec::new();
    let mut bit = 0usize;
    let mut rest = relative;
    while let Some((&len, tail)) = rest.split_first() {
        let (label, tail) = tail.split_at((len as usize).min(tail.len()));
        for b in label {
            if bit.is_multiple_of(8) {
                bits.push(0);
            }
            if b.is_ascii_uppercase() {
                bits[bit / 8] |= 1 << (bit % 8);
            }
            bit += 1;
        }
        rest = tail;
    }
    Some(bits)
}

/// The name of a key.
pub fn to_name(key: &[u8], case: Option<&[u8]>, apex: &Name) -> Name {
    let mut wire = Vec::with_capacity(key.len() + apex.as_wire().len() + 8);
    push_wire(key, case, apex.as_wire(), &mut wire);
    Name::from_wire(&wire).unwrap_or_else(|_| apex.clone())
}

/// True if the leftmost label of the name is `*`.
pub fn is_wildcard(key: &[u8]) -> bool {
    key == b"*\0" || key.ends_with(b"\0*\0")
}

/// Number of labels in an uncompressed name, as RRSIG counts them: without root, without a
/// leading `*` (RFC 4034 §3.1.3).
pub fn rrsig_labels(owner: &[u8]) -> u8 {
    let n = Labels::of(owner).count() as u8;
    if owner.starts_with(b"\x01*") {
        n - 1
    } else {
        n
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Names biased to what breaks orders: escapes, equal prefixes, wildcards, case, depth.
    pub(crate) fn any_relative() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let octet = prop_oneof![
            5 => prop::sample::select(&b"aAbBz0-*"[..]),
            1 => prop::sample::select(&[0u8, 1, 2, 0x20, 0x2e, 0x5c, 0x7f, 0x80, 0xff, b'@', b'['][..]),
        ];
        let label = prop_oneof![
            8 => prop::collection::vec(octet, 1..5),
            1 => Just(vec![b'x'; 63]),
            1 => Just(b"*".to_vec()),
        ];
        prop::collection::vec(label, 0..4)
    }

    fn wire_of(labels: &[Vec<u8>], apex: &Name) -> Option<Vec<u8>> {
        let mut name = apex.clone();
        for l in labels.iter().rev() {
            name = name.child(l).ok()?;
        }
        Some(name.as_wire().to_vec())
    }

    proptest! {
        #[test]
        fn one_plain_label_is_that(label in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..24)) {
            let plain = |label: &[u8]| !label.is_empty() && label.iter().all(|b| *b > 1);
            let mut key = label.clone();
            key.push(0);
            prop_assert_eq!(is_one_plain_label(&key), plain(&label));
            prop_assert!(label.last().is_none_or(|b| *b == 0) || !is_one_plain_label(&label));
        }
    }

    #[test]
    fn printed_examples() {
        let apex = Name::parse("example").unwrap();
        let k = |t: &str| key_of(&apex, Name::parse(t).unwrap().as_wire()).unwrap();
        assert_eq!(k("example"), b"");
        assert_eq!(k("a.EXAMPLE"), b"a\0");
        assert_eq!(k("z.a.example"), b"a\0z\0");
        assert_eq!(k("\\000.example"), b"\x01\x01\0");
        assert_eq!(
            key_of(&apex, Name::parse("a.other").unwrap().as_wire()),
            None
        );
        // `xexample.` ends in the same octets but not on a label boundary.
        assert_eq!(key_of(&apex, b"\x08\x07example\0"), None);
        assert_eq!(parent(b"a\0z\0"), Some(&b"a\0"[..]));
        assert_eq!(parent(b"a\0"), Some(&b""[..]));
        assert_eq!(parent(b""), None);
        assert_eq!(ancestors_from_apex(b"a\0z\0").count(), 3);
        assert_eq!(labels(b"").count(), 0);
        assert_eq!(labels(b"a\0z\0").collect::<Vec<_>>(), [b"a", b"z"]);
        assert!(is_wildcard(b"*\0") && is_wildcard(b"a\0*\0") && !is_wildcard(b"a*\0"));
    }

    proptest! {
        #[test]
        fn order_is_canonical(a in any_relative(), b in any_relative()) {
            let apex = Name::parse("eXample.nl").unwrap();
            let (Some(a), Some(b)) = (wire_of(&a, &apex), wire_of(&b, &apex)) else { return Ok(()) };
            let (na, nb) = (Name::from_wire(&a).unwrap(), Name::from_wire(&b).unwrap());
            let (ka, kb) = (key_of(&apex, &a).unwrap(), key_of(&apex, &b).unwrap());
            prop_assert_eq!(ka.cmp(&kb), na.cmp(&nb));
            prop_assert_eq!(below(&ka, &kb), na != nb && na.is_at_or_below(&nb));
            prop_assert!(ka.len() <= MAX_KEY);
        }

        #[test]
        fn spelling_round_trips(a in any_relative()) {
            let apex = Name::parse("eXample.nl").unwrap();
            let Some(a) = wire_of(&a, &apex) else { return Ok(()) };
            let (key, case) = (key_of(&apex, &a).unwrap(), case_of(&apex, &a));
            let back = to_name(&key, case.as_deref(), &apex);
            prop_assert_eq!(back.as_wire(), &a[..]);
            let mut lower = Vec::new();
            push_wire(&key, None, apex.as_wire(), &mut lower);
            prop_assert!(lower.eq_ignore_ascii_case(&a));
        }
    }
}
