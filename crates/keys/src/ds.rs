//! DS records and how they are matched with keys: by digest of the key's own octets, never by tag.

use cascade_zone::id::Serial;
use serde::{Deserialize, Serialize};
use sha2::Digest;

use crate::hex;
use crate::key::Key;
use crate::mutants::{Mutant, is};

/// A DS record as a parent showed it, or as wanted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct DsRecord {
    pub tag: u16,
    pub algorithm: u8,
    pub digest_type: u8,
    #[serde(with = "hex")]
    pub digest: Vec<u8>,
}

impl DsRecord {
    /// The DS of `key` in a zone whose name in canonical wire form is `owner` (RFC 4034 §5.1.4);
    /// `None` for digest types other than 1, 2 and 4.
    pub fn of(owner: &[u8], key: &Key, digest_type: u8) -> Option<DsRecord> {
        Some(DsRecord {
            tag: key.tag(),
            algorithm: key.algorithm,
            digest_type,
            digest: digest(owner, &key.dnskey_rdata(), digest_type)?,
        })
    }

    /// Presentation form without owner, TTL and class.
    pub fn text(&self) -> String {
        format!(
            "{} {} {} {}",
            self.tag,
            self.algorithm,
            self.digest_type,
            hex::encode(&self.digest)
        )
    }
}

/// Whether the RRset makes `key` a secure entry point: SHA-1 does not count (RFC 9905).
pub fn present(owner: &[u8], key: &Key, set: &[DsRecord]) -> bool {
    set.iter()
        .any(|ds| (matches!(ds.digest_type, 2 | 4) || sha1(ds)) && fits(owner, key, ds))
}

fn sha1(ds: &DsRecord) -> bool {
    is(Mutant::Sha1IsPresent) && ds.digest_type == 1
}

/// Whether nothing in the RRset can be a DS of `key`; one of unknown digest type with its tag and
/// algorithm might be.
pub fn absent(owner: &[u8], key: &Key, set: &[DsRecord]) -> bool {
    !set.iter().any(|ds| match ds.digest_type {
        1 | 2 | 4 => fits(owner, key, ds),
        _ => ds.tag == key.tag() && ds.algorithm == key.algorithm,
    })
}

/// `serial` is at or past `required` (RFC 1982 §3.2).
pub fn at_or_past(serial: u32, required: u32) -> bool {
    serial == required || Serial(serial).newer_than(Serial(required))
}

fn fits(owner: &[u8], key: &Key, ds: &DsRecord) -> bool {
    ds.algorithm == key.algorithm
        && ds.tag == key.tag()
        && (is(Mutant::DsByTag)
            || digest(owner, &key.dnskey_rdata(), ds.digest_type).is_some_and(|d| d == ds.digest))
}

fn digest(owner: &[u8], rdata: &[u8], digest_type: u8) -> Option<Vec<u8>> {
    match digest_type {
        1 => Some(hash::<sha1::Sha1>(owner, rdata)),
        2 => Some(hash::<sha2::Sha256>(owner, rdata)),
        4 => Some(hash::<sha2::Sha384>(owner, rdata)),
        _ => None,
    }
}

fn hash<D: Digest>(owner: &[u8], rdata: &[u8]) -> Vec<u8> {
    let mut d = D::new();
    d.update(owner);
    d.update(rdata);
    d.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::key;

    const OWNER: &[u8] = b"\x07example\x00";

    #[test]
    fn digests_of_every_kind() {
        let k = key(1, crate::key::Role::Ksk, 13);
        let mut other = key(2, crate::key::Role::Ksk, 13);
        let ds = |t| DsRecord::of(OWNER, &k, t);
        assert!(ds(3).is_none());
        for t in [2, 4] {
            let set = [ds(t).expect("known")];
            assert!(present(OWNER, &k, &set) && !absent(OWNER, &k, &set));
            assert!(!present(OWNER, &other, &set) && absent(OWNER, &other, &set));
        }
        // SHA-1 alone: not an entry point, and not gone either.
        let sha1 = [ds(1).expect("known")];
        assert!(!present(OWNER, &k, &sha1) && !absent(OWNER, &k, &sha1));
        // Unknown type with the same tag and algorithm: might be ours.
        let unknown = [DsRecord {
            tag: k.tag(),
            algorithm: 13,
            digest_type: 9,
            digest: vec![1, 2],
        }];
        assert!(!present(OWNER, &k, &unknown) && !absent(OWNER, &k, &unknown));
        // Equal tag, other octets: swapping two octet pairs keeps the sum of RFC 4034 App. B.
        other.public_key = k.public_key.clone();
        other.public_key.swap(0, 2);
        assert_eq!(other.tag(), k.tag());
        assert_ne!(other.public_key, k.public_key);
        let set = [DsRecord::of(OWNER, &other, 2).expect("known")];
        assert!(!present(OWNER, &k, &set) && absent(OWNER, &k, &set));
    }

    #[test]
    fn serials() {
        assert!(at_or_past(5, 5) && at_or_past(6, 5) && !at_or_past(4, 5));
        assert!(at_or_past(2, u32::MAX - 1));
    }
}
