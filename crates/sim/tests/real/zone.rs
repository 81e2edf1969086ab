//! A small zone, signed as a version of the world wants it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cascade_crypto::{Class, SigningKey};
use cascade_keys::{Cds, DsRecord, KeyNum};
use cascade_signer::{ApexSet, ClockGuard, DenialPlan, Job, Progress, SigningPlan, Times, sign};
use cascade_sim::{Shown, World};
use cascade_time::{SimClock, Timestamp};
use cascade_verifier::{Outcome, OwnKey, Params, Parent, fingerprint_seed, verify_full};
use cascade_zone::{
    Builder, Name, RecordBatch, Rtype, Serial, VersionId, ZoneId, ZoneVersion, key,
};

use crate::keys::pair;

/// Groups of names that the signer of the world reaches one after the other.
pub const PARTS: usize = 4;

const ZONE: ZoneId = ZoneId([5; 16]);

/// An RRset as a resolver gets it; RDATA in canonical form and order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RrSet {
    pub owner: Vec<u8>,
    pub rtype: Rtype,
    pub rrs: Vec<Vec<u8>>,
    pub rrsigs: Vec<Vec<u8>>,
}

/// Zones by who signs them, and what the gate has seen.
#[derive(Default)]
pub struct Signed {
    zones: BTreeMap<String, ZoneVersion>,
    known: BTreeSet<u32>,
    pub judged: usize,
}

impl Signed {
    /// The gate gets every version in which the change of signers is complete.
    pub fn judge_new(&mut self, w: &World) {
        for v in w.shown() {
            if !self.known.insert(v.serial) || v.data.iter().any(|p| *p != v.apex.zone_signers) {
                continue;
            }
            let version = self.signed(w, &v, &v.apex.zone_signers.clone()).clone();
            let params = Params {
                fingerprint_seed: fingerprint_seed(ZONE),
                own_keys: Some(own_keys(w, &v)),
                parent: parent(w),
                // What is linked at the end of a step may not be what it was for.
                cdnskey: v.apex.cdnskey,
                ..Params::file()
            };
            match verify_full(version, &params, v.at) {
                Outcome::Verified(_) => self.judged += 1,
                Outcome::Refused(r) => {
                    panic!("{:?}: the gate refuses {:?}", r.report().findings, v)
                }
            }
        }
    }

    pub fn dnskey(&mut self, w: &World, v: &Shown) -> RrSet {
        let z = self.signed(w, v, &v.apex.zone_signers.clone());
        rrset(z, w.config.owner.as_slice(), Rtype::DNSKEY)
    }

    /// One RRset of a part of the data.
    pub fn data(&mut self, w: &World, v: &Shown, part: usize) -> RrSet {
        let z = self.signed(w, v, &v.data[part].clone());
        rrset(z, &owner(part, &w.config.owner), Rtype::A)
    }

    /// The zone signed by these keys in place of those that the version ends with.
    fn signed(&mut self, w: &World, v: &Shown, signers: &[KeyNum]) -> &ZoneVersion {
        let day = v.at.secs() / 86_400;
        let id = format!("{:?} {signers:?} {day}", v.apex);
        self.zones.entry(id).or_insert_with(|| {
            let apex = Name::from_wire(&w.config.owner).expect("a name");
            let base = base(&apex, v.at);
            let plan = SigningPlan {
                version: VersionId(2),
                serial: Serial(v.serial.max(2)),
                apex: apex_set(w, v, signers),
                denial: DenialPlan::Nsec,
                zonemd: None,
                times: Times::default(),
                clock: ClockGuard {
                    built_at: v.at,
                    newest_inception: None,
                },
                requested_at: v.at,
                reasons: vec!["keys".into()],
            };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
            let job = Job {
                pool: &pool.expect("a thread"),
                clock: &SimClock::new(v.at),
                progress: &Progress::new(),
                class: Class::Normal,
                token_wait: Duration::from_secs(10),
            };
            let done = sign(&base, &plan, &job, v.at);
            done.unwrap_or_else(|e| panic!("{v:?} is not signed: {e}"))
                .version
        })
    }
}

fn signer(w: &World, n: KeyNum) -> Arc<dyn SigningKey> {
    let k = w.key(n).expect("known");
    pair(n, k.role, k.algorithm)
}

