//! DS and CDS records (RFC 4034 §5, RFC 7344 §3.1).

use cascade_zone::Name;
use sha2::{Digest, Sha256, Sha384};

use crate::dnskey::Dnskey;

/// A DS digest algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum DigestType {
    /// 1: only for reading what parents still have; never made (RFC 9905).
    Sha1,
    /// 2, RFC 4509.
    Sha256,
    /// 4, RFC 6605.
    Sha384,
}

impl DigestType {
    pub const fn number(self) -> u8 {
        match self {
            DigestType::Sha1 => 1,
            DigestType::Sha256 => 2,
            DigestType::Sha384 => 4,
        }
    }

    pub const fn from_number(n: u8) -> Option<DigestType> {
        match n {
            1 => Some(DigestType::Sha1),
            2 => Some(DigestType::Sha256),
            4 => Some(DigestType::Sha384),
            _ => None,
        }
    }
}

/// Digest of owner name ‖ DNSKEY RDATA (RFC 4034 §5.1.4); the owner name in lower case.
pub fn ds_digest(zone: &Name, key: &Dnskey, digest: DigestType) -> Vec<u8> {
    let owner = zone.to_lowercase();
    let parts = [owner.as_wire(), key.rdata()];
    match digest {
        DigestType::Sha1 => {
            let mut d =
                aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
            parts.iter().for_each(|p| d.update(p));
            d.finish().as_ref().to_vec()
        }
        DigestType::Sha256 => parts
            .iter()
            .fold(Sha256::new(), |d, p| d.chain_update(p))
            .finalize()
            .to_vec(),
        DigestType::Sha384 => parts
            .iter()
            .fold(Sha384::new(), |d, p| d.chain_update(p))
            .finalize()
            .to_vec(),
    }
}

/// Appends DS or CDS RDATA for `key`: tag, algorithm, digest type, digest.
pub fn push_ds_rdata(zone: &Name, key: &Dnskey, digest: DigestType, out: &mut Vec<u8>) {
    out.extend_from_slice(&key.key_tag().to_be_bytes());
    out.extend_from_slice(&[key.algorithm_number(), digest.number()]);
    out.extend_from_slice(&ds_digest(zone, key, digest));
}

/// True if the DS RDATA `ds` names `key` by a digest type known here.
pub fn ds_matches(zone: &Name, ds: &[u8], key: &Dnskey) -> bool {
    let Some((head, digest)) = ds.split_first_chunk::<4>() else {
        return false;
    };
    let Some(kind) = DigestType::from_number(head[3]) else {
        return false;
    };
    head[..2] == key.key_tag().to_be_bytes()
        && head[2] == key.algorithm_number()
        && ds_digest(zone, key, kind) == digest
}
