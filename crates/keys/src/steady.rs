//! Tests of servers that show now this and now that, and of several nodes behind one address.

use std::time::Duration;

use crate::double_ds::{publish, started, step, t, zone};
use crate::event::Event;
use crate::judge::judge;
use crate::key::KeyNum;
use crate::next_action::{Action, Facts, next_action, next_deadline};
use crate::observe::{Answer, Member, STEADY, SeenKey, Sweep, SweepReport, Verdict, What};
use crate::policy::KeyPolicy;
use crate::roll::{Class, RollType, Seen, Stage};
use crate::state::ZoneKeys;
use crate::ttl::Free;
use crate::why;

/// A KSK roll whose second key has just been published.
fn rolling(policy: &KeyPolicy) -> ZoneKeys {
    let mut z = zone(policy, true);
    started(&mut z, policy, RollType::KskDoubleSignature, 10);
    step(&mut z, 20);
    publish(&mut z, policy, 30);
    z
}

/// The DNSKEY RRset of these keys, signed by its KSKs.
fn shows(z: &ZoneKeys, nums: &[u32]) -> Answer {
    let keys = nums.iter().filter_map(|n| z.key(KeyNum(*n)));
    Answer::Dnskey {
        signed_by: keys
            .clone()
            .filter(|k| k.role.signs_keys())
            .map(|k| k.num)
            .collect(),
        keys: keys
            .map(|k| SeenKey {
                flags: k.flags(),
                algorithm: k.algorithm,
                public_key: k.public_key.clone(),
            })
            .collect(),
        ttl: 3600,
    }
}

fn look(z: &mut ZoneKeys, p: &KeyPolicy, at: u64, nodes: &[(&str, Answer)]) -> SweepReport {
    let members = nodes.iter().map(|(nsid, answer)| Member {
        server: "ns1.example".into(),
        address: "192.0.2.1".into(),
        nsid: (!nsid.is_empty()).then(|| nsid.to_string()),
        answer: answer.clone(),
    });
    let sweep = Sweep {
        what: What::Dnskey,
        started: t(at),
        ended: t(at),
        members: members.collect(),
        parent_expire: None,
    };
    let report = judge(z, p, &sweep);
    z.apply(&Event::Swept(report.clone()));
    report
}

fn is_met(z: &ZoneKeys) -> bool {
    z.roll(Class::Ksk).is_some_and(|r| r.is_met(Seen::Dnskey))
}

#[test]
fn a_server_that_went_back_counts_when_it_has_been_steady_for_an_hour() {
    let p = KeyPolicy::default();
    let mut z = rolling(&p);
    let (old, new) = (shows(&z, &[1, 2]), shows(&z, &[1, 2, 3]));
    // From old to new is the way of things.
    look(&mut z, &p, 40, &[("", old.clone())]);
    assert!(!is_met(&z));
    look(&mut z, &p, 100, &[("", new.clone())]);
    assert!(is_met(&z));
    let back = look(&mut z, &p, 200, &[("", old.clone())]);
    assert!(!is_met(&z) && back.went_back());
    look(&mut z, &p, 300, &[("", old)]);
    let r = look(&mut z, &p, 400, &[("", new.clone())]);
    assert_eq!(r.members[0].verdict, Verdict::Unsteady);
    assert!(!is_met(&z) && r.passed.is_none() && r.is_unsteady());
    let text = why("example", &z, &p, &Facts::default(), t(400));
    assert!(text.contains("went back to the old"), "{text}");
    // Looked at more often than a calm wait.
    let next = next_deadline(&z, &p, &Facts::default(), t(400));
    assert!(next.is_some_and(|n| n <= t(1000)), "{next:?}");
    // An hour after it showed the old last.
    let steady = 300 + STEADY.as_secs();
    look(&mut z, &p, steady - 1, &[("", new.clone())]);
    assert!(!is_met(&z));
    look(&mut z, &p, steady, &[("", new)]);
    assert!(is_met(&z));
}

#[test]
fn caches_are_waited_for_again_when_a_server_goes_back() {
    let p = KeyPolicy::default();
    let mut z = rolling(&p);
    let (old, new) = (shows(&z, &[1, 2]), shows(&z, &[1, 2, 3]));
    look(&mut z, &p, 100, &[("", new.clone())]);
    step(&mut z, 100);
    let free = |z: &ZoneKeys| {
        let roll = z.roll(Class::Ksk).expect("runs");
        assert_eq!(roll.stage, Stage::C1);
        z.cache_waits(&p, roll)[0].free
    };
    let end = |at: u64| t(at + 3600 + 1) + p.margin;
    assert_eq!(
        free(&z),
        Free::At {
            at: end(100),
            ttl: 3600
        }
    );
    // It goes on being looked at, though not every minute.
    let due = |at: u64| {
        next_action(&z, &p, &Facts::default(), t(at))
            .iter()
            .any(|a| {
                matches!(
                    a,
                    Action::Look {
                        what: What::Dnskey,
                        ..
                    }
                )
            })
    };
    assert!(!due(100 + 1799) && due(100 + 1800));
    look(&mut z, &p, 2000, &[("", old)]);
    assert_eq!(free(&z), Free::Served);
    look(&mut z, &p, 2600, &[("", new.clone())]);
    assert_eq!(free(&z), Free::Served);
    look(&mut z, &p, 2000 + 3600, &[("", new)]);
    assert_eq!(
        free(&z),
        Free::At {
            at: end(5600),
            ttl: 3600
        }
    );
}

#[test]
fn every_node_behind_an_address_must_agree() {
    let p = KeyPolicy {
        ignore_unreachable_after: Some(Duration::from_secs(86_400)),
        ..KeyPolicy::default()
    };
    let mut z = rolling(&p);
    let (old, new) = (shows(&z, &[1, 2]), shows(&z, &[1, 2, 3]));
    let r = look(&mut z, &p, 40, &[("fra", new.clone()), ("ams", old)]);
    assert!(!is_met(&z));
    let text = why("example", &z, &p, &Facts::default(), t(40));
    assert!(text.contains("192.0.2.1 (NSID ams) has"), "{text}");
    assert_eq!(r.members[1].nsid.as_deref(), Some("ams"));
    // One node that cannot be reached is not taken for the other.
    let unseen = Answer::Silent;
    let r = look(
        &mut z,
        &p,
        600,
        &[("fra", new.clone()), ("ams", unseen.clone())],
    );
    assert!(!is_met(&z));
    assert_eq!(r.members[1].verdict, Verdict::NoAnswer);
    assert_eq!(r.members[1].found, "this node was not reached");
    // Cut off for a day: as any other server, with SOA EXPIRE added.
    let r = look(&mut z, &p, 90_000, &[("fra", new.clone()), ("ams", unseen)]);
    assert!(is_met(&z));
    assert_eq!(r.passed, Some(86_400));
    let mut z = rolling(&p);
    look(&mut z, &p, 40, &[("fra", new.clone()), ("ams", new)]);
    assert!(is_met(&z));
}
