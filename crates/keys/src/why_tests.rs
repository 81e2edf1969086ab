//! Every reason for which a roll does not go on: whom it waits for, the evidence, the next check.

use std::time::Duration;

use cascade_time::Timestamp;

use super::*;
use crate::key::{Key, Role};
use crate::observe::MemberReport;
use crate::policy::Auto;
use crate::roll::{Cause, Met, RollType, Stage, Strategy, Witness};
use crate::state::Published;
use crate::testkit::key;
use crate::ttl::Served;
use crate::wish::begin;

const OWNER: &[u8] = b"\x07example\x00";
/// 2027-01-15T08:00:00Z.
const NOW: i64 = 1_800_000_000;

fn t(secs: i64) -> Timestamp {
    Timestamp::from_secs(NOW + secs)
}

fn in_service(mut key: Key) -> Key {
    key.times.generated_at = Some(t(-9000));
    key.times.published_at = Some(t(-9000));
    key.times.active_at = Some(t(-9000));
    key.proved_at = Some(t(-9000));
    key
}

/// A zone with keys of algorithm 13 that the parent has a DS of.
fn zone(policy: &KeyPolicy) -> ZoneKeys {
    let mut z = ZoneKeys::new(OWNER);
    let roles: &[Role] = if policy.use_csk {
        &[Role::Csk]
    } else {
        &[Role::Ksk, Role::Zsk]
    };
    for (i, role) in roles.iter().enumerate() {
        z.keys.push(in_service(key(i as u32 + 1, *role, 13)));
    }
    z.next_num = 10;
    z.settled_at = Some(t(-8000));
    z.parent.delegation = Delegation::Linked;
    z.parent.linked_at = Some(t(-7000));
    z.parent.shown = vec![KeyNum(1)];
    z.parent.wanted = vec![KeyNum(1)];
    publish(&mut z, policy);
    z
}

/// The version that the state asks for is out, fully signed.
fn publish(z: &mut ZoneKeys, policy: &KeyPolicy) {
    let Some(apex) = z.apex_set(policy, t(0)) else {
        return;
    };
    z.published = Some(Published {
        version: 1,
        serial: 7,
        any: apex.zone_signers.clone(),
        all: apex.zone_signers.clone(),
        apex,
        apex_at: t(-100),
        apex_expires: t(1_000_000),
        data_ttl: 3600,
        data_at: t(-100),
        data_serial: 7,
        soa_expire: 86_400,
    });
}

/// A roll of this kind in this stage, with its keys made.
fn rolling(policy: &KeyPolicy, kind: RollType, stage: Stage) -> ZoneKeys {
    let mut z = zone(policy);
    if kind == RollType::FirstKeys {
        z.settled_at = None;
        z.keys.clear();
    }
    let mut roll = begin(&z, policy, kind, Cause::Operator, Strategy::Normal, t(-100));
    roll.stage = stage;
    for role in roll.wants.clone() {
        let mut new = key(z.next_num, role, roll.algorithm);
        new.times.generated_at = Some(t(-200));
        new.proved_at = Some(t(-100));
        z.next_num += 1;
        roll.new.push(new.num);
        z.keys.push(new);
    }
    z.rolls.push(roll);
    publish(&mut z, policy);
    z
}

fn look(z: &mut ZoneKeys, what: What, verdicts: &[(Verdict, &str)]) {
    let members = verdicts
        .iter()
        .enumerate()
        .map(|(i, (v, found))| MemberReport {
            server: format!("ns{i}.example"),
            address: format!("192.0.2.{i}"),
            verdict: *v,
            found: found.to_string(),
            ttl: None,
            first_asked: t(-60),
            last_answer: None,
            nsid: None,
            flipped_at: None,
        });
    z.looks.push(SweepReport {
        what,
        started: t(-50),
        ended: t(-49),
        members: members.collect(),
        passed: None,
        covered: Some(0),
        seen: Vec::new(),
        ds: Vec::new(),
        delegation: None,
    });
}

fn meet_all(z: &mut ZoneKeys) {
    for r in &mut z.rolls {
        let seen = r.row().map_or(&[][..], |row| row.seen);
        r.met = seen
            .iter()
            .map(|s| Met {
                seen: *s,
                at: t(-40),
                witness: Witness::Sweep,
            })
            .collect();
    }
}

