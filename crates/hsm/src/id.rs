//! The id of a key pair, and the forms in which it is found on tokens.
//!
//! New keys get a `CKA_ID` of 40 ASCII characters, lower-case hexadecimal of 20 random octets. Some
//! modules store ids as text only, and read octets that are no text in one way today and in
//! another after an upgrade: text survives that.

use std::fmt;

use crate::error::HsmError;

/// Names a key pair: an even number of lower-case hexadecimal digits. If the `CKA_ID` is text of
/// the form above, these are its digits; otherwise they spell its octets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Box<str>);

/// One half of a key pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Half {
    Public,
    Private,
}

/// How `CKA_ID` is written for new keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IdForm {
    #[default]
    AsciiHex,
    Binary,
}

impl KeyId {
    /// Octets of new ids.
    pub const OCTETS: usize = 20;
    /// Most octets of an id made by other software.
    pub const MAX_OCTETS: usize = 64;

    /// For a key that is about to be made; the octets come from a random source.
    pub fn new(random: [u8; KeyId::OCTETS]) -> KeyId {
        KeyId(hex(&random).into())
    }

    /// # Errors
    /// [`HsmError::BadInput`] if the text is not lower-case hexadecimal of 1 to 64 octets.
    pub fn parse(text: &str) -> Result<KeyId, HsmError> {
        let good = text.len().is_multiple_of(2)
            && (2..=2 * KeyId::MAX_OCTETS).contains(&text.len())
            && text.bytes().all(is_lower_hex);
        match good {
            true => Ok(KeyId(text.into())),
            false => Err(HsmError::BadInput(
                "no id of a key: lower-case hexadecimal".into(),
            )),
        }
    }

    /// From a `CKA_ID` as found on a token; `None` if it is empty or too long.
    pub fn from_cka_id(id: &[u8]) -> Option<KeyId> {
        if id.len() == 2 * KeyId::OCTETS && id.iter().all(|o| is_lower_hex(*o)) {
            return std::str::from_utf8(id).ok().map(|id| KeyId(id.into()));
        }
        (1..=KeyId::MAX_OCTETS)
            .contains(&id.len())
            .then(|| KeyId(hex(id).into()))
    }

    /// The values of `CKA_ID` under which the key may be found, most likely first.
    pub fn cka_ids(&self) -> [Vec<u8>; 3] {
        [
            self.0.as_bytes().to_vec(),
            self.octets(),
            self.0.to_ascii_uppercase().into_bytes(),
        ]
    }

    /// The value of `CKA_ID` for a new key.
    pub fn cka_id(&self, form: IdForm) -> Vec<u8> {
        match form {
            IdForm::AsciiHex => self.0.as_bytes().to_vec(),
            IdForm::Binary => self.octets(),
        }
    }

    pub fn octets(&self) -> Vec<u8> {
        let digit = |c: u8| match c {
            b'0'..=b'9' => c - b'0',
            _ => c.wrapping_sub(b'a').wrapping_add(10),
        };
        let digits = self.0.as_bytes().chunks_exact(2);
        digits.map(|d| (digit(d[0]) << 4) | digit(d[1])).collect()
    }

    pub fn as_str(&self) -> &str {
        &self.0
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

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Half::Public => "public",
            Half::Private => "private",
        })
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
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_id_is_found_again(octets in prop::collection::vec(any::<u8>(), 1..=64)) {
            let id = KeyId::from_cka_id(&octets).expect("not empty, not too long");
            prop_assert!(id.cka_ids().contains(&octets));
            prop_assert_eq!(KeyId::parse(id.as_str()), Ok(id));
        }

        #[test]
        fn text_is_an_id_or_refused(text in ".{0,140}") {
            if let Ok(id) = KeyId::parse(&text) {
                prop_assert!(KeyId::from_cka_id(&id.octets()).is_some());
            }
        }
    }

    #[test]
    fn one_id_for_both_forms() {
        let octets: [u8; 20] = std::array::from_fn(|i| (i * 13) as u8);
        let id = KeyId::new(octets);
        assert_eq!(id.cka_id(IdForm::AsciiHex).len(), 40);
        for form in [IdForm::AsciiHex, IdForm::Binary] {
            let cka_id = id.cka_id(form);
            assert_eq!(KeyId::from_cka_id(&cka_id).as_ref(), Some(&id));
            assert!(id.cka_ids().contains(&cka_id));
        }
        assert_eq!(KeyId::parse(id.as_str()).as_ref(), Ok(&id));
    }

    #[test]
    fn ids_of_other_software() {
        let id = KeyId::from_cka_id(b"example-ksk").expect("text");
        assert!(id.cka_ids().contains(&b"example-ksk".to_vec()));
        assert!(KeyId::from_cka_id(&[]).is_none());
        assert!(KeyId::from_cka_id(&[1; 65]).is_none());
        for bad in ["", "a", "AB", "zz", "ä0"] {
            assert!(KeyId::parse(bad).is_err(), "{bad}");
        }
    }
}
