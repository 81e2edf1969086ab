//! The policy file's words for keys, as the key manager takes them.

use std::time::Duration;

use cascade_crypto::DigestType;
use cascade_keys::{
    Auto, CdsPolicy, Home, KeyPolicy, KskRoll, RolePolicy, SignatureTimes, ZskRoll,
};
use cascade_policy as policy;
use cascade_policy::{CdsMode, DsDigest, Policy};

/// What the key manager does under this policy.
pub fn key_policy(p: &Policy, config: &policy::Config) -> KeyPolicy {
    let km = &p.key_manager;
    let role = |validity: policy::Validity, a: policy::AutoSteps| RolePolicy {
        validity: validity.span(),
        auto: auto(a),
    };
    let home = |hsm: Option<&str>| hsm.map_or(Home::File, |h| Home::Hsm(h.to_string()));
    let times = apex_times(p);
    KeyPolicy {
        ksk: role(km.ksk.validity, km.ksk.auto()),
        zsk: role(km.zsk.validity, km.zsk.auto()),
        csk: role(km.csk.validity, km.csk.auto()),
        algorithm_auto: auto(km.algorithm.auto()),
        ksk_roll: match km.ksk.roll_type {
            policy::KskRollType::DoubleSignature => KskRoll::DoubleSignature,
            policy::KskRollType::DoubleDs => KskRoll::DoubleDs,
        },
        zsk_roll: match km.zsk.roll_type {
            policy::ZskRollType::PrePublish => ZskRoll::PrePublish,
            policy::ZskRollType::DoubleSignature => ZskRoll::DoubleSignature,
        },
        algorithm: km.generation.algorithm.number(),
        use_csk: km.generation.use_csk,
        ksk_home: home(km.generation.ksk_home()),
        zsk_home: home(km.generation.zsk_home()),
        digests: digests(p).into_iter().map(DigestType::number).collect(),
        auto_remove: km.auto_remove,
        auto_remove_delay: km.auto_remove_delay,
        trash_retention: config.key_manager.trash_retention,
        ignore_unreachable_after: km.observe.ignore_unreachable_after.span(),
        undelegated_own: km.observe.undelegated == policy::Undelegated::Own,
        margin: km.observe.margin,
        ttl: secs(km.records.ttl),
        apex_signatures: SignatureTimes {
            inception_offset: times.inception_offset,
            lifetime: times.lifetime,
            remain: times.remain,
        },
        cds: match km.ds.cds {
            CdsMode::WhenNeeded => CdsPolicy::WhenNeeded,
            CdsMode::Always => CdsPolicy::Always,
            CdsMode::Never => CdsPolicy::Never,
            CdsMode::Delete => CdsPolicy::Delete,
        },
        cdnskey: km.ds.cdnskey,
        tell_parent: km.ds.hook.is_some() || km.ds.push.is_some(),
        notify_parent: km.ds.notify,
        remind_after: km.ds.remind_after,
        standby_ksk: km.generation.standby_ksk,
        standby_zsk: km.generation.standby_zsk,
        require_backup: km.generation.require_backup,
        passthrough: p.signer.mode == policy::SignerMode::Passthrough,
        unsigned: p.signer.mode == policy::SignerMode::Unsigned,
    }
}

/// Times of the signatures over DNSKEY, CDS and CDNSKEY, which are made together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApexTimes {
    pub inception_offset: Duration,
    pub lifetime: Duration,
    pub remain: Duration,
}

pub fn apex_times(p: &Policy) -> ApexTimes {
    let (dnskey, cds) = (&p.key_manager.records.dnskey, &p.key_manager.records.cds);
    ApexTimes {
        inception_offset: dnskey
            .signature_inception_offset
            .max(cds.signature_inception_offset),
        lifetime: dnskey.signature_lifetime.min(cds.signature_lifetime),
        remain: dnskey.signature_remain_time.max(cds.signature_remain_time),
    }
}

/// Digest types of DS and CDS.
pub fn digests(p: &Policy) -> Vec<DigestType> {
    let one = |d: &DsDigest| match d {
        DsDigest::Sha256 => DigestType::Sha256,
        DsDigest::Sha384 => DigestType::Sha384,
    };
    p.key_manager.ds_algorithm.0.iter().map(one).collect()
}

fn auto(a: policy::AutoSteps) -> Auto {
    Auto {
        start: a.start,
        report: a.report,
        expire: a.expire,
        done: a.done,
    }
}

fn secs(d: Duration) -> u32 {
    u32::try_from(d.as_secs()).unwrap_or(u32::MAX)
}
