//! The zone store as a [`Source`]: the only file that knows its reader.
//!
//! Units and blocks come through the record writer that transfers use, so what is checked is what
//! is served. Look-ups by name go through the store's order keys; what they give is checked to be
//! at the name that was asked for, and V21 compares it with the records of the delta, which come
//! from the record writer again.

use cascade_zone::{DiffPart, Hash, NSEC_SET, Owner, Rtype, ZoneVersion, diff, diff_parts, key};

use crate::delta::Delta;
use crate::denial::{hash_of_owner, push_hashed_owner};
use crate::finding::is_denial_or_signature;
use crate::source::{Claims, Rr, Source};
use crate::wire;

impl Source for ZoneVersion {
    fn apex(&self) -> &[u8] {
        self.apex_lower()
    }

    fn unit_count(&self) -> usize {
        ZoneVersion::unit_count(self)
    }

    fn unit(&self, index: usize, f: &mut dyn FnMut(Rr<'_>)) {
        ZoneVersion::unit(self, index).for_each_record(&mut |r| f(rr(&r)));
    }

    fn block_count(&self) -> usize {
        ZoneVersion::block_count(self)
    }

    fn block(&self, index: usize, f: &mut dyn FnMut(Rr<'_>)) {
        self.for_each_record_in_block(index, &mut |r| f(rr(&r)));
    }

    fn at(&self, owner: &[u8], f: &mut dyn FnMut(Rr<'_>)) {
        let Some(key) = key::key_of(self.apex(), owner) else {
            return;
        };
        let Some(found) = at_key(self, &key, owner) else {
            return;
        };
        let mut name = Vec::with_capacity(owner.len());
        found.push_wire(&mut name);
        let labels = (wire::label_count(&name) - wire::is_wildcard(&name) as usize) as u8;
        let mut rdata = Vec::with_capacity(256);
        // In the order of the sets, the one of the NSEC last.
        let mut sigs = found.all_sigs().peekable();
        let mut give = |index: usize, rtype: Rtype, ttl: u32, f: &mut dyn FnMut(Rr<'_>)| {
            while let Some((_, sig)) = sigs.next_if(|(set, _)| usize::from(*set) <= index) {
                rdata.clear();
                let sig = sig.over(rtype);
                if sig.push_rdata(self, labels, ttl, &mut rdata) {
                    f(Rr {
                        owner: &name,
                        rtype: Rtype::RRSIG.0,
                        ttl,
                        rdata: &rdata,
                    });
                }
            }
        };
        for set in found.sets() {
            for data in set.rdatas() {
                f(Rr {
                    owner: &name,
                    rtype: set.rtype.0,
                    ttl: set.ttl,
                    rdata: data,
                });
            }
            give(set.index, set.rtype, set.ttl, f);
        }
        if let Some(nsec) = found.nsec() {
            let mut rdata = Vec::with_capacity(256);
            nsec.push_rdata(&mut rdata);
            f(Rr {
                owner: &name,
                rtype: Rtype::NSEC.0,
                ttl: nsec.ttl,
                rdata: &rdata,
            });
            give(usize::from(NSEC_SET), Rtype::NSEC, nsec.ttl, f);
        }
    }

    fn types_at(&self, owner: &[u8], f: &mut dyn FnMut(u16)) {
        let Some(found) = key::key_of(self.apex(), owner).and_then(|key| at_key(self, &key, owner))
        else {
            return;
        };
        let types = found.types().map(|t| t.0);
        types.filter(|t| !is_denial_or_signature(*t)).for_each(f);
    }

    fn owner_in(&self, unit: usize, n: u64) -> Option<Vec<u8>> {
        let unit = ZoneVersion::unit(self, unit);
        let at = n.checked_rem(unit.owner_count() as u64)?;
        let owner = unit.owner_at(u16::try_from(at).ok()?)?;
        let name = owner.name().as_wire().to_ascii_lowercase();
        wire::at_or_below(&name, self.apex_lower()).then_some(name)
    }

    fn hashed_at(&self, owner: &[u8], f: &mut dyn FnMut(Rr<'_>)) {
        let (Some(chain), Some(hash)) = (self.chain(), hash_of_owner(owner, self.apex_lower()))
        else {
            return;
        };
        let Some(row) = chain.matching(self, &hash) else {
            return;
        };
        let (mut name, mut rdata) = (Vec::with_capacity(64), Vec::with_capacity(160));
        row.push_owner(&mut name);
        row.push_rdata(&mut rdata);
        f(Rr {
            owner: &name,
            rtype: Rtype::NSEC3.0,
            ttl: row.ttl(),
            rdata: &rdata,
        });
        for sig in row.sigs() {
            rdata.clear();
            if row.push_rrsig(&sig, &mut rdata) {
                f(Rr {
                    owner: &name,
                    rtype: Rtype::RRSIG.0,
                    ttl: row.ttl(),
                    rdata: &rdata,
                });
            }
        }
    }

    fn next_owner(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        let found = key::key_of(self.apex(), name).and_then(|key| self.succ(&key));
        give(found.map(|o| o.name()), out)
    }

    fn next_with_types(&self, name: &[u8], out: &mut Vec<u8>, f: &mut dyn FnMut(u16)) -> bool {
        let Some(found) = key::key_of(self.apex(), name).and_then(|key| self.succ(&key)) else {
            return false;
        };
        out.clear();
        found.push_wire(out);
        let types = found.types().map(|t| t.0);
        types.filter(|t| !is_denial_or_signature(*t)).for_each(f);
        true
    }

    fn previous_owner(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        let found = key::key_of(self.apex(), name).and_then(|key| self.pred(&key));
        give(found.map(|o| o.name()), out)
    }

    fn next_hashed(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        // Anything but a hash sorts before all of them here: the apex is what is asked for.
        let after = hash_of_owner(name, self.apex_lower());
        give_hash(self, neighbours(self, after.as_ref()).1, out)
    }

    fn previous_hashed(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        let before = match hash_of_owner(name, self.apex_lower()) {
            Some(hash) => neighbours(self, Some(&hash)).0,
            None => last_hash(self),
        };
        give_hash(self, before, out)
    }

    fn claims(&self) -> Option<Claims> {
        Some(Claims {
            records: self.sums().records,
            content: self.content_fingerprint().0,
            full: self.full_fingerprint().0,
        })
    }
}

/// The owner with this key, if its name is the one that was asked for.
fn at_key<'a>(version: &'a ZoneVersion, key: &[u8], owner: &[u8]) -> Option<Owner<'a>> {
    let found = version.owner(key)?;
    let mut name = Vec::with_capacity(owner.len());
    found.push_wire(&mut name);
    wire::same_name(&name, owner).then_some(found)
}

fn rr<'a>(r: &cascade_zone::Record<'a>) -> Rr<'a> {
    Rr {
        owner: r.owner,
        rtype: r.rtype.0,
        ttl: r.ttl,
        rdata: r.rdata,
    }
}

