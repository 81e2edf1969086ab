//! When a signed version needs upkeep.

use cascade_time::Timestamp;
use cascade_zone::block::earlier;
use cascade_zone::{Rtype, ZoneVersion};

use crate::refresh::{Spread, Times, TimesError};

/// RRsets whose signatures have times of their own: made by the KSK, renewed by the key manager's
/// settings (`key-manager.records`).
pub(crate) fn is_key_set(rtype: Rtype) -> bool {
    matches!(rtype, Rtype::DNSKEY | Rtype::CDS | Rtype::CDNSKEY)
}

/// Earliest expirations at the apex: over data, and over the key sets. They must not be mixed: key
/// sets may be signed for shorter than data is refreshed ahead, and would make the apex due forever.
pub(crate) fn apex_expirations(version: &ZoneVersion) -> (Option<u32>, Option<u32>) {
    let apex = version.apex_owner();
    let (mut data, mut keys) = (None, None);
    for set in apex.sets() {
        let of = match is_key_set(set.rtype) {
            true => &mut keys,
            false => &mut data,
        };
        for sig in apex.sigs(set.index) {
            *of = earlier(*of, Some(sig.expiration));
        }
    }
    for sig in apex.nsec().iter().flat_map(|nsec| nsec.sigs()) {
        data = earlier(data, Some(sig.expiration));
    }
    (data, keys)
}

/// When upkeep of `version` has something to do: its data by the rule of [`Times`], its key sets
/// when no more than `key_set_remain` seconds of their signatures are left. `None` if nothing in it
/// is signed.
///
/// # Errors
/// The times are no times.
pub fn next_due(
    version: &ZoneVersion,
    times: &Times,
    key_set_remain: u32,
    now: Timestamp,
) -> Result<Option<Timestamp>, TimesError> {
    let spread = times.spread(version.zone(), version.sums().max_ttl, now)?;
    let (_, keys) = apex_expirations(version);
    let keys = keys.map(|e| {
        let expires = Timestamp::from_wire(e, now).secs();
        Timestamp::from_secs(expires - i64::from(key_set_remain))
    });
    let data = data_due(version, &spread);
    Ok([data, keys].into_iter().flatten().min())
}

/// When signatures over the zone's data are due.
pub(crate) fn data_due(version: &ZoneVersion, spread: &Spread) -> Option<Timestamp> {
    let (apex, _) = apex_expirations(version);
    earlier(apex, version.expiration_below_apex()).map(|e| spread.next_due(e))
}
