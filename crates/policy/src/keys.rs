//! `[key-manager]` of a policy: keys, their rolls, their records, the parent.

use std::time::Duration;

use crate::address::{Push, Target};
use crate::def::section;
use crate::effects::Effect;
use crate::hook::Hook;
use crate::keytypes::{DsDigests, Home, HsmId, KeyAlgorithm, TagRange};
use crate::value::{OffOr, Validity, choice};

choice! {
    /// How a KSK is rolled (RFC 7583 §2.2).
    pub enum KskRollType { DoubleSignature = "double-signature", DoubleDs = "double-ds" }
}
choice! {
    /// How a ZSK is rolled (RFC 7583 §2.1).
    pub enum ZskRollType { PrePublish = "pre-publish", DoubleSignature = "double-signature" }
}
choice! {
    /// What to do about zones that the parent does not delegate.
    pub enum Undelegated { Own = "own", Wait = "wait" }
}
choice! {
    /// When CDS records are published (RFC 7344, RFC 8078).
    pub enum CdsMode { WhenNeeded = "when-needed", Always = "always", Never = "never", Delete = "delete" }
}

/// Which steps of a roll happen by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoSteps {
    pub start: bool,
    pub report: bool,
    pub expire: bool,
    pub done: bool,
}

/// One kind of roll: `auto-*` keys of all, and what else it has.
macro_rules! roll {
    ($(#[doc = $sdoc:literal])* $Name:ident { $($more:tt)* }) => {
        section! {
            $(#[doc = $sdoc])*
            pub struct $Name {
                $($more)*
                /// Start a roll when it is due.
                key "auto-start" => auto_start: bool = "true" [why("a roll that nobody starts is a key that never changes")];
                /// Look for ourselves whether new data has spread, in the
                /// first and second step.
                key "auto-report" => auto_report: bool = "true" [why("steps are gated on what is seen, not on clocks")];
                /// Wait for caches by ourselves: the highest TTL served while
                /// the old data was live.
                key "auto-expire" => auto_expire: bool = "true" [why("the time follows from what was served")];
                /// Look for ourselves whether the last step has spread.
                key "auto-done" => auto_done: bool = "true" [why("steps are gated on what is seen, not on clocks")];
            }
        }

        impl $Name {
            pub fn auto(&self) -> AutoSteps {
                AutoSteps {
                    start: self.auto_start,
                    report: self.auto_report,
                    expire: self.auto_expire,
                    done: self.auto_done,
                }
            }
        }
    };
}

roll! {
    /// Key signing keys.
    KskPolicy {
        /// Age, counted from the key's becoming active, at which a roll is due.
        key "validity" => validity: Validity = r#""365d""# [min(3600), why("yearly practice keeps the path to the parent exercised")];
        /// "double-signature" or "double-ds" (RFC 7583 section 2.2).
        key "roll-type" => roll_type: KskRollType = r#""double-signature""# [why("one change of the DS set, short involvement of the parent")];
    }
}
roll! {
    /// Zone signing keys.
    ZskPolicy {
        /// Age, counted from the key's becoming active, at which a roll is due.
        key "validity" => validity: Validity = r#""30d""# [min(3600), why("common operational value; no official reference")];
        /// "pre-publish" or "double-signature" (RFC 7583 section 2.1).
        key "roll-type" => roll_type: ZskRollType = r#""pre-publish""# [why("smallest zone during the roll")];
    }
}
roll! {
    /// Combined signing keys, used instead of the two others with use-csk.
    CskPolicy {
        /// Age, counted from the key's becoming active, at which a roll is due.
        key "validity" => validity: Validity = r#""365d""# [min(3600), why("yearly practice keeps the path to the parent exercised")];
    }
}
roll! {
    /// Rolls to another algorithm, or between combined and separate keys.
    AlgorithmPolicy {}
}

section! {
    /// How the spread of data is observed.
    pub struct Observe {
        /// An address that never answered for this long is left out if at
        /// least half of the addresses agree; "off" waits for all.
        key "ignore-unreachable-after" => ignore_unreachable_after: OffOr = r#""24h""# [why("a dead secondary must not stop a roll for ever; the step then waits one SOA EXPIRE longer")];
        /// When the parent's servers deny a delegation: "own" looks at our
        /// publication server only, "wait" waits.
        key "undelegated" => undelegated: Undelegated = r#""own""# [why("test and internal zones must not get stuck")];
        /// Added to each observed step.
        key "margin" => margin: Duration = r#""1h""# [range(0, 2_592_000), why("the propagation delay Dprp of RFC 7583")];
    }
}

section! {
    /// Times of the signatures of one RRset of the apex.
    pub struct RecordTimes {
        /// How far the inception of signatures lies in the past.
        key "signature-inception-offset" => signature_inception_offset: Duration = r#""1d""# [effect(Effect::Refresh), why("clock errors of validators")];
        /// How long signatures are valid from now on.
        key "signature-lifetime" => signature_lifetime: Duration = r#""2w""# [effect(Effect::Refresh), why("limits replay and leaves time for repair")];
        /// Signatures are renewed when less than this is left.
        key "signature-remain-time" => signature_remain_time: Duration = r#""1w""# [effect(Effect::Refresh), why("a week to repair an HSM")];
    }
}

section! {
    /// The records that keys appear in.
    pub struct Records {
        /// TTL of the DNSKEY, CDS and CDNSKEY RRsets.
        key "ttl" => ttl: Duration = r#""1h""# [range(1, 604_800), effect(Effect::Refresh), why("short rolls, small load")];
        /// Times of the signatures of DNSKEY.
        sub "dnskey" => dnskey: RecordTimes;
        /// Times of the signatures of CDS and CDNSKEY.
        sub "cds" => cds: RecordTimes;
    }
}

section! {
    /// How the parent learns of the DS set.
    pub struct DsPolicy {
        /// When CDS records are published: "when-needed", "always", "never",
        /// or "delete" to become insecure (RFC 8078 section 4).
        key "cds" => cds: CdsMode = r#""when-needed""# [effect(Effect::Parent), why("withdrawn only when no roll needs them and the parent has followed")];
        /// Publish CDNSKEY beside CDS.
        key "cdnskey" => cdnskey: bool = "true" [effect(Effect::Parent), why("parents differ in which they read")];
        /// Where to look for the DS RRset; empty: all servers of the parent.
        key "parent-nameservers" => parent_nameservers: Vec<Target> = "[]" [why("they are found by themselves")];
        /// Run when the wanted DS set changes, and again until it exits with
        /// 0: CASCADE_ZONE, CASCADE_DS_ADD, CASCADE_DS_REMOVE,
        /// CASCADE_DS_SET.
        opt "hook" => hook: Hook [eg(r#""/usr/local/bin/update-registrar""#)];
        /// Update the parent's zone by DNS UPDATE (RFC 2136).
        opt "push" => push: Push [eg(r#"{ server = "192.0.2.1", tsig-key = "parent" }"#)];
        /// Send NOTIFY(CDS) to the parent's DSYNC target (RFC 9859).
        key "notify" => notify: bool = "false" [why("no traffic to strangers unasked")];
        /// Warn when the parent has not followed for this long.
        key "remind-after" => remind_after: Duration = r#""7d""# [min(60), why("a registrar's working week")];
    }
}

choice! {
    /// When keys in an HSM get the label that names zone and role.
    pub enum KeyLabel { Auto = "auto", AtCreation = "at-creation", After = "after" }
}

section! {
    /// New keys.
    pub struct Generation {
        /// The HSM in which new keys are made, by the id it was added with
        /// (cascade hsm add). It need not exist yet: zones wait for their keys
        /// until it does. Unset: keys are files of the daemon.
        opt "hsm-server-id" => hsm_server_id: HsmId [effect(Effect::Parent), confirm(), eg(r#""kmip2pkcs11""#)];
        /// Another home for KSKs and CSKs; "none" is a software key. Unset: as
        /// above.
        opt "ksk-hsm-server-id" => ksk_hsm_server_id: Home [effect(Effect::Parent), confirm(), eg(r#""vault""#)];
        /// Another home for ZSKs; "none" is a software key. Unset: as above.
        opt "zsk-hsm-server-id" => zsk_hsm_server_id: Home [effect(Effect::Roll), confirm(), eg(r#""none""#)];
        /// When a key in an HSM is named after zone and role: "after" its key tag
        /// is known and part of the label; "at-creation", which also works on
        /// tokens whose labels cannot be changed (there the label becomes the id
        /// of the key); or "auto": at creation where the server takes a label,
        /// and after it where the token lets labels change.
        key "key-label" => key_label: KeyLabel = r#""auto""# [why("no token refuses it, and ids stay random")];
        /// One combined key in place of KSK and ZSK.
        key "use-csk" => use_csk: bool = "false" [effect(Effect::Parent), confirm(), why("with separate keys the KSK can rest")];
        /// Algorithm of new keys.
        key "algorithm" => algorithm: KeyAlgorithm = r#""ECDSAP256SHA256""# [effect(Effect::Parent), confirm(), why("recommended, small, every HSM has it")];
        /// Spare KSKs kept ready.
        key "standby-ksk" => standby_ksk: u32 = "0" [range(0, 4), effect(Effect::Parent), why("each one enlarges the DNSKEY RRset")];
        /// Spare ZSKs kept ready.
        key "standby-zsk" => standby_zsk: u32 = "0" [range(0, 4), effect(Effect::Roll), why("each one enlarges the DNSKEY RRset")];
        /// New keys are not used before "cascade keyset <zone> backed-up
        /// <key>" was given.
        key "require-backup" => require_backup: bool = "false" [why("only who has a backup procedure needs it")];
        /// Key tags that may be used, for zones with several signers.
        key "tag-range" => tag_range: TagRange = r#""0-65535""# [why("one signer needs no division")];
    }
}

impl Generation {
    /// The HSM of new KSKs and CSKs, `None` for software keys.
    pub fn ksk_home(&self) -> Option<&str> {
        self.home(&self.ksk_hsm_server_id)
    }

    /// The HSM of new ZSKs, `None` for software keys.
    pub fn zsk_home(&self) -> Option<&str> {
        self.home(&self.zsk_hsm_server_id)
    }

    fn home<'a>(&'a self, own: &'a Option<Home>) -> Option<&'a str> {
        match own {
            Some(Home::Software) => None,
            Some(Home::Hsm(id)) => Some(id),
            None => self.hsm_server_id.as_ref().map(|id| id.0.as_str()),
        }
    }
}

section! {
    /// Keys: when they change, how long their signatures hold, what the parent
    /// is told.
    pub struct KeyManagerPolicy {
        /// Digests of the DS records made for the parent. A DS with a further
        /// digest found at the parent is accepted.
        key "ds-algorithm" => ds_algorithm: DsDigests = r#""SHA-256""# [effect(Effect::Parent), why("mandatory in the registry RFC 9904 points to")];
        /// Dead keys go to the trash and are destroyed later; a token that
        /// refuses is reported and asked again.
        key "auto-remove" => auto_remove: bool = "true" [effect(Effect::Destroy), why("old keys are a risk and fill tokens")];
        /// How long after its death a key is removed.
        key "auto-remove-delay" => auto_remove_delay: Duration = r#""7d""# [effect(Effect::Destroy), why("time to notice a mistake")];
        /// Where to look for RRSIG and DNSKEY; empty: every address of every
        /// name server of the zone.
        key "publication-nameservers" => publication_nameservers: Vec<Target> = "[]" [why("they are found by themselves")];
        sub "ksk" => ksk: KskPolicy;
        sub "zsk" => zsk: ZskPolicy;
        sub "csk" => csk: CskPolicy;
        sub "algorithm" => algorithm: AlgorithmPolicy;
        sub "observe" => observe: Observe;
        sub "records" => records: Records;
        sub "ds" => ds: DsPolicy;
        sub "generation" => generation: Generation;
    }
}