fn give(name: Option<cascade_zone::Name>, out: &mut Vec<u8>) -> bool {
    let Some(name) = name else { return false };
    out.clear();
    out.extend_from_slice(name.as_wire());
    true
}

fn give_hash(version: &ZoneVersion, hash: Option<Hash>, out: &mut Vec<u8>) -> bool {
    let Some(hash) = hash else { return false };
    push_hashed_owner(&hash, version.apex_lower(), out);
    true
}

/// The hashes before and after `hash` (before all of them, when `None`), without wrapping.
fn neighbours(version: &ZoneVersion, hash: Option<&Hash>) -> (Option<Hash>, Option<Hash>) {
    let Some(chain) = version.chain() else {
        return (None, None);
    };
    let tree = chain.tree();
    let first_of = |b: usize| tree.get(b).and_then(|b| b.block.row(0)).map(|r| *r.hash);
    let last_of = |b: usize| {
        tree.get(b)
            .and_then(|b| b.block.row(b.block.len().checked_sub(1)?))
            .map(|r| *r.hash)
    };
    let Some((b, hash)) = hash.and_then(|h| Some((tree.locate(h)?, h))) else {
        return (None, first_of(0));
    };
    let Some(block) = tree.get(b) else {
        return (None, None);
    };
    let at = block.block.locate(hash).unwrap_or(0);
    let row = |i: usize| block.block.row(i).map(|r| *r.hash);
    let after = row(at + 1).or_else(|| first_of(b + 1));
    let before = match row(at) {
        Some(h) if h < *hash => Some(h),
        _ => at
            .checked_sub(1)
            .and_then(row)
            .or_else(|| b.checked_sub(1).and_then(last_of)),
    };
    (before, after)
}

fn last_hash(version: &ZoneVersion) -> Option<Hash> {
    let tree = version.chain()?.tree();
    let block = tree.get(tree.len().checked_sub(1)?)?;
    block
        .block
        .row(block.block.len().checked_sub(1)?)
        .map(|r| *r.hash)
}

/// The store's own difference of two versions.
#[derive(Debug, Clone, Copy)]
pub struct StoreDelta<'a> {
    pub old: &'a ZoneVersion,
    pub new: &'a ZoneVersion,
}

/// Leaves and blocks of a part of a difference: some hundred owners, and their neighbours.
const PART: usize = 64;

impl Delta for StoreDelta<'_> {
    fn for_each(&self, f: &mut dyn FnMut(bool, Rr<'_>)) {
        diff(self.old, self.new, &mut |item| give_item(f, &item));
    }

    fn parts(&self) -> Vec<Box<dyn Delta + '_>> {
        let parts = diff_parts(self.old, self.new, PART);
        let boxed = |part| Box::new(StorePart(part)) as Box<dyn Delta>;
        parts.into_iter().map(boxed).collect()
    }
}

struct StorePart<'a>(DiffPart<'a>);

impl Delta for StorePart<'_> {
    fn for_each(&self, f: &mut dyn FnMut(bool, Rr<'_>)) {
        self.0.for_each(&mut |item| give_item(f, &item));
    }
}

fn give_item(f: &mut dyn FnMut(bool, Rr<'_>), item: &cascade_zone::DiffItem<'_>) {
    let rr = Rr {
        owner: item.owner,
        rtype: item.rtype.0,
        ttl: item.ttl,
        rdata: item.rdata,
    };
    f(item.removed, rr);
}

/// Seed of a zone's fingerprints in the store, for [`Params::fingerprint_seed`](crate::Params).
pub fn fingerprint_seed(zone: cascade_zone::ZoneId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = zone.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
