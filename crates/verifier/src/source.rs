//! Where records come from: anything that can give them in transfer order and by name.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::finding::is_denial_or_signature;
use crate::rdata::t;
use crate::wire::{self, cmp_names, same_name};

/// One record in wire form. Class is IN.
#[derive(Debug, Clone, Copy)]
pub struct Rr<'a> {
    /// Uncompressed, spelling as served.
    pub owner: &'a [u8],
    pub rtype: u16,
    pub ttl: u32,
    /// Uncompressed, spelling as served.
    pub rdata: &'a [u8],
}

/// What a store claims about itself, to be compared with what the gate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    pub records: u64,
    pub content: u128,
    pub full: u128,
}

/// A zone version as a reader of wire records.
///
/// The *main* records are all but the NSEC3 records and the RRSIGs that cover NSEC3; they come in
/// units: unit 0 is the apex, then owners in canonical order. NSEC3 records with their RRSIGs come
/// in blocks, in the order of their owners. A unit or block holds all main or all NSEC3 records of
/// an owner. The gate checks these orders, it does not rely on them.
pub trait Source: Sync {
    /// Apex name in wire form.
    fn apex(&self) -> &[u8];
    fn unit_count(&self) -> usize;
    fn unit(&self, index: usize, f: &mut dyn FnMut(Rr<'_>));
    fn block_count(&self) -> usize;
    fn block(&self, index: usize, f: &mut dyn FnMut(Rr<'_>));
    /// Main records at `owner`.
    fn at(&self, owner: &[u8], f: &mut dyn FnMut(Rr<'_>));
    /// Types of the main records at `owner`, signatures and NSEC left out; each once or more. Asked
    /// for many names that only stand beside a change: cheaper than the records, where that is so.
    fn types_at(&self, owner: &[u8], f: &mut dyn FnMut(u16)) {
        self.at(owner, &mut |rr| {
            if !is_denial_or_signature(rr.rtype) {
                f(rr.rtype);
            }
        });
    }
    /// NSEC3 records and their RRSIGs at `owner`.
    fn hashed_at(&self, owner: &[u8], f: &mut dyn FnMut(Rr<'_>));
    /// Owner of main records number `n` (modulo how many there are) of a unit, in lower case; `None`:
    /// there is none in the zone.
    fn owner_in(&self, unit: usize, n: u64) -> Option<Vec<u8>> {
        let mut owners: Vec<Vec<u8>> = Vec::new();
        self.unit(unit, &mut |rr| {
            if owners.last().is_none_or(|o| !same_name(o, rr.owner))
                && wire::at_or_below(rr.owner, self.apex())
            {
                owners.push(rr.owner.to_ascii_lowercase());
            }
        });
        let at = n.checked_rem(owners.len() as u64)?;
        Some(owners.swap_remove(at as usize))
    }
    /// First owner of main records after `name` in canonical order, into `out`; false at the end.
    fn next_owner(&self, name: &[u8], out: &mut Vec<u8>) -> bool;
    /// The same, with its types as [`types_at`](Source::types_at) gives them.
    fn next_with_types(&self, name: &[u8], out: &mut Vec<u8>, f: &mut dyn FnMut(u16)) -> bool {
        let found = self.next_owner(name, out);
        if found {
            self.types_at(out, f);
        }
        found
    }
    /// Last owner of main records before `name`.
    fn previous_owner(&self, name: &[u8], out: &mut Vec<u8>) -> bool;
    /// First owner of NSEC3 records after `name`; false at the end, without wrapping.
    fn next_hashed(&self, name: &[u8], out: &mut Vec<u8>) -> bool;
    /// Last owner of NSEC3 records before `name`.
    fn previous_hashed(&self, name: &[u8], out: &mut Vec<u8>) -> bool;
    fn claims(&self) -> Option<Claims> {
        None
    }
}

/// A pointer to a source is a source.
macro_rules! pointer {
    ($t:ty $(, $life:lifetime)?) => {
        impl<$($life,)? S: Source + Send + ?Sized> Source for $t {
            fn apex(&self) -> &[u8] {
                (**self).apex()
            }
            fn unit_count(&self) -> usize {
                (**self).unit_count()
            }
            fn unit(&self, index: usize, f: &mut dyn FnMut(Rr<'_>)) {
                (**self).unit(index, f);
            }
            fn block_count(&self) -> usize {
                (**self).block_count()
            }
            fn block(&self, index: usize, f: &mut dyn FnMut(Rr<'_>)) {
                (**self).block(index, f);
            }
            fn at(&self, owner: &[u8], f: &mut dyn FnMut(Rr<'_>)) {
                (**self).at(owner, f);
            }
            fn types_at(&self, owner: &[u8], f: &mut dyn FnMut(u16)) {
                (**self).types_at(owner, f);
            }
            fn hashed_at(&self, owner: &[u8], f: &mut dyn FnMut(Rr<'_>)) {
                (**self).hashed_at(owner, f);
            }
            fn owner_in(&self, unit: usize, n: u64) -> Option<Vec<u8>> {
                (**self).owner_in(unit, n)
            }
            fn next_owner(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
                (**self).next_owner(name, out)
            }
            fn next_with_types(
                &self,
                name: &[u8],
                out: &mut Vec<u8>,
                f: &mut dyn FnMut(u16),
            ) -> bool {
                (**self).next_with_types(name, out, f)
            }
            fn previous_owner(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
                (**self).previous_owner(name, out)
            }
            fn next_hashed(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
                (**self).next_hashed(name, out)
            }
            fn previous_hashed(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
                (**self).previous_hashed(name, out)
            }
            fn claims(&self) -> Option<Claims> {
                (**self).claims()
            }
        }
    };
}

pointer!(Arc<S>);
pointer!(&'a S, 'a);

/// Records per unit and per block of a [`RecordList`].
const UNIT: usize = 256;

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: usize,
    owner_len: u8,
    rdata_len: u16,
    rtype: u16,
    ttl: u32,
}

/// A zone as a plain list of wire records, as a parser of a signed zone file leaves it.
#[derive(Debug, Clone)]
pub struct RecordList {
    apex: Vec<u8>,
    octets: Vec<u8>,
    main: Vec<Entry>,
    hashed: Vec<Entry>,
    units: Vec<usize>,
    blocks: Vec<usize>,
}

/// A record that cannot be held: its name or RDATA is not of this world.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {index}: {what}")]
pub struct BadRecord {
    /// Position in the list given.
    pub index: usize,
    pub what: &'static str,
}

impl RecordList {
    /// Sorts `records`; those of the apex first.
    pub fn new<'a>(
        apex: &[u8],
        records: impl IntoIterator<Item = Rr<'a>>,
    ) -> Result<RecordList, BadRecord> {
        if !wire::is_name(apex) {
            return Err(BadRecord {
                index: 0,
                what: "the apex is not a name",
            });
        }
        let mut list = RecordList {
            apex: apex.to_ascii_lowercase(),
            octets: Vec::new(),
            main: Vec::new(),
            hashed: Vec::new(),
            units: Vec::new(),
            blocks: Vec::new(),
        };
        for (index, rr) in records.into_iter().enumerate() {
            if !wire::is_name(rr.owner) {
                return Err(BadRecord {
                    index,
                    what: "the owner is not a name",
                });
            }
            let Ok(rdata_len) = u16::try_from(rr.rdata.len()) else {
                return Err(BadRecord {
                    index,
                    what: "RDATA longer than 65535 octets",
                });
            };
            let entry = Entry {
                at: list.octets.len(),
                owner_len: rr.owner.len() as u8,
                rdata_len,
                rtype: rr.rtype,
                ttl: rr.ttl,
            };
            list.octets.extend_from_slice(rr.owner);
            list.octets.extend_from_slice(rr.rdata);
            let covers_nsec3 = rr.rtype == t::RRSIG && wire::u16_at(rr.rdata, 0) == t::NSEC3;
            if rr.rtype == t::NSEC3 || covers_nsec3 {
                list.hashed.push(entry);
            } else {
                list.main.push(entry);
            }
        }
        let (mut main, mut hashed) = (
            std::mem::take(&mut list.main),
            std::mem::take(&mut list.hashed),
        );
        main.sort_by(|a, b| list.order(a, b));
        hashed.sort_by(|a, b| list.order(a, b));
        let apex_records = main.partition_point(|e| same_name(list.owner(e), &list.apex));
        list.units = borders(&main, apex_records, |a, b| {
            same_name(list.owner(a), list.owner(b))
        });
        list.blocks = borders(&hashed, 0, |a, b| same_name(list.owner(a), list.owner(b)));
        (list.main, list.hashed) = (main, hashed);
        Ok(list)
    }

    /// Every record, as sorted.
    pub fn for_each(&self, f: &mut dyn FnMut(Rr<'_>)) {
        self.emit(&self.main, f);
        self.emit(&self.hashed, f);
    }

    pub fn len(&self) -> usize {
        self.main.len() + self.hashed.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn owner(&self, e: &Entry) -> &[u8] {
        &self.octets[e.at..e.at + e.owner_len as usize]
    }

    fn rdata(&self, e: &Entry) -> &[u8] {
        let at = e.at + e.owner_len as usize;
        &self.octets[at..at + e.rdata_len as usize]
    }

    /// Canonical order with the apex before everything, foreign names included.
    fn order(&self, a: &Entry, b: &Entry) -> Ordering {
        self.order_names(self.owner(a), self.owner(b))
            .then(a.rtype.cmp(&b.rtype))
            .then_with(|| self.rdata(a).cmp(self.rdata(b)))
    }

    fn order_names(&self, a: &[u8], b: &[u8]) -> Ordering {
        match (same_name(a, &self.apex), same_name(b, &self.apex)) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => cmp_names(a, b),
        }
    }

    fn emit(&self, entries: &[Entry], f: &mut dyn FnMut(Rr<'_>)) {
        for e in entries {
            f(Rr {
                owner: self.owner(e),
                rtype: e.rtype,
                ttl: e.ttl,
                rdata: self.rdata(e),
            });
        }
    }

    fn find(&self, entries: &[Entry], owner: &[u8], f: &mut dyn FnMut(Rr<'_>)) {
        let from =
            entries.partition_point(|e| self.order_names(self.owner(e), owner) == Ordering::Less);
        let tail = &entries[from..];
        let len = tail.partition_point(|e| same_name(self.owner(e), owner));
        self.emit(&tail[..len], f);
    }

    fn neighbour(&self, entries: &[Entry], name: &[u8], after: bool, out: &mut Vec<u8>) -> bool {
        let found = if after {
            let i = entries
                .partition_point(|e| self.order_names(self.owner(e), name) != Ordering::Greater);
            entries.get(i)
        } else {
            let i = entries
                .partition_point(|e| self.order_names(self.owner(e), name) == Ordering::Less);
            i.checked_sub(1).and_then(|i| entries.get(i))
        };
        let Some(found) = found else { return false };
        out.clear();
        out.extend_from_slice(self.owner(found));
        true
    }
}

/// Ends of units: the first after `first` records, then about `UNIT` records, never inside an owner.
fn borders(entries: &[Entry], first: usize, same: impl Fn(&Entry, &Entry) -> bool) -> Vec<usize> {
    let mut ends = vec![first];
    let mut start = first;
    while start < entries.len() {
        let mut end = (start + UNIT).min(entries.len());
        while end < entries.len() && same(&entries[end - 1], &entries[end]) {
            end += 1;
        }
        ends.push(end);
        start = end;
    }
    ends
}

impl Source for RecordList {
    fn apex(&self) -> &[u8] {
        &self.apex
    }
    fn unit_count(&self) -> usize {
        self.units.len()
    }
    fn unit(&self, index: usize, f: &mut dyn FnMut(Rr<'_>)) {
        let from = index.checked_sub(1).map_or(0, |i| self.units[i]);
        self.emit(&self.main[from..self.units[index]], f);
    }
    fn block_count(&self) -> usize {
        self.blocks.len() - 1
    }
    fn block(&self, index: usize, f: &mut dyn FnMut(Rr<'_>)) {
        self.emit(&self.hashed[self.blocks[index]..self.blocks[index + 1]], f);
    }
    fn at(&self, owner: &[u8], f: &mut dyn FnMut(Rr<'_>)) {
        self.find(&self.main, owner, f);
    }
    fn hashed_at(&self, owner: &[u8], f: &mut dyn FnMut(Rr<'_>)) {
        self.find(&self.hashed, owner, f);
    }
    fn next_owner(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        self.neighbour(&self.main, name, true, out)
    }
    fn previous_owner(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        self.neighbour(&self.main, name, false, out)
    }
    fn next_hashed(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        self.neighbour(&self.hashed, name, true, out)
    }
    fn previous_hashed(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        self.neighbour(&self.hashed, name, false, out)
    }
}
