//! Secondaries that do not show what we published, and the one that goes first.

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};
use std::{fs, io};

use cascade_e2e::primary::{Primary, Program};
use cascade_e2e::secondary::{Make, Secondary};
use cascade_e2e::{Site, until};

use crate::common::{add, change};

const ZONE: &str = "example.net";

fn zone(serial: u32) -> String {
    format!(
        "$TTL 300\n@ SOA ns1 hostmaster {serial} 86400 86400 604800 300\n@ NS ns1\n\
         ns1 A 192.0.2.1\nwww A 192.0.2.80\n"
    )
}

fn policy(site: &Site, lines: &str) {
    site.policy("p", lines);
    site.ok(&["policy", "reload"]);
}

/// The published zone as a file.
fn published(site: &Site) -> String {
    let file = site.path("published");
    let _ = fs::remove_file(&file);
    site.ok(&["zone", "export", ZONE, "--output", file.to_str().unwrap()]);
    fs::read_to_string(file).unwrap()
}

/// A server that is given as a secondary and has its data from elsewhere.
fn impostor(site: &Site, text: &str) -> Option<Primary> {
    let made = Primary::start(Program::Bind, site.folder(), ZONE, text, true);
    if made.is_none() {
        // `cargo xtask test` tells, and fails where nobody watches.
        eprintln!("named is not installed");
    }
    made
}

fn warnings(site: &Site) -> String {
    site.status(ZONE)["warnings"].to_string()
}

#[test]
fn a_secondary_with_other_records_is_found_out() {
    let site = Site::started();
    policy(&site, "");
    add(&site, ZONE, &zone(1));
    site.await_published(ZONE, 1);
    let ours = published(&site);
    let other = ours.replace("hostmaster.", "somebody.");
    assert_ne!(ours, other);
    let Some(liar) = impostor(&site, &other) else {
        return;
    };
    policy(
        &site,
        &format!(
            "[server.outbound]\nsecondaries = [\"127.0.0.1:{}\"]\n",
            liar.port()
        ),
    );
    let found = until("the sample", || {
        let all = warnings(&site);
        all.contains("secondary bogus").then_some(all)
    });
    assert!(
        found.contains("not the records that were published"),
        "{found}"
    );
    let health = site.request("GET", "/v1/health", None).unwrap();
    assert_eq!(health.status, 503, "{}", health.body);
    assert!(health.body.contains("secondary-bogus"), "{}", health.body);
    let metrics = site.request("GET", "/metrics", None).unwrap().body;
    let line = format!(
        "cascade_secondary_bogus{{zone=\"example.net\",server=\"127.0.0.1:{}\"}} 1",
        liar.port()
    );
    assert!(metrics.contains(&line), "{metrics}");
    assert!(metrics.contains("cascade_secondary_serial{"), "{metrics}");
    let detailed = site.ok(&["zone", "status", "--detailed", ZONE]);
    assert!(detailed.contains("BOGUS"), "{detailed}");
}

#[test]
fn a_secondary_that_is_ahead_is_overtaken() {
    let site = Site::started();
    policy(&site, "");
    add(&site, ZONE, &zone(1));
    site.await_published(ZONE, 1);
    let ours = site.served_serial(ZONE);
    let theirs = ours + 5000;
    let Some(other) = impostor(&site, &zone(theirs)) else {
        return;
    };
    policy(
        &site,
        &format!(
            "[server.outbound]\nsecondaries = [\"127.0.0.1:{}\"]\n",
            other.port()
        ),
    );
    let text = until("the alarm", || {
        let all = warnings(&site);
        all.contains("newer than ours").then_some(all)
    });
    assert!(text.contains(&format!("serves serial {theirs}")), "{text}");
    let health = site.request("GET", "/v1/health", None).unwrap();
    assert_eq!(health.status, 503, "{}", health.body);
    site.ok(&["zone", "resign", "--full", "--wait", ZONE]);
    let next = site.served_serial(ZONE);
    assert!(next > theirs, "{next} after {theirs}");
    assert!(!warnings(&site).contains("newer than ours"));
    let history = site.ok(&["zone", "history", ZONE]);
    assert!(
        history.contains("Secondary serves a newer serial than ours"),
        "{history}"
    );
}

