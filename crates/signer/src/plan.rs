//! The signing plan: everything a job is told, checked before any work.

use std::sync::Arc;

use cascade_crypto::dnskey::Role;
use cascade_crypto::{DigestType, Dnskey, SigningKey, ZonemdHash, push_ds_rdata};
use cascade_time::Timestamp;
use cascade_zone::{KeyId, Name, Rtype, Serial, VersionId};
use thiserror::Error;

use crate::refresh::{ClockGuard, Times};

/// Keys with live signatures in one version (store: four bits per signature).
pub const MAX_KEYS: usize = 16;

/// What to sign with, how to deny, and when signatures expire.
#[derive(Clone)]
pub struct SigningPlan {
    /// Id of the version to be made.
    pub version: VersionId,
    /// Its serial, chosen by [`next_serial`](crate::next_serial).
    pub serial: Serial,
    pub apex: ApexSet,
    pub denial: DenialPlan,
    /// The version carries its digest (RFC 8976); costs a pass over all of the zone each time.
    pub zonemd: Option<ZonemdHash>,
    pub times: Times,
    pub clock: ClockGuard,
    pub requested_at: Timestamp,
    /// Why the job runs, for the report.
    pub reasons: Vec<String>,
}

/// How non-existence is to be proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DenialPlan {
    Nsec,
    Nsec3 {
        iterations: u16,
        salt: Vec<u8>,
        opt_out: bool,
    },
}

/// The key sets at the apex and the keys that sign what. Made once, never changed,
/// enters a version as a whole.
#[derive(Clone)]
pub struct ApexSet {
    pub ttl: u32,
    /// RDATA in canonical order; never empty.
    pub dnskey: Vec<Vec<u8>>,
    pub cds: Vec<Vec<u8>>,
    pub cdnskey: Vec<Vec<u8>>,
    /// Sign DNSKEY.
    pub dnskey_signers: Vec<Arc<dyn SigningKey>>,
    /// Sign CDS and CDNSKEY: in an algorithm roll also keys that are not in DNSKEY yet or any more,
    /// because a validator may hold a DNSKEY RRset of either algorithm (RFC 4035 §2.2).
    pub cds_signers: Vec<Arc<dyn SigningKey>>,
    /// Sign everything else.
    pub zone_signers: Vec<Arc<dyn SigningKey>>,
    /// Of the signatures over DNSKEY, CDS and CDNSKEY, as RRSIG fields.
    pub inception: u32,
    pub expiration: u32,
}

impl ApexSet {
    /// The sets as the store takes them: type, TTL, RDATA.
    pub fn sets(&self) -> Vec<(Rtype, u32, Vec<Vec<u8>>)> {
        vec![
            (Rtype::DNSKEY, self.ttl, self.dnskey.clone()),
            (Rtype::CDS, self.ttl, self.cds.clone()),
            (Rtype::CDNSKEY, self.ttl, self.cdnskey.clone()),
        ]
    }

    /// All that sign anything; some more than once.
    pub(crate) fn signers(&self) -> impl Iterator<Item = &Arc<dyn SigningKey>> {
        let lists = [&self.zone_signers, &self.dnskey_signers, &self.cds_signers];
        lists.into_iter().flatten()
    }

    /// Algorithms of the DNSKEY RRset, ascending.
    pub(crate) fn algorithms(&self) -> Vec<u8> {
        let mut all: Vec<u8> = self
            .dnskey
            .iter()
            .filter_map(|r| r.get(3).copied())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// One key for [`make_apex_set`].
#[derive(Clone)]
pub struct ApexKey {
    pub dnskey: Dnskey,
    pub role: Role,
    /// The private half; `None` for keys that are only published.
    pub signer: Option<Arc<dyn SigningKey>>,
    /// CDS and CDNSKEY name it.
    pub wanted_at_parent: bool,
}

/// How the apex sets are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApexOptions {
    /// TTL of DNSKEY, CDS and CDNSKEY.
    pub ttl: u32,
    /// Digest types of CDS records; empty: no CDS.
    pub cds: Vec<DigestType>,
    pub cdnskey: bool,
    /// Seconds that signatures over the apex sets live.
    pub lifetime: u32,
    /// Seconds that their inception lies in the past.
    pub inception_offset: u32,
}

/// A plan that cannot be carried out; nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    #[error("the plan has no DNSKEY; generate or import keys")]
    NoDnskey,
    #[error(
        "no key signs the zone's data with algorithm {0}, which the DNSKEY RRset has (RFC 4035 §2.2); add a ZSK or CSK of it or take its keys out of the zone"
    )]
    ZoneAlgorithm(u8),
    #[error(
        "no key signs the DNSKEY RRset with algorithm {0}, which it has (RFC 4035 §2.2); add a KSK or CSK of it or take its keys out of the zone"
    )]
    ApexAlgorithm(u8),
    #[error(
        "no key signs CDS and CDNSKEY with algorithm {0}, which the DNSKEY RRset has (RFC 4035 §2.2); add a KSK or CSK of it or take its keys out of the zone"
    )]
    CdsAlgorithm(u8),
    #[error("{0} keys would have live signatures; at most 16 can. Retire keys first")]
    TooManyKeys(usize),
    #[error("key {0} is listed twice with different public keys")]
    TwoFaces(KeyId),
    #[error("key {0} is published twice")]
    Twice(u16),
    #[error("SHA-1 must not be used for CDS (RFC 9905); choose sha256 or sha384")]
    CdsSha1,
    #[error("NSEC3 with {0} iterations; at most 50 are allowed, 0 is right (RFC 9276 §3.1)")]
    Iterations(u16),
    #[error("NSEC3 salt of {0} octets; at most 255 fit (RFC 5155 §3.1.4)")]
    Salt(usize),
    #[error("the zone name is too long for NSEC3 owner names (RFC 5155 §3); use NSEC")]
    NameTooLong,
    #[error(
        "signatures over the DNSKEY RRset would last {left} s, less than its TTL {ttl} s or more than 2^30 s; set the key records' lifetime right"
    )]
    ApexLifetime { left: i64, ttl: u32 },
    #[error("signatures over the DNSKEY RRset would begin in the future; make the apex set anew")]
    ApexInception,
    #[error("the unsigned version has no well formed SOA")]
    NoSoa,
    #[error("the version to be signed is signed already")]
    NotUnsigned,
}

