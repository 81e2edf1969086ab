//! A version as records, and what they mean: who signs what, how long it lives and may be cached.

use std::collections::{BTreeMap, BTreeSet};

use cascade_keys::KeyNum;
use cascade_time::Timestamp;
use cascade_zone::{Rtype, ZoneVersion};

/// Owner, type and RDATA as sent.
pub(super) type Key = (Vec<u8>, Rtype, Vec<u8>);

/// All records of a zone, each with its TTL.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Records(pub(super) BTreeMap<Key, u32>);

impl Records {
    pub(super) fn of(version: &ZoneVersion) -> Records {
        let mut out = Records::default();
        version.for_each_record(&mut |r| {
            let key = (r.owner.to_vec(), r.rtype, r.rdata.to_vec());
            out.0.insert(key, r.ttl);
        });
        out
    }

    pub(super) fn soa(&self) -> Option<(u32, &[u8])> {
        let of = self.0.iter().find(|((_, t, _), _)| *t == Rtype::SOA);
        of.map(|((_, _, rdata), ttl)| (*ttl, &rdata[..]))
    }

    /// What one has and the other has not, for people.
    pub(super) fn differs_from(&self, other: &Records) -> Option<String> {
        let apart = |a: &Records, b: &Records| {
            let one = |(k, ttl): (&Key, &u32)| {
                let name = String::from_utf8_lossy(&k.0).into_owned();
                (b.0.get(k) != Some(ttl)).then(|| format!("{name:?} {} TTL {ttl}", k.1))
            };
            a.0.iter().filter_map(one).take(3).collect::<Vec<_>>()
        };
        let (more, less) = (apart(self, other), apart(other, self));
        (self != other).then(|| format!("more {more:?}, less {less:?}"))
    }
}

/// One RRset with its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) signers: Vec<KeyNum>,
    pub(crate) ttl: u32,
    pub(crate) expires: Timestamp,
}

/// RRsets by who signs them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Classes {
    /// Keys of the DNSKEY RRset.
    pub(crate) keys: Vec<KeyNum>,
    pub(crate) dnskey: Option<Set>,
    pub(crate) cds: Option<Set>,
    /// Of CDS and CDNSKEY the keys that they name.
    pub(crate) named: Vec<KeyNum>,
    pub(crate) data: Vec<Set>,
    /// Newest inception of a signature.
    pub(crate) inception: Option<Timestamp>,
}

/// Algorithm and tag of an RRSIG's key, and of keys of ours.
pub(super) type Tags = BTreeMap<(u8, u16), KeyNum>;

struct Found {
    ttl: u32,
    signers: BTreeSet<KeyNum>,
    expires: Option<Timestamp>,
}

/// Never, as far as a signature that is not there can tell.
pub(super) const NEVER: Timestamp = Timestamp::from_secs(i64::MAX / 2_000_000_000);

/// Reads the classes off the records.
///
/// # Errors
/// A signature or a DNSKEY is by a key that nobody made, or a record is malformed.
pub(super) fn classes(
    records: &Records,
    tags: &Tags,
    rdata_of: &BTreeMap<Vec<u8>, KeyNum>,
    near: Timestamp,
) -> Result<Classes, String> {
    let mut sets: BTreeMap<(&[u8], Rtype), Found> = BTreeMap::new();
    let mut out = Classes::default();
    let mut named = BTreeSet::new();
    for ((owner, rtype, rdata), ttl) in &records.0 {
        if *rtype == Rtype::RRSIG {
            continue;
        }
        let set = sets.entry((owner, *rtype)).or_insert(Found {
            ttl: *ttl,
            signers: BTreeSet::new(),
            expires: None,
        });
        set.ttl = set.ttl.max(*ttl);
        match *rtype {
            Rtype::DNSKEY => {
                let num = rdata_of.get(rdata).ok_or("a DNSKEY that nobody made")?;
                out.keys.push(*num);
            }
            Rtype::CDNSKEY => named.extend(rdata_of.get(rdata)),
            Rtype::CDS => {
                let (Some(tag), Some(algorithm)) = (field(rdata, 0), rdata.get(2)) else {
                    return Err("a CDS that is too short".into());
                };
                named.extend(tags.get(&(*algorithm, tag as u16)));
            }
            _ => {}
        }
    }
    for (owner, rtype, rdata) in records.0.keys() {
        if *rtype != Rtype::RRSIG {
            continue;
        }
        let at = |i: usize| Some((field(rdata, i)? << 16) | field(rdata, i + 2)?);
        let (Some(covered), Some(algorithm), Some(expires), Some(inception), Some(tag)) = (
            field(rdata, 0),
            rdata.get(2),
            at(8),
            at(12),
            field(rdata, 16),
        ) else {
            return Err("an RRSIG that is too short".into());
        };
        let num = tags.get(&(*algorithm, tag as u16));
        let num = num.ok_or_else(|| format!("an RRSIG by {algorithm} {tag}, that nobody made"))?;
        let set = sets.get_mut(&(&owner[..], Rtype(covered as u16)));
        let set = set.ok_or("an RRSIG over nothing")?;
        let expires = Timestamp::from_wire(expires, near);
        set.signers.insert(*num);
        set.expires = Some(set.expires.map_or(expires, |e| e.min(expires)));
        let inception = Timestamp::from_wire(inception, near);
        out.inception = out.inception.max(Some(inception));
    }
    let is_signed = sets.values().any(|s| !s.signers.is_empty());
    let mut data: BTreeMap<Vec<KeyNum>, Set> = BTreeMap::new();
    for ((_, rtype), found) in sets {
        // At and below zone cuts there is none (RFC 4035 §2.2); that all else has one is the gate's.
        if is_signed && found.signers.is_empty() {
            continue;
        }
        let set = Set {
            signers: found.signers.into_iter().collect(),
            ttl: found.ttl,
            expires: found.expires.unwrap_or(NEVER),
        };
        match rtype {
            Rtype::DNSKEY => out.dnskey = Some(set),
            Rtype::CDS | Rtype::CDNSKEY => out.cds = Some(both(out.cds.take(), set)),
            _ => {
                let known = data.remove(&set.signers);
                data.insert(set.signers.clone(), both(known, set));
            }
        }
    }
    out.keys.sort_unstable();
    out.named = named.into_iter().collect();
    out.data = data.into_values().collect();
    Ok(out)
}

/// Whoever holds either holds it until the later end, and is deceived from the earlier one on.
fn both(known: Option<Set>, set: Set) -> Set {
    let Some(known) = known else { return set };
    let mut signers = known.signers;
    signers.extend(set.signers);
    signers.sort_unstable();
    signers.dedup();
    Set {
        signers,
        ttl: known.ttl.max(set.ttl),
        expires: known.expires.min(set.expires),
    }
}

/// Two octets.
fn field(rdata: &[u8], at: usize) -> Option<u32> {
    let two = rdata.get(at..at + 2)?;
    Some(u32::from(two[0]) << 8 | u32::from(two[1]))
}
