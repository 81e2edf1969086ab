//! Values about keys: algorithms, digests, tags, salts, DS digests.

use crate::reader::Cx;
use crate::tree::{Node, Val, quote};
use crate::value::{Value, choice, string};

/// The algorithm of new keys (IANA "DNS Security Algorithm Numbers").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    RsaSha256 { bits: u32 },
    RsaSha512 { bits: u32 },
    EcdsaP256Sha256,
    EcdsaP384Sha384,
    Ed25519,
    Ed448,
}

const RSA_BITS: u32 = 2048;
const NAMES: [&str; 6] = [
    "RSASHA256",
    "RSASHA512",
    "ECDSAP256SHA256",
    "ECDSAP384SHA384",
    "ED25519",
    "ED448",
];

impl KeyAlgorithm {
    pub const fn number(self) -> u8 {
        match self {
            KeyAlgorithm::RsaSha256 { .. } => 8,
            KeyAlgorithm::RsaSha512 { .. } => 10,
            KeyAlgorithm::EcdsaP256Sha256 => 13,
            KeyAlgorithm::EcdsaP384Sha384 => 14,
            KeyAlgorithm::Ed25519 => 15,
            KeyAlgorithm::Ed448 => 16,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            KeyAlgorithm::RsaSha256 { .. } => "RSASHA256",
            KeyAlgorithm::RsaSha512 { .. } => "RSASHA512",
            KeyAlgorithm::EcdsaP256Sha256 => "ECDSAP256SHA256",
            KeyAlgorithm::EcdsaP384Sha384 => "ECDSAP384SHA384",
            KeyAlgorithm::Ed25519 => "ED25519",
            KeyAlgorithm::Ed448 => "ED448",
        }
    }

    pub const fn rsa_bits(self) -> Option<u32> {
        match self {
            KeyAlgorithm::RsaSha256 { bits } | KeyAlgorithm::RsaSha512 { bits } => Some(bits),
            _ => None,
        }
    }
}

impl Value for KeyAlgorithm {
    fn type_text() -> String {
        "RSASHA256[:bits], RSASHA512[:bits], ECDSAP256SHA256, ECDSAP384SHA384, ED25519 or ED448"
            .into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = string(node, cx, "the name of an algorithm")?;
        let upper = text.to_ascii_uppercase();
        let (name, bits) = match upper.split_once(':') {
            Some((name, bits)) => (name, Some(bits)),
            None => (upper.as_str(), None),
        };
        let size = match bits {
            None => Some(RSA_BITS),
            Some(b) => b.parse().ok(),
        };
        let found = match (name, size) {
            ("RSASHA256", Some(bits)) => KeyAlgorithm::RsaSha256 { bits },
            ("RSASHA512", Some(bits)) => KeyAlgorithm::RsaSha512 { bits },
            ("ECDSAP256SHA256", _) => KeyAlgorithm::EcdsaP256Sha256,
            ("ECDSAP384SHA384", _) => KeyAlgorithm::EcdsaP384Sha384,
            ("ED25519", _) => KeyAlgorithm::Ed25519,
            ("ED448", _) => KeyAlgorithm::Ed448,
            ("RSASHA256" | "RSASHA512", None) => {
                cx.bad(
                    node,
                    "not a number of bits",
                    format!("write for example \"{name}:2048\""),
                );
                return None;
            }
            _ => {
                crate::value::not_a_word(node, cx, &upper, &NAMES);
                return None;
            }
        };
        if bits.is_some() && found.rsa_bits().is_none() {
            cx.bad(
                node,
                format!("{name} has one size only"),
                format!("write \"{name}\""),
            );
            return None;
        }
        Some(found)
    }

    fn write(&self) -> String {
        match self.rsa_bits() {
            Some(bits) if bits != RSA_BITS => quote(&format!("{}:{bits}", self.name())),
            _ => quote(self.name()),
        }
    }
}

