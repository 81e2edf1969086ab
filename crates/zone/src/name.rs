//! Absolute domain names in wire form.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use thiserror::Error;

/// Longest name in wire form (RFC 1035 §2.3.4).
pub const MAX_NAME: usize = 255;
/// Longest label (RFC 1035 §2.3.4).
pub const MAX_LABEL: usize = 63;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("name is empty")]
    Empty,
    #[error("label of {0} octets; at most 63 are allowed (RFC 1035 §2.3.4)")]
    LongLabel(usize),
    #[error("name of more than 255 octets (RFC 1035 §2.3.4)")]
    LongName,
    #[error("empty label inside a name")]
    EmptyLabel,
    #[error("bad escape: write \\DDD with a value up to 255, or \\ and a character")]
    BadEscape,
    #[error("name is cut short")]
    Truncated,
    #[error("octets follow the name")]
    Trailing,
    #[error("compression pointer or unknown label type where none is allowed")]
    BadLabelType,
}

/// An absolute name, uncompressed, at most 255 octets, spelling as received.
///
/// Equality and hashing ignore ASCII case (RFC 4343); `Ord` is canonical order (RFC 4034 §6.1).
#[derive(Clone)]
pub struct Name(Box<[u8]>);

impl Name {
    pub fn root() -> Name {
        Name(Box::new([0]))
    }

    /// From exactly one uncompressed name.
    pub fn from_wire(wire: &[u8]) -> Result<Name, NameError> {
        let len = wire_len(wire)?;
        if len != wire.len() {
            return Err(NameError::Trailing);
        }
        Ok(Name(wire.into()))
    }

    /// The name at the start of `wire` and its length.
    pub fn from_prefix(wire: &[u8]) -> Result<(Name, usize), NameError> {
        let len = wire_len(wire)?;
        Ok((Name(wire[..len].into()), len))
    }

    /// Parses presentation form, with or without the final dot; `.` is the root.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        if bytes == b"." {
            return Ok(Name::root());
        }
        let mut wire: Vec<u8> = Vec::with_capacity(bytes.len() + 2);
        let mut start = 0;
        wire.push(0);
        let mut i = 0;
        let close = |wire: &mut Vec<u8>, start: usize| -> Result<(), NameError> {
            let len = wire.len() - start - 1;
            match len {
                0 => return Err(NameError::EmptyLabel),
                64.. => return Err(NameError::LongLabel(len)),
                _ => wire[start] = len as u8,
            }
            Ok(())
        };
        while i < bytes.len() {
            match bytes[i] {
                b'.' => {
                    close(&mut wire, start)?;
                    start = wire.len();
                    wire.push(0);
                    i += 1;
                }
                b'\\' => {
                    let (octet, used) = unescape(&bytes[i..]).ok_or(NameError::BadEscape)?;
                    wire.push(octet);
                    i += used;
                }
                c => {
                    wire.push(c);
                    i += 1;
                }
            }
        }
        if wire.len() - start > 1 {
            close(&mut wire, start)?;
            wire.push(0);
        }
        if wire.len() > MAX_NAME {
            return Err(NameError::LongName);
        }
        Ok(Name(wire.into()))
    }

    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// Labels from the leftmost to the topmost, without the root label.
    pub fn labels(&self) -> Labels<'_> {
        Labels(&self.0)
    }

    /// Number of labels without the root label.
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// The name without its leftmost label; `None` for the root.
    pub fn parent(&self) -> Option<Name> {
        if self.is_root() {
            return None;
        }
        let skip = 1 + self.0[0] as usize;
        Some(Name(self.0[skip..].into()))
    }

    /// `label` put in front of the name.
    pub fn child(&self, label: &[u8]) -> Result<Name, NameError> {
        if label.is_empty() {
            return Err(NameError::EmptyLabel);
        }
        if label.len() > MAX_LABEL {
            return Err(NameError::LongLabel(label.len()));
        }
        let mut wire = Vec::with_capacity(self.0.len() + label.len() + 1);
        wire.push(label.len() as u8);
        wire.extend_from_slice(label);
        wire.extend_from_slice(&self.0);
        if wire.len() > MAX_NAME {
            return Err(NameError::LongName);
        }
        Ok(Name(wire.into()))
    }

    /// True if the name equals `ancestor` or lies below it.
    pub fn is_at_or_below(&self, ancestor: &Name) -> bool {
        let (mine, theirs) = (self.label_count(), ancestor.label_count());
        mine >= theirs
            && self
                .labels()
                .skip(mine - theirs)
                .zip(ancestor.labels())
                .all(|(a, b)| a.eq_ignore_ascii_case(b))
    }

    pub fn to_lowercase(&self) -> Name {
        // Length octets are below 64 and thus never letters.
        Name(self.0.to_ascii_lowercase().into())
    }

    /// True if the leftmost label is `*` (RFC 4592 §2.1.1).
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(b"\x01*")
    }

    /// Presentation form without the final dot (`.` for the root), as the CLI shows zones.
    pub fn without_dot(&self) -> String {
        let mut text = self.to_string();
        if text.len() > 1 {
            text.pop();
        }
        text
    }
}

