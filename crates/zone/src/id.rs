//! Identities: a newtype per id, so that ids cannot be swapped.

use std::fmt;

/// A zone for life: 16 octets, made once at `zone add`, never reused, never derived from the name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneId(pub [u8; 16]);

/// A signing key for life: 16 octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 16]);

/// One immutable state of one zone; strictly increasing per zone, never reused. People see `v42`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VersionId(pub u64);

/// A SOA serial. Compared by RFC 1982 §3.2, so it has no `Ord`: see [`Serial::newer_than`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Serial(pub u32);

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

fn crockford(bytes: &[u8; 16]) -> String {
    let mut v = u128::from_be_bytes(*bytes);
    let mut out = [0u8; 26];
    for c in out.iter_mut().rev() {
        *c = CROCKFORD[(v & 31) as usize];
        v >>= 5;
    }
    out.iter().map(|&b| b as char).collect()
}

fn parse_crockford(text: &str) -> Option<[u8; 16]> {
    if text.len() != 26 {
        return None;
    }
    let mut v: u128 = 0;
    for b in text.bytes() {
        let d = CROCKFORD
            .iter()
            .position(|&c| c == b.to_ascii_uppercase())?;
        if v >> 123 != 0 {
            return None;
        }
        v = v << 5 | d as u128;
    }
    Some(v.to_be_bytes())
}

macro_rules! text_id {
    ($t:ident) => {
        /// 26 characters of Crockford's base 32.
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&crockford(&self.0))
            }
        }
        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($t))
            }
        }
        impl $t {
            /// Reads the 26-character form.
            pub fn parse(text: &str) -> Option<Self> {
                parse_crockford(text).map($t)
            }
        }
    };
}
text_id!(ZoneId);
text_id!(KeyId);

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serial {
    /// RFC 1982 §3.2: `self` > `other`. False for equal and for the undefined distance 2^31.
    pub fn newer_than(self, other: Serial) -> bool {
        let d = self.0.wrapping_sub(other.0);
        d != 0 && d < 1 << 31
    }

    /// RFC 1982 §3.1: plus one modulo 2^32.
    pub fn next(self) -> Serial {
        Serial(self.0.wrapping_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        for b in [0u8, 1, 0x7f, 0xff] {
            let id = ZoneId([b; 16]);
            assert_eq!(ZoneId::parse(&id.to_string()), Some(id));
        }
        assert_eq!(ZoneId::parse("ZZZZZZZZZZZZZZZZZZZZZZZZZZ"), None);
    }

    #[test]
    fn serials_compare_around_the_wrap() {
        assert!(Serial(1).newer_than(Serial(0)));
        assert!(Serial(0).newer_than(Serial(u32::MAX)));
        assert!(!Serial(0).newer_than(Serial(0)));
        assert!(!Serial(1 << 31).newer_than(Serial(0)));
        assert!(!Serial(0).newer_than(Serial(1 << 31)));
        assert!(Serial((1 << 31) - 1).newer_than(Serial(0)));
    }
}
