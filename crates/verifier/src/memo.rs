//! Signatures that ring has accepted lately, so that sample answers do not verify them again.
//!
//! An entry is the SHA-256 of key, signed octets and signature: what was accepted once would be
//! accepted again, whichever zone or version it is in. Only the sample answers look here; whatever
//! a version's own signatures need is verified for it.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use sha2::{Digest, Sha256};

/// Entries in each of the two halves: 1 MB together.
const HALF: usize = 8192;

/// The older half goes when the newer one is full.
#[derive(Default)]
pub(crate) struct Memo(Mutex<[HashSet<[u8; 32]>; 2]>);

impl Memo {
    /// The one of this process.
    pub(crate) fn process() -> &'static Memo {
        static PROCESS: LazyLock<Memo> = LazyLock::new(Memo::default);
        &PROCESS
    }

    pub(crate) fn knows(&self, entry: &[u8; 32]) -> bool {
        let halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        halves.iter().any(|half| half.contains(entry))
    }

    pub(crate) fn note(&self, entry: [u8; 32]) {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [newer, older] = &mut *halves;
        if newer.len() >= HALF {
            std::mem::swap(newer, older);
            newer.clear();
        }
        newer.insert(entry);
    }
}

/// `key`: SHA-256 of the DNSKEY RDATA.
pub(crate) fn entry(key: &[u8; 32], message: &[u8], signature: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(key);
    hash.update((message.len() as u64).to_be_bytes());
    hash.update(message);
    hash.update(signature);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_last_is_known_and_no_more_than_two_halves_are_kept() {
        let memo = Memo::default();
        let at = |n: usize| entry(&[1; 32], &n.to_be_bytes(), b"signature");
        for n in 0..5 * HALF {
            memo.note(at(n));
            assert!(memo.knows(&at(n)));
        }
        assert!(memo.knows(&at(4 * HALF)));
        assert!(!memo.knows(&at(0)));
        let kept: usize = memo.0.lock().unwrap().iter().map(HashSet::len).sum();
        assert!(kept <= 2 * HALF);
    }

    #[test]
    fn key_message_and_signature_all_count() {
        let all = [
            entry(&[1; 32], b"ab", b"c"),
            entry(&[1; 32], b"a", b"bc"),
            entry(&[2; 32], b"ab", b"c"),
            entry(&[1; 32], b"ab", b"d"),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }
}