/// Most NSEC3 iterations that are accepted (policy.md P21).
const MAX_ITERATIONS: u16 = 50;

impl SigningPlan {
    /// Refuses what would make a bogus or impossible zone.
    pub fn check(&self, apex: &Name, now: Timestamp) -> Result<(), PlanError> {
        let set = &self.apex;
        if set.dnskey.is_empty() {
            return Err(PlanError::NoDnskey);
        }
        // Never published with inception ahead, or outlived by a cached copy.
        let (inception, expiration) = (
            Timestamp::from_wire(set.inception, now),
            Timestamp::from_wire(set.expiration, now),
        );
        let left = now.secs_until(expiration);
        if left < set.ttl as i64 || left > 1 << 30 {
            return Err(PlanError::ApexLifetime { left, ttl: set.ttl });
        }
        if inception > now {
            return Err(PlanError::ApexInception);
        }
        for algorithm in set.algorithms() {
            let signs = |keys: &[Arc<dyn SigningKey>]| {
                keys.iter().any(|k| k.algorithm().number() == algorithm)
            };
            if !signs(&set.zone_signers) {
                return Err(PlanError::ZoneAlgorithm(algorithm));
            }
            if !signs(&set.dnskey_signers) {
                return Err(PlanError::ApexAlgorithm(algorithm));
            }
            let asks = !set.cds.is_empty() || !set.cdnskey.is_empty();
            if asks && !signs(&set.cds_signers) {
                return Err(PlanError::CdsAlgorithm(algorithm));
            }
        }
        let mut ids: Vec<(KeyId, &Dnskey)> = Vec::new();
        for key in set.signers() {
            match ids.iter().find(|(id, _)| *id == key.id()) {
                Some((id, dnskey)) if *dnskey != key.dnskey() => {
                    return Err(PlanError::TwoFaces(*id));
                }
                Some(_) => {}
                None => ids.push((key.id(), key.dnskey())),
            }
        }
        if ids.len() > MAX_KEYS {
            return Err(PlanError::TooManyKeys(ids.len()));
        }
        if let DenialPlan::Nsec3 {
            iterations, salt, ..
        } = &self.denial
        {
            if *iterations > MAX_ITERATIONS {
                return Err(PlanError::Iterations(*iterations));
            }
            if salt.len() > 255 {
                return Err(PlanError::Salt(salt.len()));
            }
            // One label of 32 octets goes in front.
            if apex.as_wire().len() + 33 > cascade_zone::name::MAX_NAME {
                return Err(PlanError::NameTooLong);
            }
        }
        Ok(())
    }
}

/// Builds DNSKEY, CDS and CDNSKEY and says who signs: KSKs and CSKs these three, ZSKs and CSKs the
/// rest. Records are in canonical order.
pub fn make_apex_set(
    zone: &Name,
    keys: &[ApexKey],
    options: &ApexOptions,
    now: Timestamp,
) -> Result<ApexSet, PlanError> {
    if options.cds.contains(&DigestType::Sha1) {
        return Err(PlanError::CdsSha1);
    }
    let (mut dnskey, mut cds, mut cdnskey) = (Vec::new(), Vec::new(), Vec::new());
    let (mut key_set_signers, mut zone_signers) = (Vec::new(), Vec::new());
    for (i, key) in keys.iter().enumerate() {
        if keys[..i].iter().any(|k| k.dnskey.is_same_key(&key.dnskey)) {
            return Err(PlanError::Twice(key.dnskey.key_tag()));
        }
        dnskey.push(key.dnskey.rdata().to_vec());
        if key.wanted_at_parent && key.role.signs_dnskey() {
            for &digest in &options.cds {
                let mut rdata = Vec::new();
                push_ds_rdata(zone, &key.dnskey, digest, &mut rdata);
                cds.push(rdata);
            }
            if options.cdnskey {
                cdnskey.push(key.dnskey.rdata().to_vec());
            }
        }
        let Some(signer) = &key.signer else { continue };
        if key.role.signs_dnskey() {
            key_set_signers.push(signer.clone());
        }
        if key.role.signs_zone() {
            zone_signers.push(signer.clone());
        }
    }
    if dnskey.is_empty() {
        return Err(PlanError::NoDnskey);
    }
    for set in [&mut dnskey, &mut cds, &mut cdnskey] {
        set.sort();
        set.dedup();
    }
    let now = now.to_wire();
    Ok(ApexSet {
        ttl: options.ttl,
        dnskey,
        cds,
        cdnskey,
        dnskey_signers: key_set_signers.clone(),
        cds_signers: key_set_signers,
        zone_signers,
        inception: now.wrapping_sub(options.inception_offset),
        expiration: now.wrapping_add(options.lifetime),
    })
}
