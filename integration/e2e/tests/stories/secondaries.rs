//! Secondaries that follow by incremental transfers.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cascade_e2e::secondary::{Key, Secondary, records};
use cascade_e2e::{Site, until};

use crate::common::{add_file, change, site_with_policy};

const ROOTS: [u32; 7] = [
    2018013000, 2018013002, 2018013100, 2018013101, 2018020100, 2018020101, 2018020102,
];

fn root(serial: u32) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
    fs::read_to_string(folder.join(format!("root-{serial}.zone"))).unwrap()
}

/// A zone of delegations; every tenth one is told apart by `turn`.
fn registry(turn: u32, serial: u32) -> String {
    let mut text = format!(
        "$TTL 3600\n@ IN SOA ns1 hostmaster {serial} 7200 3600 1209600 900\n@ NS ns1\nns1 A 192.0.2.1\n"
    );
    for i in 0..600u32 {
        let changed = i % 40 == turn % 40;
        let ns = if changed { turn + 1 } else { 0 };
        text += &format!("d{i} NS ns{ns}.other.test.\n");
    }
    text
}

fn policy(secondaries: &[Secondary], key: Option<&Key>) -> String {
    let key = key.map_or(String::new(), |k| format!("^{}", k.name));
    let targets: Vec<String> = secondaries
        .iter()
        .map(|s| format!("\"127.0.0.1:{}{key}\"", s.port()))
        .collect();
    let allowed = format!("\"127.0.0.1{key}\"");
    format!(
        "[server.outbound]\nsend-notify-to = [{}]\nprovide-xfr-to = [{allowed}]\nmax-diffs-size = 100\n",
        targets.join(", ")
    )
}

/// Counters of transfers: increments, all that ended well.
fn transfers(site: &Site) -> (u32, u32) {
    let text = site.request("GET", "/metrics", None).unwrap().body;
    let value = |name: &str, with: &str| -> u32 {
        let lines = text
            .lines()
            .filter(|l| l.starts_with(name) && l.contains(with));
        let numbers = lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok());
        numbers.sum::<f64>() as u32
    };
    (
        value("cascade_transfers_incremental_total", ""),
        value("cascade_transfers_total", "result=\"ok\""),
    )
}

fn all_follow(site: &Site, zone: &str, secondaries: &[Secondary]) {
    let serial = site.served_serial(zone);
    secondaries.iter().for_each(|s| s.await_serial(serial));
}

fn all_agree(site: &Site, zone: &str, secondaries: &[Secondary]) {
    let ours = records(site.publication_port(), zone).unwrap();
    for s in secondaries {
        let theirs = s.records();
        let less: Vec<_> = ours.difference(&theirs).take(5).collect();
        let more: Vec<_> = theirs.difference(&ours).take(5).collect();
        assert!(
            less.is_empty() && more.is_empty(),
            "{:?} lacks {less:#?} and has {more:#?}",
            s.make
        );
    }
}

fn start_all(site: &mut Site, zone: &str, key: Option<&Key>) -> Vec<Secondary> {
    let port = site.publication_port();
    let make = |m| Secondary::new(m, zone, port, key);
    let mut secondaries: Vec<Secondary> = Secondary::ALL.into_iter().map(make).collect();
    site.policy("p", &policy(&secondaries, key));
    secondaries.iter_mut().for_each(Secondary::start);
    secondaries
}

#[test]
fn the_root_zone_day_by_day() {
    let mut site = Site::started();
    let secondaries = start_all(&mut site, ".", None);
    site.ok(&["policy", "reload"]);
    let file = site.write("zones/root", &root(ROOTS[0]));
    add_file(&site, ".", &file);
    site.await_published(".", ROOTS[0]);
    all_follow(&site, ".", &secondaries);
    for serial in &ROOTS[1..] {
        fs::write(&file, root(*serial)).unwrap();
        site.ok(&["zone", "reload", "."]);
        let status = site.await_status(".", "published or held", |status| {
            status["unsigned"]["serial"] == *serial
                && (status["state"] == "published" || status["state"] == "unsigned-review")
        });
        if status["state"] == "unsigned-review" {
            // Some of these days changed more than the change guard likes.
            site.ok(&["zone", "approve", "--unsigned", ".", &serial.to_string()]);
        }
        site.await_published(".", *serial);
        all_follow(&site, ".", &secondaries);
        all_agree(&site, ".", &secondaries);
    }
    let (increments, all) = transfers(&site);
    assert_eq!(increments, 18, "of {all} transfers");
}

