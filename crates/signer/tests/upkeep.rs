//! Upkeep: what is due, changes of keys, and jobs that find nothing to do.
#![allow(clippy::unwrap_used)]

mod kit;

use std::collections::BTreeSet;
use std::time::Duration;

use cascade_crypto::Class;
use cascade_crypto::dnskey::Role;
use cascade_signer::*;
use cascade_time::{SimClock, Timestamp};
use cascade_zone::tree::Item;
use cascade_zone::{Rtype, Serial, VersionId, ZoneVersion};
use kit::changes::*;
use kit::*;

const DAY: i64 = 86_400;

fn ksk_zsk() -> Vec<ApexKey> {
    keys(&[("15", Role::Ksk), ("15", Role::Zsk)])
}

/// 300 owners of 400 octets, in some 30 leaves.
fn sequence(denial: DenialPlan) -> Sequence {
    Sequence::new(denial, &[("15", Role::Ksk), ("15", Role::Zsk)], (300, 400))
}

fn job(
    zone: &Sequence,
    keys: &[ApexKey],
    scope: &Scope,
    at: Timestamp,
) -> Result<Resigned, SignError> {
    let plan = SigningPlan {
        version: VersionId(zone.prev.id().0 + 10),
        serial: Serial(zone.prev.serial().0 + 1),
        ..plan_at(&zone.base, keys, zone.denial.clone(), at)
    };
    job_with(zone, &plan, scope, at)
}

fn job_with(
    zone: &Sequence,
    plan: &SigningPlan,
    scope: &Scope,
    at: Timestamp,
) -> Result<Resigned, SignError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap();
    let (clock, progress) = (SimClock::new(at), Progress::new());
    let job = Job {
        pool: &pool,
        clock: &clock,
        progress: &progress,
        class: Class::Normal,
        token_wait: Duration::from_secs(10),
    };
    sign_from(&zone.prev, &zone.base, plan, scope, &job, at)
}

/// The new version, made incrementally.
fn signed(done: Result<Resigned, SignError>) -> Signed {
    match done.unwrap() {
        Resigned::Signed(signed, None) => {
            let faults = signed.version.audit();
            assert!(faults.is_empty(), "{faults:?}");
            *signed
        }
        other => panic!("{other:?}"),
    }
}

fn why(done: Result<Resigned, SignError>) -> WhyFull {
    match done.unwrap() {
        Resigned::Signed(signed, Some(why)) => {
            assert_eq!(signed.report.scope, "full");
            assert_eq!(signed.report.reasons.last(), Some(&why.to_string()));
            why
        }
        other => panic!("{other:?}"),
    }
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(now().secs() + secs)
}

/// Units and blocks of `b` that are not the very objects of `a`.
fn made_anew(a: &ZoneVersion, b: &ZoneVersion) -> usize {
    let units = b
        .units()
        .filter(|u| !a.units().any(|w| w.same_as(u)))
        .count();
    let blocks = |v: &ZoneVersion| -> Vec<cascade_zone::BlockRef> {
        v.chain()
            .map_or(Vec::new(), |c| c.tree().iter().cloned().collect())
    };
    let old = blocks(a);
    let new = blocks(b)
        .iter()
        .filter(|x| !old.iter().any(|y| x.same(y)))
        .count();
    units + new
}

fn all_denials() -> [DenialPlan; 3] {
    [DenialPlan::Nsec, nsec3(false), nsec3(true)]
}

#[test]
fn what_does_not_change_is_shared() {
    for denial in all_denials() {
        let mut zone = sequence(denial.clone());
        let before = zone.prev.clone();
        assert!(before.unit_count() > 15);
        let done = zone.step(&Step::Edit(vec![Op {
            key: b"c\0".iter().chain(b"07x\0").copied().collect(),
            rtype: Rtype::A,
            set: Some((60, [vec![1; 4]].into())),
        }]));
        // The apex, its leaf and one more: the predecessor's, or two blocks.
        let n = made_anew(&before, &zone.prev);
        let most = if denial == DenialPlan::Nsec { 3 } else { 4 };
        assert!(n <= most, "{n} units and blocks for one record");
        let Resigned::Signed(signed, None) = done else {
            panic!("{done:?}")
        };
        // SOA, the new set, its denial record, the predecessor's; with NSEC3 no ENT: `c` is one.
        assert_eq!(signed.report.signatures, 4);
        assert_eq!(signed.report.denial_records, 2);
        assert_eq!(signed.report.scope, "incremental");
    }
}

