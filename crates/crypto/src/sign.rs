//! How signatures are asked for: keys, batches, inline and queued signers.

use aws_lc_rs::digest;
use cascade_time::Timestamp;
use cascade_zone::KeyId;
use thiserror::Error;

use crate::algorithm::Algorithm;
use crate::dnskey::Dnskey;

/// Most items in a [`Batch`]: enough for engines that work on many at once, small enough that a
/// job stays responsive.
pub const MAX_BATCH: usize = 256;

/// A private key that can be asked for signatures, wherever it lives.
pub trait SigningKey: Send + Sync {
    fn id(&self) -> KeyId;
    /// The RDATA that is published; its tag goes into every RRSIG.
    fn dnskey(&self) -> &Dnskey;
    fn algorithm(&self) -> Algorithm;
    /// Length of every signature by this key, in octets.
    fn sig_len(&self) -> usize;
    fn input(&self) -> Input;
    fn mode(&self) -> Mode<'_>;
    /// Every signature that it hands out was verified with [`Self::dnskey`] already, so that a
    /// signer need not do it once more.
    fn is_verified(&self) -> bool {
        false
    }
}

/// What the items of a batch are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// The octets to be signed.
    Preimage,
    /// Their digest.
    Sha256,
    Sha384,
    Sha512,
}

pub enum Mode<'a> {
    /// Signs at once on the calling thread and never waits.
    Inline(&'a dyn InlineSigner),
    /// Signs elsewhere and reports later.
    Queued(&'a dyn QueuedSigner),
}

pub trait InlineSigner: Send + Sync {
    /// Signs all items of `batch` in order.
    ///
    /// 1. `out` is reset to the batch's number of items, all failed.
    /// 2. Each item that could be signed is set.
    /// 3. An error means that nothing in `out` may be used.
    fn sign_batch(&self, batch: &Batch, out: &mut Signatures) -> Result<(), SignFailure>;
}

/// Importance of a batch; a signer serves higher classes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    Bulk,
    Normal,
    Interactive,
    Critical,
}

/// Names a submitted batch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub u64);

/// Called once per submitted batch, on any thread, never from within `submit`.
pub type Completion = Box<dyn FnOnce(Batch, Result<Signatures, SignFailure>) + Send>;

pub trait QueuedSigner: Send + Sync {
    /// Queues `batch`. `done` is called exactly once: with the signatures, or with the reason
    /// that there are none (also after `deadline` or `cancel`). A batch may be signed more than
    /// once; a repeat is harmless.
    fn submit(&self, batch: Batch, class: Class, deadline: Timestamp, done: Completion) -> Ticket;
    /// Drops a batch that has not started; it completes as [`SignFailure::Cancelled`].
    fn cancel(&self, ticket: Ticket);
}

/// Why a batch was not signed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignFailure {
    #[error("the cryptographic library refused to sign with {0}")]
    Library(Algorithm),
    #[error("the key is not on the token; check the token's objects")]
    KeyNotFound,
    #[error("the token cannot be reached")]
    Unreachable,
    #[error("the token did not answer in time")]
    Timeout,
    #[error("the token is locked or its PIN is wrong")]
    Locked,
    #[error("the token gave a signature that does not verify")]
    WrongSignature,
    /// It may work later without anybody changing anything.
    #[error("HSM '{hsm}' is away: {why}")]
    Away { hsm: String, why: String },
    #[error("HSM '{hsm}' did not sign: {why}")]
    Refused { hsm: String, why: String },
    #[error("HSM '{hsm}': {why}; the key is not used")]
    Unproven { hsm: String, why: String },
    #[error("the batch was cancelled")]
    Cancelled,
    #[error("the batch holds {found} instead of {wanted}")]
    WrongInput {
        found: &'static str,
        wanted: &'static str,
    },
}

/// Up to [`MAX_BATCH`] items to be signed by one key, in one arena that is reused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    input: Input,
    arena: Vec<u8>,
    ends: Vec<u32>,
}

impl Batch {
    pub fn new(input: Input) -> Batch {
        Batch {
            input,
            arena: Vec::new(),
            ends: Vec::with_capacity(MAX_BATCH),
        }
    }

    /// Empties the batch and keeps its memory.
    pub fn reset(&mut self, input: Input) {
        self.input = input;
        self.arena.clear();
        self.ends.clear();
    }

