//! Somebody sets the clock of the machine.

use cascade_e2e::{Site, until};

use crate::common::{SEED, add, change, seed_with_serial};

const ZONE: &str = "example.net";
const HOUR: i64 = 3600;
/// In 2030.
const BEGIN: i64 = 1_893_456_000;

fn site() -> Site {
    let mut site = Site::new();
    site.begin_at(BEGIN);
    site.start();
    site.policy("p", "");
    site.ok(&["policy", "reload"]);
    add(&site, ZONE, SEED);
    site.await_published(ZONE, 1);
    site
}

/// Waits until everybody is told; a change does not get through.
fn held(site: &Site, words: &str, next: u32) {
    until("the alarm", || {
        site.ok(&["why", ZONE]).contains(words).then_some(())
    });
    let health = site.cascade(&["health"]).expect(7);
    assert!(health.stdout.contains("cascade clock confirm"), "{health}");
    let metrics = site.request("GET", "/metrics", None).unwrap().body;
    assert!(metrics.contains("\ncascade_clock_held 1\n"), "{metrics}");
    let served = site.served_serial(ZONE);
    change(site, ZONE, &seed_with_serial(next));
    site.await_status(ZONE, "the candidate waits", |s| {
        s.to_string().contains("clock")
    });
    assert_eq!(site.served_serial(ZONE), served);
    let step = site.cascade(&["keyset", ZONE, "zsk", "cache-expired1"]);
    assert_ne!(step.code, Some(0), "{step}");
}

#[test]
fn a_step_of_the_clock_holds_everything_until_it_is_confirmed() {
    let mut site = site();
    // Not a step: it may be so much off.
    site.step(HOUR / 2);
    change(&site, ZONE, &seed_with_serial(2));
    site.await_published(ZONE, 2);
    let none = site.cascade(&["clock", "confirm"]).expect(1);
    none.complains(&["there is nothing to confirm"]);

    site.step(3 * HOUR);
    held(&site, "put forward by 3h", 3);
    // A restart does not make it right.
    let now = site.now();
    site.kill();
    site.begin_at(now);
    site.start();
    until("still held", || {
        site.ok(&["why", ZONE])
            .contains("put forward by 3h")
            .then_some(())
    });
    let said = site.ok(&["clock", "confirm"]);
    assert!(said.contains("forward; 1 zone goes on"), "{said}");
    site.await_published(ZONE, 3);
    let log = site.log();
    assert!(log.contains("the clock cannot be trusted"), "{log}");

    // Back again, which is a step as well; and it is taken back by whoever made it.
    site.step(-3 * HOUR);
    held(&site, "put back by 3h", 4);
    site.step(3 * HOUR);
    site.await_published(ZONE, 4);
    site.cascade(&["health"]).expect(0);
    site.stop();
}

/// With `clock.require-sync` as this.
fn require(site: &Site, word: &str) {
    let config = site.config().replace(
        "require-sync = \"off\"",
        &format!("require-sync = \"{word}\""),
    );
    site.write("config.toml", &config);
    site.signal(nix::sys::signal::Signal::SIGHUP);
}

fn metric(site: &Site, line: &str) {
    until(line, || {
        let metrics = site.request("GET", "/metrics", None).unwrap().body;
        metrics.lines().any(|l| l == line).then_some(())
    });
}

#[test]
fn a_clock_that_nobody_steers_is_told_or_holds_everything() {
    let mut site = site();
    site.synchronised("no");
    // Nobody asks.
    site.cascade(&["health"]).expect(0);
    assert!(
        !site
            .request("GET", "/metrics", None)
            .unwrap()
            .body
            .contains("\ncascade_clock_synchronised ")
    );

    require(&site, "warn");
    metric(&site, "cascade_clock_synchronised 0");
    until("health warns", || {
        let health = site.cascade(&["health"]);
        health.stdout.contains("not synchronised").then_some(())
    });
    assert_eq!(site.cascade(&["health"]).code, Some(8));
    change(&site, ZONE, &seed_with_serial(2));
    site.await_published(ZONE, 2);
    let served = site.served_serial(ZONE);

    require(&site, "hold");
    metric(&site, "cascade_clock_held 1");
    until("the zone says so", || {
        let why = site.ok(&["why", ZONE]);
        why.contains("require-sync to \"warn\"").then_some(why)
    });
    let health = site.cascade(&["health"]).expect(7);
    assert!(!health.stdout.contains("clock confirm"), "{health}");
    let refused = site.cascade(&["clock", "confirm"]);
    assert_ne!(refused.code, Some(0), "{refused}");
    refused.complains(&["not synchronised"]);
    change(&site, ZONE, &seed_with_serial(3));
    site.await_status(ZONE, "the candidate waits", |s| {
        s.to_string().contains("clock")
    });
    assert_eq!(site.served_serial(ZONE), served);

    // A step besides; to confirm it is not to confirm the other.
    site.step(3 * HOUR);
    until("the step is told", || {
        site.ok(&["why", ZONE])
            .contains("put forward by 3h")
            .then_some(())
    });
    site.ok(&["clock", "confirm"]);
    until("the other reason is told again", || {
        site.ok(&["why", ZONE])
            .contains("not synchronised")
            .then_some(())
    });
    assert_eq!(site.served_serial(ZONE), served);

    // A restart knows it at once; the test's kernel says yes after it.
    site.synchronised("unknown");
    until("that the kernel does not answer is no yes", || {
        site.ok(&["why", ZONE])
            .contains("does not say")
            .then_some(())
    });
    let now = site.now();
    site.kill();
    site.begin_at(now);
    site.start();
    site.await_published(ZONE, 3);
    metric(&site, "cascade_clock_synchronised 1");
    metric(&site, "cascade_clock_held 0");
    site.cascade(&["health"]).expect(0);
    site.stop();
}

/// Time that passes, even much of it at once, is no step.
#[test]
fn a_day_of_sleep_is_no_step() {
    let site = site();
    site.advance(std::time::Duration::from_secs(86_400));
    change(&site, ZONE, &seed_with_serial(2));
    site.await_published(ZONE, 2);
    assert!(!site.log().contains("the clock cannot be trusted"));
}
