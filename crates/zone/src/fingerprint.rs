//! Order-free fingerprints of record sets (spec: store §9).
//!
//! `Σ xxh3_128(seed, owner in lower case ‖ type ‖ class ‖ TTL ‖ RDATA) mod 2^128`. A sum, so it is
//! kept exactly under updates. It finds accidents, not attackers.

use std::fmt;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::id::ZoneId;
use crate::rtype::Rtype;

/// A 128-bit sum over records.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Fingerprint(pub u128);

impl Fingerprint {
    pub fn add(&mut self, other: Fingerprint) {
        self.0 = self.0.wrapping_add(other.0);
    }

    pub fn sub(&mut self, other: Fingerprint) {
        self.0 = self.0.wrapping_sub(other.0);
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    pub fn from_bytes(b: [u8; 16]) -> Self {
        Fingerprint(u128::from_le_bytes(b))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Hashes records of one zone; holds a reused buffer.
#[derive(Debug)]
pub struct Hasher {
    seed: u64,
    buf: Vec<u8>,
}

impl Hasher {
    pub fn new(zone: ZoneId) -> Self {
        let b = zone.0;
        let seed = u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
        Hasher {
            seed,
            buf: Vec::with_capacity(512),
        }
    }

    /// The hash of one record. `owner` is a wire name in any spelling.
    pub fn record(&mut self, owner: &[u8], rtype: Rtype, ttl: u32, rdata: &[u8]) -> Fingerprint {
        self.buf.clear();
        self.buf.extend_from_slice(owner);
        self.buf.make_ascii_lowercase();
        self.rest(rtype, ttl, rdata)
    }

    fn rest(&mut self, rtype: Rtype, ttl: u32, rdata: &[u8]) -> Fingerprint {
        let t = rtype.0.to_be_bytes();
        let l = ttl.to_be_bytes();
        // Class IN between type and TTL, as on the wire.
        self.buf
            .extend_from_slice(&[t[0], t[1], 0, 1, l[0], l[1], l[2], l[3]]);
        self.buf.extend_from_slice(rdata);
        Fingerprint(xxh3_128_with_seed(&self.buf, self.seed))
    }
}
