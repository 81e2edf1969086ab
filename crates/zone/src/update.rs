//! A version that differs from another in k owners, at the cost of k leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cascade_time::Timestamp;
use rayon::prelude::*;

use crate::build::BuildError;
use crate::canon;
use crate::fingerprint::Hasher;
use crate::id::VersionId;
use crate::key;
use crate::leaf::{Flags, Kinds, LEAF_MAX, LEAF_TARGET, LeafEncoder, RdataIter, SetData};
use crate::rtype::Rtype;
use crate::settle;
use crate::splice;
use crate::sums::{sum_made, sum_pair};
use crate::tree::Item;
use crate::version::{LeafRef, Owner, RRset, ZoneVersion};

/// One RRset as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Order key of the owner; empty = apex.
    pub key: Vec<u8>,
    /// Spelling of an owner that is new ([`key::case_of`]).
    pub case: Option<Vec<u8>>,
    pub rtype: Rtype,
    /// TTL and RDATA; `None` or no RDATA = the set is gone.
    pub set: Option<(u32, Vec<Vec<u8>>)>,
}

/// An owner whose presence, types or role changed, or whose sets did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerChange {
    pub key: Vec<u8>,
    /// Role flags and types before; `None` = was not there.
    pub before: Option<(u8, Vec<Rtype>)>,
    pub after: Option<(u8, Vec<Rtype>)>,
}

/// The outcome of an update.
#[derive(Debug)]
pub struct Update {
    pub version: ZoneVersion,
    /// In key order; owners whose role changed because something above them did are among them.
    pub owners: Vec<OwnerChange>,
    pub effort: Effort,
}

/// What was done for an update: it grows with the edits, not with their leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Effort {
    /// Leaves that hold an edited owner, or one whose role changed.
    pub leaves: usize,
    /// Of these, written owner by owner, because a few groups of owners would not do.
    pub whole: usize,
    /// Owners that were written; those of groups that were copied as they stood are not.
    pub written: usize,
    /// Pairs of neighbours that became one leaf.
    pub joined: usize,
}

/// New sets of one owner; `None` = gone.
type Sets = BTreeMap<Rtype, Option<(u32, Vec<Vec<u8>>)>>;

pub(crate) struct OwnerEdit {
    case: Option<Vec<u8>>,
    sets: Sets,
}

impl ZoneVersion {
    /// Applies edits to an unsigned version. Untouched leaves are shared with `self`; an update
    /// that changes nothing shares all of them. Later edits of the same set win.
    ///
    /// # Errors
    /// The version is signed, or the apex would lose its one SOA; nothing is changed.
    pub fn update(
        &self,
        id: VersionId,
        made_at: Timestamp,
        edits: Vec<Edit>,
    ) -> Result<Update, BuildError> {
        self.update_by(id, made_at, edits, false)
    }

