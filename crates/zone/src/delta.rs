//! Bytes described by other bytes that are much like them: runs to copy, and what is new.
//!
//! Made for leaves of a few KiB of which an owner or a signature has changed. A delta is a varint
//! length of the result, then operations until the end: a varint `n`; even: `n / 2` octets follow
//! literally; odd: `n / 2` octets are copied from the varint offset that follows.

use std::collections::HashMap;

use crate::codec::{Reader, push_varint};

/// Shortest run worth copying.
const WINDOW: usize = 16;
/// Octets that differ in a row before the reference is indexed to find moved runs.
const PATIENCE: usize = 64;
/// Results that are made beyond twice the reference and the delta together.
const SLACK: usize = 1 << 16;

/// Appends `new` in terms of `reference`.
pub fn push_delta(reference: &[u8], new: &[u8], out: &mut Vec<u8>) {
    push_varint(new.len() as u32, out);
    let start = out.len();
    copy_and_insert(reference, new, out);
    if new.len() > bound(reference.len(), out.len() - start) {
        // Absurdly repetitive: written out, so that no reader must trust a short delta of a huge
        // result.
        out.truncate(start);
        insert(new, out);
    }
}

/// The bytes that a delta describes; `None` when it is malformed.
pub fn apply_delta(reference: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let mut r = Reader::new(delta);
    let len = r.varint()? as usize;
    if len > bound(reference.len(), r.rest().len()) {
        return None;
    }
    let mut out = Vec::with_capacity(len);
    while !r.is_empty() {
        let n = r.varint()?;
        let count = (n >> 1) as usize;
        let run = if n & 1 == 0 {
            r.take(count)?
        } else {
            let at = r.varint()? as usize;
            reference.get(at..at.checked_add(count)?)?
        };
        if run.len() > len - out.len() {
            return None;
        }
        out.extend_from_slice(run);
    }
    (out.len() == len).then_some(out)
}

fn bound(reference: usize, delta: usize) -> usize {
    2 * (reference + delta) + SLACK
}

fn insert(run: &[u8], out: &mut Vec<u8>) {
    if !run.is_empty() {
        push_varint((run.len() as u32) << 1, out);
        out.extend_from_slice(run);
    }
}

fn copy_and_insert(reference: &[u8], new: &[u8], out: &mut Vec<u8>) {
    let mut index: Option<HashMap<&[u8], usize>> = None;
    // `done` octets are written; a match is looked for at `at`, first where the last one left off.
    let (mut done, mut at, mut shift) = (0usize, 0usize, 0isize);
    while at + WINDOW <= new.len() {
        let window = &new[at..at + WINDOW];
        let straight = at
            .checked_add_signed(shift)
            .filter(|r| reference.get(*r..*r + WINDOW) == Some(window));
        if index.is_none() && straight.is_none() && at - done >= PATIENCE {
            index = Some(windows(reference));
        }
        let found = straight.or_else(|| index.as_ref()?.get(window).copied());
        let Some(from) = found else {
            at += 1;
            continue;
        };
        let back = common(new[done..at].iter().rev(), reference[..from].iter().rev());
        let ahead = common(new[at..].iter(), reference[from..].iter());
        insert(&new[done..at - back], out);
        push_varint(((back + ahead) as u32) << 1 | 1, out);
        push_varint((from - back) as u32, out);
        shift = from as isize - at as isize;
        at += ahead;
        done = at;
    }
    insert(&new[done..], out);
}

/// Non-overlapping windows of the reference; a run of twice that length holds one of them.
fn windows(reference: &[u8]) -> HashMap<&[u8], usize> {
    let all = reference.chunks_exact(WINDOW).enumerate();
    all.map(|(i, w)| (w, i * WINDOW)).collect()
}

fn common<'a>(a: impl Iterator<Item = &'a u8>, b: impl Iterator<Item = &'a u8>) -> usize {
    a.zip(b).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn delta(a: &[u8], b: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_delta(a, b, &mut out);
        out
    }

    fn noise(n: usize, mut x: u32) -> Vec<u8> {
        let mut step = || {
            x = x.wrapping_mul(1664525).wrapping_add(1013904223);
            (x >> 24) as u8
        };
        (0..n).map(|_| step()).collect()
    }

    #[test]
    fn small_changes_are_small() {
        let a = noise(8192, 1);
        let mut replaced = a.clone();
        replaced[16..32].fill(9);
        replaced[5000..5064].fill(8);
        let mut inserted = a.clone();
        inserted.splice(3000..3000, noise(40, 2));
        let removed = [&a[..100], &a[400..]].concat();
        for (b, max) in [(&replaced, 110), (&inserted, 70), (&removed, 60), (&a, 8)] {
            let d = delta(&a, b);
            assert!(d.len() <= max, "{} > {max}", d.len());
            assert_eq!(&apply_delta(&a, &d).unwrap(), b);
        }
    }

    #[test]
    fn bad_deltas_are_refused() {
        let a = noise(100, 1);
        for bad in [
            &[][..],
            &[5, 4, 1],
            &[2, 2, 7],
            &[1, 4, 1, 2],
            &[20, 41, 90],
            &[0xff; 9],
            &[0xff, 0xff, 0xff, 0x7f, 1, 0],
        ] {
            assert_eq!(apply_delta(&a, bad), None, "{bad:?}");
        }
    }

    #[test]
    fn repetition_is_written_out() {
        let b = vec![7; 4 << 20];
        let d = delta(&[7; 64], &b);
        assert_eq!(apply_delta(&[7; 64], &d).unwrap(), b);
    }

    proptest! {
        #[test]
        fn anything_comes_back(a in prop::collection::vec(0u8..3, 0..600), cuts in prop::collection::vec((0usize..600, 0usize..80, prop::collection::vec(any::<u8>(), 0..40)), 0..6)) {
            let mut b = a.clone();
            for (at, n, new) in cuts {
                let at = at.min(b.len());
                let end = (at + n).min(b.len());
                b.splice(at..end, new);
            }
            prop_assert_eq!(apply_delta(&a, &delta(&a, &b)).unwrap(), b);
        }

        #[test]
        fn no_panic(a in prop::collection::vec(any::<u8>(), 0..60), d in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = apply_delta(&a, &d);
        }
    }
}
