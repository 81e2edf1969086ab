//! A machine is lost in the middle of things, and its backup goes on in its place: the roll goes
//! on, serials only go up, and what the backup does not know is asked for.

use std::fs;
use std::time::Duration;

use cascade_e2e::{Said, until};

use super::{World, ZONE};

const HOUR: Duration = Duration::from_secs(3600);

impl World {
    fn back_up(&self) {
        self.site.ok(&["backup", "create", "--name", "b1"]);
        fs::rename(self.site.path("state/backup/b1"), self.site.path("b1")).unwrap();
    }

    /// The machine burns down; another one gets its addresses and its backup.
    fn lose_machine(&mut self) {
        let now = self.site.now();
        self.site.kill();
        fs::remove_dir_all(self.site.path("state")).unwrap();
        let (backup, state) = (self.site.path("b1"), self.site.path("state"));
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
        let user = user.unwrap().map_or_else(|| "root".into(), |u| u.name);
        let args = [
            "backup",
            "restore",
            backup.to_str().unwrap(),
            "--state-dir",
            state.to_str().unwrap(),
            "--owner",
            &user,
        ];
        self.site.cascade(&args).expect(0);
        self.site.begin_at(now);
        self.site.start();
    }

    #[track_caller]
    fn in_state(&mut self, state: &str) {
        let state = state.to_owned();
        self.drive(&state.clone(), 24 * HOUR, |w| w.states().contains(&state));
    }

    #[track_caller]
    fn change_source(&self, serial: u32) {
        let text = super::child_zone().replace("u 1 60", &format!("u {serial} 60"));
        let text = format!("{text}v{serial} A 192.0.2.9\n");
        self.site.write(&format!("zones/{ZONE}"), &text);
    }

    #[track_caller]
    fn published(&self, name: &str) {
        until(&format!("{name} is published"), || {
            let name = format!("{name}.{ZONE}");
            (self.site.ask(&[&name, "A"]).rdata("A") == ["192.0.2.9"]).then_some(())
        });
        let serial = self.site.served_serial(ZONE);
        until("the secondaries follow", || {
            let same = |s: &cascade_e2e::Server| s.serial(ZONE) == Some(serial);
            self.secondaries.iter().all(same).then_some(())
        });
    }

    fn why(&self) -> Said {
        self.site.cascade(&["zone", "why", ZONE])
    }
}

/// Backed up and lost in this state of the roll, which then comes to its end.
fn roll_goes_on(kind: &str, at: &str) {
    let mut world = World::new("");
    world.link();
    let before = world.tags("active");
    world.site.ok(&["keyset", ZONE, kind, "start-roll"]);
    world.in_state(at);
    let serial = world.site.served_serial(ZONE);
    world.back_up();
    world.lose_machine();
    assert!(
        world.states().contains(&at.to_owned()),
        "{:?}",
        world.states()
    );
    assert_eq!(
        world.site.served_serial(ZONE),
        serial,
        "nothing was signed again"
    );
    world.drive("the roll ends", 48 * HOUR, |w| w.rolls().is_empty());
    let after = world.tags("active");
    assert_eq!(after.len(), 2);
    assert_eq!(before.intersection(&after).count(), 1, "one key is new");
    assert_eq!(world.tags("removed").len(), 1);
    assert!(world.site.served_serial(ZONE) > serial);
}

#[test]
fn a_zsk_roll_goes_on_from_a_backup() {
    roll_goes_on("zsk", "zsk await-rrsig-expired");
}

#[test]
fn a_ksk_roll_goes_on_from_a_backup() {
    roll_goes_on("ksk", "ksk await-ds-expired");
}

#[test]
fn a_backup_behind_the_secondaries_goes_on_above_them() {
    let mut world = World::new("");
    world.link();
    world.back_up();
    let old = world.site.served_serial(ZONE);
    for serial in [2, 3] {
        world.change_source(serial);
        world.site.ok(&["zone", "reload", ZONE]);
        world.published(&format!("v{serial}"));
    }
    let newest = world.site.served_serial(ZONE);
    assert!(newest > old + 1);
    world.change_source(4);
    world.lose_machine();
    world.published("v4");
    let now = world.site.served_serial(ZONE);
    assert!(now > newest, "{now} is not above {newest}");
    let history = world.site.ok(&["zone", "history", ZONE]);
    assert!(
        history.contains("Servers asked") && history.contains(&newest.to_string()),
        "{history}"
    );
    // Asked once: the next start is an ordinary one.
    world.site.stop();
    let entries = history.matches("Servers asked").count();
    world.site.start();
    let history = world.site.ok(&["zone", "history", ZONE]);
    assert_eq!(history.matches("Servers asked").count(), entries);
}

/// A roll that the backup knows nothing of has put another key into the zone.
#[test]
fn a_backup_without_keys_that_secondaries_show_waits_for_a_person() {
    let mut world = World::new("");
    world.link();
    world.back_up();
    world.site.ok(&["keyset", ZONE, "zsk", "start-roll"]);
    world.in_state("zsk await-rrsig-expired");
    let newest = world.site.served_serial(ZONE);
    world.change_source(4);
    world.lose_machine();
    let old = world.site.served_serial(ZONE);
    assert!(old < newest);
    until("the zone says why it waits", || {
        let said = world.why().stdout;
        let words = ["does not have", "restore a newer backup", "resign --serial"];
        words.iter().all(|w| said.contains(w)).then_some(())
    });
    let health = world.site.cascade(&["health"]);
    assert_eq!(health.code, Some(7), "{health}");
    // Neither content nor an order to sign changes that.
    world.site.ok(&["zone", "reload", ZONE]);
    world.site.ok(&["zone", "resign", ZONE]);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(world.site.served_serial(ZONE), old);
    for secondary in &world.secondaries {
        assert_eq!(secondary.ask(&[ZONE, "SOA"]).serial(), Some(newest));
    }
    // A person who answers for it.
    let above = (newest + 10).to_string();
    world.site.ok(&["zone", "resign", "--serial", &above, ZONE]);
    world.published("v4");
    assert!(world.site.served_serial(ZONE) >= newest + 10);
}

#[test]
fn silence_of_all_secondaries_is_waited_out() {
    let mut world = World::new("");
    world.link();
    world.back_up();
    world.change_source(4);
    // Nobody listens there.
    let silent = "[server.outbound]\nsend-notify-to = [\"127.0.0.1:9\"]\n\
                  [key-manager]\npublication-nameservers = [\"127.0.0.1:9\"]\n";
    world.site.policy("child", silent);
    world.site.ok(&["policy", "reload", "--yes"]);
    world.back_up_again();
    world.lose_machine();
    // The change of the policy may have made a version before the backup, or not.
    let old = world.site.served_serial(ZONE);
    until("the zone says that nobody answers", || {
        world
            .why()
            .stdout
            .contains("none of its servers answers")
            .then_some(())
    });
    assert_eq!(world.site.served_serial(ZONE), old);
    world.child_policy("");
    world.site.ok(&["policy", "reload", "--yes"]);
    world.published("v4");
    assert!(world.site.served_serial(ZONE) > old);
}

impl World {
    fn back_up_again(&self) {
        fs::remove_dir_all(self.site.path("b1")).unwrap();
        self.back_up();
    }
}
