//! Reading items and the fields of structures.

use super::{Fault, HEADER_LEN, Kind, Tag, TtlvError, padded};
use crate::enums::Enumeration;

/// One item, borrowed from its message.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    pub tag: Tag,
    pub kind: Kind,
    pub value: &'a [u8],
    /// Where the item starts in the message.
    pub offset: usize,
}

/// The item that starts at `at` and must end by `end`.
pub(super) fn item_at(message: &[u8], at: usize, end: usize) -> Result<Item<'_>, TtlvError> {
    let truncated = || Fault::Truncated.at(at);
    let rest = message.get(at..end).ok_or_else(truncated)?;
    let Some((&[t0, t1, t2, code, l0, l1, l2, l3], rest)) = rest.split_first_chunk::<HEADER_LEN>()
    else {
        return Err(truncated());
    };
    let tag = Tag(u32::from_be_bytes([0, t0, t1, t2]));
    if !matches!(t0, 0x42 | 0x54) {
        return Err(Fault::BadTag(tag.0).at(at));
    }
    let kind = Kind::from_code(code).ok_or_else(|| Fault::BadType(code, tag).at(at))?;
    // Never wider than usize on the platforms with 32 bits or more.
    let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    let fits = match kind.fixed_len() {
        Some(fixed) => len == fixed,
        None => match kind {
            Kind::Structure => len.is_multiple_of(8),
            Kind::BigInteger => len > 0 && len.is_multiple_of(8),
            _ => true,
        },
    };
    if !fits {
        return Err(Fault::BadLength { tag, kind, len }.at(at));
    }
    if len > rest.len() || padded(len) > rest.len() {
        return Err(truncated());
    }
    let (value, rest) = rest.split_at(len);
    // KMIP 1.4 §9.1.1.4: padding octets are zero.
    if rest[..padded(len) - len].iter().any(|&octet| octet != 0) {
        return Err(Fault::BadPadding(tag).at(at));
    }
    Ok(Item {
        tag,
        kind,
        value,
        offset: at,
    })
}

impl<'a> Item<'a> {
    /// Where the item ends in the message, padding included.
    pub fn end(&self) -> usize {
        self.offset + HEADER_LEN + padded(self.value.len())
    }

    fn typed(&self, wanted: Kind) -> Result<&'a [u8], TtlvError> {
        if self.kind == wanted {
            return Ok(self.value);
        }
        Err(Fault::WrongType {
            tag: self.tag,
            found: self.kind,
            wanted,
        }
        .at(self.offset))
    }

    fn chunk<const N: usize>(&self, wanted: Kind) -> Result<[u8; N], TtlvError> {
        let value = self.typed(wanted)?;
        value.try_into().map_err(|_| self.refused())
    }

    /// The item's value is of the right type and still wrong.
    pub fn refused(&self) -> TtlvError {
        Fault::BadValue(self.tag).at(self.offset)
    }

    pub fn integer(&self) -> Result<i32, TtlvError> {
        self.chunk(Kind::Integer).map(i32::from_be_bytes)
    }

    pub fn long(&self) -> Result<i64, TtlvError> {
        self.chunk(Kind::LongInteger).map(i64::from_be_bytes)
    }

    /// Two's complement, big-endian, a multiple of eight octets.
    pub fn big(&self) -> Result<&'a [u8], TtlvError> {
        self.typed(Kind::BigInteger)
    }

    pub fn enumeration<E: Enumeration>(&self) -> Result<E, TtlvError> {
        self.chunk(Kind::Enumeration)
            .map(|octets| E::from_code(u32::from_be_bytes(octets)))
    }

    pub fn boolean(&self) -> Result<bool, TtlvError> {
        match self.chunk::<8>(Kind::Boolean)? {
            [0, 0, 0, 0, 0, 0, 0, octet @ (0 | 1)] => Ok(octet == 1),
            _ => Err(Fault::BadBoolean(self.tag).at(self.offset)),
        }
    }

    pub fn text(&self) -> Result<&'a str, TtlvError> {
        let value = self.typed(Kind::TextString)?;
        std::str::from_utf8(value).map_err(|_| Fault::BadText(self.tag).at(self.offset))
    }

    pub fn octets(&self) -> Result<&'a [u8], TtlvError> {
        self.typed(Kind::ByteString)
    }

    /// Seconds since 1970-01-01 00:00:00 UTC.
    pub fn date_time(&self) -> Result<i64, TtlvError> {
        self.chunk(Kind::DateTime).map(i64::from_be_bytes)
    }

    /// The fields of a structure. Fields that nobody asks for are errors; see [`Fields::lenient`].
    pub fn fields(&self) -> Result<Fields<'a>, TtlvError> {
        let value = self.typed(Kind::Structure)?;
        Ok(Fields {
            value,
            base: self.offset + HEADER_LEN,
            at: 0,
            lenient: false,
        })
    }
}

