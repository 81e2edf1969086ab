//! Interned RDATA sets: append-only, shared by all versions of a zone.
//!
//! A set is `v count, (v length, RDATA)*`. Chunks of [`PER_CHUNK`] sets; full chunks are shared by
//! pointer, so appending copies at most one chunk.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, OnceLock};

use xxhash_rust::xxh3::xxh3_64;

use crate::codec::Reader;

/// Sets per chunk.
pub const PER_CHUNK: usize = 1024;
/// Above this the pool takes nothing more; further sets are stored in their leaves.
const MAX_OCTETS: usize = 1 << 31;

#[derive(Debug, Default, Clone)]
struct Chunk {
    /// End of set i in `bytes`.
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

/// An append-only table of RDATA sets.
#[derive(Debug, Default)]
pub struct Pool {
    chunks: Vec<Arc<Chunk>>,
    octets: usize,
    /// Hash of a set's bytes -> ids; made at the first append or search.
    index: OnceLock<HashMap<u64, u32, BuildHasherDefault<NoHash>>>,
}

/// Keys of the index are hashes already.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoHash(u64);
impl std::hash::Hasher for NoHash {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = self.0.rotate_left(8) ^ *b as u64;
        }
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = v;
    }
}

impl Pool {
    pub fn len(&self) -> usize {
        match self.chunks.last() {
            None => 0,
            Some(last) => (self.chunks.len() - 1) * PER_CHUNK + last.ends.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn octets(&self) -> usize {
        self.octets
    }

    /// The encoded set, or `None` for an id that was never given out.
    pub fn get(&self, id: u32) -> Option<&[u8]> {
        let chunk = self.chunks.get(id as usize / PER_CHUNK)?;
        let i = id as usize % PER_CHUNK;
        let end = *chunk.ends.get(i)? as usize;
        let start = if i == 0 {
            0
        } else {
            chunk.ends[i - 1] as usize
        };
        chunk.bytes.get(start..end)
    }

    /// The id of an encoded set, if it is here.
    pub fn find(&self, set: &[u8]) -> Option<u32> {
        let index = self.index.get_or_init(|| {
            let mut map = HashMap::with_capacity_and_hasher(self.len(), Default::default());
            for id in (0..self.len() as u32).rev() {
                if let Some(set) = self.get(id) {
                    map.insert(xxh3_64(set), id);
                }
            }
            map
        });
        let id = *index.get(&xxh3_64(set))?;
        // Two sets with one hash: the later one is simply not found and stays in its leaf.
        (self.get(id)? == set).then_some(id)
    }

    /// A pool with `sets` appended; what is here already is not added twice.
    pub fn append<'a>(&self, sets: impl Iterator<Item = &'a [u8]>) -> Pool {
        let mut new = Pool {
            chunks: self.chunks.clone(),
            octets: self.octets,
            index: OnceLock::new(),
        };
        for set in sets {
            if new.octets + set.len() > MAX_OCTETS || self.find(set).is_some() {
                continue;
            }
            new.push(set);
        }
        new
    }

    /// A pool with exactly these sets after its own, in this order: ids are those of the writer.
    pub(crate) fn extended<'a>(&self, sets: impl Iterator<Item = &'a [u8]>) -> Pool {
        let mut new = Pool {
            chunks: self.chunks.clone(),
            octets: self.octets,
            index: OnceLock::new(),
        };
        sets.for_each(|set| new.push(set));
        new
    }

    /// Every id means the same in `other`, which may have more.
    pub(crate) fn is_prefix_of(&self, other: &Pool) -> bool {
        self.len() <= other.len()
            && self.chunks.iter().zip(&other.chunks).all(|(a, b)| {
                Arc::ptr_eq(a, b) || (b.ends.starts_with(&a.ends) && b.bytes.starts_with(&a.bytes))
            })
    }

    fn push(&mut self, set: &[u8]) {
        if self.chunks.last().is_none_or(|c| c.ends.len() == PER_CHUNK) {
            self.chunks.push(Arc::default());
        }
        if let Some(last) = self.chunks.last_mut() {
            let chunk = Arc::make_mut(last);
            chunk.bytes.extend_from_slice(set);
            chunk.ends.push(chunk.bytes.len() as u32);
            self.octets += set.len();
        }
    }

