//! The future, by the decision function itself: a copied state, a later `now`, and servers and
//! parent that do what they should. There is no second logic that could differ.

use std::time::Duration;

use cascade_time::Timestamp;
use cascade_zone::id::KeyId;

use crate::apex::ApexSet;
use crate::ds::DsRecord;
use crate::event::{Event, Publication};
use crate::judge::judge;
use crate::key::{Key, KeyNum, Origin, Role, Times};
use crate::next_action::{Action, Facts, next_action, next_deadline};
use crate::observe::{Answer, Delegation, Member, Referral, SeenKey, Sweep, What};
use crate::policy::KeyPolicy;
use crate::state::ZoneKeys;

/// Rounds after which a forecast ends, whatever is left.
const MAX_ROUNDS: usize = 20_000;

/// What the world is expected to do; best taken from what was measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Assumptions {
    /// From asking the parent until its servers have the new DS.
    pub parent: Duration,
    /// From a change of the zone-signing keys until the last RRset is signed anew.
    pub signing: Duration,
    /// Until every server has a new version.
    pub servers: Duration,
}

/// Events that will happen until `until` if nothing fails, in order of time. Looks and
/// publications are left out.
pub fn forecast(
    zone: &ZoneKeys,
    policy: &KeyPolicy,
    now: Timestamp,
    until: Timestamp,
    assume: &Assumptions,
) -> Vec<Event> {
    let shown = zone.wanted_shown();
    let mut f = Future {
        zone: zone.clone(),
        policy,
        assume,
        now,
        events: Vec::new(),
        // What is published now may not be everywhere yet; a copy asks again anyway.
        served_at: now,
        signed_at: None,
        parent: shown,
        parent_due: None,
        asked: None,
    };
    for _ in 0..MAX_ROUNDS {
        if !f.round(until) {
            break;
        }
    }
    f.events
}

struct Future<'a> {
    zone: ZoneKeys,
    policy: &'a KeyPolicy,
    assume: &'a Assumptions,
    now: Timestamp,
    events: Vec<Event>,
    served_at: Timestamp,
    signed_at: Option<Timestamp>,
    parent: Vec<KeyNum>,
    parent_due: Option<Timestamp>,
    /// Begin of the wish that the parent is working on.
    asked: Option<Timestamp>,
}

