//! One key: who it is, what it may do, and the times at which things happened to it.
//!
//! Times are stored, states are derived ([`crate::ZoneKeys::key_state`]): there is nothing that
//! could get out of step. The names are those of RFC 7583 §3.1.

use std::fmt;

use cascade_time::Timestamp;
use cascade_zone::id::KeyId;
use serde::{Deserialize, Serialize};

use crate::stored::{is_default, maybe_time, octets};

/// A key as people see it: `k7`, counted per zone and never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyNum(pub u32);

impl fmt::Display for KeyNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k{}", self.0)
    }
}

/// What a key may be used for (RFC 9499 §10).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Signs DNSKEY, CDS and CDNSKEY.
    Ksk,
    /// Signs everything else.
    Zsk,
    /// Signs all.
    Csk,
    /// Public half only: published for another signer, never used here (RFC 8901).
    Foreign,
}

impl Role {
    /// The flags of its DNSKEY (RFC 4034 §2.1.1).
    pub fn flags(self) -> u16 {
        match self {
            Role::Ksk | Role::Csk => 257,
            Role::Zsk | Role::Foreign => 256,
        }
    }

    /// Has the function of a KSK.
    pub fn signs_keys(self) -> bool {
        matches!(self, Role::Ksk | Role::Csk)
    }

    /// Has the function of a ZSK.
    pub fn signs_data(self) -> bool {
        matches!(self, Role::Zsk | Role::Csk)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Ksk => "KSK",
            Role::Zsk => "ZSK",
            Role::Csk => "CSK",
            Role::Foreign => "foreign",
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    #[default]
    Generated,
    Imported,
    Foreign,
}

/// Where the private half lives.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Home {
    #[default]
    File,
    /// A registered HSM by its id.
    Hsm(String),
}

/// Times of things that happened. Computed times (T_rdy, T_dea) are never stored.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Times {
    /// T_gen: durable, read back and proved.
    #[serde(
        rename = "gen",
        alias = "generated_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub generated_at: Option<Timestamp>,
    /// T_pub: first published version with its DNSKEY; under double-DS: its DS first seen.
    #[serde(
        rename = "pub",
        alias = "published_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub published_at: Option<Timestamp>,
    /// A sweep showed its DNSKEY at every required server.
    #[serde(
        rename = "seen",
        alias = "seen_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub seen_at: Option<Timestamp>,
    /// T_sbm: it entered the wanted DS set.
    #[serde(
        rename = "sbm",
        alias = "ds_wanted_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub ds_wanted_at: Option<Timestamp>,
    /// T_act.
    #[serde(
        rename = "act",
        alias = "active_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub active_at: Option<Timestamp>,
    /// T_ret.
    #[serde(
        rename = "ret",
        alias = "retired_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub retired_at: Option<Timestamp>,
    /// A sweep showed that what its retirement removes is at no server any more.
    #[serde(
        rename = "gone",
        alias = "gone_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub gone_at: Option<Timestamp>,
    /// T_rem.
    #[serde(
        rename = "rem",
        alias = "removed_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub removed_at: Option<Timestamp>,
    /// T_rev (RFC 5011).
    #[serde(
        rename = "rev",
        alias = "revoked_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub revoked_at: Option<Timestamp>,
    #[serde(
        rename = "bin",
        alias = "trashed_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub trashed_at: Option<Timestamp>,
    #[serde(
        rename = "des",
        alias = "destroyed_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub destroyed_at: Option<Timestamp>,
}

/// A key of one zone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Key {
    #[serde(rename = "n", alias = "num")]
    pub num: KeyNum,
    #[serde(with = "key_id")]
    pub id: KeyId,
    #[serde(rename = "r", alias = "role")]
    pub role: Role,
    #[serde(rename = "a", alias = "algorithm")]
    pub algorithm: u8,
    /// With the algorithm its identity; flags and tag are not part of it.
    #[serde(rename = "k", alias = "public_key", with = "octets")]
    pub public_key: Vec<u8>,
    /// The DNSKEY of a foreign key has the flags of a KSK; roles of ours say it themselves.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sep: bool,
    #[serde(
        rename = "h",
        alias = "home",
        default,
        skip_serializing_if = "is_default"
    )]
    pub home: Home,
    #[serde(
        rename = "o",
        alias = "origin",
        default,
        skip_serializing_if = "is_default"
    )]
    pub origin: Origin,
    /// The private half is somebody else's and is never destroyed by us.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decoupled: bool,
    /// Reserved for the next roll of its role.
    #[serde(default, skip_serializing_if = "is_default")]
    pub standby: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub backed_up: bool,
    /// Never a standby and never restored again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub compromised: bool,
    /// Brought back because its DS was seen at the parent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restored: bool,
    /// Its last proof by trial signatures on every instance of its home.
    #[serde(
        rename = "p",
        alias = "proved_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub proved_at: Option<Timestamp>,
    #[serde(rename = "t", alias = "times")]
    pub times: Times,
}