/// With the next check of the reason itself.
fn of(z: &ZoneKeys, policy: &KeyPolicy, facts: &Facts) -> Waiting {
    reason(z, policy, facts, &z.rolls[0], t(0))
}

/// The sentence names a check that is still to come, or what was to be checked is being done.
#[track_caller]
fn names_the_next_check(z: &ZoneKeys, policy: &KeyPolicy, facts: &Facts) -> String {
    let text = why("example", z, policy, facts, t(0));
    let known = text.contains(" Next look or step ");
    let under_way = text.ends_with(" It is being done.");
    let acts = !crate::next_action(z, policy, facts, t(0)).is_empty();
    assert!(known || under_way && acts, "{text}");
    text
}

#[track_caller]
fn says(w: &Waiting, whom: Whom, parts: &[&str], next: Option<i64>) {
    assert_eq!(w.whom, whom, "{}", w.text);
    for p in parts {
        assert!(w.text.contains(p), "no `{p}` in: {}", w.text);
    }
    assert_eq!(w.next, next.map(t), "{}", w.text);
}

#[test]
fn every_reason_has_its_evidence_and_its_next_check() {
    let p = KeyPolicy::default();
    let none = Facts::default();
    let zsk = RollType::ZskPrePublish;
    let ksk = RollType::KskDoubleSignature;

    // The token does not make the key.
    let hsm = KeyPolicy {
        zsk_home: Home::Hsm("vault".into()),
        ..p.clone()
    };
    let mut z = rolling(&p, zsk, Stage::Keys);
    z.rolls[0].new.clear();
    let mut facts = Facts::default();
    facts
        .errors
        .insert(Subject::Generate(Role::Zsk), "token is locked".into());
    facts.retry_at.insert(Subject::Generate(Role::Zsk), t(60));
    let parts = [
        "waits for HSM vault: a new ZSK of algorithm 13",
        "token is locked",
    ];
    says(
        &of(&z, &hsm, &facts),
        Whom::Token("vault".into()),
        &parts,
        Some(60),
    );
    let parts = ["waits for signing: a new ZSK", "token is locked"];
    says(&of(&z, &p, &facts), Whom::Signer, &parts, Some(60));

    // The backup.
    let saved = KeyPolicy {
        require_backup: true,
        ..p.clone()
    };
    let z = rolling(&saved, zsk, Stage::Keys);
    let tag = z.keys.last().unwrap().tag().to_string();
    let parts = [
        &format!("waits for a backup of key {tag}")[..],
        "2027-01-15",
        "backed-up",
    ];
    says(&of(&z, &saved, &none), Whom::Backup, &parts, None);

    // The new key does not prove itself; the version cannot be made; it is not out yet.
    let mut z = rolling(&p, zsk, Stage::P1);
    z.published.as_mut().unwrap().apex.dnskey.pop();
    let new = z.rolls[0].new[0];
    let mut facts = Facts::default();
    facts
        .errors
        .insert(Subject::Prove(new), "wrong signature".into());
    facts.retry_at.insert(Subject::Prove(new), t(70));
    let parts = ["waits for signing: key", "prove itself", "wrong signature"];
    says(&of(&z, &p, &facts), Whom::Signer, &parts, Some(70));
    let mut facts = Facts::default();
    facts
        .errors
        .insert(Subject::Build, "HSM vault is down".into());
    facts.retry_at.insert(Subject::Build, t(80));
    let parts = [
        "waits for signing: the version with its keys",
        "HSM vault is down",
    ];
    says(&of(&z, &p, &facts), Whom::Signer, &parts, Some(80));
    says(
        &of(&z, &p, &none),
        Whom::Signer,
        &["not published yet"],
        None,
    );

    // Signatures are replaced over time.
    let mut z = rolling(&p, zsk, Stage::P2);
    z.published.as_mut().unwrap().any.insert(0, KeyNum(2));
    let old = z.key(KeyNum(2)).unwrap().tag().to_string();
    let facts = Facts {
        signs_next: Some(t(600)),
        ..Facts::default()
    };
    let parts = [&format!("signatures by {old} are still in the zone (serial 7)")[..]];
    says(&of(&z, &p, &facts), Whom::Signer, &parts, Some(600));
    let mut z = rolling(&p, RollType::ZskDoubleSignature, Stage::P1);
    z.published.as_mut().unwrap().all = vec![KeyNum(2)];
    z.rolls[0].met.push(Met {
        seen: Seen::Dnskey,
        at: t(-40),
        witness: Witness::Sweep,
    });
    says(
        &of(&z, &p, &facts),
        Whom::Signer,
        &["not every record is signed by"],
        Some(600),
    );

    // Name servers: nobody asked; one is behind; one is silent.
    let mut z = rolling(&p, zsk, Stage::P1);
    let parts = ["waits for its name servers: nobody was asked yet"];
    says(&of(&z, &p, &none), Whom::Servers, &parts, Some(-95));
    let behind = [(Verdict::Match, "1 2 3"), (Verdict::Mismatch, "1 2")];
    look(&mut z, What::Dnskey, &behind);
    let parts = ["(ns1.example at 192.0.2.1 has 1 2; 1 of 2 addresses agree) when asked 2027-"];
    says(&of(&z, &p, &none), Whom::Servers, &parts, Some(20));
    z.looks.clear();
    let silent = [(Verdict::Match, "1"), (Verdict::NoAnswer, "no answer")];
    look(&mut z, What::Dnskey, &silent);
    let parts = ["(ns1.example at 192.0.2.1 has no answer; 1 of 2 addresses agree)"];
    says(&of(&z, &p, &none), Whom::Servers, &parts, Some(20));
    // A look that could not be made is made again then.
    let mut facts = Facts::default();
    facts.retry_at.insert(Subject::Look(What::Dnskey), t(90));
    says(&of(&z, &p, &facts), Whom::Servers, &parts, Some(90));
    // Looks go on with the flag off, and the command is told.
    let off = zsk_off(&p);
    let parts = [
        "has no answer",
        "and then for you: zsk propagation1-complete",
    ];
    says(&of(&z, &off, &none), Whom::Servers, &parts, Some(20));

    // The parent.
    let mut z = rolling(&p, ksk, Stage::P2);
    look(&mut z, What::Ds, &[(Verdict::Mismatch, "31203")]);
    let parts = ["waits for the parent (ns0.example at 192.0.2.0 has 31203; 0 of 1"];
    says(&of(&z, &p, &none), Whom::Parent, &parts, Some(20));
    z.parent.delegation = Delegation::Unknown;
    publish(&mut z, &p);
    says(
        &of(&z, &p, &none),
        Whom::Parent,
        &["parent-nameservers"],
        Some(20),
    );

    // Caches: until a time, or as long as a server shows it.
    let mut z = rolling(&p, zsk, Stage::C1);
    z.log
        .publish(Served::Dnskey(vec![KeyNum(1)]), 3600, t(-500));
    look(&mut z, What::Dnskey, &behind);
    let parts = [
        "waits for caches (a server may still show the DNSKEY RRset without the new key",
        "192.0.2.1 has 1 2",
    ];
    says(&of(&z, &p, &none), Whom::Caches, &parts, None);
    z.log
        .close_superseded(&Served::Dnskey(Vec::new()), t(-40), Duration::ZERO);
    z.log.entries.iter_mut().for_each(|e| {
        e.superseded = true;
        e.last = Some(t(-40));
    });
    // 3600 s of TTL, one second, and the margin of an hour.
    let parts = [
        "they may hold the DNSKEY RRset without the new key until",
        "TTL 3600",
    ];
    let end = -40 + 3600 + 1 + 3600;
    says(&of(&z, &p, &none), Whom::Caches, &parts, Some(end));

    // All is seen, and a person moves it.
    let mut z = rolling(&off, zsk, Stage::P1);
    meet_all(&mut z);
    let parts = ["waits for you and may go on: zsk propagation1-complete"];
    says(&of(&z, &off, &none), Whom::Operator, &parts, None);
}