impl Future<'_> {
    /// Everything due now, then on to the next moment; false at the end.
    fn round(&mut self, until: Timestamp) -> bool {
        let wish = self.zone.parent.wanted_at;
        let known = matches!(
            self.zone.parent.delegation,
            Delegation::Ours | Delegation::Linked
        );
        if known && wish.is_some() && wish != self.asked {
            self.asked = wish;
            self.parent_due = Some(self.now.saturating_add(self.assume.parent));
        }
        if self.parent_due.is_some_and(|d| d <= self.now) {
            self.parent_due = None;
            self.parent = self.zone.parent.wanted.clone();
        }
        if self.signed_at.is_some_and(|d| d <= self.now) {
            self.signed_at = None;
            self.publish_all();
        }
        let facts = Facts::default();
        let actions = next_action(&self.zone, self.policy, &facts, self.now);
        if !actions.is_empty() {
            actions.into_iter().for_each(|a| self.perform(a));
            return true;
        }
        let next = [
            next_deadline(&self.zone, self.policy, &facts, self.now),
            self.parent_due,
            self.signed_at,
        ];
        match next.into_iter().flatten().min() {
            Some(t) if t <= until => {
                self.now = t;
                true
            }
            _ => false,
        }
    }

    fn tell(&mut self, event: Event) {
        self.zone.apply(&event);
        if !matches!(
            event,
            Event::Swept(_) | Event::VersionPublished(_) | Event::KeyProved { .. }
        ) {
            self.events.push(event);
        }
    }

    fn perform(&mut self, action: Action) {
        let at = self.now;
        match action {
            Action::Commit(events) => events.into_iter().for_each(|e| self.tell(e)),
            Action::ProveKey { key } => self.tell(Event::KeyProved { key, at }),
            Action::RenewApex { apex } => {
                let all = self.zone.published.as_ref().map(|p| p.all.clone());
                let any = self.zone.published.as_ref().map(|p| p.any.clone());
                self.publish(apex, any.unwrap_or_default(), all.unwrap_or_default());
            }
            Action::BuildVersion { apex, at_once } => self.build(apex, at_once),
            Action::Look { what, .. } => self.look(what),
            Action::GenerateKey {
                num,
                role,
                algorithm,
                home,
                roll,
            } => {
                let mut id = [0xff; 16];
                id[12..].copy_from_slice(&num.0.to_be_bytes());
                let key = Key {
                    num,
                    id: KeyId(id),
                    role,
                    algorithm,
                    public_key: id.to_vec(),
                    sep: false,
                    home,
                    origin: Origin::Generated,
                    decoupled: false,
                    standby: roll.is_none(),
                    backed_up: true,
                    compromised: false,
                    restored: false,
                    proved_at: Some(at),
                    times: Times {
                        generated_at: Some(at),
                        ..Times::default()
                    },
                };
                self.tell(Event::KeyAdded { key, roll, at });
            }
            Action::TellParent { .. } => self.tell(Event::ParentTold { at }),
            Action::NotifyParent => {
                let text = String::new();
                self.tell(Event::ParentNotified { text, at });
            }
            Action::Remind { .. } => self.tell(Event::ParentReminded { at }),
            Action::TrashKey { key } => self.tell(Event::KeyTrashed { key, at }),
            Action::DestroyKey { key } => self.tell(Event::KeyDestroyed { key, at }),
        }
    }

    fn build(&mut self, apex: ApexSet, at_once: bool) {
        let target = apex.zone_signers.clone();
        let before = self.zone.published.as_ref();
        let (any, all) = match before {
            Some(p) if !at_once && p.all != target => {
                let mut any = p.any.clone();
                any.extend(target.iter().filter(|n| !p.any.contains(n)));
                any.sort_unstable();
                let mut all = p.all.clone();
                all.retain(|n| target.contains(n));
                self.signed_at = Some(self.now.saturating_add(self.assume.signing));
                (any, all)
            }
            _ => (target.clone(), target),
        };
        self.publish(apex, any, all);
    }

    fn publish_all(&mut self) {
        if let Some(p) = &self.zone.published {
            let (apex, signers) = (p.apex.clone(), p.apex.zone_signers.clone());
            self.publish(apex, signers.clone(), signers);
        }
    }

    fn publish(&mut self, apex: ApexSet, any: Vec<KeyNum>, all: Vec<KeyNum>) {
        let old = self.zone.published.as_ref();
        let p = Publication {
            version: old.map_or(1, |o| o.version.saturating_add(1)),
            serial: old.map_or(1, |o| o.serial.wrapping_add(1)),
            apex,
            apex_expires: self
                .now
                .saturating_add(self.policy.apex_signatures.lifetime),
            any,
            all,
            data_ttl: old.map_or(86_400, |o| o.data_ttl),
            soa_expire: old.map_or(0, |o| o.soa_expire),
            unsigned_ttl: old.is_none().then_some(86_400),
            at: self.now,
        };
        self.served_at = self.now.saturating_add(self.assume.servers);
        self.tell(Event::VersionPublished(p));
    }

    fn look(&mut self, what: What) {
        let served = self.served_at <= self.now;
        let Some(p) = &self.zone.published else {
            return;
        };
        let answer = match what {
            What::Dnskey => Answer::Dnskey {
                keys: p
                    .apex
                    .dnskey
                    .iter()
                    .filter_map(|n| self.zone.key(*n))
                    .map(|k| SeenKey {
                        flags: k.flags(),
                        algorithm: k.algorithm,
                        public_key: k.public_key.clone(),
                    })
                    .collect(),
                ttl: p.apex.ttl,
                signed_by: if served {
                    p.apex.dnskey_signers.clone()
                } else {
                    Vec::new()
                },
            },
            What::Rrsig => Answer::Rrsig {
                serial: p.serial,
                same_content: served,
                faults: if served {
                    Vec::new()
                } else {
                    vec!["not yet everywhere".to_string()]
                },
            },
            What::Ds => Answer::Ds {
                set: self
                    .parent
                    .iter()
                    .filter_map(|n| DsRecord::of(&self.zone.owner, self.zone.key(*n)?, 2))
                    .collect(),
                ttl: self.zone.ds_ttl(),
                bogus: false,
                referral: match self.zone.parent.delegation {
                    Delegation::None => Referral::Denied,
                    Delegation::Elsewhere => Referral::Names { shared: false },
                    Delegation::Unknown => Referral::Unclear,
                    _ => Referral::Names { shared: true },
                },
            },
        };
        let sweep = Sweep {
            what,
            started: self.now,
            ended: self.now,
            members: vec![Member {
                server: "all servers".to_string(),
                address: "forecast".to_string(),
                nsid: None,
                answer,
            }],
            parent_expire: None,
        };
        let report = judge(&self.zone, self.policy, &sweep);
        self.tell(Event::Swept(report));
    }
}

impl ZoneKeys {
    /// Keys in service whose DS the last look showed.
    fn wanted_shown(&self) -> Vec<KeyNum> {
        self.parent
            .shown
            .iter()
            .copied()
            .filter(|n| {
                self.key(*n)
                    .is_some_and(|k| k.role != Role::Foreign && k.times.destroyed_at.is_none())
            })
            .collect()
    }

    /// The TTL last seen of the DS RRset.
    fn ds_ttl(&self) -> u32 {
        let shown = self
            .look(What::Ds)
            .and_then(|l| l.ds.iter().map(|d| d.ttl).max());
        shown.unwrap_or(crate::ttl::ASSUMED_DS_TTL)
    }
}
