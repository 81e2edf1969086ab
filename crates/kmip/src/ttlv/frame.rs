//! Cutting a stream of octets into messages.

use thiserror::Error;
use zeroize::Zeroize as _;

use super::{HEADER_LEN, Tag, append};

/// Octets of memory that a connection keeps between messages.
const KEPT: usize = 1 << 16;

/// Why a stream cannot be followed any further. The connection must be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    #[error("message of {0} octets exceeds the limit of {1}")]
    TooLarge(usize, usize),
    #[error("the peer does not speak KMIP: 0x{0:08X} starts no {1}")]
    NotKmip(u32, Tag),
}

/// Collects octets from a connection and gives whole messages. Holds at most one message's limit
/// and what one call of [`Framer::push`] brought.
pub struct Framer {
    /// What each message starts with.
    tag: Tag,
    max_octets: usize,
    buffer: Vec<u8>,
    /// Octets of `buffer` already given.
    taken: usize,
}

impl Framer {
    /// `tag` is the one of requests or of responses.
    pub fn new(tag: Tag, max_octets: usize) -> Framer {
        Framer {
            tag,
            max_octets,
            buffer: Vec::new(),
            taken: 0,
        }
    }

    /// Takes what was read. Afterwards call [`Framer::next_message`] until it gives `None`.
    pub fn push(&mut self, octets: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        // One large message does not make an idle connection large for ever.
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT {
            self.buffer.zeroize();
            self.buffer = Vec::new();
        }
        append(&mut self.buffer, octets);
    }

    /// The next whole message, if it is there. Decides on size and start as soon as the first
    /// octets are there, so that no peer can make us collect what will be refused.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let Some(len) = self.whole()? else {
            return Ok(None);
        };
        let from = self.taken;
        self.taken += len;
        Ok(Some(&self.buffer[from..from + len]))
    }

    /// True if [`Framer::next_message`] will give a message.
    pub fn is_whole(&self) -> Result<bool, FrameError> {
        Ok(self.whole()?.is_some())
    }

    /// Length of the next message, if all of it is there.
    fn whole(&self) -> Result<Option<usize>, FrameError> {
        let pending = &self.buffer[self.taken..];
        let Some(&[t0, t1, t2, kind, l0, l1, l2, l3]) = pending.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let start = u32::from_be_bytes([t0, t1, t2, kind]);
        if start != self.tag.0 << 8 | 1 {
            return Err(FrameError::NotKmip(start, self.tag));
        }
        let len = (u32::from_be_bytes([l0, l1, l2, l3]) as usize).saturating_add(HEADER_LEN);
        if len > self.max_octets {
            return Err(FrameError::TooLarge(len, self.max_octets));
        }
        Ok((pending.len() >= len).then_some(len))
    }

    /// Octets held that are not yet a whole message.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.taken
    }
}

impl Drop for Framer {
    fn drop(&mut self) {
        self.buffer.zeroize();
    }
}
