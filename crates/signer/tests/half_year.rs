//! Half a year of upkeep: the clock goes from one due time to the next.
#![allow(clippy::unwrap_used)]

mod kit;

use std::time::Duration;

use cascade_crypto::Class;
use cascade_crypto::dnskey::Role;
use cascade_signer::{
    ApexOptions, DenialPlan, Job, KeyPace, Progress, Resigned, Scope, SigningPlan, Times,
    make_apex_set, next_upkeep, sign_from,
};
use cascade_time::{SimClock, Timestamp};
use cascade_zone::{Rtype, Serial, VersionId, ZoneVersion};

const DAY: u32 = 86_400;
const HALF_A_YEAR: i64 = 180 * DAY as i64;

const CONTENT: &str = "
    @ SOA ns admin 1 7200 900 1209600 300
    @ NS ns.elsewhere.test.
    www A 192.0.2.1
    mail MX 10 www
    sub NS ns.sub
    ns.sub A 192.0.2.2
";

/// Signatures over key sets are made for this long, and made anew when no more than that is left.
struct KeySets {
    lifetime: u32,
    remain: u32,
}

/// Walks through half a year; gives how many versions that took.
fn walk(denial: DenialPlan, sets: &KeySets) -> u32 {
    let base = kit::zone("example.", CONTENT);
    let keys = kit::keys(&[
        ("ecdsap256sha256", Role::Ksk),
        ("ecdsap256sha256", Role::Zsk),
    ]);
    let times = Times::default();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let plan = |serial: u32, at: Timestamp| -> SigningPlan {
        let options = ApexOptions {
            lifetime: sets.lifetime,
            ..kit::options()
        };
        SigningPlan {
            version: VersionId(u64::from(serial)),
            serial: Serial(serial),
            apex: make_apex_set(base.apex(), &keys, &options, at).unwrap(),
            ..kit::plan_at(&base, &keys, denial.clone(), at)
        }
    };
    let scope = Scope {
        refresh: 250_000,
        keys: KeyPace::AtOnce,
        key_set_remain: sets.remain,
        even_if_equal: false,
    };
    let (start, mut now, mut versions) = (kit::now(), kit::now(), 1);
    let mut live = kit::run(&base, &plan(1, start)).version;
    loop {
        let due = next_upkeep(&live, &times, sets.remain, now)
            .unwrap()
            .unwrap();
        assert!(due > now, "what was just done is not due again");
        now = due;
        if now.secs() - start.secs() > HALF_A_YEAR {
            return versions;
        }
        let (clock, progress) = (SimClock::new(now), Progress::new());
        let job = Job {
            pool: &pool,
            clock: &clock,
            progress: &progress,
            class: Class::Normal,
            token_wait: Duration::from_secs(1),
        };
        match sign_from(&live, &base, &plan(versions + 1, now), &scope, &job, now).unwrap() {
            Resigned::Signed(signed, why) => {
                assert_eq!(why, None);
                versions += 1;
                live = signed.version;
            }
            Resigned::Nothing(_) => panic!("due at {now}, and nothing to do"),
        }
        nothing_is_late(&live, sets, &times, now);
    }
}

fn nothing_is_late(version: &ZoneVersion, sets: &KeySets, times: &Times, now: Timestamp) {
    version.for_each_record(&mut |r| {
        if r.rtype != Rtype::RRSIG {
            return;
        }
        let u16_at = |i: usize| u16::from_be_bytes([r.rdata[i], r.rdata[i + 1]]);
        let expires = u32::from(u16_at(8)) << 16 | u32::from(u16_at(10));
        let covered = Rtype(u16_at(0));
        let margin = match covered {
            Rtype::DNSKEY | Rtype::CDS | Rtype::CDNSKEY => sets.remain,
            _ => times.remain,
        };
        let left = i64::from(expires) - now.secs();
        assert!(
            left > i64::from(margin),
            "{covered}: {left} s left at {now}"
        );
    });
}

#[test]
fn key_sets_and_data_are_renewed_each_in_its_time() {
    let cases = [
        (14 * DAY, 7 * DAY),
        // Shorter than the margin of data: the apex must not be due all the time.
        (2 * DAY, DAY),
        (60 * DAY, 10 * DAY),
    ];
    for (lifetime, remain) in cases {
        for denial in [DenialPlan::Nsec, kit::nsec3(false), kit::nsec3(true)] {
            let versions = walk(denial, &KeySets { lifetime, remain });
            // At most one version for each renewal of either kind, and a place's own time.
            let data = HALF_A_YEAR / i64::from(4 * DAY) * 6;
            let sets = HALF_A_YEAR / i64::from(lifetime - remain) + 1;
            assert!(i64::from(versions) <= data + sets, "{versions} versions");
        }
    }
}
