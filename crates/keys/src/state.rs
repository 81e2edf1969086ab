//! All that is known of the keys of one zone, and what follows from it without a clock.

use std::time::Duration;

use cascade_time::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::apex::ApexSet;
use crate::ds::{DsRecord, absent, present};
use crate::hex;
use crate::key::{Key, KeyNum, KeyState, Origin, Role};
use crate::mutants::{Mutant, is};
use crate::observe::{Delegation, Scope, SweepReport, What};
use crate::policy::{CdsPolicy, KeyPolicy};
use crate::roll::{Class, Dying, Roll, Seen, Strategy};
use crate::stored::{is_default, looks, maybe_time, time};
use crate::ttl::{Free, Served, TtlLog};

/// What the live version has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Published {
    #[serde(rename = "v", alias = "version")]
    pub version: u64,
    #[serde(rename = "n", alias = "serial")]
    pub serial: u32,
    pub apex: ApexSet,
    /// First version with this apex set.
    #[serde(rename = "aa", alias = "apex_at", with = "time")]
    pub apex_at: Timestamp,
    #[serde(rename = "ae", alias = "apex_expires", with = "time")]
    pub apex_expires: Timestamp,
    #[serde(default, skip_serializing_if = "is_default")]
    pub any: Vec<KeyNum>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub all: Vec<KeyNum>,
    #[serde(rename = "dt", alias = "data_ttl")]
    pub data_ttl: u32,
    /// First version and serial with these signers, this TTL, and this CDS.
    #[serde(rename = "da", alias = "data_at", with = "time")]
    pub data_at: Timestamp,
    #[serde(rename = "dn", alias = "data_serial")]
    pub data_serial: u32,
    #[serde(rename = "x", alias = "soa_expire")]
    pub soa_expire: u32,
}

/// How telling the parent's endpoint ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notified {
    #[serde(with = "time")]
    pub at: Timestamp,
    /// Who heard it, or why nobody did.
    pub text: String,
}

/// The parent as last seen and as wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Parent {
    #[serde(
        rename = "d",
        alias = "delegation",
        default,
        skip_serializing_if = "is_default"
    )]
    pub delegation: Delegation,
    /// A DS has matched a key of ours since then.
    #[serde(
        rename = "l",
        alias = "linked_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub linked_at: Option<Timestamp>,
    /// Keys whose DS the parent should have.
    #[serde(
        rename = "w",
        alias = "wanted",
        default,
        skip_serializing_if = "is_default"
    )]
    pub wanted: Vec<KeyNum>,
    #[serde(
        rename = "wa",
        alias = "wanted_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub wanted_at: Option<Timestamp>,
    /// The hook or update for `wanted` has succeeded.
    #[serde(
        rename = "ta",
        alias = "told_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub told_at: Option<Timestamp>,
    /// What became of the NOTIFY(CDS) for `wanted`; it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notified: Option<Notified>,
    #[serde(
        rename = "ra",
        alias = "reminded_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub reminded_at: Option<Timestamp>,
    /// A sweep showed exactly `wanted`, as far as our keys go.
    #[serde(
        rename = "fa",
        alias = "followed_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub followed_at: Option<Timestamp>,
    /// Keys of ours with a DS at some server in the last sweep.
    #[serde(
        rename = "s",
        alias = "shown",
        default,
        skip_serializing_if = "is_default"
    )]
    pub shown: Vec<KeyNum>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub foreign: bool,
    /// Linked before, and now no DS anywhere: the zone is insecure.
    #[serde(default, skip_serializing_if = "is_default")]
    pub vanished: bool,
}

/// Keys, rolls and evidence of one zone. Changed by [`ZoneKeys::apply`] only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ZoneKeys {
    #[serde(deserialize_with = "taken_over")]
    pub schema: u16,
    /// The zone's name in canonical wire form (RFC 4034 §6.2), for DS digests.
    #[serde(with = "hex")]
    pub owner: Vec<u8>,
    pub keys: Vec<Key>,
    #[serde(rename = "next", alias = "next_num")]
    pub next_num: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub rolls: Vec<Roll>,
    pub log: TtlLog,
    #[serde(
        rename = "pub",
        alias = "published",
        default,
        skip_serializing_if = "is_default"
    )]
    pub published: Option<Published>,
    pub parent: Parent,
    /// The last sweep of each kind.
    #[serde(default, skip_serializing_if = "is_default", with = "looks")]
    pub looks: Vec<SweepReport>,
    /// First keys are in all caches: a DS may be wanted from then on.
    #[serde(
        rename = "settled",
        alias = "settled_at",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub settled_at: Option<Timestamp>,
    /// Signed without DS, on purpose.
    #[serde(default, skip_serializing_if = "is_default")]
    pub island: bool,
    /// Served without DNSSEC, or on the way from an island to there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unsigned: bool,
}

