//! Between the key manager's apex sets, which name keys by number, and versions of a zone, which
//! carry records and signatures.

use std::collections::BTreeMap;
use std::sync::Arc;

use cascade_crypto::{DigestType, Dnskey, SigningKey, push_ds_rdata};
use cascade_keys::{
    ApexSet, Cds, Delegation, DsRecord, Key, KeyNum, Publication, Role, RollType, ZoneKeys,
};
use cascade_pipeline::state::KeySet;
use cascade_signer::ApexSet as SignerSet;
use cascade_time::Timestamp;
use cascade_verifier::{OwnKey, Parent};
use cascade_zone::{Name, Owner, Rtype, ZoneVersion};

use super::policy::ApexTimes;
use super::row::KeysRow;
use crate::settings::digest;

/// CDS `0 0 0 00` and CDNSKEY `0 3 0 AA==` (RFC 8078 §4).
const DELETE_CDS: [u8; 5] = [0, 0, 0, 0, 0];
const DELETE_CDNSKEY: [u8; 5] = [0, 0, 3, 0, 0];

/// An apex set with the keys that it needs, ready to sign with.
#[derive(Clone)]
pub struct Loaded {
    pub apex: ApexSet,
    /// All that the apex set names.
    pub keys: BTreeMap<KeyNum, Dnskey>,
    /// Those of them that sign.
    pub signers: BTreeMap<KeyNum, Arc<dyn SigningKey>>,
    pub set: KeySet,
}

impl Loaded {
    /// `None` while a private half that signs is missing from `signers`.
    pub fn new(
        row: &KeysRow,
        apex: &ApexSet,
        signers: &BTreeMap<KeyNum, Arc<dyn SigningKey>>,
    ) -> Option<Loaded> {
        let mut keys = BTreeMap::new();
        let cds: &[KeyNum] = match &apex.cds {
            Cds::Keys(k) => k,
            _ => &[],
        };
        for n in apex.dnskey.iter().chain(cds) {
            let rdata = row.zone.key(*n)?.dnskey_rdata();
            keys.insert(*n, Dnskey::from_rdata(&rdata).ok()?);
        }
        let mut own = BTreeMap::new();
        for n in signing_keys(apex) {
            own.insert(n, signers.get(&n)?.clone());
        }
        Some(Loaded {
            apex: apex.clone(),
            keys,
            signers: own,
            set: key_set(apex),
        })
    }
}

