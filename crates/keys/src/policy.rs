//! What the operator wants of the keys of a zone. The daemon fills it from the policy file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::key::{Home, Role};
use crate::roll::Class;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Which steps are taken without being told to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Auto {
    pub start: bool,
    pub report: bool,
    pub expire: bool,
    pub done: bool,
}

impl Auto {
    pub const ON: Auto = Auto {
        start: true,
        report: true,
        expire: true,
        done: true,
    };
    pub const OFF: Auto = Auto {
        start: false,
        report: false,
        expire: false,
        done: false,
    };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RolePolicy {
    /// Age counted from Active at which a roll is due; `None` = never.
    pub validity: Option<Duration>,
    pub auto: Auto,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum KskRoll {
    DoubleSignature,
    DoubleDs,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ZskRoll {
    PrePublish,
    DoubleSignature,
}

/// When CDS and CDNSKEY are in the zone (RFC 7344, RFC 8078).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CdsPolicy {
    WhenNeeded,
    Always,
    Never,
    /// RFC 8078 §4: ask the parent to remove the DS.
    Delete,
}

/// Times of the signatures over one group of apex RRsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignatureTimes {
    pub inception_offset: Duration,
    pub lifetime: Duration,
    pub remain: Duration,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyPolicy {
    pub ksk: RolePolicy,
    pub zsk: RolePolicy,
    pub csk: RolePolicy,
    pub algorithm_auto: Auto,
    pub ksk_roll: KskRoll,
    pub zsk_roll: ZskRoll,
    pub algorithm: u8,
    pub use_csk: bool,
    /// Home of new KSKs and CSKs.
    pub ksk_home: Home,
    pub zsk_home: Home,
    /// Digest types of wanted DS records.
    pub digests: Vec<u8>,
    pub auto_remove: bool,
    pub auto_remove_delay: Duration,
    pub trash_retention: Duration,
    /// `None` = wait for every address for ever.
    pub ignore_unreachable_after: Option<Duration>,
    /// Our own output is the only place looked at while no chain leads here.
    pub undelegated_own: bool,
    /// Added to each observed step: D_prp of RFC 7583 §3.1 as far as it cannot be observed.
    pub margin: Duration,
    /// TTL of DNSKEY, CDS and CDNSKEY.
    pub ttl: u32,
    pub apex_signatures: SignatureTimes,
    pub cds: CdsPolicy,
    pub cdnskey: bool,
    /// A hook or an update tells the parent; without, people do.
    pub tell_parent: bool,
    /// The parent's endpoint for changed CDS is told (RFC 9859).
    pub notify_parent: bool,
    pub remind_after: Duration,
    pub standby_ksk: u32,
    pub standby_zsk: u32,
    pub require_backup: bool,
    /// The zone comes signed and is passed on: it has no keys here.
    pub passthrough: bool,
    /// The zone shall be served without DNSSEC; reached only by way of going insecure.
    pub unsigned: bool,
}

impl Default for KeyPolicy {
    fn default() -> Self {
        let yearly = RolePolicy {
            validity: Some(DAY * 365),
            auto: Auto::ON,
        };
        KeyPolicy {
            ksk: yearly,
            zsk: RolePolicy {
                validity: Some(DAY * 30),
                auto: Auto::ON,
            },
            csk: yearly,
            algorithm_auto: Auto::ON,
            ksk_roll: KskRoll::DoubleSignature,
            zsk_roll: ZskRoll::PrePublish,
            algorithm: 13,
            use_csk: false,
            ksk_home: Home::File,
            zsk_home: Home::File,
            digests: vec![2],
            auto_remove: true,
            auto_remove_delay: DAY * 7,
            trash_retention: DAY * 30,
            ignore_unreachable_after: Some(DAY),
            undelegated_own: true,
            margin: HOUR,
            ttl: 3600,
            apex_signatures: SignatureTimes {
                inception_offset: DAY,
                lifetime: DAY * 14,
                remain: DAY * 7,
            },
            cds: CdsPolicy::WhenNeeded,
            cdnskey: true,
            tell_parent: false,
            notify_parent: false,
            remind_after: DAY * 7,
            standby_ksk: 0,
            standby_zsk: 0,
            require_backup: false,
            passthrough: false,
            unsigned: false,
        }
    }
}

impl KeyPolicy {
    pub fn auto(&self, class: Class) -> Auto {
        match class {
            // Both have no flags: the first follows from adding the zone, the second from the
            // confirmed policy change.
            Class::FirstKeys | Class::Insecure => Auto::ON,
            Class::Algorithm => self.algorithm_auto,
            Class::Csk => self.csk.auto,
            Class::Ksk => self.ksk.auto,
            Class::Zsk => self.zsk.auto,
        }
    }

    pub fn validity(&self, role: Role) -> Option<Duration> {
        match role {
            Role::Ksk => self.ksk.validity,
            Role::Zsk => self.zsk.validity,
            Role::Csk => self.csk.validity,
            Role::Foreign => None,
        }
    }

    pub fn home(&self, role: Role) -> &Home {
        match role {
            Role::Zsk => &self.zsk_home,
            _ => &self.ksk_home,
        }
    }

    /// The roles a zone has under this policy.
    pub fn layout(&self) -> &'static [Role] {
        if self.use_csk {
            &[Role::Csk]
        } else {
            &[Role::Ksk, Role::Zsk]
        }
    }
}
