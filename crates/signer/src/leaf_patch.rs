//! Signing of one leaf of which a signed version existed before.
//!
//! A signature stays where the RRset that it covers is the same and nothing asks for another one.
//! NSEC records are compared as they come out: same next name, same bitmap, same signature.

use cascade_zone::denial::{bitmap_types, is_signed_set, push_bitmap};
use cascade_zone::patch::OwnersFrom;
use cascade_zone::sidecar::NSEC_SET;
use cascade_zone::sign::{Draft, Sidecar};
use cascade_zone::version::{Owner, RRset, Sig, ZoneVersion};
use cascade_zone::{Rtype, key};

use crate::piece::{Entry, Group, Keys, Piece};
use crate::refresh::Spread;
use crate::rrsig::Preimage;
use crate::scope::{Decision, Masks, Mode, decide, decide_key_set};
use crate::sign::SignError;

/// What all leaves of a job share.
pub(crate) struct LeafPatch<'a> {
    pub prev: &'a ZoneVersion,
    /// Where NSEC records stand that `prev` does not have.
    pub beside: Option<&'a ZoneVersion>,
    /// RRsets are not signed.
    pub denial_alone: bool,
    pub draft: &'a Draft,
    pub keys: &'a Keys,
    pub masks: &'a Masks,
    pub spread: &'a Spread,
    /// TTL of the NSEC records, if the zone has them.
    pub nsec_ttl: Option<u32>,
    /// Inception and expiration of new signatures over DNSKEY, CDS and CDNSKEY.
    pub apex_times: (u32, u32),
    /// Those that expire at or before this are due.
    pub key_set_due: u32,
    /// The digest of the zone is not known yet, and so not signed.
    pub no_digest: bool,
    /// Leaves of `prev` and of the draft can be compared as they stand, and no key of `prev` is gone.
    pub alike: bool,
}

/// A unit of the draft to look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeafTask {
    pub unit: usize,
    /// The content is the very same: RRsets need not be compared.
    pub same: bool,
    pub mode: Mode,
}

/// One leaf done.
pub(crate) struct LeafPatched {
    pub sidecar: Option<Sidecar>,
    pub denial: u64,
    /// Signatures made by zone-signing keys, and by all.
    pub made: (u64, u64),
}

