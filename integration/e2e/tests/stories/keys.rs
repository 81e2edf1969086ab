//! Keys roll: a daemon with a clock that is set, NSD as parent and as secondaries, and Unbound
//! validating after every step, once with nothing in its cache and once with the keys and DS of
//! just before the step.

mod agreed;
mod held;
mod level_d;
mod parent;
mod restored;
mod secrets;

use std::collections::BTreeSet;
use std::time::Duration;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cascade_e2e::primary::{KEY, Primary, SECRET};
use cascade_e2e::{Server, Site, until, within};
use serde_json::Value;

use crate::validity::judge;

const START: i64 = 1_900_000_000;
/// Every TTL of the zone and of the parent.
const TTL: u64 = 300;
/// The clock goes forward by this at most between two looks of a resolver: what it has in its
/// cache is younger than its TTL.
const STRIDE: u64 = 100;
const ZONE: &str = "example.test";

/// How a world begins.
struct Setup<'a> {
    /// Lines of the zone's policy, after those that every story has.
    lines: &'a str,
    /// The whole policy instead, in which `{servers}` and `{parent}` stand for addresses.
    policy: Option<&'a str>,
    delegated: bool,
    start: i64,
    secondaries: usize,
    zone: String,
}

struct World {
    site: Site,
    parent: Server,
    secondaries: Vec<Server>,
    /// DS records in the parent's file.
    ds: Vec<String>,
    serial: u32,
    anchor: String,
    /// States of rolls in which Unbound has validated.
    validated: BTreeSet<String>,
    asked: u32,
    /// The parent does what it is asked for at once.
    follows: bool,
    /// The parent names the zone's servers.
    delegated: bool,
    /// Lines of `[signer]`.
    signer: String,
    /// More records of the parent.
    parent_lines: String,
}

impl World {
    /// `lines`: of the zone's policy.
    fn new(lines: &str) -> World {
        World::with(lines, true)
    }

    fn with(lines: &str, delegated: bool) -> World {
        World::begin(lines, delegated, START)
    }

    /// As of today, so that programs without an option for the time can judge the zone: for rolls
    /// that last less than the day by which the inception of signatures lies in the past.
    fn today(lines: &str) -> World {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        World::begin(lines, true, now.unwrap().as_secs() as i64)
    }

    fn begin(lines: &str, delegated: bool, start: i64) -> World {
        World::set_up(Setup {
            lines,
            policy: None,
            delegated,
            start,
            secondaries: 2,
            zone: child_zone(),
        })
    }

    fn set_up(setup: Setup<'_>) -> World {
        let mut site = Site::new();
        site.begin_at(setup.start);
        let parent = Server::nsd(&["test"], site.publication_port());
        let secondaries: Vec<Server> = (0..setup.secondaries)
            .map(|_| Server::nsd(&[ZONE], site.publication_port()))
            .collect();
        let of = |servers: &[&Server]| {
            let all: Vec<String> = servers
                .iter()
                .map(|s| format!("\"127.0.0.1:{}\"", s.port()))
                .collect();
            all.join(", ")
        };
        let outbound = |servers: &str| {
            format!(
                "[server.outbound]\nprovide-xfr-to = [\"127.0.0.1\"]\nsend-notify-to = [{servers}]\n"
            )
        };
        let at_parent = of(&[&parent]);
        site.policy(
            "parent",
            &format!(
                "{}[key-manager]\npublication-nameservers = [{at_parent}]\n[key-manager.records]\nttl = \"5m\"\n\
                 [key-manager.ksk]\nvalidity = \"forever\"\n[key-manager.zsk]\nvalidity = \"forever\"\n",
                outbound(&at_parent)
            ),
        );
        let mut world = World {
            site,
            parent,
            secondaries,
            ds: Vec::new(),
            serial: 1,
            anchor: String::new(),
            validated: BTreeSet::new(),
            asked: 0,
            follows: true,
            delegated: setup.delegated,
            signer: "key-roll-time = \"1m\"\n".to_string(),
            parent_lines: String::new(),
        };
        match setup.policy {
            Some(text) => world.whole_policy(text),
            None => world.child_policy(setup.lines),
        }
        world.site.start();
        world.site.ok(&["policy", "reload"]);
        world.write_parent();
        let parent_file = world.site.path("zones/test");
        add(&world.site, "test", "parent", &parent_file);
        let zone = world.site.write(&format!("zones/{ZONE}"), &setup.zone);
        add(&world.site, ZONE, "child", &zone);
        world.site.await_published(ZONE, 1);
        let ds = world.site.ok(&["keyset", "test", "get", "ds"]);
        world.anchor = ds.trim().to_string();
        until("the parent's server has the zone", || {
            world.parent.serial("test")
        });
        world
    }

    /// Writes the zone's policy, with the addresses of this world.
    fn whole_policy(&self, text: &str) {
        let of: Vec<String> = self
            .secondaries
            .iter()
            .map(|s| format!("\"127.0.0.1:{}\"", s.port()))
            .collect();
        let parent = format!("\"127.0.0.1:{}\"", self.parent.port());
        let text = text.replace("{servers}", &of.join(", "));
        self.site
            .policy("child", &text.replace("{parent}", &parent));
    }

    /// Writes the zone's policy; lines stand for what differs from the defaults.
    fn child_policy(&self, lines: &str) {
        self.child_policy_with(lines, "");
    }

    /// `ds`: more lines of `[key-manager.ds]`.
    fn child_policy_with(&self, lines: &str, ds: &str) {
        let of: Vec<String> = self
            .secondaries
            .iter()
            .map(|s| format!("\"127.0.0.1:{}\"", s.port()))
            .collect();
        let servers = of.join(", ");
        let parent = self.parent.port();
        self.site.policy(
            "child",
            &format!(
                "[server.outbound]\nprovide-xfr-to = [\"127.0.0.1\"]\nsend-notify-to = [{servers}]\n\
                 [key-manager]\npublication-nameservers = [{servers}]\n\
                 [key-manager.ds]\nparent-nameservers = [\"127.0.0.1:{parent}\"]\n{ds}\
                 [key-manager.observe]\nmargin = \"1m\"\n\
                 [key-manager.records]\nttl = \"5m\"\n[signer]\n{}{lines}",
                self.signer
            ),
        );
    }

    fn write_parent(&self) {
        let mut text = format!(
            "$ORIGIN test.\n$TTL {TTL}\n@ SOA ns u {} 60 30 86400 {TTL}\n@ NS ns\nns A 127.0.0.1\n",
            self.serial
        );
        if self.delegated {
            text.push_str("example NS ns1.example\nexample NS ns2.example\n");
            text.push_str("ns1.example A 127.0.0.1\nns2.example A 127.0.0.1\n");
        }
        text.push_str(&self.parent_lines);
        for ds in &self.ds {
            text.push_str(ds);
            text.push('\n');
        }
        self.site.write("zones/test", &text);
    }

