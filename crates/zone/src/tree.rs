//! How leaves hang together: a persistent ordered sequence of two levels.
//!
//! A tree is a list of chunks of at most [`CHUNK_MAX`] items; versions share chunks and items by
//! pointer. Changing k items copies k chunks (256 small structs) and the list of chunks (48 octets
//! each; 10 M owners have about 800). Two levels rather than more: at 100 M owners the list is
//! 400 KiB, copied in 30 µs, and every look-up is two binary searches.

use std::sync::Arc;

/// Items a chunk holds at most.
pub const CHUNK_MAX: usize = 256;
const CHUNK_FILL: usize = 192;
const CHUNK_MIN: usize = 64;

/// What a node adds up over its items.
pub trait Sums: Clone + Default + std::fmt::Debug {
    fn add(&mut self, other: &Self);
}

/// A leaf or block reference: cheap to clone, ordered by its first key.
pub trait Item: Clone {
    type Sums: Sums;
    /// First octets of [`first_key`](Item::first_key) as a number, see [`crate::key::fence`].
    fn fence(&self) -> u64;
    fn first_key(&self) -> &[u8];
    fn sums(&self) -> &Self::Sums;
    /// Pointer equality: equal content without looking.
    fn same(&self, other: &Self) -> bool;
}

#[derive(Debug)]
struct Chunk<I: Item> {
    items: Vec<I>,
    sums: I::Sums,
}

impl<I: Item> Chunk<I> {
    /// Of at least one item.
    fn refer(items: Vec<I>) -> ChunkRef<I> {
        let mut sums = I::Sums::default();
        items.iter().for_each(|i| sums.add(i.sums()));
        ChunkRef {
            fence: items.first().map_or(0, I::fence),
            start: 0,
            chunk: Arc::new(Chunk { items, sums }),
        }
    }
}

#[derive(Debug)]
struct ChunkRef<I: Item> {
    fence: u64,
    /// Items in the chunks before.
    start: usize,
    chunk: Arc<Chunk<I>>,
}

impl<I: Item> Clone for ChunkRef<I> {
    fn clone(&self) -> Self {
        ChunkRef {
            fence: self.fence,
            start: self.start,
            chunk: self.chunk.clone(),
        }
    }
}

/// An immutable ordered sequence of items.
#[derive(Debug)]
pub struct Tree<I: Item> {
    chunks: Vec<ChunkRef<I>>,
    sums: I::Sums,
    len: usize,
}

impl<I: Item> Clone for Tree<I> {
    fn clone(&self) -> Self {
        Tree {
            chunks: self.chunks.clone(),
            sums: self.sums.clone(),
            len: self.len,
        }
    }
}

impl<I: Item> Default for Tree<I> {
    fn default() -> Self {
        Tree {
            chunks: Vec::new(),
            sums: I::Sums::default(),
            len: 0,
        }
    }
}

impl<I: Item> Tree<I> {
    /// From items in order.
    pub fn from_items(items: Vec<I>) -> Self {
        let mut chunks = Vec::with_capacity(items.len().div_ceil(CHUNK_FILL));
        let mut it = items.into_iter();
        loop {
            let items: Vec<I> = it.by_ref().take(CHUNK_FILL).collect();
            if items.is_empty() {
                break;
            }
            chunks.push(Chunk::refer(items));
        }
        Self::from_chunks(chunks)
    }

