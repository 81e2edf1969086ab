//! The apex set: DNSKEY, CDS, CDNSKEY and who signs what, by key number.
//!
//! Version building, verification and publication know only this: it enters a version as a whole.

use serde::{Deserialize, Serialize};
use sha2::Digest;

use crate::hex;
use crate::key::KeyNum;
use crate::stored::is_default;

/// What CDS and CDNSKEY say.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cds {
    #[default]
    None,
    /// `0 0 0 00` and `0 3 0 AA==` (RFC 8078 §4).
    Delete,
    /// One CDS per key and digest type.
    Keys(Vec<KeyNum>),
}

/// Immutable content of a zone's apex as far as keys decide it. Lists are sorted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ApexSet {
    /// TTL of DNSKEY, CDS and CDNSKEY.
    pub ttl: u32,
    #[serde(
        rename = "k",
        alias = "dnskey",
        default,
        skip_serializing_if = "is_default"
    )]
    pub dnskey: Vec<KeyNum>,
    #[serde(
        rename = "ks",
        alias = "dnskey_signers",
        default,
        skip_serializing_if = "is_default"
    )]
    pub dnskey_signers: Vec<KeyNum>,
    /// Sign CDS and CDNSKEY; in an algorithm roll also keys that are not in DNSKEY yet or any more.
    #[serde(
        rename = "cs",
        alias = "cds_signers",
        default,
        skip_serializing_if = "is_default"
    )]
    pub cds_signers: Vec<KeyNum>,
    /// Every RRset gets an RRSIG by each of these, and in the end by no other key.
    #[serde(
        rename = "zs",
        alias = "zone_signers",
        default,
        skip_serializing_if = "is_default"
    )]
    pub zone_signers: Vec<KeyNum>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub cds: Cds,
    #[serde(default, skip_serializing_if = "is_default")]
    pub cdnskey: bool,
    /// Digest types of CDS records.
    #[serde(
        rename = "dt",
        alias = "digests",
        default,
        skip_serializing_if = "is_default"
    )]
    pub digests: Vec<u8>,
    /// No DNSSEC at all; only after going insecure.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unsigned: bool,
}

impl ApexSet {
    /// Name of the content: 16 hexadecimal digits, equal for equal content.
    pub fn id(&self) -> String {
        let mut h = sha2::Sha256::new();
        h.update(self.ttl.to_be_bytes());
        let lists = [
            &self.dnskey,
            &self.dnskey_signers,
            &self.cds_signers,
            &self.zone_signers,
        ];
        for list in lists {
            push_list(&mut h, list);
        }
        match &self.cds {
            Cds::None => h.update([0]),
            Cds::Delete => h.update([1]),
            Cds::Keys(k) => {
                h.update([2]);
                push_list(&mut h, k);
            }
        }
        h.update([
            u8::from(self.cdnskey),
            u8::from(self.unsigned),
            self.digests.len() as u8,
        ]);
        h.update(&self.digests);
        hex::encode(&h.finalize()[..8])
    }
}

fn push_list(h: &mut sha2::Sha256, list: &[KeyNum]) {
    h.update((list.len() as u32).to_be_bytes());
    for k in list {
        h.update(k.0.to_be_bytes());
    }
}
