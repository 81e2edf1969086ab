//! Goals of all keys, and the one apex set that they give together.

use cascade_time::Timestamp;

use crate::apex::{ApexSet, Cds};
use crate::key::{Key, KeyNum, Origin, Role};
use crate::mutants::{Mutant, is};
use crate::observe::{Delegation, What};
use crate::policy::{CdsPolicy, KeyPolicy};
use crate::roll::{Goal, RollType, Stage};
use crate::state::ZoneKeys;

impl ZoneKeys {
    /// What `key` has to do now. All goals together are the apex set.
    pub fn goal(&self, key: &Key) -> Goal {
        let mut g = self.raw_goal(key).masked(key.role);
        if is(Mutant::DsWantedAtOnce) && key.role.signs_keys() {
            g.ds = true;
        } else if self.settled_at.is_none() || self.island {
            g.ds = false;
        }
        g
    }

    /// The content of the apex; `None` while there is nothing to publish.
    pub fn apex_set(&self, policy: &KeyPolicy, now: Timestamp) -> Option<ApexSet> {
        let mut set = ApexSet {
            ttl: policy.ttl,
            dnskey: Vec::new(),
            dnskey_signers: Vec::new(),
            cds_signers: Vec::new(),
            zone_signers: Vec::new(),
            cds: Cds::None,
            cdnskey: false,
            digests: Vec::new(),
            unsigned: self.unsigned,
        };
        if self.unsigned {
            // Content that is published already does not change with the policy's TTL.
            set.ttl = 0;
            return Some(set);
        }
        for k in &self.keys {
            let g = self.goal(k);
            let push = |on: bool, list: &mut Vec<KeyNum>| {
                if on {
                    list.push(k.num);
                }
            };
            push(g.dnskey, &mut set.dnskey);
            push(g.sign_dnskey, &mut set.dnskey_signers);
            push(g.sign_zone, &mut set.zone_signers);
            // In an algorithm roll CDS and CDNSKEY are data like all other: both sides sign them
            // before the new key is in DNSKEY and after the old one has left it. So do both sides
            // of double-DS while their DS stand beside each other: whichever DNSKEY RRset a cache
            // holds, the CDS validates.
            let early = self.rolls.iter().any(|r| {
                let g = self.raw_goal(k);
                (r.new.contains(&k.num) || r.old.contains(&k.num))
                    && match r.kind {
                        RollType::Algorithm => g.sign_zone,
                        RollType::KskDoubleDs => g.ds && !is(Mutant::CdsByDnskeyOnly),
                        _ => false,
                    }
            });
            let early = early || (k.restored && self.raw_goal(k).sign_zone);
            push(
                g.sign_dnskey || (early && k.role.signs_keys()),
                &mut set.cds_signers,
            );
        }
        if set.dnskey_signers.is_empty() || set.zone_signers.is_empty() {
            return None;
        }
        for list in [
            &mut set.dnskey,
            &mut set.dnskey_signers,
            &mut set.cds_signers,
            &mut set.zone_signers,
        ] {
            list.sort_unstable();
        }
        set.cds = self.cds(policy, now);
        if set.cds == Cds::None {
            set.cds_signers.clear();
        } else {
            set.cdnskey = policy.cdnskey;
            set.digests = policy.digests.clone();
        }
        Some(set)
    }

    fn raw_goal(&self, key: &Key) -> Goal {
        let mut g = self.true_goal(key);
        let mut rolls = self.rolls.iter().filter(|r| r.stage != Stage::Keys);
        let early = |r: &crate::roll::Roll| matches!(r.stage, Stage::P1 | Stage::C1);
        if is(Mutant::OldKskLeavesInP2)
            && rolls.any(|r| r.stage == Stage::P2 && g.sign_dnskey && r.old.contains(&key.num))
        {
            g.dnskey = false;
            g.sign_dnskey = false;
        } else if is(Mutant::OneSignerInP1) && rolls.any(|r| early(r) && r.new.contains(&key.num)) {
            g.sign_dnskey = false;
        } else if is(Mutant::LiberalAlgorithm)
            && rolls.any(|r| r.kind == RollType::Algorithm && early(r) && r.new.contains(&key.num))
        {
            g.dnskey = true;
            g.sign_dnskey = true;
        }
        g
    }

