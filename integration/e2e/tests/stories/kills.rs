//! Power cuts at random moments while changes stream in.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cascade_e2e::follow::{Follower, Step, Trouble};
use cascade_e2e::{Site, over_unix, until};

use crate::common::{add, site_with_policy};

const ZONE: &str = "example.net";
/// Power cuts in all; `CASCADE_KILLS` has another number.
const KILLS: u32 = 300;
/// Daemons side by side: while one waits for its disk, another computes.
const LANES: u32 = 3;
/// Versions that are kept over a restart (the policy's default, the newest among them): a copy that is
/// further behind begins anew.
const KEPT: u32 = 9;
/// Every so often the copy is compared with the whole zone.
const COMPARE: u32 = 10;

/// A zone whose content tells its serial: one record of its own, and one that always changes.
fn content(hosts: u32, serial: u32) -> String {
    let mut text = format!(
        "$TTL 300\n@ SOA ns u {serial} 86400 7200 2419200 300\n@ NS ns\nns A 192.0.2.1\n\
         count TXT \"{serial}\"\nv{serial} A 192.0.2.2\n"
    );
    for i in 0..hosts {
        text += &format!("host{i} A 192.0.2.{}\n", i % 250);
    }
    text
}

/// What the operator and the world know at the moment of a power cut.
#[derive(Default)]
struct Known {
    /// Newest content in the file when a reload was acknowledged.
    acknowledged: AtomicU32,
    /// Newest content that a server of ours has shown.
    shown: AtomicU32,
    /// Newest serial that a server of ours has shown.
    serial: AtomicU32,
    /// Transfers by which the copy went on.
    increments: AtomicU32,
}

impl Known {
    /// Serials before and after: each version has the next one.
    fn followed(&self, step: Step, before: u32, after: u32) {
        assert!(
            step != Step::Whole || after - before > KEPT,
            "the copy has to begin anew at {before}, and {after} is served"
        );
        let more = u32::from(matches!(step, Step::Incremental(_)));
        self.increments.fetch_add(more, Ordering::Relaxed);
    }
}

struct Lane {
    site: Site,
    hosts: u32,
    next: u32,
    random: u32,
    known: Known,
    copy: Follower,
    keys: u32,
}

impl Lane {
    fn new(lane: u32) -> Lane {
        // As many differences as fit beside a zone of this size, so that none is joined with others.
        let site = site_with_policy("[server.outbound]\nmax-diffs = 40\nmax-diffs-size = 100\n");
        let hosts = if lane == 0 { 600 } else { 300 };
        add(&site, ZONE, &content(hosts, 1));
        site.await_published(ZONE, 1);
        let copy = Follower::new(site.publication_port(), ZONE).unwrap();
        Lane {
            site,
            hosts,
            next: 2,
            random: 7 + lane,
            known: Known::default(),
            copy,
            keys: 0,
        }
    }

    fn roll(&mut self) -> u32 {
        self.random = self
            .random
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        self.random >> 8
    }

