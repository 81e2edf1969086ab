//! Power cuts, and stops that were asked for, in the middle of everything.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use cascade_e2e::{Site, dig, until};

use crate::common::{SEED, add, add_file, change, seed_with_serial, site_with_policy};

const ZONE: &str = "example.net";

/// Every record with its signatures, as a transfer gives it.
fn transferred(site: &Site, zone: &str) -> String {
    let path = site.path("copy");
    cascade_e2e::transfer(site.publication_port(), zone, &path).unwrap();
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_published_zone_is_served_again_without_signing() {
    let mut site = site_with_policy("");
    add(&site, ZONE, SEED);
    site.await_published(ZONE, 1);
    let before = transferred(&site, ZONE);
    // The source is not needed to serve what was published.
    fs::remove_file(site.path("zones/example.net")).unwrap();
    for kill in [true, false] {
        if kill {
            site.kill();
        } else {
            assert_eq!(site.stop(), Some(0), "{}", site.log());
        }
        site.start();
        // Ready means served: no waiting here.
        assert_eq!(transferred(&site, ZONE), before);
        // It is looked for, though, and what is published stays.
        site.await_state(ZONE, "published");
    }
    let policies = site.ok(&["policy", "list", "-q"]);
    assert_eq!(policies, "p\n");
}

#[test]
fn an_acknowledged_zone_is_not_lost() {
    for _ in 0..5 {
        let mut site = site_with_policy("");
        add(&site, ZONE, SEED);
        site.kill();
        site.start();
        site.await_published(ZONE, 1);
        assert_eq!(site.ok(&["zone", "list", "-q"]), "example.net\n");
    }
}

#[test]
fn a_held_unsigned_zone_is_still_held() {
    let mut site = site_with_policy("[loader.review]\nmode = \"manual\"\n");
    add(&site, ZONE, SEED);
    site.await_state(ZONE, "unsigned-review");
    // What was reviewed is what is approved, whatever became of the file.
    site.write("zones/example.net", &seed_with_serial(2));
    site.kill();
    site.start();
    site.await_state(ZONE, "unsigned-review");
    assert_eq!(
        dig(site.unsigned_review_port(), &[ZONE, "SOA"]).serial(),
        Some(1)
    );
    site.ok(&["zone", "approve", "--unsigned", ZONE, "1"]);
    site.await_status(ZONE, "published", |status| !status["published"].is_null());
}

#[test]
fn a_held_signed_zone_is_still_held_with_its_serial() {
    let mut site = site_with_policy("[signer.review]\nmode = \"manual\"\n");
    add(&site, ZONE, SEED);
    site.await_state(ZONE, "signed-review");
    let serial = dig(site.signed_review_port(), &[ZONE, "SOA"])
        .serial()
        .unwrap();
    site.kill();
    site.start();
    site.await_state(ZONE, "signed-review");
    assert_eq!(
        dig(site.signed_review_port(), &[ZONE, "SOA"]).serial(),
        Some(serial)
    );
    assert_eq!(site.ask(&[ZONE, "SOA"]).status, "SERVFAIL");
    site.ok(&["zone", "approve", "--signed", ZONE, &serial.to_string()]);
    site.await_published(ZONE, 1);
}

#[test]
fn an_approval_that_was_acknowledged_holds() {
    let mut site = site_with_policy("[loader.review]\nmode = \"manual\"\n");
    add(&site, ZONE, SEED);
    site.await_state(ZONE, "unsigned-review");
    site.ok(&["zone", "approve", "--unsigned", ZONE, "1"]);
    site.kill();
    site.start();
    site.await_published(ZONE, 1);
}

#[test]
fn a_halted_zone_is_still_halted_and_can_be_overridden() {
    let mut site = site_with_policy("[signer.review]\nmode = \"manual\"\non-reject = \"halt\"\n");
    add(&site, ZONE, SEED);
    site.await_state(ZONE, "signed-review");
    let serial = dig(site.signed_review_port(), &[ZONE, "SOA"])
        .serial()
        .unwrap();
    site.ok(&["zone", "reject", "--signed", ZONE, &serial.to_string()]);
    site.await_state(ZONE, "halted");
    site.kill();
    site.start();
    site.await_state(ZONE, "halted");
    site.ok(&["zone", "override", "--signed", ZONE, "--yes"]);
    site.await_published(ZONE, 1);
    assert!(site.served_serial(ZONE) >= serial);
}

#[test]
fn a_rejection_is_not_forgotten() {
    let mut site = site_with_policy("[loader.review]\nmode = \"manual\"\n");
    add(&site, ZONE, SEED);
    site.await_state(ZONE, "unsigned-review");
    site.ok(&["zone", "reject", "--unsigned", ZONE, "1"]);
    site.kill();
    site.start();
    assert_eq!(site.ask(&[ZONE, "SOA"]).status, "SERVFAIL");
    let history = site.ok(&["zone", "history", ZONE]);
    assert!(history.contains("rejected"), "{history}");
}

#[test]
fn a_hook_that_was_running_runs_again() {
    for section in ["loader", "signer"] {
        let mut site = Site::started();
        let here = site.folder().display();
        let script = format!(
            "[ -e {here}/once ] && exit 0\necho $$ > {here}/pid\ntouch {here}/once\nexec sleep 1000\n"
        );
        let hook = site.script("hook.sh", &script);
        let hook = hook.display();
        site.policy(
            "p",
            &format!("[{section}.review]\nmode = \"script\"\nhook = \"{hook}\"\n"),
        );
        site.ok(&["policy", "reload"]);
        add(&site, ZONE, SEED);
        until("the hook", || site.path("once").exists().then_some(()));
        site.kill();
        site.start();
        site.await_published(ZONE, 1);
        // What a power cut would have ended as well.
        let pid = fs::read_to_string(site.path("pid")).unwrap();
        let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
}

#[test]
fn killed_at_any_moment_of_the_first_publication() {
    let root = fs::read_to_string(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/root-2018013000.zone"),
    )
    .unwrap();
    let mut site = site_with_policy("");
    let file = site.write("zones/root", &root);
    add_file(&site, ".", &file);
    for pause in [0, 5, 20, 60, 150, 300, 500] {
        thread::sleep(Duration::from_millis(pause));
        site.kill();
        site.start();
    }
    site.await_published(".", 2018013000);
    assert_eq!(site.ask(&[".", "SOA"]).status, "NOERROR");
}

#[test]
fn killed_between_versions_the_serial_never_goes_back() {
    let mut site = site_with_policy("");
    add(&site, ZONE, SEED);
    site.await_published(ZONE, 1);
    let mut last = site.served_serial(ZONE);
    for serial in 2..8 {
        change(&site, ZONE, &seed_with_serial(serial));
        thread::sleep(Duration::from_millis(u64::from(serial) * 4));
        site.kill();
        site.start();
        let now = site.served_serial(ZONE);
        assert!(now >= last, "serial {now} after {last}");
        last = now;
    }
    site.ok(&["zone", "reload", ZONE]);
    site.await_published(ZONE, 7);
    assert!(site.served_serial(ZONE) >= last);
    assert_eq!(site.ask(&["v7.example.net", "A"]).rdata("A"), ["192.0.2.2"]);
}

#[test]
fn stopping_is_quick_and_says_so() {
    let mut site =
        site_with_policy("[loader.review]\nmode = \"script\"\nhook = \"/bin/sleep 1000\"\n");
    add(&site, ZONE, SEED);
    site.await_state(ZONE, "unsigned-review");
    let begun = Instant::now();
    assert_eq!(site.stop(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(
        site.log().contains("Cascade is fully initialized."),
        "{}",
        site.log()
    );
}

#[test]
fn two_daemons_do_not_share_a_state() {
    let site = Site::started();
    let second = site.cascaded(&["--config", site.path("config.toml").to_str().unwrap()]);
    let said = format!("{}{}", second.stdout, second.stderr);
    assert_eq!(second.code, Some(1), "{second}");
    assert!(
        said.contains(&site.pid().unwrap().to_string()) || said.contains("in use"),
        "{said}"
    );
}

/// The first version that the log says was published from here on: its serial.
fn first_published(log: &str) -> Option<u32> {
    let line = log
        .lines()
        .find(|l| l.contains(&format!("Published zone {ZONE} ")))?;
    let serial = line.split("serial ").last()?;
    serial.split_whitespace().next()?.parse().ok()
}

/// Off for three months: nobody is shown the signatures that ended, not even for a moment, and when no
/// others can be made the zone is served as it is, with an alarm.
#[test]
fn signatures_that_ended_while_the_daemon_was_off() {
    // 2030-01-01 and 2030-04-01.
    let (then, now) = (1_893_456_000, 1_901_232_000);
    for keys_are_gone in [false, true] {
        let mut site = Site::new();
        site.begin_at(then);
        site.start();
        site.policy("p", "");
        site.ok(&["policy", "reload"]);
        add(&site, ZONE, SEED);
        site.await_published(ZONE, 1);
        let serial = site.served_serial(ZONE);
        assert_eq!(site.stop(), Some(0));
        let keys = site.path("state/keys");
        assert!(keys.exists(), "{}", keys.display());
        let aside = site.path("state/keys-aside");
        if keys_are_gone {
            fs::rename(&keys, &aside).unwrap();
        }
        let before = site.log().len();
        site.begin_at(now);
        site.start();
        let answer = until("it is served", || {
            let answer = site.ask(&["+dnssec", ZONE, "SOA"]);
            (answer.status == "NOERROR").then_some(answer)
        });
        let log = site.log().split_off(before);
        let first = first_published(&log).unwrap_or_else(|| panic!("{log}"));
        let ends: Vec<String> = answer
            .rdata("RRSIG")
            .iter()
            .filter_map(|r| Some(r.split_whitespace().nth(4)?.to_string()))
            .collect();
        assert!(!ends.is_empty(), "{}", answer.text);
        let ended = ends.iter().any(|e| e.as_str() < "20300401000000");
        if !keys_are_gone {
            assert!(first > serial, "{first} after {serial}\n{log}");
            assert!(!ended, "{}", answer.text);
            continue;
        }
        assert_eq!(first, serial);
        assert!(ended, "{}", answer.text);
        let health = site.cascade(&["health"]);
        assert!(health.code != Some(0), "{health}");
        fs::remove_dir_all(&keys).ok();
        fs::rename(&aside, &keys).unwrap();
        site.stop();
        site.start();
        until("it is signed again", || {
            (site.served_serial(ZONE) > serial).then_some(())
        });
    }
}
