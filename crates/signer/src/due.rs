//! When upkeep of a signed version has something to do (signing.md §5).

use cascade_time::Timestamp;
use cascade_zone::block::earlier;
use cascade_zone::{Rtype, ZoneVersion};
use xxhash_rust::xxh3::xxh3_64;

use crate::refresh::{Spread, Times, TimesError};

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
    let key_sets = key_sets_due(version, key_set_remain, now);
    Ok([data_due(version, &spread), key_sets]
        .into_iter()
        .flatten()
        .min())
}

/// When to run upkeep next: at the zone's first tick that finds data due, or as soon as key sets
/// are; `now` if that has passed. Ticks are a refresh interval apart, each zone's at its own place,
/// so that leaves which become due one after the other share a version, and zones do not come all at
/// once.
///
/// # Errors
/// As [`next_due`].
pub fn next_upkeep(
    version: &ZoneVersion,
    times: &Times,
    key_set_remain: u32,
    now: Timestamp,
) -> Result<Option<Timestamp>, TimesError> {
    let spread = times.spread(version.zone(), version.sums().max_ttl, now)?;
    let tick = data_due(version, &spread).map(|due| {
        // `check` wants at least a minute, and `spread` has checked.
        let interval = i64::from(times.refresh.max(1));
        let place = (xxh3_64(&version.zone().0) % interval as u64) as i64;
        let wait = (place - due.secs()).rem_euclid(interval);
        Timestamp::from_secs(due.secs() + wait)
    });
    let key_sets = key_sets_due(version, key_set_remain, now);
    Ok([tick, key_sets]
        .into_iter()
        .flatten()
        .min()
        .map(|at| at.max(now)))
}

/// When signatures over the zone's data are due.
pub(crate) fn data_due(version: &ZoneVersion, spread: &Spread) -> Option<Timestamp> {
    let chain = version.chain().and_then(|c| c.tree().sums().min_exp);
    let (apex, _) = apex_expirations(version);
    let below = earlier(version.leaf_sums().min_exp, chain);
    earlier(apex, below).map(|e| spread.next_due(e))
}

fn key_sets_due(version: &ZoneVersion, remain: u32, now: Timestamp) -> Option<Timestamp> {
    let (_, expires) = apex_expirations(version);
    let expires = Timestamp::from_wire(expires?, now).secs();
    Some(Timestamp::from_secs(expires - i64::from(remain)))
}

/// Earliest expirations at the apex: over data, and over the key sets. The sums of the apex mix
/// them, but key sets may be signed for shorter than data is refreshed ahead.
fn apex_expirations(version: &ZoneVersion) -> (Option<u32>, Option<u32>) {
    let apex = version.apex_owner();
    let (mut data, mut key_sets) = (None, None);
    for set in apex.sets() {
        let of_keys = matches!(set.rtype, Rtype::DNSKEY | Rtype::CDS | Rtype::CDNSKEY);
        let of = if of_keys { &mut key_sets } else { &mut data };
        for sig in apex.sigs(set.index) {
            *of = earlier(*of, Some(sig.expiration));
        }
    }
    for sig in apex.nsec().iter().flat_map(|nsec| nsec.sigs()) {
        data = earlier(data, Some(sig.expiration));
    }
    (data, key_sets)
}

/// How often a change of keys that is spread over `over` seconds goes on, in seconds.
pub fn key_tick(over: u32) -> u32 {
    (over / 144).max(600)
}
