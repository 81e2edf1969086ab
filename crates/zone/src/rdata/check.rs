//! The wire checker: RDATA as it must be before anything else looks at it.

use std::fmt;

use super::{Field, fields};
use crate::name::{NameError, wire_len};
use crate::rtype::Rtype;

/// RDATA that its type does not allow: what is wrong, and at which octet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RdataError {
    pub at: usize,
    pub problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// OPT, TSIG, ANY and the like are never zone data (RFC 6895 §3.1).
    Meta,
    /// RDATA ends inside a field.
    Short,
    /// Octets follow the last field.
    Trailing,
    /// More than 65,535 octets.
    Long,
    Name(NameError),
    /// A type bitmap with windows out of order, empty, or with a trailing zero octet.
    Bitmap,
    /// A value outside its range; the field in words.
    Range(&'static str),
    /// A field that must not be empty; the field in words.
    Empty(&'static str),
    /// Service parameter keys not in ascending order (RFC 9460 §2.2).
    KeyOrder,
    /// A service parameter whose value its key does not allow.
    SvcParam(u16),
}

impl fmt::Display for RdataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Problem::Meta => return f.write_str("the type is for messages, not for zones"),
            Problem::Short => f.write_str("the data ends too early")?,
            Problem::Trailing => f.write_str("data after the last field")?,
            Problem::Long => f.write_str("more than 65535 octets")?,
            Problem::Name(e) => e.fmt(f)?,
            Problem::Bitmap => f.write_str("malformed type bitmap (RFC 4034 §4.1.2)")?,
            Problem::Range(what) => write!(f, "{what} out of range")?,
            Problem::Empty(what) => write!(f, "{what} is empty")?,
            Problem::KeyOrder => {
                f.write_str("service parameter keys not in ascending order (RFC 9460 §2.2)")?
            }
            Problem::SvcParam(key) => write!(f, "bad value of service parameter key{key}")?,
        }
        write!(f, ", at octet {}", self.at)
    }
}

impl std::error::Error for RdataError {}

/// Checks that `rdata` is exactly the wire form of `rtype`, names uncompressed.
///
/// Opaque types pass as they are.
///
/// # Errors
/// Names the first problem and its octet.
pub fn check_wire(rtype: Rtype, rdata: &[u8]) -> Result<(), RdataError> {
    if rtype.is_meta() {
        return Err(RdataError {
            at: 0,
            problem: Problem::Meta,
        });
    }
    if rdata.len() > 65535 {
        return Err(RdataError {
            at: 65535,
            problem: Problem::Long,
        });
    }
    let Some(fields) = fields(rtype) else {
        return Ok(());
    };
    let mut c = Cursor { data: rdata, at: 0 };
    for &field in fields {
        c.check(field)
            .map_err(|problem| RdataError { at: c.at, problem })?;
    }
    if c.at < rdata.len() {
        return Err(RdataError {
            at: c.at,
            problem: Problem::Trailing,
        });
    }
    Ok(())
}

/// Reads fields one after the other; never past the end.
pub(super) struct Cursor<'a> {
    pub data: &'a [u8],
    pub at: usize,
}

type Checked<T = ()> = Result<T, Problem>;

