//! The ledger of a verified version: enough to judge its successor by the difference alone.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::keys::Keys;
use crate::wire::hex;

/// Counts of a version or of a part of one; differences may be negative.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) counts: Numbers,
    /// Mask of valid signers -> authoritative RRsets signed by exactly these.
    pub(crate) cover: Vec<(u64, i64)>,
    /// Hour of expiration -> signatures.
    pub(crate) hours: Vec<(u32, i64)>,
    pub(crate) content: u128,
    pub(crate) full: u128,
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Numbers { $($(#[$doc])* pub $name: i64),* }
        impl Numbers {
            fn add(&mut self, other: &Numbers, sign: i64) {
                $(self.$name += sign * other.$name;)*
            }
        }
    };
}

numbers! {
    records,
    rrsets,
    owners,
    /// RRsets that must be signed, denial records included.
    authoritative,
    signatures,
    /// Owners that carry NSEC, or whose names the NSEC3 chain must hold (without ENTs).
    bearing,
    /// NSEC or NSEC3 records.
    denial_records,
    /// Empty non-terminals above names that are not occluded.
    ents,
    cuts,
    secure_cuts,
    occluded,
}

impl Tally {
    pub(crate) fn signed_by(&mut self, mask: u64, n: i64) {
        bump(&mut self.cover, mask, n);
    }

    pub(crate) fn expires(&mut self, expiration: u32, n: i64) {
        bump(&mut self.hours, expiration / 3600, n);
    }

    /// Adds (`sign` 1) or takes away (`sign` -1) another tally.
    pub(crate) fn add(&mut self, other: &Tally, sign: i64) {
        self.counts.add(&other.counts, sign);
        for &(mask, n) in &other.cover {
            bump(&mut self.cover, mask, sign * n);
        }
        for &(hour, n) in &other.hours {
            bump(&mut self.hours, hour, sign * n);
        }
        if sign > 0 {
            self.content = self.content.wrapping_add(other.content);
            self.full = self.full.wrapping_add(other.full);
        } else {
            self.content = self.content.wrapping_sub(other.content);
            self.full = self.full.wrapping_sub(other.full);
        }
    }
}

/// A few dozen keys at most inside a unit, so a scan beats a map.
fn bump<K: PartialEq + Copy>(rows: &mut Vec<(K, i64)>, key: K, n: i64) {
    match rows.iter_mut().rev().find(|(k, _)| *k == key) {
        Some((_, count)) => *count += n,
        None => rows.push((key, n)),
    }
}

/// A 128-bit sum or a SHA-256, as hex in text formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Octets<const N: usize>(pub [u8; N]);

impl<const N: usize> Serialize for Octets<N> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Octets<N> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let bad = || serde::de::Error::custom("expected hexadecimal digits of a fixed length");
        if text.len() != 2 * N || !text.is_ascii() {
            return Err(bad());
        }
        let mut out = [0u8; N];
        for (i, b) in out.iter_mut().enumerate() {
            *b = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| bad())?;
        }
        Ok(Octets(out))
    }
}

/// RRsets validly signed by exactly these keys (SHA-256 of DNSKEY RDATA, ascending).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoverRow {
    pub keys: Vec<Octets<32>>,
    pub rrsets: i64,
}

/// Denial of existence of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum DenialState {
    Nsec {
        ttl: u32,
    },
    Nsec3 {
        ttl: u32,
        iterations: u16,
        salt: String,
        opt_out: bool,
    },
}

/// Kept with every verified version, written only by this crate, bound to the version by its full
/// fingerprint and the digest of its DNSKEY RRset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    pub full: Octets<16>,
    pub content: Octets<16>,
    pub dnskey: Octets<32>,
    pub serial: u32,
    pub denial: DenialState,
    pub cover: Vec<CoverRow>,
    /// Hour since 1970 (modulo 2^32 seconds) -> signatures that expire in it, ascending.
    pub expirations: Vec<(u32, i64)>,
    pub counts: Numbers,
}

impl Ledger {
    pub(crate) fn new(
        tally: &Tally,
        keys: &Keys,
        dnskeys: &[Vec<u8>],
        serial: u32,
        denial: DenialState,
    ) -> Ledger {
        let mut cover: Vec<CoverRow> = Vec::new();
        for &(mask, n) in tally.cover.iter().filter(|(_, n)| *n != 0) {
            let mut row: Vec<Octets<32>> = keys
                .list
                .iter()
                .enumerate()
                .filter(|(i, _)| mask >> i & 1 == 1)
                .map(|(_, k)| Octets(k.sha256))
                .collect();
            row.sort_unstable();
            cover.push(CoverRow {
                keys: row,
                rrsets: n,
            });
        }
        cover.sort_by(|a, b| a.keys.cmp(&b.keys));
        let mut expirations: Vec<(u32, i64)> = tally
            .hours
            .iter()
            .copied()
            .filter(|(_, n)| *n != 0)
            .collect();
        expirations.sort_unstable();
        Ledger {
            full: Octets(tally.full.to_be_bytes()),
            content: Octets(tally.content.to_be_bytes()),
            dnskey: Octets(dnskey_digest(dnskeys)),
            serial,
            denial,
            cover,
            expirations,
            counts: tally.counts,
        }
    }

    /// The ledger as a tally over `keys`; `None` when it names a key that is not among them.
    pub(crate) fn tally(&self, keys: &Keys) -> Option<Tally> {
        let mut tally = Tally {
            counts: self.counts,
            content: u128::from_be_bytes(self.content.0),
            full: u128::from_be_bytes(self.full.0),
            hours: self.expirations.clone(),
            cover: Vec::new(),
        };
        for row in &self.cover {
            let mut mask = 0u64;
            for key in &row.keys {
                mask |= 1 << keys.list.iter().position(|k| k.sha256 == key.0)?;
            }
            tally.signed_by(mask, row.rrsets);
        }
        Some(tally)
    }

    /// Start of the hour in which the first signature expires, nearest to `now` in serial
    /// arithmetic; wire form.
    pub fn earliest(&self, now: u32) -> Option<u32> {
        self.expirations
            .iter()
            .map(|&(h, _)| h.wrapping_mul(3600))
            .min_by_key(|&e| e.wrapping_sub(now) as i32)
    }
}

/// SHA-256 over the DNSKEY RDATA in order, each with its length.
pub(crate) fn dnskey_digest(dnskeys: &[Vec<u8>]) -> [u8; 32] {
    let mut sorted: Vec<&Vec<u8>> = dnskeys.iter().collect();
    sorted.sort_unstable();
    let mut hash = Sha256::new();
    for key in sorted {
        hash.update((key.len() as u32).to_be_bytes());
        hash.update(key);
    }
    hash.finalize().into()
}