#[test]
fn the_canary_goes_first_and_a_bad_one_holds_the_others() {
    let site = Site::started();
    let port = site.publication_port();
    let mut follower = Secondary::new(Make::Knot, ZONE, port, None);
    let mut canary = Secondary::new(Make::Nsd, ZONE, port, None);
    let told = follower.port();
    let outbound = |first: Option<u16>| {
        let canary = first.map_or(String::new(), |p| {
            format!("canary = {{ addr = \"127.0.0.1:{p}\", hold = \"2s\" }}\n")
        });
        format!(
            "[signer]\nserial-policy = \"keep\"\n[server.outbound]\n\
             send-notify-to = [\"127.0.0.1:{}\"]\n{canary}",
            told
        )
    };
    policy(&site, &outbound(None));
    add(&site, ZONE, &zone(1));
    site.await_published(ZONE, 1);
    follower.start();
    canary.start();
    follower.await_serial(1);
    canary.await_serial(1);
    // One that has the serial already, and the content of somebody else.
    let Some(liar) = impostor(&site, &zone(2)) else {
        return;
    };
    policy(&site, &outbound(Some(liar.port())));
    change(&site, ZONE, &zone(2).replace("192.0.2.80", "192.0.2.81"));
    site.await_published(ZONE, 2);
    until("the canary's failure", || {
        warnings(&site).contains("canary").then_some(())
    });
    assert!(warnings(&site).contains("the other secondaries are not told"));
    let why = site.ok(&["why", ZONE]);
    assert!(why.contains("canary 127.0.0.1:"), "{why}");
    assert_eq!(follower.serial(), Some(1), "not told");
    // With an honest one the next version goes its way: first there, then everywhere.
    policy(&site, &outbound(Some(canary.port())));
    change(&site, ZONE, &zone(3));
    site.await_published(ZONE, 3);
    canary.await_serial(3);
    assert_eq!(follower.serial(), Some(1), "told after the hold");
    follower.await_serial(3);
    until("nothing is left of it", || {
        (!warnings(&site).contains("canary")).then_some(())
    });
}

/// A socket at the port of DNS where a server of the zone could be: at an address of this host, since
/// none is sought on the loopback interface. `None`: there is no such place for us.
fn at_port_53() -> Option<(IpAddr, UdpSocket)> {
    let bound = || -> io::Result<(IpAddr, UdpSocket)> {
        let any = UdpSocket::bind("0.0.0.0:0")?;
        // Nothing is sent; the kernel says where it would come from.
        any.connect("192.0.2.1:9")?;
        let here = any.local_addr()?.ip();
        let socket = UdpSocket::bind((here, 53))?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok((here, socket))
    };
    match bound() {
        Ok(found) if !found.0.is_loopback() => Some(found),
        Ok(_) => None,
        Err(e) => {
            eprintln!("no place for a server of the zone: {e}");
            None
        }
    }
}

/// Its opcode.
const NOTIFY: u8 = 4;

/// The serial of the next NOTIFY (RFC 1996), which is answered if `answer` says so.
fn notified(socket: &UdpSocket, answer: bool) -> Option<u32> {
    let mut message = [0; 512];
    // The key manager asks the servers of a zone what they show, and gets no answer here.
    let (n, from) = loop {
        let (n, from) = socket.recv_from(&mut message).ok()?;
        if message[2] >> 3 & 15 == NOTIFY {
            break (n, from);
        }
    };
    let question = b"\x07example\x03net\0\0\x06\0\x01";
    assert_eq!(&message[12..12 + question.len()], question);
    if answer {
        let mut reply = message[..12 + question.len()].to_vec();
        reply[2] |= 0x80;
        reply[6..12].fill(0);
        socket.send_to(&reply, from).unwrap();
    }
    // The serial is the first of five numbers that end the SOA, which ends the answer section.
    let tail = &message[..n];
    let at = tail
        .windows(8)
        .position(|w| w == [0, 1, 0x51, 0x80, 0, 1, 0x51, 0x80])?;
    Some(u32::from_be_bytes(tail[at - 4..at].try_into().unwrap()))
}

/// With `notify-ns` the servers of the NS RRset are told, each until it answers; not the primary that
/// the SOA names, and nobody without the option.
#[test]
fn the_servers_of_the_zone_are_told_when_that_is_wanted() {
    let Some((here, socket)) = at_port_53() else {
        return;
    };
    let zone = |serial: u32, primary: &str| {
        let soa = zone(serial).replace("SOA ns1", &format!("SOA {primary}"));
        format!("{soa}@ NS ns2\nns2 A {here}\n")
    };
    let site = Site::started();
    policy(&site, "");
    add(&site, ZONE, &zone(1, "ns1"));
    site.await_published(ZONE, 1);
    assert_eq!(notified(&socket, true), None, "nobody asked for it");
    policy(&site, "[server.outbound]\nnotify-ns = true\n");
    change(&site, ZONE, &zone(2, "ns1"));
    site.await_published(ZONE, 2);
    let serial = site.served_serial(ZONE);
    // Not answered: told again. Answered: told no more.
    for answer in [false, true] {
        let told = until("a NOTIFY", || notified(&socket, answer));
        assert_eq!(told, serial);
    }
    let quiet = || {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            assert_eq!(notified(&socket, true), None);
        }
    };
    quiet();
    change(&site, ZONE, &zone(3, "ns2"));
    site.await_published(ZONE, 3);
    // The SOA names it now: it is where the zone comes from.
    quiet();
    let warnings = warnings(&site);
    assert!(!warnings.contains(&here.to_string()), "{warnings}");
}
