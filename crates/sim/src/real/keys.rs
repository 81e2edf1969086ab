//! Real keys by their numbers: the same in every run, so that a run can be made again.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use cascade_crypto::{
    Algorithm, Batch, Dnskey, InlineSigner, Input, KeySpec, Mode, SignFailure, Signatures,
    SigningKey, SoftwareKey,
};
use cascade_keys::{KeyNum, Role};
use cascade_zone::KeyId;

use crate::rng::Rng;

type Pairs = BTreeMap<(KeyNum, u8, u16), Arc<SoftwareKey>>;

static PAIRS: LazyLock<Mutex<Pairs>> = LazyLock::new(Mutex::default);

/// Tags of keys whose numbers differ by less than this are different, revoked ones too.
const TAGS: u16 = 64;

/// The private half; `None` for an algorithm that nobody here knows.
pub(super) fn pair(num: KeyNum, role: Role, algorithm: u8) -> Option<Arc<SoftwareKey>> {
    let flags = role.flags();
    let mut pairs = PAIRS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pair) = pairs.get(&(num, algorithm, flags)) {
        return Some(pair.clone());
    }
    let pair = Arc::new(make(num, flags, algorithm)?);
    pairs.insert((num, algorithm, flags), pair.clone());
    Some(pair)
}

pub(crate) fn public_key(num: KeyNum, role: Role, algorithm: u8) -> Vec<u8> {
    let pair = pair(num, role, algorithm);
    pair.map_or_else(Vec::new, |p| p.dnskey().public_key().to_vec())
}

fn make(num: KeyNum, flags: u16, number: u8) -> Option<SoftwareKey> {
    let algorithm = Algorithm::from_number(number)?;
    let mut id = [0u8; 16];
    id[12..].copy_from_slice(&num.0.to_be_bytes());
    let seed = u64::from(num.0) << 32 | u64::from(number) << 16 | u64::from(flags);
    let mut draw = Rng::stream(seed, "keys");
    let prefix: &[u8] = match algorithm {
        Algorithm::Ed25519 => ED25519,
        Algorithm::EcdsaP256Sha256 => P256,
        // Those take long to be made, and their numbers are not ours to choose.
        _ => return SoftwareKey::generate(KeyId(id), flags, KeySpec::new(algorithm)).ok(),
    };
    loop {
        let mut pkcs8 = prefix.to_vec();
        for _ in 0..4 {
            pkcs8.extend_from_slice(&draw.draw().to_be_bytes());
        }
        let pair = SoftwareKey::from_pkcs8(KeyId(id), flags, algorithm, &pkcs8).ok()?;
        if u32::from(pair.dnskey().key_tag() % TAGS) == num.0 % u32::from(TAGS) {
            return Some(pair);
        }
    }
}

/// A private key of 32 octets follows (RFC 8410 §7).
const ED25519: &[u8] = &[
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The same on the curve P-256 (RFC 5915 §3 in RFC 5208 §5).
const P256: &[u8] = &[
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01,
    0x01, 0x04, 0x20,
];

/// A token that gives a wrong signature now and then: the first of each batch.
pub(super) struct Liar(pub(super) Arc<SoftwareKey>);

impl SigningKey for Liar {
    fn id(&self) -> KeyId {
        self.0.id()
    }

    fn dnskey(&self) -> &Dnskey {
        self.0.dnskey()
    }

    fn algorithm(&self) -> Algorithm {
        self.0.algorithm()
    }

    fn sig_len(&self) -> usize {
        self.0.sig_len()
    }

    fn input(&self) -> Input {
        self.0.input()
    }

    fn mode(&self) -> Mode<'_> {
        Mode::Inline(self)
    }
}

impl InlineSigner for Liar {
    fn sign_batch(&self, batch: &Batch, out: &mut Signatures) -> Result<(), SignFailure> {
        let Mode::Inline(honest) = self.0.mode() else {
            return Err(SignFailure::Library(self.0.algorithm()));
        };
        honest.sign_batch(batch, out)?;
        if let Some(mut first) = out.get(0).map(<[u8]>::to_vec)
            && let Some(b) = first.last_mut()
        {
            *b ^= 1;
            out.set(0, &first);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_same_every_time_and_their_tags_differ() {
        for algorithm in [13, 15] {
            let tag = |n: u32| {
                let made = make(KeyNum(n), 257, algorithm).expect("known");
                let again = make(KeyNum(n), 257, algorithm).expect("known");
                assert_eq!(made.dnskey(), again.dnskey());
                made.prove().expect("it signs");
                made.dnskey().key_tag() % TAGS
            };
            assert_eq!((1..5).map(tag).collect::<Vec<_>>(), [1, 2, 3, 4]);
        }
        assert!(make(KeyNum(1), 257, 200).is_none());
    }
}
