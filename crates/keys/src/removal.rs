//! Tests of keys that are destroyed by order.

use crate::command::{Command, decide};
use crate::double_ds::{policy, started, step, t, zone};
use crate::event::Event;
use crate::key::{KeyNum, Role};
use crate::roll::RollType;
use crate::testkit::key;
use crate::{KeyPolicy, ZoneKeys};

fn purge(z: &ZoneKeys, p: &KeyPolicy, num: u32) -> Result<Vec<Event>, String> {
    let command = Command::PurgeKey { key: KeyNum(num) };
    decide(z, p, &command, t(50)).map_err(|r| r.to_string())
}

#[test]
fn what_is_still_needed_is_not_destroyed() {
    let p = policy();
    let z = zone(&p, true);
    let of = |z: &ZoneKeys, n| purge(z, &p, n).expect_err("needed");
    assert!(of(&z, 1).contains("its DS is at the parent"));
    assert!(of(&z, 2).contains("it is in the zone"));
    assert!(of(&z, 7).contains("There is no key"));
    // Its DS may still be cached.
    let mut gone = z.clone();
    gone.log.observe(
        crate::Served::Ds {
            ours: vec![KeyNum(1)],
            usable: vec![KeyNum(1)],
            foreign: false,
        },
        3600,
        t(10),
    );
    gone.parent.shown.clear();
    assert!(of(&gone, 1).contains("its DS may be in caches"));
    // The successor of a roll that has begun to use it.
    let mut rolling = z.clone();
    started(&mut rolling, &p, RollType::KskDoubleDs, 10);
    step(&mut rolling, 20);
    assert!(of(&rolling, 3).contains("a roll needs it"));
}

#[test]
fn what_is_of_no_use_goes_to_the_trash_first_and_only_once() {
    let p = policy();
    let mut z = zone(&p, true);
    let mut spare = key(3, Role::Zsk, 13);
    spare.times.generated_at = Some(t(5));
    z.apply(&Event::KeyAdded {
        key: spare,
        roll: None,
        at: t(5),
    });
    let events = purge(&z, &p, 3).expect("of no use");
    assert!(matches!(
        events[..],
        [Event::KeyDropped { .. }, Event::KeyTrashed { .. }]
    ));
    events.iter().for_each(|e| z.apply(e));
    // The store refused: it is ordered again, from the trash.
    assert_eq!(purge(&z, &p, 3), Ok(vec![]));
    z.apply(&Event::KeyForgotten {
        key: KeyNum(3),
        at: t(60),
    });
    assert!(
        z.key(KeyNum(3))
            .is_some_and(|k| k.times.destroyed_at == Some(t(60)))
    );
    assert!(
        purge(&z, &p, 3)
            .expect_err("gone")
            .contains("was destroyed already")
    );
}