#[test]
fn secondaries_that_were_away_and_a_primary_that_was_killed() {
    const ZONE: &str = "example.net";
    let mut site = Site::started();
    let mut secondaries = start_all(&mut site, ZONE, None);
    site.ok(&["policy", "reload"]);
    crate::common::add(&site, ZONE, &registry(0, 1));
    site.await_published(ZONE, 1);
    all_follow(&site, ZONE, &secondaries);
    for serial in 2..4 {
        change(&site, ZONE, &registry(serial, serial));
        site.await_published(ZONE, serial);
        all_follow(&site, ZONE, &secondaries);
    }
    // NSD writes what it has once a second, and not when it ends.
    std::thread::sleep(Duration::from_secs(3));
    // Three versions while they are away, two of them before a power cut.
    secondaries.iter_mut().for_each(Secondary::stop);
    for serial in 4..7 {
        change(&site, ZONE, &registry(serial, serial));
        site.await_published(ZONE, serial);
        if serial == 5 {
            site.kill();
            site.start();
        }
    }
    site.kill();
    site.start();
    secondaries.iter_mut().for_each(Secondary::start);
    all_follow(&site, ZONE, &secondaries);
    all_agree(&site, ZONE, &secondaries);
    let (increments, _) = transfers(&site);
    assert_eq!(increments, 3, "all of them went on from where they were");
    // And the story goes on.
    change(&site, ZONE, &registry(7, 7));
    site.await_published(ZONE, 7);
    all_follow(&site, ZONE, &secondaries);
    all_agree(&site, ZONE, &secondaries);
    assert!(transfers(&site).0 >= 6);
}

/// Versions come faster than anybody can fetch them one by one.
#[test]
fn secondaries_follow_a_stream_of_updates() {
    const ZONE: &str = "example.net";
    let mut site = Site::started();
    let (name, secret) = ("all", "c2VjcmV0IG9mIHRoZSBrZXkgYWxsMTIzNDU2Nzg5MDA=");
    site.ok(&["tsig", "add", name, "hmac-sha256", secret]);
    let secondaries = start_all(&mut site, ZONE, None);
    let outbound = policy(&secondaries, None);
    let update = format!("[loader]\nupdate-allow = [\"loopback^{name}\"]\n");
    site.policy("p", &format!("{update}{outbound}"));
    site.ok(&["policy", "reload"]);
    let mut text = registry(0, 1);
    for i in 0..3000 {
        text += &format!("other{i} NS ns.other.test.\n");
    }
    let file = site.write("zones/begin", &text);
    let source = format!("update:{}", file.display());
    site.ok(&["zone", "add", ZONE, "--source", &source, "--policy", "p"]);
    site.await_published(ZONE, 1);
    all_follow(&site, ZONE, &secondaries);
    // An increment is counted when it begins, a transfer when it is over.
    until("the first transfers", || {
        (transfers(&site) == (0, 3)).then_some(())
    });
    let changes = 600;
    let commands: String = (0..changes)
        .map(|i| format!("update add h{i}.{ZONE}. 60 A 192.0.2.1\nsend\n"))
        .collect();
    let done = crate::updates::nsupdate(&site, Some((name, secret)), true, &commands);
    assert!(done.ok, "{}", done.said);
    all_follow(&site, ZONE, &secondaries);
    let (increments, all) = until("the last transfers", || {
        let (increments, all) = transfers(&site);
        (increments + 3 <= all).then_some((increments, all - 3))
    });
    eprintln!("{changes} versions: {increments} of {all} transfers were increments");
    // NSD 4.6.1 asks for the whole zone by itself when transfers come while it reloads ("update failed,
    // restarting transfer").
    let whole = all - increments;
    assert!(
        whole <= 3,
        "{whole} of {all} transfers were of the whole zone"
    );
    all_agree(&site, ZONE, &secondaries);
}