    /// `whole`: every touched leaf is written owner by owner.
    pub(crate) fn update_by(
        &self,
        id: VersionId,
        made_at: Timestamp,
        edits: Vec<Edit>,
        whole: bool,
    ) -> Result<Update, BuildError> {
        if self.is_signed() {
            return Err(BuildError::Inconsistent(
                "content is edited in unsigned versions",
            ));
        }
        let edits = merge(edits);
        let mut kinds = Kinds::clone(&self.kinds);
        for (_, edit) in edits.iter() {
            for (rtype, set) in &edit.sets {
                if let Some((ttl, _)) = set {
                    kinds.intern(*rtype, *ttl);
                }
            }
        }
        let mut new = ZoneVersion {
            id,
            of: id,
            made_at,
            kinds: Arc::new(kinds),
            ..self.clone()
        };
        let mut job = Job {
            old: self,
            edits: &edits,
            plain: false,
        };
        let mut owners = Vec::new();
        (new.apex, owners) = job.apex(&new, owners)?;
        let (leaves, toggled) = job.touched();
        job.plain = !whole && splice::is_plain(&new, &edits, &toggled);
        let one = |(i, range): &(usize, LeafRange)| job.leaf(&new, *i, range);
        // Leaves do not depend on each other.
        let made: Vec<Result<Made, BuildError>> = match leaves.len() < PARALLEL {
            true => leaves.iter().map(one).collect(),
            false => leaves.par_iter().with_min_len(16).map(one).collect(),
        };
        let mut effort = Effort {
            leaves: leaves.len(),
            ..Effort::default()
        };
        let mut replaced = Vec::new();
        for ((i, _), made) in leaves.iter().zip(made) {
            let made = made?;
            owners.extend(made.changes);
            effort.whole += usize::from(made.whole);
            effort.written += made.written;
            match (made.leaves.as_slice(), self.tree.get(*i)) {
                ([one], Some(old)) if one.u.bytes() == old.u.bytes() => {}
                _ => replaced.push((*i, made.leaves)),
            }
        }
        let (replaced, joined) = settle::settle(&new.kinds, &self.tree, replaced);
        effort.joined = joined;
        new.tree = self.tree.replace(replaced);
        Ok(Update {
            version: new.assemble(),
            owners,
            effort,
        })
    }
}

fn merge(edits: Vec<Edit>) -> BTreeMap<Vec<u8>, OwnerEdit> {
    let mut out: BTreeMap<Vec<u8>, OwnerEdit> = BTreeMap::new();
    for e in edits {
        let at = out.entry(e.key).or_insert(OwnerEdit {
            case: None,
            sets: Sets::new(),
        });
        if e.case.is_some() {
            at.case = e.case;
        }
        let set = e.set.map(|(ttl, mut rdatas)| {
            rdatas.sort_by(|a, b| canon::cmp_rdata(e.rtype, a, b));
            rdatas.dedup_by(|a, b| canon::cmp_rdata(e.rtype, a, b).is_eq());
            (ttl, rdatas)
        });
        at.sets.insert(e.rtype, set.filter(|(_, r)| !r.is_empty()));
    }
    out
}

/// What stands in place of one leaf.
#[derive(Default)]
pub(crate) struct Made {
    pub leaves: Vec<LeafRef>,
    pub changes: Vec<OwnerChange>,
    /// As [`Effort`] counts them.
    pub whole: bool,
    pub written: usize,
}

/// What of a leaf's key range an update looks at: leaf number and the edits that fall into it.
type LeafRange = (Vec<u8>, Option<Vec<u8>>);

pub(crate) struct Job<'a> {
    pub old: &'a ZoneVersion,
    edits: &'a BTreeMap<Vec<u8>, OwnerEdit>,
    /// As [`splice::is_plain`] says.
    plain: bool,
}

/// From so many leaves on, they are rewritten on all threads of the pool at hand.
const PARALLEL: usize = 64;

impl<'a> Job<'a> {
    fn apex(
        &self,
        new: &ZoneVersion,
        mut changes: Vec<OwnerChange>,
    ) -> Result<(LeafRef, Vec<OwnerChange>), BuildError> {
        let Some(edit) = self.edits.get(&[][..]) else {
            return Ok((self.old.apex.clone(), changes));
        };
        let owner = self.old.apex_owner();
        let mut sets: BTreeMap<Rtype, (u32, Vec<Vec<u8>>)> = owner
            .sets()
            .map(|s| (s.rtype, (s.ttl, s.rdatas().map(<[u8]>::to_vec).collect())))
            .collect();
        for (t, set) in &edit.sets {
            match set {
                Some(set) => drop(sets.insert(*t, set.clone())),
                None => drop(sets.remove(t)),
            }
        }
        match sets.get(&Rtype::SOA).map(|s| s.1.len()) {
            Some(1) => {}
            None => return Err(BuildError::NoSoa),
            Some(_) => return Err(BuildError::SeveralSoas),
        }
        let flags = Flags(if sets.contains_key(&Rtype::DNAME) {
            Flags::DNAME
        } else {
            0
        });
        let mut kinds = Kinds::clone(&new.kinds);
        let u = crate::sign::encode_apex(new.zone, &new.apex_lower, flags, &sets, &mut kinds);
        if u.bytes() == self.old.apex.u.bytes() {
            return Ok((self.old.apex.clone(), changes));
        }
        changes.push(OwnerChange {
            key: Vec::new(),
            before: Some((owner.flags().role(), owner.types().collect())),
            after: Some((flags.role(), sets.keys().copied().collect())),
        });
        let sums = sum_pair(new, 0, &u, None);
        Ok((LeafRef::new(u, None, sums), changes))
    }

