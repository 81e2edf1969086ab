//! TTLV, the binary form of KMIP messages (KMIP 1.4 §9.1): checking, reading and writing.
//!
//! Nothing is believed before [`check`] has walked the whole message once, without allocating:
//! lengths, depth, number of items, type codes, padding, booleans and text. What reads afterwards
//! borrows from the message, so the memory for a message is a small multiple of its size.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroize as _;

mod frame;
mod read;
mod write;

pub use frame::{FrameError, Framer};
pub use read::{Fields, Item};
pub use write::Writer;

/// Octets before each value: tag (3), type (1), length (4).
pub const HEADER_LEN: usize = 8;

/// Names what an item is (KMIP 1.4 §9.1.3.1). Three octets on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u32);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match crate::tags::name(*self) {
            Some(name) => f.write_str(name),
            None => write!(f, "0x{:06X}", self.0),
        }
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Type of an item's value (KMIP 1.4 §9.1.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    Structure = 1,
    Integer = 2,
    LongInteger = 3,
    BigInteger = 4,
    Enumeration = 5,
    Boolean = 6,
    TextString = 7,
    ByteString = 8,
    DateTime = 9,
    Interval = 10,
}

impl Kind {
    fn from_code(code: u8) -> Option<Kind> {
        Some(match code {
            1 => Kind::Structure,
            2 => Kind::Integer,
            3 => Kind::LongInteger,
            4 => Kind::BigInteger,
            5 => Kind::Enumeration,
            6 => Kind::Boolean,
            7 => Kind::TextString,
            8 => Kind::ByteString,
            9 => Kind::DateTime,
            10 => Kind::Interval,
            _ => return None,
        })
    }

    /// The length that the type prescribes (KMIP 1.4 §9.1.1.3); `None` where it varies.
    fn fixed_len(self) -> Option<usize> {
        match self {
            Kind::Integer | Kind::Enumeration | Kind::Interval => Some(4),
            Kind::LongInteger | Kind::Boolean | Kind::DateTime => Some(8),
            Kind::Structure | Kind::BigInteger | Kind::TextString | Kind::ByteString => None,
        }
    }
}

/// How much a message may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Octets of a whole message, header included.
    pub max_octets: usize,
    /// Structures within structures; the message itself is depth 1.
    pub max_depth: usize,
    /// Items of all depths together.
    pub max_items: usize,
}

impl Limits {
    /// Deepest nesting that any [`Limits`] can allow; no KMIP 1.x message needs more than 9.
    pub const DEEPEST: usize = 32;

    pub const fn new(max_octets: usize) -> Limits {
        Limits {
            max_octets,
            max_depth: 16,
            // A batch of 256 signatures has about 5,000 items.
            max_items: 65_536,
        }
    }
}

/// What is wrong with a message, and where.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{fault} at octet {offset}")]
pub struct TtlvError {
    /// Offset in the message of the item concerned.
    pub offset: usize,
    pub fault: Fault,
}

#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Fault {
    #[error("message ends within an item")]
    Truncated,
    #[error("message of {0} octets exceeds the limit of {1}")]
    TooLarge(usize, usize),
    #[error("octets follow the message")]
    Trailing,
    #[error("tag 0x{0:06X} is in no range of KMIP (0x42.... or 0x54....)")]
    BadTag(u32),
    #[error("type code {0} of {1} is not defined")]
    BadType(u8, Tag),
    #[error("length {len} of {tag} does not fit its type {kind:?}")]
    BadLength { tag: Tag, kind: Kind, len: usize },
    #[error("padding of {0} is not zero")]
    BadPadding(Tag),
    #[error("boolean {0} is neither 0 nor 1")]
    BadBoolean(Tag),
    #[error("text of {0} is not UTF-8")]
    BadText(Tag),
    #[error("structures are nested more than {0} deep")]
    TooDeep(usize),
    #[error("more than {0} items")]
    TooMany(usize),
    #[error("{0} is missing")]
    Missing(Tag),
    #[error("{0} is not expected here")]
    Unexpected(Tag),
    #[error("{tag} is of type {found:?} instead of {wanted:?}")]
    WrongType { tag: Tag, found: Kind, wanted: Kind },
    #[error("{0} has a value that is not allowed")]
    BadValue(Tag),
}

impl Fault {
    pub(crate) fn at(self, offset: usize) -> TtlvError {
        TtlvError {
            offset,
            fault: self,
        }
    }
}

/// Octets that a value of `len` takes with its padding (KMIP 1.4 §9.1.1.4).
pub const fn padded(len: usize) -> usize {
    len.div_ceil(8) * 8
}

/// Adds to a buffer that may hold a password: memory that it grows out of is wiped.
pub(crate) fn append(buffer: &mut Vec<u8>, octets: &[u8]) {
    let needed = buffer.len() + octets.len();
    if needed > buffer.capacity() {
        let mut larger = Vec::with_capacity(needed.max(2 * buffer.capacity()));
        larger.extend_from_slice(buffer);
        buffer.zeroize();
        *buffer = larger;
    }
    buffer.extend_from_slice(octets);
}

/// Checks that `message` is one well-formed item within `limits`, at every depth, and gives it.
///
/// Runs in time proportional to the message and allocates nothing.
pub fn check(message: &[u8], limits: Limits) -> Result<Item<'_>, TtlvError> {
    if message.len() > limits.max_octets {
        return Err(Fault::TooLarge(message.len(), limits.max_octets).at(0));
    }
    let root = read::item_at(message, 0, message.len())?;
    if root.end() != message.len() {
        return Err(Fault::Trailing.at(root.end()));
    }
    let deepest = limits.max_depth.min(Limits::DEEPEST);
    // Ends of the structures that are open.
    let mut ends = [0_usize; Limits::DEEPEST];
    let (mut depth, mut at, mut items) = (0, 0, 0);
    loop {
        while depth > 0 && at == ends[depth - 1] {
            depth -= 1;
        }
        if items > 0 && depth == 0 {
            return Ok(root);
        }
        let end = match depth {
            0 => message.len(),
            d => ends[d - 1],
        };
        let item = read::item_at(message, at, end)?;
        items += 1;
        if items > limits.max_items {
            return Err(Fault::TooMany(limits.max_items).at(at));
        }
        if item.kind == Kind::Structure {
            if depth == deepest {
                return Err(Fault::TooDeep(deepest).at(at));
            }
            ends[depth] = item.end();
            depth += 1;
            at += HEADER_LEN;
        } else {
            check_value(&item)?;
            at = item.end();
        }
    }
}

fn check_value(item: &Item<'_>) -> Result<(), TtlvError> {
    let tag = item.tag;
    match item.kind {
        Kind::Boolean if !matches!(item.value, [0, 0, 0, 0, 0, 0, 0, 0 | 1]) => {
            Err(Fault::BadBoolean(tag).at(item.offset))
        }
        Kind::TextString if std::str::from_utf8(item.value).is_err() => {
            Err(Fault::BadText(tag).at(item.offset))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
