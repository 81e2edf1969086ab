//! Keys are given up by two persons where the configuration asks for it.

use std::time::Duration;

use super::{World, ZONE};
use crate::second::{by, need_two, waiting};

#[test]
fn a_leaked_key_is_replaced_and_removed_by_two() {
    let mut world = World::with("", false);
    world.secondaries.clear();
    world.follows = false;
    let rests = |w: &World| w.rolls().is_empty();
    world.drive("first keys settle", Duration::from_secs(7200), rests);
    need_two(&world.site, "[\"emergency\", \"remove-key\"]");
    let before = world.tags("active");

    // What it would do may be looked at by one.
    let order = ["keyset", ZONE, "emergency", "zsk", "--yes"];
    world.site.cascade(&order[..4]).expect(1);
    world.site.cascade(&order).expect(6);
    let list = world.site.ok(&["request", "list"]);
    assert!(list.contains(&format!("emergency {ZONE}")), "{list}");
    let id = waiting(&world.site);
    by(&world.site, "eve", &["request", "approve", &id]).expect(4);
    assert!(world.rolls().is_empty(), "nothing has begun");
    by(&world.site, "bob", &["request", "approve", &id]).expect(0);
    assert_eq!(world.site.ok(&["request", "list", "-q"]), "");
    cascade_e2e::until("the roll has begun", || {
        (!world.rolls().is_empty()).then_some(())
    });
    world.drive("the roll ends", Duration::from_secs(86_400), rests);

    let after = world.tags("active");
    let gone = before.difference(&after).next();
    let gone = gone.expect("the leaked key does not sign").to_string();
    let remove = ["keyset", ZONE, "remove-key", &gone, "--yes"];
    let listed = |w: &World| w.site.ok(&["keyset", ZONE, "list"]).contains(&gone);
    assert!(listed(&world));
    world.site.cascade(&remove).expect(6);
    by(
        &world.site,
        "bob",
        &["request", "reject", &waiting(&world.site)],
    )
    .expect(0);
    assert!(listed(&world), "refused, it stays");
    world.site.cascade(&remove).expect(6);
    by(
        &world.site,
        "bob",
        &["request", "approve", &waiting(&world.site)],
    )
    .expect(0);
    assert!(!listed(&world));
    let all = world.site.ok(&["keyset", ZONE, "list", "--all"]);
    assert!(all.contains("in the trash"), "{all}");
}
