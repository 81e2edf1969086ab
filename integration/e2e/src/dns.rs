//! Questions over DNS, asked by `dig`, which is not ours, and by ourselves where something is asked
//! again and again until it comes: a `dig` costs as much CPU as a small zone's signatures.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::rdata::Soa;

/// What `dig` printed, taken apart as far as tests need it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub text: String,
    /// `NOERROR`, `SERVFAIL`, …; empty when nothing answered.
    pub status: String,
    /// `qr`, `aa`, …
    pub flags: Vec<String>,
    /// Record lines of the answer, authority and additional sections.
    pub answer: Vec<String>,
    pub authority: Vec<String>,
    pub additional: Vec<String>,
}

impl Answer {
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag)
    }

    /// RDATA texts of the answer's records of one type.
    pub fn rdata(&self, rtype: &str) -> Vec<String> {
        records_of(&self.answer, rtype)
    }

    /// The serial of the SOA in the answer section.
    pub fn serial(&self) -> Option<u32> {
        self.rdata("SOA").first()?.split(' ').nth(2)?.parse().ok()
    }

    fn parse(text: String) -> Answer {
        let mut answer = Answer {
            status: String::new(),
            flags: Vec::new(),
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            text: String::new(),
        };
        let mut section = None;
        for line in text.lines() {
            if let Some((_, rest)) = line.split_once(", status: ") {
                answer.status = rest.split(',').next().unwrap_or_default().to_owned();
            } else if let Some(rest) = line.strip_prefix(";; flags: ") {
                let flags = rest.split(';').next().unwrap_or_default();
                answer.flags = flags.split_whitespace().map(str::to_owned).collect();
            } else if line.starts_with(";; ANSWER SECTION") {
                section = Some(0);
            } else if line.starts_with(";; AUTHORITY SECTION") {
                section = Some(1);
            } else if line.starts_with(";; ADDITIONAL SECTION") {
                section = Some(2);
            } else if line.is_empty() {
                section = None;
            } else if !line.starts_with(';') {
                let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
                match section {
                    Some(0) => answer.answer.push(line),
                    Some(1) => answer.authority.push(line),
                    Some(2) => answer.additional.push(line),
                    _ => {}
                }
            }
        }
        answer.text = text;
        answer
    }
}

/// Records look like `owner ttl class type rdata…`.
fn records_of(lines: &[String], rtype: &str) -> Vec<String> {
    lines
        .iter()
        .filter(|line| line.split(' ').nth(3) == Some(rtype))
        .map(|line| line.splitn(5, ' ').nth(4).unwrap_or_default().to_owned())
        .collect()
}

/// Asks a server on the loopback interface. `args` as on `dig`'s command line.
///
/// # Panics
/// When `dig` is not installed.
pub fn dig(port: u16, args: &[&str]) -> Answer {
    let output = Command::new("dig")
        .args([
            "-r",
            "@127.0.0.1",
            "-p",
            &port.to_string(),
            "+time=5",
            "+tries=1",
        ])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("dig is installed (Debian: bind9-dnsutils)");
    Answer::parse(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What a server said to a question, as far as who waits for it needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    pub rcode: Rcode,
    /// The flag AD: the answer was validated (RFC 4035 section 3.2.3).
    pub ad: bool,
    /// Records in the answer section.
    pub records: u16,
    /// Of the SOA in the answer section.
    pub serial: Option<u32>,
}

/// Asks a server on the loopback interface over UDP, once, with the flags RD, AD and DO. None if no
/// answer came in five seconds, or one that cannot be read.
///
/// # Panics
/// When the name or the type is none.
pub fn ask(port: u16, name: &str, rtype: &str) -> Option<Heard> {
    let name = Name::<Vec<u8>>::from_str(name).expect("a name");
    let rtype = Rtype::from_str(rtype).expect("a type");
    let mut question = MessageBuilder::new_vec();
    question.header_mut().set_random_id();
    question.header_mut().set_rd(true);
    question.header_mut().set_ad(true);
    let id = question.header().id();
    let mut question = question.question();
    question.push((&name, rtype)).ok()?;
    let mut question = question.additional();
    question
        .opt(|opt| {
            opt.set_udp_payload_size(1232);
            opt.set_dnssec_ok(true);
            Ok(())
        })
        .ok()?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    socket.connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    socket.send(question.as_slice()).ok()?;
    let mut room = [0; 4096];
    let got = socket.recv(&mut room).ok()?;
    let answer = Message::from_octets(&room[..got]).ok()?;
    let header = answer.header();
    if header.id() != id || !header.qr() {
        return None;
    }
    let soas = answer.answer().ok()?.limit_to::<Soa<_>>();
    let serial = soas.flatten().next().map(|r| r.data().serial().into_int());
    Some(Heard {
        rcode: header.rcode(),
        ad: header.ad(),
        records: answer.header_counts().ancount(),
        serial,
    })
}

/// The serial that a server has of a zone, by [`ask`].
pub fn serial(port: u16, zone: &str) -> Option<u32> {
    ask(port, zone, "SOA")?.serial
}

/// Transfers a zone and writes it as a zone file; the number of records without the closing SOA.
///
/// # Errors
/// What `dig` said when there was no complete transfer.
pub fn transfer(port: u16, zone: &str, to: &Path) -> Result<usize, String> {
    let output = Command::new("dig")
        .args(["-r", "@127.0.0.1", "-p", &port.to_string(), zone, "AXFR"])
        .args([
            "+time=30", "+tries=1", "+noall", "+answer", "+onesoa", "+nosplit",
        ])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("dig cannot be started (Debian: bind9-dnsutils): {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.contains("; Transfer failed") || text.trim().is_empty() {
        return Err(format!("no transfer of {zone}: {}", text.trim()));
    }
    std::fs::write(to, text.as_bytes()).map_err(|e| format!("{}: {e}", to.display()))?;
    Ok(text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with(';'))
        .count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let answer = Answer::parse(
            "\n; <<>> DiG 9 <<>> …\n;; Got answer:\n\
             ;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 1\n\
             ;; flags: qr aa; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 0\n\n\
             ;; QUESTION SECTION:\n;example.net.\tIN\tSOA\n\n\
             ;; ANSWER SECTION:\nexample.net.\t3600\tIN\tSOA\tns.example.net. u. 7 1 2 3 4\n\n\
             ;; Query time: 0 msec\n"
                .into(),
        );
        assert_eq!(answer.status, "NOERROR");
        assert_eq!(answer.flags, ["qr", "aa"]);
        assert_eq!(answer.serial(), Some(7));
        assert!(answer.authority.is_empty());
    }
}