fn zsk_off(p: &KeyPolicy) -> KeyPolicy {
    let mut off = p.clone();
    off.zsk.auto = Auto::OFF;
    off
}

#[test]
fn every_state_of_every_roll_says_whom_it_waits_for() {
    const HEADS: [&str; 7] = [
        "waits for its name servers",
        "waits for signing",
        "waits for the parent",
        "waits for caches",
        "waits for HSM vault",
        "waits for a backup of key",
        "waits for you",
    ];
    for use_csk in [false, true] {
        let p = KeyPolicy {
            use_csk,
            ksk_home: Home::Hsm("vault".into()),
            ..KeyPolicy::default()
        };
        for kind in RollType::ALL {
            let fits = match kind.class() {
                Class::Ksk | Class::Zsk => !use_csk,
                Class::Csk => use_csk,
                _ => true,
            };
            let mut policy = p.clone();
            if kind == RollType::Algorithm {
                policy.algorithm = 15;
            }
            let stages = kind.rows().iter().map(|r| r.stage);
            for stage in stages.chain([Stage::Keys]).filter(|_| fits) {
                let mut z = rolling(&policy, kind, stage);
                if stage == Stage::Keys {
                    z.rolls[0].new.clear();
                }
                for step in 0..4 {
                    match step {
                        0 => {}
                        1 => What::ALL
                            .iter()
                            .for_each(|w| look(&mut z, *w, &[(Verdict::Mismatch, "-")])),
                        2 => meet_all(&mut z),
                        _ => policy_off(&mut policy),
                    }
                    let w = of(&z, &policy, &Facts::default());
                    let what = format!("{kind:?} {stage:?} {step}: {}", w.text);
                    assert!(HEADS.iter().any(|h| w.text.starts_with(h)), "{what}");
                    let none = Facts::default();
                    let whole = waiting(&z, &policy, &none, &z.rolls[0], t(0));
                    assert_eq!(whole.text, w.text);
                    let acts = !crate::next_action(&z, &policy, &none, t(0)).is_empty();
                    assert!(whole.next.is_some() || acts, "{what}");
                    let one = names_the_next_check(&z, &policy, &none);
                    assert!(one.contains(&w.text) && one.contains(" since "), "{one}");
                    assert!(!one.contains('\n'));
                    // Whatever it waits for: while nothing may move, that is said.
                    for (facts, words) in held_and_paused() {
                        let one = names_the_next_check(&z, &policy, &facts);
                        assert!(one.contains(words), "{one}");
                    }
                }
                policy.csk.auto = Auto::ON;
            }
        }
    }
}

