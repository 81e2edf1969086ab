//! What the parent is told, and what a roll does that begins at the parent.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cascade_e2e::within;

use super::{World, ZONE};

const DAY: Duration = Duration::from_secs(86_400);

/// An endpoint for NOTIFY(CDS) at a registry: notes what it hears, answers the first with SERVFAIL
/// and all others with NOERROR.
struct Endpoint {
    port: u16,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Endpoint {
    fn new() -> Endpoint {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let list = heard.clone();
        std::thread::spawn(move || {
            let mut octets = [0; 4096];
            while let Ok((n, from)) = socket.recv_from(&mut octets) {
                let mut list = list.lock().unwrap();
                let mut reply = octets[..n].to_vec();
                reply[2] |= 0x80;
                reply[3] = if list.is_empty() { 2 } else { 0 };
                list.push(octets[..n].to_vec());
                let _ = socket.send_to(&reply, from);
            }
        });
        Endpoint { port, heard }
    }

    fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().unwrap().clone()
    }
}

#[test]
fn the_endpoint_of_the_parent_hears_of_a_new_cds() {
    let endpoint = Endpoint::new();
    let mut world = World::new("");
    // The parent names it for all its children.
    world.parent_lines = format!(
        "*._dsync DSYNC CDS NOTIFY {} registry\nregistry A 127.0.0.1\n",
        endpoint.port
    );
    world.child_policy_with("", "notify = true\n");
    world.site.ok(&["policy", "reload", "--yes"]);
    world.give_ds(Vec::new());
    world.follows = false;
    world.drive("first keys settle", DAY, |w| w.rolls().is_empty());
    world.drive("the endpoint has heard it", DAY, |_| {
        endpoint.heard().len() >= 2
    });
    // Not before every server of the zone had the CDS, and again after a failure.
    for message in endpoint.heard() {
        // RFC 1996 §3: opcode NOTIFY, AA; RFC 9859 §4.2: the question is the child's CDS.
        assert_eq!(message[2], 0x24, "{message:?}");
        let question = [&b"\x07example\x04test\x00"[..], &[0, 59, 0, 1]].concat();
        assert_eq!(&message[12..12 + question.len()], question);
    }
    for s in &world.secondaries {
        assert_eq!(s.ask(&[ZONE, "CDS"]).rdata("CDS").len(), 1);
    }
    world.drive("it is known", DAY, |w| {
        let why = w.site.ok(&["zone", "why", ZONE]);
        why.contains("NOTIFY(CDS)") && why.contains("heard by registry.test")
    });
    let history = world.site.ok(&["zone", "history", ZONE]);
    assert!(
        history.contains("NOTIFY(CDS): heard by registry.test"),
        "{history}"
    );
    // Once per CDS.
    let count = endpoint.heard().len();
    world.stride();
    world.stride();
    assert_eq!(endpoint.heard().len(), count);
}

#[test]
fn double_ds_with_cds_that_validates_at_every_step() {
    let mut world = World::new("");
    let lines = "[key-manager.ksk]\nroll-type = \"double-ds\"\nvalidity = \"forever\"\n";
    world.child_policy_with(lines, "cds = \"always\"\n");
    world.site.ok(&["policy", "reload", "--yes"]);
    world.link();
    world.site.ok(&["keyset", ZONE, "ksk", "start-roll"]);
    let mut seen: BTreeSet<(String, usize)> = BTreeSet::new();
    for _ in 0..500 {
        let states = world.states();
        if states.is_empty() {
            break;
        }
        let asks = |s: &String| s.ends_with("await-ds-seen") || s.ends_with("await-ds-gone");
        if states.iter().any(asks) {
            world.put_ds();
        }
        let answer = world.site.ask(&["+dnssec", ZONE, "CDS"]);
        if world.states() == states {
            let sigs = answer.rdata("RRSIG").len();
            seen.insert((states.concat(), sigs));
        }
        let resolver = world.resolver();
        resolver.must_validate(ZONE, "CDS", &format!("{states:?}"));
        world.stride();
    }
    assert_eq!(world.states(), Vec::<String>::new(), "{seen:?}");
    // Who signs CDS: both keys until no cache has the old DNSKEY RRset.
    for (state, sigs) in [
        ("ksk await-ds-seen", 2),
        ("ksk await-ds-expired", 2),
        ("ksk await-dnskey-expired", 2),
        ("ksk await-ds-gone", 1),
    ] {
        assert!(
            seen.contains(&(state.to_string(), sigs)),
            "{state}: {seen:?}"
        );
    }
}