    /// True if the owner occludes what is below it: after the edits, or before them.
    pub fn stops(&self, key: &[u8], after: bool) -> bool {
        let edit = self.edits.get(key).filter(|_| after);
        let has = |t: Rtype| match edit.and_then(|e| e.sets.get(&t)) {
            Some(set) => set.is_some(),
            None => self.old.owner(key).is_some_and(|o| o.set(t).is_some()),
        };
        (!key.is_empty() && has(Rtype::NS)) || has(Rtype::DNAME)
    }

    /// Leaves to rewrite, ascending: those that hold an edited key, and those below an owner that
    /// begins or ceases to occlude. A key before the first leaf belongs to the first. And the keys of
    /// those owners.
    fn touched(&self) -> (Vec<(usize, LeafRange)>, Vec<&'a [u8]>) {
        let tree = &self.old.tree;
        let edits: Vec<(&Vec<u8>, &OwnerEdit)> = self.edits.iter().collect();
        let look = |(k, edit): &(&'a Vec<u8>, &OwnerEdit)| {
            let toggles = [Rtype::NS, Rtype::DNAME]
                .iter()
                .any(|t| edit.sets.contains_key(t))
                && self.stops(k, true) != self.stops(k, false);
            (tree.locate(k).unwrap_or(0), toggles)
        };
        let looked: Vec<(usize, bool)> = match edits.len() < 16 * PARALLEL {
            true => edits.iter().map(look).collect(),
            false => edits.par_iter().with_min_len(256).map(look).collect(),
        };
        let mut set = BTreeSet::new();
        let mut toggled = Vec::new();
        for ((k, _), (mut i, toggles)) in edits.iter().zip(looked) {
            if !k.is_empty() {
                set.insert(i);
            }
            if !toggles {
                continue;
            }
            toggled.push(k.as_slice());
            while let Some(leaf) = tree.get(i) {
                if !key::below(leaf.first_key(), k) && leaf.first_key() > k.as_slice() {
                    break;
                }
                set.insert(i);
                i += 1;
            }
        }
        let ranges = set.into_iter().map(|i| {
            let from = if i == 0 {
                Vec::new()
            } else {
                tree.get(i).map_or(Vec::new(), |l| l.first_key().to_vec())
            };
            (i, (from, tree.get(i + 1).map(|l| l.first_key().to_vec())))
        });
        (ranges.collect(), toggled)
    }

