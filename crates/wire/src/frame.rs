//! Two-octet length framing of messages on streams (RFC 1035 §4.2.2, RFC 7766 §8).

use thiserror::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("a message of {len} octets where at most {max} are taken")]
    TooLong { len: usize, max: usize },
}

/// Octets that arrived and are not yet taken as messages. Holds at most one message and one read.
#[derive(Debug)]
pub struct Frames {
    buf: Vec<u8>,
    at: usize,
    max: usize,
}

impl Frames {
    /// `max`: longest message that is accepted.
    pub fn new(max: usize) -> Self {
        Frames {
            buf: Vec::new(),
            at: 0,
            max,
        }
    }

    /// Where a read appends to. Taken messages are dropped first.
    pub fn space(&mut self) -> &mut Vec<u8> {
        if self.at > 0 {
            self.buf.drain(..self.at);
            self.at = 0;
        }
        &mut self.buf
    }

    pub fn push(&mut self, octets: &[u8]) {
        self.space().extend_from_slice(octets);
    }

    /// True when a message has begun and not ended.
    pub fn is_partial(&self) -> bool {
        self.at < self.buf.len()
    }

    /// The next whole message.
    ///
    /// # Errors
    /// The announced length exceeds the limit; the stream is useless from here.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let Some(head) = self.buf.get(self.at..self.at + 2) else {
            return Ok(None);
        };
        let len = u16::from_be_bytes([head[0], head[1]]) as usize;
        if len > self.max {
            return Err(FrameError::TooLong { len, max: self.max });
        }
        let start = self.at + 2;
        if self.buf.len() < start + len {
            return Ok(None);
        }
        self.at = start + len;
        Ok(Some(&self.buf[start..start + len]))
    }
}

/// Writes the length of the message that follows the two octets at `at`.
pub fn close_frame(out: &mut [u8], at: usize) {
    let len = out.len().saturating_sub(at + 2).min(0xffff) as u16;
    if let Some(head) = out.get_mut(at..at + 2) {
        head.copy_from_slice(&len.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_make_the_same_messages(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cuts in prop::collection::vec(1usize..20, 1..40),
        ) {
            let mut stream = Vec::new();
            for m in &messages {
                let at = stream.len();
                stream.extend_from_slice(&[0, 0]);
                stream.extend_from_slice(m);
                close_frame(&mut stream, at);
            }
            let mut frames = Frames::new(64);
            let mut got = Vec::new();
            let mut rest = &stream[..];
            for n in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (a, b) = rest.split_at((*n).min(rest.len()));
                frames.push(a);
                rest = b;
                while let Some(m) = frames.next_message().unwrap() {
                    got.push(m.to_vec());
                }
            }
            prop_assert_eq!(got, messages);
            prop_assert!(!frames.is_partial());
        }
    }

    #[test]
    fn long_messages_end_the_stream() {
        let mut f = Frames::new(16);
        f.push(&[0, 17]);
        assert_eq!(
            f.next_message(),
            Err(FrameError::TooLong { len: 17, max: 16 })
        );
    }
}