    fn true_goal(&self, key: &Key) -> Goal {
        let t = &key.times;
        if self.unsigned || t.destroyed_at.is_some() || t.trashed_at.is_some() {
            return Goal::NONE;
        }
        let all = Goal {
            dnskey: true,
            sign_dnskey: true,
            sign_zone: true,
            ds: true,
        };
        let published_only = Goal {
            dnskey: true,
            ..Goal::NONE
        };
        let at_hand = Goal {
            sign_dnskey: !is(Mutant::StandbyKskSilent),
            ..published_only
        };
        if let Some(roll) = self.rolls.iter().find(|r| r.new.contains(&key.num)) {
            let g = roll.goal(true);
            // A standby key keeps its place until the roll gives it one of its own.
            return if roll.stage == Stage::Keys && key.times.published_at.is_some() {
                if key.in_service() { all } else { at_hand }
            } else {
                g
            };
        }
        if let Some(roll) = self.rolls.iter().find(|r| r.old.contains(&key.num)) {
            let mut g = roll.goal(false);
            if key.restored {
                let r = self.restored_goal(key);
                g.dnskey |= r.dnskey;
                g.sign_dnskey |= r.sign_dnskey;
                g.sign_zone |= r.sign_zone;
            }
            return g;
        }
        if key.restored {
            return self.restored_goal(key);
        }
        if t.retired_at.is_some() {
            return Goal::NONE;
        }
        if key.role == Role::Foreign {
            return published_only;
        }
        if key.in_service() {
            return all;
        }
        if key.standby {
            // A standby KSK signs as well: cached sets would lack its RRSIG otherwise.
            return at_hand;
        }
        if key.origin == Origin::Imported && self.settled_at.is_some() {
            return at_hand;
        }
        Goal::NONE
    }

    /// A KSK is back for its DS; what signs data is back where the algorithm has no other key that
    /// does (RFC 4035 §2.2). It leaves the DNSKEY RRset with the KSK, and signs a while longer.
    fn restored_goal(&self, key: &Key) -> Goal {
        let same = |k: &&Key| k.algorithm == key.algorithm && k.num != key.num;
        let leads = |k: &Key| k.role.signs_keys() && k.restored && k.times.removed_at.is_none();
        Goal {
            dnskey: leads(key)
                || !key.role.signs_keys() && self.keys.iter().filter(same).any(leads),
            sign_dnskey: leads(key),
            // Of a KSK these are CDS and CDNSKEY, which are data to a validator.
            sign_zone: key.role == Role::Zsk || !self.is_signed_by_service(key.algorithm),
            ds: false,
        }
    }

    /// A key in service signs data with the algorithm.
    pub(crate) fn is_signed_by_service(&self, algorithm: u8) -> bool {
        let signs = |k: &Key| k.algorithm == algorithm && k.role.signs_data() && k.in_service();
        self.keys.iter().any(signs)
    }

    fn cds(&self, policy: &KeyPolicy, now: Timestamp) -> Cds {
        if self.rolls.iter().any(|r| r.kind == RollType::GoInsecure) {
            return Cds::Delete;
        }
        if self.settled_at.is_none() || self.island || self.parent.wanted.is_empty() {
            return Cds::None;
        }
        let wanted = || Cds::Keys(self.parent.wanted.clone());
        // Withdrawn only when no roll waits for the parent and the parent has followed.
        let waits = self.rolls.iter().any(|r| {
            r.row()
                .is_some_and(|w| w.seen.iter().any(|s| What::of(*s) == What::Ds))
        });
        match policy.cds {
            CdsPolicy::Always => wanted(),
            // The way to insecure begins when the running roll has ended, and that needs the parent.
            CdsPolicy::Delete if waits => wanted(),
            CdsPolicy::Never | CdsPolicy::Delete => Cds::None,
            CdsPolicy::WhenNeeded => {
                let reachable = matches!(
                    self.parent.delegation,
                    Delegation::Ours | Delegation::Linked
                );
                let followed = self
                    .parent
                    .followed_at
                    .is_some_and(|f| f.saturating_add(policy.margin) <= now);
                let ended = is(Mutant::CdsEndsWithAnyRoll)
                    && self.keys.iter().any(|k| k.times.gone_at.is_some());
                if reachable && (waits || !followed) && !ended {
                    wanted()
                } else {
                    Cds::None
                }
            }
        }
    }
}
