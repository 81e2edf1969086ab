//! What a job may touch beside changed content, and which signatures stay.

use cascade_time::Timestamp;
use cascade_zone::LeafSums;
use cascade_zone::ZoneVersion;
use cascade_zone::block::BlockSums;
use cascade_zone::denial::blocks_where;
use cascade_zone::tree::Item;
use thiserror::Error;

use crate::refresh::Spread;

/// What a job does beside following the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Signatures that are due are made anew, at most about this many in one version (policy's
    /// `refresh-batch`); 0: none.
    pub refresh: u64,
    pub keys: KeyPace,
    /// Signatures over DNSKEY, CDS and CDNSKEY never have less than this left, seconds
    /// (`key-manager.records.*.signature-remain-time`): they are due a refresh interval earlier.
    pub key_set_remain: u32,
    /// Make a version even if nothing but the serial changes.
    pub even_if_equal: bool,
}

impl Scope {
    /// Content, everything that is due, and all of a change of keys.
    pub fn everything(key_set_remain: u32) -> Scope {
        Scope {
            refresh: u64::MAX,
            keys: KeyPace::AtOnce,
            key_set_remain,
            even_if_equal: false,
        }
    }

    /// A change of content and no more: what is due and what keys changed waits for upkeep.
    pub fn content(key_set_remain: u32) -> Scope {
        Scope {
            refresh: 0,
            keys: KeyPace::Later,
            key_set_remain,
            even_if_equal: false,
        }
    }
}

/// How fast a change of keys goes through the zone. Signatures that must not stay (their key is no
/// longer published, and does not sign) go at once in any case, and so do those that are only
/// dropped, unless all of it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPace {
    AtOnce,
    /// Evenly over `over` seconds from `since` (`key-roll-time`).
    Spread {
        since: Timestamp,
        over: u32,
    },
    /// Not in this job.
    Later,
}

/// What waits for a later version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Leaves and blocks with signatures that are due.
    pub due: u64,
    /// Leaves and blocks that are not yet signed by the wanted keys alone.
    pub keys: u64,
}

/// Why all of a zone was signed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WhyFull {
    #[error("everything signed: there is no signed version before")]
    NotSigned,
    #[error("everything signed: the version before is of another zone")]
    OtherZone,
    #[error("everything signed: a key changed its DNSKEY record")]
    KeyFace,
    #[error("everything signed: more than 16 keys would have live signatures")]
    Slots,
    #[error("everything signed: most type bitmaps of the NSEC3 chain are out of use")]
    Bitmaps,
    #[error("everything signed: the version before does not fit the content ({0})")]
    Inconsistent(&'static str),
}

/// How one leaf or block is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mode {
    /// Signatures by the wanted keys and by no others.
    pub fix_keys: bool,
    /// Those that are due are made anew.
    pub redo: bool,
}

impl Mode {
    pub fn with(self, other: Mode) -> Mode {
        Mode {
            fix_keys: self.fix_keys || other.fix_keys,
            redo: self.redo || other.redo,
        }
    }
}

/// Key slots by their part in the job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Masks {
    /// Sign the zone's data.
    pub zone: u16,
    pub dnskey: u16,
    /// Sign CDS and CDNSKEY.
    pub cds: u16,
    /// Signatures in these must not stay.
    pub gone: u16,
}

/// What becomes of the signatures over a set that did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub keep: u16,
    pub sign: u16,
}

/// Decides over a set of zone data. `there`: slot and expiration of each signature; `expiration`:
/// what a new one would have.
pub(crate) fn decide(
    there: impl Iterator<Item = (u8, u32)>,
    masks: &Masks,
    mode: Mode,
    spread: &Spread,
    expiration: u32,
) -> Decision {
    let (mut have, mut lost) = (0u16, false);
    for (slot, expires) in there {
        let bit = 1u16.checked_shl(slot.into()).unwrap_or(0);
        if masks.gone & bit != 0 || (mode.redo && spread.is_late(expires, expiration)) {
            lost = true;
        } else {
            have |= bit;
        }
    }
    // What has to be signed anyway is signed by the wanted keys only: refresh and change of keys
    // share their work.
    if mode.fix_keys || lost || have == 0 {
        return Decision {
            keep: have & masks.zone,
            sign: masks.zone & !have,
        };
    }
    Decision {
        keep: have,
        sign: 0,
    }
}

/// Decides over DNSKEY, CDS or CDNSKEY, which the keys in `signers` sign: their signatures are
/// renewed together.
pub(crate) fn decide_key_set(
    there: impl Iterator<Item = (u8, u32)>,
    signers: u16,
    gone: u16,
    is_late: impl Fn(u32) -> bool,
) -> Decision {
    let (mut have, mut late) = (0u16, false);
    for (slot, expires) in there {
        let bit = 1u16.checked_shl(slot.into()).unwrap_or(0);
        if gone & bit == 0 {
            have |= bit;
            late |= signers & bit != 0 && is_late(expires);
        }
    }
    if late || signers & !have != 0 {
        return Decision {
            keep: 0,
            sign: signers,
        };
    }
    Decision {
        keep: have & signers,
        sign: 0,
    }
}

/// A leaf (unit of the version before) or a block that upkeep looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Leaf(usize),
    Block(usize),
}

/// One place with what its sums say.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    place: Place,
    expires: i64,
    signatures: u64,
}

