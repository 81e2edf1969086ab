//! Tests of double-DS: who signs CDS, what is waited for before the DNSKEY RRset changes hands, and
//! what happens where no DS leads to the zone.

use std::time::Duration;

use cascade_time::Timestamp;

use crate::apex::ApexSet;
use crate::event::{Event, Publication};
use crate::key::{Key, KeyNum, Role};
use crate::next_action::{Action, Facts, is_published, next_action};
use crate::observe::{Delegation, SweepReport, What};
use crate::policy::{CdsPolicy, KeyPolicy, KskRoll};
use crate::roll::{Cause, Class, Instead, RollType, Seen, Stage, Strategy};
use crate::state::ZoneKeys;
use crate::testkit::key;
use crate::ttl::Free;
use crate::{Command, begin, decide, step_event, why};

const OLD: KeyNum = KeyNum(1);
const NEW: KeyNum = KeyNum(3);
const DAY: u64 = 86_400;

pub(crate) fn t(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + secs as i64)
}

pub(crate) fn policy() -> KeyPolicy {
    KeyPolicy {
        ksk_roll: KskRoll::DoubleDs,
        cds: CdsPolicy::Always,
        ttl: 3 * DAY as u32,
        margin: Duration::from_secs(600),
        ..KeyPolicy::default()
    }
}

/// A zone in service, linked to its parent or not, with its version out at the beginning.
pub(crate) fn zone(policy: &KeyPolicy, linked: bool) -> ZoneKeys {
    let mut z = ZoneKeys::new(b"\x07example\x00");
    for (num, role) in [(1, Role::Ksk), (2, Role::Zsk)] {
        let mut k: Key = key(num, role, 13);
        for at in [
            &mut k.times.generated_at,
            &mut k.times.published_at,
            &mut k.times.active_at,
        ] {
            *at = Some(t(0));
        }
        z.keys.push(k);
    }
    z.next_num = 3;
    z.settled_at = Some(t(0));
    if linked {
        z.parent.delegation = Delegation::Linked;
        z.parent.linked_at = Some(t(0));
        z.parent.shown = vec![OLD];
    }
    z.parent.wanted = vec![OLD];
    publish(&mut z, policy, 0);
    z
}

pub(crate) fn publish(z: &mut ZoneKeys, policy: &KeyPolicy, at: u64) {
    let apex = z.apex_set(policy, t(at)).expect("there is something");
    let serial = z.published.as_ref().map_or(1, |p| p.serial + 1);
    z.apply(&Event::VersionPublished(Publication {
        version: u64::from(serial),
        serial,
        apex_expires: t(at + 14 * DAY),
        any: apex.zone_signers.clone(),
        all: apex.zone_signers.clone(),
        apex,
        data_ttl: 3600,
        soa_expire: 86_400,
        unsigned_ttl: None,
        at: t(at),
    }));
}

pub(crate) fn swept(z: &mut ZoneKeys, what: What, at: u64) {
    z.apply(&Event::Swept(SweepReport {
        what,
        started: t(at),
        ended: t(at),
        members: Vec::new(),
        passed: Some(0),
        covered: Some(0),
        seen: Vec::new(),
        ds: Vec::new(),
        delegation: None,
    }));
}

pub(crate) fn started(z: &mut ZoneKeys, policy: &KeyPolicy, kind: RollType, at: u64) {
    let roll = begin(z, policy, kind, Cause::Operator, Strategy::Normal, t(at));
    z.apply(&Event::RollStarted { roll });
    let mut new = key(NEW.0, Role::Ksk, 13);
    new.times.generated_at = Some(t(at));
    new.proved_at = Some(t(at));
    z.apply(&Event::KeyAdded {
        key: new,
        roll: Some(Class::Ksk),
        at: t(at),
    });
}

pub(crate) fn step(z: &mut ZoneKeys, at: u64) {
    let roll = z.roll(Class::Ksk).expect("runs").clone();
    z.apply(&step_event(&policy(), &roll, t(at)));
}

fn apex(z: &ZoneKeys, policy: &KeyPolicy) -> ApexSet {
    z.apex_set(policy, t(0)).expect("there is something")
}