impl Key {
    /// Flags of its DNSKEY.
    pub fn flags(&self) -> u16 {
        match self.role {
            Role::Foreign if self.sep => Role::Ksk.flags(),
            role => role.flags(),
        }
    }

    /// RDATA of its DNSKEY (RFC 4034 §2.1).
    pub fn dnskey_rdata(&self) -> Vec<u8> {
        self.rdata_with(self.flags())
    }

    pub fn tag(&self) -> u16 {
        key_tag(&self.dnskey_rdata())
    }

    /// The tag after revocation (RFC 5011 §2.1).
    pub fn revoked_tag(&self) -> u16 {
        key_tag(&self.rdata_with(self.flags() | 0x0080))
    }

    pub fn is_same_key(&self, algorithm: u8, public_key: &[u8]) -> bool {
        self.algorithm == algorithm && self.public_key == public_key
    }

    /// In use since `active_at` and not yet replaced.
    pub fn in_service(&self) -> bool {
        let t = &self.times;
        t.active_at.is_some()
            && t.retired_at.is_none()
            && t.removed_at.is_none()
            && t.destroyed_at.is_none()
    }

    /// A key of ours that is in the zone, or still signs it.
    pub fn is_published(&self) -> bool {
        let t = &self.times;
        self.role != Role::Foreign
            && (t.published_at.is_some() || t.active_at.is_some())
            && t.removed_at.is_none()
            && t.destroyed_at.is_none()
    }

    fn rdata_with(&self, flags: u16) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.public_key.len());
        out.extend_from_slice(&flags.to_be_bytes());
        out.push(3);
        out.push(self.algorithm);
        out.extend_from_slice(&self.public_key);
        out
    }
}

/// RFC 4034 Appendix B, for all algorithms but 1.
pub fn key_tag(rdata: &[u8]) -> u16 {
    let sum = rdata.iter().enumerate().fold(0u32, |sum, (i, &b)| {
        sum.wrapping_add(if i % 2 == 0 {
            u32::from(b) << 8
        } else {
            u32::from(b)
        })
    });
    (sum.wrapping_add(sum >> 16) & 0xffff) as u16
}

/// States of RFC 7583 §3.1, derived and never stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum KeyState {
    Generated,
    Published,
    Ready,
    Active,
    Retired,
    Dead,
    Removed,
    Revoked,
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

mod key_id {
    use super::KeyId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(id: &KeyId, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(id)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<KeyId, D::Error> {
        let text = String::deserialize(d)?;
        KeyId::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("'{text}' is not a key id")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_of_the_rfc_example() {
        // RFC 4034 §5.4: the DNSKEY of dskey.example.com. has tag 60485.
        let b64 = "AQOeiiR0GOMYkDshWoSKz9XzfwJr1AYtsmx3TGkJaNXVbfi/2pHm822aJ5iI9BMzNXxeYCmZDRD99WYwYqUSdjMmmAphXdvxegXd/M5+X7OrzKBaMbCVdFLUUh6DhweJBjEVv5f2wwjM9XzcnOf+EPbtG9DMBmADjFDc2w/rljwvFw==";
        let mut rdata = vec![1, 0, 3, 5];
        rdata.extend(unbase64(b64));
        assert_eq!(key_tag(&rdata), 60485);
    }

    fn unbase64(text: &str) -> Vec<u8> {
        let set = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut out = Vec::new();
        let (mut acc, mut bits) = (0u32, 0);
        for c in text.bytes().filter(|c| *c != b'=') {
            acc = acc << 6 | set.iter().position(|s| *s == c).expect("alphabet") as u32;
            bits += 6;
            if bits >= 8 {
                bits -= 8;
                out.push((acc >> bits) as u8);
            }
        }
        out
    }
}