/// Keys whose private half the apex set needs, without repetition.
pub fn signing_keys(apex: &ApexSet) -> Vec<KeyNum> {
    let lists = [&apex.dnskey_signers, &apex.cds_signers, &apex.zone_signers];
    let mut all: Vec<KeyNum> = lists.into_iter().flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Names the content for the pipeline: a live version with another one is signed again.
pub fn key_set(apex: &ApexSet) -> KeySet {
    KeySet {
        apex: digest(apex.id().as_bytes()),
        signing: digest(format!("{:?}", apex.zone_signers).as_bytes()),
    }
}

/// The apex set as the signer takes it.
pub fn signer_set(zone: &Name, loaded: &Loaded, times: &ApexTimes, now: Timestamp) -> SignerSet {
    let apex = &loaded.apex;
    let rdata = |n: &KeyNum| Some(loaded.keys.get(n)?.rdata().to_vec());
    let sorted = |mut set: Vec<Vec<u8>>| {
        set.sort();
        set.dedup();
        set
    };
    let (cds, cdnskey) = match &apex.cds {
        Cds::None => (Vec::new(), Vec::new()),
        Cds::Delete => (vec![DELETE_CDS.to_vec()], vec![DELETE_CDNSKEY.to_vec()]),
        Cds::Keys(nums) => {
            let mut cds = Vec::new();
            for key in nums.iter().filter_map(|n| loaded.keys.get(n)) {
                for d in apex
                    .digests
                    .iter()
                    .filter_map(|d| DigestType::from_number(*d))
                {
                    let mut out = Vec::new();
                    push_ds_rdata(zone, key, d, &mut out);
                    cds.push(out);
                }
            }
            let keys = nums.iter().filter(|_| apex.cdnskey).filter_map(rdata);
            (cds, keys.collect())
        }
    };
    let signers = |nums: &[KeyNum]| -> Vec<Arc<dyn SigningKey>> {
        nums.iter()
            .filter_map(|n| loaded.signers.get(n).cloned())
            .collect()
    };
    let secs = |d: std::time::Duration| u32::try_from(d.as_secs()).unwrap_or(u32::MAX);
    let wire = now.to_wire();
    SignerSet {
        ttl: apex.ttl,
        dnskey: sorted(apex.dnskey.iter().filter_map(rdata).collect()),
        cds: sorted(cds),
        cdnskey: sorted(cdnskey),
        dnskey_signers: signers(&apex.dnskey_signers),
        cds_signers: signers(&apex.cds_signers),
        zone_signers: signers(&apex.zone_signers),
        inception: wire.wrapping_sub(secs(times.inception_offset)),
        expiration: wire.wrapping_add(secs(times.lifetime)),
    }
}

/// What the version that was just published has, read from the version itself.
pub fn publication(
    version: &ZoneVersion,
    apex: ApexSet,
    keys: &ZoneKeys,
    at: Timestamp,
) -> Publication {
    let (any, all) = data_masks(version);
    let nums = |mask: u16| -> Vec<KeyNum> {
        let slots = version.key_table().iter();
        let mut nums: Vec<KeyNum> = slots
            .filter(|(slot, _)| mask >> slot & 1 == 1)
            .filter_map(|(_, s)| Some(keys.keys.iter().find(|k| k.id == s.id)?.num))
            .collect();
        nums.sort_unstable();
        nums
    };
    let any_nums = nums(any);
    // The mask of "all" is full of ones where nothing needs a signature.
    let all_nums = nums(all & any);
    let soa = version.soa_fields();
    // RFC 2308 §5: negative answers live for the smaller of the two.
    let negative = soa.as_ref().map_or(0, |s| s.minimum.min(version.soa_ttl()));
    let data_ttl = version.sums().max_ttl.max(negative);
    Publication {
        version: version.id().0,
        serial: version.serial().0,
        apex_expires: apex_expires(version).unwrap_or(at),
        apex,
        any: any_nums,
        all: all_nums,
        data_ttl,
        soa_expire: soa.map_or(0, |s| s.expire),
        unsigned_ttl: keys.published.is_none().then_some(data_ttl),
        at,
    }
}

/// The apex set of a version of which no record was kept, as far as the version itself shows it.
pub fn derived_apex(version: &ZoneVersion, row: &KeysRow) -> Option<ApexSet> {
    let apex = version.apex_owner();
    if !version.is_signed() && row.zone.unsigned {
        // What the goals ask for then; nothing else is published without DNSSEC.
        return row.zone.apex_set(&Default::default(), version.made_at());
    }
    let set = apex.set(Rtype::DNSKEY)?;
    let shown: Vec<Vec<u8>> = rdatas(&apex, Rtype::DNSKEY);
    let in_set = |k: &&Key| shown.contains(&k.dnskey_rdata());
    let pick = |test: &dyn Fn(&Key) -> bool| -> Vec<KeyNum> {
        let keys = row.zone.keys.iter().filter(in_set);
        let mut nums: Vec<KeyNum> = keys.filter(|k| test(k)).map(|k| k.num).collect();
        nums.sort_unstable();
        nums
    };
    let signers = pick(&|k| k.role.signs_keys());
    let cds = rdatas(&apex, Rtype::CDS);
    let mut digests: Vec<u8> = cds.iter().filter_map(|r| r.get(3).copied()).collect();
    digests.sort_unstable();
    digests.dedup();
    Some(ApexSet {
        ttl: set.ttl,
        dnskey: pick(&|_| true),
        dnskey_signers: signers.clone(),
        cds_signers: if cds.is_empty() {
            Vec::new()
        } else {
            signers.clone()
        },
        zone_signers: pick(&|k| k.role.signs_data()),
        cds: if cds.is_empty() {
            Cds::None
        } else {
            Cds::Keys(signers)
        },
        cdnskey: apex.set(Rtype::CDNSKEY).is_some(),
        digests,
        unsigned: false,
    })
}

/// What the gate is told of our keys and of those of others, for a version with this apex set.
pub fn own_keys(row: &KeysRow, apex: &ApexSet) -> (Vec<OwnKey>, Vec<Vec<u8>>) {
    let live: &[KeyNum] = row.zone.published.as_ref().map_or(&[], |p| &p.any);
    let wanted = &row.zone.parent.wanted;
    let signing = signing_keys(apex);
    let (mut own, mut foreign) = (Vec::new(), Vec::new());
    let left = |k: &&Key| k.times.destroyed_at.is_none();
    for k in row.zone.keys.iter().filter(left) {
        let published = apex.dnskey.contains(&k.num);
        if k.role == Role::Foreign {
            if published {
                foreign.push(k.dnskey_rdata());
            }
            continue;
        }
        own.push(OwnKey {
            dnskey: k.dnskey_rdata(),
            published,
            may_sign_unpublished: !published && (signing.contains(&k.num) || live.contains(&k.num)),
            wanted_at_parent: wanted.contains(&k.num),
            // Loading a key for signing proves it.
            proven: true,
        });
    }
    (own, foreign)
}

/// What the gate is told of the delegation, for a version with this apex set.
pub fn gate_parent(row: &KeysRow, apex: &ApexSet) -> Parent {
    let ds: Vec<Vec<u8>> = row.parent_ds.iter().map(ds_rdata).collect();
    match row.zone.parent.delegation {
        Delegation::Ours => Parent::Ours { ds },
        Delegation::Linked => Parent::Linked {
            standby: kept_back(row, apex).iter().map(ds_rdata).collect(),
            ds,
        },
        _ => Parent::NotApplicable,
    }
}

/// The published version does not fit what the parent shows either: the parent erred, and that
/// must not keep signatures from being refreshed.
pub fn parent_breaks(row: &KeysRow) -> bool {
    let Some(p) = &row.zone.published else {
        return false;
    };
    if !matches!(
        row.zone.parent.delegation,
        Delegation::Ours | Delegation::Linked
    ) {
        return false;
    }
    let kept = kept_back(row, &p.apex);
    let fits = |ds: &DsRecord| {
        p.apex
            .dnskey_signers
            .iter()
            .filter(|n| p.apex.dnskey.contains(n))
            .filter_map(|n| row.zone.key(*n))
            .any(|k| DsRecord::of(&row.zone.owner, k, ds.digest_type).is_some_and(|own| own == *ds))
    };
    let must = || row.parent_ds.iter().filter(|d| !kept.contains(d));
    must().any(|d| !must().any(|o| o.algorithm == d.algorithm && fits(o)))
}

/// What a zone's delegation says of who signs what resolvers are sent to.
#[derive(Debug, PartialEq, Eq)]
pub enum Chain {
    /// The parent leads to the zone's own servers with a DS that fits no key of what is published,
    /// and none of the zone's keys ever had one: it is live under another signer, whose version
    /// the secondaries should go on serving. Says so.
    Foreign(String),
    /// What is published may be given to secondaries.
    Own,
    /// Nobody has told.
    Unknown,
}

/// Judges what the last looks at the parent have shown against what is published.
pub fn chain(row: &KeysRow) -> Chain {
    match row.zone.parent.delegation {
        _ if row.zone.published.is_none() => Chain::Unknown,
        Delegation::Unknown => Chain::Unknown,
        Delegation::None | Delegation::Elsewhere | Delegation::Root => Chain::Own,
        Delegation::Ours | Delegation::Linked if !parent_breaks(row) => Chain::Own,
        // It was ours before: what is wrong is the parent's, and the servers have it already.
        Delegation::Linked => Chain::Unknown,
        Delegation::Ours => {
            // Digests and algorithms that nobody knows make no chain (RFC 4035 §5.2).
            let counts = |d: &&DsRecord| {
                matches!(d.digest_type, 2 | 4)
                    && cascade_crypto::Algorithm::from_number(d.algorithm).is_some()
            };
            let mut tags: Vec<String> = row
                .parent_ds
                .iter()
                .filter(counts)
                .map(|d| d.tag.to_string())
                .collect();
            tags.sort();
            tags.dedup();
            if tags.is_empty() {
                return Chain::Own;
            }
            Chain::Foreign(format!(
                "the parent leads to this zone's servers with the DS of key {}, which is none of those that sign here: the zone is live under another signer. Remove it and add it again with the keys in service (cascade zone add --import-ksk-file … --import-zsk-file …), or have the DS changed",
                tags.join(" and ")
            ))
        }
    }
}

/// DS records of keys that are held back from the DNSKEY RRset on purpose.
fn kept_back(row: &KeysRow, apex: &ApexSet) -> Vec<DsRecord> {
    let double_ds = |k: &Key| {
        row.zone.rolls.iter().any(|r| {
            r.kind == RollType::KskDoubleDs && (r.old.contains(&k.num) || r.new.contains(&k.num))
        })
    };
    let held = |k: &&Key| !apex.dnskey.contains(&k.num) && (k.standby || double_ds(k));
    let keys: Vec<&Key> = row.zone.keys.iter().filter(held).collect();
    let of = |ds: &&DsRecord| {
        keys.iter()
            .any(|k| DsRecord::of(&row.zone.owner, k, ds.digest_type).is_some_and(|o| o == **ds))
    };
    row.parent_ds.iter().filter(of).cloned().collect()
}

pub fn ds_rdata(ds: &DsRecord) -> Vec<u8> {
    let mut out = ds.tag.to_be_bytes().to_vec();
    out.extend([ds.algorithm, ds.digest_type]);
    out.extend(&ds.digest);
    out
}

/// RDATA of a set, `soa` and names as they are stored.
fn rdatas(owner: &Owner<'_>, rtype: Rtype) -> Vec<Vec<u8>> {
    let set = owner.set(rtype);
    set.iter()
        .flat_map(|s| s.rdatas())
        .map(<[u8]>::to_vec)
        .collect()
}

fn is_key_set(rtype: Rtype) -> bool {
    matches!(rtype, Rtype::DNSKEY | Rtype::CDS | Rtype::CDNSKEY)
}

/// Key slots with a signature over some RRset, and over every RRset; DNSKEY, CDS and CDNSKEY left
/// out, which other keys sign.
fn data_masks(version: &ZoneVersion) -> (u16, u16) {
    let mut any = version.chain().map_or(0, |c| c.any_mask()) | version.leaf_sums().any_mask;
    let apex = version.apex_owner();
    for set in apex.sets().filter(|s| !is_key_set(s.rtype)) {
        any |= apex.sigs(set.index).fold(0, |m, s| m | 1 << (s.slot & 15));
    }
    if let Some(nsec) = apex.nsec() {
        any |= nsec.sigs().fold(0, |m, s| m | 1 << (s.slot & 15));
    }
    (any, version.sums().full_mask)
}

/// Earliest expiration of an RRSIG over DNSKEY, CDS and CDNSKEY.
fn apex_expires(version: &ZoneVersion) -> Option<Timestamp> {
    let apex = version.apex_owner();
    let sets = apex.sets().filter(|s| is_key_set(s.rtype));
    sets.flat_map(|s| apex.sigs(s.index).map(|s| s.expiration).collect::<Vec<_>>())
        .map(|e| Timestamp::from_wire(e, version.made_at()))
        .min()
}
