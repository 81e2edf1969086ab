//! When upkeep of a signed version has something to do.

use cascade_time::Timestamp;
use cascade_zone::block::earlier;
use cascade_zone::{Rtype, ZoneVersion};
use xxhash_rust::xxh3::xxh3_64;

use crate::refresh::{Times, TimesError};

/// When the first signatures become due, if there are any.
///
/// `key_set_remain`: as in [`Scope`](crate::Scope).
///
/// # Errors
/// The times are not usable; nothing can be signed with them either.
pub fn next_due(
    version: &ZoneVersion,
    times: &Times,
    key_set_remain: u32,
    now: Timestamp,
) -> Result<Option<Timestamp>, TimesError> {
    let spread = times.spread(version.zone(), version.sums().max_ttl, now)?;
    let chain = version.chain().and_then(|c| c.tree().sums().min_exp);
    let mut data = earlier(version.leaf_sums().min_exp, chain);
    let mut key_sets = None;
    // The sums of the apex mix signatures that are due at different times.
    let apex = version.apex_owner();
    for set in apex.sets() {
        let of_keys = matches!(set.rtype, Rtype::DNSKEY | Rtype::CDS | Rtype::CDNSKEY);
        let place = if of_keys { &mut key_sets } else { &mut data };
        for sig in apex.sigs(set.index) {
            *place = earlier(*place, Some(sig.expiration));
        }
    }
    for sig in apex.nsec().iter().flat_map(|nsec| nsec.sigs()) {
        data = earlier(data, Some(sig.expiration));
    }
    let data = data.map(|exp| spread.next_due(exp));
    let key_sets = key_sets.map(|exp| {
        let early = key_set_due(key_set_remain, times, Timestamp::EPOCH).secs();
        Timestamp::from_secs(Timestamp::from_wire(exp, now).secs() - early)
    });
    Ok(match (data, key_sets) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    })
}

/// Signatures over key sets that expire at or before this are due: like all others they are looked
/// at once in a refresh interval.
pub(crate) fn key_set_due(remain: u32, times: &Times, now: Timestamp) -> Timestamp {
    Timestamp::from_secs(now.secs() + i64::from(remain) + i64::from(times.refresh))
}

/// When to run upkeep next: at the zone's first tick that finds something due, `now` if that has
/// passed. Ticks are a refresh interval apart, each zone's at its own place, so that leaves which
/// become due one after the other share a version, and zones do not come all at once.
///
/// # Errors
/// As [`next_due`].
pub fn next_upkeep(
    version: &ZoneVersion,
    times: &Times,
    key_set_remain: u32,
    now: Timestamp,
) -> Result<Option<Timestamp>, TimesError> {
    let due = next_due(version, times, key_set_remain, now)?;
    Ok(due.map(|due| {
        // `check` wants at least a minute, and `next_due` has checked.
        let interval = i64::from(times.refresh.max(1));
        let place = (xxh3_64(&version.zone().0) % interval as u64) as i64;
        let wait = (place - due.secs()).rem_euclid(interval);
        Timestamp::from_secs(due.secs() + wait).max(now)
    }))
}

/// How often a change of keys that is spread over `over` seconds goes on, in seconds: never more
/// seldom than that.
pub fn key_tick(over: u32) -> u32 {
    (over / 144).max(600).min(over.max(1))
}
