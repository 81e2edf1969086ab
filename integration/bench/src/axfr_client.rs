//! Transfers of a whole zone into nothing, and DNS UPDATE of one record, as a client does them.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const QUIET: Duration = Duration::from_secs(60);

fn name(zone: &str) -> Result<Vec<u8>, String> {
    let name = cascade_zone::Name::parse(zone).map_err(|e| e.to_string())?;
    Ok(name.as_wire().to_vec())
}

/// Transfers the zone; octets received.
///
/// # Errors
/// Says what the transfer lacked.
pub fn axfr(port: u16, zone: &str) -> Result<u64, String> {
    let io = |e: std::io::Error| format!("transfer of {zone}: {e}");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(io)?;
    stream.set_read_timeout(Some(QUIET)).map_err(io)?;
    let mut query = vec![0x43, 0x21, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend_from_slice(&name(zone)?);
    // AXFR, IN
    query.extend_from_slice(&[0, 252, 0, 1]);
    let mut framed = (query.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(&query);
    stream.write_all(&framed).map_err(io)?;
    let (mut octets, mut soas) = (0, 0);
    let mut stream = std::io::BufReader::with_capacity(1 << 20, stream);
    let mut message = vec![0; 65_535];
    while soas < 2 {
        let mut length = [0; 2];
        stream.read_exact(&mut length).map_err(io)?;
        let message = &mut message[..usize::from(u16::from_be_bytes(length))];
        stream.read_exact(message).map_err(io)?;
        octets += 2 + message.len() as u64;
        soas += soa_records(message).ok_or_else(|| {
            format!("transfer of {zone}: a message that does not decode, or a refusal")
        })?;
    }
    Ok(octets)
}

/// SOA records in the answer of a message; `None` for an error or for nonsense.
fn soa_records(message: &[u8]) -> Option<u32> {
    if message.get(3)? & 15 != 0 {
        return None;
    }
    let count = |at: usize| {
        Some(u16::from_be_bytes([
            *message.get(at)?,
            *message.get(at + 1)?,
        ]))
    };
    let mut at = 12;
    for _ in 0..count(4)? {
        at = skip_name(message, at)? + 4;
    }
    let mut soas = 0;
    for _ in 0..count(6)? {
        at = skip_name(message, at)?;
        soas += u32::from(message.get(at..at + 2)? == [0, 6]);
        let length = message.get(at + 8..at + 10)?;
        at += 10 + usize::from(u16::from_be_bytes([length[0], length[1]]));
    }
    Some(soas)
}

pub(crate) fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            n if n & 0xC0 == 0xC0 => return Some(at + 2),
            n => at += 1 + usize::from(n),
        }
    }
}

/// Adds an A record by DNS UPDATE (RFC 2136) and waits for the answer.
///
/// # Errors
/// No answer, or a refusal.
pub fn update(port: u16, zone: &str, n: u32) -> Result<Duration, String> {
    let io = |e: std::io::Error| format!("update of {zone}: {e}");
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(io)?;
    socket.connect(("127.0.0.1", port)).map_err(io)?;
    socket.set_read_timeout(Some(QUIET)).map_err(io)?;
    let zone_name = name(zone)?;
    // Opcode 5; one zone, no prerequisites, one update.
    let mut message = vec![0x55, 0x55, 5 << 3, 0, 0, 1, 0, 0, 0, 1, 0, 0];
    message.extend_from_slice(&zone_name);
    message.extend_from_slice(&[0, 6, 0, 1]);
    message.extend_from_slice(&name(&format!("update{n}.{zone}"))?);
    message.extend_from_slice(&[0, 1, 0, 1, 0, 0, 14, 16, 0, 4]);
    message.extend_from_slice(&[192, 0, 2, (n % 250) as u8]);
    let began = Instant::now();
    socket.send(&message).map_err(io)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).map_err(io)?;
    match answer.get(3).filter(|_| length >= 12) {
        Some(flags) if flags & 15 == 0 => Ok(began.elapsed()),
        Some(flags) => Err(format!("update of {zone}: RCODE {}", flags & 15)),
        None => Err(format!("update of {zone}: an answer that is none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soas_are_counted() {
        let mut m = vec![0, 1, 0x84, 0, 0, 1, 0, 2, 0, 0, 0, 0];
        m.extend_from_slice(b"\x01z\x00\x00\xfc\x00\x01");
        m.extend_from_slice(b"\xc0\x0c\x00\x06\x00\x01\x00\x00\x00\x3c\x00\x02ab");
        m.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04abcd");
        assert_eq!(soa_records(&m), Some(1));
        assert_eq!(soa_records(&m[..m.len() - 5]), None);
        m[3] = 5;
        assert_eq!(soa_records(&m), None);
    }
}
