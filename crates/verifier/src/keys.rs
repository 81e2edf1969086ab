//! Public keys and signature verification.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use sha2::{Digest, Sha256};

use crate::engine::{TableEngine, WORTHWHILE};
use crate::memo::{self, Memo};
use crate::p256::table::Table;
use crate::wire::{key_tag, u16_at};

/// Keys one run can tell apart; a DNSKEY RRset of more is refused.
pub(crate) const MAX_KEYS: usize = 64;

/// Zone Key flag (RFC 4034 §2.1.1), Secure Entry Point (RFC 4034 §2.1.1), Revoke (RFC 5011 §3).
pub(crate) const ZONE: u16 = 0x0100;
pub(crate) const SEP: u16 = 0x0001;
pub(crate) const REVOKE: u16 = 0x0080;

enum Checker {
    /// Algorithm of ring and the key octets as it wants them.
    Plain(&'static dyn VerificationAlgorithm, Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
        params: &'static signature::RsaParameters,
    },
    #[cfg(feature = "ed448")]
    Ed448(openssl::pkey::PKey<openssl::pkey::Public>),
    /// The key octets do not fit the algorithm.
    Malformed(&'static str),
    /// No code here can verify the algorithm.
    Unsupported,
}

/// One DNSKEY as the gate uses it.
pub(crate) struct Key {
    pub(crate) rdata: Vec<u8>,
    pub(crate) tag: u16,
    pub(crate) algorithm: u8,
    pub(crate) flags: u16,
    pub(crate) sha256: [u8; 32],
    /// In the DNSKEY RRset of the candidate.
    pub(crate) published: bool,
    /// In the RRset, or known by the key store to enter or to have just left it.
    pub(crate) may_sign: bool,
    checker: Checker,
    /// Signatures by it that came in batches in this run.
    offered: AtomicU64,
    table: OnceLock<Arc<Table>>,
}

impl Key {
    fn new(rdata: &[u8], published: bool, may_sign: bool) -> Key {
        let algorithm = rdata.get(3).copied().unwrap_or(0);
        Key {
            tag: key_tag(rdata),
            algorithm,
            flags: u16_at(rdata, 0),
            sha256: Sha256::digest(rdata).into(),
            published,
            may_sign,
            checker: checker(algorithm, rdata.get(4..).unwrap_or(&[])),
            rdata: rdata.to_vec(),
            offered: AtomicU64::new(0),
            table: OnceLock::new(),
        }
    }

    /// x and y of a P-256 key (RFC 6605 §4).
    fn p256(&self) -> Option<&[u8; 64]> {
        let key = self.rdata.get(4..).filter(|_| self.algorithm == 13)?;
        key.try_into().ok()
    }

    pub(crate) fn verifies(&self, message: &[u8], sig: &[u8]) -> bool {
        match &self.checker {
            Checker::Plain(algorithm, key) => UnparsedPublicKey::new(*algorithm, key)
                .verify(message, sig)
                .is_ok(),
            // RFC 8017 §8.2.2 step 1: a signature is as long as the modulus.
            Checker::Rsa { n, e, params } => {
                sig.len() == n.len()
                    && RsaPublicKeyComponents { n, e }
                        .verify(params, message, sig)
                        .is_ok()
            }
            #[cfg(feature = "ed448")]
            Checker::Ed448(key) => openssl::sign::Verifier::new_without_digest(key)
                .and_then(|mut v| v.verify_oneshot(sig, message))
                .unwrap_or(false),
            Checker::Malformed(_) | Checker::Unsupported => false,
        }
    }

    /// What is wrong with the key material itself (V08).
    pub(crate) fn trouble(&self) -> Option<&'static str> {
        match self.checker {
            Checker::Malformed(why) => Some(why),
            Checker::Unsupported => Some("no code here can verify its algorithm"),
            _ => None,
        }
    }
}

fn checker(algorithm: u8, key: &[u8]) -> Checker {
    let point = |len: usize, alg: &'static dyn VerificationAlgorithm| {
        if key.len() != len {
            return Checker::Malformed("key length does not fit its algorithm");
        }
        // RFC 6605 §4: x and y without the octet that says "uncompressed".
        Checker::Plain(alg, [&[4u8], key].concat())
    };
    match algorithm {
        8 => rsa(
            key,
            &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        ),
        10 => rsa(
            key,
            &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        ),
        13 => point(64, &signature::ECDSA_P256_SHA256_FIXED),
        14 => point(96, &signature::ECDSA_P384_SHA384_FIXED),
        15 if key.len() == 32 => Checker::Plain(&signature::ED25519, key.to_vec()),
        15 => Checker::Malformed("key length does not fit its algorithm"),
        #[cfg(feature = "ed448")]
        16 => openssl::pkey::PKey::public_key_from_raw_bytes(key, openssl::pkey::Id::ED448)
            .map_or(Checker::Malformed("not an Ed448 key"), Checker::Ed448),
        _ => Checker::Unsupported,
    }
}

