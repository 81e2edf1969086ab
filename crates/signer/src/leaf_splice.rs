//! Signing of a leaf of which most stands in a leaf of the version before:
//! owners that are the same octets there keep their signatures without being looked at.
//!
//! Looked at are owners that are new or differ, and those before them, whose NSEC may name another
//! (RFC 4034 §4.1.1).

use cascade_zone::denial::{bitmap_types, is_signed_set, push_bitmap};
use cascade_zone::version::{Owner, Unit};
use cascade_zone::{SidecarBuilder, compare, key};

use crate::leaf_patch::{LeafPatch, LeafPatched, LeafTask};
use crate::piece::{Beside, Group, Made, Piece};
use crate::scope::Mode;
use crate::sign::SignError;

impl<'a> LeafPatch<'a> {
    /// The unit of the version before that begins with the same owner, when nothing else is asked of
    /// the leaf than to follow the content, and all that needs a signature has one there.
    pub(crate) fn partner(&self, task: &LeafTask, unit: &Unit<'a>) -> Option<Unit<'a>> {
        if !self.alike || unit.is_apex() || task.mode != Mode::default() || self.denial_alone {
            return None;
        }
        let was = self.prev.unit_of(unit.first_key())?;
        let right = was.first_key() == unit.first_key()
            && was.nsec_ttl() == self.nsec_ttl
            // Some key has signed everything in it.
            && was.sums().full_mask != 0
            && was.sums().owners > was.sums().occluded;
        right.then_some(was)
    }

    pub(crate) fn prepare_beside(
        &self,
        task: &LeafTask,
        unit: &Unit<'a>,
        was: &Unit<'a>,
        piece: &mut Piece,
    ) -> Result<(), SignError> {
        let compared = compare(was, unit);
        let mut beside = Beside {
            was: was.index(),
            gone: compared.gone,
            ..Beside::default()
        };
        // Owners to look at, by number here, with that of the same owner there.
        let mut look: Vec<(u16, Option<u16>)> =
            compared.come.into_iter().map(|new| (new, None)).collect();
        // What the last NSEC of the unit names, where it is not looked at.
        let mut end: Option<&[u8]> = None;
        for (old, new) in compared.kept {
            // The NSEC of all but the last names a neighbour that is kept as well.
            let last = self.nsec_ttl.and_then(|_| unit.last_bearing(new.clone()));
            let followed = compared.in_place.binary_search(&(old.end, new.end)).is_ok();
            let Some(last) = last.filter(|_| !followed) else {
                beside.kept.push((old, new.start));
                continue;
            };
            let (all, of_all) = (unit.owner_count(), was.owner_count());
            let ends = (usize::from(old.end), usize::from(new.end)) == (of_all, all);
            let next = if ends { self.first_behind(unit) } else { None };
            if next.is_some() && next == was.nsec_next() {
                end = next;
                beside.kept.push((old, new.start));
                continue;
            }
            let at = old.start + (last - new.start);
            look.push((last, Some(at)));
            beside.gone.push(at);
            beside.kept.push((old.start..at, new.start));
            beside.kept.push((at + 1..old.end, last + 1));
        }
        look.sort_unstable();
        for (new, old) in &look {
            let Some(owner) = unit.owner_at(*new) else {
                continue;
            };
            // RFC 4035 §2.2: nothing below a cut or a DNAME is authoritative.
            if !owner.flags().is_occluded() {
                let old = match old {
                    Some(at) => was.owner_at(*at),
                    None => self.prev.owner(owner.key()),
                };
                let old = old.filter(|o| !o.flags().is_occluded());
                self.look_at(&owner, old, task, piece)?;
            }
        }
        if let Some(end) = end {
            piece.bearing = true;
            piece.next.clear();
            piece.next.extend_from_slice(end);
        }
        beside.come = look.into_iter().map(|(new, _)| new).collect();
        piece.beside = Some(beside);
        Ok(())
    }

    /// Key of the first owner behind the unit, if it bears an NSEC; that of the apex behind the last.
    fn first_behind(&self, unit: &Unit<'a>) -> Option<&'a [u8]> {
        let next = unit.index() + 1;
        if next >= self.version().unit_count() {
            // After the last owner comes the apex, whose key is empty (RFC 4034 §4.1.1).
            return Some(&[]);
        }
        let next = self.version().unit(next);
        (next.last_bearing(0..1) == Some(0)).then(|| next.first_key())
    }

    /// Collects what stays and what is to be signed at one owner.
    fn look_at(
        &self,
        owner: &Owner<'a>,
        old: Option<Owner<'a>>,
        task: &LeafTask,
        piece: &mut Piece,
    ) -> Result<(), SignError> {
        let apex = self.version().apex_lower();
        piece.owner.clear();
        key::push_wire(owner.key(), None, apex, &mut piece.owner);
        if !self.keep_all(owner, old.as_ref(), task, piece) {
            for set in owner.sets() {
                if is_signed_set(owner.flags(), set.rtype) {
                    self.rrset(owner, &set, old.as_ref(), task, piece)?;
                }
            }
        }
        if self.nsec_ttl.is_none() {
            return Ok(());
        }
        std::mem::swap(&mut piece.owner, &mut piece.bearer);
        bitmap_types(owner.flags(), owner.types(), true, &mut piece.types);
        piece.bitmap.clear();
        push_bitmap(&piece.types, &mut piece.bitmap);
        piece.bearing = true;
        let mut next = std::mem::take(&mut piece.next);
        if !owner.next_bearing(&mut next) {
            // After the last owner comes the apex, whose key is empty (RFC 4034 §4.1.1).
            let after = self.version().succ_bearing(owner.key());
            next.clear();
            next.extend_from_slice(after.as_ref().map_or(&[], |o| o.key()));
        }
        self.nsec(owner.ordinal(), old, &next, task, piece)?;
        piece.next = next;
        Ok(())
    }

    pub(crate) fn finish_beside(
        &self,
        beside: &Beside,
        mut builder: SidecarBuilder<'a>,
        piece: &Piece,
    ) -> Result<LeafPatched, SignError> {
        if let (Some(ttl), true) = (self.nsec_ttl, piece.bearing) {
            builder.nsec(ttl, &piece.next);
        }
        let was = self.prev.unit(beside.was);
        let mut all =
            piece.all_signatures(self.keys, |g: Group| self.times(g, piece.expiration))?;
        for (old, new) in &beside.kept {
            let taken = was.sigs_among(old.clone()).map(|(ordinal, set, sig)| Made {
                ordinal: ordinal - old.start + new,
                set,
                slot: sig.slot,
                times: (sig.inception, sig.expiration),
                signature: sig.signature,
            });
            all.extend(taken);
        }
        all.sort_by_key(|m| (m.ordinal, m.set, m.slot));
        let octets = all.iter().map(|m| m.signature.len()).sum();
        builder.reserve(all.len(), octets);
        for m in &all {
            let (inception, expiration) = m.times;
            builder.push(m.ordinal, m.set, m.slot, inception, expiration, m.signature);
        }
        let sidecar = || builder.build_beside(&was, &beside.gone, &beside.come);
        Ok(LeafPatched {
            sidecar: (!all.is_empty()).then(sidecar),
            denial: piece.denial,
            made: piece.counts(self.keys),
        })
    }
}