/// Length of the uncompressed name at the start of `wire`.
pub fn wire_len(wire: &[u8]) -> Result<usize, NameError> {
    let mut i = 0;
    loop {
        match wire.get(i) {
            None => return Err(NameError::Truncated),
            Some(0) => {
                return if i < MAX_NAME {
                    Ok(i + 1)
                } else {
                    Err(NameError::LongName)
                };
            }
            Some(&n) if n > 63 => return Err(NameError::BadLabelType),
            Some(&n) => i += 1 + n as usize,
        }
        if i >= MAX_NAME {
            return Err(NameError::LongName);
        }
    }
}

/// Decodes `\DDD` or `\c` at the start of `text`; gives the octet and how much was used.
pub fn unescape(text: &[u8]) -> Option<(u8, usize)> {
    let (&first, rest) = text.get(1..)?.split_first()?;
    if !first.is_ascii_digit() {
        return Some((first, 2));
    }
    let (d2, d3) = (*rest.first()?, *rest.get(1)?);
    if !d2.is_ascii_digit() || !d3.is_ascii_digit() {
        return None;
    }
    let v = (first - b'0') as u32 * 100 + (d2 - b'0') as u32 * 10 + (d3 - b'0') as u32;
    u8::try_from(v).ok().map(|v| (v, 4))
}

/// Iterator over labels, leftmost first.
#[derive(Debug, Clone)]
pub struct Labels<'a>(&'a [u8]);

impl<'a> Labels<'a> {
    /// Over an uncompressed name that has been checked.
    pub fn of(wire: &'a [u8]) -> Self {
        Labels(wire)
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        let (&len, rest) = self.0.split_first()?;
        if len == 0 || rest.len() < len as usize {
            return None;
        }
        let (label, rest) = rest.split_at(len as usize);
        self.0 = rest;
        Some(label)
    }
}

/// Writes the octets of a label in presentation form (RFC 1035 §5.1, RFC 4343 §2.1).
pub fn write_label(label: &[u8], out: &mut impl fmt::Write) -> fmt::Result {
    for &b in label {
        match b {
            b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                write!(out, "\\{}", b as char)?
            }
            0x21..=0x7e => out.write_char(b as char)?,
            _ => write!(out, "\\{b:03}")?,
        }
    }
    Ok(())
}

/// Writes an uncompressed wire name in presentation form with final dot.
pub fn write_name(wire: &[u8], out: &mut impl fmt::Write) -> fmt::Result {
    if wire.first().is_none_or(|&n| n == 0) {
        return out.write_char('.');
    }
    for label in Labels::of(wire) {
        write_label(label, out)?;
        out.write_char('.')?;
    }
    Ok(())
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(&self.0, f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}
impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for b in &self.0 {
            state.write_u8(b.to_ascii_lowercase());
        }
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        let a: Vec<&[u8]> = self.labels().collect();
        let b: Vec<&[u8]> = other.labels().collect();
        let lower = |l: &[u8]| l.to_ascii_lowercase();
        a.iter()
            .rev()
            .map(|l| lower(l))
            .cmp(b.iter().rev().map(|l| lower(l)))
    }
}
impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Name, NameError> {
        Name::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presentation_round_trips() {
        for text in [
            ".",
            "example.",
            "a\\.b.example.",
            "\\000\\255.x.",
            "0/25.2.0.192.in-addr.arpa.",
        ] {
            assert_eq!(Name::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Name::parse("example.net").unwrap().to_string(),
            "example.net."
        );
        assert_eq!(Name::parse("a\\046b.c").unwrap().to_string(), "a\\.b.c.");
    }

    #[test]
    fn bad_names_are_named() {
        assert_eq!(Name::parse("a..b"), Err(NameError::EmptyLabel));
        assert_eq!(Name::parse(".a"), Err(NameError::EmptyLabel));
        assert_eq!(Name::parse("a\\25"), Err(NameError::BadEscape));
        assert_eq!(Name::parse("a\\256.b"), Err(NameError::BadEscape));
        assert_eq!(Name::parse(&"a".repeat(64)), Err(NameError::LongLabel(64)));
        assert_eq!(Name::parse(&"a.".repeat(128)), Err(NameError::LongName));
        assert!(Name::parse(&"a.".repeat(127)).is_ok());
        assert_eq!(Name::from_wire(b"\xc0\x00"), Err(NameError::BadLabelType));
        assert_eq!(Name::from_wire(b"\x01a\x00\x00"), Err(NameError::Trailing));
        assert_eq!(Name::from_wire(b"\x01a"), Err(NameError::Truncated));
    }

    #[test]
    fn canonical_order_of_rfc4034() {
        // RFC 4034 §6.1, the example as printed.
        let names: Vec<Name> = [
            "example",
            "a.example",
            "yljkjljk.a.example",
            "Z.a.example",
            "zABC.a.EXAMPLE",
            "z.example",
            "\\001.z.example",
            "*.z.example",
            "\\200.z.example",
        ]
        .iter()
        .map(|t| Name::parse(t).unwrap())
        .collect();
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(names, sorted);
    }

    #[test]
    fn below() {
        let n = |t| Name::parse(t).unwrap();
        assert!(n("a.B.c").is_at_or_below(&n("b.C")));
        assert!(n("b.c").is_at_or_below(&n("b.c")));
        assert!(!n("xb.c").is_at_or_below(&n("b.c")));
        assert!(n("b.c").is_at_or_below(&Name::root()));
        assert!(!n("c").is_at_or_below(&n("b.c")));
    }
}
