//! Zones whose content is changed by DNS UPDATE and `cascade zone update`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cascade_e2e::{Site, until};
use nix::sys::signal::Signal;

use crate::common::{SEED, add};
use crate::validity::judge;

const ZONE: &str = "example.net";
const ALL: (&str, &str) = ("all", "c2VjcmV0IG9mIHRoZSBrZXkgYWxsMTIzNDU2Nzg5MDA=");
const DHCP: (&str, &str) = ("dhcp", "c2VjcmV0IG9mIHRoZSBrZXkgZGhjcDEyMzQ1Njc4OTA=");
const POLICY: &str = r#"
[loader]
update-allow = [
  "loopback^all",
  { addr = "any^dhcp", names = ["*.dyn"], types = ["A", "AAAA"] },
]
"#;

/// What nsupdate ended with.
pub(crate) struct Done {
    pub ok: bool,
    pub said: String,
}

impl Done {
    #[track_caller]
    fn fails_with(&self, code: &str) {
        assert!(!self.ok && self.said.contains(code), "{}", self.said);
    }
}

pub(crate) fn nsupdate(site: &Site, key: Option<(&str, &str)>, tcp: bool, commands: &str) -> Done {
    let mut command = Command::new("nsupdate");
    command.args(["-t", "20"]);
    if tcp {
        command.arg("-v");
    }
    if let Some((name, secret)) = key {
        command.args(["-y", &format!("hmac-sha256:{name}:{secret}")]);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nsupdate is installed (Debian: bind9-dnsutils)");
    let port = site.publication_port();
    let text = format!("server 127.0.0.1 {port}\nzone {ZONE}\n{commands}\nsend\n");
    // It may have ended already; what it says tells.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let out = child.wait_with_output().unwrap();
    Done {
        ok: out.status.success(),
        said: format!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        ),
    }
}

#[track_caller]
fn changed(site: &Site, tcp: bool, commands: &str) {
    let done = nsupdate(site, Some(ALL), tcp, commands);
    assert!(done.ok, "{commands}: {}\n{}", done.said, site.log());
}

/// A running site with both keys and a policy that lets them change things.
fn site(more: &str) -> Site {
    let site = Site::started();
    for (name, secret) in [ALL, DHCP] {
        site.ok(&["tsig", "add", name, "hmac-sha256", secret]);
    }
    site.policy("p", &format!("{POLICY}{more}"));
    site.ok(&["policy", "reload"]);
    site
}

/// A zone that begins with this file, which is gone then.
fn add_own(site: &Site, text: &str) {
    let file = site.write("zones/begin", text);
    let source = format!("update:{}", file.display());
    site.ok(&["zone", "add", ZONE, "--source", &source, "--policy", "p"]);
}

fn published_own(site: &Site) {
    add_own(site, SEED);
    site.await_published(ZONE, 1);
    fs::remove_file(site.path("zones/begin")).unwrap();
}

fn a(site: &Site, name: &str) -> Vec<String> {
    site.ask(&[name, "A"]).rdata("A")
}