#[test]
fn transfers_with_keys() {
    const ZONE: &str = "example.net";
    let key = Key {
        name: "xfr.key".into(),
        secret: "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=".into(),
    };
    let mut site = Site::started();
    site.ok(&["tsig", "add", &key.name, "hmac-sha256", &key.secret]);
    let secondaries = start_all(&mut site, ZONE, Some(&key));
    site.ok(&["policy", "reload"]);
    crate::common::add(&site, ZONE, &registry(0, 1));
    site.await_published(ZONE, 1);
    all_follow(&site, ZONE, &secondaries);
    let first = site.served_serial(ZONE);
    change(&site, ZONE, &registry(1, 2));
    site.await_published(ZONE, 2);
    all_follow(&site, ZONE, &secondaries);
    assert_eq!(transfers(&site).0, 3);
    let serial = site.served_serial(ZONE);
    site.await_status(ZONE, "seen at its secondaries", |status| {
        let list = status["secondaries"].as_array();
        list.is_some_and(|list| {
            list.len() == 3
                && list
                    .iter()
                    .all(|s| s["serial"] == serial && s["lag_secs"] == 0 && s["up"] == true)
        })
    });
    let shown = site.ok(&["zone", "status", ZONE, "--detailed"]);
    assert_eq!(shown.matches(", up to date").count(), 3, "{shown}");
    let ask = |secret: Option<&str>| {
        let mut command = Command::new("kdig");
        let port = site.publication_port().to_string();
        command.args(["@127.0.0.1", "-p", &port, ZONE, &format!("IXFR={first}")]);
        if let Some(secret) = secret {
            command.args(["-y", &format!("hmac-sha256:{}:{secret}", key.name)]);
        }
        let out = command
            .output()
            .expect("kdig is installed (Debian: knot-dnsutils)");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text + &String::from_utf8_lossy(&out.stderr)
    };
    let right = ask(Some(&key.secret));
    let soas = right
        .lines()
        .filter(|l| l.contains("\tSOA\t") && !l.contains("RRSIG"));
    assert_eq!(soas.count(), 4, "{right}");
    assert!(right.contains("d1.example.net."), "{right}");
    assert!(
        !right.contains("d2.example.net."),
        "only what changed: {right}"
    );
    let wrong = ask(Some("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
    assert!(
        wrong.contains("BADSIG") || wrong.contains("NOTAUTH"),
        "{wrong}"
    );
    let missing = ask(None);
    assert!(missing.contains("REFUSED"), "{missing}");
    for text in [&wrong, &missing] {
        assert!(!text.contains("d1.example.net."), "{text}");
    }
}

/// `dig` asks as a person would.
#[test]
fn what_dig_is_given() {
    const ZONE: &str = "example.net";
    let site = site_with_policy("[server.outbound]\nmax-diffs = 5\nmax-diffs-size = 100\n");
    crate::common::add(&site, ZONE, &registry(0, 1));
    site.await_published(ZONE, 1);
    let mut serials = vec![site.served_serial(ZONE)];
    for serial in 2..9 {
        change(&site, ZONE, &registry(serial, serial));
        site.await_published(ZONE, serial);
        serials.push(until("a new serial", || {
            let now = site.served_serial(ZONE);
            (now != serials[serials.len() - 1]).then_some(now)
        }));
    }
    let soas = |serial: u32| {
        let text = site
            .ask(&[ZONE, &format!("IXFR={serial}"), "+nosplit"])
            .text;
        let is_soa = |l: &&str| l.split_whitespace().nth(3) == Some("SOA");
        text.lines().filter(is_soa).count()
    };
    let newest = serials[serials.len() - 1];
    assert_eq!(soas(newest), 1);
    assert_eq!(soas(serials[serials.len() - 2]), 4);
    // Two steps, and whatever was joined for the first client.
    assert_eq!(soas(serials[serials.len() - 3]), 6);
    assert!((4..=12).contains(&soas(serials[0])));
    assert_eq!(soas(newest - 1_000_000), 2, "unknown: the whole zone");
}

/// The file that a policy wants is what is served, whole at every moment, and its command runs.
#[test]
fn each_version_in_a_file() {
    const ZONE: &str = "example.net";
    let mut site = Site::started();
    let here = site.folder().display().to_string();
    let hook = site.script(
        "written.sh",
        &format!("echo \"$CASCADE_ZONE $CASCADE_SERIAL $CASCADE_FILE\" >> {here}/ran\n"),
    );
    let policy = format!(
        "[server.outbound]\nfile = \"{here}/{{zone}}.out\"\nfile-hook = \"{}\"\n",
        hook.display()
    );
    site.policy("p", &policy);
    site.ok(&["policy", "reload"]);
    crate::common::add(&site, ZONE, &registry(0, 1));
    site.await_published(ZONE, 1);
    let file = site.path("example.net.out");
    let written = |site: &Site| {
        let serial = site.served_serial(ZONE).to_string();
        until("the zone file", || {
            let text = fs::read_to_string(&file).ok()?;
            let soa = text.lines().next()?;
            (soa.split(' ').nth(6) == Some(&serial)).then_some(text)
        })
    };
    let text = written(&site);
    // A part is never there, and what is there is the export of the command line.
    assert_eq!(text, site.ok(&["zone", "export", ZONE]));
    change(&site, ZONE, &registry(1, 2));
    site.await_published(ZONE, 2);
    assert_eq!(written(&site), site.ok(&["zone", "export", ZONE]));
    let ran = until("the command", || {
        let ran = fs::read_to_string(site.path("ran")).ok()?;
        (ran.lines().count() >= 2).then_some(ran)
    });
    let serial = site.served_serial(ZONE);
    assert_eq!(
        ran.lines().last(),
        Some(format!("{ZONE} {serial} {}", file.display()).as_str())
    );
    // Lost while the daemon was away: written again.
    site.kill();
    fs::remove_file(&file).unwrap();
    site.start();
    assert_eq!(written(&site), site.ok(&["zone", "export", ZONE]));
    let left = fs::read_dir(site.folder()).unwrap();
    let tmp = left.filter(|e| {
        e.as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .ends_with(".tmp")
    });
    assert_eq!(tmp.count(), 0);
}