fn held_and_paused() -> [(Facts, &'static str); 2] {
    let none = Facts::default();
    let held = Facts {
        clock_held: true,
        ..none.clone()
    };
    let paused = Facts {
        paused: true,
        ..none
    };
    let clock = "waits for you: the clock is not trusted";
    let keys = "waits for you: key decisions are paused: maintenance disable";
    [(held, clock), (paused, keys)]
}

fn policy_off(p: &mut KeyPolicy) {
    p.ksk.auto = Auto::OFF;
    p.zsk.auto = Auto::OFF;
    p.csk.auto = Auto::OFF;
    p.algorithm_auto = Auto::OFF;
}

#[test]
fn without_a_roll_it_says_what_is_due_and_what_is_ordered() {
    let p = KeyPolicy::default();
    let none = Facts::default();
    let say = |z: &ZoneKeys, p: &KeyPolicy| names_the_next_check(z, p, &none);
    let mut z = zone(&p);
    z.parent.followed_at = Some(t(-50));
    let text = why("example", &z, &p, &none, t(0));
    assert!(text.contains("nothing to wait for. Next: ZSK roll on "));
    // Due, and it may not begin by itself.
    let mut off = zsk_off(&p);
    off.zsk.validity = Some(Duration::from_secs(60));
    let text = say(&z, &off);
    assert!(
        text.contains("waits for you: a ZSK roll is due since "),
        "{text}"
    );
    assert!(text.contains("zsk start-roll"), "{text}");
    // No DNSSEC was ordered, and a DS leads to the zone.
    let mut bare = p.clone();
    bare.unsigned = true;
    let text = say(&z, &bare);
    assert!(
        text.contains("waits for you") && text.contains("cds = \"delete\""),
        "{text}"
    );
    bare.cds = CdsPolicy::Delete;
    look(&mut z, What::Ds, &[(Verdict::Mismatch, "31203")]);
    let text = say(&z, &bare);
    assert!(
        text.contains("waits for the parent: signatures go when no DS leads here"),
        "{text}"
    );
    assert!(text.contains("192.0.2.0 has 31203"), "{text}");
    // Nobody moves anything while the clock is not trusted, or in maintenance.
    for (facts, words) in held_and_paused() {
        assert!(names_the_next_check(&z, &p, &facts).contains(words));
    }
    // The parent has no DS any more, or not the one that is asked for.
    let mut gone = z.clone();
    gone.parent.vanished = true;
    assert!(say(&gone, &p).contains("the parent has no DS any more"));
    z.parent.delegation = Delegation::Ours;
    z.parent.shown.clear();
    assert!(say(&z, &p).contains("waits for the parent: it should have exactly"));
    // Another signer's zone, for which keys of its own were made before.
    let passed = KeyPolicy {
        passthrough: true,
        ..p
    };
    z.parent.shown.clone_from(&z.parent.wanted);
    assert!(say(&z, &passed).contains("waits for you: the zone is to be passed on"));
}

/// What breaks the chain is told as long as any cache can hold it.
#[test]
fn a_lost_ds_is_told_until_no_cache_has_it() {
    let policy = KeyPolicy::default();
    let mut z = zone(&policy);
    let mut lost = key(5, Role::Ksk, 13);
    lost.compromised = true;
    lost.times.removed_at = Some(t(-900));
    z.keys.push(lost);
    let shown = |last: Option<Timestamp>| crate::ttl::Entry {
        what: Served::Ds {
            ours: vec![KeyNum(5)],
            usable: vec![KeyNum(5)],
            foreign: false,
        },
        ttl: 3600,
        first: t(-500),
        last,
        extra: 0,
        returned: false,
        superseded: true,
    };
    z.parent.shown.push(KeyNum(5));
    z.log.entries.push(shown(None));
    let critical = |z: &ZoneKeys, at| {
        let all = alerts(z, &policy, at);
        let one = all.iter().find(|a| a.is_critical());
        one.map(Alert::text)
    };
    let text = critical(&z, t(0)).unwrap();
    assert!(text.contains("have it removed"), "{text}");
    z.parent.shown.pop();
    z.log.entries.pop();
    z.log.entries.push(shown(Some(t(0))));
    let text = critical(&z, t(3600)).unwrap();
    assert!(text.contains("ends by itself"), "{text}");
    assert_eq!(critical(&z, t(3700)), None);
}

/// The way to insecure waits for a roll that waits for the parent, which must hear of it.
#[test]
fn cds_serves_the_running_roll_before_the_zone_goes_insecure() {
    let policy = KeyPolicy {
        cds: CdsPolicy::Delete,
        ..KeyPolicy::default()
    };
    for (kind, stage) in [
        (RollType::KskDoubleDs, Stage::P1),
        (RollType::KskDoubleDs, Stage::D),
        (RollType::KskDoubleSignature, Stage::P2),
        (RollType::Algorithm, Stage::P2),
    ] {
        let z = rolling(&policy, kind, stage);
        let cds = z.apex_set(&policy, t(0)).map(|a| a.cds);
        let is = matches!(cds, Some(crate::apex::Cds::Keys(_)));
        assert!(is, "{kind:?} {stage:?}: {cds:?}");
    }
    let z = rolling(&policy, RollType::ZskPrePublish, Stage::P1);
    assert_eq!(
        z.apex_set(&policy, t(0)).unwrap().cds,
        crate::apex::Cds::None
    );
}

/// Rolls that run beside each other are told all.
#[test]
fn each_of_two_rolls_is_explained() {
    let policy = KeyPolicy::default();
    let mut z = rolling(&policy, RollType::KskDoubleSignature, Stage::P2);
    let zsk = rolling(&policy, RollType::ZskPrePublish, Stage::P1).rolls;
    z.rolls.extend(zsk);
    publish(&mut z, &policy);
    let text = why("example", &z, &policy, &Facts::default(), t(0));
    for part in [
        "the KSK roll (",
        "waits for the parent",
        "the ZSK roll (",
        "waits for its name servers",
        "Next look or step",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}
