//! Signatures verified from plain records.

use std::collections::{BTreeMap, BTreeSet};

use cascade_crypto::{Dnskey, ZonemdHash};
use cascade_zone::{Name, Rtype, ZoneVersion, canon};

use super::{Rec, records};

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

/// The digest is the one that its own words describe, by a plain reading of RFC 8976 §3.3; or there
/// is none.
pub fn digested(version: &ZoneVersion, hash: Option<ZonemdHash>) {
    use sha2::Digest;
    let apex = version.apex_lower();
    let all = records(version);
    let stated: Vec<&Rec> = all.iter().filter(|r| r.rtype == Rtype::ZONEMD).collect();
    let Some(hash) = hash else {
        assert!(stated.is_empty());
        return;
    };
    assert_eq!(stated.len(), 1);
    let mut order: Vec<(Vec<Vec<u8>>, Rtype, Vec<u8>, u32, Vec<u8>)> = Vec::new();
    for r in &all {
        let owner = r.owner.to_ascii_lowercase();
        let covered = r.rdata.get(..2) == Some(&Rtype::ZONEMD.0.to_be_bytes()[..]);
        let skip = r.rtype == Rtype::ZONEMD || (r.rtype == Rtype::RRSIG && covered);
        if skip && owner == apex {
            continue;
        }
        let mut labels = Vec::new();
        let mut rest = &owner[..];
        while let [n, tail @ ..] = rest {
            if *n == 0 {
                break;
            }
            let (label, tail) = tail.split_at(*n as usize);
            labels.push(label.to_vec());
            rest = tail;
        }
        labels.reverse();
        let mut rdata = Vec::new();
        canon::push_canonical(r.rtype, &r.rdata, &mut rdata);
        order.push((labels, r.rtype, rdata, r.ttl, owner));
    }
    order.sort();
    let mut octets = Vec::new();
    for (_, rtype, rdata, ttl, owner) in &order {
        octets.extend_from_slice(owner);
        octets.extend_from_slice(&rtype.0.to_be_bytes());
        octets.extend_from_slice(&[0, 1]);
        octets.extend_from_slice(&ttl.to_be_bytes());
        octets.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        octets.extend_from_slice(rdata);
    }
    let digest = match hash {
        ZonemdHash::Sha384 => sha2::Sha384::digest(&octets).to_vec(),
        ZonemdHash::Sha512 => sha2::Sha512::digest(&octets).to_vec(),
    };
    let serial = version.serial().0.to_be_bytes();
    let want = [&serial[..], &[1, hash.number()], &digest].concat();
    assert_eq!(stated[0].rdata, want);
    assert_eq!(stated[0].ttl, version.soa_ttl());
}