    /// Octets of chunk number `i` for persistence: `u32 n, ends, bytes`.
    pub fn chunk_bytes(&self, i: usize) -> Option<Vec<u8>> {
        let chunk = self.chunks.get(i)?;
        let mut out = Vec::with_capacity(4 + 4 * chunk.ends.len() + chunk.bytes.len());
        out.extend_from_slice(&(chunk.ends.len() as u32).to_le_bytes());
        for e in &chunk.ends {
            out.extend_from_slice(&e.to_le_bytes());
        }
        out.extend_from_slice(&chunk.bytes);
        Some(out)
    }

    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// Takes a chunk written by [`chunk_bytes`](Self::chunk_bytes); `None` when it is malformed.
    pub fn push_chunk(&mut self, bytes: &[u8]) -> Option<()> {
        let mut r = Reader::new(bytes);
        let n = r.u32()? as usize;
        // All chunks but the last are full, or ids would not resolve.
        if n > PER_CHUNK
            || self
                .chunks
                .last()
                .is_some_and(|c| c.ends.len() != PER_CHUNK)
        {
            return None;
        }
        let mut ends = Vec::with_capacity(n);
        let mut last = 0;
        for _ in 0..n {
            let e = r.u32()?;
            if e < last {
                return None;
            }
            last = e;
            ends.push(e);
        }
        if r.rest().len() != last as usize {
            return None;
        }
        let chunk = Chunk {
            ends,
            bytes: r.rest().to_vec(),
        };
        for i in 0..n {
            let start = if i == 0 {
                0
            } else {
                chunk.ends[i - 1] as usize
            };
            check_set(&chunk.bytes[start..chunk.ends[i] as usize])?;
        }
        self.octets += chunk.bytes.len();
        self.chunks.push(Arc::new(chunk));
        Some(())
    }
}

/// Checks that `set` is exactly one encoded set with at least one RDATA; gives its count.
pub fn check_set(set: &[u8]) -> Option<u32> {
    let mut r = Reader::new(set);
    let n = r.varint()?;
    for _ in 0..n {
        let len = r.varint()?;
        if len > u16::MAX as u32 {
            return None;
        }
        r.take(len as usize)?;
    }
    (n > 0 && r.is_empty()).then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(i: u32) -> Vec<u8> {
        let mut s = vec![1, 4];
        s.extend_from_slice(&i.to_be_bytes());
        s
    }

    #[test]
    fn appends_share_and_find() {
        let sets: Vec<Vec<u8>> = (0..3000).map(set).collect();
        let a = Pool::default().append(sets[..2500].iter().map(|s| &s[..]));
        let b = a.append(sets.iter().map(|s| &s[..]));
        assert_eq!((a.len(), b.len()), (2500, 3000));
        for (i, s) in sets.iter().enumerate() {
            assert_eq!(b.get(i as u32), Some(&s[..]));
            assert_eq!(b.find(s), Some(i as u32));
        }
        assert!(Arc::ptr_eq(&a.chunks[0], &b.chunks[0]));
        assert_eq!(a.get(2500), None);
        assert_eq!(a.find(&set(2999)), None);
    }

    #[test]
    fn chunks_come_back_from_bytes() {
        let sets: Vec<Vec<u8>> = (0..1500).map(set).collect();
        let a = Pool::default().append(sets.iter().map(|s| &s[..]));
        let mut b = Pool::default();
        for i in 0..a.chunk_count() {
            b.push_chunk(&a.chunk_bytes(i).unwrap()).unwrap();
        }
        assert_eq!(b.get(1499), a.get(1499));
        assert_eq!(
            Pool::default().push_chunk(&[1, 0, 0, 0, 9, 0, 0, 0, 1]),
            None
        );
        assert_eq!(
            b.push_chunk(&a.chunk_bytes(0).unwrap()),
            None,
            "a chunk after one that is not full"
        );
    }
}