#[test]
fn nothing_to_do_uses_up_nothing() {
    for denial in all_denials() {
        let zone = sequence(denial);
        for scope in [
            Scope::content(KEY_SET_REMAIN),
            Scope::everything(KEY_SET_REMAIN),
        ] {
            let done = job(&zone, &ksk_zsk(), &scope, at(3600));
            assert!(matches!(done, Ok(Resigned::Nothing(left)) if left == Left::default()));
        }
        let scope = Scope {
            even_if_equal: true,
            ..Scope::content(KEY_SET_REMAIN)
        };
        let made = signed(job(&zone, &ksk_zsk(), &scope, at(3600)));
        assert_eq!(made.report.signatures, 1, "the SOA's");
        assert_eq!(made_anew(&zone.prev, &made.version), 1, "the apex");
        assert_eq!(made.report.kept, zone.prev.sums().signatures - 1);
        assert_eq!(made.report.dropped, 1);
    }
}

/// 40 days of ticks: nothing gets too old, nothing is made too early, and load is spread.
#[test]
fn refresh_over_weeks() {
    for denial in [DenialPlan::Nsec, nsec3(false)] {
        let mut zone = sequence(denial);
        let times = Times::default();
        let scope = Scope {
            // More than one block of 128.
            refresh: 200,
            ..Scope::everything(KEY_SET_REMAIN)
        };
        let total = zone.prev.sums().signatures;
        let (mut made, mut versions, mut time) = (0, 0, now());
        while time.secs() < now().secs() + 40 * DAY {
            let next = next_upkeep(&zone.prev, &times, KEY_SET_REMAIN, time)
                .unwrap()
                .unwrap();
            assert!(next >= time && next.secs() < time.secs() + 15 * DAY);
            time = next;
            loop {
                let done = signed(job(&zone, &ksk_zsk(), &scope, time));
                let report = &done.report;
                assert!(
                    report.signatures <= 210,
                    "{} in one version",
                    report.signatures
                );
                let all: u64 = report.keys.iter().map(|k| k.signatures).sum();
                assert!(all > 1, "a version for nothing");
                made += report.signatures;
                versions += 1;
                let before = std::mem::replace(&mut zone.prev, done.version);
                // R + T is left of every signature that anybody holds.
                let left = before.earliest_expiration().unwrap().secs() - time.secs();
                assert!(left >= i64::from(times.remain) + 3600, "{left} s were left");
                if done.left.due == 0 {
                    break;
                }
            }
            let due = next_due(&zone.prev, &times, KEY_SET_REMAIN, time)
                .unwrap()
                .unwrap();
            assert!(due > time);
            let again = job(&zone, &ksk_zsk(), &scope, time).unwrap();
            assert!(matches!(again, Resigned::Nothing(_)));
        }
        // P = 6.5 d less an hour: each signature was made about 40 / 6.5 times.
        let each = made as f64 / total as f64;
        assert!(
            (5.0..7.5).contains(&each),
            "{each} signings of each signature"
        );
        assert!(versions > 30, "{versions} versions: all at once");
        zone.now = time;
        zone.sign();
    }
}

#[test]
fn sleep_is_caught_up_in_batches() {
    let mut zone = sequence(DenialPlan::Nsec);
    let scope = Scope {
        refresh: 100,
        ..Scope::everything(KEY_SET_REMAIN)
    };
    let time = at(12 * DAY);
    let mut earliest = Vec::new();
    loop {
        let done = signed(job(&zone, &ksk_zsk(), &scope, time));
        assert!(done.report.signatures <= 130);
        zone.prev = done.version;
        earliest.push(zone.prev.earliest_expiration().unwrap());
        if done.left.due == 0 {
            break;
        }
    }
    assert!(earliest.len() > 4);
    assert!(earliest.is_sorted(), "closest expiry first");
    // A change of content does not wait for any of it.
    let mut zone = sequence(DenialPlan::Nsec);
    zone.now = at(7 * DAY);
    let Resigned::Signed(made, None) = zone.step(&Step::Edit(vec![Op {
        key: b"b\0x\0".to_vec(),
        rtype: Rtype::A,
        set: Some((60, [vec![1; 4]].into())),
    }])) else {
        panic!()
    };
    assert!(made.report.signatures < 8, "{}", made.report.signatures);
}

fn with_second_zsk() -> Vec<ApexKey> {
    keys(&[("15", Role::Ksk), ("15", Role::Zsk)])
        .into_iter()
        .chain([apex_key(other_zsk(), Role::Zsk)])
        .collect()
}

