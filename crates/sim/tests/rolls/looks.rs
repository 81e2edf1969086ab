//! What counts as seen: quorum, excuses, and answers that are no evidence.

use std::time::Duration;

use cascade_keys::*;
use cascade_time::Timestamp;

use crate::rolls::{quiet, settled};
use cascade_sim::{Config, DAY, HOUR, OWNER, World};

fn in_p2() -> World {
    let mut p = quiet();
    p.tell_parent = false;
    let config = Config {
        parent: vec![1],
        ..Config::default()
    };
    let mut q = p.clone();
    q.tell_parent = true;
    let mut w = settled(q, config);
    w.policy = p;
    w.command(Command::StartRoll { class: Class::Ksk })
        .expect("starts");
    w.run(6 * HOUR);
    assert_eq!(w.zone.roll(Class::Ksk).map(|r| r.stage), Some(Stage::P2));
    w
}

fn ds(w: &World, keys: &[u32], digest: u8) -> Answer {
    let set = keys
        .iter()
        .filter_map(|n| DsRecord::of(OWNER, w.zone.key(KeyNum(*n))?, digest))
        .collect();
    Answer::Ds {
        set,
        ttl: 86_400,
        bogus: false,
        referral: Referral::Names { shared: true },
    }
}

fn sweep(w: &World, at: Timestamp, answers: Vec<(&str, Answer)>) -> SweepReport {
    let members = answers
        .into_iter()
        .enumerate()
        .map(|(i, (server, answer))| Member {
            server: server.to_string(),
            address: format!("192.0.2.{i}"),
            nsid: None,
            answer,
        })
        .collect();
    let sweep = Sweep {
        what: What::Ds,
        started: at,
        ended: at,
        members,
        parent_expire: Some(100),
    };
    judge(&w.zone, &w.policy, &sweep)
}

fn swapped(r: &SweepReport) -> bool {
    r.seen.contains(&(Class::Ksk, Seen::DsSwapped, true))
}

#[test]
fn the_swap_needs_new_there_and_old_gone_at_every_address() {
    let w = in_p2();
    let at = w.now;
    let one = |keys: &[u32], digest| swapped(&sweep(&w, at, vec![("a", ds(&w, keys, digest))]));
    assert!(one(&[3], 2) && one(&[3], 4));
    assert!(!one(&[3], 1), "SHA-1 alone is no entry point");
    assert!(!one(&[1, 3], 2), "old still there");
    assert!(!one(&[1], 2) && !one(&[], 2));
    let two = |b| swapped(&sweep(&w, at, vec![("a", ds(&w, &[3], 2)), ("b", b)]));
    assert!(two(ds(&w, &[3], 4)));
    assert!(!two(ds(&w, &[1], 2)));
    assert!(!two(Answer::Silent));
    assert!(!two(Answer::Unusable("SERVFAIL".to_string())));
    assert!(!swapped(&sweep(&w, at, vec![])));
    let bogus = Answer::Ds {
        set: Vec::new(),
        ttl: 1,
        bogus: true,
        referral: Referral::Denied,
    };
    assert!(!two(bogus));
    // A sweep that began before the step is no evidence for it.
    let before = w.zone.roll(Class::Ksk).expect("runs").since - Duration::from_secs(1);
    assert!(!swapped(&sweep(&w, before, vec![("a", ds(&w, &[3], 2))])));
}

#[test]
fn an_address_without_route_is_excused_by_the_same_server_only() {
    let w = in_p2();
    let good = || ds(&w, &[3], 2);
    let r = sweep(&w, w.now, vec![("a", good()), ("a", Answer::NoRoute)]);
    assert!(swapped(&r));
    assert_eq!(r.covered, Some(0));
    let r = sweep(&w, w.now, vec![("a", good()), ("b", Answer::NoRoute)]);
    assert!(!swapped(&r));
    assert_eq!(r.members[1].verdict, Verdict::NoAnswer);
}

