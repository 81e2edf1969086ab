//! The little DER (X.690) that public keys and ECDSA signatures need, strict and bounded.

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;

/// Takes one element of type `kind` from the front of `input`.
pub(crate) fn take<'a>(input: &mut &'a [u8], kind: u8) -> Option<&'a [u8]> {
    let (&[found, first], mut rest) = input.split_first_chunk::<2>()?;
    if found != kind {
        return None;
    }
    let len = match first {
        0..=0x7F => usize::from(first),
        0x81 => {
            let (&len, after) = rest.split_first()?;
            rest = after;
            // DER: the shortest form only.
            (len >= 0x80).then_some(usize::from(len))?
        }
        0x82 => {
            let (&len, after) = rest.split_first_chunk::<2>()?;
            rest = after;
            let len = u16::from_be_bytes(len);
            (len >= 0x100).then_some(usize::from(len))?
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(len)?;
    *input = rest;
    Some(value)
}

/// A non-negative INTEGER without leading zeros.
pub(crate) fn take_unsigned<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    match take(input, INTEGER)? {
        [] => None,
        [0] => Some(&[]),
        [0, rest @ ..] if rest[0] >= 0x80 => Some(rest),
        // Negative, or a zero that is not needed.
        [0, ..] | [0x80..=0xFF, ..] => None,
        number => Some(number),
    }
}

pub(crate) fn put(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.push(kind);
    // Values here are at most a few thousand octets.
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    let [high, low] = len.to_be_bytes();
    match len {
        0..=0x7F => out.push(low),
        0x80..=0xFF => out.extend_from_slice(&[0x81, low]),
        _ => out.extend_from_slice(&[0x82, high, low]),
    }
    out.extend_from_slice(value);
}

pub(crate) fn put_unsigned(out: &mut Vec<u8>, number: &[u8]) {
    let number = trim(number);
    let mut value = Vec::with_capacity(number.len() + 1);
    if number.first().is_none_or(|&o| o >= 0x80) {
        value.push(0);
    }
    value.extend_from_slice(number);
    put(out, INTEGER, &value);
}

/// Without leading zeros.
pub(crate) fn trim(number: &[u8]) -> &[u8] {
    let first = number.iter().position(|&o| o != 0);
    &number[first.unwrap_or(number.len())..]
}