#[test]
fn signed_changes_are_carried_out() {
    let mut site = site("");
    published_own(&site);
    let first = site.served_serial(ZONE);
    // What is acknowledged is served.
    changed(&site, false, "update add new.example.net. 300 A 192.0.2.7");
    assert_eq!(a(&site, "new.example.net"), ["192.0.2.7"]);
    let second = site.served_serial(ZONE);
    assert!(second > first);
    changed(
        &site,
        true,
        "prereq yxdomain new.example.net.\nprereq nxrrset new.example.net. TXT\n\
         update add new.example.net. 300 A 192.0.2.8\nupdate add Sub.example.net. 300 NS ns1.sub.example.net.\n\
         update add ns1.sub.example.net. 300 A 192.0.2.53\n\
         update add txt.example.net. 60 TXT \"a b\" \"c\"",
    );
    assert_eq!(a(&site, "new.example.net").len(), 2);
    assert!(judge(&site, ZONE) > 10);
    changed(
        &site,
        true,
        "prereq yxrrset new.example.net. A 192.0.2.7\nprereq yxrrset new.example.net. A 192.0.2.8\n\
         update delete new.example.net. A 192.0.2.7\nupdate delete txt.example.net.\n\
         update delete sub.example.net. NS\nupdate delete ns1.sub.example.net. A",
    );
    assert_eq!(a(&site, "new.example.net"), ["192.0.2.8"]);
    assert_eq!(site.ask(&["txt.example.net", "TXT"]).status, "NXDOMAIN");
    judge(&site, ZONE);
    // The same again changes nothing.
    let third = site.served_serial(ZONE);
    changed(&site, false, "update add new.example.net. 300 A 192.0.2.8");
    assert_eq!(site.served_serial(ZONE), third);
    // Everything is there after a restart, without the file.
    site.stop();
    site.start();
    assert_eq!(site.served_serial(ZONE), third);
    changed(
        &site,
        false,
        "update add after.example.net. 300 A 192.0.2.9",
    );
    assert_eq!(a(&site, "after.example.net"), ["192.0.2.9"]);
    assert_eq!(a(&site, "new.example.net"), ["192.0.2.8"]);
    judge(&site, ZONE);
}