#[test]
fn a_silent_address_is_left_out_after_a_day_and_x_is_added() {
    let mut w = in_p2();
    let answers = |w: &World| vec![("a", ds(w, &[3], 2)), ("b", Answer::Silent)];
    let first = sweep(&w, w.now, answers(&w));
    assert!(!swapped(&first));
    w.zone.apply(&Event::Swept(first));
    let day = w.now + Duration::from_secs(DAY);
    let r = sweep(&w, day - Duration::from_secs(1), answers(&w));
    assert!(!swapped(&r));
    let r = sweep(&w, day, answers(&w));
    assert!(swapped(&r));
    assert_eq!(r.covered, Some(100));
    w.zone.apply(&Event::Swept(r));
    let roll = w.zone.roll(Class::Ksk).expect("runs").clone();
    let waits = w.zone.cache_waits(&w.policy, &roll);
    assert!(waits.is_empty(), "waits for what is seen");
    let of_old = |s: &Served| matches!(s, Served::Ds { ours, .. } if ours.contains(&KeyNum(1)));
    let free = w.zone.log.free(of_old, w.policy.margin);
    let at = day + Duration::from_secs(86_400 + 1 + 100 + HOUR);
    assert_eq!(free, Free::At { at, ttl: 86_400 });
    // Fewer than half agree: it waits.
    let mut many = answers(&w);
    many.push(("c", Answer::Silent));
    assert!(!swapped(&sweep(
        &w,
        day + Duration::from_secs(2 * DAY),
        many
    )));
}

#[test]
fn a_server_that_goes_back_breaks_what_was_met() {
    let mut w = in_p2();
    w.policy.ksk.auto.report = false;
    let t = |s| w.now + Duration::from_secs(s);
    let (good, bad) = (
        sweep(&w, t(0), vec![("a", ds(&w, &[3], 2))]),
        sweep(&w, t(9), vec![("a", ds(&w, &[1, 3], 2))]),
    );
    w.zone.apply(&Event::Swept(good));
    assert!(
        w.zone
            .roll(Class::Ksk)
            .is_some_and(|r| r.is_met(Seen::DsSwapped))
    );
    w.zone.apply(&Event::Swept(bad));
    assert!(
        !w.zone
            .roll(Class::Ksk)
            .is_some_and(|r| r.is_met(Seen::DsSwapped))
    );
    let text = why(
        "example.",
        &w.zone,
        &w.policy,
        &w.facts,
        w.now + Duration::from_secs(9),
    );
    assert!(
        text.contains("waits for the parent (a at 192.0.2.0 has"),
        "{text}"
    );
}

#[test]
fn a_ds_that_vanished_is_told() {
    let mut w = in_p2();
    let r = sweep(&w, w.now, vec![("a", ds(&w, &[], 2))]);
    assert!(!swapped(&r));
    w.zone.apply(&Event::Swept(r));
    assert!(w.zone.parent.vanished);
    let text = why("example.", &w.zone, &w.policy, &w.facts, w.now);
    assert!(text.contains("the parent has no DS any more"), "{text}");
}

#[test]
fn keys_are_compared_by_octets_and_ttl() {
    let w = settled(quiet(), Config::default());
    let seen = |n: u32| {
        let k = w.zone.key(KeyNum(n)).expect("there");
        SeenKey {
            flags: k.flags(),
            algorithm: k.algorithm,
            public_key: k.public_key.clone(),
        }
    };
    let look = |keys: Vec<SeenKey>, ttl, signed_by: Vec<KeyNum>| {
        let answer = Answer::Dnskey {
            keys,
            ttl,
            signed_by,
        };
        let sweep = Sweep {
            what: What::Dnskey,
            started: w.now,
            ended: w.now,
            members: vec![Member {
                server: "a".to_string(),
                address: "192.0.2.1".to_string(),
                nsid: None,
                answer,
            }],
            parent_expire: None,
        };
        judge(&w.zone, &w.policy, &sweep).passed.is_some()
    };
    let by = || vec![KeyNum(1)];
    assert!(look(vec![seen(1), seen(2)], 3600, by()));
    assert!(look(vec![seen(2), seen(1)], 300, by()));
    assert!(!look(vec![seen(1), seen(2)], 3601, by()), "TTL above ours");
    assert!(!look(vec![seen(1)], 3600, by()));
    assert!(
        !look(vec![seen(1), seen(2)], 3600, Vec::new()),
        "RRSIG does not verify"
    );
    let mut other = seen(2);
    other.public_key.swap(0, 2);
    assert!(!look(vec![seen(1), other], 3600, by()));
    let mut flags = seen(2);
    flags.flags = 257;
    assert!(!look(vec![seen(1), flags], 3600, by()));
}
