//! Which leaves a job looks at.

use std::collections::{BTreeMap, BTreeSet};

use cascade_zone::patch::Alignment;
use cascade_zone::version::{SoaFields, ZoneVersion};
use cascade_zone::{Rtype, Serial};

use crate::leaf_patch::{LeafPatch, LeafTask};
use crate::piece::Piece;
use crate::scope::{Mode, Place, Scope};
use crate::sign::SignError;
use crate::zonemd;

/// The units of the draft to look at, ascending, the apex first. `all`: none is left out.
pub(crate) fn leaf_tasks(
    leaves: &LeafPatch<'_>,
    alignment: &Alignment,
    scope: &Scope,
    upkeep: &[(Place, Mode)],
    all: bool,
) -> Vec<LeafTask> {
    let (prev, version) = (leaves.prev, leaves.draft.version());
    let redo = scope.refresh > 0;
    let mut units: BTreeMap<usize, LeafTask> = BTreeMap::new();
    let mut touch = |unit: usize, mode: Mode| {
        let same = alignment.prev_unit(unit).is_some();
        let task = units.entry(unit).or_insert(LeafTask { unit, same, mode });
        task.mode = task.mode.with(mode);
    };
    // The apex is signed anew anyway, so whatever is due there goes along.
    let due = Mode {
        fix_keys: true,
        redo: true,
    };
    touch(0, due);
    if all {
        (1..version.unit_count()).for_each(|unit| touch(unit, Mode::default()));
    }
    for (place, mode) in upkeep {
        if let Place::Leaf(unit) = place
            && let Some(unit) = alignment.base_unit(*unit)
        {
            touch(unit, *mode);
        }
    }
    let moved: BTreeSet<usize> = upkeep
        .iter()
        .filter_map(|(place, _)| match place {
            Place::Leaf(unit) if alignment.base_unit(*unit).is_none() => Some(*unit),
            _ => None,
        })
        .collect();
    for run in alignment.runs() {
        // Upkeep of leaves that a run replaces is done in those that stand there now.
        let upkept = moved
            .range(run.prev.start + 1..run.prev.end + 1)
            .next()
            .is_some();
        for leaf in run.base.clone() {
            touch(
                leaf + 1,
                Mode {
                    fix_keys: upkept,
                    redo: redo || upkept,
                },
            );
        }
        if leaves.nsec_ttl.is_some()
            && let Some(unit) = nsec_before(prev, version, alignment, run.base.start)
        {
            touch(unit, Mode::default());
        }
    }
    units.into_values().collect()
}

/// The unit before leaf `start` whose last NSEC names another owner now; `None` if it is the apex or
/// changed itself.
fn nsec_before(
    prev: &ZoneVersion,
    version: &ZoneVersion,
    alignment: &Alignment,
    start: usize,
) -> Option<usize> {
    let unit = version.bearing_unit_back(start);
    let was = prev.unit(alignment.prev_unit(unit)?).nsec_next();
    let leaf = version.unit(unit);
    let last = leaf.last_bearing(0..leaf.owner_count() as u16)?;
    let last = leaf.owner_at(last)?;
    let next = version.succ_bearing(last.key());
    let next = next.as_ref().map_or(&[][..], |o| o.key());
    (was != Some(next)).then_some(unit)
}

/// True if the apex differs in nothing but the serial and the signature over the SOA, and none of
/// its signatures is due.
pub(crate) fn apex_is_unchanged(
    leaves: &LeafPatch<'_>,
    tasks: &[LeafTask],
) -> Result<bool, SignError> {
    let (Some(task), version) = (tasks.first(), leaves.draft.version()) else {
        return Ok(false);
    };
    let masked = |v: &ZoneVersion| (v.soa_ttl(), SoaFields::with_serial(v.soa(), Serial(0)));
    let (old, new) = (leaves.prev.apex_owner(), version.apex_owner());
    if masked(leaves.prev) != masked(version) || !old.types().eq(new.types()) {
        return Ok(false);
    }
    if !zonemd::same_kind(&old, &new) {
        return Ok(false);
    }
    let Some(soa) = new.set(Rtype::SOA).map(|s| s.index as u16) else {
        return Ok(false);
    };
    let mut piece = Piece::default();
    piece.reset(leaves.keys);
    leaves.prepare(task, &mut piece)?;
    // The sets that hold the serial have the signatures that new ones would get, and they are not
    // due.
    let (mut right, mut of_serial) = (true, 0);
    for set in [Rtype::SOA, Rtype::ZONEMD]
        .iter()
        .filter_map(|t| old.set(*t))
    {
        let mut slots = 0u16;
        for sig in old.sigs(set.index) {
            slots |= 1 << sig.slot;
            right &= !leaves.spread.is_due(sig.expiration);
            of_serial += 1;
        }
        right &= slots == leaves.masks.zone;
    }
    let all = leaves.prev.unit(0).sums().signatures;
    let rest = all.saturating_sub(of_serial);
    let only_soa = piece.entries.iter().all(|e| e.set == soa);
    Ok(only_soa && right && piece.kept() as u64 == rest)
}