#[test]
fn what_is_not_allowed_changes_nothing() {
    let site = site("");
    published_own(&site);
    let serial = site.served_serial(ZONE);
    let www = "update add x.example.net. 60 A 192.0.2.1";
    let dynamic = "update add h.dyn.example.net. 60 A 192.0.2.1";
    for tcp in [false, true] {
        let ask = |key, what: &str| nsupdate(&site, key, tcp, what);
        ask(None, www).fails_with("REFUSED");
        ask(Some(("other", ALL.1)), www).fails_with("BADKEY");
        ask(Some(("all", DHCP.1)), www).fails_with("BADSIG");
        // Name, then type.
        ask(Some(DHCP), www).fails_with("REFUSED");
        ask(Some(DHCP), "update add h.dyn.example.net. 60 TXT x").fails_with("REFUSED");
        // All or nothing.
        ask(Some(DHCP), &format!("{dynamic}\n{www}")).fails_with("REFUSED");
        // Prerequisites, each with its code.
        let with = |p: &str| ask(Some(ALL), &format!("prereq {p}\n{www}"));
        with("yxdomain no.example.net.").fails_with("NXDOMAIN");
        with("nxdomain example.net.").fails_with("YXDOMAIN");
        with("yxrrset no.example.net. A").fails_with("NXRRSET");
        with("nxrrset example.net. NS").fails_with("YXRRSET");
        // What the signer makes, and what would break the zone.
        ask(Some(ALL), "update delete example.net. DNSKEY").fails_with("REFUSED");
        let ds = format!("update add example.net. 60 DS 1 13 2 {}", "00".repeat(32));
        ask(Some(ALL), &format!("{ds}\n{www}")).fails_with("REFUSED");
    }
    assert_eq!(site.served_serial(ZONE), serial);
    assert!(nsupdate(&site, Some(DHCP), false, dynamic).ok);
    assert_eq!(a(&site, "h.dyn.example.net"), ["192.0.2.1"]);
    assert!(a(&site, "x.example.net").is_empty());
    // A zone with another source takes none, and nothing is forwarded.
    add(
        &site,
        "example.org",
        &SEED.replace("example.net", "example.org"),
    );
    site.await_published("example.org", 1);
    let other = |zone: &str| {
        let commands = format!("zone {zone}\nupdate add x.{zone}. 60 A 192.0.2.1");
        nsupdate(&site, Some(ALL), false, &commands)
    };
    other("example.org").fails_with("REFUSED");
    other("example.com").fails_with("NOTAUTH");
    let said = site
        .cascade(&["zone", "update", "example.org", "-"])
        .expect(1);
    assert!(
        said.stderr.contains("comes from its source"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_stream_of_five_hundred() {
    let mut site = site("");
    published_own(&site);
    let commands: String = (0..500)
        .map(|i| {
            format!(
                "update add h{i}.example.net. 60 A 192.0.2.{}\nsend\n",
                i % 250
            )
        })
        .collect();
    let begun = Instant::now();
    changed(&site, true, &commands);
    eprintln!("500 updates, one after the other: {:?}", begun.elapsed());
    assert_eq!(a(&site, "h499.example.net"), ["192.0.2.249"]);
    // What is so of hundreds of versions is said once.
    let log = site.log();
    let said = log.matches("more than 100 versions today").count();
    assert_eq!(said, 1, "{log}");
    site.kill();
    site.start();
    for i in [0, 250, 499] {
        assert_eq!(a(&site, &format!("h{i}.example.net")).len(), 1, "{i}");
    }
    judge(&site, ZONE);
}

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    let mut site = site("");
    published_own(&site);
    let mut acknowledged = BTreeSet::new();
    let mut highest = site.served_serial(ZONE);
    for round in 0..6u64 {
        let over = AtomicBool::new(false);
        let found = thread::scope(|s| {
            let clients: Vec<_> = (0..3)
                .map(|client| {
                    let (site, over) = (&site, &over);
                    s.spawn(move || {
                        let mut mine = Vec::new();
                        for i in 0.. {
                            if over.load(Ordering::Relaxed) {
                                break;
                            }
                            let name = format!("r{round}c{client}n{i}.example.net");
                            let command = format!("update add {name}. 60 A 192.0.2.1");
                            if nsupdate(site, Some(ALL), client == 0, &command).ok {
                                mine.push(name);
                            }
                        }
                        mine
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(700 + 137 * round));
            over.store(true, Ordering::Relaxed);
            site.signal(Signal::SIGKILL);
            clients
                .into_iter()
                .flat_map(|c| c.join().unwrap())
                .collect::<Vec<_>>()
        });
        acknowledged.extend(found);
        site.kill();
        site.start();
        let serial = site.served_serial(ZONE);
        assert!(serial >= highest, "{serial} after {highest}");
        highest = serial;
    }
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
    let copy = site.path("all");
    cascade_e2e::transfer(site.publication_port(), ZONE, &copy).unwrap();
    let text = fs::read_to_string(&copy).unwrap();
    let served: BTreeSet<String> = text
        .lines()
        .filter_map(|l| {
            Some(
                l.split_whitespace()
                    .next()?
                    .trim_end_matches('.')
                    .to_string(),
            )
        })
        .collect();
    let lost: Vec<_> = acknowledged.difference(&served).collect();
    assert!(lost.is_empty(), "{lost:?}");
    eprintln!("{} acknowledged, all there", acknowledged.len());
    judge(&site, ZONE);
}

#[test]
fn an_answer_does_not_wait_for_people() {
    let mut site = site("[loader.review]\nmode = \"manual\"\n");
    add_own(&site, SEED);
    site.await_state(ZONE, "unsigned-review");
    let approve = |site: &Site, serial: u64| {
        let serial = serial.to_string();
        site.ok(&["zone", "approve", "--unsigned", ZONE, &serial]);
    };
    // Nothing to build on yet.
    let early = nsupdate(
        &site,
        Some(ALL),
        false,
        "update add a.example.net. 60 A 192.0.2.1",
    );
    early.fails_with("SERVFAIL");
    approve(&site, 1);
    site.await_published(ZONE, 1);
    fs::remove_file(site.path("zones/begin")).unwrap();
    // Durable, and waiting.
    changed(&site, false, "update add a.example.net. 60 A 192.0.2.1");
    site.await_state(ZONE, "unsigned-review");
    changed(
        &site,
        true,
        "prereq yxdomain a.example.net.\nupdate add b.example.net. 60 A 192.0.2.2",
    );
    assert!(a(&site, "a.example.net").is_empty());
    site.kill();
    site.start();
    // The newest content is the one that waits, whatever waited before.
    changed(
        &site,
        false,
        "prereq yxdomain b.example.net.\nupdate add c.example.net. 60 A 192.0.2.3",
    );
    for _ in 0..4 {
        let status = site.await_status(ZONE, "review or published", |s| {
            s["state"] == "unsigned-review" || s["state"] == "published"
        });
        if status["state"] == "published" && !a(&site, "c.example.net").is_empty() {
            break;
        }
        let text = site.ok(&["zone", "status", ZONE]);
        for serial in 2..=5u64 {
            if text.contains(&format!(" {serial}")) {
                let s = serial.to_string();
                let _ = site.cascade(&["zone", "approve", "--unsigned", ZONE, &s]);
            }
        }
        thread::sleep(Duration::from_millis(300));
    }
    until("all three", || {
        (!a(&site, "c.example.net").is_empty()).then_some(())
    });
    assert_eq!(a(&site, "a.example.net"), ["192.0.2.1"]);
    assert_eq!(a(&site, "b.example.net"), ["192.0.2.2"]);
    judge(&site, ZONE);
    // Once published, nothing is left to recover.
    site.stop();
    site.start();
    assert_eq!(a(&site, "c.example.net"), ["192.0.2.3"]);
    assert!(!site.log().contains("lost"), "{}", site.log());
}

#[test]
fn the_command_takes_what_nsupdate_takes() {
    let site = site("");
    published_own(&site);
    let file = site.write(
        "changes",
        "; hosts\nttl 300\nprereq nxdomain h1.example.net.\nupdate add h1.example.net. A 192.0.2.1\nsend\n\
         update add h2.example.net. A 192.0.2.2\n\nupdate delete h9.example.net.\n",
    );
    let file = file.to_str().unwrap();
    let dry = site.ok(&["zone", "update", ZONE, file, "--dry-run"]);
    for line in [
        "changes:3: would be carried out",
        "changes:8: unchanged",
        "+ h1.example.net. 300 IN A 192.0.2.1",
        "+ h2.example.net. 300 IN A 192.0.2.2",
        "- example.net. ",
    ] {
        assert!(dry.contains(line), "{line}: {dry}");
    }
    assert!(a(&site, "h1.example.net").is_empty());
    let said = site.ok(&["zone", "update", ZONE, file]);
    assert!(said.contains("changes:3: published with serial "), "{said}");
    assert_eq!(a(&site, "h2.example.net"), ["192.0.2.2"]);
    // Again: the prerequisite fails, and nothing behind it is done.
    let said = site.cascade(&["zone", "update", ZONE, file]).expect(7);
    assert!(
        said.stdout.contains("changes:3: refused YXDOMAIN"),
        "{}",
        said.stdout
    );
    assert!(!said.stdout.contains("changes:6"), "{}", said.stdout);
    let bad = site.write(
        "bad",
        "server ::1\nupdate add h3.example.net. 60 A 192.0.2\n",
    );
    let bad = bad.to_str().unwrap();
    let said = site.cascade(&["zone", "update", ZONE, bad]).expect(1);
    assert!(
        said.stderr.contains("bad:1:1: error: 'server' says how"),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains("bad:2:33: error: "), "{}", said.stderr);
    judge(&site, ZONE);
}

#[test]
fn a_zone_begins_empty_and_can_change_hands() {
    let site = site("");
    let begin = "update:ns1.example.org.,ns2.example.org.";
    site.ok(&["zone", "add", ZONE, "--source", begin, "--policy", "p"]);
    site.await_published(ZONE, 1);
    assert_eq!(site.ask(&[ZONE, "NS"]).rdata("NS").len(), 2);
    changed(&site, false, "update add www.example.net. 300 A 192.0.2.7");
    judge(&site, ZONE);
    // Content from a file takes its place, and then is the beginning of what updates make.
    let file = site.write("zones/other", &SEED.replace(". 1 86400", ". 9 86400"));
    site.ok(&[
        "zone",
        "edit",
        ZONE,
        "--source",
        file.to_str().unwrap(),
        "--yes",
    ]);
    // Other name servers than all before: the change guard wants to be told.
    site.await_state(ZONE, "unsigned-review");
    site.ok(&["zone", "approve", "--unsigned", ZONE, "9"]);
    site.await_published(ZONE, 9);
    assert!(a(&site, "www.example.net").is_empty());
    let refused = nsupdate(
        &site,
        Some(ALL),
        false,
        "update add x.example.net. 60 A 192.0.2.1",
    );
    refused.fails_with("REFUSED");
    site.ok(&["zone", "edit", ZONE, "--source", "update:", "--yes"]);
    until("updates are taken", || {
        let done = nsupdate(
            &site,
            Some(ALL),
            false,
            "update add y.example.net. 60 A 192.0.2.1",
        );
        done.ok.then_some(())
    });
    assert_eq!(a(&site, "y.example.net"), ["192.0.2.1"]);
    judge(&site, ZONE);
    let said = site.cascade(&[
        "zone", "add", "e.test", "--source", "update:", "--policy", "p",
    ]);
    assert!(said.expect(1).stderr.contains("nothing to begin with"));
}

/// The files below, wherever they are.
fn files_named(folder: &std::path::Path, name: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_named(&path, name));
        } else if entry.file_name() == name {
            found.push(path);
        }
    }
    found
}

/// The power goes between the commit that rolls back and the removal of the log of changes that it
/// undid: they stay undone.
#[test]
fn what_was_rolled_back_does_not_come_back_from_the_log() {
    let mut site = site("[loader.review]\nmode = \"manual\"\n");
    add_own(&site, SEED);
    site.await_state(ZONE, "unsigned-review");
    site.ok(&["zone", "approve", "--unsigned", ZONE, "1"]);
    site.await_published(ZONE, 1);
    let first = site.status(ZONE)["published"]["version"].clone();
    // Two changes that wait for people, and are acknowledged.
    changed(&site, false, "update add b.example.net. 60 A 192.0.2.2");
    site.await_state(ZONE, "unsigned-review");
    changed(&site, false, "update add c.example.net. 60 A 192.0.2.3");
    let logs = files_named(&site.path("state"), "updates.cj");
    let [log] = logs.as_slice() else {
        panic!("{logs:?}");
    };
    let both = fs::read(log).unwrap();
    let waits = |site: &Site| site.status(ZONE)["unsigned"]["serial"].as_u64();
    let serial = waits(&site).unwrap().to_string();
    site.ok(&["zone", "approve", "--unsigned", ZONE, &serial]);
    until("the first change is served", || {
        (!a(&site, "b.example.net").is_empty()).then_some(())
    });
    // The first was a mistake, and the second with it.
    let to = first.as_str().unwrap();
    site.ok(&["zone", "rollback", ZONE, "--to", to, "--yes"]);
    until("it is rolled back, and the log is gone", || {
        (a(&site, "b.example.net").is_empty() && !log.exists()).then_some(())
    });
    let served = site.served_serial(ZONE);
    site.kill();
    fs::write(log, &both).unwrap();
    site.start();
    site.ok(&["zone", "unpin", ZONE]);
    until("the old log is gone", || (!log.exists()).then_some(()));
    changed(&site, false, "update add d.example.net. 60 A 192.0.2.4");
    let newest = until("the next change waits", || waits(&site).filter(|s| *s > 1));
    site.ok(&["zone", "approve", "--unsigned", ZONE, &newest.to_string()]);
    until("the next change is served", || {
        (!a(&site, "d.example.net").is_empty()).then_some(())
    });
    assert!(a(&site, "b.example.net").is_empty(), "{}", site.log());
    assert!(a(&site, "c.example.net").is_empty(), "{}", site.log());
    assert!(site.served_serial(ZONE) > served);
    judge(&site, ZONE);
}