choice! {
    /// Digest of a DS record (RFC 4509, RFC 6605).
    pub enum DsDigest { Sha256 = "SHA-256", Sha384 = "SHA-384" }
}

/// The digests of the DS records to be made, at least one, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DsDigests(pub Vec<DsDigest>);

impl Value for DsDigests {
    fn type_text() -> String {
        format!("{}, or a list of them", DsDigest::type_text())
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let list = match &node.value {
            Val::List(_) => Vec::<DsDigest>::read(node, cx)?,
            _ => vec![DsDigest::read(node, cx)?],
        };
        let twice = list.iter().enumerate().any(|(i, d)| list[..i].contains(d));
        if list.is_empty() || twice {
            cx.bad(
                node,
                "name at least one digest, and none twice",
                "write \"SHA-256\"",
            );
            return None;
        }
        Some(DsDigests(list))
    }

    fn write(&self) -> String {
        match self.0.as_slice() {
            [one] => one.write(),
            list => list.to_vec().write(),
        }
    }
}

/// Allowed key tags, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagRange {
    pub first: u16,
    pub last: u16,
}

impl TagRange {
    pub const fn contains(self, tag: u16) -> bool {
        self.first <= tag && tag <= self.last
    }
}

impl Value for TagRange {
    fn type_text() -> String {
        "two key tags with a hyphen between".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = string(node, cx, "a range of key tags")?;
        let range = text
            .split_once('-')
            .and_then(|(a, b)| {
                Some(TagRange {
                    first: a.parse().ok()?,
                    last: b.parse().ok()?,
                })
            })
            .filter(|r| r.first <= r.last);
        if range.is_none() {
            cx.bad(
                node,
                "not a range of key tags",
                "write for example \"0-32767\"",
            );
        }
        range
    }

    fn write(&self) -> String {
        format!("\"{}-{}\"", self.first, self.last)
    }
}

/// NSEC3 salt, at most 255 octets (RFC 5155 §3.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Salt(pub Vec<u8>);

impl Value for Salt {
    fn type_text() -> String {
        "hexadecimal digits, or \"\"".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = string(node, cx, "hexadecimal digits")?;
        let salt = hex(text).filter(|s| s.len() <= 255);
        if salt.is_none() {
            cx.bad(
                node,
                "not a salt",
                "pairs of hexadecimal digits, at most 255, or \"\"",
            );
        }
        salt.map(Salt)
    }

    fn write(&self) -> String {
        let digits: String = self.0.iter().map(|b| format!("{b:02x}")).collect();
        quote(&digits)
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect();
    let digits = digits?;
    if digits.len() % 2 != 0 {
        return None;
    }
    Some(
        digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect(),
    )
}

/// Which HSM a kind of key lives in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Home {
    /// `"none"`: a software key in a file.
    Software,
    Hsm(String),
}

impl Value for Home {
    fn type_text() -> String {
        "id of an HSM, or \"none\"".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        if matches!(&node.value, Val::Str(s) if s == "none") {
            return Some(Home::Software);
        }
        HsmId::read(node, cx).map(|id| Home::Hsm(id.0))
    }

    fn write(&self) -> String {
        match self {
            Home::Software => quote("none"),
            Home::Hsm(id) => quote(id),
        }
    }
}

/// The id an HSM was registered with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HsmId(pub String);

impl Value for HsmId {
    fn type_text() -> String {
        "id of an HSM".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = string(node, cx, "the id of an HSM")?;
        if !crate::set::is_name(text) {
            cx.bad(
                node,
                "not an id of an HSM",
                "letters, digits, '.', '-' and '_', at most 63",
            );
            return None;
        }
        if text == "none" {
            cx.bad(
                node,
                "'none' is no HSM",
                "leave the key out for software keys",
            );
            return None;
        }
        Some(HsmId(text.to_string()))
    }

    fn write(&self) -> String {
        quote(&self.0)
    }
}
