//! Signatures verified from plain records.

use std::collections::{BTreeMap, BTreeSet};

use cascade_crypto::Dnskey;
use cascade_zone::{Name, Rtype, ZoneVersion, canon};

use super::Rec;

pub type Sets = BTreeMap<(Name, Rtype), Vec<Rec>>;

/// RRsets by owner (compared without case) and type, without RRSIGs.
pub fn sets(all: &[Rec]) -> Sets {
    let mut sets = Sets::new();
    for r in all.iter().filter(|r| r.rtype != Rtype::RRSIG) {
        sets.entry((Name::from_wire(&r.owner).unwrap(), r.rtype))
            .or_default()
            .push(r.clone());
    }
    sets
}

/// Verifies every RRSIG from scratch (RFC 4034 §3.1.8.1, RFC 4035 §5.3); gives (owner, covered)
/// with the tags that signed. `cache`: what is known to be right already.
pub fn verified(
    version: &ZoneVersion,
    all: &[Rec],
    cache: &mut BTreeSet<Vec<u8>>,
) -> BTreeMap<(Name, Rtype), BTreeSet<u16>> {
    let sets = sets(all);
    let apex = version.apex().clone();
    let keys: Vec<Dnskey> = sets[&(apex.clone(), Rtype::DNSKEY)]
        .iter()
        .map(|r| Dnskey::from_rdata(&r.rdata).unwrap())
        .collect();
    let mut found: BTreeMap<_, BTreeSet<u16>> = BTreeMap::new();
    for sig in all.iter().filter(|r| r.rtype == Rtype::RRSIG) {
        let d = &sig.rdata;
        let covered = Rtype(u16::from_be_bytes([d[0], d[1]]));
        let owner = Name::from_wire(&sig.owner).unwrap();
        let set = sets
            .get(&(owner.clone(), covered))
            .expect("an RRSIG covers a set");
        let ttl = u32::from_be_bytes([d[4], d[5], d[6], d[7]]);
        assert!(sig.ttl == ttl && set.iter().all(|r| r.ttl == ttl));
        let labels = owner.label_count() - owner.is_wildcard() as usize;
        assert_eq!(d[3] as usize, labels);
        let (signer, len) = Name::from_prefix(&d[18..]).unwrap();
        assert_eq!(
            signer.as_wire(),
            apex.to_lowercase().as_wire(),
            "in lower case"
        );
        let tag = u16::from_be_bytes([d[16], d[17]]);
        let key = keys
            .iter()
            .find(|k| k.key_tag() == tag && k.algorithm_number() == d[2])
            .unwrap();
        let mut rrs: Vec<Vec<u8>> = set
            .iter()
            .map(|r| {
                let mut out = Vec::new();
                canon::push_canonical(covered, &r.rdata, &mut out);
                out
            })
            .collect();
        rrs.sort();
        let mut message = d[..18 + len].to_vec();
        for rdata in rrs {
            message.extend(owner.to_lowercase().as_wire());
            message.extend(covered.0.to_be_bytes());
            message.extend([0, 1]);
            message.extend(ttl.to_be_bytes());
            message.extend((rdata.len() as u16).to_be_bytes());
            message.extend(rdata);
        }
        let mut seen = message.clone();
        seen.extend_from_slice(&d[18 + len..]);
        if !cache.contains(&seen) {
            let valid = cascade_crypto::verify(key, &message, &d[18 + len..]);
            assert!(valid, "{owner} {covered}");
            cache.insert(seen);
        }
        assert!(
            found.entry((owner, covered)).or_default().insert(tag),
            "signed twice by one key"
        );
    }
    found
}