#[test]
fn both_keys_sign_cds_while_both_ds_are_wanted() {
    let p = policy();
    let mut z = zone(&p, true);
    started(&mut z, &p, RollType::KskDoubleDs, 10);
    assert_eq!(apex(&z, &p).cds_signers, [OLD]);
    // (stage, DNSKEY RRset, who signs it, who signs CDS)
    let ksks: [(Stage, &[KeyNum], &[KeyNum]); 5] = [
        (Stage::P1, &[OLD], &[OLD, NEW]),
        (Stage::C1, &[OLD], &[OLD, NEW]),
        (Stage::P2, &[NEW], &[OLD, NEW]),
        (Stage::C2, &[NEW], &[OLD, NEW]),
        (Stage::D, &[NEW], &[NEW]),
    ];
    for (stage, signs_dnskey, signs_cds) in ksks {
        step(&mut z, 20);
        assert_eq!(z.roll(Class::Ksk).map(|r| r.stage), Some(stage));
        let a = apex(&z, &p);
        assert_eq!(a.dnskey_signers, signs_dnskey, "{stage:?}");
        assert_eq!(a.cds_signers, signs_cds, "{stage:?}");
        assert!(a.dnskey_signers.iter().all(|n| a.dnskey.contains(n)));
    }
}

#[test]
fn the_switch_waits_for_cds_that_only_the_old_key_signed() {
    let p = policy();
    let mut z = zone(&p, true);
    started(&mut z, &p, RollType::KskDoubleDs, 10);
    step(&mut z, 20);
    publish(&mut z, &p, 30);
    step(&mut z, 100);
    let free = |z: &ZoneKeys| {
        let roll = z.roll(Class::Ksk).expect("runs");
        let waits = z.cache_waits(&p, roll);
        waits.iter().map(|w| w.free).collect::<Vec<_>>()
    };
    // A look is due although nobody changed the zone's data.
    assert_eq!(free(&z), [Free::Always, Free::Served]);
    let asks = |z: &ZoneKeys, at: u64| {
        let all = next_action(z, &p, &Facts::default(), t(at));
        all.iter().any(|a| {
            matches!(
                a,
                Action::Look {
                    what: What::Rrsig,
                    ..
                }
            )
        })
    };
    assert!(asks(&z, 200));
    let refused = decide(
        &z,
        &p,
        &Command::Expired {
            class: Class::Ksk,
            step: crate::Step::CacheExpired1,
        },
        t(200),
    );
    let text = refused.expect_err("a server may show it").to_string();
    assert!(text.contains("CDS and CDNSKEY without a signature by the new key"));
    swept(&mut z, What::Rrsig, 300);
    let at = t(300 + 3 * DAY + 1 + 600);
    let ttl = p.ttl;
    assert_eq!(free(&z), [Free::Always, Free::At { at, ttl }]);
    let steps = |now: Timestamp| {
        let all = next_action(&z, &p, &Facts::default(), now);
        matches!(all.first(), Some(Action::Commit(_)))
    };
    assert!(is_published(&z, &p, at));
    assert!(!steps(at.saturating_sub(Duration::from_secs(1))) && steps(at));
}

#[test]
fn an_operator_who_says_that_it_has_arrived_ends_it_too() {
    let p = policy();
    let mut z = zone(&p, true);
    started(&mut z, &p, RollType::KskDoubleDs, 10);
    step(&mut z, 20);
    publish(&mut z, &p, 30);
    let command = Command::Propagated {
        class: Class::Ksk,
        step: crate::Step::Propagation1Complete,
        ttl: 3 * DAY as u32,
        force: false,
        who: "ann".into(),
    };
    for e in decide(&z, &p, &command, t(500)).expect("may go on") {
        z.apply(&e);
    }
    let roll = z.roll(Class::Ksk).expect("runs");
    assert_eq!(roll.stage, Stage::C1);
    let until = t(500 + 3 * DAY + 1 + 600);
    for w in z.cache_waits(&p, roll) {
        assert!(
            matches!(w.free, Free::At { at, .. } if at == until),
            "{w:?}"
        );
    }
}

#[test]
fn states_of_a_release_without_record_of_cds_wait_as_well() {
    let p = policy();
    let mut z = zone(&p, true);
    z.log
        .entries
        .retain(|e| !matches!(e.what, crate::Served::Cds(_)));
    started(&mut z, &p, RollType::KskDoubleDs, 10);
    step(&mut z, 20);
    publish(&mut z, &p, 30);
    step(&mut z, 100);
    let roll = z.roll(Class::Ksk).expect("runs");
    let waits = z.cache_waits(&p, roll);
    assert!(waits.iter().any(|w| w.free == Free::Served));
}