/// RFC 3110 §2: exponent length in one or three octets, exponent, modulus.
fn rsa(key: &[u8], params: &'static signature::RsaParameters) -> Checker {
    let split = match key {
        [0, hi, lo, rest @ ..] => (u16::from_be_bytes([*hi, *lo]) as usize, rest),
        [len, rest @ ..] => (*len as usize, rest),
        [] => return Checker::Malformed("RSA key is empty"),
    };
    let (e_len, rest) = split;
    if e_len == 0 || rest.len() <= e_len {
        return Checker::Malformed("RSA key is cut short");
    }
    let (e, n) = rest.split_at(e_len);
    if n[0] == 0 || e[0] == 0 {
        return Checker::Malformed("RSA key has leading zero octets");
    }
    let bits = n.len() * 8 - n[0].leading_zeros() as usize;
    // RFC 3110 §2 and RFC 5702 §2 allow 512 to 4096; below 1024 nothing verifies them any more.
    if !(1024..=4096).contains(&bits) {
        return Checker::Malformed("RSA modulus is not between 1024 and 4096 bits");
    }
    Checker::Rsa {
        n: n.to_vec(),
        e: e.to_vec(),
        params,
    }
}

/// The keys of one run; a set of keys is a bit mask over their places.
pub(crate) struct Keys {
    pub(crate) list: Vec<Key>,
    /// Algorithms every authoritative RRset needs (RFC 6840 §5.11) with the published keys of each.
    pub(crate) required: Vec<(u8, u64)>,
    engine: Option<Arc<TableEngine>>,
}

impl Keys {
    /// `published`: the DNSKEY RRset. `others`: keys that may sign though they are not in it.
    /// `gone`: keys of a predecessor, known only so that their signatures are recognised.
    pub(crate) fn new<'a>(
        published: &[Vec<u8>],
        others: impl Iterator<Item = &'a [u8]>,
        gone: impl Iterator<Item = &'a [u8]>,
        engine: Option<Arc<TableEngine>>,
    ) -> Keys {
        let mut list: Vec<Key> = published
            .iter()
            .take(MAX_KEYS)
            .map(|k| Key::new(k, true, true))
            .collect();
        for (rdata, may_sign) in others.map(|k| (k, true)).chain(gone.map(|k| (k, false))) {
            if list.len() < MAX_KEYS && list.iter().all(|k| k.rdata != rdata) {
                list.push(Key::new(rdata, false, may_sign));
            }
        }
        let mut required: Vec<(u8, u64)> = Vec::new();
        for (i, key) in list.iter().enumerate() {
            // A revoked key signs the DNSKEY RRset only (RFC 5011 §2.1).
            if !key.published || key.flags & ZONE == 0 || key.flags & REVOKE != 0 {
                continue;
            }
            match required.iter_mut().find(|(a, _)| *a == key.algorithm) {
                Some((_, mask)) => *mask |= 1 << i,
                None => required.push((key.algorithm, 1 << i)),
            }
        }
        required.sort_unstable();
        Keys {
            list,
            required,
            engine,
        }
    }

    /// The table of the key at `place`, when with `more` signatures by it there have been enough in
    /// this run, or it was made for an earlier one, and there can be one.
    pub(crate) fn table(&self, place: usize, more: u64) -> Option<(&TableEngine, &Table)> {
        let engine = self.engine.as_deref()?;
        let key = &self.list[place];
        let point = key.p256()?;
        let before = key.offered.fetch_add(more, Ordering::Relaxed);
        if key.table.get().is_none() {
            let table = match before + more > WORTHWHILE {
                true => engine.table(point)?,
                // One of an earlier run may be there already.
                false => engine.kept(point)?,
            };
            key.table.get_or_init(|| table);
        }
        Some((engine, key.table.get()?))
    }

    /// Keys that a signature may be by, as a mask.
    pub(crate) fn candidates(&self, tag: u16, algorithm: u8) -> u64 {
        let fits = |k: &Key| k.tag == tag && k.algorithm == algorithm;
        mask(self.list.iter().map(fits))
    }

    pub(crate) fn of_algorithm(&self, algorithm: u8) -> u64 {
        mask(self.list.iter().map(|k| k.algorithm == algorithm))
    }

    /// As [`Keys::find`]; what was accepted lately is not verified again.
    pub(crate) fn find_again(&self, among: u64, message: &[u8], sig: &[u8]) -> Option<usize> {
        let memo = Memo::process();
        let entry = |i: usize| memo::entry(&self.list[i].sha256, message, sig);
        let mut places = (0..self.list.len()).filter(|i| among >> i & 1 == 1);
        let known = places.clone().find(|i| memo.knows(&entry(*i)));
        known.or_else(|| {
            let found = places.find(|i| self.list[*i].verifies(message, sig))?;
            memo.note(entry(found));
            Some(found)
        })
    }

    /// The first key of `among` with which the signature verifies.
    pub(crate) fn find(&self, among: u64, message: &[u8], sig: &[u8]) -> Option<usize> {
        (0..self.list.len()).find(|&i| among >> i & 1 == 1 && self.list[i].verifies(message, sig))
    }
}

fn mask(bits: impl Iterator<Item = bool>) -> u64 {
    bits.enumerate().fold(0, |m, (i, b)| m | (b as u64) << i)
}
