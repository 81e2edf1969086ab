//! What is on disk after a power cut, damaged or not, and what is made of it.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use cascade_e2e::{Site, until};

use crate::common::{add, change, seed_with_serial, site_with_policy};

const ZONE: &str = "example.net";

/// The zone's files whose names begin like this.
pub fn files(site: &Site, start: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![site.path("state/zone-state")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(start)
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A zone of some size, so that a change is a patch of it.
fn large(serial: u32) -> String {
    let hosts: String = (0..400)
        .map(|i| format!("host{i} IN A 192.0.2.{}\n", i % 250))
        .collect();
    seed_with_serial(serial) + &hosts
}

/// Versions with the source serials 1 to `n`; serials as served.
fn versions(site: &Site, n: u32) -> Vec<u32> {
    add(site, ZONE, &large(1));
    site.await_published(ZONE, 1);
    let mut served = vec![site.served_serial(ZONE)];
    for serial in 2..=n {
        change(site, ZONE, &large(serial));
        site.await_published(ZONE, serial);
        served.push(until("the next serial", || {
            let now = site.served_serial(ZONE);
            (Some(&now) != served.last()).then_some(now)
        }));
    }
    served
}

#[test]
fn changes_are_appended_and_come_back() {
    let mut site = site_with_policy("");
    let served = versions(&site, 5);
    assert_eq!(files(&site, "snap-").len(), 1, "one snapshot");
    let journals = files(&site, "jrnl-");
    assert_eq!(journals.len(), 1);
    let journal = fs::metadata(&journals[0]).unwrap().len();
    let snapshot = fs::metadata(&files(&site, "snap-")[0]).unwrap().len();
    assert!(
        journal < snapshot,
        "{journal} octets for four changes of {snapshot}"
    );
    site.kill();
    site.start();
    assert_eq!(site.served_serial(ZONE), served[4]);
    assert_eq!(site.ask(&["v5.example.net", "A"]).rdata("A"), ["192.0.2.2"]);
    assert_eq!(
        site.ask(&["host7.example.net", "A"]).rdata("A"),
        ["192.0.2.7"]
    );
    assert_eq!(site.ask(&["v4.example.net", "A"]).status, "NXDOMAIN");
}

/// Earlier versions come back too: what differs can be asked for after a restart.
#[test]
fn history_after_a_restart() {
    let mut site = site_with_policy("");
    let served = versions(&site, 4);
    let name = |i: usize| format!("serial:{}", served[i]);
    let ask = |site: &Site| site.ok(&["zone", "diff", ZONE, &name(1), &name(3)]);
    let before = ask(&site);
    assert!(before.contains("v2.example.net") && before.contains("v4.example.net"));
    site.kill();
    site.start();
    assert_eq!(ask(&site), before);
    // The oldest one stands in the snapshot itself.
    let export = site.ok(&["zone", "export", ZONE, "--version", &name(0)]);
    assert!(export.contains("host399.example.net."), "{export}");
    assert!(!export.contains("v2.example.net."));
}

/// The journal is damaged before the end that counts: the last good version is served, and the
/// source gives a newer one.
#[test]
fn a_damaged_journal_gives_the_last_good_version() {
    let mut site = site_with_policy("");
    let served = versions(&site, 4);
    // A start gives up what the state has of the journal's end, which would mend it.
    site.kill();
    site.start();
    site.kill();
    let journal = &files(&site, "jrnl-")[0];
    let mut octets = fs::read(journal).unwrap();
    let at = octets.len() - 200;
    octets[at] ^= 0x10;
    fs::write(journal, octets).unwrap();
    // The source stays away for now.
    let file = site.path("zones/example.net");
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    site.start();
    assert_eq!(site.served_serial(ZONE), served[2]);
    assert_eq!(site.ask(&["v3.example.net", "A"]).rdata("A"), ["192.0.2.2"]);
    assert!(!files(&site, "jrnl-").is_empty());
    assert!(site.log().contains("damaged"), "{}", site.log());
    fs::write(&file, text).unwrap();
    site.ok(&["zone", "reload", ZONE]);
    until("the content of the source", || {
        let answer = site.ask(&["v4.example.net", "A"]);
        (answer.rdata("A") == ["192.0.2.2"]).then_some(())
    });
    assert!(
        site.served_serial(ZONE) > served[3],
        "a serial is not used twice"
    );
    site.kill();
    site.start();
    assert!(site.served_serial(ZONE) > served[3]);
}

/// What a power cut takes of octets that were not synced is in the state.
#[test]
fn a_journal_that_lost_its_end_is_completed() {
    let mut site = site_with_policy("");
    let served = versions(&site, 4);
    site.kill();
    let journal = &files(&site, "jrnl-")[0];
    let octets = fs::read(journal).unwrap();
    fs::write(journal, &octets[..octets.len() - 50]).unwrap();
    site.start();
    // On a machine so slow that all was synced before the end came, the state has given it up.
    if !site.log().contains("ends of journals are complete") {
        eprintln!("skipped: nothing of the journal was in the state");
        return;
    }
    assert_eq!(site.served_serial(ZONE), served[3]);
    assert_eq!(fs::read(&files(&site, "jrnl-")[0]).unwrap(), octets);
    site.stop();
}

/// Garbage behind the committed end is an interrupted write: nothing is lost.
#[test]
fn a_torn_journal_loses_nothing() {
    let mut site = site_with_policy("");
    let served = versions(&site, 3);
    site.kill();
    let journal = &files(&site, "jrnl-")[0];
    let mut octets = fs::read(journal).unwrap();
    let more = octets[octets.len() - 150..].to_vec();
    octets.extend_from_slice(&more);
    fs::write(journal, octets).unwrap();
    site.start();
    assert_eq!(site.served_serial(ZONE), served[2]);
    change(&site, ZONE, &large(4));
    site.await_published(ZONE, 4);
    site.kill();
    site.start();
    assert_eq!(site.ask(&["v4.example.net", "A"]).rdata("A"), ["192.0.2.2"]);
}

/// A small file system of its own, gone when dropped.
struct Small(PathBuf);

impl Small {
    /// `None`: this user may not mount.
    fn mount(at: PathBuf, octets: u64) -> Option<Small> {
        fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={octets},mode=0750")])
            .arg("tmpfs")
            .arg(&at)
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|s| s.success()).then_some(Small(at))
    }

    /// Takes all room that is left; where.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        let piece = vec![0; 1 << 20];
        while file.write_all(&piece).is_ok() {}
        while file.write_all(&piece[..512]).is_ok() {}
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The disk is full: no new versions, everything else goes on, and it recovers by itself.
#[test]
fn a_full_disk_stops_new_versions_and_nothing_else() {
    let mut site = Site::new();
    let Some(disk) = Small::mount(site.path("state"), 420 << 20) else {
        eprintln!("skipped: this user may not mount a file system of its own");
        return;
    };
    site.start();
    site.policy("p", "");
    site.ok(&["policy", "reload"]);
    let served = versions(&site, 2);
    let ballast = site.path("state/ballast");
    until("the reserve", || ballast.exists().then_some(()));

    let filler = disk.fill();
    // Too much for what is left in the last blocks of files that are there already. It is at hand
    // when the disk is found to be full: what the reserve gives back may be enough for it, or not.
    let more: String = (0..900)
        .map(|i| format!("more{i} IN A 192.0.2.{}\n", i % 250))
        .collect();
    change(&site, ZONE, &(large(3) + &more));
    until("the reserve given back", || {
        (!ballast.exists()).then_some(())
    });
    until("the alarm of the zone", || {
        let told = "the disk is full: nothing new is loaded or signed";
        site.log().contains(told).then_some(())
    });
    // The state still takes what it must: this is durable in what the reserve left.
    site.ok(&["tsig", "generate", "k"]);

    // What comes after the alarm waits, and is told.
    change(&site, ZONE, &(large(4) + &more));
    let health = site.cascade(&["health"]).expect(7).stdout;
    assert!(health.contains("the disk is full"), "{health}");
    thread::sleep(Duration::from_secs(2));
    let old = site.served_serial(ZONE);
    assert!(old <= served[1] + 1, "{old}");
    assert_eq!(
        site.ask(&["host1.example.net", "A"]).rdata("A"),
        ["192.0.2.1"]
    );
    assert_eq!(site.ask(&["v4.example.net", "A"]).status, "NXDOMAIN");

    fs::remove_file(filler).unwrap();
    until("the change that had to wait", || {
        let answer = site.ask(&["v4.example.net", "A"]);
        (answer.rdata("A") == ["192.0.2.2"]).then_some(())
    });
    until("a new reserve", || ballast.exists().then_some(()));
    site.kill();
    site.start();
    assert!(site.served_serial(ZONE) > old);
    assert!(site.ok(&["tsig", "list"]).contains('k'));
    site.stop();
}