    fn from_chunks(mut chunks: Vec<ChunkRef<I>>) -> Self {
        let mut sums = I::Sums::default();
        let mut len = 0;
        for c in &mut chunks {
            sums.add(&c.chunk.sums);
            c.start = len;
            len += c.chunk.items.len();
        }
        Tree { chunks, sums, len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn sums(&self) -> &I::Sums {
        &self.sums
    }

    /// Item number `i` in order.
    pub fn get(&self, i: usize) -> Option<&I> {
        let c = self
            .chunks
            .partition_point(|c| c.start <= i)
            .checked_sub(1)?;
        self.chunks[c].chunk.items.get(i - self.chunks[c].start)
    }

    /// Number of the last item whose first key is not above `key`; `None` when all are above.
    pub fn locate(&self, key: &[u8]) -> Option<usize> {
        let fence = crate::key::fence(key);
        let not_above = |f: u64, first: &[u8]| f < fence || (f == fence && first <= key);
        let c = self
            .chunks
            .partition_point(|c| not_above(c.fence, c.chunk.items[0].first_key()))
            .checked_sub(1)?;
        let items = &self.chunks[c].chunk.items;
        let i = items.partition_point(|i| not_above(i.fence(), i.first_key()));
        Some(self.chunks[c].start + i - 1)
    }

    /// The items in stretches that lie together in memory, none of which is empty.
    pub fn stretches(&self) -> impl Iterator<Item = &[I]> {
        self.chunks.iter().map(|c| c.chunk.items.as_slice())
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &I> {
        self.chunks.iter().flat_map(|c| c.chunk.items.iter())
    }

    pub fn iter_from(&self, i: usize) -> impl Iterator<Item = &I> {
        let c = self
            .chunks
            .partition_point(|c| c.start <= i)
            .saturating_sub(1);
        let skip = i - self.chunks.get(c).map_or(i, |c| c.start);
        self.chunks[c.min(self.chunks.len())..]
            .iter()
            .flat_map(|c| c.chunk.items.iter())
            .skip(skip)
    }

    /// Items for which `want` holds, pruned by whole chunks.
    pub fn filter<'a>(
        &'a self,
        want: impl Fn(&I::Sums) -> bool + Copy + 'a,
    ) -> impl Iterator<Item = (usize, &'a I)> {
        self.chunks
            .iter()
            .filter(move |c| want(&c.chunk.sums))
            .flat_map(move |c| {
                c.chunk
                    .items
                    .iter()
                    .enumerate()
                    .filter(move |(_, i)| want(i.sums()))
                    .map(move |(k, i)| (c.start + k, i))
            })
    }

    /// First item at or after number `i` for which `want` holds, skipping chunks by their sums.
    pub fn find_from(&self, i: usize, want: impl Fn(&I::Sums) -> bool) -> Option<usize> {
        let first = self
            .chunks
            .partition_point(|c| c.start <= i)
            .checked_sub(1)?;
        for c in &self.chunks[first..] {
            if !want(&c.chunk.sums) {
                continue;
            }
            let skip = i.saturating_sub(c.start);
            if let Some(k) = c.chunk.items.iter().skip(skip).position(|x| want(x.sums())) {
                return Some(c.start + skip + k);
            }
        }
        None
    }

    /// Last item at or before number `i` for which `want` holds.
    pub fn find_back(&self, i: usize, want: impl Fn(&I::Sums) -> bool) -> Option<usize> {
        let last = self.chunks.partition_point(|c| c.start <= i);
        for c in self.chunks[..last].iter().rev() {
            if !want(&c.chunk.sums) {
                continue;
            }
            let end = (i + 1 - c.start).min(c.chunk.items.len());
            if let Some(k) = c.chunk.items[..end].iter().rposition(|x| want(x.sums())) {
                return Some(c.start + k);
            }
        }
        None
    }

    /// The tree with items replaced: each entry gives an item number (ascending, once each) and
    /// what stands there instead (in order; empty = gone). Untouched chunks are shared.
    pub fn replace(&self, changes: Vec<(usize, Vec<I>)>) -> Self {
        if changes.is_empty() {
            return self.clone();
        }
        let mut out: Vec<ChunkRef<I>> = Vec::with_capacity(self.chunks.len() + 1);
        // Items of rebuilt chunks that are not closed yet.
        let mut open: Vec<I> = Vec::new();
        let mut changes = changes.into_iter().peekable();
        for c in &self.chunks {
            let end = c.start + c.chunk.items.len();
            let touched = changes.peek().is_some_and(|(i, _)| *i < end);
            if !touched {
                if !open.is_empty() && open.len() < CHUNK_MIN && c.chunk.items.len() < CHUNK_MIN {
                    open.extend(c.chunk.items.iter().cloned());
                    continue;
                }
                close(&mut open, &mut out);
                out.push(c.clone());
                continue;
            }
            if open.len() >= CHUNK_MIN {
                close(&mut open, &mut out);
            }
            for (k, item) in c.chunk.items.iter().enumerate() {
                match changes.next_if(|(i, _)| *i == c.start + k) {
                    Some((_, new)) => open.extend(new),
                    None => open.push(item.clone()),
                }
            }
            if open.len() > CHUNK_MAX {
                close(&mut open, &mut out);
            }
        }
        // Entries beyond the last item append.
        changes.for_each(|(_, new)| open.extend(new));
        close(&mut open, &mut out);
        Self::from_chunks(out)
    }

    /// Walks two trees in order and hands over what is not shared, as runs of whole items that
    /// cover the same key range on both sides as far as pointers can tell.
    pub fn unshared<'a>(&'a self, other: &'a Tree<I>) -> (Vec<&'a I>, Vec<&'a I>) {
        // Pointers of items are unique in a tree, so "shared" is set membership; chunks first.
        let mut left = Vec::new();
        let mut right = Vec::new();
        let mut a = self.chunks.iter().peekable();
        let mut b = other.chunks.iter().peekable();
        loop {
            match (a.peek(), b.peek()) {
                (Some(x), Some(y)) if Arc::ptr_eq(&x.chunk, &y.chunk) => {
                    a.next();
                    b.next();
                }
                (Some(x), Some(y)) => {
                    if order(&x.chunk.items[0], &y.chunk.items[0]).is_le() {
                        left.extend(x.chunk.items.iter());
                        a.next();
                    } else {
                        right.extend(y.chunk.items.iter());
                        b.next();
                    }
                }
                (Some(x), None) => {
                    left.extend(x.chunk.items.iter());
                    a.next();
                }
                (None, Some(y)) => {
                    right.extend(y.chunk.items.iter());
                    b.next();
                }
                (None, None) => break,
            }
        }
        strike_shared(left, right)
    }
}

/// Removes from both ordered lists the items that are the same object, by a merge over first keys.
fn strike_shared<'a, I: Item>(left: Vec<&'a I>, right: Vec<&'a I>) -> (Vec<&'a I>, Vec<&'a I>) {
    let (mut l, mut r) = (Vec::new(), Vec::new());
    let mut a = left.into_iter().peekable();
    let mut b = right.into_iter().peekable();
    loop {
        match (a.peek(), b.peek()) {
            // Nearly all are: their keys stand elsewhere in memory and are not read.
            (Some(x), Some(y)) if x.same(y) => {
                a.next();
                b.next();
            }
            (Some(x), Some(y)) => match order(*x, *y) {
                std::cmp::Ordering::Equal => {
                    l.extend(a.next());
                    r.extend(b.next());
                }
                std::cmp::Ordering::Less => l.extend(a.next()),
                std::cmp::Ordering::Greater => r.extend(b.next()),
            },
            (Some(_), None) => l.extend(a.next()),
            (None, Some(_)) => r.extend(b.next()),
            (None, None) => return (l, r),
        }
    }
}