/// Places that upkeep touches in this version, and what is left for later ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upkeep {
    pub places: Vec<(Place, Mode)>,
    pub left: Left,
}

/// Chooses what upkeep does in this version, from the sums alone.
pub(crate) fn choose(
    prev: &ZoneVersion,
    scope: &Scope,
    masks: &Masks,
    new_algorithms: &[u16],
    spread: &Spread,
    now: Timestamp,
) -> Upkeep {
    let mut out = Upkeep::default();
    if scope.refresh > 0 {
        due(prev, scope, spread, now, &mut out);
    }
    keys(prev, scope, masks, new_algorithms, now, &mut out);
    out
}

/// Due places, earliest expiration first, as many as the batch allows but at least one.
fn due(prev: &ZoneVersion, scope: &Scope, spread: &Spread, now: Timestamp, out: &mut Upkeep) {
    let is_due = |s: &Seen| s.min_exp.is_some_and(|e| spread.is_due(e));
    let mut list = candidates(prev, now, is_due, |_| true);
    list.sort_by_key(|c| c.expires);
    let mut budget = scope.refresh;
    for (n, c) in list.iter().enumerate() {
        if n > 0 && c.signatures > budget {
            out.left.due = (list.len() - n) as u64;
            return;
        }
        budget = budget.saturating_sub(c.signatures);
        let mode = Mode {
            fix_keys: true,
            redo: true,
        };
        out.places.push((c.place, mode));
    }
}

/// Places that are not signed by the wanted keys alone.
fn keys(
    prev: &ZoneVersion,
    scope: &Scope,
    masks: &Masks,
    new_algorithms: &[u16],
    now: Timestamp,
    out: &mut Upkeep,
) {
    let fix = Mode {
        fix_keys: true,
        redo: scope.refresh > 0,
    };
    // A signature that must not stay, or an algorithm of the DNSKEY RRset without one (RFC 4035
    // §2.2): nothing to wait for.
    let at_once = |s: &Seen| {
        s.any & masks.gone != 0 || new_algorithms.iter().any(|slots| s.full & slots == 0)
    };
    let incomplete = |s: &Seen| masks.zone & !s.full != 0;
    let surplus = |s: &Seen| s.any & !masks.zone != 0;
    let list = candidates(prev, now, at_once, |_| true);
    out.places.extend(list.iter().map(|c| (c.place, fix)));
    let mut behind = candidates(prev, now, incomplete, |s| !at_once(s));
    let spare = candidates(prev, now, surplus, |s| !incomplete(s) && !at_once(s));
    let todo = match scope.keys {
        KeyPace::Later => {
            out.left.keys = (behind.len() + spare.len()) as u64;
            return;
        }
        KeyPace::AtOnce => behind.len(),
        KeyPace::Spread { since, over } => {
            let all = candidates(prev, now, |s| s.any != 0, |_| true).len() as u64;
            let gone = u64::try_from(since.secs_until(now)).unwrap_or(0);
            // At least this many are done by now: N · (t − t0) / Q.
            let done = all.saturating_sub(behind.len() as u64);
            let target = match u64::from(over) {
                q if gone >= q => all,
                q => (all * gone).div_ceil(q),
            };
            usize::try_from(target.saturating_sub(done)).unwrap_or(usize::MAX)
        }
    };
    out.places.extend(spare.iter().map(|c| (c.place, fix)));
    behind.sort_by_key(|c| c.expires);
    let todo = todo.min(behind.len());
    out.left.keys = (behind.len() - todo) as u64;
    out.places
        .extend(behind[..todo].iter().map(|c| (c.place, fix)));
}

/// What the sums of a leaf, a block or a chunk of them say.
struct Seen {
    any: u16,
    full: u16,
    min_exp: Option<u32>,
}

/// Leaves and blocks that are wanted. `worth` is asked of chunks too: it must hold of a chunk if it
/// holds of anything in it.
fn candidates(
    prev: &ZoneVersion,
    now: Timestamp,
    worth: impl Fn(&Seen) -> bool,
    want: impl Fn(&Seen) -> bool,
) -> Vec<Candidate> {
    let at = |exp: Option<u32>| exp.map_or(i64::MAX, |e| Timestamp::from_wire(e, now).secs());
    let of_leaf = |s: &LeafSums| Seen {
        any: s.any_mask,
        full: s.full_mask,
        min_exp: s.min_exp,
    };
    let of_block = |s: &BlockSums| Seen {
        any: s.any_mask,
        full: s.full_mask,
        min_exp: s.min_exp,
    };
    let (worth, want) = (&worth, &want);
    let mut list = Vec::new();
    for (unit, s) in prev.units_where(move |s| worth(&of_leaf(s))) {
        if want(&of_leaf(s)) {
            list.push(Candidate {
                place: Place::Leaf(unit),
                expires: at(s.min_exp),
                signatures: s.signatures,
            });
        }
    }
    let blocks = prev
        .chain()
        .into_iter()
        .flat_map(|c| blocks_where(c, move |s| worth(&of_block(s))));
    for (i, block) in blocks {
        let s = block.sums();
        if want(&of_block(s)) {
            list.push(Candidate {
                place: Place::Block(i),
                expires: at(s.min_exp),
                signatures: s.records - s.rows,
            });
        }
    }
    list
}
