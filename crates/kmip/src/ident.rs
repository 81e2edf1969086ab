//! Unique identifiers of a server in front of a PKCS#11 token.
//!
//! The identifier is the key's `CKA_ID` in upper-case hexadecimal with `_pub` or `_priv` behind it.
//! The same value is used for both forms in which an id is found on tokens, the octets themselves
//! and their lower-case hexadecimal spelling: so it survives a change of form, and its first part
//! in lower case is what other tools show.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The id of a key pair: an even number of lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Box<str>);

/// One half of a key pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Half {
    Public,
    Private,
}

/// Names one object of a token.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    pub key: KeyId,
    pub half: Half,
}

/// A text that is no identifier of this kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("no unique identifier of this server: upper-case hexadecimal followed by _pub or _priv")]
pub struct BadIdentifier;

impl KeyId {
    /// Octets of the ids that are made here.
    pub const OCTETS: usize = 20;
    /// Most octets of an id made by other software.
    pub const MAX_OCTETS: usize = 64;

    /// For a key that is about to be made; the octets come from a random source.
    pub fn new(random: [u8; KeyId::OCTETS]) -> KeyId {
        KeyId(hex(&random).into())
    }

    /// From a `CKA_ID` as found on a token. `None` if it is empty or longer than
    /// [`KeyId::MAX_OCTETS`].
    pub fn from_cka_id(id: &[u8]) -> Option<KeyId> {
        if id.len() == 2 * KeyId::OCTETS && id.iter().all(|o| is_lower_hex(*o)) {
            return std::str::from_utf8(id).ok().map(|id| KeyId(id.into()));
        }
        (1..=KeyId::MAX_OCTETS)
            .contains(&id.len())
            .then(|| KeyId(hex(id).into()))
    }

    /// The values of `CKA_ID` under which the key may be found, most likely first: the
    /// hexadecimal spelling in lower case, the octets, the spelling in upper case.
    pub fn cka_ids(&self) -> [Vec<u8>; 3] {
        [
            self.0.as_bytes().to_vec(),
            self.octets(),
            self.0.to_ascii_uppercase().into_bytes(),
        ]
    }

    /// The hexadecimal spelling in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn octets(&self) -> Vec<u8> {
        let digit = |c: u8| match c {
            b'0'..=b'9' => c - b'0',
            _ => c.wrapping_sub(b'a').wrapping_add(10),
        };
        let digits = self.0.as_bytes().chunks_exact(2);
        digits.map(|d| digit(d[0]) << 4 | digit(d[1])).collect()
    }

    pub fn public(&self) -> ObjectId {
        ObjectId {
            key: self.clone(),
            half: Half::Public,
        }
    }

    pub fn private(&self) -> ObjectId {
        ObjectId {
            key: self.clone(),
            half: Half::Private,
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key.0.to_ascii_uppercase())?;
        f.write_str(match self.half {
            Half::Public => "_pub",
            Half::Private => "_priv",
        })
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ObjectId {
    type Err = BadIdentifier;

    /// Strict: one spelling for each object, so that no two texts name the same one.
    fn from_str(text: &str) -> Result<ObjectId, BadIdentifier> {
        let (id, half) = if let Some(id) = text.strip_suffix("_pub") {
            (id, Half::Public)
        } else if let Some(id) = text.strip_suffix("_priv") {
            (id, Half::Private)
        } else {
            return Err(BadIdentifier);
        };
        let digits = id.len();
        let good = digits % 2 == 0
            && (2..=2 * KeyId::MAX_OCTETS).contains(&digits)
            && id.bytes().all(|c| matches!(c, b'0'..=b'9' | b'A'..=b'F'));
        if !good {
            return Err(BadIdentifier);
        }
        let key = KeyId(id.to_ascii_lowercase().into());
        Ok(ObjectId { key, half })
    }
}

fn is_lower_hex(octet: u8) -> bool {
    matches!(octet, b'0'..=b'9' | b'a'..=b'f')
}

fn hex(octets: &[u8]) -> String {
    use fmt::Write as _;
    octets.iter().fold(String::new(), |mut out, octet| {
        let _ = write!(out, "{octet:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_identifier_for_both_forms() {
        let octets: [u8; 20] = std::array::from_fn(|i| i as u8 * 13);
        let id = KeyId::new(octets);
        assert_eq!(id.as_str().len(), 40);
        assert_eq!(KeyId::from_cka_id(&octets).as_ref(), Some(&id));
        assert_eq!(
            KeyId::from_cka_id(id.as_str().as_bytes()).as_ref(),
            Some(&id)
        );
        assert_eq!(id.octets(), octets);
        let name = id.private().to_string();
        assert_eq!(name.to_lowercase(), format!("{}_priv", id.as_str()));
        assert_eq!(name.parse(), Ok(id.private()));
        assert_eq!(id.public().to_string().parse(), Ok(id.public()));
        assert_ne!(id.public(), id.private());
    }

    #[test]
    fn strict() {
        for bad in [
            "",
            "_pub",
            "AB",
            "ab_pub",
            "ABC_pub",
            "AB_PUB",
            "AB_pub ",
            "AG_priv",
            "AB_priv_pub",
            "ÄB_pub",
        ] {
            assert_eq!(bad.parse::<ObjectId>(), Err(BadIdentifier), "{bad}");
        }
        assert!(
            format!("{}_pub", "A".repeat(130))
                .parse::<ObjectId>()
                .is_err()
        );
        assert!(KeyId::from_cka_id(&[]).is_none());
        assert!(KeyId::from_cka_id(&[1; 65]).is_none());
    }

    #[test]
    fn ids_of_other_software() {
        let id = KeyId::from_cka_id(b"\x01").expect("short ids exist");
        assert_eq!(id.public().to_string(), "01_pub");
        assert!(id.cka_ids().contains(&vec![1]));
        // Text that is no hexadecimal of ours is octets like any others.
        let id = KeyId::from_cka_id(b"zone").expect("text");
        assert_eq!(id.as_str(), "7a6f6e65");
    }
}