/// By first key; the fence decides nearly always, and stands in the reference.
fn order<I: Item>(a: &I, b: &I) -> std::cmp::Ordering {
    let fences = a.fence().cmp(&b.fence());
    fences.then_with(|| a.first_key().cmp(b.first_key()))
}

fn close<I: Item>(open: &mut Vec<I>, out: &mut Vec<ChunkRef<I>>) {
    if open.is_empty() {
        return;
    }
    let parts = open.len().div_ceil(CHUNK_MAX);
    let per = open.len().div_ceil(parts);
    let mut it = std::mem::take(open).into_iter();
    loop {
        let items: Vec<I> = it.by_ref().take(per).collect();
        if items.is_empty() {
            return;
        }
        out.push(Chunk::refer(items));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    struct T(Arc<[u8]>, Count);
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Count(usize);
    impl Sums for Count {
        fn add(&mut self, o: &Self) {
            self.0 += o.0;
        }
    }
    impl Item for T {
        type Sums = Count;
        fn fence(&self) -> u64 {
            crate::key::fence(&self.0)
        }
        fn first_key(&self) -> &[u8] {
            &self.0
        }
        fn sums(&self) -> &Count {
            &self.1
        }
        fn same(&self, o: &Self) -> bool {
            Arc::ptr_eq(&self.0, &o.0)
        }
    }
    fn item(n: u32) -> T {
        // A common prefix longer than the fence, so that ties are decided by the whole key.
        let mut k = b"prefix--".to_vec();
        k.extend_from_slice(&n.to_be_bytes());
        T(k.into(), Count(1))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn acts_like_a_vector(n in 0u32..1500, picks in prop::collection::btree_map(0usize..1500, 0usize..4, 0..40)) {
            let items: Vec<T> = (0..n).map(|i| item(i * 10)).collect();
            let tree = Tree::from_items(items.clone());
            let changes: Vec<(usize, Vec<T>)> = picks.iter().filter(|(i, _)| **i < n as usize)
                .map(|(&i, &k)| (i, (0..k as u32).map(|j| item(i as u32 * 10 + j)).collect())).collect();
            let mut model = items;
            for (i, new) in changes.iter().rev() {
                model.splice(*i..*i + 1, new.iter().cloned());
            }
            let before: Vec<u8> = tree.iter().flat_map(|t| t.0.to_vec()).collect();
            let new = tree.replace(changes.clone());
            prop_assert_eq!(new.len(), model.len());
            prop_assert_eq!(new.sums(), &Count(model.len()));
            for (i, m) in model.iter().enumerate() {
                prop_assert_eq!(&new.get(i).unwrap().0, &m.0);
                prop_assert_eq!(new.locate(&m.0), Some(i));
            }
            prop_assert!(new.iter_from(model.len() / 2).zip(&model[model.len() / 2..]).all(|(a, b)| a.0 == b.0));
            prop_assert_eq!(new.locate(b"a"), None);
            prop_assert_eq!(new.get(model.len()).map(|_| ()), None);
            prop_assert_eq!(before, tree.iter().flat_map(|t| t.0.to_vec()).collect::<Vec<u8>>());
            let (l, r) = tree.unshared(&new);
            prop_assert_eq!(l.len(), changes.len());
            prop_assert_eq!(r.len(), changes.iter().map(|c| c.1.len()).sum::<usize>());
        }
    }
}
