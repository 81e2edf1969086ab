//! Little-endian integers and LEB128 varints of the store's layouts, with checked reading.

/// Appends a varint, at most 5 octets.
pub fn push_varint(mut v: u32, out: &mut Vec<u8>) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Counts of one leaf or block; `None` if one has more than 32 bits.
pub(crate) fn push_counts(counts: &[u64], out: &mut Vec<u8>) -> Option<()> {
    for c in counts {
        push_varint(u32::try_from(*c).ok()?, out);
    }
    Some(())
}

pub(crate) fn read_counts<const N: usize>(r: &mut Reader<'_>) -> Option<[u64; N]> {
    let mut counts = [0; N];
    for c in &mut counts {
        *c = r.varint()?.into();
    }
    Some(counts)
}

/// Earliest expiration, after an octet that says whether there is one, and masks of keys.
pub(crate) fn push_masks(min_exp: Option<u32>, any: u16, full: u16, out: &mut Vec<u8>) {
    out.push(min_exp.is_some() as u8);
    out.extend_from_slice(&min_exp.unwrap_or_default().to_le_bytes());
    out.extend_from_slice(&any.to_le_bytes());
    out.extend_from_slice(&full.to_le_bytes());
}

pub(crate) fn read_masks(r: &mut Reader<'_>) -> Option<(Option<u32>, u16, u16)> {
    let (known, exp) = (r.u8()?, r.u32()?);
    let min_exp = match known {
        0 if exp == 0 => None,
        1 => Some(exp),
        _ => return None,
    };
    Some((min_exp, r.u16()?, r.u16()?))
}

/// A cursor over immutable bytes; every read is checked, a short buffer gives `None`.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Reader { rest }
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(n)?;
        self.rest = tail;
        Some(head)
    }

    pub fn u8(&mut self) -> Option<u8> {
        let (&b, tail) = self.rest.split_first()?;
        self.rest = tail;
        Some(b)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.rest.split_first_chunk::<N>()?;
        self.rest = tail;
        Some(*head)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub fn varint(&mut self) -> Option<u32> {
        let (&b, tail) = self.rest.split_first()?;
        if b < 0x80 {
            self.rest = tail;
            return Some(b as u32);
        }
        let mut v = 0u64;
        for i in 0..5 {
            let b = *self.rest.get(i)?;
            v |= ((b & 0x7f) as u64) << (7 * i);
            if b < 0x80 {
                self.rest = &self.rest[i + 1..];
                return u32::try_from(v).ok();
            }
        }
        None
    }
}

/// Reads a little-endian u16 at a fixed place; 0 beyond the end (decoders check lengths first).
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..at + 2)
        .map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

/// Reads a little-endian u32 at a fixed place; 0 beyond the end.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip(v: u32, tail in prop::collection::vec(any::<u8>(), 0..3)) {
            let mut out = Vec::new();
            push_varint(v, &mut out);
            prop_assert!(out.len() <= 5);
            let cut = out.len();
            out.extend_from_slice(&tail);
            let mut r = Reader::new(&out);
            prop_assert_eq!(r.varint(), Some(v));
            prop_assert_eq!(r.rest(), &tail[..]);
            prop_assert_eq!(Reader::new(&out[..cut - 1]).varint(), None);
        }
    }

    #[test]
    fn overlong_varints_are_refused() {
        assert_eq!(Reader::new(&[0xff; 6]).varint(), None);
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).varint(), None);
    }
}