    /// What an operator, or a parent that reads CDS, does.
    #[track_caller]
    fn put_ds(&mut self) {
        let get = self.site.ok(&["keyset", ZONE, "get", "ds"]);
        let wanted: Vec<String> = get.lines().map(str::to_owned).collect();
        if wanted == self.ds {
            return;
        }
        self.give_ds(wanted);
    }

    /// The parent has these DS records from now on.
    #[track_caller]
    fn give_ds(&mut self, ds: Vec<String>) {
        self.ds = ds;
        self.serial += 1;
        self.write_parent();
        self.site.ok(&["zone", "reload", "test"]);
        let tags: BTreeSet<String> = self.ds.iter().filter_map(|l| tag(l)).collect();
        until("the parent's server has the DS", || {
            let shown = self.parent.ask(&[ZONE, "DS"]).rdata("DS");
            let shown: BTreeSet<String> = shown
                .iter()
                .filter_map(|r| Some(r.split(' ').next()?.to_string()))
                .collect();
            (shown == tags).then_some(())
        });
    }

    fn resolver(&self) -> Server {
        let ports: Vec<u16> = self.secondaries.iter().map(Server::port).collect();
        let zones: [(&str, &[u16]); 2] = [("test", &[self.parent.port()]), (ZONE, &ports)];
        Server::unbound(&zones, &self.anchor, self.site.now())
    }

    fn rolls(&self) -> Vec<Value> {
        let path = format!("/v1/zones/{ZONE}/rolls");
        let reply = self.site.request("GET", &path, None);
        let json = reply.map_or(Value::Null, |r| r.json());
        json["items"].as_array().cloned().unwrap_or_default()
    }

    fn states(&self) -> Vec<String> {
        let one = |r: &Value| {
            format!(
                "{} {}",
                r["kind"].as_str().unwrap_or("?"),
                r["state"].as_str().unwrap_or("?")
            )
        };
        self.rolls().iter().map(one).collect()
    }

    /// A name that nobody has asked for before.
    fn fresh_name(&mut self) -> String {
        self.asked += 1;
        format!("n{}.wild.{ZONE}", self.asked)
    }

    /// The clock goes on until `done`; whatever happens meanwhile validates.
    #[track_caller]
    fn drive(&mut self, what: &str, limit: Duration, done: impl Fn(&World) -> bool) {
        let end = self.site.now() + limit.as_secs() as i64;
        while !done(self) {
            assert!(
                self.site.now() < end,
                "not within {limit:?}: {what}; rolls: {:#?}\n{}\n{}",
                self.rolls(),
                self.site.ok(&["zone", "why", ZONE]),
                self.site.log()
            );
            self.stride();
        }
    }

    #[track_caller]
    fn stride(&mut self) {
        let before = self.states();
        // A resolver with everything in its cache that was true just now.
        let primed = (!self.ds.is_empty()).then(|| {
            let resolver = self.resolver();
            for (name, rtype) in [(ZONE, "DNSKEY"), (ZONE, "DS"), (ZONE, "SOA")] {
                resolver.must_validate(name, rtype, &format!("primed, {before:?}"));
            }
            self.validated.extend(before.clone());
            resolver
        });
        self.site.advance(Duration::from_secs(STRIDE));
        // Work that is due is begun within 50 ms; signing, transfers and looks take their time.
        within(Duration::from_millis(400), || {
            (self.states() != before).then_some(())
        });
        let asked = self.states().iter().any(|s| s.ends_with("await-ds-seen"));
        if asked && self.follows {
            self.put_ds();
        }
        let after = self.states();
        let Some(primed) = primed else { return };
        let when = format!("{before:?} -> {after:?}");
        let name = self.fresh_name();
        primed.must_validate(&name, "A", &format!("with old keys in the cache, {when}"));
        if after == before {
            return;
        }
        // The secondaries have what is published; then nothing cached, and nothing old.
        let serial = self.site.served_serial(ZONE);
        until("the secondaries are up to date", || {
            let same = |s: &Server| s.serial(ZONE) >= Some(serial);
            self.secondaries.iter().all(same).then_some(())
        });
        let resolver = self.resolver();
        for (name, rtype) in [(ZONE, "DNSKEY"), (ZONE, "SOA"), (name.as_str(), "A")] {
            resolver.must_validate(name, rtype, &format!("nothing cached, {when}"));
        }
        self.validated.extend(after);
    }

    /// Settled, and linked to the parent.
    #[track_caller]
    fn link(&mut self) {
        self.drive("first keys settle", Duration::from_secs(7200), |w| {
            w.rolls().is_empty()
        });
        self.put_ds();
        let seen = |w: &World| {
            let keys = w.site.json(&["keyset", ZONE, "list"]);
            let items = keys["items"].as_array().cloned().unwrap_or_default();
            items.iter().any(|k| k["at_parent"] == "seen")
        };
        self.drive("the DS is seen", Duration::from_secs(7200), seen);
    }

    /// Waits until a roll of this kind has its keys, then until none runs.
    #[track_caller]
    fn roll(&mut self, kind: &str, states: &[&str]) {
        let of = format!("{kind} ");
        let begun = |s: &String| s.starts_with(&of) && !s.ends_with("await-keys");
        until("the roll has begun", || {
            self.states().iter().any(begun).then_some(())
        });
        self.validated.clear();
        self.drive("the roll ends", Duration::from_secs(86_400), |w| {
            w.rolls().is_empty()
        });
        for state in states {
            let seen = self.validated.contains(&format!("{kind} {state}"));
            assert!(seen, "{state} is missing in {:?}", self.validated);
        }
    }