impl<'a> Cursor<'a> {
    pub fn take(&mut self, n: usize) -> Checked<&'a [u8]> {
        let got = self.data.get(self.at..self.at + n).ok_or(Problem::Short)?;
        self.at += n;
        Ok(got)
    }

    pub fn rest(&mut self) -> &'a [u8] {
        let got = &self.data[self.at..];
        self.at = self.data.len();
        got
    }

    pub fn u8(&mut self) -> Checked<u8> {
        Ok(self.take(1)?[0])
    }

    pub fn u16(&mut self) -> Checked<u16> {
        let b = self.take(2)?;
        Ok(u16::from_be_bytes([b[0], b[1]]))
    }

    pub fn u32(&mut self) -> Checked<u32> {
        let b = self.take(4)?;
        Ok(u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    pub fn string(&mut self) -> Checked<&'a [u8]> {
        let n = self.u8()?;
        self.take(n as usize)
    }

    pub fn name(&mut self) -> Checked<&'a [u8]> {
        let n = wire_len(&self.data[self.at..]).map_err(Problem::Name)?;
        self.take(n)
    }

    pub fn is_empty(&self) -> bool {
        self.at >= self.data.len()
    }

    fn check(&mut self, field: Field) -> Checked {
        match field {
            Field::U8 | Field::Algorithm | Field::Scheme => drop(self.take(1)?),
            Field::U16 | Field::Type | Field::CertType => drop(self.take(2)?),
            Field::U32 | Field::Period | Field::Time | Field::Ipv4 => drop(self.take(4)?),
            Field::U64 | Field::Locator => drop(self.take(8)?),
            Field::Ipv6 => drop(self.take(16)?),
            Field::Eui(n) => drop(self.take(n as usize)?),
            Field::Name => drop(self.name()?),
            Field::Names => {
                while !self.is_empty() {
                    self.name()?;
                }
            }
            Field::Str => drop(self.string()?),
            Field::Tag => {
                let tag = self.string()?;
                if tag.is_empty() {
                    return Err(Problem::Empty("tag"));
                }
                if !tag.iter().all(u8::is_ascii_alphanumeric) {
                    return Err(Problem::Range(
                        "tag: letters and digits are allowed, its value",
                    ));
                }
            }
            Field::OptStr => {
                if !self.is_empty() {
                    self.string()?;
                }
            }
            Field::Strs => {
                self.string()?;
                while !self.is_empty() {
                    self.string()?;
                }
            }
            Field::Text | Field::OptBase64 => drop(self.rest()),
            Field::Hex(min) => {
                self.take(min as usize)?;
                self.rest();
            }
            Field::Nsap | Field::Base64 => {
                self.take(1)?;
                self.rest();
            }
            Field::Salt => drop(self.string()?),
            Field::Hash => {
                if self.string()?.is_empty() {
                    return Err(Problem::Empty("hash"));
                }
            }
            Field::Types => self.bitmap()?,
            Field::NxtTypes => {
                let bits = self.rest();
                if bits.is_empty() || bits.len() > 16 || bits[0] & 0x80 != 0 {
                    return Err(Problem::Bitmap);
                }
            }
            Field::Atma => {
                if self.u8()? == 1 && !self.data[self.at..].iter().all(u8::is_ascii_digit) {
                    return Err(Problem::Range("E.164 digit"));
                }
                self.take(1)?;
                self.rest();
            }
            Field::Loc => self.loc()?,
            Field::Services => {
                self.take(1)?;
                if self.rest().len() > 8192 {
                    return Err(Problem::Range("port"));
                }
            }
            Field::A6 => {
                let prefix = self.u8()?;
                if prefix > 128 {
                    return Err(Problem::Range("prefix length"));
                }
                self.take((128 - prefix as usize).div_ceil(8))?;
                if prefix > 0 {
                    self.name()?;
                }
            }
            Field::Apl => self.apl()?,
            Field::Gateway => {
                let kind = self.u8()?;
                self.take(1)?;
                self.address(kind)?;
            }
            Field::Relay => {
                let kind = self.u8()? & 0x7f;
                self.address(kind)?;
            }
            Field::Hip => {
                let hit = self.u8()? as usize;
                self.take(1)?;
                let key = self.u16()? as usize;
                if hit == 0 || key == 0 {
                    return Err(Problem::Empty("HIT or public key"));
                }
                self.take(hit + key)?;
            }
            Field::SvcParams => self.svc_params()?,
        }
        Ok(())
    }

    fn bitmap(&mut self) -> Checked {
        let mut previous = None;
        while !self.is_empty() {
            let window = self.u8()?;
            let bits = self.string()?;
            if previous.is_some_and(|p| window <= p)
                || bits.len() > 32
                || bits.last().is_none_or(|&b| b == 0)
            {
                return Err(Problem::Bitmap);
            }
            previous = Some(window);
        }
        Ok(())
    }

    /// Nothing, IPv4, IPv6 or a name (RFC 4025 §2.5, RFC 8777 §4.2.4); other kinds run to the end.
    fn address(&mut self, kind: u8) -> Checked {
        match kind {
            0 => {}
            1 => drop(self.take(4)?),
            2 => drop(self.take(16)?),
            3 => drop(self.name()?),
            _ => drop(self.rest()),
        }
        Ok(())
    }

    fn loc(&mut self) -> Checked {
        // RFC 1876 §2: other versions have another, unknown form.
        if self.u8()? != 0 {
            self.rest();
            return Ok(());
        }
        let sizes = self.take(3)?;
        if sizes.iter().any(|&s| s >> 4 > 9 || s & 15 > 9) {
            return Err(Problem::Range("size or precision"));
        }
        const DEGREE: u32 = 3_600_000;
        if self.u32()?.abs_diff(1 << 31) > 90 * DEGREE {
            return Err(Problem::Range("latitude"));
        }
        if self.u32()?.abs_diff(1 << 31) > 180 * DEGREE {
            return Err(Problem::Range("longitude"));
        }
        self.take(4)?;
        Ok(())
    }

    fn apl(&mut self) -> Checked {
        while !self.is_empty() {
            let family = self.u16()?;
            let prefix = self.u8()?;
            let n = (self.u8()? & 0x7f) as usize;
            let (octets, bits) = match family {
                1 => (4, 32),
                2 => (16, 128),
                _ => (127, 255),
            };
            if n > octets || prefix > bits {
                return Err(Problem::Range("address prefix"));
            }
            self.take(n)?;
        }
        Ok(())
    }

    fn svc_params(&mut self) -> Checked {
        let mut previous = None;
        while !self.is_empty() {
            let key = self.u16()?;
            if previous.is_some_and(|p| key <= p) {
                return Err(Problem::KeyOrder);
            }
            previous = Some(key);
            let n = self.u16()? as usize;
            let value = self.take(n)?;
            if !svc_value_ok(key, value) {
                return Err(Problem::SvcParam(key));
            }
        }
        Ok(())
    }
}