/// The first ZSK is published but signs no more; the second signs.
fn rolling() -> Vec<ApexKey> {
    let mut keys = with_second_zsk();
    keys[1].signer = None;
    keys
}

fn without_first() -> Vec<ApexKey> {
    let mut keys = with_second_zsk();
    keys.remove(1);
    keys
}

fn mask_of(version: &ZoneVersion, key: &ApexKey) -> u16 {
    let id = key
        .signer
        .as_ref()
        .map_or(cascade_zone::KeyId([0; 16]), |s| s.id());
    version.key_table().slot_of(id).map_or(0, |s| 1 << s)
}

#[test]
fn zsk_roll_is_spread_over_time() {
    for denial in [DenialPlan::Nsec, nsec3(false)] {
        let mut zone = sequence(denial);
        zone.keys = with_second_zsk();
        zone.keys[2].signer = None;
        let zsk = ksk_zsk()[1].clone();
        // Published first; only the DNSKEY RRset and the SOA are signed.
        let pre = signed(job(
            &zone,
            &zone.keys,
            &Scope::everything(KEY_SET_REMAIN),
            at(60),
        ));
        assert_eq!(pre.report.signatures, 1);
        zone.prev = pre.version;

        let start = at(3600);
        let over = 86_400;
        let spread = Scope {
            refresh: 0,
            keys: KeyPace::Spread { since: start, over },
            ..Scope::content(KEY_SET_REMAIN)
        };
        let units = (zone.prev.unit_count() + zone.prev.block_count() - 1) as u64;
        let old = mask_of(&zone.prev, &zsk);
        let mut made = 0;
        for tick in 1..=4u32 {
            let time = Timestamp::from_secs(start.secs() + i64::from(tick * over / 4));
            let done = signed(job(&zone, &rolling(), &spread, time));
            let done_by_now = units - done.left.keys;
            let target = (units * u64::from(tick)).div_ceil(4);
            assert_eq!(done_by_now, target, "after {tick} quarters of {units}");
            made += done.report.signatures;
            zone.prev = done.version;
            // A change of content on the way signs what changed only.
            zone.now = time;
            zone.keys = rolling();
            if tick == 2 {
                zone.scope.keys = KeyPace::Later;
                let op = Op {
                    key: b"d\x0005x\0".to_vec(),
                    rtype: Rtype::A,
                    set: Some((60, [vec![1; 4]].into())),
                };
                let Resigned::Signed(done, None) = zone.step(&Step::Edit(vec![op])) else {
                    panic!()
                };
                assert!(done.report.signatures < 8, "{}", done.report.signatures);
                assert!(done.left.keys > 0);
            }
        }
        assert_eq!(
            zone.prev.sums().any_mask & old,
            0,
            "no signature by the old ZSK"
        );
        assert!(made > 500);
        zone.scope = Scope::content(KEY_SET_REMAIN);
        zone.sign();
        // The old DNSKEY goes: nothing but the apex is signed.
        let done = signed(job(
            &zone,
            &without_first(),
            &Scope::content(KEY_SET_REMAIN),
            at(3 * DAY),
        ));
        assert_eq!(done.report.signatures, 1);
        assert_eq!(made_anew(&zone.prev, &done.version), 1);
    }
}

#[test]
fn a_key_that_is_gone_goes_at_once() {
    let zone = sequence(nsec3(false));
    // Emergency: the old ZSK is neither published nor signs.
    let done = signed(job(
        &zone,
        &without_first(),
        &Scope::content(KEY_SET_REMAIN),
        at(60),
    ));
    let old = mask_of(&zone.prev, &ksk_zsk()[1]);
    assert_eq!(done.version.sums().any_mask & old, 0);
    assert_eq!(done.left, Left::default());
}

#[test]
fn second_signatures_come_and_go() {
    let mut zone = sequence(DenialPlan::Nsec);
    let before = zone.prev.sums().signatures;
    zone.keys = with_second_zsk();
    let done = signed(job(
        &zone,
        &with_second_zsk(),
        &Scope::everything(KEY_SET_REMAIN),
        at(60),
    ));
    assert!(done.version.sums().signatures > 2 * before - 8);
    let both = mask_of(&done.version, &with_second_zsk()[1])
        | mask_of(&done.version, &with_second_zsk()[2]);
    assert_eq!(done.version.sums().full_mask & both, both);
    zone.prev = done.version;
    // Dropping is not paced, and nothing is signed for it but the SOA.
    let spread = Scope {
        keys: KeyPace::Spread {
            since: at(120),
            over: 86_400,
        },
        ..Scope::content(KEY_SET_REMAIN)
    };
    let done = signed(job(&zone, &rolling(), &spread, at(120)));
    assert_eq!(done.report.signatures, 1);
    assert_eq!(done.version.sums().signatures, before);
    assert_eq!(
        done.report.dropped,
        zone.prev.sums().signatures - done.report.kept
    );
}