#[test]
fn double_ds_of_a_zone_without_a_parent_is_done_another_way() {
    let world = World::with("", false);
    let lines = "[key-manager.ksk]\nroll-type = \"double-ds\"\nvalidity = \"forever\"\n";
    let mut world = world;
    world.child_policy(lines);
    world.site.ok(&["policy", "reload", "--yes"]);
    world.drive("first keys settle", DAY, |w| w.rolls().is_empty());
    world.site.ok(&["keyset", ZONE, "ksk", "start-roll"]);
    let rolls = world.rolls();
    assert_eq!(rolls[0]["type"], "double-signature", "{rolls:#?}");
    let why = world.site.ok(&["zone", "why", ZONE]);
    assert!(why.contains("the parent has never shown a DS"), "{why}");
    // Nobody validates below a parent that has no DS: by hours, or it takes minutes.
    for _ in 0..20 * 24 {
        if within(Duration::from_millis(500), || {
            world.rolls().is_empty().then_some(())
        })
        .is_some()
        {
            return;
        }
        world.site.advance(Duration::from_secs(3600));
    }
    panic!("the roll does not end: {:#?}", world.rolls());
}

/// Values of the metric on the page, with their labels.
fn values(world: &World, metric: &str) -> Vec<(String, f64)> {
    let page = world.site.request("GET", "/metrics", None).unwrap().body;
    let of = |l: &str| {
        let rest = l.strip_prefix(metric)?;
        let (labels, value) = rest.strip_prefix('{')?.rsplit_once("} ")?;
        Some((labels.to_string(), value.parse().ok()?))
    };
    page.lines().filter_map(of).collect()
}

/// The values for which a rule of the form `metric > number` fires; the rule is read from the file
/// that we ship.
fn firing(world: &World, alert: &str) -> Vec<f64> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../packaging/monitoring/alerts.yml");
    let rules = std::fs::read_to_string(file).unwrap();
    let rule = rules
        .split("- alert: ")
        .find(|r| r.starts_with(&format!("{alert}\n")))
        .unwrap();
    let (_, rest) = rule.split_once("expr: ").unwrap();
    let (metric, limit) = rest.lines().next().unwrap().split_once(" > ").unwrap();
    let limit: f64 = limit.parse().unwrap();
    let all = values(world, metric).into_iter();
    all.map(|(_, v)| v).filter(|v| *v > limit).collect()
}

#[test]
fn the_alert_of_a_late_parent_fires_and_ends() {
    let mut world = World::new("");
    world.link();
    let of_zone = |w: &World, metric: &str| -> f64 {
        let all = values(w, metric);
        let zone = format!("zone=\"{ZONE}\"");
        let mut found = all.iter().filter(|(l, _)| l.contains(&zone));
        found.next().unwrap().1
    };
    assert_eq!(firing(&world, "CascadeParentLate"), Vec::<f64>::new());
    let fits = |w: &World| of_zone(w, "cascade_ds_matches") == 1.0;
    world.drive("the parent fits", DAY, fits);
    let active = |w: &World| {
        let all = values(w, "cascade_key_state").into_iter();
        all.filter(|(l, v)| l.contains(ZONE) && l.contains("state=\"active\"") && *v == 1.0)
            .count()
    };
    assert_eq!(active(&world), 2);
    world.follows = false;
    world.site.ok(&["keyset", ZONE, "ksk", "start-roll"]);
    let asks = |w: &World| {
        let all = values(w, "cascade_roll_active");
        all.iter()
            .any(|(l, _)| l.contains("kind=\"ksk\"") && l.contains("waits_for=\"ds\""))
    };
    world.drive("the roll waits for the parent", DAY, asks);
    assert_eq!(firing(&world, "CascadeParentLate"), Vec::<f64>::new());
    world.site.advance(DAY + Duration::from_secs(600));
    world.drive("the rule fires", DAY, |w| {
        firing(w, "CascadeParentLate").len() == 1
    });
    assert!(of_zone(&world, "cascade_roll_step_wait_seconds") > 86_400.0);
    assert_eq!(of_zone(&world, "cascade_ds_matches"), 0.0);
    world.put_ds();
    world.drive("it ends", DAY, |w| {
        firing(w, "CascadeParentLate").is_empty() && fits(w)
    });
}