/// Rows of former releases are of this one once they are read.
fn taken_over<'de, D: Deserializer<'de>>(d: D) -> Result<u16, D::Error> {
    match u16::deserialize(d)? {
        1..=ZoneKeys::SCHEMA => Ok(ZoneKeys::SCHEMA),
        newer => Err(D::Error::custom(format!(
            "the keys were written in form {newer}; this release knows forms up to {}",
            ZoneKeys::SCHEMA
        ))),
    }
}

/// One cache wait of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheWait {
    pub dying: Dying,
    pub free: Free,
}

impl ZoneKeys {
    /// 1: long names, times as text, octets in hexadecimal.
    pub const SCHEMA: u16 = 2;

    /// A zone without keys; `owner` is its name in canonical wire form.
    pub fn new(owner: &[u8]) -> ZoneKeys {
        let mut parent = Parent::default();
        if owner == [0] {
            parent.delegation = Delegation::Root;
        }
        ZoneKeys {
            schema: Self::SCHEMA,
            owner: owner.to_vec(),
            keys: Vec::new(),
            next_num: 1,
            rolls: Vec::new(),
            log: TtlLog::default(),
            published: None,
            parent,
            looks: Vec::new(),
            settled_at: None,
            island: false,
            unsigned: false,
        }
    }

    pub fn key(&self, num: KeyNum) -> Option<&Key> {
        self.keys.iter().find(|k| k.num == num)
    }

    pub fn roll(&self, class: Class) -> Option<&Roll> {
        self.rolls.iter().find(|r| r.class() == class)
    }

    /// The last sweep of `what`.
    pub fn look(&self, what: What) -> Option<&SweepReport> {
        self.looks.iter().find(|l| l.what == what)
    }

    /// Number for the next key that is added.
    pub fn next_key(&self) -> KeyNum {
        KeyNum(self.next_num)
    }

    /// Tags that a new key and its revoked form must not have: those of all keys not destroyed,
    /// of both forms. Tags seen elsewhere (DS, DNSKEYs of others) are added by the caller.
    pub fn taken_tags(&self) -> Vec<u16> {
        let mut tags: Vec<u16> = self
            .keys
            .iter()
            .filter(|k| k.times.destroyed_at.is_none())
            .flat_map(|k| [k.tag(), k.revoked_tag()])
            .collect();
        tags.sort_unstable();
        tags.dedup();
        tags
    }

