//! A zone that is live under another signer: it is published here, and nobody is given it.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use cascade_e2e::{transfer, until, within};

use super::{START, World, child_zone};

const ZONE: &str = "other.test";
/// RFC 1996 §3.3.
const NOTIFY: u8 = 4;

/// A secondary that hears NOTIFY and answers nothing.
struct Ear(UdpSocket);

impl Ear {
    fn new() -> Ear {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        Ear(socket)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// The next NOTIFY; none is there yet with `wait` false.
    fn notify(&self, wait: bool) -> bool {
        self.0.set_nonblocking(!wait).unwrap();
        let mut message = [0; 1500];
        loop {
            match self.0.recv(&mut message) {
                Ok(n) if n > 2 && message[2] >> 3 & 0xf == NOTIFY => return true,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }
}

impl World {
    /// The parent's records of the other zone: its servers, and another signer's DS or none.
    fn delegate_other(&mut self, ds: bool) {
        self.parent_lines = "other NS ns1.other\nns1.other A 127.0.0.1\n".into();
        if ds {
            let digest = "5".repeat(64);
            self.parent_lines
                .push_str(&format!("other DS 31203 13 2 {digest}\n"));
        }
        self.serial += 1;
        self.write_parent();
        self.site.ok(&["zone", "reload", "test"]);
        until("the parent's server has it", || {
            let there = !self.parent.ask(&[ZONE, "DS"]).rdata("DS").is_empty();
            let served = self.parent.ask(&["test", "SOA"]).serial() >= Some(self.serial);
            (there == ds && served).then_some(())
        });
    }

    fn add_other(&self, ear: &Ear) {
        let (ear, parent) = (ear.port(), self.parent.port());
        self.site.policy(
            "other",
            &format!(
                "[server.outbound]\nprovide-xfr-to = [\"127.0.0.1\"]\nsend-notify-to = [\"127.0.0.1:{ear}\"]\n\
                 [key-manager]\npublication-nameservers = [\"127.0.0.1:{ear}\"]\n\
                 [key-manager.ds]\nparent-nameservers = [\"127.0.0.1:{parent}\"]\n"
            ),
        );
        self.site.ok(&["policy", "reload"]);
        let text = child_zone().replace("example.test", ZONE);
        let file = self.site.write(&format!("zones/{ZONE}"), &text);
        super::add(&self.site, ZONE, "other", &file);
        self.site.await_published(ZONE, 1);
    }

    fn transfers(&self) -> Result<usize, String> {
        let port = self.site.publication_port();
        transfer(port, ZONE, &self.site.path("copy"))
    }

    #[track_caller]
    fn await_held(&self) {
        let told = within(Duration::from_secs(60), || {
            let status = self.site.ok(&["zone", "status", ZONE]);
            (status.contains("Transfers are held") && status.contains("31203")).then_some(())
        });
        let status = self.site.ok(&["zone", "status", ZONE]);
        assert!(told.is_some(), "{status}");
        let health = self.site.cascade(&["health"]);
        assert!(
            format!("{health}").contains("transfers are held"),
            "{health}"
        );
        let refused = self.transfers().unwrap_err();
        assert!(refused.contains("failed"), "{refused}");
        // It is answered all the same: whoever asks here sees what is wrong.
        assert!(self.site.ask(&[ZONE, "SOA"]).serial().is_some());
    }
}

#[test]
fn a_zone_that_is_live_under_another_signer_is_given_to_nobody() {
    let mut world = World::begin("", true, START);
    world.delegate_other(true);
    let ear = Ear::new();
    world.add_other(&ear);
    world.await_held();
    assert!(!ear.notify(false), "a secondary was told");
    // A restart forgets nothing, not for a moment.
    world.site.kill();
    world.site.start();
    until("it is served again", || {
        world.site.ask(&[ZONE, "SOA"]).serial().map(drop)
    });
    world.transfers().unwrap_err();
    world.await_held();
    assert!(!ear.notify(false), "a secondary was told after the restart");
    // The other signer has gone.
    world.delegate_other(false);
    world.site.ok(&["keyset", ZONE, "check"]);
    until("it is given again", || world.transfers().ok().map(drop));
    assert!(ear.notify(true), "no secondary was told");
    let status = world.site.ok(&["zone", "status", ZONE]);
    assert!(!status.contains("Transfers are held"), "{status}");
}

#[test]
fn a_zone_that_is_live_nowhere_waits_for_nothing() {
    let mut world = World::begin("", true, START);
    world.delegate_other(false);
    let ear = Ear::new();
    world.add_other(&ear);
    // It waits in line for the look, and is then given.
    world.transfers().unwrap();
    assert!(ear.notify(true), "no secondary was told");
}