    /// Re-encodes leaf `i` with the edits of its key range; gives zero, one or more leaves.
    fn leaf(&self, new: &ZoneVersion, i: usize, range: &LeafRange) -> Result<Made, BuildError> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let low = if range.0.is_empty() {
            Excluded(&[][..])
        } else {
            Included(&range.0[..])
        };
        let high = range.1.as_ref().map_or(Unbounded, |h| Excluded(&h[..]));
        let range = self.edits.range::<[u8], _>((low, high));
        if self.plain
            && let Some(done) = splice::splice(self, new, i, range.clone())?
        {
            return Ok(done);
        }
        let mut edits = range.peekable();
        let unit = (self.old.tree.get(i).is_some()).then(|| self.old.unit(i + 1));
        let mut owners = unit.into_iter().flat_map(|u| u.owners()).peekable();
        let mut w = Writer::new(new, self.old);
        let mut stop: Option<Vec<u8>> = None;
        let mut first = true;
        let mut changes = Vec::new();
        loop {
            let (owner, edit) = match (owners.peek(), edits.peek()) {
                (None, None) => break,
                (Some(o), Some((k, _))) => match o.key().cmp(k.as_slice()) {
                    std::cmp::Ordering::Less => (owners.next(), None),
                    std::cmp::Ordering::Equal => (owners.next(), edits.next()),
                    std::cmp::Ordering::Greater => (None, edits.next()),
                },
                (Some(_), None) => (owners.next(), None),
                (None, Some(_)) => (None, edits.next()),
            };
            let k: &[u8] = match (&owner, &edit) {
                (Some(o), _) => o.key(),
                (None, Some((k, _))) => k,
                (None, None) => break,
            };
            if first {
                stop = key::ancestors_from_apex(k)
                    .take_while(|p| p.len() < k.len())
                    .find(|p| self.stops(p, true))
                    .map(<[u8]>::to_vec);
                first = false;
            }
            changes.extend(w.owner(k, owner.as_ref(), edit.map(|e| e.1), &mut stop)?);
        }
        let written = w.written;
        Ok(Made {
            leaves: settle::halve(new, w.finish()),
            changes,
            whole: true,
            written,
        })
    }
}

/// Writes the owners of a touched leaf into new leaves.
pub(crate) struct Writer<'a> {
    new: &'a ZoneVersion,
    old: &'a ZoneVersion,
    pub enc: LeafEncoder,
    /// Those that are full.
    pub out: Vec<LeafRef>,
    /// Owners.
    pub written: usize,
    hasher: Hasher,
    wire: Vec<u8>,
    scratch: Vec<u8>,
}

/// A set to write: as it was, or new.
enum NewSet<'a> {
    Kept(RRset<'a>),
    Made(Rtype, u32, &'a [Vec<u8>]),
}

impl NewSet<'_> {
    fn rtype(&self) -> Rtype {
        match self {
            NewSet::Kept(s) => s.rtype,
            NewSet::Made(t, ..) => *t,
        }
    }
}

impl<'a> Writer<'a> {
    pub fn new(new: &'a ZoneVersion, old: &'a ZoneVersion) -> Self {
        Writer {
            new,
            old,
            enc: LeafEncoder::default(),
            out: Vec::new(),
            written: 0,
            hasher: Hasher::new(new.zone),
            wire: Vec::new(),
            scratch: Vec::new(),
        }
    }

    pub fn owner(
        &mut self,
        k: &[u8],
        owner: Option<&Owner<'_>>,
        edit: Option<&OwnerEdit>,
        stop: &mut Option<Vec<u8>>,
    ) -> Result<Option<OwnerChange>, BuildError> {
        let mut sets: Vec<NewSet<'_>> = Vec::new();
        for s in owner.iter().flat_map(|o| o.sets()) {
            if edit.is_none_or(|e| !e.sets.contains_key(&s.rtype)) {
                sets.push(NewSet::Kept(s));
            }
        }
        for (t, set) in edit.iter().flat_map(|e| &e.sets) {
            if let Some((ttl, rdatas)) = set {
                sets.push(NewSet::Made(*t, *ttl, rdatas));
            }
        }
        sets.sort_by_key(NewSet::rtype);
        if sets.len() >= u16::MAX as usize {
            return Err(BuildError::TooManySets);
        }
        let has = |t: Rtype| sets.iter().any(|s| s.rtype() == t);
        let flags = flags_of(k, has, stop);
        let there = !sets.is_empty();
        if there {
            let case = owner
                .and_then(|o| o.case())
                .or(edit.and_then(|e| e.case.as_deref()));
            self.write(k, flags, case, &sets)?;
        }
        let (was, is) = (
            owner.map(|o| o.flags().role()),
            there.then_some(flags.role()),
        );
        let changed = edit.is_some() || was != is;
        Ok(changed.then(|| OwnerChange {
            key: k.to_vec(),
            before: owner.map(|o| (o.flags().role(), o.types().collect())),
            after: is.map(|role| (role, sets.iter().map(NewSet::rtype).collect())),
        }))
    }