/// RFC 9460 §7 and §8, RFC 9461 §5, RFC 9540 §4: the values that the known keys allow.
fn svc_value_ok(key: u16, value: &[u8]) -> bool {
    let pairs = || {
        value
            .chunks(2)
            .map(|p| u16::from_be_bytes([p[0], *p.get(1).unwrap_or(&0)]))
    };
    match key {
        0 => {
            let mut last = None;
            !value.is_empty()
                && value.len().is_multiple_of(2)
                && pairs().all(|k| k != 0 && last.replace(k).is_none_or(|l| l < k))
        }
        1 => {
            let mut rest = value;
            while let Some((&n, tail)) = rest.split_first() {
                if n == 0 || tail.len() < n as usize {
                    return false;
                }
                rest = &tail[n as usize..];
            }
            !value.is_empty()
        }
        2 | 8 => value.is_empty(),
        3 => value.len() == 2,
        4 => !value.is_empty() && value.len().is_multiple_of(4),
        6 => !value.is_empty() && value.len().is_multiple_of(16),
        7 => !value.is_empty() && std::str::from_utf8(value).is_ok(),
        9 => !value.is_empty() && value.len().is_multiple_of(2),
        65535 => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(t: Rtype, rdata: &[u8]) -> Option<Problem> {
        check_wire(t, rdata).err().map(|e| e.problem)
    }

    #[test]
    fn short_long_and_trailing() {
        assert_eq!(problem(Rtype::A, &[1, 2, 3]), Some(Problem::Short));
        assert_eq!(problem(Rtype::A, &[1, 2, 3, 4, 5]), Some(Problem::Trailing));
        assert_eq!(problem(Rtype::A, &[1, 2, 3, 4]), None);
        assert_eq!(problem(Rtype::TXT, &[]), Some(Problem::Short));
        assert_eq!(problem(Rtype::OPT, &[]), Some(Problem::Meta));
        assert_eq!(problem(Rtype(65280), b"anything"), None);
        assert_eq!(problem(Rtype::NULL, &vec![0; 65536]), Some(Problem::Long));
    }

    #[test]
    fn names_must_be_uncompressed() {
        assert_eq!(
            problem(Rtype::NS, b"\xc0\x0c"),
            Some(Problem::Name(NameError::BadLabelType))
        );
        assert_eq!(
            problem(Rtype::NS, b"\x01a"),
            Some(Problem::Name(NameError::Truncated))
        );
    }

    #[test]
    fn bitmaps() {
        assert_eq!(problem(Rtype::NSEC, b"\x00\x00\x01\x40"), None);
        assert_eq!(
            problem(Rtype::NSEC, b"\x00\x00\x02\x40\x00"),
            Some(Problem::Bitmap)
        );
        assert_eq!(
            problem(Rtype::NSEC, b"\x00\x01\x01\x40\x00\x01\x40"),
            Some(Problem::Bitmap)
        );
    }

    #[test]
    fn service_parameters() {
        let ok = b"\x00\x01\x00\x00\x01\x00\x03\x02h2\x00\x03\x00\x02\x01\xbb";
        assert_eq!(problem(Rtype::HTTPS, ok), None);
        let order = b"\x00\x01\x00\x00\x03\x00\x02\x01\xbb\x00\x01\x00\x03\x02h2";
        assert_eq!(problem(Rtype::HTTPS, order), Some(Problem::KeyOrder));
        let port = b"\x00\x01\x00\x00\x03\x00\x01\x01";
        assert_eq!(problem(Rtype::HTTPS, port), Some(Problem::SvcParam(3)));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(t in 0u16..300, rdata: Vec<u8>) {
            let _ = check_wire(Rtype(t), &rdata);
            let mut out = String::new();
            super::super::print(Rtype(t), &rdata, &mut out).unwrap();
        }
    }
}
