//! The same worlds with real keys, signatures, verification gate and caches: every version that the
//! key manager asks for is signed by the signer, judged by the gate, and fetched by resolvers that
//! are sampled here one by one, with clocks and caches of their own. No resolver may see bogus data,
//! the gate refuses no version, and whatever a resolver holds is in the set that the simulator
//! computes for all resolvers.

mod keys;
mod resolver;
mod zone;

use cascade_keys::{Class, Command, KeyPolicy, RollType};
use cascade_sim::{By, Config, DAY, HOUR, MINUTE, World, quiet_policy};

use resolver::Resolver;
use zone::Signed;

/// Resolvers of one world.
const RESOLVERS: u64 = 32;

/// Time between two looks of the resolvers.
const STEP: u64 = 20 * MINUTE;

fn world(policy: KeyPolicy, seed: u64) -> World {
    let config = Config {
        seed,
        data_ttl: 7200,
        ds_ttl: 7200,
        by: By::Hook,
        resign: 4 * HOUR,
        lags: vec![0, 60, 1800],
        public_keys: Some(keys::public_key),
        lines: false,
        ..Config::default()
    };
    World::new(policy, config)
}

/// Runs until the roll has ended and everything of it has left the caches.
fn follow(mut w: World, kind: RollType, begin: impl FnOnce(&mut World)) -> (usize, usize) {
    let mut signed = Signed::default();
    let mut all: Vec<Resolver> = (0..RESOLVERS).map(|n| Resolver::new(n, &w)).collect();
    let mut begin = Some(begin);
    let mut rest = DAY;
    let mut validated = 0;
    while rest > 0 {
        w.run(STEP);
        assert_eq!(w.broken, None, "{kind:?}");
        signed.judge_new(&w);
        for r in &mut all {
            validated += r.look(&w, &mut signed);
        }
        if w.age() >= 2 * DAY
            && let Some(begin) = begin.take()
        {
            begin(&mut w);
        }
        if w.finished.contains_key(&kind) {
            rest = rest.saturating_sub(STEP);
        }
        assert!(w.age() < 40 * DAY, "{kind:?} does not end");
    }
    (signed.judged, validated)
}

fn rolls(class: Class) -> impl FnOnce(&mut World) {
    move |w| w.command(Command::StartRoll { class }).expect("allowed")
}

fn told(kind: RollType, (versions, validated): (usize, usize)) {
    println!("{kind:?}: {versions} versions passed the gate, {validated} validations");
    assert!(versions >= 4, "{kind:?}: {versions}");
    assert!(validated > 1000, "{kind:?}: {validated}");
}

#[test]
fn zsk_rolls_with_real_signatures() {
    let w = world(quiet_policy(), 1);
    let kind = RollType::ZskPrePublish;
    told(kind, follow(w, kind, rolls(Class::Zsk)));
    let mut p = quiet_policy();
    p.zsk_roll = cascade_keys::ZskRoll::DoubleSignature;
    let kind = RollType::ZskDoubleSignature;
    told(kind, follow(world(p, 2), kind, rolls(Class::Zsk)));
}

#[test]
fn ksk_rolls_with_real_signatures() {
    let kind = RollType::KskDoubleSignature;
    let w = world(quiet_policy(), 3);
    told(kind, follow(w, kind, rolls(Class::Ksk)));
    let mut p = quiet_policy();
    p.ksk_roll = cascade_keys::KskRoll::DoubleDs;
    let kind = RollType::KskDoubleDs;
    told(kind, follow(world(p, 4), kind, rolls(Class::Ksk)));
}

#[test]
fn csk_and_algorithm_rolls_with_real_signatures() {
    let kind = RollType::Csk;
    let w = world(quiet_policy(), 5);
    told(kind, follow(w, kind, |w| w.policy.use_csk = true));
    let kind = RollType::Algorithm;
    let w = world(quiet_policy(), 6);
    told(kind, follow(w, kind, |w| w.policy.algorithm = 15));
}

#[test]
fn a_resolver_notices_what_does_not_fit() {
    let mut w = world(quiet_policy(), 7);
    w.run(2 * DAY);
    let mut signed = Signed::default();
    let v = w.newest().expect("published");
    let (ds, keys) = (w.ds_at(0), signed.dnskey(&w, &v));
    let data = signed.data(&w, &v, 0);
    assert_eq!(resolver::validate(&ds, &keys, &data), Ok(()));
    let mut wrong = ds.clone();
    wrong[0].digest[0] ^= 1;
    assert!(resolver::validate(&wrong, &keys, &data).is_err());
    let mut forged = data.clone();
    forged.rrs[0][0] ^= 1;
    assert!(resolver::validate(&ds, &keys, &forged).is_err());
    let mut unsigned = data;
    unsigned.rrsigs.clear();
    assert!(resolver::validate(&ds, &keys, &unsigned).is_err());
}
