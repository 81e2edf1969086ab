//! Signing of one leaf: its RRsets, and its NSEC records.

use cascade_zone::denial::{bitmap_types, is_signed_set, push_bitmap};
use cascade_zone::sidecar::NSEC_SET;
use cascade_zone::sign::{Draft, Sidecar};
use cascade_zone::version::{Owner, RRset, ZoneVersion};
use cascade_zone::{Rtype, key};

use crate::piece::{ALL, Entry, Group, Keys, Piece};
use crate::refresh::Spread;
use crate::rrsig::Preimage;
use crate::sign::SignError;

/// What all leaves of a job share.
pub(crate) struct LeafContext<'a> {
    pub draft: &'a Draft,
    pub keys: &'a Keys,
    pub spread: &'a Spread,
    /// TTL of the NSEC records, if the zone has them.
    pub nsec_ttl: Option<u32>,
    /// Inception and expiration over DNSKEY, CDS and CDNSKEY.
    pub apex_times: (u32, u32),
}

/// One leaf done.
pub(crate) struct LeafDone {
    pub sidecar: Option<Sidecar>,
    pub denial: u64,
    pub signatures: u64,
}

impl LeafContext<'_> {
    fn version(&self) -> &ZoneVersion {
        self.draft.version()
    }

    /// Collects what is to be signed in unit `i`.
    pub fn prepare(&self, i: usize, piece: &mut Piece) -> Result<(), SignError> {
        let version = self.version();
        let unit = version.unit(i);
        piece.expiration = match unit.is_apex() {
            true => self.spread.apex(),
            false => self.spread.leaf(unit.fence()),
        };
        // The bearing owner whose NSEC waits for the next one: its ordinal; `bearer` and `bitmap`
        // hold its name and types.
        let mut waiting: Option<u16> = None;
        for owner in unit.owners() {
            // RFC 4035 §2.2: nothing below a cut or a DNAME is authoritative.
            if owner.flags().is_occluded() {
                continue;
            }
            if let Some(ordinal) = waiting.take() {
                self.nsec(ordinal, owner.key(), piece)?;
            }
            piece.owner.clear();
            key::push_wire(owner.key(), None, version.apex_lower(), &mut piece.owner);
            for set in owner.sets() {
                // A digest is signed when it is known.
                let later = owner.is_apex() && set.rtype == Rtype::ZONEMD;
                if is_signed_set(owner.flags(), set.rtype) && !later {
                    self.rrset(&owner, &set, piece)?;
                }
            }
            if self.nsec_ttl.is_some() {
                std::mem::swap(&mut piece.owner, &mut piece.bearer);
                bitmap_types(owner.flags(), owner.types(), true, &mut piece.types);
                piece.bitmap.clear();
                push_bitmap(&piece.types, &mut piece.bitmap);
                piece.next.clear();
                piece.next.extend_from_slice(owner.key());
                waiting = Some(owner.ordinal());
            }
        }
        if let Some(ordinal) = waiting {
            let after = version.succ_bearing(&piece.next);
            piece.next.clear();
            // After the last owner comes the apex, whose key is empty (RFC 4034 §4.1.1).
            piece
                .next
                .extend_from_slice(after.as_ref().map_or(&[], |o| o.key()));
            let next = std::mem::take(&mut piece.next);
            self.nsec(ordinal, &next, piece)?;
            piece.next = next;
        }
        Ok(())
    }

    fn rrset(
        &self,
        owner: &Owner<'_>,
        set: &RRset<'_>,
        piece: &mut Piece,
    ) -> Result<(), SignError> {
        let group = Group::of(set.rtype, owner.is_apex());
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
            ordinal: owner.ordinal(),
            set: set.index as u16,
            group,
            slots: ALL,
        };
        piece.add(self.keys, entry)
    }

    /// The NSEC of the owner in `bearer`, naming `next`.
    fn nsec(&self, ordinal: u16, next: &[u8], piece: &mut Piece) -> Result<(), SignError> {
        let Some(ttl) = self.nsec_ttl else {
            return Ok(());
        };
        let apex = self.version().apex_lower();
        let mut preimage = Preimage::start(
            &mut piece.scratch,
            &piece.bearer,
            Rtype::NSEC,
            ttl,
            self.times(Group::Zone, piece.expiration),
            apex,
        );
        preimage.record(|out| {
            key::push_wire(next, None, apex, out);
            out.extend_from_slice(&piece.bitmap);
        });
        piece.denial += 1;
        piece.add(
            self.keys,
            Entry {
                ordinal,
                set: NSEC_SET,
                group: Group::Zone,
                slots: ALL,
            },
        )
    }

    fn times(&self, group: Group, expiration: u32) -> (u32, u32) {
        match group {
            Group::Zone => (self.spread.inception(), expiration),
            Group::Dnskey | Group::Cds => self.apex_times,
        }
    }

    /// Puts the signatures of unit `i` into its sidecar.
    pub fn finish(&self, i: usize, piece: &Piece) -> Result<LeafDone, SignError> {
        let mut builder = self.draft.sidecar(i);
        if let (Some(ttl), true) = (self.nsec_ttl, piece.denial > 0) {
            builder.nsec(ttl, &piece.next);
        }
        piece.for_each_signature(self.keys, |entry, slot, signature| {
            let (inception, expiration) = self.times(entry.group, piece.expiration);
            builder.push(
                entry.ordinal,
                entry.set,
                slot,
                inception,
                expiration,
                signature,
            );
        })?;
        Ok(LeafDone {
            sidecar: (!piece.entries.is_empty()).then(|| builder.build()),
            denial: piece.denial,
            signatures: piece.zone_signatures(self.keys),
        })
    }
}
