//! Another denial of existence for a zone that is too large to be signed in a moment: the new records
//! are built beside the old ones while everything goes on, and one version switches. Foreign judges
//! and a validating resolver look at every step.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use cascade_e2e::{Bridge, Server, Site, within};

use crate::common::{change, seed_with_serial};
use crate::hsms::{add_zone, policy, walk};
use crate::validity::judge;

const ZONE: &str = "big.example";
/// More than a job that switches at once may sign with a token.
const HOSTS: usize = 6000;

fn hosts(serial: u32) -> String {
    let mut text = seed_with_serial(serial).replace("example.net", ZONE);
    for i in 0..HOSTS {
        text.push_str(&format!("host{i} IN A 192.0.2.{}\n", i % 250 + 1));
    }
    text
}

/// All of the zone by the judges, and by a resolver that knows nothing: data, and a name that is not.
#[track_caller]
fn valid(site: &Site, anchor: &str, when: &str) {
    judge(site, ZONE);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap().as_secs() as i64;
    let resolver = Server::unbound(&[(ZONE, &[site.publication_port()])], anchor, now);
    resolver.must_validate(ZONE, "SOA", when);
    resolver.must_validate(&format!("host7.{ZONE}"), "A", when);
    for (name, rtype, status) in [
        ("nobody", "A", "NXDOMAIN"),
        ("host7.x.y", "A", "NXDOMAIN"),
        ("host9", "AAAA", "NOERROR"),
    ] {
        let answer = resolver.ask(&["+dnssec", &format!("{name}.{ZONE}"), rtype]);
        let good = answer.status == status && answer.has_flag("ad") && answer.answer.is_empty();
        assert!(
            good,
            "{when}: {name} {rtype}: {}\n{}",
            answer.text,
            resolver.log()
        );
    }
}

fn is_nsec3(site: &Site) -> bool {
    let shown = site.ask(&[ZONE, "NSEC3PARAM"]);
    !shown.rdata("NSEC3PARAM").is_empty()
}

/// Waits for what the status says of the change; `None`: there is none (any more).
fn building(site: &Site) -> Option<(u64, u64)> {
    let status = site.status(ZONE);
    let change = &status["signing"]["denial_change"];
    Some((change["parts_done"].as_u64()?, change["parts"].as_u64()?))
}

#[track_caller]
fn await_building(site: &Site, more_than: u64) -> u64 {
    let got = within(cascade_e2e::PATIENCE, || {
        building(site).filter(|(done, _)| *done > more_than)
    });
    let Some((done, all)) = got else {
        panic!("{:#}\n{}", site.status(ZONE), site.log());
    };
    assert!(done < all, "{done} of {all}");
    assert!(!is_nsec3(site), "nothing of the new chain is in service");
    done
}