impl<'a> LeafPatch<'a> {
    pub(crate) fn version(&self) -> &'a ZoneVersion {
        self.draft.version()
    }

    /// Collects what stays and what is to be signed.
    pub fn prepare(&self, task: &LeafTask, piece: &mut Piece) -> Result<(), SignError> {
        let version = self.version();
        let unit = version.unit(task.unit);
        piece.expiration = match unit.is_apex() {
            true => self.spread.apex(),
            false => self.spread.leaf(unit.fence()),
        };
        if let Some(was) = self.partner(task, &unit) {
            return self.prepare_beside(task, &unit, &was, piece);
        }
        let mut olds = (!unit.is_apex()).then(|| self.prev.owners_from(unit.first_key()));
        let mut besides = self.beside.map(|b| b.owners_from(unit.first_key()));
        // The bearing owner whose NSEC waits for the next one: its ordinal, and how it was.
        let mut waiting: Option<(u16, Option<Owner<'a>>)> = None;
        for owner in unit.owners() {
            // RFC 4035 §2.2: nothing below a cut or a DNAME is authoritative.
            if owner.flags().is_occluded() {
                continue;
            }
            if let Some((ordinal, old)) = waiting.take() {
                self.nsec(ordinal, old, owner.key(), task, piece)?;
            }
            let old = self.old(&mut olds, owner.key());
            piece.owner.clear();
            key::push_wire(owner.key(), None, version.apex_lower(), &mut piece.owner);
            if !self.denial_alone && !self.keep_all(&owner, old.as_ref(), task, piece) {
                for set in owner.sets() {
                    let later = self.no_digest && owner.is_apex() && set.rtype == Rtype::ZONEMD;
                    if is_signed_set(owner.flags(), set.rtype) && !later {
                        self.rrset(&owner, &set, old.as_ref(), task, piece)?;
                    }
                }
            }
            if self.nsec_ttl.is_some() {
                std::mem::swap(&mut piece.owner, &mut piece.bearer);
                bitmap_types(owner.flags(), owner.types(), true, &mut piece.types);
                piece.bitmap.clear();
                push_bitmap(&piece.types, &mut piece.bitmap);
                piece.next.clear();
                piece.next.extend_from_slice(owner.key());
                piece.bearing = true;
                let old = match (self.beside, &mut besides) {
                    (Some(b), _) if owner.is_apex() => Some(b.apex_owner()),
                    (_, Some(list)) => list.find(owner.key()).cloned(),
                    _ => old,
                };
                waiting = Some((owner.ordinal(), old));
            }
        }
        if let Some((ordinal, old)) = waiting {
            let after = version.succ_bearing(&piece.next);
            piece.next.clear();
            // After the last owner comes the apex, whose key is empty (RFC 4034 §4.1.1).
            piece
                .next
                .extend_from_slice(after.as_ref().map_or(&[], |o| o.key()));
            let next = std::mem::take(&mut piece.next);
            self.nsec(ordinal, old, &next, task, piece)?;
            piece.next = next;
        }
        Ok(())
    }

    /// The owner as it was, if it bore signatures.
    fn old(&self, olds: &mut Option<OwnersFrom<'a>>, key: &[u8]) -> Option<Owner<'a>> {
        let old = match olds {
            Some(olds) => olds.find(key)?.clone(),
            None => self.prev.apex_owner(),
        };
        (!old.flags().is_occluded()).then_some(old)
    }

    /// Most owners of a leaf are as they were, and nothing asks for other signatures: those over
    /// their RRsets are taken over in one walk. `false`: nothing was done.
    pub(crate) fn keep_all(
        &self,
        owner: &Owner<'_>,
        old: Option<&Owner<'a>>,
        task: &LeafTask,
        piece: &mut Piece,
    ) -> bool {
        let Some(old) = old else { return false };
        if task.mode != Mode::default() || self.masks.gone != 0 || owner.is_apex() {
            return false;
        }
        let same_sets = || {
            let (mut a, mut b) = (old.sets(), owner.sets());
            loop {
                match (a.next(), b.next()) {
                    (None, None) => return true,
                    (Some(x), Some(y)) if is_same(&x, &y) => {}
                    _ => return false,
                }
            }
        };
        if old.flags().role() != owner.flags().role() || !(task.same || same_sets()) {
            return false;
        }
        let sets = owner.sets();
        let wanted = sets
            .filter(|s| is_signed_set(owner.flags(), s.rtype))
            .count();
        let (mut covered, mut last) = (0, None);
        for (set, _) in old.all_sigs().filter(|(set, _)| *set != NSEC_SET) {
            covered += usize::from(last != Some(set));
            last = Some(set);
        }
        if covered != wanted {
            return false;
        }
        for (set, sig) in old.all_sigs().filter(|(set, _)| *set != NSEC_SET) {
            let times = (sig.inception, sig.expiration);
            piece.keep(owner.ordinal(), set, sig.slot, times, sig.signature);
        }
        true
    }

    pub(crate) fn rrset(
        &self,
        owner: &Owner<'_>,
        set: &RRset<'_>,
        old: Option<&Owner<'a>>,
        task: &LeafTask,
        piece: &mut Piece,
    ) -> Result<(), SignError> {
        let group = Group::of(set.rtype, owner.is_apex());
        let before = old.and_then(|o| Some((o, o.set(set.rtype)?)));
        let same = before.filter(|(_, was)| task.same || is_same(was, set));
        let place = (owner.ordinal(), set.index as u16);
        let there = || same.iter().flat_map(|(o, was)| o.sigs(was.index));
        let decision = self.decide(group, there, task.mode, piece.expiration);
        take_over(piece, place, there(), decision.keep);
        if decision.sign == 0 {
            return Ok(());
        }
        let mut preimage = Preimage::start(
            &mut piece.scratch,
            &piece.owner,
            set.rtype,
            set.ttl,
            self.times(group, piece.expiration),
            self.version().apex_lower(),
        );
        let lower = set.needs_lowering();
        set.rdatas().for_each(|r| preimage.rdata(r, lower));
        let entry = Entry {
            ordinal: place.0,
            set: place.1,
            group,
            slots: decision.sign,
        };
        piece.add(self.keys, entry)
    }

    /// The NSEC of the owner in `bearer`, naming `next`.
    pub(crate) fn nsec(
        &self,
        ordinal: u16,
        old: Option<Owner<'a>>,
        next: &[u8],
        task: &LeafTask,
        piece: &mut Piece,
    ) -> Result<(), SignError> {
        let Some(ttl) = self.nsec_ttl else {
            return Ok(());
        };
        let apex = self.version().apex_lower();
        piece.denial_rdata.clear();
        key::push_wire(next, None, apex, &mut piece.denial_rdata);
        piece.denial_rdata.extend_from_slice(&piece.bitmap);
        let was = old.as_ref().and_then(Owner::nsec);
        piece.before.clear();
        if let Some(was) = &was {
            was.push_rdata(&mut piece.before);
        }
        let same = was.filter(|w| w.ttl == ttl && piece.before == piece.denial_rdata);
        piece.denial += u64::from(same.is_none());
        let there = || same.iter().flat_map(|was| was.sigs());
        let decision = self.decide(Group::Zone, there, task.mode, piece.expiration);
        take_over(piece, (ordinal, NSEC_SET), there(), decision.keep);
        if decision.sign == 0 {
            return Ok(());
        }
        let times = self.times(Group::Zone, piece.expiration);
        let rdata = std::mem::take(&mut piece.denial_rdata);
        let mut preimage = Preimage::start(
            &mut piece.scratch,
            &piece.bearer,
            Rtype::NSEC,
            ttl,
            times,
            apex,
        );
        preimage.rdata(&rdata, false);
        piece.denial_rdata = rdata;
        let entry = Entry {
            ordinal,
            set: NSEC_SET,
            group: Group::Zone,
            slots: decision.sign,
        };
        piece.add(self.keys, entry)
    }

    fn decide<'s, I: Iterator<Item = Sig<'s>>>(
        &self,
        group: Group,
        there: impl Fn() -> I,
        mode: Mode,
        expiration: u32,
    ) -> Decision {
        let there = there().map(|s| (s.slot, s.expiration));
        let late = |expires: u32| {
            // The plan's signatures must last longer, or nothing would be won.
            let until = |a: u32, b: u32| b.wrapping_sub(a) as i32;
            until(expires, self.key_set_due) >= 0 && until(expires, self.apex_times.1) > 0
        };
        match group {
            Group::Zone => decide(there, self.masks, mode, self.spread, expiration),
            Group::Dnskey => decide_key_set(there, self.masks.dnskey, self.masks.gone, late),
            Group::Cds => decide_key_set(there, self.masks.cds, self.masks.gone, late),
        }
    }

    pub(crate) fn times(&self, group: Group, expiration: u32) -> (u32, u32) {
        match group {
            Group::Zone => (self.spread.inception(), expiration),
            Group::Dnskey | Group::Cds => self.apex_times,
        }
    }

    /// Puts the signatures, kept and made, into the unit's sidecar.
    pub fn finish(&self, task: &LeafTask, piece: &Piece) -> Result<LeafPatched, SignError> {
        let mut builder = self.draft.sidecar(task.unit);
        if let Some(beside) = &piece.beside {
            return self.finish_beside(beside, builder, piece);
        }
        if let (Some(ttl), true) = (self.nsec_ttl, piece.bearing) {
            builder.nsec(ttl, &piece.next);
        }
        let all = piece.all_signatures(self.keys, |g| self.times(g, piece.expiration))?;
        for m in &all {
            let (inception, expiration) = m.times;
            builder.push(m.ordinal, m.set, m.slot, inception, expiration, m.signature);
        }
        Ok(LeafPatched {
            sidecar: (!all.is_empty()).then(|| builder.build()),
            denial: piece.denial,
            made: piece.counts(self.keys),
        })
    }
}

/// The same RRset as it stands: type, TTL, and every RDATA in its spelling.
fn is_same(a: &RRset<'_>, b: &RRset<'_>) -> bool {
    a.rtype == b.rtype && a.ttl == b.ttl && a.rdatas().eq(b.rdatas())
}

fn take_over<'s>(
    piece: &mut Piece,
    (ordinal, set): (u16, u16),
    there: impl Iterator<Item = Sig<'s>>,
    keep: u16,
) {
    for sig in there.filter(|s| keep >> s.slot & 1 == 1) {
        let times = (sig.inception, sig.expiration);
        piece.keep(ordinal, set, sig.slot, times, sig.signature);
    }
}