#[test]
fn no_cds_no_wait() {
    let p = KeyPolicy {
        cds: CdsPolicy::Never,
        ..policy()
    };
    let mut z = zone(&p, true);
    started(&mut z, &p, RollType::KskDoubleDs, 10);
    step(&mut z, 20);
    publish(&mut z, &p, 30);
    step(&mut z, 100);
    let roll = z.roll(Class::Ksk).expect("runs");
    let waits = z.cache_waits(&p, roll);
    assert!(waits.iter().all(|w| w.free == Free::Always), "{waits:?}");
}

#[test]
fn without_a_ds_the_roll_is_by_double_signature_and_says_why() {
    let p = policy();
    let mut z = zone(&p, false);
    let events = decide(&z, &p, &Command::StartRoll { class: Class::Ksk }, t(10));
    for e in events.expect("starts") {
        z.apply(&e);
    }
    let roll = z.roll(Class::Ksk).expect("runs");
    assert_eq!(roll.kind, RollType::KskDoubleSignature);
    assert_eq!(roll.instead, Some(Instead::NoDs));
    let text = why("example", &z, &p, &Facts::default(), t(10));
    assert!(
        text.contains("double-signature") && text.contains("the parent has never shown a DS"),
        "{text}"
    );
    // Linked: as the policy says, and nothing to explain.
    let z = zone(&p, true);
    let roll = begin(
        &z,
        &p,
        RollType::KskDoubleDs,
        Cause::Due,
        Strategy::Normal,
        t(10),
    );
    assert_eq!(roll.instead, None);
}

#[test]
fn a_double_ds_roll_of_an_older_release_that_waits_for_no_parent_goes_on() {
    let p = policy();
    let mut z = zone(&p, false);
    started(&mut z, &p, RollType::KskDoubleDs, 10);
    step(&mut z, 20);
    let actions = next_action(&z, &p, &Facts::default(), t(30));
    let Some(Action::Commit(events)) = actions.first() else {
        panic!("{actions:?}");
    };
    for e in events {
        z.apply(e);
    }
    let roll = z.roll(Class::Ksk).expect("runs");
    assert_eq!(roll.kind, RollType::KskDoubleSignature);
    // With the key that was made already.
    assert_eq!(roll.new, [NEW]);
}

#[test]
fn fast_never_takes_the_old_key_out_before_the_parent_has_the_new_one() {
    let p = policy();
    let z = zone(&p, true);
    let command = Command::Emergency {
        role: Role::Ksk,
        strategy: Strategy::Fast,
    };
    let events = decide(&z, &p, &command, t(10)).expect("may start");
    let kinds: Vec<RollType> = events
        .iter()
        .filter_map(|e| match e {
            Event::RollStarted { roll } => Some(roll.kind),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, [RollType::KskDoubleSignature]);
    // One that runs and is hurried sees both DS first.
    let mut z = zone(&p, true);
    started(&mut z, &p, RollType::KskDoubleDs, 10);
    z.apply(&Event::RollHurried {
        class: Class::Ksk,
        strategy: Strategy::Fast,
        at: t(20),
    });
    step(&mut z, 30);
    let roll = z.roll(Class::Ksk).expect("runs");
    assert_eq!((roll.stage, roll.is_met(Seen::DsBoth)), (Stage::P1, false));
}

#[test]
fn a_zone_that_is_passed_on_has_no_wishes() {
    let p = KeyPolicy {
        passthrough: true,
        ..policy()
    };
    let fresh = ZoneKeys::new(b"\x07example\x00");
    let facts = Facts::default();
    assert_eq!(next_action(&fresh, &p, &facts, t(10)), []);
    assert_eq!(crate::wishes(&fresh, &p, t(10)), []);
    let text = why("example", &fresh, &p, &facts, t(10));
    assert_eq!(text, "example: nothing to wait for.");
    // Keys of ours were published: they go on, and somebody has to decide.
    let z = zone(&p, true);
    let text = why("example", &z, &p, &facts, t(10));
    assert!(
        text.contains("waits for you") && text.contains("keys of its own"),
        "{text}"
    );
}