#[test]
fn a_new_algorithm_is_complete_when_its_dnskey_appears() {
    let mut zone = sequence(nsec3(true));
    let mut both = keys(&[("15", Role::Ksk), ("15", Role::Zsk), ("13", Role::Csk)]);
    zone.keys = both.clone();
    // RFC 4035 §2.2: with the DNSKEY in, every RRset must have a signature of its algorithm,
    // whatever the pace says.
    let done = signed(job(&zone, &both, &Scope::content(KEY_SET_REMAIN), at(60)));
    let slot = mask_of(&done.version, &both[2]);
    assert_eq!(done.version.sums().full_mask & slot, slot);
    zone.prev = done.version;
    zone.now = at(60);
    zone.sign();
    // And away with the old one.
    let only = [both.remove(2)];
    let done = signed(job(&zone, &only, &Scope::content(KEY_SET_REMAIN), at(120)));
    assert_eq!(done.version.sums().any_mask, slot);
    assert_eq!(done.report.signatures, 1, "the SOA's");
}

#[test]
fn cds_has_a_signature_of_each_side_of_an_algorithm_roll() {
    let sides = keys(&[
        ("15", Role::Ksk),
        ("15", Role::Zsk),
        ("13", Role::Ksk),
        ("13", Role::Zsk),
    ]);
    let tags = |n: usize| sides[n].dnskey.key_tag();
    let mut zone = sequence(DenialPlan::Nsec);
    zone.keys = vec![sides[0].clone(), sides[1].clone()];
    zone.keys[0].wanted_at_parent = true;
    let upkeep = Scope::everything(KEY_SET_REMAIN);
    // Steps of an algorithm roll: who is in DNSKEY, who signs it, who signs CDS, who signs data.
    let steps: [(&[usize], &[usize], &[usize], &[usize]); 4] = [
        (&[0, 1], &[0], &[0, 2], &[1, 3]),
        (&[0, 1, 2, 3], &[0, 2], &[0, 2], &[1, 3]),
        (&[2, 3], &[2], &[0, 2], &[1, 3]),
        (&[2, 3], &[2], &[2], &[3]),
    ];
    let of = |v: &ZoneVersion, rtype: &str| -> BTreeSet<u16> {
        let line = format!("{} {rtype} ", v.apex());
        rrsig_lines(v)
            .iter()
            .filter_map(|l| l.strip_prefix(&line)?.parse().ok())
            .collect()
    };
    for (step, (dnskey, dnskey_signers, cds_signers, zone_signers)) in steps.iter().enumerate() {
        let now = at(60 * (step as i64 + 1));
        zone.now = now;
        let mut plan = zone.plan();
        let signers = |nums: &[usize]| -> Vec<_> {
            nums.iter()
                .filter_map(|n| sides[*n].signer.clone())
                .collect()
        };
        plan.apex.dnskey = dnskey
            .iter()
            .map(|n| sides[*n].dnskey.rdata().to_vec())
            .collect();
        plan.apex.dnskey.sort();
        plan.apex.dnskey_signers = signers(dnskey_signers);
        plan.apex.cds_signers = signers(cds_signers);
        plan.apex.zone_signers = signers(zone_signers);
        let whole = run_with(&zone.base, &plan, 2, now, &Progress::new()).unwrap();
        let patched = signed(job_with(&zone, &plan, &upkeep, now));
        for version in [&whole.version, &patched.version] {
            let want = |nums: &[usize]| nums.iter().map(|n| tags(*n)).collect::<BTreeSet<u16>>();
            assert_eq!(of(version, "DNSKEY"), want(dnskey_signers), "step {step}");
            assert_eq!(of(version, "CDS"), want(cds_signers), "step {step}");
            assert_eq!(of(version, "CDNSKEY"), want(cds_signers), "step {step}");
            assert_eq!(of(version, "SOA"), want(zone_signers), "step {step}");
        }
        zone.prev = patched.version;
    }
    // One algorithm of the DNSKEY RRset forgotten.
    let mut plan = zone.plan();
    plan.apex.cds_signers = vec![sides[2].signer.clone().unwrap()];
    let refused = run_with(&zone.base, &plan, 2, zone.now, &Progress::new());
    let wrong = SignError::Plan(cascade_signer::PlanError::CdsAlgorithm(15));
    assert_eq!(refused.unwrap_err(), wrong);
}

