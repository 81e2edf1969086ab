//! Reviews by programs, with programs of every kind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cascade_e2e::{Site, until, within};

use crate::common::{SEED, add, seed_with_serial, site_with_policy};

const ZONE: &str = "example.net";

/// A running site whose policy has this script review the unsigned or the signed zone.
fn site_with_hook(section: &str, script: &str, more: &str) -> (Site, PathBuf) {
    let site = Site::started();
    let here = site.folder().display().to_string();
    let hook = site.script("hook.sh", &script.replace("{here}", &here));
    site.policy(
        "p",
        &format!(
            "[{section}.review]\nmode = \"script\"\nhook = \"{}\"\n{more}",
            hook.display()
        ),
    );
    site.ok(&["policy", "reload"]);
    (site, hook)
}

fn exists(site: &Site, name: &str) -> bool {
    site.path(name).exists()
}

/// The number that a script wrote into a file, as soon as it has.
#[track_caller]
fn pid_in(path: &Path) -> u32 {
    until("the hook's process id", || {
        fs::read_to_string(path).ok()?.trim().parse().ok()
    })
}

#[track_caller]
fn await_gone(pid: u32) {
    let gone = within(Duration::from_secs(25), || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
    assert!(gone.is_some(), "process {pid} of the hook lives on");
}

#[test]
fn a_hook_approves_after_having_looked() {
    // It does what a real one does: asks the review server that it was told.
    let script = "\
env | grep ^CASCADE_ | sort > {here}/environment
dig -r @$CASCADE_SERVER_IP -p $CASCADE_SERVER_PORT $CASCADE_ZONE SOA +short > {here}/soa || exit 1
[ -s {here}/soa ] || exit 1
pwd > {here}/cwd
exit 0
";
    for section in ["loader", "signer"] {
        let (site, _) = site_with_hook(section, script, "");
        add(&site, ZONE, SEED);
        site.await_published(ZONE, 1);
        let environment = fs::read_to_string(site.path("environment")).unwrap();
        let stage = if section == "loader" {
            "unsigned"
        } else {
            "signed"
        };
        let (port, serial) = if section == "loader" {
            (site.unsigned_review_port(), 1)
        } else {
            (site.signed_review_port(), site.served_serial(ZONE))
        };
        for line in [
            "CASCADE_ZONE=example.net".to_owned(),
            format!("CASCADE_SERIAL={serial}"),
            format!("CASCADE_STAGE={stage}"),
            "CASCADE_UNSIGNED_SERIAL=1".into(),
            "CASCADE_POLICY=p".into(),
            format!("CASCADE_SERVER=127.0.0.1:{port}"),
            "CASCADE_SERVER_IP=127.0.0.1".into(),
            format!("CASCADE_SERVER_PORT={port}"),
        ] {
            assert!(
                environment.lines().any(|l| l == line),
                "no {line} in\n{environment}"
            );
        }
        let soa = fs::read_to_string(site.path("soa")).unwrap();
        assert!(soa.contains(&format!(" {serial} 86400 ")), "{soa}");
        let cwd = fs::read_to_string(site.path("cwd")).unwrap();
        assert_ne!(
            cwd.trim(),
            std::env::current_dir().unwrap().display().to_string()
        );
    }
}

#[test]
fn a_hook_rejects_with_a_reason() {
    let script = "echo 'the moon is in the wrong place'; exit 3\n";
    let (site, _) = site_with_hook("loader", script, "on-reject = \"halt\"\n");
    add(&site, ZONE, SEED);
    site.await_state(ZONE, "halted");
    let text = site.ok(&["zone", "status", ZONE]);
    assert!(text.contains("the moon is in the wrong place"), "{text}");
    assert!(text.contains("Try: cascade zone "), "{text}");
    assert_eq!(site.ask(&[ZONE, "SOA"]).status, "SERVFAIL");
    site.ok(&["zone", "override", "--unsigned", ZONE, "--yes"]);
    site.await_published(ZONE, 1);
}

#[test]
fn a_rejected_version_does_not_touch_the_published_one() {
    let script = "[ $CASCADE_SERIAL = 1 ] && exit 0\nexit 1\n";
    let (site, _) = site_with_hook("loader", script, "");
    add(&site, ZONE, SEED);
    site.await_published(ZONE, 1);
    let serial = site.served_serial(ZONE);
    crate::common::change(&site, ZONE, &seed_with_serial(2));
    until("the rejection in the history", || {
        site.ok(&["zone", "history", ZONE])
            .contains("rejected")
            .then_some(())
    });
    assert_eq!(site.served_serial(ZONE), serial);
    assert_eq!(site.status(ZONE)["state"], "published");
}

#[test]
fn a_hook_that_hangs_is_ended_and_gives_no_verdict() {
    // The script's own child is part of what must go.
    let script = "sleep 1000 &\necho $! > {here}/child\necho $$ > {here}/pid\nwait\n";
    let (site, _) = site_with_hook("loader", script, "timeout = \"1s\"\n");
    add(&site, ZONE, SEED);
    let (pid, child) = (pid_in(&site.path("pid")), pid_in(&site.path("child")));
    await_gone(pid);
    await_gone(child);
    let status = site.await_state(ZONE, "unsigned-review");
    assert_ne!(
        status["reviews"]["unsigned"]["status"], "rejected",
        "{status:#}"
    );
    let text = site.ok(&["zone", "status", ZONE]);
    assert!(
        text.contains("cascade zone approve --unsigned example.net 1"),
        "{text}"
    );
    site.ok(&["zone", "approve", "--unsigned", ZONE, "1"]);
    site.await_published(ZONE, 1);
}

#[test]
fn a_hook_that_hangs_is_a_rejection_where_the_policy_says_so() {
    let more = "timeout = \"1s\"\non-timeout = \"reject\"\non-reject = \"halt\"\n";
    let (site, _) = site_with_hook("loader", "exec sleep 1000\n", more);
    add(&site, ZONE, SEED);
    site.await_state(ZONE, "halted");
}

#[test]
fn a_hook_that_hangs_delays_no_other_zone() {
    let (site, _) = site_with_hook("loader", "exec sleep 1000\n", "timeout = \"5m\"\n");
    site.policy("q", "");
    site.ok(&["policy", "reload"]);
    add(&site, ZONE, SEED);
    site.await_state(ZONE, "unsigned-review");
    let other = site.write("zones/other", &SEED.replace("example.net", "example.org"));
    let other = other.to_str().unwrap();
    site.ok(&[
        "zone",
        "add",
        "example.org",
        "--source",
        other,
        "--policy",
        "q",
    ]);
    site.await_published("example.org", 1);
    assert_eq!(site.status(ZONE)["state"], "unsigned-review");
    // A person need not wait for the program.
    site.ok(&["zone", "approve", "--unsigned", ZONE, "1"]);
    site.await_published(ZONE, 1);
}

#[test]
fn a_hook_that_floods_is_heard_out_within_bounds() {
    let script =
        "head -c 50000000 /dev/zero | tr '\\0' 'x'\nhead -c 5000000 /dev/zero >&2\nexit 0\n";
    let (mut site, _) = site_with_hook("loader", script, "");
    add(&site, ZONE, SEED);
    site.await_published(ZONE, 1);
    assert!(site.is_running());
    assert!(site.log().len() < 5_000_000, "the flood went into the log");
    let status = fs::read_to_string(format!("/proc/{}/status", site.pid().unwrap())).unwrap();
    let peak = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let peak: u64 = peak.unwrap().trim().parse().unwrap();
    assert!(peak < 400_000, "{peak} KiB for a hook's output");
}

#[test]
fn a_hook_that_crashes_gives_no_verdict() {
    let (site, _) = site_with_hook("loader", "kill -SEGV $$\n", "on-reject = \"halt\"\n");
    add(&site, ZONE, SEED);
    let status = site.await_state(ZONE, "unsigned-review");
    assert_ne!(
        status["reviews"]["unsigned"]["status"], "rejected",
        "{status:#}"
    );
    until("the failure in the history", || {
        site.ok(&["zone", "history", ZONE])
            .to_lowercase()
            .contains("hook")
            .then_some(())
    });
    assert_eq!(site.status(ZONE)["state"], "unsigned-review");
    site.ok(&["zone", "reject", "--unsigned", ZONE, "1"]);
    site.await_state(ZONE, "halted");
}

#[test]
fn a_hook_that_is_missing_is_told_at_reload_and_gives_no_verdict() {
    let site = Site::started();
    site.policy(
        "p",
        "[signer.review]\nmode = \"script\"\nhook = \"/no/such/hook --strict\"\n",
    );
    site.cascade(&["policy", "reload"])
        .expect(0)
        .complains(&["/no/such/hook"]);
    add(&site, ZONE, SEED);
    site.await_state(ZONE, "signed-review");
    let text = site.ok(&["zone", "status", ZONE]);
    assert!(text.contains("/no/such/hook"), "{text}");
    let serial = cascade_e2e::dig(site.signed_review_port(), &[ZONE, "SOA"])
        .serial()
        .unwrap();
    site.ok(&["zone", "approve", "--signed", ZONE, &serial.to_string()]);
    site.await_published(ZONE, 1);
}

#[test]
fn a_hook_that_asks_for_time_is_run_again() {
    let script = "[ -e {here}/once ] && exit 0\ntouch {here}/once\nexit 75\n";
    let (site, _) = site_with_hook("loader", script, "");
    add(&site, ZONE, SEED);
    until("the first run", || exists(&site, "once").then_some(()));
    let state = site.status(ZONE)["state"].clone();
    assert!(
        state == "unsigned-review" || state == "published",
        "{state}"
    );
}

#[test]
fn the_words_of_a_hook_are_not_seen_by_a_shell() {
    let site = Site::started();
    let hook = site.script(
        "hook.sh",
        &format!("echo \"$1\" > {}/seen\n", site.folder().display()),
    );
    let line = format!("{} '$HOME; touch x' two", hook.display());
    site.policy(
        "p",
        &format!("[loader.review]\nmode = \"script\"\nhook = \"{line}\"\n"),
    );
    let reload = site.cascade(&["policy", "reload"]);
    if reload.code == Some(0) {
        add(&site, ZONE, SEED);
        site.await_published(ZONE, 1);
        assert_eq!(
            fs::read_to_string(site.path("seen")).unwrap(),
            "$HOME; touch x\n"
        );
    } else {
        // Also right: quoted or not, it looks like shell, and the policy must say which it is.
        reload.expect(1).complains(&["hook-shell"]);
    }
}

#[test]
fn no_hook_outlives_the_reset_of_its_candidate() {
    let script = "echo $$ > {here}/pid\nexec sleep 1000\n";
    let (site, _) = site_with_hook("loader", script, "");
    add(&site, ZONE, SEED);
    let pid = pid_in(&site.path("pid"));
    site.ok(&["zone", "reset", ZONE]);
    await_gone(pid);
    site.ok(&["zone", "remove", ZONE, "--yes"]);
    assert_eq!(site.ask(&[ZONE, "SOA"]).status, "REFUSED");
}

#[test]
fn no_hook_at_all_where_reviews_are_off() {
    let site = site_with_policy("");
    add(&site, ZONE, SEED);
    let status = site.await_published(ZONE, 1);
    assert_eq!(status["reviews"]["unsigned"]["mode"], "off");
    assert_eq!(status["reviews"]["signed"]["mode"], "off");
}
