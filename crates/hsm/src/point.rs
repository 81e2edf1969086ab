//! Curves and points as modules write them: CKA_EC_PARAMS and CKA_EC_POINT.

use crate::key::KeyKind;

// CKA_EC_PARAMS: DER of an OBJECT IDENTIFIER, or of the curve's name as a PrintableString.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]; // RFC 5480
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70]; // RFC 8410 §3
const ED448: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x71];
const ED25519_NAME: &[u8] = b"\x13\x0cedwards25519"; // PKCS#11 v3.0 §2.3.10
const ED448_NAME: &[u8] = b"\x13\x0aedwards448";
/// Seen instead: an object identifier that was in use before RFC 8410.
const ED25519_OLD: &[u8] = &[
    0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01, 0x00,
];

const OCTET_STRING: u8 = 0x04;
const BIT_STRING: u8 = 0x03;

/// Spellings of the curve, in the order in which tokens are asked. Empty for RSA.
pub(crate) fn params(kind: KeyKind) -> &'static [&'static [u8]] {
    match kind {
        KeyKind::Rsa { .. } => &[],
        KeyKind::P256 => &[P256],
        KeyKind::P384 => &[P384],
        KeyKind::Ed25519 => &[ED25519, ED25519_NAME],
        KeyKind::Ed448 => &[ED448, ED448_NAME],
    }
}

pub(crate) fn kind_of(params: &[u8]) -> Option<KeyKind> {
    match params {
        P256 => Some(KeyKind::P256),
        P384 => Some(KeyKind::P384),
        ED25519 | ED25519_NAME | ED25519_OLD => Some(KeyKind::Ed25519),
        ED448 | ED448_NAME => Some(KeyKind::Ed448),
        _ => None,
    }
}

/// The point in the form of [`crate::PublicKey::Point`], from any of the forms in which modules
/// give it: bare, in an OCTET STRING as the standard says, in two of them, or in a BIT STRING.
pub(crate) fn read(kind: KeyKind, octets: &[u8]) -> Option<Vec<u8>> {
    let len = kind.point_len()?;
    let mut octets = octets;
    for _ in 0..3 {
        if let Some(point) = bare(kind, len, octets) {
            return Some(point.to_vec());
        }
        octets = unwrap(octets)?;
    }
    None
}

/// For P-256 and P-384 the uncompressed form begins with an octet 4 (SEC 1 §2.3.3), as does an
/// OCTET STRING; their lengths tell them apart.
fn bare(kind: KeyKind, len: usize, octets: &[u8]) -> Option<&[u8]> {
    match (kind, octets) {
        (KeyKind::P256 | KeyKind::P384, [4, point @ ..]) if point.len() == len => Some(point),
        _ if octets.len() == len => Some(octets),
        _ => None,
    }
}

/// The contents of an OCTET STRING or BIT STRING that fills `der`.
fn unwrap(der: &[u8]) -> Option<&[u8]> {
    let (tag, rest) = der.split_first()?;
    let (len, rest) = match rest {
        [0x81, len, rest @ ..] if *len >= 0x80 => (usize::from(*len), rest),
        [len, rest @ ..] if *len < 0x80 => (usize::from(*len), rest),
        _ => return None,
    };
    if rest.len() != len {
        return None;
    }
    match (*tag, rest) {
        (OCTET_STRING, contents) => Some(contents),
        // The first octet counts unused bits.
        (BIT_STRING, [0, contents @ ..]) => Some(contents),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [KeyKind; 4] = [
        KeyKind::P256,
        KeyKind::P384,
        KeyKind::Ed25519,
        KeyKind::Ed448,
    ];

    fn wrap(tag: u8, contents: &[u8]) -> Vec<u8> {
        let len = contents.len() as u8;
        let mut der = vec![tag];
        if len >= 0x80 {
            der.push(0x81);
        }
        der.push(len);
        der.extend(contents);
        der
    }

    proptest! {
        #[test]
        fn every_form_is_the_same_point(seed in any::<[u8; 96]>(), which in 0..4usize) {
            let kind = KINDS[which];
            let point = &seed[..kind.point_len().expect("no RSA")];
            let mut full = point.to_vec();
            if matches!(kind, KeyKind::P256 | KeyKind::P384) {
                full.insert(0, 4);
            }
            let once = wrap(4, &full);
            let twice = wrap(4, &once);
            let mut bits = full.clone();
            bits.insert(0, 0);
            for form in [point, &full, &once, &twice, &wrap(3, &bits)] {
                prop_assert_eq!(read(kind, form), Some(point.to_vec()));
            }
        }

        #[test]
        fn nothing_else_panics(octets in prop::collection::vec(any::<u8>(), 0..140)) {
            for kind in KINDS {
                if let Some(point) = read(kind, &octets) {
                    prop_assert_eq!(Some(point.len()), kind.point_len());
                }
            }
        }
    }

    #[test]
    fn curves() {
        for kind in KINDS {
            for params in params(kind) {
                assert_eq!(kind_of(params), Some(kind));
                assert_eq!(usize::from(params[1]), params.len() - 2, "{kind:?}");
            }
        }
        assert_eq!(kind_of(&[]), None);
    }
}
