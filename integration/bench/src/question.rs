//! One question over UDP: the SOA serial that a server shows. Much quicker than starting a program.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::axfr_client::skip_name;

/// Asks one server about one zone.
pub struct Asker {
    socket: UdpSocket,
    query: Vec<u8>,
}

impl Asker {
    /// `zone` without final dot.
    ///
    /// # Errors
    /// No socket, or a name that is none.
    pub fn new(port: u16, zone: &str) -> Result<Asker, String> {
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
        socket
            .connect(("127.0.0.1", port))
            .map_err(|e| e.to_string())?;
        let timeout = Some(Duration::from_millis(200));
        socket
            .set_read_timeout(timeout)
            .map_err(|e| e.to_string())?;
        let name = cascade_zone::Name::parse(zone).map_err(|e| e.to_string())?;
        let mut query = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend_from_slice(name.as_wire());
        // SOA, IN
        query.extend_from_slice(&[0, 6, 0, 1]);
        Ok(Asker { socket, query })
    }

    /// The serial, when there is an authoritative answer.
    pub fn serial(&self) -> Option<u32> {
        self.socket.send(&self.query).ok()?;
        let mut answer = [0; 4096];
        let n = self.socket.recv(&mut answer).ok()?;
        soa_serial(&answer[..n], self.query.len())
    }

    /// Asks until the answer is wanted; how long that took since `began`.
    ///
    /// # Errors
    /// Not within the bound.
    pub fn until(
        &self,
        began: Instant,
        bound: Duration,
        wanted: impl Fn(u32) -> bool,
    ) -> Result<Duration, String> {
        loop {
            if self.serial().is_some_and(&wanted) {
                return Ok(began.elapsed());
            }
            if began.elapsed() > bound {
                return Err(format!("not served within {bound:?}"));
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

/// The serial in the first answer record behind a question that ends at `at`.
fn soa_serial(message: &[u8], at: usize) -> Option<u32> {
    let answers = u16::from_be_bytes([*message.get(6)?, *message.get(7)?]);
    if answers == 0 {
        return None;
    }
    let at = skip_name(message, at)?;
    if message.get(at..at + 2)? != [0, 6] {
        return None;
    }
    let at = skip_name(message, skip_name(message, at + 10)?)?;
    let serial = message.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*serial))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serial_is_found() {
        let mut m = vec![0x12, 0x34, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        m.extend_from_slice(b"\x01z\x00\x00\x06\x00\x01");
        let at = m.len();
        m.extend_from_slice(b"\xc0\x0c\x00\x06\x00\x01\x00\x00\x00\x3c\x00\x00");
        m.extend_from_slice(b"\x02ns\xc0\x0c\x04mail\xc0\x0c\x00\x00\x00\x07");
        assert_eq!(soa_serial(&m, at), Some(7));
        assert_eq!(soa_serial(&m[..m.len() - 1], at), None);
        m[7] = 0;
        assert_eq!(soa_serial(&m, at), None);
    }
}
