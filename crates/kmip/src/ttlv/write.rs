//! Writing items.

use super::{Kind, Tag, append, padded};
use crate::enums::Enumeration;

/// Builds a message in memory. Lengths of structures are filled in when they end.
#[derive(Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub fn new() -> Writer {
        Writer::default()
    }

    pub fn with_capacity(octets: usize) -> Writer {
        Writer {
            out: Vec::with_capacity(octets),
        }
    }

    pub fn len(&self) -> usize {
        self.out.len()
    }

    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    fn header(&mut self, tag: Tag, kind: Kind, len: usize) {
        let [_, t0, t1, t2] = tag.0.to_be_bytes();
        append(&mut self.out, &[t0, t1, t2, kind as u8]);
        // Messages are bounded far below 4 GiB by the limits of both sides; a value that is not
        // would be cut here into something the peer refuses, never into something it misreads.
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        append(&mut self.out, &len.to_be_bytes());
    }

    fn value(&mut self, tag: Tag, kind: Kind, value: &[u8]) {
        self.header(tag, kind, value.len());
        append(&mut self.out, value);
        let padding = padded(value.len()) - value.len();
        append(&mut self.out, &[0; 8][..padding]);
    }

    pub fn structure(&mut self, tag: Tag, fields: impl FnOnce(&mut Writer)) {
        self.header(tag, Kind::Structure, 0);
        let start = self.out.len();
        fields(self);
        let len = u32::try_from(self.out.len() - start).unwrap_or(u32::MAX);
        self.out[start - 4..start].copy_from_slice(&len.to_be_bytes());
    }

    pub fn integer(&mut self, tag: Tag, value: i32) {
        self.value(tag, Kind::Integer, &value.to_be_bytes());
    }

    pub fn long(&mut self, tag: Tag, value: i64) {
        self.value(tag, Kind::LongInteger, &value.to_be_bytes());
    }

    /// A number that is not negative, from its octets, most significant first.
    pub fn big_unsigned(&mut self, tag: Tag, number: &[u8]) {
        let first = number.iter().position(|&o| o != 0).unwrap_or(number.len());
        let number = &number[first..];
        // One octet more than needed at least when the sign bit would be set.
        let sign = usize::from(number.first().is_none_or(|&o| o >= 0x80));
        let len = padded(number.len() + sign);
        let mut value = vec![0; len - number.len()];
        value.extend_from_slice(number);
        self.value(tag, Kind::BigInteger, &value);
    }

    pub fn enumeration<E: Enumeration>(&mut self, tag: Tag, value: E) {
        self.value(tag, Kind::Enumeration, &value.code().to_be_bytes());
    }

    pub fn boolean(&mut self, tag: Tag, value: bool) {
        self.value(tag, Kind::Boolean, &u64::from(value).to_be_bytes());
    }

    pub fn text(&mut self, tag: Tag, value: &str) {
        self.value(tag, Kind::TextString, value.as_bytes());
    }

    pub fn octets(&mut self, tag: Tag, value: &[u8]) {
        self.value(tag, Kind::ByteString, value);
    }

    /// Seconds since 1970-01-01 00:00:00 UTC.
    pub fn date_time(&mut self, tag: Tag, value: i64) {
        self.value(tag, Kind::DateTime, &value.to_be_bytes());
    }

    pub fn opt_integer(&mut self, tag: Tag, value: Option<i32>) {
        if let Some(value) = value {
            self.integer(tag, value);
        }
    }

    pub fn opt_enum<E: Enumeration>(&mut self, tag: Tag, value: Option<E>) {
        if let Some(value) = value {
            self.enumeration(tag, value);
        }
    }

    pub fn opt_boolean(&mut self, tag: Tag, value: Option<bool>) {
        if let Some(value) = value {
            self.boolean(tag, value);
        }
    }

    pub fn opt_text(&mut self, tag: Tag, value: Option<&str>) {
        if let Some(value) = value {
            self.text(tag, value);
        }
    }

    pub fn opt_octets(&mut self, tag: Tag, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.octets(tag, value);
        }
    }

    pub fn opt_date_time(&mut self, tag: Tag, value: Option<i64>) {
        if let Some(value) = value {
            self.date_time(tag, value);
        }
    }

    /// An item whose value was read before and is passed on as it is.
    pub fn raw(&mut self, tag: Tag, kind: Kind, value: &[u8]) {
        self.value(tag, kind, value);
    }
}