    /// Algorithms of the DNSKEY RRsets that caches may hold, ascending: whatever a validator asks
    /// for needs a signature of each (RFC 4035 §2.2).
    pub fn cached_algorithms(&self, now: Timestamp) -> Vec<u8> {
        let sets = self.log.alive(now).filter_map(|e| match &e.what {
            Served::Dnskey(keys) => Some(keys),
            _ => None,
        });
        let keys = sets.flatten().filter_map(|n| self.key(*n));
        let mut all: Vec<u8> = keys.map(|k| k.algorithm).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    pub fn in_service(&self, role: Role) -> impl Iterator<Item = &Key> {
        self.keys
            .iter()
            .filter(move |k| k.role == role && k.in_service())
    }

    /// When the CDS content changes by time alone.
    pub fn cds_withdrawn_at(&self, policy: &KeyPolicy) -> Option<Timestamp> {
        (policy.cds == CdsPolicy::WhenNeeded)
            .then_some(self.parent.followed_at)
            .flatten()
            .map(|f| f.saturating_add(policy.margin))
    }

    /// Since when other keys are to sign the zone's data than those that do. `None`: nothing of the
    /// kind is under way, or it is not to take its time.
    pub fn signers_change_since(&self) -> Option<Timestamp> {
        if self.rolls.iter().any(|r| r.strategy != Strategy::Normal) {
            return None;
        }
        let of_data = |s: &Seen| matches!(s, Seen::RrsigNew | Seen::RrsigOldGone);
        let changes = |r: &&Roll| r.row().is_some_and(|row| row.seen.iter().any(of_data));
        self.rolls.iter().filter(changes).map(|r| r.since).min()
    }

    /// This state, but for the times of looks that showed the same as those before.
    pub fn is_same_but_for_look_times(&self, other: &ZoneKeys) -> bool {
        let timeless = |zone: &ZoneKeys| {
            let mut looks = zone.looks.clone();
            for look in &mut looks {
                (look.started, look.ended) = (Timestamp::EPOCH, Timestamp::EPOCH);
                for m in &mut look.members {
                    m.first_asked = Timestamp::EPOCH;
                    m.last_answer = m.last_answer.map(|_| Timestamp::EPOCH);
                    m.flipped_at = m.flipped_at.map(|_| Timestamp::EPOCH);
                }
            }
            ZoneKeys {
                looks,
                ..zone.clone()
            }
        };
        timeless(self) == timeless(other)
    }

    /// DS records the parent should have.
    pub fn wanted_ds(&self, policy: &KeyPolicy) -> Vec<DsRecord> {
        self.parent
            .wanted
            .iter()
            .filter_map(|n| self.key(*n))
            .flat_map(|k| {
                policy
                    .digests
                    .iter()
                    .filter_map(|d| DsRecord::of(&self.owner, k, *d))
            })
            .collect()
    }

    /// Whether a DS RRset is what we want as far as our own keys go.
    pub fn follows(&self, set: &[DsRecord]) -> bool {
        self.keys
            .iter()
            .filter(|k| k.role.signs_keys() && k.times.destroyed_at.is_none())
            .all(|k| {
                if self.parent.wanted.contains(&k.num) {
                    present(&self.owner, k, set)
                } else {
                    absent(&self.owner, k, set)
                }
            })
    }

    /// The margin a roll waits after observed steps: the larger of the policy's now and when the stage
    /// began.
    pub fn margin(&self, policy: &KeyPolicy, roll: &Roll) -> Duration {
        match roll.strategy {
            _ if is(Mutant::NoMargin) => Duration::ZERO,
            Strategy::Normal => policy.margin.max(roll.margin),
            Strategy::Safe | Strategy::Fast => policy.margin.min(Duration::from_secs(300)),
        }
    }

    /// The cache waits of the roll's present row.
    pub fn cache_waits(&self, policy: &KeyPolicy, roll: &Roll) -> Vec<CacheWait> {
        let Some(row) = roll.row() else {
            return Vec::new();
        };
        let (kind, stage) = (roll.kind, roll.stage);
        if roll.strategy == Strategy::Fast || is(Mutant::SkipWait { kind, stage }) {
            return Vec::new();
        }
        row.expired
            .iter()
            .map(|d| CacheWait {
                dying: *d,
                free: match self.free(*d, roll, self.margin(policy, roll)) {
                    Free::At { at, ttl }
                        if is(Mutant::ShortWait {
                            kind,
                            stage,
                            dying: *d,
                        }) =>
                    {
                        let at = at.saturating_sub(Duration::from_secs(u64::from(ttl)));
                        Free::At { at, ttl }
                    }
                    free => free,
                },
            })
            .collect()
    }

    /// The highest TTL of what the roll's step waits for that may still be in a cache.
    pub fn step_ttl(&self, roll: &Roll, now: Timestamp) -> Option<u32> {
        let next = roll.kind.after(roll.stage).and_then(|s| roll.kind.row(s));
        let rows = [roll.row(), next];
        rows.into_iter()
            .flatten()
            .flat_map(|r| r.expired)
            .filter_map(|d| self.log.highest_alive(|s| self.dies(*d, roll, s), now))
            .max()
    }

    /// The state of RFC 7583 §3.1, with T_rdy and T_dea computed.
    pub fn key_state(&self, key: &Key, policy: &KeyPolicy, now: Timestamp) -> KeyState {
        let t = &key.times;
        let is = |at: Option<Timestamp>| at.is_some_and(|a| a <= now);
        let n = key.num;
        let dead = || {
            let ds = |s: &Served| matches!(s, Served::Ds { ours, .. } if ours.contains(&n));
            let data = |s: &Served| matches!(s, Served::Data { any, .. } if any.contains(&n));
            (!key.role.signs_keys() || self.log.free(ds, policy.margin).holds(now))
                && (!key.role.signs_data() || self.log.free(data, policy.margin).holds(now))
        };
        let without = |s: &Served| matches!(s, Served::Dnskey(k) if !k.contains(&n));
        if is(t.removed_at) {
            KeyState::Removed
        } else if is(t.revoked_at) {
            KeyState::Revoked
        } else if is(t.gone_at) && dead() {
            KeyState::Dead
        } else if is(t.retired_at) {
            KeyState::Retired
        } else if is(t.active_at) {
            KeyState::Active
        } else if is(t.seen_at) && self.log.free(without, policy.margin).holds(now) {
            KeyState::Ready
        } else if is(t.published_at) {
            KeyState::Published
        } else {
            KeyState::Generated
        }
    }

    /// T_act plus validity: when a roll becomes due. Imported and foreign keys do not expire.
    pub fn expires_at(&self, key: &Key, policy: &KeyPolicy) -> Option<Timestamp> {
        if key.origin != Origin::Generated {
            return None;
        }
        Some(
            key.times
                .active_at?
                .saturating_add(policy.validity(key.role)?),
        )
    }

    /// Which zone servers count.
    pub fn scope(&self, policy: &KeyPolicy) -> Scope {
        match self.parent.delegation {
            Delegation::None | Delegation::Elsewhere if policy.undelegated_own => Scope::Own,
            _ => Scope::Servers,
        }
    }

    /// Whether the published version is signed as `seen` needs it; servers may be asked then.
    pub fn is_signed_for(&self, roll: &Roll, seen: Seen) -> bool {
        let Some(p) = &self.published else {
            return false;
        };
        let signs = |n: &&KeyNum| self.key(**n).is_some_and(|k| k.role.signs_data());
        match seen {
            Seen::RrsigNew => roll.new.iter().filter(signs).all(|n| p.all.contains(n)),
            Seen::RrsigOldGone => !roll.old.iter().filter(signs).any(|n| p.any.contains(n)),
            Seen::Unsigned => p.any.is_empty(),
            _ => true,
        }
    }

    /// Until when a DS of these keys that was asked for may still be on its way to a parent that
    /// shows none: tickets at registries take days.
    pub fn ds_on_its_way(&self, nums: &[KeyNum], policy: &KeyPolicy) -> Option<Timestamp> {
        nums.iter()
            .filter_map(|n| self.key(*n)?.times.ds_wanted_at)
            .max()
            .map(|at| at.saturating_add(policy.remind_after))
    }

    /// Every server of the zone was seen to show the version with the CDS that is published.
    pub fn is_cds_everywhere(&self) -> bool {
        let Some(p) = &self.published else {
            return false;
        };
        self.look(What::Rrsig)
            .is_some_and(|l| l.passed.is_some() && l.started >= p.data_at)
    }

    /// Begin of the present wait for `what`.
    pub fn look_since(&self, what: What) -> Timestamp {
        let waits = self
            .rolls
            .iter()
            .filter(|r| {
                r.row()
                    .is_some_and(|row| row.seen.iter().any(|s| What::of(*s) == what))
            })
            .map(|r| r.since);
        let own = match (what, &self.published) {
            (What::Dnskey, Some(p)) => Some(p.apex_at),
            (What::Rrsig, Some(p)) => Some(p.data_at),
            _ => self.parent.wanted_at,
        };
        waits.chain(own).max().unwrap_or(Timestamp::EPOCH)
    }

    pub(crate) fn free(&self, dying: Dying, roll: &Roll, margin: Duration) -> Free {
        if dying == Dying::UnsignedData
            && matches!(
                self.parent.delegation,
                Delegation::None | Delegation::Elsewhere
            )
        {
            // Nobody is led here, so nobody can hold the unsigned data that we replaced.
            return Free::Always;
        }
        self.log.free(|s| self.dies(dying, roll, s), margin)
    }

    pub(crate) fn dies(&self, dying: Dying, roll: &Roll, served: &Served) -> bool {
        let ksk = |n: &&KeyNum| self.key(**n).is_some_and(|k| k.role.signs_keys());
        let zsk = |n: &&KeyNum| self.key(**n).is_some_and(|k| k.role.signs_data());
        match (dying, served) {
            (Dying::DnskeyWithoutNew, Served::Dnskey(k)) => roll.new.iter().any(|n| !k.contains(n)),
            (Dying::DnskeyWithOld, Served::Dnskey(k)) => roll.old.iter().any(|n| k.contains(n)),
            (Dying::DataWithoutNew, Served::Data { all, .. }) => {
                roll.new.iter().filter(zsk).any(|n| !all.contains(n))
            }
            (Dying::DataWithoutNew | Dying::UnsignedData, Served::Unsigned) => true,
            (Dying::DataWithOld, Served::Data { any, .. }) => {
                roll.old.iter().filter(zsk).any(|n| any.contains(n))
            }
            (Dying::DsWithoutNew, Served::Ds { usable, .. }) => {
                roll.new.iter().filter(ksk).any(|n| !usable.contains(n))
            }
            (Dying::DsWithOld, Served::Ds { ours, .. }) => {
                roll.old.iter().filter(ksk).any(|n| ours.contains(n))
            }
            (Dying::AnyDs, Served::Ds { ours, foreign, .. }) => *foreign || !ours.is_empty(),
            (Dying::CdsWithoutNew, Served::Cds(by)) => {
                !by.is_empty() && roll.new.iter().filter(ksk).any(|n| !by.contains(n))
            }
            _ => false,
        }
    }
}