    pub fn input(&self) -> Input {
        self.input
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.ends.len() >= MAX_BATCH
    }

    /// Octets in the arena.
    pub fn octets(&self) -> usize {
        self.arena.len()
    }

    /// Adds the item whose preimage `write` appends. False, and nothing added, if the batch is
    /// full or the arena would outgrow its 32-bit offsets.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.is_full() {
            return false;
        }
        let at = self.arena.len();
        write(&mut self.arena);
        let algorithm = match self.input {
            Input::Preimage => None,
            Input::Sha256 => Some(&digest::SHA256),
            Input::Sha384 => Some(&digest::SHA384),
            Input::Sha512 => Some(&digest::SHA512),
        };
        if let Some(algorithm) = algorithm {
            let digest = digest::digest(algorithm, &self.arena[at..]);
            self.arena.truncate(at);
            self.arena.extend_from_slice(digest.as_ref());
        }
        match u32::try_from(self.arena.len()) {
            Ok(end) => {
                self.ends.push(end);
                true
            }
            Err(_) => {
                self.arena.truncate(at);
                false
            }
        }
    }

    pub fn push(&mut self, preimage: &[u8]) -> bool {
        self.push_with(|out| out.extend_from_slice(preimage))
    }

    /// Item `i`; empty if there is none.
    pub fn item(&self, i: usize) -> &[u8] {
        let Some(&end) = self.ends.get(i) else {
            return &[];
        };
        let start = match i {
            0 => 0,
            _ => self.ends[i - 1],
        };
        &self.arena[start as usize..end as usize]
    }

    pub fn items(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.item(i))
    }
}

/// Signatures of one batch in item order, all of one length; each is there or failed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Signatures {
    sig_len: usize,
    bytes: Vec<u8>,
    done: Vec<bool>,
}

impl Signatures {
    pub fn new() -> Signatures {
        Signatures::default()
    }

    /// `n` signatures of `sig_len` octets, all failed until set.
    pub fn reset(&mut self, sig_len: usize, n: usize) {
        self.sig_len = sig_len;
        self.bytes.clear();
        self.bytes.resize(sig_len * n, 0);
        self.done.clear();
        self.done.resize(n, false);
    }

    pub fn len(&self) -> usize {
        self.done.len()
    }

    pub fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// Sets signature `i`; one of wrong length counts as failed.
    pub fn set(&mut self, i: usize, signature: &[u8]) {
        if signature.len() != self.sig_len || i >= self.done.len() {
            return;
        }
        self.bytes[i * self.sig_len..(i + 1) * self.sig_len].copy_from_slice(signature);
        self.done[i] = true;
    }

    /// Lets `write` fill signature `i` in place; true from it means that it did.
    pub fn fill(&mut self, i: usize, write: impl FnOnce(&mut [u8]) -> bool) {
        if i < self.done.len() {
            self.done[i] = write(&mut self.bytes[i * self.sig_len..(i + 1) * self.sig_len]);
        }
    }

    /// Signature `i`, or `None` if it failed.
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        self.done.get(i).filter(|&&done| done)?;
        Some(&self.bytes[i * self.sig_len..(i + 1) * self.sig_len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded() {
        let mut b = Batch::new(Input::Preimage);
        assert_eq!(b.item(0), b"");
        for i in 0..MAX_BATCH {
            assert!(b.push(&[i as u8; 3]));
        }
        assert!(b.is_full() && !b.push(b"more"));
        assert_eq!(b.item(255), [255; 3]);
        assert_eq!(b.items().count(), MAX_BATCH);
        b.reset(Input::Sha256);
        assert!(b.push(b"abc"));
        assert_eq!(b.item(0)[..4], [0xba, 0x78, 0x16, 0xbf]); // FIPS 180-2 example
        assert_eq!(b.octets(), 32);
    }

    #[test]
    fn signatures_of_wrong_length_fail() {
        let mut s = Signatures::new();
        s.reset(4, 2);
        s.set(0, b"abcd");
        s.set(1, b"abc");
        s.set(2, b"abcd");
        assert_eq!(s.get(0), Some(&b"abcd"[..]));
        assert_eq!(s.get(1), None);
        assert_eq!(s.get(2), None);
    }
}