fn apex_set(w: &World, v: &Shown, zone_signers: &[KeyNum]) -> ApexSet {
    let all = |list: &[KeyNum]| list.iter().map(|n| signer(w, *n)).collect::<Vec<_>>();
    let mut dnskey: Vec<Vec<u8>> = all(&v.apex.dnskey)
        .iter()
        .map(|k| k.dnskey().rdata().to_vec())
        .collect();
    dnskey.sort();
    let named = match &v.apex.cds {
        Cds::Keys(keys) => keys.clone(),
        Cds::None | Cds::Delete => Vec::new(),
    };
    let key = |n: &KeyNum| w.key(*n).expect("known").clone();
    let mut cds: Vec<Vec<u8>> = named
        .iter()
        .filter_map(|n| DsRecord::of(&w.config.owner, &key(n), 2))
        .map(|d| ds_rdata(&d))
        .collect();
    let mut cdnskey: Vec<Vec<u8>> = named.iter().map(|n| key(n).dnskey_rdata()).collect();
    cds.sort();
    cdnskey.sort();
    let at = v.at.secs() as u32;
    ApexSet {
        ttl: v.apex.ttl,
        dnskey,
        cds,
        cdnskey,
        dnskey_signers: all(&v.apex.dnskey_signers),
        cds_signers: all(&v.apex.cds_signers),
        zone_signers: all(zone_signers),
        inception: at - 86_400,
        expiration: at + 14 * 86_400,
    }
}

fn own_keys(w: &World, v: &Shown) -> Vec<OwnKey> {
    let used = |n: KeyNum| {
        let a = &v.apex;
        [&a.dnskey, &a.cds_signers, &a.zone_signers]
            .iter()
            .any(|l| l.contains(&n))
    };
    w.all_keys()
        .map(|k| OwnKey {
            dnskey: k.dnskey_rdata(),
            published: v.apex.dnskey.contains(&k.num),
            may_sign_unpublished: used(k.num) && !v.apex.dnskey.contains(&k.num),
            wanted_at_parent: true,
            proven: true,
        })
        .collect()
}

fn parent(w: &World) -> Parent {
    let mut ds: Vec<Vec<u8>> = w.ds_at(0).iter().map(ds_rdata).collect();
    ds.sort();
    // Under double-DS the DNSKEY of one DS is kept back.
    let apex = w.newest().map(|v| v.apex.dnskey).unwrap_or_default();
    let kept = w
        .all_keys()
        .filter(|k| !apex.contains(&k.num))
        .filter_map(|k| DsRecord::of(&w.config.owner, k, 2))
        .map(|d| ds_rdata(&d));
    let standby: Vec<Vec<u8>> = kept.filter(|d| ds.contains(d)).collect();
    match ds.is_empty() {
        true => Parent::NotApplicable,
        false => Parent::Linked { ds, standby },
    }
}

pub fn ds_rdata(d: &DsRecord) -> Vec<u8> {
    let mut out = d.tag.to_be_bytes().to_vec();
    out.extend([d.algorithm, d.digest_type]);
    out.extend(&d.digest);
    out
}

/// `h<part>` under the apex.
fn owner(part: usize, apex: &[u8]) -> Vec<u8> {
    let mut out = vec![2, b'h', b'0' + part as u8];
    out.extend(apex);
    out
}

fn base(apex: &Name, at: Timestamp) -> ZoneVersion {
    let mut records: Vec<(Vec<u8>, Rtype, Vec<u8>)> = Vec::new();
    let ns = owner(0, apex.as_wire());
    let mut soa = [ns.clone(), ns.clone()].concat();
    for n in [1u32, 7200, 3600, 432_000, 3600] {
        soa.extend(n.to_be_bytes());
    }
    records.push((apex.as_wire().to_vec(), Rtype::SOA, soa));
    records.push((apex.as_wire().to_vec(), Rtype::NS, ns));
    for part in 0..PARTS {
        let a = vec![192, 0, 2, part as u8];
        records.push((owner(part, apex.as_wire()), Rtype::A, a));
    }
    let mut batch = RecordBatch::new();
    for (owner, rtype, rdata) in &records {
        let k = key::key_of(apex, owner).expect("in the zone");
        batch.owner(&k, key::case_of(apex, owner).as_deref());
        batch.push(*rtype, 7200, rdata, 0).expect("short");
    }
    Builder::new(ZONE, VersionId(1), apex, at)
        .batches(vec![batch])
        .build()
        .expect("a good zone")
}

fn rrset(z: &ZoneVersion, owner: &[u8], rtype: Rtype) -> RrSet {
    let mut set = RrSet {
        owner: owner.to_vec(),
        rtype,
        rrs: Vec::new(),
        rrsigs: Vec::new(),
    };
    z.for_each_record(&mut |r| {
        if *r.owner != *owner {
            return;
        }
        let covers = r.rdata.get(..2) == Some(&rtype.0.to_be_bytes()[..]);
        if r.rtype == rtype {
            set.rrs.push(r.rdata.to_vec());
        } else if r.rtype == Rtype::RRSIG && covers {
            set.rrsigs.push(r.rdata.to_vec());
        }
    });
    set.rrs.sort();
    set
}