    fn write(
        &mut self,
        k: &[u8],
        flags: Flags,
        case: Option<&[u8]>,
        sets: &[NewSet<'_>],
    ) -> Result<(), BuildError> {
        self.enc.owner(flags, k, case, sets.len() as u32);
        self.written += 1;
        self.wire.clear();
        key::push_wire(k, None, self.new.apex_lower.as_wire(), &mut self.wire);
        for set in sets {
            match set {
                NewSet::Kept(s) => self.keep(s)?,
                NewSet::Made(t, ttl, rdatas) => self.make(*t, *ttl, rdatas)?,
            }
        }
        if self.enc.octets() > LEAF_MAX || self.enc.is_full() {
            self.close();
        }
        Ok(())
    }

    fn keep(&mut self, s: &RRset<'_>) -> Result<(), BuildError> {
        let raw = s.raw();
        for r in s.rdatas() {
            self.enc
                .add_fingerprint(self.hasher.record(&self.wire, s.rtype, s.ttl, r));
        }
        let kind = self
            .new
            .kinds
            .get(raw.kind)
            .ok_or(BuildError::Inconsistent("unknown kind"))?;
        match raw.data {
            SetData::Pooled(id) => self.enc.pooled(raw.kind, raw.count, id),
            _ => self
                .enc
                .set(raw.kind, kind, RdataIter::new(raw, &self.old.pool)),
        }
        Ok(())
    }

    fn make(&mut self, rtype: Rtype, ttl: u32, rdatas: &[Vec<u8>]) -> Result<(), BuildError> {
        let missing = BuildError::Inconsistent("kind not interned");
        let id = self.new.kinds.find(rtype, ttl).ok_or(missing.clone())?;
        let kind = self.new.kinds.get(id).ok_or(missing)?;
        for r in rdatas {
            self.enc
                .add_fingerprint(self.hasher.record(&self.wire, rtype, ttl, r));
        }
        self.scratch.clear();
        crate::leaf::encode_set(rdatas.iter().map(|r| &r[..]), &mut self.scratch);
        // Pooled if already in the pool, else here.
        match self.new.pool.find(&self.scratch) {
            Some(pooled) => self.enc.pooled(id, rdatas.len() as u32, pooled),
            None => self.enc.set(id, kind, rdatas.iter().map(|r| &r[..])),
        }
        Ok(())
    }

    fn close(&mut self) {
        if self.enc.is_empty() {
            return;
        }
        let u = self.enc.finish();
        let sums = sum_made(self.new, 1, &u, None);
        self.out.push(LeafRef::new(u, None, sums));
    }

    fn finish(mut self) -> Vec<LeafRef> {
        self.close();
        self.out
    }
}

/// Flags of an owner, and the cut or DNAME that is open for what follows.
fn flags_of(k: &[u8], has: impl Fn(Rtype) -> bool, stop: &mut Option<Vec<u8>>) -> Flags {
    let mut flags = if key::is_wildcard(k) { Flags::WILD } else { 0 };
    if let Some(s) = stop {
        if key::below(k, s) {
            return Flags(flags | Flags::OCCLUDED);
        }
        *stop = None;
    }
    if has(Rtype::NS) {
        flags |= Flags::CUT | if has(Rtype::DS) { Flags::SECURE } else { 0 };
    }
    if has(Rtype::DNAME) {
        flags |= Flags::DNAME;
    }
    if has(Rtype::NS) || has(Rtype::DNAME) {
        *stop = Some(k.to_vec());
    }
    Flags(flags)
}

const _: () = assert!(LEAF_TARGET < LEAF_MAX);