/// Reads the fields of a structure in the order in which the specification lists them.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    value: &'a [u8],
    /// Offset of `value` in the message.
    base: usize,
    at: usize,
    lenient: bool,
}

impl<'a> Fields<'a> {
    /// Skips fields that nobody asks for, as a client must whose server speaks a later version or
    /// adds extensions of its own.
    pub fn lenient(mut self) -> Fields<'a> {
        self.lenient = true;
        self
    }

    fn item_at(&self, at: usize) -> Result<Option<Item<'a>>, TtlvError> {
        if at == self.value.len() {
            return Ok(None);
        }
        match item_at(self.value, at, self.value.len()) {
            Ok(item) => Ok(Some(Item {
                offset: self.base + item.offset,
                ..item
            })),
            Err(e) => Err(e.fault.at(self.base + e.offset)),
        }
    }

    /// The next field, whatever it is.
    pub fn next_any(&mut self) -> Result<Option<Item<'a>>, TtlvError> {
        let item = self.item_at(self.at)?;
        if let Some(item) = item {
            self.at = item.end() - self.base;
        }
        Ok(item)
    }

    /// The field `tag`, if it is there.
    pub fn opt(&mut self, tag: Tag) -> Result<Option<Item<'a>>, TtlvError> {
        let mut at = self.at;
        while let Some(item) = self.item_at(at)? {
            let end = item.end() - self.base;
            if item.tag == tag {
                self.at = end;
                return Ok(Some(item));
            }
            if !self.lenient {
                break;
            }
            at = end;
        }
        Ok(None)
    }

    pub fn req(&mut self, tag: Tag) -> Result<Item<'a>, TtlvError> {
        let here = self.base + self.at;
        self.opt(tag)?.ok_or_else(|| Fault::Missing(tag).at(here))
    }

    pub fn opt_text(&mut self, tag: Tag) -> Result<Option<&'a str>, TtlvError> {
        self.opt(tag)?.map(|item| item.text()).transpose()
    }

    pub fn opt_string(&mut self, tag: Tag) -> Result<Option<String>, TtlvError> {
        Ok(self.opt_text(tag)?.map(str::to_owned))
    }

    pub fn opt_octets(&mut self, tag: Tag) -> Result<Option<Vec<u8>>, TtlvError> {
        let item = self.opt(tag)?;
        Ok(item.map(|i| i.octets()).transpose()?.map(<[u8]>::to_vec))
    }

    pub fn opt_integer(&mut self, tag: Tag) -> Result<Option<i32>, TtlvError> {
        self.opt(tag)?.map(|item| item.integer()).transpose()
    }

    pub fn opt_boolean(&mut self, tag: Tag) -> Result<Option<bool>, TtlvError> {
        self.opt(tag)?.map(|item| item.boolean()).transpose()
    }

    pub fn opt_date_time(&mut self, tag: Tag) -> Result<Option<i64>, TtlvError> {
        self.opt(tag)?.map(|item| item.date_time()).transpose()
    }

    pub fn opt_enum<E: Enumeration>(&mut self, tag: Tag) -> Result<Option<E>, TtlvError> {
        self.opt(tag)?.map(|item| item.enumeration()).transpose()
    }

    pub fn opt_fields(&mut self, tag: Tag) -> Result<Option<Fields<'a>>, TtlvError> {
        let lenient = self.lenient;
        let item = self.opt(tag)?;
        item.map(|i| i.fields().map(|f| Fields { lenient, ..f }))
            .transpose()
    }

    pub fn req_fields(&mut self, tag: Tag) -> Result<Fields<'a>, TtlvError> {
        let lenient = self.lenient;
        Ok(Fields {
            lenient,
            ..self.req(tag)?.fields()?
        })
    }

    /// # Errors
    /// [`Fault::Unexpected`] if a field is left over, unless lenient.
    pub fn finish(mut self) -> Result<(), TtlvError> {
        match self.next_any()? {
            Some(item) if !self.lenient => Err(Fault::Unexpected(item.tag).at(item.offset)),
            _ => Ok(()),
        }
    }
}