#[test]
fn key_sets_have_their_own_times() {
    let zone = sequence(DenialPlan::Nsec);
    let dnskey_sigs = |v: &ZoneVersion| -> Vec<u32> {
        let apex = v.apex_owner();
        let index = apex.set(Rtype::DNSKEY).unwrap().index;
        apex.sigs(index).map(|s| s.expiration).collect()
    };
    // 14 days of life: kept while more than 7 and a refresh interval are left.
    let last = 13 * DAY / 2;
    let scope = Scope {
        even_if_equal: true,
        ..Scope::content(KEY_SET_REMAIN)
    };
    let early = signed(job(&zone, &ksk_zsk(), &scope, at(last - 1)));
    assert_eq!(dnskey_sigs(&early.version), dnskey_sigs(&zone.prev));
    let due = job(&zone, &ksk_zsk(), &Scope::content(KEY_SET_REMAIN), at(last));
    let late = signed(due);
    assert_eq!(dnskey_sigs(&late.version), [at(last + 14 * DAY).to_wire()]);
}

#[test]
fn what_does_not_fit_is_signed_from_the_start() {
    let mut zone = sequence(DenialPlan::Nsec);
    let scope = Scope::content(KEY_SET_REMAIN);
    let fits = zone.prev.clone();
    zone.prev = zone.base.clone();
    assert_eq!(
        why(job(&zone, &ksk_zsk(), &scope, at(60))),
        WhyFull::NotSigned
    );
    let other = small_zone();
    zone.prev = run(&other, &plan(&other, &ksk_zsk(), DenialPlan::Nsec)).version;
    assert_eq!(
        why(job(&zone, &ksk_zsk(), &scope, at(60))),
        WhyFull::OtherZone
    );
    zone.prev = fits;
    // The same key id with other flags is another DNSKEY: its tag is in every signature.
    let mut csk = ksk_zsk();
    let id = csk[1].signer.as_ref().unwrap().id();
    let made = cascade_crypto::SoftwareKey::generate(id, 257, "15".parse().unwrap()).unwrap();
    csk[1] = apex_key(std::sync::Arc::new(made), Role::Csk);
    assert_eq!(why(job(&zone, &csk, &scope, at(60))), WhyFull::KeyFace);
    let many: Vec<ApexKey> = (0..16u8)
        .map(|i| {
            let id = cascade_zone::KeyId([100 + i; 16]);
            let key = cascade_crypto::SoftwareKey::generate(id, 257, "15".parse().unwrap());
            apex_key(std::sync::Arc::new(key.unwrap()), Role::Csk)
        })
        .collect();
    assert_eq!(why(job(&zone, &many, &scope, at(60))), WhyFull::Slots);
}

fn small_zone() -> ZoneVersion {
    zone("other.", "@ SOA ns h 1 2 3 4 300\n@ NS ns\nns A 192.0.2.1")
}

#[test]
fn other_denial_keeps_the_signatures_of_rrsets() {
    let salted = DenialPlan::Nsec3 {
        iterations: 1,
        salt: vec![1, 2],
        opt_out: true,
    };
    let mut zone = sequence(DenialPlan::Nsec);
    for denial in [nsec3(false), nsec3(true), salted, DenialPlan::Nsec] {
        let to = denial.clone();
        let Resigned::Signed(made, None) = zone.step(&Step::Denial(denial)) else {
            panic!("not from the version before")
        };
        let denial_records = made.report.denial_records;
        assert!(denial_records >= 301);
        // The denial records, the SOA, and NSEC3PARAM where there is one now.
        let more = made.report.signatures - denial_records;
        assert_eq!(made.report.scope, "denial");
        assert!(more <= 2, "{more} signatures over other things, to {to:?}");
    }
    // RFC 9077 §3: the TTL of all denial follows the SOA.
    let Resigned::Signed(made, None) = zone.step(&Step::Soa(5, 60)) else {
        panic!("not from the version before")
    };
    assert_eq!(made.report.signatures, made.report.denial_records + 1);
}