    /// Changes stream in and are looked at, until the power is cut.
    fn until_cut(&mut self) {
        // Mostly around the first change after a start, sometimes after several.
        let spans = [100, 250, 500, 900];
        let span = spans[self.roll() as usize % spans.len()];
        let pause = Duration::from_millis(u64::from(self.roll() % span));
        let cut = AtomicBool::new(false);
        let add_key = self.roll().is_multiple_of(4);
        let site = &self.site;
        let (known, hosts) = (&self.known, self.hosts);
        let (first, key, copy) = (self.next, self.keys, &mut self.copy);
        let (next, keys) = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut next = first;
                while !cut.load(Ordering::Relaxed) {
                    site.write("new", &content(hosts, next));
                    let file = site.path("zones/example.net");
                    std::fs::rename(site.path("new"), file).unwrap();
                    next += 1;
                    if reload(site) {
                        known.acknowledged.fetch_max(next - 1, Ordering::Relaxed);
                    }
                    thread::sleep(Duration::from_millis(80));
                }
                next
            });
            let adder = scope.spawn(|| key + u32::from(add_key && add_tsig(site, key)));
            scope.spawn(|| {
                while !cut.load(Ordering::Relaxed) {
                    look(site, known);
                    // As a secondary that is told of every version; it may be cut off at any octet.
                    let before = copy.serial;
                    match copy.follow(site.publication_port()) {
                        Ok(step) => known.followed(step, before, copy.serial),
                        Err(Trouble::Wrong(why)) => panic!("{why}"),
                        Err(Trouble::NoTransfer(_)) => {}
                    }
                    thread::sleep(Duration::from_millis(10));
                }
            });
            thread::sleep(pause);
            site.signal(nix::sys::signal::Signal::SIGKILL);
            cut.store(true, Ordering::Relaxed);
            (writer.join().unwrap(), adder.join().unwrap())
        });
        (self.next, self.keys) = (next, keys);
        self.site.kill();
    }

    /// After the power cut nothing of what was known is gone.
    fn check(&mut self, round: u32) {
        let known = &self.known;
        let (shown, serial) = (
            known.shown.load(Ordering::Relaxed),
            known.serial.load(Ordering::Relaxed),
        );
        let (port, before) = (self.site.publication_port(), self.copy.serial);
        let step = self
            .copy
            .follow(port)
            .unwrap_or_else(|e| panic!("round {round}: {e}"));
        known.followed(step, before, self.copy.serial);
        let now = self.copy.serial;
        assert!(now >= serial, "round {round}: serial {now} after {serial}");
        let has = self.count();
        assert!(has >= shown, "round {round}: content {has} after {shown}");
        if round.is_multiple_of(COMPARE) {
            self.copy.compare(port).unwrap_or_else(|e| {
                // A version may come between the two transfers.
                assert_ne!(self.copy.follow(port), Ok(Step::Current), "{e}");
            });
        }
    }

    /// What was asked for and acknowledged comes, without being asked for again.
    fn check_acknowledged(&mut self) {
        let wanted = self.known.acknowledged.load(Ordering::Relaxed);
        let port = self.site.publication_port();
        until("the content of an acknowledged reload", || {
            let before = self.copy.serial;
            let step = self.copy.follow(port).unwrap_or_else(|e| panic!("{e}"));
            self.known.followed(step, before, self.copy.serial);
            (self.count() >= wanted).then_some(())
        });
        let keys = self.site.ok(&["tsig", "list"]);
        for key in 0..self.keys {
            let name = format!("k{key} ");
            assert!(keys.contains(&name), "acknowledged key {name}: {keys}");
        }
    }

    fn count(&self) -> u32 {
        let text = self.copy.rdata("count.example.net.", "TXT");
        text[0].trim_matches('"').parse().unwrap()
    }
}

/// Asks for a reload; true: it was acknowledged.
fn reload(site: &Site) -> bool {
    let path = "/v1/zones/example.net/reload";
    let reply = over_unix(&site.socket(), "POST", path, &[], Some("{}"));
    reply.is_ok_and(|r| r.status == 202)
}

fn add_tsig(site: &Site, key: u32) -> bool {
    let body = format!("{{\"name\": \"k{key}\", \"generate\": true}}");
    let reply = over_unix(&site.socket(), "POST", "/v1/tsig-keys", &[], Some(&body));
    reply.is_ok_and(|r| r.status == 201)
}

/// What the publication server shows; each answer is of one version.
fn look(site: &Site, known: &Known) {
    if let Some(serial) = site.ask(&[ZONE, "SOA"]).serial() {
        let before = known.serial.fetch_max(serial, Ordering::Relaxed);
        assert!(serial >= before, "serial {serial} after {before}");
    }
    let text = site.ask(&["count.example.net", "TXT"]).rdata("TXT");
    let count = text.first().and_then(|t| t.trim_matches('"').parse().ok());
    if let Some(count) = count {
        let before = known.shown.fetch_max(count, Ordering::Relaxed);
        assert!(count >= before, "content {count} after {before}");
    }
}

#[test]
fn kill_at_random_while_changes_stream_in() {
    let kills = std::env::var("CASCADE_KILLS").map_or(KILLS, |n| n.parse().unwrap());
    let left = AtomicU32::new(kills);
    let began = Instant::now();
    let done: Vec<(u32, u32, u32)> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES.min(kills))
            .map(|lane| {
                let left = &left;
                scope.spawn(move || {
                    let mut lane = Lane::new(lane);
                    let mut rounds = 0;
                    while left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                        .is_ok()
                    {
                        rounds += 1;
                        lane.until_cut();
                        lane.site.start();
                        lane.check(rounds);
                        if rounds.is_multiple_of(COMPARE) {
                            lane.check_acknowledged();
                        }
                    }
                    lane.check_acknowledged();
                    (rounds, lane.known.increments.into_inner(), lane.next)
                })
            })
            .collect();
        lanes.into_iter().map(|l| l.join().unwrap()).collect()
    });
    let rounds: u32 = done.iter().map(|d| d.0).sum();
    let increments: u32 = done.iter().map(|d| d.1).sum();
    eprintln!(
        "{rounds} power cuts in {:.0} s, {increments} times the copy went on from where it was; {done:?}",
        began.elapsed().as_secs_f64()
    );
    assert_eq!(rounds, kills);
    assert!(
        increments >= kills / 2,
        "{increments} increments: too few changes between the cuts"
    );
}