    fn tags(&self, active: &str) -> BTreeSet<u64> {
        let keys = self.site.json(&["keyset", ZONE, "list"]);
        let items = keys["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .filter(|k| k["state"] == active)
            .filter_map(|k| k["tag"].as_u64())
            .collect()
    }
}

fn tag(ds_line: &str) -> Option<String> {
    let fields: Vec<&str> = ds_line.split_whitespace().collect();
    let at = fields.iter().position(|f| *f == "DS")?;
    Some(fields.get(at + 1)?.to_string())
}

fn add(site: &Site, zone: &str, policy: &str, file: &std::path::Path) {
    let file = file.to_str().unwrap();
    site.ok(&["zone", "add", zone, "--source", file, "--policy", policy]);
}

fn child_zone() -> String {
    format!(
        "$ORIGIN {ZONE}.\n$TTL {TTL}\n@ SOA ns1 u 1 60 30 86400 {TTL}\n@ NS ns1\n@ NS ns2\n\
         ns1 A 127.0.0.1\nns2 A 127.0.0.1\nwww A 192.0.2.1\n*.wild A 192.0.2.2\n"
    )
}

const PRE_PUBLISH: [&str; 5] = [
    "await-dnskey-seen",
    "await-dnskey-expired",
    "await-rrsig-seen",
    "await-rrsig-expired",
    "await-dnskey-gone",
];

#[test]
fn a_zsk_is_rolled() {
    let mut world = World::new("");
    world.link();
    let before = world.tags("active");
    assert_eq!(before.len(), 2, "KSK and ZSK");
    let said = world.site.ok(&["keyset", ZONE, "zsk", "start-roll"]);
    assert_eq!(said, format!("Manual key roll for {ZONE} successful\n"));
    world.roll("zsk", &PRE_PUBLISH);
    let after = world.tags("active");
    assert_eq!(before.intersection(&after).count(), 1, "the KSK stays");
    assert_eq!(world.tags("removed").len(), 1);
}

#[test]
fn a_roll_survives_the_end_of_the_daemon_at_every_step() {
    let mut world = World::new("");
    world.link();
    world.site.ok(&["keyset", ZONE, "zsk", "start-roll"]);
    let mut ended_in = BTreeSet::new();
    for _ in 0..100 {
        let states = world.states();
        if states.is_empty() {
            break;
        }
        if ended_in.insert(states) {
            let now = world.site.now();
            world.site.kill();
            world.site.begin_at(now);
            world.site.start();
        }
        world.stride();
    }
    assert!(world.rolls().is_empty(), "{:?}", world.states());
    assert!(ended_in.len() >= 5, "{ended_in:?}");
    assert_eq!(world.tags("removed").len(), 1);
}

#[test]
fn a_ksk_is_rolled() {
    let mut world = World::new("");
    world.link();
    let before = world.tags("active");
    world.site.ok(&["keyset", ZONE, "ksk", "start-roll"]);
    world.roll(
        "ksk",
        &[
            "await-dnskey-seen",
            "await-dnskey-expired",
            "await-ds-seen",
            "await-ds-expired",
            "await-dnskey-gone",
        ],
    );
    let after = world.tags("active");
    assert_eq!(before.intersection(&after).count(), 1, "the ZSK stays");
    // The parent has what is wanted; CDS and CDNSKEY have gone again.
    let cds = |w: &World| w.site.ask(&[ZONE, "CDS"]).rdata("CDS").len();
    world.drive("CDS is withdrawn", Duration::from_secs(7200), |w| {
        cds(w) == 0
    });
    assert_eq!(world.parent.ask(&[ZONE, "DS"]).rdata("DS").len(), 1);
}

#[test]
fn a_csk_takes_over_and_is_rolled() {
    let mut world = World::new("");
    world.link();
    let csk = "[key-manager.generation]\nuse-csk = true\n";
    world.child_policy(csk);
    let plan = world.site.ok(&["policy", "plan"]);
    assert!(plan.contains(ZONE) && plan.contains("csk"), "{plan}");
    world.site.ok(&["policy", "reload", "--yes"]);
    let states = ["await-dnskey-seen", "await-ds-seen", "await-ds-expired"];
    world.roll("csk", &states);
    let single = world.tags("active");
    assert_eq!(single.len(), 1, "one key for all");
    world.site.ok(&["keyset", ZONE, "csk", "start-roll"]);
    world.roll("csk", &states);
    let after = world.tags("active");
    assert!(after.len() == 1 && after != single);
    let refused = world.site.cascade(&["keyset", ZONE, "zsk", "start-roll"]);
    refused
        .expect(1)
        .complains(&["uses a CSK", "csk start-roll"]);
}

#[test]
fn an_algorithm_is_rolled() {
    let mut world = World::new("");
    world.link();
    world.child_policy("[key-manager.generation]\nalgorithm = \"ED25519\"\n");
    world.site.ok(&["policy", "reload", "--yes"]);
    world.roll(
        "algorithm",
        &[
            "await-rrsig-seen",
            "await-rrsig-expired",
            "await-dnskey-seen",
            "await-dnskey-expired",
            "await-ds-seen",
            "await-ds-expired",
            "await-dnskey-gone",
            "await-rrsig-gone",
        ],
    );
    let keys = world.site.ask(&[ZONE, "DNSKEY"]).rdata("DNSKEY");
    assert_eq!(keys.len(), 2);
    assert!(
        keys.iter().all(|k| k.split(' ').nth(2) == Some("15")),
        "{keys:?}"
    );
    let sigs = world.site.ask(&["+dnssec", ZONE, "SOA"]).rdata("RRSIG");
    assert!(
        sigs.len() == 1 && sigs[0].starts_with("SOA 15 "),
        "{sigs:?}"
    );
}

#[test]
fn an_algorithm_is_rolled_with_cds_there_all_the_time() {
    let mut world = World::today("");
    let ds = "cds = \"always\"\n";
    world.child_policy_with("", ds);
    world.site.ok(&["policy", "reload", "--yes"]);
    world.link();
    let algorithms = |records: Vec<String>, field: usize| -> BTreeSet<String> {
        let field = |r: &String| r.split(' ').nth(field).map(str::to_owned);
        records.iter().filter_map(field).collect()
    };
    // Algorithms of the DNSKEY RRset, and of the signatures over CDS and CDNSKEY.
    let shown = |w: &World| {
        let dnskey = algorithms(w.site.ask(&[ZONE, "DNSKEY"]).rdata("DNSKEY"), 2);
        let over = |rtype: &str| {
            let sigs = w.site.ask(&["+dnssec", ZONE, rtype]).rdata("RRSIG");
            algorithms(sigs, 1)
        };
        (dnskey, over("CDS"), over("CDNSKEY"))
    };
    world.drive("CDS is there", Duration::from_secs(7200), |w| {
        !shown(w).1.is_empty()
    });
    let policy = "[key-manager.generation]\nalgorithm = \"ED25519\"\n";
    world.child_policy_with(policy, ds);
    world.site.ok(&["policy", "reload", "--yes"]);
    until("the roll has begun", || {
        (!world.rolls().is_empty()).then_some(())
    });
    let steps = RefCell::new(Vec::new());
    world.drive("the roll ends", Duration::from_secs(80_000), |w| {
        judge(&w.site, ZONE);
        let (dnskey, cds, cdnskey) = shown(w);
        assert_eq!(cds, cdnskey);
        assert!(cds.is_superset(&dnskey), "{cds:?} {dnskey:?}");
        let join = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join("+");
        let step = format!("{} {}", join(dnskey), join(cds));
        if steps.borrow().last() != Some(&step) {
            steps.borrow_mut().push(step);
        }
        w.rolls().is_empty()
    });
    let want = ["13 13", "13 13+15", "13+15 13+15", "15 13+15", "15 15"];
    let steps = steps.into_inner();
    let from = steps.len().saturating_sub(4);
    assert_eq!(steps[from..], want[1..], "{steps:?}");
}

#[test]
fn by_hand_every_step_waits_for_its_command_and_says_so() {
    let manual = "[key-manager.zsk]\nauto-start = false\nauto-report = false\nauto-expire = false\nauto-done = false\n";
    let mut world = World::new(manual);
    world.link();
    let zsk = |world: &World, step: &[&str]| {
        let mut args = vec!["keyset", ZONE, "zsk"];
        args.extend(step);
        world.site.cascade(&args)
    };
    zsk(&world, &["cache-expired1"])
        .expect(1)
        .complains(&["No ZSK roll is running"]);
    zsk(&world, &["start-roll"]).expect(0);
    until("the new key is published", || {
        (world.site.ask(&[ZONE, "DNSKEY"]).rdata("DNSKEY").len() == 3).then_some(())
    });
    let seen = |w: &World| {
        w.rolls()[0]["evidence"].as_array().is_some_and(|e| {
            e.len() == 2
                && e.iter()
                    .all(|e| e["text"].as_str().unwrap().ends_with(", as expected"))
        })
    };
    world.drive("the looks agree", Duration::from_secs(3600), seen);
    assert_eq!(world.states(), ["zsk await-dnskey-seen"]);
    let why = world.site.ok(&["zone", "why", ZONE]);
    assert!(why.contains("zsk propagation1-complete 300"), "{why}");
    // Another step, too small a TTL, then what fits.
    zsk(&world, &["cache-expired1"])
        .expect(1)
        .complains(&["await-dnskey-seen", "propagation1-complete"]);
    zsk(&world, &["propagation1-complete", "10"])
        .expect(1)
        .complains(&["TTL 10 is below 300"]);
    zsk(&world, &["propagation1-complete", "300"]).expect(0);
    // Caches cannot be forced.
    for force in [&["cache-expired1"][..], &["cache-expired1", "--force"]] {
        zsk(&world, force)
            .expect(1)
            .complains(&["Caches may hold the DNSKEY RRset without the new key until"]);
    }
    let allowed = |w: &World, step: &[&str]| zsk(w, step).code == Some(0);
    world.drive("caches let go", Duration::from_secs(3600), |w| {
        allowed(w, &["cache-expired1"])
    });
    world.drive("signatures are replaced", Duration::from_secs(3600), |w| {
        allowed(w, &["propagation2-complete", "300"])
    });
    world.drive("caches let go", Duration::from_secs(3600), |w| {
        allowed(w, &["cache-expired2"])
    });
    world.drive("all is done", Duration::from_secs(3600), |w| {
        allowed(w, &["roll-done"])
    });
    assert_eq!(world.tags("removed").len(), 1);
}

#[test]
fn a_parent_that_keeps_the_old_ds_is_named_and_the_old_key_stays() {
    let mut world = World::new("");
    world.link();
    let old: Vec<String> = world.ds.clone();
    world.follows = false;
    world.site.ok(&["keyset", ZONE, "ksk", "start-roll"]);
    world.drive("the DS is wanted", Duration::from_secs(7200), |w| {
        w.states() == ["ksk await-ds-seen"]
    });
    // Both at the parent: the new one is seen, the old one is in the way.
    world.ds.extend(old.clone());
    world.serial += 1;
    world.write_parent();
    world.site.ok(&["zone", "reload", "test"]);
    for _ in 0..20 {
        world.site.advance(Duration::from_secs(600));
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(world.states(), ["ksk await-ds-seen"]);
    let why = world.site.ok(&["zone", "why", ZONE]);
    let old_tag = tag(&old[0]).unwrap();
    for word in ["waits for the parent", "127.0.0.1", &old_tag, "get ds"] {
        assert!(why.contains(word), "no `{word}` in {why}");
    }
    assert_eq!(world.site.ask(&[ZONE, "DNSKEY"]).rdata("DNSKEY").len(), 3);
    world.follows = true;
    world.roll("ksk", &["await-ds-expired", "await-dnskey-gone"]);
}

#[test]
fn signatures_stay_fresh_for_months() {
    let mut world = World::new("[key-manager.zsk]\nvalidity = \"forever\"\n");
    world.link();
    for day in 0..60 {
        world.site.advance(Duration::from_secs(86_400));
        let serial = world.site.served_serial("test");
        until("the parent is up to date", || {
            (world.parent.serial("test") >= Some(serial)).then_some(())
        });
        std::thread::sleep(Duration::from_millis(250));
        if day % 5 == 4 {
            let serial = world.site.served_serial(ZONE);
            until("the secondaries are up to date", || {
                let same = |s: &Server| s.serial(ZONE) >= Some(serial);
                world.secondaries.iter().all(same).then_some(())
            });
            let name = world.fresh_name();
            let resolver = world.resolver();
            for (name, rtype) in [(ZONE, "DNSKEY"), (ZONE, "SOA"), (name.as_str(), "A")] {
                resolver.must_validate(name, rtype, &format!("on day {day}"));
            }
        }
    }
}

#[test]
fn the_hook_tells_the_parent_until_it_succeeds() {
    let mut world = World::new("");
    let told = world.site.path("told");
    // Fails once.
    let hook = world.site.script(
        "tell",
        &format!(
            "echo \"$CASCADE_ZONE|$CASCADE_DS_ADD|$CASCADE_DS_REMOVE|$CASCADE_CDS\" >> {0}\n[ $(wc -l < {0}) -gt 1 ]\n",
            told.display()
        ),
    );
    world.child_policy_with("", &format!("hook = \"{}\"\n", hook.display()));
    world.site.ok(&["policy", "reload", "--yes"]);
    let lines = |w: &World| {
        let text = std::fs::read_to_string(w.site.path("told")).unwrap_or_default();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    world.drive("the hook is run twice", Duration::from_secs(7200), |w| {
        lines(w).len() == 2
    });
    let lines = lines(&world);
    assert_eq!(lines[0], lines[1]);
    let parts: Vec<&str> = lines[0].split('|').collect();
    let ds = world.site.ok(&["keyset", ZONE, "get", "ds"]);
    assert_eq!(parts[0], ZONE);
    assert_eq!(tag(parts[1]), tag(ds.trim()), "{lines:?}");
    assert_eq!(parts[2], "");
    assert!(parts[3].contains(" CDS "), "{lines:?}");
    let history = world.site.ok(&["zone", "history", ZONE, "--kind", "key"]);
    assert!(history.contains("the parent was told"), "{history}");
}

#[test]
fn a_zone_that_the_parent_does_not_know_rolls_by_its_own_output() {
    let mut world = World::with("", false);
    // Its servers are asked by nobody: they may as well be gone.
    world.secondaries.clear();
    world.follows = false;
    world.drive("first keys settle", Duration::from_secs(7200), |w| {
        w.rolls().is_empty()
    });
    let before = world.tags("active");
    for kind in ["zsk", "ksk"] {
        world.site.ok(&["keyset", ZONE, kind, "start-roll"]);
        until("the roll has begun", || {
            (!world.rolls().is_empty()).then_some(())
        });
        world.drive("the roll ends", Duration::from_secs(86_400), |w| {
            w.rolls().is_empty()
        });
    }
    let after = world.tags("active");
    assert_eq!((before.len(), after.len()), (2, 2));
    assert_eq!(before.intersection(&after).count(), 0, "both are new");
    // Nobody is asked for a DS.
    assert!(world.site.ask(&[ZONE, "CDS"]).rdata("CDS").is_empty());
}

#[test]
fn a_leaked_key_is_replaced_by_the_standby_key() {
    let mut world = World::new("[key-manager.generation]\nstandby-zsk = 1\n");
    world.link();
    let count = |w: &World| w.site.ask(&[ZONE, "DNSKEY"]).rdata("DNSKEY").len();
    world.drive(
        "the standby key is published",
        Duration::from_secs(7200),
        |w| count(w) == 3,
    );
    let ready = |w: &World| w.tags("ready");
    world.drive("the standby key is ready", Duration::from_secs(7200), |w| {
        ready(w).len() == 1
    });
    let (before, spare) = (world.tags("active"), ready(&world));
    let asked = world.site.cascade(&["keyset", ZONE, "emergency", "zsk"]);
    asked
        .expect(1)
        .complains(&["safe ends about", "fast ends about"]);
    assert!(world.rolls().is_empty());
    let said = world
        .site
        .ok(&["keyset", ZONE, "emergency", "zsk", "--yes"]);
    assert_eq!(
        said,
        format!("Emergency roll of ZSK for {ZONE} started: safe\n")
    );
    let states = [
        "await-dnskey-expired",
        "await-rrsig-seen",
        "await-rrsig-expired",
    ];
    world.roll("zsk", &states[1..]);
    let after = world.tags("active");
    assert_eq!(after.intersection(&spare).count(), 1, "the spare key signs");
    assert_eq!(
        after.intersection(&before).count(),
        1,
        "the leaked one does not"
    );
    world.drive(
        "there is a spare key again",
        Duration::from_secs(7200),
        |w| count(w) == 3,
    );
}

#[test]
fn keys_are_imported_and_removed() {
    let mut world = World::new("");
    world.link();
    // A key of this daemon's other zone has another owner; one made by others fits.
    let refused = world.site.cascade(&["keyset", ZONE, "import"]);
    refused.expect(2);
    let dir = world.site.path("import");
    std::fs::create_dir(&dir).unwrap();
    let made = std::process::Command::new("dnssec-keygen")
        .args(["-q", "-a", "ECDSAP256SHA256", "-K"])
        .arg(&dir)
        .arg(ZONE)
        .output()
        .expect("dnssec-keygen is installed (Debian: bind9-utils)");
    let base = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let file = dir.join(format!("{base}.key"));
    let said = world.site.ok(&[
        "keyset",
        ZONE,
        "import",
        "--import-zsk-file",
        file.to_str().unwrap(),
    ]);
    let tag: u64 = base.rsplit('+').next().unwrap().parse().unwrap();
    assert_eq!(said, format!("Imported key {tag} into {ZONE}\n"));
    let twice = [
        "keyset",
        ZONE,
        "import",
        "--import-zsk-file",
        file.to_str().unwrap(),
    ];
    world
        .site
        .cascade(&twice)
        .expect(1)
        .complains(&["exists already", "nothing was imported"]);
    until("it is published", || {
        (world.site.ask(&[ZONE, "DNSKEY"]).rdata("DNSKEY").len() == 3).then_some(())
    });
    let old = world.tags("active");
    world.site.ok(&["keyset", ZONE, "zsk", "start-roll"]);
    world.roll("zsk", &["await-rrsig-expired"]);
    assert!(world.tags("active").contains(&tag), "it is the successor");
    // In use: not removed; removed already: to the trash.
    let tag = tag.to_string();
    let in_use = world
        .site
        .cascade(&["keyset", ZONE, "remove-key", &tag, "--yes"]);
    in_use.expect(1).complains(&["in use"]);
    let gone = old
        .difference(&world.tags("active"))
        .next()
        .unwrap()
        .to_string();
    world
        .site
        .ok(&["keyset", ZONE, "remove-key", &gone, "--yes"]);
    let list = world.site.ok(&["keyset", ZONE, "list"]);
    assert!(!list.contains(&gone), "{list}");
    let all = world.site.ok(&["keyset", ZONE, "list", "--all"]);
    assert!(all.contains(&gone) && all.contains("in the trash"), "{all}");
    // From there it can be destroyed before its time; what is in use cannot.
    let purge = |key: &str| {
        world
            .site
            .cascade(&["keyset", ZONE, "remove-key", key, "--purge", "--yes"])
    };
    purge(&tag).expect(1).complains(&["cannot be removed"]);
    let unsure = ["keyset", ZONE, "remove-key", &gone, "--purge"];
    let unsure = world.site.cascade(&unsure);
    unsure.expect(1).complains(&["nothing brings it back"]);
    purge(&gone).expect(0);
    let all = world.site.ok(&["keyset", ZONE, "list", "--all"]);
    assert!(!all.contains(&gone), "{all}");
    purge(&gone).expect(3).complains(&["has no key"]);
}

#[test]
fn cds_stands_as_the_policy_says() {
    let mut world = World::new("");
    world.child_policy_with("", "cds = \"always\"\ncdnskey = false\n");
    world.site.ok(&["policy", "reload", "--yes"]);
    world.link();
    let count = |w: &World, rtype: &str| w.site.ask(&[ZONE, rtype]).rdata(rtype).len();
    world.drive("CDS is alone", Duration::from_secs(7200), |w| {
        (count(w, "CDS"), count(w, "CDNSKEY")) == (1, 0)
    });
    world.child_policy_with("", "cds = \"never\"\n");
    world.site.ok(&["policy", "reload", "--yes"]);
    world.drive("CDS is gone", Duration::from_secs(7200), |w| {
        count(w, "CDS") == 0
    });
    // To insecure: the delete form, until the parent has no DS and no cache holds one.
    world.child_policy_with("", "cds = \"delete\"\n");
    world.site.ok(&["policy", "reload", "--yes"]);
    world.drive("the delete form is there", Duration::from_secs(7200), |w| {
        w.site.ask(&[ZONE, "CDS"]).rdata("CDS") == ["0 0 0 00"]
    });
    assert_eq!(
        world.site.ask(&[ZONE, "CDNSKEY"]).rdata("CDNSKEY"),
        ["0 3 0 AA=="]
    );
    world.ds.clear();
    world.serial += 1;
    world.write_parent();
    world.site.ok(&["zone", "reload", "test"]);
    world.drive("the zone is an island", Duration::from_secs(86_400), |w| {
        w.rolls().is_empty()
    });
    world.drive("the delete form is gone", Duration::from_secs(7200), |w| {
        count(w, "CDS") == 0
    });
    assert_eq!(count(&world, "DNSKEY"), 2, "signed as before");
}

/// Days pass, and the daemon does what is due.
fn days(world: &World, n: u64) {
    for _ in 0..n {
        world.site.advance(Duration::from_secs(86_400));
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// As [`days`], and on by hours, for at most two days more: a look at servers takes its time, and what a jump of the clock
/// made old is looked at again later.
#[track_caller]
fn days_until(world: &World, n: u64, what: &str, done: impl Fn(&World) -> bool) {
    days(world, n);
    for _ in 0..48 {
        if within(Duration::from_millis(500), || done(world).then_some(())).is_some() {
            return;
        }
        world.site.advance(Duration::from_secs(3600));
    }
    until(what, || done(world).then_some(()));
}

/// The file pair of a key: where its reference says, and in the trash.
fn key_files(world: &World, tag: u64) -> (PathBuf, PathBuf) {
    let keys = world.site.json(&["keyset", ZONE, "list", "--all"]);
    let items = keys["items"].as_array().cloned().unwrap_or_default();
    let key = items
        .iter()
        .find(|k| k["tag"] == tag)
        .expect("it is listed");
    let path = key["reference"].as_str().unwrap().strip_prefix("file://");
    let path = PathBuf::from(path.unwrap());
    let aside = path.with_file_name("trash").join(path.file_name().unwrap());
    (path, aside)
}

fn is_pair(path: &Path) -> bool {
    path.is_file() && path.with_extension("private").is_file()
}

#[test]
fn a_key_goes_to_the_trash_and_back_and_is_destroyed_in_the_end() {
    let mut world = World::new("[key-manager.zsk]\nvalidity = \"forever\"\n");
    world.link();
    let before = world.tags("active");
    world.site.ok(&["keyset", ZONE, "zsk", "start-roll"]);
    world.roll("zsk", &[]);
    let old = *before.difference(&world.tags("active")).next().unwrap();
    let tag = old.to_string();
    let (place, aside) = key_files(&world, old);
    assert!(is_pair(&place));
    // Not a key that has left: nothing to restore.
    let stays = world.tags("active");
    let ksk = before.intersection(&stays).next().unwrap();
    let refused = world
        .site
        .cascade(&["keyset", ZONE, "restore-key", &ksk.to_string()]);
    refused.expect(1).complains(&["has not left the zone"]);
    days_until(&world, 8, "the pair is in the trash", |_| is_pair(&aside));
    assert!(!place.exists());
    let list = world.site.ok(&["keyset", ZONE, "list", "--all"]);
    assert!(list.contains("in the trash"), "{list}");
    let said = world.site.ok(&["keyset", ZONE, "restore-key", &tag]);
    assert_eq!(said, format!("Restored key {tag} in zone {ZONE}\n"));
    until("the pair is back", || is_pair(&place).then_some(()));
    assert_eq!(world.tags("generated"), BTreeSet::from([old]));
    let other = world
        .tags("active")
        .difference(&before)
        .copied()
        .next()
        .unwrap();
    world.site.ok(&["keyset", ZONE, "zsk", "start-roll"]);
    world.roll("zsk", &["await-rrsig-expired"]);
    assert!(
        world.tags("active").contains(&old),
        "the old key signs again"
    );
    // The one in between: a week, and the retention of 30 days.
    let (_, aside) = key_files(&world, other);
    days_until(&world, 8, "the pair is in the trash", |_| is_pair(&aside));
    let now = world.site.now();
    world.site.kill();
    world.site.begin_at(now);
    world.site.start();
    days_until(&world, 31, "the pair is destroyed", |_| {
        !aside.exists() && !aside.with_extension("private").exists()
    });
    let gone = world
        .site
        .cascade(&["keyset", ZONE, "restore-key", &other.to_string()]);
    gone.expect(3);
}

#[test]
fn a_ds_that_comes_back_brings_its_key_back() {
    let mut world = World::new("[key-manager.zsk]\nvalidity = \"forever\"\n");
    world.link();
    let old_ds = world.ds.clone();
    let old: u64 = tag(&old_ds[0]).unwrap().parse().unwrap();
    world.site.ok(&["keyset", ZONE, "ksk", "start-roll"]);
    world.roll("ksk", &[]);
    let keys = |w: &World| w.site.ask(&[ZONE, "DNSKEY"]).rdata("DNSKEY").len();
    until("the old key has left", || (keys(&world) == 2).then_some(()));
    let (_, aside) = key_files(&world, old);
    days_until(&world, 8, "it is in the trash", |_| is_pair(&aside));
    // A registrar brings an old ticket to its end: its DS alone.
    let new_ds = world.ds.clone();
    world.give_ds(old_ds);
    days_until(&world, 2, "its key is there again", |w| keys(w) == 3);
    let signers = |w: &World| {
        let sigs = w.site.ask(&["+dnssec", ZONE, "DNSKEY"]).rdata("RRSIG");
        let tag = |s: &String| s.split(' ').nth(6).and_then(|t| t.parse::<u64>().ok());
        sigs.iter().filter_map(tag).collect::<BTreeSet<_>>()
    };
    assert!(signers(&world).contains(&old), "{:?}", signers(&world));
    let serial = world.site.served_serial(ZONE);
    until("the secondaries are up to date", || {
        let same = |s: &Server| s.serial(ZONE) >= Some(serial);
        world.secondaries.iter().all(same).then_some(())
    });
    let resolver = world.resolver();
    resolver.must_validate(ZONE, "SOA", "by the DS of the key that came back");
    let history = world.site.ok(&["zone", "history", ZONE, "--kind", "key"]);
    assert!(history.contains("was brought back"), "{history}");
    assert!(world.site.log().contains("was brought back"));
    // When it has gone from the parent and from caches, the key leaves again.
    world.give_ds(new_ds);
    days_until(&world, 3, "the key has left again", |w| keys(w) == 2);
}

#[test]
fn a_zone_that_is_added_again_takes_its_keys_back() {
    let mut world = World::new("");
    world.link();
    let keys = world.tags("active");
    let files: Vec<_> = keys.iter().map(|t| key_files(&world, *t)).collect();
    let ds = tag(&world.ds[0]).unwrap();
    // Validating resolvers would fail: not without consent.
    let refused = world.site.cascade(&["zone", "remove", ZONE]);
    refused.expect(1).complains(&["the parent has DS", &ds]);
    world.site.ok(&["zone", "remove", ZONE, "--yes"]);
    assert!(
        files
            .iter()
            .all(|(place, aside)| !place.exists() && is_pair(aside))
    );
    let file = world.site.path(&format!("zones/{ZONE}"));
    let file = file.to_str().unwrap().to_owned();
    let plain = ["zone", "add", ZONE, "--source", &file, "--policy", "child"];
    let dry = world.site.cascade(&[&plain[..], &["--dry-run"]].concat());
    dry.expect(0)
        .complains(&["the parent had a DS of the zone's earlier keys"]);
    world.site.ok(&[&plain[..], &["--restore-keys"]].concat());
    world.site.await_published(ZONE, 1);
    assert_eq!(world.tags("active"), keys);
    until("the pairs are back", || {
        files.iter().all(|(place, _)| is_pair(place)).then_some(())
    });
    let serial = world.site.served_serial(ZONE);
    until("the secondaries are up to date", || {
        let same = |s: &Server| s.serial(ZONE) >= Some(serial);
        world.secondaries.iter().all(same).then_some(())
    });
    world
        .resolver()
        .must_validate(ZONE, "SOA", "with the keys taken back");
    // Rolls go on with them.
    world.site.ok(&["keyset", ZONE, "zsk", "start-roll"]);
    world.roll("zsk", &PRE_PUBLISH);
    // Destroying them needs more than a yes: the DS has to be agreed to.
    let path = format!("/v1/zones/{ZONE}?keys=purge&yes=true");
    let refused = world.site.request("DELETE", &path, Some("")).unwrap();
    assert_eq!(refused.status, 409, "{}", refused.json());
    assert_eq!(
        refused.json()["type"],
        "urn:cascade:problem:confirmation-required"
    );
    assert!(refused.json()["effects"].to_string().contains(&ds));
    world
        .site
        .ok(&["zone", "remove", ZONE, "--purge-keys", "--yes"]);
    assert!(
        !files
            .iter()
            .any(|(place, aside)| place.exists() || aside.exists())
    );
    let none = world
        .site
        .cascade(&[&plain[..], &["--restore-keys"]].concat());
    none.expect(3).complains(&["no keys of an earlier zone"]);
}

#[test]
fn a_change_of_the_zone_signing_key_takes_its_time() {
    let mut world = World::new("");
    // Some thousand names, in some dozens of leaves.
    let mut text = child_zone().replace(" u 1 60", " u 2 60");
    for i in 0..4000 {
        text.push_str(&format!("host{i} A 192.0.2.{}\n", i % 250 + 1));
    }
    world.site.write(&format!("zones/{ZONE}"), &text);
    world.site.ok(&["zone", "reload", ZONE]);
    // Rightly held: a zone does not grow a thousandfold every day.
    world
        .site
        .await_status(ZONE, "held", |s| s["state"] == "unsigned-review");
    world.site.ok(&["zone", "approve", "--unsigned", ZONE, "2"]);
    world.site.await_published(ZONE, 2);
    world.link();
    world.signer = "key-roll-time = \"6h\"\n".to_string();
    world.child_policy("");
    world.site.ok(&["policy", "reload", "--yes"]);
    let before = world.tags("active");
    world.site.ok(&["keyset", ZONE, "zsk", "start-roll"]);
    until("the roll has begun", || {
        (!world.rolls().is_empty()).then_some(())
    });
    world.drive("the new key may sign", Duration::from_secs(7200), |w| {
        w.states() == ["zsk await-rrsig-seen"]
    });
    let old: Vec<String> = before.iter().map(u64::to_string).collect();
    // Signatures over A records, and how many of them are still by the old key.
    let share = |w: &World| {
        let copy = w.site.path("transferred");
        cascade_e2e::transfer(w.site.publication_port(), ZONE, &copy).unwrap();
        let text = std::fs::read_to_string(&copy).unwrap();
        let tags: Vec<&str> = text
            .lines()
            .filter_map(|l| l.split("RRSIG").nth(1)?.trim().strip_prefix("A "))
            .filter_map(|rest| rest.split_whitespace().nth(5))
            .collect();
        let by_old = tags.iter().filter(|t| old.iter().any(|o| o == *t)).count();
        by_old as f64 / tags.len() as f64
    };
    let began = world.site.now();
    let mut shares = vec![share(&world)];
    while shares.last() > Some(&0.0) && shares.len() < 60 {
        world.site.advance(Duration::from_secs(600));
        let serial = world.site.served_serial(ZONE);
        within(Duration::from_secs(3), || {
            (world.site.served_serial(ZONE) != serial).then_some(())
        });
        shares.push(share(&world));
    }
    let hours = (world.site.now() - began) as f64 / 3600.0;
    assert!((4.9..=7.0).contains(&hours), "{hours} h: {shares:?}");
    assert!(shares.is_sorted_by(|a, b| a >= b), "{shares:?}");
    // Evenly: half of it after half of the time.
    let half = shares[shares.len() / 2];
    assert!((0.3..=0.7).contains(&half), "{shares:?}");
    judge_now(&world);
    world.roll("zsk", &["await-rrsig-expired"]);
    assert_eq!(world.tags("removed").len(), 1);
}

/// With a resolver: programs without an option for the time cannot judge a zone of another year.
fn judge_now(world: &World) {
    let serial = world.site.served_serial(ZONE);
    until("the secondaries are up to date", || {
        let same = |s: &Server| s.serial(ZONE) >= Some(serial);
        world.secondaries.iter().all(same).then_some(())
    });
    let resolver = world.resolver();
    for i in (0..4000).step_by(250) {
        resolver.must_validate(
            &format!("host{i}.{ZONE}"),
            "A",
            "in the middle of the change",
        );
    }
}

#[test]
fn looks_that_show_nothing_new_are_not_written() {
    let mut world = World::new("");
    world.follows = false;
    world.drive("first keys settle", Duration::from_secs(7200), |w| {
        w.rolls().is_empty()
    });
    // The parent is asked for a DS and does nothing: every half hour somebody looks.
    let looked = |w: &World| w.site.ok(&["--json", "zone", "why", ZONE]);
    // The parent's own first keys settle as well.
    for _ in 0..5 {
        world.site.advance(Duration::from_secs(1801));
        std::thread::sleep(Duration::from_millis(300));
    }
    let written = |w: &World| {
        let state = w.site.path("state/state.redb");
        std::fs::metadata(state).unwrap().modified().unwrap()
    };
    // What a publication left to be done later may still be written; looks alone are not.
    let mut seen = false;
    for _ in 0..20 {
        let (before, at) = (looked(&world), written(&world));
        for _ in 0..3 {
            world.site.advance(Duration::from_secs(1801));
            std::thread::sleep(Duration::from_millis(300));
        }
        if looked(&world) != before && written(&world) == at {
            seen = true;
            break;
        }
    }
    assert!(seen, "the looks are shown, and not written");
}

/// Whether a resolver takes answers for secure, insecure or bogus.
fn judged(resolver: &Server, name: &str) -> &'static str {
    let answer = resolver.ask(&["+dnssec", name, "A"]);
    match (answer.status.as_str(), answer.has_flag("ad")) {
        ("NOERROR", true) => "secure",
        ("NOERROR", false) if !answer.answer.is_empty() => "insecure",
        _ => "bogus",
    }
}

/// The clock goes on until `done`; nobody, with old data in the cache or with none, sees bogus
/// answers. What was seen, without repetitions.
#[track_caller]
fn never_bogus(world: &mut World, what: &str, done: impl Fn(&World) -> bool) -> Vec<&'static str> {
    let mut seen = Vec::new();
    for _ in 0..400 {
        if done(world) {
            return seen;
        }
        let before = world.states();
        let primed = world.resolver();
        for rtype in ["DNSKEY", "DS", "SOA"] {
            primed.ask(&["+dnssec", ZONE, rtype]);
        }
        world.site.advance(Duration::from_secs(STRIDE));
        within(Duration::from_millis(400), || {
            (world.states() != before).then_some(())
        });
        for resolver in [primed, world.resolver()] {
            let name = world.fresh_name();
            let verdict = judged(&resolver, &name);
            let now = world.states();
            assert_ne!(
                verdict,
                "bogus",
                "{what}: {before:?} -> {now:?}\n{}",
                resolver.log()
            );
            if seen.last() != Some(&verdict) {
                seen.push(verdict);
            }
        }
    }
    panic!(
        "{what} does not come: {}",
        world.site.ok(&["zone", "why", ZONE])
    );
}

#[test]
fn a_zone_goes_without_dnssec_and_comes_back() {
    let mut world = World::new("");
    world.link();
    let count = |w: &World, rtype: &str| w.site.ask(&[ZONE, rtype]).rdata(rtype).len();
    // Ordered at once, and not done at once: a DS leads to the zone.
    world.signer.push_str("mode = \"unsigned\"\n");
    world.child_policy("");
    let asked = world.site.cascade(&["policy", "reload"]);
    asked.expect(1).complains(&["signer.mode"]);
    world.site.ok(&["policy", "reload", "--yes"]);
    let seen = never_bogus(&mut world, "nothing", |w| {
        w.site
            .ok(&["zone", "why", ZONE])
            .contains("cds = \"delete\"")
    });
    assert!(!seen.contains(&"insecure"), "{seen:?}");
    // A DS that was asked for counts as on its way for the time of `remind-after`.
    let ds = "cds = \"delete\"\nremind-after = \"10m\"\n";
    world.child_policy_with("", ds);
    world.site.ok(&["policy", "reload", "--yes"]);
    never_bogus(&mut world, "the delete form", |w| {
        w.site.ask(&[ZONE, "CDS"]).rdata("CDS") == ["0 0 0 00"]
    });
    for _ in 0..8 {
        let before = world.site.now();
        never_bogus(&mut world, "time", |w| w.site.now() > before);
    }
    assert_eq!(
        count(&world, "DNSKEY"),
        2,
        "signed as long as the DS is there"
    );
    let why = world.site.ok(&["zone", "why", ZONE]);
    assert!(why.contains("waits for the parent"), "{why}");
    world.give_ds(Vec::new());
    // Not before no cache has the DS; then one version without DNSSEC.
    never_bogus(&mut world, "an unsigned zone", |w| count(w, "DNSKEY") == 0);
    let seen = never_bogus(&mut world, "the end of the way", |w| w.states().is_empty());
    assert!(!seen.contains(&"secure"), "{seen:?}");
    let copy = world.site.path("transferred");
    cascade_e2e::transfer(world.site.publication_port(), ZONE, &copy).unwrap();
    let text = std::fs::read_to_string(&copy).unwrap();
    for word in ["RRSIG", "NSEC", "DNSKEY", "CDS", "CDNSKEY"] {
        assert!(!text.contains(word), "{word} in\n{text}");
    }
    let status = world.site.status(ZONE);
    assert!(status["signatures"].is_null(), "{status}");
    let health = world.site.cascade(&["health"]);
    assert!(!health.stdout.contains(ZONE), "{}", health.stdout);
    // A restart and a new content change nothing about it.
    let now = world.site.now();
    world.site.kill();
    world.site.begin_at(now);
    world.site.start();
    let text = child_zone().replace(" u 1 60", " u 2 60") + "new A 192.0.2.9\n";
    world.site.write(&format!("zones/{ZONE}"), &text);
    world.site.ok(&["zone", "reload", ZONE]);
    world.site.await_published(ZONE, 2);
    assert_eq!(count(&world, "DNSKEY"), 0);
    never_bogus(&mut world, "the new name", |w| {
        w.secondaries[0]
            .ask(&[&format!("new.{ZONE}"), "A"])
            .rdata("A")
            .len()
            == 1
    });
    // And back: first keys, and a DS when no cache has unsigned data.
    world.signer = "key-roll-time = \"1m\"\n".to_string();
    world.child_policy("");
    world.site.ok(&["policy", "reload", "--yes"]);
    never_bogus(&mut world, "signed again", |w| count(w, "DNSKEY") == 2);
    never_bogus(&mut world, "first keys settle", |w| w.states().is_empty());
    world.put_ds();
    let seen = never_bogus(&mut world, "the DS is seen", |w| {
        let keys = w.site.json(&["keyset", ZONE, "list"]);
        keys["items"].to_string().contains("\"at_parent\":\"seen\"")
    });
    assert_eq!(seen.last(), Some(&"secure"), "{seen:?}");
}

/// In real time, because the parent's server checks the time of signed updates: with TTLs of a
/// second a roll takes some looks.
#[test]
fn a_parent_that_takes_updates_is_updated() {
    let mut site = Site::new();
    let parent = "$ORIGIN test.\n$TTL 1\n@ SOA ns u 1 60 30 86400 1\n@ NS ns\nns A 127.0.0.1\n\
                  example NS ns1.example\nns1.example A 127.0.0.1\n";
    let Some(parent) = Primary::updatable(site.folder(), "test", parent) else {
        eprintln!("named is not installed");
        return;
    };
    let (own, port) = (site.publication_port(), parent.port());
    site.policy(
        "child",
        &format!(
            "[key-manager]\npublication-nameservers = [\"127.0.0.1:{own}\"]\n\
             [key-manager.ds]\nparent-nameservers = [\"127.0.0.1:{port}\"]\n\
             push = {{ server = \"127.0.0.1:{port}\", tsig-key = \"{KEY}\" }}\n\
             [key-manager.observe]\nmargin = \"1s\"\n[key-manager.records]\nttl = \"1s\"\n\
             [signer]\nkey-roll-time = \"1s\"\n"
        ),
    );
    site.start();
    site.ok(&["tsig", "add", KEY, "hmac-sha256", SECRET]);
    site.ok(&["policy", "reload"]);
    let text = child_zone()
        .replace("$TTL 300", "$TTL 1")
        .replace("86400 300", "86400 1");
    let file = site.write(&format!("zones/{ZONE}"), &text.replace("@ NS ns2\n", ""));
    add(&site, ZONE, "child", &file);
    site.await_published(ZONE, 1);
    let at_parent = || -> BTreeSet<String> {
        let shown = cascade_e2e::dig(port, &[ZONE, "DS"]).rdata("DS");
        let tag = |r: &String| Some(r.split(' ').next()?.to_string());
        shown.iter().filter_map(tag).collect()
    };
    let wanted = || -> BTreeSet<String> {
        let get = site.ok(&["keyset", ZONE, "get", "ds"]);
        get.lines().filter_map(tag).collect()
    };
    let first = wanted();
    until_within(cascade_e2e::PATIENCE, "the first DS is there", || {
        (at_parent() == first).then_some(())
    });
    let linked = || {
        site.json(&["keyset", ZONE, "list"])["items"]
            .to_string()
            .contains("\"seen\"")
    };
    until_within(cascade_e2e::PATIENCE, "it is seen", || {
        linked().then_some(())
    });
    site.ok(&["keyset", ZONE, "ksk", "start-roll"]);
    until_within(
        Duration::from_secs(300),
        "the KSK is rolled, DS and all",
        || {
            let path = format!("/v1/zones/{ZONE}/rolls");
            let rolls = site.request("GET", &path, None).ok()?.json();
            let ended = rolls["items"].as_array().is_some_and(Vec::is_empty);
            (ended && at_parent() != first).then_some(())
        },
    );
    assert_eq!(at_parent(), wanted());
    let history = site.ok(&["zone", "history", ZONE, "--kind", "key"]);
    assert!(history.contains("the parent was told"), "{history}");
}

#[track_caller]
fn until_within(limit: Duration, what: &str, done: impl FnMut() -> Option<()>) {
    assert!(
        within(limit, done).is_some(),
        "not within {limit:?}: {what}"
    );
}