#[test]
fn a_large_zone_changes_its_denial_beside_everything_else() {
    let Some(bridge) = Bridge::netlike() else {
        return;
    };
    let mut site = walk(&bridge, &[]);
    add_zone(&site, ZONE, &hosts(1));
    site.await_published(ZONE, 1);
    let keys = site.ask(&[ZONE, "DNSKEY"]).rdata("DNSKEY");
    let ksk = keys.iter().find(|k| k.starts_with("257 ")).unwrap();
    let anchor = format!("{ZONE}. IN DNSKEY {ksk}");
    valid(&site, &anchor, "with NSEC");

    // From now on the token is slow: the chain takes a while.
    bridge.manners("latency-us = 1000000\n");
    policy(
        &site,
        "nethsm",
        &[("[signer.denial] type = \"nsec\"", "type = \"nsec3\"")],
    );
    site.ok(&["policy", "reload", "--yes"]);
    let done = await_building(&site, 0);
    valid(&site, &anchor, "while the chain is built");
    let text = site.ok(&["zone", "status", ZONE]);
    assert!(text.contains("other NSEC(3) records"), "{text}");

    // Content does not wait for it, and what is built is not lost.
    change(&site, ZONE, &hosts(2));
    site.await_published(ZONE, 2);
    valid(&site, &anchor, "after a change in the middle");
    await_building(&site, done);

    // A restart costs what was built, and nothing else.
    let serial = site.served_serial(ZONE);
    site.kill();
    site.start();
    site.await_published(ZONE, 2);
    assert_eq!(site.served_serial(ZONE), serial);
    valid(&site, &anchor, "after a restart in the middle");
    await_building(&site, 0);

    bridge.manners("latency-us = 0\n");
    let switched = within(Duration::from_secs(120), || is_nsec3(&site).then_some(()));
    assert!(
        switched.is_some(),
        "{:#}\n{}",
        site.status(ZONE),
        site.log()
    );
    valid(&site, &anchor, "with NSEC3");
    assert_eq!(building(&site), None);
    assert_eq!(site.served_serial(ZONE), serial + 1, "one version switches");

    // And back.
    policy(&site, "nethsm", &[]);
    site.ok(&["policy", "reload", "--yes"]);
    let back = within(Duration::from_secs(120), || {
        (!is_nsec3(&site)).then_some(())
    });
    assert!(back.is_some(), "{:#}\n{}", site.status(ZONE), site.log());
    valid(&site, &anchor, "with NSEC again");
    assert_eq!(site.served_serial(ZONE), serial + 2);
    let history = site.ok(&["zone", "history", ZONE]);
    assert!(
        history.contains("built beside the one in service"),
        "{history}"
    );
}

/// Changes that come one after the other: each is served at once, and the chain grows all the same.
#[test]
fn a_stream_of_changes_does_not_keep_the_new_chain_away() {
    let Some(bridge) = Bridge::netlike() else {
        return;
    };
    let site = walk(&bridge, &[]);
    let file = site.write("zones/begin", &hosts(1));
    let source = format!("update:{}", file.display());
    site.ok(&[
        "zone", "add", ZONE, "--source", &source, "--policy", "nethsm",
    ]);
    site.await_published(ZONE, 1);
    bridge.manners("latency-us = 200000\n");
    let over = AtomicBool::new(false);
    let stream = |client: usize| {
        let mut made = Vec::new();
        for i in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let name = format!("c{client}n{i}");
            let text = format!("update add {name}.{ZONE}. 60 A 192.0.2.1\n");
            let file = site.write(&format!("update-{client}"), &text);
            site.cascade(&["zone", "update", ZONE, file.to_str().unwrap()])
                .expect(0);
            made.push(name);
        }
        made
    };
    let made: Vec<String> = thread::scope(|s| {
        let stream = &stream;
        let clients: Vec<_> = (0..3).map(|c| s.spawn(move || stream(c))).collect();
        thread::sleep(Duration::from_secs(1));
        let nsec3 = ("[signer.denial] type = \"nsec\"", "type = \"nsec3\"");
        policy(&site, "nethsm", &[nsec3]);
        site.ok(&["policy", "reload", "--yes"]);
        let before = site.served_serial(ZONE);
        let switched = within(Duration::from_secs(120), || is_nsec3(&site).then_some(()));
        let during = site.served_serial(ZONE) - before;
        thread::sleep(Duration::from_millis(500));
        over.store(true, Ordering::Relaxed);
        let made = clients
            .into_iter()
            .flat_map(|c| c.join().unwrap())
            .collect();
        assert!(
            switched.is_some(),
            "{:#}\n{}",
            site.status(ZONE),
            site.log()
        );
        assert!(during > 5, "{during} versions while the chain was built");
        made
    });
    let keys = site.ask(&[ZONE, "DNSKEY"]).rdata("DNSKEY");
    let ksk = keys.iter().find(|k| k.starts_with("257 ")).unwrap();
    valid(
        &site,
        &format!("{ZONE}. IN DNSKEY {ksk}"),
        "after the stream",
    );
    for name in &made {
        let answer = site.ask(&[&format!("{name}.{ZONE}"), "A"]);
        assert_eq!(answer.rdata("A"), ["192.0.2.1"], "{name}");
    }
    eprintln!("{} changes", made.len());
}
