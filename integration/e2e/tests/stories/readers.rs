//! Clients that ask for whole zones and then take their time.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use cascade_e2e::{PATIENCE, transfer};

use crate::common::{add, change, site_with_policy};

const ZONE: &str = "example.net";
/// Dozens of them, and fewer than `server.max-transfers` lets in.
const READERS: usize = 48;
/// More than the buffers of a connection hold that nobody reads from.
const DELEGATIONS: u32 = 10_000;
/// Refresh, retry, expire and minimum of the SOA.
const TIMES: [u32; 4] = [7200, 3600, 1_209_600, 900];

fn zone(serial: u32) -> String {
    let [refresh, retry, expire, minimum] = TIMES;
    let mut text = format!(
        "$TTL 3600\n@ IN SOA ns1 hostmaster {serial} {refresh} {retry} {expire} {minimum}\n@ NS ns1\nns1 A 192.0.2.{serial}\n"
    );
    for i in 0..DELEGATIONS {
        text += &format!("d{i} NS ns.of-somebody-else.test.\n");
    }
    text
}

/// A transfer that was asked for and of which nothing was read.
fn asked(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // One question (RFC 1035 §4.1): AXFR of the zone; two octets of length before it (§4.2.2).
    let mut query = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend_from_slice(b"\x07example\x03net\x00\x00\xfc\x00\x01");
    let length = (query.len() as u16).to_be_bytes();
    stream.write_all(&[&length[..], &query].concat()).unwrap();
    stream
}

/// Reads it to its end, which is the SOA record that it began with (RFC 5936 §2.2). All octets.
fn read(mut stream: TcpStream, serial: u32) -> Vec<u8> {
    let mut soa = serial.to_be_bytes().to_vec();
    soa.extend(TIMES.iter().flat_map(|t| t.to_be_bytes()));
    let (mut all, mut seen) = (Vec::new(), 0);
    while seen < 2 {
        let mut length = [0; 2];
        stream
            .read_exact(&mut length)
            .expect("more of the transfer");
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut message).expect("a whole message");
        assert_eq!(message[3] & 15, 0, "an error in the middle");
        seen += message.windows(soa.len()).filter(|w| *w == soa).count();
        all.extend_from_slice(&message);
    }
    assert_eq!(seen, 2);
    all
}

/// A publication neither waits for those who still read the version before, nor takes it from them.
#[test]
fn dozens_of_slow_readers_delay_no_publication() {
    let site = site_with_policy("");
    add(&site, ZONE, &zone(1));
    site.await_published(ZONE, 1);
    let port = site.publication_port();
    let old = site.served_serial(ZONE);
    let whole = read(asked(port), old);
    assert!(whole.len() > 1_000_000, "{} octets", whole.len());

    let mut readers: Vec<TcpStream> = (0..READERS).map(|_| asked(port)).collect();
    for reader in &mut readers {
        // It has begun, and goes no further than the buffers of the system.
        reader.peek(&mut [0; 2]).expect("the transfer begins");
    }
    for serial in 2..5 {
        change(&site, ZONE, &zone(serial));
        site.await_published(ZONE, serial);
    }
    let new = site.served_serial(ZONE);
    assert!(new > old);
    let copy = site.path("copy");
    transfer(port, ZONE, &copy).unwrap();
    let text = std::fs::read_to_string(&copy).unwrap();
    assert!(
        text.contains("192.0.2.4"),
        "somebody else gets the new version meanwhile"
    );
    for reader in readers {
        assert!(
            read(reader, old) == whole,
            "the version that was asked for, whole"
        );
    }
}
